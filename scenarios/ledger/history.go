package ledger

import (
	"slices"
	"time"
)

// instant is milliseconds since the run's anchor. When a write or a reading began
// is rounded down and when it ended up, so that what may have overlapped does.
type instant uint32

func floor(d time.Duration) instant { return instant(max(d, 0) / time.Millisecond) }
func ceil(d time.Duration) instant {
	return instant((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

func (i instant) us() int64 { return int64(i) * 1000 }

// lingerBound is how long after its op ended a statement that the client gave up
// on may still take effect. The server goes on with it for at most as long as NDB
// lets an idle transaction live (TransactionInactiveTimeout, which
// reference/cluster sets to 10 s) and the client's read time-out (10 s by
// default). The bound is three times their sum, for a value that is wrongly called
// lost costs more than one that is accepted for too long.
const lingerBound = instant(60_000)

// keepReplaced is how long a write that was replaced is remembered. A restart of
// the whole cluster goes back a few seconds (two global checkpoints, of 2 s each
// by default), and a reading takes less.
const keepReplaced = instant(60_000)

// write is one write of one key.
type write[V any] struct {
	value      V
	dispatched instant // it took no effect before
	ended      instant // by then it had taken effect, if it is certain
	settled    instant // it takes no effect after
	certain    bool
}

// history is the writes of one key that may still matter, the last one told apart
// because most keys have no other.
type history[V any] struct {
	last   write[V]
	before *[]write[V] // nil for none
	forgot bool        // writes that were certain and replaced
}

// all calls visit for every write.
func (h *history[V]) all(visit func(*write[V])) {
	if h.before != nil {
		for i := range *h.before {
			visit(&(*h.before)[i])
		}
	}
	visit(&h.last)
}

// mostWrites bounds the writes of a triplet that are kept.
const mostWrites = 64

// add takes a write as it ends. A write that was certainly replaced is forgotten when
// its successor ended longer ago than age, if that is not 0, or when there are more
// than most.
func (h *history[V]) add(w write[V], first bool, most int, age instant) {
	if first {
		h.last = w
		return
	}
	var kept []write[V]
	if h.before != nil {
		kept = *h.before
	}
	kept = append(kept, h.last)
	h.last = w
	var replacedBy, longAgo instant // dispatch of the latest certain writes
	for _, by := range append(kept, w) {
		if by.certain {
			replacedBy = max(replacedBy, by.dispatched)
			if age > 0 && by.ended+age < w.ended {
				longAgo = max(longAgo, by.dispatched)
			}
		}
	}
	tooMany := len(kept) >= most
	kept = slices.DeleteFunc(kept, func(old write[V]) bool {
		gone := old.settled < longAgo || tooMany && old.settled < replacedBy
		h.forgot = h.forgot || gone && old.certain
		return gone
	})
	if len(kept) == 0 {
		h.before = nil
		return
	}
	h.before = &kept
}

// replaces says whether a write has certainly taken effect after another could.
func (w *write[V]) replaces(old *write[V]) bool { return w.certain && w.dispatched > old.settled }

// standing calls visit for each write whose value a reading may find that began
// and ended then, and says whether one of the key's writes had certainly taken
// effect before, so that what was there before the run cannot be found.
func (h *history[V]) standing(began, ended instant, visit func(*write[V])) (certain bool) {
	h.all(func(w *write[V]) {
		certain = certain || w.certain && w.ended < began
		if w.dispatched > ended {
			return
		}
		replaced := false
		h.all(func(by *write[V]) { replaced = replaced || by.replaces(w) && by.ended < began })
		if !replaced {
			visit(w)
		}
	})
	return certain || h.forgot
}

// promised says whether any write of the key is certain: else nothing was promised.
func (h *history[V]) promised() bool {
	certain := h.forgot
	h.all(func(w *write[V]) { certain = certain || w.certain })
	return certain
}

// missing is when the earliest certain write ended that a reading should have
// found, or its successor; ok is false if that was before all that is known. What
// found holds for took effect, and all that it replaced with it.
func (h *history[V]) missing(began instant, found func(V) bool) (at instant, ok bool) {
	var since instant // dispatch of the latest write that is there
	there := false
	h.all(func(w *write[V]) {
		if found(w.value) && w.dispatched <= began {
			there, since = true, max(since, w.dispatched)
		}
	})
	h.all(func(w *write[V]) {
		if !w.certain || w.ended >= began || there && w.dispatched <= since {
			return
		}
		if !ok || w.ended < at {
			at, ok = w.ended, true
		}
	})
	return at, ok && (there || !h.forgot)
}
