package scenarios

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/workload/strictyaml"
	"gotest.tools/v3/golden"
)

const (
	referenceFile  = "../docs/scenarios.md"
	generatedBegin = "<!-- generated from scenarios/fields.go: go test ./scenarios -update -->\n"
	generatedEnd   = "<!-- end of the generated part -->\n"
)

func TestReferenceHoldsEveryField(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), generatedBegin)
	_, after, ok2 := strings.Cut(rest, generatedEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no generated part", referenceFile)
	}
	want := before + generatedBegin + fieldTables() + generatedEnd + after
	if golden.FlagUpdate() {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s is out of date; run go test ./scenarios -update", referenceFile)
	}
	for _, info := range Builtin() {
		if !strings.Contains(before+after, "`"+info.Name+"`") {
			t.Errorf("%s does not mention the built-in scenario %s", referenceFile, info.Name)
		}
	}
}

// TestExampleInReferenceIsAScenario holds the example in the reference true.
func TestExampleInReferenceIsAScenario(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatalf("%s has no example", referenceFile)
	}
	if _, err := Parse("example", []byte(example)); err != nil {
		t.Error(err)
	}
}

// TestMistakeInReferenceIsWhatParseSays holds the excerpt in the reference true.
func TestMistakeInReferenceIsWhatParseSays(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	file := least + strings.Repeat("\n", 8) + "faults:\n  - {kind: kill, target: data2, at: 60, hold: 10s}\n"
	_, err = Parse("peak.yaml", []byte(file))
	if err == nil || !strings.Contains(string(text), "```\n"+err.Error()+"\n```\n") {
		t.Errorf("%s does not show\n%v", referenceFile, err)
	}
}

// fieldTables writes one table a mapping, from the table that reads files.
func fieldTables() string {
	s := defaults()
	var b strings.Builder
	var tables func(title, path string, o object)
	tables = func(title, path string, o object) {
		fmt.Fprintf(&b, "\n### %s\n\n| field | value | default | meaning |\n|---|---|---|---|\n", title)
		var inner []func()
		for _, f := range o {
			full := strings.TrimPrefix(path+"."+f.key, ".")
			rule, fallback := f.value.Rule(), f.fallback
			var entry object
			switch v := f.value.(type) {
			case object:
				rule, fallback = "a mapping, see below", "see below"
				inner = append(inner, func() { tables("`"+full+"`", full, v) })
			case listValue[ClientSpec]:
				c := defaultClient()
				entry = c.fields()
			case listValue[FaultSpec]:
				c := defaultFault()
				entry = c.fields(&s.Workload.Duration)
			case listValue[ObjectiveSpec]:
				c := defaultObjective()
				entry = c.fields()
			}
			if entry != nil {
				rule += ", see below"
				inner = append(inner, func() { tables("`"+full+"[]`", full+"[]", entry) })
			}
			switch {
			case f.required:
				fallback = "*required*"
			case fallback == "":
				fallback = "`" + oneLine(f.value.Write()) + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.key, rule, fallback, f.doc)
		}
		for _, table := range inner {
			table()
		}
	}
	tables("The file", "", s.fields())
	b.WriteByte('\n')
	return b.String()
}

// oneLine writes any tree in flow style.
func oneLine(n *node) string {
	var parts []string
	switch n.Kind {
	case strictyaml.MappingKind:
		for _, p := range n.Pairs {
			parts = append(parts, p.Key+": "+oneLine(p.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case strictyaml.SequenceKind:
		for _, e := range n.Entries {
			parts = append(parts, oneLine(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return n.Inline()
	}
}
