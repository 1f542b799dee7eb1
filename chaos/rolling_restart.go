package chaos

import (
	"context"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// RollingRestart restarts nodes in order, one after another, each when the
// cluster is redundant again: an upgrade, a change of configuration.
//
// A plan has one fault for each node, made by the Runner like any other, and not
// one that restarts them all: each restart has its own times that way, the end of
// a run can come between any two, and healing one node is all that there ever is
// to heal. The order is management, data and SQL nodes (MySQL manual,
// "Performing a Rolling Restart of an NDB Cluster").
//
// A data node restarts in place, its angel living on. It hands its work over
// first, as under Stop; few clients should notice anything. With two data nodes
// each restart needs the arbitrator, which is why nothing but whole redundancy
// lets the next one go.
//
// Effect: the cluster has seen the node leave, or, of a SQL or management node,
// come back.
const RollingRestart Kind = "rolling-restart"

func describeRollingRestart() Description {
	return Description{
		Kind:    RollingRestart,
		Summary: "a restart in order, of one node after another",
		Source:  "MySQL manual, \"Performing a Rolling Restart of an NDB Cluster\"",
		Roles:   onAny(),
		Rolls:   true,
		Needs:   []Capability{Restarter},
		Nearest: Stop,
		Expect: func(t topology.Topology, p Planned) string {
			return "it hands its work over, leaves and comes back by itself; few errors or none, which may be tried again; " + expectLeave(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return &rollingRestart{site: s} },
	}
}

type rollingRestart struct {
	site
	since time.Time // of the injection, for the evidence only
}

func (f *rollingRestart) Inject(ctx context.Context) error {
	f.since = time.Now()
	return with(f.site, Restarter, func(can reference.Restarter) error {
		return f.onNodes(func(id topology.ID) error { return can.RestartNode(ctx, id) })
	})
}

// AwaitEffect knows that other nodes than data nodes are back when Inject
// returns, so that their absence may be over.
func (f *rollingRestart) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return f.all(ctx, f.p.Nodes, func(ctx context.Context, id topology.ID) (reference.Evidence, error) {
		waits := []func(context.Context) (reference.Evidence, error){
			func(ctx context.Context) (reference.Evidence, error) { return f.target.AwaitDown(ctx, id) },
		}
		if observer, ok := f.target.(reference.Observer); ok {
			waits = append(waits, func(ctx context.Context) (reference.Evidence, error) {
				return observer.AwaitEvent(ctx, f.since, func(e reference.ClusterEvent) bool {
					return e.Node == id && (e.Name == "NODE_FAILREP" || e.Name == "Disconnected")
				})
			})
		}
		if n, _ := f.target.Topology().ByID(id); n.Role != topology.Data {
			waits = append(waits, func(ctx context.Context) (reference.Evidence, error) { return f.target.AwaitUp(ctx, id) })
		}
		return first(ctx, waits...)
	})
}
