package scenarios

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// deaths is a cluster some of whose nodes are dead, or die later.
type deaths struct {
	layout  topology.Topology
	began   time.Time
	dead    map[string]time.Duration // since when
	again   string                   // ends again when it is started
	started []string
}

func (d *deaths) Topology() topology.Topology { return d.layout }

func (d *deaths) Runs(_ context.Context, id topology.ID) (bool, error) {
	n, _ := d.layout.ByID(id)
	since, dead := d.dead[n.Name]
	return !dead || time.Since(d.began) < since, nil
}

func (d *deaths) StartNode(_ context.Context, id topology.ID) error {
	n, _ := d.layout.ByID(id)
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
