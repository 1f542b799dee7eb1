package scenarios

import (
	"context"
	"errors"
	"fmt"

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
			say(fmt.Sprintf("run %s: its harness (process %s) is at work; left alone", info.RunID, info.PID()))
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

// healKept undoes the open faults of a cluster that outlives its harness. Where
// its journal is gone or damaged, every node that does not run is started: that
// undoes a kill, and StartNode leaves a node that runs alone.
func healKept(ctx context.Context, docker *client.Client, info cluster.Info, say func(string)) error {
	if engine.Alive(info.Owner) && info.Owner != engine.Owner() && info.Journal != "" {
		say(fmt.Sprintf("run %s: its harness (process %s) is at work; left alone", info.RunID, info.PID()))
		return nil
	}
	c, err := cluster.Attach(ctx, docker, info.RunID)
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	ctx, cancel := context.WithTimeout(ctx, chaos.DefaultTimeouts().Heal)
	defer cancel()
	if info.Journal == "" {
		return startDead(ctx, c, info.RunID, say)
	}
	journal, entries, err := chaos.ReopenJournal(info.Journal)
	if err != nil {
		say(fmt.Sprintf("run %s: %v", info.RunID, err))
		return startDead(ctx, c, info.RunID, say)
	}
	defer journal.Close()
	healed, err := chaos.Heal(ctx, entries, chaos.Builder(c, nil), journal)
	for _, h := range healed {
		say(fmt.Sprintf("run %s: %s", info.RunID, h))
	}
	if len(healed) == 0 {
		say(fmt.Sprintf("run %s: kept, and no fault is open in it", info.RunID))
	}
	return err
}

// startDead starts every node of a cluster whose container does not run, and
// waits until it takes part again.
func startDead(ctx context.Context, c *cluster.Cluster, runID string, say func(string)) error {
	var dead []cluster.NodeState
	for _, s := range c.Status(ctx) {
		if s.Container != "running" {
			dead = append(dead, s)
		}
	}
	if len(dead) == 0 {
		say(fmt.Sprintf("run %s: kept, and every node runs", runID))
		return nil
	}
	var failures []error
	for _, s := range dead {
		failures = append(failures, c.StartNode(ctx, s.Node.ID))
	}
	for _, s := range dead {
		if _, err := c.AwaitUp(ctx, s.Node.ID); err != nil {
			failures = append(failures, err)
			continue
		}
		say(fmt.Sprintf("run %s: node %s was %s; it takes part again", runID, s.Node.Name, s.Container))
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	return nil
}
