package main

import (
	"fmt"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newHeal() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "heal",
		Short: "undo what a crashed run left",
		Long: `Undo what a crashed run left in the container engine: a cluster that was to end
with its run is removed; in one that was kept, the faults that its journal leaves
open are undone. Where no journal can be read, frozen nodes, dropped packets,
changed limits, full disks and neighbours are taken back, and nodes that do not
take part are started. What no program can put right is said to need a person.
Running it twice is harmless. Runs whose harness is at work are left alone.`,
		Args: arguments(cobra.NoArgs),
		RunE: withEngine(func(c *cobra.Command, docker *client.Client) error {
			return scenarios.Heal(c.Context(), docker, name, func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
		}),
	}
	c.Flags().StringVar(&name, "name", "", "name of the only cluster to look at (default: all)")
	return c
}
