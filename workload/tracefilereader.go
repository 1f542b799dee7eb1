package workload

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/netip"
	"os"
	"sort"
	"sync"
	"time"
)

// TraceFileError is what is wrong with a trace file, and where.
type TraceFileError struct {
	File   string
	Offset int64 // of the byte, or of the part of the file that begins there
	Err    error
}

func (e *TraceFileError) Error() string {
	return fmt.Sprintf("trace file %s: byte %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns what is wrong.
func (e *TraceFileError) Unwrap() error { return e.Err }

// TraceFile reads a trace file, or a slice of one. It holds the index, 88 bytes
// a block, and one block for each reader of All, and may be used from several
// goroutines.
type TraceFile struct {
	name    string
	r       io.ReaderAt
	header  TraceHeader
	entries []traceEntry
	totals  TraceTotals // of the window; SHA256 only if that is the whole file's

	mu  sync.Mutex
	err error // guarded by mu
}

// OpenTrace opens a trace file and reads its header, trailer and index. The
// error of a file that is no whole trace is a *TraceFileError. Close ends it,
// and the slices of it.
func OpenTrace(path string) (*TraceFile, error) {
	// Opening a pipe waits for its writer.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open trace: %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open trace: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open trace: %s is not a regular file", path)
	}
	var t *TraceFile
	if err == nil {
		t, err = NewTraceFile(path, f, info.Size())
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, err
	}
	return t, nil
}

// Close closes the file, if OpenTrace has opened it.
func (f *TraceFile) Close() error {
	if c, ok := f.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// NewTraceFile is OpenTrace for size bytes that r has; name is for errors.
func NewTraceFile(name string, r io.ReaderAt, size int64) (*TraceFile, error) {
	f := &TraceFile{name: name, r: r}
	begin, err := f.readHeader(size)
	if err != nil {
		return nil, err
	}
	end := size - int64(traceTrailer)
	if end < begin {
		return nil, f.cut(begin, size)
	}
	trailer, err := f.read(end, traceTrailer)
	if err != nil {
		return nil, err
	}
	foot, ok := decodeTraceFoot(trailer)
	switch {
	case !ok:
		return nil, f.cut(begin, size)
	case foot.index < begin || foot.indexLength < 0 || foot.indexLength > maxTraceIndex || foot.index != end-foot.indexLength:
		return nil, f.at(end, "the trailer says that the index takes %d bytes from byte %d, which does not fit a file of %d bytes", foot.indexLength, foot.index, size)
	}
	index, err := f.read(foot.index, foot.indexLength)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(index, castagnoli) != foot.indexSum {
		return nil, f.at(foot.index, "the index does not match its checksum: the file was altered")
	}
	if f.entries, err = decodeIndex(index, begin); err != nil {
		return nil, f.at(foot.index, "the index: %w", err)
	}
	if err := validFileWindow(foot.window); err != nil {
		return nil, f.at(end, "%w", err)
	}
	f.header.Window = foot.window
	next := begin
	for _, e := range f.entries {
		if next += e.length; !foot.window.holds(e.first) || !foot.window.holds(e.last) {
			return nil, f.at(foot.index, "the block at byte %d has items from %v to %v, which are not in the file's window", e.offset, e.first, e.last)
		}
	}
	f.count()
	found := f.totals
	f.totals.SHA256, f.totals.Bytes = foot.totals.SHA256, size
	found.SHA256 = foot.totals.SHA256
	if next != foot.index || found != foot.totals {
		return nil, f.at(foot.index, "the index does not fit the trailer: blocks to byte %d with %+v", next, found)
	}
	return f, nil
}

func (f *TraceFile) at(offset int64, format string, args ...any) error {
	return &TraceFileError{File: f.name, Offset: offset, Err: fmt.Errorf(format, args...)}
}

func (f *TraceFile) read(offset, n int64) ([]byte, error) {
	b := make([]byte, n)
	if read, err := f.r.ReadAt(b, offset); err != nil && read < len(b) {
		return nil, f.at(offset+int64(read), "read: %w", err)
	}
	return b, nil
}

// readHeader returns where the blocks begin.
func (f *TraceFile) readHeader(size int64) (int64, error) {
	if size == 0 {
		return 0, f.at(0, "the file is empty")
	}
	b, err := f.read(0, min(size, int64(tracePreamble)))
	if err != nil {
		return 0, err
	}
	if n := min(len(b), len(traceMagic)); string(b[:n]) != traceMagic[:n] {
		return 0, f.at(0, "this is not a trace file: it does not begin with %s; workload import makes one from a log", traceMagic)
	}
	if len(b) < tracePreamble {
		return 0, f.at(size, "the file ends within its header")
	}
	if v := binary.LittleEndian.Uint32(b[len(traceMagic):]); v != traceVersion {
		return 0, f.at(int64(len(traceMagic)), "version %d of the format is not known, this program reads %d; use the program that wrote it", v, traceVersion)
	}
	length := int64(binary.LittleEndian.Uint32(b[len(traceMagic)+4:]))
	if length > maxTraceHeader {
		return 0, f.at(int64(len(traceMagic))+4, "the header claims %d bytes, at most %d are allowed", length, maxTraceHeader)
	}
	begin := int64(tracePreamble) + length + 4
	if begin > size {
		return 0, f.at(size, "the file ends within its header")
	}
	if b, err = f.read(0, begin); err != nil {
		return 0, err
	}
	if crc32.Checksum(b[:begin-4], castagnoli) != binary.LittleEndian.Uint32(b[begin-4:]) {
		return 0, f.at(0, "the header does not match its checksum: the file was altered")
	}
	if f.header, err = decodeTraceHeader(b[tracePreamble : begin-4]); err != nil {
		return 0, f.at(int64(tracePreamble), "the header: %w", err)
	}
	return begin, nil
}

// cut says where a file without a trailer stops to make sense.
func (f *TraceFile) cut(begin, size int64) error {
	offset, last := begin, time.Duration(-1)
	for {
		header, err := f.read(offset, min(int64(traceBlockHeader), size-offset))
		if err != nil {
			return err
		}
		if len(header) < traceBlockHeader {
			break
		}
		e, sum, err := decodeTraceBlockHeader(header)
		if err != nil {
			if string(header[:4]) == traceBlock {
				return f.at(offset, "%w: the file was altered", err)
			}
			break // what begins here may be the index
		}
		if e.length > size-offset {
			break
		}
		payload, err := f.read(offset+traceBlockHeader, e.length-traceBlockHeader)
		if err != nil {
			return err
		}
		if crc32.Checksum(payload, castagnoli) != sum {
			return f.at(offset, "the block does not match its checksum: the file was altered")
		}
		offset, last = offset+e.length, e.last
	}
	whole := "not one block is whole"
	if last >= 0 {
		whole = fmt.Sprintf("the last whole block ends with an item at %v", last)
	}
	return f.at(offset, "the file was cut short or altered after here: it has %d bytes and no whole trailer at its end; %s", size, whole)
}

// count adds up the index.
func (f *TraceFile) count() {
	f.totals = TraceTotals{}
	for _, e := range f.entries {
		f.totals.Messages += e.messages
		f.totals.Tries += e.tries
		f.totals.Actions += e.actions
		f.totals.Jobs += e.jobs
	}
}

// Header is what the file says of itself; its window is that of the slice.
func (f *TraceFile) Header() TraceHeader { return f.header }

// Window is the window of the file or the slice.
func (f *TraceFile) Window() Window { return f.header.Window }

// Messages is how many messages come in the window.
func (f *TraceFile) Messages() int64 { return f.totals.Messages }

// Actions is how many webmail actions come in the window.
func (f *TraceFile) Actions() int64 { return f.totals.Actions }

// Jobs is how many jobs on accounts come in the window.
func (f *TraceFile) Jobs() int64 { return f.totals.Jobs }

// Tries is how many first tries come in the window: recipients of messages.
func (f *TraceFile) Tries() int64 { return f.totals.Tries }

// Size is the number of bytes of the whole file.
func (f *TraceFile) Size() int64 { return f.totals.Bytes }

// Seed is the seed that the file was made from.
func (f *TraceFile) Seed() uint64 { return f.header.Seed }

// Retry is as Trace.Retry.
func (f *TraceFile) Retry(m *Message, try int) (at time.Duration, client netip.Addr, ok bool) {
	return retry(f.header.Seed, m, try)
}

// Err is why All of the file or its slice ended before its last item, the first
// time that it did: a *TraceFileError, or nil.
func (f *TraceFile) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// All yields the items of the window in the order of their arrival. Ask Err
// when it has ended.
func (f *TraceFile) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for item, err := range f.Items() {
			if err != nil {
				f.mu.Lock()
				if f.err == nil {
					f.err = err
				}
				f.mu.Unlock()
				return
			}
			if !yield(item) {
				return
			}
		}
	}
}

// Items is All with its error, a *TraceFileError, which comes last.
func (f *TraceFile) Items() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		blocks, err := newTraceBlockReader()
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer blocks.close()
		for _, e := range f.entries {
			items, err := f.block(blocks, e)
			if err != nil {
				yield(Item{}, err)
				return
			}
			for _, item := range items {
				if f.header.Window.holds(item.At) && !yield(item, nil) {
					return
				}
			}
		}
	}
}

func (f *TraceFile) block(blocks *traceBlockReader, e traceEntry) ([]Item, error) {
	b, err := f.read(e.offset, e.length)
	if err != nil {
		return nil, err
	}
	found, sum, err := decodeTraceBlockHeader(b[:traceBlockHeader])
	found.offset = e.offset
	switch payload := b[traceBlockHeader:]; {
	case err != nil:
		return nil, f.at(e.offset, "%w: the file was altered", err)
	case found != e:
		return nil, f.at(e.offset, "the block is not the one that the index tells of: the file was altered")
	case crc32.Checksum(payload, castagnoli) != sum:
		return nil, f.at(e.offset, "the block does not match its checksum: the file was altered")
	default:
		items, err := blocks.decode(payload, e)
		if err != nil {
			return nil, f.at(e.offset, "the block: %w", err)
		}
		return items, nil
	}
}

// Slice is the part of the file that lies in a window, which must lie in the
// file's. It reads the blocks that the window cuts.
func (f *TraceFile) Slice(w Window) (*TraceFile, error) {
	whole := f.header.Window
	if err := validFileWindow(w); err != nil {
		return nil, err
	}
	if w.From < whole.From || w.From+w.Duration > whole.From+whole.Duration {
		return nil, fmt.Errorf("trace file %s covers %v to %v, which does not hold the slice from %v to %v",
			f.name, whole.From, whole.From+whole.Duration, w.From, w.From+w.Duration)
	}
	first := sort.Search(len(f.entries), func(i int) bool { return f.entries[i].last >= w.From })
	end := sort.Search(len(f.entries), func(i int) bool { return f.entries[i].first >= w.From+w.Duration })
	s := &TraceFile{name: f.name, r: f.r, header: f.header, entries: f.entries[first:max(first, end)]}
	s.header.Window = w
	s.count()
	s.totals.Bytes = f.totals.Bytes
	if w == whole {
		s.totals.SHA256 = f.totals.SHA256
	}
	blocks, err := newTraceBlockReader()
	if err != nil {
		return nil, err
	}
	defer blocks.close()
	for _, e := range s.entries {
		if w.holds(e.first) && w.holds(e.last) {
			continue
		}
		items, err := f.block(blocks, e)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if w.holds(item.At) {
				continue
			}
			switch {
			case item.Message != nil:
				s.totals.Messages--
				s.totals.Tries -= int64(len(item.Message.Recipients))
			case item.Action != nil:
				s.totals.Actions--
			default:
				s.totals.Jobs--
			}
		}
	}
	return s, nil
}

// SHA256 is as Trace.SHA256. That of a whole file stands in its trailer; that
// of a slice is computed each time, and "" if the file cannot be read: see Err.
func (f *TraceFile) SHA256() string {
	if f.totals.SHA256 != "" {
		return f.totals.SHA256
	}
	sum, err := f.hash()
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.err == nil {
			f.err = err
		}
		return ""
	}
	return sum
}

func (f *TraceFile) hash() (string, error) {
	h := sha256.New()
	h.Write([]byte(canonicalPrefix))
	var buffer []byte
	for item, err := range f.Items() {
		if err != nil {
			return "", err
		}
		if buffer = item.appendCanonical(buffer); len(buffer) > 32<<10 {
			h.Write(buffer)
			buffer = buffer[:0]
		}
	}
	h.Write(buffer)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Verify reads the whole window and says whether it is what the file says: each
// block's checksum, its items, and of a whole file their SHA-256.
func (f *TraceFile) Verify() error {
	sum, err := f.hash()
	if err == nil && f.totals.SHA256 != "" && sum != f.totals.SHA256 {
		err = f.at(f.totals.Bytes-int64(traceTrailer), "the items have SHA-256 %s, the trailer says %s", sum, f.totals.SHA256)
	}
	return err
}
