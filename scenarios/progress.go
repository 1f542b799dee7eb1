package scenarios

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// meter watches a run go by and tells of it once a second. It sees samples and
// events on their way to the recording; nothing is judged from it.
type meter struct {
	objectives []results.Objective
	duration   time.Duration

	mu        sync.Mutex
	responses *hdrhistogram.Histogram // of this second, in µs
	done      int64                   // ops of this second
	errors    map[ndberr.Class]int64  // attempts of this second
	good, bad []int64                 // of each objective, since the start
	fault     string                  // what the active fault is about, "" for none
	offered   int64                   // sessions at the last line
	last      time.Duration           // when that was
}

func newMeter(objectives []results.Objective, duration time.Duration) *meter {
	return &meter{
		objectives: objectives, duration: duration,
		responses: hdrhistogram.New(1, results.MaxLatency.Microseconds(), 3),
		errors:    map[ndberr.Class]int64{},
		good:      make([]int64, len(objectives)), bad: make([]int64, len(objectives)),
	}
}

// Record takes a sample.
func (m *meter) Record(s *workload.Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	// A response beyond the range counts as the longest that fits.
	_ = m.responses.RecordValue(min(s.Response(), results.MaxLatency).Microseconds())
	for i := range s.Attempts {
		if r := s.Attempts[i].Result; !r.OK() {
			m.errors[r.Class]++
		}
	}
	for i, o := range m.objectives {
		if !o.Covers(s) {
			continue
		}
		if o.Good(s) {
			m.good[i]++
		} else {
			m.bad[i]++
		}
	}
}

// Event takes an event.
func (m *meter) Event(e chaos.Event) {
	if e.Kind != chaos.KindFault {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Name {
	case chaos.StepRedundant, chaos.StepFailed:
		m.fault = ""
	default:
		m.fault = e.Fault + " " + e.Name
	}
}

// second returns the line about the time since the last one, about a second,
// and begins the next. It fits 79 columns while counts have a usual number of
// digits.
func (m *meter) second(at time.Duration, offered int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := func(n int64) int64 { return int64(float64(n)/(at-m.last).Seconds() + 0.5) }
	line := fmt.Sprintf("%4ds offered %d/s done %d/s p50 %s p99 %s max %s budget left %s",
		int(at.Round(time.Second).Seconds()), rate(offered-m.offered), rate(m.done),
		short(m.responses.ValueAtQuantile(50)), short(m.responses.ValueAtQuantile(99)), short(m.responses.Max()),
		m.budgetLeft(at))
	m.last = at
	if m.done == 0 && offered == m.offered {
		line = fmt.Sprintf("%4ds no load", int(at.Round(time.Second).Seconds()))
	}
	if len(m.errors) > 0 {
		line += "\n      errors: " + errorCounts(m.errors)
	}
	if m.fault != "" {
		line += "\n      fault:  " + m.fault
	}
	m.offered, m.done = offered, 0
	m.responses.Reset()
	clear(m.errors)
	return line
}

// budgetLeft is what the objective that has spent most has left of the run's
// budget, if events keep coming at their rate so far.
func (m *meter) budgetLeft(elapsed time.Duration) string {
	left, known := 1.0, false
	for i, o := range m.objectives {
		events := float64(m.good[i]+m.bad[i]) * max(1, m.duration.Seconds()/max(elapsed.Seconds(), 1))
		switch budget := events * float64(1_000_000-o.TargetPPM) / 1_000_000; {
		case budget > 0:
			left, known = min(left, 1-float64(m.bad[i])/budget), true
		case m.bad[i] > 0: // a promise of 100 %
			left, known = min(left, 0), true
		}
	}
	if !known {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*left)
}

func errorCounts(counts map[ndberr.Class]int64) string {
	classes := slices.SortedFunc(maps.Keys(counts), func(a, b ndberr.Class) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, c := range classes {
		parts = append(parts, fmt.Sprintf("%s %d", c, counts[c]))
	}
	return strings.Join(parts, ", ")
}

// short spells microseconds in at most 6 columns.
func short(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%dµs", us)
	case us < 10_000:
		return fmt.Sprintf("%.1fms", float64(us)/1000)
	case us < 1_000_000:
		return fmt.Sprintf("%dms", us/1000)
	default:
		return fmt.Sprintf("%.1fs", float64(us)/1_000_000)
	}
}

// bar draws the progress of what takes long: on a terminal it is drawn over itself,
// elsewhere a line a quarter is printed.
type bar struct {
	w        io.Writer
	terminal bool
	began    time.Time

	mu   sync.Mutex
	last map[string]int
}

func newBar(w io.Writer, terminal bool) *bar {
	return &bar{w: w, terminal: terminal, began: time.Now(), last: map[string]int{}}
}

// A line with a bar fits lineWidth columns as long as counts have at most eight
// digits; the bar takes what the rest leaves.
const (
	lineWidth         = 79 // the last column of a terminal may wrap
	leastBar, mostBar = 10, 30
)

func (b *bar) show(p workload.LoadProgress) {
	b.draw(p.Table, fmt.Sprintf("load: %-17s", p.Table), p.Done, p.Total, p.Unit)
}

// draw shows how much of a thing is done.
func (b *bar) draw(thing, label string, done, total int64, unit string) {
	if total == 0 {
		return
	}
	percent := int(done * 100 / total)
	step := 25
	if b.terminal {
		step = 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, seen := b.last[thing]; seen && percent/step == last/step {
		return
	}
	b.last[thing] = percent
	whole := strconv.FormatInt(total, 10)
	count := fmt.Sprintf("%3d %% %*d of %s %s", percent, len(whole), done, whole, unit)
	width := min(max(lineWidth-len(label)-len(count)-len(" [] "), leastBar), mostBar)
	filled := percent * width / 100
	line := fmt.Sprintf("%s [%s%s] %s", label, strings.Repeat("#", filled), strings.Repeat(".", width-filled), count)
	switch {
	case !b.terminal:
		fmt.Fprintln(b.w, line)
	case percent == 100:
		fmt.Fprintf(b.w, "\r%s\n", line)
	default:
		fmt.Fprintf(b.w, "\r%s", line)
	}
}
