package scenarios

import (
	"context"
	"path/filepath"

	"github.com/mailbench/mailbench/results"
)

// Repeat performs a plan several times, each on a cluster of its own, and
// writes a series into the conductor's directory. each is called after each run
// with its directory. It ends at the first error.
func (c Conductor) Repeat(ctx context.Context, p *Plan, times int, each func(dir string, run *results.Run) error) error {
	if err := checkFresh(c.Dir); err != nil {
		return err
	}
	series := results.Series{Kind: results.Repetitions, Scenario: p.Scenario.Name}
	dir := c.Dir
	for range times {
		member := series.NextMember()
		series.Members = append(series.Members, results.Member{Dir: member})
		if err := series.Write(dir); err != nil {
			return err
		}
		c.Dir = filepath.Join(dir, member)
		run, err := c.Run(ctx, p)
		if run != nil {
			if err := each(c.Dir, run); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
