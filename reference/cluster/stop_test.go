package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestANodeThatEndsIsAwaited: a start must not take a server that is about to end
// for one that runs.
func TestANodeThatEndsIsAwaited(t *testing.T) {
	const never = time.Hour
	refused := errors.New("the engine does not say")
	for _, row := range []struct {
		sentence      string
		started, told string
		exits         time.Duration
		err           error
		want          time.Duration
		wrong         error
	}{
		{"a node that was never told to end is left alone", "12:00", "", never, nil, 0, nil},
		{"one that was told before its last start is left alone", "12:00", "11:00", never, nil, 0, nil},
		{"a management server takes half a minute to end", "12:00", "12:00", 31 * time.Second, nil, 31 * time.Second, nil},
		{"one that does not end is not awaited for ever", "12:00", "12:00", never, nil, endTimeout, errNotEnded},
		{"an engine that cannot tell is no node that did not end", "12:00", "12:00", 0, refused, 0, refused},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := awaitEnd(t.Context(), row.started, row.told, func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(row.exits):
					return row.err
				}
			})
			if took := time.Since(began); took != row.want {
				t.Errorf("%s: waited %s, want %s", row.sentence, took, row.want)
			}
			if !errors.Is(err, row.wrong) {
				t.Errorf("%s: %v, want %v", row.sentence, err, row.wrong)
			}
		})
	}
}
