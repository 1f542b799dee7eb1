package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/golden"
)

func testTopology(t *testing.T) topology.Topology {
	t.Helper()
	layout, err := topology.New(topology.Shape{DataNodes: 4, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	layout.DataNode = map[string]string{"DataMemory": "512M", "HeartbeatIntervalDbDb": "1500"}
	return layout
}

func TestConfigINI(t *testing.T) {
	layout := testTopology(t)
	got := configINI(layout, func(host string) netip.Addr {
		for i, h := range layout.Hosts() {
			if h == host {
				return hostAddress(netip.MustParsePrefix("198.18.7.0/24"), i)
			}
		}
		return netip.Addr{}
	})
	golden.AssertBytes(t, []byte(got), "config.ini")
}

func TestConfigKeepsProductionDefaults(t *testing.T) {
	for name := range dataDefaults() {
		for _, kept := range []string{"Heartbeat", "Arbitration", "TimeBetweenGlobalCheckpoints", "TimeBetweenEpochs", "TimeBetweenLocalCheckpoints", "TransactionDeadlockDetection", "TimeBetweenWatchDog"} {
			if strings.HasPrefix(name, kept) {
				t.Errorf("%s is set: what a fault costs must follow NDB's own default unless a scenario says otherwise", name)
			}
		}
	}
}

func TestFreeSubnets(t *testing.T) {
	all := freeSubnets(0, nil)
	if len(all) != 512 {
		t.Fatalf("%d subnets in an empty world, want 512", len(all))
	}
	for _, row := range []struct {
		sentence string
		start    int
		taken    []string
		first    string
		count    int
	}{
		{"nothing is taken", 0, nil, "198.18.0.0/24", 512},
		{"the search begins where it is told", 300, nil, "198.19.44.0/24", 512},
		{"a start beyond the pool wraps around", 512 + 3, nil, "198.18.3.0/24", 512},
		{"a taken subnet is passed over", 0, []string{"198.18.0.0/24"}, "198.18.1.0/24", 511},
		{"a larger network takes all that it covers", 0, []string{"198.18.0.0/16"}, "198.19.0.0/24", 256},
		{"a single address takes its subnet", 0, []string{"198.18.0.1/32"}, "198.18.1.0/24", 511},
		{"networks elsewhere take nothing", 0, []string{"10.0.0.0/8", "fd00::/8"}, "198.18.0.0/24", 512},
		{"when all is taken nothing is free", 0, []string{"198.18.0.0/15"}, "", 0},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			var taken []netip.Prefix
			for _, p := range row.taken {
				taken = append(taken, netip.MustParsePrefix(p))
			}
			free := freeSubnets(row.start, taken)
			if len(free) != row.count {
				t.Fatalf("%d free, want %d", len(free), row.count)
			}
			if row.count > 0 && free[0].String() != row.first {
				t.Errorf("first is %s, want %s", free[0], row.first)
			}
		})
	}
}

func TestSubnetsLieInThePool(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for i := range maxSubnets {
		p := subnet(i)
		if !pool.Contains(p.Addr()) || seen[p] {
			t.Fatalf("subnet(%d) = %s: outside %s or seen before", i, p, pool)
		}
		seen[p] = true
	}
}

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{"": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := quote(word); got != want {
			t.Errorf("quote(%q) = %s, want %s", word, got, want)
		}
	}
}

func TestCommandsReplaceTheEntrypoint(t *testing.T) {
	layout := testTopology(t)
	want := map[topology.Role][]string{
		topology.Management: {"exec ndb_mgmd", "--nodaemon", "--ndb-nodeid=1"},
		topology.Data:       {"exec ndbmtd", "--nodaemon", "--ndb-nodeid=2", "--ndb-connectstring=198.18.0.11:1186"},
		topology.SQL:        {"exec mysqld", "--ndbcluster", "--ndb-nodeid=6", "--initialize-insecure", "--max-connections='9'"},
	}
	for role, parts := range want {
		n := layout.ByRole(role)[0]
		script := strings.Join(command(n, netip.MustParseAddr("198.18.0.11"), map[string]string{"max-connections": "9"}), " ")
		for _, part := range parts {
			if !strings.Contains(script, part) {
				t.Errorf("the command of %s lacks %q:\n%s", n.Name, part, script)
			}
		}
		// A node's own disk is emptied by nobody but EmptyDisk.
		bare := strings.Replace(script, "if [ -d /var/lib/mysql-cluster/ndb_2_fs ]; then initial=; else initial=--initial; fi", "", 1)
		if strings.Contains(strings.ReplaceAll(bare, "--initialize", ""), "--initial") {
			t.Errorf("the command of %s would empty its disk:\n%s", n.Name, script)
		}
	}
}
