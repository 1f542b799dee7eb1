package compare

import (
	"math"
	"testing"
)

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
