package scenarios

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// ledger remembers every acknowledged preference and change of an account until
// it is read back. It keeps, for each key, the values that may rightly stand there.
type ledger struct {
	mu   sync.Mutex
	keys map[ledgerKey][]write
}

type ledgerKey struct {
	owner
	key string
}

// owner is whose keys are read back at once.
type owner struct {
	user string
	path reference.Path
}

// write is one write of one key. The value "" is none: as in SquirrelMail,
// preferences.Store removes a preference that is set to it.
type write struct {
	value      string
	dispatched time.Duration // since the anchor; it took no effect before
	settled    time.Duration // nor after this
	certain    bool          // it took effect, by the time it ended
}

// lingerBound is how long after its op ended a statement that the client gave
// up on may still take effect. The server goes on with it for at most as long
// as NDB lets an idle transaction live (TransactionInactiveTimeout, which
// reference/cluster sets to 10 s) and the client's read time-out (10 s by
// default). The bound is three times their sum, for a value that is wrongly
// called lost costs more than one that is accepted for too long.
const lingerBound = 60 * time.Second

func newLedger() *ledger { return &ledger{keys: map[ledgerKey][]write{}} }

// Acknowledge takes a write as it ends.
func (l *ledger) Acknowledge(a workload.Acknowledged) {
	path := a.Operation.Path()
	if path != reference.Preferences && path != reference.Accounts {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := write{value: a.Value, dispatched: a.Dispatched, settled: a.At, certain: a.Certain}
	if a.Lingers || !a.Certain {
		w.settled += lingerBound
	}
	k := ledgerKey{owner{a.User, path}, a.Key}
	l.keys[k] = prune(append(l.keys[k], w))
}

// acknowledgedKeys says how many keys readBack will read.
func (l *ledger) acknowledgedKeys() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, writes := range l.keys {
		if acknowledged(writes) {
			n++
		}
	}
	return n
}

// prune drops the writes that a later one has certainly replaced: those that
// were settled before a certain write was dispatched. Writes that overlap may
// take effect in either order.
func prune(writes []write) []write {
	latest := time.Duration(-1 << 62)
	for _, w := range writes {
		if w.certain {
			latest = max(latest, w.dispatched)
		}
	}
	return slices.DeleteFunc(writes, func(w write) bool { return w.settled < latest })
}

// judgeKey says what a value that was read back means, "" if there is none.
func judgeKey(writes []write, value string) results.LedgerVerdict {
	if slices.ContainsFunc(writes, func(w write) bool { return w.value == value }) {
		return results.Verified
	}
	return results.Lost
}

// acknowledged says whether any write of a key was certain: without one nothing
// was promised.
func acknowledged(writes []write) bool {
	return slices.ContainsFunc(writes, func(w write) bool { return w.certain })
}

// readBack reads every key that was acknowledged, in turn through each SQL
// node, and hands what became of it to keep: first the preferences of a user, then
// the account. What cannot be read through one node is read through the others.
func (l *ledger) readBack(ctx context.Context, target reference.Target, keep func(results.LedgerRow)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	owners := map[owner][]string{}
	for k, writes := range l.keys {
		if acknowledged(writes) {
			owners[k.owner] = append(owners[k.owner], k.key)
		}
	}
	reader := newRoundReader(target)
	defer reader.close()
	order := func(a, b owner) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.path, b.path)) }
	for _, o := range slices.SortedFunc(maps.Keys(owners), order) {
		stored, err := reader.read(ctx, o)
		slices.Sort(owners[o])
		for _, key := range owners[o] {
			verdict := results.LedgerUnknown
			if err == nil {
				verdict = judgeKey(l.keys[ledgerKey{o, key}], stored[key])
			}
			keep(results.LedgerRow{User: o.user, Key: key, Verdict: verdict})
		}
	}
}

// keysOf reads all keys of an owner.
func keysOf(ctx context.Context, session reference.Session, o owner) (map[string]string, error) {
	if o.path != reference.Accounts {
		return session.Read(ctx, o.user)
	}
	account, err := session.Account(ctx, o.user)
	if errors.Is(err, accounts.ErrNotFound) {
		return nil, nil // an answer: there is nothing any more
	}
	return workload.AccountValues(account), err
}

// roundReader reads users through all SQL nodes in turn.
type roundReader struct {
	target   reference.Target
	nodes    []topology.Node
	sessions map[topology.ID]reference.Session
	next     int
}

func newRoundReader(target reference.Target) *roundReader {
	return &roundReader{target: target, nodes: target.Topology().ByRole(topology.SQL), sessions: map[topology.ID]reference.Session{}}
}

func (r *roundReader) read(ctx context.Context, o owner) (map[string]string, error) {
	var lastErr error
	for range r.nodes {
		n := r.nodes[r.next%len(r.nodes)]
		r.next++
		session := r.sessions[n.ID]
		if session == nil {
			opened, err := r.target.Connect(ctx, n.ID, reference.ConnectOptions{ConnectTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second})
			if err != nil {
				lastErr = err
				continue
			}
			session = opened
			r.sessions[n.ID] = session
		}
		stored, err := keysOf(ctx, session, o)
		if err == nil {
			return stored, nil
		}
		lastErr = err
		_ = session.Close() // given up either way
		delete(r.sessions, n.ID)
	}
	return nil, lastErr
}

func (r *roundReader) close() {
	for _, s := range r.sessions {
		_ = s.Close() // only read from
	}
}
