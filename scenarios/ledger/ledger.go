// Package ledger remembers every acknowledged write of a run, cheaply, checks each
// answer against what was acknowledged before it, and reads everything back
// through every SQL node. It finds; results judges.
//
// # What it costs
//
// Some 90 bytes a triplet, and a map access or two an op.
package ledger

import (
	"fmt"
	"slices"
	"sync"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// Sink takes what the ledger finds; a results.Recording is one.
type Sink interface {
	LedgerRow(results.LedgerRow)
	Violation(results.Violation)
	ReadBack(results.ReadBack)
	LedgerSummary(results.LedgerSummary)
}

// One fault can make every answer wrong, and every key. What is beyond these bounds is
// not written down.
const (
	maxViolations = 10_000
	maxSuspects   = 300_000
)

// mostValues bounds the values of a preference or an account that are kept, so that
// what was replaced long ago is known again.
const mostValues = 256

// Ledger is told of a run's ops while it runs. It may be used from many
// goroutines.
type Ledger struct {
	stored   *workload.Stored
	policy   greylist.Policy
	topology topology.Topology
	sink     Sink

	mu       sync.Mutex
	texts    map[textKey]*history[string] // preferences and accounts
	triplets map[greylist.Key]history[seen]
	credits  map[greylist.Key]credit
	users    map[string][]string // keys of preferences that were written, by user
	rows     []greylist.Key      // of which something was promised
	suspects map[any][]*suspect  // by textKey, or greylist.Key of a triplet or a client
	all      []*suspect
}

// textKey is a preference, or one of the two keys of an account.
type textKey struct {
	path      reference.Path
	user, key string
}

// suspect is an answer, or a reading of the ledger's own, that nothing acknowledged
// so far explains. A write that was under way at the same time, and is told of
// later, may.
type suspect struct {
	ended     instant // of the op or the reading
	explained bool
	value     *string            // only a write of it explains this; nil for any write of the key
	violation *results.Violation // one of the two
	row       *results.LedgerRow
	key       any // of the row
}

// New returns a ledger for a target that holds what is stored.
func New(stored *workload.Stored, policy greylist.Policy, t topology.Topology, sink Sink) *Ledger {
	return &Ledger{
		stored: stored, policy: policy, topology: t, sink: sink,
		texts: map[textKey]*history[string]{}, triplets: map[greylist.Key]history[seen]{}, credits: map[greylist.Key]credit{},
		users: map[string][]string{}, suspects: map[any][]*suspect{},
	}
}

var _ workload.Ledger = (*Ledger)(nil)

// Acknowledge takes a write as it ends.
func (l *Ledger) Acknowledge(a workload.Acknowledged) {
	if a.Operation == reference.CheckGreylist {
		r := &a.Request
		key := l.policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.greylisted(&a, key)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := textKey{a.Operation.Path(), a.User, a.Key}
	l.clear(k, floor(a.Dispatched), &a.Value)
	h, known := l.texts[k]
	if !known {
		h = new(history[string])
		l.texts[k] = h
		if k.path == reference.Preferences {
			l.users[k.user] = append(l.users[k.user], k.key)
		}
	}
	h.add(writeOf(&a, a.Value), !known, mostValues, 0)
}

func writeOf[V any](a *workload.Acknowledged, value V) write[V] {
	w := write[V]{value: value, dispatched: floor(a.Dispatched), ended: ceil(a.At), certain: a.Certain}
	w.settled = w.ended
	if a.Lingers || !a.Certain {
		w.settled += lingerBound
	}
	return w
}

// clear takes suspicion from what a write explains that began at that time. value is
// that of a preference or an account.
func (l *Ledger) clear(key any, dispatched instant, value *string) {
	if len(l.suspects) == 0 {
		return
	}
	for _, s := range l.suspects[key] {
		if dispatched <= s.ended && (s.value == nil || value == nil || *s.value == *value) {
			s.explained = true
		}
	}
}

func (l *Ledger) doubt(s *suspect, keys ...any) {
	if len(l.all) >= maxSuspects {
		l.all = slices.DeleteFunc(l.all, func(s *suspect) bool { return s.explained })
		if len(l.all) >= maxSuspects {
			return
		}
	}
	l.all = append(l.all, s)
	for _, k := range keys {
		l.suspects[k] = append(slices.DeleteFunc(l.suspects[k], func(s *suspect) bool { return s.explained }), s)
	}
}

// violation keeps an answer that contradicts what was acknowledged of the keys. Only
// a write of value explains it, if that is not nil.
func (l *Ledger) violation(op *workload.Op, user string, kind results.ViolationKind, missing *int64, wanted, found string, value *string, keys ...any) {
	l.doubt(&suspect{ended: ceil(op.At), value: value, violation: &results.Violation{
		Violation: kind, Operation: op.Operation.String(), Message: op.Message, Recipient: op.Recipient, Try: op.Try,
		User: clip(user), Node: l.nodeName(op.Node), AtUS: op.At.Microseconds(), AcknowledgedUS: missing,
		Wanted: clip(wanted), Found: clip(found),
	}}, keys...)
}

func (l *Ledger) nodeName(id topology.ID) string {
	n, _ := l.topology.ByID(id)
	return n.Name
}

// clip bounds a text of which a line of the ledger is made.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + fmt.Sprintf("… (%d bytes)", len(s))
}
