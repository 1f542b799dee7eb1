package workload

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
)

// Stored is what a target holds when a window begins, as the Load functions have
// filled it: what answers are checked against. It does not change, and may be
// used from several goroutines.
type Stored struct {
	before     *Before // nil for none
	population Population
	survey     *Survey // of an imported trace, whose recipients are the accounts
	since      time.Time

	triplets map[greylist.Key]greylist.State // beside those of before
	saved    map[string]map[string]string    // preferences that before has changed, by user
	changed  map[string]accounts.Account     // accounts that before has made or changed
}

// StoredPopulation is what LoadPopulation has stored, or with triplets what Load
// has, for greylisting by a policy.
func StoredPopulation(p Population, now time.Time, triplets bool, policy greylist.Policy) *Stored {
	s := &Stored{population: p, since: accountsSince(now)}
	if triplets {
		s.triplets = make(map[greylist.Key]greylist.State, p.Accounts*Correspondents)
		for r := range p.TripletRows(now) {
			s.triplets[policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)] = greylist.State{Seen: true, First: r.First.Unix(), Last: r.Last.Unix()}
		}
	}
	return s
}

// StoredBefore is what LoadBefore has stored.
func StoredBefore(b *Before) *Stored {
	s := &Stored{
		before: b, population: b.trace.population, since: accountsSince(b.Start()),
		saved: map[string]map[string]string{}, changed: map[string]accounts.Account{},
	}
	for _, r := range b.saved {
		if s.saved[r.User] == nil {
			s.saved[r.User] = map[string]string{}
		}
		s.saved[r.User][r.Key] = r.Value
	}
	for _, a := range b.changed {
		s.changed[a.Login] = a
	}
	return s
}

// StoredRecipients is what LoadRecipients has stored.
func StoredRecipients(v *Survey, now time.Time) *Stored {
	return &Stored{survey: v, since: accountsSince(now)}
}

// Account is the account that has an address, if one has.
func (s *Stored) Account(address string) (accounts.Account, bool) {
	address = lowerCase(address)
	if a, ok := s.changed[address]; ok {
		return a, true
	}
	if s.survey != nil {
		return recipientAccount(address, s.survey.file.header.Population.Backends, s.since), routing.ValidAddress(address) == nil
	}
	i, ok := s.population.index(address)
	if !ok {
		return accounts.Account{}, false
	}
	return s.population.account(i, s.since), true
}

// recipientAccount is the account of a recipient of an imported trace: on the same
// backend whichever machine makes it.
func recipientAccount(address string, backends []string, since time.Time) accounts.Account {
	sum := sha256.Sum256([]byte(address))
	return accounts.Account{
		Login: address, Backend: backends[int(sum[0])%len(backends)],
		SpamThreshold: routing.DefaultSpamThreshold, Created: since, Changed: since,
	}
}

// Preferences are all that a user has stored.
func (s *Stored) Preferences(user string) map[string]string {
	all := map[string]string{}
	if i, ok := s.population.index(user); ok && s.survey == nil {
		for row := range s.population.preferencesOf(i) {
			all[row.Key] = row.Value
		}
	}
	for key, value := range s.saved[user] {
		all[key] = value
		if value == "" {
			delete(all, key)
		}
	}
	return all
}

// Triplet is what the greylist holds under a key.
func (s *Stored) Triplet(key greylist.Key) greylist.State {
	if s.before != nil {
		return s.before.Triplet(key)
	}
	return s.triplets[key]
}

// Client is what the greylist holds of a client.
func (s *Stored) Client(client netip.Addr) greylist.State {
	if s.before != nil {
		return s.before.Client(client)
	}
	return greylist.State{}
}
