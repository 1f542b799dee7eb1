package ndb

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/topology"
)

// Types of management events that say that a node went or came
// (storage/ndb/include/mgmapi/ndb_logevent.h).
const (
	eventConnected      = 0
	eventDisconnected   = 1
	eventStartCompleted = 11
	eventNodeFailure    = 28
)

// sighting is the last thing that the cluster said about a node.
type sighting struct {
	up       bool
	evidence reference.Evidence
}

// watch knows what the cluster says of its nodes, from the management server's
// events. While that server is away it learns nothing: those who wait poll the
// node status as well.
type watch struct {
	address  func() string // of the management server
	topology topology.Topology

	mu      sync.Mutex
	seen    map[topology.ID]sighting
	changed chan struct{} // closed and replaced when seen changes

	watchers int                      // how many follow just now
	events   []reference.ClusterEvent // of the last rememberFor, in order
	dropped  uint64                   // events that were before events[0]
	heard    chan struct{}            // closed and replaced at every event
}

func newWatch(address func() string, t topology.Topology) *watch {
	return &watch{address: address, topology: t, seen: map[topology.ID]sighting{}, changed: make(chan struct{}), heard: make(chan struct{})}
}

// follow listens to the management server until ctx ends, and hands every event
// to sink.
func (w *watch) follow(ctx context.Context, sink func(reference.ClusterEvent)) error {
	w.enter(1)
	defer w.enter(-1)
	gap := func(err error) {
		sink(reference.ClusterEvent{At: time.Now(), Name: "EVENTS_LOST", Fields: map[string]string{"error": err.Error()}})
	}
	return mgm.Follow(ctx, w.address(), mgm.Options{}, mgm.DefaultFilter(), func(e mgm.Event) {
		w.take(e)
		told := reference.ClusterEvent{At: e.At, Name: e.Name, Node: e.Node(), Source: e.Source, Fields: e.Fields}
		w.remember(told)
		sink(told)
	}, gap)
}

// says returns whether an event means that a node of that role went or came. A
// data node connects long before it is started, and a lost connection is not yet
// the others' decision that it failed.
func says(role topology.Role, eventType int) (up, relevant bool) {
	switch eventType {
	case eventStartCompleted:
		return true, role == topology.Data
	case eventConnected:
		return true, role != topology.Data
	case eventNodeFailure:
		return false, true
	case eventDisconnected:
		return false, role != topology.Data
	default:
		return false, false
	}
}

// take remembers what an event says of a node. The same news comes from every
// data node: the first one counts.
func (w *watch) take(e mgm.Event) {
	n, known := w.topology.ByID(e.Node())
	up, relevant := says(n.Role, e.Type)
	if !known || !relevant {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.seen[n.ID]; ok && last.up == up {
		return
	}
	w.seen[n.ID] = sighting{up: up, evidence: reference.Evidence{At: e.At, Source: "management event", Detail: e.Name}}
	close(w.changed)
	w.changed = make(chan struct{})
}

// Bounds of what is remembered, in time and in number: a cluster tells of some
// ten events a second while a node starts.
const (
	rememberFor = time.Minute
	rememberMax = 10_000
)

// remember keeps an event for those who wait for one. Where several watch, it is
// kept once for each of them.
func (w *watch) remember(e reference.ClusterEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	stale := max(0, len(w.events)-rememberMax)
	for e.At.Sub(w.events[stale].At) > rememberFor {
		stale++ // ends at e itself
	}
	w.events = w.events[stale:] // the array is left when append has filled it
	w.dropped += uint64(stale)
	close(w.heard)
	w.heard = make(chan struct{})
}

// recall returns the events from number next on that are remembered, the number
// of the event after them, and a channel that is closed when that one comes.
func (w *watch) recall(next uint64) (events []reference.ClusterEvent, following uint64, heard <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	following = w.dropped + uint64(len(w.events))
	from := max(next, w.dropped) - w.dropped
	return slices.Clone(w.events[from:]), following, w.heard
}

// enter counts those who follow.
func (w *watch) enter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watchers += n
}

// watched says whether anybody follows, so that events are remembered.
func (w *watch) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.watchers > 0
}

// last returns what was said of a node, and a channel that is closed when
// something new is said of any.
func (w *watch) last(id topology.ID) (sighting, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[id], w.changed
}

// forget drops what was said of a node, so that only news from now on counts.
func (w *watch) forget(id topology.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.seen, id)
}

// statusTimeout bounds one question for the node status: the management server
// asks every data node in turn, and a frozen one makes it wait without end.
const statusTimeout = 3 * time.Second

// NodeStatus asks the management server for the state of all nodes, or of those of
// the given types, for three seconds at the most.
func (v *View) NodeStatus(ctx context.Context, types ...mgm.NodeType) (map[topology.ID]mgm.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	session, err := mgm.Dial(ctx, v.management(), mgm.Options{})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	return session.Status(ctx, types...)
}
