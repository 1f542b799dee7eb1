package chaos

import (
	"context"
	"errors"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// DiskFull fills the file system under data nodes.
//
// Data is in memory, and the redo log's files have their size from the start
// where they are not sparse: reads and commits go on until the node must write
// something new, its next local checkpoint, or a part of the log that was never
// written to. It then ends with a file system error. Where the target takes DUMP
// codes a checkpoint is asked for, so that this is now and not in some minutes.
//
// Recover frees the disk, and starts a node that has ended.
// A node that cannot write what its start needs ends again, which is why the disk
// is freed first.
//
// Effect: the cluster counts one of the nodes as failed, or the clients feel it.
const DiskFull Kind = "disk-full"

func describeDiskFull() Description {
	return Description{
		Kind:    DiskFull,
		Summary: "the disk under a data node filled, and freed",
		Source:  "ndbd_exit_codes.h, 2806 to 2815; MySQL manual, \"Configuring Data Nodes\", disk checkpointing",
		Roles:   onData(),
		Settings: []Setting{
			number("leave_bytes", "what is left free", "bytes", 1, 1<<40, int64(0), func(s *Settings) *int64 { return &s.LeaveBytes }).orNothing("nothing is left"),
		},
		Needs:   []Capability{Disk},
		Nearest: Kill,
		Felt:    true,
		Expect: func(t topology.Topology, p Planned) string {
			return "it goes on until it must write something new, a local checkpoint at the latest, and then ends with a file system error; " + expectLoss(t, p.Nodes)
		},
		loses: losesAll,
		build: func(s site) Fault { return diskFull{s} },
	}
}

type diskFull struct{ site }

func (f diskFull) Check(ctx context.Context) error {
	if err := f.site.Check(ctx); err != nil {
		return err
	}
	return with(f.site, Disk, func(can reference.Disk) error {
		var failures []error
		for _, n := range f.p.Nodes {
			failures = append(failures, can.CheckDisk(ctx, n.ID))
		}
		if err := errors.Join(failures...); err != nil {
			return f.nearest(err)
		}
		return nil
	})
}

func (f diskFull) Inject(ctx context.Context) error {
	err := with(f.site, Disk, func(can reference.Disk) error {
		return f.onNodes(func(id topology.ID) error { return can.FillDisk(ctx, id, f.p.Settings.LeaveBytes) })
	})
	if observer, ok := f.target.(reference.Observer); ok && err == nil {
		err = reference.StartLocalCheckpoint(ctx, observer)
	}
	return err
}

func (f diskFull) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return first(ctx, f.anyDown(f.p.Nodes)...)
}

func (f diskFull) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f diskFull) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f diskFull) Undo(ctx context.Context) error {
	return f.takeBack(ctx, func() error {
		return with(f.site, Disk, func(can reference.Disk) error {
			return f.onNodes(func(id topology.ID) error { return can.FreeDisk(ctx, id) })
		})
	})
}
