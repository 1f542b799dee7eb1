package compare

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Costs are what a fixed probe counted: for each decision that a path can reach
// ("greylist/new triplet") each counter ("ndb_round_trips", "statements",
// "bytes_on_wire"), for one op.
type Costs map[string]map[string]int64

// Tolerance is how far a counter that is declared noisy may go up: by so many
// thousandths of the base, and by so much besides. A counter for which none is
// declared is exact, and any increase is a regression.
type Tolerance struct {
	Permille int64
	Absolute int64
}

// Change is what became of a counter.
type Change string

// The changes.
const (
	Same      Change = "same"
	Increased Change = "increased"
	Decreased Change = "decreased"
	Tolerated Change = "tolerated" // increased, within its tolerance
	Missing   Change = "missing"   // the candidate does not have it
	New       Change = "new"       // the base does not have it
)

// CounterChange is a counter of a decision, compared.
type CounterChange struct {
	Finding
	Decision  string `json:"decision"`
	Counter   string `json:"counter"`
	Change    Change `json:"change"`
	Base      int64  `json:"base"`
	Candidate int64  `json:"candidate"`
}

var sideNames = [2]string{"base", "candidate"}

// Counters compares all counters of all decisions, by name. One that only one
// side has is inconclusive: a counter that went missing must not pass as one
// that costs nothing. Tolerances are by the counter's name; one for a counter
// that neither side has is an error, for it would tolerate nothing while
// somebody relies on it.
func Counters(base, candidate Costs, noisy map[string]Tolerance) ([]CounterChange, error) {
	known := map[string]bool{}
	for i, costs := range []Costs{base, candidate} {
		for _, decision := range slices.Sorted(maps.Keys(costs)) {
			for _, name := range slices.Sorted(maps.Keys(costs[decision])) {
				known[name] = true
				if n := costs[decision][name]; n < 0 {
					return nil, fmt.Errorf("compare counters: %s of %s is %d in the %s; probe again, it was reset meanwhile", name, decision, n, sideNames[i])
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(noisy)) {
		t := noisy[name]
		switch {
		case !known[name]:
			return nil, fmt.Errorf("compare counters: a tolerance is declared for %q, which was not counted; there are %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case t.Permille < 0 || t.Absolute < 0 || t.Permille > 1_000_000:
			return nil, fmt.Errorf("compare counters: the tolerance of %q is %d permille and %d; it must not be below 0 nor above 1000000 permille", name, t.Permille, t.Absolute)
		}
	}
	changes := []CounterChange{}
	for _, decision := range union(base, candidate) {
		for _, name := range union(base[decision], candidate[decision]) {
			before, inBase := base[decision][name]
			after, inCandidate := candidate[decision][name]
			c := CounterChange{Decision: decision, Counter: name, Base: before, Candidate: after}
			tolerance, isNoisy := noisy[name]
			c.Change, c.Finding = changed(before, after, inBase, inCandidate, isNoisy, tolerance)
			changes = append(changes, c)
		}
	}
	return changes, nil
}

func changed(before, after int64, inBase, inCandidate, isNoisy bool, t Tolerance) (Change, Finding) {
	switch {
	case !inCandidate:
		return Missing, Finding{Verdict: Inconclusive, Why: "the candidate's probe did not count it"}
	case !inBase:
		return New, Finding{Verdict: Inconclusive, Why: "the base does not have it; make the base anew once it is right"}
	case after == before:
		return Same, Finding{Verdict: NoDifference}
	case !isNoisy && after > before:
		return Increased, Finding{Verdict: Regression}
	case !isNoisy:
		return Decreased, Finding{Verdict: Improvement}
	}
	// In floating point: a tolerance needs no last digit, and nothing overflows.
	within := float64(before)*float64(t.Permille)/1000 + float64(t.Absolute)
	switch difference := float64(after) - float64(before); {
	case difference > within:
		return Increased, Finding{Verdict: Regression, Why: fmt.Sprintf("noisy, but more than %.6g above the base", within)}
	case difference > 0:
		return Tolerated, Finding{Verdict: NoDifference, Why: fmt.Sprintf("noisy, and within %.6g of the base", within)}
	case difference < -within:
		return Decreased, Finding{Verdict: Improvement}
	default:
		return Decreased, Finding{Verdict: NoDifference, Why: fmt.Sprintf("noisy, and within %.6g of the base", within)}
	}
}

func union[V any](a, b map[string]V) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}
