package reference_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// observer is a cluster that tells of events, each so long after it was asked for a
// local checkpoint.
type observer struct {
	began  time.Time
	tells  map[time.Duration]string
	refuse error
	dumped []int
	asked  int
}

func (o *observer) Master(context.Context) (topology.ID, error) { return 2, nil }

func (o *observer) Dump(_ context.Context, node topology.ID, args ...int) error {
	o.dumped = append([]int{int(node)}, args...)
	o.asked++
	return o.refuse
}

func (o *observer) AwaitEvent(ctx context.Context, since time.Time, match func(reference.ClusterEvent) bool) (reference.Evidence, error) {
	var first time.Time
	for after, name := range o.tells {
		at := o.began.Add(after)
		if !at.Before(since) && match(reference.ClusterEvent{At: at, Name: name}) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	var told <-chan time.Time
	if !first.IsZero() {
		told = time.After(time.Until(first))
	}
	select {
	case <-told:
		return reference.Evidence{At: first}, nil
	case <-ctx.Done():
		return reference.Evidence{}, ctx.Err()
	}
}

func TestCompleteLocalCheckpoint(t *testing.T) {
	const started, completed = "LocalCheckpointStarted", "LocalCheckpointCompleted"
	for _, row := range []struct {
		sentence string
		tells    map[time.Duration]string
		refuse   error
		want     time.Duration
		asked    int
		wantErr  string
	}{
		{"it is waited for", map[time.Duration]string{time.Second: started, 9 * time.Second: completed}, nil, 9 * time.Second, 1, ""},
		{"one that was under way already is not the one", map[time.Duration]string{time.Second: completed, 2 * time.Second: started, 7 * time.Second: completed}, nil, 7 * time.Second, 1, ""},
		{"nor is one from before", map[time.Duration]string{-2 * time.Second: started, -time.Second: completed, time.Second: started, 3 * time.Second: completed}, nil, 3 * time.Second, 1, ""},
		{"it is asked for again if nothing is heard of one", map[time.Duration]string{45 * time.Second: started, 50 * time.Second: completed}, nil, 50 * time.Second, 3, ""},
		{"not without end", nil, nil, 70 * time.Second, 4, "await LocalCheckpointStarted: context deadline exceeded"},
		{"one that does not end is not waited for without end", map[time.Duration]string{time.Second: started}, nil, 70 * time.Second, 1, "await LocalCheckpointCompleted: context deadline exceeded"},
		{"a refusal is told", nil, errors.New("no contact"), 0, 1, "ask for a local checkpoint: no contact"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 70*time.Second)
			defer cancel()
			o := &observer{began: time.Now(), tells: row.tells, refuse: row.refuse}
			err := reference.CompleteLocalCheckpoint(ctx, o)
			if took := time.Since(o.began); took != row.want {
				t.Errorf("%s: it took %v, want %v", row.sentence, took, row.want)
			}
			if (err == nil) != (row.wantErr == "") || err != nil && !strings.Contains(err.Error(), row.wantErr) {
				t.Errorf("%s: error %v, want %q", row.sentence, err, row.wantErr)
			}
			if o.asked != row.asked {
				t.Errorf("%s: it was asked for %d times, want %d", row.sentence, o.asked, row.asked)
			}
			if !slices.Equal(o.dumped, []int{2, 7099}) {
				t.Errorf("%s: the master was given %v, want [2 7099]", row.sentence, o.dumped)
			}
		})
	}
}
