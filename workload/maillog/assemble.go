package maillog

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// How long is waited for the rest of a message, in microseconds. What comes
// later makes a message of its own.
const (
	sameTransaction = 10 * second  // between two recipients of one transaction
	longTransaction = 60 * second  // from its first recipient to its last
	firstDelivery   = 120 * second // from a message's arrival to its recipients, where they are told with the deliveries
	toldTwice       = 10 * second  // between two programs' lines of one refusal
	acceptedTwice   = 600 * second // between two programs' lines of one acceptance: the message comes between
	bothLogs        = 2 * second   // between a line of Exim's main log and the same in its reject log

	// maxOpen is how many messages may be open. At most 120 s worth are, and the
	// oldest are closed early where that is more.
	maxOpen = 1 << 17
	// maxRecipients is how many a message may have; more make another.
	maxRecipients = 1000
	// mostReused is how many recipients a message may have room for and be used
	// again, so that what is kept of the largest is not kept of all.
	mostReused = 16
)

// told is a recipient of a message.
type told struct {
	address   []byte // in text of its message
	hash      uint64 // of address; set unless the assembler is alone
	outcome   outcome
	returning bool
}

// open is a message that is being received. It is used again after it has been
// given on.
type open struct {
	first, last int64
	client      netip.Addr
	sender      []byte // in text
	from        uint64 // hash of sender
	sent        bool   // sender is known
	recipients  []told
	text        []byte // what addresses point into
	program     Format
	key         uint64 // of groups, or of ids where waiting
	waiting     bool   // for what the log tells of the message later
	closed      bool
}

func (o *open) over(now int64) bool {
	switch {
	case o.closed:
		return true
	case o.waiting:
		return now-o.first > firstDelivery
	}
	return now-o.last > sameTransaction || now-o.first > longTransaction
}

func (o *open) find(address []byte) *told {
	for i := range o.recipients {
		if bytes.Equal(o.recipients[i].address, address) {
			return &o.recipients[i]
		}
	}
	return nil
}

// keep copies an address of a line, which is valid until the next line only.
func (o *open) keep(address []byte) []byte {
	begin := len(o.text)
	o.text = append(o.text, address...)
	return o.text[begin:len(o.text):len(o.text)]
}

// say names the sender, which may be named again each time that delivery is tried.
func (o *open) say(sender []byte) {
	if !bytes.Equal(o.sender, sender) {
		o.sender = o.keep(sender)
	}
	o.sent = true
}

// tell adds a recipient; hash is 0 where finish is to make it.
func (o *open) tell(address []byte, hash uint64, what outcome, returning bool) {
	o.recipients = append(o.recipients, told{o.keep(address), hash, what, returning})
}

// recent remembers what was put into it for a time, and at most twice as long.
type recent[V any] struct {
	now, before map[uint64]V
	turned      int64
	every       int64
}

func newRecent[V any](every int64) recent[V] {
	return recent[V]{now: map[uint64]V{}, before: map[uint64]V{}, every: every}
}

func (r *recent[V]) turn(at int64) {
	if at-r.turned > r.every {
		if at-r.turned > 2*r.every {
			clear(r.now)
		}
		r.now, r.before = r.before, r.now
		clear(r.now)
		r.turned = at
	}
}

func (r *recent[V]) get(key uint64) (V, bool) {
	v, ok := r.now[key]
	if !ok {
		v, ok = r.before[key]
	}
	return v, ok
}

func (r *recent[V]) put(key uint64, v V) { r.now[key] = v }

func (r *recent[V]) drop(key uint64) {
	delete(r.now, key)
	delete(r.before, key)
}

// sighting is when a program told of a triplet.
type sighting struct {
	at       int64
	programs uint8 // bits of Format
	outcome  outcome
}

// copied is a line of one of Exim's two logs.
type copied struct {
	at     int64
	source int
}

// assembler makes messages of entries and gives them on in the order of their
// first instants.
type assembler struct {
	seed   maphash.Seed
	groups map[uint64]*open // by client and sender
	ids    map[uint64]*open // by message id
	queue  []*open          // in the order of first; closed ones at the front are given on
	front  int
	free   []*open // given on; at most as many as were ever open

	triplets recent[sighting]
	lines    recent[copied]

	emit     func(*open) // what it is given is valid until it returns
	counts   assemblyCounts
	programs uint8 // bits of Format: whose entries there were
	// alone says that there are those of one program only, so that none tells what
	// another has told: recipients are not hashed.
	alone bool
}

// assemblyCounts are what Report says of messages.
type assemblyCounts struct {
	own        int64 // messages and recipients of our own users or of this machine
	copies     int64 // lines that Exim wrote into both logs
	twice      int64 // recipients that two programs told of
	incomplete int64 // messages whose sender or recipients were not told in time
	early      int64 // messages closed early because too many were open
}

func newAssembler(seed maphash.Seed, emit func(*open)) *assembler {
	return &assembler{
		seed: seed, emit: emit,
		groups: map[uint64]*open{}, ids: map[uint64]*open{},
		triplets: newRecent[sighting](acceptedTwice), lines: newRecent[copied](bothLogs),
	}
}

// hashOf identifies a text without regard to case and quotes, which programs treat
// differently.
func hashOf(seed maphash.Seed, text []byte) uint64 {
	var buffer [maxAddress]byte
	lower := buffer[:0]
	for _, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		} else if c == '"' {
			continue
		}
		lower = append(lower, c)
	}
	return maphash.Bytes(seed, lower)
}

// identify is the identity of a client or its network, with the hashes of what
// goes with it.
func identify(seed maphash.Seed, client [16]byte, from, to uint64) uint64 {
	var b [32]byte
	copy(b[:], client[:])
	binary.LittleEndian.PutUint64(b[16:], from)
	binary.LittleEndian.PutUint64(b[24:], to)
	return maphash.Bytes(seed, b[:])
}

// start gives a message that may have been used before.
func (a *assembler) start(e *entry, key uint64) *open {
	var o *open
	if last := len(a.free) - 1; last >= 0 {
		o, a.free = a.free[last], a.free[:last]
	} else {
		o = &open{}
	}
	*o = open{first: e.at, last: e.at, client: e.client, program: e.program, key: key, recipients: o.recipients[:0], text: o.text[:0]}
	return o
}

// add takes an entry of a file.
func (a *assembler) add(e *entry, source int) {
	a.advance(e.at)
	a.programs |= 1 << e.program
	switch e.kind {
	case attempt:
		if a.copy(e, source) {
			a.counts.copies++
			return
		}
		if e.own {
			a.counts.own++
			return
		}
		if o := a.ids[e.message]; o != nil && len(e.id) > 0 && e.program == Postfix {
			// A message is open: the sender of its line is its sender.
			o.say(e.sender)
			for _, r := range e.recipients {
				if had := o.find(r); had != nil {
					had.outcome = e.outcome
				} else if len(o.recipients) < maxRecipients {
					o.tell(r, 0, e.outcome, false)
				}
			}
			return
		}
		a.attempt(e)
	case arrival:
		if e.own {
			a.counts.own++
			return
		}
		if len(e.recipients) > 0 {
			a.attempt(e)
			return
		}
		if old := a.ids[e.message]; old != nil {
			a.finish(old) // queue ids come again
		}
		o := a.start(e, e.message)
		o.waiting = true
		if e.program == Exim {
			o.say(e.sender)
		}
		a.ids[e.message] = o
		a.enqueue(o)
	case sender:
		if o := a.ids[e.message]; o != nil {
			o.say(e.sender)
		}
	case recipient:
		if o := a.ids[e.message]; o != nil {
			for _, r := range e.recipients {
				if o.find(r) == nil && len(o.recipients) < maxRecipients {
					o.tell(r, 0, accepted, false)
				}
			}
		}
	case done:
		if o := a.ids[e.message]; o != nil {
			a.finish(o)
		}
	}
}

// copy says whether the line was there already, in the other of Exim's logs.
func (a *assembler) copy(e *entry, source int) bool {
	if e.text == 0 {
		return false
	}
	a.lines.turn(e.at)
	seen, ok := a.lines.get(e.text)
	if ok && e.at-seen.at <= bothLogs && (seen.source != source || e.syslog) {
		a.lines.drop(e.text)
		return true
	}
	a.lines.put(e.text, copied{e.at, source})
	return false
}

// attempt adds recipients to the transaction of their client and sender.
func (a *assembler) attempt(e *entry) {
	client, from := e.client.As16(), hashOf(a.seed, e.sender)
	key := identify(a.seed, client, from, 0)
	o := a.groups[key]
	if o != nil && o.over(e.at) {
		o = nil
	}
	for _, r := range e.recipients {
		var to uint64
		if !a.alone {
			to = hashOf(a.seed, r)
			if a.seen(o, e.at, e.program, e.outcome, identify(a.seed, client, from, to), r) {
				continue
			}
		}
		// A recipient that comes again is another try.
		if o != nil && (o.find(r) != nil || len(o.recipients) >= maxRecipients) {
			o.closed = true
			o = nil
		}
		if o == nil {
			o = a.start(e, key)
			o.say(e.sender)
			o.from = from
			a.groups[key] = o
			a.enqueue(o)
		}
		o.last = e.at
		o.tell(r, to, e.outcome, e.returning)
	}
	if e.kind == arrival && o != nil {
		o.closed = true // the message has come; the next is another
	}
}

// seen says whether another program has told of this recipient already; key is of
// the client, the sender and the recipient.
func (a *assembler) seen(o *open, at int64, program Format, outcome outcome, key uint64, recipient []byte) bool {
	a.triplets.turn(at)
	bit := uint8(1) << program
	if a.programs == bit { // there was no other
		a.triplets.put(key, sighting{at, bit, outcome})
		return false
	}
	was, ok := a.triplets.get(key)
	limit := toldTwice
	if was.outcome == accepted {
		limit = acceptedTwice
	}
	if !ok || was.programs&bit != 0 || at-was.at > limit || was.outcome != accepted && outcome == accepted {
		a.triplets.put(key, sighting{at, bit, outcome})
		return false
	}
	was.programs |= bit
	if outcome != accepted {
		was.outcome = outcome
		if o != nil {
			if r := o.find(recipient); r != nil {
				r.outcome = outcome // a later check said no
			}
		}
	}
	a.triplets.put(key, was)
	a.counts.twice++
	return true
}

func (a *assembler) enqueue(o *open) {
	a.queue = append(a.queue, o)
	if len(a.queue)-a.front > maxOpen {
		a.counts.early++
		a.give()
	}
}

// finish completes a message that was waited for.
func (a *assembler) finish(o *open) {
	if !o.waiting || o.closed {
		return
	}
	o.closed = true
	if a.ids[o.key] == o {
		delete(a.ids, o.key)
	}
	if !o.sent || len(o.recipients) == 0 {
		a.counts.incomplete++
		o.recipients = o.recipients[:0]
		return
	}
	if a.alone {
		return
	}
	client := o.client.As16()
	o.from = hashOf(a.seed, o.sender)
	kept := o.recipients[:0]
	for _, r := range o.recipients {
		r.hash = hashOf(a.seed, r.address)
		if !a.seen(nil, o.first, o.program, r.outcome, identify(a.seed, client, o.from, r.hash), r.address) {
			kept = append(kept, r)
		}
	}
	o.recipients = kept
}

// advance gives on what is over.
func (a *assembler) advance(now int64) {
	for a.front < len(a.queue) && a.queue[a.front].over(now) {
		a.give()
	}
}

// give takes the message at the front away.
func (a *assembler) give() {
	o := a.queue[a.front]
	a.queue[a.front] = nil
	a.front++
	if a.front == len(a.queue) {
		a.queue, a.front = a.queue[:0], 0
	} else if a.front > 1024 && a.front > len(a.queue)/2 {
		a.queue = a.queue[:copy(a.queue, a.queue[a.front:])]
		a.front = 0
	}
	if o.waiting {
		a.finish(o)
	} else {
		o.closed = true
		if a.groups[o.key] == o {
			delete(a.groups, o.key)
		}
	}
	if len(o.recipients) > 0 {
		a.emit(o)
	}
	if cap(o.recipients) <= mostReused && cap(o.text) <= mostReused*maxAddress {
		a.free = append(a.free, o)
	}
}

// flush gives on everything: the logs have ended.
func (a *assembler) flush() {
	for a.front < len(a.queue) {
		a.give()
	}
}

// domainOf is what follows the last '@', or "".
func domainOf(address []byte) []byte {
	return address[bytes.LastIndexByte(address, '@')+1:]
}
