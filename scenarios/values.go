package scenarios

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// value ties one field of a Scenario to its YAML form, both ways. A value reads
// what is written and reports what is wrong with it; it never sees a field that
// is not written, which keeps its default.
type value interface {
	read(d *decoder, path string, n *node)
	write() *node
	rule() string // completes "must be"
}

// scalar is a value without parts.
type scalar struct {
	what  string
	parse func(n *node) bool
	form  func() *node
}

func (s scalar) rule() string { return s.what }
func (s scalar) write() *node { return s.form() }

func (s scalar) read(d *decoder, path string, n *node) {
	if n.kind == mappingKind || n.kind == sequenceKind || n.kind == nullKind || !s.parse(n) {
		d.report(n.at, path, "must be %s, not %s", s.what, n.show())
	}
}

func textNode(s string) *node  { return &node{kind: textKind, text: s} }
func plainNode(s string) *node { return &node{kind: numberKind, text: s} } // printed as it is

// textValue is a string of which valid approves, after runs of white space have
// become single spaces.
func textValue(p *string, what string, valid func(string) bool) value {
	return scalar{
		what: what,
		parse: func(n *node) bool {
			s := strings.Join(strings.Fields(n.text), " ")
			if n.kind != textKind || !valid(s) {
				return false
			}
			*p = s
			return true
		},
		form: func() *node { return textNode(*p) },
	}
}

// sentenceValue is a line of printable text.
func sentenceValue(p *string, most int) value {
	return textValue(p, fmt.Sprintf("text of 1 to %d printable characters", most), func(s string) bool {
		return s != "" && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	})
}

// A label is what a DNS name is made of (RFC 1123, section 2.1), and starts
// with a letter so that it never reads as a number.
var labelForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func nameValue(p *string) value {
	return textValue(p, "a name such as mta1: a-z, 0-9 and '-', from a letter on, at most 63 characters", labelForm.MatchString)
}

var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func domainValue(p *string) value {
	return textValue(p, "a DNS name such as calmail.example, in lower case", func(s string) bool {
		return len(s) <= 253 && domainForm.MatchString(s)
	})
}

// nodeNameValue is checked against the topology when that is known.
func nodeNameValue(p *string) value {
	return textValue(p, "the name of a node, such as sql1", func(s string) bool { return s != "" })
}

// oneOf is a word of a closed list.
func oneOf[T ~string](p *T, words ...T) value {
	var list []string
	for _, w := range words {
		list = append(list, string(w))
	}
	return scalar{
		what: strings.Join(list, " or "),
		parse: func(n *node) bool {
			if n.kind != textKind || !slices.Contains(words, T(n.text)) {
				return false
			}
			*p = T(n.text)
			return true
		},
		form: func() *node { return textNode(string(*p)) },
	}
}

// integerValue is a whole number in decimal digits.
func integerValue[T int | int64 | uint64](p *T, least, most T) value {
	return scalar{
		what: fmt.Sprintf("a whole number from %d to %d", least, most),
		parse: func(n *node) bool {
			v, err := strconv.ParseUint(n.text, 10, 64)
			if n.kind != numberKind || err != nil || v > uint64(most) || T(v) < least {
				return false
			}
			*p = T(v)
			return true
		},
		form: func() *node { return plainNode(fmt.Sprint(*p)) },
	}
}

const noneWord = "none"

// orNone lets the word none stand for the zero value of a scalar.
func orNone[T comparable](p *T, s scalar) value {
	var zero T
	parse, form := s.parse, s.form
	s.what += ", or none"
	s.parse = func(n *node) bool {
		if n.kind == textKind && n.text == noneWord {
			*p = zero
			return true
		}
		return parse(n)
	}
	s.form = func() *node {
		if *p == zero {
			return plainNode(noneWord)
		}
		return form()
	}
	return s
}

var durationForm = regexp.MustCompile(`^([0-9]{1,12}(h|m|s|ms|us))+$`)

// parseDuration reads whole numbers with units, such as 1m30s. It is stricter
// than time.ParseDuration: without fractions every duration is a whole number
// of microseconds, which is what recordings hold.
func parseDuration(n *node) (time.Duration, bool) {
	if n.kind != textKind || len(n.text) > 64 || !durationForm.MatchString(n.text) {
		return 0, false
	}
	d, err := time.ParseDuration(n.text)
	return d, err == nil
}

func formatDuration(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "us"}} {
		if count := d / unit.size; count > 0 {
			fmt.Fprintf(&b, "%d%s", count, unit.name)
			d %= unit.size
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

func durationValue(p *time.Duration, least, most time.Duration) scalar {
	return scalar{
		what: fmt.Sprintf("a time with its unit (h, m, s, ms or us) from %s to %s", formatDuration(least), formatDuration(most)),
		parse: func(n *node) bool {
			d, ok := parseDuration(n)
			if !ok || d < least || d > most {
				return false
			}
			*p = d
			return true
		},
		form: func() *node { return plainNode(formatDuration(*p)) },
	}
}

const longest = 24 * time.Hour // of any load, so that it fits the virtual day at speed 1

// instantValue is a time since the load began, or a share of the load. A share ends
// as a time, rounded down to a millisecond, so that the same file with another
// duration keeps its shape and a resolved file needs no arithmetic.
func instantValue(p, load *time.Duration) value {
	return scalar{
		what: "a time since the load began such as 60s, or a share of workload.duration such as 20%",
		parse: func(n *node) bool {
			d, ok := parseDuration(n)
			if !ok {
				var ppm int64
				if ppm, ok = parseDecimal(strings.TrimSuffix(n.text, "%"), 4); ok {
					ok = n.kind == textKind && strings.HasSuffix(n.text, "%") && ppm <= million
				}
				// Microseconds: a day of nanoseconds times a million overflows.
				d = (time.Duration(load.Microseconds()*ppm/million) * time.Microsecond).Truncate(time.Millisecond)
			}
			if !ok || d > longest {
				return false
			}
			*p = d
			return true
		},
		form: func() *node { return plainNode(formatDuration(*p)) },
	}
}

const million = 1_000_000

var decimalForm = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]+)?$`)

// parseDecimal reads a decimal number as a whole number of its last allowed
// digit: "99.9" with 4 places is 999000.
func parseDecimal(s string, places int) (int64, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > places || !decimalForm.MatchString(s) {
		return 0, false
	}
	v, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", places-len(fraction)), 10, 64)
	return v, err == nil
}

func formatDecimal(v int64, places int) string {
	digits := fmt.Sprintf("%0*d", places+1, v)
	whole, fraction := digits[:len(digits)-places], strings.TrimRight(digits[len(digits)-places:], "0")
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

// percentageValue is a share above 0, in millionths.
func percentageValue(p *int64) scalar {
	return scalar{
		what: "a percentage such as 99.9%, from 0.0001% to 100%",
		parse: func(n *node) bool {
			ppm, ok := parseDecimal(strings.TrimSuffix(n.text, "%"), 4)
			if !ok || n.kind != textKind || !strings.HasSuffix(n.text, "%") || ppm < 1 || ppm > million {
				return false
			}
			*p = ppm
			return true
		},
		form: func() *node { return plainNode(formatDecimal(*p, 4) + "%") },
	}
}

// processorsValue is a number of processors, in thousandths.
func processorsValue(p *int) value {
	return orNone(p, scalar{
		what: "a number of processors from 0.01 to 1024",
		parse: func(n *node) bool {
			milli, ok := parseDecimal(n.text, 3)
			if !ok || n.kind != numberKind || milli < 10 || milli > 1024*1000 {
				return false
			}
			*p = int(milli)
			return true
		},
		form: func() *node { return plainNode(formatDecimal(int64(*p), 3)) },
	})
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,7})(MiB|GiB)$`)

// memoryValue is a size in MiB.
func memoryValue(p *int) value {
	return orNone(p, scalar{
		what: "a size in MiB or GiB from 64MiB to 1024GiB",
		parse: func(n *node) bool {
			part := sizeForm.FindStringSubmatch(n.text)
			if n.kind != textKind || part == nil {
				return false
			}
			mib, err := strconv.Atoi(part[1])
			if part[2] == "GiB" {
				mib *= 1024
			}
			if err != nil || mib < 64 || mib > 1024*1024 {
				return false
			}
			*p = mib
			return true
		},
		form: func() *node {
			if *p%1024 == 0 {
				return plainNode(fmt.Sprintf("%dGiB", *p/1024))
			}
			return plainNode(fmt.Sprintf("%dMiB", *p))
		},
	})
}

const busiestHour = "busiest-hour"

var timeOfDayForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])(:([0-5][0-9]))?$`)

func startValue(p *Start) value {
	return scalar{
		what: busiestHour + ` or a time of day such as 14:00 or 14:00:30`,
		parse: func(n *node) bool {
			if n.kind != textKind {
				return false
			}
			if n.text == busiestHour {
				*p = Start{BusiestHour: true}
				return true
			}
			part := timeOfDayForm.FindStringSubmatch(n.text)
			if part == nil {
				return false
			}
			d, err := time.ParseDuration(part[1] + "h" + part[2] + "m" + "0" + part[4] + "s")
			*p = Start{TimeOfDay: d}
			return err == nil
		},
		form: func() *node { return plainNode(formatStart(*p)) },
	}
}

func formatStart(s Start) string {
	if s.BusiestHour {
		return busiestHour
	}
	seconds := int(s.TimeOfDay / time.Second)
	clock := fmt.Sprintf("%02d:%02d", seconds/3600, seconds/60%60)
	if seconds%60 > 0 {
		clock += fmt.Sprintf(":%02d", seconds%60)
	}
	return clock
}

// listValue is a list of entries of one type. A list that is written takes the place
// of the default list.
type listValue[T any] struct {
	p           *[]T
	least, most int
	what        string         // "clients"
	fresh       func() T       // an entry with its defaults
	entry       func(*T) value // ties an entry
}

func (l listValue[T]) rule() string {
	return fmt.Sprintf("a list of %d to %d %s", l.least, l.most, l.what)
}

func (l listValue[T]) read(d *decoder, path string, n *node) {
	if n.kind != sequenceKind || len(n.entries) < l.least || len(n.entries) > l.most {
		got := n.show()
		if n.kind == sequenceKind {
			got = fmt.Sprintf("of %d", len(n.entries))
		}
		d.report(n.at, path, "must be %s, not %s", l.rule(), got)
		return
	}
	*l.p = make([]T, len(n.entries))
	for i, entry := range n.entries {
		(*l.p)[i] = l.fresh()
		d.read(l.entry(&(*l.p)[i]), fmt.Sprintf("%s[%d]", path, i), entry)
	}
}

func (l listValue[T]) write() *node {
	n := &node{kind: sequenceKind}
	for i := range *l.p {
		n.entries = append(n.entries, l.entry(&(*l.p)[i]).write())
	}
	return n
}

// namesValue is a list of texts.
func namesValue(p *[]string, least, most int, what string, entry func(*string) value) value {
	return listValue[string]{p: p, least: least, most: most, what: what, fresh: func() string { return "" }, entry: entry}
}

// parameters are settings for a program that is not ours, passed on as they
// are. What is written is added to the defaults.
type parameters struct {
	p     *map[string]string
	what  string         // "NDB parameters"
	key   *regexp.Regexp // what a name looks like
	taken []string       // names that the harness sets itself, folded
}

// A setting goes into an ini file: one line, no comment.
var settingForm = regexp.MustCompile(`^[A-Za-z0-9_./:,=+*@-]{1,200}$`)

// What starts with a digit is neither true nor null nor an alias; whether YAML
// calls it a number or text is no matter to read.
var amountForm = regexp.MustCompile(`^[0-9][A-Za-z0-9.]*$`)

func (s parameters) rule() string { return "a mapping from " + s.what + " to their values" }

func (s parameters) read(d *decoder, path string, n *node) {
	if n.kind != mappingKind {
		d.report(n.at, path, "must be %s, not %s", s.rule(), n.show())
		return
	}
	for _, p := range n.pairs {
		inner := path + "." + p.key
		d.written[inner] = p.value.at
		switch {
		case !s.key.MatchString(p.key):
			d.report(p.keyAt, path, "%s is not a name of %s", quote(p.key), s.what)
		case slices.Contains(s.taken, folded(p.key)):
			d.report(p.keyAt, inner, "is set by the harness and must not be set here")
		case s.otherSpelling(p.key) != "":
			d.report(p.keyAt, inner, "must be spelled %s: it is the same setting", s.otherSpelling(p.key))
		case p.value.kind == mappingKind || p.value.kind == sequenceKind || p.value.kind == nullKind || !settingForm.MatchString(p.value.text):
			d.report(p.value.at, inner, "must be one word such as 256M, not %s", p.value.show())
		default:
			(*s.p)[p.key] = p.value.text
		}
	}
}

// folded makes one of all spellings of a name: NDB does not tell upper from
// lower case, and mysqld takes '-' for '_'.
func folded(name string) string { return strings.ReplaceAll(strings.ToLower(name), "-", "_") }

// otherSpelling finds a name that is set already and means the same.
func (s parameters) otherSpelling(name string) string {
	for _, known := range slices.Sorted(maps.Keys(*s.p)) {
		if known != name && folded(known) == folded(name) {
			return known
		}
	}
	return ""
}

func (s parameters) write() *node {
	n := &node{kind: mappingKind}
	for _, key := range slices.Sorted(maps.Keys(*s.p)) {
		setting := textNode((*s.p)[key])
		if amountForm.MatchString(setting.text) {
			setting.kind = numberKind // 256M needs no quotes
		}
		n.pairs = append(n.pairs, pair{key: key, value: setting})
	}
	return n
}

// field is one key of a mapping.
type field struct {
	key      string
	value    value
	required bool   // there is no sensible default
	fallback string // how documentation words a default that other fields decide
	doc      string // what it means, for docs/scenarios.md
}

// object is a mapping with known keys.
type object []field

func (object) rule() string { return "a mapping" }

func (o object) read(d *decoder, path string, n *node) {
	if n.kind != mappingKind {
		d.report(n.at, path, "must be a mapping, not %s", n.show())
		return
	}
	for _, f := range o {
		inner := strings.TrimPrefix(path+"."+f.key, ".")
		if v := n.get(f.key); v != nil {
			d.read(f.value, inner, v)
		} else if f.required {
			d.report(n.at, path, "has no %s; it must be %s", f.key, f.value.rule())
		}
	}
	for _, p := range n.pairs {
		if !slices.ContainsFunc(o, func(f field) bool { return f.key == p.key }) {
			d.report(p.keyAt, path, "%s", unknownName("field", p.key, o.keys()))
		}
	}
}

func (o object) keys() []string {
	var keys []string
	for _, f := range o {
		keys = append(keys, f.key)
	}
	return keys
}

func (o object) write() *node {
	n := &node{kind: mappingKind}
	for _, f := range o {
		n.pairs = append(n.pairs, pair{key: f.key, value: f.value.write()})
	}
	return n
}
