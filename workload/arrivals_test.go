package workload

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"
)

// TestArrivals holds that a load that is offered evenly comes at one rate, whatever
// the rate of its minutes, and that its times come in order.
func TestArrivals(t *testing.T) {
	for _, row := range []struct {
		sentence string
		window   Window
	}{
		{"an hour that begins with a minute", Window{10 * time.Hour, time.Hour}},
		{"a window that cuts minutes", Window{9*time.Hour + 59*time.Minute + 30*time.Second, 25*time.Minute + 7*time.Microsecond}},
		{"less than a minute", Window{10 * time.Hour, 20 * time.Second}},
	} {
		model := hourOfMail(0)
		model.MessagesPerDay, model.Bursts, model.BurstPerMille = 400_000, 1, 4000
		trace, err := NewTrace(1, model, Population{Seed: 1, Accounts: 60, Domain: DefaultDomain, Backends: BackendNames(2)}, row.window)
		if err != nil {
			t.Fatal(err)
		}
		a, err := CountArrivals(t.Context(), trace)
		if err != nil {
			t.Fatal(err)
		}
		end := row.window.From + row.window.Duration
		if got := a.Before(end); got != float64(trace.Messages()) || a.Before(row.window.From) != 0 {
			t.Errorf("%s: %v messages, want %d", row.sentence, got, trace.Messages())
		}
		half := float64(trace.Messages()) / 2
		to, ok := a.After(row.window.From, half)
		if !ok || math.Abs(a.Before(to)-half) > 0.01 {
			t.Errorf("%s: half of %d have come at %v, which is after %v", row.sentence, trace.Messages(), to, a.Before(to))
		}
		if _, ok := a.After(to, half+1); ok {
			t.Errorf("%s: there are more messages after %v than there are", row.sentence, to)
		}
		due := a.Evenly(row.window.From, end, time.Second, 10*time.Second)
		tenths, last := [10]int{}, time.Duration(0)
		for item := range trace.All() {
			at := due(item.At)
			if at < last || at < time.Second || at > 11*time.Second {
				t.Fatalf("%s: %v is due at %v, the one before at %v", row.sentence, item.At, at, last)
			}
			if last = at; item.Message != nil {
				tenths[min(9, int((at-time.Second)/time.Second))]++
			}
		}
		want := float64(trace.Messages()) / 10
		for i, n := range tenths {
			if math.Abs(float64(n)-want) > 5*math.Sqrt(want)+1 {
				t.Errorf("%s: tenth %d has %d messages, want %.0f give or take", row.sentence, i, n, want)
			}
		}
	}
}

func TestPeak(t *testing.T) {
	a := Arrivals{window: Window{0, 3 * time.Hour}, before: make([]int64, 181)}
	for i := range 180 {
		a.before[i+1] = a.before[i] + 10
		if i >= 90 && i < 150 {
			a.before[i+1] += 10
		}
	}
	if got := a.PeakPPM(); got != 1_500_000 {
		t.Errorf("an hour of 20 a minute in three of 10: %d, want 1.5 times the mean", got)
	}
	short := Arrivals{window: Window{0, time.Minute}, before: []int64{0, 7}}
	if got := short.PeakPPM(); got != million {
		t.Errorf("a window without an hour: %d, want its mean", got)
	}
	none := Arrivals{window: Window{0, time.Minute}, before: []int64{0, 0}}
	if got := none.Evenly(0, time.Minute, 0, 10*time.Second)(30 * time.Second); got != 5*time.Second {
		t.Errorf("without messages the half is due at %v, want 5 s", got)
	}
}

func TestCountArrivalsEnds(t *testing.T) {
	model := hourOfMail(0)
	model.MessagesPerDay = 50_000
	trace, err := NewTrace(1, model, Population{Seed: 1, Accounts: 60, Domain: DefaultDomain, Backends: BackendNames(2)}, Window{0, 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if trace.Messages() > 5000 {
		if _, err := CountArrivals(ctx, trace); !errors.Is(err, gone) {
			t.Errorf("error %v, want the cause of the end", err)
		}
	} else {
		t.Fatalf("the trace has %d messages, too few to be cut off", trace.Messages())
	}
}
