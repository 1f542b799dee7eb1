package compare

import (
	"math"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/distribution"
)

// mostShift is the largest logarithm of a ratio that is searched: a factor of
// 160 000.
const mostShift = 12

// shareBelow sets, by pair, which share of the pair's ops took less than
// us microseconds: NaN for a pair without any.
func (c *counted) shareBelow(us float64, shares []float64) {
	buckets := len(c.below)/c.pairs - 1
	b := results.RowOf(int64(min(max(us, 0), float64(results.MaxLatency.Microseconds()))), resolution) - c.first
	part := 0.0
	switch {
	case b < 0:
		b = 0
	case b >= buckets:
		b = buckets
	default:
		low := 0.0
		if bucket := c.first + b; bucket > 0 {
			low = float64(results.RowEndUS(bucket-1, resolution) + 1)
		}
		part = (us - low) / (float64(results.RowEndUS(c.first+b, resolution)+1) - low)
	}
	for i, n := range c.ops {
		count := float64(c.below[b*c.pairs+i])
		if part > 0 {
			count += part * float64(c.below[(b+1)*c.pairs+i]-c.below[b*c.pairs+i])
		}
		shares[i] = count / float64(n)
	}
}

// exceedance tests whether the candidate is the base, only exp(shift) times as
// slow, by how many ops of each pair are beyond one limit: the quantile of the
// base and the candidate, shifted back, together. It returns Student's t of the
// differences over pairs.
//
// Where a quantile lies between two regimes, such as calm and stalled, it jumps
// from one to the other by chance, and its standard error says little. The shares
// beyond a common limit do not jump.
func (q quantileRatio) exceedance(shift float64) float64 {
	n := len(q.a.ops)
	a, b := make([]float64, n), make([]float64, n)
	stretch := math.Exp(shift)
	at := func(us float64) (share float64) {
		q.a.shareBelow(us, a)
		q.b.shareBelow(us*stretch, b)
		total := 0
		for i := range n {
			if q.a.ops[i] > 0 {
				share += a[i] * float64(q.a.ops[i])
			}
			if q.b.ops[i] > 0 {
				share += b[i] * float64(q.b.ops[i])
			}
			total += q.a.ops[i] + q.b.ops[i]
		}
		return share / float64(total)
	}
	low, high := 0.5, float64(results.MaxLatency.Microseconds())
	for high > low*(1+1e-5) {
		middle := math.Sqrt(low * high)
		if at(middle) < q.share {
			low = middle
		} else {
			high = middle
		}
	}
	at(high)
	count, mean, squares := 0.0, 0.0, 0.0
	for i := range n {
		if d := a[i] - b[i]; !math.IsNaN(d) {
			count++
			mean += d
			squares += d * d
		}
	}
	mean /= count
	switch variance := (squares/count - mean*mean) / (count - 1); {
	case mean == 0 || count < 2:
		return 0
	case variance > 0:
		return mean / math.Sqrt(variance)
	default:
		return math.Copysign(math.Inf(1), mean)
	}
}

// exceedanceInterval is which shifts around value exceedance does not reject with
// the given confidence.
func (q quantileRatio) exceedanceInterval(value, confidence float64) (low, high float64) {
	critical := distribution.StudentQuantile((1-confidence)/2, float64(len(q.a.ops)-1))
	edge := func(sign float64) float64 {
		rejected := func(shift float64) bool { return -sign*q.exceedance(shift) > critical }
		inside, step := value, 0.01
		for !rejected(inside + sign*step) {
			inside += sign * step
			if step *= 2; math.Abs(inside) > mostShift {
				return inside
			}
		}
		for range 12 { // to a 4000th of the step
			if step /= 2; !rejected(inside + sign*step) {
				inside += sign * step
			}
		}
		return inside
	}
	return edge(-1), edge(1)
}
