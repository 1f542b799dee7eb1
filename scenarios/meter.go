package scenarios

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// remembered is how many seconds a sparkline tells of.
const remembered = 60

// meter watches a run go by, so that somebody can be told of it once a second. It
// sees samples and events on their way to the recording; nothing is judged from
// it.
type meter struct {
	objectives []results.Objective
	planned    time.Duration // length of the load

	mu        sync.Mutex
	responses *hdrhistogram.Histogram // of this second, in µs
	outcomes  outcomes                // of this second
	errors    map[ndberr.Class]int64  // attempts of this second
	good, bad []int64                 // of each objective, since the start
	fault     string                  // what the active fault is about, "" for none
	phase     string
	nodes     []nodeNow
	faults    []faultNow

	// Of all seconds that were told of.
	allOutcomes outcomes
	allErrors   map[ndberr.Class]int64
	offered     int64         // sessions
	last        time.Duration // when the last one ended
	seconds     int           // how many
	rates, p99s []int64       // of the last ones: ops a second, µs
}

// outcomes counts ops by their outcome.
type outcomes [workload.Unknown + 1]int64

func (o *outcomes) sum() int64 {
	var n int64
	for _, count := range o {
		n += count
	}
	return n
}

// nodeNow is what the harness knows of a node.
type nodeNow struct {
	topology.Node
	state  results.NodeState
	faults []string // that are on it
}

// faultNow is a planned fault, and what has become of it.
type faultNow struct {
	chaos.Planned
	state    faultState
	step     string        // the last one, "" for none
	stepAt   time.Duration // when it was
	from, to time.Duration // when it was injected, and when it was over
}

type faultState uint8

const (
	faultToCome faultState = iota
	faultActive
	faultPast
	faultFailed  // a step of it did not come about
	faultNotMade // it was never injected
)

func (s faultState) String() string {
	return [...]string{"to come", "active", "past", "failed", "not made"}[s]
}

// take follows a fault through its steps.
func (f *faultNow) take(e chaos.Event) {
	f.step, f.stepAt = e.Name, e.At
	switch {
	case e.Name == chaos.StepInjected:
		f.state, f.from = faultActive, e.At
	case e.Name == chaos.StepFailed && f.state == faultToCome:
		f.state, f.from, f.to = faultNotMade, e.At, e.At
	case e.Name == chaos.StepFailed:
		f.state, f.to = faultFailed, e.At
	case e.Name == chaos.StepRedundant:
		f.to = e.At
		if f.state == faultActive {
			f.state = faultPast
		}
	}
}

// budget is what an objective may still lose.
type budget struct {
	objective string
	good, bad int64
	left      *float64 // share of the run's budget, below 0 if overspent; nil if it is not known yet
	after     bool     // it is known only after the run
}

// moment is what is known of a run: of the second that has gone by, and since its
// beginning. Nothing in it changes any more.
type moment struct {
	at, length, planned     time.Duration // length is that of the second: about one
	phase                   string
	idle                    bool
	offered, done, inFlight int64 // sessions and ops a second, and sessions under way
	p50, p99, longest       int64 // µs
	outcomes, allOutcomes   outcomes
	errors, allErrors       map[ndberr.Class]int64
	fault                   string
	budgets                 []budget
	nodes                   []nodeNow
	faults                  []faultNow
	seconds                 int // how many there were before and with this one
	rates, p99s             []int64
}

func newMeter(p *Plan) *meter {
	m := &meter{
		objectives: p.Scenario.Objectives(), planned: p.Scenario.Workload.Duration,
		responses: hdrhistogram.New(1, results.MaxLatency.Microseconds(), 3),
		errors:    map[ndberr.Class]int64{}, allErrors: map[ndberr.Class]int64{},
	}
	m.good, m.bad = make([]int64, len(m.objectives)), make([]int64, len(m.objectives))
	for _, n := range p.Topology.Nodes {
		m.nodes = append(m.nodes, nodeNow{Node: n, state: results.NodeUp}) // a load begins when all are
	}
	for _, f := range p.Faults.Steps {
		m.faults = append(m.faults, faultNow{Planned: f})
	}
	return m
}

// Record takes a sample.
func (m *meter) Record(s *workload.Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcomes[s.Outcome]++
	// A response beyond the range counts as the longest that fits.
	_ = m.responses.RecordValue(min(s.Response(), results.MaxLatency).Microseconds())
	for i := range s.Attempts {
		if r := s.Attempts[i].Result; !r.OK() {
			m.errors[r.Class]++
		}
	}
	for i, o := range m.objectives {
		if !o.Covers(s) {
			continue
		}
		if o.Good(s) {
			m.good[i]++
		} else {
			m.bad[i]++
		}
	}
}

// Event takes an event.
func (m *meter) Event(e chaos.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Kind {
	case chaos.KindPhase:
		m.phase = e.Name
	case chaos.KindCluster:
		m.nodesOf(e, func(n *nodeNow) { n.state = n.state.After(e.Name, n.Role) })
	case chaos.KindFault:
		m.faultStep(e)
	}
}

func (m *meter) nodesOf(e chaos.Event, do func(*nodeNow)) {
	for name := range strings.SplitSeq(e.Node, ",") {
		for i := range m.nodes {
			if m.nodes[i].Name == name {
				do(&m.nodes[i])
			}
		}
	}
}

func (m *meter) faultStep(e chaos.Event) {
	switch e.Name {
	case chaos.StepRedundant, chaos.StepFailed:
		m.fault = ""
	default:
		m.fault = e.Fault + " " + e.Name
	}
	for i := range m.faults {
		if m.faults[i].ID == e.Fault {
			m.faults[i].take(e)
		}
	}
	m.nodesOf(e, func(n *nodeNow) {
		n.state = n.state.After(e.Name, n.Role)
		// Other slices of n.faults are in moments that were told of.
		others := slices.DeleteFunc(slices.Clone(n.faults), func(id string) bool { return id == e.Fault })
		if e.Name == chaos.StepInjected {
			others = append(others, e.Fault)
		}
		switch e.Name {
		case chaos.StepInjected, chaos.StepRecovered, chaos.StepRedundant, chaos.StepFailed:
			n.faults = others
		}
	})
	// Of two sides that have lost each other each says that the other has failed. A
	// cluster that is redundant has all its nodes.
	active := slices.ContainsFunc(m.faults, func(f faultNow) bool { return f.state == faultActive })
	if e.Name == chaos.StepRedundant && !active {
		for i := range m.nodes {
			m.nodes[i].state = results.NodeUp
		}
	}
}

// take returns what is known at a time, and begins the next second.
func (m *meter) take(at time.Duration, offered, inFlight int64) moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := func(n int64) int64 { return int64(float64(n)/(at-m.last).Seconds() + 0.5) }
	done := m.outcomes.sum()
	now := moment{
		at: at, length: at - m.last, planned: m.planned, phase: m.phase,
		idle:    done == 0 && offered == m.offered,
		offered: rate(offered - m.offered), done: rate(done), inFlight: inFlight,
		p50: m.responses.ValueAtQuantile(50), p99: m.responses.ValueAtQuantile(99), longest: m.responses.Max(),
		outcomes: m.outcomes, errors: m.errors, fault: m.fault,
		nodes: slices.Clone(m.nodes), faults: slices.Clone(m.faults),
	}
	for i := range m.allOutcomes {
		m.allOutcomes[i] += m.outcomes[i]
	}
	for class, n := range m.errors {
		m.allErrors[class] += n
	}
	for i := range m.objectives {
		now.budgets = append(now.budgets, m.budget(i, at))
	}
	m.seconds++
	m.rates, m.p99s = latest(m.rates, now.done), latest(m.p99s, now.p99)
	now.allOutcomes, now.allErrors = m.allOutcomes, maps.Clone(m.allErrors)
	now.seconds, now.rates, now.p99s = m.seconds, m.rates, m.p99s

	m.last, m.offered, m.outcomes, m.errors = at, offered, outcomes{}, map[ndberr.Class]int64{}
	m.responses.Reset()
	return now
}

// latest is a new list with one value more, of which the oldest give way.
func latest(list []int64, value int64) []int64 {
	return append(slices.Clone(list[max(0, len(list)-remembered+1):]), value)
}

// budget is what an objective has left of the run's budget, if events keep coming
// at their rate so far. Slices and messages are counted after the run.
func (m *meter) budget(i int, elapsed time.Duration) budget {
	o := m.objectives[i]
	b := budget{objective: o.Name, good: m.good[i], bad: m.bad[i]}
	if o.Metric != "" || o.SliceUS > 0 {
		return budget{objective: o.Name, after: true}
	}
	left := 1.0
	events := float64(b.good+b.bad) * max(1, m.planned.Seconds()/max(elapsed.Seconds(), 1))
	switch whole := events * float64(1_000_000-o.TargetPPM) / 1_000_000; {
	case whole > 0:
		left = 1 - float64(b.bad)/whole
	case b.bad > 0: // a promise of 100 %
		left = 0
	default:
		return b
	}
	b.left = &left
	return b
}
