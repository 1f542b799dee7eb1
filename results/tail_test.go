package results

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/workload"
)

const (
	failoverOps     = 1_000_000
	failoverStalled = 700
)

// failover is shaped as a failover is: of a million ops, 500 a second, those of
// 1.4 s wait for its end or for a time-out of theirs, up to 5 s;
// the others take 0.5 to 9.1 ms. All times are in microseconds.
func failover() (queues, services []int64) {
	rnd := rand.New(rand.NewPCG(2008, 4))
	const first = failoverOps / 2
	for i := range failoverOps {
		queue, service := 20+rnd.Int64N(80), 500+rnd.Int64N(8600)
		if i >= first && i < first+failoverStalled {
			service += rnd.Int64N(5_000_000 - 9100)
		}
		if i >= first+failoverStalled && i < first+failoverStalled+300 {
			queue = rnd.Int64N(400_000) // what had to wait in the generator behind them
		}
		queues, services = append(queues, queue), append(services, service)
	}
	return queues, services
}

// exactly is Latency by its definition.
func exactly(values []int64) Latency {
	sorted := slices.Sorted(slices.Values(values))
	return Latency{
		P50: exact(sorted, 500), P90: exact(sorted, 900), P99: exact(sorted, 990), P999: exact(sorted, 999),
		Max: sorted[len(sorted)-1],
	}
}

// TestEveryQuantileOfAFailover records a failover and judges it: every quantile
// in run.json is that of a sort.
func TestEveryQuantileOfAFailover(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	m.Faults, m.Objectives, m.Bounds = m.Faults[:1], []Objective{{Name: "all", TargetPPM: 900_000}}, Bounds{}
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	const apart = 2 * ms
	// The fault's window: the stalled ops, and some before and after.
	from, to := failoverOps/2*apart-sec, failoverOps/2*apart+4*sec
	r.Event(step(from, "f1", "sql1", chaos.StepInjected))
	r.Event(step(to, "f1", "sql1", chaos.StepRedundant))
	queues, services := failover()
	for i := range queues {
		at := time.Duration(i) * apart
		dispatched := at + time.Duration(queues[i])*time.Microsecond
		r.Record(&workload.Sample{
			Message: uint64(i), Operation: reference.Route, Answer: uint8(routing.Local), Intended: at, Outcome: workload.OK,
			Attempts: []workload.Attempt{{Node: sql1, Dispatched: dispatched, Ended: dispatched + time.Duration(services[i])*time.Microsecond}},
		})
	}
	end := failoverOps * apart
	r.Event(chaos.Event{At: end, Kind: chaos.KindPhase, Name: "drain"})
	if err := r.Close(EndOfRun{At: end, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
	run := mustJudge(t, dir)

	var responses, meanwhile, worstMinute []int64
	for i := range queues {
		responses = append(responses, queues[i]+services[i])
		at := time.Duration(i) * apart
		if at >= from && at < to {
			meanwhile = append(meanwhile, responses[i])
		}
		if at >= failoverOps/2*apart/time.Minute*time.Minute && len(worstMinute) < int(time.Minute/apart) {
			worstMinute = append(worstMinute, queues[i])
		}
	}
	check := func(what string, got, want int64) {
		if got != want {
			t.Errorf("%s is %d µs, exactly %d µs", what, got, want)
		}
	}
	routing := run.Paths["routing"]
	for _, row := range []struct {
		what   string
		got    *Latency
		values []int64
	}{
		{"queue", routing.QueueUS, queues},
		{"service", routing.ServiceUS, services},
		{"response", routing.ResponseUS, responses},
		{"response during the fault", run.Faults[0].ResponseUS, meanwhile},
	} {
		want := exactly(row.values)
		check(row.what+", p50", row.got.P50, want.P50)
		check(row.what+", p90", row.got.P90, want.P90)
		check(row.what+", p99", row.got.P99, want.P99)
		check(row.what+", p99.9", row.got.P999, want.P999)
		if row.got.Max != want.Max || row.got.Overflow != 0 {
			t.Errorf("%s: max is %d µs, overflow %d; want %d and none", row.what, row.got.Max, row.got.Overflow, want.Max)
		}
	}
	check("lag", *run.Generator.LagP999US, exactly(queues).P999)
	check("lag in the worst minute", *run.Generator.LagMinuteP999US, exactly(worstMinute).P999)
}

// BenchmarkTail counts the failover's latencies, with ours and with
// hdrhistogram-go at 1, 2 and 3 digits, and tells how far the worst of p50, p90,
// p99, p99.9 and max is from the exact one.
func BenchmarkTail(b *testing.B) {
	queues, services := failover()
	var values []int64
	for i := range queues {
		values = append(values, queues[i]+services[i])
	}
	sorted := slices.Sorted(slices.Values(values))
	worst := func(quantile func(permille int) int64) float64 {
		off := 0.0
		for _, permille := range []int{500, 900, 990, 999, 1000} {
			want := float64(exact(sorted, permille))
			off = max(off, math.Abs(float64(quantile(permille))-want)/want)
		}
		return 100 * off
	}
	report := func(b *testing.B, off float64) {
		b.ReportMetric(off, "worst-error-%")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(values)), "ns/op")
	}
	b.Run("ours", func(b *testing.B) {
		var l latencies
		for b.Loop() {
			l = latencies{}
			for _, us := range values {
				l.add(time.Duration(us) * time.Microsecond)
			}
		}
		report(b, worst(func(permille int) int64 { return l.quantile(int64(permille)) }))
	})
	for digits := 1; digits <= 3; digits++ {
		b.Run(fmt.Sprintf("hdrhistogram-%d-digits", digits), func(b *testing.B) {
			var h *hdrhistogram.Histogram
			for b.Loop() {
				h = hdrhistogram.New(1, maxLatencyUS, digits)
				for _, us := range values {
					if err := h.RecordValue(us); err != nil {
						b.Fatal(err)
					}
				}
			}
			report(b, worst(func(permille int) int64 { return h.ValueAtPercentile(float64(permille) / 10) }))
		})
	}
}
