package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

// baselines is where baselines are kept, from the root of a repository.
const baselines = "results/baselines"

func newGate() *cobra.Command {
	var (
		baseline, update string
		out              gateOutput
		matters          effects
		confirm          bool
	)
	c := &cobra.Command{
		Use:   "gate RUN",
		Short: "compare a run with a baseline, and fail if the system got worse",
		Long: `Compare a run, or a series of repetitions, with a baseline that was committed
before: what an op costs the cluster, which does not depend on the machine, and
what each fault cost, over repetitions. Latencies are set side by side on the same
machine only. What cannot be told is inconclusive (exit code 4), never a pass.

RUN may be a directory of gate ab: what was recorded there is compared again.

--update NAME writes a baseline of the run to results/baselines/NAME.json instead,
and says what it changes.`,
		Example: "  mailbench gate results/runs/smoke-1 --baseline results/baselines/smoke.json\n  mailbench gate results/runs/smoke-1 --update smoke",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			options, err := matters.options()
			if err := errors.Join(err, out.check()); err != nil {
				return err
			}
			if gate.IsInterleaved(args[0]) {
				switch {
				case baseline != "" || update != "":
					return usageError{fmt.Errorf("%s was recorded by gate ab and has its base beside it: leave --baseline and --update out", args[0])}
				case confirm:
					return usageError{errors.New("what gate ab recorded is only compared again here: give --confirm to gate ab")}
				}
				r, err := report.Interleaved(args[0], options)
				if err != nil {
					return err
				}
				r.Repeat = repeatOf(c, args)
				return out.show(c, r)
			}
			switch {
			case (baseline == "") == (update == ""):
				return usageError{errors.New("gate takes one of --baseline PATH, to compare, and --update NAME, to write one")}
			case len(matters) > 0:
				return usageError{errors.New("--effect is for latencies that gate ab recorded: against a baseline they have no verdict")}
			case update != "" && confirm:
				return usageError{errors.New("--update writes a baseline and finds nothing to --confirm: choose one")}
			}
			runs, err := report.Measured(args[0])
			if err != nil {
				return err
			}
			if update != "" {
				return updateBaseline(c.OutOrStdout(), update, runs)
			}
			base, err := gate.ReadBaseline(baseline)
			if err != nil {
				return err
			}
			r, err := base.Against(runs)
			if err != nil {
				return err
			}
			var failed error
			if _, alarms := r.Alarms(); confirm && len(alarms) > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "gate: measuring again, for %s\n", strings.Join(alarms, ", "))
				failed = confirmed(r, func() (*gate.Report, error) { return measureAgain(c, args[0], runs, base) })
			}
			r.Repeat = repeatOf(c, args)
			return errors.Join(out.show(c, r), failed)
		},
	}
	c.Flags().StringVar(&baseline, "baseline", "", "the baseline to compare with")
	c.Flags().StringVar(&update, "update", "", "write the run as a baseline of this name to "+baselines)
	matters.add(c)
	addConfirm(c, &confirm)
	out.add(c)
	c.AddCommand(newGateAB(), newGateSelfTest())
	return c
}

// confirmed holds a report against a second measurement. Where that fails the report
// says so and stands; the error is one that the exit code must tell whatever the
// verdict is.
func confirmed(r *gate.Report, measure func() (*gate.Report, error)) error {
	again, err := measure()
	if err == nil {
		r.Confirm(again)
		return nil
	}
	r.Unconfirmed(err)
	var interrupted *scenarios.InterruptedError
	if errors.Is(err, chaos.ErrUnhealed) || errors.As(err, &interrupted) {
		return err
	}
	return nil
}

// measureAgain performs the scenario of a run, or of the first one of a series, as
// often as there were runs, on what its nodes ran, and compares these with the
// baseline.
func measureAgain(c *cobra.Command, run string, runs []gate.Measured, base *gate.Baseline) (*gate.Report, error) {
	members, err := report.Members(run)
	if err != nil {
		return nil, err
	}
	plan, err := scenarios.LoadPlan(c.Context(), filepath.Join(members[0].Dir, results.ScenarioFile))
	if err != nil {
		return nil, err
	}
	defer plan.Close() // only read
	if plan.External() {
		return nil, errors.New("the run's cluster is somebody else's: repeat the run by hand")
	}
	conductor := scenarios.Conductor{Dir: filepath.Clean(run) + againSuffix, Image: runs[0].Manifest.Image.Name, Version: version, Progress: c.ErrOrStderr()}
	if err := conductor.Repeat(c.Context(), plan, len(runs), func(string, *results.Run) error { return nil }); err != nil {
		return nil, err
	}
	second, err := report.Measured(conductor.Dir)
	if err != nil {
		return nil, err
	}
	return base.Against(second)
}

// gateOutput is what is made of a gate's report.
type gateOutput struct {
	format, summary, junit string
	annotate               bool
}

func (o *gateOutput) add(c *cobra.Command) {
	c.Flags().StringVar(&o.format, "format", "text", "what is printed: text, markdown, junit or json")
	c.Flags().StringVar(&o.summary, "summary", "", "a file to append a summary in Markdown to, such as $GITHUB_STEP_SUMMARY")
	c.Flags().StringVar(&o.junit, "junit", "", "a file to write JUnit XML to")
	c.Flags().BoolVar(&o.annotate, "annotations", false, "print workflow commands of GitHub Actions, ten at most (as in GITHUB_ACTIONS)")
}

// check refuses a form that there is not, before minutes are spent.
func (o *gateOutput) check() error {
	if _, ok := gateFormats[o.format]; !ok {
		return usageError{fmt.Errorf("--format is %s, must be text, markdown, junit or json", o.format)}
	}
	return nil
}

// show writes the report wherever it is wanted. The error holds its verdict, if that
// is no pass, beside what could not be written.
func (o *gateOutput) show(c *cobra.Command, r *gate.Report) error {
	err := errors.Join(
		gateFormats[o.format](c.OutOrStdout(), r),
		writeFile(o.summary, os.O_APPEND, "append the summary", func(w io.Writer) error { return report.GateMarkdown(w, r) }),
		writeFile(o.junit, os.O_TRUNC, "write the JUnit file", func(w io.Writer) error { return report.GateJUnit(w, r) }),
	)
	if o.annotate || os.Getenv("GITHUB_ACTIONS") == "true" {
		w := c.OutOrStdout()
		if o.format != "text" { // which a program reads
			w = c.ErrOrStderr()
		}
		err = errors.Join(err, report.GateAnnotations(w, r))
	}
	return errors.Join(verdictOf(r.ExitVerdict()), err)
}

var gateFormats = map[string]func(io.Writer, *gate.Report) error{
	"text":     func(w io.Writer, r *gate.Report) error { return report.GateText(w, r, terminalWidth) },
	"markdown": report.GateMarkdown,
	"junit":    report.GateJUnit,
	"json":     func(w io.Writer, r *gate.Report) error { return r.Write(w) },
}

var baselineName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// updateBaseline writes a baseline, and says what it changes of the one before.
func updateBaseline(w io.Writer, name string, runs []gate.Measured) error {
	if !baselineName.MatchString(name) {
		return usageError{fmt.Errorf("--update is %q, must be a plain name: letters, digits, dots, dashes", name)}
	}
	path := filepath.Join(baselines, strings.TrimSuffix(name, ".json")+".json")
	next, err := gate.NewBaseline(runs)
	if err != nil {
		return err
	}
	old, readErr := gate.ReadBaseline(path)
	if err := next.Write(path); err != nil {
		return err
	}
	if readErr != nil {
		_, err = fmt.Fprintf(w, "baseline %s written, of %d runs; there was none that could be read\n", path, len(next.Runs))
		return err
	}
	lines := next.Diff(old)
	fmt.Fprintf(w, "baseline %s written, of %d runs; %d things are not as before\n", path, len(next.Runs), len(lines))
	for _, line := range lines {
		fmt.Fprintln(w, "  "+line)
	}
	return nil
}
