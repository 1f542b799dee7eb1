package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
)

// TestJUnitCases reads the cases back.
func TestJUnitCases(t *testing.T) {
	enough, tooMuch := results.Decimal(200_000), results.Decimal(1_200_000)
	for _, row := range []struct {
		sentence string
		change   func(*results.Run)
		want     string // of each suite: passed, failed, errors, skipped
	}{
		{"everything holds", func(*results.Run) {},
			"run 3/0/0/0 objectives 3/0/0/0 fault f1 3/0/0/0 fault f2 3/0/0/0"},
		{"an objective is missed, and no fault alone did it", func(run *results.Run) {
			run.Objectives[0].Verdict = results.Violated
		}, "run 3/0/0/0 objectives 2/1/0/0 fault f1 3/0/0/0 fault f2 3/0/0/0"},
		{"an objective is missed, and one fault did it", func(run *results.Run) {
			run.Objectives[0].Verdict = results.Violated
			run.Faults[1].Budgets[0].BudgetSpent = &tooMuch
		}, "run 3/0/0/0 objectives 2/1/0/0 fault f1 3/0/0/0 fault f2 2/1/0/0"},
		{"a fault that was not injected is no pass", func(run *results.Run) {
			run.Faults[0].InjectedAtUS = nil
		}, "run 3/0/0/0 objectives 3/0/0/0 fault f1 0/0/0/3 fault f2 3/0/0/0"},
		{"nothing passes or fails of a run that is inconclusive", func(run *results.Run) {
			run.Reasons = []string{"the generator fell behind", "and more"}
			run.Objectives[0].Verdict = results.Violated
			run.Faults[1].Budgets[0].BudgetSpent = &tooMuch
		}, "run 0/0/1/2 objectives 0/0/0/3 fault f1 0/0/0/3 fault f2 0/0/0/3"},
		{"a loss is told of an inconclusive run, too", func(run *results.Run) {
			run.Reasons = []string{"the generator fell behind"}
			run.Ledger.Lost = 1
		}, "run 0/1/1/1 objectives 0/0/0/3 fault f1 0/0/0/3 fault f2 0/0/0/3"},
		{"a ledger that was not read back is no pass", func(run *results.Run) {
			run.Ledger = nil
		}, "run 1/0/0/2 objectives 3/0/0/0 fault f1 3/0/0/0 fault f2 3/0/0/0"},
	} {
		run := judged(t, "two-kills")
		run.Reasons = nil
		for i := range run.Objectives {
			run.Objectives[i].Verdict = results.Pass
			for k := range run.Faults {
				run.Faults[k].Budgets[i].BudgetSpent = &enough
			}
		}
		row.change(run)
		var b bytes.Buffer
		if err := JUnit(&b, run); err != nil {
			t.Fatal(err)
		}
		var read junitSuites
		if err := xml.Unmarshal(b.Bytes(), &read); err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		var got []string
		var total [4]int
		for _, s := range read.Suites {
			var n [4]int
			for _, c := range s.Cases {
				switch {
				case c.Failure != nil:
					n[1]++
				case c.Error != nil:
					n[2]++
				case c.Skipped != nil:
					n[3]++
				default:
					n[0]++
				}
			}
			if [4]int{s.Tests - s.Failures - s.Errors - s.Skipped, s.Failures, s.Errors, s.Skipped} != n {
				t.Errorf("%s: suite %s says %+v, its cases %v", row.sentence, s.Name, s, n)
			}
			for i := range n {
				total[i] += n[i]
			}
			got = append(got, fmt.Sprintf("%s %d/%d/%d/%d", s.Name, n[0], n[1], n[2], n[3]))
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: got %s, want %s", row.sentence, strings.Join(got, " "), row.want)
		}
		if read.Failures != total[1] || read.Errors != total[2] || read.Skipped != total[3] {
			t.Errorf("%s: the whole says %+v", row.sentence, read)
		}
	}
}
