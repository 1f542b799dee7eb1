package scenarios

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/workload/strictyaml"
	"gotest.tools/v3/golden"
)

const (
	referenceFile   = "../docs/scenarios.md"
	faultsFile      = "../docs/faults.md"
	fieldsBegin     = "<!-- generated from scenarios/fields.go: go test ./scenarios -update -->\n"
	catalogueBegin  = "<!-- generated from chaos.Catalogue(): go test ./scenarios -update -->\n"
	faultTableBegin = "<!-- generated from results/faults/table.jsonl: go test ./scenarios -update -->\n"
	generatedEnd    = "<!-- end of the generated part -->\n"
)

// generatedPart holds the generated part of a page true, and returns the rest.
func generatedPart(t *testing.T, file, begin, part string) (before, after string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, generatedEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no generated part", file)
	}
	want := before + begin + part + generatedEnd + after
	switch {
	case string(text) == want:
	case golden.FlagUpdate():
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is out of date; run go test ./scenarios -update", file)
	}
	return before, after
}

func TestFaultsPageHoldsTheCatalogue(t *testing.T) {
	generatedPart(t, faultsFile, catalogueBegin, catalogue())
}

// catalogue writes a table of the kinds, and where their rules stand.
func catalogue() string {
	var b strings.Builder
	b.WriteString("\n| kind | what it does | on | settings | needs | nearest |\n|---|---|---|---|---|---|\n")
	for _, d := range chaos.Catalogue() {
		var roles, settings, needs []string
		for _, role := range d.Roles {
			roles = append(roles, string(role))
		}
		for _, s := range d.Settings {
			one := fmt.Sprintf("`%s`: %s", faultKey(s.Name), s.Doc)
			switch {
			case s.Required:
				one += " (must be set)"
			case s.Default != "":
				one += " (" + s.Default + ")"
			}
			settings = append(settings, one)
		}
		for _, n := range d.Needs {
			needs = append(needs, string(n))
		}
		on := strings.Join(roles, ", ")
		switch {
		case d.Hosts:
			on += "; the whole host has it"
		case d.Rolls:
			on += "; one after another"
		case d.Single:
			on += "; one at a time"
		}
		nearest := string(d.Nearest)
		if nearest != "" {
			nearest = "`" + nearest + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", d.Kind, d.Summary, on, strings.Join(settings, "; "), strings.Join(needs, ", "), nearest)
	}
	b.WriteString("\nWhere each rule stands:\n\n")
	for _, d := range chaos.Catalogue() {
		fmt.Fprintf(&b, "- `%s`: %s\n", d.Kind, d.Source)
	}
	b.WriteByte('\n')
	return b.String()
}

func TestReferenceHoldsEveryField(t *testing.T) {
	before, after := generatedPart(t, referenceFile, fieldsBegin, fieldTables())
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
			case listValue[ExternalData]:
				c := defaultExternalData()
				entry = c.fields()
			case listValue[ExternalSQL]:
				entry = new(ExternalSQL).fields()
			case listValue[LinkSpec]:
				entry = new(LinkSpec).fields()
			case listValue[FaultSpec]:
				c := defaultFault()
				entry = faultEntry{&c, &s.Workload.Duration}.fields()
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
