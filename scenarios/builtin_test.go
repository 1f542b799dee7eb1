package scenarios

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

func TestEveryBuiltInParsesAndIsNamedAsItsFile(t *testing.T) {
	var listed []string
	for _, info := range Builtin() {
		listed = append(listed, info.Name)
		f, err := Load(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := f.Scenario()
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != info.Name || s.Hypothesis != info.Hypothesis || !f.Builtin {
			t.Errorf("%s: got name %q, hypothesis %q, builtin %t", info.Name, s.Name, s.Hypothesis, f.Builtin)
		}
	}
	if got := strings.Join(listed, " "); got != strings.Join(builtinNames(), " ") || got != "arbitrator-loss berkeley capacity comparison day disk-full frozen-node host-loss monday-morning node-group-loss noisy-neighbour peak-hour rolling-restart second-wave smoke spam-wave split-brain system-restart thanksgiving-2011" {
		t.Errorf("listed %s of %v", got, builtinNames())
	}
}

// TestBuiltInsNeedNothingUncommon: many kernels, and that of many containers, lack
// what shapes traffic.
func TestBuiltInsNeedNothingUncommon(t *testing.T) {
	uncommon := map[chaos.Kind]bool{}
	for _, d := range chaos.Catalogue() {
		uncommon[d.Kind] = slices.Contains(d.Needs, chaos.Shaper)
	}
	for _, name := range builtinNames() {
		f, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range parse(t, string(f.Data)).Faults {
			if uncommon[fault.Kind] {
				t.Errorf("%s makes the fault %s", name, fault.Kind)
			}
		}
	}
}

// The bounds are the slowest that were seen: 25 s for a data node to start and
// be redundant, 8 s for a SQL node.
func TestFaultsOfBuiltInsFitTheLoadWithTheirRecoveries(t *testing.T) {
	slowest := map[topology.Role]time.Duration{topology.Data: 25 * time.Second, topology.SQL: 8 * time.Second}
	for _, row := range []struct {
		scenario string
		set      []Override
	}{
		{"peak-hour", nil},
		{"peak-hour", []Override{{Path: "workload.duration", Value: "90s"}}},
		{"smoke", nil},
	} {
		f, err := Load(row.scenario)
		if err != nil {
			t.Fatal(err)
		}
		s, err := f.Scenario(row.set...)
		if err != nil {
			t.Fatal(err)
		}
		layout, err := s.Topology()
		if err != nil {
			t.Fatal(err)
		}
		var redundant time.Duration
		for _, fault := range s.Faults {
			if fault.At < redundant {
				t.Errorf("%s %v: the fault on %s at %s has to wait until %s", row.scenario, row.set, fault.Target, fault.At, redundant)
			}
			node, err := layout.Node(fault.Target)
			if err != nil {
				t.Fatal(err)
			}
			redundant = fault.At + fault.Hold + slowest[node.Role]
		}
		if calm := s.Workload.Duration - redundant; len(s.Faults) == 0 || calm < 10*time.Second {
			t.Errorf("%s %v: %d faults leave %s of load after the last recovery, want 10s", row.scenario, row.set, len(s.Faults), calm)
		}
	}
}

func TestDefaultTopologyFitsEightGiB(t *testing.T) {
	layout, err := parse(t, least).Topology()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range layout.Nodes {
		limit := layout.Limits[n.Role]
		if limit.MilliCPUs < 1 || limit.MilliCPUs > 2000 || limit.MemoryMiB < 1 {
			t.Errorf("%s may use %+v", n.Name, limit)
		}
		sum += limit.MemoryMiB
	}
	if sum > 7*1024+512 {
		t.Errorf("the nodes may use %d MiB together; leave the rest of 8 GiB to the machine", sum)
	}
}

func TestPeakHourLeavesTheTimersOfNDBAlone(t *testing.T) {
	f, err := Load("peak-hour")
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Scenario()
	if err != nil {
		t.Fatal(err)
	}
	for parameter := range s.TopologySpec.DataNode {
		if parameter != "DataMemory" {
			t.Errorf("peak-hour sets %s; its answer is about the defaults of production", parameter)
		}
	}
}

func TestLoadTellsNamesFromPaths(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "mine.yaml")
	if err := os.WriteFile(mine, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(mine)
	if err != nil || f.Builtin || f.Name != mine || string(f.Data) != least {
		t.Errorf("a path: got %+v, %v", f, err)
	}
	large := filepath.Join(dir, "large.yml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", 2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = Load(large); err != nil || len(f.Data) != strictyaml.MaxSize+1 {
		t.Errorf("a large file must be read only until it is seen to be too large: %d bytes, %v", len(f.Data), err)
	}
	for _, row := range []struct{ what, name, want string }{
		{"a near name", "peek-hour", `no scenario is called "peek-hour"; did you mean peak-hour? There are ` + strings.Join(builtinNames(), ", ") + `; a file of yours is named by its path, such as ./mine.yaml`},
		{"no near name", "hurricane", `no scenario is called "hurricane"; there are ` + strings.Join(builtinNames(), ", ") + `; a file of yours is named by its path, such as ./mine.yaml`},
		{"no such file", "./missing.yaml", `./missing.yaml: read the scenario file: no such file or directory`},
	} {
		_, err := Load(row.name)
		var input *InputError
		if !errors.As(err, &input) || err.Error() != row.want {
			t.Errorf("%s: got %v (%T), want %s", row.what, err, err, row.want)
		}
	}
	if _, err := Load("./missing.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v does not wrap fs.ErrNotExist", err)
	}
}
