package scenarios

import (
	"reflect"
	"testing"
	"time"
)

func TestOverridesReachEveryKindOfValue(t *testing.T) {
	const file = least + `
workload: {speed: 2}
faults:
  - {kind: kill, target: data2, at: 20%}
  - {kind: kill, target: sql1, at: 60%}
`
	for _, row := range []struct {
		what string
		set  string
		got  func(*Scenario) any
		want any
	}{
		{"a value that the file has", "workload.speed=10", func(s *Scenario) any { return s.Workload.Speed }, 10},
		{"a value that the file leaves to its default", "population.accounts=5", func(s *Scenario) any { return s.Population.Accounts }, 5},
		{"a parameter of a program", "topology.data_node.DataMemory=512M", func(s *Scenario) any { return s.TopologySpec.DataNode["DataMemory"] }, "512M"},
		{"a field of an entry", "faults[1].at=5m", func(s *Scenario) any { return s.Faults[1].At }, 5 * time.Minute},
		{"a whole list", "faults=[]", func(s *Scenario) any { return len(s.Faults) }, 0},
		{"an entry", "faults[0]={kind: kill, target: data1, at: 1s}", func(s *Scenario) any { return s.Faults[0].Target }, "data1"},
		{"a deep value without the mappings around it", "topology.limits.sql.cpus=0.25", func(s *Scenario) any { return s.TopologySpec.Limits.SQL.MilliCPUs }, 250},
		{"text with an equals sign", "hypothesis=a = b", func(s *Scenario) any { return s.Hypothesis }, "a = b"},
		{"a duration moves the faults that count in shares", "workload.duration=90s", func(s *Scenario) any { return []time.Duration{s.Faults[0].At, s.Faults[1].At} }, []time.Duration{18 * time.Second, 54 * time.Second}},
	} {
		t.Run(row.what, func(t *testing.T) {
			o, err := ParseOverride(row.set)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse("t.yaml", []byte(file), o)
			if err != nil {
				t.Fatal(err)
			}
			if got := row.got(s); !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestLaterOverridesWin(t *testing.T) {
	s := parse(t, least, "seed=2", "workload={speed: 5}", "seed=3", "workload.speed=7")
	if s.Seed != 3 || s.Workload.Speed != 7 {
		t.Errorf("seed %d and speed %d, want 3 and 7", s.Seed, s.Workload.Speed)
	}
}

func TestAnOverrideMadeFromAFlagNamesTheFlag(t *testing.T) {
	_, err := Parse("t.yaml", []byte(least), Override{Path: "workload.duration", Value: "90", Flag: "--duration 90"})
	const want = `--duration 90: workload.duration: must be a time with its unit (h, m, s, ms or us) from 1s to 24h, not 90`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseOverrideRefusesWhatIsNoOverride(t *testing.T) {
	for _, row := range []struct{ what, set, want string }{
		{"no equals sign", "workload.speed", `--set workload.speed: must be path=value, such as workload.speed=10`},
		{"no path", "=10", `--set =10: "" is not a path such as workload.speed or faults[0].at`},
		{"an index without a list", "[0]=1", `--set [0]=1: "[0]" is not a path such as workload.speed or faults[0].at`},
		{"an index that is no number", "faults[x].at=1s", `--set faults[x].at=1s: "faults[x].at" is not a path such as workload.speed or faults[0].at`},
		{"a dot at the end", "workload.=1", `--set workload.=1: "workload." is not a path such as workload.speed or faults[0].at`},
		{"a value that is no YAML", "faults=[1", `--set faults=[1: sequence end token ']' not found`},
		{"a value in two lines", "name=a\nseed: 1", "--set name=a\nseed: 1: the value must be in one line"},
	} {
		t.Run(row.what, func(t *testing.T) {
			_, err := ParseOverride(row.set)
			if err == nil || err.Error() != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}
