// Package external makes a target of an NDB cluster that somebody else runs. It
// knows the cluster through its management server and SQL nodes, stops and starts
// data nodes through the management server, and does nothing but look until a
// person has named the cluster and an administrator's table in it agrees.
package external

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

// Spec says which cluster it is, and what may be done to it.
type Spec struct {
	Name      string                 // in the guard table
	Confirmed string                 // the name that a person has given for it; "" to look only
	Topology  topology.Topology      // with one management node
	Addresses map[topology.ID]string // of the management node and the SQL nodes, as host:port
	Account   sqlnode.Account        // with the database that is made for the mail data

	Mark     Mark              // what to leave in that database
	Keep     bool              // Stop leaves the database
	Schema   map[string]string // files that take the place of reference/schema's
	Announce func(string)      // takes one line for each step of Start; may be nil
}

// Cluster is a reference.Target: an NDB cluster that somebody else runs. It is a
// Stopper, a Restarter and a Crasher of data nodes, and an Observer.
type Cluster struct {
	*ndb.View
	spec    Spec
	guarded bool // the guard has let us in
	made    bool // the database is of our making
	marked  bool // and says so
}

var (
	_ reference.Target    = (*Cluster)(nil)
	_ reference.Stopper   = (*Cluster)(nil)
	_ reference.Restarter = (*Cluster)(nil)
	_ reference.Crasher   = (*Cluster)(nil)
	_ reference.Observer  = (*Cluster)(nil)
	_ reference.Admin     = (*Cluster)(nil)
	_ reference.Choosy    = (*Cluster)(nil)
)

// New describes a cluster. It does not connect.
func New(spec Spec) *Cluster {
	if spec.Announce == nil {
		spec.Announce = func(string) {}
	}
	c := &Cluster{spec: spec}
	c.View = ndb.New(spec.Topology, c.Address, spec.Account, schema.Options{Database: spec.Account.Database, Files: spec.Schema})
	return c
}

// Address returns the address and port at which a node serves, "" for a data node,
// whose address nobody needs.
func (c *Cluster) Address(n topology.Node) string { return c.spec.Addresses[n.ID] }

// RunID returns the id of the run that the cluster is used for.
func (c *Cluster) RunID() string { return c.spec.Mark.RunID }

// CheckNode says which nodes can be broken by which means. What the management
// server does not start, nobody here could bring back. An administrator's
// connections are for looking and for the mail data: what takes memory or locks
// away through SQL would hit whoever else uses the cluster.
func (c *Cluster) CheckNode(capability string, id topology.ID) error {
	n, ok := c.spec.Topology.ByID(id)
	switch capability {
	case "Admin":
		return errors.New("an external cluster is broken through its management server or by commands, never through SQL")
	case "Stopper", "Restarter", "Crasher":
		if !ok || n.Role != topology.Data {
			return fmt.Errorf("the management server of an external cluster starts data nodes only, and %s is a %s node", n.Name, n.Role)
		}
	}
	return nil
}

// act finds a data node that may be acted upon.
func (c *Cluster) act(id topology.ID) (topology.Node, error) {
	n, err := c.Role(id, topology.Data)
	if err == nil {
		err = c.mayAct()
	}
	return n, err
}

// mayAct refuses whatever changes something before the guard was asked.
func (c *Cluster) mayAct() error {
	if !c.guarded {
		return fmt.Errorf("external cluster %s: nothing is done to it before its guard table was read", c.spec.Name)
	}
	return nil
}

// StopNode stops a data node in order. Its angel lives on and waits for a start,
// as after "restart -n" of ndb_mgm: after a plain stop nobody but its own machine
// could start it again. It returns when the node is down.
func (c *Cluster) StopNode(ctx context.Context, id topology.ID) error {
	return c.down(ctx, id, "stop", mgm.RestartOptions{NoStart: true})
}

// CrashChild has a data node end at once, without handing over what it does. Its
// angel waits for a start.
func (c *Cluster) CrashChild(ctx context.Context, id topology.ID) error {
	return c.down(ctx, id, "crash", mgm.RestartOptions{StopOptions: mgm.StopOptions{Abort: true}, NoStart: true})
}

// RestartNode restarts a data node in order. It returns when the node is down and
// was told to start.
func (c *Cluster) RestartNode(ctx context.Context, id topology.ID) error {
	return c.down(ctx, id, "restart", mgm.RestartOptions{})
}

func (c *Cluster) down(ctx context.Context, id topology.ID, what string, o mgm.RestartOptions) error {
	n, err := c.act(id)
	if err != nil {
		return err
	}
	c.Forget(id)
	if err := c.Manage(ctx, func(session *mgm.Client) error {
		_, err := session.Restart(ctx, o, id)
		return err
	}); err != nil {
		return fmt.Errorf("%s node %s: %w", what, n.Name, err)
	}
	return nil
}

const (
	startPoll = 200 * time.Millisecond
	// settle is how long a node that seems to run is watched: the server goes on
	// with a stop whose harness was killed.
	settle = 3 * time.Second
	// leaving is how long a node that stops may take to wait for its start.
	leaving = time.Minute
)

// StartNode has a data node start whose angel waits for it. A node that starts or
// runs is left alone. It returns when the node was told.
func (c *Cluster) StartNode(ctx context.Context, id topology.ID) error {
	n, err := c.act(id)
	if err != nil {
		return err
	}
	c.Forget(id)
	began := time.Now()
	for {
		status, err := c.NodeStatus(ctx, mgm.DataNode)
		if err != nil {
			return fmt.Errorf("start node %s: %w", n.Name, err)
		}
		state, after := status[id].Status, time.Since(began)
		switch next(state, after) {
		case nothing:
			return nil
		case begin:
			if err := c.Manage(ctx, func(session *mgm.Client) error { return session.Start(ctx, id) }); err != nil {
				return fmt.Errorf("start node %s: %w", n.Name, err)
			}
			return nil
		case giveUp:
			return fmt.Errorf("start node %s: it is %s, and no angel of it answers the management server: start ndbmtd with --ndb-nodeid=%d on host %s",
				n.Name, state, id, n.Host)
		}
		timer := time.NewTimer(startPoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("start node %s, which is %s: %w", n.Name, state, context.Cause(ctx))
		}
	}
}

// step is what to do about a node that is to start.
type step int

const (
	look step = iota // again
	begin
	nothing
	giveUp
)

// next decides by a node's state and how long it has been looked at.
func next(state mgm.Status, after time.Duration) step {
	switch {
	case state == mgm.NotStarted:
		return begin
	case state == mgm.Starting:
		return nothing
	case state == mgm.Started && after >= settle:
		return nothing
	case state == mgm.Started || after < leaving:
		return look
	default:
		return giveUp
	}
}

// Dump gives a data node a DUMP code with its arguments.
func (c *Cluster) Dump(ctx context.Context, id topology.ID, args ...int) error {
	if err := c.mayAct(); err != nil {
		return err
	}
	return c.View.Dump(ctx, id, args...)
}

// Connect opens a session with a SQL node. It tries once.
func (c *Cluster) Connect(ctx context.Context, id topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	if err := c.mayAct(); err != nil {
		return nil, err
	}
	return c.View.Connect(ctx, id, o)
}

// Loader returns a way to fill the tables that Start has made.
func (c *Cluster) Loader(ctx context.Context) (reference.Loader, func() error, error) {
	if err := c.mayAct(); err != nil {
		return nil, nil, err
	}
	return c.View.Loader(ctx)
}

// Start holds the cluster against what was said of it, asks the guard, makes the
// database and installs the schema. It starts no node. When it fails, Stop removes
// what it has made.
func (c *Cluster) Start(ctx context.Context) error {
	if err := c.Permit(ctx); err != nil {
		return err
	}
	c.spec.Announce(fmt.Sprintf("cluster: external cluster %s is as described, whole, and released by its administrator", c.spec.Name))
	if err := c.makeDatabase(ctx); err != nil {
		return err
	}
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	if err := schema.Install(ctx, admins, c.SchemaOptions()); err != nil {
		return err
	}
	for _, n := range c.spec.Topology.Nodes {
		if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
			return err
		}
	}
	c.spec.Announce(fmt.Sprintf("cluster: database %s made, schema installed on every SQL node", c.spec.Account.Database))
	return nil
}

// Permit looks whether the cluster is the one that is meant and whole, and asks
// the guard. It changes nothing. What acts works after it only.
func (c *Cluster) Permit(ctx context.Context) error {
	if err := c.confirmed(); err != nil {
		return err
	}
	if err := c.Verify(ctx); err != nil {
		return err
	}
	if err := c.askGuard(ctx, true); err != nil {
		return err
	}
	c.guarded = true
	return nil
}

// PermitHeal is Permit for a cluster of which something may be down: what answers
// must agree.
func (c *Cluster) PermitHeal(ctx context.Context) error {
	if err := c.confirmed(); err != nil {
		return err
	}
	if err := c.identify(ctx, false); err != nil {
		return err
	}
	if err := c.askGuard(ctx, false); err != nil {
		return err
	}
	c.guarded = true
	return nil
}

// Stop drops the database that Start has made, and nothing else.
func (c *Cluster) Stop(ctx context.Context) error {
	switch {
	case !c.made, c.spec.Keep && c.marked:
		return nil
	case !c.marked: // we know it all the same, and nobody would later
		return c.dropAll(ctx)
	default:
		return c.DropDatabase(ctx, c.spec.Mark.RunID)
	}
}
