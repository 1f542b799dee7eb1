package cluster

import (
	"context"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

var _ reference.Freezer = (*Containers)(nil)

// Freeze stops all processes of a node by the kernel's freezer, which they can
// neither see nor refuse. Their connections stay open. A frozen node may be
// killed, but not started. Freezing a frozen node does nothing; a dead one is an
// error.
func (c *Containers) Freeze(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	c.forget(id)
	err = act(ctx, func(ctx context.Context) error {
		_, err := c.docker.ContainerPause(ctx, container, client.ContainerPauseOptions{})
		return err
	})
	if err != nil && c.stateOf(ctx, container) != "paused" {
		return fmt.Errorf("freeze node %s: %w", n.Name, err)
	}
	return nil
}

// Thaw lets a frozen node go on. A node that is not frozen is left alone, dead or
// alive. If the cluster had counted the node as failed meanwhile, a data node
// ends by itself soon after.
func (c *Containers) Thaw(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	err = act(ctx, func(ctx context.Context) error {
		_, err := c.docker.ContainerUnpause(ctx, container, client.ContainerUnpauseOptions{})
		return err
	})
	if err == nil {
		return nil
	}
	if state := c.stateOf(ctx, container); state == "running" || state == "exited" || state == "dead" || state == "created" {
		return nil
	}
	return fmt.Errorf("thaw node %s: %w", n.Name, err)
}
