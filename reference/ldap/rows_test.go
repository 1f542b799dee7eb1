package ldap

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// content is a directory's content, made from a seed: everything that rows may
// have, bytes that no directory likes among it.
type content struct {
	routes      []routing.Row
	accounts    []accounts.Account
	preferences []preferences.Row
}

func generate(seed uint64, count int) content {
	var (
		r = rand.New(rand.NewPCG(seed, 0))
		c content
		// Of a target no blank, comma or bracket.
		odd = []string{"", ".x", "+x", "*", `'#`, "=y", "é", "\xff", "%41", "&|!", "~", strings.Repeat("l", 110)}
	)
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	domain := func() string { return pick([]string{"example.edu", "example.org"}) }
	address := func(kind string, i int) string { return fmt.Sprintf("%s%d%s@%s", kind, i, pick(odd), domain()) }
	targets := func(least, most int) []string {
		var all []string
		for i := range least + r.IntN(most-least+1) {
			all = append(all, address("t", i))
		}
		if len(all) > 1 && r.IntN(4) == 0 {
			all[1] = all[0] // nobody forbids it
		}
		return all
	}
	threshold := func() uint8 { return uint8(r.IntN(2) * r.IntN(101)) }
	notMoving := func() routing.State { return routing.State(r.IntN(3)) }

	c.routes = append(c.routes,
		routing.DomainRow("example.edu"),
		routing.Row{Address: "@all.example", Kind: routing.Domain, Targets: []string{"root@example.edu"}, NoGreylist: true},
		routing.Row{Address: "@same.example", Kind: routing.Domain, Targets: []string{"@example.edu"}},
		routing.Row{Address: "@closed.example", Kind: routing.Domain, State: routing.StateClosed},
		routing.Row{Address: strings.Repeat("x", 240) + "@example.edu", Backend: "cyrus1"},
		routing.Row{Address: ` "quoted, (odd)\*" ` + "@example.edu", Backend: "cyrus1"},
	)
	for i := range count {
		login := address("u", i)
		a := accounts.Account{
			Login: login, FullName: pick([]string{"", "Ann", " Zoë ", ":<x"}), Affiliation: pick([]string{"", "student"}),
			State: routing.State(r.IntN(4)), Backend: fmt.Sprintf("cyrus%d", r.IntN(10)), QuotaMB: uint32(r.IntN(3) * 512),
			Targets: targets(0, 3), KeepCopy: r.IntN(2) == 0, NoGreylist: r.IntN(4) == 0, SpamThreshold: 1 + uint8(r.IntN(100)),
			Created: time.Unix(int64(r.IntN(1<<30)), 0), Changed: time.Unix(1<<32-1, 0),
		}
		if a.State == routing.StateMoving {
			a.MovingTo = "cyrus11"
		}
		for j := range r.IntN(3) {
			a.Aliases = append(a.Aliases, fmt.Sprintf("a%d-%d%s@example.edu", i, j, pick(odd)))
		}
		switch r.IntN(4) {
		case 0: // a mailbox that nobody has an account for
			c.routes = append(c.routes, a.Rows()[0])
		default:
			c.routes = append(c.routes, a.Rows()...)
			c.accounts = append(c.accounts, a)
		}
		for k := range r.IntN(4) {
			c.preferences = append(c.preferences, preferences.Row{
				User: login, Key: fmt.Sprintf("%d%s", k, pick([]string{"", "=", "%3D", "\x00", "é=%"})),
				Value: pick([]string{"v", "a=b", "\x00\xff", " ", strings.Repeat("long ", 500)}),
			})
		}
		switch r.IntN(3) {
		case 0:
			c.routes = append(c.routes, routing.Row{
				Address: address("l", i), Kind: routing.List, State: notMoving(), Targets: targets(1, 5), NoGreylist: r.IntN(2) == 0, SpamThreshold: threshold(),
			})
		case 1:
			c.routes = append(c.routes, routing.Row{Address: address("o", i), Kind: routing.Alias, State: notMoving(), Targets: []string{login}, SpamThreshold: threshold()})
		}
	}
	return c
}

// asked are addresses to ask for: all that there are, and some that are not.
func (c content) asked() []string {
	all := []string{"nobody@example.edu", "any@all.example", "u1@same.example", "x@closed.example", "x@elsewhere.example", "@example.edu@x"}
	for _, r := range c.routes {
		if r.Kind != routing.Domain {
			all = append(all, r.Address)
		}
	}
	return all
}

// decide is what the decision model answers.
func (c content) decide(rows map[string]routing.Row, address string) routing.Answer {
	find := func(address string) *routing.Row {
		if row, ok := rows[address]; ok {
			return &row
		}
		return nil
	}
	return routing.Decide(address, find(address), find(routing.DomainOf(address)))
}

func (c content) rows() map[string]routing.Row {
	rows := map[string]routing.Row{}
	for _, r := range c.routes {
		rows[r.Address] = r
	}
	return rows
}

func (c content) likes() map[string]map[string]string {
	likes := map[string]map[string]string{}
	for _, p := range c.preferences {
		if likes[p.User] == nil {
			likes[p.User] = map[string]string{}
		}
		likes[p.User][p.Key] = p.Value
	}
	return likes
}
