package capacity

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

func routed(at, lag, took time.Duration) *workload.Sample {
	return &workload.Sample{
		Operation: reference.Route, Intended: at, Outcome: workload.OK, Answer: 1,
		Attempts: []workload.Attempt{{Node: 4, Dispatched: at + lag, Ended: at + took}},
	}
}

func TestLook(t *testing.T) {
	const from = 100 * sec // of the step; it has settled 2 s later
	objective := results.Objective{Name: "fast", TargetPPM: 990_000, LatencyUS: 100_000}
	rare := results.Objective{Name: "preferences", Path: "preferences", TargetPPM: 990_000}
	steady := func(at time.Duration) (lag, took time.Duration) { return 0, 5*ms + at%(3*ms) }
	for _, row := range []struct {
		sentence   string
		objectives []results.Objective
		op         func(at time.Duration) (lag, took time.Duration) // since it has settled, of each 5 ms
		look       time.Duration                                    // since then
		heldBack   bool
		outcome    Outcome
		leaning    Outcome
		why        string // part of it
	}{
		{"all ops are good", nil, steady, 20 * sec, false, Met, "", ""},
		{"too early", nil, steady, 18 * sec, false, Open, Met, "not under way for long enough"},
		{"as many sessions as may be are under way", nil, steady, 10 * sec, true, Missed, "", "bounds.in_flight"},
		{"every tenth op is slow", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(50*ms) == 0 {
				return 0, 200 * ms
			}
			return steady(at)
		}, 20 * sec, false, Missed, "", "10 % of its ops were bad"},
		{"as many are slow as may be", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(500*ms) == 0 {
				return 0, 200 * ms
			}
			return steady(at)
		}, 60 * sec, false, Open, Met, "1 % may"},
		{"2 % are slow, evenly", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(250*ms) == 0 {
				return 0, 200 * ms
			}
			return steady(at)
		}, 60 * sec, false, Missed, "", "2 % of its ops"},
		{"2 % are slow, all in one stall: who knows how often one comes", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at >= 31*sec && at < 32200*ms {
				return 0, 200 * ms
			}
			return steady(at)
		}, 60 * sec, false, Open, Missed, "perhaps"},
		{"the backlog grows, and nothing is slow yet", nil, func(at time.Duration) (time.Duration, time.Duration) {
			return 0, 5*ms + at%(3*ms) + at/300
		}, 20 * sec, false, Open, Missed, "response times grow by 3.3"},
		{"the whole step long", nil, func(at time.Duration) (time.Duration, time.Duration) {
			return 0, 5*ms + at%(3*ms) + at/1000
		}, 60 * sec, false, Missed, "", "response times grow by 1"},
		{"response times grow so slowly that the busiest hour bears it", nil, func(at time.Duration) (time.Duration, time.Duration) {
			return 0, 5*ms + at%(3*ms) + at/50_000
		}, 60 * sec, false, Met, "", ""},
		{"a stall at the end is no growth", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at >= 19*sec {
				return 0, 90 * ms
			}
			return steady(at)
		}, 20 * sec, false, Met, "", ""},
		{"the generator is late now and then", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(400*ms) == 0 {
				return 6 * ms, 10 * ms
			}
			return steady(at)
		}, 60 * sec, false, Generator, "", "1.25 % of messages began more than 5ms"},
		{"once too often so far, which may be chance", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(4*sec) == 0 {
				return 6 * ms, 10 * ms
			}
			return steady(at)
		}, 20 * sec, false, Open, Met, "the generator fell behind"},
		{"but not when the step is over", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at%(4*sec) == 0 {
				return 6 * ms, 10 * ms
			}
			return steady(at)
		}, 60 * sec, false, Generator, "", "the generator fell behind"},
		{"an objective without ops keeps no other from being met", []results.Objective{objective, rare}, steady, 20 * sec, false, Met, "", ""},
		{"one that none can prove takes the whole step", []results.Objective{rare}, steady, 40 * sec, false, Open, Met, "enough ops"},
		{"and is met by not being missed", []results.Objective{rare}, steady, 60 * sec, false, Met, "", ""},
		{"ops do not end any more", nil, func(at time.Duration) (time.Duration, time.Duration) {
			if at > 18500*ms {
				return 0, -1
			}
			return steady(at)
		}, 20 * sec, false, Open, Missed, "have not ended"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			if row.objectives == nil {
				row.objectives = []results.Objective{objective}
			}
			tally := NewTally(row.objectives, 5*ms, searchSettings(), from)
			for at := -2 * sec; at < row.look; at += 5 * ms {
				if at < 0 { // has not settled: it must not count
					tally.Add(routed(from+2*sec+at, sec, 2*sec))
				} else if lag, took := row.op(at); took >= 0 {
					tally.Add(routed(from+2*sec+at, lag, took))
				}
			}
			f := tally.Look(from+2*sec+row.look, row.heldBack)
			if f.Outcome != row.outcome || f.Leaning != row.leaning || !strings.Contains(f.Why, row.why) || row.why == "" && f.Why != "" {
				t.Errorf("%s, leaning %q, %q; want %s, %q, %q; %+v", f.Outcome, f.Leaning, f.Why, row.outcome, row.leaning, row.why, f.Objectives)
			}
			if len(f.Objectives) != len(row.objectives) {
				t.Errorf("%d objectives", len(f.Objectives))
			}
		})
	}
}

func TestCheckObjectives(t *testing.T) {
	good := results.Objective{Name: "ops", TargetPPM: 999_000}
	for _, row := range []struct {
		sentence   string
		objectives []results.Objective
		want       string
	}{
		{"none", nil, "needs an objective"},
		{"one on ops", []results.Objective{good}, ""},
		{"one on messages", []results.Objective{good, {Name: "nothing is lost", TargetPPM: 999_000, Metric: results.MetricLost}}, `"nothing is lost" counts messages`},
		{"one on slices", []results.Objective{{Name: "minutes", TargetPPM: 999_000, SliceUS: 60_000_000, SliceTargetPPM: 1}}, `"minutes" counts slices`},
		{"a wrong one", []results.Objective{{Name: "all and more", TargetPPM: 2 * million}}, `"all and more": target`},
	} {
		err := CheckObjectives(row.objectives)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
}

// TestLooksKeepTheirConfidence has the share of bad ops be that of the budget in the long run, and looks at
// each step until it has found something, which is wrong whatever it is.
func TestLooksKeepTheirConfidence(t *testing.T) {
	const runs = 400
	for _, row := range []struct {
		sentence    string
		stall       float64 // mean number of ops that are bad in a row
		met, missed int     // of the runs, at most
	}{
		{"bad ops come singly", 1, runs * 25 / 1000, runs * 25 / 1000},
		{"some at a time", 8, runs * 60 / 1000, runs * 25 / 1000},
		// Of the stalls that come once in 25 s half of the steps see none when they are
		// looked at first, and no arithmetic could. See interval.
		{"half a second long", 50, runs * 60 / 100, runs * 25 / 1000},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			s := searchSettings()
			s.SettleUS = 0
			wrong := map[Outcome]int{}
			for seed := range uint64(runs) {
				rnd := rand.New(rand.NewPCG(seed, 3))
				tally := NewTally([]results.Objective{{Name: "ops", TargetPPM: 980_000, LatencyUS: 100_000}}, 0, s, 0)
				bad, look := false, 20*sec
				for at := time.Duration(0); at < 60*sec; at += 10 * ms {
					if at == look {
						if f := tally.Look(at, false); f.Outcome != Open {
							wrong[f.Outcome]++
							break
						}
						look += 10 * sec
					}
					if bad {
						bad = rnd.Float64() >= 1/row.stall
					}
					if !bad {
						bad = rnd.Float64() < 0.02/0.98/row.stall
					}
					took := 5 * ms
					if bad {
						took = 110 * ms
					}
					tally.Add(routed(at, 0, took))
				}
			}
			t.Logf("of %d steps at the budget %d were met and %d were missed", runs, wrong[Met], wrong[Missed])
			if wrong[Met] > row.met || wrong[Missed] > row.missed {
				t.Errorf("want %d and %d at most", row.met, row.missed)
			}
		})
	}
}

// TestSlowOverload offers a single server slightly more than it can do, and less: a step of 20 s should
// not find the first rate met, and should the second, though no op of either takes as long as the bound.
func TestSlowOverload(t *testing.T) {
	const runs = 100
	s := searchSettings()
	s.LookUS, s.MaxStepUS = 20_000_000, 20_000_000
	objectives := []results.Objective{{Name: "ops", TargetPPM: 990_000, LatencyUS: 10_000_000}}
	for _, row := range []struct {
		sentence    string
		utilization float64
		least, most int // of the runs that are met
	}{
		{"3 % too much", 1.03, 0, 5},
		{"2 % too much", 1.02, 0, 25},
		{"5 % less", 0.95, 80, runs},
		{"20 % less", 0.8, runs - 1, runs},
	} {
		met := 0
		for seed := range uint64(runs) {
			q := newStation(1, 2*ms)
			if f := step(q, objectives, s, int64(row.utilization*q.perDay()), rand.New(rand.NewPCG(seed, 2))); f.Outcome == Met {
				met++
			}
		}
		t.Logf("%s: met in %d of %d steps", row.sentence, met, runs)
		if met < row.least || met > row.most {
			t.Errorf("%s: met in %d of %d steps, want %d to %d", row.sentence, met, runs, row.least, row.most)
		}
	}
}
