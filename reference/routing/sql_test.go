package routing_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestRouteRefuses(t *testing.T) {
	var fake schematest.Fake
	db := fake.DB()
	defer db.Close()
	for _, c := range []struct{ sentence, address string }{
		{"nothing is no address", ""},
		{"a domain is needed", "postmaster"},
		{"a domain is needed after the @", "a@"},
		{"a local part is needed", "@example.edu"},
		{"NUL is refused", "a\x00b@example.edu"},
		{"a line end is refused", "a\n@example.edu"},
		{"255 bytes are too many", strings.Repeat("a", 255-len("@example.edu")) + "@example.edu"},
	} {
		if _, err := (routing.SQL{DB: db}).Route(t.Context(), c.address); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: got %v after %d queries", c.sentence, err, fake.Queries)
		}
	}
}

func TestRouteReadsTheWholeReply(t *testing.T) {
	lost := errors.New("lost")
	fake := schematest.Fake{Sets: []schematest.Set{{Rows: [][]driver.Value{{"mailbox", "active", "cyrus1", "", int64(1), int64(1), int64(70)}}, Err: lost}}}
	db := fake.DB()
	defer db.Close()
	if answer, err := (routing.SQL{DB: db}).Route(t.Context(), "a@example.edu"); !errors.Is(err, lost) {
		t.Errorf("an error after the row is lost: got %v, %v", answer, err)
	}
}

func TestRouteRefusesRowsOfTheFuture(t *testing.T) {
	for _, c := range []struct{ kind, state string }{{"mailbox", "frozen"}, {"robot", "active"}, {"", "active"}} {
		row := []driver.Value{[]byte(c.kind), []byte(c.state), "cyrus1", []byte(""), int64(1), int64(1), int64(70)}
		fake := schematest.Fake{Sets: []schematest.Set{{Rows: [][]driver.Value{row}}}}
		db := fake.DB()
		defer db.Close()
		if answer, err := (routing.SQL{DB: db}).Route(t.Context(), "a@example.edu"); err == nil || answer.Verdict != routing.NoAnswer {
			t.Errorf("kind %q and state %q are %v", c.kind, c.state, answer)
		}
	}
}

func TestRoute(t *testing.T) {
	c := schematest.Install(t, "routing")
	longest := strings.Repeat("a", 254-len("@example.edu")) + "@example.edu"
	stored := []string{"a@example.edu", longest, `o'b"r\ien@example.edu`, "' or 1=1 -- @example.edu", "\xff\xfe\xe9@example.edu", "é@example.edu"}
	rows := slices.Clone(someRows)
	for _, address := range stored[1:] {
		rows = append(rows, routing.Row{Address: address, Backend: "cyrus1.example.edu"})
	}
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	if err := loader.LoadRoutes(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	found := routing.Answer{Verdict: routing.Local, Backend: "cyrus1.example.edu", Greylist: true, SpamThreshold: 70}
	a := answers[0].want
	unknown := routing.Answer{Verdict: routing.Unknown}
	foreign := routing.Answer{Verdict: routing.Foreign}
	asked := map[string]routing.Answer{
		"A@Example.EDU":           a, // case does not matter
		"b@example.edu":           unknown,
		"a@example.edu ":          foreign, // nor are blanks ignored
		"é\xff@example.edu":       unknown,
		"É@example.edu":           unknown, // only ASCII is lowered
		"x' or '1'='1@":           {},      // refused
		`\' or 1=1 -- @a`:         foreign,
		"% or a@example.edu":      unknown,
		"\xbf' or 1=1 -- @x":      foreign, // half a character before the quote
		"?' or address like '%@x": foreign,
	}
	for _, address := range stored[1:] {
		asked[address] = found
	}
	for _, c := range answers { // the decision model and the SQL client agree
		asked[c.address] = c.want
	}
	for i, node := range c.Admins {
		db := sqlnode.Open(c.Addresses[i], c.Account)
		defer db.Close()
		for address, want := range asked {
			got, err := routing.SQL{DB: db}.Route(t.Context(), address)
			if !reflect.DeepEqual(got, want) || (err != nil) != (want.Verdict == routing.NoAnswer) {
				t.Errorf("%s routes %q to %+v, want %+v (%v)", node.Name, address, got, want, err)
			}
		}
	}

	// Resolved through a SQL node step by step is resolved by the model.
	db := sqlnode.Open(c.Addresses[len(c.Addresses)-1], c.Account)
	defer db.Close()
	for _, row := range someRows {
		if row.Kind == routing.Domain {
			continue
		}
		want := routing.Resolve(row.Address, table(someRows))
		if got := resolveBySQL(t, routing.SQL{DB: db}, row.Address); !slices.Equal(got, want.Deliveries) {
			t.Errorf("%s is delivered to %v, want %v", row.Address, got, want.Deliveries)
		}
	}
}

// resolveBySQL does what Resolve does, by the answers of a Router.
func resolveBySQL(t *testing.T, router routing.SQL, address string) (deliveries []routing.Delivery) {
	seen := map[string]bool{}
	for level := []string{address}; len(level) > 0; {
		at := level[0]
		level = level[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		answer, err := router.Route(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Backend != "" {
			deliveries = append(deliveries, routing.Delivery{Address: at, Backend: answer.Backend, SpamThreshold: answer.SpamThreshold})
		}
		level = append(level, answer.Targets...)
	}
	return deliveries
}

// BenchmarkRoute asks a real SQL node for addresses of 20,000 accounts and for
// unknown ones, on one connection and on 16 at once.
func BenchmarkRoute(b *testing.B) {
	c := schematest.Install(b, "routebench")
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	const accounts = 20_000
	var known, unknown []string
	rows := []routing.Row{routing.DomainRow("example.edu")}
	for i := range accounts {
		known = append(known, fmt.Sprintf("user%06d@example.edu", i))
		unknown = append(unknown, fmt.Sprintf("nobody%06d@example.edu", i))
		rows = append(rows, routing.Row{Address: known[i], Backend: fmt.Sprintf("cyrus%d", i%10)})
	}
	if err := loader.LoadRoutes(b.Context(), rows); err != nil {
		b.Fatal(err)
	}
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	for _, bench := range []struct {
		name        string
		connections int
		addresses   []string
		want        routing.Verdict
	}{
		{"known/1", 1, known, routing.Local},
		{"known/16", 16, known, routing.Local},
		{"unknown/1", 1, unknown, routing.Unknown},
		{"unknown/16", 16, unknown, routing.Unknown},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var routers []routing.SQL
			for range bench.connections {
				conn, err := db.Conn(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				routers = append(routers, routing.SQL{DB: conn})
			}
			b.ReportAllocs()
			b.ResetTimer()
			var (
				asked atomic.Int64
				work  sync.WaitGroup
			)
			for _, router := range routers {
				work.Go(func() {
					for {
						n := asked.Add(1)
						if n > int64(b.N) {
							return
						}
						address := bench.addresses[n*7919%accounts] // not in the order of their load
						answer, err := router.Route(b.Context(), address)
						if err != nil || answer.Verdict != bench.want {
							b.Errorf("%s: got %v (%v)", address, answer, err)
							return
						}
					}
				})
			}
			work.Wait()
		})
	}
}

// TestTableRefuses: what does not fit into a column is refused, and nothing is
// stored in its place, whatever the session's sql_mode is.
func TestTableRefuses(t *testing.T) {
	c := schematest.Install(t, "routerefuses")
	conn := c.Conn(t, 0)
	x := func(n int) []byte { return []byte(strings.Repeat("x", n)) }
	const (
		cut     = 1265 // "Data truncated": what no ENUM has
		outside = 1264 // of the numbers that the type holds
		tooLong = 1406
		check   = 3819
	)
	for _, r := range []struct {
		sentence string
		column   string
		value    any
		strict   uint16 // the error in strict mode, 0 for none; else it is check
	}{
		{"254 bytes are an address", "address", x(254), 0},
		{"255 bytes are no address", "address", x(255), check},
		{"nor are 300", "address", x(300), tooLong},
		{"nor is nothing", "address", "", check},
		{"there are four kinds", "kind", "robot", cut},
		{"nothing is no kind", "kind", "", cut},
		{"there are four states", "state", "frozen", cut},
		{"nothing is no state", "state", "", cut},
		{"255 bytes may be a backend", "backend", x(255), 0},
		{"256 bytes may not", "backend", x(256), check},
		{"nor may 300", "backend", x(300), tooLong},
		{"8000 bytes of targets", "targets", x(8000), 0},
		{"8001 bytes of targets", "targets", x(8001), check},
		{"9000 bytes of targets", "targets", x(9000), tooLong},
		{"a threshold may be 100", "spam_threshold", 100, 0},
		{"a threshold is not 101", "spam_threshold", 101, check},
		{"a threshold is not 300", "spam_threshold", 300, outside},
		{"a threshold is not 0", "spam_threshold", 0, check},
	} {
		for _, mode := range []string{"STRICT_TRANS_TABLES", ""} {
			want := r.strict
			if want != 0 && mode == "" {
				want = check
			}
			do := func(statement string, args ...any) error {
				_, err := conn.ExecContext(t.Context(), statement, args...)
				return err
			}
			if err := errors.Join(do("SET SESSION sql_mode = '"+mode+"'"), do("DELETE FROM route"), do("INSERT INTO route (address, backend) VALUES ('b@x', 'b')")); err != nil {
				t.Fatal(err)
			}
			insert := "INSERT INTO route (address, " + r.column + ") VALUES ('a@x', ?)"
			if r.column == "address" {
				insert = "INSERT INTO route (address) VALUES (?)"
			}
			// The row of the same address is there by then, if it is one.
			for _, statement := range []string{insert, "UPDATE route SET " + r.column + " = ? WHERE address = 'b@x'"} {
				err := do(statement, r.value)
				var server *mysql.MySQLError
				if want == 0 && err != nil && !(statement != insert && r.column == "address") || want != 0 && !(errors.As(err, &server) && server.Number == want) {
					t.Errorf("%s, sql_mode %q: %s: got %v, want error %d", r.sentence, mode, statement, err, want)
				}
			}
			var rows, whole int
			err := conn.QueryRowContext(t.Context(), "SELECT COUNT(*), SUM(address = 'b@x' AND backend = 'b' AND kind = 'mailbox' AND state = 'active' AND targets = '' AND spam_threshold = 70) FROM route").Scan(&rows, &whole)
			if err != nil || want != 0 && (rows != 1 || whole != 1) {
				t.Errorf("%s, sql_mode %q: what was refused has left %d rows, %d as they were (%v)", r.sentence, mode, rows, whole, err)
			}
		}
	}
}
