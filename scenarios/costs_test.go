package scenarios

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
)

// TestNothingCostsMoreThanInTheBaseline is the gate on the project's own schema: no
// decision takes more of what counts on any machine. Bytes are left to gate itself,
// as another version of the cluster may pack them otherwise.
func TestNothingCostsMoreThanInTheBaseline(t *testing.T) {
	base, err := gate.ReadBaseline("../results/baselines/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	found, err := countCosts(t.Context(), clustertest.Shared(t))
	if err != nil {
		t.Fatal(err)
	}
	costs, noisy := compare.Costs{}, []string{}
	for _, c := range found {
		counters := maps.Clone(c.Exact)
		for name, n := range c.Noisy {
			counters[name] = n
			noisy = append(noisy, name)
		}
		costs[c.Path.String()+"/"+c.Decision] = counters
	}
	changes, err := base.CompareCosts(costs, noisy)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		bytes := strings.Contains(c.Counter, "bytes")
		switch {
		case c.Change == compare.Same || c.Change == compare.Tolerated:
		case bytes || c.Verdict == compare.Improvement:
			t.Logf("%s of %s is %d, was %d", c.Counter, c.Decision, c.Candidate, c.Base)
		default:
			t.Errorf("%s of %s is %d, was %d (%s): if that is meant, write the baseline anew (docs/gate.md)", c.Counter, c.Decision, c.Candidate, c.Base, c.Change)
		}
	}
}

// TestCostsAreNoPartOfTheVerdict counts on a target as a run has it, and when that
// fails.
func TestCostsAreNoPartOfTheVerdict(t *testing.T) {
	target := clustertest.Shared(t)
	var progress bytes.Buffer
	c := Conductor{Progress: &progress}
	found := c.costs(t.Context(), target)
	if len(found) == 0 || !strings.HasPrefix(progress.String(), "costs: ") || !strings.Contains(progress.String(), " decisions counted in ") {
		t.Errorf("%d decisions: %s", len(found), &progress)
	}
	progress.Reset()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := c.costs(ctx, target); found != nil || !strings.HasPrefix(progress.String(), "costs: not counted, and the run has none: ") {
		t.Errorf("%d decisions of an interrupted run: %s", len(found), &progress)
	}
	t.Log(progress.String())
}
