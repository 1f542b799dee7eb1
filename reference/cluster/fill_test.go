package cluster_test

import (
	"testing"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/topology"
)

// TestFill holds that each data node says how full it is.
func TestFill(t *testing.T) {
	c := clustertest.Shared(t)
	fills, err := c.Fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Topology().ByRole(topology.Data) {
		if f := fills[n.ID]; f.DataMemory <= 0 || f.DataMemory >= f.DataMemoryTotal || f.Redo < 0 || f.RedoTotal <= 0 {
			t.Errorf("%s is filled like %+v", n.Name, f)
		}
	}
}
