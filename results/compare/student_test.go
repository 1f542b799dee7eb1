package compare

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
		if got := twoSided(row.t, row.df); math.Abs(got-row.p) > row.within {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.p)
		}
		if row.t == 0 {
			continue
		}
		if got := studentQuantile(row.p/2, row.df); math.Abs(got/row.t-1) > 1e-4 {
			t.Errorf("%s: t is %v, want %v", row.sentence, got, row.t)
		}
	}
}

func TestHolm(t *testing.T) {
	for _, row := range []struct {
		sentence string
		p, want  []float64
	}{
		{"none", nil, nil},
		{"one stays as it is", []float64{0.03}, []float64{0.03}},
		{"the example of R's p.adjust: 4, 3, 2 and 1 times, and never below a smaller one",
			[]float64{0.01, 0.04, 0.03, 0.005}, []float64{0.03, 0.06, 0.06, 0.02}},
		{"none above 1", []float64{0.6, 0.7}, []float64{1, 1}},
		{"equals stay equal", []float64{0.01, 0.01}, []float64{0.02, 0.02}},
	} {
		got := holm(row.p)
		if len(got) != len(row.want) {
			t.Fatalf("%s: %v", row.sentence, got)
		}
		for i := range got {
			if math.Abs(got[i]-row.want[i]) > 1e-12 {
				t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
				break
			}
		}
	}
}
