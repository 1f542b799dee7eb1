package main

import (
	"errors"
	"fmt"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newHeal() *cobra.Command {
	var name, scenario, known, journal string
	c := &cobra.Command{
		Use:   "heal",
		Short: "undo what a crashed run left",
		Long: `Undo what a crashed run left in the container engine: a cluster that was to end
with its run is removed; in one that was kept, the faults that its journal leaves
open are undone. Where no journal can be read, frozen nodes, dropped packets,
changed limits, full disks and neighbours are taken back, and nodes that do not
take part are started. What no program can put right is said to need a person.
Running it twice is harmless. Runs whose harness is at work are left alone.

With --scenario it heals the external cluster of that file instead, which may be
the scenario.yaml of the run directory: the open faults are undone, and then the
database is dropped, one that was kept, too.`,
		Example: "  mailbench heal\n  mailbench heal --scenario ./staging.yaml --i-know-this-cluster mail-staging",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, args []string) error {
			say := func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) }
			switch {
			case scenario == "" && (known != "" || journal != ""):
				return usageError{errors.New("--i-know-this-cluster and --journal are for an external cluster: name its scenario with --scenario")}
			case scenario != "" && name != "":
				return usageError{errors.New("--name is a cluster in containers, --scenario an external one: choose one")}
			case scenario == "":
				return withEngine(func(c *cobra.Command, docker *client.Client) error {
					return scenarios.Heal(c.Context(), docker, name, say)
				})(c, args)
			}
			file, err := scenarios.Load(scenario)
			if err != nil {
				return err
			}
			return scenarios.HealExternal(c.Context(), file, known, journal, say)
		},
	}
	c.Flags().StringVar(&scenario, "scenario", "", "scenario file with the external cluster to heal")
	c.Flags().StringVar(&journal, "journal", "", "fault journal, where it is not the one that the run has noted in the external cluster")
	addKnown(c, &known)
	// A variable that is meant for "cluster up" must not turn heal to something else.
	onlyTyped(c, "scenario")
	onlyTyped(c, "journal")
	c.Flags().StringVar(&name, "name", "", "name of the only cluster to look at (default: all)")
	return c
}
