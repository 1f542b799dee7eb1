package scenarios

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// set is a write of key k of user u, with its times in seconds; how is "certain",
// "lingers" (certain, but another attempt may yet happen) or "uncertain".
func set(value string, dispatched, ended int, how string) workload.Acknowledged {
	return workload.Acknowledged{
		Operation: reference.SetPreference, User: "u", Key: "k", Value: value,
		Dispatched: time.Duration(dispatched) * time.Second, At: time.Duration(ended) * time.Second,
		Certain: how != "uncertain", Lingers: how != "certain",
	}
}

func TestLedgerAcceptsWhatMayRightlyStand(t *testing.T) {
	for _, row := range []struct {
		sentence string
		writes   []workload.Acknowledged // in the order in which they ended
		verified []string
		lost     []string
	}{
		{"the only write stands", []workload.Acknowledged{set("a", 0, 1, "certain")}, []string{"a"}, []string{"", "b"}},
		{"a write replaces one that ended before it was dispatched",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("b", 2, 3, "certain")}, []string{"b"}, []string{"a", ""}},
		{"writes that overlap take effect in either order",
			[]workload.Acknowledged{set("a", 0, 2, "certain"), set("b", 1, 3, "certain")}, []string{"a", "b"}, []string{""}},
		{"a write is dispatched at the very time when another ended: either order",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("b", 1, 2, "certain")}, []string{"a", "b"}, nil},
		{"of two writes that overlap a third replaces both",
			[]workload.Acknowledged{set("a", 0, 2, "certain"), set("b", 1, 3, "certain"), set("c", 4, 5, "certain")}, []string{"c"}, []string{"a", "b"}},
		{"a write that is told of late was replaced all the same",
			[]workload.Acknowledged{set("b", 5, 6, "certain"), set("a", 0, 3, "certain")}, []string{"b"}, []string{"a"}},
		{"a slow write that ends last overlaps with the quick ones",
			[]workload.Acknowledged{set("b", 1, 2, "certain"), set("a", 0, 6, "certain")}, []string{"a", "b"}, nil},

		{"the first statement of a write that was asked twice takes effect after a later write",
			[]workload.Acknowledged{set("a", 0, 11, "lingers"), set("b", 12, 13, "certain")}, []string{"a", "b"}, []string{""}},
		{"it may do so up to the bound",
			[]workload.Acknowledged{set("a", 0, 11, "lingers"), set("b", 71, 72, "certain")}, []string{"a", "b"}, nil},
		{"but not for ever",
			[]workload.Acknowledged{set("a", 0, 11, "lingers"), set("b", 72, 73, "certain")}, []string{"b"}, []string{"a"}},
		{"a write that was asked twice has happened: it replaces earlier ones",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("b", 2, 13, "lingers")}, []string{"b"}, []string{"a"}},
		{"a write without an answer takes effect after a later one",
			[]workload.Acknowledged{set("a", 0, 11, "uncertain"), set("b", 12, 13, "certain")}, []string{"a", "b"}, []string{""}},
		{"that, too, up to the bound and no longer",
			[]workload.Acknowledged{set("a", 0, 11, "uncertain"), set("b", 71, 72, "certain"), set("c", 72, 73, "certain")}, []string{"b", "c"}, []string{"a"}},
		{"a write without an answer replaces nothing, for it may not have happened",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("b", 200, 211, "uncertain")}, []string{"a", "b"}, []string{""}},

		{"an empty value removes the key",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("", 2, 3, "certain")}, []string{""}, []string{"a"}},
		{"a removal without an answer may have happened",
			[]workload.Acknowledged{set("a", 0, 1, "certain"), set("", 2, 3, "uncertain")}, []string{"", "a"}, []string{"b"}},
	} {
		l := newLedger()
		for _, w := range row.writes {
			l.Acknowledge(w)
		}
		for verdict, values := range map[results.LedgerVerdict][]string{results.Verified: row.verified, results.Lost: row.lost} {
			for _, value := range values {
				if got := judgeKey(l.keys[ledgerKey{owner{"u", reference.Preferences}, "k"}], value); got != verdict {
					t.Errorf("%s: %q is %s, want %s", row.sentence, value, got, verdict)
				}
			}
		}
	}
}

// userprefs is a target whose SQL nodes all read the same preferences. Only
// what readBack asks of a target is there.
type userprefs struct {
	reference.Target
	topology topology.Topology
	stored   map[string]map[string]string
	refuse   []topology.ID // connections
	mute     []topology.ID // reads
	asked    []string      // "user node" of each read
	open     int           // sessions
}

func (u *userprefs) Topology() topology.Topology { return u.topology }

func (u *userprefs) Connect(_ context.Context, node topology.ID, _ reference.ConnectOptions) (reference.Session, error) {
	if slices.Contains(u.refuse, node) {
		return nil, errors.New("connection refused")
	}
	u.open++
	return &userprefsSession{userprefs: u, node: node}, nil
}

type userprefsSession struct {
	reference.Session
	*userprefs
	node topology.ID
}

func (s *userprefsSession) Read(_ context.Context, user string) (map[string]string, error) {
	n, _ := s.topology.ByID(s.node)
	s.asked = append(s.asked, user+" "+n.Name)
	if slices.Contains(s.mute, s.node) {
		return nil, errors.New("connection lost")
	}
	return s.stored[user], nil
}

func (s *userprefsSession) Account(_ context.Context, login string) (accounts.Account, error) {
	n, _ := s.topology.ByID(s.node)
	s.asked = append(s.asked, "account "+login+" "+n.Name)
	switch {
	case slices.Contains(s.mute, s.node):
		return accounts.Account{}, errors.New("connection lost")
	case login == "gone":
		return accounts.Account{}, accounts.ErrNotFound
	}
	return accounts.Account{Login: login, Backend: "cyrus2"}, nil
}

func (s *userprefsSession) Close() error {
	s.open--
	return nil
}

func TestLedgerIsReadBack(t *testing.T) {
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	nodes := top.ByRole(topology.SQL)
	sql1, sql2 := nodes[0].ID, nodes[1].ID

	l := newLedger()
	for _, w := range []struct{ user, key, value, how string }{
		{"anna", "theme", "dark", "certain"},
		{"anna", "language", "de_DE", "lingers"},
		{"bert", "theme", "", "certain"},
		{"carl", "theme", "light", "certain"},
		{"dora", "theme", "light", "uncertain"}, // nothing was promised
	} {
		a := set(w.value, 0, 1, w.how)
		a.User, a.Key = w.user, w.key
		l.Acknowledge(a)
	}
	for _, user := range []string{"anna", "gone"} {
		l.Acknowledge(workload.Acknowledged{Operation: reference.ChangeAccount, User: user, Key: workload.AccountHome, Value: "on cyrus2", Certain: true})
	}
	l.Acknowledge(workload.Acknowledged{Operation: reference.CheckGreylist, User: "emil", Key: "198.51.100.1 peer", Value: "0", Certain: true})
	if n := l.acknowledgedKeys(); n != 6 {
		t.Errorf("%d keys are acknowledged, want 6: those of anna, bert and carl, and two accounts", n)
	}

	rows := func(verdicts ...results.LedgerVerdict) []results.LedgerRow {
		return []results.LedgerRow{
			{User: "anna", Key: "language", Verdict: verdicts[0]}, {User: "anna", Key: "theme", Verdict: verdicts[1]},
			{User: "anna", Key: workload.AccountHome, Verdict: verdicts[2]},
			{User: "bert", Key: "theme", Verdict: verdicts[3]}, {User: "carl", Key: "theme", Verdict: verdicts[4]},
			{User: "gone", Key: workload.AccountHome, Verdict: verdicts[5]},
		}
	}
	found := rows(results.Verified, results.Verified, results.Verified, results.Verified, results.Lost, results.Lost)
	nothing := rows(results.LedgerUnknown, results.LedgerUnknown, results.LedgerUnknown, results.LedgerUnknown, results.LedgerUnknown, results.LedgerUnknown)
	for _, row := range []struct {
		sentence     string
		refuse, mute []topology.ID
		asked        []string
		want         []results.LedgerRow
	}{
		{"users are read once each, by the SQL nodes in turn, and only those with acknowledged keys", nil, nil,
			[]string{"anna sql1", "account anna sql2", "bert sql1", "carl sql2", "account gone sql1"}, found},
		{"where a node refuses connections the other one is asked", []topology.ID{sql1}, nil,
			[]string{"anna sql2", "account anna sql2", "bert sql2", "carl sql2", "account gone sql2"}, found},
		{"where a node fails to answer the other one is asked", nil, []topology.ID{sql2},
			[]string{"anna sql1", "account anna sql2", "account anna sql1", "bert sql2", "bert sql1", "carl sql2", "carl sql1", "account gone sql2", "account gone sql1"}, found},
		{"with all nodes down nothing is known, and nothing is lost", []topology.ID{sql1, sql2}, nil,
			nil, nothing},
		{"nor is it if one refuses and the other does not answer", []topology.ID{sql1}, []topology.ID{sql2},
			[]string{"anna sql2", "account anna sql2", "bert sql2", "carl sql2", "account gone sql2"}, nothing},
	} {
		target := &userprefs{
			topology: top, refuse: row.refuse, mute: row.mute,
			stored: map[string]map[string]string{
				"anna": {"theme": "dark", "language": "de_DE", "signature": "of no concern"},
				"carl": {"theme": "as it was before"},
			},
		}
		var got []results.LedgerRow
		l.readBack(t.Context(), target, func(r results.LedgerRow) { got = append(got, r) })
		if !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %+v, want %+v", row.sentence, got, row.want)
		}
		if !slices.Equal(target.asked, row.asked) {
			t.Errorf("%s: asked %q, want %q", row.sentence, target.asked, row.asked)
		}
		if target.open != 0 {
			t.Errorf("%s: %d sessions are left open", row.sentence, target.open)
		}
	}
}
