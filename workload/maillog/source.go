package maillog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// Bounds of what is kept of one file.
const (
	sampleLength = 200     // bytes of a line that is shown
	maxChunked   = 256     // messages of Exim's that syslog has cut and that are not whole yet
	maxEnvelope  = 1 << 10 // recipients of a refused message in the reject log
	judgeAfter   = 1000    // lines that may be strange before the whole file is
)

// source reads one file into entries, in the order of their instants.
type source struct {
	lines  *lineReader
	format Format
	clock  clock
	seed   maphash.Seed // of entry.text; the same for all files
	tally  *tally
	index  int // of the file

	entry entry

	again   []byte // a line to read once more, after what was in front of it
	leap    stamp  // a date that is being judged
	judged  bool   // it was found right
	refusal refusal
	chunks  map[string][]byte // by Exim's process

	ended bool
}

// refusal is a message that Exim refused after DATA, whose envelope follows in
// the reject log.
type refusal struct {
	active, inTo bool
	entry        entry
	recipients   [][]byte
}

func newSource(name string, index int, o Options, seed maphash.Seed, t *tally) (*source, error) {
	lines, err := openLines(name)
	if err != nil {
		return nil, err
	}
	s := &source{lines: lines, format: o.Format, seed: seed, tally: t, index: index}
	s.restart(o)
	return s, nil
}

func (s *source) restart(o Options) {
	s.clock = clock{zone: o.Zone, year: o.Year}
	s.again, s.ended = nil, false
	s.refusal = refusal{}
	s.chunks = map[string][]byte{}
}

func (s *source) rewind(o Options) error {
	s.restart(o)
	return s.lines.rewind()
}

// next reads until a line has something to say. It returns io.EOF at the end.
func (s *source) next() error {
	for !s.ended {
		line, long := s.again, false
		s.again = nil
		if line == nil {
			var err error
			if line, long, err = s.lines.next(); errors.Is(err, io.EOF) {
				s.ended = true
				if s.refusal.active && s.endRefusal() {
					return nil
				}
				break
			} else if err != nil {
				return err
			}
		}
		kind := s.read(line, long)
		if kind == kindLeap {
			line = bytes.Clone(line) // a look at the next line moves this one
			if kind = KindBackwards; s.astray() {
				s.tally.step(s, stepBackwards)
			} else {
				s.judged = true
				kind = s.read(line, long)
				s.judged = false
			}
		}
		if s.again != nil {
			return nil // the refusal that ended where this line begins
		}
		if err := s.tally.count(s, kind, line); err != nil {
			return err
		}
		if s.entry.kind != nothing && kind.Understood() {
			return nil
		}
	}
	return io.EOF
}

// read takes a line apart.
func (s *source) read(line []byte, long bool) Kind {
	s.entry.reset()
	switch {
	case long:
		return KindLong
	case len(bytes.TrimSpace(line)) == 0:
		return KindEmpty
	case bytes.IndexByte(line, 0) >= 0:
		return KindBinary
	}
	stamped, rest, exim, ok := parseStamp(line)
	if !ok {
		return s.undated(line)
	}
	if s.refusal.active {
		if s.endRefusal() {
			s.again = line
			return KindContinued
		}
	}
	if len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	text := rest
	var program, process, host []byte
	if !exim {
		if text, program, process, host, ok = syslogHeader(rest); !ok {
			return KindUnknown
		}
	}
	eximLine := exim || bytes.HasPrefix(program, []byte("exim"))
	if eximLine && !exim {
		if text, ok = s.assemble(text, process); !ok {
			return KindContinued
		}
		// Exim's own date has a year; syslog's may have none.
		if own, after, is, ok := parseStamp(text); ok && is {
			stamped, text = own, bytes.TrimPrefix(after, []byte(" "))
		}
	}
	at, did, leaps := s.instant(stamped)
	if leaps {
		return kindLeap
	}
	switch did {
	case stepBackwards:
		return KindBackwards
	case stepNoDate:
		return KindUndated
	}
	s.entry.at = at
	kind := s.parse(text, program, eximLine)
	s.entry.syslog = !exim
	if len(s.entry.id) > 0 {
		s.entry.message = s.messageKey(host)
	}
	if !kind.Understood() {
		s.entry.kind = nothing
	}
	return kind
}

// instant asks the clock. leaps says that the date leaps a day ahead, which is to
// be judged first; the clock is as it was then.
func (s *source) instant(stamped stamp) (at int64, did step, leaps bool) {
	if s.clock.year == 0 && stamped.year == 0 {
		s.clock.year = firstYear(stamped, s.lines.latest)
	} else if stamped.year != 0 && !s.clock.started {
		s.clock.year = stamped.year
	}
	before := s.clock
	at, did = s.clock.at(stamped)
	if before.started && at-before.last > farAhead && !s.judged {
		s.clock, s.leap = before, stamped
		return at, did, true
	}
	s.tally.step(s, did)
	return at, did, false
}

// astray judges a date that leaps ahead: it is wrong if the line after it goes
// back to where the log was.
func (s *source) astray() bool {
	next, ok := stampOf(s.lines.peek())
	if !ok {
		return false
	}
	onward, back := s.clock, s.clock
	onward.at(s.leap)
	_, goesOn := onward.at(next)
	_, returns := back.at(next)
	return goesOn == stepBackwards && returns != stepBackwards
}

// stampOf is the date that counts in a line: Exim's own where syslog has put
// another before it.
func stampOf(line []byte) (stamp, bool) {
	s, rest, exim, ok := parseStamp(line)
	if !ok || exim {
		return s, ok
	}
	if text, program, _, _, ok := syslogHeader(bytes.TrimPrefix(rest, []byte(" "))); ok && bytes.HasPrefix(program, []byte("exim")) {
		if own, _, is, ok := parseStamp(text); ok && is {
			return own, true
		}
	}
	return s, true
}

// parse gives the text to the program's own reader.
func (s *source) parse(text, program []byte, exim bool) Kind {
	wants := func(f Format) bool { return s.format == Auto || s.format == f }
	switch {
	case exim:
		if !wants(Exim) {
			return KindOtherProgram
		}
		return s.exim(text)
	case bytes.HasPrefix(text, []byte("action=")), bytes.Contains(program, []byte("postgrey")):
		if !wants(Postgrey) {
			return KindOtherProgram
		}
		kind := parsePostgrey(text, &s.entry)
		s.check()
		return kind
	case bytes.HasPrefix(program, []byte("postfix")) || bytes.IndexByte(program, '/') > 0:
		if !wants(Postfix) {
			return KindOtherProgram
		}
		kind := parsePostfix(program[bytes.LastIndexByte(program, '/')+1:], text, &s.entry)
		s.check()
		return kind
	}
	return KindOtherProgram
}

// check drops an entry whose addresses cannot be any.
func (s *source) check() {
	e := &s.entry
	ok := plausible(e.sender)
	for _, r := range e.recipients {
		ok = ok && len(r) > 0 && plausible(r)
	}
	if !ok && e.kind != nothing {
		e.kind = nothing
		s.tally.implausible()
	}
}

func (s *source) exim(text []byte) Kind {
	text, envelope, _ := bytes.Cut(text, []byte("\n"))
	kind := parseExim(text, s.seed, &s.entry)
	s.check()
	if kind == KindEximData && s.entry.kind == attempt {
		// The envelope follows, if this is the reject log.
		s.refusal.hold(&s.entry)
		s.entry.reset()
		if len(envelope) > 0 {
			for line := range bytes.Lines(envelope) {
				s.refusal.envelope(bytes.TrimSuffix(line, []byte("\n")))
			}
			s.endRefusal()
		}
	}
	return kind
}

// undated is a line without a date: a part of what was before it, or Postgrey's
// where something else writes the log's dates.
func (s *source) undated(line []byte) Kind {
	if s.refusal.active {
		s.refusal.envelope(line)
		return KindContinued
	}
	// The reject log ends a message with a row of dashes.
	if len(line) > 20 && len(bytes.Trim(line, "-")) == 0 {
		return KindContinued
	}
	if s.clock.started && bytes.HasPrefix(line, []byte("action=")) && (s.format == Auto || s.format == Postgrey) {
		s.entry.at = s.clock.last
		s.tally.undated++
		kind := parsePostgrey(line, &s.entry)
		s.check()
		return kind
	}
	return KindUndated
}

// hold keeps a copy of the refusal's line.
func (r *refusal) hold(e *entry) {
	r.active, r.inTo, r.recipients = true, false, r.recipients[:0]
	r.entry = *e
	r.entry.recipients = nil
	r.entry.sender = bytes.Clone(e.sender)
	r.entry.id = bytes.Clone(e.id)
}

// envelope reads "Envelope-to: <a>", and "    <b>" below it.
func (r *refusal) envelope(line []byte) {
	text, is := bytes.CutPrefix(line, []byte("Envelope-to: "))
	if !is {
		if !r.inTo || !bytes.HasPrefix(line, []byte("    <")) {
			r.inTo = false
			return
		}
		text = bytes.TrimLeft(line, " ")
	}
	r.inTo = true
	if len(text) > 2 && text[0] == '<' && text[len(text)-1] == '>' && len(r.recipients) < maxEnvelope && plausible(text[1:len(text)-1]) {
		r.recipients = append(r.recipients, bytes.Clone(text[1:len(text)-1]))
	}
}

// endRefusal makes the refusal the entry. The main log names no recipients, and
// what is refused there is none.
func (s *source) endRefusal() bool {
	s.refusal.active = false
	if len(s.refusal.recipients) == 0 {
		s.tally.refusedUnknown++
		return false
	}
	recipients := append(s.entry.recipients[:0], s.refusal.recipients...)
	s.entry = s.refusal.entry
	s.entry.recipients = recipients
	// An instant never goes back: other lines may have come between.
	s.entry.at = max(s.entry.at, s.clock.last)
	return true
}

// syslogHeader takes "host program[process]: " or RFC 5424's "host program
// process id - " from the front.
func syslogHeader(b []byte) (text, program, process, host []byte, ok bool) {
	host, b, ok = bytes.Cut(b, []byte(" "))
	if !ok {
		return b, nil, nil, nil, false
	}
	b = bytes.TrimLeft(b, " ")
	tag, rest, ok := bytes.Cut(b, []byte(" "))
	if !ok {
		rest = nil
	}
	if len(tag) > 0 && tag[len(tag)-1] == ':' {
		program = tag[:len(tag)-1]
		if open := bytes.IndexByte(program, '['); open >= 0 {
			program, process = program[:open], bytes.TrimSuffix(program[open+1:], []byte("]"))
		}
		// Solaris: "postfix/smtpd[606]: [ID 197553 mail.info] NOQUEUE: ..."
		if bytes.HasPrefix(rest, []byte("[ID ")) {
			if _, after, is := bytes.Cut(rest, []byte("] ")); is {
				rest = after
			}
		}
		return rest, program, process, host, true
	}
	if bytes.HasPrefix(b, []byte("last message repeated ")) {
		return b, nil, nil, host, true
	}
	var messageID []byte
	program = tag
	if process, rest, ok = bytes.Cut(rest, []byte(" ")); !ok {
		return b, nil, nil, nil, false
	}
	if messageID, rest, ok = bytes.Cut(rest, []byte(" ")); !ok || len(messageID) == 0 {
		return b, nil, nil, nil, false
	}
	switch { // structured data
	case bytes.HasPrefix(rest, []byte("- ")):
		return bytes.TrimPrefix(rest[2:], []byte("\xef\xbb\xbf")), program, process, host, true
	case bytes.HasPrefix(rest, []byte("[")):
		if at := bytes.Index(rest, []byte("] ")); at > 0 {
			return bytes.TrimPrefix(rest[at+2:], []byte("\xef\xbb\xbf")), program, process, host, true
		}
	}
	return b, nil, nil, nil, false
}

// assemble puts together what Exim cut to fit syslog: "[1/3] " and so on, with
// "\" instead of "/" where a line of several ended. ok says that the text is
// whole.
func (s *source) assemble(text, process []byte) (whole []byte, ok bool) {
	n, m, separator, rest, chunked := chunk(text)
	if !chunked {
		return text, true
	}
	if n == 1 {
		if len(s.chunks) >= maxChunked {
			clear(s.chunks) // they were never finished
			s.tally.unfinished += maxChunked
		}
		s.chunks[string(process)] = nil
	}
	before, begun := s.chunks[string(process)]
	if !begun || len(before)+len(rest) > maxLine {
		delete(s.chunks, string(process))
		s.tally.unfinished++
		return nil, false
	}
	before = append(before, bytes.ReplaceAll(rest, []byte("#011"), []byte("\t"))...)
	if n < m {
		if separator == '\\' {
			before = append(before, '\n')
		}
		s.chunks[string(process)] = before
		return nil, false
	}
	delete(s.chunks, string(process))
	return before, true
}

func chunk(b []byte) (n, m int, separator byte, rest []byte, ok bool) {
	if len(b) < 6 || b[0] != '[' {
		return 0, 0, 0, b, false
	}
	i := 1
	for ; i < len(b) && i < 5 && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + int(b[i]-'0')
	}
	if i == 1 || i == len(b) || b[i] != '/' && b[i] != '\\' {
		return 0, 0, 0, b, false
	}
	separator = b[i]
	start := i + 1
	for i = start; i < len(b) && i < start+4 && b[i] >= '0' && b[i] <= '9'; i++ {
		m = m*10 + int(b[i]-'0')
	}
	if i == start || i+1 >= len(b) || b[i] != ']' || b[i+1] != ' ' || n < 1 || n > m {
		return 0, 0, 0, b, false
	}
	return n, m, separator, b[i+2:], true
}

// wrong says that the file is in another format than it was said to be in.
func (s *source) wrong(t *fileTally) error {
	e := &InputError{File: s.lines.name, Line: t.firstLine}
	most := Auto
	for _, f := range [...]Format{Postgrey, Exim, Postfix} {
		if t.looks[f] > t.looks[most] {
			most = f
		}
	}
	what := "a line of Postgrey, Exim or Postfix"
	if s.format != Auto {
		what = "one of " + s.format.title() + "'s"
	}
	e.Msg = fmt.Sprintf("none of the first %d lines is %s; the first is: %s", t.strange, what, t.first)
	if s.format != Auto && most != Auto && most != s.format {
		e.Msg += fmt.Sprintf("; it looks like a log of %s's: give --format %s, or auto", most.title(), most)
	}
	return e
}

func (f Format) title() string {
	return [...]string{"any program", "Postgrey", "Exim", "Postfix"}[f]
}

// looksLike guesses the program of a line that was not asked for.
func looksLike(line []byte) Format {
	switch {
	case bytes.Contains(line, []byte("postgrey")), bytes.Contains(line, []byte("action=")):
		return Postgrey
	case bytes.Contains(line, []byte("postfix/")):
		return Postfix
	}
	if _, _, exim, ok := parseStamp(line); ok && exim || bytes.Contains(line, []byte(" exim[")) {
		return Exim
	}
	return Auto
}

// messageKey tells messages apart. Postfix's queue ids are unique on one host
// only.
func (s *source) messageKey(host []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(s.seed)
	_, _ = h.Write(host)
	_ = h.WriteByte(byte(s.entry.program))
	_, _ = h.Write(s.entry.id)
	return h.Sum64()
}
