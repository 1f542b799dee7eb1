package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

var day = time.Date(2008, time.April, 15, 0, 0, 0, 0, time.UTC)

// found is a sink that keeps what it is told.
type found struct {
	rows       []results.LedgerRow
	violations []results.Violation
	readings   []results.ReadBack
	summary    results.LedgerSummary
}

func (f *found) LedgerRow(r results.LedgerRow)         { f.rows = append(f.rows, r) }
func (f *found) Violation(v results.Violation)         { f.violations = append(f.violations, v) }
func (f *found) ReadBack(b results.ReadBack)           { f.readings = append(f.readings, b) }
func (f *found) LedgerSummary(s results.LedgerSummary) { f.summary = s }
func (f *found) count(v results.LedgerVerdict) (n int64) {
	return f.total(func(c *results.LedgerCounts) int64 {
		return map[results.LedgerVerdict]int64{results.Verified: c.Verified, results.Lost: c.Lost, results.Stale: c.Stale, results.Resurrected: c.Resurrected, results.LedgerUnknown: c.Unknown}[v]
	})
}
func (f *found) total(of func(*results.LedgerCounts) int64) (n int64) {
	for _, c := range f.summary {
		n += of(c)
	}
	return n
}

func population() workload.Population {
	p := workload.DefaultPopulation(1)
	p.Accounts = 500
	return p
}

func nodes(t testing.TB) topology.Topology {
	t.Helper()
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func newLedger(t testing.TB) (*Ledger, *found) {
	t.Helper()
	sink := new(found)
	stored := workload.StoredPopulation(population(), day, true, greylist.DefaultPolicy())
	return New(stored, greylist.DefaultPolicy(), nodes(t), sink), sink
}

func at(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// set is a write of key k of user u, with its times in seconds; how is "certain",
// "lingers" (certain, but another attempt may yet happen) or "uncertain".
func set(value string, dispatched, ended float64, how string) workload.Acknowledged {
	return workload.Acknowledged{
		Op:   workload.Op{Operation: reference.SetPreference, Asked: at(dispatched), At: at(ended)},
		User: "u", Key: "k", Value: value, Dispatched: at(dispatched), Certain: how != "uncertain", Lingers: how != "certain",
	}
}

var key = textKey{reference.Preferences, "u", "k"}

func TestValuesThatMayRightlyStand(t *testing.T) {
	type writes = []workload.Acknowledged
	for _, row := range []struct {
		sentence string
		writes   writes // in the order in which they ended
		verified []string
		others   map[string]results.LedgerVerdict
	}{
		{"the only write stands", writes{set("a", 0, 1, "certain")}, []string{"a"},
			map[string]results.LedgerVerdict{"": results.Lost, "b": results.Lost}},
		{"a write replaces one that ended before it was dispatched", writes{set("a", 0, 1, "certain"), set("b", 2, 3, "certain")}, []string{"b"},
			map[string]results.LedgerVerdict{"a": results.Stale, "": results.Lost, "x": results.Lost}},
		{"writes that overlap take effect in either order", writes{set("a", 0, 2, "certain"), set("b", 1, 3, "certain")}, []string{"a", "b"},
			map[string]results.LedgerVerdict{"": results.Lost}},
		{"a write is dispatched at the very time when another ended: either order", writes{set("a", 0, 1, "certain"), set("b", 1, 2, "certain")}, []string{"a", "b"}, nil},
		{"of two writes that overlap a third replaces both", writes{set("a", 0, 2, "certain"), set("b", 1, 3, "certain"), set("c", 4, 5, "certain")}, []string{"c"},
			map[string]results.LedgerVerdict{"a": results.Stale, "b": results.Stale}},
		{"a write that is told of late was replaced all the same", writes{set("b", 5, 6, "certain"), set("a", 0, 3, "certain")}, []string{"b"},
			map[string]results.LedgerVerdict{"a": results.Stale}},
		{"a slow write that ends last overlaps with the quick ones", writes{set("b", 1, 2, "certain"), set("a", 0, 6, "certain")}, []string{"a", "b"}, nil},

		{"the first statement of a write that was asked twice takes effect after a later write",
			writes{set("a", 0, 11, "lingers"), set("b", 12, 13, "certain")}, []string{"a", "b"}, map[string]results.LedgerVerdict{"": results.Lost}},
		{"it may do so up to the bound", writes{set("a", 0, 11, "lingers"), set("b", 71, 72, "certain")}, []string{"a", "b"}, nil},
		{"but not for ever", writes{set("a", 0, 11, "lingers"), set("b", 72, 73, "certain")}, []string{"b"}, map[string]results.LedgerVerdict{"a": results.Stale}},
		{"a write that was asked twice has happened: it replaces earlier ones",
			writes{set("a", 0, 1, "certain"), set("b", 2, 13, "lingers")}, []string{"b"}, map[string]results.LedgerVerdict{"a": results.Stale}},
		{"a write without an answer takes effect after a later one",
			writes{set("a", 0, 11, "uncertain"), set("b", 12, 13, "certain")}, []string{"a", "b"}, map[string]results.LedgerVerdict{"": results.Lost}},
		{"that, too, up to the bound and no longer", writes{set("a", 0, 11, "uncertain"), set("b", 71, 72, "certain"), set("c", 72, 73, "certain")}, []string{"b", "c"},
			map[string]results.LedgerVerdict{"a": results.Stale}},
		{"a write without an answer replaces nothing, for it may not have happened",
			writes{set("a", 0, 1, "certain"), set("b", 200, 211, "uncertain")}, []string{"a", "b"}, map[string]results.LedgerVerdict{"": results.Lost}},
		{"nothing was promised by it", writes{set("a", 0, 1, "uncertain")}, []string{"a", "", "x"}, nil},

		{"an empty value removes the key", writes{set("a", 0, 1, "certain"), set("", 2, 3, "certain")}, []string{""},
			map[string]results.LedgerVerdict{"a": results.Resurrected, "x": results.Resurrected}},
		{"a removal without an answer may have happened", writes{set("a", 0, 1, "certain"), set("", 2, 3, "uncertain")}, []string{"", "a"},
			map[string]results.LedgerVerdict{"b": results.Lost}},
	} {
		l, _ := newLedger(t)
		for _, w := range row.writes {
			l.Acknowledge(w)
		}
		for _, value := range row.verified {
			if v, _, _ := l.judgeText(key, value, 900_000, 900_001); v != results.Verified {
				t.Errorf("%s: %q is %s, want verified", row.sentence, value, v)
			}
		}
		for value, want := range row.others {
			if v, _, _ := l.judgeText(key, value, 900_000, 900_001); v != want {
				t.Errorf("%s: %q is %s, want %s", row.sentence, value, v, want)
			}
		}
	}
}

func TestAReadingDuringTheRunMayFindWhatIsUnderWay(t *testing.T) {
	for _, row := range []struct {
		sentence     string
		began, ended instant
		verified     string // values
		missing      map[string]int64
	}{
		{"before the second write was dispatched", 1_500, 1_900, "a", nil},
		{"while it was under way", 2_500, 2_600, "a b", nil},
		{"begun before it was acknowledged, ended after", 2_900, 3_500, "a b", nil},
		{"after it", 3_100, 3_200, "b", map[string]int64{"a": 3_000_000}},
		{"nothing is there: the first of both is what is missing", 3_100, 3_200, "b", map[string]int64{"": 1_000_000}},
	} {
		l, _ := newLedger(t)
		l.Acknowledge(set("a", 0, 1, "certain"))
		l.Acknowledge(set("b", 2, 3, "certain"))
		for _, value := range []string{"a", "b"} {
			if v, _, _ := l.judgeText(key, value, row.began, row.ended); (v == results.Verified) != slices.Contains(strings.Fields(row.verified), value) {
				t.Errorf("%s: %q is %s", row.sentence, value, v)
			}
		}
		for value, want := range row.missing {
			if _, got, _ := l.judgeText(key, value, row.began, row.ended); got == nil || *got != want {
				t.Errorf("%s: where %q is found, the write of %v is missing, want %d", row.sentence, value, got, want)
			}
		}
	}
}

// check is one greylist check: at second s of the run and of virtual time v.
func check(sender string, s, v float64, verdict greylist.Verdict, waited time.Duration) workload.Acknowledged {
	policy := greylist.DefaultPolicy()
	a := workload.Acknowledged{
		Op:         workload.Op{Operation: reference.CheckGreylist, Message: uint64(s), Asked: at(s), At: at(s) + 2*time.Millisecond},
		User:       "r@calmail.example",
		Request:    greylist.Request{Client: netip.MustParseAddr("192.0.2.1"), Sender: sender, Recipient: "r@calmail.example", Now: day.Add(at(v))},
		Decision:   greylist.Answer{Verdict: verdict},
		Dispatched: at(s), Certain: true,
	}
	switch verdict {
	case greylist.New:
		a.Decision.Wait = policy.Delay
	case greylist.Early:
		a.Decision.Wait = policy.Delay - waited
	case greylist.Pass:
		a.Decision.Delayed = waited
	}
	return a
}

func without(a workload.Acknowledged) workload.Acknowledged {
	a.Certain, a.Lingers, a.Decision = false, true, greylist.Answer{}
	return a
}

func TestDecisionsThatContradict(t *testing.T) {
	type checks = []workload.Acknowledged
	five := func(more ...workload.Acknowledged) checks { // five credits, an hour apart
		var all checks
		for i := range 5 {
			h := float64(i) * 3600
			all = append(all, check(fmt.Sprintf("s%c@x.example", 'a'+i), float64(10*i), h, greylist.New, 0),
				check(fmt.Sprintf("s%c@x.example", 'a'+i), float64(10*i+5), h+400, greylist.Pass, 400*time.Second))
		}
		return append(all, more...)
	}
	for _, row := range []struct {
		sentence string
		checks   checks
		want     string
	}{
		{"new, early, passed, passed again", checks{check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 1, 100, greylist.Early, 100*time.Second),
			check("s@x.example", 2, 301, greylist.Pass, 301*time.Second), check("s@x.example", 3, 400, greylist.Pass, 0)}, ""},
		{"a legitimate retry is deferred as if it were new", checks{check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 1, 400, greylist.New, 0)}, "deferred_again"},
		{"or is told to wait on", checks{check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 1, 400, greylist.Early, 10*time.Second)}, "deferred_again"},
		{"who came too early has to wait anew", checks{check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 1, 100, greylist.New, 0)}, "deferred_again"},
		{"nobody knows the triplet that passes", checks{check("s@x.example", 0, 400, greylist.Pass, 400*time.Second)}, "let_through"},
		{"it passes too early", checks{check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 1, 100, greylist.Pass, 0)}, "let_through"},
		{"its first check had no answer: it may be known or not", checks{without(check("s@x.example", 0, 0, 0, 0)), check("s@x.example", 1, 400, greylist.Pass, 400*time.Second)}, ""},
		{"the other way round", checks{without(check("s@x.example", 0, 0, 0, 0)), check("s@x.example", 1, 400, greylist.New, 0)}, ""},
		{"the triplet's own first check is told of later", checks{check("s@x.example", 5, 400, greylist.Pass, 400*time.Second), check("s@x.example", 1, 0, greylist.New, 0)}, ""},
		{"a client is whitelisted without credits", checks{check("s@x.example", 0, 0, greylist.AutoWhitelisted, 0)}, "let_through"},
		{"with five it is", five(check("new@x.example", 60, 18000, greylist.AutoWhitelisted, 0)), ""},
		{"with five it must be", five(check("new@x.example", 60, 18000, greylist.New, 0)), "deferred_again"},
		{"the fifth is being earned meanwhile", five()[:9], ""},
		{"a whitelist's answer is taken as it is", checks{check("s@x.example", 0, 0, greylist.RecipientListed, 0)}, ""},
	} {
		l, sink := newLedger(t)
		for _, c := range row.checks {
			l.Acknowledge(c)
		}
		l.Abandon()
		var got []string
		for _, v := range sink.violations {
			got = append(got, string(v.Violation))
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: got %+v, want %q", row.sentence, sink.violations, row.want)
		}
	}
}

func TestRoutesAndPreferencesThatContradict(t *testing.T) {
	p := population()
	login, backend := p.Address(7), p.Backend(7)
	stored := workload.StoredPopulation(p, day, false, greylist.DefaultPolicy()).Preferences(login)
	local := routing.Answer{Verdict: routing.Local, Backend: backend, Greylist: true, SpamThreshold: routing.DefaultSpamThreshold}
	on := func(backend string) routing.Answer { a := local; a.Backend = backend; return a }
	route := func(s float64, address string, a routing.Answer) workload.Seen {
		return workload.Seen{Op: workload.Op{Operation: reference.Route, Message: 4, Recipient: 2, Try: 1, Node: 50, Asked: at(s), At: at(s) + time.Millisecond}, User: address, Route: a}
	}
	read := func(s float64, user string, values map[string]string) workload.Seen {
		return workload.Seen{Op: workload.Op{Operation: reference.ReadPreferences, Asked: at(s), At: at(s) + time.Millisecond}, User: user, Preferences: values}
	}
	change := func(key, value string, dispatched, ended float64) workload.Acknowledged {
		return workload.Acknowledged{Op: workload.Op{Operation: reference.ChangeAccount, Asked: at(dispatched), At: at(ended)}, User: login, Key: key, Value: value, Dispatched: at(dispatched), Certain: true}
	}
	save := func(key, value string, dispatched, ended float64) workload.Acknowledged {
		a := set(value, dispatched, ended, "certain")
		a.User, a.Key = login, key
		return a
	}
	with := func(key, value string) map[string]string {
		m := map[string]string{}
		for k, v := range stored {
			m[k] = v
		}
		if m[key] = value; value == "" {
			delete(m, key)
		}
		return m
	}
	for _, row := range []struct {
		sentence string
		events   []any
		want     string
	}{
		{"an account is where it always was", []any{route(1, login, local)}, ""},
		{"letter case does not matter", []any{route(1, strings.ToUpper(login[:1])+login[1:], local)}, ""},
		{"it is elsewhere", []any{route(1, login, on("cyrus99"))}, "wrong_route route 4.2.1 -"},
		{"nobody knows it", []any{route(1, login, routing.Answer{Verdict: routing.Unknown, Greylist: true})}, "wrong_route route 4.2.1 -"},
		{"a guess is unknown", []any{route(1, "aaadams@"+p.Domain, routing.Answer{Verdict: routing.Unknown, Greylist: true})}, ""},
		{"a guess is known", []any{route(1, "aaadams@"+p.Domain, local)}, "wrong_route route 4.2.1 -"},
		{"while a move is begun, either", []any{change(workload.AccountHome, "moving to b", 1, 3), route(2, login, local), route(2, login, routing.Answer{Verdict: routing.Moving, Greylist: true})}, ""},
		{"an answer is explained by a change that is told of later", []any{route(2, login, routing.Answer{Verdict: routing.Moving, Greylist: true}), change(workload.AccountHome, "moving to b", 1, 3)}, ""},
		{"but not by one that began later", []any{route(2, login, routing.Answer{Verdict: routing.Moving, Greylist: true}), change(workload.AccountHome, "moving to b", 2.1, 3)}, "wrong_route route 4.2.1 -"},
		{"after the move it is not where it was", []any{change(workload.AccountHome, "on b", 1, 3), route(4, login, local)}, "wrong_route route 4.2.1 3000000"},
		{"after the move it is there", []any{change(workload.AccountHome, "on b", 1, 3), route(4, login, on("b"))}, ""},
		{"a forward keeps a copy", []any{change(workload.AccountForward, "x@d.example", 1, 2), route(3, login,
			routing.Answer{Verdict: routing.Redirect, Backend: backend, Targets: []string{"x@d.example"}, KeepCopy: true, Greylist: true, SpamThreshold: routing.DefaultSpamThreshold})}, ""},
		{"a forward is forgotten", []any{change(workload.AccountForward, "x@d.example", 1, 2), route(3, login, local)}, "wrong_route route 4.2.1 2000000"},

		{"preferences are as stored", []any{read(1, login, stored)}, ""},
		{"one is missing", []any{read(1, login, with("language", ""))}, "wrong_preference read 0.0.0 -"},
		{"one is of somebody else", []any{read(1, login, with("full_name", "somebody else"))}, "wrong_preference read 0.0.0 -"},
		{"one is there that nobody wrote", []any{read(1, login, with("wrap_at", "80"))}, "wrong_preference read 0.0.0 -"},
		{"a saved one is there", []any{save("wrap_at", "80", 1, 2), read(3, login, with("wrap_at", "80"))}, ""},
		{"a saved one is gone", []any{save("wrap_at", "80", 1, 2), read(3, login, stored)}, "wrong_preference read 0.0.0 2000000"},
		{"a saved one is being read", []any{read(1.5, login, with("wrap_at", "80")), save("wrap_at", "80", 1, 2)}, ""},
	} {
		l, sink := newLedger(t)
		for _, e := range row.events {
			switch e := e.(type) {
			case workload.Seen:
				l.Saw(e)
			case workload.Acknowledged:
				l.Acknowledge(e)
			}
		}
		l.Abandon()
		var got []string
		for _, v := range sink.violations {
			missing := "-"
			if v.AcknowledgedUS != nil {
				missing = fmt.Sprint(*v.AcknowledgedUS)
			}
			got = append(got, fmt.Sprintf("%s %s %d.%d.%d %s", v.Violation, v.Operation, v.Message, v.Recipient, v.Try, missing))
		}
		if strings.Join(got, ", ") != row.want {
			t.Errorf("%s: got %q (%+v), want %q", row.sentence, got, sink.violations, row.want)
		}
	}
}

// store is what a target holds; all SQL nodes read the same of it, but for those
// that are dead.
type store struct {
	rows     map[greylist.Key]greylist.State
	texts    map[textKey]string
	dead     map[string]bool
	closed   int
	accounts map[string]accounts.Account
}

func (s *store) open(_ context.Context, n topology.Node) (Reader, error) {
	if s.dead[n.Name] {
		return nil, errors.New("connection refused")
	}
	return s, nil
}

func (s *store) Greylist(_ context.Context, keys []greylist.Key) (map[greylist.Key]greylist.State, error) {
	got := map[greylist.Key]greylist.State{}
	for _, k := range keys {
		if row, ok := s.rows[k]; ok {
			got[k] = row
		}
	}
	return got, nil
}

func (s *store) Preferences(_ context.Context, user string) (map[string]string, error) {
	got := map[string]string{}
	for k, v := range s.texts {
		if k.user == user && v != "" {
			got[k.key] = v
		}
	}
	return got, nil
}

func (s *store) Account(_ context.Context, login string) (accounts.Account, error) {
	a, ok := s.accounts[login]
	if !ok {
		return a, fmt.Errorf("account %s: %w", login, accounts.ErrNotFound)
	}
	return a, nil
}

func (s *store) Close() error { s.closed++; return nil }

// TestPlantedDamageIsFound breaks a store in each way and reads it back.
func TestPlantedDamageIsFound(t *testing.T) {
	policy := greylist.DefaultPolicy()
	first, second := check("s@x.example", 0, 0, greylist.New, 0), check("s@x.example", 5, 400, greylist.Pass, 400*time.Second)
	triplet, client := policy.TripletKey(first.Request.Client, "", "s@x.example", first.Request.Recipient), greylist.ClientKey(first.Request.Client)
	unix := func(v float64) int64 { return day.Add(at(v)).Unix() }
	theme, gone := textKey{reference.Preferences, "u", "theme"}, textKey{reference.Preferences, "u", "gone"}
	for _, row := range []struct {
		sentence string
		plant    func(*store)
		want     string // kind, key's verdict, and what is missing; through both nodes
	}{
		{"nothing is broken", func(*store) {}, ""},
		{"a triplet is gone", func(s *store) { delete(s.rows, triplet) }, "triplet lost 2000"},
		{"a triplet is as it was before", func(s *store) {
			s.rows[triplet] = greylist.State{Seen: true, First: unix(0), Last: unix(0)}
		}, "triplet stale 5002000"},
		{"a triplet is as nobody wrote it", func(s *store) {
			s.rows[triplet] = greylist.State{Seen: true, First: unix(1), Last: unix(400)}
		}, "triplet lost 2000"},
		{"a credit is gone", func(s *store) { delete(s.rows, client) }, "credit lost 5002000"},
		{"there is a credit too many", func(s *store) {
			s.rows[client] = greylist.State{Seen: true, First: unix(400), Last: unix(400), Credits: 2}
		}, "credit lost -"},
		{"a preference is gone", func(s *store) { s.texts[theme] = "" }, "preference lost 1000000"},
		{"a preference is as it was before", func(s *store) { s.texts[theme] = "dark" }, "preference stale 4000000"},
		{"a preference that was removed is there again", func(s *store) { s.texts[gone] = "x" }, "preference resurrected 4000000"},
		{"an account is gone", func(s *store) { delete(s.accounts, "new1@calmail.example") }, "account lost 1000000"},
		{"an account is elsewhere", func(s *store) { s.accounts["new1@calmail.example"] = accounts.Account{Backend: "cyrus9"} }, "account lost -"},
	} {
		l, sink := newLedger(t)
		s := &store{
			rows: map[greylist.Key]greylist.State{
				triplet: {Seen: true, First: unix(0), Last: unix(400)}, client: {Seen: true, First: unix(400), Last: unix(400), Credits: 1},
			},
			texts:    map[textKey]string{theme: "light"},
			accounts: map[string]accounts.Account{"new1@calmail.example": {Backend: "cyrus1"}},
		}
		named := func(key string, a workload.Acknowledged) workload.Acknowledged { a.Key = key; return a }
		create := set("on cyrus1", 0, 1, "certain")
		create.Operation, create.User, create.Key = reference.ChangeAccount, "new1@calmail.example", workload.AccountHome
		for _, a := range []workload.Acknowledged{
			first, second, create, named("theme", set("dark", 0, 1, "certain")), named("theme", set("light", 3, 4, "certain")),
			named("gone", set("x", 0, 1, "certain")), named("gone", set("", 3, 4, "certain")),
			named("maybe", set("x", 0, 1, "uncertain")),
		} {
			l.Acknowledge(a)
		}
		row.plant(s)
		now := at(100)
		l.ReadBack(t.Context(), Reading{Open: s.open, Since: func() time.Duration { now += time.Millisecond; return now }})
		var got []string
		for _, r := range sink.rows {
			missing := "-"
			if r.AcknowledgedUS != nil {
				missing = fmt.Sprint(*r.AcknowledgedUS)
			}
			got = append(got, fmt.Sprintf("%s %s %s", r.Kind, r.Verdict, missing))
		}
		var want []string
		if row.want != "" {
			want = []string{row.want, row.want} // by each node
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", row.sentence, got, want)
		}
		if keys := l.Keys(); keys != 5 || sink.total(func(c *results.LedgerCounts) int64 { return c.Acknowledged }) != keys {
			t.Errorf("%s: %d keys, summary %+v, want 5", row.sentence, keys, sink.summary)
		}
		if len(sink.violations) > 0 {
			t.Errorf("%s: %+v", row.sentence, sink.violations)
		}
	}
}

func TestEverySQLNodeIsRead(t *testing.T) {
	for _, row := range []struct {
		sentence          string
		dead              []string
		verified, unknown int64
		unread            []int64
	}{
		{"both answer", nil, 2, 0, []int64{0, 0}},
		{"one is dead: the other has all", []string{"mta1"}, 2, 0, []int64{2, 0}},
		{"both are", []string{"mta1", "webmail1"}, 0, 2, []int64{2, 2}},
	} {
		l, sink := newLedger(t)
		l.Acknowledge(set("a", 0, 1, "certain"))
		other := set("b", 0, 1, "certain")
		other.User = "v"
		l.Acknowledge(other)
		s := &store{texts: map[textKey]string{key: "a", {reference.Preferences, "v", "k"}: "b"}, dead: map[string]bool{}}
		for _, host := range row.dead {
			for _, n := range l.topology.ByRole(topology.SQL) {
				if n.Host == host {
					s.dead[n.Name] = true
				}
			}
		}
		l.ReadBack(t.Context(), Reading{Open: s.open, Since: func() time.Duration { return at(10) }})
		var unread []int64
		for _, r := range sink.readings {
			unread = append(unread, r.Unread)
		}
		if sink.count(results.Verified) != row.verified || sink.count(results.LedgerUnknown) != row.unknown || !slices.Equal(unread, row.unread) || s.closed != 2-len(row.dead) {
			t.Errorf("%s: %+v, %+v, %d closed", row.sentence, sink.summary, sink.readings, s.closed)
		}
	}
}

// TestNoFalseAlarm plays ops at random, whose effects fall at any time of their
// course, twice or not at all where that may be, against the decision model: as NDB
// does, without a lock between reading and writing. Whatever is answered is right.
func TestNoFalseAlarm(t *testing.T) {
	policy := greylist.DefaultPolicy()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, sink := newLedger(t)
		type event struct {
			at time.Duration
			do func()
		}
		var events []event
		rows, texts := map[greylist.Key]greylist.State{}, map[textKey]string{}
		last := time.Duration(0)
		step := []float64{20, 60, 400, 1500, 3000}[seed%5] // virtual seconds from op to op
		for i := range 400 {
			dispatched := at(float64(i)*0.02 + r.Float64()*0.02)
			took := time.Duration(1+r.IntN(40)) * time.Millisecond
			ended := dispatched + took
			within := func() time.Duration { return dispatched + time.Duration(r.Int64N(int64(took))) }
			certain, lingers := r.IntN(10) > 0, r.IntN(10) == 0
			last = max(last, ended)
			if i%3 == 0 { // a preference
				k, value := textKey{reference.Preferences, "u", fmt.Sprint("k", r.IntN(3))}, fmt.Sprint("v", i)
				if r.IntN(4) == 0 {
					value = ""
				}
				write := func() { texts[k] = value }
				if certain || r.IntN(2) == 0 {
					events = append(events, event{within(), write})
				}
				if lingers || !certain && r.IntN(2) == 0 {
					events = append(events, event{dispatched + time.Duration(r.IntN(300))*time.Millisecond, write})
				}
				a := set(value, 0, 0, "certain")
				a.Key, a.Asked, a.Dispatched, a.At, a.Certain, a.Lingers = k.key, dispatched, dispatched, ended, certain, lingers || !certain
				events = append(events, event{ended, func() { l.Acknowledge(a) }})
				// Somebody reads at the same time.
				seen := map[string]string{}
				events = append(events, event{within(), func() {
					for k, v := range texts {
						if v != "" {
							seen[k.key] = v
						}
					}
				}}, event{ended, func() {
					l.Saw(workload.Seen{Op: workload.Op{Operation: reference.ReadPreferences, Asked: dispatched, At: ended}, User: "u", Preferences: seen})
				}})
				continue
			}
			a := check(fmt.Sprint("s", string(rune('a'+r.IntN(12))), "@x.example"), 0, float64(i)*step, 0, 0)
			a.Request.Client = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(2))})
			a.Asked, a.Dispatched, a.At, a.Certain, a.Lingers = dispatched, dispatched, ended, certain, lingers || !certain
			tk, ck := policy.TripletKey(a.Request.Client, "", a.Request.Sender, a.Request.Recipient), greylist.ClientKey(a.Request.Client)
			perform := func(reads, writes time.Duration, answered bool) {
				var triplet, client greylist.State
				var tw, cw bool
				events = append(events, event{reads, func() {
					before := rows[ck]
					answer, t2, c2 := policy.Decide(rows[tk], before, a.Request.Now.Unix())
					triplet, client, tw, cw = t2, c2, answer.Verdict != greylist.AutoWhitelisted, c2 != before
					if answered {
						a.Decision = answer
					}
				}}, event{writes, func() {
					if tw {
						rows[tk] = triplet
					}
					if cw {
						rows[ck] = client
					}
				}})
			}
			if lingers && certain { // an attempt before, whose statement may come late
				perform(dispatched, dispatched+time.Duration(r.IntN(300))*time.Millisecond, false)
			}
			if certain || r.IntN(2) == 0 {
				reads := within()
				perform(reads, reads+time.Duration(r.Int64N(int64(ended-reads))), certain)
			}
			events = append(events, event{ended, func() { l.Acknowledge(a) }})
		}
		slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
		for _, e := range events {
			e.do()
		}
		s := &store{rows: rows, texts: texts}
		l.ReadBack(t.Context(), Reading{Open: s.open, Since: func() time.Duration { return last + time.Second }})
		for _, v := range sink.violations {
			t.Errorf("seed %d: %+v", seed, v)
		}
		for _, row := range sink.rows {
			t.Errorf("seed %d: %+v", seed, row)
		}
		if n := sink.count(results.Verified); n < 5 {
			t.Errorf("seed %d: only %d keys were verified", seed, n)
		}
	}
}

// BenchmarkLedger is what an op costs: of four, three are routes and one is a
// greylist check, as in a day.
func BenchmarkLedger(b *testing.B) {
	l, _ := newLedger(b)
	p := population()
	senders, addresses, backends := make([]string, 100_000), make([]string, 500), make([]string, 500)
	for i := range senders {
		senders[i] = fmt.Sprintf("s%d@x.example", i)
	}
	for i := range addresses {
		addresses[i], backends[i] = p.Address(i), p.Backend(i)
	}
	now := time.Duration(0)
	b.ResetTimer()
	for i := range b.N {
		now += 500 * time.Microsecond
		if i%4 == 3 {
			a := check(senders[i/4%len(senders)], 0, float64(i), greylist.New, 0)
			a.Asked, a.Dispatched, a.At = now, now, now+time.Millisecond
			l.Acknowledge(a)
			continue
		}
		who := i % 500
		l.Saw(workload.Seen{
			Op: workload.Op{Operation: reference.Route, Asked: now, At: now + time.Millisecond}, User: addresses[who],
			Route: routing.Answer{Verdict: routing.Local, Backend: backends[who], Greylist: true, SpamThreshold: routing.DefaultSpamThreshold},
		})
	}
}

func TestCreditsAreKnownWithinBounds(t *testing.T) {
	pass := func(sender string, began, ended, v float64, lingers bool) workload.Acknowledged {
		a := check(sender, began, v, greylist.Pass, 400*time.Second)
		a.At, a.Lingers = at(ended), lingers
		return a
	}
	again := check("s@x.example", 5, 4000, greylist.Pass, 0) // passed before: its other attempt may have earned the credit
	again.Lingers = true
	for _, row := range []struct {
		sentence string
		passes   []workload.Acknowledged
		credits  []int64 // that may rightly be there
	}{
		{"one earns one", []workload.Acknowledged{pass("a@x.example", 1, 2, 400, false)}, []int64{1}},
		{"two within the hour earn one", []workload.Acknowledged{pass("a@x.example", 1, 2, 400, false), pass("b@x.example", 3, 4, 500, false)}, []int64{1}},
		{"an hour later it is two", []workload.Acknowledged{pass("a@x.example", 1, 2, 400, false), pass("b@x.example", 3, 4, 4000, false)}, []int64{2}},
		{"of two that overlap one may be lost: neither has locked the other out", []workload.Acknowledged{pass("a@x.example", 1, 3, 400, false), pass("b@x.example", 2, 4, 4000, false)}, []int64{1, 2}},
		{"a statement that lingers may set a later one back", []workload.Acknowledged{pass("a@x.example", 1, 2, 400, true), pass("b@x.example", 3, 4, 4000, false)}, []int64{1, 2, 3}},
		{"an attempt that was not answered may have earned one", []workload.Acknowledged{pass("a@x.example", 1, 2, 0, false), again}, []int64{1, 2}},
	} {
		l, _ := newLedger(t)
		for _, p := range row.passes {
			if p.Lingers && p.Decision.Delayed > 0 {
				l.Acknowledge(pass("z@x.example", 0, 0.5, -4000, false)) // so that something was earned for certain
			}
			l.Acknowledge(p)
		}
		client := greylist.ClientKey(netip.MustParseAddr("192.0.2.1"))
		for n := range int64(5) {
			last := int64(l.credits[client].lastMost)
			v, _, _ := l.judgeCredit(client, greylist.State{Seen: true, Last: last, Credits: n}, 900_000, true)
			if (v == results.Verified) != slices.Contains(row.credits, n) {
				t.Errorf("%s: %d credits are %s, want only %v verified", row.sentence, n, v, row.credits)
			}
		}
	}
}
