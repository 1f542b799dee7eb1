package scenarios

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/workload"
)

// Style is how a conductor tells how a run goes.
type Style uint8

// The styles.
const (
	Plain  Style = iota // lines
	Live                // a view that is drawn over itself once a second, for a terminal
	JSON                // an object a second, beside the lines that are of no second
	Silent              // nothing while tables are loaded and the load runs
)

// Look is how progress is shown. The zero value shows plain lines.
type Look struct {
	Style Style
	Color bool // the live view may have colours
	// Size is that of the terminal, for the live view: 0 if it is not known. It is
	// asked before each drawing, as windows change.
	Size func() (columns, lines int)
}

// ParseStyle reads what --progress is given; auto depends on whether a terminal
// looks.
func ParseStyle(progress string, terminal bool) (Style, error) {
	switch progress {
	case "auto":
		if terminal {
			return Live, nil
		}
		return Plain, nil
	case "plain":
		return Plain, nil
	case "json":
		return JSON, nil
	case "none":
		return Silent, nil
	default:
		return Plain, fmt.Errorf("--progress is %q, must be auto, plain, json or none", progress)
	}
}

// plainLine is the line about a second. It fits 79 columns while counts have a
// usual number of digits.
func plainLine(m moment) string {
	seconds := int(m.at.Round(time.Second).Seconds())
	line := fmt.Sprintf("%4ds offered %d/s done %d/s p50 %s p99 %s max %s budget left %s",
		seconds, m.offered, m.done, short(m.p50), short(m.p99), short(m.longest), leastLeft(m.budgets))
	if m.idle {
		line = fmt.Sprintf("%4ds no load", seconds)
	}
	if len(m.errors) > 0 {
		line += "\n      errors: " + errorCounts(m.errors)
	}
	if m.fault != "" {
		line += "\n      fault:  " + m.fault
	}
	return line
}

// leastLeft is what the objective that has spent most has left of its budget.
func leastLeft(budgets []budget) string {
	var least *float64
	for _, b := range budgets {
		if b.left != nil && (least == nil || *b.left < *least) {
			least = b.left
		}
	}
	if least == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*min(*least, 1))
}

func errorCounts(counts map[ndberr.Class]int64) string {
	classes := slices.SortedFunc(maps.Keys(counts), func(a, b ndberr.Class) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, c := range classes {
		parts = append(parts, fmt.Sprintf("%s %d", c, counts[c]))
	}
	return strings.Join(parts, ", ")
}

// short spells microseconds in at most 6 columns.
func short(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%dµs", us)
	case us < 10_000:
		return fmt.Sprintf("%.1fms", float64(us)/1000)
	case us < 1_000_000:
		return fmt.Sprintf("%dms", us/1000)
	default:
		return fmt.Sprintf("%.1fs", float64(us)/1_000_000)
	}
}

// bar draws the progress of what takes long: on a terminal it is drawn over itself,
// elsewhere a line a quarter is printed.
type bar struct {
	w        io.Writer
	terminal bool
	began    time.Time

	mu   sync.Mutex
	last map[string]int
}

func newBar(w io.Writer, terminal bool) *bar {
	return &bar{w: w, terminal: terminal, began: time.Now(), last: map[string]int{}}
}

// A line with a bar fits lineWidth columns as long as counts have at most eight
// digits; the bar takes what the rest leaves.
const (
	lineWidth         = 79 // the last column of a terminal may wrap
	leastBar, mostBar = 10, 30
)

func (b *bar) show(p workload.LoadProgress) {
	b.draw(p.Table, fmt.Sprintf("load: %-17s", p.Table), p.Done, p.Total, p.Unit)
}

// draw shows how much of a thing is done.
func (b *bar) draw(thing, label string, done, total int64, unit string) {
	if total == 0 {
		return
	}
	percent := int(done * 100 / total)
	step := 25
	if b.terminal {
		step = 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, seen := b.last[thing]; seen && percent/step == last/step {
		return
	}
	b.last[thing] = percent
	whole := strconv.FormatInt(total, 10)
	count := fmt.Sprintf("%3d %% %*d of %s %s", percent, len(whole), done, whole, unit)
	width := min(max(lineWidth-len(label)-len(count)-len(" [] "), leastBar), mostBar)
	filled := percent * width / 100
	line := fmt.Sprintf("%s [%s%s] %s", label, strings.Repeat("#", filled), strings.Repeat(".", width-filled), count)
	switch {
	case !b.terminal:
		fmt.Fprintln(b.w, line)
	case percent == 100:
		fmt.Fprintf(b.w, "\r%s\n", line)
	default:
		fmt.Fprintf(b.w, "\r%s", line)
	}
}
