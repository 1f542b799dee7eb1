package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

func newGateSelfTest() *cobra.Command {
	var (
		turn    turnFlags
		matters effects
		rounds  int
	)
	c := &cobra.Command{
		Use:   "self-test",
		Short: "prove on a real cluster that the gate fails when it should, and only then",
		Long: `Load a base and a candidate in turn, as gate ab does, where it is known what the
gate must say: two equals must pass; 2 ms of latency to one SQL node, one more
SELECT in a procedure and one lost write must each fail. Prints how often each was
as it must be. The exit code is 0 if all were, 1 if the gate passed what it must
fail or failed what it must pass, 4 if it could not tell.`,
		Example: "  mailbench gate self-test\n  mailbench gate self-test --rounds 5 --pairs 30 --segment 20s",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if rounds < 1 || rounds > 100 {
				return usageError{fmt.Errorf("--rounds is %d, must be 1 to 100", rounds)}
			}
			if err := turn.check(); err != nil {
				return err
			}
			options, err := matters.options()
			if err != nil {
				return err
			}
			conductor := scenarios.Conductor{Dir: turn.out, Image: turn.image, Version: version, Progress: c.ErrOrStderr()}
			found := selfTestRates{}
			err = conductor.SelfTest(c.Context(), rounds, turn.pairs, turn.segment, turn.settle, func(t scenarios.SelfTested) error {
				r, err := report.Interleaved(t.Dir, options)
				if err != nil {
					return err
				}
				found.add(t, r)
				fmt.Fprintf(c.ErrOrStderr(), "self-test: %s: %s; it must be %s; look again with: mailbench gate %s%s\n", t.Name, r.ExitVerdict(), t.Want, quote(t.Dir), matters)
				return nil
			})
			if err = errors.Join(found.write(c.OutOrStdout()), err); err != nil {
				return err
			}
			return verdictOf(found.verdict())
		},
	}
	turn.add(c)
	c.Flags().IntVar(&rounds, "rounds", 1, "how many times, each with another seed")
	matters.add(c)
	return c
}

// selfTestRates is how often each test was as it must be.
type selfTestRates struct{ rows []selfTestRow }

type selfTestRow struct {
	name  string
	want  results.Verdict
	found []results.Verdict
	dirs  []string // of those that were not as they must be
}

func (s *selfTestRates) add(t scenarios.SelfTested, r *gate.Report) {
	verdict := r.ExitVerdict()
	if verdict == t.Want && !toldBy(r, t.By) {
		verdict = results.Inconclusive // right by chance: something else was found
	}
	i := 0
	for ; i < len(s.rows) && s.rows[i].name != t.Name; i++ {
	}
	if i == len(s.rows) {
		s.rows = append(s.rows, selfTestRow{name: t.Name, want: t.Want})
	}
	s.rows[i].found = append(s.rows[i].found, verdict)
	if verdict != t.Want {
		s.rows[i].dirs = append(s.rows[i].dirs, t.Dir)
	}
}

// toldBy says whether a report rests on a kind of evidence.
func toldBy(r *gate.Report, by scenarios.Evidence) bool {
	switch by {
	case scenarios.ByLatency:
		return slices.ContainsFunc(r.Interleaved, func(c compare.Comparison) bool { return c.Verdict == compare.Regression })
	case scenarios.ByCounters:
		return slices.ContainsFunc(r.Counters, func(c compare.CounterChange) bool { return c.Verdict == compare.Regression })
	case scenarios.ByLedger:
		return r.LostWrites > 0
	default:
		return true
	}
}

// verdict is violated if the gate was wrong, and inconclusive if it could not tell.
func (s *selfTestRates) verdict() results.Verdict {
	if len(s.rows) == 0 {
		return results.Inconclusive
	}
	verdict := results.Pass
	for _, row := range s.rows {
		for _, found := range row.found {
			switch {
			case found == row.want:
			case found == results.Inconclusive:
				if verdict == results.Pass {
					verdict = results.Inconclusive
				}
			default:
				verdict = results.Violated
			}
		}
	}
	return verdict
}

// write prints a table that fits 80 columns.
func (s *selfTestRates) write(w io.Writer) error {
	if len(s.rows) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-36s %-10s %9s  %s\n", "what was compared", "must be", "was", "else")
	for _, row := range s.rows {
		var right int
		others := map[results.Verdict]int{}
		for _, v := range row.found {
			if v == row.want {
				right++
			} else {
				others[v]++
			}
		}
		line := fmt.Sprintf("%-36s %-10s %9s", row.name, row.want, fmt.Sprintf("%d of %d", right, len(row.found)))
		for _, v := range []results.Verdict{results.DataLoss, results.Violated, results.Inconclusive, results.Pass} {
			if others[v] > 0 {
				line += fmt.Sprintf("  %s %d", v, others[v])
			}
		}
		fmt.Fprintln(&b, line)
	}
	for _, row := range s.rows {
		for _, dir := range row.dirs {
			fmt.Fprintf(&b, "look at: mailbench gate %s\n", filepath.ToSlash(dir))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
