package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
)

// imported is a trace file of a message for each list of recipients, a second
// apart, as an import writes it.
func imported(t testing.TB, client netip.Addr, messages ...[]string) *TraceFile {
	t.Helper()
	h := beforeTrace(t, 40_000, 0, time.Hour).Header("test")
	h.Origin, h.Window = "imported by a test", Window{}
	var b bytes.Buffer
	w, err := NewTraceWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for n, recipients := range messages {
		at := 26*time.Hour + time.Duration(n)*time.Second
		m := &Message{Number: uint64(n), At: at, Client: client, Sender: "s@example.org", Recipients: recipients}
		if err := w.Write(Item{At: at, Message: m}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := opened(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var testClient = netip.MustParseAddr("192.0.2.1")

func TestRecipientsOfAnImportedTraceBecomeAccounts(t *testing.T) {
	long := strings.Repeat("l", 190) + "@a.example" // a route may be so long, a login not
	messages := [][]string{
		{"One@a.example", "two@a.example"},
		{"one@A.example", "three@b.example", "postmaster", "@", strings.Repeat("x", 300) + "@a.example"},
		{long, "caf\xe9@a.example"},
	}
	for n := range 2000 { // several batches
		messages = append(messages, []string{fmt.Sprintf("u%d@c%d.example", n%1200, n%1200/100), "ONE@a.example"})
	}
	f := imported(t, testClient, messages...)
	s, err := SurveyTrace(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if s.SHA256 != f.SHA256() || s.Recipients != 5+1200 || s.Domains != 2+12 || s.Refused != 3 {
		t.Errorf("survey %+v", s)
	}
	loader, last := &fakeLoader{}, LoadProgress{}
	if err := LoadRecipients(t.Context(), loader, s, testDay, 3, func(p LoadProgress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if want := (LoadProgress{Table: "recipients", Done: 1219, Total: 1219, Unit: "rows"}); last != want {
		t.Errorf("progress ended at %+v, want %+v", last, want)
	}
	routes := map[string]routing.Row{}
	for _, r := range loader.routes {
		if _, twice := routes[r.Address]; twice || r.Validate() != nil {
			t.Errorf("the route of %q is there twice, or not valid: %v", r.Address, r.Validate())
		}
		routes[r.Address] = r
	}
	if len(routes) != 1219 {
		t.Errorf("%d routes, want 1219", len(routes))
	}
	for item := range f.All() { // no recipient is foreign or unknown
		for _, address := range item.Message.Recipients {
			if routing.ValidAddress(address) != nil {
				continue
			}
			row, ok := routes[lowerCase(address)]
			if !ok || row.Kind != routing.Mailbox || row.Backend == "" {
				t.Fatalf("%q has the route %+v", address, row)
			}
		}
	}
	for _, domain := range []string{"@a.example", "@b.example", "@c0.example", "@c11.example"} {
		if routes[domain].Kind != routing.Domain {
			t.Errorf("the domain %s has the row %+v", domain, routes[domain])
		}
	}
	if i := slices.IndexFunc(loader.accounts, func(a accounts.Account) bool { return a.Login == long }); len(loader.accounts) != 1204 || i >= 0 {
		t.Errorf("%d accounts, want one for each recipient but the longest", len(loader.accounts))
	}
	if len(loader.triplets)+len(loader.preferences) > 0 {
		t.Error("a log tells of no triplet and no preference")
	}
}

func TestSurveyRefuses(t *testing.T) {
	many := make([][]string, 10_000)
	for i := range many {
		many[i] = []string{fmt.Sprintf("u%d@a.example", i)}
	}
	f := imported(t, testClient, many...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SurveyTrace(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
	if _, err := SurveyTrace(t.Context(), imported(t, netip.Addr{}, many[0])); err == nil || !strings.Contains(err.Error(), "message 0 at 26h0m0s has no client address") {
		t.Errorf("a message from nowhere: %v", err)
	}
	failing := errors.New("full")
	s, err := SurveyTrace(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	err = LoadRecipients(t.Context(), &fakeLoader{fail: func(table string, rows int) error {
		if table == "accounts" && rows > 3000 {
			return failing
		}
		return nil
	}}, s, testDay, 2, nil)
	if !errors.Is(err, failing) || !strings.Contains(err.Error(), "load recipients: rows ") {
		t.Errorf("error %v does not say which rows, and why", err)
	}
}

// TestSurveyOfAGeneratedFileLooksForNoRecipients: its population has them.
func TestSurveyOfAGeneratedFileLooksForNoRecipients(t *testing.T) {
	tr := beforeTrace(t, 40_000, 10*time.Hour, time.Hour)
	f, err := opened(written(t, tr, 1))
	if err != nil {
		t.Fatal(err)
	}
	slice, err := f.Slice(Window{10*time.Hour + time.Minute, 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*TraceFile{f, slice} {
		w := x.Window()
		if s, err := SurveyTrace(t.Context(), x); err != nil || s.Recipients != 0 || s.SHA256 != beforeTrace(t, 40_000, w.From, w.Duration).SHA256() {
			t.Errorf("survey of %v: %+v, %v", w, s, err)
		}
	}
}

// TestWhatIsNoAddressIsRefusedUnasked: an MTA answers a syntax error, which costs
// the database nothing, and goes on with the recipients after it.
func TestWhatIsNoAddressIsRefusedUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &samples{}
		r := newReplay(t, quietModel(1, 0), Window{0, time.Minute}, &fakeTarget{route: routing.Local, grey: greylist.Pass}, out, mta(1))
		r.Trace = imported(t, testClient, []string{"postmaster", "a@a.example", strings.Repeat("x", 300) + "@a.example"})
		stats, err := r.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		for _, s := range out.all {
			asked = append(asked, fmt.Sprint(s.Recipient, " ", s.Operation))
		}
		if want := []string{"1 route", "1 check", "1 deliver"}; !slices.Equal(asked, want) || stats.ChecksNotAsked != 0 {
			t.Errorf("asked %q, want %q; %+v", asked, want, stats)
		}
	})
}
