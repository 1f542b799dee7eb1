package results

import (
	"cmp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

const (
	maxColumns  = 400 // of a course, whatever the run's length
	minColumn   = sliceLength
	drawnFaults = 12 // whose latencies are kept; the others are in run.json
)

// Course is what a run did over time, and how latencies were spread: what
// charts are drawn from. Its size depends on the number of nodes, objectives and
// faults, and not on the run's length.
type Course struct {
	FromUS   int64 // since the anchor
	ToUS     int64
	ColumnUS int64 // length of a column; the last one may be shorter
	Columns  []Column
	Nodes    []NodeCourse
	Faults   []FaultCourse                       // those that cost most, in the plan's order
	Response map[reference.Path]*PathPercentiles // of the paths that were asked
	Ledger   *Ledger                             // at most maxLost rows and violations

	from, end, width time.Duration
	objectives       []Objective
	stretches        stretches
}

// Column is what happened in one stretch of time. An op belongs to the one in
// which it was intended.
type Column struct {
	Outcomes [workload.Unknown + 1]int64 // ops, by outcome
	Wrong    int64                       // answered wrongly, whatever their outcome
	Errors   int64                       // attempts that failed
	InFlight int64                       // most sessions under way in a row of counters
	Response Histogram
	Bad      []int64    // events, by objective
	Spent    []*Decimal // share of each objective's budget that is spent when the column ends; null if there is none
}

// Ops is the number of all ops.
func (c *Column) Ops() int64 {
	var n int64
	for _, o := range c.Outcomes {
		n += o
	}
	return n
}

// NodeState is what the cluster's events say of a node.
type NodeState string

// The states of a node.
const (
	NodeUp       NodeState = "up"
	NodeSilent   NodeState = "silent"   // it misses heartbeats
	NodeDown     NodeState = "down"     // disconnected, or counted as failed
	NodeStarting NodeState = "starting" // a data node, until it has started
)

// NodeSpan is a stretch in which a node was in a state.
type NodeSpan struct {
	State        NodeState
	FromUS, ToUS int64
}

// NodeCourse is what became of a node. Spans follow one another.
type NodeCourse struct {
	Node  string
	Spans []NodeSpan
}

// FaultCourse is how latencies were spread around a fault: before it, back to
// the end of the fault before; during its window; and after it, until the next
// one is injected.
type FaultCourse struct {
	ID                    string
	Before, During, After map[reference.Path]*Histogram
	beforeFrom, from      time.Duration
	to, afterTo           time.Duration
}

// Histogram counts latencies in buckets that are at most 3.2 % wide.
type Histogram struct {
	counts     []int64
	total, max int64
}

const chartBits = 5

func (h *Histogram) add(us int64) {
	h.total++
	h.max = max(h.max, us)
	bucket := logBucket(min(us, maxLatencyUS), chartBits)
	if more := bucket + 1 - len(h.counts); more > 0 {
		h.counts = append(h.counts, make([]int64, more)...)
	}
	h.counts[bucket]++
}

// Merge adds what another one counted.
func (h *Histogram) Merge(other *Histogram) {
	if other == nil {
		return
	}
	if more := len(other.counts) - len(h.counts); more > 0 {
		h.counts = append(h.counts, make([]int64, more)...)
	}
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Total is how many were counted.
func (h *Histogram) Total() int64 { return h.total }

// MaxUS is the longest one, exactly.
func (h *Histogram) MaxUS() int64 { return h.max }

// QuantileUS is the latency that so many millionths of all do not exceed.
func (h *Histogram) QuantileUS(ppm int64) int64 {
	// Neither product overflows: a run of 2^43 ops is none.
	rank := max(1, (h.total*ppm+million-1)/million)
	var seen int64
	for bucket, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(logBucketEnd(bucket, chartBits), h.max)
		}
	}
	return h.max
}

// Rows counts by coarser buckets, perOctave of them (a power of two, at most 32)
// for each power of two; EndUS tells where a row ends.
func (h *Histogram) Rows(resolution int) map[int]int64 {
	rows := map[int]int64{}
	for bucket, n := range h.counts {
		if n > 0 {
			rows[logBucket(logBucketEnd(bucket, chartBits), resolution)] += n
		}
	}
	return rows
}

// RowOf numbers the rows of resolution buckets for each power of two, a power of
// two itself given as its exponent: with 10 no row is wider than 0.1 %.
func RowOf(us int64, resolution int) int { return logBucket(us, resolution) }

// RowEndUS is the largest latency in a row of Rows or RowOf.
func RowEndUS(row, resolution int) int64 { return logBucketEnd(row, resolution) }

// PathPercentiles is the whole spread of a path's response times.
type PathPercentiles struct{ latencies }

// HDR is the spread in microseconds, as a histogram of the library.
func (p *PathPercentiles) HDR() (*hdrhistogram.Histogram, error) {
	h := hdrhistogram.New(1, maxLatencyUS, 3)
	for us, n := range p.all() {
		if err := h.RecordValues(us, n); err != nil {
			return nil, err
		}
	}
	return h, h.RecordValues(maxLatencyUS, p.overflow)
}

// maxLost bounds the keys that a course names.
const maxLost = 100

// newCourse begins the course of a recording.
func newCourse(r *Reader, t *timeline) (*Course, error) {
	end := t.endTime(0)
	if t.end == nil {
		// How wide columns are is not known before.
		if err := r.Feed(func(s *workload.Sample) { end = max(end, s.Intended+s.Response()) }); err != nil {
			return nil, err
		}
	}
	var from time.Duration
	if t.measureFrom != nil {
		from = *t.measureFrom
	}
	end = max(end, from+minColumn)
	width := columnWidth(end - from)
	c := &Course{
		FromUS: from.Microseconds(), ToUS: end.Microseconds(), ColumnUS: width.Microseconds(),
		Columns:  make([]Column, (end-from+width-1)/width),
		Response: map[reference.Path]*PathPercentiles{},
		from:     from, end: end, width: width, objectives: r.manifest.Objectives,
		stretches: newStretches(t, from, end),
	}
	for i := range c.Columns {
		c.Columns[i].Bad = make([]int64, len(c.objectives))
	}
	return c, nil
}

// finish completes the course when all samples were added, from the judge that
// saw the same and the run that it made.
func (c *Course) finish(r *Reader, t *timeline, j *judge, run *Run) error {
	for path, p := range j.paths {
		if p.response.total > 0 {
			c.Response[path] = &PathPercentiles{p.response}
		}
	}
	c.Faults = c.faultCourses(t, run)
	for row, err := range r.Counters() {
		if err != nil {
			return err
		}
		if at := time.Duration(row.AtUS) * time.Microsecond; at >= c.from && at <= c.end {
			col := c.column(at)
			col.InFlight = max(col.InFlight, row.InFlight)
		}
	}
	c.spend(run)
	var err error
	if c.Nodes, err = nodeCourses(r, c.from, c.end); err != nil {
		return err
	}
	if c.Ledger, err = r.Ledger(); err != nil {
		return err
	}
	c.Ledger.Rows = c.Ledger.Rows[:min(len(c.Ledger.Rows), maxLost)]
	c.Ledger.Violations = c.Ledger.Violations[:min(len(c.Ledger.Violations), maxLost)]
	return nil
}

func (c *Course) column(at time.Duration) *Column {
	return &c.Columns[min(max(0, int64((at-c.from)/c.width)), int64(len(c.Columns)-1))]
}

// columnWidth is the shortest of 100 ms, 200 ms, 500 ms, 1 s, … of which a run
// has at most maxColumns.
func columnWidth(length time.Duration) time.Duration {
	width := minColumn
	for i := 0; length > maxColumns*width; i++ {
		if i%3 == 1 {
			width = width / 2 * 5
		} else {
			width *= 2
		}
	}
	return width
}

// add counts an op.
func (c *Course) add(s *workload.Sample) {
	col, path, us := c.column(s.Intended), s.Operation.Path(), max(0, s.Response().Microseconds())
	col.Outcomes[s.Outcome]++
	if wrong(s) {
		col.Wrong++
	}
	for i := range s.Attempts {
		if !s.Attempts[i].Result.OK() {
			col.Errors++
		}
	}
	col.Response.add(us)
	for i := range c.objectives {
		if o := &c.objectives[i]; o.Covers(s) && !o.Good(s) {
			col.Bad[i]++
		}
	}
	c.stretches.at(s.Intended)[path].add(us)
}

// stretches are the times between any two moments at which a fault's window
// begins or ends, with the latencies of the ops that were intended in each. What
// is before, in and after a window is made of whole stretches, so that one
// histogram is counted for an op, however many faults there are.
type stretches struct {
	begins []time.Duration // in order; the first stretch is what comes before all
	counts []pathHistograms
	last   int // that was asked for
}

// pathHistograms are the latencies of each path, by its number.
type pathHistograms [len(reference.Paths) + 1]Histogram

func newStretches(t *timeline, from, end time.Duration) stretches {
	begins := []time.Duration{from, end}
	for _, f := range t.faults {
		if start, stop, injected := f.window(); injected {
			begins = append(begins, start, stop)
		}
	}
	slices.Sort(begins)
	begins = slices.Compact(begins)
	return stretches{begins: begins, counts: make([]pathHistograms, len(begins)+1)}
}

// at returns the histograms of the stretch that holds a time.
func (s *stretches) at(at time.Duration) *pathHistograms {
	if i := s.last; i > 0 && at < s.begins[i-1] || i < len(s.begins) && at >= s.begins[i] {
		s.last = sort.Search(len(s.begins), func(i int) bool { return s.begins[i] > at })
	}
	return &s.counts[s.last]
}

// between merges the histograms of the stretches from one moment to another, both
// of which begin a stretch. Paths that were not asked are left out.
func (s *stretches) between(from, to time.Duration) map[reference.Path]*Histogram {
	merged := map[reference.Path]*Histogram{}
	for i, begin := range s.begins {
		if begin < from || begin >= to {
			continue
		}
		for _, path := range reference.Paths {
			h := &s.counts[i+1][path]
			if h.total == 0 {
				continue
			}
			if merged[path] == nil {
				merged[path] = new(Histogram)
			}
			merged[path].Merge(h)
		}
	}
	return merged
}

// spend adds up the bad events from column to column.
func (c *Course) spend(run *Run) {
	for i, o := range c.objectives {
		counts := objectiveCounts{Objective: o, good: run.Objectives[i].Good, bad: run.Objectives[i].Bad}
		var bad int64
		for k := range c.Columns {
			bad += c.Columns[k].Bad[i]
			c.Columns[k].Spent = append(c.Columns[k].Spent, counts.spent(bad))
		}
	}
}

// Merged is the course in at most so many columns.
func (c *Course) Merged(most int) *Course {
	factor := (len(c.Columns) + most - 1) / most
	if factor <= 1 {
		return c
	}
	m := *c
	m.ColumnUS *= int64(factor)
	m.Columns = nil
	for part := range slices.Chunk(c.Columns, factor) {
		to := Column{Bad: make([]int64, len(part[0].Bad)), Spent: part[len(part)-1].Spent}
		for i := range part {
			from := &part[i]
			for o, n := range from.Outcomes {
				to.Outcomes[o] += n
			}
			for o, n := range from.Bad {
				to.Bad[o] += n
			}
			to.Wrong += from.Wrong
			to.Errors += from.Errors
			to.InFlight = max(to.InFlight, from.InFlight)
			to.Response.Merge(&from.Response)
		}
		m.Columns = append(m.Columns, to)
	}
	return &m
}

// faultCourses finds the windows of the faults that cost most.
func (c *Course) faultCourses(t *timeline, run *Run) []FaultCourse {
	var drawn []int
	for i, f := range t.faults {
		if f.injected != nil {
			drawn = append(drawn, i)
		}
	}
	slices.SortStableFunc(drawn, func(a, b int) int { return cmp.Compare(run.Faults[b].BadOps, run.Faults[a].BadOps) })
	drawn = drawn[:min(len(drawn), drawnFaults)]
	slices.Sort(drawn)
	var courses []FaultCourse
	for _, i := range drawn {
		start, stop, _ := t.faults[i].window()
		before, after := c.from, c.end
		for k, other := range t.faults {
			otherFrom, otherTo, injected := other.window()
			if k == i || !injected {
				continue
			}
			// The calm stretches end where any other fault begins or is not over.
			if otherFrom < start {
				before = max(before, min(otherTo, start))
			}
			if otherTo > stop {
				after = min(after, max(otherFrom, stop))
			}
		}
		courses = append(courses, FaultCourse{
			ID:     t.faults[i].id,
			Before: c.stretches.between(before, start), During: c.stretches.between(start, stop), After: c.stretches.between(stop, after),
			beforeFrom: before, from: start, to: stop, afterTo: after,
		})
	}
	return courses
}

// nodeCourses follows the nodes through the events. A node is up until an event
// says otherwise: a load begins when all are.
func nodeCourses(r *Reader, from, end time.Duration) ([]NodeCourse, error) {
	top := r.manifest.Topology
	courses := make([]NodeCourse, len(top.Nodes))
	index := map[string]int{}
	for i, n := range top.Nodes {
		courses[i] = NodeCourse{Node: n.Name, Spans: []NodeSpan{{State: NodeUp, FromUS: from.Microseconds()}}}
		index[n.Name] = i
	}
	for e, err := range r.Events() {
		if err != nil {
			return nil, err
		}
		if e.Kind != chaos.KindCluster && (e.Kind != chaos.KindFault || e.Name != chaos.StepRecovered) {
			continue
		}
		for name := range strings.SplitSeq(e.Node, ",") {
			if i, known := index[name]; known {
				now := courses[i].Spans[len(courses[i].Spans)-1].State
				courses[i].set(now.After(e.Name, top.Nodes[i].Role), min(max(e.At, from), end).Microseconds())
			}
		}
	}
	for i := range courses {
		courses[i].Spans[len(courses[i].Spans)-1].ToUS = end.Microseconds()
	}
	return courses, nil
}

func (n *NodeCourse) set(state NodeState, at int64) {
	last := &n.Spans[len(n.Spans)-1]
	switch {
	case state == last.State || at < last.FromUS || len(n.Spans) >= maxColumns:
	case at == last.FromUS:
		last.State = state
	default:
		last.ToUS = at
		n.Spans = append(n.Spans, NodeSpan{State: state, FromUS: at})
	}
}

// After is what an event about a node makes of its state: NDB's name of the event,
// or the step of a fault on the node. NDB tells of a connection to a data node
// before that has started, and several times.
func (now NodeState) After(event string, role topology.Role) NodeState {
	switch event {
	case "MissedHeartbeat":
		if now == NodeUp {
			return NodeSilent
		}
	case "Disconnected", "NODE_FAILREP", "DeadDueToHeartbeat":
		return NodeDown
	case "StartPhaseCompleted":
		if now != NodeUp {
			return NodeStarting
		}
	case "NDBStartCompleted":
		return NodeUp
	case chaos.StepRecovered: // nothing tells that a heartbeat came again
		if now == NodeSilent {
			return NodeUp
		}
	case "Connected":
		switch {
		case role != topology.Data:
			return NodeUp
		case now == NodeDown:
			return NodeStarting
		}
	}
	return now
}

// Extent returns the shortest and the longest response time, about and exactly;
// a millisecond and ten without any.
func (c *Course) Extent() (lowUS, highUS int64) {
	lowUS, highUS = 1<<62, 0
	for i := range c.Columns {
		if h := &c.Columns[i].Response; h.total > 0 {
			lowUS, highUS = min(lowUS, h.QuantileUS(0)), max(highUS, h.max)
		}
	}
	if lowUS > highUS {
		return 1000, 10_000
	}
	return lowUS, highUS
}
