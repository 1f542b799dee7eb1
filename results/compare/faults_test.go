package compare

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// The p-values are counted by hand, or those of published tables of the rank sum.
func TestRankSum(t *testing.T) {
	for _, row := range []struct {
		sentence string
		a, b     []int64
		want     float64
	}{
		{"3 above 3: 2 of 20 ways", []int64{1, 2, 3}, []int64{4, 5, 6}, 0.1},
		{"3 below 3, the same", []int64{4, 5, 6}, []int64{1, 2, 3}, 0.1},
		{"5 above 5: 2 of 252", []int64{1, 2, 3, 4, 5}, []int64{6, 7, 8, 9, 10}, 2.0 / 252},
		{"one exchanged: 4 of 252", []int64{1, 2, 3, 4, 6}, []int64{5, 7, 8, 9, 10}, 4.0 / 252},
		{"all alike", []int64{7, 7, 7}, []int64{7, 7}, 1},
		{"1 against 1 says nothing", []int64{1}, []int64{2}, 1},
		{"ties across sides: of the 6 ways, 3 have the sum or more", []int64{1, 2}, []int64{2, 2}, 1},
		{"5 of 10 with a critical rank sum of 17: P(W ≤ 17) is 4/252", []int64{4, 6, 8, 9, 10}, []int64{1, 2, 3, 5, 7}, 2 * 7.0 / 252},
	} {
		if got := rankSumP(row.a, row.b); math.Abs(got-row.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}
}

// Critical values of Mann-Whitney's U at 5 %, two-sided, as tables print them:
// the interval's rank is one more.
func TestIntervalRank(t *testing.T) {
	for _, row := range []struct{ a, b, critical int }{
		{3, 3, -1}, {4, 4, 0}, {5, 5, 2}, {6, 8, 8}, {10, 10, 23}, {20, 20, 127},
	} {
		if got := intervalRank(row.a, row.b, 0.95); got != row.critical+1 {
			t.Errorf("%d against %d: rank %d, want %d", row.a, row.b, got, row.critical+1)
		}
	}
}

func TestFewestRepetitions(t *testing.T) {
	for comparisons, want := range map[int]int{1: 5, 2: 6, 17: 7, 18: 8} {
		if got := FewestRepetitions(comparisons, 0.01); got != want {
			t.Errorf("%d comparisons need %d repetitions, want %d", comparisons, got, want)
		}
	}
}

// outages are n repetitions around a median, log-normal.
func outages(rnd *rand.Rand, n int, us float64) []FaultCost {
	costs := make([]FaultCost, n)
	for i := range costs {
		took := us * math.Exp(0.1*rnd.NormFloat64())
		costs[i] = FaultCost{OutageUS: int64(took), BadOps: int64(took / 20_000)}
	}
	return costs
}

func TestFaults(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	lossy := outages(rnd, 10, 1.5e6)
	lossy[4].LostWrites = 1
	for _, row := range []struct {
		sentence          string
		a, b              []FaultCost
		outage, bad, lost Verdict
		why               string
	}{
		{"ten alike", outages(rnd, 10, 1.5e6), outages(rnd, 10, 1.5e6), NoDifference, NoDifference, NoDifference, ""},
		{"half as long again", outages(rnd, 10, 1.5e6), outages(rnd, 10, 2.25e6), Regression, Regression, NoDifference, ""},
		{"half as long", outages(rnd, 10, 1.5e6), outages(rnd, 10, 0.75e6), Improvement, Improvement, NoDifference, ""},
		{"three cannot tell", outages(rnd, 3, 1.5e6), outages(rnd, 3, 9e6), Inconclusive, Inconclusive, NoDifference, "take 6 each or more"},
		{"longer, but less than matters", outages(rnd, 20, 1.5e6), outages(rnd, 20, 1.65e6), NoDifference, NoDifference, NoDifference, ""},
		{"one write lost in ten", outages(rnd, 10, 1.5e6), lossy, NoDifference, NoDifference, DataLoss, ""},
		{"the base lost it, too", lossy, lossy, NoDifference, NoDifference, DataLoss, ""},
		{"the candidate was not tried", outages(rnd, 10, 1.5e6), nil, Inconclusive, Inconclusive, Inconclusive, "the candidate has no repetition"},
		{"the base was not tried", nil, outages(rnd, 10, 1.5e6), Inconclusive, Inconclusive, NoDifference, "the base has no repetition"},
	} {
		got, err := Faults(map[string][]FaultCost{"kill": row.a}, map[string][]FaultCost{"kill": row.b}, DefaultFaultOptions())
		if err != nil || len(got) != 3 {
			t.Fatalf("%s: %v, %v", row.sentence, got, err)
		}
		if got[0].Verdict != row.outage || got[1].Verdict != row.bad || got[2].Verdict != row.lost {
			t.Errorf("%s: %s, %s, %s; want %s, %s, %s: %+v", row.sentence,
				got[0].Verdict, got[1].Verdict, got[2].Verdict, row.outage, row.bad, row.lost, got[0])
		}
		if !strings.Contains(got[0].Why, row.why) {
			t.Errorf("%s: %q, want %q", row.sentence, got[0].Why, row.why)
		}
	}
}

func TestFaultsRefuse(t *testing.T) {
	fine := map[string][]FaultCost{"kill": {{OutageUS: 1}}}
	for _, row := range []struct {
		sentence string
		base     map[string][]FaultCost
		change   func(*FaultOptions)
		want     string
	}{
		{"a cost below 0", map[string][]FaultCost{"kill": {{BadOps: -1}}}, func(*FaultOptions) {}, "repetition 1 of kill in the base"},
		{"too many", map[string][]FaultCost{"kill": make([]FaultCost, 101)}, func(*FaultOptions) {}, "101 and 1 repetitions"},
		{"a level of 0", fine, func(o *FaultOptions) { o.Alpha = 0 }, "alpha is 0"},
		{"a confidence of 1", fine, func(o *FaultOptions) { o.Confidence = 1 }, "confidence is 1"},
		{"no effect", fine, func(o *FaultOptions) { o.OutageUS = 0 }, "effects are"},
	} {
		o := DefaultFaultOptions()
		row.change(&o)
		if _, err := Faults(row.base, fine, o); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
}

// Alike kinds of faults must not raise an alarm more often than stated.
func TestFaultsRaiseFewFalseAlarms(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	alarms := 0
	for _, alarm := range trials(n, 6, func(rnd *rand.Rand) bool {
		base, candidate := map[string][]FaultCost{}, map[string][]FaultCost{}
		for _, kind := range []string{"kill", "pause", "partition"} {
			base[kind], candidate[kind] = outages(rnd, 8, 1.5e6), outages(rnd, 8, 1.5e6)
		}
		o := DefaultFaultOptions()
		o.Effect, o.OutageUS, o.BadOps = 0, 1, 1 // significance alone
		got, err := Faults(base, candidate, o)
		if err != nil {
			t.Error(err)
			return true
		}
		for _, c := range got {
			if c.Verdict == Regression || c.Verdict == Improvement {
				return true
			}
		}
		return false
	}) {
		if alarm {
			alarms++
		}
	}
	if most := mostAlarms(n, 0.01); alarms > most {
		t.Errorf("%d false alarms in %d, want %d at most", alarms, n, most)
	}
}

// mostAlarms is what n experiments at a level have at most, but once in a
// thousand.
func mostAlarms(n int, level float64) int {
	term := math.Pow(1-level, float64(n))
	sum, k := term, 0
	for sum < 0.999 {
		k++
		term *= float64(n-k+1) / float64(k) * level / (1 - level)
		sum += term
	}
	return k
}
