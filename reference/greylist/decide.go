package greylist

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"strings"
	"time"
)

// MaxAddress is the longest sender or recipient in bytes. Postgrey 1.37 cuts
// longer ones; here they are refused.
const MaxAddress = 512

// Policy is what an operator may choose, in whole seconds.
type Policy struct {
	Delay       time.Duration // a triplet passes from here on, exactly here too
	RetryWindow time.Duration // a first retry later than this counts as new
}

// DefaultPolicy is Postgrey's: --delay=300 --retry-window=2. It is also that of
// the procedure greylist_check.
func DefaultPolicy() Policy {
	return Policy{Delay: 300 * time.Second, RetryWindow: 48 * time.Hour}
}

// State is what is known of one triplet. The zero value is a triplet that was
// never seen.
type State struct {
	First, Last time.Time // whole seconds
}

// Decide is the decision model: the answer to one request and what is known of
// its triplet afterwards. It follows Postgrey 1.37 (smtpd_access_policy), which
// writes the new state at every request, also when nothing but Last changes,
// and which lets a triplet that has passed once pass for ever.
func Decide(s State, r Request, p Policy) (Answer, State) {
	now := r.Now.Truncate(time.Second)
	verdict, first := Early, s.First
	switch {
	case s.First.IsZero(),
		s.Last.Sub(s.First) < p.Delay && now.Sub(s.First) > p.RetryWindow:
		verdict, first = New, now
	case first.After(now): // the clock of another MTA, or one set back
		first = now
	}
	wait := p.Delay - now.Sub(first)
	if wait <= 0 {
		verdict, wait = Pass, 0
	}
	return Answer{Verdict: verdict, Wait: wait}, State{First: first, Last: now}
}

// Key is what a triplet is stored under.
type Key [16]byte

// KeyOf returns the key of a triplet: the first half of the SHA-256 of
// Postgrey's key, "network/sender/recipient" in lower case, the network being a
// /24 or a /64 in hexadecimal. As in Postgrey only ASCII letters are lowered,
// and all IPv4-mapped addresses share one /64.
func KeyOf(client netip.Addr, sender, recipient string) Key {
	network := client.AsSlice()
	if client.Is4() {
		network = network[:3]
	} else {
		network = network[:8]
	}
	text := hex.AppendEncode(nil, network)
	text = append(append(text, '/'), sender...)
	text = append(append(text, '/'), recipient...)
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			text[i] = c + 'a' - 'A'
		}
	}
	sum := sha256.Sum256(text)
	return Key(sum[:len(Key{})])
}

// Validate says what keeps a request from being asked; the error wraps
// [fs.ErrInvalid]. Any byte may stand in an address but control characters,
// which SMTP cannot carry there (RFC 5321 section 4.1.2).
func (r Request) Validate() error {
	if err := validTriplet(r.Client, r.Sender, r.Recipient); err != nil {
		return err
	}
	return validTime("time", r.Now)
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r Row) Validate() error {
	if err := validTriplet(r.Client, r.Sender, r.Recipient); err != nil {
		return err
	}
	if err := validTime("first time", r.First); err != nil {
		return err
	}
	return validTime("last time", r.Last)
}

func validTriplet(client netip.Addr, sender, recipient string) error {
	if !client.IsValid() || client.Zone() != "" {
		return fmt.Errorf("client %q must be an IP address without a zone: %w", client, fs.ErrInvalid)
	}
	if err := validAddress("sender", sender); err != nil {
		return err
	}
	return validAddress("recipient", recipient)
}

func validAddress(what, address string) error {
	if len(address) > MaxAddress {
		return fmt.Errorf("%s has %d bytes, at most %d are possible: %w", what, len(address), MaxAddress, fs.ErrInvalid)
	}
	if i := strings.IndexFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%s %q has a control character at byte %d: %w", what, address, i, fs.ErrInvalid)
	}
	return nil
}

// validTime keeps a time within the columns, which count seconds since 1970 in
// 32 bits.
func validTime(what string, t time.Time) error {
	if s := t.Unix(); s < 0 || s > math.MaxUint32 {
		return fmt.Errorf("%s %s must be between 1970 and 2106: %w", what, t.UTC().Format(time.RFC3339), fs.ErrInvalid)
	}
	return nil
}
