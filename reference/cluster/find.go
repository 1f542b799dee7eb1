package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// Info describes a cluster that an engine holds.
type Info struct {
	RunID   string
	Journal string
	Owner   string // the process that made it, for engine.Alive
	Keep    bool
	Network string
}

// PID is the process id of the cluster's owner, for people.
func (i Info) PID() string {
	pid, _, _ := strings.Cut(i.Owner, ":")
	return pid
}

// List returns the clusters that carry mailbench's label, by run id. A run
// whose network is gone but whose containers or volumes are not is listed too.
func List(ctx context.Context, docker *client.Client) ([]Info, error) {
	// Networks last: they are made first, so that a run that starts meanwhile
	// does not look as if its network were gone.
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's containers: %w", err)
	}
	volumes, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's volumes: %w", err)
	}
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	found := map[string]Info{}
	for _, item := range containers.Items {
		found[item.Labels[engine.LabelRun]] = Info{RunID: item.Labels[engine.LabelRun]}
	}
	for _, item := range volumes.Items {
		found[item.Labels[engine.LabelRun]] = Info{RunID: item.Labels[engine.LabelRun]}
	}
	for _, n := range networks.Items {
		found[n.Labels[engine.LabelRun]] = Info{
			RunID: n.Labels[engine.LabelRun], Journal: n.Labels[engine.LabelJournal], Owner: n.Labels[engine.LabelOwner],
			Keep: n.Labels[engine.LabelKeep] == "true", Network: n.Name,
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Info) int { return strings.Compare(a.RunID, b.RunID) }), nil
}

// Attach finds a running cluster by its run id. Another system in containers is
// none, and an ErrNoCluster.
func Attach(ctx context.Context, docker *client.Client, runID string) (*Cluster, error) {
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned(runID)})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	switch len(networks.Items) {
	case 0:
		return nil, fmt.Errorf("%w: no network carries the label %s=%s", ErrNoCluster, engine.LabelRun, runID)
	case 1:
	default:
		return nil, fmt.Errorf("%d networks carry the label %s=%s, want 1; remove them with: mailbench cluster down --name %[3]s",
			len(networks.Items), engine.LabelRun, runID)
	}
	var spec Spec
	nw := networks.Items[0]
	if err := json.Unmarshal([]byte(nw.Labels[engine.LabelCluster]), &spec); err != nil {
		return nil, fmt.Errorf("the label %s of network %s: %w", engine.LabelCluster, nw.Name, err)
	}
	if len(spec.Topology.ByRole(topology.Management)) == 0 {
		return nil, fmt.Errorf("%w: run %s is there, but is of another system", ErrNoCluster, runID)
	}
	if len(nw.IPAM.Config) == 0 {
		return nil, fmt.Errorf("network %s has no subnet", nw.Name)
	}
	c := New(docker, spec)
	c.subnet = nw.IPAM.Config[0].Subnet
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned(runID)})
	if err != nil {
		return nil, fmt.Errorf("list the engine's containers: %w", err)
	}
	for _, item := range containers.Items {
		if n, err := spec.Topology.Node(item.Labels[engine.LabelNode]); err == nil {
			c.containers[n.ID] = item.ID
		} else if host, ok := item.Labels[engine.LabelHost]; ok {
			c.hosts[host] = item.ID
		}
	}
	return c, nil
}

// ErrNoCluster says that the engine holds no cluster of that run id.
var ErrNoCluster = errors.New("no such cluster")

// Remove removes everything that carries a run's label: containers first, then
// volumes and networks. Removing what is not there is no error.
func Remove(ctx context.Context, docker *client.Client, runID string) error {
	if runID == "" {
		return errors.New("remove a cluster: its run id is empty") // would match every run
	}
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned(runID)})
	if err != nil {
		return fmt.Errorf("list the containers of run %s: %w", runID, err)
	}
	var group errgroup.Group
	for _, item := range containers.Items {
		group.Go(func() error {
			_, err := docker.ContainerRemove(ctx, item.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			return unlessGone(err, "remove container %s", strings.Join(item.Names, " "))
		})
	}
	failures := []error{group.Wait()}
	volumes, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: engine.Owned(runID)})
	failures = append(failures, err)
	for _, item := range volumes.Items {
		_, err := docker.VolumeRemove(ctx, item.Name, client.VolumeRemoveOptions{})
		failures = append(failures, unlessGone(err, "remove volume %s", item.Name))
	}
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned(runID)})
	failures = append(failures, err)
	for _, item := range networks.Items {
		_, err := docker.NetworkRemove(ctx, item.ID, client.NetworkRemoveOptions{})
		failures = append(failures, unlessGone(err, "remove network %s", item.Name))
	}
	return errors.Join(failures...)
}

// unlessGone wraps an error, except that of a thing that is not there.
func unlessGone(err error, format string, args ...any) error {
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
