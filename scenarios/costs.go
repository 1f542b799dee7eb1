package scenarios

import (
	"context"
	"errors"
	"time"

	"github.com/mailbench/mailbench/reference/costs"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
)

// costsTimeout bounds the counting, which takes a second or two.
const costsTimeout = 30 * time.Second

// costs counts what each decision costs, through the first SQL node of a target
// that nobody else asks yet. It is no part of the verdict: where it fails, the run
// tells so and goes on without.
func (c *Conductor) costs(ctx context.Context, target system) []costs.Cost {
	ctx, cancel := context.WithTimeout(ctx, costsTimeout)
	defer cancel()
	began := time.Now()
	found, err := countCosts(ctx, target)
	if err != nil {
		c.say("costs: not counted, and the run has none: %v", err)
		return nil
	}
	c.say("costs: %d decisions counted in %.1f s", len(found), time.Since(began).Seconds())
	return found
}

func countCosts(ctx context.Context, target system) ([]costs.Cost, error) {
	node := target.Topology().ByRole(topology.SQL)[0]
	db, err := target.OpenAdmin(node.ID)
	if err != nil {
		return nil, err
	}
	found, err := costs.Probe(ctx, schema.Admin{Name: node.Name, DB: db}, target.SchemaOptions())
	return found, errors.Join(err, db.Close())
}
