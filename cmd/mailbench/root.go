package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// near is how many letters a word may differ in and still be suggested.
const near = 2

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "mailbench",
		Short: "load the database under a mail system, and kill its nodes",
		Long: `mailbench drives the reference paths of a mail system (routing, greylisting,
preferences) against a MySQL NDB cluster in containers, while it kills the
cluster's nodes, and records latencies and error budgets.

Exit codes: 0 pass, 1 objective violated, 3 data loss, 4 inconclusive,
64 usage, 65 bad input file, 69 engine, image or cluster unavailable,
70 internal error, 75 something is left to heal, 130 interrupted.

Every flag but those that allow something, or that point heal at something, can
be given as an environment variable: --image as MAILBENCH_IMAGE.`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return fromEnvironment(c.Flags()) },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: %s --help", err, c.CommandPath())}
	})
	root.AddCommand(newRun(), newPlan(), newScenarios(), newReport(), newGate(), newCapacity(), newWorkload(), newCluster(), newChaos(), newHeal(), newVersion())
	for _, c := range root.Commands() {
		if c.HasSubCommands() && c.RunE == nil {
			c.Args, c.RunE, c.SuggestionsMinimumDistance = cobra.ArbitraryArgs, unknownSubcommand, near
		}
	}
	root.Args, root.RunE, root.SuggestionsMinimumDistance = cobra.ArbitraryArgs, unknownSubcommand, near
	return root
}

// unknownSubcommand refuses what is none, instead of showing help and success.
func unknownSubcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	hint := ""
	if names := c.SuggestionsFor(args[0]); len(names) > 0 {
		hint = "did you mean " + strings.Join(names, " or ") + "? "
	}
	return usageError{fmt.Errorf("unknown command %q; %ssee: %s --help", args[0], hint, c.CommandPath())}
}

// arguments makes a mistake in the number of arguments a usage error.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, c.UseLine())}
		}
		return nil
	}
}

// typedOnly marks flags that no environment variable stands in for, as one that was
// forgotten would do harm: those by which a person allows something, and those that
// say what is changed by it.
const typedOnly = "mailbench_typed_only"

func onlyTyped(c *cobra.Command, name string) {
	_ = c.Flags().SetAnnotation(name, typedOnly, []string{"true"}) // only an unknown flag could fail
}

// fromEnvironment fills flags that were not given from MAILBENCH_ variables.
func fromEnvironment(flags *pflag.FlagSet) error {
	var wrong error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "MAILBENCH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if _, typed := f.Annotations[typedOnly]; !set || typed || f.Changed || f.Name == "help" || wrong != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			wrong = usageError{fmt.Errorf("environment variable %s: %w", name, err)}
		}
	})
	return wrong
}

// isTerminal says whether live lines may be drawn on w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// colored says whether anything may have a colour.
func colored() bool {
	_, no := os.LookupEnv("NO_COLOR") // whatever its value
	return !no
}

// lookOf is how progress is shown on w.
func lookOf(progress string, w io.Writer) (scenarios.Look, error) {
	style, err := scenarios.ParseStyle(progress, isTerminal(w))
	if err != nil {
		return scenarios.Look{}, usageError{err}
	}
	return scenarios.Look{Style: style, Color: colored(), Size: func() (columns, lines int) { return terminalSize(w) }}, nil
}

// terminalSize is 0 where there is no terminal.
func terminalSize(w io.Writer) (columns, lines int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	columns, lines, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, lines
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "mailbench %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
