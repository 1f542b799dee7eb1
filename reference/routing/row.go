package routing

import (
	"fmt"
	"io/fs"
	"strings"
)

// The sizes of the table, in bytes.
const (
	MaxAddress = 254  // RFC 5321 section 4.5.3.1.3, less the angle brackets
	MaxBackend = 255  // a host name: RFC 1035 section 2.3.4
	MaxTargets = 8000 // all targets of a row, joined
)

// DefaultSpamThreshold is CalMail's, in percent.
const DefaultSpamThreshold = 70

// Kind is what an address is.
type Kind uint8

// The kinds. A row of kind Domain has the address "@domain" and answers for the
// addresses of its domain that have no row.
const (
	Mailbox Kind = iota // a mailbox, or someone who has their mail forwarded
	Alias               // another name of one address
	List                // several addresses
	Domain              // a domain of ours
)

var kinds = [...]string{Mailbox: "mailbox", Alias: "alias", List: "list", Domain: "domain"}

func (k Kind) String() string { return name(kinds[:], k) }

// ParseKind reads what String writes, which is what the table stores.
func ParseKind(text string) (kind Kind, ok bool) { return parse[Kind](kinds[:], text) }

// State is how an address is at present.
type State uint8

// The states.
const (
	Active State = iota
	StateSuspended
	StateClosed
	StateMoving // of a mailbox only
)

var states = [...]string{Active: "active", StateSuspended: "suspended", StateClosed: "closed", StateMoving: "moving"}

func (s State) String() string { return name(states[:], s) }

// ParseState reads what String writes, which is what the table stores.
func ParseState(text string) (state State, ok bool) { return parse[State](states[:], text) }

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "none"
}

func parse[T ~uint8](names []string, text string) (T, bool) {
	for i, n := range names {
		if n == text {
			return T(i), true
		}
	}
	return 0, false
}

// Row is one address as it is stored. The zero value of a field is what most
// rows have.
type Row struct {
	Address string // lower case; of a domain "@domain"
	Kind    Kind
	State   State
	Backend string // of a mailbox the host that takes its mail, else ""
	// Targets are addresses in lower case: none or some for a mailbox, one for an
	// alias, one or more for a list. A domain has none, or one address that takes
	// all mail without a row of its own, or "@other" for that domain's answers.
	Targets  []string
	KeepCopy bool // of a mailbox with targets: mail also stays here
	// NoGreylist says that the owner wants no greylisting.
	NoGreylist bool
	// SpamThreshold is the score in percent from which mail goes to the spam
	// folder, 1 to 100; 0 stands for DefaultSpamThreshold.
	SpamThreshold uint8
}

// Threshold is the row's spam threshold, the default put in.
func (r Row) Threshold() uint8 {
	if r.SpamThreshold == 0 {
		return DefaultSpamThreshold
	}
	return r.SpamThreshold
}

// DomainRow is the row of a domain of ours whose addresses all have rows.
func DomainRow(domain string) Row { return Row{Address: "@" + domain, Kind: Domain} }

// DomainOf is the address of the domain's row for an address.
func DomainOf(address string) string { return address[strings.LastIndexByte(address, '@'):] }

// JoinTargets is how the table stores targets.
func JoinTargets(targets []string) string { return strings.Join(targets, ",") }

// SplitTargets undoes JoinTargets; "" has no targets.
func SplitTargets(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r Row) Validate() error {
	if int(r.Kind) >= len(kinds) || int(r.State) >= len(states) {
		return fmt.Errorf("kind %d or state %d of %q is none that there is: %w", r.Kind, r.State, r.Address, fs.ErrInvalid)
	}
	valid := validAddress
	if r.Kind == Domain {
		valid = validDomainAddress
	}
	if err := valid(r.Address); err != nil {
		return err
	}
	if string(lower(r.Address)) != r.Address {
		return fmt.Errorf("address %q must be in lower case: %w", r.Address, fs.ErrInvalid)
	}
	if r.State == StateMoving && r.Kind != Mailbox {
		return fmt.Errorf("%s %q cannot be moving, only a mailbox can: %w", r.Kind, r.Address, fs.ErrInvalid)
	}
	if r.SpamThreshold > 100 {
		return fmt.Errorf("spam threshold of %q is %d %%, 1 to 100 are possible, and 0 for the default: %w", r.Address, r.SpamThreshold, fs.ErrInvalid)
	}
	if err := r.validBackend(); err != nil {
		return err
	}
	return r.validTargets()
}

func (r Row) validBackend() error {
	if r.Kind != Mailbox {
		if r.Backend != "" {
			return fmt.Errorf("%s %q has a backend, only a mailbox has one: %w", r.Kind, r.Address, fs.ErrInvalid)
		}
		return nil
	}
	if err := ValidBackend(r.Backend); err != nil {
		return fmt.Errorf("mailbox %q: %w", r.Address, err)
	}
	return nil
}

// ValidBackend says what keeps a text from being a backend's host name; the
// error wraps [fs.ErrInvalid].
func ValidBackend(backend string) error {
	if backend == "" || len(backend) > MaxBackend {
		return fmt.Errorf("backend has %d bytes, 1 to %d are possible: %w", len(backend), MaxBackend, fs.ErrInvalid)
	}
	if err := ValidHost(backend); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	return nil
}

// ValidHost says what keeps a text from being a host name or an IPv4 address;
// the error wraps [fs.ErrInvalid]. Labels have 1 to 63 letters of ASCII, digits
// and '-', which is neither first nor last (RFC 1123 section 2.1). An MTA takes
// other characters in the name of a host for more than a name: Exim a ':' for the
// next host of a list or a port, and '<' for another separator.
func ValidHost(name string) error {
	if len(name) > MaxBackend {
		return fmt.Errorf("host name has %d bytes, at most %d are possible: %w", len(name), MaxBackend, fs.ErrInvalid)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notOfHost) {
			return fmt.Errorf("%q must be a host name, labels of 1 to 63 letters, digits and '-' joined by '.': %w", name, fs.ErrInvalid)
		}
	}
	return nil
}

func notOfHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
}

// targetCounts are how many targets each kind may have; 0 for no bound but the
// column's size.
var targetCounts = [...]struct{ least, most int }{Mailbox: {0, 0}, Alias: {1, 1}, List: {1, 0}, Domain: {0, 1}}

func (r Row) validTargets() error {
	count := targetCounts[r.Kind]
	if n := len(r.Targets); n < count.least || count.most > 0 && n > count.most {
		return fmt.Errorf("%s %q has %d targets: an alias has one, a list one or more, a domain one at most: %w", r.Kind, r.Address, n, fs.ErrInvalid)
	}
	size := max(len(r.Targets)-1, 0) // the commas
	for _, target := range r.Targets {
		size += len(target)
		var err error
		if r.Kind == Domain && strings.HasPrefix(target, "@") {
			err = validDomainAddress(target)
		} else {
			err = ValidTarget(target)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s %q: target: %w", r.Kind, r.Address, err)
		case string(lower(target)) != target:
			return fmt.Errorf("%s %q: target %q must be in lower case: %w", r.Kind, r.Address, target, fs.ErrInvalid)
		case target == r.Address:
			return fmt.Errorf("%s %q has itself for a target: %w", r.Kind, r.Address, fs.ErrInvalid)
		}
	}
	if size > MaxTargets {
		return fmt.Errorf("targets of %q have %d bytes, at most %d are possible: %w", r.Address, size, MaxTargets, fs.ErrInvalid)
	}
	return nil
}

// ValidTarget says what keeps an address from being a target; the error wraps
// [fs.ErrInvalid]. An MTA reads targets as a list in which not all items are
// addresses: Exim takes |x for a pipe, /x for a file, :x: and "x" for more
// (specification, "Redirect", "Items in redirection lists"). A target has
// nothing of that: its local part is a dot-string (RFC 5321 section 4.1.2),
// which may also have bytes beyond ASCII, and does not start with | / or #.
func ValidTarget(address string) error {
	if err := validAddress(address); err != nil {
		return err
	}
	if i := strings.IndexAny(address, ` "(),:;<>[\]`); i >= 0 {
		return fmt.Errorf("address %q has %q at byte %d, which no target may have: %w", address, address[i], i, fs.ErrInvalid)
	}
	if strings.ContainsRune("|/#", rune(address[0])) {
		return fmt.Errorf("address %q starts with %q, as no target may: %w", address, address[0], fs.ErrInvalid)
	}
	if strings.Count(address, "@") != 1 {
		return fmt.Errorf("address %q has more than one @, as no target may: %w", address, fs.ErrInvalid)
	}
	return nil
}

// ValidAddress says what keeps a text from being an address that a Router can be
// asked for; the error wraps [fs.ErrInvalid].
func ValidAddress(address string) error { return validAddress(address) }

// validAddress takes any byte but control characters, which SMTP cannot carry
// in an address (RFC 5321 section 4.1.2).
func validAddress(address string) error {
	if at := strings.LastIndexByte(address, '@'); at < 1 || at == len(address)-1 {
		if len(address) <= MaxAddress {
			return fmt.Errorf("address %q must be a local part and a domain joined by @: %w", address, fs.ErrInvalid)
		}
	}
	return validBytes(address)
}

func validDomainAddress(address string) error {
	if len(address) < 2 || strings.LastIndexByte(address, '@') != 0 || strings.ContainsAny(address, " ,") {
		if len(address) <= MaxAddress {
			return fmt.Errorf("address %q of a domain must be @ and the domain: %w", address, fs.ErrInvalid)
		}
	}
	return validBytes(address)
}

func validBytes(address string) error {
	if len(address) > MaxAddress {
		return fmt.Errorf("address has %d bytes, at most %d are possible: %w", len(address), MaxAddress, fs.ErrInvalid)
	}
	if i := strings.IndexFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("address %q has a control character at byte %d: %w", address, i, fs.ErrInvalid)
	}
	return nil
}

// Lower is an address as rows have it: it changes ASCII letters only.
func Lower(address string) string { return string(lower(address)) }

// lower changes ASCII letters only; strings.ToLower would also change bytes
// that are not UTF-8.
func lower(address string) []byte {
	b := []byte(address)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}
