package maillog

import (
	"bytes"
	"fmt"
	"net/netip"
)

// Format names the program that wrote a log.
type Format uint8

// The formats. A log of syslog may hold lines of all of them, and Auto takes
// each for what it is.
const (
	Auto Format = iota
	Postgrey
	Exim
	Postfix
)

var formatNames = [...]string{"auto", "postgrey", "exim", "postfix"}

// String is the name that ParseFormat takes.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// ParseFormat knows auto, postgrey, exim and postfix.
func ParseFormat(name string) (Format, error) {
	for i, known := range formatNames {
		if name == known {
			return Format(i), nil
		}
	}
	return Auto, fmt.Errorf("format is %q, must be auto, postgrey, exim or postfix", name)
}

// Kind is what a line turned out to be.
type Kind uint8

// The kinds of lines. Those from KindBackwards on were not used.
const (
	KindPostgrey Kind = iota
	KindEximReject
	KindEximData
	KindEximArrival
	KindEximRecipient
	KindEximOther
	KindPostfixReject
	KindPostfixClient
	KindPostfixSender
	KindPostfixRecipient
	KindPostfixOther
	KindPostgreyOther
	KindOtherProgram
	KindContinued
	KindEmpty
	KindBackwards
	KindUndated
	KindLong
	KindBinary
	KindUnknown
	kinds
	kindLeap // not known yet
)

var kindNames = [kinds]string{
	"Postgrey: triplet and verdict",
	"Exim: recipient deferred or refused",
	"Exim: message refused after DATA",
	"Exim: message accepted",
	"Exim: delivery or end of a message",
	"Exim: nothing to import",
	"Postfix: recipient deferred or refused",
	"Postfix: client of a message",
	"Postfix: sender or end of a message",
	"Postfix: recipient of a message",
	"Postfix: nothing to import",
	"Postgrey: nothing to import",
	"another program's",
	"part of a longer line or message",
	"empty",
	"dated before the lines before it",
	"without a date",
	"longer than 64 KiB",
	"with a zero byte",
	"not understood",
}

// String says it in words.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Understood says that the line was used, or is known to hold nothing of use.
func (k Kind) Understood() bool { return k < KindBackwards }

// outcome is what the server said to a recipient.
type outcome uint8

const (
	accepted outcome = iota
	deferred         // a 4xx code
	refused          // a 5xx code
)

type entryKind uint8

const (
	nothing   entryKind = iota
	attempt             // one or more RCPT commands: client, sender, recipients, outcome
	arrival             // an accepted message: id and client; of Exim also the sender and perhaps recipients
	sender              // of message id
	recipient           // of message id, with its recipients still to come
	done                // message id is complete
)

// entry is what a line says. Its slices are valid until the next line of the
// same file.
type entry struct {
	at         int64 // µs since 1970
	kind       entryKind
	program    Format
	outcome    outcome
	returning  bool // the log says itself that it was not the first try
	own        bool // from our own users or this machine: nobody is asked
	client     netip.Addr
	id, sender []byte
	recipients [][]byte
	message    uint64 // identifies the message that id names
	syslog     bool   // where Exim writes what goes into both its logs twice
	text       uint64 // identifies the line where the same may stand in two logs, else 0
}

func (e *entry) reset() { *e = entry{recipients: e.recipients[:0]} }

// between returns what stands between two marks, the first of each.
func between(b []byte, from, to string) (inner, rest []byte, ok bool) {
	i := bytes.Index(b, []byte(from))
	if i < 0 {
		return nil, b, false
	}
	b = b[i+len(from):]
	j := bytes.Index(b, []byte(to))
	if j < 0 {
		return nil, b, false
	}
	return b[:j], b[j+len(to):], true
}

// firstOf is the first place of any of the marks, which all begin with the same
// byte, or the length.
func firstOf(b []byte, marks ...string) int {
	for i := 0; ; i++ {
		next := bytes.IndexByte(b[i:], marks[0][0])
		if next < 0 {
			return len(b)
		}
		i += next
		for _, m := range marks {
			if hasPrefix(b[i:], m) {
				return i
			}
		}
	}
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// bracketed is the address in the last pair of brackets: names before it are
// the peer's own words and may hold any.
func bracketed(b []byte) (netip.Addr, bool) {
	end := bytes.LastIndexByte(b, ']')
	if end < 0 {
		return netip.Addr{}, false
	}
	begin := bytes.LastIndexByte(b[:end], '[')
	if begin < 0 {
		return netip.Addr{}, false
	}
	return parseClient(b[begin+1 : end])
}

func parseClient(b []byte) (netip.Addr, bool) {
	b = bytes.TrimPrefix(b, []byte("IPv6:"))
	if i := bytes.IndexByte(b, '/'); i >= 0 { // Postgrey with --lookup-by-host: "192.0.2.1/32"
		b = b[:i]
	}
	if len(b) < 2 || len(b) > 45 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(string(b))
	return a.Unmap(), err == nil && a.Zone() == ""
}

// maxAddress is what an address may have: RFC 5321 allows 64 + 1 + 255 bytes.
const maxAddress = 320

// plausible says whether a text may be an address in an envelope.
func plausible(address []byte) bool {
	if len(address) > maxAddress {
		return false
	}
	for _, c := range address {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
