package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/workload"
)

// Measured judges a run, or every run of a series, anew, as a gate compares them.
func Measured(dir string) ([]gate.Measured, error) {
	members, err := Members(dir)
	if err != nil {
		return nil, err
	}
	var all []gate.Measured
	for _, m := range members {
		if m.NeverBegan {
			return nil, &UnreadableError{m.Dir, errors.New("it holds no recording: the run never began")}
		}
		measured, err := measure(m.Dir)
		if err != nil {
			return nil, err
		}
		all = append(all, measured)
	}
	return all, nil
}

// measure judges a run anew, and gives its samples to others, too.
func measure(dir string, others ...func(*workload.Sample)) (gate.Measured, error) {
	manifest, run, err := write(dir, others...)
	return gate.Measured{Manifest: manifest, Run: run}, err
}

// Interleaved judges the two runs below dir anew, which were recorded in turn, and
// compares the candidate with the base. Of o, the seed is that of dir's
// interleaved.json.
func Interleaved(dir string, o compare.Options) (*gate.Report, error) {
	x, err := gate.ReadInterleaved(dir)
	if err != nil {
		return nil, err
	}
	baseOps, candidateOps := x.Collectors()
	base, err := measure(filepath.Join(dir, x.Base.Dir), baseOps.Record)
	if err != nil {
		return nil, err
	}
	candidate, err := measure(filepath.Join(dir, x.Candidate.Dir), candidateOps.Record)
	if err != nil {
		return nil, err
	}
	return x.Judge(base, candidate, x.Series(baseOps, candidateOps), o)
}

// baseOf is what a candidate was compared with.
func baseOf(r *gate.Report) string {
	if len(r.Interleaved) > 0 {
		return "base"
	}
	return "baseline"
}

// GateHeadline says in one sentence what a gate found.
func GateHeadline(r *gate.Report) string {
	n := len(changed(r, compare.Regression))
	switch r.Verdict {
	case compare.DataLoss:
		return "DATA LOSS: " + r.Reasons[len(r.Reasons)-1] + "."
	case compare.Regression:
		return fmt.Sprintf("REGRESSION: %s worse than the %s.", plural(int64(n), "measure"), baseOf(r))
	case compare.Improvement:
		return fmt.Sprintf("PASS: %s better than the %s, none is worse.", plural(int64(len(changed(r, compare.Improvement))), "measure"), baseOf(r))
	case compare.NoDifference:
		return "PASS: nothing is worse than the " + baseOf(r) + "."
	default:
		if len(r.Reasons) > 0 {
			return "INCONCLUSIVE: " + r.Reasons[0] + "."
		}
		return "INCONCLUSIVE: what was measured does not tell."
	}
}

// gateRow is a measure that a gate compared.
type gateRow struct {
	what, measure           string
	before, after, interval string
	counter                 string // of a decision; "" for another measure
	more                    int    // counters of the same decision that are left out
	finding                 compare.Finding
	mde                     string // of a latency
	inTurn                  bool   // of a base and a candidate that were recorded in turn
}

// change is the interval and, of what could not be told, what could have been.
func (g gateRow) change() string {
	switch {
	case !g.inTurn || g.finding.Verdict != compare.Inconclusive:
		return g.interval
	case g.interval == "":
		return "MDE " + g.mde
	default:
		return g.interval + "; MDE " + g.mde
	}
}

// telling are the counters that say most, the first one most of all: the others
// follow from them.
var telling = []string{"ndb_round_trips", "ndb_table_scans", "ndb_range_scans", "statements", "ndb_rows_read"}

// condensed keeps of each decision the counter that says most.
func condensed(rows []gateRow) (kept []gateRow) {
	rank := func(g gateRow) int {
		if i := slices.Index(telling, g.counter); i >= 0 {
			return i
		}
		return len(telling)
	}
	at := map[string]int{}
	for _, g := range rows {
		i, seen := at[g.what]
		switch {
		case g.counter == "":
			kept = append(kept, g)
		case !seen:
			at[g.what] = len(kept)
			kept = append(kept, g)
		default:
			if rank(g) < rank(kept[i]) {
				g.more = kept[i].more
				kept[i] = g
			}
			kept[i].more++
		}
	}
	return kept
}

func (g gateRow) String() string {
	text := fmt.Sprintf("%s: %s is %s, was %s", g.what, g.measure, g.after, g.before)
	if g.interval != "" {
		text += " (" + g.interval + ")"
	}
	if g.more > 0 {
		text += fmt.Sprintf(", and %s more", plural(int64(g.more), "counter"))
	}
	return text
}

// changed are the measures with a verdict, in the order in which they weigh.
func changed(r *gate.Report, verdicts ...compare.Verdict) (rows []gateRow) {
	take := func(f compare.Finding, row func() gateRow) {
		if slices.Contains(verdicts, f.Verdict) {
			g := row()
			g.finding = f
			rows = append(rows, g)
		}
	}
	for _, c := range r.Counters {
		take(c.Finding, func() gateRow {
			return gateRow{what: c.Decision, counter: c.Counter, measure: strings.ReplaceAll(c.Counter, "_", " "), before: count(c.Base), after: count(c.Candidate)}
		})
	}
	for _, f := range r.Faults {
		take(f.Finding, func() gateRow {
			show := count
			if f.Measure == compare.OutageMeasure {
				show = micros
			}
			g := gateRow{what: f.Kind, measure: strings.TrimSuffix(strings.ReplaceAll(f.Measure, "_", " "), " us"), before: show(f.A), after: show(f.B)}
			if f.Low != nil && f.High != nil {
				g.interval = fmt.Sprintf("shift %s to %s", show(*f.Low), show(*f.High))
			}
			return g
		})
	}
	for i := range r.Interleaved {
		c := &r.Interleaved[i]
		take(c.Finding, func() gateRow {
			s := shownComparison(c)
			g := gateRow{what: c.Series, measure: s.name, before: s.a, after: s.b, mde: s.mde, inTurn: true}
			if s.change != none {
				g.interval = s.change + ", " + s.interval + s.unit
			}
			return g
		})
	}
	for _, l := range r.Latency {
		take(l.Finding, func() gateRow {
			return gateRow{what: l.Path, measure: l.Statistic, before: micros(l.Base), after: micros(l.Candidate)}
		})
	}
	return rows
}

// comparison is one of the latencies of a base and a candidate, as it is shown.
// The interval has the change's unit, which it does not name.
type comparison struct{ name, short, a, b, change, interval, unit, mde string }

func shownComparison(c *compare.Comparison) comparison {
	value := func(d *results.Decimal) string {
		if d == nil {
			return none
		}
		switch compare.Kind(c.Statistic) {
		case compare.Throughput:
			return tenth(d)
		case compare.BadShare:
			return exactPercent(*d)
		default:
			return micros((int64(*d) + 500_000) / 1_000_000)
		}
	}
	change := percentChange
	s := comparison{name: c.Statistic, short: c.Statistic, a: value(c.A), b: value(c.B)}
	switch compare.Kind(c.Statistic) {
	case compare.Throughput:
		s.name, s.short = "good ops a second", "good/s"
	case compare.BadShare:
		s.name, s.short, change = "share of bad ops", "bad", pointsChange
	}
	s.change, s.interval, s.mde = change(c.Change), none, change(c.MDE80)
	if c.Low != nil && c.High != nil {
		low, _, _ := strings.Cut(change(c.Low), " ")
		high, unit, _ := strings.Cut(change(c.High), " ")
		s.interval, s.unit = low+" to "+high, " "+unit
	}
	return s
}

// gateVerdicts are verdicts in a word, for a table.
var gateVerdicts = map[compare.Verdict]string{
	compare.Regression: "worse", compare.Improvement: "better", compare.NoDifference: "same", compare.Inconclusive: "open",
}

// interleaved sets latencies of a base and a candidate side by side.
func interleaved(r *gate.Report) section {
	t := &table{left: 3, head: []string{"path", "of", "is", "base", "now", "change", "interval", "MDE 80"}}
	optional := []string{}
	for i := range r.Interleaved {
		c := &r.Interleaved[i]
		s := shownComparison(c)
		t.add(c.Series, s.short, gateVerdicts[c.Verdict], s.a, s.b, s.change, s.interval, s.mde)
		if c.Optional && c.Verdict == compare.Inconclusive {
			optional = append(optional, c.Series+" "+s.short)
		}
	}
	notes := []string{
		"Now: the candidate. MDE 80: the smallest change for the worse that would have been found with a chance of 80 %; none where there is a dash. " +
			"Shares of bad ops change by percentage points (pp).",
	}
	if len(optional) > 0 {
		notes = append(notes, "Left open without holding up a pass: "+strings.Join(optional, ", ")+".")
	}
	return section{title: "Response times, base and candidate in turn", table: t, notes: notes}
}

// gateSections are what a reviewer acts on.
func gateSections(r *gate.Report) []section {
	var all []section
	add := func(title string, rows []gateRow) {
		if len(rows) == 0 {
			return
		}
		t := &table{left: 2, head: []string{"what", "measure", baseOf(r), "now"}}
		rows = condensed(rows)
		more := slices.ContainsFunc(rows, func(g gateRow) bool { return g.more > 0 })
		if more {
			t.head = append(t.head, "and more")
		}
		interval := slices.ContainsFunc(rows, func(g gateRow) bool { return g.change() != "" })
		if interval {
			t.head = append(t.head, "interval")
			if slices.ContainsFunc(rows, func(g gateRow) bool { return g.inTurn }) {
				t.head[len(t.head)-1] = "change, interval"
			}
		}
		notes := map[string]bool{}
		inTurn := map[string][]string{} // by why
		s := section{title: title, table: t}
		for _, g := range rows {
			cells := []string{g.what, g.measure, g.before, g.after}
			if more {
				cells = append(cells, strconv.Itoa(g.more))
			}
			if interval {
				cells = append(cells, g.change())
			}
			t.add(cells...)
			why := g.finding.Why
			if g.inTurn {
				inTurn[why] = append(inTurn[why], g.what+" "+g.measure)
			}
			if why != "" && !notes[why] {
				notes[why] = true
				s.notes = append(s.notes, why)
			}
		}
		for i, why := range s.notes {
			of := ""
			if all := inTurn[why]; len(all) > 0 {
				of = strings.Join(all, ", ") + ": "
			}
			s.notes[i] = sentence(of + why)
		}
		if more {
			s.notes = append(s.notes, "And more: other counters of the same decision that follow from it; --format json has them all.")
		}
		all = append(all, s)
	}
	if len(r.Reasons) > 0 {
		all = append(all, section{title: "Why it cannot pass", notes: r.Reasons})
	}
	if r.Confirmation != nil {
		all = append(all, section{title: "Measured a second time", notes: confirmation(r.Confirmation)})
	}
	add("Worse", changed(r, compare.DataLoss, compare.Regression))
	add("Better", changed(r, compare.Improvement))
	add("Could not be told", changed(r, compare.Inconclusive))
	if len(r.Interleaved) > 0 {
		all = append(all, interleaved(r))
	}
	same := len(changed(r, compare.NoDifference))
	notes := []string{fmt.Sprintf("%s compared: %s of them the same.", plural(int64(len(r.Counters)+len(r.Faults)+len(r.Interleaved)+len(r.Latency)), "measure"), count(int64(same)))}
	notes = append(notes, r.Notes...)
	all = append(all, section{title: "Compared", notes: notes})
	if r.Repeat != "" {
		all = append(all, section{title: "Repeat it", command: r.Repeat})
	}
	return all
}

// confirmation says what became of the alarms.
func confirmation(c *gate.Confirmation) (notes []string) {
	if c.Failed != "" {
		return []string{"That failed, and what was found stands: " + c.Failed}
	}
	for _, l := range []struct {
		says string
		of   []string
	}{
		{"Found again", c.FoundAgain}, {"Ruled out, hence no regression", c.Cleared}, {"Could not be told the second time", c.Unsettled},
	} {
		if len(l.of) > 0 {
			notes = append(notes, l.says+": "+strings.Join(l.of, ", ")+".")
		}
	}
	return notes
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

// GateText writes what a gate found in columns of at most width.
func GateText(w io.Writer, r *gate.Report, width int) error {
	return writeText(w, GateHeadline(r), gateSections(r), width)
}

// GateMarkdown writes it for a pull request or a step summary.
func GateMarkdown(w io.Writer, r *gate.Report) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "## mailbench gate: %s\n\n%s\n", escape(r.Scenario), escape(GateHeadline(r)))
	for _, s := range gateSections(r) {
		s.markdown(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// maxAnnotations is how many annotations a step of GitHub shows (docs.github.com,
// "Usage limits": 10 of each type).
const maxAnnotations = 10

// GateAnnotations writes workflow commands of GitHub Actions, the strongest evidence
// first: lost writes, counters, faults, latencies.
func GateAnnotations(w io.Writer, r *gate.Report) error {
	var b bytes.Buffer
	var lines []string
	rows := condensed(changed(r, compare.DataLoss, compare.Regression))
	if r.ExitVerdict() != results.Pass && (len(rows) == 0 || r.Verdict == compare.DataLoss) {
		lines = append(lines, GateHeadline(r))
	}
	for i, g := range rows {
		if len(lines) == maxAnnotations-1 && len(rows)-i > 1 {
			lines = append(lines, fmt.Sprintf("%d more measures are worse", len(rows)-i))
			break
		}
		lines = append(lines, g.String())
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "::error title=mailbench gate::%s\n", escapeCommand(line))
	}
	if r.Repeat != "" && r.ExitVerdict() != results.Pass {
		fmt.Fprintf(&b, "::notice title=mailbench gate::%s\n", escapeCommand("Repeat it: "+r.Repeat))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// escapeCommand escapes the data of a workflow command (actions/toolkit,
// packages/core/src/command.ts).
func escapeCommand(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// GateJUnit writes it as JUnit XML: a case a measure.
func GateJUnit(w io.Writer, r *gate.Report) error {
	all := junitSuites{Name: "mailbench gate " + r.Scenario, Time: "0.000000"}
	s := junitSuite{Name: "gate"}
	reliable := junitCase{Name: "the runs can be relied upon", Class: r.Scenario}
	if len(r.Reasons) > 0 {
		reliable.Error = &junitMessage{Message: r.Reasons[0], Text: strings.Join(r.Reasons, "\n")}
	}
	if r.Repeat != "" {
		reliable.Output = "repeat it: " + r.Repeat
	}
	s.Cases = append(s.Cases, reliable)
	for _, v := range []compare.Verdict{compare.DataLoss, compare.Regression, compare.Inconclusive, compare.Improvement, compare.NoDifference} {
		for _, g := range changed(r, v) {
			c := junitCase{Name: g.what + ": " + g.measure, Class: r.Scenario + ".gate"}
			if g.inTurn {
				c.Output = fmt.Sprintf("%s; MDE at a chance of 80 %%: %s", g, g.mde)
			}
			switch v {
			case compare.DataLoss, compare.Regression:
				c.Failure = &junitMessage{Message: g.String(), Type: string(v)}
			case compare.Inconclusive:
				if m := (&junitMessage{Message: g.finding.Why}); g.finding.Optional {
					c.Skipped = m
				} else { // it holds up the pass
					c.Error = m
				}
			}
			s.Cases = append(s.Cases, c)
		}
	}
	all.Suites = []junitSuite{s}
	return all.write(w)
}
