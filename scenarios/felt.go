package scenarios

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// When clients feel a fault: since it was made, feltAttempts attempts on its SQL
// nodes, or on any SQL node for a fault that is on none, have failed, or have
// failed or were slow, and they are feltMore times the share that they were of the
// attempts before the first fault of those in effect; or they are feltMany, and
// half of the share that was not so before. Slow is what took longer than feltSlow
// times the 99th percentile before, and than slowFloor. One attempt alone may be
// bad luck: a lock, a pause of the machine. On a busy machine much is slow before,
// little fails.
const (
	feltAttempts = 3
	feltMany     = 30
	feltMore     = 10
	feltSlow     = 10
	slowFloor    = 250 * time.Millisecond
	mostTroubles = 4096 // that are remembered, the newest
)

// trouble is an attempt that failed, or may have been slow.
type trouble struct {
	at, took time.Duration // of its end, since the anchor
	node     topology.ID
	class    ndberr.Class
}

// feeler tells from the samples whether clients feel a fault.
type feeler struct {
	topology topology.Topology
	anchor   time.Time

	mu       sync.Mutex
	open     map[string]bool // faults that are not over
	of       []topology.ID   // SQL nodes of the fault that was made last
	attempts []second        // the last seconds that had any
	before   baseline
	troubles []trouble // a ring once it is full
	next     int
}

// baseline is what attempts were like while no fault was in effect.
type baseline struct {
	attempts, bad int64 // bad is failed, or above slowFloor
	failed        int64
	took          *hdrhistogram.Histogram // of those that were answered, in µs
}

// second counts the attempts that ended within one.
type second struct {
	number int64 // since the anchor
	nodes  map[topology.ID]int64
}

func newFeeler(t topology.Topology, anchor time.Time) *feeler {
	return &feeler{
		topology: t, anchor: anchor, open: map[string]bool{},
		before: baseline{took: hdrhistogram.New(1, results.MaxLatency.Microseconds(), 2)},
	}
}

// slow is how long an attempt must take to be slow.
func (b baseline) slow() time.Duration {
	return max(slowFloor, feltSlow*time.Duration(b.took.ValueAtQuantile(99))*time.Microsecond)
}

// Record takes a sample.
func (f *feeler) Record(s *workload.Sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range s.Attempts {
		took := a.Ended - a.Dispatched
		failed := !a.Result.OK()
		bad := failed || took > slowFloor
		if bad {
			f.remember(trouble{at: a.Ended, took: took, node: a.Node, class: a.Result.Class})
		}
		f.count(a)
		if len(f.open) > 0 {
			continue
		}
		f.before.attempts++
		if bad {
			f.before.bad++
		}
		if failed {
			f.before.failed++
		} else {
			_ = f.before.took.RecordValue(min(took, results.MaxLatency).Microseconds()) // in range
		}
	}
}

func (f *feeler) remember(t trouble) {
	if len(f.troubles) < mostTroubles {
		f.troubles = append(f.troubles, t)
		return
	}
	f.troubles[f.next] = t
	f.next = (f.next + 1) % mostTroubles
}

// countedFor is how many seconds of attempts are kept: more than any effect is
// awaited for.
const countedFor = 120

// count adds an attempt to those of its second.
func (f *feeler) count(a workload.Attempt) {
	number := int64(a.Ended / time.Second)
	i := len(f.attempts) - 1 // mostly the last
	for i >= 0 && f.attempts[i].number != number {
		i--
	}
	if i < 0 {
		if len(f.attempts) == countedFor {
			f.attempts = f.attempts[1:]
		}
		f.attempts = append(f.attempts, second{number, map[topology.ID]int64{}})
		i = len(f.attempts) - 1
	}
	f.attempts[i].nodes[a.Node]++
}

// Event takes an event.
func (f *feeler) Event(e chaos.Event) {
	if e.Kind != chaos.KindFault {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Name {
	case chaos.StepInjected:
		f.open[e.Fault] = true
		f.of = nil
		for name := range strings.SplitSeq(e.Node, ",") {
			if n, err := f.topology.Node(name); err == nil && n.Role == topology.SQL {
				f.of = append(f.of, n.ID)
			}
		}
	case chaos.StepRedundant:
		delete(f.open, e.Fault)
	}
}

// Felt is the probe of a chaos.Runner. It asks of the fault that was made last.
func (f *feeler) Felt(since time.Time) (reference.Evidence, bool) {
	from := since.Sub(f.anchor)
	f.mu.Lock()
	defer f.mu.Unlock()
	mine := func(id topology.ID) bool { return len(f.of) == 0 || slices.Contains(f.of, id) }
	slow := f.before.slow()
	var (
		bad, failed int64
		last        trouble
	)
	for _, t := range f.troubles {
		if t.at < from || !mine(t.node) || t.class == ndberr.None && t.took <= slow {
			continue
		}
		if t.class != ndberr.None {
			failed++
		}
		if bad++; t.at >= last.at {
			last = t
		}
	}
	var all int64
	for _, s := range f.attempts {
		if s.number < int64(from/time.Second) {
			continue
		}
		for id, n := range s.nodes {
			if mine(id) {
				all += n
			}
		}
	}
	if !more(bad, all, f.before.bad, f.before.attempts) && !more(failed, all, f.before.failed, f.before.attempts) {
		return reference.Evidence{}, false
	}
	n, _ := f.topology.ByID(last.node)
	what := fmt.Sprintf("%d of %d attempts failed or were slow, the last on %s: it ", bad, max(all, bad), n.Name)
	if last.class != ndberr.None {
		what += "failed with " + last.class.String()
	} else {
		what += "took " + last.took.Round(time.Millisecond).String()
	}
	return reference.Evidence{At: f.anchor.Add(last.at), Source: "clients", Detail: what}, true
}

// more says whether so many of all attempts are so many more than they were of
// those before that it is no chance.
func more(bad, all, badBefore, before int64) bool {
	if bad < feltAttempts {
		return false
	}
	all = max(all, bad)
	if bad*before >= feltMore*badBefore*all {
		return true
	}
	// With a share b before, the share must be b + (1-b)/2, which can be reached
	// whatever b is.
	return bad >= feltMany && 2*bad*before >= (before+badBefore)*all
}
