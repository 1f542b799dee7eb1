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
}

func (o *observer) Master(context.Context) (topology.ID, error) { return 2, nil }

func (o *observer) Dump(_ context.Context, node topology.ID, args ...int) error {
	o.dumped = append([]int{int(node)}, args...)
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
	if first.IsZero() {
		<-ctx.Done()
		return reference.Evidence{}, ctx.Err()
	}
	time.Sleep(time.Until(first))
	return reference.Evidence{At: first}, nil
}

func TestCompleteLocalCheckpoint(t *testing.T) {
	const started, completed = "LocalCheckpointStarted", "LocalCheckpointCompleted"
	for _, row := range []struct {
		sentence string
		tells    map[time.Duration]string
		refuse   error
		want     time.Duration
		wantErr  string
	}{
		{"it is waited for", map[time.Duration]string{time.Second: started, 9 * time.Second: completed}, nil, 9 * time.Second, ""},
		{"one that was under way already is not the one", map[time.Duration]string{time.Second: completed, 2 * time.Second: started, 7 * time.Second: completed}, nil, 7 * time.Second, ""},
		{"nor is one from before", map[time.Duration]string{-2 * time.Second: started, -time.Second: completed, time.Second: started, 3 * time.Second: completed}, nil, 3 * time.Second, ""},
		{"one that does not end is not waited for without end", map[time.Duration]string{time.Second: started}, nil, time.Minute, "await LocalCheckpointCompleted: context deadline exceeded"},
		{"a refusal is told", nil, errors.New("no contact"), 0, "ask for a local checkpoint: no contact"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			o := &observer{began: time.Now(), tells: row.tells, refuse: row.refuse}
			err := reference.CompleteLocalCheckpoint(ctx, o)
			if took := time.Since(o.began); took != row.want {
				t.Errorf("%s: it took %v, want %v", row.sentence, took, row.want)
			}
			if (err == nil) != (row.wantErr == "") || err != nil && !strings.Contains(err.Error(), row.wantErr) {
				t.Errorf("%s: error %v, want %q", row.sentence, err, row.wantErr)
			}
			if !slices.Equal(o.dumped, []int{2, 7099}) {
				t.Errorf("%s: the master was given %v, want [2 7099]", row.sentence, o.dumped)
			}
		})
	}
}
