package compare

import (
	"math"
	"math/rand/v2"
	"testing"
)

// series marks ops whose autocorrelated score is above a limit.
func series(rnd *rand.Rand, n int, phi, limit float64) marks {
	z, innovation := rnd.NormFloat64(), math.Sqrt(1-phi*phi)
	return marksOf(n, func(int) bool {
		z = phi*z + innovation*rnd.NormFloat64()
		return z > limit
	})
}

func TestTogetherIsTheProductOfShiftedSeries(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 63, 64, 65, 200, 1000} {
		m := series(rnd, n, 0.8, 0)
		for _, lag := range []int{0, 1, 5, 63, 64, 65, 130, 999} {
			want := 0
			for i := 0; i+lag < n; i++ {
				want += m.at(i) * m.at(i+lag)
			}
			if got := m.together(lag); got != want {
				t.Errorf("%d ops, lag %d: %d, want %d", n, lag, got, want)
			}
		}
	}
}

// The closed form must be what resampling circular blocks comes to.
func TestBlockVarianceIsThatOfTheBootstrap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	const n, block, resamples = 600, 20, 20_000
	m := series(rnd, n, 0.8, 0.5)
	mean, squares := 0.0, 0.0
	for range resamples {
		set := 0
		for range n / block {
			at := rnd.IntN(n)
			for k := range block {
				set += m.at((at + k) % n)
			}
		}
		share := float64(set) / n
		mean += share / resamples
		squares += share * share / resamples
	}
	want := (squares - mean*mean) / (1 - float64(block)/n)
	if got := blockVariance([]marks{m}, block); math.Abs(got/want-1) > 0.03 {
		t.Errorf("variance is %v, and %v by resampling", got, want)
	}
}

// The variance of the share of marked ops over many series is the truth that the
// blocks of one must find.
func TestBlocksFindTheErrorOfAutocorrelatedOps(t *testing.T) {
	for _, row := range []struct {
		sentence    string
		phi, limit  float64
		least, most int // of a block
	}{
		{"independent ops need no blocks", 0, 2.326, 1, 4},
		{"half of what one op was is left in the next", 0.5, 1.282, 3, 40},
		{"nine tenths are left", 0.9, 1.282, 20, 150},
		{"nine tenths are left, and only the slowest hundredth counts", 0.9, 2.326, 15, 150},
	} {
		rnd := rand.New(rand.NewPCG(3, 3))
		const experiments, segments, n = 300, 5, 2000
		var mean, squares, found float64
		for range experiments {
			all, set := make([]marks, segments), 0
			for i := range all {
				all[i] = series(rnd, n, row.phi, row.limit)
				set += all[i].set
			}
			block := blockLength(all)
			if block < row.least || block > row.most {
				t.Fatalf("%s: blocks of %d ops, want %d to %d", row.sentence, block, row.least, row.most)
			}
			share := float64(set) / (segments * n)
			mean += share / experiments
			squares += share * share / experiments
			found += blockVariance(all, block) / experiments
		}
		// 300 experiments know the variance to 8 % (one standard error).
		if ratio := found / (squares - mean*mean); ratio < 0.75 || ratio > 1.3 {
			t.Errorf("%s: the variance that blocks find is %.2f of the true one", row.sentence, ratio)
		}
	}
}

func TestBlocksOfNothing(t *testing.T) {
	for sentence, segments := range map[string][]marks{
		"no segment":    nil,
		"an empty one":  {marksOf(0, nil)},
		"none marked":   {marksOf(100, func(int) bool { return false })},
		"all marked":    {marksOf(100, func(int) bool { return true })},
		"a single op":   {marksOf(1, func(int) bool { return true })},
		"empty and not": {marksOf(0, nil), marksOf(3, func(i int) bool { return i == 1 })},
	} {
		block := blockLength(segments)
		if v := blockVariance(segments, block); block < 1 || v < 0 || math.IsNaN(v) {
			t.Errorf("%s: block %d, variance %v", sentence, block, v)
		}
	}
}
