package ledger

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// seen is a row of a triplet, in seconds since 1970. A first of 0 is not known.
type seen struct{ first, last uint32 }

func (s seen) is(row greylist.State) bool {
	return row.Seen && int64(s.last) == row.Last && (s.first == 0 || int64(s.first) == row.First)
}

func (s seen) String() string {
	if s.first == 0 {
		return fmt.Sprintf("last seen %d", s.last)
	}
	return fmt.Sprintf("first seen %d, last seen %d", s.first, s.last)
}

func rowText(row greylist.State) string {
	if !row.Seen {
		return "nothing"
	}
	return seen{uint32(row.First), uint32(row.Last)}.String()
}

// credit is what is known of a client's credits. No lock is held between an op's
// reading of them and its writing (docs/decisions/0004), so that of two credits at
// one time one may be lost: they are known within bounds.
type credit struct {
	least, most         uint32
	lastLeast, lastMost uint32  // seconds since 1970, of the last credit that is counted
	latest              uint32  // of the latest op that may have written the row
	ended, before       instant // of the ops that certainly earned the last two
	blurred             instant // until then a statement that lingers may set them back
	earned              bool    // one was certainly earned in this run
}

// every is how far apart a client's credits are at least, in seconds of virtual
// time (greylist.sql, as in Postgrey).
const every = uint32(time.Hour / time.Second)

func (l *Ledger) creditOf(key greylist.Key) credit {
	c, known := l.credits[key]
	if known {
		return c
	}
	if base := l.stored.Client(netip.AddrFrom16(key).Unmap()); base.Seen {
		c.least, c.lastLeast = uint32(base.Credits), uint32(base.Last)
		c.most, c.lastMost, c.latest = c.least, c.lastLeast, c.lastLeast
	}
	return c
}

// sure is how many credits a reading that began then finds at least; 0 if some were
// earned meanwhile.
func (c *credit) sure(began instant) uint32 {
	if c.earned && c.ended >= began {
		return 0
	}
	return c.least
}

// earn counts a credit at a time.
func (c *credit) earn(now uint32, ended instant) {
	c.most, c.lastMost = c.most+1, max(c.lastMost, now)
	c.least, c.lastLeast, c.before, c.ended, c.earned = c.least+1, now, c.ended, ended, true
}

// mayEarn counts a credit that may or may not be.
func (c *credit) mayEarn(now uint32) { c.most, c.lastMost = c.most+1, max(c.lastMost, now) }

// Restored is told that the whole cluster has gone back to an older checkpoint:
// credits of the last minute may be gone, and earned anew before anybody looks.
func (l *Ledger) Restored(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, c := range l.credits {
		if c.earned && c.ended+keepReplaced >= floor(now) {
			c.least, c.lastLeast = 0, 0
			l.credits[k] = c
		}
	}
}

// greylisted checks a decision and keeps what it has written.
func (l *Ledger) greylisted(a *workload.Acknowledged, key greylist.Key) {
	clientKey, now := greylist.ClientKey(a.Request.Client), uint32(a.Request.Now.Unix())
	verdict := a.Decision.Verdict
	if mayWriteClient(a) {
		l.clear(clientKey, floor(a.Dispatched), nil)
	}
	l.clear(key, floor(a.Dispatched), nil)
	if a.Certain && (verdict == greylist.ClientListed || verdict == greylist.RecipientListed) {
		return
	}
	h, known := l.triplets[key]
	c := l.creditOf(clientKey)
	before, first := c, uint32(0)
	if a.Certain {
		first = l.checkDecision(a, key, clientKey, &h, known, &c)
	}
	l.countCredit(&c, a, now)
	if c != before {
		l.credits[clientKey] = c
		if c.earned && !before.earned {
			l.rows = append(l.rows, clientKey)
		}
	}
	w := writeOf(a, seen{first, now})
	if a.Certain && verdict == greylist.AutoWhitelisted {
		if !a.Lingers {
			return // no triplet is written
		}
		w.certain = false // by another attempt, perhaps
	}
	promised := known && h.promised()
	h.add(w, !known, mostWrites, keepReplaced)
	if !promised && w.certain {
		l.rows = append(l.rows, key)
	}
	l.triplets[key] = h
}

// mayWriteClient says whether an op may have written its client's row.
func mayWriteClient(a *workload.Acknowledged) bool {
	return !a.Certain || a.Lingers || a.Decision.Verdict == greylist.AutoWhitelisted || a.Decision.Verdict == greylist.Pass && a.Decision.Delayed > 0
}

// countCredit follows the decision model (greylist.Policy.Decide).
func (l *Ledger) countCredit(c *credit, a *workload.Acknowledged, now uint32) {
	if l.policy.AutoWhitelist == 0 || !mayWriteClient(a) {
		return
	}
	c.latest = max(c.latest, now)
	dispatched, asked, ended := floor(a.Dispatched), floor(a.Asked), ceil(a.At)
	if c.earned && c.before >= dispatched {
		// Two were earned while this op was under way: it may have read them before
		// and written one more than that after.
		c.least, c.lastLeast = 0, 0
	}
	if a.Lingers || !a.Certain {
		c.blurred = max(c.blurred, ended+lingerBound)
	}
	// Whether it wrote depends on what it read, which is not known where another one
	// was writing.
	unsure := c.blurred > 0 && c.blurred >= asked || c.earned && c.ended >= asked
	if unsure {
		c.lastLeast = min(c.lastLeast, now)
	}
	due, dueAtMost := c.most == 0 || now >= c.lastMost+every, c.least == 0 || now >= c.lastLeast+every || c.lastMost > now
	switch {
	case unsure || !a.Certain || !due && dueAtMost:
		c.mayEarn(now)
	case due:
		c.earn(now, ended)
	}
}

// checkDecision holds a decision against the decision model, and returns when the
// triplet was first seen by what it says, 0 if it does not.
func (l *Ledger) checkDecision(a *workload.Acknowledged, key, clientKey greylist.Key, h *history[seen], known bool, c *credit) (first uint32) {
	began, ended, now := floor(a.Asked), ceil(a.At), a.Request.Now.Unix()
	verdict, threshold := a.Decision.Verdict, uint32(l.policy.AutoWhitelist)
	user := a.Request.Client.String() + " " + a.Request.Sender + " " + a.Request.Recipient
	if verdict == greylist.AutoWhitelisted {
		most := c.most
		if a.Lingers {
			most++ // by its own other attempt
		}
		if threshold == 0 || most < threshold {
			l.violation(&a.Op, user, results.LetThrough, nil, fmt.Sprintf("not whitelisted with at most %d credits", most), verdict.String(), nil, clientKey)
			c.most = max(c.most, threshold) // told once
		}
		return 0
	}
	if sure := c.sure(began); threshold > 0 && sure >= threshold {
		wanted := fmt.Sprintf("whitelisted with %d credits or more", sure)
		var missing *int64
		if c.earned && c.least == threshold {
			missing = new(c.ended.us())
		}
		if verdict.Defers() {
			l.violation(&a.Op, user, results.DeferredAgain, missing, wanted, verdict.String(), nil, clientKey)
		}
		if c.earned {
			row := keyRow(clientKey)
			row.Verdict, row.Node, row.ReadUS, row.AcknowledgedUS = results.Stale, l.nodeName(a.Node), ended.us(), missing
			row.Wanted, row.Found = wanted, "not whitelisted"
			l.doubt(&suspect{ended: ended, row: &row, key: clientKey}, clientKey)
		}
		c.least = threshold - 1 // what can be there; told once
	}

	switch {
	case verdict == greylist.New:
		first = uint32(now)
	case verdict == greylist.Early:
		first = uint32(now - int64((l.policy.Delay-a.Decision.Wait)/time.Second))
	case a.Decision.Delayed > 0:
		first = uint32(now - int64(a.Decision.Delayed/time.Second))
	}
	base := l.stored.Triplet(key)
	var wanted []greylist.Verdict
	agreed, certain, unsure := uint32(0), false, false
	state := func(s greylist.State, sure bool) {
		answer, after, _ := l.policy.Decide(s, greylist.State{}, now)
		wanted = append(wanted, answer.Verdict)
		if agreed != 0 && agreed != uint32(after.First) {
			unsure = true
		}
		agreed = uint32(after.First)
		unsure = unsure || !sure
	}
	if known {
		certain = h.standing(began, ended, func(w *write[seen]) {
			state(greylist.State{Seen: true, First: int64(w.value.first), Last: int64(w.value.last)}, w.value.first != 0)
		})
	}
	if !certain {
		state(base, true)
	}
	if verdict == greylist.Pass && first == 0 && !unsure {
		first = agreed // it has not changed
	}
	if unsure && anyUnknown(h, known) {
		return first // what an op without an answer has written is not known
	}
	all := func(is func(greylist.Verdict) bool) bool {
		for _, v := range wanted {
			if !is(v) {
				return false
			}
		}
		return true
	}
	if !all(func(v greylist.Verdict) bool { return v != verdict }) {
		return first
	}
	kind := results.DeferredAgain
	if verdict == greylist.Pass || verdict == greylist.Early && all(func(v greylist.Verdict) bool { return v == greylist.New }) {
		kind = results.LetThrough
	}
	var missing *int64
	if kind == results.DeferredAgain && known && !base.Seen {
		if at, ok := h.missing(began, func(v seen) bool { return verdict == greylist.Early && v.first == first }); ok {
			missing = new(at.us())
		}
	}
	l.violation(&a.Op, user, kind, missing, fmt.Sprint(wanted[0]), verdict.String(), nil, key)
	return first
}

// anyUnknown says whether any write of a triplet does not say when it was first
// seen.
func anyUnknown(h *history[seen], known bool) (unknown bool) {
	if known {
		h.all(func(w *write[seen]) { unknown = unknown || w.value.first == 0 })
	}
	return unknown
}

// judgeTriplet says what a row means that was read.
func (l *Ledger) judgeTriplet(key greylist.Key, row greylist.State, began, ended instant) (v results.LedgerVerdict, missing *int64, wanted string) {
	h, known := l.triplets[key]
	if !known || !h.promised() {
		return results.Verified, nil, ""
	}
	fits, last := false, uint32(0)
	base := l.stored.Triplet(key)
	if !h.standing(began, ended, func(w *write[seen]) {
		fits = fits || w.value.is(row)
		if last < w.value.last {
			last, wanted = w.value.last, w.value.String()
		}
	}) {
		fits = fits || row == base
	}
	if fits {
		return results.Verified, nil, ""
	}
	if at, ok := h.missing(began, func(s seen) bool { return s.is(row) }); ok && (row.Seen || !base.Seen) {
		missing = new(at.us())
	}
	if row.Seen && row.Last < int64(last) {
		return results.Stale, missing, wanted
	}
	return results.Lost, missing, wanted
}

// judgeCredit says what a client's row means that was read. More credits than are
// known may be of ops that are still under way, unless settled.
func (l *Ledger) judgeCredit(key greylist.Key, row greylist.State, began instant, settled bool) (v results.LedgerVerdict, missing *int64, wanted string) {
	c := l.credits[key]
	wanted = fmt.Sprintf("%d to %d credits, the last %d at most", c.least, c.most, c.latest)
	switch n, last, least := row.Credits, row.Last, int64(c.sure(began)); {
	case !c.earned:
		return results.Verified, nil, ""
	case n < least:
		if n == least-1 {
			missing = new(c.ended.us())
		}
		if row.Seen && n > 0 {
			return results.Stale, missing, wanted
		}
		return results.Lost, missing, wanted
	case settled && (n > int64(c.most) || last > int64(c.latest)):
		return results.Lost, nil, wanted
	default:
		return results.Verified, nil, ""
	}
}
