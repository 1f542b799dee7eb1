package compare

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/distribution"
)

var coverageTrials = flag.Int("coverage", 0, "print the coverage of all methods of interval, from so many trials each")

// contender is a way to make an interval, among which docs/decisions/0010 chose.
type contender struct {
	name     string
	interval func(d draws, confidence float64) (low, high float64)
}

// draws is what intervals are made of.
type draws struct {
	ratio                quantileRatio
	value, pairs, within float64
	df                   float64
	outer                []float64 // resampled pairs, sorted
	nested               []float64 // resampled pairs and blocks, sorted
	jackknife            []float64 // without one pair each
}

func student(se func(draws) float64) func(draws, float64) (float64, float64) {
	return func(d draws, confidence float64) (float64, float64) {
		return estimate{value: d.value, se: se(d), df: d.df}.interval(confidence)
	}
}

var contenders = []contender{
	{"percentile, pairs", func(d draws, c float64) (float64, float64) { return percentile(d.outer, (1-c)/2, (1+c)/2) }},
	{"BCa, pairs", bca},
	{"percentile, pairs and blocks", func(d draws, c float64) (float64, float64) { return percentile(d.nested, (1-c)/2, (1+c)/2) }},
	{"Student, pairs", student(func(d draws) float64 { return d.pairs })},
	{"Student, blocks", student(func(d draws) float64 { return d.within })},
	{"beyond a common limit", func(d draws, c float64) (float64, float64) { return d.ratio.exceedanceInterval(d.value, c) }},
	{"Student, the larger of pairs and blocks", student(func(d draws) float64 { return max(d.pairs, d.within) })},
	{"all three", func(d draws, c float64) (float64, float64) {
		e := estimate{value: d.value, se: max(d.pairs, d.within), df: d.df}
		e.low, e.high = d.ratio.exceedanceInterval(d.value, c)
		e.se = max(e.se, (e.high-e.low)/2/distribution.StudentQuantile((1-c)/2, d.df))
		return e.interval(c)
	}},
}

func percentile(sorted []float64, low, high float64) (float64, float64) {
	at := func(share float64) float64 {
		return sorted[min(len(sorted)-1, max(0, int(share*float64(len(sorted)))))]
	}
	return at(low), at(high)
}

// bca is Efron's bias-corrected and accelerated interval (Better bootstrap
// confidence intervals, 1987).
func bca(d draws, confidence float64) (float64, float64) {
	below, _ := slices.BinarySearch(d.outer, d.value)
	share := (float64(below) + 0.5) / (float64(len(d.outer)) + 1)
	z0 := normalQuantile(share)
	mean, cubes, squares := 0.0, 0.0, 0.0
	for _, v := range d.jackknife {
		mean += v / float64(len(d.jackknife))
	}
	for _, v := range d.jackknife {
		cubes += math.Pow(mean-v, 3)
		squares += math.Pow(mean-v, 2)
	}
	a := 0.0
	if squares > 0 {
		a = cubes / (6 * math.Pow(squares, 1.5))
	}
	at := func(p float64) float64 {
		z := z0 + normalQuantile(p)
		return math.Erfc(-(z0+z/(1-a*z))/math.Sqrt2) / 2
	}
	return percentile(d.outer, at((1-confidence)/2), at((1+confidence)/2))
}

func normalQuantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }

// draw makes what all contenders need of a quantile's ratio.
func draw(pairs []Pair, share float64, resamples int, rnd *rand.Rand) draws {
	n := len(pairs)
	s := Series{Pairs: pairs}
	var segments sides[[]Segment]
	for _, p := range s.Pairs {
		segments.a, segments.b = append(segments.a, p.A), append(segments.b, p.B)
	}
	counts := sides[*counted]{count(segments.a), count(segments.b)}
	m := &measured{Comparison: Comparison{Pairs: n}}
	ratio := m.quantile(segments, counts, share, 0.05).(quantileRatio)
	d := draws{ratio: ratio, within: m.estimate.se, df: float64(n - 1)}
	d.value, _ = ratio.scale(ones(n))
	d.outer = resample([]pooled{ratio}, n, resamples, rnd.Uint64())[0]
	d.pairs = standardError(d.outer, n)
	slices.Sort(d.outer)
	for i := range n {
		w := ones(n)
		w[i] = 0
		v, _ := ratio.scale(w)
		d.jackknife = append(d.jackknife, v)
	}
	var scratch []int32
	for range resamples {
		drawn := make([]int, n)
		for i := range drawn {
			drawn[i] = rnd.IntN(n)
		}
		var a, b float64
		a, scratch = inBlocks(segments.a, drawn, int(m.BlockOps), share, scratch, rnd)
		b, scratch = inBlocks(segments.b, drawn, int(m.BlockOps), share, scratch, rnd)
		d.nested = append(d.nested, math.Log(b/a))
	}
	slices.Sort(d.nested)
	return d
}

// inBlocks returns the quantile of drawn segments whose ops are drawn anew, too,
// in circular blocks.
func inBlocks(segments []Segment, drawn []int, block int, share float64, scratch []int32, rnd *rand.Rand) (float64, []int32) {
	clear(scratch)
	total := 0
	for _, i := range drawn {
		ops := segments[i].Ops
		total += len(ops)
		for got := 0; got < len(ops); {
			at := rnd.IntN(len(ops))
			for range min(block, len(ops)-got) {
				b := bucketOf(ops[at])
				if b >= len(scratch) {
					scratch = append(scratch, make([]int32, b+1-len(scratch))...)
				}
				scratch[b]++
				got++
				if at++; at == len(ops) {
					at = 0
				}
			}
		}
	}
	seen := 0
	for b, n := range scratch {
		if seen += int(n); float64(seen) >= share*float64(total) {
			return float64(results.RowEndUS(b, resolution)), scratch
		}
	}
	return math.NaN(), scratch
}

// TestCoverage prints the table of docs/decisions/0010.
func TestCoverage(t *testing.T) {
	if *coverageTrials == 0 {
		t.Skip("run with -coverage 1000 and look")
	}
	const ops, resamples = 1000, 400
	confidences := []float64{0.95, 0.99}
	for _, n := range []int{5, 10, 20} {
		for _, share := range []float64{0.5, 0.99} {
			for _, m := range []model{models[0], models[3], models[4], models[5]} {
				all := trials(*coverageTrials, 7, func(rnd *rand.Rand) draws {
					return draw(m.pairs(rnd, n, ops, same), share, resamples, rnd)
				})
				for _, c := range contenders {
					row := []string{fmt.Sprint(n), fmt.Sprintf("p%g", 100*share), m.name, c.name}
					for _, confidence := range confidences {
						held, width := 0, 0.0
						for _, d := range all {
							low, high := c.interval(d, confidence)
							if low <= 0 && 0 <= high {
								held++
							}
							width += (high - low) / float64(len(all))
						}
						row = append(row, fmt.Sprintf("%.1f", 100*float64(held)/float64(len(all))), fmt.Sprintf("%.3f", width))
					}
					fmt.Println("| " + strings.Join(row, " | ") + " |")
				}
			}
		}
	}
}
