package chaos

import (
	"context"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Initial kills data nodes, empties their disks, and starts them with nothing,
// as a machine that was replaced.
//
// It is a kill at first. The start is an initial node restart: the node makes
// new redo log files and copies all of its data from its peer, where a start
// from its own disk would read a checkpoint and copy what it missed. It takes
// longer, and loads the peer. It is refused on all nodes of a node group, whose
// data would be gone for good, whether an outage is allowed or not.
//
// Effect: the cluster counts every node as failed.
const Initial Kind = "initial"

func describeInitial() Description {
	return Description{
		Kind:    Initial,
		Summary: "SIGKILL of a data node, its disk emptied, and an initial start",
		Source:  "MySQL manual, \"ndbmtd\", --initial; NdbcntrMain.cpp, start types",
		Roles:   onData(),
		Needs:   []Capability{Killer, Emptier},
		Nearest: Kill,
		Expect: func(t topology.Topology, p Planned) string {
			return "noticed within milliseconds; " + expectLoss(t, p.Nodes) + "; the start copies all data from the peer"
		},
		loses: losesAll,
		check: func(t topology.Topology, p *Planned) (string, error) {
			if l := dataLoss(t, p.Nodes); l.Group >= 0 {
				return "target", fmt.Errorf("the data of node group %d would be gone for good: leave one of its nodes out", l.Group)
			}
			return "", nil
		},
		build: func(s site) Fault { return initial{s} },
	}
}

type initial struct{ site }

func (f initial) Inject(ctx context.Context) error {
	can, err := offers[reference.Emptier](f.site, Emptier)
	if err != nil {
		return err
	}
	return f.onNodes(func(id topology.ID) error {
		if err := f.kill(ctx, id); err != nil {
			return err
		}
		return can.EmptyDisk(ctx, id)
	})
}
