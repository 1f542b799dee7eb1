package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mailbench/mailbench/results"
)

// The drawing's measures, in user units: those of a terminal's cells.
const (
	svgColumns = 80
	svgCell    = 8.4 // width of a character of a monospaced font of svgFont
	svgFont    = 14
	svgLine    = 19
	svgMargin  = 18
)

// svgSections are those that a picture has room for.
var svgSections = []string{"Why the run is inconclusive", "Operations", "Response time", "Faults", "Objectives"}

// SVG draws the first part of what Text prints as a picture of a terminal, for a
// page that cannot show it otherwise. It refers to nothing outside itself.
func SVG(w io.Writer, run *results.Run) error {
	var text bytes.Buffer
	shown := slices.DeleteFunc(sections(run), func(s section) bool { return !slices.Contains(svgSections, s.title) })
	if err := writeText(&text, Headline(run), shown, svgColumns); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	width := svgMargin*2 + int(svgColumns*svgCell)
	height := svgMargin*2 + len(lines)*svgLine

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>mailbench: summary of a run of %s</title>\n", escapeXML(run.Scenario))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="#16181d"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="%d" fill="#d5d8df">`+"\n", svgFont)
	headline := true
	for i, line := range lines {
		if line == "" {
			headline = false
			continue
		}
		style := ""
		switch {
		case headline:
			style = fmt.Sprintf(` font-weight="bold" fill="%s"`, verdictColour(run.Verdict))
		case isTitle(lines, i):
			style = ` font-weight="bold" fill="#ffffff"`
		}
		// textLength keeps columns aligned whatever font the reader has, and spaces
		// that do not break are kept by every browser, as xml:space is not any more.
		fmt.Fprintf(&b, `<text x="%d" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
			svgMargin, svgMargin+svgLine*i+svgFont, svgCell*float64(utf8.RuneCountInString(line)), style, escapeXML(strings.ReplaceAll(line, " ", "\u00a0")))
	}
	b.WriteString("</g>\n</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// isTitle says whether a line stands alone above a section.
func isTitle(lines []string, i int) bool {
	return lines[i-1] == "" && !strings.Contains(strings.TrimSpace(lines[i]), "  ")
}

func verdictColour(v results.Verdict) string {
	switch v {
	case results.Pass:
		return "#7ee787"
	case results.Inconclusive:
		return "#e3b341"
	default:
		return "#ff7b72"
	}
}

func escapeXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
