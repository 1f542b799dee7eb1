package greylist

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"
)

// The longest names in bytes. Postgrey 1.37 cuts at 512; here longer ones are
// refused.
const (
	MaxAddress    = 512
	MaxClientName = 255 // RFC 1035, section 2.3.4
)

// State is what is stored of a triplet or a client. The zero value is one that
// was never seen.
type State struct {
	Seen        bool
	First, Last int64 // seconds since 1970; for a client, when it earned credits
	Credits     int64 // of a client; 0 for a triplet
}

// Decide is the decision model: the answer to a request that no whitelist
// answers, and what is stored of its triplet and its client afterwards. It
// follows Postgrey (smtpd_access_policy), which writes the triplet at every
// request, also when nothing but its last time changes, lets a triplet that has
// passed once pass for ever, and stores nothing of triplets of clients that are
// whitelisted.
func (p Policy) Decide(triplet, client State, now int64) (answer Answer, newTriplet, newClient State) {
	if p.AutoWhitelist > 0 && client.Seen && client.Credits >= int64(p.AutoWhitelist) {
		if now >= client.Last+creditEvery || client.Last > now {
			client.Credits++
			client.Last = now
		}
		return Answer{Verdict: AutoWhitelisted}, triplet, client
	}
	delay, passedBefore := seconds(p.Delay), false
	switch {
	case !triplet.Seen:
		triplet.First = now
	case triplet.Last-triplet.First >= delay:
		passedBefore = true
	case now-triplet.First > seconds(p.RetryWindow):
		triplet.First = now
	}
	if triplet.First > now && p.Profile >= Postgrey137 { // the clock of another MTA, or one set back
		triplet.First = now
	}
	triplet.Seen, triplet.Last = true, now

	waited := now - triplet.First
	switch {
	case waited < delay && waited == 0:
		return Answer{Verdict: New, Wait: p.Delay}, triplet, client
	case waited < delay:
		return Answer{Verdict: Early, Wait: time.Duration(delay-waited) * time.Second}, triplet, client
	case passedBefore:
		return Answer{Verdict: Pass}, triplet, client
	}
	if p.AutoWhitelist > 0 && (!client.Seen || now >= client.Last+creditEvery) {
		if !client.Seen {
			client.Seen, client.First = true, now
		}
		client.Credits++
		client.Last = now
	}
	return Answer{Verdict: Pass, Delayed: time.Duration(waited) * time.Second}, triplet, client
}

// Expired says whether Postgrey's nightly cleanup forgets a row: a triplet that
// did not pass within the retry window, counted from when it was last seen, or
// what nobody used for MaxAge.
func (p Policy) Expired(s State, now int64) bool {
	if now-s.Last > seconds(p.MaxAge) {
		return true
	}
	return s.Credits == 0 && s.Last-s.First < seconds(p.Delay) && now-s.Last > seconds(p.RetryWindow)
}

// Validate says what keeps a request from being asked; the error wraps
// [fs.ErrInvalid]. Any byte may stand in a name but control characters, which
// SMTP cannot carry there (RFC 5321 section 4.1.2).
func (r Request) Validate() error {
	if err := validTriplet(r.Client, r.ClientName, r.Sender, r.Recipient); err != nil {
		return err
	}
	return validTime("time", r.Now)
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r Row) Validate() error {
	if err := validTriplet(r.Client, r.ClientName, r.Sender, r.Recipient); err != nil {
		return err
	}
	return validTimes(r.First, r.Last)
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r ClientRow) Validate() error {
	if err := validClient(r.Client); err != nil {
		return err
	}
	if r.Credits < 1 || r.Credits > 1<<31-1 {
		return fmt.Errorf("client %s has %d credits, 1 to %d are possible: %w", r.Client, r.Credits, 1<<31-1, fs.ErrInvalid)
	}
	return validTimes(r.First, r.Last)
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r Stored) Validate() error {
	if !r.State.Seen || r.State.Credits < 0 || r.State.Credits > 1<<31-1 {
		return fmt.Errorf("row %x of the greylist: %+v is nothing that can be stored: %w", r.Key, r.State, fs.ErrInvalid)
	}
	return validTimes(time.Unix(r.State.First, 0), time.Unix(r.State.Last, 0))
}

func validTimes(first, last time.Time) error {
	if err := validTime("first time", first); err != nil {
		return err
	}
	return validTime("last time", last)
}

func validClient(client netip.Addr) error {
	if !client.IsValid() || client.Zone() != "" {
		return fmt.Errorf("client %q must be an IP address without a zone: %w", client, fs.ErrInvalid)
	}
	return nil
}

func validTriplet(client netip.Addr, clientName, sender, recipient string) error {
	if err := validClient(client); err != nil {
		return err
	}
	if err := validName("client name", clientName, MaxClientName); err != nil {
		return err
	}
	if err := validName("sender", sender, MaxAddress); err != nil {
		return err
	}
	return validName("recipient", recipient, MaxAddress)
}

func validName(what, name string, most int) error {
	if len(name) > most {
		return fmt.Errorf("%s has %d bytes, at most %d are possible: %w", what, len(name), most, fs.ErrInvalid)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%s %q has a control character at byte %d: %w", what, name, i, fs.ErrInvalid)
	}
	return nil
}
