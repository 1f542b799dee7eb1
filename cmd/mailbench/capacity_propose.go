package main

import (
	"errors"
	"fmt"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

func newCapacityPropose() *cobra.Command {
	var target, format string
	var ask scenarios.Proposing
	c := &cobra.Command{
		Use:   "propose DIR --target VOLUME",
		Short: "propose the smallest cluster for a volume, from a search that was made",
		Long: `Propose the smallest topology that should carry a volume of messages, healthy and
with one node dead, by what the search in DIR measured; say which parts are measured,
extrapolated or assumed; and write the scenario whose search would test it.

Other objectives, a list as in scenario files or an OpenSLO document, have the recorded
steps judged again. A search of other numbers of nodes below DIR (mailbench capacity
curve) says how the cluster scales, and a forecast, DIR/memory-inputs.json (mailbench capacity
memory), what DataMemory it takes. No number is given where nothing was measured.`,
		Example: "  mailbench capacity propose results/runs/mine --target 20M/day\n  mailbench capacity propose results/runs/mine --target 500/s --objectives slo.yaml --out bigger.yaml",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if target == "" {
				return usageError{errors.New("--target is missing: name a volume such as 20M/day")}
			}
			if ask.TargetPerDay, err = capacity.ParseTarget(target); err != nil {
				return usageError{fmt.Errorf("--target: %w", err)}
			}
			show, ok := map[string]func(*capacity.Proposal) error{
				"text": func(p *capacity.Proposal) error { return report.ProposalText(c.OutOrStdout(), p, terminalWidth) },
				"json": func(p *capacity.Proposal) error { return report.ProposalJSON(c.OutOrStdout(), p) },
			}[format]
			if !ok {
				return usageError{fmt.Errorf("--format is %s, must be text or json", format)}
			}
			ask.Dir, ask.Command = args[0], repeatOf(c, args)
			p, path, err := scenarios.ProposeCapacity(ask)
			if err != nil {
				return err
			}
			if path != "" {
				p.Next = "mailbench capacity " + quote(path)
				fmt.Fprintf(c.ErrOrStderr(), "capacity propose: scenario written to %s\n", path)
			}
			if err := show(p); err != nil {
				return err
			}
			if p.Answer == capacity.Refused {
				return verdictOf(results.Inconclusive)
			}
			return nil
		},
	}
	c.Flags().StringVar(&target, "target", "", "messages on a day that comes as the scenario's does: 20M/day, 20000000, or a mean rate, 500/s")
	c.Flags().StringVar(&ask.Objectives, "objectives", "", "file with other objectives than the search's")
	c.Flags().StringVar(&ask.Out, "out", "", "scenario file to write (default in DIR, named for the target)")
	c.Flags().StringVar(&format, "format", "text", "what is printed: text or json")
	return c
}
