package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/moby/moby/client"
)

// StartError says that a cluster did not come up. Nothing of it is left.
type StartError struct{ Err error }

func (e *StartError) Error() string { return fmt.Sprintf("start the cluster: %v", e.Err) }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// Up starts a cluster with a plan's topology that stays until it is removed by
// its name.
func Up(ctx context.Context, docker *client.Client, p *Plan, name, image string, w io.Writer, terminal bool) error {
	if _, err := cluster.Attach(ctx, docker, name); !errors.Is(err, cluster.ErrNoCluster) {
		return &StartError{fmt.Errorf("there is a cluster named %s; remove it with: mailbench cluster down --name %s", name, name)}
	}
	found, err := FindImage(ctx, docker, image, w, terminal)
	if err != nil {
		return err
	}
	c := cluster.New(docker, cluster.Spec{
		RunID: name, Topology: p.Topology, Image: found.ID, Account: cluster.DefaultAccount(), Keep: true,
		Announce: func(line string) { fmt.Fprintln(w, line) },
	})
	return start(ctx, c)
}

// start starts a cluster within startTimeout, and removes what there is of it
// when it does not come up.
func start(ctx context.Context, c *cluster.Cluster) error {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.Start(starting); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return errors.Join(&StartError{err}, c.Stop(stopping))
	}
	return nil
}
