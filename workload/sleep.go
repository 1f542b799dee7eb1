package workload

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"
)

// Sleeper is how a replay waits for the time of an op.
type Sleeper interface {
	// Sleep waits for d or until ctx ends, and says whether it was d. It never
	// returns true before d is over.
	Sleep(ctx context.Context, d time.Duration) bool
}

// timers sleeps by Go's timers, which a testing/synctest bubble holds. On an
// idle Linux machine they fire up to 1 ms late, as Go's epoll_wait counts in
// whole milliseconds (runtime/netpoll_epoll.go).
type timers struct{}

func (timers) Sleep(ctx context.Context, d time.Duration) bool { return sleep(ctx, d) }

func (r *Replay) sleeper() Sleeper {
	if r.Sleeper == nil {
		return timers{}
	}
	return r.Sleeper
}

// sleep waits for d or until ctx ends, and says whether it was d.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// PreciseSleeper sleeps to within some tens of microseconds where the kernel
// has an alarm for that (Linux's timerfd), and by Go's timers elsewhere. Spinning
// would be as precise at the cost of processor time that the system under test
// may need; the alarm costs a few system calls each time it goes off.
//
// All who sleep wait for one alarm, which is set to the first of their moments.
// It must be closed.
type PreciseSleeper struct {
	alarm alarm         // nil where there is none
	done  chan struct{} // closed when nobody waits for the alarm any more
	spare sync.Pool     // of *sleeper that nobody refers to

	mu       sync.Mutex
	sleepers sleepers
	set      time.Time // what the alarm is set to; zero for nothing
	broken   bool      // the alarm is closed or failed
}

// alarm is a clock that wakes one goroutine.
type alarm interface {
	// wake has the alarm go off after d, which is above 0, and forget what it was
	// set to before. It may be called at any time.
	wake(d time.Duration) error
	// run calls due at once and then each time the alarm has gone off, possibly
	// more often, until the alarm is closed or fails.
	run(due func())
	close() error
}

// NewPreciseSleeper starts a goroutine that ends with Close.
func NewPreciseSleeper() (*PreciseSleeper, error) {
	a, err := newAlarm()
	if err != nil {
		return nil, fmt.Errorf("make an alarm to sleep by: %w", err)
	}
	return newPreciseSleeper(a), nil
}

func newPreciseSleeper(a alarm) *PreciseSleeper {
	p := &PreciseSleeper{alarm: a, done: make(chan struct{})}
	if a == nil {
		p.broken = true
		close(p.done)
	} else {
		go func() {
			defer close(p.done)
			a.run(p.due)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.broken = true
		}()
	}
	return p
}

// Close ends the goroutine and waits for it. Who sleeps goes on by Go's timers.
func (p *PreciseSleeper) Close() error {
	if p.alarm == nil {
		return nil
	}
	err := p.alarm.close()
	<-p.done
	return err
}

// sleeper is one who sleeps.
type sleeper struct {
	until time.Time
	woken chan struct{} // has room for the one message that is sent
	index int           // in the heap; -1 when it is not in there
}

// Sleep implements Sleeper. It may be called from many goroutines.
func (p *PreciseSleeper) Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	s, _ := p.spare.Get().(*sleeper)
	if s == nil {
		s = &sleeper{woken: make(chan struct{}, 1)}
	}
	s.until = time.Now().Add(d)
	if !p.join(s) {
		return sleep(ctx, d)
	}
	select {
	case <-s.woken:
		p.spare.Put(s)
		return true
	case <-p.done:
		return sleep(ctx, time.Until(s.until))
	case <-ctx.Done():
		if !p.leave(s) {
			<-s.woken // sent before leave could be called
		}
		p.spare.Put(s)
		return false
	}
}

// join says whether s will be woken.
func (p *PreciseSleeper) join(s *sleeper) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return false
	}
	heap.Push(&p.sleepers, s)
	if s.index == 0 {
		p.reset(time.Now())
	}
	return !p.broken
}

// leave says whether s was still asleep.
func (p *PreciseSleeper) leave(s *sleeper) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.index < 0 {
		return false
	}
	heap.Remove(&p.sleepers, s.index)
	return true // an alarm for nobody does no harm
}

// reset sets the alarm to the first moment. The caller holds mu.
func (p *PreciseSleeper) reset(now time.Time) {
	if len(p.sleepers) == 0 || p.sleepers[0].until.Equal(p.set) {
		return
	}
	p.set = p.sleepers[0].until
	if err := p.alarm.wake(max(1, p.set.Sub(now))); err != nil {
		p.broken = true
		_ = p.alarm.close() // it has failed already; this ends its run
	}
}

// due wakes whose moment has come.
func (p *PreciseSleeper) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for len(p.sleepers) > 0 && !p.sleepers[0].until.After(now) {
		heap.Pop(&p.sleepers).(*sleeper).woken <- struct{}{}
	}
	p.set = time.Time{}
	p.reset(now)
}

// sleepers is a heap, the first to be woken first.
type sleepers []*sleeper

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].until.Before(s[j].until) }
func (s sleepers) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

func (s *sleepers) Push(x any) {
	one := x.(*sleeper)
	one.index = len(*s)
	*s = append(*s, one)
}

func (s *sleepers) Pop() any {
	last := len(*s) - 1
	one := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	one.index = -1
	return one
}
