package gate

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
)

// measured is a run of a scenario with one fault, whose outage is given; change
// may make it another one.
func measured(t *testing.T, id string, outageMS int64, change func(*Measured)) Measured {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	top.DataNode = map[string]string{"DataMemory": "98M"}
	full, partial := outageMS*1000, int64(0)
	calm := &results.Latency{P50: 1000, P90: 2000, P99: 3000}
	m := Measured{
		Manifest: results.Manifest{Topology: top, Window: results.Window{DurationSeconds: 60}},
		Run: &results.Run{
			Verdict: results.Pass, Scenario: "s", RunID: id, Seed: 1, Speed: 1, Image: results.Image{ID: "sha256:1"}, Host: map[string]string{"cpus": "2"},
			Trace: results.TraceResult{SHA256: "t"}, Plan: results.Plan{SHA256: "p"},
			Paths: map[string]results.PathResult{"routing": {OK: 1000, CalmUS: calm}},
			Faults: []results.FaultResult{{
				ID: "f1", Kind: "kill", Target: "data1", Charge: results.Charge{BadOps: outageMS / 10},
				Paths: map[string]results.FaultPath{"routing": {OutageSpans: results.OutageSpans{FullOutage: &full, PartialOutage: &partial}}},
			}},
			Costs: map[string]map[string]results.CostResult{
				"greylist": {"new": {Repetitions: 5, Exact: map[string]int64{"round_trips": 2, "statements": 5}, Noisy: map[string]int64{"scan_waits": 2}}},
			},
			Ledger: &results.LedgerResult{LedgerCounts: results.LedgerCounts{Acknowledged: 5, Verified: 5}},
		},
	}
	if change != nil {
		change(&m)
	}
	return m
}

func repeated(t *testing.T, n int, outageMS func(i int) int64, change func(*Measured)) (all []Measured) {
	for i := range n {
		all = append(all, measured(t, "r"+string(rune('a'+i)), outageMS(i), change))
	}
	return all
}

func set(counter string, n int64) func(*Measured) {
	return func(m *Measured) { m.Run.Costs["greylist"]["new"].Exact[counter] = n }
}

func noisy(n int64) func(*Measured) {
	return func(m *Measured) { m.Run.Costs["greylist"]["new"].Noisy["scan_waits"] = n }
}

func TestAgainst(t *testing.T) {
	usual := func(i int) int64 { return 1000 + int64(i%3)*20 }
	for _, row := range []struct {
		sentence string
		runs     []Measured
		want     compare.Verdict
		says     string // of the reasons and notes
	}{
		{"nothing has changed", repeated(t, 10, usual, nil), compare.NoDifference, ""},
		{"one more round trip", repeated(t, 10, usual, set("round_trips", 3)), compare.Regression, ""},
		{"one round trip less", repeated(t, 10, usual, set("round_trips", 1)), compare.Improvement, ""},
		{"a noisy counter within its tolerance", repeated(t, 10, usual, noisy(3)), compare.NoDifference, ""},
		{"a noisy counter beyond it", repeated(t, 10, usual, noisy(4)), compare.Regression, ""},
		{"a counter is not there any more", repeated(t, 10, usual, func(m *Measured) { delete(m.Run.Costs["greylist"]["new"].Exact, "statements") }), compare.Inconclusive, ""},
		{"a decision is not there any more", repeated(t, 10, usual, func(m *Measured) { m.Run.Costs["greylist"] = map[string]results.CostResult{} }), compare.Inconclusive, "no cost counters"},
		{"the probe failed", repeated(t, 10, usual, func(m *Measured) { m.Run.Costs = nil }), compare.Inconclusive, "no cost counters"},
		{"outages twice as long", repeated(t, 10, func(i int) int64 { return 2 * usual(i) }, nil), compare.Regression, ""},
		{"one repetition tells nothing of outages", repeated(t, 1, usual, nil), compare.Inconclusive, ""},
		{"but a round trip more is one in a single run", repeated(t, 1, usual, set("round_trips", 3)), compare.Regression, ""},
		{"a run cannot be relied upon", repeated(t, 10, usual, func(m *Measured) { m.Run.Reasons, m.Run.Verdict = []string{"late"}, results.Inconclusive }), compare.Inconclusive, "late"},
		{"and is worse all the same", repeated(t, 10, usual, func(m *Measured) {
			set("round_trips", 3)(m)
			m.Run.Reasons = []string{"late"}
		}), compare.Regression, "late"},
		{"a write is lost", repeated(t, 10, usual, func(m *Measured) { m.Run.Ledger.Lost = 1 }), compare.DataLoss, "acknowledged writes are gone"},
		{"another machine: the rest is compared", repeated(t, 10, usual, func(m *Measured) { m.Run.Host = map[string]string{"cpus": "64"} }), compare.NoDifference, `cpus is "64", was "2"`},
		{"no run at all", nil, compare.Inconclusive, "no run"},
	} {
		b, err := NewBaseline(repeated(t, 10, usual, nil))
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.Against(row.runs)
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		if r.Verdict != row.want {
			t.Errorf("%s: %s, want %s: %+v", row.sentence, r.Verdict, row.want, r)
		}
		if said := strings.Join(append(r.Reasons, r.Notes...), "\n"); !strings.Contains(said, row.says) {
			t.Errorf("%s: it says %q, want %q", row.sentence, said, row.says)
		}
	}
}

func TestWhatIsNotTheSame(t *testing.T) {
	b, err := NewBaseline(repeated(t, 1, func(int) int64 { return 0 }, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		change   func(*Measured)
		says     string
	}{
		{"another scenario", func(m *Measured) { m.Run.Scenario = "x" }, "scenario is x, was s"},
		{"another seed", func(m *Measured) { m.Run.Seed = 7 }, "seed is 7, was 1"},
		{"a longer load", func(m *Measured) { m.Manifest.Window.DurationSeconds = 61 }, "the window's duration (s) is 61, was 60"},
		{"another host", func(m *Measured) { m.Manifest.Topology.Nodes[1].Host = "cyrus9" }, "data1 on cyrus9"},
		{"another parameter", func(m *Measured) { m.Manifest.Topology.DataNode = map[string]string{"DataMemory": "1G"} }, "map[DataMemory:1G], was map[DataMemory:98M]"},
		{"another trace", func(m *Measured) { m.Run.Trace.SHA256 = "u" }, "the trace's SHA-256 is u, was t"},
	} {
		_, err := b.Against([]Measured{measured(t, "r", 0, row.change)})
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

func TestBaselineThatIsNone(t *testing.T) {
	for _, row := range []struct {
		sentence string
		runs     []Measured
		says     string
	}{
		{"no run", nil, "one run at least"},
		{"a run that is inconclusive", []Measured{measured(t, "r", 0, func(m *Measured) { m.Run.Reasons = []string{"late"} })}, "is inconclusive and makes no baseline: late"},
		{"a run that lost data", []Measured{measured(t, "r", 0, func(m *Measured) { m.Run.Verdict = results.DataLoss })}, "lost data"},
		{"runs of two seeds", []Measured{measured(t, "a", 0, nil), measured(t, "b", 0, func(m *Measured) { m.Run.Seed = 2 })}, "run b is no repetition of a: seed is 2, was 1"},
		{"runs that cost more and less", []Measured{measured(t, "a", 0, nil), measured(t, "b", 0, set("round_trips", 3))}, "round_trips of greylist/new is 2 in run a and 3 in run b"},
	} {
		if _, err := NewBaseline(row.runs); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

func TestBaselineFile(t *testing.T) {
	b, err := NewBaseline(repeated(t, 2, func(int) int64 { return 100 }, nil))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "baselines", "s.json")
	if err := b.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := ReadBaseline(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := again.Diff(b); len(lines) > 0 {
		t.Errorf("what was read differs: %q", lines)
	}
	next, err := NewBaseline(repeated(t, 1, func(int) int64 { return 100 }, set("round_trips", 3)))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Join(next.Diff(again), "\n"); !strings.Contains(lines, "round_trips of greylist/new: 3, was 2 (increased)") || !strings.Contains(lines, "runs: 1, were 2") {
		t.Errorf("a diff says %q", lines)
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ sentence, text, says string }{
		{"another schema", strings.Replace(string(whole), BaselineSchema, "mailbench.baseline/v9", 1), `"mailbench.baseline/v9", this program reads "mailbench.baseline/v1"`},
		{"cut short", string(whole[:len(whole)/2]), "unexpected end"},
		{"no JSON", "{\n  \"schema\": x}", "line 2, column 14"},
		{"a field that there is not", strings.Replace(string(whole), `"seed"`, `"sead"`, 1), `unknown field "sead"`},
		{"no runs", `{"schema": "mailbench.baseline/v1"}`, "holds no run"},
		{"too large", strings.Repeat(" ", maxFile+1), "more than 8388608 bytes"},
	} {
		bad := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(bad, []byte(row.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBaseline(bad); err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
	if _, err := ReadBaseline(filepath.Join(t.TempDir(), "none.json")); err == nil || !strings.Contains(err.Error(), "gate RUN --update NAME") {
		t.Errorf("no file: %v", err)
	}
}
