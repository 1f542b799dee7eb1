package chaos

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/golden"
)

// fullPlan has every field of a spec in use.
func fullPlan(t *testing.T, seed uint64) Plan {
	t.Helper()
	plan, err := NewPlan(seed, []Spec{
		{Kind: Kill, Target: "data1", At: time.Minute, Hold: 30 * time.Second, Repeat: 3, Every: 10 * time.Minute, Jitter: 20 * time.Second},
		{Kind: Kill, Target: "sql1", At: 5 * time.Minute, Hold: 10*time.Second + 999*time.Nanosecond},
		{Kind: Kill, Target: "data2", At: 15 * time.Second, Hold: time.Minute, After: AfterRedundant, Repeat: 2, Every: 45 * time.Second, Jitter: time.Second},
	}, hour(t))
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestPlanIsAFunctionOfSeedAndSpecs(t *testing.T) {
	plan := fullPlan(t, 42)
	var b bytes.Buffer
	b.Write(plan.canonical())
	b.WriteString("sha256=" + plan.SHA256() + "\n\n")
	if err := plan.Describe(&b, cluster(t)); err != nil {
		t.Fatal(err)
	}
	golden.AssertBytes(t, b.Bytes(), "plan.golden")
	if again := fullPlan(t, 42); !reflect.DeepEqual(again, plan) {
		t.Error("the same seed gives another plan")
	}
	if fullPlan(t, 43).SHA256() == plan.SHA256() {
		t.Error("another seed gives the same plan")
	}
}

// hour is an hour with the smallest cluster.
func hour(t *testing.T) Ground {
	t.Helper()
	return Ground{Topology: cluster(t), Duration: time.Hour}
}

func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for seed := range uint64(1000) {
		d := draw(seed, 0, 0, 3*time.Microsecond)
		if d < 0 || d > 3*time.Microsecond {
			t.Fatalf("drew %s", d)
		}
		seen[d] = true
	}
	if len(seen) != 4 {
		t.Errorf("drew %v, want every whole microsecond from 0 to the limit", seen)
	}
	one := Spec{Kind: Kill, Target: "data1", At: time.Minute, Jitter: 30 * time.Second}
	first, err := NewPlan(7, []Spec{one}, hour(t))
	if err != nil {
		t.Fatal(err)
	}
	more, err := NewPlan(7, []Spec{one, {Kind: Kill, Target: "sql1", At: 2 * time.Minute}}, hour(t))
	if err != nil || !reflect.DeepEqual(first.Steps[0], more.Steps[0]) {
		t.Errorf("a fault added behind changes the first from %+v to %+v (%v)", first.Steps[0], more.Steps[0], err)
	}
}

func TestNewPlanRefuses(t *testing.T) {
	good := Spec{Kind: Kill, Target: "data1", At: time.Minute, Hold: 30 * time.Second}
	with := func(change func(s *Spec)) Spec {
		s := good
		change(&s)
		return s
	}
	noManagement := cluster(t)
	noManagement.Nodes = noManagement.Nodes[1:]
	for _, row := range []struct {
		name  string
		specs []Spec
		top   topology.Topology
		want  string // of the error, "" for a plan that is made
	}{
		{"a kill of either role is a plan", []Spec{good, with(func(s *Spec) { s.Target, s.At = "sql2", 2*time.Minute })}, cluster(t), ""},
		{"no faults are a plan", nil, cluster(t), ""},
		{"the end of the run is the last moment", []Spec{with(func(s *Spec) { s.At = 9*time.Minute + 30*time.Second })}, cluster(t), ""},
		{"a node that is not there", []Spec{good, with(func(s *Spec) { s.Target = "data9" })}, cluster(t),
			`faults[1].target: no node is called "data9"; there are mgm1, data1, data2, sql1, sql2`},
		{"a kind that is not there", []Spec{with(func(s *Spec) { s.Kind = "melt" })}, cluster(t), `faults[0].kind: no kind of fault is called "melt"; there are ["kill" "pause"`},
		{"the only replica", []Spec{good}, shape(t, 2, 1, "mta1", "mta2"), "faults[0].target: kill of data1 would be an outage of the harness's own making: node group 0 has no survivor"},
		{"the only SQL node", []Spec{with(func(s *Spec) { s.Target = "sql1" })}, shape(t, 2, 2, "mta1"), "faults[0].target: kill of sql1 would be an outage of the harness's own making: no SQL node is left"},
		{"half of the nodes without an arbitrator", []Spec{good}, noManagement, "faults[0].target: kill of data1 would be an outage of the harness's own making: half of the data nodes are left and no management node can arbitrate"},
		{"a time beyond the run", []Spec{with(func(s *Spec) { s.At = 11 * time.Minute })}, cluster(t), "faults[0].at: is 11m0s, must be 0 to 10m0s"},
		{"a time before the run", []Spec{with(func(s *Spec) { s.At = -time.Second })}, cluster(t), "faults[0].at: is -1s"},
		{"a hold beyond the run", []Spec{with(func(s *Spec) { s.At = 9*time.Minute + 31*time.Second })}, cluster(t), "faults[0].at: repetition 1 may be injected 9m31s into a run of 10m0s"},
		{"a repetition beyond the run", []Spec{with(func(s *Spec) { s.Repeat, s.Every = 3, 5*time.Minute })}, cluster(t), "faults[0].at: repetition 3 may be injected 11m0s"},
		{"a jitter that could reach beyond the run, whatever the seed", []Spec{with(func(s *Spec) { s.Jitter = 9 * time.Minute })}, cluster(t), "faults[0].at: repetition 1 may be injected 10m0s"},
		{"a fault after the one before that cannot be in time", []Spec{good, with(func(s *Spec) { s.After, s.At = AfterRedundant, 9*time.Minute })}, cluster(t),
			"faults[1].at: repetition 1 may be injected 10m30s"},
		{"a repetition during its own hold", []Spec{with(func(s *Spec) { s.Repeat, s.Every = 2, 30*time.Second })}, cluster(t), "faults[0].every: is 30s: the fault would come again"},
		{"a time between repetitions that there are none of", []Spec{with(func(s *Spec) { s.Every = time.Second })}, cluster(t), "faults[0].every: is 1s, but"},
		{"too many repetitions", []Spec{with(func(s *Spec) { s.Repeat, s.Every = 1001, time.Minute })}, cluster(t), "faults[0].repeat: is 1001"},
		{"a first fault after another", []Spec{with(func(s *Spec) { s.After = AfterRedundant })}, cluster(t), "faults[0].after: is"},
		{"an unknown after", []Spec{good, with(func(s *Spec) { s.After = "lunch" })}, cluster(t), `faults[1].after: is "lunch", must be "redundant"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			plan, err := NewPlan(1, row.specs, Ground{Topology: row.top, Duration: 10 * time.Minute})
			if row.want == "" {
				if err != nil || len(plan.Steps) != len(row.specs) {
					t.Fatalf("%+v, %v", plan, err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}

	_, err := NewPlan(1, []Spec{{Kind: "melt", Target: "data9"}, good, {Kind: Kill, Target: "mgm9"}}, hour(t))
	var all SpecErrors
	if !errors.As(err, &all) || len(all) != 3 || all[1].Index != 0 || all[1].Field != "target" || all[2].Index != 2 {
		t.Errorf("%#v, want all that is wrong", err)
	}
	for _, d := range []time.Duration{0, -1, 1 << 62} {
		if _, err := NewPlan(1, nil, Ground{Topology: cluster(t), Duration: d}); err == nil {
			t.Errorf("a run of %s is planned", d)
		}
	}
}

func TestExpectationKnowsTheArbitrator(t *testing.T) {
	for _, row := range []struct {
		name string
		top  topology.Topology
		want string
	}{
		{"one of two data nodes needs the arbitrator", cluster(t), "consent as arbitrator"},
		{"one of two groups lost nobody", shape(t, 4, 2, "mta1"), "no arbitration is needed"},
		{"two of three are more than half", shape(t, 3, 3, "mta1"), "lives on data2,data3 (no arbitration is needed)"},
	} {
		if got := expectLoss(row.top, row.top.Nodes[1:2]); !strings.Contains(got, row.want) {
			t.Errorf("%s: %q", row.name, got)
		}
	}
}
