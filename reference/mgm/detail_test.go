package mgm

import (
	"strings"
	"testing"
)

func TestDetail(t *testing.T) {
	for _, c := range []struct {
		says, name string
		fields     string
		want       Detail
		refused    string // part of the error
	}{
		{"a phase and the kind of start", "StartPhaseCompleted", "phase=4 starttype=3", StartPhaseCompleted{4, InitialNodeRestart}, ""},
		{"what a system restart brings back", "StartREDOLog", "node=2 keep_gci=190 completed_gci=248 restorable_gci=253", StartREDOLog{2, 190, 248, 253}, ""},
		{"a checkpoint beyond what a signed word holds", "GlobalCheckpointCompleted", "gci=-2147483648", GlobalCheckpointCompleted{1 << 31}, ""},
		{"a local checkpoint", "LocalCheckpointStarted", "lci=5 keep_gci=237 restore_gci=234", LocalCheckpointStarted{5, 237, 234}, ""},
		{"its end", "LocalCheckpointCompleted", "lci=5", LocalCheckpointCompleted{5}, ""},
		{"a node that failed", "NODE_FAILREP", "failed_node=2 failure_state=0", NodeFailed{2}, ""},
		{"one block has handled it, the node is undefined", "NodeFailCompleted", "block=247 failed_node=2 completing_node=5", NodeFailCompleted{Node: 2, Block: 247}, ""},
		{"one node has", "NodeFailCompleted", "block=0 failed_node=2 completing_node=3", NodeFailCompleted{Node: 2, By: 3}, ""},
		{"the state beside an arbitration's code does not count", "ArbitResult", "code=458798 arbit_node=1 ticket_0=9 ticket_1=9", ArbitResult{WinChoose, 1}, ""},
		{"no arbitrator is chosen yet, whatever the word says", "ArbitState", "code=458763 arbit_node=1", ArbitState{ArbitThreadStart, 0}, ""},
		{"an arbitrator was found", "ArbitState", "code=327711 arbit_node=1", ArbitState{ArbitStarted, 1}, ""},
		{"silence", "MissedHeartbeat", "node=2 count=3", MissedHeartbeat{2, 3}, ""},
		{"and its end", "DeadDueToHeartbeat", "node=2", DeadDueToHeartbeat{2}, ""},
		{"a stop of one node", "NDBStopStarted", "stoptype=0", StopStarted{false}, ""},
		{"of all", "NDBStopStarted", "stoptype=1", StopStarted{true}, ""},
		{"a restart by the management server", "NDBStopCompleted", "action=3 signum=0", StopCompleted{Restart: true, NoStart: true}, ""},
		{"an initial one", "NDBStopCompleted", "action=7 signum=0", StopCompleted{Restart: true, NoStart: true, Initial: true}, ""},
		{"lost arbitration", "NDBStopForced", "action=0 signum=0 error=2305 sphase=255 extra=0", StopForced{ExitCode: 2305, StartPhase: 255}, ""},
		{"an event that no detail describes", "Connected", "node=2", nil, ""},
		{"a field that is missing", "LocalCheckpointStarted", "lci=5 restore_gci=7", nil, "no field keep_gci"},
		{"the first of two that are wrong", "StartREDOLog", "node=2 keep_gci=x completed_gci=y restorable_gci=3", nil, `field keep_gci: "x" is no number`},
		{"a number that is no node", "DeadDueToHeartbeat", "node=14672", nil, "field node: node id"},
		{"a number of more than 32 bits", "GlobalCheckpointStarted", "gci=4294967296", nil, "field gci"},
	} {
		fields := map[string]string{}
		for _, f := range strings.Fields(c.fields) {
			p := parsePair(f)
			fields[p.name] = p.value
		}
		got, err := ParseDetail(c.name, fields)
		switch {
		case c.refused == "" && (err != nil || got != c.want):
			t.Errorf("%s: %#v, %v; want %#v", c.says, got, err, c.want)
		case c.refused != "" && (err == nil || got != nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), c.name)):
			t.Errorf("%s: %#v, %v; want an error that says %q", c.says, got, err, c.refused)
		}
	}
	if all := (NodeFailCompleted{Node: 2}); !all.All() || (NodeFailCompleted{Node: 2, By: 3}).All() || (NodeFailCompleted{Node: 2, Block: 247}).All() {
		t.Error("a failure is handled by all when neither a block nor a node is named, and only then")
	}
}

func TestArbitrationWinsOrLoses(t *testing.T) {
	for code, want := range map[ArbitCode][2]bool{
		LoseNodes: {false, true}, WinNodes: {true, false}, WinGroups: {true, false}, LoseGroups: {false, true},
		Partitioning: {}, WinChoose: {true, false}, LoseChoose: {false, true}, LoseNoRun: {false, true}, LoseNoConfig: {false, true}, ArbitStarted: {},
	} {
		if got := [2]bool{code.Wins(), code.Loses()}; got != want {
			t.Errorf("code %d wins, loses: %v, want %v", code, got, want)
		}
	}
}
