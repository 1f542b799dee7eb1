package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run performs a command line.
func run(t *testing.T, line string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), strings.Fields(line), &out, &errs)
	return out.String(), errs.String(), code
}

func TestWorkloadImport(t *testing.T) {
	const sample = "../../workload/maillog/testdata/postfix-postgrey.log"
	dir := t.TempDir()
	trace, short, key := filepath.Join(dir, "a.mbt"), filepath.Join(dir, "short"), filepath.Join(dir, "key")
	for name, content := range map[string]string{short: "too short\n", key: "0123456789abcdef\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		sentence, args string
		code           int
		stdout, stderr string
	}{
		{"a report", "--report --year 2026 " + sample, 0, "understood 100.00 %", ""},
		{"a trace", "--year 2026 --key-file " + key + " --our-domain calmail.example --out " + trace + " " + sample, 0, "", "13   messages, 65 first tries"},
		{"no file is replaced unasked", "--year 2026 --out " + trace + " " + sample, 64, "", "is there already"},
		{"unless it is asked for", "--year 2026 --force --out " + trace + " " + sample, 0, "", "messages"},
		{"no log", "--report", 64, "", "requires at least 1 arg"},
		{"nowhere to write", sample, 64, "", "--out is missing"},
		{"two results", "--report --out x " + sample, 64, "", "--report writes no trace"},
		{"a format that is none", "--report --format sendmail " + sample, 64, "", `--format is "sendmail", must be auto, postgrey, exim or postfix`},
		{"a zone that is none", "--report --zone Mars/Olympus " + sample, 64, "", "--zone is"},
		{"a year that is none", "--report --year 8 " + sample, 64, "", "--year is 8"},
		{"a window that is too short", "--report --retry-window 1s " + sample, 64, "", "--retry-window is 1s"},
		{"a domain that is none", "--report --our-domain a@b " + sample, 64, "", "a@b"},
		{"a key and no pseudonyms", "--report --no-pseudonyms --key-file k " + sample, 64, "", "--no-pseudonyms needs neither"},
		{"a key that is too short", "--report --key-file " + short + " " + sample, 65, "", "the key has 9 bytes, must have from 16"},
		{"a log that is none", "--report main.go", 65, "", "main.go:1: none of the first"},
		{"a log in another format", "--report --format exim " + sample, 65, "", "give --format postfix, or auto"},
		{"a folder that is none", "--out none/a.mbt " + sample, 70, "", "none/a.mbt: there is no folder none"},
		{"standard input", "--report -", 65, "", "-: no such file or directory; logs are read twice, so save standard input into a file first"},
		{"a log twice", "--report " + sample + " ../mailbench/" + sample, 65, "", "it is given twice, also as " + sample},
		{"no such log", "--report none.log", 65, "", "none.log: no such file"},
	} {
		stdout, stderr, code := run(t, "workload import "+row.args)
		if code != row.code || !strings.Contains(stdout, row.stdout) || !strings.Contains(stderr, row.stderr) {
			t.Errorf("%s: code %d, want %d\nstdout: %s\nstderr: %s", row.sentence, code, row.code, stdout, stderr)
		}
	}
	stdout, stderr, code := run(t, "workload inspect "+trace)
	if code != 0 || !strings.Contains(stdout, "13 messages with 65 first tries") {
		t.Errorf("inspect: code %d\n%s%s", code, stdout, stderr)
	}
	for _, secret := range []string{"alice", "192.0.2.10", "calmail.example "} {
		if strings.Contains(stdout[strings.Index(stdout, "popularity"):], secret) {
			t.Errorf("the trace tells of %s", secret)
		}
	}
}
