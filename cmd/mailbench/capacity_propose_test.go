package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestCapacityProposeCommandLine holds what is refused before anything is read, and what
// is not a search.
func TestCapacityProposeCommandLine(t *testing.T) {
	empty := t.TempDir()
	for _, row := range []struct {
		sentence, args string
		code           int
		says           string
	}{
		{"the help says what it does", "--help", 0, "smallest topology"},
		{"a target is no guess", empty, 64, "--target is missing"},
		{"a target has a unit that there is", empty + " --target 20M/week", 64, "20M/day, 20000000 or 500/s"},
		{"a target has bounds", empty + " --target 5", 64, "must be 1000 to 1000000000"},
		{"a format is one that there is", empty + " --target 20M --format xml", 64, "must be text or json"},
		{"a directory is named", "--target 20M", 64, "usage:"},
		{"what is no search is bad input", empty + " --target 20M/day", 65, "holds no capacity search"},
		{"nor is what is not there", empty + "/none --target 20M/day", 65, "none"},
		{"objectives are read first", empty + " --target 20M/day --objectives " + empty + "/none.yaml", 65, "none.yaml"},
	} {
		var stdout, stderr bytes.Buffer
		code := execute(t.Context(), append([]string{"capacity", "propose"}, strings.Fields(row.args)...), &stdout, &stderr)
		if said := stdout.String() + stderr.String(); code != row.code || !strings.Contains(said, row.says) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s", row.sentence, code, row.code, row.says, said)
		}
	}
}
