package accounts_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
)

var (
	then  = time.Unix(1_200_000_000, 0)
	later = then.Add(time.Hour)
)

// ada is an account that has a bit of everything.
func ada() accounts.Account {
	return accounts.Account{
		Login: "ada@example.edu", Aliases: []string{"a.l@example.edu", "countess@example.edu"}, FullName: "Ada Lovelace, née Byron",
		Affiliation: "faculty", Backend: "cyrus1", QuotaMB: 500, SpamThreshold: 70, Created: then, Changed: then,
	}
}

func in(state routing.State, change ...func(*accounts.Account)) *accounts.Account {
	a := ada()
	a.State = state
	if state == routing.StateMoving {
		a.MovingTo = "cyrus2"
	}
	for _, c := range change {
		c(&a)
	}
	return &a
}

func TestApply(t *testing.T) {
	became := func(change func(*accounts.Account)) *accounts.Account {
		a := ada()
		a.Changed = later
		change(&a)
		return &a
	}
	active, suspended := in(routing.Active), in(routing.StateSuspended)
	closed, moving := in(routing.StateClosed), in(routing.StateMoving)
	for _, c := range []struct {
		sentence string
		before   *accounts.Account
		change   accounts.Change
		after    *accounts.Account // nil if refused
		err      error
	}{
		{"a name that is free is given", nil, accounts.Change{Action: accounts.Create, Account: ada()},
			became(func(a *accounts.Account) { a.Created = later }), nil},
		{"a new account is active, whatever is asked for", nil, accounts.Change{Action: accounts.Create, Account: *closed},
			became(func(a *accounts.Account) { a.Created = later }), nil},
		{"a name is given once", closed, accounts.Change{Action: accounts.Create, Account: ada()}, nil, accounts.ErrExists},
		{"nobody is not suspended", nil, accounts.Change{Action: accounts.Suspend}, nil, accounts.ErrNotFound},

		{"a rename changes the login", active, accounts.Change{Action: accounts.Rename, NewLogin: "king@example.edu"},
			became(func(a *accounts.Account) { a.Login = "king@example.edu" }), nil},
		{"the old login may stay as an alias", active, accounts.Change{Action: accounts.Rename, NewLogin: "king@example.edu", KeepOld: true},
			became(func(a *accounts.Account) {
				a.Login, a.Aliases = "king@example.edu", []string{"a.l@example.edu", "ada@example.edu", "countess@example.edu"}
			}), nil},
		{"an alias may become the login", active, accounts.Change{Action: accounts.Rename, NewLogin: "a.l@example.edu"},
			became(func(a *accounts.Account) {
				a.Login, a.Aliases = "a.l@example.edu", []string{"countess@example.edu"}
			}), nil},
		{"who forwards to an address cannot take its name",
			in(routing.Active, func(a *accounts.Account) { a.Targets = []string{"king@example.edu"} }),
			accounts.Change{Action: accounts.Rename, NewLogin: "king@example.edu"}, nil, fs.ErrInvalid},

		{"nobody forwards to an alias of their own", active, accounts.Change{Action: accounts.SetForward, Targets: []string{"me@home.example", "a.l@example.edu"}}, nil, fs.ErrInvalid},
		{"not with a copy either", active, accounts.Change{Action: accounts.SetForward, Targets: []string{"a.l@example.edu"}, KeepCopy: true}, nil, fs.ErrInvalid},
		{"nor takes an address for an alias that they forward to",
			in(routing.Active, func(a *accounts.Account) { a.Targets = []string{"king@example.edu"} }),
			accounts.Change{Action: accounts.AddAlias, Alias: "king@example.edu"}, nil, fs.ErrInvalid},

		{"an active account is suspended", active, accounts.Change{Action: accounts.Suspend},
			became(func(a *accounts.Account) { a.State = routing.StateSuspended }), nil},
		{"a suspended account is not suspended again", suspended, accounts.Change{Action: accounts.Suspend}, nil, accounts.ErrState},
		{"a suspended account is active again", suspended, accounts.Change{Action: accounts.Resume}, became(func(*accounts.Account) {}), nil},
		{"a suspended account is closed", suspended, accounts.Change{Action: accounts.Close},
			became(func(a *accounts.Account) { a.State = routing.StateClosed }), nil},

		{"an alias is added in its place", active, accounts.Change{Action: accounts.AddAlias, Alias: "byron@example.edu"},
			became(func(a *accounts.Account) {
				a.Aliases = []string{"a.l@example.edu", "byron@example.edu", "countess@example.edu"}
			}), nil},
		{"an alias is added once", active, accounts.Change{Action: accounts.AddAlias, Alias: "a.l@example.edu"}, nil, accounts.ErrExists},
		{"the 101st alias is too many",
			in(routing.Active, func(a *accounts.Account) {
				a.Aliases = nil
				for i := range accounts.MaxAliases {
					a.Aliases = append(a.Aliases, fmt.Sprintf("a%03d@example.edu", i))
				}
			}),
			accounts.Change{Action: accounts.AddAlias, Alias: "a.l@example.edu"}, nil, fs.ErrInvalid},
		{"an alias is removed", active, accounts.Change{Action: accounts.RemoveAlias, Alias: "a.l@example.edu"},
			became(func(a *accounts.Account) { a.Aliases = []string{"countess@example.edu"} }), nil},
		{"only an alias is removed", active, accounts.Change{Action: accounts.RemoveAlias, Alias: "b@example.edu"}, nil, accounts.ErrNotFound},

		{"mail is forwarded with a copy", active, accounts.Change{Action: accounts.SetForward, Targets: []string{"me@home.example"}, KeepCopy: true},
			became(func(a *accounts.Account) { a.Targets, a.KeepCopy = []string{"me@home.example"}, true }), nil},
		{"or without", active, accounts.Change{Action: accounts.SetForward, Targets: []string{"me@home.example"}},
			became(func(a *accounts.Account) { a.Targets = []string{"me@home.example"} }), nil},
		{"or no more", in(routing.Active, func(a *accounts.Account) { a.Targets, a.KeepCopy = []string{"me@home.example"}, true }),
			accounts.Change{Action: accounts.SetForward}, became(func(*accounts.Account) {}), nil},

		{"a move begins", active, accounts.Change{Action: accounts.BeginMove, Backend: "cyrus2"},
			became(func(a *accounts.Account) { a.State, a.MovingTo = routing.StateMoving, "cyrus2" }), nil},
		{"a move leads elsewhere", active, accounts.Change{Action: accounts.BeginMove, Backend: "cyrus1"}, nil, accounts.ErrState},
		{"a move ends on the new backend", moving, accounts.Change{Action: accounts.FinishMove},
			became(func(a *accounts.Account) { a.Backend = "cyrus2" }), nil},
		{"or where it began", moving, accounts.Change{Action: accounts.AbortMove}, became(func(*accounts.Account) {}), nil},
		{"who moves cannot be suspended", moving, accounts.Change{Action: accounts.Suspend}, nil, accounts.ErrState},
		{"who moves cannot be renamed", moving, accounts.Change{Action: accounts.Rename, NewLogin: "king@example.edu"}, nil, accounts.ErrState},
		{"who does not move has no move to end", active, accounts.Change{Action: accounts.FinishMove}, nil, accounts.ErrState},
		{"who does not move has no move to abort", active, accounts.Change{Action: accounts.AbortMove}, nil, accounts.ErrState},
	} {
		c.change.ID, c.change.At, c.change.Login = [16]byte{1}, later.Add(time.Millisecond), "ada@example.edu"
		if err := c.change.Validate(); err != nil {
			t.Errorf("%s: %v", c.sentence, err)
		}
		var kept accounts.Account
		if c.before != nil {
			kept = *c.before
			kept.Aliases = slices.Clone(kept.Aliases)
		}
		after, err := accounts.Apply(c.before, c.change)
		if !errors.Is(err, c.err) || err == nil && !reflect.DeepEqual(after, *c.after) {
			t.Errorf("%s: got\n%+v, %v, want\n%+v, %v", c.sentence, after, err, c.after, c.err)
		}
		if c.before != nil && !reflect.DeepEqual(*c.before, kept) {
			t.Errorf("%s: the account before is %+v now", c.sentence, *c.before)
		}
	}
	for _, action := range accounts.Actions[1:] {
		c := accounts.Change{
			ID: [16]byte{1}, At: later, Action: action, Login: "ada@example.edu",
			NewLogin: "king@example.edu", Alias: "a.l@example.edu", Backend: "cyrus2",
		}
		if _, err := accounts.Apply(closed, c); !errors.Is(err, accounts.ErrState) {
			t.Errorf("%s of a closed account: %v", action, err)
		}
	}
}

func TestRows(t *testing.T) {
	for _, c := range []struct {
		state routing.State
		want  string // the states of the login and of the aliases
	}{
		{routing.Active, "active active active"},
		{routing.StateSuspended, "suspended suspended suspended"},
		{routing.StateClosed, "closed closed closed"},
		{routing.StateMoving, "moving active active"}, // the alias leads to the deferral
	} {
		rows := in(c.state).Rows()
		if got := strings.Join([]string{rows[0].State.String(), rows[1].State.String(), rows[2].State.String()}, " "); got != c.want {
			t.Errorf("an account that is %s has rows that are %s, want %s", c.state, got, c.want)
		}
	}
	for _, row := range in(routing.Active, func(a *accounts.Account) { a.SpamThreshold = 40 }).Rows() {
		if row.Threshold() != 40 {
			t.Errorf("the spam threshold of %s is %d, its owner's is 40", row.Address, row.Threshold())
		}
	}
	forward := in(routing.Active, func(a *accounts.Account) {
		a.Targets, a.KeepCopy, a.NoGreylist, a.SpamThreshold = []string{"me@home.example"}, true, true, 40
	})
	byAddress := map[string]routing.Row{}
	for _, r := range forward.Rows() {
		byAddress[r.Address] = r
	}
	got := routing.Resolve("A.L@example.edu", func(address string) (routing.Row, bool) {
		r, ok := byAddress[address]
		return r, ok && r.NoGreylist // each row says that the owner wants no greylisting
	})
	want := routing.Resolution{
		Deliveries: []routing.Delivery{{Address: "ada@example.edu", Backend: "cyrus1", SpamThreshold: 40}},
		Foreign:    []string{"me@home.example"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("mail to an alias becomes %+v, want %+v", got, want)
	}
}

func TestChangeValidate(t *testing.T) {
	good := func(change func(*accounts.Change)) accounts.Change {
		c := accounts.Change{ID: [16]byte{1}, At: then, Action: accounts.Create, Login: "ada@example.edu", Account: ada()}
		change(&c)
		return c
	}
	account := func(change func(*accounts.Account)) accounts.Change {
		return good(func(c *accounts.Change) { change(&c.Account) })
	}
	for _, c := range []struct {
		sentence string
		change   accounts.Change
		valid    bool
	}{
		{"an account with all its parts", good(func(*accounts.Change) {}), true},
		{"an account needs no aliases, names or quota", account(func(a *accounts.Account) { *a = accounts.Account{Backend: "cyrus1"} }), true},
		{"a change has an action", good(func(c *accounts.Change) { c.Action = 0 }), false},
		{"there are eleven actions", good(func(c *accounts.Change) { c.Action = accounts.AbortMove + 1 }), false},
		{"a change has an id", good(func(c *accounts.Change) { c.ID = [16]byte{} }), false},
		{"a time is after 1969", good(func(c *accounts.Change) { c.At = time.Unix(-1, 0) }), false},
		{"a time is before 2107", good(func(c *accounts.Change) { c.At = time.Unix(1<<32, 0) }), false},
		{"a login is an address", good(func(c *accounts.Change) { c.Login = "ada" }), false},
		{"a login is in lower case", good(func(c *accounts.Change) { c.Login = "Ada@example.edu" }), false},
		{"a login has 128 bytes at most", good(func(c *accounts.Change) { c.Login = strings.Repeat("a", 117) + "@example.edu" }), false},
		{"a login can be a target", good(func(c *accounts.Change) { c.Login = "a,b@example.edu" }), false},
		{"a login has a domain that there can be", good(func(c *accounts.Change) { c.Login = "ada@example'edu" }), false},
		{"a login has a domain of at most 63 bytes a label", good(func(c *accounts.Change) { c.Login = "ada@" + strings.Repeat("e", 64) + ".edu" }), false},
		{"an alias has a domain that there can be", account(func(a *accounts.Account) { a.Aliases = []string{"countess@example..edu"} }), false},
		{"an added alias has a domain that there can be", good(func(c *accounts.Change) { c.Action, c.Alias = accounts.AddAlias, "countess@$example.edu" }), false},
		{"a new login has a domain that there can be", good(func(c *accounts.Change) { c.Action, c.NewLogin = accounts.Rename, "king@-example.edu" }), false},
		{"a new account does not forward to its alias", account(func(a *accounts.Account) { a.Targets = a.Aliases[:1] }), false},
		{"a backend is one host", account(func(a *accounts.Account) { a.Backend = "cyrus1:cyrus2" }), false},
		{"a backend is needed", account(func(a *accounts.Account) { a.Backend = "" }), false},
		{"an alias is an address", account(func(a *accounts.Account) { a.Aliases = []string{"countess"} }), false},
		{"an alias is not the login", account(func(a *accounts.Account) { a.Aliases = []string{"ada@example.edu"} }), false},
		{"an alias is there once", account(func(a *accounts.Account) { a.Aliases = []string{"x@example.edu", "x@example.edu"} }), false},
		{"a name has 255 bytes at most", account(func(a *accounts.Account) { a.FullName = strings.Repeat("é", 128) }), false},
		{"a name is UTF-8", account(func(a *accounts.Account) { a.FullName = "\xff" }), false},
		{"a name has no line end", account(func(a *accounts.Account) { a.FullName = "Ada\n" }), false},
		{"an affiliation has 64 bytes at most", account(func(a *accounts.Account) { a.Affiliation = strings.Repeat("x", 65) }), false},
		{"a threshold is at most 100 %", account(func(a *accounts.Account) { a.SpamThreshold = 101 }), false},
		{"a forward is an address", account(func(a *accounts.Account) { a.Targets = []string{"|cat"} }), false},
		{"a new login is another one", good(func(c *accounts.Change) { c.Action, c.NewLogin = accounts.Rename, c.Login }), false},
		{"a new login is an address", good(func(c *accounts.Change) { c.Action, c.NewLogin = accounts.Rename, "king" }), false},
		{"an added alias is an address", good(func(c *accounts.Change) { c.Action, c.Alias = accounts.AddAlias, "" }), false},
		{"a new forward is an address", good(func(c *accounts.Change) { c.Action, c.Targets = accounts.SetForward, []string{"x"} }), false},
		{"nobody forwards to himself", good(func(c *accounts.Change) { c.Action, c.Targets = accounts.SetForward, []string{c.Login} }), false},
		{"a move leads to a host", good(func(c *accounts.Change) { c.Action, c.Backend = accounts.BeginMove, "cyrus 2" }), false},
	} {
		if err := c.change.Validate(); (err == nil) != c.valid || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: got %v", c.sentence, err)
		}
	}
}

func TestVerdictOf(t *testing.T) {
	lost := errors.New("lost")
	for err, want := range map[error]accounts.Verdict{
		nil: accounts.Changed, accounts.ErrNotFound: accounts.NotFound, accounts.ErrExists: accounts.Exists,
		accounts.ErrState: accounts.BadState, lost: accounts.NoAnswer,
	} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("change: %w", err)
		}
		verdict, left := accounts.VerdictOf(wrapped)
		if verdict != want || (left != nil) != (err == lost) {
			t.Errorf("%v is %s and leaves %v", err, verdict, left)
		}
	}
}

// TestModelKeepsItsRules makes random changes of a few accounts: whatever
// happens, the rows of each account are valid, and a refusal changes nothing.
func TestModelKeepsItsRules(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	world, done := map[string]accounts.Account{}, map[string]int{}
	for n := range 20_000 {
		c := randomChange(r, n, 8)
		if err := c.Validate(); err != nil {
			continue
		}
		var before *accounts.Account
		if a, ok := world[c.Login]; ok {
			before = &a
		}
		after, err := accounts.Apply(before, c)
		verdict, left := accounts.VerdictOf(err)
		if left != nil && !errors.Is(left, fs.ErrInvalid) {
			t.Fatal(left)
		}
		done[c.Action.String()+" "+verdict.String()]++
		if err != nil {
			continue
		}
		for _, row := range after.Rows() {
			if err := row.Validate(); err != nil {
				t.Fatalf("%+v leaves a row that cannot be stored: %v", c, err)
			}
		}
		delete(world, c.Login)
		world[after.Login] = after
		if after.State == routing.StateClosed { // make room
			delete(world, after.Login)
		}
	}
	for _, a := range accounts.Actions {
		if done[a.String()+" changed"] == 0 {
			t.Errorf("%s never happened: %v", a, slices.Sorted(maps.Keys(done)))
		}
	}
}

// randomChange is change n of one of so many accounts; some of them cannot be.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func randomChange(r *rand.Rand, n, names int) accounts.Change {
	name := func() string { return fmt.Sprintf("u%d@example.edu", r.IntN(names)) }
	c := accounts.Change{
		At: then.Add(time.Duration(n) * time.Second), Action: accounts.Actions[r.IntN(len(accounts.Actions))], Login: name(),
		NewLogin: name(), KeepOld: r.IntN(2) == 0, Alias: fmt.Sprintf("n%d@example.edu", r.IntN(4*names)),
		KeepCopy: r.IntN(2) == 0, Backend: fmt.Sprintf("cyrus%d", r.IntN(3)),
		Account: accounts.Account{FullName: fmt.Sprintf("Change %d", n), Backend: "cyrus1", Aliases: []string{fmt.Sprintf("n%d@example.edu", r.IntN(4*names))}},
	}
	for range r.IntN(3) {
		c.Targets = append(c.Targets, name())
	}
	for i := range c.ID {
		c.ID[i] = byte(r.Uint32())
	}
	return c
}
