package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Links are the connections of clients to SQL nodes. Faults slow or cut them
// while they are in use, inside the harness: neither privileges nor a network
// emulator of the kernel are needed, and what a crashed harness did is gone with
// it. The zero value is ready. All methods may be called from any goroutine.
type Links struct {
	mu  sync.Mutex // of those who change it
	now atomic.Pointer[linkState]
}

// linkState is all that holds at one time. It never changes.
type linkState struct {
	faults  map[string]*linkFault // by the fault's id
	changed chan struct{}         // closed when another state takes its place
}

// linkFault is what one fault does to links.
type linkFault struct {
	clients []string      // none for all
	nodes   []topology.ID // of the other side
	delay   time.Duration // added to each round trip
	cut     bool          // nothing comes through, either way

	once     sync.Once
	met      chan struct{} // closed when a client has met it, after evidence is set
	evidence reference.Evidence
}

func (l *Links) state() *linkState {
	if s := l.now.Load(); s != nil {
		return s
	}
	l.now.CompareAndSwap(nil, &linkState{changed: make(chan struct{})})
	return l.now.Load()
}

// set puts a fault in effect in place of any of that id; nil takes it away.
func (l *Links) set(id string, f *linkFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.state()
	next := &linkState{faults: maps.Clone(old.faults), changed: make(chan struct{})}
	switch {
	case f == nil:
		delete(next.faults, id)
	case next.faults == nil:
		next.faults = map[string]*linkFault{id: f}
	default:
		next.faults[id] = f
	}
	l.now.Store(next)
	close(old.changed)
}

// Lengthen makes each round trip of every client to a SQL node longer, from now on
// and beside what faults do. It is for a node that is far away, not for a fault.
func (l *Links) Lengthen(n topology.Node, delay time.Duration) {
	l.set("link of "+n.Name, newLinkFault(nil, []topology.Node{n}, delay, false))
}

func newLinkFault(clients []string, nodes []topology.Node, delay time.Duration, cut bool) *linkFault {
	f := &linkFault{clients: clients, delay: delay, cut: cut, met: make(chan struct{})}
	for _, n := range nodes {
		f.nodes = append(f.nodes, n.ID)
	}
	return f
}

// await waits until a client has met a fault.
func (l *Links) await(ctx context.Context, id string) (reference.Evidence, error) {
	f := l.state().faults[id]
	if f == nil {
		return reference.Evidence{}, fmt.Errorf("no link has fault %s", id)
	}
	select {
	case <-f.met:
		return f.evidence, nil
	case <-ctx.Done():
		return reference.Evidence{}, fmt.Errorf("no client used a link with fault %s: %w", id, ctx.Err())
	}
}

// on returns what a client's link to a node has now.
func (s *linkState) on(client string, node topology.ID) (delay time.Duration, cut bool) {
	for _, f := range s.of(client, node) {
		delay += f.delay
		cut = cut || f.cut
	}
	return delay, cut
}

func (s *linkState) of(client string, node topology.ID) []*linkFault {
	var found []*linkFault
	for _, f := range s.faults {
		if slices.Contains(f.nodes, node) && (len(f.clients) == 0 || slices.Contains(f.clients, client)) {
			found = append(found, f)
		}
	}
	return found
}

// meet notes that a client has met the faults of its link to a node.
func (s *linkState) meet(client string, node topology.ID) {
	for _, f := range s.of(client, node) {
		f.once.Do(func() {
			what := fmt.Sprintf("%s waited %s longer for node %d", client, f.delay, node)
			if f.cut {
				what = fmt.Sprintf("%s heard nothing from node %d", client, node)
			}
			f.evidence = reference.Evidence{At: time.Now(), Source: "client link", Detail: what}
			close(f.met)
		})
	}
}

// Dial returns next, nil for a plain net.Dialer, as a client's way to SQL nodes
// that faults can slow and cut. Node tells which node has an address; what it
// does not know is left alone. While a link is cut, a connection that is being
// made gets no answer, and one that stands takes what is written, up to 1 MiB,
// and delivers it afterwards, as TCP would.
func (l *Links) Dial(client string, node func(address string) (topology.ID, bool), next reference.DialFunc) reference.DialFunc {
	if next == nil {
		next = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		id, known := node(address)
		if !known {
			return next(ctx, network, address)
		}
		for {
			state := l.state()
			delay, cut := state.on(client, id)
			if cut {
				state.meet(client, id)
				select {
				case <-state.changed:
					continue
				case <-ctx.Done():
					return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
				}
			}
			conn, err := next(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if delay > 0 {
				state.meet(client, id)
				if err := sleepUntil(ctx, time.Now().Add(delay)); err != nil {
					return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: ctx.Err()}, conn.Close())
				}
			}
			link := &link{Conn: conn, links: l, client: client, node: id, closed: make(chan struct{})}
			link.asked.Store(true) // the greeting is half of a round trip that the client began
			return link, nil
		}
	}
}

// maxUnsent is how much a cut link takes, about as much as a socket's buffer.
const maxUnsent = 1 << 20

// link is one connection.
type link struct {
	net.Conn
	links  *Links
	client string
	node   topology.ID

	// asked says that something was written since data came last: what comes next
	// is an answer, and held back for the delay. Once a round trip is exact, where
	// the driver writes a request in one piece or in many.
	asked     atomic.Bool
	closeOnce sync.Once
	closed    chan struct{}

	mu        sync.Mutex
	deadline  time.Time     // for reading
	deadlines chan struct{} // closed when deadline changes; nil while nobody waits
	unsent    []byte        // written while the link was cut

	// Of the one who reads.
	held    []byte // has come, and must wait
	heldErr error  // comes behind held
	due     time.Time
}

func (c *link) Read(b []byte) (int, error) {
	for len(c.held) == 0 && c.heldErr == nil {
		state := c.links.state()
		if _, cut := state.on(c.client, c.node); cut {
			state.meet(c.client, c.node)
			if err := c.wait(state.changed, time.Time{}); err != nil {
				return 0, err
			}
			continue
		}
		if err := c.flush(); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return n, err
		}
		state = c.links.state()
		delay, cut := state.on(c.client, c.node)
		answer := c.asked.Swap(false)
		if !cut && (delay == 0 || !answer) {
			return n, err
		}
		c.held, c.heldErr = slices.Clone(b[:n]), err
		if c.due = time.Now(); answer {
			c.due = c.due.Add(delay)
		}
	}
	for {
		state := c.links.state()
		_, cut := state.on(c.client, c.node)
		wait := time.Until(c.due)
		if !cut && wait <= 0 {
			break
		}
		state.meet(c.client, c.node)
		due := c.due
		if cut {
			due = time.Time{}
		}
		if err := c.wait(state.changed, due); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.held)
	c.held = c.held[n:]
	if len(c.held) > 0 || c.heldErr == nil {
		return n, nil
	}
	err := c.heldErr
	c.heldErr = nil
	return n, err
}

// wait waits for news, until due if it is set, and no longer than the deadline
// for reading lets it, which may change meanwhile.
func (c *link) wait(news <-chan struct{}, due time.Time) error {
	for {
		c.mu.Lock()
		if c.deadlines == nil {
			c.deadlines = make(chan struct{})
		}
		deadline, moved := c.deadline, c.deadlines
		c.mu.Unlock()
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		end := due
		if !deadline.IsZero() && (end.IsZero() || deadline.Before(end)) {
			end = deadline
		}
		var ended <-chan time.Time
		var timer *time.Timer
		if !end.IsZero() {
			timer = time.NewTimer(time.Until(end))
			ended = timer.C
		}
		again := false
		select {
		case <-news:
		case <-ended:
			again = !due.Equal(end) // the deadline has come
		case <-moved:
			again = true
		case <-c.closed:
			return &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
		}
		if timer != nil {
			timer.Stop()
		}
		if !again {
			return nil
		}
	}
}

// Write takes what a cut link cannot send.
func (c *link) Write(b []byte) (int, error) {
	c.asked.Store(true)
	state := c.links.state()
	if _, cut := state.on(c.client, c.node); cut {
		state.meet(c.client, c.node)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.unsent)+len(b) > maxUnsent {
			return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
		c.unsent = append(c.unsent, b...)
		return len(b), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// flush sends what was written while the link was cut.
func (c *link) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unsent) == 0 {
		return nil
	}
	n, err := c.Conn.Write(c.unsent)
	c.unsent = c.unsent[n:]
	return err
}

// Close also ends a Read that waits.
func (c *link) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *link) SetDeadline(t time.Time) error {
	c.moveDeadline(t)
	return c.Conn.SetDeadline(t)
}

func (c *link) SetReadDeadline(t time.Time) error {
	c.moveDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *link) moveDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.deadlines != nil {
		close(c.deadlines)
		c.deadlines = nil
	}
}
