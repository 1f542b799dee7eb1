package cluster

import (
	"context"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

var _ reference.Limiter = (*Containers)(nil)

const (
	cpuPeriod    = 100_000   // microseconds: the kernel's own default
	minMilliCPUs = 10        // a quota of 1 ms a period is the kernel's least
	maxMilliCPUs = 1_000_000 // a thousand processors
)

// quota is the processor time, in microseconds, that a node may take in each
// cpuPeriod. 0 thousandths of a processor are no limit, and that is -1: an
// engine takes a quota of 0 for "leave it as it is", and one given as NanoCPUs
// could never be lifted.
func quota(milliCPUs int) int64 {
	if milliCPUs == 0 {
		return -1
	}
	return int64(milliCPUs) * cpuPeriod / 1000
}

// LimitCPU changes what a node may use of its machine's processors, 10
// thousandths of one at the least. The engine keeps it when the node dies and
// starts again.
func (c *Containers) LimitCPU(ctx context.Context, id topology.ID, milliCPUs int) error {
	if milliCPUs < minMilliCPUs || milliCPUs > maxMilliCPUs {
		return fmt.Errorf("limit node %d to %d thousandths of a processor: must be %d to %d", id, milliCPUs, minMilliCPUs, maxMilliCPUs)
	}
	return c.setLimits(ctx, id, milliCPUs, 0)
}

// memoryLimit is what a node of a role may use of the machine's memory, 0 for all.
// The kernel counts files in memory as memory of who wrote them.
func memoryLimit(l topology.Limits) int64 {
	if l.MemoryMiB == 0 {
		return 0
	}
	return int64(l.MemoryMiB+l.DiskMiB) << 20
}

// ResetLimits gives a node back what the topology says, dead or alive.
func (c *Containers) ResetLimits(ctx context.Context, id topology.ID) error {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return fmt.Errorf("the cluster has no node %d", id)
	}
	limits := c.spec.Topology.Limits[n.Role]
	return c.setLimits(ctx, id, limits.MilliCPUs, memoryLimit(limits))
}

// setLimits sets a node's limits; a memory of 0 leaves that as it is.
func (c *Containers) setLimits(ctx context.Context, id topology.ID, milliCPUs int, memory int64) error {
	n, containerID, err := c.container(id)
	if err != nil {
		return err
	}
	err = act(ctx, func(ctx context.Context) error {
		_, err := c.docker.ContainerUpdate(ctx, containerID, client.ContainerUpdateOptions{
			Resources: &container.Resources{CPUPeriod: cpuPeriod, CPUQuota: quota(milliCPUs), Memory: memory},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("change the limits of node %s: %w", n.Name, err)
	}
	return nil
}
