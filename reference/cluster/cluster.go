// Package cluster runs a real NDB cluster in containers: one management node,
// data nodes and SQL nodes on named hosts, in a private network with fixed
// addresses.
//
// A host is a container of its own that only holds the network: the nodes that
// it carries share its address. A node that is killed then leaves a living host
// behind, which refuses connections at once, as a machine does whose server
// process died; with a container for each node its address would fall silent.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"golang.org/x/sync/errgroup"
)

// Account is what the harness logs in with, on every SQL node.
type Account = sqlnode.Account

// Spec says which cluster to run.
type Spec struct {
	RunID    string            `json:"run_id"` // unique among the clusters of an engine; letters, digits and "-"
	Topology topology.Topology `json:"topology"`
	Image    string            `json:"image"`   // name or id of the image that every node runs
	Account  Account           `json:"account"` // with the database that holds the mail data
	Engine   string            `json:"engine"`  // storage engine of the tables, "" for ndbcluster
	Journal  string            `json:"-"`       // path of the fault journal, for heal; may be empty
	Keep     bool              `json:"-"`       // the cluster outlives the harness
	Announce func(string)      `json:"-"`       // takes one line for each step of Start; may be nil
}

// Cluster is a reference.Target: an NDB cluster in containers.
type Cluster struct {
	docker *client.Client
	spec   Spec
	subnet netip.Prefix
	watch  *watch

	mu         sync.Mutex
	containers map[topology.ID]string // container of each node
}

var _ reference.Target = (*Cluster)(nil)

// DefaultAccount is the account of clusters that the harness runs. The cluster
// is reachable from this machine only, and lives no longer than its run.
func DefaultAccount() Account {
	return Account{User: "mailbench", Password: "mailbench", Database: "mail"}
}

// New describes a cluster that does not run yet.
func New(docker *client.Client, spec Spec) *Cluster {
	if spec.Announce == nil {
		spec.Announce = func(string) {}
	}
	return &Cluster{docker: docker, spec: spec, containers: map[topology.ID]string{}}
}

// Topology returns the nodes and hosts of the cluster.
func (c *Cluster) Topology() topology.Topology { return c.spec.Topology }

// RunID returns the id that every container, network and volume of the cluster
// carries in its label.
func (c *Cluster) RunID() string { return c.spec.RunID }

// Address returns the address and port at which a node serves.
func (c *Cluster) Address(n topology.Node) string {
	port := map[topology.Role]uint16{topology.Management: managementPort, topology.Data: dataPort, topology.SQL: sqlPort}[n.Role]
	return netip.AddrPortFrom(c.hostAddress(n.Host), port).String()
}

func (c *Cluster) hostAddress(host string) netip.Addr {
	return hostAddress(c.subnet, slices.Index(c.spec.Topology.Hosts(), host))
}

// Start creates network, hosts and nodes, waits until the cluster is ready, and
// installs the schema. Ready means that all data nodes are started, that an
// arbitrator is connected, and that a row could be written through every SQL
// node. When it fails it leaves what it has made: the caller stops the cluster.
func (c *Cluster) Start(ctx context.Context) error {
	quietTestcontainers()
	began := time.Now()
	nw, err := c.createNetwork(ctx)
	if err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: network %s", c.subnet))
	hosts, err := c.startHosts(ctx, nw)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, n := range c.spec.Topology.Nodes {
		group.Go(func() error { return c.startNew(groupCtx, n, hosts[n.Host]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: %d nodes on %d hosts are starting", len(c.spec.Topology.Nodes), len(hosts)))
	c.watch = newWatch(c.managementAddress(), c.spec.Topology)
	if err := c.awaitReady(ctx); err != nil {
		return fmt.Errorf("the cluster did not get ready: %w%s", err, c.logTails(context.WithoutCancel(ctx)))
	}
	c.spec.Announce(fmt.Sprintf("cluster: ready after %.1f s", time.Since(began).Seconds()))
	return nil
}

// quietTestcontainers switches off the reaper container, whose image cannot be
// had everywhere and which would remove clusters that are meant to stay: labels
// do its work. It also silences testcontainers' own progress lines, since this
// package announces its steps itself. Both settings are global in
// testcontainers, which reads the variable once.
func quietTestcontainers() {
	_ = os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true") // only an invalid name could fail
	tclog.SetDefault(tclog.NewNoopLogger())
}

func (c *Cluster) labels(more map[string]string) map[string]string {
	labels := map[string]string{engine.LabelRun: c.spec.RunID}
	maps.Copy(labels, more)
	return labels
}

// createNetwork makes the cluster's network. The description is a label of the
// network, which needs the subnet before it is known: so the address range is
// read back from the engine by Attach, and only the rest is in the label.
func (c *Cluster) createNetwork(ctx context.Context) (*testcontainers.DockerNetwork, error) {
	description, err := json.Marshal(c.spec)
	if err != nil {
		return nil, fmt.Errorf("describe the cluster: %w", err)
	}
	nw, p, err := createNetwork(ctx, c.docker, os.Getpid(), c.labels(map[string]string{
		engine.LabelCluster: string(description),
		engine.LabelJournal: c.spec.Journal,
		engine.LabelOwner:   engine.Owner(),
		engine.LabelKeep:    fmt.Sprint(c.spec.Keep),
	}))
	if err != nil {
		return nil, err
	}
	c.subnet = p
	return nw, nil
}

// startHosts starts a container for each host and returns their ids.
func (c *Cluster) startHosts(ctx context.Context, nw *testcontainers.DockerNetwork) (map[string]string, error) {
	var mu sync.Mutex
	ids := map[string]string{}
	group, ctx := errgroup.WithContext(ctx)
	for _, host := range c.spec.Topology.Hosts() {
		group.Go(func() error {
			started, err := testcontainers.Run(ctx, c.spec.Image,
				testcontainers.WithName(c.name(host)),
				testcontainers.WithEntrypoint("sleep", "infinity"),
				testcontainers.WithLabels(c.labels(map[string]string{engine.LabelHost: host})),
				testcontainers.WithConfigModifier(func(config *container.Config) {
					config.Hostname = host
					config.ExposedPorts, config.Healthcheck = nil, nil
				}),
				testcontainers.WithHostConfigModifier(func(config *container.HostConfig) { config.PublishAllPorts = false }),
				testcontainers.CustomizeRequestOption(func(r *testcontainers.GenericContainerRequest) error {
					r.Networks = []string{nw.Name}
					r.NetworkAliases = map[string][]string{nw.Name: {host}}
					return nil
				}),
				testcontainers.WithEndpointSettingsModifier(func(settings map[string]*network.EndpointSettings) {
					settings[nw.Name].IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: c.hostAddress(host)}
				}))
			if err != nil {
				return fmt.Errorf("start host %s: %w", host, err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[host] = started.GetContainerID()
			return nil
		})
	}
	return ids, group.Wait()
}

func (c *Cluster) name(part string) string { return "mailbench-" + c.spec.RunID + "-" + part }

// startNew creates and starts the container of a node in its host's network.
// Its files live in a volume: they outlive the process, and the engine's
// layered file system would be too slow for a database.
func (c *Cluster) startNew(ctx context.Context, n topology.Node, hostID string) error {
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
			config.NanoCPUs = int64(limits.MilliCPUs) * 1_000_000
			config.Memory = int64(limits.MemoryMiB) << 20
			config.Mounts = []mount.Mount{{
				Type: mount.TypeVolume, Source: c.name(n.Name), Target: directory,
				VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: c.labels(nil)},
			}}
		}),
	}
	switch n.Role {
	case topology.Management:
		options = append(options, file(configPath, configINI(c.spec.Topology, c.hostAddress)))
	case topology.SQL:
		options = append(options, file(accountsPath, accountsSQL(c.spec.Account)))
	}
	started, err := testcontainers.Run(ctx, c.spec.Image, options...)
	if err != nil {
		return fmt.Errorf("start node %s on host %s: %w", n.Name, n.Host, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.containers[n.ID] = started.GetContainerID()
	return nil
}

func file(path, content string) testcontainers.ContainerCustomizer {
	return testcontainers.WithFiles(testcontainers.ContainerFile{
		Reader: strings.NewReader(content), ContainerFilePath: path, FileMode: 0o644,
	})
}

// Connect opens a session with a SQL node. It tries once.
func (c *Cluster) Connect(ctx context.Context, id topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	n, ok := c.spec.Topology.ByID(id)
	if !ok || n.Role != topology.SQL {
		return nil, fmt.Errorf("node %d is no SQL node of this cluster", id)
	}
	return sqlnode.Connect(ctx, n, c.Address(n), c.spec.Account, o)
}

// Loader returns a way to fill the cluster's tables through all SQL nodes.
func (c *Cluster) Loader(context.Context) (reference.Loader, func() error, error) {
	admins := c.admins()
	loader, err := schema.NewLoader(admins, c.schemaOptions())
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(admins))
	}
	return loader, func() error { return closeAll(admins) }, nil
}

func (c *Cluster) schemaOptions() schema.Options {
	return schema.Options{Database: c.spec.Account.Database, Engine: c.spec.Engine}
}

// admins opens an administrator's view of every SQL node.
func (c *Cluster) admins() []schema.Admin {
	var admins []schema.Admin
	for _, n := range c.spec.Topology.ByRole(topology.SQL) {
		admins = append(admins, schema.Admin{Name: n.Name, DB: sqlnode.Open(c.Address(n), c.spec.Account)})
	}
	return admins
}

func closeAll(admins []schema.Admin) error {
	var failures []error
	for _, a := range admins {
		failures = append(failures, a.DB.Close())
	}
	return errors.Join(failures...)
}

// Stop removes every container, network and volume of the cluster.
func (c *Cluster) Stop(ctx context.Context) error {
	return Remove(ctx, c.docker, c.spec.RunID)
}

// Info describes a cluster that an engine holds.
type Info struct {
	RunID   string
	Journal string
	Owner   string // process id of the harness that made it, on the engine's machine
	Keep    bool
	Network string
}

// List returns the clusters that carry mailbench's label, by run id. A run
// whose network is gone but whose containers or volumes are not is listed too.
func List(ctx context.Context, docker *client.Client) ([]Info, error) {
	found := map[string]Info{}
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	for _, n := range networks.Items {
		found[n.Labels[engine.LabelRun]] = Info{
			RunID: n.Labels[engine.LabelRun], Journal: n.Labels[engine.LabelJournal], Owner: n.Labels[engine.LabelOwner],
			Keep: n.Labels[engine.LabelKeep] == "true", Network: n.Name,
		}
	}
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's containers: %w", err)
	}
	volumes, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: engine.Owned("")})
	if err != nil {
		return nil, fmt.Errorf("list the engine's volumes: %w", err)
	}
	orphan := func(labels map[string]string) {
		if id := labels[engine.LabelRun]; found[id].RunID == "" {
			found[id] = Info{RunID: id}
		}
	}
	for _, item := range containers.Items {
		orphan(item.Labels)
	}
	for _, item := range volumes.Items {
		orphan(item.Labels)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Info) int { return strings.Compare(a.RunID, b.RunID) }), nil
}

// Attach finds a running cluster by its run id.
func Attach(ctx context.Context, docker *client.Client, runID string) (*Cluster, error) {
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned(runID)})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	if len(networks.Items) != 1 {
		return nil, fmt.Errorf("%d networks carry the label %s=%s, want 1: %w", len(networks.Items), engine.LabelRun, runID, ErrNoCluster)
	}
	var spec Spec
	nw := networks.Items[0]
	if err := json.Unmarshal([]byte(nw.Labels[engine.LabelCluster]), &spec); err != nil {
		return nil, fmt.Errorf("the label %s of network %s: %w", engine.LabelCluster, nw.Name, err)
	}
	if len(nw.IPAM.Config) == 0 {
		return nil, fmt.Errorf("network %s has no subnet", nw.Name)
	}
	c := New(docker, spec)
	c.subnet = nw.IPAM.Config[0].Subnet
	c.watch = newWatch(c.managementAddress(), c.spec.Topology)
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned(runID)})
	if err != nil {
		return nil, fmt.Errorf("list the engine's containers: %w", err)
	}
	for _, item := range containers.Items {
		if n, err := spec.Topology.Node(item.Labels[engine.LabelNode]); err == nil {
			c.containers[n.ID] = item.ID
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

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
