package mgm_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/topology"
)

// patience bounds what the cluster needs for one step on a busy machine.
const patience = 3 * time.Minute

// stream keeps what a listener heard.
type stream struct {
	mu     sync.Mutex
	events []mgm.Event
	gaps   []error
}

// follow listens to the server until the test ends.
func follow(t *testing.T, address string) *stream {
	t.Helper()
	st := &stream{}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		err := mgm.Follow(ctx, address, mgm.Options{}, mgm.DefaultFilter(),
			func(e mgm.Event) { st.mu.Lock(); defer st.mu.Unlock(); st.events = append(st.events, e) },
			func(err error) { st.mu.Lock(); defer st.mu.Unlock(); st.gaps = append(st.gaps, err) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Follow: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); following.Wait() })
	return st
}

// await waits for an event whose detail is accepted, after since.
func (st *stream) await(t *testing.T, says string, since time.Time, accept func(mgm.Detail) bool) {
	t.Helper()
	eventually(t, says, func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return slices.ContainsFunc(st.events, func(e mgm.Event) bool {
			d, err := e.Detail()
			if err != nil {
				t.Fatal(err)
			}
			return e.At.After(since) && d != nil && accept(d)
		})
	})
}

func eventually(t *testing.T, says string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, says)
		}
	}
}

func session(t *testing.T, c *cluster.Cluster) *mgm.Client {
	t.Helper()
	s, err := mgm.Dial(t.Context(), managementAddress(c), mgm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func managementAddress(c *cluster.Cluster) string {
	return c.Address(c.Topology().ByRole(topology.Management)[0])
}

// makeWhole brings back what the test has stopped, whatever became of it. A node
// that still ends counts as running, so that it is started more than once.
func makeWhole(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	for {
		err := bringBack(ctx, c)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Errorf("the shared cluster is not whole again: %v; remove it with: mailbench cluster down --name %s", err, clustertest.RunID)
			return
		}
	}
}

// bringBack starts what is down and waits some seconds until all is redundant.
func bringBack(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, n := range c.Topology().Nodes {
		if err := c.StartNode(ctx, n.ID); err != nil {
			return err
		}
	}
	// A restart that was left without its start.
	if s, err := mgm.Dial(ctx, managementAddress(c), mgm.Options{}); err == nil {
		_, err := s.StartAll(ctx)
		s.Close()
		if err != nil {
			return err
		}
	}
	for _, n := range c.Topology().Nodes {
		if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
			return err
		}
	}
	return nil
}

func wantCode(t *testing.T, says string, err error, want mgm.Code) {
	t.Helper()
	var failed *mgm.OperationError
	if !errors.As(err, &failed) || failed.Code != want {
		t.Errorf("%s: %v, want error %d", says, err, want)
	}
}

func TestOperationsOnARealCluster(t *testing.T) {
	c := clustertest.Exclusive(t)
	t.Cleanup(func() { makeWhole(t, c) })
	ctx, s, heard := t.Context(), session(t, c), follow(t, managementAddress(c))
	data, sql := c.Topology().ByRole(topology.Data), c.Topology().ByRole(topology.SQL)
	one, other := data[0].ID, data[1].ID
	status := func() mgm.Status {
		nodes, err := s.Status(ctx, mgm.DataNode)
		if err != nil {
			t.Fatal(err)
		}
		return nodes[one].Status
	}
	whole := func() {
		t.Helper()
		wait, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if _, err := c.AwaitRedundant(wait, one); err != nil {
			t.Fatal(err)
		}
	}
	succeeds := func(says string, n int, err error) {
		t.Helper()
		if err != nil || n != 1 {
			t.Fatalf("%s: %d nodes, %v; want 1", says, n, err)
		}
	}
	whole()

	// The stream has no way to say that it has begun, other than by an event.
	heard.await(t, "the stream of events has begun", time.Time{}, func(d mgm.Detail) bool { _, ok := d.(mgm.GlobalCheckpointCompleted); return ok })
	since := time.Now()
	nodes, err := s.Status(ctx, mgm.DataNode)
	if err != nil {
		t.Fatal(err)
	}
	master := one
	if nodes[other].DynamicID < nodes[one].DynamicID {
		master = other
	}
	if err := s.DumpState(ctx, master, 7099); err != nil {
		t.Fatalf("dump order of a local checkpoint: %v", err)
	}
	heard.await(t, "a local checkpoint was ordered", since, func(d mgm.Detail) bool { _, ok := d.(mgm.LocalCheckpointStarted); return ok })

	_, err = s.Stop(ctx, mgm.StopOptions{}, sql[0].ID)
	wantCode(t, "stop a SQL node", err, mgm.CodeWrongType)
	_, err = s.Restart(ctx, mgm.RestartOptions{}, sql[0].ID)
	wantCode(t, "restart a SQL node", err, mgm.CodeWrongType)
	_, err = s.Stop(ctx, mgm.StopOptions{}, one, other)
	wantCode(t, "stop both data nodes in order", err, mgm.CodeNeedsAbort)

	since = time.Now()
	n, err := s.Restart(ctx, mgm.RestartOptions{NoStart: true}, one)
	succeeds("restart without the start", n, err)
	t.Logf("restart of node %d without its start: %v", one, time.Since(since))
	if got := status(); got != mgm.NotStarted {
		t.Errorf("after a restart without the start the node is %s, want %s", got, mgm.NotStarted)
	}
	heard.await(t, "the node has begun to stop", since, func(d mgm.Detail) bool { return d == mgm.StopStarted{} })
	heard.await(t, "it has stopped, to be started", since, func(d mgm.Detail) bool { return d == mgm.StopCompleted{Restart: true, NoStart: true} })
	heard.await(t, "its leaving is handled", since, func(d mgm.Detail) bool { return d == mgm.NodeFailCompleted{Node: one} })
	since = time.Now()
	if err := s.Start(ctx, one); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is starting", func() bool { return status() == mgm.Starting })
	_, err = s.Restart(ctx, mgm.RestartOptions{}, other)
	wantCode(t, "restart a node while another starts", err, mgm.CodeStartingOrStopping)
	_, err = s.Stop(ctx, mgm.StopOptions{}, other)
	wantCode(t, "stop a node while another starts", err, mgm.CodeStartingOrStopping)
	whole()
	t.Logf("node %d whole after %v", one, time.Since(since))
	heard.await(t, "the node's start was a node restart", since, func(d mgm.Detail) bool { return d == mgm.StartPhaseCompleted{Phase: 4, Kind: mgm.NodeRestart} })

	since = time.Now()
	n, err = s.Restart(ctx, mgm.RestartOptions{}, one)
	succeeds("restart", n, err)
	t.Logf("restart of node %d: %v", one, time.Since(since))
	whole()
	heard.await(t, "the node has restarted", since, func(d mgm.Detail) bool { return d == mgm.StartPhaseCompleted{Phase: 101, Kind: mgm.NodeRestart} })

	since = time.Now()
	n, err = s.Stop(ctx, mgm.StopOptions{}, one)
	succeeds("stop", n, err)
	t.Logf("stop of node %d: %v", one, time.Since(since))
	eventually(t, "the node has no contact", func() bool { return status() == mgm.NoContact })
	wantCode(t, "start a dead node", s.Start(ctx, one), mgm.CodeNoContact)
	wantCode(t, "give a dead node a dump order", s.DumpState(ctx, one, 7099), mgm.CodeNoContact)
	_, err = s.Stop(ctx, mgm.StopOptions{}, one)
	wantCode(t, "stop a dead node", err, mgm.CodeSendFailed)
	_, err = s.Stop(ctx, mgm.StopOptions{}, other)
	wantCode(t, "stop the last node of a group", err, mgm.CodeWouldCrash)
}

func TestEventsOfARealServerThatStopsItself(t *testing.T) {
	c := clustertest.Exclusive(t)
	t.Cleanup(func() { makeWhole(t, c) })
	heard := follow(t, managementAddress(c))
	isCheckpoint := func(d mgm.Detail) bool { _, ok := d.(mgm.GlobalCheckpointCompleted); return ok }
	heard.await(t, "the stream of events has begun", time.Time{}, isCheckpoint)

	management := c.Topology().ByRole(topology.Management)[0].ID
	n, err := session(t, c).Stop(t.Context(), mgm.StopOptions{}, management)
	if err != nil || n != 1 {
		t.Fatalf("stop the management server: %d, %v; want 1", n, err)
	}
	since := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.AwaitDown(ctx, management); err != nil {
		t.Fatal(err)
	}
	t.Logf("the management server was down after %v", time.Since(since))
	// The listeners' port closes before the process has ended.
	eventually(t, "the management server's container has ended", func() bool {
		return !slices.ContainsFunc(c.Status(ctx), func(n cluster.NodeState) bool { return n.Node.ID == management && n.Container == "running" })
	})
	t.Logf("its process had ended after %v", time.Since(since))
	since = time.Now()
	if err := c.StartNode(ctx, management); err != nil {
		t.Fatal(err)
	}
	heard.await(t, "events come from the server that was started again", since, isCheckpoint)
	heard.mu.Lock()
	defer heard.mu.Unlock()
	if len(heard.gaps) != 1 {
		t.Errorf("gaps: %v, want one", heard.gaps)
	}
}
