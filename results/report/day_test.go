package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// A day of 4,000,000 messages with three ops each.
const (
	dayOps    = 12_000_000
	dayLength = 24 * time.Hour
	dayFaults = 8
)

// recordDay records so many ops, a multiple of three, at the rate of a day of
// 12,000,000: a route, a greylist check and a read of preferences for each
// message, some of them at a delivery. At the beginning of each of the faults
// the ops of 4 s have time-outs, and then some are answered by the other node.
// One op in 5,000 is retried at any time.
func recordDay(tb testing.TB, dir string, ops int) {
	tb.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		tb.Fatal(err)
	}
	length := dayLength * time.Duration(ops) / dayOps
	apart := dayLength / (dayOps / 3)
	m := results.Manifest{
		Scenario: "day", RunID: "day", Seed: 1, Speed: 1, Anchor: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Topology: top,
		Clients: []results.Client{
			{Name: "mta1", Kind: "mta", Nodes: []string{"sql1", "sql2"}},
			{Name: "webmail1", Kind: "webmail", Nodes: []string{"sql2", "sql1"}},
		},
		Trace: results.Trace{MessagesPerDay: dayOps / 3, Messages: int64(ops / 3)},
		Objectives: []results.Objective{
			{Name: "answered", TargetPPM: 999_000},
			{Name: "routing in time", Path: "routing", TargetPPM: 990_000, LatencyUS: 100_000},
			{Name: "deferred", TargetPPM: 999_000, Metric: results.MetricDeferred},
			{Name: "seconds", TargetPPM: 999_000, SliceUS: 1_000_000, SliceTargetPPM: 900_000},
		},
	}
	fault := func(i int) (id string, from, to time.Duration) {
		from = length * time.Duration(2*i+1) / (2 * dayFaults)
		return fmt.Sprint("f", i+1), from, from + length/(4*dayFaults)
	}
	for i := range dayFaults {
		id, from, _ := fault(i)
		m.Faults = append(m.Faults, results.PlannedFault{ID: id, Kind: "kill", Target: "sql1", AtUS: from.Microseconds()})
	}
	r, err := results.Create(dir, m, results.Inputs{})
	if err != nil {
		tb.Fatal(err)
	}
	event := func(at time.Duration, kind chaos.EventKind, name, fault, node string) {
		r.Event(chaos.Event{At: at, Kind: kind, Name: name, Fault: fault, Node: node})
	}
	event(0, chaos.KindPhase, "measure", "", "")
	for i := range dayFaults {
		id, from, to := fault(i)
		event(from, chaos.KindFault, chaos.StepInjected, id, "sql1")
		event(from+100*time.Millisecond, chaos.KindCluster, "Disconnected", "", "sql1")
		event(from+200*time.Millisecond, chaos.KindFault, chaos.StepEffective, id, "sql1")
		event(to-time.Second, chaos.KindFault, chaos.StepRecovered, id, "sql1")
		event(to, chaos.KindFault, chaos.StepRedundant, id, "sql1")
	}
	event(length, chaos.KindPhase, "drain", "", "")

	const sql1, sql2 topology.ID = 4, 5
	rnd := rand.New(rand.NewPCG(12, 24))
	ends := ndberr.Result{Class: ndberr.Timeout, Effect: ndberr.MayHaveBeen, MySQL: 2013}
	refused := ndberr.Result{Class: ndberr.Connect, Effect: ndberr.NotApplied, MySQL: 2003, Retryable: true}
	var attempts [2]workload.Attempt
	record := func(s workload.Sample, node topology.ID, since time.Duration) {
		us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		s.Virtual = s.Intended
		// A sum of three is bell-shaped, its square has a tail; a few wait for a lock.
		took := 300 + (rnd.Int64N(30)+rnd.Int64N(30)+rnd.Int64N(30))*rnd.Int64N(90)
		if rnd.IntN(2000) == 0 {
			took += rnd.Int64N(1_500_000)
		}
		sent := s.Intended + us(20+rnd.Int64N(150))
		s.Outcome = workload.OK
		s.Attempts = append(attempts[:0], workload.Attempt{Node: node, Dispatched: sent, Ended: sent + us(took)})
		switch first := &s.Attempts[0]; {
		case since < 4*time.Second && node == sql1 && rnd.IntN(3) == 0:
			first.Ended, first.Result = sent+10*time.Second+us(rnd.Int64N(3000)), ends
			s.Outcome, s.Answer = workload.Failed, 0
		case since < 20*time.Second && node == sql1, rnd.IntN(5000) == 0:
			first.Ended, first.Result = sent+us(200+rnd.Int64N(200)), refused
			s.Outcome = workload.Retried
			s.Attempts = append(s.Attempts, workload.Attempt{Node: sql1 + sql2 - node, Dispatched: first.Ended + us(50), Ended: first.Ended + us(50+took)})
		}
		r.Record(&s)
	}
	next := 0
	since := dayLength
	for i := range ops / 3 {
		at := time.Duration(i)*apart + time.Duration(rnd.Int64N(int64(apart)))
		if next < dayFaults {
			if _, from, _ := fault(next); at >= from {
				next++
			}
		}
		if next > 0 {
			_, from, _ := fault(next - 1)
			since = at - from
		}
		message := uint64(i)
		record(workload.Sample{Message: message, Operation: reference.Route, Answer: uint8(routing.Local), Intended: at}, sql1, since)
		record(workload.Sample{Message: message, Operation: reference.CheckGreylist, Answer: uint8(greylist.New), Intended: at + 5*time.Millisecond}, sql1, since)
		last := workload.Sample{Message: message, Operation: reference.ReadPreferences, Answer: uint8(preferences.Found), Client: 1, Intended: at + 8*time.Millisecond}
		if i%4 == 0 {
			last.Operation, last.Answer, last.Client = reference.RouteDelivery, uint8(routing.Local), 0
		}
		record(last, sql2, since)
		if second := int64(at / time.Second); i == 0 || second > int64((at-apart)/time.Second) {
			r.Counter(results.CounterRow{
				AtUS: second * 1_000_000, Completed: int64(3 * i), CPUUS: int64(600 * 3 * i), InFlight: 1 + second%7,
				Nodes: map[string]results.NodeUsage{
					"sql1": {CPUUS: 200_000 * second, MemoryBytes: 300 << 20}, "sql2": {CPUUS: 100_000 * second, MemoryBytes: 300 << 20},
					"data1": {CPUUS: 300_000 * second, MemoryBytes: 900 << 20}, "data2": {CPUUS: 300_000 * second, MemoryBytes: 900 << 20},
				},
				Noise: &results.Noise{SchedP999US: 100 + second%50, GCPauseMaxUS: 90, StealUS: second * 10, MachineUS: 2_000_000 * second},
			})
		}
	}
	if err := r.Close(results.EndOfRun{At: length + 15*time.Second, Reason: results.Completed}); err != nil {
		tb.Fatal(err)
	}
}

// used is the processor time of all threads of the process, and the most memory
// that it has had, in MiB.
func used(tb testing.TB) (time.Duration, float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), float64(u.Maxrss) / 1024
}

// BenchmarkDayJudged judges a day of 12,000,000 ops and writes all that is made
// of it; with -short, a hundredth of it.
func BenchmarkDayJudged(b *testing.B) {
	ops := dayOps
	if testing.Short() {
		ops /= 100
	}
	dir := b.TempDir()
	recordDay(b, dir, ops)
	info, err := os.Stat(filepath.Join(dir, results.SamplesFile))
	if err != nil {
		b.Fatal(err)
	}
	before, _ := used(b)
	for b.Loop() {
		if _, err := Write(dir); err != nil {
			b.Fatal(err)
		}
	}
	after, resident := used(b)
	b.ReportMetric(resident, "resident-MiB")
	b.ReportMetric(float64((after-before).Nanoseconds())/float64(b.N*ops), "cpu-ns/sample")
	b.ReportMetric(float64(info.Size())/float64(ops), "bytes/sample")
}

// BenchmarkDayPeerJSONLines is what other harnesses do when a run is over: read a
// line of JSON for each op and keep a histogram of each path. The lines are those
// of a hundredth of a day, and say less than a sample.
func BenchmarkDayPeerJSONLines(b *testing.B) {
	type line struct {
		Path       string `json:"path"`
		Outcome    string `json:"outcome"`
		AtUS       int64  `json:"at_us"`
		ResponseUS int64  `json:"response_us"`
	}
	const ops = dayOps / 100
	dir := b.TempDir()
	recordDay(b, dir, ops)
	r, err := results.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for s, err := range r.Samples() {
		if err == nil {
			err = encoder.Encode(line{s.Operation.Path().String(), s.Outcome.String(), s.Intended.Microseconds(), s.Response().Microseconds()})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	before, _ := used(b)
	for b.Loop() {
		histograms := map[string]*hdrhistogram.Histogram{}
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		for decoder.More() {
			var l line
			if err := decoder.Decode(&l); err != nil {
				b.Fatal(err)
			}
			h := histograms[l.Path]
			if h == nil {
				h = hdrhistogram.New(1, results.MaxLatency.Microseconds(), 3)
				histograms[l.Path] = h
			}
			if err := h.RecordValue(l.ResponseUS); err != nil {
				b.Fatal(err)
			}
		}
	}
	after, _ := used(b)
	b.ReportMetric(float64((after-before).Nanoseconds())/float64(b.N*ops), "cpu-ns/sample")
	b.ReportMetric(float64(lines.Len())/ops, "bytes/sample")
}
