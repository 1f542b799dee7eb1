package mgm

import (
	"fmt"
	"strconv"

	"github.com/mailbench/mailbench/reference/topology"
)

// Detail is what an event says, taken apart: a value of one of the types of this
// file that are named as NDB names the event.
type Detail interface{ detail() }

type (
	// StartPhaseCompleted says that a starting data node has gone through a phase,
	// 0 to 9, and 50 and 101 at the end. Before phase 2 a node that restarts alone
	// still calls its start a system restart.
	StartPhaseCompleted struct {
		Phase int
		Kind  StartKind
	}

	// StartREDOLog says to which global checkpoint a data node reads its redo log:
	// at a system restart nothing after Restorable comes back.
	StartREDOLog struct {
		Node                        topology.ID
		Keep, Completed, Restorable GCI
	}

	// GlobalCheckpointStarted says that the master has begun to make the commits up
	// to a checkpoint durable.
	GlobalCheckpointStarted struct{ GCI GCI }

	// GlobalCheckpointCompleted says that all commits up to a checkpoint are on the
	// disks of all data nodes.
	GlobalCheckpointCompleted struct{ GCI GCI }

	// LocalCheckpointStarted says that the data nodes have begun to write their
	// memory to disk. Redo logs from Keep on are kept; Restore is the oldest
	// checkpoint that can be restored.
	LocalCheckpointStarted struct {
		LCP           uint32 // number of the local checkpoint
		Keep, Restore GCI
	}

	// LocalCheckpointCompleted says that the data nodes have done so.
	LocalCheckpointCompleted struct{ LCP uint32 }

	// NodeFailed (NODE_FAILREP) says that the cluster has excluded a node.
	NodeFailed struct{ Node topology.ID }

	// NodeFailCompleted says that a block of a surviving node's kernel, or all of
	// them, have handled a node's failure.
	NodeFailCompleted struct {
		Node  topology.ID // that failed
		Block int         // number of the block, 0 for all
		By    topology.ID // the surviving node; 0 for all, and where Block is not 0
	}

	// ArbitState says how a data node stands with the arbitrator.
	ArbitState struct {
		Code       ArbitCode
		Arbitrator topology.ID // 0 if none is chosen
	}

	// ArbitResult says whether the nodes that see each other may go on after others
	// have failed.
	ArbitResult struct {
		Code       ArbitCode
		Arbitrator topology.ID // 0 if none is chosen
	}

	// MissedHeartbeat says that a node has not been heard of for Count heartbeats.
	// After the fourth it is dead.
	MissedHeartbeat struct {
		Node  topology.ID
		Count int
	}

	// DeadDueToHeartbeat says that a node counts as failed for its silence.
	DeadDueToHeartbeat struct{ Node topology.ID }

	// StopStarted (NDBStopStarted) says that a data node has begun to stop in order.
	StopStarted struct {
		System bool // it stops with the whole cluster
	}

	// StopCompleted (NDBStopCompleted) says that a data node has stopped in order.
	// Its process ends, or its angel forks another. A management server always
	// restarts nodes with NoStart and tells them to start afterwards.
	StopCompleted struct {
		Restart, NoStart, Initial bool
		Signal                    int // that it was stopped by, 0 if none
	}

	// StopForced (NDBStopForced) says that a data node's process has ended itself,
	// or was ended by a signal that it could still report.
	StopForced struct {
		Signal     int // 0 if none
		ExitCode   int // of include/mgmapi/ndbd_exit_codes.h, such as 2305 for lost arbitration; 0 if none
		StartPhase int // in which it was, 255 if it was not starting
		Extra      int // more about ExitCode
	}
)

func (StartPhaseCompleted) detail()       {}
func (StartREDOLog) detail()              {}
func (GlobalCheckpointStarted) detail()   {}
func (GlobalCheckpointCompleted) detail() {}
func (LocalCheckpointStarted) detail()    {}
func (LocalCheckpointCompleted) detail()  {}
func (NodeFailed) detail()                {}
func (NodeFailCompleted) detail()         {}
func (ArbitState) detail()                {}
func (ArbitResult) detail()               {}
func (MissedHeartbeat) detail()           {}
func (DeadDueToHeartbeat) detail()        {}
func (StopStarted) detail()               {}
func (StopCompleted) detail()             {}
func (StopForced) detail()                {}

// All says whether the failure is handled by all blocks of all nodes.
func (n NodeFailCompleted) All() bool { return n.Block == 0 && n.By == 0 }

// GCI is the number of a global checkpoint: the upper half of an epoch.
type GCI uint32

// StartKind is how a data node starts.
type StartKind int

// The kinds of start (NodeState::StartType).
const (
	InitialStart       StartKind = 0 // of all data nodes, from empty disks
	SystemRestart      StartKind = 1 // of all data nodes, from their disks
	NodeRestart        StartKind = 2 // of one, from its disk and from others
	InitialNodeRestart StartKind = 3 // of one, from others
)

// String spells a kind of start as the manual does.
func (k StartKind) String() string {
	switch k {
	case InitialStart:
		return "initial start"
	case SystemRestart:
		return "system restart"
	case NodeRestart:
		return "node restart"
	case InitialNodeRestart:
		return "initial node restart"
	default:
		return fmt.Sprintf("start of kind %d", int(k))
	}
}

// ArbitCode says what arbitration came to (ArbitCode in
// include/kernel/signaldata/ArbitSignalData.hpp).
type ArbitCode int

// The codes of ArbitState.
const (
	ArbitThreadStart ArbitCode = 11 // the president begins to look for an arbitrator
	ArbitPrepared    ArbitCode = 22 // the president hands out the arbitrator
	ArbitReceived    ArbitCode = 23 // a node that starts learns of the arbitrator
	ArbitStarted     ArbitCode = 31 // the arbitrator is ready
	ArbitFailed      ArbitCode = 32 // the arbitrator has died
	ArbitExits       ArbitCode = 33 // the arbitrator has said that it ends
)

// The codes of ArbitResult.
const (
	LoseNodes    ArbitCode = 41 // less than half of the nodes are left
	WinNodes     ArbitCode = 42 // more than half are left, and every node group
	WinGroups    ArbitCode = 43 // a whole node group is left: nobody else can win
	LoseGroups   ArbitCode = 44 // a node group is gone
	Partitioning ArbitCode = 45 // it may be a partition: the arbitrator is asked
	WinChoose    ArbitCode = 46 // the arbitrator said yes
	LoseChoose   ArbitCode = 47 // the arbitrator said no
	LoseNoRun    ArbitCode = 48 // an arbitrator was needed and none ran
	LoseNoConfig ArbitCode = 49 // an arbitrator was needed and none is configured
)

// Wins says whether the nodes go on.
func (c ArbitCode) Wins() bool { return c == WinNodes || c == WinGroups || c == WinChoose }

// Loses says whether the nodes shut down.
func (c ArbitCode) Loses() bool {
	switch c {
	case LoseNodes, LoseGroups, LoseChoose, LoseNoRun, LoseNoConfig:
		return true
	}
	return false
}

// Detail takes an event apart. It is nil for a type that no Detail describes,
// and the error names a field that is missing or no number.
func (e Event) Detail() (Detail, error) { return ParseDetail(e.Name, e.Fields) }

// ParseDetail does so by an event's name and fields, as a recording keeps them.
func ParseDetail(name string, fields map[string]string) (Detail, error) {
	f := fieldReader{fields: fields}
	var d Detail
	switch name {
	case "StartPhaseCompleted":
		d = StartPhaseCompleted{Phase: f.number("phase"), Kind: StartKind(f.number("starttype"))}
	case "StartREDOLog":
		d = StartREDOLog{Node: f.node("node"), Keep: f.gci("keep_gci"), Completed: f.gci("completed_gci"), Restorable: f.gci("restorable_gci")}
	case "GlobalCheckpointStarted":
		d = GlobalCheckpointStarted{f.gci("gci")}
	case "GlobalCheckpointCompleted":
		d = GlobalCheckpointCompleted{f.gci("gci")}
	case "LocalCheckpointStarted":
		d = LocalCheckpointStarted{LCP: f.word("lci"), Keep: f.gci("keep_gci"), Restore: f.gci("restore_gci")}
	case "LocalCheckpointCompleted":
		d = LocalCheckpointCompleted{f.word("lci")}
	case "NODE_FAILREP":
		d = NodeFailed{f.node("failed_node")}
	case "NodeFailCompleted":
		d = f.nodeFailCompleted()
	case "ArbitState":
		d = f.arbitState()
	case "ArbitResult":
		d = ArbitResult{f.arbitration(), f.nodeOrNone("arbit_node")}
	case "MissedHeartbeat":
		d = MissedHeartbeat{Node: f.node("node"), Count: f.number("count")}
	case "DeadDueToHeartbeat":
		d = DeadDueToHeartbeat{f.node("node")}
	case "NDBStopStarted":
		d = StopStarted{System: f.number("stoptype") == 1}
	case "NDBStopCompleted":
		// Bits of getRestartAction in EventLogger.cpp.
		action := f.number("action")
		d = StopCompleted{Restart: action != 0, NoStart: action&2 != 0, Initial: action&4 != 0, Signal: f.number("signum")}
	case "NDBStopForced":
		d = StopForced{Signal: f.number("signum"), ExitCode: f.number("error"), StartPhase: f.number("sphase"), Extra: f.number("extra")}
	default:
		return nil, nil
	}
	if f.err != nil {
		return nil, fmt.Errorf("event %s: %w", name, f.err)
	}
	return d, nil
}

// fieldReader reads an event's fields and remembers the first that is wrong.
type fieldReader struct {
	fields map[string]string
	err    error
}

// number reads a field. The server prints every 32-bit word as a signed number.
func (f *fieldReader) number(name string) int {
	value, ok := f.fields[name]
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case f.err != nil:
	case !ok:
		f.err = fmt.Errorf("no field %s", name)
	case err != nil:
		f.err = fmt.Errorf("field %s: %q is no number of 32 bits", name, value)
	}
	return int(n)
}

func (f *fieldReader) word(name string) uint32 { return uint32(int32(f.number(name))) }

func (f *fieldReader) gci(name string) GCI { return GCI(f.word(name)) }

func (f *fieldReader) node(name string) topology.ID {
	id, err := parseID(f.fields[name])
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("field %s: %w", name, err)
	}
	return id
}

// nodeOrNone is 0 for what is no node id: NDB leaves the word undefined.
func (f *fieldReader) nodeOrNone(name string) topology.ID {
	n := f.number(name)
	if n < 1 || n > 255 {
		return 0
	}
	return topology.ID(n)
}

func (f *fieldReader) nodeFailCompleted() NodeFailCompleted {
	n := NodeFailCompleted{Node: f.node("failed_node"), Block: f.number("block"), By: f.nodeOrNone("completing_node")}
	if n.Block != 0 { // the word is undefined
		n.By = 0
	}
	return n
}

func (f *fieldReader) arbitState() ArbitState {
	s := ArbitState{f.arbitration(), f.nodeOrNone("arbit_node")}
	if s.Code == ArbitThreadStart { // none is chosen yet, and the word undefined
		s.Arbitrator = 0
	}
	return s
}

// arbitration reads an arbitration's code, beside which the word has the state
// of the thread that reports it.
func (f *fieldReader) arbitration() ArbitCode { return ArbitCode(f.word("code") & 0xffff) }
