package preferences_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// What a session may have said before it sends its statements.
var (
	characterSets = []string{"utf8mb4", "binary"}
	modes         = []struct{ name, set string }{
		{"by default", "SET SESSION sql_mode = DEFAULT"},
		{"without strict mode", "SET SESSION sql_mode = ''"},
	}
)

// TestServerRefuses sends what does not fit without any client that checks it,
// as a webmail would: the server must refuse it, in whatever mode.
func TestServerRefuses(t *testing.T) {
	c := schematest.Install(t, "refuses")
	const (
		set = "REPLACE INTO userprefs (user, prefkey, prefval) VALUES (?, ?, ?)"
		add = "INSERT INTO address (owner, nickname, firstname, lastname, email, label) VALUES (?, ?, ?, ?, ?, ?)"

		tooLong = 1406 // ER_DATA_TOO_LONG
		check   = 3819 // ER_CHECK_CONSTRAINT_VIOLATED
		null    = 1048 // ER_BAD_NULL_ERROR
	)
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, r := range []struct {
		sentence  string
		statement string
		args      []any
		strict    uint16 // the error with strict mode; without it is always check
	}{
		{"a user of 129 bytes", set, []any{x(129), "k", "v"}, check},
		{"a user of 300 bytes", set, []any{x(300), "k", "v"}, tooLong},
		{"no user", set, []any{"", "k", "v"}, check},
		{"a key of 65 bytes", set, []any{"u", x(65), "v"}, check},
		{"a key of 70000 bytes", set, []any{"u", x(70000), "v"}, tooLong},
		{"no key", set, []any{"u", "", "v"}, check},
		{"a value of 29001 bytes", set, []any{"u", "k", x(29001)}, check},
		{"a value of 29002 bytes", set, []any{"u", "k", x(29002)}, tooLong},
		{"a value of 65536 bytes", set, []any{"u", "k", x(65536)}, tooLong},
		{"a value of 70000 bytes", set, []any{"u", "k", x(70000)}, tooLong},
		{"a value of NULL", set, []any{"u", "k", nil}, null},
		{"an owner of 129 bytes", add, []any{x(129), "n", "", "", "", ""}, check},
		{"an owner of 300 bytes", add, []any{x(300), "n", "", "", "", ""}, tooLong},
		{"no owner", add, []any{"", "n", "", "", "", ""}, check},
		{"a nickname of 17 bytes", add, []any{"u", x(17), "", "", "", ""}, check},
		{"a nickname of 18 bytes", add, []any{"u", x(18), "", "", "", ""}, tooLong},
		{"no nickname", add, []any{"u", "", "", "", "", ""}, check},
		{"a first name of 129 bytes", add, []any{"u", "n", x(129), "", "", ""}, check},
		{"a first name of 300 bytes", add, []any{"u", "n", x(300), "", "", ""}, tooLong},
		{"a last name of 129 bytes", add, []any{"u", "n", "", x(129), "", ""}, check},
		{"a last name of 300 bytes", add, []any{"u", "n", "", x(300), "", ""}, tooLong},
		{"a mail address of 129 bytes", add, []any{"u", "n", "", "", x(129), ""}, check},
		{"a mail address of 300 bytes", add, []any{"u", "n", "", "", x(300), ""}, tooLong},
		{"a label of 256 bytes", add, []any{"u", "n", "", "", "", x(256)}, check},
		{"a label of 300 bytes", add, []any{"u", "n", "", "", "", x(300)}, tooLong},
	} {
		forSessions(t, c, func(ctx context.Context, conn *sql.Conn, session string, strict bool) {
			want := uint16(check)
			if strict || r.strict == null {
				want = r.strict
			}
			_, err := conn.ExecContext(ctx, r.statement, r.args...)
			var server *mysql.MySQLError
			if !errors.As(err, &server) || server.Number != want {
				t.Errorf("%s, %s: got %v, want error %d", r.sentence, session, err, want)
			}
		})
	}
	for _, table := range []string{"userprefs", "address"} {
		var rows int
		if err := c.Admins[0].DB.QueryRow("SELECT COUNT(*) FROM " + c.Options.Database + "." + table).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("%d rows of what was refused are stored in %s (%v)", rows, table, err)
		}
	}
}

// TestServerStores sends strange text as a webmail would, in string literals:
// it must be found as it was sent.
func TestServerStores(t *testing.T) {
	c := schematest.Install(t, "stores")
	for _, text := range []string{
		`' OR '1'='1`, `\' OR 1=1 -- `, `"); DROP TABLE userprefs; -- `, "NUL\x00 and more", "\\", "' ", " '", "%", "_",
		"\xbf'", "\xe9t\xe9 8-bit", "été UTF-8", "\xff\xfe\x80", strings.Repeat("\x00", 64), strings.Repeat("'", 64), strings.Repeat("\xe9", 64),
	} {
		forSessions(t, c, func(ctx context.Context, conn *sql.Conn, session string, _ bool) {
			if _, err := conn.ExecContext(ctx, "REPLACE INTO userprefs (user, prefkey, prefval) VALUES (?, ?, ?)", text, text, text); err != nil {
				t.Errorf("store %q %s: %v", text, session, err)
				return
			}
			var key, value string
			err := conn.QueryRowContext(ctx, "SELECT prefkey, prefval FROM userprefs WHERE user = ?", text).Scan(&key, &value)
			if err != nil || key != text || value != text {
				t.Errorf("%q is read as %q, %q %s (%v)", text, key, value, session, err)
			}
			if _, err := conn.ExecContext(ctx, "DELETE FROM userprefs WHERE user = ? AND prefkey = ?", text, text); err != nil {
				t.Errorf("delete %q %s: %v", text, session, err)
			}
			var rows int
			if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM userprefs").Scan(&rows); err != nil || rows != 0 {
				t.Errorf("%d rows are left of %q %s (%v)", rows, text, session, err)
			}
		})
	}
}

// forSessions calls do in a session with each node, for each character set and
// each mode.
func forSessions(t *testing.T, c schematest.Cluster, do func(ctx context.Context, conn *sql.Conn, session string, strict bool)) {
	t.Helper()
	for i, address := range c.Addresses {
		db := sqlnode.Open(address, c.Account)
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range characterSets {
			for _, mode := range modes {
				for _, s := range []string{"SET NAMES " + set, mode.set} {
					if _, err := conn.ExecContext(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
				do(t.Context(), conn, fmt.Sprintf("(%s, %s, %s)", c.Nodes[i].Name, set, mode.name), mode == modes[0])
			}
		}
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}
}
