package workload

import (
	"cmp"
	"container/heap"
	"context"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Try is one attempt of a peer to deliver a message to some of its recipients:
// the first one to all, a later one to those that were put off (an SMTP answer
// of 4xx) by the one before.
type Try struct {
	Message    *Message
	Number     int           // 0 for the first
	Recipients []int         // indexes into Message.Recipients, in order
	At         time.Duration // virtual time since midnight
	Client     netip.Addr    // the address that the peer comes from this time
}

// firstTry is the try that the trace holds.
func firstTry(m *Message) *Try {
	all := make([]int, len(m.Recipients))
	for i := range all {
		all[i] = i
	}
	return &Try{Message: m, Recipients: all, At: m.At, Client: m.Client}
}

// nextTry is the peer's next try, for the recipients that this one left. ok is
// false if the peer gives up, or never comes back.
func nextTry(s Source, last *Try, left []int) (try *Try, ok bool) {
	at, client, ok := s.Retry(last.Message, last.Number+1)
	if !ok {
		return nil, false
	}
	return &Try{Message: last.Message, Number: last.Number + 1, Recipients: left, At: at, Client: client}, true
}

// tries holds later tries until they are due. It is used from many goroutines.
type tries struct {
	mu   sync.Mutex
	heap tryHeap
}

func (q *tries) add(t *Try) {
	q.mu.Lock()
	defer q.mu.Unlock()
	heap.Push(&q.heap, t)
}

// first is the earliest try, or nil.
func (q *tries) first() *Try {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

// take removes the earliest try, or one that came before it meanwhile.
func (q *tries) take() *Try {
	q.mu.Lock()
	defer q.mu.Unlock()
	return heap.Pop(&q.heap).(*Try)
}

func (q *tries) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap)
}

// tryHeap is ordered by time, and then by message, so that the order does not
// depend on who was faster.
type tryHeap []*Try

func (h tryHeap) Len() int { return len(h) }
func (h tryHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].At, h[j].At), cmp.Compare(h[i].Message.Number, h[j].Message.Number)) < 0
}
func (h tryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *tryHeap) Push(x any)   { *h = append(*h, x.(*Try)) }
func (h *tryHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// glance is how long the pacer sleeps at most before it looks again for a try
// that came in and is due earlier than what it waits for. Schedules begin at a
// minute, so that even at a speed of 600 none comes later than it is due.
const glance = 20 * time.Millisecond

// forever is later than all virtual times.
const forever time.Duration = math.MaxInt64

// pacer yields what is due, from the trace and from the tries that peers still
// have to make, in the order of virtual time.
type pacer struct {
	items <-chan Item   // of the trace, closed at its end
	head  *Item         // the next of them, nil if it is not known yet
	ended bool          // whether the trace has
	last  time.Duration // virtual, of the last item of the trace that came out
	tries *tries
	// over says whether no session is under way that could put something off.
	over  func() bool
	until time.Duration // virtual; what is later is left for another stretch
	// due is the wall time of a virtual time, and now the present one, since the
	// anchor.
	due   func(at time.Duration) time.Duration
	now   func() time.Duration
	sleep func(context.Context, time.Duration) bool
}

// next waits until something is due. ok is false when there is nothing more
// before until, and when ctx ends.
func (p *pacer) next(ctx context.Context) (item Item, ok bool) {
	for {
		if p.head == nil && !p.ended {
			select {
			case item, more := <-p.items:
				if p.ended = !more; more {
					p.head = &item
				}
			case <-ctx.Done():
				return Item{}, false
			}
		}
		over := p.over() // before the tries are looked at: a session adds its own before it ends
		at, fromTrace := p.earliest()
		if at >= p.until {
			if over || !p.sleep(ctx, glance) {
				return Item{}, false
			}
			continue
		}
		if wait := p.due(at) - p.now(); wait > glance {
			if !p.sleep(ctx, glance) {
				return Item{}, false
			}
			continue
		} else if !p.sleep(ctx, wait) {
			return Item{}, false
		}
		if fromTrace {
			item, p.head = *p.head, nil
			p.last = item.At
			return item, true
		}
		try := p.tries.take()
		return Item{At: try.At, Try: try}, true
	}
}

// earliest is the virtual time of what comes next, as far as it is known, or
// forever.
func (p *pacer) earliest() (at time.Duration, fromTrace bool) {
	try := p.tries.first()
	switch {
	case p.head != nil && (try == nil || p.head.At <= try.At):
		return p.head.At, true
	case try != nil:
		return try.At, false
	default:
		return forever, false
	}
}

// putBack takes back the item that next returned last.
func (p *pacer) putBack(item Item) {
	if item.Try != nil {
		p.tries.add(item.Try)
		return
	}
	p.head = &item
}

// following is no later than the virtual time of what next would return.
func (p *pacer) following() time.Duration {
	at, _ := p.earliest()
	if p.head == nil && !p.ended {
		return p.last
	}
	return at
}

// left says whether something before until has not come out of next, or may not have.
func (p *pacer) left() bool {
	at, _ := p.earliest()
	return at < p.until || p.head == nil && !p.ended
}
