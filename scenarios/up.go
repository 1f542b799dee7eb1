package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/moby/moby/client"
)

// StartError says that a cluster did not come up. Nothing of it is left.
type StartError struct{ Err error }

func (e *StartError) Error() string { return fmt.Sprintf("start the cluster: %v", e.Err) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// NameError says that a name cannot be that of a cluster.
type NameError struct{ Name string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%q cannot name a cluster: it must be 1 to 40 letters a-z, digits and '-', a letter first", e.Name)
}

var clusterName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// Up starts a cluster with a plan's topology that stays until Down removes it
// by its name.
func Up(ctx context.Context, docker *client.Client, p *Plan, name, image string, w io.Writer, terminal bool) error {
	if !clusterName.MatchString(name) {
		return &NameError{name}
	}
	if p.External() {
		return &InputError{Msg: fmt.Sprintf("the cluster of scenario %s is external: nothing is there to be started", p.Scenario.Name)}
	}
	if s := p.Scenario; s.System != SystemNDB {
		return &InputError{Msg: fmt.Sprintf("scenario %s is of system %s: only an NDB cluster can stay when its command ends", s.Name, s.System)}
	}
	found, err := FindImage(ctx, docker, image, w, terminal)
	if err != nil {
		return err
	}
	journal, err := clusterJournal(name)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(journal), 0o755)
	}
	if err != nil {
		return err
	}
	c := cluster.New(docker, cluster.Spec{
		RunID: name, Topology: p.Topology, Image: found.ID, Account: cluster.DefaultAccount(), Keep: true, Journal: journal,
		Announce: func(line string) { fmt.Fprintln(w, line) },
	})
	if err := start(ctx, c); err != nil {
		return err
	}
	// That of an earlier cluster of this name, now that it is sure to be gone.
	if err := dropJournal(name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, keptHelp, name)
	return err
}

const keptHelp = "cluster: look at it with: mailbench cluster status --name %[1]s\n" +
	"cluster: remove it with: mailbench cluster down --name %[1]s\n"

// Down removes a cluster by its name, also when ctx ends meanwhile: half a
// cluster is of no use to anybody.
func Down(ctx context.Context, docker *client.Client, name string) error {
	if name == "" {
		return &NameError{name}
	}
	if err := remove(ctx, cluster.New(docker, cluster.Spec{RunID: name})); err != nil {
		return err
	}
	return dropJournal(name)
}

// start starts a cluster within startTimeout, and removes what there is of it
// when it does not come up.
func start(ctx context.Context, c reference.Target) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := c.Start(starting)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrTaken):
		return &StartError{err}
	}
	return errors.Join(&StartError{err}, remove(ctx, c))
}

// remove removes a cluster, after an interrupt too. What it could not remove is
// for heal.
func remove(ctx context.Context, c reference.Target) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		return fmt.Errorf("%w: %w; run: mailbench heal", chaos.ErrUnhealed, err)
	}
	return nil
}
