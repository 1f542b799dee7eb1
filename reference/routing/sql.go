package routing

import (
	"context"
	"database/sql"
	"fmt"
)

// Querier is what SQL needs of a *sql.Conn or a *sql.DB.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// SQL reads the table route (reference/schema/routing.sql).
type SQL struct {
	DB Querier
}

var _ Router = SQL{}

// Route implements Router: one read by primary key, and a second one of the
// domain's row for an address without a row. It lower-cases ASCII letters, as
// Exim's ${lc:} does before the same statement. An address that cannot be one is
// refused with an error that wraps [fs.ErrInvalid].
func (s SQL) Route(ctx context.Context, address string) (Answer, error) {
	if err := validAddress(address); err != nil {
		return Answer{}, fmt.Errorf("route: %w", err)
	}
	answer, err := s.route(ctx, lower(address))
	if err != nil {
		return Answer{}, fmt.Errorf("route of %q: %w", address, err)
	}
	return answer, nil
}

func (s SQL) route(ctx context.Context, address []byte) (Answer, error) {
	var row Row
	found, err := s.read(ctx, address, &row)
	switch {
	case err != nil:
		return Answer{}, err
	case found:
		return Decide("", &row, nil), nil // nothing of the address is needed
	}
	text := string(address)
	domain := DomainOf(text)
	found, err = s.read(ctx, address[len(address)-len(domain):], &row)
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("domain %s: %w", domain, err)
	case found:
		return Decide(text, nil, &row), nil
	}
	return Decide(text, nil, nil), nil
}

// statement is what routing.sql says that an MTA asks.
const statement = "SELECT kind, state, backend, targets, keep_copy, greylist, spam_threshold FROM route WHERE address = ?"

// read reads one row, but for its address. It sends bytes, not a string: the
// driver then marks the value _binary, so that no character set changes or
// refuses it on its way.
func (s SQL) read(ctx context.Context, address []byte, row *Row) (found bool, err error) {
	rows, err := s.DB.QueryContext(ctx, statement, address)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if rows.Next() {
		found = true
		if err := scan(rows, row); err != nil {
			return false, err
		}
	}
	// Err also after a row: the end of the reply has not been read yet.
	for rows.Next() {
	}
	return found, rows.Err()
}

// scan copies of a reply only what an answer holds: this is the mail system's
// most frequent question.
func scan(rows *sql.Rows, row *Row) error {
	var (
		kind, state, targets sql.RawBytes
		greylist             bool
	)
	err := rows.Scan(&kind, &state, &row.Backend, &targets, &row.KeepCopy, &greylist, &row.SpamThreshold)
	if err != nil {
		return err
	}
	var known [2]bool
	row.Kind, known[0] = ParseKind(string(kind))
	row.State, known[1] = ParseState(string(state))
	if known != [2]bool{true, true} {
		return fmt.Errorf("the row has kind %q and state %q, which this program does not know", kind, state)
	}
	row.Targets, row.NoGreylist = SplitTargets(string(targets)), !greylist
	return nil
}
