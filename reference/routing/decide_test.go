package routing_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/routing"
)

// someRows are a mail system that has a bit of everything.
var someRows = []routing.Row{
	{Address: "@example.edu", Kind: routing.Domain},
	{Address: "@alias.example", Kind: routing.Domain, Targets: []string{"@example.edu"}},
	{Address: "@all.example", Kind: routing.Domain, Targets: []string{"a@example.edu"}},
	{Address: "@gone.example", Kind: routing.Domain, State: routing.StateClosed},
	{Address: "@ring.example", Kind: routing.Domain, Targets: []string{"@ring2.example"}},
	{Address: "@ring2.example", Kind: routing.Domain, Targets: []string{"@ring.example"}},
	{Address: "@self.example", Kind: routing.Domain, Targets: []string{"nobody@self.example"}},
	{Address: "a@example.edu", Backend: "cyrus1"},
	{Address: "b@example.edu", Backend: "cyrus2", NoGreylist: true, SpamThreshold: 95},
	{Address: "own@alias.example", Backend: "cyrus3"},
	{Address: "suspended@example.edu", Backend: "cyrus1", State: routing.StateSuspended},
	{Address: "closed@example.edu", Backend: "cyrus1", State: routing.StateClosed, Targets: []string{"a@example.edu"}},
	{Address: "moving@example.edu", Backend: "cyrus1", State: routing.StateMoving},
	{Address: "forward@example.edu", Backend: "cyrus1", Targets: []string{"me@home.example"}},
	{Address: "copy@example.edu", Backend: "cyrus1", Targets: []string{"b@example.edu", "me@home.example"}, KeepCopy: true, SpamThreshold: 50},
	{Address: "other@example.edu", Kind: routing.Alias, Targets: []string{"copy@example.edu"}, KeepCopy: true},
	{Address: "dead@example.edu", Kind: routing.Alias, Targets: []string{"nobody@example.edu"}, NoGreylist: true},
	{Address: "list@example.edu", Kind: routing.List, Targets: []string{"a@example.edu", "other@example.edu", "b@example.edu", "suspended@example.edu", "moving@example.edu", "dead@example.edu"}},
	{Address: "lists@example.edu", Kind: routing.List, Targets: []string{"list@example.edu", "lists2@example.edu"}},
	{Address: "lists2@example.edu", Kind: routing.List, Targets: []string{"lists@example.edu", "a@example.edu"}},
	{Address: "tick@example.edu", Backend: "cyrus1", Targets: []string{"tock@example.edu"}},
	{Address: "tock@example.edu", Backend: "cyrus2", Targets: []string{"tick@example.edu"}},
	{Address: "both@example.edu", Kind: routing.List, Targets: []string{"tick@example.edu", "tock@example.edu"}},
	{Address: "here@example.edu", Backend: "cyrus1", Targets: []string{"there@example.edu"}, KeepCopy: true},
	{Address: "there@example.edu", Backend: "cyrus2", Targets: []string{"here@example.edu"}, KeepCopy: true},
}

// answers are what a Router makes of someRows, one step each.
var answers = []struct {
	sentence, address string
	want              routing.Answer
}{
	{"a mailbox is local", "a@example.edu",
		routing.Answer{Verdict: routing.Local, Backend: "cyrus1", Greylist: true, SpamThreshold: 70}},
	{"its owner may want no greylisting and another threshold", "b@example.edu",
		routing.Answer{Verdict: routing.Local, Backend: "cyrus2", SpamThreshold: 95}},
	{"what nobody has is unknown in a domain of ours", "nobody@example.edu", routing.Answer{Verdict: routing.Unknown}},
	{"other domains are foreign", "nobody@example.org", routing.Answer{Verdict: routing.Foreign}},
	{"a domain below one of ours is not ours", "a@sub.example.edu", routing.Answer{Verdict: routing.Foreign}},
	{"a suspended mailbox is refused", "suspended@example.edu", routing.Answer{Verdict: routing.Suspended, Greylist: true}},
	{"a closed one is refused wherever it led", "closed@example.edu", routing.Answer{Verdict: routing.Closed, Greylist: true}},
	{"a moving one is deferred", "moving@example.edu", routing.Answer{Verdict: routing.Moving, Greylist: true}},
	{"a forward goes on", "forward@example.edu",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"me@home.example"}, Greylist: true}},
	{"a forward may leave a copy", "copy@example.edu",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"b@example.edu", "me@home.example"}, KeepCopy: true, Backend: "cyrus1", Greylist: true, SpamThreshold: 50}},
	{"an alias leads to its one target, and keeps nothing", "other@example.edu",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"copy@example.edu"}, Greylist: true}},
	{"a list leads to all of its targets", "lists2@example.edu",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"lists@example.edu", "a@example.edu"}, Greylist: true}},
	{"an address of another name of a domain is that of the domain", "b@alias.example",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"b@example.edu"}, Greylist: true}},
	{"but for an address with a row of its own", "own@alias.example",
		routing.Answer{Verdict: routing.Local, Backend: "cyrus3", Greylist: true, SpamThreshold: 70}},
	{"someone may take all the mail of a domain", "x@all.example",
		routing.Answer{Verdict: routing.Redirect, Targets: []string{"a@example.edu"}, Greylist: true}},
	{"a domain may be closed as a whole", "x@gone.example", routing.Answer{Verdict: routing.Closed, Greylist: true}},
}

func table(rows []routing.Row) func(string) (routing.Row, bool) {
	byAddress := map[string]routing.Row{}
	for _, r := range rows {
		byAddress[r.Address] = r
	}
	return func(address string) (routing.Row, bool) {
		r, ok := byAddress[address]
		return r, ok
	}
}

func TestDecide(t *testing.T) {
	lookup := table(someRows)
	for _, r := range someRows {
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
	}
	row := func(address string) *routing.Row {
		if r, ok := lookup(address); ok {
			return &r
		}
		return nil
	}
	for _, c := range answers {
		if got := routing.Decide(c.address, row(c.address), row(routing.DomainOf(c.address))); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %s is %+v, want %+v", c.sentence, c.address, got, c.want)
		}
	}

	// What Validate lets nobody store has an answer all the same.
	domain := routing.DomainRow("example.edu")
	for _, odd := range []routing.Row{{Kind: routing.Domain}, {Kind: routing.Alias}, {Kind: routing.List}, {Kind: 9}} {
		if got := routing.Decide("a@example.edu", &odd, &domain); got.Verdict != routing.Unknown {
			t.Errorf("a row %+v makes %+v", odd, got)
		}
	}
	notADomain := routing.Row{Address: "@example.edu", Backend: "cyrus1"}
	if got := routing.Decide("a@example.edu", nil, &notADomain); got.Verdict != routing.Foreign {
		t.Errorf("a mailbox in a domain's place makes %+v", got)
	}
	long := strings.Repeat("a", routing.MaxAddress-len("@x")) + "@x"
	if got := routing.Decide(long, nil, &routing.Row{Kind: routing.Domain, Targets: []string{"@longer"}}); got.Verdict != routing.Unknown {
		t.Errorf("an address that its domain's other name makes too long is %+v", got)
	}
}

func TestResolve(t *testing.T) {
	local := func(name, backend string) routing.Delivery {
		return routing.Delivery{Address: name + "@example.edu", Backend: backend, SpamThreshold: 70}
	}
	var (
		a      = local("a", "cyrus1")
		b      = routing.Delivery{Address: "b@example.edu", Backend: "cyrus2", SpamThreshold: 95}
		copied = routing.Delivery{Address: "copy@example.edu", Backend: "cyrus1", SpamThreshold: 50}
		home   = []string{"me@home.example"}
	)
	type failures = []routing.Failure
	for _, c := range []struct {
		sentence, address string
		want              routing.Resolution
	}{
		{"a mailbox takes its mail", "A@Example.edu", routing.Resolution{Deliveries: []routing.Delivery{a}}},
		{"a foreign address is refused", "x@example.org", routing.Resolution{Failures: failures{{"x@example.org", routing.Foreign}}}},
		{"a forward without a copy leaves", "forward@example.edu", routing.Resolution{Foreign: home}},
		{"an alias of a forward with a copy does both", "other@example.edu",
			routing.Resolution{Deliveries: []routing.Delivery{copied, b}, Foreign: home}},
		{"a list reaches each address once, however it is reached", "list@example.edu", routing.Resolution{
			Deliveries: []routing.Delivery{a, b, copied}, Foreign: home,
			Failures: failures{{"suspended@example.edu", routing.Suspended}, {"moving@example.edu", routing.Moving}, {"nobody@example.edu", routing.Unknown}},
		}},
		{"lists that hold each other are loops, and deliver", "lists2@example.edu", routing.Resolution{
			Deliveries: []routing.Delivery{a, b, copied}, Foreign: home,
			Failures: failures{
				{"suspended@example.edu", routing.Suspended}, {"moving@example.edu", routing.Moving}, {"nobody@example.edu", routing.Unknown},
				{"lists2@example.edu", routing.Loop}, {"lists@example.edu", routing.Loop},
			},
		}},
		{"two who forward to each other deliver nothing", "tick@example.edu",
			routing.Resolution{Failures: failures{{"tick@example.edu", routing.Loop}, {"tock@example.edu", routing.Loop}}}},
		{"as well when both are met side by side", "both@example.edu",
			routing.Resolution{Failures: failures{{"tick@example.edu", routing.Loop}, {"tock@example.edu", routing.Loop}}}},
		{"two who keep copies get one each", "here@example.edu", routing.Resolution{
			Deliveries: []routing.Delivery{local("here", "cyrus1"), local("there", "cyrus2")},
			Failures:   failures{{"here@example.edu", routing.Loop}, {"there@example.edu", routing.Loop}},
		}},
		{"the other name of a domain", "copy@alias.example",
			routing.Resolution{Deliveries: []routing.Delivery{copied, b}, Foreign: home}},
		{"unknown there is unknown here", "nobody@alias.example", routing.Resolution{Failures: failures{{"nobody@example.edu", routing.Unknown}}}},
		{"all mail of a domain", "x@all.example", routing.Resolution{Deliveries: []routing.Delivery{a}}},
		{"domains that name each other", "x@ring.example",
			routing.Resolution{Failures: failures{{"x@ring.example", routing.Loop}, {"x@ring2.example", routing.Loop}}}},
		{"a domain whose taker of all has no row", "x@self.example",
			routing.Resolution{Failures: failures{{"nobody@self.example", routing.Loop}}}},
	} {
		if got := routing.Resolve(c.address, table(someRows)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %s becomes\n%+v, want\n%+v", c.sentence, c.address, got, c.want)
		}
	}
}

func TestResolveDepth(t *testing.T) {
	chain := func(n int) []routing.Row {
		rows := []routing.Row{routing.DomainRow("x"), {Address: fmt.Sprintf("a%d@x", n), Backend: "cyrus1"}}
		for i := range n {
			rows = append(rows, routing.Row{Address: fmt.Sprintf("a%d@x", i), Kind: routing.Alias, Targets: []string{fmt.Sprintf("a%d@x", i+1)}})
		}
		return rows
	}
	if got := routing.Resolve("a0@x", table(chain(routing.MaxHops))); len(got.Deliveries) != 1 || got.Failures != nil {
		t.Errorf("%d redirections end in %+v", routing.MaxHops, got)
	}
	last := fmt.Sprintf("a%d@x", routing.MaxHops+1)
	want := routing.Resolution{Failures: []routing.Failure{{Address: last, Why: routing.TooDeep}}}
	if got := routing.Resolve("a0@x", table(chain(routing.MaxHops+1))); !reflect.DeepEqual(got, want) {
		t.Errorf("%d redirections end in %+v", routing.MaxHops+1, got)
	}
	// The shortest way counts, wherever in a list it stands.
	short := append(chain(routing.MaxHops), routing.Row{Address: "l@x", Kind: routing.List, Targets: []string{"a0@x", fmt.Sprintf("a%d@x", routing.MaxHops-1)}})
	if got := routing.Resolve("l@x", table(short)); len(got.Deliveries) != 1 || got.Failures != nil {
		t.Errorf("a short way beside a long one ends in %+v", got)
	}
}

// TestResolveEnds resolves every address of random mail systems, most of them
// full of loops, and compares with what can be told without following in order:
// what is delivered is exactly what can be reached.
func TestResolveEnds(t *testing.T) {
	loops := 0
	for seed := range uint64(500) {
		rows := randomRows(rand.New(rand.NewPCG(seed, 1)))
		lookup := table(rows)
		for _, start := range rows {
			if start.Kind == routing.Domain {
				continue
			}
			asked := map[string]int{}
			got := routing.Resolve(start.Address, func(address string) (routing.Row, bool) {
				asked[address]++
				return lookup(address)
			})
			for address, n := range asked {
				if n > 1 && !strings.HasPrefix(address, "@") {
					t.Fatalf("seed %d: %s: asked for %s %d times", seed, start.Address, address, n)
				}
			}
			var delivered []string
			for _, d := range got.Deliveries {
				delivered = append(delivered, d.Address)
			}
			slices.Sort(delivered)
			slices.Sort(got.Foreign)
			want, foreign := reached(start.Address, lookup)
			if !slices.Equal(delivered, want) || !slices.Equal(got.Foreign, foreign) {
				t.Fatalf("seed %d: %s delivers to %q and %q, want %q and %q", seed, start.Address, delivered, got.Foreign, want, foreign)
			}
			if len(delivered)+len(got.Foreign)+len(got.Failures) == 0 {
				t.Fatalf("seed %d: mail for %s disappears", seed, start.Address)
			}
			failed := map[routing.Failure]bool{}
			for _, f := range got.Failures {
				if failed[f] {
					t.Fatalf("seed %d: %s fails twice at %v", seed, start.Address, f)
				}
				failed[f] = true
				if f.Why == routing.Loop {
					loops++
				}
			}
		}
	}
	if loops == 0 {
		t.Error("none of the mail systems had a loop, so that this proves nothing")
	}
}

func randomRows(r *rand.Rand) []routing.Row {
	domains := []string{"@a.example", "@b.example", "@c.example", "@foreign.example"}
	any := func() string { return fmt.Sprintf("u%d%s", r.IntN(12), domains[r.IntN(len(domains))]) }
	rows := []routing.Row{
		{Address: "@a.example", Kind: routing.Domain},
		{Address: "@b.example", Kind: routing.Domain, Targets: []string{"@a.example"}},
		{Address: "@c.example", Kind: routing.Domain, Targets: []string{any()}},
	}
	seen := map[string]bool{}
	for range 15 {
		row := routing.Row{Address: any(), Kind: routing.Kind(r.IntN(3)), State: routing.State(max(0, r.IntN(12)-8))}
		if seen[row.Address] || strings.HasSuffix(row.Address, "foreign.example") {
			continue
		}
		if row.Kind == routing.Mailbox {
			row.Backend, row.KeepCopy = "cyrus1", r.IntN(2) == 0
		} else if row.State == routing.StateMoving {
			row.State = routing.Active
		}
		for range []int{r.IntN(3), 1, 1 + r.IntN(4)}[row.Kind] {
			row.Targets = append(row.Targets, any())
		}
		if row.Validate() == nil {
			rows, seen[row.Address] = append(rows, row), true
		}
	}
	return rows
}

// reached finds by brute force which mailboxes and foreign addresses anything
// leads to.
func reached(start string, lookup func(string) (routing.Row, bool)) (mailboxes, foreign []string) {
	seen := map[string]bool{}
	var visit func(address string)
	visit = func(address string) {
		if seen[address] {
			return
		}
		seen[address] = true
		row, found := lookup(address)
		at := strings.IndexByte(address, '@')
		domain, ours := lookup(address[at:])
		switch {
		case found && row.State != routing.Active:
		case found:
			if row.Kind == routing.Mailbox && (len(row.Targets) == 0 || row.KeepCopy) {
				mailboxes = append(mailboxes, address)
			}
			for _, target := range row.Targets {
				visit(target)
			}
		case !ours:
			foreign = append(foreign, address)
		case len(domain.Targets) > 0 && domain.Targets[0][0] == '@':
			visit(address[:at] + domain.Targets[0])
		case len(domain.Targets) > 0:
			visit(domain.Targets[0])
		}
	}
	visit(start)
	slices.Sort(mailboxes)
	slices.Sort(foreign)
	return mailboxes, foreign
}
