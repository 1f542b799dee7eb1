package scenarios

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKindsFitTheirColumns(t *testing.T) {
	for _, long := range []bool{false, true} {
		var b strings.Builder
		if err := ListKinds(&b, long, 80); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
		for _, kind := range kindNames() {
			if !strings.Contains("\n"+b.String(), "\n"+kind) {
				t.Errorf("long %t: %s is missing", long, kind)
			}
		}
	}
}

// TestScenariosFitTheirColumns holds it of the list, and of the plan of each.
func TestScenariosFitTheirColumns(t *testing.T) {
	var b strings.Builder
	if err := ListBuiltin(&b, 80); err != nil {
		t.Fatal(err)
	}
	for _, name := range builtinNames() {
		if name == "day" {
			continue // its trace takes long to make, for a hash
		}
		if err := planOf(t, name).Describe(&b, 80); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestFoldLines(t *testing.T) {
	for _, row := range []struct{ sentence, text, want string }{
		{"what fits is left alone", "a bc\n", "a bc\n"},
		{"to the last column", "1234567890\n", "1234567890\n"},
		{"what goes on hangs", "k 34567 90ab\n", "k 34567\n  90ab\n"},
		{"as often as it must", "k 34567 90ab cdef ghij\n", "k 34567\n  90ab\n  cdef\n  ghij\n"},
		{"a wide word is not broken, nor parted from its label", "k 3456789abcdef g\n", "k 3456789abcdef\n  g\n"},
		{"one that ends the line neither", "k 3456789abcdef\n", "k 3456789abcdef\n"},
		{"columns are counted, not bytes", "k µµµµµ µµ\n", "k µµµµµ µµ\n"},
		{"each line by itself", "k 34567 90ab\nc\n", "k 34567\n  90ab\nc\n"},
	} {
		if got := foldLines(row.text, 10, func(string) int { return 2 }); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}

// TestFaultOnACommandLine holds what `chaos inject` takes.
func TestFaultOnACommandLine(t *testing.T) {
	for _, row := range []struct {
		sentence, kind, target string
		set                    []string
		wrong                  string
	}{
		{"a kind and a target are enough", "kill", "data2", nil, ""},
		{"a target with a colon is no mapping", "kill", "group:0", []string{"allow=outage"}, ""},
		{"settings as in a file", "partition", "data1", []string{"peers=[data2]", "direction=in"}, ""},
		{"an unknown kind names the near one", "kil", "data2", nil, "did you mean kill?"},
		{"a target that cannot be one", "kill", "Data 2", nil, "target: must be a node such as data2"},
		{"a value that does not fit names itself", "slow-cpu", "data2", []string{"cpus=half"}, "--set cpus=half: cpus: must be a number of processors"},
		{"an unknown field names the near one", "slow-cpu", "data2", []string{"cpu=0.5"}, "did you mean cpus?"},
	} {
		f, err := ParseFault(row.kind, row.target, overrides(row.set...)...)
		switch {
		case row.wrong == "" && (err != nil || string(f.Kind) != row.kind || f.Target != row.target):
			t.Errorf("%s: %+v, %v", row.sentence, f, err)
		case row.wrong != "" && (err == nil || !strings.Contains(err.Error(), row.wrong)):
			t.Errorf("%s: %v", row.sentence, err)
		}
	}
}
