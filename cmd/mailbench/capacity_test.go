package main

import (
	"testing"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/report"
)

func TestVerdictOfASearch(t *testing.T) {
	promised := capacity.Found{Regime: capacity.Healthy, MetPerDay: 8, MissedPerDay: 9, PromisePerDay: 4, Done: true}
	for _, row := range []struct {
		sentence string
		found    capacity.Found
		lost     string
		asked    capacity.Regime
		want     results.Verdict
	}{
		{"something may be promised", promised, "", capacity.Healthy, results.Pass},
		{"nothing was missed up to the highest rate", capacity.Found{Regime: capacity.Healthy, MetPerDay: 8, PromisePerDay: 4, Done: true}, "", capacity.Healthy, results.Pass},
		{"the objectives cannot be met", capacity.Found{Regime: capacity.Healthy, MissedPerDay: 9, Done: true}, "", capacity.Healthy, results.Violated},
		{"no step came to a result", capacity.Found{Regime: capacity.Healthy, Done: true}, "", capacity.Healthy, results.Inconclusive},
		{"it is not over", capacity.Found{Regime: capacity.Healthy, MetPerDay: 8, PromisePerDay: 4}, "", capacity.Healthy, results.Inconclusive},
		{"the generator was the limit", capacity.Found{Regime: capacity.Healthy, MetPerDay: 8, PromisePerDay: 4, Done: true, Limit: capacity.Limit{Resource: "generator"}}, "", capacity.Healthy, results.Inconclusive},
		{"a regime has no step yet", promised, "", "short:data2", results.Inconclusive},
		{"acknowledged writes are gone", promised, string(results.DataLoss), capacity.Healthy, results.DataLoss},
	} {
		r := &capacity.Result{Regimes: []capacity.Found{row.found}, Verdict: row.lost}
		if got := capacityVerdict(r, []capacity.Regime{row.asked}); got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
	bad := &capacity.Result{Search: capacity.Search{Regimes: []capacity.Regime{"short:data2"}}, Regimes: []capacity.Found{promised}}
	found := &report.CapacityFound{Results: []*capacity.Result{{Regimes: []capacity.Found{promised}}, bad}}
	if got := searchesVerdict(found); got != results.Inconclusive {
		t.Errorf("of two searches one has a regime left: %s, want %s", got, results.Inconclusive)
	}
	found.Deaths = []report.CapacityDeath{{Why: "torn"}, {Run: &results.Run{Verdict: results.Violated}}, {Run: &results.Run{Verdict: results.DataLoss}}}
	if got := searchesVerdict(found); got != results.DataLoss {
		t.Errorf("in a run beside them writes were lost: %s, want %s", got, results.DataLoss)
	}
}

func TestShares(t *testing.T) {
	for _, row := range []struct {
		text string
		want int64 // 0 for refused
	}{
		{"5%", 50_000}, {"2.5%", 25_000}, {"50%", 500_000}, {"0.5%", 0}, {"51%", 0}, {"5", 0}, {"%", 0}, {"NaN%", 0}, {"-5%", 0}, {"", 0},
	} {
		got, err := ppmOf("resolution", row.text, 1, 50)
		if got != row.want || (err == nil) != (row.want > 0) {
			t.Errorf("%q: %d, %v; want %d", row.text, got, err, row.want)
		}
	}
}
