package main

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/spf13/cobra"
)

func TestSelfTestRates(t *testing.T) {
	worse := compare.Finding{Verdict: compare.Regression}
	latency := &gate.Report{Verdict: compare.Regression, Interleaved: []compare.Comparison{{Finding: worse}}}
	counter := &gate.Report{Verdict: compare.Regression, Counters: []compare.CounterChange{{Finding: worse}}}
	same := &gate.Report{Verdict: compare.NoDifference}
	open := &gate.Report{Verdict: compare.Inconclusive}
	lost := &gate.Report{Verdict: compare.DataLoss, LostWrites: 1}
	equals := scenarios.SelfTested{Name: "two equals", Want: results.Pass, Dir: "a"}
	slow := scenarios.SelfTested{Name: "slow", Want: results.Violated, By: scenarios.ByLatency, Dir: "b"}
	lossy := scenarios.SelfTested{Name: "lossy", Want: results.DataLoss, By: scenarios.ByLedger, Dir: "c"}
	type found struct {
		scenarios.SelfTested
		r *gate.Report
	}
	for _, row := range []struct {
		sentence string
		found    []found
		verdict  results.Verdict
		line     string
	}{
		{"all as they must be", []found{{equals, same}, {slow, latency}, {lossy, lost}}, results.Pass, "lossy                                data_loss     1 of 1\n"},
		{"a false alarm", []found{{equals, same}, {equals, latency}}, results.Violated, "two equals                           pass          1 of 2  violated 1\nlook at: mailbench gate a\n"},
		{"a regression that passes", []found{{slow, same}}, results.Violated, "slow                                 violated      0 of 1  pass 1\n"},
		{"one that cannot be told", []found{{equals, open}, {slow, latency}}, results.Inconclusive, "0 of 1  inconclusive 1\n"},
		{"one that something else has told", []found{{slow, counter}}, results.Inconclusive, "0 of 1  inconclusive 1\n"},
		{"a lost write beside it is no proof of latency", []found{{slow, lost}}, results.Violated, "0 of 1  data_loss 1\n"},
		{"nothing", nil, results.Inconclusive, ""},
	} {
		var rates selfTestRates
		for _, f := range row.found {
			rates.add(f.SelfTested, f.r)
		}
		var b bytes.Buffer
		if err := rates.write(&b); err != nil {
			t.Fatal(err)
		}
		if v := rates.verdict(); v != row.verdict || !strings.Contains(b.String(), row.line) {
			t.Errorf("%s: the verdict is %s, want %s and %q in\n%s", row.sentence, v, row.verdict, row.line, &b)
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 81 {
				t.Errorf("%s: wider than 80 columns: %s", row.sentence, line)
			}
		}
	}
}

// TestRepeatOf: the command line that is shown measures the same again, in a shell.
func TestRepeatOf(t *testing.T) {
	var shown string
	root := newRoot()
	ab, _, err := root.Find([]string{"gate", "ab"})
	if err != nil {
		t.Fatal(err)
	}
	ab.RunE = func(c *cobra.Command, args []string) error { shown = repeatOf(c, args); return nil }
	root.SetArgs([]string{"gate", "ab", "./my scenario.yaml", "--set", "faults=[]", "--candidate", "schema=./it's", "--candidate", "image=x", "--out", "there", "--confirm", "--junit", "x.xml", "--pairs", "30"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	if want := `mailbench gate ab './my scenario.yaml' --candidate 'schema=./it'\''s' --candidate image=x --confirm --pairs 30 --set 'faults=[]'`; shown != want {
		t.Errorf("got  %s\nwant %s", shown, want)
	}
}

// TestASecondMeasurementThatFails leaves the first one's verdict as it was.
func TestASecondMeasurementThatFails(t *testing.T) {
	for _, err := range []error{errors.New("no space left"), &scenarios.InterruptedError{Stage: "while the load ran", Err: errors.New("signal")}} {
		r := &gate.Report{Verdict: compare.Regression}
		failed := confirmed(r, func() (*gate.Report, error) { return nil, err })
		var interrupted *scenarios.InterruptedError
		if errors.As(err, &interrupted) != (failed != nil) {
			t.Errorf("%v ends the command with %v", err, failed)
		}
		if r.Verdict != compare.Regression || r.Confirmation == nil || r.Confirmation.Failed != err.Error() {
			t.Errorf("%v: the report says %s, %+v", err, r.Verdict, r.Confirmation)
		}
	}
}

// TestAVerdictOutlivesItsReader: who has stopped reading does not turn a regression
// into success.
func TestAVerdictOutlivesItsReader(t *testing.T) {
	out := gateOutput{format: "json"}
	c := &cobra.Command{}
	c.SetOut(closedPipe{})
	err := out.show(c, &gate.Report{Verdict: compare.Regression})
	if !errors.Is(err, syscall.EPIPE) || readerGone(err) || exitCode(err) != 1 {
		t.Errorf("%v, exit code %d, want 1", err, exitCode(err))
	}
}
