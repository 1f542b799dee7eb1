package scenarios

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// TestLinksOfAScenario: every client's way to the node that a scenario puts farther
// away is longer, and no other; a scenario without links leaves connections alone.
func TestLinksOfAScenario(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := func(set ...string) *Plan {
			p, err := NewPlan(t.Context(), parse(t, least, set...))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if plan().links() != nil {
			t.Error("connections are reached into where nothing needs it")
		}
		p := plan("links=[{node: sql1, delay: 2ms}]")
		node := func(name string) (topology.ID, bool) {
			n, err := p.Topology.Node(name)
			return n.ID, err == nil
		}
		next := func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			return ours, nil
		}
		links := p.links()
		if links == nil {
			t.Fatal("connections are left alone")
		}
		for _, client := range []string{"mta1", "webmail1"} {
			for name, want := range map[string]time.Duration{"sql1": 2 * time.Millisecond, "sql2": 0} {
				start := time.Now()
				conn, err := links.Dial(client, node, next)(t.Context(), "tcp", name)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				if took := time.Since(start); took != want {
					t.Errorf("%s takes %s to reach %s, want %s", client, took, name, want)
				}
			}
		}
	})
}
