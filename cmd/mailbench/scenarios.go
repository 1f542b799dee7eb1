package main

import (
	"fmt"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

func newScenarios() *cobra.Command {
	c := &cobra.Command{Use: "scenarios", Short: "what is built in, what a file says, whether it is right"}
	c.AddCommand(newScenariosList(), newScenariosShow(), newScenariosValidate())
	return c
}

func newScenariosList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the built-in scenarios", Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return scenarios.ListBuiltin(c.OutOrStdout(), terminalWidth)
		},
	}
}

func newScenariosShow() *cobra.Command {
	var resolved bool
	c := &cobra.Command{
		Use: "show SCENARIO", Short: "print a scenario file", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := scenarios.Load(args[0])
			if err != nil {
				return err
			}
			text := file.Data
			if resolved {
				s, err := file.Scenario()
				if err != nil {
					return err
				}
				text = s.YAML()
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&resolved, "resolved", false, "write every default out")
	return c
}

func newScenariosValidate() *cobra.Command {
	return &cobra.Command{
		Use: "validate SCENARIO", Short: "say whether a scenario file is right", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := scenarios.Load(args[0])
			if err != nil {
				return err
			}
			s, err := file.Scenario()
			if err != nil {
				return err
			}
			plan, err := scenarios.NewPlan(c.Context(), s)
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			replays := ""
			if s.Workload.Trace != "" {
				replays = fmt.Sprintf("; it replays %d messages of trace file %s", plan.Trace.Messages(), s.Workload.Trace)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: scenario %s is right%s\n", args[0], s.Name, replays)
			return err
		},
	}
}
