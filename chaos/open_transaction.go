package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// OpenTransaction locks rows of a table through a SQL node and does not commit:
// a script that somebody left at lunch.
//
// Reads without a lock go on, as NDB reads what was committed last. Whoever
// writes one of the rows, or reads it to write it, waits for
// TransactionDeadlockDetectionTimeout, 1.2 s, and gets MySQL 1205. The data nodes
// end a transaction that does nothing for TransactionInactiveTimeout, if that is
// set, so that a longer hold has no effect.
//
// The transaction is the harness's own. A crash of it ends it, so that there is
// nothing to heal.
//
// Effect: another transaction that wants the rows gets MySQL 1205, or the clients
// feel it.
const OpenTransaction Kind = "open-transaction"

// tableName is DATABASE.TABLE.
var tableName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}\.[A-Za-z0-9_]{1,64}$`)

func describeOpenTransaction() Description {
	return Description{
		Kind:    OpenTransaction,
		Summary: "rows locked by a transaction that is left open",
		Source:  "MySQL manual, TransactionDeadlockDetectionTimeout, TransactionInactiveTimeout",
		Roles:   onSQL(),
		Single:  true,
		Settings: []Setting{
			number("rows", "the most that are locked", "rows", 1, 100_000, 1000, func(s *Settings) *int { return &s.Rows }),
			{
				Name: "table", Doc: "whose rows are locked", Range: "DATABASE.TABLE of letters, digits and _", Default: "mail.greylist",
				isSet:   func(s Settings) bool { return s.Table != "" },
				wrong:   func(s Settings) bool { return !tableName.MatchString(s.Table) },
				resolve: func(s *Settings) { s.Table = "mail.greylist" },
			},
		},
		Needs: []Capability{Admin},
		Felt:  true,
		Expect: func(_ topology.Topology, p Planned) string {
			return fmt.Sprintf("whoever writes one of the %d rows of %s waits 1.2 s and gets MySQL 1205; plain reads go on; ended by TransactionInactiveTimeout where that is set",
				p.Settings.Rows, p.Settings.Table)
		},
		build: func(s site) Fault { return &openTransaction{site: s} },
	}
}

// openTransaction holds what only the process that made it can have.
type openTransaction struct {
	site

	mu   sync.Mutex
	db   *sql.DB
	conn *sql.Conn // with the transaction
}

func (f *openTransaction) Inject(ctx context.Context) error {
	if !tableName.MatchString(f.p.Settings.Table) {
		return fmt.Errorf("%q is no DATABASE.TABLE", f.p.Settings.Table)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.db, err = f.openAdmin(f.p.Nodes[0]); err != nil {
		return err
	}
	f.db.SetMaxIdleConns(-1) // a connection that is let go is closed, and its transaction with it
	if f.conn, err = f.db.Conn(ctx); err != nil {
		return fmt.Errorf("connect to %s: %w", f.p.Names(), err)
	}
	n, err := f.lock(ctx, f.conn)
	if err != nil {
		return fmt.Errorf("lock rows of %s through %s: %w", f.p.Settings.Table, f.p.Names(), err)
	}
	if n == 0 {
		return fmt.Errorf("%s has no row to lock: name a table that has", f.p.Settings.Table)
	}
	return nil
}

// lock begins a transaction, reads rows with locks, and counts them. It is no
// sql.Tx, which would end with the context of the act that began it.
func (f *openTransaction) lock(ctx context.Context, conn *sql.Conn) (int, error) {
	if _, err := conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return 0, err
	}
	rows, err := conn.QueryContext(ctx, fmt.Sprintf("SELECT 1 FROM %s LIMIT %d FOR UPDATE", f.p.Settings.Table, f.p.Settings.Rows))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// AwaitEffect wants the same rows, until it does not get them.
func (f *openTransaction) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	f.mu.Lock()
	db := f.db
	f.mu.Unlock()
	if db == nil {
		return reference.Evidence{}, errors.New("no transaction is open")
	}
	for {
		err := f.tryLock(ctx, db)
		if ndberr.Classify(err).Class == ndberr.LockTimeout {
			return reference.Evidence{At: time.Now(), Source: "SQL error", Detail: "another transaction waited for a row of " + f.p.Settings.Table + " in vain"}, nil
		}
		if ended := sleepUntil(ctx, time.Now().Add(adminPoll)); ended != nil {
			return reference.Evidence{}, errors.Join(fmt.Errorf("no lock was seen to stand: %w", ended), err)
		}
	}
}

func (f *openTransaction) tryLock(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = f.lock(ctx, conn)
	return err
}

func (f *openTransaction) Recover(ctx context.Context) error { return f.Undo(ctx) }

// Undo closes the connection, which ends the transaction whatever its state.
func (f *openTransaction) Undo(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var failures []error
	if f.conn != nil {
		failures = append(failures, f.conn.Close())
	}
	if f.db != nil {
		failures = append(failures, f.db.Close())
	}
	f.conn, f.db = nil, nil
	return errors.Join(failures...)
}

func (f *openTransaction) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.all(ctx, f.p.Nodes, f.awaitAnswer)
}
