package workload

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// Kind is what a client's machine does.
type Kind string

// The kinds of client.
const (
	MTA     Kind = "mta"     // takes messages
	Webmail Kind = "webmail" // takes webmail actions, and the staff's jobs on accounts
)

// Habit is when a client opens and closes its sessions with the database.
type Habit uint8

// The habits.
const (
	// PerMessage is Exim's: a process connects when it first asks, keeps what it
	// opened, and closes all when it ends. One process receives a message and
	// another delivers it. It remembers nothing of dead servers: each op tries
	// the preferred node first. But a session that was lost is kept as well, so
	// that the process does not reach its node again. Whatever the error, the
	// next node is asked. TestEximsHabit sets it beside Exim.
	PerMessage Habit = iota + 1
	// Persistent keeps idle sessions in a pool without bound and takes the one
	// used last. A node that refused a connection is passed over for
	// Policy.Avoid, so that ops go back to the preferred node after that.
	Persistent
)

// Policy is what a client does about slow and failing nodes.
type Policy struct {
	ConnectTimeout time.Duration // for a session to be open; above 0
	// ReadTimeout is for an answer; 0 for none, as Exim has it: its MySQL library
	// knows none (reference/exim/README.md).
	ReadTimeout time.Duration
	// Attempts is how many attempts an op has, the first included, over the
	// list of nodes and around; 1 to 100. Exim has one for each node.
	Attempts int
	// Backoff is the pause before the second round over the list of nodes; it
	// doubles for each further one, up to 30 s. 0 for none.
	Backoff time.Duration
	Avoid   time.Duration // see Persistent
	// FailOpen accepts a recipient whose greylist check got no answer (the op is
	// Degraded); else it is deferred (the op Failed). Both are ways to write
	// Exim's ACL: a lookup in "warn" fails open, one in "defer" fails closed.
	FailOpen bool
}

const maxBackoff = 30 * time.Second

// Client is one machine of ours that asks the database.
type Client struct {
	Name   string
	Kind   Kind
	Nodes  []topology.ID // the SQL nodes that it asks, preferred one first; 1 or more
	Habit  Habit
	Policy Policy
	Dial   reference.DialFunc // nil for a plain net.Dialer
}

// Validate names the field that is out of its range.
func (c Client) Validate() error {
	p := c.Policy
	for _, rule := range []struct {
		ok           bool
		field, wants string
		value        any
	}{
		{c.Kind == MTA || c.Kind == Webmail, "Kind", `must be "mta" or "webmail"`, c.Kind},
		{len(c.Nodes) > 0 && !slices.Contains(c.Nodes, 0), "Nodes", "must name at least one SQL node by its node id", c.Nodes},
		{c.Habit == PerMessage || c.Habit == Persistent, "Habit", "must be PerMessage (1) or Persistent (2)", c.Habit},
		{p.ConnectTimeout > 0, "Policy.ConnectTimeout", "must be above 0", p.ConnectTimeout},
		{p.ReadTimeout >= 0, "Policy.ReadTimeout", "must not be negative", p.ReadTimeout},
		{p.Attempts >= 1 && p.Attempts <= 100, "Policy.Attempts", "must be 1 to 100", p.Attempts},
		{p.Backoff >= 0, "Policy.Backoff", "must not be negative", p.Backoff},
		{p.Avoid >= 0, "Policy.Avoid", "must not be negative", p.Avoid},
	} {
		if !rule.ok {
			return fmt.Errorf("client %s: %s is %v, %s", c.Name, rule.field, rule.value, rule.wants)
		}
	}
	return nil
}

// Connector opens sessions with nodes; a reference.Target is one.
type Connector interface {
	Connect(ctx context.Context, node topology.ID, o reference.ConnectOptions) (reference.Session, error)
}

// machine is a client at work.
type machine struct {
	Client
	index  uint8
	target Connector
	anchor time.Time

	sleeper Sleeper // between rounds over the nodes, and for the time of an op

	mu      sync.Mutex
	idle    []held                        // Persistent: sessions that nobody uses, the last used last
	refused map[topology.ID]time.Duration // Persistent: when a node last refused a connection
}

// held is an open session.
type held struct {
	node    topology.ID
	session reference.Session // nil when it was lost and is to stay so
}

func newMachine(c Client, index int, target Connector, anchor time.Time) *machine {
	return &machine{Client: c, index: uint8(index), target: target, anchor: anchor, sleeper: timers{}, refused: map[topology.ID]time.Duration{}}
}

func (m *machine) now() time.Duration { return time.Since(m.anchor) }

// order is the list of nodes for one op: as configured, with nodes that a
// persistent client avoids moved to the end.
func (m *machine) order() []topology.ID {
	if m.Habit != Persistent || m.Policy.Avoid == 0 {
		return m.Nodes
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.refused) == 0 {
		return m.Nodes
	}
	now := m.now()
	first, last := make([]topology.ID, 0, len(m.Nodes)), []topology.ID(nil)
	for _, node := range m.Nodes {
		if at, ok := m.refused[node]; ok && now-at < m.Policy.Avoid {
			last = append(last, node)
			continue
		}
		delete(m.refused, node)
		first = append(first, node)
	}
	return append(first, last...)
}

func (m *machine) refuse(node topology.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[node] = m.now()
}

func (m *machine) takeIdle(node topology.ID) reference.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.idle) - 1; i >= 0; i-- {
		if m.idle[i].node == node {
			s := m.idle[i].session
			m.idle = slices.Delete(m.idle, i, i+1)
			return s
		}
	}
	return nil
}

// closeIdle ends the pool. What a Close says is of no use to anybody: the
// session is given up either way.
func (m *machine) closeIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.idle {
		_ = h.session.Close()
	}
	m.idle = nil
}

// process is one process of the machine that asks one question after another.
type process struct {
	*machine
	open     []held
	attempts []Attempt // of the last op
}

// reach returns the process's session with node, opening one if need be.
func (p *process) reach(ctx context.Context, node topology.ID) (reference.Session, ndberr.Result) {
	for _, h := range p.open {
		if h.node == node && h.session == nil {
			return nil, ndberr.Classify(driver.ErrBadConn) // nothing was sent
		}
		if h.node == node {
			return h.session, ndberr.Result{}
		}
	}
	s := p.takeIdle(node)
	if s == nil {
		options := reference.ConnectOptions{Dial: p.Dial, ConnectTimeout: p.Policy.ConnectTimeout}
		if p.Policy.ReadTimeout > 0 {
			// The context ends an attempt in time and is told apart from a lost
			// connection; the session's own bound is for a driver that does not
			// heed contexts.
			options.ReadTimeout = p.Policy.ReadTimeout + time.Second
		}
		connecting, cancel := context.WithTimeout(ctx, p.Policy.ConnectTimeout)
		opened, err := p.target.Connect(connecting, node, options)
		cancel()
		if err != nil {
			if p.Habit == Persistent && ctx.Err() == nil {
				p.refuse(node)
			}
			return nil, ndberr.Classify(&ndberr.ConnectError{Err: err})
		}
		s = opened
	}
	p.open = append(p.open, held{node, s})
	return s, ndberr.Result{}
}

// drop closes the session with node, which there is.
func (p *process) drop(node topology.ID) {
	i := slices.IndexFunc(p.open, func(h held) bool { return h.node == node })
	_ = p.open[i].session.Close() // given up either way
	if p.Habit == PerMessage {
		p.open[i].session = nil
		return
	}
	p.open = slices.Delete(p.open, i, i+1)
}

// end ends the process: it closes its sessions, or gives them back.
func (p *process) end() {
	if p.Habit == Persistent {
		p.mu.Lock()
		p.idle = append(p.idle, p.open...)
		p.mu.Unlock()
	} else {
		for _, h := range p.open {
			if h.session != nil {
				_ = h.session.Close() // given up either way
			}
		}
	}
	p.open = p.open[:0]
}

// question is one op put to one session. The verdict is reference.Operation's.
type question func(context.Context, reference.Session) (verdict uint8, err error)

// do performs one op and leaves its attempts in p.attempts. It ends early,
// after at least one attempt, when ctx does.
func (p *process) do(ctx context.Context, op reference.Operation, ask question) (verdict uint8, outcome Outcome) {
	p.attempts = p.attempts[:0]
	order, pause := p.order(), p.Policy.Backoff
	for n := range p.Policy.Attempts {
		if n > 0 && n%len(order) == 0 {
			p.sleeper.Sleep(ctx, pause)
			pause = min(2*pause, maxBackoff)
		}
		if n > 0 && ctx.Err() != nil {
			break
		}
		node := order[n%len(order)]
		a := Attempt{Node: node, Dispatched: p.now()}
		verdict, a.Result = p.attempt(ctx, node, ask)
		a.Ended = p.now()
		p.attempts = append(p.attempts, a)
		next := judge(op, a.Result)
		if next == answered {
			break
		}
		verdict = 0
		if next == giveUp && p.Habit != PerMessage {
			break
		}
	}
	return verdict, conclude(op, p.attempts, p.Policy.FailOpen)
}

func (p *process) attempt(ctx context.Context, node topology.ID, ask question) (uint8, ndberr.Result) {
	s, failed := p.reach(ctx, node)
	if s == nil {
		return 0, failed
	}
	if p.Policy.ReadTimeout > 0 {
		asking, cancel := context.WithTimeout(ctx, p.Policy.ReadTimeout)
		defer cancel()
		ctx = asking
	}
	verdict, err := ask(ctx, s)
	result := ndberr.Classify(err)
	if !result.OK() && mustClose(result) {
		p.drop(node)
	}
	return verdict, result
}

// mustClose follows reference.Session: after an error that is not the
// database's own answer a session is of no use, nor is it after one by which
// the server ends it.
func mustClose(r ndberr.Result) bool {
	return r.MySQL == 0 || r.Class == ndberr.Broken || r.Class == ndberr.ShuttingDown
}

// step is what a client does after an attempt.
type step uint8

const (
	answered step = iota // it has what it wanted
	again                // it asks the next node
	giveUp
)

// judge decides by the attempt alone. An attempt that committed but lost its
// answer (NDB 4115) is as good as answered where the answer says nothing; where
// it is wanted, asking again writes the same triplet once more and does no harm.
func judge(op reference.Operation, r ndberr.Result) step {
	switch {
	case r.OK():
		return answered
	case r.Effect == ndberr.Applied && (op == reference.SetPreference || op == reference.ChangeAccount):
		return answered
	case r.Effect == ndberr.Applied || r.Retryable:
		return again
	default:
		return giveUp
	}
}

// conclude says what became of an op with these attempts, one or more.
//
// A write of which any attempt happened, or may have, and that was not answered
// after it, is Unknown: a later attempt that failed for certain does not undo
// an earlier one. Else, without an answer, an MTA defers for want of a route
// (451), greylisting does as FailOpen says, the webmail shows its defaults, and
// a preference is not saved.
func conclude(op reference.Operation, attempts []Attempt, failOpen bool) Outcome {
	switch last := attempts[len(attempts)-1]; {
	case judge(op, last.Result) == answered && len(attempts) == 1:
		return OK
	case judge(op, last.Result) == answered:
		return Retried
	case op.Writes() && slices.ContainsFunc(attempts, func(a Attempt) bool { return a.Result.Effect != ndberr.NotApplied }):
		return Unknown
	case op == reference.ReadPreferences, op == reference.CheckGreylist && failOpen:
		return Degraded
	default:
		return Failed
	}
}
