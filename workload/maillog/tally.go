package maillog

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxSamples is how many lines are shown that were not understood.
const maxSamples = 10

// Sample is a line that was not used, cut and made harmless to print.
type Sample struct {
	File string
	Line int64
	Kind Kind
	Text string
}

// Corrections are what was done to dates.
type Corrections struct {
	Crossed   int64 // up to a minute before the line before it: given its time
	Undated   int64 // Postgrey's without a date: given the time of the line before
	ClockBack int64 // the clock was put back by an hour
	NewYear   int64
	// Where each was done first, as "file:line".
	FirstCrossed, FirstClockBack, FirstNewYear, FirstBackwards string
}

// tally counts while files are read.
type tally struct {
	kinds       [kinds]int64
	lines       int64
	samples     []Sample
	corrections Corrections

	undated        int64
	refusedUnknown int64
	unfinished     int64
	badAddresses   int64

	files []fileTally
}

// fileTally is one file's.
type fileTally struct {
	lines, used int64
	understood  bool // some line was
	strange     int
	looks       [4]int
	first       string
	firstLine   int64
}

// count notes a line. It is an error if the file is in none of the formats that
// are asked for.
func (t *tally) count(s *source, k Kind, line []byte) error {
	t.lines++
	t.kinds[k]++
	f := &t.files[s.index]
	f.lines++
	if s.entry.kind != nothing {
		f.used++
	}
	if !k.Understood() && len(t.samples) < maxSamples {
		t.samples = append(t.samples, Sample{File: s.lines.name, Line: s.lines.line, Kind: k, Text: harmless(line)})
	}
	if f.understood || k == KindEmpty {
		return nil
	}
	if k.Understood() && k != KindOtherProgram && k != KindContinued {
		f.understood = true
		return nil
	}
	if f.strange == 0 {
		f.first, f.firstLine = harmless(line), s.lines.line
	}
	f.strange++
	f.looks[looksLike(line)]++
	if f.strange == judgeAfter {
		return s.wrong(f)
	}
	return nil
}

// step counts what was done to a date.
func (t *tally) step(s *source, did step) {
	c := &t.corrections
	note := func(n *int64, first *string) {
		if n != nil {
			*n++
		}
		if *first == "" {
			*first = fmt.Sprintf("%s:%d", s.lines.name, s.lines.line)
		}
	}
	switch did {
	case stepCrossed:
		note(&c.Crossed, &c.FirstCrossed)
	case stepClockBack:
		note(&c.ClockBack, &c.FirstClockBack)
	case stepNewYear:
		note(&c.NewYear, &c.FirstNewYear)
	case stepBackwards:
		note(nil, &c.FirstBackwards)
	}
}

func (t *tally) implausible() { t.badAddresses++ }

// harmless cuts a line to 200 bytes and escapes what a terminal might obey.
func harmless(line []byte) string {
	cut := len(line) > sampleLength
	if cut {
		line = line[:sampleLength]
	}
	var b strings.Builder
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		if r == utf8.RuneError && n == 1 || r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			for _, c := range line[:n] {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		} else {
			b.Write(line[:n])
		}
		line = line[n:]
	}
	if cut {
		b.WriteString("...")
	}
	return b.String()
}
