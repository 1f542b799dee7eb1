package usl

import (
	"math"
	"math/rand/v2"
	"slices"
)

// stream tells the draws of this package from others with the same seed.
const stream = 0x75736c

// draws returns laws as they would have been fitted to other measurements of the
// same system at the same N: first within the bounds, then on each bound on which
// the law may lie. doc.go says how and why.
//
// Where c is not among the fitted terms, draws have it all the same: nothing says
// that it is 0.
func (d design) draws(y []float64, fitted terms, o Options) [][]law {
	free := d.solve(y, fitted)
	df := len(y) - 2
	if fitted == allTerms {
		df--
	}
	errors := make([]float64, len(y))
	mean := 0.0
	for i, r := range free.residual {
		if rest := 1 - free.leverage[i]; rest > 1e-9 { // else the fit goes through the point
			errors[i] = r / math.Sqrt(rest)
		}
		mean += errors[i] / float64(len(y))
	}
	base := make([]float64, len(y))
	for i := range y {
		errors[i] -= mean
		base[i] = y[i] * max(0.1, 1-free.residual[i])
	}

	rnd := rand.New(rand.NewPCG(o.Seed, stream))
	bounds := []terms{allTerms, withoutC, withoutB, onlyD}
	drawn := make([][]law, len(bounds))
	ends := make([]int, len(bounds)) // how many draws end on a bound
	again := make([]float64, len(y))
	for range o.Resamples {
		chi2 := 0.0
		for range df {
			z := rnd.NormFloat64()
			chi2 += z * z
		}
		scale := math.Sqrt(float64(df) / chi2)
		for i := range again {
			// X is drawn as the law's times 1 - error. That must not become 0,
			// which little else than a chi² of one degree of freedom leads to.
			again[i] = base[i] / max(0.1, 1-scale*errors[rnd.IntN(len(errors))])
		}
		all := d.candidates(again)
		within := best(all, allTerms)
		for k, bound := range bounds {
			drawn[k] = append(drawn[k], best(all, bound).law)
			if within.has&^bound == 0 {
				ends[k]++
			}
		}
	}
	kept := drawn[:1]
	for k := 1; k < len(bounds); k++ {
		if float64(ends[k]) > (1-o.Confidence)/2*float64(o.Resamples) {
			kept = append(kept, drawn[k])
		}
	}
	return kept
}

// estimate is what f says of the law. Its interval is between percentiles of the
// draws, and spans what f says.
func (m *Model) estimate(f func(law) float64) Estimate {
	e := Estimate{Value: f(m.law)}
	e.Low, e.High = e.Value, e.Value
	for _, laws := range m.draws {
		values := make([]float64, len(laws))
		for i, l := range laws {
			values[i] = f(l)
		}
		slices.Sort(values)
		out := int((1 - m.Options.Confidence) / 2 * float64(len(values)))
		e.Low, e.High = min(e.Low, values[out]), max(e.High, values[len(values)-1-out])
	}
	return Estimate{rounded(e.Value), rounded(e.Low), rounded(e.High)}
}
