package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
)

var clientAddress = netip.MustParseAddr("192.0.2.1")

// TestSharedClusterIsReady: every node runs, the engine and the cluster agree on
// it, and another process finds the cluster by its label.
func TestSharedClusterIsReady(t *testing.T) {
	c := clustertest.Shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, s := range c.Status(ctx) {
		if s.Container != "running" || (s.Cluster != "started" && s.Cluster != "connected") {
			t.Errorf("node %s: container %s, cluster says %s", s.Node.Name, s.Container, s.Cluster)
		}
		if !strings.HasPrefix(s.Address, "198.18.") && !strings.HasPrefix(s.Address, "198.19.") {
			t.Errorf("node %s serves at %s, outside the benchmarking range", s.Node.Name, s.Address)
		}
	}
}

// TestSessionAsksEveryPath asks every path through every SQL node.
func TestSessionAsksEveryPath(t *testing.T) {
	c := clustertest.Shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range c.Topology().ByRole(topology.SQL) {
		session, err := c.Connect(ctx, n.ID, reference.ConnectOptions{ConnectTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		user := "session-" + n.Name
		if err := session.Set(ctx, user, "theme", n.Name); err != nil {
			t.Fatalf("through %s: %v", n.Name, err)
		}
		if stored, err := session.Read(ctx, user); err != nil || stored["theme"] != n.Name {
			t.Errorf("through %s: read %v, %v", n.Name, stored, err)
		}
		if answer, err := session.Route(ctx, "nobody-"+n.Name+"@calmail.example"); err != nil || answer.Verdict != routing.Foreign { // no domain has a row
			t.Errorf("through %s: route %v, %v", n.Name, answer, err)
		}
		answer, err := session.Check(ctx, greylist.Request{
			Client: clientAddress, Sender: "a@peer.example", Recipient: fmt.Sprintf("%s-%d@calmail.example", n.Name, time.Now().UnixNano()), // never seen before
			Now: time.Unix(time.Now().Unix(), 0),
		})
		if err != nil || answer.Verdict != greylist.New {
			t.Errorf("through %s: check %v, %v", n.Name, answer, err)
		}
	}
}

// TestKilledNodesComeBack kills a data node and a SQL node of the shared
// cluster: the cluster notices, they come back from their own disk, and a SQL
// node that lost its routines gets them again before it counts as redundant.
func TestKilledNodesComeBack(t *testing.T) {
	c := clustertest.Exclusive(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	seen := make(chan string, 1000)
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(watching, func(e reference.ClusterEvent) {
			select {
			case seen <- e.Name:
			default:
			}
		})
	}()
	for _, name := range []string{"data2", "sql1"} {
		n, err := c.Topology().Node(name)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		step := func(what string, e reference.Evidence, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %s: %v", name, what, err)
			}
			if e.At.Before(began) {
				t.Errorf("%s: %s is proven by something older than the kill: %+v", name, what, e)
			}
			t.Logf("%s: %s after %v: %s, %s", name, what, e.At.Sub(began).Round(time.Millisecond), e.Source, e.Detail)
		}
		if err := c.Kill(ctx, n.ID); err != nil {
			t.Fatal(err)
		}
		e, err := c.AwaitDown(ctx, n.ID)
		step("down", e, err)
		brief, done := context.WithTimeout(ctx, 2*time.Second)
		if _, err := c.AwaitRedundant(brief, n.ID); err == nil || !strings.Contains(err.Error(), "the process of "+name+" has ended, with exit code 137") {
			t.Errorf("%s is dead; in vain was waited for redundancy, with the error: %v", name, err)
		}
		done()
		if n.Role == topology.SQL {
			_, err := c.Connect(ctx, n.ID, reference.ConnectOptions{ConnectTimeout: 10 * time.Second})
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("a dead server on a living host must refuse connections, got: %v", err)
			}
		}
		if err := c.StartNode(ctx, n.ID); err != nil {
			t.Fatal(err)
		}
		if err := c.StartNode(ctx, n.ID); err != nil {
			t.Errorf("starting a node that runs must do nothing: %v", err)
		}
		e, err = c.AwaitUp(ctx, n.ID)
		step("up", e, err)
		e, err = c.AwaitRedundant(ctx, n.ID)
		step("redundant", e, err)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	if len(seen) == 0 {
		t.Error("no cluster event was seen while nodes died")
	}
}

// TestRedundantSQLNodeGetsItsRoutinesBack drops a routine on one SQL node.
func TestRedundantSQLNodeGetsItsRoutinesBack(t *testing.T) {
	c := clustertest.Exclusive(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := c.Topology().ByRole(topology.SQL)[1]
	admin := clustertest.Admin(t, c, n)
	o := schema.Options{Database: cluster.DefaultAccount().Database}
	if _, err := admin.DB.ExecContext(ctx, "DROP PROCEDURE "+o.Database+".greylist_check"); err != nil {
		t.Fatal(err)
	}
	if missing, err := schema.Verify(ctx, admin, o); err != nil || len(missing) != 1 {
		t.Fatalf("after the drop: missing %v, %v", missing, err)
	}
	if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	if missing, err := schema.Verify(ctx, admin, o); err != nil || len(missing) != 0 {
		t.Fatalf("redundant, but missing %v, %v", missing, err)
	}
}

// TestATakenNameIsLeftAlone: a second cluster of the same run id is refused
// before it has made anything, so that nobody removes the first for it.
func TestATakenNameIsLeftAlone(t *testing.T) {
	c := clustertest.Shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	second := cluster.New(docker, cluster.Spec{RunID: c.RunID(), Topology: c.Topology(), Account: cluster.DefaultAccount()})
	if err := second.Start(ctx); !errors.Is(err, cluster.ErrTaken) {
		t.Errorf("error %v, want one that says that the name is taken", err)
	}
	if _, err := cluster.Attach(ctx, docker, c.RunID()); err != nil {
		t.Errorf("the first cluster cannot be found any more: %v", err)
	}
}

// TestRemoveTakesOnlyItsOwn: removing a run that is not there changes nothing,
// and an empty run id is refused.
func TestRemoveTakesOnlyItsOwn(t *testing.T) {
	c := clustertest.Shared(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	if err := cluster.Remove(ctx, docker, ""); err == nil {
		t.Error("an empty run id must be refused: it would match every run")
	}
	if err := cluster.Remove(ctx, docker, "no-such-run"); err != nil {
		t.Error(err)
	}
	if _, err := cluster.Attach(ctx, docker, "no-such-run"); !errors.Is(err, cluster.ErrNoCluster) {
		t.Errorf("attach to no cluster: %v", err)
	}
	for _, s := range c.Status(ctx) {
		if s.Container != "running" {
			t.Errorf("node %s is %s", s.Node.Name, s.Container)
		}
	}
}
