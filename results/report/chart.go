package report

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"math/bits"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// Charts are drawn in integers only, in tenths of a user unit, so that every
// machine makes the same bytes. Colours are classes of page.css; what they mean
// shows in shape or text, too.

// px is a length in tenths of a user unit.
type px int64

func (p px) String() string {
	sign := ""
	if p < 0 {
		sign, p = "-", -p
	}
	if p%10 == 0 {
		return fmt.Sprintf("%s%d", sign, p/10)
	}
	return fmt.Sprintf("%s%d.%d", sign, p/10, p%10)
}

const unit px = 10

// logScale is what log2 counts a doubling as.
const logScale = 4096

// log2 is the binary logarithm of n, in parts of logScale and rounded down; 0 of
// what is below 1. It squares the mantissa bit by bit.
func log2(n int64) int64 {
	if n < 1 {
		return 0
	}
	exponent := bits.Len64(uint64(n)) - 1
	mantissa := uint64(n) << (63 - exponent) >> 32 // 1.31 bits
	log := int64(exponent)
	for range 12 {
		mantissa = mantissa * mantissa >> 31
		log <<= 1
		if mantissa >= 1<<32 {
			mantissa >>= 1
			log |= 1
		}
	}
	return log
}

// drawing is an SVG that is being drawn.
type drawing struct {
	bytes.Buffer
	width, height px
}

// svg closes the drawing. The frame says where a script may show a cursor.
func (d *drawing) svg(class, label string, left, right, top, bottom px) template.HTML {
	return template.HTML(fmt.Sprintf(
		`<svg class="%s" viewBox="0 0 %v %v" role="img" aria-label="%s" data-left="%v" data-right="%v">`,
		class, d.width, d.height, html.EscapeString(label), left, right) +
		d.String() +
		fmt.Sprintf(`<line class="cursor" x1="0" x2="0" y1="%v" y2="%v"/></svg>`, top, bottom))
}

func (d *drawing) rect(class string, x, y, w, h px) {
	fmt.Fprintf(d, `<rect class="%s" x="%v" y="%v" width="%v" height="%v"/>`, class, x, y, w, h)
}

func (d *drawing) path(class, commands string) {
	if commands != "" {
		fmt.Fprintf(d, `<path class="%s" d="%s"/>`, class, commands)
	}
}

func (d *drawing) hline(class string, x1, x2, y px) {
	fmt.Fprintf(d, `<path class="%s" d="M%v %vH%v"/>`, class, x1, y, x2)
}

func (d *drawing) vline(class string, x, y1, y2 px) {
	fmt.Fprintf(d, `<path class="%s" d="M%v %vV%v"/>`, class, x, y1, y2)
}

// text writes at a baseline; anchor is start, middle or end.
func (d *drawing) text(class, anchor string, x, y px, s string) {
	fmt.Fprintf(d, `<text class="%s %s" x="%v" y="%v">%s</text>`, class, anchor, x, y, html.EscapeString(s))
}

// step is one column of a shape: between two heights, from x on.
type step struct {
	drawn        bool
	x            px
	lower, upper px
}

// area draws steps, the last of which ends at right, as closed shapes.
func (d *drawing) area(class string, steps []step, right px) {
	var b strings.Builder
	for from := 0; from < len(steps); {
		if !steps[from].drawn {
			from++
			continue
		}
		to := from
		for to < len(steps) && steps[to].drawn {
			to++
		}
		end := right
		if to < len(steps) {
			end = steps[to].x
		}
		fmt.Fprintf(&b, "M%v %v", steps[from].x, steps[from].upper)
		for i := from + 1; i < to; i++ {
			if steps[i].upper != steps[i-1].upper {
				fmt.Fprintf(&b, "H%vV%v", steps[i].x, steps[i].upper)
			}
		}
		fmt.Fprintf(&b, "H%vV%v", end, steps[to-1].lower)
		for i := to - 1; i > from; i-- {
			if steps[i].lower != steps[i-1].lower {
				fmt.Fprintf(&b, "H%vV%v", steps[i].x, steps[i-1].lower)
			}
		}
		fmt.Fprintf(&b, "H%vZ", steps[from].x)
		from = to
	}
	d.path(class, b.String())
}

// line draws the upper heights of steps.
func (d *drawing) line(class string, steps []step, right px) {
	var b strings.Builder
	for i, s := range steps {
		if !s.drawn {
			continue
		}
		if i == 0 || !steps[i-1].drawn {
			fmt.Fprintf(&b, "M%v %v", s.x, s.upper)
		} else if s.upper != steps[i-1].upper {
			fmt.Fprintf(&b, "H%vV%v", s.x, s.upper)
		}
		switch {
		case i+1 == len(steps):
			fmt.Fprintf(&b, "H%v", right)
		case !steps[i+1].drawn:
			fmt.Fprintf(&b, "H%v", steps[i+1].x)
		}
	}
	d.path(class, b.String())
}

// latencyScale maps latencies to heights, by their logarithms.
type latencyScale struct {
	lowUS, highUS int64
	top, bottom   px
}

// newLatencyScale spans whole decades.
func newLatencyScale(lowUS, highUS int64, top, bottom px) latencyScale {
	s := latencyScale{lowUS: 1, highUS: 10, top: top, bottom: bottom}
	for s.lowUS*10 <= lowUS {
		s.lowUS *= 10
	}
	s.highUS = s.lowUS * 10
	for s.highUS < highUS {
		s.highUS *= 10
	}
	return s
}

func (s latencyScale) y(us int64) px {
	us = min(max(us, s.lowUS), s.highUS)
	part := log2(us) - log2(s.lowUS)
	return s.bottom - px(int64(s.bottom-s.top)*part/(log2(s.highUS)-log2(s.lowUS)))
}

// grid draws a line and a label for each decade.
func (s latencyScale) grid(d *drawing, left, right px) {
	for us := s.lowUS; us <= s.highUS; us *= 10 {
		d.hline("grid", left, right, s.y(us))
		d.text("tick", "end", left-5*unit, s.y(us)+4*unit, decade(us))
	}
}

func decade(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%d ms", us/1000)
	default:
		return fmt.Sprintf("%d s", us/1_000_000)
	}
}

// ceiling is the next of 1, 2, 5, 10, … at or above n.
func ceiling(n int64) int64 {
	for scale := int64(1); ; scale *= 10 {
		for _, m := range []int64{1, 2, 5} {
			if n <= m*scale {
				return m * scale
			}
		}
	}
}

// clock writes a time since the anchor as minutes and seconds.
func clock(us int64) string {
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	s := us / 1_000_000
	text := fmt.Sprintf("%s%d:%02d", sign, s/60, s%60)
	if s >= 3600 {
		text = fmt.Sprintf("%s%d:%02d:%02d", sign, s/3600, s/60%60, s%60)
	}
	if tenths := us % 1_000_000 / 100_000; tenths > 0 {
		text += fmt.Sprintf(".%d", tenths)
	}
	return text
}

// timeSteps are distances between marks of a time axis, in seconds.
var timeSteps = []int64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600, 86400}

// axis is a time axis that several panels share.
type axis struct {
	course      *results.Course
	left, right px
	marks       int // at most so many
}

func (a axis) x(us int64) px {
	us = min(max(us, a.course.FromUS), a.course.ToUS)
	// A recording is at most 2·10^15 µs long, and a drawing 10^4 tenths wide: beyond
	// what fits, columns are coarse enough for whole milliseconds.
	length, part := a.course.ToUS-a.course.FromUS, us-a.course.FromUS
	if length > 1e12 {
		length, part = length/1000, part/1000
	}
	return a.left + px(part*int64(a.right-a.left)/length)
}

// column returns where a column begins.
func (a axis) column(i int) px { return a.x(a.course.FromUS + int64(i)*a.course.ColumnUS) }

// draw draws marks below and lines through the panels.
func (a axis) draw(d *drawing, top, bottom px) {
	from, to := a.course.FromUS, a.course.ToUS
	distance := timeSteps[len(timeSteps)-1]
	for _, s := range timeSteps {
		if (to-from)/(s*1_000_000) <= int64(a.marks) {
			distance = s
			break
		}
	}
	distance *= 1_000_000
	for (to-from)/distance > int64(a.marks) {
		distance *= 2
	}
	first := from / distance * distance
	if first < from {
		first += distance
	}
	for us := first; us <= to; us += distance {
		d.vline("grid", a.x(us), top, bottom)
		anchor := "middle"
		if a.x(us) > a.right-15*unit {
			anchor = "end"
		}
		d.text("tick", anchor, a.x(us), bottom+14*unit, clock(us))
	}
}

// bands are the windows of faults.
func (a axis) bands(d *drawing, run *results.Run, top, bottom px) {
	var windows, injected, recovered strings.Builder
	for _, f := range run.Faults {
		if f.InjectedAtUS == nil {
			continue
		}
		x, stop := a.window(f)
		fmt.Fprintf(&windows, "M%v %vH%vV%vH%vZ", x, top, max(stop, x+unit), bottom, x)
		fmt.Fprintf(&injected, "M%v %vV%v", x, top, bottom)
		if f.RecoveredAtUS != nil {
			fmt.Fprintf(&recovered, "M%v %vV%v", a.x(*f.RecoveredAtUS), top, bottom)
		}
	}
	d.path("band", windows.String())
	d.path("injected", injected.String())
	d.path("recovered", recovered.String())
}

// window is where the band of a fault that was injected begins and ends.
func (a axis) window(f results.FaultResult) (from, to px) {
	end := a.course.ToUS
	if f.RedundantAtUS != nil {
		end = *f.RedundantAtUS
	}
	return a.x(*f.InjectedAtUS), a.x(end)
}

// charWidth is about that of a character of a label.
const charWidth = 7 * unit

// strip names the faults above their bands, in as many lanes as it takes, and
// returns its height.
func (a axis) strip(d *drawing, run *results.Run, top px) px {
	const lane = 17 * unit
	var ends []px // of each lane
	for i, f := range run.Faults {
		if f.InjectedAtUS == nil {
			continue
		}
		x, end := a.window(f)
		label := faultName(i, f)
		if x+px(len(label))*charWidth > a.right {
			label = fmt.Sprint(i + 1)
		}
		stop := max(end, x+px(len(label))*charWidth+4*unit)
		k := 0
		for k < len(ends) && ends[k] > x {
			k++
		}
		if k == len(ends) {
			if len(ends) == 6 {
				continue // the table names it
			}
			ends = append(ends, 0)
		}
		ends[k] = stop
		y := top + px(k)*lane
		fmt.Fprintf(d, `<g><title>%s</title>`, html.EscapeString(clip(f.ID, maxName)))
		d.rect("faultbar", x, y, max(end-x, 2*unit), 14*unit)
		d.text("faultname", "start", x+4*unit, y+11*unit, label)
		d.WriteString("</g>")
	}
	return px(len(ends)) * lane
}

// outcomes are drawn one on the other, in this order.
var outcomes = []workload.Outcome{workload.OK, workload.Retried, workload.Degraded, workload.Failed, workload.Unknown}

// heatLevels is how many shades the heat map has.
const heatLevels = 5

// panel titles a part of a chart and returns its plot's top.
func (d *drawing) panel(left, y px, title string) px {
	d.text("panel", "start", left, y+11*unit, title)
	return y + 18*unit
}

// timeline draws what happened on one time axis.
func timeline(whole *results.Course, run *results.Run, class string, width px, columns, marks int) template.HTML {
	c := whole.Merged(columns)
	d := &drawing{width: width}
	a := axis{course: c, left: 62 * unit, right: width - 8*unit, marks: marks}
	y := a.strip(d, run, 2*unit)
	y += 6 * unit
	top := y
	var body drawing

	plot := body.panel(a.left, y, "ops a second, by outcome")
	bottom := plot + 110*unit
	a.rates(&body, plot, bottom)
	y = bottom + 10*unit

	low, high := c.Extent()
	plot = body.panel(a.left, y, "response time: median, 90 %, 99 %, longest")
	bottom = plot + 130*unit
	a.percentiles(&body, newLatencyScale(low, high, plot, bottom))
	y = bottom + 10*unit

	plot = body.panel(a.left, y, "response time: how many ops")
	bottom = plot + 130*unit
	a.heat(&body, newLatencyScale(low, high, plot, bottom))
	y = bottom + 10*unit

	plot = body.panel(a.left, y, "failed attempts a second")
	bottom = plot + 50*unit
	a.levels(&body, "errors", plot, bottom, func(col *results.Column) int64 { return perSecond(col.Errors, c.ColumnUS) })
	y = bottom + 10*unit

	plot = body.panel(a.left, y, "sessions under way")
	bottom = plot + 50*unit
	a.levels(&body, "inflight", plot, bottom, func(col *results.Column) int64 { return col.InFlight })
	y = bottom + 10*unit

	plot = body.panel(a.left, y, "nodes, as the cluster tells")
	bottom = a.nodes(&body, plot)

	d.height = bottom + 22*unit
	a.bands(d, run, top, bottom)
	a.draw(d, top, bottom)
	d.Write(body.Bytes())
	return d.svg(class, "What happened over time: ops a second by outcome, response times, failed attempts, sessions under way and the states of nodes, with the windows of faults as bands",
		a.left, a.right, top, bottom)
}

func perSecond(n, us int64) int64 { return (n*1_000_000 + us/2) / us }

func (a axis) rates(d *drawing, top, bottom px) {
	c := a.course
	var most int64
	for i := range c.Columns {
		most = max(most, c.Columns[i].Ops()*1_000_000/c.ColumnUS)
	}
	most = ceiling(max(most, 1))
	height := func(n int64) px { return px(int64(bottom-top) * n * 1_000_000 / c.ColumnUS / most) }
	scale(d, a, most, top, bottom)
	base := make([]int64, len(c.Columns))
	for _, o := range outcomes {
		steps := make([]step, len(c.Columns))
		for i := range c.Columns {
			n := c.Columns[i].Outcomes[o]
			steps[i] = step{drawn: n > 0, x: a.column(i), lower: bottom - height(base[i]), upper: bottom - height(base[i]+n)}
			base[i] += n
		}
		d.area("o-"+o.String(), steps, a.right)
	}
}

// scale draws a linear scale from 0 to most.
func scale(d *drawing, a axis, most int64, top, bottom px) {
	for _, part := range []int64{0, 1, 2} {
		if most*part%2 != 0 && part == 1 {
			continue
		}
		y := bottom - px(int64(bottom-top)*part/2)
		d.hline("grid", a.left, a.right, y)
		d.text("tick", "end", a.left-5*unit, y+4*unit, count(most*part/2))
	}
}

func (a axis) levels(d *drawing, class string, top, bottom px, value func(*results.Column) int64) {
	c := a.course
	var most int64
	for i := range c.Columns {
		most = max(most, value(&c.Columns[i]))
	}
	most = ceiling(max(most, 1))
	scale(d, a, most, top, bottom)
	steps := make([]step, len(c.Columns))
	for i := range c.Columns {
		v := value(&c.Columns[i])
		steps[i] = step{drawn: v > 0, x: a.column(i), lower: bottom, upper: bottom - px(int64(bottom-top)*v/most)}
	}
	d.area(class, steps, a.right)
}

func (a axis) percentiles(d *drawing, s latencyScale) {
	c := a.course
	s.grid(d, a.left, a.right)
	between := func(lower, upper int64) []step {
		steps := make([]step, len(c.Columns))
		for i := range c.Columns {
			h := &c.Columns[i].Response
			steps[i] = step{drawn: h.Total() > 0, x: a.column(i), lower: s.y(h.QuantileUS(lower)), upper: s.y(h.QuantileUS(upper))}
		}
		return steps
	}
	d.area("p99", between(900_000, 990_000), a.right)
	d.area("p90", between(500_000, 900_000), a.right)
	d.line("p50", between(500_000, 500_000), a.right)
	d.line("longest", between(1_000_000, 1_000_000), a.right)
}

// heat shades how many ops of a column took how long, by the logarithm of their
// number.
func (a axis) heat(d *drawing, s latencyScale) {
	const resolution = 1 // two rows for each doubling
	c := a.course
	s.grid(d, a.left, a.right)
	cells := make([]map[int]int64, len(c.Columns))
	var most int64
	rows := map[int]bool{}
	lowest, highest := 1<<30, 0
	for i := range c.Columns {
		cells[i] = c.Columns[i].Response.Rows(resolution)
		for row, n := range cells[i] {
			most = max(most, n)
			rows[row] = true
			lowest, highest = min(lowest, row), max(highest, row)
		}
	}
	level := func(n int64) int {
		if n == 0 {
			return 0
		}
		if most == 1 {
			return heatLevels
		}
		return 1 + int(log2(n)*(heatLevels-1)/log2(most))
	}
	var shades [heatLevels + 1]strings.Builder
	for row := lowest; row <= highest; row++ {
		if !rows[row] {
			continue
		}
		upper := s.y(results.RowEndUS(row, resolution) + 1)
		lower := s.y(results.RowEndUS(row-1, resolution) + 1)
		for i := 0; i < len(cells); {
			l, to := level(cells[i][row]), i+1
			for to < len(cells) && level(cells[to][row]) == l {
				to++
			}
			if l > 0 {
				right := a.right
				if to < len(cells) {
					right = a.column(to)
				}
				fmt.Fprintf(&shades[l], "M%v %vH%vV%vH%vZ", a.column(i), upper, right, lower, a.column(i))
			}
			i = to
		}
	}
	for l := range shades {
		d.path(fmt.Sprintf("heat%d", l), shades[l].String())
	}
}

// stateHeight tells states apart by more than their colour.
var stateHeight = map[results.NodeState]px{
	results.NodeUp: 3 * unit, results.NodeSilent: 7 * unit, results.NodeStarting: 9 * unit, results.NodeDown: 13 * unit,
}

// maxLanes is how many nodes are drawn one by one.
const maxLanes = 48

func (a axis) nodes(d *drawing, top px) px {
	const lane = 17 * unit
	y := top
	shapes := map[results.NodeState]*strings.Builder{}
	states := []results.NodeState{results.NodeUp, results.NodeSilent, results.NodeStarting, results.NodeDown}
	for _, s := range states {
		shapes[s] = new(strings.Builder)
	}
	for i, n := range a.course.Nodes {
		if i == maxLanes {
			d.text("tick", "start", a.left, y+11*unit, fmt.Sprintf("and %d more", len(a.course.Nodes)-maxLanes))
			y += lane
			break
		}
		d.text("tick", "end", a.left-5*unit, y+12*unit, clip(n.Node, 9))
		covered := px(-1) // what is shorter than a unit is drawn as one
		for _, s := range n.Spans {
			x, end := a.x(s.FromUS), a.x(s.ToUS)
			if end < covered {
				continue
			}
			covered = max(end, x+unit)
			h := stateHeight[s.State]
			fmt.Fprintf(shapes[s.State], "M%v %vH%vV%vH%vZ", x, y+(15*unit-h)/2, covered, y+(15*unit+h)/2, x)
		}
		y += lane
	}
	for _, s := range states {
		d.path("n-"+string(s), shapes[s].String())
	}
	return y
}

// burnDown draws what is left of each objective's budget.
func burnDown(whole *results.Course, run *results.Run, class string, width px, columns, marks int) template.HTML {
	const whole100, lowest = 1_000_000, -1_000_000
	c := whole.Merged(columns)
	d := &drawing{width: width}
	a := axis{course: c, left: 62 * unit, right: width - 8*unit, marks: marks}
	top := a.strip(d, run, 2*unit) + 8*unit
	bottom := top + 170*unit
	low := int64(0)
	left := func(col *results.Column, o int) (int64, bool) {
		if col.Spent[o] == nil {
			return 0, false
		}
		return max(lowest, whole100-int64(*col.Spent[o])), true
	}
	for i := range c.Columns {
		for o := range run.Objectives {
			if v, ok := left(&c.Columns[i], o); ok {
				low = min(low, v)
			}
		}
	}
	if low < 0 {
		low = (low - 499_999) / 500_000 * 500_000
	}
	y := func(v int64) px { return bottom - px(int64(bottom-top)*(v-low)/(whole100-low)) }
	a.bands(d, run, top, bottom)
	a.draw(d, top, bottom)
	for v := low; v <= whole100; v += 500_000 {
		class := "grid"
		if v == 0 {
			class = "zero"
		}
		d.hline(class, a.left, a.right, y(v))
		d.text("tick", "end", a.left-5*unit, y(v)+4*unit, fmt.Sprintf("%d %%", v/10_000))
	}
	for o := range run.Objectives {
		steps := make([]step, len(c.Columns))
		for i := range c.Columns {
			v, ok := left(&c.Columns[i], o)
			steps[i] = step{drawn: ok, x: a.column(i), upper: y(v)}
		}
		d.line(fmt.Sprintf("burn burn%d", o%burnStyles), steps, a.right)
	}
	d.height = bottom + 22*unit
	return d.svg(class, "What is left of each objective's error budget over time", a.left, a.right, top, bottom)
}

// burnStyles is how many lines page.css tells apart.
const burnStyles = 6

// shares are the percentiles that a spread is drawn at, in millionths.
var shares = []int64{
	0, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 750_000, 800_000, 850_000, 900_000, 925_000, 950_000, 975_000,
	990_000, 992_500, 995_000, 997_500, 999_000, 999_250, 999_500, 999_750, 999_900,
}

// nines is how far to the right a share stands, from 0 to 1,000: each tenth of
// what is left out is as wide.
func nines(ppm int64) int64 {
	all := log2(1_000_000) - log2(100)
	return (log2(1_000_000) - log2(1_000_000-ppm)) * 1000 / all
}

// spreads draws percentiles of latencies before, during and after a fault.
func spreads(label string, before, during, after *results.Histogram) template.HTML {
	const width, top, bottom = 400 * unit, 8 * unit, 190 * unit
	const left, right = 62 * unit, width - 12*unit
	d := &drawing{width: width, height: bottom + 22*unit}
	low, high := int64(1<<62), int64(0)
	for _, h := range []*results.Histogram{before, during, after} {
		if h.Total() > 0 {
			low, high = min(low, h.QuantileUS(0)), max(high, h.MaxUS())
		}
	}
	if high == 0 {
		low = 1000
	}
	s := newLatencyScale(low, high, top, bottom)
	s.grid(d, left, right)
	x := func(ppm int64) px { return left + px(int64(right-left)*nines(ppm)/1000) }
	for _, mark := range []struct {
		ppm  int64
		text string
	}{{0, "0"}, {500_000, "50"}, {900_000, "90"}, {990_000, "99"}, {999_000, "99.9"}, {999_900, "99.99 %"}} {
		d.vline("grid", x(mark.ppm), top, bottom)
		anchor := "middle"
		if mark.ppm == 999_900 {
			anchor = "end"
		}
		d.text("tick", anchor, x(mark.ppm), bottom+14*unit, mark.text)
	}
	for _, curve := range []struct {
		class string
		h     *results.Histogram
	}{{"before", before}, {"after", after}, {"during", during}} {
		var b strings.Builder
		for _, ppm := range shares {
			// A percentile beyond the last op would say nothing.
			if curve.h.Total() == 0 || (1_000_000-ppm)*curve.h.Total() < 1_000_000 {
				break
			}
			command := "L"
			if b.Len() == 0 {
				command = "M"
			}
			fmt.Fprintf(&b, "%s%v %v", command, x(ppm), s.y(curve.h.QuantileUS(ppm)))
		}
		d.path("spread "+curve.class, b.String())
	}
	return d.svg("spread", label, left, right, top, bottom)
}
