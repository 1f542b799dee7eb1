package sqlnode

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
)

// answering logs in and then answers each statement after a while with OK.
func answering(c net.Conn, after time.Duration) {
	greet(c)
	send(c, 2, "\x00\x00\x00\x02\x00\x00\x00")
	packet := make([]byte, 1<<12)
	for {
		if _, err := c.Read(packet); err != nil || packet[4] == 1 { // COM_QUIT
			return
		}
		time.Sleep(after)
		send(c, 1, "\x00\x00\x00\x02\x00\x00\x00")
	}
}

func TestAnOperationEndsWithWhatBoundsIt(t *testing.T) {
	for _, row := range []struct {
		sentence    string
		readTimeout time.Duration // of the session
		deadline    time.Duration // of the context; 0 for none
		cancel      time.Duration // when the context is cancelled; 0 for never
		node        time.Duration // that it takes to answer
		want        error
		took        time.Duration
		class       ndberr.Class
		retryable   bool
	}{
		{"the node's answer", 5 * time.Second, 0, 0, time.Second, nil, time.Second, 0, false},
		{"the session's time-out", 5 * time.Second, 0, 0, time.Hour, context.DeadlineExceeded, 5 * time.Second, ndberr.Timeout, true},
		{"the context's deadline before that", 5 * time.Second, 3 * time.Second, 0, time.Hour, context.DeadlineExceeded, 3 * time.Second, ndberr.Timeout, true},
		{"the session's time-out before the context's", 2 * time.Second, 3 * time.Second, 0, time.Hour, context.DeadlineExceeded, 2 * time.Second, ndberr.Timeout, true},
		{"the context's end", 5 * time.Second, 0, time.Second, time.Hour, context.Canceled, time.Second, ndberr.Timeout, false},
		{"the context's end where there is no time-out", 0, 0, time.Minute, time.Hour, context.Canceled, time.Minute, ndberr.Timeout, false},
		{"nothing but the answer where nothing bounds it", 0, 0, 0, time.Hour, nil, time.Hour, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			dials := 0
			s, err := Connect(t.Context(), node, "192.0.2.1:3306", Account{User: "u"}, reference.ConnectOptions{
				Dial: dialer(&dials, func(c net.Conn) { answering(c, row.node) }), ConnectTimeout: 2 * time.Second, ReadTimeout: row.readTimeout,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if row.deadline > 0 {
				ctx, cancel = context.WithTimeout(t.Context(), row.deadline)
				defer cancel()
			}
			if row.cancel > 0 {
				time.AfterFunc(row.cancel, cancel)
			}
			start := time.Now()
			err = s.Set(ctx, "u", "k", "v")
			if took := time.Since(start); took != row.took || !errors.Is(err, row.want) {
				t.Errorf("%s: %v after %v, want %v after %v", row.sentence, err, took, row.want, row.took)
			}
			if r := ndberr.Classify(err); r.Class != row.class || r.Retryable != row.retryable {
				t.Errorf("%s: %v is %+v", row.sentence, err, r)
			}
			time.Sleep(2 * time.Hour) // for the node to notice
		})
	}
}

// TestAContextBoundsItsOwnOperationOnly ends contexts between operations.
func TestAContextBoundsItsOwnOperationOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		s, err := Connect(t.Context(), node, "192.0.2.1:3306", Account{User: "u"}, reference.ConnectOptions{
			Dial: dialer(&dials, func(c net.Conn) { answering(c, time.Second) }), ConnectTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 100 {
			// It ends as the answer comes, before or after it.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Microsecond)
			if err := s.Set(ctx, "u", "k", "v"); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := s.Set(ctx, "u", "k", "v"); !errors.Is(err, context.Canceled) {
				t.Fatalf("a context that has ended asks nothing: %v", err)
			}
			time.Sleep(time.Hour) // the deadline of the operation before is long over
		}
	})
}
