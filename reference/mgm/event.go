package mgm

import (
	"fmt"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// Event is something that a node of the cluster reported.
type Event struct {
	At     time.Time         // when its first line was read here; the server's own time is always 0
	Type   int               // number in include/mgmapi/ndb_logevent.h
	Name   string            // NDB's name of the type, such as "NODE_FAILREP"; "EVENT_<type>" if unknown
	Source topology.ID       // the node that reported it; 0 if the server named none
	Fields map[string]string // what it said beside type, time and source, such as failed_node
}

// Node returns the node that the event is about, which for most types is not
// the one that reported it: 0 for an event about the cluster, such as an
// arbitration or a global checkpoint. Types that are not known are taken to be
// about their source.
//
// A node reports what it sees: the one that lost its network says that all
// others have disconnected. Source tells whose view it is.
func (e Event) Node() topology.ID {
	switch field := kinds[e.Type].about; field {
	case source:
		return e.Source
	case cluster:
		return 0
	default:
		id, err := parseID(e.Fields[field])
		if err != nil {
			return 0
		}
		return id
	}
}

// kind says what is known of a type of event: its name, and the field that
// holds the node that it is about.
type kind struct{ name, about string }

// Two values of kind.about that are no fields.
const (
	source  = ""        // about the node that reported it
	cluster = "cluster" // about no single node
)

// kinds are the types of events (names: include/mgmapi/ndb_logevent.h, fields:
// src/mgmapi/ndb_logevent.cpp). It is never written to.
//
// Traps in the fields, seen with 9.7.4: NodeFailCompleted comes once for each
// block of the kernel, with an undefined completing_node, and is over at
// block=0 and completing_node=0; arbit_node is undefined before an arbitrator
// is chosen.
var kinds = map[int]kind{
	0:  {"Connected", "node"},
	1:  {"Disconnected", "node"},
	2:  {"CommunicationClosed", "node"},
	3:  {"CommunicationOpened", "node"},
	4:  {"GlobalCheckpointStarted", cluster},
	5:  {"GlobalCheckpointCompleted", cluster},
	6:  {"LocalCheckpointStarted", cluster},
	7:  {"LocalCheckpointCompleted", cluster},
	8:  {"LCPStoppedInCalcKeepGci", cluster},
	9:  {"LCPFragmentCompleted", "node"},
	10: {"NDBStartStarted", source},
	11: {"NDBStartCompleted", source},
	12: {"STTORRYRecieved", source},
	13: {"StartPhaseCompleted", source},
	14: {"CM_REGCONF", source},
	15: {"CM_REGREF", source},
	16: {"FIND_NEIGHBOURS", source},
	17: {"NDBStopStarted", source},
	18: {"NDBStopAborted", source},
	19: {"StartREDOLog", "node"},
	20: {"StartLog", source},
	21: {"UNDORecordsExecuted", source},
	22: {"NR_CopyDict", "data"}, // sent by the master, of the node that starts
	23: {"NR_CopyDistr", "data"},
	24: {"NR_CopyFragsStarted", "dest_node"},
	25: {"NR_CopyFragDone", "dest_node"},
	26: {"NR_CopyFragsCompleted", "dest_node"},
	27: {"NodeFailCompleted", "failed_node"},
	28: {"NODE_FAILREP", "failed_node"},
	29: {"ArbitState", cluster},
	30: {"ArbitResult", cluster},
	31: {"GCP_TakeoverStarted", cluster},
	32: {"GCP_TakeoverCompleted", cluster},
	33: {"LCP_TakeoverStarted", cluster},
	34: {"LCP_TakeoverCompleted", cluster},
	35: {"TransReportCounters", source},
	36: {"OperationReportCounters", source},
	37: {"TableCreated", cluster},
	38: {"UndoLogBlocked", source},
	39: {"JobStatistic", source},
	40: {"SendBytesStatistic", source},
	41: {"ReceiveBytesStatistic", source},
	42: {"TransporterError", "to_node"},
	43: {"TransporterWarning", "to_node"},
	44: {"MissedHeartbeat", "node"},
	45: {"DeadDueToHeartbeat", "node"},
	46: {"WarningEvent", source},
	47: {"SentHeartbeat", "node"},
	48: {"CreateLogBytes", "node"},
	49: {"InfoEvent", source},
	50: {"MemoryUsage", source},
	51: {"ConnectedApiVersion", "node"},
	52: {"SingleUser", cluster},
	53: {"NDBStopCompleted", source},
	54: {"BackupStarted", cluster},
	55: {"BackupFailedToStart", cluster},
	56: {"BackupCompleted", cluster},
	57: {"BackupAborted", cluster},
	58: {"EventBufferStatus", source},
	59: {"NDBStopForced", source},
	60: {"StartReport", source},
	62: {"BackupStatus", cluster},
	63: {"RestoreMetaData", "node_id"},
	64: {"RestoreData", "node_id"},
	65: {"RestoreLog", "node_id"},
	66: {"RestoreStarted", "node_id"},
	67: {"RestoreCompleted", "node_id"},
	68: {"ThreadConfigLoop", source},
	69: {"SubscriptionStatus", "node_id"},
	70: {"MTSignalStatistics", source},
	71: {"LogFileInitStatus", source},
	72: {"LogFileInitCompStatus", source},
	73: {"RedoStatus", source},
	74: {"CreateSchemaObject", "node"},
	75: {"AlterSchemaObject", "node"},
	76: {"DropSchemaObject", "node"},
	77: {"StartReadLCP", source},
	78: {"ReadLCPComplete", source},
	79: {"RunRedo", source},
	80: {"RebuildIndex", source},
	81: {"SavedEvent", source},
	82: {"ConnectCheckStarted", source},
	83: {"ConnectCheckCompleted", source},
	84: {"NodeFailRejected", "failed_node"},
	85: {"EventBufferStatus2", source},
	86: {"LCPRestored", source},
}

// parseEvent makes an event of the pairs that follow its first line.
func parseEvent(at time.Time, pairs []pair) (Event, error) {
	e := Event{At: at, Type: -1, Fields: map[string]string{}}
	for _, p := range pairs {
		switch p.name {
		case "type":
			n, err := strconv.Atoi(p.value)
			if err != nil || n < 0 {
				return Event{}, fmt.Errorf("event of type %q", p.value)
			}
			e.Type = n
		case "time":
		case "source_nodeid":
			// A source that is no node id is left at 0: the event counts all the same.
			e.Source, _ = parseID(p.value)
		default:
			e.Fields[p.name] = p.value
		}
	}
	if e.Type < 0 {
		return Event{}, fmt.Errorf("event without a type: %v", pairs)
	}
	e.Name = kinds[e.Type].name
	if e.Name == "" {
		e.Name = fmt.Sprintf("EVENT_%d", e.Type)
	}
	return e, nil
}
