package preferences_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// access is one read or write of one preference. A moment is a number that
// counts the beginnings and ends of all accesses.
type access struct {
	value      string // "" is none
	began, end int64
}

// wrong returns what is wrong with the reads of one preference whose writes are
// all known: a read returns what nobody has written, or what was written over
// before it began, or what was not yet being written when it ended. At the
// beginning there is none.
func wrong(reads, writes []access) []string {
	writes = append([]access{{}}, writes...)
	var found []string
	for _, r := range reads {
		verdict := "which nobody has written"
		for _, w := range writes {
			if w.value != r.value {
				continue
			}
			if w.began > r.end {
				if verdict == "which nobody has written" {
					verdict = "which is written later"
				}
				continue
			}
			verdict = ""
			for _, over := range writes {
				if over.began > w.end && over.end < r.began {
					verdict = fmt.Sprintf("which %q had written over", over.value)
				}
			}
			if verdict == "" {
				break
			}
		}
		if verdict != "" {
			found = append(found, fmt.Sprintf("%q was read, %s", r.value, verdict))
		}
	}
	return found
}

func TestWrong(t *testing.T) {
	writes := []access{{"a", 1, 2}, {"b", 3, 6}, {"c", 4, 5}, {"", 9, 10}}
	for _, c := range []struct {
		sentence string
		read     access
		want     string
	}{
		{"what was acknowledged is read", access{"a", 2, 3}, ""},
		{"what is being written may be read", access{"a", 1, 3}, ""},
		{"what is being written may be missed", access{"", 1, 3}, ""},
		{"of two writers at a time either may be the last", access{"b", 7, 8}, ""},
		{"... or the other", access{"c", 7, 8}, ""},
		{"what is gone is read as none", access{"", 11, 12}, ""},
		{"a lost write is found", access{"", 3, 4}, `"" was read, which "a" had written over`},
		{"an old value is found", access{"a", 7, 8}, `"a" was read, which "c" had written over`},
		{"an undone delete is found", access{"c", 11, 12}, `"c" was read, which "" had written over`},
		{"a stranger's value is found", access{"x", 3, 4}, `"x" was read, which nobody has written`},
		{"a value from the future is found", access{"c", 2, 3}, `"c" was read, which is written later`},
	} {
		if got := strings.Join(wrong([]access{c.read}, writes), "; "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.sentence, got, c.want)
		}
	}
}

// TestFourWebmails has four webmail machines, two on each SQL node, save and
// show the preferences of the same users at the same time. What one of them was
// told is saved must be what all of them show from then on, until somebody saves
// another value; and no user may see what is another one's.
func TestFourWebmails(t *testing.T) {
	c := schematest.Install(t, "webmails")
	const (
		machines = 4
		rounds   = 50
		attempts = 20 // of one write or read
	)
	var (
		users = []string{"ann", "Ann", "ann ", "ann\x00"} // alike, but not the same
		keys  = []string{"theme", "___signature___"}
	)
	type preference struct{ user, key string }
	var (
		now    atomic.Int64
		mu     sync.Mutex
		reads  = map[preference][]access{}
		writes = map[preference][]access{}
	)
	connect := func(node int) reference.Session {
		s, err := sqlnode.Connect(t.Context(), c.Nodes[node], c.Addresses[node], c.Account, reference.ConnectOptions{
			ConnectTimeout: 30 * time.Second, ReadTimeout: 30 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	// keepOn does what a webmail may do: it repeats what was aborted.
	keepOn := func(what string, do func() error) error {
		for tries := 1; ; tries++ {
			err := do()
			if err == nil {
				return nil
			}
			if verdict := ndberr.Classify(err); !verdict.Retryable || tries == attempts {
				return fmt.Errorf("%s, try %d: %v: %w", what, tries, verdict.Class, err)
			}
		}
	}
	show := func(ctx context.Context, s reference.Session, user string) error {
		var (
			all   map[string]string
			began = now.Add(1)
		)
		err := keepOn("show "+user, func() (err error) {
			all, err = s.Read(ctx, user)
			return err
		})
		if err != nil {
			return err
		}
		end := now.Add(1)
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			p := preference{user, key}
			reads[p] = append(reads[p], access{all[key], began, end})
			delete(all, key)
		}
		if len(all) > 0 {
			return fmt.Errorf("%q also has %q", user, all)
		}
		return nil
	}
	webmail := func(ctx context.Context, number int, own reference.Session, others []reference.Session) error {
		random := rand.New(rand.NewPCG(1, uint64(number)))
		for round := range rounds {
			p := preference{users[random.IntN(len(users))], keys[random.IntN(len(keys))]}
			save := func(value string) error { return own.Set(ctx, p.user, p.key, value) }
			value := fmt.Sprintf("%q's %s of webmail%d in round %d", p.user, p.key, number, round)
			switch random.IntN(6) {
			case 0:
				value = ""
			case 1:
				value = ""
				save = func(string) error { return own.Delete(ctx, p.user, p.key) }
			}
			began := now.Add(1)
			if err := keepOn("save "+p.key, func() error { return save(value) }); err != nil {
				return err
			}
			end := now.Add(1)
			mu.Lock()
			writes[p] = append(writes[p], access{value, began, end})
			mu.Unlock()
			for _, s := range append(others, own) {
				if err := show(ctx, s, p.user); err != nil {
					return err
				}
			}
		}
		return nil
	}

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	for number := range machines {
		home := number % len(c.Nodes)
		own := connect(home)
		var others []reference.Session
		for node := range c.Nodes {
			if node != home {
				others = append(others, connect(node))
			}
		}
		running.Go(func() {
			if err := webmail(ctx, number+1, own, others); err != nil {
				t.Errorf("webmail%d: %v", number+1, err)
			}
		})
	}
	running.Wait()

	// The last writer has won, and all nodes agree on who that is.
	for _, user := range users {
		for node := range c.Nodes {
			if err := show(ctx, connect(node), user); err != nil {
				t.Error(err)
			}
		}
	}
	checked, contended := 0, 0
	for p, of := range reads {
		for _, w := range wrong(of, writes[p]) {
			t.Errorf("%s of %q: %s", p.key, p.user, w)
		}
		checked += len(of)
		final := of[len(of)-len(c.Nodes):]
		for _, f := range final {
			if f.value != final[0].value {
				t.Errorf("%s of %q: SQL nodes differ at the end: %q and %q", p.key, p.user, f.value, final[0].value)
			}
		}
		for i, x := range writes[p] {
			for _, y := range writes[p][:i] {
				if x.began < y.end && y.began < x.end {
					contended++
				}
			}
		}
	}
	t.Logf("%d reads after %d writes; %d pairs of writes of one preference at the same time", checked, machines*rounds, contended)
	if contended == 0 {
		t.Error("no two webmails ever wrote the same preference at the same time: it proves little")
	}
}
