package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

var _ reference.Liveness = (*Cluster)(nil)

// pollInterval is how often those who wait ask again. Events usually tell first.
const pollInterval = 100 * time.Millisecond

// eventGrace is how long an event may lag behind the node status that it
// explains. Only when none comes, the status is taken for evidence.
const eventGrace = time.Second

// Watch hands every event of the cluster to sink until ctx ends. The Await
// methods are sharper while somebody watches.
func (c *Cluster) Watch(ctx context.Context, sink func(reference.ClusterEvent)) error {
	return c.watch.follow(ctx, sink)
}

// Kill ends the node's processes with SIGKILL, frozen ones too. Its host lives
// on. A node that is dead already is left alone.
func (c *Cluster) Kill(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	c.watch.forget(id)
	if err := c.signal(ctx, container, "SIGKILL"); err != nil {
		return fmt.Errorf("kill node %s: %w", n.Name, err)
	}
	return nil
}

// StartNode starts a node from its own disk. A node that runs is left alone; one
// that was told to end is awaited for a minute first, and killed if it runs then.
func (c *Cluster) StartNode(ctx context.Context, id topology.ID) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	err = c.awaitEnding(ctx, n, container)
	if errors.Is(err, errNotEnded) {
		err = c.signal(ctx, container, "SIGKILL")
	}
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	c.watch.forget(id)
	if _, err := c.docker.ContainerStart(ctx, container, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	return nil
}

func (c *Cluster) container(id topology.ID) (topology.Node, string, error) {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return n, "", fmt.Errorf("the cluster has no node %d", id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	container, ok := c.containers[id]
	if !ok {
		return n, "", fmt.Errorf("node %s has no container in run %s", n.Name, c.spec.RunID)
	}
	return n, container, nil
}

// AwaitDown waits until the cluster says that the node has failed: an event of
// the management server, or its node status. The management node itself is
// down when it no longer answers.
func (c *Cluster) AwaitDown(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	var polled reference.Evidence
	return c.await(ctx, id, "count as failed", func(n topology.Node, s sighting, status map[topology.ID]mgm.NodeStatus, err error) (reference.Evidence, bool) {
		if s.evidence.Source != "" && !s.up {
			return s.evidence, true
		}
		if err != nil && n.Role == topology.Management {
			return reference.Evidence{At: time.Now(), Source: "management status", Detail: err.Error()}, true
		}
		if reported, ok := status[id]; !ok || started(reported) {
			return polled, false
		} else if polled.Source == "" {
			polled = statusEvidence(reported)
		}
		return polled, time.Since(polled.At) > eventGrace
	})
}

// AwaitUp waits until the cluster says that the node takes part: a data node
// is started, a SQL node is connected.
func (c *Cluster) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return c.await(ctx, id, "take part", func(_ topology.Node, s sighting, status map[topology.ID]mgm.NodeStatus, _ error) (reference.Evidence, bool) {
		reported, ok := status[id]
		if !ok || !started(reported) {
			return reference.Evidence{}, false
		}
		// The event is older than the poll that confirms it.
		if s.up && s.evidence.Source != "" {
			return s.evidence, true
		}
		return statusEvidence(reported), true
	})
}

// await asks for the node status, and again at every event and every
// pollInterval, until done says so.
func (c *Cluster) await(ctx context.Context, id topology.ID, what string,
	done func(topology.Node, sighting, map[topology.ID]mgm.NodeStatus, error) (reference.Evidence, bool)) (reference.Evidence, error) {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return reference.Evidence{}, fmt.Errorf("the cluster has no node %d", id)
	}
	types := statusTypes(n.Role)
	for {
		seen, changed := c.watch.last(id)
		if e, ok := done(n, seen, nil, nil); ok {
			return e, nil
		}
		status, err := c.watch.status(ctx, types...)
		if ctx.Err() == nil {
			if e, ok := done(n, seen, status, err); ok {
				return e, nil
			}
		}
		if pauseErr := pause(ctx, changed); pauseErr != nil {
			return reference.Evidence{}, fmt.Errorf("node %s did not %s: %w", n.Name, what, errors.Join(pauseErr, err))
		}
	}
}

// statusTypes says for which nodes to ask while one of a role is awaited. Data
// nodes are asked for alone: what a server says of API nodes has to wait for
// every data node, a frozen one too.
func statusTypes(role topology.Role) []mgm.NodeType {
	if role == topology.Data {
		return []mgm.NodeType{mgm.DataNode}
	}
	return nil
}

// pause waits for news, for pollInterval at the most.
func pause(ctx context.Context, news <-chan struct{}) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-news:
		return nil
	case <-timer.C:
		return nil
	}
}

func started(s mgm.NodeStatus) bool { return s.Status == mgm.Started || s.Status == mgm.Connected }

func statusEvidence(s mgm.NodeStatus) reference.Evidence {
	return reference.Evidence{At: time.Now(), Source: "management status", Detail: string(s.Status)}
}

// tryTimeout bounds one look, so that a node that hangs does not keep the
// others from being asked.
const tryTimeout = 15 * time.Second

// AwaitRedundant waits until the loss of another node would cost no more than
// before this one was lost. For a data or management node that is: all data
// nodes are started and each sees the arbitrator. For a SQL node: it takes a
// write, with its routines in place, which are installed again if it lost them.
func (c *Cluster) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return reference.Evidence{}, fmt.Errorf("the cluster has no node %d", id)
	}
	check := c.dataNodesWhole
	if n.Role == topology.SQL {
		admin := schema.Admin{Name: n.Name, DB: sqlnode.Open(c.Address(n), c.spec.Account)}
		defer admin.DB.Close()
		check = func(ctx context.Context) (reference.Evidence, error) {
			return sqlNodeWhole(ctx, admin, c.schemaOptions())
		}
	}
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		e, err := check(try)
		cancel()
		if err == nil {
			return e, nil
		}
		if pauseErr := pause(ctx, nil); pauseErr != nil {
			return reference.Evidence{}, fmt.Errorf("node %s is not redundant again: %w", n.Name, errors.Join(pauseErr, err))
		}
	}
}

// sqlNodeWhole says whether a SQL node takes real work.
func sqlNodeWhole(ctx context.Context, admin schema.Admin, o schema.Options) (reference.Evidence, error) {
	if err := schema.Repair(ctx, admin, o); err != nil {
		return reference.Evidence{}, err
	}
	if err := schema.TakesWrites(ctx, admin, o); err != nil {
		return reference.Evidence{}, err
	}
	return reference.Evidence{At: time.Now(), Source: "SQL write", Detail: "took a write through " + admin.Name + ", routines in place"}, nil
}

// dataNodesWhole says whether all data nodes are started and see an arbitrator.
func (c *Cluster) dataNodesWhole(ctx context.Context) (reference.Evidence, error) {
	status, err := c.watch.status(ctx)
	if err != nil {
		return reference.Evidence{}, err
	}
	for _, n := range c.spec.Topology.ByRole(topology.Data) {
		if s := status[n.ID]; !started(s) {
			return reference.Evidence{}, fmt.Errorf("data node %s is %s", n.Name, strings.ToLower(string(s.Status)))
		}
	}
	var failures []error
	for _, n := range c.spec.Topology.ByRole(topology.SQL) {
		if !started(status[n.ID]) {
			continue
		}
		err := c.arbitratorSeen(ctx, n)
		if err == nil {
			return reference.Evidence{At: time.Now(), Source: "management status and ndbinfo.membership",
				Detail: "all data nodes started, arbitrator connected"}, nil
		}
		failures = append(failures, err)
	}
	return reference.Evidence{}, fmt.Errorf("no SQL node could tell of an arbitrator: %w", errors.Join(failures...))
}

// arbitratorSeen asks ndbinfo, through one SQL node, whether every data node is
// connected to a running arbitrator. A cluster with one replica has none.
func (c *Cluster) arbitratorSeen(ctx context.Context, n topology.Node) error {
	if c.spec.Topology.Replicas == 1 {
		return nil
	}
	db := sqlnode.Open(c.Address(n), c.spec.Account)
	defer db.Close()
	// Compared here and not in SQL: the collation of ndbinfo's views differs from
	// the connection's, and between them the server refuses IN and =.
	rows, err := db.QueryContext(ctx, "SELECT arb_state, arb_connected FROM ndbinfo.membership")
	if err != nil {
		return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
	}
	defer rows.Close()
	whole := 0
	for rows.Next() {
		var state, connected string
		if err := rows.Scan(&state, &connected); err != nil {
			return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
		}
		if state == "ARBIT_RUN" && connected == "Yes" {
			whole++
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
	}
	if want := len(c.spec.Topology.ByRole(topology.Data)); whole < want {
		return fmt.Errorf("%d of %d data nodes are connected to a running arbitrator", whole, want)
	}
	return nil
}

// failWithNodes ends a start as soon as a node's container has exited: it will
// not come up by itself. It returns when ctx ends.
func (c *Cluster) failWithNodes(ctx context.Context, fail context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, n := range c.spec.Topology.Nodes {
			if state := c.containerState(ctx, n.ID); state == "exited" || state == "dead" {
				fail(fmt.Errorf("node %s ended while it started", n.Name))
				return
			}
		}
	}
}

// containerState asks the engine what a node's container does.
func (c *Cluster) containerState(ctx context.Context, id topology.ID) string {
	_, container, err := c.container(id)
	if err != nil {
		return "missing"
	}
	return c.stateOf(ctx, container)
}

// Runs asks the engine whether a node has processes, frozen ones too.
func (c *Cluster) Runs(ctx context.Context, id topology.ID) (bool, error) {
	n, container, err := c.container(id)
	if err != nil {
		return false, err
	}
	inspected, err := c.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether node %s runs: %w", n.Name, err)
	}
	return isRunning(string(inspected.Container.State.Status)), nil
}

// stateOf asks the engine what a container does: "running", "paused", "exited",
// or why it does not tell.
func (c *Cluster) stateOf(ctx context.Context, container string) string {
	inspected, err := c.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		return "missing"
	case err != nil:
		return err.Error()
	}
	return string(inspected.Container.State.Status)
}

// awaitReady waits for what Start promises, and installs the schema.
func (c *Cluster) awaitReady(ctx context.Context) error {
	for _, n := range c.spec.Topology.ByRole(topology.Data) {
		if _, err := c.AwaitUp(ctx, n.ID); err != nil {
			return err
		}
	}
	c.spec.Announce("cluster: data nodes started")
	admins := c.admins()
	defer closeAll(admins)
	if err := schema.Install(ctx, admins, c.schemaOptions()); err != nil {
		return err
	}
	c.spec.Announce("cluster: schema installed on every SQL node")
	for _, n := range c.spec.Topology.Nodes {
		if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

// Version asks the management server what it is, such as "mysql-9.7.4 ndb-9.7.4".
func (c *Cluster) Version(ctx context.Context) (string, error) {
	session, err := mgm.Dial(ctx, c.managementAddress(), mgm.Options{})
	if err != nil {
		return "", err
	}
	defer session.Close()
	v, err := session.Version(ctx)
	return v.Text, err
}

// NodeState is what status shows of one node.
type NodeState struct {
	Node      topology.Node
	Address   string
	Container string // what the engine says: "running", "exited", ...
	Cluster   string // what the management server says, or why it says nothing
}

// Status asks the engine and the management server about every node.
func (c *Cluster) Status(ctx context.Context) []NodeState {
	reported, err := c.watch.status(ctx)
	var states []NodeState
	for _, n := range c.spec.Topology.Nodes {
		s := NodeState{Node: n, Address: c.Address(n), Container: c.containerState(ctx, n.ID)}
		switch status, ok := reported[n.ID]; {
		case err != nil:
			s.Cluster = "management server does not answer"
		case !ok:
			s.Cluster = "not reported"
		default:
			s.Cluster = strings.ToLower(string(status.Status))
		}
		states = append(states, s)
	}
	return states
}

func (c *Cluster) managementAddress() string {
	return c.Address(c.spec.Topology.ByRole(topology.Management)[0])
}

// logTails returns the last lines of every node's log that is not running, for
// an error message.
func (c *Cluster) logTails(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var b strings.Builder
	for _, n := range c.spec.Topology.Nodes {
		state := c.containerState(ctx, n.ID)
		if state == "running" {
			continue
		}
		fmt.Fprintf(&b, "\n  node %s is %s; its log ends with:", n.Name, state)
		for _, line := range c.logTail(ctx, n.ID, 5) {
			fmt.Fprintf(&b, "\n    %s", line)
		}
	}
	return b.String()
}
