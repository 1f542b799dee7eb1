package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Kill ends a node with SIGKILL and starts it again from its own disk.
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
// SQL node. The data nodes see its connections close and abort its open
// transactions. Its clients lose their connections, and find nobody there
// until the node is started; a client that knows another SQL node asks that.
const Kill Kind = "kill"

func describeKill() Description {
	return Description{
		Kind:    Kill,
		Summary: "SIGKILL of a node, started again from its own disk",
		Roles:   []topology.Role{topology.Data, topology.SQL},
		Refuse:  refuseKill,
		Expect:  expectKill,
		New:     func(nodes reference.Nodes, n topology.Node) Fault { return kill{nodes, n} },
	}
}

// refuseKill applies the rules of execCHECKNODEGROUPSREQ to a cluster that is
// whole, as the Runner's clusters are whenever it injects.
func refuseKill(t topology.Topology, n topology.Node) error {
	switch n.Role {
	case topology.Data:
		if t.Replicas < 2 {
			return fmt.Errorf("%s is the only replica of node group %d: without it the whole cluster shuts down", n.Name, n.Group)
		}
		if needsArbitrator(t) && len(t.ByRole(topology.Management)) == 0 {
			return fmt.Errorf("half of the data nodes would be left and no management node could arbitrate: the other half would shut down too")
		}
	case topology.SQL:
		if len(t.ByRole(topology.SQL)) < 2 {
			return fmt.Errorf("%s is the only SQL node: no client could ask anything", n.Name)
		}
	}
	return nil
}

// needsArbitrator says whether the loss of one data node leaves exactly half of
// the nodes and no node group that lost nobody.
func needsArbitrator(t topology.Topology) bool {
	return t.Replicas == 2 && len(t.ByRole(topology.Data)) == 2
}

func expectKill(t topology.Topology, n topology.Node) string {
	switch n.Role {
	case topology.Data:
		var peers []string
		for _, o := range t.ByRole(topology.Data) {
			if o.Group == n.Group && o.ID != n.ID {
				peers = append(peers, o.Name)
			}
		}
		allowed := "no arbitration is needed"
		if needsArbitrator(t) {
			allowed = "it needs the management node's consent as arbitrator"
		}
		return fmt.Sprintf("noticed within milliseconds; node group %d lives on %s (%s); "+
			"transactions that %s coordinated fail with temporary errors or wait for locks, all others go on",
			n.Group, strings.Join(peers, ", "), allowed, n.Name)
	case topology.SQL:
		return fmt.Sprintf("the clients of %s lose their connections and ask another SQL node; "+
			"its open transactions are aborted, and a write without an answer may have happened", n.Name)
	default:
		return ""
	}
}

// kill holds no state: what it needs to undo a fault stands in the journal.
type kill struct {
	nodes reference.Nodes
	node  topology.Node
}

func (k kill) Check(context.Context) error {
	if k.nodes == nil {
		return errors.New("there are no nodes to kill")
	}
	if roles := describeKill().Roles; !slices.Contains(roles, k.node.Role) {
		return fmt.Errorf("%s is a %s node; only %q nodes can be killed", k.node.Name, k.node.Role, roles)
	}
	return nil
}

func (k kill) Inject(ctx context.Context) error { return k.nodes.Kill(ctx, k.node.ID) }

func (k kill) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return k.nodes.AwaitDown(ctx, k.node.ID)
}

func (k kill) Recover(ctx context.Context) error { return k.nodes.StartNode(ctx, k.node.ID) }

func (k kill) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return k.nodes.AwaitUp(ctx, k.node.ID)
}

func (k kill) AwaitRedundant(ctx context.Context) (reference.Evidence, error) {
	return k.nodes.AwaitRedundant(ctx, k.node.ID)
}

// Undo relies on StartNode doing nothing to a node that runs.
func (k kill) Undo(ctx context.Context) error { return k.nodes.StartNode(ctx, k.node.ID) }
