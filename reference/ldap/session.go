package ldap

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// session is one connection to one provider.
type session struct {
	node        string
	transport   net.Conn
	conn        *goldap.Conn
	readTimeout time.Duration
	lost        atomic.Bool // within has ended it: the library learns of that later
}

var _ reference.Session = (*session)(nil)

// connect dials once and binds once, within o.ConnectTimeout. Every failure is a
// [*ndberr.ConnectError].
func connect(ctx context.Context, node topology.Node, address, dn, password string, o reference.ConnectOptions) (*session, error) {
	ctx, cancel := bound(ctx, o.ConnectTimeout)
	defer cancel()
	s, err := open(ctx, node, address, dn, password, o)
	if err != nil {
		return nil, &ndberr.ConnectError{Node: node.Name, Address: address, Err: err}
	}
	return s, nil
}

func open(ctx context.Context, node topology.Node, address, dn, password string, o reference.ConnectOptions) (*session, error) {
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	transport, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := goldap.NewConn(transport, false)
	conn.Start()
	s := &session{node: node.Name, transport: transport, conn: conn, readTimeout: o.ReadTimeout}
	err = s.within(ctx, func() error { return conn.Bind(dn, password) })
	if err == nil {
		return s, nil
	}
	_ = s.Close() // given up either way
	if isCode(err, goldap.LDAPResultInvalidCredentials) {
		return nil, judge(err) // for good, unlike whatever else keeps a session from being opened
	}
	return nil, err
}

func bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// within ends an operation with ctx, by closing the connection: the library
// knows no other end, and a session whose answer is late is of no more use.
func (s *session) within(ctx context.Context, operation func() error) error {
	stop := context.AfterFunc(ctx, func() {
		s.lost.Store(true)
		_ = s.transport.Close() // given up either way
	})
	err := operation()
	if !stop() && err != nil {
		return fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	return err
}

// ask bounds an operation, judges its error and adds the node to it.
func (s *session) ask(ctx context.Context, operation func() error) error {
	err := ctx.Err() // then nothing is sent, and the connection is as good as before
	switch {
	case err != nil:
	case s.lost.Load() || s.conn.IsClosing():
		err = notSent
	default:
		bounded, cancel := bound(ctx, s.readTimeout)
		defer cancel()
		err = judge(s.within(bounded, operation))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.node, err)
	}
	return nil
}

// Close ends the connection. A connection that is already lost is no error.
func (s *session) Close() error {
	_ = s.transport.Close() // first, as the library may be stuck in a write; it may be closed
	_ = s.conn.Close()
	return nil
}

// search asks for the entries that have a value of an attribute.
func (s *session) search(filter string, attributes ...string) ([]entry, error) {
	return s.lookup(suffix, goldap.ScopeWholeSubtree, filter, attributes...)
}

func (s *session) lookup(base string, scope int, filter string, attributes ...string) ([]entry, error) {
	result, err := s.conn.Search(goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, 0, 0, false, filter, attributes, nil))
	if err != nil {
		return nil, err
	}
	found := make([]entry, len(result.Entries))
	for i, e := range result.Entries {
		found[i] = entry{e.DN, make(map[string][]string, len(e.Attributes))}
		for _, a := range e.Attributes {
			found[i].values[a.Name] = a.Values // bytes as they are
		}
	}
	return found, nil
}

// equals is a filter.
func equals(attribute, value string) string {
	return "(" + attribute + "=" + goldap.EscapeFilter(value) + ")"
}

// Route implements [routing.Router]: one search by address, and a second one of
// the domain for an address that has no entry. It lower-cases ASCII letters.
func (s *session) Route(ctx context.Context, address string) (answer routing.Answer, err error) {
	if err := routing.ValidAddress(address); err != nil {
		return routing.Answer{}, fmt.Errorf("route: %w", err)
	}
	err = s.ask(ctx, func() error { answer, err = s.route(routing.Lower(address)); return err })
	if err != nil {
		return routing.Answer{}, fmt.Errorf("route of %q: %w", address, err)
	}
	return answer, nil
}

func (s *session) route(address string) (routing.Answer, error) {
	own, err := s.row(address)
	if err != nil || own != nil {
		return routing.Decide(address, own, nil), err
	}
	domain, err := s.row(routing.DomainOf(address))
	if err != nil {
		return routing.Answer{}, fmt.Errorf("domain: %w", err)
	}
	return routing.Decide(address, nil, domain), nil
}

// row is the row of an address, nil if there is none.
func (s *session) row(address string) (*routing.Row, error) {
	found, err := s.search(equals(attrAddress, address), routeAttributes...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if len(found) > 1 {
		// Given to two at two providers that did not see each other.
		return nil, &ndberr.JudgedError{
			Result: ndberr.Result{Class: ndberr.Permanent, Effect: ndberr.NotApplied},
			Err:    fmt.Errorf("%d entries have the address %q: take it from all but one by hand", len(found), address),
		}
	}
	row, err := found[0].row(address)
	return &row, err
}

// Check implements [greylist.Checker] for none: the error wraps [ErrNoGreylist].
func (s *session) Check(ctx context.Context, _ greylist.Request) (greylist.Answer, error) {
	return greylist.Answer{}, s.ask(ctx, func() error { return ErrNoGreylist })
}

// Read implements [preferences.Store] in one search.
func (s *session) Read(ctx context.Context, user string) (all map[string]string, err error) {
	if err := (preferences.Row{User: user, Key: "any"}).Validate(); err != nil {
		return nil, fmt.Errorf("read preferences: %w", err)
	}
	err = s.ask(ctx, func() error {
		found, err := s.search(equals(attrAddress, user), attrLogin, attrPreference)
		if err != nil {
			return err
		}
		all = map[string]string{}
		for _, e := range found {
			if e.get(attrLogin) == user { // not an alias of somebody
				all = e.preferences()
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read preferences of %q: %w", user, err)
	}
	return all, nil
}

// Set implements [preferences.Store] by a search and a modification of one entry.
// A user without account or mailbox has none: the error wraps [ErrNoUser].
func (s *session) Set(ctx context.Context, user, key, value string) error {
	if value == "" {
		return s.Delete(ctx, user, key)
	}
	if err := (preferences.Row{User: user, Key: key, Value: value}).Validate(); err != nil {
		return fmt.Errorf("set a preference: %w", err)
	}
	if err := s.ask(ctx, func() error { return s.prefer(user, key, value) }); err != nil {
		return fmt.Errorf("set preference %q of %q: %w", key, user, err)
	}
	return nil
}

// Delete implements [preferences.Store] as Set does.
func (s *session) Delete(ctx context.Context, user, key string) error {
	if err := (preferences.Row{User: user, Key: key}).Validate(); err != nil {
		return fmt.Errorf("delete a preference: %w", err)
	}
	if err := s.ask(ctx, func() error { return s.prefer(user, key, "") }); err != nil {
		return fmt.Errorf("delete preference %q of %q: %w", key, user, err)
	}
	return nil
}

// tries is how often an entry is read anew that others changed meanwhile.
const tries = 10

// prefer replaces the value of one preference; "" removes it.
func (s *session) prefer(user, key, value string) error {
	for range tries {
		found, err := s.search(equals(attrAddress, user), attrLogin, attrPreference, attrEntryCSN)
		if err != nil {
			return err
		}
		var owner *entry
		for i := range found {
			if found[i].get(attrLogin) == user {
				owner = &found[i]
			}
		}
		switch {
		case owner == nil && value == "":
			return nil // there is none: that is no error
		case owner == nil:
			return ErrNoUser
		}
		had := owner.storedFor(key)
		if len(had) == 0 && value == "" {
			return nil
		}
		m := goldap.NewModifyRequest(owner.dn, []goldap.Control{unchanged(*owner)})
		if len(had) > 0 {
			m.Delete(attrPreference, had)
		}
		if value != "" {
			m.Add(attrPreference, []string{preference(key, value)})
		}
		if err := s.conn.Modify(m); !changedMeanwhile(err) {
			return err
		}
	}
	return ErrConflict
}

// assertion is the control of RFC 4528: the operation is done only if a filter
// holds.
const assertion = "1.3.6.1.1.12"

// unchanged asserts that an entry is as it was read, with its entryCSN.
func unchanged(e entry) goldap.Control {
	filter, err := goldap.CompileFilter(equals(attrEntryCSN, e.get(attrEntryCSN)))
	if err != nil { // of a filter that is escaped: it cannot be
		return goldap.NewControlString(assertion, true, "")
	}
	return goldap.NewControlString(assertion, true, string(filter.Bytes()))
}

// changedMeanwhile says whether an operation was not done because the entry is
// another than it was, or gone.
func changedMeanwhile(err error) bool {
	return isCode(err, goldap.LDAPResultAssertionFailed) || isCode(err, goldap.LDAPResultNoSuchObject)
}

// Account implements [accounts.Manager] in one search.
func (s *session) Account(ctx context.Context, login string) (a accounts.Account, err error) {
	if err := routing.ValidTarget(login); err != nil {
		return accounts.Account{}, fmt.Errorf("login: %w", err)
	}
	err = s.ask(ctx, func() error {
		found, err := s.search(equals(attrAddress, login), "*")
		if err != nil {
			return err
		}
		owner, _ := pick(found, login, "")
		if owner == nil {
			return accounts.ErrNotFound
		}
		a, err = owner.account()
		return err
	})
	if err != nil {
		return accounts.Account{}, fmt.Errorf("read account %q: %w", login, err)
	}
	return a, nil
}

// Change implements [accounts.Manager]: a search, and one operation on one entry,
// which holds all of an account. It may be called again with the same change,
// here or at another provider that has learned of it: a change that is stored
// already is a success.
func (s *session) Change(ctx context.Context, c accounts.Change) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := s.ask(ctx, func() error { return s.change(c) }); err != nil {
		return fmt.Errorf("%s of account %q: %w", c.Action, c.Login, err)
	}
	return nil
}

func (s *session) change(c accounts.Change) error {
	id := fmt.Sprintf("%x", c.ID)
	for range tries {
		found, err := s.search("(|"+equals(attrAddress, c.Login)+equals(attrChangeID, id)+")", "*", attrEntryCSN)
		if err != nil {
			return err
		}
		owner, made := pick(found, c.Login, id)
		if made {
			return nil
		}
		err = s.store(owner, c, id)
		switch {
		case changedMeanwhile(err):
			continue
		case isCode(err, goldap.LDAPResultAttributeOrValueExists), isCode(err, goldap.LDAPResultEntryAlreadyExists):
			return nil // the id is there: the change has been made since
		case isCode(err, goldap.LDAPResultConstraintViolation): // by the overlay unique
			return fmt.Errorf("an address of it: %w", accounts.ErrExists)
		default:
			return err
		}
	}
	return ErrConflict
}

// pick finds the account with a login among entries, and whether one of them has
// been changed by id already.
func pick(found []entry, login, id string) (owner *entry, made bool) {
	for i, e := range found {
		for _, done := range e.values[attrChangeID] {
			if done == id {
				return &found[i], true
			}
		}
		if e.isAccount() && e.get(attrLogin) == login {
			owner = &found[i]
		}
	}
	return owner, false
}

// store makes a change of the account that owner holds, nil if there is none.
func (s *session) store(owner *entry, c accounts.Change, id string) error {
	var before *accounts.Account
	if owner != nil {
		a, err := owner.account()
		if err != nil {
			return err
		}
		before = &a
	}
	after, err := accounts.Apply(before, c)
	if err != nil {
		return err
	}
	if owner == nil {
		e := accountEntry(id, after)
		e.set(attrChangeID, id)
		add := goldap.NewAddRequest(e.dn, nil)
		for attribute, values := range e.values {
			add.Attribute(attribute, values)
		}
		return s.conn.Add(add)
	}
	m := goldap.NewModifyRequest(owner.dn, []goldap.Control{unchanged(*owner)})
	m.Add(attrChangeID, []string{id})
	for _, change := range changes(*owner, accountEntry(owner.get(attrID), after)) {
		m.Replace(change.attribute, change.values)
	}
	return s.conn.Modify(m)
}
