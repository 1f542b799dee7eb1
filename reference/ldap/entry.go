package ldap

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// Attributes, as slapd/mailbench.schema defines them.
const (
	attrID            = "mbId"
	attrAddress       = "mbAddress"
	attrLogin         = "mbLogin"
	attrKind          = "mbKind"
	attrStatus        = "mbStatus"
	attrHost          = "mbHost"
	attrForward       = "mbForward"
	attrKeepCopy      = "mbKeepCopy"
	attrGreylist      = "mbGreylist"
	attrSpamThreshold = "mbSpamThreshold"
	attrFullName      = "mbFullName"
	attrAffiliation   = "mbAffiliation"
	attrMovingTo      = "mbMovingTo"
	attrQuotaMB       = "mbQuotaMB"
	attrCreated       = "mbCreated"
	attrChanged       = "mbChanged"
	attrChangeID      = "mbChangeId"
	attrPreference    = "mbPreference"

	attrClass    = "objectClass"
	attrEntryCSN = "entryCSN"

	classRecipient = "mbRecipient"
	classAccount   = "mbAccount"
)

// routeAttributes are what an MTA asks for.
var routeAttributes = []string{
	attrAddress, attrLogin, attrKind, attrStatus, attrHost, attrForward, attrKeepCopy, attrGreylist, attrSpamThreshold,
}

// accountAttributes are what a change of an account may change.
var accountAttributes = []string{
	attrAddress, attrLogin, attrStatus, attrHost, attrForward, attrKeepCopy, attrGreylist, attrSpamThreshold,
	attrFullName, attrAffiliation, attrMovingTo, attrQuotaMB, attrCreated, attrChanged,
}

// suffix is the name of the whole directory.
const suffix = "o=mailbench"

// units are where entries stand, by kind.
var units = [...]string{routing.Mailbox: "accounts", routing.Alias: "aliases", routing.List: "lists", routing.Domain: "domains"}

// entry is what a directory holds under one name: the values of its attributes.
type entry struct {
	dn     string
	values map[string][]string
}

// get is an attribute's value, "" if it has none.
func (e entry) get(attribute string) string {
	if v := e.values[attribute]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// newEntry names an entry for ever: by id, not by what the entry is about, which
// may change.
func newEntry(kind routing.Kind, id string) entry {
	e := entry{
		dn:     fmt.Sprintf("%s=%s,ou=%s,%s", attrID, id, units[kind], suffix),
		values: map[string][]string{attrClass: {classRecipient}, attrKind: {kind.String()}},
	}
	e.set(attrID, id)
	return e
}

// set stores a text; "" is not stored.
func (e entry) set(attribute, value string) {
	if value != "" {
		e.values[attribute] = []string{value}
	}
}

// maxID keeps an entry's name, which back-mdb stores twice, below the 511 bytes
// of a key of LMDB.
const maxID = 128

// idOf makes a name of an address that any part of a DN may have: bytes but
// letters, digits and some marks become %XX, and long ones a hash.
func idOf(address string) string {
	var b strings.Builder
	for i := range len(address) {
		c := address[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("@.-_", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	if b.Len() <= maxID {
		return b.String()
	}
	sum := sha256.Sum256([]byte(address))
	return "SHA256-" + hex.EncodeToString(sum[:])
}

// routeEntry is the entry of a row that belongs to no account.
func routeEntry(r routing.Row) entry {
	e := newEntry(r.Kind, idOf(r.Address))
	e.values[attrAddress] = []string{r.Address}
	if r.Kind == routing.Mailbox {
		e.values[attrLogin] = []string{r.Address}
	}
	e.setRoute(r)
	return e
}

// setRoute stores what an answer holds. What most rows have is not stored.
func (e entry) setRoute(r routing.Row) {
	e.set(attrStatus, r.State.String())
	e.set(attrHost, r.Backend)
	e.set(attrForward, routing.JoinTargets(r.Targets))
	if r.KeepCopy {
		e.set(attrKeepCopy, "TRUE")
	}
	if r.NoGreylist {
		e.set(attrGreylist, "FALSE")
	}
	if t := r.Threshold(); t != routing.DefaultSpamThreshold {
		e.set(attrSpamThreshold, strconv.Itoa(int(t)))
	}
}

// accountEntry is the entry of an account: all of it, so that a directory, which
// changes one entry at a time, changes an account wholly or not at all.
func accountEntry(id string, a accounts.Account) entry {
	e := newEntry(routing.Mailbox, id)
	e.values[attrClass] = []string{classAccount}
	e.values[attrAddress] = append([]string{a.Login}, a.Aliases...)
	e.set(attrLogin, a.Login)
	e.setRoute(a.Rows()[0])
	e.set(attrFullName, a.FullName)
	e.set(attrAffiliation, a.Affiliation)
	e.set(attrMovingTo, a.MovingTo)
	if a.QuotaMB != 0 {
		e.set(attrQuotaMB, strconv.FormatUint(uint64(a.QuotaMB), 10))
	}
	e.set(attrCreated, strconv.FormatInt(a.Created.Unix(), 10))
	e.set(attrChanged, strconv.FormatInt(a.Changed.Unix(), 10))
	return e
}

// row is the row of one of an entry's addresses. Of an account the other
// addresses have the rows that accounts.Account.Rows says.
func (e entry) row(address string) (routing.Row, error) {
	main, err := e.mainRow(address)
	if err != nil {
		return routing.Row{}, err
	}
	login := e.get(attrLogin)
	if main.Kind != routing.Mailbox || login == address {
		return main, nil
	}
	owner := accounts.Account{
		Login: login, Aliases: []string{address}, State: main.State, NoGreylist: main.NoGreylist, SpamThreshold: main.SpamThreshold,
	}
	return owner.Rows()[1], nil
}

func (e entry) mainRow(address string) (routing.Row, error) {
	kind, known := routing.ParseKind(e.get(attrKind))
	if !known {
		return routing.Row{}, e.strange(attrKind)
	}
	state, known := routing.ParseState(e.get(attrStatus))
	if !known {
		return routing.Row{}, e.strange(attrStatus)
	}
	threshold, err := strconv.ParseUint(cmp.Or(e.get(attrSpamThreshold), "0"), 10, 8)
	if err != nil {
		return routing.Row{}, e.strange(attrSpamThreshold)
	}
	return routing.Row{
		Address: address, Kind: kind, State: state, Backend: e.get(attrHost), Targets: routing.SplitTargets(e.get(attrForward)),
		KeepCopy: e.get(attrKeepCopy) == "TRUE", NoGreylist: e.get(attrGreylist) == "FALSE", SpamThreshold: uint8(threshold),
	}, nil
}

func (e entry) strange(attribute string) error {
	return fmt.Errorf("the entry %s has %s %q, which this program does not know", e.dn, attribute, e.values[attribute])
}

// isAccount says whether the entry is an account's, not a mailbox that nobody
// has an account for.
func (e entry) isAccount() bool { return slices.Contains(e.values[attrClass], classAccount) }

// account is the account that an entry holds.
func (e entry) account() (accounts.Account, error) {
	login := e.get(attrLogin)
	row, err := e.mainRow(login)
	if err != nil {
		return accounts.Account{}, err
	}
	var times [2]time.Time
	for i, attribute := range [...]string{attrCreated, attrChanged} {
		s, err := strconv.ParseInt(e.get(attribute), 10, 64)
		if err != nil {
			return accounts.Account{}, e.strange(attribute)
		}
		times[i] = time.Unix(s, 0)
	}
	quota, err := strconv.ParseUint(cmp.Or(e.get(attrQuotaMB), "0"), 10, 32)
	if err != nil {
		return accounts.Account{}, e.strange(attrQuotaMB)
	}
	a := accounts.Account{
		Login: login, FullName: e.get(attrFullName), Affiliation: e.get(attrAffiliation), State: row.State, Backend: row.Backend,
		MovingTo: e.get(attrMovingTo), QuotaMB: uint32(quota), Targets: row.Targets, KeepCopy: row.KeepCopy,
		NoGreylist: row.NoGreylist, SpamThreshold: row.Threshold(), Created: times[0], Changed: times[1],
	}
	for _, address := range e.values[attrAddress] {
		if address != login {
			a.Aliases = append(a.Aliases, address)
		}
	}
	slices.Sort(a.Aliases) // the values of an attribute have no order
	return a, nil
}

// keys of preferences may have any byte; that behind which the value begins is
// escaped.
var (
	escapeKey   = strings.NewReplacer("%", "%25", "=", "%3D")
	unescapeKey = strings.NewReplacer("%25", "%", "%3D", "=")
)

// preference is how a preference is stored.
func preference(key, value string) string { return escapeKey.Replace(key) + "=" + value }

// preferences are what an entry's owner likes.
func (e entry) preferences() map[string]string {
	all := map[string]string{}
	for _, stored := range e.values[attrPreference] {
		key, value, _ := strings.Cut(stored, "=")
		all[unescapeKey.Replace(key)] = value
	}
	return all
}

// storedFor are the values of an entry that hold the preference of a key: one or
// none.
func (e entry) storedFor(key string) []string {
	var found []string
	for _, stored := range e.values[attrPreference] {
		if k, _, _ := strings.Cut(stored, "="); unescapeKey.Replace(k) == key {
			found = append(found, stored)
		}
	}
	return found
}

// addPreferences stores an owner's preferences in a new entry.
func (e entry) addPreferences(all map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		e.values[attrPreference] = append(e.values[attrPreference], preference(key, all[key]))
	}
}

// attributeChange replaces the values of an attribute; none removes it.
type attributeChange struct {
	attribute string
	values    []string
}

// changes are what makes one account's entry of another's, in the order of
// accountAttributes.
func changes(before, after entry) []attributeChange {
	var all []attributeChange
	for _, attribute := range accountAttributes {
		had, has := slices.Sorted(slices.Values(before.values[attribute])), slices.Sorted(slices.Values(after.values[attribute]))
		if !slices.Equal(had, has) {
			all = append(all, attributeChange{attribute, after.values[attribute]})
		}
	}
	return all
}

// stored is what a bulk load has brought together.
type stored struct {
	routes      map[string]routing.Row
	accounts    map[string]accounts.Account
	preferences map[string]map[string]string // by user and key
}

func newStored() *stored {
	return &stored{routes: map[string]routing.Row{}, accounts: map[string]accounts.Account{}, preferences: map[string]map[string]string{}}
}

func (s *stored) addPreference(r preferences.Row) {
	of := s.preferences[r.User]
	if of == nil {
		of = map[string]string{}
		s.preferences[r.User] = of
	}
	of[r.Key] = r.Value
	if r.Value == "" { // a webmail has no preference that is empty
		delete(of, r.Key)
	}
}

// entries are the entries that hold everything, sorted by name. An account and
// the rows of its addresses are one entry, so that they must say the same; and
// preferences stand with a mailbox.
func (s *stored) entries() ([]entry, error) {
	all := make([]entry, 0, len(s.accounts)+len(s.routes))
	owned := map[string]routing.Row{}
	for login, a := range s.accounts {
		for _, row := range a.Rows() {
			if _, twice := owned[row.Address]; twice {
				return nil, fmt.Errorf("address %q belongs to account %q and to another one: give it to one of them", row.Address, login)
			}
			owned[row.Address] = row
		}
		all = append(all, accountEntry(idOf(login), a))
	}
	for address, row := range s.routes {
		want, isOwned := owned[address]
		switch {
		case !isOwned:
			all = append(all, routeEntry(row))
		case !sameAnswer(row, want):
			return nil, fmt.Errorf("the route of %q is not that of the account that has the address, and a directory has one entry for both: got %+v, want %+v", address, row, want)
		}
	}
	placed := 0
	for _, e := range all {
		if of, ok := s.preferences[e.get(attrLogin)]; ok {
			e.addPreferences(of)
			placed++
		}
	}
	if placed != len(s.preferences) {
		return nil, fmt.Errorf("%d users of %d have preferences but neither account nor mailbox: %w", len(s.preferences)-placed, len(s.preferences), ErrNoUser)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.dn, b.dn) })
	return all, nil
}

// sameAnswer says whether two rows of one address are answered alike.
func sameAnswer(a, b routing.Row) bool {
	return a.Kind == b.Kind && a.State == b.State && a.Backend == b.Backend && slices.Equal(a.Targets, b.Targets) &&
		a.KeepCopy == b.KeepCopy && a.NoGreylist == b.NoGreylist && a.Threshold() == b.Threshold()
}
