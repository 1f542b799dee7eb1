// Package ndb looks at an NDB cluster, wherever it runs, through its management
// server and its SQL nodes: what is common to a cluster in containers and to one
// that somebody else runs.
package ndb

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

// View is an NDB cluster as its management server and its SQL nodes show it. It
// is those methods of a reference.Target that need nothing else, and an
// Observer and an Admin.
type View struct {
	topology topology.Topology
	address  func(topology.Node) string
	account  sqlnode.Account
	schema   schema.Options
	watch    *watch
}

// New returns a View. It does not connect. Address tells where a node serves, as
// host:port, and is asked each time. The schema's database is the account's.
func New(t topology.Topology, address func(topology.Node) string, account sqlnode.Account, o schema.Options) *View {
	v := &View{topology: t, address: address, account: account, schema: o}
	v.watch = newWatch(v.management, t)
	return v
}

// Topology returns the nodes and hosts of the cluster.
func (v *View) Topology() topology.Topology { return v.topology }

var _ reference.Forgetter = (*View)(nil)

func (v *View) management() string {
	return v.address(v.topology.ByRole(topology.Management)[0])
}

// Forget drops what the cluster has said of a node, so that only news from now on
// count. Whoever acts on a node calls it before.
func (v *View) Forget(id topology.ID) { v.watch.forget(id) }

// Manage opens a session with the management server for one call.
func (v *View) Manage(ctx context.Context, call func(*mgm.Client) error) error {
	session, err := mgm.Dial(ctx, v.management(), mgm.Options{})
	if err != nil {
		return err
	}
	defer session.Close()
	return call(session)
}

// Connect opens a session with a SQL node. It tries once.
func (v *View) Connect(ctx context.Context, id topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	n, err := v.Role(id, topology.SQL)
	if err != nil {
		return nil, err
	}
	return sqlnode.Connect(ctx, n, v.address(n), v.account, o)
}

// Loader returns a way to fill the cluster's tables through all SQL nodes.
func (v *View) Loader(context.Context) (reference.Loader, func() error, error) {
	admins := v.Admins()
	loader, err := schema.NewLoader(admins, v.schema)
	if err != nil {
		return nil, nil, errors.Join(err, CloseAll(admins))
	}
	return loader, func() error { return CloseAll(admins) }, nil
}

// SchemaOptions say where the cluster's tables and routines are.
func (v *View) SchemaOptions() schema.Options { return v.schema }

// Admins opens an administrator's view of every SQL node, for CloseAll.
func (v *View) Admins() []schema.Admin {
	var admins []schema.Admin
	for _, n := range v.topology.ByRole(topology.SQL) {
		admins = append(admins, schema.Admin{Name: n.Name, DB: sqlnode.Open(v.address(n), v.account)})
	}
	return admins
}

// CloseAll closes what Admins has opened.
func CloseAll(admins []schema.Admin) error {
	var failures []error
	for _, a := range admins {
		failures = append(failures, a.DB.Close())
	}
	return errors.Join(failures...)
}

// Role finds a node that must have a role.
func (v *View) Role(id topology.ID, role topology.Role) (topology.Node, error) {
	n, ok := v.topology.ByID(id)
	switch {
	case !ok:
		return n, fmt.Errorf("the cluster has no node %d", id)
	case n.Role != role:
		return n, fmt.Errorf("%s is a %s node, want a %s node", n.Name, n.Role, role)
	}
	return n, nil
}
