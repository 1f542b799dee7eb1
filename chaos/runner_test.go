package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a Runner on fake nodes, with a real journal.
type rig struct {
	*Runner
	nodes *fakeNodes
	sink  *events
	path  string // of the journal
}

func newRig(t *testing.T) *rig {
	nodes, sink := newFakeNodes(), &events{}
	journal, path := journalIn(t)
	return &rig{
		Runner: &Runner{Plan: twoKills(t), Faults: Builder(nodes, nil), Sink: sink, Journal: journal, Anchor: time.Now()},
		nodes:  nodes, sink: sink, path: path,
	}
}

// hookAll calls hook before and after every journal entry and every call to a node.
func (r *rig) hookAll(hook func(point string)) {
	r.nodes.hook = hook
	r.Journal = hooked{r.Journal, hook}
}

func (r *rig) journaled(t *testing.T) []Entry {
	t.Helper()
	f, err := os.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := ReadJournal(f)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestEveryStepIsJournaledBeforeItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var points []string
		r.hookAll(func(point string) { points = append(points, point) })
		r.Plan.Steps = r.Plan.Steps[:1]
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{
			"redundant", "redundant done",
			"journal inject", "journal inject done", "kill", "kill done", "down", "down done",
			"journal recover", "journal recover done", "start", "start done", "up", "up done",
			"redundant", "redundant done", "journal redundant", "journal redundant done",
		}
		if !slices.Equal(points, want) {
			t.Errorf("steps\n%q, want\n%q", points, want)
		}
		entries := r.journaled(t)
		if len(entries) != 3 || entries[0].RunID != "run-1" || entries[0].Nodes[0].ID != 2 || entries[0].Nodes[0].Name != "data1" || entries[2].Seq != 3 {
			t.Errorf("journal %+v", entries)
		}
	})
}

func TestRunSaysWhatBecameOfEachStep(t *testing.T) {
	boom := errors.New("boom")
	skipped := func(at string) string { return at + " f2-kill-sql1 failed injected" }
	second := []string{
		"2m0s f2-kill-sql1 injected", "2m0.01s f2-kill-sql1 effective",
		"2m30.01s f2-kill-sql1 recover", "2m38.01s f2-kill-sql1 recovered", "2m42.01s f2-kill-sql1 redundant",
	}
	for _, row := range []struct {
		name   string
		change func(r *rig)
		want   []string // events: when, fault, step
		err    error    // nil for none
		open   int      // faults that the journal leaves open
		kills  int
	}{
		{
			name:   "two faults in their order, timed by the evidence",
			change: func(*rig) {},
			want: append([]string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective",
				"1m30.01s f1-kill-data1 recover", "1m38.01s f1-kill-data1 recovered", "1m42.01s f1-kill-data1 redundant",
			}, second...),
			kills: 2,
		},
		{
			name:   "a fault waits for the redundancy of the one before, not for its own time only",
			change: func(r *rig) { r.nodes.copying = time.Minute },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective",
				"1m30.01s f1-kill-data1 recover", "1m38.01s f1-kill-data1 recovered", "2m38.01s f1-kill-data1 redundant",
				"2m38.01s f2-kill-sql1 injected", "2m38.02s f2-kill-sql1 effective",
				"3m8.02s f2-kill-sql1 recover", "3m16.02s f2-kill-sql1 recovered", "4m16.02s f2-kill-sql1 redundant",
			},
			kills: 2,
		},
		{
			name:   "a gap counts from the redundancy of the fault before",
			change: func(r *rig) { r.Plan.Steps[1].At, r.Plan.Steps[1].Gap = 0, 10*time.Second },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective",
				"1m30.01s f1-kill-data1 recover", "1m38.01s f1-kill-data1 recovered", "1m42.01s f1-kill-data1 redundant",
				"1m52.01s f2-kill-sql1 injected", "1m52.02s f2-kill-sql1 effective",
				"2m22.02s f2-kill-sql1 recover", "2m30.02s f2-kill-sql1 recovered", "2m34.02s f2-kill-sql1 redundant",
			},
			kills: 2,
		},
		{
			name:   "a fault without effect is recovered at once, without its hold, and the next has its turn",
			change: func(r *rig) { r.nodes.detect = time.Hour; r.Plan.Steps = r.Plan.Steps[:1] },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m45s f1-kill-data1 failed effective",
				"1m45s f1-kill-data1 recover", "1m53s f1-kill-data1 recovered", "1m57s f1-kill-data1 redundant",
			},
			kills: 1,
		},
		{
			name:   "evidence that is older than the injection proves no effect",
			change: func(r *rig) { r.nodes.stale["down"] = true; r.Plan.Steps = r.Plan.Steps[:1] },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 failed effective",
				"1m0.01s f1-kill-data1 recover", "1m8.01s f1-kill-data1 recovered", "1m12.01s f1-kill-data1 redundant",
			},
			kills: 1,
		},
		{
			name:   "an injection that ended with an error is undone, as it may have happened",
			change: func(r *rig) { r.nodes.fail["kill"] = []error{boom} },
			want: append([]string{
				"1m0s f1-kill-data1 failed injected", "1m0s f1-kill-data1 recover",
				"1m0s f1-kill-data1 recovered", "1m0s f1-kill-data1 redundant",
			}, second...),
			kills: 1,
		},
		{
			name:   "a start that failed is tried once more",
			change: func(r *rig) { r.nodes.fail["start"] = []error{boom}; r.Plan.Steps = r.Plan.Steps[:1] },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective", "1m30.01s f1-kill-data1 recover",
				"1m30.01s f1-kill-data1 failed recover", "1m38.01s f1-kill-data1 recovered", "1m42.01s f1-kill-data1 redundant",
			},
			kills: 1,
		},
		{
			name:   "a node that cannot be started ends the plan, unhealed",
			change: func(r *rig) { r.nodes.fail["start"] = []error{boom, boom} },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective", "1m30.01s f1-kill-data1 recover",
				"1m30.01s f1-kill-data1 failed recover", "1m30.01s f1-kill-data1 failed recover", skipped("1m30.01s"),
			},
			err: ErrUnhealed, open: 1, kills: 1,
		},
		{
			name:   "a node that does not come back in its time nor after another start ends the plan, unhealed",
			change: func(r *rig) { r.nodes.start = time.Hour },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective", "1m30.01s f1-kill-data1 recover",
				"6m30.01s f1-kill-data1 failed recovered", "11m30.01s f1-kill-data1 failed recovered", skipped("11m30.01s"),
			},
			err: ErrUnhealed, open: 1, kills: 1,
		},
		{
			name:   "a cluster that does not become redundant ends the plan before the next fault",
			change: func(r *rig) { r.nodes.copying = time.Hour },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective", "1m30.01s f1-kill-data1 recover",
				"1m38.01s f1-kill-data1 recovered", "6m38.01s f1-kill-data1 failed redundant", skipped("6m38.01s"),
			},
			err: ErrUnhealed, open: 1, kills: 1,
		},
		{
			name:   "a node that is dead already keeps the fault from being injected",
			change: func(r *rig) { r.nodes.down[2] = true; r.Plan.Steps = r.Plan.Steps[:1] },
			want:   []string{"6m0s f1-kill-data1 failed injected"},
		},
		{
			name: "a fault that cannot be made is passed over",
			change: func(r *rig) {
				r.Plan.Steps[0].Nodes[0].Role = "king"
			},
			want:  append([]string{"1m0s f1-kill-data1 failed injected"}, second...),
			kills: 1,
		},
		{
			name:   "a journal that cannot be written stops the fault from being made",
			change: func(r *rig) { r.Journal = &brokenJournal{StepJournal: r.Journal, step: JournalInject} },
			want:   []string{"1m0s f1-kill-data1 failed injected", skipped("1m0s")},
			err:    errNoSpace,
		},
		{
			name:   "a journal that breaks during a fault does not stop the recovery, but the plan",
			change: func(r *rig) { r.Journal = &brokenJournal{StepJournal: r.Journal, step: JournalRecover} },
			want: []string{
				"1m0s f1-kill-data1 injected", "1m0.01s f1-kill-data1 effective",
				"1m30.01s f1-kill-data1 recover", "1m38.01s f1-kill-data1 recovered", "1m42.01s f1-kill-data1 redundant",
				skipped("1m42.01s"),
			},
			err: errNoSpace, open: 1, kills: 1,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				row.change(r)
				err := r.Run(t.Context())
				if !errors.Is(err, row.err) {
					t.Errorf("error %v, want %v", err, row.err)
				}
				if got := r.sink.lines(); !slices.Equal(got, row.want) {
					t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
				}
				if open := OpenFaults(r.journaled(t)); len(open) != row.open {
					t.Errorf("journal leaves %+v open, want %d", open, row.open)
				}
				var kills int
				for _, call := range r.nodes.calls {
					if strings.HasPrefix(call, "kill") {
						kills++
					}
				}
				if kills != row.kills {
					t.Errorf("%d kills, want %d", kills, row.kills)
				}
			})
		})
	}
}

func TestEventsCarryTheirEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.nodes.fail["up"] = []error{errors.New("boom")}
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		fields := map[string]map[string]string{}
		for _, e := range r.sink.list {
			if e.Fault == "f1-kill-data1" {
				fields[e.Name] = e.Fields
				if e.Node != "data1" || e.Kind != KindFault {
					t.Errorf("event %+v", e)
				}
			}
		}
		for step, want := range map[string]string{
			StepInjected:  "map[kind:kill planned_us:60000000 took_us:0]",
			StepEffective: "map[detail:down source:management event]",
			StepFailed:    "map[error:boom what:recovered]",
			StepRedundant: "map[detail:redundant source:management event]",
		} {
			if got := fmt.Sprint(fields[step]); got != want {
				t.Errorf("%s has %s, want %s", step, got, want)
			}
		}
	})
}

// killPoints are all the places at which a run of twoKills may end before its time:
// before and after each journal entry and each call to a node.
func killPoints(t *testing.T) int {
	var n int
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.hookAll(func(string) { n++ })
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if n != 36 {
		t.Fatalf("%d points, want 18 a fault", n)
	}
	return n
}

func TestHealRestoresWhateverStepTheHarnessCrashedAt(t *testing.T) {
	for at := range killPoints(t) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var n int
			var where string
			r.hookAll(func(point string) {
				if n++; n == at+1 {
					where = point
					runtime.Goexit() // nothing of the runner goes on: the process is gone
				}
			})
			dead := make(chan struct{})
			go func() {
				defer close(dead)
				_ = r.Run(t.Context())
			}()
			<-dead
			killed := r.nodes.anyDown()
			r.nodes.hook = func(string) {}

			journal, entries, err := ReopenJournal(r.path)
			if err != nil {
				t.Fatal(err)
			}
			defer journal.Close()
			if killed && len(OpenFaults(entries)) != 1 {
				t.Fatalf("crash at %q: a node is dead and the journal does not know of it", where)
			}
			done, err := Heal(t.Context(), entries, Builder(r.nodes, nil), journal)
			if err != nil || r.nodes.anyDown() {
				t.Errorf("crash at %q: %v, %v, a node is dead: %v", where, done, err, r.nodes.anyDown())
			}
			if open := OpenFaults(r.journaled(t)); len(open) != 0 {
				t.Errorf("crash at %q: %+v still open", where, open)
			}

			// Twice from what stands in the journal now, and once more from the
			// entries of before, as a heal that crashed itself would.
			calls := len(r.nodes.calls)
			if again, err := Heal(t.Context(), r.journaled(t), Builder(r.nodes, nil), journal); err != nil || len(again) != 0 {
				t.Errorf("crash at %q: healed again: %v, %v", where, again, err)
			}
			if _, err := Heal(t.Context(), entries, Builder(r.nodes, nil), journal); err != nil || len(r.nodes.calls) != calls {
				t.Errorf("crash at %q: healing again did %q, %v", where, r.nodes.calls[calls:], err)
			}
		})
	}
}

func TestEndOfTheContextLeavesEveryNodeStarted(t *testing.T) {
	for at := range killPoints(t) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.nodes.slow = 100 * time.Millisecond
			ctx, cancel := context.WithCancelCause(t.Context())
			interrupted := errors.New("interrupted")
			var n int
			var where string
			r.hookAll(func(point string) {
				if n++; n == at+1 {
					where = point
					cancel(interrupted)
				}
			})
			err := r.Run(ctx)
			time.Sleep(time.Second) // an act that was given up would happen now
			last := r.sink.list[len(r.sink.list)-1]
			switch {
			case err == nil && last.Fault == "f2-kill-sql1" && last.Name == StepRedundant:
			case !errors.Is(err, interrupted) || errors.Is(err, ErrUnhealed):
				t.Errorf("end at %q: error %v, want the context's cause", where, err)
			}
			if r.nodes.anyDown() {
				t.Errorf("end at %q leaves a node dead", where)
			}
			if open := OpenFaults(r.journaled(t)); len(open) != 0 {
				t.Errorf("end at %q leaves %+v open", where, open)
			}
			// Whatever happened, the recording says of each fault what became of it.
			told := map[string]bool{}
			for _, e := range r.sink.list {
				if e.Name == StepFailed || e.Name == StepRedundant || e.Name == StepRecovered {
					told[e.Fault] = true
				}
			}
			if len(told) != 2 {
				t.Errorf("end at %q: events %q", where, r.sink.lines())
			}
		})
	}
}

func TestEndOfTheContextDuringAWait(t *testing.T) {
	for _, row := range []struct {
		name  string
		after time.Duration
		want  time.Duration // when Run returns
		calls []string
	}{
		{"before the first fault nothing is touched", 30 * time.Second, 30 * time.Second, nil},
		{"while the effect is awaited the node is started at once", time.Minute + 5*time.Millisecond, 68*time.Second + 5*time.Millisecond, []string{"kill 2", "start 2"}},
		{"during the hold the node is started at once", 75 * time.Second, 83 * time.Second, []string{"kill 2", "start 2"}},
		{"while the node starts it is awaited", 95 * time.Second, 98*time.Second + 10*time.Millisecond, []string{"kill 2", "start 2"}},
		{"while the cluster becomes redundant nothing is left to do", 100 * time.Second, 100 * time.Second, []string{"kill 2", "start 2"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				ctx, cancel := context.WithTimeout(t.Context(), row.after)
				defer cancel()
				if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnhealed) {
					t.Errorf("error %v", err)
				}
				if got := time.Since(r.Anchor); got != row.want {
					t.Errorf("returned after %s, want %s", got, row.want)
				}
				if !slices.Equal(r.nodes.calls, row.calls) {
					t.Errorf("did %q, want %q", r.nodes.calls, row.calls)
				}
			})
		})
	}
}

func TestEndOfTheContextWithANodeThatDoesNotComeBackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.nodes.start = time.Hour
		r.Timeouts.Heal = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 75*time.Second)
		defer cancel()
		if err := r.Run(ctx); !errors.Is(err, ErrUnhealed) {
			t.Errorf("error %v, want ErrUnhealed", err)
		}
		if got, want := time.Since(r.Anchor), 135*time.Second; got != want {
			t.Errorf("returned after %s, want %s", got, want)
		}
	})
}
