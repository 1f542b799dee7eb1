package results

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

const (
	sql1 topology.ID = 4
	sql2 topology.ID = 5
	ms               = time.Millisecond
	sec              = time.Second
)

var refused = ndberr.Result{Class: ndberr.Connect, Effect: ndberr.NotApplied, MySQL: 2003, Retryable: true}

func testManifest(t testing.TB) Manifest {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	return Manifest{
		Scenario: "two-kills", RunID: "test", Seed: 42, Speed: 10,
		Anchor:   time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC),
		Version:  map[string]string{"mysql": "8.4.0", "mailbench": "test"},
		Image:    Image{Name: "ndb:test", ID: "sha256:00"},
		Topology: top,
		Clients: []Client{
			{Name: "mta1", Kind: "mta", Nodes: []string{"sql1", "sql2"}},
			{Name: "webmail1", Kind: "webmail", Nodes: []string{"sql2", "sql1"}},
		},
		Trace:      Trace{SHA256: "aa", MessagesPerDay: 4_000_000, Messages: 6000},
		PlanSHA256: "bb",
		Faults: []PlannedFault{
			{ID: "f1", Kind: "kill-node", Target: "sql1", AtUS: 10_000_000},
			{ID: "f2", Kind: "kill-node", Target: "data1", AtUS: 30_000_000},
		},
		Objectives: []Objective{
			{Name: "mail flows", TargetPPM: 900_000},
			{Name: "routing is fast", Path: "routing", TargetPPM: 990_000, LatencyUS: 100_000},
			{Name: "greylisting answers", Path: "greylist", TargetPPM: 950_000, Degraded: "good"},
		},
		Bounds: Bounds{LagP999US: 5000},
	}
}

// op is a sample with one attempt.
func op(message uint64, o reference.Operation, answer uint8, node topology.ID, at, took time.Duration) workload.Sample {
	return workload.Sample{
		Message: message, Operation: o, Virtual: 10 * at, Intended: at, Answer: answer, Outcome: workload.OK,
		Attempts: []workload.Attempt{{Node: node, Dispatched: at + 50*time.Microsecond, Ended: at + took}},
	}
}

func step(at time.Duration, fault, node, name string) chaos.Event {
	return chaos.Event{At: at, Kind: chaos.KindFault, Name: name, Fault: fault, Node: node}
}

// twoKills records a minute, from 1 s to 61 s, with a message each 10 ms
// (routed, and greylisted 5 ms later), a webmail read each 100 ms and a write
// each second.
//
//	f1 kills sql1: injected 10 s, counted as failed 10.2 s, effective 10.4 s,
//	   recovered 14 s, redundant 15 s.
//	   Mail fails from 10.0 to 11.5 s, and every second message until 13.0 s;
//	   the others are retried at sql2. Webmail asks sql2 and feels nothing.
//	f2 kills data1: injected 30 s, counted as failed 30.09 s, effective 30.1 s,
//	   recovered 40 s, redundant 42 s.
//	   Greylisting is degraded from 30.0 to 30.3 s.
//	One routing op at 50 s takes 2 s.
func twoKills(t testing.TB, dir string, m Manifest, end EndOfRun) {
	t.Helper()
	r, err := Create(dir, m, Inputs{Scenario: []byte("name: two-kills\n")})
	if err != nil {
		t.Fatal(err)
	}
	r.Costs(someCosts())
	r.Event(chaos.Event{At: 0, Kind: chaos.KindPhase, Name: "load"})
	r.Event(chaos.Event{At: 1 * sec, Kind: chaos.KindPhase, Name: "measure"})
	said := func(at time.Duration, name, node string) {
		r.Event(chaos.Event{At: at, Kind: chaos.KindCluster, Name: name, Node: node})
	}
	said(9*sec, "Disconnected", "sql1")
	said(10*sec+200*ms, "Disconnected", "sql1") // before the harness was told that it has done it
	r.Event(step(10*sec, "f1", "sql1", chaos.StepInjected))
	r.Event(step(10*sec+400*ms, "f1", "sql1", chaos.StepEffective))
	r.Event(step(13*sec, "f1", "sql1", chaos.StepRecover))
	r.Event(step(14*sec, "f1", "sql1", chaos.StepRecovered))
	r.Event(step(15*sec, "f1", "sql1", chaos.StepRedundant))
	r.Event(step(30*sec, "f2", "data1", chaos.StepInjected))
	said(30*sec+10*ms, "Disconnected", "data1")
	said(30*sec+50*ms, "NODE_FAILREP", "sql2")
	said(30*sec+90*ms, "NODE_FAILREP", "data1")
	said(30*sec+95*ms, "NODE_FAILREP", "data1") // by another node
	r.Event(step(30*sec+100*ms, "f2", "data1", chaos.StepEffective))
	r.Event(step(40*sec, "f2", "data1", chaos.StepRecovered))
	r.Event(step(42*sec, "f2", "data1", chaos.StepRedundant))
	r.Event(chaos.Event{At: 61 * sec, Kind: chaos.KindPhase, Name: "drain"})

	mail := func(s workload.Sample) {
		at := s.Intended
		switch {
		case at >= 10*sec && at < 11500*ms, at >= 11500*ms && at < 13*sec && s.Message%2 == 0:
			s.Outcome, s.Answer = workload.Failed, 0
			s.Attempts = []workload.Attempt{{Node: sql1, Dispatched: at, Ended: at + 300*time.Microsecond, Result: refused}}
		case at >= 11500*ms && at < 13*sec:
			s.Outcome = workload.Retried
			s.Attempts = []workload.Attempt{
				{Node: sql1, Dispatched: at, Ended: at + 300*time.Microsecond, Result: refused},
				{Node: sql2, Dispatched: at + 1*ms, Ended: at + 3*ms},
			}
		case at >= 30*sec && at < 30300*ms && s.Operation == reference.CheckGreylist:
			s.Outcome, s.Answer = workload.Degraded, 0
			s.Attempts[0].Result = ndberr.Result{Class: ndberr.Temporary, Effect: ndberr.NotApplied, MySQL: 1297, NDB: 4010, Retryable: true}
		}
		r.Record(&s)
	}
	message := uint64(0)
	for at := 1 * sec; at < 61*sec; at += 10 * ms {
		took := 2 * ms
		if at == 50*sec {
			took = 2 * sec
		}
		mail(op(message, reference.Route, uint8(routing.Local), sql1, at, took))
		mail(op(message, reference.CheckGreylist, uint8(greylist.New), sql1, at+5*ms, 4*ms))
		if at%(100*ms) == 0 {
			s := op(message, reference.ReadPreferences, uint8(preferences.Found), sql2, at+7*ms, 1*ms)
			s.Client = 1
			r.Record(&s)
		}
		if at%sec == 0 {
			s := op(message, reference.SetPreference, uint8(preferences.Saved), sql2, at+8*ms, 3*ms)
			s.Client = 1
			r.Record(&s)
			n := int64(at / sec)
			noise := Noise{SchedP999US: 120 + n, GCPauseMaxUS: 300 - n, ClockStepUS: -n, StealUS: 1000 * n, MachineUS: 2_000_000 * n}
			r.Counter(CounterRow{AtUS: at.Microseconds(), Completed: int64(message), CPUUS: 40 * int64(message), Noise: &noise})
		}
		message++
	}
	r.ReadBack(ReadBack{Node: "mta1", AtUS: 119_000_000, TookUS: 500_000, Keys: 60})
	r.LedgerSummary(LedgerSummary{Preference: {Acknowledged: 60, Verified: 60}})
	if err := r.Close(end); err != nil {
		t.Fatal(err)
	}
}

var completed = EndOfRun{At: 62 * sec, Reason: Completed}

// realistic is a stream of samples as a replay makes them: a few hundred ops a
// second, latencies of a lognormal shape, two clients, one retry in a thousand.
func realistic(n int) []workload.Sample {
	rnd := rand.New(rand.NewPCG(1, 2))
	samples := make([]workload.Sample, n)
	at := time.Duration(0)
	for i := range samples {
		at += time.Duration(rnd.ExpFloat64() * float64(3*ms))
		s := op(uint64(i/3), reference.Route, uint8(routing.Local), sql1, at, time.Duration(200+rnd.ExpFloat64()*1500)*time.Microsecond)
		s.Recipient = uint16(rnd.IntN(2))
		s.Try = uint16(max(0, rnd.IntN(6)-4))
		s.Client = uint8(rnd.IntN(2))
		s.Attempts[0].Node = sql1 + topology.ID(s.Client)
		s.Attempts[0].Dispatched = at + time.Duration(rnd.IntN(90))*time.Microsecond
		s.Virtual = 10 * (at + time.Duration(rnd.IntN(int(5*ms))))
		switch i % 3 {
		case 1:
			s.Operation, s.Answer = reference.CheckGreylist, uint8(1+rnd.IntN(3))
		case 2:
			s.Operation, s.Answer = reference.ReadPreferences, uint8(preferences.Found)
		}
		if rnd.IntN(1000) == 0 {
			first := s.Attempts[0]
			first.Result = refused
			s.Attempts = append([]workload.Attempt{first}, s.Attempts...)
			s.Outcome = workload.Retried
		}
		samples[i] = s
	}
	return samples
}
