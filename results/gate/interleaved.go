package gate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/workload"
)

// InterleavedSchema names the layout of interleaved.json.
const InterleavedSchema = "mailbench.interleaved/v1"

// InterleavedFile lies beside the run directories of a base and a candidate that
// were recorded in turn.
const InterleavedFile = "interleaved.json"

// What interleaved.json may hold.
const (
	maxPairs     = 10_000
	maxSettings  = 100
	maxSetting   = 4 << 10                      // bytes of one setting, and of a scenario's name
	maxSegmentUS = int64(1_000_000_000_000_000) // as far as a recording's clock goes: 31 years
)

// Interleaved says how a base and a candidate were recorded in turn: the same
// load, cut into segments, in the order A B, B A, A B, …
type Interleaved struct {
	Schema    string `json:"schema"`
	Scenario  string `json:"scenario"`
	Seed      uint64 `json:"seed"`      // of the bootstrap
	SettleUS  int64  `json:"settle_us"` // beginning of each segment that is not compared, 0 and more
	Base      Side   `json:"base"`
	Candidate Side   `json:"candidate"`
	Pairs     []Pair `json:"pairs"` // in the order in which they were recorded
}

// Side is one of the two.
type Side struct {
	Dir string   `json:"dir"` // of its run, below the directory of interleaved.json: a plain name
	Set []string `json:"set"` // what was changed in the scenario for it, each path=value
}

// Pair is two segments that were recorded one after the other.
type Pair struct {
	Base           Segment `json:"base"`
	Candidate      Segment `json:"candidate"`
	CandidateFirst bool    `json:"candidate_first"`
}

// Segment is a stretch of a run, of the ops whose intended time lies in it: from
// FromUS, up to but without ToUS, in microseconds since the anchor of that run.
type Segment struct {
	FromUS int64 `json:"from_us"`
	ToUS   int64 `json:"to_us"`
}

// sideName is how a side's directory may be called.
var sideName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// Validate says what is wrong with it, and where.
func (x *Interleaved) Validate() error {
	switch {
	case x.Schema != InterleavedSchema:
		return fmt.Errorf("its schema is %q, this program reads %q", x.Schema, InterleavedSchema)
	case x.Scenario == "" || len(x.Scenario) > maxSetting:
		return fmt.Errorf("scenario has %d bytes, must have 1 to %d", len(x.Scenario), maxSetting)
	case x.SettleUS < 0:
		return fmt.Errorf("settle_us is %d, must not be negative", x.SettleUS)
	case x.Base.Dir == x.Candidate.Dir:
		return fmt.Errorf("base and candidate are both in %q, must each have a directory", x.Base.Dir)
	case len(x.Pairs) > maxPairs:
		return fmt.Errorf("%d pairs, must be at most %d", len(x.Pairs), maxPairs)
	}
	for _, s := range []struct {
		name string
		side Side
	}{{"base", x.Base}, {"candidate", x.Candidate}} {
		if !sideName.MatchString(s.side.Dir) {
			return fmt.Errorf("%s.dir is %q, must be a plain name: letters, digits, dots, dashes", s.name, s.side.Dir)
		}
		if len(s.side.Set) > maxSettings {
			return fmt.Errorf("%s.set has %d settings, must be at most %d", s.name, len(s.side.Set), maxSettings)
		}
		for i, set := range s.side.Set {
			if name, _, ok := strings.Cut(set, "="); !ok || name == "" || len(set) > maxSetting {
				return fmt.Errorf("%s.set[%d] must be path=value, of at most %d bytes", s.name, i, maxSetting)
			}
		}
	}
	var end sides[int64]
	for i, p := range x.Pairs {
		if err := p.Base.follows(end.base, x.SettleUS); err != nil {
			return fmt.Errorf("pairs[%d].base: %w", i, err)
		}
		if err := p.Candidate.follows(end.candidate, x.SettleUS); err != nil {
			return fmt.Errorf("pairs[%d].candidate: %w", i, err)
		}
		end = sides[int64]{p.Base.ToUS, p.Candidate.ToUS}
	}
	return nil
}

// sides is something of both.
type sides[T any] struct{ base, candidate T }

// follows says why a segment cannot come after another one of the same side.
func (s Segment) follows(end, settle int64) error {
	switch {
	case s.FromUS < 0 || s.ToUS > maxSegmentUS:
		return fmt.Errorf("from %d to %d µs is out of range, 0 to %d", s.FromUS, s.ToUS, maxSegmentUS)
	case s.FromUS < end:
		return fmt.Errorf("it begins at %d µs, before the end of the one before it (%d µs)", s.FromUS, end)
	case s.ToUS <= s.FromUS || s.ToUS-s.FromUS <= settle:
		return fmt.Errorf("from %d to %d µs leaves nothing to compare, of which the first %d µs settle", s.FromUS, s.ToUS, settle)
	}
	return nil
}

// Write puts interleaved.json into dir, in place of an older one. An empty Schema
// is filled in.
func (x *Interleaved) Write(dir string) error {
	if x.Schema == "" {
		x.Schema = InterleavedSchema
	}
	if err := x.Validate(); err != nil {
		return fmt.Errorf("write %s: %w", InterleavedFile, err)
	}
	text, err := x.encode()
	if err != nil {
		return fmt.Errorf("encode %s: %w", InterleavedFile, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", InterleavedFile, err)
	}
	return results.ReplaceFile(filepath.Join(dir, InterleavedFile), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// encode writes lists that are none as empty ones.
func (x *Interleaved) encode() ([]byte, error) {
	for _, side := range []*Side{&x.Base, &x.Candidate} {
		if side.Set == nil {
			side.Set = []string{}
		}
	}
	if x.Pairs == nil {
		x.Pairs = []Pair{}
	}
	text, err := json.MarshalIndent(x, "", "  ")
	return append(text, '\n'), err
}

// IsInterleaved says whether dir holds two sides that were recorded in turn.
func IsInterleaved(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, InterleavedFile))
	return err == nil
}

// InterleavedOptions are those by which sides that were recorded in turn are
// compared. The effects of latencies are larger than compare's: 20 pairs of 20
// seconds of two equal clusters on 2 processors left a p50 open by 6 to 7 %, a p95 by
// 7 to 10 % and a p99 by 17 to 21 %. docs/gate.md has a measurement, and how to choose
// others.
func InterleavedOptions() compare.Options {
	o := compare.DefaultOptions(0)
	for i := range o.Statistics {
		s := &o.Statistics[i]
		if effect, ok := interleavedEffects[s.String()]; ok {
			s.Effect = effect
		}
	}
	return o
}

var interleavedEffects = map[string]float64{"p50": 0.10, "p90": 0.20, "p95": 0.25, "p99": 0.50, "p99.9": 1}

// ReadInterleaved reads interleaved.json in dir. The error is an *UnfitError that
// names the file.
func ReadInterleaved(dir string) (*Interleaved, error) {
	path := filepath.Join(dir, InterleavedFile)
	x := new(Interleaved)
	if err := readStrict(path, InterleavedSchema, "there is none; name a directory that gate ab has written", x); err != nil {
		return nil, &UnfitError{fmt.Sprintf("%s: %v", path, err)}
	}
	if err := x.Validate(); err != nil {
		return nil, &UnfitError{fmt.Sprintf("%s: %v", path, err)}
	}
	return x, nil
}

// Collector keeps the ops of one side that are compared.
type Collector struct {
	settle   int64
	segments []Segment
	ops      map[reference.Path][][]timedOp // by segment
}

type timedOp struct {
	intended int64
	op       compare.Op
}

// Collectors return one for each side.
func (x *Interleaved) Collectors() (base, candidate *Collector) {
	var segments sides[[]Segment]
	for _, p := range x.Pairs {
		segments.base, segments.candidate = append(segments.base, p.Base), append(segments.candidate, p.Candidate)
	}
	collector := func(segments []Segment) *Collector {
		return &Collector{x.SettleUS, segments, map[reference.Path][][]timedOp{}}
	}
	return collector(segments.base), collector(segments.candidate)
}

// answered is good whatever the op's path and however long it took: what the
// judge calls a bad op is not.
var answered results.Objective

// Record takes a sample if its intended time lies in a segment, less what settles.
// Its latency is the response time, from the intended time to the end, whatever
// became of it.
func (c *Collector) Record(s *workload.Sample) {
	at := s.Intended.Microseconds()
	i := sort.Search(len(c.segments), func(i int) bool { return at < c.segments[i].ToUS })
	if i == len(c.segments) || at < c.segments[i].FromUS+c.settle {
		return
	}
	path := s.Operation.Path()
	if c.ops[path] == nil {
		c.ops[path] = make([][]timedOp, len(c.segments))
	}
	c.ops[path][i] = append(c.ops[path][i], timedOp{at, compare.Op{LatencyUS: s.Response().Microseconds(), Bad: !answered.Good(s)}})
}

// segment is one of a path, in order of intended time. Ops of one time stay as
// they were recorded.
func (c *Collector) segment(path reference.Path, i int) compare.Segment {
	s := compare.Segment{DurationUS: c.segments[i].ToUS - c.segments[i].FromUS - c.settle}
	if c.ops[path] == nil {
		return s
	}
	all := c.ops[path][i]
	slices.SortStableFunc(all, func(a, b timedOp) int { return cmp.Compare(a.intended, b.intended) })
	s.Ops = make([]compare.Op, len(all))
	for k := range all {
		s.Ops[k] = all[k].op
	}
	return s
}

// Series are the segments of each path that either side asked, in pairs.
func (x *Interleaved) Series(base, candidate *Collector) []compare.Series {
	var all []compare.Series
	for _, path := range reference.Paths {
		if base.ops[path] == nil && candidate.ops[path] == nil {
			continue
		}
		s := compare.Series{Name: path.String()}
		for i, p := range x.Pairs {
			s.Pairs = append(s.Pairs, compare.Pair{A: base.segment(path, i), B: candidate.segment(path, i), BFirst: p.CandidateFirst})
		}
		all = append(all, s)
	}
	return all
}

// Judge compares the candidate with the base: what an op costs, what the ledgers
// say, and the latencies of series. The seed of o is that of x. What cannot be
// compared is a reason of the report, which is inconclusive then; the error is an
// *UnfitError if the sides did not replay the same load.
func (x *Interleaved) Judge(base, candidate Measured, series []compare.Series, o compare.Options) (*Report, error) {
	o.Seed = x.Seed
	if _, err := compare.Latencies(nil, o); err != nil { // of the options; other errors are of what was recorded
		return nil, err
	}
	a, b := of(base), of(candidate)
	if differences := x.otherLoad(a, b); len(differences) > 0 {
		return nil, &UnfitError{"base and candidate did not replay the same load: " + strings.Join(differences, "; ") + "; compare sides that differ in the system only"}
	}
	r := newReport(x.Scenario)
	r.Base, r.Runs = []string{base.Run.RunID}, []string{candidate.Run.RunID}
	r.Notes = append(r.Notes, x.words())
	for _, side := range []struct {
		name string
		m    Measured
	}{{"base", base}, {"candidate", candidate}} {
		for _, reason := range side.m.Run.Reasons {
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s, run %s: %s", side.name, side.m.Run.RunID, reason))
		}
		if len(side.m.Run.Faults) > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("Of the faults that the %s met nothing was compared, for one run tells nothing of them: repeat runs, and compare them with gate RUN --baseline.", side.name))
		}
	}
	if n := lostWrites(base); n > 0 {
		r.Reasons = append(r.Reasons, fmt.Sprintf("base, run %s: %d acknowledged writes are gone, or were contradicted by an answer: with such a base nothing passes", base.Run.RunID, n))
	}
	if others := otherEnvironment(machine(a), machine(b)); len(others) > 0 {
		r.Reasons = append(r.Reasons, "the sides were recorded on different machines: "+strings.Join(others, "; "))
	}
	if i := x.outOfTurn(base.Manifest.Anchor, candidate.Manifest.Anchor); i >= 0 {
		r.Reasons = append(r.Reasons, fmt.Sprintf("the segments of pair %d were not recorded when %s says: by the runs' anchors another segment came before", i+1, InterleavedFile))
	}
	if err := r.counters(a, b, "the base has no cost counters: the probe before its load failed"); err != nil {
		return nil, err
	}
	r.interleaved(x, series, o)
	r.conclude(lostWrites(candidate))
	return r, nil
}

// otherLoad names what keeps the sides from having replayed the same load. Their
// topologies, configurations and images are what is compared.
func (x *Interleaved) otherLoad(a, b *Baseline) []string {
	var all []string
	differ := func(what string, in string, want, is any) {
		if fmt.Sprint(want) != fmt.Sprint(is) {
			all = append(all, fmt.Sprintf("%s is %v in the %s, must be %v", what, is, in, want))
		}
	}
	differ("scenario", "base", x.Scenario, a.Scenario)
	differ("scenario", "candidate", x.Scenario, b.Scenario)
	differ("seed", "candidate", a.Seed, b.Seed)
	differ("speed", "candidate", a.Speed, b.Speed)
	differ("the window's begin (s)", "candidate", a.Window.FromSeconds, b.Window.FromSeconds)
	differ("the window's duration (s)", "candidate", a.Window.DurationSeconds, b.Window.DurationSeconds)
	if len(all) == 0 { // else they say it already
		differ("the trace's SHA-256", "candidate", a.Trace, b.Trace)
	}
	return all
}

// machine is the environment that both sides must share: the image and the engine
// may be what is compared.
func machine(b *Baseline) map[string]string {
	e := maps.Clone(b.Environment)
	delete(e, "image")
	delete(e, "engine")
	return e
}

// outOfTurn returns the first pair that was not recorded in its turn, by the
// middles of segments on the machine's clock, so that a small step of it does no
// harm; -1 if all were.
func (x *Interleaved) outOfTurn(base, candidate time.Time) int {
	middle := func(anchor time.Time, s Segment) time.Time {
		return anchor.Add(time.Duration(s.FromUS+(s.ToUS-s.FromUS)/2) * time.Microsecond)
	}
	var last time.Time
	for i, p := range x.Pairs {
		first, second := middle(base, p.Base), middle(candidate, p.Candidate)
		if p.CandidateFirst {
			first, second = second, first
		}
		if i > 0 && !first.After(last) || !second.After(first) {
			return i
		}
		last = second
	}
	return -1
}

// words say what was compared.
func (x *Interleaved) words() string {
	set := func(s Side) string {
		if len(s.Set) == 0 {
			return "the scenario as it is"
		}
		return strings.Join(s.Set, ", ")
	}
	text := fmt.Sprintf("Base: %s. Candidate: %s. In turn, %d pairs of segments", set(x.Base), set(x.Candidate), len(x.Pairs))
	if len(x.Pairs) > 0 {
		first := x.Pairs[0].Base
		text += fmt.Sprintf(" of about %v, of which the first %v are not compared",
			time.Duration(first.ToUS-first.FromUS)*time.Microsecond, time.Duration(x.SettleUS)*time.Microsecond)
	}
	return text + "."
}

// interleaved compares latencies. Whatever keeps it from telling is a reason.
func (r *Report) interleaved(x *Interleaved, series []compare.Series, o compare.Options) {
	if len(x.Pairs) == 0 || len(series) == 0 {
		r.Reasons = append(r.Reasons, fmt.Sprintf("of %d pairs of segments there is no op to compare", len(x.Pairs)))
		return
	}
	for i := range x.Pairs {
		var ops sides[int]
		for _, s := range series {
			ops.base, ops.candidate = ops.base+len(s.Pairs[i].A.Ops), ops.candidate+len(s.Pairs[i].B.Ops)
		}
		switch {
		case ops.base == 0:
			r.Reasons = append(r.Reasons, fmt.Sprintf("the base has no op in its segment of pair %d", i+1))
		case ops.candidate == 0:
			r.Reasons = append(r.Reasons, fmt.Sprintf("the candidate has no op in its segment of pair %d", i+1))
		}
	}
	found, err := compare.Latencies(series, o)
	if err != nil {
		r.Reasons = append(r.Reasons, err.Error())
		return
	}
	r.Interleaved = found
	r.bearing()
	compared := 0
	for _, c := range found {
		if c.P != nil {
			compared++
		}
	}
	// So few pairs can still agree that there is no difference. They could not have
	// told of one.
	if least := compare.FewestPairs(compared, o.Alpha); len(x.Pairs) < least {
		r.Reasons = append(r.Reasons, fmt.Sprintf("%d pairs can find no regression among %d comparisons; take %d or more", len(x.Pairs), compared, least))
	}
}

// LeastOps is how many ops must lie beyond a quantile, on the side that has fewer,
// for it to hold up a pass. It counts ops and knows nothing of how long they took,
// so that no candidate gets out of a comparison by being slow. With it the error of
// a quantile is some 3 % where latencies fall off as the inverse of their square
// (1/(2 sqrt(400)) of each side), less where they fall off faster, if ops are
// independent.
const LeastOps = 400

// bearing makes optional what so few ops cannot bear: the far tail, and a path that
// is asked too rarely for its median. One path at least must bear it.
func (r *Report) bearing() {
	rare := map[string]bool{} // paths
	borne := 0
	for _, c := range r.Interleaved {
		if c.Statistic == p50.String() {
			rare[c.Series] = beyond(c, p50) < LeastOps
			if !rare[c.Series] {
				borne++
			}
		}
	}
	for i := range r.Interleaved {
		c := &r.Interleaved[i]
		q, isQuantile := quantileOf(c.Statistic)
		if c.Verdict != compare.Inconclusive || c.Optional {
			continue
		}
		switch {
		case rare[c.Series]:
			c.Optional, c.Why = true, fmt.Sprintf("the path is asked too rarely: its median wants %d ops of each side", 2*LeastOps)
		case isQuantile && beyond(*c, q) < LeastOps:
			c.Optional, c.Why = true, fmt.Sprintf("fewer than %d ops lie beyond it", LeastOps)
		}
	}
	if borne == 0 {
		r.Reasons = append(r.Reasons, fmt.Sprintf("no path was asked often enough: a median wants %d ops of each side", 2*LeastOps))
	}
}

var p50 = compare.Statistic{Kind: compare.Quantile, Permille: 500}

// quantileOf is the statistic of that name, if it is a quantile.
func quantileOf(name string) (compare.Statistic, bool) {
	tenths, ok := strings.CutPrefix(name, "p")
	percent, err := strconv.ParseFloat(tenths, 64)
	s := compare.Statistic{Kind: compare.Quantile, Permille: int64(math.Round(percent * 10))}
	return s, ok && err == nil && s.String() == name
}

// beyond is how many ops lie beyond a quantile, on the side that has fewer.
func beyond(c compare.Comparison, q compare.Statistic) int64 {
	return min(c.SamplesA, c.SamplesB) * min(q.Permille, 1000-q.Permille) / 1000
}
