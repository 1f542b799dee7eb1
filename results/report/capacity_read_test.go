package report

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/workload"
)

// scaled is a search of a variant, which met so much.
func scaled(t *testing.T, kind, name string, met int64) variant {
	r := searched(t)
	r.Regimes[0].MetPerDay, r.Regimes[0].MissedPerDay = met, met+1_000_000
	return variant{kind, name, r}
}

func TestCurvesOfVariants(t *testing.T) {
	open := scaled(t, capacity.SQLNodesDir, "8", 30_000_000)
	open.result.Regimes[0].MissedPerDay = 0
	all := []variant{
		scaled(t, capacity.SQLNodesDir, "1", 5_000_000), scaled(t, capacity.SQLNodesDir, "2", 9_800_000), scaled(t, capacity.SQLNodesDir, "3", 14_300_000),
		scaled(t, capacity.SQLNodesDir, "4", 18_600_000), open, scaled(t, capacity.DataNodesDir, "2", 9_000_000),
	}
	x := extrasOf(searched(t), all)
	if len(x.Curves) != 3 {
		t.Fatalf("%d curves, want one of the load, of SQL nodes, of data nodes", len(x.Curves))
	}
	load, sql, data := x.Curves[0], x.Curves[1], x.Curves[2]
	// Of the healthy steps three were met, one was open, three missed.
	if len(load.Points) != 3 || load.N != "ops under way" {
		t.Errorf("the load has points %v", load.Points)
	}
	words := strings.Join(sql.Words, " ")
	if len(sql.Points) != 4 || sql.Points[3] != (CapacityPoint{4, 18_600_000}) || len(sql.Line) < 30 || !strings.Contains(words, "Left out") || !strings.Contains(words, ": 8 SQL nodes.") {
		t.Errorf("SQL nodes have points %v, a line of %d, and words %q; want 1 to 4 nodes with a law, and 8 left out", sql.Points, len(sql.Line), words)
	}
	if last := sql.Line[len(sql.Line)-1]; !last.Extrapolated || last.N < 7.5 || last.N > 8 {
		t.Errorf("the line ends at %+v, want it extrapolated to twice the most", last)
	}
	if len(data.Points) != 1 || len(data.Line) != 0 || !strings.Contains(strings.Join(data.Words, " "), "not fitted") {
		t.Errorf("one point of data nodes makes %+v, want no law", data)
	}
}

func TestDeathIsToldOnlyIfItWasMeasured(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*capacity.Result)
		want     string // "" for no words
	}{
		{"both were found", func(*capacity.Result) {}, "carries 82 % of its healthy rate"},
		{"the search with a node dead is not over", func(r *capacity.Result) { r.Regimes[1].Done, r.Regimes[1].Why = false, "interrupted" }, "it is not known what it carries: interrupted."},
		{"nothing was met with a node dead", func(r *capacity.Result) {
			r.Regimes[1].MetPerDay, r.Regimes[1].Why = 0, "the objectives cannot be met at any rate"
		}, "cannot be met at any rate."},
		{"the healthy search is not over", func(r *capacity.Result) { r.Regimes[0].Done = false }, ""},
	} {
		r := searched(t)
		row.change(r)
		words := strings.Join(deathWords(r), " ")
		if !strings.Contains(words, row.want) || row.want == "" && words != "" {
			t.Errorf("%s: %q, want %q", row.sentence, words, row.want)
		}
	}
}

func TestMemoryBesideASearch(t *testing.T) {
	dir := t.TempDir()
	if part, err := memoryOf(dir); part != nil || err != nil {
		t.Errorf("without a forecast: %v, %v", part, err)
	}
	in := &memory.Inputs{
		Schema: memory.InputsSchema, Scenario: "grown", Seed: 5, MessagesPerDay: 24_000, Accounts: 10, FirstDay: "2008-04-15", Batch: 500,
		Cluster: memory.Cluster{DataNodes: 2, Replicas: 2, Partitions: 2, DataMemory: 100 << 20, ReservePercent: 10, LogFiles: 4, LogFileBytes: 16 << 20, LogParts: 4},
	}
	for _, name := range []string{"greylist", "userprefs", "route", "account", "account_change"} {
		in.Tables = append(in.Tables, memory.TableSize{Table: name, Computed: memory.Sample{Rows: 1000, Size: datamemory.Size{Fixed: 60_000, Hash: 30_000, Ordered: 10_000}}, WriteBytes: 128, DeleteBytes: 80})
	}
	for i := range 48 {
		in.Hours = append(in.Hours, workload.GrowthHour{Hour: i, Messages: 1000, Triplets: 40_000 * int64(i+1)})
	}
	var text bytes.Buffer
	if err := memory.WriteJSON(&text, in); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, memory.InputsFile), text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	part, err := memoryOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(part.Words, " ")
	for _, want := range []string{"DataMemory is full on day 0", "scenario grown with seed 5", "100 MiB of DataMemory"} {
		if !strings.Contains(words, want) {
			t.Errorf("the words lack %q: %s", want, words)
		}
	}
	if c := part.Curves[0]; c.Limit != 90 || len(c.Line) != 2 || c.Line[1].X <= c.Line[0].X {
		t.Errorf("the curve is %+v, want two days that grow, below 90 MiB", c)
	}
	var page, plain bytes.Buffer
	r := searched(t)
	if err := CapacityHTML(&page, r, CapacityExtras{Memory: part}); err != nil {
		t.Fatal(err)
	}
	if err := CapacityMarkdown(&plain, r, CapacityExtras{Memory: part}); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*bytes.Buffer{&page, &plain} {
		if !strings.Contains(b.String(), "What a few hundred MiB hold") {
			t.Error("the report lacks what a few hundred MiB hold")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, memory.InputsFile), text.Bytes()[:100], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := memoryOf(dir); err == nil || !strings.Contains(err.Error(), memory.InputsFile) {
		t.Errorf("of a torn file: %v, want an error that names it", err)
	}
}

func TestWhatStandsForADirectoryOfVariants(t *testing.T) {
	all := []variant{scaled(t, capacity.SystemDir, "innodb", 1), scaled(t, capacity.SystemDir, "ndb", 2)}
	if i := standsFor(all); all[i].name != "ndb" {
		t.Errorf("%s stands for a comparison, want the cluster", all[i].name)
	}
	x := extrasOf(all[1].result, all)
	if titles := len(x.Comparison); titles != 1 || !slices.ContainsFunc(x.Comparison, func(c CapacityColumn) bool { return c.Title == "innodb" }) {
		t.Errorf("beside it are %d columns, want innodb alone", titles)
	}
	nodes := []variant{scaled(t, capacity.SQLNodesDir, "10", 1), scaled(t, capacity.SQLNodesDir, "2", 2)}
	if i := standsFor(nodes); nodes[i].name != "2" {
		t.Errorf("%s nodes stand for a curve, want the fewest", nodes[i].name)
	}
}
