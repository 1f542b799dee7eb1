package results

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/workload"
)

// The slices of slowDeath, a second each, from 1 s to 25 s, without 17 s.
func TestSlicesOfTime(t *testing.T) {
	dir := t.TempDir()
	slowDeath(t, dir, []Objective{
		{Name: "half of it answered", TargetPPM: 800_000, SliceUS: million, SliceTargetPPM: 500_000},
		{Name: "all of it answered", TargetPPM: 800_000, SliceUS: million, SliceTargetPPM: million},
		{Name: "all of it in time", TargetPPM: 800_000, SliceUS: million, SliceTargetPPM: million, LatencyUS: 100_000},
		{Name: "two seconds", TargetPPM: 800_000, SliceUS: 2 * million, SliceTargetPPM: 990_000},
		{Name: "webmail", Path: "preferences", TargetPPM: 800_000, SliceUS: million, SliceTargetPPM: 500_000},
	})
	run := mustJudge(t, dir)
	for i, want := range []string{
		"half of it answered: 22+1=23 slices, spent 0.217391 pass, f1 1, met 1000000",   // 10 s
		"all of it answered: 20+3=23 slices, spent 0.652174 pass, f1 3, met 2500000",    // 10 to 12 s
		"all of it in time: 18+5=23 slices, spent 1.086957 violated, f1 5, met 9300000", // and 13 s, which has slow ones only; 19 s
		"two seconds: 10+2=12 slices, spent 0.833333 pass, f1 2, met 2500000",
		"webmail: 0+0=0 slices, spent 0.000000 inconclusive, f1 0, met 0",
	} {
		o, f := run.Objectives[i], run.Faults[0]
		got := fmt.Sprintf("%s: %d+%d=%d %s, spent %s %s, f1 %d, met %d", o.Name, o.Good, o.Bad, o.Total, o.Events, o.BudgetSpent, o.Verdict, f.Budgets[i].Bad, *f.ToObjective[o.Name])
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A slice is charged to the fault of its bad ops, not to what else it meets.
func TestASliceIsChargedOnce(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	m.Faults, m.Objectives = nil, []Objective{{Name: "seconds", TargetPPM: 500_000, SliceUS: million, SliceTargetPPM: 900_000}}
	r, err := Create(dir, m, Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	r.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	for id, window := range map[string][2]time.Duration{"f1": {2500 * ms, 5 * sec}, "f2": {3 * sec, 4 * sec}} {
		r.Event(step(window[0], id, "sql1", chaos.StepInjected))
		r.Event(step(window[1], id, "sql1", chaos.StepRedundant))
	}
	for i, o := range []struct{ at, took time.Duration }{
		{100 * ms, ms},                   // background
		{1900 * ms, 900 * ms},            // still under way when f1 was injected
		{2100 * ms, ms},                  // background, in the same second as the next
		{2600 * ms, ms},                  // f1
		{3100 * ms, ms}, {3200 * ms, ms}, // f2, which came later
		{4500 * ms, ms}, // f1
		{9100 * ms, ms}, // background
	} {
		s := op(uint64(i), reference.Route, 0, sql1, o.at, o.took)
		s.Outcome = workload.Failed
		r.Record(&s)
	}
	if err := r.Close(EndOfRun{At: 10 * sec, Reason: Completed}); err != nil {
		t.Fatal(err)
	}
	run := mustJudge(t, dir)
	got := map[string]int64{"background": run.Background.Budgets[0].Bad, "all": run.Objectives[0].Bad}
	for _, f := range run.Faults {
		got[f.ID] = f.Budgets[0].Bad
	}
	if want := map[string]int64{"background": 2, "f1": 3, "f2": 1, "all": 6}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("slices are charged %v, want %v", got, want)
	}
}

// alerted runs the rules over seconds of an event each, of which those from one to
// another are bad.
func alerted(seconds int64, bad ...[2]int64) *judge {
	j := &judge{timeline: &timeline{}, objectives: make([]objectiveCounts, 1)}
	at := time.Duration(0)
	j.timeline.measureFrom = &at
	for second := range seconds {
		good := true
		for _, b := range bad {
			good = good && (second < b[0] || second >= b[1])
		}
		j.objectives[0].count(good, second)
	}
	return j
}

func TestAlerts(t *testing.T) {
	for _, row := range []struct {
		sentence  string
		seconds   int64
		bad       [2]int64
		objective Objective
		want      string
	}{
		{"nothing happened", 600, [2]int64{}, Objective{TargetPPM: 999_000}, ""},
		{"51 s of an hour are 1.417 %, less than 14.4 times 0.1 %", 600, [2]int64{100, 151}, Objective{TargetPPM: 999_000}, ""},
		// 52 of 3600 are 1.444 %. Of the five minutes 5 s are 1.667 %, and 4 s are 1.333 %.
		{"53 s are above it: a page after 52 s, until no more than 4 of them are in the last five minutes", 600, [2]int64{100, 153}, Objective{TargetPPM: 999_000},
			"fast burn page 152..449"},
		// 130 of 21600 are 0.602 %; 10 of 1800 are 0.556 %, 11 are 0.611 %.
		{"longer: the slower page too", 600, [2]int64{100, 300}, Objective{TargetPPM: 999_000},
			"fast burn page 152..596; slow burn page 230..2090"},
		{"an error budget ten times larger", 600, [2]int64{100, 300}, Objective{TargetPPM: 990_000}, ""},
		// 2 of 120 are 1.667 %; 3 of 720 are less than 0.6 %, and 5 are not.
		{"a budget of a day has windows of 2 minutes and 10 s", 600, [2]int64{100, 103}, Objective{TargetPPM: 999_000, WindowDays: 1},
			"fast burn page 102..113"},
		{"and of 12 minutes and one", 600, [2]int64{100, 105}, Objective{TargetPPM: 999_000, WindowDays: 1},
			"fast burn page 102..115; slow burn page 105..165"},
		{"no budget: every bad event pages until it has left the short window", 600, [2]int64{100, 101}, Objective{TargetPPM: million},
			"fast burn page 101..401; slow burn page 101..1901; creeping burn ticket 101..21701"},
	} {
		var bad [][2]int64
		if row.bad[1] > 0 {
			bad = append(bad, row.bad)
		}
		j := alerted(row.seconds, bad...)
		j.objectives[0].Objective = row.objective
		var got []string
		for _, a := range j.alerts(0) {
			for _, f := range a.Fired {
				got = append(got, fmt.Sprintf("%s %s %d..%d", a.Name, a.Severity, f.AtUS/million, f.ResetUS/million))
			}
		}
		if strings.Join(got, "; ") != row.want {
			t.Errorf("%s: got %s, want %s", row.sentence, strings.Join(got, "; "), row.want)
		}
	}
}

// An alert tells which fault it came after.
func TestAlertNamesTheFault(t *testing.T) {
	j := alerted(600, [2]int64{100, 200})
	j.objectives[0].Objective = Objective{TargetPPM: 999_000}
	injected := 95 * sec
	j.timeline.faults = []*fault{{id: "f1", injected: &injected}}
	j.timeline.index()
	f := j.alerts(0)[0].Fired[0]
	if f.Fault != "f1" || *f.AfterUS != 57*million {
		t.Errorf("fired %+v after %d µs; want after f1, 57 s", f, *f.AfterUS)
	}
}

// A window shorter than a slice says nothing.
func TestAlertsOfSlices(t *testing.T) {
	j := alerted(600)
	for slice, want := range map[int64]int{10 * million: 3, 300 * million: 3, 301 * million: 2, 3600 * million: 1} {
		j.objectives[0].Objective = Objective{TargetPPM: 999_000, SliceUS: slice, SliceTargetPPM: million}
		if got := len(j.alerts(0)); got != want {
			t.Errorf("slices of %d µs have %d alerts, want %d", slice, got, want)
		}
	}
}

// Against the rule as it is written, second by second, with fractions.
func TestAlertsAreTheRule(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 8))
	for range 100 {
		n := 1 + rnd.Int64N(60)
		var seconds sparse[flow]
		totals, bads := make([]int64, n), make([]int64, n)
		var all int64
		for s := range n {
			totals[s] = rnd.Int64N(4)
			if s == n-1 || s == 0 {
				totals[s] = 3
			}
			bads[s] = rnd.Int64N(totals[s] + 1)
			if rnd.IntN(2) == 0 {
				bads[s] = 0
			}
			all += totals[s]
			*seconds.at(s) = flow{uint32(totals[s]), uint32(bads[s])}
		}
		target := []int64{900_000, 990_000, 999_000}[rnd.IntN(3)]
		long, tenths := 1+rnd.Int64N(40), 10+rnd.Int64N(200)
		short := max(1, long/12)
		burns := func(to, length int64) bool {
			total, bad := new(big.Rat), new(big.Rat)
			for s := to - length; s < to; s++ {
				if s < 0 || s >= n {
					total.Add(total, big.NewRat(all, n))
				} else {
					total.Add(total, big.NewRat(totals[s], 1))
					bad.Add(bad, big.NewRat(bads[s], 1))
				}
			}
			if total.Sign() == 0 {
				return false
			}
			allowed := new(big.Rat).Mul(big.NewRat(tenths, 10), big.NewRat(million-target, million))
			return bad.Quo(bad, total).Cmp(allowed) > 0
		}
		var want [][2]int64
		firing := false
		for to := int64(1); to <= n+short+100; to++ {
			now := burns(to, long) && burns(to, short)
			if now && !firing {
				want = append(want, [2]int64{to, to})
			}
			if !now && firing {
				want[len(want)-1][1] = to
			}
			firing = now
		}
		if got := cumulate(&seconds).firings(long, short, tenths, target); !slices.Equal(got, want) {
			t.Fatalf("%v of %v, windows %d and %d, %d tenths of %d: fired %v, want %v", bads, totals, long, short, tenths, target, got, want)
		}
	}
}

// A run of 1000 s at speed 10 with 100 events a second, of which a fault, made
// twice, spoiled 2000 + 4000, and the background 500.
func TestProjection(t *testing.T) {
	zero, thousand := time.Duration(0), 1000*sec
	half := int64(500)
	make := func(o Objective) *judge {
		j := &judge{
			manifest: Manifest{Speed: 10, Trace: Trace{MessagesPerDay: 4_000_000}, Faults: []PlannedFault{
				{ID: "f1", Entry: 1, RateMilli: &half}, {ID: "f2", Entry: 1, RateMilli: &half}, {ID: "f3", Entry: 2},
			}},
			timeline: &timeline{
				measureFrom: &zero, measureTo: &thousand,
				faults: []*fault{{id: "f1", kind: "kill", target: "data1", injected: &zero}, {id: "f2", kind: "kill", target: "data2", injected: &zero}, {id: "f3"}},
			},
			started:    50_000, // two ops a message
			objectives: []objectiveCounts{{Objective: o, good: 93_500, bad: 6500}},
		}
		for _, bad := range []int64{2000, 4000, 0, 500} {
			j.charges = append(j.charges, &faultCounts{bad: []int64{bad}})
		}
		return j
	}
	words := func(p *Projection) string {
		spent := "null"
		if p.Day.BudgetSpent != nil {
			spent = p.ThirtyDays.BudgetSpent.String()
		}
		var faults []string
		for _, f := range p.Faults {
			faults = append(faults, fmt.Sprintf("%s ×%d, %s in 30 d, %d ms, %v of a day, %v of 30", f.Fault, f.Times, f.PerThirtyDays, f.OutageUS/1000, f.DayBudget, f.ThirtyDaysBudget))
		}
		return fmt.Sprintf("day: %s events, %s allowed, %s + %s bad; 30: %s + %s of %s, spent %s; %s", p.Day.Events, p.Day.Budget, p.Day.Background, p.Day.Faults,
			p.ThirtyDays.Background, p.ThirtyDays.Faults, p.ThirtyDays.Budget, spent, strings.Join(faults, "; "))
	}
	for _, row := range []struct {
		sentence  string
		objective Objective
		want      string
	}{
		// 3000 of 100 a second are 30 s of outage; of 86400 s 1 % are 864 s: 3.4722 %. 8 million ops
		// a day; 0.5 % of them are the background's 40,000, and 30/86400/60 of them the faults'.
		{"ops: two a message, 8 million a day", Objective{TargetPPM: 990_000},
			"day: 8000000.000000 events, 80000.000000 allowed, 40000.000000 + 46.296296 bad; 30: 1200000.000000 + 1388.888889 of 2400000.000000, spent 0.500579; " +
				"kill data1 ×2, 0.500000 in 30 d, 30000 ms, 0.034722 of a day, 0.001157 of 30"},
		{"without a budget there is nothing to spend", Objective{TargetPPM: million},
			"day: 8000000.000000 events, 0.000000 allowed, 40000.000000 + 46.296296 bad; 30: 1200000.000000 + 1388.888889 of 0.000000, spent null; " +
				"kill data1 ×2, 0.500000 in 30 d, 30000 ms, <nil> of a day, <nil> of 30"},
		// 3000 slices of 10 ms would be 30 s, too; here they are 10 s each.
		{"slices are time of their own", Objective{TargetPPM: 990_000, SliceUS: 10 * million, SliceTargetPPM: million},
			"day: 8640.000000 events, 86.400000 allowed, 43.200000 + 50.000000 bad; 30: 1296.000000 + 1500.000000 of 2592.000000, spent 1.078704; " +
				"kill data1 ×2, 0.500000 in 30 d, 30000000 ms, 34.722222 of a day, 1.157407 of 30"},
	} {
		if got := words(make(row.objective).project(0)); got != row.want {
			t.Errorf("%s:\ngot  %s\nwant %s", row.sentence, got, row.want)
		}
	}
	imported := make(Objective{TargetPPM: 990_000})
	imported.manifest.Trace.MessagesPerDay = 0
	if got := imported.project(0).Day.Events.String(); got != "864000.000000" { // 10 of virtual time a second
		t.Errorf("an imported trace has %s events a day, want what it had in its virtual time", got)
	}
	empty := make(Objective{})
	empty.objectives[0].good, empty.objectives[0].bad = 0, 0
	if empty.project(0) != nil {
		t.Error("no events, and a projection")
	}
}

func TestMail(t *testing.T) {
	const defers, accepts = 0, 1 // clients
	type o struct {
		message   uint64
		recipient uint16
		try       uint16
		operation reference.Operation
		client    uint8
		outcome   workload.Outcome
		answer    uint8
	}
	local, fresh := uint8(routing.Local), uint8(greylist.New)
	for _, row := range []struct {
		sentence string
		ops      []o
		want     Mail
	}{
		{"answered", []o{{1, 0, 0, reference.Route, 0, workload.OK, local}, {1, 0, 0, reference.CheckGreylist, 0, workload.Retried, fresh}}, Mail{}},
		{"put off, and not seen again", []o{{1, 0, 0, reference.Route, 0, workload.Failed, 0}}, Mail{Deferred: 1, LostAtMost: 1}},
		{"put off, and come back", []o{{1, 0, 0, reference.Route, 0, workload.Failed, 0}, {1, 0, 1, reference.Route, 0, workload.OK, local}}, Mail{Deferred: 1}},
		{"put off twice is one message", []o{{1, 0, 0, reference.Route, 0, workload.Failed, 0}, {1, 0, 1, reference.Route, 0, workload.Unknown, 0}}, Mail{Deferred: 1, LostAtMost: 1}},
		{"two recipients are one message", []o{{1, 0, 0, reference.Route, 0, workload.Failed, 0}, {1, 1, 0, reference.Route, 0, workload.Failed, 0}}, Mail{Deferred: 1, LostAtMost: 1}},
		{"one of them came back", []o{{1, 0, 0, reference.Route, 0, workload.Failed, 0}, {1, 1, 0, reference.Route, 0, workload.Failed, 0}, {1, 0, 1, reference.Route, 0, workload.OK, local}}, Mail{Deferred: 1, LostAtMost: 1}},
		{"the greylist did not answer, and the client defers", []o{{1, 0, 0, reference.CheckGreylist, defers, workload.Failed, 0}, {2, 0, 0, reference.CheckGreylist, defers, workload.Unknown, 0}}, Mail{Deferred: 2, LostAtMost: 2}},
		{"the client accepts", []o{{1, 0, 0, reference.CheckGreylist, accepts, workload.Degraded, 0}, {2, 0, 0, reference.CheckGreylist, accepts, workload.Unknown, 0}}, Mail{Ungreylisted: 2}},
		{"a delivery that waits in our queue is not lost", []o{{1, 0, 0, reference.RouteDelivery, 0, workload.Failed, 0}}, Mail{Deferred: 1}},
		{"a domain of ours called foreign, and an address that ceased to be", []o{{1, 0, 0, reference.Route, 0, workload.OK, uint8(routing.Foreign)}, {2, 0, 0, reference.RouteDelivery, 0, workload.OK, uint8(routing.Unknown)}}, Mail{Misrouted: 2}},
		{"webmail is no mail", []o{{1, 0, 0, reference.ReadPreferences, 0, workload.Degraded, 0}, {2, 0, 0, reference.SetPreference, 0, workload.Failed, 0}}, Mail{}},
	} {
		m := newMail([]Client{{GreylistFallback: "defer"}, {GreylistFallback: "accept"}})
		c := newFaultCounts(0)
		for i, o := range row.ops {
			s := op(o.message, o.operation, o.answer, sql1, time.Duration(i)*sec, ms)
			s.Recipient, s.Try, s.Client, s.Outcome = o.recipient, o.try, o.client, o.outcome
			m.add(&s, int64(i), c, 0)
		}
		m.finish([]*faultCounts{c})
		if m.counts.Mail != row.want || c.mail != row.want {
			t.Errorf("%s: %+v, charged %+v, want %+v", row.sentence, m.counts.Mail, c.mail, row.want)
		}
	}
}

func TestBurnDown(t *testing.T) {
	dir := t.TempDir()
	slowDeath(t, dir, []Objective{{Name: "answers", TargetPPM: 900_000}, {Name: "put off", TargetPPM: 900_000, Metric: MetricDeferred}})
	_, b, err := JudgeBudget(open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	// 2300 ops from 1 s on: 230 may be bad. 100 from 10 s, then 50, then 25. From 12.5 s on
	// ops take 150 ms, so that the last 15 of a second end in the next.
	d := b.Objectives[0]
	got := fmt.Sprint(b.FromUS, b.StepUS, len(d.Bad), d.Budget, d.Bad[8:13], d.Total[8:13], d.Spent[8], d.Spent[9], d.Spent[23])
	if want := "1000000 1000000 24 230.000000 [0 100 150 175 175] [900 1000 1100 1185 1285] 0.000000 0.434783 0.760870"; got != want {
		t.Errorf("burned down %s, want %s", got, want)
	}
	if m := b.Objectives[1]; m.Events != "messages" || m.Bad[23] != 175 || m.Total[23] != 2300 {
		t.Errorf("messages burned down to %d of %d %s, want 175 of 2300", m.Bad[23], m.Total[23], m.Events)
	}
}
