package capacity

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

func testManifest(t testing.TB) results.Manifest {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	top.Limits = map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 500}}
	return results.Manifest{
		Scenario: "test", RunID: "test", Seed: 1, Speed: 1, Anchor: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Host: map[string]string{"cpus": "2", "memory_mib": "4096", "kernel": "6.1"}, Topology: top,
		Clients:    []results.Client{{Name: "mta1", Kind: "mta", Nodes: []string{"sql1"}}},
		Objectives: []results.Objective{{Name: "routing", Path: "routing", TargetPPM: 990_000, LatencyUS: 500_000}},
		Bounds:     results.Bounds{LagP999US: 5000, InFlight: 500},
	}
}

func testSearch() *Search {
	s := searchSettings()
	s.ResolutionPPM, s.LookUS = 100_000, 10_000_000
	return &Search{
		Scenario: "test", System: "ndb", Seed: 1, Version: "test", Command: "mailbench capacity test",
		TodayPerDay: 4_000_000, PeakPPM: 2 * million, Settings: s,
	}
}

// recordRun records a run of a search of a station that takes 4 ms for an op, 21.6 million a
// day: a step of 30 s at each rate, with 10 s between them.
func recordRun(t testing.TB, dir, name string, search *Search, regime Regime, rates []int64, change func(*results.Recording)) {
	t.Helper()
	r, err := results.Create(filepath.Join(dir, name), testManifest(t), results.Inputs{Scenario: []byte("name: test\n")})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "load"})
	r.Event(chaos.Event{At: sec, Kind: chaos.KindPhase, Name: "measure"})
	begin := sec
	for i, perDay := range rates {
		q := newStation(1, 4*ms)
		from, to := begin, begin+30*sec
		var ends []time.Duration
		offer(q, perDay, rand.New(rand.NewPCG(search.Seed, uint64(i))), func(s *workload.Sample) bool {
			if s.Intended >= 30*sec {
				return false
			}
			s.Message += uint64(i) << 32
			s.Virtual = s.Intended
			s.Intended += from
			s.Attempts[0].Dispatched += from
			s.Attempts[0].Ended += from
			ends = append(ends, s.Attempts[0].Ended)
			r.Record(s)
			return true
		})
		used := int64(0)
		for at, next := from, 0; at < to; at += sec {
			done := 0
			for ; next < len(ends) && ends[next] <= at; next++ {
				done++
			}
			used += int64(done) * 1800 // µs, of an SQL node that has half a processor
			r.Counter(results.CounterRow{
				AtUS: at.Microseconds(), CPUUS: at.Microseconds() / 10,
				Nodes: map[string]results.NodeUsage{"sql1": {CPUUS: used}, "data1": {CPUUS: at.Microseconds() / 2}, "mgm1": {CPUUS: at.Microseconds() / 5}},
				Fill:  map[string]results.Fill{"data1": {DataMemoryBytes: 50, DataMemoryTotalBytes: 100, RedoBytes: int64(i + 1), RedoTotalBytes: 40}, "data2": {}},
			})
		}
		search.Steps = append(search.Steps, Step{
			Number: len(search.Steps) + 1, Regime: regime, Dir: name, PerDay: perDay, FromUS: from.Microseconds(), ToUS: to.Microseconds(), Stopped: Decided, Looks: 1,
		})
		begin = to + 10*sec
	}
	r.Event(chaos.Event{At: begin, Kind: chaos.KindPhase, Name: "drain"})
	if change != nil {
		change(r)
	}
	if err := r.Close(results.EndOfRun{At: begin, Reason: results.Completed}); err != nil {
		t.Fatal(err)
	}
}

func judgeTwice(t *testing.T, dir string, s *Search) *Result {
	t.Helper()
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	var texts [2][]byte
	var r *Result
	for i := range texts {
		var err error
		if r, err = Judge(dir); err != nil {
			t.Fatal(err)
		}
		if texts[i], err = json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("judged again it is another result")
	}
	if bytes.Contains(texts[0], []byte(dir)) {
		t.Error("the result holds a path of this machine")
	}
	return r
}

func TestJudge(t *testing.T) {
	dir := t.TempDir()
	s := testSearch()
	g := newGrid(s.Settings)
	recordRun(t, dir, "healthy-1", s, Healthy, []int64{g.at(0), g.at(20), g.at(15), g.at(17), g.at(18)}, nil)
	recordRun(t, dir, "healthy-2", s, Healthy, []int64{g.at(17), g.at(18), g.at(17), g.at(18)}, nil)
	recordRun(t, dir, "short", s, "short:data2", []int64{g.at(0)}, func(r *results.Recording) {
		r.LedgerRow(results.LedgerRow{Kind: results.Triplet, Key: "aa", Verdict: results.Lost})
		r.LedgerSummary(results.LedgerSummary{results.Triplet: {Acknowledged: 2, Verified: 1, Lost: 1}})
	})
	// The step under way when a crash came, of which nothing is recorded.
	s.Steps = append(s.Steps, Step{Number: len(s.Steps) + 1, Regime: "rejoining:data2", Dir: "crashed", PerDay: 4_000_000, FromUS: 1_000_000})
	s.Ends = []End{{Dir: "crashed", Regime: "rejoining:data2", Why: "interrupted"}}
	r := judgeTwice(t, dir, s)

	if len(r.Regimes) != 3 || r.Verdict != dataLoss || r.Host != (Host{Processors: 2, MemoryMiB: 4096, Kernel: "6.1"}) || len(r.Objectives) != 1 {
		t.Fatalf("%d regimes, verdict %q, host %+v, %d objectives", len(r.Regimes), r.Verdict, r.Host, len(r.Objectives))
	}
	healthy, short, rejoining := r.Regimes[0], r.Regimes[1], r.Regimes[2]
	if healthy.MetPerDay != g.at(17) || healthy.MissedPerDay != g.at(18) || !healthy.Done || healthy.Why != "" {
		t.Errorf("healthy from %d to %d, done %v, %q; want %d to %d", healthy.MetPerDay, healthy.MissedPerDay, healthy.Done, healthy.Why, g.at(17), g.at(18))
	}
	if half := g.at(17) / 2; healthy.PromisePerDay != promise(half, million) || healthy.PromisePerDay > half || healthy.PromisePerDay < half*99/100 || healthy.HeadroomPPM != healthy.PromisePerDay*million/4_000_000 {
		t.Errorf("promised are %d, headroom %d", healthy.PromisePerDay, healthy.HeadroomPPM)
	}
	// A full station has 250 ops a second, which take 1.8 ms of half a processor each.
	if l := healthy.Limit; l.Resource != "sql node cpu" || l.Node != "sql1" || l.UsePPM < 880_000 || l.UsePPM > 920_000 {
		t.Errorf("the limit is %+v", l)
	}
	first := healthy.Steps[0]
	if first.Outcome != Met || first.Ops < 1200 || first.Ops > 1400 || first.Offered != first.Ops || first.Good != first.Ops || first.P50US < 4050 || first.P50US > 5000 ||
		first.MeanUS < 4050 || first.LagP999US != 50 || first.InFlightMilli < 170 || first.InFlightMilli > 250 || first.CPUPPM["data1"] != 250_000 || first.CPUPPM["generator"] != 50_000 {
		t.Errorf("the first step is %+v", first)
	}
	if redo := healthy.Steps[2].RedoPPM; redo["data1"] != 75_000 || healthy.Steps[2].DataMemoryPPM["data1"] != 500_000 || len(redo) != 1 {
		t.Errorf("the third step has redo %v and DataMemory %v, want 3 of 40, and a half", redo, healthy.Steps[2].DataMemoryPPM)
	}
	if short.PromisePerDay != 0 || short.MetPerDay != g.at(0) || !strings.Contains(short.Why, "lost in run short") || short.Done {
		t.Errorf("with data lost: %+v", short)
	}
	if rejoining.MetPerDay != 0 || rejoining.Done || len(rejoining.Steps) != 1 || rejoining.Steps[0].Outcome != Void || !strings.Contains(rejoining.Why, "not over: interrupted") {
		t.Errorf("crashed: %+v", rejoining)
	}
	if took := time.Duration(r.TookUS) * time.Microsecond; took < 370*sec || took > 400*sec {
		t.Errorf("it took %v", took)
	}
}

func TestJudgeWhatWentWrong(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(t *testing.T, dir string, s *Search)
		step     Outcome // of the last one
		why      string  // of the regime, part of it
		err      string
	}{
		{"nothing did", func(*testing.T, string, *Search) {}, Met, "the search is not over", ""},
		{"the system died", func(_ *testing.T, _ string, s *Search) { s.Steps[1].Stopped = SystemDied }, Void, "the system died at 6,442,000 messages a day (step 2)", ""},
		{"a user interrupted", func(_ *testing.T, _ string, s *Search) { s.Steps[1].Stopped = Interrupted }, Void, "the search is not over", ""},
		{"half of the samples are missing", func(t *testing.T, dir string, _ *Search) {
			path := filepath.Join(dir, "run", results.SamplesFile)
			info, err := os.Stat(path)
			if err == nil {
				err = os.Truncate(path, info.Size()/2)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, Void, "no rate was met so far", ""},
		{"a run is missing", func(t *testing.T, dir string, _ *Search) {
			if err := os.RemoveAll(filepath.Join(dir, "run")); err != nil {
				t.Fatal(err)
			}
		}, "", "", "run run: open recording"},
		{"a run is another search's", func(t *testing.T, dir string, s *Search) {
			m := testManifest(t)
			m.Objectives[0].TargetPPM = 999_999
			r, err := results.Create(filepath.Join(dir, "other"), m, results.Inputs{})
			if err == nil {
				err = r.Close(results.EndOfRun{Reason: results.Completed})
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Steps = append(s.Steps, Step{Number: 3, Regime: Healthy, Dir: "other", PerDay: 1_000_000, Stopped: Length})
		}, "", "", "run other: its objectives are not those"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			dir, s := t.TempDir(), testSearch()
			g := newGrid(s.Settings)
			recordRun(t, dir, "run", s, Healthy, []int64{g.at(0), g.at(5)}, nil)
			row.change(t, dir, s)
			if row.err != "" {
				if err := s.Write(dir); err != nil {
					t.Fatal(err)
				}
				if _, err := Judge(dir); err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("%v, want %q", err, row.err)
				}
				return
			}
			f := judgeTwice(t, dir, s).Regimes[0]
			if last := f.Steps[len(f.Steps)-1]; last.Outcome != row.step || !strings.Contains(f.Why, row.why) {
				t.Errorf("%s (%s), %q; want %s, %q", last.Outcome, last.Why, f.Why, row.step, row.why)
			}
		})
	}
}

func TestHistoryLeavesOutWhatWasInterrupted(t *testing.T) {
	var judged []Judged
	for i, stopped := range []Stop{Decided, Interrupted, "", SystemDied, Length} {
		judged = append(judged, Judged{Step: Step{Regime: Healthy, PerDay: int64(i + 1), Stopped: stopped}, Outcome: Void})
	}
	judged[4].Regime = Short
	if got := History(Healthy, judged); len(got) != 2 || got[0].PerDay != 1 || got[1].PerDay != 4 {
		t.Errorf("%+v", got)
	}
}

func TestLimit(t *testing.T) {
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &Result{Topology: top, Host: Host{Processors: 2}}
	r.Topology.Limits = map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 600}, topology.Data: {MilliCPUs: 286}}
	for _, row := range []struct {
		sentence string
		step     Judged
		want     Limit // evidence is a part of it
	}{
		{"the node that uses most of its share", Judged{CPUPPM: map[string]int64{"sql1": 900_000, "data1": 850_000, "generator": 300_000}},
			Limit{"sql node cpu", "sql1", 900_000, "sql1 used 90 % of its processor time"}},
		{"the redo log, when it fills faster than checkpoints empty it", Judged{CPUPPM: map[string]int64{"sql1": 500_000}, RedoPPM: map[string]int64{"data2": 950_000}},
			Limit{"redo", "data2", 950_000, "data2 used 95 % of its redo log"}},
		{"DataMemory that is full", Judged{CPUPPM: map[string]int64{"sql1": 900_000}, DataMemoryPPM: map[string]int64{"data1": 990_000}},
			Limit{"data memory", "data1", 990_000, "of its DataMemory"}},
		{"but not DataMemory that is well filled", Judged{CPUPPM: map[string]int64{"sql1": 850_000}, DataMemoryPPM: map[string]int64{"data1": 940_000}},
			Limit{"sql node cpu", "sql1", 850_000, ""}},
		{"the bound on sessions, when nothing is used up", Judged{HeldBack: true, CPUPPM: map[string]int64{"sql1": 500_000}}, Limit{"sessions", "", million, "sql1 used most"}},
		{"the host that all share", Judged{HeldBack: true, CPUPPM: map[string]int64{"sql1": 850_000, "data1": 700_000, "data2": 700_000, "generator": 450_000}},
			Limit{"host cpu", "", 905_200, "the host used 90.52 % of its processor time"}},
		{"something that nobody measured", Judged{CPUPPM: map[string]int64{"sql1": 500_000}}, Limit{"", "", 0, "the limit is something else"}},
		{"something, when nothing was measured", Judged{}, Limit{"", "", 0, "nobody measured"}},
	} {
		row.step.PerDay, row.step.Outcome = 7_000_000, Missed
		got := r.limit(Found{MissedPerDay: 7_000_000, Steps: []Judged{row.step}})
		if got.Resource != row.want.Resource || got.Node != row.want.Node || got.UsePPM != row.want.UsePPM || !strings.Contains(got.Evidence, row.want.Evidence) {
			t.Errorf("%s: %+v, want %+v", row.sentence, got, row.want)
		}
	}
}

func TestPromise(t *testing.T) {
	for _, row := range []struct{ met, peakPPM, want int64 }{
		{0, 2_200_000, 0},
		{999, million, 999},
		{1000, million, 1000},
		{7_794_900, 2_200_000, 3_540_000},
		{7_799_999, million, 7_790_000}, // never up
	} {
		if got := promise(row.met, row.peakPPM); got != row.want {
			t.Errorf("%d over %d millionths: %d, want %d", row.met, row.peakPPM, got, row.want)
		}
	}
}
