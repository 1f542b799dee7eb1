package cluster

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// Usage is what one node has used of its machine.
type Usage struct {
	CPU    time.Duration // since its container last started
	Memory int64         // bytes resident now, file cache included
}

// Usage asks the engine what each running node uses, by the nodes' names. A
// node that is dead, or of which the engine cannot tell in time, is left out.
func (c *Containers) Usage(ctx context.Context) map[string]Usage {
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		usage = map[string]Usage{}
	)
	for _, n := range c.spec.Topology.Nodes {
		_, id, err := c.container(n.ID)
		if err != nil {
			continue
		}
		group.Go(func() {
			u, ok := c.usage(ctx, id)
			if !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			usage[n.Name] = u
		})
	}
	group.Wait()
	return usage
}

func (c *Containers) usage(ctx context.Context, containerID string) (Usage, bool) {
	result, err := c.docker.ContainerStats(ctx, containerID, client.ContainerStatsOptions{})
	if err != nil {
		return Usage{}, false
	}
	defer result.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(result.Body).Decode(&stats); err != nil || stats.MemoryStats.Usage == 0 {
		return Usage{}, false // a dead container has no figures
	}
	return Usage{CPU: time.Duration(stats.CPUStats.CPUUsage.TotalUsage), Memory: int64(stats.MemoryStats.Usage)}, true
}
