package workload

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
)

// Peers are the machines and people that write to a population: integers only.
type Peers struct {
	// Domains is how many domains legitimate mail comes from, each with Senders
	// people; both 1 to 1,000,000.
	Domains, Senders int
	// PopularityOffset flattens the popularity of domains: domain i sends mail in
	// proportion to 1/(i+1+PopularityOffset). 0 to 1,000,000.
	PopularityOffset int64
	// Providers are the names of the schedules of the first domains: these are
	// the large providers, the most popular first.
	Providers []string
	// Schedules are the shares of all other domains that run each program, in
	// the order of Schedules(), in millionths; the sum is 1,000,000.
	Schedules []int64
	// StrangersPPM is the share of hosts that have never written before, among
	// legitimate mail that is from no regular correspondent. Each is a domain of
	// its own.
	StrangersPPM int64
	// IPv6PPM is the share of peers that come by IPv6.
	IPv6PPM int64
	// Bots is how many machines send spam, 1 to 100,000,000; RetryingBotsPPM is
	// the share of them that come back when they are deferred.
	Bots            int
	RetryingBotsPPM int64
}

// DefaultPeers are those of the profile berkeley-2008.
func DefaultPeers() Peers { return berkeley2008().Peers }

// Validate names the field that is out of its range.
func (p Peers) Validate() error {
	switch {
	case p.Domains < 1 || p.Domains > million:
		return fmt.Errorf("peers: Domains is %d, must be 1 to 1,000,000", p.Domains)
	case p.Senders < 1 || p.Senders > million:
		return fmt.Errorf("peers: Senders is %d, must be 1 to 1,000,000", p.Senders)
	case p.PopularityOffset < 0 || p.PopularityOffset > million:
		return fmt.Errorf("peers: PopularityOffset is %d, must be 0 to 1,000,000", p.PopularityOffset)
	case len(p.Providers) > p.Domains:
		return fmt.Errorf("peers: Providers has %d names, must have at most the %d of Domains", len(p.Providers), p.Domains)
	case len(p.Schedules) != len(schedules):
		return fmt.Errorf("peers: Schedules has %d shares, must have %d, one for each of Schedules()", len(p.Schedules), len(schedules))
	case p.StrangersPPM < 0 || p.StrangersPPM > million:
		return fmt.Errorf("peers: StrangersPPM is %d, must be 0 to 1,000,000 millionths", p.StrangersPPM)
	case p.IPv6PPM < 0 || p.IPv6PPM > million:
		return fmt.Errorf("peers: IPv6PPM is %d, must be 0 to 1,000,000 millionths", p.IPv6PPM)
	case p.Bots < 1 || p.Bots > 100*million:
		return fmt.Errorf("peers: Bots is %d, must be 1 to 100,000,000", p.Bots)
	case p.RetryingBotsPPM < 0 || p.RetryingBotsPPM > million:
		return fmt.Errorf("peers: RetryingBotsPPM is %d, must be 0 to 1,000,000 millionths", p.RetryingBotsPPM)
	}
	for i, name := range p.Providers {
		if _, ok := scheduleNamed(name); !ok {
			return fmt.Errorf("peers: Providers[%d] is %q, must be one of %v", i, name, scheduleNames())
		}
	}
	return validShares("peers: Schedules", p.Schedules, million)
}

// Peer is who offers a message.
type Peer struct {
	Client   netip.Addr // the address that it connects from, or one of several
	Sender   string     // the envelope sender
	Schedule uint8      // how it comes back: an index of Schedules()
}

// senders are peers with their tables.
type senders struct {
	Peers
	seed       uint64
	popularity table   // of domains
	providers  []uint8 // schedules of the first domains
	programs   table   // shares of the schedules of the others
	spammer    uint8
}

func (p Population) senders() *senders {
	s := &senders{Peers: p.peers(), seed: p.Seed}
	s.popularity = zipf(s.Domains, s.PopularityOffset)
	s.programs = newTable(s.Schedules)
	for _, name := range s.Providers {
		i, _ := scheduleNamed(name)
		s.providers = append(s.providers, uint8(i))
	}
	spammer, _ := scheduleNamed("spammer")
	s.spammer = uint8(spammer)
	return s
}

func (s *senders) correspondent(i, which int) Peer {
	d := newDraws(s.seed, streamCorrespondent, uint64(i)*Correspondents+uint64(which))
	return s.sender(&d)
}

// sender draws someone of a domain that writes often. A domain has one mail server, or the
// neighbours that its schedule says.
func (s *senders) sender(d *draws) Peer { return s.of(s.popularity.pick(d), d) }

// other draws someone who is no regular correspondent.
func (s *senders) other(d *draws) Peer {
	if d.chance(s.StrangersPPM) {
		return s.of(s.Domains+d.below(strangers), d)
	}
	return s.sender(d)
}

// strangers is how many domains there are beside those that write often: so many
// that hardly one comes twice.
const strangers = 1 << 30

// of draws someone of a domain.
func (s *senders) of(domain int, d *draws) Peer {
	user := d.below(s.Senders)
	server := newDraws(s.seed, streamDomain, uint64(domain))
	return Peer{
		Client:   s.address(&server),
		Sender:   surnames[user%len(surnames)] + strconv.Itoa(user) + "@d" + strconv.Itoa(domain) + ".example",
		Schedule: s.schedule(domain),
	}
}

// schedule is that of a domain: its mail server is one program.
func (s *senders) schedule(domain int) uint8 {
	if domain < len(s.providers) {
		return s.providers[domain]
	}
	d := newDraws(s.seed, streamSchedule, uint64(domain))
	return uint8(s.programs.pick(&d))
}

// bot draws a machine that sends spam under a forged sender. There are so many
// that one sends a few messages a day: of the servers that sent only spam,
// 93 % sent ten or fewer and 81 % were seen for a day at most (Duan et al.,
// Florida State University).
func (s *senders) bot(d *draws) Peer {
	which := uint64(d.below(s.Bots))
	machine := newDraws(s.seed, streamBot, which)
	forged := d.next()
	peer := Peer{
		Client: s.address(&machine),
		Sender: givenNames[forged%uint64(len(givenNames))] + strconv.FormatUint(forged>>44, 36) + "@d" + strconv.Itoa(d.below(s.Domains)) + ".example",
	}
	if habit := newDraws(s.seed, streamBotSchedule, which); habit.chance(s.RetryingBotsPPM) {
		peer.Schedule = s.spammer
	}
	return peer
}

// address draws a peer's address. It is data only: nothing ever connects to
// it. The IPv4 documentation ranges (RFC 5737) hold three /24 networks, and
// greylisting looks at /24 networks, so all peers would be one of three; the
// shared address space 100.64.0.0/10 (RFC 6598) has 16,384 and, like
// 2001:db8::/32 (RFC 3849), is no public host's.
func (s *senders) address(d *draws) netip.Addr {
	if !d.chance(s.IPv6PPM) {
		h := d.next()
		return netip.AddrFrom4([4]byte{100, 64 | byte(h>>16)&0x3f, byte(h >> 8), byte(h)})
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[4:], uint32(d.next()))
	a[15] = 25 // servers get short host parts
	return netip.AddrFrom16(a)
}
