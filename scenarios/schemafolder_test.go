package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
)

// TestSchemaFolder has files take the place of the reference's, and refuses what
// would leave something out.
func TestSchemaFolder(t *testing.T) {
	own, err := os.ReadFile("../reference/schema/greylist.sql")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(own), "SELECT MAX(IF(k = client_k, first_seen", "SELECT COUNT(*) INTO first_s FROM greylist WHERE k = client_k; SELECT MAX(IF(k = client_k, first_seen", 1)
	if changed == string(own) {
		t.Fatal("the procedure has no such statement any more")
	}
	for _, row := range []struct {
		sentence string
		files    map[string]string // nil for no folder
		says     string            // "" if it is right
	}{
		{"a changed procedure", map[string]string{"greylist.sql": changed, "README.md": "not read"}, ""},
		{"the folder is not there", nil, "read the folder"},
		{"nothing is in it", map[string]string{}, "holds no .sql file"},
		{"a file that replaces none", map[string]string{"greylst.sql": changed}, "greylst.sql takes the place of no file; there are accounts.sql"},
		{"a procedure is missing", map[string]string{"greylist.sql": changed[:strings.Index(changed, "DROP PROCEDURE IF EXISTS greylist_expire")]}, "it creates: procedure greylist_check, table greylist"},
		{"not SQL of ours", map[string]string{"greylist.sql": "DROP TABLE greylist;"}, "neither a table nor a routine"},
	} {
		dir := t.TempDir()
		if row.files != nil {
			if err := os.Mkdir(filepath.Join(dir, "mine"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range row.files {
			writeFile(t, filepath.Join(dir, "mine", name), []byte(text))
		}
		s, err := Parse(filepath.Join(dir, "x.yaml"), []byte("name: x\nhypothesis: It costs more.\nschema: ./mine\n"))
		if row.says != "" {
			if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "x.yaml:3:") {
				t.Errorf("%s: %v, want line 3 and %q", row.sentence, err, row.says)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		if s.inputs.schema["greylist.sql"] != changed || len(s.inputs.schema) != 1 {
			t.Errorf("%s: %d files are taken", row.sentence, len(s.inputs.schema))
		}
		// A run directory repeats it.
		run := filepath.Join(dir, "run")
		rec, err := results.Create(run, results.Manifest{}, s.recorded())
		if err != nil {
			t.Fatal(err)
		}
		if err := rec.Close(results.EndOfRun{}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(run, results.ScenarioFile))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(filepath.Join(run, results.ScenarioFile), text)
		if err != nil {
			t.Fatalf("%s: the run directory's scenario: %v", row.sentence, err)
		}
		if again.inputs.schema["greylist.sql"] != changed {
			t.Errorf("%s: the run directory has another file", row.sentence)
		}
	}
}
