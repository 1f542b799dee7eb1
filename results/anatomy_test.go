package results

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
)

// What the cluster says when a data node dies and comes back, as it was recorded
// of a real one, cut down.
func TestAnatomyOfADataNode(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	m.Faults = []PlannedFault{{ID: "f1", Kind: "power-off", Target: "data2"}, {ID: "f2", Kind: "kill", Target: "sql1"}}
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	said := func(at time.Duration, name, node string, fields ...string) {
		e := chaos.Event{At: at, Kind: chaos.KindCluster, Name: name, Node: node, Fields: map[string]string{}}
		for _, f := range fields {
			key, value, _ := strings.Cut(f, "=")
			e.Fields[key] = value
		}
		r.Event(e)
	}
	said(9*sec, "Disconnected", "data2") // before
	r.Event(step(10*sec, "f1", "data2", chaos.StepInjected))
	said(10500*ms, "GlobalCheckpointStarted", "", "gci=7")
	said(11*sec, "MissedHeartbeat", "data2", "count=1", "node=3")
	said(12*sec, "DeadDueToHeartbeat", "data2", "node=3")
	said(12*sec, "ArbitResult", "", "code=458797", "arbit_node=1")
	said(12*sec, "ArbitState", "", "code=458763", "arbit_node=1")
	said(12200*ms, "ArbitResult", "", "code=458798", "arbit_node=1")
	said(12300*ms, "NODE_FAILREP", "data2", "failed_node=3")
	said(12310*ms, "NODE_FAILREP", "data2", "failed_node=3") // by another node
	said(12400*ms, "NodeFailCompleted", "data2", "failed_node=3", "block=250", "completing_node=0")
	said(12500*ms, "Disconnected", "data2")
	said(12510*ms, "Disconnected", "data2")
	said(12520*ms, "Disconnected", "mgm1")
	said(12700*ms, "NodeFailCompleted", "data2", "failed_node=3", "block=0", "completing_node=2")
	said(12800*ms, "NodeFailCompleted", "data2", "failed_node=3", "block=0", "completing_node=0")
	said(13*sec, "GCP_TakeoverStarted", "")
	said(13*sec, "LCP_TakeoverStarted", "")
	said(13100*ms, "GCP_TakeoverCompleted", "") // that of the local checkpoint is not told
	said(13200*ms, "ArbitState", "", "code=not a number")
	r.Event(step(14*sec, "f1", "data2", chaos.StepEffective))
	r.Event(step(15*sec, "f1", "data2", chaos.StepRecover))
	said(16*sec, "Connected", "data2")
	said(16500*ms, "StartPhaseCompleted", "data2", "phase=0", "starttype=2")
	said(16700*ms, "StartPhaseCompleted", "data2", "phase=1", "starttype=2")
	said(17*sec, "NR_CopyFragsStarted", "data2")
	said(18*sec, "NR_CopyFragsCompleted", "data2")
	said(20*sec, "NDBStartCompleted", "data2")
	r.Event(step(20*sec, "f1", "data2", chaos.StepRecovered))
	r.Event(step(21*sec, "f1", "data2", chaos.StepRedundant))
	said(22*sec, "NODE_FAILREP", "data2") // after
	r.Event(step(30*sec, "f2", "sql1", chaos.StepInjected))
	said(31*sec, "RESTART_INFO", "data2", "secs_to_allocate_node_id=0", "secs_to_synchronize_starting_node=3", "secs_wait_lcp_for_restart=2", "total_restart_secs=9")
	if err := r.Close(completed); err != nil {
		t.Fatal(err)
	}
	run := mustJudge(t, dir)
	var lines []string
	for _, p := range run.Faults[0].Anatomy {
		took := "-"
		if p.TookUS != nil {
			took = fmt.Sprint(*p.TookUS / 1000)
		}
		lines = append(lines, fmt.Sprintf("%d %s %s %s: %s", p.FromUS/1000, took, p.Who, p.Node, p.What))
	}
	want := []string{
		"0 - harness : injected",
		"1000 - cluster data2: heartbeat missed, 1 in a row",
		"2000 200 cluster : arbitration",
		"2000 - cluster : arbitrator sought",
		"2000 - cluster data2: declared dead by heartbeats",
		"2200 - cluster : arbitration won",
		"2300 500 cluster data2: failure handling",
		"2500 - cluster data2: disconnected",
		"3000 100 cluster : take-over of the global checkpoint",
		"3000 - cluster : take-over of the local checkpoint",
		"4000 - harness : effective",
		"5000 - harness : recovery begun",
		"5000 3000 cluster data2: restart: to synchronize starting node",
		"6000 - cluster data2: connected",
		"6500 - cluster data2: start phase 0 over",
		"6500 200 cluster data2: start phase 1",
		"7000 1000 cluster data2: copying fragments",
		"8000 2000 cluster data2: restart: wait lcp for restart",
		"10000 - harness : recovered",
		"10000 - cluster data2: started",
		"11000 - harness : redundant",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("anatomy is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if n := len(run.Faults[1].Anatomy); n != 1 {
		t.Errorf("the second fault has %d lines, want its injection", n)
	}
}

// Beside them stands what the clients felt.
func TestAnatomyOfWhatClientsFelt(t *testing.T) {
	dir := t.TempDir()
	slowDeath(t, dir, []Objective{{Name: "in time", TargetPPM: 990_000, LatencyUS: 100_000}})
	var lines []string
	for _, p := range mustJudge(t, dir).Faults[0].Anatomy {
		if p.Who == byClients {
			took := int64(0)
			if p.TookUS != nil {
				took = *p.TookUS / 1000
			}
			lines = append(lines, fmt.Sprintf("%d+%d %s %s", p.FromUS/1000, took, p.Node, p.What))
		}
	}
	want := "0+1000 routing full outage; 1+0  first failed attempt; 1000+1500 routing partial outage; 2500+1500 routing brown-out; 9200+100 routing brown-out"
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("clients felt %s, want %s", got, want)
	}
}
