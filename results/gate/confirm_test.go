package gate

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
)

// TestConfirm: only what is found twice stays a regression, and only what can be
// measured again is cleared.
func TestConfirm(t *testing.T) {
	p := new(results.Decimal)
	latency := func(v compare.Verdict, p *results.Decimal) compare.Comparison {
		return compare.Comparison{Finding: compare.Finding{Verdict: v}, Series: "routing", Statistic: "p99", P: p}
	}
	fault := func(v compare.Verdict) compare.FaultComparison {
		return compare.FaultComparison{Finding: compare.Finding{Verdict: v}, Kind: "kill data2", Measure: "outage_us", P: p}
	}
	counter := compare.CounterChange{Finding: compare.Finding{Verdict: compare.Regression}, Decision: "greylist/new"}
	for _, row := range []struct {
		sentence     string
		first, again Report
		verdict      compare.Verdict
		cleared      []string
	}{
		{"a latency that is found again", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}}, compare.Regression, nil},
		{"one that is not", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p), {Finding: compare.Finding{Verdict: compare.NoDifference}, Series: "greylist", Statistic: "p50"}}},
			Report{Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.NoDifference, []string{"routing p99"}},
		{"one that could not be compared again stays", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.Inconclusive, nil)}}, compare.Regression, nil},
		{"one that is not there again stays", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}}, Report{}, compare.Regression, nil},
		{"nothing but what was cleared is no pass", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.Inconclusive, []string{"routing p99"}},
		{"one that the second cannot tell of holds up a pass", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p), {Finding: compare.Finding{Verdict: compare.NoDifference}, Series: "greylist", Statistic: "p50"}}},
			Report{Interleaved: []compare.Comparison{latency(compare.Inconclusive, p)}}, compare.Inconclusive, nil},
		{"a second measurement that is not to be relied upon clears nothing", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Reasons: []string{"the generator was late"}, Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.Regression, nil},
		{"a fault's cost", Report{Faults: []compare.FaultComparison{fault(compare.Regression)}, Counters: []compare.CounterChange{{Finding: compare.Finding{Verdict: compare.NoDifference}}}},
			Report{Faults: []compare.FaultComparison{fault(compare.NoDifference)}}, compare.NoDifference, []string{"kill data2 outage_us"}},
		{"what is new is none of its business", Report{Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}}, compare.NoDifference, nil},
		{"an exact counter stays", Report{Counters: []compare.CounterChange{counter}}, Report{}, compare.Regression, nil},
		{"a lost write stays", Report{LostWrites: 1, Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.DataLoss, []string{"routing p99"}},
		{"a write that is lost the second time counts", Report{Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{LostWrites: 2, Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.DataLoss, []string{"routing p99"}},
		{"a reason stays one", Report{Reasons: []string{"the generator was late"}, Interleaved: []compare.Comparison{latency(compare.Regression, p)}},
			Report{Interleaved: []compare.Comparison{latency(compare.NoDifference, p)}}, compare.Inconclusive, []string{"routing p99"}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			r := row.first
			r.Confirm(&row.again)
			if c := r.Confirmation; r.Verdict != row.verdict || !slices.Equal(c.Cleared, row.cleared) {
				t.Errorf("the verdict is %s, %+v; want %s, cleared %q", r.Verdict, c, row.verdict, row.cleared)
			}
		})
	}
}

func TestAlarmsAreWhatCanBeMeasuredAgain(t *testing.T) {
	worse := compare.Finding{Verdict: compare.Regression}
	r := Report{
		Interleaved: []compare.Comparison{{Finding: worse, Series: "routing", Statistic: "p99"}, {Finding: worse, Series: "greylist", Statistic: "p99"}, {Series: "greylist", Statistic: "p50"}},
		Faults:      []compare.FaultComparison{{Finding: worse, Kind: "kill data2", Measure: "outage_us"}, {Kind: "kill sql1", Measure: "outage_us"}},
	}
	interleaved, faults := r.Alarms()
	if !reflect.DeepEqual(interleaved, []string{"p99"}) || !reflect.DeepEqual(faults, []string{"kill data2 outage_us"}) {
		t.Errorf("got %q and %q", interleaved, faults)
	}
	for what, stands := range map[string]Report{
		"a lost write": {LostWrites: 1, Interleaved: r.Interleaved}, "a counter": {Counters: []compare.CounterChange{{Finding: worse}}, Faults: r.Faults},
	} {
		if interleaved, faults := stands.Alarms(); len(interleaved)+len(faults) > 0 {
			t.Errorf("beside %s %q and %q are measured again, which changes nothing", what, interleaved, faults)
		}
	}
}

// TestFewOpsBearNoPass: what so few ops cannot tell is left open, by their number
// alone, and a comparison of nothing else passes nothing.
func TestFewOpsBearNoPass(t *testing.T) {
	open := func(path, statistic string, ops int64) compare.Comparison {
		return compare.Comparison{Finding: compare.Finding{Verdict: compare.Inconclusive}, Series: path, Statistic: statistic, SamplesA: ops, SamplesB: ops + 5}
	}
	r := Report{Interleaved: []compare.Comparison{
		open("routing", "p50", 50_000), open("routing", "p99", 50_000), open("routing", "p99.9", 50_000), open("routing", "bad_share", 50_000),
		open("preferences", "p50", 799), open("preferences", "bad_share", 799),
	}}
	r.bearing()
	var optional []string
	for _, c := range r.Interleaved {
		if c.Optional {
			optional = append(optional, c.Series+" "+c.Statistic)
		}
	}
	if got := strings.Join(optional, ", "); got != "routing p99.9, preferences p50, preferences bad_share" || len(r.Reasons) > 0 {
		t.Errorf("optional are %s, reasons %q", got, r.Reasons)
	}
	r = Report{Interleaved: []compare.Comparison{open("preferences", "p50", 799)}}
	if r.bearing(); len(r.Reasons) != 1 || r.verdict() != compare.Inconclusive {
		t.Errorf("a path that was hardly asked passes: %q, %s", r.Reasons, r.verdict())
	}
}
