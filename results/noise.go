package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// minutes cuts the measured window into minutes. What is left at its end belongs
// to the last one: a few seconds hold too few messages for a quantile.
type minutes struct {
	from time.Duration
	last int // -1 where the window has no end
}

func (t *timeline) minutes() minutes {
	m := minutes{last: -1}
	if t.measureFrom != nil {
		m.from = *t.measureFrom
	}
	if t.measureTo != nil {
		m.last = max(1, int((*t.measureTo-m.from)/time.Minute)) - 1
	}
	return m
}

func (m minutes) of(at time.Duration) int {
	i := max(0, int((at-m.from)/time.Minute))
	if m.last >= 0 {
		i = min(i, m.last)
	}
	return i
}

func (m minutes) begin(i int) time.Duration { return m.from + time.Duration(i)*time.Minute }

// lags are the lags of messages, minute by minute: one quantile for a whole run
// hides a bad minute the better the longer the run is.
type lags struct {
	minutes
	all      latencies
	byMinute map[int]*latencies
}

func (l *lags) add(intended, lag time.Duration) {
	l.all.add(lag)
	i := l.of(intended)
	if l.byMinute[i] == nil {
		l.byMinute[i] = new(latencies)
	}
	l.byMinute[i].add(lag)
}

// tell fills in what is known of the lag.
func (l *lags) tell(g *GeneratorResult) {
	if l.all.total == 0 {
		return
	}
	g.LagP999US = new(l.all.quantile(999))
	for _, i := range slices.Sorted(maps.Keys(l.byMinute)) {
		if lag := l.byMinute[i].quantile(999); g.LagMinuteP999US == nil || lag > *g.LagMinuteP999US {
			g.LagMinuteP999US, g.LagMinuteFromUS = new(lag), new(l.begin(i).Microseconds())
		}
	}
}

// noises gathers what the rows of counters say of the load's time.
type noises struct {
	minutes
	to     time.Duration // rows after it are not of the load
	worst  *Noise        // of each kind; nil while there was no row
	before *Noise        // the last one before the load
	ends   map[int]Noise // the last one of each minute
}

func (n *noises) add(row CounterRow) {
	at := time.Duration(row.AtUS) * time.Microsecond
	switch {
	case row.Noise == nil || at > n.to:
		return
	case at <= n.from:
		n.before = row.Noise
		return
	case n.worst == nil:
		n.worst = new(Noise)
	}
	w := n.worst
	w.SchedP999US = max(w.SchedP999US, row.SchedP999US)
	w.GCPauseMaxUS = max(w.GCPauseMaxUS, row.GCPauseMaxUS)
	w.ClockStepUS = max(w.ClockStepUS, row.ClockStepUS, -row.ClockStepUS)
	if n.before == nil {
		n.before = row.Noise
	}
	n.ends[n.of(at-time.Microsecond)] = *row.Noise // a row tells of the time before it
}

// tell fills in what is known of the noise.
func (n *noises) tell(g *GeneratorResult) {
	if n.worst == nil {
		return
	}
	g.SchedP999US, g.GCPauseMaxUS, g.ClockStepUS = &n.worst.SchedP999US, &n.worst.GCPauseMaxUS, &n.worst.ClockStepUS
	last := *n.before
	for _, i := range slices.Sorted(maps.Keys(n.ends)) {
		end := n.ends[i]
		if all := end.MachineUS - last.MachineUS; all > 0 {
			share := mulRatio(max(0, end.StealUS-last.StealUS), 1, all)
			if g.Steal == nil || *share > *g.Steal {
				g.Steal, g.StealFromUS = share, new(n.begin(i).Microseconds())
			}
		}
		last = end
	}
}

// complaints are the bounds that the generator passed, in words.
func (g *GeneratorResult) complaints(b Bounds) []string {
	var complaints, unknown []string
	add := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	if b.LagP999US > 0 {
		switch {
		case g.LagP999US == nil:
			add("no message began, so that the generator's lag is not known")
		case *g.LagP999US > b.LagP999US:
			add("the generator fell behind: 99.9 %% of messages began within %d µs of their time, the bound is %d µs", *g.LagP999US, b.LagP999US)
		case *g.LagMinuteP999US > b.LagP999US:
			add("the generator fell behind for a while: in the minute from %d s on, 99.9 %% of messages began within %d µs of their time, the bound is %d µs",
				*g.LagMinuteFromUS/million, *g.LagMinuteP999US, b.LagP999US)
		}
	}
	for _, rule := range []struct {
		what      string
		value     *int64
		bound     int64
		complaint string
	}{
		{"scheduling latency", g.SchedP999US, b.SchedP999US,
			"the generator had to wait for a processor: in its worst second, 99.9 %% of its goroutines ran within %d µs of their time, the bound is %d µs"},
		{"longest pause", g.GCPauseMaxUS, b.GCPauseUS,
			"the generator stood still to collect its garbage, once for %d µs, the bound is %d µs"},
		{"clock", g.ClockStepUS, b.ClockStepUS,
			"the wall clock was set, or the machine stood still: between two rows of counters it moved by %d µs against the monotonic clock, the bound is %d µs"},
	} {
		switch {
		case rule.bound == 0:
		case rule.value == nil:
			unknown = append(unknown, rule.what)
		case *rule.value > rule.bound:
			add(rule.complaint, *rule.value, rule.bound)
		}
	}
	switch {
	case b.StealPPM == 0:
	case g.Steal == nil:
		unknown = append(unknown, "share of stolen processor time")
	case int64(*g.Steal) > b.StealPPM:
		add("the machine is a guest whose host had other things to do: in the minute from %d s on, it kept back %s %% of the processors' time, the bound is %s %%",
			*g.StealFromUS/million, *g.Steal*100, Decimal(b.StealPPM*100))
	}
	if len(unknown) > 0 {
		add("no row of counters tells the generator's %s", strings.Join(unknown, ", "))
	}
	return complaints
}
