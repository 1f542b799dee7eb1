package greylist_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
)

func at(second int64) time.Time { return time.Unix(second, 0).UTC() }

func TestDecide(t *testing.T) {
	const day = 86400
	never := greylist.State{}
	seen := func(first, last int64) greylist.State { return greylist.State{First: at(first), Last: at(last)} }
	for _, c := range []struct {
		sentence string
		state    greylist.State
		now      time.Time
		verdict  greylist.Verdict
		wait     int64
		after    greylist.State
	}{
		{"a triplet that was never seen is new", never, at(1000), greylist.New, 300, seen(1000, 1000)},
		{"at once is early", seen(1000, 1000), at(1000), greylist.Early, 300, seen(1000, 1000)},
		{"a second too soon is early, and counts as seen", seen(1000, 1000), at(1299), greylist.Early, 1, seen(1000, 1299)},
		{"exactly the delay passes", seen(1000, 1000), at(1300), greylist.Pass, 0, seen(1000, 1300)},
		{"parts of a second do not count", seen(1000, 1000), at(1299).Add(999 * time.Millisecond), greylist.Early, 1, seen(1000, 1299)},
		{"an early retry does not start the delay anew", seen(1000, 1299), at(1300), greylist.Pass, 0, seen(1000, 1300)},
		{"exactly the retry window passes", seen(1000, 1000), at(1000 + 2*day), greylist.Pass, 0, seen(1000, 1000+2*day)},
		{"after the retry window it is new", seen(1000, 1000), at(1001 + 2*day), greylist.New, 300, seen(1001+2*day, 1001+2*day)},
		{"the retry window counts from the first time", seen(1000, 1299), at(1001 + 2*day), greylist.New, 300, seen(1001+2*day, 1001+2*day)},
		{"what has passed passes after a year", seen(1000, 1300), at(1000 + 365*day), greylist.Pass, 0, seen(1000, 1000+365*day)},
		{"a first time in the future becomes now", seen(1000, 1000), at(900), greylist.Early, 300, seen(900, 900)},
		{"a clock set back makes what has passed wait again", seen(1000, 1300), at(1100), greylist.Early, 200, seen(1000, 1100)},
	} {
		answer, after := greylist.Decide(c.state, greylist.Request{Now: c.now}, greylist.DefaultPolicy())
		want := greylist.Answer{Verdict: c.verdict, Wait: time.Duration(c.wait) * time.Second}
		if answer != want || !after.First.Equal(c.after.First) || !after.Last.Equal(c.after.Last) {
			t.Errorf("%s: got %v and %v, want %v and %v", c.sentence, answer, after, want, c.after)
		}
	}
	answer, _ := greylist.Decide(never, greylist.Request{Now: at(1000)}, greylist.Policy{})
	if answer.Verdict != greylist.Pass {
		t.Errorf("without a delay everything passes: got %v", answer)
	}
}

func TestKeyOf(t *testing.T) {
	base := greylist.KeyOf(netip.MustParseAddr("192.0.2.7"), "s@example.org", "r@example.edu")
	// printf 'c00002/s@example.org/r@example.edu' | sha256sum | head -c 32
	if got, want := hex.EncodeToString(base[:]), "948940febd3f3b39c5fa64a76f9fb352"; got != want {
		t.Errorf("the key has changed: got %s, want %s; stored triplets would be lost", got, want)
	}
	for _, c := range []struct {
		sentence                  string
		client, sender, recipient string
		same                      bool
	}{
		{"hosts of a /24 share their triplets", "192.0.2.250", "s@example.org", "r@example.edu", true},
		{"case does not matter", "192.0.2.7", "S@Example.ORG", "R@Example.EDU", true},
		{"another /24 does", "192.0.3.7", "s@example.org", "r@example.edu", false},
		{"another sender does", "192.0.2.7", "", "r@example.edu", false},
		{"another recipient does", "192.0.2.7", "s@example.org", "r+x@example.edu", false},
		{"an IPv6 peer is another", "c000:200::", "s@example.org", "r@example.edu", false},
	} {
		got := greylist.KeyOf(netip.MustParseAddr(c.client), c.sender, c.recipient)
		if (got == base) != c.same {
			t.Errorf("%s, but it is otherwise", c.sentence)
		}
	}
	six := func(client string) greylist.Key { return greylist.KeyOf(netip.MustParseAddr(client), "", "r") }
	if six("2001:db8:1:2:3::1") != six("2001:db8:1:2:ffff::") || six("2001:db8:1:2::1") == six("2001:db8:1:3::1") {
		t.Error("hosts of a /64, and only they, should share their triplets")
	}
	if greylist.KeyOf(netip.MustParseAddr("192.0.2.7"), "\xc9", "r") == greylist.KeyOf(netip.MustParseAddr("192.0.2.7"), "\xe9", "r") {
		t.Error("only ASCII is lowered, but bytes beyond it are too")
	}
}

func TestValidate(t *testing.T) {
	good := greylist.Request{Client: netip.MustParseAddr("192.0.2.1"), Recipient: "r@example.edu", Now: at(0)}
	for _, c := range []struct {
		sentence string
		change   func(*greylist.Request)
		valid    bool
	}{
		{"a null sender is a sender", func(*greylist.Request) {}, true},
		{"any byte may stand in an address", func(r *greylist.Request) { r.Sender = "o'br\\i\"en\xff\x80@é" }, true},
		{"512 bytes fit", func(r *greylist.Request) { r.Sender = strings.Repeat("s", 512) }, true},
		{"513 bytes do not", func(r *greylist.Request) { r.Sender = strings.Repeat("s", 513) }, false},
		{"nor in the recipient", func(r *greylist.Request) { r.Recipient = strings.Repeat("s", 513) }, false},
		{"NUL is refused", func(r *greylist.Request) { r.Sender = "a\x00b" }, false},
		{"a line end is refused", func(r *greylist.Request) { r.Recipient = "a\r\nb" }, false},
		{"no client is refused", func(r *greylist.Request) { r.Client = netip.Addr{} }, false},
		{"a zone is refused", func(r *greylist.Request) { r.Client = netip.MustParseAddr("fe80::1%eth0") }, false},
		{"2106 still counts", func(r *greylist.Request) { r.Now = at(1<<32 - 1) }, true},
		{"later does not", func(r *greylist.Request) { r.Now = at(1 << 32) }, false},
		{"nor does a time before 1970", func(r *greylist.Request) { r.Now = at(-1) }, false},
	} {
		r := good
		c.change(&r)
		if err := r.Validate(); (err == nil) != c.valid || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: got %v", c.sentence, err)
		}
	}
}
