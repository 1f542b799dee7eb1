// Package sqlnode connects to SQL nodes: as a client of the mail system would,
// once and without help, and as an administrator.
package sqlnode

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// Account is how one logs in to a SQL node.
type Account struct {
	User, Password string
	Database       string      // the default database, "" for none
	TLS            *tls.Config `json:"-"` // nil for a connection in plain text
}

// Connect opens a session with the SQL node at address (host:port). It tries
// once: it dials once and logs in once, within o.ConnectTimeout. Every failure
// is a [*ndberr.ConnectError].
//
// Each operation of the session ends within o.ReadTimeout, with an error that
// wraps [context.DeadlineExceeded]; 0 is no limit. A session never connects
// anew: once its connection is lost, every operation fails.
func Connect(ctx context.Context, node topology.Node, address string, account Account, o reference.ConnectOptions) (reference.Session, error) {
	ctx, cancel := bound(ctx, o.ConnectTimeout)
	defer cancel()
	s, err := open(ctx, node, address, account, o)
	if err != nil {
		return nil, &ndberr.ConnectError{Node: node.Name, Address: address, Err: err}
	}
	return s, nil
}

func open(ctx context.Context, node topology.Node, address string, account Account, o reference.ConnectOptions) (*session, error) {
	// Not through database/sql: it would try up to three times where the driver
	// returns driver.ErrBadConn, as it does for a connection lost during the
	// greeting.
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var l *link
	connection, err := connect(ctx, config(address, account, func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l = &link{Conn: quick(c)}
		return l, nil
	}))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(&handover{connection})
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, connection.Close(), db.Close())
	}
	return &session{
		node: node.Name, db: db, conn: conn, link: l, readTimeout: o.ReadTimeout,
		router:  routing.SQL{DB: conn},
		checker: greylist.SQL{DB: conn},
		store:   preferences.SQL{DB: conn},
	}, nil
}

// Open returns a pool of connections to the SQL node at address (host:port) for
// administration: schema, bulk load and verification. It does not connect yet.
// Where the account's database does not exist yet, a connection has none. Set
// limits by contexts.
func Open(address string, account Account) *sql.DB {
	db := sql.OpenDB(administrator{config(address, account, nil)})
	db.SetMaxIdleConns(8) // as many as a bulk load uses at once
	return db
}

func config(address string, account Account, dial reference.DialFunc) *mysql.Config {
	c := mysql.NewConfig() // character set utf8mb4
	c.User, c.Passwd, c.DBName = account.User, account.Password, account.Database
	c.Net, c.Addr, c.TLS = "tcp", address, account.TLS
	c.DialFunc = dial
	// One round trip a statement instead of three (prepare, execute, close). The
	// driver escapes for utf8mb4, and marks []byte as _binary.
	c.InterpolateParams = true
	// What breaks a connection is in the error, too.
	c.Logger = &mysql.NopLogger{}
	return c
}

type session struct {
	node        string
	db          *sql.DB
	conn        *sql.Conn
	link        *link
	readTimeout time.Duration
	router      routing.SQL
	checker     greylist.SQL
	store       preferences.SQL
}

func (s *session) Route(ctx context.Context, address string) (answer routing.Answer, err error) {
	err = s.ask(ctx, func(ctx context.Context) error { answer, err = s.router.Route(ctx, address); return err })
	return answer, err
}

func (s *session) Check(ctx context.Context, r greylist.Request) (answer greylist.Answer, err error) {
	err = s.ask(ctx, func(ctx context.Context) error { answer, err = s.checker.Check(ctx, r); return err })
	return answer, err
}

func (s *session) Read(ctx context.Context, user string) (preferences map[string]string, err error) {
	err = s.ask(ctx, func(ctx context.Context) error { preferences, err = s.store.Read(ctx, user); return err })
	return preferences, err
}

func (s *session) Set(ctx context.Context, user, key, value string) error {
	return s.ask(ctx, func(ctx context.Context) error { return s.store.Set(ctx, user, key, value) })
}

func (s *session) Delete(ctx context.Context, user, key string) error {
	return s.ask(ctx, func(ctx context.Context) error { return s.store.Delete(ctx, user, key) })
}

func (s *session) Change(ctx context.Context, c accounts.Change) error {
	return s.ask(ctx, func(ctx context.Context) error { return accounts.NewSQL(s.conn).Change(ctx, c) })
}

func (s *session) Account(ctx context.Context, login string) (account accounts.Account, err error) {
	err = s.ask(ctx, func(ctx context.Context) error {
		account, err = accounts.NewSQL(s.conn).Account(ctx, login)
		return err
	})
	return account, err
}

// ask bounds an operation and adds the node to its error.
func (s *session) ask(ctx context.Context, operation func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return s.named(err) // nothing was sent, and the connection is as good as before
	}
	asking, end := s.link.begin(ctx, s.readTimeout)
	return s.named(end(operation(asking)))
}

// named adds the node to an error.
func (s *session) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", s.node, err)
}

// Close ends the connection. A connection that is already lost is no error.
func (s *session) Close() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return errors.Join(err, s.db.Close())
	}
	return s.db.Close()
}

func bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// handover gives database/sql one connection that exists already, and never
// another.
type handover struct{ connection driver.Conn }

func (h *handover) Connect(context.Context) (driver.Conn, error) {
	c := h.connection
	if c == nil {
		return nil, errors.New("the session's connection is lost; connect again")
	}
	h.connection = nil
	return c, nil
}

func (h *handover) Driver() driver.Driver { return &mysql.MySQLDriver{} }

// administrator connects also where the default database is still to be created.
type administrator struct{ config *mysql.Config }

func (a administrator) Connect(ctx context.Context) (driver.Conn, error) {
	const unknownDatabase = 1049
	conn, err := connect(ctx, a.config)
	var server *mysql.MySQLError
	if errors.As(err, &server) && server.Number == unknownDatabase {
		bare := a.config.Clone()
		bare.DBName = ""
		return connect(ctx, bare)
	}
	return conn, err
}

func (a administrator) Driver() driver.Driver { return &mysql.MySQLDriver{} }

// connect connects once.
func connect(ctx context.Context, config *mysql.Config) (driver.Conn, error) {
	c, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return c.Connect(ctx)
}
