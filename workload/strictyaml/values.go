package strictyaml

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Value ties one setting to its YAML form, both ways. A value reads
// what is written and reports what is wrong with it; it never sees a field that
// is not written, which keeps its default.
type Value interface {
	Read(d *Decoder, path string, n *Node)
	Write() *Node
	Rule() string // completes "must be"
}

// Scalar is a value without parts.
type Scalar struct {
	What  string
	Parse func(n *Node) bool
	Form  func() *Node
}

// Rule implements Value.
func (s Scalar) Rule() string { return s.What }

// Write implements Value.
func (s Scalar) Write() *Node { return s.Form() }

// Read implements Value.
func (s Scalar) Read(d *Decoder, path string, n *Node) {
	if n.Kind == MappingKind || n.Kind == SequenceKind || n.Kind == NullKind || !s.Parse(n) {
		d.Report(n.At, path, "must be %s, not %s", s.What, n.Show())
	}
}

// TextNode is a string.
func TextNode(s string) *Node { return &Node{Kind: TextKind, Text: s} }

// PlainNode is printed as it is.
func PlainNode(s string) *Node { return &Node{Kind: NumberKind, Text: s} }

// Text is a string of which valid approves, after runs of white space have
// become single spaces.
func Text(p *string, what string, valid func(string) bool) Value {
	return Scalar{
		What: what,
		Parse: func(n *Node) bool {
			s := strings.Join(strings.Fields(n.Text), " ")
			if n.Kind != TextKind || !valid(s) {
				return false
			}
			*p = s
			return true
		},
		Form: func() *Node { return TextNode(*p) },
	}
}

// Sentence is a line of printable text.
func Sentence(p *string, most int) Value {
	return Text(p, fmt.Sprintf("text of 1 to %d printable characters", most), func(s string) bool {
		return s != "" && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	})
}

// OneOf is a word of a closed list.
func OneOf[T ~string](p *T, words ...T) Value {
	var list []string
	for _, w := range words {
		list = append(list, string(w))
	}
	return Scalar{
		What: strings.Join(list, " or "),
		Parse: func(n *Node) bool {
			if n.Kind != TextKind || !slices.Contains(words, T(n.Text)) {
				return false
			}
			*p = T(n.Text)
			return true
		},
		Form: func() *Node { return TextNode(string(*p)) },
	}
}

// Integer is a whole number in decimal digits.
func Integer[T int | int64 | uint64](p *T, least, most T) Value {
	return Scalar{
		What: fmt.Sprintf("a whole number from %d to %d", least, most),
		Parse: func(n *Node) bool {
			v, err := strconv.ParseUint(n.Text, 10, 64)
			if n.Kind != NumberKind || err != nil || v > uint64(most) || T(v) < least {
				return false
			}
			*p = T(v)
			return true
		},
		Form: func() *Node { return PlainNode(fmt.Sprint(*p)) },
	}
}

var decimalForm = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]+)?$`)

// ParseDecimal reads a decimal number as a whole number of its last allowed
// digit: "99.9" with 4 places is 999000.
func ParseDecimal(s string, places int) (int64, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if len(fraction) > places || !decimalForm.MatchString(s) {
		return 0, false
	}
	v, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", places-len(fraction)), 10, 64)
	return v, err == nil
}

// FormatDecimal writes what ParseDecimal reads.
func FormatDecimal(v int64, places int) string {
	digits := fmt.Sprintf("%0*d", places+1, v)
	whole, fraction := digits[:len(digits)-places], strings.TrimRight(digits[len(digits)-places:], "0")
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

// List is a list of entries of one type. A list that is written takes the place
// of the default list.
type List[T any] struct {
	P           *[]T
	Least, Most int
	What        string         // "clients"
	Fresh       func() T       // an entry with its defaults
	Entry       func(*T) Value // ties an entry
}

// Rule implements Value.
func (l List[T]) Rule() string {
	if l.Least == l.Most {
		return fmt.Sprintf("a list of %d %s", l.Least, l.What)
	}
	return fmt.Sprintf("a list of %d to %d %s", l.Least, l.Most, l.What)
}

// Read implements Value.
func (l List[T]) Read(d *Decoder, path string, n *Node) {
	if n.Kind != SequenceKind || len(n.Entries) < l.Least || len(n.Entries) > l.Most {
		got := n.Show()
		if n.Kind == SequenceKind {
			got = fmt.Sprintf("of %d", len(n.Entries))
		}
		d.Report(n.At, path, "must be %s, not %s", l.Rule(), got)
		return
	}
	*l.P = make([]T, len(n.Entries))
	for i, entry := range n.Entries {
		(*l.P)[i] = l.Fresh()
		d.Read(l.Entry(&(*l.P)[i]), fmt.Sprintf("%s[%d]", path, i), entry)
	}
}

// Write implements Value.
func (l List[T]) Write() *Node {
	n := &Node{Kind: SequenceKind}
	for i := range *l.P {
		n.Entries = append(n.Entries, l.Entry(&(*l.P)[i]).Write())
	}
	return n
}

// Field is one key of a mapping.
type Field struct {
	Key      string
	Value    Value
	Required bool // there is no sensible default
}

// Object is a mapping with known keys.
type Object []Field

// Rule implements Value.
func (Object) Rule() string { return "a mapping" }

// Read implements Value.
func (o Object) Read(d *Decoder, path string, n *Node) {
	if n.Kind != MappingKind {
		d.Report(n.At, path, "must be a mapping, not %s", n.Show())
		return
	}
	for _, f := range o {
		inner := strings.TrimPrefix(path+"."+f.Key, ".")
		if v := n.Get(f.Key); v != nil {
			d.Read(f.Value, inner, v)
		} else if f.Required {
			d.Report(n.At, path, "has no %s; it must be %s", f.Key, f.Value.Rule())
		}
	}
	for _, p := range n.Pairs {
		if !slices.ContainsFunc(o, func(f Field) bool { return f.Key == p.Key }) {
			d.Report(p.KeyAt, path, "%s", UnknownName("field", p.Key, o.keys()))
		}
	}
}

func (o Object) keys() []string {
	var keys []string
	for _, f := range o {
		keys = append(keys, f.Key)
	}
	return keys
}

// Write implements Value.
func (o Object) Write() *Node {
	n := &Node{Kind: MappingKind}
	for _, f := range o {
		n.Pairs = append(n.Pairs, Pair{Key: f.Key, Value: f.Value.Write()})
	}
	return n
}

// Percentage is a share in millionths, written with up to four decimals.
func Percentage(p *int64, least int64) Scalar {
	return Scalar{
		What: fmt.Sprintf("a percentage such as 99.9%%, from %s%% to 100%%", FormatDecimal(least, 4)),
		Parse: func(n *Node) bool {
			ppm, ok := ParseDecimal(strings.TrimSuffix(n.Text, "%"), 4)
			if !ok || n.Kind != TextKind || !strings.HasSuffix(n.Text, "%") || ppm < least || ppm > 1_000_000 {
				return false
			}
			*p = ppm
			return true
		},
		Form: func() *Node { return PlainNode(FormatDecimal(*p, 4) + "%") },
	}
}
