package workload

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

// condition is what becomes of a connection to a node.
type condition string

const (
	healthy condition = "healthy"
	refuses condition = "refuses" // nobody listens
	silent  condition = "silent"  // takes the connection and never greets
	paused  condition = "paused"  // stands still from the first statement of each session on, until it is mended
	cuts    condition = "cuts"    // ends each session at its first statement
)

// door is where a client reaches a SQL node, or what is left of it.
type door struct {
	name    string // "a" or "b"
	address string
	node    string // address of the real one
	log     *visits

	mu       sync.Mutex
	is       condition
	listener net.Listener
	mended   chan struct{} // closed when a paused node goes on
	asked    chan struct{} // has a message when a statement has come to it
	open     map[net.Conn]struct{}
}

// visits is the order in which connections came.
type visits struct {
	mu  sync.Mutex
	all []string
}

func (v *visits) add(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, name)
}

func (v *visits) take() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.all
	v.all = nil
	return all
}

// openDoor listens on an address of this machine that containers can reach.
func openDoor(t *testing.T, name string, at netip.Addr, node string, log *visits) *door {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(at.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	d := &door{name: name, address: l.Addr().String(), node: node, log: log, open: map[net.Conn]struct{}{}}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.shut)
	return d
}

// set changes the node's condition and ends the connections of the one before.
func (d *door) set(t *testing.T, is condition) {
	t.Helper()
	d.shut()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.is, d.mended, d.asked = is, make(chan struct{}), make(chan struct{}, 100)
	if is == refuses {
		return
	}
	l, err := net.Listen("tcp", d.address)
	if err != nil {
		t.Fatal(err)
	}
	d.listener = l
	mended, asked := d.mended, d.asked
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // shut
			}
			d.log.add(d.name)
			d.keep(c)
			if is != silent {
				go d.serve(c, is, mended, asked)
			}
		}
	}()
}

func (d *door) keep(c net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[c] = struct{}{}
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		_ = d.listener.Close() // the test is done with it
		d.listener = nil
	}
	for c := range d.open {
		_ = c.Close() // the test is done with it
	}
	clear(d.open)
}

func (d *door) mend() { close(d.mended) }

// serve hands a session on to the real node.
func (d *door) serve(c net.Conn, is condition, mended, asked chan struct{}) {
	defer c.Close()
	real, err := net.Dial("tcp", d.node)
	if err != nil {
		return // the client sees the end of its connection, and the test fails by that
	}
	d.keep(real)
	defer real.Close()
	go func() {
		defer c.Close()
		_, _ = io.Copy(c, real) // ends with either connection
	}()
	packet := make([]byte, 1<<16)
	for {
		n, err := c.Read(packet)
		if err != nil {
			return
		}
		// A packet of the protocol: length (3), number (1), command (1). Commands
		// begin with number 0, and a log-in never does.
		if is != healthy && n > 4 && packet[3] == 0 && packet[4] == 3 { // COM_QUERY
			select {
			case asked <- struct{}{}:
			default:
			}
			if is == cuts {
				return
			}
			<-mended
		}
		if _, err := real.Write(packet[:n]); err != nil {
			return
		}
	}
}

// eximDials finds in what Exim tells of its lookups each node that it connects to.
var eximDials = regexp.MustCompile(`MYSQL new connection: host=(\S+) port=(\d+)`)

// smtp is a message's first try or a later one as its peer sees it.
type smtp struct {
	answers string // to each RCPT, its code
	dials   string // the nodes, in the order of the connections that were tried
}

// TestEximsHabit offers one message for two recipients to real Exim and to a
// client of its habit, with the same servers in the same order and the same
// time-outs. Both must ask the same nodes, in the same order, as often, and the
// peer must get the same answers.
func TestEximsHabit(t *testing.T) {
	shared := clustertest.Shared(t)
	c := schematest.Install(t, "exim_habit")
	program := programstest.Start(t, shared, programstest.Options{Name: "habit", Hosts: map[string]netip.Addr{
		"backend.test": netip.MustParseAddr("127.0.1.1"), // takes no mail: that is not what is tested
	}})
	log := &visits{}
	a, b := openDoor(t, "a", program.Gateway, c.Addresses[0], log), openDoor(t, "b", program.Gateway, c.Addresses[1], log)
	names := map[string]string{a.address: "a", b.address: "b"}

	// One legitimate message of a quiet day, for two.
	model := quietModel(1, 0)
	model.LegitimateRecipients = []int64{0, million}
	tr := newReplay(t, model, Window{0, 2 * time.Minute}, &fakeTarget{}, &samples{}, mta(1)).Trace
	var m Message
	for item := range tr.All() {
		m = *item.Message
		break
	}
	if len(m.Recipients) != 2 {
		t.Fatalf("the message has %d recipients", len(m.Recipients))
	}
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	_, domain, _ := strings.Cut(m.Recipients[0], "@")
	rows := []routing.Row{{Address: "@" + domain, Kind: routing.Domain}}
	for _, r := range m.Recipients {
		rows = append(rows, routing.Row{Address: r, Backend: "backend.test"})
	}
	if err := loader.LoadRoutes(t.Context(), rows); err != nil {
		t.Fatal(err)
	}

	macros := fmt.Sprintf("SQL_USER = %s\nSQL_PASSWORD = %s\nSQL_DATABASE = %s\nSQL_NODE_1 = %s\nSQL_NODE_2 = %s\nOUR_DOMAIN = %s\n"+
		"GREYLIST_NOW = ${readfile{/etc/exim4/now}}\n", c.Account.User, c.Account.Password, c.Account.Database, a.address, b.address, domain)
	program.Write(t, "/etc/exim4/macros.conf", 0o644, []byte(macros))
	config, err := os.ReadFile("../reference/exim/exim.conf")
	if err != nil {
		t.Fatal(err)
	}
	// A list of servers in a query is split at colons, that of a port is doubled.
	program.Write(t, "/etc/exim4/exim4.conf", 0o644, []byte(strings.ReplaceAll(string(config), "servers=SQL_NODE_2", "servers="+strings.ReplaceAll(b.address, ":", "::"))))
	timeouts, err := os.ReadFile("../reference/exim/my.cnf")
	if err != nil {
		t.Fatal(err)
	}
	program.Write(t, "/etc/mysql/conf.d/exim.cnf", 0o644, timeouts)

	byExim := func(now time.Time) smtp {
		program.Write(t, "/etc/exim4/now", 0o644, fmt.Appendf(nil, "%d", now.Unix()))
		session := "EHLO peer.test\r\nMAIL FROM:<" + m.Sender + ">\r\n"
		for _, r := range m.Recipients {
			session += "RCPT TO:<" + r + ">\r\n"
		}
		session += "DATA\r\nSubject: habit\r\n\r\n.\r\nQUIT\r\n"
		program.Write(t, "/tmp/session", 0o644, []byte(session))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		// -odf: it ends when the delivery, by a process of its own, has ended.
		output, err := program.Exec(ctx, "sh", "-c", "exim4 -d-all+lookup -odf -bs -oMa "+m.Client.String()+" </tmp/session")
		if err != nil {
			t.Fatal(err)
		}
		var told smtp
		for _, d := range eximDials.FindAllStringSubmatch(output.Stderr, -1) {
			told.dials += names[net.JoinHostPort(d[1], d[2])]
		}
		// The greeting, and the answers to EHLO and MAIL, come first.
		lines := slices.DeleteFunc(strings.Split(output.Stdout, "\n"), func(l string) bool { return len(l) < 4 || l[3] == '-' })
		if len(lines) < 5 {
			t.Fatalf("Exim says\n%s\n%s", output.Stdout, output.Stderr)
		}
		told.answers = lines[3][:3] + " " + lines[4][:3]
		return told
	}
	byOurs := func(now time.Time) smtp {
		var told smtp
		out := &samples{}
		target := connector(func(ctx context.Context, node topology.ID, o reference.ConnectOptions) (reference.Session, error) {
			d := map[topology.ID]*door{1: a, 2: b}[node]
			told.dials += d.name // one session: nothing is concurrent
			return sqlnode.Connect(ctx, topology.Node{ID: node, Name: d.name}, d.address, c.Account, o)
		})
		// As exim.conf and my.cnf have it.
		exim := Client{Name: "mta1", Kind: MTA, Nodes: []topology.ID{1, 2}, Habit: PerMessage, Policy: Policy{
			ConnectTimeout: 2 * time.Second, Attempts: 2, FailOpen: true,
		}}
		r := newReplay(t, model, Window{m.At, time.Microsecond}, target, out, exim)
		r.Start, r.Drain, r.Day = 0, 2*time.Minute, now.Add(-m.At)
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		answers := []string{"451", "451"}
		for _, s := range out.all {
			if s.Operation != reference.CheckGreylist {
				continue
			}
			if answered := s.Outcome == OK || s.Outcome == Retried; !answered || !greylist.Verdict(s.Answer).Defers() {
				answers[s.Recipient] = "250" // not answered: fail-open
			}
		}
		told.answers = strings.Join(answers, " ")
		return told
	}

	day := time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC)
	const greylisted, deferred, accepted = "451 451", "451 451", "250 250"
	for _, row := range []struct {
		sentence string
		a, b     condition
		// The first try of the message, and the one 400 s later. What is accepted
		// is routed again by the process that delivers.
		first, second smtp
	}{
		{"a process keeps its connection", healthy, healthy, smtp{greylisted, "a"}, smtp{accepted, "a" + "a"}},
		{"each question is put to the dead node first", refuses, healthy, smtp{greylisted, "abaaa"}, smtp{accepted, "abaaa" + "aba"}},
		{"so it is to the silent one", silent, healthy, smtp{greylisted, "abaaa"}, smtp{accepted, "abaaa" + "aba"}},
		{"a node that stands still is waited for, not left", paused, healthy, smtp{greylisted, "a"}, smtp{accepted, "a" + "a"}},
		{"a node that ended the session is not reached again", cuts, healthy, smtp{greylisted, "ab"}, smtp{accepted, "ab" + "ab"}},
		{"with both nodes dead each recipient is put off", refuses, refuses, smtp{deferred, "abab"}, smtp{deferred, "abab"}},
		{"with one silent and one dead as well", silent, refuses, smtp{deferred, "abab"}, smtp{deferred, "abab"}},
		{"with both sessions lost nobody is asked again", cuts, cuts, smtp{deferred, "ab"}, smtp{deferred, "ab"}},
	} {
		for _, client := range []struct {
			name  string
			offer func(now time.Time) smtp
		}{{"Exim", byExim}, {"ours", byOurs}} {
			if _, err := c.Admins[0].DB.ExecContext(t.Context(), "DELETE FROM "+c.Options.Database+".greylist"); err != nil {
				t.Fatal(err)
			}
			for try, want := range []smtp{row.first, row.second} {
				a.set(t, row.a)
				b.set(t, row.b)
				if row.a == paused {
					// Longer than a connection may take.
					go func() { <-a.asked; time.Sleep(3 * time.Second); a.mend() }()
				}
				began := time.Now()
				got := client.offer(day.Add(m.At + time.Duration(try)*400*time.Second))
				took := time.Since(began)
				if got != want {
					t.Errorf("%s: %s: try %d: %+v, want %+v", row.sentence, client.name, try, got, want)
				}
				// Who refuses sees nobody.
				came := want.dials
				for _, d := range []*door{a, b} {
					if d.is == refuses {
						came = strings.ReplaceAll(came, d.name, "")
					}
				}
				if seen := strings.Join(log.take(), ""); seen != came {
					t.Errorf("%s: %s: try %d: connections came to %q, want %q", row.sentence, client.name, try, seen, came)
				}
				// Nobody may give up before a connection's time is over. How much later is
				// the machine's business.
				if least := time.Duration(strings.Count(want.dials, "a")) * 2 * time.Second; row.a == silent && took < least {
					t.Errorf("%s: %s: try %d took %v, less than its time-outs of %v", row.sentence, client.name, try, took, least)
				}
				t.Logf("%s: %s: try %d: %+v in %v", row.sentence, client.name, try, got, took.Round(10*time.Millisecond))
			}
		}
	}
}

// connector is a target of one function.
type connector func(context.Context, topology.ID, reference.ConnectOptions) (reference.Session, error)

func (f connector) Connect(ctx context.Context, node topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	return f(ctx, node, o)
}
