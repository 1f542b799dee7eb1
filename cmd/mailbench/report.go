package main

import (
	"fmt"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/report"
	"github.com/spf13/cobra"
)

// terminalWidth is the width that every table fits, in columns.
const terminalWidth = 80

func newReport() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "report RUN",
		Short: "judge a recording anew and show what it says",
		Long: `Judge a recording anew: run.json and the files beside it are rewritten from the
recording alone, and the exit code is the verdict's. Of a series, every run is
judged, and the gravest verdict counts. Of a recording of which files are missing
or damaged, what is left is judged: it is inconclusive, and never passes.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			show, ok := map[string]func(*results.Run) error{
				"text":     func(r *results.Run) error { return report.Text(c.OutOrStdout(), r, terminalWidth) },
				"markdown": func(r *results.Run) error { return report.Markdown(c.OutOrStdout(), r) },
				"svg":      func(r *results.Run) error { return report.SVG(c.OutOrStdout(), r) },
				"json":     func(r *results.Run) error { return r.Write(c.OutOrStdout()) },
			}[format]
			if !ok {
				return usageError{errFormat(format)}
			}
			members, err := report.Members(args[0])
			if err != nil {
				return err
			}
			var verdicts []results.Verdict
			for _, m := range members {
				if m.NeverBegan {
					fmt.Fprintf(c.ErrOrStderr(), "report: %s holds no recording: the run never began; it counts as %s\n", m.Dir, results.Inconclusive)
					verdicts = append(verdicts, results.Inconclusive)
					continue
				}
				run, err := report.Write(m.Dir)
				if err != nil {
					return err
				}
				if err := show(run); err != nil {
					return err
				}
				verdicts = append(verdicts, run.Verdict)
			}
			return verdictOf(results.Gravest(verdicts...))
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text, markdown, svg or json")
	return c
}

type errFormat string

func (e errFormat) Error() string {
	return "--format is " + string(e) + ", must be text, markdown, svg or json"
}

// verdictOf makes a command end with the verdict's exit code.
func verdictOf(v results.Verdict) error {
	if results.ExitCode(v) == 0 {
		return nil
	}
	return verdictError{v}
}
