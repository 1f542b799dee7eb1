package strictyaml

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"peak-hour", "smoke", "sql1", "sql2", "DataMemory"}
	for _, row := range []struct{ what, name, want string }{
		{"a changed letter", "peek-hour", "peak-hour"},
		{"a missing letter", "peakhour", "peak-hour"},
		{"an added letter", "smokee", "smoke"},
		{"two letters swapped", "smoek", "smoke"},
		{"another case", "datamemory", "DataMemory"},
		{"the first of equals", "sql3", "sql1"},
		{"too far away", "storm", ""},
		{"nothing at all", "", ""},
		{"something very long", strings.Repeat("smoke", 100_000), ""},
	} {
		if got, ok := Nearest(row.name, known); got != row.want || ok != (row.want != "") {
			t.Errorf("%s: got %q, %t, want %q", row.what, got, ok, row.want)
		}
	}
}
