package results

import (
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
)

func cluster(at int64, node, name string, fields ...string) chaos.Event {
	e := chaos.Event{At: time.Duration(at) * time.Second, Kind: chaos.KindCluster, Name: name, Node: node, Fields: map[string]string{}}
	for i := 0; i < len(fields); i += 2 {
		e.Fields[fields[i]] = fields[i+1]
	}
	return e
}

func phase(at int64, node, phase, starttype string) chaos.Event {
	return cluster(at, node, "StartPhaseCompleted", "phase", phase, "starttype", starttype)
}

func redo(at int64, node, gci string) chaos.Event {
	return cluster(at, node, "StartREDOLog", "restorable_gci", gci)
}

// TestLossesAfterARestartOfTheWholeCluster has a restart at 100 s that goes back to
// global checkpoint 50. Epochs were learned at 90 s (49), 92 s (50) and 94 s (52).
func TestLossesAfterARestartOfTheWholeCluster(t *testing.T) {
	whole := []chaos.Event{
		phase(98, "data1", "0", "1"), phase(98, "data1", "4", "1"), phase(99, "data2", "4", "1"),
		redo(100, "data1", "50"), redo(101, "data2", "50"),
	}
	epochs := []Epoch{{90e6, 49}, {92e6, 50}, {94e6, 52}}
	for _, row := range []struct {
		sentence string
		events   []chaos.Event
		epochs   []Epoch
		acked    int64 // second, 0 for what was stored before the run
		seen     int64
		allowed  bool
	}{
		{"acknowledged before an epoch of the restored checkpoint: it is on disk", whole, epochs, 91, 110, false},
		{"acknowledged after it, perhaps of a later checkpoint", whole, epochs, 93, 110, true},
		{"certainly of a later checkpoint", whole, epochs, 95, 110, true},
		{"acknowledged after the restart", whole, epochs, 105, 110, false},
		{"missing already before it", whole, epochs, 95, 99, false},
		{"stored before the run", whole, epochs, 0, 110, false},
		{"no epoch tells: nothing excuses the loss", whole, nil, 95, 110, false},
		{"only a later epoch is known: neither", whole, []Epoch{{94e6, 52}}, 95, 110, false},
		{"the restart of one node excuses nothing", []chaos.Event{
			phase(98, "data1", "0", "1"), phase(98, "data1", "1", "1"), phase(99, "data1", "4", "2"), redo(100, "data1", "50"),
		}, epochs, 95, 110, false},
		{"the nodes do not agree: the later checkpoint is what was promised", []chaos.Event{
			phase(98, "data1", "4", "1"), phase(98, "data2", "4", "1"), redo(100, "data1", "50"), redo(101, "data2", "52"),
		}, epochs, 93, 110, false},
		{"a second restart soon after has its own checkpoint", append(slices.Clone(whole),
			phase(118, "data1", "4", "1"), phase(118, "data2", "4", "1"), redo(120, "data1", "60"), redo(121, "data2", "60")),
			append(slices.Clone(epochs), Epoch{106e6, 60}, Epoch{108e6, 61}), 109, 130, true},
		{"and what was before the first is judged by that one's", append(slices.Clone(whole),
			phase(118, "data1", "4", "1"), phase(118, "data2", "4", "1"), redo(120, "data1", "60"), redo(121, "data2", "60")),
			append(slices.Clone(epochs), Epoch{106e6, 60}, Epoch{108e6, 61}), 95, 130, true},
	} {
		tl := &timeline{}
		for _, e := range row.events {
			tl.restore(e)
		}
		tl.durable(row.epochs)
		var acked *int64
		if row.acked > 0 {
			acked = new(row.acked * 1e6)
		}
		if got := mayBeLost(tl.restores, acked, row.seen*1e6); got != row.allowed {
			t.Errorf("%s: allowed is %v, want %v (%+v)", row.sentence, got, row.allowed, tl.restores)
		}
	}
}

func TestLedgerOfARun(t *testing.T) {
	restores := []Restore{{AtUS: 100, GCI: 50, DurableUS: new(int64(50))}}
	row := func(key string, v LedgerVerdict, acked, read int64) LedgerRow {
		return LedgerRow{Kind: Triplet, Key: key, Verdict: v, AcknowledgedUS: &acked, ReadUS: read}
	}
	for _, r := range []struct {
		sentence string
		ledger   Ledger
		want     LedgerCounts
		violated ViolationCounts
	}{
		{"all is there", Ledger{Summary: LedgerSummary{Triplet: {Acknowledged: 3, Verified: 3}}}, LedgerCounts{Acknowledged: 3, Verified: 3}, ViolationCounts{}},
		{"a key that was read twice counts once, with the worst", Ledger{
			Rows:    []LedgerRow{row("a", Stale, 10, 20), row("a", Lost, 10, 30)},
			Summary: LedgerSummary{Triplet: {Acknowledged: 3, Verified: 2, Lost: 1}},
		}, LedgerCounts{Acknowledged: 3, Verified: 2, Lost: 1}, ViolationCounts{}},
		{"a loss that may be is counted apart", Ledger{
			Rows:    []LedgerRow{row("a", Lost, 60, 120), row("b", Lost, 40, 120)},
			Summary: LedgerSummary{Triplet: {Acknowledged: 3, Verified: 1, Lost: 2}},
		}, LedgerCounts{Acknowledged: 3, Verified: 1, Lost: 1, Allowed: 1}, ViolationCounts{}},
		{"what was broken before, too, is not excused", Ledger{
			Rows:    []LedgerRow{row("a", Lost, 60, 120), row("a", Lost, 60, 70)},
			Summary: LedgerSummary{Triplet: {Acknowledged: 1, Lost: 1}},
		}, LedgerCounts{Acknowledged: 1, Lost: 1}, ViolationCounts{}},
		{"a run that ended while it was read back knows its losses", Ledger{
			Rows: []LedgerRow{row("a", Lost, 10, 20), row("b", LedgerUnknown, 10, 20)},
		}, LedgerCounts{Acknowledged: 2, Lost: 1, Unknown: 1}, ViolationCounts{}},
		{"violations by their kinds", Ledger{
			Violations: []Violation{
				{Violation: WrongRoute, AtUS: 10}, {Violation: DeferredAgain, AtUS: 120, AcknowledgedUS: new(int64(60))},
				{Violation: DeferredAgain, AtUS: 120, AcknowledgedUS: new(int64(40))}, {Violation: LetThrough}, {Violation: WrongPreference},
			},
			Summary: LedgerSummary{},
		}, LedgerCounts{}, ViolationCounts{WrongRoute: 1, DeferredAgain: 1, LetThrough: 1, WrongPreference: 1, Allowed: 1}},
	} {
		if err := r.ledger.check(); err != nil {
			t.Errorf("%s: %v", r.sentence, err)
		}
		got := r.ledger.judged(restores)
		if got.LedgerCounts != r.want || got.Violations != r.violated {
			t.Errorf("%s: got %+v and %+v, want %+v and %+v", r.sentence, got.LedgerCounts, got.Violations, r.want, r.violated)
		}
	}
	if got := (&Ledger{}).judged(restores); got != nil {
		t.Errorf("a ledger of nothing is %+v", got)
	}
}
