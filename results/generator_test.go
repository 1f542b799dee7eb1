package results

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// nullTarget answers at once, so that a replay against it costs what the
// generator costs.
type nullTarget struct{}

func (nullTarget) Connect(context.Context, topology.ID, reference.ConnectOptions) (reference.Session, error) {
	return nullTarget{}, nil
}

func (nullTarget) Route(context.Context, string) (routing.Answer, error) {
	return routing.Answer{Verdict: routing.Local, Backend: "cyrus1"}, nil
}

func (nullTarget) Check(context.Context, greylist.Request) (greylist.Answer, error) {
	return greylist.Answer{Verdict: greylist.New}, nil
}

func (nullTarget) Read(context.Context, string) (map[string]string, error) { return nil, nil }
func (nullTarget) Set(context.Context, string, string, string) error       { return nil }
func (nullTarget) Delete(context.Context, string, string) error            { return nil }
func (nullTarget) Change(context.Context, accounts.Change) error           { return nil }
func (nullTarget) Close() error                                            { return nil }

func (nullTarget) Account(context.Context, string) (accounts.Account, error) {
	return accounts.Account{}, nil
}

// nullReplay replays a window of the busiest hour against nothing.
func nullReplay(b *testing.B, w workload.Window, speed int, out workload.Recorder) *workload.Replay {
	trace, err := workload.NewTrace(1, workload.Berkeley2008(), workload.DefaultPopulation(1), w)
	if err != nil {
		b.Fatal(err)
	}
	policy := workload.Policy{ConnectTimeout: sec, ReadTimeout: sec, Attempts: 3}
	return &workload.Replay{
		Trace: trace, Target: nullTarget{}, Recorder: out, Anchor: time.Now(), Speed: speed,
		Day: time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC), MaxInFlight: 4096, Drain: time.Minute,
		Clients: []workload.Client{
			{Name: "mta1", Kind: workload.MTA, Nodes: []topology.ID{sql1, sql2}, Habit: workload.PerMessage, Policy: policy},
			{Name: "webmail1", Kind: workload.Webmail, Nodes: []topology.ID{sql2, sql1}, Habit: workload.Persistent, Policy: policy},
		},
	}
}

func record(b *testing.B) *Recording {
	r, err := Create(b.TempDir(), testManifest(b), Inputs{})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkReplayRecorded is how many ops a second the generator can do at most,
// their recording included: everything is overdue, so that nothing waits.
func BenchmarkReplayRecorded(b *testing.B) {
	const window = 10 * time.Minute
	var ops int64
	for b.Loop() {
		recording := record(b)
		r := nullReplay(b, workload.Window{From: 11 * time.Hour, Duration: window}, 1, recording)
		r.Start, r.Drain = -window, time.Hour
		stats, err := r.Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := recording.Close(completed); err != nil {
			b.Fatal(err)
		}
		for _, n := range stats.Ops {
			ops += n
		}
	}
	b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "ops/s")
}

// queues keeps the queue time of every op. Nothing waits for an answer, so that
// it is the lag of the dispatch.
type queues struct {
	*Recording
	mu   sync.Mutex
	lags []time.Duration
}

func (q *queues) Record(s *workload.Sample) {
	q.Recording.Record(s)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lags = append(q.lags, s.Queue())
}

// BenchmarkDispatchLag is how late ops are dispatched at 5,000 a second, for
// 6 s an iteration, with all that a run records: by Go's timers, and as runs
// sleep.
func BenchmarkDispatchLag(b *testing.B) {
	for _, how := range []string{"timers", "precise"} {
		b.Run(how, func(b *testing.B) {
			var (
				lags []time.Duration
				cpu  time.Duration
			)
			const span, speed = 6 * time.Second, 20 // the busiest hour has some 260 ops a second where everything is new to the greylist
			for b.Loop() {
				q := &queues{Recording: record(b)}
				r := nullReplay(b, workload.Window{From: 11 * time.Hour, Duration: speed * span}, speed, q)
				r.Start = 100 * ms
				if how == "precise" {
					p, err := workload.NewPreciseSleeper()
					if err != nil {
						b.Fatal(err)
					}
					r.Sleeper = p
					defer p.Close()
				}
				before := processorTime(b)
				if _, err := r.Run(b.Context()); err != nil {
					b.Fatal(err)
				}
				cpu += processorTime(b) - before
				if err := q.Close(completed); err != nil {
					b.Fatal(err)
				}
				lags = append(lags, q.lags...)
			}
			slices.Sort(lags)
			quantile := func(permille int) float64 {
				return float64(lags[(len(lags)*permille+999)/1000-1].Microseconds())
			}
			b.ReportMetric(quantile(500), "p50-µs")
			b.ReportMetric(quantile(990), "p99-µs")
			b.ReportMetric(quantile(999), "p99.9-µs")
			b.ReportMetric(float64(len(lags))/b.Elapsed().Seconds(), "ops/s")
			b.ReportMetric(float64(cpu.Microseconds())/float64(len(lags)), "cpu-µs/op")
			b.ReportMetric(0, "ns/op")
		})
	}
}
