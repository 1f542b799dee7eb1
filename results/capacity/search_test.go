package capacity

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func twoSteps() *Search {
	s := testSearch()
	s.Schema = SearchSchema
	s.Steps = []Step{
		{Number: 1, Regime: Healthy, Dir: "runs/001", PerDay: 4_000_000, FromUS: 1, ToUS: 60_000_000, Stopped: Length, Looks: 4},
		{Number: 2, Regime: "short:data2,sql1", Dir: "runs/001", PerDay: 5_000_000, FromUS: 60_000_000},
	}
	s.Ends = []End{{Dir: "runs/001", Regime: Healthy, Why: "interrupted"}}
	return s
}

func TestSearchIsReadAsItWasWritten(t *testing.T) {
	dir, s := t.TempDir(), twoSteps()
	if _, err := Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(dir); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v", got, err)
	}
	s.Steps[0].Dir = "/tmp"
	if err := s.Write(dir); err == nil {
		t.Error("a search that could not be read again was written")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*Search)
		want     string
	}{
		{"another schema", func(s *Search) { s.Schema = "mailbench.search/v2" }, `its schema is "mailbench.search/v2"`},
		{"a run above", func(s *Search) { s.Steps[1].Dir = "../other" }, `steps[1]: dir is "../other"`},
		{"a run above, on a detour", func(s *Search) { s.Steps[0].Dir = "a/../../b" }, "steps[0]: dir"},
		{"a run anywhere", func(s *Search) { s.Steps[0].Dir = "/run" }, "steps[0]: dir"},
		{"the search's own directory", func(s *Search) { s.Steps[0].Dir = "." }, "steps[0]: dir"},
		{"no directory", func(s *Search) { s.Steps[0].Dir = "" }, "steps[0]: dir"},
		{"another system's path", func(s *Search) { s.Steps[0].Dir = `..\other` }, "steps[0]: dir"},
		{"numbers with a gap", func(s *Search) { s.Steps[1].Number = 3 }, "steps[1]: number is 3, must be 2"},
		{"an unknown regime", func(s *Search) { s.Steps[0].Regime = "well" }, `steps[0]: regime "well"`},
		{"an unknown reason", func(s *Search) { s.Steps[0].Stopped = "bored" }, `steps[0]: stopped is "bored"`},
		{"no rate", func(s *Search) { s.Steps[0].PerDay = 0 }, "steps[0]: per_day is 0"},
		{"an end before the begin", func(s *Search) { s.Steps[0].ToUS = 0 }, "steps[0]: to_us is 0"},
		{"a begin before the recording's", func(s *Search) { s.Steps[0].FromUS = -1 }, "steps[0]: from_us is -1"},
		{"steps at one time", func(s *Search) { s.Steps[1].FromUS-- }, "steps[1]: from_us is 59999999, before"},
		{"two under way in one run", func(s *Search) { s.Steps[0].Stopped = "" }, "steps[1]: follows a step of its run that has not ended"},
		{"the end of a run elsewhere", func(s *Search) { s.Ends[0].Dir = "../x" }, "ends[0]: dir"},
		{"no peak", func(s *Search) { s.PeakPPM = 0 }, "peak_ppm is 0"},
		{"nothing today", func(s *Search) { s.TodayPerDay = 0 }, "today_per_day is 0"},
		{"no doubt at all", func(s *Search) { s.Settings.ConfidencePPM = million }, "settings.confidence_ppm is 1000000"},
		{"a start out of bounds", func(s *Search) { s.Settings.StartPerDay = 1 }, "settings.start_per_day is 1"},
		{"rates that are all the same", func(s *Search) { s.Settings.LowestPerDay = 5 }, "settings.lowest_per_day is 5"},
		{"a step that is over before it may be judged", func(s *Search) { s.Settings.MaxStepUS = 1 }, "settings.max_step_us is 1"},
	} {
		s := twoSteps()
		row.change(s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, SearchFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), SearchFile) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
	for sentence, text := range map[string]string{
		"line 3, column 1: invalid character": "{\"schema\":\n\"mailbench.\n",
		"unknown field":                       `{"schema": "` + SearchSchema + `", "more": 1}`,
		"more than 8388608 bytes":             strings.Repeat(" ", maxSearch+1),
	} {
		if _, err := decode([]byte(text)); err == nil || !strings.Contains(err.Error(), sentence) {
			t.Errorf("%v, want %q", err, sentence)
		}
	}
}

func FuzzRead(f *testing.F) {
	text, err := json.Marshal(twoSteps())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte("runs/001"), []byte("../001"), 1))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil {
			return
		}
		var tried []Tried
		for i, step := range s.Steps {
			if !below(step.Dir) {
				t.Fatalf("run in %q", step.Dir)
			}
			tried = append(tried, Tried{PerDay: step.PerDay, Outcome: []Outcome{Met, Missed, Open}[i%3]})
		}
		if perDay, more := Next(s.Settings, tried); more && (perDay < s.Settings.LowestPerDay || perDay > s.Settings.HighestPerDay) {
			t.Errorf("next is %d", perDay)
		}
		Bracket(s.Settings, tried)
	})
}
