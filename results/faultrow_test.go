package results

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSpreadIsOfValuesThatWereSeen(t *testing.T) {
	counting := func(n int64) (list []int64) {
		for i := n; i > 0; i-- {
			list = append(list, i)
		}
		return list
	}
	for _, row := range []struct {
		what   string
		values []int64
		want   string
	}{
		{"one value is all three", []int64{7}, "1 7 7 7"},
		{"of two the smaller is the median", []int64{9, 3}, "2 3 9 9"},
		{"of five the 95th percentile is the largest", counting(5), "5 3 5 5"},
		{"of twenty it is the nineteenth", counting(20), "20 10 19 20"},
	} {
		before := slices.Clone(row.values)
		s := SpreadOf(row.values)
		if got := fmt.Sprint(s.N, s.Median, s.P95, s.Max); got != row.want {
			t.Errorf("%s: got %s, want %s", row.what, got, row.want)
		}
		if !slices.Equal(before, row.values) {
			t.Errorf("%s: the values were moved", row.what)
		}
	}
	if SpreadOf(nil) != nil {
		t.Error("there is a spread of no values")
	}
}

// rowsOf are those of the synthetic run of two faults.
func rowsOf(t *testing.T, change func(*Run)) []FaultRow {
	t.Helper()
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	run := mustJudge(t, dir)
	change(run)
	return FaultRows(run, testManifest(t), func(id string) string {
		return map[string]string{"f1": "kill sql1", "f2": "kill data1"}[id]
	})
}

func TestFaultRowsOfARun(t *testing.T) {
	at := func(us int64) *int64 { return &us }
	for _, row := range []struct {
		what   string
		change func(*Run)
		want   string
	}{
		{"both faults went through", func(*Run) {}, "kill sql1: ; kill data1: "},
		{"one had no effect", func(r *Run) { r.Faults[0].EffectiveAtUS = nil },
			"kill sql1: was not seen to take effect; kill data1: "},
		{"one did not come back", func(r *Run) { r.Faults[1].RecoveredAtUS, r.Faults[1].RedundantAtUS = nil, nil },
			"kill sql1: ; kill data1: did not recover"},
		{"one was not whole again", func(r *Run) { r.Faults[1].RedundantAtUS = nil },
			"kill sql1: ; kill data1: did not become redundant again"},
		{"the load ended before the second was over", func(r *Run) { r.MeasuredToUS = at(41_000_000) },
			"kill sql1: ; kill data1: was not over when the load ended"},
		{"the load ended before the second", func(r *Run) { r.MeasuredToUS = at(29_000_000) }, "kill sql1: "},
		{"the second was never made", func(r *Run) { r.Faults[1].InjectedAtUS = nil }, "kill sql1: "},
		{"the turn of the second did not come", func(r *Run) {
			r.Faults[1].InjectedAtUS, r.Faults[1].Failure = nil, "not injected, the plan ended early: broken"
		}, "kill sql1: "},
		{"the second could not be made", func(r *Run) {
			r.Faults[1].InjectedAtUS, r.Faults[1].Failure = nil, "no such table"
		}, "kill sql1: ; kill data1: could not be made"},
		{"the recording does not say how long the load was", func(r *Run) { r.MeasuredToUS = nil }, ""},
	} {
		var got []string
		for _, r := range rowsOf(t, row.change) {
			got = append(got, r.Fault+": "+r.Failed)
			if r.Good() != (r.Failed == "") || len(r.Disturbed) != 0 {
				t.Errorf("%s: good is %v, disturbed %q", row.what, r.Good(), r.Disturbed)
			}
		}
		if text := strings.Join(got, "; "); text != row.want {
			t.Errorf("%s: got %q, want %q", row.what, text, row.want)
		}
	}
}

func TestFaultRowsAreSummedUp(t *testing.T) {
	rows := rowsOf(t, func(*Run) {})
	rows = append(rows, rowsOf(t, func(r *Run) {
		r.Faults[0].BadOps = 100
		*r.Faults[0].Spans.Redundant = 9_000_000
		r.Faults[1].EffectiveAtUS = nil
		r.Generator.LagP999US = func(us int64) *int64 { return &us }(6000)
	})...)
	rows = append(rows, FaultRow{Schema: FaultRowSchema, Scenario: "two-kills", Fault: "host-latency data1", Refused: "no netem"})
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	for _, half := range [][]FaultRow{rows[:2], rows[2:]} {
		if err := AppendFaultRows(path, half); err != nil {
			t.Fatal(err)
		}
	}
	read, err := ReadFaultRows(path)
	if err != nil {
		t.Fatal(err)
	}
	all := SummarizeFaults(read)
	if len(all) != 3 || all[0].Fault != "kill sql1" || all[1].Fault != "kill data1" || all[2].Refused != "no netem" {
		t.Fatalf("the lines are %+v", all)
	}
	sql, data := all[0], all[1]
	for _, row := range []struct{ what, got, want string }{
		{"a disturbed repetition counts, and is told", fmt.Sprint(sql.Good, sql.Disturbed, len(sql.Failed)), "2 1 0"},
		{"a failed one does not count", fmt.Sprint(data.Good, data.Disturbed, data.Failed), "1 0 [was not seen to take effect]"},
		{"bad ops", fmt.Sprint(*sql.BadOps), "{2 100 450 450 <nil> <nil> 223}"},
		{"the outage is of the path that suffered longest", fmt.Sprint(*sql.Outage), "{2 1500000 1500000 1500000 <nil> <nil> 223}"},
		{"redundancy", fmt.Sprint(*sql.Redundant), "{2 5000000 9000000 9000000 <nil> <nil> 223}"},
		{"who noticed", fmt.Sprint(*sql.DetectCluster, *sql.DetectClients), "{2 200000 200000 200000 <nil> <nil> 223} {2 300 300 300 <nil> <nil> 223}"},
		{"errors of all repetitions", fmt.Sprint(sql.Errors), "[{connect 2003 0 1200}]"},
		{"errors of those that count", fmt.Sprint(data.Errors), "[{temporary 1297 4010 30}]"},
		{"failing over", fmt.Sprint(sql.Routing.Ops, sql.Routing.Bad, sql.Routing.FailedOver, *sql.Routing.Extra, sql.Routing.Longest),
			"1002 450 150 {2 1050 1050 1050 <nil> <nil> 223} 3000"},
		{"nobody failed over", fmt.Sprint(data.Routing.FailedOver, data.Routing.Extra), "0 <nil>"},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %s, want %s", row.what, row.got, row.want)
		}
	}
}

func TestFaultRowsThatCannotBeRead(t *testing.T) {
	if rows, err := ReadFaultRows(filepath.Join(t.TempDir(), "none")); err != nil || rows != nil {
		t.Errorf("no file: %v, %v", rows, err)
	}
	good := `{"schema":"mailbench.fault_row/v1","scenario":"s","fault":"f","refused":"r"}` + "\n"
	for _, row := range []struct{ what, content, want string }{
		{"a line that was cut off", good + `{"schema":"mailbench.fa`, "rows:2: the line has no end"},
		{"a line of something else", good + "{}\n", `rows:2: schema is "", want "mailbench.fault_row/v1"`},
		{"no JSON", "# rows\n", "rows:1: not a row of a fault table"},
	} {
		path := filepath.Join(t.TempDir(), "rows")
		if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFaultRows(path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.what, err, row.want)
		}
	}
}

func TestQuietRepetitionsCountAlone(t *testing.T) {
	row := func(disturbed ...string) FaultRow {
		return FaultRow{Fault: "f", Disturbed: disturbed, Result: &FaultResult{}}
	}
	for _, c := range []struct {
		what         string
		quiet, noisy int
		want         string
	}{
		{"few quiet ones: all count", 4, 3, "7 3"},
		{"enough quiet ones: they count alone", 5, 3, "5 0"},
		{"noisy ones alone", 0, 6, "6 6"},
	} {
		rows := slices.Repeat([]FaultRow{row("busy")}, c.noisy)
		rows = append(rows, slices.Repeat([]FaultRow{row()}, c.quiet)...)
		if s := SummarizeFaults(rows)[0]; fmt.Sprint(s.Good, s.Disturbed) != c.want {
			t.Errorf("%s: got %d, of which %d were disturbed, want %s", c.what, s.Good, s.Disturbed, c.want)
		}
	}
}
