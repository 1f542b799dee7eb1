package reference

import (
	"context"
	"fmt"
	"time"
)

// startCheckpoint is the DUMP code that has the master start a local checkpoint
// (signaldata/DumpStateOrd.hpp, 7099). While one is under way, another follows it.
const startCheckpoint = 7099

// StartLocalCheckpoint asks the master, which alone listens, for a local checkpoint.
func StartLocalCheckpoint(ctx context.Context, o Observer) error {
	master, err := o.Master(ctx)
	if err != nil {
		return err
	}
	return o.Dump(ctx, master, startCheckpoint)
}

// CompleteLocalCheckpoint has the data nodes write what they hold to disk: it asks for
// a local checkpoint and returns when one has been completed that began since then.
func CompleteLocalCheckpoint(ctx context.Context, o Observer) error {
	asked := time.Now()
	if err := StartLocalCheckpoint(ctx, o); err != nil {
		return fmt.Errorf("ask for a local checkpoint: %w", err)
	}
	for _, name := range []string{"LocalCheckpointStarted", "LocalCheckpointCompleted"} {
		told, err := o.AwaitEvent(ctx, asked, func(e ClusterEvent) bool { return e.Name == name })
		if err != nil {
			return fmt.Errorf("await %s: %w", name, err)
		}
		asked = told.At
	}
	return nil
}
