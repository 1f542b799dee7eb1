package accounts

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"

	"github.com/mailbench/mailbench/reference/routing"
)

// The tables as bun reads and writes them. Texts are []byte: bun writes these as
// hexadecimal literals, byte for byte, where its MySQL dialect drops NUL from a
// string and replaces what is not UTF-8. A string is used only where Validate
// lets ASCII through and no more.

type accountRow struct {
	bun.BaseModel `bun:"table:account"`

	Login         []byte `bun:"login,pk"`
	FullName      []byte `bun:"full_name"`
	Affiliation   []byte `bun:"affiliation"`
	State         string `bun:"state"`
	Backend       string `bun:"backend"`
	MovingTo      string `bun:"moving_to"`
	QuotaMB       uint32 `bun:"quota_mb"`
	Targets       []byte `bun:"targets"`
	KeepCopy      bool   `bun:"keep_copy"`
	Greylist      bool   `bun:"greylist"`
	SpamThreshold uint8  `bun:"spam_threshold"`
	CreatedS      int64  `bun:"created_s"`
	ChangedS      int64  `bun:"changed_s"`
}

type addressRow struct {
	bun.BaseModel `bun:"table:account_address"`

	Login   []byte `bun:"login,pk"`
	Address []byte `bun:"address,pk"`
}

type changeRow struct {
	bun.BaseModel `bun:"table:account_change"`

	ID     []byte `bun:"change_id,pk"`
	Login  []byte `bun:"login"`
	Action string `bun:"action"`
	AtS    int64  `bun:"at_s"`
}

type routeRow struct {
	bun.BaseModel `bun:"table:route"`

	Address       []byte `bun:"address,pk"`
	Kind          string `bun:"kind"`
	State         string `bun:"state"`
	Backend       string `bun:"backend"`
	Targets       []byte `bun:"targets"`
	KeepCopy      bool   `bun:"keep_copy"`
	Greylist      bool   `bun:"greylist"`
	SpamThreshold uint8  `bun:"spam_threshold"`
}

func toAccountRow(a Account) *accountRow {
	return &accountRow{
		Login: []byte(a.Login), FullName: []byte(a.FullName), Affiliation: []byte(a.Affiliation),
		State: a.State.String(), Backend: a.Backend, MovingTo: a.MovingTo, QuotaMB: a.QuotaMB,
		Targets: []byte(routing.JoinTargets(a.Targets)), KeepCopy: a.KeepCopy, Greylist: !a.NoGreylist,
		SpamThreshold: a.SpamThreshold, CreatedS: a.Created.Unix(), ChangedS: a.Changed.Unix(),
	}
}

func (r *accountRow) account(aliases []addressRow) (*Account, error) {
	state, known := routing.ParseState(r.State)
	if !known {
		return nil, fmt.Errorf("account %q has state %q, which this program does not know", r.Login, r.State)
	}
	a := &Account{
		Login: string(r.Login), FullName: string(r.FullName), Affiliation: string(r.Affiliation),
		State: state, Backend: r.Backend, MovingTo: r.MovingTo, QuotaMB: r.QuotaMB,
		Targets: routing.SplitTargets(string(r.Targets)), KeepCopy: r.KeepCopy, NoGreylist: !r.Greylist,
		SpamThreshold: r.SpamThreshold, Created: time.Unix(r.CreatedS, 0), Changed: time.Unix(r.ChangedS, 0),
	}
	for _, alias := range aliases {
		a.Aliases = append(a.Aliases, string(alias.Address))
	}
	slices.Sort(a.Aliases)
	return a, nil
}

func toRouteRow(r routing.Row) *routeRow {
	return &routeRow{
		Address: []byte(r.Address), Kind: r.Kind.String(), State: r.State.String(), Backend: r.Backend,
		Targets: []byte(routing.JoinTargets(r.Targets)), KeepCopy: r.KeepCopy, Greylist: !r.NoGreylist, SpamThreshold: r.Threshold(),
	}
}

// dialect is bun's for MySQL, but asks no server for its version: an attempt is
// to send its own statements and nothing else.
type dialect struct{ *mysqldialect.Dialect }

func (dialect) Init(*sql.DB) {}

// Conn is what SQL needs of a *sql.Conn. A *sql.DB will not do: the statements of
// a transaction must go to one connection.
type Conn interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// SQL reads and changes accounts through one connection, each call in one
// transaction that it tries once. [Nodes] tries again.
type SQL struct {
	conn Conn
	bun  *bun.DB // builds statements; it has no connection of its own
}

var _ Manager = SQL{}

// NewSQL returns an SQL on one connection, which it does not close.
func NewSQL(conn Conn) SQL {
	return SQL{conn: conn, bun: bun.NewDB(nil, dialect{mysqldialect.New()})}
}

// rollbackTimeout bounds the end of a transaction that has failed, whose context
// may be over.
const rollbackTimeout = 2 * time.Second

// commitError is what COMMIT itself met: only then may a failed transaction have
// happened.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// transaction runs work between START TRANSACTION and COMMIT. These are plain
// statements, as the driver's own Commit does not heed a context: a node that is
// silent would hold it for ever.
func (s SQL) transaction(ctx context.Context, work func() error) error {
	if _, err := s.conn.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	err := work()
	if err == nil {
		if _, err = s.conn.ExecContext(ctx, "COMMIT"); err == nil {
			return nil
		}
		err = &commitError{err}
	}
	// Locks must not outlive a failure, nor must the next transaction begin in this
	// one. If the rollback fails, so has the connection, and the server rolls back.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = s.conn.ExecContext(ending, "ROLLBACK")
	return err
}

// errDone ends the transaction of a change that has been committed before.
var errDone = errors.New("the change has been made before")

// Change implements Manager. It may be called again with the same change, on
// this connection or another: a change that is stored already is a success.
func (s SQL) Change(ctx context.Context, c Change) error {
	if err := c.Validate(); err != nil {
		return err
	}
	err := s.transaction(ctx, func() error { return s.change(ctx, c) })
	if errors.Is(err, errDone) {
		var made bool
		if made, err = s.Made(ctx, c); err == nil && !made {
			err = fmt.Errorf("change id %x is gone after it was there", c.ID)
		}
	}
	if err != nil {
		return fmt.Errorf("%s of account %q: %w", c.Action, c.Login, err)
	}
	return nil
}

// Made says whether a change is stored. It waits for a transaction of this
// change that is still under way, as long as the cluster waits for a lock.
func (s SQL) Made(ctx context.Context, c Change) (bool, error) {
	var row changeRow
	err := s.bun.NewSelect().Conn(s.conn).Model(&row).Where("change_id = ?", c.ID[:]).For("SHARE").Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read change %x back: %w", c.ID, err)
	case !bytes.Equal(row.Login, []byte(c.Login)) || row.Action != c.Action.String():
		return false, fmt.Errorf("id %x has been used for %s of account %q: %w", c.ID, row.Action, row.Login, fs.ErrInvalid)
	}
	return true, nil
}

func (s SQL) change(ctx context.Context, c Change) error {
	_, err := s.bun.NewInsert().Conn(s.conn).
		Model(&changeRow{ID: c.ID[:], Login: []byte(c.Login), Action: c.Action.String(), AtS: c.At.Unix()}).Exec(ctx)
	if duplicate(err) {
		return errDone
	}
	if err != nil {
		return err
	}
	// The lock on its row makes the changes of an account follow each other.
	before, err := s.read(ctx, c.Login, "UPDATE")
	if err != nil {
		return err
	}
	after, err := Apply(before, c)
	if err != nil {
		return err
	}
	if err := s.storeAccount(ctx, before, after); err != nil {
		return err
	}
	if err := s.storeAliases(ctx, before, after); err != nil {
		return err
	}
	if err := s.storeRoutes(ctx, before, after); err != nil {
		return err
	}
	switch {
	case before == nil:
		return s.unowned(ctx, after.Login)
	case before.Login != after.Login:
		if err := s.unowned(ctx, after.Login); err != nil {
			return err
		}
		return s.moveWebmail(ctx, before.Login, after.Login)
	default:
		return nil
	}
}

// Account implements Manager.
func (s SQL) Account(ctx context.Context, login string) (Account, error) {
	if err := validLogin(login); err != nil {
		return Account{}, err
	}
	var a *Account
	// Without the lock a change between the two reads would be seen by half: NDB
	// knows no snapshots.
	err := s.transaction(ctx, func() (err error) {
		a, err = s.read(ctx, login, "SHARE")
		return err
	})
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("read account %q: %w", login, err)
	case a == nil:
		return Account{}, fmt.Errorf("account %q: %w", login, ErrNotFound)
	}
	return *a, nil
}

// read reads an account, nil if there is none, and locks its row.
func (s SQL) read(ctx context.Context, login, lock string) (*Account, error) {
	var row accountRow
	err := s.bun.NewSelect().Conn(s.conn).Model(&row).Where("login = ?", []byte(login)).For(lock).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var aliases []addressRow
	if err := s.bun.NewSelect().Conn(s.conn).Model(&aliases).Where("login = ?", []byte(login)).Scan(ctx); err != nil {
		return nil, err
	}
	return row.account(aliases)
}

func (s SQL) storeAccount(ctx context.Context, before *Account, after Account) error {
	row := toAccountRow(after)
	if before != nil && before.Login == after.Login {
		if reflect.DeepEqual(toAccountRow(*before), row) {
			return nil // MySQL counts only rows that an UPDATE changes
		}
		return s.update(ctx, row)
	}
	if before != nil {
		if err := s.remove(ctx, toAccountRow(*before)); err != nil {
			return err
		}
	}
	return s.insert(ctx, after.Login, row)
}

func (s SQL) storeAliases(ctx context.Context, before *Account, after Account) error {
	had, has := map[addressKey]bool{}, map[addressKey]bool{}
	if before != nil {
		for _, alias := range before.Aliases {
			had[addressKey{before.Login, alias}] = true
		}
	}
	for _, alias := range after.Aliases {
		has[addressKey{after.Login, alias}] = true
	}
	for key := range had {
		if !has[key] {
			if err := s.remove(ctx, key.row()); err != nil {
				return err
			}
		}
	}
	for key := range has {
		if !had[key] {
			if err := s.insert(ctx, key.alias, key.row()); err != nil {
				return err
			}
		}
	}
	return nil
}

type addressKey struct{ login, alias string }

func (k addressKey) row() *addressRow {
	return &addressRow{Login: []byte(k.login), Address: []byte(k.alias)}
}

// storeRoutes writes only rows that change. That a new address is nobody else's
// is proven by its insertion.
func (s SQL) storeRoutes(ctx context.Context, before *Account, after Account) error {
	had := map[string]*routeRow{}
	if before != nil {
		for _, r := range before.Rows() {
			had[r.Address] = toRouteRow(r)
		}
	}
	rows := after.Rows()
	for address, row := range had {
		if !slices.ContainsFunc(rows, func(r routing.Row) bool { return r.Address == address }) {
			if err := s.remove(ctx, row); err != nil {
				return err
			}
		}
	}
	for _, r := range rows {
		row, old := toRouteRow(r), had[r.Address]
		var err error
		switch {
		case old == nil:
			err = s.insert(ctx, r.Address, row)
		case !reflect.DeepEqual(old, row):
			err = s.update(ctx, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// webmail are the webmail's tables and their columns of a user.
var webmail = [...]struct{ table, user string }{{"userprefs", "user"}, {"address", "owner"}}

// unowned refuses a login under which the webmail's tables have rows. Nobody has
// that login yet, so whose they are is not known: a session under a name that was
// given up may have left them, or a load before the accounts. Whoever gets the
// login must not see them, and no change of an account should delete what may be
// somebody's only copy.
func (s SQL) unowned(ctx context.Context, login string) error {
	for _, w := range webmail {
		found, err := s.bun.NewSelect().Conn(s.conn).Table(w.table).
			Where("? = ?", bun.Ident(w.user), []byte(login)).Exists(ctx)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("the webmail's table %s has rows of %q, who has no account: delete them if they are nobody's: %w", w.table, login, ErrExists)
		}
	}
	return nil
}

// moveWebmail gives what the webmail keeps for one login to another.
func (s SQL) moveWebmail(ctx context.Context, from, to string) error {
	for _, w := range webmail {
		_, err := s.bun.NewUpdate().Conn(s.conn).Table(w.table).
			Set("? = ?", bun.Ident(w.user), []byte(to)).Where("? = ?", bun.Ident(w.user), []byte(from)).Exec(ctx)
		if duplicate(err) { // stored since unowned has looked
			return fmt.Errorf("the webmail's table %s has rows of %q: %w", w.table, to, ErrExists)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// insert stores a new row; name is what it takes.
func (s SQL) insert(ctx context.Context, name string, row any) error {
	_, err := s.bun.NewInsert().Conn(s.conn).Model(row).Exec(ctx)
	if duplicate(err) {
		return fmt.Errorf("%q: %w", name, ErrExists)
	}
	return err
}

func (s SQL) update(ctx context.Context, row any) error {
	result, err := s.bun.NewUpdate().Conn(s.conn).Model(row).WherePK().Exec(ctx)
	return s.one(result, err, row)
}

func (s SQL) remove(ctx context.Context, row any) error {
	result, err := s.bun.NewDelete().Conn(s.conn).Model(row).WherePK().Exec(ctx)
	return s.one(result, err, row)
}

// one refuses to go on when a row of an account is not there.
func (s SQL) one(result sql.Result, err error, row any) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n != 1 {
		err = fmt.Errorf("a row of the account is missing or stored twice (%d for %s): mend the tables by hand", n, described(row))
	}
	return err
}

func described(row any) string {
	switch r := row.(type) {
	case *accountRow:
		return fmt.Sprintf("account %q", r.Login)
	case *addressRow:
		return fmt.Sprintf("account_address %q, %q", r.Login, r.Address)
	case *routeRow:
		return fmt.Sprintf("route %q", r.Address)
	default:
		return "another table"
	}
}

func duplicate(err error) bool {
	const duplicateEntry = 1062
	var server *mysql.MySQLError
	return errors.As(err, &server) && server.Number == duplicateEntry
}
