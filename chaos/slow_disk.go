package chaos

import "github.com/mailbench/mailbench/reference/topology"

// SlowDisk is a NoisyNeighbour that takes the disk only: a battery that failed
// in a RAID controller, a scrub.
//
// Reads and commits are done in memory and do not wait for the disk. Global
// checkpoints take longer, so that more would be lost if every data node died at
// once; the redo buffer fills up, and then NDB answers with temporary errors
// (1221, and 410 when the log itself is full).
//
// Effect: as that of NoisyNeighbour.
const SlowDisk Kind = "slow-disk"

func describeSlowDisk() Description {
	return Description{
		Kind:     SlowDisk,
		Summary:  "a neighbour that writes to a data node's disk and syncs",
		Source:   "MySQL manual, TimeBetweenGlobalCheckpoints, RedoBuffer",
		Roles:    onData(),
		Settings: []Setting{settingBytesPerSecond().required()},
		Needs:    []Capability{Hog},
		Nearest:  Bandwidth,
		Felt:     true,
		Expect: func(t topology.Topology, p Planned) string {
			return "commits are in memory and do not wait; global checkpoints take longer, so that more is lost if all data nodes die; temporary errors once the redo buffer is full"
		},
		loses: losesAll,
		build: func(s site) Fault { return newHogged(s) },
	}
}
