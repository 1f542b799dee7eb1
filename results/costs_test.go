package results

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/costs"
)

func someCosts() []costs.Cost {
	exact := func(trips, rows, statements, in, out int64) map[string]int64 {
		return map[string]int64{
			"ndb_round_trips": trips, "ndb_table_scans": 0, "ndb_range_scans": 0, "ndb_rows_read": rows,
			"statements": statements, "wire_bytes_in": in, "wire_bytes_out": out,
		}
	}
	return []costs.Cost{
		{Path: reference.Routing, Decision: "local", Repetitions: 3, Exact: exact(1, 1, 1, 140, 535)},
		{Path: reference.Routing, Decision: "unknown", Repetitions: 3, Exact: exact(2, 1, 2, 288, 989)},
		{Path: reference.Greylist, Decision: "new", Repetitions: 3, Exact: exact(2, 0, 8, 180, 163), Noisy: map[string]int64{"ndb_scan_waits": 0}},
	}
}

func TestCostsComeBack(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	rows, err := open(t, dir).Costs()
	var want []CostRow
	for _, c := range someCosts() {
		want = append(want, CostRow{c.Path.String(), c.Decision, 3, c.Exact, c.Noisy})
	}
	if err != nil || !reflect.DeepEqual(rows, want) {
		t.Errorf("costs are %+v, want %+v (%v)", rows, want, err)
	}
	run := mustJudge(t, dir)
	table, noisy := run.CostTable()
	if len(table) != 3 || !reflect.DeepEqual(table["routing/local"], someCosts()[0].Exact) ||
		table["greylist/new"]["statements"] != 8 || len(table["greylist/new"]) != 8 || !reflect.DeepEqual(noisy, []string{"ndb_scan_waits"}) {
		t.Errorf("the table is %v, noisy are %v", table, noisy)
	}

	// An older recording has none, and is as whole as it was.
	if err := os.Remove(filepath.Join(dir, CostsFile)); err != nil {
		t.Fatal(err)
	}
	r, err := Salvage(dir)
	if err != nil {
		t.Fatal(err)
	}
	older, err := Judge(r)
	if err != nil || len(older.Costs) != 0 || older.Costs == nil || older.Verdict != run.Verdict || len(r.Truncated()) != 0 {
		t.Errorf("without costs: %v, %s, truncated %v (%v)", older.Costs, older.Verdict, r.Truncated(), err)
	}
}

func TestCostsAreWrittenOnce(t *testing.T) {
	rec, err := Create(t.TempDir(), testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	rec.Costs(someCosts())
	if err := rec.Err(); err != nil {
		t.Fatal(err)
	}
	rec.Costs(someCosts())
	if err := rec.Close(EndOfRun{Reason: Completed}); err == nil || !strings.Contains(err.Error(), CostsFile) {
		t.Errorf("got %v", err)
	}
}

func TestCostsAreRefused(t *testing.T) {
	const good = `{"path":"routing","decision":"local","repetitions":3,"exact":{"statements":1}}` + "\n"
	var many strings.Builder
	for i := range maxCosts + 1 {
		fmt.Fprintf(&many, `{"path":"routing","decision":"d%d","repetitions":3,"exact":{"statements":1}}`+"\n", i)
	}
	var counters []string
	for i := range maxCostCounters + 1 {
		counters = append(counters, fmt.Sprintf(`"c%d":1`, i))
	}
	for _, row := range []struct{ sentence, file, want string }{
		{"a path that there is not", strings.Replace(good, "routing", "dns", 1), `path "dns" is none that there is`},
		{"a decision without a name", strings.Replace(good, "local", "", 1), "a name of 0 bytes"},
		{"a decision with a long name", strings.Replace(good, "local", strings.Repeat("x", 129), 1), "a name of 129 bytes"},
		{"no repetition", strings.Replace(good, "3", "0", 1), "was counted 0 times"},
		{"no counter", strings.Replace(good, `"statements":1`, "", 1), "has 0 counters"},
		{"too many counters", strings.Replace(good, `"statements":1`, strings.Join(counters, ","), 1), "has 201 counters"},
		{"a counter without a name", strings.Replace(good, "statements", "", 1), "a counter has a name of 0 bytes"},
		{"a counter below 0", strings.Replace(good, ":1}", ":-1}", 1), "statements is -1"},
		{"a counter that is no integer", strings.Replace(good, ":1}", ":1.5}", 1), "line 1 at byte 0"},
		{"a counter of both kinds", strings.Replace(good, ":1}", `:1},"noisy":{"statements":1}`, 1), "both exact and noisy"},
		{"a decision that is there twice", good + good, "routing/local is there twice"},
		{"too many decisions", many.String(), "more than 1000 decisions"},
		{"no JSON", "hello\n", "line 1 at byte 0"},
	} {
		dir := t.TempDir()
		twoKills(t, dir, testManifest(t), completed)
		if err := os.WriteFile(filepath.Join(dir, CostsFile), []byte(row.file), 0o644); err != nil {
			t.Fatal(err)
		}
		if rows, err := open(t, dir).Costs(); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), CostsFile) {
			t.Errorf("%s: got %v, %v, want %q", row.sentence, rows, err, row.want)
		}
	}
}
