package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/workload"
)

// scaled is a search of a variant, which met so much.
func scaled(t *testing.T, kind, name string, met int64) capacity.Varied {
	r := searched(t)
	r.Regimes[0].MetPerDay, r.Regimes[0].MissedPerDay = met, met*121/100
	return capacity.Varied{Kind: kind, Name: name, Result: r}
}

func TestCurvesOfVariants(t *testing.T) {
	open := scaled(t, capacity.SQLNodesDir, "8", 30_000_000)
	open.Result.Regimes[0].MissedPerDay = 0
	unlike := scaled(t, capacity.SQLNodesDir, "5", 50_000_000)
	unlike.Result.Search.Seed++
	all := []capacity.Varied{
		scaled(t, capacity.SQLNodesDir, "1", 5_000_000), scaled(t, capacity.SQLNodesDir, "2", 9_800_000), scaled(t, capacity.SQLNodesDir, "3", 14_300_000),
		scaled(t, capacity.SQLNodesDir, "4", 18_600_000), open, scaled(t, capacity.DataNodesDir, "2", 9_000_000), unlike,
	}
	all[0].Result.Regimes[0].Steps[0].PerDay, all[0].Result.Regimes[0].Steps[0].P99US = 5_000_000, 12_500
	x := extrasOf(searched(t), all)
	if len(x.Curves) != 4 {
		t.Fatalf("%d curves, want one of the load, two of SQL nodes, one of data nodes", len(x.Curves))
	}
	load, sql, latency, data := x.Curves[0], x.Curves[1], x.Curves[2], x.Curves[3]
	if len(latency.Points) != 1 || latency.Points[0] != (CapacityPoint{N: 1, X: 12.5}) {
		t.Errorf("latencies at what was met: %v, want 12.5 ms with 1 node, as no other step is of that rate", latency.Points)
	}
	// Of the healthy steps three were met, one was open, three missed.
	if len(load.Points) != 3 || load.N != "ops under way" {
		t.Errorf("the load has points %v", load.Points)
	}
	words := strings.Join(sql.Words, " ")
	if len(sql.Points) != 4 || sql.Points[3] != (CapacityPoint{N: 4, X: 20_460_000, Low: 18_600_000, High: 22_506_000}) || len(sql.Line) < 30 || !strings.Contains(words, "Left out") || !strings.Contains(words, ": 8 SQL nodes.") {
		t.Errorf("SQL nodes have points %v, a line of %d, and words %q; want 1 to 4 nodes with a law, and 8 left out", sql.Points, len(sql.Line), words)
	}
	if !strings.Contains(words, "searched with another seed than the first: 5 SQL nodes.") {
		t.Errorf("the words do not say that 5 nodes had another seed: %q", words)
	}
	if last := sql.Line[len(sql.Line)-1]; !last.Extrapolated || last.N < 7.5 || last.N > 8 {
		t.Errorf("the line ends at %+v, want it extrapolated to twice the most", last)
	}
	if len(data.Points) != 1 || len(data.Line) != 0 || !strings.Contains(strings.Join(data.Words, " "), "not fitted") {
		t.Errorf("one point of data nodes makes %+v, want no law", data)
	}
}

// TestLawIsFittedToIntervals: the third point is a quarter below where the others lead,
// which only an interval of that width allows.
func TestLawIsFittedToIntervals(t *testing.T) {
	points := []CapacityPoint{{N: 1, X: 100}, {N: 2, X: 200}, {N: 3, X: 225}, {N: 4, X: 400}}
	if c := scaleCurve("", "n", "x", points, 1); len(c.Line) > 0 {
		t.Errorf("a law is fitted to means: %q", c.Words)
	}
	points[2].Low, points[2].High = 180, 281
	if c := scaleCurve("", "n", "x", points, 1); len(c.Line) == 0 {
		t.Errorf("no law is fitted to an interval: %q", c.Words)
	}
}

// TestPointsThatAreIntervals: they are drawn as bars and told with both ends, means with neither.
func TestPointsThatAreIntervals(t *testing.T) {
	c := CapacityCurve{Title: "t", N: "n", X: "x", Points: []CapacityPoint{{N: 1, X: 110, Low: 100, High: 121}, {N: 2, X: 200}}}
	drawing, told := c.draw("wide", wideWidth, wideMarks)
	if bars, dots := strings.Count(string(drawing), `class="between"`), strings.Count(string(drawing), `class="measured"`); bars != 1 || dots != 2 {
		t.Errorf("%d bars and %d points are drawn, want 1 and 2", bars, dots)
	}
	if got := []string{told.rows[0][3], told.rows[1][3]}; got[0] != "100–121" || got[1] != none {
		t.Errorf("told are the intervals %q", got)
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
	if part, err := memory.Read(dir); part != nil || err != nil {
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
	forecast, err := memory.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	part := memoryPart(forecast)
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
	if _, err := memory.Read(dir); err == nil || !strings.Contains(err.Error(), memory.InputsFile) {
		t.Errorf("of a torn file: %v, want an error that names it", err)
	}
}

func TestWhatStandsForADirectoryOfVariants(t *testing.T) {
	all := []capacity.Varied{scaled(t, capacity.SystemDir, "innodb", 1), scaled(t, capacity.SystemDir, "ndb", 2)}
	if i := standsFor(all); all[i].Name != "ndb" {
		t.Errorf("%s stands for a comparison, want the cluster", all[i].Name)
	}
	x := extrasOf(all[1].Result, all)
	if titles := len(x.Comparison); titles != 1 || !slices.ContainsFunc(x.Comparison, func(c CapacityColumn) bool { return c.Title == "innodb" }) {
		t.Errorf("beside it are %d columns, want innodb alone", titles)
	}
	nodes := []capacity.Varied{scaled(t, capacity.SQLNodesDir, "10", 1), scaled(t, capacity.SQLNodesDir, "2", 2)}
	if i := standsFor(nodes); nodes[i].Name != "2" {
		t.Errorf("%s nodes stand for a curve, want the fewest", nodes[i].Name)
	}
}

// TestAllOfIt holds that capacity.json and capacity.csv have what the page shows.
func TestAllOfIt(t *testing.T) {
	r := searched(t)
	other := scaled(t, capacity.SystemDir, "ldap", 30_000_000)
	other.Result.Search.System = "ldap"
	x := extrasOf(r, []capacity.Varied{other})
	x.forecast = &memory.Forecast{Scenario: "grown"}
	var text, rows bytes.Buffer
	if err := CapacityJSON(&text, r, x); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema   string            `json:"schema"`
		Regimes  []json.RawMessage `json:"regimes"`
		Curves   []CapacityCurve   `json:"curves"`
		Memory   memory.Forecast   `json:"memory"`
		Variants []struct {
			Dir    string          `json:"dir"`
			Result capacity.Result `json:"result"`
		} `json:"variants"`
	}
	if err := json.Unmarshal(text.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != r.Schema || len(got.Regimes) != len(r.Regimes) || len(got.Curves) != 1 || got.Memory.Scenario != "grown" ||
		len(got.Variants) != 1 || got.Variants[0].Dir != "system-ldap" || got.Variants[0].Result.Find(capacity.Healthy).MetPerDay != 30_000_000 {
		t.Errorf("capacity.json has schema %q, %d regimes, %d curves, memory of %q, variants %+v", got.Schema, len(got.Regimes), len(got.Curves), got.Memory.Scenario, got.Variants)
	}
	if err := CapacityCSV(&rows, r, x); err != nil {
		t.Fatal(err)
	}
	if own, ldap := strings.Count(rows.String(), "\n,"), strings.Count(rows.String(), "\nsystem-ldap,"); own == 0 || own != ldap {
		t.Errorf("%d rows of the search, %d of system-ldap, want as many", own, ldap)
	}
}

func TestServersOfAnotherSystem(t *testing.T) {
	r := searched(t)
	r.Search.System, r.Topology = "ldap", topology.Servers("ldap", []string{"cyrus1", "cyrus2"})
	r.Regimes[0].Regime, r.Regimes[1].Regime = capacity.ShortOf("host:cyrus1"), capacity.ShortOf("ldap1")
	r.Regimes[2].Done = false
	var b bytes.Buffer
	if err := CapacityMarkdown(&b, r, CapacityExtras{Command: "mailbench capacity compare small --out DIR"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"with the host cyrus1 (ldap1) dead", "with a server (ldap1) dead", "System: ldap, 2 servers, on 2 hosts.", "a server has no CPU quota", "mailbench capacity compare small --out DIR"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &b)
		}
	}
	for _, not := range []string{"SQL node", "--resume"} {
		if strings.Contains(b.String(), not) {
			t.Errorf("the report speaks of %q", not)
		}
	}
}

func TestDeathsOfSystems(t *testing.T) {
	dir := t.TempDir()
	ndb, ldap := scaled(t, capacity.SystemDir, "ndb", 9_000_000), scaled(t, capacity.SystemDir, "ldap", 30_000_000)
	all := deathsOf(dir, []capacity.Varied{ndb, ldap})
	if len(all) != 0 {
		t.Fatalf("deaths %+v where nothing was run", all)
	}
	write := func(n string, reason results.EndReason) {
		run := &results.Run{Schema: results.RunSchema, End: &results.EndResult{Reason: reason}}
		var text bytes.Buffer
		if err := run.Write(&text); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "system-ldap", capacity.DeathDir+n)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, RunFile), text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("1", results.Interrupted)
	if all := deathsOf(dir, []capacity.Varied{ndb, ldap}); len(all) != 0 {
		t.Errorf("an interrupted run is a death: %+v", all)
	}
	write("2", results.Completed)
	// There is no recording: it cannot be judged, and that is told.
	all = deathsOf(dir, []capacity.Varied{ndb, ldap})
	if len(all) != 1 || all[0].Title != "ldap" || all[0].Dir != filepath.Join("system-ldap", "death-2") || all[0].Run != nil || all[0].Why == "" {
		t.Fatalf("deaths %+v, want one of ldap that cannot be judged", all)
	}
	all = append(all, CapacityDeath{Title: "ldap", Dir: "elsewhere", Run: &results.Run{Verdict: results.DataLoss, Faults: []results.FaultResult{{
		ID: "kill-1-host:cyrus1", Kind: "kill", Target: "host:cyrus1",
		Spans: results.Spans{Objective: new(int64(2_500_000)), Redundant: new(int64(11_300_000))},
		Paths: map[string]results.FaultPath{
			"routing":     {OutageSpans: results.OutageSpans{FullOutage: new(int64(700_000))}, Ops: 900, BadOps: 40},
			"preferences": {Ops: 100, BadOps: 2},
		},
		Charge: results.Charge{BadOps: 42},
	}}}})
	x := extrasOf(ndb.Result, []capacity.Varied{ndb, ldap})
	x.Deaths = all
	var plain, page bytes.Buffer
	if err := CapacityMarkdown(&plain, ndb.Result, x); err != nil {
		t.Fatal(err)
	}
	if want := "| ldap | kill host:cyrus1 | 700 ms | - | 2.50 s | 11.3 s | 1,000 | 42 | - | data loss |"; !strings.Contains(plain.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, &plain)
	}
	if !strings.Contains(plain.String(), "ndb: With a data node (data2) dead it carries") {
		t.Errorf("the report lacks what a death does to its own system:\n%s", &plain)
	}
	if err := CapacityHTML(&page, ndb.Result, x); err != nil || !strings.Contains(page.String(), "<h3>What a death does</h3>") {
		t.Errorf("the page lacks the deaths (%v)", err)
	}
	if want := "ldap: the run in system-ldap/death-2 cannot be judged: "; !strings.Contains(plain.String(), want) {
		t.Errorf("the report lacks %q", want)
	}
}
