package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// everyPacket is a loss of all packets, in millionths.
const everyPacket = 1_000_000

// Isolate cuts hosts off from everybody, their clients included, without a
// closed connection: a pulled cable.
//
// Nobody is told. The others count a data node there as failed after 4 to 5
// missed heartbeats, 20 to 25 s, and ask the arbitrator where they must; until
// then what needs the node waits, as under Pause. The node itself misses
// everybody else: it cannot reach the arbitrator, and shuts down (exit code
// 2305). A SQL node there is given up after 6 to 7.5 s and connects again by
// itself; its clients hear nothing and run into their time-outs.
//
// Recover mends the network, and starts the data nodes that then end, as those do
// that the others have counted as failed. One that was silent for less goes on,
// but has the others drop every connection that it had given up: of SQL nodes, and
// of the arbitrator. See Settled.
//
// Effect: the cluster counts every node of the hosts as failed, or the clients
// feel it.
const Isolate Kind = "isolate"

func describeIsolate() Description {
	return Description{
		Kind:    Isolate,
		Summary: "a host cut off from everybody, as by a pulled cable",
		Source:  "QmgrMain.cpp, checkHeartbeat and handleArbitCheck; MySQL manual, HeartbeatIntervalDbDb, Arbitration",
		Roles:   onAny(),
		Hosts:   true,
		Needs:   []Capability{Firewall},
		Nearest: Pause,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "silence, noticed by heartbeats only: a data node after 20 to 25 s, a SQL node after 6 to 7.5 s, and then " +
				expectLoss(t, p.Nodes) + "; a data node that is cut off shuts down"
		},
		loses: losesAll,
		build: func(s site) Fault { return isolate{s} },
	}
}

type isolate struct{ site }

func (f isolate) Check(ctx context.Context) error { return f.checkFirewall(ctx) }

// checkFirewall is Check for a kind that cuts.
func (s site) checkFirewall(ctx context.Context) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	return with(s, Firewall, func(can reference.Firewall) error {
		if err := can.CheckFirewall(ctx); err != nil {
			return s.nearest(err)
		}
		return nil
	})
}

func (f isolate) Inject(ctx context.Context) error { return f.cutOff(ctx) }

func (f isolate) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f isolate) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f isolate) Undo(ctx context.Context) error { return f.mend(ctx) }

// cutOff drops every packet of the fault's hosts.
func (s site) cutOff(ctx context.Context) error {
	return with(s, Firewall, func(can reference.Firewall) error {
		return s.onHosts(func(host string) error {
			return can.Cut(ctx, host, reference.Cut{Name: s.p.ID, Direction: reference.Both, Loss: everyPacket})
		})
	})
}

// mend takes the fault's rules back, and starts anew what had failed.
func (s site) mend(ctx context.Context) error {
	return s.takeBack(ctx, func() error { return s.uncut(ctx) })
}

// uncut takes the fault's rules back.
func (s site) uncut(ctx context.Context) error {
	return with(s, Firewall, func(can reference.Firewall) error {
		return s.onHosts(func(host string) error { return can.Mend(ctx, host, s.p.ID) })
	})
}
