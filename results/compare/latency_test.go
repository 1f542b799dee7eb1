package compare

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// flat is a segment of n ops that count up from us, bad ones last.
func flat(n int, us int64, bad int) Segment {
	s := Segment{DurationUS: 1e6, Ops: make([]Op, n)}
	for i := range s.Ops {
		s.Ops[i] = Op{LatencyUS: us + int64(i), Bad: i >= n-bad}
	}
	return s
}

func alternating(n int, pair func(i int) Pair) []Pair {
	pairs := make([]Pair, n)
	for i := range pairs {
		pairs[i] = pair(i)
		pairs[i].BFirst = i%2 == 1
	}
	return pairs
}

func find(t *testing.T, comparisons []Comparison, series, statistic string) Comparison {
	t.Helper()
	i := slices.IndexFunc(comparisons, func(c Comparison) bool { return c.Series == series && c.Statistic == statistic })
	if i < 0 {
		t.Fatalf("no %s of %s", statistic, series)
	}
	return comparisons[i]
}

func TestLatencies(t *testing.T) {
	calm := models[0]
	rnd := rand.New(rand.NewPCG(10, 10))
	simulated := func(n int, change func(int, float64, float64) float64) []Pair {
		return calm.pairs(rnd, n, 1000, change)
	}
	for _, row := range []struct {
		sentence  string
		pairs     []Pair
		statistic string
		verdict   Verdict
		why       string
	}{
		{"the same on both sides", simulated(20, same), "p50", NoDifference, ""},
		{"20 % slower", simulated(20, slower(1.2)), "p50", Regression, ""},
		{"20 % slower, in the tail, too", simulated(20, slower(1.2)), "p99", Regression, ""},
		{"20 % faster", simulated(20, slower(0.8)), "p50", Improvement, ""},
		{"2 % slower is significant and does not matter", simulated(20, slower(1.02)), "p50", NoDifference, ""},
		{"1000 ops a pair say nothing of p99.9 in 5 pairs", simulated(5, same), "p99.9", Inconclusive, "independent ops beyond the quantile; 10 are needed"},
		{"a single pair", simulated(1, slower(3)), "p50", Inconclusive, "1 pairs; at least 2"},
		{"no pair at all", nil, "p50", Inconclusive, "0 pairs"},
		{"five pairs cannot alarm, however much slower", simulated(5, slower(3)), "p50", Inconclusive, "5 pairs can find nothing at this level; take 11 or more"},
		{"one slow pair in 20 is not the candidate's doing", alternating(20, func(i int) Pair {
			if i == 3 {
				return Pair{A: flat(1000, 1000, 0), B: flat(1000, 50_000, 0)}
			}
			return Pair{A: flat(1000, 1000, 0), B: flat(1000, 1000, 0)}
		}), "p99", Inconclusive, "measure longer"},
		{"every tenth op turned bad", alternating(20, func(int) Pair {
			return Pair{A: flat(1000, 1000, 0), B: flat(1000, 1000, 100)}
		}), "bad_share", Regression, ""},
		{"every tenth op turned bad: less throughput", alternating(20, func(int) Pair {
			return Pair{A: flat(1000, 1000, 0), B: flat(1000, 1000, 100)}
		}), "throughput", Regression, ""},
		{"no bad op in 20 000 leaves room for three in 20 000", alternating(20, func(int) Pair {
			return Pair{A: flat(1000, 1000, 0), B: flat(1000, 1000, 0)}
		}), "bad_share", NoDifference, ""},
		{"no bad op in 200 leaves too much room", alternating(20, func(int) Pair {
			return Pair{A: flat(10, 1000, 0), B: flat(10, 1000, 0)}
		}), "bad_share", Inconclusive, "neither be shown nor ruled out"},
		{"bad ops in one pair of 20 may be chance", alternating(20, func(i int) Pair {
			p := Pair{A: flat(1000, 1000, 0), B: flat(1000, 1000, 0)}
			if i == 7 {
				p.B = flat(1000, 1000, 500)
			}
			return p
		}), "bad_share", Inconclusive, ""},
		{"the candidate answers nothing", alternating(20, func(int) Pair {
			return Pair{A: flat(1000, 1000, 0), B: Segment{DurationUS: 1e6}}
		}), "throughput", Regression, ""},
		{"the candidate answers nothing: no latency to compare", alternating(20, func(int) Pair {
			return Pair{A: flat(1000, 1000, 0), B: Segment{DurationUS: 1e6}}
		}), "p50", Inconclusive, "0 independent ops"},
		{"nothing on both sides", alternating(20, func(int) Pair {
			return Pair{A: Segment{DurationUS: 1e6}, B: Segment{DurationUS: 1e6}}
		}), "throughput", Inconclusive, "the base has no ops"},
	} {
		got, err := Latencies([]Series{{Name: "routing", Pairs: row.pairs}}, DefaultOptions(1))
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		c := find(t, got, "routing", row.statistic)
		if c.Verdict != row.verdict || !strings.Contains(c.Why, row.why) {
			b, _ := json.Marshal(c)
			t.Errorf("%s: %s, %q; want %s, %q: %s", row.sentence, c.Verdict, c.Why, row.verdict, row.why, b)
		}
	}
}

func TestLatenciesRefuse(t *testing.T) {
	fine := alternating(2, func(int) Pair { return Pair{A: flat(10, 1, 0), B: flat(10, 1, 0)} })
	for _, row := range []struct {
		sentence string
		series   []Series
		change   func(*Options)
		want     string
	}{
		{"a name twice", []Series{{Name: "x", Pairs: fine}, {Name: "x", Pairs: fine}}, nil, `series "x" is there twice`},
		{"always the base first", []Series{{Name: "x", Pairs: make([]Pair, 0)}, {Name: "y", Pairs: []Pair{
			{A: flat(1, 1, 0), B: flat(1, 1, 0)}, {A: flat(1, 1, 0), B: flat(1, 1, 0)},
		}}}, nil, "B came first in 0 of 2 pairs"},
		{"a segment without a length", []Series{{Name: "x", Pairs: []Pair{{A: flat(1, 1, 0)}}}}, nil, "segment B of pair 1 lasts 0 µs"},
		{"a latency below 0", []Series{{Name: "x", Pairs: []Pair{{A: flat(1, -1, 0), B: flat(1, 1, 0)}}}}, nil, "segment A of pair 1 has an op of -1 µs"},
		{"few resamples", nil, func(o *Options) { o.Resamples = 99 }, "99 resamples"},
		{"a level of 1", nil, func(o *Options) { o.Alpha = 1 }, "alpha is 1"},
		{"no level", nil, func(o *Options) { o.Alpha = math.NaN() }, "alpha is NaN"},
		{"a confidence of 0.2", nil, func(o *Options) { o.Confidence = 0.2 }, "confidence is 0.2"},
		{"a confidence that outdoes the level", nil, func(o *Options) { o.Confidence = 0.999 }, "stricter than alpha"},
		{"no statistics", nil, func(o *Options) { o.Statistics = nil }, "no statistics"},
		{"an unknown statistic", nil, func(o *Options) { o.Statistics[0].Kind = "mean" }, `"mean" is unknown`},
		{"a quantile of everything", nil, func(o *Options) { o.Statistics[0].Permille = 1000 }, "1000 permille"},
		{"no effect", nil, func(o *Options) { o.Statistics[0].Effect = 0 }, "the effect of p50 is 0"},
		{"a statistic twice", nil, func(o *Options) { o.Statistics[1].Permille = 500 }, "p50 is there twice"},
	} {
		o := DefaultOptions(1)
		if row.change != nil {
			row.change(&o)
		}
		if _, err := Latencies(row.series, o); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
}

func TestLatenciesAreTheSameFromTheSameSeed(t *testing.T) {
	m := models[3]
	series := []Series{{Name: "routing", Pairs: m.pairs(rand.New(rand.NewPCG(1, 2)), 6, 300, same)}}
	run := func(seed uint64) []Comparison {
		got, err := Latencies(series, DefaultOptions(seed))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if a, b := run(1), run(1); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	if reflect.DeepEqual(run(1), run(2)) {
		t.Error("the seed changes nothing")
	}
}

// A quantile from buckets must be within 0.1 % of the exact one.
func TestQuantilesAreWithinTheirPrecision(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for _, m := range models {
		segments := []Segment{
			m.segment(rnd, 3000, 0, same),
			m.segment(rnd, 500, 0, same),
		}
		c := count(segments)
		for _, weights := range [][]int32{{1, 1}, {2, 1}, {0, 3}} {
			var all []int64
			for i, s := range segments {
				for range weights[i] {
					for _, op := range s.Ops {
						all = append(all, op.LatencyUS)
					}
				}
			}
			slices.Sort(all)
			for _, share := range []float64{0.5, 0.9, 0.99, 0.999} {
				exact := float64(all[int(math.Ceil(share*float64(len(all))))-1])
				got := c.quantile(share, weights)
				// Inside a microsecond, too, an op may lie anywhere.
				if got < exact*(1-1.0/1024) || got > (exact+1)*(1+1.0/1024) {
					t.Errorf("%s, weights %v: p%g is %v, exactly %v", m.name, weights, 100*share, got, exact)
				}
			}
		}
	}
}

func TestFewestPairs(t *testing.T) {
	for comparisons, want := range map[int]int{1: 8, 7: 11, 28: 13} {
		if got := FewestPairs(comparisons, 0.01); got != want {
			t.Errorf("%d comparisons need %d pairs, want %d", comparisons, got, want)
		}
	}
}

// What is said to be detectable with 95 % must be detected in 95 of 100
// experiments, whichever hurdle is the higher one.
func TestDetectableIsDetected(t *testing.T) {
	const n, experiments = 20, 20_000
	rnd := rand.New(rand.NewPCG(8, 8))
	for _, effect := range []float64{0.001, 0.05, 0.3} {
		const level, sd, power = 0.01, 0.1, 0.95
		planned := estimate{se: sd / math.Sqrt(n), df: n - 1, leastP: leastP(n)}
		truth := planned.detectable(level, effect, power)
		found := 0
		for range experiments {
			mean, squares := 0.0, 0.0
			for range n {
				v := truth + sd*rnd.NormFloat64()
				mean += v / n
				squares += v * v
			}
			e := planned
			e.value, e.se = mean, math.Sqrt((squares-n*mean*mean)/(n-1)/n)
			if e.p() <= level && e.value >= effect {
				found++
			}
		}
		if share := float64(found) / experiments; share < 0.93 || share > 0.975 {
			t.Errorf("effect %v: %v is found in %.3f of all experiments", effect, truth, share)
		}
	}
}

func BenchmarkLatencies(b *testing.B) {
	m := models[3]
	series := []Series{{Name: "routing", Pairs: m.pairs(rand.New(rand.NewPCG(1, 1)), 20, 10_000, same)}}
	for b.Loop() {
		if _, err := Latencies(series, DefaultOptions(1)); err != nil {
			b.Fatal(err)
		}
	}
}
