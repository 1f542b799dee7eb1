package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/metrics"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

// scenarioFlags are the flags of every command that takes a scenario.
type scenarioFlags struct {
	set      []string
	seed     uint64
	duration time.Duration
	speed    int
	retries  string
}

func (f *scenarioFlags) add(c *cobra.Command) {
	f.addLoad(c)
	c.Flags().DurationVar(&f.duration, "duration", 0, "length of the load in wall time (default: the scenario's)")
	c.Flags().StringVar(&f.retries, "retries", "", "who makes the tries of messages that were put off: closed, predicted or none (default: the scenario's)")
}

// addLoad adds those that do not say how long the load is.
func (f *scenarioFlags) addLoad(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.set, "set", nil, "change a field of the scenario, path=value; may be repeated")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "seed of population, trace and fault plan (default: the scenario's)")
	c.Flags().IntVar(&f.speed, "speed", 0, "virtual seconds a wall second (default: the scenario's)")
}

// plan works out a scenario with the changes that the flags ask for. The plan is
// to be closed.
func (f *scenarioFlags) plan(c *cobra.Command, name string) (*scenarios.Plan, error) {
	s, err := f.scenario(c, name)
	if err != nil {
		return nil, err
	}
	return scenarios.NewPlan(c.Context(), s)
}

// scenario reads a scenario with the changes that the flags ask for, and with more.
func (f *scenarioFlags) scenario(c *cobra.Command, name string, more ...scenarios.Override) (*scenarios.Scenario, error) {
	var overrides []scenarios.Override
	for _, text := range f.set {
		o, err := scenarios.ParseOverride(text)
		if err != nil {
			return nil, usageError{err}
		}
		overrides = append(overrides, o)
	}
	for _, flag := range []struct{ name, path, value string }{
		{"seed", "seed", strconv.FormatUint(f.seed, 10)},
		{"duration", "workload.duration", f.duration.String()},
		{"speed", "workload.speed", strconv.Itoa(f.speed)},
		{"retries", "workload.retries", f.retries},
	} {
		if f := c.Flags().Lookup(flag.name); f != nil && f.Changed {
			overrides = append(overrides, scenarios.Override{
				Path: flag.path, Value: flag.value, Flag: fmt.Sprintf("--%s %s", flag.name, flag.value),
			})
		}
	}
	file, err := scenarios.Load(name)
	if err != nil {
		return nil, err
	}
	return file.Scenario(append(overrides, more...)...)
}

func newRun() *cobra.Command {
	var (
		flags               scenarioFlags
		out, image, summary string
		progress, known     string
		listen              string
		keep, commands      bool
		repeat              int
	)
	c := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "perform a scenario and write a run",
		Long: `Perform a scenario: start a cluster, load it, replay the workload while faults
are made, judge the recording. SCENARIO is a built-in one or a file. With
"cluster: external" in the scenario the cluster is one that somebody else runs: it
is changed only with --i-know-this-cluster, and if its guard table agrees.`,
		Example: "  mailbench run peak-hour\n  mailbench run peak-hour --duration 90s --seed 7\n  mailbench run ./mine.yaml --set workload.speed=10",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			plan, err := flags.plan(c, args[0])
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			stderr := c.ErrOrStderr()
			look, err := lookOf(progress, stderr)
			if err != nil {
				return err
			}
			switch {
			case repeat < 1 || repeat > 1000:
				return usageError{fmt.Errorf("--repeat is %d, must be 1 to 1000", repeat)}
			case plan.External() && image != os.Getenv("MAILBENCH_IMAGE"):
				return usageError{errors.New("--image names what containers run, and the scenario's cluster is external: leave it out")}
			case !plan.External() && known != "":
				return usageError{errors.New("--i-know-this-cluster is for a scenario with cluster: external, and this one starts its own")}
			case repeat > 1 && keep:
				return usageError{errors.New("--keep leaves one cluster running, --repeat starts several: choose one")}
			}
			if out == "" {
				stamp := time.Now().UTC().Format("20060102-150405")
				out = filepath.Join("results", "runs", plan.Scenario.Name+"-"+stamp)
			}
			conductor := scenarios.Conductor{
				Dir: out, Image: image, Keep: keep, Version: version, Progress: stderr, Look: look,
				AllowCommands: commands, Confirmed: known,
			}
			if listen != "" {
				live, err := metrics.Listen(c.Context(), listen)
				if err != nil {
					return usageError{err}
				}
				defer live.Close() // what was served was served
				conductor.Live = live
				fmt.Fprintf(stderr, "run: metrics at http://%s/metrics\n", live.Addr())
			}
			var verdicts []results.Verdict
			show := func(dir string, run *results.Run) error {
				verdicts = append(verdicts, run.Verdict)
				if err := report.Text(c.OutOrStdout(), run, terminalWidth); err != nil {
					return err
				}
				fmt.Fprintf(stderr, "run: written to %s\nrun: look again with: mailbench report %s\n", dir, dir)
				if summary == "" {
					return nil
				}
				return appendSummary(summary, filepath.Join(dir, report.SummaryFile))
			}
			if repeat > 1 {
				err = conductor.Repeat(c.Context(), plan, repeat, show)
			} else {
				var run *results.Run
				if run, err = conductor.Run(c.Context(), plan); run != nil {
					err = errors.Join(err, show(out, run))
				}
			}
			if err != nil {
				return err
			}
			return verdictOf(results.Gravest(verdicts...))
		},
	}
	flags.add(c)
	c.Flags().StringVar(&out, "out", "", "run directory (default results/runs/SCENARIO-TIME)")
	c.Flags().StringVar(&image, "image", "", "image that every node runs (default: found or built)")
	c.Flags().BoolVar(&keep, "keep", false, "leave the cluster running; of an external one, the database")
	addKnown(c, &known)
	c.Flags().BoolVar(&commands, "allow-commands", false, "run the programs that faults of kind command name")
	onlyTyped(c, "allow-commands")
	c.Flags().IntVar(&repeat, "repeat", 1, "perform it so many times, as a series of runs")
	c.Flags().StringVar(&progress, "progress", "auto", "how the run is told: auto (a live view on a terminal), plain, json or none")
	c.Flags().StringVar(&listen, "listen", "", "show metrics for Prometheus at this address while the load runs, such as 127.0.0.1:9464")
	c.Flags().StringVar(&summary, "summary", "", "append the summary in Markdown to this file")
	return c
}

// addKnown adds the flag by which a person says which external cluster is meant.
func addKnown(c *cobra.Command, known *string) {
	const name = "i-know-this-cluster"
	c.Flags().StringVar(known, name, "", "name of the external cluster that may be changed, as in its guard table")
	onlyTyped(c, name)
}

// appendSummary adds a run's summary.md to a file, as CI systems want it.
func appendSummary(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, os.O_APPEND, "append the summary", func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// writeFile writes to a file that a flag names; "" names none. doing says what for.
func writeFile(path string, flags int, doing string, draw func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o644)
	if err == nil {
		err = errors.Join(draw(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
