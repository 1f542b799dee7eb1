package greylist_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestCheckReadsTheWholeReply(t *testing.T) {
	row := [][]driver.Value{{"early", int64(17)}}
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
		{"an unknown verdict is none", []schematest.Set{{Rows: [][]driver.Value{{"maybe", int64(0)}}}}, greylist.Answer{}, nil},
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

// TestProcedure asks the procedure and the decision model the same, in a random
// walk over a few triplets and the times that matter.
func TestProcedure(t *testing.T) {
	c := schematest.Install(t, "greylist")
	var checkers []greylist.SQL
	for i := range c.Addresses {
		checkers = append(checkers, greylist.SQL{DB: pinned(t, c, i)})
	}
	var (
		random    = rand.New(rand.NewPCG(1, 2))
		pick      = func(list ...string) string { return list[random.IntN(len(list))] }
		near      = []int64{0, 0, 1, 1, 10, 50, -1, -10, 100, 249, 299, 300, 301}
		far       = []int64{-300, 86_400, 172_799, 172_800, 172_801, 1_000_000}
		states    = map[greylist.Key]greylist.State{}
		answers   = map[greylist.Verdict]int{}
		now       = int64(10_000_000)
		everyByte []byte
	)
	for b := ' '; b < 256; b++ {
		if b != 0x7f {
			everyByte = append(everyByte, byte(b))
		}
	}
	for i := range 600 {
		if random.IntN(15) == 0 {
			now += far[random.IntN(len(far))]
		} else {
			now += near[random.IntN(len(near))]
		}
		r := request(
			pick("192.0.2.1", "192.0.2.2", "2001:db8::1"),
			pick("", "S@example.org", "s@EXAMPLE.org", string(everyByte)),
			// What has passed passes for ever: new ones keep coming.
			fmt.Sprintf("o'br\\ien\"`/é%d@example.edu", i/30), now)
		key := greylist.KeyOf(r.Client, r.Sender, r.Recipient)
		want, after := greylist.Decide(states[key], r, greylist.DefaultPolicy())
		got, err := checkers[random.IntN(len(checkers))].Check(t.Context(), r)
		if err != nil || got != want {
			t.Fatalf("%+v after %v: got %v (%v), want %v", r, states[key], got, err, want)
		}
		states[key] = after
		answers[want.Verdict]++
	}
	for key, want := range states {
		if got := stored(t, c, key); got != want {
			t.Errorf("%x is stored as %v, want %v", key, got, want)
		}
	}
	var rows int
	if err := c.Admins[0].DB.QueryRow("SELECT COUNT(*) FROM " + c.Options.Database + ".greylist").Scan(&rows); err != nil || rows != len(states) {
		t.Errorf("%d rows are stored, want %d (%v)", rows, len(states), err)
	}
	t.Logf("answers: %v", answers)
	for _, v := range []greylist.Verdict{greylist.New, greylist.Early, greylist.Pass} {
		if answers[v] < 20 {
			t.Errorf("the walk met %v only %d times: it proves little", v, answers[v])
		}
	}
}

// TestRace has MTAs ask about the same new triplets at once through different
// SQL nodes: no one may see an error, and one row must remain.
func TestRace(t *testing.T) {
	c := schematest.Install(t, "race")
	const rounds, each = 150, 2
	var conns []*sql.Conn
	for i := range each * len(c.Addresses) {
		conns = append(conns, pinned(t, c, i%len(c.Addresses)))
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
		want := greylist.State{First: at(1000), Last: at(1000)}
		if got := stored(t, c, greylist.KeyOf(r.Client, r.Sender, r.Recipient)); got != want {
			t.Fatalf("round %d: stored as %v, want %v", round, got, want)
		}
	}
	t.Logf("in %d of %d rounds several questions found no row", both, rounds)
}

// TestRoundTrips reports what a verdict costs, and holds the procedure to it.
func TestRoundTrips(t *testing.T) {
	c := schematest.Install(t, "trips")
	conn := pinned(t, c, 0)
	trips := func() (n int) {
		t.Helper()
		var name string
		err := conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Ndb_api_wait_exec_complete_count_session'").Scan(&name, &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ask := func(now int64) greylist.Answer {
		t.Helper()
		a, err := greylist.SQL{DB: conn}.Check(t.Context(), request("192.0.2.1", "s", "r", now))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ask(10) // opens the table
	for _, now := range []int64{1_000_000, 1_000_001, 1_000_300} {
		before := trips()
		a := ask(now)
		n := trips() - before
		t.Logf("%v: %d round trips to the data nodes", a.Verdict, n)
		if n > 3 {
			t.Errorf("%v takes %d round trips, want 3: read, write, commit", a.Verdict, n)
		}
	}
}

// TestErrorReachesCaller makes a question wait for a row lock until the data
// nodes end its transaction.
func TestErrorReachesCaller(t *testing.T) {
	c := schematest.Install(t, "errors")
	conn, other := pinned(t, c, 0), pinned(t, c, len(c.Addresses)-1)
	r := request("192.0.2.1", "s", "r", 1000)
	if _, err := (greylist.SQL{DB: conn}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	key := greylist.KeyOf(r.Client, r.Sender, r.Recipient)
	lock, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec("UPDATE greylist SET last_seen = last_seen + 1 WHERE triplet = ?", key[:]); err != nil {
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
	if got, want := stored(t, c, key), (greylist.State{First: at(1000), Last: at(1000)}); got != want {
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
	conn := pinned(t, c, 0)
	long := strings.Repeat("s", greylist.MaxAddress+1)
	for _, bad := range []struct {
		sentence string
		args     []any
		number   uint16
	}{
		{"a sender that is too long is not cut", []any{"192.0.2.1", long, "r", 1}, 1406},
		{"nor is a recipient", []any{"192.0.2.1", "s", long, 1}, 1406},
		{"a client must be an address", []any{"mx.example.org", "s", "r", 1}, 1411},
		{"a client must be given", []any{nil, "s", "r", 1}, 1048},
		{"a time must fit its column", []any{"192.0.2.1", "s", "r", -1}, 1264},
	} {
		_, err := conn.ExecContext(t.Context(), "CALL greylist_check(?, ?, ?, ?)", bad.args...)
		var server *mysql.MySQLError
		if !errors.As(err, &server) || server.Number != bad.number {
			t.Errorf("%s: got %v, want error %d", bad.sentence, err, bad.number)
		}
	}
	var rows int
	if err := conn.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM greylist").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows are stored by refused questions (%v)", rows, err)
	}
}

func TestOneResultSet(t *testing.T) {
	c := schematest.Install(t, "results")
	rows, err := pinned(t, c, 0).QueryContext(t.Context(), "CALL greylist_check('192.0.2.1', 's', 'r', 1000)")
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
	if err := rows.Err(); err != nil || fmt.Sprint(sets) != "[verdict,wait_s: 1]" {
		t.Errorf("the result sets are %q (%v)", sets, err)
	}
}

func request(client, sender, recipient string, now int64) greylist.Request {
	return greylist.Request{Client: netip.MustParseAddr(client), Sender: sender, Recipient: recipient, Now: at(now)}
}

// pinned is one connection to one SQL node.
func pinned(t *testing.T, c schematest.Cluster, node int) *sql.Conn {
	t.Helper()
	db := sqlnode.Open(c.Addresses[node], c.Account)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func stored(t *testing.T, c schematest.Cluster, key greylist.Key) greylist.State {
	t.Helper()
	var first, last int64
	err := c.Admins[0].DB.QueryRowContext(context.Background(),
		"SELECT first_seen, last_seen FROM "+c.Options.Database+".greylist WHERE triplet = ?", key[:]).Scan(&first, &last)
	if err != nil {
		t.Fatalf("triplet %x: %v", key, err)
	}
	return greylist.State{First: at(first), Last: at(last)}
}
