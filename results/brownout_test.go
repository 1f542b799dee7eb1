package results

import (
	"fmt"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// slowDeath records what a fault with every kind of span does to routing: an op
// each 10 ms from 1 s to 25 s, asked of sql1 first, which is dead from 10 s to
// 16 s.
//
//	10.0 to 11.0 s  nobody answers
//	11.0 to 12.5 s  sql2 answers every second op
//	12.5 to 14.0 s  sql2 answers all, in 150 ms
//	14.0 to 17.0 s  sql2 answers in 2 ms; from 16.0 s on sql1 does
//	17.0 to 18.0 s  nobody asks
//	18.0 to 20.0 s  sql1 answers; one op at 19.25 s takes 300 ms
//	20.0 s          redundant
func slowDeath(t testing.TB, dir string, objectives []Objective) {
	t.Helper()
	m := testManifest(t)
	m.Faults, m.Objectives = m.Faults[:1], objectives
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{At: 1 * sec, Kind: chaos.KindPhase, Name: "measure"})
	for name, at := range map[string]time.Duration{
		chaos.StepInjected: 10 * sec, chaos.StepEffective: 11 * sec, chaos.StepRecover: 15 * sec, chaos.StepRecovered: 16 * sec, chaos.StepRedundant: 20 * sec,
	} {
		r.Event(step(at, "f1", "sql1", name))
	}
	r.Event(chaos.Event{At: 25 * sec, Kind: chaos.KindPhase, Name: "drain"})
	attempt := func(node topology.ID, at, took time.Duration, fails bool) workload.Attempt {
		a := workload.Attempt{Node: node, Dispatched: at, Ended: at + took}
		if fails {
			a.Result = refused
		}
		return a
	}
	message := uint64(0)
	for at := 1 * sec; at < 25*sec; at += 10 * ms {
		s := op(message, reference.Route, uint8(routing.Local), sql1, at, 2*ms)
		message++
		dead := attempt(sql1, at, ms, true)
		retried := func(took time.Duration) {
			s.Outcome, s.Attempts = workload.Retried, []workload.Attempt{dead, attempt(sql2, at+ms, took, false)}
		}
		switch {
		case at >= 17*sec && at < 18*sec:
			continue
		case at == 19250*ms:
			s.Attempts[0].Ended = at + 300*ms
		case at < 10*sec || at >= 16*sec:
		case at < 11*sec, at < 12500*ms && message%2 == 0:
			s.Outcome, s.Answer, s.Attempts = workload.Failed, 0, []workload.Attempt{dead, attempt(sql2, at+ms, ms, true)}
		case at < 12500*ms || at >= 14*sec:
			retried(ms)
		default:
			retried(149 * ms)
		}
		r.Record(&s)
	}
	if err := r.Close(EndOfRun{At: 26 * sec, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
}

func TestEverySpan(t *testing.T) {
	dir := t.TempDir()
	slowDeath(t, dir, []Objective{
		{Name: "answers", TargetPPM: 990_000},
		{Name: "half in time", Path: "routing", TargetPPM: 500_000, LatencyUS: 100_000},
		{Name: "all in time", Path: "routing", TargetPPM: 999_000, LatencyUS: 200_000},
		{Name: "webmail", Path: "preferences", TargetPPM: 999_000},
	})
	f := mustJudge(t, dir).Faults[0]
	spans := func(o OutageSpans) string {
		return fmt.Sprint(*o.FullOutage/1000, *o.PartialOutage/1000, *o.BrownOut/1000, *o.Good/1000, *o.Longest/1000, *o.Unmeasured/1000)
	}
	milliseconds := func(us *int64) string {
		if us == nil {
			return "null"
		}
		return fmt.Sprint(*us / 1000)
	}
	for _, row := range []struct{ what, got, want string }{
		{"routing: slow is what the strictest objective calls late", spans(f.Paths["routing"].OutageSpans), "1000 1500 1600 4900 1000 1000"},
		{"its bound", fmt.Sprint(f.Paths["routing"].SlowUS), "100000"},
		{"preferences: nobody asked, and without an objective a second is slow", spans(f.Paths["preferences"].OutageSpans) + fmt.Sprint(" ", f.Paths["preferences"].SlowUS), "0 0 0 0 0 10000 1000000"},
		{"sql1: dead until 16 s", spans(f.Paths["routing"].Nodes["sql1"]), "6000 0 100 2900 6000 1000"},
		{"sql2: asked until 16 s, an attempt at a time", spans(f.Paths["routing"].Nodes["sql2"]), "1000 1500 1500 2000 1000 4000"},
		{"a node that nobody asked is not there", fmt.Sprint(len(f.Paths["routing"].Nodes), len(f.Paths["preferences"].Nodes)), "2 0"},
		{"answers: met when the partial outage is over", milliseconds(f.ToObjective["answers"]), "2500"},
		{"half in time: met when the brown-out is over; one late op of ten does not miss it", milliseconds(f.ToObjective["half in time"]), "4000"},
		{"all in time: 150 ms are in time; the late op at 19.25 s misses it again", milliseconds(f.ToObjective["all in time"]), "9300"},
		{"webmail: never missed", milliseconds(f.ToObjective["webmail"]), "0"},
		{"all of them", milliseconds(f.Spans.Objective), "9300"},
		{"redundant", milliseconds(f.Spans.Redundant), "10000"},
	} {
		if row.got != row.want {
			t.Errorf("%s: %s, want %s", row.what, row.got, row.want)
		}
	}
}

func TestAnObjectiveThatIsNotMetAgain(t *testing.T) {
	dir := t.TempDir()
	slowDeath(t, dir, []Objective{{Name: "impossible", TargetPPM: million, LatencyUS: 1}, {Name: "easy", TargetPPM: 1}})
	f := mustJudge(t, dir).Faults[0]
	if f.ToObjective["impossible"] != nil || f.ToObjective["easy"] == nil || f.Spans.Objective != nil {
		t.Errorf("times to objective are %v, of all %v; want null where it is not met", f.ToObjective, f.Spans.Objective)
	}
}
