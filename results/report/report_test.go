package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
	"gotest.tools/v3/golden"
)

// judged reads a golden run of the package results.
func judged(t *testing.T, name string) *results.Run {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "testdata", name+".run.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := results.ReadRun(f)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// large is two-kills with the numbers of a day and names of some length.
func large(t *testing.T) *results.Run {
	run := judged(t, "two-kills")
	run.Verdict = results.DataLoss
	run.Reasons = []string{"the run did not complete: it failed: " + strings.Repeat("words and ", 20) + "more"}
	p := run.Paths["routing"]
	p.Count, p.OK, p.Retried, p.Degraded, p.Failed, p.Unknown = 12_345_678, 12_345_678, 234_567, 234_567, 234_567, 234_567
	run.Paths["routing"] = p
	run.Costs["preferences"] = map[string]results.CostResult{
		"read": {Exact: map[string]int64{"ndb_round_trips": 1_234_567, "statements": 1}}, // of a version that counts less
		"set":  {Exact: map[string]int64{"ndb_round_trips": 2, "statements": 1_234_567}},
	}
	run.Faults[0].ID = "kill-the-first-sql-node"
	run.Faults[0].Target = "sql-node-of-mta1|x"
	run.Faults[0].BadOps = 1_234_567
	run.Objectives[0].Name = "mail <flows> whenever *anything* at all is alive"
	run.Ledger = &results.LedgerResult{
		LedgerCounts: results.LedgerCounts{Acknowledged: 1_234_567, Verified: 1_230_000, Lost: 4_000, Stale: 400, Resurrected: 100, Allowed: 66, Unknown: 1},
		Kinds:        map[results.LedgerKind]results.LedgerCounts{},
		Violations:   results.ViolationCounts{WrongRoute: 1_234, DeferredAgain: 1, LetThrough: 12_345, WrongPreference: 7, Allowed: 9},
		ReadBacks:    []results.ReadBack{{After: "f1", Node: "mta1", Keys: 1}, {After: "f1", Node: "mta2", Keys: 1}, {After: "f2", Node: "mta2", Unread: 1}, {Node: "mta1", Keys: 1}},
		Restores:     []results.Restore{{AtUS: 65_000_000, GCI: 1234}},
	}
	return run
}

func TestGolden(t *testing.T) {
	for name, run := range map[string]*results.Run{
		"two-kills": judged(t, "two-kills"), "empty": judged(t, "empty"), "large": large(t),
	} {
		var text, markdown, junit bytes.Buffer
		if err := Text(&text, run, 80); err != nil {
			t.Fatal(err)
		}
		if err := Markdown(&markdown, run); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(text.String(), "\n") {
			if n := utf8.RuneCountInString(line); n > 80 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
		if err := JUnit(&junit, run); err != nil {
			t.Fatal(err)
		}
		golden.AssertBytes(t, junit.Bytes(), name+".junit.xml")
		golden.AssertBytes(t, text.Bytes(), name+".txt")
		golden.AssertBytes(t, markdown.Bytes(), name+".md")
		golden.AssertBytes(t, drawn(t, run), name+".svg")
	}
}

// enormous is two-kills with numbers that no run reaches and names that nobody
// gives, everywhere in the tables.
func enormous(t *testing.T) *results.Run {
	run := judged(t, "two-kills")
	const n, us = 1_234_567_890_123, 12_345_678_900_000
	big := func(p **int64) { v := int64(us); *p = &v }
	share := func(p **results.Decimal) { v := results.Decimal(123_456_789_012); *p = &v }
	for name, p := range run.Paths {
		p.Count, p.OK, p.Retried, p.Degraded, p.Failed, p.Unknown = n, n, n, n, n, n
		for _, q := range []*results.Latency{p.ResponseUS, p.QueueUS, p.ServiceUS} {
			q.P50, q.P90, q.P99, q.P999, q.Max = us, us, us, us, us
		}
		run.Paths[name] = p
	}
	long := strings.Repeat("long-", 12)
	for i := range run.Faults {
		f := &run.Faults[i]
		f.ID, f.Target, f.BadOps = "f1-kill-"+long, long+"target", n
		share(&f.BudgetSpent)
		big(&f.Spans.Detect)
		big(&f.Spans.Recovered)
		big(&f.Spans.Redundant)
		big(&f.Spans.Objective)
		f.ResponseUS.Max = us
		for name, p := range f.Paths {
			big(&p.FullOutage)
			big(&p.PartialOutage)
			big(&p.BrownOut)
			big(&p.Good)
			big(&p.Unmeasured)
			f.Paths[name] = p
		}
		f.Mail = results.Mail{Deferred: n, Ungreylisted: n, Misrouted: n, LostAtMost: n}
	}
	run.Mail.Mail, run.Mail.Messages = run.Faults[0].Mail, n
	for i := range run.Objectives {
		o := &run.Objectives[i]
		o.Name, o.Good, o.Bad, o.LatencyUS = strings.ReplaceAll(long, "-", " "), n, n, us
		share(&o.BudgetSpent)
	}
	for i := range run.Errors {
		run.Errors[i].Attempts, run.Errors[i].Class = n, long
	}
	return run
}

// TestEnormousNumbersFit holds that tables give way in their names, and then
// become several, but that no number is cut.
func TestEnormousNumbersFit(t *testing.T) {
	var b bytes.Buffer
	if err := Text(&b, enormous(t), 80); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if cut := regexp.MustCompile(`[0-9]…`).FindString(b.String()); cut != "" {
		t.Errorf("a number is cut: %s\n%s", cut, &b)
	}
	golden.AssertBytes(t, b.Bytes(), "enormous.txt")
}

// drawn draws a run and holds that the picture is well formed and fetches
// nothing.
func drawn(t *testing.T, run *results.Run) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := SVG(&b, run); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not well formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "//") && a.Name.Local != "xmlns" {
					t.Errorf("<%s %s=%q> refers to something outside", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	return b.Bytes()
}

func TestHeadlines(t *testing.T) {
	run := judged(t, "two-kills")
	for _, row := range []struct {
		verdict results.Verdict
		reasons []string
		want    string
	}{
		{results.Pass, nil, "PASS: every objective held; 6,000 messages, 100.0/s, 2 faults, "},
		{results.Inconclusive, []string{"a", "b", "c"}, "INCONCLUSIVE: a (and 2 more)."},
		{results.Inconclusive, []string{"a"}, "INCONCLUSIVE: a."},
	} {
		run.Verdict, run.Reasons = row.verdict, row.reasons
		if got := Headline(run); !strings.HasPrefix(got, row.want) {
			t.Errorf("headline is %q, want %q", got, row.want)
		}
	}
}

func TestLatenciesThatAreNotToldApartAreCounted(t *testing.T) {
	run := judged(t, "two-kills")
	run.Paths["routing"].ResponseUS.Overflow = 1200
	run.Paths["greylist"].ResponseUS.Overflow = 34
	const want = "Longer than 600 s, and not told apart: 1,234 ops; a quantile among them is told as the maximum."
	if notes := remarks(run); !slices.Contains(notes, want) {
		t.Errorf("no note says %q: %q", want, notes)
	}
}

func TestMicros(t *testing.T) {
	for us, want := range map[int64]string{
		0: "0 µs", 7: "7 µs", 999: "999 µs",
		1000: "1.00 ms", 1234: "1.23 ms", 1235: "1.24 ms", 9994: "9.99 ms", 9995: "10.0 ms",
		12_345: "12.3 ms", 99_950: "100 ms", 123_456: "123 ms", 999_499: "999 ms", 999_500: "1.00 s",
		1_006_000: "1.01 s", 59_960_000: "60.0 s", 99_950_000: "100 s", 1_234_567_890: "1,235 s",
		-1500: "-1.50 ms",
	} {
		if got := micros(us); got != want {
			t.Errorf("%d µs is written %q, want %q", us, got, want)
		}
	}
}

func TestShares(t *testing.T) {
	for _, row := range []struct {
		good, total int64
		want        string
	}{
		{999_999_999, 1_000_000_000, "99.9999 %"}, // never rounded up to 100
		{10, 10, "100 %"},
		{999, 1000, "99.9 %"},
		{0, 3, "0 %"},
		{2, 3, "66.6666 %"},
	} {
		if got := exactPercent(share(row.good, row.total)); got != row.want {
			t.Errorf("%d of %d is written %q, want %q", row.good, row.total, got, row.want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1_234_567: "1,234,567", -1000: "-1,000"} {
		if got := count(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
}

// record leaves a small recording in dir.
func record(t *testing.T, dir string) {
	t.Helper()
	rec, err := results.Create(dir, results.Manifest{
		Scenario: "small", Anchor: time.Unix(1_700_000_000, 0),
		Objectives: []results.Objective{{Name: "all", TargetPPM: 500_000}},
	}, results.Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	s := workload.Sample{
		Message: 1, Operation: reference.Route, Outcome: workload.OK,
		Attempts: []workload.Attempt{{Node: 4, Ended: time.Millisecond}},
	}
	rec.Record(&s)
	if err := rec.Close(results.EndOfRun{At: time.Second, Reason: results.Completed}); err != nil {
		t.Fatal(err)
	}
}

func TestWriteMakesTheSameBytesAgain(t *testing.T) {
	dir := t.TempDir()
	record(t, dir)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(elsewhere, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	names := []string{RunFile, BudgetFile, HlogFile, SummaryFile, JUnitFile, MetricsFile, HTMLFile, "routing.hgrm"}
	read := func(dir string) (all [8]string) {
		run, err := Write(dir)
		if err != nil || run.Verdict != results.Pass {
			t.Fatalf("%+v, %v", run, err)
		}
		for i, name := range names {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || len(b) == 0 {
				t.Fatalf("%s has %d bytes, %v", name, len(b), err)
			}
			if bytes.Contains(b, []byte(os.TempDir())) {
				t.Errorf("%s holds a path of this machine", name)
			}
			all[i] = string(b)
		}
		return all
	}
	first := read(dir)
	for sentence, again := range map[string][8]string{"the second report": read(dir), "the report in another directory": read(elsewhere)} {
		for i, name := range names {
			if first[i] != again[i] {
				t.Errorf("%s has another %s", sentence, name)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 6+len(names) {
		t.Errorf("directory holds %v, %v", entries, err)
	}
}

func TestWriteMakesDoWithWhatIsThere(t *testing.T) {
	for _, name := range []string{results.SamplesFile, results.EventsFile, results.CountersFile, results.LedgerFile} {
		dir := t.TempDir()
		record(t, dir)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		run, err := Write(dir)
		if err != nil || run.Verdict != results.Inconclusive || !slices.Contains(run.Reasons, name+" is missing") {
			t.Errorf("without %s: %+v, %v", name, run, err)
			continue
		}
		for _, name := range []string{RunFile, HlogFile, SummaryFile, JUnitFile, MetricsFile, HTMLFile} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(b) == 0 {
				t.Errorf("%s has %d bytes, %v", name, len(b), err)
			}
		}
	}
}

func TestWriteOfNoRecordingSaysWhere(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got error %v", err)
	}
}

func TestMembers(t *testing.T) {
	for _, row := range []struct {
		sentence string
		prepare  func(dir string)
		want     []Member // Dir below the directory
	}{
		{"a run is its own only member", func(dir string) { record(t, dir) }, []Member{{Dir: ""}}},
		{"a directory without a recording is left for Write to refuse", func(string) {}, []Member{{Dir: ""}}},
		{"of a series, runs that never began are told from the others, with and without a directory",
			func(dir string) {
				record(t, filepath.Join(dir, "001"))
				if err := os.MkdirAll(filepath.Join(dir, "002", "cluster"), 0o755); err != nil {
					t.Fatal(err)
				}
				series := results.Series{Kind: results.Repetitions, Members: []results.Member{{Dir: "001"}, {Dir: "002"}, {Dir: "003"}}}
				if err := series.Write(dir); err != nil {
					t.Fatal(err)
				}
			},
			[]Member{{Dir: "001"}, {Dir: "002", NeverBegan: true}, {Dir: "003", NeverBegan: true}}},
	} {
		dir := t.TempDir()
		row.prepare(dir)
		for i := range row.want {
			row.want[i].Dir = filepath.Join(dir, row.want[i].Dir)
		}
		got, err := Members(dir)
		if err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: got %+v, %v, want %+v", row.sentence, got, err, row.want)
		}
	}

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, results.SeriesFile), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	var unreadable *UnreadableError
	if _, err := Members(dir); !errors.As(err, &unreadable) {
		t.Errorf("a series that cannot be read: error %v", err)
	}
}
