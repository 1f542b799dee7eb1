package main

import (
	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newPlan() *cobra.Command {
	var (
		flags scenarioFlags
		check bool
		image string
	)
	c := &cobra.Command{
		Use:   "plan SCENARIO",
		Short: "print what a run would do; touches nothing",
		Long: `Print what a run would do, each fault with what the database is expected to do
and where that rule stands. It touches nothing. With --check it asks the container
engine and the kernel whether each fault can be made, as run does before it starts
anything, and names what is missing and the fault that is nearest. Of an external
cluster it looks whether it is as described, whole and released.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := flags.plan(c, args[0])
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			if err := plan.Describe(c.OutOrStdout(), terminalWidth); err != nil || !check {
				return err
			}
			if plan.External() {
				return scenarios.CheckExternal(c.Context(), plan, c.ErrOrStderr())
			}
			return withEngine(func(c *cobra.Command, docker *client.Client) error {
				return scenarios.Check(c.Context(), docker, plan, image, c.ErrOrStderr())
			})(c, args)
		},
	}
	flags.add(c)
	c.Flags().BoolVar(&check, "check", false, "ask engine and kernel whether each fault can be made")
	c.Flags().StringVar(&image, "image", "", "with --check: image that every node would run (default: found)")
	return c
}
