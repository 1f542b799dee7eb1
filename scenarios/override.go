package scenarios

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

// Override sets one value of a scenario file before the file is checked.
type Override struct {
	Path  string // "workload.speed", "faults[0].at"
	Value string // YAML in one line: "10", "[sql2, sql1]"
	Flag  string // how errors name it; "" for "--set path=value"
}

// String names the override as a person wrote it.
func (o Override) String() string {
	if o.Flag != "" {
		return o.Flag
	}
	return "--set " + o.Path + "=" + o.Value
}

// ParseOverride reads "path=value". Whether the path exists and the value fits
// shows when the override is applied, by Parse.
func ParseOverride(s string) (Override, error) {
	path, value, ok := strings.Cut(s, "=")
	o := Override{Path: strings.TrimSpace(path), Value: strings.TrimSpace(value)}
	if !ok {
		return Override{}, &InputError{File: "--set " + s, Msg: "must be path=value, such as workload.speed=10"}
	}
	if _, mistake := o.steps(); mistake != nil {
		return Override{}, mistake
	}
	if _, mistake := o.tree(); mistake != nil {
		return Override{}, mistake
	}
	return o, nil
}

// step is one part of a path: a key, or an index into a list if key is "".
type step struct {
	key   string
	index int
}

var (
	pathForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*(\[[0-9]{1,4}\]|\.[A-Za-z][A-Za-z0-9_-]*)*$`)
	stepForm = regexp.MustCompile(`[A-Za-z][A-Za-z0-9_-]*|[0-9]+`)
)

const maxOverride = 4096 // bytes of path and value

func (o Override) steps() ([]step, *InputError) {
	if len(o.Path)+len(o.Value) > maxOverride {
		return nil, &InputError{File: strictyaml.Quote(o.String()), Msg: fmt.Sprintf("is longer than %d bytes", maxOverride)}
	}
	if !pathForm.MatchString(o.Path) {
		return nil, o.errorf("%s is not a path such as workload.speed or faults[0].at", strictyaml.Quote(o.Path))
	}
	var steps []step
	for _, part := range stepForm.FindAllString(o.Path, -1) {
		if index, err := strconv.Atoi(part); err == nil {
			steps = append(steps, step{index: index})
		} else {
			steps = append(steps, step{key: part})
		}
	}
	return steps, nil
}

func (o Override) errorf(format string, args ...any) *InputError {
	return &InputError{File: o.String(), Msg: fmt.Sprintf(format, args...)}
}

// tree reads the value. All of its nodes name the override as their source.
func (o Override) tree() (*node, *InputError) {
	if strings.ContainsAny(o.Value, "\r\n") {
		return nil, o.errorf("the value must be in one line")
	}
	return strictyaml.ParseTree("scenario", o.String(), []byte(o.Value), false)
}

// apply puts the value into the tree. Mappings on the way that the file leaves
// to their defaults are made; entries of lists are not, as their other fields
// would be anybody's guess.
func (o Override) apply(root *node) *InputError {
	steps, mistake := o.steps()
	if mistake != nil {
		return mistake
	}
	value, mistake := o.tree()
	if mistake != nil {
		return mistake
	}
	at := root
	walked := ""
	for i, s := range steps {
		isLast := i == len(steps)-1
		if s.key == "" {
			switch {
			case at.Kind != strictyaml.SequenceKind:
				return o.errorf("%s is not a list in the file", walked)
			case len(at.Entries) == 0:
				return o.errorf("the file lists no %s; set the whole list, %s=[…]", walked, walked)
			case s.index >= len(at.Entries):
				return o.errorf("there is no %s[%d] in the file, the last is %s[%d]", walked, s.index, walked, len(at.Entries)-1)
			}
			walked += fmt.Sprintf("[%d]", s.index)
			if isLast {
				at.Entries[s.index] = value
			}
			at = at.Entries[s.index]
			continue
		}
		if at.Kind != strictyaml.MappingKind {
			return o.errorf("%s is not a mapping in the file, so that it has no %s", walked, s.key)
		}
		walked = strings.TrimPrefix(walked+"."+s.key, ".")
		next := value
		if !isLast {
			if next = at.Get(s.key); next == nil {
				next = &node{Kind: strictyaml.MappingKind, At: value.At}
				if steps[i+1].key == "" {
					next.Kind = strictyaml.SequenceKind
				}
			}
		}
		at.Set(strictyaml.Pair{Key: s.key, KeyAt: value.At, Value: next})
		at = next
	}
	return nil
}
