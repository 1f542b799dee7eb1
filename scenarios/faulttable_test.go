package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/results"
)

const tableScenario = `name: mine
hypothesis: It holds.
workload: {duration: 1h}
faults:
  - {kind: kill, target: data2, at: 5s, hold: 5s, repeat: 20, every: 15s, jitter: 5s}
  - {kind: partition, target: data2, at: 5s, after: redundant, hold: 30s, repeat: 5, every: 5s, peers: [data1, sql1]}
  - {kind: kill, target: mgm1, at: 5s, after: redundant, hold: 20s, repeat: 5, every: 5s}
  - {kind: kill, target: data1, at: 5s, during: previous, hold: 5s, allow: outage}
`

func parsed(t *testing.T, text string) *Scenario {
	t.Helper()
	s, err := Parse("mine.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tableRows are so many rows of a fault, good ones or not.
func tableRows(fault string, n int, failed string) []results.FaultRow {
	return slices.Repeat([]results.FaultRow{{
		Schema: results.FaultRowSchema, Scenario: "mine", Fault: fault, Failed: failed, Result: &results.FaultResult{},
	}}, n)
}

func disturbed(rows []results.FaultRow) []results.FaultRow {
	for i := range rows {
		rows[i].Disturbed = []string{"busy"}
	}
	return rows
}

func TestFaultTableMakesWhatIsMissing(t *testing.T) {
	const (
		kill      = "kill data2"
		partition = "partition data2, peers [data1, sql1], direction both"
		arbiter   = "kill mgm1 + kill data1"
	)
	s := parsed(t, tableScenario)
	for _, row := range []struct {
		what string
		rows []results.FaultRow
		want string
	}{
		{"nothing is there", nil, kill + " ×20; " + partition + " ×5; " + arbiter + " ×5"},
		{"some are there", tableRows(kill, 19, ""), kill + " ×1; " + partition + " ×5; " + arbiter + " ×5"},
		{"more than enough are there", tableRows(kill, 21, ""), partition + " ×5; " + arbiter + " ×5"},
		{"disturbed ones are there", disturbed(tableRows(kill, 20, "")), partition + " ×5; " + arbiter + " ×5"},
		{"asked for quiet, disturbed ones are not", disturbed(tableRows(kill, 20, "")), kill + " ×20; " + partition + " ×5; " + arbiter + " ×5"},
		{"what failed comes last, as it may end a run", tableRows(partition, 1, "did not recover"), kill + " ×20; " + arbiter + " ×5; " + partition + " ×5"},
		{"what failed too often is left", tableRows(partition, 3, "did not recover"), kill + " ×20; " + arbiter + " ×5"},
		{"what cannot be made is left", []results.FaultRow{{Scenario: "mine", Fault: kill, Refused: "no"}}, partition + " ×5; " + arbiter + " ×5"},
		{"rows of another scenario do not count", []results.FaultRow{{Scenario: "other", Fault: kill, Refused: "no"}}, kill + " ×20; " + partition + " ×5; " + arbiter + " ×5"},
	} {
		table := FaultTable{MostFailures: 3, Quiet: strings.HasPrefix(row.what, "asked for quiet")}
		var got []string
		for _, f := range table.missing(s, row.rows) {
			got = append(got, fmt.Sprintf("%s ×%d", f.label, f.want))
		}
		if text := strings.Join(got, "; "); text != row.want {
			t.Errorf("%s:\n got %s\nwant %s", row.what, text, row.want)
		}
	}
}

func TestFaultTableFillsARun(t *testing.T) {
	s := parsed(t, tableScenario)
	table := FaultTable{MostFailures: 3}
	for _, row := range []struct {
		what    string
		longest time.Duration
		want    string // kind, target, repetitions, what times count from
	}{
		// 65 s a kill, 85 s a partition, 85 s the two together.
		{"32 minutes", 32 * time.Minute, "kill data2 ×1 load; kill data2 ×19 redundant; partition data2 ×5 redundant; kill mgm1 ×2 redundant; kill data1 ×1 previous"},
		{"five minutes", 5 * time.Minute, "kill data2 ×1 load; kill data2 ×3 redundant"},
		{"less than a fault", time.Minute, ""},
	} {
		one := s.batch(table.missing(s, nil), 7, row.longest)
		var got []string
		for _, f := range one.Faults {
			from := f.After + f.During
			if from == "" {
				from = "load"
			}
			got = append(got, fmt.Sprintf("%s %s ×%d %s", f.Kind, f.Target, f.Repeat, from))
		}
		if text := strings.Join(got, "; "); text != row.want {
			t.Errorf("%s:\n got %s\nwant %s", row.what, text, row.want)
		}
		if one.Seed != 7 || one.Workload.End != EndWithFaults || one.Workload.Duration != row.longest || len(s.Faults) != 4 {
			t.Errorf("%s: seed %d, end %s, duration %s, and %d faults are left of the scenario", row.what, one.Seed, one.Workload.End, one.Workload.Duration, len(s.Faults))
		}
	}

	// All of it is a plan that can be made, and each planned fault has its row's name,
	// but the first of two that are in effect together.
	one := s.batch(table.missing(s, nil), 7, time.Hour)
	topology, err := one.Topology()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := one.faultPlan(topology)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	label := tableLabels(one, plan)
	for _, step := range plan.Steps {
		count[label(step.ID)]++
	}
	if want := "map[:5 kill data2:20 kill mgm1 + kill data1:5 partition data2, peers [data1, sql1], direction both:5]"; fmt.Sprint(count) != want {
		t.Errorf("rows %v, want %s", count, want)
	}
}

func TestRowsMadeAnewTakeThePlaceOfTheOld(t *testing.T) {
	row := func(run, fault string) results.FaultRow { return results.FaultRow{RunID: run, Fault: fault} }
	before := []results.FaultRow{row("a", "1"), row("b", "1"), row("b", "2"), row("c", "1")}
	for _, c := range []struct {
		what string
		made []results.FaultRow
		want string
	}{
		{"none were made: the old ones stay", nil, "a1 b1 b2 c1"},
		{"where those of their run stood", []results.FaultRow{row("b", "3"), row("b", "4"), row("b", "5")}, "a1 b3 b4 b5 c1"},
		{"of a run without rows: at the end", []results.FaultRow{row("d", "1")}, "a1 b1 b2 c1 d1"},
	} {
		var got []string
		for _, r := range replaceRows(slices.Clone(before), c.made) {
			got = append(got, r.RunID+r.Fault)
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: got %s, want %s", c.what, text, c.want)
		}
	}
}

func TestSpreadsInATable(t *testing.T) {
	for _, row := range []struct {
		what   string
		spread *results.Spread
		want   string
	}{
		{"nothing is known", nil, ""},
		{"nothing happened", &results.Spread{N: 5}, "none"},
		{"three digits", &results.Spread{N: 5, Median: 123_456, P95: 9_876_543, Max: 84_240_000}, "0.12 / 9.88 / 84.2 s"},
		{"what is rounded to zero has no sign", &results.Spread{N: 5, Median: -300, P95: 0, Max: 20_000}, "0.00 / 0.00 / 0.02 s"},
	} {
		if got := secondsSpread(row.spread); got != row.want {
			t.Errorf("%s: got %q, want %q", row.what, got, row.want)
		}
	}
}

// TestFaultTableInDocs holds the table in docs/faults.md to the rows that are
// committed, and the scenarios that they are of to what Parse accepts.
func TestFaultTableInDocs(t *testing.T) {
	files, err := filepath.Glob("faulttable/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios of the table: %v", err)
	}
	known := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(file, data)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimSuffix(filepath.Base(file), ".yaml"); s.Name != want {
			t.Errorf("%s is called %s", file, s.Name)
		}
		for _, f := range s.tableFaults() {
			known[s.Name+": "+f.label] = true
		}
	}
	rows, err := results.ReadFaultRows("../results/faults/table.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if !known[row.Scenario+": "+row.Fault] {
			t.Errorf("rows of %s: %s, which no scenario makes any more", row.Scenario, row.Fault)
		}
	}
	var b strings.Builder
	if err := WriteFaultTable(&b, rows); err != nil {
		t.Fatal(err)
	}
	generatedPart(t, faultsFile, faultTableBegin, b.String())
}
