package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// PowerOff takes hosts away with all that they carry: first every packet, then
// every process, so that peers see silence and not the closed connections that a
// kernel makes for a killed process.
//
// The others notice as under Isolate, by heartbeats, and go on as after a kill.
// Recover mends the network and starts the nodes from their own disks.
//
// Effect: the cluster counts every node of the hosts as failed, or the clients
// feel it.
const PowerOff Kind = "power-off"

func describePowerOff() Description {
	return Description{
		Kind:    PowerOff,
		Summary: "a host without power: silence, its nodes dead, and started again from their own disks",
		Source:  "QmgrMain.cpp, checkHeartbeat; MySQL manual, HeartbeatIntervalDbDb, Arbitration",
		Roles:   onAny(),
		Hosts:   true,
		Needs:   []Capability{Killer, Firewall},
		Nearest: Kill,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "silence, noticed by heartbeats only: a data node after 20 to 25 s, a SQL node after 6 to 7.5 s, and then " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return powerOff{s} },
	}
}

type powerOff struct{ site }

func (f powerOff) Check(ctx context.Context) error { return f.checkFirewall(ctx) }

func (f powerOff) Inject(ctx context.Context) error {
	if err := f.cutOff(ctx); err != nil {
		return err
	}
	return f.onNodes(func(id topology.ID) error { return f.kill(ctx, id) })
}

func (f powerOff) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f powerOff) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f powerOff) Undo(ctx context.Context) error { return f.mend(ctx) }
