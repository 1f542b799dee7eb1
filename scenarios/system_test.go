package scenarios

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/innodb"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/scenarios/ledger"
)

// TestComparisonOfEachSystem holds that one file serves all three: which nodes there
// are, whom clients ask first, whom the fault hits, and what is asked.
func TestComparisonOfEachSystem(t *testing.T) {
	for _, row := range []struct {
		sentence, system     string
		nodes, clients, hits string
	}{
		{"an NDB cluster loses a data node and a SQL node", "ndb", "mgm1 data1 data2 sql1 sql2", "sql1 sql2/sql2 sql1/sql1 sql2", "data1,sql1"},
		{"InnoDB loses its primary, which everybody asks first", "innodb", "sql1 sql2", "sql1 sql2/sql1 sql2/sql1 sql2", "sql1"},
		{"a directory loses the provider at which webmail writes", "ldap", "ldap1 ldap2", "ldap1 ldap2/ldap2 ldap1/ldap1 ldap2", "ldap1"},
	} {
		p, err := LoadPlan(t.Context(), "comparison", overrides("system="+row.system)...)
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		var nodes []string
		for _, n := range p.Topology.Nodes {
			nodes = append(nodes, n.Name)
		}
		if got := strings.Join(nodes, " "); got != row.nodes {
			t.Errorf("%s: the nodes are %s, want %s", row.sentence, got, row.nodes)
		}
		var asks []string
		for _, c := range p.Scenario.Clients {
			asks = append(asks, strings.Join(c.Nodes, " "))
		}
		if got := strings.Join(asks, "/"); got != row.clients {
			t.Errorf("%s: the clients ask %s, want %s", row.sentence, got, row.clients)
		}
		if got := p.Faults.Steps[0].Names(); got != row.hits {
			t.Errorf("%s: the fault hits %s, want %s", row.sentence, got, row.hits)
		}
		if l := p.Topology.Limits[topology.SQL]; l.MilliCPUs != 350 || l.MemoryMiB != 1536 {
			t.Errorf("%s: a server may use %+v", row.sentence, l)
		}
		if got := p.paths(); !slices.Equal(got, []reference.Path{reference.Routing, reference.Preferences}) {
			t.Errorf("%s: %v are asked", row.sentence, got)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestClientsOfInnoDB holds that the primary comes first also for who stands beside
// the replica, unless the scenario says otherwise.
func TestClientsOfInnoDB(t *testing.T) {
	for _, row := range []struct {
		sentence string
		set      []string
		want     string
	}{
		{"a SQL node of the cluster is as good as any other, and the own one is near", nil, "sql2 sql1"},
		{"a replica takes no writes", []string{"system=innodb"}, "sql1 sql2"},
		{"nor does the second provider, from who may write at the first", []string{"system=ldap", "workload.paths=[routing, preferences]", "topology.sql_hosts=[mta1, webmail1]"}, "ldap1 ldap2"},
		{"who wants to read from it says so", []string{"system=innodb", "clients=[{name: mta1, kind: mta}, {name: webmail1, kind: webmail, nodes: [sql2, sql1]}]"}, "sql2 sql1"},
	} {
		s := parse(t, least, row.set...)
		if got := strings.Join(s.Clients[1].Nodes, " "); got != row.want {
			t.Errorf("%s: webmail1 asks %s, want %s", row.sentence, got, row.want)
		}
	}
}

// TestContainedTargets holds what each system is, and which may stay: who sees to a
// fail-over ends with the run.
func TestContainedTargets(t *testing.T) {
	for _, row := range []struct {
		sentence string
		system   string
		keep     bool
		wrong    string // part of the error, "" for none
	}{
		{"an NDB cluster may stay", "ndb", true, ""},
		{"a pair may not: nobody would promote its replica", "innodb", true, "cannot be kept"},
		{"a pair is a target", "innodb", false, ""},
		{"a directory may not stay either", "ldap", true, "cannot be kept"},
	} {
		p, err := LoadPlan(t.Context(), "comparison", overrides("system="+row.system)...)
		if err != nil {
			t.Fatal(err)
		}
		target, err := p.contained(nil, "t-1", "image", "", row.keep, nil)
		switch {
		case row.wrong == "" && (err != nil || target.RunID() != "t-1"):
			t.Errorf("%s: %v", row.sentence, err)
		case row.wrong != "" && (err == nil || !strings.Contains(err.Error(), row.wrong)):
			t.Errorf("%s: the error is %v", row.sentence, err)
		}
		if err == nil {
			if err := p.checkFaults(t.Context(), target); err != nil {
				t.Errorf("%s: the fault cannot be made: %v", row.sentence, err)
			}
			if _, ok := target.(*innodb.Target); ok != (row.system == "innodb") {
				t.Errorf("%s: it is a %T", row.sentence, target)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// late is a target without an administrator whose nodes learn of writes later.
type late struct {
	system
	session reference.Session
	err     error // of waiting for a node
	awaited []topology.ID
}

func (l *late) Connect(context.Context, topology.ID, reference.ConnectOptions) (reference.Session, error) {
	return l.session, nil
}

func (l *late) AwaitReplicated(_ context.Context, node topology.ID) error {
	l.awaited = append(l.awaited, node)
	return l.err
}

// likes answers as a session of a target that holds one preference and one account.
type likes struct{ reference.Session }

func (likes) Read(context.Context, string) (map[string]string, error) {
	return map[string]string{"colour": "blue"}, nil
}

func (likes) Account(_ context.Context, login string) (accounts.Account, error) {
	return accounts.Account{Login: login}, nil
}

func (likes) Close() error { return nil }

// TestLedgerOfASystemThatIsNoCluster reads through a client's session where there is
// no administrator, and each time only after the node has what was acknowledged.
func TestLedgerOfASystemThatIsNoCluster(t *testing.T) {
	target := &late{session: likes{}}
	b := newBooks(nil, target, nil)
	open := func() ledger.Reader {
		r, err := b.open(t.Context(), topology.Node{ID: 2})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	if read, err := r.Preferences(t.Context(), "a"); err != nil || read["colour"] != "blue" {
		t.Errorf("preferences are %v (%v)", read, err)
	}
	if a, err := r.Account(t.Context(), "a"); err != nil || a.Login != "a" {
		t.Errorf("the account is %+v (%v)", a, err)
	}
	if _, err := r.Greylist(t.Context(), []greylist.Key{{}}); err == nil {
		t.Error("a greylist was read where none can be")
	}
	if !slices.Equal(target.awaited, []topology.ID{2, 2, 2}) {
		t.Errorf("nodes %v were awaited, want node 2 before each reading", target.awaited)
	}
	target.err = errors.New("it lags")
	if _, err := r.Preferences(t.Context(), "a"); !errors.Is(err, target.err) {
		t.Errorf("a node that lags was read: %v", err)
	}
	b.epochs(t.Context()) // returns: there are none
	if found := (&Conductor{}).costs(t.Context(), target); found != nil {
		t.Errorf("%d costs of a target that counts nothing", len(found))
	}
}
