package compare

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestCounters(t *testing.T) {
	one := func(name string, n int64) Costs { return Costs{"greylist/new": {name: n}} }
	noisy := map[string]Tolerance{"bytes": {Permille: 20, Absolute: 5}}
	for _, row := range []struct {
		sentence        string
		base, candidate Costs
		noisy           map[string]Tolerance
		change          Change
		verdict         Verdict
	}{
		{"as many as before", one("scans", 2), one("scans", 2), nil, Same, NoDifference},
		{"one round trip more is one too many", one("scans", 2), one("scans", 3), nil, Increased, Regression},
		{"from none to one, too", one("scans", 0), one("scans", 1), nil, Increased, Regression},
		{"one less is better", one("scans", 2), one("scans", 1), nil, Decreased, Improvement},
		{"a noisy one at its tolerance of 2 % and 5", one("bytes", 1000), one("bytes", 1025), noisy, Tolerated, NoDifference},
		{"a noisy one past it", one("bytes", 1000), one("bytes", 1026), noisy, Increased, Regression},
		{"a noisy one a little lower", one("bytes", 1000), one("bytes", 975), noisy, Decreased, NoDifference},
		{"a noisy one much lower", one("bytes", 1000), one("bytes", 974), noisy, Decreased, Improvement},
		{"a counter that went missing", one("scans", 2), Costs{"greylist/new": {}}, nil, Missing, Inconclusive},
		{"a decision that went missing", one("scans", 2), Costs{}, nil, Missing, Inconclusive},
		{"a new counter", Costs{}, one("scans", 0), nil, New, Inconclusive},
		{"no overflow of the largest", one("bytes", 1<<62), one("bytes", 1<<63-1), noisy, Increased, Regression},
	} {
		got, err := Counters(row.base, row.candidate, row.noisy)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", row.sentence, got, err)
		}
		if c := got[0]; c.Change != row.change || c.Verdict != row.verdict || c.Decision != "greylist/new" {
			t.Errorf("%s: %+v, want %s, %s", row.sentence, c, row.change, row.verdict)
		}
	}
}

func TestCountersAreNamedInOrder(t *testing.T) {
	got, err := Counters(
		Costs{"b": {"y": 1, "x": 1}, "a": {"z": 1}},
		Costs{"b": {"y": 1, "x": 2}, "c": {"x": 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var findings []Finding
	for _, c := range got {
		names = append(names, c.Decision+"/"+c.Counter+" "+string(c.Change))
		findings = append(findings, c.Finding)
	}
	want := []string{"a/z missing", "b/x increased", "b/y same", "c/x new"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if v := Overall(findings); v != Regression {
		t.Errorf("together they are %s", v)
	}
}

func TestCountersRefuse(t *testing.T) {
	for _, row := range []struct {
		sentence string
		base     Costs
		noisy    map[string]Tolerance
		want     string
	}{
		{"a counter below 0", Costs{"d": {"x": -1}}, nil, "x of d is -1 in the base"},
		{"a tolerance for nothing", Costs{"d": {"x": 1}}, map[string]Tolerance{"xs": {}}, `"xs", which was not counted; there are x`},
		{"a tolerance below 0", Costs{"d": {"x": 1}}, map[string]Tolerance{"x": {Permille: -1}}, "must not be below 0"},
	} {
		if _, err := Counters(row.base, row.base, row.noisy); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
}

func TestOverall(t *testing.T) {
	f := func(v ...Verdict) []Finding {
		var all []Finding
		for _, v := range v {
			all = append(all, Finding{Verdict: v})
		}
		return all
	}
	for _, row := range []struct {
		sentence string
		findings []Finding
		want     Verdict
		run      string
	}{
		{"nothing was compared", nil, Inconclusive, "inconclusive"},
		{"all alike", f(NoDifference, NoDifference), NoDifference, "pass"},
		{"one is better", f(NoDifference, Improvement), Improvement, "pass"},
		{"one could not be told", f(NoDifference, Inconclusive, Improvement), Inconclusive, "inconclusive"},
		{"one is worse, whatever else could not be told", f(Inconclusive, Regression, Improvement), Regression, "violated"},
		{"a write is lost", f(Regression, DataLoss), DataLoss, "data_loss"},
		{"an optional one could not be told", append(f(NoDifference), Finding{Verdict: Inconclusive, Optional: true}), NoDifference, "pass"},
		{"an optional one is worse", append(f(NoDifference), Finding{Verdict: Regression, Optional: true}), Regression, "violated"},
		{"only optional ones, which could not be told", []Finding{{Verdict: Inconclusive, Optional: true}}, Inconclusive, "inconclusive"},
	} {
		got := Overall(row.findings)
		if got != row.want || string(got.Run()) != row.run {
			t.Errorf("%s: %s (%s), want %s (%s)", row.sentence, got, got.Run(), row.want, row.run)
		}
	}
}

func TestUnion(t *testing.T) {
	got := union(map[string]int{"b": 1, "a": 1}, map[string]int{"c": 1, "a": 1})
	if want := slices.Sorted(maps.Keys(map[string]int{"a": 1, "b": 1, "c": 1})); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
