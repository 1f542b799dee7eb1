package external

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
)

// The guard table. An administrator makes it and writes into it by which names its
// cluster may be broken; mailbench only reads it. Its engine is NDB, so that the
// cluster says so and not one SQL node.
const (
	GuardDatabase = "mailbench_guard"
	GuardTable    = "clusters"
)

// maxGuards bounds how many names are read.
const maxGuards = 1000

// UnconfirmedError says that nobody has named the cluster for what is asked.
type UnconfirmedError struct{ Msg string }

func (e *UnconfirmedError) Error() string { return e.Msg }

// RefusedError says that the cluster is not the one that was described, is not
// whole, or has not been released by its administrator. Nothing was done to it.
type RefusedError struct {
	Name string
	Err  error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("external cluster %s is left alone: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

func (c *Cluster) refuse(err error) error {
	if err == nil {
		return nil
	}
	return &RefusedError{c.spec.Name, err}
}

// confirmed says whether a person has named this very cluster.
func (c *Cluster) confirmed() error {
	name := c.spec.Name
	switch c.spec.Confirmed {
	case name:
		return nil
	case "":
		return &UnconfirmedError{fmt.Sprintf("this changes the external cluster %s: if you know it, say so with: --i-know-this-cluster %[1]s", name)}
	default:
		return &UnconfirmedError{fmt.Sprintf("--i-know-this-cluster names %q, but the scenario's cluster is %s: nothing is done", c.spec.Confirmed, name)}
	}
}

// guardAnswer is what one SQL node says of the guard table.
type guardAnswer struct {
	node   string
	engine string // of the table, "" if there is none that the account may see
	names  []string
	err    error
}

// judgeGuard says why the guard does not let anybody in by that name, nil if it
// does. Every SQL node must say so; where not all need answer, those that do.
func judgeGuard(name, account string, answers []guardAnswer, all bool) error {
	table := GuardDatabase + "." + GuardTable
	var failures []error
	answered := 0
	for _, a := range answers {
		if a.err != nil {
			if all {
				failures = append(failures, fmt.Errorf("its guard table %s cannot be read through %s: %w", table, a.node, a.err))
			}
			continue
		}
		answered++
		switch {
		case a.engine == "":
			failures = append(failures, fmt.Errorf("%s shows %s no guard table %s: an administrator makes it, and grants SELECT on it, as docs/external.md says", a.node, account, table))
		case !strings.EqualFold(a.engine, "ndbcluster"):
			failures = append(failures, fmt.Errorf("the guard table %s on %s has the engine %s: it must be NDB, so that the whole cluster says so", table, a.node, a.engine))
		case !slices.Contains(a.names, name):
			failures = append(failures, fmt.Errorf("the guard table %s, read through %s, does not hold %s: its administrator has not released it by that name", table, a.node, name))
		}
	}
	if answered == 0 && len(failures) == 0 {
		for _, a := range answers {
			failures = append(failures, fmt.Errorf("%s: %w", a.node, a.err))
		}
		return fmt.Errorf("no SQL node tells what its guard table holds: %w", errors.Join(failures...))
	}
	return errors.Join(failures...)
}

const (
	lookTimeout = 10 * time.Second // for one SQL node to say what is asked
	makeTimeout = time.Minute      // for it to make and mark a database
	dropTimeout = time.Minute      // for it to drop one
)

// askGuard reads the guard table through every SQL node.
func (c *Cluster) askGuard(ctx context.Context, all bool) error {
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	var answers []guardAnswer
	for _, a := range admins {
		answers = append(answers, readGuard(ctx, a))
	}
	return c.refuse(judgeGuard(c.spec.Name, c.spec.Account.User, answers, all))
}

// Guard looks whether the guard lets anybody in by the cluster's name.
func (c *Cluster) Guard(ctx context.Context) error { return c.askGuard(ctx, true) }

func readGuard(ctx context.Context, node schema.Admin) guardAnswer {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	a := guardAnswer{node: node.Name}
	a.err = node.DB.QueryRowContext(ctx, "SELECT engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
		GuardDatabase, GuardTable).Scan(&a.engine)
	if errors.Is(a.err, sql.ErrNoRows) {
		a.err = nil
		return a
	}
	if a.err != nil {
		return a
	}
	// Compared here, byte by byte: the column's collation may take another name for
	// the same.
	rows, err := node.DB.QueryContext(ctx, fmt.Sprintf("SELECT name FROM %s.%s LIMIT %d", GuardDatabase, GuardTable, maxGuards))
	if err != nil {
		a.err = err
		return a
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if a.err = rows.Scan(&name); a.err != nil {
			return a
		}
		a.names = append(a.names, name)
	}
	a.err = rows.Err()
	return a
}
