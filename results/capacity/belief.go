package capacity

import "math"

const (
	// fineness is how many capacities are weighed between two rates.
	fineness = 2
	// hiccup is the chance that a step misses or meets a rate for a reason that has
	// nothing to do with it.
	hiccup = 0.01
	// doubt may be left that the capacity is not between the edges.
	doubt = 0.04
)

// noises are the standard deviations between steps that are weighed: what a system can do
// is not the same in two of them. A share of it; on shared virtual machines a tenth was seen
// (docs/decisions/0012-rates-on-one-warm-cluster.md).
var noises = [...]float64{0.005, 0.02, 0.05, 0.08, 0.12}

// outside returns how likely it is that the capacity is below one rate, or above another,
// given all steps that came to a result. It is Bayes' rule over capacities and noises
// that are all as likely beforehand, as in the adaptive methods of psychophysics (A. B. Watson
// and D. G. Pelli, QUEST, Perception & Psychophysics 33, 1983; L. L. Kontsevich and C. W. Tyler,
// Vision Research 39, 1999): a step meets its rate with the chance that the capacity,
// which is normally distributed between steps, is above it then.
func (h *history) outside(lower, upper int) (below, above float64) {
	// Further away no noise makes a difference.
	first, last := lower-h.grid.stride(), upper+h.grid.stride()
	cell := math.Log1p(float64(h.grid.ResolutionPPM) / million)
	total := 0.0
	for _, noise := range noises {
		for i := first * fineness; i <= last*fineness; i++ {
			capacity := float64(i) / fineness
			weight := 1.0
			for _, v := range h.tried {
				if v.k < first || v.k > last {
					continue
				}
				met := hiccup + (1-2*hiccup)*math.Erfc((float64(v.k)-capacity)*cell/noise/math.Sqrt2)/2
				weight *= math.Pow(met, float64(v.met)) * math.Pow(1-met, float64(v.missed))
			}
			total += weight
			switch {
			case capacity < float64(lower):
				below += weight
			case capacity > float64(upper):
				above += weight
			}
		}
	}
	return below / total, above / total
}
