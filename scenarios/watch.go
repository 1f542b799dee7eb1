package scenarios

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/results"
)

// Names of runtime/metrics.
const (
	metricHeap   = "/memory/classes/heap/objects:bytes"
	metricSched  = "/sched/latencies:seconds"
	metricPauses = "/sched/pauses/total/gc:seconds"
)

// selfWatch reads what delays the generator and is not the target's doing. None
// of its sources stops the world, as runtime.ReadMemStats does.
type selfWatch struct {
	anchor  time.Time
	samples []metrics.Sample
	sched   []uint64 // counts of the histograms, at the row before
	pauses  []uint64
	offset  time.Duration // of the wall clock to the monotonic one, at the row before
}

func newSelfWatch(anchor time.Time) *selfWatch {
	w := &selfWatch{anchor: anchor, samples: []metrics.Sample{{Name: metricHeap}, {Name: metricSched}, {Name: metricPauses}}}
	w.offset = clockOffset(anchor)
	w.fill(new(results.CounterRow)) // what was before is of no interest
	return w
}

// fill completes a row of counters with what happened since the row before.
func (w *selfWatch) fill(row *results.CounterRow) {
	noise := &results.Noise{}
	metrics.Read(w.samples)
	for _, s := range w.samples {
		switch {
		case s.Value.Kind() == metrics.KindUint64:
			row.HeapBytes = int64(s.Value.Uint64())
		case s.Value.Kind() != metrics.KindFloat64Histogram: // this runtime does not know it
		case s.Name == metricSched:
			h := s.Value.Float64Histogram()
			noise.SchedP999US = quantileSince(h, w.sched, 999)
			w.sched = append(w.sched[:0], h.Counts...)
		case s.Name == metricPauses:
			h := s.Value.Float64Histogram()
			noise.GCPauseMaxUS = quantileSince(h, w.pauses, 1000)
			w.pauses = append(w.pauses[:0], h.Counts...)
		}
	}
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	row.GCPauseTotalUS = gc.PauseTotal.Microseconds()

	// A reading that was interrupted between the two clocks looks like a step
	// that the next reading does not see.
	step := clockOffset(w.anchor) - w.offset
	for range 2 {
		if again := clockOffset(w.anchor) - w.offset; again.Abs() < step.Abs() {
			step = again
		}
	}
	w.offset += step
	noise.ClockStepUS = step.Microseconds()
	if stat, err := os.ReadFile("/proc/stat"); err == nil { // only Linux has it
		noise.StealUS, noise.MachineUS = parseStat(stat)
	}
	row.Noise = noise
}

// clockOffset is by how much the wall clock has gained on the monotonic one.
func clockOffset(anchor time.Time) time.Duration {
	now := time.Now()
	return now.Round(0).Sub(anchor.Round(0)) - now.Sub(anchor) // Round strips the monotonic reading
}

// quantileSince returns the microseconds that permille thousandths of what a
// histogram of seconds has counted since before do not exceed, rounded up to
// the end of a bucket; 0 if it has counted nothing.
func quantileSince(h *metrics.Float64Histogram, before []uint64, permille uint64) int64 {
	since := func(i int) uint64 {
		if i < len(before) {
			return h.Counts[i] - before[i]
		}
		return h.Counts[i]
	}
	var total, seen uint64
	for i := range h.Counts {
		total += since(i)
	}
	if total == 0 {
		return 0
	}
	rank := (total*permille + 999) / 1000
	for i := range h.Counts {
		if seen += since(i); seen < rank {
			continue
		}
		end := h.Buckets[i+1]
		if math.IsInf(end, 1) {
			end = h.Buckets[i]
		}
		return int64(math.Ceil(end * 1e6))
	}
	return 0 // not reached: the last bucket has seen all
}

// parseStat reads the first line of /proc/stat: ticks of 10 ms of all
// processors together, as user, nice, system, idle, iowait, irq, softirq, steal.
// What follows is counted in these already (proc_stat(5)).
func parseStat(stat []byte) (steal, machine int64) {
	const tick = 10_000 // µs: USER_HZ is 100 wherever Go runs
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, 0
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/tick/8 {
			return 0, 0
		}
		machine += n * tick
		if i == 7 {
			steal = n * tick
		}
	}
	return steal, machine
}
