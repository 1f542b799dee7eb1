package usl

import (
	"strings"
	"testing"
)

// Data sets that others have published.
var (
	// Made of lambda = 1 and sigma = kappa = 0.02, to four decimals (tests/coef.R of
	// the R package usl 3.0.3, by N. J. Gunther and S. Möding).
	madeUp = xy(1, 1, 2, 1.8868, 4, 3.0769, 6, 3.5294, 8, 3.5398, 10, 3.3557)

	// A ray tracer on an SGI Origin 2000 (Gunther 2007; dataset raytracer of the R
	// package).
	raytracer = xy(1, 20, 4, 78, 8, 130, 12, 170, 16, 190, 20, 200, 24, 210, 28, 230, 32, 260, 48, 280, 64, 310)

	// SPEC SDM91 on a Sun SPARCcenter 2000 (Gunther 2007; dataset specsdm91).
	sdm91 = xy(1, 64.9, 18, 995.9, 36, 1652.4, 72, 1853.2, 108, 1828.9, 144, 1775.0, 216, 1702.2)

	// From B. Schwartz, Practical Scalability Analysis with the Universal
	// Scalability Law, 2015, as in model_test.go of github.com/codahale/usl.
	schwartz = xy(
		1, 955.16, 2, 1878.91, 3, 2688.01, 4, 3548.68, 5, 4315.54, 6, 5130.43, 7, 5931.37, 8, 6531.08,
		9, 7219.8, 10, 7867.61, 11, 8278.71, 12, 8646.7, 13, 9047.84, 14, 9426.55, 15, 9645.37, 16, 9897.24,
		17, 10097.6, 18, 10240.5, 19, 10532.39, 20, 10798.52, 21, 11151.43, 22, 11518.63, 23, 11806, 24, 12089.37,
		25, 12075.41, 26, 12177.29, 27, 12211.41, 28, 12158.93, 29, 12155.27, 30, 12118.04, 31, 12140.4, 32, 12074.39,
	)
)

// Coefficients that others found are theirs by least squares of X and not of its
// ratio: where points are off the law at small N, lambda and sigma differ by more
// than intervals allow for, and kappa and the peak do not.
func TestPublishedExamples(t *testing.T) {
	const any = -1
	for _, row := range []struct {
		name                      string
		points                    []Point
		lambda, sigma, kappa      float64 // published, and to be in the interval
		peak                      float64
		noPeak                    string
		published                 law
		curve                     float64 // how far X may be from the published law at measured N
		residualFew, residualMost float64
	}{
		{name: "a table made of a known law gives the law back", points: madeUp, lambda: 1, sigma: 0.02, kappa: 0.02, peak: 7,
			curve: 1e-5, published: of(1, 0.02, 0.02), residualMost: 1e-5},
		// Möding's unbounded interval for kappa (usl 1.4) is -0.000121 to 0.00013.
		{name: "kappa that may be negative without bounds starts at 0, and there is no peak", points: raytracer, lambda: any, sigma: 0.05002394, kappa: 0.00000471,
			noPeak: "kappa may be 0", curve: 0.09, published: of(20, 0.05002394, 0.00000471), residualMost: 0.0804, residualFew: 0.08},
		{name: "a peak within the measured range is told", points: sdm91, lambda: any, sigma: any, kappa: 0.0001044, peak: 96.5,
			curve: 0.25, published: of(90, 0.02773, 0.0001044), residualMost: 0.087, residualFew: 0.086},
		// Schwartz has it at 35, and 32 is the largest N measured.
		{name: "a peak just beyond the measured range is not told", points: schwartz, lambda: any, sigma: any, kappa: 7.690945e-4,
			noPeak: "beyond N = 32", curve: 0.04, published: of(995.6486, 0.02671591, 7.690945e-4), residualMost: 0.041, residualFew: 0.04},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := Fit(row.points, DefaultOptions(1))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range []struct {
				name string
				got  Estimate
				want float64
			}{{"lambda", m.Lambda, row.lambda}, {"sigma", m.Sigma, row.sigma}, {"kappa", m.Kappa, row.kappa}} {
				if p.want != any && !holds(p.got, p.want) {
					t.Errorf("%s is %+v, published is %v", p.name, p.got, p.want)
				}
			}
			if row.noPeak == "" && (m.Peak == nil || !holds(m.Peak.N, row.peak)) {
				t.Errorf("peak is %+v %s, published is %v", m.Peak, m.NoPeak, row.peak)
			}
			if row.noPeak != "" && (m.Peak != nil || !strings.Contains(m.NoPeak, row.noPeak)) {
				t.Errorf("peak is %+v %q, want none: %q", m.Peak, m.NoPeak, row.noPeak)
			}
			if m.Residual > row.residualMost || m.Residual < row.residualFew {
				t.Errorf("the largest residual is %v, want %v to %v", m.Residual, row.residualFew, row.residualMost)
			}
			for _, p := range row.points {
				got, err := m.Predict(p.N)
				if err != nil {
					t.Fatal(err)
				}
				if want := row.published.throughput(p.N); got.X < want*(1-row.curve) || got.X > want*(1+row.curve) {
					t.Errorf("X(%v) is %v, of the published law %v", p.N, got.X, want)
				}
			}
		})
	}
}

func holds(e Estimate, truth float64) bool {
	return e.Low <= truth*(1+1e-5) && truth*(1-1e-5) <= e.High
}

// of is the law with these parameters.
func of(lambda, sigma, kappa float64) law {
	return law{(1 - sigma) / lambda, sigma / lambda, kappa / lambda}
}
