package cluster

import "context"

// OnHost runs a shell script in a host's container, for tests that look at what
// an act has left there.
func (c *Cluster) OnHost(ctx context.Context, host, script string) (string, error) {
	return c.onHost(ctx, host, script)
}

// UsageOf asks what a container has used that is no node's.
func (c *Cluster) UsageOf(ctx context.Context, containerID string) (Usage, bool) {
	return c.usage(ctx, containerID)
}
