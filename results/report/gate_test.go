package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"gotest.tools/v3/golden"
)

// worse is a gate that found something of everything.
func worse() *gate.Report {
	r := &gate.Report{
		Verdict: compare.Regression, Scenario: "peak <hour>", Base: []string{"a"}, Runs: []string{"b"},
		Reasons: []string{"run b: the generator fell behind: 99.9 % of messages began within 207475 µs of their time, the bound is 50000 µs"},
		Notes:   []string{"Latencies were not compared: this is another machine than the baseline's (cpus is \"64\", was \"2\"). Compare them with gate ab, on one machine."},
		Latency: []gate.LatencyChange{{Finding: compare.Finding{Verdict: compare.Inconclusive, Optional: true, Why: "runs of different times: use gate ab"}, Path: "routing", Statistic: "p50", Base: 1500, Candidate: 1600}},
		Faults: []compare.FaultComparison{
			{Finding: compare.Finding{Verdict: compare.Regression}, Kind: "kill data2", Measure: compare.OutageMeasure, NA: 10, NB: 10, A: 800_000, B: 2_400_000, Low: new(int64(1_100_000)), High: new(int64(1_900_000))},
			{Finding: compare.Finding{Verdict: compare.Inconclusive, Why: "so few repetitions have no smaller p-value"}, Kind: "kill sql1", Measure: compare.BadOpsMeasure, A: 3, B: 12_345},
		},
	}
	for i := range 12 {
		for _, counter := range []string{"statements", "ndb_round_trips", "selects"} {
			r.Counters = append(r.Counters, compare.CounterChange{
				Finding: compare.Finding{Verdict: compare.Regression}, Decision: fmt.Sprintf("greylist/a decision with a long name, number %d", i), Counter: counter, Change: compare.Increased, Base: 2, Candidate: 1_234_567,
			})
		}
	}
	r.Counters = append(r.Counters, compare.CounterChange{Finding: compare.Finding{Verdict: compare.Improvement}, Decision: "routing/local", Counter: "statements", Change: compare.Decreased, Base: 2, Candidate: 1},
		compare.CounterChange{Finding: compare.Finding{Verdict: compare.NoDifference}, Decision: "routing/unknown", Counter: "statements", Change: compare.Same, Base: 2, Candidate: 2})
	return r
}

func TestGateGolden(t *testing.T) {
	for name, draw := range map[string]func(io.Writer, *gate.Report) error{
		"txt": func(w io.Writer, r *gate.Report) error { return GateText(w, r, 80) }, "md": GateMarkdown, "junit.xml": GateJUnit, "annotations": GateAnnotations,
	} {
		var b bytes.Buffer
		if err := draw(&b, worse()); err != nil {
			t.Fatal(err)
		}
		golden.Assert(t, b.String(), "gate."+name)
		if name == "annotations" && strings.Count(b.String(), "\n") != maxAnnotations {
			t.Errorf("%d annotations, want %d", strings.Count(b.String(), "\n"), maxAnnotations)
		}
		for _, line := range strings.Split(b.String(), "\n") {
			if name == "txt" && len([]rune(line)) > 80 {
				t.Errorf("wider than 80 columns: %s", line)
			}
		}
	}
}

func TestGateHeadlines(t *testing.T) {
	for _, row := range []struct {
		report gate.Report
		want   string
	}{
		{gate.Report{Verdict: compare.NoDifference}, "PASS: nothing is worse than the baseline."},
		{gate.Report{Verdict: compare.DataLoss, Reasons: []string{"late", "2 acknowledged writes are gone"}}, "DATA LOSS: 2 acknowledged writes are gone."},
		{gate.Report{Verdict: compare.Inconclusive, Reasons: []string{"late"}}, "INCONCLUSIVE: late."},
		{gate.Report{Verdict: compare.Inconclusive}, "INCONCLUSIVE: what was measured does not tell."},
	} {
		if got := GateHeadline(&row.report); got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
}
