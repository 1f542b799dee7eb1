package scenarios

import (
	"context"
	"errors"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/costs"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
)

// costsTimeout bounds the counting, which takes a second or two.
const costsTimeout = 30 * time.Second

// costed is an NDB cluster: its SQL nodes count what each statement costs the data
// nodes.
type costed interface {
	reference.Target
	reference.Admin
	reference.Checkpointer
	SchemaOptions() schema.Options
}

// costs counts what each decision costs, through the first SQL node of a target
// that nobody else asks yet; nothing on a target that counts nothing. It is no part
// of the verdict: where it fails, the run tells so and goes on without.
func (c *Conductor) costs(ctx context.Context, target reference.Target) []costs.Cost {
	cluster, ok := target.(costed)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, costsTimeout)
	defer cancel()
	began := time.Now()
	found, err := countCosts(ctx, cluster)
	if err != nil {
		c.say("costs: not counted, and the run has none: %v", err)
		return nil
	}
	c.say("costs: %d decisions counted in %.1f s", len(found), time.Since(began).Seconds())
	return found
}

func countCosts(ctx context.Context, target costed) ([]costs.Cost, error) {
	node := target.Topology().ByRole(topology.SQL)[0]
	db, err := target.OpenAdmin(node.ID)
	if err != nil {
		return nil, err
	}
	found, err := costs.Probe(ctx, schema.Admin{Name: node.Name, DB: db}, target.SchemaOptions())
	return found, errors.Join(err, db.Close())
}
