package compare

import (
	"math"
	"math/bits"
)

// marks says of each op of a segment, in order, whether something holds: that it
// took longer than a quantile, that it was bad. A bit an op makes products of
// shifted series cheap.
type marks struct {
	words []uint64
	n     int
	set   int
}

func marksOf(n int, holds func(int) bool) marks {
	m := marks{words: make([]uint64, (n+63)/64), n: n}
	for i := range n {
		if holds(i) {
			m.words[i/64] |= 1 << (i % 64)
			m.set++
		}
	}
	return m
}

func (m marks) at(i int) int { return int(m.words[i/64] >> (i % 64) & 1) }

// together counts the ops that are marked as well as the one lag ops before.
func (m marks) together(lag int) int {
	skip, shift, count := lag/64, lag%64, 0
	for i := 0; i+skip < len(m.words); i++ {
		later := m.words[i+skip] >> shift
		if shift > 0 && i+skip+1 < len(m.words) {
			later |= m.words[i+skip+1] << (64 - shift)
		}
		count += bits.OnesCount64(m.words[i] & later)
	}
	return count
}

// blockLength returns how many ops in a row a block must hold so that what ops
// have to do with each other stays inside blocks: the rule of D. N. Politis and
// H. White (Automatic block-length selection for the dependent bootstrap, 2004)
// with the correction of A. Patton, D. N. Politis and H. White (2009), for the
// circular block bootstrap: (2G²/D · n)^(1/3), where G = Σ λ(k/M)·|k|·R(k),
// D = 4/3·(Σ λ(k/M)·R(k))², λ is flat up to a half and falls to 0 at 1, and M is
// twice the first lag after which autocorrelations vanish.
//
// Autocovariances are taken from all segments of one side together, each around
// its own mean, so that a machine that drifts between segments makes no blocks.
func blockLength(segments []marks) int {
	total, filled := 0, 0
	for _, m := range segments {
		total += m.n
		if m.n > 0 {
			filled++
		}
	}
	if total == 0 {
		return 1
	}
	n := float64(total) / float64(filled) // ops a segment
	covariance := func(lag int) float64 {
		sum := 0.0
		for _, m := range segments {
			if m.n > lag {
				share := float64(m.set) / float64(m.n)
				sum += float64(m.together(lag)) - float64(m.n-lag)*share*share
			}
		}
		return sum / float64(total)
	}
	r := []float64{covariance(0)}
	if r[0] <= 0 {
		return 1
	}
	run := max(5, int(math.Ceil(math.Log10(n))))
	most := int(math.Ceil(math.Sqrt(n))) + run
	band := 2 * math.Sqrt(math.Log10(max(10, float64(total)))/float64(total)) * r[0]
	last := 0 // lag that still has autocorrelation
	for lag := 1; lag <= last+run && lag <= most; lag++ {
		r = append(r, covariance(lag))
		if math.Abs(r[lag]) > band {
			last = lag
		}
	}
	if last == 0 {
		return 1
	}
	m := min(2*last, most)
	for lag := len(r); lag <= m; lag++ {
		r = append(r, covariance(lag))
	}
	g, s := 0.0, r[0]
	for k := 1; k <= m; k++ {
		window := min(1, 2*(1-float64(k)/float64(m)))
		g += 2 * window * float64(k) * r[k]
		s += 2 * window * r[k]
	}
	length := math.Cbrt(2 * g * g / (4.0 / 3 * s * s) * n)
	return int(math.Ceil(max(1, min(length, 3*math.Sqrt(n), n/3))))
}

// blockVariance is the variance of the share of marked ops over all segments,
// as the circular block bootstrap (Politis and Romano 1992) gives it within
// segments: with S the sum over one of all n blocks of b ops, E(S-ES)²/(n·b) a
// segment. For a mean the resampling has this closed form, so nothing is drawn.
// 1-b/n mends what centring on the segment's own mean loses.
func blockVariance(segments []marks, block int) float64 {
	total := 0
	for _, m := range segments {
		total += m.n
	}
	variance := 0.0
	for _, m := range segments {
		if m.set == 0 || m.set == m.n {
			continue
		}
		b := min(block, max(1, m.n/3))
		mean := float64(m.set) / float64(m.n) * float64(b)
		squares := float64(m.set) // blocks of one op
		if b > 1 {
			sum := 0
			for i := range b {
				sum += m.at(i)
			}
			n := 0
			end := b
			for start := range m.n {
				n += sum * sum
				sum += m.at(end) - m.at(start)
				if end++; end == m.n {
					end = 0
				}
			}
			squares = float64(n)
		}
		n, w := float64(m.n), float64(m.n)/float64(total)
		variance += w * w * (squares/n - mean*mean) / (n * float64(b)) / (1 - float64(b)/n)
	}
	return variance
}
