package chaos

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// The fake cluster's habits.
const (
	killSeen    = 10 * time.Millisecond // a closed connection
	silenceSeen = 25 * time.Second      // heartbeats
	missedBeat  = 5 * time.Second
	startTakes  = 10 * time.Second // a phase a second
	endTakes    = 2 * time.Second  // of a node that learns that it was excluded
	tick        = 100 * time.Millisecond
	maxConns    = 20 // of a SQL node
	memoryRows  = 300
)

// engine is a fake target that offers every capability. It is a cluster in a
// synctest bubble: a node that is dead, frozen or cut off is counted as failed
// after a while, and a data node that was counted as failed while it lived ends
// when it can hear the others again.
type engine struct {
	layout topology.Topology

	// point is called before ("freeze 2") and after ("freeze 2 done") each call.
	// It may end the goroutine, or the act: with an error the call returns it.
	point func(ctx context.Context, name string) error

	mu     sync.Mutex
	nodes  map[topology.ID]*engineNode
	hosts  map[string]*engineHost
	events []reference.ClusterEvent
	tables map[string]int // rows, by DATABASE.TABLE
	dbs    map[string]bool
	conns  map[topology.ID]int
	locked bool // rows of mail.greylist
}

type engineNode struct {
	running, frozen, emptied, filled, hogged bool
	limit                                    int

	changed  time.Time // of running, frozen, or a cut
	excluded bool      // counted as failed
	heard    time.Time // since then it could know
	started  time.Time
	phases   int // events told of its start
	troubled time.Time
}

type engineHost struct {
	cuts  map[string]reference.Cut
	shape reference.Shape
}

func newEngine(layout topology.Topology) *engine {
	e := &engine{
		layout: layout, point: func(context.Context, string) error { return nil },
		nodes: map[topology.ID]*engineNode{}, hosts: map[string]*engineHost{},
		tables: map[string]int{"mail.greylist": 100}, dbs: map[string]bool{"mail": true}, conns: map[topology.ID]int{},
	}
	for _, n := range layout.Nodes {
		e.nodes[n.ID] = &engineNode{running: true, started: time.Now().Add(-time.Hour), phases: 100}
	}
	for _, host := range layout.Hosts() {
		e.hosts[host] = &engineHost{cuts: map[string]reference.Cut{}}
	}
	return e
}

func (e *engine) Topology() topology.Topology { return e.layout }

// processEnds closes the connections of the process that made the faults, as an
// operating system does.
func (e *engine) processEnds() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.conns)
	e.locked = false
}

// state is all that a fault must leave as it found it.
func (e *engine) state() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pass()
	var b strings.Builder
	for _, n := range e.layout.Nodes {
		s := e.nodes[n.ID]
		fmt.Fprintf(&b, "%s running=%t frozen=%t emptied=%t filled=%t hogged=%t limit=%d excluded=%t connections=%d\n",
			n.Name, s.running, s.frozen, s.emptied, s.filled, s.hogged, s.limit, s.excluded, e.conns[n.ID])
	}
	for _, host := range e.layout.Hosts() {
		fmt.Fprintf(&b, "%s cuts=%v shape=%v\n", host, slices.Sorted(maps.Keys(e.hosts[host].cuts)), e.hosts[host].shape)
	}
	fmt.Fprintf(&b, "databases=%v tables=%v locked=%t\n", slices.Sorted(maps.Keys(e.dbs)), slices.Sorted(maps.Keys(e.tables)), e.locked)
	return b.String()
}

// cut says whether no packet of a host comes through to somebody.
func (e *engine) cut(host string) bool {
	for _, c := range e.hosts[host].cuts {
		if c.Loss == everyPacket {
			return true
		}
	}
	return false
}

// pass lets what is due by now happen.
func (e *engine) pass() {
	now := time.Now()
	for _, n := range e.layout.Nodes {
		s, h := e.nodes[n.ID], e.hosts[n.Host]
		after := silenceSeen
		if !s.running && !e.cut(n.Host) {
			after = killSeen
		}
		reachable := s.running && !s.frozen && !e.cut(n.Host)
		switch {
		case !reachable && now.Sub(s.changed) >= after && !s.excluded:
			s.excluded = true
			e.tell("NODE_FAILREP", n.ID, nil)
		case reachable && s.excluded && n.Role == topology.Data && s.heard.IsZero():
			s.heard = now
		case reachable && s.excluded && n.Role == topology.Data && now.Sub(s.heard) >= endTakes:
			s.running, s.changed = false, now
		case reachable && s.excluded && n.Role != topology.Data:
			s.excluded = false
		}
		if reachable {
			for ; s.phases < 9 && now.Sub(s.started) >= time.Duration(s.phases)*time.Second; s.phases++ {
				e.tell("StartPhaseCompleted", n.ID, map[string]string{"phase": fmt.Sprint(s.phases)})
			}
		}
		trouble := h.shape != reference.Shape{} || s.hogged || s.limit != 0 || len(h.cuts) > 0
		switch {
		case !trouble:
			s.troubled = time.Time{}
		case s.troubled.IsZero():
			s.troubled = now
		case now.Sub(s.troubled) >= missedBeat:
			s.troubled = now
			e.tell("MissedHeartbeat", n.ID, nil)
		}
	}
}

func (e *engine) tell(name string, n topology.ID, fields map[string]string) {
	e.events = append(e.events, reference.ClusterEvent{At: time.Now(), Name: name, Node: n, Fields: fields})
}

// do is one act.
func (e *engine) do(ctx context.Context, name string, act func() error) error {
	if err := e.point(ctx, name); err != nil {
		return err
	}
	e.mu.Lock()
	e.pass()
	err := act()
	e.pass()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.point(ctx, name+" done")
}

func (e *engine) onNode(ctx context.Context, what string, id topology.ID, act func(s *engineNode) error) error {
	return e.do(ctx, fmt.Sprintf("%s %d", what, id), func() error { return act(e.nodes[id]) })
}

func (s *engineNode) stop() error {
	if !s.running {
		return errors.New("the node is not running")
	}
	s.running, s.frozen, s.changed = false, false, time.Now()
	return nil
}

func (s *engineNode) start() error {
	if !s.running {
		*s = engineNode{running: true, started: time.Now(), changed: time.Now(), filled: s.filled, hogged: s.hogged, limit: s.limit}
	}
	return nil
}

func (e *engine) Runs(_ context.Context, id topology.ID) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pass()
	return e.nodes[id].running, nil
}

func (e *engine) Kill(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "kill", id, (*engineNode).stop)
}

func (e *engine) StartNode(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "start", id, (*engineNode).start)
}

func (e *engine) StopNode(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "stop", id, (*engineNode).stop)
}

func (e *engine) CrashChild(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "crash", id, (*engineNode).stop)
}

func (e *engine) RestartNode(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "restart", id, func(s *engineNode) error {
		e.tell("NODE_FAILREP", id, nil)
		return errors.Join(s.stop(), s.start())
	})
}

func (e *engine) Freeze(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "freeze", id, func(s *engineNode) error {
		s.frozen, s.changed = true, time.Now()
		return nil
	})
}

func (e *engine) Thaw(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "thaw", id, func(s *engineNode) error { s.frozen = false; return nil })
}

func (e *engine) EmptyDisk(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "empty", id, func(s *engineNode) error {
		if s.running {
			return errors.New("the node is running")
		}
		s.emptied = true
		return nil
	})
}

func (e *engine) LimitCPU(ctx context.Context, id topology.ID, milliCPUs int) error {
	return e.onNode(ctx, "limit", id, func(s *engineNode) error { s.limit = milliCPUs; return nil })
}

func (e *engine) ResetLimits(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "reset", id, func(s *engineNode) error { s.limit = 0; return nil })
}

func (e *engine) StartHog(ctx context.Context, id topology.ID, _ reference.HogLoad) error {
	return e.onNode(ctx, "hog", id, func(s *engineNode) error { s.hogged = true; return nil })
}

func (e *engine) StopHog(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "unhog", id, func(s *engineNode) error { s.hogged = false; return nil })
}

func (e *engine) CheckDisk(context.Context, topology.ID) error { return nil }

func (e *engine) FillDisk(ctx context.Context, id topology.ID, _ int64) error {
	return e.onNode(ctx, "fill", id, func(s *engineNode) error { s.filled = true; return nil })
}

func (e *engine) FreeDisk(ctx context.Context, id topology.ID) error {
	return e.onNode(ctx, "free", id, func(s *engineNode) error { s.filled = false; return nil })
}

func (e *engine) onHost(ctx context.Context, what, host string, act func(h *engineHost)) error {
	return e.do(ctx, what+" "+host, func() error {
		before := e.cut(host)
		act(e.hosts[host])
		if e.cut(host) != before {
			for _, n := range nodesOn(e.layout, []string{host}) {
				e.nodes[n.ID].changed = time.Now()
			}
		}
		return nil
	})
}

func (e *engine) CheckFirewall(context.Context) error { return nil }

func (e *engine) Cut(ctx context.Context, host string, c reference.Cut) error {
	return e.onHost(ctx, "cut", host, func(h *engineHost) { h.cuts[c.Name] = c })
}

func (e *engine) Mend(ctx context.Context, host, name string) error {
	return e.onHost(ctx, "mend", host, func(h *engineHost) { delete(h.cuts, name) })
}

func (e *engine) CheckShape(context.Context, reference.Shape) error { return nil }

func (e *engine) Shape(ctx context.Context, host string, s reference.Shape) error {
	return e.onHost(ctx, "shape", host, func(h *engineHost) { h.shape = s })
}

func (e *engine) Unshape(ctx context.Context, host string) error {
	return e.onHost(ctx, "unshape", host, func(h *engineHost) { h.shape = reference.Shape{} })
}

func (e *engine) Master(context.Context) (topology.ID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pass()
	for _, n := range e.layout.ByRole(topology.Data) {
		if s := e.nodes[n.ID]; s.running && !s.excluded {
			return n.ID, nil
		}
	}
	return 0, errors.New("no data node is started")
}

func (e *engine) Dump(ctx context.Context, id topology.ID, args ...int) error {
	return e.do(ctx, fmt.Sprintf("dump %d", id), func() error {
		if args[0] != 7099 {
			return fmt.Errorf("DUMP %v is not known", args)
		}
		e.tell("LocalCheckpointStarted", 0, nil)
		for _, s := range e.nodes {
			if s.filled && s.running {
				_ = s.stop()
			}
		}
		return nil
	})
}

// until polls as the cluster goes on.
func (e *engine) until(ctx context.Context, name string, what func() (reference.Evidence, bool)) (reference.Evidence, error) {
	if err := e.point(ctx, name); err != nil {
		return reference.Evidence{}, err
	}
	for {
		e.mu.Lock()
		e.pass()
		evidence, ok := what()
		e.mu.Unlock()
		if ok {
			return evidence, e.point(ctx, name+" done")
		}
		if err := sleepUntil(ctx, time.Now().Add(tick)); err != nil {
			return reference.Evidence{}, err
		}
	}
}

func (e *engine) AwaitEvent(ctx context.Context, since time.Time, match func(reference.ClusterEvent) bool) (reference.Evidence, error) {
	return e.until(ctx, "event", func() (reference.Evidence, bool) {
		for _, event := range e.events {
			if !event.At.Before(since) && match(event) {
				return reference.Evidence{At: event.At, Source: "event", Detail: event.Name}, true
			}
		}
		return reference.Evidence{}, false
	})
}

func (e *engine) AwaitDown(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return e.until(ctx, fmt.Sprintf("down %d", id), func() (reference.Evidence, bool) {
		return reference.Evidence{At: time.Now(), Source: "status", Detail: "down"}, e.nodes[id].excluded
	})
}

// up says whether a node takes part: a data node that is started.
func (e *engine) up(id topology.ID) bool {
	s := e.nodes[id]
	n, _ := e.layout.ByID(id)
	return s.running && !s.frozen && !s.excluded && !e.cut(n.Host) && time.Since(s.started) >= startTakes
}

func (e *engine) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return e.until(ctx, fmt.Sprintf("up %d", id), func() (reference.Evidence, bool) {
		return reference.Evidence{At: time.Now(), Source: "status", Detail: "up"}, e.up(id)
	})
}

func (e *engine) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return e.until(ctx, fmt.Sprintf("redundant %d", id), func() (reference.Evidence, bool) {
		whole := e.up(id)
		for _, n := range e.layout.ByRole(topology.Data) {
			whole = whole && e.up(n.ID)
		}
		return reference.Evidence{At: time.Now(), Source: "status", Detail: "redundant"}, whole
	})
}

func (e *engine) OpenAdmin(id topology.ID) (*sql.DB, error) {
	return sql.OpenDB(&engineConnector{e, id}), nil
}

// engineConnector is a SQL node of the fake cluster that knows the statements of
// the kinds of fault.
type engineConnector struct {
	*engine
	node topology.ID
}

func (c *engineConnector) Driver() driver.Driver { return nil }

func (c *engineConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn := &engineConn{engineConnector: c, closed: true}
	err := c.do(ctx, fmt.Sprintf("sql connect %d", c.node), func() error {
		if c.conns[c.node] >= maxConns {
			return &mysql.MySQLError{Number: errTooManyConnections, Message: "Too many connections"}
		}
		c.conns[c.node]++
		conn.closed = false
		return nil
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

type engineConn struct {
	*engineConnector
	holds, closed bool
}

func (c *engineConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("nobody prepares here")
}

// Close is what becomes of a connection when its process dies, too.
func (c *engineConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.conns[c.node] = max(0, c.conns[c.node]-1)
		if c.holds {
			c.locked, c.holds = false, false
		}
	}
	return nil
}

func (c *engineConn) Begin() (driver.Tx, error) {
	return nil, errors.New("nobody begins here")
}

func (c *engineConn) ExecContext(ctx context.Context, statement string, _ []driver.NamedValue) (driver.Result, error) {
	words := strings.Fields(statement)
	err := c.do(ctx, "sql "+strings.Join(words[:2], " "), func() error {
		switch {
		case statement == "START TRANSACTION":
		case strings.HasPrefix(statement, "CREATE DATABASE "):
			c.dbs[words[2]] = true
		case strings.HasPrefix(statement, "CREATE TABLE "):
			c.tables[words[2]] = 0
		case strings.HasPrefix(statement, "REPLACE INTO "):
			if n := strings.Count(statement, "REPEAT("); c.tables[words[2]]+n > memoryRows {
				return &mysql.MySQLError{Number: errTableFull, Message: "The table is full"}
			} else {
				c.tables[words[2]] += n
			}
		case strings.HasPrefix(statement, "DROP DATABASE IF EXISTS "):
			delete(c.dbs, words[4])
			maps.DeleteFunc(c.tables, func(table string, _ int) bool { return strings.HasPrefix(table, words[4]+".") })
		default:
			return fmt.Errorf("the fake does not know %q", statement)
		}
		return nil
	})
	return driver.RowsAffected(0), err
}

func (c *engineConn) QueryContext(ctx context.Context, statement string, _ []driver.NamedValue) (driver.Rows, error) {
	rows := &engineRows{left: 1}
	err := c.do(ctx, "sql "+strings.Join(strings.Fields(statement)[:2], " "), func() error {
		if strings.HasSuffix(statement, " FOR UPDATE") {
			if c.locked && !c.holds {
				return &mysql.MySQLError{Number: 1205, Message: "Lock wait timeout exceeded"}
			}
			c.locked, c.holds = true, true
			rows.left = c.tables["mail.greylist"]
		}
		return nil
	})
	return rows, err
}

type engineRows struct{ left int }

func (r *engineRows) Columns() []string { return []string{"1"} }
func (r *engineRows) Close() error      { return nil }
func (r *engineRows) Next(dest []driver.Value) error {
	if r.left == 0 {
		return io.EOF
	}
	r.left--
	dest[0] = int64(1)
	return nil
}

var (
	_ Target              = (*engine)(nil)
	_ reference.Freezer   = (*engine)(nil)
	_ reference.Stopper   = (*engine)(nil)
	_ reference.Restarter = (*engine)(nil)
	_ reference.Crasher   = (*engine)(nil)
	_ reference.Emptier   = (*engine)(nil)
	_ reference.Firewall  = (*engine)(nil)
	_ reference.Shaper    = (*engine)(nil)
	_ reference.Limiter   = (*engine)(nil)
	_ reference.Disk      = (*engine)(nil)
	_ reference.Hog       = (*engine)(nil)
	_ reference.Admin     = (*engine)(nil)
	_ reference.Observer  = (*engine)(nil)
)

// fourNodes is a cluster of two node groups: mgm1, data1 to data4, sql1, sql2.
func fourNodes(t *testing.T) topology.Topology {
	t.Helper()
	return shape(t, 4, 2, "mta1", "webmail1")
}

// specOf is a fault of a kind that a fourNodes can be made to bear.
func specOf(k Kind) Spec {
	s := Spec{Kind: k, Target: "data1", At: time.Minute, Hold: 40 * time.Second}
	switch k {
	case Kill, Pause:
		s.Target = "host:cyrus1"
	case Crash:
		s.Target = Master
	case Stop, Initial:
		s.Target = "any:data"
	case RollingRestart:
		s.Target = "role:data"
	case Partition:
		s.Settings.Peers = []string{"data2", "host:mta1"}
	case Loss:
		s.Settings.LossPPM = 100_000
	case Bandwidth:
		s.Settings.BitsPerSecond = 1_000_000
	case HostLatency:
		s.Settings.Delay = 10 * time.Millisecond
	case Latency:
		s.Target, s.Settings.Delay = "sql1", 10*time.Millisecond
	case LinkCut, ConnectionStorm, OpenTransaction, MemoryFull:
		s.Target = "sql1"
	case NoisyNeighbour, SlowCPU:
		s.Settings.MilliCPUs = 500
	case SlowDisk:
		s.Settings.BytesPerSecond = 1_000_000
	case Command:
		s.Settings.Inject, s.Settings.Recover = []string{"/bin/true", "port", "down"}, []string{"/bin/true", "port", "up"}
		s.Settings.Redundant = []string{"/bin/true"}
	}
	return s
}

// builder is Builder's, but that programs are the engine's.
func (e *engine) builder(links *Links) func(Planned) (Fault, error) {
	build := Builder(e, links)
	return func(p Planned) (Fault, error) {
		f, err := build(p)
		if c, ok := f.(*command); ok {
			c.programs = enginePrograms{e}
		}
		return f, err
	}
}

// enginePrograms stop and start nodes, as a script would that an administrator has.
type enginePrograms struct{ *engine }

func (enginePrograms) find(string) error { return nil }

func (e enginePrograms) run(ctx context.Context, argv, environment []string) (string, error) {
	var id topology.ID
	for _, variable := range environment {
		if n, ok := strings.CutPrefix(variable, "MAILBENCH_NODE_ID="); ok {
			_, _ = fmt.Sscan(n, &id)
		}
	}
	act := (*engineNode).start
	switch argv[len(argv)-1] {
	case "down":
		act = (*engineNode).stop
	case "up":
	default:
		return "", e.do(ctx, "program", func() error { return nil })
	}
	return "", e.onNode(ctx, "program "+argv[len(argv)-1], id, act)
}

// bed is a fake cluster with a plan of faults, a journal, and clients that use
// their links.
type bed struct {
	*Runner
	engine *engine
	sink   *events
	path   string // of the journal
	built  []Fault
	found  string // the engine's state before
}

func newBed(t *testing.T, specs ...Spec) *bed {
	t.Helper()
	layout := fourNodes(t)
	plan, err := NewPlan(1, specs, Ground{Topology: layout, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{engine: newEngine(layout), sink: &events{}}
	links := &Links{}
	journal, path := journalIn(t)
	b.path = path
	build := b.engine.builder(links)
	b.Runner = &Runner{
		Plan: plan, Sink: b.sink, Journal: journal, Anchor: time.Now(), Resolve: Resolver(b.engine),
		Faults: func(p Planned) (Fault, error) {
			f, err := build(p)
			b.built = append(b.built, f)
			return f, err
		},
	}
	dial := wire(links, "mta1", layout.ByRole(topology.SQL)[0].ID)
	ctx, cancel := context.WithCancel(t.Context())
	var client sync.WaitGroup
	client.Go(func() {
		for sleepUntil(ctx, time.Now().Add(time.Second)) == nil {
			bounded, stop := context.WithTimeout(ctx, 5*time.Second)
			if c, err := dial(bounded); err == nil {
				_ = c.Close()
			}
			stop()
		}
	})
	t.Cleanup(func() {
		cancel()
		client.Wait()
		time.Sleep(time.Second) // the server behind the wire ends
	})
	b.found = b.engine.state()
	return b
}

// hook has f called before and after every journal entry and call of the engine.
func (b *bed) hook(f func(ctx context.Context, point string) error) {
	b.engine.point = f
	b.Journal = hooked{b.Journal, func(point string) {
		if f(context.Background(), point) != nil {
			runtime.Goexit() // a journal has no time-out
		}
	}}
}
