package results

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"gotest.tools/v3/golden"
)

// schemaFile is published: whoever reads run.json may hold it to it.
var schemaFile = filepath.Join("..", "..", "docs", "run.schema.json") // from testdata

// TestSchemaOfRunIsPublished makes the schema from Run and its comments. After a
// change of Run: go test ./results -run Schema -update
func TestSchemaOfRunIsPublished(t *testing.T) {
	schema, err := jsonschema.For[Run](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Decimal](): {Type: "number"},
		reflect.TypeFor[Verdict](): {Type: "string", Enum: []any{DataLoss, Inconclusive, Violated, Pass}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	describe(schema, reflect.TypeFor[Run](), comments(t))
	schema.Schema = "https://json-schema.org/draft/2020-12/schema"
	schema.ID = "urn:mailbench:run:v1"
	schema.Title = "run.json of mailbench"
	schema.Description = "What was judged from a recording; docs/results.md defines every field. Fields that end in _us are microseconds, " +
		"times count from the recording's anchor; shares have six digits behind the point. Later versions of mailbench may add fields."
	var name any = RunSchema
	for _, copied := range []string{"version", "host"} { // from the manifest, which may have none
		p := schema.Properties[copied]
		p.Types, p.Type = []string{"null", "object"}, ""
	}
	schema.Properties["schema"] = &jsonschema.Schema{Const: &name}
	b, err := marshalIndent(schema)
	if err != nil {
		t.Fatal(err)
	}
	golden.AssertBytes(t, b, schemaFile)
}

// describe gives each property the comment of its field. Lists of run.json are
// never null.
func describe(s *jsonschema.Schema, of reflect.Type, comments map[string]string) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if slices.Equal(s.Types, []string{"null", "array"}) {
		s.Types, s.Type = nil, "array"
	}
	switch of.Kind() {
	case reflect.Slice:
		describe(s.Items, of.Elem(), comments)
	case reflect.Map:
		describe(s.AdditionalProperties, of.Elem(), comments)
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			property := s.Properties[name]
			if field.Anonymous || property == nil {
				continue
			}
			owner := of
			for _, i := range field.Index[:len(field.Index)-1] {
				owner = owner.Field(i).Type
			}
			property.Description = comments[owner.Name()+"."+field.Name]
			describe(property, field.Type, comments)
		}
	}
}

// comments are those of the fields of this package's types.
func comments(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if fields, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range fields.Fields.List {
					text := strings.TrimSpace(f.Comment.Text())
					if text == "" {
						text = f.Doc.Text()
					}
					for _, n := range f.Names {
						found[spec.Name.Name+"."+n.Name] = strings.Join(strings.Fields(text), " ")
					}
				}
			}
			return true
		})
	}
	return found
}

func runSchema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	schema := new(jsonschema.Schema)
	if err := json.Unmarshal(b, schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func TestRunsFitTheirSchema(t *testing.T) {
	schema := runSchema(t)
	for sentence, run := range map[string]func() []byte{
		"a run with faults": func() []byte {
			dir := t.TempDir()
			twoKills(t, dir, testManifest(t), completed)
			return encode(t, mustJudge(t, dir))
		},
		"a recording that has nothing but a manifest": func() []byte {
			dir := t.TempDir()
			twoKills(t, dir, testManifest(t), completed)
			for _, name := range []string{SamplesFile, EventsFile, CountersFile, LedgerFile} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Salvage(dir)
			if err != nil {
				t.Fatal(err)
			}
			run, err := Judge(r)
			if err != nil {
				t.Fatal(err)
			}
			return encode(t, run)
		},
		"the golden run": func() []byte {
			b, err := os.ReadFile(filepath.Join("testdata", "two-kills.run.json"))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		var instance any
		if err := json.Unmarshal(run(), &instance); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance); err != nil {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestSchemaIsStrict(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "two-kills.run.json"))
	if err != nil {
		t.Fatal(err)
	}
	schema := runSchema(t)
	for _, row := range []struct{ sentence, old, new string }{
		{"another schema's name", RunSchema, "mailbench.run/v2"},
		{"a verdict that is none", `"verdict": "violated"`, `"verdict": "fine"`},
		{"a field that nobody knows", `"scenario":`, `"colour": "red", "scenario":`},
		{"a field of a path that nobody knows", `"wrong":`, `"odd": 1, "wrong":`},
		{"a field that is missing", `"seed": 42,`, ``},
		{"text for a number", `"seed": 42,`, `"seed": "42",`},
		{"a broken number for a count", `"bad_ops": `, `"bad_ops": 0.5, "x": `},
		{"no list of reasons", `"reasons": []`, `"reasons": null`},
	} {
		spoiled := bytes.Replace(whole, []byte(row.old), []byte(row.new), 1)
		if bytes.Equal(spoiled, whole) {
			t.Fatalf("%s: the golden run has no %s", row.sentence, row.old)
		}
		var instance any
		if err := json.Unmarshal(spoiled, &instance); err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		if schema.Validate(instance) == nil {
			t.Errorf("%s fits the schema", row.sentence)
		}
	}
}
