package gate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
)

// ReportSchema names the layout of what a gate found.
const ReportSchema = "mailbench.gate/v1"

// Report is what a gate found. The gravest finding is its verdict.
type Report struct {
	Schema   string                    `json:"schema"`
	Verdict  compare.Verdict           `json:"verdict"`
	Scenario string                    `json:"scenario"`
	Base     []string                  `json:"base"`      // run ids
	Runs     []string                  `json:"candidate"` // run ids
	Reasons  []string                  `json:"reasons"`   // why it is inconclusive whatever was compared
	Counters []compare.CounterChange   `json:"counters"`
	Faults   []compare.FaultComparison `json:"faults"`
	Latency  []LatencyChange           `json:"latency"`
	// Interleaved compares the latencies of a base and a candidate that were recorded
	// in turn: path by path, statistic by statistic. Empty against a baseline.
	Interleaved []compare.Comparison `json:"interleaved"`
	LostWrites  int64                `json:"lost_writes"` // of the candidate: acknowledged and gone, or contradicted by an answer
	// Confirmation is null if nothing was measured a second time.
	Confirmation *Confirmation `json:"confirmation"`
	Notes        []string      `json:"notes"`            // what was compared, what was left out, and why
	Repeat       string        `json:"repeat,omitempty"` // the command that makes the comparison again
}

func newReport(scenario string) *Report {
	return &Report{
		Schema: ReportSchema, Scenario: scenario, Base: []string{}, Runs: []string{}, Reasons: []string{}, Notes: []string{},
		Counters: []compare.CounterChange{}, Faults: []compare.FaultComparison{}, Latency: []LatencyChange{}, Interleaved: []compare.Comparison{},
	}
}

// LatencyChange sets a quantile of calm ops beside the baseline's. Runs that were
// made on different days say nothing of so small a thing as a latency: the
// verdict is left open, and never makes the whole inconclusive.
type LatencyChange struct {
	compare.Finding
	Path      string           `json:"path"`
	Statistic string           `json:"statistic"`
	Base      int64            `json:"base_us"`      // the median of the baseline's runs
	Candidate int64            `json:"candidate_us"` // of these
	Change    *results.Decimal `json:"change"`
}

// ExitVerdict is the report's verdict in the words of a run, which have exit codes.
func (r *Report) ExitVerdict() results.Verdict { return r.Verdict.Run() }

// MismatchError says that a run and a baseline have nothing to compare.
type MismatchError struct{ Differences []string }

func (e *MismatchError) Error() string {
	return "the run is of something else than the baseline: " + strings.Join(e.Differences, "; ")
}

// Against compares runs, which are repetitions of each other, with a baseline. The
// error is a *MismatchError if they are of another scenario, seed or topology.
func (b *Baseline) Against(runs []Measured) (*Report, error) {
	r := newReport(b.Scenario)
	for _, run := range b.Runs {
		r.Base = append(r.Base, run.RunID)
	}
	var candidate *Baseline
	lost := int64(0)
	for _, m := range runs {
		one := of(m)
		if differences := b.differences(one); len(differences) > 0 {
			return nil, &MismatchError{differences}
		}
		r.Runs = append(r.Runs, m.Run.RunID)
		for _, reason := range m.Run.Reasons {
			r.Reasons = append(r.Reasons, fmt.Sprintf("run %s: %s", m.Run.RunID, reason))
		}
		lost += lostWrites(m)
		if candidate == nil {
			candidate = one
		} else {
			candidate.Runs = append(candidate.Runs, one.Runs...)
		}
		if err := r.counters(b, one, "the baseline has no cost counters: make it anew"); err != nil {
			return nil, err
		}
	}
	if candidate == nil {
		r.Reasons = append(r.Reasons, "there is no run to compare")
		candidate = &Baseline{}
	}
	faults, err := compare.Faults(b.faults(), candidate.faults(), compare.DefaultFaultOptions())
	if err != nil {
		return nil, err
	}
	// Writes are counted for the whole run, below: no fault is named for them.
	r.Faults = slices.DeleteFunc(faults, func(f compare.FaultComparison) bool { return f.Measure == compare.LostMeasure })
	r.latencies(b, candidate)
	r.conclude(lost)
	return r, nil
}

// lostWrites are those that are gone, or were contradicted.
func lostWrites(m Measured) int64 {
	l := m.Run.Ledger
	if l == nil {
		return 0
	}
	return l.Broken() + l.Violations.Total()
}

// counters compares what an op costs. noBase is the reason if the base does not
// say it.
func (r *Report) counters(base, one *Baseline, noBase string) error {
	switch {
	case len(base.Costs) == 0:
		r.Reasons = append(r.Reasons, noBase)
		return nil
	case len(one.Costs) == 0:
		r.Reasons = append(r.Reasons, fmt.Sprintf("run %s has no cost counters: the probe before its load failed", one.Runs[0].RunID))
		return nil
	}
	changes, err := base.CompareCosts(one.Costs, one.Noisy)
	if err != nil {
		return err
	}
	for _, c := range changes { // of several runs the worst
		i := slices.IndexFunc(r.Counters, func(o compare.CounterChange) bool { return o.Decision == c.Decision && o.Counter == c.Counter })
		switch {
		case i < 0:
			r.Counters = append(r.Counters, c)
		case worse(c.Verdict, r.Counters[i].Verdict):
			r.Counters[i] = c
		}
	}
	return nil
}

// CompareCosts compares what decisions cost, of which some counters are noisy, with
// the baseline's.
func (b *Baseline) CompareCosts(costs compare.Costs, noisy []string) ([]compare.CounterChange, error) {
	return compare.Counters(b.Costs, costs, tolerances(b.Noisy, noisy))
}

func worse(a, b compare.Verdict) bool {
	return a != b && compare.Overall([]compare.Finding{{Verdict: a}, {Verdict: b}}) == a
}

// latencies sets calm latencies side by side where the machine is the same one.
func (r *Report) latencies(b, candidate *Baseline) {
	if others := otherEnvironment(b.Environment, candidate.Environment); len(others) > 0 {
		r.Notes = append(r.Notes, "Latencies were not compared: this is another machine than the baseline's ("+strings.Join(others, "; ")+"). Compare them with gate ab, on one machine.")
		return
	}
	for _, path := range slices.Sorted(maps.Keys(b.Runs[0].Latency)) {
		for _, q := range []struct {
			name string
			of   func(Latency) int64
		}{
			{"p50", func(l Latency) int64 { return l.P50 }}, {"p90", func(l Latency) int64 { return l.P90 }}, {"p99", func(l Latency) int64 { return l.P99 }},
		} {
			c := LatencyChange{Path: path, Statistic: q.name, Base: median(b.Runs, path, q.of), Candidate: median(candidate.Runs, path, q.of)}
			c.Finding = compare.Finding{Verdict: compare.Inconclusive, Optional: true, Why: "runs of different times: use gate ab"}
			if c.Base > 0 && c.Candidate > 0 {
				d := results.Decimal((c.Candidate - c.Base) * 1_000_000 / c.Base)
				c.Change = &d
			}
			r.Latency = append(r.Latency, c)
		}
	}
}

func otherEnvironment(a, b map[string]string) []string {
	var all []string
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if a[name] != b[name] {
			all = append(all, fmt.Sprintf("%s is %q, was %q", name, b[name], a[name]))
		}
	}
	return all
}

// median is the lower one of an even number.
func median(runs []Run, path string, of func(Latency) int64) int64 {
	var all []int64
	for _, r := range runs {
		if l, ok := r.Latency[path]; ok {
			all = append(all, of(l))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// conclude is the verdict of all findings, and of the writes that the candidate lost.
func (r *Report) conclude(lost int64) {
	if r.LostWrites = lost; lost > 0 {
		r.Reasons = append(r.Reasons, lostReason(lost))
	}
	r.Verdict = r.verdict()
}

func lostReason(n int64) string {
	return fmt.Sprintf("%d acknowledged writes are gone, or were contradicted by an answer", n)
}

func (r *Report) verdict() compare.Verdict {
	findings := r.findings()
	if len(r.Reasons) > 0 {
		findings = append(findings, compare.Finding{Verdict: compare.Inconclusive})
	}
	if r.LostWrites > 0 {
		findings = append(findings, compare.Finding{Verdict: compare.DataLoss})
	}
	return compare.Overall(findings)
}

func (r *Report) findings() (all []compare.Finding) {
	for _, c := range r.Counters {
		all = append(all, c.Finding)
	}
	for _, f := range r.Faults {
		all = append(all, f.Finding)
	}
	for _, l := range r.Latency {
		all = append(all, l.Finding)
	}
	for _, c := range r.Interleaved {
		all = append(all, c.Finding)
	}
	return all
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
