package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// The live view's bounds in columns. A terminal that is narrower gets plain
// lines, and so does one that is too low for its most important lines.
const (
	narrowest, widest = 60, 100
	margin            = "          " // in front of what has no label of its own
	mostNodeLines     = 4
	mostBudgets       = 5
)

// A paint is a number of ECMA-48's SGR. Nothing is told by colour alone.
type paint uint8

const (
	noPaint paint = 0
	bold    paint = 1
	faint   paint = 2
	red     paint = 31
	green   paint = 32
	yellow  paint = 33
	magenta paint = 35
	cyan    paint = 36
)

// painted is text of one colour; a line is made of some.
type painted struct {
	text  string
	paint paint
}

type line []painted

func (l line) width() int {
	n := 0
	for _, p := range l {
		n += utf8.RuneCountInString(p.text)
	}
	return n
}

// string cuts the line to a width and ends every colour where its text ends, so
// that none is left on whatever comes after.
func (l line) string(width int, color bool) string {
	var b strings.Builder
	for _, p := range l {
		text := clipped(p.text, width)
		width -= utf8.RuneCountInString(text)
		if color && p.paint != noPaint && text != "" {
			text = fmt.Sprintf("\x1b[%dm%s\x1b[0m", p.paint, text)
		}
		b.WriteString(text)
	}
	if color {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// clipped is plain for any width.
func clipped(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return plain(s, width)
}

// part is some lines of the view. The first ones to be left out where there is no
// room are those with the highest rank.
type part struct {
	rank  int
	lines []line
}

// liveLines draws a moment for a terminal of so many columns and lines. It returns
// none where they are too few.
func liveLines(name string, m moment, columns, rows int, color bool) []string {
	if columns < narrowest {
		return nil
	}
	width := min(columns, widest) - 1 // the last column may wrap
	parts := []part{
		{0, liveHead(name, m, width)}, {1, liveRates(m, width)}, {5, liveOutcomes(m, width)}, {6, liveErrors(m, width)},
		{3, liveNodes(m, width)}, {2, liveFaults(m, width)}, {4, liveBudgets(m, width)},
	}
	height := func() int {
		n := 1 // the cursor's own
		for _, p := range parts {
			n += len(p.lines)
		}
		return n
	}
	for rank := 6; rank > 0 && height() > rows; rank-- {
		parts = slices.DeleteFunc(parts, func(p part) bool { return p.rank == rank })
	}
	if height() > rows {
		return nil
	}
	var text []string
	for _, p := range parts {
		for _, l := range p.lines {
			text = append(text, l.string(width, color))
		}
	}
	return text
}

// gauge is a bar of which a share is full.
func gauge(share float64, width int) string {
	full := min(max(int(share*float64(width)), 0), width)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}

func liveHead(name string, m moment, width int) []line {
	phase := m.phase
	if m.at > m.planned {
		phase = "drain" // sessions that are under way when the load ends
	}
	seconds := func(d time.Duration) string { return formatDuration(d.Round(time.Second)) }
	l := line{{clipped(name, 24), bold}, {fmt.Sprintf("  %s  %s of %s  ", phase, seconds(m.at), seconds(m.planned)), noPaint}}
	if room := width - l.width() - 2; room >= 10 {
		l = append(l, painted{gauge(m.at.Seconds()/max(m.planned.Seconds(), 1), min(room, 40)), cyan})
	}
	return []line{l}
}

func liveRates(m moment, width int) []line {
	const begin = 46 // of the sparklines
	room := width - begin
	per := (remembered + room - 1) / room // seconds a column
	draw := func(left string, values []int64, most string, p paint) line {
		l := line{{fmt.Sprintf("%-*s", begin, left), noPaint}, {spark(values, m.seconds, per), p}}
		if l.width()+len(most)+2 <= width {
			l = append(l, painted{"  " + most, faint})
		}
		return l
	}
	p99 := "-"
	if top := slices.Max(append([]int64{0}, m.p99s...)); top > 0 {
		p99 = short(top)
	}
	latency := "response  no op ended"
	if m.outcomes.sum() > 0 {
		latency = fmt.Sprintf("response  p50 %s  p99 %s  max %s", short(m.p50), short(m.p99), short(m.longest))
	}
	return []line{
		draw(fmt.Sprintf("a second  offered %s  done %s", brief(m.offered), brief(m.done)), m.rates,
			"most done "+brief(slices.Max(append([]int64{0}, m.rates...))), cyan),
		draw(latency, m.p99s, "most p99 "+p99, yellow),
	}
}

// spark draws the last values, so many to a column, of which the largest counts.
// Values keep their columns as time goes on: seen is how many there were in all.
func spark(values []int64, seen, per int) string {
	const levels = "▁▂▃▄▅▆▇█"
	top := slices.Max(append([]int64{1}, values...))
	first := seen - len(values)
	var columns []int64
	for i, v := range values {
		column := (first+i)/per - first/per
		if column == len(columns) {
			columns = append(columns, 0)
		}
		columns[column] = max(columns[column], v)
	}
	var b strings.Builder
	for _, v := range columns[max(0, len(columns)-remembered/per):] {
		if v == 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune([]rune(levels)[min(int(v*8/top), 7)])
	}
	return b.String()
}

// brief writes a count in at most 5 columns, below 10^15.
func brief(n int64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		switch {
		case n < 10_000 || unit == "" && n < 100_000:
			return strconv.FormatInt(n, 10) + unit
		default:
			n /= 1000
		}
	}
	return strconv.FormatInt(n, 10) + "T"
}

var shownOutcomes = [...]workload.Outcome{workload.OK, workload.Retried, workload.Degraded, workload.Failed, workload.Unknown}

func liveOutcomes(m moment, width int) []line {
	head := line{{"ops       ", noPaint}}
	row := func(label string, o outcomes) line {
		l := line{{fmt.Sprintf("%-10s", label), noPaint}}
		for _, outcome := range shownOutcomes {
			p := noPaint
			if o[outcome] > 0 && outcome >= workload.Degraded {
				p = red
			}
			l = append(l, painted{fmt.Sprintf("%9s", brief(o[outcome])), p})
		}
		return l
	}
	for _, outcome := range shownOutcomes {
		head = append(head, painted{fmt.Sprintf("%9s", outcome), faint})
	}
	second := row("  second", m.outcomes)
	if under := fmt.Sprintf("    under way %s", brief(m.inFlight)); second.width()+len(under) <= width {
		second = append(second, painted{under, noPaint})
	}
	return []line{head, second, row("  so far", m.allOutcomes)}
}

func liveErrors(m moment, width int) []line {
	row := func(label string, counts map[ndberr.Class]int64) line {
		text, p := "none", faint
		if len(counts) > 0 {
			text, p = fitting(strings.Split(errorCounts(counts), ", "), width-len(margin)), red
		}
		return line{{label, noPaint}, {text, p}}
	}
	return []line{row("errors    ", m.errors), row("  so far  ", m.allErrors)}
}

// fitting joins as many whole items as a width has room for.
func fitting(items []string, width int) string {
	text := ""
	for i, item := range items {
		longer := text + item
		if i < len(items)-1 {
			longer += ", "
		}
		if utf8.RuneCountInString(longer) > width-1 && (i < len(items)-1 || utf8.RuneCountInString(longer) > width) {
			return text + "…"
		}
		text = longer
	}
	return text
}

// A node's sign.
type sign struct {
	text, word string
	paint      paint
}

var signs = [...]sign{
	{"+", "up", green}, {"!", "faulted", magenta}, {"?", "silent", yellow}, {">", "starting", yellow}, {"x", "down", red},
}

func (n nodeNow) sign() sign {
	switch {
	case n.state == results.NodeDown:
		return signs[4]
	case n.state == results.NodeStarting:
		return signs[3]
	case n.state == results.NodeSilent:
		return signs[2]
	case len(n.faults) > 0:
		return signs[1]
	default:
		return signs[0]
	}
}

// liveNodes draws the nodes in a grid; of many nodes those that are not up.
func liveNodes(m moment, width int) []line {
	longest := 0
	for _, n := range m.nodes {
		longest = max(longest, min(utf8.RuneCountInString(n.Name), 24))
	}
	grid := func(nodes []nodeNow) []line {
		each := longest + 4
		across := max(1, (width-len(margin)+2)/each)
		var lines []line
		for row := range slices.Chunk(nodes, across) {
			l := line{{margin, noPaint}}
			for _, n := range row {
				s := n.sign()
				l = append(l, painted{fmt.Sprintf("%s %-*s", s.text, longest, clipped(n.Name, longest)), s.paint}, painted{"  ", noPaint})
			}
			lines = append(lines, l)
		}
		return lines
	}
	key := line{{"nodes     ", noPaint}}
	for i, s := range signs {
		if i > 0 {
			key = append(key, painted{"  ", noPaint})
		}
		key = append(key, painted{s.text + " " + s.word, faint})
	}
	lines := grid(m.nodes)
	if len(lines) > mostNodeLines {
		odd := slices.DeleteFunc(slices.Clone(m.nodes), func(n nodeNow) bool { return n.sign() == signs[0] })
		slices.SortStableFunc(odd, func(a, b nodeNow) int { return cmp.Compare(b.sign().rank(), a.sign().rank()) })
		lines = grid(odd)
		left := 0
		if len(lines) > mostNodeLines-1 {
			shown := lines[:mostNodeLines-1]
			for _, l := range shown {
				left += (len(l) - 1) / 2
			}
			left, lines = len(odd)-left, shown
		}
		more := fmt.Sprintf("%d nodes up", len(m.nodes)-len(odd))
		if left > 0 {
			more += fmt.Sprintf(", %d more that are not", left)
		}
		lines = append(lines, line{{margin + more, noPaint}})
	}
	return append([]line{key}, lines...)
}

func (s sign) rank() int { return slices.Index(signs[:], s) }

// sign is how a fault is drawn on the axis.
func (s faultState) sign() painted {
	return [...]painted{{"|", cyan}, {"#", magenta}, {"=", faint}, {"x", red}, {"-", faint}}[s]
}

// liveFaults draws the plan on the axis of the run, and what is at hand.
func liveFaults(m moment, width int) []line {
	if len(m.faults) == 0 {
		return nil
	}
	var counts [5]int
	for _, f := range m.faults {
		counts[f.state]++
	}
	head := line{{"faults    ", noPaint}}
	for _, state := range []faultState{faultPast, faultFailed, faultNotMade, faultActive, faultToCome} {
		if n := counts[state]; n > 0 || state <= faultPast {
			if len(head) > 1 {
				head = append(head, painted{"  ", noPaint})
			}
			s := state.sign()
			head = append(head, painted{fmt.Sprintf("%s %d %s", s.text, n, state), s.paint})
		}
	}
	lines := []line{head, append(line{{margin, noPaint}}, faultAxis(m, width-len(margin))...)}
	row := func(label string, f faultNow, what string, p paint) {
		name := clipped(f.ID, width-len(margin)-2-utf8.RuneCountInString(what))
		lines = append(lines, line{{fmt.Sprintf("%-*s", len(margin), "  "+label), noPaint}, {name, p}, {"  " + what, noPaint}})
	}
	if f := lastOver(m.faults); f != nil {
		row("last", *f, f.told(), noPaint)
	}
	for _, f := range m.faults {
		if f.state == faultActive {
			what, since := f.doing(m.at)
			if len(margin)+utf8.RuneCountInString(f.ID)+2+len(what)+len(since) <= width {
				what += since
			}
			row("now", f, what, magenta)
		}
	}
	for _, f := range m.faults {
		if f.state == faultToCome {
			row("next", f, f.due(m.at), noPaint)
			break
		}
	}
	return lines
}

// lastOver is the fault that was over last, nil if none was.
func lastOver(faults []faultNow) *faultNow {
	var last *faultNow
	for i, f := range faults {
		if f.state >= faultPast && (last == nil || f.to >= last.to) {
			last = &faults[i]
		}
	}
	return last
}

// told says how a fault came out.
func (f faultNow) told() string {
	switch {
	case f.state == faultNotMade:
		return "not made"
	case f.state == faultPast:
		return fmt.Sprintf("redundant after %s", length(f.to-f.from))
	case f.step == chaos.StepFailed:
		return fmt.Sprintf("a step failed after %s", length(f.to-f.from))
	default:
		return "a step failed; now " + f.step
	}
}

var stepWords = map[string]string{
	chaos.StepInjected: "injected", chaos.StepStage: "injected in part", chaos.StepEffective: "in effect",
	chaos.StepRecover: "taken back", chaos.StepRecovered: "nodes are back",
}

// doing says which step the fault is at and for how long, and how long ago it was
// made.
func (f faultNow) doing(at time.Duration) (step, made string) {
	return fmt.Sprintf("%s for %s", cmp.Or(stepWords[f.step], f.step), length(at-f.stepAt)), fmt.Sprintf(", made %s ago", length(at-f.from))
}

// length writes a time in tenths of a second, and from 100 s on in minutes too.
func length(d time.Duration) string {
	if d < 100*time.Second {
		return short(max(0, d).Microseconds())
	}
	return formatDuration(d.Round(time.Second))
}

// due says when a fault may be made at the earliest.
func (f faultNow) due(at time.Duration) string {
	if f.At > at {
		return "in " + formatDuration((f.At - at).Round(time.Second)) + " or later"
	}
	return "once the one before is over"
}

// faultAxis draws the run's time: what is gone, what is to come, and the faults.
func faultAxis(m moment, width int) line {
	cells := make([]painted, width)
	end := max(m.planned, m.at, time.Second)
	column := func(at time.Duration) int { return min(max(0, int(at*time.Duration(width)/end)), width-1) }
	here := column(m.at)
	for i := range cells {
		if cells[i] = (painted{".", faint}); i < here {
			cells[i].text = "_"
		}
	}
	// What matters more is drawn over what matters less.
	for _, state := range []faultState{faultToCome, faultNotMade, faultPast, faultFailed, faultActive} {
		for _, f := range m.faults {
			if f.state != state {
				continue
			}
			from, to := f.from, f.to
			switch state {
			case faultToCome:
				from, to = max(f.At, m.at), max(f.At, m.at)
			case faultActive:
				to = m.at
			}
			for i := column(from); i <= column(to); i++ {
				cells[i] = state.sign()
			}
		}
	}
	return joined(cells)
}

// joined makes one text of neighbours of one colour.
func joined(cells []painted) line {
	var l line
	for _, c := range cells {
		if n := len(l); n > 0 && l[n-1].paint == c.paint {
			l[n-1].text += c.text
			continue
		}
		l = append(l, c)
	}
	return l
}

// liveBudgets draws what each objective has left; of many those with the least.
func liveBudgets(m moment, width int) []line {
	if len(m.budgets) == 0 {
		return nil
	}
	budgets := slices.Clone(m.budgets)
	if len(budgets) > mostBudgets {
		left := func(b budget) float64 {
			if b.left == nil {
				return 2
			}
			return *b.left
		}
		slices.SortStableFunc(budgets, func(a, b budget) int { return cmp.Compare(left(a), left(b)) })
		budgets = budgets[:mostBudgets-1]
	}
	const value = 14 // columns of what is left
	name := min(36, width-len(margin)-value-2-12)
	gaugeWidth := min(width-len(margin)-name-value-4, 30)
	var lines []line
	for i, b := range budgets {
		label := margin
		if i == 0 {
			label = "budget    "
		}
		l := line{{label, noPaint}, {fmt.Sprintf("%-*s", name, clipped(b.objective, name)), noPaint}}
		switch {
		case b.after:
			l = append(l, painted{"  counted after the run", faint})
		case b.left == nil:
			l = append(l, painted{"  all of it left", noPaint})
		default:
			p := green
			if *b.left <= 0 {
				p = red
			} else if *b.left < 0.5 {
				p = yellow
			}
			l = append(l, painted{fmt.Sprintf("%*s  ", value, percentLeft(*b.left)), p}, painted{gauge(*b.left, gaugeWidth), p})
		}
		lines = append(lines, l)
	}
	if more := len(m.budgets) - len(budgets); more > 0 {
		lines = append(lines, line{{fmt.Sprintf("%s%d more, which have more left", margin, more), faint}})
	}
	return lines
}

// percentLeft writes a share that may be far below nothing.
func percentLeft(left float64) string {
	if left < -9.995 {
		return "below -999 %"
	}
	return fmt.Sprintf("%.0f %% left", 100*left)
}
