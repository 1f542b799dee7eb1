package maillog

import (
	"math/bits"
	"time"
)

// maxPending is how many deferred triplets are remembered by default; one takes
// some 70 bytes.
const maxPending = 4_000_000

// fate is what became of a message, in two bytes: all that the second pass
// needs from the first.
type fate uint16

const (
	fateAccepted fate = 1 << iota // some recipient got it, at once or later
	// Above them the time of the first return after a deferral, in steps of 8 s
	// and at least 1; 0 if there was none.
	fateShift        = 1
	fateStep         = 8 * second
	fateMost  uint16 = 1<<15 - 1
)

func (f fate) back() (after time.Duration, ok bool) {
	steps := int64(f >> fateShift)
	return time.Duration(steps*fateStep) * time.Microsecond, steps > 0
}

func (f *fate) cameBack(after int64) {
	if *f>>fateShift != 0 {
		return
	}
	steps := min(max((after+fateStep/2)/fateStep, 1), int64(fateMost))
	*f |= fate(steps << fateShift)
}

// pending is a triplet that was deferred.
type pending struct {
	first   int64
	message uint32 // its number, or noMessage
	tries   uint8
}

const noMessage = 1<<32 - 1

// folder folds the tries of a triplet into the first.
type folder struct {
	window  int64
	most    int
	waiting map[uint64]pending
	order   []expiry // in the order of first
	front   int
	begun   int64 // the first instant of the logs

	stats foldStats
	fates []fate
}

type expiry struct {
	key   uint64
	first int64
}

// Tries is how many tries of a triplet have a row of their own in the report.
const Tries = 10

// foldStats are of triplets.
type foldStats struct {
	firstTries, accepted, deferred, refused int64 // triplets, by the answer to the first try
	retries                                 int64
	cameBack                                int64 // deferred ones with a second try
	passed                                  int64 // of these, accepted in the end
	early                                   int64 // second tries within Postgrey's 300 s
	before                                  int64 // retries of a first try before the logs
	forgotten                               int64 // because too many were waiting
	outbound                                int64
	delays                                  [Tries]histogram // of try 2, 3, ... since the first
}

func newFolder(o Options) *folder {
	return &folder{window: o.RetryWindow.Microseconds(), most: o.MostPending, waiting: map[uint64]pending{}}
}

// close drops what is needed for further tries only.
func (f *folder) close() { f.waiting, f.order, f.front = nil, nil, 0 }

// try takes a recipient of message number. It says whether this was a first
// try.
func (f *folder) try(key uint64, at int64, r told, number uint32, mine *fate) bool {
	f.expire(at)
	if f.begun == 0 {
		f.begun = at
	}
	p, known := f.waiting[key]
	switch {
	case known && p.message == number: // twice in one message, in another case or with quotes
		if r.outcome == accepted {
			*mine |= fateAccepted
		}
		if r.outcome != deferred {
			delete(f.waiting, key)
		}
		return false
	case known && at-p.first <= f.window:
		f.retry(key, p, at, r)
		return false
	case r.returning && at-f.begun < f.window:
		f.stats.before++
		if r.outcome == deferred {
			f.wait(key, at, noMessage)
		}
		return false
	}
	f.stats.firstTries++
	switch r.outcome {
	case accepted:
		f.stats.accepted++
		*mine |= fateAccepted
	case deferred:
		f.stats.deferred++
		f.wait(key, at, number)
	case refused:
		f.stats.refused++
	}
	return true
}

func (f *folder) retry(key uint64, p pending, at int64, r told) {
	if p.message != noMessage {
		after := at - p.first
		f.stats.retries++
		if p.tries == 1 {
			f.stats.cameBack++
			if after < 300*second {
				f.stats.early++
			}
		}
		if int(p.tries) <= Tries {
			f.stats.delays[p.tries-1].add(after)
		}
		if r.outcome == accepted {
			f.stats.passed++
		}
		f.fates[p.message].cameBack(after)
		if r.outcome == accepted {
			f.fates[p.message] |= fateAccepted
		}
	}
	if r.outcome != deferred {
		delete(f.waiting, key) // the next is another message
		return
	}
	p.tries = min(p.tries+1, 200)
	f.waiting[key] = p
}

func (f *folder) wait(key uint64, at int64, number uint32) {
	for len(f.waiting) >= f.most {
		if f.forget() {
			f.stats.forgotten++
		}
	}
	f.waiting[key] = pending{first: at, message: number, tries: 1}
	f.order = append(f.order, expiry{key, at})
}

// forget drops the oldest; it says whether it was still waiting.
func (f *folder) forget() bool {
	oldest := f.order[f.front]
	f.front++
	if f.front > 1024 && f.front > len(f.order)/2 {
		f.order = f.order[:copy(f.order, f.order[f.front:])]
		f.front = 0
	}
	p, ok := f.waiting[oldest.key]
	if !ok || p.first != oldest.first {
		return false
	}
	delete(f.waiting, oldest.key)
	return true
}

func (f *folder) expire(now int64) {
	for f.front < len(f.order) && now-f.order[f.front].first > f.window {
		f.forget()
	}
}

// histogram counts times in buckets of 1/8 of a power of two of a second.
type histogram struct {
	n       int64
	buckets [160]int64
}

func bucketOf(us int64) int {
	s := uint64(max(us/second, 0))
	if s < 8 {
		return int(s)
	}
	exponent := bits.Len64(s) - 4
	return min(exponent*8+int(s>>exponent), 159)
}

func bucketStart(b int) time.Duration {
	if b < 8 {
		return time.Duration(b) * time.Second
	}
	exponent := b/8 - 1
	return time.Duration(int64(8+b%8)<<exponent) * time.Second
}

func (h *histogram) add(us int64) {
	h.n++
	h.buckets[bucketOf(us)]++
}

// quantile is the middle of the bucket in which the share of all lies.
func (h *histogram) quantile(share float64) time.Duration {
	rank, sum := int64(share*float64(h.n-1))+1, int64(0)
	for b, n := range h.buckets {
		if sum += n; sum >= rank && n > 0 {
			return ((bucketStart(b) + bucketStart(b+1)) / 2).Truncate(time.Second)
		}
	}
	return 0
}
