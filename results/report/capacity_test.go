package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"gotest.tools/v3/golden"
)

// maxCapacityPage is what a page of a capacity search may weigh.
const maxCapacityPage = 1 << 20

const capacitySec = 1_000_000 // µs

// searched is a search that found the capacity of three regimes on a small machine:
// today's 4,000,000 messages a day, a busiest hour of 1.92 times the mean.
func searched(t testing.TB) *capacity.Result {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	top.Limits = map[topology.Role]topology.Limits{
		topology.Management: {MilliCPUs: 100, MemoryMiB: 128}, topology.Data: {MilliCPUs: 400, MemoryMiB: 1024}, topology.SQL: {MilliCPUs: 300, MemoryMiB: 512},
	}
	top.DataNode = map[string]string{"DataMemory": "300M", "NoOfFragmentLogFiles": "4"}
	top.SQLServer = map[string]string{"ndb_cluster_connection_pool": "1"}
	r := &capacity.Result{
		Schema: capacity.CapacitySchema,
		Search: capacity.Search{
			Schema: capacity.SearchSchema, Scenario: "peak-hour", System: "ndb", Seed: 7, Version: "0.8.0",
			Command:     "mailbench capacity peak-hour --seed 7 --regimes healthy,short:data2,rejoining:data2 --out results/runs/capacity",
			TodayPerDay: 4_000_000, PeakPPM: 1_920_000, BurstPPM: 4_150_000,
			Settings: capacity.Settings{
				ConfidencePPM: 950_000, ResolutionPPM: 50_000, SettleUS: 5 * capacitySec, MinStepUS: 20 * capacitySec, MaxStepUS: 90 * capacitySec,
				LookUS: 10 * capacitySec, StartPerDay: 7_680_000, HighestPerDay: 100_000_000, LowestPerDay: 100_000, MaxSteps: 24,
			},
		},
		Topology: top, Host: capacity.Host{Processors: 2, MemoryMiB: 7936, Kernel: "6.1.0"}, TookUS: 1312 * capacitySec,
		Objectives: []results.Objective{
			{Name: "routing answers", Path: "routing", TargetPPM: 999_000, LatencyUS: 100_000},
			{Name: "greylist answers", Path: "greylist", TargetPPM: 999_000, LatencyUS: 250_000},
			{Name: "accounts change", Path: "accounts", TargetPPM: 990_000},
		},
	}
	number := 0
	// A rate over the truth is missed, one just below is open once.
	add := func(regime capacity.Regime, truth int64, rates ...int64) *capacity.Found {
		r.Regimes = append(r.Regimes, capacity.Found{Regime: regime, Done: true})
		f := &r.Regimes[len(r.Regimes)-1]
		for i, rate := range rates {
			number++
			f.Steps = append(f.Steps, capacityStep(number, regime, rate, truth))
			if i == 4 {
				s := &f.Steps[i]
				s.Outcome, s.Stopped, s.Why = capacity.Open, capacity.Length, "neither met nor missed in its whole length"
				s.Objectives[0].Outcome, s.Objectives[0].LowPPM, s.Objectives[0].HighPPM = capacity.Open, 812, 1340
			}
		}
		return f
	}
	found := func(f *capacity.Found, met, missed int64, limit capacity.Limit) {
		f.MetPerDay, f.MissedPerDay = met, missed
		f.PromisePerDay = met * 100 / 192
		f.HeadroomPPM = f.PromisePerDay * 1_000_000 / r.Search.TodayPerDay
		f.Limit = limit
	}
	found(add(capacity.Healthy, 10_000_000, 7_680_000, 11_520_000, 9_408_000, 10_372_000, 9_878_000, 9_878_000, 10_372_000), 9_878_000, 10_372_000,
		capacity.Limit{Resource: "sql node cpu", Node: "sql1", UsePPM: 981_000, Evidence: "at 10,372,000 a day sql1 used 98.1 % of its quota, data1 62.3 %, the generator 31.0 % of the machine"})
	found(add("short:data2", 8_200_000, 7_680_000, 11_520_000, 9_408_000, 8_533_000, 8_127_000, 8_127_000, 8_533_000), 8_127_000, 8_533_000,
		capacity.Limit{Resource: "sql node cpu", Node: "sql1", UsePPM: 962_000, Evidence: "at 8,533,000 a day sql1 used 96.2 % of its quota, data1 80.1 %"})
	found(add("rejoining:data2", 6_000_000, 7_680_000, 5_120_000, 6_271_000, 5_689_000, 5_973_000, 5_973_000), 5_973_000, 6_271_000,
		capacity.Limit{Resource: "data node cpu", Node: "data1", UsePPM: 997_000, Evidence: "at 6,271,000 a day data1 used 99.7 % of its quota: it also copies fragments to data2"})
	for i := range r.Regimes {
		for _, s := range r.Regimes[i].Steps {
			r.Search.Steps = append(r.Search.Steps, s.Step)
		}
	}
	return r
}

// capacityStep is a step at a rate of a system that can do truth.
func capacityStep(number int, regime capacity.Regime, rate, truth int64) capacity.Judged {
	load := rate * 1000 / truth // thousandths
	length := int64(40) * capacitySec
	s := capacity.Judged{
		Step: capacity.Step{
			Number: number, Regime: regime, Dir: strings.ReplaceAll(string(regime), ":", "-"), PerDay: rate,
			FromUS: int64(number) * 100 * capacitySec, Stopped: capacity.Decided, Looks: 3,
		},
		Outcome: capacity.Met,
	}
	s.ToUS = s.FromUS + 5*capacitySec + length
	s.Offered = rate * 40 / 86_400
	s.Ops = s.Offered * 31 / 10
	wait := 200_000 / max(1000-load, 25) // µs; the less is idle, the longer
	s.P50US, s.P99US = 1400+wait, 9000+wait*4
	s.MeanUS, s.MaxUS = s.P50US+900, s.P99US*3
	s.InFlightMilli = s.Ops * s.MeanUS / 40_000
	s.LagP999US = 900 + load*2
	bad := int64(150)
	if load > 1000 {
		s.Outcome, s.Why = capacity.Missed, "routing answers is missed: too many took longer than 100 ms"
		bad = 40 * (load - 980)
		s.P50US, s.P99US, s.MaxUS = s.P50US*6, 180_000+load*300, 2_400_000
		s.HeldBack = load > 1300
	}
	s.Good = s.Ops - s.Ops*bad/1_000_000
	s.Objectives = []capacity.Objective{
		{Name: "routing answers", BudgetPPM: 1000, Good: s.Good, Bad: s.Ops - s.Good, LowPPM: bad * 7 / 10, HighPPM: bad * 14 / 10, Outcome: s.Outcome},
		{Name: "greylist answers", BudgetPPM: 1000, Good: s.Good, LowPPM: 0, HighPPM: bad, Outcome: capacity.Met},
		{Name: "accounts change", BudgetPPM: 10_000, Good: 12, LowPPM: 0, HighPPM: 221_000, Outcome: capacity.Open, Sparse: true},
	}
	share := min(load, 1000)
	s.CPUPPM = map[string]int64{"mgm1": 12_000, "data1": share * 620, "data2": share * 590, "sql1": share * 975, "sql2": share * 410, "generator": load * 290}
	switch regime {
	case "short:data2", "rejoining:data2":
		delete(s.CPUPPM, "data2")
	}
	if regime == "rejoining:data2" {
		s.CPUPPM["data1"] = share * 995
	}
	return s
}

// capacityExtras are what other commands would give.
func capacityExtras(t testing.TB) CapacityExtras {
	curve := CapacityCurve{
		Title: "Throughput against SQL nodes", N: "SQL nodes", X: "messages a day",
		Words: []string{"The universal scalability law holds between 1 and 6 SQL nodes: sigma 0.042 (0.031 to 0.055), kappa 0 (0 to 0.0012).", "No peak inside the measured range."},
	}
	law := func(n float64) float64 { return 5.2e6 * n / (1 + 0.042*(n-1)) }
	for i, n := range []float64{1, 2, 3, 4, 6} {
		curve.Points = append(curve.Points, CapacityPoint{N: n, X: law(n) * []float64{1.004, 0.991, 1.006, 0.997, 1.001}[i]})
	}
	for n := 1.0; n <= 12; n += 0.5 {
		beyond := max(0, n-6)
		curve.Line = append(curve.Line, CapacityLine{N: n, X: law(n), Low: law(n) * (0.98 - 0.02*beyond), High: law(n) * (1.02 + 0.02*beyond), Extrapolated: n > 6})
	}
	memory := &CapacityPart{
		Words: []string{"DataMemory of 300 MiB a node is not full within 35 days: steady at 214 MiB from day 33."},
		Tables: []CapacityTable{{
			Title: "Bytes a row and replica", Left: 1, Head: []string{"table", "computed", "measured", "difference"},
			Rows:  [][]string{{"triplets", "148", "151", "+2.0 %"}, {"clients", "92", "90", "-2.2 %"}},
			Notes: []string{"Measured from ndbinfo after a load of 100,000 rows."},
		}},
	}
	days := CapacityCurve{Title: "Data memory of a node", N: "days", X: "MiB, maximum of the day", LineIs: "simulated", Limit: 300, LimitName: "DataMemory 300 MiB"}
	for day := 1.0; day <= 50; day++ {
		days.Line = append(days.Line, CapacityLine{N: day, X: 214 * (1 - math.Exp(-day/9)), Extrapolated: day > 35})
	}
	memory.Curves = []CapacityCurve{days}

	ldap := searched(t)
	ldap.Search.System, ldap.Topology = "ldap", topology.Topology{}
	ldap.Regimes = ldap.Regimes[:2]
	ldap.Regimes[1].Regime = "short:ldap2"
	for i := range ldap.Regimes {
		f := &ldap.Regimes[i]
		f.MetPerDay, f.MissedPerDay, f.PromisePerDay, f.HeadroomPPM = 2_100_000, 2_205_000, 1_093_750, 273_437
		f.Limit = capacity.Limit{Resource: "server cpu", Node: "ldap1"}
	}
	return CapacityExtras{
		Curves: []CapacityCurve{curve}, Memory: memory,
		Comparison: []CapacityColumn{{"OpenLDAP, two providers", ldap, []string{"The death of one server left 3.1 s without an answer."}}},
	}
}

// unfinished is a search that was interrupted, of regimes that came to nothing: one
// missed everywhere, one bounded by the generator, one without a step.
func unfinished(t testing.TB) *capacity.Result {
	r := searched(t)
	r.Search.System = "innodb"
	generator := &r.Regimes[0]
	generator.MissedPerDay = 0
	generator.Limit = capacity.Limit{Resource: "generator", UsePPM: 930_000, Evidence: "99.9 % of messages began within 0.8 s of their time"}
	generator.Why = "the generator was the limit above 9,878,000 a day"
	for i := range generator.Steps {
		if s := &generator.Steps[i]; s.Outcome == capacity.Missed {
			s.Outcome, s.Why = capacity.Generator, "the generator was late"
		}
	}
	never := &r.Regimes[1]
	*never = capacity.Found{Regime: "short:data1,sql1", Done: true, MissedPerDay: 100_000, Why: "the objectives are missed at the lowest rate, 100,000 a day, already"}
	never.Steps = []capacity.Judged{capacityStep(8, never.Regime, 100_000, 90_000)}
	r.Regimes[2] = capacity.Found{Regime: "rejoining:data2"}
	r.Search.Ends = []capacity.End{{Dir: "short-data1-sql1", Regime: never.Regime, Why: "interrupted by the user"}}
	return r
}

func TestCapacityGolden(t *testing.T) {
	for _, row := range []struct {
		of     string
		result *capacity.Result
		extras CapacityExtras
	}{
		{"capacity", searched(t), capacityExtras(t)}, {"capacity-unfinished", unfinished(t), CapacityExtras{}},
	} {
		for name, draw := range map[string]func(io.Writer) error{
			"txt": func(w io.Writer) error { return CapacityText(w, row.result, 80, CapacityExtras{}) },
			"md":  func(w io.Writer) error { return CapacityMarkdown(w, row.result, row.extras) },
			"csv": func(w io.Writer) error { return CapacityCSV(w, row.result, CapacityExtras{}) },
		} {
			var b bytes.Buffer
			if err := draw(&b); err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, b.String(), row.of+"."+name)
			for _, line := range strings.Split(b.String(), "\n") {
				if name == "txt" && len([]rune(line)) > 80 {
					t.Errorf("%s is wider than 80 columns: %s", row.of, line)
				}
			}
		}
	}
}

func TestCapacityHeadlines(t *testing.T) {
	const peak = ": the busiest hour has 1.92 times the mean rate; that is "
	for _, row := range []struct {
		sentence string
		alter    func(*capacity.Result)
		want     string
	}{
		{"three regimes were found", func(r *capacity.Result) {},
			"PROMISE: this cluster may be promised 5,144,791 messages a day healthy, 4,232,812 with a data node (data2) dead and 3,110,937 while a data node (data2) rejoins" +
				peak + "1.28, 1.05 and 0.77 times today's volume of 4,000,000."},
		{"a host carries both nodes that die", func(r *capacity.Result) {
			r.Regimes = r.Regimes[1:2]
			r.Topology.Nodes[1].Host = "mta1"
			r.Regimes[0].Regime = "short:data1,sql1"
		}, "PROMISE: this cluster may be promised 4,232,812 messages a day with the host mta1 (data1, sql1) dead" + peak + "1.05 times today's volume of 4,000,000."},
		{"writes were lost", func(r *capacity.Result) { r.Verdict = "data_loss" },
			"DATA LOSS: acknowledged writes were lost during this search, so that nothing may be promised, whatever rates met their objectives."},
		{"the generator was the limit", func(r *capacity.Result) {
			*r = *unfinished(t)
			r.Regimes = r.Regimes[:1]
		}, "AT LEAST: this system (innodb) may be promised at least 5,144,791 messages a day healthy" + peak + "1.28 times today's volume of 4,000,000; healthy, the generator was the limit."},
		{"the generator was the limit from the start", func(r *capacity.Result) {
			*r = *unfinished(t)
			r.Regimes = r.Regimes[:1]
			r.Regimes[0].MetPerDay, r.Regimes[0].PromisePerDay, r.Regimes[0].Why = 0, 0, ""
		}, "NO PROMISE: this system (innodb) may be promised nothing: healthy, the generator was the limit."},
		{"no rate is met", func(r *capacity.Result) {
			r.Regimes = []capacity.Found{{Regime: capacity.Healthy, Done: true, MissedPerDay: 100_000, Steps: []capacity.Judged{capacityStep(1, capacity.Healthy, 100_000, 90_000)}}}
		}, "NO PROMISE: this cluster may be promised nothing: healthy, objectives are missed at 100,000 messages a day already, the lowest rate tried."},
		{"the cluster died, below what it was tried at before", func(r *capacity.Result) {
			r.Regimes = r.Regimes[:1]
			r.Regimes[0].Steps[1].Stopped = capacity.SystemDied
		}, "PROMISE: this cluster may be promised 5,144,791 messages a day healthy" + peak + "1.28 times today's volume of 4,000,000; healthy, it died at 11,520,000 messages a day."},
		{"the cluster died at its first rate", func(r *capacity.Result) {
			s := capacityStep(1, capacity.Healthy, 500_000, 90_000)
			s.Stopped, s.Outcome = capacity.SystemDied, capacity.Void
			r.Regimes = []capacity.Found{{Regime: capacity.Healthy, Done: true, Steps: []capacity.Judged{s}}}
		}, "NO PROMISE: this cluster may be promised nothing: healthy, it died at 500,000 messages a day."},
		{"the highest rate that may be tried was met", func(r *capacity.Result) {
			r.Regimes = r.Regimes[:1]
			r.Regimes[0].MissedPerDay = 0
		}, "AT LEAST: this cluster may be promised at least 5,144,791 messages a day healthy" + peak + "1.28 times today's volume of 4,000,000."},
		{"the search goes on", func(r *capacity.Result) { *r = *unfinished(t) },
			"UNFINISHED: so far, this system (innodb) may be promised at least 5,144,791 messages a day healthy" + peak + "1.28 times today's volume of 4,000,000" +
				"; nothing with data1, sql1 dead (the objectives are missed at the lowest rate, 100,000 a day, already); nothing while a data node (data2) rejoins (not measured); healthy, the generator was the limit."},
		{"nothing was met so far", func(r *capacity.Result) {
			r.Regimes = []capacity.Found{{Regime: capacity.Healthy, MissedPerDay: 7_680_000, Steps: []capacity.Judged{capacityStep(1, capacity.Healthy, 7_680_000, 90_000)}}}
		}, "UNFINISHED: this cluster may be promised nothing yet: healthy, no rate was met so far."},
		{"nothing was tried", func(r *capacity.Result) { r.Regimes = nil },
			"UNFINISHED: no rate was tried yet, so that nothing may be promised."},
	} {
		r := searched(t)
		row.alter(r)
		if got := CapacityHeadline(r); got != row.want {
			t.Errorf("%s:\n got %s\nwant %s", row.sentence, got, row.want)
		}
	}
}

// TestCapacityWorstObjective needs no division by a budget of nothing.
func TestCapacityWorstObjective(t *testing.T) {
	o := func(name string, outcome capacity.Outcome, budget, high int64) capacity.Objective {
		return capacity.Objective{Name: name, Outcome: outcome, BudgetPPM: budget, HighPPM: high}
	}
	for _, row := range []struct {
		sentence string
		of       []capacity.Objective
		want     string
	}{
		{"one that is missed comes first", []capacity.Objective{o("a", capacity.Open, 10, 1000), o("b", capacity.Missed, 1000, 1100)}, "b"},
		{"then the one whose interval reaches furthest", []capacity.Objective{o("a", capacity.Met, 1000, 500), o("b", capacity.Met, 10_000, 9000)}, "b"},
		{"no budget is passed by anything", []capacity.Objective{o("a", capacity.Open, 1000, 5000), o("b", capacity.Open, 0, 1)}, "b"},
		{"without an objective there is none", nil, ""},
	} {
		if got, ok := worstObjective(&capacity.Judged{Objectives: row.of}); got.Name != row.want || ok != (row.of != nil) {
			t.Errorf("%s: got %q, want %q", row.sentence, got.Name, row.want)
		}
	}
}

func capacityHTML(t *testing.T, r *capacity.Result, x CapacityExtras) string {
	t.Helper()
	var b bytes.Buffer
	if err := CapacityHTML(&b, r, x); err != nil {
		t.Fatal(err)
	}
	if b.Len() > maxCapacityPage {
		t.Errorf("the page has %d bytes, at most %d are allowed", b.Len(), maxCapacityPage)
	}
	for _, outside := range []string{"http:", "https:", "url(", "@import", "src="} {
		if i := strings.Index(b.String(), outside); i >= 0 {
			t.Errorf("the page refers to something outside: %s", b.String()[max(0, i-40):i+40])
		}
	}
	return b.String()
}

func TestCapacityPageTellsWhatWasFound(t *testing.T) {
	got := capacityHTML(t, searched(t), capacityExtras(t))
	for sentence, want := range map[string]string{
		"the promise":                  `<span class="badge">PROMISE</span> this cluster may be promised 5,144,791 messages a day healthy`,
		"the limit with evidence":      "sql node cpu of sql1: at 10,372,000 a day",
		"a rate that was met":          `class="mark m-met"`,
		"a rate that was missed":       `class="mark m-missed"`,
		"a rate that stayed open":      `class="mark m-open"`,
		"the promise on the chart":     "busiest hour of 5,144,791 a day promised",
		"today on the chart":           `class="today"`,
		"an objective's bound":         `class="bound"`,
		"where the capacity is":        `class="bracket"`,
		"the CPU of a node":            "sql1 96.2 %",
		"what is extrapolated, dashed": `class="fitted beyond"`,
		"what is extrapolated":         "Extrapolated, not measured: 6.5 to 12 SQL nodes.",
		"the curve in words":           "No peak inside the measured range.",
		"the memory":                   "steady at 214 MiB from day 33",
		"another system":               "OpenLDAP, two providers",
		"the death of its server":      "left 3.1 s without an answer",
		"a sparse objective":           "could only be missed: accounts change.",
		"the quotas":                   "the quotas come to 1.5 of its 2 CPUs",
		"how to repeat it":             "mailbench capacity peak-hour --seed 7",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: the page has no %q", sentence, want)
		}
	}
	if a, b := capacityHTML(t, searched(t), capacityExtras(t)), got; a != b {
		t.Error("the same result makes other bytes")
	}
}

// TestCapacityPromisesNothingOnceWritesWereLost holds on every output, and leaves the
// result as it was.
func TestCapacityPromisesNothingOnceWritesWereLost(t *testing.T) {
	r, x := searched(t), CapacityExtras{Comparison: []CapacityColumn{{Title: "other", Result: searched(t)}}}
	r.Verdict, x.Comparison[0].Result.Verdict = string(results.DataLoss), string(results.DataLoss)
	var all bytes.Buffer
	for _, draw := range []func() error{
		func() error { return CapacityText(&all, r, 80, CapacityExtras{}) }, func() error { return CapacityMarkdown(&all, r, x) }, func() error { return CapacityHTML(&all, r, x) },
	} {
		if err := draw(); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(all.String(), "5,144,791") || strings.Contains(all.String(), "1.28") {
		t.Error("a rate is promised")
	}
	if n := strings.Count(all.String(), "DATA LOSS"); n < 3 {
		t.Errorf("only %d of 3 outputs say DATA LOSS", n)
	}
	if r.Regimes[0].PromisePerDay == 0 {
		t.Error("the result was changed")
	}
}

func TestCapacityPageOfAlmostNothing(t *testing.T) {
	for sentence, row := range map[string]struct {
		result *capacity.Result
		want   []string
	}{
		"a search that goes on": {unfinished(t), []string{"UNFINISHED", "No step of this regime was judged.", " --resume DIR</pre>", `class="mark m-generator"`, "A sitting ended in short-data1-sql1"}},
		"no regime":             {&capacity.Result{}, []string{"UNFINISHED", "No regime was measured.", "The search is not over."}},
		"an empty regime":       {&capacity.Result{Regimes: []capacity.Found{{}}}, []string{"No step of this regime was judged."}},
		"rates at the ends of what is possible": {&capacity.Result{
			Search: capacity.Search{TodayPerDay: math.MaxInt64, PeakPPM: math.MaxInt64},
			Regimes: []capacity.Found{{Regime: capacity.Healthy, MetPerDay: 1, MissedPerDay: math.MaxInt64, PromisePerDay: 1, Steps: []capacity.Judged{
				{Step: capacity.Step{PerDay: 1, ToUS: 1}, Ops: 1}, {Step: capacity.Step{PerDay: math.MaxInt64, ToUS: 1}, Ops: 1, P99US: math.MaxInt64 / 1000, CPUPPM: map[string]int64{"x": math.MaxInt64}},
			}}},
		}, []string{"<svg"}},
	} {
		got := capacityHTML(t, row.result, CapacityExtras{})
		for _, want := range row.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the page has no %q", sentence, want)
			}
		}
	}
}

// TestCapacityNamesAreEscaped puts text that is not meant well wherever there is
// room for it.
func TestCapacityNamesAreEscaped(t *testing.T) {
	r, x := searched(t), capacityExtras(t)
	r.Search.Scenario, r.Search.System, r.Search.Version, r.Search.Command, r.Host.Kernel, r.Verdict = hostile, hostile, hostile, hostile, hostile, hostile
	r.Search.Ends = []capacity.End{{Dir: hostile, Regime: hostile, Why: hostile}}
	r.Objectives[0].Name, r.Objectives[0].Path = hostile, hostile
	r.Topology.Nodes[1].Name, r.Topology.Nodes[1].Host = hostile, hostile
	r.Topology.DataNode[hostile] = hostile
	for i := range r.Regimes {
		f := &r.Regimes[i]
		f.Why, f.Limit, f.Done = hostile, capacity.Limit{Resource: hostile, Node: hostile, Evidence: hostile}, i > 0
		for j := range f.Steps {
			s := &f.Steps[j]
			s.Why, s.Dir, s.Objectives[0].Name, s.CPUPPM[hostile] = hostile, hostile, hostile, 2_000_000
			s.Objectives[2].Name = hostile
			if j == 2 {
				s.Outcome = hostile
			}
		}
	}
	r.Regimes[1].Regime = "short:" + hostile
	r.Regimes[2].Regime = hostile
	c := &x.Curves[0]
	c.Title, c.N, c.X, c.Words, c.Limit, c.LimitName = hostile, hostile, hostile, []string{hostile}, 1, hostile
	m := &x.Memory.Tables[0]
	m.Title, m.Head[0], m.Rows[0][0], m.Notes, x.Memory.Words = hostile, hostile, hostile, []string{hostile}, []string{hostile}
	x.Comparison[0].Title, x.Comparison[0].Words = hostile, []string{hostile}
	page := capacityHTML(t, r, x)
	var md bytes.Buffer
	if err := CapacityMarkdown(&md, r, x); err != nil {
		t.Fatal(err)
	}
	// A fenced command is shown as it is.
	before, fenced, _ := strings.Cut(md.String(), "```sh\n")
	_, after, _ := strings.Cut(fenced, "```\n")
	for name, got := range map[string]string{"html": page, "md": before + after} {
		for _, bad := range []string{hostile, `<script>alert`, `<script>a`} {
			if i := strings.Index(got, bad); i >= 0 {
				t.Errorf("%s: a name is not escaped: %s", name, got[max(0, i-60):i+20])
			}
		}
	}
}

// TestCapacityPageIsBounded draws the worst that a result can ask for.
func TestCapacityPageIsBounded(t *testing.T) {
	r, x := searched(t), capacityExtras(t)
	for i := range r.Regimes {
		for j := range 500 {
			s := capacityStep(j+1, r.Regimes[i].Regime, int64(1_000_000+j*10_000), 3_000_000)
			s.Why = strings.Repeat("x", 500)
			for k := range 96 {
				s.CPUPPM[fmt.Sprintf("node%d", k)] = 1
			}
			r.Regimes[i].Steps = append(r.Regimes[i].Steps, s)
		}
	}
	table := &x.Memory.Tables[0]
	for range 5000 {
		table.Rows = append(table.Rows, []string{"a", "1", "2", "3"})
	}
	page := capacityHTML(t, r, x)
	for _, want := range []string{"And 1220 more, in capacity.json.", "And 4,002 rows more."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestCapacityRefusesWhatCannotBeDrawn(t *testing.T) {
	for _, row := range []struct {
		sentence string
		alter    func(*CapacityExtras)
		want     string
	}{
		{"a point that is no number", func(x *CapacityExtras) { x.Curves[0].Points[1].X = math.NaN() }, `curve "Throughput against SQL nodes": point 2 has NaN, must be 0 to 1e+15`},
		{"an interval without end", func(x *CapacityExtras) { x.Curves[0].Line[2].High = math.Inf(1) }, "point of the line 3 has +Inf"},
		{"a line that goes back", func(x *CapacityExtras) { x.Memory.Curves[0].Line[1].N = 0.5 }, `curve "Data memory of a node": point 2 of the line has days 0.5 after 1, must ascend`},
		{"a curve of nothing", func(x *CapacityExtras) { x.Curves[0] = CapacityCurve{} }, "no point and no line"},
		{"too much of it", func(x *CapacityExtras) { x.Curves[0].Points = make([]CapacityPoint, 6000) }, "at most 5000 are drawn"},
		{"a row that is cut short", func(x *CapacityExtras) { x.Memory.Tables[0].Rows[1] = []string{"a"} }, "row 2 has 1 cells, the heading 4"},
		{"no heading", func(x *CapacityExtras) { x.Memory.Tables[0].Head = nil }, "columns of text, must be"},
	} {
		x := capacityExtras(t)
		row.alter(&x)
		for name, draw := range map[string]func(io.Writer, *capacity.Result, CapacityExtras) error{"html": CapacityHTML, "md": CapacityMarkdown} {
			var b bytes.Buffer
			if err := draw(&b, searched(t), x); err == nil || !strings.Contains(err.Error(), row.want) || b.Len() > 0 {
				t.Errorf("%s, %s: got %v and %d bytes, want %q and none", row.sentence, name, err, b.Len(), row.want)
			}
		}
	}
}

// TestCapacityCSVCanBeRead: a row a step, and a column a node.
func TestCapacityCSVCanBeRead(t *testing.T) {
	r := searched(t)
	r.Regimes[0].Steps[0].Why = "a \"reason\", in two\nlines"
	var b bytes.Buffer
	if err := CapacityCSV(&b, r, CapacityExtras{}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	at := 1
	for _, f := range r.Regimes {
		for _, s := range f.Steps {
			for name, want := range map[string]string{
				"regime": string(s.Regime), "step": strconv.Itoa(s.Number), "per_day": strconv.FormatInt(s.PerDay, 10), "why": s.Why,
				"cpu_ppm_sql1": strconv.FormatInt(s.CPUPPM["sql1"], 10), "p99_us": strconv.FormatInt(s.P99US, 10),
			} {
				if got := rows[at][column[name]]; got != want {
					t.Errorf("row %d: %s is %q, want %q", at, name, got, want)
				}
			}
			at++
		}
	}
	if at != len(rows) {
		t.Errorf("%d rows, want %d", len(rows), at)
	}
}

func TestWriteCapacity(t *testing.T) {
	dir := t.TempDir()
	if err := WriteCapacity(dir, searched(t), CapacityExtras{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{CapacityHTMLFile, CapacityMarkdownFile, CapacityCSVFile} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	x := capacityExtras(t)
	x.Curves[0].Points[0].N = -1
	empty := t.TempDir()
	if err := WriteCapacity(empty, searched(t), x); err == nil || !strings.Contains(err.Error(), x.Curves[0].Title) {
		t.Errorf("what cannot be drawn is written, or the curve is not named: %v", err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("what cannot be drawn leaves %v (%v)", left, err)
	}
	if err := WriteCapacity(filepath.Join(dir, "missing"), searched(t), CapacityExtras{}); err == nil {
		t.Error("a directory that is not there is written to")
	}
}

// TestLineThroughSteps: each step is marked, and the line passes a rate once.
func TestLineThroughSteps(t *testing.T) {
	var d drawing
	d.polyline("p50", [][2]px{{1 * unit, 5 * unit}, {2 * unit, 90 * unit}, {2 * unit, 10 * unit}, {2 * unit, 20 * unit}, {3 * unit, 1 * unit}})
	if dots := strings.Count(d.String(), "<circle"); dots != 5 {
		t.Errorf("%d steps are marked, want 5", dots)
	}
	if want := "M1 5L2 20L3 1"; !strings.Contains(d.String(), want) {
		t.Errorf("the line is %s, want %s", d.String(), want)
	}
}

func TestMiddles(t *testing.T) {
	for _, row := range []struct {
		sentence     string
		points, want [][2]px
	}{
		{"no points", nil, nil},
		{"each has an x of its own", [][2]px{{1, 5}, {2, 9}}, [][2]px{{1, 5}, {2, 9}}},
		{"of three that share one the middle counts", [][2]px{{1, 5}, {2, 90}, {2, 10}, {2, 20}, {3, 1}}, [][2]px{{1, 5}, {2, 20}, {3, 1}}},
		{"of two, what is between", [][2]px{{2, 10}, {2, 20}}, [][2]px{{2, 15}}},
	} {
		if got := middles(row.points); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}
}
