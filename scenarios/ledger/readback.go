package ledger

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// Reader reads what is stored, through one SQL node.
type Reader interface {
	Greylist(ctx context.Context, keys []greylist.Key) (map[greylist.Key]greylist.State, error)
	Preferences(ctx context.Context, user string) (map[string]string, error)
	// Account's error wraps accounts.ErrNotFound if there is none.
	Account(ctx context.Context, login string) (accounts.Account, error)
	Close() error
}

// Reading is how a ledger is read back.
type Reading struct {
	Open  func(context.Context, topology.Node) (Reader, error)
	Since func() time.Duration // the run's clock
	// After is the fault after which it is; "" for the end, when no op is under way
	// any more. A reading while the load runs rests three times as long as it reads,
	// so that the load does not feel it.
	After string
}

const (
	batchKeys  = 200 // that one statement reads
	batchTime  = 10 * time.Second
	resting    = 3
	mostErrors = 3 // in a row, until a node is left alone
	// How often a batch is tried while the load runs, a second apart: a SQL node
	// joins some seconds after its data nodes.
	patience = 30
)

// tries is how often a batch is read until it is left out.
func (r Reading) tries() int {
	if r.After == "" {
		return 2
	}
	return patience
}

// rest waits while the load runs, and not at the end.
func (r Reading) rest(ctx context.Context, d time.Duration) {
	if r.After == "" {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// batch is some keys that are read at once: of the greylist, or of one owner.
type batch struct {
	rows  []greylist.Key
	path  reference.Path // of user
	user  string
	texts []string
	read  bool // through any node
}

func (b *batch) size() int64 { return int64(len(b.rows) + len(b.texts)) }

// batches are all keys of which something was promised.
func (l *Ledger) batches() []*batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*batch
	for part := range slices.Chunk(slices.Clone(l.rows), batchKeys) {
		all = append(all, &batch{rows: part})
	}
	type owner struct {
		path reference.Path
		user string
	}
	owners := map[owner][]string{}
	for k, h := range l.texts {
		if h.promised() {
			o := owner{k.path, k.user}
			owners[o] = append(owners[o], k.key)
		}
	}
	order := func(a, b owner) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.path, b.path)) }
	for _, o := range slices.SortedFunc(maps.Keys(owners), order) {
		slices.Sort(owners[o])
		all = append(all, &batch{path: o.path, user: o.user, texts: owners[o]})
	}
	return all
}

// Keys is how many keys something was promised of.
func (l *Ledger) Keys() (n int64) {
	for _, b := range l.batches() {
		n += b.size()
	}
	return n
}

// ReadBack reads every key through each SQL node, one node after the other, until
// ctx ends. At the end of the run it hands the sink what was found broken, what
// could not be read through any node, and the summary.
func (l *Ledger) ReadBack(ctx context.Context, r Reading) {
	all := l.batches()
	for _, n := range l.topology.ByRole(topology.SQL) {
		l.sink.ReadBack(l.readThrough(ctx, r, n, all))
	}
	if r.After == "" {
		l.close(r, all)
	}
}

func (l *Ledger) readThrough(ctx context.Context, r Reading, n topology.Node, all []*batch) results.ReadBack {
	began := r.Since()
	told := results.ReadBack{After: r.After, Node: n.Name, AtUS: began.Microseconds()}
	var reader Reader
	defer func() {
		if reader != nil {
			_ = reader.Close() // only read from
		}
	}()
	failed := 0
	for i, b := range all {
		if ctx.Err() != nil || failed == mostErrors {
			for _, b := range all[i:] {
				told.Unread += b.size()
			}
			break
		}
		before := r.Since()
		broken, err := l.readBatch(ctx, r, n, &reader, b)
		for tries := 1; err != nil && ctx.Err() == nil && tries < r.tries(); tries++ { // over another connection
			r.rest(ctx, time.Second)
			broken, err = l.readBatch(ctx, r, n, &reader, b)
		}
		if err != nil {
			failed++
			told.Unread += b.size()
			continue
		}
		failed, b.read = 0, true
		told.Keys, told.Broken = told.Keys+b.size(), told.Broken+broken
		r.rest(ctx, resting*(r.Since()-before))
	}
	told.TookUS = (r.Since() - began).Microseconds()
	return told
}

// readBatch reads and judges one batch.
func (l *Ledger) readBatch(ctx context.Context, r Reading, n topology.Node, reader *Reader, b *batch) (broken int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	if *reader == nil {
		if *reader, err = r.Open(ctx, n); err != nil {
			*reader = nil
			return 0, err
		}
	}
	began := floor(r.Since())
	var (
		rows  map[greylist.Key]greylist.State
		texts map[string]string
	)
	switch b.path {
	case reference.Preferences:
		texts, err = (*reader).Preferences(ctx, b.user)
	case reference.Accounts:
		var account accounts.Account
		if account, err = (*reader).Account(ctx, b.user); err == nil {
			texts = workload.AccountValues(account)
		} else if errors.Is(err, accounts.ErrNotFound) {
			err = nil // an answer: there is nothing any more
		}
	default:
		rows, err = (*reader).Greylist(ctx, b.rows)
	}
	if err != nil {
		_ = (*reader).Close() // given up either way
		*reader = nil
		return 0, err
	}
	ended := ceil(r.Since())
	l.mu.Lock()
	defer l.mu.Unlock()
	tell := func(key any, value *string, row results.LedgerRow, missing *int64, wanted, found string) {
		if row.Verdict == results.Verified {
			return
		}
		broken++
		row.Node, row.ReadUS, row.AcknowledgedUS, row.Wanted, row.Found = n.Name, ended.us(), missing, clip(wanted), clip(found)
		l.doubt(&suspect{ended: ended, value: value, row: &row, key: key}, key)
	}
	for _, k := range b.rows {
		row := keyRow(k)
		var missing *int64
		var wanted, found string
		if row.Kind == results.Credit {
			row.Verdict, missing, wanted = l.judgeCredit(k, rows[k], began, r.After == "")
			found = creditText(rows[k])
			if c := l.credits[k]; r.After != "" && row.Verdict.Broken() && rows[k].Credits < int64(c.least) {
				c.least = uint32(rows[k].Credits) // later ones are counted from what is there
				l.credits[k] = c
			}
		} else {
			row.Verdict, missing, wanted = l.judgeTriplet(k, rows[k], began, ended)
			found = rowText(rows[k])
		}
		tell(k, nil, row, missing, wanted, found)
	}
	for _, key := range b.texts {
		k := textKey{b.path, b.user, key}
		row := textRow(k)
		var missing *int64
		var wanted string
		row.Verdict, missing, wanted = l.judgeText(k, texts[key], began, ended)
		tell(k, new(texts[key]), row, missing, wanted, texts[key])
	}
	return broken, nil
}

func keyRow(k greylist.Key) results.LedgerRow {
	if k[0] == 0xff { // as greylist.Key has it
		return results.LedgerRow{Kind: results.Triplet, Key: hex.EncodeToString(k[:])}
	}
	return results.LedgerRow{Kind: results.Credit, Key: netip.AddrFrom16(k).Unmap().String()}
}

func textRow(k textKey) results.LedgerRow {
	kind := results.Preference
	if k.path == reference.Accounts {
		kind = results.AccountKey
	}
	return results.LedgerRow{Kind: kind, User: clip(k.user), Key: clip(k.key)}
}

func creditText(row greylist.State) string {
	if !row.Seen {
		return "nothing"
	}
	return fmt.Sprintf("%d credits, the last %d", row.Credits, row.Last)
}

// Abandon hands over what was found broken so far, for a run that ends before its
// ledger is read back.
func (l *Ledger) Abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
}

// tell hands over what is still unexplained, and returns the verdict on each broken
// key.
func (l *Ledger) tell() map[any]results.LedgerVerdict {
	verdicts, violations := map[any]results.LedgerVerdict{}, 0
	for _, s := range l.all {
		switch {
		case s.explained:
		case s.violation != nil:
			if violations++; violations <= maxViolations {
				l.sink.Violation(*s.violation)
			}
		default:
			l.sink.LedgerRow(*s.row)
			verdicts[s.key] = results.Worse(verdicts[s.key], s.row.Verdict)
		}
	}
	return verdicts
}

// close hands over what is broken, and the summary.
func (l *Ledger) close(r Reading, all []*batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	verdicts := l.tell()
	summary := results.LedgerSummary{}
	count := func(key any, row results.LedgerRow, read bool) {
		verdict, broken := verdicts[key]
		switch {
		case broken:
		case read:
			verdict = results.Verified
		default:
			verdict = results.LedgerUnknown
			row.Verdict, row.ReadUS = verdict, r.Since().Microseconds()
			l.sink.LedgerRow(row)
		}
		_ = summary.Add(row.Kind, verdict) // both are of those that there are
	}
	for _, b := range all {
		for _, k := range b.rows {
			count(k, keyRow(k), b.read)
		}
		for _, key := range b.texts {
			k := textKey{b.path, b.user, key}
			count(k, textRow(k), b.read)
		}
	}
	l.sink.LedgerSummary(summary)
}
