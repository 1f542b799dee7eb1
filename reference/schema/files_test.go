package schema

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/greylist"
)

// TestFilesHaveTheDefaults holds that the files, used by hand, do what Go's
// defaults say.
func TestFilesHaveTheDefaults(t *testing.T) {
	policy, whitelist := greylist.DefaultPolicy(), greylist.DefaultWhitelist()
	_, files, err := objects(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, replaced, err := Options{Database: "d", Greylist: &policy, Whitelist: &whitelist}.objects()
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for i, f := range files {
		if replaced[i].create != f.create {
			t.Errorf("%s of %s is not what the defaults make of it:\n%s", f.name, f.file, replaced[i].create)
		}
		for _, m := range constant.FindAllStringSubmatch(f.create, -1) {
			declared[m[2]] = true
		}
	}
	for name := range policy.Constants() {
		if !declared[name] {
			t.Errorf("no routine declares %s", name)
		}
	}
}

// TestFilesSayHow holds every file to a header that an administrator can work
// with.
func TestFilesSayHow(t *testing.T) {
	entries, err := files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(string(text), "\n\nCREATE")
		for _, part := range []string{"Input:", "Result:", "By hand:"} {
			if !regexp.MustCompile(`(?m)^-- ` + part).MatchString(header) {
				t.Errorf("%s does not say %q before its first statement", e.Name(), part)
			}
		}
	}
}
