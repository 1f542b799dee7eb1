package chaos

import (
	"context"
	"time"

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
			return &shaped{site: s, shape: reference.Shape{BitsPerSecond: s.p.Settings.BitsPerSecond}}
		},
	}
}

// shaped is a fault of the hosts' queueing disciplines.
type shaped struct {
	site
	shape reference.Shape
	since time.Time // of the injection, for the evidence only
}

func (f *shaped) Check(ctx context.Context) error {
	if err := f.site.Check(ctx); err != nil {
		return err
	}
	return with(f.site, Shaper, func(can reference.Shaper) error {
		if err := can.CheckShape(ctx, f.shape); err != nil {
			return nearest(f.d, f.target, f.links, err)
		}
		return nil
	})
}

func (f *shaped) Inject(ctx context.Context) error {
	f.since = time.Now()
	return with(f.site, Shaper, func(can reference.Shaper) error {
		return f.onHosts(func(host string) error { return can.Shape(ctx, host, f.shape) })
	})
}

func (f *shaped) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return f.awaitTrouble(ctx, f.p.Nodes, f.since)
}

func (f *shaped) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f *shaped) Undo(ctx context.Context) error {
	return f.takeBack(ctx, func() error {
		return with(f.site, Shaper, func(can reference.Shaper) error {
			return f.onHosts(func(host string) error { return can.Unshape(ctx, host) })
		})
	})
}
