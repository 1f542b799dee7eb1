package scenarios

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

//go:embed *.yaml
var builtinFiles embed.FS

const extension = ".yaml"

// Info names a built-in scenario.
type Info struct {
	Name       string
	Hypothesis string
}

// Builtin lists the scenarios that are part of the program, by name.
func Builtin() []Info {
	var all []Info
	for _, name := range builtinNames() {
		// A built-in that does not parse is a bug that the tests catch.
		if f, err := Load(name); err == nil {
			if s, err := f.Scenario(); err == nil {
				all = append(all, Info{Name: name, Hypothesis: s.Hypothesis})
			}
		}
	}
	return all
}

// ListBuiltin writes the names and hypotheses of the built-in scenarios, in lines
// that fit width.
func ListBuiltin(w io.Writer, width int) error {
	var b strings.Builder
	for _, s := range Builtin() {
		fmt.Fprintf(&b, "%s\n    %s\n", s.Name, s.Hypothesis)
	}
	_, err := io.WriteString(w, foldLines(b.String(), width, func(string) int { return 4 }))
	return err
}

func builtinNames() []string {
	entries, err := builtinFiles.ReadDir(".")
	if err != nil {
		return nil // an embedded folder can always be read
	}
	var names []string
	for _, e := range entries { // sorted by ReadDir
		names = append(names, strings.TrimSuffix(e.Name(), extension))
	}
	return names
}

// File is the text of a scenario, not yet parsed.
type File struct {
	Name    string // for errors: the path as it was given, or the name of a built-in
	Data    []byte
	Builtin bool
}

// Scenario parses the file; see Parse.
func (f *File) Scenario(overrides ...Override) (*Scenario, error) {
	return Parse(f.Name, f.Data, overrides...)
}

// Load reads a built-in scenario by its name, or a file by its path. What has a
// folder or .yaml or .yml in it is a path; a word alone is a name. Its errors
// are of type *InputError.
func Load(nameOrPath string) (*File, error) {
	if !isPath(nameOrPath) {
		file := nameOrPath + extension
		data, err := builtinFiles.ReadFile(file)
		if err == nil {
			return &File{Name: file, Data: data, Builtin: true}, nil
		}
		return nil, &InputError{Msg: strictyaml.UnknownName("scenario", nameOrPath, builtinNames()) + "; a file of yours is named by its path, such as ./mine.yaml"}
	}
	data, err := readFile("scenario", nameOrPath)
	if err != nil {
		return nil, &InputError{File: nameOrPath, Msg: err.Error(), Cause: err}
	}
	return &File{Name: nameOrPath, Data: data}, nil
}

func isPath(s string) bool {
	ext := filepath.Ext(s)
	return ext == extension || ext == ".yml" || strings.ContainsRune(s, filepath.Separator) || strings.Contains(s, "/")
}

// readFile reads no more than it takes to see that a file is too large.
func readFile(noun, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is named already
		}
		return nil, fmt.Errorf("read the %s file: %w", noun, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the %s file: %w", noun, err)
	}
	return data, nil
}
