// Package accounts keeps the accounts behind the other paths: one change of an
// account changes what an MTA reads of it (reference/routing) and where the
// webmail finds its preferences (reference/preferences), wholly or not at all.
package accounts

import (
	"context"
	"errors"
	"time"

	"github.com/mailbench/mailbench/reference/routing"
)

// Why a change is refused. Nothing of a refused change is stored.
var (
	ErrNotFound = errors.New("there is no such account or alias")
	ErrExists   = errors.New("the name is taken")
	ErrState    = errors.New("the account's state does not allow it")
)

// ErrUnknown is in the error of a change of which it is not known whether it
// happened. Making the same change, with the same id, settles it.
var ErrUnknown = errors.New("the change may or may not have happened")

// Verdict is the answer to a change. Recordings store its number, so that new
// verdicts go to the end.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
const (
	NoAnswer Verdict = iota
	Changed          // the change is stored
	NotFound         // ErrNotFound
	Exists           // ErrExists
	BadState         // ErrState
)

func (v Verdict) String() string {
	switch v {
	case Changed:
		return "changed"
	case NotFound:
		return "not found"
	case Exists:
		return "exists"
	case BadState:
		return "bad state"
	default:
		return "none"
	}
}

// VerdictOf tells answers from failures: a refusal is an answer, and leaves no
// error.
func VerdictOf(err error) (Verdict, error) {
	switch {
	case err == nil:
		return Changed, nil
	case errors.Is(err, ErrNotFound):
		return NotFound, nil
	case errors.Is(err, ErrExists):
		return Exists, nil
	case errors.Is(err, ErrState):
		return BadState, nil
	default:
		return NoAnswer, err
	}
}

// Account is one account as it is stored, in the tables account and
// account_address (reference/schema/accounts.sql).
type Account struct {
	// Login is the webmail's user name and the address that the account's mail
	// comes to: lower case, at most 128 bytes.
	Login       string
	Aliases     []string // other addresses, lower case and sorted; at most MaxAliases
	FullName    string   // UTF-8 without control characters, at most 255 bytes
	Affiliation string   // the same, at most 64 bytes
	State       routing.State
	Backend     string
	MovingTo    string   // the backend that a move leads to, "" but in state moving
	QuotaMB     uint32   // 0 for none
	Targets     []string // where mail is forwarded to, as in routing.Row
	KeepCopy    bool
	NoGreylist  bool
	// SpamThreshold is as in routing.Row; what is read back is never 0.
	SpamThreshold    uint8
	Created, Changed time.Time // in whole seconds
}

// MaxAliases is how many other addresses an account may have. Assumed.
const MaxAliases = 100

// Rows are the rows of the table route that belong to the account: that of its
// login, and then those of its aliases.
func (a Account) Rows() []routing.Row {
	rows := []routing.Row{{
		Address: a.Login, State: a.State, Backend: a.Backend,
		Targets: a.Targets, KeepCopy: a.KeepCopy, NoGreylist: a.NoGreylist, SpamThreshold: a.SpamThreshold,
	}}
	// An alias of a suspended or closed account says so itself, so that an MTA
	// need not follow it to refuse; that of a moving one leads to the deferral.
	state := a.State
	if state == routing.StateMoving {
		state = routing.Active
	}
	for _, alias := range a.Aliases {
		rows = append(rows, routing.Row{
			Address: alias, Kind: routing.Alias, State: state, Targets: []string{a.Login},
			NoGreylist: a.NoGreylist, SpamThreshold: a.SpamThreshold, // the owner's, whichever address is written to
		})
	}
	return rows
}

// Action is what a change does.
type Action uint8

// The actions.
const (
	Create      Action = iota + 1 // of Change.Account
	Rename                        // to Change.NewLogin
	Suspend                       // mail is refused for a while
	Resume                        // ends Suspend
	Close                         // mail is refused for good
	AddAlias                      // Change.Alias
	RemoveAlias                   // Change.Alias
	SetForward                    // to Change.Targets, or no more
	BeginMove                     // to Change.Backend: mail is deferred until the move is over
	FinishMove                    // the mailbox is there
	AbortMove                     // the mailbox has stayed where it was
)

// Actions lists all actions.
var Actions = [...]Action{Create, Rename, Suspend, Resume, Close, AddAlias, RemoveAlias, SetForward, BeginMove, FinishMove, AbortMove}

var actionNames = [...]string{
	Create: "create", Rename: "rename", Suspend: "suspend", Resume: "resume", Close: "close",
	AddAlias: "add_alias", RemoveAlias: "remove_alias", SetForward: "set_forward",
	BeginMove: "begin_move", FinishMove: "finish_move", AbortMove: "abort_move",
}

// String spells an action as the table account_change does.
func (a Action) String() string {
	if a >= Create && int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "none"
}

// Change is one change of one account.
type Change struct {
	// ID tells the change from all others that there ever were. Whoever makes
	// the same change again, because its answer was lost, uses the same ID: it
	// happens once.
	ID     [16]byte
	At     time.Time // stored in whole seconds
	Action Action
	Login  string // whose account it is, before the change

	// What the actions need; the rest stays empty.
	Account  Account  // Create: what the account has; Login, State, MovingTo and the times are the change's own
	NewLogin string   // Rename
	KeepOld  bool     // Rename: the old login becomes an alias
	Alias    string   // AddAlias, RemoveAlias
	Targets  []string // SetForward: none ends forwarding
	KeepCopy bool     // SetForward
	Backend  string   // BeginMove
}

// Manager reads and changes accounts.
//
// Change makes one change, wholly or not at all, and returns nil when it is
// stored. A change that breaks the rules is refused with an error that wraps
// [ErrNotFound], [ErrExists] or [ErrState], one that cannot be stored with one
// that wraps [fs.ErrInvalid]. After any other error it may have happened.
type Manager interface {
	Change(ctx context.Context, c Change) error
	// Account reads one account as it is between two changes; the error wraps
	// ErrNotFound if there is none.
	Account(ctx context.Context, login string) (Account, error)
}
