package results

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// sliceLength is the resolution of outage spans.
const sliceLength = 100 * time.Millisecond

// defaultSlow is how long a good answer may take before it is slow, where no
// objective bounds it: the second after which a person's flow of thought breaks
// (J. Nielsen, Usability Engineering, 1993, chapter 5).
const defaultSlow = time.Second

// chunkLength is a minute of slices of 100 ms.
const chunkLength = 600

// sparse is an array of which only the parts that are used take memory.
type sparse[T any] struct {
	chunks map[int64]*[chunkLength]T
	number int64 // of the chunk used last, which mostly is the next one too
	last   *[chunkLength]T
}

// at returns the element at an index of at least 0.
func (s *sparse[T]) at(k int64) *T {
	number := k / chunkLength
	if s.last == nil || number != s.number {
		if s.chunks == nil {
			s.chunks = map[int64]*[chunkLength]T{}
		}
		chunk := s.chunks[number]
		if chunk == nil {
			chunk = new([chunkLength]T)
			s.chunks[number] = chunk
		}
		s.number, s.last = number, chunk
	}
	return &s.last[k%chunkLength]
}

// all yields the elements of the parts in use, in the order of their indices.
func (s *sparse[T]) all() iter.Seq2[int64, *T] {
	return func(yield func(int64, *T) bool) {
		for _, number := range slices.Sorted(maps.Keys(s.chunks)) {
			for i := range s.chunks[number] {
				if !yield(number*chunkLength+int64(i), &s.chunks[number][i]) {
					return
				}
			}
		}
	}
}

// marks is what was seen in a slice.
type marks uint8

const (
	sawFast marks = 1 << iota // good, and in time
	sawSlow                   // good, but late
	sawBad
)

func mark(good bool, took, slow time.Duration) marks {
	switch {
	case !good:
		return sawBad
	case took > slow:
		return sawSlow
	default:
		return sawFast
	}
}

// outage is what was seen in each slice of one fault's window.
type outage struct{ sparse[marks] }

// add marks the slice of what began so long after the injection.
func (o *outage) add(since time.Duration, m marks) { *o.at(int64(since / sliceLength)) |= m }

// spans sums up the slices of a window of the given length. The last slice
// ends with the window. All but the longest stretch add up to the window.
func (o *outage) spans(window time.Duration) OutageSpans {
	var full, partial, brown, good, longest time.Duration
	stretch := time.Duration(-1) // where the stretch without a good op began
	for k, m := range o.all() {
		start := time.Duration(k) * sliceLength
		if *m == 0 || start >= window {
			continue
		}
		end := min(start+sliceLength, window)
		switch {
		case *m == sawBad:
			full += end - start
			if stretch < 0 {
				stretch = start
			}
			longest = max(longest, end-stretch)
			continue
		case *m&sawBad != 0:
			partial += end - start
		case *m&sawSlow != 0:
			brown += end - start
		default:
			good += end - start
		}
		stretch = -1
	}
	return OutageSpans{
		FullOutage: micros(full), PartialOutage: micros(partial), BrownOut: micros(brown), Good: micros(good),
		Longest: micros(longest), Unmeasured: micros(max(0, window) - full - partial - brown - good),
	}
}

// tally counts events.
type tally struct{ good, bad uint32 }

func (t *tally) add(good bool) {
	if good {
		t.good++
	} else {
		t.bad++
	}
}

// misses says whether the share of good events is below a target; without events
// it is not.
func (t tally) misses(targetPPM int64) bool {
	return int64(t.good)*million < targetPPM*(int64(t.good)+int64(t.bad))
}

// recovery counts an objective's events in each slice of a fault's window.
type recovery struct{ sparse[tally] }

func (r *recovery) add(since time.Duration, good bool) { r.at(int64(since / sliceLength)).add(good) }

// met returns how long after the injection the last slice ended that missed the
// target: 0 if none did, nil if that is the last one with events, so that nobody
// saw the objective met again in the window.
func (r *recovery) met(window time.Duration, targetPPM int64) *int64 {
	var met time.Duration
	missed := false
	for k, t := range r.all() {
		start := time.Duration(k) * sliceLength
		if t.good+t.bad == 0 || start >= window {
			continue
		}
		if missed = t.misses(targetPPM); missed {
			met = start + sliceLength
		}
	}
	if missed {
		return nil
	}
	return micros(met)
}

func micros(d time.Duration) *int64 {
	us := d.Microseconds()
	return &us
}

func microsOf(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	return micros(*d)
}

// between returns to-from in microseconds, or nil if either did not happen.
func between(from, to *time.Duration) *int64 {
	if from == nil || to == nil {
		return nil
	}
	return micros(*to - *from)
}
