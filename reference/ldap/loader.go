package ldap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// ErrFilled says that a directory has been filled before. It is filled as a
// whole, by slapadd while slapd is down: a second load would undo what has been
// written since.
var ErrFilled = errors.New("the directory has been filled before: start another one")

// Loader implements [reference.Target]. Rows are kept in memory until close,
// which makes entries of them, has each provider restart with these alone, and
// waits until all are redundant again. An account is one entry, with its
// addresses and preferences: it must not contradict the routes of its addresses,
// and preferences of nobody are refused with ErrNoUser. A directory can be filled
// once; the error wraps ErrFilled.
func (t *Target) Loader(ctx context.Context) (reference.Loader, func() error, error) {
	select {
	case <-t.load:
	default:
		return nil, nil, ErrFilled
	}
	l := &loader{rows: newStored()}
	return l, func() error { return t.fill(ctx, l) }, nil
}

// fillTimeout is for all providers: 70,000 accounts were seen to take 20 to 60 s.
const fillTimeout = 10 * time.Minute

// fill has every provider start anew from the same file.
func (t *Target) fill(ctx context.Context, l *loader) error {
	if l.failed {
		return nil // who loads knows
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fillTimeout, fmt.Errorf("it took longer than %v", fillTimeout))
	defer cancel()
	began := time.Now()
	entries, err := l.rows.entries()
	if err != nil {
		return err
	}
	all := append(baseEntries(t.spec.Topology), entries...)
	content := ldif(all, stamp{time.Now(), 1})
	t.spec.Announce(fmt.Sprintf("directory: %d entries, %d MB of LDIF", len(all), len(content)/1_000_000))
	var group errgroup.Group
	for _, n := range t.spec.Topology.Nodes {
		group.Go(func() error {
			// Put while the old database serves: only a start looks at the file.
			if err := t.Put(ctx, n.ID, loadFile, content); err != nil {
				return err
			}
			return t.RestartNode(ctx, n.ID)
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fill the directory: %w", err)
	}
	if err := t.AwaitReady(ctx, t.awaitWhole); err != nil {
		return fmt.Errorf("fill the directory: %w", err)
	}
	t.spec.Announce(fmt.Sprintf("directory: filled after %.1f s", time.Since(began).Seconds()))
	return nil
}

// loader collects rows.
type loader struct {
	mu     sync.Mutex
	rows   *stored
	failed bool
}

// collect keeps rows that are valid.
func collect[Row any](l *loader, rows []Row, validate func(Row) error, keep func(Row)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		if err := validate(r); err != nil {
			l.failed = true
			return err
		}
		keep(r)
	}
	return nil
}

func (l *loader) LoadRoutes(_ context.Context, rows []routing.Row) error {
	return collect(l, rows, routing.Row.Validate, func(r routing.Row) { l.rows.routes[r.Address] = r })
}

func (l *loader) LoadAccounts(_ context.Context, rows []accounts.Account) error {
	return collect(l, rows, accounts.Account.Validate, func(a accounts.Account) { l.rows.accounts[a.Login] = a })
}

func (l *loader) LoadPreferences(_ context.Context, rows []preferences.Row) error {
	return collect(l, rows, preferences.Row.Validate, l.rows.addPreference)
}

// LoadTriplets drops what it is given: see ErrNoGreylist.
func (l *loader) LoadTriplets(context.Context, []greylist.Row) error { return nil }

// LoadClients drops what it is given: see ErrNoGreylist.
func (l *loader) LoadClients(context.Context, []greylist.ClientRow) error { return nil }
