package ldap

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
)

var update = flag.Bool("update", false, "write the golden files")

// providers are two, with node ids that a scenario might give them.
func providers() topology.Topology {
	return topology.Topology{
		Nodes: []topology.Node{
			{ID: 4, Name: "ldap1", Role: topology.SQL, Host: "mta1", Group: -1},
			{ID: 5, Name: "ldap2", Role: topology.SQL, Host: "webmail1", Group: -1},
		},
		Limits: map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 1000, MemoryMiB: 512}},
	}
}

// TestConfig holds what is in the repository to be read: go test -update.
func TestConfig(t *testing.T) {
	const golden = "testdata/slapd.conf"
	layout := providers()
	address := func(host string) netip.Addr {
		return map[string]netip.Addr{"mta1": netip.MustParseAddr("198.18.0.11"), "webmail1": netip.MustParseAddr("198.18.0.12")}[host]
	}
	got := config(layout, layout.Nodes[0], address)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("slapd.conf of ldap1 is not %s (-update writes it):\n%s", golden, got)
	}
	if second := config(layout, layout.Nodes[1], address); !strings.Contains(second, "serverID    2\n") || !strings.Contains(second, "provider=ldap://198.18.0.11:389") {
		t.Errorf("slapd.conf of ldap2:\n%s", second)
	}
}

func TestStartRefuses(t *testing.T) {
	whole, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		layout   topology.Topology
		message  string
	}{
		{"a directory without providers", topology.Topology{}, "1 to 9 providers, not 0"},
		{"nodes that a directory has not", whole, "node mgm1 has the role management"},
	} {
		if err := New(nil, Spec{Topology: row.layout}).Start(context.Background()); err == nil || !strings.Contains(err.Error(), row.message) {
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.message)
		}
	}
}
