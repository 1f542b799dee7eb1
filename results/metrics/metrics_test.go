package metrics

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
	"gotest.tools/v3/golden"
)

const ms = time.Millisecond

func manifest(t testing.TB) results.Manifest {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	return results.Manifest{
		Scenario: "small", RunID: "test", Seed: 1<<64 - 1, Topology: top,
		Faults:     []results.PlannedFault{{ID: "f1", Kind: "kill", Target: "sql1"}},
		Objectives: []results.Objective{{Name: `all "mail"`, TargetPPM: 900_000, LatencyUS: 50_000}},
	}
}

// played counts a fixed course of things.
func played(t *testing.T) *Metrics {
	t.Helper()
	x := New(manifest(t))
	op := func(o reference.Operation, outcome workload.Outcome, took time.Duration, attempts ...workload.Attempt) {
		if attempts == nil {
			attempts = []workload.Attempt{{Node: 4, Dispatched: ms, Ended: took}}
		}
		x.Record(&workload.Sample{Operation: o, Outcome: outcome, Attempts: attempts})
	}
	op(reference.Route, workload.OK, 3*ms)
	op(reference.Route, workload.OK, 70*ms) // good, and too late for the objective
	op(reference.CheckGreylist, workload.Retried, 0,
		workload.Attempt{Node: 4, Ended: 2 * ms, Result: ndberr.Result{Class: ndberr.Connect, MySQL: 2003}},
		workload.Attempt{Node: 5, Dispatched: 3 * ms, Ended: 9 * ms})
	op(reference.SetPreference, workload.Failed, 0,
		workload.Attempt{Node: 99, Ended: 2 * ms, Result: ndberr.Result{Class: 250}})
	event := func(name, fault, kind string) {
		x.Event(chaos.Event{Kind: chaos.KindFault, Name: name, Fault: fault, Fields: map[string]string{"kind": kind}})
	}
	event(chaos.StepInjected, "f1", "kill")
	event(chaos.StepInjected, "surprise", "kill")
	x.Counter(results.CounterRow{Offered: 4, InFlight: 3, CPUUS: 1_500_000, Nodes: map[string]results.NodeUsage{
		"sql1": {CPUUS: 2_000_000, MemoryBytes: 1000}, "stranger": {CPUUS: 1},
	}})
	x.Counter(results.CounterRow{Offered: 4, InFlight: 3, CPUUS: 1_500_000}) // nothing is told of nodes
	x.Counter(results.CounterRow{Offered: 9, InFlight: 1, CPUUS: 2_000_000, Nodes: map[string]results.NodeUsage{
		"sql1": {CPUUS: 250_000, MemoryBytes: 900}, // its process is another one
	}})
	return x
}

func text(t *testing.T, x *Metrics) string {
	t.Helper()
	var b bytes.Buffer
	if err := x.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	x := played(t)
	spent, us := results.Decimal(500_000), int64(1_200_000)
	x.Judged(&results.Run{
		Scenario: "small", RunID: "test", Seed: 1<<64 - 1, Verdict: results.Violated,
		Objectives: []results.ObjectiveResult{{Name: `all "mail"`, Target: 900_000, BudgetSpent: &spent}},
		Faults: []results.FaultResult{
			{ID: "f1", Kind: "kill", Charge: results.Charge{BadOps: 1, BudgetSpent: &spent},
				Spans: results.Spans{Redundant: &us},
				Paths: map[string]results.FaultPath{"routing": {OutageSpans: results.OutageSpans{FullOutage: &us}}, "greylist": {}}},
			{ID: "surprise", Kind: "kill"},
		},
		Ledger: &results.LedgerResult{LedgerCounts: results.LedgerCounts{Acknowledged: 4, Verified: 2, Lost: 1, Allowed: 1}, Violations: results.ViolationCounts{LetThrough: 5}},
	})
	golden.Assert(t, text(t, x), "metrics.golden")
}

// TestValues holds values, not the presence of names.
func TestValues(t *testing.T) {
	x := played(t)
	got := text(t, x)
	for sentence, want := range map[string]string{
		"an attempt without an error":             `db_client_operation_duration_seconds_bucket{db_operation_name="route",db_system_name="mysql",error_type="",server_address="sql1",le="0.005"} 1`,
		"an attempt that found nobody":            `db_client_operation_duration_seconds_count{db_operation_name="check",db_system_name="mysql",error_type="connect",server_address="sql1"} 1`,
		"a node and a class that nobody knows":    `db_client_operation_duration_seconds_count{db_operation_name="set",db_system_name="mysql",error_type="_OTHER",server_address="other"} 1`,
		"an op by its outcome":                    `mailbench_ops_total{outcome="retried",path="greylist"} 1.0`,
		"late and failed events spend the budget": `mailbench_objective_events_total{objective="all \"mail\"",quality="bad"} 2.0`,
		"the other events are good":               `mailbench_objective_events_total{objective="all \"mail\"",quality="good"} 2.0`,
		"a fault is open":                         `mailbench_fault_open{fault="f1",kind="kill"} 1.0`,
		"a level is that of the last row":         `mailbench_sessions_in_flight 1.0`,
		"a counter is that of the last row":       `mailbench_sessions_offered_total 9.0`,
		"a node that was started again goes on":   `mailbench_node_cpu_seconds_total{node="sql1"} 2.25`,
		"the text ends as OpenMetrics wants it":   "# EOF\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: there is no %s in\n%s", sentence, want, got)
		}
	}
	for _, stranger := range []string{"stranger", "surprise"} {
		if strings.Contains(got, stranger) {
			t.Errorf("%s has a series, although the manifest does not name it", stranger)
		}
	}
	x.Event(chaos.Event{Kind: chaos.KindFault, Name: chaos.StepRedundant, Fault: "f1"})
	if got := text(t, x); !strings.Contains(got, `mailbench_fault_open{fault="f1",kind="kill"} 0.0`) {
		t.Errorf("the fault is not over:\n%s", got)
	}
}

// TestLabelsAreBounded plays more faults than have series.
func TestLabelsAreBounded(t *testing.T) {
	m := manifest(t)
	m.Faults = nil
	for i := range 3 * maxFaults {
		m.Faults = append(m.Faults, results.PlannedFault{ID: strings.Repeat("f", i+1), Kind: "kill"})
	}
	x := New(m)
	for _, f := range m.Faults {
		x.Event(chaos.Event{Kind: chaos.KindFault, Name: chaos.StepInjected, Fault: f.ID})
	}
	if n := len(regexp.MustCompile(`(?m)^mailbench_fault_open\{`).FindAllString(text(t, x), -1)); n != maxFaults {
		t.Errorf("%d faults have a series, want %d", n, maxFaults)
	}
}
