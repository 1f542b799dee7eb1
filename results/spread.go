package results

import (
	"fmt"
	"math/big"
	"slices"
)

// Spread is how a quantity came out over repetitions: quantiles by nearest rank,
// so that each is one that was seen. With less than 20 values P95 is the largest.
//
// The upper bounds hold with 95 % confidence for all repetitions there could be,
// whatever their distribution (H. A. David, H. N. Nagaraja, Order Statistics,
// 3rd edition, section 7.1), as long as they are independent. They are values
// that were seen, too, and nil where there are too few: below 5 for the median,
// 59 for P95.
type Spread struct {
	N           int64  `json:"n"`
	Median      int64  `json:"median"`
	P95         int64  `json:"p95"`
	Max         int64  `json:"max"`
	MedianUpper *int64 `json:"median_upper"`
	P95Upper    *int64 `json:"p95_upper"`
	// WithinMax is the least share of all repetitions that stay within Max, in
	// thousandths and rounded down, with the same confidence.
	WithinMax int64 `json:"within_max_permille"`
}

// SpreadOf sums values up. It is nil without any.
func SpreadOf(values []int64) *Spread {
	if len(values) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(values))
	n := int64(len(sorted))
	rank := func(percent int64) int64 { return sorted[max(0, (n*percent+99)/100-1)] }
	upper := func(permille int64) *int64 {
		r := upperRank(n, permille)
		if r == 0 {
			return nil
		}
		return &sorted[r-1]
	}
	return &Spread{
		N: n, Median: rank(50), P95: rank(95), Max: sorted[n-1],
		MedianUpper: upper(500), P95Upper: upper(950), WithinMax: withinLargest(n),
	}
}

// mostRanked is how many values bounds are worked out of: the numbers have ten
// bits for each.
const mostRanked = 5000

// upperRank returns the smallest r for which the r-th smallest of n independent
// values is, with 95 % confidence, no less than the quantile: the chance that
// less than r values are below the quantile, a binomial sum, is at least 95 %.
// It returns 0 if no value will do, or if there are more than mostRanked.
func upperRank(n, permille int64) int64 {
	if n > mostRanked {
		return 0
	}
	below, above := big.NewInt(permille), big.NewInt(1000-permille)
	// term is C(n,i)·below^i·above^(n-i); all terms add up to 1000^n.
	term := new(big.Int).Exp(above, big.NewInt(n), nil)
	enough := new(big.Int).Exp(big.NewInt(1000), big.NewInt(n), nil)
	enough.Mul(enough, big.NewInt(95))
	sum, scaled, hundred := new(big.Int), new(big.Int), big.NewInt(100)
	for r := int64(1); r <= n; r++ {
		sum.Add(sum, term)
		if scaled.Mul(sum, hundred).Cmp(enough) >= 0 {
			return r
		}
		term.Mul(term, big.NewInt(n-r+1)).Mul(term, below)
		term.Quo(term, big.NewInt(r)).Quo(term, above) // both without a rest
	}
	return 0
}

// withinLargest returns the largest q, in thousandths, for which the largest of n
// values is with 95 % confidence no less than the quantile q: q^n is at most 5 %
// (S. S. Wilks, Determination of sample sizes for setting tolerance limits, 1941).
func withinLargest(n int64) int64 {
	if n > mostRanked {
		n = mostRanked
	}
	most := new(big.Int).Exp(big.NewInt(1000), big.NewInt(n), nil)
	most.Mul(most, big.NewInt(5))
	low, high := int64(0), int64(1000) // low will do, high will not
	for high-low > 1 {
		q := (low + high) / 2
		chance := new(big.Int).Exp(big.NewInt(q), big.NewInt(n), nil)
		if chance.Mul(chance, big.NewInt(100)).Cmp(most) <= 0 {
			low = q
		} else {
			high = q
		}
	}
	return low
}

// RepeatedFault is how a fault came out that was made more than once. Spreads
// are in microseconds, but for BadOps, and null where nothing is known; the
// outages are of the path that suffered longest.
type RepeatedFault struct {
	Kind      string   `json:"kind"`
	Faults    []string `json:"faults"` // ids of those that were injected
	Detect    *Spread  `json:"detect_us"`
	Longest   *Spread  `json:"longest_us"`
	Full      *Spread  `json:"full_outage_us"`
	Partial   *Spread  `json:"partial_outage_us"`
	BrownOut  *Spread  `json:"brown_out_us"`
	Objective *Spread  `json:"objective_us"`
	Redundant *Spread  `json:"redundant_us"`
	BadOps    *Spread  `json:"bad_ops"`
}

// repeatedFaults sums up the faults that one entry of the scenario asked for, or,
// where a recording does not tell the entry, one kind and target.
func repeatedFaults(planned []PlannedFault, faults []FaultResult) []RepeatedFault {
	byID := map[string]PlannedFault{}
	for _, p := range planned {
		byID[p.ID] = p
	}
	groups := map[string][]*FaultResult{}
	var order []string
	for i := range faults {
		f := &faults[i]
		if f.InjectedAtUS == nil {
			continue
		}
		key := groupKey(byID[f.ID], f.Kind, f.Target)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], f)
	}
	repeated := []RepeatedFault{}
	for _, key := range order {
		if group := groups[key]; len(group) > 1 {
			repeated = append(repeated, repeatedFault(group))
		}
	}
	return repeated
}

// groupKey is the same for faults that are repetitions of one.
func groupKey(p PlannedFault, kind, target string) string {
	if p.Entry > 0 {
		return fmt.Sprint("#", p.Entry)
	}
	return kind + " " + target
}

func repeatedFault(group []*FaultResult) RepeatedFault {
	r := RepeatedFault{Kind: group[0].Kind}
	for _, f := range group {
		r.Faults = append(r.Faults, f.ID)
	}
	spread := func(value func(*FaultResult) *int64) *Spread {
		var values []int64
		for _, f := range group {
			if v := value(f); v != nil {
				values = append(values, *v)
			}
		}
		return SpreadOf(values)
	}
	path := func(span func(OutageSpans) *int64) *Spread {
		return spread(func(f *FaultResult) *int64 { return f.Worst(span) })
	}
	r.Detect = spread(func(f *FaultResult) *int64 { return f.Spans.Detect })
	r.Longest = path(func(o OutageSpans) *int64 { return o.Longest })
	r.Full = path(func(o OutageSpans) *int64 { return o.FullOutage })
	r.Partial = path(func(o OutageSpans) *int64 { return o.PartialOutage })
	r.BrownOut = path(func(o OutageSpans) *int64 { return o.BrownOut })
	r.Objective = spread(func(f *FaultResult) *int64 { return f.Spans.Objective })
	r.Redundant = spread(func(f *FaultResult) *int64 { return f.Spans.Redundant })
	r.BadOps = spread(func(f *FaultResult) *int64 { return &f.BadOps })
	return r
}
