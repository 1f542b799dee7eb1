package gate

import (
	"fmt"
	"slices"

	"github.com/mailbench/mailbench/results/compare"
)

// Alarms are the statistics of which a regression was found that another
// measurement may clear: latencies that were recorded in turn, and what faults
// cost. Counters are exact and a lost write is lost: neither is measured again.
func (r *Report) Alarms() (interleaved, faults []string) {
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

// Confirm holds the alarms of r against a second measurement of the same. What was
// compared there and is no regression is cleared: it is left open, holds up no
// pass, and is named in Cleared. All else stays as it is, and what only the second
// one found, but for a lost write, is none of its business. Two false alarms in a
// row are as likely as the level of one squared.
func (r *Report) Confirm(again *Report) {
	r.Confirmed = true
	for i := range r.Interleaved {
		c := &r.Interleaved[i]
		k := slices.IndexFunc(again.Interleaved, func(o compare.Comparison) bool { return o.Series == c.Series && o.Statistic == c.Statistic })
		if k >= 0 && again.Interleaved[k].P != nil {
			r.settle(&c.Finding, c.Series+" "+c.Statistic, again.Interleaved[k].Verdict)
		}
	}
	for i := range r.Faults {
		f := &r.Faults[i]
		k := slices.IndexFunc(again.Faults, func(o compare.FaultComparison) bool { return o.Kind == f.Kind && o.Measure == f.Measure })
		if k >= 0 && again.Faults[k].P != nil {
			r.settle(&f.Finding, f.Kind+" "+f.Measure, again.Faults[k].Verdict)
		}
	}
	if again.LostWrites > 0 {
		r.LostWrites += again.LostWrites
		r.Reasons = append(r.Reasons, "measured again, "+lostReason(again.LostWrites))
	}
	r.Verdict = r.verdict()
}

func (r *Report) settle(f *compare.Finding, what string, again compare.Verdict) {
	switch {
	case f.Verdict != compare.Regression:
	case again == compare.Regression:
		f.Why = "found twice, in measurements apart"
	default:
		f.Verdict, f.Optional, f.Why = compare.Inconclusive, true, fmt.Sprintf("cleared: found once, and not again (%s)", again)
		r.Cleared = append(r.Cleared, what)
	}
}
