package strictyaml

import (
	"fmt"
	"strings"
)

// Decoder is one reading of a file.
type Decoder struct {
	Written  map[string]Position // of each value in the file, by its path
	wrong    map[string]bool     // paths with a mistake at or below them
	mistakes []*InputError
	noun     string // what a mistake of the whole file is about
}

// NewDecoder begins the reading of a file of a kind, such as "scenario".
func NewDecoder(noun string) *Decoder {
	return &Decoder{Written: map[string]Position{}, wrong: map[string]bool{}, noun: noun}
}

// Err joins all mistakes in the order of the file.
func (d *Decoder) Err() error { return joinErrors(d.mistakes) }

// Read reads the value at a path, such as "faults[0].at".
func (d *Decoder) Read(v Value, path string, n *Node) {
	d.Written[path] = n.At
	v.Read(d, path, n)
}

// Report adds a mistake of what stands at a path.
func (d *Decoder) Report(at Position, path, format string, args ...any) {
	for outer := path; ; outer = outerPath(outer) {
		d.wrong[outer] = true
		if outer == "" {
			break
		}
	}
	msg := fmt.Sprintf(format, args...)
	if path == "" {
		path = d.noun
	}
	d.mistakes = append(d.mistakes, at.Errorf("%s: %s", path, msg))
}

// Reject reports a value that is well formed but does not fit others. A value
// that was not written is reported where the nearest part around it stands.
func (d *Decoder) Reject(path, format string, args ...any) {
	for outer := path; ; outer = outerPath(outer) {
		if at, ok := d.Written[outer]; ok {
			d.Report(at, path, format, args...)
			return
		}
	}
}

// Good says whether nothing at or below the paths was found wrong, so that a
// check that builds on them would not blame a second place for one mistake.
func (d *Decoder) Good(paths ...string) bool {
	for _, p := range paths {
		if d.wrong[p] {
			return false
		}
	}
	return true
}

// outerPath cuts the last step off a path: "a.b[0]" to "a.b" to "a" to "".
func outerPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// Unique reports the names that stand twice in a list: the entries themselves,
// or their field of the given key.
func (d *Decoder) Unique(list, key string, count int, name func(int) string) {
	first := map[string]int{}
	for i := range count {
		path := fmt.Sprintf("%s[%d]", list, i)
		if key != "" {
			path += "." + key
		}
		n := name(i)
		if _, ok := d.Written[path]; !ok || n == "" || !d.Good(path) {
			continue
		}
		if j, ok := first[n]; ok {
			d.Reject(path, "%s is already the name of %s[%d]", Quote(n), list, j)
			continue
		}
		first[n] = i
	}
}
