package workload

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// fakeLoader keeps rows, and fails the batch that holds a row.
type fakeLoader struct {
	fail func(table string, rows int) error

	mu          sync.Mutex
	routes      []routing.Row
	accounts    []accounts.Account
	preferences []preferences.Row
	triplets    []greylist.Row
	clients     []greylist.ClientRow
	largest     int
}

func keep[Row any](l *fakeLoader, table string, into *[]Row, rows []Row) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		if err := l.fail(table, len(*into)); err != nil {
			return err
		}
	}
	*into = append(*into, rows...)
	l.largest = max(l.largest, len(rows))
	return nil
}

func (l *fakeLoader) LoadRoutes(_ context.Context, rows []routing.Row) error {
	return keep(l, "routes", &l.routes, rows)
}

func (l *fakeLoader) LoadAccounts(_ context.Context, rows []accounts.Account) error {
	return keep(l, "accounts", &l.accounts, rows)
}

func (l *fakeLoader) LoadPreferences(_ context.Context, rows []preferences.Row) error {
	return keep(l, "preferences", &l.preferences, rows)
}

func (l *fakeLoader) LoadTriplets(_ context.Context, rows []greylist.Row) error {
	return keep(l, "triplets", &l.triplets, rows)
}

func (l *fakeLoader) LoadClients(_ context.Context, rows []greylist.ClientRow) error {
	return keep(l, "clients", &l.clients, rows)
}

func TestLoadStoresEveryRowOnce(t *testing.T) {
	p := Population{Seed: 1, Accounts: 1234, Domain: DefaultDomain, Backends: BackendNames(3)}
	now := time.Date(2008, 4, 15, 11, 0, 0, 0, time.UTC)
	loader, last := &fakeLoader{}, map[string]LoadProgress{}
	err := Load(t.Context(), loader, p, now, 3, func(l LoadProgress) {
		if l.Done <= last[l.Table].Done {
			t.Errorf("progress went from %+v to %+v", last[l.Table], l)
		}
		last[l.Table] = l
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]LoadProgress{
		"routes": {"routes", 1235, 1235, "rows"}, "accounts": {"accounts", 1234, 1234, "rows"},
		"preferences": {"preferences", 7404, 7404, "rows"}, "triplets": {"triplets", 4936, 4936, "rows"},
	}
	if !reflect.DeepEqual(last, want) {
		t.Errorf("progress ended at %v, want %v", last, want)
	}
	if loader.largest != 500 {
		t.Errorf("the largest batch had %d rows, want 500", loader.largest)
	}
	same(t, "routes", loader.routes, slices.Collect(p.Routes()), func(r routing.Row) string { return r.Address })
	same(t, "accounts", loader.accounts, slices.Collect(p.AccountRows(now)), func(a accounts.Account) string { return a.Login })
	same(t, "preferences", loader.preferences, slices.Collect(p.PreferenceRows()), func(r preferences.Row) string { return r.User + " " + r.Key })
	same(t, "triplets", loader.triplets, slices.Collect(p.TripletRows(now)), func(r greylist.Row) string { return r.Recipient + " " + r.Client.String() + r.Sender })
}

func same[Row any](t *testing.T, table string, got, want []Row, key func(Row) string) {
	t.Helper()
	order := func(a, b Row) int { return strings.Compare(key(a), key(b)) }
	slices.SortStableFunc(got, order)
	slices.SortStableFunc(want, order)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the %s stored are not the population's", table)
	}
}

func TestLoadFails(t *testing.T) {
	full := errors.New("the table is full")
	p := Population{Seed: 1, Accounts: 5000, Domain: DefaultDomain, Backends: BackendNames(3)}
	loader := &fakeLoader{fail: func(table string, rows int) error {
		if table == "preferences" && rows >= 2000 {
			return full
		}
		return nil
	}}
	err := Load(t.Context(), loader, p, time.Now(), 2, nil)
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "load preferences: rows ") {
		t.Errorf("error %v does not say which rows of which table, and why", err)
	}
	if len(loader.triplets) > 0 {
		t.Error("it went on after an error")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Load(ctx, &fakeLoader{}, p, time.Now(), 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a cancelled load", err)
	}
	if err := Load(t.Context(), &fakeLoader{}, p, time.Now(), 0, nil); err == nil || !strings.Contains(err.Error(), "workers") {
		t.Errorf("error %v does not name workers", err)
	}
	p.Accounts = 0
	if err := Load(t.Context(), &fakeLoader{}, p, time.Now(), 1, nil); err == nil || !strings.Contains(err.Error(), "Accounts") {
		t.Errorf("error %v does not name Accounts", err)
	}
}
