package sqlnode_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// TestSession asks every path in one session with each real SQL node.
func TestSession(t *testing.T) {
	c := schematest.Install(t, "session")
	for i, node := range c.Nodes {
		s, err := sqlnode.Connect(t.Context(), node, c.Addresses[i], c.Account, reference.ConnectOptions{
			ConnectTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := s.Route(t.Context(), "nobody@example.edu"); err != nil || a.Verdict != routing.Unknown {
			t.Errorf("%s: route: got %v, %v", node.Name, a, err)
		}
		a, err := s.Check(t.Context(), greylist.Request{
			Client: netip.MustParseAddr("192.0.2.1"), Recipient: node.Name + "@example.edu", Now: time.Unix(1000, 0),
		})
		if want := (greylist.Answer{Verdict: greylist.New, Wait: 300 * time.Second}); err != nil || a != want {
			t.Errorf("%s: check: got %v, %v", node.Name, a, err)
		}
		if err := s.Set(t.Context(), node.Name, "theme", "dark"); err != nil {
			t.Error(err)
		}
		if p, err := s.Read(t.Context(), node.Name); err != nil || p["theme"] != "dark" {
			t.Errorf("%s: read: got %v, %v", node.Name, p, err)
		}
		if err := s.Delete(t.Context(), node.Name, "theme"); err != nil {
			t.Error(err)
		}
		if p, err := s.Read(t.Context(), node.Name); err != nil || len(p) != 0 {
			t.Errorf("%s: read after a delete: got %v, %v", node.Name, p, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
