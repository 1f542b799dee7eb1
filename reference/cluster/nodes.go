package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

var _ reference.Liveness = (*Containers)(nil)

// Kill ends the node's processes with SIGKILL, frozen ones too. Its host lives
// on. A node that is dead already is left alone.
func (c *Containers) Kill(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	c.forget(id)
	if err := c.signal(ctx, container, "SIGKILL"); err != nil {
		return fmt.Errorf("kill node %s: %w", n.Name, err)
	}
	return nil
}

// StartNode starts a node from its own disk. A node that runs is left alone; one
// that was told to end is awaited for a minute first, and killed if it runs then.
func (c *Containers) StartNode(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	err = c.awaitEnding(ctx, n, container)
	if errors.Is(err, errNotEnded) {
		err = c.signal(ctx, container, "SIGKILL")
	}
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	c.forget(id)
	if _, err := c.docker.ContainerStart(ctx, container, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	return nil
}

func (c *Containers) container(id topology.ID) (topology.Node, string, error) {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return n, "", fmt.Errorf("the cluster has no node %d", id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	container, ok := c.containers[id]
	if !ok {
		return n, "", fmt.Errorf("node %s has no container in run %s", n.Name, c.spec.RunID)
	}
	return n, container, nil
}

// failWithNodes ends a start as soon as a node's container has exited: it will
// not come up by itself. It returns when ctx ends.
func (c *Containers) failWithNodes(ctx context.Context, fail context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range c.spec.Topology.Nodes {
			if state := c.containerState(ctx, n.ID); state == "exited" || state == "dead" {
				fail(fmt.Errorf("node %s ended while it started", n.Name))
				return
			}
		}
	}
}

// containerState asks the engine what a node's container does.
func (c *Containers) containerState(ctx context.Context, id topology.ID) string {
	_, container, err := c.container(id)
	if err != nil {
		return "missing"
	}
	return c.stateOf(ctx, container)
}

// Runs asks the engine whether a node has processes, frozen ones too.
func (c *Containers) Runs(ctx context.Context, id topology.ID) (bool, error) {
	n, container, err := c.container(id)
	if err != nil {
		return false, err
	}
	inspected, err := c.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether node %s runs: %w", n.Name, err)
	}
	return isRunning(string(inspected.Container.State.Status)), nil
}

// stateOf asks the engine what a container does: "running", "paused", "exited",
// or why it does not tell.
func (c *Containers) stateOf(ctx context.Context, container string) string {
	inspected, err := c.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		return "missing"
	case err != nil:
		return err.Error()
	}
	return string(inspected.Container.State.Status)
}

// awaitReady waits for what Start promises, and installs the schema.
func (c *Cluster) awaitReady(ctx context.Context) error {
	for _, n := range c.spec.Topology.ByRole(topology.Data) {
		if _, err := c.AwaitUp(ctx, n.ID); err != nil {
			return err
		}
	}
	c.spec.Announce("cluster: data nodes started")
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	if err := schema.Install(ctx, admins, c.SchemaOptions()); err != nil {
		return err
	}
	c.spec.Announce("cluster: schema installed on every SQL node")
	for _, n := range c.spec.Topology.Nodes {
		if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// NodeState is what status shows of one node.
type NodeState struct {
	Node      topology.Node
	Address   string
	Container string // what the engine says: "running", "exited", ...
	Cluster   string // what the management server says, or why it says nothing
}

// Status asks the engine and the management server about every node.
func (c *Cluster) Status(ctx context.Context) []NodeState {
	reported, err := c.NodeStatus(ctx)
	var states []NodeState
	for _, n := range c.spec.Topology.Nodes {
		s := NodeState{Node: n, Address: c.Address(n), Container: c.containerState(ctx, n.ID)}
		switch status, ok := reported[n.ID]; {
		case err != nil:
			s.Cluster = "management server does not answer"
		case !ok:
			s.Cluster = "not reported"
		default:
			s.Cluster = strings.ToLower(string(status.Status))
		}
		states = append(states, s)
	}
	return states
}

// tailTimeout bounds how long logs are read for an error message.
const tailTimeout = 3 * time.Second

// logTails returns the last lines of every node's log that is not running, for
// an error message.
func (c *Containers) logTails(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	var b strings.Builder
	for _, n := range c.spec.Topology.Nodes {
		state := c.containerState(ctx, n.ID)
		if state == "running" {
			continue
		}
		fmt.Fprintf(&b, "\n  node %s is %s; its log ends with:", n.Name, state)
		for _, line := range c.logTail(ctx, n.ID, 5) {
			fmt.Fprintf(&b, "\n    %s", line)
		}
	}
	return b.String()
}
