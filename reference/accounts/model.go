package accounts

import (
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// The sizes of the tables, in bytes.
const (
	MaxLogin       = preferences.MaxUser
	MaxFullName    = 255
	MaxAffiliation = 64
)

// allowed says in which states an account may be for an action. A closed account
// never changes again. While a mailbox is on its way nothing may happen to it,
// but what only concerns the mail that will come later.
var allowed = map[Action][]routing.State{
	Rename:      {routing.Active, routing.StateSuspended},
	Suspend:     {routing.Active},
	Resume:      {routing.StateSuspended},
	Close:       {routing.Active, routing.StateSuspended},
	AddAlias:    {routing.Active, routing.StateSuspended, routing.StateMoving},
	RemoveAlias: {routing.Active, routing.StateSuspended, routing.StateMoving},
	SetForward:  {routing.Active, routing.StateSuspended, routing.StateMoving},
	BeginMove:   {routing.Active},
	FinishMove:  {routing.StateMoving},
	AbortMove:   {routing.StateMoving},
}

// Apply is the decision model: what a valid change makes of an account, nil if
// there is none with the change's login. The error wraps ErrNotFound, ErrExists,
// ErrState or fs.ErrInvalid, and then nothing changes. Whether a new name is free
// of other accounts only the database knows.
func Apply(before *Account, c Change) (Account, error) {
	if c.Action == Create {
		if before != nil {
			return Account{}, fmt.Errorf("account %q: %w", c.Login, ErrExists)
		}
		return created(c)
	}
	if before == nil {
		return Account{}, fmt.Errorf("account %q: %w", c.Login, ErrNotFound)
	}
	if !slices.Contains(allowed[c.Action], before.State) {
		return Account{}, fmt.Errorf("%s of account %q, which is %s: %w", c.Action, c.Login, before.State, ErrState)
	}
	after := *before
	after.Changed = second(c.At)
	after.Aliases = slices.Clone(before.Aliases)
	switch c.Action {
	case Rename:
		// One of the account's own aliases may become its login.
		after.Login, after.Aliases = c.NewLogin, remove(after.Aliases, c.NewLogin)
		if c.KeepOld {
			after.Aliases = append(after.Aliases, c.Login)
		}
	case Suspend:
		after.State = routing.StateSuspended
	case Resume:
		after.State = routing.Active
	case Close:
		after.State = routing.StateClosed
	case AddAlias:
		if slices.Contains(before.Aliases, c.Alias) {
			return Account{}, fmt.Errorf("alias %q of account %q: %w", c.Alias, c.Login, ErrExists)
		}
		after.Aliases = append(after.Aliases, c.Alias)
	case RemoveAlias:
		if after.Aliases = remove(after.Aliases, c.Alias); len(after.Aliases) == len(before.Aliases) {
			return Account{}, fmt.Errorf("alias %q of account %q: %w", c.Alias, c.Login, ErrNotFound)
		}
	case SetForward:
		after.Targets, after.KeepCopy = slices.Clone(c.Targets), c.KeepCopy
	case BeginMove:
		if c.Backend == before.Backend {
			return Account{}, fmt.Errorf("move of account %q to %s, where it is: %w", c.Login, c.Backend, ErrState)
		}
		after.State, after.MovingTo = routing.StateMoving, c.Backend
	case FinishMove:
		after.State, after.Backend, after.MovingTo = routing.Active, before.MovingTo, ""
	case AbortMove:
		after.State, after.MovingTo = routing.Active, ""
	}
	after = after.normal()
	return after, after.Validate()
}

func created(c Change) (Account, error) {
	a := c.Account
	a.Login, a.State, a.MovingTo = c.Login, routing.Active, ""
	a.Aliases, a.Targets = slices.Clone(a.Aliases), slices.Clone(a.Targets)
	if a.SpamThreshold == 0 {
		a.SpamThreshold = routing.DefaultSpamThreshold
	}
	a.Created, a.Changed = second(c.At), second(c.At)
	a = a.normal()
	return a, a.Validate()
}

// normal is the account as it is read back.
func (a Account) normal() Account {
	slices.Sort(a.Aliases)
	if len(a.Aliases) == 0 {
		a.Aliases = nil
	}
	if len(a.Targets) == 0 {
		a.Targets = nil
	}
	return a
}

func remove(from []string, s string) []string {
	return slices.DeleteFunc(from, func(other string) bool { return other == s })
}

func second(t time.Time) time.Time { return time.Unix(t.Unix(), 0) }

// Validate says what keeps a change from being sent; the error wraps
// [fs.ErrInvalid].
func (c Change) Validate() error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("%s of account %q: %w", c.Action, c.Login, err)
	}
	return nil
}

func (c Change) validate() error {
	if c.Action < Create || int(c.Action) >= len(actionNames) {
		return fmt.Errorf("action %d is none that there is: %w", c.Action, fs.ErrInvalid)
	}
	if c.ID == [16]byte{} {
		return fmt.Errorf("the change has no id: %w", fs.ErrInvalid)
	}
	if err := validTime(c.At); err != nil {
		return err
	}
	if err := validLogin(c.Login); err != nil {
		return err
	}
	switch c.Action {
	case Create:
		_, err := created(c)
		return err
	case Rename:
		if c.NewLogin == c.Login {
			return fmt.Errorf("the new login is the old one: %w", fs.ErrInvalid)
		}
		return validLogin(c.NewLogin)
	case AddAlias, RemoveAlias:
		return validAlias(c.Alias, c.Login)
	case SetForward:
		return routing.Row{Address: c.Login, Backend: "any", Targets: c.Targets}.Validate()
	case BeginMove:
		return routing.ValidBackend(c.Backend)
	default:
		return nil
	}
}

// Validate says what keeps an account from being stored; the error wraps
// [fs.ErrInvalid]. Aliases must be sorted.
func (a Account) Validate() error {
	if err := validLogin(a.Login); err != nil {
		return err
	}
	if len(a.Aliases) > MaxAliases {
		return fmt.Errorf("%d aliases, at most %d are possible: %w", len(a.Aliases), MaxAliases, fs.ErrInvalid)
	}
	for i, alias := range a.Aliases {
		if err := validAlias(alias, a.Login); err != nil {
			return err
		}
		if i > 0 && alias <= a.Aliases[i-1] {
			return fmt.Errorf("alias %q is not behind %q, as sorted ones that differ are: %w", alias, a.Aliases[i-1], fs.ErrInvalid)
		}
	}
	for _, at := range [...]time.Time{a.Created, a.Changed} {
		if err := validTime(at); err != nil {
			return err
		}
	}
	if err := validText("full name", a.FullName, MaxFullName); err != nil {
		return err
	}
	if err := validText("affiliation", a.Affiliation, MaxAffiliation); err != nil {
		return err
	}
	if a.MovingTo != "" {
		if err := routing.ValidBackend(a.MovingTo); err != nil {
			return err
		}
	}
	for _, target := range a.Targets {
		// It would lead back here. Of the login the row itself says so.
		if slices.Contains(a.Aliases, target) {
			return fmt.Errorf("account %q forwards to %q, which is an alias of its own: %w", a.Login, target, fs.ErrInvalid)
		}
	}
	for _, row := range a.Rows() {
		if err := row.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func validTime(at time.Time) error {
	if s := at.Unix(); s < 0 || s > math.MaxUint32 {
		return fmt.Errorf("time %v is not from 1970 to 2106: %w", at, fs.ErrInvalid)
	}
	return nil
}

// validDomain holds that the domain of a login or an alias is one that DNS can
// have: to another no mail would come.
func validDomain(address string) error {
	if err := routing.ValidHost(address[strings.LastIndexByte(address, '@')+1:]); err != nil {
		return fmt.Errorf("domain of %q: %w", address, err)
	}
	return nil
}

// validLogin takes what can be an alias's target, as a login must be.
func validLogin(login string) error {
	if len(login) > MaxLogin {
		return fmt.Errorf("login has %d bytes, at most %d are possible: %w", len(login), MaxLogin, fs.ErrInvalid)
	}
	if err := routing.ValidTarget(login); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if err := validDomain(login); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return routing.Row{Address: login, Backend: "any"}.Validate()
}

func validAlias(alias, login string) error {
	if err := routing.ValidTarget(alias); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	if err := validDomain(alias); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	return routing.Row{Address: alias, Kind: routing.Alias, Targets: []string{login}}.Validate()
}

func validText(what, text string, most int) error {
	if len(text) > most || !utf8.ValidString(text) {
		return fmt.Errorf("%s has %d bytes, at most %d of UTF-8 are possible: %w", what, len(text), most, fs.ErrInvalid)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s %q has a control character: %w", what, text, fs.ErrInvalid)
	}
	return nil
}
