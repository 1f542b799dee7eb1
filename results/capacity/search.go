package capacity

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

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/strictjson"
)

const (
	maxSearch  = 8 << 20 // bytes of search.json
	maxSteps   = 10_000  // of all regimes
	mostSteps  = 1000    // of one
	maxPerDay  = 1_000_000_000_000
	maxTimeUS  = 1_000_000_000_000_000 // as in a recording
	maxDir     = 255
	maxPeakPPM = 86_400 * million // all of a day in a second
)

// regimeForm is a regime, and the nodes that it is about.
var regimeForm = regexp.MustCompile(`^(healthy|(short|rejoining)(:(host:|group:|role:)?[a-zA-Z0-9][a-zA-Z0-9_.,+-]{0,254})?)$`)

// stops are the reasons for the end of a step; "" of one that is under way.
var stops = [...]Stop{"", Decided, Length, Rejoined, SystemDied, Interrupted}

// Validate says which setting is wrong.
func (s Settings) Validate() error {
	for _, field := range []struct {
		name               string
		value, least, most int64
	}{
		{name: "confidence_ppm", value: s.ConfidencePPM, least: 500_000, most: 999_999},
		{name: "resolution_ppm", value: s.ResolutionPPM, least: 1000, most: 500_000},
		{name: "warm_up_us", value: s.WarmUpUS, most: maxTimeUS},
		{name: "settle_us", value: s.SettleUS, most: maxTimeUS},
		{name: "min_step_us", value: s.MinStepUS, least: blockLength.Microseconds(), most: mostBlocks * blockLength.Microseconds()},
		{name: "max_step_us", value: s.MaxStepUS, least: s.MinStepUS, most: mostBlocks * blockLength.Microseconds()},
		{name: "look_us", value: s.LookUS, least: 1, most: maxTimeUS},
		{name: "lowest_per_day", value: s.LowestPerDay, least: 1, most: maxPerDay},
		{name: "highest_per_day", value: s.HighestPerDay, least: s.LowestPerDay, most: maxPerDay},
		{name: "start_per_day", value: s.StartPerDay, least: s.LowestPerDay, most: s.HighestPerDay},
		{name: "max_steps", value: int64(s.MaxSteps), least: 1, most: mostSteps},
	} {
		if field.value < field.least || field.value > field.most {
			return fmt.Errorf("settings.%s is %d, must be %d to %d", field.name, field.value, field.least, field.most)
		}
	}
	if s.LowestPerDay < 2*million/s.ResolutionPPM {
		return fmt.Errorf("settings.lowest_per_day is %d, must be %d or more so that rates differ by %d millionths", s.LowestPerDay, 2*million/s.ResolutionPPM, s.ResolutionPPM)
	}
	return nil
}

// Validate says which field is wrong. Directories of runs are below the search's own.
func (s *Search) Validate() error {
	if err := s.Settings.Validate(); err != nil {
		return err
	}
	switch {
	case s.TodayPerDay < 1 || s.TodayPerDay > maxPerDay:
		return fmt.Errorf("today_per_day is %d, must be 1 to %d", s.TodayPerDay, int64(maxPerDay))
	case s.PeakPPM < 1 || s.PeakPPM > maxPeakPPM:
		return fmt.Errorf("peak_ppm is %d, must be 1 to %d", s.PeakPPM, int64(maxPeakPPM))
	case s.BurstPPM < 0 || s.BurstPPM > maxPeakPPM:
		return fmt.Errorf("burst_ppm is %d, must be 0 to %d", s.BurstPPM, int64(maxPeakPPM))
	case len(s.Steps) > maxSteps:
		return fmt.Errorf("there are %d steps, must be %d or fewer", len(s.Steps), maxSteps)
	case len(s.Ends) > maxSteps:
		return fmt.Errorf("there are %d ends, must be %d or fewer", len(s.Ends), maxSteps)
	}
	last := map[string]Step{}
	for i, step := range s.Steps {
		before, again := last[step.Dir]
		last[step.Dir] = step
		err := step.validate(i + 1)
		switch {
		case err != nil:
		case again && before.Stopped == "":
			err = errors.New("follows a step of its run that has not ended")
		case again && step.FromUS < before.ToUS:
			err = fmt.Errorf("from_us is %d, before the step before it ended", step.FromUS)
		}
		if err != nil {
			return fmt.Errorf("steps[%d]: %w", i, err)
		}
	}
	for i, regime := range s.Regimes {
		if !regimeForm.MatchString(string(regime)) {
			return fmt.Errorf("regimes[%d]: %q is none of healthy, short:NODES, rejoining:NODES", i, regime)
		}
	}
	for i, end := range s.Ends {
		switch {
		case end.Dir != "" && !below(end.Dir):
			return fmt.Errorf("ends[%d]: dir is %q, must be a directory below the search's", i, end.Dir)
		case !regimeForm.MatchString(string(end.Regime)):
			return fmt.Errorf("ends[%d]: regime %q is none of healthy, short:NODES, rejoining:NODES", i, end.Regime)
		}
	}
	return nil
}

func (s Step) validate(number int) error {
	switch {
	case s.Number != number:
		return fmt.Errorf("number is %d, must be %d", s.Number, number)
	case !regimeForm.MatchString(string(s.Regime)):
		return fmt.Errorf("regime %q is none of healthy, short:NODES, rejoining:NODES", s.Regime)
	case !below(s.Dir):
		return fmt.Errorf("dir is %q, must be a directory below the search's", s.Dir)
	case s.PerDay < 1 || s.PerDay > maxPerDay:
		return fmt.Errorf("per_day is %d, must be 1 to %d", s.PerDay, int64(maxPerDay))
	case !slices.Contains(stops[:], s.Stopped):
		return fmt.Errorf("stopped is %q, must be one of %q", s.Stopped, stops)
	case s.FromUS < 0 || s.FromUS > maxTimeUS:
		return fmt.Errorf("from_us is %d, must be 0 to %d", s.FromUS, int64(maxTimeUS))
	case s.Stopped != "" && (s.ToUS < s.FromUS || s.ToUS > maxTimeUS):
		return fmt.Errorf("to_us is %d, must be from_us to %d", s.ToUS, int64(maxTimeUS))
	case s.Waited < 0:
		return fmt.Errorf("waited is %d, must not be negative", s.Waited)
	case s.Looks < 0:
		return fmt.Errorf("looks is %d, must not be negative", s.Looks)
	}
	return nil
}

// below says whether a name is that of a directory below another one, on every machine.
func below(dir string) bool {
	return dir != "." && len(dir) <= maxDir && filepath.IsLocal(dir) && filepath.ToSlash(filepath.Clean(dir)) == dir &&
		!bytes.ContainsAny([]byte(dir), "\\:\x00")
}

// Read reads search.json in dir. The error wraps os.ErrNotExist if the directory holds no
// search.
func Read(dir string) (*Search, error) {
	path := filepath.Join(dir, SearchFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open search: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSearch+1))
	if err != nil {
		return nil, fmt.Errorf("open search: %w", err)
	}
	s, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("open search: %s: %w", path, err)
	}
	return s, nil
}

func decode(text []byte) (*Search, error) {
	if len(text) > maxSearch {
		return nil, fmt.Errorf("more than %d bytes", maxSearch)
	}
	s := new(Search)
	if err := strictjson.Decode(text, SearchSchema, s); err != nil {
		return nil, err
	}
	return s, s.Validate()
}

// Write puts search.json into dir. A search is written anew for each step: what a crash
// leaves is a search too.
func (s *Search) Write(dir string) error {
	s.Schema = SearchSchema
	if s.Steps == nil {
		s.Steps = []Step{}
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("write a search: %w", err)
	}
	return write(filepath.Join(dir, SearchFile), s)
}

func write(path string, v any) error {
	return results.ReplaceFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
