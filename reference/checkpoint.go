package reference

import (
	"context"
	"errors"
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

// askAgain is after how long a local checkpoint is asked for again: what the cluster told while
// its events were not listened to yet was not heard.
const askAgain = 20 * time.Second

// CompleteLocalCheckpoint has the data nodes write what they hold to disk: it asks for
// a local checkpoint, every 20 s anew until one begins, and returns when one has been
// completed that began since then.
func CompleteLocalCheckpoint(ctx context.Context, o Observer) error {
	asked := time.Now()
	await := func(ctx context.Context, since time.Time, name string) (time.Time, error) {
		told, err := o.AwaitEvent(ctx, since, func(e ClusterEvent) bool { return e.Name == name })
		if err != nil {
			return time.Time{}, fmt.Errorf("await %s: %w", name, err)
		}
		return told.At, nil
	}
	for {
		if err := StartLocalCheckpoint(ctx, o); err != nil {
			return fmt.Errorf("ask for a local checkpoint: %w", err)
		}
		attempt, cancel := context.WithTimeout(ctx, askAgain)
		started, err := await(attempt, asked, "LocalCheckpointStarted")
		again := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			_, err := await(ctx, started, "LocalCheckpointCompleted")
			return err
		case !again:
			return err
		}
	}
}
