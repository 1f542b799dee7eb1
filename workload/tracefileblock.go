package workload

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
)

// A block holds the items of some virtual minutes, or a part of them if they are
// many. It can be read without any other. Its payload is columns: what is alike
// stands together, each byte of a number in a column of its own, so that the
// compressor finds what little there is to find.

// Kinds of item, the lowest two bits of an item's head.
const (
	headMessage    = 0
	headAction     = 1
	headJob        = 2
	headLegitimate = 1 << 2
	headShift      = 3  // above it: recipients less one,
	headMany       = 31 // or this, and the number is in a column of its own
)

// What a reference is to.
const (
	refNew  = 0 // the next one that the block has not had before
	refSame = 1 // what stands to reason: see there
	refOld  = 2 // one that the block has had, whose number follows
)

// traceBlockWriter encodes blocks. It serves one goroutine and keeps its memory.
type traceBlockWriter struct {
	zstd *zstd.Encoder
	out  []byte // the block, header and payload

	heads, schedules, families, rest []byte
	times, many                      []uint64
	messages, actions, jobs          []uint64 // numbers
	clientRefs                       refWriter
	v4, v6High, v6Low                []uint64
	peers, ours                      addressWriter // senders; everybody else
	plane, packed                    []byte

	clients       map[netip.Addr]clientState
	domainClients []int // by a sender's domain: its last client in the block, or -1
}

type clientState struct {
	index    int
	schedule uint8 // of its last message
}

func newTraceBlockWriter() (*traceBlockWriter, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithAllLitEntropyCompression(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("trace file: %w", err)
	}
	return &traceBlockWriter{zstd: z, clients: map[netip.Addr]clientState{}}, nil
}

func (w *traceBlockWriter) reset() {
	for _, b := range []*[]byte{&w.heads, &w.schedules, &w.families, &w.rest} {
		*b = (*b)[:0]
	}
	for _, n := range []*[]uint64{&w.times, &w.many, &w.messages, &w.actions, &w.jobs, &w.v4, &w.v6High, &w.v6Low} {
		*n = (*n)[:0]
	}
	w.clientRefs.reset()
	w.peers.reset()
	w.ours.reset()
	clear(w.clients)
	w.domainClients = w.domainClients[:0]
}

// encode makes the block of items, which are in order, one or more, and have
// been checked. What it returns is good until the next call.
func (w *traceBlockWriter) encode(items []Item) ([]byte, traceEntry, error) {
	w.reset()
	entry := traceEntry{first: items[0].At, last: items[len(items)-1].At}
	last := entry.first
	for i := range items {
		item := &items[i]
		w.times = append(w.times, uint64((item.At - last).Microseconds()))
		last = item.At
		switch {
		case item.Message != nil:
			entry.messages++
			entry.tries += int64(len(item.Message.Recipients))
			w.message(item.Message)
		case item.Action != nil:
			entry.actions++
			w.action(item.Action)
		default:
			entry.jobs++
			w.job(item.Job)
		}
	}
	w.out = append(w.out[:0], make([]byte, traceBlockHeader)...)
	w.column(w.heads)
	w.numbers(w.times)
	w.numbers(w.messages)
	w.numbers(w.actions)
	w.numbers(w.jobs)
	w.numbers(w.many)
	w.column(w.schedules)
	w.refs(&w.clientRefs)
	w.column(w.families)
	w.numbers(w.v4)
	w.numbers(w.v6High)
	w.numbers(w.v6Low)
	w.peers.columns(w)
	w.ours.columns(w)
	w.column(w.rest)
	payload := w.out[traceBlockHeader:]
	if len(payload) > maxTracePayload {
		return nil, entry, fmt.Errorf("a block of %d items takes %d bytes, more than %d", len(items), len(payload), maxTracePayload)
	}
	entry.length = int64(len(w.out))
	entry.checksum = putTraceBlockHeader(w.out[:traceBlockHeader], entry, payload)
	return w.out, entry, nil
}

func putTraceBlockHeader(h []byte, e traceEntry, payload []byte) (checksum uint32) {
	copy(h, traceBlock)
	for i, n := range []int64{int64(len(payload)), e.messages, e.tries, e.actions, e.jobs} {
		binary.LittleEndian.PutUint32(h[4+4*i:], uint32(n))
	}
	binary.LittleEndian.PutUint64(h[24:], uint64(e.first.Microseconds()))
	binary.LittleEndian.PutUint64(h[32:], uint64(e.last.Microseconds()))
	binary.LittleEndian.PutUint32(h[40:], crc32.Checksum(payload, castagnoli))
	checksum = crc32.Checksum(h[:44], castagnoli)
	binary.LittleEndian.PutUint32(h[44:], checksum)
	return checksum
}

// decodeTraceBlockHeader is the inverse of putTraceBlockHeader.
func decodeTraceBlockHeader(h []byte) (e traceEntry, payloadSum uint32, err error) {
	e.checksum = binary.LittleEndian.Uint32(h[44:])
	switch {
	case string(h[:4]) != traceBlock:
		return e, 0, errors.New("no block begins here")
	case crc32.Checksum(h[:44], castagnoli) != e.checksum:
		return e, 0, errors.New("the block's header does not match its checksum")
	}
	number := func(at int) int64 { return int64(binary.LittleEndian.Uint32(h[at:])) }
	e.length = traceBlockHeader + number(4)
	e.messages, e.tries, e.actions, e.jobs = number(8), number(12), number(16), number(20)
	first, last := binary.LittleEndian.Uint64(h[24:]), binary.LittleEndian.Uint64(h[32:])
	most := uint64(maxTraceTime.Microseconds())
	if e.length > traceBlockHeader+maxTracePayload || e.items() < 1 || e.items() > maxTraceItems ||
		e.tries < e.messages || e.tries > maxTraceTries || first > last || last > most {
		return e, 0, fmt.Errorf("the block's header makes no sense: %d bytes, %d items", e.length, e.items())
	}
	e.first, e.last = time.Duration(first)*time.Microsecond, time.Duration(last)*time.Microsecond
	return e, binary.LittleEndian.Uint32(h[40:]), nil
}

// column appends one column: its length, its length as it is stored, and its
// bytes, as one zstd frame where that is shorter.
func (w *traceBlockWriter) column(b []byte) {
	w.out = binary.AppendUvarint(w.out, uint64(len(b)))
	if len(b) == 0 {
		return
	}
	w.packed = w.zstd.EncodeAll(b, w.packed[:0])
	stored := w.packed
	if len(stored) >= len(b) {
		stored = b
	}
	w.out = binary.AppendUvarint(w.out, uint64(len(stored)))
	w.out = append(w.out, stored...)
}

// numbers appends the smallest of the numbers, how many bytes the differences
// to it take, and a column for each of these bytes, the lowest first.
func (w *traceBlockWriter) numbers(n []uint64) {
	if len(n) == 0 {
		return // the reader knows
	}
	low, high := n[0], n[0]
	for _, v := range n {
		low, high = min(low, v), max(high, v)
	}
	w.out = binary.AppendUvarint(w.out, low)
	planes := 0
	for v := high - low; v > 0; v >>= 8 {
		planes++
	}
	w.out = append(w.out, byte(planes))
	for p := range planes {
		w.plane = w.plane[:0]
		for _, v := range n {
			w.plane = append(w.plane, byte((v-low)>>(8*p)))
		}
		w.column(w.plane)
	}
}

// refWriter codes references: what each is to, and the numbers of those to
// something old.
type refWriter struct {
	kinds []byte // four to a byte, the first in the lowest bits
	count int
	old   []uint64
}

func (w *refWriter) reset() { w.kinds, w.count, w.old = w.kinds[:0], 0, w.old[:0] }

func (w *refWriter) add(kind byte, old int) {
	if w.count%4 == 0 {
		w.kinds = append(w.kinds, 0)
	}
	w.kinds[w.count/4] |= kind << (w.count % 4 * 2)
	w.count++
	if kind == refOld {
		w.old = append(w.old, uint64(old))
	}
}

func (w *traceBlockWriter) refs(r *refWriter) {
	w.column(r.kinds)
	w.numbers(r.old)
}

func (w *traceBlockWriter) message(m *Message) {
	head := byte(headMessage)
	if m.Legitimate {
		head |= headLegitimate
	}
	if n := len(m.Recipients); n-1 < headMany {
		head |= byte(n-1) << headShift
	} else {
		head |= headMany << headShift
		w.many = append(w.many, uint64(n))
	}
	w.heads = append(w.heads, head)
	w.messages = append(w.messages, m.Number)
	domain := w.peers.add(m.Sender)
	w.client(m, domain)
	for _, r := range m.Recipients {
		w.ours.add(r)
	}
}

func (w *traceBlockWriter) client(m *Message, domain int) {
	for len(w.domainClients) <= domain {
		w.domainClients = append(w.domainClients, -1)
	}
	state, seen := w.clients[m.Client]
	switch {
	case seen && w.domainClients[domain] == state.index:
		w.clientRefs.add(refSame, 0)
	case seen:
		w.clientRefs.add(refOld, state.index)
	default:
		w.clientRefs.add(refNew, 0)
		state.index = len(w.clients)
		switch {
		case !m.Client.IsValid():
			w.families = append(w.families, 0)
		case m.Client.Is4():
			w.families = append(w.families, 4)
			a := m.Client.As4()
			w.v4 = append(w.v4, uint64(binary.BigEndian.Uint32(a[:])))
		default:
			w.families = append(w.families, 6)
			a := m.Client.As16()
			w.v6High = append(w.v6High, binary.BigEndian.Uint64(a[:]))
			w.v6Low = append(w.v6Low, binary.BigEndian.Uint64(a[8:]))
		}
	}
	w.schedules = append(w.schedules, m.Schedule^state.schedule)
	state.schedule = m.Schedule
	w.clients[m.Client] = state
	w.domainClients[domain] = state.index
}

func (w *traceBlockWriter) action(a *Action) {
	w.heads = append(w.heads, headAction)
	w.actions = append(w.actions, a.Number)
	w.ours.add(a.User)
	w.rest = binary.AppendUvarint(w.rest, uint64(len(a.Saves)))
	for _, s := range a.Saves {
		w.rest = appendText(w.rest, s.Key)
		w.rest = appendText(w.rest, s.Value)
	}
}

func (w *traceBlockWriter) job(j *Job) {
	w.heads = append(w.heads, headJob)
	w.jobs = append(w.jobs, j.Number)
	w.rest = binary.AppendUvarint(w.rest, uint64(len(j.Changes)))
	for i := range j.Changes {
		w.rest = appendChange(w.rest, &j.Changes[i])
	}
}

func appendChange(b []byte, c *accounts.Change) []byte {
	mark := func(v bool) {
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	texts := func(all []string) {
		b = binary.AppendUvarint(b, uint64(len(all)))
		for _, s := range all {
			b = appendText(b, s)
		}
	}
	b = append(b, c.ID[:]...)
	b = append(b, byte(c.Action))
	for _, s := range []string{c.Login, c.NewLogin, c.Alias, c.Backend} {
		b = appendText(b, s)
	}
	mark(c.KeepOld)
	texts(c.Targets)
	mark(c.KeepCopy)
	mark(c.Action == accounts.Create)
	if c.Action != accounts.Create {
		return b
	}
	a := &c.Account
	texts(a.Aliases)
	for _, s := range []string{a.FullName, a.Affiliation, a.Backend} {
		b = appendText(b, s)
	}
	b = binary.AppendUvarint(b, uint64(a.QuotaMB))
	texts(a.Targets)
	mark(a.KeepCopy)
	mark(a.NoGreylist)
	return append(b, a.SpamThreshold)
}

func (d *traceDecoder) change() accounts.Change {
	texts := func() []string {
		n := d.count(int64(len(d.b)))
		if n == 0 {
			return nil
		}
		all := make([]string, n)
		for i := range all {
			all[i] = d.text()
		}
		return all
	}
	var c accounts.Change
	copy(c.ID[:], d.take(len(c.ID)))
	c.Action = accounts.Action(d.byte())
	c.Login, c.NewLogin, c.Alias, c.Backend = d.text(), d.text(), d.text(), d.text()
	c.KeepOld = d.bool()
	c.Targets = texts()
	c.KeepCopy = d.bool()
	if create := d.bool(); create != (c.Action == accounts.Create) {
		d.fail("a change's action is %d and its account does not fit it", c.Action)
	}
	if c.Action != accounts.Create {
		return c
	}
	a := &c.Account
	a.Aliases = texts()
	a.FullName, a.Affiliation, a.Backend = d.text(), d.text(), d.text()
	a.QuotaMB = uint32(d.count(1<<32 - 1))
	a.Targets = texts()
	a.KeepCopy, a.NoGreylist = d.bool(), d.bool()
	a.SpamThreshold = d.byte()
	return c
}

// addressWriter codes addresses. A new one is the number of its domain in the
// block's table of domains, and its local part: a stem in the table of stems,
// and the number that it ends in.
type addressWriter struct {
	refs, domainRefs, stemRefs        refWriter
	tails, domainLengths, stemLengths []uint64
	domainText, stemText              []byte

	addresses      map[string]addressState
	domains, stems map[string]int
}

type addressState struct{ index, domain int }

func (w *addressWriter) reset() {
	w.refs.reset()
	w.domainRefs.reset()
	w.stemRefs.reset()
	w.tails, w.domainLengths, w.stemLengths = w.tails[:0], w.domainLengths[:0], w.stemLengths[:0]
	w.domainText, w.stemText = w.domainText[:0], w.stemText[:0]
	if w.addresses == nil {
		w.addresses, w.domains, w.stems = map[string]addressState{}, map[string]int{}, map[string]int{}
	}
	clear(w.addresses)
	clear(w.domains)
	clear(w.stems)
}

// add returns the number of the address's domain, from 1; 0 if it has none.
func (w *addressWriter) add(address string) (domain int) {
	if state, seen := w.addresses[address]; seen {
		w.refs.add(refOld, state.index)
		return state.domain
	}
	w.refs.add(refNew, 0)
	local, host := address, ""
	if at := strings.LastIndexByte(address, '@'); at < 0 {
		w.domainRefs.add(refSame, 0)
	} else {
		local, host = address[:at], address[at+1:]
		number, seen := w.domains[host]
		if !seen {
			number = len(w.domains)
			w.domains[host] = number
			w.domainRefs.add(refNew, 0)
			w.domainLengths = append(w.domainLengths, uint64(len(host)))
			w.domainText = append(w.domainText, host...)
		} else {
			w.domainRefs.add(refOld, number)
		}
		domain = number + 1
	}
	stem, tail := splitTail(local)
	w.tails = append(w.tails, tail)
	if number, seen := w.stems[stem]; seen {
		w.stemRefs.add(refOld, number)
	} else {
		w.stems[stem] = len(w.stems)
		w.stemRefs.add(refNew, 0)
		w.stemLengths = append(w.stemLengths, uint64(len(stem)))
		w.stemText = append(w.stemText, stem...)
	}
	w.addresses[address] = addressState{index: len(w.addresses), domain: domain}
	return domain
}

const (
	maxTail       = 9 // digits
	maxTailNumber = 1_000_000_000
)

// splitTail takes the number off the end of a local part: its digits without
// leading zeros, at most maxTail of them. tail is that number and one; 0 if
// there is none.
func splitTail(local string) (stem string, tail uint64) {
	begin := len(local)
	for begin > 0 && len(local)-begin < maxTail && local[begin-1] >= '0' && local[begin-1] <= '9' {
		begin--
	}
	for begin < len(local)-1 && local[begin] == '0' {
		begin++
	}
	for _, digit := range []byte(local[begin:]) {
		tail = tail*10 + uint64(digit-'0')
	}
	if begin == len(local) {
		return local, 0
	}
	return local[:begin], tail + 1
}

func (w *addressWriter) columns(b *traceBlockWriter) {
	b.refs(&w.refs)
	b.refs(&w.domainRefs)
	b.numbers(w.domainLengths)
	b.column(w.domainText)
	b.refs(&w.stemRefs)
	b.numbers(w.stemLengths)
	b.column(w.stemText)
	b.numbers(w.tails)
}

// traceBlockReader decodes blocks. It serves one goroutine and keeps its memory.
type traceBlockReader struct {
	zstd *zstd.Decoder
	d    traceDecoder
	left int // bytes that the columns may still take once decompressed
}

func newTraceBlockReader() (*traceBlockReader, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxTracePayload))
	if err != nil {
		return nil, fmt.Errorf("trace file: %w", err)
	}
	return &traceBlockReader{zstd: z}, nil
}

func (r *traceBlockReader) close() { r.zstd.Close() }

// column takes one column, which must have n bytes; any number if n is below 0.
func (r *traceBlockReader) column(n int) []byte {
	length := int(r.d.count(int64(r.left)))
	if n >= 0 && length != n {
		r.d.fail("a column has %d bytes, must have %d", length, n)
	}
	if length == 0 || r.d.err != nil {
		return nil
	}
	r.left -= length
	stored := r.d.take(int(r.d.count(int64(length))))
	if r.d.err != nil {
		return nil
	}
	if len(stored) == length {
		return stored
	}
	b, err := r.zstd.DecodeAll(stored, make([]byte, 0, length))
	if err != nil {
		r.d.fail("decompress: %w", err)
	} else if len(b) != length {
		r.d.fail("a column has %d bytes once decompressed, must have %d", len(b), length)
	}
	if r.d.err != nil {
		return nil
	}
	return b
}

// numbers takes n numbers. The caller bounds n: numbers that are all alike take
// no bytes.
func (r *traceBlockReader) numbers(n int) numbers {
	if n == 0 {
		return numbers{}
	}
	all := numbers{low: r.d.uvarint()}
	planes := int(r.d.byte())
	if planes > len(all.planes) {
		r.d.fail("a number has %d bytes", planes)
		planes = 0
	}
	for p := range planes {
		all.planes[p] = r.column(n)
	}
	if r.d.err != nil {
		return numbers{}
	}
	all.count = planes
	return all
}

// numbers are numbers in planes.
type numbers struct {
	low    uint64
	planes [8][]byte
	count  int
}

func (n *numbers) at(i int) uint64 {
	var v uint64
	for p := range n.count {
		v |= uint64(n.planes[p][i]) << (8 * p)
	}
	return n.low + v
}

// sum is the sum of n numbers, or -1 if one or the sum is above most.
func (n *numbers) sum(count, most int) int {
	sum := 0
	for i := range count {
		v := n.at(i)
		if v > uint64(most-sum) {
			return -1
		}
		sum += int(v)
	}
	return sum
}

// refReader is the inverse of refWriter.
type refReader struct {
	kinds    []byte
	old      numbers
	fresh    int // how many are to something new
	position int
	olds     int // how many of those before position are to something old
}

// refs takes n references.
func (r *traceBlockReader) refs(n int) refReader {
	refs := refReader{kinds: r.column((n + 3) / 4)}
	if r.d.err != nil {
		return refs
	}
	old := 0
	for i := range n {
		switch refs.kind(i) {
		case refNew:
			refs.fresh++
		case refOld:
			old++
		}
	}
	refs.old = r.numbers(old)
	return refs
}

func (r *refReader) kind(i int) byte { return r.kinds[i/4] >> (i % 4 * 2) & 3 }

// next returns the next reference, and the number of something old.
func (r *refReader) next() (kind byte, old uint64) {
	kind = r.kind(r.position)
	r.position++
	if kind == refOld {
		old = r.old.at(r.olds)
		r.olds++
	}
	return kind, old
}

// decode takes the items out of a payload whose checksum is right and whose
// header says e.
func (r *traceBlockReader) decode(payload []byte, e traceEntry) ([]Item, error) {
	r.d, r.left = traceDecoder{b: payload}, maxTracePayload
	items := r.items(e)
	if r.d.err == nil && len(r.d.b) > 0 {
		r.d.fail("%d bytes are left over", len(r.d.b))
	}
	if r.d.err != nil {
		return nil, r.d.err
	}
	return items, nil
}

func (r *traceBlockReader) items(e traceEntry) []Item {
	d := &r.d
	n, m := int(e.items()), int(e.messages)
	heads := r.column(n)
	if d.err != nil {
		return nil
	}
	var kinds [4]int
	many, users := 0, 0
	for _, h := range heads {
		kinds[h&3]++
		switch {
		case h&3 == headMessage && h>>headShift == headMany:
			many++
		case h&3 == headAction:
			users++
		}
		if h&3 != headMessage && h>>2 != 0 {
			d.fail("an item's head is %d", h)
		}
	}
	if kinds != [4]int{m, int(e.actions), int(e.jobs), 0} {
		d.fail("it holds %v items of each kind, its header says otherwise", kinds)
		return nil
	}
	times := r.numbers(n)
	numbersOf := [3]numbers{r.numbers(m), r.numbers(users), r.numbers(kinds[headJob])}
	manyOf := r.numbers(many)
	schedules := r.column(m)
	clients := r.clients(m)
	peers := r.addresses(m)
	ours := r.addresses(int(e.tries) + users)
	rest := traceDecoder{b: r.column(-1)}
	if d.err != nil {
		return nil
	}

	items := make([]Item, n)
	messages := make([]Message, m)
	recipients := make([]string, e.tries)
	content := 0 // what the canonical form of the items takes
	at := e.first
	next, nextMany, nextNumber := 0, 0, [3]int{}
	for i := range items {
		item := &items[i]
		delta := times.at(i)
		if i == 0 && delta != 0 || delta > uint64((e.last-at).Microseconds()) {
			d.fail("item %d of %d does not come within the block's time", i+1, n)
			return nil
		}
		at += time.Duration(delta) * time.Microsecond
		item.At = at
		kind := heads[i] & 3
		number := numbersOf[kind].at(nextNumber[kind])
		nextNumber[kind]++
		switch kind {
		case headMessage:
			count := int(heads[i]>>headShift) + 1
			if count == headMany+1 {
				v := manyOf.at(nextMany)
				nextMany++
				if v > maxRecipients {
					d.fail("message %d has %d recipients", number, v)
					return nil
				}
				count = int(v)
			}
			if count < 1 || count > len(recipients) {
				d.fail("message %d has %d recipients, the block %d more", number, count, len(recipients))
				return nil
			}
			msg := &messages[next]
			sender, domain := peers.next(d)
			msg.Number, msg.At, msg.Legitimate = number, at, heads[i]&headLegitimate != 0
			msg.Sender = sender
			msg.Client, msg.Schedule = clients.next(d, domain, schedules[next])
			next++
			msg.Recipients, recipients = recipients[:count:count], recipients[count:]
			for j := range msg.Recipients {
				msg.Recipients[j], _ = ours.next(d)
			}
			item.Message = msg
		case headAction:
			a := &Action{Number: number, At: at}
			a.User, _ = ours.next(d)
			if saves := rest.count(int64(len(rest.b))); saves > 0 {
				a.Saves = make([]Save, saves)
				for j := range a.Saves {
					a.Saves[j] = Save{Key: rest.text(), Value: rest.text()}
				}
			}
			item.Action = a
		default:
			j := &Job{Number: number, At: at}
			if changes := rest.count(int64(len(rest.b) / minChange)); changes > 0 {
				j.Changes = make([]accounts.Change, changes)
				for k := range j.Changes {
					j.Changes[k] = rest.change()
				}
			}
			item.Job = j
		}
		if d.err == nil && rest.err != nil {
			d.fail("item %d of %d: %w", i+1, n, rest.err)
		}
		if d.err != nil {
			return nil
		}
		size, err := item.check()
		if content += size; err != nil || content > maxTraceContent {
			d.fail("item %d of %d: %w", i+1, n, cmp.Or(err, errContent))
			return nil
		}
	}
	if at != e.last || len(recipients) > 0 || len(rest.b) > 0 {
		d.fail("its header and its items do not agree")
	}
	return items
}

const minChange = 16 + 1 + 4 + 4 // bytes of the shortest encoded change

// clientReader is the inverse of traceBlockWriter.client.
type clientReader struct {
	refs          refReader
	all           []netip.Addr
	known         int // how many of all have been seen
	schedules     []uint8
	domainClients []int
}

func (r *traceBlockReader) clients(m int) clientReader {
	c := clientReader{refs: r.refs(m)}
	families := r.column(c.refs.fresh)
	n4, n6 := 0, 0
	for _, f := range families {
		switch f {
		case 0:
		case 4:
			n4++
		case 6:
			n6++
		default:
			r.d.fail("a client's family is %d", f)
		}
	}
	v4, v6High, v6Low := r.numbers(n4), r.numbers(n6), r.numbers(n6)
	if r.d.err != nil {
		return c
	}
	c.all, c.schedules = make([]netip.Addr, len(families)), make([]uint8, len(families))
	n4, n6 = 0, 0
	for i, f := range families {
		switch f {
		case 4:
			v := v4.at(n4)
			n4++
			if v > 1<<32-1 {
				r.d.fail("a client's address is %d", v)
			}
			var a [4]byte
			binary.BigEndian.PutUint32(a[:], uint32(v))
			c.all[i] = netip.AddrFrom4(a)
		case 6:
			var a [16]byte
			binary.BigEndian.PutUint64(a[:], v6High.at(n6))
			binary.BigEndian.PutUint64(a[8:], v6Low.at(n6))
			n6++
			c.all[i] = netip.AddrFrom16(a)
		}
	}
	return c
}

// next returns the client of the next message, whose sender is of a domain, and
// its schedule.
func (c *clientReader) next(d *traceDecoder, domain int, schedule uint8) (netip.Addr, uint8) {
	for len(c.domainClients) <= domain {
		c.domainClients = append(c.domainClients, -1)
	}
	index := -1
	switch kind, old := c.refs.next(); {
	case kind == refNew:
		index = c.known
		c.known++
	case kind == refSame:
		index = c.domainClients[domain]
	case kind == refOld && old < uint64(c.known):
		index = int(old)
	}
	if index < 0 {
		d.fail("message %d of the block has a client that the block does not hold", c.refs.position)
		return netip.Addr{}, 0
	}
	c.domainClients[domain] = index
	c.schedules[index] ^= schedule
	return c.all[index], c.schedules[index]
}

// addressReader is the inverse of addressWriter.
type addressReader struct {
	refs, domainRefs, stemRefs refReader
	tails                      numbers
	domains, stems             []string
	domainsKnown, stemsKnown   int
	addresses                  []string
	addressDomains             []int
	scratch                    []byte
	budget                     int
}

func (r *traceBlockReader) addresses(n int) addressReader {
	a := addressReader{refs: r.refs(n), budget: maxTraceContent}
	fresh := a.refs.fresh
	a.domainRefs = r.refs(fresh)
	a.domains = r.texts(a.domainRefs.fresh)
	a.stemRefs = r.refs(fresh)
	a.stems = r.texts(a.stemRefs.fresh)
	a.tails = r.numbers(fresh)
	if r.d.err == nil {
		a.addresses, a.addressDomains = make([]string, 0, fresh), make([]int, 0, fresh)
	}
	return a
}

// texts takes a column of n texts: their lengths and their bytes.
func (r *traceBlockReader) texts(n int) []string {
	if r.d.err != nil {
		return nil
	}
	lengths := r.numbers(n)
	sum := lengths.sum(n, maxTracePayload)
	if r.d.err != nil || sum < 0 {
		r.d.fail("a column of texts is too long")
		return nil
	}
	all := string(r.column(sum))
	if r.d.err != nil {
		return nil
	}
	texts := make([]string, n)
	for i := range texts {
		length := lengths.at(i)
		texts[i], all = all[:length], all[length:]
	}
	return texts
}

// next returns the next address and the number of its domain.
func (a *addressReader) next(d *traceDecoder) (address string, domain int) {
	if kind, old := a.refs.next(); kind != refNew {
		if kind != refOld || old >= uint64(len(a.addresses)) {
			d.fail("address %d of the block is one that the block does not hold", a.refs.position)
			return "", 0
		}
		return a.addresses[old], a.addressDomains[old]
	}
	stem := -1
	switch kind, old := a.stemRefs.next(); {
	case kind == refNew:
		stem = a.stemsKnown
		a.stemsKnown++
	case kind == refOld && old < uint64(a.stemsKnown):
		stem = int(old)
	}
	switch kind, old := a.domainRefs.next(); {
	case kind == refNew:
		a.domainsKnown++
		domain = a.domainsKnown
	case kind == refOld && old < uint64(a.domainsKnown):
		domain = int(old) + 1
	case kind != refSame: // the same as nothing: it has no '@'
		domain = -1
	}
	tail := a.tails.at(len(a.addresses))
	if stem < 0 || domain < 0 || tail > maxTailNumber {
		d.fail("address %d of the block is made of what the block does not hold", a.refs.position)
		return "", 0
	}
	b := append(a.scratch[:0], a.stems[stem]...)
	if tail > 0 {
		b = strconv.AppendUint(b, tail-1, 10)
	}
	if domain > 0 {
		b = append(append(b, '@'), a.domains[domain-1]...)
	}
	a.scratch = b
	if a.budget -= len(b); a.budget < 0 {
		d.fail("%w", errContent)
		return "", 0
	}
	address = string(b)
	a.addresses, a.addressDomains = append(a.addresses, address), append(a.addressDomains, domain)
	return address, domain
}

var errContent = fmt.Errorf("the items of a block take more than %d bytes", maxTraceContent)

// check says what makes an item one that a file cannot hold, and how many bytes
// its canonical form takes.
func (i *Item) check() (size int, err error) {
	fail := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	size = 17
	text := func(s string) {
		if len(s) > maxTraceText {
			fail("a text has %d bytes, must have at most %d", len(s), maxTraceText)
		}
		size += 2 + len(s)
	}
	of := func(what string, number uint64, at time.Duration) {
		if at != i.At {
			fail("%s %d comes at %v, its item at %v", what, number, at, i.At)
		}
	}
	if i.At < 0 || i.At >= maxTraceTime || i.At%time.Microsecond != 0 {
		fail("an item comes at %v, must come at 0 to %v in whole microseconds", i.At, maxTraceTime)
	}
	switch {
	case i.Message != nil && i.Action == nil && i.Job == nil:
		m := i.Message
		of("message", m.Number, m.At)
		if n := len(m.Recipients); n < 1 || n > maxRecipients {
			fail("message %d has %d recipients, must have 1 to %d", m.Number, n, maxRecipients)
		}
		if m.Client.Zone() != "" {
			fail("message %d comes from %s, whose zone has no place in a trace", m.Number, m.Client)
		}
		if int(m.Schedule) >= len(schedules) {
			fail("message %d has schedule %d, must be 0 to %d", m.Number, m.Schedule, len(schedules)-1)
		}
		size += 20
		text(m.Sender)
		for _, r := range m.Recipients {
			text(r)
		}
	case i.Action != nil && i.Message == nil && i.Job == nil:
		of("action", i.Action.Number, i.Action.At)
		size += 2
		text(i.Action.User)
		if len(i.Action.Saves) > 1<<16-1 {
			fail("action %d saves %d preferences", i.Action.Number, len(i.Action.Saves))
		}
		for _, s := range i.Action.Saves {
			text(s.Key)
			text(s.Value)
		}
	case i.Job != nil && i.Message == nil && i.Action == nil:
		of("job", i.Job.Number, i.Job.At)
		size += 2
		for k := range i.Job.Changes {
			c := &i.Job.Changes[k]
			if c.Action.String() == "none" {
				fail("job %d has a change of action %d", i.Job.Number, c.Action)
			}
			a := &c.Account
			if !c.At.IsZero() || a.Login != "" || a.State != routing.Active || a.MovingTo != "" || !a.Created.IsZero() || !a.Changed.IsZero() ||
				c.Action != accounts.Create && !isZeroAccount(a) {
				fail("a change of job %d has what a trace does not keep: a time, or an account that its action %s does not take", i.Job.Number, c.Action)
			}
			size += 64
			for _, s := range []string{c.Login, c.NewLogin, c.Alias, c.Backend, a.FullName, a.Affiliation, a.Backend} {
				text(s)
			}
			for _, all := range [][]string{c.Targets, a.Aliases, a.Targets} {
				for _, s := range all {
					text(s)
				}
			}
		}
	default:
		fail("an item must be a message, an action or a job")
	}
	if i.Try != nil {
		fail("a later try is no item of a trace")
	}
	return size, err
}

func isZeroAccount(a *accounts.Account) bool {
	return len(a.Aliases) == 0 && a.FullName == "" && a.Affiliation == "" && a.Backend == "" && a.QuotaMB == 0 &&
		len(a.Targets) == 0 && !a.KeepCopy && !a.NoGreylist && a.SpamThreshold == 0
}
