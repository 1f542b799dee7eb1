package report

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	probe "github.com/mailbench/mailbench/reference/costs"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/workload"
)

// sideOf is how a test records a side.
type sideOf struct {
	slower float64 // factor of routing, 0 for 1
	settle float64 // factor of what settles, 0 for 1
	trips  int64   // round trips of a decision, 0 for 2
	seed   uint64  // of the scenario, 0 for 1
	lost   bool    // an acknowledged write
	cut    bool    // the run was interrupted
}

const (
	segmentLength = 2 * time.Second
	settleLength  = 500 * time.Millisecond
)

// inTurn leaves in dir what gate ab would: so many pairs of segments, in each of
// which routing and greylisting are asked each 5 ms. The candidate's clock began 7
// seconds later.
func inTurn(t *testing.T, pairs int, base, candidate sideOf) string {
	t.Helper()
	dir := t.TempDir()
	const late = 7 * time.Second
	x := gate.Interleaved{
		Scenario: "smoke", Seed: 1, SettleUS: settleLength.Microseconds(),
		Base: gate.Side{Dir: "base"}, Candidate: gate.Side{Dir: "candidate", Set: []string{"cluster.replicas=1"}},
	}
	at := 10 * time.Second
	segment := func(clock time.Duration) gate.Segment {
		from := at - clock
		at += segmentLength
		return gate.Segment{FromUS: from.Microseconds(), ToUS: (from + segmentLength).Microseconds()}
	}
	var a, b []gate.Segment
	for i := range pairs {
		p := gate.Pair{CandidateFirst: i%2 == 1}
		if p.CandidateFirst {
			p.Candidate, p.Base = segment(late), segment(0)
		} else {
			p.Base, p.Candidate = segment(0), segment(late)
		}
		x.Pairs = append(x.Pairs, p)
		a, b = append(a, p.Base), append(b, p.Candidate)
	}
	if err := x.Write(dir); err != nil {
		t.Fatal(err)
	}
	anchor := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	recordSide(t, filepath.Join(dir, "base"), "run-a", anchor, a, base)
	recordSide(t, filepath.Join(dir, "candidate"), "run-b", anchor.Add(late), b, candidate)
	return dir
}

func recordSide(t *testing.T, dir, id string, anchor time.Time, segments []gate.Segment, how sideOf) {
	t.Helper()
	or := func(x, usual float64) float64 {
		if x == 0 {
			return usual
		}
		return x
	}
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := results.Create(dir, results.Manifest{
		Scenario: "smoke", RunID: id, Seed: uint64(or(float64(how.seed), 1)), Speed: 1, Anchor: anchor, Topology: top,
		Host: map[string]string{"cpus": "2"}, Clients: []results.Client{{Name: "mta1", Kind: "mta", Nodes: []string{"sql1"}}},
		Trace: results.Trace{SHA256: "aa", Messages: 10}, PlanSHA256: "bb",
	}, results.Inputs{Scenario: []byte("name: smoke\n")})
	if err != nil {
		t.Fatal(err)
	}
	rec.Costs([]probe.Cost{{Path: reference.Greylist, Decision: "new", Repetitions: 3, Exact: map[string]int64{"ndb_round_trips": int64(or(float64(how.trips), 2))}}})
	last := time.Duration(segments[len(segments)-1].ToUS) * time.Microsecond
	rec.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	rec.Event(chaos.Event{At: last, Kind: chaos.KindPhase, Name: "drain"})
	rnd := rand.New(rand.NewPCG(uint64(len(id)), uint64(id[len(id)-1])))
	message := uint64(0)
	for _, s := range segments {
		from := time.Duration(s.FromUS) * time.Microsecond
		for at := from; at < from+segmentLength; at += 5 * time.Millisecond {
			for i, o := range []reference.Operation{reference.Route, reference.CheckGreylist} {
				took := 1000 * math.Exp(0.1*rnd.NormFloat64())
				answer := uint8(greylist.New)
				if i == 0 {
					answer = uint8(routing.Local)
					took *= or(how.slower, 1)
				}
				if at < from+settleLength {
					took *= or(how.settle, 1)
				}
				sample := workload.Sample{
					Message: message, Operation: o, Virtual: at, Intended: at, Answer: answer, Outcome: workload.OK,
					Attempts: []workload.Attempt{{Node: 4, Dispatched: at, Ended: at + time.Duration(took)*time.Microsecond}},
				}
				rec.Record(&sample)
			}
			message++
		}
	}
	counts := results.LedgerCounts{Acknowledged: 10, Verified: 10}
	if how.lost {
		rec.LedgerRow(results.LedgerRow{Kind: results.Triplet, Key: "k", Verdict: results.Lost, Wanted: "w"})
		counts.Verified, counts.Lost = 9, 1
	}
	rec.LedgerSummary(results.LedgerSummary{results.Triplet: &counts})
	end := results.EndOfRun{At: last, Reason: results.Completed}
	if how.cut {
		end.Reason = results.Interrupted
	}
	if err := rec.Close(end); err != nil {
		t.Fatal(err)
	}
}

func TestInterleaved(t *testing.T) {
	for _, row := range []struct {
		sentence        string
		pairs           int
		base, candidate sideOf
		want            compare.Verdict
		says            string // of the report at 80 columns
	}{
		{"the same twice", 16, sideOf{}, sideOf{}, compare.NoDifference, "PASS: nothing is worse than the base."},
		{"routing is slower by 30 %", 16, sideOf{}, sideOf{slower: 1.3}, compare.Regression, "routing   p99"},
		{"and faster", 16, sideOf{slower: 1.3}, sideOf{}, compare.Improvement, "PASS: "},
		{"only while it settles", 16, sideOf{}, sideOf{settle: 10}, compare.NoDifference, "the first 500ms are not"},
		{"three pairs", 3, sideOf{}, sideOf{}, compare.Inconclusive, "3 pairs can find no regression"},
		{"three pairs, and slower", 3, sideOf{}, sideOf{slower: 1.3}, compare.Inconclusive, "3 pairs can find no regression"},
		{"one pair", 1, sideOf{}, sideOf{}, compare.Inconclusive, "1 pairs; at least 2 are needed"},
		{"the candidate lost a write", 16, sideOf{}, sideOf{lost: true}, compare.DataLoss, "DATA LOSS: 1 acknowledged writes are gone"},
		{"the base did", 16, sideOf{lost: true}, sideOf{}, compare.Inconclusive, "base, run run-a: 1 acknowledged writes are gone"},
		{"a decision costs a round trip more", 16, sideOf{}, sideOf{trips: 3}, compare.Regression, "ndb round trips"},
		{"the candidate was interrupted", 16, sideOf{}, sideOf{cut: true}, compare.Inconclusive, "candidate, run run-b: the run did not complete"},
		{"the base was", 16, sideOf{cut: true}, sideOf{}, compare.Inconclusive, "base, run run-a: the run did not complete"},
	} {
		r, err := Interleaved(inTurn(t, row.pairs, row.base, row.candidate), compare.DefaultOptions(0))
		if err != nil {
			t.Fatalf("%s: %v", row.sentence, err)
		}
		var b bytes.Buffer
		if err := GateText(&b, r, 80); err != nil {
			t.Fatal(err)
		}
		if r.Verdict != row.want || !strings.Contains(b.String(), row.says) {
			t.Errorf("%s: %s, want %s, and text with %q:\n%s", row.sentence, r.Verdict, row.want, row.says, &b)
		}
	}
}

func TestInterleavedRefuses(t *testing.T) {
	for _, row := range []struct {
		sentence string
		spoil    func(t *testing.T, dir string)
		seed     uint64
		says     string
	}{
		{"no interleaved.json", func(t *testing.T, dir string) { remove(t, dir, gate.InterleavedFile) }, 1, "name a directory that gate ab has written"},
		{"no manifest of the candidate", func(t *testing.T, dir string) { remove(t, dir, "candidate", results.ManifestFile) }, 1, "candidate cannot be judged"},
		{"another load", func(*testing.T, string) {}, 2, "seed is 2 in the candidate, must be 1"},
	} {
		dir := inTurn(t, 2, sideOf{}, sideOf{seed: row.seed})
		row.spoil(t, dir)
		_, err := Interleaved(dir, compare.DefaultOptions(0))
		var unfit *gate.UnfitError
		var unreadable *UnreadableError
		if err == nil || !strings.Contains(err.Error(), row.says) || !errors.As(err, &unfit) && !errors.As(err, &unreadable) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.says)
		}
	}
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
