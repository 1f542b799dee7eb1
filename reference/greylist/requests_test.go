package greylist_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
)

// requests makes requests that meet every rule: few clients, that come back at
// the times that matter, with names of every shape. Two shards share no client
// and no triplet.
type requests struct {
	random *rand.Rand
	shard  byte
	base   int64              // the clock, in seconds since 1970
	recent []greylist.Request // what may come back
	fresh  int
}

func newRequests(seed uint64, shard byte) *requests {
	return &requests{random: rand.New(rand.NewPCG(seed, uint64(shard))), shard: shard, base: 1_200_000_000}
}

// testWhitelist has an entry of every shape, in the format of Postgrey's files.
const (
	testClients = `
# comment
listed.example.org   # a host and all below it
tld
Upper.Case.EXAMPLE
.dot.example
/^mx[0-9]+\.pool\.example$/
198.51.100.7
198.51.100.128/26
203.0.113
2001:db8:77::/48
2001:db8:88::9
`
	testRecipients = `
postmaster@
abuse@
plus+user@
Exact@example.edu
two+parts@example.edu
optout.example.edu
/^re[g]ex-.*@/
`
)

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// next makes one request. Its times mostly go on, and sometimes jump to where a
// rule changes its mind.
func (q *requests) next() greylist.Request {
	r := q.random
	switch r.IntN(200) {
	case 0:
		q.base += pick(r, int64(86_400), 172_800, 3_000_000)
	case 1, 2, 3, 4, 5, 6:
		q.base += pick(r, int64(3599), 3600, 3601, 300)
	default:
		q.base += int64(r.IntN(20))
	}
	if len(q.recent) == 0 || r.IntN(5) < 2 {
		request := q.new()
		q.recent = append(q.recent, request)
		if len(q.recent) > 200 {
			q.recent = q.recent[1:]
		}
		return request
	}
	i := r.IntN(len(q.recent))
	request := q.recent[i]
	switch r.IntN(10) {
	case 0, 1, 2: // on both sides of delay, retry window and hour, ahead of the clock or behind
		request.Now = request.Now.Add(time.Duration(pick(r, int64(-1), 0, 1, int64(2+r.IntN(290)), int64(2+r.IntN(290)), 298, 299, 300, 301, 3599, 3600, 3601,
			172_799, 172_800, 172_801, -300, 40*86_400)) * time.Second)
	default:
		request.Now = time.Unix(q.base, 0)
	}
	if r.IntN(3) == 0 {
		request.Client = neighbour(request.Client, byte(r.IntN(4)))
	}
	if r.IntN(4) == 0 {
		request.Sender = q.vary(request.Sender)
	}
	q.recent[i].Now = request.Now
	return request
}

func (q *requests) new() greylist.Request {
	r := q.random
	q.fresh++
	request := greylist.Request{Now: time.Unix(q.base, 0), Client: q.client(), ClientName: q.name()}
	// Most recipients are new: what has passed passes for ever.
	request.Recipient = pick(r,
		fmt.Sprintf("user%d@example.edu", q.fresh), fmt.Sprintf("u%d+box@Example.EDU", q.fresh),
		fmt.Sprintf("o'br\\ien\"`/%%é\xff%d@sub.example.edu", q.fresh), fmt.Sprintf("no-domain-%d", q.fresh),
		"user@example.edu")
	if r.IntN(12) == 0 {
		request.Recipient = pick(r, "postmaster@example.edu", "Abuse+tag@x.example", "abuse+@x.example", "abuse++a@x.example", "abuse",
			"exact@example.edu", "exact+a+b@EXAMPLE.edu", "exact@example.edu.x", "xexact@example.edu",
			"plus+user@a", "plus@a", "plus+user+ext@a", "two+parts@example.edu", "two+other@example.edu",
			"a@optout.example.edu", "a@b.optout.example.edu", "a@xoptout.example.edu", "optout.example.edu", "b.optout.example.edu",
			"regex-1@example.edu", "xregex-1@example.edu", "postmaster@", "@example.edu")
	}
	request.Sender = q.sender()
	return request
}

func (q *requests) client() netip.Addr {
	r := q.random
	if r.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, q.shard, byte(r.IntN(2)), byte(r.IntN(4)), 15: byte(r.IntN(3))})
	}
	if r.IntN(30) == 0 { // whitelisted, or nearly; only one shard has what is stored
		if q.shard == 0 && r.IntN(2) == 0 {
			return netip.MustParseAddr(pick(r, "198.51.100.8", "198.51.100.127", "198.51.100.192", "203.0.112.9", "2001:db8:78::1", "2001:db8:88::8"))
		}
		return netip.MustParseAddr(pick(r, "198.51.100.7", "198.51.100.128", "198.51.100.191", "203.0.113.200",
			"2001:db8:77:ffff::1", "2001:db8:88::9"))
	}
	return netip.AddrFrom4([4]byte{100, 64 + q.shard, byte(r.IntN(16)), byte(1 + r.IntN(5))})
}

// neighbour is a host nearby, of the same network more often than not.
func neighbour(a netip.Addr, host byte) netip.Addr {
	if a.Is4() {
		b := a.As4()
		if b[0] == 100 {
			b[3] = 1 + host
		}
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	if b[4] == 0 && b[5] < 16 && b[6] < 2 {
		b[15] = host
	}
	return netip.AddrFrom16(b)
}

func (q *requests) name() string {
	r := q.random
	if r.IntN(20) > 0 {
		return pick(r, "", "unknown", "mail.example.net", "host-3-4.dialup.example", "p100.64.2.3.example")
	}
	return pick(r, "listed.example.org", "a.LISTED.example.org", "xlisted.example.org", "listed.example.org.x", "a.b.tld", "tld", "xtld",
		"upper.case.example", "a.dot.example", "a..dot.example", "dot.example", "mx12.pool.example", "mx.pool.example", "MX1.pool.EXAMPLE")
}

func (q *requests) sender() string {
	r := q.random
	return pick(r, "", "s@example.org", "S@Example.ORG", "sender@example.org", "user12@example.org", "list-12@example.org",
		"b-12_3-4.5@example.org", "12@example.org", "_1@example.org", "1_@example.org", "a.1.b@example.org",
		"prvs=0123456789=user@example.org", "prvs=user=0123456789@example.org", "prvs=0123456789=abcdefghij@example.org",
		"prvs=a=b@example.org", "prvs=a=@example.org", "prvs==b@example.org", "prvs=a=b=c@example.org", "PRVS=0123456789=user@example.org",
		"prvs=0123456789=u+x-1@example.org", "bounce+5@example.org", "bounce+5+6@example.org", "+x@example.org", "a@b@c.example",
		"nodomain-12", "no+domain", "@example.org", "user@", "user-7@12.example", "é12@example.org", "\xe912@example.org", "\xff7\xfe8@x",
		"o'brien-9\\@example.org", "a\"-1-\"b@example.org", "%s-1@example.org", "_%'\"`1@example.org", "0@x", "00-1@x", "x-0@x")
}

// vary changes what should not matter.
func (q *requests) vary(sender string) string {
	r := q.random
	b := []byte(sender)
	for i, c := range b {
		if '0' <= c && c <= '9' && r.IntN(2) == 0 {
			b[i] = '0' + byte(r.IntN(10))
		}
	}
	return string(b)
}
