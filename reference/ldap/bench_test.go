package ldap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

const (
	benchAccounts = 70_000 // the talk's university
	benchSessions = 16     // as many as a provider has threads
)

func benchLogin(i int) string { return fmt.Sprintf("user%05d@example.edu", i) }

// BenchmarkDirectory is how long a whole population takes to load, and what one
// provider under a quota of one processor answers and stores when it is asked by
// 16 sessions at once, one question after another each. cpu is the processor time
// of an op, the provider's and the client's.
func BenchmarkDirectory(b *testing.B) {
	target := start(b)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	began := time.Now()
	loader, closeLoader, err := target.Loader(ctx)
	if err != nil {
		b.Fatal(err)
	}
	routes, owners, likes := []routing.Row{routing.DomainRow("example.edu")}, []accounts.Account(nil), []preferences.Row(nil)
	for i := range benchAccounts {
		a := accounts.Account{Login: benchLogin(i), Backend: "cyrus1", SpamThreshold: routing.DefaultSpamThreshold, Created: began, Changed: began}
		routes, owners = append(routes, a.Rows()...), append(owners, a)
		for k := range 6 {
			likes = append(likes, preferences.Row{User: a.Login, Key: fmt.Sprintf("preference_%d", k), Value: "../themes/default_theme.php"})
		}
	}
	if err := errors.Join(loader.LoadRoutes(ctx, routes), loader.LoadAccounts(ctx, owners), loader.LoadPreferences(ctx, likes), closeLoader()); err != nil {
		b.Fatal(err)
	}
	loaded := time.Since(began)
	for _, row := range []struct {
		name string
		ask  func(context.Context, reference.Session, int) error
	}{
		{"route", func(ctx context.Context, s reference.Session, i int) error {
			_, err := s.Route(ctx, benchLogin(i))
			return err
		}},
		{"route-unknown", func(ctx context.Context, s reference.Session, i int) error {
			_, err := s.Route(ctx, "no"+benchLogin(i))
			return err
		}},
		{"read", func(ctx context.Context, s reference.Session, i int) error {
			_, err := s.Read(ctx, benchLogin(i))
			return err
		}},
		{"set", func(ctx context.Context, s reference.Session, i int) error {
			return s.Set(ctx, benchLogin(i), "preference_1", fmt.Sprint(i))
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			node := target.Topology().Nodes[0]
			sessions := make([]reference.Session, benchSessions)
			for i := range sessions {
				sessions[i] = connected(b, target, node)
			}
			server, client := target.Usage(ctx)[node.Name].CPU, used(b)
			var next atomic.Int64
			var asking sync.WaitGroup
			b.ResetTimer()
			for _, s := range sessions {
				asking.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						if err := row.ask(ctx, s, int(i*7919%benchAccounts)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			asking.Wait()
			b.StopTimer()
			each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) }
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			b.ReportMetric(each(target.Usage(ctx)[node.Name].CPU-server), "provider-cpu-µs/op")
			b.ReportMetric(each(used(b)-client), "client-cpu-µs/op")
			b.ReportMetric(loaded.Seconds(), "load-s")
		})
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
