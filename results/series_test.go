package results

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSeriesIsReadAsItWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "series")
	s := Series{Kind: Repetitions, Scenario: "smoke"}
	for range 3 {
		s.Members = append(s.Members, Member{Dir: s.NextMember()})
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadSeries(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, s) || got.Members[2].Dir != "003" {
		t.Errorf("read %+v, wrote %+v", got, s)
	}
	if !IsSeries(dir) || IsSeries(t.TempDir()) {
		t.Error("IsSeries must tell a series from an empty directory")
	}
	if _, err := ReadSeries(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no series: error %v", err)
	}
}

func TestSeriesRefuses(t *testing.T) {
	for _, row := range []struct{ sentence, text, want string }{
		{"what is no JSON", "x", "invalid character"},
		{"another schema", `{"schema": "mailbench.series/v9"}`, "this program reads"},
		{"a field that it does not know", `{"schema": "mailbench.series/v1", "colour": 1}`, "unknown field"},
		{"a member outside its directory", `{"schema": "mailbench.series/v1", "members": [{"dir": "../other"}]}`, "must be a plain name"},
		{"a member without a name", `{"schema": "mailbench.series/v1", "members": [{"dir": ""}]}`, "must be a plain name"},
		{"a file without end", strings.Repeat(" ", maxSeries+1), "more than"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, SeriesFile), []byte(row.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSeries(dir); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.want)
		}
	}
}

func TestGravest(t *testing.T) {
	for _, row := range []struct {
		sentence string
		verdicts []Verdict
		want     Verdict
	}{
		{"no run says nothing", nil, Inconclusive},
		{"all pass", []Verdict{Pass, Pass}, Pass},
		{"one violated", []Verdict{Pass, Violated}, Violated},
		{"an unreliable run outweighs a violated one", []Verdict{Violated, Inconclusive}, Inconclusive},
		{"lost data outweighs all", []Verdict{Inconclusive, DataLoss, Pass}, DataLoss},
	} {
		if got := Gravest(row.verdicts...); got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}
