package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// JournalSchema names the format of a journal's lines. The format before it, v1,
// knew one node a fault and is refused: the version of mailbench that wrote it
// heals it, and where that is gone every dead node is started anyway.
const JournalSchema = "mailbench.journal/v2"

// What a journal says of a fault. The first four are written before the act
// that they name, the last two once it is proven.
const (
	JournalInject    = "inject"    // about to inject
	JournalStage     = "stage"     // about to go on injecting
	JournalRecover   = "recover"   // about to recover
	JournalUndo      = "undo"      // about to undo, in any state
	JournalRedundant = "redundant" // the cluster is whole again
	JournalHealed    = "healed"    // undone, and the node takes part again
)

// Entry is one line of journal.jsonl. It holds all that a process which knows
// nothing else needs in order to undo the fault.
type Entry struct {
	Schema   string          `json:"schema"`
	RunID    string          `json:"run_id"`
	Seq      uint64          `json:"seq"` // 1 for the first line, no gaps
	At       time.Time       `json:"at"`  // wall time of the machine that wrote it
	Fault    string          `json:"fault"`
	Kind     Kind            `json:"kind"`
	Nodes    []topology.Node `json:"nodes"`           // that the fault is made on, at least one
	Along    []topology.Node `json:"along,omitempty"` // data nodes that it takes with it
	Settings Settings        `json:"settings,omitzero"`
	Step     string          `json:"step"` // one of the Journal constants
}

func (e Entry) planned() Planned {
	return Planned{ID: e.Fault, Kind: e.Kind, Nodes: e.Nodes, Along: e.Along, Settings: e.Settings}
}

// StepJournal takes note of a fault's steps. Append returns once the note is
// durable; after an error it may or may not be.
type StepJournal interface {
	Append(p Planned, step string) error
}

// journalFile is what a Journal needs of an *os.File.
type journalFile interface {
	io.WriteCloser
	Sync() error
}

// Journal is a StepJournal in a file. One goroutine at a time may use it.
type Journal struct {
	file  journalFile
	path  string
	runID string
	seq   uint64
	err   error // the first failure, which ends the journal
}

// CreateJournal makes the journal of a new run; the file must not exist.
func CreateJournal(path, runID string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	// A file whose name is not on disk is no journal after a power cut.
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("create journal %s: %w", path, err), f.Close())
	}
	return &Journal{file: f, path: path, runID: runID}, nil
}

// ReopenJournal reads the journal of an earlier run and opens it for more. It
// cuts off a torn last line, which is a step that was not taken. The journal is
// nil if anything else is wrong with it; entries are those that could be read.
func ReopenJournal(path string) (*Journal, []Entry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("reopen journal: %w", err)
	}
	fail := func(entries []Entry, err error) (*Journal, []Entry, error) {
		return nil, entries, errors.Join(fmt.Errorf("reopen journal %s: %w", path, err), f.Close())
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fail(nil, err)
	}
	entries, whole, err := parseJournal(data)
	if err != nil {
		return fail(entries, err)
	}
	if whole < len(data) {
		if err := f.Truncate(int64(whole)); err != nil {
			return fail(entries, fmt.Errorf("cut off the torn last line: %w", err))
		}
	}
	j := &Journal{file: f, path: path}
	if n := len(entries); n > 0 {
		j.runID, j.seq = entries[n-1].RunID, entries[n-1].Seq
	}
	return j, entries, nil
}

// ReadJournal reads a journal. A torn last line is passed over. Entries are
// those that could be read, even if others could not and err says so.
func ReadJournal(r io.Reader) ([]Entry, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	entries, _, err := parseJournal(data)
	if err != nil {
		return entries, fmt.Errorf("read journal: %w", err)
	}
	return entries, nil
}

// parseJournal also returns how many bytes of data are whole lines. A line is
// whole with its newline: before that Append has not returned, and the step was
// not taken, or is one whose loss makes nobody do more than undo in vain.
func parseJournal(data []byte) (entries []Entry, whole int, err error) {
	whole = bytes.LastIndexByte(data, '\n') + 1
	var wrong []error
	var line int
	for text := range bytes.Lines(data[:whole]) {
		line++
		var e Entry
		if err := json.Unmarshal(text, &e); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
			continue
		}
		switch {
		case e.Schema != JournalSchema:
			wrong = append(wrong, fmt.Errorf("line %d: schema is %q, must be %q: another version of mailbench wrote it, which can heal it", line, e.Schema, JournalSchema))
			continue
		case len(e.Nodes) == 0:
			wrong = append(wrong, fmt.Errorf("line %d: fault %q has no nodes", line, e.Fault))
			continue
		case e.Seq != uint64(line):
			wrong = append(wrong, fmt.Errorf("line %d: has sequence number %d: lines are missing or from elsewhere", line, e.Seq))
		case len(entries) > 0 && e.RunID != entries[0].RunID:
			wrong = append(wrong, fmt.Errorf("line %d: belongs to run %q, the first line to %q", line, e.RunID, entries[0].RunID))
		}
		entries = append(entries, e)
	}
	return entries, whole, errors.Join(wrong...)
}

// Append writes a line and syncs it to disk. A failed write may leave half a
// line, and a sync that failed may report success when tried again although the
// data is gone (Rebello et al., "Can Applications Recover from fsync
// Failures?", USENIX ATC 2020): the first error therefore is the answer to
// every later call. A nil Journal, such as that of a ReopenJournal that failed,
// refuses every line.
func (j *Journal) Append(p Planned, step string) error {
	if j == nil {
		return errors.New("there is no journal to write to")
	}
	if j.err != nil {
		return j.err
	}
	line, err := json.Marshal(Entry{
		Schema: JournalSchema, RunID: j.runID, Seq: j.seq + 1, At: time.Now().UTC(), Fault: p.ID, Kind: p.Kind,
		Nodes: p.Nodes, Along: p.Along, Settings: p.Settings, Step: step,
	})
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.err = fmt.Errorf("journal %s: write %q of fault %s: %w", j.path, step, p.ID, err)
		return j.err
	}
	j.seq++
	return nil
}

// Close closes the file. Every line is on disk already.
func (j *Journal) Close() error {
	if err := j.file.Close(); err != nil {
		return fmt.Errorf("close journal %s: %w", j.path, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenFaults returns the faults that may have been injected and are not known
// to be gone, in the order of their injection.
func OpenFaults(entries []Entry) []Planned {
	var open []Planned
	for _, e := range entries {
		at := -1
		for i, p := range open {
			if p.ID == e.Fault {
				at = i
			}
		}
		switch e.Step {
		case JournalRedundant, JournalHealed:
			if at >= 0 {
				open = append(open[:at], open[at+1:]...)
			}
		default:
			// A step of a fault whose injection cannot be read shows that there
			// was one.
			if at < 0 {
				open = append(open, e.planned())
			}
		}
	}
	return open
}
