package greylist

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Querier is what SQL needs of a *sql.Conn or a *sql.DB.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// SQL asks the procedure greylist_check (reference/schema/greylist.sql), which
// follows DefaultPolicy.
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
	rows, err := s.DB.QueryContext(ctx, "CALL greylist_check(?, ?, ?, ?)",
		[]byte(r.Client.String()), []byte(r.Sender), []byte(r.Recipient), r.Now.Unix())
	if err != nil {
		return Answer{}, err
	}
	defer rows.Close()
	// The reply is read to its end: an error after the row shows only there.
	var answers []Answer
	for {
		for rows.Next() {
			a, err := scan(rows)
			if err != nil {
				return Answer{}, err
			}
			answers = append(answers, a)
		}
		if !rows.NextResultSet() {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return Answer{}, err
	}
	if len(answers) != 1 {
		return Answer{}, fmt.Errorf("greylist_check returned %d rows instead of one; verify the procedure on this SQL node", len(answers))
	}
	return answers[0], nil
}

func scan(rows *sql.Rows) (Answer, error) {
	var (
		verdict string
		wait    int64
	)
	if err := rows.Scan(&verdict, &wait); err != nil {
		return Answer{}, err
	}
	for _, v := range [...]Verdict{New, Early, Pass} {
		if verdict == v.String() {
			return Answer{Verdict: v, Wait: time.Duration(wait) * time.Second}, nil
		}
	}
	return Answer{}, errors.New("greylist_check returned the unknown verdict " + verdict)
}
