package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Bandwidth bounds what hosts send: a network port that fell back to 10 Mbit/s,
// a neighbour's backup on the same link.
//
// A commit writes to all replicas of a row and waits for the slowest, so that
// the whole cluster is as slow as the bounded host once its queue is full. What
// cannot be sent is buffered in the send buffer; when that is full too, NDB
// answers with temporary errors (1218, 1221) and in the end gives the connection
// up. Heartbeats stand in the same queue: nodes may be missed and counted as
// failed.
//
// Effect: a heartbeat of one of the nodes was missed, one is counted as failed,
// or the clients feel it.
const Bandwidth Kind = "bandwidth"

func describeBandwidth() Description {
	return Description{
		Kind:    Bandwidth,
		Summary: "what a host sends bounded to a rate",
		Source:  "MySQL manual, \"Configuring NDB Cluster Send Buffer Parameters\"",
		Roles:   onAny(),
		Hosts:   true,
		Settings: []Setting{
			number("bits_per_s", "the most that each host sends", "bit/s", 8_000, 100_000_000_000, int64(0), func(s *Settings) *int64 { return &s.BitsPerSecond }).required(),
		},
		Needs:   []Capability{Shaper},
		Nearest: Loss,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "commits wait for the slowest replica; when buffers are full, temporary errors and missed heartbeats, and then " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault {
			return newShaped(s, reference.Shape{BitsPerSecond: s.p.Settings.BitsPerSecond})
		},
	}
}

// shaped is a fault of the hosts' queueing disciplines.
type shaped struct {
	squeezed
	shape reference.Shape
}

func newShaped(s site, shape reference.Shape) Fault {
	return &shaped{shape: shape, squeezed: squeezed{
		site: s,
		make: func(ctx context.Context) error {
			return with(s, Shaper, func(can reference.Shaper) error {
				return s.onHosts(func(host string) error { return can.Shape(ctx, host, shape) })
			})
		},
		undo: func(ctx context.Context) error {
			return with(s, Shaper, func(can reference.Shaper) error {
				return s.onHosts(func(host string) error { return can.Unshape(ctx, host) })
			})
		},
	}}
}

func (f *shaped) Check(ctx context.Context) error {
	if err := f.site.Check(ctx); err != nil {
		return err
	}
	return with(f.site, Shaper, func(can reference.Shaper) error {
		if err := can.CheckShape(ctx, f.shape); err != nil {
			return f.nearest(err)
		}
		return nil
	})
}
