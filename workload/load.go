package workload

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
)

// batchRows is how many rows Load hands over at a time.
const batchRows = 500

// LoadProgress is how far the load of one table is.
type LoadProgress struct {
	// Table is "routes", "accounts", "preferences", "saved preferences", "changed
	// accounts", "triplets" or "clients", loaded in this order, or "recipients".
	Table       string
	Done, Total int64
	Unit        string // of both: "rows", and of "state before" "messages"
}

// Load stores a population in a target: its routes, its accounts, its
// preferences, and the triplets of its regular correspondents as they stand at now, in virtual time.
// It has workers batches of 500 rows under way at a time. progress, if not nil,
// is called after each batch, by one goroutine at a time.
//
// Load ends at the first error. What it has stored stays; loading again
// replaces it.
func Load(ctx context.Context, loader reference.Loader, p Population, now time.Time, workers int, progress func(LoadProgress)) error {
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	if err := LoadPopulation(ctx, loader, p, now, workers, progress); err != nil {
		return err
	}
	return loadTable(ctx, "triplets", int64(p.Accounts)*Correspondents, p.TripletRows(now), loader.LoadTriplets, workers, progress)
}

// LoadBefore stores what Load does, but greylist, preferences and accounts as the
// hours before a trace's window have left them. The target's greylisting must
// follow the policy that the state was computed with.
func LoadBefore(ctx context.Context, loader reference.Loader, b *Before, workers int, progress func(LoadProgress)) error {
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	if err := LoadPopulation(ctx, loader, b.trace.population, b.Start(), workers, progress); err != nil {
		return err
	}
	// After the others, as some of them replace one.
	saved := b.Preferences()
	if err := loadTable(ctx, "saved preferences", int64(len(saved)), slices.Values(saved), loader.LoadPreferences, workers, progress); err != nil {
		return err
	}
	changed := func(ctx context.Context, rows []accounts.Account) error {
		var routes []routing.Row
		for _, a := range rows {
			routes = append(routes, a.Rows()...)
		}
		if err := loader.LoadRoutes(ctx, routes); err != nil {
			return err
		}
		return loader.LoadAccounts(ctx, rows)
	}
	if err := loadTable(ctx, "changed accounts", int64(len(b.changed)), slices.Values(b.changed), changed, workers, progress); err != nil {
		return err
	}
	if err := loadTable(ctx, "triplets", int64(len(b.triplets)), b.Triplets(), loader.LoadTriplets, workers, progress); err != nil {
		return err
	}
	return loadTable(ctx, "clients", int64(len(b.clients)), b.Clients(), loader.LoadClients, workers, progress)
}

// LoadPopulation is Load without the triplets: nobody has written to anybody yet.
func LoadPopulation(ctx context.Context, loader reference.Loader, p Population, now time.Time, workers int, progress func(LoadProgress)) error {
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if workers < 1 {
		return fmt.Errorf("load: workers is %d, must be 1 or more", workers)
	}
	accounts := int64(p.Accounts)
	if err := loadTable(ctx, "routes", 1+accounts, p.Routes(), loader.LoadRoutes, workers, progress); err != nil {
		return err
	}
	if err := loadTable(ctx, "accounts", accounts, p.AccountRows(now), loader.LoadAccounts, workers, progress); err != nil {
		return err
	}
	return loadTable(ctx, "preferences", accounts*storedOptions, p.PreferenceRows(), loader.LoadPreferences, workers, progress)
}

type batch[Row any] struct {
	first int64
	rows  []Row
}

func loadTable[Row any](
	ctx context.Context, table string, total int64, rows iter.Seq[Row],
	store func(context.Context, []Row) error, workers int, progress func(LoadProgress),
) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var (
		batches = make(chan batch[Row])
		work    sync.WaitGroup
		mu      sync.Mutex
		done    int64
	)
	for range workers {
		work.Go(func() {
			for b := range batches {
				if err := store(ctx, b.rows); err != nil {
					fail(fmt.Errorf("rows %d to %d of %d: %w", b.first+1, b.first+int64(len(b.rows)), total, err))
					return
				}
				mu.Lock()
				done += int64(len(b.rows))
				progress(LoadProgress{Table: table, Done: done, Total: total, Unit: "rows"})
				mu.Unlock()
			}
		})
	}
	hand := func(b batch[Row]) bool {
		select {
		case batches <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	next := batch[Row]{}
	for row := range rows {
		next.rows = append(next.rows, row)
		if len(next.rows) == batchRows {
			if !hand(next) {
				break
			}
			next = batch[Row]{first: next.first + batchRows, rows: make([]Row, 0, batchRows)}
		}
	}
	if len(next.rows) > 0 && ctx.Err() == nil {
		hand(next)
	}
	close(batches)
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	return nil
}
