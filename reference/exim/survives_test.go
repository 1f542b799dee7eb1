package exim_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"
)

const (
	senders     = 4
	mostOffered = 3000 // messages of one stream, so that it ends
	oneAnswer   = 90 * time.Second
	wholeAgain  = 2 * time.Minute
)

// stream offers messages until it is told to stop, and offers each again until
// it is accepted, as a peer does.
type stream struct {
	address string
	ends    map[string]ends // where mail for a recipient has to arrive

	mu       sync.Mutex
	accepted map[string]string // recipient by subject
	unknown  map[string]bool   // subjects of which a try may have been accepted without an answer
	deferred map[string]int    // tries that were not accepted, by what was said
	refused  []string          // answers that a database is no reason for
	slowest  time.Duration
}

// run offers messages to every recipient in turn until ctx ends.
func (s *stream) run(ctx context.Context, label string) *sync.WaitGroup {
	var group sync.WaitGroup
	recipients := slices.Sorted(maps.Keys(s.ends))
	for sender := range senders {
		group.Go(func() {
			for i := sender; i < mostOffered && ctx.Err() == nil; i += senders {
				m := message{
					From: "peer@peer.test", To: []string{recipients[i%len(recipients)]}, Subject: fmt.Sprintf("%s %d", label, i),
				}
				for !s.offer(m) {
					time.Sleep(200 * time.Millisecond)
				}
			}
		})
	}
	return &group
}

// offer tries once. It goes on when the stream is to stop: a message that was
// begun is brought to its end.
func (s *stream) offer(m message) (done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), oneAnswer)
	defer cancel()
	began := time.Now()
	a, err := send(ctx, s.address, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest = max(s.slowest, time.Since(began))
	last := a.Mail
	if len(a.Recipients) > 0 {
		last = a.Recipients[0]
	}
	if a.Data.Code != 0 {
		last = a.Data
	}
	switch {
	case err != nil:
		s.unknown[m.Subject] = s.unknown[m.Subject] || a.AtData
		s.deferred[fmt.Sprintf("no answer: %v", err)]++
		return false
	case last.Code == 250:
		s.accepted[m.Subject] = m.To[0]
		return true
	case last.Code/100 == 4:
		s.deferred[last.String()]++
		return false
	default:
		s.refused = append(s.refused, fmt.Sprintf("%s: %s", m.To[0], last))
		return true
	}
}

func (s *stream) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.accepted)
}

// awaitMore waits until so many more messages have been accepted.
func (s *stream) awaitMore(t *testing.T, n int, when string) {
	t.Helper()
	enough := s.count() + n
	await(t, fmt.Sprintf("%d more messages %s", n, when), func() error {
		if now := s.count(); now < enough {
			return fmt.Errorf("%d accepted, want %d", now, enough)
		}
		return nil
	})
}

// TestEximSurvivesSQLNode: while mail comes in steadily, the SQL node that Exim
// asks first dies and comes back, or falls silent and wakes up. No message is
// lost, none goes astray and none comes back for it.
func TestEximSurvivesSQLNode(t *testing.T) {
	c := clustertest.Exclusive(t)
	m := start(t, c, "exim_survives")
	const ours = "@calmail.example"
	rows := []row{{address: ours, kind: "domain", greylist: true}}
	where := map[string]ends{}
	for i := range 12 {
		local, backend := fmt.Sprintf("user%d", i), fmt.Sprintf("cyrus%d.test", i%3+1)
		rows = append(rows, row{address: local + ours, backend: backend, greylist: i%4 != 0},
			row{address: "alias" + local + ours, kind: "alias", targets: local + ours, greylist: i%4 != 0})
		where[local+ours] = ends{backend + " " + local + ours}
		where["alias"+local+ours] = where[local+ours]
	}
	rows = append(rows,
		row{address: "list" + ours, kind: "list", targets: "user1" + ours + ",user2" + ours + ",me@outside.example", greylist: true},
		row{address: "copied" + ours, backend: "cyrus1.test", targets: "me@outside.example", keepCopy: true, greylist: true})
	where["list"+ours] = ends{"cyrus2.test user1" + ours, "cyrus3.test user2" + ours, "outside.test me@outside.example"}
	where["copied"+ours] = ends{"cyrus1.test copied" + ours, "outside.test me@outside.example"}
	m.insert(rows...)

	// Every triplet waits out its delay beforehand, so that from here on a message
	// is deferred for the database's sake or not at all. Each still is a CALL that
	// writes.
	for _, seconds := range []int{0, 400} {
		m.ahead(seconds)
		for _, to := range slices.Sorted(maps.Keys(where)) {
			_, err := send(t.Context(), m.address(), message{From: "peer@peer.test", To: []string{to}, Subject: "before"})
			assert.NilError(t, err)
		}
	}
	m.arrived(t, nil, 0)

	docker, err := engine.Connect(t.Context())
	assert.NilError(t, err)
	t.Cleanup(func() { _ = docker.Close() })
	node := c.Topology().ByRole(topology.SQL)[0]
	container := nodeContainer(t, docker, c, node)
	// Also when a step fails, the cluster is handed on whole.
	mend := func(t *testing.T) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), wholeAgain)
		defer cancel()
		_, _ = docker.ContainerUnpause(ctx, container, client.ContainerUnpauseOptions{}) // an error where it is not paused
		assert.NilError(t, c.StartNode(ctx, node.ID))
		_, err := c.AwaitUp(ctx, node.ID)
		assert.NilError(t, err)
		_, err = c.AwaitRedundant(ctx, node.ID)
		assert.NilError(t, err)
	}
	t.Cleanup(func() { mend(t) })

	for _, fault := range []struct {
		name   string
		inject func(ctx context.Context) error
		during int // messages that are accepted while it lasts
	}{
		{"killed", func(ctx context.Context) error { return c.Kill(ctx, node.ID) }, 60},
		// Each session waits for the silent node before it turns to the other.
		{"paused", func(ctx context.Context) error {
			_, err := docker.ContainerPause(ctx, container, client.ContainerPauseOptions{})
			return err
		}, 8},
	} {
		t.Run(fault.name, func(t *testing.T) {
			before, err := taken(t.Context(), m.Container)
			assert.NilError(t, err)
			s := &stream{
				address: m.address(), ends: where,
				accepted: map[string]string{}, unknown: map[string]bool{}, deferred: map[string]int{},
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			group := s.run(ctx, fault.name)
			defer group.Wait()
			defer stop()
			s.awaitMore(t, 40, "before the fault")
			began := s.count()
			assert.NilError(t, fault.inject(t.Context()))
			s.awaitMore(t, fault.during, "while the node is "+fault.name)
			during := s.count() - began
			mend(t)
			s.awaitMore(t, 40, "after it is back")
			stop()
			group.Wait()
			m.check(t, s, before)
			t.Logf("%s: %d messages accepted, %d of them during the fault; slowest try %v; put off: %v",
				fault.name, len(s.accepted), during, s.slowest.Round(time.Millisecond), s.deferred)
		})
	}
}

// nodeContainer returns the id of a node's container.
func nodeContainer(t *testing.T, docker *client.Client, c *cluster.Cluster, n topology.Node) string {
	t.Helper()
	list, err := docker.ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: engine.Owned(c.RunID()).Add("label", engine.LabelNode+"="+n.Name),
	})
	assert.NilError(t, err)
	assert.Equal(t, len(list.Items), 1)
	return list.Items[0].ID
}

// check compares what was accepted with what has arrived, once Exim has tried
// again whatever it put off.
func (m *mta) check(t *testing.T, s *stream, before []delivery) {
	t.Helper()
	if len(s.refused) > 0 {
		t.Errorf("%d messages were refused: %v", len(s.refused), s.refused)
	}
	m.Run(t, "exim4", "-qff")
	arrived := map[string][]string{} // places by subject
	total := 0
	for _, d := range m.arrived(t, before, len(s.accepted)) {
		arrived[d.Subject] = append(arrived[d.Subject], d.place())
		total++
	}
	for subject, to := range s.accepted {
		got, want := slices.Sorted(slices.Values(arrived[subject])), slices.Sorted(slices.Values(s.ends[to]))
		delete(arrived, subject)
		if s.unknown[subject] { // a try whose answer was lost may have been accepted as well
			got = slices.Compact(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q for %s arrived at %q, want %q", subject, to, got, want)
		}
	}
	for subject, places := range arrived { // a bounce, or what nobody sent
		t.Errorf("%q arrived at %q, but was not accepted", subject, places)
	}
	log := m.Run(t, "cat", "/var/log/exim4/mainlog")
	t.Logf("%d deliveries; %d times a delivery was put off, %d times greylisting did not answer", total,
		strings.Count(log, " == "), strings.Count(log, "greylist did not answer"))
}
