package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/external"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload/strictyaml"
	"github.com/moby/moby/client"
)

// system is a target that a Conductor runs on. What else it has is asked for where
// it is wanted: the capabilities of the package reference, of which the ledger
// wants Admin, Replicator and Checkpointer, and Usage and SaveLogs, as a
// cluster in containers has.
type system interface {
	reference.Target
	RunID() string
	Address(topology.Node) string
	Version(context.Context) (string, error)
}

// ground is where a run takes place.
type ground struct {
	target system
	image  results.Image  // that nodes run, none where they are not ours
	docker *client.Client // nil where none is needed

	start   func(context.Context) error        // leaves nothing behind when it fails
	stop    func(context.Context, error) error // returns what the run's error has become
	release func()
}

// external describes a cluster that somebody else runs, and makes this process the
// one that may heal what the run does to it.
func (c *Conductor) external(_ context.Context, p *Plan, dir string) (*ground, error) {
	id := runID(p.Scenario.Name)
	m, err := mark(id, dir)
	if err != nil {
		return nil, err
	}
	target, err := p.Scenario.externalTarget(external.Spec{
		Confirmed: c.Confirmed, Mark: m, Keep: c.Keep, Announce: func(line string) { c.say("%s", line) },
	})
	if err != nil {
		return nil, err
	}
	unlock, err := lockJournal(cluster.Info{RunID: id, Journal: m.Journal})
	if err != nil {
		return nil, err
	}
	return &ground{
		target: target,
		release: func() {
			unlock()
			if _, err := os.Stat(m.Journal); errors.Is(err, os.ErrNotExist) {
				_ = os.Remove(m.Journal + lockSuffix) // else an empty run directory would stay
			}
		},
		start: func(ctx context.Context) error { return startExternal(ctx, target) },
		stop:  func(ctx context.Context, err error) error { return c.stopExternal(ctx, target, p, err) },
	}, nil
}

// startExternal makes the database on a cluster that runs, and drops it when the
// cluster does not get ready.
func startExternal(ctx context.Context, target *external.Cluster) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := target.Start(starting)
	if err == nil {
		return nil
	}
	var (
		refused     *external.RefusedError
		unconfirmed *external.UnconfirmedError
	)
	if !errors.As(err, &refused) && !errors.As(err, &unconfirmed) {
		err = &StartError{err}
	}
	return errors.Join(err, dropDatabase(ctx, target))
}

// dropDatabase takes back what Start has made, after an interrupt too.
func dropDatabase(ctx context.Context, target *external.Cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := target.Stop(ctx); err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	return nil
}

// stopExternal drops the database, unless it is to be kept or a fault is left: it
// is what leads heal to the journal.
func (c *Conductor) stopExternal(ctx context.Context, target *external.Cluster, p *Plan, err error) error {
	e := p.Scenario.External
	heal := fmt.Sprintf("mailbench heal --scenario FILE --i-know-this-cluster %s", e.Name)
	switch {
	case errors.Is(err, chaos.ErrUnhealed):
		c.say("cluster: database %s stays, until the fault is taken back with: %s", e.Database, heal)
		return err
	case c.Keep:
		c.say("cluster: database %s kept; drop it with: %s", e.Database, heal)
		return err
	}
	if dropErr := dropDatabase(ctx, target); dropErr != nil {
		return errors.Join(err, fmt.Errorf("%w; run: %s", dropErr, heal))
	}
	c.say("cluster: database %s dropped; all else is as it was", e.Database)
	return err
}

// CheckExternal looks at the external cluster of a plan: whether each fault can be
// made on it, whether it is as described and whole, and whether its guard lets
// anybody in. It changes nothing there.
func CheckExternal(ctx context.Context, p *Plan, w io.Writer) error {
	target, err := p.Scenario.externalTarget(external.Spec{})
	if err != nil {
		return err
	}
	if err := p.checkFaults(ctx, target); err != nil {
		return err
	}
	if err := errors.Join(target.Verify(ctx), target.Guard(ctx)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "check: external cluster %s is as described, whole, and released by its administrator; the plan's faults can be made there (%d)\n",
		p.Scenario.External.Name, len(p.Faults.Steps))
	return err
}

// HealExternal takes back what a run has left on an external cluster: the faults
// that its journal leaves open, and the database. Journal is the path of the
// journal where it is not the one that the run has noted in the cluster. It is
// idempotent. The error wraps chaos.ErrUnhealed where something is left.
func HealExternal(ctx context.Context, file *File, confirmed, journal string, say func(string)) error {
	s, err := file.external()
	if err != nil {
		return err
	}
	target, err := s.externalTarget(external.Spec{Confirmed: confirmed})
	if err != nil {
		return err
	}
	if err := target.PermitHeal(ctx); err != nil {
		return err
	}
	m, found, err := target.FindMark(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	name := s.External.Name
	if !found && journal == "" {
		say(fmt.Sprintf("cluster %s: nothing to heal: it holds no database %s of mailbench's", name, s.External.Database))
		return nil
	}
	if journal == "" {
		if journal, err = notedJournal(m); err != nil {
			return fmt.Errorf("cluster %s: %w: %w", name, chaos.ErrUnhealed, err)
		}
	}
	release, err := lockJournal(cluster.Info{RunID: m.RunID, Journal: journal})
	var busy *BusyError
	if errors.As(err, &busy) {
		say(fmt.Sprintf("cluster %s: a run is at work on it; left alone", name))
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, chaos.DefaultTimeouts().Heal)
	defer cancel()
	if err := healJournal(ctx, target, journal, m, say); err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	if !found {
		return nil
	}
	if err := target.DropDatabase(ctx, m.RunID); err != nil {
		return fmt.Errorf("cluster %s: %w: %w", name, chaos.ErrUnhealed, err)
	}
	say(fmt.Sprintf("cluster %s: dropped database %s of run %s", name, s.External.Database, m.RunID))
	return nil
}

// external reads of a file only which external cluster it is for: what else it
// names, such as a trace file, need not be there any more.
func (f *File) external() (*Scenario, error) {
	root, mistake := strictyaml.ParseTree("scenario", f.Name, f.Data, true)
	if mistake != nil {
		return nil, mistake
	}
	root.Pairs = slices.DeleteFunc(root.Pairs, func(p strictyaml.Pair) bool {
		return !slices.Contains([]string{"name", "hypothesis", "cluster", "external"}, p.Key)
	})
	s, d := read(f.Name, root, defaults())
	d.checkExternal(s)
	if err := d.Err(); err != nil {
		return nil, err
	}
	if !s.external() {
		return nil, &InputError{File: f.Name, Msg: "its cluster is not external: what runs in containers have left is healed without --scenario"}
	}
	return s, nil
}

// notedJournal is the path that a run has noted, on the machine where it ran.
func notedJournal(m external.Mark) (string, error) {
	if here, err := os.Hostname(); err != nil || here != m.Machine {
		return "", fmt.Errorf("the journal of run %s is on machine %s, %s: heal there, or bring it here and name it with --journal", m.RunID, m.Machine, m.Journal)
	}
	if _, err := os.Stat(filepath.Dir(m.Journal)); err != nil {
		return "", fmt.Errorf("the journal of run %s is gone (%w), and whether a fault is open stands nowhere else: look at every node, and then drop its database by hand", m.RunID, err)
	}
	return m.Journal, nil
}

// healJournal undoes the open faults of a journal. Where the folder is there and
// the journal is not, no fault was made yet.
func healJournal(ctx context.Context, target *external.Cluster, path string, m external.Mark, say func(string)) error {
	journal, entries, err := chaos.ReopenJournal(path)
	if errors.Is(err, os.ErrNotExist) && path == m.Journal {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", chaos.ErrUnhealed, err)
	}
	defer journal.Close()
	if len(entries) > 0 && m.RunID != "" && entries[0].RunID != m.RunID {
		return fmt.Errorf("%w: journal %s is of run %s, but the cluster was left by %s: name that one's with --journal", chaos.ErrUnhealed, path, entries[0].RunID, m.RunID)
	}
	healed, err := chaos.Heal(ctx, entries, chaos.Builder(target, nil), journal)
	for _, h := range healed {
		say(h.String())
	}
	return err
}
