// Package report draws what results judged: for a terminal, as Markdown, as JUnit
// XML, and as a page.
package report

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/metrics"
	"github.com/mailbench/mailbench/workload"
)

// Names of the files that Write makes.
const (
	RunFile     = "run.json"
	BudgetFile  = "budget.json"
	HlogFile    = "latency.hlog"
	SummaryFile = "summary.md"
	JUnitFile   = "junit.xml"
	MetricsFile = "openmetrics.txt"
	HTMLFile    = "report.html"
)

// PercentilesFile is the name of the file with a path's percentiles.
func PercentilesFile(p reference.Path) string { return p.String() + ".hgrm" }

// UnreadableError says that a directory holds no recording, or one that was
// altered.
type UnreadableError struct {
	Dir string
	Err error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s cannot be judged: %v; name a run directory that mailbench run has written", e.Dir, e.Err)
}

// Unwrap returns the cause.
func (e *UnreadableError) Unwrap() error { return e.Err }

// output is a file that Write makes.
type output struct {
	name  string
	write func(io.Writer) error
}

// Write judges the recording in dir and writes run.json and the other outputs
// beside it, in place of older ones. The same recording makes the same bytes. A
// recording of which files are missing, cut short or altered is judged as far as
// it can be read, and inconclusive. One without a manifest that this program
// knows is an *UnreadableError.
func Write(dir string) (*results.Run, error) {
	_, run, err := write(dir)
	return run, err
}

// write gives the samples to others, too: see results.JudgeAll.
func write(dir string, others ...func(*workload.Sample)) (m results.Manifest, run *results.Run, err error) {
	r, err := results.Salvage(dir)
	if err != nil {
		return m, nil, &UnreadableError{dir, err}
	}
	m = r.Manifest()
	var budget *results.Budget
	var course *results.Course
	counted := metrics.New(m)
	// The samples of a long run are read but once. What is made of them is small;
	// only the log of latencies grows with the run, and is written meanwhile.
	var unreadable error
	err = results.ReplaceFile(filepath.Join(dir, HlogFile), func(w io.Writer) error {
		hlog, err := results.NewHlog(w, r)
		if err == nil {
			run, budget, course, err = results.JudgeAll(r, append(others, hlog.Record, counted.Record)...)
		}
		if err == nil {
			err = counted.Finish(r, run)
		}
		if err != nil {
			unreadable = &UnreadableError{dir, err}
			return unreadable
		}
		return hlog.Close()
	})
	switch {
	case unreadable != nil:
		return m, nil, unreadable
	case err != nil:
		return m, nil, fmt.Errorf("report: %w", err)
	}
	outputs := []output{
		{RunFile, run.Write},
		{BudgetFile, budget.Write},
		{SummaryFile, func(w io.Writer) error { return Markdown(w, run) }},
		{JUnitFile, func(w io.Writer) error { return JUnit(w, run) }},
		{MetricsFile, counted.Write},
		{HTMLFile, func(w io.Writer) error { return HTML(w, m, run, course) }},
	}
	for _, p := range reference.Paths {
		if asked := course.Response[p]; asked != nil {
			outputs = append(outputs, output{PercentilesFile(p), func(w io.Writer) error { return percentiles(w, asked) }})
		}
	}
	for _, o := range outputs {
		if err := results.ReplaceFile(filepath.Join(dir, o.name), o.write); err != nil {
			return m, nil, fmt.Errorf("report: %w", err)
		}
	}
	return m, run, nil
}

// percentiles writes what HdrHistogram's plotter reads, in milliseconds (Java
// HdrHistogram, AbstractHistogram.outputPercentileDistribution).
func percentiles(w io.Writer, p *results.PathPercentiles) error {
	h, err := p.HDR()
	if err != nil {
		return err
	}
	_, err = h.PercentilesPrint(w, 5, 1000)
	return err
}

// Member is a run directory to be judged.
type Member struct {
	Dir string
	// NeverBegan: the series names the run, but there is no recording of it, for
	// the series ended while the run was being prepared. Its verdict is
	// results.Inconclusive.
	NeverBegan bool
}

// Members lists the run directories in dir: those of a series, in the order in
// which they ran, or dir itself, which Write refuses if it holds no recording.
// A series that cannot be read is an *UnreadableError.
func Members(dir string) ([]Member, error) {
	if !results.IsSeries(dir) {
		return []Member{{Dir: dir}}, nil
	}
	series, err := results.ReadSeries(dir)
	if err != nil {
		return nil, &UnreadableError{dir, err}
	}
	var members []Member
	for _, m := range series.Members {
		run := filepath.Join(dir, m.Dir)
		// The manifest is the first file of a recording.
		_, err := os.Stat(filepath.Join(run, results.ManifestFile))
		members = append(members, Member{Dir: run, NeverBegan: errors.Is(err, os.ErrNotExist)})
	}
	return members, nil
}

// Text draws the summary for a terminal of so many columns, at least 80. Only
// what has no space to break at may be wider.
func Text(w io.Writer, run *results.Run, width int) error {
	return writeText(w, Headline(run), sections(run), max(width, 80))
}

// writeText draws a headline and sections in columns.
func writeText(w io.Writer, headline string, sections []section, width int) error {
	var b bytes.Buffer
	for _, line := range wrap(headline, width) {
		fmt.Fprintln(&b, line)
	}
	for _, s := range sections {
		s.text(&b, width)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// text draws a section in columns.
func (s section) text(b *bytes.Buffer, width int) {
	fmt.Fprintf(b, "\n%s\n", s.title)
	if s.table != nil {
		s.table.text(b, width)
	}
	for _, note := range s.notes {
		for i, line := range wrap(note, width-2) {
			if i == 0 && s.table == nil {
				fmt.Fprintf(b, "- %s\n", line)
			} else {
				fmt.Fprintf(b, "  %s\n", line)
			}
		}
	}
	if s.command != "" {
		for _, line := range shellLines(s.command, width-2) {
			fmt.Fprintf(b, "  %s\n", line)
		}
	}
}

// Markdown draws the summary as GitHub-flavoured Markdown.
func Markdown(w io.Writer, run *results.Run) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# mailbench: %s\n\n%s\n", escape(run.Scenario), escape(Headline(run)))
	for _, s := range sections(run) {
		s.markdown(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// markdown draws a section under a heading of its own.
func (s section) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## %s\n\n", s.title)
	if s.table != nil {
		s.table.markdown(b)
	}
	for i, note := range s.notes {
		switch {
		case s.table == nil:
			fmt.Fprintf(b, "- %s\n", escape(note))
		case i == 0:
			fmt.Fprintf(b, "\n%s\n", escape(note))
		default:
			fmt.Fprintf(b, "%s\n", escape(note))
		}
	}
	if s.command != "" {
		fmt.Fprintf(b, "```sh\n%s\n```\n", s.command)
	}
}

// Headline says in one sentence what the run found.
func Headline(run *results.Run) string {
	switch run.Verdict {
	case results.DataLoss:
		l := run.Ledger
		if l.Broken() == 0 {
			return fmt.Sprintf("DATA LOSS: %s.", violations(&l.Violations))
		}
		return fmt.Sprintf("DATA LOSS: %s of %s with acknowledged writes do not hold them.", count(l.Broken()), plural(l.Acknowledged, "key"))
	case results.Inconclusive:
		more := ""
		if n := len(run.Reasons) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more)", n)
		}
		return "INCONCLUSIVE: " + run.Reasons[0] + more + "."
	case results.Violated:
		var missed []string
		for _, o := range run.Objectives {
			if o.Verdict == results.Violated {
				missed = append(missed, fmt.Sprintf("%s (%s good of %s)",
					o.Name, exactPercent(share(o.Good, o.Total)), exactPercent(o.Target)))
			}
		}
		return "VIOLATED: " + strings.Join(missed, ", ") + "; " + load(run) + "."
	default:
		return "PASS: every objective held; " + load(run) + "."
	}
}

func load(run *results.Run) string {
	return fmt.Sprintf("%s, %s/s, %s, %s",
		plural(run.Trace.Started, "message"), tenth(run.OfferedPerSecond),
		plural(int64(len(run.Faults)), "fault"), plural(run.BadOps, "bad op"))
}

func plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return count(n) + " " + noun
}

// section is a part of the summary: a table with notes below it, or a list of
// notes.
type section struct {
	title   string
	table   *table
	notes   []string
	command string // of a shell, "" for none
}

func sections(run *results.Run) []section {
	var s []section
	if len(run.Reasons) > 0 {
		s = append(s, section{title: "Why the run is inconclusive", notes: run.Reasons})
	}
	s = append(s, operations(run), responses(run))
	if run.Mail.Mail != (results.Mail{}) {
		s = append(s, mail(run))
	}
	if len(run.Faults) > 0 {
		s = append(s, faults(run), spans(run))
	}
	if a := anatomy(run); a.table != nil {
		s = append(s, a)
	}
	if len(run.Repeated) > 0 {
		s = append(s, repeated(run))
	}
	if len(run.Objectives) > 0 {
		s = append(s, objectives(run), alerts(run))
		if p := projections(run); p.table != nil {
			s = append(s, p)
		}
	}
	if len(run.Errors) > 0 {
		s = append(s, errorCounts(run))
	}
	if len(run.Costs) > 0 {
		s = append(s, costs(run))
	}
	return append(s, rest(run))
}

func operations(run *results.Run) section {
	t := &table{left: 1, head: []string{"path", "count", "ok", "retried", "degraded", "failed", "unknown"}}
	for _, path := range reference.Paths {
		p, asked := run.Paths[path.String()]
		if !asked {
			continue
		}
		t.add(path.String(), count(p.Count), count(p.OK), count(p.Retried), count(p.Degraded), count(p.Failed), count(p.Unknown))
	}
	return section{title: "Operations", table: t}
}

func responses(run *results.Run) section {
	t := &table{left: 1, head: []string{"path", "p50", "p90", "p99", "p99.9", "max", "queue p99", "service p99"}}
	for _, path := range reference.Paths {
		p, asked := run.Paths[path.String()]
		if !asked {
			continue
		}
		if p.ResponseUS == nil {
			t.add(path.String(), none, none, none, none, none, none, none)
			continue
		}
		r := p.ResponseUS
		t.add(path.String(), micros(r.P50), micros(r.P90), micros(r.P99), micros(r.P999), micros(r.Max),
			micros(p.QueueUS.P99), micros(p.ServiceUS.P99))
	}
	return section{title: "Response time", table: t, notes: []string{
		"From when an op was intended until it ended, failed ops included.",
	}}
}

func faults(run *results.Run) section {
	t := &table{left: 2, head: []string{"fault", "target", "effect", "outage", "slowest", "back", "redundant", "bad ops", "budget"}}
	for _, f := range run.Faults {
		full := worst(f)
		slowest := none
		if f.ResponseUS != nil {
			slowest = micros(f.ResponseUS.Max)
		}
		t.add(strings.TrimSuffix(f.ID, "-"+f.Target), f.Target, microsOr(f.Spans.Detect), outage(full), slowest,
			microsOr(f.Spans.Recovered), microsOr(f.Spans.Redundant), count(f.BadOps), percent(f.BudgetSpent))
	}
	b := run.Background
	t.add("no fault", "", "", "", "", "", "", count(b.BadOps), percent(b.BudgetSpent))
	return section{title: "Faults", table: t, notes: []string{
		"Effect, back and redundant: how long after the injection. Outage: no op was good, on the path that suffered longest; " +
			"an op that was answered late is no outage. Slowest: the longest response of an op intended meanwhile. " +
			"Budget: of the objective that it cost most.",
	}}
}

// spans tells, of each fault, what the ops of each path and the attempts at each
// node met. What was good all the time is left out.
func spans(run *results.Run) section {
	t := &table{left: 2, head: []string{"fault", "met by", "full", "partial", "brown-out", "good", "unmeasured", "objectives"}}
	for _, f := range run.Faults {
		name := strings.TrimSuffix(f.ID, "-"+f.Target)
		add := func(by string, o results.OutageSpans, met string) {
			if o.FullOutage == nil || *o.FullOutage+*o.PartialOutage+*o.BrownOut == 0 {
				return
			}
			t.add(name, by, outage(o.FullOutage), outage(o.PartialOutage), outage(o.BrownOut), outage(o.Good), outage(o.Unmeasured), met)
			name = ""
		}
		for _, path := range reference.Paths {
			p, asked := f.Paths[path.String()]
			if !asked {
				continue
			}
			add(path.String(), p.OutageSpans, microsOr(f.Spans.Objective))
			for _, node := range slices.Sorted(maps.Keys(p.Nodes)) {
				add("  at "+node, p.Nodes[node], "")
			}
		}
	}
	if len(t.rows) == 0 {
		return section{title: "Outage spans", notes: []string{"No op was bad or slow in the window of any fault."}}
	}
	return section{title: "Outage spans", table: t, notes: []string{
		"Of the window from injection to redundancy, in slices of 100 ms: no op good; good and bad ones; all good, some slow; " +
			"all good; no ops. At a node: of the attempts sent to it. Objectives: how long after the injection all were met again.",
	}}
}

// anatomyFaults and anatomyLines bound what a summary shows of the faults'
// anatomy; run.json has the rest.
const (
	anatomyFaults = 5
	anatomyLines  = 20
	anatomyShort  = 100_000 // µs
)

// anatomy lays the cluster's phases beside what the clients felt, of the first
// faults: the steps of the harness, and the longest of what took its time.
func anatomy(run *results.Run) section {
	t := &table{left: 3, head: []string{"fault", "who", "what", "from", "took"}}
	shown := 0
	for _, f := range run.Faults {
		var lengths []int64
		for _, p := range f.Anatomy {
			if p.TookUS != nil {
				lengths = append(lengths, *p.TookUS)
			}
		}
		slices.SortFunc(lengths, func(a, b int64) int { return cmp.Compare(b, a) })
		least := int64(anatomyShort)
		if len(lengths) > anatomyLines {
			least = max(least, lengths[anatomyLines-1])
		}
		if shown == anatomyFaults || len(lengths) == 0 || lengths[0] < least {
			continue
		}
		shown++
		name := strings.TrimSuffix(f.ID, "-"+f.Target)
		for _, p := range f.Anatomy {
			if p.TookUS == nil && p.Who != "harness" || p.TookUS != nil && *p.TookUS < least {
				continue
			}
			t.add(name, p.Who, strings.TrimSpace(p.Node+" "+p.What), micros(p.FromUS), microsOr(p.TookUS))
			name = ""
		}
	}
	if len(t.rows) == 0 {
		return section{}
	}
	return section{title: "Anatomy of the faults", table: t, notes: []string{
		"From: since the injection. The longest phases of the first faults; run.json has them all.",
	}}
}

// repeated tells how faults came out that were made more than once.
func repeated(run *results.Run) section {
	t := &table{left: 2, head: []string{"fault", "span", "times", "median", "at most", "p95", "max", "within max"}}
	for _, f := range run.Repeated {
		name := f.Kind
		for _, row := range []struct {
			span string
			s    *results.Spread
		}{
			{"effect", f.Detect}, {"outage", f.Longest}, {"brown-out", f.BrownOut}, {"objectives", f.Objective}, {"redundant", f.Redundant},
		} {
			if row.s == nil {
				continue
			}
			t.add(name, row.span, count(row.s.N), outage(&row.s.Median), microsOr(row.s.MedianUpper), outage(&row.s.P95), outage(&row.s.Max),
				fmt.Sprintf("%d.%d %%", row.s.WithinMax/10, row.s.WithinMax%10))
			name = ""
		}
	}
	return section{title: "Repeated faults", table: t, notes: []string{
		"At most: upper bound of the median; within max: least share of all such faults that stay within the maximum; both with 95 % confidence.",
	}}
}

// outage writes an outage in slices of 100 ms, of which there may be none.
func outage(us *int64) string {
	if us != nil && *us == 0 {
		return "none"
	}
	return microsOr(us)
}

// worst returns the longest full outage of any path.
func worst(f results.FaultResult) *int64 {
	return f.Worst(func(o results.OutageSpans) *int64 { return o.FullOutage })
}

func objectives(run *results.Run) section {
	t := &table{left: 1, head: []string{"objective", "target", "within", "good", "bad", "budget spent", "verdict"}}
	for _, o := range run.Objectives {
		within := none
		if o.LatencyUS > 0 {
			within = micros(o.LatencyUS)
		}
		t.add(o.Name, exactPercent(o.Target), within, count(o.Good), count(o.Bad), percent(o.BudgetSpent), string(o.Verdict))
	}
	return section{title: "Objectives", table: t}
}

// mail tells what the database did to messages, and which fault it was.
func mail(run *results.Run) section {
	t := &table{left: 1, head: []string{"messages", "deferred", "ungreylisted", "misrouted", "lost at most"}}
	row := func(name string, m results.Mail) {
		if m != (results.Mail{}) {
			t.add(name, count(m.Deferred), count(m.Ungreylisted), count(m.Misrouted), count(m.LostAtMost))
		}
	}
	row("of "+count(run.Mail.Messages), run.Mail.Mail)
	for _, f := range run.Faults {
		row(f.ID, f.Mail)
	}
	row("no fault", run.Background.Mail)
	return section{title: "Mail", table: t, notes: []string{
		"For a database reason, each message once in a column. Lost at most: put off, and not seen again by the end of the run.",
	}}
}

// alerts tells which alerts on burn rates would have fired, the first few.
func alerts(run *results.Run) section {
	const most = 10
	s := section{title: "Burn-rate alerts"}
	fired := 0
	for _, o := range run.Objectives {
		for _, a := range o.Alerts {
			for _, f := range a.Fired {
				if fired++; fired > most {
					continue
				}
				after := "at " + micros(f.AtUS)
				if f.AfterUS != nil {
					after = micros(*f.AfterUS) + " after " + f.Fault
				}
				s.notes = append(s.notes, fmt.Sprintf("%s: a %s for a %s (%s and %s over %s times the rate), %s, for %s.",
					o.Name, a.Severity, a.Name, micros(a.LongS*1_000_000), micros(a.ShortS*1_000_000), tenth(&a.BurnRate), after, micros(f.ResetUS-f.AtUS)))
			}
		}
	}
	switch {
	case fired == 0:
		s.notes = []string{"None would have fired."}
	case fired > most:
		s.notes = append(s.notes, fmt.Sprintf("And %s more.", count(int64(fired-most))))
	}
	return s
}

// projections tells what the budgets of a day and of 30 would be spent on.
func projections(run *results.Run) section {
	t := &table{left: 2, head: []string{"objective", "dearest fault", "of a day's", "in 30 d", "of a day", "of 30 days"}}
	for _, o := range run.Objectives {
		if o.Projection == nil {
			continue
		}
		name, cost, rate := "", (*results.Decimal)(nil), none
		for _, f := range o.Projection.Faults {
			if f.DayBudget != nil && (cost == nil || *f.DayBudget > *cost) {
				name, cost, rate = f.Fault, f.DayBudget, tenth(&f.PerThirtyDays)
			}
		}
		t.add(o.Name, name, percent(cost), rate, percent(o.Projection.Day.BudgetSpent), percent(o.Projection.ThirtyDays.BudgetSpent))
	}
	if len(t.rows) == 0 {
		return section{}
	}
	return section{title: "Budgets of a day and of 30", table: t, notes: []string{
		"Of a day's: share of a day's error budget that one such fault takes; in 30 d: how often it is expected. " +
			"Of a day, of 30 days: budget spent with all faults as often as expected, and the background of this run.",
	}}
}

func errorCounts(run *results.Run) section {
	number := func(n uint16) string {
		if n == 0 {
			return none
		}
		return strconv.Itoa(int(n))
	}
	t := &table{left: 1, head: []string{"error", "MySQL", "NDB", "attempts"}}
	var notes []string
	for _, e := range run.Errors {
		t.add(e.Class, number(e.MySQL), number(e.NDB), count(e.Attempts))
		if e.NDB != 0 {
			notes = append(notes, fmt.Sprintf("NDB %d: %s.", e.NDB, ndberr.Meaning(e.NDB)))
		}
	}
	return section{title: "Failed attempts", table: t, notes: notes}
}

func rest(run *results.Run) section {
	notes := []string{"Acknowledged writes: not read back."}
	if run.Ledger != nil {
		notes = ledgerNotes(run.Ledger)
	}
	notes = append(notes, remarks(run)...)
	return section{title: "Run", notes: append(notes,
		fmt.Sprintf("Repeat it: mailbench run %s, the file beside this run (seed %d).", results.ScenarioFile, run.Seed),
	)}
}

// ledgerNotes say what became of acknowledged writes.
func ledgerNotes(l *results.LedgerResult) []string {
	text := fmt.Sprintf("Acknowledged writes: %s; %s verified", plural(l.Acknowledged, "key"), count(l.Verified))
	for _, c := range []struct {
		n    int64
		what string
	}{
		{l.Lost, "lost"}, {l.Stale, "stale"}, {l.Resurrected, "resurrected"},
		{l.Allowed, "allowed to be lost, as the cluster went back to an older checkpoint"}, {l.Unknown, "unknown"},
	} {
		if c.n > 0 {
			text += fmt.Sprintf(", %s %s", count(c.n), c.what)
		}
	}
	readings, readAfter := 0, map[string]bool{}
	for _, r := range l.ReadBacks {
		if r.Keys == 0 {
			continue // the node did not answer
		}
		readings++
		if r.After != "" {
			readAfter[r.After] = true
		}
	}
	text += "."
	if readings > 0 {
		text += fmt.Sprintf(" They were read %s, each through one SQL node", plural(int64(readings), "time"))
		if n := len(readAfter); n > 0 {
			text += fmt.Sprintf(": after %s, and at the end", plural(int64(n), "fault"))
		}
		text += "."
	}
	notes := []string{text}
	if l.Violations.Total()+l.Violations.Allowed > 0 {
		notes = append(notes, violations(&l.Violations)+".")
	}
	for _, x := range l.Restores {
		notes = append(notes, fmt.Sprintf("The whole cluster restarted %s after the recording began, from global checkpoint %d.", micros(x.AtUS), x.GCI))
	}
	return notes
}

// violations says how answers contradicted what was acknowledged.
func violations(v *results.ViolationCounts) string {
	var parts []string
	for _, c := range []struct {
		n    int64
		what string
	}{
		{v.WrongRoute, "a wrong route"}, {v.DeferredAgain, "deferred again"}, {v.LetThrough, "let through"}, {v.WrongPreference, "a wrong preference"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(c.n), c.what))
		}
	}
	if v.Total() == 0 && v.Allowed > 0 {
		return fmt.Sprintf("%s contradicted what was acknowledged, as they may after the restart of the whole cluster", plural(v.Allowed, "answer"))
	}
	text := fmt.Sprintf("%s contradicted what was acknowledged", plural(v.Total(), "answer"))
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	if v.Allowed > 0 {
		text += fmt.Sprintf(", %s more may, after the restart of the whole cluster", count(v.Allowed))
	}
	return text
}

// remarks are about the load and its generator.
func remarks(run *results.Run) []string {
	var notes []string
	var wrong, overflow int64
	for _, p := range run.Paths {
		wrong += p.Wrong
		if p.ResponseUS != nil {
			overflow += p.ResponseUS.Overflow
		}
	}
	if wrong > 0 {
		notes = append(notes, fmt.Sprintf("Answered wrongly: %s ops, counted as bad.", count(wrong)))
	}
	if overflow > 0 {
		notes = append(notes, fmt.Sprintf("Longer than %s, and not told apart: %s ops; a quantile among them is told as the maximum.",
			micros(results.MaxLatency.Microseconds()), count(overflow)))
	}
	if e := run.End; e != nil && e.ChangesNotAsked > 0 {
		notes = append(notes, fmt.Sprintf("Not asked, because a change before of the same account was refused or had no answer: %s changes.", count(e.ChangesNotAsked)))
	}
	if e := run.End; e != nil && e.ChecksNotAsked+e.SavesNotAsked > 0 {
		notes = append(notes, fmt.Sprintf("Not asked, because an op before had no answer: %s greylist checks, %s preferences.",
			count(e.ChecksNotAsked), count(e.SavesNotAsked)))
	}
	if e := run.End; e != nil && e.Tries+e.TriesLeft+e.GivenUp > 0 {
		notes = append(notes, fmt.Sprintf("Put off and come back: %s tries; %s more are due after the run; %s recipients were given up.",
			count(e.Tries), count(e.TriesLeft), count(e.GivenUp)))
	}
	if e := run.End; e != nil && e.PutOff+e.Dropped > 0 {
		notes = append(notes, fmt.Sprintf("No room under way: %s tries were put off, %s sessions were left out.", count(e.PutOff), count(e.Dropped)))
	}
	if run.Speed > 1 {
		notes = append(notes, fmt.Sprintf("The mail system's time ran %s times faster than the clock; faults, time-outs and latencies kept to the clock, so that a second of outage met %[1]s seconds of mail.", count(int64(run.Speed))))
	}
	return append(notes, generator(run.Generator)...)
}

// generator says in one or two notes how far the generator was from an ideal one.
func generator(g results.GeneratorResult) []string {
	lag, cpu := "not known", "not known"
	if g.LagP999US != nil {
		lag = "99.9 % of messages began within " + micros(*g.LagP999US) + " of their time"
		if g.LagMinuteP999US != nil {
			lag += ", " + micros(*g.LagMinuteP999US) + " in the worst minute"
		}
	}
	if g.CPUUSPerOp != nil {
		cpu = tenth(g.CPUUSPerOp) + " µs an op"
	}
	notes := []string{"Generator's lag: " + lag + "; its CPU time: " + cpu + "."}
	if g.SchedP999US != nil {
		stolen := ""
		if g.Steal != nil {
			stolen = "; of a minute, " + percent(g.Steal) + " kept back by the machine's host"
		}
		notes = append(notes, fmt.Sprintf("What disturbed it, at worst: 99.9 %% of a second's goroutines waited up to %s for a processor; a pause of %s for the garbage collector; a clock step of %s%s.",
			micros(*g.SchedP999US), micros(*g.GCPauseMaxUS), micros(*g.ClockStepUS), stolen))
	}
	return notes
}
