package schematest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// Set is one result set of a Fake.
type Set struct {
	Rows [][]driver.Value
	Err  error // follows the rows, nil for the end of the set
}

// Fake is a database that answers every query with the same result sets, to
// show what a caller makes of replies that a real one seldom gives.
type Fake struct {
	Sets    []Set
	Queries int // how many it was asked
}

// DB returns a handle on f.
func (f *Fake) DB() *sql.DB { return sql.OpenDB(fakeConnector{f}) }

type fakeConnector struct{ f *Fake }

func (c fakeConnector) Connect(context.Context) (driver.Conn, error) { return fakeConn(c), nil }
func (c fakeConnector) Driver() driver.Driver                        { return nil }

type fakeConn struct{ f *Fake }

func (fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("fake: no prepare") }
func (fakeConn) Begin() (driver.Tx, error)           { return nil, errors.New("fake: no begin") }
func (fakeConn) Close() error                        { return nil }

func (c fakeConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	c.f.Queries++
	return &fakeRows{sets: c.f.Sets}, nil
}

type fakeRows struct {
	sets []Set
	row  int
}

func (r *fakeRows) Columns() []string {
	if len(r.sets[0].Rows) == 0 {
		return nil
	}
	return make([]string, len(r.sets[0].Rows[0]))
}

func (r *fakeRows) Next(dest []driver.Value) error {
	set := r.sets[0]
	if r.row < len(set.Rows) {
		copy(dest, set.Rows[r.row])
		r.row++
		return nil
	}
	if set.Err != nil {
		return set.Err
	}
	return io.EOF
}

func (r *fakeRows) HasNextResultSet() bool { return len(r.sets) > 1 }

func (r *fakeRows) NextResultSet() error {
	if len(r.sets) < 2 {
		return io.EOF
	}
	r.sets, r.row = r.sets[1:], 0
	if len(r.sets[0].Rows) == 0 && r.sets[0].Err != nil { // as the real driver reports it
		return r.sets[0].Err
	}
	return nil
}

func (*fakeRows) Close() error { return nil }
