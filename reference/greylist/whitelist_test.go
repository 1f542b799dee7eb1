package greylist_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/greylist"
)

func TestWhitelistMatch(t *testing.T) {
	_, m := lists(t)
	for _, c := range []struct {
		sentence                string
		name, client, recipient string
		want                    greylist.Verdict
	}{
		{"who is in no list is greylisted", "mail.example", "192.0.2.1", "r@example.edu", greylist.NoAnswer},
		{"a listed host", "listed.example.org", "192.0.2.1", "r", greylist.ClientListed},
		{"a host below it, whatever the case", "A.Listed.Example.org", "192.0.2.1", "r", greylist.ClientListed},
		{"not one that only ends alike", "xlisted.example.org", "192.0.2.1", "r", greylist.NoAnswer},
		{"an entry in upper case", "upper.case.example", "192.0.2.1", "r", greylist.ClientListed},
		{"a pattern", "mx7.pool.example", "192.0.2.1", "r", greylist.ClientListed},
		{"which needs its digits", "mx.pool.example", "192.0.2.1", "r", greylist.NoAnswer},
		{"an address", "", "198.51.100.7", "r", greylist.ClientListed},
		{"an address in IPv6", "", "::ffff:198.51.100.7", "r", greylist.ClientListed},
		{"a network's first host", "", "198.51.100.128", "r", greylist.ClientListed},
		{"and its last", "", "198.51.100.191", "r", greylist.ClientListed},
		{"but not the next", "", "198.51.100.192", "r", greylist.NoAnswer},
		{"three numbers are a /24", "", "203.0.113.9", "r", greylist.ClientListed},
		{"an IPv6 network", "", "2001:db8:77:1::", "r", greylist.ClientListed},
		{"a user of every domain", "", "192.0.2.1", "Postmaster@a.example", greylist.RecipientListed},
		{"with an extension", "", "192.0.2.1", "postmaster+x@a.example", greylist.RecipientListed},
		{"an empty extension is none", "", "192.0.2.1", "postmaster+@a.example", greylist.NoAnswer},
		{"without a domain it is another", "", "192.0.2.1", "postmaster", greylist.NoAnswer},
		{"an address of a user", "", "192.0.2.1", "exact+a@example.edu", greylist.RecipientListed},
		{"in its domain only", "", "192.0.2.1", "exact@sub.example.edu", greylist.NoAnswer},
		{"a domain", "", "192.0.2.1", "r@optout.example.edu", greylist.RecipientListed},
		{"and those below it", "", "192.0.2.1", "r@a.optout.example.edu", greylist.RecipientListed},
		{"not one that only ends alike", "", "192.0.2.1", "r@xoptout.example.edu", greylist.NoAnswer},
		{"a pattern of recipients", "", "192.0.2.1", "regex-9@x", greylist.RecipientListed},
		{"the client comes first", "listed.example.org", "192.0.2.1", "postmaster@x", greylist.ClientListed},
	} {
		if got := m.Match(c.name, netip.MustParseAddr(c.client), c.recipient); got != c.want {
			t.Errorf("%s: got %v, want %v", c.sentence, got, c.want)
		}
	}
	// Entries that are IPv4 in IPv6 are what they say.
	var mapped greylist.Whitelist
	if err := mapped.ReadClients("clients", strings.NewReader("::ffff:192.0.2.9\n::ffff:203.0.113.0/120\n")); err != nil {
		t.Fatal(err)
	}
	m, err := mapped.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[string]greylist.Verdict{
		"192.0.2.9": greylist.ClientListed, "192.0.2.8": greylist.NoAnswer, "203.0.113.77": greylist.ClientListed, "::ffff:203.0.113.1": greylist.ClientListed,
	} {
		if got := m.Match("", netip.MustParseAddr(client), "r"); got != want {
			t.Errorf("%s: got %v, want %v", client, got, want)
		}
	}
	var none *greylist.Matcher
	if got := none.Match("listed.example.org", netip.MustParseAddr("198.51.100.7"), "postmaster@x"); got != greylist.NoAnswer {
		t.Errorf("no list lists somebody: %v", got)
	}
}

func TestWhitelistRefuses(t *testing.T) {
	for _, c := range []struct{ sentence, text, want string }{
		{"an address must be one", "ok.example\n  300.1.1.1 # comment", `clients:2:3: "300.1.1.1" is no IP address: invalid argument`},
		{"a network must be one", "192.0.2.0/33", `clients:1:1: "192.0.2.0/33" is no network: invalid argument`},
		{"an IPv6 network that holds all of IPv4 is refused", "::/0", `clients:1:1: IPv6 network ::/0 holds the IPv4 addresses (::ffff:0:0/96): invalid argument`},
		{"a zone is refused", "\nfe80::1%eth0", `clients:2:1: "fe80::1%eth0" is no IP address: invalid argument`},
		{"a name has no blanks", "a b.example", `clients:1:1: entry "a b.example": byte 2 is not a printable ASCII character: invalid argument`},
		{"nor control characters", "a\x00b.example", `clients:1:1: entry "a\x00b.example": byte 2 is not a printable ASCII character: invalid argument`},
		{"a pattern must be one", "/(/", "clients:1:1: pattern /(/ is not supported: error parsing regexp: missing closing ): `(?i)(`: invalid argument"},
		{"and not refer back", `/(a)\1/`, `clients:1:1: pattern /(a)\1/ refers back, which is not supported: invalid argument`},
		{"an entry has 255 bytes at most", strings.Repeat("a", 256), "clients:1:1: an entry of 256 bytes, at most 255 are possible: invalid argument"},
		{"a list has 10000 entries at most", strings.Repeat("a\n", 10_001), "clients:10001:1: more than 10000 entries: invalid argument"},
	} {
		var w greylist.Whitelist
		if err := w.ReadClients("clients", strings.NewReader(c.text)); !errors.Is(err, fs.ErrInvalid) || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.sentence, err, c.want)
		}
	}
	var w greylist.Whitelist
	if err := w.ReadRecipients("recipients", strings.NewReader("a@x\nb@x b@y\n")); err == nil || !strings.HasPrefix(err.Error(), "recipients:2:1: ") {
		t.Errorf("two recipients in a line: got %v", err)
	}
	for _, bad := range []greylist.Whitelist{
		{ClientNames: []string{"a'b\n"}}, {Recipients: []string{"é@x"}}, {ClientPatterns: []string{"["}},
		{ClientNames: []string{"Example.ORG"}}, {Recipients: []string{"Abuse@"}}, // the procedure lower-cases what it compares
		{ClientNetworks: []netip.Prefix{{}}}, {ClientNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.77/24")}},
		{ClientNetworks: []netip.Prefix{netip.MustParsePrefix("::/32")}},
	} {
		if _, err := bad.Compile(); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v was compiled: %v", bad, err)
		}
	}
}

// FuzzReadWhitelist holds that any file is read or refused, and that what is
// read compiles.
func FuzzReadWhitelist(f *testing.F) {
	f.Add(testClients)
	f.Add(testRecipients)
	f.Add("1.2\n::/0\n/a{2,}/\n@x\n+\n")
	f.Fuzz(func(t *testing.T, text string) {
		var w greylist.Whitelist
		if w.ReadClients("c", strings.NewReader(text)) == nil && w.ReadRecipients("r", strings.NewReader(text)) == nil {
			if _, err := w.Compile(); err != nil {
				t.Errorf("read, but not compiled: %v", err)
			}
			_ = w.SQL()
		}
	})
}
