package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
)

// capacityPage is what capacity.html.tmpl shows.
type capacityPage struct {
	Policy               string // of the content: nothing is fetched
	Style                template.CSS
	Script               template.JS
	Scenario             string
	Tone, Word, Sentence string

	Regimes     part
	Limits      []string
	RateNote    string
	Charts      []capacityChart // by regime
	Curves      []capacityChart
	Memory      *capacityMemory
	Comparison  []part
	Steps       part
	Assumptions []string
	Hosts       []host
	Parameters  *table
	Repeat      part
	Command     string
}

// capacityChart is a drawing with the table behind it. Without a drawing only the
// notes are shown.
type capacityChart struct {
	Title        string
	Wide, Narrow template.HTML
	Table        *table
	Notes        []string
	Keys         []key
}

// key is a line of a legend.
type key struct {
	Shape template.HTML
	Text  string
}

type capacityMemory struct {
	Words  []string
	Curves []capacityChart
	Tables []part
}

// CapacityHTML draws a search and what else there is: one page that needs nothing
// beside itself.
func CapacityHTML(w io.Writer, r *capacity.Result, x CapacityExtras) error {
	if err := x.check(); err != nil {
		return err
	}
	r = promising(r)
	read := func(name string) string {
		b, _ := pageFiles.ReadFile("page/" + name) // embedded: it is there
		return string(b)
	}
	style, script := read("page.css")+read("capacity.css"), read("page.js")
	t, err := template.New("capacity").Funcs(template.FuncMap{"table": (*table).html}).Parse(read("capacity.html.tmpl"))
	if err != nil {
		return fmt.Errorf("parse the template of the capacity report: %w", err)
	}
	p := &capacityPage{
		Policy: policy(style, script), Style: template.CSS(style), Script: template.JS(script), Scenario: r.Search.Scenario,
		Regimes: newPart(regimes(r)), Limits: limits(r), RateNote: rateNote,
		Steps:       part{Title: "Steps", Table: stepTable(r), Notes: stepNotes(r)},
		Assumptions: assumptions(r), Hosts: hosts(r.Topology),
	}
	again := repeat(r, x)
	p.Repeat, p.Command = newPart(again), again.command
	p.Word, p.Tone, p.Sentence = headlineOf(r)
	for _, f := range r.Regimes {
		p.Charts = append(p.Charts, regimeChart(r, f))
	}
	for i := range x.Curves {
		p.Curves = append(p.Curves, x.Curves[i].chart())
	}
	if m := x.Memory; m != nil {
		p.Memory = &capacityMemory{Words: m.Words}
		for i := range m.Curves {
			p.Memory.Curves = append(p.Memory.Curves, m.Curves[i].chart())
		}
		for _, t := range m.Tables {
			p.Memory.Tables = append(p.Memory.Tables, part{t.Title, t.table(), t.notes()})
		}
	}
	for _, s := range compared(r, x) {
		p.Comparison = append(p.Comparison, newPart(s))
	}
	if len(r.Topology.DataNode)+len(r.Topology.SQLServer) > 0 {
		p.Parameters = &table{left: 2, head: []string{"parameter", "value"}}
		pairs(p.Parameters, "data node: ", r.Topology.DataNode)
		pairs(p.Parameters, "SQL server: ", r.Topology.SQLServer)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("draw the capacity report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// regimeChart draws one regime, and says which marks and lines there are.
func regimeChart(r *capacity.Result, f capacity.Found) capacityChart {
	c := capacityChart{Title: clip(regimeName(f.Regime), maxName)}
	steps := byRate(r, f)
	if len(steps) == 0 {
		c.Notes = []string{"No step of this regime was judged."}
		if f.Why != "" {
			c.Notes = append(c.Notes, sentence(strings.TrimSuffix(f.Why, ".")))
		}
		return c
	}
	var a rateAxis
	c.Wide, a = rateChart(r, f, "wide", wideWidth)
	c.Narrow, _ = rateChart(r, f, "narrow", narrowWidth)
	c.Table = rateTable(r, f)
	if more := len(f.Steps) - maxDrawn; more > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("Drawn are the first %d steps; %s are in %s.", maxDrawn, count(int64(more))+" more", capacity.CapacityFile))
	}
	for _, s := range steps {
		c.Table.at(a.place(s.PerDay))
	}
	for _, o := range []capacity.Outcome{capacity.Met, capacity.Missed, capacity.Open, capacity.Generator, capacity.Void} {
		if slices.ContainsFunc(steps, func(s *capacity.Judged) bool { return s.Outcome == o }) {
			c.Keys = append(c.Keys, key{markKey(o), outcomeWords[o]})
		}
	}
	c.Keys = append(c.Keys, key{lineKey("p50"), "median"})
	for i, name := range series {
		if slices.ContainsFunc(steps, func(s *capacity.Judged) bool { names, _ := busiest(s, r.Topology); return names[i] != "" }) {
			c.Keys = append(c.Keys, key{lineKey(fmt.Sprintf("burn burn%d", i)), name})
		}
	}
	if slices.ContainsFunc(r.Objectives, func(o results.Objective) bool { return o.LatencyUS > 0 }) {
		c.Keys = append(c.Keys, key{lineKey("bound"), "bound of an objective"})
	}
	if f.PromisePerDay > 0 {
		c.Keys = append(c.Keys, key{lineKey("promise"), "promise"})
	}
	if todayPeak(r, steps) > 0 {
		c.Keys = append(c.Keys, key{lineKey("today"), "today"})
	}
	if f.MetPerDay > 0 && f.MissedPerDay > f.MetPerDay {
		c.Keys = append(c.Keys, key{`<svg class="key" viewBox="0 0 30 10" aria-hidden="true"><rect class="bracket" width="30" height="10"/></svg>`, "the capacity is in here"})
	}
	return c
}

// outcomeWords are outcomes in a legend.
var outcomeWords = map[capacity.Outcome]string{
	capacity.Met: "objectives met", capacity.Missed: "missed", capacity.Open: "open", capacity.Generator: "the generator was late", capacity.Void: "void",
}

func markKey(o capacity.Outcome) template.HTML {
	d := &drawing{}
	d.mark(o, 10*unit, 7*unit)
	return template.HTML(`<svg class="markkey" viewBox="0 0 20 14" aria-hidden="true">` + d.String() + `</svg>`)
}

func lineKey(class string) template.HTML {
	return template.HTML(`<svg class="key" viewBox="0 0 30 10" aria-hidden="true"><path class="` + class + `" d="M0 5H30"/></svg>`)
}

func (c *CapacityCurve) chart() capacityChart {
	drawn := capacityChart{Title: clip(c.Title, 2*maxName), Notes: c.notes()}
	drawn.Wide, drawn.Table = c.draw("wide", wideWidth, wideMarks)
	drawn.Narrow, _ = c.draw("narrow", narrowWidth, narrowMarks)
	if len(c.Points) > 0 {
		drawn.Keys = append(drawn.Keys, key{`<svg class="markkey" viewBox="0 0 20 14" aria-hidden="true"><circle class="measured" cx="10" cy="7" r="4"/></svg>`, "measured"})
	}
	if slices.ContainsFunc(c.Line, func(l CapacityLine) bool { return !l.Extrapolated }) {
		drawn.Keys = append(drawn.Keys, key{lineKey("fitted"), clip(c.lineIs(), maxName)})
	}
	if c.extrapolated() {
		drawn.Keys = append(drawn.Keys, key{lineKey("fitted beyond"), "extrapolated"})
	}
	if slices.ContainsFunc(c.Line, func(l CapacityLine) bool { return l.High > 0 }) {
		drawn.Keys = append(drawn.Keys, key{`<svg class="key" viewBox="0 0 30 10" aria-hidden="true"><rect class="interval" width="30" height="10"/></svg>`, "interval"})
	}
	if c.Limit > 0 {
		drawn.Keys = append(drawn.Keys, key{lineKey("bound"), clip(c.LimitName, maxName)})
	}
	return drawn
}
