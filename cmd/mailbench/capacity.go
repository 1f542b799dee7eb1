package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

// searchWindow is how much virtual time a search may use up, where the day has as
// much left.
const searchWindow = 8 * time.Hour

// searchFlags say how a capacity is searched.
type searchFlags struct {
	regimes                []string
	resolution, confidence string
	warmUp, settle         time.Duration
	least, most            time.Duration
	start, highest         int64
	steps                  int

	resolutionPPM, confidencePPM int64 // once they are checked
}

func (f *searchFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.regimes, "regime", nil, "healthy, short:NODE or rejoining:NODE, where NODE may be host:NAME; may be repeated (default: healthy, and short of a data node, a SQL node, a host with both)")
	c.Flags().StringVar(&f.resolution, "resolution", "10%", "by which two rates that are tried differ at least")
	c.Flags().StringVar(&f.confidence, "confidence", "95%", "of the interval around each share of bad ops")
	c.Flags().DurationVar(&f.warmUp, "warm-up", 90*time.Second, "how long a system that was started anew is offered the first rate before the first step, 0s to 10m")
	c.Flags().DurationVar(&f.settle, "settle", 5*time.Second, "beginning of each step that is not judged")
	c.Flags().DurationVar(&f.least, "min-step", 20*time.Second, "least length of a step, after it has settled")
	c.Flags().DurationVar(&f.most, "max-step", 40*time.Second, "greatest length of a step, after it has settled")
	c.Flags().Int64Var(&f.start, "start", 0, "first rate, in messages a day at a constant rate (default: today's volume)")
	c.Flags().Int64Var(&f.highest, "highest", 0, "no rate above this is tried (default: 50 times that of today's busiest hour or, if that is more, the first)")
	c.Flags().IntVar(&f.steps, "max-steps", 24, "most steps of one regime")
}

// in are the regimes to search: those that are named, or those that a search was begun
// for, or the usual ones.
func (f *searchFlags) in(p *scenarios.Plan, resume string) ([]capacity.Regime, error) {
	switch {
	case len(f.regimes) > 0:
		return f.named(), nil
	case resume == "":
		return p.DefaultRegimes(), nil
	}
	search, err := capacity.Read(resume)
	if err != nil {
		return nil, err
	}
	if len(search.Regimes) == 0 {
		return p.DefaultRegimes(), nil
	}
	return search.Regimes, nil
}

// resumable refuses what cannot be changed of a search that goes on.
func resumable(c *cobra.Command, resume string) error {
	if resume == "" {
		return nil
	}
	for _, name := range []string{
		"out", "set", "seed", "duration", "speed", "retries", "resolution", "confidence", "warm-up", "settle", "min-step", "max-step", "start", "highest", "max-steps",
	} {
		if c.Flags().Changed(name) {
			return usageError{fmt.Errorf("--resume goes on as the search was begun: leave --%s out", name)}
		}
	}
	return nil
}

// named are the regimes that a person named.
func (f *searchFlags) named() (regimes []capacity.Regime) {
	for _, r := range f.regimes {
		regimes = append(regimes, capacity.Regime(r))
	}
	return regimes
}

// check refuses what is wrong whatever the scenario is.
func (f *searchFlags) check() (err error) {
	if f.resolutionPPM, err = ppmOf("resolution", f.resolution, 1, 50); err != nil {
		return err
	}
	if f.confidencePPM, err = ppmOf("confidence", f.confidence, 50, 99.9); err != nil {
		return err
	}
	const longest, longestWarmUp = time.Hour, 10 * time.Minute
	switch {
	case f.warmUp < 0 || f.warmUp > longestWarmUp:
		err = fmt.Errorf("--warm-up is %s, must be 0s to %s", f.warmUp, longestWarmUp)
	case f.settle < 0 || f.settle > time.Minute:
		err = fmt.Errorf("--settle is %s, must be 0s to 1m", f.settle)
	case f.least < 5*time.Second || f.least > f.most:
		err = fmt.Errorf("--min-step is %s, must be 5s to --max-step, which is %s", f.least, f.most)
	case f.most > longest:
		err = fmt.Errorf("--max-step is %s, must be %s at most", f.most, longest)
	case f.steps < 3 || f.steps > 200:
		err = fmt.Errorf("--max-steps is %d, must be 3 to 200", f.steps)
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}

// leastStart is how low a search may begin: below that a step has a few messages.
const leastStart = 10_000

// settings are those of the search of a plan, of flags that were checked.
func (f *searchFlags) settings(p *scenarios.Plan) (capacity.Settings, error) {
	peak, _ := p.Peak()
	start := f.start
	if start == 0 {
		start = max(p.TodayPerDay(), leastStart)
	}
	highest := f.highest
	if highest == 0 {
		highest = 50 * max(p.TodayPerDay()/1000*peak/1000, start)
	}
	var err error
	switch {
	case start < leastStart || start > 100_000_000_000:
		err = fmt.Errorf("--start is %d, must be 10000 to 100000000000 messages a day", start)
	case highest < start || highest > 1_000_000_000_000:
		err = fmt.Errorf("--highest is %d, must be at least --start, which is %d", highest, start)
	}
	if err != nil {
		return capacity.Settings{}, usageError{err}
	}
	return capacity.Settings{
		ConfidencePPM: f.confidencePPM, ResolutionPPM: f.resolutionPPM, WarmUpUS: f.warmUp.Microseconds(), SettleUS: f.settle.Microseconds(), MinStepUS: f.least.Microseconds(),
		MaxStepUS: f.most.Microseconds(), LookUS: (5 * time.Second).Microseconds(), StartPerDay: start, HighestPerDay: highest,
		LowestPerDay: max(1000, start/50), MaxSteps: f.steps,
	}, nil
}

// ppmOf reads a share such as 5%, in millionths.
func ppmOf(flag, text string, least, most float64) (int64, error) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !strings.HasSuffix(text, "%") || !(percent >= least && percent <= most) {
		return 0, usageError{fmt.Errorf("--%s is %s, must be %g%% to %g%%", flag, text, least, most)}
	}
	return int64(percent * 10_000), nil
}

func newCapacity() *cobra.Command {
	var (
		flags                       scenarioFlags
		search                      searchFlags
		out, resume, image, summary string
	)
	c := &cobra.Command{
		Use:   "capacity SCENARIO",
		Short: "find how many messages a day may be promised, healthy and a machine short",
		Long: `Find the highest rate of a scenario's messages that meets all its objectives: one
rate after another is offered on a warm cluster, each until a sequential test tells
with confidence whether the objectives are met, in each regime: healthy, one node
short, and, if asked for, while the dead node rejoins. The answer is in messages a
day, which come as the scenario has them come. A search that was interrupted goes on
with --resume DIR, which also adds the regimes that --regime names.`,
		Example: "  mailbench capacity capacity\n  mailbench capacity ./mine.yaml --regime healthy --out results/runs/mine\n  mailbench capacity --resume results/runs/mine --regime rejoining:data2",
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if (resume == "") == (len(args) == 0) {
				return usageError{errors.New("capacity takes a SCENARIO, or --resume DIR, which has one")}
			}
			if err := resumable(c, resume); err != nil {
				return err
			}
			if err := search.check(); err != nil {
				return err
			}
			plan, err := flags.searchPlan(c, args, resume)
			if err != nil {
				return err
			}
			defer plan.Close() // only read
			if err := plan.CountArrivals(c.Context()); err != nil {
				return err
			}
			settings, err := search.settings(plan)
			if err != nil {
				return err
			}
			dir := resume
			if dir == "" {
				dir = out
			}
			if dir == "" {
				dir = filepath.Join("results", "runs", plan.Scenario.Name+"-"+time.Now().UTC().Format("20060102-150405"))
			}
			regimes, err := search.in(plan, resume)
			if err != nil {
				return err
			}
			conductor := scenarios.Conductor{Dir: dir, Image: image, Version: version, Progress: c.ErrOrStderr()}
			var begin *capacity.Search // nil for the one that is there
			if resume == "" {
				begin = plan.Search(settings, version, repeatOf(c, args))
			}
			result, err := conductor.Capacity(c.Context(), plan, begin, regimes, resume != "")
			if result == nil {
				return err
			}
			judged, writeErr := report.Capacity(dir)
			if writeErr != nil {
				return errors.Join(err, writeErr)
			}
			result = judged.Results[0]
			if showErr := report.CapacityText(c.OutOrStdout(), result, terminalWidth, judged.CapacityExtras); showErr != nil {
				return errors.Join(err, showErr)
			}
			fmt.Fprintf(c.ErrOrStderr(), "capacity: written to %s\n", dir)
			if summary != "" {
				err = errors.Join(err, appendSummary(summary, filepath.Join(dir, report.CapacityMarkdownFile)))
			}
			if err != nil {
				return err
			}
			return verdictOf(capacityVerdict(result, regimes))
		},
	}
	flags.add(c)
	search.add(c)
	c.Flags().StringVar(&out, "out", "", "directory of the search (default results/runs/SCENARIO-TIME)")
	c.Flags().StringVar(&resume, "resume", "", "go on with the search in this directory")
	c.Flags().StringVar(&image, "image", "", "image that every node runs (default: found or built)")
	c.Flags().StringVar(&summary, "summary", "", "append the summary in Markdown to this file")
	c.AddCommand(newCapacityCurve(), newCapacityCompare(), newCapacityMemory(), newCapacityPropose())
	return c
}

// capacityVerdict is what the exit code says of a search: pass if something may be
// promised in every regime that was asked for.
func capacityVerdict(r *capacity.Result, regimes []capacity.Regime) results.Verdict {
	verdict := results.Pass
	if r.Verdict != "" {
		return results.DataLoss
	}
	for _, regime := range regimes {
		found := r.Find(regime)
		switch {
		case found == nil || !found.Done || found.Limit.Outside(), found.PromisePerDay == 0 && found.MissedPerDay == 0:
			verdict = results.Gravest(verdict, results.Inconclusive)
		case found.PromisePerDay == 0:
			verdict = results.Gravest(verdict, results.Violated)
		}
	}
	return verdict
}

// searchPlan works out what a search loads: the scenario without its faults, from its
// window's beginning on for as long as a search may need.
func (f *scenarioFlags) searchPlan(c *cobra.Command, args []string, resume string, more ...scenarios.Override) (*scenarios.Plan, error) {
	if resume != "" {
		began, _ := filepath.Glob(filepath.Join(filepath.Clean(resume), "[0-9]*", results.ScenarioFile)) // the pattern is right
		if len(began) == 0 {
			return nil, usageError{fmt.Errorf("--resume %s: it holds no search that began; begin one with --out", resume)}
		}
		return f.plan(c, began[0])
	}
	overrides := append(slices.Clone(more),
		scenarios.Override{Path: "faults", Value: "[]", Flag: "a search without faults"},
		scenarios.Override{Path: "workload.end", Value: "duration", Flag: "a search without faults"})
	s, err := f.scenario(c, args[0], overrides...)
	if err != nil {
		return nil, err
	}
	plan, err := scenarios.NewPlan(c.Context(), s)
	if err != nil || c.Flags().Changed("duration") || plan.Imported() {
		return plan, err
	}
	left := min(searchWindow, plan.DayLeft())
	if err := plan.Close(); err != nil {
		return nil, err
	}
	s, err = f.scenario(c, args[0], append(overrides, scenarios.Override{Path: "workload.duration", Value: left.String(), Flag: "a search's window"})...)
	if err != nil {
		return nil, err
	}
	return scenarios.NewPlan(c.Context(), s)
}
