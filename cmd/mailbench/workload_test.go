package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/golden"
)

func TestWorkloadCommands(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	generate := "workload generate --seed 1 --from 11:00 --duration 2s --out "
	text, empty := file("text.mbt", "no trace\n"), file("empty.mbt", "")
	wrong := file("wrong.yaml", "name: wrong\nspam: 140%\n")
	var whole bytes.Buffer
	if code := execute(t.Context(), strings.Fields(generate+"-"), &whole, &bytes.Buffer{}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	cut, altered := file("cut.mbt", whole.String()[:4000]), whole.Bytes()
	taken := file("taken.mbt", whole.String())
	altered[5000] ^= 1
	alteredFile := file("altered.mbt", string(altered))
	for _, row := range []struct {
		sentence string
		args     string
		code     int
		stdout   string
		stderr   string
	}{
		{"show names the profiles", "workload show", 0, "berkeley-2008\nmodern\n", ""},
		{"show prints one with its comments", "workload show modern", 0, "# A working day", ""},
		{"show does not know a profile", "workload show moderm", 65, "", "did you mean modern?"},
		{"show takes a file", "workload show ../../workload/profiles/modern.yaml", 0, "# A working day", ""},
		{"show refuses one that is wrong", "workload show " + wrong, 65, "", "wrong.yaml:2:7: spam"},
		{"a trace is written, with its hash", generate + at("new.mbt"), 0, "", "sha256 "},
		{"it is not written over", generate + at("new.mbt"), 64, "", "is there already"},
		{"but by force", generate + at("new.mbt") + " --force", 0, "", "sha256 "},
		{"a directory is no file to replace", generate + dir + " --force", 70, "", "not a regular file"},
		{"a folder that is not there", generate + at("none/new.mbt"), 70, "", "none"},
		{"an output must be named", "workload generate --seed 1", 64, "", "--out is missing"},
		{"a window that leaves the day", "workload generate --from 23:00 --duration 2h --out " + at("x.mbt"), 64, "", "end by 24h"},
		{"a time that is none", "workload generate --from noon --out " + at("x.mbt"), 64, "", "no time of day such as 14:00"},
		{"a duration of nothing", "workload generate --duration 0s --out " + at("x.mbt"), 64, "", "must be above 0"},
		{"workers below none", "workload generate --workers -1 --out " + at("x.mbt"), 64, "", "must be 0 to 1000"},
		{"an unknown profile", generate + at("x.mbt") + " --profile moderm", 65, "", "did you mean modern?"},
		{"a wrong profile names file, line and field", generate + at("x.mbt") + " --profile " + wrong, 65, "", "wrong.yaml:2:7: spam"},
		{"too small a population", generate + at("x.mbt") + " --accounts 5", 65, "", "Accounts is 5"},
		{"a trace is inspected", "workload inspect " + taken, 0, "rate of messages", ""},
		{"a slice of one", "workload inspect --from 11:00:01 --duration 1s " + taken, 0, "window      11:00:01 to 11:00:02", ""},
		{"a slice that is not in it", "workload inspect --from 10:00 " + taken, 65, "", "does not hold the slice"},
		{"a trace must be named", "workload inspect", 64, "", "usage: mailbench workload inspect FILE"},
		{"a file that is not there", "workload inspect " + at("nothing.mbt"), 65, "", "no such file"},
		{"a folder", "workload inspect " + dir, 65, "", "not a regular file"},
		{"an empty file", "workload inspect " + empty, 65, "", "empty.mbt: byte 0: the file is empty"},
		{"a file of another kind", "workload inspect " + text, 65, "", "text.mbt: byte 0: this is not a trace file"},
		{"a file that was cut short", "workload inspect " + cut, 65, "", "cut short"},
		{"a file that was altered", "workload inspect " + alteredFile, 65, "", "altered"},
		{"an unknown subcommand", "workload inspekt", 64, "", "did you mean inspect?"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := execute(t.Context(), strings.Fields(row.args), &stdout, &stderr); code != row.code {
				t.Errorf("exit code %d, want %d\nstderr: %s", code, row.code, &stderr)
			}
			if !strings.Contains(stdout.String(), row.stdout) || !strings.Contains(stderr.String(), row.stderr) {
				t.Errorf("stdout:\n%s\nstderr:\n%s\nwant %q and %q", &stdout, &stderr, row.stdout, row.stderr)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left over (error %v)", left, err)
	}
	if _, err := os.Stat(at("x.mbt")); err == nil {
		t.Error("a refused trace has left a file")
	}
}

func TestWorkloadInspect(t *testing.T) {
	dir := t.TempDir() + string(filepath.Separator)
	var stdout, stderr bytes.Buffer
	for _, args := range []string{
		"workload generate --seed 7 --accounts 2000 --from 08:50 --duration 25m --workers 2 --out " + dir + "morning.mbt",
		"workload inspect " + dir + "morning.mbt",
	} {
		stdout.Reset()
		if code := execute(t.Context(), strings.Fields(args), &stdout, &stderr); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", args, code, &stderr)
		}
	}
	shown := strings.ReplaceAll(stdout.String(), dir, "")
	for line := range strings.Lines(shown) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	golden.Assert(t, shown, "inspect.golden")
}
