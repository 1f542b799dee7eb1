package results

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// never is later than every time of a recording.
const never = time.Duration(math.MaxInt64)

// timeline is what the events of a recording say of its course.
type timeline struct {
	phases      []chaos.Event // in the order of their times
	faults      []*fault      // planned ones first, in the plan's order
	end         *EndOfRun
	endSamples  int64 // that were written, by the end event; -1 if it does not say
	last        time.Duration
	measureFrom *time.Duration
	measureTo   *time.Duration

	starts    SystemRestarts
	restores  []Restore       // restarts of the whole cluster
	restored  map[string]bool // nodes that have said so of the last one
	order     []int           // of the faults that were injected, in that order
	latestEnd []time.Duration // of the windows up to each of order
}

// fault is one fault as it happened. Steps that did not happen are nil.
type fault struct {
	id, kind, target                          string
	planned                                   bool
	injected, effective, recovered, redundant *time.Duration
	counted                                   *time.Duration // when the cluster counted one of nodes as failed
	nodes                                     []string       // that it was made on
	recover                                   *time.Duration // when the harness began to undo it
	said                                      []chaos.Event  // by the cluster in its window, what tells of failure and return
	failure                                   string         // why a step did not come about
}

// window returns from when until when ops are charged to the fault: from its
// injection until redundancy is whole, or for ever. A fault that was not
// injected has none.
func (f *fault) window() (from, to time.Duration, ok bool) {
	if f.injected == nil {
		return 0, 0, false
	}
	if f.redundant == nil {
		return *f.injected, never, true
	}
	return *f.injected, *f.redundant, true
}

func readTimeline(r *Reader) (*timeline, error) {
	t := &timeline{endSamples: -1}
	byID := map[string]*fault{}
	var failures, said []chaos.Event
	for _, p := range r.manifest.Faults {
		if byID[p.ID] != nil {
			return nil, fmt.Errorf("%s: two planned faults are called %q", ManifestFile, p.ID)
		}
		f := &fault{id: p.ID, kind: p.Kind, target: p.Target, planned: true}
		byID[p.ID] = f
		t.faults = append(t.faults, f)
	}
	for e, err := range r.Events() {
		if err != nil {
			return nil, err
		}
		t.last = max(t.last, e.At)
		switch e.Kind {
		case chaos.KindFault:
			f := byID[e.Fault]
			if f == nil {
				f = &fault{id: e.Fault}
				byID[e.Fault] = f
				t.faults = append(t.faults, f)
			}
			f.step(e)
		case chaos.KindCluster:
			t.restore(e)
			if countsAsFailed(e, r.manifest.Topology) {
				failures = append(failures, e)
			}
			if telling(e.Name) {
				said = append(said, e)
			}
		case chaos.KindPhase:
			t.phase(e)
		case kindEnd:
			t.end = &EndOfRun{At: e.At, Reason: EndReason(e.Name), Error: e.Fields["error"]}
			if n, err := strconv.ParseInt(e.Fields["samples"], 10, 64); err == nil {
				t.endSamples = n
			}
			for name, n := range t.end.counts() {
				// A field that is not there, or no number, is a count of none.
				*n, _ = strconv.ParseInt(e.Fields[name], 10, 64)
			}
		}
	}
	t.index()
	t.count(failures)
	t.keep(said)
	return t, nil
}

// index puts the faults in the order of their injections, those of one time as
// the plan has them, so that an op need not be held against each of a thousand.
func (t *timeline) index() {
	for i, f := range t.faults {
		if f.injected != nil {
			t.order = append(t.order, i)
		}
	}
	slices.SortStableFunc(t.order, func(a, b int) int { return cmp.Compare(*t.faults[a].injected, *t.faults[b].injected) })
	for n, i := range t.order {
		_, to, _ := t.faults[i].window()
		if n > 0 {
			to = max(to, t.latestEnd[n-1])
		}
		t.latestEnd = append(t.latestEnd, to)
	}
}

// openAt yields the faults whose windows hold a time, the one injected last
// first. Windows hold their beginning, and not their end.
func (t *timeline) openAt(at time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := t.injectedBy(at) - 1; n >= 0 && t.latestEnd[n] > at; n-- {
			if _, to, _ := t.faults[t.order[n]].window(); to > at && !yield(t.order[n]) {
				return
			}
		}
	}
}

// injectedBy is how many faults had been injected at a time.
func (t *timeline) injectedBy(at time.Duration) int {
	return sort.Search(len(t.order), func(n int) bool { return *t.faults[t.order[n]].injected > at })
}

// step takes the first event of each step.
func (f *fault) step(e chaos.Event) {
	set := func(step **time.Duration) {
		if *step == nil {
			*step = &e.At
		}
	}
	switch e.Name {
	case chaos.StepInjected:
		set(&f.injected)
		if f.kind == "" {
			f.kind = e.Fields["kind"]
		}
		if f.target == "" {
			f.target = e.Node
		}
		if f.nodes == nil {
			f.nodes = strings.Split(e.Node, ",")
		}
	case chaos.StepEffective:
		set(&f.effective)
	case chaos.StepRecover:
		set(&f.recover)
	case chaos.StepRecovered:
		set(&f.recovered)
	case chaos.StepRedundant:
		set(&f.redundant)
	case chaos.StepFailed:
		if f.failure == "" {
			f.failure = e.Fields["error"]
		}
	}
}

// countsAsFailed says whether an event means that the cluster counts the node that
// it is about as failed. A data node that is only disconnected is not yet: the
// others have to decide.
func countsAsFailed(e chaos.Event, t topology.Topology) bool {
	switch e.Name {
	case "NODE_FAILREP":
		return true
	case "Disconnected":
		n, err := t.Node(e.Node)
		return err == nil && n.Role != topology.Data
	default:
		return false
	}
}

// count finds when the cluster counted the first of a fault's nodes as failed.
// Events stand in the order in which they were recorded: what the cluster said
// while a fault was being made stands before the fault.
func (t *timeline) count(failures []chaos.Event) {
	for _, e := range failures {
		for _, f := range t.faults {
			from, to, injected := f.window()
			if injected && e.At >= from && e.At < to && slices.Contains(f.nodes, e.Node) && (f.counted == nil || e.At < *f.counted) {
				f.counted = &e.At
			}
		}
	}
}

func (t *timeline) phase(e chaos.Event) {
	if n := len(t.phases); n > 0 && e.At < t.phases[n-1].At {
		e.At = t.phases[n-1].At // phases follow one another
	}
	t.phases = append(t.phases, e)
	switch {
	case e.Name == "measure" && t.measureFrom == nil:
		t.measureFrom = &e.At
	case e.Name == "drain" && t.measureTo == nil:
		t.measureTo = &e.At
	}
}

// endTime is when the recording ends: as its end event says, or when the last
// thing in it happened.
func (t *timeline) endTime(lastSample time.Duration) time.Duration {
	if t.end != nil {
		return t.end.At
	}
	return max(t.last, lastSample)
}

// charged returns the index of the fault that the op is charged to: of those
// whose window the op's time, from intended to ended, meets, the one injected
// last. It returns -1 for the background.
func (t *timeline) charged(s *workload.Sample) int {
	return t.faultDuring(s.Intended, s.Intended+s.Response())
}

func (t *timeline) faultDuring(from, to time.Duration) int {
	for n := t.injectedBy(to) - 1; n >= 0 && t.latestEnd[n] >= from; n-- {
		if _, end, _ := t.faults[t.order[n]].window(); end >= from {
			return t.order[n]
		}
	}
	return -1
}

// phaseAt numbers what went on at a time: the index of the fault whose window is
// open; otherwise, below zero, how many phases had begun, and one more.
func (t *timeline) phaseAt(at time.Duration) int {
	if i := t.faultDuring(at, at); i >= 0 {
		return i
	}
	n := 0
	for n < len(t.phases) && t.phases[n].At <= at {
		n++
	}
	return -n - 1
}

// phaseName names it, for the tags of latency.hlog.
func (t *timeline) phaseName(phase int) string {
	switch {
	case phase >= 0:
		return "fault-" + t.faults[phase].id
	case phase == -1:
		return "none"
	default:
		return t.phases[-phase-2].Name
	}
}

// missing says which step of a planned fault did not happen, in words; "" if
// all did.
func (f *fault) missing() string {
	var what string
	switch {
	case f.injected == nil:
		what = "was not injected"
	case f.effective == nil:
		what = "was not seen to take effect"
	case f.recovered == nil:
		what = "did not recover"
	case f.redundant == nil:
		what = "did not become redundant again"
	default:
		return ""
	}
	words := []string{"fault", f.id}
	if f.kind != "" || f.target != "" {
		words = append(words, "("+strings.TrimSpace(f.kind+" "+f.target)+")")
	}
	words = append(words, what)
	if f.failure != "" {
		words[len(words)-1] += ": " + f.failure
	}
	return strings.Join(words, " ")
}
