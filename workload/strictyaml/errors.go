package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// InputError is one mistake in a file, in an override, or in the name of either.
// Parsers join all that they find; errors.As finds the first.
type InputError struct {
	File    string // as it was named, or the override: "--set workload.speed=fast"
	Line    int    // from 1; 0 where a line says nothing, as in an override
	Column  int    // from 1, in characters
	Msg     string // "faults[0].at: must be …": the field, what it must be, what it is
	Excerpt string // the line and a mark under the column, or ""
	Cause   error  // what the operating system said, or nil
}

// Error gives "file:line:column: message", with the excerpt below it.
func (e *InputError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Excerpt != "" {
		b.WriteString("\n" + e.Excerpt)
	}
	return b.String()
}

// Unwrap returns what the operating system said of a file that cannot be read.
func (e *InputError) Unwrap() error { return e.Cause }

// source is a text that nodes come from: the file or one override.
type source struct {
	noun  string // "scenario"
	name  string
	lines []string // nil for an override, which has no lines worth naming
}

// Position is a place in a source; line and column count from 1.
type Position struct {
	source       *source
	line, column int
}

// InFile says whether the position is in a file, and not in an override.
func (p Position) InFile() bool { return p.source != nil && p.source.lines != nil }

// Errorf makes the mistake that stands at a position.
func (p Position) Errorf(format string, args ...any) *InputError {
	e := &InputError{File: p.source.name, Msg: fmt.Sprintf(format, args...)}
	if p.source.lines != nil {
		e.Line, e.Column = p.line, p.column
		e.Excerpt = p.excerpt()
	}
	return e
}

// excerpt shows the line of a Position and marks the column. A long line is cut
// to what stands around the column.
func (p Position) excerpt() string {
	if p.line < 1 || p.line > len(p.source.lines) {
		return ""
	}
	const before, width = 50, 90
	line := []rune(p.source.lines[p.line-1])
	column := min(max(p.column-1, 0), len(line))
	from := max(0, column-before)
	to := min(len(line), from+width)
	shown := strings.Map(func(r rune) rune { // keep the mark in its column, and the terminal in its senses
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(line[from:to]))
	left, right := "", ""
	if from > 0 {
		left = "…"
	}
	if to < len(line) {
		right = "…"
	}
	indent := strings.Repeat(" ", column-from+len([]rune(left)))
	text := strings.TrimRight(fmt.Sprintf("%6d | %s%s%s", p.line, left, shown, right), " ")
	return fmt.Sprintf("%s\n       | %s^", text, indent)
}

// joinErrors puts mistakes in the order of the file and joins them. Past
// maxErrors it only counts: one wrong line can make many.
func joinErrors(mistakes []*InputError) error {
	if len(mistakes) == 0 {
		return nil
	}
	const maxErrors = 20
	slices.SortStableFunc(mistakes, func(a, b *InputError) int {
		return cmp.Or(cmp.Compare(min(1, b.Line), min(1, a.Line)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	var all []error
	for i, m := range mistakes {
		if i == maxErrors {
			all = append(all, &InputError{File: m.File, Msg: fmt.Sprintf("%d more errors", len(mistakes)-i)})
			break
		}
		all = append(all, m)
	}
	return errors.Join(all...)
}
