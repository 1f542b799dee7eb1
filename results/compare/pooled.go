package compare

import (
	"math"
	"math/rand/v2"
	"sort"

	"github.com/mailbench/mailbench/results"
)

// A pooled statistic is made of all segments of a side together, each taken as
// often as its pair's weight says. On scale it is what is tested, shown is what
// is read.
type pooled interface {
	// scale returns the candidate's value less the base's; ok is false if one of
	// them has none.
	scale(weights []int32) (value float64, ok bool)
}

// resolution is the exponent of how many buckets latencies have for each power
// of two: 1024, none wider than 0.1 %, single microseconds up to 2 ms. Inside a
// bucket quantiles are interpolated.
const resolution = 10

// counted is what ops of one side took, by bucket and pair.
type counted struct {
	pairs int
	first int     // bucket
	below []int32 // below[b*pairs+i]: ops of pair i in buckets before first+b
	ops   []int   // of pair i
}

func count(segments []Segment) *counted {
	c := &counted{pairs: len(segments), ops: make([]int, len(segments))}
	last := -1
	for i, s := range segments {
		c.ops[i] = len(s.Ops)
		for _, op := range s.Ops {
			b := bucketOf(op)
			if last < 0 {
				c.first, last = b, b
			}
			c.first, last = min(c.first, b), max(last, b)
		}
	}
	if last < 0 {
		return c
	}
	c.below = make([]int32, (last-c.first+2)*c.pairs)
	for i, s := range segments {
		for _, op := range s.Ops {
			c.below[(bucketOf(op)-c.first+1)*c.pairs+i]++
		}
	}
	for k := c.pairs; k < len(c.below); k++ {
		c.below[k] += c.below[k-c.pairs]
	}
	return c
}

func bucketOf(op Op) int {
	return results.RowOf(min(op.LatencyUS, int64(results.MaxLatency.Microseconds())), resolution)
}

// quantile returns the latency, in microseconds, that the given share of ops
// does not exceed; NaN without any op.
func (c *counted) quantile(share float64, weights []int32) float64 {
	total := 0
	for i, n := range c.ops {
		total += n * int(weights[i])
	}
	if total == 0 {
		return math.NaN()
	}
	target := min(max(share, 0), 1) * float64(total)
	below := func(b int) float64 {
		sum := 0
		for i, n := range c.below[b*c.pairs : (b+1)*c.pairs] {
			sum += int(n) * int(weights[i])
		}
		return float64(sum)
	}
	last := len(c.below)/c.pairs - 2
	b := sort.Search(last, func(b int) bool { return below(b+1) >= target })
	// A whole number of microseconds was cut off: 7 stands for 7 up to 8.
	low := 0.0
	if bucket := c.first + b; bucket > 0 {
		low = float64(results.RowEndUS(bucket-1, resolution) + 1)
	}
	width := float64(results.RowEndUS(c.first+b, resolution)+1) - low
	before, within := below(b), below(b+1)-below(b)
	if within == 0 { // share 0
		return low
	}
	return low + width*min(max((target-before)/within, 0), 1)
}

// sides is the base and the candidate.
type sides[T any] struct{ a, b T }

// quantileRatio compares a quantile of both sides by its ratio's logarithm.
type quantileRatio struct {
	sides[*counted]
	share float64
}

func (q quantileRatio) scale(weights []int32) (float64, bool) {
	a, b := q.a.quantile(q.share, weights), q.b.quantile(q.share, weights)
	return logRatio(a, b)
}

// logRatio takes what is below 1 µs for 1 µs: that no op takes.
func logRatio(a, b float64) (float64, bool) {
	v := math.Log(max(b, 1)) - math.Log(max(a, 1))
	return v, !math.IsNaN(v)
}

// tally is how many ops of a pair count, of how much: good ops of seconds, bad
// ops of ops.
type tally struct{ hits, of []float64 }

func (t tally) rate(weights []int32, more float64) float64 {
	hits, of := more, 0.0
	for i, w := range weights {
		hits += float64(w) * t.hits[i]
		of += float64(w) * t.of[i]
	}
	return hits / of
}

// rateRatio compares rates by the logarithm of their ratio. Half an op more on
// both sides gives a side without any op a ratio, too.
type rateRatio struct{ sides[tally] }

func (r rateRatio) scale(weights []int32) (float64, bool) {
	v := math.Log(r.b.rate(weights, 0.5)) - math.Log(r.a.rate(weights, 0.5))
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

// shareDifference compares shares by their difference.
type shareDifference struct{ sides[tally] }

func (s shareDifference) scale(weights []int32) (float64, bool) {
	v := s.b.rate(weights, 0) - s.a.rate(weights, 0)
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

func ones(n int) []int32 {
	w := make([]int32, n)
	for i := range w {
		w[i] = 1
	}
	return w
}

// resample evaluates statistics over pairs drawn with replacement: a value a
// statistic and resample. Where a resample has none, NaN.
func resample(statistics []pooled, pairs, resamples int, seed uint64) [][]float64 {
	rnd := rand.New(rand.NewPCG(seed, uint64(pairs)))
	values := make([][]float64, len(statistics))
	for s := range values {
		values[s] = make([]float64, resamples)
	}
	weights := make([]int32, pairs)
	for r := range resamples {
		clear(weights)
		for range pairs {
			weights[rnd.IntN(pairs)]++
		}
		for s, statistic := range statistics {
			v, ok := statistic.scale(weights)
			if !ok {
				v = math.NaN()
			}
			values[s][r] = v
		}
	}
	return values
}

// standardError is the standard deviation of resampled values, mended for that
// pairs were drawn from n pairs and not from all there could be: the bootstrap's
// variance of a mean is (n-1)/n of the unbiased one.
func standardError(values []float64, n int) float64 {
	count, mean := 0.0, 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			count++
			mean += v
		}
	}
	if count < 2 || n < 2 {
		return math.NaN()
	}
	mean /= count
	squares := 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			squares += (v - mean) * (v - mean)
		}
	}
	return math.Sqrt(squares / (count - 1) * float64(n) / float64(n-1))
}
