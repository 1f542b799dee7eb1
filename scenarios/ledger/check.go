package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// Saw checks an answer against what was acknowledged before it was asked for.
func (l *Ledger) Saw(r workload.Seen) {
	if r.Operation == reference.ReadPreferences {
		stored := l.stored.Preferences(r.User)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.checkPreferences(&r, stored)
		return
	}
	account, exists := l.stored.Account(r.User)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checkRoute(&r, account, exists)
}

// checkRoute holds a route against the decision model and the account's writes.
func (l *Ledger) checkRoute(r *workload.Seen, account accounts.Account, exists bool) {
	login := r.User
	if exists {
		login = account.Login
	}
	home, forward := textKey{reference.Accounts, login, workload.AccountHome}, textKey{reference.Accounts, login, workload.AccountForward}
	if l.texts[home] == nil && l.texts[forward] == nil && sameRoute(unchanged(account, exists), r.Route) {
		return
	}
	began, ended := floor(r.Asked), ceil(r.At)
	homes, forwards := l.standingTexts(home, began, ended, l.base(home)), l.standingTexts(forward, began, ended, l.base(forward))
	var wanted routing.Answer
	for _, h := range homes {
		for _, f := range forwards {
			if wanted = routeOf(account, h, f); sameRoute(wanted, r.Route) {
				return
			}
		}
	}
	l.violation(&r.Op, r.User, results.WrongRoute, l.missingRoute(account, home, forward, r.Route, began), routeText(wanted), routeText(r.Route), nil, home, forward)
}

// missingRoute is when the earliest write of an account ended whose loss explains
// a route.
func (l *Ledger) missingRoute(account accounts.Account, home, forward textKey, found routing.Answer, began instant) *int64 {
	var latest *int64
	for _, h := range l.everyText(home) {
		for _, f := range l.everyText(forward) {
			if !sameRoute(routeOf(account, h, f), found) {
				continue
			}
			at := l.missingText(home, h, began)
			if other := l.missingText(forward, f, began); at == nil || other != nil && *other < *at {
				at = other
			}
			if at != nil && (latest == nil || *at > *latest) {
				latest = at
			}
		}
	}
	return latest
}

// unchanged is what an MTA is told of an account that nothing was done to.
func unchanged(account accounts.Account, exists bool) routing.Answer {
	if !exists {
		return routing.Answer{Verdict: routing.Unknown}
	}
	row := account.Rows()[0]
	return routing.Decide(row.Address, &row, nil)
}

// routeOf is what an MTA is told of an account with a home and a forward as
// workload.AccountValues has them. What is in no list of its values is as before.
func routeOf(account accounts.Account, home, forward string) routing.Answer {
	backend, on := strings.CutPrefix(home, "on ")
	_, moving := strings.CutPrefix(home, "moving to ")
	switch {
	case moving:
		account.State = routing.StateMoving
	case on:
		account.State, account.Backend = routing.Active, backend
	default: // there is no such account
		return routing.Answer{Verdict: routing.Unknown}
	}
	targets := routing.SplitTargets(forward)
	if !slices.Equal(targets, account.Targets) {
		account.Targets, account.KeepCopy = targets, len(targets) > 0 // as the jobs forward
	}
	return unchanged(account, true)
}

// sameRoute compares what an MTA acts on.
func sameRoute(a, b routing.Answer) bool {
	if a.Verdict != b.Verdict || !a.Verdict.Accepts() {
		return a.Verdict == b.Verdict
	}
	return a.Backend == b.Backend && slices.Equal(a.Targets, b.Targets) && a.KeepCopy == b.KeepCopy &&
		a.Greylist == b.Greylist && a.SpamThreshold == b.SpamThreshold
}

func routeText(a routing.Answer) string {
	text := a.Verdict.String()
	if a.Backend != "" {
		text += " on " + a.Backend
	}
	if len(a.Targets) > 0 {
		text += " to " + routing.JoinTargets(a.Targets)
	}
	return text
}

// checkPreferences holds what a login has read against each key's writes.
func (l *Ledger) checkPreferences(r *workload.Seen, stored map[string]string) {
	began, ended := floor(r.Asked), ceil(r.At)
	keys := maps.Clone(stored)
	for _, k := range l.users[r.User] {
		keys[k] = ""
	}
	maps.Copy(keys, r.Preferences)
	for key := range keys {
		k, found := textKey{reference.Preferences, r.User, key}, r.Preferences[key]
		wanted := l.standingTexts(k, began, ended, stored[key])
		if !slices.Contains(wanted, found) {
			l.violation(&r.Op, r.User, results.WrongPreference, l.missingText(k, found, began),
				fmt.Sprintf("%s %q", key, wanted[0]), fmt.Sprintf("%s %q", key, found), &found, k)
		}
	}
}

// base is what was stored under a key before the run, "" for nothing.
func (l *Ledger) base(k textKey) string {
	if k.path == reference.Preferences {
		return l.stored.Preferences(k.user)[k.key]
	}
	account, exists := l.stored.Account(k.user)
	if !exists {
		return ""
	}
	return workload.AccountValues(account)[k.key]
}

// standingTexts are the values that a reading may find, one at least. base is what
// was stored before the run.
func (l *Ledger) standingTexts(k textKey, began, ended instant, base string) (values []string) {
	h, known := l.texts[k]
	if known && h.standing(began, ended, func(w *write[string]) { values = append(values, w.value) }) && len(values) > 0 {
		return values
	}
	return append(values, base)
}

// everyText are the values that a key ever had.
func (l *Ledger) everyText(k textKey) []string {
	values := []string{l.base(k)}
	if h, known := l.texts[k]; known {
		h.all(func(w *write[string]) { values = append(values, w.value) })
	}
	return values
}

// missingText is when the earliest write ended that is missing where a value was
// found; nil if none is, or if what was there before the run is missing, too.
func (l *Ledger) missingText(k textKey, found string, began instant) *int64 {
	h, known := l.texts[k]
	if !known || !slices.Contains(l.everyText(k), found) {
		return nil
	}
	at, ok := h.missing(began, func(v string) bool { return v == found })
	if !ok {
		return nil
	}
	return new(at.us())
}

// judgeText says what a value means that was read.
func (l *Ledger) judgeText(k textKey, found string, began, ended instant) (v results.LedgerVerdict, missing *int64, wanted string) {
	h, known := l.texts[k]
	if !known || !h.promised() {
		return results.Verified, nil, ""
	}
	standing := l.standingTexts(k, began, ended, l.base(k))
	if slices.Contains(standing, found) {
		return results.Verified, nil, ""
	}
	missing, wanted = l.missingText(k, found, began), standing[len(standing)-1]
	switch {
	case found == "":
		return results.Lost, missing, wanted
	case !slices.ContainsFunc(standing, func(s string) bool { return s != "" }):
		return results.Resurrected, missing, wanted
	case slices.Contains(l.everyText(k), found):
		return results.Stale, missing, wanted
	default:
		return results.Lost, missing, wanted
	}
}
