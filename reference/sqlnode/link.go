package sqlnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// link is a session's connection. It bounds statements by deadlines of its own
// instead of by their contexts, which cost both the driver and database/sql a
// goroutine, and a timer, for each statement.
type link struct {
	net.Conn

	mu      sync.Mutex
	asks    int  // operations so far
	asking  bool // the last one of them goes on
	expired bool // it met its deadline
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// begin bounds an operation by ctx and by d, which is none if it is 0. The
// context that it returns never ends. end returns what the operation's error
// comes to.
func (l *link) begin(ctx context.Context, d time.Duration) (asking context.Context, end func(error) error) {
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	if at, ok := ctx.Deadline(); ok && (deadline.IsZero() || at.Before(deadline)) {
		deadline = at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks++
	l.asking, l.expired = true, false
	// A connection that is closed takes no deadline, and fails at the statement.
	_ = l.SetDeadline(deadline)
	number := l.asks
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.asking && l.asks == number { // else it came too late
			_ = l.SetDeadline(past) // as above
		}
	})
	return context.WithoutCancel(ctx), func(err error) error {
		stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asking = false
		switch {
		case err == nil || !l.expired:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		default:
			return fmt.Errorf("%w (%w)", context.DeadlineExceeded, err)
		}
	}
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.note(err)
	return n, err
}

func (l *link) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.note(err)
	return n, err
}

// note remembers what the driver does not tell: it calls a deadline a broken
// connection.
func (l *link) note(err error) {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = true
}
