package capacity

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

// station is a synthetic system with a known capacity: some servers, each of which takes
// the same time for every op, and one queue before them.
type station struct {
	service time.Duration
	free    []time.Duration // when each server is, in turn
	next    int
}

func newStation(servers int, service time.Duration) *station {
	return &station{service: service, free: make([]time.Duration, servers)}
}

// serve says when an op that comes at a time is done. Ops come in order, and since all
// take as long, they end in order and servers are free in turn.
func (q *station) serve(at time.Duration) time.Duration {
	end := max(at, q.free[q.next]) + q.service
	q.free[q.next] = end
	q.next = (q.next + 1) % len(q.free)
	return end
}

// perDay is its capacity.
func (q *station) perDay() float64 {
	return float64(len(q.free)) / q.service.Seconds() * 86_400
}

// offer makes the samples that a replay makes in open loop of arrivals without memory, one a message, and
// gives them away in the order of their ends until yield wants no more.
func offer(q *station, perDay int64, rnd *rand.Rand, yield func(*workload.Sample) bool) {
	mean := 86_400 * float64(sec) / float64(perDay)
	for at, n := time.Duration(0), uint64(0); ; n++ {
		at += time.Duration(mean * rnd.ExpFloat64())
		dispatched := at + 50*time.Microsecond
		s := workload.Sample{
			Message: n, Operation: reference.Route, Intended: at, Outcome: workload.OK, Answer: 1,
			Attempts: []workload.Attempt{{Node: 4, Dispatched: dispatched, Ended: q.serve(dispatched)}},
		}
		if !yield(&s) {
			return
		}
	}
}

// step does what a conductor does: it looks at a step from time to time, at what was
// intended before the last moments, and ends it as soon as it has found something. Last it looks
// at all.
func step(q *station, objectives []results.Objective, s Settings, perDay int64, rnd *rand.Rand) Finding {
	tally := NewTally(objectives, 5*ms, s, 0)
	grace := sec
	look := microseconds(s.SettleUS + s.MinStepUS)
	last := microseconds(s.SettleUS + s.MaxStepUS)
	var f Finding
	offer(q, perDay, rnd, func(sample *workload.Sample) bool {
		end := sample.Attempts[0].Ended
		for end > look && look < last {
			if f = tally.Look(look-grace, false); f.Outcome != Open {
				return false
			}
			look += microseconds(s.LookUS)
		}
		if sample.Intended >= last {
			f = tally.Look(last, false)
			return false
		}
		tally.Add(sample)
		return true
	})
	return f
}

// searchFor searches as a conductor does, each step on a system that has rested.
func searchFor(servers int, service time.Duration, objectives []results.Objective, s Settings, seed uint64) []Tried {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var tried []Tried
	for {
		perDay, more := Next(s, tried)
		if !more {
			return tried
		}
		f := step(newStation(servers, service), objectives, s, perDay, rnd)
		tried = append(tried, Tried{PerDay: perDay, Outcome: f.Outcome, Leaning: f.Leaning})
	}
}

// waitAtMost is the chance that an op waits no longer than t for one server that takes
// d for each and has a utilization of rho (M/D/1; A. K. Erlang, The theory of
// probabilities and telephone conversations, 1909).
func waitAtMost(t, d time.Duration, rho float64) float64 {
	lambda, sum := rho/float64(d), 0.0
	for k := 0; time.Duration(k)*d <= t; k++ {
		x := lambda * float64(time.Duration(k)*d-t)
		term := math.Exp(-x)
		for i := range k {
			term *= x / float64(i+1)
		}
		sum += term
	}
	return (1 - rho) * sum
}

// utilization is the highest one at which no more than a share of ops takes longer than
// the bound.
func utilization(bound, service time.Duration, share float64) float64 {
	low, high := 0.0, 1.0
	for range 50 {
		if rho := (low + high) / 2; 1-waitAtMost(bound-service, service, rho) <= share {
			low = rho
		} else {
			high = rho
		}
	}
	return low
}

func TestWaitAtMost(t *testing.T) {
	// The chance not to wait at all is 1-ρ; the mean wait is ρ/(2(1-ρ)) services (Pollaczek and Khinchin).
	if got := waitAtMost(0, ms, 0.6); math.Abs(got-0.4) > 1e-12 {
		t.Errorf("%v of ops do not wait, want 0.4", got)
	}
	mean := 0.0
	for i := range 2000 {
		mean += (1 - waitAtMost(time.Duration(i)*ms/100+ms/200, ms, 0.6)) / 100
	}
	if math.Abs(mean-0.75) > 0.001 {
		t.Errorf("ops wait for %v services on average, want 0.75", mean)
	}
}

// TestCapacitySynthetic searches for capacities that are known. The middle of the bracket
// is to be within 3 % of it, each time.
func TestCapacitySynthetic(t *testing.T) {
	for _, row := range []struct {
		sentence    string
		servers     int
		service     time.Duration
		bound       time.Duration // that 1 % of ops may pass
		length      time.Duration // of a step, at most
		utilization float64       // at the capacity
	}{
		// A wait of so many services is that of a queue which is full all but half a percent.
		{"one server may do all it can", 1, 2 * ms, sec, 120 * sec, 1},
		{"so may four", 4, 8 * ms, sec, 120 * sec, 1},
		{"an op may wait for eleven others", 1, 5 * ms, 60 * ms, 300 * sec, utilization(60*ms, 5*ms, 0.01)},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			s := Settings{
				ConfidencePPM: 950_000, ResolutionPPM: 15_000, SettleUS: 5_000_000, MinStepUS: 20_000_000,
				MaxStepUS: row.length.Microseconds(), LookUS: row.length.Microseconds() / 6,
				StartPerDay: 4_000_000, HighestPerDay: 400_000_000, LowestPerDay: 40_000, MaxSteps: 40,
			}
			objectives := []results.Objective{{Name: "routing", TargetPPM: 990_000, LatencyUS: row.bound.Microseconds()}}
			capacity := newStation(row.servers, row.service).perDay() * row.utilization
			steps, worst := 0, 0.0
			const seeds = 12
			for seed := range uint64(seeds) {
				tried := searchFor(row.servers, row.service, objectives, s, seed)
				met, missed, why, done := Bracket(s, tried)
				off := math.Sqrt(float64(met)*float64(missed))/capacity - 1
				if !done || math.Abs(off) > 0.03 {
					t.Errorf("seed %d: %d to %d messages a day after %d steps (done: %v, %s), want %.0f within 3 %%", seed, met, missed, len(tried), done, why, capacity)
				}
				steps += len(tried)
				worst = max(worst, math.Abs(off))
			}
			t.Logf("%.0f messages a day: found within %.1f %% by %.1f steps on average", capacity, 100*worst, float64(steps)/seeds)
		})
	}
}
