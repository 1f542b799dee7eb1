package innodb

import (
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// TestDecide holds what the steward does about what it sees.
func TestDecide(t *testing.T) {
	const patience = 3 * time.Second
	now := time.Unix(1000, 0)
	address := func(id topology.ID) string { return map[topology.ID]string{1: "198.18.0.11", 2: "198.18.0.12"}[id] }
	primary := func(change ...func(*sighting)) sighting {
		s := sighting{node: 1, at: now.Add(-time.Hour), up: true, writable: true, open: true, semisync: true}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	replica := func(change ...func(*sighting)) sighting {
		s := sighting{node: 2, at: now.Add(-time.Hour), up: true, open: true, source: address(1), receiving: "Yes", applying: "Yes"}
		for _, c := range change {
			c(&s)
		}
		return s
	}
	dead := func(since time.Duration) func(*sighting) {
		return func(s *sighting) { *s = sighting{node: s.node, at: now.Add(-since), why: "refused"} }
	}
	started := func(s *sighting) {
		s.writable, s.open, s.source, s.receiving, s.applying, s.semisync = false, false, "", "", "", false
	}
	closed := func(s *sighting) { s.open = false }
	alone := func(s *sighting) { s.semisync = false }

	for _, row := range []struct {
		sentence string
		seen     []sighting
		want     []act
	}{
		{"a pair that is whole is left alone", []sighting{primary(), replica()}, nil},
		{"a primary that has just started is opened", []sighting{primary(started), replica()}, []act{{reopen, 1}}},
		{"also where its replica is dead", []sighting{primary(started), replica(dead(time.Hour))}, []act{{reopen, 1}}},
		{"a primary that is dead for less than the patience is awaited", []sighting{primary(dead(patience - 1)), replica()}, nil},
		{"after that the replica takes its place", []sighting{primary(dead(patience)), replica()}, []act{{promote, 2}}},
		{"whatever its receiver says of the dead primary", []sighting{primary(dead(patience)), replica(func(s *sighting) { s.receiving = "Connecting" })}, []act{{promote, 2}}},
		{"a replica that is not open may lack what was acknowledged, and never takes its place", []sighting{primary(dead(time.Hour)), replica(closed)}, nil},
		{"nobody is promoted where both are dead", []sighting{primary(dead(time.Hour)), replica(dead(time.Hour))}, nil},
		{"a server that has just started follows the primary", []sighting{primary(alone), replica(started)}, []act{{follow, 2}}},
		{"and so does one that follows another", []sighting{primary(alone), replica(func(s *sighting) { s.source = address(2) })}, []act{{follow, 2}}},
		{"a receiver that gave up is started again", []sighting{primary(alone), replica(func(s *sighting) { s.receiving = "No" })}, []act{{follow, 2}}},
		{"one that is still connecting is left to it", []sighting{primary(alone), replica(closed, func(s *sighting) { s.receiving = "Connecting" })}, nil},
		{"an applier that met an error is of a server that differs", []sighting{primary(), replica(func(s *sighting) { s.applying, s.broken = "No", "1032" })}, []act{{rebuild, 2}}},
		{"a replica that acknowledges what it receives is opened", []sighting{primary(), replica(closed)}, []act{{admit, 2}}},
		{"one for which the primary does not wait is not", []sighting{primary(alone), replica(closed)}, nil},
		{"and is closed if it was open", []sighting{primary(alone), replica()}, []act{{shut, 2}}},
		{"a dead replica needs nothing", []sighting{primary(alone), replica(dead(time.Hour))}, nil},
	} {
		if got := decide(1, row.seen, now, patience, address); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}
}

// TestOptions holds which options a scenario and a memory limit decide.
func TestOptions(t *testing.T) {
	for _, row := range []struct {
		sentence  string
		memoryMiB int
		own       map[string]string
		option    string
		want      string
	}{
		{"the buffer pool takes half of the memory", 1536, nil, "innodb-buffer-pool-size", "768M"},
		{"without a limit it is bounded all the same", 0, nil, "innodb-buffer-pool-size", "512M"},
		{"a tiny limit leaves what mysqld cannot do without", 50, nil, "innodb-buffer-pool-size", "32M"},
		{"a scenario's option comes before ours", 1536, map[string]string{"sync-binlog": "1"}, "sync-binlog", "1"},
		{"whoever starts is closed to clients", 1536, nil, "offline-mode", "ON"},
		{"and takes no writes", 1536, nil, "super-read-only", "ON"},
		{"an acknowledged write is on both", 1536, nil, "rpl-semi-sync-source-wait-point", "AFTER_SYNC"},
	} {
		if got := options(row.memoryMiB, row.own)[row.option]; got != row.want {
			t.Errorf("%s: %s=%q, want %q", row.sentence, row.option, got, row.want)
		}
	}
}

// TestNewRefuses holds the topologies of which no pair can be made.
func TestNewRefuses(t *testing.T) {
	pair := topology.Servers("sql", []string{"mta1", "webmail1"})
	cluster, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		spec     Spec
		ok       bool
	}{
		{"two servers are a pair", Spec{Topology: pair}, true},
		{"one is none", Spec{Topology: topology.Servers("sql", []string{"mta1"})}, false},
		{"three are too many", Spec{Topology: topology.Servers("sql", []string{"a", "b", "c"})}, false},
		{"an NDB cluster has nodes that nothing would run", Spec{Topology: cluster}, false},
		{"a time before the death is no patience", Spec{Topology: pair, PromoteAfter: -1}, false},
	} {
		if _, err := New(nil, row.spec); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.sentence, err)
		}
	}
}
