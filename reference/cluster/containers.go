package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"golang.org/x/sync/errgroup"
)

// Containers are the hosts and nodes of a target in containers, whatever its
// nodes run: how they start, and what may be done to them. A target embeds them,
// and offers by that what faults need of hosts and processes.
type Containers struct {
	docker *client.Client
	spec   Place
	// process says what a node runs, once the hosts have their addresses.
	process func(topology.Node) Process
	forget  func(topology.ID) // see reference.Forgetter
	subnet  netip.Prefix

	mu         sync.Mutex
	containers map[topology.ID]string // container of each node
	hosts      map[string]string      // container of each host, by the host's name
}

// Place says which hosts and nodes there are, and what they are called in the
// engine.
type Place struct {
	RunID    string // unique in an engine; letters, digits and "-"
	Topology topology.Topology
	Image    string       // name or id of the image that every node runs
	Journal  string       // path of the fault journal, for heal; may be empty
	Keep     bool         // it outlives the harness
	Announce func(string) // takes one line for each step of the start; may be nil
}

// Process is what a node's container runs.
type Process struct {
	Command   []string          // replaces the image's entrypoint
	Directory string            // where the node's disk is mounted
	Files     map[string]string // texts by their paths, readable by everybody
}

// NewContainers describes containers that do not run yet. process is asked for
// each node when the hosts have their addresses; forget, which may be nil, is
// told of a node before something is done to it.
func NewContainers(docker *client.Client, place Place, process func(topology.Node) Process, forget func(topology.ID)) *Containers {
	if place.Announce == nil {
		place.Announce = func(string) {}
	}
	if forget == nil {
		forget = func(topology.ID) {}
	}
	return &Containers{
		docker: docker, spec: place, process: process, forget: forget,
		containers: map[topology.ID]string{}, hosts: map[string]string{},
	}
}

// RunID returns the id that every container, network and volume carries in its
// label.
func (c *Containers) RunID() string { return c.spec.RunID }

// HostAddress is the address of a host, once Launch has found a subnet.
func (c *Containers) HostAddress(host string) netip.Addr { return c.hostAddress(host) }

func (c *Containers) hostAddress(host string) netip.Addr {
	return hostAddress(c.subnet, slices.Index(c.spec.Topology.Hosts(), host))
}

// Launch creates network, hosts and nodes, and returns when the processes run,
// not when they serve. The description is kept in a label of the network. When it
// fails it leaves what it has made, for Stop; after ErrTaken it has made nothing,
// and Stop would remove what is another's.
func (c *Containers) Launch(ctx context.Context, description string) error {
	quietTestcontainers()
	if err := c.checkNotTaken(ctx); err != nil {
		return err
	}
	if err := c.createNetwork(ctx, description); err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: network %s", c.subnet))
	if err := c.startHosts(ctx); err != nil {
		return err
	}
	if err := c.checkReachable(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	for _, n := range c.spec.Topology.Nodes {
		group.Go(func() error { return c.startNew(ctx, n) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: %d nodes on %d hosts are starting", len(c.spec.Topology.Nodes), len(c.hosts)))
	return nil
}

// AwaitReady waits for what ready waits for. It ends as soon as a node's process
// has ended, and its error has the ends of the logs of those.
func (c *Containers) AwaitReady(ctx context.Context, ready func(context.Context) error) error {
	waiting, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go c.failWithNodes(waiting, fail)
	err := ready(waiting)
	if err == nil {
		return nil
	}
	if cause := context.Cause(waiting); cause != nil && ctx.Err() == nil {
		err = cause
	}
	return fmt.Errorf("the cluster did not get ready: %w%s", err, c.logTails(context.WithoutCancel(ctx)))
}

// Stop removes every container, network and volume.
func (c *Containers) Stop(ctx context.Context) error {
	return Remove(ctx, c.docker, c.spec.RunID)
}

// createNetwork makes the network. Its label describes what runs there; Attach
// reads the subnet, which is not known before, from the network itself.
func (c *Containers) createNetwork(ctx context.Context, description string) error {
	return act(ctx, func(ctx context.Context) (err error) {
		c.subnet, err = createNetwork(ctx, c.docker, c.networkName(), os.Getpid(), c.labels(map[string]string{
			engine.LabelCluster: description,
			engine.LabelJournal: c.spec.Journal,
			engine.LabelOwner:   engine.Owner(),
			engine.LabelKeep:    fmt.Sprint(c.spec.Keep),
		}))
		return err
	})
}

func (c *Containers) networkName() string { return "mailbench-" + c.spec.RunID }

// hostCapabilities are what a host's container may do beside the engine's
// default: change its own network, so that faults can cut it off. Nothing but
// those faults runs there. The nodes' containers share the network, but not the
// right.
func hostCapabilities() []string { return []string{"NET_ADMIN"} }

// startHosts starts a container for each host. It holds the host's network and
// the volumes of the nodes that it carries.
func (c *Containers) startHosts(ctx context.Context) error {
	var (
		group errgroup.Group
		name  = c.networkName()
	)
	for _, host := range c.spec.Topology.Hosts() {
		group.Go(func() error {
			id, err := c.run(ctx,
				testcontainers.WithName(c.name("host-"+host)),
				testcontainers.WithEntrypoint("sleep", "infinity"),
				testcontainers.WithLabels(c.labels(map[string]string{engine.LabelHost: host})),
				testcontainers.WithConfigModifier(func(config *container.Config) {
					config.Hostname = host
					config.ExposedPorts, config.Healthcheck = nil, nil
				}),
				testcontainers.WithHostConfigModifier(func(config *container.HostConfig) {
					config.PublishAllPorts = false
					config.CapAdd = hostCapabilities()
					for _, n := range c.spec.Topology.Nodes {
						if n.Host == host {
							config.Mounts = append(config.Mounts, c.volume(n, hostVolumes+n.Name))
						}
					}
				}),
				testcontainers.CustomizeRequestOption(func(r *testcontainers.GenericContainerRequest) error {
					r.Networks = []string{name}
					r.NetworkAliases = map[string][]string{name: {host}}
					return nil
				}),
				testcontainers.WithEndpointSettingsModifier(func(settings map[string]*network.EndpointSettings) {
					settings[name].IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: c.hostAddress(host)}
				}))
			if err != nil {
				return fmt.Errorf("start host %s: %w", host, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.hosts[host] = id
			return nil
		})
	}
	return group.Wait()
}

// run creates and starts a container and returns its id.
func (c *Containers) run(ctx context.Context, options ...testcontainers.ContainerCustomizer) (id string, err error) {
	err = act(ctx, func(ctx context.Context) error {
		started, err := testcontainers.Run(ctx, c.spec.Image, options...)
		if err == nil {
			id = started.GetContainerID()
		}
		return err
	})
	return id, err
}

func (c *Containers) name(part string) string { return "mailbench-" + c.spec.RunID + "-" + part }

// startNew creates and starts the container of a node in its host's network.
// Its files live in a volume: they outlive the process, and the engine's
// layered file system would be too slow for a database.
func (c *Containers) startNew(ctx context.Context, n topology.Node) error {
	c.mu.Lock()
	hostID := c.hosts[n.Host]
	c.mu.Unlock()
	process := c.process(n)
	limits := c.spec.Topology.Limits[n.Role]
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithName(c.name(n.Name)),
		testcontainers.WithEntrypoint(process.Command...),
		testcontainers.WithLabels(c.labels(map[string]string{engine.LabelHost: n.Host, engine.LabelNode: n.Name})),
		testcontainers.WithConfigModifier(func(config *container.Config) {
			config.ExposedPorts, config.Healthcheck = nil, nil
		}),
		testcontainers.WithHostConfigModifier(func(config *container.HostConfig) {
			config.PublishAllPorts = false
			config.NetworkMode = container.NetworkMode("container:" + hostID)
			if limits.MilliCPUs > 0 {
				config.CPUPeriod, config.CPUQuota = cpuPeriod, quota(limits.MilliCPUs)
			}
			config.Memory = memoryLimit(limits)
			config.Mounts = []mount.Mount{c.volume(n, process.Directory)}
		}),
	}
	for _, path := range slices.Sorted(maps.Keys(process.Files)) {
		options = append(options, file(path, process.Files[path]))
	}
	id, err := c.run(ctx, options...)
	if err != nil {
		return fmt.Errorf("start node %s on host %s: %w", n.Name, n.Host, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.containers[n.ID] = id
	return nil
}

func file(path, content string) testcontainers.ContainerCustomizer {
	return testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader: strings.NewReader(content), ContainerFilePath: path, FileMode: 0o644,
	})
}
