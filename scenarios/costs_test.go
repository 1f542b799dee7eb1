package scenarios

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
)

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
