package chaos

import (
	"context"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// SlowCPU gives nodes a smaller share of the processors than the topology does: a
// throttled machine, a hypervisor that sold too much. What it does to a data node
// is told at NoisyNeighbour.
//
// Effect: as that of NoisyNeighbour.
const SlowCPU Kind = "slow-cpu"

func describeSlowCPU() Description {
	return Description{
		Kind:     SlowCPU,
		Summary:  "a node's share of the processors cut down",
		Source:   "MySQL manual, TimeBetweenWatchDogCheck",
		Roles:    onAny(),
		Settings: []Setting{settingMilliCPUs("what is left to the node").required()},
		Needs:    []Capability{Limiter},
		Nearest:  Pause,
		Felt:     true,
		Expect: func(t topology.Topology, p Planned) string {
			return "every transaction with a replica there is slower; with little left, the watchdog ends the node or heartbeats are missed, and then " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault {
			return &squeezed{
				site: s,
				make: func(ctx context.Context) error {
					return with(s, Limiter, func(can reference.Limiter) error {
						return s.onNodes(func(id topology.ID) error { return can.LimitCPU(ctx, id, s.p.Settings.MilliCPUs) })
					})
				},
				undo: func(ctx context.Context) error {
					return with(s, Limiter, func(can reference.Limiter) error {
						return s.onNodes(func(id topology.ID) error { return can.ResetLimits(ctx, id) })
					})
				},
			}
		},
	}
}
