package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newCluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "the containerized cluster by hand"}
	c.AddCommand(newClusterImage(), newClusterUp(), newClusterStatus(), newClusterDown())
	return c
}

// withEngine runs a command that needs the container engine.
func withEngine(do func(c *cobra.Command, docker *client.Client) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		docker, err := engine.Connect(c.Context())
		if err != nil {
			return err
		}
		defer docker.Close()
		return do(c, docker)
	}
}

func newClusterImage() *cobra.Command {
	var (
		name           string
		programs, hash bool
	)
	find := withEngine(func(c *cobra.Command, docker *client.Client) error {
		find := func() (image.Found, error) {
			return scenarios.FindImage(c.Context(), docker, name, c.ErrOrStderr(), isTerminal(c.ErrOrStderr()))
		}
		if programs {
			find = func() (image.Found, error) {
				return scenarios.FindPrograms(c.Context(), docker, c.ErrOrStderr(), isTerminal(c.ErrOrStderr()))
			}
		}
		found, err := find()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), found.Name)
		return err
	})
	c := &cobra.Command{
		Use: "image", Short: "find or build the image that nodes run", Args: arguments(cobra.NoArgs),
		PreRunE: func(*cobra.Command, []string) error {
			// MAILBENCH_IMAGE names the nodes' image, and may well be set meanwhile.
			if programs && name != os.Getenv("MAILBENCH_IMAGE") {
				return usageError{errors.New("--image names an image of the nodes: it cannot be given with --programs")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if hash {
				kind := image.Nodes
				if programs {
					kind = image.Programs
				}
				_, err := fmt.Fprintln(c.OutOrStdout(), kind.Hash())
				return err
			}
			return find(c, args)
		},
	}
	c.Flags().StringVar(&name, "image", "", "image to use instead")
	c.Flags().BoolVar(&hash, "hash", false, "print what the image depends on as a hash, for the key of a cache, and do nothing")
	c.Flags().BoolVar(&programs, "programs", false, "the image of real Exim, Postgrey, slapd and sysbench, for tests")
	return c
}

func newClusterUp() *cobra.Command {
	var (
		flags       scenarioFlags
		name, image string
		scenario    string
	)
	c := &cobra.Command{
		Use: "up", Short: "start a cluster that stays", Args: arguments(cobra.NoArgs),
		RunE: withEngine(func(c *cobra.Command, docker *client.Client) error {
			plan, err := flags.plan(c, scenario)
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			return scenarios.Up(c.Context(), docker, plan, name, image, c.ErrOrStderr(), isTerminal(c.ErrOrStderr()))
		}),
	}
	flags.add(c)
	c.Flags().StringVar(&name, "name", "manual", "name of the cluster")
	c.Flags().StringVar(&image, "image", "", "image that every node runs (default: found or built)")
	c.Flags().StringVar(&scenario, "scenario", "peak-hour", "scenario whose topology to use")
	return c
}

func newClusterStatus() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "status", Short: "show the nodes of a cluster, or which clusters there are", Args: arguments(cobra.NoArgs),
		RunE: withEngine(func(c *cobra.Command, docker *client.Client) error {
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			if name == "" {
				clusters, err := cluster.List(c.Context(), docker)
				if err != nil {
					return err
				}
				if len(clusters) == 0 {
					_, err := fmt.Fprintln(c.OutOrStdout(), "no clusters")
					return err
				}
				fmt.Fprintln(w, "CLUSTER\tKEPT\tNETWORK")
				for _, info := range clusters {
					fmt.Fprintf(w, "%s\t%t\t%s\n", info.RunID, info.Keep, info.Network)
				}
				return w.Flush()
			}
			found, err := cluster.Attach(c.Context(), docker, name)
			if err != nil {
				return err
			}
			fmt.Fprintln(w, "HOST\tNODE\tID\tROLE\tADDRESS\tCONTAINER\tCLUSTER")
			for _, s := range found.Status(c.Context()) {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", s.Node.Host, s.Node.Name, s.Node.ID, s.Node.Role, s.Address, s.Container, s.Cluster)
			}
			return w.Flush()
		}),
	}
	c.Flags().StringVar(&name, "name", "", "name of the cluster (default: list all)")
	return c
}

func newClusterDown() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "down", Short: "remove a cluster: its containers, volumes and network", Args: arguments(cobra.NoArgs),
		RunE: withEngine(func(c *cobra.Command, docker *client.Client) error {
			if err := scenarios.Down(c.Context(), docker, name); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "cluster %s: nothing of it is left\n", name)
			return err
		}),
	}
	c.Flags().StringVar(&name, "name", "manual", "name of the cluster")
	return c
}
