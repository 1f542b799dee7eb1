package report

import (
	"fmt"
	"html"
	"html/template"
	"io"
	"strings"
	"unicode/utf8"
)

// table is a heading and rows of cells. The first left columns are aligned to
// the left, the others, which hold numbers, to the right.
type table struct {
	left   int
	head   []string
	rows   [][]string
	places []int64 // of rows on the chart that a page draws of them, in millionths of its width
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

const gap = "  "

// leastLeft is how narrow a left column may become.
const leastLeft = 6

// text draws the table in columns. If it is wider than width, the widest left
// column gives way; numbers do not: if that is not enough the columns with numbers
// are drawn in several tables, one below the other, all with the left columns.
func (t *table) text(w io.Writer, width int) {
	for i, part := range t.split(width) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		part.columns(w, width)
	}
}

// split makes as few tables of a table as fit width.
func (t *table) split(width int) []*table {
	widths := t.widths()
	left := 0
	for _, n := range widths[:t.left] {
		left += min(n, leastLeft) + len(gap)
	}
	var parts []*table
	for from := t.left; from < len(widths); {
		to, total := from+1, left+widths[from]
		for to < len(widths) && total+len(gap)+widths[to] <= width {
			total += len(gap) + widths[to]
			to++
		}
		part := &table{left: t.left}
		cut := func(cells []string) []string {
			return append(append([]string{}, cells[:t.left]...), cells[from:to]...)
		}
		part.head = cut(t.head)
		for _, row := range t.rows {
			part.rows = append(part.rows, cut(row))
		}
		parts = append(parts, part)
		from = to
	}
	if len(parts) < 2 {
		return []*table{t}
	}
	return parts
}

func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	for _, row := range t.all() {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

func (t *table) columns(w io.Writer, width int) {
	widths := t.widths()
	total := len(gap) * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for ; total > width; total-- {
		widest := 0
		for i := range t.left {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= 2 {
			break
		}
		widths[widest]--
	}
	for _, row := range t.all() {
		cells := make([]string, len(row))
		for i, cell := range row {
			cell = clip(cell, widths[i])
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < t.left {
				cells[i] = cell + pad
			} else {
				cells[i] = pad + cell
			}
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, gap), " "))
	}
}

func (t *table) all() [][]string { return append([][]string{t.head}, t.rows...) }

func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// markdown draws the table as GitHub-flavoured Markdown.
func (t *table) markdown(w io.Writer) {
	line := func(cells []string) {
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	rule := make([]string, len(t.head))
	for i := range rule {
		if rule[i] = "---:"; i < t.left {
			rule[i] = "---"
		}
	}
	escaped := func(cells []string) []string {
		all := make([]string, len(cells))
		for i, cell := range cells {
			all[i] = escape(cell)
		}
		return all
	}
	line(escaped(t.head))
	line(rule)
	for _, row := range t.rows {
		line(escaped(row))
	}
}

// html draws the table for a page. A row's place is for the script that shows the
// values under a cursor.
func (t *table) html() template.HTML {
	var b strings.Builder
	b.WriteString("<table><thead><tr>")
	for i, cell := range t.head {
		fmt.Fprintf(&b, `<th scope="col"%s>%s</th>`, t.align(i), html.EscapeString(cell))
	}
	b.WriteString("</tr></thead><tbody>")
	for r, row := range t.rows {
		b.WriteString("<tr")
		if t.places != nil {
			fmt.Fprintf(&b, ` data-x="%d"`, t.places[r])
		}
		b.WriteString(">")
		for i, cell := range row {
			if i == 0 {
				fmt.Fprintf(&b, `<th scope="row">%s</th>`, html.EscapeString(cell))
				continue
			}
			fmt.Fprintf(&b, "<td%s>%s</td>", t.align(i), html.EscapeString(cell))
		}
		b.WriteString("</tr>")
	}
	b.WriteString("</tbody></table>")
	return template.HTML(b.String())
}

func (t *table) align(column int) string {
	if column < t.left {
		return ` class="l"`
	}
	return ""
}

// escape keeps text from being read as Markdown or HTML.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "&", "&amp;", "*", `\*`, "_", `\_`, "`", "\\`", "\n", " ").Replace(s)
}

// wrap breaks text into lines no wider than width, where it has spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// shellLines breaks a command where it has spaces outside quotes into lines that
// a shell reads as one, no wider than width where that can be.
func shellLines(command string, width int) []string {
	const more = ` \`
	var words []string
	var quote rune
	from, escaped := 0, false
	for i, r := range command {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == ' ':
			words = append(words, command[from:i])
			from = i + 1
		}
	}
	words = append(words, command[from:])
	lines := words[:1:1]
	for _, word := range words[1:] {
		last := &lines[len(lines)-1]
		if utf8.RuneCountInString(*last+" "+word+more) <= width {
			*last += " " + word
			continue
		}
		*last += more
		lines = append(lines, "  "+word)
	}
	return lines
}
