package main

import (
	"fmt"

	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

func newHeal() *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "undo what a crashed run left",
		Long: `Undo what a crashed run left in the container engine: a cluster that was to end
with its run is removed; in one that was kept, dead nodes are started again.
Running it twice is harmless. Runs whose harness is at work are left alone.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			docker, err := engine.Connect(c.Context())
			if err != nil {
				return err
			}
			defer docker.Close()
			return scenarios.Heal(c.Context(), docker, func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
		},
	}
}
