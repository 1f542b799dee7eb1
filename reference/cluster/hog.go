package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

var _ reference.Hog = (*Containers)(nil)

const (
	hogMemory     = 256 << 20 // bytes, file cache included, beside what it is told to hold
	hogWrites     = 4         // writes a second, each of them synced
	hogBlock      = 4 << 10   // bytes: what is written is a multiple of it
	maxHogBytes   = 4 << 30   // a second
	hogStillTimes = "0.25"    // seconds between the beginnings of two writes
	maxHogMemory  = 1 << 40   // bytes
	leastMemory   = 64 << 20  // bytes that a node is left at the least
)

// hogScript holds $5 MiB in a file system in memory and reads them once a
// second; burns the processor in $1 loops; and writes $2 blocks of $4 bytes over
// the file $3 again and again. A disk that is too slow for the rate is kept busy
// all the time.
const hogScript = `
if [ "$5" != 0 ]; then
  dd if=/dev/zero of=/dev/shm/held bs=1048576 count="$5" status=none
  while :; do cat /dev/shm/held > /dev/null; sleep 1; done &
fi
i=0; while [ "$i" -lt "$1" ]; do i=$((i+1)); while :; do :; done & done
if [ "$2" = 0 ]; then wait; fi
while :; do
  sleep ` + hogStillTimes + ` & pace=$!
  dd if=/dev/zero of="$3" bs="$4" count="$2" conv=notrunc,fsync status=none
  wait "$pace"
done
`

// checkHog refuses a load that is out of range for a node with that share of
// the processors, in thousandths of one, and of the memory, in bytes; 0 is a
// memory without a limit.
func checkHog(h reference.HogLoad, share int, memory int64) error {
	switch {
	case h.MilliCPUs < 0 || h.BytesPerSecond < 0 || h.MemoryBytes < 0 || h == (reference.HogLoad{}):
		return errors.New("it takes neither processor time nor disk bandwidth nor memory")
	case h.MilliCPUs > 0 && h.MilliCPUs < minMilliCPUs, share-h.MilliCPUs < minMilliCPUs:
		return fmt.Errorf("it takes %d thousandths of a processor, must be 0, or %d to %d of the node's %d",
			h.MilliCPUs, minMilliCPUs, share-minMilliCPUs, share)
	case h.BytesPerSecond > 0 && h.BytesPerSecond < hogWrites*hogBlock || h.BytesPerSecond > maxHogBytes:
		return fmt.Errorf("it writes %d bytes a second, must be 0, or %d to %d", h.BytesPerSecond, hogWrites*hogBlock, int64(maxHogBytes))
	case h.MemoryBytes%(1<<20) != 0 || h.MemoryBytes > maxHogMemory:
		return fmt.Errorf("it holds %d bytes of memory, must be whole MiB, up to %d", h.MemoryBytes, int64(maxHogMemory))
	case memory > 0 && h.MemoryBytes > 0 && memory-h.MemoryBytes < leastMemory:
		return fmt.Errorf("it holds %d MiB of memory, must be 0, or 1 to %d of the node's %d", h.MemoryBytes>>20, (memory-leastMemory)>>20, memory>>20)
	}
	return nil
}

// hogArguments are those of hogScript.
func hogArguments(h reference.HogLoad, file string) []string {
	loops := (h.MilliCPUs + 999) / 1000
	blocks := h.BytesPerSecond / hogWrites / hogBlock
	return []string{fmt.Sprint(loops), fmt.Sprint(blocks), file, fmt.Sprint(hogBlock), fmt.Sprint(h.MemoryBytes >> 20)}
}

// StartHog runs a neighbour beside a node, in place of one that runs there. The
// node's own share of the processors and of the memory becomes smaller by what the
// neighbour takes; a node without a limit has the whole machine for its share.
// Memory that the node's processes hold is not to be had: the kernel drops what it
// has cached of files, and refuses the limit if that is not enough.
func (c *Containers) StartHog(ctx context.Context, id topology.ID, h reference.HogLoad) error {
	n, _, err := c.container(id)
	if err != nil {
		return err
	}
	limits := c.spec.Topology.Limits[n.Role]
	share := limits.MilliCPUs
	if share == 0 {
		share = 1000 * runtime.NumCPU() // the engine is on this machine: see checkReachable
	}
	memory := memoryLimit(limits)
	err = checkHog(h, share, memory)
	if err == nil && h.BytesPerSecond > 0 && limits.DiskMiB > 0 {
		err = errors.New("the node's disk is memory, since the topology bounds it, and nothing can slow it down; bound no disk, or let the neighbour write nothing")
	}
	if err != nil {
		return fmt.Errorf("start a neighbour of node %s: %w", n.Name, err)
	}
	if err := c.removeHogs(ctx, n.Name); err != nil {
		return err
	}
	milliCPUs := limits.MilliCPUs
	if h.MilliCPUs > 0 {
		milliCPUs = share - h.MilliCPUs
	}
	if memory > 0 {
		memory -= h.MemoryBytes
	}
	if err := c.setLimits(ctx, id, milliCPUs, memory); err != nil {
		return err
	}
	err = act(ctx, func(ctx context.Context) error {
		// Without LabelHost and LabelNode: it is neither.
		labels := c.labels(map[string]string{engine.LabelHog: n.Name})
		host := &container.HostConfig{NetworkMode: "none", Mounts: []mount.Mount{c.volume(n, hostVolumes+n.Name)}}
		host.Memory, host.ShmSize = hogMemory+h.MemoryBytes, h.MemoryBytes
		if h.MilliCPUs > 0 {
			host.CPUPeriod, host.CPUQuota = cpuPeriod, quota(h.MilliCPUs)
		}
		created, err := c.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
			Name: c.name("hog-" + n.Name), HostConfig: host,
			Config: &container.Config{
				Image: c.spec.Image, Labels: labels,
				Entrypoint: append([]string{"sh", "-c", hogScript, "sh"}, hogArguments(h, hostVolumes+n.Name+"/"+hogFile)...),
			},
		})
		if err != nil {
			return err
		}
		_, err = c.docker.ContainerStart(ctx, created.ID, client.ContainerStartOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("start a neighbour of node %s: %w", n.Name, err)
	}
	return nil
}

// StopHog removes a node's neighbour and gives the node back what the topology
// says. Where there is none, it only does the latter.
func (c *Containers) StopHog(ctx context.Context, id topology.ID) error {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return fmt.Errorf("the cluster has no node %d", id)
	}
	return errors.Join(c.removeHogs(ctx, n.Name), c.removeFile(ctx, id, hogFile), c.ResetLimits(ctx, id))
}

// removeHogs removes the neighbours of a node.
func (c *Containers) removeHogs(ctx context.Context, node string) error {
	return act(ctx, func(ctx context.Context) error {
		found, err := c.docker.ContainerList(ctx, client.ContainerListOptions{
			All: true, Filters: engine.Owned(c.spec.RunID).Add("label", engine.LabelHog+"="+node),
		})
		if err != nil {
			return fmt.Errorf("list the neighbours of node %s: %w", node, err)
		}
		var failures []error
		for _, item := range found.Items {
			_, err := c.docker.ContainerRemove(ctx, item.ID, client.ContainerRemoveOptions{Force: true})
			failures = append(failures, unlessGone(err, "remove the neighbour of node %s", node))
		}
		return errors.Join(failures...)
	})
}
