package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/workload"
)

const (
	flushEvery    = time.Second // what a crash may lose
	blockSamples  = 4096        // a block is also written when it holds so many
	blockAttempts = 4 * blockSamples
	blocks        = 8 // in memory; past that, Record waits for the disk
)

// Recording writes a run directory while the run goes on. Its sinks may be
// called from any goroutine. A sink never fails: the first error is kept, told
// by Err, and makes Close say that the run failed.
//
// Samples are encoded and written once a second in the background; events,
// counters and ledger rows at once. A crash of the process therefore loses at
// most the last second of samples. Files are synced by Close only, so as not
// to disturb a cluster that runs on the same disk.
type Recording struct {
	mu     sync.Mutex
	room   sync.Cond // block is no longer nil
	block  *block    // being filled; nil while all are with the writer. Guarded by mu
	free   []*block  // empty; none while block is nil. Guarded by mu
	closed bool      // guarded by mu

	ready chan *block // filled, in order
	done  chan struct{}

	samplesFile *os.File
	samples     *blockWriter
	written     int64 // samples; the background goroutine's until done

	counters, events, ledger *lines

	errMu sync.Mutex
	err   error
}

var (
	_ workload.Recorder = (*Recording)(nil)
	_ chaos.EventSink   = (*Recording)(nil)
)

// Inputs are the files that a run can be repeated from.
type Inputs struct {
	Scenario []byte            // resolved
	Profile  []byte            // of a profile's file; nil where the scenario names a built-in one
	OpenSLO  [][]byte          // documents that the scenario names, in the order of its objectives
	Schema   map[string]string // files that take the place of reference/schema's, by their names
}

// OpenSLOFile is the name of a document in a run directory, by its index.
func OpenSLOFile(i int) string { return fmt.Sprintf(openSLOFile, i+1) }

// Create starts a recording in dir, which is made if it is not there, and
// writes the manifest and the inputs. It does not touch a directory
// that holds a recording already. An empty m.Schema is filled in.
func Create(dir string, m Manifest, in Inputs) (*Recording, error) {
	if m.Schema == "" {
		m.Schema = ManifestSchema
	}
	if m.Schema != ManifestSchema {
		return nil, fmt.Errorf("create recording in %s: manifest has schema %q, must be %q", dir, m.Schema, ManifestSchema)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create recording: %w", err)
	}
	manifest, err := marshalIndent(m)
	if err != nil {
		return nil, fmt.Errorf("create recording in %s: encode manifest: %w", dir, err)
	}

	var files []*os.File
	create := func(name string, content []byte) *os.File {
		if err != nil {
			return nil
		}
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return nil
		}
		files = append(files, f)
		_, err = f.Write(content)
		return f
	}
	closed := []*os.File{create(ManifestFile, manifest), create(ScenarioFile, in.Scenario)}
	if in.Profile != nil {
		closed = append(closed, create(ProfileFile, in.Profile))
	}
	for i, document := range in.OpenSLO {
		closed = append(closed, create(OpenSLOFile(i), document))
	}
	if err == nil && len(in.Schema) > 0 {
		err = os.Mkdir(filepath.Join(dir, SchemaFolder), 0o755)
	}
	for name, text := range in.Schema {
		closed = append(closed, create(filepath.Join(SchemaFolder, name), []byte(text)))
	}
	r := &Recording{
		samplesFile: create(SamplesFile, samplesHeader()),
		counters:    &lines{f: create(CountersFile, nil)},
		events:      &lines{f: create(EventsFile, nil)},
		ledger:      &lines{f: create(LedgerFile, nil)},
		block:       newBlock(),
		ready:       make(chan *block, blocks),
		done:        make(chan struct{}),
	}
	if err == nil {
		for _, f := range closed {
			err = errors.Join(err, f.Close())
		}
	}
	if err == nil {
		r.samples, err = newBlockWriter(r.samplesFile)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close() // the first error is the one that matters
		}
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("create recording: %w; choose an empty directory", err)
		}
		return nil, fmt.Errorf("create recording: %w", err)
	}
	r.room.L = &r.mu
	for range blocks - 1 {
		r.free = append(r.free, newBlock())
	}
	go r.write()
	return r, nil
}

// block is a run of samples on its way to the file.
type block struct {
	samples  []workload.Sample
	attempts []workload.Attempt // what samples point into
}

func newBlock() *block {
	return &block{
		samples:  make([]workload.Sample, 0, blockSamples),
		attempts: make([]workload.Attempt, 0, blockAttempts),
	}
}

// Record keeps a copy of s. It costs one short critical section; when the disk
// is so slow that all blocks are full it waits, and the op that follows in the
// same session starts late by that. It must not be called once Close has been.
func (r *Recording) Record(s *workload.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.block == nil && !r.closed {
		r.room.Wait()
	}
	if r.closed {
		r.fail(errors.New("a sample came after the recording was closed"))
		return
	}
	b := r.block
	first := len(b.attempts)
	b.attempts = append(b.attempts, s.Attempts...)
	b.samples = append(b.samples, *s)
	b.samples[len(b.samples)-1].Attempts = b.attempts[first:len(b.attempts):len(b.attempts)]
	if len(b.samples) >= blockSamples || len(b.attempts) >= blockAttempts {
		r.next()
	}
}

// next hands the block that is being filled to the writer and takes an empty
// one, if there is one. The caller holds mu.
func (r *Recording) next() {
	r.ready <- r.block // never blocks: ready has room for every block
	r.block = nil
	if n := len(r.free); n > 0 {
		r.block, r.free = r.free[n-1], r.free[:n-1]
	}
}

// flush lets the writer have what there is, unless it has more than enough.
func (r *Recording) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && len(r.free) > 0 && len(r.block.samples) > 0 {
		r.next()
	}
}

// write is the background goroutine. It ends when ready is closed.
func (r *Recording) write() {
	defer close(r.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.flush()
		case b, open := <-r.ready:
			if !open {
				return
			}
			r.writeBlock(b)
			b.samples, b.attempts = b.samples[:0], b.attempts[:0]
			r.release(b)
		}
	}
}

// release makes an empty block the one to be filled, or a free one.
func (r *Recording) release(b *block) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.block != nil {
		r.free = append(r.free, b)
		return
	}
	r.block = b
	r.room.Broadcast()
}

func (r *Recording) writeBlock(b *block) {
	kept := b.samples[:0]
	for i := range b.samples {
		if err := checkSample(&b.samples[i]); err != nil {
			r.fail(fmt.Errorf("sample of message %d is not recorded: %w", b.samples[i].Message, err))
			continue
		}
		kept = append(kept, b.samples[i])
	}
	if len(kept) == 0 || r.samplesFile == nil {
		return
	}
	if err := r.samples.write(kept); err != nil {
		// What follows a block that is half written could not be read.
		r.fail(fmt.Errorf("write samples: %w; the recording ends here", err))
		_ = r.samplesFile.Close()
		r.samplesFile = nil
		return
	}
	r.written += int64(len(kept))
}

// Event keeps e.
func (r *Recording) Event(e chaos.Event) {
	r.fail(r.events.add(eventLine{
		AtUS: e.At.Microseconds(), Kind: e.Kind, Name: e.Name, Fault: e.Fault, Node: e.Node, Fields: e.Fields,
	}))
}

// Counter keeps a row of the generator's own counters.
func (r *Recording) Counter(row CounterRow) { r.fail(r.counters.add(row)) }

// LedgerRow keeps what was read of a key that does not hold what was acknowledged.
func (r *Recording) LedgerRow(row LedgerRow) {
	err := LedgerSummary{}.Add(row.Kind, row.Verdict)
	if err == nil {
		err = r.ledger.add(ledgerLine{LedgerRow: &row})
	}
	r.fail(err)
}

// Violation keeps an answer that contradicts what was acknowledged.
func (r *Recording) Violation(v Violation) { r.fail(r.ledger.add(ledgerLine{Violation: &v})) }

// ReadBack keeps how a reading of the ledger went.
func (r *Recording) ReadBack(b ReadBack) { r.fail(r.ledger.add(ledgerLine{ReadBack: &b})) }

// LedgerSummary keeps what became of all keys. It comes last, when all writes are
// over and every key was read.
func (r *Recording) LedgerSummary(s LedgerSummary) {
	all := LedgerSummary{}
	for _, kind := range LedgerKinds {
		if all[kind] = s[kind]; all[kind] == nil {
			all[kind] = new(LedgerCounts)
		}
	}
	r.fail(r.ledger.add(ledgerLine{Summary: all}))
}

// Err returns the first error that a sink met, so that a run need not go on
// for hours with a full disk.
func (r *Recording) Err() error {
	r.errMu.Lock()
	defer r.errMu.Unlock()
	return r.err
}

func (r *Recording) fail(err error) {
	if err == nil {
		return
	}
	r.errMu.Lock()
	defer r.errMu.Unlock()
	if r.err == nil {
		r.err = fmt.Errorf("recording: %w", err)
	}
}

// Close writes out what is left and the end of the run,
// and syncs the files. A recording that met an error ends as failed, whatever
// end says. It returns that error; a second call does nothing but that.
func (r *Recording) Close(end EndOfRun) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return r.Err()
	}
	r.closed = true
	if r.block != nil {
		r.ready <- r.block
		r.block = nil
	}
	close(r.ready)
	r.room.Broadcast()
	r.mu.Unlock()
	<-r.done

	if r.samplesFile != nil {
		r.fail(syncClose(r.samplesFile))
	}
	r.fail(syncClose(r.ledger.f))
	r.fail(syncClose(r.counters.f))

	fields := map[string]string{"samples": strconv.FormatInt(r.written, 10)}
	if end.Error != "" {
		fields["error"] = end.Error
	}
	for name, n := range end.counts() {
		if *n != 0 {
			fields[name] = strconv.FormatInt(*n, 10)
		}
	}
	if err := r.Err(); err != nil {
		end.Reason, fields["error"] = Failed, err.Error()
	}
	r.Event(chaos.Event{At: end.At, Kind: kindEnd, Name: string(end.Reason), Fields: fields})
	r.fail(syncClose(r.events.f))
	return r.Err()
}

func syncClose(f *os.File) error { return errors.Join(f.Sync(), f.Close()) }

// lines appends JSON values to a file, a line each.
type lines struct {
	mu   sync.Mutex
	f    *os.File
	torn bool // half a line was written: more would make the file unreadable
}

func (l *lines) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of %s: %w", filepath.Base(l.f.Name()), err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.torn {
		return fmt.Errorf("%s ends in half a line", filepath.Base(l.f.Name()))
	}
	_, err = l.f.Write(append(b, '\n'))
	l.torn = err != nil
	return err
}
