package scenarios

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/openslo"
	"github.com/mailbench/mailbench/workload"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// inputs is what a scenario takes from the files that it names.
type inputs struct {
	profile     *workload.Profile // of a file; nil for a built-in one
	profileText []byte            // its YAML, with comments
	tracePath   string            // from the working directory; "" to generate
	openSLO     map[int]openSLO   // by the index of the objective
	schema      map[string]string // files that take the place of reference/schema's, by their names
}

// openSLO is an OpenSLO document.
type openSLO struct {
	text       []byte
	objectives []results.Objective
}

// profileValue is the name of a built-in profile, or a path.
func profileValue(p *string) value {
	return strictyaml.Scalar{
		What: strings.Join(workload.ProfileNames(), " or ") + ", or the path of a file such as ./mine.yaml",
		Parse: func(n *node) bool {
			known := false
			for _, name := range workload.ProfileNames() {
				known = known || name == n.Text
			}
			if n.Kind != strictyaml.TextKind || !known && !(isPath(n.Text) && validPath(n.Text)) {
				return false
			}
			*p = n.Text
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	}
}

// pathValue is the path of a file.
func pathValue(p *string) strictyaml.Scalar {
	return strictyaml.Scalar{
		What: "the path of a file such as ./day.mbt",
		Parse: func(n *node) bool {
			if n.Kind != strictyaml.TextKind || !validPath(n.Text) {
				return false
			}
			*p = n.Text
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	}
}

func validPath(s string) bool {
	return s != "" && len(s) <= 4096 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func hashValue(p *string) value {
	return strictyaml.Scalar{
		What: "a SHA-256 in 64 digits and small letters a to f",
		Parse: func(n *node) bool {
			if len(n.Text) != 64 || strings.Trim(n.Text, "0123456789abcdef") != "" {
				return false
			}
			*p = n.Text
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	}
}

// pathFrom makes a path that was written relative to the scenario file, or in an
// override to the working directory, one from the working directory.
func (d *decoder) pathFrom(file, field, written string) string {
	if at, ok := d.Written[field]; !ok || !at.InFile() || filepath.IsAbs(written) {
		return written
	}
	return filepath.Join(filepath.Dir(file), written)
}

// fillProfile resolves the defaults that the profile has. The error is about the
// profile's file.
func (d *decoder) fillProfile(file string, s *Scenario) error {
	if !d.Good("workload.profile") {
		return nil
	}
	var p workload.Profile
	if isPath(s.Workload.Profile) {
		path := d.pathFrom(file, "workload.profile", s.Workload.Profile)
		text, err := readFile("profile", path)
		if err != nil {
			d.Reject("workload.profile", "%s: %v", path, err)
			return nil
		}
		read, err := workload.ParseProfile(path, text)
		if err != nil {
			return err
		}
		p, s.inputs.profile, s.inputs.profileText = *read, read, text
	} else {
		var err error
		if p, err = workload.BuiltinProfile(s.Workload.Profile); err != nil {
			d.Reject("workload.profile", "%v", err)
			return nil
		}
	}
	if _, ok := d.Written["workload.messages_per_day"]; !ok {
		s.Workload.MessagesPerDay = p.Model.MessagesPerDay
	}
	if _, ok := d.Written["workload.account_jobs_per_day"]; !ok {
		s.Workload.JobsPerDay = p.Model.JobsPerDay
	}
	return nil
}

// profile is the day model of a scenario that generates its trace.
func (s *Scenario) profile() (workload.Profile, error) {
	if s.inputs.profile != nil {
		return *s.inputs.profile, nil
	}
	return workload.BuiltinProfile(s.Workload.Profile)
}

// traceFile is what a trace file says of itself.
type traceFile struct {
	path   string
	header workload.TraceHeader
	sha256 string // of all items
}

// openTrace looks at the trace file that a scenario names. It is nil if that was
// rejected.
func (d *decoder) openTrace(file string, s *Scenario) *traceFile {
	path := d.pathFrom(file, "workload.trace", s.Workload.Trace)
	f, err := workload.OpenTrace(path)
	var wrong *workload.TraceFileError
	switch {
	case errors.As(err, &wrong):
		d.Reject("workload.trace", "%v", err)
		return nil
	case err != nil:
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is named already
		}
		which := ""
		if s.Workload.TraceSHA256 != "" {
			which = "; it is the one whose items have SHA-256 " + s.Workload.TraceSHA256
		}
		d.Reject("workload.trace", "open trace file %s: %v%s; name it with --set workload.trace=FILE if it is elsewhere", path, err, which)
		return nil
	}
	defer f.Close() // only read
	return &traceFile{path, f.Header(), f.SHA256()}
}

// traceDefaults are the defaults of a scenario that replays a trace file. first is
// the scenario as it was read with the usual ones: it has what was written.
func traceDefaults(t *traceFile, first *Scenario, d *decoder) *Scenario {
	s, window := defaults(), t.header.Window
	s.inputs.tracePath = t.path
	s.Seed = t.header.Seed
	s.Population = Population{}
	s.Workload.Profile, s.Workload.MessagesPerDay, s.Workload.JobsPerDay = "", 0, 0
	s.Workload.TraceSHA256 = t.sha256
	s.Workload.From = Start{TimeOfDay: window.From}
	if t.header.Imported() {
		s.Workload.Before = BeforeNone
	}
	from := window.From
	if _, ok := d.Written["workload.from"]; ok && d.Good("workload.from") {
		from = first.Workload.From.TimeOfDay
	}
	speed := 1
	if d.Good("workload.speed") {
		speed = first.Workload.Speed
	}
	// Rounded up, so that the last item is in it; see Scenario.slice.
	unit := time.Duration(speed) * time.Microsecond
	if rest := window.From + window.Duration - from; rest > 0 {
		s.Workload.Duration = (rest + unit - 1) / unit * time.Microsecond
	}
	return s
}

// slice is the part of a trace file's window that a scenario replays. It may
// pass the file's end by what a duration in whole microseconds makes of it.
func (s *Scenario) slice(file workload.Window) workload.Window {
	w := workload.Window{From: s.Workload.From.TimeOfDay, Duration: s.Workload.Span()}
	if past := w.From + w.Duration - file.From - file.Duration; past > 0 && past < time.Duration(s.Workload.Speed)*time.Microsecond {
		w.Duration -= past
	}
	return w
}

// checkTrace holds the fields against the trace file.
func (d *decoder) checkTrace(s *Scenario, t *traceFile) {
	for _, field := range []string{"workload.profile", "workload.messages_per_day", "workload.account_jobs_per_day", "population"} {
		if _, ok := d.Written[field]; ok {
			d.Reject(field, "must not be written beside workload.trace, whose file has messages and population; leave it out")
		}
	}
	if s.Seed != t.header.Seed && d.Good("seed") {
		d.Reject("seed", "is %d, the trace file was made with %d; leave it out", s.Seed, t.header.Seed)
	}
	if s.Workload.TraceSHA256 != t.sha256 && d.Good("workload.trace_sha256") {
		d.Reject("workload.trace_sha256", "is not that of trace file %s, whose items have SHA-256 %s: it is another trace", t.path, t.sha256)
	}
	if t.header.Imported() && d.Good("workload.before") && s.Workload.Before != BeforeNone {
		d.Reject("workload.before", "must be %s: the trace file was imported from a log, which tells nothing of what was before it", BeforeNone)
	}
	if !d.Good("workload.from", "workload.duration", "workload.speed") {
		return
	}
	file := t.header.Window
	end := file.From + file.Duration
	covers := "the trace file covers " + virtualClock(file.From) + " to " + virtualClock(end)
	_, fromWritten := d.Written["workload.from"]
	_, durationWritten := d.Written["workload.duration"]
	w := s.slice(file)
	switch {
	case s.Workload.From.BusiestHour:
		d.Reject("workload.from", "must be a time of day, as a trace file has no profile's hours; %s", covers)
	case !fromWritten && w.From%time.Second != 0:
		d.Reject("workload.from", "must be written, as %s and begins within a second", covers)
	case w.From < file.From || w.From >= end:
		d.Reject("workload.from", "must be within the trace file, not %s; %s", formatStart(s.Workload.From), covers)
	case !durationWritten && (s.Workload.Duration > longest || s.Workload.Duration < time.Second):
		d.Reject("workload.duration", "must be written, as the rest of the trace file lasts %s at speed %d and a load lasts from 1s to %s",
			formatDuration(s.Workload.Duration), s.Workload.Speed, formatDuration(longest))
	case w.From+w.Duration > end:
		d.Reject("workload.duration", "must end within the trace file: %s at speed %d from %s ends at %s; %s",
			formatDuration(s.Workload.Duration), s.Workload.Speed, formatStart(s.Workload.From), virtualClock(w.From+w.Duration), covers)
	}
}

// fillOpenSLO reads the OpenSLO documents that the objectives name. The error is
// about the documents.
func (d *decoder) fillOpenSLO(file string, s *Scenario) error {
	var wrong []error
	for i, o := range s.ObjectiveSpecs {
		field := fmt.Sprintf("objectives[%d].openslo", i)
		if o.OpenSLO == "" || !d.Good(field) {
			continue
		}
		path := d.pathFrom(file, field, o.OpenSLO)
		text, err := readFile("OpenSLO", path)
		if err != nil {
			d.Reject(field, "%s: %v", path, err)
			continue
		}
		objectives, err := openslo.Parse(path, text)
		wrong = append(wrong, err)
		if s.inputs.openSLO == nil {
			s.inputs.openSLO = map[int]openSLO{}
		}
		s.inputs.openSLO[i] = openSLO{text, objectives}
	}
	return errors.Join(wrong...)
}

// fillSchema reads the files that take the place of reference/schema's.
func (d *decoder) fillSchema(file string, s *Scenario) {
	if s.Schema == "" || !d.Good("schema") {
		return
	}
	folder := d.pathFrom(file, "schema", s.Schema)
	entries, err := os.ReadDir(folder)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is named already
		}
		d.Reject("schema", "read the folder %s: %v", folder, err)
		return
	}
	s.inputs.schema = map[string]string{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sql" {
			continue
		}
		text, err := readFile("schema", filepath.Join(folder, e.Name()))
		if err != nil {
			d.Reject("schema", "%s: %v", filepath.Join(folder, e.Name()), err)
			return
		}
		s.inputs.schema[e.Name()] = string(text)
	}
	if len(s.inputs.schema) == 0 {
		d.Reject("schema", "the folder %s holds no .sql file", folder)
	} else if err := schema.Check(s.inputs.schema); err != nil {
		d.Reject("schema", "%s: %v", folder, err)
	}
}

// recorded is the scenario as a run directory keeps it: a profile's file, files of
// the schema and OpenSLO documents lie beside it, and a trace file, which may be large and somebody's mail, is to be
// put there by who wants to repeat the run.
func (s *Scenario) recorded() results.Inputs {
	kept := *s
	if s.inputs.profile != nil {
		kept.Workload.Profile = results.ProfileFile
	}
	kept.External.PasswordFile = "" // a path of this machine
	if s.Workload.Trace != "" {
		kept.Workload.Trace = "./" + filepath.Base(s.Workload.Trace)
	}
	if s.Schema != "" {
		kept.Schema = "./" + results.SchemaFolder
	}
	in := results.Inputs{Profile: s.inputs.profileText, Schema: s.inputs.schema}
	kept.ObjectiveSpecs = slices.Clone(s.ObjectiveSpecs)
	for i := range kept.ObjectiveSpecs {
		if kept.ObjectiveSpecs[i].OpenSLO != "" {
			kept.ObjectiveSpecs[i].OpenSLO = "./" + results.OpenSLOFile(len(in.OpenSLO))
			in.OpenSLO = append(in.OpenSLO, s.inputs.openSLO[i].text)
		}
	}
	in.Scenario = kept.YAML()
	return in
}
