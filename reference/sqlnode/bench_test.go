package sqlnode_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// BenchmarkRoute is what a read costs its client in processor time, asked as a
// replay asks: one after another, each with a deadline.
func BenchmarkRoute(b *testing.B) {
	c := schematest.Install(b, "bench_session")
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	if err := loader.LoadRoutes(b.Context(), []routing.Row{{Address: "a@example.edu", Backend: "cyrus1"}}); err != nil {
		b.Fatal(err)
	}
	s, err := sqlnode.Connect(b.Context(), c.Nodes[0], c.Addresses[0], c.Account, reference.ConnectOptions{
		ConnectTimeout: 10 * time.Second, ReadTimeout: 11 * time.Second,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	used := func() int64 {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return usage.Utime.Nano() + usage.Stime.Nano()
	}
	b.ReportAllocs()
	before := used()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		if a, err := s.Route(ctx, "a@example.edu"); err != nil || a.Verdict != routing.Local {
			b.Fatal(a, err)
		}
		cancel()
	}
	b.ReportMetric(float64(used()-before)/float64(b.N)/1000, "cpu-µs/op")
}
