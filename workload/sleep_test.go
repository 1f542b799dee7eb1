package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// heldAlarm goes off by the clock of a synctest bubble.
type heldAlarm struct {
	timer  *time.Timer
	closed chan struct{}
	close1 sync.Once
	broken error // what wake says
}

func newHeldAlarm() *heldAlarm {
	return &heldAlarm{timer: time.NewTimer(1 << 60), closed: make(chan struct{})}
}

func (a *heldAlarm) wake(d time.Duration) error {
	a.timer.Reset(d)
	return a.broken
}

func (a *heldAlarm) run(due func()) {
	for {
		due()
		select {
		case <-a.timer.C:
		case <-a.closed:
			return
		}
	}
}

func (a *heldAlarm) close() error {
	a.close1.Do(func() { close(a.closed) })
	return nil
}

// TestPreciseSleepersWakeInTheirOrder lets sleepers come, go and give up, and
// holds them to the microsecond, as the clock is held.
func TestPreciseSleepersWakeInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newHeldAlarm()
		p := newPreciseSleeper(a)
		rnd := rand.New(rand.NewPCG(7, 8))
		var asleep sync.WaitGroup
		for range 1000 {
			begin := time.Duration(rnd.IntN(2000)) * time.Microsecond
			d := time.Duration(rnd.IntN(3000)) * time.Microsecond
			patience := time.Duration(500+rnd.IntN(4000)) * time.Microsecond
			asleep.Go(func() {
				time.Sleep(begin)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				began := time.Now()
				slept := p.Sleep(ctx, d)
				took := time.Since(began)
				switch {
				case d != patience && slept != (d < patience): // at once either may come first
					t.Errorf("sleep of %s with patience for %s: %t", d, patience, slept)
				case took != min(d, patience):
					t.Errorf("sleep of %s with patience for %s took %s", d, patience, took)
				}
			})
		}
		asleep.Wait()
		if len(p.sleepers) != 0 {
			t.Errorf("%d sleepers are left", len(p.sleepers))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestPreciseSleeperEnds(t *testing.T) {
	for _, row := range []struct {
		sentence string
		alarm    func() alarm
		close    bool // half a second after the sleep began
		end      bool // the context, at the same time
		want     bool
		took     time.Duration
	}{
		{"by its alarm", func() alarm { return newHeldAlarm() }, false, false, true, time.Second},
		{"with its context", func() alarm { return newHeldAlarm() }, false, true, false, time.Second / 2},
		{"by a timer when it is closed meanwhile", func() alarm { return newHeldAlarm() }, true, false, true, time.Second},
		{"by a timer where the alarm fails", func() alarm { a := newHeldAlarm(); a.broken = errors.New("no"); return a }, false, false, true, time.Second},
		{"by a timer where there is no alarm", func() alarm { return nil }, false, false, true, time.Second},
		{"with its context where there is no alarm", func() alarm { return nil }, false, true, false, time.Second / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPreciseSleeper(row.alarm())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var others sync.WaitGroup
			others.Go(func() {
				time.Sleep(time.Second / 2)
				if row.close {
					if err := p.Close(); err != nil {
						t.Errorf("%s: %v", row.sentence, err)
					}
				}
				if row.end {
					cancel()
				}
			})
			for range 3 { // when it has ended once it still sleeps
				began := time.Now()
				slept := p.Sleep(ctx, time.Second)
				if took := time.Since(began); slept != row.want || took != row.took && !(row.end && took == 0) {
					t.Errorf("%s: %t after %s, want %t after %s", row.sentence, slept, took, row.want, row.took)
				}
			}
			others.Wait()
			if !row.close {
				if err := p.Close(); err != nil {
					t.Errorf("%s: %v", row.sentence, err)
				}
			}
		})
	}
}

// TestKernelsAlarmIsNeverEarly uses the alarm that runs use. How late it is
// depends on the machine: BenchmarkDispatchLag in package results tells.
func TestKernelsAlarmIsNeverEarly(t *testing.T) {
	p, err := NewPreciseSleeper()
	if err != nil {
		t.Fatal(err)
	}
	var asleep sync.WaitGroup
	for i := range 200 {
		asleep.Go(func() {
			for k := range 20 {
				d := time.Duration(1+(i*31+k*97)%3000) * time.Microsecond
				began := time.Now()
				if slept := p.Sleep(t.Context(), d); !slept || time.Since(began) < d {
					t.Errorf("sleep of %s: %t after %s", d, slept, time.Since(began))
				}
			}
		})
	}
	asleep.Wait()
	if !p.Sleep(t.Context(), 0) || !p.Sleep(t.Context(), -time.Second) {
		t.Error("a moment that has passed is not waited for")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p.Sleep(ended, 0) || p.Sleep(ended, time.Hour) {
		t.Error("a context that has ended lets nobody sleep")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if !p.Sleep(t.Context(), time.Millisecond) {
		t.Error("a sleeper that was closed does not sleep")
	}
}
