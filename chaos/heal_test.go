package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

func entriesOf(steps ...string) []Entry {
	var entries []Entry
	for i, s := range steps {
		fault, step, _ := strings.Cut(s, " ")
		e := Entry{Schema: JournalSchema, RunID: "run-1", Seq: uint64(i + 1), Fault: fault, Kind: Kill, Nodes: []topology.Node{{ID: 2, Name: "data1", Role: topology.Data, Host: "cyrus1"}}, Step: step}
		if fault == "f2" {
			e.Nodes = []topology.Node{{ID: 3, Name: "data2", Role: topology.Data, Host: "cyrus2"}}
		}
		entries = append(entries, e)
	}
	return entries
}

func TestOpenFaults(t *testing.T) {
	for _, row := range []struct {
		name  string
		steps []string
		want  []string
	}{
		{"nothing was done", nil, nil},
		{"an injection that may have happened is open", []string{"f1 inject"}, []string{"f1"}},
		{"a recovery that was started is open", []string{"f1 inject", "f1 recover"}, []string{"f1"}},
		{"an undo that may not have been taken is open", []string{"f1 inject", "f1 undo"}, []string{"f1"}},
		{"redundancy closes", []string{"f1 inject", "f1 recover", "f1 redundant"}, nil},
		{"healing closes, redundancy after it changes nothing", []string{"f1 inject", "f1 undo", "f1 healed", "f1 redundant"}, nil},
		{"each fault by itself, in the order of injection", []string{"f1 inject", "f2 inject", "f3 inject", "f2 healed"}, []string{"f1", "f3"}},
		{"a fault whose injection cannot be read is open", []string{"f1 recover"}, []string{"f1"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, p := range OpenFaults(entriesOf(row.steps...)) {
				got = append(got, p.ID)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("open %q, want %q", got, row.want)
			}
		})
	}
}

// needy is a fault that is recovered only once another node runs.
type needy struct {
	Fault
	nodes *fakeNodes
}

func (n needy) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	if n.nodes.anyDown() {
		return reference.Evidence{}, errors.New("waits for the other node")
	}
	return n.Fault.AwaitRecovered(ctx)
}

func TestHeal(t *testing.T) {
	entries := entriesOf("f1 inject", "f2 inject")
	boom := errors.New("boom")
	for _, row := range []struct {
		name   string
		change func(n *fakeNodes)
		ctx    time.Duration
		calls  []string
		said   []string
		err    error
		closed bool // the journal has both faults healed
	}{
		{
			name:   "the last fault is undone first, and all before any is awaited",
			change: func(*fakeNodes) {},
			calls:  []string{"start 3", "start 2"},
			said: []string{
				"f2 on data2: undone; takes part again (management event: up)",
				"f1 on data1: undone; takes part again (management event: up)",
			},
			closed: true,
		},
		{
			name:   "a fault that cannot be undone does not keep the others from it",
			change: func(n *fakeNodes) { n.fail["start"] = []error{boom}; n.down[3] = false },
			calls:  []string{"start 2"},
			said: []string{
				"f2 on data2: not healed: undo: boom",
				"f1 on data1: undone; takes part again (management event: up)",
			},
			err: ErrUnhealed,
		},
		{
			name:   "a node that does not come back within the context is left unhealed",
			change: func(n *fakeNodes) { n.start = time.Hour },
			calls:  []string{"start 3", "start 2"},
			said: []string{
				"f2 on data2: not healed: undone, but it does not take part again: context deadline exceeded",
				"f1 on data1: not healed: undone, but it does not take part again: context deadline exceeded",
			},
			err: ErrUnhealed,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := newFakeNodes()
				nodes.down[2], nodes.down[3] = true, true
				row.change(nodes)
				build := func(p Planned) (Fault, error) {
					f, err := Builder(nodes, nil)(p)
					return needy{f, nodes}, err
				}
				journal, path := journalIn(t)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				done, err := Heal(ctx, entries, build, journal)
				if !errors.Is(err, row.err) {
					t.Errorf("error %v, want %v", err, row.err)
				}
				var said []string
				for _, h := range done {
					said = append(said, h.String())
				}
				if !slices.Equal(said, row.said) || !slices.Equal(nodes.calls, row.calls) {
					t.Errorf("did %q and said\n%s", nodes.calls, strings.Join(said, "\n"))
				}
				r := rig{path: path}
				if closed := len(OpenFaults(r.journaled(t))) == 0; closed != row.closed {
					t.Errorf("journal closed: %v, want %v", closed, row.closed)
				}
			})
		})
	}
}

// endsAgain is a fault whose node ends so many times after it was undone.
type endsAgain struct {
	Fault
	ends, undone *int
}

func (f endsAgain) Undo(ctx context.Context) error {
	*f.undone++
	return f.Fault.Undo(ctx)
}

func (f endsAgain) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	if *f.ends--; *f.ends >= 0 {
		return reference.Evidence{}, fmt.Errorf("data1 %w", ErrEnded)
	}
	return f.Fault.AwaitRecovered(ctx)
}

func TestHealStartsWhatEndsAfterItsFaultWasUndone(t *testing.T) {
	for _, row := range []struct {
		sentence     string
		ends, undone int
		err          error
	}{
		{"a node that stays", 0, 1, nil},
		{"a node that ends once", 1, 2, nil},
		{"a node that always ends", 100, 1 + mostEnds, ErrUnhealed},
	} {
		synctest.Test(t, func(t *testing.T) {
			nodes, ends, undone := newFakeNodes(), row.ends, 0
			_, err := Heal(t.Context(), entriesOf("f1 inject"), func(p Planned) (Fault, error) {
				f, err := Builder(nodes, nil)(p)
				return endsAgain{f, &ends, &undone}, err
			}, nil)
			if !errors.Is(err, row.err) || undone != row.undone {
				t.Errorf("%s: undone %d times, %v; want %d, %v", row.sentence, undone, err, row.undone, row.err)
			}
		})
	}
}

func TestHealWithoutAJournalItCanWriteHealsAndSaysSo(t *testing.T) {
	for name, journal := range map[string]StepJournal{
		"broken": &brokenJournal{step: JournalUndo}, "nil": (*Journal)(nil),
	} {
		nodes := newFakeNodes()
		nodes.down[2] = true
		synctest.Test(t, func(t *testing.T) {
			_, err := Heal(t.Context(), entriesOf("f1 inject"), Builder(nodes, nil), journal)
			if err == nil || errors.Is(err, ErrUnhealed) || nodes.anyDown() {
				t.Errorf("%s journal: error %v, a node is dead: %v", name, err, nodes.anyDown())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		nodes := newFakeNodes()
		if _, err := Heal(t.Context(), entriesOf("f1 inject"), Builder(nodes, nil), nil); err != nil {
			t.Errorf("without a journal: %v", err)
		}
	})
	unknown := entriesOf("f1 inject")
	unknown[0].Kind = "later"
	if done, err := Heal(t.Context(), unknown, Builder(newFakeNodes(), nil), nil); !errors.Is(err, ErrUnhealed) || !errors.Is(err, ErrNeedsPerson) || len(done) != 1 || done[0].Err == nil {
		t.Errorf("a kind that this version does not know: %v, %v", done, err)
	}
}
