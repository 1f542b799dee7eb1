// Package routing answers where mail for an address goes: the question that an
// MTA asks the database for every recipient.
package routing

import "context"

// Verdict is what the mail system knows of an address.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
const (
	NoAnswer Verdict = iota
	Local            // a mailbox on one of our backends
	Unknown          // no such address
)

func (v Verdict) String() string {
	switch v {
	case Local:
		return "local"
	case Unknown:
		return "unknown"
	default:
		return "none"
	}
}

// Answer is where mail for one address goes.
type Answer struct {
	Verdict Verdict
	Backend string // the host that holds the mailbox, for Local
}

// Router answers for one address, local part and domain joined by "@". An
// address that nobody has is Unknown and no error; an error means that the
// question was not answered.
type Router interface {
	Route(ctx context.Context, address string) (Answer, error)
}

// Row is one address as it is stored.
type Row struct {
	Address string // lower case
	Backend string
}
