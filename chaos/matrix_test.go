package chaos

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// errDead is what calls of a process that is gone come to where they must return.
var errDead = errors.New("the process is gone")

// release lets go of what a process that is gone cannot hold: its connections,
// which hold locks.
func (b *bed) release(t *testing.T) {
	t.Helper()
	b.engine.point = func(context.Context, string) error { return nil }
	for _, f := range b.built {
		switch f.(type) {
		case *connectionStorm, *openTransaction:
			if err := f.Undo(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	b.engine.processEnds()
}

// same says how the cluster differs from what it was.
func (b *bed) same(t *testing.T, where string) {
	t.Helper()
	now := strings.Split(b.engine.state(), "\n")
	for i, was := range strings.Split(b.found, "\n") {
		if now[i] != was {
			t.Errorf("%s: the cluster has\n%s, it had\n%s", where, now[i], was)
		}
	}
}

// points counts the places at which a plan may be cut.
func points(t *testing.T, specs ...Spec) (n int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, specs...)
		var counted atomic.Int64
		b.hook(func(context.Context, string) error { counted.Add(1); return nil })
		if err := b.Run(t.Context()); err != nil {
			t.Error(err)
		}
		n = int(counted.Load())
		lines := b.sink.lines()
		for _, line := range lines {
			if strings.Contains(line, " failed ") {
				t.Errorf("without any cut: %s", strings.Join(lines, "\n"))
				break
			}
		}
		b.same(t, "without any cut")
	})
	return n
}

// healed heals twice from the journal as another process, and once more from what
// stood in it before, and checks that all is as it was found.
func (b *bed) healed(t *testing.T, where string) {
	t.Helper()
	journal, entries, err := ReopenJournal(b.path)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	defer journal.Close()
	open := len(OpenFaults(entries))
	if open == 0 {
		b.same(t, where+", no fault in the journal")
	}
	faults := b.engine.builder(nil)
	for _, round := range []struct {
		name    string
		entries []Entry
	}{{"healed", entries}, {"healed again from the entries of before", entries}} {
		done, err := Heal(t.Context(), round.entries, faults, journal)
		if err != nil || len(done) != open {
			t.Errorf("%s, %s: %v, %v", where, round.name, done, err)
		}
		b.same(t, where+", "+round.name)
	}
	_, entries, err = ReopenJournal(b.path)
	if left := OpenFaults(entries); err != nil || len(left) > 0 {
		t.Errorf("%s: the journal leaves %v open, %v", where, left, err)
	}
}

// episodes are the plans that the matrix goes through: each kind by itself, and
// two faults that are in effect together.
func episodes() map[string][]Spec {
	all := map[string][]Spec{
		"arbitrator, then a data node": {
			{Kind: Kill, Target: "mgm1", At: time.Minute, Hold: time.Minute},
			{Kind: Kill, Target: "data1", At: 5 * time.Second, Hold: 20 * time.Second, During: DuringPrevious},
		},
	}
	for _, d := range Catalogue() {
		all[string(d.Kind)] = []Spec{specOf(d.Kind)}
	}
	return all
}

// TestHealRestoresWhateverStepOfWhateverKindWasCut cuts a run at every journal
// entry and every call to the target, before and after it: once as a process that
// dies there, and once as a call that never returns by itself.
func TestHealRestoresWhateverStepOfWhateverKindWasCut(t *testing.T) {
	var deaths, hangs int
	for name, specs := range episodes() {
		t.Run(name, func(t *testing.T) {
			n := points(t, specs...)
			if n < 10 {
				t.Fatalf("only %d points", n)
			}
			for at := range n {
				synctest.Test(t, func(t *testing.T) { cutAt(t, specs, at, &deaths) })
				synctest.Test(t, func(t *testing.T) { hangAt(t, specs, at, &hangs) })
			}
		})
	}
	if deaths < 600 || hangs < 400 {
		t.Errorf("only %d deaths and %d hangs", deaths, hangs)
	}
	t.Logf("%d kinds: healed after %d deaths and %d calls that never returned", len(Catalogue()), deaths, hangs)
}

// cutAt has the harness die at a point.
func cutAt(t *testing.T, specs []Spec, at int, cases *int) {
	b := newBed(t, specs...)
	var n int
	var where string
	b.hook(func(_ context.Context, point string) error {
		b.sink.mu.Lock()
		if n++; n == at+1 {
			where = "death at " + point
		}
		dead := where != ""
		b.sink.mu.Unlock()
		switch {
		case !dead:
			return nil
		case strings.HasPrefix(point, "sql "):
			return errDead // database/sql holds locks here, which release needs
		}
		runtime.Goexit() // in whatever goroutine it is: nothing goes on any more
		return nil
	})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = b.Run(t.Context())
	}()
	<-gone
	synctest.Wait()
	if where == "" {
		return // of waits that end together, one more or less may be seen to
	}
	*cases++
	b.release(t)
	b.healed(t, where)
}

// hangAt has a call not return before its time is over.
func hangAt(t *testing.T, specs []Spec, at int, cases *int) {
	b := newBed(t, specs...)
	var n int
	var where string
	b.hook(func(ctx context.Context, point string) error {
		b.sink.mu.Lock()
		n++
		hang := n == at+1 && !strings.HasPrefix(point, "journal")
		if hang {
			where = "hang at " + point
		}
		b.sink.mu.Unlock()
		if !hang {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err := b.Run(t.Context()); err != nil && !errors.Is(err, ErrUnhealed) {
		t.Errorf("%s: %v", where, err)
	}
	if where == "" {
		return // a step of the journal
	}
	*cases++
	b.release(t)
	b.healed(t, where)
}
