package workload

import (
	"context"
	"fmt"
	"sort"
	"time"
)

// Arrivals is how the messages of a source come: how many of them in each minute of
// virtual time. With it a load can be offered at a constant rate, which has the
// source's messages in their order and leaves out how the day's rate rises and falls.
type Arrivals struct {
	window Window
	before []int64 // messages before each minute of the window, and before its end
}

// CountArrivals reads a source from end to end.
func CountArrivals(ctx context.Context, s Source) (*Arrivals, error) {
	a := &Arrivals{window: s.Window()}
	minutes := int((a.window.Duration-1)/time.Minute) + 1
	counts := make([]int64, minutes)
	read := 0
	for item := range s.All() {
		if read++; read%4096 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if item.Message != nil {
			counts[int((item.At-a.window.From)/time.Minute)]++
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("count what arrives: %w", err)
	}
	a.before = make([]int64, minutes+1)
	for i, n := range counts {
		a.before[i+1] = a.before[i] + n
	}
	return a, nil
}

// minute is the length of minute i of the window, the last of which may be shorter.
func (a *Arrivals) minute(i int) time.Duration {
	return min(time.Minute, a.window.Duration-time.Duration(i)*time.Minute)
}

// Before is how many messages have come before a virtual time. Those of a minute
// count as if they came evenly.
func (a *Arrivals) Before(at time.Duration) float64 {
	since := min(max(0, at-a.window.From), a.window.Duration)
	i := min(int(since/time.Minute), len(a.before)-2)
	part := float64(since-time.Duration(i)*time.Minute) / float64(a.minute(i))
	return float64(a.before[i]) + part*float64(a.before[i+1]-a.before[i])
}

// After is the virtual time at which n more messages have come than at from. ok is
// false if the source has fewer.
func (a *Arrivals) After(from time.Duration, n float64) (at time.Duration, ok bool) {
	want := a.Before(from) + n
	last := len(a.before) - 1
	if want > float64(a.before[last]) {
		return a.window.From + a.window.Duration, false
	}
	i := max(0, sort.Search(last, func(i int) bool { return float64(a.before[i+1]) >= want }))
	share := 0.0
	if in := a.before[i+1] - a.before[i]; in > 0 {
		share = (want - float64(a.before[i])) / float64(in)
	}
	at = a.window.From + time.Duration(i)*time.Minute + time.Duration(share*float64(a.minute(i)))
	return max(at, from), true
}

// Evenly is Stretch.Due for a stretch from a virtual time to another that lasts so
// long in wall time from begin on, and whose messages come at a constant rate: minutes
// that hold more take longer.
func (a *Arrivals) Evenly(from, to, begin, lasts time.Duration) func(at time.Duration) time.Duration {
	first := a.Before(from)
	all := a.Before(to) - first
	return func(at time.Duration) time.Duration {
		if all <= 0 {
			return begin + time.Duration(float64(lasts)*float64(at-from)/float64(to-from))
		}
		return begin + time.Duration(float64(lasts)*(a.Before(at)-first)/all)
	}
}

// PeakPPM is the rate of the busiest hour that begins with a minute of the window, in
// millionths of the window's mean rate; of a window of an hour or less a million.
func (a *Arrivals) PeakPPM() int64 {
	const hour = 60
	last := len(a.before) - 1
	if last <= hour || a.before[last] == 0 {
		return million
	}
	most := int64(0)
	for i := range last - hour + 1 {
		most = max(most, a.before[i+hour]-a.before[i])
	}
	mean := float64(a.before[last]) * float64(time.Hour) / float64(a.window.Duration)
	return int64(float64(most) / mean * million)
}
