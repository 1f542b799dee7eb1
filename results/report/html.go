package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
)

//go:embed page
var pageFiles embed.FS

// The drawings are made twice: text that is scaled down cannot be read on a
// phone.
const (
	wideWidth, wideColumns, wideMarks       = 960 * unit, 240, 12
	narrowWidth, narrowColumns, narrowMarks = 380 * unit, 120, 4
)

// maxName is how much of a name is shown, in characters.
const maxName = 60

// maxTableFaults bounds the rows that a page has for faults.
const maxTableFaults = 200

// page is what page.html.tmpl shows.
type page struct {
	Policy   string // of the content: nothing is fetched
	Style    template.CSS
	Script   template.JS
	Run      *results.Run
	Manifest results.Manifest
	Tone     string // of the verdict: a class
	Word     string // the verdict
	Sentence string

	Budgets []budget
	Cost    *table

	Outcomes                 []string // that occurred, for the legend
	Timeline, NarrowTimeline template.HTML
	TimelineTable            *table
	Spreads                  []spread
	MoreFaults               int // whose spread is not drawn
	HiddenFaults             int // that tables leave out
	Outages, Steps           *table
	BurnDown, NarrowBurnDown template.HTML
	BurnDownTable, Charges   *table
	Operations, Responses    part
	ErrorCounts              *part
	Ledger                   []string
	LedgerTables             []titled
	Hosts                    []host
	Clients                  *table
	Environment, Identity    *table
	Remarks                  []string
}

// part is a section as the template sees it.
type part struct {
	Title string
	Table *table
	Notes []string
}

func newPart(s section) part { return part{s.title, s.table, s.notes} }

// budget is an objective's, for the first screen.
type budget struct {
	Name, Demand, Left string
	Tone               string
	Spent              int64 // of 1,000, at most that
}

// spread is what latencies a fault's phases had.
type spread struct {
	Number      int
	Title       string
	Chart       template.HTML
	Table       *table // behind the chart
	Percentiles *table // by path
}

// host is a machine of the topology.
type host struct {
	Name  string
	Nodes []hostNode
}

type hostNode struct{ Name, Role, Detail string }

// HTML draws the report: one page that needs nothing beside itself.
func HTML(w io.Writer, m results.Manifest, run *results.Run, c *results.Course) error {
	read := func(name string) string {
		b, _ := pageFiles.ReadFile("page/" + name) // embedded: it is there
		return string(b)
	}
	style, script := read("page.css"), read("page.js")
	t, err := template.New("page").Funcs(template.FuncMap{
		"table": (*table).html, "style": func(i int) int { return i % burnStyles },
	}).Parse(read("page.html.tmpl"))
	if err != nil {
		return fmt.Errorf("parse the report's template: %w", err)
	}
	word, sentence, _ := strings.Cut(Headline(run), ": ")
	p := &page{
		Policy:   policy(style, script),
		Style:    template.CSS(style),
		Script:   template.JS(script),
		Run:      run,
		Manifest: m,
		Tone:     tone(run.Verdict), Word: word, Sentence: sentence,
		Budgets: budgets(run), Cost: cost(run),
		Timeline:       timeline(c, run, "wide", wideWidth, wideColumns, wideMarks),
		NarrowTimeline: timeline(c, run, "narrow", narrowWidth, narrowColumns, narrowMarks),
		TimelineTable:  timelineTable(c.Merged(wideColumns), run),
		Outages:        outages(run), Steps: steps(run),
		Operations: newPart(operations(run)), Responses: newPart(responses(run)),
		Hosts: hosts(m.Topology), Clients: clients(m), Environment: environment(run, m), Identity: identity(run, m),
		Remarks: remarks(run),
	}
	for _, o := range outcomes {
		if slices.ContainsFunc(c.Columns, func(col results.Column) bool { return col.Outcomes[o] > 0 }) {
			p.Outcomes = append(p.Outcomes, o.String())
		}
	}
	if len(run.Objectives) > 0 {
		p.BurnDown = burnDown(c, run, "wide", wideWidth, wideColumns, wideMarks)
		p.NarrowBurnDown = burnDown(c, run, "narrow", narrowWidth, narrowColumns, narrowMarks)
		p.BurnDownTable, p.Charges = burnDownTable(c.Merged(wideColumns), run), charges(run)
	}
	p.Spreads = faultSpreads(c, run)
	for _, f := range run.Faults {
		if f.InjectedAtUS != nil {
			p.MoreFaults++
		}
	}
	p.MoreFaults -= len(p.Spreads)
	p.HiddenFaults = max(0, len(run.Faults)-maxTableFaults)
	if len(run.Errors) > 0 {
		s := newPart(errorCounts(run))
		p.ErrorCounts = &s
	}
	p.Ledger, p.LedgerTables = ledger(run, c)
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("draw the report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// policy lets a page use its own style and script, and fetch nothing.
func policy(style, script string) string {
	return fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; img-src data:; base-uri 'none'; form-action 'none'", source(style), source(script))
}

// source names an inline text in a content security policy.
func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func tone(v results.Verdict) string {
	switch v {
	case results.Pass:
		return "good"
	case results.Inconclusive:
		return "doubt"
	default:
		return "bad"
	}
}

func budgets(run *results.Run) []budget {
	var all []budget
	for _, o := range run.Objectives {
		demand := exactPercent(o.Target) + " good"
		if o.LatencyUS > 0 {
			demand += " within " + micros(o.LatencyUS)
		}
		if o.Path != "" {
			demand += " on " + o.Path
		}
		b := budget{Name: clip(o.Name, maxName), Demand: demand, Tone: tone(o.Verdict)}
		if len(run.Reasons) > 0 {
			b.Tone = tone(results.Inconclusive) // whatever it looks like
		}
		switch {
		case o.Total == 0:
			b.Left = "no events"
		case o.BudgetSpent == nil:
			b.Left, b.Spent = fmt.Sprintf("no budget, %s bad", count(o.Bad)), 1000
		case *o.BudgetSpent > 1_000_000:
			over := *o.BudgetSpent - 1_000_000
			b.Left, b.Spent = "overspent by "+percent(&over), 1000
		default:
			left := 1_000_000 - *o.BudgetSpent
			b.Left, b.Spent = percent(&left)+" left", int64(*o.BudgetSpent)/1000
		}
		all = append(all, b)
	}
	return all
}

// cost is what each fault cost, in a line.
func cost(run *results.Run) *table {
	if len(run.Faults) == 0 {
		return nil
	}
	t := &table{left: 1, head: []string{"fault", "budget", "bad ops", "outage", "whole after", "slowest"}} // what matters most first: a phone may show no more
	for i, f := range run.Faults[:min(len(run.Faults), maxTableFaults)] {
		slowest := none
		if f.ResponseUS != nil {
			slowest = micros(f.ResponseUS.Max)
		}
		t.add(faultName(i, f), percent(f.BudgetSpent), count(f.BadOps), outage(worst(f)),
			microsOr(f.Spans.Redundant), slowest)
	}
	t.add("no fault", percent(run.Background.BudgetSpent), count(run.Background.BadOps), "", "", "")
	return t
}

// at sets a row's place on a chart, from 0 to 1,000,000.
func (t *table) at(place int64) { t.places = append(t.places, place) }

func timelineTable(c *results.Course, run *results.Run) *table {
	t := &table{left: 1, head: []string{"time", "ops/s", "ok", "retried", "degraded", "failed", "unknown", "p50", "p90", "p99", "max", "failed attempts", "under way", "faults", "not up"}}
	for i := range c.Columns {
		col := &c.Columns[i]
		from := c.FromUS + int64(i)*c.ColumnUS
		to := min(from+c.ColumnUS, c.ToUS)
		row := []string{clock(from), count(perSecond(col.Ops(), c.ColumnUS))}
		for _, o := range outcomes {
			row = append(row, count(col.Outcomes[o]))
		}
		if h := &col.Response; h.Total() > 0 {
			row = append(row, micros(h.QuantileUS(500_000)), micros(h.QuantileUS(900_000)), micros(h.QuantileUS(990_000)), micros(h.MaxUS()))
		} else {
			row = append(row, none, none, none, none)
		}
		t.add(append(row, count(col.Errors), count(col.InFlight), faultsAt(run, from, to), notUp(c, from, to))...)
		t.at(place(c, from, to))
	}
	return t
}

// place is the middle of a stretch on a time axis.
func place(c *results.Course, from, to int64) int64 {
	length, middle := c.ToUS-c.FromUS, (from+to)/2-c.FromUS
	if length > 1e12 {
		length, middle = length/1000, middle/1000
	}
	return middle * 1_000_000 / length
}

func faultsAt(run *results.Run, from, to int64) string {
	var names []string
	for i, f := range run.Faults {
		if f.InjectedAtUS != nil && *f.InjectedAtUS < to && (f.RedundantAtUS == nil || *f.RedundantAtUS > from) {
			names = append(names, fmt.Sprint(i+1))
		}
	}
	return few(names)
}

// notUp names the nodes that were not up all the time.
func notUp(c *results.Course, from, to int64) string {
	var names []string
	for _, n := range c.Nodes {
		for _, s := range n.Spans {
			if s.State != results.NodeUp && s.FromUS < to && s.ToUS > from {
				names = append(names, fmt.Sprintf("%s %s", n.Node, s.State))
				break
			}
		}
	}
	return few(names)
}

// few are names that a cell of a table has room for.
func few(names []string) string {
	if len(names) > 4 {
		names = append(names[:4], fmt.Sprintf("and %d more", len(names)-4))
	}
	return strings.Join(names, ", ")
}

// faultName is how the page calls a fault.
func faultName(i int, f results.FaultResult) string {
	return fmt.Sprintf("%d %s %s", i+1, f.Kind, clip(f.Target, maxName))
}

func burnDownTable(c *results.Course, run *results.Run) *table {
	t := &table{left: 1, head: []string{"time"}}
	for _, o := range run.Objectives {
		t.head = append(t.head, clip(o.Name, maxName))
	}
	for i := range c.Columns {
		from := c.FromUS + int64(i)*c.ColumnUS
		to := min(from+c.ColumnUS, c.ToUS)
		row := []string{clock(to)}
		for _, spent := range c.Columns[i].Spent {
			if spent == nil {
				row = append(row, none)
				continue
			}
			row = append(row, signedPercent(1_000_000-*spent)+" left")
		}
		t.add(row...)
		t.at(place(c, from, to))
	}
	return t
}

// signedPercent writes a share that may be below zero, with one digit.
func signedPercent(d results.Decimal) string {
	if d < 0 {
		d = -d
		return "-" + percent(&d)
	}
	return percent(&d)
}

func charges(run *results.Run) *table {
	t := &table{left: 1, head: []string{"bad events of"}}
	for _, o := range run.Objectives {
		t.head = append(t.head, clip(o.Name, maxName))
	}
	line := func(name string, c results.Charge) {
		row := []string{name}
		for _, b := range c.Budgets {
			row = append(row, fmt.Sprintf("%s (%s)", count(b.Bad), percent(b.BudgetSpent)))
		}
		t.add(row...)
	}
	for i, f := range run.Faults[:min(len(run.Faults), maxTableFaults)] {
		line(faultName(i, f), f.Charge)
	}
	line("no fault", run.Background)
	row := []string{"all"}
	for _, o := range run.Objectives {
		row = append(row, fmt.Sprintf("%s (%s)", count(o.Bad), percent(o.BudgetSpent)))
	}
	t.add(row...)
	return t
}

func steps(run *results.Run) *table {
	if len(run.Faults) == 0 {
		return nil
	}
	t := &table{left: 1, head: []string{"fault", "injected at", "felt by clients", "counted as failed", "takes part again", "redundant"}}
	for i, f := range run.Faults[:min(len(run.Faults), maxTableFaults)] {
		injected := "not injected"
		if f.InjectedAtUS != nil {
			injected = clock(*f.InjectedAtUS)
		}
		t.add(fmt.Sprintf("%d %s", i+1, clip(f.ID, maxName)), injected, microsOr(f.Spans.DetectClients), microsOr(f.Spans.DetectCluster),
			microsOr(f.Spans.Recovered), microsOr(f.Spans.Redundant))
	}
	return t
}

func outages(run *results.Run) *table {
	if len(run.Faults) == 0 {
		return nil
	}
	t := &table{left: 2, head: []string{"fault", "path", "full outage", "longest", "partial", "unmeasured", "ops", "bad", "failed over", "extra median"}}
	for i, f := range run.Faults[:min(len(run.Faults), maxTableFaults)] {
		for _, path := range reference.Paths {
			p, asked := f.Paths[path.String()]
			if !asked {
				continue
			}
			extra := none
			if calm := run.Paths[path.String()].CalmUS; p.FailedOverUS != nil && calm != nil {
				extra = micros(p.FailedOverUS.P50 - calm.P50)
			}
			t.add(faultName(i, f), path.String(), outage(p.FullOutage), outage(p.Longest), outage(p.PartialOutage),
				outage(p.Unmeasured), count(p.Ops), count(p.BadOps), count(p.FailedOver), extra)
		}
	}
	return t
}

func merged(byPath map[reference.Path]*results.Histogram) *results.Histogram {
	all := new(results.Histogram)
	for _, p := range reference.Paths {
		all.Merge(byPath[p])
	}
	return all
}

func faultSpreads(c *results.Course, run *results.Run) []spread {
	var all []spread
	for _, f := range c.Faults {
		number := 1 + slices.IndexFunc(run.Faults, func(r results.FaultResult) bool { return r.ID == f.ID })
		before, during, after := merged(f.Before), merged(f.During), merged(f.After)
		s := spread{
			Number: number, Title: faultName(number-1, run.Faults[number-1]),
			Chart:       spreads(fmt.Sprintf("Percentiles of response times before, during and after fault %d", number), before, during, after),
			Table:       &table{left: 1, head: []string{"percentile", "before", "during", "after"}},
			Percentiles: &table{left: 2, head: []string{"path", "when", "ops", "p50", "p99", "p99.9", "max"}},
		}
		for _, ppm := range shares {
			row := []string{strings.TrimSuffix(exactPercent(results.Decimal(ppm)), " %")}
			for _, h := range []*results.Histogram{before, during, after} {
				if h.Total() == 0 || (1_000_000-ppm)*h.Total() < 1_000_000 {
					row = append(row, none)
				} else {
					row = append(row, micros(h.QuantileUS(ppm)))
				}
			}
			s.Table.add(row...)
			s.Table.at(nines(ppm) * 1000)
		}
		for _, path := range reference.Paths {
			for _, phase := range []struct {
				name string
				h    *results.Histogram
			}{{"before", f.Before[path]}, {"during", f.During[path]}, {"after", f.After[path]}} {
				if h := phase.h; h != nil {
					s.Percentiles.add(path.String(), phase.name, count(h.Total()), micros(h.QuantileUS(500_000)), micros(h.QuantileUS(990_000)),
						micros(h.QuantileUS(999_000)), micros(h.MaxUS()))
				}
			}
		}
		all = append(all, s)
	}
	return all
}

func ledger(run *results.Run, c *results.Course) (notes []string, tables []titled) {
	l := run.Ledger
	if l == nil {
		return []string{"Acknowledged writes were not read back."}, nil
	}
	notes = ledgerNotes(l)
	kinds := &table{left: 1, head: []string{"kind", "acknowledged", "verified", "lost", "stale", "resurrected", "allowed", "unknown"}}
	for _, kind := range results.LedgerKinds {
		if k := l.Kinds[kind]; k.Acknowledged > 0 {
			kinds.add(string(kind), count(k.Acknowledged), count(k.Verified), count(k.Lost), count(k.Stale), count(k.Resurrected), count(k.Allowed), count(k.Unknown))
		}
	}
	tables = append(tables, titled{"Keys by kind", kinds})
	if len(l.ReadBacks) > 0 {
		t := &table{left: 2, head: []string{"after", "read through", "at", "took", "keys", "not as acknowledged", "not read"}}
		for _, r := range l.ReadBacks {
			after := r.After
			if after == "" {
				after = "the load"
			}
			t.add(clip(after, 80), r.Node, micros(r.AtUS), micros(r.TookUS), count(r.Keys), count(r.Broken), count(r.Unread))
		}
		tables = append(tables, titled{"Readings", t})
	}
	if rows := c.Ledger.Rows; len(rows) > 0 {
		if broken := l.Broken() + l.Allowed + l.Unknown; broken > int64(len(rows)) {
			notes = append(notes, fmt.Sprintf("The first %s are listed; the others are in %s.", plural(int64(len(rows)), "reading"), results.LedgerFile))
		}
		t := &table{left: 7, head: []string{"kind", "user", "key", "verdict", "read through", "wanted", "found"}}
		for _, row := range rows {
			t.add(string(row.Kind), clip(row.User, 80), clip(row.Key, 80), string(row.Verdict), row.Node, clip(row.Wanted, 80), clip(row.Found, 80))
		}
		tables = append(tables, titled{"Keys that do not hold what was acknowledged", t})
	}
	if seen := c.Ledger.Violations; len(seen) > 0 {
		t := &table{left: 6, head: []string{"violation", "op", "user", "answered by", "wanted", "found", "at"}}
		for _, v := range seen {
			t.add(strings.ReplaceAll(string(v.Violation), "_", " "), fmt.Sprintf("%s %d.%d.%d", v.Operation, v.Message, v.Recipient, v.Try),
				clip(v.User, 80), v.Node, clip(v.Wanted, 80), clip(v.Found, 80), micros(v.AtUS))
		}
		tables = append(tables, titled{"Answers that contradict what was acknowledged (op: number, recipient, try)", t})
	}
	return notes, tables
}

// titled is a table with its caption.
type titled struct {
	Title string
	Table *table
}

// hosts are the failure domains, those of data nodes by their groups.
func hosts(top topology.Topology) []host {
	var all []host
	index := map[string]int{}
	for _, role := range []topology.Role{topology.Management, topology.Data, topology.SQL} {
		for _, n := range top.ByRole(role) {
			i, known := index[n.Host]
			if !known {
				i = len(all)
				index[n.Host] = i
				all = append(all, host{Name: n.Host})
			}
			node := hostNode{Name: n.Name, Role: string(n.Role), Detail: fmt.Sprintf("node %d", n.ID)}
			if n.Role == topology.Data {
				node.Detail += fmt.Sprintf(", group %d", n.Group)
			}
			limits := top.Limits[n.Role]
			if limits.MilliCPUs > 0 {
				cpus := results.Decimal(limits.MilliCPUs * 1000)
				node.Detail += ", CPUs: " + tenth(&cpus)
			}
			if limits.MemoryMiB > 0 {
				node.Detail += fmt.Sprintf(", %s MiB", count(int64(limits.MemoryMiB)))
			}
			all[i].Nodes = append(all[i].Nodes, node)
		}
	}
	return all
}

func clients(m results.Manifest) *table {
	if len(m.Clients) == 0 {
		return nil
	}
	t := &table{left: 3, head: []string{"client", "kind", "asks, in this order"}}
	for _, c := range m.Clients {
		t.add(c.Name, c.Kind, strings.Join(c.Nodes, ", "))
	}
	return t
}

func pairs(t *table, prefix string, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		t.add(prefix+k, m[k])
	}
}

func environment(run *results.Run, m results.Manifest) *table {
	t := &table{left: 2, head: []string{"what", "value"}}
	pairs(t, "version of ", run.Version)
	t.add("image", run.Image.Name)
	t.add("image ID", run.Image.ID)
	pairs(t, "host: ", run.Host)
	pairs(t, "data node: ", m.Topology.DataNode)
	pairs(t, "SQL server: ", m.Topology.SQLServer)
	return t
}

func identity(run *results.Run, m results.Manifest) *table {
	t := &table{left: 2, head: []string{"what", "value"}}
	t.add("run", run.RunID)
	t.add("seed", fmt.Sprint(run.Seed))
	t.add("speed", fmt.Sprintf("%d virtual seconds a second", run.Speed))
	t.add("began", m.Anchor.UTC().Format("2006-01-02 15:04:05 UTC"))
	t.add("messages planned", count(run.Trace.Messages))
	t.add("trace, SHA-256", run.Trace.SHA256)
	t.add("fault plan, SHA-256", run.Plan.SHA256)
	if m.Trace.Origin != "" {
		t.add("origin of the trace", m.Trace.Origin)
	}
	return t
}
