package scenarios

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// opOf is a route that took so long, with the result of its only attempt.
func opOf(took time.Duration, outcome workload.Outcome, r ndberr.Result) *workload.Sample {
	return &workload.Sample{
		Operation: reference.Route, Outcome: outcome,
		Attempts: []workload.Attempt{{Node: 4, Ended: took, Result: r}},
	}
}

// meterOf is a meter of a load of 10 s without faults on no nodes.
func meterOf(objectives ...results.Objective) *meter {
	s := &Scenario{}
	s.Workload.Duration = 10 * time.Second
	m := newMeter(&Plan{Scenario: s})
	m.objectives = objectives
	m.good, m.bad = make([]int64, len(objectives)), make([]int64, len(objectives))
	return m
}

func TestMeterTellsOfEachSecond(t *testing.T) {
	m := meterOf(
		results.Objective{Name: "answers", Path: "routing", TargetPPM: 900_000},
		results.Objective{Name: "other path", Path: "greylist", TargetPPM: 999_000},
		results.Objective{Name: "messages", Metric: results.MetricDeferred, TargetPPM: 1_000_000},
	)
	second := func(at time.Duration, offered int64) string { return plainLine(m.take(at, offered, 0)) }
	refused := ndberr.Result{Class: ndberr.Connect, Effect: ndberr.NotApplied, Retryable: true}

	for range 19 {
		m.Record(opOf(2*time.Millisecond, workload.OK, ndberr.Result{}))
	}
	m.Record(opOf(time.Second, workload.Failed, refused))
	m.Event(chaos.Event{Kind: chaos.KindFault, Fault: "f1-kill-sql1", Name: chaos.StepEffective})
	m.Event(chaos.Event{Kind: chaos.KindCluster, Name: "NODE_FAILREP"})
	// 20 ops in 2 s; of 100 ops to come, 10 may be bad, and 1 is.
	const first = "   2s offered 4/s done 10/s p50 2.0ms p99 1.0s max 1.0s budget left 90%\n" +
		"      errors: connect 1\n      fault:  f1-kill-sql1 effective"
	if got := second(2*time.Second, 8); got != first {
		t.Errorf("first line:\n%s\nwant:\n%s", got, first)
	}

	m.Event(chaos.Event{Kind: chaos.KindFault, Fault: "f1-kill-sql1", Name: chaos.StepRedundant})
	m.Record(opOf(500*time.Microsecond, workload.OK, ndberr.Result{}))
	// Counts and quantiles begin anew, the budget goes on: 21 ops in 3 s.
	const next = "   3s offered 1/s done 1/s p50 500µs p99 500µs max 500µs budget left 86%"
	if got := second(3*time.Second, 9); got != next {
		t.Errorf("second line:\n%s\nwant:\n%s", got, next)
	}
	if got := second(4*time.Second, 9); got != "   4s no load" {
		t.Errorf("without load: %q", got)
	}
}

func TestMeterLineFitsATerminal(t *testing.T) {
	m := meterOf(results.Objective{Name: "all", TargetPPM: 999_000})
	for range 9999 {
		m.Record(opOf(123*time.Millisecond, workload.OK, ndberr.Result{}))
	}
	line := plainLine(m.take(time.Second, 999, 0))
	if n := utf8.RuneCountInString(line); n > 80 {
		t.Errorf("%d columns: %s", n, line)
	}
}

func TestBudgetLeft(t *testing.T) {
	for _, row := range []struct {
		sentence  string
		targetPPM int64
		good, bad int64
		want      string
	}{
		{"without events nothing is known", 999_000, 0, 0, "-"},
		{"nothing bad spends nothing", 990_000, 1000, 0, "100%"},
		{"a twentieth of what the whole run may lose", 990_000, 995, 5, "95%"}, // 10,000 ops in the run, 100 may be bad
		{"more than the whole run may lose", 990_000, 800, 200, "-100%"},
		{"a promise of everything, kept so far", 1_000_000, 10, 0, "-"},
		{"a promise of everything, broken", 1_000_000, 10, 1, "0%"},
	} {
		m := meterOf(results.Objective{TargetPPM: row.targetPPM})
		m.good[0], m.bad[0] = row.good, row.bad
		if got := leastLeft(m.take(time.Second, 0, 0).budgets); got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

func TestBar(t *testing.T) {
	steps := []workload.LoadProgress{
		{Table: "routes", Done: 1, Total: 200, Unit: "rows"}, {Table: "routes", Done: 30, Total: 200, Unit: "rows"}, {Table: "routes", Done: 100, Total: 200, Unit: "rows"}, {Table: "routes", Done: 200, Total: 200, Unit: "rows"},
		{Table: "preferences", Done: 0, Total: 0},
	}
	var plain, terminal bytes.Buffer
	for _, b := range []*bar{newBar(&plain, false), newBar(&terminal, true)} {
		for _, p := range steps {
			b.show(p)
		}
	}
	// 0, 50 and 100 %: a line for each quarter that was reached.
	if lines := strings.Split(strings.TrimSpace(plain.String()), "\n"); len(lines) != 3 ||
		lines[2] != "load: routes            [##############################] 100 % 200 of 200 rows" {
		t.Errorf("plain:\n%s", &plain)
	}
	if strings.Count(terminal.String(), "\r") != 4 || strings.Count(terminal.String(), "\n") != 1 {
		t.Errorf("on a terminal: %q", &terminal)
	}
}

func TestBarFitsTheTerminal(t *testing.T) {
	for _, p := range []workload.LoadProgress{
		{Table: "saved preferences", Done: 1_234_567, Total: 10_000_000, Unit: "rows"}, {Table: "state before", Done: 12_345, Total: 10_000_000, Unit: "messages"},
		{Table: "preferences", Done: 60_000_000, Total: 60_000_000, Unit: "rows"}, {Table: "clients", Done: 7, Total: 7, Unit: "rows"},
	} {
		var b bytes.Buffer
		newBar(&b, false).show(p)
		line := strings.TrimSuffix(b.String(), "\n")
		if len(line) > lineWidth || strings.Index(line, "[") != len("load: saved preferences ") {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
