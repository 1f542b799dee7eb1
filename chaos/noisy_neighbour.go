package chaos

import (
	"context"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// NoisyNeighbour runs something beside nodes that takes from their share of the
// processors and of the memory, and writes to their disk and syncs: a busy Cyrus
// on the same machine.
//
// A data node's threads wait for a processor, and so does every transaction that
// it coordinates or has a replica of: the cluster is as slow as its slowest
// replica. A node that does not get round to its own work for
// TimeBetweenWatchDogCheck ends (exit code 6050); one whose heartbeats are late
// is counted as failed. Writes that sync delay its redo log and checkpoints, and
// a global checkpoint that stands for TimeBetweenGlobalCheckpointsTimeout ends the
// slowest node. A plan therefore counts the nodes as lost.
//
// A data node allocates DataMemory when it starts, and that is not to be had.
// What memory the neighbour holds first costs the node what is cached of its
// files, and then whatever it wants more: the kernel ends it (OOM) when it goes
// beyond what is left. It is refused more than the node leaves unused.
//
// Effect: a heartbeat of one of the nodes was missed, one is counted as failed,
// or the clients feel it.
const NoisyNeighbour Kind = "noisy-neighbour"

func describeNoisyNeighbour() Description {
	return Description{
		Kind:    NoisyNeighbour,
		Summary: "a neighbour beside a node that takes from its processors, its memory and its disk",
		Source:  "MySQL manual, TimeBetweenWatchDogCheck, TimeBetweenGlobalCheckpointsTimeout",
		Roles:   []topology.Role{topology.Data, topology.SQL},
		Settings: []Setting{
			settingMilliCPUs("what it takes of the node's share").required(),
			settingBytesPerSecond().orNothing("it writes nothing"),
			number("memory_bytes", "what it holds of the node's memory, and reads once a second", "bytes", 1<<20, 1<<40, int64(0), func(s *Settings) *int64 { return &s.MemoryBytes }).orNothing("it holds none"),
		},
		Needs:   []Capability{Hog},
		Nearest: SlowCPU,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "every transaction with a replica there is slower; with little left, the watchdog ends the node or heartbeats are missed, and then " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return newHogged(s) },
	}
}

func settingMilliCPUs(doc string) Setting {
	return number("milli_cpus", doc, "thousandths of a processor", 10, 1_000_000, 0, func(s *Settings) *int { return &s.MilliCPUs })
}

func settingBytesPerSecond() Setting {
	return number("bytes_per_s", "what it writes and syncs", "bytes/s", 4096, 100_000_000_000, int64(0), func(s *Settings) *int64 { return &s.BytesPerSecond })
}

// squeezed is a fault that leaves nodes less to live on.
type squeezed struct {
	site
	make, undo func(ctx context.Context) error
	since      time.Time // of the injection, for the evidence only
}

func newHogged(s site) Fault {
	return &squeezed{
		site: s,
		make: func(ctx context.Context) error {
			return with(s, Hog, func(can reference.Hog) error {
				load := reference.HogLoad{MilliCPUs: s.p.Settings.MilliCPUs, BytesPerSecond: s.p.Settings.BytesPerSecond, MemoryBytes: s.p.Settings.MemoryBytes}
				return s.onNodes(func(id topology.ID) error { return can.StartHog(ctx, id, load) })
			})
		},
		undo: func(ctx context.Context) error {
			return with(s, Hog, func(can reference.Hog) error {
				return s.onNodes(func(id topology.ID) error { return can.StopHog(ctx, id) })
			})
		},
	}
}

func (f *squeezed) Inject(ctx context.Context) error {
	f.since = time.Now()
	return f.make(ctx)
}

func (f *squeezed) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return f.awaitTrouble(ctx, f.p.Nodes, f.since)
}

func (f *squeezed) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f *squeezed) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f *squeezed) Undo(ctx context.Context) error {
	return f.takeBack(ctx, func() error { return f.undo(ctx) })
}
