package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// turns is who lets a replay's stretches begin, each some time after the one before.
type turns struct {
	log    []string // "turn 0", "rest 0"
	at     []time.Duration
	begins []time.Duration
	length time.Duration // of a stretch, virtual
}

// inStretches divides the replay. Stretch k begins k+2 times the pause after the
// one before is over. No session may be under way meanwhile.
func inStretches(t *testing.T, r *Replay, stretch, pause time.Duration) *turns {
	turns := &turns{length: stretch}
	idle := func(when string, k int) {
		if s := r.Stats(); s.InFlight() != 0 {
			t.Errorf("%s %d: %d sessions are under way", when, k, s.InFlight())
		}
		turns.log = append(turns.log, fmt.Sprintf("%s %d", when, k))
	}
	r.Turn = func(ctx context.Context, k int, from time.Duration) (Stretch, error) {
		idle("turn", k)
		turns.at = append(turns.at, time.Since(r.Anchor))
		before := r.Stats()
		sleep(ctx, time.Duration(k+1)*pause)
		if after := r.Stats(); after != before {
			t.Errorf("turn %d: stats were %+v and became %+v", k, before, after)
		}
		turns.begins = append(turns.begins, time.Since(r.Anchor)+pause)
		return Stretch{To: from + stretch, Due: Paced(from, turns.begins[k], r.Speed)}, nil
	}
	r.Rest = func(k int) { idle("rest", k) }
	return turns
}

// log is what is to be called for n stretches.
func (turns) want(n int) (log []string) {
	for k := range n {
		log = append(log, fmt.Sprintf("turn %d", k), fmt.Sprintf("rest %d", k))
	}
	return log
}

// check holds that each session's first op is intended in its stretch.
func (u *turns) check(t *testing.T, sentence string, r *Replay, out *samples) {
	t.Helper()
	for _, s := range out.all {
		if s.Operation != reference.Route && s.Operation != reference.ReadPreferences {
			continue
		}
		since := s.Virtual - r.Trace.Window().From
		k := int(since / u.length)
		if want := u.begins[k] + (since-time.Duration(k)*u.length)/time.Duration(r.Speed); s.Intended != want {
			t.Fatalf("%s: try %d of message %d at %v is intended at %v, want %v in stretch %d", sentence, s.Try, s.Message, s.Virtual, s.Intended, want, k)
		}
		if s.Queue() < 0 {
			t.Fatalf("%s: message %d was dispatched %v early", sentence, s.Message, -s.Queue())
		}
	}
}

// ops are those that were recorded, without wall times, in the trace's order.
func (s *samples) ops() []string {
	all := slices.Clone(s.all)
	slices.SortFunc(all, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Virtual, b.Virtual), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Recipient, b.Recipient))
	})
	var ops []string
	for _, o := range all {
		ops = append(ops, fmt.Sprintf("%s %d of %d, try %d at %v by %d: %s %d", o.Operation, o.Recipient, o.Message, o.Try, o.Virtual, o.Client, o.Outcome, o.Answer))
	}
	return ops
}

func TestStretches(t *testing.T) {
	for _, row := range []struct {
		sentence string
		model    Model
		window   Window
		speed    int
		stretch  time.Duration
		count    int
	}{
		{"the last is shorter", quietModel(30, 60_000), Window{7 * time.Microsecond, 70 * time.Second}, 1, 20 * time.Second, 4},
		{"at speed 10", quietModel(30, 60_000), Window{7 * time.Microsecond, 5 * time.Minute}, 10, time.Minute, 5},
		{"most hold nothing", quietModel(1, 0), Window{0, 3 * time.Minute}, 1, 5 * time.Second, 36},
		{"one holds all", quietModel(30, 60_000), Window{0, time.Minute}, 1, time.Hour, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			run := func(divide bool) []string {
				out, target := &samples{}, &fakeTarget{route: routing.Local}
				// Sessions take longer than what is left of their stretch.
				target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
					sleep(ctx, time.Second)
					return ctx.Err()
				}
				r := newReplay(t, row.model, row.window, target, out, mta(1), webmail(1))
				r.Speed = row.speed
				var turns *turns
				if divide {
					turns = inStretches(t, r, row.stretch, 7*time.Second)
				}
				stats, err := r.Run(t.Context())
				if err != nil || stats.CutShort != 0 || target.open != 0 {
					t.Errorf("%s: %v; %+v, %d sessions are left open", row.sentence, err, stats, target.open)
				}
				if divide {
					turns.check(t, row.sentence, r, out)
					if want := turns.want(row.count); !slices.Equal(turns.log, want) {
						t.Errorf("%s: called were %q, want %q", row.sentence, turns.log, want)
					}
				}
				return out.ops()
			}
			whole, divided := run(false), run(true)
			if !slices.Equal(whole, divided) || len(whole) == 0 {
				t.Errorf("%s: %d ops, without stretches %d, or others", row.sentence, len(divided), len(whole))
			}
		})
	}
}

// TestPeersComeBackInLaterStretches holds that tries are of the stretch of their virtual
// time, whether it is that of the try before or not.
func TestPeersComeBackInLaterStretches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		within := 0
		run := func(divide bool) []string {
			out := &samples{}
			r := newReplay(t, hourOfMail(0), Window{Duration: 90 * time.Minute}, newGreylisting(), out, mta(1), mta(2))
			r.ClosedLoop = true
			m := r.Trace.(*Trace).Message(0)
			r.Later = []*Try{{Message: &m, Number: 40, Recipients: []int{0}, At: 80 * time.Minute, Client: m.Client}}
			if !divide {
				if _, err := r.Run(t.Context()); err != nil {
					t.Error(err)
				}
				return out.ops()
			}
			turns := inStretches(t, r, 17*time.Minute, time.Minute)
			stats, err := r.Run(t.Context())
			if err != nil {
				t.Error(err)
			}
			turns.check(t, "closed loop", r, out)
			if want := turns.want(6); !slices.Equal(turns.log, want) {
				t.Errorf("called were %q, want %q", turns.log, want)
			}
			last := map[uint64]time.Duration{}
			for _, s := range out.all {
				if s.Operation != reference.Route {
					continue
				}
				if s.Try > 0 && s.Virtual/turns.length == last[s.Message]/turns.length {
					within++
				}
				last[s.Message] = s.Virtual
			}
			if int64(within) > stats.Tries-100 {
				t.Errorf("of %d tries %d are of the stretch of the one before, want 100 others", stats.Tries, within)
			}
			t.Logf("%d tries, %d of them of the stretch of the one before", stats.Tries, within)
			return out.ops()
		}
		whole, divided := run(false), run(true)
		if !slices.Equal(whole, divided) || len(whole) < 1000 {
			t.Errorf("%d ops, without stretches %d, or others", len(divided), len(whole))
		}
		if within < 100 {
			t.Errorf("%d tries are of the stretch of the one before, want 100", within)
		}
	})
}

func TestAnErrorOfTurnEndsTheReplay(t *testing.T) {
	for _, row := range []struct {
		sentence string
		model    Model
		window   Window
		text     string
	}{
		{"with much left", quietModel(30, 0), Window{0, time.Minute}, "stretch 2 did not begin"},
		{"with nothing left but silence", quietModel(0, 0), Window{0, 2 * time.Minute}, "of 0 sessions of its trace: stretch 2 did not begin"},
	} {
		synctest.Test(t, func(t *testing.T) {
			out, other := &samples{}, errors.New("the other side is gone")
			r := newReplay(t, row.model, row.window, &fakeTarget{route: routing.Unknown}, out, mta(1))
			turns := inStretches(t, r, 20*time.Second, time.Second)
			turn := r.Turn
			r.Turn = func(ctx context.Context, k int, from time.Duration) (Stretch, error) {
				if k == 1 {
					return Stretch{}, other
				}
				return turn(ctx, k, from)
			}
			stats, err := r.Run(t.Context())
			if !errors.Is(err, other) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%s: error %v, want that of Turn and %q", row.sentence, err, row.text)
			}
			if want := turns.want(1); !slices.Equal(turns.log, want) {
				t.Errorf("%s: called were %q, want %q", row.sentence, turns.log, want)
			}
			first := int64(0)
			for item := range r.Trace.All() {
				if item.At < 20*time.Second {
					first++
				}
			}
			if stats.Ended != first || stats.Offered != first {
				t.Errorf("%s: %+v, want the %d sessions of the first stretch", row.sentence, stats, first)
			}
		})
	}
}

func TestEndOfTheContextInStretches(t *testing.T) {
	for _, row := range []struct {
		sentence string
		model    Model
		after    time.Duration // the first stretch begins at 2 s; the second turn is from 23 s to 25 s, or from 1 s to 3 s if there is nothing to do
		obeys    bool          // whether Turn ends with ctx
		want     []string
		whole    bool // no session of the trace is left
	}{
		{"before the first", quietModel(60, 0), 0, true, nil, false},
		{"in a stretch", quietModel(60, 0), 10 * time.Second, true, turns{}.want(1), false},
		{"in Turn", quietModel(60, 0), 23500 * time.Millisecond, true, append(turns{}.want(1), "turn 1"), false},
		{"in a Turn that does not notice", quietModel(60, 0), 23500 * time.Millisecond, false, turns{}.want(2), false},
		{"in Turn, with nothing left but silence", quietModel(0, 0), 2500 * time.Millisecond, true, append(turns{}.want(1), "turn 1"), true},
	} {
		synctest.Test(t, func(t *testing.T) {
			out, cause := &samples{}, errors.New("somebody pressed a key")
			target := &fakeTarget{route: routing.Unknown}
			target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
				sleep(ctx, time.Second)
				return ctx.Err()
			}
			r := newReplay(t, row.model, Window{0, time.Minute}, target, out, mta(1))
			turns := inStretches(t, r, 20*time.Second, time.Second)
			turn := r.Turn
			r.Turn = func(ctx context.Context, k int, from time.Duration) (Stretch, error) {
				part, err := turn(ctx, k, from)
				if row.obeys && ctx.Err() != nil {
					return Stretch{}, ctx.Err()
				}
				return part, err
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			if row.after == 0 {
				cancel(cause)
			}
			time.AfterFunc(row.after, func() { cancel(cause) })
			stats, err := r.Run(ctx)
			if row.whole && err != nil || !row.whole && !errors.Is(err, cause) {
				t.Errorf("%s: error %v, want the cause unless all has been done", row.sentence, err)
			}
			if !slices.Equal(turns.log, row.want) {
				t.Errorf("%s: called were %q, want %q", row.sentence, turns.log, row.want)
			}
			if (stats.Started == 0) != (row.after < 10*time.Second) || stats.Ended != stats.Started || stats.CutShort != 0 || time.Since(r.Anchor) > row.after+2*time.Second {
				t.Errorf("%s: %+v after %v, want all that started to end within the drain", row.sentence, stats, time.Since(r.Anchor))
			}
		})
	}
}

// answersLate has a target answer those who ask before a time since now only at
// another.
func answersLate(target *fakeTarget, before, answer time.Duration) {
	begin := time.Now()
	target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
		if at := time.Since(begin); at < before {
			sleep(ctx, answer-at)
		}
		return ctx.Err()
	}
}

// patient is an MTA that waits for a day.
func patient() Client {
	c := mta(1)
	c.Policy.ReadTimeout = 24 * time.Hour
	return c
}

func TestSessionsOfAStretchAreCutShortAfterTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Unknown}
		answersLate(target, 10*time.Second, time.Hour)
		r := newReplay(t, quietModel(30, 0), Window{0, time.Minute}, target, out, patient())
		r.Drain = 30 * time.Second
		turns := inStretches(t, r, 20*time.Second, time.Second)
		stats, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The first begins at 2 s, the second must wait for the end of the drain.
		if turns.at[1] != 52*time.Second {
			t.Errorf("the second turn was at %v, want 52 s", turns.at[1])
		}
		turns.check(t, "after a stretch with a drain", r, out)
		unanswered := int64(0)
		for item := range r.Trace.All() {
			if item.At < 8*time.Second {
				unanswered++
			}
		}
		if unanswered == 0 || stats.CutShort != unanswered || stats.Started != r.Trace.Messages() {
			t.Errorf("%+v, want all %d messages to be started and %d cut short", stats, r.Trace.Messages(), unanswered)
		}
	})
}

// Who is answered only in the drain, and put off, should have come back long ago.
func TestATryOfTheStretchThatComesInItsDrainIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, target := &samples{}, &fakeTarget{route: routing.Moving}
		answersLate(target, 5*time.Minute, 2*time.Hour+30*time.Second)
		model := hourOfMail(0)
		r := newReplay(t, model, Window{0, 3 * time.Hour}, target, out, patient())
		r.ClosedLoop, r.Drain = true, time.Minute
		turns := inStretches(t, r, 2*time.Hour, time.Second)
		stats, err := r.Run(t.Context())
		if err != nil || stats.CutShort != 0 {
			t.Errorf("error %v, %+v", err, stats)
		}
		turns.check(t, "a try that comes in the drain", r, out)
		late := 0
		for _, s := range out.all {
			if s.Try == 1 && s.Virtual < turns.length && s.Attempts[0].Dispatched > turns.begins[0]+turns.length && s.Attempts[0].Dispatched < turns.at[1] {
				late++
			}
		}
		if late < 10 {
			t.Errorf("%d tries came in the drain, want those of 5 minutes", late)
		}
	})
}

// slowTrace takes an hour for an item.
type slowTrace struct{ Source }

func (s slowTrace) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for item := range s.Source.All() {
			time.Sleep(time.Hour) // in a bubble
			if !yield(item) {
				return
			}
		}
	}
}

// TestNothingIsMadeForAReplayThatEnded: there is room for a thousand items, and making one
// may take long.
func TestNothingIsMadeForAReplayThatEnded(t *testing.T) {
	r := newReplay(t, quietModel(60, 0), Window{0, 3 * time.Minute}, &fakeTarget{}, &samples{}, mta(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	made := 0
	for range r.ahead(ctx) {
		made++
	}
	if made > 0 {
		t.Errorf("%d items were made after the end", made)
	}
}

func TestAnOverrunOfAStretchEndsTheReplay(t *testing.T) {
	t.Run("more sessions than may be under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out, target := &samples{}, &fakeTarget{route: routing.Unknown}
			target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
				sleep(ctx, time.Second)
				return nil
			}
			r := newReplay(t, quietModel(600, 0), Window{0, time.Minute}, target, out, mta(1)) // 10 a second, of 1 s each
			r.MaxInFlight, r.Drain = 4, 20*time.Second
			turns := inStretches(t, r, 20*time.Second, time.Second)
			stats, err := r.Run(t.Context())
			if !errors.Is(err, errOverrun) || !strings.Contains(err.Error(), "stretch 1: ") {
				t.Errorf("error %v, want that of an overrun of the first stretch", err)
			}
			if want := turns.want(1); !slices.Equal(turns.log, want) {
				t.Errorf("called were %q, want %q", turns.log, want)
			}
			// The first begins at 2 s, and the last sessions take 1 s.
			if took := time.Since(r.Anchor); took < 42*time.Second || took > 44*time.Second || stats.Ended != stats.Started || stats.CutShort != 0 {
				t.Errorf("%+v after %v, want the end of the drain and who is under way to end", stats, took)
			}
		})
	})
	t.Run("its last session, a try, is held back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			target := &fakeTarget{}
			answersLate(target, time.Minute, time.Hour)
			r := newReplay(t, quietModel(0, 0), Window{0, 3 * time.Minute}, target, &samples{}, patient())
			r.MaxInFlight = 1
			m := r.Trace.(*Trace).Message(0)
			for _, at := range []time.Duration{10 * time.Second, 20 * time.Second} {
				r.Later = append(r.Later, &Try{Message: &m, Number: 1, Recipients: []int{0}, At: at, Client: m.Client})
			}
			turns := inStretches(t, r, time.Minute, time.Second)
			stats, err := r.Run(t.Context())
			if !errors.Is(err, errOverrun) || stats.Offered != 2 || stats.Started != 1 {
				t.Errorf("error %v, want that of an overrun: %+v", err, stats)
			}
			if want := turns.want(1); !slices.Equal(turns.log, want) {
				t.Errorf("called were %q, want %q", turns.log, want)
			}
		})
	})
	t.Run("the trace is not read in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newReplay(t, quietModel(2, 0), Window{0, 3 * time.Minute}, &fakeTarget{}, &samples{}, mta(1))
			r.Trace = slowTrace{r.Trace}
			turns := inStretches(t, r, time.Minute, time.Second)
			if stats, err := r.Run(t.Context()); !errors.Is(err, errOverrun) {
				t.Errorf("error %v, want that of an overrun: %+v", err, stats)
			}
			time.Sleep(2 * time.Hour) // in the bubble, for who makes the trace to notice
			if want := turns.want(1); !slices.Equal(turns.log, want) {
				t.Errorf("called were %q, want %q", turns.log, want)
			}
		})
	})
	t.Run("a try of its time is left when its sessions are cut short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			out, target := &samples{}, &fakeTarget{}
			answersLate(target, 5*time.Minute, 24*time.Hour)
			r := newReplay(t, hourOfMail(0), Window{0, 3 * time.Hour}, target, out, patient())
			r.ClosedLoop = true
			turns := inStretches(t, r, 2*time.Hour, time.Second)
			stats, err := r.Run(t.Context())
			if !errors.Is(err, errOverrun) || stats.CutShort == 0 || stats.Started != r.Trace.Messages()+stats.Tries {
				t.Errorf("error %v, want that of an overrun: %+v", err, stats)
			}
			if want := turns.want(1); !slices.Equal(turns.log, want) {
				t.Errorf("called were %q, want %q", turns.log, want)
			}
		})
	})
}

// TestStoppedStretches holds that a stretch that is stopped leaves what it did not
// start to the next one, in its order and on time there, also what found no slot.
func TestStoppedStretches(t *testing.T) {
	for _, row := range []struct {
		sentence string
		inFlight int
		took     time.Duration // by a session
		speed    func(k int) int
		retries  bool
	}{
		{"with slots for all", 1000, 10 * time.Millisecond, func(int) int { return 1 }, false},
		{"each twice as fast as the one before", 1000, 10 * time.Millisecond, func(k int) int { return 1 << k }, false},
		{"with sessions held back", 4, time.Second, func(int) int { return 1 }, false},
		{"with peers that come back", 1000, 10 * time.Millisecond, func(k int) int { return 60 * (k + 1) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			run := func(stop time.Duration) []string {
				out, target := &samples{}, &fakeTarget{route: routing.Unknown}
				target.ask = func(ctx context.Context, _ topology.ID, _ reference.Operation) error {
					sleep(ctx, row.took)
					return nil
				}
				r := newReplay(t, quietModel(600, 0), Window{0, time.Minute}, target, out, mta(1)) // 10 a second
				if row.retries {
					r = newReplay(t, hourOfMail(0), Window{Duration: 90 * time.Minute}, newGreylisting(), out, mta(1), mta(2))
					r.ClosedLoop = true
				}
				r.MaxInFlight = row.inFlight
				begins, stretches := time.Duration(0), 0
				if stop > 0 {
					r.Turn = func(_ context.Context, k int, from time.Duration) (Stretch, error) {
						stretches++
						if k > 0 && r.Stats().InFlight() > 0 {
							t.Errorf("%s: sessions are under way at turn %d", row.sentence, k)
						}
						begins = time.Since(r.Anchor) + time.Second
						part := Stretch{To: r.Trace.Window().Duration, Due: Paced(from, begins, row.speed(k))}
						if k < 5 {
							stopped := make(chan struct{})
							part.Stop = stopped
							time.AfterFunc(time.Second+stop, func() { close(stopped) })
						} else {
							r.Drain = time.Hour
						}
						return part, nil
					}
				}
				if stop == 0 {
					r.Drain = time.Hour
				}
				stats, err := r.Run(t.Context())
				if err != nil || stats.Offered != stats.Started || stats.Ended != stats.Started || stats.CutShort > 0 || stop > 0 && stretches < 5 {
					t.Errorf("%s: %v, %d stretches: %+v", row.sentence, err, stretches, stats)
				}
				if row.inFlight > 10 {
					for _, s := range out.all {
						if s.Operation == reference.Route && s.Recipient == 0 && s.Queue() > 30*time.Millisecond {
							t.Fatalf("%s: message %d is %v late", row.sentence, s.Message, s.Queue())
						}
					}
				}
				return out.ops()
			}
			whole, stopped := run(0), run(3500*time.Millisecond)
			if !slices.Equal(whole, stopped) || len(whole) < 500 {
				t.Errorf("%s: %d ops, without stretches %d, or others", row.sentence, len(stopped), len(whole))
			}
		})
	}
}
