package topology

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	got, err := New(Shape{DataNodes: 4, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range got.Nodes {
		b.WriteString(string('0'+rune(n.ID)) + " " + n.Name + " on " + n.Host + " in " + string('0'+rune(n.Group+1)) + "\n")
	}
	const want = `1 mgm1 on admin1 in 0
2 data1 on cyrus1 in 1
3 data2 on cyrus2 in 1
4 data3 on cyrus3 in 2
5 data4 on cyrus4 in 2
6 sql1 on mta1 in 0
7 sql2 on webmail1 in 0
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

func TestNewRefuses(t *testing.T) {
	sql := []string{"mta1"}
	for _, row := range []struct {
		sentence string
		shape    Shape
		message  string
	}{
		{"no replica", Shape{DataNodes: 2, Replicas: 0, SQLHosts: sql}, "replicas is 0"},
		{"more replicas than NDB has", Shape{DataNodes: 5, Replicas: 5, SQLHosts: sql}, "replicas is 5"},
		{"no data node", Shape{DataNodes: 0, Replicas: 2, SQLHosts: sql}, "data nodes is 0"},
		{"an odd node out", Shape{DataNodes: 3, Replicas: 2, SQLHosts: sql}, "3 data nodes cannot form node groups of 2"},
		{"no SQL node", Shape{DataNodes: 2, Replicas: 2}, "SQL nodes is 0"},
	} {
		if _, err := New(row.shape); err == nil || !strings.Contains(err.Error(), row.message) {
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.message)
		}
	}
}

func TestNodeNamesTheNodesThatThereAre(t *testing.T) {
	layout, err := New(Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := layout.Node("data2"); err != nil || n.ID != 3 {
		t.Errorf("Node(data2) = %v, %v", n, err)
	}
	if _, err := layout.Node("data9"); err == nil || !strings.Contains(err.Error(), "mgm1, data1, data2, sql1") {
		t.Errorf("error %v must list the nodes", err)
	}
}
