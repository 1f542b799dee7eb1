package results

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

func course(t testing.TB, dir string) (*Course, *Run) {
	t.Helper()
	r, err := Salvage(dir)
	if err != nil {
		t.Fatal(err)
	}
	run, _, c, err := JudgeAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return c, run
}

// TestCourseOfTwoKills holds the course of a recording that twoKills describes
// against what was judged from it.
func TestCourseOfTwoKills(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	c, run := course(t, dir)
	if c.FromUS != 1_000_000 || c.ToUS != 62_000_000 || c.ColumnUS != 200_000 || len(c.Columns) != 305 {
		t.Errorf("%d to %d µs in %d columns of %d µs", c.FromUS, c.ToUS, len(c.Columns), c.ColumnUS)
	}
	var ops, failed, attempts, responses int64
	bad := make([]int64, len(run.Objectives))
	for i := range c.Columns {
		col := &c.Columns[i]
		ops += col.Ops()
		failed += col.Outcomes[workload.Failed]
		attempts += col.Errors
		responses += col.Response.Total()
		for o, n := range col.Bad {
			bad[o] += n
		}
	}
	var wantOps, wantFailed, wantAttempts int64
	for path, p := range run.Paths {
		wantOps, wantFailed = wantOps+p.Count, wantFailed+p.Failed
		if p.Count == 0 {
			continue
		}
		for _, known := range reference.Paths {
			if known.String() == path && *c.Response[known].summary() != *p.ResponseUS {
				t.Errorf("%s: %+v, want %+v", path, c.Response[known].summary(), p.ResponseUS)
			}
		}
	}
	for _, e := range run.Errors {
		wantAttempts += e.Attempts
	}
	if ops != wantOps || responses != wantOps || failed != wantFailed || attempts != wantAttempts || ops == 0 || failed == 0 {
		t.Errorf("%d ops (%d timed), %d failed, %d failed attempts; the run has %d, %d, %d", ops, responses, failed, attempts, wantOps, wantFailed, wantAttempts)
	}
	for i, o := range run.Objectives {
		if bad[i] != o.Bad {
			t.Errorf("%s: %d bad events, the run has %d", o.Name, bad[i], o.Bad)
		}
	}
	for i, o := range run.Objectives {
		if last := c.Columns[len(c.Columns)-1].Spent[i]; *last != *o.BudgetSpent || *c.Columns[0].Spent[i] != 0 {
			t.Errorf("%s: %v of the budget is spent at the end, the run has %v", o.Name, last, o.BudgetSpent)
		}
	}
	merged := c.Merged(100)
	var mergedOps, mergedBad, mergedTimed int64
	for i := range merged.Columns {
		mergedOps += merged.Columns[i].Ops()
		mergedBad += merged.Columns[i].Bad[0]
		mergedTimed += merged.Columns[i].Response.Total()
	}
	if len(merged.Columns) != 77 || merged.ColumnUS != 800_000 || mergedOps != ops || mergedTimed != ops || mergedBad != bad[0] ||
		*merged.Columns[76].Spent[0] != *run.Objectives[0].BudgetSpent || c.Merged(305) != c {
		t.Errorf("merged: %d columns of %d µs, %d ops, %d bad", len(merged.Columns), merged.ColumnUS, mergedOps, mergedBad)
	}
	// 10.0 to 10.2 s: 20 messages are not routed, nor greylisted, and two pages read.
	if col := c.Columns[45]; col.Outcomes[workload.Failed] != 40 || col.Outcomes[workload.OK] != 3 {
		t.Errorf("while sql1 is dead: %v", col.Outcomes)
	}

	nodes := map[string]string{}
	for _, n := range c.Nodes {
		for _, s := range n.Spans {
			nodes[n.Node] += fmt.Sprintf("%s %d-%d ms ", s.State, s.FromUS/1000, s.ToUS/1000)
		}
	}
	for node, want := range map[string]string{
		"mgm1": "up 1000-62000 ms ", "data1": "up 1000-30010 ms down 30010-62000 ms ", "sql1": "up 1000-9000 ms down 9000-62000 ms ",
	} {
		if nodes[node] != want {
			t.Errorf("%s is %q, want %q", node, nodes[node], want)
		}
	}
	phases := ""
	for _, f := range c.Faults {
		phases += fmt.Sprintf("%s %v-%v-%v-%v ", f.ID, f.beforeFrom, f.from, f.to, f.afterTo)
		if f.Before[reference.Routing].Total() == 0 || f.During[reference.Routing].Total() == 0 || f.After[reference.Routing].Total() == 0 {
			t.Errorf("%s: no latencies before, during or after it", f.ID)
		}
	}
	if want := "f1 1s-10s-15s-30s f2 15s-30s-42s-1m2s "; phases != want {
		t.Errorf("faults are %q, want %q", phases, want)
	}
	if slow := c.Faults[1].After[reference.Routing].MaxUS(); slow != 2_000_000 {
		t.Errorf("the slow op at 50 s: %d µs", slow)
	}
}

func TestColumnsAreBounded(t *testing.T) {
	for length, want := range map[time.Duration]time.Duration{
		0: 100 * ms, 40 * sec: 100 * ms, 41 * sec: 200 * ms, 3 * time.Minute: 500 * ms, 10 * time.Minute: 2 * sec,
		24 * time.Hour: 500 * sec, 1e6 * time.Hour: 1e7 * sec,
	} {
		if got := columnWidth(length); got != want || length > maxColumns*got {
			t.Errorf("%v is cut into columns of %v, want %v", length, got, want)
		}
	}
}

// TestCourseOfACrash needs no end of the recording.
func TestCourseOfACrash(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	if err := os.WriteFile(filepath.Join(dir, EventsFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := course(t, dir)
	var ops int64
	for i := range c.Columns {
		ops += c.Columns[i].Ops()
	}
	if c.FromUS != 0 || c.ToUS < 60_000_000 || c.ToUS > 61_000_000 || ops == 0 {
		t.Errorf("%d to %d µs, %d ops", c.FromUS, c.ToUS, ops)
	}
	if err := os.Remove(filepath.Join(dir, SamplesFile)); err != nil {
		t.Fatal(err)
	}
	if c, _ := course(t, dir); len(c.Columns) != 1 || c.Columns[0].Ops() != 0 {
		t.Errorf("without samples: %d columns", len(c.Columns))
	}
}

func TestHistogramIsCloseToExact(t *testing.T) {
	var h, other Histogram
	for us := int64(1); us <= 10_000; us++ {
		if us%2 == 0 {
			h.add(us)
		} else {
			other.add(us)
		}
	}
	h.Merge(&other)
	h.Merge(nil)
	for ppm, want := range map[int64]int64{0: 1, 500_000: 5000, 990_000: 9900, 999_900: 9999, 1_000_000: 10_000} {
		if got := h.QuantileUS(ppm); got < want || got > want+want/31+1 {
			t.Errorf("the quantile of %d millionths is %d µs, exactly %d", ppm, got, want)
		}
	}
	var sum int64
	for row, n := range h.Rows(1) {
		sum += n
		if RowEndUS(row, 1) < 1 {
			t.Errorf("row %d ends at %d µs", row, RowEndUS(row, 1))
		}
	}
	if sum != h.Total() || h.MaxUS() != 10_000 {
		t.Errorf("%d of %d are in rows, the longest is %d µs", sum, h.Total(), h.MaxUS())
	}
}

func TestNodeStates(t *testing.T) {
	for _, row := range []struct {
		sentence, event string
		role            topology.Role
		now, want       NodeState
	}{
		{"a missed heartbeat makes a node silent", "MissedHeartbeat", topology.Data, NodeUp, NodeSilent},
		{"a node that is down misses them too", "MissedHeartbeat", topology.Data, NodeDown, NodeDown},
		{"a silent node that is counted as failed is down", "NODE_FAILREP", topology.Data, NodeSilent, NodeDown},
		{"a connected data node has yet to start", "Connected", topology.Data, NodeDown, NodeStarting},
		{"a connected SQL node is up", "Connected", topology.SQL, NodeDown, NodeUp},
		{"another connection to a node that is up changes nothing", "Connected", topology.Data, NodeUp, NodeUp},
		{"a start phase", "StartPhaseCompleted", topology.Data, NodeDown, NodeStarting},
		{"the end of a start", "NDBStartCompleted", topology.Data, NodeStarting, NodeUp},
		{"a fault that is taken back in time ends the silence", chaos.StepRecovered, topology.Data, NodeSilent, NodeUp},
		{"a checkpoint says nothing of a node", "LocalCheckpointStarted", topology.Data, NodeUp, NodeUp},
	} {
		if got := row.now.After(row.event, row.role); got != row.want {
			t.Errorf("%s: got %s, want %s", row.sentence, got, row.want)
		}
	}
}

func TestPercentilesForTheLibrary(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	c, run := course(t, dir)
	h, err := c.Response[reference.Routing].HDR()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if _, err := h.PercentilesPrint(&b, 5, 1000); err != nil {
		t.Fatal(err)
	}
	want := run.Paths["routing"]
	if h.TotalCount() != want.Count || !strings.Contains(b.String(), fmt.Sprintf("Total count    = %12d]", want.Count)) ||
		h.ValueAtPercentile(50) != want.ResponseUS.P50 {
		t.Errorf("%d ops, median %d µs; want %d, %d", h.TotalCount(), h.ValueAtPercentile(50), want.Count, want.ResponseUS.P50)
	}
}
