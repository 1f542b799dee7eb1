package results

import (
	"fmt"
	"time"

	"github.com/mailbench/mailbench/chaos"
)

// Names of the files of a recording, in its run directory.
const (
	ManifestFile = "manifest.json"
	ScenarioFile = "scenario.yaml"
	ProfileFile  = "profile.yaml"    // only where the scenario names a file of its own
	openSLOFile  = "openslo-%d.yaml" // the OpenSLO documents that the scenario names, from 1
	SchemaFolder = "schema"          // files that took the place of reference/schema's, if any
	SamplesFile  = "samples.mbs"
	CountersFile = "counters.jsonl"
	EventsFile   = "events.jsonl"
	LedgerFile   = "ledger.jsonl"
)

// maxTime is the largest time that a recording may hold, either side of its
// anchor: 10^15 µs, 31 years. Differences of two such times do not overflow.
const maxTime = 1e15 * time.Microsecond

// CounterRow is one line of counters.jsonl: what the generator knows of
// itself. Offered, Completed, GCPauseTotalUS and CPUUS count up from the start
// of the process; the others are levels.
type CounterRow struct {
	AtUS           int64 `json:"at_us"`             // since the anchor
	Offered        int64 `json:"offered"`           // messages and webmail actions whose time has come
	Completed      int64 `json:"completed"`         // ops that ended, however they ended
	InFlight       int64 `json:"in_flight"`         // messages and webmail actions under way
	Goroutines     int64 `json:"goroutines"`        // of this process
	HeapBytes      int64 `json:"heap_bytes"`        // live and not yet swept
	GCPauseTotalUS int64 `json:"gc_pause_total_us"` // stop-the-world pauses
	CPUUS          int64 `json:"cpu_us"`            // user and system time of this process

	Nodes  map[string]NodeUsage `json:"nodes,omitempty"` // running nodes of the target, by name
	Fill   map[string]Fill      `json:"fill,omitempty"`  // of data nodes, by name; only in rows after it was learned
	*Epoch                      // nil where none was learned since the row before
	*Noise                      // nil where the generator did not watch for it
}

// Noise is what delays ops and is not the target's doing. The first three tell
// of the time since the row before; the other two count up from the machine's
// start.
type Noise struct {
	SchedP999US  int64 `json:"sched_p999_us"`   // 99.9 % of the goroutines that became ready ran within it
	GCPauseMaxUS int64 `json:"gc_pause_max_us"` // longest stop-the-world pause for the garbage collector
	ClockStepUS  int64 `json:"clock_step_us"`   // by how much the wall clock gained on the monotonic one
	StealUS      int64 `json:"steal_us"`        // time that a virtual machine's host kept its processors back
	MachineUS    int64 `json:"machine_us"`      // time of all processors, whatever they did
}

// Epoch is the global checkpoint that a write of the harness's own became part
// of. What was acknowledged before its dispatch is of the same one or an earlier
// one.
type Epoch struct {
	DispatchedUS int64 `json:"epoch_at_us"` // since the anchor
	GCI          int64 `json:"gci"`         // global checkpoint index
}

// NodeUsage is what a node of the target has used.
type NodeUsage struct {
	CPUUS       int64 `json:"cpu_us"`       // since its process last started
	MemoryBytes int64 `json:"memory_bytes"` // now, file cache included
}

// Fill is how full a data node is.
type Fill struct {
	DataMemoryBytes      int64 `json:"data_memory_bytes"`       // pages in use
	DataMemoryTotalBytes int64 `json:"data_memory_total_bytes"` // pages there are
	RedoBytes            int64 `json:"redo_bytes"`              // of the redo log, what no local checkpoint covers yet
	RedoTotalBytes       int64 `json:"redo_total_bytes"`
}

// EndReason says why a run ended.
type EndReason string

// The reasons. Only a completed run can pass.
const (
	Completed   EndReason = "completed"
	Interrupted EndReason = "interrupted"
	Failed      EndReason = "failed"
)

// EndOfRun is the last thing that a recording learns.
type EndOfRun struct {
	At     time.Duration // since the anchor
	Reason EndReason
	Error  string // what failed, "" for nothing
	ReplayEnd
}

// ReplayEnd is what the replay knows of ops that no sample tells of.
type ReplayEnd struct {
	CutShort int64 `json:"cut_short"` // sessions that the end of the drain cut short
	Waited   int64 `json:"waited"`    // sessions that had to wait because too many others were under way
	// Ops that were never asked, because one before them in their session had no
	// answer: greylist checks of recipients that were turned away for want of a
	// route, and preferences of a form whose page was aborted.
	ChecksNotAsked int64 `json:"checks_not_asked"`
	SavesNotAsked  int64 `json:"saves_not_asked"`
	// Changes of an account that were left because the one before was refused or
	// had no answer.
	ChangesNotAsked int64 `json:"changes_not_asked,omitempty"`
	// Sessions that found no room among those under way: tries whose peer was told
	// to come back, and sessions that were left out.
	PutOff  int64 `json:"put_off,omitempty"`
	Dropped int64 `json:"dropped,omitempty"`
	// Tries after a message's first, those that would come after the window's end,
	// and recipients whose peer does not come back.
	Tries     int64 `json:"tries,omitempty"`
	TriesLeft int64 `json:"tries_left,omitempty"`
	GivenUp   int64 `json:"given_up,omitempty"`
}

// kindEnd is the kind of the event that closes a recording: Name is the
// EndReason, Fields["samples"] the number of samples written.
const kindEnd chaos.EventKind = "end"

// eventLine is a line of events.jsonl.
type eventLine struct {
	AtUS   int64             `json:"at_us"`
	Kind   chaos.EventKind   `json:"kind"`
	Name   string            `json:"name"`
	Fault  string            `json:"fault,omitempty"`
	Node   string            `json:"node,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

func (l eventLine) event() (chaos.Event, error) {
	at, err := fromMicros(l.AtUS)
	if err != nil {
		return chaos.Event{}, err
	}
	return chaos.Event{At: at, Kind: l.Kind, Name: l.Name, Fault: l.Fault, Node: l.Node, Fields: l.Fields}, nil
}

func fromMicros(us int64) (time.Duration, error) {
	if us > maxTime.Microseconds() || us < -maxTime.Microseconds() {
		return 0, fmt.Errorf("time of %d µs is out of range", us)
	}
	return time.Duration(us) * time.Microsecond, nil
}

// counts names the counts of a ReplayEnd as the end event's fields do.
func (e *ReplayEnd) counts() map[string]*int64 {
	return map[string]*int64{
		"cut_short": &e.CutShort, "waited": &e.Waited,
		"checks_not_asked": &e.ChecksNotAsked, "saves_not_asked": &e.SavesNotAsked,
		"changes_not_asked": &e.ChangesNotAsked,
		"put_off":           &e.PutOff, "dropped": &e.Dropped,
		"tries": &e.Tries, "tries_left": &e.TriesLeft, "given_up": &e.GivenUp,
	}
}
