package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// UnknownName words the error for a name that does not exist: what was written,
// the likeliest that was meant, and all there is.
func UnknownName(noun, name string, known []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "no %s is called %s; ", noun, Quote(name))
	if near, ok := Nearest(name, known); ok {
		fmt.Fprintf(&b, "did you mean %s? There are ", near)
	} else {
		b.WriteString("there are ")
	}
	const most = 20 // a big cluster would bury the message
	b.WriteString(strings.Join(known[:min(most, len(known))], ", "))
	if len(known) > most {
		fmt.Fprintf(&b, " and %d more", len(known)-most)
	}
	return b.String()
}

// Nearest finds the known name that a person most likely meant: the one with
// the fewest single-letter changes and swaps of neighbours, if those are no
// more than a third of the letters. The first of equals wins.
func Nearest(name string, known []string) (string, bool) {
	best, least := "", max(1, utf8.RuneCountInString(name)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k), least); d < least {
			best, least = k, d
		}
	}
	return best, best != ""
}

// distance is the number of inserted, deleted, changed and swapped letters
// between two names (optimal string alignment). It gives up and returns limit
// when the lengths alone differ by as much.
func distance(from, to string, limit int) int {
	a, b := []rune(from), []rune(to)
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	var before []int // the row before last, for swaps
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// Quote shows a text from a file, cut where it would flood a terminal.
func Quote(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}
