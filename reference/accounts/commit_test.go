package accounts_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// fate is what becomes of a COMMIT on its way to the server.
type fate int32

const (
	arrives      fate = iota
	answerIsLost      // the server gets it, and the connection ends before its answer
	isLost            // the connection ends before the server gets it
	arrivesLate       // the client sees the connection end; the server gets it later
	staysUnheard      // nothing happens any more
)

// cut is a connection to a real server on which the next COMMIT has a fate.
type cut struct {
	net.Conn
	next *atomic.Int32
}

const lateness = 400 * time.Millisecond

func (c *cut) Write(b []byte) (int, error) {
	if !bytes.HasSuffix(b, []byte("\x03COMMIT")) {
		return c.Conn.Write(b)
	}
	switch fate(c.next.Swap(int32(arrives))) {
	case answerIsLost:
		n, err := c.Conn.Write(b)
		// Until the server has answered, and so has committed.
		_ = c.Conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Conn.Read(make([]byte, 1))
		_ = c.Conn.Close()
		return n, err
	case isLost:
		_ = c.Conn.Close()
		return len(b), nil
	case arrivesLate:
		server, late := c.Conn, bytes.Clone(b)
		client, end := net.Pipe()
		_ = end.Close()
		c.Conn = client
		time.AfterFunc(lateness, func() {
			_, _ = server.Write(late)
			_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = server.Read(make([]byte, 1))
			_ = server.Close()
		})
		return len(b), nil
	case staysUnheard:
		return len(b), nil
	default:
		return c.Conn.Write(b)
	}
}

// TestCommitWithoutAnswer loses the COMMIT of a change in every way. Nobody but
// the database knows then whether it happened; it happens once all the same.
func TestCommitWithoutAnswer(t *testing.T) {
	c := schematest.Install(t, "accountcommit")
	var next atomic.Int32
	config := mysql.NewConfig()
	config.User, config.Passwd, config.DBName = c.Account.User, c.Account.Password, c.Account.Database
	config.Net, config.Addr, config.InterpolateParams, config.Logger = "tcp", c.Addresses[0], true, &mysql.NopLogger{}
	// The driver's look at an idle connection needs a real socket.
	config.CheckConnLiveness = false
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &cut{Conn: conn, next: &next}, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	bad := sql.OpenDB(connector)
	defer bad.Close()
	direct := open(t, c)
	nodes := []accounts.Node{{Name: c.Nodes[0].Name, DB: bad}, direct[len(direct)-1]}

	var stamps ids
	world, kept := map[string]accounts.Account{}, belongings{}
	for i, row := range []struct {
		sentence string
		fate     fate
		want     accounts.Stats
	}{
		{"a COMMIT that is answered leaves no doubt", arrives, accounts.Stats{}},
		{"a COMMIT whose answer is lost is found to be done", answerIsLost, accounts.Stats{Unsettled: 1, ReadBack: 1}},
		{"a COMMIT that is lost is found not to be done, and is done", isLost, accounts.Stats{Unsettled: 1, Absent: 1, Retried: 1}},
		{"a COMMIT that is still to come is waited for", arrivesLate, accounts.Stats{Unsettled: 1, ReadBack: 1}},
		{"a COMMIT without any answer is given up", staysUnheard, accounts.Stats{Unsettled: 1, Absent: 1, Retried: 1}},
	} {
		m, err := accounts.NewNodes(nodes, 5*time.Second)
		if row.fate == staysUnheard {
			m, err = accounts.NewNodes(nodes, 500*time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		login := string(rune('a'+i)) + "@example.edu"
		for n, change := range []accounts.Change{
			{Action: accounts.Create, Login: login, Account: accounts.Account{Backend: "cyrus1", Aliases: []string{"alias-" + login}}},
			{Action: accounts.Rename, Login: login, NewLogin: "new-" + login, KeepOld: true},
		} {
			change = stamps.stamp(change)
			next.Store(int32(row.fate * fate(n))) // of the rename
			if err := m.Change(t.Context(), change); err != nil {
				t.Fatalf("%s: %v", row.sentence, err)
			}
			apply(t, world, change)
			kept.apply(change)
			if change.Action == accounts.Create {
				kept.prefer(t, direct[0].DB, login, "origin", login)
				kept.know(t, direct[0].DB, login, "ann", login)
			}
		}
		if got := m.Stats(); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.sentence, got, row.want)
		}
		whole(t, direct[0].DB, world, kept)
		changes := 0
		read(t, direct[0].DB, "SELECT login FROM account_change", func([]string) { changes++ })
		if want := 2 * (i + 1); changes != want {
			t.Errorf("%s: %d changes are stored, want %d", row.sentence, changes, want)
		}
	}

	// A client that has no time left to look says so.
	m, err := accounts.NewNodes(nodes, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	next.Store(int32(staysUnheard))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	change := stamps.stamp(accounts.Change{Action: accounts.Suspend, Login: "new-a@example.edu"})
	err = m.Change(ctx, change)
	if !errors.Is(err, accounts.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a change that was given up ends with %v", err)
	}
	if err := m.Change(t.Context(), change); err != nil {
		t.Errorf("the same change again: %v", err)
	}
	if a, err := m.Account(t.Context(), "new-a@example.edu"); err != nil || a.State != routing.StateSuspended {
		t.Errorf("the account is %+v (%v)", a, err)
	}
}
