package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/workload"
)

const (
	// recent is how old an op must be to be looked at while its step goes on: what is
	// under way so long is seldom good when it ends.
	recent = 2 * time.Second
	// longestCheckpoint bounds the wait for the rows that were loaded to be on disk.
	longestCheckpoint = 3 * time.Minute
	// longestRejoin bounds a step that lasts until a node is redundant.
	longestRejoin = 10 * time.Minute
	leaveTimeout  = 10 * time.Minute // for a system to be whole again after a regime
	lookTimeout   = 10 * time.Second // to see which nodes run
)

// errSearchOver ends a replay that has no more steps to take.
var errSearchOver = errors.New("the search is over")

// DiedError says that a system did not outlive a search.
type DiedError struct {
	Node   string
	Step   capacity.Step
	Regime capacity.Regime
}

func (e *DiedError) Error() string {
	return fmt.Sprintf("node %s ended by itself during step %d, %s at %d messages a day: the search cannot go on with this cluster; its logs are in %s/cluster",
		e.Node, e.Step.Number, e.Regime, e.Step.PerDay, e.Step.Dir)
}

// searching is a capacity search under way on one warm system. The replay calls turn
// and rest, one after the other; samples and events come from anywhere.
type searching struct {
	search   *capacity.Search // grows by each step
	tried    map[capacity.Regime][]capacity.Tried
	regimes  []capacity.Regime // that are still to be searched, the first is at hand
	plans    map[capacity.Regime]chaos.Plan
	arrivals *workload.Arrivals
	manifest results.Manifest // objectives and bounds
	member   string           // directory of this sitting's run
	save     func() error     // the search
	say      func(format string, args ...any)

	// Of the system, set when it is loaded.
	since  func() time.Duration
	stats  func() workload.Stats
	runner func(chaos.Plan) *chaos.Runner
	target system
	began  topology.ID   // primary
	end    time.Duration // of the virtual window

	down      map[topology.ID]bool // nodes that the regime has ended
	leaving   func(context.Context) error
	entered   map[capacity.Regime]int // how often; each time of a node that rejoins is a fault of its own
	redundant <-chan chaos.Event      // of a node that rejoins, since its fault was made
	failed    error                   // why the search cannot go on
	warm      bool                    // the system has been warmed up

	step         capacity.Step
	waitedBefore int64         // sessions that were held back before the step
	planned      time.Duration // when the step ends if nobody stops it
	stop         chan struct{}
	watched      sync.WaitGroup

	mu      sync.Mutex
	tally   *capacity.Tally // of the step under way, nil between steps
	stopped capacity.Stop   // why it was stopped, "" if it was not
	at      time.Duration   // when
	awaited map[string]chan chaos.Event
}

// turn lets the next step begin.
func (s *searching) turn(ctx context.Context, _ int, from time.Duration) (workload.Stretch, error) {
	for {
		if s.failed != nil {
			return workload.Stretch{}, s.failed
		}
		if len(s.regimes) == 0 {
			return workload.Stretch{}, errSearchOver
		}
		regime := s.regimes[0]
		perDay, more := capacity.Next(s.settings(regime), s.tried[regime])
		if !more {
			s.tellRegime(regime)
			s.regimes = s.regimes[1:]
			if len(s.regimes) > 0 && s.leaving != nil && s.primary() != s.began {
				s.fail(&renewError{"the replica has taken the primary's place: the next regime wants new servers"})
			}
			s.fail(s.leave(ctx))
			continue
		}
		if !s.warm {
			s.warm = true
			s.checkpoint(ctx)
			if s.search.Settings.WarmUpUS > 0 {
				return s.warmUp(ctx, perDay, from)
			}
		}
		if s.leaving == nil && regime != capacity.Healthy {
			if err := s.enter(ctx, regime); err != nil {
				s.fail(err)
				continue
			}
		}
		part, err := s.begin(ctx, regime, perDay, from)
		s.fail(err)
		return part, err
	}
}

// primary is the server that takes writes, 0 where none is one more than the others.
func (s *searching) primary() topology.ID {
	if t, ok := s.target.(interface{ Primary() topology.ID }); ok {
		return t.Primary()
	}
	return 0
}

// fail ends the search, for the first of its reasons.
func (s *searching) fail(err error) {
	if s.failed == nil {
		s.failed = err
	}
}

// checkpoint waits until the rows that were loaded are on disk: the data nodes write
// them all in the first local checkpoint, which the first step would otherwise share
// its processor time with. Later ones write what has changed.
func (s *searching) checkpoint(ctx context.Context) {
	observer, ok := s.target.(reference.Observer)
	if !ok {
		return
	}
	s.say("warming up: waiting for a local checkpoint")
	began := s.since()
	ctx, cancel := context.WithTimeout(ctx, longestCheckpoint)
	defer cancel()
	if err := reference.CompleteLocalCheckpoint(ctx, observer); err != nil {
		s.say("warming up: %v", err)
		return
	}
	s.say("warming up: the local checkpoint took %.0f s", (s.since() - began).Seconds())
}

// warmUp offers a rate that is no step: sessions, caches and the procedures of each SQL
// node are cold in a system that was started anew, and what is new to a regime is not.
func (s *searching) warmUp(ctx context.Context, perDay int64, from time.Duration) (workload.Stretch, error) {
	warmUp := time.Duration(s.search.Settings.WarmUpUS) * time.Microsecond
	to, ok := s.arrivals.After(from, float64(perDay)*warmUp.Hours()/24)
	if !ok {
		s.fail(s.windowUsedUp())
		return workload.Stretch{}, s.failed
	}
	s.say("warming up: %s messages a day for %.0f s", perDayWords(perDay), warmUp.Seconds())
	// Also that rate may be too much.
	stop, waited, planned := make(chan struct{}), s.stats().Waited, s.since()+lead+warmUp
	s.watched.Go(func() {
		defer close(stop)
		for s.since() < planned && ctx.Err() == nil && s.stats().Waited == waited {
			sleep(ctx, time.Second)
		}
	})
	return workload.Stretch{To: to, Due: s.arrivals.Evenly(from, to, s.since()+lead, warmUp), Stop: stop}, nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// renewError says why a search wants another sitting, on a new cluster, which it goes
// on with by itself.
type renewError struct{ msg string }

func (e *renewError) Error() string { return e.msg }

// windowUsedUp says that the trace has no more messages.
func (s *searching) windowUsedUp() error {
	return &renewError{fmt.Sprintf("the trace's window is used up at %s of the virtual day: it begins again, on a new cluster", virtualClock(s.end))}
}

// settings are those of a regime's search. Its first rate is what was met healthy, or what
// NDB's SQL nodes that are left had of that: the others' load is too much for them, and each
// step that is missed by far takes half a minute. From the first step on its rate counts.
func (s *searching) settings(regime capacity.Regime) capacity.Settings {
	set := s.search.For(regime, s.tried[capacity.Healthy])
	top := s.manifest.Topology
	all, plan := int64(len(top.ByRole(topology.SQL))), s.plans[regime].Steps
	if _, begun := s.search.First(regime); begun || len(plan) == 0 || len(top.ByRole(topology.Data)) == 0 {
		return set
	}
	left := all
	for _, n := range plan[0].Nodes {
		if n.Role == topology.SQL {
			left--
		}
	}
	set.StartPerDay = max(set.LowestPerDay, set.StartPerDay/all*left)
	return set
}

func (s *searching) tellRegime(regime capacity.Regime) {
	met, missed, why, _ := capacity.Bracket(s.settings(regime), s.tried[regime])
	if why != "" {
		why = ": " + why
	}
	s.say("%s: met up to %s, missed from %s messages a day at a constant rate%s", regime, perDayWords(met), perDayWords(missed), why)
}

func perDayWords(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%.2f M", float64(n)/1e6)
}

// begin begins a step of a rate, at a virtual time.
func (s *searching) begin(ctx context.Context, regime capacity.Regime, perDay int64, from time.Duration) (workload.Stretch, error) {
	set := s.settings(regime)
	settle := time.Duration(set.SettleUS) * time.Microsecond
	lasts := settle + time.Duration(set.MaxStepUS)*time.Microsecond
	rejoins := regime.Rejoins()
	if rejoins {
		lasts = settle + longestRejoin
	}
	to, ok := s.arrivals.After(from, float64(perDay)*lasts.Hours()/24)
	if !ok && !rejoins {
		return workload.Stretch{}, s.windowUsedUp()
	}
	if !ok {
		to = s.end
		lasts = time.Duration((s.arrivals.Before(to) - s.arrivals.Before(from)) / float64(perDay) * 24 * float64(time.Hour))
	}
	// As it is recorded: a look that began a moment later would have a block less than
	// the judge of the recording.
	begin := (s.since() + lead).Truncate(time.Microsecond)
	s.step = capacity.Step{
		Number: len(s.search.Steps) + 1, Regime: regime, Dir: s.member, PerDay: perDay, FromUS: begin.Microseconds(), Stopped: capacity.Length,
	}
	s.planned = begin + lasts
	tally := capacity.NewTally(s.manifest.Objectives, time.Duration(s.manifest.Bounds.LagP999US)*time.Microsecond, set, begin)
	s.mu.Lock()
	s.tally, s.stopped = tally, ""
	s.mu.Unlock()
	s.stop = make(chan struct{})
	s.waitedBefore = s.stats().Waited
	if rejoins {
		redundant := s.redundant
		s.watched.Go(func() { s.watchRejoin(ctx, redundant, begin+settle+time.Duration(set.MinStepUS)*time.Microsecond) })
	} else {
		s.watched.Go(func() { s.watch(ctx, begin+settle) })
	}
	return workload.Stretch{To: to, Due: s.arrivals.Evenly(from, to, begin, lasts), Stop: s.stop}, nil
}

// halt ends a step before its time.
func (s *searching) halt(why capacity.Stop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == "" && s.tally != nil {
		s.stopped, s.at = why, s.since()
		close(s.stop)
	}
}

// watch looks at a step until its outcome is known.
func (s *searching) watch(ctx context.Context, judged time.Duration) {
	set := s.settings(s.step.Regime)
	look := time.NewTicker(time.Duration(set.LookUS) * time.Microsecond)
	defer look.Stop()
	first := judged + time.Duration(set.MinStepUS)*time.Microsecond
	stop, settled := s.stop, false
	end := time.NewTimer(s.planned - s.since())
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stop:
			return
		case <-end.C: // who is held back now is of the next step
			s.halt(capacity.Length)
			return
		case <-look.C:
		}
		now := s.since()
		if !settled { // who had to wait before counts no more than what was slow then
			if settled = now >= judged; settled {
				s.waitedBefore = s.stats().Waited
			}
			continue
		}
		held := s.stats().Waited > s.waitedBefore
		if now < first && !held {
			continue
		}
		s.mu.Lock()
		if s.tally == nil {
			s.mu.Unlock()
			return
		}
		s.step.Looks++
		found := s.tally.Look(now-recent, held)
		s.mu.Unlock()
		if found.Outcome != capacity.Open {
			s.halt(capacity.Decided)
			return
		}
	}
}

// watchRejoin lets a step last until its node is redundant again, and to its least
// length.
func (s *searching) watchRejoin(ctx context.Context, redundant <-chan chaos.Event, least time.Duration) {
	stop := s.stop
	select {
	case <-ctx.Done():
	case <-stop:
	case e := <-redundant:
		if e.Name == chaos.StepFailed {
			s.halt(capacity.SystemDied)
			return
		}
		sleep(ctx, least-s.since())
		s.halt(capacity.Rejoined)
	}
}

// rest notes what a step has shown.
func (s *searching) rest(ctx context.Context) {
	s.mu.Lock()
	tally, why := s.tally, s.stopped
	s.mu.Unlock()
	if tally == nil { // it was the warm-up
		s.watched.Wait()
		return
	}
	if why == "" { // its last session may have ended before its time
		sleep(ctx, s.planned-s.since())
	}
	s.mu.Lock()
	why, at := s.stopped, s.at
	s.tally = nil
	s.mu.Unlock()
	if why == "" {
		close(s.stop)
		at = s.since()
	} else {
		s.step.Stopped = why
	}
	s.watched.Wait()
	s.step.ToUS = max(min(at, s.planned).Microseconds(), s.step.FromUS)
	s.step.Waited = s.stats().Waited - s.waitedBefore
	found := tally.Look(time.Duration(s.step.ToUS)*time.Microsecond, s.step.Waited > 0)
	regime := s.step.Regime
	down := s.down
	if s.step.Stopped == capacity.Rejoined {
		down = nil
	}
	node := ""
	if ctx.Err() == nil {
		node = s.ended(ctx, down)
	}
	switch {
	case ctx.Err() != nil, node == "" && regime.Rejoins() && s.step.Stopped == capacity.Length: // cut off by the window's end
		s.step.Stopped = capacity.Interrupted
	case node != "":
		s.step.Stopped = capacity.SystemDied
		s.fail(&DiedError{node, s.step, regime})
	}
	if s.step.Stopped == capacity.Interrupted || s.step.Stopped == capacity.SystemDied {
		found.Outcome = capacity.Void
	}
	s.search.Steps = append(s.search.Steps, s.step)
	if s.step.Stopped != capacity.Interrupted { // as in capacity.History
		s.tried[regime] = append(s.tried[regime], capacity.Tried{PerDay: s.step.PerDay, Outcome: found.Outcome, Leaning: found.Leaning})
	}
	s.say("step %d, %s: %s messages a day for %.0f s: %s%s", s.step.Number, regime, perDayWords(s.step.PerDay), time.Duration((s.step.ToUS-s.step.FromUS)*1000).Seconds(), found.Outcome, because(found.Why))
	s.fail(s.save())
	if regime.Rejoins() && s.failed == nil {
		s.fail(s.leave(ctx))
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// ended names a node that should be up, as it is not among those that are down, and is
// not; "" if there is none.
func (s *searching) ended(ctx context.Context, down map[topology.ID]bool) string {
	living, ok := s.target.(reference.Liveness)
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, n := range s.target.Topology().Nodes {
		if down[n.ID] {
			continue
		}
		if runs, err := living.Runs(ctx, n.ID); err == nil && !runs {
			return n.Name
		}
	}
	return ""
}

// enter brings the system into a regime: the fault takes effect, and stays until
// leave. A node that is to rejoin comes back by itself when the step has settled.
func (s *searching) enter(ctx context.Context, regime capacity.Regime) error {
	if s.entered == nil {
		s.entered = map[capacity.Regime]int{}
	}
	steps := s.plans[regime].Steps
	if s.entered[regime] == len(steps) {
		return fmt.Errorf("%s: it was entered %d times, which is all that was planned", regime, len(steps))
	}
	fault := steps[s.entered[regime]]
	s.entered[regime]++
	fault.At, fault.Gap, fault.Settle = s.since(), 0, 0
	s.say("%s: ending %s", regime, fault.Names())
	effective := s.await(fault.ID, chaos.StepEffective)
	if regime.Rejoins() {
		s.redundant = s.await(fault.ID, chaos.StepRedundant)
	}
	inRegime, over := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.runner(chaos.Plan{Steps: []chaos.Planned{fault}}).Run(inRegime) }()
	s.down = map[topology.ID]bool{}
	for _, n := range fault.Nodes {
		s.down[n.ID] = true
	}
	s.leaving = func(ctx context.Context) error {
		defer over()
		if !regime.Rejoins() {
			s.say("%s: starting %s again", regime, fault.Names())
			over()
		}
		if s.failed != nil { // nothing is to be measured any more
			over()
			return <-done
		}
		err := <-done
		if errors.Is(err, context.Canceled) && !errors.Is(err, chaos.ErrUnhealed) {
			err = nil
		}
		if err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		for _, n := range fault.Nodes {
			if _, err := s.target.AwaitRedundant(waiting, n.ID); err != nil {
				return fmt.Errorf("%s: node %s was started and is not redundant: %w", regime, n.Name, err)
			}
		}
		s.down = nil
		return nil
	}
	select {
	case e := <-effective:
		if e.Name == chaos.StepFailed {
			return fmt.Errorf("%s: %s did not come about: %s", regime, e.Fields["what"], e.Fields["error"])
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave makes the system whole again.
func (s *searching) leave(ctx context.Context) error {
	if s.leaving == nil {
		return nil
	}
	leaving := s.leaving
	s.leaving = nil
	return leaving(ctx)
}

// close leaves nothing under way. It is called when no session is.
func (s *searching) close(ctx context.Context) error {
	if s.leaving == nil {
		return nil
	}
	// The runner heals within its own time, also when ctx is over.
	s.fail(context.Cause(ctx))
	return s.leave(context.WithoutCancel(ctx))
}

// await returns where a step of a fault, or its failure, is told.
func (s *searching) await(fault, step string) <-chan chaos.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == nil {
		s.awaited = map[string]chan chaos.Event{}
	}
	told := make(chan chaos.Event, 1)
	s.awaited[fault+" "+step] = told
	return told
}

// event takes what the faults say.
func (s *searching) event(e chaos.Event) {
	if e.Kind != chaos.KindFault {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, told := range s.awaited {
		if key == e.Fault+" "+e.Name || e.Name == chaos.StepFailed && strings.HasPrefix(key, e.Fault+" ") {
			told <- e
			delete(s.awaited, key)
		}
	}
}

// record takes what ops have ended.
func (s *searching) record(sample *workload.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tally != nil {
		s.tally.Add(sample)
	}
}

// join tells of the system that is loaded, before the replay begins.
func (s *searching) join(target system, p *Plan, since func() time.Duration, stats func() workload.Stats, runner func(chaos.Plan) *chaos.Runner) {
	s.target, s.since, s.stats, s.runner = target, since, stats, runner
	s.began = s.primary()
	s.end = p.Trace.Window().From + p.Trace.Window().Duration
}
