package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newCapacityMemory() *cobra.Command {
	var (
		flags              scenarioFlags
		options            scenarios.MemoryOptions
		out, sizes, image  string
		measure            bool
		rows               int
		expireAt, interval int
	)
	c := &cobra.Command{
		Use:   "memory SCENARIO",
		Short: "forecast when the data nodes' memory is full",
		Long: `Simulate the days that follow the scenario's, message by message, and forecast how
many rows each table holds, what they take of the data nodes' memory, when it is
full, what maintenance must delete to hold the line, and what the redo log holds.

What a row takes is computed from NDB's layout. With --measure it is measured too,
on a cluster of the scenario's topology that is started for it and removed, and
with --row-sizes it is read from an earlier measurement.`,
		Example: "  mailbench capacity memory peak-hour --measure\n  mailbench capacity memory peak-hour --row-sizes results/memory/row-sizes.json --days 70 --set topology.data_node.DataMemory=1G",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case measure && sizes != "":
				return usageError{errors.New("--measure and --row-sizes: only one of them can be given")}
			case rows < 10_000 || rows > 10_000_000:
				return usageError{fmt.Errorf("--rows is %d, must be 10000 to 10000000", rows)}
			case options.Batch < 1 || options.Batch > 10_000:
				return usageError{fmt.Errorf("--batch is %d, must be 1 to 10000", options.Batch)}
			case options.Days < 1 || options.Days > workload.MaxGrowthDays:
				return usageError{fmt.Errorf("--days is %d, must be 1 to %d", options.Days, workload.MaxGrowthDays)}
			case expireAt < 0 || expireAt > 23:
				return usageError{fmt.Errorf("--expire-at is %d, must be 0 to 23", expireAt)}
			case interval < 1 || interval > 24 || 24%interval != 0:
				return usageError{fmt.Errorf("--expire-every is %d, must be 1, 2, 3, 4, 6, 8, 12 or 24", interval)}
			}
			options.ExpireAt, options.ExpireEvery = time.Duration(expireAt)*time.Hour, time.Duration(interval)*time.Hour
			plan, err := flags.plan(c, args[0])
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			if out == "" {
				out = filepath.Join("results", "runs", "memory-"+time.Now().UTC().Format("20060102-150405"))
			}
			progress := c.ErrOrStderr()
			switch {
			case sizes != "":
				options.Sizes, err = scenarios.OpenSizes(sizes)
			case measure:
				err = withEngine(func(c *cobra.Command, docker *client.Client) error {
					options.Sizes, err = scenarios.MeasureSizes(c.Context(), docker, plan, image, rows, progress, isTerminal(progress))
					if err != nil {
						return err
					}
					return scenarios.WriteSizes(out, options.Sizes)
				})(c, args)
			}
			if err != nil {
				return err
			}
			return scenarios.ForecastMemoryTo(c.Context(), plan, options, out, c.OutOrStdout(), progress, isTerminal(progress))
		},
	}
	flags.addLoad(c)
	c.Flags().IntVar(&options.Days, "days", 49, "days to simulate, 1 to 400; greylisting remembers for 35")
	c.Flags().StringVar(&out, "out", "", "directory of the forecast (default results/runs/memory-TIME)")
	c.Flags().BoolVar(&measure, "measure", false, "measure what rows take, on a cluster that is started for it")
	c.Flags().StringVar(&sizes, "row-sizes", "", "file of an earlier measurement")
	c.Flags().IntVar(&rows, "rows", 400_000, "with --measure: rows of the greylist to load, 10000 to 10000000")
	c.Flags().StringVar(&image, "image", "", "with --measure: image that every node runs (default: found or built)")
	c.Flags().IntVar(&expireAt, "expire-at", 3, "hour of the day at which maintenance runs, 0 to 23")
	c.Flags().IntVar(&interval, "expire-every", 24, "hours from one run of maintenance to the next: 1, 2, 3, 4, 6, 8, 12 or 24")
	c.Flags().Int64Var(&options.Batch, "batch", 500, "rows that a transaction of maintenance looks at, 1 to 10000")
	return c
}
