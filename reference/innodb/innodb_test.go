package innodb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/innodb"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// TestInnoDBFailsOver loads a pair, kills its primary while a client writes, and
// starts it again: what was acknowledged is there, nobody reads what is old, and
// at the end both servers have the same.
func TestInnoDBFailsOver(t *testing.T) {
	docker := clustertest.Alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const runID = "innodb"
	if err := cluster.Remove(ctx, docker, runID); err != nil {
		t.Fatal(err)
	}
	found, err := image.Find(ctx, docker, image.Options{Announce: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	if found.How == "official" {
		t.Skipf("the image %s is not mailbench's own, and lacks the plugins of semi-synchronous replication", found.Name)
	}
	layout := topology.Servers("sql", []string{"mta1", "webmail1"})
	layout.Limits = map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 1000, MemoryMiB: 1024}}
	target, err := innodb.New(docker, innodb.Spec{
		RunID: runID, Topology: layout, Image: found.ID, Announce: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := target.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Attach(ctx, docker, runID); !errors.Is(err, cluster.ErrNoCluster) {
		t.Errorf("taken for an NDB cluster: %v", err)
	}
	var told events
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go func() { _ = target.Watch(watching, told.add) }()

	p := workload.DefaultPopulation(1)
	p.Accounts = 500
	loader, closeLoader, err := target.Loader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := workload.LoadPopulation(ctx, loader, p, time.Unix(1208260800, 0), 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := closeLoader(); err != nil {
		t.Fatal(err)
	}
	rows := slices.Collect(p.Routes())
	answers := func(node topology.ID) {
		t.Helper()
		s := connect(t, target, node)
		for _, r := range rows[2:102] { // the first two are the domain, and whose account changes
			want := routing.Decide(r.Address, &r, nil)
			if got, err := s.Route(ctx, r.Address); err != nil || got.Verdict != want.Verdict || got.Backend != want.Backend {
				t.Fatalf("server %d answers %+v (%v) for %s, want %+v", node, got, err, r.Address, want)
			}
		}
	}
	answers(1)
	answers(2)

	user := p.Address(0)
	replica := ndberr.Classify(connect(t, target, 2).Set(ctx, user, "colour", "blue"))
	if replica.Class != ndberr.NotReady || replica.Effect != ndberr.NotApplied || !replica.Retryable {
		t.Errorf("a write on the replica is %v, want not ready, not applied, retryable", replica)
	}

	// The primary dies under a client that writes one value after another.
	writer := connect(t, target, 1)
	acknowledged := make(chan int)
	go func() {
		last := -1
		for n := 0; writer.Set(ctx, user, "counter", fmt.Sprint(n)) == nil; n++ {
			last = n
		}
		acknowledged <- last
	}()
	time.Sleep(500 * time.Millisecond) // for some writes
	killed := time.Now()
	if err := target.Kill(ctx, 1); err != nil {
		t.Fatal(err)
	}
	last := <-acknowledged
	down, err := target.AwaitDown(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d writes were acknowledged; counted as dead after %v: %s", last+1, down.At.Sub(killed), down.Detail)
	if last < 0 {
		t.Fatal("no write was acknowledged")
	}
	answers(2) // at once: reads need no primary
	survivor := writeWhenPromoted(t, target, 2, user)
	t.Logf("writes were taken again after %v", time.Since(killed))
	read, err := survivor.Read(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	var counter int
	if _, err := fmt.Sscan(read["counter"], &counter); err != nil || counter < last {
		t.Errorf("the survivor has counter %q, and %d was acknowledged", read["counter"], last)
	}
	if err := survivor.Change(ctx, accounts.Change{
		Action: accounts.SetForward, Login: user, Targets: []string{"a@elsewhere.example"}, ID: [16]byte{1}, At: time.Unix(1208260900, 0),
	}); err != nil {
		t.Errorf("change an account on the survivor: %v", err)
	}

	if err := target.StartNode(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := target.AwaitUp(ctx, 1); err != nil {
		t.Fatal(err)
	}
	whole, err := target.AwaitRedundant(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("redundant again after %v: %s", time.Since(killed), whole.Detail)
	if target.Primary() != 2 {
		t.Errorf("the primary is server %d, want 2", target.Primary())
	}
	if err := survivor.Set(ctx, user, "colour", "red"); err != nil {
		t.Fatal(err)
	}
	if err := target.AwaitReplicated(ctx, 1); err != nil {
		t.Fatal(err)
	}
	old := connect(t, target, 1)
	if read, err := old.Read(ctx, user); err != nil || read["colour"] != "red" || read["counter"] == "" {
		t.Errorf("the old primary reads %v (%v)", read, err)
	}
	if a, err := old.Account(ctx, user); err != nil || len(a.Targets) != 1 {
		t.Errorf("the old primary has account %+v (%v)", a, err)
	}

	// A server that holds what the primary never had starts over.
	errant, err := target.OpenAdmin(1)
	if err != nil {
		t.Fatal(err)
	}
	defer errant.Close()
	for _, statement := range []string{
		"SET GLOBAL read_only = OFF", "REPLACE INTO userprefs (user, prefkey, prefval) VALUES ('errant', 'colour', 'green')",
		"STOP REPLICA", // the steward follows anew
	} {
		if _, err := errant.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	told.await(ctx, t, "REBUILT of 1")
	if _, err := target.AwaitRedundant(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if read, err := connect(t, target, 1).Read(ctx, "errant"); err != nil || len(read) != 0 {
		t.Errorf("after it was rebuilt the server still has %v (%v)", read, err)
	}
	answers(1)
	usage := target.Usage(ctx)
	if len(usage) != innodb.Servers || usage["sql2"].Memory == 0 {
		t.Errorf("usage is %v", usage)
	}
	t.Log(told.String())
}

// connect opens a session, as a client does.
func connect(t *testing.T, target *innodb.Target, node topology.ID) reference.Session {
	t.Helper()
	s, err := target.Connect(t.Context(), node, reference.ConnectOptions{ConnectTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// writeWhenPromoted writes until a server takes it, and returns the session.
func writeWhenPromoted(t *testing.T, target *innodb.Target, node topology.ID, user string) reference.Session {
	t.Helper()
	s := connect(t, target, node)
	for {
		err := s.Set(t.Context(), user, "colour", "blue")
		if err == nil {
			return s
		}
		if result := ndberr.Classify(err); result.Class != ndberr.NotReady {
			t.Fatalf("while the replica is to be promoted a write is %v: %v", result, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// events remembers what a target said.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(c reference.ClusterEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf("%s of %d", c.Name, c.Node))
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.all, ", ")
}

func (e *events) await(ctx context.Context, t *testing.T, event string) {
	t.Helper()
	for !strings.Contains(e.String(), event) {
		if ctx.Err() != nil {
			t.Fatalf("%s was not said: %s", event, e)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
