package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Stretch is a part of a replay's window that is performed without a stop. It
// begins where the one before it ended.
type Stretch struct {
	// To is the virtual time at which it ends, later than where it begins. What
	// comes after the window's end is cut off.
	To time.Duration
	// Due is when a virtual time of it comes in wall time, since the anchor; it must
	// not fall. Ops of a time that has passed are late, as after Start.
	Due func(at time.Duration) time.Duration
	// Stop ends it when it is closed, as if it had ended with the last session that was
	// started: what comes then is of the next stretch. nil if nobody will.
	Stop <-chan struct{}
}

// Paced is Stretch.Due for a stretch whose virtual time runs at a constant speed,
// in virtual seconds a wall second, from begin on.
func Paced(from, begin time.Duration, speed int) func(at time.Duration) time.Duration {
	return func(at time.Duration) time.Duration { return begin + (at-from)/time.Duration(speed) }
}

// errStopped is why a stretch that was stopped started no more.
var errStopped = errors.New("the stretch was stopped")

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
	window := p.Trace.Window()
	end := window.From + window.Duration
	if p.Turn == nil {
		return p.stretch(ctx, Stretch{To: end, Due: Paced(window.From, p.Start, p.Speed)})
	}
	for k, from := 0, window.From; from < end; k++ {
		part, err := p.turn(ctx, k, from)
		if err != nil {
			return err
		}
		part.To = min(part.To, end)
		err = p.stretch(ctx, part)
		if p.Rest != nil {
			p.Rest(k)
		}
		switch {
		case errors.Is(err, errStopped):
			from = max(from, min(part.To, p.pacer.following()))
		case errors.Is(err, errOverrun):
			return fmt.Errorf("stretch %d: %w", k+1, err)
		case err != nil:
			return err
		default:
			from = part.To
		}
	}
	return nil
}

// turn waits until a stretch may begin.
func (p *performance) turn(ctx context.Context, k int, from time.Duration) (part Stretch, err error) {
	if ctx.Err() != nil {
		return part, context.Cause(ctx)
	}
	part, err = p.Turn(ctx, k, from)
	if err == nil && (part.To <= from || part.Due == nil) {
		err = fmt.Errorf("it ends at %v and must end after %v, and have Due", part.To, from)
	}
	if err == nil {
		return part, nil
	}
	err = fmt.Errorf("stretch %d did not begin: %w", k+1, err)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return part, err
}

// stretch performs a part of the window and returns when its sessions are over. why
// is why some were not started.
func (p *performance) stretch(ctx context.Context, part Stretch) (why error) {
	p.pacer.due, p.pacer.until = part.Due, part.To
	// Sessions outlive ctx until the drain is over.
	working, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var sessions sync.WaitGroup
	// What is still held back a drain after the end is not started: it would be
	// replayed into a cluster that has long recovered.
	pacing, giveUp := context.WithDeadlineCause(ctx, p.Anchor.Add(part.Due(part.To)+p.Drain), errOverrun)
	defer giveUp()
	if part.Stop != nil {
		var stop context.CancelCauseFunc
		pacing, stop = context.WithCancelCause(pacing)
		defer stop(nil)
		go func() {
			select {
			case <-part.Stop:
				stop(errStopped)
			case <-pacing.Done():
			}
		}()
	}
	// Who has performed a session waits for another, because a new goroutine
	// must first grow its stack to what a driver needs.
	next := make(chan Item)
	work := func(item Item) {
		for more := true; more; item, more = <-next {
			p.perform(working, p.machines, item, part.Due(item.At))
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
		p.offer(item, 1)
		taken, ok := p.takeSlot(pacing, p.slots)
		if !ok && errors.Is(context.Cause(pacing), errStopped) {
			p.offer(item, -1) // it will be, in the next stretch
			p.pacer.putBack(item)
			break
		}
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
	if p.Turn != nil && errors.Is(why, errOverrun) && !heldBack && !p.pacer.left() {
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

// offer counts a session whose time has come, or takes that back with -1.
func (p *performance) offer(item Item, n int64) {
	p.counters.offered.Add(n)
	if item.Try != nil {
		p.counters.tries.Add(n)
	}
}
