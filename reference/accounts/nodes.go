package accounts

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/reference/ndberr"
)

// Node is one SQL node and a pool of connections to it, whose default database
// holds the tables.
type Node struct {
	Name string
	DB   *sql.DB
}

// Nodes is a Manager over several SQL nodes. It asks one until that fails, and
// then the next; a call tries until it has an answer or its context ends.
//
// A failed transaction is repeated as a whole, and only as the change's id
// allows: where COMMIT had no answer, the id is read back first.
type Nodes struct {
	nodes   []Node
	timeout time.Duration
	current atomic.Uint64 // the node that is asked, modulo their number
	stats   [4]atomic.Int64
}

var _ Manager = (*Nodes)(nil)

// NewNodes returns a Manager over nodes, preferred one first, which does not
// close their pools. timeout bounds each transaction.
func NewNodes(nodes []Node, timeout time.Duration) (*Nodes, error) {
	if len(nodes) == 0 {
		return nil, errors.New("accounts: no SQL node is given")
	}
	if timeout <= 0 {
		return nil, fmt.Errorf("accounts: the time-out of a transaction is %v, must be above 0", timeout)
	}
	return &Nodes{nodes: nodes, timeout: timeout}, nil
}

// Stats is what Change has met so far.
type Stats struct {
	Retried   int64 // transactions that were repeated
	Unsettled int64 // COMMITs of which it was not known whether they took effect
	ReadBack  int64 // of these, those whose change was found to be stored
	Absent    int64 // of these, those whose change was found not to be stored
}

const (
	retried = iota
	unsettled
	readBack
	absent
)

// Stats reads the counters.
func (n *Nodes) Stats() Stats {
	return Stats{
		Retried: n.stats[retried].Load(), Unsettled: n.stats[unsettled].Load(),
		ReadBack: n.stats[readBack].Load(), Absent: n.stats[absent].Load(),
	}
}

// The waits between tries: the first, and what doubling leads to.
const (
	firstWait = 10 * time.Millisecond
	maxWait   = 500 * time.Millisecond
)

// Change implements Manager. When ctx ends while it is not known whether the
// change happened, the error wraps ErrUnknown.
func (n *Nodes) Change(ctx context.Context, c Change) error {
	if err := c.Validate(); err != nil {
		return err
	}
	// In doubt: a COMMIT had no answer, so that nothing is sent again before the
	// change's id has been looked for.
	doubt, tries := false, 0
	err := n.try(ctx, func(ctx context.Context, s SQL) error {
		if doubt {
			made, err := s.Made(ctx, c)
			if err != nil {
				return err
			}
			doubt = false
			if made {
				n.stats[readBack].Add(1)
				return nil
			}
			n.stats[absent].Add(1)
		}
		if tries++; tries > 1 {
			n.stats[retried].Add(1)
		}
		err := s.Change(ctx, c)
		var commit *commitError
		if errors.As(err, &commit) && ndberr.Classify(commit.err).Effect != ndberr.NotApplied {
			doubt = true
			n.stats[unsettled].Add(1)
		}
		return err
	}, func() bool { return doubt })
	if err != nil && doubt {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

// Account implements Manager.
func (n *Nodes) Account(ctx context.Context, login string) (a Account, err error) {
	err = n.try(ctx, func(ctx context.Context, s SQL) (err error) {
		a, err = s.Account(ctx, login)
		return err
	}, func() bool { return false })
	return a, err
}

// try calls do on one node after another until it succeeds, fails for good or
// ctx ends. What would fail for good is tried again as long as there is doubt.
func (n *Nodes) try(ctx context.Context, do func(context.Context, SQL) error, doubt func() bool) error {
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		at := n.current.Load()
		node := n.nodes[at%uint64(len(n.nodes))]
		err := n.once(ctx, node, do)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("through %s: %w", node.Name, err)
		if ctx.Err() != nil {
			return fmt.Errorf("%w; the last error was: %w", context.Cause(ctx), err)
		}
		r := ndberr.Classify(err)
		if refused(err) || !doubt() && !r.Retryable && r.Class != ndberr.Committed {
			return err
		}
		if elsewhere(r.Class) {
			n.current.CompareAndSwap(at, at+1)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the last error was: %w", context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

func (n *Nodes) once(ctx context.Context, node Node, do func(context.Context, SQL) error) error {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	conn, err := node.DB.Conn(ctx)
	if err != nil {
		return &ndberr.ConnectError{Node: node.Name, Err: err}
	}
	defer conn.Close()
	return do(ctx, NewSQL(conn))
}

// refused says that an error is the answer.
func refused(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, ErrState) || errors.Is(err, fs.ErrInvalid)
}

// elsewhere says whether another SQL node may do better: one that lost its
// cluster or its life. A lock or an overload is the cluster's.
func elsewhere(c ndberr.Class) bool {
	return c != ndberr.LockTimeout && c != ndberr.Temporary
}
