package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference/topology"
)

// Kill ends nodes with SIGKILL and starts them again from their own disks.
//
// Data node. The kernel closes the dead process's connections, so that its
// peers learn of it within milliseconds and do not wait for heartbeats
// (Qmgr::execDISCONNECT_REP calls failReport). The survivors decide whether
// they may go on (Dbdih::execCHECKNODEGROUPSREQ): they may when some node group
// lost nobody; otherwise more than half of the nodes must be left, and exactly
// half needs the arbitrator's consent, which is the management node's to give.
// One node group of two replicas is therefore at the mercy of its management
// node. A survivor then takes over the transactions that the dead node
// coordinated: clients meet temporary errors (MySQL 1297), lock waits that time
// out (MySQL 1205) while the dead node's locks stand, and commits whose answer
// is lost. Other transactions go on. A start from disk is a node restart: the
// node reads its checkpoint and redo log and copies from its peer what it
// missed. Its id is free again only some seconds after the failure was handled,
// so that a hold of less makes no shorter outage.
//
// A whole node group, or all data nodes. The cluster shuts down. All data nodes
// are started together, which is a system restart: it goes back to the last
// global checkpoint that every node has on disk, and what was acknowledged after
// that is lost (MySQL manual, TimeBetweenGlobalCheckpoints).
//
// SQL node. The data nodes see its connections close and abort its open
// transactions. Its clients lose their connections, and find nobody there
// until the node is started; a client that knows another SQL node asks that.
//
// Management node. Running nodes go on without it. Nobody arbitrates, and no
// node can start, until it is back.
//
// Effect: the cluster counts every node as failed (event NODE_FAILREP or node
// status), a management node does not answer, or the clients feel it: without a
// management node nobody tells of events.
const Kill Kind = "kill"

func describeKill() Description {
	return Description{
		Kind:    Kill,
		Summary: "SIGKILL, and a start from the node's own disk",
		Source:  "Dbdih::execCHECKNODEGROUPSREQ, Qmgr::execDISCONNECT_REP; MySQL manual, \"Defining NDB Cluster Data Nodes\", Arbitration",
		Roles:   onAny(),
		Needs:   []Capability{Killer},
		Nearest: Crash,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "noticed within milliseconds; " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return kill{s} },
	}
}

// kill holds no state: what it needs to undo a fault stands in the journal.
type kill struct{ site }

func (k kill) Inject(ctx context.Context) error {
	return k.act(k.p.Nodes, func(n topology.Node) error { return k.kill(ctx, n.ID) })
}
