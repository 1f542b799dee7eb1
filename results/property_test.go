package results

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// anyRecording records a minute and a half of anything: up to five faults whose
// windows may overlap, be empty or never close, and ops of all kinds.
func anyRecording(t *testing.T, dir string, rnd *rand.Rand) {
	t.Helper()
	m := testManifest(t)
	m.Faults, m.Objectives = nil, anyObjectives()
	within := func(d time.Duration) time.Duration {
		return time.Duration(rnd.Int64N(int64(d/time.Microsecond))) * time.Microsecond
	}
	const length = 90 * sec
	var events []chaos.Event
	for i := range rnd.IntN(6) {
		id := fmt.Sprint("f", i+1)
		m.Faults = append(m.Faults, PlannedFault{ID: id, Kind: "kill", Target: "sql1"})
		at := within(length)
		if rnd.IntN(8) == 0 {
			continue // not injected
		}
		events = append(events, step(at, id, "sql1", chaos.StepInjected))
		if rnd.IntN(5) > 0 {
			events = append(events, step(at+within(length/4), id, "sql1", chaos.StepRedundant))
		}
	}
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{At: 2 * sec, Kind: chaos.KindPhase, Name: "measure"})
	for _, e := range events {
		r.Event(e)
	}
	if rnd.IntN(4) > 0 {
		r.Event(chaos.Event{At: length - 5*sec, Kind: chaos.KindPhase, Name: "drain"})
	}
	operations := []reference.Operation{reference.Route, reference.CheckGreylist, reference.ReadPreferences, reference.SetPreference, reference.RouteDelivery, reference.ChangeAccount}
	for i := range 500 + rnd.IntN(2000) {
		s := op(uint64(rnd.IntN(i/2+1)), operations[rnd.IntN(len(operations))], uint8(rnd.IntN(6)), sql1+topology.ID(rnd.IntN(2)), within(length), within(sec/4))
		s.Recipient, s.Try = uint16(rnd.IntN(3)), uint16(rnd.IntN(3))
		if rnd.IntN(3) == 0 {
			s.Outcome = workload.Outcome(1 + rnd.IntN(int(workload.Unknown)))
			s.Attempts[0].Result = refused
			if s.Outcome == workload.Retried {
				s.Attempts = append(s.Attempts, workload.Attempt{Node: sql2, Dispatched: s.Attempts[0].Ended + within(sec), Ended: s.Attempts[0].Ended + sec})
			}
		}
		r.Record(&s)
	}
	if err := r.Close(EndOfRun{At: length, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
}

func anyObjectives() []Objective {
	return []Objective{
		{Name: "all", TargetPPM: 900_000},
		{Name: "none bad", Path: "routing", TargetPPM: million},
		{Name: "fast", Path: "greylist", TargetPPM: 700_000, LatencyUS: 100_000, Degraded: "good"},
		{Name: "seconds", TargetPPM: 900_000, SliceUS: million, SliceTargetPPM: 950_000},
		{Name: "slices", Path: "routing", TargetPPM: 900_000, SliceUS: 100_000, SliceTargetPPM: million},
		{Name: "deferred", TargetPPM: 900_000, Metric: MetricDeferred},
		{Name: "ungreylisted", TargetPPM: 900_000, Metric: MetricUngreylisted},
		{Name: "misrouted", TargetPPM: 900_000, Metric: MetricMisrouted},
		{Name: "lost", TargetPPM: 900_000, Metric: MetricLost},
	}
}

// Whatever happened, each bad event is charged once, and the spans of a window
// add up to it.
func TestWhatAlwaysHolds(t *testing.T) {
	recordings := 60
	if testing.Short() {
		recordings = 15
	}
	for seed := range recordings {
		dir := t.TempDir()
		anyRecording(t, dir, rand.New(rand.NewPCG(uint64(seed), 1)))
		run, budget, err := JudgeBudget(open(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		holdsBudget(t, seed, run, budget)
		charges := []Charge{run.Background}
		for _, f := range run.Faults {
			charges = append(charges, f.Charge)
		}
		holdsCharges(t, seed, run, charges)
		for _, f := range run.Faults {
			if f.InjectedAtUS == nil {
				continue
			}
			window := run.End.AtUS - *f.InjectedAtUS
			if f.RedundantAtUS != nil {
				window = min(window, *f.RedundantAtUS-*f.InjectedAtUS)
			}
			holdsSpans(t, fmt.Sprintf("seed %d, fault %s", seed, f.ID), f.Spans.OutageSpans, window)
			for name, p := range f.Paths {
				holdsSpans(t, fmt.Sprintf("seed %d, fault %s, path %s", seed, f.ID, name), p.OutageSpans, window)
				for node, o := range p.Nodes {
					holdsSpans(t, fmt.Sprintf("seed %d, fault %s, path %s, node %s", seed, f.ID, name, node), o, window)
				}
			}
			for name, us := range f.ToObjective {
				if us != nil && *us > window {
					t.Errorf("seed %d, fault %s: objective %s met after %d µs, the window has %d", seed, f.ID, name, *us, window)
				}
			}
		}
	}
}

func holdsCharges(t *testing.T, seed int, run *Run, charges []Charge) {
	t.Helper()
	var badOps int64
	for _, c := range charges {
		badOps += c.BadOps
	}
	if badOps != run.BadOps || badOps == 0 {
		t.Errorf("seed %d: %d bad ops are charged, %d there are", seed, badOps, run.BadOps)
	}
	for i, o := range run.Objectives {
		var bad int64
		for _, c := range charges {
			bad += c.Budgets[i].Bad
		}
		if o.Total == 0 || o.Bad == 0 {
			t.Errorf("seed %d, objective %s: %d events, %d of them bad: the recording tells nothing", seed, o.Name, o.Total, o.Bad)
		}
		if bad != o.Bad || o.Good+o.Bad != o.Total {
			t.Errorf("seed %d, objective %s: %d bad events are charged, %d there are, %d good, %d in all", seed, o.Name, bad, o.Bad, o.Good, o.Total)
		}
	}
}

// At its end a burn-down has spent what the run has, and it never goes back.
func holdsBudget(t *testing.T, seed int, run *Run, budget *Budget) {
	t.Helper()
	var sum Mail
	for i, o := range run.Objectives {
		d := budget.Objectives[i]
		last := len(d.Bad) - 1
		if d.Bad[last] != o.Bad || d.Total[last] != o.Total || fmt.Sprint(d.Spent[last]) != fmt.Sprint(o.BudgetSpent) || last >= burnDownPoints {
			t.Errorf("seed %d, objective %s: burned down to %d of %d, %v, in %d points; the run has %d of %d, %v",
				seed, o.Name, d.Bad[last], d.Total[last], d.Spent[last], last+1, o.Bad, o.Total, o.BudgetSpent)
		}
		if !slices.IsSorted(d.Bad) || !slices.IsSorted(d.Total) {
			t.Errorf("seed %d, objective %s: the burn-down goes back", seed, o.Name)
		}
	}
	for _, c := range append([]FaultResult{{Charge: run.Background}}, run.Faults...) {
		for _, m := range Metrics {
			*sum.of(m) += *c.Mail.of(m)
		}
	}
	if sum != run.Mail.Mail {
		t.Errorf("seed %d: mail %+v is charged, %+v there is", seed, sum, run.Mail.Mail)
	}
}

func holdsSpans(t *testing.T, what string, o OutageSpans, window int64) {
	t.Helper()
	sum := *o.FullOutage + *o.PartialOutage + *o.BrownOut + *o.Good + *o.Unmeasured
	for _, us := range []*int64{o.FullOutage, o.PartialOutage, o.BrownOut, o.Good, o.Unmeasured, o.Longest} {
		if *us < 0 || *us > window {
			t.Errorf("%s: a span of %d µs in a window of %d", what, *us, window)
		}
	}
	if sum != window {
		t.Errorf("%s: spans add up to %d µs, the window has %d", what, sum, window)
	}
}

// The fault that an op is charged to, and those whose windows hold a time, by
// their definitions.
func TestIndexOfFaults(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		tl := &timeline{}
		for range rnd.IntN(8) {
			f := &fault{}
			if rnd.IntN(6) > 0 {
				at := time.Duration(rnd.IntN(20))
				f.injected = &at
				if rnd.IntN(4) > 0 {
					to := at + time.Duration(rnd.IntN(10)) - 1
					f.redundant = &to
				}
			}
			tl.faults = append(tl.faults, f)
		}
		tl.index()
		from := time.Duration(rnd.IntN(24))
		to := from + time.Duration(rnd.IntN(6))
		want, open := -1, map[int]bool{}
		for i, f := range tl.faults {
			start, end, ok := f.window()
			if !ok {
				continue
			}
			if from >= start && from < end {
				open[i] = true
			}
			if to >= start && from <= end && (want < 0 || start >= *tl.faults[want].injected) {
				want = i
			}
		}
		if got := tl.faultDuring(from, to); got != want {
			t.Fatalf("%v to %v: charged to %d, want %d", from, to, got, want)
		}
		for i := range tl.openAt(from) {
			if !open[i] {
				t.Fatalf("at %v: fault %d is said to be open", from, i)
			}
			delete(open, i)
		}
		if len(open) > 0 {
			t.Fatalf("at %v: faults %v are open and not said to be", from, open)
		}
	}
}
