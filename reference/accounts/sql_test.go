package accounts_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// open returns a connection pool to each SQL node.
func open(t *testing.T, c schematest.Cluster) (nodes []accounts.Node) {
	t.Helper()
	for i, address := range c.Addresses {
		db := sqlnode.Open(address, c.Account)
		t.Cleanup(func() { _ = db.Close() })
		nodes = append(nodes, accounts.Node{Name: c.Nodes[i].Name, DB: db})
	}
	return nodes
}

func manager(t *testing.T, nodes []accounts.Node) *accounts.Nodes {
	t.Helper()
	m, err := accounts.NewNodes(nodes, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ids gives a change after another its id and time.
type ids struct {
	mu sync.Mutex
	n  int
}

func (i *ids) stamp(c accounts.Change) accounts.Change {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	c.ID, c.At = [16]byte{15: byte(i.n), 14: byte(i.n >> 8), 13: byte(i.n >> 16)}, then.Add(time.Duration(i.n)*time.Second)
	return c
}

// TestChanges makes every change through one SQL node and looks at all of it
// through the other, at once.
func TestChanges(t *testing.T) {
	c := schematest.Install(t, "accounts")
	nodes := open(t, c)
	m := manager(t, nodes)
	other := nodes[len(nodes)-1].DB
	conn, err := other.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := accounts.NewSQL(conn)

	const longName = 116 // with @example.edu 128 bytes
	var (
		ada    = "o'brien\xff`é@example.edu" // quotes, and what is not UTF-8
		king   = strings.Repeat("k", longName) + "@example.edu"
		stamps ids
		world  = map[string]accounts.Account{}
		kept   = belongings{}
	)
	// What nobody knows the owner of, under other keys and nicknames than ada's.
	kept.prefer(t, other, "prefers@example.edu", "language", "de_DE")
	kept.know(t, other, "knows@example.edu", "cleo", "Cleo")
	type change = accounts.Change
	for _, step := range []struct {
		sentence string
		change   change
		want     error
		route    string // an address, and what one step of its routing is then
		verdict  routing.Verdict
	}{
		{"an account comes with its aliases", change{Action: accounts.Create, Login: ada, Account: accounts.Account{
			FullName: "Ada O'Brien \\ née Byron", Affiliation: "faculty", Backend: "cyrus1", QuotaMB: 500,
			Aliases: []string{"a.l@example.edu", "countess@example.edu"},
		}}, nil, "a.l@example.edu", routing.Redirect},
		{"its name is given once", change{Action: accounts.Create, Login: ada, Account: accounts.Account{Backend: "cyrus2"}}, accounts.ErrExists, ada, routing.Local},
		{"a second account", change{Action: accounts.Create, Login: "ben@example.edu", Account: accounts.Account{Backend: "cyrus2"}}, nil, "ben@example.edu", routing.Local},
		{"an alias of somebody else is taken", change{Action: accounts.AddAlias, Login: "ben@example.edu", Alias: "a.l@example.edu"}, accounts.ErrExists, "a.l@example.edu", routing.Redirect},
		{"and is no login", change{Action: accounts.Rename, Login: "ben@example.edu", NewLogin: "a.l@example.edu"}, accounts.ErrExists, "ben@example.edu", routing.Local},
		{"nor comes it with a new account", change{Action: accounts.Create, Login: "carl@example.edu", Account: accounts.Account{Backend: "cyrus1", Aliases: []string{"a.l@example.edu"}}}, accounts.ErrExists, "carl@example.edu", routing.Unknown},
		{"a domain's row is nobody's", change{Action: accounts.Create, Login: "dan@example.edu", Account: accounts.Account{Backend: "cyrus1"}}, nil, "dan@example.edu", routing.Local},
		{"an alias is added", change{Action: accounts.AddAlias, Login: ada, Alias: "byron@example.edu"}, nil, "byron@example.edu", routing.Redirect},
		{"an alias goes", change{Action: accounts.RemoveAlias, Login: ada, Alias: "countess@example.edu"}, nil, "countess@example.edu", routing.Unknown},
		{"an alias that is not there does not go", change{Action: accounts.RemoveAlias, Login: ada, Alias: "countess@example.edu"}, accounts.ErrNotFound, ada, routing.Local},
		{"a forward with a copy", change{Action: accounts.SetForward, Login: ada, Targets: []string{"me@home.example", "\xfe@x.example"}, KeepCopy: true}, nil, ada, routing.Redirect},
		{"the same forward again", change{Action: accounts.SetForward, Login: ada, Targets: []string{"me@home.example", "\xfe@x.example"}, KeepCopy: true}, nil, ada, routing.Redirect},
		{"a forward without a copy", change{Action: accounts.SetForward, Login: ada, Targets: []string{"me@home.example"}}, nil, ada, routing.Redirect},
		{"no forward", change{Action: accounts.SetForward, Login: ada}, nil, ada, routing.Local},
		{"a suspension", change{Action: accounts.Suspend, Login: ada}, nil, "byron@example.edu", routing.Suspended},
		{"is not repeated", change{Action: accounts.Suspend, Login: ada}, accounts.ErrState, ada, routing.Suspended},
		{"and ends", change{Action: accounts.Resume, Login: ada}, nil, "byron@example.edu", routing.Redirect},
		{"a move begins", change{Action: accounts.BeginMove, Login: ada, Backend: "cyrus7"}, nil, ada, routing.Moving},
		{"its aliases lead to the deferral", change{Action: accounts.AddAlias, Login: ada, Alias: "lord@example.edu"}, nil, "lord@example.edu", routing.Redirect},
		{"it is given up", change{Action: accounts.AbortMove, Login: ada}, nil, ada, routing.Local},
		{"it begins again", change{Action: accounts.BeginMove, Login: ada, Backend: "cyrus7"}, nil, ada, routing.Moving},
		{"it ends", change{Action: accounts.FinishMove, Login: ada}, nil, ada, routing.Local},
		{"preferences of the new name are not mixed with", change{Action: accounts.Rename, Login: ada, NewLogin: "prefers@example.edu"}, accounts.ErrExists, "prefers@example.edu", routing.Unknown},
		{"nor is its address book", change{Action: accounts.Rename, Login: ada, NewLogin: "knows@example.edu"}, accounts.ErrExists, "knows@example.edu", routing.Unknown},
		{"a new account inherits no preferences", change{Action: accounts.Create, Login: "prefers@example.edu", Account: accounts.Account{Backend: "cyrus1"}}, accounts.ErrExists, "prefers@example.edu", routing.Unknown},
		{"and no address book", change{Action: accounts.Create, Login: "knows@example.edu", Account: accounts.Account{Backend: "cyrus1"}}, accounts.ErrExists, "knows@example.edu", routing.Unknown},
		{"such a name may be an alias, which is nobody's login", change{Action: accounts.AddAlias, Login: ada, Alias: "knows@example.edu"}, nil, "knows@example.edu", routing.Redirect},
		{"a forward to an alias of one's own goes in a circle", change{Action: accounts.SetForward, Login: ada, Targets: []string{"byron@example.edu"}}, fs.ErrInvalid, ada, routing.Local},
		{"a rename that keeps the old name", change{Action: accounts.Rename, Login: ada, NewLogin: king, KeepOld: true}, nil, ada, routing.Redirect},
		{"a rename back drops the new name", change{Action: accounts.Rename, Login: king, NewLogin: ada}, nil, king, routing.Unknown},
		{"a rename to an alias", change{Action: accounts.Rename, Login: ada, NewLogin: "byron@example.edu"}, nil, "byron@example.edu", routing.Local},
		{"the old name is nobody's", change{Action: accounts.Suspend, Login: ada}, accounts.ErrNotFound, ada, routing.Unknown},
		{"an account is closed", change{Action: accounts.Close, Login: "byron@example.edu"}, nil, "lord@example.edu", routing.Closed},
		{"for good", change{Action: accounts.Resume, Login: "byron@example.edu"}, accounts.ErrState, "byron@example.edu", routing.Closed},
	} {
		before := rows(t, other)
		step.change = stamps.stamp(step.change)
		err := m.Change(t.Context(), step.change)
		if !errors.Is(err, step.want) {
			t.Fatalf("%s: got %v, want %v", step.sentence, err, step.want)
		}
		if err == nil {
			apply(t, world, step.change)
			kept.apply(step.change)
			if step.change.Action == accounts.Create && step.change.Login == ada {
				kept.prefer(t, other, ada, "theme", "\x00\xff'\\")
				kept.prefer(t, other, ada, "signature", strings.Repeat("s", preferences.MaxStored))
				kept.know(t, other, ada, "ann", "Ann")
				kept.know(t, other, ada, "j\xfcrgen", "J\xfcrgen\\'")
			}
			if err := m.Change(t.Context(), step.change); err != nil {
				t.Errorf("%s: the same change again: %v", step.sentence, err)
			}
		} else if after := rows(t, other); !maps.Equal(before, after) {
			t.Errorf("%s: what was refused has changed %v into %v", step.sentence, before, after)
		}
		answer, err := (routing.SQL{DB: other}).Route(t.Context(), step.route)
		if err != nil || answer.Verdict != step.verdict && !(step.verdict == routing.Unknown && answer.Verdict == routing.Foreign) {
			t.Errorf("%s: %s is %v, want %s (%v)", step.sentence, step.route, answer, step.verdict, err)
		}
		whole(t, other, world, kept)
		if t.Failed() {
			t.Fatalf("that was after: %s", step.sentence)
		}
		for login, want := range world {
			if got, err := reader.Account(t.Context(), login); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: account is read as\n%+v, want\n%+v (%v)", step.sentence, got, want, err)
			}
		}
	}
	if n := len(kept["byron@example.edu"]); n != 4 {
		t.Errorf("three renames later %d preferences and addresses are there, want 4", n)
	}
	if _, err := m.Account(t.Context(), "nobody@example.edu"); !errors.Is(err, accounts.ErrNotFound) {
		t.Errorf("nobody's account: %v", err)
	}
	if _, err := m.Account(t.Context(), "nobody"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("an account whose name is no address: %v", err)
	}

	reused := stamps.stamp(change{Action: accounts.Suspend, Login: "ben@example.edu"})
	reused.ID = [16]byte{15: 1}
	if err := m.Change(t.Context(), reused); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("an id that another change has used: %v", err)
	}
	if _, err := other.Exec("DELETE FROM route WHERE address = 'ben@example.edu'"); err != nil {
		t.Fatal(err)
	}
	if err := m.Change(t.Context(), stamps.stamp(change{Action: accounts.Suspend, Login: "ben@example.edu"})); err == nil || !strings.Contains(err.Error(), `route "ben@example.edu"`) {
		t.Errorf("a route that is missing is not noticed: %v", err)
	}
	if a, err := m.Account(t.Context(), "ben@example.edu"); err != nil || a.State != routing.Active {
		t.Errorf("a change that failed has left %+v (%v)", a, err)
	}
	if got := m.Stats(); got.Unsettled != 0 {
		t.Errorf("on a whole cluster %+v", got)
	}
}

// TestConcurrentChanges has both SQL nodes change the same few accounts at once.
func TestConcurrentChanges(t *testing.T) {
	c := schematest.Install(t, "accountrace")
	nodes := open(t, c)
	const workers, each, names = 4, 60, 6
	var (
		stamps ids
		kept   = belongings{}
		work   sync.WaitGroup
		mu     sync.Mutex
		counts = map[string]int{}
	)
	for i := range names {
		login := fmt.Sprintf("u%d@example.edu", i)
		create := accounts.Change{Action: accounts.Create, Login: login, Account: accounts.Account{Backend: "cyrus1"}}
		if err := manager(t, nodes).Change(t.Context(), stamps.stamp(create)); err != nil {
			t.Fatal(err)
		}
		kept.prefer(t, nodes[0].DB, login, "origin", login)
		kept.know(t, nodes[0].DB, login, fmt.Sprintf("u%d", i), login)
	}
	for w := range workers {
		// Half of them prefer the first node, half the last one.
		preferred := slices.Clone(nodes)
		if w%2 == 1 {
			slices.Reverse(preferred)
		}
		m := manager(t, preferred)
		work.Go(func() {
			r := newRand(uint64(w))
			for n := range each {
				change := stamps.stamp(randomChange(r, n, names))
				if change.Validate() != nil {
					continue
				}
				verdict, err := accounts.VerdictOf(m.Change(t.Context(), change))
				if err != nil && !errors.Is(err, fs.ErrInvalid) {
					t.Error(err)
				}
				mu.Lock()
				counts[verdict.String()]++
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("verdicts: %v", counts)
	if counts["changed"] == 0 || counts["exists"] == 0 {
		t.Errorf("the changes did not meet each other: %v", counts)
	}
	// Whose each is now the changes have decided; that nothing was lost, parted or
	// left to nobody can be seen.
	world, now := stored(t, nodes[0].DB), readBelongings(t, nodes[0].DB)
	sorted := func(b belongings) (all []string) {
		for _, rows := range b {
			all = append(all, strings.Join(slices.Sorted(slices.Values(rows)), " and "))
		}
		slices.Sort(all)
		return all
	}
	if got, want := sorted(now), sorted(kept); !slices.Equal(got, want) {
		t.Errorf("the webmail's rows are, a line a login\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for login := range now {
		if _, ok := world[login]; !ok {
			t.Errorf("the webmail has rows of %s, who has no account", login)
		}
	}
	whole(t, nodes[0].DB, world, now)
}

// belongings are the rows of the webmail's tables, as one text each without the
// login, by login.
type belongings map[string][]string

// prefer stores a preference of a login's.
func (b belongings) prefer(t *testing.T, db *sql.DB, login, key, value string) {
	t.Helper()
	if err := (preferences.SQL{DB: db}).Set(t.Context(), login, key, value); err != nil {
		t.Fatal(err)
	}
	b[login] = append(b[login], fmt.Sprintf("preference %s %X", key, value))
}

// know stores an entry of a login's address book.
func (b belongings) know(t *testing.T, db *sql.DB, login, nickname, firstName string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "INSERT INTO address (owner, nickname, firstname, label) VALUES (?, ?, ?, ?)",
		[]byte(login), []byte(nickname), []byte(firstName), []byte("of "+nickname)) // bytes: no character set touches them
	if err != nil {
		t.Fatal(err)
	}
	b[login] = append(b[login], fmt.Sprintf("address %X %X %X", nickname, firstName, "of "+nickname))
}

// apply makes a change that was acknowledged.
func (b belongings) apply(c accounts.Change) {
	if rows, ok := b[c.Login]; ok && c.Action == accounts.Rename {
		delete(b, c.Login)
		b[c.NewLogin] = rows
	}
}

func readBelongings(t *testing.T, db *sql.DB) belongings {
	t.Helper()
	b := belongings{}
	read(t, db, "SELECT user, prefkey, HEX(prefval) FROM userprefs", func(c []string) {
		b[c[0]] = append(b[c[0]], "preference "+c[1]+" "+c[2])
	})
	read(t, db, "SELECT owner, HEX(nickname), HEX(firstname), HEX(label) FROM address", func(c []string) {
		b[c[0]] = append(b[c[0]], "address "+c[1]+" "+c[2]+" "+c[3])
	})
	return b
}

// apply makes a change that was acknowledged in the model, which must allow it.
func apply(t *testing.T, world map[string]accounts.Account, c accounts.Change) {
	t.Helper()
	var before *accounts.Account
	if a, ok := world[c.Login]; ok {
		before = &a
	}
	after, err := accounts.Apply(before, c)
	if err != nil {
		t.Errorf("the database has made a change that the model refuses: %v", err)
		return
	}
	delete(world, c.Login)
	world[after.Login] = after
}

// rows are the full tables, one text a row.
func rows(t *testing.T, db *sql.DB) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, table := range []string{"account", "account_address", "route", "account_change", "userprefs", "address"} {
		read(t, db, "SELECT * FROM "+table, func(columns []string) { all[table+": "+strings.Join(columns, "|")]++ })
	}
	return all
}

func read(t *testing.T, db *sql.DB, query string, row func(columns []string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		columns, into := make([]string, len(names)), make([]any, len(names))
		for i := range columns {
			into[i] = &columns[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row(columns)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// stored are all accounts as their own tables have them.
func stored(t *testing.T, db *sql.DB) map[string]accounts.Account {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var logins []string
	read(t, db, "SELECT login FROM account", func(columns []string) { logins = append(logins, columns[0]) })
	world := map[string]accounts.Account{}
	for _, login := range logins {
		a, err := accounts.NewSQL(conn).Account(t.Context(), login)
		if err != nil {
			t.Fatal(err)
		}
		world[login] = a
	}
	return world
}

// whole compares the full tables with what the accounts of the world must have
// there, and with what is kept for a login: no row less, none more.
func whole(t *testing.T, db *sql.DB, world map[string]accounts.Account, kept belongings) {
	t.Helper()
	var wantAccounts, wantAddresses, wantRoutes, gotAccounts, gotAddresses, gotRoutes []string
	list := func(b belongings) (all []string) {
		for login, rows := range b {
			for _, row := range rows {
				all = append(all, fmt.Sprintf("%q %.200s", login, row))
			}
		}
		return all
	}
	flag := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	for login, a := range world {
		wantAccounts = append(wantAccounts, fmt.Sprintf("%q %s %s", login, a.State, a.Backend))
		for _, alias := range a.Aliases {
			wantAddresses = append(wantAddresses, fmt.Sprintf("%q %q", login, alias))
		}
		for _, r := range a.Rows() {
			wantRoutes = append(wantRoutes, fmt.Sprintf("%q %s %s %s %q %s %s %d", r.Address, r.Kind, r.State, r.Backend,
				routing.JoinTargets(r.Targets), flag(r.KeepCopy), flag(!r.NoGreylist), r.Threshold()))
		}
	}
	read(t, db, "SELECT login, state, backend FROM account", func(c []string) {
		gotAccounts = append(gotAccounts, fmt.Sprintf("%q %s %s", c[0], c[1], c[2]))
	})
	read(t, db, "SELECT login, address FROM account_address", func(c []string) {
		gotAddresses = append(gotAddresses, fmt.Sprintf("%q %q", c[0], c[1]))
	})
	read(t, db, "SELECT address, kind, state, backend, targets, keep_copy, greylist, spam_threshold FROM route", func(c []string) {
		gotRoutes = append(gotRoutes, fmt.Sprintf("%q %s %s %s %q %s %s %s", c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]))
	})
	for _, table := range []struct {
		name      string
		got, want []string
	}{
		{"account", gotAccounts, wantAccounts}, {"account_address", gotAddresses, wantAddresses}, {"route", gotRoutes, wantRoutes},
		{"userprefs or address", list(readBelongings(t, db)), list(kept)},
	} {
		slices.Sort(table.got)
		slices.Sort(table.want)
		if slices.Equal(table.got, table.want) {
			continue
		}
		for _, row := range table.got {
			if !slices.Contains(table.want, row) {
				t.Errorf("%s has a row that is no account's: %s", table.name, row)
			}
		}
		for _, row := range table.want {
			if !slices.Contains(table.got, row) {
				t.Errorf("%s lacks a row: %s", table.name, row)
			}
		}
	}
}

// TestTablesRefuse: what does not fit into a column is refused, and nothing is
// stored in its place, whatever the session's sql_mode is.
func TestTablesRefuse(t *testing.T) {
	c := schematest.Install(t, "accountrefuses")
	x := func(n int) []byte { return []byte(strings.Repeat("x", n)) }
	const (
		cut     = 1265 // "Data truncated": what no ENUM has
		outside = 1264 // of the numbers that the type holds
		tooLong = 1406
		check   = 3819
	)
	rows := map[string]map[string]any{
		"account":         {"login": "l", "backend": "b", "created_s": 1, "changed_s": 1},
		"account_address": {"login": "l", "address": "a"},
		"account_change":  {"change_id": x(16), "login": "l", "action": "create", "at_s": 1},
	}
	conn := c.Conn(t, 0)
	for _, r := range []struct {
		table, column string
		value         any
		strict        uint16 // the error in strict mode, 0 for none; else it is check
	}{
		{"account", "login", x(128), 0}, {"account", "login", x(129), check}, {"account", "login", x(300), tooLong}, {"account", "login", "", check},
		{"account", "full_name", x(255), 0}, {"account", "full_name", x(256), check}, {"account", "full_name", x(300), tooLong},
		{"account", "affiliation", x(64), 0}, {"account", "affiliation", x(65), check}, {"account", "affiliation", x(300), tooLong},
		{"account", "state", "moving", 0}, {"account", "state", "frozen", cut}, {"account", "state", "", cut},
		{"account", "backend", x(255), 0}, {"account", "backend", x(256), check}, {"account", "backend", x(300), tooLong}, {"account", "backend", "", check},
		{"account", "moving_to", x(255), 0}, {"account", "moving_to", x(256), check}, {"account", "moving_to", x(300), tooLong},
		{"account", "targets", x(8000), 0}, {"account", "targets", x(8001), check}, {"account", "targets", x(9000), tooLong},
		{"account", "spam_threshold", 100, 0}, {"account", "spam_threshold", 101, check}, {"account", "spam_threshold", 300, outside}, {"account", "spam_threshold", 0, check},
		{"account_address", "login", x(128), 0}, {"account_address", "login", x(129), check}, {"account_address", "login", x(300), tooLong}, {"account_address", "login", "", check},
		{"account_address", "address", x(254), 0}, {"account_address", "address", x(255), check}, {"account_address", "address", x(300), tooLong}, {"account_address", "address", "", check},
		{"account_change", "change_id", x(15), check}, {"account_change", "change_id", x(17), check}, {"account_change", "change_id", x(30), tooLong},
		{"account_change", "login", x(128), 0}, {"account_change", "login", x(129), check}, {"account_change", "login", x(300), tooLong},
		{"account_change", "action", "abort_move", 0}, {"account_change", "action", "wink", cut}, {"account_change", "action", "", cut},
	} {
		for _, mode := range []string{"STRICT_TRANS_TABLES", ""} {
			want := r.strict
			if want != 0 && mode == "" {
				want = check
			}
			what := fmt.Sprintf("%s.%s = %.10q... (%d bytes), sql_mode %q", r.table, r.column, r.value, len(fmt.Sprintf("%s", r.value)), mode)
			row := maps.Clone(rows[r.table])
			row[r.column] = r.value
			columns := slices.Sorted(maps.Keys(row))
			var values []any
			for _, column := range columns {
				values = append(values, row[column])
			}
			for _, statement := range []string{"SET SESSION sql_mode = '" + mode + "'", "DELETE FROM " + r.table} {
				if _, err := conn.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			_, err := conn.ExecContext(t.Context(), "INSERT INTO "+r.table+" ("+strings.Join(columns, ", ")+") VALUES (?"+strings.Repeat(", ?", len(columns)-1)+")", values...)
			var server *mysql.MySQLError
			if want == 0 && err != nil || want != 0 && !(errors.As(err, &server) && server.Number == want) {
				t.Errorf("%s: got %v, want error %d", what, err, want)
			}
			var n int
			if err := conn.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+r.table).Scan(&n); err != nil || (n == 0) != (want != 0) {
				t.Errorf("%s: %d rows are stored (%v)", what, n, err)
			}
		}
	}
}
