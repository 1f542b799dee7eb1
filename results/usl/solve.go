package usl

import (
	"math"
	"slices"
)

// law is N/X as a function of N, which Little's law calls the mean residence
// time: d + b·N + c·N(N-1). It is Gunther's law with the denominator multiplied
// out: lambda = 1/(d+b), sigma = b/(d+b), kappa = c/(d+b). What he bounds
// (0 <= sigma <= 1, kappa >= 0, lambda > 0) is here that no part is negative and
// that d+b is not 0.
type law struct{ d, b, c float64 }

func (l law) residence(n float64) float64  { return l.d + l.b*n + l.c*n*(n-1) }
func (l law) throughput(n float64) float64 { return n / l.residence(n) }

func (l law) lambda() float64 { return 1 / (l.d + l.b) }
func (l law) sigma() float64  { return l.b / (l.d + l.b) }
func (l law) kappa() float64  { return l.c / (l.d + l.b) }

// peak is sqrt((1-sigma)/kappa) (Gunther 2007, equation 4.33), infinite without
// crosstalk.
func (l law) peak() float64 {
	if l.c == 0 {
		return math.Inf(1)
	}
	return math.Sqrt(l.d / l.c)
}

// design is the columns 1, N and N(N-1) at the measured N, or N² in place of the
// last, which makes c a part of b: then kappa is at most sigma.
type design struct {
	n      []float64
	square bool
}

// terms is a set of d, b and c, in this order from the lowest bit.
type terms uint

const (
	onlyD    terms = 0b001
	withoutC terms = 0b011
	withoutB terms = 0b101
	allTerms terms = 0b111
)

func (d design) at(i, term int) float64 {
	n := d.n[i]
	switch {
	case term == 0:
		return 1
	case term == 1:
		return n
	case d.square:
		return n * n
	default:
		return n * (n - 1)
	}
}

func (d design) law(parts [3]float64) law {
	l := law{parts[0], parts[1], parts[2]}
	if d.square {
		l.b += l.c
	}
	return l
}

// negligible is the mean square of a residual that no measurement has: a term
// that mends less than that is none.
const negligible = 1e-18

// tiny is which part of the shortest measured residence time the one at N = 1 must
// exceed, so that lambda and kappa stay finite.
const tiny = 1e-9

// candidate is a law that fits best without bounds on the terms that it has, and
// keeps them all the same.
type candidate struct {
	law
	has terms
	sum float64 // mean of the residuals' squares
}

// candidates returns the laws of which one has, of all within the bounds, the
// least sum of squares of 1 - X/law(N), given y = N/X. That is linear in d, b and
// c, so that the sum is convex; the least one without bounds on some of the terms,
// the others left out, is the least within the bounds (C. L. Lawson and R. J.
// Hanson, Solving Least Squares Problems, 1974, chapter 23). There are so few terms
// that all choices are tried, the simple ones first.
func (d design) candidates(y []float64) []candidate {
	floor := tiny * slices.Min(y)
	all := make([]candidate, 0, 6)
	for _, has := range []terms{0b001, 0b010, 0b011, 0b101, 0b110, 0b111} { // c alone has no lambda
		s := d.solve(y, has)
		if l := d.law(s.parts); s.within() && l.d+l.b > floor {
			all = append(all, candidate{l, has, s.sum / float64(len(y))})
		}
	}
	return all
}

// best is the candidate, of those that have only the allowed terms, which leaves
// least. One with d alone is always there.
func best(all []candidate, allowed terms) candidate {
	b := candidate{sum: math.Inf(1)}
	for _, c := range all {
		if c.has&^allowed == 0 && c.sum < b.sum-negligible {
			b = c
		}
	}
	return b
}

func (d design) fit(y []float64, allowed terms) law { return best(d.candidates(y), allowed).law }

// solution is a least-squares fit without bounds of some of the terms.
type solution struct {
	parts    [3]float64
	residual []float64 // 1 - X/law(N)
	leverage []float64 // of a point, the share of its own error that the fit follows
	sum      float64   // of the residuals' squares; infinite if the points do not tell the terms apart
}

func (s solution) within() bool {
	for _, p := range s.parts {
		if !(p >= 0) {
			return false
		}
	}
	return true
}

// solve uses modified Gram-Schmidt with the right-hand side as one more column,
// which is as stable as Householder's method (Å. Björck, 1967).
func (d design) solve(y []float64, choice terms) solution {
	s := solution{residual: make([]float64, len(y)), leverage: make([]float64, len(y))}
	for i := range s.residual {
		s.residual[i] = 1
	}
	var q [3][]float64
	var r [3][3]float64
	var z [3]float64
	var done []int
	for term := range 3 {
		if choice>>term&1 == 0 {
			continue
		}
		column := make([]float64, len(y))
		for i := range y {
			column[i] = d.at(i, term) / y[i]
		}
		whole := math.Sqrt(dot(column, column))
		for _, before := range done {
			r[before][term] = dot(q[before], column)
			subtract(column, r[before][term], q[before])
		}
		norm := math.Sqrt(dot(column, column))
		if !(norm > whole*1e-9) {
			s.sum = math.Inf(1)
			return s
		}
		for i := range column {
			column[i] /= norm
			s.leverage[i] += column[i] * column[i]
		}
		q[term], r[term][term] = column, norm
		z[term] = dot(column, s.residual)
		subtract(s.residual, z[term], column)
		done = append(done, term)
	}
	for k := len(done) - 1; k >= 0; k-- {
		term := done[k]
		part := z[term]
		for _, after := range done[k+1:] {
			part -= r[term][after] * s.parts[after]
		}
		s.parts[term] = part / r[term][term]
	}
	s.sum = dot(s.residual, s.residual)
	return s
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// subtract takes factor times b from a.
func subtract(a []float64, factor float64, b []float64) {
	for i := range a {
		a[i] -= factor * b[i]
	}
}
