package scenarios

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
)

// TestProbesFeelAFault: where there are no clients, a fault that only clients
// would feel is felt by the probes, and what is no fault is not.
func TestProbesFeelAFault(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	const sql1 = topology.ID(4)
	refused := errors.New("connection refused")
	answer := func(took time.Duration, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(took):
				return err
			}
		}
	}
	quick := answer(3*time.Millisecond, nil)
	for _, row := range []struct {
		sentence string
		before   func(context.Context) error
		during   func(context.Context) error // through sql1
		within   time.Duration               // 0 for never
	}{
		{"quick answers are no effect", quick, quick, 0},
		{"a node that refuses is felt at the third probe", quick, answer(time.Millisecond, refused), time.Second},
		{"a node that hangs is felt after the third time-out", quick, answer(time.Hour, nil), probeTimeout + time.Second},
		{"a node that answers late is felt", quick, answer(400*time.Millisecond, nil), 2 * time.Second},
		{"one that was as late before is not", answer(400*time.Millisecond, nil), answer(420*time.Millisecond, nil), 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			anchor := time.Now()
			f := newFeeler(layout, anchor)
			var injected bool
			p := prober{
				nodes: layout.ByRole(topology.SQL), record: f.Record, anchor: anchor,
				ask: func(ctx context.Context, node topology.ID, _ int) error {
					if injected && node == sql1 {
						return row.during(ctx)
					}
					return row.before(ctx)
				},
			}
			done := make(chan struct{})
			go func() { defer close(done); p.run(ctx) }()
			time.Sleep(probeLead - time.Millisecond)
			synctest.Wait()
			injected = true
			made := time.Now()
			f.Event(chaos.Event{Kind: chaos.KindFault, Name: chaos.StepInjected, Fault: "f1", Node: "sql1"})
			felt := time.Duration(0)
			for felt == 0 && time.Since(made) < 20*time.Second {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if _, ok := f.Felt(made); ok {
					felt = time.Since(made)
				}
			}
			stop()
			<-done
			if felt > row.within || (felt == 0) != (row.within == 0) {
				t.Errorf("%s: felt after %s, want %s at most", row.sentence, felt, row.within)
			}
		})
	}
}
