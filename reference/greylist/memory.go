package greylist

import (
	"context"
	"fmt"
)

// Memory is the decision model with its state in memory: what the procedures do,
// without a database. It is the oracle for tests, and works out the state that a
// stretch of mail leaves. It serves one caller at a time.
type Memory struct {
	Policy    Policy
	Whitelist *Matcher // nil for none
	Rows      map[Key]State
}

var _ Checker = (*Memory)(nil)

// NewMemory returns a model that has seen nothing.
func NewMemory(p Policy, w *Matcher) *Memory {
	return &Memory{Policy: p, Whitelist: w, Rows: map[Key]State{}}
}

// Check implements Checker. It refuses what is not valid and never fails else.
func (m *Memory) Check(_ context.Context, r Request) (Answer, error) {
	if err := r.Validate(); err != nil {
		return Answer{}, fmt.Errorf("greylist check: %w", err)
	}
	if v := m.Whitelist.Match(r.ClientName, r.Client, r.Recipient); v != NoAnswer {
		return Answer{Verdict: v}, nil
	}
	ck, tk := ClientKey(r.Client), m.Policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
	answer, triplet, client := m.Policy.Decide(m.Rows[tk], m.Rows[ck], r.Now.Unix())
	if triplet.Seen {
		m.Rows[tk] = triplet
	}
	if client.Seen {
		m.Rows[ck] = client
	}
	return answer, nil
}

// Expire forgets what Postgrey's nightly cleanup would at now, in seconds since
// 1970, and returns how many rows that were.
func (m *Memory) Expire(now int64) (deleted int) {
	for k, s := range m.Rows {
		if m.Policy.Expired(s, now) {
			delete(m.Rows, k)
			deleted++
		}
	}
	return deleted
}
