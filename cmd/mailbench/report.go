package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
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
judged, and the gravest verdict counts. A search for a capacity is judged from its
steps. Of a recording of which files are missing
or damaged, what is left is judged: it is inconclusive, and never passes.`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if report.IsSearch(args[0]) {
				return reportSearch(c.OutOrStdout(), args[0], format)
			}
			// What is more than the run itself was written beside the recording.
			file := func(name string) func(string, *results.Run) error {
				return func(dir string, _ *results.Run) error { return copyFile(c.OutOrStdout(), filepath.Join(dir, name)) }
			}
			show, ok := map[string]func(dir string, r *results.Run) error{
				"text":        func(_ string, r *results.Run) error { return report.Text(c.OutOrStdout(), r, terminalWidth) },
				"markdown":    func(_ string, r *results.Run) error { return report.Markdown(c.OutOrStdout(), r) },
				"svg":         func(_ string, r *results.Run) error { return report.SVG(c.OutOrStdout(), r) },
				"json":        func(_ string, r *results.Run) error { return r.Write(c.OutOrStdout()) },
				"html":        file(report.HTMLFile),
				"junit":       file(report.JUnitFile),
				"openmetrics": file(report.MetricsFile),
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
				if err := show(m.Dir, run); err != nil {
					return err
				}
				verdicts = append(verdicts, run.Verdict)
			}
			return verdictOf(results.Gravest(verdicts...))
		},
	}
	c.Flags().StringVar(&format, "format", "text", "what is printed: text, markdown, html, junit, openmetrics, svg or json; of a search for a capacity text, markdown, html, csv or json")
	return c
}

// reportSearch judges a search for a capacity anew and shows what it says.
func reportSearch(w io.Writer, dir, format string) error {
	file, ok := map[string]string{ // "": it is drawn for a terminal
		"text": "", "markdown": report.CapacityMarkdownFile, "json": capacity.CapacityFile, "html": report.CapacityHTMLFile, "csv": report.CapacityCSVFile,
	}[format]
	if !ok {
		return usageError{fmt.Errorf("--format is %s, of a search for a capacity it must be text, markdown, html, csv or json", format)}
	}
	found, err := report.Capacity(dir)
	if err != nil {
		return err
	}
	if file == "" {
		err = report.CapacityText(w, found.Results[0], terminalWidth, found.CapacityExtras)
	} else {
		err = copyFile(w, filepath.Join(dir, file))
	}
	if err != nil {
		return err
	}
	return verdictOf(searchesVerdict(found))
}

// searchesVerdict is the gravest of searches, each in all of its regimes, and of writes
// that were lost in the runs beside them: whether these met their objectives is no
// matter of what may be promised.
func searchesVerdict(found *report.CapacityFound) results.Verdict {
	verdict := results.Pass
	for _, d := range found.Deaths {
		if d.Run != nil && d.Run.Verdict == results.DataLoss {
			verdict = results.DataLoss
		}
	}
	for _, r := range found.Results {
		regimes := slices.Clone(r.Search.Regimes)
		for _, f := range r.Regimes {
			regimes = append(regimes, f.Regime)
		}
		verdict = results.Gravest(verdict, capacityVerdict(r, regimes))
	}
	return verdict
}

type errFormat string

func (e errFormat) Error() string {
	return "--format is " + string(e) + ", must be text, markdown, html, junit, openmetrics, svg or json"
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("show what was written: %w", err)
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// verdictOf makes a command end with the verdict's exit code.
func verdictOf(v results.Verdict) error {
	if results.ExitCode(v) == 0 {
		return nil
	}
	return verdictError{v}
}
