// Package innodb runs what many sites would run in place of an NDB cluster: an
// InnoDB primary with a replica, in containers, and fail-over by the client. It
// has the same tables, procedures and SQL clients as the cluster, and nothing of
// NDB.
//
// README.md says how the two servers are configured, and why that is fair.
package innodb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// Servers is how many there are: a primary and a replica.
const Servers = 2

// DefaultPromoteAfter is Spec.PromoteAfter where it is 0. It is assumed: long
// enough that a stall is not taken for a death, and shorter than most sites dare.
const DefaultPromoteAfter = 3 * time.Second

// Spec says which servers to run.
type Spec struct {
	RunID    string            `json:"run_id"`           // unique in an engine; letters, digits and "-"
	Topology topology.Topology `json:"topology"`         // two SQL nodes; the first begins as the primary
	Image    string            `json:"image"`            // name or id of the image that the cluster's SQL nodes run
	Schema   map[string]string `json:"schema,omitempty"` // files that take the place of reference/schema's
	// PromoteAfter is how long the primary must have been dead before the replica
	// takes its place; 0 for DefaultPromoteAfter.
	PromoteAfter time.Duration `json:"promote_after"`
	Journal      string        `json:"-"` // path of the fault journal, for heal; may be empty
	Announce     func(string)  `json:"-"` // takes one line for each step of Start; may be nil
}

// Target is a reference.Target: an InnoDB primary with a replica.
type Target struct {
	*cluster.Containers
	spec   Spec
	admins map[topology.ID]*sql.DB // the steward's, from Start on

	govern func() // ends the steward and waits for it; nil before Start

	mu      sync.Mutex
	primary topology.ID
	seen    map[topology.ID]sighting
	changed chan struct{} // closed and replaced when seen or primary may have changed
	sinks   map[*func(reference.ClusterEvent)]bool
}

var (
	_ reference.Target     = (*Target)(nil)
	_ reference.Admin      = (*Target)(nil)
	_ reference.Killer     = (*Target)(nil)
	_ reference.Liveness   = (*Target)(nil)
	_ reference.Forgetter  = (*Target)(nil)
	_ reference.Replicator = (*Target)(nil)
)

// New describes servers that do not run yet.
func New(docker *client.Client, spec Spec) (*Target, error) {
	nodes := spec.Topology.ByRole(topology.SQL)
	if len(nodes) != Servers || len(spec.Topology.Nodes) != Servers {
		return nil, fmt.Errorf("the topology has %d nodes, %d of them SQL nodes: InnoDB wants two SQL nodes, a primary and a replica, and no others",
			len(spec.Topology.Nodes), len(nodes))
	}
	if spec.PromoteAfter < 0 {
		return nil, fmt.Errorf("the replica is to be promoted after %v, must be 0 or more", spec.PromoteAfter)
	}
	if spec.PromoteAfter == 0 {
		spec.PromoteAfter = DefaultPromoteAfter
	}
	if spec.Announce == nil {
		spec.Announce = func(string) {}
	}
	t := &Target{
		spec: spec, primary: nodes[0].ID,
		admins: map[topology.ID]*sql.DB{}, seen: map[topology.ID]sighting{}, changed: make(chan struct{}),
		sinks: map[*func(reference.ClusterEvent)]bool{},
	}
	t.Containers = cluster.NewContainers(docker, cluster.Place{
		RunID: spec.RunID, Topology: spec.Topology, Image: spec.Image, Journal: spec.Journal, Announce: spec.Announce,
	}, t.process, t.Forget)
	return t, nil
}

// Topology returns the two servers and their hosts.
func (t *Target) Topology() topology.Topology { return t.spec.Topology }

// Address returns the address and port at which a server serves.
func (t *Target) Address(n topology.Node) string {
	return fmt.Sprintf("%s:%d", t.HostAddress(n.Host), port)
}

// SchemaOptions say where the tables and routines are, and that they are InnoDB's.
func (t *Target) SchemaOptions() schema.Options {
	return schema.Options{Database: database, Engine: "InnoDB", Files: t.spec.Schema}
}

func (t *Target) process(n topology.Node) cluster.Process {
	return cluster.SQLProcess(int(n.ID), flags(),
		options(t.spec.Topology.Limits[n.Role].MemoryMiB, t.spec.Topology.SQLServer), accountsSQL())
}

// Start starts both servers, makes the first the primary and the second its
// replica, and installs the schema. When it fails it leaves what it has made, for
// Stop; after cluster.ErrTaken it has made nothing, and Stop would remove what is
// another's.
func (t *Target) Start(ctx context.Context) error {
	began := time.Now()
	description, err := json.Marshal(t.spec)
	if err != nil {
		return fmt.Errorf("describe the servers: %w", err)
	}
	if err := t.Launch(ctx, string(description)); err != nil {
		return err
	}
	for _, n := range t.spec.Topology.Nodes {
		t.admins[n.ID] = sqlnode.Open(t.Address(n), adminAccount())
	}
	governing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { t.steward(governing) })
	t.govern = func() { stop(); work.Wait() }
	if err := t.AwaitReady(ctx, t.awaitReady); err != nil {
		return err
	}
	t.spec.Announce(fmt.Sprintf("cluster: ready after %.1f s", time.Since(began).Seconds()))
	return nil
}

func (t *Target) awaitReady(ctx context.Context) error {
	first := t.spec.Topology.Nodes[0]
	if _, err := t.AwaitUp(ctx, first.ID); err != nil {
		return err
	}
	t.spec.Announce(fmt.Sprintf("cluster: %s is the primary", first.Name))
	// Only there: the replica gets it by replication, routines too.
	admin := schema.Admin{Name: first.Name, DB: t.admins[first.ID]}
	if err := schema.Install(ctx, []schema.Admin{admin}, t.SchemaOptions()); err != nil {
		return err
	}
	t.spec.Announce("cluster: schema installed on the primary")
	for _, n := range t.spec.Topology.Nodes {
		if _, err := t.AwaitRedundant(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the steward and removes every container, network and volume.
func (t *Target) Stop(ctx context.Context) error {
	if t.govern != nil {
		t.govern()
	}
	for _, db := range t.admins {
		_ = db.Close() // the servers go with it
	}
	return t.Containers.Stop(ctx)
}

// Connect opens a session with a server, as a client of the mail system: a server
// that is closed to clients refuses it. It tries once.
func (t *Target) Connect(ctx context.Context, id topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	n, err := t.node(id)
	if err != nil {
		return nil, err
	}
	return sqlnode.Connect(ctx, n, t.Address(n), clientAccount(), o)
}

func (t *Target) node(id topology.ID) (topology.Node, error) {
	n, ok := t.spec.Topology.ByID(id)
	if !ok {
		return n, fmt.Errorf("there is no server %d", id)
	}
	return n, nil
}

// Loader returns a way to fill the tables through the primary. Closing it waits
// until the replica has all of it.
func (t *Target) Loader(ctx context.Context) (reference.Loader, func() error, error) {
	n, err := t.node(t.Primary())
	if err != nil {
		return nil, nil, err
	}
	db := sqlnode.Open(t.Address(n), adminAccount())
	loader, err := schema.NewLoader([]schema.Admin{{Name: n.Name, DB: db}}, t.SchemaOptions())
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return loader, func() error {
		failures := []error{db.Close()}
		for _, n := range t.spec.Topology.Nodes {
			_, err := t.AwaitRedundant(ctx, n.ID)
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	}, nil
}

// OpenAdmin opens an administrator's connections to a server, in the database that
// holds the mail data. They get in where clients do not, but what the server
// refuses to write it refuses to them too. The caller closes it.
func (t *Target) OpenAdmin(id topology.ID) (*sql.DB, error) {
	n, err := t.node(id)
	if err != nil {
		return nil, err
	}
	return sqlnode.Open(t.Address(n), adminAccount()), nil
}

// Version asks the primary.
func (t *Target) Version(ctx context.Context) (string, error) {
	n, err := t.node(t.Primary())
	if err != nil {
		return "", err
	}
	var version string
	if err := t.admins[n.ID].QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", n.Name, err)
	}
	return "MySQL " + version + ", InnoDB", nil
}

// Primary is the server that takes writes, or is to take them when it is back.
func (t *Target) Primary() topology.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.primary
}

// Watch hands to sink what the steward sees and does, until ctx ends: SERVER_DOWN,
// SERVER_UP, PROMOTED, OPENED, CLOSED, FOLLOWS, REBUILT, each of a server.
func (t *Target) Watch(ctx context.Context, sink func(reference.ClusterEvent)) error {
	t.mu.Lock()
	t.sinks[&sink] = true
	t.mu.Unlock()
	<-ctx.Done()
	t.mu.Lock()
	delete(t.sinks, &sink)
	t.mu.Unlock()
	return ctx.Err()
}
