package results

import (
	"maps"
	"slices"
	"time"
)

// sliceLength is the resolution of outage spans.
const sliceLength = 100 * time.Millisecond

// outage counts the ops of one fault's window in slices of their intended
// time. Only slices with ops take memory.
type outage map[int64]slice

type slice struct{ good, bad int64 }

// add counts an op that was intended so long after the injection.
func (o outage) add(since time.Duration, good bool) {
	k := int64(since / sliceLength)
	s := o[k]
	if good {
		s.good++
	} else {
		s.bad++
	}
	o[k] = s
}

// spans sums up the slices of a window of the given length. The last slice
// ends with the window.
func (o outage) spans(window time.Duration) OutageSpans {
	var full, partial, longest, measured time.Duration
	stretch := time.Duration(-1) // where the stretch without a good op began
	for _, k := range slices.Sorted(maps.Keys(o)) {
		s := o[k]
		start := time.Duration(k) * sliceLength
		end := max(start, min(start+sliceLength, window))
		measured += end - start
		switch {
		case s.good == 0:
			full += end - start
			if stretch < 0 {
				stretch = start
			}
			longest = max(longest, end-stretch)
			continue
		case s.bad > 0:
			partial += end - start
		}
		stretch = -1
	}
	return OutageSpans{
		FullOutage: micros(full), PartialOutage: micros(partial),
		Longest: micros(longest), Unmeasured: micros(max(0, window-measured)),
	}
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
