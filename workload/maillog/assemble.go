package maillog

import (
	"bytes"
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
)

// told is a recipient of a message.
type told struct {
	address   string
	outcome   outcome
	returning bool
}

// open is a message that is being received.
type open struct {
	first, last int64
	client      netip.Addr
	sender      string
	sent        bool // sender is known
	recipients  []told
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
		if o.recipients[i].address == string(address) {
			return &o.recipients[i]
		}
	}
	return nil
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

	triplets recent[sighting]
	lines    recent[copied]

	emit     func(*open)
	counts   assemblyCounts
	programs uint8 // bits of Format: whose entries there were
	alone    bool  // there are those of one program only, so that none tells what another has told
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

// hash identifies texts under the first bytes given, without regard to case and
// quotes, which programs treat differently.
func (a *assembler) hash(client []byte, texts ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(a.seed)
	_, _ = h.Write(client)
	var buffer [64]byte
	for _, text := range texts {
		lower := buffer[:0]
		for _, c := range text {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			} else if c == '"' {
				continue
			}
			if len(lower) == cap(lower) {
				_, _ = h.Write(lower)
				lower = lower[:0]
			}
			lower = append(lower, c)
		}
		lower = append(lower, 0)
		_, _ = h.Write(lower)
	}
	return h.Sum64()
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
			o.sender, o.sent = string(e.sender), true
			for _, r := range e.recipients {
				if had := o.find(r); had != nil {
					had.outcome = e.outcome
				} else if len(o.recipients) < maxRecipients {
					o.recipients = append(o.recipients, told{address: string(r), outcome: e.outcome})
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
		o := &open{first: e.at, last: e.at, client: e.client, program: e.program, key: e.message, waiting: true}
		if e.program == Exim {
			o.sender, o.sent = string(e.sender), true
		}
		a.ids[e.message] = o
		a.enqueue(o)
	case sender:
		if o := a.ids[e.message]; o != nil {
			o.sender, o.sent = string(e.sender), true
		}
	case recipient:
		if o := a.ids[e.message]; o != nil {
			for _, r := range e.recipients {
				if o.find(r) == nil && len(o.recipients) < maxRecipients {
					o.recipients = append(o.recipients, told{address: string(r), outcome: accepted})
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
	address := e.client.As16()
	key := a.hash(address[:], e.sender)
	o := a.groups[key]
	if o != nil && o.over(e.at) {
		o = nil
	}
	for _, r := range e.recipients {
		if a.seen(o, e.at, e.program, e.outcome, address[:], e.sender, r) {
			continue
		}
		// A recipient that comes again is another try.
		if o != nil && (o.find(r) != nil || len(o.recipients) >= maxRecipients) {
			o.closed = true
			o = nil
		}
		if o == nil {
			o = &open{first: e.at, client: e.client, sender: string(e.sender), sent: true, program: e.program, key: key}
			a.groups[key] = o
			a.enqueue(o)
		}
		o.last = e.at
		o.recipients = append(o.recipients, told{string(r), e.outcome, e.returning})
	}
	if e.kind == arrival && o != nil {
		o.closed = true // the message has come; the next is another
	}
}

// seen says whether another program has told of this recipient already.
func (a *assembler) seen(o *open, at int64, program Format, outcome outcome, client, sender, recipient []byte) bool {
	if a.alone {
		return false
	}
	a.triplets.turn(at)
	key := a.hash(client, sender, recipient)
	bit := uint8(1) << program
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
		o.recipients = nil
		return
	}
	address := o.client.As16()
	kept := o.recipients[:0]
	for _, r := range o.recipients {
		if !a.seen(nil, o.first, o.program, r.outcome, address[:], []byte(o.sender), []byte(r.address)) {
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
