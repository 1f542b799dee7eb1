package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference"
)

// Timeouts bound the steps of a fault. Zero takes the default.
type Timeouts struct {
	Act       time.Duration // one call of Check, Inject, Recover or Undo
	Effect    time.Duration // from the end of Inject
	Recovered time.Duration // from the end of Recover
	Redundant time.Duration // from there; and for a cluster that is not whole before an injection
	Heal      time.Duration // to undo a fault out of turn, and for its node to take part again
}

// DefaultTimeouts returns the defaults. Heartbeats tell of a silent data node
// after at most 25 s and an arbitrator has 7.5 s to answer (MySQL manual,
// HeartbeatIntervalDbDb and ArbitrationTimeout); a restart depends on how much
// data there is to copy.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Act: 30 * time.Second, Effect: 45 * time.Second,
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

// Runner works through a plan, one fault at a time. All fields but Timeouts
// must be set.
type Runner struct {
	Plan     Plan
	Faults   func(Planned) (Fault, error)
	Sink     EventSink
	Journal  StepJournal
	Anchor   time.Time // when the run's clock read 0; must carry a monotonic reading
	Timeouts Timeouts
}

// Run makes the plan's faults. A fault is injected at its time, or as soon as
// the one before is redundant if that is later, and only in a cluster that is
// whole. Each step is journaled before it is taken and said to the sink after.
//
// A step that does not come about in its time is said as StepFailed, with
// Fields "what" (the step) and "error"; the fault is then recovered at once. A
// fault that cannot be made is passed over. Run ends early, and says StepFailed
// for every fault that it did not come to,
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
	var whole time.Time // when the fault before became redundant
	for i, p := range r.Plan.Steps {
		due := r.Anchor.Add(p.At)
		if gap := whole.Add(p.Gap); i > 0 && gap.After(due) {
			due = gap
		}
		rest := r.Plan.Steps[i:]
		err := sleepUntil(ctx, due)
		if err == nil {
			err = r.turn(ctx, p)
			rest = rest[1:]
		}
		if err != nil {
			for _, p := range rest {
				(&course{Runner: r, p: p}).failed(StepInjected, fmt.Errorf("not injected, the plan ended early: %w", err))
			}
			return err
		}
		whole = time.Now()
	}
	return nil
}

// turn takes one fault through its steps. It returns an error if no other fault
// may follow.
func (r *Runner) turn(ctx context.Context, p Planned) error {
	c := &course{Runner: r, p: p, limits: r.Timeouts.orDefault(), said: map[string]bool{}}
	var err error
	if c.fault, err = r.Faults(p); err == nil {
		bounded, cancel := context.WithTimeout(ctx, c.limits.Act)
		err = c.fault.Check(bounded)
		cancel()
	}
	if err != nil {
		c.failed(StepInjected, fmt.Errorf("cannot be made: %w", err))
		return context.Cause(ctx)
	}
	// A node that died by itself makes the same outage as a fault before that
	// is not over.
	if _, err := c.await(ctx, c.limits.Redundant, c.fault.AwaitRedundant); err != nil {
		c.failed(StepInjected, fmt.Errorf("not injected, as the cluster is not redundant: %w", err))
		return context.Cause(ctx)
	}

	if err := r.Journal.Append(p, JournalInject); err != nil {
		err = fmt.Errorf("fault %s is not injected: %w", p.ID, err)
		c.failed(StepInjected, err)
		return err
	}
	injecting := time.Now()
	if err := c.act(ctx, c.fault.Inject); err != nil {
		c.failed(StepInjected, err)
		return c.heal(ctx)
	}
	c.since = injecting
	c.say(StepInjected, injecting, map[string]string{
		"kind": string(p.Kind), "planned_us": micros(p.At), "took_us": micros(time.Since(injecting)),
	})
	effect, err := c.awaitStep(ctx, StepEffective, c.limits.Effect, c.fault.AwaitEffect)
	if err == nil {
		err = sleepUntil(ctx, effect.At.Add(p.Hold))
	}
	if err != nil && ctx.Err() != nil {
		return c.heal(ctx)
	}

	// The injection stands in the journal, so that a recovery that cannot be
	// noted is still right; but no fault may follow.
	journalErr := r.Journal.Append(p, JournalRecover)
	recovering := time.Now()
	c.say(StepRecover, recovering, nil)
	if err := c.act(ctx, c.fault.Recover); err != nil {
		c.failed(StepRecover, err)
		return errors.Join(journalErr, c.heal(ctx))
	}
	c.since = recovering
	if _, err := c.awaitStep(ctx, StepRecovered, c.limits.Recovered, c.fault.AwaitRecovered); err != nil {
		return errors.Join(journalErr, c.heal(ctx))
	}
	return errors.Join(journalErr, c.end(ctx))
}

// course is one fault on its way.
type course struct {
	*Runner
	p      Planned
	fault  Fault
	limits Timeouts
	said   map[string]bool
	since  time.Time // when the last act began of those that succeeded; evidence must be as young
}

// heal puts the fault right out of turn: after an error, or when ctx has ended.
func (c *course) heal(ctx context.Context) error {
	fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.limits.Heal)
	defer cancel()
	journalErr := c.Journal.Append(c.p, JournalUndo)
	c.say(StepRecover, time.Now(), map[string]string{"undo": "true"})
	if err := c.act(fresh, c.fault.Undo); err != nil {
		c.failed(StepRecover, err)
		return errors.Join(c.unhealed("undo", err), journalErr)
	}
	if _, err := c.awaitStep(fresh, StepRecovered, c.limits.Heal, c.fault.AwaitRecovered); err != nil {
		return errors.Join(c.unhealed("wait for it to take part again", err), journalErr)
	}
	journalErr = errors.Join(journalErr, c.Journal.Append(c.p, JournalHealed))
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), journalErr)
	}
	return errors.Join(journalErr, c.end(ctx))
}

// end waits for redundancy. When ctx ends meanwhile the node has been started
// and takes part again: what is left is the cluster's own work.
func (c *course) end(ctx context.Context) error {
	if _, err := c.awaitStep(ctx, StepRedundant, c.limits.Redundant, c.fault.AwaitRedundant); err != nil {
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), c.Journal.Append(c.p, JournalHealed))
		}
		return c.unhealed("wait for redundancy", err)
	}
	return c.Journal.Append(c.p, JournalRedundant)
}

func (c *course) unhealed(doing string, err error) error {
	return fmt.Errorf("fault %s on %s (node %d): %w: %s: %w; look at the node's log, then run mailbench heal",
		c.p.ID, c.p.Node.Name, c.p.Node.ID, ErrUnhealed, doing, err)
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
	c.Sink.Event(Event{
		At: at.Sub(c.Anchor), Kind: KindFault, Name: step, Fault: c.p.ID, Node: c.p.Node.Name, Fields: fields,
	})
}

func (c *course) failed(what string, err error) {
	c.Sink.Event(Event{
		At: time.Since(c.Anchor), Kind: KindFault, Name: StepFailed, Fault: c.p.ID, Node: c.p.Node.Name,
		Fields: map[string]string{"what": what, "error": err.Error()},
	})
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
