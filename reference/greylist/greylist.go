// Package greylist decides whether a recipient is deferred: Postgrey's rule
// for the triplet of client network, sender and recipient.
package greylist

import (
	"context"
	"net/netip"
	"time"
)

// Verdict is the answer for one recipient.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
const (
	NoAnswer Verdict = iota
	New              // first seen (or seen again after the retry window): defer
	Early            // seen, but the delay has not passed: defer
	Pass             // the delay has passed: accept
)

func (v Verdict) String() string {
	switch v {
	case New:
		return "new"
	case Early:
		return "early"
	case Pass:
		return "pass"
	default:
		return "none"
	}
}

// Defers says whether the peer is asked to come back later.
func (v Verdict) Defers() bool { return v == New || v == Early }

// Request is one RCPT command of a peer.
type Request struct {
	Client    netip.Addr // the peer's address
	Sender    string     // envelope sender, "" for the null sender
	Recipient string
	Now       time.Time // virtual time; the database's own clock is not used
}

// Answer is the decision for one Request.
type Answer struct {
	Verdict Verdict
	Wait    time.Duration // how long until the triplet would pass, 0 for Pass
}

// Checker decides for one recipient. When it returns an answer the decision is
// committed.
type Checker interface {
	Check(ctx context.Context, r Request) (Answer, error)
}

// Row is one triplet as it is stored.
type Row struct {
	Client      netip.Addr
	Sender      string
	Recipient   string
	First, Last time.Time // whole seconds
}
