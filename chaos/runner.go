package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Timeouts bound the steps of a fault. Zero takes the default.
type Timeouts struct {
	Act       time.Duration // one call of Check, Inject, Recover or Undo
	Effect    time.Duration // from the end of Inject
	Recovered time.Duration // from the end of Recover
	Redundant time.Duration // from there; and for a cluster that is not whole before an injection
	Heal      time.Duration // to undo a fault out of turn, and for its node to take part again
}

// DefaultTimeouts returns the defaults. A management server that was told to end
// took half a minute. Heartbeats tell of a silent data node after at most 25 s
// and an arbitrator has 7.5 s to answer (MySQL manual, HeartbeatIntervalDbDb and
// ArbitrationTimeout); a restart depends on how much data there is to copy.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Act: 90 * time.Second, Effect: 45 * time.Second,
		Recovered: 5 * time.Minute, Redundant: 5 * time.Minute, Heal: 5 * time.Minute,
	}
}

func (t Timeouts) orDefault() Timeouts {
	d := DefaultTimeouts()
	for _, f := range []struct{ value, standard *time.Duration }{
		{&t.Act, &d.Act}, {&t.Effect, &d.Effect}, {&t.Recovered, &d.Recovered},
		{&t.Redundant, &d.Redundant}, {&t.Heal, &d.Heal},
	} {
		if *f.value <= 0 {
			*f.value = *f.standard
		}
	}
	return t
}

// Runner works through a plan. The fields from Plan to Anchor must be set.
type Runner struct {
	Plan    Plan
	Faults  func(Planned) (Fault, error) // what Builder returns
	Sink    EventSink
	Journal StepJournal
	Anchor  time.Time // when the run's clock read 0; must carry a monotonic reading

	// Resolve is what Resolver returns; nil where no fault has a dynamic target.
	Resolve func(context.Context, Planned) (Planned, error)
	// Felt says whether the clients have felt a fault since it was made, and what
	// of it; nil where there are no clients. It may be called from any goroutine.
	Felt func(since time.Time) (reference.Evidence, bool)

	Timeouts Timeouts
}

// Run makes the plan's faults. A fault is injected at its time, or as soon as
// the one before is redundant if that is later, and only in a cluster that is
// whole. Each step is journaled before it is taken and said to the sink after.
//
// Faults that are planned during one before them make a group with it. They are
// made one after another, each its Gap after the effect of the one before, and
// each is taken back when its Hold is over, at the earliest when all of the
// group are made. No node is awaited before all are taken back, as a data node
// cannot start without the management node.
//
// A step that does not come about in its time is said as StepFailed, with
// Fields "what" (the step) and "error"; the fault is then recovered at once, and
// its group with it. A fault that cannot be made is passed over, and so is its
// group. Run ends early, and says StepFailed for every fault that it did not
// come to,
//   - with an error that wraps ErrUnhealed if a node does not come back, or the
//     cluster not become redundant: another fault would then be an outage of
//     the harness's own making;
//   - with the journal's error if it cannot be written. Faults are then
//     recovered but no longer made;
//   - with the cause of ctx's end. A fault in its course is undone before, in a
//     time bounded by Timeouts.Act and Timeouts.Heal.
//
// It returns nil if every fault had its turn.
func (r *Runner) Run(ctx context.Context) error {
	var whole time.Time // when the faults before became redundant
	for rest := r.Plan.Steps; len(rest) > 0; {
		together := 1
		for together < len(rest) && rest[together].During {
			together++
		}
		due := r.Anchor.Add(rest[0].At)
		if gap := whole.Add(rest[0].Gap); !whole.IsZero() && gap.After(due) {
			due = gap
		}
		err := sleepUntil(ctx, due)
		if err == nil {
			err = r.turn(ctx, rest[:together])
			rest = rest[together:]
		}
		if err != nil {
			for _, p := range rest {
				r.course(p).failed(StepInjected, fmt.Errorf(NotInjected+", the plan ended early: %w", err))
			}
			return err
		}
		whole = time.Now()
	}
	return nil
}

// course is one fault on its way.
type course struct {
	*Runner
	p         Planned
	kind      Description
	fault     Fault
	limits    Timeouts
	said      map[string]bool
	since     time.Time // when the last act began of those that succeeded; evidence must be as young
	journaled bool      // the injection may have happened
	effect    time.Time // when it took effect
	release   time.Time // when to take it back
}

func (r *Runner) course(p Planned) *course {
	return &course{Runner: r, p: p, limits: r.Timeouts.orDefault(), said: map[string]bool{}}
}

// group is the faults that are in effect together.
type group []*course

// turn takes one fault, or several that are in effect together, through their
// steps. It returns an error if no other fault may follow.
func (r *Runner) turn(ctx context.Context, planned []Planned) error {
	var g group
	for _, p := range planned {
		g = append(g, r.course(p))
	}
	for _, c := range g {
		if err := c.prepare(ctx); err != nil {
			g.skip(c, fmt.Errorf("cannot be made: %w", err))
			return context.Cause(ctx)
		}
	}
	// A node that died by itself makes the same outage as a fault before that
	// is not over.
	for _, c := range g {
		if err := c.whole(ctx); err != nil {
			g.skip(c, fmt.Errorf(NotInjected+", as the cluster is not redundant: %w", err))
			return context.Cause(ctx)
		}
	}
	heal, journalErr := g.inject(ctx)
	if heal {
		return errors.Join(journalErr, g.heal(ctx))
	}
	// The injections stand in the journal, so that a recovery that cannot be
	// noted is still right; but no fault may follow.
	back := g.injected()
	slices.SortStableFunc(back, func(a, b *course) int { return a.release.Compare(b.release) })
	for _, c := range back {
		if err := sleepUntil(ctx, c.release); err != nil {
			return errors.Join(journalErr, g.heal(ctx))
		}
		journalErr = errors.Join(journalErr, r.Journal.Append(c.p, JournalRecover))
		recovering := time.Now()
		c.say(StepRecover, recovering, nil)
		if err := c.act(ctx, c.fault.Recover); err != nil {
			c.failed(StepRecover, err)
			return errors.Join(journalErr, g.heal(ctx))
		}
		c.since = recovering
	}
	for _, c := range back {
		if _, err := c.awaitStep(ctx, StepRecovered, c.limits.Recovered, c.awaitRecovered); err != nil {
			return errors.Join(journalErr, g.heal(ctx))
		}
	}
	return errors.Join(journalErr, g.end(ctx))
}

// skip says of a whole group that it is not made, because of one of its faults.
func (g group) skip(because *course, err error) {
	for _, c := range g {
		if c == because {
			c.failed(StepInjected, err)
		} else {
			c.failed(StepInjected, fmt.Errorf(NotInjected+", as %s was not: %w", because.p.ID, err))
		}
	}
}

// injected are the faults that may be there.
func (g group) injected() group {
	return slices.DeleteFunc(slices.Clone(g), func(c *course) bool { return !c.journaled })
}

// inject makes the faults of a group, and says when to take each back. With
// heal, everything must be undone now; journalErr says why no other fault may
// follow.
func (g group) inject(ctx context.Context) (heal bool, journalErr error) {
	for i, c := range g {
		next := g[i:]
		notAnyMore := func(format string, args ...any) {
			for _, later := range next {
				later.failed(StepInjected, fmt.Errorf(format, args...))
			}
		}
		if i > 0 {
			if err := sleepUntil(ctx, g[i-1].effect.Add(c.p.Gap)); err != nil {
				notAnyMore(NotInjected+", the plan ended early: %w", err)
				return true, nil
			}
		}
		if err := c.resolve(ctx, g[:i]); err != nil {
			notAnyMore("not injected: %w", err)
			g.injected().releaseNow()
			return false, nil
		}
		if err := c.Journal.Append(c.p, JournalInject); err != nil {
			err = fmt.Errorf("fault %s is not injected: %w", c.p.ID, err)
			notAnyMore("%w", err)
			g.injected().releaseNow()
			return false, err
		}
		c.journaled = true
		next = next[1:]
		if ok, err := c.inject(ctx); !ok {
			notAnyMore(NotInjected+", as %s could not be", c.p.ID)
			return true, err
		}
		effect, err := c.awaitEffect(ctx)
		if err != nil {
			notAnyMore(NotInjected+", as %s had no effect", c.p.ID)
			g.injected().releaseNow()
			return ctx.Err() != nil, nil
		}
		c.effect, c.release = effect.At, effect.At.Add(c.p.Hold)
	}
	return false, nil
}

func (g group) releaseNow() {
	for _, c := range g {
		c.release = time.Now()
	}
}

// heal puts the faults of a group right out of turn: after an error, or when ctx
// has ended. All are undone before any node is awaited.
func (g group) heal(ctx context.Context) error {
	fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), g[0].limits.Heal)
	defer cancel()
	back := g.injected()
	slices.Reverse(back)
	var failures []error
	undone := group{}
	for _, c := range back {
		if err := c.Journal.Append(c.p, JournalUndo); err != nil {
			failures = append(failures, err)
		}
		c.say(StepRecover, time.Now(), map[string]string{"undo": "true"})
		if err := c.act(fresh, c.fault.Undo); err != nil {
			c.failed(StepRecover, err)
			failures = append(failures, c.unhealed("undo", err))
			continue
		}
		undone = append(undone, c)
	}
	for _, c := range undone {
		if _, err := c.awaitStep(fresh, StepRecovered, c.limits.Heal, c.awaitRecovered); err != nil {
			failures = append(failures, c.unhealed("wait for it to take part again", err))
			continue
		}
		if err := c.Journal.Append(c.p, JournalHealed); err != nil {
			failures = append(failures, err)
		}
	}
	failure := errors.Join(failures...)
	switch {
	case errors.Is(failure, ErrUnhealed):
		return failure
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), failure)
	default:
		return errors.Join(failure, g.end(ctx))
	}
}

// end waits for redundancy. When ctx ends meanwhile the nodes have been started
// and take part again: what is left is the cluster's own work.
func (g group) end(ctx context.Context) error {
	for i, c := range g.injected() {
		if _, err := c.awaitStep(ctx, StepRedundant, c.limits.Redundant, c.fault.AwaitRedundant); err != nil {
			if ctx.Err() == nil {
				return c.unhealed("wait for redundancy", err)
			}
			healed := []error{context.Cause(ctx)}
			for _, c := range g.injected()[i:] {
				healed = append(healed, c.Journal.Append(c.p, JournalHealed))
			}
			return errors.Join(healed...)
		}
		if err := c.Journal.Append(c.p, JournalRedundant); err != nil {
			return err
		}
	}
	return nil
}

// mostEnds is how often nodes may end after a fault was taken back: each node once
// is what was seen.
const mostEnds = 3

// awaitRecovered awaits a fault's recovery. What ends meanwhile is started.
func (c *course) awaitRecovered(ctx context.Context) (reference.Evidence, error) {
	for ends := 0; ; ends++ {
		e, err := c.fault.AwaitRecovered(ctx)
		if !errors.Is(err, ErrEnded) || ends == mostEnds {
			return e, err
		}
		if err := errors.Join(c.Journal.Append(c.p, JournalUndo), c.act(ctx, c.fault.Undo)); err != nil {
			return e, err
		}
	}
}

func (c *course) unhealed(doing string, err error) error {
	return fmt.Errorf("fault %s on %s: %w: %s: %w; look at the logs of its nodes, then run mailbench heal",
		c.p.ID, c.p.Names(), ErrUnhealed, doing, err)
}

// prepare builds the fault and checks that it can be made. A dynamic target is
// taken for all its candidates.
func (c *course) prepare(ctx context.Context) error {
	var err error
	if c.fault, err = c.Faults(c.p); err != nil {
		return err
	}
	if c.kind, err = describe(c.p.Kind); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, c.limits.Act)
	defer cancel()
	return c.fault.Check(bounded)
}

// settlePoll is how often redundancy is looked at while it must stand. What
// lasts no longer than a look is not seen.
const settlePoll = time.Second

// whole waits until the cluster is redundant, and has been for as long as the
// fault wants.
func (c *course) whole(ctx context.Context) error {
	if _, err := c.await(ctx, c.limits.Redundant, c.fault.AwaitRedundant); err != nil {
		return err
	}
	since := time.Now()
	end := since.Add(c.p.Settle + c.limits.Redundant)
	for time.Since(since) < c.p.Settle {
		if time.Now().After(end) {
			return fmt.Errorf("it was not so for %s within %s", c.p.Settle, c.p.Settle+c.limits.Redundant)
		}
		if err := sleepUntil(ctx, time.Now().Add(min(settlePoll, c.p.Settle-time.Since(since)))); err != nil {
			return err
		}
		asked := time.Now()
		if _, err := c.await(ctx, c.limits.Redundant, c.fault.AwaitRedundant); err != nil {
			return err
		}
		if time.Since(asked) > 2*settlePoll {
			since = time.Now() // it had to be waited for
		}
	}
	return nil
}

// resolve finds out on which node a fault with a dynamic target is made. Before
// are the faults that are in effect already.
func (c *course) resolve(ctx context.Context, before group) error {
	if c.p.Dynamic == "" {
		return nil
	}
	if c.Resolve == nil {
		return fmt.Errorf("nobody can say which node is the %s", c.p.Dynamic)
	}
	bounded, cancel := context.WithTimeout(ctx, c.limits.Act)
	defer cancel()
	var err error
	if c.p, err = c.Resolve(bounded, c.p); err != nil {
		return err
	}
	for _, b := range before {
		for _, n := range c.p.Nodes {
			if slices.Contains(b.p.Nodes, n) {
				return fmt.Errorf("%s has fault %s already", n.Name, b.p.ID)
			}
		}
		// What another fault has taken is that one's to bring back, in its time.
		c.p.Along = slices.DeleteFunc(slices.Clone(c.p.Along), func(n topology.Node) bool { return slices.Contains(b.p.Nodes, n) })
	}
	return c.prepare(ctx)
}

// inject makes the fault, stage by stage. Not ok, the fault may be there, or
// part of it.
func (c *course) inject(ctx context.Context) (ok bool, journalErr error) {
	injecting := time.Now()
	var err error
	if patient, is := c.fault.(Patient); is {
		bounded, cancel := context.WithTimeout(ctx, patient.InjectLimit())
		err = patient.Inject(bounded)
		cancel()
	} else {
		err = c.act(ctx, c.fault.Inject)
	}
	if err != nil {
		c.failed(StepInjected, err)
		return false, nil
	}
	c.since = injecting
	c.say(StepInjected, injecting, map[string]string{
		"kind": string(c.p.Kind), "planned_us": micros(c.p.At), "took_us": micros(time.Since(injecting)),
	})
	staged, is := c.fault.(Staged)
	if !is {
		return true, nil
	}
	for _, stage := range staged.Stages() {
		evidence, err := c.await(ctx, c.limits.Recovered, stage.Await)
		if err != nil {
			c.failed(stage.What, err)
			return false, nil
		}
		if err := c.Journal.Append(c.p, JournalStage); err != nil {
			c.failed(StepStage, err)
			return false, err
		}
		acting := time.Now()
		c.Sink.Event(c.event(StepStage, acting, map[string]string{
			"what": stage.What, "source": evidence.Source, "detail": evidence.Detail,
		}))
		if err := c.act(ctx, stage.Act); err != nil {
			c.failed(StepStage, err)
			return false, nil
		}
		c.since = acting
	}
	return true, nil
}

// feltPoll is how often the clients are asked whether they feel a fault.
const feltPoll = 100 * time.Millisecond

// awaitEffect waits until the cluster says that the fault has taken effect or,
// where that counts, the clients feel it.
func (c *course) awaitEffect(ctx context.Context) (reference.Evidence, error) {
	wait := c.fault.AwaitEffect
	if c.Felt != nil && c.kind.Felt {
		felt := func(ctx context.Context) (reference.Evidence, error) {
			for {
				if evidence, ok := c.Felt(c.since); ok {
					return evidence, nil
				}
				if err := sleepUntil(ctx, time.Now().Add(feltPoll)); err != nil {
					return reference.Evidence{}, fmt.Errorf("no client felt it: %w", err)
				}
			}
		}
		wait = func(ctx context.Context) (reference.Evidence, error) {
			return first(ctx, c.fault.AwaitEffect, felt)
		}
	}
	return c.awaitStep(ctx, StepEffective, c.limits.Effect, wait)
}

// act bounds an act, and keeps the end of the run from cutting it off.
func (c *course) act(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limits.Act)
	defer cancel()
	return do(ctx)
}

// await bounds a wait. Evidence that is older than what it should prove, such
// as that of the node's death before, proves nothing.
func (c *course) await(ctx context.Context, limit time.Duration,
	wait func(context.Context) (reference.Evidence, error),
) (reference.Evidence, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	evidence, err := wait(bounded)
	switch {
	case err != nil && bounded.Err() != nil:
		return reference.Evidence{}, fmt.Errorf("%w: %w", context.Cause(bounded), err)
	case err != nil:
		return reference.Evidence{}, err
	case evidence.At.Before(c.since):
		return reference.Evidence{}, fmt.Errorf("stale evidence: %s (%s) was seen %s before",
			evidence.Source, evidence.Detail, c.since.Sub(evidence.At))
	}
	return evidence, nil
}

// awaitStep awaits a step and says what became of it.
func (c *course) awaitStep(ctx context.Context, step string, limit time.Duration,
	wait func(context.Context) (reference.Evidence, error),
) (reference.Evidence, error) {
	evidence, err := c.await(ctx, limit, wait)
	if err != nil {
		c.failed(step, err)
		return evidence, err
	}
	c.say(step, evidence.At, map[string]string{"source": evidence.Source, "detail": evidence.Detail})
	return evidence, nil
}

// say tells the sink of a step once: a fault that is healed half-way through
// its recovery has one start of its recovery, the first.
func (c *course) say(step string, at time.Time, fields map[string]string) {
	if c.said[step] {
		return
	}
	c.said[step] = true
	c.Sink.Event(c.event(step, at, fields))
}

func (c *course) event(step string, at time.Time, fields map[string]string) Event {
	return Event{At: at.Sub(c.Anchor), Kind: KindFault, Name: step, Fault: c.p.ID, Node: c.p.Names(), Fields: fields}
}

func (c *course) failed(what string, err error) {
	c.Sink.Event(c.event(StepFailed, time.Now(), map[string]string{"what": what, "error": err.Error()}))
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

func sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
