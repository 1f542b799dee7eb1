package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

func TestTurnsOfFaultsBeyondOneKill(t *testing.T) {
	const s = time.Second
	pair := func(change func(first, second *Spec)) []Spec {
		first := Spec{Kind: Kill, Target: "mgm1", At: time.Minute, Hold: time.Minute}
		second := Spec{Kind: Kill, Target: "data1", At: 5 * s, Hold: 20 * s, During: DuringPrevious}
		change(&first, &second)
		return []Spec{first, second}
	}
	for _, row := range []struct {
		sentence string
		specs    []Spec
		change   func(b *bed)
		want     []string
		err      error
	}{
		{
			"faults in effect together are taken back each in its time, and awaited at the end",
			pair(func(_, _ *Spec) {}), func(*bed) {},
			[]string{
				"1m0s f1-kill-mgm1 injected", "1m0.1s f1-kill-mgm1 effective", "1m5.1s f2-kill-data1 injected", "1m5.2s f2-kill-data1 effective",
				"1m25.2s f2-kill-data1 recover", "2m0.1s f1-kill-mgm1 recover",
				"2m0.1s f2-kill-data1 recovered", "2m10.1s f1-kill-mgm1 recovered", "2m10.1s f1-kill-mgm1 redundant", "2m10.1s f2-kill-data1 redundant",
			},
			nil,
		},
		{
			"when one has no effect the others are not made, and all is taken back at once",
			pair(func(first, _ *Spec) { first.Hold = time.Hour / 2 }),
			func(b *bed) {
				b.engine.point = func(ctx context.Context, point string) error {
					if point == "down 2" {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
			},
			[]string{
				"1m0s f1-kill-mgm1 injected", "1m0.1s f1-kill-mgm1 effective", "1m5.1s f2-kill-data1 injected", "1m50.1s f2-kill-data1 failed effective",
				"1m50.1s f1-kill-mgm1 recover", "1m50.1s f2-kill-data1 recover",
				"2m0.1s f1-kill-mgm1 recovered", "2m0.1s f2-kill-data1 recovered", "2m0.1s f1-kill-mgm1 redundant", "2m0.1s f2-kill-data1 redundant",
			},
			nil,
		},
		{
			"when one cannot be made, those in effect are undone",
			pair(func(_, _ *Spec) {}),
			func(b *bed) {
				b.engine.point = func(_ context.Context, point string) error {
					if point == "kill 2" {
						return errNoSpace
					}
					return nil
				}
			},
			[]string{
				"1m0s f1-kill-mgm1 injected", "1m0.1s f1-kill-mgm1 effective", "1m5.1s f2-kill-data1 failed injected",
				"1m5.1s f2-kill-data1 recover", "1m5.1s f1-kill-mgm1 recover", "1m5.1s f2-kill-data1 recovered", "1m15.1s f1-kill-mgm1 recovered",
				"1m15.1s f1-kill-mgm1 redundant", "1m15.1s f2-kill-data1 redundant",
			},
			nil,
		},
		{
			"a group that lacks a capability is passed over as a whole",
			pair(func(_, second *Spec) { second.Kind = Pause }),
			func(b *bed) { b.Faults = Builder(bare{b.engine, b.engine}, nil) },
			[]string{"1m0s f1-kill-mgm1 failed injected", "1m0s f2-pause-data1 failed injected"},
			nil,
		},
		{
			"the master is found at the injection, and is another one each time",
			[]Spec{
				{Kind: Kill, Target: Master, At: time.Minute, Hold: 40 * s},
				{Kind: Kill, Target: Master, At: 5 * s, Hold: 20 * s, During: DuringPrevious, AllowOutage: true},
			},
			func(*bed) {},
			[]string{
				"1m0s f1-kill-master injected", "1m0.1s f1-kill-master effective", "1m5.1s f2-kill-master injected", "1m5.2s f2-kill-master effective",
				"1m25.2s f2-kill-master recover", "1m40.1s f1-kill-master recover",
				"1m40.1s f2-kill-master recovered", "1m50.1s f1-kill-master recovered", "1m50.1s f1-kill-master redundant", "1m50.1s f2-kill-master redundant",
			},
			nil,
		},
		{
			"a fault of several acts tells of each",
			[]Spec{{Kind: KillInRestart, Target: "data1", At: time.Minute, Hold: 10 * s, Settings: Settings{Phase: 2}}},
			func(*bed) {},
			[]string{
				"1m0s f1-kill-in-restart-data1 injected", "1m0.1s f1-kill-in-restart-data1 stage counted as failed",
				"1m2.1s f1-kill-in-restart-data1 stage start phase 2 completed", "1m2.2s f1-kill-in-restart-data1 effective",
				"1m12.2s f1-kill-in-restart-data1 recover", "1m22.2s f1-kill-in-restart-data1 recovered", "1m22.2s f1-kill-in-restart-data1 redundant",
			},
			nil,
		},
		{
			"clients that feel a pause are proof enough, long before heartbeats are",
			[]Spec{{Kind: Pause, Target: "data1", At: time.Minute, Hold: 5 * s}},
			func(b *bed) {
				b.Felt = func(since time.Time) (reference.Evidence, bool) {
					at := since.Add(1200 * time.Millisecond)
					return reference.Evidence{At: at, Source: "clients", Detail: "MySQL 1205"}, !time.Now().Before(at)
				}
			},
			[]string{
				"1m0s f1-pause-data1 injected", "1m1.2s f1-pause-data1 effective", "1m6.2s f1-pause-data1 recover",
				"1m11.2s f1-pause-data1 recovered", "1m11.2s f1-pause-data1 redundant",
			},
			nil,
		},
		{
			"but not where the cluster must say so",
			[]Spec{{Kind: Stop, Target: "data1", At: time.Minute, Hold: 5 * s}},
			func(b *bed) {
				b.Felt = func(since time.Time) (reference.Evidence, bool) {
					return reference.Evidence{At: time.Now(), Source: "clients"}, true
				}
			},
			[]string{
				"1m0s f1-stop-data1 injected", "1m0.1s f1-stop-data1 effective", "1m5.1s f1-stop-data1 recover",
				"1m15.1s f1-stop-data1 recovered", "1m15.1s f1-stop-data1 redundant",
			},
			nil,
		},
		{
			"a paused node that was counted as failed ends when it is thawed, and is started",
			[]Spec{{Kind: Pause, Target: "data1", At: time.Minute, Hold: 5 * s}},
			func(*bed) {},
			[]string{
				"1m0s f1-pause-data1 injected", "1m25s f1-pause-data1 effective", "1m30s f1-pause-data1 recover",
				"1m42.2s f1-pause-data1 recovered", "1m42.2s f1-pause-data1 redundant",
			},
			nil,
		},
		{
			"a node that ends some time after its host can be heard again is started, and the plan goes on",
			[]Spec{{Kind: Isolate, Target: "data1", At: time.Minute, Hold: 5 * s}},
			func(b *bed) {
				var ends sync.Once
				b.engine.point = func(_ context.Context, point string) error {
					if point != "mend cyrus1 done" {
						return nil
					}
					ends.Do(func() {
						time.AfterFunc(8*s, func() {
							b.engine.mu.Lock()
							defer b.engine.mu.Unlock()
							_ = b.engine.nodes[2].stop()
						})
					})
					return nil
				}
			},
			[]string{
				"1m0s f1-isolate-data1 injected", "1m25s f1-isolate-data1 effective", "1m30s f1-isolate-data1 recover",
				"1m48.2s f1-isolate-data1 recovered", "1m48.2s f1-isolate-data1 redundant",
			},
			nil,
		},
		{
			"redundancy must have stood for as long as the fault wants",
			[]Spec{{Kind: Kill, Target: "data1", At: time.Minute, Hold: 5 * s, Settle: 20 * s}},
			func(b *bed) {
				// Data node 3 dies by itself 10 s before, and is back 15 s later.
				time.AfterFunc(50*s, func() { _ = b.engine.Kill(context.Background(), 4) })
				time.AfterFunc(65*s, func() { _ = b.engine.StartNode(context.Background(), 4) })
			},
			[]string{
				"1m35s f1-kill-data1 injected", "1m35.1s f1-kill-data1 effective", "1m40.1s f1-kill-data1 recover",
				"1m50.1s f1-kill-data1 recovered", "1m50.1s f1-kill-data1 redundant",
			},
			nil,
		},
		{
			"a break of redundancy begins the time anew",
			[]Spec{{Kind: Kill, Target: "data1", At: time.Minute, Hold: 5 * s, Settle: 20 * s}},
			func(b *bed) {
				time.AfterFunc(70*s, func() { _ = b.engine.Kill(context.Background(), 4) })
				time.AfterFunc(71*s, func() { _ = b.engine.StartNode(context.Background(), 4) })
			},
			[]string{
				"1m41s f1-kill-data1 injected", "1m41.1s f1-kill-data1 effective", "1m46.1s f1-kill-data1 recover",
				"1m56.1s f1-kill-data1 recovered", "1m56.1s f1-kill-data1 redundant",
			},
			nil,
		},
		{
			"an outage that was meant takes nodes along, which are started too",
			[]Spec{{Kind: Kill, Target: "group:1", At: time.Minute, Hold: 10 * s, AllowOutage: true}},
			func(b *bed) {
				// The rest of the cluster shuts down at once.
				b.engine.point = func(_ context.Context, point string) error {
					if point == "down 4" {
						b.engine.mu.Lock()
						defer b.engine.mu.Unlock()
						for _, id := range []topology.ID{2, 3} {
							_ = b.engine.nodes[id].stop()
						}
					}
					return nil
				}
			},
			[]string{
				"1m0s f1-kill-group-1 injected", "1m0.1s f1-kill-group-1 effective", "1m10.1s f1-kill-group-1 recover",
				"1m20.1s f1-kill-group-1 recovered", "1m20.1s f1-kill-group-1 redundant",
			},
			nil,
		},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, row.specs...)
				row.change(b)
				if err := b.Run(t.Context()); !errors.Is(err, row.err) {
					t.Errorf("error %v, want %v", err, row.err)
				}
				if got := b.sink.lines(); !slices.Equal(got, row.want) {
					t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
				}
				b.same(t, "after the plan")
				if _, entries, err := ReopenJournal(b.path); err != nil || len(OpenFaults(entries)) != 0 {
					t.Errorf("the journal leaves %v open, %v", OpenFaults(entries), err)
				}
			})
		})
	}
}

func TestTheMasterIsJournaledByItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Spec{Kind: PowerOff, Target: Master, At: time.Minute, Hold: 10 * time.Second})
		_ = b.engine.Kill(t.Context(), 2) // data2 leads from now on
		time.Sleep(time.Second)
		if err := b.engine.StartNode(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		b.engine.nodes[2].started = time.Now().Add(-time.Minute)
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, entries, err := ReopenJournal(b.path)
		if err != nil || len(entries) == 0 || len(entries[0].Nodes) != 1 {
			t.Fatalf("%+v, %v", entries, err)
		}
		for _, e := range b.sink.list {
			if e.Node != entries[0].Nodes[0].Name {
				t.Errorf("%s is said of %s, the journal has %s", e.Name, e.Node, entries[0].Nodes[0].Name)
			}
		}
	})
}

func TestARunThatEndsDuringALongInjectionUndoesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Spec{Kind: MemoryFull, Target: "sql1", At: time.Minute, Hold: time.Minute})
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("interrupted")
		var inserts int
		b.engine.point = func(ctx context.Context, point string) error {
			if point != "sql REPLACE INTO" {
				return nil
			}
			if inserts++; inserts == 3 {
				cancel(interrupted)
				<-ctx.Done()
			}
			return ctx.Err()
		}
		if err := b.Run(ctx); !errors.Is(err, interrupted) || errors.Is(err, ErrUnhealed) {
			t.Errorf("error %v", err)
		}
		if inserts != 3 {
			t.Errorf("%d statements were sent, want none after the end", inserts)
		}
		b.same(t, fmt.Sprintf("after %d inserts", inserts))
	})
}
