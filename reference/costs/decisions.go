package costs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
)

// decision is one that a path can reach, on rows that nobody else has.
type decision struct {
	path    reference.Path
	name    string
	stored  stored                             // before
	prepare func(context.Context, paths) error // what cannot be stored beforehand; may be nil
	ask     func(context.Context, paths) error // fails unless the answer is the decision's
	check   func(context.Context, paths) error // that the rows are the decision's now; may be nil
}

// all returns the decisions, for each repetition, the uncounted one first, and the
// keys of all rows that they find or make.
func all(o schema.Options) ([][]decision, *keys) {
	policy, whitelist := greylist.DefaultPolicy(), greylist.DefaultWhitelist()
	if o.Greylist != nil {
		policy = *o.Greylist
	}
	if o.Whitelist != nil {
		whitelist = *o.Whitelist
	}
	used := new(keys)
	var made [][]decision
	for repetition := range Repetitions + 1 {
		m := &maker{repetition: repetition, policy: policy, used: used}
		m.routing()
		m.greylist(whitelist)
		m.preferences()
		m.accounts()
		made = append(made, m.decisions)
	}
	return made, used
}

// maker makes the decisions of one repetition. The names that it gives are all of
// the same lengths in each repetition.
type maker struct {
	repetition int
	policy     greylist.Policy
	used       *keys
	decisions  []decision
	clients    int
}

func (m *maker) add(path reference.Path, name string, d decision) {
	d.path, d.name = path, name
	m.decisions = append(m.decisions, d)
}

const (
	domain  = "costs.probe.invalid"
	backend = "cyrus1.costs.probe.invalid"
	other   = "cyrus2.costs.probe.invalid"
)

// noon is the virtual time of all decisions.
var noon = time.Unix(1_000_000_000, 0)

// address returns the next decision's address.
func (m *maker) address(suffix string) string {
	return m.keep(fmt.Sprintf("d%02dr%d%s@%s", len(m.decisions), m.repetition, suffix, domain))
}

func (m *maker) keep(address string) string {
	m.used.addresses = append(m.used.addresses, []byte(address))
	return address
}

func (m *maker) routing() {
	domainRow := func(targets ...string) routing.Row {
		return routing.Row{Address: m.keep(fmt.Sprintf("@d%02dr%d.%s", len(m.decisions), m.repetition, domain)), Kind: routing.Domain, Targets: targets}
	}
	mailbox := func(state routing.State, keepCopy bool, targets ...string) routing.Row {
		return routing.Row{Address: m.address(""), State: state, Backend: backend, KeepCopy: keepCopy, Targets: targets}
	}
	own := func(name string, want routing.Verdict, row routing.Row) {
		m.route(name, want, row.Address, &row, nil)
	}
	byDomain := func(name string, want routing.Verdict, row routing.Row) {
		m.route(name, want, "nobody"+row.Address, nil, &row)
	}
	own("local", routing.Local, mailbox(routing.Active, true))
	own("redirect", routing.Redirect, mailbox(routing.Active, false, "elsewhere@example.org"))
	own("redirect, copy kept", routing.Redirect, mailbox(routing.Active, true, "elsewhere@example.org"))
	own("alias", routing.Redirect, routing.Row{Address: m.address(""), Kind: routing.Alias, Targets: []string{"elsewhere@example.org"}})
	own("list", routing.Redirect, routing.Row{Address: m.address(""), Kind: routing.List, Targets: []string{"one@example.org", "two@example.org", "three@example.org"}})
	own("suspended", routing.Suspended, mailbox(routing.StateSuspended, true))
	own("closed", routing.Closed, mailbox(routing.StateClosed, true))
	own("moving", routing.Moving, mailbox(routing.StateMoving, true))
	byDomain("unknown", routing.Unknown, domainRow())
	byDomain("catch-all", routing.Redirect, domainRow("elsewhere@example.org"))
	byDomain("other name of a domain", routing.Redirect, domainRow("@example.org"))
	m.route("foreign", routing.Foreign, "nobody@foreign."+domain, nil, nil)
}

// route asks for an address that has a row of its own, or whose domain has.
func (m *maker) route(name string, want routing.Verdict, address string, own, domain *routing.Row) {
	var s stored
	for _, row := range []*routing.Row{own, domain} {
		if row != nil {
			s.routes = append(s.routes, *row)
		}
	}
	answer := routing.Decide(address, own, domain)
	m.add(reference.Routing, name, decision{stored: s, ask: func(ctx context.Context, p paths) error {
		got, err := p.Route(ctx, address)
		if err == nil && (got.Verdict != want || !reflect.DeepEqual(got, answer)) {
			err = fmt.Errorf("the answer is %+v, want %s with %+v", got, want, answer)
		}
		return err
	}})
}

func (m *maker) greylist(w greylist.Whitelist) {
	p, s := m.policy, time.Second
	const hour = time.Hour
	m.check("new", greylist.New, noon, nil, nil)
	if p.Delay > s {
		m.check("early", greylist.Early, noon.Add(s), &seen{noon, noon}, nil)
	}
	m.check("new after the retry window", greylist.New, noon.Add(p.RetryWindow+s), &seen{noon, noon}, nil)
	passes := noon.Add(p.Delay)
	if p.AutoWhitelist == 0 {
		m.check("pass", greylist.Pass, passes, &seen{noon, noon}, nil)
	} else {
		m.check("pass, first credit", greylist.Pass, passes, &seen{noon, noon}, nil)
	}
	if p.AutoWhitelist > 1 {
		m.check("pass, another credit", greylist.Pass, passes, &seen{noon, noon}, &credited{1, passes.Add(-hour)})
		m.check("pass, no credit within the hour", greylist.Pass, passes, &seen{noon, noon}, &credited{1, passes.Add(s - hour)})
	}
	m.check("pass again", greylist.Pass, passes.Add(s), &seen{noon, passes}, nil)
	if p.AutoWhitelist > 0 {
		m.check("auto", greylist.AutoWhitelisted, noon, nil, &credited{p.AutoWhitelist, noon.Add(s - hour)})
		m.check("auto, written once an hour", greylist.AutoWhitelisted, noon, nil, &credited{p.AutoWhitelist, noon.Add(-hour)})
	}
	if r := m.request(noon); listed(w, &r, true) {
		m.ask("client listed", greylist.ClientListed, r, stored{}, greylist.State{}, greylist.State{})
	}
	if r := m.request(noon); listed(w, &r, false) {
		m.ask("recipient listed", greylist.RecipientListed, r, stored{}, greylist.State{}, greylist.State{})
	}
}

// listed makes a request one that a whitelist answers for its client, or for its
// recipient; false if no entry by name does.
func listed(w greylist.Whitelist, r *greylist.Request, client bool) bool {
	switch {
	case client && len(w.ClientNames) > 0:
		r.ClientName = w.ClientNames[0]
	case client && len(w.ClientNetworks) > 0:
		r.Client = w.ClientNetworks[0].Addr()
	case !client && len(w.Recipients) > 0:
		if r.Recipient = w.Recipients[0]; r.Recipient[len(r.Recipient)-1] == '@' {
			r.Recipient += domain
		}
	default:
		return false
	}
	return true
}

// seen is when a triplet was seen first and last, credited what a client has.
type (
	seen     struct{ first, last time.Time }
	credited struct {
		credits int
		last    time.Time
	}
)

// request is that of the next decision, from a client of its own.
func (m *maker) request(now time.Time) greylist.Request {
	const first = 100 // three digits each
	client := netip.AddrFrom4([4]byte{192, 0, 2, byte(first + 30*m.repetition + m.clients)})
	m.clients++
	r := greylist.Request{Client: client, ClientName: "mx." + domain, Sender: m.address(".sender"), Recipient: m.address(".recipient"), Now: now}
	triplet, credits := m.policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient), greylist.ClientKey(client)
	m.used.greylist = append(m.used.greylist, triplet[:], credits[:])
	return r
}

func (m *maker) check(name string, want greylist.Verdict, now time.Time, t *seen, c *credited) {
	var (
		r               = m.request(now)
		s               stored
		triplet, client greylist.State
	)
	if t != nil {
		s.triplets = []greylist.Row{{Client: r.Client, ClientName: r.ClientName, Sender: r.Sender, Recipient: r.Recipient, First: t.first, Last: t.last}}
		triplet = greylist.State{Seen: true, First: t.first.Unix(), Last: t.last.Unix()}
	}
	if c != nil {
		s.clients = []greylist.ClientRow{{Client: r.Client, Credits: c.credits, First: c.last, Last: c.last}}
		client = greylist.State{Seen: true, First: c.last.Unix(), Last: c.last.Unix(), Credits: int64(c.credits)}
	}
	m.ask(name, want, r, s, triplet, client)
}

// ask expects the decision model's answer, which must have the verdict.
func (m *maker) ask(name string, want greylist.Verdict, r greylist.Request, s stored, triplet, client greylist.State) {
	answer := greylist.Answer{Verdict: want}
	if want != greylist.ClientListed && want != greylist.RecipientListed {
		answer, _, _ = m.policy.Decide(triplet, client, r.Now.Unix())
	}
	m.add(reference.Greylist, name, decision{stored: s, ask: func(ctx context.Context, p paths) error {
		got, err := p.Check(ctx, r)
		if err == nil && (got.Verdict != want || got != answer) {
			err = fmt.Errorf("the answer is %+v, want %s with %+v", got, want, answer)
		}
		return err
	}})
}

func (m *maker) preferences() {
	some := map[string]string{"full_name": "Ada Lovelace", "theme": "plain", "sort": "6", "show_html": "1", "left_size": "200"}
	m.prefer("read none", nil, nil, nil)
	m.prefer("read some", some, nil, some)
	m.prefer("set", some, &[2]string{"language", "en_GB"}, with(some, "language", "en_GB"))
	m.prefer("replace", some, &[2]string{"theme", "fancy"}, with(some, "theme", "fancy"))
	m.prefer("remove", some, &[2]string{"theme", ""}, with(some, "theme", ""))
}

// with is a user's preferences after one was set.
func with(before map[string]string, key, value string) map[string]string {
	after := maps.Clone(before)
	if after[key] = value; value == "" {
		delete(after, key)
	}
	return after
}

// prefer sets a preference, or reads all of them if there is none to set.
func (m *maker) prefer(name string, before map[string]string, set *[2]string, after map[string]string) {
	user := m.address("")
	read := func(ctx context.Context, p paths) error {
		got, err := p.Read(ctx, user)
		if err == nil && !maps.Equal(got, after) {
			err = fmt.Errorf("the preferences are %v, want %v", got, after)
		}
		return err
	}
	d := decision{stored: stored{preferences: preferencesOf(user, before)}, ask: read}
	if set != nil {
		d.ask = func(ctx context.Context, p paths) error { return p.Set(ctx, user, set[0], set[1]) }
		d.check = read
	}
	m.add(reference.Preferences, name, d)
}

func preferencesOf(user string, values map[string]string) (rows []preferences.Row) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		rows = append(rows, preferences.Row{User: user, Key: key, Value: values[key]})
	}
	return rows
}

func (m *maker) accounts() {
	change := func(a accounts.Action) accounts.Change { return accounts.Change{Action: a} }
	active := func() *accounts.Account { return m.account(routing.Active) }
	moving := func() *accounts.Account {
		a := m.account(routing.StateMoving)
		a.MovingTo = other
		return a
	}
	m.change("create", nil, change(accounts.Create), accounts.Changed)
	m.change("rename", active(), accounts.Change{Action: accounts.Rename, NewLogin: m.address(".new")}, accounts.Changed)
	m.change("rename, old login kept", active(), accounts.Change{Action: accounts.Rename, NewLogin: m.address(".new"), KeepOld: true}, accounts.Changed)
	m.change("suspend", active(), change(accounts.Suspend), accounts.Changed)
	m.change("suspend, with an alias", m.account(routing.Active, m.address(".alias")), change(accounts.Suspend), accounts.Changed)
	m.change("resume", m.account(routing.StateSuspended), change(accounts.Resume), accounts.Changed)
	m.change("close", active(), change(accounts.Close), accounts.Changed)
	m.change("add alias", active(), accounts.Change{Action: accounts.AddAlias, Alias: m.address(".alias")}, accounts.Changed)
	m.change("remove alias", m.account(routing.Active, m.address(".alias")), accounts.Change{Action: accounts.RemoveAlias, Alias: m.address(".alias")}, accounts.Changed)
	m.change("set forward", active(), accounts.Change{Action: accounts.SetForward, Targets: []string{"elsewhere@example.org"}}, accounts.Changed)
	m.change("begin move", active(), accounts.Change{Action: accounts.BeginMove, Backend: other}, accounts.Changed)
	m.change("finish move", moving(), change(accounts.FinishMove), accounts.Changed)
	m.change("abort move", moving(), change(accounts.AbortMove), accounts.Changed)
	m.change("refused, no such account", nil, change(accounts.Suspend), accounts.NotFound)
	m.change("refused, login taken", active(), change(accounts.Create), accounts.Exists)
	m.change("refused, closed", m.account(routing.StateClosed), change(accounts.Resume), accounts.BadState)
	m.changeAgain("made before", active(), change(accounts.Suspend))
	m.read("read", active())
	m.read("read, no such account", nil)
}

// account is one that the next decision finds.
func (m *maker) account(state routing.State, aliases ...string) *accounts.Account {
	return &accounts.Account{
		Login: m.address(""), Aliases: aliases, FullName: "Ada Lovelace", Affiliation: "staff", State: state, Backend: backend,
		QuotaMB: 500, KeepCopy: true, SpamThreshold: routing.DefaultSpamThreshold, Created: noon, Changed: noon,
	}
}

// change expects what the decision model says, which must be want, and the account
// to be then as the model has it.
func (m *maker) change(name string, before *accounts.Account, c accounts.Change, want accounts.Verdict) {
	m.add(reference.Accounts, name, m.changing(before, c, want))
}

// changeAgain is a change whose first answer was lost.
func (m *maker) changeAgain(name string, before *accounts.Account, c accounts.Change) {
	d := m.changing(before, c, accounts.Changed)
	d.prepare = d.ask
	m.add(reference.Accounts, name, d)
}

func (m *maker) changing(before *accounts.Account, c accounts.Change, want accounts.Verdict) decision {
	c.Login, c.At = m.address(""), noon.Add(time.Hour)
	if c.Action == accounts.Create {
		c.Account = accounts.Account{FullName: "Ada Lovelace", Affiliation: "staff", Backend: backend, QuotaMB: 500, KeepCopy: true}
	}
	sum := sha256.Sum256([]byte("what does it cost to " + c.Action.String() + " " + c.Login))
	// In letters: how long an error is that names an id depends on its bytes.
	id := hex.AppendEncode(nil, sum[:])[:len(c.ID)]
	c.ID = [16]byte(id)
	m.used.changes = append(m.used.changes, id)
	d := decision{ask: func(ctx context.Context, p paths) error {
		got, err := accounts.VerdictOf(p.Change(ctx, c))
		if err == nil && got != want {
			err = fmt.Errorf("the answer is %q, want %q", got, want)
		}
		return err
	}}
	if before != nil {
		d.stored = stored{accounts: []accounts.Account{*before}, preferences: preferencesOf(c.Login, map[string]string{"theme": "plain", "sort": "6"})}
	}
	after, err := accounts.Apply(before, c)
	if err != nil {
		return d
	}
	d.check = func(ctx context.Context, p paths) error { return expect(ctx, p, after) }
	return d
}

func (m *maker) read(name string, want *accounts.Account) {
	login := m.address("")
	if want == nil {
		m.add(reference.Accounts, name, decision{ask: func(ctx context.Context, p paths) error {
			got, err := p.Account(ctx, login)
			switch {
			case err == nil:
				return fmt.Errorf("the account is %+v, want none", got)
			case errors.Is(err, accounts.ErrNotFound):
				return nil
			default:
				return err
			}
		}})
		return
	}
	m.add(reference.Accounts, name, decision{
		stored: stored{accounts: []accounts.Account{*want}},
		ask:    func(ctx context.Context, p paths) error { return expect(ctx, p, *want) },
	})
}

func expect(ctx context.Context, p paths, want accounts.Account) error {
	got, err := p.Account(ctx, want.Login)
	if err == nil && !reflect.DeepEqual(got, want) {
		err = fmt.Errorf("the account is %+v, want %+v", got, want)
	}
	return err
}
