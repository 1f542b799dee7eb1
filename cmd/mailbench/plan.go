package main

import "github.com/spf13/cobra"

func newPlan() *cobra.Command {
	var flags scenarioFlags
	c := &cobra.Command{
		Use:   "plan SCENARIO",
		Short: "print what a run would do; touches nothing",
		Args:  arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := flags.plan(c, args[0])
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			return plan.Describe(c.OutOrStdout())
		},
	}
	flags.add(c)
	return c
}
