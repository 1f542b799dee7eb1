package workload

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"
	"net/netip"
	"time"
)

// Source is where items come from: a trace that is made from its model, or a
// file of one.
type Source interface {
	// All yields the items of the window in the order of their arrival. If it
	// ends before the last one, Err says why.
	All() iter.Seq[Item]
	Err() error
	Window() Window
	Messages() int64
	Actions() int64
	Jobs() int64
	// SHA256 is as that of a Trace: a trace and a file of it have the same one.
	SHA256() string
	Seed() uint64
	// Retry says when a deferred sender comes back, as that of a Trace.
	Retry(m *Message, try int) (at time.Duration, client netip.Addr, ok bool)
}

var (
	_ Source = (*Trace)(nil)
	_ Source = (*TraceFile)(nil)
)

// Err is nil: making a trace cannot fail.
func (t *Trace) Err() error { return nil }

// Seed is the seed that the trace was made from.
func (t *Trace) Seed() uint64 { return t.seed }

// canonicalPrefix is what the bytes that SHA256 is of begin with.
const canonicalPrefix = "mailbench.trace/v2\n"

// The format of trace files; docs/trace.md describes it byte by byte.
const (
	traceMagic    = "MBTRACEF"
	traceVersion  = 1
	traceBlock    = "BLCK"
	traceEnd      = "MBTRACEE"
	tracePreamble = len(traceMagic) + 8 // magic, version, length of the header's body

	traceBlockHeader = 48
	traceTrailer     = 112

	maxTraceHeader  = 1 << 20   // bytes of the header's body
	maxTraceIndex   = 16 << 20  // bytes of the index
	maxTracePayload = 16 << 20  // bytes of one block, compressed or not
	maxTraceContent = 4 << 20   // canonical bytes of the items of one block
	maxTraceItems   = 1 << 16   // of one block
	maxTraceTries   = 1 << 18   // of one block
	maxRecipients   = 10_000    // of one message; SMTP servers take 100 or more (RFC 5321, 4.5.3.1.8), few take thousands
	maxTraceText    = 1<<16 - 1 // bytes of one text: what the canonical form has room for
)

// maxTraceTime is the latest virtual time of a trace file, so that a log of a
// year fits.
const maxTraceTime = 366 * 24 * time.Hour

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// TraceHeader is what a trace file says of itself.
type TraceHeader struct {
	Seed uint64
	// Origin is where the items come from: "" if seed, profile and population made
	// them, otherwise a sentence about the import; at most 1000 bytes.
	Origin     string
	Profile    Profile
	Population Population // its Peers are the profile's
	// Window is the slice of the virtual day that the file covers. Zero lets the
	// writer take the whole minutes from the first item to the last.
	Window Window
}

// Header is what a file of the trace says of itself. The name is that of the
// profile which the trace's model is of.
func (t *Trace) Header(name string) TraceHeader {
	return TraceHeader{
		Seed: t.seed, Profile: Profile{Name: name, Model: t.model, Peers: t.population.peers()}, Population: t.population, Window: t.window,
	}
}

// Imported says that the items were not made from seed, profile and population.
func (h TraceHeader) Imported() bool { return h.Origin != "" }

// ProfileSHA256 identifies the profile, whatever its name: the lower-case
// hexadecimal SHA-256 of its YAML.
func (h TraceHeader) ProfileSHA256() string {
	return fmt.Sprintf("%x", sha256.Sum256(h.Profile.YAML()))
}

// Validate names the field that is out of its range.
func (h TraceHeader) Validate() error {
	if len(h.Origin) > 1000 {
		return fmt.Errorf("trace file: Origin has %d bytes, must have at most 1000", len(h.Origin))
	}
	for _, v := range []interface{ Validate() error }{h.Profile.Model, h.Profile.Peers, h.Population} {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("trace file: %w", err)
		}
	}
	if h.Window == (Window{}) {
		return nil
	}
	return validFileWindow(h.Window)
}

func validFileWindow(w Window) error {
	if w.From < 0 || w.From >= maxTraceTime || w.Duration <= 0 || w.Duration > maxTraceTime-w.From {
		return fmt.Errorf("trace file: Window from %v for %v must begin at 0 or later, last, and end by %v", w.From, w.Duration, maxTraceTime)
	}
	return nil
}

// encode makes the whole header: preamble, body and checksum.
func (h TraceHeader) encode() ([]byte, error) {
	profile := h.Profile.YAML()
	if _, err := ParseProfile("the trace file's profile", profile); err != nil {
		return nil, fmt.Errorf("trace file: %w", err) // nobody could read it
	}
	b := binary.LittleEndian.AppendUint32([]byte(traceMagic), traceVersion)
	b = append(b, 0, 0, 0, 0) // the body's length
	b = binary.LittleEndian.AppendUint64(b, h.Seed)
	b = appendText(b, h.Origin)
	b = appendText(b, string(profile))
	b = binary.LittleEndian.AppendUint64(b, h.Population.Seed)
	b = binary.AppendUvarint(b, uint64(h.Population.Accounts))
	b = appendText(b, h.Population.Domain)
	b = binary.AppendUvarint(b, uint64(len(h.Population.Backends)))
	for _, backend := range h.Population.Backends {
		b = appendText(b, backend)
	}
	// A message's schedule is an index of these.
	b = binary.AppendUvarint(b, uint64(len(schedules)))
	for _, name := range scheduleNames() {
		b = appendText(b, name)
	}
	body := len(b) - tracePreamble
	if body > maxTraceHeader {
		return nil, fmt.Errorf("trace file: the header takes %d bytes, more than %d", body, maxTraceHeader)
	}
	binary.LittleEndian.PutUint32(b[tracePreamble-4:], uint32(body))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// decodeTraceHeader takes the body of a header whose checksum is right. The
// window is not in it.
func decodeTraceHeader(body []byte) (TraceHeader, error) {
	var h TraceHeader
	d := traceDecoder{b: body}
	h.Seed = d.uint64()
	h.Origin = d.text()
	profile := d.text()
	h.Population.Seed = d.uint64()
	accounts := d.uvarint()
	if accounts > 10_000_000 {
		d.fail("population has %d accounts", accounts)
	}
	h.Population.Accounts = int(accounts)
	h.Population.Domain = d.text()
	backends := d.uvarint()
	if backends > uint64(len(d.b)) {
		d.fail("population claims %d backends", backends)
		backends = 0
	}
	h.Population.Backends = make([]string, backends)
	for i := range h.Population.Backends {
		h.Population.Backends[i] = d.text()
	}
	known := scheduleNames()
	for i := range d.count(256) {
		name := d.text()
		if d.err == nil && (int(i) >= len(known) || known[i] != name) {
			d.fail("schedule %d is %q, which is not the one that this program knows; use the program that wrote the file", i, name)
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes are left over", len(d.b))
	}
	if d.err != nil {
		return h, d.err
	}
	p, err := ParseProfile("profile", []byte(profile))
	if err != nil {
		return h, fmt.Errorf("the profile is not one that this program knows; use the program that wrote the file: %w", err)
	}
	h.Profile = *p
	h.Population.Peers = &p.Peers
	return h, h.Validate()
}

// TraceTotals is how much is in a trace file.
type TraceTotals struct {
	Messages, Actions, Jobs int64
	Tries                   int64  // first tries: recipients of all messages
	Bytes                   int64  // of the file
	SHA256                  string // of the items, as Trace.SHA256
}

// traceEntry is what the index says of one block.
type traceEntry struct {
	offset                         int64 // of the block's header
	length                         int64 // of the block with its header
	messages, tries, actions, jobs int64
	first, last                    time.Duration // of its items
	checksum                       uint32        // of its header, which holds that of the payload
}

func (e traceEntry) items() int64 { return e.messages + e.actions + e.jobs }

// appendIndex encodes entries, which follow each other without a gap.
func appendIndex(b []byte, entries []traceEntry) []byte {
	b = binary.AppendUvarint(b, uint64(len(entries)))
	var last time.Duration
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(e.length))
		for _, n := range []int64{e.messages, e.tries, e.actions, e.jobs} {
			b = binary.AppendUvarint(b, uint64(n))
		}
		b = binary.AppendUvarint(b, uint64((e.first - last).Microseconds()))
		b = binary.AppendUvarint(b, uint64((e.last - e.first).Microseconds()))
		b = binary.LittleEndian.AppendUint32(b, e.checksum)
		last = e.last
	}
	return b
}

const minTraceEntry = 11 // bytes of the shortest entry

// decodeIndex is the inverse of appendIndex for blocks that begin at offset.
func decodeIndex(b []byte, offset int64) ([]traceEntry, error) {
	d := traceDecoder{b: b}
	n := d.uvarint()
	if n > uint64(len(d.b)/minTraceEntry) {
		d.fail("%d bytes claim %d blocks", len(b), n)
		n = 0
	}
	entries := make([]traceEntry, n)
	var last time.Duration
	for i := range entries {
		e := &entries[i]
		e.offset = offset
		e.length = d.count(traceBlockHeader + maxTracePayload)
		e.messages = d.count(maxTraceItems)
		e.tries = d.count(maxTraceTries)
		e.actions = d.count(maxTraceItems)
		e.jobs = d.count(maxTraceItems)
		e.first = last + d.duration()
		e.last = e.first + d.duration()
		e.checksum = d.uint32()
		switch {
		case d.err != nil:
			return nil, fmt.Errorf("entry %d of %d: %w", i+1, n, d.err)
		case e.length <= traceBlockHeader || e.items() < 1 || e.items() > maxTraceItems || e.last > maxTraceTime || e.tries < e.messages:
			return nil, fmt.Errorf("entry %d of %d makes no sense: %+v", i+1, n, *e)
		}
		offset, last = offset+e.length, e.last
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes are left over", len(d.b))
	}
	return entries, d.err
}

// traceFoot is the trailer of a file.
type traceFoot struct {
	window      Window
	totals      TraceTotals // all but Bytes
	sha256      [sha256.Size]byte
	index       int64 // offset
	indexLength int64
	indexSum    uint32
}

func (f traceFoot) encode() []byte {
	b := make([]byte, 0, traceTrailer)
	for _, n := range []int64{
		f.window.From.Nanoseconds(), f.window.Duration.Nanoseconds(),
		f.totals.Messages, f.totals.Tries, f.totals.Actions, f.totals.Jobs,
	} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, f.sha256[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.index))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.indexLength))
	b = binary.LittleEndian.AppendUint32(b, f.indexSum)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, traceEnd...)
}

// decodeTraceFoot takes the last bytes of a file. ok is false if they are no
// trailer.
func decodeTraceFoot(b []byte) (f traceFoot, ok bool) {
	sum := traceTrailer - len(traceEnd) - 4
	if len(b) != traceTrailer || !bytes.HasSuffix(b, []byte(traceEnd)) || crc32.Checksum(b[:sum], castagnoli) != binary.LittleEndian.Uint32(b[sum:]) {
		return f, false
	}
	d := traceDecoder{b: b}
	number := func() int64 { return int64(d.uint64()) }
	f.window = Window{From: time.Duration(number()), Duration: time.Duration(number())}
	f.totals.Messages, f.totals.Tries, f.totals.Actions, f.totals.Jobs = number(), number(), number(), number()
	d.b = d.b[copy(f.sha256[:], d.b):]
	f.totals.SHA256 = fmt.Sprintf("%x", f.sha256)
	f.index, f.indexLength = number(), number()
	f.indexSum = d.uint32()
	return f, d.err == nil
}

// appendText appends the length of a text and its bytes.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// traceDecoder takes values from the front of b. The first failure sticks; what
// is taken after it is zero.
type traceDecoder struct {
	b   []byte
	err error
}

func (d *traceDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.b = nil
}

func (d *traceDecoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("it ends %d bytes early", n-len(d.b))
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *traceDecoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *traceDecoder) bool() bool {
	v := d.byte()
	if v > 1 {
		d.fail("a mark is %d, must be 0 or 1", v)
	}
	return v == 1
}

func (d *traceDecoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *traceDecoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *traceDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("it ends within a number, or the number is too long")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count takes a number from 0 to most.
func (d *traceDecoder) count(most int64) int64 {
	v := d.uvarint()
	if v > uint64(most) {
		d.fail("a count is %d, must be at most %d", v, most)
		return 0
	}
	return int64(v)
}

func (d *traceDecoder) duration() time.Duration {
	return time.Duration(d.count(maxTraceTime.Microseconds())) * time.Microsecond
}

func (d *traceDecoder) text() string { return string(d.take(int(d.count(maxTraceHeader)))) }
