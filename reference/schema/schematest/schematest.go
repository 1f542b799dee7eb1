// Package schematest gives tests a database with the mail system's schema on a
// real cluster.
package schematest

import (
	"context"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

// Cluster is a cluster with the schema in a database of the test's own.
type Cluster struct {
	Nodes     []topology.Node
	Addresses []string // host:port of each node
	Admins    []schema.Admin
	Account   sqlnode.Account
	Options   schema.Options
}

// Install puts the schema on the shared test cluster, into the database
// mailbench_name, which is dropped when the test ends.
func Install(t testing.TB, name string) Cluster {
	t.Helper()
	return InstallOn(t, clustertest.Shared(t), name)
}

// InstallOn is Install for a test that has the cluster already.
func InstallOn(t testing.TB, shared *cluster.Cluster, name string) Cluster {
	t.Helper()
	c := Cluster{
		Nodes:   shared.Topology().ByRole(topology.SQL),
		Account: cluster.DefaultAccount(),
		Options: schema.Options{Database: "mailbench_" + name},
	}
	c.Account.Database = c.Options.Database
	for _, n := range c.Nodes {
		c.Addresses = append(c.Addresses, shared.Address(n))
		c.Admins = append(c.Admins, clustertest.Admin(t, shared, n))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.drop(t, ctx) // what an earlier test left when it was killed
	if err := schema.Install(ctx, c.Admins, c.Options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c.drop(t, ctx)
	})
	return c
}

func (c Cluster) drop(t testing.TB, ctx context.Context) {
	t.Helper()
	for _, admin := range c.Admins { // a node may keep its routines: they are its own
		if _, err := admin.DB.ExecContext(ctx, "DROP DATABASE IF EXISTS "+c.Options.Database); err != nil {
			t.Errorf("drop the test's database on %s: %v", admin.Name, err)
		}
	}
}
