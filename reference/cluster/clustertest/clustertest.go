// Package clustertest gives tests a real NDB cluster. One cluster serves the
// tests of all packages: the first test that asks starts it, those that follow
// find it by its label, and it stays until `mailbench cluster down --name test`
// (which `make test` runs). Each package uses a database of its own, and a test
// that kills nodes has the cluster to itself.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// RunID is the run id of the shared cluster.
const RunID = "test"

// startTimeout includes building the image where there is none.
const startTimeout = 30 * time.Minute

// Shared returns the shared cluster, which the test must leave whole. Without a
// container engine the test fails where CI is set, and is skipped elsewhere;
// both say why. With -short it is skipped.
func Shared(t testing.TB) *cluster.Cluster {
	t.Helper()
	return get(t, syscall.LOCK_SH)
}

// Exclusive returns the shared cluster while no other test uses it, for a test
// that breaks it and mends it again. It must be a test's only call of its kind:
// the test would wait for itself.
func Exclusive(t testing.TB) *cluster.Cluster {
	t.Helper()
	return get(t, syscall.LOCK_EX)
}

// Alone returns a client of the container engine while no other test uses a
// cluster, for a test that starts one of its own.
func Alone(t testing.TB) *client.Client {
	t.Helper()
	docker := connect(t)
	hold(t, syscall.LOCK_EX)
	return docker
}

// connect fails or skips the test where there is no engine, and says why.
func connect(t testing.TB) *client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a real cluster: skipped by -short")
	}
	docker, err := engine.Connect(t.Context())
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("needs a real cluster: %v", err)
		}
		t.Fatalf("needs a real cluster: %v", err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	return docker
}

// hold takes the lock on the use of clusters until the test ends. Test binaries
// of several packages run at once; those that break a cluster wait for the
// others.
func hold(t testing.TB, use int) {
	t.Helper()
	release, err := lock(filepath.Join(os.TempDir(), "mailbench-clustertest-use.lock"), use)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
}

func get(t testing.TB, use int) *cluster.Cluster {
	t.Helper()
	docker := connect(t)
	hold(t, use)
	unlock, err := lock(filepath.Join(os.TempDir(), "mailbench-clustertest-start.lock"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := cluster.Attach(ctx, docker, RunID)
	if err == nil {
		return c
	}
	if !errors.Is(err, cluster.ErrNoCluster) {
		t.Fatalf("attach to the shared test cluster: %v; remove it with: mailbench cluster down --name %s", err, RunID)
	}
	found, err := image.Find(ctx, docker, image.Options{
		Name:     os.Getenv("MAILBENCH_IMAGE"),
		Announce: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := Topology()
	if err != nil {
		t.Fatal(err)
	}
	c = cluster.New(docker, cluster.Spec{
		RunID: RunID, Topology: layout, Image: found.ID, Account: cluster.DefaultAccount(), Keep: true,
		Announce: func(line string) { t.Log(line) },
	})
	if err := c.Start(ctx); err != nil {
		t.Fatal(errors.Join(err, c.Stop(context.WithoutCancel(ctx))))
	}
	return c
}

// Topology is that of the shared cluster: two data nodes, two SQL nodes.
func Topology() (topology.Topology, error) {
	t, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	t.Limits = map[topology.Role]topology.Limits{
		topology.Management: {MemoryMiB: 256},
		topology.Data:       {MemoryMiB: 2048},
		topology.SQL:        {MemoryMiB: 1024},
	}
	return t, err
}

// Admin opens an administrator's view of one SQL node.
func Admin(t testing.TB, c *cluster.Cluster, n topology.Node) schema.Admin {
	t.Helper()
	account := cluster.DefaultAccount()
	account.Database = ""
	db := sqlnode.Open(c.Address(n), account)
	t.Cleanup(func() { _ = db.Close() })
	return schema.Admin{Name: n.Name, DB: db}
}

// lock takes an advisory lock, shared or exclusive, that ends with the process at
// the latest.
func lock(path string, kind int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the shared test cluster: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), kind); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
