package sqlnode_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
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
		if a, err := s.Route(t.Context(), "nobody@example.edu"); err != nil || a.Verdict != routing.Foreign { // no domain has a row
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
		change := accounts.Change{
			ID: [16]byte{15: byte(i + 1)}, At: time.Unix(1000, 0), Action: accounts.Create,
			Login: node.Name + "@example.edu", Account: accounts.Account{Backend: "cyrus1"},
		}
		for range 2 { // the same change happens once
			if err := s.Change(t.Context(), change); err != nil {
				t.Errorf("%s: change: %v", node.Name, err)
			}
		}
		if a, err := s.Account(t.Context(), change.Login); err != nil || a.Backend != "cyrus1" || a.State != routing.Active {
			t.Errorf("%s: account: got %+v, %v", node.Name, a, err)
		}
		if a, err := s.Route(t.Context(), change.Login); err != nil || a.Verdict != routing.Local || a.Backend != "cyrus1" {
			t.Errorf("%s: the route of a new account: got %v, %v", node.Name, a, err)
		}
		change.ID, change.Action = [16]byte{14: 1, 15: byte(i + 1)}, accounts.Resume
		if verdict, err := accounts.VerdictOf(s.Change(t.Context(), change)); verdict != accounts.BadState || err != nil {
			t.Errorf("%s: a change that its state does not allow: got %v, %v", node.Name, verdict, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
