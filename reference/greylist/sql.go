package greylist

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Querier is what SQL needs of a *sql.Conn or a *sql.DB.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// SQL asks the procedure greylist_check (reference/schema/greylist.sql), which
// follows the policy and the whitelist that it was installed with.
type SQL struct {
	DB Querier
}

var _ Checker = SQL{}

// Check implements Checker in one statement. A request that is not valid (see
// [Request.Validate]) is refused before it is sent. An error of the database is
// wrapped as it came; it may mean that the decision is stored all the same.
func (s SQL) Check(ctx context.Context, r Request) (Answer, error) {
	if err := r.Validate(); err != nil {
		return Answer{}, fmt.Errorf("greylist check: %w", err)
	}
	answer, err := s.call(ctx, r)
	if err != nil {
		return Answer{}, fmt.Errorf("greylist check of client %s, sender %q, recipient %q: %w", r.Client, r.Sender, r.Recipient, err)
	}
	return answer, nil
}

// call sends bytes, not strings: the driver then marks each value _binary, so
// that no character set changes or refuses it on its way.
func (s SQL) call(ctx context.Context, r Request) (Answer, error) {
	var (
		verdict       string
		wait, delayed int64
	)
	err := s.row(ctx, []any{&verdict, &wait, &delayed}, "CALL greylist_check(?, ?, ?, ?, ?)",
		[]byte(r.Client.String()), []byte(r.ClientName), []byte(r.Sender), []byte(r.Recipient), r.Now.Unix())
	if err != nil {
		return Answer{}, err
	}
	for v := New; v <= RecipientListed; v++ {
		if verdict == v.String() {
			return Answer{Verdict: v, Wait: time.Duration(wait) * time.Second, Delayed: time.Duration(delayed) * time.Second}, nil
		}
	}
	return Answer{}, errors.New("greylist_check returned the unknown verdict " + verdict)
}

// MaxRows bounds what Rows takes.
const MaxRows = 1000

// Rows reads what is stored under up to MaxRows keys, of triplets and of clients,
// in one statement; what is not stored is left out. It is for an administrator:
// an MTA has no right to the table.
func (s SQL) Rows(ctx context.Context, keys []Key) (map[Key]State, error) {
	if len(keys) == 0 || len(keys) > MaxRows {
		return nil, fmt.Errorf("read greylist rows: %d keys, 1 to %d are possible: %w", len(keys), MaxRows, fs.ErrInvalid)
	}
	args := make([]any, len(keys))
	for i := range keys {
		args[i] = keys[i][:]
	}
	rows, err := s.DB.QueryContext(ctx, "SELECT k, first_seen, last_seen, credits FROM greylist WHERE k IN (?"+strings.Repeat(", ?", len(keys)-1)+")", args...)
	if err != nil {
		return nil, fmt.Errorf("read %d greylist rows: %w", len(keys), err)
	}
	defer rows.Close()
	found := make(map[Key]State, len(keys))
	for rows.Next() {
		var (
			k []byte
			r = State{Seen: true}
		)
		if err := rows.Scan(&k, &r.First, &r.Last, &r.Credits); err != nil {
			return nil, fmt.Errorf("read greylist rows: %w", err)
		}
		if len(k) != len(Key{}) {
			return nil, fmt.Errorf("read greylist rows: a key of %d bytes", len(k))
		}
		found[Key(k)] = r
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read %d greylist rows: %w", len(keys), err)
	}
	return found, nil
}

// MaxExpireBatch bounds what Expire takes.
const MaxExpireBatch = 10_000

// Expire has the procedure greylist_expire forget what is too old at now, batch
// rows a transaction, and returns how many rows it forgot. After an error some
// may be forgotten; calling again goes on.
func (s SQL) Expire(ctx context.Context, now time.Time, batch int) (deleted int64, err error) {
	err = validTime("time", now)
	if err == nil && (batch < 1 || batch > MaxExpireBatch) {
		err = fmt.Errorf("a batch has %d rows, 1 to %d are possible: %w", batch, MaxExpireBatch, fs.ErrInvalid)
	}
	if err == nil {
		err = s.row(ctx, []any{&deleted}, "CALL greylist_expire(?, ?)", now.Unix(), batch)
	}
	if err != nil {
		return 0, fmt.Errorf("greylist expire: %w", err)
	}
	return deleted, nil
}

// row calls a procedure that returns one row in one result set. The reply is
// read to its end: an error after the row shows only there.
func (s SQL) row(ctx context.Context, columns []any, call string, args ...any) error {
	rows, err := s.DB.QueryContext(ctx, call, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	found := 0
	for {
		for rows.Next() {
			if err := rows.Scan(columns...); err != nil {
				return err
			}
			found++
		}
		if !rows.NextResultSet() {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if found != 1 {
		return fmt.Errorf("%s returned %d rows instead of one; verify the procedure on this SQL node", call, found)
	}
	return nil
}
