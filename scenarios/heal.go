package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// Heal undoes what crashed runs left in an engine: a cluster that was to end
// with its run is removed, and in one that stays the faults that its journal
// leaves open are undone. A run whose harness still lives is left alone. With a
// name only that cluster is looked at. It is idempotent. The error wraps
// chaos.ErrUnhealed where something is left.
func Heal(ctx context.Context, docker *client.Client, name string, say func(string)) error {
	clusters, err := cluster.List(ctx, docker)
	if err != nil {
		return err
	}
	if name != "" {
		clusters = slices.DeleteFunc(clusters, func(info cluster.Info) bool { return info.RunID != name })
	}
	if len(clusters) == 0 {
		if name != "" {
			name = " called " + name
		}
		say(fmt.Sprintf("nothing to heal: the engine holds no cluster of mailbench%s", name))
		return nil
	}
	var failures []error
	for _, info := range clusters {
		say := ofRun(info.RunID, say)
		switch {
		case !info.Keep && engine.Alive(info.Owner):
			say(fmt.Sprintf("its harness (process %s) is at work; left alone", info.PID()))
		case !info.Keep:
			// First, as the label leads to the journal.
			if err := healOutside(ctx, info.Journal, say); err != nil {
				failures = append(failures, fmt.Errorf("run %s: %w", info.RunID, err))
				continue
			}
			if err := cluster.Remove(ctx, docker, info.RunID); err != nil {
				failures = append(failures, fmt.Errorf("run %s: %w: %w", info.RunID, chaos.ErrUnhealed, err))
				continue
			}
			say("removed its containers, volumes and network")
		default:
			if err := healKept(ctx, docker, info, say); err != nil {
				failures = append(failures, fmt.Errorf("run %s: %w", info.RunID, err))
			}
		}
	}
	return errors.Join(failures...)
}

// healOutside undoes what programs have made outside of a cluster that is to be
// removed. Of its nodes nothing needs to be undone, nor a journal to be there.
func healOutside(ctx context.Context, path string, say func(string)) error {
	if path == "" {
		return nil
	}
	journal, entries, err := chaos.ReopenJournal(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil: // entries are those that could be read
		say(err.Error())
		undone, err := chaos.HealOutside(ctx, entries, nil)
		return sayUndone(undone, err, say)
	}
	defer journal.Close()
	undone, err := chaos.HealOutside(ctx, entries, journal)
	return sayUndone(undone, err, say)
}

func sayUndone(undone []chaos.Planned, err error, say func(string)) error {
	for _, p := range undone {
		say(fmt.Sprintf("%s on %s: undone", p.ID, p.Names()))
	}
	return err
}

// healKept undoes the open faults of a cluster that outlives its harness. Where
// there is no journal that can be read, whatever faults may have left is taken
// back, and every node that does not take part is started.
func healKept(ctx context.Context, docker *client.Client, info cluster.Info, say func(string)) error {
	if engine.Alive(info.Owner) && info.Owner != engine.Owner() && info.Journal != "" {
		say(fmt.Sprintf("its harness (process %s) is at work; left alone", info.PID()))
		return nil
	}
	release, err := lockJournal(info)
	var busy *BusyError
	if errors.As(err, &busy) {
		say("a command is at work on it; left alone")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	defer release()
	c, err := cluster.Attach(ctx, docker, info.RunID)
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	ctx, cancel := context.WithTimeout(ctx, chaos.DefaultTimeouts().Heal)
	defer cancel()
	if info.Journal == "" {
		return restore(ctx, c, say)
	}
	journal, entries, err := chaos.ReopenJournal(info.Journal)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) { // no fault was ever made
			say(err.Error())
		}
		return restore(ctx, c, say)
	}
	defer journal.Close()
	faults := chaos.Builder(c, nil)
	r := &reviver{target: c, say: say}
	healed, err := chaos.Heal(ctx, entries, func(p chaos.Planned) (chaos.Fault, error) {
		fault, err := faults(p)
		return revived{fault, r}, err
	}, journal)
	for _, h := range healed {
		say(h.String())
	}
	if len(healed) == 0 {
		say("kept, and no fault is open in it")
	}
	return err
}

// reviver starts nodes that died of a fault although no journal tells of them: an
// outage that nobody expected, which no node of it can end alone.
type reviver struct {
	target  revivable
	say     func(string)
	started []topology.ID // once each: what ends again needs somebody who looks why
}

type revivable interface {
	Topology() topology.Topology
	reference.Liveness
	StartNode(ctx context.Context, node topology.ID) error
}

const revivePoll = time.Second

// look starts the nodes that are dead.
func (r *reviver) look(ctx context.Context) {
	for _, n := range r.target.Topology().Nodes {
		runs, err := r.target.Runs(ctx, n.ID)
		if err != nil || runs || slices.Contains(r.started, n.ID) {
			continue
		}
		r.started = append(r.started, n.ID)
		if err := r.target.StartNode(ctx, n.ID); err != nil {
			r.say(fmt.Sprintf("node %s is dead, too, and was not started: %v", n.Name, err))
			continue
		}
		r.say(fmt.Sprintf("node %s was dead, too; started", n.Name))
	}
}

// revived is a fault that is healed: all that died is started, too, while its own
// nodes are awaited.
type revived struct {
	chaos.Fault
	*reviver
}

// AwaitRecovered comes when every fault is undone.
func (r revived) AwaitRecovered(ctx context.Context) (evidence reference.Evidence, err error) {
	r.while(ctx, func() { evidence, err = r.Fault.AwaitRecovered(ctx) })
	return evidence, err
}

// while starts the nodes that are found dead while a wait lasts.
func (r *reviver) while(ctx context.Context, wait func()) {
	looking, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() {
		for looking.Err() == nil {
			r.look(looking)
			select {
			case <-looking.Done():
			case <-time.After(revivePoll):
			}
		}
	})
	defer looks.Wait()
	defer stop()
	wait()
}

// lookTime is how long a node that takes part may be in saying so.
const lookTime = 8 * time.Second

// restore takes back what faults may have left on a cluster of which no journal
// tells, and waits until every node takes part again. A node that the cluster
// counts as failed although it lives ends by itself when it hears from the others
// again, or takes part again: what shows neither is killed. The look at who has
// failed comes first, while they are still cut off or frozen.
func restore(ctx context.Context, c restorable, say func(string)) error {
	states := c.Status(ctx)
	failed := make([]bool, len(states))
	var looks sync.WaitGroup
	for i, s := range states {
		looks.Go(func() { failed[i] = !takesPart(ctx, c, s.Node.ID) })
	}
	looks.Wait()
	failures := []error{c.Restore(ctx)}
	starts := make([]error, len(states))
	var starting sync.WaitGroup
	for i, s := range states {
		if !failed[i] {
			continue
		}
		starting.Go(func() {
			var killErr error
			if (s.Container == "running" || s.Container == "paused") && !chaos.Settled(ctx, c, s.Node) {
				killErr = c.Kill(ctx, s.Node.ID)
			}
			starts[i] = errors.Join(killErr, c.StartNode(ctx, s.Node.ID))
		})
	}
	starting.Wait()
	failures = append(failures, starts...)
	waits := make([]error, len(states))
	r := &reviver{target: c, say: say}
	r.while(ctx, func() {
		for i, s := range states {
			_, waits[i] = c.AwaitUp(ctx, s.Node.ID)
		}
	})
	failures = append(failures, waits...)
	mended := false
	for i, s := range states {
		if failed[i] && waits[i] == nil {
			mended = true
			say(fmt.Sprintf("node %s was %s; it takes part again", s.Node.Name, s.Container))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	if !mended {
		say("kept, and every node runs")
	}
	return nil
}

// restorable is a cluster on which any fault may have been left.
type restorable interface {
	revivable
	reference.Nodes
	Status(ctx context.Context) []cluster.NodeState
	Restore(ctx context.Context) error
	Kill(ctx context.Context, node topology.ID) error
}

// takesPart says whether a node lives and the cluster counts it in. A dead node is
// still counted in until its connections are found closed, so that the process is
// looked at last.
func takesPart(ctx context.Context, c restorable, id topology.ID) bool {
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if _, err := c.AwaitUp(looking, id); err != nil {
		return false
	}
	runs, err := c.Runs(ctx, id)
	return runs || err != nil // one of which nothing is known is awaited below
}

// ofRun has what is said begin with the run.
func ofRun(runID string, say func(string)) func(string) {
	return func(line string) { say(fmt.Sprintf("run %s: %s", runID, line)) }
}
