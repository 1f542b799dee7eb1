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

func TestDecide(t *testing.T) {
	const day = 86400
	never := greylist.State{}
	seen := func(first, last int64) greylist.State { return greylist.State{Seen: true, First: first, Last: last} }
	earned := func(credits, last int64) greylist.State {
		return greylist.State{Seen: true, First: 7, Last: last, Credits: credits}
	}
	first := func(at int64) greylist.State { return greylist.State{Seen: true, First: at, Last: at, Credits: 1} }
	for _, c := range []struct {
		sentence        string
		triplet, client greylist.State
		now             int64
		want            greylist.Answer
		after           greylist.State // of the triplet
		clientAfter     greylist.State
	}{
		{"a triplet that was never seen is new", never, never, 1000, wait(greylist.New, 300), seen(1000, 1000), never},
		{"in the same second it still is", seen(1000, 1000), never, 1000, wait(greylist.New, 300), seen(1000, 1000), never},
		{"a second too soon is early, and counts as seen", seen(1000, 1000), never, 1299, wait(greylist.Early, 1), seen(1000, 1299), never},
		{"exactly the delay passes, and earns a credit", seen(1000, 1000), never, 1300, passed(300), seen(1000, 1300), first(1300)},
		{"an early retry does not start the delay anew", seen(1000, 1299), never, 1301, passed(301), seen(1000, 1301), first(1301)},
		{"a triplet that passes again earns nothing", seen(1000, 1300), never, 9000, passed(0), seen(1000, 9000), never},
		{"exactly the retry window passes", seen(1000, 1000), never, 1000 + 2*day, passed(2 * day), seen(1000, 1000+2*day), first(1000 + 2*day)},
		{"after the retry window it is new", seen(1000, 1000), never, 1001 + 2*day, wait(greylist.New, 300), seen(1001+2*day, 1001+2*day), never},
		{"the retry window counts from the first time", seen(1000, 1299), never, 1001 + 2*day, wait(greylist.New, 300), seen(1001+2*day, 1001+2*day), never},
		{"what has passed passes after a year", seen(1000, 1300), never, 1000 + 365*day, passed(0), seen(1000, 1000+365*day), never},
		{"a first time in the future becomes now", seen(1000, 1000), never, 900, wait(greylist.New, 300), seen(900, 900), never},
		{"a clock set back makes what has passed wait again", seen(1000, 1300), never, 1100, wait(greylist.Early, 200), seen(1000, 1100), never},
		{"an hour after a credit there is another", seen(1000, 1000), earned(3, 1000), 4600, passed(3600), seen(1000, 4600), earned(4, 4600)},
		{"a second before the hour there is none", seen(1000, 1000), earned(3, 1001), 4600, passed(3600), seen(1000, 4600), earned(3, 1001)},
		{"a credit of the future keeps others away", seen(1000, 1000), earned(3, 9000), 1300, passed(300), seen(1000, 1300), earned(3, 9000)},
		{"four credits are not enough", seen(1000, 1000), earned(4, 1000), 1001, wait(greylist.Early, 299), seen(1000, 1001), earned(4, 1000)},
		{"the fifth credit's message itself waited", seen(1000, 1000), earned(4, 1), 9000, passed(8000), seen(1000, 9000), earned(5, 9000)},
		{"five credits whitelist, and nothing of the triplet is stored", never, earned(5, 1000), 1001, greylist.Answer{Verdict: greylist.AutoWhitelisted}, never, earned(5, 1000)},
		{"a whitelisted client is counted once an hour", never, earned(5, 1000), 4600, greylist.Answer{Verdict: greylist.AutoWhitelisted}, never, earned(6, 4600)},
		{"not a second before", never, earned(5, 1000), 4599, greylist.Answer{Verdict: greylist.AutoWhitelisted}, never, earned(5, 1000)},
		{"but at once when its time is in the future", never, earned(5, 1000), 900, greylist.Answer{Verdict: greylist.AutoWhitelisted}, never, earned(6, 900)},
		{"and never forgotten here", seen(1, 1), earned(5, 1000), 1000 + 365*day, greylist.Answer{Verdict: greylist.AutoWhitelisted}, seen(1, 1), earned(6, 1000+365*day)},
	} {
		answer, triplet, client := greylist.DefaultPolicy().Decide(c.triplet, c.client, c.now)
		if answer != c.want || triplet != c.after || client != c.clientAfter {
			t.Errorf("%s: got %v, %v and %v, want %v, %v and %v", c.sentence, answer, triplet, client, c.want, c.after, c.clientAfter)
		}
	}

	off := greylist.DefaultPolicy()
	off.AutoWhitelist = 0
	if a, _, client := off.Decide(seen(1000, 1000), earned(9, 1), 9000); a.Verdict != greylist.Pass || client != earned(9, 1) {
		t.Errorf("without an auto-whitelist credits count and are earned: got %v, %v", a, client)
	}
	old := greylist.DefaultPolicy()
	old.Profile = greylist.Postgrey131
	if a, triplet, _ := old.Decide(seen(1000, 1000), never, 900); a != wait(greylist.Early, 400) || triplet != seen(1000, 900) {
		t.Errorf("Postgrey 1.31 corrected a time in the future: got %v, %v", a, triplet)
	}
}

func wait(v greylist.Verdict, seconds int64) greylist.Answer {
	return greylist.Answer{Verdict: v, Wait: time.Duration(seconds) * time.Second}
}

func passed(delayed int64) greylist.Answer {
	return greylist.Answer{Verdict: greylist.Pass, Delayed: time.Duration(delayed) * time.Second}
}

func TestExpired(t *testing.T) {
	const day = 86400
	for _, c := range []struct {
		sentence string
		row      greylist.State
		now      int64
		want     bool
	}{
		{"a triplet that did not come back is kept for the retry window", greylist.State{First: 0, Last: 0}, 2 * day, false},
		{"and forgotten after it", greylist.State{First: 0, Last: 0}, 2*day + 1, true},
		{"which counts from when it was last seen", greylist.State{First: 0, Last: 299}, 2*day + 299, false},
		{"a triplet that has passed stays for 35 days", greylist.State{First: 0, Last: 300}, 35*day + 300, false},
		{"and no longer", greylist.State{First: 0, Last: 300}, 35*day + 301, true},
		{"so does a client, with one credit too", greylist.State{First: 0, Last: 0, Credits: 1}, 35 * day, false},
		{"and no longer", greylist.State{First: 0, Last: 0, Credits: 9}, 35*day + 1, true},
	} {
		if got := greylist.DefaultPolicy().Expired(c.row, c.now); got != c.want {
			t.Errorf("%s: got %v", c.sentence, got)
		}
	}
}

func TestTripletKey(t *testing.T) {
	new, old := greylist.DefaultPolicy(), greylist.DefaultPolicy()
	old.Profile = greylist.Postgrey131
	host := greylist.DefaultPolicy()
	host.IPv4Bits, host.IPv6Bits = 32, 128
	type triplet struct{ client, name, sender, recipient string }
	key := func(p greylist.Policy, x triplet) greylist.Key {
		return p.TripletKey(netip.MustParseAddr(x.client), x.name, x.sender, x.recipient)
	}
	base := key(new, triplet{"192.0.2.7", "", "s@example.org", "r@example.edu"})
	// printf 'c00002/s@example.org/r@example.edu' | sha256sum | head -c 30
	if got, want := hex.EncodeToString(base[:]), "ff948940febd3f3b39c5fa64a76f9fb3"; got != want {
		t.Errorf("the key has changed: got %s, want %s; stored triplets would be lost", got, want)
	}
	from := func(sender string) triplet { return triplet{"192.0.2.7", "", sender, "r@example.edu"} }
	at := func(client, name string) triplet { return triplet{client, name, "s@example.org", "r@example.edu"} }
	for _, c := range []struct {
		sentence string
		policy   greylist.Policy
		a, b     triplet
		same     bool
	}{
		{"hosts of a /24 share their triplets", new, at("192.0.2.7", ""), at("192.0.2.250", ""), true},
		{"another /24 does not", new, at("192.0.2.7", ""), at("192.0.3.7", ""), false},
		{"by host they do not", host, at("192.0.2.7", ""), at("192.0.2.250", ""), false},
		{"hosts of a /64 share theirs", new, at("2001:db8:1:2:3::1", ""), at("2001:db8:1:2:ffff::", ""), true},
		{"another /64 does not", new, at("2001:db8:1:2::1", ""), at("2001:db8:1:3::1", ""), false},
		{"an IPv4 address in IPv6 is that address", new, at("192.0.2.7", ""), at("::ffff:192.0.2.8", ""), true},
		{"an IPv6 client is another", new, at("192.0.2.7", ""), at("c000:200::", ""), false},
		{"the client's name does not matter", new, at("192.0.2.7", "a"), at("192.0.2.7", "host-2-7.example"), true},
		{"but to 1.31, where it names the address", old, at("192.0.2.7", "a"), at("192.0.2.7", "host-2-7.example"), false},
		{"hosts of a pool do not share triplets there", old, at("192.0.2.7", "p2-7"), at("192.0.2.8", "p2-8"), false},
		{"both numbers must be in the name", old, at("192.0.2.7", "p3-7"), at("192.0.2.8", "p2-9"), true},
		{"nor do IPv6 hosts", old, at("2001:db8::1", ""), at("2001:db8::2", ""), false},
		{"case does not matter", new, from("S@Example.ORG"), from("s@example.org"), true},
		{"beyond ASCII it does", new, from("\xc9"), from("\xe9"), false},
		{"another sender does", new, from(""), from("s@example.org"), false},
		{"another recipient does, with an extension too", new, triplet{"192.0.2.7", "", "s", "r@e"}, triplet{"192.0.2.7", "", "s", "r+x@e"}, false},
		{"a sender's extension does not", new, from("s+x@e"), from("s@e"), true},
		{"nor a number that stands alone", new, from("b-12_3-4.5@e"), from("b-12_3-67.8@e"), true},
		{"a number in a word does", new, from("user1@e"), from("user2@e"), false},
		{"as does one beside a _", new, from("_1@e"), from("_2@e"), false},
		{"a byte beyond ASCII is of no word", new, from("\xe91@e"), from("\xe92@e"), true},
		{"without a domain numbers stay", new, from("b-12"), from("b-13"), false},
		{"numbers of the domain stay", new, from("s@4.e"), from("s@5.e"), false},
		{"a BATV tag does not matter", new, from("prvs=0123456789=s@e"), from("prvs=abcdefghij=s@e"), true},
		{"behind the user either", new, from("prvs=s=0123456789@e"), from("s@e"), true},
		{"two tags: the second one is the user", new, from("prvs=0123456789=abcdefghij@e"), from("abcdefghij@e"), true},
		{"no tag: the second one too", new, from("prvs=a=b@e"), from("b@e"), true},
		{"a tag has small letters", new, from("prvs=user=ABCDEFGHIJ@e"), from("abcdefghij@e"), true},
		{"three fields after prvs= are no BATV", new, from("prvs=0123456789=s=t@e"), from("s=t@e"), false},
		{"empty fields at the end do not count", new, from("prvs=0123456789=s==@e"), from("s@e"), true},
		{"1.31 knows no BATV", old, from("prvs=0123456789=s@e"), from("s@e"), false},
		{"an extension goes after the tag", new, from("prvs=0123456789=s+x@e"), from("s@e"), true},
		{"only the first @ counts", new, from("a+b@c@d"), from("a@c@d"), true},
	} {
		if got := key(c.policy, c.a) == key(c.policy, c.b); got != c.same {
			t.Errorf("%s: %+v and %+v: the same: %v", c.sentence, c.a, c.b, got)
		}
	}
	if k := greylist.ClientKey(netip.MustParseAddr("::ffff:192.0.2.7")); k != greylist.ClientKey(netip.MustParseAddr("192.0.2.7")) {
		t.Error("an IPv4 address in IPv6 is another client")
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, c := range []struct {
		sentence string
		change   func(*greylist.Policy)
		valid    bool
	}{
		{"the default is valid", func(*greylist.Policy) {}, true},
		{"so is the old profile", func(p *greylist.Policy) { p.Profile = greylist.Postgrey131 }, true},
		{"there are two profiles", func(p *greylist.Policy) { p.Profile = 132 }, false},
		{"a delay of 0 would greylist nobody", func(p *greylist.Policy) { p.Delay = 0 }, false},
		{"seconds are whole", func(p *greylist.Policy) { p.RetryWindow = 1500 * time.Millisecond }, false},
		{"what is old is forgotten some day", func(p *greylist.Policy) { p.MaxAge = 3651 * 24 * time.Hour }, false},
		{"no auto-whitelist is a choice", func(p *greylist.Policy) { p.AutoWhitelist = 0 }, true},
		{"fewer credits than none are not", func(p *greylist.Policy) { p.AutoWhitelist = -1 }, false},
		{"by host", func(p *greylist.Policy) { p.IPv4Bits, p.IPv6Bits = 32, 128 }, true},
		{"networks are of whole bytes", func(p *greylist.Policy) { p.IPv4Bits = 25 }, false},
		{"of their address at most", func(p *greylist.Policy) { p.IPv6Bits = 136 }, false},
	} {
		p := greylist.DefaultPolicy()
		c.change(&p)
		if err := p.Validate(); (err == nil) != c.valid || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: got %v", c.sentence, err)
		}
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
		{"a host name has 255 bytes at most", func(r *greylist.Request) { r.ClientName = strings.Repeat("n", 256) }, false},
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
