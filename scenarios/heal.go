package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/moby/moby/client"
)

// Heal undoes what crashed runs left in an engine: a cluster that was to end
// with its run is removed, and in one that stays the faults that its journal
// leaves open are undone. A run whose harness still lives is left alone. It is
// idempotent. The error wraps chaos.ErrUnhealed where something is left.
func Heal(ctx context.Context, docker *client.Client, say func(string)) error {
	clusters, err := cluster.List(ctx, docker)
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		say("nothing to heal: the engine holds no cluster of mailbench")
		return nil
	}
	var failures []error
	for _, info := range clusters {
		switch {
		case !info.Keep && engine.Alive(info.Owner):
			say(fmt.Sprintf("run %s: its harness (process %s) is at work; left alone", info.RunID, info.Owner))
		case !info.Keep:
			if err := cluster.Remove(ctx, docker, info.RunID); err != nil {
				failures = append(failures, fmt.Errorf("run %s: %w: %w", info.RunID, chaos.ErrUnhealed, err))
				continue
			}
			say(fmt.Sprintf("run %s: removed its containers, volumes and network", info.RunID))
		default:
			if err := healKept(ctx, docker, info, say); err != nil {
				failures = append(failures, fmt.Errorf("run %s: %w", info.RunID, err))
			}
		}
	}
	return errors.Join(failures...)
}

// healKept undoes the open faults of a cluster that outlives its harness.
func healKept(ctx context.Context, docker *client.Client, info cluster.Info, say func(string)) error {
	if _, err := os.Stat(info.Journal); info.Journal == "" || errors.Is(err, os.ErrNotExist) {
		say(fmt.Sprintf("run %s: kept, and no fault was ever made in it", info.RunID))
		return nil
	}
	if engine.Alive(info.Owner) && info.Owner != engine.Owner() {
		say(fmt.Sprintf("run %s: its harness (process %s) is at work; left alone", info.RunID, info.Owner))
		return nil
	}
	c, err := cluster.Attach(ctx, docker, info.RunID)
	if err != nil {
		return err
	}
	journal, entries, err := chaos.ReopenJournal(info.Journal)
	if err != nil {
		say(fmt.Sprintf("run %s: %v; healing by what could be read of it", info.RunID, err))
	}
	var steps chaos.StepJournal
	if journal != nil {
		defer journal.Close()
		steps = journal
	}
	healed, err := chaos.Heal(ctx, entries, chaos.Builder(c), steps)
	for _, h := range healed {
		say(fmt.Sprintf("run %s: %s", info.RunID, h))
	}
	if len(healed) == 0 {
		say(fmt.Sprintf("run %s: kept, and no fault is open in it", info.RunID))
	}
	return err
}
