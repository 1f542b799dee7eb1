package report

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// maxPage is what a page may weigh.
const maxPage = 2 << 20

// hostile is text that would be a script if it were not escaped.
const hostile = `<script>alert("x")</script>&`

// eventful leaves a recording of two minutes in dir, with every outcome, two
// faults that overlap, a third one that did not end, lost keys, and names that
// are not meant well.
func eventful(t *testing.T, dir string) {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 4, Replicas: 2, SQLHosts: []string{"mta1", "mta2", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	const sec = time.Second
	rec, err := results.Create(dir, results.Manifest{
		Scenario: "eventful " + hostile, RunID: "test", Seed: 7, Speed: 1, Anchor: time.Unix(1_700_000_000, 0), Topology: top,
		Version: map[string]string{"mailbench": "test", "cluster": hostile},
		Host:    map[string]string{"cpus": "2"},
		Clients: []results.Client{{Name: "mta1", Kind: "mta", Nodes: []string{"sql1", "sql2"}}},
		Trace:   results.Trace{SHA256: strings.Repeat("ab", 32), Messages: 10_000},
		Faults: []results.PlannedFault{
			{ID: "f1-kill-sql1", Kind: "kill", Target: "sql1"}, {ID: "f2-pause-data1", Kind: "pause", Target: "data1"},
			{ID: "f3-" + hostile, Kind: "kill", Target: "host:cyrus2"}, {ID: "f4-never", Kind: "kill", Target: "data4"},
		},
		Objectives: []results.Objective{
			{Name: "routing answers " + hostile, Path: "routing", TargetPPM: 900_000},
			{Name: "everything is quick", TargetPPM: 999_000, LatencyUS: 200_000},
			{Name: "no mail fails", TargetPPM: 1_000_000},
		},
	}, results.Inputs{Scenario: []byte("name: eventful\n")})
	if err != nil {
		t.Fatal(err)
	}
	event := func(at time.Duration, kind chaos.EventKind, name, fault, node string) {
		rec.Event(chaos.Event{At: at, Kind: kind, Name: name, Fault: fault, Node: node})
	}
	event(0, chaos.KindPhase, "measure", "", "")
	event(20*sec, chaos.KindFault, chaos.StepInjected, "f1-kill-sql1", "sql1")
	event(20*sec, chaos.KindCluster, "Disconnected", "", "sql1")
	event(21*sec, chaos.KindFault, chaos.StepEffective, "f1-kill-sql1", "sql1")
	event(30*sec, chaos.KindFault, chaos.StepInjected, "f2-pause-data1", "data1")
	event(31*sec, chaos.KindFault, chaos.StepEffective, "f2-pause-data1", "data1")
	event(32*sec, chaos.KindCluster, "MissedHeartbeat", "", "data1")
	event(40*sec, chaos.KindCluster, "Connected", "", "sql1")
	event(40*sec, chaos.KindFault, chaos.StepRecovered, "f1-kill-sql1", "sql1")
	event(41*sec, chaos.KindFault, chaos.StepRedundant, "f1-kill-sql1", "sql1")
	event(45*sec, chaos.KindFault, chaos.StepRecovered, "f2-pause-data1", "data1")
	event(46*sec, chaos.KindFault, chaos.StepRedundant, "f2-pause-data1", "data1")
	event(100*sec, chaos.KindFault, chaos.StepInjected, "f3-"+hostile, "data2")
	event(101*sec, chaos.KindFault, chaos.StepEffective, "f3-"+hostile, "data2")
	event(100*sec, chaos.KindCluster, "NODE_FAILREP", "", "data2")
	event(110*sec, chaos.KindCluster, "StartPhaseCompleted", "", "data2")
	event(120*sec, chaos.KindPhase, "drain", "", "")

	draw := rand.New(rand.NewPCG(1, 2))
	operations := []reference.Operation{reference.Route, reference.CheckGreylist, reference.ReadPreferences, reference.SetPreference, reference.RouteDelivery}
	broken := ndberr.Result{Class: ndberr.Broken, Effect: ndberr.MayHaveBeen, MySQL: 2013, Retryable: true}
	for i := range 24_000 {
		at := time.Duration(i) * 5 * time.Millisecond
		took := time.Duration(500+draw.ExpFloat64()*3000) * time.Microsecond
		s := workload.Sample{
			Message: uint64(i / 3), Operation: operations[i%len(operations)], Answer: 1, Outcome: workload.OK, Intended: at,
			Attempts: []workload.Attempt{{Node: 6 + topology.ID(i%3), Dispatched: at + 30*time.Microsecond, Ended: at + took}},
		}
		if inFault := at > 20*sec && at < 26*sec || at > 30*sec && at < 34*sec || at > 100*sec && at < 104*sec; inFault && i%3 == 0 {
			took = time.Duration(draw.ExpFloat64() * float64(2*sec))
			s.Outcome = workload.Outcome(2 + draw.IntN(4))
			s.Attempts = []workload.Attempt{
				{Node: 6, Dispatched: at, Ended: at + took, Result: broken},
				{Node: 7, Dispatched: at + took, Ended: at + took + 3*time.Millisecond},
			}
			if s.Outcome != workload.Retried {
				s.Attempts[1].Result = broken
			}
		}
		rec.Record(&s)
	}
	for i := range int64(121) {
		rec.Counter(results.CounterRow{AtUS: i * 1_000_000, Offered: i * 66, InFlight: 3 + i%7, CPUUS: i * 100_000})
	}
	for i := range 150 {
		rec.LedgerRow(results.LedgerRow{Kind: results.Preference, User: hostile, Key: "theme " + strconv.Itoa(i), Verdict: results.Lost, Node: "mta1", Wanted: hostile, Found: hostile})
		rec.Violation(results.Violation{Violation: results.WrongRoute, Operation: "route", User: hostile, Node: "mta1", Wanted: hostile, Found: hostile})
	}
	rec.ReadBack(results.ReadBack{After: hostile, Node: "mta1", AtUS: 119_000_000, TookUS: 500_000, Keys: 300, Broken: 150})
	rec.LedgerSummary(results.LedgerSummary{results.Preference: {Acknowledged: 300, Verified: 150, Lost: 150}})
	if err := rec.Close(results.EndOfRun{At: 121 * sec, Reason: results.Completed}); err != nil {
		t.Fatal(err)
	}
}

func written(t *testing.T, dir string) string {
	t.Helper()
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, HTMLFile))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxPage {
		t.Errorf("the page has %d bytes, at most %d are allowed", len(b), maxPage)
	}
	return string(b)
}

func TestPageTellsWhatTheRunDid(t *testing.T) {
	dir := t.TempDir()
	eventful(t, dir)
	got := written(t, dir)
	if strings.Contains(got, hostile) || strings.Contains(got, "<script>alert") {
		t.Error("a name is not escaped")
	}
	for sentence, want := range map[string]string{
		"the verdict in a sentence":   `<span class="badge">DATA LOSS</span> 150 of 300 keys with acknowledged writes do not hold them.`,
		"why it cannot be relied on":  "fault f4-never (kill data4) was not injected",
		"what a fault cost":           `<th scope="row">1 kill sql1</th>`,
		"the budget left":             "overspent by ",
		"an objective without budget": "no budget, ",
		"lost keys":                   "The first 100 readings are listed; the others are in ledger.jsonl.",
		"a node that is silent":       "data1 silent",
		"a node that starts":          "data2 starting",
		"a client":                    "sql1, sql2",
		"how to repeat it":            "mailbench run scenario.yaml --seed 7",
		"a fault that did not end":    "did not recover",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: the page has no %q", sentence, want)
		}
	}
	for _, outcome := range outcomes {
		if !strings.Contains(got, `<path class="o-`+outcome.String()+`"`) {
			t.Errorf("%s ops are not drawn", outcome)
		}
	}
	for _, outside := range []string{"http:", "https:", "url(", "@import", "src="} {
		if i := strings.Index(got, outside); i >= 0 {
			t.Errorf("the page refers to something outside: %s", got[max(0, i-40):i+40])
		}
	}
}

// TestPageOfAlmostNothing needs no fault, no objective, no sample.
func TestPageOfAlmostNothing(t *testing.T) {
	dir := t.TempDir()
	record(t, dir)
	for _, name := range []string{results.SamplesFile, results.EventsFile, results.CountersFile, results.LedgerFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	got := written(t, dir)
	for _, want := range []string{"INCONCLUSIVE", "samples.mbs is missing", "No fault was planned.", "were not read back"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// TestPageIsBounded draws the worst that a recording can ask for: latencies
// everywhere, many faults, nodes and keys.
func TestPageIsBounded(t *testing.T) {
	dir := t.TempDir()
	top, err := topology.New(topology.Shape{DataNodes: 48, Replicas: 2, SQLHosts: strings.Fields(strings.Repeat("mta ", 48))})
	if err != nil {
		t.Fatal(err)
	}
	m := results.Manifest{Scenario: "worst", Anchor: time.Unix(0, 0), Topology: top}
	for i := range 300 {
		m.Faults = append(m.Faults, results.PlannedFault{ID: strings.Repeat("f", 40) + string(rune('a'+i%26)) + strings.Repeat("x", i), Kind: "kill", Target: "data1,data2,data3"})
	}
	for i := range 12 {
		m.Objectives = append(m.Objectives, results.Objective{Name: strings.Repeat("o", 40+i), TargetPPM: 990_000})
	}
	rec, err := results.Create(dir, m, results.Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewPCG(3, 4))
	for i, f := range m.Faults {
		at := time.Duration(i) * 300 * time.Millisecond
		for k, name := range []string{chaos.StepInjected, chaos.StepEffective, chaos.StepRecovered, chaos.StepRedundant} {
			rec.Event(chaos.Event{At: at + time.Duration(k)*20*time.Millisecond, Kind: chaos.KindFault, Name: name, Fault: f.ID, Node: "data1"})
		}
		for _, n := range top.Nodes {
			name := "Disconnected"
			if i%2 == 1 {
				name = "NDBStartCompleted"
			}
			rec.Event(chaos.Event{At: at, Kind: chaos.KindCluster, Name: name, Node: n.Name})
		}
	}
	for i := range 60_000 {
		at := time.Duration(i) * 100 * time.Second / 60_000
		// All octaves are as likely.
		took := time.Duration(1<<(draw.IntN(29))) * time.Duration(1+draw.IntN(1000)) * time.Microsecond / 1000
		s := workload.Sample{Message: uint64(i), Operation: reference.Operation(1 + i%5), Outcome: workload.Outcome(1 + draw.IntN(5)), Answer: 1, Intended: at,
			Attempts: []workload.Attempt{{Node: 50, Dispatched: at, Ended: at + took, Result: ndberr.Result{Class: ndberr.Timeout}}}}
		rec.Record(&s)
	}
	for i := range 1000 {
		long := strings.Repeat("k", 200)
		rec.LedgerRow(results.LedgerRow{Kind: results.Preference, User: strings.Repeat("u", 200+i), Key: long, Verdict: results.Lost, Wanted: long, Found: long})
		rec.Violation(results.Violation{Violation: results.WrongPreference, User: strings.Repeat("u", 200+i), Wanted: long, Found: long})
	}
	if err := rec.Close(results.EndOfRun{At: 101 * time.Second, Reason: results.Completed}); err != nil {
		t.Fatal(err)
	}
	got := written(t, dir)
	t.Logf("the page has %d bytes", len(got))
	if !strings.Contains(got, "And 100 more faults, in run.json.") {
		t.Error("the page does not say that it leaves faults out")
	}
}

func TestLog2(t *testing.T) {
	for n, want := range map[int64]int64{-5: 0, 0: 0, 1: 0, 2: logScale, 1024: 10 * logScale, 1 << 62: 62 * logScale, 3: 6492, 10: 13606, 1_000_000: 81639} {
		if got := log2(n); got != want {
			t.Errorf("log2 of %d is %d, want %d", n, got, want)
		}
	}
}

func TestShapes(t *testing.T) {
	d := new(drawing)
	d.area("a", []step{{drawn: true, x: 0, lower: 100, upper: 50}, {drawn: true, x: 10, lower: 100, upper: 20}, {x: 20}, {drawn: true, x: 30, lower: 100, upper: 5}}, 40)
	d.line("l", []step{{drawn: true, x: 0, upper: 50}, {drawn: true, x: 10, upper: 20}, {x: 20}}, 40)
	if got, want := d.String(), `<path class="a" d="M0 5H1V2H2V10H0ZM3 0.5H4V10H3Z"/><path class="l" d="M0 5H1V2H2"/>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
