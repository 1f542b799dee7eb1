package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload"
	"github.com/spf13/cobra"
)

func newWorkload() *cobra.Command {
	c := &cobra.Command{Use: "workload", Short: "the mail of a day: look at it, write it to a file, say what is in one"}
	c.AddCommand(newWorkloadShow(), newWorkloadGenerate(), newWorkloadInspect(), newWorkloadImport())
	return c
}

func newWorkloadShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [PROFILE]", Short: "check and print a profile, or name those that are built in", Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := fmt.Fprintln(c.OutOrStdout(), strings.Join(workload.ProfileNames(), "\n"))
				return err
			}
			text, err := scenarios.ProfileText(args[0])
			if err != nil {
				return err
			}
			if _, err := workload.ParseProfile(args[0], text); err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
}

// slice is the part of a day that flags name.
type slice struct {
	from     string
	duration time.Duration
}

func (s *slice) add(c *cobra.Command) {
	c.Flags().StringVar(&s.from, "from", "", "where the slice begins, a time of day such as 10:00")
	c.Flags().DurationVar(&s.duration, "duration", 0, "how much of the virtual day it covers")
}

// times are the flags that were given.
func (s *slice) times(c *cobra.Command) (from, duration *time.Duration, err error) {
	if s.from != "" {
		at, err := scenarios.ParseTimeOfDay(s.from)
		if err != nil {
			return nil, nil, usageError{fmt.Errorf("--from: %w", err)}
		}
		from = &at
	}
	if c.Flags().Changed("duration") {
		if s.duration <= 0 {
			return nil, nil, usageError{fmt.Errorf("--duration is %v, must be above 0", s.duration)}
		}
		duration = &s.duration
	}
	return from, duration, nil
}

func newWorkloadGenerate() *cobra.Command {
	var (
		options scenarios.TraceOptions
		part    slice
	)
	c := &cobra.Command{
		Use:   "generate --seed N --out FILE",
		Short: "write a trace: the messages of a day, or of a part of it",
		Long: `Write a trace: the messages of a day and their first tries, webmail actions and
account jobs. One seed makes one file, on any machine and with any number of
workers. The whole day is written unless a window is given.`,
		Example: "  mailbench workload generate --seed 1 --out day.mbt\n  mailbench workload generate --seed 1 --from 10:00 --duration 2h --out - | ssh host 'cat > morning.mbt'",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			from, duration, err := part.times(c)
			if err != nil {
				return err
			}
			switch {
			case options.Out == "":
				return usageError{errors.New("--out is missing: name the file to write, or - for standard output")}
			case options.Workers < 0 || options.Workers > 1000:
				return usageError{fmt.Errorf("--workers is %d, must be 0 to 1000", options.Workers)}
			}
			options.Window = workload.Window{Duration: 24 * time.Hour}
			if from != nil {
				options.Window = workload.Window{From: *from, Duration: 24*time.Hour - *from}
			}
			if duration != nil {
				options.Window.Duration = *duration
			}
			if err := options.Window.Validate(); err != nil {
				return usageError{err}
			}
			options.Stdout, options.Progress = c.OutOrStdout(), c.ErrOrStderr()
			options.Terminal = isTerminal(options.Progress)
			return scenarios.GenerateTrace(c.Context(), options)
		},
	}
	part.add(c)
	c.Flags().Uint64Var(&options.Seed, "seed", 1, "seed of population and trace")
	c.Flags().StringVar(&options.Profile, "profile", workload.DefaultProfile, "the day model: a built-in one or a file")
	c.Flags().IntVar(&options.Accounts, "accounts", workload.DefaultAccounts, "accounts of the population")
	c.Flags().StringVar(&options.Out, "out", "", "file to write, - for standard output")
	c.Flags().IntVar(&options.Workers, "workers", 0, "how many make it (default: as many as there are processors)")
	c.Flags().BoolVar(&options.Force, "force", false, "replace a file that is there")
	return c
}

func newWorkloadInspect() *cobra.Command {
	var part slice
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "say what is in a trace: rates, shares, popularity",
		Long: `Say what is in a trace file, or in a slice of it: rates, shares and popularity as
tables, and the rate over the window as a picture, in ASCII if NO_COLOR is set or
no terminal looks. Each byte that is read is checked.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			from, duration, err := part.times(c)
			if err != nil {
				return err
			}
			blocks := isTerminal(c.OutOrStdout()) && colored()
			return scenarios.InspectTrace(c.Context(), c.OutOrStdout(), args[0], from, duration, blocks)
		},
	}
	part.add(c)
	return c
}
