package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Pause stops all processes of nodes without their notice and lets them go on.
// Connections stay open and silent, as when a machine swaps or a hypervisor
// takes it away.
//
// Data node. Operations on it wait: their transactions time out after
// TransactionDeadlockDetectionTimeout (MySQL 1205), and clients of a SQL node
// whose transaction it coordinates hang until the SQL node's heartbeats have
// given it up (4 intervals of HeartbeatIntervalDbApi, 4.5 to 6 s). The other
// data nodes count it as failed after 4 to 5 intervals of HeartbeatIntervalDbDb,
// 20 to 25 s (QmgrMain.cpp, checkHeartbeat), and go on as after a kill. Thawed
// before that it goes on as if nothing had been. Thawed later it learns that it
// was excluded and ends (exit codes 2315, 2305 or 6050): Recover starts it then.
//
// SQL node. Its clients hear nothing and run into their own time-outs; its row
// locks stand until the data nodes have given it up, 6 to 7.5 s. It connects
// again by itself.
//
// Management node. As after its kill, but that those who ask it wait.
//
// Effect: the cluster counts every node as failed, or the clients feel it, which
// is long before. A pause that is shorter than the heartbeats allow costs no
// node, but a plan counts it as lost: nothing bounds how late it is taken back.
const Pause Kind = "pause"

func describePause() Description {
	return Description{
		Kind:    Pause,
		Summary: "all processes of a node stopped without notice, as by SIGSTOP, and thawed",
		Source:  "QmgrMain.cpp, checkHeartbeat; ClusterMgr.cpp; MySQL manual, HeartbeatIntervalDbDb, HeartbeatIntervalDbApi",
		Roles:   onAny(),
		Needs:   []Capability{Freezer},
		Nearest: Kill,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "what it is asked waits; counted as failed once its heartbeats are missed, a data node after 20 to 25 s, a SQL node after 6 to 7.5 s, and then " +
				expectLoss(t, p.Nodes) + "; a data node that is thawed after that must start anew"
		},
		loses: losesAll,
		build: func(s site) Fault { return pause{s} },
	}
}

type pause struct{ site }

func (f pause) Inject(ctx context.Context) error {
	return with(f.site, Freezer, func(can reference.Freezer) error {
		return f.onNodes(func(id topology.ID) error { return can.Freeze(ctx, id) })
	})
}

func (f pause) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f pause) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f pause) Undo(ctx context.Context) error {
	return f.takeBack(ctx, func() error {
		return with(f.site, Freezer, func(can reference.Freezer) error {
			return f.onNodes(func(id topology.ID) error { return can.Thaw(ctx, id) })
		})
	})
}
