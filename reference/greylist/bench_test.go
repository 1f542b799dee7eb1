package greylist_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// BenchmarkPrice times every kind of decision on one connection in turn with a
// SELECT by primary key on the same connection, and reports the median of each
// and its multiple of the SELECT's.
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
	ask := func(client, recipient string, now int64, want greylist.Verdict) func() {
		r := request(client, "sender-7@example.org", recipient, now)
		return func() {
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
		do   func()
	}{
		{"select", func() {
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
	times := make([][]time.Duration, len(kinds))
	for b.Loop() {
		n++
		for i, k := range kinds {
			start := time.Now()
			k.do()
			times[i] = append(times[i], time.Since(start))
		}
		// The client must not be whitelisted by its own success.
		if _, err := conn.ExecContext(b.Context(), "DELETE FROM greylist WHERE k = ?", keyOfClient("192.0.2.1")); err != nil {
			b.Fatal(err)
		}
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2].Microseconds())
	}
	unit := median(0)
	for i, k := range kinds {
		b.ReportMetric(median(i), k.name+"-µs")
		if i > 0 {
			b.ReportMetric(median(i)/unit, k.name+"/select")
		}
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
