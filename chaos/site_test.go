package chaos

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// revenant is a node that was counted as failed and is let go at some moment.
type revenant struct {
	Target
	began    time.Time
	ends, up time.Duration // after that moment; 0 for never
	leaves   time.Duration // it is up until then
}

func (r revenant) Runs(context.Context, topology.ID) (bool, error) {
	return r.ends == 0 || time.Since(r.began) < r.ends, nil
}

func (r revenant) AwaitUp(ctx context.Context, _ topology.ID) (reference.Evidence, error) {
	for {
		at := time.Since(r.began)
		if r.up > 0 && at >= r.up && (r.leaves == 0 || at < r.leaves) {
			return reference.Evidence{At: time.Now()}, nil
		}
		if err := sleepUntil(ctx, time.Now().Add(tick)); err != nil {
			return reference.Evidence{}, err
		}
	}
}

// TestWhatBecomesOfANodeThatIsLetGo: a node is killed only where nothing else has
// shown within settleTime.
func TestWhatBecomesOfANodeThatIsLetGo(t *testing.T) {
	const s = time.Second
	for _, row := range []struct {
		sentence         string
		ends, up, leaves time.Duration
		settled          bool
		within           time.Duration
	}{
		{"a node that has ended needs no killing", time.Nanosecond, 0, 0, true, tick},
		{"one that ends when it hears from the others neither", 2 * s, 0, 0, true, 4 * s},
		{"one that takes part again is left alone", 0, 2 * s, 0, true, 6 * s},
		{"one that seems to take part and then ends is started", 3 * s, 1 * s, 3 * s, true, 5 * s},
		{"one that comes and goes is killed", 0, 1 * s, 3 * s, false, settleTime},
		{"one that hangs is killed", 0, 0, 0, false, settleTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			time.Sleep(time.Millisecond)
			r := revenant{began: began, ends: row.ends, up: row.up, leaves: row.leaves}
			settled := Settled(t.Context(), r, topology.Node{ID: 2, Name: "data1", Role: topology.Data})
			if took := time.Since(began) - time.Millisecond; settled != row.settled || took > row.within {
				t.Errorf("%s: settled: %t after %s, want %t within %s", row.sentence, settled, took, row.settled, row.within)
			}
		})
	}
}
