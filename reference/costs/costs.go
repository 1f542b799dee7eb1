// Package costs counts what each decision of each path costs the database: round
// trips to the data nodes, scans, rows, statements, bytes. It makes every
// decision itself, one at a time over one connection, on rows of its own, so that
// the counters hold nothing else. They tell of one more round trip at once, where
// a clock would have to be asked for hours.
package costs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
)

// Repetitions is how often each decision is measured, each time with other rows
// of the same lengths. It is made once before, which is not counted: a table's
// first use reads the dictionary.
const Repetitions = 3

// Cost is what one decision costs.
type Cost struct {
	Path        reference.Path
	Decision    string
	Repetitions int
	Exact       map[string]int64 // by the counter's name: the same at each repetition
	Noisy       map[string]int64 // the largest of the repetitions
}

// cleanTimeout bounds taking the probe's rows away again, after an interrupt too.
const cleanTimeout = 10 * time.Second

// Probe makes every decision that can be reached with the schema as o has
// installed it, through one SQL node, and returns what each costs, in a fixed
// order. It fails if a decision is not the one that it should be, or if an exact
// counter is not the same each time.
//
// Its rows are of addresses in costs.probe.invalid and of clients in 192.0.2.0/24
// (RFC 2606, RFC 5737), which no mail has. It removes them before and after; two
// probes of one database must not run at the same time.
func Probe(ctx context.Context, node schema.Admin, o schema.Options) (found []Cost, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("count what decisions cost through %s: %w", node.Name, err)
		}
	}()
	// One connection is measured; the other one prepares and checks.
	var conns [2]*sql.Conn
	for i := range conns {
		if conns[i], err = node.DB.Conn(ctx); err != nil {
			return nil, err
		}
		defer conns[i].Close()
		if _, err = conns[i].ExecContext(ctx, "USE "+o.Database); err != nil {
			return nil, err
		}
	}
	made, used := all(o)
	rest, restore := conns[1], func() error { return used.remove(ctx, conns[1]) }
	if err := restore(); err != nil { // what a probe left that was killed
		return nil, err
	}
	defer func() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		err = errors.Join(err, used.remove(cleaning, rest))
	}()
	loader, err := schema.NewLoader([]schema.Admin{node}, o)
	if err != nil {
		return nil, err
	}
	if err := load(ctx, loader, made); err != nil {
		return nil, err
	}
	return measure(ctx, conns[0], rest, made)
}

// measure makes all decisions of all repetitions; the first is not counted.
func measure(ctx context.Context, measured, rest *sql.Conn, made [][]decision) ([]Cost, error) {
	m, err := newMeter(ctx, measured)
	if err != nil {
		return nil, err
	}
	asked, other := newPaths(measured), newPaths(rest)
	spent := make([][]counts, len(made[0]))
	for repetition, decisions := range made {
		for i, d := range decisions {
			cost, err := one(ctx, m, d, asked, other)
			if err != nil {
				return nil, fmt.Errorf("%s/%s: %w", d.path, d.name, err)
			}
			if repetition > 0 {
				spent[i] = append(spent[i], cost)
			}
		}
	}
	var (
		found    []Cost
		unsteady []error
	)
	for i, d := range made[0] {
		cost, err := summed(d, spent[i])
		found, unsteady = append(found, cost), append(unsteady, err)
	}
	if err := errors.Join(unsteady...); err != nil {
		return nil, err
	}
	return found, nil
}

// one makes one decision and returns what it cost.
func one(ctx context.Context, m *meter, d decision, asked, other paths) (counts, error) {
	if d.prepare != nil {
		if err := d.prepare(ctx, other); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	if err := d.ask(ctx, asked); err != nil {
		return nil, err
	}
	cost, err := m.since(ctx)
	if err == nil && d.check != nil {
		err = d.check(ctx, other)
	}
	return cost, err
}

// summed makes one of what the repetitions of a decision cost.
func summed(d decision, spent []counts) (Cost, error) {
	c := Cost{Path: d.path, Decision: d.name, Repetitions: len(spent), Exact: map[string]int64{}, Noisy: map[string]int64{}}
	for _, counter := range Counters() {
		var values []int64
		for _, s := range spent {
			values = append(values, s[counter.Name])
		}
		slices.Sort(values)
		switch {
		case !counter.Exact:
			c.Noisy[counter.Name] = values[len(values)-1]
		case values[0] != values[len(values)-1]:
			return Cost{}, fmt.Errorf("%s/%s costs from %d to %d %s, and should cost the same each time: is the cluster at rest?",
				d.path, d.name, values[0], values[len(values)-1], counter.Name)
		default:
			c.Exact[counter.Name] = values[0]
		}
	}
	return c, nil
}

// paths ask over one connection, as a client of the mail system does.
type paths struct {
	routing.Router
	greylist.Checker
	preferences.Store
	accounts.Manager
}

func newPaths(conn *sql.Conn) paths {
	return paths{routing.SQL{DB: conn}, greylist.SQL{DB: conn}, preferences.SQL{DB: conn}, accounts.NewSQL(conn)}
}

// load stores what the decisions of all repetitions find.
func load(ctx context.Context, l reference.Loader, made [][]decision) error {
	var s stored
	for _, decisions := range made {
		for _, d := range decisions {
			s.add(d.stored)
		}
	}
	for _, a := range s.accounts {
		s.routes = append(s.routes, a.Rows()...)
	}
	return errors.Join(
		l.LoadRoutes(ctx, s.routes), l.LoadAccounts(ctx, s.accounts), l.LoadPreferences(ctx, s.preferences),
		l.LoadTriplets(ctx, s.triplets), l.LoadClients(ctx, s.clients),
	)
}

// stored are rows that a decision finds.
type stored struct {
	routes      []routing.Row
	accounts    []accounts.Account // with their rows in route
	preferences []preferences.Row
	triplets    []greylist.Row
	clients     []greylist.ClientRow
}

func (s *stored) add(more stored) {
	s.routes = append(s.routes, more.routes...)
	s.accounts = append(s.accounts, more.accounts...)
	s.preferences = append(s.preferences, more.preferences...)
	s.triplets = append(s.triplets, more.triplets...)
	s.clients = append(s.clients, more.clients...)
}

// keys are those of all rows that may come to be.
type keys struct {
	addresses, changes, greylist [][]byte
}

// remove deletes all rows of the keys.
func (k *keys) remove(ctx context.Context, conn *sql.Conn) error {
	for _, table := range []struct {
		name, column string
		keys         [][]byte
	}{
		{"route", "address", k.addresses},
		{"account", "login", k.addresses},
		{"account_address", "login", k.addresses},
		{"userprefs", "user", k.addresses},
		{"account_change", "change_id", k.changes},
		{"greylist", "k", k.greylist},
	} {
		for chunk := range slices.Chunk(table.keys, 200) {
			args := make([]any, len(chunk))
			for i := range chunk {
				args[i] = chunk[i]
			}
			statement := "DELETE FROM " + table.name + " WHERE " + table.column + " IN (?" + strings.Repeat(", ?", len(args)-1) + ")"
			if _, err := conn.ExecContext(ctx, statement, args...); err != nil {
				return fmt.Errorf("remove the probe's rows from %s: %w", table.name, err)
			}
		}
	}
	return nil
}
