package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	"golang.org/x/sync/errgroup"
)

// createNetwork makes the cluster's network. Its label describes the cluster;
// Attach reads the subnet, which is not known before, from the network itself.
func (c *Cluster) createNetwork(ctx context.Context) error {
	description, err := json.Marshal(c.spec)
	if err != nil {
		return fmt.Errorf("describe the cluster: %w", err)
	}
	return act(ctx, func(ctx context.Context) (err error) {
		c.subnet, err = createNetwork(ctx, c.docker, c.networkName(), os.Getpid(), c.labels(map[string]string{
			engine.LabelCluster: string(description),
			engine.LabelJournal: c.spec.Journal,
			engine.LabelOwner:   engine.Owner(),
			engine.LabelKeep:    fmt.Sprint(c.spec.Keep),
		}))
		return err
	})
}

func (c *Cluster) networkName() string { return "mailbench-" + c.spec.RunID }

// hostCapabilities are what a host's container may do beside the engine's
// default: change its own network, so that faults can cut it off. Nothing but
// those faults runs there. The nodes' containers share the network, but not the
// right.
func hostCapabilities() []string { return []string{"NET_ADMIN"} }

// startHosts starts a container for each host. It holds the host's network and
// the volumes of the nodes that it carries.
func (c *Cluster) startHosts(ctx context.Context) error {
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
func (c *Cluster) run(ctx context.Context, options ...testcontainers.ContainerCustomizer) (id string, err error) {
	err = act(ctx, func(ctx context.Context) error {
		started, err := testcontainers.Run(ctx, c.spec.Image, options...)
		if err == nil {
			id = started.GetContainerID()
		}
		return err
	})
	return id, err
}

func (c *Cluster) name(part string) string { return "mailbench-" + c.spec.RunID + "-" + part }

// startNew creates and starts the container of a node in its host's network.
// Its files live in a volume: they outlive the process, and the engine's
// layered file system would be too slow for a database.
func (c *Cluster) startNew(ctx context.Context, n topology.Node) error {
	c.mu.Lock()
	hostID := c.hosts[n.Host]
	c.mu.Unlock()
	directory := dataDirectory
	if n.Role == topology.SQL {
		directory = sqlDirectory
	}
	limits := c.spec.Topology.Limits[n.Role]
	management := c.spec.Topology.ByRole(topology.Management)[0]
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithName(c.name(n.Name)),
		testcontainers.WithEntrypoint(command(n, c.hostAddress(management.Host), c.spec.Topology.SQLServer)...),
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
			config.Mounts = []mount.Mount{c.volume(n, directory)}
		}),
	}
	switch n.Role {
	case topology.Management:
		options = append(options, file(configPath, configINI(c.spec.Topology, c.hostAddress)))
	case topology.SQL:
		options = append(options, file(accountsPath, accountsSQL(c.spec.Account)))
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
