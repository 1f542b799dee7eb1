package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// fakeNodes is a scripted cluster in a synctest bubble: a killed node is seen
// down after detect, a started one up after start and redundant after copying.
type fakeNodes struct {
	detect, start, copying time.Duration
	slow                   time.Duration      // an act's; it happens even if nobody waits for its end
	fail                   map[string][]error // errors of the next calls, by method; nil succeeds
	stale                  map[string]bool    // methods whose evidence is an hour old

	// hook is called before ("kill") and after ("kill done") each call.
	hook func(point string)

	layout topology.Topology

	mu    sync.Mutex
	since map[topology.ID]time.Time // of the last change of each node
	down  map[topology.ID]bool
	calls []string // acts that changed something, in order
}

func newFakeNodes() *fakeNodes {
	return &fakeNodes{
		detect: 10 * time.Millisecond, start: 8 * time.Second, copying: 4 * time.Second,
		fail: map[string][]error{}, stale: map[string]bool{}, hook: func(string) {},
		since: map[topology.ID]time.Time{}, down: map[topology.ID]bool{},
	}
}

func (f *fakeNodes) act(ctx context.Context, name string, n topology.ID, down bool) error {
	f.hook(name)
	defer f.hook(name + " done")
	done := make(chan error, 1)
	go func() {
		time.Sleep(f.slow)
		done <- f.set(name, n, down)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeNodes) set(name string, n topology.ID, down bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next := f.fail[name]; len(next) > 0 {
		f.fail[name] = next[1:]
		if next[0] != nil {
			return next[0]
		}
	}
	if f.down[n] != down {
		f.down[n], f.since[n] = down, time.Now()
		f.calls = append(f.calls, fmt.Sprintf("%s %d", name, n))
	}
	return nil
}

func (f *fakeNodes) await(ctx context.Context, name string, n topology.ID, down bool, after time.Duration) (reference.Evidence, error) {
	f.hook(name)
	defer f.hook(name + " done")
	f.mu.Lock()
	if next := f.fail[name]; len(next) > 0 {
		f.fail[name] = next[1:]
		if next[0] != nil {
			f.mu.Unlock()
			return reference.Evidence{}, next[0]
		}
	}
	due, changed := f.since[n]
	never := f.down[n] != down
	f.mu.Unlock()
	if never {
		<-ctx.Done()
		return reference.Evidence{}, ctx.Err()
	}
	if changed {
		if err := sleepUntil(ctx, due.Add(after)); err != nil {
			return reference.Evidence{}, err
		}
	}
	evidence := reference.Evidence{At: time.Now(), Source: "management event", Detail: name}
	if f.stale[name] {
		evidence.At = evidence.At.Add(-time.Hour)
	}
	return evidence, nil
}

func (f *fakeNodes) Kill(ctx context.Context, n topology.ID) error {
	return f.act(ctx, "kill", n, true)
}

func (f *fakeNodes) StartNode(ctx context.Context, n topology.ID) error {
	return f.act(ctx, "start", n, false)
}

func (f *fakeNodes) AwaitDown(ctx context.Context, n topology.ID) (reference.Evidence, error) {
	return f.await(ctx, "down", n, true, f.detect)
}

func (f *fakeNodes) AwaitUp(ctx context.Context, n topology.ID) (reference.Evidence, error) {
	return f.await(ctx, "up", n, false, f.start)
}

func (f *fakeNodes) AwaitRedundant(ctx context.Context, n topology.ID) (reference.Evidence, error) {
	return f.await(ctx, "redundant", n, false, f.start+f.copying)
}

func (f *fakeNodes) Topology() topology.Topology { return f.layout }

// anyDown says whether a node is dead.
func (f *fakeNodes) anyDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, down := range f.down {
		if down {
			return true
		}
	}
	return false
}

// hooked puts a hook around a journal.
type hooked struct {
	StepJournal
	hook func(point string)
}

func (h hooked) Append(p Planned, step string) error {
	h.hook("journal " + step)
	err := h.StepJournal.Append(p, step)
	h.hook("journal " + step + " done")
	return err
}

// brokenJournal refuses one step and everything after it.
type brokenJournal struct {
	StepJournal
	step   string
	broken bool
}

func (b *brokenJournal) Append(p Planned, step string) error {
	if b.broken = b.broken || step == b.step; b.broken {
		return errNoSpace
	}
	return b.StepJournal.Append(p, step)
}

var errNoSpace = errors.New("no space left on device")

// events is a sink that keeps what it is told.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) Event(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

// lines renders the events for comparison.
func (e *events) lines() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for _, ev := range e.list {
		line := fmt.Sprintf("%s %s %s", ev.At, ev.Fault, ev.Name)
		if what := ev.Fields["what"]; what != "" {
			line += " " + what
		}
		lines = append(lines, line)
	}
	return lines
}

// cluster is the smallest one in which nodes can be killed: mgm1, data1 (2),
// data2 (3), sql1 (4), sql2 (5).
func cluster(t *testing.T) topology.Topology {
	t.Helper()
	return shape(t, 2, 2, "mta1", "webmail1")
}

func shape(t *testing.T, data, replicas int, hosts ...string) topology.Topology {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: data, Replicas: replicas, SQLHosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// twoKills kills a data node at 1 min and a SQL node at 2 min, 30 s each.
func twoKills(t *testing.T) Plan {
	t.Helper()
	plan, err := NewPlan(1, []Spec{
		{Kind: Kill, Target: "data1", At: time.Minute, Hold: 30 * time.Second},
		{Kind: Kill, Target: "sql1", At: 2 * time.Minute, Hold: 30 * time.Second},
	}, Ground{Topology: cluster(t), Duration: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// journalIn makes a journal in a fresh folder.
func journalIn(t *testing.T) (*Journal, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j, err := CreateJournal(path, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, path
}
