package scenarios_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
)

// TestComparisonOnInnoDB performs the comparison on a pair whose primary dies: it is
// recorded and judged as a cluster's run is.
func TestComparisonOnInnoDB(t *testing.T) {
	docker := clustertest.Alone(t)
	dir := filepath.Join(t.TempDir(), "run")
	var overrides []scenarios.Override
	for _, set := range []string{
		"system=innodb", "workload.duration=60s", "workload.end=faults",
		"faults=[{kind: kill, target: \"host:cyrus1\", at: 10s, hold: 6s}]",
	} {
		o, err := scenarios.ParseOverride(set)
		if err != nil {
			t.Fatal(err)
		}
		overrides = append(overrides, o)
	}
	p, err := scenarios.LoadPlan(t.Context(), "comparison", overrides...)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() // only read
	var progress bytes.Buffer
	conductor := scenarios.Conductor{Dir: dir, Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
	run, err := conductor.Run(t.Context(), p)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	nothingLeft(t, docker)
	if len(run.Faults) != 1 || run.Faults[0].EffectiveAtUS == nil || run.Faults[0].RedundantAtUS == nil {
		t.Errorf("faults %+v, want one that took effect and was followed by redundancy\n%s", run.Faults, &progress)
	}
	for _, path := range reference.Paths {
		asked := run.Paths[path.String()].Count > 0
		if want := path == reference.Routing || path == reference.Preferences; asked != want {
			t.Errorf("%s is asked: %t, want %t", path, asked, want)
		}
	}
	for _, node := range []string{"sql1", "sql2"} {
		if run.Nodes[node].Attempts == 0 {
			t.Errorf("nobody asked %s", node)
		}
	}
	l := run.Ledger
	if l == nil || l.Acknowledged == 0 || l.Verified != l.Acknowledged || l.Violations != (results.ViolationCounts{}) {
		t.Errorf("ledger %+v, want acknowledged writes, all verified, and no answer that contradicts one", l)
		tellBroken(t, dir, p)
	}
	if _, err := os.Stat(filepath.Join(dir, "cluster", "sql1.log")); err != nil {
		t.Errorf("the log of a server was not saved: %v", err)
	}
}
