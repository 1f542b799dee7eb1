package greylist_test

import (
	"flag"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestDifferencesFromPostgrey shows on the real program what docs/greylist.md
// lists, but for the clean-up at night, so that the list is neither too long nor
// out of date.
func TestDifferencesFromPostgrey(t *testing.T) {
	c := schematest.Install(t, "differences")
	conn := c.Conn(t, 0)
	oracle := startPostgrey(t, "10.9\n", "postmaster@\n", "--delay=0")
	p := oracle.connect(t)
	here := func(r greylist.Request) greylist.Answer {
		t.Helper()
		a, err := greylist.SQL{DB: conn}.Check(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	there := func(r greylist.Request, more ...string) (defers bool, delayed time.Duration) {
		t.Helper()
		defers, _, delayed, err := p.check(r, more...)
		if err != nil {
			t.Fatal(err)
		}
		return defers, delayed
	}
	refused := func(sentence string, arguments ...any) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), "CALL greylist_check(?, ?, ?, ?, 1000)", arguments...); err == nil {
			t.Errorf("%s: the procedure answers", sentence)
		}
	}

	// --delay=0 is taken for 300; here the policy is refused.
	r := request("192.0.2.7", "zero@x", "r@x", 1000)
	if defers, _ := there(r); !defers {
		t.Error("Postgrey takes --delay=0 as it is")
	}
	none := greylist.DefaultPolicy()
	if none.Delay = 0; none.Validate() == nil {
		t.Error("a delay of 0 is a policy")
	}

	// Two IPv4 clients of an IPv6 socket, of networks that have nothing in common.
	first, second := request("::ffff:192.0.2.1", "s@x", "r@x", 1000), request("::ffff:198.51.100.1", "s@x", "r@x", 2000)
	here(first)
	there(first)
	if defers, _ := there(second); defers || !here(second).Verdict.Defers() {
		t.Errorf("an IPv4 client in IPv6 that was never seen: deferred by Postgrey %t, here otherwise", defers)
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
	if defers, _ := there(far); !defers || m.Match("", far.Client, "r@x") != greylist.ClientListed {
		t.Errorf("10.9.200.1 with the whitelist entry 10.9: deferred by Postgrey %t, listed here %v", defers, m.Match("", far.Client, "r@x"))
	}

	// Senders that differ in their last byte, the 513th.
	long := strings.Repeat("s", 512)
	there(request("192.0.2.1", long+"a", "r@x", 1000))
	if defers, _ := there(request("192.0.2.1", long+"b", "r@x", 2000)); defers {
		t.Error("Postgrey does not cut a sender of 513 bytes")
	}
	refused("a sender of 513 bytes", "192.0.2.1", "", long+"a", "r@x")

	// An attribute that is missing.
	if answer, err := p.ask("client_address=192.0.2.1", "client_name=", "recipient=r@x"); err != nil || answer != "action=DUNNO" {
		t.Errorf("Postgrey answers %q (%v) where there is no sender", answer, err)
	}
	refused("no sender", "192.0.2.1", "", nil, "r@x")

	// The header once a message, and its time for each recipient.
	for _, recipient := range []string{"a@x", "b@x"} {
		r := request("192.0.2.1", "header@x", recipient, 1000)
		here(r)
		there(r)
	}
	a, b := request("192.0.2.1", "header@x", "a@x", 2000), request("192.0.2.1", "header@x", "b@x", 2000)
	_, headerA := there(a, "instance=1")
	_, headerB := there(b, "instance=1")
	if headerA != 1000*time.Second || headerB != 0 || here(a).Delayed != headerA || here(b).Delayed != headerA {
		t.Errorf("two recipients of a message that waited: Postgrey says %v and %v, the procedure otherwise than twice the first", headerA, headerB)
	}

	// Addresses can be read in Postgrey's files.
	if found := oracle.container.Run(t, "sh", "-c", "grep -rl header@x "+postgreyDirectory+" || true"); found == "" {
		t.Error("Postgrey hashes its keys")
	}

	// An address that is none ends Postgrey; here the question is refused.
	if answer, err := p.ask("client_address=unknown", "client_name=", "sender=s", "recipient=r"); err == nil {
		t.Errorf("Postgrey answers %q to a question about no address", answer)
	}
	refused("no address", "unknown", "", "s", "r")
	if !here(request("192.0.2.1", "after@x", "r@x", 1000)).Verdict.Defers() {
		t.Error("the next question is not answered")
	}
}
