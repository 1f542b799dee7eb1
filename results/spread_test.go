package results

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The ranks are those of published tables, and of R's
// qbinom(0.95, n, q) + 1.
func TestUpperRank(t *testing.T) {
	for _, row := range []struct {
		sentence    string
		n, permille int64
		want        int64
	}{
		{"four values say nothing of the median's upper bound: 1 - 0.5^4 is 93.75 %", 4, 500, 0},
		{"of five it is the largest: 1 - 0.5^5 is 96.875 %", 5, 500, 5},
		{"of ten the ninth: 98.93 %, the eighth has 94.53 %", 10, 500, 9},
		{"of twenty the fifteenth", 20, 500, 15},
		{"of a hundred the 59th", 100, 500, 59},
		{"58 values say nothing of p95", 58, 950, 0},
		{"of 59 it is the largest, the sample size of Wilks", 59, 950, 59},
		{"of 93 the last but one", 93, 950, 92},
		{"too many to be worked out", mostRanked + 1, 500, 0},
	} {
		if got := upperRank(row.n, row.permille); got != row.want {
			t.Errorf("%s: rank %d, want %d", row.sentence, got, row.want)
		}
	}
	for n, want := range map[int64]int64{1: 50, 5: 549, 20: 860, 58: 949, 59: 950, 299: 990} {
		if got := withinLargest(n); got != want {
			t.Errorf("of %d, %d thousandths are within the largest, want %d", n, got, want)
		}
	}
}

// The bound must hold in 95 of 100 experiments, and not in all of them: ranks are
// coarse, so that a little more is allowed.
func TestUpperBoundHolds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(95, 5))
	const experiments, n = 4000, 20
	held := 0
	for range experiments {
		values := make([]int64, n)
		for i := range values {
			values[i] = int64(rnd.ExpFloat64() * 1e6)
		}
		if *SpreadOf(values).MedianUpper >= 693_147 { // ln 2
			held++
		}
	}
	if share := held * 1000 / experiments; share < 950 || share > 990 {
		t.Errorf("the median's upper bound held in %d of 1000 experiments, want 979", share)
	}
}

func TestRepeatedFaults(t *testing.T) {
	us := func(n int64) *int64 { return &n }
	result := func(id, kind, target string, redundant, longest *int64) FaultResult {
		f := FaultResult{ID: id, Kind: kind, Target: target, InjectedAtUS: us(1), Spans: Spans{Redundant: redundant}}
		f.Paths = map[string]FaultPath{
			"routing":  {OutageSpans: OutageSpans{Longest: longest}},
			"greylist": {OutageSpans: OutageSpans{Longest: us(3)}},
		}
		return f
	}
	notInjected := result("f5", "kill", "data1", nil, nil)
	notInjected.InjectedAtUS = nil
	planned := []PlannedFault{{ID: "f1", Entry: 1}, {ID: "f2", Entry: 1}, {ID: "f3", Entry: 2}, {ID: "f5", Entry: 1}}
	got := repeatedFaults(planned, []FaultResult{
		result("f1", "kill", "data1", us(10), us(1)), result("f2", "kill", "data2", nil, us(7)),
		result("f3", "kill", "data1", us(30), us(1)), // of another entry: made once
		result("f4", "stop", "sql1", us(40), us(1)), notInjected,
		result("f6", "stop", "sql1", us(60), us(2)), // by hand: the same kind and target
	})
	var words []string
	for _, r := range got {
		words = append(words, fmt.Sprint(r.Kind, r.Faults, r.Longest.Median, r.Longest.Max, r.Redundant.N, r.Redundant.Max, r.Longest.MedianUpper == nil, r.Detect == nil))
	}
	want := []string{"kill[f1 f2] 3 7 1 10 true true", "stop[f4 f6] 3 3 2 60 true true"}
	if !slices.Equal(words, want) {
		t.Errorf("repeated faults are %q, want %q", words, want)
	}
}
