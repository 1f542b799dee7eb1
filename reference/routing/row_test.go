package routing_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/routing"
)

func TestRowValidate(t *testing.T) {
	mailbox := func(change func(*routing.Row)) routing.Row {
		r := routing.Row{Address: "a@example.edu", Backend: "cyrus1"}
		change(&r)
		return r
	}
	forward := func(targets ...string) routing.Row {
		return mailbox(func(r *routing.Row) { r.Targets = targets })
	}
	row := func(address string, kind routing.Kind, targets ...string) routing.Row {
		return routing.Row{Address: address, Kind: kind, Targets: targets}
	}
	// 31 * 254 + 30 commas = 7904 bytes, and one of 95 and its comma make 8000.
	var full []string
	for i := range 31 {
		name := fmt.Sprintf("%02d", i)
		full = append(full, name+strings.Repeat("a", routing.MaxAddress-len("@example.edu")-2)+"@example.edu")
	}
	full = append(full, strings.Repeat("b", 95-len("@example.edu"))+"@example.edu")
	tooFull := slices.Clone(full)
	tooFull[31] = "b" + tooFull[31]
	for _, c := range []struct {
		sentence string
		row      routing.Row
		valid    bool
	}{
		{"a row of lower case is stored", mailbox(func(*routing.Row) {}), true},
		{"an address in upper case would never be found", mailbox(func(r *routing.Row) { r.Address = "A@example.edu" }), false},
		{"a mailbox needs a backend", mailbox(func(r *routing.Row) { r.Backend = "" }), false},
		{"a backend is a host name", mailbox(func(r *routing.Row) { r.Backend = "cyrus 1" }), false},
		{"a backend may be an IPv4 address", mailbox(func(r *routing.Row) { r.Backend = "192.0.2.41" }), true},
		{"a backend may have labels of 63 letters, digits and hyphens", mailbox(func(r *routing.Row) { r.Backend = strings.Repeat("Ab-9", 15) + "xyz.example.edu" }), true},
		{"a label has 63 bytes at most", mailbox(func(r *routing.Row) { r.Backend = strings.Repeat("a", 64) + ".example.edu" }), false},
		{"a label is not empty", mailbox(func(r *routing.Row) { r.Backend = "cyrus1..example.edu" }), false},
		{"a name does not end with a dot", mailbox(func(r *routing.Row) { r.Backend = "cyrus1.example.edu." }), false},
		{"a hyphen is not first", mailbox(func(r *routing.Row) { r.Backend = "-cyrus1" }), false},
		{"a hyphen is not last", mailbox(func(r *routing.Row) { r.Backend = "cyrus1-.example.edu" }), false},
		{"a backend is not a list of hosts", mailbox(func(r *routing.Row) { r.Backend = "cyrus1:cyrus2" }), false},
		{"a backend is nothing to expand or quote", mailbox(func(r *routing.Row) { r.Backend = "<;a'b$" }), false},
		{"a backend is ASCII", mailbox(func(r *routing.Row) { r.Backend = "cyrüs" }), false},
		{"a backend has 255 bytes at most", mailbox(func(r *routing.Row) { r.Backend = strings.Repeat("c", 256) }), false},
		{"a mailbox may be moving", mailbox(func(r *routing.Row) { r.State = routing.StateMoving }), true},
		{"there are four kinds", mailbox(func(r *routing.Row) { r.Kind = 4 }), false},
		{"there are four states", mailbox(func(r *routing.Row) { r.State = 4 }), false},
		{"a threshold may be 100 %", mailbox(func(r *routing.Row) { r.SpamThreshold = 100 }), true},
		{"a threshold is at most 100 %", mailbox(func(r *routing.Row) { r.SpamThreshold = 101 }), false},
		{"a mailbox may have its mail forwarded", forward("b@example.edu", "c@example.org"), true},
		{"targets are in lower case", forward("B@example.edu"), false},
		{"a target has a domain", forward("b"), false},
		{"a target may be beyond ASCII", forward("\xff\xe9é@example.org"), true},
		{"a target has no comma", forward("a,b@example.org"), false},
		{"a target has no line end", forward("a\nb@example.org"), false},
		{"a target has no blank", forward("a b@example.org"), false},
		{"a target is not quoted", forward(`"b"@example.org`), false},
		{"a target is no pipe", forward("|b@example.org"), false},
		{"a target is no file", forward("/b@example.org"), false},
		{"a target is no remark", forward("#b@example.org"), false},
		{"a target is no include", forward(":include:b@example.org"), false},
		{"a target has one @", forward("b@c@example.org"), false},
		{"an empty target is none", forward(""), false},
		{"nobody forwards to himself", forward("a@example.edu"), false},
		{"a target is not a domain", forward("@example.org"), false},
		{"a target has 254 bytes at most", forward(strings.Repeat("a", 255-len("@example.edu")) + "@example.edu"), false},
		{"an alias has one target", row("b@example.edu", routing.Alias, "a@example.edu"), true},
		{"an alias has a target", row("b@example.edu", routing.Alias), false},
		{"an alias has no more than one target", row("b@example.edu", routing.Alias, "a@example.edu", "c@example.edu"), false},
		{"an alias cannot be moving", routing.Row{Address: "b@example.edu", Kind: routing.Alias, State: routing.StateMoving, Targets: []string{"a@example.edu"}}, false},
		{"an alias has no backend", routing.Row{Address: "b@example.edu", Kind: routing.Alias, Backend: "cyrus1", Targets: []string{"a@example.edu"}}, false},
		{"a list has some targets", row("l@example.edu", routing.List, "a@example.edu", "b@example.org"), true},
		{"a list is not empty", row("l@example.edu", routing.List), false},
		{"targets may have 8000 bytes", row("l@example.edu", routing.List, full...), true},
		{"targets have 8000 bytes at most", row("l@example.edu", routing.List, tooFull...), false},
		{"a domain may have no targets", routing.DomainRow("example.edu"), true},
		{"a domain may be another name of one", row("@example.edu", routing.Domain, "@example.org"), true},
		{"a domain may have someone who takes all", row("@example.edu", routing.Domain, "a@example.edu"), true},
		{"a domain has one target at most", row("@example.edu", routing.Domain, "a@example.edu", "b@example.edu"), false},
		{"a domain is not another name of itself", row("@example.edu", routing.Domain, "@example.edu"), false},
		{"a domain has a name", routing.DomainRow(""), false},
		{"a domain has no local part", row("a@example.edu", routing.Domain), false},
		{"a domain is in lower case", routing.DomainRow("Example.edu"), false},
		{"a domain has no backend", routing.Row{Address: "@example.edu", Kind: routing.Domain, Backend: "cyrus1"}, false},
		{"only a domain has no local part", row("@example.edu", routing.List, "a@example.edu"), false},
	} {
		err := c.row.Validate()
		if (err == nil) != c.valid || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: got %v", c.sentence, err)
		}
		if joined := routing.JoinTargets(c.row.Targets); c.valid && !slices.Equal(routing.SplitTargets(joined), c.row.Targets) {
			t.Errorf("%s: targets come back from %q as %q", c.sentence, joined, routing.SplitTargets(joined))
		}
	}
}

func TestNames(t *testing.T) {
	for k := routing.Mailbox; k <= routing.Domain; k++ {
		if back, ok := routing.ParseKind(k.String()); !ok || back != k {
			t.Errorf("kind %d is stored as %q and read as %d", k, k, back)
		}
	}
	for s := routing.Active; s <= routing.StateMoving; s++ {
		if back, ok := routing.ParseState(s.String()); !ok || back != s {
			t.Errorf("state %d is stored as %q and read as %d", s, s, back)
		}
	}
	if _, ok := routing.ParseKind("none"); ok {
		t.Error("none is a kind")
	}
	if _, ok := routing.ParseState(""); ok {
		t.Error("nothing is a state")
	}
	seen := map[string]routing.Verdict{}
	for v := routing.NoAnswer; v <= routing.TooDeep; v++ {
		if other, twice := seen[v.String()]; twice {
			t.Errorf("verdicts %d and %d are both %q", other, v, v)
		}
		seen[v.String()] = v
	}
}

// FuzzTargets: what may be stored is read as it was, and nothing of it makes one
// address into two.
func FuzzTargets(f *testing.F) {
	f.Add("a@example.edu", "b@example.org")
	f.Add("a@x,b@y", "|c@z")
	f.Add("\xff@x", "@y")
	f.Fuzz(func(t *testing.T, one, other string) {
		row := routing.Row{Address: "list@example.edu", Kind: routing.List, Targets: []string{one, other}}
		if row.Validate() != nil {
			return
		}
		joined := routing.JoinTargets(row.Targets)
		if got := routing.SplitTargets(joined); !slices.Equal(got, row.Targets) || len(joined) > routing.MaxTargets {
			t.Errorf("%q are stored as %q and read as %q", row.Targets, joined, got)
		}
	})
}
