package main

import (
	"fmt"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newChaos() *cobra.Command {
	c := &cobra.Command{Use: "chaos", Short: "the faults; one of them by hand"}
	c.AddCommand(newChaosList(), newChaosInject(), newChaosTable())
	return c
}

func newChaosList() *cobra.Command {
	var long bool
	c := &cobra.Command{
		Use: "list [KIND]", Short: "what faults there are, or all about one", Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := scenarios.DescribeKind(c.OutOrStdout(), args[0], terminalWidth); err != nil {
					return usageError{err}
				}
				return nil
			}
			return scenarios.ListKinds(c.OutOrStdout(), long, terminalWidth)
		},
	}
	c.Flags().BoolVar(&long, "long", false, "all about each")
	return c
}

func newChaosInject() *cobra.Command {
	var (
		name string
		set  []string
		hold string
		seed uint64
	)
	c := &cobra.Command{
		Use:   "inject KIND TARGET",
		Short: "make a fault on a cluster that stays, and take it back",
		Long: `Make a fault on a cluster of "cluster up", or one that "run --keep" left, and take
it back after its hold. KIND is one of "chaos list"; TARGET is a node, or
host:NAME, group:NUMBER, role:ROLE, any:ROLE, all or master. Each step is written
to the cluster's journal before it is taken, and printed with its time since the
beginning. Probes ask every SQL node a few times a second, so that a fault is felt
that the cluster itself does not notice. An interrupt takes the fault back at once; after a crash, heal does.`,
		Example: "  mailbench chaos inject kill data2 --hold 5s\n  mailbench chaos inject noisy-neighbour master --set cpus=0.5\n  mailbench chaos inject kill group:0 --set allow=outage",
		Args:    arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			fields := []scenarios.Override{{Path: "hold", Value: hold, Flag: "--hold " + hold}}
			for _, text := range set {
				o, err := scenarios.ParseOverride(text)
				if err != nil {
					return usageError{err}
				}
				fields = append(fields, o)
			}
			fault, err := scenarios.ParseFault(args[0], args[1], fields...)
			if err != nil {
				return usageError{err}
			}
			return withEngine(func(c *cobra.Command, docker *client.Client) error {
				err := scenarios.Inject(c.Context(), docker, name, fault, seed, c.OutOrStdout())
				if err == nil {
					fmt.Fprintf(c.ErrOrStderr(), "chaos: cluster %s is whole again\n", name)
				}
				return err
			})(c, args)
		},
	}
	c.Flags().StringVar(&name, "name", "manual", "name of the cluster")
	c.Flags().StringVar(&hold, "hold", "10s", "how long the fault stays, from its effect on")
	c.Flags().StringArrayVar(&set, "set", nil, "set a field of the fault, such as rate=10Mbit/s; may be repeated")
	c.Flags().Uint64Var(&seed, "seed", 1, "what draws the node of any:ROLE")
	return c
}
