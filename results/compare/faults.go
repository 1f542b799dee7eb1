package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/mailbench/mailbench/results"
)

// FaultCost is what one repetition of a fault cost.
type FaultCost struct {
	OutageUS   int64 // the path that suffered longest
	BadOps     int64
	LostWrites int64 // acknowledged, and gone
}

// FaultOptions of a comparison. An increase matters from the share Effect of the
// base's median on, and from OutageUS or BadOps on, whichever is more.
type FaultOptions struct {
	Alpha      float64 // the most that one false alarm among all may be likely
	Confidence float64 // of the interval of each comparison
	Effect     float64
	OutageUS   int64
	BadOps     int64
}

// DefaultFaultOptions are false alarms in at most one of a hundred comparisons of
// equals, intervals of 95 %, and 25 % but at least 200 ms and 10 ops. The effects
// are assumed.
func DefaultFaultOptions() FaultOptions {
	return FaultOptions{Alpha: 0.01, Confidence: 0.95, Effect: 0.25, OutageUS: 200_000, BadOps: 10}
}

// mostRepetitions of a side are compared: the exact distribution of more takes
// long to count.
const mostRepetitions = 100

// FaultComparison is a measure of a kind of fault, compared. Values and changes
// are in the measure's own unit.
type FaultComparison struct {
	Finding
	Kind    string `json:"kind"`
	Measure string `json:"measure"` // outage_us, bad_ops, lost_writes

	NA int   `json:"n_a"` // repetitions
	NB int   `json:"n_b"`
	A  int64 `json:"a"` // the median; of lost writes, the sum
	B  int64 `json:"b"`

	// Shift is by how much the candidate's repetitions lie above the base's
	// (Hodges and Lehmann), Low and High its interval: null where so few
	// repetitions have none.
	Shift  *int64 `json:"shift"`
	Low    *int64 `json:"low"`
	High   *int64 `json:"high"`
	Effect int64  `json:"effect"`

	P         *results.Decimal `json:"p"`
	PAdjusted *results.Decimal `json:"p_adjusted"`
	// LeastP is the smallest p-value that so many repetitions can have at all,
	// were each of one side above each of the other.
	LeastP *results.Decimal `json:"least_p"`

	p float64 // before it is rounded
}

// Measures of a fault.
const (
	OutageMeasure = "outage_us"
	BadOpsMeasure = "bad_ops"
	LostMeasure   = "lost_writes"
)

// Faults compares what faults cost, kind by kind, over repetitions that are
// independent of each other. A candidate that lost an acknowledged write has the
// verdict DataLoss, however often it did not and whatever the base did.
func Faults(base, candidate map[string][]FaultCost, o FaultOptions) ([]FaultComparison, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	comparisons := []FaultComparison{}
	for _, kind := range union(base, candidate) {
		a, b := base[kind], candidate[kind]
		if max(len(a), len(b)) > mostRepetitions {
			return nil, fmt.Errorf("compare faults: %s has %d and %d repetitions; %d a side are compared at most", kind, len(a), len(b), mostRepetitions)
		}
		for side, costs := range [][]FaultCost{a, b} {
			for i, c := range costs {
				if min(c.OutageUS, c.BadOps, c.LostWrites) < 0 {
					return nil, fmt.Errorf("compare faults: repetition %d of %s in the %s has a cost below 0: %+v", i+1, kind, sideNames[side], c)
				}
			}
		}
		comparisons = append(comparisons,
			compareCosts(kind, OutageMeasure, a, b, o, o.OutageUS, func(c FaultCost) int64 { return c.OutageUS }),
			compareCosts(kind, BadOpsMeasure, a, b, o, o.BadOps, func(c FaultCost) int64 { return c.BadOps }),
			compareLosses(kind, a, b))
	}
	concludeFaults(comparisons, o)
	return comparisons, nil
}

func (o FaultOptions) validate() error {
	switch {
	case !(o.Alpha > 0 && o.Alpha < 0.5):
		return fmt.Errorf("compare faults: alpha is %v; it must lie between 0 and 0.5", o.Alpha)
	case !(o.Confidence > 0.5 && o.Confidence < 1):
		return fmt.Errorf("compare faults: confidence is %v; it must lie between 0.5 and 1", o.Confidence)
	case !(o.Effect >= 0) || o.OutageUS <= 0 || o.BadOps <= 0:
		return fmt.Errorf("compare faults: effects are %v, %d µs and %d ops; the first must not be below 0, the others must be above", o.Effect, o.OutageUS, o.BadOps)
	}
	return nil
}

func compareLosses(kind string, a, b []FaultCost) FaultComparison {
	c := FaultComparison{Kind: kind, Measure: LostMeasure, NA: len(a), NB: len(b)}
	for _, cost := range a {
		c.A += cost.LostWrites
	}
	for _, cost := range b {
		c.B += cost.LostWrites
	}
	switch {
	case c.B > 0:
		c.Verdict = DataLoss
	case len(b) == 0:
		c.Verdict, c.Why = Inconclusive, "the candidate has no repetition of it"
	default:
		c.Verdict = NoDifference
	}
	return c
}

func compareCosts(kind, measure string, a, b []FaultCost, o FaultOptions, floor int64, value func(FaultCost) int64) FaultComparison {
	c := FaultComparison{Kind: kind, Measure: measure, NA: len(a), NB: len(b)}
	c.Verdict = Inconclusive
	values := func(costs []FaultCost) []int64 {
		var v []int64
		for _, cost := range costs {
			v = append(v, value(cost))
		}
		return slices.Sorted(slices.Values(v))
	}
	va, vb := values(a), values(b)
	switch {
	case len(a) == 0:
		c.Why = "the base has no repetition of it"
		return c
	case len(b) == 0:
		c.Why = "the candidate has no repetition of it"
		return c
	}
	c.A, c.B = middle(va), middle(vb)
	c.Effect = max(floor, int64(o.Effect*float64(c.A)))
	var shifts []int64
	for _, x := range va {
		for _, y := range vb {
			shifts = append(shifts, y-x)
		}
	}
	slices.Sort(shifts)
	shift := middle(shifts)
	c.Shift = &shift
	c.p = rankSumP(va, vb)
	c.P, c.LeastP = decimal(c.p), decimal(leastRankSumP(len(va), len(vb)))
	if from := intervalRank(len(va), len(vb), o.Confidence); from > 0 {
		c.Low, c.High = &shifts[from-1], &shifts[len(shifts)-from]
	}
	return c
}

// concludeFaults judges what has a p-value, each in the knowledge of how many
// there are.
func concludeFaults(comparisons []FaultComparison, o FaultOptions) {
	var (
		tested []*FaultComparison
		p      []float64
	)
	for i := range comparisons {
		if c := &comparisons[i]; c.P != nil {
			tested = append(tested, c)
			p = append(p, c.p)
		}
	}
	for i, adjusted := range holm(p) {
		c := tested[i]
		c.PAdjusted = decimal(adjusted)
		low, high := math.Inf(-1), math.Inf(1)
		if c.Low != nil {
			low, high = float64(*c.Low), float64(*c.High)
		}
		c.Verdict = judge(float64(*c.Shift), low, high, float64(c.Effect), adjusted <= o.Alpha, 1)
		if c.Verdict != Inconclusive {
			continue
		}
		level := o.Alpha / float64(len(p))
		if leastRankSumP(c.NA, c.NB) > level {
			c.Why = fmt.Sprintf("%d against %d repetitions can find nothing at this level; take %d each or more", c.NA, c.NB, FewestRepetitions(len(p), o.Alpha))
		} else {
			c.Why = "an increase that matters can neither be shown nor ruled out; repeat more often"
		}
	}
}

// FewestRepetitions is how many repetitions each side needs at least to find
// anything at all at level alpha among so many comparisons (two a kind of
// fault): at 0.01, 5 for a single comparison, and 7 for up to 17.
func FewestRepetitions(comparisons int, alpha float64) int {
	n := 1
	for leastRankSumP(n, n) > alpha/float64(max(1, comparisons)) {
		n++
	}
	return n
}

// middle is the median of sorted values, rounded down between two.
func middle(sorted []int64) int64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	low, high := sorted[n/2-1], sorted[n/2]
	return low + (high-low)/2
}

// rankSumP is the exact two-sided p-value of the Wilcoxon and Mann-Whitney rank
// sum test: among all ways to choose which of all values are the candidate's, how
// many have a rank sum as far out as the one seen. Values that are alike share
// the mean of their ranks, so that ties are exact, too.
func rankSumP(a, b []int64) float64 {
	ranks := doubledRanks(a, b)
	seen := 0
	for _, y := range b {
		seen += ranks[y]
	}
	var all []int
	for _, values := range [][]int64{a, b} {
		for _, v := range values {
			all = append(all, ranks[v])
		}
	}
	below, above := 0.0, 0.0
	for sum, share := range rankSums(all, len(b)) {
		if sum <= seen {
			below += share
		}
		if sum >= seen {
			above += share
		}
	}
	return min(1, 2*min(below, above))
}

// doubledRanks are twice the mid-ranks, which are whole.
func doubledRanks(a, b []int64) map[int64]int {
	number := map[int64]int{}
	for _, values := range [][]int64{a, b} {
		for _, v := range values {
			number[v]++
		}
	}
	ranks, before := map[int64]int{}, 0
	for _, v := range slices.Sorted(maps.Keys(number)) {
		ranks[v] = 2*before + number[v] + 1
		before += number[v]
	}
	return ranks
}

// rankSums returns which share of all choices of n ranks has which sum.
func rankSums(ranks []int, n int) []float64 {
	total := 0
	for _, r := range ranks {
		total += r
	}
	ways := make([][]float64, n+1)
	for k := range ways {
		ways[k] = make([]float64, total+1)
	}
	ways[0][0] = 1
	most := 0
	for i, r := range ranks {
		most += r
		for k := min(n, i+1); k > 0; k-- {
			for sum := most; sum >= r; sum-- {
				ways[k][sum] += ways[k-1][sum-r]
			}
		}
	}
	all := 0.0
	for _, w := range ways[n] {
		all += w
	}
	for sum := range ways[n] {
		ways[n][sum] /= all
	}
	return ways[n]
}

// leastRankSumP is 2 of the ways to choose b of a+b.
func leastRankSumP(a, b int) float64 {
	ways := 1.0
	for i := 1; i <= b; i++ {
		ways *= float64(a+i) / float64(i)
	}
	return min(1, 2/ways)
}

// intervalRank returns which of the sorted a·b differences, from below and from
// above, bound the shift with the given confidence: the largest c for which a
// Mann-Whitney count below c has at most half of the rest as its chance (E. L.
// Lehmann, Nonparametric confidence intervals for a shift parameter, 1963). It
// returns 0 if there is none.
func intervalRank(a, b int, confidence float64) int {
	ranks := make([]int, a+b)
	for i := range ranks {
		ranks[i] = i + 1
	}
	least, chance, c := b*(b+1)/2, 0.0, 0
	sums := rankSums(ranks, b)
	for u := 0; u <= a*b; u++ {
		if chance += sums[least+u]; chance > (1-confidence)/2 {
			break
		}
		c = u + 1
	}
	return c
}
