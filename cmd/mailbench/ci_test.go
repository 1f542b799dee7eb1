package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// inShell finds a command of ours in a line of shell, up to what ends it.
var inShell = regexp.MustCompile(`(?:^|[\s(])mailbench ([a-z][^;|&)\n]*)`)

// TestWorkflowFiles holds the workflow files that docs offer to what the program
// understands: each command that they run, with its flags.
func TestWorkflowFiles(t *testing.T) {
	files, err := filepath.Glob("../../docs/ci/*.yml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v, want the files of GitHub and GitLab", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := yaml.Unmarshal(text, &tree); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		commands := map[string]int{}
		each(tree, func(line string) {
			for _, found := range inShell.FindAllStringSubmatch(line, -1) {
				args := strings.Fields(strings.NewReplacer(`"`, "", `'`, "").Replace(found[1]))
				c, rest, err := newRoot().Find(args)
				if err == nil {
					err = c.ParseFlags(rest)
				}
				if err == nil {
					err = c.ValidateArgs(c.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: mailbench %s: %v", file, found[1], err)
				}
				commands[c.CommandPath()]++
			}
		})
		for _, path := range []string{"mailbench cluster image", "mailbench run", "mailbench gate"} {
			if commands[path] == 0 {
				t.Errorf("%s never calls %s: %v", file, path, commands)
			}
		}
	}
}

// each calls visit with every text in a tree.
func each(tree any, visit func(string)) {
	switch v := tree.(type) {
	case string:
		visit(v)
	case []any:
		for _, e := range v {
			each(e, visit)
		}
	case map[string]any:
		for _, e := range v {
			each(e, visit)
		}
	}
}
