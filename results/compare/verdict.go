package compare

import (
	"math"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/distribution"
)

// Verdict is what a comparison says of the candidate.
type Verdict string

// The verdicts, the gravest first.
const (
	DataLoss     Verdict = "data_loss"     // the candidate lost an acknowledged write
	Regression   Verdict = "regression"    // worse: significant, and by the stated effect or more
	Inconclusive Verdict = "inconclusive"  // cannot be told from what was measured
	Improvement  Verdict = "improvement"   // better: significant, and by the stated effect or more
	NoDifference Verdict = "no_difference" // a difference as large as the stated effect is ruled out
)

// Finding is the part that results of all kinds share.
type Finding struct {
	Verdict Verdict `json:"verdict"`
	// Why says in words what the verdict rests upon, where the numbers do not.
	Why string `json:"why,omitempty"`
	// Optional is set where an inconclusive finding does not make the whole
	// inconclusive. A regression counts all the same.
	Optional bool `json:"optional,omitempty"`
}

// Overall is the verdict of all findings together: the gravest one. It is
// inconclusive if there are none, or only optional ones that are inconclusive.
//
// A regression is graver than what could not be told: comparisons stand each on
// its own, unlike the objectives of a run that cannot be relied upon.
func Overall(findings []Finding) Verdict {
	order := []Verdict{DataLoss, Regression, Inconclusive, Improvement, NoDifference}
	seen := map[Verdict]bool{}
	for _, f := range findings {
		if f.Verdict != Inconclusive || !f.Optional {
			seen[f.Verdict] = true
		}
	}
	for _, v := range order {
		if seen[v] {
			return v
		}
	}
	return Inconclusive
}

// Run is the verdict in the words of a run, which have exit codes.
func (v Verdict) Run() results.Verdict {
	switch v {
	case DataLoss:
		return results.DataLoss
	case Regression:
		return results.Violated
	case Improvement, NoDifference:
		return results.Pass
	default:
		return results.Inconclusive
	}
}

// estimate is a difference on the scale on which it is tested. Above zero the
// candidate has more.
type estimate struct {
	value, se float64
	df        float64
	leastP    float64 // that so few pairs may claim
	otherP    float64 // of another test, which must agree
	low, high float64 // the other test's interval around value, or 0 and 0
}

// p is the two-sided p-value of no difference.
func (e estimate) p() float64 {
	switch {
	case e.se > 0:
		return max(e.leastP, e.otherP, distribution.StudentTwoSided(e.value/e.se, e.df))
	case e.value == 0:
		return 1
	default:
		return max(e.leastP, e.otherP)
	}
}

// interval is the one that holds with the given confidence, which is the other
// test's, too, if there is one.
func (e estimate) interval(confidence float64) (low, high float64) {
	half := distribution.StudentQuantile((1-confidence)/2, e.df) * e.se
	low, high = e.value-half, e.value+half
	if e.low < e.high {
		low, high = min(low, e.low), max(high, e.high)
	}
	return low, high
}

// detectable is the smallest true difference that is called one with the given
// chance, if its p-value must not exceed level and the estimate not fall below
// effect: the larger of the two hurdles, and Student's t for the chance to clear
// it. It is infinite if so few pairs can never reach the level.
func (e estimate) detectable(level, effect, power float64) float64 {
	if e.leastP > level {
		return math.Inf(1)
	}
	return max(effect, distribution.StudentQuantile(level/2, e.df)*e.se) + distribution.StudentQuantile(1-power, e.df)*e.se
}

// judge weighs an estimate against an effect on the same scale, which is
// positive. Worse is 1 where more is worse and -1 where less is.
func judge(value, low, high, effect float64, significant bool, worse float64) Verdict {
	switch {
	case significant && value*worse >= effect:
		return Regression
	case significant && value*worse <= -effect:
		return Improvement
	case low > -effect && high < effect:
		return NoDifference
	default:
		return Inconclusive
	}
}

// decimal rounds to millionths; nil is what has no number.
func decimal(x float64) *results.Decimal {
	x = math.Round(x * 1e6)
	if math.IsNaN(x) || math.Abs(x) > math.MaxInt64/2 {
		return nil
	}
	d := results.Decimal(x)
	return &d
}
