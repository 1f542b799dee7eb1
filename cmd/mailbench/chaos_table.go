package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

// mostFailures is how many repetitions of a fault may fail by default.
const mostFailures = 3

func newChaosTable() *cobra.Command {
	var (
		flags    scenarioFlags
		rows     string
		runs     string
		image    string
		progress string
		failures int
		longest  time.Duration
		quiet    bool
		again    bool
	)
	c := &cobra.Command{
		Use:   "table SCENARIO...",
		Short: "make the faults of scenarios again and again, and tell what each cost",
		Long: `Make each fault of the scenarios as often as they repeat it, under their load, and
print what it cost: time to detect, outage, time to redundancy, bad ops, errors.
Each repetition is a row of a file of JSON lines. A table that was ended, by an
interrupt too, goes on where its rows end; the times "at" and "every" of a fault
are the table's own.`,
		Example: "  mailbench chaos table ./mine.yaml\n  mailbench chaos table scenarios/faulttable/*.yaml --rows results/faults/table.jsonl",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			stderr := c.ErrOrStderr()
			look, err := lookOf(progress, stderr)
			if err != nil {
				return err
			}
			switch {
			case longest < 3*time.Minute || longest > 24*time.Hour:
				return usageError{fmt.Errorf("--longest is %s, must be 3m to 24h", longest)}
			case failures < 1 || failures > 1000:
				return usageError{fmt.Errorf("--failures is %d, must be 1 to 1000", failures)}
			}
			var all []*scenarios.Scenario
			names := map[string]string{}
			for _, name := range args {
				s, err := flags.scenario(c, name)
				if err != nil {
					return err
				}
				if other := names[s.Name]; other != "" {
					return usageError{fmt.Errorf("%s and %s are both called %q: rows could not be told apart", other, name, s.Name)}
				}
				names[s.Name] = name
				all = append(all, s)
			}
			table := scenarios.FaultTable{
				Conductor: scenarios.Conductor{
					Dir: runs, Image: image, Version: version, Progress: stderr, Look: look,
				},
				Rows: rows, Longest: longest, MostFailures: failures, Quiet: quiet,
			}
			for _, s := range all {
				if again {
					err = table.Rejudge(s)
				} else {
					err = table.Perform(c.Context(), s)
				}
				if err != nil {
					break
				}
			}
			made, readErr := results.ReadFaultRows(rows)
			if readErr == nil {
				readErr = scenarios.WriteFaultTable(c.OutOrStdout(), made)
			}
			return errors.Join(err, readErr)
		},
	}
	flags.add(c)
	c.Flags().StringVar(&rows, "rows", filepath.Join("results", "runs", "fault-table.jsonl"), "file of the rows")
	c.Flags().StringVar(&runs, "out", filepath.Join("results", "runs"), "directory of the runs")
	c.Flags().StringVar(&image, "image", "", "image of the nodes (default: found, or built)")
	c.Flags().StringVar(&progress, "progress", "auto", "how it is told: auto, plain, json or none")
	c.Flags().BoolVar(&again, "rejudge", false, "make no fault, but the rows anew of those recordings that are in --out")
	c.Flags().BoolVar(&quiet, "quiet", false, "make those again that were made while the generator was disturbed")
	c.Flags().DurationVar(&longest, "longest", 30*time.Minute, "how long the load of one run may last")
	c.Flags().IntVar(&failures, "failures", mostFailures, "after how many failed repetitions a fault is left alone")
	return c
}
