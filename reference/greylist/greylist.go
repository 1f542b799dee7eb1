// Package greylist decides whether a recipient is deferred, by the algorithm of
// Postgrey: the triplet of client network, sender and recipient has to wait
// once, and clients that keep coming back are whitelisted by themselves.
package greylist

import (
	"context"
	"net/netip"
	"time"
)

// Verdict is the answer for one recipient.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
// Recordings store the numbers.
const (
	NoAnswer        Verdict = iota
	New                     // first seen (or seen again after the retry window): defer
	Early                   // seen, but the delay has not passed: defer
	Pass                    // the triplet has waited: accept
	AutoWhitelisted         // the client has earned enough credits: accept
	ClientListed            // the client is in a whitelist: accept
	RecipientListed         // the recipient is in a whitelist: accept
)

var verdictNames = [...]string{"none", "new", "early", "pass", "auto", "client", "recipient"}

// String spells the verdict as the procedure greylist_check does.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return verdictNames[NoAnswer]
}

// Defers says whether the peer is asked to come back later.
func (v Verdict) Defers() bool { return v == New || v == Early }

// Request is one RCPT command of a peer.
type Request struct {
	Client     netip.Addr // the peer's address; IPv4 in IPv6 counts as IPv4
	ClientName string     // its host name as the MTA has verified it, or ""
	Sender     string     // envelope sender, "" for the null sender
	Recipient  string
	Now        time.Time // virtual time; the database's own clock is not used
}

// Answer is the decision for one Request.
type Answer struct {
	Verdict Verdict
	Wait    time.Duration // how long until the triplet would pass, 0 if accepted
	// Delayed is how long a triplet has waited that passes for the first time;
	// else 0.
	Delayed time.Duration
}

// Checker decides for one recipient. When it returns an answer the decision is
// committed.
type Checker interface {
	Check(ctx context.Context, r Request) (Answer, error)
}

// Row is one triplet as it is stored.
type Row struct {
	Client      netip.Addr
	ClientName  string // matters to Postgrey131 only
	Sender      string
	Recipient   string
	First, Last time.Time // whole seconds
}

// Stored is a row of the table, a triplet's or a client's, under its key.
type Stored struct {
	Key   Key
	State State
}

// ClientRow is one client's credits as they are stored.
type ClientRow struct {
	Client      netip.Addr
	Credits     int
	First, Last time.Time // of the first and the last credit, whole seconds
}
