package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// turnFlags say how two sides are loaded in turn.
type turnFlags struct {
	pairs           int
	segment, settle time.Duration
	out, image      string
}

func (f *turnFlags) add(c *cobra.Command) {
	c.Flags().IntVar(&f.pairs, "pairs", 20, "pairs of segments, one of each side, in the order A B, B A")
	c.Flags().DurationVar(&f.segment, "segment", 20*time.Second, "length of a segment in wall time")
	c.Flags().DurationVar(&f.settle, "settle", 2*time.Second, "beginning of each segment that is not compared")
	c.Flags().StringVar(&f.out, "out", "", "directory of the runs (default results/runs/gate-TIME)")
	c.Flags().StringVar(&f.image, "image", "", "image that every node runs (default: found or built)")
}

// check refuses what cannot be performed, and names the directory.
func (f *turnFlags) check() error {
	const longest = 12 * time.Hour
	switch {
	case f.pairs < 1 || f.pairs > 1000:
		return usageError{fmt.Errorf("--pairs is %d, must be 1 to 1000", f.pairs)}
	case f.segment < 5*time.Second || f.segment > time.Hour || f.segment%time.Second != 0:
		return usageError{fmt.Errorf("--segment is %s, must be whole seconds from 5s to 1h", f.segment)}
	case f.settle < 0 || f.settle > f.segment/2:
		return usageError{fmt.Errorf("--settle is %s, must be 0s to half of --segment", f.settle)}
	case time.Duration(f.pairs)*f.segment > longest:
		return usageError{fmt.Errorf("--pairs times --segment is %s, must be %s at most", time.Duration(f.pairs)*f.segment, longest)}
	}
	if f.out == "" {
		f.out = filepath.Join("results", "runs", "gate-"+time.Now().UTC().Format("20060102-150405"))
	}
	return nil
}

// effects say from which change a statistic matters.
type effects []string

func (e *effects) add(c *cobra.Command) {
	c.Flags().StringArrayVar((*[]string)(e), "effect", nil, "of latencies: from which change a statistic matters, such as p99=20% or bad_share=0.5%; may be repeated")
}

// String is the effects as flags of a command line.
func (e effects) String() string {
	text := ""
	for _, effect := range e {
		text += " --effect " + quote(effect)
	}
	return text
}

// options are those of the comparison.
func (e effects) options() (compare.Options, error) {
	o := gate.InterleavedOptions()
	for _, text := range e {
		if err := setEffect(o.Statistics, text); err != nil {
			return o, usageError{err}
		}
	}
	return o, nil
}

// setEffect reads "p99=20%".
func setEffect(all []compare.Statistic, text string) error {
	name, value, _ := strings.Cut(text, "=")
	percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
	if err != nil || !strings.HasSuffix(value, "%") || !(percent > 0 && percent < 1000) {
		return fmt.Errorf("--effect %s: must be a statistic and a share above 0%% and below 1000%%, such as p99=20%%", text)
	}
	var known []string
	for i := range all {
		if all[i].String() == name {
			all[i].Effect = percent / 100
			return nil
		}
		known = append(known, all[i].String())
	}
	return fmt.Errorf("--effect %s: there is no statistic %s; there are %s", text, name, strings.Join(known, ", "))
}

func newGateAB() *cobra.Command {
	var (
		flags           scenarioFlags
		turn            turnFlags
		matters         effects
		base, candidate []string
		confirm         bool
		out             gateOutput
	)
	c := &cobra.Command{
		Use:   "ab SCENARIO",
		Short: "load a base and a candidate in turn, and fail if the candidate is worse",
		Long: `Load two clusters in turn on this machine, in pairs of segments in the order
base, candidate, candidate, base, and compare what an op costs, the latencies of
each path and what was lost. --base and --candidate say in what the sides differ:
a field of the scenario, such as schema=./changed or topology.sql_server={…}, or
image=NAME. --set is for both. A regression is significant and larger than the
statistic's effect; what cannot be told is inconclusive (exit code 4).`,
		Example: "  mailbench gate ab smoke --set 'faults=[]' --candidate schema=./changed\n  mailbench gate ab smoke --set 'faults=[]' --candidate image=my/ndb:8.4.9 --pairs 30",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := errors.Join(out.check(), turn.check()); err != nil {
				return err
			}
			options, err := matters.options()
			if err != nil {
				return err
			}
			a, err := flags.side(c, args[0], "base", base, &turn)
			if err != nil {
				return err
			}
			defer a.Plan.Close() // only read
			b, err := flags.side(c, args[0], "candidate", candidate, &turn)
			if err != nil {
				return err
			}
			defer b.Plan.Close() // only read
			first := filepath.Clean(turn.out)
			measure := func(dir string, o compare.Options) (*gate.Report, error) {
				conductor := scenarios.Conductor{Dir: dir, Image: turn.image, Version: version, Progress: c.ErrOrStderr()}
				if _, err := conductor.Interleave(c.Context(), a, b, turn.pairs, turn.segment, turn.settle); err != nil {
					return nil, err
				}
				fmt.Fprintf(c.ErrOrStderr(), "gate: recorded in %s; compare again with: mailbench gate %s%s\n", dir, quote(dir), matters)
				return report.Interleaved(dir, o)
			}
			r, err := measure(first, options)
			if err != nil {
				return err
			}
			var failed error
			if alarms, _ := r.Alarms(); confirm && len(alarms) > 0 {
				fmt.Fprintf(c.ErrOrStderr(), "gate: measuring again, for %s\n", strings.Join(alarms, ", "))
				options.Statistics = slices.DeleteFunc(options.Statistics, func(s compare.Statistic) bool { return !slices.Contains(alarms, s.String()) })
				failed = confirmed(r, func() (*gate.Report, error) { return measure(first+againSuffix, options) })
			}
			r.Repeat = repeatOf(c, args)
			return errors.Join(out.show(c, r), failed)
		},
	}
	flags.addLoad(c)
	c.Flags().StringArrayVar(&base, "base", nil, "change a field of the base's scenario, path=value, or image=NAME; may be repeated")
	c.Flags().StringArrayVar(&candidate, "candidate", nil, "the same of the candidate's")
	turn.add(c)
	matters.add(c)
	addConfirm(c, &confirm)
	out.add(c)
	return c
}

// againSuffix names the directory of a second measurement after that of the first.
const againSuffix = "-again"

func addConfirm(c *cobra.Command, confirm *bool) {
	c.Flags().BoolVar(confirm, "confirm", false, "measure what got worse a second time, and clear what is not found again")
}

// repeatOf is the command line that measures the same again. Where it was recorded
// and what was written is not for the next time.
func repeatOf(c *cobra.Command, args []string) string {
	words := strings.Fields(c.CommandPath())
	for _, a := range args {
		words = append(words, quote(a))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "out", "summary", "junit", "format", "annotations":
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			switch {
			case f.Value.Type() != "bool":
				words = append(words, "--"+f.Name, quote(v))
			case v == "true":
				words = append(words, "--"+f.Name)
			}
		}
	})
	return strings.Join(words, " ")
}

// side works out one side, of which set says what is its own.
func (f *scenarioFlags) side(c *cobra.Command, scenario, name string, set []string, turn *turnFlags) (scenarios.Side, error) {
	side := scenarios.Side{Set: set}
	length := time.Duration(turn.pairs) * turn.segment
	own := []scenarios.Override{{Path: "workload.duration", Value: length.String(), Flag: fmt.Sprintf("--pairs %d --segment %s", turn.pairs, turn.segment)}}
	for _, text := range set {
		if image, ok := strings.CutPrefix(text, "image="); ok {
			if side.Image = image; image == "" {
				return side, usageError{fmt.Errorf("--%s %s: image names none", name, text)}
			}
			continue
		}
		o, err := scenarios.ParseOverride(text)
		if err != nil {
			return side, usageError{err}
		}
		o.Flag = fmt.Sprintf("--%s %s", name, text)
		own = append(own, o)
	}
	s, err := f.scenario(c, scenario, own...)
	if err == nil {
		side.Plan, err = scenarios.NewPlan(c.Context(), s)
	}
	return side, err
}

// quote writes a word as a shell takes it.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n\"'`$&|;<>()[]{}*?!#~\\") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
