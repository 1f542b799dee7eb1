package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// minStretch bounds how often a replay stops.
const minStretch = time.Second

// part is stretch k, from 0, of a window that is divided into stretches of each,
// the last of which may be shorter, and how many there are. Without each it is
// the whole.
func (w Window) part(each time.Duration, k int) (part Window, of int) {
	if each == 0 {
		return w, 1
	}
	begun := time.Duration(k) * each
	return Window{w.From + begun, min(each, w.Duration-begun)}, int((w.Duration-1)/each) + 1
}

// performance is a replay under way.
type performance struct {
	*Replay
	machines map[Kind][]*machine
	slots    chan struct{} // one is taken by each session under way
	pacer    pacer
	first    int64 // sessions of the trace that were offered and settled
}

// stretches performs one after another, or the whole window as one. why is nil
// if nothing was left.
func (p *performance) stretches(ctx context.Context) (why error) {
	for k, of := 0, 1; k < of; k++ {
		var part Window
		part, of = p.Trace.Window().part(p.Stretch, k)
		begin, err := p.turn(ctx, k, of)
		if err != nil {
			return err
		}
		err = p.stretch(ctx, part, begin)
		if p.Rest != nil {
			p.Rest(k)
		}
		if errors.Is(err, errOverrun) && p.Stretch > 0 {
			err = fmt.Errorf("stretch %d of %d: %w", k+1, of, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// turn waits until a stretch may begin.
func (p *performance) turn(ctx context.Context, k, of int) (begin time.Duration, err error) {
	if p.Stretch == 0 {
		return p.Start, nil
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	begin, err = p.Turn(ctx, k)
	if err == nil {
		return begin, nil
	}
	err = fmt.Errorf("stretch %d of %d did not begin: %w", k+1, of, err)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return 0, err
}

// stretch performs part of the window, whose first microsecond is due at begin,
// and returns when its sessions are over. why is why some were not started.
func (p *performance) stretch(ctx context.Context, part Window, begin time.Duration) (why error) {
	end := part.From + part.Duration
	intended := func(at time.Duration) time.Duration { return begin + (at-part.From)/time.Duration(p.Speed) }
	p.pacer.due, p.pacer.until = intended, end
	// Sessions outlive ctx until the drain is over.
	working, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var sessions sync.WaitGroup
	// What is still held back a drain after the end is not started: it would be
	// replayed into a cluster that has long recovered.
	pacing, stop := context.WithDeadlineCause(ctx, p.Anchor.Add(intended(end)+p.Drain), errOverrun)
	defer stop()
	// Who has performed a session waits for another, because a new goroutine
	// must first grow its stack to what a driver needs.
	next := make(chan Item)
	work := func(item Item) {
		for more := true; more; item, more = <-next {
			p.perform(working, p.machines, item, intended(item.At))
			<-p.slots
			p.counters.ended.Add(1)
		}
	}
	heldBack := false // a session whose time came
	for {
		item, ok := p.pacer.next(pacing)
		if !ok {
			break
		}
		p.counters.offered.Add(1)
		if item.Try != nil {
			p.counters.tries.Add(1)
		}
		taken, ok := p.takeSlot(pacing, p.slots)
		if !ok {
			heldBack = true
			break
		}
		if item.Try == nil {
			p.first++
		}
		if !taken {
			p.turnAway(item)
			continue
		}
		p.counters.started.Add(1)
		select {
		case next <- item:
		default: // all are at work
			sessions.Go(func() { work(item) })
		}
	}
	close(next)

	why = context.Cause(pacing)
	drain := p.Drain
	if p.Stretch > 0 && errors.Is(why, errOverrun) && !heldBack && !p.pacer.left() {
		drain = 0 // the pacer has waited for these sessions as long as that
	}
	over := make(chan struct{})
	go func() {
		sessions.Wait()
		close(over)
	}()
	drained := time.NewTimer(drain)
	defer drained.Stop()
	select {
	case <-over:
	case <-drained.C:
		cut()
		<-over
	}
	// Asked anew, for a session that was cut short may have a try to come.
	if errors.Is(why, errOverrun) && !heldBack && !p.pacer.left() {
		return nil
	}
	return why
}
