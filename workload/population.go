package workload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// Defaults of a population: CalMail's 70,000 users (mercurynews.com,
// 2011-11-30) on ten Cyrus machines (slides of the talk, MySQL Conference
// 2008). The domain is reserved (RFC 2606).
const (
	DefaultAccounts = 70_000
	DefaultBackends = 10
	DefaultDomain   = "calmail.example"
)

// Correspondents is how many regular correspondents an account has, whose
// triplets are known and have passed when a run starts. Assumed.
const Correspondents = 4

const (
	peerDomains  = 4096    // domains that legitimate mail comes from; assumed
	domainOffset = 10      // Mandelbrot offset of their popularity; assumed
	domainUsers  = 500     // senders in each; assumed
	ipv6PPM      = 10_000  // share of peers that come by IPv6; assumed
	bots         = 1 << 20 // machines that send spam; assumed, see bot
)

// Greylisting of known triplets: the delay that they have passed and the age
// at which they would be forgotten (Postgrey's --delay and --max-age).
const (
	greylistDelay  = 300 * time.Second
	greylistMaxAge = 35 * 24 * time.Hour
)

// Population is who has an account. Everything about account i, from 0 to
// Accounts-1, is a pure function of Seed and i.
type Population struct {
	Seed     uint64
	Accounts int      // 1 to 10,000,000
	Domain   string   // lower case, that of every account
	Backends []string // hosts that hold the mailboxes
}

// DefaultPopulation is CalMail's in size.
func DefaultPopulation(seed uint64) Population {
	return Population{Seed: seed, Accounts: DefaultAccounts, Domain: DefaultDomain, Backends: BackendNames(DefaultBackends)}
}

// BackendNames returns cyrus1 to cyrusN, the hosts' names in a topology.
func BackendNames(n int) []string {
	names := make([]string, max(n, 0))
	for i := range names {
		names[i] = "cyrus" + strconv.Itoa(i+1)
	}
	return names
}

// Validate names the field that is out of its range.
func (p Population) Validate() error {
	switch {
	case p.Accounts < 1 || p.Accounts > 10_000_000:
		return fmt.Errorf("population: Accounts is %d, must be 1 to 10,000,000", p.Accounts)
	case p.Domain == "" || p.Domain != strings.ToLower(p.Domain):
		return fmt.Errorf("population: Domain is %q, must be the domain of every account in lower case", p.Domain)
	case len(p.Domain) > preferences.MaxUser/2:
		return fmt.Errorf("population: Domain has %d bytes, must have at most %d so that addresses fit the preferences' user name", len(p.Domain), preferences.MaxUser/2)
	case len(p.Backends) == 0:
		return errors.New("population: Backends is empty, must name at least one host")
	}
	return nil
}

// Address is account i's mail address and webmail user name. It ends in i
// before the domain, so that no two are alike and no guess of a dictionary
// attack hits one.
func (p Population) Address(i int) string {
	d := newDraws(p.Seed, streamAccount, uint64(i))
	return givenNames[d.below(len(givenNames))] + strconv.Itoa(i) + "@" + p.Domain
}

// Backend is the host that holds account i's mailbox.
func (p Population) Backend(i int) string {
	d := newDraws(p.Seed, streamAccount, uint64(i))
	d.next() // the name
	return p.Backends[d.below(len(p.Backends))]
}

// Routes yields the row of the domain, so that a guessed address is unknown in
// it and the domain not foreign, and then each account's address and backend.
func (p Population) Routes() iter.Seq[routing.Row] {
	return func(yield func(routing.Row) bool) {
		if !yield(routing.DomainRow(p.Domain)) {
			return
		}
		for i := range p.Accounts {
			if !yield(routing.Row{Address: p.Address(i), Backend: p.Backend(i)}) {
				return
			}
		}
	}
}

// option is a key of SquirrelMail's userprefs, as include/load_prefs.php,
// functions/identity.php (full_name, reply_to) and functions/i18n.php
// (language) read them, with values of the kind that its forms offer.
type option struct {
	key    string
	values []string
}

// options are the keys in play. An account starts with the first
// storedOptions; an options form saves from the front of the whole list.
var options = [...]option{
	{"full_name", givenNames[:]},
	{"language", []string{"en_US", "de_DE", "es_ES", "fr_FR", "ja_JP", "ko_KR", "zh_CN"}},
	{"chosen_theme", []string{"../themes/default_theme.php", "../themes/plain_blue_theme.php", "../themes/sandstorm_theme.php"}},
	{"show_num", []string{"15", "25", "50", "100"}},
	{"left_refresh", []string{"600", "1800", "3600"}},
	{"show_html_default", []string{"0", "1"}},
	{"left_size", nil},
	{"wrap_at", nil},
	{"timezone", nil},
	{"reply_to", nil},
	{"use_signature", nil},
	{"prefix_sig", nil},
	{"editor_size", nil},
	{"javascript_setting", nil},
	{"include_self_reply_all", nil},
	{"mdn_user_support", nil},
}

const storedOptions = 6

// PreferenceRows yields what each account has stored before a run.
func (p Population) PreferenceRows() iter.Seq[preferences.Row] {
	return func(yield func(preferences.Row) bool) {
		for i := range p.Accounts {
			d := newDraws(p.Seed, streamAccount, uint64(i))
			d.next() // the name
			d.next() // the backend
			user := p.Address(i)
			for _, o := range options[:storedOptions] {
				if !yield(preferences.Row{User: user, Key: o.key, Value: o.values[d.below(len(o.values))]}) {
					return
				}
			}
		}
	}
}

// Peer is who offers a message.
type Peer struct {
	Client netip.Addr // the address that it connects from
	Sender string     // the envelope sender
}

// Correspondent is one, from 0 to Correspondents-1, of those who write to
// account i regularly.
func (p Population) Correspondent(i, which int) Peer {
	d := newDraws(p.Seed, streamCorrespondent, uint64(i)*Correspondents+uint64(which))
	return p.sender(&d)
}

// TripletRows yields the triplets of all regular correspondents as they stand
// at now, in virtual time: first seen 1 to 30 days ago, last seen after the
// delay had passed, so that Postgrey's rule passes them without looking at
// now, and recent enough to outlive its cleanup for days.
func (p Population) TripletRows(now time.Time) iter.Seq[greylist.Row] {
	const (
		oldest = greylistMaxAge - 5*24*time.Hour
		newest = 24 * time.Hour
	)
	now = now.Truncate(time.Second)
	return func(yield func(greylist.Row) bool) {
		for i := range p.Accounts {
			recipient := p.Address(i)
			for which := range Correspondents {
				d := newDraws(p.Seed, streamTriplet, uint64(i)*Correspondents+uint64(which))
				age := newest + time.Duration(d.below(int((oldest-newest)/time.Second)))*time.Second
				known := greylistDelay + time.Duration(d.below(int((age-greylistDelay)/time.Second)))*time.Second
				peer, first := p.Correspondent(i, which), now.Add(-age)
				row := greylist.Row{Client: peer.Client, Sender: peer.Sender, Recipient: recipient, First: first, Last: first.Add(known)}
				if !yield(row) {
					return
				}
			}
		}
	}
}

// domainPopularity says how much of legitimate mail comes from which domain.
var domainPopularity = zipf(peerDomains, domainOffset)

// sender draws someone of a peer's domain. Each domain sends from one address.
func (p Population) sender(d *draws) Peer {
	domain := domainPopularity.pick(d)
	user := d.below(domainUsers)
	server := newDraws(p.Seed, streamDomain, uint64(domain))
	return Peer{
		Client: address(&server),
		Sender: surnames[user%len(surnames)] + strconv.Itoa(user) + "@d" + strconv.Itoa(domain) + ".example",
	}
}

// bot draws a machine that sends spam under a forged sender. There are so many
// that one sends a few messages a day: of the servers that sent only spam,
// 93 % sent ten or fewer and 81 % were seen for a day at most (Duan et al.,
// Florida State University).
func (p Population) bot(d *draws) Peer {
	machine := newDraws(p.Seed, streamBot, uint64(d.below(bots)))
	forged := d.next()
	return Peer{
		Client: address(&machine),
		Sender: givenNames[forged%uint64(len(givenNames))] + strconv.FormatUint(forged>>44, 36) + "@d" + strconv.Itoa(d.below(peerDomains)) + ".example",
	}
}

// address draws a peer's address. It is data only: nothing ever connects to
// it. The IPv4 documentation ranges (RFC 5737) hold three /24 networks, and
// greylisting looks at /24 networks, so all peers would be one of three; the
// shared address space 100.64.0.0/10 (RFC 6598) has 16,384 and, like
// 2001:db8::/32 (RFC 3849), is no public host's.
func address(d *draws) netip.Addr {
	if !d.chance(ipv6PPM) {
		h := d.next()
		return netip.AddrFrom4([4]byte{100, 64 | byte(h>>16)&0x3f, byte(h >> 8), byte(h)})
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(a[4:], uint32(d.next()))
	a[15] = 25 // servers get short host parts
	return netip.AddrFrom16(a)
}

// guess is an address of a dictionary attack, for index 0 to guesses-1: two
// initials and a surname, which no account has.
func (p Population) guess(index int) string {
	letters, name := index/len(surnames), index%len(surnames)
	return string([]byte{'a' + byte(letters/26), 'a' + byte(letters%26)}) + surnames[name] + "@" + p.Domain
}

const guesses = 26 * 26 * len(surnames)

var givenNames = [...]string{
	"aiko", "alex", "amara", "ana", "ben", "carla", "chen", "dana", "eli", "emma", "farid", "grace", "hana", "ivan", "jack", "jin",
	"kofi", "lara", "leo", "lin", "maria", "mei", "nadia", "noah", "olga", "omar", "priya", "rosa", "sam", "tariq", "uma", "yuki",
}

var surnames = [...]string{
	"adams", "baker", "chan", "cruz", "diaz", "evans", "fischer", "garcia", "hansen", "ito", "jones", "kim", "lee", "lopez", "martin", "nguyen",
	"ortiz", "park", "patel", "quinn", "reyes", "rossi", "sato", "singh", "smith", "tran", "ueda", "vega", "wang", "wong", "yang", "zhang",
}
