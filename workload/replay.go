package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// The steps of a session in wall time, whatever the speed: a peer and a user
// need their time. The ops of a session are intended at these offsets, and each
// is dispatched then or when the op before it has ended, whichever is later.
// All assumed.
const (
	// RCPT command r (from 0) asks for its route at r*recipientStep and for its
	// greylisting at recipientStep/2 after that.
	recipientStep = 20 * time.Millisecond
	// The message is delivered by a process of its own, deliveryAfter after the
	// last RCPT command's step. Recipient j of those accepted, from 0, asks for
	// its route deliveryStep*j after that.
	deliveryAfter = 200 * time.Millisecond
	deliveryStep  = 5 * time.Millisecond
	// An options form is saved by a request of its own, saveAfter after the
	// login, key k at saveStep*k after that.
	saveAfter = time.Second
	saveStep  = 5 * time.Millisecond
	// A job's changes are requests of their own, this far apart: a mailbox takes
	// its time to move.
	changeStep = 2 * time.Second
)

// Replay performs a trace in open loop. All fields must be set but Ledger and
// Sleeper, and those for stretches.
type Replay struct {
	Trace    Source
	Clients  []Client // samples name them by index; 1 to 255
	Target   Connector
	Recorder Recorder
	Ledger   Ledger        // nil if nobody wants to know
	Anchor   time.Time     // from time.Now, so that it has a monotonic reading
	Start    time.Duration // when the window's first microsecond is due, since the anchor
	Speed    int           // virtual seconds a wall second, 1 or more
	Day      time.Time     // midnight of the virtual day
	// MaxInFlight bounds the sessions that are under way, 1 or more. Overflow says
	// what becomes of one that comes when all are.
	MaxInFlight int
	Overflow    Overflow
	// ClosedLoop has peers whose recipients are put off come back by their own
	// schedules, because of what the target answered.
	ClosedLoop bool
	// Paths are those that are asked, Routing among them; nil for all. Without
	// Greylist a recipient that has a route is accepted at once; without Preferences
	// no action, and without Accounts no job asks anything.
	Paths []reference.Path
	// Later are tries to perform beside the trace: those that peers still have to
	// make when the window begins, or tries that were predicted.
	Later []*Try
	// Drain is how long the sessions under way may go on when the trace or the
	// context has ended, before they are cut short; above 0. An op that is cut
	// short is recorded as what it then is: Failed, Degraded or Unknown.
	Drain   time.Duration
	Sleeper Sleeper // by what it waits for the time of an op; nil for Go's timers, up to 1 ms late

	// Turn divides the window into stretches, nil performs it without a stop, and
	// Start and Speed are for that. Virtual time stands still between stretches. A
	// stretch holds the sessions of its virtual time, with those of their ops that come
	// later. It is over when these have ended, which may be before its time is: who
	// wants its whole length waits in Turn. At its time's end its sessions have Drain to
	// end before they are cut short, and if any of its sessions was not started then,
	// the replay ends.
	//
	// Turn is called before each stretch, numbered from 0, also one that holds
	// nothing, while no session is under way; sessions that clients keep idle stay
	// open. It is told at which virtual time the stretch begins, and returns when it may.
	// An error ends the replay, and so should ctx end Turn.
	Turn func(ctx context.Context, stretch int, from time.Duration) (Stretch, error)
	// Rest is called when a stretch is over and none of its sessions is under way:
	// once after each Turn that returned no error, before Run returns, whatever
	// ended the stretch. nil if nobody wants to know.
	Rest func(stretch int)

	pending  tries
	counters counters
}

// Overflow is what becomes of a session that finds MaxInFlight others under way.
type Overflow uint8

// The policies. Whatever they do is counted in Stats.
const (
	// OverflowWait holds it back, and all that come after it, until a session ends. What
	// is late then starts at once, and keeps its intended time, so that the wait
	// shows as queue latency.
	OverflowWait Overflow = iota
	// OverflowPutOff answers as an MTA does whose limit of connections is reached (421):
	// the peer comes back by its schedule. A webmail action and a job are dropped.
	OverflowPutOff
	// OverflowDrop leaves it out.
	OverflowDrop
)

// String spells a policy as scenario files do.
func (o Overflow) String() string {
	switch o {
	case OverflowWait:
		return "wait"
	case OverflowPutOff:
		return "put-off"
	case OverflowDrop:
		return "drop"
	default:
		return fmt.Sprintf("overflow_%d", uint8(o))
	}
}

// errOverrun is why a replay whose sessions took too long starts no more.
var errOverrun = errors.New("the window and the drain are over: more sessions were offered than could be under way")

// Stats is how far a replay is. A session is a try of a message, a webmail
// action or a job.
type Stats struct {
	Offered  int64 // sessions whose time came
	Started  int64 // of these, those that were neither held back when the replay was ended, nor put off, nor dropped
	PutOff   int64 // of those offered, tries that found MaxInFlight sessions under way and were told to come back
	Dropped  int64 // of those offered, sessions that found as many under way and were left out
	Ended    int64 // of these, those that are over
	CutShort int64 // of these, those that the end of the drain cut short
	// Ops that were never asked, because an op before them in their session had
	// no answer.
	ChecksNotAsked, SavesNotAsked, ChangesNotAsked int64
	Waited                                         int64              // sessions that found MaxInFlight others under way and had to wait
	Tries                                          int64              // of the sessions offered, tries after a message's first
	TriesLeft                                      int64              // tries that would come after the window's end
	GivenUp                                        int64              // recipients that their peer gave up, or never tried again, after they were put off
	Ops                                            [Unknown + 1]int64 // ops that ended, by outcome
}

// InFlight is how many sessions are under way.
func (s Stats) InFlight() int64 { return s.Started - s.Ended }

type counters struct {
	offered, started, ended, cutShort, waited atomic.Int64
	putOff, dropped, tries, left, givenUp     atomic.Int64
	checksNotAsked, savesNotAsked             atomic.Int64
	changesNotAsked                           atomic.Int64
	ops                                       [Unknown + 1]atomic.Int64
}

// Stats reads the counters, also while Run is at work. They are read one after
// another, ends before starts, so that no more sessions end than start.
func (r *Replay) Stats() Stats {
	var s Stats
	for o := range s.Ops {
		s.Ops[o] = r.counters.ops[o].Load()
	}
	s.CutShort = r.counters.cutShort.Load()
	s.Ended = r.counters.ended.Load()
	s.Started = r.counters.started.Load()
	s.Waited = r.counters.waited.Load()
	s.ChecksNotAsked = r.counters.checksNotAsked.Load()
	s.SavesNotAsked = r.counters.savesNotAsked.Load()
	s.ChangesNotAsked = r.counters.changesNotAsked.Load()
	s.PutOff, s.Dropped = r.counters.putOff.Load(), r.counters.dropped.Load()
	s.Tries, s.TriesLeft, s.GivenUp = r.counters.tries.Load(), r.counters.left.Load(), r.counters.givenUp.Load()
	s.Offered = r.counters.offered.Load()
	return s
}

// Validate names the field that is out of its range.
func (r *Replay) Validate() error {
	for _, rule := range []struct {
		ok   bool
		text string
	}{
		{r.Trace != nil, "Trace is nil"},
		{r.Target != nil, "Target is nil"},
		{r.Recorder != nil, "Recorder is nil"},
		{!r.Anchor.IsZero(), "Anchor is not set"},
		{!r.Day.IsZero(), "Day is not set"},
		{r.asks(reference.Routing), fmt.Sprintf("Paths is %v, must hold %v", r.Paths, reference.Routing)},
		{r.Speed >= 1, fmt.Sprintf("Speed is %d, must be 1 or more", r.Speed)},
		{r.MaxInFlight >= 1, fmt.Sprintf("MaxInFlight is %d, must be 1 or more", r.MaxInFlight)},
		{r.Overflow <= OverflowDrop, fmt.Sprintf("Overflow is %d, must be OverflowWait (0), OverflowPutOff (1) or OverflowDrop (2)", r.Overflow)},
		{r.Drain > 0, fmt.Sprintf("Drain is %v, must be above 0", r.Drain)},
		{r.Turn != nil || r.Rest == nil, "Rest is set, must be nil without Turn"},
		{len(r.Clients) >= 1 && len(r.Clients) <= 255, fmt.Sprintf("Clients has %d, must have 1 to 255", len(r.Clients))},
	} {
		if !rule.ok {
			return errors.New("replay: " + rule.text)
		}
	}
	kinds := map[Kind]bool{}
	for _, c := range r.Clients {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		kinds[c.Kind] = true
	}
	switch {
	case r.Trace.Messages() > 0 && !kinds[MTA]:
		return fmt.Errorf("replay: Clients has no MTA for the trace's %d messages", r.Trace.Messages())
	case r.Trace.Actions() > 0 && !kinds[Webmail]:
		return fmt.Errorf("replay: Clients has no webmail machine for the trace's %d actions", r.Trace.Actions())
	case r.Trace.Jobs() > 0 && !kinds[Webmail]:
		return fmt.Errorf("replay: Clients has no webmail machine for the trace's %d jobs on accounts", r.Trace.Jobs())
	}
	return nil
}

// asks says whether a path is asked.
func (r *Replay) asks(p reference.Path) bool { return r.Paths == nil || slices.Contains(r.Paths, p) }

// Run performs the trace and returns when every session is over. When ctx ends
// it starts nothing more, drains, and returns an error that wraps ctx's cause if
// part of the trace was not started. An error of Turn is wrapped, too. A Replay
// runs once.
func (r *Replay) Run(ctx context.Context) (Stats, error) {
	if err := r.Validate(); err != nil {
		return Stats{}, err
	}
	machines := map[Kind][]*machine{}
	for i, c := range r.Clients {
		m := newMachine(c, i, r.Target, r.Anchor)
		m.sleeper = r.sleeper()
		defer m.closeIdle()
		machines[c.Kind] = append(machines[c.Kind], m)
	}
	for _, t := range r.Later {
		if r.Trace.Window().holds(t.At) {
			r.pending.add(t)
		}
	}
	// It outlives ctx, so that the items end only where the trace does.
	making, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p := performance{
		Replay: r, machines: machines, slots: make(chan struct{}, r.MaxInFlight),
		pacer: pacer{
			items: r.ahead(making), tries: &r.pending, now: func() time.Duration { return time.Since(r.Anchor) }, sleep: r.sleeper().Sleep,
			over: func() bool { return r.counters.ended.Load() == r.counters.started.Load() },
		},
	}
	why := p.stretches(ctx)
	r.counters.left.Add(int64(r.pending.len()))
	stats := r.Stats()
	if err := r.Trace.Err(); err != nil {
		return stats, fmt.Errorf("replay ended after %d sessions of its trace: %w", p.first, err)
	}
	// A stretch that failed is one even if only tries were left to it.
	failed := r.Turn != nil && why != nil && !errors.Is(why, context.Cause(ctx))
	if whole := r.Trace.Messages() + r.Trace.Actions() + r.Trace.Jobs(); p.first < whole || failed {
		return stats, fmt.Errorf("replay ended after %d of %d sessions of its trace: %w", p.first, whole, why)
	}
	return stats, nil
}

// ahead makes items while the pacer sleeps, so that making a minute of them
// does not delay the first.
func (r *Replay) ahead(ctx context.Context) <-chan Item {
	items := make(chan Item, 1024)
	go func() {
		defer close(items)
		for item := range r.Trace.All() {
			if ctx.Err() != nil { // select picks any of those that are ready
				return
			}
			select {
			case items <- item:
			case <-ctx.Done():
				return
			}
		}
	}()
	return items
}

// takeSlot takes one of the slots of sessions under way. taken is false if there
// is none and the policy is not to wait for one, ok is false if ctx ended.
func (r *Replay) takeSlot(ctx context.Context, slots chan<- struct{}) (taken, ok bool) {
	select {
	case slots <- struct{}{}:
		return true, true
	default:
	}
	if r.Overflow != OverflowWait {
		return false, true
	}
	r.counters.waited.Add(1)
	select {
	case slots <- struct{}{}:
		return true, true
	case <-ctx.Done():
		return false, false
	}
}

// turnAway is what becomes of a session that found no slot.
func (r *Replay) turnAway(item Item) {
	try := item.Try
	if item.Message != nil {
		try = firstTry(item.Message)
	}
	if r.Overflow == OverflowDrop || try == nil {
		r.counters.dropped.Add(1)
		return
	}
	r.counters.putOff.Add(1)
	r.comeBack(try, try.Recipients)
}

// comeBack has a peer make its next try, by its own schedule, if the loop is
// closed.
func (r *Replay) comeBack(last *Try, left []int) {
	if !r.ClosedLoop {
		return
	}
	try, ok := nextTry(r.Trace, last, left)
	switch {
	case !ok:
		r.counters.givenUp.Add(int64(len(left)))
	case !r.Trace.Window().holds(try.At):
		r.counters.left.Add(1)
	default:
		r.pending.add(try)
	}
}

func (r *Replay) perform(ctx context.Context, machines map[Kind][]*machine, item Item, intended time.Duration) {
	kind, number, try := MTA, uint64(0), item.Try
	switch {
	case item.Message != nil:
		number, try = item.Message.Number, firstTry(item.Message)
	case item.Try != nil:
		number = try.Message.Number
	case item.Action != nil:
		kind, number = Webmail, item.Action.Number
	default:
		kind, number = Webmail, item.Job.Number
	}
	if item.Action != nil && !r.asks(reference.Preferences) || item.Job != nil && !r.asks(reference.Accounts) {
		return
	}
	d := newDraws(r.Trace.Seed(), streamClient, number)
	m := machines[kind][d.below(len(machines[kind]))]
	s := session{
		replay: r, process: process{machine: m}, intended: intended,
		sample: Sample{Message: number, Client: m.index, Virtual: item.At},
	}
	switch {
	case try != nil:
		for range try.Number { // a peer may meet another MTA each time
			s.machine = machines[kind][d.below(len(machines[kind]))]
		}
		s.sample.Client, s.sample.Try = s.machine.index, uint16(try.Number)
		s.receive(ctx, try)
	case item.Action != nil:
		s.login(ctx, item.Action)
	default:
		s.change(ctx, item.Job)
	}
	s.end()
	if ctx.Err() != nil {
		r.counters.cutShort.Add(1)
	}
}

// session is a message, an action or a job under way.
type session struct {
	replay *Replay
	process
	intended time.Duration // of the session, since the anchor
	sample   Sample        // of the op at hand; the recorder does not keep it
}

// op performs one op at an offset from the session's intended time and records
// it. asked is false if ctx ended before it could be asked.
func (s *session) op(ctx context.Context, offset time.Duration, recipient int, op reference.Operation, ask question) (verdict uint8, outcome Outcome, asked bool) {
	intended := s.intended + offset
	if !s.sleeper.Sleep(ctx, intended-s.now()) {
		return 0, 0, false
	}
	verdict, outcome = s.do(ctx, op, ask)
	s.sample.Recipient, s.sample.Operation, s.sample.Intended = uint16(recipient), op, intended
	s.sample.Answer, s.sample.Outcome, s.sample.Attempts = verdict, outcome, s.attempts
	s.replay.counters.ops[outcome].Add(1)
	s.replay.Recorder.Record(&s.sample)
	return verdict, outcome, true
}

// acknowledge tells the ledger of the write that op has just performed, if it
// happened or may have.
func (s *session) acknowledge(outcome Outcome, a Acknowledged) {
	a.Certain = outcome.answered()
	if s.replay.Ledger == nil || !a.Certain && outcome != Unknown {
		return
	}
	others := s.attempts
	if a.Certain {
		others = others[:len(others)-1]
	}
	a.Op = s.asked()
	a.Lingers = slices.ContainsFunc(others, func(a Attempt) bool { return a.Result.Effect != ndberr.NotApplied })
	a.Dispatched = s.attempts[0].Dispatched
	s.replay.Ledger.Acknowledge(a)
}

// saw tells the ledger of what op has just read.
func (s *session) saw(outcome Outcome, r Seen) {
	if s.replay.Ledger == nil || !outcome.answered() {
		return
	}
	r.Op = s.asked()
	s.replay.Ledger.Saw(r)
}

// asked is the op at hand.
func (s *session) asked() Op {
	last := s.attempts[len(s.attempts)-1]
	return Op{
		Operation: s.sample.Operation, Message: s.sample.Message, Recipient: s.sample.Recipient, Try: s.sample.Try,
		Node: last.Node, Asked: last.Dispatched, At: last.Ended,
	}
}

// answer is what an RCPT command gets.
type answer uint8

const (
	unasked  answer = iota // the session was cut short
	accepted               // 250
	refused                // 550
	deferred               // 451: the peer comes back by its schedule, if it does
)

// receive is what Exim's RCPT ACL asks for each recipient, one after another
// (is there such an address? is it greylisted?), and then what its routers ask
// at the delivery. Recipients that were put off are the peer's next try.
func (s *session) receive(ctx context.Context, t *Try) {
	var taken, left []int
	for n, i := range t.Recipients {
		switch s.recipient(ctx, time.Duration(n)*recipientStep, i, t) {
		case unasked:
			return
		case accepted:
			taken = append(taken, i)
		case deferred:
			left = append(left, i)
		}
	}
	s.end()
	if len(left) > 0 {
		s.replay.comeBack(t, left)
	}
	for n, i := range taken {
		offset := time.Duration(len(t.Recipients))*recipientStep + deliveryAfter + time.Duration(n)*deliveryStep
		if _, _, asked := s.route(ctx, reference.RouteDelivery, offset, i, t.Message.Recipients[i]); !asked {
			return
		}
	}
}

// recipient is one RCPT command, for recipient i of the message.
func (s *session) recipient(ctx context.Context, offset time.Duration, i int, t *Try) answer {
	address := t.Message.Recipients[i]
	if routing.ValidAddress(address) != nil {
		return refused // a syntax error (501): no MTA looks such an address up
	}
	route, outcome, asked := s.route(ctx, reference.Route, offset, i, address)
	switch {
	case !asked:
		return unasked
	case !outcome.answered():
		s.replay.counters.checksNotAsked.Add(1)
		return deferred
	case route.Verdict == routing.Moving:
		return deferred
	case !route.Verdict.Accepts():
		return refused
	case !route.Greylist || !s.replay.asks(reference.Greylist):
		return accepted
	}
	request := greylist.Request{Client: t.Client, Sender: t.Message.Sender, Recipient: address, Now: s.replay.Day.Add(t.At)}
	var decision greylist.Answer
	grey, outcome, asked := s.op(ctx, offset+recipientStep/2, i, reference.CheckGreylist, func(ctx context.Context, target reference.Session) (uint8, error) {
		var err error
		decision, err = target.Check(ctx, request)
		return uint8(decision.Verdict), err
	})
	if !asked {
		return unasked
	}
	s.acknowledge(outcome, Acknowledged{User: address, Request: request, Decision: decision})
	answered := outcome.answered()
	if answered && greylist.Verdict(grey).Defers() || !answered && !s.Policy.FailOpen {
		return deferred
	}
	return accepted
}

func (s *session) route(ctx context.Context, op reference.Operation, offset time.Duration, i int, address string) (routing.Answer, Outcome, bool) {
	var route routing.Answer
	_, outcome, asked := s.op(ctx, offset, i, op, func(ctx context.Context, target reference.Session) (uint8, error) {
		answer, err := target.Route(ctx, address)
		route = answer
		return uint8(answer.Verdict), err
	})
	if asked {
		s.saw(outcome, Seen{User: address, Route: route})
	}
	return route, outcome, asked
}

// login reads all preferences and may save a form. SquirrelMail aborts a page
// at the first database error (functions/db_prefs.php): without preferences no
// form is shown, and the rest of a form is not saved.
func (s *session) login(ctx context.Context, a *Action) {
	var stored map[string]string
	_, outcome, asked := s.op(ctx, 0, 0, reference.ReadPreferences, func(ctx context.Context, target reference.Session) (uint8, error) {
		var err error
		stored, err = target.Read(ctx, a.User)
		if len(stored) == 0 {
			return uint8(preferences.Empty), err
		}
		return uint8(preferences.Found), err
	})
	if asked && !outcome.answered() {
		s.replay.counters.savesNotAsked.Add(int64(len(a.Saves)))
		return
	}
	if !asked {
		return
	}
	s.saw(outcome, Seen{User: a.User, Preferences: stored})
	s.end()
	for k, save := range a.Saves {
		offset := saveAfter + time.Duration(k)*saveStep
		_, outcome, asked := s.op(ctx, offset, k, reference.SetPreference, func(ctx context.Context, target reference.Session) (uint8, error) {
			return uint8(preferences.Saved), target.Set(ctx, a.User, save.Key, save.Value)
		})
		if !asked {
			return
		}
		s.acknowledge(outcome, Acknowledged{User: a.User, Key: save.Key, Value: save.Value})
		if !outcome.answered() {
			s.replay.counters.savesNotAsked.Add(int64(len(a.Saves) - k - 1))
			return
		}
	}
}

// change does a job. A change that is sent again, because its attempt had no
// answer, has the same id and so happens once.
func (s *session) change(ctx context.Context, j *Job) {
	for k, c := range j.Changes {
		c.At = s.replay.Day.Add(j.At)
		verdict, outcome, asked := s.op(ctx, time.Duration(k)*changeStep, k, reference.ChangeAccount, func(ctx context.Context, target reference.Session) (uint8, error) {
			verdict, err := accounts.VerdictOf(target.Change(ctx, c))
			return uint8(verdict), err
		})
		if !asked {
			return
		}
		refused := (outcome.answered()) && verdict != uint8(accounts.Changed) && verdict != uint8(accounts.NoAnswer)
		key, value := promise(c, j.Changes[0].Backend)
		switch {
		case !refused:
			s.acknowledge(outcome, Acknowledged{User: c.Login, Key: key, Value: value})
		case slices.ContainsFunc(s.attempts, func(a Attempt) bool { return a.Result.Effect == ndberr.MayHaveBeen }):
			// An attempt before the one that was refused may still happen.
			s.acknowledge(Unknown, Acknowledged{User: c.Login, Key: key, Value: value})
		}
		if refused || !outcome.answered() {
			s.replay.counters.changesNotAsked.Add(int64(len(j.Changes) - k - 1))
			return
		}
		s.end()
	}
}
