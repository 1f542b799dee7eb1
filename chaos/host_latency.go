package chaos

import (
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// HostLatency delays all that hosts send. It needs the kernel's network emulator
// (netem), which many kernels lack; Latency slows clients without it.
//
// NDB commits in two phases along a chain of replicas, each of which is a
// message: a write pays the delay several times, a read by primary key once or
// twice, or not at all where the SQL node reads a replica on a near node. No
// node is lost as long as the delay is far from the heartbeats' 1.5 and 5 s.
//
// Effect: a heartbeat was missed, a node counted as failed, or the clients feel it.
const HostLatency Kind = "host-latency"

func describeHostLatency() Description {
	return Description{
		Kind:     HostLatency,
		Summary:  "all that a host sends delayed, by the kernel's netem",
		Source:   "MySQL manual, \"NDB Cluster Overview\", two-phase commit; tc-netem(8)",
		Roles:    onAny(),
		Hosts:    true,
		Settings: []Setting{settingDelay()},
		Needs:    []Capability{Shaper},
		Nearest:  Latency,
		Felt:     true,
		Expect: func(t topology.Topology, p Planned) string {
			return "a write pays the delay once for each message of its commit, a read once or twice; no node is lost"
		},
		build: func(s site) Fault {
			return newShaped(s, reference.Shape{Delay: s.p.Settings.Delay})
		},
	}
}
