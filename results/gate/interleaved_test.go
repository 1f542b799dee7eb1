package gate

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/internal/strictjson"
	"github.com/mailbench/mailbench/workload"
)

// alternating is so many pairs of segments of two seconds, on one clock for both
// sides, of which the first half second settles.
func alternating(pairs int) *Interleaved {
	x := &Interleaved{
		Schema: InterleavedSchema, Scenario: "s", Seed: 7, SettleUS: 500_000,
		Base: Side{"base", []string{}}, Candidate: Side{"candidate", []string{"a=b"}}, Pairs: []Pair{},
	}
	for i := range pairs {
		first := Segment{int64(i) * 4_000_000, int64(i)*4_000_000 + 2_000_000}
		second := Segment{first.ToUS, first.ToUS + 2_000_000}
		if i%2 == 0 {
			x.Pairs = append(x.Pairs, Pair{Base: first, Candidate: second})
		} else {
			x.Pairs = append(x.Pairs, Pair{Base: second, Candidate: first, CandidateFirst: true})
		}
	}
	return x
}

func TestInterleavedFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ab")
	x := alternating(3)
	x.Schema = ""
	if err := x.Write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := ReadInterleaved(dir)
	if err != nil || !reflect.DeepEqual(again, alternating(3)) {
		t.Fatalf("it was read as %+v, %v", again, err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, InterleavedFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ sentence, old, new, says string }{
		{"another schema", InterleavedSchema, "mailbench.interleaved/v9", `"mailbench.interleaved/v9", this program reads "mailbench.interleaved/v1"`},
		{"a field that there is not", `"settle_us"`, `"settle"`, `unknown field "settle"`},
		{"text for a number", `"from_us": 0,`, `"from_us": "0",`, "line 19, column"},
		{"two values", "\n}\n", "\n}{}", "invalid character"},
		{"no scenario", `"scenario": "s"`, `"scenario": ""`, "scenario has 0 bytes, must have 1 to 4096"},
		{"a negative time", `"settle_us": 500000`, `"settle_us": -1`, "settle_us is -1"},
		{"a settled segment", `"settle_us": 500000`, `"settle_us": 2000000`, "pairs[0].base: from 0 to 2000000 µs leaves nothing to compare"},
		{"a path out of the directory", `"dir": "base"`, `"dir": "../base"`, `base.dir is "../base", must be a plain name`},
		{"no directory", `"dir": "candidate"`, `"dir": ""`, "candidate.dir"},
		{"one directory for both", `"dir": "candidate"`, `"dir": "base"`, `both in "base"`},
		{"a setting that is none", `"a=b"`, `"a"`, "candidate.set[0] must be path=value"},
		{"a setting of nothing", `"a=b"`, `"=b"`, "candidate.set[0] must be path=value"},
		{"a long setting", `"a=b"`, `"a=` + strings.Repeat("b", maxSetting) + `"`, "at most 4096 bytes"},
		{"many settings", `"a=b"`, `"a=b"` + strings.Repeat(`,"a=b"`, maxSettings), "candidate.set has 101 settings"},
		{"a segment that ends before it begins", `"to_us": 2000000`, `"to_us": -2000000`, "pairs[0].base: from 0 to -2000000 µs leaves nothing"},
		{"a segment that ends long before the anchor", `"to_us": 4000000`, `"to_us": -9223372036854775808`, "pairs[0].candidate: from 2000000 to -9223372036854775808 µs leaves nothing"},
		{"a segment before the anchor", `"from_us": 0,`, `"from_us": -1,`, "pairs[0].base: from -1 to 2000000 µs is out of range"},
		{"a segment after the end of time", `"to_us": 12000000`, `"to_us": 1000000000000001`, "is out of range, 0 to 1000000000000000"},
		{"segments that overlap", `"from_us": 4000000,`, `"from_us": 3999999,`, "pairs[1].candidate: it begins at 3999999 µs, before the end of the one before it (4000000 µs)"},
	} {
		spoiled := bytes.Replace(whole, []byte(row.old), []byte(row.new), 1)
		if bytes.Equal(spoiled, whole) {
			t.Fatalf("%s: the file has no %s:\n%s", row.sentence, row.old, whole)
		}
		bad := t.TempDir()
		if err := os.WriteFile(filepath.Join(bad, InterleavedFile), spoiled, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadInterleaved(bad)
		var unfit *UnfitError
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
	if _, err := ReadInterleaved(t.TempDir()); err == nil || !strings.Contains(err.Error(), "name a directory that gate ab has written") {
		t.Errorf("no file: %v", err)
	}
	x = alternating(0)
	x.Base.Set, x.Pairs = nil, nil
	if err := x.Write(dir); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, InterleavedFile)); err != nil || bytes.Contains(text, []byte("null")) {
		t.Errorf("without settings and pairs it is %s, %v", text, err)
	}
	x = alternating(2)
	x.Pairs[0], x.Pairs[1] = x.Pairs[1], x.Pairs[0]
	if err := x.Write(dir); err == nil {
		t.Error("segments out of order were written")
	}
	x = alternating(maxPairs + 1)
	if err := x.Write(dir); err == nil || !strings.Contains(err.Error(), "must be at most 10000") {
		t.Errorf("too many pairs: %v", err)
	}
}

// What is read leaves of each segment something to compare, is in order, and is
// written as it was.
func FuzzInterleaved(f *testing.F) {
	whole, err := alternating(2).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(bytes.Replace(whole, []byte("4000000"), []byte("-9223372036854775808"), 1))
	read := func(text []byte) (*Interleaved, error) {
		x := new(Interleaved)
		return x, cmp.Or(strictjson.Decode(text, InterleavedSchema, x), x.Validate())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := read(text)
		if err != nil {
			return
		}
		base, candidate := x.Collectors()
		for _, c := range []*Collector{base, candidate} {
			end := int64(0)
			for i, s := range c.segments {
				if length := c.segment(reference.Routing, i).DurationUS; length <= 0 || s.FromUS < end || s.FromUS+x.SettleUS >= s.ToUS {
					t.Fatalf("segment %d of %+v leaves %d µs", i, c.segments, length)
				}
				end = s.ToUS
			}
		}
		again, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		if y, err := read(again); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}

func TestCollector(t *testing.T) {
	sample := func(o reference.Operation, at int64, took int64, outcome workload.Outcome, answer uint8) *workload.Sample {
		us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
		return &workload.Sample{Operation: o, Intended: us(at), Outcome: outcome, Answer: answer, Attempts: []workload.Attempt{
			{Dispatched: us(at + 10), Ended: us(at + 20)}, {Dispatched: us(at + 30), Ended: us(at + took)},
		}}
	}
	local, foreign := uint8(routing.Local), uint8(routing.Foreign)
	x := alternating(2) // base from 0 to 2 s and from 6 to 8 s, candidate from 2 to 6 s
	base, candidate := x.Collectors()
	for _, s := range []*workload.Sample{
		sample(reference.Route, 499_999, 1, workload.OK, local),             // settles
		sample(reference.Route, 1_999_999, 3_000_000, workload.OK, local),   // answered when its segment is over
		sample(reference.Route, 500_000, 100, workload.OK, local),           // recorded after one that was intended later
		sample(reference.Route, 2_000_000, 1, workload.OK, local),           // in no segment
		sample(reference.Route, 6_500_000, 101, workload.Retried, local),    // at the same time
		sample(reference.Route, 6_500_000, 102, workload.OK, foreign),       // answered wrongly
		sample(reference.Route, 6_600_000, 5_000_000, workload.Failed, 0),   // at its full duration
		sample(reference.Route, 6_700_000, 103, workload.Degraded, 0),       // bad, whatever an objective says
		sample(reference.Route, 7_999_999, 104, workload.Unknown, 0),        // bad
		sample(reference.Route, 8_000_000, 1, workload.OK, local),           // after the last segment
		sample(reference.Route, 60_000_000, 1, workload.OK, local),          // long after
		sample(reference.SetPreference, 1_000, 1, workload.OK, 0),           // a path of which nothing is compared
		sample(reference.RouteDelivery, 7_000_000, 105, workload.OK, local), // the same path
	} {
		base.Record(s)
	}
	candidate.Record(sample(reference.ReadPreferences, 3_000_000, 200, workload.OK, uint8(preferences.Found)))
	second := func(ops ...compare.Op) compare.Segment { return compare.Segment{DurationUS: 1_500_000, Ops: ops} }
	want := []compare.Series{
		{Name: "routing", Pairs: []compare.Pair{
			{A: second(compare.Op{LatencyUS: 100}, compare.Op{LatencyUS: 3_000_000}), B: second()},
			{A: second(
				compare.Op{LatencyUS: 101}, compare.Op{LatencyUS: 102, Bad: true}, compare.Op{LatencyUS: 5_000_000, Bad: true},
				compare.Op{LatencyUS: 103, Bad: true}, compare.Op{LatencyUS: 105}, compare.Op{LatencyUS: 104, Bad: true},
			), B: second(), BFirst: true},
		}},
		{Name: "preferences", Pairs: []compare.Pair{
			{A: second(), B: second(compare.Op{LatencyUS: 200})},
			{A: second(), B: second(), BFirst: true},
		}},
	}
	got := x.Series(base, candidate)
	for i := range got { // no ops are no ops
		for k := range got[i].Pairs {
			for _, s := range []*compare.Segment{&got[i].Pairs[k].A, &got[i].Pairs[k].B} {
				if len(s.Ops) == 0 {
					s.Ops = nil
				}
			}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// quiet is a series that hardly differs from pair to pair, of which the candidate
// takes so many microseconds more.
func quiet(x *Interleaved, more int64) []compare.Series {
	rnd := rand.New(rand.NewPCG(1, 1))
	segment := func(more int64) compare.Segment {
		s := compare.Segment{DurationUS: 1_500_000, Ops: make([]compare.Op, 1500)}
		for i := range s.Ops {
			s.Ops[i].LatencyUS = 1000 + rnd.Int64N(20) + more
		}
		return s
	}
	s := compare.Series{Name: "routing"}
	for _, p := range x.Pairs {
		s.Pairs = append(s.Pairs, compare.Pair{A: segment(0), B: segment(more), BFirst: p.CandidateFirst})
	}
	return []compare.Series{s}
}

func TestJudge(t *testing.T) {
	nothing := func(*Measured) {}
	for _, row := range []struct {
		sentence        string
		pairs           int
		base, candidate func(*Measured)
		series          func(*Interleaved) []compare.Series
		want            compare.Verdict
		says            string // of the reasons and notes
	}{
		{"nothing has changed", 12, nothing, nothing, nil, compare.NoDifference, "Base: the scenario as it is. Candidate: a=b. In turn, 12 pairs"},
		{"all ops take 30 % more", 12, nothing, nothing, func(x *Interleaved) []compare.Series { return quiet(x, 300) }, compare.Regression, ""},
		{"and 30 % less", 12, nothing, nothing, func(x *Interleaved) []compare.Series { return quiet(x, -300) }, compare.Improvement, ""},
		{"three pairs that agree, and could not have found anything", 3, nothing, nothing, nil, compare.Inconclusive, "3 pairs can find no regression among 6 comparisons; take 11 or more"},
		{"ten are still too few", 10, nothing, nothing, nil, compare.Inconclusive, "take 11 or more"},
		{"no pair", 0, nothing, nothing, nil, compare.Inconclusive, "of 0 pairs of segments there is no op to compare"},
		{"no op", 12, nothing, nothing, func(*Interleaved) []compare.Series { return nil }, compare.Inconclusive, "of 12 pairs of segments there is no op"},
		{"a segment without ops", 12, nothing, nothing, func(x *Interleaved) []compare.Series {
			s := quiet(x, 0)
			s[0].Pairs[4].B.Ops = nil
			return s
		}, compare.Inconclusive, "the candidate has no op in its segment of pair 5"},
		{"one of the base", 12, nothing, nothing, func(x *Interleaved) []compare.Series {
			s := quiet(x, 0)
			s[0].Pairs[11].A.Ops = nil
			return s
		}, compare.Inconclusive, "the base has no op in its segment of pair 12"},
		{"what cannot be compared", 12, nothing, nothing, func(x *Interleaved) []compare.Series {
			s := quiet(x, 0)
			s[0].Pairs[1].BFirst, s[0].Pairs[3].BFirst = false, false
			return s
		}, compare.Inconclusive, "B came first in 4 of 12 pairs"},
		{"an op that ended before it began", 12, nothing, nothing, func(x *Interleaved) []compare.Series {
			s := quiet(x, 0)
			s[0].Pairs[1].A.Ops[0].LatencyUS = -1
			return s
		}, compare.Inconclusive, "its clocks disagree"},
		{"the base cannot be relied upon", 12, func(m *Measured) { m.Run.Reasons = []string{"late"} }, nothing, nil, compare.Inconclusive, "base, run a: late"},
		{"the candidate cannot", 12, nothing, func(m *Measured) { m.Run.Reasons = []string{"late"} }, nil, compare.Inconclusive, "candidate, run b: late"},
		{"the candidate lost a write", 12, nothing, func(m *Measured) { m.Run.Ledger.Stale = 1 }, nil, compare.DataLoss, "1 acknowledged writes are gone"},
		{"an answer contradicts one", 12, nothing, func(m *Measured) { m.Run.Ledger.Violations.WrongRoute = 2 }, nil, compare.DataLoss, "2 acknowledged writes are gone"},
		{"the base lost one", 12, func(m *Measured) { m.Run.Ledger.Lost = 1 }, nothing, nil, compare.Inconclusive, "base, run a: 1 acknowledged writes are gone"},
		{"a round trip more", 12, nothing, set("round_trips", 3), nil, compare.Regression, ""},
		{"no counters of the base", 12, func(m *Measured) { m.Run.Costs = nil }, nothing, nil, compare.Inconclusive, "the base has no cost counters"},
		{"none of the candidate", 12, nothing, func(m *Measured) { m.Run.Costs = nil }, nil, compare.Inconclusive, "run b has no cost counters"},
		{"another image is what is compared", 12, nothing, func(m *Measured) { m.Run.Image.ID = "sha256:2" }, nil, compare.NoDifference, ""},
		{"and so is another topology", 12, nothing, func(m *Measured) { m.Manifest.Topology.Replicas = 1 }, nil, compare.NoDifference, ""},
		{"another machine is not", 12, nothing, func(m *Measured) { m.Run.Host = map[string]string{"cpus": "64"} }, nil, compare.Inconclusive, `different machines: cpus is "64", was "2"`},
		{"one side after the other", 12, nothing, func(m *Measured) { m.Manifest.Anchor = m.Manifest.Anchor.Add(48 * time.Second) }, nil, compare.Inconclusive, "the segments of pair 2 were not recorded when"},
		{"a clock that was set right", 12, nothing, func(m *Measured) { m.Manifest.Anchor = m.Manifest.Anchor.Add(time.Second) }, nil, compare.NoDifference, ""},
		{"faults are not compared", 12, nothing, nothing, nil, compare.NoDifference, "Of the faults that the candidate met nothing was compared"},
	} {
		x := alternating(row.pairs)
		series := quiet(x, 0)
		if row.series != nil {
			series = row.series(x)
		}
		r, err := x.Judge(measured(t, "a", 10, row.base), measured(t, "b", 10, row.candidate), series, compare.DefaultOptions(0))
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		if r.Verdict != row.want || r.ExitVerdict() != row.want.Run() {
			t.Errorf("%s: %s, want %s: %+v", row.sentence, r.Verdict, row.want, r)
		}
		if said := strings.Join(append(r.Reasons, r.Notes...), "\n"); !strings.Contains(said, row.says) {
			t.Errorf("%s: it says %q, want %q", row.sentence, said, row.says)
		}
	}
}

func TestJudgeRefuses(t *testing.T) {
	x := alternating(2)
	for _, row := range []struct {
		sentence string
		change   func(*Measured)
		says     string
	}{
		{"another scenario", func(m *Measured) { m.Run.Scenario = "x" }, "scenario is x in the candidate, must be s"},
		{"another seed", func(m *Measured) { m.Run.Seed = 7 }, "seed is 7 in the candidate, must be 1"},
		{"another speed", func(m *Measured) { m.Run.Speed = 10 }, "speed is 10"},
		{"a longer load", func(m *Measured) { m.Manifest.Window.DurationSeconds = 61 }, "duration (s) is 61 in the candidate, must be 60"},
		{"a later load", func(m *Measured) { m.Manifest.Window.FromSeconds = 1 }, "begin (s) is 1 in the candidate, must be 0"},
		{"another trace", func(m *Measured) { m.Run.Trace.SHA256 = "u" }, "the trace's SHA-256 is u"},
	} {
		_, err := x.Judge(measured(t, "a", 0, nil), measured(t, "b", 0, row.change), quiet(x, 0), compare.DefaultOptions(0))
		var unfit *UnfitError
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
	other := alternating(2)
	other.Scenario = "x"
	if _, err := other.Judge(measured(t, "a", 0, nil), measured(t, "b", 0, nil), quiet(x, 0), compare.DefaultOptions(0)); err == nil {
		t.Error("runs of a scenario that interleaved.json does not name were compared")
	}
	if _, err := x.Judge(measured(t, "a", 0, nil), measured(t, "b", 0, nil), quiet(x, 0), compare.Options{}); err == nil {
		t.Error("options that are none were taken")
	}
}

// The seed of the bootstrap is that of interleaved.json, so that a comparison can
// be judged anew.
func TestJudgeIsAFunctionOfTheSeed(t *testing.T) {
	judge := func(seed, optionSeed uint64) *results.Decimal {
		x := alternating(12)
		x.Seed = seed
		r, err := x.Judge(measured(t, "a", 0, nil), measured(t, "b", 0, nil), quiet(x, 1), compare.DefaultOptions(optionSeed))
		if err != nil {
			t.Fatal(err)
		}
		return r.Interleaved[0].SEPairs
	}
	if a, b := judge(1, 2), judge(1, 3); *a != *b {
		t.Errorf("one seed gives the standard errors %v and %v", a, b)
	}
	if a, b := judge(1, 2), judge(4, 2); *a == *b {
		t.Errorf("two seeds give the same standard error %v", a)
	}
}

func TestOutOfTurn(t *testing.T) {
	anchor := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first, second := Segment{0, 2_000_000}, Segment{2_000_000, 4_000_000}
	for _, row := range []struct {
		sentence string
		pairs    []Pair
		late     time.Duration // the candidate's clock
		want     int
	}{
		{"A B, B A", alternating(2).Pairs, 0, -1},
		{"both at a time", []Pair{{first, first, false}}, 0, 0},
		{"B A, and it is said that A came first", []Pair{{second, first, false}}, 0, 0},
		{"A A B B, and it is said that it was A B, A B", []Pair{{first, first, false}, {second, second, false}}, 3 * time.Second, 1},
	} {
		x := &Interleaved{Pairs: row.pairs}
		if got := x.outOfTurn(anchor, anchor.Add(row.late)); got != row.want {
			t.Errorf("%s: pair %d is out of turn, want %d", row.sentence, got, row.want)
		}
	}
}
