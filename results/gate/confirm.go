package gate

import (
	"fmt"
	"slices"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
)

// Confirmation is what a second measurement said of the regressions of the first.
type Confirmation struct {
	FoundAgain []string `json:"found_again"`
	Cleared    []string `json:"cleared"`          // the second found none: left open, and holds up no pass
	Unsettled  []string `json:"unsettled"`        // the second could not tell: stays what it was, or inconclusive where it was compared
	Failed     string   `json:"failed,omitempty"` // why there was no second measurement
}

// Alarms are the statistics of which a regression was found that another
// measurement may clear: latencies that were recorded in turn, and what faults
// cost. There are none where the verdict stands without them: counters are exact
// and a lost write is lost.
func (r *Report) Alarms() (interleaved, faults []string) {
	exact := func(c compare.CounterChange) bool { return c.Verdict == compare.Regression }
	if r.LostWrites > 0 || slices.ContainsFunc(r.Counters, exact) {
		return nil, nil
	}
	for _, c := range r.Interleaved {
		if c.Verdict == compare.Regression && !slices.Contains(interleaved, c.Statistic) {
			interleaved = append(interleaved, c.Statistic)
		}
	}
	for _, f := range r.Faults {
		if name := f.Kind + " " + f.Measure; f.Verdict == compare.Regression && !slices.Contains(faults, name) {
			faults = append(faults, name)
		}
	}
	return interleaved, faults
}

// Confirm holds the alarms of r against a second measurement of the same. One that
// the second rules out is cleared. One that it cannot tell of is inconclusive; and
// where it did not compare it, or is itself not to be relied upon, the first one
// stands. What only the second one found, but for a lost write, is none of its
// business. Of sides that were recorded in turn a false alarm is found twice as
// rarely as its level squared; against a baseline only the runs are measured again,
// and a baseline that was lucky stays so.
func (r *Report) Confirm(again *Report) {
	c := &Confirmation{FoundAgain: []string{}, Cleared: []string{}, Unsettled: []string{}}
	r.Confirmation = c
	settle := func(f *compare.Finding, what string, second compare.Verdict, p *results.Decimal) {
		switch {
		case f.Verdict != compare.Regression:
		case p == nil || len(again.Reasons) > 0 && second != compare.Regression:
			c.Unsettled = append(c.Unsettled, what)
		case second == compare.Regression:
			c.FoundAgain = append(c.FoundAgain, what)
		case second == compare.Inconclusive:
			c.Unsettled = append(c.Unsettled, what)
			f.Verdict, f.Why = compare.Inconclusive, "found once; the second measurement cannot tell"
		default:
			c.Cleared = append(c.Cleared, what)
			f.Verdict, f.Optional, f.Why = compare.Inconclusive, true, fmt.Sprintf("cleared: found once, and ruled out by the second measurement (%s)", second)
		}
	}
	for i := range r.Interleaved {
		f := &r.Interleaved[i]
		k := slices.IndexFunc(again.Interleaved, func(o compare.Comparison) bool { return o.Series == f.Series && o.Statistic == f.Statistic })
		var second compare.Comparison // none
		if k >= 0 {
			second = again.Interleaved[k]
		}
		settle(&f.Finding, f.Series+" "+f.Statistic, second.Verdict, second.P)
	}
	for i := range r.Faults {
		f := &r.Faults[i]
		k := slices.IndexFunc(again.Faults, func(o compare.FaultComparison) bool { return o.Kind == f.Kind && o.Measure == f.Measure })
		var second compare.FaultComparison // none
		if k >= 0 {
			second = again.Faults[k]
		}
		settle(&f.Finding, f.Kind+" "+f.Measure, second.Verdict, second.P)
	}
	if again.LostWrites > 0 {
		r.LostWrites += again.LostWrites
		r.Reasons = append(r.Reasons, "measured again, "+lostReason(again.LostWrites))
	}
	r.Verdict = r.verdict()
}

// Unconfirmed says that there was no second measurement, and why. The first one
// stands.
func (r *Report) Unconfirmed(why error) {
	r.Confirmation = &Confirmation{FoundAgain: []string{}, Cleared: []string{}, Unsettled: []string{}, Failed: why.Error()}
}
