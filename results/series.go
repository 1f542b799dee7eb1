package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// SeriesSchema names the layout of series.json.
const SeriesSchema = "mailbench.series/v1"

// SeriesFile is what makes a directory a series.
const SeriesFile = "series.json"

const maxSeries = 1 << 20 // bytes of series.json

// Series is a directory of runs that belong together, such as repetitions of
// one scenario.
type Series struct {
	Schema   string   `json:"schema"`
	Kind     string   `json:"kind"` // one of the kinds; others are other ways to compare
	Scenario string   `json:"scenario"`
	Members  []Member `json:"members"` // in the order in which they ran
}

// The kinds.
const (
	Repetitions = "repetitions" // runs that differ in nothing
	InTurn      = "in_turn"     // a base and a candidate, loaded in turn: interleaved.json says when
	// Runs of a search for a capacity, each on a warm cluster: search.json says which steps they hold.
	CapacitySteps = "capacity_steps"
)

// Member is one run of a series.
type Member struct {
	Dir  string            `json:"dir"`            // below the series' own directory, without a path
	Side string            `json:"side,omitempty"` // which of several things it measured, "" if there is but one
	Set  map[string]string `json:"set,omitempty"`  // what was changed in the scenario for it
}

// NextMember names the directory of the next run: "001", "002", and so on.
func (s *Series) NextMember() string { return fmt.Sprintf("%03d", len(s.Members)+1) }

var memberName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// Write puts series.json into dir, which is made if it is not there. A series
// is written anew for each member, before the member runs: what a crash left is
// a series too.
func (s *Series) Write(dir string) error {
	s.Schema = SeriesSchema
	b, err := marshalIndent(s)
	if err != nil {
		return fmt.Errorf("encode %s: %w", SeriesFile, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of a series: %w", err)
	}
	err = ReplaceFile(filepath.Join(dir, SeriesFile), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return fmt.Errorf("write a series: %w", err)
	}
	return nil
}

// ReadSeries reads series.json in dir. The error is os.ErrNotExist if the
// directory is no series.
func ReadSeries(dir string) (*Series, error) {
	path := filepath.Join(dir, SeriesFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open series: %w", err)
	}
	if info.Size() > maxSeries {
		return nil, fmt.Errorf("open series: %s has more than %d bytes", path, maxSeries)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open series: %w", err)
	}
	var s Series
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("open series: %s: %w", path, err)
	}
	if s.Schema != SeriesSchema {
		return nil, fmt.Errorf("open series: %s has schema %q, this program reads %q", path, s.Schema, SeriesSchema)
	}
	for i, m := range s.Members {
		if !memberName.MatchString(m.Dir) {
			return nil, fmt.Errorf("open series: %s: member %d has directory %q, must be a plain name", path, i, m.Dir)
		}
	}
	return &s, nil
}

// gravity orders verdicts, the gravest first.
var gravity = [...]Verdict{DataLoss, Inconclusive, Violated, Pass}

// Gravest returns the verdict of several runs together: that of the worst one,
// and inconclusive for none.
func Gravest(verdicts ...Verdict) Verdict {
	for _, v := range gravity {
		if slices.Contains(verdicts, v) {
			return v
		}
	}
	return Inconclusive
}

// IsSeries says whether dir holds a series.
func IsSeries(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, SeriesFile))
	return !errors.Is(err, os.ErrNotExist)
}
