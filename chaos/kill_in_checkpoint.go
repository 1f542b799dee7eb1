package chaos

import (
	"context"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// KillInCheckpoint has the cluster start a local checkpoint and kills a data node
// once it has begun.
//
// The checkpoint of the others goes on; if the node was the master, its
// successor takes the checkpoint over first. The node's own is half written, so
// that it starts from the one before it and reads more of its redo log.
//
// The checkpoint itself is the harness's doing, and needs no undoing.
//
// Effect: the cluster counts the node as failed.
const KillInCheckpoint Kind = "kill-in-checkpoint"

func describeKillInCheckpoint() Description {
	return Description{
		Kind:    KillInCheckpoint,
		Summary: "SIGKILL of a data node in a local checkpoint, and a start from its own disk",
		Source:  "NdbRestarts.cpp, RestartNodeDuringLCP; signaldata/DumpStateOrd.hpp, 7099",
		Roles:   onData(),
		Needs:   []Capability{Killer, Observer},
		Nearest: Kill,
		Expect: func(t topology.Topology, p Planned) string {
			return "noticed within milliseconds; " + expectLoss(t, p.Nodes) + "; it starts from the checkpoint before, with more redo log to read"
		},
		loses: losesAll,
		build: func(s site) Fault { return &killInCheckpoint{site: s} },
	}
}

type killInCheckpoint struct {
	site
	asked time.Time // for a checkpoint; for the evidence only
}

func (f *killInCheckpoint) Inject(ctx context.Context) error {
	f.asked = time.Now()
	return with(f.site, Observer, func(can reference.Observer) error { return reference.StartLocalCheckpoint(ctx, can) })
}

func (f *killInCheckpoint) Stages() []Stage {
	return []Stage{{
		What: "checkpoint started",
		Await: func(ctx context.Context) (reference.Evidence, error) {
			observer, err := offers[reference.Observer](f.site, Observer)
			if err != nil {
				return reference.Evidence{}, err
			}
			return observer.AwaitEvent(ctx, f.asked, func(e reference.ClusterEvent) bool { return e.Name == "LocalCheckpointStarted" })
		},
		Act: func(ctx context.Context) error {
			return f.onNodes(func(id topology.ID) error { return f.kill(ctx, id) })
		},
	}}
}
