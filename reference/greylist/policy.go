package greylist

import (
	"fmt"
	"io/fs"
	"math"
	"time"
)

// Profile is which version of Postgrey is followed.
type Profile int

// The profiles.
const (
	// Postgrey137 is Postgrey 1.37, the last one.
	Postgrey137 Profile = 137
	// Postgrey131 is Postgrey 1.31 of 2007-09-06, that of the talk's time: a
	// client whose name holds the last two numbers of its address counts by its
	// address (a dial-up pool), IPv6 clients always do, BATV tags make different
	// senders, and a first time in the future stands.
	Postgrey131 Profile = 131
)

func (p Profile) String() string { return fmt.Sprintf("postgrey-%d.%02d", int(p)/100, int(p)%100) }

// Policy is what an operator may choose. Durations are whole seconds.
type Policy struct {
	Profile     Profile
	Delay       time.Duration // a triplet passes from here on, exactly here too; 1 s to 365 days
	RetryWindow time.Duration // a first retry later than this counts as new; 1 s to 365 days
	MaxAge      time.Duration // what nobody used for longer is forgotten; 1 s to 3650 days
	// AutoWhitelist is how many credits whitelist a client, 0 for never. At most
	// 1000. A client earns one by a triplet that passes for the first time, at
	// most one an hour.
	AutoWhitelist int
	// IPv4Bits and IPv6Bits are the length of the network of which the hosts share
	// their triplets: a multiple of 8, up to 32 and 128.
	IPv4Bits, IPv6Bits int
}

// creditEvery is how often a client may earn a credit.
const creditEvery = 3600 // seconds

// DefaultPolicy is that of Postgrey 1.37 without options. It is also that of the
// procedure greylist_check as it is shipped.
func DefaultPolicy() Policy {
	const day = 24 * time.Hour
	return Policy{
		Profile: Postgrey137, Delay: 300 * time.Second, RetryWindow: 2 * day, MaxAge: 35 * day,
		AutoWhitelist: 5, IPv4Bits: 24, IPv6Bits: 64,
	}
}

// Validate names the field that is out of its range; the error wraps
// [fs.ErrInvalid].
func (p Policy) Validate() error {
	const day = 24 * time.Hour
	if p.Profile != Postgrey137 && p.Profile != Postgrey131 {
		return fmt.Errorf("greylist policy: Profile is %d, must be Postgrey137 or Postgrey131: %w", int(p.Profile), fs.ErrInvalid)
	}
	for _, d := range []struct {
		field string
		value time.Duration
		most  time.Duration
	}{{"Delay", p.Delay, 365 * day}, {"RetryWindow", p.RetryWindow, 365 * day}, {"MaxAge", p.MaxAge, 3650 * day}} {
		if d.value < time.Second || d.value > d.most || d.value%time.Second != 0 {
			return fmt.Errorf("greylist policy: %s is %v, must be whole seconds from 1s to %v: %w", d.field, d.value, d.most, fs.ErrInvalid)
		}
	}
	for _, n := range []struct {
		field             string
		value, step, most int
		least             int
	}{
		{"AutoWhitelist", p.AutoWhitelist, 1, 1000, 0},
		{"IPv4Bits", p.IPv4Bits, 8, 32, 8},
		{"IPv6Bits", p.IPv6Bits, 8, 128, 8},
	} {
		if n.value < n.least || n.value > n.most || n.value%n.step != 0 {
			return fmt.Errorf("greylist policy: %s is %d, must be %d to %d in steps of %d: %w", n.field, n.value, n.least, n.most, n.step, fs.ErrInvalid)
		}
	}
	return nil
}

// Constants are the policy as the procedures declare it (see
// reference/schema/greylist.sql).
func (p Policy) Constants() map[string]int64 {
	return map[string]int64{
		"profile": int64(p.Profile), "delay_s": seconds(p.Delay), "retry_window_s": seconds(p.RetryWindow),
		"max_age_s": seconds(p.MaxAge), "auto_credits": int64(p.AutoWhitelist),
		"ipv4_bytes": int64(p.IPv4Bits / 8), "ipv6_bytes": int64(p.IPv6Bits / 8),
	}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// validTime keeps a time within the columns, which count seconds since 1970 in
// 32 bits.
func validTime(what string, t time.Time) error {
	if s := t.Unix(); s < 0 || s > math.MaxUint32 {
		return fmt.Errorf("%s %s must be between 1970 and 2106: %w", what, t.UTC().Format(time.RFC3339), fs.ErrInvalid)
	}
	return nil
}
