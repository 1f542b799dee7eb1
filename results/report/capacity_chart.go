package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/capacity"
)

// maxRate bounds the rates that are drawn, so that arithmetic cannot overflow.
const maxRate = 1e15

// rateAxis is an axis of offered rates in messages a day, by their logarithms: the
// rates of a search are a geometric series.
type rateAxis struct {
	low, high   int64
	left, right px
}

// newRateAxis reaches a little beyond the rates that are drawn.
func newRateAxis(rates []int64, left, right px) rateAxis {
	a := rateAxis{low: maxRate, high: 1, left: left, right: right}
	for _, r := range rates {
		r = min(max(r, 1), maxRate)
		a.low, a.high = min(a.low, r), max(a.high, r)
	}
	a.low = max(1, a.low*92/100)
	a.high = max(a.high*108/100, a.low+1)
	return a
}

// place is where a rate stands, in millionths of the axis.
func (a rateAxis) place(perDay int64) int64 {
	perDay = min(max(perDay, a.low), a.high)
	return (log2(perDay) - log2(a.low)) * 1_000_000 / max(1, log2(a.high)-log2(a.low))
}

func (a rateAxis) x(perDay int64) px {
	return a.left + px(a.place(perDay)*int64(a.right-a.left)/1_000_000)
}

// rateMarks are the digits that marks may begin with, in tenths, finest first.
var rateMarks = [][]int64{
	{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95},
	{10, 12, 14, 16, 18, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90},
	{10, 15, 20, 30, 40, 60, 80},
	{10, 20, 50},
	{10},
}

// draw draws marks below and lines through the panels.
func (a rateAxis) draw(d *drawing, top, bottom px) {
	const apart = 52 * unit
	var shown []int64
	for _, digits := range rateMarks {
		shown = shown[:0]
		close := false
		for scale := int64(1); scale <= a.high; scale *= 10 {
			for _, digit := range digits {
				rate := digit * scale / 10
				if rate < a.low || rate > a.high || digit*scale%10 != 0 {
					continue
				}
				if n := len(shown); n > 0 {
					close = close || a.x(rate)-a.x(shown[n-1]) < apart
				}
				shown = append(shown, rate)
			}
		}
		if !close {
			break
		}
	}
	for _, rate := range shown {
		d.vline("grid", a.x(rate), top, bottom)
		anchor := "middle"
		if a.x(rate) > a.right-15*unit {
			anchor = "end"
		}
		d.text("tick", anchor, a.x(rate), bottom+14*unit, short(rate))
	}
}

// short writes a count for an axis: 350 k, 7.5 M.
func short(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if n >= u.size {
			text := fmt.Sprintf("%d.%02d", n/u.size, n%u.size*100/u.size)
			return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// mark draws what a step came to: its outcome is its shape, too.
func (d *drawing) mark(o capacity.Outcome, x, y px) {
	const r = 5 * unit
	class := "mark m-" + string(o)
	switch o {
	case capacity.Met: // a disc
		fmt.Fprintf(d, `<circle class="%s" cx="%v" cy="%v" r="%v"/>`, class, x, y, r)
	case capacity.Missed: // a square
		d.path(class, fmt.Sprintf("M%v %vH%vV%vH%vZ", x-r, y-r, x+r, y+r, x-r))
	case capacity.Open: // a diamond, not filled
		d.path(class, fmt.Sprintf("M%v %vL%v %vL%v %vL%v %vZ", x, y-r-unit, x+r+unit, y, x, y+r+unit, x-r-unit, y))
	case capacity.Generator: // a triangle
		d.path(class, fmt.Sprintf("M%v %vL%v %vL%v %vZ", x, y-r, x+r, y+r, x-r, y+r))
	default: // a cross
		d.path("mark m-void", fmt.Sprintf("M%v %vL%v %vM%v %vL%v %v", x-r, y-r, x+r, y+r, x-r, y+r, x+r, y-r))
	}
}

// label writes beside a line at x, on the side that has room for it.
func (d *drawing) label(class string, x, y, left, right px, s string) {
	length := px(len([]rune(s))) * charWidth
	switch {
	case x+4*unit+length <= right:
		d.text(class, "start", x+4*unit, y, s)
	case x-4*unit-length >= left:
		d.text(class, "end", x-4*unit, y, s)
	default:
		d.text(class, "end", right, y, s)
	}
}

// linear is a scale from 0.
type linear struct {
	most, distance int64
	top, bottom    px
}

// newLinear has room for most, and two to six marks.
func newLinear(most int64, top, bottom px) linear {
	most = min(max(most, 1), 1e18)
	distance := ceiling((most + 3) / 4)
	return linear{most: (most + distance - 1) / distance * distance, distance: distance, top: top, bottom: bottom}
}

// y is exact enough for a drawing, and does not overflow.
func (l linear) y(n int64) px {
	n, most := min(max(n, 0), l.most), l.most
	for most > 1e12 {
		n, most = n/1000, most/1000
	}
	return l.bottom - px(int64(l.bottom-l.top)*n/most)
}

func (l linear) grid(d *drawing, left, right px, label func(int64) string) {
	for n := int64(0); n <= l.most; n += l.distance {
		d.hline("grid", left, right, l.y(n))
		d.text("tick", "end", left-5*unit, l.y(n)+4*unit, label(n))
	}
}

// polyline joins points in their order, through the middle of those that share an x, and
// marks each.
func (d *drawing) polyline(class string, points [][2]px) {
	var b strings.Builder
	line := middles(points)
	for i, p := range line {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&b, "%s%v %v", command, p[0], p[1])
	}
	if len(line) > 1 {
		d.path(class, b.String())
	}
	for _, p := range points {
		fmt.Fprintf(d, `<circle class="dot %s" cx="%v" cy="%v" r="2"/>`, class, p[0], p[1])
	}
}

// middles are, of points in the order of x, the medians of those that share one: steps of
// one rate differ, and a line through each of them would go up and down in one place.
func middles(points [][2]px) (line [][2]px) {
	for len(points) > 0 {
		var y []px
		for _, p := range points {
			if p[0] != points[0][0] {
				break
			}
			y = append(y, p[1])
		}
		at, n := points[0][0], len(y)
		slices.Sort(y)
		line = append(line, [2]px{at, (y[(n-1)/2] + y[n/2]) / 2})
		points = points[n:]
	}
	return line
}

// series are the CPUs that are drawn: the busiest node of each role, and the
// generator.
var series = []string{"data node", "SQL node", "other node", "generator"}

// busiest returns, of each series, the node that used most of its quota; "" if
// none was measured.
func busiest(s *capacity.Judged, top topology.Topology) (names [4]string, ppm [4]int64) {
	for name, used := range s.CPUPPM {
		i := 2
		switch n, err := top.Node(name); {
		case name == "generator":
			i = 3
		case err == nil && n.Role == topology.Management: // no op passes it
			continue
		case err == nil && n.Role == topology.Data:
			i = 0
		case err == nil && n.Role == topology.SQL:
			i = 1
		}
		// By name where they are equal: a map has no order.
		if names[i] == "" || used > ppm[i] || used == ppm[i] && name < names[i] {
			names[i], ppm[i] = name, used
		}
	}
	return names, ppm
}

// lengthUS is the part of a step that is judged; 0 if it ended before.
func lengthUS(r *capacity.Result, s *capacity.Judged) int64 {
	return max(0, s.ToUS-s.FromUS-r.Search.Settings.SettleUS)
}

// maxDrawn bounds the steps of a regime that are drawn.
const maxDrawn = 100

// byRate are the steps of a regime that are drawn: those that were judged at all.
func byRate(r *capacity.Result, f capacity.Found) (all []*capacity.Judged) {
	for i := range f.Steps[:min(len(f.Steps), maxDrawn)] {
		if s := &f.Steps[i]; s.Ops > 0 && lengthUS(r, s) > 0 {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b *capacity.Judged) int {
		return cmp.Or(cmp.Compare(a.PerDay, b.PerDay), cmp.Compare(a.Number, b.Number))
	})
	return all
}

func tenthsPerSecond(n, us int64) string {
	tenths := perSecond(n*10, us)
	return fmt.Sprintf("%s.%d", count(tenths/10), tenths%10)
}

const rateNote = "Of the part of each step that is judged. Good: ops that were answered, at once or after another attempt, however late. CPU: share of its quota that the busiest node of a role used, of the machine where it has none; the generator's, of the machine."

// rateTable are the values of a regime by rate.
func rateTable(r *capacity.Result, f capacity.Found) *table {
	t := &table{left: 1, head: []string{"rate a day", "step", "outcome", "messages/s", "p50", "p99", "longest", "ops/s", "good/s"}}
	steps := byRate(r, f)
	var drawn [4]bool
	for _, s := range steps {
		names, _ := busiest(s, r.Topology)
		for i, name := range names {
			drawn[i] = drawn[i] || name != ""
		}
	}
	for i, name := range series {
		if drawn[i] {
			t.head = append(t.head, name+" CPU")
		}
	}
	for _, s := range steps {
		us := lengthUS(r, s)
		row := []string{count(s.PerDay), strconv.Itoa(s.Number), string(s.Outcome), tenthsPerSecond(s.Offered, us), micros(s.P50US), micros(s.P99US),
			micros(s.MaxUS), count(perSecond(s.Ops, us)), count(perSecond(s.Good, us))}
		names, used := busiest(s, r.Topology)
		for i := range series {
			switch {
			case !drawn[i]:
			case names[i] == "":
				row = append(row, none)
			case i == 3:
				row = append(row, ppm(used[i]))
			default:
				row = append(row, clip(names[i], maxName)+" "+ppm(used[i]))
			}
		}
		t.add(row...)
	}
	return t
}

// todayPeak is the rate of today's busiest hour, as if it came all day; 0 if it is
// not known or not near what was tried.
func todayPeak(r *capacity.Result, steps []*capacity.Judged) int64 {
	today, peak := min(r.Search.TodayPerDay, maxRate), min(r.Search.PeakPPM, 1000*million)
	at := today / million * peak
	if today < 1e10 {
		at = today * peak / million
	}
	if at <= 0 || at < steps[0].PerDay/4 || at/4 > steps[len(steps)-1].PerDay {
		return 0
	}
	return at
}

const million = 1_000_000

// rateChart draws latencies, throughput and CPU of a regime against the rate.
func rateChart(r *capacity.Result, f capacity.Found, class string, width px) (template.HTML, rateAxis) {
	steps := byRate(r, f)
	d := &drawing{width: width}
	rates := []int64{}
	for _, s := range steps {
		rates = append(rates, s.PerDay)
	}
	today := todayPeak(r, steps)
	if today > 0 {
		rates = append(rates, today)
	}
	for _, rate := range []int64{f.MetPerDay, f.MissedPerDay} {
		if rate > 0 {
			rates = append(rates, rate)
		}
	}
	a := newRateAxis(rates, 62*unit, width-12*unit)
	y := 2 * unit
	type line struct {
		class string
		x, y  px
		text  string
	}
	var lines []line // named above the panels
	name := func(rate int64, class, text string) {
		lines = append(lines, line{class, a.x(rate), y, text})
		y += 16 * unit
	}
	if f.PromisePerDay > 0 {
		name(f.MetPerDay, "promise", fmt.Sprintf("busiest hour of %s a day promised", count(f.PromisePerDay)))
	}
	if today > 0 {
		name(today, "today", "today's busiest hour")
	}
	top := y + 4*unit
	y = top
	var body drawing
	body.width = width

	// Latencies.
	plot := body.panel(a.left, y, "response time: median, 99 % (marks)")
	bottom := plot + 190*unit
	low, high := int64(1<<62), int64(0)
	for _, s := range steps {
		low, high = min(low, max(s.P50US, 1)), max(high, s.P99US)
	}
	bounds := map[int64][]string{}
	for _, o := range r.Objectives {
		if o.LatencyUS > 0 {
			bounds[o.LatencyUS] = append(bounds[o.LatencyUS], clip(o.Name, maxName))
			low, high = min(low, o.LatencyUS), max(high, o.LatencyUS)
		}
	}
	s := newLatencyScale(low, high, plot, bottom)
	s.grid(&body, a.left, a.right)
	for _, us := range slices.Sorted(maps.Keys(bounds)) {
		body.hline("bound", a.left, a.right, s.y(us))
		names := strings.Join(bounds[us], ", ")
		body.text("tick linename", "start", a.left+4*unit, s.y(us)-3*unit, clip(fmt.Sprintf("%s: %s", micros(us), names), int((a.right-a.left)/charWidth)))
	}
	points := func(value func(*capacity.Judged) px) (all [][2]px) {
		for _, step := range steps {
			all = append(all, [2]px{a.x(step.PerDay), value(step)})
		}
		return all
	}
	marks := func(value func(*capacity.Judged) px) {
		for _, step := range steps {
			body.mark(step.Outcome, a.x(step.PerDay), value(step))
		}
	}
	p99 := func(step *capacity.Judged) px { return s.y(step.P99US) }
	body.polyline("p50", points(func(step *capacity.Judged) px { return s.y(step.P50US) }))
	body.polyline("joined", points(p99))
	marks(p99)
	y = bottom + 10*unit

	// Throughput.
	plot = body.panel(a.left, y, "ops a second: all, and good (marks)")
	bottom = plot + 130*unit
	var most int64
	for _, step := range steps {
		most = max(most, perSecond(step.Ops, lengthUS(r, step)), perSecond(step.Good, lengthUS(r, step)))
	}
	l := newLinear(most, plot, bottom)
	l.grid(&body, a.left, a.right, short)
	body.polyline("joined", points(func(step *capacity.Judged) px { return l.y(perSecond(step.Ops, lengthUS(r, step))) }))
	marks(func(step *capacity.Judged) px { return l.y(perSecond(step.Good, lengthUS(r, step))) })
	y = bottom + 10*unit

	// CPU.
	plot = body.panel(a.left, y, "CPU of the busiest nodes, of their quota")
	bottom = plot + 120*unit
	most = million
	for _, step := range steps {
		_, used := busiest(step, r.Topology)
		most = max(most, slices.Max(used[:]))
	}
	l = newLinear(most, plot, bottom)
	l.grid(&body, a.left, a.right, func(n int64) string { return fmt.Sprintf("%d %%", n/10_000) })
	body.hline("zero", a.left, a.right, l.y(million))
	for i := range series {
		var line [][2]px
		for _, step := range steps {
			if names, used := busiest(step, r.Topology); names[i] != "" {
				line = append(line, [2]px{a.x(step.PerDay), l.y(used[i])})
			}
		}
		body.polyline(fmt.Sprintf("burn burn%d", i), line)
	}

	d.height = bottom + 22*unit
	if f.MetPerDay > 0 && f.MissedPerDay > f.MetPerDay {
		d.rect("bracket", a.x(f.MetPerDay), top, a.x(f.MissedPerDay)-a.x(f.MetPerDay), bottom-top)
	}
	a.draw(d, top, bottom)
	// Text comes after the lines that it may stand on.
	for _, l := range lines {
		d.vline(l.class, l.x, l.y, bottom)
	}
	for _, l := range lines {
		d.label("linename", l.x, l.y+11*unit, a.left, a.right, l.text)
	}
	d.Write(body.Bytes())
	return d.svg(class, fmt.Sprintf("Response times, throughput and CPU against the offered rate, %s", clip(regimeName(f.Regime), maxName)), a.left, a.right, top, bottom), a
}

// CapacityCurve is a measured curve and what was fitted to it, or a forecast.
type CapacityCurve struct {
	Title  string          `json:"title"` // "Throughput against SQL nodes"
	N      string          `json:"n"`     // what is scaled: "SQL nodes"
	X      string          `json:"x"`     // what it gives: "messages a day"
	Points []CapacityPoint `json:"points,omitempty"`
	Line   []CapacityLine  `json:"line,omitempty"`    // by ascending N
	LineIs string          `json:"line_is,omitempty"` // "simulated"; "fitted" if empty
	// Limit is drawn across, with its name; 0 for none.
	Limit     float64  `json:"limit,omitempty"`
	LimitName string   `json:"limit_name,omitempty"`
	Words     []string `json:"words,omitempty"` // whole sentences: "No peak inside the measured range."
}

// CapacityPoint is what was measured.
type CapacityPoint struct {
	N float64 `json:"n"`
	X float64 `json:"x"`
	// Low and High are between what X is known to be; 0 and 0 for a mean that was measured.
	Low  float64 `json:"low,omitempty"`
	High float64 `json:"high,omitempty"`
}

// CapacityLine is what was fitted, with its interval; 0 and 0 for none.
type CapacityLine struct {
	N            float64 `json:"n"`
	X            float64 `json:"x"`
	Low          float64 `json:"low"`
	High         float64 `json:"high"`
	Extrapolated bool    `json:"extrapolated"` // outside of what was measured
}

// maxPoints bounds the points of a curve.
const maxPoints = 5000

// check refuses what cannot be drawn.
func (c *CapacityCurve) check() error {
	if len(c.Points)+len(c.Line) == 0 {
		return fmt.Errorf("no point and no line")
	}
	if n := len(c.Points) + len(c.Line); n > maxPoints {
		return fmt.Errorf("%d points, at most %d are drawn", n, maxPoints)
	}
	value := func(what string, i int, values ...float64) error {
		for _, v := range values {
			if !(v >= 0 && v <= maxRate) { // nor NaN
				return fmt.Errorf("%s %d has %v, must be 0 to %g", what, i+1, v, float64(maxRate))
			}
		}
		return nil
	}
	for i, p := range c.Points {
		if err := value("point", i, p.N, p.X, p.Low, p.High); err != nil {
			return err
		}
	}
	for i, p := range c.Line {
		if err := value("point of the line", i, p.N, p.X, p.Low, p.High); err != nil {
			return err
		}
		if i > 0 && p.N < c.Line[i-1].N {
			return fmt.Errorf("point %d of the line has %s %v after %v, must ascend", i+1, c.N, p.N, c.Line[i-1].N)
		}
	}
	return value("limit", 0, c.Limit)
}

// figure writes a number with three digits, or all of its whole ones.
func figure(v float64) string {
	if v >= 100 {
		return count(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// extrapolated: some of the line is.
func (c *CapacityCurve) extrapolated() bool {
	return slices.ContainsFunc(c.Line, func(l CapacityLine) bool { return l.Extrapolated })
}

// notes are the curve's words, and which of it was not measured.
func (c *CapacityCurve) notes() []string {
	notes := slices.Clone(c.Words)
	var from, to []float64
	for i, l := range c.Line {
		if !l.Extrapolated {
			continue
		}
		if i == 0 || !c.Line[i-1].Extrapolated {
			from, to = append(from, l.N), append(to, l.N)
		}
		to[len(to)-1] = l.N
	}
	var spans []string
	for i := range from {
		if span := figure(from[i]) + " to " + figure(to[i]); from[i] != to[i] {
			spans = append(spans, span)
		} else {
			spans = append(spans, figure(from[i]))
		}
	}
	if len(spans) > 0 {
		notes = append(notes, fmt.Sprintf("Extrapolated, not measured: %s %s.", list(spans), c.N))
	}
	return notes
}

func (c *CapacityCurve) lineIs() string { return cmp.Or(c.LineIs, "fitted") }

// mostLines are the points of a line that are told in figures without a drawing.
const mostLines = 16

// section is the curve in figures: all that was measured, and so much of the line that it
// can be read.
func (c *CapacityCurve) section() section {
	read, notes := *c, c.notes()
	if last := len(c.Line) - 1; last >= mostLines {
		read.Line = nil
		every := (last + mostLines - 2) / (mostLines - 1)
		for i, l := range c.Line {
			if i%every == 0 || i == last {
				read.Line = append(read.Line, l)
			}
		}
		notes = append(notes, fmt.Sprintf("Of the line's %d points %d are told; capacity.json has all.", len(c.Line), len(read.Line)))
	}
	return section{title: c.Title, table: read.table(nil), notes: notes}
}

// table lists measured and fitted values by N; place says where on the drawing.
func (c *CapacityCurve) table(place func(n float64) int64) *table {
	t := &table{left: 2, head: []string{c.N, "is", c.X, "interval"}}
	type row struct {
		n     float64
		cells []string
	}
	var rows []row
	add := func(n float64, is string, x, low, high float64) {
		interval := none
		if low != 0 || high != 0 {
			interval = figure(low) + "–" + figure(high)
		}
		rows = append(rows, row{n, []string{figure(n), is, figure(x), interval}})
	}
	for _, p := range c.Points {
		add(p.N, "measured", p.X, p.Low, p.High)
	}
	for _, l := range c.Line {
		is := c.lineIs()
		if l.Extrapolated {
			is = "extrapolated"
		}
		add(l.N, is, l.X, l.Low, l.High)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.n, b.n) })
	for _, r := range rows {
		t.add(r.cells...)
		if place != nil {
			t.at(place(r.n))
		}
	}
	return t
}

// parts is how fine a curve is drawn: of its longest side.
const parts = 1_000_000

// draw draws the curve; what is extrapolated is dashed.
func (c *CapacityCurve) draw(class string, width px, marks int64) (template.HTML, *table) {
	d := &drawing{width: width}
	left, right := 62*unit, width-12*unit
	plot := d.panel(left, 2*unit, clip(c.X, 50))
	bottom := plot + 210*unit
	var furthest, most, band float64
	for _, p := range c.Points {
		furthest, most = max(furthest, p.N), max(most, p.X, p.High)
	}
	for _, l := range c.Line {
		furthest, most, band = max(furthest, l.N), max(most, l.X), max(band, l.High)
	}
	most = max(most, min(band, 2*most), c.Limit) // a wide interval does not flatten the curve
	l := newLinear(int64(math.Ceil(most)), plot, bottom)
	l.grid(d, left, right, short)
	far := max(int64(math.Ceil(furthest)), 1)
	place := func(n float64) int64 { return int64(math.Round(n / float64(far) * parts)) }
	x := func(n float64) px { return left + px(place(n)*int64(right-left)/parts) }
	y := func(v float64) px {
		return bottom - px(int64(math.Round(min(v, float64(l.most))/float64(l.most)*parts))*int64(bottom-plot)/parts)
	}
	distance := ceiling((far + marks - 1) / marks)
	for n := int64(0); n <= far; n += distance {
		d.vline("grid", x(float64(n)), plot, bottom)
		d.text("tick", "middle", x(float64(n)), bottom+14*unit, short(n))
	}
	d.text("tick", "end", right, bottom+28*unit, clip(c.N, 50))
	// The interval.
	var outline strings.Builder
	within := slices.DeleteFunc(slices.Clone(c.Line), func(p CapacityLine) bool { return p.Low == 0 && p.High == 0 })
	command := "M"
	for _, p := range within {
		fmt.Fprintf(&outline, "%s%v %v", command, x(p.N), y(p.High))
		command = "L"
	}
	for _, p := range slices.Backward(within) {
		fmt.Fprintf(&outline, "L%v %v", x(p.N), y(p.Low))
	}
	if outline.Len() > 0 {
		d.path("interval", outline.String()+"Z")
	}
	if c.Limit > 0 {
		d.hline("bound", left, right, y(c.Limit))
		d.text("tick linename", "start", left+4*unit, y(c.Limit)+13*unit, clip(c.LimitName, 40))
	}
	// Stretches of the line; one that is extrapolated begins where the measured one
	// ended.
	for i := 1; i < len(c.Line); i++ {
		from, beyond := i-1, c.Line[i].Extrapolated || c.Line[i-1].Extrapolated
		var b strings.Builder
		fmt.Fprintf(&b, "M%v %v", x(c.Line[from].N), y(c.Line[from].X))
		for i < len(c.Line) && (c.Line[i].Extrapolated || c.Line[i-1].Extrapolated) == beyond {
			fmt.Fprintf(&b, "L%v %v", x(c.Line[i].N), y(c.Line[i].X))
			i++
		}
		i--
		class := "fitted"
		if beyond {
			class = "fitted beyond"
		}
		d.path(class, b.String())
	}
	for _, p := range c.Points {
		if p.High > 0 {
			d.path("between", fmt.Sprintf("M%v %vV%v", x(p.N), y(p.Low), y(p.High)))
		}
		fmt.Fprintf(d, `<circle class="measured" cx="%v" cy="%v" r="4"/>`, x(p.N), y(p.X))
	}
	d.height = bottom + 34*unit
	return d.svg(class, clip(c.Title, 2*maxName), left, right, plot, bottom), c.table(place)
}
