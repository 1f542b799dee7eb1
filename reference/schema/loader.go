package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// What one statement of a bulk load has at most. 500 rows bring about 66,000
// rows a second on two processors; more do not go faster, and hold more locks
// in the data nodes (MaxNoOfConcurrentOperations).
const (
	chunkRows  = 500
	chunkBytes = 1 << 20 // well below the server's max_allowed_packet, escaped too
)

// batchBytes is the session's ndb_batch_size for a bulk load: how much the SQL
// node gathers before it sends rows to the data nodes. A row counts at the full
// width of its table, so that the default of 32768 sends each row of userprefs
// by itself, which is six times slower; this takes a whole chunk.
const batchBytes = 16 << 20

// Loader fills the tables through several SQL nodes at once.
type Loader struct {
	nodes    []Admin
	database string
	greylist greylist.Policy
	next     atomic.Uint64 // the node that takes the next chunk, modulo their number
}

var _ reference.Loader = (*Loader)(nil)

// NewLoader returns a Loader for a schema that [Install] has put in place. It
// does not close the nodes' pools.
func NewLoader(nodes []Admin, o Options) (*Loader, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("bulk load: %w", err)
	}
	if len(nodes) == 0 {
		return nil, errors.New("bulk load: no SQL node is given")
	}
	policy := greylist.DefaultPolicy()
	if o.Greylist != nil {
		policy = *o.Greylist
	}
	return &Loader{nodes: nodes, database: o.Database, greylist: policy}, nil
}

// LoadRoutes implements [reference.Loader].
func (l *Loader) LoadRoutes(ctx context.Context, rows []routing.Row) error {
	const columns = "address, kind, state, backend, targets, keep_copy, greylist, spam_threshold"
	return load(ctx, l, "route", columns, rows, func(r routing.Row) []any {
		return []any{
			[]byte(r.Address), r.Kind.String(), r.State.String(), []byte(r.Backend), []byte(routing.JoinTargets(r.Targets)),
			r.KeepCopy, !r.NoGreylist, r.Threshold(),
		}
	})
}

// LoadAccounts implements [reference.Loader].
func (l *Loader) LoadAccounts(ctx context.Context, rows []accounts.Account) error {
	const columns = "login, full_name, affiliation, state, backend, moving_to, quota_mb, targets, keep_copy, greylist, spam_threshold, created_s, changed_s"
	err := load(ctx, l, "account", columns, rows, func(a accounts.Account) []any {
		main := a.Rows()[0]
		return []any{
			[]byte(a.Login), []byte(a.FullName), []byte(a.Affiliation), a.State.String(), a.Backend, a.MovingTo, a.QuotaMB,
			[]byte(routing.JoinTargets(a.Targets)), a.KeepCopy, !a.NoGreylist, main.Threshold(), a.Created.Unix(), a.Changed.Unix(),
		}
	})
	if err != nil {
		return err
	}
	var others []otherAddress
	for _, a := range rows {
		for _, alias := range a.Aliases {
			others = append(others, otherAddress{a.Login, alias})
		}
	}
	return load(ctx, l, "account_address", "login, address", others, func(o otherAddress) []any {
		return []any{[]byte(o.login), []byte(o.address)}
	})
}

// otherAddress is a row of account_address, of an account that is valid.
type otherAddress struct{ login, address string }

func (otherAddress) Validate() error { return nil }

// LoadPreferences implements [reference.Loader].
func (l *Loader) LoadPreferences(ctx context.Context, rows []preferences.Row) error {
	return load(ctx, l, "userprefs", "user, prefkey, prefval", rows, func(r preferences.Row) []any {
		return []any{[]byte(r.User), []byte(r.Key), []byte(r.Value)}
	})
}

const greylistColumns = "k, first_seen, last_seen, credits"

// LoadTriplets implements [reference.Loader].
func (l *Loader) LoadTriplets(ctx context.Context, rows []greylist.Row) error {
	return load(ctx, l, "greylist", greylistColumns, rows, func(r greylist.Row) []any {
		key := l.greylist.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
		return []any{key[:], r.First.Unix(), r.Last.Unix(), 0}
	})
}

// LoadClients implements [reference.Loader].
func (l *Loader) LoadClients(ctx context.Context, rows []greylist.ClientRow) error {
	return load(ctx, l, "greylist", greylistColumns, rows, func(r greylist.ClientRow) []any {
		key := greylist.ClientKey(r.Client)
		return []any{key[:], r.First.Unix(), r.Last.Unix(), r.Credits}
	})
}

// LoadStored stores rows of the greylist under the keys that they have.
func (l *Loader) LoadStored(ctx context.Context, rows []greylist.Stored) error {
	return load(ctx, l, "greylist", greylistColumns, rows, func(r greylist.Stored) []any {
		return []any{r.Key[:], r.State.First, r.State.Last, r.State.Credits}
	})
}

// LoadChanges stores that changes have been made, and does not make them.
func (l *Loader) LoadChanges(ctx context.Context, rows []accounts.Change) error {
	return load(ctx, l, "account_change", "change_id, login, action, at_s", rows, func(c accounts.Change) []any {
		return []any{c.ID[:], []byte(c.Login), c.Action.String(), c.At.Unix()}
	})
}

// load stores rows, one statement after another: workload.Load has several
// calls under way. After an error some of the rows may be stored; but a row that
// is not valid is found before the first one is stored.
func load[Row interface{ Validate() error }](ctx context.Context, l *Loader, table, columns string, rows []Row, values func(Row) []any) error {
	for i, r := range rows {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("load row %d into %s: %w", i, table, err)
		}
	}
	statement := fmt.Sprintf("REPLACE INTO %s.%s (%s) VALUES ", l.database, table, columns)
	for chunk := range chunked(rows, values) {
		if err := l.store(ctx, table, statement, chunk); err != nil {
			return err
		}
	}
	return nil
}

// chunked cuts rows into what one statement takes. A single row may exceed
// chunkBytes.
func chunked[Row any](rows []Row, values func(Row) []any) iter.Seq[[][]any] {
	return func(yield func([][]any) bool) {
		var (
			chunk [][]any
			bytes int
		)
		for _, r := range rows {
			row, size := values(r), 0
			for _, v := range row {
				if b, ok := v.([]byte); ok {
					size += len(b)
				}
			}
			if len(chunk) == chunkRows || len(chunk) > 0 && bytes+size > chunkBytes {
				if !yield(chunk) {
					return
				}
				chunk, bytes = nil, 0
			}
			chunk, bytes = append(chunk, row), bytes+size
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// store stores one chunk. REPLACE may be repeated, so that every error that
// passes is answered by another try, at the next node.
func (l *Loader) store(ctx context.Context, table, statement string, chunk [][]any) error {
	row := "(" + strings.Repeat(", ?", len(chunk[0]))[2:] + ")"
	statement += row + strings.Repeat(", "+row, len(chunk)-1)
	args := make([]any, 0, len(chunk)*len(chunk[0]))
	for _, r := range chunk {
		args = append(args, r...)
	}
	return retry(ctx, fmt.Sprintf("load %d rows into %s", len(chunk), table), func() error {
		node := l.nodes[(l.next.Add(1)-1)%uint64(len(l.nodes))]
		if err := storeOn(ctx, node.DB, statement, args); err != nil {
			return fmt.Errorf("through %s: %w", node.Name, err)
		}
		return nil
	})
}

func storeOn(ctx context.Context, db *sql.DB, statement string, args []any) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	const unknownVariable = 1193 // a server without NDB
	var server *mysql.MySQLError
	_, err = conn.ExecContext(ctx, fmt.Sprintf("SET SESSION ndb_batch_size = %d", batchBytes))
	if err != nil && !(errors.As(err, &server) && server.Number == unknownVariable) {
		return err
	}
	_, err = conn.ExecContext(ctx, statement, args...)
	return err
}
