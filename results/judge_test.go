package results

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/workload"
	"gotest.tools/v3/golden"
)

func mustJudge(t testing.TB, dir string) *Run {
	t.Helper()
	run, err := Judge(open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func encode(t testing.TB, run *Run) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := run.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestKnownOutages(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	run := mustJudge(t, dir)
	if run.Verdict != Violated || len(run.Reasons) != 0 {
		t.Errorf("verdict is %s, %v", run.Verdict, run.Reasons)
	}

	spans := func(o OutageSpans) string {
		return fmt.Sprint(*o.FullOutage/1000, *o.PartialOutage/1000, *o.BrownOut/1000, *o.Good/1000, *o.Longest/1000, *o.Unmeasured/1000)
	}
	charged := func(p FaultPath) string {
		var over int64
		if p.FailedOverUS != nil {
			over = p.FailedOverUS.P50
		}
		return fmt.Sprint(p.Ops, p.BadOps, p.FailedOver, over)
	}
	for _, row := range []struct{ what, got, want string }{
		{"f1, the steps", fmt.Sprint(*run.Faults[0].Spans.Detect, *run.Faults[0].Spans.Recovered, *run.Faults[0].Spans.Redundant), "400000 4000000 5000000"},
		{"f1, all paths: webmail went on", spans(run.Faults[0].Spans.OutageSpans), "0 3000 0 2000 0 0"},
		{"f1, routing: down, then every second op", spans(run.Faults[0].Paths["routing"].OutageSpans), "1500 1500 0 2000 1500 0"},
		{"f1, greylist: down, then every second op", spans(run.Faults[0].Paths["greylist"].OutageSpans), "1500 1500 0 2000 1500 0"},
		{"f1, preferences: nothing", spans(run.Faults[0].Paths["preferences"].OutageSpans), "0 0 0 5000 0 0"},
		{"f2, greylist: degraded is an outage", spans(run.Faults[1].Paths["greylist"].OutageSpans), "300 0 0 11700 300 0"},
		{"f1, who noticed: the cluster and the clients", fmt.Sprint(*run.Faults[0].Spans.DetectCluster, *run.Faults[0].Spans.DetectClients), "200000 300"},
		{"f2, who noticed: a data node that is only disconnected is not counted as failed", fmt.Sprint(*run.Faults[1].Spans.DetectCluster, *run.Faults[1].Spans.DetectClients), "90000 9000"},
		{"f1, routing: 150 ops failed, then every second of 150, the others at the other node, in 3 ms; the op at the very end counts", charged(run.Faults[0].Paths["routing"]), "501 225 75 3000"},
		{"f2, greylist: none at another node", charged(run.Faults[1].Paths["greylist"]), "1200 30 0 0"},
		{"f1, errors: one an op", fmt.Sprint(run.Faults[0].Errors), "[{connect 2003 0 600}]"},
		{"routing outside the faults, the slow op included", fmt.Sprint(run.Paths["routing"].CalmUS.P50, run.Paths["routing"].CalmUS.Max), "1950 1999950"},
		{"f2, errors", fmt.Sprint(run.Faults[1].Errors), "[{temporary 1297 4010 30}]"},
		{"f2, all paths", spans(run.Faults[1].Spans.OutageSpans), "0 300 0 11700 0 0"},
	} {
		if row.got != row.want {
			t.Errorf("%s: %s, want %s", row.what, row.got, row.want)
		}
	}
	golden.AssertBytes(t, encode(t, run), "two-kills.run.json")
}

func TestJudgingIsPure(t *testing.T) {
	here, there := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	twoKills(t, here, testManifest(t), completed)
	if err := os.CopyFS(there, os.DirFS(here)); err != nil {
		t.Fatal(err)
	}
	r := open(t, here)
	first := encode(t, mustJudge(t, here))
	for i, again := range [][]byte{encode(t, mustJudge(t, here)), encode(t, mustJudge(t, there))} {
		if !bytes.Equal(first, again) {
			t.Errorf("judged anew (%d), the run is another", i+1)
		}
	}
	if bytes.Contains(first, []byte(os.TempDir())) {
		t.Error("run.json holds a path of this machine")
	}
	read, err := ReadRun(bytes.NewReader(first))
	if err != nil || !bytes.Equal(encode(t, read), first) {
		t.Errorf("run.json changed on its way through ReadRun: %v", err)
	}
	var a, b bytes.Buffer
	if writeHlog(&a, r) != nil || writeHlog(&b, open(t, there)) != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("latency.hlog is another")
	}
}

func TestEveryBadOpIsChargedOnce(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	twoKills(t, dir, m, completed)
	run := mustJudge(t, dir)

	var byOutcome int64
	for _, p := range run.Paths {
		byOutcome += p.Degraded + p.Failed + p.Unknown
	}
	charges := []Charge{run.Background}
	for _, f := range run.Faults {
		charges = append(charges, f.Charge)
	}
	var badOps int64
	bad := make([]int64, len(run.Objectives))
	for _, c := range charges {
		badOps += c.BadOps
		for i, b := range c.Budgets {
			bad[i] += b.Bad
		}
	}
	if badOps != byOutcome || badOps != run.BadOps || badOps == 0 {
		t.Errorf("%d bad ops are charged, %d there are, %d the run says", badOps, byOutcome, run.BadOps)
	}
	for i, o := range run.Objectives {
		if bad[i] != o.Bad || o.Good+o.Bad != o.Total || o.Total == 0 {
			t.Errorf("%s: %d bad events are charged, %d there are", o.Name, bad[i], o.Bad)
		}
	}
	if slow := run.Background.Budgets[1].Bad; slow != 1 {
		t.Errorf("background has %d slow routing ops, want 1", slow)
	}
}

func TestCharging(t *testing.T) {
	at := func(d time.Duration) *time.Duration { return &d }
	tl := &timeline{faults: []*fault{
		{id: "a", injected: at(10 * sec), redundant: at(20 * sec)},
		{id: "b", injected: at(15 * sec)},
		{id: "never"},
		{id: "c", injected: at(15 * sec), redundant: at(16 * sec)},
	}}
	tl.index()
	for _, row := range []struct {
		name      string
		from, to  time.Duration
		want      int
		wantPhase string
	}{
		{"before all", 1 * sec, 2 * sec, -1, "none"},
		{"under way when a was injected", 9 * sec, 11 * sec, 0, "none"},
		{"in the window of a", 12 * sec, 13 * sec, 0, "fault-a"},
		{"b and c come at once: the later one of the plan", 15 * sec, 15 * sec, 3, "fault-c"},
		{"c is over", 17 * sec, 18 * sec, 1, "fault-b"},
		{"b is never over", 99 * sec, 100 * sec, 1, "fault-b"},
		{"all of them: the one injected last", 1 * sec, 100 * sec, 3, "none"},
	} {
		s := op(1, reference.Route, 1, sql1, row.from, row.to-row.from)
		if got := tl.charged(&s); got != row.want {
			t.Errorf("%s: charged to %d, want %d", row.name, got, row.want)
		}
		if got := tl.phaseName(tl.phaseAt(row.from)); got != row.wantPhase {
			t.Errorf("%s: began in %q, want %q", row.name, got, row.wantPhase)
		}
	}
}

func TestOutageSlices(t *testing.T) {
	type offered struct {
		at   time.Duration
		good bool
		took time.Duration
	}
	for _, row := range []struct {
		name   string
		ops    []offered
		window time.Duration
		want   [6]int64 // full, partial, brown-out, good, longest, unmeasured in ms
	}{
		{"no ops", nil, 1 * sec, [6]int64{0, 0, 0, 0, 0, 1000}},
		{"one bad op fills its slice", []offered{{50 * ms, false, 0}}, 1 * sec, [6]int64{100, 0, 0, 0, 100, 900}},
		{"good and bad in a slice", []offered{{0, false, 0}, {99 * ms, true, 0}}, 1 * sec, [6]int64{0, 100, 0, 0, 0, 900}},
		{"slices begin with the injection", []offered{{99 * ms, false, 0}, {100 * ms, true, 0}}, 200 * ms, [6]int64{100, 0, 0, 100, 100, 0}},
		{"a silent slice does not end a stretch", []offered{{0, false, 0}, {250 * ms, false, 0}}, 300 * ms, [6]int64{200, 0, 0, 0, 300, 100}},
		{"a good op does", []offered{{0, false, 0}, {150 * ms, true, 0}, {250 * ms, false, 0}}, 300 * ms, [6]int64{200, 0, 0, 100, 100, 0}},
		{"so does a partial slice", []offered{{0, false, 0}, {150 * ms, true, 0}, {160 * ms, false, 0}, {250 * ms, false, 0}}, 300 * ms, [6]int64{200, 100, 0, 0, 100, 0}},
		{"so does one that is only slow", []offered{{0, false, 0}, {150 * ms, true, 2 * sec}, {250 * ms, false, 0}}, 300 * ms, [6]int64{200, 0, 100, 0, 100, 0}},
		{"the last slice ends with the window", []offered{{210 * ms, false, 0}}, 240 * ms, [6]int64{40, 0, 0, 0, 40, 200}},
		{"what comes after the window is not in it", []offered{{0, false, 0}, {210 * ms, false, 0}, {300 * ms, false, 0}}, 200 * ms, [6]int64{100, 0, 0, 0, 100, 100}},
		{"slow is above the bound", []offered{{0, true, sec}, {100 * ms, true, sec + 1}}, 200 * ms, [6]int64{0, 0, 100, 100, 0, 0}},
		{"one slow op makes a slice brown", []offered{{0, true, 0}, {50 * ms, true, 2 * sec}}, 100 * ms, [6]int64{0, 0, 100, 0, 0, 0}},
		{"slow and bad is a partial outage", []offered{{0, false, 0}, {50 * ms, true, 2 * sec}}, 100 * ms, [6]int64{0, 100, 0, 0, 0, 0}},
		{"a bad op that took long is bad", []offered{{0, false, 2 * sec}}, 100 * ms, [6]int64{100, 0, 0, 0, 100, 0}},
		{"minutes apart", []offered{{5 * time.Minute, true, 0}, {0, false, 0}}, 10 * time.Minute, [6]int64{100, 0, 0, 100, 100, 600_000 - 200}},
	} {
		var o outage
		for _, op := range row.ops {
			o.add(op.at, mark(op.good, op.took, sec))
		}
		s := o.spans(row.window)
		got := [6]int64{*s.FullOutage / 1000, *s.PartialOutage / 1000, *s.BrownOut / 1000, *s.Good / 1000, *s.Longest / 1000, *s.Unmeasured / 1000}
		if got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

func TestTimeToObjective(t *testing.T) {
	type offered struct {
		at        time.Duration
		good, bad int
	}
	for _, row := range []struct {
		name   string
		events []offered
		window time.Duration
		want   int64 // ms; -1 for nobody saw it met
	}{
		{"no events: never missed", nil, sec, 0},
		{"never missed", []offered{{0, 10, 0}, {500 * ms, 9, 1}}, sec, 0},
		{"missed in the first slice", []offered{{50 * ms, 8, 2}, {150 * ms, 10, 0}}, sec, 100},
		{"the last miss counts, whatever was between", []offered{{0, 0, 1}, {100 * ms, 10, 0}, {420 * ms, 5, 5}, {500 * ms, 1, 0}}, sec, 500},
		{"slices without events say nothing", []offered{{0, 0, 1}, {900 * ms, 1, 0}}, sec, 100},
		{"missed to the end", []offered{{0, 10, 0}, {900 * ms, 0, 1}}, sec, -1},
		{"what comes after the window is not in it", []offered{{0, 0, 1}, {sec, 10, 0}}, sec, -1},
	} {
		var r recovery
		for _, e := range row.events {
			for range e.good {
				r.add(e.at, true)
			}
			for range e.bad {
				r.add(e.at, false)
			}
		}
		got := int64(-1)
		if met := r.met(row.window, 900_000); met != nil {
			got = *met / 1000
		}
		if got != row.want {
			t.Errorf("%s: met after %d ms, want %d", row.name, got, row.want)
		}
	}
}

func TestObjectives(t *testing.T) {
	for _, row := range []struct {
		name      string
		objective Objective
		good, bad int64
		spent     string
		verdict   Verdict
	}{
		{"half the budget", Objective{TargetPPM: 990_000}, 1990, 10, "0.500000", Pass},
		{"all of it", Objective{TargetPPM: 990_000}, 99, 1, "1.000000", Pass},
		{"one more", Objective{TargetPPM: 990_000}, 98, 2, "2.000000", Violated},
		{"no events", Objective{TargetPPM: 990_000}, 0, 0, "0.000000", Inconclusive},
		{"no budget, none spent", Objective{TargetPPM: million}, 5, 0, "0.000000", Pass},
		{"no budget, and one bad", Objective{TargetPPM: million}, 5, 1, "null", Violated},
		{"the numbers of a year", Objective{TargetPPM: 999_999}, 1_459_999_000_000, 1_000_000, "0.684932", Pass},
	} {
		c := objectiveCounts{Objective: row.objective, good: row.good, bad: row.bad}
		r := c.result()
		spent := "null"
		if r.BudgetSpent != nil {
			spent = r.BudgetSpent.String()
		}
		if spent != row.spent || r.Verdict != row.verdict {
			t.Errorf("%s: spent %s, %s; want %s, %s", row.name, spent, r.Verdict, row.spent, row.verdict)
		}
	}
	for _, row := range []struct {
		name      string
		objective Objective
		outcome   workload.Outcome
		response  time.Duration
		want      bool
	}{
		{"retried is good", Objective{}, workload.Retried, sec, true},
		{"degraded is bad", Objective{}, workload.Degraded, 0, false},
		{"degraded is good if the objective says so", Objective{Degraded: "good"}, workload.Degraded, 0, true},
		{"unknown is bad", Objective{Degraded: "good"}, workload.Unknown, 0, false},
		{"just in time", Objective{LatencyUS: 1000}, workload.OK, ms + 999, true},
		{"a microsecond late", Objective{LatencyUS: 1000}, workload.OK, ms + time.Microsecond, false},
		{"degraded and late", Objective{LatencyUS: 1000, Degraded: "good"}, workload.Degraded, sec, false},
	} {
		s := op(1, reference.Route, uint8(routing.Local), sql1, 0, row.response)
		s.Outcome = row.outcome
		if got := row.objective.Good(&s); got != row.want {
			t.Errorf("%s: good is %t", row.name, got)
		}
	}
	for _, bad := range []Objective{
		{Path: "smtp"}, {TargetPPM: -1}, {TargetPPM: million + 1}, {LatencyUS: -1}, {Degraded: "fine"},
	} {
		m := testManifest(t)
		m.Objectives = []Objective{bad}
		dir := t.TempDir()
		twoKills(t, dir, m, completed)
		if _, err := Judge(open(t, dir)); err == nil || !strings.Contains(err.Error(), "manifest.json: objective") {
			t.Errorf("%+v: got error %v", bad, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	easy := []Objective{{Name: "mail flows", TargetPPM: 900_000}}
	hard := []Objective{{Name: "mail flows", TargetPPM: 999_999}}
	for _, row := range []struct {
		name    string
		change  func(m *Manifest, end *EndOfRun)
		spoil   func(t *testing.T, dir string)
		verdict Verdict
		reason  string
	}{
		{name: "all well", verdict: Pass},
		{name: "an objective is missed", verdict: Violated,
			change: func(m *Manifest, _ *EndOfRun) { m.Objectives = hard }},
		{name: "missed and interrupted", verdict: Inconclusive, reason: "the run did not complete: it was interrupted",
			change: func(m *Manifest, end *EndOfRun) { m.Objectives = hard; end.Reason = Interrupted }},
		{name: "failed", verdict: Inconclusive, reason: "the run did not complete: it failed: no space",
			change: func(_ *Manifest, end *EndOfRun) { end.Reason, end.Error = Failed, "no space" }},
		{name: "a planned fault never came", verdict: Inconclusive, reason: "fault f3 (kill-node sql2) was not injected",
			change: func(m *Manifest, _ *EndOfRun) {
				m.Faults = append(m.Faults, PlannedFault{ID: "f3", Kind: "kill-node", Target: "sql2"})
			}},
		{name: "a fault did not bite", verdict: Inconclusive, reason: "fault f1 (kill-node sql1) was not seen to take effect: cannot tell",
			spoil: func(t *testing.T, dir string) {
				rewrite(t, dir, EventsFile, `"effective","fault":"f1"`, `"failed","fields":{"error":"cannot tell"},"fault":"f1"`)
			}},
		{name: "a fault did not recover", verdict: Inconclusive, reason: "fault f1 (kill-node sql1) did not recover",
			spoil: func(t *testing.T, dir string) {
				rewrite(t, dir, EventsFile, `"recovered","fault":"f1"`, `"x","fault":"f1"`)
			}},
		{name: "redundancy did not come back", verdict: Inconclusive, reason: "fault f1 (kill-node sql1) did not become redundant again",
			spoil: func(t *testing.T, dir string) {
				rewrite(t, dir, EventsFile, `"redundant","fault":"f1"`, `"x","fault":"f1"`)
			}},
		{name: "the generator lagged", verdict: Inconclusive, reason: "the generator fell behind: 99.9 % of messages began within 50 µs of their time, the bound is 49 µs",
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.LagP999US = 49 }},
		{name: "the generator just kept up", verdict: Pass,
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.LagP999US = 50 }},
		{name: "no bound on the lag", verdict: Pass,
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.LagP999US = 0 }},
		{name: "goroutines waited in one second", verdict: Inconclusive, reason: "the generator had to wait for a processor: in its worst second, 99.9 % of its goroutines ran within 180 µs of their time, the bound is 179 µs",
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.SchedP999US = 179 }},
		{name: "it stood still once", verdict: Inconclusive, reason: "the generator stood still to collect its garbage, once for 298 µs, the bound is 297 µs",
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.GCPauseUS = 297 }},
		{name: "the clock was set", verdict: Inconclusive, reason: "the wall clock was set, or the machine stood still: between two rows of counters it moved by 60 µs against the monotonic clock, the bound is 59 µs",
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.ClockStepUS = 59 }},
		{name: "the host kept processors back", verdict: Inconclusive, reason: "the machine is a guest whose host had other things to do: in the minute from 1 s on, it kept back 0.050000 % of the processors' time, the bound is 0.049900 %",
			change: func(m *Manifest, _ *EndOfRun) { m.Bounds.StealPPM = 499 }},
		{name: "all of that was within its bounds", verdict: Pass,
			change: func(m *Manifest, _ *EndOfRun) {
				m.Bounds = Bounds{LagP999US: 50, SchedP999US: 180, GCPauseUS: 298, ClockStepUS: 60, StealPPM: 500}
			}},
		{name: "nobody watched", verdict: Inconclusive, reason: "no row of counters tells the generator's scheduling latency, clock, share of stolen processor time",
			change: func(m *Manifest, _ *EndOfRun) {
				m.Bounds = Bounds{SchedP999US: 180, ClockStepUS: 60, StealPPM: 500}
			},
			spoil: func(t *testing.T, dir string) { write(t, dir, CountersFile, nil) }},
		{name: "the recording has no end", verdict: Inconclusive, reason: "the recording has no end: the run crashed or is still going on",
			spoil: func(t *testing.T, dir string) { rewrite(t, dir, EventsFile, `"kind":"end"`, `"kind":"x"`) }},
		{name: "samples are cut short", verdict: Inconclusive, reason: "samples.mbs is cut short at byte ",
			spoil: func(t *testing.T, dir string) { cut(t, dir, SamplesFile) }},
		{name: "so they are, if whole blocks are gone", verdict: Inconclusive, reason: "12660 samples were recorded, 0 are there",
			spoil: func(t *testing.T, dir string) { write(t, dir, SamplesFile, samplesHeader()) }},
		{name: "events are cut short", verdict: Inconclusive, reason: "events.jsonl is cut short at byte ",
			spoil: func(t *testing.T, dir string) { cut(t, dir, EventsFile) }},
		{name: "writes were not read back", verdict: Inconclusive, reason: "5805 acknowledged writes were not read back",
			spoil: func(t *testing.T, dir string) { write(t, dir, LedgerFile, nil) }},
		{name: "some keys could not be read back", verdict: Inconclusive, reason: "2 acknowledged keys could not be read back",
			spoil: func(t *testing.T, dir string) {
				row := `{"kind":"preference","user":"u","key":"k%d","verdict":"unknown"}` + "\n"
				write(t, dir, LedgerFile, fmt.Appendf(nil, row+row+`{"summary":{"preference":{"acknowledged":60,"verified":58,"unknown":2}}}`+"\n", 1, 2))
			}},
		{name: "a write is lost, and more is wrong", verdict: DataLoss,
			change: func(m *Manifest, end *EndOfRun) { m.Objectives = hard; end.Reason = Interrupted },
			spoil: func(t *testing.T, dir string) {
				write(t, dir, LedgerFile, []byte(`{"kind":"preference","user":"u","key":"k","verdict":"lost"}`+"\n"))
			}},
		{name: "what was replaced is there again", verdict: DataLoss,
			spoil: func(t *testing.T, dir string) {
				write(t, dir, LedgerFile, []byte(`{"kind":"preference","user":"u","key":"k","verdict":"stale"}`+"\n"))
			}},
		{name: "all is there, but an op was answered otherwise", verdict: DataLoss,
			spoil: func(t *testing.T, dir string) {
				write(t, dir, LedgerFile, []byte(`{"saw":{"violation":"wrong_route"}}`+"\n"+`{"summary":{"preference":{"acknowledged":60,"verified":60}}}`+"\n"))
			}},
	} {
		m, end := testManifest(t), completed
		m.Objectives = easy
		if row.change != nil {
			row.change(&m, &end)
		}
		dir := t.TempDir()
		twoKills(t, dir, m, end)
		if row.spoil != nil {
			row.spoil(t, dir)
		}
		run := mustJudge(t, dir)
		if run.Verdict != row.verdict {
			t.Errorf("%s: verdict is %s, want %s: %q", row.name, run.Verdict, row.verdict, run.Reasons)
		}
		found := slices.ContainsFunc(run.Reasons, func(r string) bool { return strings.HasPrefix(r, row.reason) })
		if row.reason != "" && !found {
			t.Errorf("%s: reasons are %q, want %s", row.name, run.Reasons, row.reason)
		}
	}
}

func rewrite(t *testing.T, dir, name, old, with string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s does not hold %s: %v", name, old, err)
	}
	write(t, dir, name, []byte(strings.Replace(string(b), old, with, 1)))
}

func cut(t *testing.T, dir, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name, b[:len(b)-1])
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRunWithoutOpsIsInconclusive(t *testing.T) {
	dir := t.TempDir()
	rec, err := Create(dir, testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(completed); err != nil {
		t.Fatal(err)
	}
	run := mustJudge(t, dir)
	if run.Verdict != Inconclusive {
		t.Errorf("verdict is %s", run.Verdict)
	}
	for _, want := range []string{"objective mail flows has no events", "no message began, so that the generator's lag is not known"} {
		if !slices.Contains(run.Reasons, want) {
			t.Errorf("reasons are %q, want also %s", run.Reasons, want)
		}
	}
	golden.AssertBytes(t, encode(t, run), "empty.run.json")
}

func TestFaultThatWasNotPlannedIsReported(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	m.Faults = m.Faults[:1]
	twoKills(t, dir, m, completed)
	rewrite(t, dir, EventsFile, `"injected","fault":"f2","node":"data1"`, `"injected","fault":"f2","node":"data1","fields":{"kind":"by-hand"}`)
	f := mustJudge(t, dir).Faults[1]
	if f.ID != "f2" || f.Kind != "by-hand" || f.Target != "data1" || f.BadOps == 0 {
		t.Errorf("fault is %+v", f)
	}
}

func TestWindowIsOpenUntilTheRunEnds(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	rewrite(t, dir, EventsFile, `"redundant","fault":"f2"`, `"x","fault":"f2"`)
	f := mustJudge(t, dir).Faults[1]
	// 62 s − 30 s, less the 31 s with ops.
	if f.RedundantAtUS != nil || f.Spans.Redundant != nil || *f.Spans.Unmeasured != 1_000_000 {
		t.Errorf("fault is %+v", f)
	}
	if f.Budgets[1].Bad != 1 {
		t.Errorf("the slow op at 50 s is not charged to f2: %+v", f.Budgets)
	}
}

func TestExitCodes(t *testing.T) {
	for v, want := range map[Verdict]int{Pass: 0, Violated: 1, DataLoss: 3, Inconclusive: 4, "": 70} {
		if got := ExitCode(v); got != want {
			t.Errorf("%q exits with %d, want %d", v, got, want)
		}
	}
}

func TestPhasesFollowEachOther(t *testing.T) {
	tl := &timeline{}
	tl.phase(chaos.Event{At: 2 * sec, Name: "measure"})
	tl.phase(chaos.Event{At: 1 * sec, Name: "drain"}) // a clock that went wrong
	for at, want := range map[time.Duration]string{1 * sec: "none", 2 * sec: "drain"} {
		if got := tl.phaseName(tl.phaseAt(at)); got != want {
			t.Errorf("phase at %s is %q, want %q", at, got, want)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	dir := b.TempDir()
	rec, err := Create(dir, testManifest(b), Inputs{})
	if err != nil {
		b.Fatal(err)
	}
	rec.Event(step(10*sec, "f1", "sql1", chaos.StepInjected))
	samples := realistic(200_000)
	for i := range samples {
		rec.Record(&samples[i])
	}
	if err := rec.Close(completed); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		mustJudge(b, dir)
	}
	b.ReportMetric(float64(len(samples)*b.N)/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(len(samples)*b.N), "cpu-ns/sample")
}

// A message begins once, however often its address is routed.
func TestADeliveryIsNoNewMessage(t *testing.T) {
	dir := t.TempDir()
	r, err := Create(dir, Manifest{Objectives: []Objective{{Name: "all", TargetPPM: 990_000}}}, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	for message := range uint64(10) {
		at := time.Duration(message) * sec
		for _, o := range []reference.Operation{reference.Route, reference.CheckGreylist, reference.RouteDelivery} {
			s := op(message, o, 1, sql1, at, ms)
			r.Record(&s)
		}
	}
	r.Event(chaos.Event{At: 10 * sec, Kind: chaos.KindPhase, Name: "drain"})
	if err := r.Close(EndOfRun{At: 10 * sec, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	run, err := Judge(reader)
	if err != nil {
		t.Fatal(err)
	}
	if run.Trace.Started != 10 || run.OfferedPerSecond.String() != "1.000000" || run.Trace.OpsPerMessage.String() != "3.000000" {
		t.Errorf("started %d, %s a second, %s ops a message; want 10, 1, 3", run.Trace.Started, run.OfferedPerSecond, run.Trace.OpsPerMessage)
	}
	if run.Paths["routing"].Count != 20 {
		t.Errorf("%d ops on the path routing, want 20", run.Paths["routing"].Count)
	}
}

// A run whose ops were all answered in time, some of them wrongly, and some of
// which were never asked.
func TestWrongAnswersAreBad(t *testing.T) {
	dir := t.TempDir()
	r, err := Create(dir, Manifest{Objectives: []Objective{{Name: "routing", Path: "routing", TargetPPM: 900_000}}}, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	for i, o := range []struct {
		operation reference.Operation
		answer    uint8
	}{
		{reference.Route, uint8(routing.Unknown)}, // a guessed address: right
		{reference.Route, uint8(routing.Local)},
		{reference.Route, uint8(routing.Foreign)}, // the domain's row is gone: wrong
		{reference.RouteDelivery, uint8(routing.Local)},
		{reference.RouteDelivery, uint8(routing.Unknown)}, // accepted a moment ago: wrong
		{reference.RouteDelivery, uint8(routing.Foreign)}, // as well
		{reference.ReadPreferences, uint8(preferences.Found)},
		{reference.ReadPreferences, uint8(preferences.Empty)}, // every account has some: wrong
	} {
		s := op(uint64(i), o.operation, o.answer, sql1, time.Duration(i)*sec, ms)
		r.Record(&s)
	}
	end := EndOfRun{At: 10 * sec, Reason: Completed, ReplayEnd: ReplayEnd{CutShort: 2, Waited: 3, ChecksNotAsked: 4, SavesNotAsked: 5, ChangesNotAsked: 6}}
	if err := r.Close(end); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	run, err := Judge(reader)
	if err != nil {
		t.Fatal(err)
	}
	if run.Paths["routing"].Wrong != 3 || run.Paths["preferences"].Wrong != 1 || run.BadOps != 4 {
		t.Errorf("wrong on routing %d, on preferences %d, bad %d; want 3, 1, 4",
			run.Paths["routing"].Wrong, run.Paths["preferences"].Wrong, run.BadOps)
	}
	if o := run.Objectives[0]; o.Good != 3 || o.Bad != 3 {
		t.Errorf("objective: %d good, %d bad; want 3, 3", o.Good, o.Bad)
	}
	if run.End.ReplayEnd != end.ReplayEnd {
		t.Errorf("the end says %+v, want %+v", run.End.ReplayEnd, end.ReplayEnd)
	}
	if !strings.Contains(strings.Join(run.Reasons, "; "), "2 messages, webmail actions or account jobs were still under way") {
		t.Errorf("sessions were cut short, and the reasons are %q", run.Reasons)
	}
}

// TestAccountsShowWhereAsked: a run in which no account was changed says nothing
// of the path, so that it reads as it did before there was one.
func TestAccountsShowWhereAsked(t *testing.T) {
	for _, row := range []struct {
		sentence string
		answers  []accounts.Verdict
		shown    bool
		reason   bool // acknowledged writes were not read back
	}{
		{"without a change the path is not there", nil, false, false},
		{"a refusal is an op, and acknowledges nothing", []accounts.Verdict{accounts.BadState}, true, false},
		{"a change must be read back", []accounts.Verdict{accounts.Changed}, true, true},
	} {
		dir := t.TempDir()
		r, err := Create(dir, Manifest{Objectives: []Objective{{Name: "routing", Path: "routing", TargetPPM: 900_000}}}, Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
		s := op(0, reference.Route, uint8(routing.Local), sql1, 0, ms)
		r.Record(&s)
		for i, answer := range row.answers {
			s := op(uint64(i), reference.ChangeAccount, uint8(answer), sql1, sec, ms)
			r.Record(&s)
		}
		if err := r.Close(EndOfRun{At: 10 * sec, Reason: Completed}); err != nil {
			t.Fatal(err)
		}
		reader, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		run, err := Judge(reader)
		if err != nil {
			t.Fatal(err)
		}
		path, shown := run.Paths["accounts"]
		if shown != row.shown || path.OK != int64(len(row.answers)) {
			t.Errorf("%s: shown %t, %+v", row.sentence, shown, path)
		}
		if got := strings.Contains(strings.Join(run.Reasons, "; "), "were not read back"); got != row.reason {
			t.Errorf("%s: the reasons are %q", row.sentence, run.Reasons)
		}
	}
}

// TestBadMinuteShowsInALongRun: a second in which the generator stands still is
// less than a thousandth of half an hour, and spoils a minute.
func TestBadMinuteShowsInALongRun(t *testing.T) {
	for _, row := range []struct {
		sentence            string
		length              time.Duration // of the load
		stall               time.Duration // when it begins
		drained             bool          // the load's end is recorded
		whole, minute, from int64
	}{
		{"in half an hour", 30 * time.Minute, 700 * sec, true, 100, 30_000, 660},
		{"in what is left after the last whole minute", 30*time.Minute + 59*sec, 30*time.Minute + 30*sec, true, 100, 30_000, 29 * 60},
		{"without an end", 30*time.Minute + 59*sec, 30*time.Minute + 30*sec, false, 100, 30_000, 30 * 60},
		{"in less than a minute", 50 * sec, 3 * sec, true, 30_000, 30_000, 0},
	} {
		dir := t.TempDir()
		m := testManifest(t)
		m.Faults, m.Objectives = nil, []Objective{{Name: "all", TargetPPM: 900_000}}
		r, err := Create(dir, m, Inputs{})
		if err != nil {
			t.Fatal(err)
		}
		const first = 5 * sec
		r.Event(chaos.Event{At: first, Kind: chaos.KindPhase, Name: "measure"})
		message := uint64(0)
		for at := time.Duration(0); at < row.length; at += 10 * ms {
			lag := 100 * time.Microsecond
			if at >= row.stall && at < row.stall+sec {
				lag = 30 * ms
			}
			s := op(message, reference.Route, uint8(routing.Local), sql1, first+at, 50*ms)
			s.Attempts[0].Dispatched = s.Intended + lag
			r.Record(&s)
			message++
		}
		if row.drained {
			r.Event(chaos.Event{At: first + row.length, Kind: chaos.KindPhase, Name: "drain"})
		}
		if err := r.Close(EndOfRun{At: first + row.length, Reason: Completed}); err != nil {
			t.Fatal(err)
		}
		run := mustJudge(t, dir)
		g := run.Generator
		if !near(*g.LagP999US, row.whole) || !near(*g.LagMinuteP999US, row.minute) || *g.LagMinuteFromUS != (5+row.from)*million {
			t.Errorf("%s: lag is %d µs, in the worst minute %d µs, from %d µs on", row.sentence, *g.LagP999US, *g.LagMinuteP999US, *g.LagMinuteFromUS)
		}
		if row.whole < row.minute {
			want := fmt.Sprintf("the generator fell behind for a while: in the minute from %d s on, 99.9 %% of messages began within ", 5+row.from)
			if run.Verdict != Inconclusive || !strings.HasPrefix(run.Reasons[0], want) {
				t.Errorf("%s: %s, %q", row.sentence, run.Verdict, run.Reasons)
			}
		}
	}
}

// near allows for three significant digits.
func near(got, want int64) bool { return got >= want && got <= want+want/1000 }

func TestNoiseIsOfTheLoad(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{At: 0, Kind: chaos.KindPhase, Name: "measure"})
	r.Event(chaos.Event{At: 150 * sec, Kind: chaos.KindPhase, Name: "drain"})
	steal, machine := int64(500_000_000), int64(900_000_000) // since the machine's start
	for at := -2 * sec; at < 200*sec; at += sec {
		n := Noise{SchedP999US: 10, GCPauseMaxUS: 20, ClockStepUS: 1}
		switch {
		case at <= 0 || at > 151*sec:
			n = Noise{SchedP999US: 9000, GCPauseMaxUS: 9000, ClockStepUS: 9000}
			steal += 1_000_000
		case at > 60*sec && at <= 120*sec: // the first half of the last minute, which has 30 s more
			steal += 90_000
		case at == 30*sec:
			n.SchedP999US, n.GCPauseMaxUS, n.ClockStepUS = 11, 21, -31
		}
		machine += 2_000_000
		n.StealUS, n.MachineUS = steal, machine
		r.Counter(CounterRow{AtUS: at.Microseconds(), Noise: &n})
	}
	if err := r.Close(EndOfRun{At: 201 * sec, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
	g := mustJudge(t, dir).Generator
	if *g.SchedP999US != 11 || *g.GCPauseMaxUS != 21 || *g.ClockStepUS != 31 {
		t.Errorf("noise is %d, %d, %d; want 11, 21, 31", *g.SchedP999US, *g.GCPauseMaxUS, *g.ClockStepUS)
	}
	// 60 s with 90 ms of 2 s each, in 91 s: the row after the load's end counts.
	if g.Steal.String() != "0.029670" || *g.StealFromUS != 60*million {
		t.Errorf("steal is %s from %d µs on", g.Steal, *g.StealFromUS)
	}
}
