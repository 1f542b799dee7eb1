package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

// variantFlags are those of commands that search variants of a scenario.
type variantFlags struct {
	scenario   scenarioFlags
	search     searchFlags
	out, image string
}

func (f *variantFlags) add(c *cobra.Command) {
	f.scenario.add(c)
	f.search.add(c)
	c.Flags().StringVar(&f.out, "out", "", "directory of the searches; one that is there goes on, that of a search of the scenario gets them beside it (default results/runs/SCENARIO-TIME)")
	c.Flags().StringVar(&f.image, "image", "", "image that every node runs (default: found or built)")
}

// run searches variants and shows what was found. regimes says in which, if the flags
// do not; with deaths each is also run once with the scenario's faults.
func (f *variantFlags) run(c *cobra.Command, args []string, variants []scenarios.Variant, regimes func(*scenarios.Plan) []capacity.Regime, deaths bool) error {
	if f.out == "" {
		f.out = filepath.Join("results", "runs", filepath.Base(args[0])+"-"+time.Now().UTC().Format("20060102-150405"))
	}
	if err := f.search.check(); err != nil {
		return err
	}
	var all []scenarios.Searched
	for _, v := range variants {
		plan, err := f.scenario.searchPlan(c, args, "", v.Set...)
		if err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
		defer plan.Close() // only read
		if err := plan.CountArrivals(c.Context()); err != nil {
			return err
		}
		settings, err := f.search.settings(plan)
		if err != nil {
			return err
		}
		in := regimes(plan)
		if len(f.search.regimes) > 0 {
			in = f.search.named()
		}
		searched := scenarios.Searched{Variant: v, Plan: plan, Search: plan.Search(settings, version, repeatOf(c, args)), Regimes: in}
		if deaths {
			death, err := f.death(c, args, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.Name, err)
			}
			if death != nil {
				defer death.Close() // only read
			}
			searched.Death = death
		}
		all = append(all, searched)
	}
	conductor := scenarios.Conductor{Dir: f.out, Image: f.image, Version: version, Progress: c.ErrOrStderr()}
	searchErr := conductor.Searches(c.Context(), all)
	if !report.IsSearch(f.out) {
		return searchErr
	}
	found, err := report.Capacity(f.out)
	if err != nil {
		return errors.Join(searchErr, err)
	}
	if err := copyFile(c.OutOrStdout(), filepath.Join(f.out, report.CapacityMarkdownFile)); err != nil {
		return errors.Join(searchErr, err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "capacity: written to %s\n", f.out)
	if searchErr != nil {
		return searchErr
	}
	return verdictOf(searchesVerdict(found))
}

// death is a variant with the scenario's faults, nil if it has none.
func (f *variantFlags) death(c *cobra.Command, args []string, v scenarios.Variant) (*scenarios.Plan, error) {
	s, err := f.scenario.scenario(c, args[0], v.Set...)
	if err != nil || len(s.Faults) == 0 {
		return nil, err
	}
	return scenarios.NewPlan(c.Context(), s)
}

func newCapacityCurve() *cobra.Command {
	var (
		flags     variantFlags
		sql, data []int
	)
	c := &cobra.Command{
		Use:   "curve SCENARIO",
		Short: "find how the capacity grows with SQL nodes and data nodes",
		Long: `Search the capacity of a scenario with so many SQL nodes, and with so many data
nodes, each on a cluster of its own, healthy; the Universal Scalability Law is fitted
to what was found, with its intervals. Run again with the same --out it goes on where
it was.`,
		Example: "  mailbench capacity curve capacity --sql-nodes 1,2,3,4 --out results/runs/curve",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(sql)+len(data) == 0 {
				return usageError{errors.New("curve takes --sql-nodes or --data-nodes, such as --sql-nodes 1,2,3")}
			}
			s, err := flags.scenario.scenario(c, args[0])
			if err != nil {
				return err
			}
			var variants []scenarios.Variant
			mtas := 0
			for _, client := range s.Clients {
				if client.Kind == scenarios.MTA {
					mtas++
				}
			}
			for _, n := range sql {
				if n < 1 || n > mtas || mtas%n != 0 {
					return usageError{fmt.Errorf("--sql-nodes %d: must be a divisor of %d, the number of the scenario's MTAs: each asks the node that it prefers, and one node would have more to do than another; add clients to the scenario", n, mtas)}
				}
				variants = append(variants, s.SQLNodes(n))
			}
			for _, n := range data {
				variants = append(variants, s.DataNodes(n))
			}
			return flags.run(c, args, variants, func(*scenarios.Plan) []capacity.Regime { return []capacity.Regime{capacity.Healthy} }, false)
		},
	}
	c.Flags().IntSliceVar(&sql, "sql-nodes", nil, "numbers of SQL nodes to search, such as 1,2,3")
	c.Flags().IntSliceVar(&data, "data-nodes", nil, "numbers of data nodes to search, such as 2,4")
	flags.add(c)
	return c
}

func newCapacityCompare() *cobra.Command {
	var (
		flags   variantFlags
		systems []string
	)
	c := &cobra.Command{
		Use:   "compare SCENARIO",
		Short: "find the capacity of NDB, of InnoDB with a replica and of OpenLDAP under the same load",
		Long: `Search the capacity of a scenario on several systems, healthy and with one machine
dead, under the same objectives and on machines of one size: where NDB has a data node
and a SQL node on a machine, the server of another system gets what both have. Then run
the scenario once on each as it is written, with its faults: what a death does in the
moment. The scenario must ask only what all of them hold: routing and preferences. Run
again with the same --out it goes on where it was.`,
		Example: "  mailbench capacity compare comparison --out results/runs/comparison",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.scenario.scenario(c, args[0])
			if err != nil {
				return err
			}
			var variants []scenarios.Variant
			for _, name := range systems {
				variants = append(variants, s.OnSystem(name))
			}
			return flags.run(c, args, variants, (*scenarios.Plan).MachineRegimes, true)
		},
	}
	c.Flags().StringSliceVar(&systems, "system", []string{"ndb", "innodb", "ldap"}, "systems to search")
	flags.add(c)
	return c
}
