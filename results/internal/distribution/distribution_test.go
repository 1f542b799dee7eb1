package distribution

import (
	"math"
	"testing"
)

// The values are those of printed tables; the last two have closed forms: with
// one degree of freedom Student's t is Cauchy's distribution, with two
// P(|T|>t) = 1 - t/sqrt(2+t²).
func TestStudent(t *testing.T) {
	for _, row := range []struct {
		sentence         string
		t, df, p, within float64
	}{
		{"at 0 both sides are everything", 0, 7, 1, 1e-12},
		{"97.5 % with 19 degrees of freedom", 2.0930, 19, 0.05, 5e-6},
		{"99.95 % with 9 degrees of freedom", 4.7809, 9, 0.001, 5e-8},
		{"97.5 % with very many is the normal's 1.96", 1.959964, 1e7, 0.05, 1e-6},
		{"one degree of freedom: 1 - 2/π·atan(100)", 100, 1, 1 - 2/math.Pi*math.Atan(100), 1e-12},
		{"two degrees of freedom", 3, 2, 1 - 3/math.Sqrt(11), 1e-12},
	} {
		if got := StudentTwoSided(row.t, row.df); math.Abs(got-row.p) > row.within {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.p)
		}
		if row.t == 0 {
			continue
		}
		if got := StudentQuantile(row.p/2, row.df); math.Abs(got/row.t-1) > 1e-4 {
			t.Errorf("%s: t is %v, want %v", row.sentence, got, row.t)
		}
	}
}

// The interval of Clopper and Pearson for 4 of 20 is in many textbooks; that of none of n
// has a closed form, 1-0.025^(1/n).
func TestBetaQuantile(t *testing.T) {
	for _, row := range []struct {
		sentence              string
		p, a, b, want, within float64
	}{
		{"the even distribution's is p itself", 0.3, 1, 1, 0.3, 1e-12},
		{"4 of 20, lower bound", 0.025, 4, 17, 0.057334, 1e-6},
		{"4 of 20, upper bound", 0.975, 5, 16, 0.436614, 1e-6},
		{"none of 3000", 0.975, 1, 3000, 1 - math.Pow(0.025, 1.0/3000), 1e-10},
		{"not a whole number of events", 0.5, 0.5, 0.5, 0.5, 1e-9},
	} {
		if got := BetaQuantile(row.p, row.a, row.b); math.Abs(got-row.want) > row.within {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}
}
