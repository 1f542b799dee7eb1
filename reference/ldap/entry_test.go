package ldap

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

func (c content) stored() *stored {
	s := newStored()
	for _, r := range c.routes {
		s.routes[r.Address] = r
	}
	for _, a := range c.accounts {
		s.accounts[a.Login] = a
	}
	for _, p := range c.preferences {
		s.addPreference(p)
	}
	return s
}

// TestEntriesAnswerAsRowsDo holds entries made of rows to the decision model on
// those rows.
func TestEntriesAnswerAsRowsDo(t *testing.T) {
	for seed := range uint64(20) {
		c := generate(seed, 100)
		for _, r := range c.routes {
			if err := r.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		entries, err := c.stored().entries()
		if err != nil {
			t.Fatal(err)
		}
		byAddress, names := map[string]entry{}, map[string]bool{}
		for _, e := range entries {
			if names[e.dn] {
				t.Errorf("seed %d: two entries are called %s", seed, e.dn)
			}
			names[e.dn] = true
			for _, address := range e.values[attrAddress] {
				byAddress[address] = e
			}
		}
		find := func(address string) *routing.Row {
			e, ok := byAddress[address]
			if !ok {
				return nil
			}
			row, err := e.row(address)
			if err != nil {
				t.Fatal(err)
			}
			return &row
		}
		rows := c.rows()
		for _, address := range c.asked() {
			got, want := routing.Decide(address, find(address), find(routing.DomainOf(address))), c.decide(rows, address)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("seed %d: %q: got %+v, want %+v", seed, address, got, want)
			}
		}
		likes := c.likes()
		for _, a := range c.accounts {
			e := byAddress[a.Login]
			if got, err := e.account(); err != nil || !reflect.DeepEqual(got, a) {
				t.Errorf("seed %d: account: got %+v, %v; want %+v", seed, got, err, a)
			}
			if got := e.preferences(); !maps.Equal(got, likes[a.Login]) {
				t.Errorf("seed %d: preferences of %q: got %q, want %q", seed, a.Login, got, likes[a.Login])
			}
		}
	}
}

func TestEntriesRefuse(t *testing.T) {
	at := time.Unix(1, 0)
	ann := accounts.Account{Login: "ann@example.edu", Aliases: []string{"a@example.edu"}, Backend: "cyrus1", SpamThreshold: 70, Created: at, Changed: at}
	for _, row := range []struct {
		sentence string
		add      func(*stored)
		message  string
		is       error
	}{
		{"an account whose route says the same is fine", func(s *stored) { s.routes[ann.Login] = ann.Rows()[0] }, "", nil},
		{"a default that is written out is the same", func(s *stored) { s.routes[ann.Login] = routing.Row{Address: ann.Login, Backend: "cyrus1"} }, "", nil},
		{"an account whose route says otherwise", func(s *stored) { s.routes[ann.Login] = routing.Row{Address: ann.Login, Backend: "cyrus2"} }, `route of "ann@example.edu"`, nil},
		{"an alias that leads elsewhere", func(s *stored) {
			s.routes["a@example.edu"] = routing.Row{Address: "a@example.edu", Kind: routing.Alias, Targets: []string{"b@example.edu"}}
		}, `route of "a@example.edu"`, nil},
		{"an alias of two accounts", func(s *stored) {
			bob := ann
			bob.Login = "bob@example.edu"
			s.accounts[bob.Login] = bob
		}, `address "a@example.edu" belongs to`, nil},
		{"preferences of nobody", func(s *stored) { s.addPreference(preferences.Row{User: "a@example.edu", Key: "k", Value: "v"}) }, "1 users of 1", ErrNoUser},
	} {
		s := newStored()
		s.accounts[ann.Login] = ann
		row.add(s)
		_, err := s.entries()
		if (err == nil) != (row.message == "") || err != nil && !strings.Contains(err.Error(), row.message) || row.is != nil && !errors.Is(err, row.is) {
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.message)
		}
	}
}

func TestEntriesThatAreStrange(t *testing.T) {
	for _, row := range []struct{ sentence, attribute, value string }{
		{"a kind of another program", attrKind, "robot"},
		{"a status of another program", attrStatus, "asleep"},
		{"a threshold that is no number", attrSpamThreshold, "high"},
		{"a quota that is too large", attrQuotaMB, "99999999999"},
		{"a time that is none", attrCreated, "yesterday"},
		{"no time", attrChanged, ""},
	} {
		e := accountEntry("x", accounts.Account{Login: "a@example.edu", Backend: "cyrus1", Created: time.Unix(1, 0), Changed: time.Unix(1, 0)})
		if _, err := e.account(); err != nil {
			t.Fatal(err)
		}
		e.values[row.attribute] = []string{row.value}
		if _, err := e.account(); err == nil || !strings.Contains(err.Error(), row.attribute) {
			t.Errorf("%s: error %v does not name %s", row.sentence, err, row.attribute)
		}
	}
}

func TestChangesAreOnlyWhatDiffers(t *testing.T) {
	before := accountEntry("x", accounts.Account{Login: "a@example.edu", Aliases: []string{"b@example.edu", "c@example.edu"}, Backend: "cyrus1", KeepCopy: true})
	before.values[attrAddress] = []string{"c@example.edu", "b@example.edu", "a@example.edu"} // as a server may give them
	after := accountEntry("x", accounts.Account{Login: "a@example.edu", Aliases: []string{"b@example.edu", "c@example.edu"}, Backend: "cyrus2"})
	want := []attributeChange{{attrHost, []string{"cyrus2"}}, {attrKeepCopy, nil}}
	if got := changes(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIDOf(t *testing.T) {
	for _, row := range []struct{ sentence, address, want string }{
		{"most addresses are names as they are", "ann.lee_x-1@example.edu", "ann.lee_x-1@example.edu"},
		{"what a DN gives a meaning to is not", `a+b,c="d"#e@x`, "a%2Bb%2Cc%3D%22d%22%23e@x"},
		{"nor are bytes beyond ASCII", "é\xff@x", "%C3%A9%FF@x"},
		{"nor the sign of these", "%41@x", "%2541@x"},
		{"a domain is a name", "@example.edu", "@example.edu"},
	} {
		if got := idOf(row.address); got != row.want {
			t.Errorf("%s: got %s, want %s", row.sentence, got, row.want)
		}
	}
	long := strings.Repeat("a", routing.MaxAddress-2) + "@x"
	if got := idOf(long); len(got) > maxID || !strings.HasPrefix(got, "SHA256-") || got == idOf("b"+long[1:]) {
		t.Errorf("a long address has the name %s", got)
	}
}

func FuzzPreference(f *testing.F) {
	f.Add("theme", "dark")
	f.Add("a=b%", "=")
	f.Add("%3D", "\x00\xff")
	f.Fuzz(func(t *testing.T, key, value string) {
		e := entry{values: map[string][]string{}}
		e.addPreferences(map[string]string{key: value, key + "=": "other"})
		if got := e.preferences(); len(got) != 2 || got[key] != value {
			t.Errorf("%q=%q became %q", key, value, got)
		}
		if had := e.storedFor(key); len(had) != 1 || had[0] != preference(key, value) {
			t.Errorf("%q is stored as %q", key, had)
		}
	})
}
