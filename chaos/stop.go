package chaos

import (
	"context"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Stop ends nodes in order, one after another, and starts them again from their
// own disks.
//
// Data node. It hands its work over and leaves: transactions that meet it get
// temporary errors of the class "node shutdown" (NDB 270, 280, 1223, 4023, 4030,
// 4034) or are told to try again; no lock has to wait for a take-over. What is
// left counts itself as after a kill: one node group of two needs its
// arbitrator. The management server refuses to stop what the cluster cannot
// spare (error 5028), so that an outage cannot be made this way.
//
// SQL node. It finishes what it does, and tells its clients that it shuts down
// (MySQL 1053). Management node: as after its kill.
//
// Effect: the cluster counts every node as gone. That clients feel something is
// no proof: the point of a graceful stop is that they should not.
const Stop Kind = "stop"

func describeStop() Description {
	return Description{
		Kind:    Stop,
		Summary: "a graceful stop, and a start from the node's own disk",
		Source:  "MySQL manual, \"Commands in the NDB Cluster Management Client\", NODE_ID STOP; ndberror.cpp, class NS",
		Roles:   onAny(),
		Needs:   []Capability{Stopper},
		Nearest: Kill,
		Expect: func(t topology.Topology, p Planned) string {
			return "it hands its work over and leaves; few errors or none, which may be tried again; " + expectLeave(t, p.Nodes)
		},
		loses: losesAll,
		check: func(t topology.Topology, p *Planned) (string, error) {
			if l := dataLoss(t, p.Nodes); l.Group >= 0 {
				return "target", fmt.Errorf("the management server refuses to stop the last node of node group %d (error 5028): take %s", l.Group, Kill)
			}
			return "", nil
		},
		build: func(s site) Fault { return stop{s} },
	}
}

// dataLoss is what the loss of the data nodes among some nodes comes to.
func dataLoss(t topology.Topology, nodes []topology.Node) topology.Loss {
	var ids []topology.ID
	for _, n := range nodes {
		if n.Role == topology.Data {
			ids = append(ids, n.ID)
		}
	}
	return topology.Lost(t, nil, ids)
}

type stop struct{ site }

func (f stop) Inject(ctx context.Context) error { return f.stop(ctx, f.p.Nodes[0]) }

func (f stop) stop(ctx context.Context, n topology.Node) error {
	return with(f.site, Stopper, func(can reference.Stopper) error { return can.StopNode(ctx, n.ID) })
}

// Stages stop one node after the other: while one stops, the management server
// refuses to stop another (error 5063).
func (f stop) Stages() []Stage {
	var stages []Stage
	for i, n := range f.p.Nodes[1:] {
		before := f.p.Nodes[i]
		stages = append(stages, Stage{
			What: before.Name + " stopped",
			Await: func(ctx context.Context) (reference.Evidence, error) {
				return f.target.AwaitDown(ctx, before.ID)
			},
			Act: func(ctx context.Context) error { return f.stop(ctx, n) },
		})
	}
	return stages
}
