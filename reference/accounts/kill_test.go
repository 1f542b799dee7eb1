package accounts_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// TestNoHalfMadeAccount kills nodes while accounts change through both SQL
// nodes. Afterwards the full tables must hold what was acknowledged, and of each
// change without an answer all or nothing.
func TestNoHalfMadeAccount(t *testing.T) {
	shared := clustertest.Exclusive(t)
	for _, c := range []struct{ sentence, node string }{
		{"a data node is killed", "data2"},
		{"a SQL node in use is killed", "sql1"},
	} {
		t.Run(c.sentence, func(t *testing.T) { killDuringChanges(t, shared, c.node) })
	}
}

func killDuringChanges(t *testing.T, shared *cluster.Cluster, victim string) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := schematest.InstallOn(t, shared, "accountkill")
	nodes := open(t, c)
	node, err := shared.Topology().Node(victim)
	if err != nil {
		t.Fatal(err)
	}

	// Each worker has accounts of its own, so that it knows what each change must
	// do, and prefers one of the SQL nodes. Half of them give up so early that
	// some changes stay without an answer.
	var workers []*worker
	for i := range 8 {
		preferred := slices.Clone(nodes)
		if i%2 == 1 {
			slices.Reverse(preferred)
		}
		patience := 30 * time.Second
		if i >= 4 {
			patience = 50 * time.Millisecond
		}
		workers = append(workers, &worker{
			number: i, random: newRand(uint64(i)), manager: manager(t, preferred), patience: patience,
			world: map[string]accounts.Account{}, kept: belongings{}, frozen: map[string]bool{},
		})
	}
	for _, w := range workers {
		w.populate(t, nodes[0].DB, 10)
	}
	var (
		stop  = make(chan struct{})
		acked atomic.Int64
		work  sync.WaitGroup
	)
	end := sync.OnceFunc(func() {
		close(stop)
		work.Wait()
	})
	defer end()
	for _, w := range workers {
		work.Go(func() { w.run(t, stop, &acked) })
	}
	more := func(n int64) {
		t.Helper()
		for until := acked.Load() + n; acked.Load() < until; time.Sleep(5 * time.Millisecond) {
			if ctx.Err() != nil {
				t.Fatalf("accounts do not change any more: %v", context.Cause(ctx))
			}
		}
	}

	more(100)
	defer func() { // the cluster is not this test's alone
		if !t.Failed() {
			return
		}
		mending, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
		defer cancel()
		if err := shared.StartNode(mending, node.ID); err != nil {
			t.Error(err)
		}
		if _, err := shared.AwaitRedundant(mending, node.ID); err != nil {
			t.Error(err)
		}
	}()
	if err := shared.Kill(ctx, node.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.AwaitDown(ctx, node.ID); err != nil {
		t.Fatal(err)
	}
	more(100) // without the node
	if err := shared.StartNode(ctx, node.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.AwaitRedundant(ctx, node.ID); err != nil {
		t.Fatal(err)
	}
	more(100) // with it
	end()

	conn, err := nodes[len(nodes)-1].DB.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var (
		reader  = accounts.NewSQL(conn)
		world   = map[string]accounts.Account{}
		kept    = belongings{}
		changes []string // their ids
		total   accounts.Stats
		pending = map[bool]int{}
	)
	for _, w := range workers {
		for _, change := range w.pending {
			made, err := reader.Made(ctx, change)
			if err != nil {
				t.Fatal(err)
			}
			pending[made]++
			if made {
				w.apply(t, change)
			}
		}
		maps.Copy(world, w.world)
		maps.Copy(kept, w.kept)
		changes = append(changes, w.made...)
		stats := w.manager.Stats()
		total.Retried += stats.Retried
		total.Unsettled += stats.Unsettled
		total.ReadBack += stats.ReadBack
		total.Absent += stats.Absent
	}
	t.Logf("%d changes of %d accounts acknowledged; transactions repeated %d; COMMITs without an answer %d, read back as done %d, as not done %d; given up %d, of which done %d",
		acked.Load(), len(world), total.Retried, total.Unsettled, total.ReadBack, total.Absent, pending[true]+pending[false], pending[true])

	whole(t, nodes[0].DB, world, kept)
	if got := stored(t, nodes[0].DB); !reflect.DeepEqual(got, world) {
		for login, want := range world {
			if !reflect.DeepEqual(got[login], want) {
				t.Errorf("account is\n%+v, want\n%+v", got[login], want)
			}
		}
	}
	var gotChanges []string
	read(t, nodes[0].DB, "SELECT change_id FROM account_change", func(c []string) { gotChanges = append(gotChanges, c[0]) })
	slices.Sort(gotChanges)
	slices.Sort(changes)
	if !slices.Equal(gotChanges, changes) {
		t.Errorf("%d changes are stored, want those %d that were acknowledged or read back", len(gotChanges), len(changes))
	}
}

// worker changes its own accounts, one change after another.
type worker struct {
	number   int
	random   *rand.Rand
	manager  *accounts.Nodes
	patience time.Duration

	world   map[string]accounts.Account // what must be stored
	kept    belongings                  // of the accounts that were there at first
	made    []string                    // ids of changes that must be stored
	pending []accounts.Change           // that had no answer
	frozen  map[string]bool             // addresses that a pending change is about
	n       int
}

// populate makes accounts with a preference and an address each.
func (w *worker) populate(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	for range n {
		c := w.creation()
		if err := w.manager.Change(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		w.apply(t, c)
		w.kept.prefer(t, db, c.Login, "origin", c.Login)
		w.kept.know(t, db, c.Login, "ann", c.Login)
	}
}

func (w *worker) run(t *testing.T, stop <-chan struct{}, acked *atomic.Int64) {
	for !t.Failed() {
		select {
		case <-stop:
			return
		default:
		}
		c := w.next()
		want := w.predict(c)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), w.patience)
		verdict, err := accounts.VerdictOf(w.manager.Change(ctx, c))
		cancel()
		switch {
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("%s of %s: %v", c.Action, c.Login, err)
		case err != nil:
			w.pending = append(w.pending, c)
			for _, address := range append([]string{c.Login, c.NewLogin, c.Alias}, c.Account.Aliases...) {
				w.frozen[address] = true
			}
		case verdict != want:
			t.Errorf("%s of %s is answered by %s, want %s: %+v", c.Action, c.Login, verdict, want, c)
		case verdict == accounts.Changed:
			w.apply(t, c)
			acked.Add(1)
		}
	}
}

// predict is what the database must answer.
func (w *worker) predict(c accounts.Change) accounts.Verdict {
	before, ok := w.world[c.Login]
	after, err := accounts.Apply(&before, c)
	if !ok {
		after, err = accounts.Apply(nil, c)
	}
	if err != nil {
		verdict, _ := accounts.VerdictOf(err)
		return verdict
	}
	for login, other := range w.world {
		if login == c.Login {
			continue
		}
		for _, row := range after.Rows() {
			if row.Address == login || slices.Contains(other.Aliases, row.Address) {
				return accounts.Exists
			}
		}
	}
	return accounts.Changed
}

func (w *worker) apply(t *testing.T, c accounts.Change) {
	apply(t, w.world, c)
	w.made = append(w.made, string(c.ID[:]))
	w.kept.apply(c)
}

func (w *worker) stamp(c accounts.Change) accounts.Change {
	w.n++
	c.ID = [16]byte{0: byte(w.number + 1), 13: byte(w.n >> 16), 14: byte(w.n >> 8), 15: byte(w.n)}
	c.At = then.Add(time.Duration(w.n) * time.Second)
	return c
}

func (w *worker) fresh() string {
	w.n++
	return fmt.Sprintf("w%dn%d@example.edu", w.number, w.n)
}

func (w *worker) creation() accounts.Change {
	a := accounts.Account{Backend: "cyrus1", FullName: "Somebody"}
	for range w.random.IntN(3) {
		a.Aliases = append(a.Aliases, w.fresh())
	}
	return w.stamp(accounts.Change{Action: accounts.Create, Login: w.fresh(), Account: a})
}

// next is any change that can be sent, of an account that no pending change is
// about. Some will be refused.
func (w *worker) next() accounts.Change {
	logins := slices.DeleteFunc(slices.Sorted(maps.Keys(w.world)), func(login string) bool {
		a := w.world[login]
		return w.frozen[login] || slices.ContainsFunc(a.Aliases, func(alias string) bool { return w.frozen[alias] })
	})
	if len(logins) == 0 || w.random.IntN(4) == 0 {
		return w.creation()
	}
	pick := func() string { return logins[w.random.IntN(len(logins))] }
	c := accounts.Change{
		Action: accounts.Actions[1+w.random.IntN(len(accounts.Actions)-1)], Login: pick(),
		NewLogin: w.fresh(), KeepOld: w.random.IntN(2) == 0, Alias: w.fresh(),
		KeepCopy: w.random.IntN(2) == 0, Backend: fmt.Sprintf("cyrus%d", w.random.IntN(3)),
	}
	if c.Action == accounts.Close && w.random.IntN(3) > 0 { // they would run out
		c.Action = accounts.BeginMove
	}
	a := w.world[c.Login]
	if a.State == routing.StateMoving && w.random.IntN(2) == 0 {
		c.Action = accounts.FinishMove
	}
	if len(a.Aliases) > 0 && w.random.IntN(2) == 0 {
		c.Alias = a.Aliases[w.random.IntN(len(a.Aliases))]
		c.NewLogin = c.Alias
	} else if other := pick(); other != c.Login && w.random.IntN(8) == 0 {
		c.NewLogin, c.Alias = other, other // taken
	}
	for range w.random.IntN(3) {
		c.Targets = append(c.Targets, w.fresh())
	}
	return w.stamp(c)
}
