package cluster

import (
	"context"
	"errors"
	"fmt"
)

// Restore takes back whatever faults may have left on the cluster's hosts and
// nodes, for who does not know which: frozen nodes, dropped and slowed packets,
// changed limits, full disks and neighbours. It starts no node. It goes on after
// an error, and may be repeated.
func (c *Containers) Restore(ctx context.Context) error {
	var failures []error
	for _, host := range c.spec.Topology.Hosts() {
		if err := c.takeBack(ctx, host, mendAllScript); err != nil {
			failures = append(failures, fmt.Errorf("mend all cuts of host %s: %w", host, err))
		}
		failures = append(failures, c.Unshape(ctx, host))
	}
	for _, n := range c.spec.Topology.Nodes {
		failures = append(failures, c.Thaw(ctx, n.ID), c.FreeDisk(ctx, n.ID), c.StopHog(ctx, n.ID))
	}
	return errors.Join(failures...)
}
