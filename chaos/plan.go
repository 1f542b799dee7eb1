package chaos

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// MaxRepeat is the most often that one spec may repeat its fault.
const MaxRepeat = 1000

// maxDuration keeps sums of times in a plan far from overflow.
const maxDuration = 366 * 24 * time.Hour

// AfterRedundant is the value of Spec.After that makes times count from the
// fault before.
const AfterRedundant = "redundant"

// Spec is a fault as a scenario asks for it. Times are wall time and cut to
// whole microseconds.
type Spec struct {
	Kind   Kind
	Target string // name of a node

	// At is when to inject: since the run's anchor or, with After, since the
	// fault before it in the plan became redundant.
	At time.Duration
	// Hold is how long the fault stays in effect before it is taken back.
	Hold time.Duration
	// After is "" or AfterRedundant.
	After string
	// Repeat is how many times in all the fault is made, 0 means once.
	Repeat int
	// Every is the time from one repetition to the next; with After, from
	// redundancy to the next repetition.
	Every time.Duration
	// Jitter is the most that the seed adds to each time of injection.
	Jitter time.Duration
}

// Planned is one fault of a plan.
type Planned struct {
	ID   string // unique in its plan, such as "f1-kill-data1"
	Kind Kind
	Node topology.Node
	At   time.Duration // earliest time of injection since the run's anchor
	Gap  time.Duration // least time from the redundancy of the fault before to the injection
	Hold time.Duration // from effect to recovery
}

// Plan is a list of faults in the order in which they are made, one at a time.
type Plan struct {
	Steps []Planned
}

// SpecError says what is wrong with one spec.
type SpecError struct {
	Index  int    // of the spec, from 0
	Field  string // name of the field in lower case, such as "target"
	Reason string
}

func (e SpecError) Error() string {
	return fmt.Sprintf("faults[%d].%s: %s", e.Index, e.Field, e.Reason)
}

// SpecErrors is all that is wrong with a list of specs, in their order.
type SpecErrors []SpecError

func (e SpecErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// NewPlan makes the plan of a run that lasts duration, as a pure function of
// its arguments. It refuses, with SpecErrors, specs that are wrong and faults
// that would be an outage of the harness's own making; whether they are refused
// does not depend on the seed. Faults may overlap in time: the Runner puts a
// fault off until the one before is redundant.
func NewPlan(seed uint64, specs []Spec, t topology.Topology, duration time.Duration) (Plan, error) {
	if duration <= 0 || duration > maxDuration {
		return Plan{}, fmt.Errorf("a run of %s cannot be planned, must be more than 0 and at most %s", duration, maxDuration)
	}
	var (
		steps  []Planned
		wrong  SpecErrors
		end    time.Duration // earliest redundancy of the fault before
		latest time.Duration // the same, had every jitter been drawn in full
	)
	for i, s := range specs {
		s = truncated(s)
		node, bad := check(i, s, t, duration)
		if len(bad) > 0 {
			wrong = append(wrong, bad...)
			continue
		}
		for k := range max(s.Repeat, 1) {
			p := Planned{Kind: s.Kind, Node: node, Hold: s.Hold}
			jitter := draw(seed, i, k, s.Jitter)
			worst := s.At + time.Duration(k)*s.Every + s.Jitter
			if s.After == "" {
				p.At = s.At + time.Duration(k)*s.Every + jitter
			} else {
				p.Gap = s.At
				if k > 0 {
					p.Gap = s.Every
				}
				worst = latest + p.Gap + s.Jitter
				p.Gap += jitter
				p.At = end + p.Gap
			}
			end, latest = p.At+p.Hold, worst+s.Hold
			if latest > duration {
				wrong = append(wrong, SpecError{i, "at", fmt.Sprintf(
					"repetition %d may be injected %s into a run of %s and taken back %s later: lengthen the run, or let the fault come earlier",
					k+1, worst, duration, s.Hold)})
				break
			}
			steps = append(steps, p)
		}
	}
	if len(wrong) > 0 {
		return Plan{}, wrong
	}
	// Each fault waits for all before it, so that a gap counted from the one
	// before it in this order is never too short.
	slices.SortStableFunc(steps, func(a, b Planned) int { return cmp.Compare(a.At, b.At) })
	for i := range steps {
		steps[i].ID = fmt.Sprintf("f%d-%s-%s", i+1, steps[i].Kind, steps[i].Node.Name)
	}
	return Plan{Steps: steps}, nil
}

func truncated(s Spec) Spec {
	for _, d := range []*time.Duration{&s.At, &s.Hold, &s.Every, &s.Jitter} {
		*d = d.Truncate(time.Microsecond)
	}
	return s
}

// check looks at one spec by itself.
func check(i int, s Spec, t topology.Topology, duration time.Duration) (topology.Node, SpecErrors) {
	var wrong SpecErrors
	add := func(field, format string, args ...any) {
		wrong = append(wrong, SpecError{i, field, fmt.Sprintf(format, args...)})
	}
	kind, kindErr := describe(s.Kind)
	if kindErr != nil {
		add("kind", "%v", kindErr)
	}
	node, nodeErr := t.Node(s.Target)
	if nodeErr != nil {
		add("target", "%v", nodeErr)
	}
	if kindErr == nil && nodeErr == nil {
		if !slices.Contains(kind.Roles, node.Role) {
			add("target", "%s is a %s node; %s can be made on %q nodes", node.Name, node.Role, s.Kind, kind.Roles)
		} else if err := kind.Refuse(t, node); err != nil {
			add("target", "%v", err)
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"at", s.At}, {"hold", s.Hold}, {"every", s.Every}, {"jitter", s.Jitter}} {
		if d.value < 0 || d.value > duration {
			add(d.field, "is %s, must be 0 to %s, the duration of the run", d.value, duration)
		}
	}
	switch {
	case s.After != "" && s.After != AfterRedundant:
		add("after", "is %q, must be %q or left out", s.After, AfterRedundant)
	case s.After != "" && i == 0:
		add("after", "is %q, but there is no fault before the first", s.After)
	}
	switch {
	case s.Repeat < 0 || s.Repeat > MaxRepeat:
		add("repeat", "is %d, must be 0 to %d", s.Repeat, MaxRepeat)
	case s.Repeat > 1 && s.After == "" && s.Every <= s.Hold:
		add("every", "is %s: the fault would come again before its hold of %s is over", s.Every, s.Hold)
	case s.Repeat <= 1 && s.Every != 0:
		add("every", "is %s, but the fault is not repeated: set repeat to 2 or more, or leave every out", s.Every)
	}
	return node, wrong
}

// draw picks a time from 0 to limit, limit included, in whole microseconds. A
// fault's draw depends on its own spec's index only, so that a spec added
// behind it changes nothing. SHA-256 needs no promise of a random library to
// draw the same on every machine and with every later version.
func draw(seed uint64, spec, repetition int, limit time.Duration) time.Duration {
	b := []byte("mailbench.plan/v1 jitter")
	b = binary.BigEndian.AppendUint64(b, seed)
	b = binary.BigEndian.AppendUint64(b, uint64(spec))
	b = binary.BigEndian.AppendUint64(b, uint64(repetition))
	sum := sha256.Sum256(b)
	// The high half of a product scales to a range without division (Lemire,
	// "Fast Random Integer Generation in an Interval", 2019); its bias of one in
	// 2^64/range is of no matter here.
	micros, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), uint64(limit/time.Microsecond)+1)
	return time.Duration(micros) * time.Microsecond
}

// SHA256 identifies the plan, in hexadecimal: two plans with the same sum do
// the same to the same nodes at the same times.
func (p Plan) SHA256() string {
	sum := sha256.Sum256(p.canonical())
	return hex.EncodeToString(sum[:])
}

// canonical is the text that SHA256 sums: a line with the format's name, then a
// line a fault.
func (p Plan) canonical() []byte {
	var b bytes.Buffer
	b.WriteString("mailbench.plan/v1\n")
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "id=%q kind=%q node=%q node_id=%d at_us=%d gap_us=%d hold_us=%d\n",
			s.ID, s.Kind, s.Node.Name, s.Node.ID, s.At.Microseconds(), s.Gap.Microseconds(), s.Hold.Microseconds())
	}
	return b.Bytes()
}

// Describe writes for people when each fault is made, on what, and what the
// database is expected to do.
func (p Plan) Describe(w io.Writer, t topology.Topology) error {
	var b bytes.Buffer
	for _, s := range p.Steps {
		when := fmt.Sprintf("at %s, or later once the fault before is redundant", s.At)
		if s.Gap > 0 {
			when = fmt.Sprintf("%s after the fault before is redundant, at %s at the earliest", s.Gap, s.At)
		}
		d, err := describe(s.Kind)
		if err != nil {
			return fmt.Errorf("fault %s: %w", s.ID, err)
		}
		fmt.Fprintf(&b, "%s: %s\n  target   %s, %s node %d on host %s\n  when     %s\n  hold     %s\n  expected %s\n",
			s.ID, d.Summary, s.Node.Name, s.Node.Role, s.Node.ID, s.Node.Host, when, s.Hold, d.Expect(t, s.Node))
	}
	_, err := w.Write(b.Bytes())
	return err
}
