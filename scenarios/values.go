package scenarios

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

// What strictyaml has, by the names of this package.
type (
	node  = strictyaml.Node
	value = strictyaml.Value
	// InputError is one mistake in a scenario file, in an override, or in the name
	// of either. Parse joins all that it finds; errors.As finds the first.
	InputError = strictyaml.InputError
)

func sentenceValue(p *string, most int) value { return strictyaml.Sentence(p, most) }

func oneOf[T ~string](p *T, words ...T) value { return strictyaml.OneOf(p, words...) }

func integerValue[T int | int64 | uint64](p *T, least, most T) value {
	return strictyaml.Integer(p, least, most)
}

// listValue is a list of entries of one type.
type listValue[T any] struct {
	p           *[]T
	least, most int
	what        string         // "clients"
	fresh       func() T       // an entry with its defaults
	entry       func(*T) value // ties an entry
}

func (l listValue[T]) list() strictyaml.List[T] {
	return strictyaml.List[T]{P: l.p, Least: l.least, Most: l.most, What: l.what, Fresh: l.fresh, Entry: l.entry}
}

func (l listValue[T]) Rule() string                                     { return l.list().Rule() }
func (l listValue[T]) Read(d *strictyaml.Decoder, path string, n *node) { l.list().Read(d, path, n) }
func (l listValue[T]) Write() *node                                     { return l.list().Write() }

// field is one key of a mapping, with what documentation says of it.
type field struct {
	key      string
	value    value
	required bool   // there is no sensible default
	fallback string // how documentation words a default that other fields decide
	doc      string // what it means, for docs/scenarios.md
}

// object is a mapping with known keys.
type object []field

func (o object) fields() strictyaml.Object {
	fields := make(strictyaml.Object, len(o))
	for i, f := range o {
		fields[i] = strictyaml.Field{Key: f.key, Value: f.value, Required: f.required}
	}
	return fields
}

func (o object) Rule() string                                     { return o.fields().Rule() }
func (o object) Read(d *strictyaml.Decoder, path string, n *node) { o.fields().Read(d, path, n) }
func (o object) Write() *node                                     { return o.fields().Write() }

// A label is what a DNS name is made of (RFC 1123, section 2.1), and starts
// with a letter so that it never reads as a number.
var labelForm = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func nameValue(p *string) value {
	return strictyaml.Text(p, "a name such as mta1: a-z, 0-9 and '-', from a letter on, at most 63 characters", labelForm.MatchString)
}

var domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

func domainValue(p *string) value {
	return strictyaml.Text(p, "a DNS name such as calmail.example, in lower case", func(s string) bool {
		return len(s) <= 253 && domainForm.MatchString(s)
	})
}

// nodeNameValue is checked against the topology when that is known.
func nodeNameValue(p *string) value {
	return strictyaml.Text(p, "the name of a node, such as sql1", func(s string) bool { return s != "" })
}

const noneWord = "none"

// orNone lets the word none stand for the zero value of a scalar.
func orNone[T comparable](p *T, s strictyaml.Scalar) value {
	var zero T
	parse, form := s.Parse, s.Form
	s.What += ", or none"
	s.Parse = func(n *node) bool {
		if n.Kind == strictyaml.TextKind && n.Text == noneWord {
			*p = zero
			return true
		}
		return parse(n)
	}
	s.Form = func() *node {
		if *p == zero {
			return strictyaml.PlainNode(noneWord)
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
	if n.Kind != strictyaml.TextKind || len(n.Text) > 64 || !durationForm.MatchString(n.Text) {
		return 0, false
	}
	d, err := time.ParseDuration(n.Text)
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

func durationValue(p *time.Duration, least, most time.Duration) strictyaml.Scalar {
	return strictyaml.Scalar{
		What: fmt.Sprintf("a time with its unit (h, m, s, ms or us) from %s to %s", formatDuration(least), formatDuration(most)),
		Parse: func(n *node) bool {
			d, ok := parseDuration(n)
			if !ok || d < least || d > most {
				return false
			}
			*p = d
			return true
		},
		Form: func() *node { return strictyaml.PlainNode(formatDuration(*p)) },
	}
}

const longest = 24 * time.Hour // of any load, so that it fits the virtual day at speed 1

// instantValue is a time since the load began, or a share of the load. A share ends
// as a time, rounded down to a millisecond, so that the same file with another
// duration keeps its shape and a resolved file needs no arithmetic.
func instantValue(p, load *time.Duration) value {
	return strictyaml.Scalar{
		What: "a time since the load began such as 60s, or a share of workload.duration such as 20%",
		Parse: func(n *node) bool {
			d, ok := parseDuration(n)
			if !ok {
				var ppm int64
				if ppm, ok = strictyaml.ParseDecimal(strings.TrimSuffix(n.Text, "%"), 4); ok {
					ok = n.Kind == strictyaml.TextKind && strings.HasSuffix(n.Text, "%") && ppm <= million
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
		Form: func() *node { return strictyaml.PlainNode(formatDuration(*p)) },
	}
}

const million = 1_000_000

// percentageValue is a share above 0, in millionths.
func percentageValue(p *int64) strictyaml.Scalar { return strictyaml.Percentage(p, 1) }

// processorsValue is a number of processors, in thousandths.
func processorsValue(p *int) strictyaml.Scalar {
	return strictyaml.Scalar{
		What: "a number of processors from 0.01 to 1024",
		Parse: func(n *node) bool {
			milli, ok := strictyaml.ParseDecimal(n.Text, 3)
			if !ok || n.Kind != strictyaml.NumberKind || milli < 10 || milli > 1024*1000 {
				return false
			}
			*p = int(milli)
			return true
		},
		Form: func() *node { return strictyaml.PlainNode(strictyaml.FormatDecimal(int64(*p), 3)) },
	}
}

var sizeForm = regexp.MustCompile(`^([0-9]{1,7})(MiB|GiB)$`)

// memoryValue is a size in MiB.
func memoryValue(p *int) value {
	return orNone(p, strictyaml.Scalar{
		What: "a size in MiB or GiB from 64MiB to 1024GiB",
		Parse: func(n *node) bool {
			part := sizeForm.FindStringSubmatch(n.Text)
			if n.Kind != strictyaml.TextKind || part == nil {
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
		Form: func() *node {
			if *p%1024 == 0 {
				return strictyaml.PlainNode(fmt.Sprintf("%dGiB", *p/1024))
			}
			return strictyaml.PlainNode(fmt.Sprintf("%dMiB", *p))
		},
	})
}

const busiestHour = "busiest-hour"

var timeOfDayForm = regexp.MustCompile(`^([0-9]{2,4}):([0-5][0-9])(:([0-5][0-9]))?$`)

func startValue(p *Start) value {
	return strictyaml.Scalar{
		What: busiestHour + ` or a time of day such as 14:00 or 14:00:30`,
		Parse: func(n *node) bool {
			if n.Kind != strictyaml.TextKind {
				return false
			}
			if n.Text == busiestHour {
				*p = Start{BusiestHour: true}
				return true
			}
			part := timeOfDayForm.FindStringSubmatch(n.Text)
			if part == nil {
				return false
			}
			d, err := time.ParseDuration(part[1] + "h" + part[2] + "m" + "0" + part[4] + "s")
			*p = Start{TimeOfDay: d}
			return err == nil
		},
		Form: func() *node { return strictyaml.PlainNode(formatStart(*p)) },
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

func (s parameters) Rule() string { return "a mapping from " + s.what + " to their values" }

func (s parameters) Read(d *strictyaml.Decoder, path string, n *node) {
	if n.Kind != strictyaml.MappingKind {
		d.Report(n.At, path, "must be %s, not %s", s.Rule(), n.Show())
		return
	}
	for _, p := range n.Pairs {
		inner := path + "." + p.Key
		d.Written[inner] = p.Value.At
		switch {
		case !s.key.MatchString(p.Key):
			d.Report(p.KeyAt, path, "%s is not a name of %s", strictyaml.Quote(p.Key), s.what)
		case slices.Contains(s.taken, folded(p.Key)):
			d.Report(p.KeyAt, inner, "is set by the harness and must not be set here")
		case s.otherSpelling(p.Key) != "":
			d.Report(p.KeyAt, inner, "must be spelled %s: it is the same setting", s.otherSpelling(p.Key))
		case p.Value.Kind == strictyaml.MappingKind || p.Value.Kind == strictyaml.SequenceKind || p.Value.Kind == strictyaml.NullKind || !settingForm.MatchString(p.Value.Text):
			d.Report(p.Value.At, inner, "must be one word such as 256M, not %s", p.Value.Show())
		default:
			(*s.p)[p.Key] = p.Value.Text
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

func (s parameters) Write() *node {
	n := &node{Kind: strictyaml.MappingKind}
	for _, key := range slices.Sorted(maps.Keys(*s.p)) {
		setting := strictyaml.TextNode((*s.p)[key])
		if amountForm.MatchString(setting.Text) {
			setting.Kind = strictyaml.NumberKind // 256M needs no quotes
		}
		n.Pairs = append(n.Pairs, strictyaml.Pair{Key: key, Value: setting})
	}
	return n
}

// object is a mapping with known keys.
