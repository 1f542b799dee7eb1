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
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// Account is what the harness logs in with, on every SQL node.
type Account = sqlnode.Account

// Spec says which cluster to run.
type Spec struct {
	RunID    string            `json:"run_id"` // unique among the clusters of an engine; letters, digits and "-"
	Topology topology.Topology `json:"topology"`
	Image    string            `json:"image"`            // name or id of the image that every node runs
	Account  Account           `json:"account"`          // with the database that holds the mail data
	Engine   string            `json:"engine"`           // storage engine of the tables, "" for ndbcluster
	Schema   map[string]string `json:"schema,omitempty"` // files that take the place of reference/schema's
	Journal  string            `json:"-"`                // path of the fault journal, for heal; may be empty
	Keep     bool              `json:"-"`                // the cluster outlives the harness
	Announce func(string)      `json:"-"`                // takes one line for each step of Start; may be nil
}

// Cluster is a reference.Target: an NDB cluster in containers.
type Cluster struct {
	*ndb.View
	*Containers
	spec Spec
}

var _ reference.Target = (*Cluster)(nil)

const (
	reachTimeout = 3 * time.Second  // for a host on this machine to refuse a connection
	actTimeout   = 60 * time.Second // for the engine to create something
)

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
	c := &Cluster{spec: spec}
	c.View = ndb.New(spec.Topology, c.Address, spec.Account, schema.Options{Database: spec.Account.Database, Engine: spec.Engine, Files: spec.Schema})
	c.Containers = NewContainers(docker, Place{
		RunID: spec.RunID, Topology: spec.Topology, Image: spec.Image, Journal: spec.Journal, Keep: spec.Keep, Announce: spec.Announce,
	}, c.process, c.Forget)
	return c
}

// process is what an NDB node runs.
func (c *Cluster) process(n topology.Node) Process {
	management := c.spec.Topology.ByRole(topology.Management)[0]
	p := Process{Command: command(n, c.hostAddress(management.Host), c.spec.Topology.SQLServer), Directory: dataDirectory}
	switch n.Role {
	case topology.Management:
		p.Files = map[string]string{configPath: configINI(c.spec.Topology, c.hostAddress)}
	case topology.SQL:
		p.Directory, p.Files = sqlDirectory, serverFiles(accountsSQL(c.spec.Account))
	}
	return p
}

// Address returns the address and port at which a node serves.
func (c *Cluster) Address(n topology.Node) string {
	port := map[topology.Role]uint16{topology.Management: managementPort, topology.Data: dataPort, topology.SQL: sqlPort}[n.Role]
	return netip.AddrPortFrom(c.hostAddress(n.Host), port).String()
}

// ErrTaken says that the engine already holds something of that run id, which
// is somebody else's.
var ErrTaken = errors.New("the engine already holds a cluster of this name")

// Start creates network, hosts and nodes, waits until the cluster is ready, and
// installs the schema. Ready means that all data nodes are started, that an
// arbitrator is connected, and that a row could be written through every SQL
// node. When it fails it leaves what it has made, for Stop; after ErrTaken it
// has made nothing, and Stop would remove what is another's.
func (c *Cluster) Start(ctx context.Context) error {
	began := time.Now()
	description, err := json.Marshal(c.spec)
	if err != nil {
		return fmt.Errorf("describe the cluster: %w", err)
	}
	if err := c.Launch(ctx, string(description)); err != nil {
		return err
	}
	if err := c.AwaitReady(ctx, c.awaitReady); err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: ready after %.1f s", time.Since(began).Seconds()))
	return nil
}

// checkNotTaken refuses a run id of which the engine holds anything.
func (c *Containers) checkNotTaken(ctx context.Context) error {
	clusters, err := List(ctx, c.docker)
	if err != nil {
		return err
	}
	for _, info := range clusters {
		if info.RunID == c.spec.RunID {
			return fmt.Errorf("%w: %s; remove it with: mailbench cluster down --name %s", ErrTaken, info.RunID, info.RunID)
		}
	}
	return nil
}

// checkReachable tells a user whose engine is on another machine, or in a
// virtual machine, what is wrong: containers are reached by their addresses. A
// host that refuses a connection is there.
func (c *Containers) checkReachable(ctx context.Context) error {
	address := netip.AddrPortFrom(c.hostAddress(c.spec.Topology.Hosts()[0]), 1).String()
	dialer := net.Dialer{Timeout: reachTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return fmt.Errorf("containers cannot be reached at their addresses: %w; mailbench must run on the engine's own Linux machine", err)
}

// act runs one request that creates something. It is not begun once ctx has
// ended, and not cut off when ctx ends: nobody would know whether the engine
// went on with it, and what it made would be left behind.
func act(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actTimeout)
	defer cancel()
	return do(ctx)
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

func (c *Containers) labels(more map[string]string) map[string]string {
	labels := map[string]string{engine.LabelRun: c.spec.RunID}
	maps.Copy(labels, more)
	return labels
}
