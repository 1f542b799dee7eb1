package greylist_test

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

var (
	differentialRequests = flag.Int("differential.requests", 100_000, "how many requests TestDifferentialPostgrey makes")
	differentialSeed     = flag.Uint64("differential.seed", 1, "the seed of these requests")
)

// TestDifferentialPostgrey asks real Postgrey, the procedure and the decision
// model the same, and compares every decision and, at the end, everything that
// is stored. What docs/greylist.md lists as different is not asked here, but in
// TestDifferencesFromPostgrey.
func TestDifferentialPostgrey(t *testing.T) {
	whitelist, matcher := lists(t)
	c := schematest.Install(t, "differential", func(o *schema.Options) { o.Whitelist = &whitelist })
	oracle := startPostgrey(t, testClients, testRecipients)

	// Shards share no row: each may go on without the others.
	const shards = 4
	var (
		work    sync.WaitGroup
		models  [shards]*greylist.Memory
		answers [shards]map[greylist.Verdict]int
	)
	for shard := range shards {
		conn, postgrey := c.Conn(t, shard%len(c.Addresses)), oracle.connect(t)
		models[shard], answers[shard] = greylist.NewMemory(greylist.DefaultPolicy(), matcher), map[greylist.Verdict]int{}
		work.Go(func() {
			source := newRequests(*differentialSeed, byte(shard))
			for i := range *differentialRequests / shards {
				r := source.next()
				got, err := greylist.SQL{DB: conn}.Check(t.Context(), r)
				if err != nil {
					t.Errorf("shard %d, request %d: %v", shard, i, err)
					return
				}
				defers, wait, delayed, err := postgrey.check(r)
				if err != nil {
					t.Errorf("shard %d, request %d: %v", shard, i, err)
					return
				}
				if got.Verdict.Defers() != defers || got.Wait != wait || got.Delayed != delayed {
					t.Errorf("shard %d, request %d, %+v: the procedure answers %v, Postgrey defers %v, wait %v, delayed %v", shard, i, r, got, defers, wait, delayed)
					return
				}
				model, err := models[shard].Check(t.Context(), r)
				if err != nil || model != got {
					t.Errorf("shard %d, request %d, %+v: the procedure answers %v, the model %v (%v)", shard, i, r, got, model, err)
					return
				}
				answers[shard][got.Verdict]++
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}

	all, total := greylist.NewMemory(greylist.DefaultPolicy(), matcher), map[greylist.Verdict]int{}
	for shard := range shards {
		for k, s := range models[shard].Rows {
			all.Rows[k] = s
		}
		for v, n := range answers[shard] {
			total[v] += n
		}
	}
	compare(t, c, all)
	oracle.stop(t)
	rows := oracle.rows(t)
	for k, s := range rows {
		want := all.Rows[k]
		if want.Credits > 0 {
			want.First = 0 // Postgrey does not keep when a client earned its first credit
		}
		if s != want {
			t.Errorf("%x: Postgrey has stored %+v, the procedure %+v", k, s, want)
		}
	}
	if len(rows) != len(all.Rows) {
		t.Errorf("Postgrey has stored %d rows, the procedure %d", len(rows), len(all.Rows))
	}
	t.Logf("%d requests, seed %d: answers %v, %d rows stored", *differentialRequests, *differentialSeed, total, len(rows))
	for v := greylist.New; v <= greylist.RecipientListed; v++ {
		if total[v] < *differentialRequests/100 {
			t.Errorf("%v was met only %d times: it proves little", v, total[v])
		}
	}
}

// TestDifferencesFromPostgrey shows what docs/greylist.md lists, on the real
// program, so that the list is neither too long nor out of date.
func TestDifferencesFromPostgrey(t *testing.T) {
	c := schematest.Install(t, "differences")
	conn, oracle := c.Conn(t, 0), startPostgrey(t, "10.9\n", "postmaster@\n")
	ask := func(p *policy, r greylist.Request) (string, string) {
		t.Helper()
		answer, err := greylist.SQL{DB: conn}.Check(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		defers, _, _, err := p.check(r)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(answer.Verdict.Defers()), fmt.Sprint(defers)
	}
	p := oracle.connect(t)

	// Two IPv4 clients of an IPv6 socket, of networks that have nothing in common.
	first, second := request("::ffff:192.0.2.1", "s@x", "r@x", 1000), request("::ffff:198.51.100.1", "s@x", "r@x", 2000)
	ask(p, first)
	if here, there := ask(p, second); here != "true" || there != "false" {
		t.Errorf("an IPv4 client in IPv6 that was never seen: deferred here %s, by Postgrey %s; want true and false", here, there)
	}

	// The whitelist entry 10.9 is a /16, says Postgrey's own comment.
	var w greylist.Whitelist
	if err := w.ReadClients("clients", strings.NewReader("10.9\n")); err != nil {
		t.Fatal(err)
	}
	m, err := w.Compile()
	if err != nil {
		t.Fatal(err)
	}
	far := request("10.9.200.1", "s@x", "r@x", 1000)
	if defers, _, _, err := p.check(far); err != nil || !defers || m.Match("", far.Client, "r@x") != greylist.ClientListed {
		t.Errorf("10.9.200.1 with the whitelist entry 10.9: deferred by Postgrey %v, listed here %v; want both (%v)", defers, m.Match("", far.Client, "r@x"), err)
	}

	// An address that is none ends Postgrey; here the question is refused.
	bad := request("192.0.2.1", "s@x", "r@x", 1000)
	if _, err := fmt.Fprintf(p.conn, "request=smtpd_access_policy\nclient_address=unknown\nclient_name=\nsender=s\nrecipient=r\n\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.reply.ReadString('\n'); err == nil {
		t.Error("Postgrey answered a question about no address")
	}
	if _, err := conn.ExecContext(t.Context(), "CALL greylist_check('unknown', '', 's', 'r', 1000)"); err == nil {
		t.Error("the procedure answered a question about no address")
	}
	if a, err := (greylist.SQL{DB: conn}).Check(t.Context(), bad); err != nil || !a.Verdict.Defers() {
		t.Errorf("and after it: got %v (%v)", a, err)
	}
}
