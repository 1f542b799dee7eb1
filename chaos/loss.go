package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Loss drops a random share of the packets of hosts, of all or of those to and
// from some peers: a bad cable, a full switch.
//
// TCP sends again what is lost, after 200 ms at the least and twice that each
// further time (RFC 6298; Linux's RTO_MIN), so that a few lost packets in a
// hundred show as a tail of slow operations. NDB's heartbeats travel in the same
// TCP connections: a share near a half stalls them for seconds at a time, and
// nodes are missed, and counted as failed as under Isolate. A plan counts the
// nodes as lost whatever the share, as chance has the last word.
//
// Recover takes the rules away, and starts the data nodes that then end, as under
// Isolate.
//
// Effect: a heartbeat of one of the nodes was missed, one is counted as failed,
// or the clients feel it.
const Loss Kind = "loss"

func describeLoss() Description {
	return Description{
		Kind:    Loss,
		Summary: "a random share of a host's packets lost",
		Source:  "RFC 6298, section 2; MySQL manual, HeartbeatIntervalDbDb",
		Roles:   onAny(),
		Hosts:   true,
		Settings: []Setting{
			number("loss_ppm", "share of the packets that are lost", "millionths", 1, everyPacket-1, 0, func(s *Settings) *int { return &s.LossPPM }).required(),
			settingPeers().orNothing("everybody"), settingDirection(),
		},
		Needs:   []Capability{Firewall},
		Nearest: Latency,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "TCP sends again what is lost: a tail of operations that take 200 ms longer or more; with much loss heartbeats are missed, and then " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		check: checkPeers,
		build: newLossy,
	}
}

// lossy is squeezed by a firewall, which may not be there to do it.
type lossy struct{ squeezed }

func newLossy(s site) Fault {
	return &lossy{squeezed{
		site: s,
		make: func(ctx context.Context) error {
			return with(s, Firewall, func(can reference.Firewall) error { return s.cutFrom(ctx, can, s.p.Settings.LossPPM) })
		},
		undo: s.uncut,
	}}
}

func (f *lossy) Check(ctx context.Context) error { return f.checkFirewall(ctx) }
