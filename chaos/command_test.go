package chaos

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// TestProgramsRunAsTheyAreWritten runs real ones.
func TestProgramsRunAsTheyAreWritten(t *testing.T) {
	t.Setenv("MAILBENCH_EXTERNAL_PASSWORD", "secret")
	t.Setenv("OTHERS", "kept")
	for _, row := range []struct {
		sentence string
		argv     []string
		limit    time.Duration
		said     string // all of it
		failure  string // part of it, "" for none
	}{
		{"status 0 is success", []string{"/bin/sh", "-c", "echo done"}, time.Minute, "done", ""},
		{"another status is none, and what was said is kept", []string{"/bin/sh", "-c", "echo no such port >&2; exit 3"}, time.Minute, "no such port", "exit status 3"},
		{"no shell reads the words", []string{"/bin/echo", "$HOME; true", "a  b"}, time.Minute, "$HOME; true a b", ""},
		{"a program that hangs is killed", []string{"/bin/sh", "-c", "echo waiting; exec sleep 60"}, time.Second / 5, "waiting", "signal: killed"},
		{"who leaves something running has done its work", []string{"/bin/sh", "-c", "sleep 2 & echo ok"}, time.Minute, "ok", ""},
		{"it learns what it is for, and no password", []string{"/bin/sh", "-c", "echo $MAILBENCH_NODE $OTHERS $MAILBENCH_EXTERNAL_PASSWORD"}, time.Minute, "data1 kept", ""},
		{"it runs in the same directory for run and heal", []string{"/bin/sh", "-c", "pwd"}, time.Minute, "/", ""},
		{"what a terminal would obey is not printed", []string{"/bin/sh", "-c", `printf 'a\033[2Jb\n\377c'`}, time.Minute, "a [2Jb ?c", ""},
		{"the end of much that is said is kept", []string{"/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo end"}, time.Minute, "…" + strings.Repeat("x", 497) + "end", ""},
		{"a program that is not there", []string{"/no/such/program"}, time.Minute, "", "no such file"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), row.limit)
			defer cancel()
			began := time.Now()
			said, err := machine{}.run(ctx, row.argv, []string{"MAILBENCH_NODE=data1"})
			if said != row.said {
				t.Errorf("it said %q, want %q", said, row.said)
			}
			if (err == nil) != (row.failure == "") || err != nil && !strings.Contains(err.Error(), row.failure) {
				t.Errorf("error %v, want %q", err, row.failure)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestWhatAProgramHasStartedEndsWithIt: its process group does.
func TestWhatAProgramHasStartedEndsWithIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/5)
	defer cancel()
	child, err := machine{}.run(ctx, []string{"/bin/sh", "-c", "sleep 61 & echo $!; wait"}, nil)
	if err == nil || child == "" {
		t.Fatalf("it said %q: %v", child, err)
	}
	// A process that nobody has waited for has no command line any more.
	for range 100 {
		if line, err := os.ReadFile("/proc/" + child + "/cmdline"); err != nil || len(line) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %s, which the program has started, lives on", child)
}

func TestACommandIsCheckedBeforeItIsRun(t *testing.T) {
	layout := cluster(t)
	p := Planned{ID: "f1", Kind: Command, Nodes: layout.ByRole(topology.Data)[:1], Settings: Settings{
		Inject: []string{"/bin/true"}, Recover: []string{"no-such-program-anywhere"}, Limit: time.Second,
	}}
	f, err := Builder(&fakeNodes{layout: layout}, nil)(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the program that recover names cannot be run here") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestAFailingProgramIsUndone: the fault may have been made, and the programs say
// why they failed.
func TestAFailingProgramIsUndone(t *testing.T) {
	undone := filepath.Join(t.TempDir(), "undone")
	nodes := newFakeNodes()
	nodes.layout = cluster(t)
	nodes.start, nodes.copying = 0, 0
	plan, err := NewPlan(1, []Spec{{Kind: Command, Target: "data1", Settings: Settings{
		Inject: []string{"/bin/sh", "-c", "echo port 7 is locked; exit 1"}, Recover: []string{"/usr/bin/touch", undone}, Limit: 10 * time.Second,
	}}}, Ground{Topology: nodes.layout, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	journal, path := journalIn(t)
	sink := &events{}
	r := Runner{Plan: plan, Faults: Builder(nodes, nil), Sink: sink, Journal: journal, Anchor: time.Now()}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(undone); err != nil {
		t.Errorf("recover was not run: %v", err)
	}
	failure := sink.list[0].Fields["error"]
	want := `run inject of f1-command-data1 for node data1: ["/bin/sh", "-c", "echo port 7 is locked; exit 1"]: exit status 1; it said: port 7 is locked`
	if failure != want {
		t.Errorf("the failure reads\n%s\nwant\n%s", failure, want)
	}

	// What another process needs to do the same stands in the journal.
	if err := os.Remove(undone); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	entries, err := ReadJournal(bytes.NewReader(append(first, '\n')))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Heal(t.Context(), entries, Builder(nodes, nil), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(undone); err != nil {
		t.Errorf("heal did not run recover: %v", err)
	}
	entries[0].Settings.Recover = nil
	if _, err := Heal(t.Context(), entries, Builder(nodes, nil), nil); !errors.Is(err, ErrUnhealed) || !errors.Is(err, ErrNeedsPerson) {
		t.Errorf("a journal without the program: %v", err)
	}
}

// forgetful remembers what was said of a node an hour ago, until it is told to
// forget.
type forgetful struct{ *fakeNodes }

func (f forgetful) Forget(topology.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = map[string]bool{}
}

// TestNewsFromBeforeAProgramProveNothing: nobody but the fault knows that the
// program acts on the node.
func TestNewsFromBeforeAProgramProveNothing(t *testing.T) {
	nodes := newFakeNodes()
	nodes.layout = cluster(t)
	nodes.start, nodes.copying, nodes.stale["up"] = 0, 0, true
	plan, err := NewPlan(1, []Spec{{Kind: Command, Target: "data1", Settings: Settings{
		Inject: []string{"/bin/true"}, Recover: []string{"/bin/true"}, Effect: []string{"/bin/true"},
	}}}, Ground{Topology: nodes.layout, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	journal, _ := journalIn(t)
	sink := &events{}
	r := Runner{Plan: plan, Faults: Builder(forgetful{nodes}, nil), Sink: sink, Journal: journal, Anchor: time.Now()}
	if err := r.Run(t.Context()); err != nil {
		t.Errorf("%v: %v", err, sink.lines())
	}
}

// TestWhatProgramsMadeOutlivesTheCluster: it is undone where nodes need not be.
func TestWhatProgramsMadeOutlivesTheCluster(t *testing.T) {
	folder := t.TempDir()
	p := Planned{ID: "f2-command-data1", Kind: Command, Nodes: cluster(t).ByRole(topology.Data)[:1], Settings: Settings{
		Inject: []string{"/bin/true"}, Recover: []string{"/usr/bin/touch", filepath.Join(folder, "undone")},
	}}
	killed := p
	killed.ID, killed.Kind, killed.Settings = "f1-kill-data1", Kill, Settings{}
	journal, path := journalIn(t)
	for _, p := range []Planned{killed, p} {
		if err := journal.Append(p, JournalInject); err != nil {
			t.Fatal(err)
		}
	}
	open := func() (*Journal, []Entry) {
		t.Helper()
		journal, entries, err := ReopenJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = journal.Close() })
		return journal, entries
	}
	again, entries := open()
	undone, err := HealOutside(t.Context(), entries, again)
	if err != nil || len(undone) != 1 || undone[0].ID != p.ID {
		t.Errorf("undone are %v, %v", undone, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "undone")); err != nil {
		t.Error(err)
	}
	again, entries = open()
	if undone, err := HealOutside(t.Context(), entries, again); err != nil || len(undone) != 0 {
		t.Errorf("the second time undone are %v, %v", undone, err)
	}
	p.ID, p.Settings.Recover = "f3-command-data1", []string{"/bin/false"}
	if err := again.Append(p, JournalInject); err != nil {
		t.Fatal(err)
	}
	again, entries = open()
	if _, err := HealOutside(t.Context(), entries, again); !errors.Is(err, ErrUnhealed) {
		t.Errorf("a program that fails: %v", err)
	}
}
