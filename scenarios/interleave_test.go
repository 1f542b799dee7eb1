package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/results/gate"
)

// TestTurns has two sides take their segments: in the order A B, B A, one at a time,
// each at its whole length, and not before both can.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pairs, length = 3, 20 * time.Second
		var told []gate.Pair
		all := newTurns(t.Context(), pairs, length, func(p gate.Pair) error { told = append(told, p); return nil })
		var (
			mu     sync.Mutex
			order  []string
			left   [2]time.Duration // when each side was through
			start  = time.Now()
			sides  sync.WaitGroup
			loaded = [2]time.Duration{time.Second, 40 * time.Second} // the candidate takes longer
			anchor [2]time.Time
		)
		for side, name := range []string{"A", "B"} {
			sides.Go(func() {
				time.Sleep(loaded[side])
				anchor[side] = time.Now()
				since := func() time.Duration { return time.Since(anchor[side]) }
				turn := &turn{all, side}
				for k := range pairs {
					begin, err := turn.take(t.Context(), k, since)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(begin - since())
					mu.Lock()
					order = append(order, fmt.Sprintf("%s %s", name, time.Since(start)))
					mu.Unlock()
					time.Sleep(length / 2) // its last session comes early
					turn.leave(k)
				}
				left[side] = time.Since(start)
				if turn.end() != time.Duration(turn.segment(pairs-1).ToUS)*time.Microsecond {
					t.Errorf("side %s ended at %s", name, turn.end())
				}
			})
		}
		sides.Wait()
		for side := range 2 {
			if turn := (&turn{all, side}); !turn.through() || all.failure() != nil {
				t.Errorf("side %d is not through, or failed: %v", side, all.failure())
			} else if _, err := turn.take(t.Context(), pairs, func() time.Duration { return 0 }); err == nil {
				t.Errorf("side %d got a segment more than there are", side)
			}
		}
		// Loaded after 40 s, each begins a second after the one before has had its time.
		if got, want := strings.Join(order, ", "), "A 41s, B 1m2s, B 1m23s, A 1m44s, A 2m5s, B 2m26s"; got != want {
			t.Errorf("the order was %s, want %s", got, want)
		}
		if left[0] != left[1] {
			t.Errorf("the sides went on at %s and %s: one would disturb the other's last segment", left[0], left[1])
		}
		if len(told) != pairs {
			t.Fatalf("%d pairs were told of, want %d", len(told), pairs)
		}
		for k, p := range told {
			if p.CandidateFirst != (k == 1) {
				t.Errorf("pair %d: candidate first is %v", k, p.CandidateFirst)
			}
			for side, s := range []gate.Segment{p.Base, p.Candidate} {
				if s.ToUS-s.FromUS != length.Microseconds() {
					t.Errorf("pair %d, side %d: the segment is %+v", k, side, s)
				}
				at := anchor[side].Add(time.Duration(s.FromUS) * time.Microsecond).Sub(start)
				if name := []string{"A", "B"}[side]; !strings.Contains(strings.Join(order, ", "), fmt.Sprintf("%s %s", name, at)) {
					t.Errorf("pair %d, side %s: its clock has it begin at %s, which is none of %v", k, name, at, order)
				}
			}
		}
	})
}

// TestTurnsEnd: whatever ends one side ends the wait of the other.
func TestTurnsEnd(t *testing.T) {
	since := func() time.Duration { return 0 }
	for _, row := range []struct {
		sentence string
		told     error // by what is told of a pair
		cancel   bool  // before the candidate can begin
	}{
		{"a recording that cannot be written", errors.New("the disk is full"), false},
		{"an interrupt", nil, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				all := newTurns(ctx, 2, time.Second, func(gate.Pair) error { return row.told })
				var base, candidate error
				var sides sync.WaitGroup
				perform := func(side int) (err error) {
					turn := &turn{all, side}
					for k := 0; k < 2 && err == nil; k++ {
						if _, err = turn.take(ctx, k, since); err == nil {
							turn.leave(k)
						}
					}
					if err != nil {
						cancel() // as Interleave does
					}
					return err
				}
				sides.Go(func() { base = perform(0) })
				synctest.Wait()
				if row.cancel {
					cancel()
				} else {
					sides.Go(func() { candidate = perform(1) })
				}
				sides.Wait()
				switch {
				case row.cancel && !errors.Is(base, context.Canceled):
					t.Errorf("the base went on: %v", base)
				case !row.cancel && (!errors.Is(candidate, row.told) || !errors.Is(base, context.Canceled)):
					t.Errorf("base %v, candidate %v, want both to end by %v", base, candidate, row.told)
				}
			})
		})
	}
}

func TestLinesOfTwoSidesAreMarked(t *testing.T) {
	var b bytes.Buffer
	p := &prefixed{to: &b, mark: "base: "}
	for _, text := range []string{"load: 5", "00\nrun\n", "\n", "left"} {
		if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if b.String() != "base: load: 500\nbase: run\nbase: \n" {
		t.Errorf("got %q", &b)
	}
}

// TestSidesThatCannotBeCompared are refused before a cluster is started.
func TestSidesThatCannotBeCompared(t *testing.T) {
	plan := func(set ...string) *Plan {
		s, err := Parse("t.yaml", []byte(least), overrides(set...)...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	base := plan()
	for _, row := range []struct{ says, set string }{
		{"", "links=[{node: sql1, delay: 2ms}]"},
		{"", "topology.data_nodes=4"},
		{"seed, population or workload must not differ", "seed=2"},
		{"seed, population or workload must not differ", "workload.speed=2"},
		{"workload.retries must not differ", "workload.retries=none"},
		{"workload.before must not differ", "workload.before=none"},
		{"bounds must not differ", "bounds.in_flight=10"},
		{"fall into some segments", "faults=[{kind: kill, target: sql1, at: 5s}]"},
		{"must be pairs times segment, which is 6m0s", "workload.duration=5m"},
		{"workload.end must be duration", "workload.end=faults"},
	} {
		err := checkSides(base, plan(row.set), base.Scenario.Workload.Duration)
		var sides *SidesError
		if row.says == "" && err != nil || row.says != "" && (!errors.As(err, &sides) || !strings.Contains(err.Error(), row.says)) {
			t.Errorf("%s: got %v, want %q", row.set, err, row.says)
		}
	}
}

// TestWhatEndedTwoSides: the side that failed is told, not the one that it ended, and
// what is left behind always.
func TestWhatEndedTwoSides(t *testing.T) {
	interrupted := &InterruptedError{"while the load ran", context.Canceled}
	full, left := errors.New("the disk is full"), fmt.Errorf("%w: run: mailbench heal", chaos.ErrUnhealed)
	for _, row := range []struct {
		base, candidate error
		is, not         error
	}{
		{full, interrupted, full, interrupted}, {interrupted, full, full, interrupted},
		{interrupted, interrupted, interrupted, full}, {interrupted, left, left, interrupted}, {full, left, left, interrupted}, {full, left, full, interrupted},
	} {
		err := gravest([]error{row.base, row.candidate})
		if !errors.Is(err, row.is) || errors.Is(err, row.not) {
			t.Errorf("%v and %v come to %v", row.base, row.candidate, err)
		}
	}
	if err := gravest([]error{nil, nil}); err != nil {
		t.Error(err)
	}
}
