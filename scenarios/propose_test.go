package scenarios

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/workload"
	"gotest.tools/v3/golden"
)

// searched records a search of the built-in scenario capacity: what is offered is
// answered in 2 ms up to 8 million messages a day, and in 600 ms above.
func searched(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	file, err := Load("capacity")
	if err != nil {
		t.Fatal(err)
	}
	s, err := file.Scenario(Override{Path: "objectives", Value: "[{name: routing is quick, path: routing, target: 99%, within: 500ms}]"})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := s.Topology()
	if err != nil {
		t.Fatal(err)
	}
	search := &capacity.Search{
		Scenario: s.Name, System: "ndb", Seed: s.Seed, TodayPerDay: 4_000_000, PeakPPM: 2_000_000,
		Settings: capacity.Settings{
			ConfidencePPM: 950_000, ResolutionPPM: 100_000, SettleUS: 2_000_000, MinStepUS: 20_000_000, MaxStepUS: 20_000_000, LookUS: 10_000_000,
			StartPerDay: 8_000_000, HighestPerDay: 80_000_000, LowestPerDay: 80_000, MaxSteps: 24,
		},
	}
	r, err := results.Create(filepath.Join(dir, "001"), results.Manifest{
		Scenario: s.Name, RunID: "test", Seed: s.Seed, Speed: 1, Anchor: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Host: map[string]string{"cpus": "2", "memory_mib": "8192"}, Topology: layout, Objectives: s.Objectives(), Bounds: results.Bounds{LagP999US: 50_000, InFlight: 4096},
		Clients: []results.Client{{Name: "mta1", Kind: "mta", Nodes: []string{"sql1", "sql2"}}, {Name: "webmail1", Kind: "webmail", Nodes: []string{"sql2", "sql1"}}},
	}, s.recorded())
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "load"})
	begin, number := time.Second, uint64(0)
	r.Event(chaos.Event{At: begin, Kind: chaos.KindPhase, Name: "measure"})
	for i, perDay := range []int64{8_000_000, 8_000_000, 8_800_000, 8_800_000} {
		gap := 24 * time.Hour / time.Duration(perDay)
		end := begin + 22*time.Second
		takes := 2 * time.Millisecond
		if perDay > 8_000_000 {
			takes = 600 * time.Millisecond
		}
		for at := begin; at < end; at += gap {
			number++
			r.Record(&workload.Sample{
				Message: number, Operation: reference.Route, Intended: at, Virtual: at, Outcome: workload.OK, Answer: 1,
				Attempts: []workload.Attempt{{Node: 4, Dispatched: at, Ended: at + takes}},
			})
		}
		busy := func(at time.Duration, ofQuota float64) results.NodeUsage {
			return results.NodeUsage{CPUUS: int64(float64(at.Microseconds()) * ofQuota)}
		}
		for at := begin; at < end; at += time.Second {
			r.Counter(results.CounterRow{AtUS: at.Microseconds(), CPUUS: at.Microseconds() / 10, Nodes: map[string]results.NodeUsage{
				"sql1": busy(at, 0.3), "sql2": busy(at, 0.05), "data1": busy(at, 0.15), "data2": busy(at, 0.15),
			}})
		}
		search.Steps = append(search.Steps, capacity.Step{
			Number: i + 1, Regime: capacity.Healthy, Dir: "001", PerDay: perDay, FromUS: begin.Microseconds(), ToUS: end.Microseconds(), Stopped: capacity.Length, Looks: 1,
		})
		begin = end + 5*time.Second
	}
	r.Event(chaos.Event{At: begin, Kind: chaos.KindPhase, Name: "drain"})
	if err := errors.Join(r.Close(results.EndOfRun{At: begin, Reason: results.Completed}), search.Write(dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestProposeCapacity(t *testing.T) {
	dir := searched(t)
	ask := Proposing{Dir: dir, TargetPerDay: 6_000_000, Command: "mailbench capacity propose DIR --target 6M/day"}
	p, path, err := ProposeCapacity(ask)
	if err != nil {
		t.Fatal(err)
	}
	if p.Answer != capacity.Proposed || path != filepath.Join(dir, "capacity-6m.yaml") {
		t.Fatalf("%s, %s, scenario %q", p.Answer, p.Why, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, string(text), "proposed.yaml")
	file, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := file.Scenario()
	if err != nil {
		t.Fatalf("what was written is no scenario: %v", err)
	}
	layout, err := s.Topology()
	if err != nil {
		t.Fatal(err)
	}
	if s.Workload.MessagesPerDay != 6_000_000 || s.TopologySpec.DataNodes != p.Topology.DataNodes || len(layout.ByRole("sql")) != p.Topology.SQLNodes || len(s.Clients) != len(p.Topology.Clients) {
		t.Errorf("the scenario has %d messages, %d data nodes, %v: not what was proposed", s.Workload.MessagesPerDay, s.TopologySpec.DataNodes, s.TopologySpec.SQLHosts)
	}
	again, _, err := ProposeCapacity(ask)
	if err != nil {
		t.Fatalf("asked again: %v", err)
	}
	if second, err := os.ReadFile(path); err != nil || !bytes.Equal(text, second) || again.Why != p.Why {
		t.Errorf("asked again it is another proposal: %v", err)
	}
}

func TestProposeCapacityAnswers(t *testing.T) {
	dir := searched(t)
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := func(text string) string { return write("objectives.yaml", text) }
	taken := write("mine.yaml", "name: mine\n")
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, capacity.SearchFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence string
		ask      Proposing
		answer   capacity.Answer // "" for an error
		writes   bool
		says     string
	}{
		{"what was measured needs no test", Proposing{Dir: dir, TargetPerDay: 3_000_000}, capacity.CarriedAlready, false, "as was measured: 4,000,000"},
		{"beyond twice what was measured nothing is said", Proposing{Dir: dir, TargetPerDay: 100_000_000}, capacity.Refused, false, "mailbench capacity curve"},
		{"under looser objectives all recorded steps are met", Proposing{Dir: dir, TargetPerDay: 4_300_000, Objectives: list("- {name: routing in a second, path: routing, target: 99%, within: 1s}\n")}, capacity.CarriedAlready, false, "4,400,000"},
		{"an OpenSLO document says the same", Proposing{Dir: dir, TargetPerDay: 4_300_000, Objectives: write("slo.yaml", strings.ReplaceAll(document, "100ms", "1s"))}, capacity.CarriedAlready, false, "4,400,000"},
		{"objectives that no step meets are to be searched", Proposing{Dir: dir, TargetPerDay: 4_300_000, Objectives: list("- {name: routing at once, path: routing, target: 99%, within: 1ms}\n"), Out: filepath.Join(t.TempDir(), "search.yaml")}, capacity.Refused, true, "no rate is known"},
		{"a file that is somebody's is not replaced", Proposing{Dir: dir, TargetPerDay: 6_000_000, Out: taken}, "", false, "is there already"},
		{"a directory without a search", Proposing{Dir: t.TempDir(), TargetPerDay: 6_000_000}, "", false, "holds no capacity search"},
		{"a damaged search", Proposing{Dir: broken, TargetPerDay: 6_000_000}, "", false, "search.json"},
		{"objectives that are no list", Proposing{Dir: dir, TargetPerDay: 6_000_000, Objectives: list("name: x\n")}, "", false, "objectives.yaml:1:"},
		{"objectives of messages cannot be judged by steps", Proposing{Dir: dir, TargetPerDay: 6_000_000, Objectives: list("- {name: nothing is lost, metric: lost, target: 100%}\n")}, "", false, "counts messages"},
		{"a mistake in an objective has its place", Proposing{Dir: dir, TargetPerDay: 6_000_000, Objectives: list("- {name: a, target: 101%}\n")}, "", false, "objectives.yaml:1:21"},
		{"no file of objectives", Proposing{Dir: dir, TargetPerDay: 6_000_000, Objectives: filepath.Join(dir, "none.yaml")}, "", false, "none.yaml"},
	} {
		p, path, err := ProposeCapacity(row.ask)
		if row.answer == "" {
			var input *InputError
			if !errors.As(err, &input) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%s: error %v, want an input error with %q", row.sentence, err, row.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		if p.Answer != row.answer || (path != "") != row.writes || !strings.Contains(p.Why, row.says) {
			t.Errorf("%s: %s, scenario %q: %s", row.sentence, p.Answer, path, p.Why)
		}
		if path != "" {
			file, err := Load(path)
			if err != nil {
				t.Errorf("%s: %v", row.sentence, err)
				continue
			}
			if s, err := file.Scenario(); err != nil || len(s.ObjectiveSpecs) != 1 || s.ObjectiveSpecs[0].Name != "routing at once" || s.TopologySpec.DataNodes != 2 {
				t.Errorf("%s: the scenario is not that of the same system with these objectives: %v", row.sentence, err)
			}
		}
	}
}

// TestProposeFromCurve holds that searches of variants alone are enough.
func TestProposeFromCurve(t *testing.T) {
	dir := t.TempDir()
	if err := os.Rename(searched(t), filepath.Join(dir, capacity.SQLNodesDir+"2")); err != nil {
		t.Fatal(err)
	}
	p, path, err := ProposeCapacity(Proposing{Dir: dir, TargetPerDay: 6_000_000})
	if err != nil {
		t.Fatal(err)
	}
	if p.Answer != capacity.Proposed || path != filepath.Join(dir, "capacity-6m.yaml") {
		t.Errorf("%s, %s, scenario %q", p.Answer, p.Why, path)
	}
}

// TestProposedScenario holds what a proposal changes in a scenario besides its topology.
func TestProposedScenario(t *testing.T) {
	folder := t.TempDir()
	s, err := Parse(filepath.Join(folder, "small.yaml"), []byte("name: small-"+strings.Repeat("x", 57)+"\nhypothesis: Nothing.\nlinks: [{node: sql2, delay: 1ms}]\n"+
		"topology: {sql_hosts: [mta1, mta2, mta3], data_node: {DataMemory: 256M}, limits: {data: {memory: 2GiB}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	clients, err := capacity.Spread(s.capacityClients(), 1)
	if err != nil {
		t.Fatal(err)
	}
	next := s.proposed(&capacity.Proposal{Answer: capacity.Proposed, TargetPerDay: 2_500_000, Topology: &capacity.ProposedTopology{
		DataNodes: 4, NodeGroups: 2, Replicas: 2, SQLNodes: 1, DataMemory: "1G", Clients: clients,
	}}, nil)
	path := filepath.Join(folder, "below", "next.yaml")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := next.writeProposed(path, filepath.Join(folder, "small.yaml"), "a\nname: b"); err != nil {
		t.Fatal(err)
	}
	file, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := file.Scenario()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Name) != 63 || !strings.HasSuffix(got.Name, "-2500k") {
		t.Errorf("it is called %s", got.Name)
	}
	if len(got.Links) != 0 {
		t.Errorf("it has links to SQL nodes that there are no more: %v", got.Links)
	}
	if spec := got.TopologySpec; spec.DataNode["DataMemory"] != "1G" || spec.Limits.Data.MemoryMiB != 2048+768 || len(spec.SQLHosts) != 1 {
		t.Errorf("its topology is %+v", spec)
	}
	if s.TopologySpec.DataNode["DataMemory"] != "256M" || s.TopologySpec.DataNodes != 2 || len(s.Links) != 1 {
		t.Errorf("the scenario that it was made of has changed: %+v", s.TopologySpec)
	}
}

// TestProposedPaths holds that files which a scenario names are found from where the
// proposal is written.
func TestProposedPaths(t *testing.T) {
	folder := t.TempDir()
	from, to := filepath.Join(folder, "search", "001"), filepath.Join(folder, "mine")
	s := Scenario{Schema: "./schema", Workload: Workload{Trace: "./day.mbt"}}
	if got := s.moved(from, to); got.Schema != "../search/001/schema" || got.Workload.Trace != "../search/001/day.mbt" {
		t.Errorf("schema %s, trace %s", got.Schema, got.Workload.Trace)
	}
	if got := s.moved(from, filepath.Join(folder, "search")); got.Schema != "./001/schema" {
		t.Errorf("schema %s", got.Schema)
	}
}
