package chaos

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

const (
	line1 = `{"schema":"mailbench.journal/v2","run_id":"run-1","seq":1,"at":"2026-01-02T03:04:05Z","fault":"f1","kind":"kill","nodes":[{"id":2,"name":"data1","role":"data","host":"cyrus1","group":0}],"step":"inject"}` + "\n"
	line2 = `{"schema":"mailbench.journal/v2","run_id":"run-1","seq":2,"at":"2026-01-02T03:04:06Z","fault":"f1","kind":"kill","nodes":[{"id":2,"name":"data1","role":"data","host":"cyrus1","group":0}],"step":"recover"}` + "\n"
)

func TestReadJournal(t *testing.T) {
	for _, row := range []struct {
		name string
		text string
		want int    // entries
		err  string // part of the error, "" for none
	}{
		{"an empty journal has no entries", "", 0, ""},
		{"whole lines", line1 + line2, 2, ""},
		{"a torn last line is passed over", line1 + line2[:40], 1, ""},
		{"a last line without its newline was not acknowledged", line1 + strings.TrimSuffix(line2, "\n"), 1, ""},
		{"blocks that a power cut left empty are a torn line", line1 + "\x00\x00\x00", 1, ""},
		{"a damaged line in the middle is an error, the others are read", line1 + "{\n" + strings.Replace(line2, `"seq":2`, `"seq":3`, 1), 2, "line 2"},
		{"a missing line is an error", strings.Replace(line1, `"seq":1`, `"seq":2`, 1), 1, "lines are missing"},
		{"a line of another run is an error", line1 + strings.Replace(line2, "run-1", "run-2", 1), 2, `belongs to run "run-2"`},
		{"a later format is an error", strings.Replace(line1, "/v2", "/v3", 1), 0, "schema"},
		{"the format before is refused, with what to do", strings.Replace(line1, "/v2", "/v1", 1), 0, "another version of mailbench wrote it, which can heal it"},
		{"a fault without nodes is an error", strings.Replace(line1, `{"id":2,"name":"data1","role":"data","host":"cyrus1","group":0}`, "", 1), 0, "has no nodes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			entries, err := ReadJournal(strings.NewReader(row.text))
			if len(entries) != row.want {
				t.Errorf("%d entries, want %d", len(entries), row.want)
			}
			if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("error %v, want %q", err, row.err)
			}
		})
	}
	if entries, _ := ReadJournal(strings.NewReader(line1)); entries[0].planned().Nodes[0] != cluster(t).Nodes[1] {
		t.Errorf("the journal alone gives %+v, want the node", entries[0].planned())
	}
}

func TestReopenedJournalGoesOnBehindTheLastWholeLine(t *testing.T) {
	journal, path := journalIn(t)
	p := twoKills(t).Steps[0]
	if err := journal.Append(p, JournalInject); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateJournal(path, "run-2"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second run's journal in the same place: %v", err)
	}
	tear(t, path)
	again, entries, err := ReopenJournal(path)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	if err := errors.Join(again.Append(p, JournalUndo), again.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entries, err = ReadJournal(bytes.NewReader(data))
	if err != nil || len(entries) != 2 || entries[1].Seq != 2 || entries[1].RunID != "run-1" || entries[1].Step != JournalUndo {
		t.Errorf("%v:\n%s", err, data)
	}

	if err := os.WriteFile(path, []byte("{\n"+line1), 0o644); err != nil {
		t.Fatal(err)
	}
	if damaged, entries, err := ReopenJournal(path); err == nil || damaged != nil || len(entries) != 1 {
		t.Errorf("a damaged journal is opened: %v, %d entries, %v", damaged, len(entries), err)
	}
}

func tear(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(line2[:50]); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// scriptedFile fails where it is told to, and notes what was done to it.
type scriptedFile struct {
	write, sync error
	done        []string
}

func (f *scriptedFile) Write(p []byte) (int, error) {
	f.done = append(f.done, "write")
	return len(p), f.write
}

func (f *scriptedFile) Sync() error {
	f.done = append(f.done, "sync")
	return f.sync
}

func (f *scriptedFile) Close() error { return nil }

func TestAppendSyncsAndNeverTriesAgainAfterAnError(t *testing.T) {
	p := twoKills(t).Steps[0]
	for _, row := range []struct {
		name string
		file scriptedFile
		want string
		fail bool
	}{
		{"each line is synced by itself", scriptedFile{}, "write sync write sync", false},
		{"after a failed write nothing more is written", scriptedFile{write: errNoSpace}, "write", true},
		{"after a failed sync nothing more is written", scriptedFile{sync: errNoSpace}, "write sync", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			j := &Journal{file: &row.file, path: "journal.jsonl", runID: "run-1"}
			first, second := j.Append(p, JournalInject), j.Append(p, JournalRecover)
			row.file.write, row.file.sync = nil, nil
			third := error(nil)
			if row.fail {
				third = j.Append(p, JournalRecover)
			}
			for _, err := range []error{first, second, third} {
				if row.fail && !errors.Is(err, errNoSpace) || !row.fail && err != nil {
					t.Errorf("error %v", err)
				}
			}
			if got := strings.Join(row.file.done, " "); got != row.want {
				t.Errorf("did %q, want %q", got, row.want)
			}
		})
	}
}

func FuzzReadJournal(f *testing.F) {
	for _, seed := range []string{"", line1, line1 + line2, line1 + line2[:40], "{\n", "null\n", "\n\n", line1 + "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, whole, err := parseJournal(data)
		if whole < 0 || whole > len(data) || whole > 0 && data[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are whole lines", whole, len(data))
		}
		if len(OpenFaults(entries)) > len(entries) {
			t.Fatal("more open faults than entries")
		}
		// What was read is read again from its whole lines alone.
		again, _, errAgain := parseJournal(data[:whole])
		if len(again) != len(entries) || (err == nil) != (errAgain == nil) {
			t.Fatalf("%d entries (%v), then %d (%v)", len(entries), err, len(again), errAgain)
		}
	})
}
