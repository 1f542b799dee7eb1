package scenarios

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/mailbench/mailbench/results"
)

func TestProcStatIsRead(t *testing.T) {
	for _, row := range []struct {
		sentence, stat string
		steal, machine int64
	}{
		{"all ten columns of today", "cpu  10 1 20 300 5 0 4 7 3 2\ncpu0 1 1 1 1 1 1 1 1 1 1\n", 70_000, 3_470_000},
		{"what a guest of ours used is counted in user already", "cpu 10 0 0 0 0 0 0 0 10 0\n", 0, 100_000},
		{"Linux before 2.6.11 has no steal", "cpu 10 1 20 300 5 0 4\n", 0, 0},
		{"one processor is not the machine", "cpu0 10 1 20 300 5 0 4 7 3 2\n", 0, 0},
		{"no number", "cpu 10 1 20 x 5 0 4 7 3 2\n", 0, 0},
		{"a number that is none of ticks", "cpu 10 1 20 -1 5 0 4 7 3 2\n", 0, 0},
		{"more than a machine can have seen", "cpu 10 1 20 9223372036854775807 5 0 4 7 3 2\n", 0, 0},
		{"nothing", "", 0, 0},
	} {
		if steal, machine := parseStat([]byte(row.stat)); steal != row.steal || machine != row.machine {
			t.Errorf("%s: steal %d, machine %d; want %d, %d", row.sentence, steal, machine, row.steal, row.machine)
		}
	}
}

func TestQuantileSince(t *testing.T) {
	buckets := []float64{math.Inf(-1), 0, 1e-6, 1e-3, 1, math.Inf(1)}
	for _, row := range []struct {
		sentence       string
		counts, before []uint64
		permille       uint64
		want           int64
	}{
		{"nothing was ever counted", []uint64{0, 0, 0, 0, 0}, nil, 999, 0},
		{"nothing since the last time", []uint64{0, 5, 5, 5, 0}, []uint64{0, 5, 5, 5, 0}, 999, 0},
		{"the end of the bucket", []uint64{0, 0, 1, 0, 0}, nil, 999, 1000},
		{"one of a thousand does not count", []uint64{0, 999, 0, 1, 0}, nil, 999, 1},
		{"but is the largest", []uint64{0, 999, 0, 1, 0}, nil, 1000, 1_000_000},
		{"two of a thousand do", []uint64{0, 998, 0, 2, 0}, nil, 999, 1_000_000},
		{"what was before does not", []uint64{0, 998, 1, 2, 0}, []uint64{0, 0, 0, 2, 0}, 1000, 1000},
		{"a bucket without end counts from its beginning", []uint64{0, 0, 0, 0, 1}, nil, 1000, 1_000_000},
	} {
		h := &metrics.Float64Histogram{Counts: row.counts, Buckets: buckets}
		if got := quantileSince(h, row.before, row.permille); got != row.want {
			t.Errorf("%s: %d µs, want %d", row.sentence, got, row.want)
		}
	}
}

// TestWatchSeesItself has the real runtime do what is watched for.
func TestWatchSeesItself(t *testing.T) {
	w := newSelfWatch(time.Now())
	var row results.CounterRow
	for range 100 { // goroutines that have to wait for one another
		done := make(chan struct{})
		go close(done)
		<-done
	}
	runtime.GC()
	w.fill(&row)
	if row.Noise.SchedP999US <= 0 || row.Noise.GCPauseMaxUS <= 0 || row.HeapBytes <= 0 {
		t.Errorf("nothing was seen: %+v, %+v", row, *row.Noise)
	}
	if runtime.GOOS == "linux" && row.Noise.MachineUS <= row.Noise.StealUS {
		t.Errorf("the machine's processors had %d µs, of which %d were stolen", row.Noise.MachineUS, row.Noise.StealUS)
	}
	// A wall clock that gained a second since the row before.
	w.offset -= time.Second
	w.fill(&row)
	if step := row.Noise.ClockStepUS; step < 500_000 {
		t.Errorf("a step of a second is told as %d µs", step)
	}
	w.fill(&row)
	if step := row.Noise.ClockStepUS; step > 500_000 {
		t.Errorf("the step is told again: %d µs", step)
	}
}
