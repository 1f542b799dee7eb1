package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/memory"
)

// Names of the files that WriteCapacity makes.
const (
	CapacityHTMLFile     = "capacity.html"
	CapacityMarkdownFile = "capacity.md"
	CapacityCSVFile      = "capacity.csv"
)

// CapacityExtras are parts of a capacity report that other measurements than the
// search itself give. What is empty is not shown.
type CapacityExtras struct {
	Curves     []CapacityCurve  // throughput against what is scaled
	Memory     *CapacityPart    // forecast of memory and disk
	Comparison []CapacityColumn // other systems under the same objectives
	Words      []string         // whole sentences: what the death of a server does to the system of the report
	Deaths     []CapacityDeath  // of all systems

	Variants []capacity.Varied // whose steps and results capacity.csv and capacity.json have, too
	Dir      string            // of the search, below that of the report; "" if they are one
	Command  string            // that goes on with all of it; "" for that of a search

	forecast *memory.Forecast // that Memory is of
}

// CapacityPart is a part in words, curves and tables.
type CapacityPart struct {
	Words  []string // whole sentences
	Curves []CapacityCurve
	Tables []CapacityTable
}

// CapacityTable is a table. Each row has as many cells as Head.
type CapacityTable struct {
	Title string
	Left  int // so many columns hold text, at least 1; the others hold numbers
	Head  []string
	Rows  [][]string
	Notes []string // whole sentences
}

// CapacityColumn is another system of a comparison.
type CapacityColumn struct {
	Title  string // how it is called: "OpenLDAP, two providers"
	Result *capacity.Result
	Words  []string // whole sentences: what the death of a server does
}

// capacityFile is capacity.json: the search, and what else there is.
type capacityFile struct {
	*capacity.Result
	Dir      string            `json:"dir,omitempty"` // of the search, below that of the file; "" if they are one
	Curves   []CapacityCurve   `json:"curves,omitempty"`
	Memory   *memory.Forecast  `json:"memory,omitempty"`
	Variants []capacityVariant `json:"variants,omitempty"`
}

type capacityVariant struct {
	Dir    string           `json:"dir"` // below that of the file
	Result *capacity.Result `json:"result"`
}

// CapacityJSON writes what was judged, with the curves, the forecast of memory and the
// variants.
func CapacityJSON(w io.Writer, r *capacity.Result, x CapacityExtras) error {
	f := capacityFile{Result: r, Dir: x.Dir, Curves: x.Curves, Memory: x.forecast}
	for _, v := range x.Variants {
		f.Variants = append(f.Variants, capacityVariant{v.Dir(), v.Result})
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(f)
}

// CapacityDeath is a run of a system in which servers died.
type CapacityDeath struct {
	Title string       // of the system
	Dir   string       // of the run, below that of the report
	Run   *results.Run // nil if it could not be judged
	Why   string       // it could not
}

// WriteCapacity writes capacity.json, .html, .md and .csv to dir, in place of older
// ones. The same result makes the same bytes. Errors name what of the
// extras cannot be drawn, or the file that could not be written.
func WriteCapacity(dir string, r *capacity.Result, x CapacityExtras) error {
	if err := x.check(); err != nil {
		return fmt.Errorf("capacity report: %w", err)
	}
	for _, o := range []output{
		{capacity.CapacityFile, func(w io.Writer) error { return CapacityJSON(w, r, x) }},
		{CapacityHTMLFile, func(w io.Writer) error { return CapacityHTML(w, r, x) }},
		{CapacityMarkdownFile, func(w io.Writer) error { return CapacityMarkdown(w, r, x) }},
		{CapacityCSVFile, func(w io.Writer) error { return CapacityCSV(w, r, x) }},
	} {
		if err := results.ReplaceFile(filepath.Join(dir, o.name), o.write); err != nil {
			return fmt.Errorf("capacity report: %w", err)
		}
	}
	return nil
}

// CapacityText draws a search for a terminal of so many columns, at least 80. Only
// what has no space to break at may be wider. Of what else there is it draws the command
// that goes on with it.
func CapacityText(w io.Writer, r *capacity.Result, width int, x CapacityExtras) error {
	r = promising(r)
	all := slices.Concat(foundSections(r), stepSections(r), []section{{title: "Assumptions", notes: assumptions(r)}, repeat(r, x)})
	return writeText(w, CapacityHeadline(r), all, max(width, 80))
}

// CapacityMarkdown draws a search, and what else there is, as GitHub-flavoured
// Markdown.
func CapacityMarkdown(w io.Writer, r *capacity.Result, x CapacityExtras) error {
	if err := x.check(); err != nil {
		return err
	}
	r = promising(r)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# mailbench capacity: %s\n\n%s\n", escape(r.Search.Scenario), escape(CapacityHeadline(r)))
	all := foundSections(r)
	for _, f := range r.Regimes {
		if t := rateTable(r, f); len(t.rows) > 0 {
			all = append(all, section{title: "Against the offered rate: " + regimeName(f.Regime), table: t, notes: []string{rateNote}})
		}
	}
	for _, c := range x.Curves {
		all = append(all, c.section())
	}
	if x.Memory != nil {
		all = append(all, x.Memory.sections("Memory and disk")...)
	}
	all = append(all, compared(r, x)...)
	all = append(all, section{title: "Steps", table: stepTable(r), notes: stepNotes(r)},
		section{title: "Assumptions", notes: assumptions(r)}, repeat(r, x))
	for _, s := range all {
		s.title = escape(s.title)
		s.markdown(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// CapacityCSV writes a row a step, with a heading: rates in messages a day, times in
// microseconds, shares in millionths; in_flight_milli in thousandths of an op. Each
// node whose CPU was measured has a column. A step without objectives leaves the
// columns of the worst one empty. Those of variants follow, named by their directory.
func CapacityCSV(w io.Writer, r *capacity.Result, x CapacityExtras) error {
	type rows struct {
		search string
		of     *capacity.Result
	}
	all := []rows{{x.Dir, r}}
	for _, v := range x.Variants {
		all = append(all, rows{v.Dir(), v.Result})
	}
	nodes := map[string]bool{}
	for _, search := range all {
		for _, f := range search.of.Regimes {
			for i := range f.Steps {
				for node := range f.Steps[i].CPUPPM {
					nodes[node] = true
				}
			}
		}
	}
	names := slices.Sorted(maps.Keys(nodes))
	out := csv.NewWriter(w)
	head := []string{"search", "regime", "step", "dir", "per_day", "from_us", "to_us", "stopped", "looks", "outcome", "why",
		"worst_objective", "budget_ppm", "bad_low_ppm", "bad_high_ppm", "offered", "ops", "good",
		"mean_us", "p50_us", "p99_us", "max_us", "in_flight_milli", "lag_p999_us", "held_back"}
	for _, node := range names {
		head = append(head, "cpu_ppm_"+node)
	}
	if err := out.Write(head); err != nil {
		return err
	}
	for _, search := range all {
		for _, f := range search.of.Regimes {
			for i := range f.Steps {
				if err := out.Write(append([]string{search.search}, stepRow(&f.Steps[i], names)...)); err != nil {
					return err
				}
			}
		}
	}
	out.Flush()
	return out.Error()
}

// stepRow are the columns of a step, with a last one for each node.
func stepRow(s *capacity.Judged, nodes []string) []string {
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	row := []string{string(s.Regime), strconv.Itoa(s.Number), s.Dir, text(s.PerDay), text(s.FromUS), text(s.ToUS),
		string(s.Stopped), strconv.Itoa(s.Looks), string(s.Outcome), s.Why}
	if o, ok := worstObjective(s); ok {
		row = append(row, o.Name, text(o.BudgetPPM), text(o.LowPPM), text(o.HighPPM))
	} else {
		row = append(row, "", "", "", "")
	}
	row = append(row, text(s.Offered), text(s.Ops), text(s.Good), text(s.MeanUS), text(s.P50US), text(s.P99US), text(s.MaxUS),
		text(s.InFlightMilli), text(s.LagP999US), strconv.FormatBool(s.HeldBack))
	for _, node := range nodes {
		cell := ""
		if ppm, measured := s.CPUPPM[node]; measured {
			cell = text(ppm)
		}
		row = append(row, cell)
	}
	return row
}

// promising returns the result, without its promises if writes were lost: whatever
// it says, no rate may be promised then.
func promising(r *capacity.Result) *capacity.Result {
	if r.Verdict != string(results.DataLoss) {
		return r
	}
	without := *r
	without.Regimes = slices.Clone(r.Regimes)
	for i := range without.Regimes {
		without.Regimes[i].PromisePerDay, without.Regimes[i].HeadroomPPM = 0, 0
	}
	return &without
}

// CapacityHeadline says in a word and a sentence what may be promised, or why
// nothing may.
func CapacityHeadline(r *capacity.Result) string {
	word, _, sentence := headlineOf(r)
	return word + ": " + sentence
}

// headlineOf returns a word, its tone and a sentence.
func headlineOf(r *capacity.Result) (word string, tone string, sentence string) {
	system := "this cluster"
	if r.Search.System != "ndb" {
		system = "this system (" + r.Search.System + ")"
	}
	var promised, headroom []string
	var without []capacity.Found
	open, bounded, short := len(r.Regimes) == 0, false, false
	for _, f := range r.Regimes {
		phrase := regimePhrase(f.Regime, r.Topology)
		open = open || !f.Done
		if f.PromisePerDay == 0 {
			without = append(without, f)
			continue
		}
		n := count(f.PromisePerDay)
		if byGenerator(f) || f.Limit.Outside() || f.Done && f.MissedPerDay == 0 {
			n, bounded = "at least "+n, true
		}
		if len(promised) == 0 {
			n += " messages a day"
		}
		promised = append(promised, n+" "+phrase)
		headroom = append(headroom, times(f.HeadroomPPM))
		short = short || f.HeadroomPPM < 1_000_000
	}
	var b strings.Builder
	switch {
	case r.Verdict == string(results.DataLoss):
		return "DATA LOSS", "bad", "acknowledged writes were lost during this search, so that nothing may be promised, whatever rates met their objectives."
	case len(promised) == 0 && len(r.Regimes) == 0:
		return "UNFINISHED", "doubt", "no rate was tried yet, so that nothing may be promised."
	case len(promised) == 0:
		fmt.Fprintf(&b, "%s may be promised nothing", system)
		if open {
			b.WriteString(" yet")
		}
		separator := ": "
		for _, f := range without {
			fmt.Fprintf(&b, "%s%s, %s", separator, regimePhrase(f.Regime, r.Topology), reason(f))
			separator = "; "
		}
	default:
		if open {
			b.WriteString("so far, ")
		}
		fmt.Fprintf(&b, "%s may be promised %s", system, list(promised))
		if r.Search.PeakPPM > 0 {
			fmt.Fprintf(&b, ": the busiest hour has %s times the mean rate", times(r.Search.PeakPPM))
		}
		if r.Search.TodayPerDay > 0 {
			fmt.Fprintf(&b, "; that is %s times today's volume of %s", list(headroom), count(r.Search.TodayPerDay))
		}
		for _, f := range without {
			fmt.Fprintf(&b, "; nothing %s (%s)", regimePhrase(f.Regime, r.Topology), reason(f))
		}
		for _, f := range r.Regimes {
			if f.PromisePerDay > 0 && byGenerator(f) {
				fmt.Fprintf(&b, "; %s, the generator was the limit", regimeName(f.Regime))
			} else if f.PromisePerDay > 0 && f.Limit.Outside() {
				fmt.Fprintf(&b, "; %s, the host was the limit, which system and generator share", regimeName(f.Regime))
			}
		}
	}
	for _, f := range r.Regimes {
		if at := diedAt(f); at > 0 && f.PromisePerDay > 0 {
			fmt.Fprintf(&b, "; %s, it died at %s messages a day", regimeName(f.Regime), count(at))
		}
	}
	sentence = b.String() + "."
	switch {
	case open:
		word, tone = "UNFINISHED", "doubt"
	case len(promised) == 0:
		return "NO PROMISE", "bad", sentence
	case bounded:
		word, tone = "AT LEAST", "doubt"
	case len(without) > 0 || short:
		word, tone = "PROMISE", "doubt"
	default:
		word, tone = "PROMISE", "good"
	}
	return word, tone, sentence
}

// reason says why no rate may be promised in a regime.
func reason(f capacity.Found) string {
	switch why := strings.TrimSuffix(f.Why, "."); {
	case len(f.Steps) == 0:
		return cmp.Or(why, "not measured")
	case why != "":
		return why
	case diedAt(f) > 0:
		return fmt.Sprintf("it died at %s messages a day", count(diedAt(f)))
	case byGenerator(f):
		return "the generator was the limit"
	case !f.Done:
		return "no rate was met so far"
	case f.MissedPerDay > 0:
		return fmt.Sprintf("objectives are missed at %s messages a day already, the lowest rate tried", count(f.MissedPerDay))
	default:
		return "no step told"
	}
}

// byGenerator: what is above was not told apart, as the generator could not do it.
func byGenerator(f capacity.Found) bool {
	return f.Limit.Resource == "generator" || f.MissedPerDay == 0 && slices.ContainsFunc(f.Steps, func(s capacity.Judged) bool { return s.Outcome == capacity.Generator })
}

// diedAt is the lowest rate at which the system died, 0 if it did not.
func diedAt(f capacity.Found) (perDay int64) {
	for _, s := range f.Steps {
		if s.Stopped == capacity.SystemDied && (perDay == 0 || s.PerDay < perDay) {
			perDay = s.PerDay
		}
	}
	return perDay
}

// down are the nodes that a regime has down.
func down(r capacity.Regime) (kind capacity.Regime, nodes []string) {
	name, names, named := strings.Cut(string(r), ":")
	if named {
		nodes = strings.Split(names, ",")
	}
	return capacity.Regime(name), nodes
}

// regimeName is how a regime is called in a table: "data2 dead".
func regimeName(r capacity.Regime) string {
	kind, nodes := down(r)
	who := cmp.Or(strings.Join(nodes, ", "), "a node")
	switch kind {
	case capacity.Short:
		return who + " dead"
	case capacity.Rejoining:
		return who + " rejoining"
	}
	return string(r)
}

// regimePhrase is how a regime stands in a sentence: "with a data node dead (data2)".
func regimePhrase(r capacity.Regime, top topology.Topology) string {
	kind, nodes := down(r)
	who := whatIsDown(nodes, top)
	switch kind {
	case capacity.Short:
		return "with " + who + " dead"
	case capacity.Rejoining:
		return "while " + who + " rejoins"
	}
	return string(r)
}

// roleNames are how a sentence calls nodes.
var roleNames = map[topology.Role]string{topology.Data: "a data node", topology.SQL: "a SQL node", topology.Management: "a management node"}

// roleName is how a sentence calls a node: where the system is no cluster of NDB, all
// that it has are servers.
func roleName(n topology.Node, top topology.Topology) string {
	if len(top.ByRole(topology.Data)) == 0 {
		return "a server"
	}
	return cmp.Or(roleNames[n.Role], "a node")
}

// whatIsDown names what fails together: a node by its role, several by their host.
func whatIsDown(nodes []string, top topology.Topology) string {
	if len(nodes) == 0 {
		return "a node"
	}
	if host, whole := strings.CutPrefix(nodes[0], "host:"); whole && len(nodes) == 1 {
		var there []string
		for _, n := range top.Nodes {
			if n.Host == host {
				there = append(there, n.Name)
			}
		}
		return fmt.Sprintf("the host %s (%s)", host, strings.Join(there, ", "))
	}
	hosts := map[string]bool{}
	var last topology.Node
	for _, name := range nodes {
		n, err := top.Node(name)
		if err != nil { // another system's
			return strings.Join(nodes, ", ")
		}
		hosts[n.Host], last = true, n
	}
	switch {
	case len(nodes) == 1:
		return fmt.Sprintf("%s (%s)", roleName(last, top), last.Name)
	case len(hosts) == 1:
		return fmt.Sprintf("the host %s (%s)", last.Host, strings.Join(nodes, ", "))
	}
	return strings.Join(nodes, ", ")
}

// list joins with commas and a last "and".
func list(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// times writes millionths with two digits behind the point, rounded down: a promise
// is not made larger.
func times(ppm int64) string {
	return fmt.Sprintf("%s.%02d", count(ppm/1_000_000), ppm%1_000_000/10_000)
}

// orNone writes a rate, a dash for none.
func orNone(perDay int64) string {
	if perDay == 0 {
		return none
	}
	return count(perDay)
}

func ppm(n int64) string { return percent(new(results.Decimal(n))) }

// foundSections are what was found in each regime.
func foundSections(r *capacity.Result) []section {
	return []section{regimes(r), {title: "What limits it", notes: limits(r)}}
}

func regimes(r *capacity.Result) section {
	t := &table{left: 1, head: []string{"regime", "promise", "of today", "met", "missed", "limit"}}
	for _, f := range r.Regimes {
		t.add(append([]string{clip(regimeName(f.Regime), maxName)}, foundCells(f)...)...)
	}
	return section{title: "What may be promised, by regime", table: t, notes: []string{
		"Messages a day. Promise: met over the busiest hour's share, so that this hour still meets every objective. Of today: promise over today's volume. " +
			"Met: the highest even rate at which every objective is met; missed: the lowest at which one is not; the capacity is between.",
	}}
}

// foundCells are promise, headroom, met, missed and limit: what matters most first, as a phone
// may show no more.
func foundCells(f capacity.Found) []string {
	headroom := none
	if f.PromisePerDay > 0 {
		headroom = times(f.HeadroomPPM)
	}
	limit := f.Limit.Resource
	if limit == "" && byGenerator(f) {
		limit = "generator"
	}
	return []string{orNone(f.PromisePerDay), headroom, orNone(f.MetPerDay), orNone(f.MissedPerDay), cmp.Or(limit, none)}
}

// limits say in words what was used up first, and what is not known.
func limits(r *capacity.Result) (notes []string) {
	for _, f := range r.Regimes {
		name := regimeName(f.Regime)
		said := len(notes)
		add := func(words string) {
			notes = append(notes, fmt.Sprintf("%s: %s.", name, strings.TrimSuffix(words, ".")))
		}
		if len(f.Steps) == 0 {
			add(cmp.Or(f.Why, "not measured"))
			continue
		}
		if l := f.Limit; l.Resource != "" {
			words := l.Resource
			if l.Node != "" {
				words += " of " + l.Node
			}
			switch {
			case l.Evidence != "":
				words += ": " + l.Evidence
			case l.UsePPM > 0:
				words += ", " + ppm(l.UsePPM) + " used"
			}
			add(words)
		} else if l.Evidence != "" {
			add("not known which resource is the limit: " + l.Evidence)
		}
		if f.Why != "" {
			add(f.Why)
		}
		if !f.Done && !strings.Contains(f.Why, "not over") {
			add("the search is not over")
		}
		if len(notes) == said {
			add("not known which resource is the limit")
		}
	}
	if len(notes) == 0 {
		notes = []string{"No regime was measured."}
	}
	return notes
}

// worstObjective is the one that is missed or nearest to it: that of the worst
// outcome, of these the one whose interval reaches furthest past its budget. One that
// is sparse comes last unless it is missed.
func worstObjective(s *capacity.Judged) (worst capacity.Objective, ok bool) {
	rank := func(o capacity.Objective) int {
		switch {
		case o.Outcome == capacity.Missed:
			return 2
		case o.Sparse: // its interval says little
			return -1
		case o.Outcome == capacity.Open:
			return 1
		}
		return 0
	}
	for _, o := range s.Objectives {
		// o.High/o.Budget > worst.High/worst.Budget, without dividing by no budget.
		further := cmp.Or(cmp.Compare(rank(o), rank(worst)), cmp.Compare(o.HighPPM*worst.BudgetPPM, worst.HighPPM*o.BudgetPPM),
			cmp.Compare(o.HighPPM, worst.HighPPM))
		if !ok || further > 0 {
			worst, ok = o, true
		}
	}
	return worst, ok
}

// badInterval is the interval around the share of bad events.
func badInterval(o capacity.Objective) string {
	return strings.TrimSuffix(exactPercent(results.Decimal(o.LowPPM)), " %") + "–" + exactPercent(results.Decimal(o.HighPPM))
}

// maxSteps bounds the steps that are shown; capacity.json has all.
const maxSteps = 300

// stepTable lists the steps of all regimes.
func stepTable(r *capacity.Result) *table {
	t := &table{left: 4, head: []string{"step", "regime", "outcome", "worst objective", "rate a day", "length", "bad", "budget", "lag", "why"}}
	for _, s := range allSteps(r) {
		name, bad, budget := worstCells(s)
		t.add(strconv.Itoa(s.Number), clip(regimeName(s.Regime), maxName), string(s.Outcome), name, count(s.PerDay),
			micros(s.ToUS-s.FromUS), bad, budget, micros(s.LagP999US), clip(s.Why, 4*maxName))
	}
	return t
}

// stepSections list the steps of each regime, with what a terminal has room for.
func stepSections(r *capacity.Result) (all []section) {
	for _, f := range r.Regimes {
		t := &table{left: 3, head: []string{"step", "outcome", "worst objective", "rate a day", "length", "bad", "lag"}}
		for i := range f.Steps[:min(len(f.Steps), maxSteps)] {
			s := &f.Steps[i]
			name, bad, _ := worstCells(s)
			t.add(strconv.Itoa(s.Number), string(s.Outcome), name, count(s.PerDay), micros(s.ToUS-s.FromUS), bad, micros(s.LagP999US))
		}
		if len(t.rows) > 0 {
			all = append(all, section{title: "Steps, " + regimeName(f.Regime), table: t})
		}
	}
	if len(all) > 0 {
		all[len(all)-1].notes = stepNotes(r)
	}
	return all
}

// worstCells are the worst objective's name, its interval and its budget.
func worstCells(s *capacity.Judged) (name, bad, budget string) {
	o, ok := worstObjective(s)
	if !ok {
		return none, none, none
	}
	return clip(o.Name, maxName), badInterval(o), exactPercent(results.Decimal(o.BudgetPPM))
}

// allSteps are the steps that are shown, in the order in which they were taken.
func allSteps(r *capacity.Result) (all []*capacity.Judged) {
	for _, f := range r.Regimes {
		for i := range f.Steps {
			all = append(all, &f.Steps[i])
		}
	}
	slices.SortStableFunc(all, func(a, b *capacity.Judged) int { return cmp.Compare(a.Number, b.Number) })
	return all[:min(len(all), maxSteps)]
}

func stepNotes(r *capacity.Result) []string {
	notes := []string{fmt.Sprintf("Bad: interval around the share of bad events at a confidence of %s, of the objective that is missed or nearest to it. "+
		"Lag: 99.9 %% of messages began within it of their time.", exactPercent(results.Decimal(r.Search.Settings.ConfidencePPM)))}
	total := 0
	for _, f := range r.Regimes {
		total += len(f.Steps)
	}
	if total > maxSteps {
		notes = append(notes, fmt.Sprintf("And %d more, in %s.", total-maxSteps, capacity.CapacityFile))
	}
	return notes
}

// assumptions are what the promise rests on.
func assumptions(r *capacity.Result) []string {
	s, set := &r.Search, r.Search.Settings
	notes := []string{topologyNote(r)}
	notes = append(notes, quotaNotes(r)...)
	if s.TodayPerDay > 0 {
		notes = append(notes, fmt.Sprintf("Today: %s messages a day, as the scenario has them.", count(s.TodayPerDay)))
	}
	if s.PeakPPM > 0 {
		note := fmt.Sprintf("Peak factor: the scenario's busiest hour has %s times the day's mean rate, and a promise holds for that hour.", times(s.PeakPPM))
		if s.BurstPPM > 0 {
			note += fmt.Sprintf(" A burst's minute has %s times, for which no promise is made.", times(s.BurstPPM))
		}
		notes = append(notes, note)
	}
	notes = append(notes,
		"Rates: even within a step, of the scenario's own mix; a rate of so many messages a day is that many first tries in 86,400 s.",
		fmt.Sprintf("Steps: %s to settle, then %s to %s, looked at every %s; met and missed at a confidence of %s; rates next to each other differ by %s; at most %s a regime.",
			micros(set.SettleUS), micros(set.MinStepUS), micros(set.MaxStepUS), micros(set.LookUS), exactPercent(results.Decimal(set.ConfidencePPM)),
			exactPercent(results.Decimal(set.ResolutionPPM)), plural(int64(set.MaxSteps), "step")),
		fmt.Sprintf("Searched: from %s messages a day, between %s and %s.", count(set.StartPerDay), count(set.LowestPerDay), count(set.HighestPerDay)))
	for _, o := range r.Objectives {
		notes = append(notes, fmt.Sprintf("Objective %s: %s.", clip(o.Name, maxName), demand(o)))
	}
	if names := sparse(r); len(names) > 0 {
		notes = append(notes, "Too few events in a step to prove it met, so that it could only be missed: "+strings.Join(names, ", ")+".")
	}
	ledger := "Ledger: every acknowledged write that was read back is there."
	if r.Verdict != "" {
		ledger = "Ledger: " + strings.ReplaceAll(r.Verdict, "_", " ") + "; the runs below the search's directory say which writes."
	}
	notes = append(notes, ledger)
	version := ""
	if s.Version != "" {
		version = ", mailbench " + s.Version
	}
	return append(notes, fmt.Sprintf("Loaded for %s in all; seed %d%s.", micros(r.TookUS), s.Seed, version))
}

func topologyNote(r *capacity.Result) string {
	top := r.Topology
	if len(top.Nodes) == 0 {
		return fmt.Sprintf("System: %s.", r.Search.System)
	}
	data, sql := len(top.ByRole(topology.Data)), len(top.ByRole(topology.SQL))
	if data == 0 {
		return fmt.Sprintf("System: %s, %s, on %s.", r.Search.System, plural(int64(sql), "server"), plural(int64(len(top.Hosts())), "host"))
	}
	return fmt.Sprintf("System: %s, %s in node groups of %d, %s, on %s.", r.Search.System, plural(int64(data), "data node"), top.Replicas,
		plural(int64(sql), "SQL node"), plural(int64(len(top.Hosts())), "host"))
}

// quotaNotes say what the nodes may use of the machine that they share.
func quotaNotes(r *capacity.Result) (notes []string) {
	top := r.Topology
	cpus := func(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }
	var all int64
	unlimited := false
	var parts []string
	for _, role := range []topology.Role{topology.Data, topology.SQL, topology.Management} {
		ofRole := top.ByRole(role)
		nodes := int64(len(ofRole))
		if nodes == 0 {
			continue
		}
		l := top.Limits[role]
		what := "has no CPU quota"
		if l.MilliCPUs > 0 {
			what = "has a quota of " + cpus(int64(l.MilliCPUs)) + " CPUs"
		}
		if l.MemoryMiB > 0 {
			what += fmt.Sprintf(" and %s MiB", count(int64(l.MemoryMiB)))
		}
		unlimited = unlimited || l.MilliCPUs == 0
		all += nodes * int64(l.MilliCPUs)
		parts = append(parts, roleName(ofRole[0], top)+" "+what)
	}
	if len(parts) > 0 {
		notes = append(notes, "Limits: "+strings.Join(parts, "; ")+".")
	}
	h := r.Host
	if h.Processors == 0 {
		return notes
	}
	host := fmt.Sprintf("Host: %s", plural(int64(h.Processors), "processor"))
	if h.MemoryMiB > 0 {
		host += fmt.Sprintf(", %s MiB", count(h.MemoryMiB))
	}
	if h.Kernel != "" {
		host += ", kernel " + clip(h.Kernel, maxName)
	}
	host += ", shared by all nodes and the generator"
	switch whole := int64(h.Processors) * 1000; {
	case len(parts) == 0:
	case unlimited:
		host += "; without quotas it is the host that may be the limit"
	case all > whole:
		host += fmt.Sprintf("; the quotas come to %s CPUs, more than it has, so that the host may be the limit", cpus(all))
	default:
		host += fmt.Sprintf("; the quotas come to %s of its %s CPUs", cpus(all), cpus(whole))
	}
	return append(notes, host+".")
}

// demand says what an objective asks for.
func demand(o results.Objective) string {
	text := exactPercent(results.Decimal(o.TargetPPM)) + " of ops good"
	if o.Path != "" {
		text = exactPercent(results.Decimal(o.TargetPPM)) + " of ops on " + o.Path + " good"
	}
	if o.LatencyUS > 0 {
		text += " within " + micros(o.LatencyUS)
	}
	return text
}

// sparse names the objectives that a step could not prove.
func sparse(r *capacity.Result) []string {
	names := map[string]bool{}
	for _, f := range r.Regimes {
		for i := range f.Steps {
			for _, o := range f.Steps[i].Objectives {
				if o.Sparse {
					names[clip(o.Name, maxName)] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// repeat says how the search, and what is beside it, is made again or goes on.
func repeat(r *capacity.Result, x CapacityExtras) section {
	s := section{title: "Repeat it", command: r.Search.Command}
	isOpen := func(r *capacity.Result) bool {
		return len(r.Regimes) == 0 || slices.ContainsFunc(r.Regimes, func(f capacity.Found) bool { return !f.Done })
	}
	open := isOpen(r)
	for _, v := range x.Variants {
		open = open || isOpen(v.Result)
	}
	for _, e := range r.Search.Ends {
		s.notes = append(s.notes, fmt.Sprintf("A sitting ended in %s (%s): %s.", path.Join(x.Dir, e.Dir), regimeName(e.Regime), strings.TrimSuffix(e.Why, ".")))
	}
	if open {
		s.title = "Go on"
		s.notes = append(s.notes, "The search is not over. It goes on with this command, DIR being the directory of this report.")
		s.command = cmp.Or(x.Command, "mailbench capacity --resume DIR")
	}
	return s
}

// compared sets other systems beside the one of the report, if there are any, and tells
// what a death did to each.
func compared(r *capacity.Result, x CapacityExtras) (all []section) {
	if len(x.Comparison) > 0 {
		t := &table{left: 2, head: []string{"system", "regime", "promise", "of today", "met", "missed", "limit"}}
		s := section{title: "Comparison", table: t, notes: []string{"Messages a day, under the same objectives; each system as its own search found it."}}
		add := func(title string, r *capacity.Result, words []string) {
			title = clip(title, maxName)
			if r != nil {
				for _, f := range r.Regimes {
					t.add(append([]string{title, clip(regimeName(f.Regime), maxName)}, foundCells(f)...)...)
				}
			}
			for _, w := range words {
				s.notes = append(s.notes, title+": "+w)
			}
		}
		add(r.Search.System, r, x.Words)
		for _, o := range x.Comparison {
			if o.Result != nil {
				o.Result = promising(o.Result)
			}
			add(o.Title, o.Result, o.Words)
		}
		all = append(all, s)
	}
	if len(x.Deaths) > 0 {
		all = append(all, deaths(x.Deaths))
	}
	return all
}

// deaths are the faults of runs, a row each.
func deaths(all []CapacityDeath) section {
	t := &table{left: 2, head: []string{"system", "fault", "outage", "slowest", "met again", "redundant", "ops", "bad ops", "budget", "verdict"}}
	s := section{title: "What a death does", table: t, notes: []string{
		"Each system at the scenario's own rate and with its faults, on machines of one size. Outage: no op was good, on the path that suffered longest. " +
			"Slowest: the longest response of an op intended meanwhile. Met again, redundant: how long after the fault. " +
			"Budget: of the objective that it cost most, over the run. Verdict: of the run.",
	}}
	for _, d := range all {
		if d.Run == nil {
			s.notes = append(s.notes, fmt.Sprintf("%s: the run in %s cannot be judged: %s.", clip(d.Title, maxName), d.Dir, strings.TrimSuffix(d.Why, ".")))
			continue
		}
		s.notes = append(s.notes, fmt.Sprintf("%s: the report of its run is in %s.", clip(d.Title, maxName), d.Dir))
		for _, f := range d.Run.Faults {
			slowest, ops := none, int64(0)
			if f.ResponseUS != nil {
				slowest = micros(f.ResponseUS.Max)
			}
			for _, p := range f.Paths {
				ops += p.Ops
			}
			t.add(clip(d.Title, maxName), clip(f.Kind+" "+f.Target, maxName), outage(worst(f)), slowest, microsOr(f.Spans.Objective), microsOr(f.Spans.Redundant),
				count(ops), count(f.BadOps), percent(f.BudgetSpent), strings.ReplaceAll(string(d.Run.Verdict), "_", " "))
		}
	}
	return s
}

func (p *CapacityPart) sections(title string) []section {
	var all []section
	if len(p.Words) > 0 {
		all = append(all, section{title: title, notes: p.Words})
	}
	for _, c := range p.Curves {
		all = append(all, c.section())
	}
	for _, t := range p.Tables {
		all = append(all, section{title: t.Title, table: t.table(), notes: t.notes()})
	}
	return all
}

// maxRows bounds the rows that are shown of a table.
const maxRows = 1000

func (t *CapacityTable) table() *table {
	shown := &table{left: t.Left, head: t.Head}
	for _, row := range t.Rows[:min(len(t.Rows), maxRows)] {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clip(cell, 4*maxName)
		}
		shown.add(cells...)
	}
	return shown
}

func (t *CapacityTable) notes() []string {
	if more := len(t.Rows) - maxRows; more > 0 {
		return append(slices.Clone(t.Notes), fmt.Sprintf("And %s more.", plural(int64(more), "row")))
	}
	return t.Notes
}

// check says what of the extras cannot be drawn.
func (x *CapacityExtras) check() error {
	curves, tables := x.Curves, []CapacityTable(nil)
	if x.Memory != nil {
		curves, tables = slices.Concat(curves, x.Memory.Curves), x.Memory.Tables
	}
	for i := range curves {
		if err := curves[i].check(); err != nil {
			return fmt.Errorf("curve %q: %w", curves[i].Title, err)
		}
	}
	for _, t := range tables {
		if t.Left < 1 || t.Left > len(t.Head) {
			return fmt.Errorf("table %q: %d columns of text, must be 1 to %d", t.Title, t.Left, len(t.Head))
		}
		for i, row := range t.Rows {
			if len(row) != len(t.Head) {
				return fmt.Errorf("table %q: row %d has %d cells, the heading %d", t.Title, i+1, len(row), len(t.Head))
			}
		}
	}
	return nil
}
