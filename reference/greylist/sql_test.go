package greylist_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

func TestCheckReadsTheWholeReply(t *testing.T) {
	row := [][]driver.Value{{"early", int64(17), int64(0)}}
	late := &mysql.MySQLError{Number: 1297, Message: "Got temporary error 4010 'x' from NDBCLUSTER"}
	for _, c := range []struct {
		sentence string
		sets     []schematest.Set
		want     greylist.Answer
		err      error // what the error wraps; nil for any where want has no verdict
	}{
		{"one row is the answer", []schematest.Set{{Rows: row}, {}}, greylist.Answer{Verdict: greylist.Early, Wait: 17 * time.Second}, nil},
		{"an error after the row counts", []schematest.Set{{Rows: row, Err: late}}, greylist.Answer{}, late},
		{"an error after the result set counts", []schematest.Set{{Rows: row}, {Err: late}}, greylist.Answer{}, late},
		{"no row is no answer", []schematest.Set{{}}, greylist.Answer{}, nil},
		{"two rows are none", []schematest.Set{{Rows: append(row, row...)}}, greylist.Answer{}, nil},
		{"two result sets are none", []schematest.Set{{Rows: row}, {Rows: row}}, greylist.Answer{}, nil},
		{"an unknown verdict is none", []schematest.Set{{Rows: [][]driver.Value{{"maybe", int64(0), int64(0)}}}}, greylist.Answer{}, nil},
	} {
		fake := schematest.Fake{Sets: c.sets}
		db := fake.DB()
		got, err := greylist.SQL{DB: db}.Check(t.Context(), request("192.0.2.1", "s", "r", 0))
		if got != c.want || (err == nil) != (c.want.Verdict != greylist.NoAnswer) || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v", c.sentence, got, err)
		}
		db.Close()
	}
}

func TestCheckRefuses(t *testing.T) {
	var fake schematest.Fake
	db := fake.DB()
	defer db.Close()
	_, err := greylist.SQL{DB: db}.Check(t.Context(), request("192.0.2.1", strings.Repeat("s", 513), "r", 0))
	if !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
		t.Errorf("a sender of 513 bytes: got %v after %d queries", err, fake.Queries)
	}
}

// lists compiles the whitelists that the requests are made for.
func lists(t testing.TB) (greylist.Whitelist, *greylist.Matcher) {
	t.Helper()
	var w greylist.Whitelist
	if err := errors.Join(
		w.ReadClients("clients", strings.NewReader(testClients)),
		w.ReadRecipients("recipients", strings.NewReader(testRecipients))); err != nil {
		t.Fatal(err)
	}
	m, err := w.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return w, m
}

// TestProcedure asks the procedure and the decision model the same, request by
// request, and compares what is stored at the end.
func TestProcedure(t *testing.T) {
	whitelist, matcher := lists(t)
	for _, c := range []struct {
		name   string
		change func(*greylist.Policy)
		lists  bool
	}{
		{"default", func(*greylist.Policy) {}, true},
		{"postgrey131", func(p *greylist.Policy) { p.Profile = greylist.Postgrey131 }, false},
		{"options", func(p *greylist.Policy) {
			p.Delay, p.RetryWindow, p.MaxAge = 299*time.Second, time.Hour, 24*time.Hour
			p.AutoWhitelist, p.IPv4Bits, p.IPv6Bits = 2, 32, 128
		}, true},
		{"noauto", func(p *greylist.Policy) { p.AutoWhitelist = 0 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy, m := greylist.DefaultPolicy(), (*greylist.Matcher)(nil)
			c.change(&policy)
			change := func(o *schema.Options) { o.Greylist, o.Whitelist = &policy, &greylist.Whitelist{} }
			if c.lists {
				m = matcher
				change = func(o *schema.Options) { o.Greylist, o.Whitelist = &policy, &whitelist }
			}
			cluster := schematest.Install(t, "greylist_"+c.name, change)
			model := greylist.NewMemory(policy, m)
			var checkers []greylist.SQL
			for i := range cluster.Addresses {
				checkers = append(checkers, greylist.SQL{DB: cluster.Conn(t, i)})
			}
			answers := map[greylist.Verdict]int{}
			source := newRequests(1, 0)
			for i := range 3000 {
				r := source.next()
				want, err := model.Check(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				got, err := checkers[i%len(checkers)].Check(t.Context(), r)
				if err != nil || got != want {
					t.Fatalf("request %d, %+v: got %v (%v), want %v", i, r, got, err, want)
				}
				answers[want.Verdict]++
			}
			compare(t, cluster, model)
			t.Logf("answers: %v, %d rows", answers, len(model.Rows))
			for _, v := range []greylist.Verdict{greylist.New, greylist.Early, greylist.Pass} {
				if answers[v] < 100 {
					t.Errorf("%v was met only %d times: it proves little", v, answers[v])
				}
			}
			if (answers[greylist.AutoWhitelisted] > 0) != (policy.AutoWhitelist > 0) || (answers[greylist.ClientListed] > 20 && answers[greylist.RecipientListed] > 20) != c.lists {
				t.Errorf("the whitelists were not met as they should: %v", answers)
			}

			for _, later := range []time.Duration{0, policy.RetryWindow, policy.MaxAge} {
				now := time.Unix(source.base, 0).Add(later)
				before := len(model.Rows)
				want := model.Expire(now.Unix())
				got, err := checkers[0].Expire(t.Context(), now, 100)
				if err != nil || got != int64(want) {
					t.Errorf("%v later: %d of %d rows are forgotten, want %d (%v)", later, got, before, want, err)
				}
				compare(t, cluster, model)
			}
		})
	}
}

// compare compares everything that is stored with the model.
func compare(t *testing.T, c schematest.Cluster, model *greylist.Memory) {
	t.Helper()
	rows, err := c.Admins[0].DB.Query("SELECT k, first_seen, last_seen, credits FROM " + c.Options.Database + ".greylist")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var k []byte
		s := greylist.State{Seen: true}
		if err := rows.Scan(&k, &s.First, &s.Last, &s.Credits); err != nil {
			t.Fatal(err)
		}
		if want := model.Rows[greylist.Key(k)]; s != want {
			t.Errorf("%x is stored as %+v, want %+v", k, s, want)
		}
		n++
	}
	if err := rows.Err(); err != nil || n != len(model.Rows) {
		t.Errorf("%d rows are stored, want %d (%v)", n, len(model.Rows), err)
	}
}

// TestRace has MTAs ask about the same new triplets at once through different
// SQL nodes: no one may see an error, and one row must remain.
func TestRace(t *testing.T) {
	c := schematest.Install(t, "race")
	const rounds, each = 300, 2
	var conns []*sql.Conn
	for i := range each * len(c.Addresses) {
		conns = append(conns, c.Conn(t, i%len(c.Addresses)))
	}
	both := 0
	for round := range rounds {
		var (
			start   = make(chan struct{})
			workers sync.WaitGroup
			answers = make([]greylist.Answer, len(conns))
			errs    = make([]error, len(conns))
			r       = request("192.0.2.1", "s@example.org", fmt.Sprintf("r%d@example.edu", round), 1000)
		)
		for i, conn := range conns {
			workers.Go(func() {
				<-start
				answers[i], errs[i] = greylist.SQL{DB: conn}.Check(t.Context(), r)
			})
		}
		close(start)
		workers.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		fresh := 0
		for _, a := range answers {
			if !a.Verdict.Defers() {
				t.Fatalf("round %d: a first question was answered %v", round, a)
			}
			if a.Verdict == greylist.New {
				fresh++
			}
		}
		if fresh == 0 {
			t.Fatalf("round %d: nobody was the first: %v", round, answers)
		}
		if fresh > 1 {
			both++
		}
		want := greylist.State{Seen: true, First: 1000, Last: 1000}
		if got := stored(t, c, keyOf(r)); got != want {
			t.Fatalf("round %d: stored as %v, want %v", round, got, want)
		}
	}
	t.Logf("in %d of %d rounds several questions found no row", both, rounds)
}

func keyOf(r greylist.Request) greylist.Key {
	return greylist.DefaultPolicy().TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
}

// TestErrorReachesCaller makes a question wait for a row lock until the data
// nodes end its transaction, which happens at its commit.
func TestErrorReachesCaller(t *testing.T) {
	c := schematest.Install(t, "errors")
	conn, other := c.Conn(t, 0), c.Conn(t, len(c.Addresses)-1)
	r := request("192.0.2.1", "s", "r", 1000)
	if _, err := (greylist.SQL{DB: conn}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	key := keyOf(r)
	lock, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec("UPDATE greylist SET last_seen = last_seen + 1 WHERE k = ?", key[:]); err != nil {
		t.Fatal(err)
	}
	r.Now = at(1300)
	_, err = greylist.SQL{DB: conn}.Check(t.Context(), r)
	if result := ndberr.Classify(err); result.MySQL != 1205 || result.Class != ndberr.LockTimeout {
		t.Errorf("a row lock that is not let go: got %+v (%v)", result, err)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got, want := stored(t, c, key), (greylist.State{Seen: true, First: 1000, Last: 1000}); got != want {
		t.Errorf("a failed question left %v, want %v", got, want)
	}
	// The connection is not poisoned, nor is a transaction left open on it.
	if a, err := (greylist.SQL{DB: conn}).Check(t.Context(), r); err != nil || a.Verdict != greylist.Pass {
		t.Errorf("the next question: got %v, %v", a, err)
	}
}

// TestProcedureRefuses calls past the Go client, as an MTA would.
func TestProcedureRefuses(t *testing.T) {
	c := schematest.Install(t, "refuses")
	conn := c.Conn(t, 0)
	name, long := strings.Repeat("n", greylist.MaxClientName), strings.Repeat("s", greylist.MaxAddress)
	for _, bad := range []struct {
		sentence string
		call     string
		args     []any
		number   uint16
	}{
		{"a sender that is too long is not cut", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", long + "s", "r", 1}, 1406},
		{"nor one that is longer still", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", long + "ss", "r", 1}, 1406},
		{"nor is a recipient", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", "s", long + "s", 1}, 1406},
		{"nor is a client's name", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", name + "n", "s", "r", 1}, 1406},
		{"a client must be an address", "greylist_check(?, ?, ?, ?, ?)", []any{"mx.example.org", "", "s", "r", 1}, 1411},
		{"with no zone", "greylist_check(?, ?, ?, ?, ?)", []any{"fe80::1%eth0", "", "s", "r", 1}, 1411},
		{"and nothing behind it", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1\x00", "", "s", "r", 1}, 1411},
		{"an empty client is none", "greylist_check(?, ?, ?, ?, ?)", []any{"", "", "s", "r", 1}, 1411},
		{"a client must be given", "greylist_check(?, ?, ?, ?, ?)", []any{nil, "", "s", "r", 1}, 1411},
		{"so must a name, if only an empty one", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", nil, "s", "r", 1}, 1048},
		{"and a sender", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", nil, "r", 1}, 1048},
		{"a time must fit its column", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", "s", "r", -1}, 1264},
		{"at both ends", "greylist_check(?, ?, ?, ?, ?)", []any{"192.0.2.1", "", "s", "r", int64(1) << 32}, 1264},
		{"maintenance takes a time", "greylist_expire(?, ?)", []any{-1, 500}, 1264},
		{"and a batch", "greylist_expire(?, ?)", []any{1, 0}, 1264},
		{"that is not too large", "greylist_expire(?, ?)", []any{1, greylist.MaxExpireBatch + 1}, 1264},
	} {
		_, err := conn.ExecContext(t.Context(), "CALL "+bad.call, bad.args...)
		var server *mysql.MySQLError
		if !errors.As(err, &server) || server.Number != bad.number {
			t.Errorf("%s: got %v, want error %d", bad.sentence, err, bad.number)
		}
	}
	var rows int
	if err := conn.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM greylist").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows are stored by refused questions (%v)", rows, err)
	}

	// What is as long as can be is taken, and every spelling of an address is one.
	for i, client := range []string{"2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::0.0.0.1"} {
		var verdict string
		var wait, delayed int64
		err := conn.QueryRowContext(t.Context(), "CALL greylist_check(?, ?, ?, ?, ?)", client, name, long, long, 1000+i).Scan(&verdict, &wait, &delayed)
		if want := map[bool]string{true: "new", false: "early"}[i == 0]; err != nil || verdict != want {
			t.Errorf("%s: got %s, want %s (%v)", client, verdict, want, err)
		}
	}
}

// TestSessionStaysAsItWas holds that the caller's own setting survives, whatever
// becomes of the question.
func TestSessionStaysAsItWas(t *testing.T) {
	conn := schematest.Install(t, "greylist_session").Conn(t, 0)
	for _, want := range []bool{false, true} {
		if _, err := conn.ExecContext(t.Context(), fmt.Sprintf("SET SESSION transaction_allow_batching = %t", want)); err != nil {
			t.Fatal(err)
		}
		for _, client := range []string{"192.0.2.1", "no address"} {
			_, asked := conn.ExecContext(t.Context(), "CALL greylist_check(?, '', 's', 'r', 1000)", client)
			var batching bool
			if err := conn.QueryRowContext(t.Context(), "SELECT @@SESSION.transaction_allow_batching").Scan(&batching); err != nil || batching != want {
				t.Errorf("after %s (%v) the session batches: %t, want %t (%v)", client, asked, batching, want, err)
			}
		}
	}
}

// TestLaxSQLMode installs the procedures as an administrator's client might, with
// a sql_mode that cuts what is too long.
func TestLaxSQLMode(t *testing.T) {
	c := schematest.Install(t, "laxmode")
	conn := c.Conn(t, 0)
	var name, create, unused string
	if err := conn.QueryRowContext(t.Context(), "SHOW CREATE PROCEDURE greylist_check").Scan(&name, &unused, &create, &unused, &unused, &unused); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET SESSION sql_mode = ''", "DROP PROCEDURE greylist_check", create} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []struct {
		args   []any
		number uint16
	}{
		{[]any{"192.0.2.1", "", strings.Repeat("s", 600), "r"}, 1406},
		{[]any{"192.0.2.1", strings.Repeat("n", 600), "s", "r"}, 1406},
		{[]any{"192.0.2.1 and more than forty-six bytes of other text", "", "s", "r"}, 1411},
	} {
		_, err := conn.ExecContext(t.Context(), "CALL greylist_check(?, ?, ?, ?, 1)", bad.args...)
		var server *mysql.MySQLError
		if !errors.As(err, &server) || server.Number != bad.number {
			t.Errorf("%.40q: got %v, want error %d", bad.args, err, bad.number)
		}
	}
}

func TestOneResultSet(t *testing.T) {
	c := schematest.Install(t, "results")
	rows, err := c.Conn(t, 0).QueryContext(t.Context(), "CALL greylist_check('192.0.2.1', '', 's', 'r', 1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var sets []string
	for {
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for rows.Next() {
			n++
		}
		if len(columns) > 0 { // the end of a CALL is a set without columns
			sets = append(sets, fmt.Sprintf("%s: %d", strings.Join(columns, ","), n))
		}
		if !rows.NextResultSet() {
			break
		}
	}
	if err := rows.Err(); err != nil || fmt.Sprint(sets) != "[verdict,wait_s,delayed_s: 1]" {
		t.Errorf("the result sets are %q (%v)", sets, err)
	}
}

func request(client, sender, recipient string, now int64) greylist.Request {
	return greylist.Request{Client: netip.MustParseAddr(client), Sender: sender, Recipient: recipient, Now: at(now)}
}

func at(second int64) time.Time { return time.Unix(second, 0).UTC() }

func stored(t *testing.T, c schematest.Cluster, key greylist.Key) greylist.State {
	t.Helper()
	s := greylist.State{Seen: true}
	err := c.Admins[0].DB.QueryRowContext(context.Background(),
		"SELECT first_seen, last_seen, credits FROM "+c.Options.Database+".greylist WHERE k = ?", key[:]).Scan(&s.First, &s.Last, &s.Credits)
	if err != nil {
		t.Fatalf("row %x: %v", key, err)
	}
	return s
}
