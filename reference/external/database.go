package external

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/schema"
)

// markTable says that a database is of mailbench's making. It is made right after
// the database; without it mailbench touches nothing in there.
const markTable = "mailbench_mark"

// Mark says whose a database is, for heal: the label of what has none.
type Mark struct {
	RunID   string
	Machine string // that ran the harness
	Journal string // path of the fault journal there
}

const (
	errDatabaseExists = 1007
	errUnknownBase    = 1049
	errNoSuchTable    = 1146
)

func hasNumber(err error, numbers ...uint16) bool {
	var server *mysql.MySQLError
	if !errors.As(err, &server) {
		return false
	}
	for _, n := range numbers {
		if server.Number == n {
			return true
		}
	}
	return false
}

// makeDatabase makes the database, which must not be there. That a database of one
// name is made once in a cluster keeps two harnesses apart.
func (c *Cluster) makeDatabase(ctx context.Context) error {
	if err := c.mayAct(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Cut off half-way it would leave nobody knowing whose it is.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
	defer cancel()
	name := c.spec.Account.Database
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	first := admins[0]
	if _, err := first.DB.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		if hasNumber(err, errDatabaseExists) {
			return c.refuse(c.whose(ctx, first))
		}
		return fmt.Errorf("create database %s on %s: %w; if it is there now, empty, drop it", name, first.Name, err)
	}
	c.made = true
	table := name + "." + markTable
	_, err := first.DB.ExecContext(ctx, "CREATE TABLE "+table+
		" (run_id VARBINARY(80) NOT NULL PRIMARY KEY, machine VARBINARY(255) NOT NULL, journal VARBINARY(4096) NOT NULL) ENGINE=NDBCLUSTER")
	if err == nil {
		m := c.spec.Mark
		_, err = first.DB.ExecContext(ctx, "INSERT INTO "+table+" (run_id, machine, journal) VALUES (?, ?, ?)", []byte(m.RunID), []byte(m.Machine), []byte(m.Journal))
	}
	if err != nil {
		return fmt.Errorf("mark database %s on %s as mailbench's: %w", name, first.Name, err)
	}
	c.marked = true
	return nil
}

// whose says whose the database is that is there already.
func (c *Cluster) whose(ctx context.Context, node schema.Admin) error {
	name := c.spec.Account.Database
	mark, ok, err := c.readMark(ctx, node)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("it holds a database %s that is not of mailbench's making: it will not be touched; name another with external.database", name)
	default:
		return fmt.Errorf("its database %s is of run %s of mailbench on machine %s, which is at work, was kept or did not end: remove it with: mailbench heal --scenario FILE --i-know-this-cluster %s",
			name, mark.RunID, mark.Machine, c.spec.Name)
	}
}

// FindMark reads whose the database is, through the first SQL node that tells.
// Found is false where the database is not there.
func (c *Cluster) FindMark(ctx context.Context) (mark Mark, found bool, err error) {
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	var failures []error
	for _, a := range admins {
		mark, found, err := c.readMark(ctx, a)
		if err == nil {
			return mark, found, nil
		}
		failures = append(failures, err)
	}
	return Mark{}, false, errors.Join(failures...)
}

func (c *Cluster) readMark(ctx context.Context, node schema.Admin) (Mark, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var m Mark
	err := node.DB.QueryRowContext(ctx, "SELECT run_id, machine, journal FROM "+c.spec.Account.Database+"."+markTable+" LIMIT 1").
		Scan(&m.RunID, &m.Machine, &m.Journal)
	switch {
	case err == nil:
		return m, true, nil
	case errors.Is(err, sql.ErrNoRows), hasNumber(err, errUnknownBase, errNoSuchTable):
		return m, false, nil
	default:
		return m, false, fmt.Errorf("read through %s whose database %s is: %w", node.Name, c.spec.Account.Database, err)
	}
}

// DropDatabase drops the database, if it is marked as that run's. Routines are each
// SQL node's own: it is dropped on all of them that answer.
func (c *Cluster) DropDatabase(ctx context.Context, runID string) error {
	if err := c.mayAct(); err != nil {
		return err
	}
	name := c.spec.Account.Database
	mark, found, err := c.FindMark(ctx)
	switch {
	case err != nil:
		return err
	case !found:
		return nil
	case mark.RunID != runID:
		return c.refuse(fmt.Errorf("its database %s is of run %s, not of %s: it is not dropped", name, mark.RunID, runID))
	}
	return c.dropAll(ctx)
}

// dropAll drops the database, and tries again while that may help.
func (c *Cluster) dropAll(ctx context.Context) error {
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	for {
		again, err := drop(ctx, admins, c.spec.Account.Database)
		if err == nil || !again {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(time.Second):
		}
	}
}

// drop drops a database through every SQL node. One that is down drops it when it
// is back: the cluster has told of it. Again says that trying again may help, as
// while a data node starts.
func drop(ctx context.Context, admins []schema.Admin, name string) (again bool, err error) {
	var failures []error
	for _, a := range admins {
		bounded, cancel := context.WithTimeout(ctx, dropTimeout)
		_, err := a.DB.ExecContext(bounded, "DROP DATABASE IF EXISTS "+name)
		cancel()
		if err != nil {
			again = again || ndberr.Classify(err).Retryable
			failures = append(failures, fmt.Errorf("drop database %s on %s: %w", name, a.Name, err))
		}
	}
	if len(failures) < len(admins) {
		return false, nil
	}
	return again, errors.Join(failures...)
}
