package workload

import (
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
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
	Peers    *Peers   // who writes to them; nil for DefaultPeers
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
	return p.peers().Validate()
}

func (p Population) peers() Peers {
	if p.Peers == nil {
		return DefaultPeers()
	}
	return *p.Peers
}

// Address is account i's mail address and webmail user name. It ends in i
// before the domain, so that no two are alike and no guess of a dictionary
// attack hits one.
func (p Population) Address(i int) string {
	d := newDraws(p.Seed, streamAccount, uint64(i))
	return givenNames[d.below(len(givenNames))] + strconv.Itoa(i) + "@" + p.Domain
}

// knows says whether an address of the domain is an account's, which ends in a
// digit, rather than a guess.
func (p Population) knows(address string) bool {
	before := len(address) - len(p.Domain) - 2
	return before >= 0 && address[before] >= '0' && address[before] <= '9'
}

// index is the number of the account that has an address, if one has.
func (p Population) index(address string) (i int, ok bool) {
	local, found := strings.CutSuffix(address, "@"+p.Domain)
	digits := local[len(strings.TrimRight(local, "0123456789")):]
	i, err := strconv.Atoi(digits)
	return i, found && err == nil && i < p.Accounts && p.Address(i) == address
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

// accountsSince is when every account was made, as of now.
func accountsSince(now time.Time) time.Time { return now.Truncate(time.Second).AddDate(-1, 0, 0) }

func (p Population) account(i int, since time.Time) accounts.Account {
	return accounts.Account{Login: p.Address(i), Backend: p.Backend(i), SpamThreshold: routing.DefaultSpamThreshold, Created: since, Changed: since}
}

// AccountRows yields every account as it has been since a year before now, in
// virtual time.
func (p Population) AccountRows(now time.Time) iter.Seq[accounts.Account] {
	since := accountsSince(now)
	return func(yield func(accounts.Account) bool) {
		for i := range p.Accounts {
			if !yield(p.account(i, since)) {
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
			for row := range p.preferencesOf(i) {
				if !yield(row) {
					return
				}
			}
		}
	}
}

// preferencesOf yields what account i has stored before a run.
func (p Population) preferencesOf(i int) iter.Seq[preferences.Row] {
	return func(yield func(preferences.Row) bool) {
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

// Correspondent is one, from 0 to Correspondents-1, of those who write to
// account i regularly.
func (p Population) Correspondent(i, which int) Peer {
	return p.senders().correspondent(i, which)
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
	senders := p.senders()
	return func(yield func(greylist.Row) bool) {
		for i := range p.Accounts {
			recipient := p.Address(i)
			for which := range Correspondents {
				d := newDraws(p.Seed, streamTriplet, uint64(i)*Correspondents+uint64(which))
				age := newest + time.Duration(d.below(int((oldest-newest)/time.Second)))*time.Second
				known := greylistDelay + time.Duration(d.below(int((age-greylistDelay)/time.Second)))*time.Second
				peer, first := senders.correspondent(i, which), now.Add(-age)
				row := greylist.Row{Client: peer.Client, Sender: peer.Sender, Recipient: recipient, First: first, Last: first.Add(known)}
				if !yield(row) {
					return
				}
			}
		}
	}
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
