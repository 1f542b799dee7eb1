package capacity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
)

func TestVariantsOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sql-nodes-2", "data-nodes-4", "system-ldap", "001", "sql-nodes-3"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "sql-nodes-3" { // not begun
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name, SearchFile), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found, err := Variants(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range found {
		names = append(names, v.Dir())
	}
	if want := []string{"data-nodes-4", "sql-nodes-2", "system-ldap"}; !slices.Equal(names, want) {
		t.Errorf("found %q, want %q", names, want)
	}
}

func TestUnlike(t *testing.T) {
	for _, row := range []struct {
		sentence string
		kind     string
		change   func(*Result)
		want     string
	}{
		{"more SQL nodes are what is varied", SQLNodesDir, func(r *Result) {
			r.Topology.Nodes = append(r.Topology.Nodes, topology.Node{ID: 90, Role: topology.SQL})
		}, ""},
		{"more data nodes are not", SQLNodesDir, func(r *Result) {
			r.Topology.Nodes = append(r.Topology.Nodes, topology.Node{ID: 90, Role: topology.Data})
		}, "number of data nodes"},
		{"more data nodes are what is varied", DataNodesDir, func(r *Result) {
			r.Topology.Nodes = append(r.Topology.Nodes, topology.Node{ID: 90, Role: topology.Data})
		}, ""},
		{"more SQL nodes are not", DataNodesDir, func(r *Result) {
			r.Topology.Nodes = append(r.Topology.Nodes, topology.Node{ID: 90, Role: topology.SQL})
		}, "number of SQL nodes"},
		{"another system is what is varied, with the limits of its servers", SystemDir, func(r *Result) {
			r.Search.System = "ldap"
			r.Topology.Limits = map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 650}}
			r.Topology.DataNode = nil
		}, ""},
		{"it begins and ends elsewhere", SystemDir, func(r *Result) { r.Search.Settings.StartPerDay, r.Search.Settings.HighestPerDay = 1, 2 }, ""},
		{"other limits", SQLNodesDir, func(r *Result) {
			r.Topology.Limits = map[topology.Role]topology.Limits{topology.SQL: {MilliCPUs: 650}}
		}, "limits of the nodes"},
		{"another parameter", DataNodesDir, func(r *Result) { r.Topology.DataNode = map[string]string{"DataMemory": "1G"} }, "parameters of the nodes"},
		{"another objective", SystemDir, func(r *Result) { r.Objectives = append(r.Objectives, results.Objective{Name: "more"}) }, "objectives"},
		{"another machine", SQLNodesDir, func(r *Result) { r.Host.Processors = 64 }, "machine"},
		{"one has not begun", SystemDir, func(r *Result) { r.Topology.Nodes, r.Objectives = nil, nil }, ""},
		{"all else", SystemDir, func(r *Result) {
			r.Search.Scenario, r.Search.Seed, r.Search.TodayPerDay, r.Search.Settings.ResolutionPPM = "other", 99, 1, 1
		}, "scenario seed volume precision of the search"},
	} {
		a, b := smallPlant().search(Healthy), smallPlant().search(Healthy)
		row.change(b)
		if got := strings.Join(Unlike(row.kind, a, b), " "); got != row.want {
			t.Errorf("%s: they differ in %q, want %q", row.sentence, got, row.want)
		}
	}
}
