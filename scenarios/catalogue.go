package scenarios

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// ListKinds writes what kinds of fault there are in lines that fit width, with
// long all about each.
func ListKinds(w io.Writer, long bool, width int) error {
	var b strings.Builder
	column := 0
	for _, d := range chaos.Catalogue() {
		column = max(column, utf8.RuneCountInString(string(d.Kind)))
	}
	for i, d := range chaos.Catalogue() {
		if long {
			if i > 0 {
				b.WriteByte('\n')
			}
			describeKind(&b, d, width)
			continue
		}
		entry(&b, fmt.Sprintf("%-*s", column, d.Kind), d.Summary, width)
	}
	if !long {
		b.WriteString("\nall about one: mailbench chaos list KIND\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// DescribeKind writes all about one kind of fault.
func DescribeKind(w io.Writer, kind string, width int) error {
	for _, d := range chaos.Catalogue() {
		if string(d.Kind) == kind {
			var b strings.Builder
			describeKind(&b, d, width)
			_, err := io.WriteString(w, b.String())
			return err
		}
	}
	return &InputError{Msg: strictyaml.UnknownName("kind of fault", kind, kindNames())}
}

func describeKind(b *strings.Builder, d chaos.Description, width int) {
	entry(b, string(d.Kind)+":", d.Summary, width)
	row := func(label, text string) { entry(b, fmt.Sprintf("  %-9s", label), text, width) }
	var roles, needs []string
	for _, role := range d.Roles {
		roles = append(roles, string(role))
	}
	on := strings.Join(roles, ", ") + " nodes"
	switch {
	case d.Hosts:
		on += "; whatever else runs on the host has it too"
	case d.Rolls:
		on += ", one after another"
	case d.Single:
		on += ", one at a time"
	}
	row("on", on)
	for _, own := range d.Settings {
		if own.Required {
			own.Default = "required"
		}
		key := faultKey(own.Name)
		text := key + ": " + own.Doc
		for _, s := range faultSettings() {
			if s.key == key {
				text += "; " + s.tie(new(chaos.Settings)).Rule()
			}
		}
		if own.Default != "" {
			text += " (" + own.Default + ")"
		}
		row("setting", text)
	}
	for _, c := range d.Needs {
		needs = append(needs, string(c))
	}
	if len(needs) > 0 {
		row("needs", strings.Join(needs, ", "))
	}
	if d.Nearest != "" {
		row("nearest", string(d.Nearest))
	}
	effect := "the cluster says so"
	if d.Felt {
		effect += ", or the clients feel it"
	}
	row("effect", effect)
	row("source", d.Source)
}

// entry writes a label and a text beside it, in lines that fit width.
func entry(b *strings.Builder, label, text string, width int) {
	b.WriteString(label)
	indent := utf8.RuneCountInString(label) + 2
	at := indent - 2
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == indent-2:
			b.WriteString("  ")
			at = indent
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

// foldLines breaks lines that are wider than width at spaces, at one behind a wider
// word if need be; hang is how far in what goes on with a line begins.
func foldLines(text string, width int, hang func(line string) int) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		rest := []rune(strings.TrimSuffix(line, "\n"))
		indent := min(hang(line), len(rest))
		for len(rest) > width {
			at := width
			for at > indent && rest[at] != ' ' {
				at--
			}
			if at == indent {
				for at = width; at < len(rest) && rest[at] != ' '; at++ {
				}
			}
			if at == len(rest) {
				break
			}
			b.WriteString(string(rest[:at]) + "\n")
			rest = append([]rune(strings.Repeat(" ", indent)), rest[at+1:]...)
		}
		b.WriteString(string(rest) + "\n")
	}
	return b.String()
}
