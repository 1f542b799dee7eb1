// Package routing answers where mail for an address goes: the question that an
// MTA asks the database for every recipient.
package routing

import "context"

// Verdict is what the mail system knows of an address. Recordings store its
// number, so that new verdicts go to the end.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
// [Router] gives those up to Foreign, [Resolve] also the last two.
const (
	NoAnswer  Verdict = iota
	Local             // a mailbox on one of our backends takes the mail
	Unknown           // no such address in a domain of ours: refuse
	Redirect          // the mail goes on to other addresses; a mailbox may keep a copy
	Suspended         // locked for a while: refuse
	Closed            // gone for good: refuse
	Moving            // the mailbox is on its way to another backend: defer
	Foreign           // the domain is not ours
	Loop              // the address leads back to itself
	TooDeep           // more than MaxHops redirections lead to the address
)

func (v Verdict) String() string {
	switch v {
	case Local:
		return "local"
	case Unknown:
		return "unknown"
	case Redirect:
		return "redirect"
	case Suspended:
		return "suspended"
	case Closed:
		return "closed"
	case Moving:
		return "moving"
	case Foreign:
		return "foreign"
	case Loop:
		return "loop"
	case TooDeep:
		return "too deep"
	default:
		return "none"
	}
}

// Accepts says whether an MTA takes mail for the address: there is somewhere
// for it to go.
func (v Verdict) Accepts() bool { return v == Local || v == Redirect }

// Answer is where mail for one address goes.
type Answer struct {
	Verdict Verdict
	// Backend is the host that takes the mailbox's mail, "" where no mailbox
	// takes any.
	Backend string
	// Targets are where the mail goes on to, for Redirect.
	Targets []string
	// KeepCopy says, for Redirect, that the mailbox on Backend gets it too.
	KeepCopy bool
	// Greylist is false where the owner wants no greylisting, and where there is
	// nobody who could want any.
	Greylist bool
	// SpamThreshold is the score in percent from which mail goes to the spam
	// folder, 1 to 100; 0 where no mailbox takes mail.
	SpamThreshold uint8
}

// Router answers for one address, local part and domain joined by "@". It goes
// one step: whoever asks follows a redirection. An address that nobody has is
// Unknown and no error; an error means that the question was not answered.
type Router interface {
	Route(ctx context.Context, address string) (Answer, error)
}
