package scenarios

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
)

const (
	fillEvery   = 5 * time.Second
	fillTimeout = 3 * time.Second
)

// fills follow how full the data nodes are.
type fills struct {
	target system
	latest atomic.Pointer[map[string]results.Fill]
}

// follow asks every few seconds until ctx ends. What cannot be learned is left out.
func (f *fills) follow(ctx context.Context) {
	gauge, ok := f.target.(reference.Gauge)
	if !ok {
		return
	}
	tick := time.NewTicker(fillEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, fillTimeout)
		known, err := gauge.Fill(asking)
		cancel()
		if err != nil {
			continue
		}
		t, rows := f.target.Topology(), map[string]results.Fill{}
		for id, n := range known {
			if node, ok := t.ByID(id); ok {
				rows[node.Name] = results.Fill{
					DataMemoryBytes: n.DataMemory, DataMemoryTotalBytes: n.DataMemoryTotal, RedoBytes: n.Redo, RedoTotalBytes: n.RedoTotal,
				}
			}
		}
		f.latest.Store(&rows)
	}
}

// take is what was learned since it was asked for last; nil for nothing.
func (f *fills) take() map[string]results.Fill {
	known := f.latest.Swap(nil)
	if known == nil {
		return nil
	}
	return *known
}
