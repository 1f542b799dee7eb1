// Package schematest gives tests a database with the mail system's schema on a
// real cluster.
package schematest

import (
	"context"
	"database/sql"
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
// mailbench_name, which is dropped when the test ends. Each change is applied to
// the options first.
func Install(t testing.TB, name string, changes ...func(*schema.Options)) Cluster {
	t.Helper()
	shared := clustertest.Shared(t)
	c := Cluster{
		Nodes:   shared.Topology().ByRole(topology.SQL),
		Account: cluster.DefaultAccount(),
		Options: schema.Options{Database: "mailbench_" + name},
	}
	c.Account.Database = c.Options.Database
	for _, change := range changes {
		change(&c.Options)
	}
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

// Conn is one connection to one SQL node, with the database as its default,
// until the test ends.
func (c Cluster) Conn(t testing.TB, node int) *sql.Conn {
	t.Helper()
	db := sqlnode.Open(c.Addresses[node], c.Account)
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// RoundTrips returns how often a connection has waited for the data nodes so
// far: one key operation or batch of them, a commit, or a part of a scan each.
func RoundTrips(t testing.TB, conn *sql.Conn) (n int) {
	t.Helper()
	rows, err := conn.QueryContext(context.Background(), "SHOW SESSION STATUS LIKE 'Ndb_api_wait_%_count_session'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			name  string
			count int
		)
		if err := rows.Scan(&name, &count); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "Ndb_api_wait_exec_complete_count_session", "Ndb_api_wait_scan_result_count_session":
			n += count
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

func (c Cluster) drop(t testing.TB, ctx context.Context) {
	t.Helper()
	for _, admin := range c.Admins { // a node may keep its routines: they are its own
		for {
			_, err := admin.DB.ExecContext(ctx, "DROP DATABASE IF EXISTS "+c.Options.Database)
			if err == nil {
				break
			}
			// Schema changes of other packages' tests get in the way: 1213 and 3604
			// were seen.
			if ctx.Err() != nil {
				t.Errorf("drop the test's database on %s: %v", admin.Name, err)
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}
