package capacity

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
)

// Varied is a search of something that was changed, in a directory below another's.
type Varied struct {
	Kind, Name string // SQLNodesDir, DataNodesDir or SystemDir, and what follows it
	Result     *Result
}

// Dir is the name of its directory.
func (v Varied) Dir() string { return v.Kind + v.Name }

// Variants are those that have been begun below a directory, without their results.
func Variants(dir string) ([]Varied, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for variants of a search: %w", err)
	}
	var found []Varied
	for _, e := range entries {
		for _, kind := range []string{SQLNodesDir, DataNodesDir, SystemDir} {
			name, ok := strings.CutPrefix(e.Name(), kind)
			if !ok || !e.IsDir() {
				continue
			}
			if _, err := os.Lstat(filepath.Join(dir, e.Name(), SearchFile)); err == nil {
				found = append(found, Varied{Kind: kind, Name: name})
			}
		}
	}
	return found, nil
}

// ReadVariants judges the searches of other numbers of nodes in the directories below
// dir, by size: there may be none.
func ReadVariants(dir string, judge func(dir string) (*Result, error)) ([]Varied, error) {
	all, err := Variants(dir)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v Varied) bool { return v.Kind == SystemDir })
	for i := range all {
		if all[i].Result, err = judge(filepath.Join(dir, all[i].Dir())); err != nil {
			return nil, err
		}
	}
	all = slices.DeleteFunc(all, func(v Varied) bool { return len(v.Result.Topology.Nodes) == 0 }) // no run has begun
	slices.SortStableFunc(all, func(a, b Varied) int { return bySize(a.Result, b.Result) })
	return all, nil
}

// bySize orders topologies by their SQL nodes, then data nodes.
func bySize(a, b *Result) int {
	return cmp.Or(cmp.Compare(a.count(topology.SQL), b.count(topology.SQL)), cmp.Compare(a.count(topology.Data), b.count(topology.Data)))
}

// Unlike says in what two searches differ that may only differ in what a kind of variant
// is about: nil if they may stand beside each other.
func Unlike(kind string, a, b *Result) (differ []string) {
	if len(a.Topology.Nodes) == 0 || len(b.Topology.Nodes) == 0 { // one has not begun
		return nil
	}
	precision := func(r *Result) Settings {
		set := r.Search.Settings
		set.StartPerDay, set.LowestPerDay, set.HighestPerDay, set.MaxSteps = 0, 0, 0, 0 // where it looks, not how closely
		return set
	}
	limits := func(r *Result, role topology.Role) topology.Limits { return r.Topology.Limits[role] }
	nodes := kind != SystemDir
	for _, part := range []struct {
		what string
		same bool
	}{
		{"scenario", a.Search.Scenario == b.Search.Scenario},
		{"seed", a.Search.Seed == b.Search.Seed},
		{"volume", a.Search.TodayPerDay == b.Search.TodayPerDay && a.Search.PeakPPM == b.Search.PeakPPM},
		{"objectives", reflect.DeepEqual(a.Objectives, b.Objectives)},
		{"precision of the search", precision(a) == precision(b)},
		{"machine", a.Host.Processors == b.Host.Processors && a.Host.MemoryMiB == b.Host.MemoryMiB},
		{"system", !nodes || a.Search.System == b.Search.System},
		{"limits of the nodes", !nodes || limits(a, topology.Data) == limits(b, topology.Data) && limits(a, topology.SQL) == limits(b, topology.SQL)},
		{"parameters of the nodes", !nodes || reflect.DeepEqual(a.Topology.DataNode, b.Topology.DataNode) && reflect.DeepEqual(a.Topology.SQLServer, b.Topology.SQLServer)},
		{"number of data nodes", kind != SQLNodesDir || a.count(topology.Data) == b.count(topology.Data)},
		{"number of SQL nodes", kind != DataNodesDir || a.count(topology.SQL) == b.count(topology.SQL)},
	} {
		if !part.same {
			differ = append(differ, part.what)
		}
	}
	return differ
}
