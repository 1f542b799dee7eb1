package workload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"
)

// TraceWriter writes a trace file to any writer, front to back. Items come in
// the order of their arrival; memory is one block and 88 bytes of index for
// each block before it. It serves one goroutine.
type TraceWriter struct {
	w      io.Writer
	header TraceHeader
	blocks *traceBlockPacker
	digest hash.Hash
	foot   traceFoot

	entries []traceEntry
	offset  int64
	last    time.Duration
	err     error // the first, which sticks
}

// NewTraceWriter writes the header. Close must be called for the file to be whole.
func NewTraceWriter(w io.Writer, h TraceHeader) (*TraceWriter, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	encoded, err := h.encode()
	if err != nil {
		return nil, err
	}
	blocks, err := newTraceBlockPacker()
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(encoded); err != nil {
		return nil, fmt.Errorf("write trace: %w", err)
	}
	t := &TraceWriter{w: w, header: h, blocks: blocks, digest: sha256.New(), offset: int64(len(encoded))}
	t.digest.Write([]byte(canonicalPrefix))
	return t, nil
}

// Write adds an item, which must not be changed until Close. The error says why
// it cannot be kept: it comes before the one before it or out of the window, or
// a field is out of its range.
func (t *TraceWriter) Write(item Item) error {
	if t.err != nil {
		return t.err
	}
	for _, b := range t.blocks.add(item) {
		t.write(b)
	}
	if t.err == nil && t.blocks.err != nil {
		t.err = fmt.Errorf("write trace: %w", t.blocks.err)
	}
	return t.err
}

// write adds blocks that a packer made.
func (t *TraceWriter) write(b packedBlock) {
	if t.err != nil {
		return
	}
	e := b.entry
	w := t.header.Window
	switch {
	case e.first < t.last:
		t.err = fmt.Errorf("write trace: an item comes at %v, after one at %v", e.first, t.last)
	case w != (Window{}) && !(w.holds(e.first) && w.holds(e.last)):
		t.err = fmt.Errorf("write trace: items from %v to %v are not in the window from %v for %v", e.first, e.last, w.From, w.Duration)
	}
	if t.err != nil {
		return
	}
	e.offset, t.last = t.offset, e.last
	t.digest.Write(b.canonical)
	if _, err := t.w.Write(b.encoded); err != nil {
		t.err = fmt.Errorf("write trace: %w", err)
		return
	}
	t.offset += e.length
	t.foot.totals.Messages += e.messages
	t.foot.totals.Tries += e.tries
	t.foot.totals.Actions += e.actions
	t.foot.totals.Jobs += e.jobs
	t.entries = append(t.entries, e)
}

// Close writes what is left, the index and the trailer. It does not close the
// writer below. A trace without items and without a window cannot be written.
func (t *TraceWriter) Close() (TraceTotals, error) {
	for _, b := range t.blocks.flush() {
		t.write(b)
	}
	if t.err == nil && t.blocks.err != nil {
		t.err = fmt.Errorf("write trace: %w", t.blocks.err)
	}
	if t.err != nil {
		return TraceTotals{}, t.err
	}
	t.foot.window = t.header.Window
	if t.foot.window == (Window{}) {
		if len(t.entries) == 0 {
			t.err = fmt.Errorf("write trace: there are no items, and no window is given")
			return TraceTotals{}, t.err
		}
		from := t.entries[0].first.Truncate(time.Minute)
		t.foot.window = Window{From: from, Duration: t.last.Truncate(time.Minute) + time.Minute - from}
	}
	index := appendIndex(nil, t.entries)
	if len(index) > maxTraceIndex {
		t.err = fmt.Errorf("write trace: the index of %d blocks takes %d bytes, more than %d; write shorter traces", len(t.entries), len(index), maxTraceIndex)
		return TraceTotals{}, t.err
	}
	t.digest.Sum(t.foot.sha256[:0])
	t.foot.index, t.foot.indexLength, t.foot.indexSum = t.offset, int64(len(index)), crc32.Checksum(index, castagnoli)
	end := append(index, t.foot.encode()...)
	if _, err := t.w.Write(end); err != nil {
		t.err = fmt.Errorf("write trace: %w", err)
		return TraceTotals{}, t.err
	}
	totals := t.foot.totals
	totals.SHA256, totals.Bytes = fmt.Sprintf("%x", t.foot.sha256), t.offset+int64(len(end))
	t.err = fmt.Errorf("write trace: it is closed")
	return totals, nil
}

// enoughItems is how many must have come since a block ended with a minute for
// the next one to do so: in small blocks the compressor's tables and their own
// weigh more.
const enoughItems = 1 << 13

// packedBlock is a block on its way to the file.
type packedBlock struct {
	encoded, canonical []byte
	entry              traceEntry
}

// traceBlockPacker gathers items until they are a block. It alone decides where
// a block ends, so that the same items make the same file however they come.
type traceBlockPacker struct {
	blocks *traceBlockWriter
	items  []Item
	tries  int
	size   int
	since  int // items since a block ended with a minute
	out    []packedBlock
	err    error
}

func newTraceBlockPacker() (*traceBlockPacker, error) {
	blocks, err := newTraceBlockWriter()
	if err != nil {
		return nil, err
	}
	return &traceBlockPacker{blocks: blocks}, nil
}

// add takes an item and returns the block that it does not fit into any more.
// The slice is good until the next call, what is in it for good.
func (p *traceBlockPacker) add(item Item) []packedBlock {
	size, err := item.check()
	switch {
	case p.err != nil:
		return nil
	case err != nil:
		p.err = err
		return nil
	case size > maxTraceContent:
		p.err = fmt.Errorf("one item takes %d bytes, more than the %d of a block", size, maxTraceContent)
		return nil
	case len(p.items) > 0 && item.At < p.items[len(p.items)-1].At:
		p.err = fmt.Errorf("an item comes at %v, after one at %v", item.At, p.items[len(p.items)-1].At)
		return nil
	}
	tries := 0
	if item.Message != nil {
		tries = len(item.Message.Recipients)
	}
	p.out = p.out[:0]
	switch n := len(p.items); {
	case n == 0:
	case p.since >= enoughItems && item.At/time.Minute != p.items[n-1].At/time.Minute:
		p.end()
		p.since = 0
	case n == maxTraceItems || p.size+size > maxTraceContent || p.tries+tries > maxTraceTries:
		p.end()
	}
	p.since++
	p.items = append(p.items, item)
	p.size += size
	p.tries += tries
	return p.out
}

// flush returns the block of what is left, if there is something.
func (p *traceBlockPacker) flush() []packedBlock {
	p.out = p.out[:0]
	if len(p.items) > 0 {
		p.end()
		p.since = 0
	}
	return p.out
}

func (p *traceBlockPacker) end() {
	encoded, entry, err := p.blocks.encode(p.items)
	if err != nil {
		p.err = err
		return
	}
	canonical := make([]byte, 0, p.size)
	for i := range p.items {
		canonical = p.items[i].appendCanonical(canonical)
	}
	p.out = append(p.out, packedBlock{encoded: slices.Clone(encoded), canonical: canonical, entry: entry})
	clear(p.items)
	p.items, p.size, p.tries = p.items[:0], 0, 0
}

// WriteTrace makes a trace with several workers and writes it as a file, which
// calls the trace's profile by a name. The
// bytes do not depend on the number of workers; 0 takes as many as there are
// processors. Progress, if not nil, is told after each block how many minutes
// of the window are done. Memory is a few blocks a worker.
func WriteTrace(ctx context.Context, w io.Writer, t *Trace, name string, workers int, progress func(done, total int)) (TraceTotals, error) {
	file, err := NewTraceWriter(w, t.Header(name))
	if err != nil {
		return TraceTotals{}, err
	}
	workers = workerCount(workers)
	packers := make([]*traceBlockPacker, workers)
	for i := range packers {
		if packers[i], err = newTraceBlockPacker(); err != nil {
			return TraceTotals{}, err
		}
	}
	makers := make([]minuteMaker, workers)
	type made struct {
		blocks []packedBlock
		end    int // the minute after its last
		err    error
	}
	parts := t.blockMinutes()
	first, end := t.window.minutes()
	for m := range inOrder(len(parts), workers, func(worker, i int) made {
		p := packers[worker]
		var blocks []packedBlock
		for minute := parts[i].first; minute < parts[i].end; minute++ {
			for _, item := range makers[worker].items(t, minute) {
				blocks = append(blocks, p.add(item)...)
			}
		}
		blocks = append(blocks, p.flush()...)
		return made{blocks: blocks, end: parts[i].end, err: p.err}
	}) {
		if m.err != nil {
			return TraceTotals{}, fmt.Errorf("write trace: %w", m.err)
		}
		for _, b := range m.blocks {
			file.write(b)
		}
		if file.err != nil {
			return TraceTotals{}, file.err
		}
		if ctx.Err() != nil {
			return TraceTotals{}, fmt.Errorf("write trace: stopped after %d of %d minutes: %w", m.end-first, end-first, context.Cause(ctx))
		}
		if progress != nil {
			progress(m.end-first, end-first)
		}
	}
	return file.Close()
}

// minuteRange is some minutes on end.
type minuteRange struct{ first, end int }

// blockMinutes are the minutes of the window in ranges of which each begins
// where a block does, whoever made the blocks before.
func (t *Trace) blockMinutes() []minuteRange {
	first, end := t.window.minutes()
	var parts []minuteRange
	begin, items := first, 0
	for minute := first; minute < end; minute++ {
		at := time.Duration(minute) * time.Minute
		if t.window.holds(at) && t.window.holds(at+time.Minute-1) {
			for _, starts := range []*[minutesPerDay + 1]uint64{&t.messageStarts, &t.actionStarts, &t.jobStarts} {
				items += int(starts[minute+1] - starts[minute])
			}
		} else {
			items += len(t.arrivals(nil, minute))
		}
		if items >= enoughItems {
			parts = append(parts, minuteRange{begin, minute + 1})
			begin, items = minute+1, 0
		}
	}
	if begin < end {
		parts = append(parts, minuteRange{begin, end})
	}
	return parts
}

// Parallel yields what All does, made by several workers; 0 takes as many as
// there are processors. It holds the items of a few minutes a worker.
func (t *Trace) Parallel(workers int) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		workers := workerCount(workers)
		makers := make([]minuteMaker, workers)
		first, end := t.window.minutes()
		for items := range inOrder(end-first, workers, func(worker, i int) []Item {
			m := &makers[worker]
			m.made = nil // the items before wait for their turn
			return m.items(t, first+i)
		}) {
			for _, item := range items {
				if !yield(item) {
					return
				}
			}
		}
	}
}

// minuteMaker makes the items of minutes. It serves one goroutine and keeps its
// memory; what it returned is good until the next call.
type minuteMaker struct {
	arrivals []arrival
	made     []Item
}

func (m *minuteMaker) items(t *Trace, minute int) []Item {
	m.arrivals = t.arrivals(m.arrivals[:0], minute)
	m.made = m.made[:0]
	for _, a := range m.arrivals {
		m.made = append(m.made, t.item(a, minute))
	}
	return m.made
}

func workerCount(n int) int {
	if n < 1 {
		return runtime.GOMAXPROCS(0)
	}
	return n
}

// inOrder calls produce for 0 to n-1 in so many goroutines and yields what it
// returns in order. No more than two results a worker wait for their turn.
func inOrder[T any](n, workers int, produce func(worker, i int) T) iter.Seq[T] {
	return func(yield func(T) bool) {
		type task struct {
			i      int
			result chan T // of capacity 1, so that a worker never waits
		}
		tasks, results, stop := make(chan task), make(chan chan T, 2*workers), make(chan struct{})
		var running sync.WaitGroup
		defer running.Wait()
		defer close(stop)
		running.Go(func() {
			defer close(results)
			defer close(tasks)
			for i := range n {
				t := task{i, make(chan T, 1)}
				select {
				case results <- t.result:
				case <-stop:
					return
				}
				select {
				case tasks <- t:
				case <-stop:
					return
				}
			}
		})
		for worker := range workers {
			running.Go(func() {
				for t := range tasks {
					t.result <- produce(worker, t.i)
				}
			})
		}
		for result := range results {
			if !yield(<-result) {
				return
			}
		}
	}
}
