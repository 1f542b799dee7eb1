package topology

import (
	"fmt"
	"strings"
	"testing"
)

func build(t *testing.T, data, replicas int, hosts ...string) Topology {
	t.Helper()
	layout, err := New(Shape{DataNodes: data, Replicas: replicas, SQLHosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

// ids of the nodes with these names, which blanks separate.
func ids(t *testing.T, layout Topology, names string) []ID {
	t.Helper()
	var found []ID
	for _, name := range strings.Fields(names) {
		n, err := layout.Node(name)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, n.ID)
	}
	return found
}

func TestLost(t *testing.T) {
	two := build(t, 2, 2, "mta1", "webmail1")
	four := build(t, 4, 2, "mta1")
	three := build(t, 3, 3, "mta1")
	single := build(t, 2, 1, "mta1")
	for _, row := range []struct {
		sentence  string
		layout    Topology
		gone, now string
		arbitrate bool
		outage    string // part of the reason, "" for none
		fallen    int
	}{
		{"nothing is lost", two, "", "", false, "", 0},
		{"one of two data nodes needs the arbitrator", two, "", "data1", true, "", 0},
		{"without the arbitrator the other half shuts down", two, "mgm1", "data1", false, "no management node can arbitrate", 1},
		{"arbitrator and data node lost together are no better", two, "", "mgm1 data1", false, "no management node can arbitrate", 1},
		{"the second replica after the first is the node group", two, "data1", "data2", false, "node group 0 has no survivor", 0},
		{"all data nodes at once", two, "", "data1 data2", false, "node group 0 has no survivor", 0},
		{"one of two groups that lost nobody decides alone", four, "", "data1", false, "", 0},
		{"and needs no arbitrator", four, "mgm1", "data1", false, "", 0},
		{"one node of each group leaves half", four, "", "data1 data3", true, "", 0},
		{"one after another, the second failure spares the first group", four, "mgm1 data1", "data3", false, "", 0},
		{"a whole group takes the other along", four, "", "data1 data2", false, "node group 0 has no survivor", 2},
		{"the later group is named", four, "", "data3 data4", false, "node group 1 has no survivor", 2},
		{"two of three are more than half", three, "", "data1", false, "", 0},
		{"one of three is less", three, "", "data1 data2", false, "fewer than half", 1},
		{"but the last of two is half, once the first loss was handled", three, "data1", "data2", true, "", 0},
		{"a single replica spares nobody", single, "", "data2", false, "node group 1 has no survivor", 1},
		{"the management node alone costs nothing", two, "", "mgm1", false, "", 0},
		{"one of two SQL nodes", two, "", "sql1", false, "", 0},
		{"both SQL nodes, one after another", two, "sql1", "sql2", false, "no SQL node is left", 0},
	} {
		l := Lost(row.layout, ids(t, row.layout, row.gone), ids(t, row.layout, row.now))
		if l.NeedsArbitrator() != row.arbitrate || len(l.Fallen) != row.fallen ||
			(l.Outage() == "") != (row.outage == "") || !strings.Contains(l.Outage(), row.outage) {
			t.Errorf("%s: arbitrator %v, outage %q, fallen %v", row.sentence, l.NeedsArbitrator(), l.Outage(), l.Fallen)
		}
	}
}

func TestSelect(t *testing.T) {
	layout := build(t, 4, 2, "mta1", "webmail1")
	layout.Nodes = append(layout.Nodes, Node{ID: 9, Name: "sql9", Role: SQL, Host: "cyrus1", Group: -1})
	for _, row := range []struct{ target, want string }{
		{"data2", "data2"},
		{"host:cyrus1", "data1 sql9"},
		{"group:1", "data3 data4"},
		{"role:management", "mgm1"},
		{"all", "mgm1 data1 data2 data3 data4 sql1 sql2 sql9"},
		{"data9", `error: no node is called "data9"; there are mgm1, data1`},
		{"host:mars", `error: no host is called "mars"; there are admin1, cyrus1, cyrus2, cyrus3, cyrus4, mta1, webmail1`},
		{"group:2", `error: no group is called "2"; there are 0, 1`},
		{"role:king", `error: no role is called "king"; there are management, data, sql`},
		{"disk:a", `error: "disk:a" is no target`},
		{"", `error: no node is called ""`},
		{"all:data", `error: "all:data" is no target`},
	} {
		nodes, err := layout.Select(row.target)
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = fmt.Sprintf("error: %v", err)
		}
		if got != row.want && (err == nil || !strings.HasPrefix(got, row.want)) {
			t.Errorf("%q: %s, want %s", row.target, got, row.want)
		}
	}
}
