package compare

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
)

// model is a machine and a database as the simulations have them.
type model struct {
	name   string
	phi    float64 // autocorrelation of one op with the next, of the normal scores
	pareto bool    // tail of Pareto with alpha 2, whose variance is infinite; else log-normal
	drift  float64 // standard deviation of the step from one pair to the next, of the logarithm
	noise  float64 // the same of a segment around its pair
	stalls float64 // a segment, of 50 to 300 ms, in which everything waits
	bad    float64 // share of bad ops, in clusters as the latencies are
}

const opsPerSecond = 500

var models = []model{
	{name: "independent ops, log-normal", bad: 0.0005},
	{name: "independent ops, Pareto", pareto: true},
	{name: "AR(1) 0.9, drifting machine, log-normal", phi: 0.9, drift: 0.05, noise: 0.01, bad: 0.0005},
	{name: "AR(1) 0.9, drifting machine, Pareto", phi: 0.9, pareto: true, drift: 0.05, noise: 0.01, bad: 0.0005},
	{name: "AR(1) 0.98, drifting machine, Pareto", phi: 0.98, pareto: true, drift: 0.1, noise: 0.02},
	{name: "AR(1) 0.9, Pareto, stalls", phi: 0.9, pareto: true, noise: 0.01, stalls: 0.2, bad: 0.0005},
}

// latency is the quantile function of a calm op, in microseconds.
func (m model) latency(z float64) float64 {
	if m.pareto {
		return 500 / math.Sqrt(max(1e-12, math.Erfc(z/math.Sqrt2)/2))
	}
	return 800 * math.Exp(0.4*z)
}

// pairs records n pairs of segments of ops each. change is what the candidate
// makes of an op: its score and the latency that the base would have.
func (m model) pairs(rnd *rand.Rand, n, ops int, change func(i int, z, us float64) float64) []Pair {
	pairs := make([]Pair, n)
	level := 0.0
	for i := range pairs {
		level += m.drift * rnd.NormFloat64()
		trend := 0.2 * m.drift * rnd.NormFloat64() // from the first segment to the second
		p := &pairs[i]
		p.BFirst = i%2 == 1
		base := func(_ int, _, us float64) float64 { return us }
		first, second := &p.A, &p.B
		changes := []func(int, float64, float64) float64{base, change}
		if p.BFirst {
			first, second = second, first
			changes[0], changes[1] = changes[1], changes[0]
		}
		*first = m.segment(rnd, ops, level, changes[0])
		*second = m.segment(rnd, ops, level+trend, changes[1])
	}
	return pairs
}

func (m model) segment(rnd *rand.Rand, ops int, level float64, change func(int, float64, float64) float64) Segment {
	factor := math.Exp(level + m.noise*rnd.NormFloat64())
	s := Segment{DurationUS: int64(ops) * 1e6 / opsPerSecond, Ops: make([]Op, ops)}
	innovation := math.Sqrt(1 - m.phi*m.phi)
	z := rnd.NormFloat64()
	for i := range s.Ops {
		if m.phi > 0 {
			z = m.phi*z + innovation*rnd.NormFloat64()
		} else {
			z = rnd.NormFloat64()
		}
		s.Ops[i].LatencyUS = int64(factor * change(i, z, m.latency(z)))
		if m.bad > 0 && z > 2.5 { // 0.62 % of all
			s.Ops[i].Bad = rnd.Float64() < m.bad/0.0062
		}
	}
	for rnd.Float64() < m.stalls {
		const gap = 1e6 / opsPerSecond
		at, left := rnd.IntN(ops), 50e3+rnd.Float64()*250e3
		for ; left > 0 && at < ops; at, left = at+1, left-gap {
			s.Ops[at].LatencyUS += int64(left)
		}
	}
	return s
}

// same is no change.
func same(_ int, _, us float64) float64 { return us }

// slower makes all ops slower by a factor.
func slower(factor float64) func(int, float64, float64) float64 {
	return func(_ int, _, us float64) float64 { return us * factor }
}

// longerTail leaves the fastest 90 % as they are and stretches what is beyond so
// that p99 is longer by the factor.
func (m model) longerTail(factor float64) func(int, float64, float64) float64 {
	const z90, z99 = 1.2815515655446004, 2.3263478740408408
	q90, q99 := m.latency(z90), m.latency(z99)
	power := math.Log(factor) / math.Log(q99/q90)
	return func(_ int, z, us float64) float64 {
		if z <= z90 {
			return us
		}
		return us * math.Pow(us/q90, power)
	}
}

// oneNodeSlower adds a constant to every other op: one of two SQL nodes.
func oneNodeSlower(us float64) func(int, float64, float64) float64 {
	return func(i int, _, base float64) float64 {
		if i%2 == 1 {
			return base + us
		}
		return base
	}
}

// trials calls f with a generator of its own for each trial, on all processors.
func trials[T any](n int, seed uint64, f func(rnd *rand.Rand) T) []T {
	results := make([]T, n)
	next := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				results[i] = f(rand.New(rand.NewPCG(seed, uint64(i))))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}
