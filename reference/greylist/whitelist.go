package greylist

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"regexp"
	"strings"
)

// The bounds of a whitelist.
const (
	MaxEntries = 10_000
	maxEntry   = 255 // bytes
)

// Whitelist is who is never deferred. Names are in lower case.
type Whitelist struct {
	ClientNames       []string       // host names: that host and all below it
	ClientNetworks    []netip.Prefix // masked
	ClientPatterns    []string       // regular expressions for the host name, whatever the case
	Recipients        []string       // "user@" in every domain, "user@domain", both with a +extension; "domain" and all below it
	RecipientPatterns []string       // regular expressions for the address, whatever the case
}

// DefaultWhitelist is what reference/schema/greylist_whitelist.sql is shipped
// with: the mailboxes that must be reachable (RFC 2142 and RFC 5321 section
// 4.5.1), as in Debian's package of Postgrey.
func DefaultWhitelist() Whitelist {
	return Whitelist{Recipients: []string{"postmaster@", "abuse@"}}
}

var (
	pattern       = regexp.MustCompile(`^/(\S+)/$`)
	ipv4Entry     = regexp.MustCompile(`^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?:/\d{1,2})?$`)
	ipv4Partial   = regexp.MustCompile(`^\d{1,3}\.\d{1,3}(?:\.\d{1,3})?$`)
	ipv6Entry     = regexp.MustCompile(`^.*:.*:.*(?:/\d{1,3})?$`)
	backReference = regexp.MustCompile(`\\[0-9]`)
)

// ReadClients adds the entries of a file in the format of Postgrey's
// whitelist_clients: a line each, host names, addresses, networks and
// /regular expressions/, comments after #. An error names file, line and column,
// and wraps [fs.ErrInvalid] unless reading failed.
func (w *Whitelist) ReadClients(file string, r io.Reader) error {
	return eachEntry(file, r, func(entry string) error {
		if m := pattern.FindStringSubmatch(entry); m != nil {
			w.ClientPatterns = append(w.ClientPatterns, m[1])
			return validPattern(m[1])
		}
		switch {
		case ipv4Entry.MatchString(entry), ipv6Entry.MatchString(entry), ipv4Partial.MatchString(entry):
			network, err := parseNetwork(entry)
			w.ClientNetworks = append(w.ClientNetworks, network)
			return err
		}
		w.ClientNames = append(w.ClientNames, strings.ToLower(entry))
		return validEntry(entry)
	})
}

// ReadRecipients adds the entries of a file in the format of Postgrey's
// whitelist_recipients. Errors are those of ReadClients.
func (w *Whitelist) ReadRecipients(file string, r io.Reader) error {
	return eachEntry(file, r, func(entry string) error {
		if m := pattern.FindStringSubmatch(entry); m != nil {
			w.RecipientPatterns = append(w.RecipientPatterns, m[1])
			return validPattern(m[1])
		}
		w.Recipients = append(w.Recipients, strings.ToLower(entry))
		return validEntry(entry)
	})
}

func eachEntry(file string, r io.Reader, add func(string) error) error {
	lines := bufio.NewScanner(r)
	entries := 0
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		entry := strings.TrimSpace(text)
		if entry == "" {
			continue
		}
		column := strings.Index(text, entry) + 1
		if entries++; entries > MaxEntries {
			return fmt.Errorf("%s:%d:%d: more than %d entries: %w", file, number, column, MaxEntries, fs.ErrInvalid)
		}
		if err := add(entry); err != nil {
			return fmt.Errorf("%s:%d:%d: %w", file, number, column, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// validEntry takes names and addresses of printable ASCII, as they stand in the
// text of a function.
func validEntry(entry string) error {
	if len(entry) > maxEntry {
		return fmt.Errorf("an entry of %d bytes, at most %d are possible: %w", len(entry), maxEntry, fs.ErrInvalid)
	}
	if i := strings.IndexFunc(entry, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("entry %q: byte %d is not a printable ASCII character: %w", entry, i+1, fs.ErrInvalid)
	}
	return nil
}

// validPattern takes what Perl, Go and the server's ICU understand alike, as far
// as that can be told.
func validPattern(p string) error {
	if err := validEntry(p); err != nil {
		return err
	}
	if backReference.MatchString(p) {
		return fmt.Errorf("pattern /%s/ refers back, which is not supported: %w", p, fs.ErrInvalid)
	}
	if _, err := regexp.Compile("(?i)" + p); err != nil {
		return fmt.Errorf("pattern /%s/ is not supported: %v: %w", p, err, fs.ErrInvalid)
	}
	return nil
}

// parseNetwork reads an address, a network, or the first two or three numbers
// of an IPv4 network.
func parseNetwork(entry string) (netip.Prefix, error) {
	text := entry
	switch {
	case !ipv4Partial.MatchString(entry):
	case strings.Count(entry, ".") == 1:
		text += ".0.0/16"
	default:
		text += ".0/24"
	}
	if !strings.Contains(text, "/") {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no IP address: %w", entry, fs.ErrInvalid)
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network: %w", entry, fs.ErrInvalid)
	}
	if a := network.Addr(); a.Is4In6() && network.Bits() >= 96 {
		network = netip.PrefixFrom(a.Unmap(), network.Bits()-96)
	}
	return network.Masked(), validNetwork(network.Masked())
}

// validNetwork refuses what would mean one thing to netip and another as a range
// of client keys: IPv4 addresses are none of an IPv6 network's.
func validNetwork(network netip.Prefix) error {
	switch {
	case !network.IsValid() || network.Addr().Zone() != "":
		return fmt.Errorf("network %v is none: %w", network, fs.ErrInvalid)
	case network != network.Masked():
		return fmt.Errorf("network %v has bits beyond its length: %w", network, fs.ErrInvalid)
	case network.Addr().Is6() && network.Contains(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff})):
		return fmt.Errorf("IPv6 network %v holds the IPv4 addresses (::ffff:0:0/96): %w", network, fs.ErrInvalid)
	}
	return nil
}

// Matcher is a whitelist made ready for questions.
type Matcher struct {
	client, recipient *regexp.Regexp // nil for none
	networks          []netip.Prefix
}

// Compile makes a whitelist ready. The error wraps [fs.ErrInvalid].
func (w Whitelist) Compile() (*Matcher, error) {
	var clients, recipients []string
	for _, name := range w.ClientNames {
		clients = append(clients, `(?:^|\.)`+regexp.QuoteMeta(name)+`$`)
	}
	for _, entry := range w.Recipients {
		user, domain, ok := strings.Cut(entry, "@")
		switch {
		case !ok:
			recipients = append(recipients, `[@.]`+regexp.QuoteMeta(entry)+`$`)
		case domain == "":
			recipients = append(recipients, `^`+regexp.QuoteMeta(user)+`(?:\+[^@]+)?@`)
		default:
			recipients = append(recipients, `^`+regexp.QuoteMeta(user)+`(?:\+[^@]+)?@`+regexp.QuoteMeta(domain)+`$`)
		}
	}
	for _, entry := range append(append([]string{}, w.ClientNames...), w.Recipients...) {
		if err := validEntry(entry); err != nil {
			return nil, err
		}
		if entry != strings.ToLower(entry) {
			return nil, fmt.Errorf("entry %q must be in lower case: %w", entry, fs.ErrInvalid)
		}
	}
	for _, network := range w.ClientNetworks {
		if err := validNetwork(network); err != nil {
			return nil, err
		}
	}
	for _, p := range append(append([]string{}, w.ClientPatterns...), w.RecipientPatterns...) {
		if err := validPattern(p); err != nil {
			return nil, err
		}
	}
	m := &Matcher{networks: w.ClientNetworks}
	m.client = anyOf(append(clients, w.ClientPatterns...))
	m.recipient = anyOf(append(recipients, w.RecipientPatterns...))
	return m, nil
}

// anyOf joins patterns that are valid each.
func anyOf(patterns []string) *regexp.Regexp {
	if len(patterns) == 0 {
		return nil
	}
	return regexp.MustCompile(`(?i)(?:` + strings.Join(patterns, `)|(?:`) + `)`)
}

// Match returns ClientListed, RecipientListed, or NoAnswer for what is in no
// list. A nil Matcher lists nobody.
func (m *Matcher) Match(clientName string, client netip.Addr, recipient string) Verdict {
	if m == nil {
		return NoAnswer
	}
	if m.client != nil && m.client.MatchString(clientName) {
		return ClientListed
	}
	client = client.Unmap()
	for _, network := range m.networks {
		if network.Contains(client) {
			return ClientListed
		}
	}
	if m.recipient != nil && m.recipient.MatchString(recipient) {
		return RecipientListed
	}
	return NoAnswer
}
