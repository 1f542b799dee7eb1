package greylist_test

import (
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// BenchmarkPrice times every kind of decision on one connection in turn with a
// SELECT by primary key on the same connection, and reports the median of each
// and its multiple of the SELECT's. A connection keeps the procedures that it
// has used; what the first question of a connection costs, as an MTA asks it that
// connects for each message, is reported beside it as first-.
func BenchmarkPrice(b *testing.B) {
	c := schematest.Install(b, "bench_price")
	conn := c.Conn(b, 0)
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	auto := netip.MustParseAddr("192.0.2.9")
	if err := loader.LoadClients(b.Context(), []greylist.ClientRow{{Client: auto, Credits: 5, First: at(1), Last: at(1_000_000)}}); err != nil {
		b.Fatal(err)
	}
	if err := loader.LoadRoutes(b.Context(), []routing.Row{{Address: "a@example.edu", Backend: "cyrus1"}}); err != nil {
		b.Fatal(err)
	}
	n := 0
	ask := func(client, recipient string, now int64, want greylist.Verdict) func(*sql.Conn) {
		r := request(client, "sender-7@example.org", recipient, now)
		return func(conn *sql.Conn) {
			request := r
			if recipient == "" {
				request.Recipient = fmt.Sprintf("r%d@example.edu", n)
			}
			a, err := greylist.SQL{DB: conn}.Check(b.Context(), request)
			if err != nil || a.Verdict != want {
				b.Fatalf("%+v: %v, want %v (%v)", request, a.Verdict, want, err)
			}
		}
	}
	kinds := []struct {
		name string
		do   func(*sql.Conn)
	}{
		{"select", func(conn *sql.Conn) {
			var backend string
			if err := conn.QueryRowContext(b.Context(), "SELECT backend FROM route WHERE address = ?", []byte("a@example.edu")).Scan(&backend); err != nil {
				b.Fatal(err)
			}
		}},
		{"listed", ask("192.0.2.1", "postmaster@x", 1_000_000, greylist.RecipientListed)},
		{"auto", ask("192.0.2.9", "r@x", 1_000_001, greylist.AutoWhitelisted)},
		{"new", ask("192.0.2.1", "", 1_000_000, greylist.New)},
		{"early", ask("192.0.2.1", "", 1_000_001, greylist.Early)},
		{"pass", ask("192.0.2.1", "", 1_000_301, greylist.Pass)},
		{"again", ask("192.0.2.1", "", 1_000_302, greylist.Pass)},
	}
	times := make([][]time.Duration, 2*len(kinds)) // on a warm connection, and on new ones
	timed := func(i int, conn *sql.Conn, do func(*sql.Conn)) {
		start := time.Now()
		do(conn)
		times[i] = append(times[i], time.Since(start))
	}
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	db.SetMaxIdleConns(0) // each connection is a new one
	for b.Loop() {
		n++
		for i, k := range kinds {
			timed(i, conn, k.do)
		}
		if n%20 == 0 {
			n++ // another triplet
			for i, k := range kinds {
				fresh, err := db.Conn(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				timed(len(kinds)+i, fresh, k.do)
				if err := fresh.Close(); err != nil {
					b.Fatal(err)
				}
			}
		}
		// The client must not be whitelisted by its own success.
		if _, err := conn.ExecContext(b.Context(), "DELETE FROM greylist WHERE k = ?", keyOfClient("192.0.2.1")); err != nil {
			b.Fatal(err)
		}
	}
	median := func(i int) float64 {
		if len(times[i]) == 0 { // fewer than 20 rounds
			return 0
		}
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2].Microseconds())
	}
	unit := median(0)
	for i, k := range kinds {
		b.ReportMetric(median(i), k.name+"-µs")
		if i > 0 {
			b.ReportMetric(median(i)/unit, k.name+"/select")
		}
		b.ReportMetric(median(len(kinds)+i), "first-"+k.name+"-µs")
	}
	b.ReportMetric(0, "ns/op")
}

func keyOfClient(client string) []byte {
	k := greylist.ClientKey(netip.MustParseAddr(client))
	return k[:]
}

// BenchmarkTripletMemory reports what a triplet takes of each data node's
// memory, hash and ordered index included, by ndbinfo.memoryusage before and
// after so many are loaded. Nothing else may use the cluster meanwhile.
func BenchmarkTripletMemory(b *testing.B) {
	const rows = 400_000
	c := schematest.Install(b, "bench_memory")
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	used := func() (bytes float64) {
		err := c.Admins[0].DB.QueryRow("SELECT AVG(used) FROM ndbinfo.memoryusage WHERE memory_type LIKE 'Data memory'").Scan(&bytes)
		if err != nil {
			b.Fatal(err)
		}
		return bytes
	}
	before := used()
	batch := make([]greylist.Row, 0, 5000)
	for i := range rows {
		batch = append(batch, greylist.Row{
			Client: netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), Sender: "s@example.org",
			Recipient: fmt.Sprintf("r%d@example.edu", i), First: at(1), Last: at(1),
		})
		if len(batch) == cap(batch) {
			if err := loader.LoadTriplets(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	b.ReportMetric((used()-before)/rows, "B/triplet")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBesidePostgrey asks the procedure and Debian's Postgrey, data on disk,
// the same requests on the same machine, in turns of a second or so each, and
// reports the decisions a second of both.
func BenchmarkBesidePostgrey(b *testing.B) {
	whitelist, _ := lists(b)
	for _, connections := range []int{1, 8} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			c := schematest.Install(b, fmt.Sprintf("bench_peer%d", connections), func(o *schema.Options) { o.Whitelist = &whitelist })
			oracle := startPostgrey(b, testClients, testRecipients)
			var calls, asks []func(greylist.Request) error
			var sources [2][]*requests // the same ones for both
			for i := range connections {
				checker, peer := greylist.SQL{DB: c.Conn(b, i%len(c.Addresses))}, oracle.connect(b)
				calls = append(calls, func(r greylist.Request) error {
					_, err := checker.Check(b.Context(), r)
					return err
				})
				asks = append(asks, func(r greylist.Request) error {
					_, _, _, err := peer.check(r)
					return err
				})
				for s := range sources {
					sources[s] = append(sources[s], newRequests(1, byte(i)))
				}
			}
			const each = 500 // requests of a connection in a turn
			turn := func(do []func(greylist.Request) error, from []*requests) time.Duration {
				var work errgroup.Group
				start := time.Now()
				for i := range do {
					work.Go(func() error {
						for range each {
							if err := do[i](from[i].next()); err != nil {
								return err
							}
						}
						return nil
					})
				}
				if err := work.Wait(); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			var ours, theirs time.Duration
			turns := 0
			for b.Loop() {
				ours += turn(calls, sources[0])
				theirs += turn(asks, sources[1])
				turns++
			}
			n := float64(turns * each * connections)
			b.ReportMetric(n/ours.Seconds(), "CALLs/s")
			b.ReportMetric(n/theirs.Seconds(), "Postgrey/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
