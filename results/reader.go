package results

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/workload"
)

const (
	maxManifest = 16 << 20 // bytes
	maxLine     = 1 << 20  // bytes of one line of a .jsonl file
)

// Truncation is where a file of the recording was cut short, by a crash or an
// incomplete copy. What stands before it is readable.
type Truncation struct {
	File   string
	Offset int64 // of the block or line that is not whole, in bytes
	Err    error // why the file cannot be read further, of a file that Salvage makes do with; nil if it is only cut short
}

// String says what is wrong with the file.
func (t Truncation) String() string {
	switch {
	case errors.Is(t.Err, fs.ErrNotExist):
		return t.File + " is missing"
	case t.Err != nil:
		return fmt.Sprintf("%s cannot be read, or not beyond this: %v", t.File, t.Err)
	default:
		return fmt.Sprintf("%s is cut short at byte %d", t.File, t.Offset)
	}
}

// Reader reads a recording. It keeps at most a block and a line in memory, and
// may be read many times, by one goroutine at a time.
type Reader struct {
	dir       string
	manifest  Manifest
	salvage   bool // make do with what can be read
	truncated []Truncation
}

// Open opens the recording in dir. It fails if the directory holds none or one
// of another version.
func Open(dir string) (*Reader, error) { return openReader(&Reader{dir: dir}) }

// Salvage opens what there is of the recording in dir: a file that is missing,
// altered or another one ends where it cannot be read further, without an
// error. Truncated tells of it, and what is judged of such a recording is
// inconclusive. It fails without a manifest that it knows.
func Salvage(dir string) (*Reader, error) { return openReader(&Reader{dir: dir, salvage: true}) }

func openReader(r *Reader) (*Reader, error) {
	dir := r.dir
	f, err := os.Open(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("open recording: %s has more than %d bytes", f.Name(), maxManifest)
	}
	if err := json.Unmarshal(b, &r.manifest); err != nil {
		return nil, fmt.Errorf("open recording: %s: %w", f.Name(), err)
	}
	if r.manifest.Schema != ManifestSchema {
		return nil, fmt.Errorf("open recording: %s has schema %q, this program reads %q; use the program that wrote it",
			f.Name(), r.manifest.Schema, ManifestSchema)
	}
	samples, _, err := r.openSamples()
	switch {
	case err == nil:
		return r, samples.Close()
	case r.gaveUp(SamplesFile, err):
		return r, nil
	default:
		return nil, fmt.Errorf("open recording: %s: %w", filepath.Join(dir, SamplesFile), err)
	}
}

// gaveUp says whether a file that cannot be read further is to be taken as far
// as it was read, and remembers why.
func (r *Reader) gaveUp(file string, err error) bool {
	if r.salvage {
		r.remember(Truncation{File: file, Err: err})
	}
	return r.salvage
}

// withoutPath is an error without the path of a file: run.json tells of no
// machine.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// Manifest returns what was known before the first op.
func (r *Reader) Manifest() Manifest { return r.manifest }

// Truncated returns where files were cut short, as far as they have been read
// to their ends, in the order of their names.
func (r *Reader) Truncated() []Truncation { return r.truncated }

func (r *Reader) truncate(file string, offset int64) {
	r.remember(Truncation{File: file, Offset: offset})
}

func (r *Reader) remember(next Truncation) {
	for _, t := range r.truncated {
		if t.File == next.File {
			return
		}
	}
	r.truncated = append(r.truncated, next)
	slices.SortFunc(r.truncated, func(a, b Truncation) int { return strings.Compare(a.File, b.File) })
}

// openSamples returns the file and a reader behind its header; no reader if
// the header itself is cut short.
func (r *Reader) openSamples() (*os.File, *blockReader, error) {
	f, err := os.Open(filepath.Join(r.dir, SamplesFile))
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	b, err := newBlockReader(f)
	if err == nil {
		if err = b.header(); err == nil {
			return f, b, nil
		}
		b.Close()
	}
	if errors.Is(err, errCut) {
		r.truncate(SamplesFile, 0)
		return f, nil, nil
	}
	_ = f.Close() // only read
	return nil, nil, withoutPath(err)
}

// Samples yields every sample in the order in which ops ended, or nearly so.
// An error names the file and the byte; it comes last. A file that was cut
// short is no error: see Truncated.
func (r *Reader) Samples() iter.Seq2[workload.Sample, error] {
	return func(yield func(workload.Sample, error) bool) {
		for samples, err := range r.blocks() {
			if err != nil {
				yield(workload.Sample{}, err)
				return
			}
			for i := range samples {
				if !yield(samples[i], nil) {
					return
				}
			}
		}
	}
}

// blocksBehind is by how many blocks the slowest taker of Feed may be behind.
const blocksBehind = 4

// Feed reads the samples once and gives every one to each of the takers, in
// order. Takers run beside one another, each in a goroutine of its own, and must
// not change what a sample holds. Feed returns when all have had all. What they
// made is of no use after an error.
func (r *Reader) Feed(takers ...func(*workload.Sample)) error {
	var wg sync.WaitGroup
	inboxes := make([]chan []workload.Sample, len(takers))
	for i, take := range takers {
		inbox := make(chan []workload.Sample, blocksBehind)
		inboxes[i] = inbox
		wg.Go(func() {
			for samples := range inbox {
				for k := range samples {
					take(&samples[k])
				}
			}
		})
	}
	var failed error
	for samples, err := range r.blocks() {
		if failed = err; err != nil {
			break
		}
		for _, inbox := range inboxes {
			inbox <- samples
		}
	}
	for _, inbox := range inboxes {
		close(inbox)
	}
	wg.Wait()
	return failed
}

// blocks yields the samples as they were written, many at a time.
func (r *Reader) blocks() iter.Seq2[[]workload.Sample, error] {
	return func(yield func([]workload.Sample, error) bool) {
		fail := func(err error) {
			if !r.gaveUp(SamplesFile, err) {
				yield(nil, fmt.Errorf("read recording: %s: %w", filepath.Join(r.dir, SamplesFile), err))
			}
		}
		f, blocks, err := r.openSamples()
		if err != nil {
			fail(err)
			return
		}
		defer f.Close()
		if blocks == nil {
			return
		}
		defer blocks.Close()
		for {
			samples, err := blocks.next()
			switch {
			case err == io.EOF:
				return
			case errors.Is(err, errCut):
				r.truncate(SamplesFile, blocks.offset)
				return
			case err != nil:
				fail(withoutPath(err))
				return
			}
			if !yield(samples, nil) {
				return
			}
		}
	}
}

// Events yields every event in the order in which they were recorded. The
// event that ends a recording has the kind "end".
func (r *Reader) Events() iter.Seq2[chaos.Event, error] {
	return func(yield func(chaos.Event, error) bool) {
		for l, err := range readLines[eventLine](r, EventsFile) {
			var e chaos.Event
			if err == nil {
				if e, err = l.event(); err != nil && r.gaveUp(EventsFile, err) {
					return
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Counters yields every row of the generator's counters.
func (r *Reader) Counters() iter.Seq2[CounterRow, error] {
	return readLines[CounterRow](r, CountersFile)
}

// Ledger returns what became of acknowledged writes.
func (r *Reader) Ledger() (*Ledger, error) {
	l := new(Ledger)
	for line, err := range readLines[ledgerLine](r, LedgerFile) {
		switch {
		case err != nil:
			return nil, err
		case line.Summary != nil:
			l.Summary = line.Summary
		case line.Violation != nil:
			l.Violations = append(l.Violations, *line.Violation)
		case line.ReadBack != nil:
			l.ReadBacks = append(l.ReadBacks, *line.ReadBack)
		case line.LedgerRow != nil:
			l.Rows = append(l.Rows, *line.LedgerRow)
		}
	}
	if err := l.check(); err != nil {
		if r.gaveUp(LedgerFile, err) {
			return new(Ledger), nil // it does not say what is true
		}
		return nil, fmt.Errorf("read recording: %s: %w", LedgerFile, err)
	}
	return l, nil
}

// readLines yields the values of a file of JSON lines. A last line without its
// newline was cut short and is left out.
func readLines[T any](r *Reader, name string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		path := filepath.Join(r.dir, name)
		fail := func(err error) {
			if !r.gaveUp(name, err) {
				var zero T
				yield(zero, fmt.Errorf("read recording: %s: %w", path, err))
			}
		}
		f, err := os.Open(path)
		if err != nil {
			fail(withoutPath(err))
			return
		}
		defer f.Close()
		lines := bufio.NewReaderSize(f, 64<<10)
		var offset int64
		for number := 1; ; number++ {
			line, err := readLine(lines)
			if err == io.EOF {
				if len(line) > 0 {
					r.truncate(name, offset)
				}
				return
			}
			var v T
			if err == nil {
				err = json.Unmarshal(line, &v)
			}
			if err != nil {
				fail(fmt.Errorf("line %d at byte %d: %w", number, offset, withoutPath(err)))
				return
			}
			if !yield(v, nil) {
				return
			}
			offset += int64(len(line))
		}
	}
}

// readLine returns the next line with its newline; io.EOF and what there is if
// the file ends before one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line bytes.Buffer
	for {
		part, err := r.ReadSlice('\n')
		line.Write(part)
		if line.Len() > maxLine {
			return nil, fmt.Errorf("longer than %d bytes", maxLine)
		}
		if err != bufio.ErrBufferFull {
			return line.Bytes(), err
		}
	}
}
