package external

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/topology"
)

func testTopology(t *testing.T) topology.Topology {
	t.Helper()
	layout, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "mta2"}})
	if err != nil {
		t.Fatal(err)
	}
	return layout // mgm1 is node 1, data1 and data2 are 2 and 3, sql1 and sql2 are 4 and 5
}

func says(t *testing.T, sentence string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", sentence, err, want)
	}
}

func TestGuard(t *testing.T) {
	here := guardAnswer{node: "sql1", engine: "ndbcluster", names: []string{"other", "staging"}}
	also := here
	also.node = "sql2"
	silent := guardAnswer{node: "sql2", err: errors.New("connection refused")}
	for _, row := range []struct {
		sentence string
		answers  []guardAnswer
		all      bool
		want     string
	}{
		{"every SQL node says yes", []guardAnswer{here, also}, true, ""},
		{"one that does not answer says no", []guardAnswer{here, silent}, true, "cannot be read through sql2: connection refused"},
		{"but where it may be down, the others decide", []guardAnswer{here, silent}, false, ""},
		{"nobody answers, nobody says yes", []guardAnswer{silent}, false, "no SQL node tells what its guard table holds"},
		{"no SQL node, no yes", nil, false, "no SQL node tells"},
		{"no table is no", []guardAnswer{{node: "sql1"}, also}, true, "sql1 shows user no guard table mailbench_guard.clusters"},
		{"an empty table is no", []guardAnswer{{node: "sql1", engine: "ndbcluster"}}, true, "does not hold staging"},
		{"another's name is no", []guardAnswer{{node: "sql1", engine: "ndbcluster", names: []string{"production"}}}, true, "does not hold staging"},
		{"nor is one that a collation takes for the same", []guardAnswer{{node: "sql1", engine: "ndbcluster", names: []string{"Staging", "staging "}}}, true, "does not hold staging"},
		{"one node's own table is no", []guardAnswer{{node: "sql1", engine: "InnoDB", names: here.names}}, true, "has the engine InnoDB"},
		{"one no among those that answer is no", []guardAnswer{here, {node: "sql2"}}, false, "sql2 shows user no guard table"},
	} {
		says(t, row.sentence, judgeGuard("staging", "user", row.answers, row.all), row.want)
	}
}

func TestWhoMustNameTheCluster(t *testing.T) {
	for _, row := range []struct{ sentence, confirmed, want string }{
		{"its very name", "staging", ""},
		{"no name", "", "--i-know-this-cluster staging"},
		{"another name", "stagin", `names "stagin", but the scenario's cluster is staging`},
	} {
		says(t, row.sentence, New(Spec{Name: "staging", Confirmed: row.confirmed, Topology: testTopology(t)}).confirmed(), row.want)
	}
}

func TestDifferences(t *testing.T) {
	data := func(id topology.ID, group int, address string) mgm.NodeStatus {
		return mgm.NodeStatus{ID: id, Type: mgm.DataNode, Status: mgm.Started, NodeGroup: group, Address: address}
	}
	sql := func(id topology.ID) sqlSaid {
		return sqlSaid{id: id, addresses: map[topology.ID]netip.Addr{2: netip.MustParseAddr("10.0.0.2"), 3: netip.MustParseAddr("10.0.0.3")}}
	}
	for _, row := range []struct {
		sentence string
		all      bool
		change   func(*said)
		want     string
	}{
		{"as it was described", true, func(*said) {}, ""},
		{"addresses may be spelled in another way", true, func(s *said) { s.status[2] = data(2, 0, "::ffff:10.0.0.2") }, ""},
		{"another management server", true, func(s *said) { s.management = 49 }, "the management server is node 49, the scenario's external.management has id 1"},
		{"a data node that was not told of", true, func(s *said) { s.status[6] = data(6, 1, "10.0.0.6") }, "knows the data nodes 2, 3, 6, the scenario's external.data_nodes are 2, 3"},
		{"one that is not there", true, func(s *said) { delete(s.status, 3) }, "knows the data nodes 2, the scenario's"},
		{"another node group", true, func(s *said) { s.status[3] = data(3, 1, "10.0.0.3") }, "data node 3 is in node group 1, the scenario says 0"},
		{"a node that is down has no group to tell", true, func(s *said) {
			s.status[3] = mgm.NodeStatus{ID: 3, Type: mgm.DataNode, Status: mgm.NoContact, NodeGroup: 7}
		}, ""},
		{"another SQL node", true, func(s *said) { s.sql[1].id = 6 }, "sql2 is node 6, the scenario's external.sql has id 5"},
		{"a SQL node that does not answer", true, func(s *said) { s.sql[1] = sqlSaid{err: errors.New("refused")} }, "sql2 does not answer: refused"},
		{"may be what is to be healed", false, func(s *said) { s.sql[1] = sqlSaid{err: errors.New("refused")} }, ""},
		{"but one must answer", false, func(s *said) { s.sql[0].err, s.sql[1].err = errors.New("refused"), errors.New("refused") }, "sql1 does not answer: refused"},
		{"the same ids in another cluster", true, func(s *said) { s.sql[0].addresses[3] = netip.MustParseAddr("10.9.0.3") },
			"sql1 and the management server do not speak of the same cluster: node 3 is at 10.9.0.3 by the one and at 10.0.0.3 by the other"},
		{"the addresses of SQL nodes tell it too", true, func(s *said) {
			s.status[5] = mgm.NodeStatus{ID: 5, Type: mgm.APINode, Status: mgm.Connected, Address: "10.0.0.5"}
			s.sql[0].addresses[5] = netip.MustParseAddr("10.9.0.5")
		}, "node 5 is at 10.9.0.5"},
		{"and that of the management server does not", true, func(s *said) {
			s.status[1] = mgm.NodeStatus{ID: 1, Type: mgm.ManagementNode, Status: mgm.Connected, Address: "127.0.0.1"}
			s.sql[0].addresses[1] = netip.MustParseAddr("10.0.0.1")
		}, ""},
		{"nothing to compare is no proof", true, func(s *said) { s.sql[0].addresses, s.sql[1].addresses = nil, nil }, "nobody tells by the addresses of nodes"},
	} {
		s := said{management: 1, status: map[topology.ID]mgm.NodeStatus{2: data(2, 0, "10.0.0.2"), 3: data(3, 0, "10.0.0.3")}, sql: []sqlSaid{sql(4), sql(5)}}
		row.change(&s)
		says(t, row.sentence, differences(testTopology(t), s, row.all), row.want)
	}
}

func TestNext(t *testing.T) {
	for _, row := range []struct {
		sentence string
		state    mgm.Status
		after    time.Duration
		want     step
	}{
		{"an angel that waits is told", mgm.NotStarted, 0, begin},
		{"who starts needs no telling", mgm.Starting, 0, nothing},
		{"who runs may be about to stop", mgm.Started, time.Second, look},
		{"or runs", mgm.Started, settle, nothing},
		{"who stops will wait for a start", mgm.ShuttingDown, settle, look},
		{"who restarts has no contact for a while", mgm.NoContact, settle, look},
		{"or for good", mgm.NoContact, leaving, giveUp},
		{"a state that nobody knows", "", leaving, giveUp},
	} {
		if got := next(row.state, row.after); got != row.want {
			t.Errorf("%s: %d, want %d", row.sentence, got, row.want)
		}
	}
}

func TestWhatReachesWhichNode(t *testing.T) {
	c := New(Spec{Name: "staging", Topology: testTopology(t)})
	for _, row := range []struct {
		capability string
		node       topology.ID
		want       string
	}{
		{"Stopper", 2, ""},
		{"Crasher", 3, ""},
		{"Restarter", 3, ""},
		{"Stopper", 4, "starts data nodes only, and sql1 is a sql node"},
		{"Restarter", 1, "starts data nodes only, and mgm1 is a management node"},
		{"Observer", 4, ""},
		{"Admin", 4, "never through SQL"},
	} {
		says(t, row.capability, c.CheckNode(row.capability, row.node), row.want)
	}
	if _, ok := any(c).(reference.Killer); ok {
		t.Error("nobody kills the process of another's node")
	}
}

// fakeServer speaks as much of the management protocol as acts need. States are
// what data node 3 is in, one for each time that it is asked for; the last stays.
type fakeServer struct {
	mu     sync.Mutex
	states []mgm.Status
	told   []string // the acts, with their arguments
}

func (f *fakeServer) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var request []string
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if line := lines.Text(); line != "" {
						request = append(request, line)
						continue
					}
					_, _ = fmt.Fprint(conn, f.answer(request)+"\n\n")
					request = nil
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func (f *fakeServer) answer(request []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch request[0] {
	case "get status":
		state := f.states[0]
		if len(f.states) > 1 {
			f.states = f.states[1:]
		}
		return "node status\nnodes: 1\nnode.3.type: NDB\nnode.3.status: " + string(state)
	case "restart node v2":
		f.told = append(f.told, strings.Join(request, ", "))
		return "restart reply\nresult: Ok\nrestarted: 1\ndisconnect: 0"
	case "start":
		f.told = append(f.told, strings.Join(request, ", "))
		return "start reply\nresult: Ok"
	default:
		return "result: no such command"
	}
}

func TestActsGoThroughTheManagementServer(t *testing.T) {
	const orderly, abort = "restart node v2, node: 3, initialstart: 0, nostart: 1, abort: 0, force: 0", "restart node v2, node: 3, initialstart: 0, nostart: 1, abort: 1, force: 0"
	for _, row := range []struct {
		sentence string
		states   []mgm.Status
		act      func(context.Context, *Cluster) error
		told     []string
		want     string
	}{
		{"a stop leaves the angel waiting", []mgm.Status{mgm.Started}, func(ctx context.Context, c *Cluster) error { return c.StopNode(ctx, 3) }, []string{orderly}, ""},
		{"a crash hands nothing over", []mgm.Status{mgm.Started}, func(ctx context.Context, c *Cluster) error { return c.CrashChild(ctx, 3) }, []string{abort}, ""},
		{"a restart starts by itself", []mgm.Status{mgm.Started}, func(ctx context.Context, c *Cluster) error { return c.RestartNode(ctx, 3) }, []string{strings.Replace(orderly, "nostart: 1", "nostart: 0", 1)}, ""},
		{"a node that waits is started", []mgm.Status{mgm.NotStarted}, func(ctx context.Context, c *Cluster) error { return c.StartNode(ctx, 3) }, []string{"start, node: 3"}, ""},
		{"one that still stops is awaited", []mgm.Status{mgm.Started, mgm.ShuttingDown, mgm.NoContact, mgm.NotStarted}, func(ctx context.Context, c *Cluster) error { return c.StartNode(ctx, 3) }, []string{"start, node: 3"}, ""},
		{"one that starts is left alone", []mgm.Status{mgm.Starting}, func(ctx context.Context, c *Cluster) error { return c.StartNode(ctx, 3) }, nil, ""},
		{"a SQL node is not the server's to stop", []mgm.Status{mgm.Started}, func(ctx context.Context, c *Cluster) error { return c.StopNode(ctx, 4) }, nil, "want a data node"},
		{"nor to start", []mgm.Status{mgm.Started}, func(ctx context.Context, c *Cluster) error { return c.StartNode(ctx, 4) }, nil, "want a data node"},
		{"whoever waits can be ended", []mgm.Status{mgm.NoContact}, func(ctx context.Context, c *Cluster) error {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			return c.StartNode(ctx, 3)
		}, nil, "start node data2, which is NO_CONTACT"},
	} {
		server := &fakeServer{states: slices.Clone(row.states)}
		c := New(Spec{Name: "staging", Confirmed: "staging", Topology: testTopology(t), Addresses: map[topology.ID]string{1: server.serve(t)}})
		says(t, row.sentence+", but not before the guard was asked", row.act(t.Context(), c), map[bool]string{true: row.want, false: "before its guard table was read"}[row.want == "want a data node"])
		if len(server.told) > 0 {
			t.Errorf("%s: before the guard was asked the server was told %q", row.sentence, server.told)
		}
		c.guarded = true
		says(t, row.sentence, row.act(t.Context(), c), row.want)
		server.mu.Lock()
		if !reflect.DeepEqual(server.told, row.told) {
			t.Errorf("%s: the server was told %q, want %q", row.sentence, server.told, row.told)
		}
		server.mu.Unlock()
	}
}

// TestNothingIsDoneUnguarded goes through all else that changes a cluster. Nobody
// serves at its addresses: an error about a connection would be one too late.
func TestNothingIsDoneUnguarded(t *testing.T) {
	c := New(Spec{Name: "staging", Confirmed: "production", Topology: testTopology(t), Addresses: map[topology.ID]string{1: "127.0.0.1:9", 4: "127.0.0.1:9", 5: "127.0.0.1:9"}})
	ctx := t.Context()
	const before = "before its guard table was read"
	says(t, "a DUMP code", c.Dump(ctx, 2, 7099), before)
	_, _, err := c.Loader(ctx)
	says(t, "a load", err, before)
	_, err = c.Connect(ctx, 4, reference.ConnectOptions{})
	says(t, "a client's session", err, before)
	says(t, "the database", c.makeDatabase(ctx), before)
	says(t, "its removal", c.DropDatabase(ctx, "run"), before)
	says(t, "a start", c.Start(ctx), "names \"production\"")
	says(t, "a heal", c.PermitHeal(ctx), "names \"production\"")
	says(t, "a stop of what was not made", c.Stop(ctx), "")
}
