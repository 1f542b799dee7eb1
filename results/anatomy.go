package results

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/topology"
)

// Phase is a line of a fault's anatomy: what one of three was at, from when and
// for how long after the injection.
type Phase struct {
	Who    string `json:"who"` // "harness", "cluster" or "clients"
	What   string `json:"what"`
	Node   string `json:"node,omitempty"` // or the path, of clients
	FromUS int64  `json:"from_us"`        // since the injection
	TookUS *int64 `json:"took_us"`        // null for what has no length, or no end in the recording
}

// Who says a phase.
const (
	byHarness = "harness"
	byCluster = "cluster"
	byClients = "clients"
)

// anatomyKept bounds what is kept of one fault: the cluster's events first come,
// and the outages of a path.
const (
	anatomyKept = 200
	outagesKept = 10
)

// opens and closes are the events that begin and end what takes time (MySQL
// manual, "NDB Cluster Log Events").
var (
	opens = map[string]string{
		"NODE_FAILREP":        "failure handling",
		"GCP_TakeoverStarted": "take-over of the global checkpoint",
		"LCP_TakeoverStarted": "take-over of the local checkpoint",
		"NR_CopyFragsStarted": "copying fragments",
	}
	closes = map[string]string{
		"NodeFailCompleted":     "failure handling",
		"GCP_TakeoverCompleted": "take-over of the global checkpoint",
		"LCP_TakeoverCompleted": "take-over of the local checkpoint",
		"NR_CopyFragsCompleted": "copying fragments",
	}
	moments = map[string]string{
		"Disconnected":       "disconnected",
		"Connected":          "connected",
		"DeadDueToHeartbeat": "declared dead by heartbeats",
		"NDBStopForced":      "shut down by itself",
		"NDBStartCompleted":  "started",
		"NR_CopyDict":        "dictionary copied",
		"NR_CopyDistr":       "distribution copied",
	}
)

// telling says whether an event is of a failure or of the return from it.
func telling(name string) bool {
	switch name {
	case "MissedHeartbeat", "ArbitState", "ArbitResult", "StartPhaseCompleted", restartInfo:
		return true
	}
	return opens[name] != "" || closes[name] != "" || moments[name] != ""
}

// restartInfo is a data node's row of ndbinfo.restart_info. It is read when the
// fault is over.
const restartInfo = "RESTART_INFO"

// keep puts each event to its fault.
func (t *timeline) keep(events []chaos.Event) {
	for _, e := range events {
		if f := t.toldOf(e); f != nil && len(f.said) < anatomyKept {
			f.said = append(f.said, e)
		}
	}
}

// toldOf returns the fault in whose window an event is, the one injected last of
// several, or nil. A row of restart_info, which is read when a fault is over, is of
// the last one that was made on its node.
func (t *timeline) toldOf(e chaos.Event) *fault {
	for n := t.injectedBy(e.At) - 1; n >= 0; n-- {
		f := t.faults[t.order[n]]
		if e.Name == restartInfo {
			if slices.Contains(f.nodes, e.Node) {
				return f
			}
			continue
		}
		if t.latestEnd[n] < e.At {
			return nil
		}
		if _, to, _ := f.window(); to >= e.At {
			return f
		}
	}
	return nil
}

// anatomy lays what the cluster said of a fault, and what the harness did, beside
// what the clients felt.
func anatomy(f *fault, c *faultCounts, length time.Duration, top topology.Topology) []Phase {
	phases := []Phase{}
	if f.injected == nil {
		return phases
	}
	for _, s := range []struct {
		what string
		at   *time.Duration
	}{{"injected", f.injected}, {"effective", f.effective}, {"recovery begun", f.recover}, {"recovered", f.recovered}, {"redundant", f.redundant}} {
		if s.at != nil {
			phases = append(phases, Phase{Who: byHarness, What: s.what, FromUS: (*s.at - *f.injected).Microseconds()})
		}
	}
	phases = append(phases, clusterPhases(f, top)...)
	if c.firstFailed != never {
		phases = append(phases, Phase{Who: byClients, What: "first failed attempt", FromUS: (c.firstFailed - *f.injected).Microseconds()})
	}
	for path, p := range c.paths {
		phases = append(phases, p.outages(path.String(), length)...)
	}
	slices.SortFunc(phases, func(a, b Phase) int {
		return cmp.Or(cmp.Compare(a.FromUS, b.FromUS), cmp.Compare(b.Who, a.Who), cmp.Compare(a.Node, b.Node), cmp.Compare(a.What, b.What))
	})
	return phases
}

// clusterPhases makes phases of events, in the order in which they were recorded.
// What several nodes say is told once, until it is over.
func clusterPhases(f *fault, top topology.Topology) []Phase {
	var phases []Phase
	injected := *f.injected
	running := map[string]int{}              // phases without an end, by what and node
	phaseBegan := map[string]time.Duration{} // when a node's last start phase ended
	link := map[string]string{}              // the last that was said of a node's connection
	arbitration := -1
	add := func(e chaos.Event, what string) int {
		phases = append(phases, Phase{Who: byCluster, What: what, Node: e.Node, FromUS: (e.At - injected).Microseconds()})
		return len(phases) - 1
	}
	took := func(i int, until time.Duration) {
		if i >= 0 && phases[i].TookUS == nil {
			phases[i].TookUS = micros(max(0, until-injected-time.Duration(phases[i].FromUS)*time.Microsecond))
		}
	}
	for _, e := range f.said {
		detail, err := mgm.ParseDetail(e.Name, e.Fields)
		if err != nil {
			detail = nil // what the event says beside its name is not known
		}
		if what := opens[e.Name]; what != "" {
			if _, going := running[what+e.Node]; !going {
				running[what+e.Node] = add(e, what)
			}
			continue
		}
		switch d := detail.(type) {
		case mgm.NodeFailCompleted:
			if !d.All() {
				continue
			}
		case mgm.MissedHeartbeat:
			add(e, fmt.Sprintf("heartbeat missed, %d in a row", d.Count))
		case mgm.ArbitResult:
			if d.Code == mgm.Partitioning {
				arbitration = add(e, "arbitration")
				continue
			}
			took(arbitration, e.At)
			arbitration = -1
			if what := arbitrationResult(d.Code); what != "" {
				add(e, what)
			}
		case mgm.ArbitState:
			if what := arbitratorState(d.Code); what != "" {
				add(e, what)
			}
		case mgm.StartPhaseCompleted:
			began, known := phaseBegan[e.Node]
			phaseBegan[e.Node] = e.At
			if !known { // nobody says when a node's process began
				add(e, fmt.Sprintf("start phase %d over", d.Phase))
				continue
			}
			took(add(chaos.Event{At: began, Node: e.Node}, fmt.Sprintf("start phase %d", d.Phase)), e.At)
		}
		if what := closes[e.Name]; what != "" {
			if i, going := running[what+e.Node]; going {
				took(i, e.At)
				delete(running, what+e.Node)
			}
		}
		if what := moments[e.Name]; what != "" {
			if e.Name == "Connected" || e.Name == "Disconnected" {
				if n, err := top.Node(e.Node); err != nil || n.Role == topology.Management {
					continue // each client that looks on does so
				}
				if link[e.Node] == what {
					continue // another node's view
				}
				link[e.Node] = what
			}
			add(e, what)
		}
		if e.Name == restartInfo {
			until := e.At
			if f.recovered != nil {
				until = min(until, *f.recovered)
			}
			phases = append(phases, restartParts(e, until-injected)...)
		}
	}
	return phases
}

// arbitrationResult words what an arbitration came to.
func arbitrationResult(c mgm.ArbitCode) string {
	switch {
	case c.Wins():
		return "arbitration won"
	case c.Loses():
		return "arbitration lost"
	}
	return ""
}

func arbitratorState(c mgm.ArbitCode) string {
	switch c {
	case mgm.ArbitThreadStart:
		return "arbitrator sought"
	case mgm.ArbitStarted:
		return "arbitrator ready"
	case mgm.ArbitFailed, mgm.ArbitExits:
		return "arbitrator gone"
	}
	return ""
}

// restartColumns are the parts of a restart in the order of ndbinfo.restart_info
// (MySQL manual, "The ndbinfo restart_info Table"), whose seconds follow one
// another.
var restartColumns = []string{
	"secs_to_complete_node_failure", "secs_to_allocate_node_id", "secs_to_include_in_heartbeat_protocol",
	"secs_until_wait_for_ndbcntr_master", "secs_wait_for_ndbcntr_master", "secs_to_get_start_permitted",
	"secs_to_wait_for_lcp_for_copy_meta_data", "secs_to_copy_meta_data", "secs_to_include_node",
	"secs_starting_node_to_request_local_recovery", "secs_for_local_recovery",
	"secs_to_synchronize_starting_node", "secs_wait_lcp_for_restart", "secs_wait_subscription_handover",
}

// restartParts are the parts that took at least a second, the table's resolution.
// The table does not say when they began: that is reckoned back from the end of the
// restart, a time since the injection.
func restartParts(e chaos.Event, until time.Duration) []Phase {
	var phases []Phase
	for _, column := range slices.Backward(restartColumns) {
		seconds, err := strconv.ParseInt(e.Fields[column], 10, 32)
		if err != nil || seconds <= 0 {
			continue
		}
		length := time.Duration(seconds) * time.Second
		until -= length
		what := strings.ReplaceAll(strings.TrimPrefix(column, "secs_"), "_", " ")
		phases = append(phases, Phase{Who: byCluster, What: "restart: " + what, Node: e.Node, FromUS: until.Microseconds(), TookUS: micros(length)})
	}
	return phases
}

// outages are the stretches of slices on a path that were not good, the longest
// if there are many. Slices without ops do not end one.
func (p *faultPath) outages(path string, length time.Duration) []Phase {
	type stretch struct {
		from, to time.Duration
		m        marks
	}
	var found []stretch
	open := false
	for k, m := range p.all() {
		from := time.Duration(k) * sliceLength
		switch {
		case *m == 0 || from >= length:
		case *m == sawFast:
			open = false
		case open && found[len(found)-1].m == kind(*m):
			found[len(found)-1].to = min(from+sliceLength, length)
		default:
			open = true
			found = append(found, stretch{from, min(from+sliceLength, length), kind(*m)})
		}
	}
	slices.SortStableFunc(found, func(a, b stretch) int { return cmp.Compare(b.to-b.from, a.to-a.from) })
	var phases []Phase
	for _, s := range found[:min(len(found), outagesKept)] {
		phases = append(phases, Phase{Who: byClients, What: kindWords[s.m], Node: path, FromUS: s.from.Microseconds(), TookUS: micros(s.to - s.from)})
	}
	return phases
}

// kind is what decides to which span a slice belongs.
func kind(m marks) marks {
	switch {
	case m == sawBad:
		return sawBad
	case m&sawBad != 0:
		return sawBad | sawFast
	default:
		return m & sawSlow
	}
}

var kindWords = map[marks]string{sawBad: "full outage", sawBad | sawFast: "partial outage", sawSlow: "brown-out"}
