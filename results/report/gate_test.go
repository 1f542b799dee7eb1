package report

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
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

// inTurnReport is a gate that compared a base and a candidate in turn, and found
// something of everything.
func inTurnReport() *gate.Report {
	dec := func(x float64) *results.Decimal { return new(results.Decimal(math.Round(x * 1e6))) }
	r := &gate.Report{
		Verdict: compare.Regression, Scenario: "smoke", Base: []string{"run-a"}, Runs: []string{"run-b"},
		Notes:    []string{"Base: the scenario as it is. Candidate: cluster.data_node.TimeBetweenLocalCheckpoints=6. In turn, 30 pairs of segments of about 20s, of which the first 2s are not compared."},
		Counters: []compare.CounterChange{{Finding: compare.Finding{Verdict: compare.Regression}, Decision: "greylist/new", Counter: "ndb_round_trips", Change: compare.Increased, Base: 2, Candidate: 3}},
		Repeat:   "mailbench gate ab smoke --base 'mail.note=as it is' --candidate cluster.data_node.TimeBetweenLocalCheckpoints=6 --pairs 30 --seed 7",
	}
	for _, path := range []string{"routing", "preferences"} {
		for _, c := range []struct {
			statistic                    string
			verdict                      compare.Verdict
			why                          string
			a, b, change, low, high, mde float64
		}{
			{"p50", compare.NoDifference, "", 812, 815, 0.0037, -0.0012, 0.0086, 0.0601},
			{"p90", compare.Improvement, "", 2412, 2001, -0.1704, -0.2012, -0.1389, 0.0723},
			{"p95", compare.Inconclusive, "a difference as large as the stated effect can neither be shown nor ruled out; measure longer", 3100, 3190, 0.029, -0.0312, 0.0931, 0.1208},
			{"p99", compare.Regression, "", 12_412, 161_356, 12.0004, 10.6123, 13.5519, 0.2317},
			{"p99.9", compare.Inconclusive, "3 independent ops beyond the quantile; 10 are needed: measure longer", 56_000, 912_000, 0, 0, 0, 0},
			{"throughput", compare.NoDifference, "", 512.34, 511.98, -0.0007, -0.0013, 0.0002, -0.0502},
			{"bad_share", compare.Regression, "", 0, 0.0123, 0.0123, 0.0101, 0.0145, 0.00129},
		} {
			found := compare.Comparison{
				Finding: compare.Finding{Verdict: c.verdict, Why: c.why, Optional: c.statistic == "p99.9"},
				Series:  path, Statistic: c.statistic, Pairs: 30, A: dec(c.a), B: dec(c.b),
			}
			if c.mde != 0 {
				found.Change, found.Low, found.High, found.MDE80 = dec(c.change), dec(c.low), dec(c.high), dec(c.mde)
			}
			r.Interleaved = append(r.Interleaved, found)
		}
	}
	return r
}

func TestGateGolden(t *testing.T) {
	for name, report := range map[string]*gate.Report{"gate": worse(), "gate-in-turn": inTurnReport()} {
		gateGolden(t, name, report)
	}
}

func gateGolden(t *testing.T, of string, report *gate.Report) {
	t.Helper()
	for name, draw := range map[string]func(io.Writer, *gate.Report) error{
		"txt": func(w io.Writer, r *gate.Report) error { return GateText(w, r, 80) }, "md": GateMarkdown, "junit.xml": GateJUnit, "annotations": GateAnnotations,
	} {
		var b bytes.Buffer
		if err := draw(&b, report); err != nil {
			t.Fatal(err)
		}
		golden.Assert(t, b.String(), of+"."+name)
		if of == "gate" && name == "annotations" && strings.Count(b.String(), "\n") != maxAnnotations {
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
		{gate.Report{Verdict: compare.NoDifference, Interleaved: make([]compare.Comparison, 1)}, "PASS: nothing is worse than the base."},
	} {
		if got := GateHeadline(&row.report); got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
	}
}

func TestShellLines(t *testing.T) {
	for _, row := range []struct {
		sentence, command string
		want              []string
	}{
		{"a short one is a line", "a b c", []string{"a b c"}},
		{"a word at the width stays, with room for what goes on", "aaaa bbb cc d", []string{`aaaa bbb \`, `  cc d`}},
		{"none breaks within quotes", `a 'b c d e f' "g h i j" k`, []string{`a \`, `  'b c d e f' \`, `  "g h i j" \`, `  k`}},
		{"nor at a space that is escaped", `aaaaa b\ bbb\ c d`, []string{`aaaaa \`, `  b\ bbb\ c \`, `  d`}},
		{"a backslash in single quotes is one", `aaaaa '\' bb cc dd`, []string{`aaaaa \`, `  '\' bb \`, `  cc dd`}},
		{"nothing", "", []string{""}},
	} {
		if got := shellLines(row.command, 10); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}

func TestChanges(t *testing.T) {
	for _, row := range []struct {
		change          results.Decimal
		percent, points string
	}{
		{0, "0.0 %", "0.00 pp"}, {49, "0.0 %", "0.00 pp"}, {-499, "0.0 %", "-0.05 pp"}, {500, "+0.1 %", "+0.05 pp"}, {-12_345, "-1.2 %", "-1.23 pp"},
		{999_400, "+99.9 %", "+99.94 pp"}, {1_004_999, "+100 %", "+100.50 pp"}, {-1_000_000, "-100 %", "-100.00 pp"}, {12_345_678, "+1,235 %", "+1234.57 pp"},
		{999_994_999, "+99,999 %", "+99999.50 pp"}, {1_000_000_000, ">+99,999 %", "+100000.00 pp"},
	} {
		if percent, points := percentChange(&row.change), pointsChange(&row.change); percent != row.percent || points != row.points {
			t.Errorf("%v: %s and %s, want %s and %s", row.change, percent, points, row.percent, row.points)
		}
	}
	if percentChange(nil) != none || pointsChange(nil) != none {
		t.Error("no change is shown as one")
	}
}

// TestGateAnnotationsTellOfLostWritesFirst, and are ten at most with all else.
func TestGateAnnotationsTellOfLostWritesFirst(t *testing.T) {
	r := &gate.Report{Scenario: "smoke", Verdict: compare.DataLoss, LostWrites: 2, Reasons: []string{"2 acknowledged writes are gone"}}
	for i := range 30 {
		r.Counters = append(r.Counters, compare.CounterChange{
			Finding: compare.Finding{Verdict: compare.Regression}, Decision: fmt.Sprintf("greylist/%d", i), Counter: "ndb_round_trips", Base: 1, Candidate: 2,
		})
	}
	var b bytes.Buffer
	if err := GateAnnotations(&b, r); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != maxAnnotations || !strings.Contains(lines[0], GateHeadline(r)) || !strings.Contains(lines[9], "22 more measures are worse") {
		t.Errorf("%d lines:\n%s", len(lines), &b)
	}
}

// TestGateTellsWhatTheSecondMeasurementSaid names what stands, what does not, and
// what is not known.
func TestGateTellsWhatTheSecondMeasurementSaid(t *testing.T) {
	for _, row := range []struct {
		says string
		c    gate.Confirmation
	}{
		{"Found again: routing p50.", gate.Confirmation{FoundAgain: []string{"routing p50"}, Cleared: []string{"greylist p99"}}},
		{"Ruled out, hence no regression: greylist p99.", gate.Confirmation{FoundAgain: []string{"routing p50"}, Cleared: []string{"greylist p99"}}},
		{"Could not be told the second time: routing p99.", gate.Confirmation{Unsettled: []string{"routing p99"}}},
		{"That failed, and what was found stands: no space", gate.Confirmation{Failed: "no space"}},
	} {
		var b bytes.Buffer
		r := &gate.Report{Scenario: "smoke", Verdict: compare.Regression, Confirmation: &row.c}
		if err := GateText(&b, r, 80); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), "Measured a second time") || !strings.Contains(b.String(), row.says) {
			t.Errorf("want %q in:\n%s", row.says, &b)
		}
	}
}
