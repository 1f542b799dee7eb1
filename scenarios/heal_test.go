package scenarios

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/topology"
)

// deaths is a cluster some of whose nodes are dead, or die later.
type deaths struct {
	layout  topology.Topology
	began   time.Time
	dead    map[string]time.Duration // since when
	again   string                   // ends again when it is started
	started []string
	mu      sync.Mutex // of dead and started
}

func (d *deaths) Topology() topology.Topology { return d.layout }

func (d *deaths) Runs(_ context.Context, id topology.ID) (bool, error) {
	n, _ := d.layout.ByID(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	since, dead := d.dead[n.Name]
	return !dead || time.Since(d.began) < since, nil
}

func (d *deaths) StartNode(_ context.Context, id topology.ID) error {
	n, _ := d.layout.ByID(id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.started = append(d.started, n.Name)
	if n.Name == d.again {
		return nil
	}
	delete(d.dead, n.Name)
	return nil
}

// awaited is a fault whose nodes take part again after a while.
type awaited struct {
	chaos.Fault
	after time.Duration
}

func (a awaited) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	select {
	case <-ctx.Done():
		return reference.Evidence{}, ctx.Err()
	case <-time.After(a.after):
		return reference.Evidence{Source: "test"}, nil
	}
}

// TestHealStartsWhatDiedBesideTheFault: a node that no journal tells of would be
// waited for in vain.
func TestHealStartsWhatDiedBesideTheFault(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		dead     map[string]time.Duration
		again    string
		want     []string
	}{
		{"nothing else died", nil, "", nil},
		{"the survivor was dead already", map[string]time.Duration{"data1": 0}, "", []string{"data1"}},
		{"or dies a moment later", map[string]time.Duration{"data1": 1500 * time.Millisecond}, "", []string{"data1"}},
		{"one that ends again is started once", map[string]time.Duration{"sql2": 0}, "sql2", []string{"sql2"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &deaths{layout: layout, began: time.Now(), dead: row.dead, again: row.again}
			fault := revived{awaited{after: 10 * time.Second}, &reviver{target: d, say: func(string) {}}}
			if e, err := fault.AwaitRecovered(t.Context()); err != nil || e.Source != "test" {
				t.Errorf("%s: %v, %v", row.sentence, e, err)
			}
			if !slices.Equal(d.started, row.want) {
				t.Errorf("%s: started %q, want %q", row.sentence, d.started, row.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		fault := revived{awaited{after: time.Hour}, &reviver{target: &deaths{layout: layout}, say: func(string) {}}}
		if _, err := fault.AwaitRecovered(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait has an end: %v", err)
		}
	})
}

// counted is a cluster that counts a dead node in for a moment.
type counted struct {
	deaths
	until time.Duration // since it began
}

func (c *counted) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	for {
		if runs, _ := c.Runs(ctx, id); runs || time.Since(c.began) < c.until {
			return reference.Evidence{Source: "test"}, nil
		}
		select {
		case <-ctx.Done():
			return reference.Evidence{}, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *counted) AwaitDown(context.Context, topology.ID) (reference.Evidence, error) {
	return reference.Evidence{}, errors.New("nobody waits for a failure")
}

func (c *counted) AwaitRedundant(context.Context, topology.ID) (reference.Evidence, error) {
	return reference.Evidence{}, errors.New("nobody waits for redundancy")
}

func (c *counted) Status(ctx context.Context) []cluster.NodeState {
	var states []cluster.NodeState
	for _, n := range c.layout.Nodes {
		s := cluster.NodeState{Node: n, Container: "running"}
		if runs, _ := c.Runs(ctx, n.ID); !runs {
			s.Container = "exited"
		}
		states = append(states, s)
	}
	return states
}

func (c *counted) Restore(context.Context) error { return nil }

func (c *counted) Kill(context.Context, topology.ID) error {
	return errors.New("nothing lives that has failed")
}

// TestHealStartsWhatIsCountedInThoughDead: the management server learns of a death
// a moment later than the engine.
func TestHealStartsWhatIsCountedInThoughDead(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		dead     map[string]time.Duration
		until    time.Duration
		want     []string
		said     []string
	}{
		{"nothing is dead", nil, 0, nil, []string{"run r: kept, and every node runs"}},
		{"a dead node is counted out", map[string]time.Duration{"sql2": 0}, 0, []string{"sql2"}, []string{"run r: node sql2 was exited; it takes part again"}},
		{"or still counted in", map[string]time.Duration{"sql2": 0}, time.Second, []string{"sql2"}, []string{"run r: node sql2 was exited; it takes part again"}},
		{"one that dies while another is awaited is started, too", map[string]time.Duration{"sql2": 0, "data1": lookTime}, 0, []string{"sql2", "data1"},
			[]string{"run r: node data1 was dead, too; started", "run r: node sql2 was exited; it takes part again"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &counted{deaths: deaths{layout: layout, began: time.Now(), dead: row.dead}, until: row.until}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var said []string
			if err := restore(ctx, c, ofRun("r", func(line string) { said = append(said, line) })); err != nil {
				t.Errorf("%s: %v", row.sentence, err)
			}
			if !slices.Equal(c.started, row.want) {
				t.Errorf("%s: started %q, want %q", row.sentence, c.started, row.want)
			}
			if !slices.Equal(said, row.said) {
				t.Errorf("%s: said %q, want %q", row.sentence, said, row.said)
			}
		})
	}
}
