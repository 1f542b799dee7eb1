package scenarios

import (
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// TestClientsFeelAFault holds the rule: so many attempts that failed or were
// slow, on the fault's nodes, since it was made, and far more than before.
func TestClientsFeelAFault(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	const sql1, sql2 = topology.ID(4), topology.ID(5)
	anchor := time.Now()
	attempt := func(node topology.ID, at, took time.Duration, class ndberr.Class) workload.Attempt {
		a := workload.Attempt{Node: node, Dispatched: at - took, Ended: at}
		a.Result.Class = class
		return a
	}
	// Before the fault, at 100 s: 1000 quick attempts, and as many as say that failed.
	for _, row := range []struct {
		sentence string
		node     string
		failedBy int // of 1000 before
		during   []workload.Attempt
		felt     bool
	}{
		{"nothing happened", "sql1", 0, nil, false},
		{"quick answers are no effect", "sql1", 0, []workload.Attempt{
			attempt(sql1, 101*time.Second, time.Millisecond, ndberr.None), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.None), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.None)}, false},
		{"three failures are", "sql1", 0, []workload.Attempt{
			attempt(sql1, 101*time.Second, time.Millisecond, ndberr.Connect), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.Connect), attempt(sql1, 102*time.Second, time.Millisecond, ndberr.Broken)}, true},
		{"two may be bad luck", "sql1", 0, []workload.Attempt{
			attempt(sql1, 101*time.Second, time.Millisecond, ndberr.Connect), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.Connect)}, false},
		{"failures of another node are another's", "sql1", 0, []workload.Attempt{
			attempt(sql2, 101*time.Second, time.Millisecond, ndberr.Connect), attempt(sql2, 101*time.Second, time.Millisecond, ndberr.Connect), attempt(sql2, 102*time.Second, time.Millisecond, ndberr.Broken)}, false},
		{"a fault of a data node shows on any SQL node", "data1", 0, []workload.Attempt{
			attempt(sql2, 101*time.Second, time.Millisecond, ndberr.Temporary), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.Temporary), attempt(sql2, 102*time.Second, time.Millisecond, ndberr.LockTimeout)}, true},
		{"what ended before the fault is not of it", "sql1", 0, []workload.Attempt{
			attempt(sql1, 99*time.Second, time.Millisecond, ndberr.Connect), attempt(sql1, 99*time.Second, time.Millisecond, ndberr.Connect), attempt(sql1, 99*time.Second, time.Millisecond, ndberr.Connect)}, false},
		{"slow answers are an effect, begun before the fault too", "sql1", 0, []workload.Attempt{
			attempt(sql1, 101*time.Second, 300*time.Millisecond, ndberr.None), attempt(sql1, 101*time.Second, 1500*time.Millisecond, ndberr.None), attempt(sql1, 102*time.Second, time.Second, ndberr.None)}, true},
		{"failures as frequent as before are none", "sql1", 500, []workload.Attempt{
			attempt(sql1, 101*time.Second, time.Millisecond, ndberr.LockTimeout), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.LockTimeout), attempt(sql1, 102*time.Second, time.Millisecond, ndberr.LockTimeout)}, false},
		{"thirty that all fail are an effect, though every fifth failed before", "sql1", 200,
			slices.Repeat([]workload.Attempt{attempt(sql1, 101*time.Second, time.Millisecond, ndberr.NoCluster)}, 30), true},
		{"every second of them is not enough then", "sql1", 200, slices.Repeat([]workload.Attempt{
			attempt(sql1, 101*time.Second, time.Millisecond, ndberr.NoCluster), attempt(sql1, 101*time.Second, time.Millisecond, ndberr.None)}, 30), false},
	} {
		f := newFeeler(layout, anchor)
		record := func(a workload.Attempt) { f.Record(&workload.Sample{Attempts: []workload.Attempt{a}}) }
		for i := range 1000 {
			class := ndberr.None
			if i < row.failedBy {
				class = ndberr.LockTimeout
			}
			record(attempt(sql1, time.Duration(i)*50*time.Millisecond, 2*time.Millisecond, class))
		}
		f.Event(chaos.Event{At: 100 * time.Second, Kind: chaos.KindFault, Name: chaos.StepInjected, Fault: "f1", Node: row.node})
		for _, a := range row.during {
			record(a)
		}
		evidence, felt := f.Felt(anchor.Add(100 * time.Second))
		if felt != row.felt {
			t.Errorf("%s: felt %t (%s)", row.sentence, felt, evidence.Detail)
		}
		if felt && evidence.At.Before(anchor.Add(100*time.Second)) {
			t.Errorf("%s: the evidence is from before the fault", row.sentence)
		}
	}
}

// TestSlowIsMeasuredAgainstBefore: where answers were slow anyway, a fault must
// make them much slower.
func TestSlowIsMeasuredAgainstBefore(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	anchor := time.Now()
	for _, row := range []struct {
		sentence string
		took     time.Duration
		felt     bool
	}{
		{"five times as slow is not enough", 500 * time.Millisecond, false},
		{"eleven times is", 1100 * time.Millisecond, true},
	} {
		f := newFeeler(layout, anchor)
		record := func(at, took time.Duration) {
			f.Record(&workload.Sample{Attempts: []workload.Attempt{{Node: 4, Dispatched: at - took, Ended: at}}})
		}
		for i := range 1000 {
			record(time.Duration(i)*time.Millisecond, 100*time.Millisecond)
		}
		f.Event(chaos.Event{Kind: chaos.KindFault, Name: chaos.StepInjected, Fault: "f1", Node: "data1"})
		for range 3 {
			record(3*time.Second, row.took)
		}
		if _, felt := f.Felt(anchor.Add(2 * time.Second)); felt != row.felt {
			t.Errorf("%s: felt %t", row.sentence, felt)
		}
	}
}
