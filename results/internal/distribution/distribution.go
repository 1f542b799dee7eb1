// Package distribution computes the tails of the distributions that intervals are
// made of.
package distribution

import "math"

// StudentTwoSided returns the chance that Student's t with df degrees of freedom is at
// least |t| away from 0: I_x(df/2, 1/2) at x = df/(df+t²)
// (Abramowitz and Stegun 26.7.1 with 26.5.27).
func StudentTwoSided(t, df float64) float64 {
	return IncompleteBeta(df/2, 0.5, df/(df+t*t))
}

// StudentQuantile returns the t that is exceeded with the chance upper, which is
// at most a half.
func StudentQuantile(upper, df float64) float64 {
	low, high := 0.0, 1.0
	for StudentTwoSided(high, df) > 2*upper && high < 1e12 {
		high *= 2
	}
	for range 100 {
		if middle := (low + high) / 2; StudentTwoSided(middle, df) > 2*upper {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// BetaQuantile returns the x that a value of the beta distribution with a and b, both
// above 0, is below with the chance p: I_x(a, b) = p.
func BetaQuantile(p, a, b float64) float64 {
	low, high := 0.0, 1.0
	for range 60 {
		if middle := (low + high) / 2; IncompleteBeta(a, b, middle) < p {
			low = middle
		} else {
			high = middle
		}
	}
	return high
}

// IncompleteBeta is the regularized incomplete beta function I_x(a, b), by its
// continued fraction (DLMF 8.17.22) with Lentz's algorithm.
func IncompleteBeta(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2): // the fraction converges fast on the other side only
		return 1 - IncompleteBeta(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a

	const tiny = 1e-300
	nonzero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c := 1.0
	d := 1 / nonzero(1-(a+b)*x/(a+1))
	h := d
	for i := 1; i < 1000; i++ {
		m := float64(i)
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / nonzero(1+even*d)
		c = nonzero(1 + even/c)
		h *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / nonzero(1+odd*d)
		c = nonzero(1 + odd/c)
		h *= d * c
		if math.Abs(d*c-1) < 1e-15 {
			break
		}
	}
	return front * h
}
