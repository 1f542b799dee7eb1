package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// lookTimeout bounds the look at all nodes' processes after a wait was in vain.
const lookTimeout = 5 * time.Second

// AwaitRedundant is View's. Where it is in vain, the error says which processes
// have ended as well: a node that nobody killed is what nobody starts.
func (c *Cluster) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	evidence, err := c.View.AwaitRedundant(ctx, id)
	if err == nil {
		return evidence, nil
	}
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	return evidence, errors.Join(err, c.Ended(looking))
}

// Ended tells of the nodes whose processes have ended, and why; nil if none has.
func (c *Containers) Ended(ctx context.Context) error {
	var gone []error
	for _, n := range c.spec.Topology.Nodes {
		_, container, err := c.container(n.ID)
		if err != nil {
			continue // it was never started
		}
		inspected, err := c.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
		if err != nil || inspected.Container.State == nil {
			continue
		}
		s := inspected.Container.State
		if state := string(s.Status); state == "exited" || state == "dead" {
			gone = append(gone, endedAs(n, c.spec.Topology.Limits[n.Role], s.ExitCode, s.OOMKilled))
		}
	}
	return errors.Join(gone...)
}

// endedAs words how a node's process has ended.
func endedAs(n topology.Node, l topology.Limits, code int, noMemory bool) error {
	if noMemory {
		return fmt.Errorf("%s was killed by the kernel, as it wanted more memory than its limit of %d MiB: raise the limit of %s nodes", n.Name, l.MemoryMiB, n.Role)
	}
	return fmt.Errorf("the process of %s has ended, with exit code %d", n.Name, code)
}
