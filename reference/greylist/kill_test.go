package greylist_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// TestDataNodeDies kills a data node while questions are asked. What the
// procedure cannot do must reach the caller as NDB's own temporary error, with
// nothing stored, and what it has answered must be there.
func TestDataNodeDies(t *testing.T) {
	shared := clustertest.Exclusive(t)
	c := schematest.InstallOn(t, shared, "greylist_dies", func(o *schema.Options) { o.Whitelist = &greylist.Whitelist{} })
	node, err := shared.Topology().Node("data2")
	if err != nil {
		t.Fatal(err)
	}
	const workers = 8
	type failure struct {
		result ndberr.Result
		err    error
	}
	var (
		stop     atomic.Bool
		asked    atomic.Int64
		work     sync.WaitGroup
		answered [workers][]greylist.Request
		aborted  [workers][]greylist.Request
		failures [workers][]failure
	)
	for w := range workers {
		checker := greylist.SQL{DB: c.Conn(t, w%len(c.Addresses))}
		work.Go(func() {
			for i := 0; !stop.Load(); i++ {
				r := request("192.0.2.1", "s@example.org", fmt.Sprintf("r%d.%d@example.edu", w, i), 1000)
				_, err := checker.Check(t.Context(), r)
				asked.Add(1)
				if err == nil {
					answered[w] = append(answered[w], r)
					continue
				}
				f := failure{ndberr.Classify(err), err}
				failures[w] = append(failures[w], f)
				if f.result.Effect == ndberr.NotApplied {
					aborted[w] = append(aborted[w], r)
				}
			}
		})
	}
	end := sync.OnceFunc(func() {
		stop.Store(true)
		work.Wait()
	})
	defer end()
	more := func(n int64) {
		for until := asked.Load() + n; asked.Load() < until && t.Context().Err() == nil; {
			time.Sleep(5 * time.Millisecond)
		}
	}
	more(500)
	if err := shared.Kill(t.Context(), node.ID); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shared.StartNode(t.Context(), node.ID); err != nil { // one that runs is left alone
			t.Error(err)
		}
		if _, err := shared.AwaitRedundant(t.Context(), node.ID); err != nil {
			t.Error(err)
		}
	}()
	if _, err := shared.AwaitDown(t.Context(), node.ID); err != nil {
		t.Fatal(err)
	}
	more(500)
	if err := shared.StartNode(t.Context(), node.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.AwaitRedundant(t.Context(), node.ID); err != nil {
		t.Fatal(err)
	}
	more(500)
	end()

	kinds := map[ndberr.Result]int{}
	for _, f := range slices.Concat(failures[:]...) {
		kinds[f.result]++
		if !f.result.Retryable || f.result.Class != ndberr.Temporary && f.result.Class != ndberr.LockTimeout {
			t.Errorf("an MTA could not know what to do about %v", f.err)
		}
	}
	stored := map[greylist.Key]bool{}
	rows, err := c.Admins[0].DB.Query("SELECT k FROM " + c.Options.Database + ".greylist")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var k []byte
		if err := rows.Scan(&k); err != nil {
			t.Fatal(err)
		}
		stored[greylist.Key(k)] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Concat(answered[:]...) {
		if !stored[keyOf(r)] {
			t.Errorf("%s was answered, but is not stored", r.Recipient)
		}
	}
	for _, r := range slices.Concat(aborted[:]...) {
		if stored[keyOf(r)] {
			t.Errorf("%s was refused with an error that says that nothing happened, but is stored", r.Recipient)
		}
	}
	t.Logf("%d questions, %d rows, errors %v", asked.Load(), len(stored), kinds)
}
