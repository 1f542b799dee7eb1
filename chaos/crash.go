package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Crash kills the process of data nodes that does the work, and not the angel
// that watches it.
//
// To the other data nodes it is a kill: the connections are closed. What is
// different is the angel: with StopOnError at 1, the default, it ends too, with
// exit code 0, so that whoever supervises the node sees no failure; at 0 it
// starts the child again at once (angel.cpp), so that a hold has no effect.
// Recover starts the node where it does not run.
//
// Effect: the cluster counts every node as failed, or the clients feel it.
const Crash Kind = "crash"

func describeCrash() Description {
	return Description{
		Kind:    Crash,
		Summary: "the data node's worker killed under its angel, and started again if the angel does not",
		Source:  "storage/ndb/src/kernel/angel.cpp; MySQL manual, StopOnError",
		Roles:   onData(),
		Needs:   []Capability{Crasher},
		Nearest: Kill,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "noticed within milliseconds; " + expectLoss(t, p.Nodes) + "; with StopOnError=0 the angel restarts it at once"
		},
		loses: losesAll,
		build: func(s site) Fault { return crash{s} },
	}
}

type crash struct{ site }

func (f crash) Inject(ctx context.Context) error {
	return with(f.site, Crasher, func(can reference.Crasher) error {
		return f.onNodes(func(id topology.ID) error { return can.CrashChild(ctx, id) })
	})
}
