package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/gate"
)

// Side is a base or a candidate: a plan, and what its nodes run.
type Side struct {
	Plan  *Plan
	Image string   // "" for what the Conductor names
	Set   []string // how a person asked for it, each path=value

	sabotage func(context.Context, system) error // done when the load is over, before the ledger is read back; nil for none
}

// Interleave performs one trace on two clusters, which run side by side and are
// loaded in turn: base, candidate, candidate, base, and so on, in segments of
// length, until there are pairs of them. It leaves a series of two runs, one for
// each side, and beside them what gate.Interleaved says. settle is how
// much of each segment's beginning is not for comparing.
//
// The plans must ask for pairs times length of load and offer the same, without
// faults; else the error is a *SidesError.
func (c Conductor) Interleave(ctx context.Context, base, candidate Side, pairs int, length, settle time.Duration) (*gate.Interleaved, error) {
	if err := checkSides(base.Plan, candidate.Plan, time.Duration(pairs)*length); err != nil {
		return nil, err
	}
	if err := checkFresh(c.Dir); err != nil {
		return nil, err
	}
	if err := c.findImages(ctx, &base, &candidate); err != nil {
		return nil, err
	}
	recorded := &gate.Interleaved{
		Scenario: base.Plan.Scenario.Name, Seed: base.Plan.Scenario.Seed, SettleUS: settle.Microseconds(),
		Base: gate.Side{Dir: "base", Set: base.Set}, Candidate: gate.Side{Dir: "candidate", Set: candidate.Set},
	}
	series := results.Series{Kind: results.InTurn, Scenario: recorded.Scenario, Members: []results.Member{
		{Dir: recorded.Base.Dir, Side: "base", Set: settings(base.Set)}, {Dir: recorded.Candidate.Dir, Side: "candidate", Set: settings(candidate.Set)},
	}}
	if err := series.Write(c.Dir); err != nil {
		return nil, err
	}
	out := &lineWriter{to: c.Progress}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	turns := newTurns(working, pairs, length, func(p gate.Pair) error {
		recorded.Pairs = append(recorded.Pairs, p)
		fmt.Fprintf(out, "pair %d of %d is recorded\n", len(recorded.Pairs), pairs)
		return recorded.Write(c.Dir)
	})
	var (
		both sync.WaitGroup
		errs [2]error
	)
	for i, dir := range []string{recorded.Base.Dir, recorded.Candidate.Dir} {
		side, one := []Side{base, candidate}[i], c
		one.Dir, one.Image, one.Style, one.Live = filepath.Join(c.Dir, dir), side.Image, Silent, nil
		one.Progress, one.turn, one.sabotage = &prefixed{to: out, mark: dir + ": "}, &turn{turns, i}, side.sabotage
		both.Go(func() {
			_, err := one.Run(working, side.Plan)
			if err == nil && !one.turn.through() {
				err = errors.New("it ended before its last segment")
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", dir, err)
				cancel() // whoever waits for this side's turn
			}
		})
	}
	both.Wait()
	if err := errors.Join(turns.failure(), gravest(errs[:])); err != nil {
		return nil, err
	}
	return recorded, nil
}

// gravest is what ended two sides of which one ends the other. An interruption is
// told only if there is nothing else; what is left behind always.
func gravest(errs []error) (err error) {
	for _, e := range errs {
		var interrupted *InterruptedError
		if e != nil && (errors.Is(e, chaos.ErrUnhealed) || !errors.As(e, &interrupted)) {
			err = errors.Join(err, e)
		}
	}
	for _, e := range errs {
		if err == nil {
			err = e
		}
	}
	return err
}

// SidesError says why two plans cannot be loaded in turn.
type SidesError struct{ Msg string }

func (e *SidesError) Error() string { return e.Msg }

// checkSides refuses plans whose runs would differ by more than the system.
func checkSides(base, candidate *Plan, length time.Duration) error {
	a, b := base.Scenario, candidate.Scenario
	for _, p := range []*Plan{base, candidate} {
		switch w := p.Scenario.Workload; {
		case p.External():
			return &SidesError{"cluster: external has one cluster, and this needs two: leave it to mailbench's own"}
		case len(p.Faults.Steps) > 0:
			return &SidesError{"faults would fall into some segments and not into others: leave them out with --set 'faults=[]', and compare what they cost with run --repeat and gate --baseline"}
		case w.Duration != length:
			return &SidesError{fmt.Sprintf("workload.duration is %s, must be pairs times segment, which is %s: change those instead", w.Duration, length)}
		case w.End != EndWithDuration:
			return &SidesError{"workload.end must be duration: there are no faults to end with"}
		}
	}
	for _, load := range []struct {
		what string
		same bool
	}{
		{"seed, population or workload", base.Trace.SHA256() == candidate.Trace.SHA256()},
		{"workload.retries", a.Workload.Retries == b.Workload.Retries},
		{"workload.before", a.Workload.Before == b.Workload.Before},
		{"bounds", a.Bounds == b.Bounds},
	} {
		if !load.same {
			return &SidesError{"base and candidate are not offered the same load: " + load.what + " must not differ; change both with --set"}
		}
	}
	return nil
}

// findImages settles what each side's nodes run, one after the other. An image that
// both need is looked for, and built, once.
func (c *Conductor) findImages(ctx context.Context, all ...*Side) error {
	docker, err := engine.Connect(ctx)
	if err != nil {
		return err
	}
	defer docker.Close()
	known := map[string]string{} // names of images, by how they were asked for
	for _, s := range all {
		asked := cmp.Or(s.Image, c.Image)
		if known[asked] == "" {
			found, err := FindImage(ctx, docker, asked, c.Progress, c.Style == Live)
			if err != nil {
				return err
			}
			known[asked] = found.Name
		}
		s.Image = known[asked]
	}
	return nil
}

// settings are path=value as a series has them.
func settings(set []string) map[string]string {
	all := map[string]string{}
	for _, text := range set {
		path, value, _ := strings.Cut(text, "=")
		all[path] = value
	}
	return all
}

// turns has two replays go in turn. A place is one segment of one of them, counted
// over both.
type turns struct {
	ctx    context.Context
	length time.Duration
	told   func(gate.Pair) error // of each pair that is complete

	ready chan struct{}   // closed when both sides can begin
	over  []chan struct{} // by place

	mu      sync.Mutex
	waiting int         // sides that can begin
	ends    []time.Time // of segments, by place
	pairs   []gate.Pair // as far as they are known
	err     error       // of told
}

func newTurns(ctx context.Context, pairs int, length time.Duration, told func(gate.Pair) error) *turns {
	t := &turns{ctx: ctx, length: length, told: told, ready: make(chan struct{}), over: make([]chan struct{}, 2*pairs), ends: make([]time.Time, 2*pairs), pairs: make([]gate.Pair, pairs)}
	for i := range t.over {
		t.over[i] = make(chan struct{})
	}
	for k := range t.pairs {
		t.pairs[k].CandidateFirst = k%2 == 1
	}
	return t
}

// turn is a side's part in turns: 0 for the base, 1 for the candidate.
type turn struct {
	*turns
	side int
}

// place is where a side's segment of a pair stands: base, candidate, candidate, base.
func (t *turn) place(pair int) int {
	if pair%2 == 1 {
		return 2*pair + 1 - t.side
	}
	return 2*pair + t.side
}

func (t *turn) segment(pair int) *gate.Segment {
	if t.side == 0 {
		return &t.pairs[pair].Base
	}
	return &t.pairs[pair].Candidate
}

// take waits until it is this side's turn, the first time also until both sides are
// loaded. since is the side's clock; begin is when its segment begins on it.
func (t *turn) take(ctx context.Context, pair int, since func() time.Duration) (begin time.Duration, err error) {
	if pair >= len(t.pairs) {
		return 0, fmt.Errorf("the load has more than %d segments", len(t.pairs))
	}
	if pair == 0 {
		t.mu.Lock()
		if t.waiting++; t.waiting == 2 {
			close(t.ready)
		}
		t.mu.Unlock()
	}
	before, place := t.ready, t.place(pair)
	if place > 0 {
		before = t.over[place-1]
	}
	for _, c := range []chan struct{}{t.ready, before} {
		select {
		case <-c:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	wait := lead
	if place > 0 { // the other's segment has its whole length, also if its last session came early
		wait += max(0, time.Until(t.ends[place-1]))
	}
	begin = since() + wait
	t.ends[place] = time.Now().Add(wait + t.length)
	*t.segment(pair) = gate.Segment{FromUS: begin.Microseconds(), ToUS: (begin + t.length).Microseconds()}
	return begin, nil
}

// leave says that a segment is over. After its last one a side waits for the other,
// whose last segment would feel what comes next.
func (t *turn) leave(pair int) {
	t.mu.Lock()
	if t.place(pair)%2 == 1 && t.ctx.Err() == nil { // the second of its pair
		t.err = errors.Join(t.err, t.told(t.pairs[pair]))
	}
	close(t.over[t.place(pair)])
	t.mu.Unlock()
	if pair < len(t.pairs)-1 {
		return
	}
	select {
	case <-t.over[len(t.over)-1]:
	case <-t.ctx.Done():
	}
}

// failure is why pairs could not be told of.
func (t *turns) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// through says whether a side has had all its segments.
func (t *turn) through() bool {
	select {
	case <-t.over[t.place(len(t.pairs)-1)]:
		return true
	default:
		return false
	}
}

// end is when a side's last segment ended, on its clock.
func (t *turn) end() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Duration(t.segment(len(t.pairs)-1).ToUS) * time.Microsecond
}

// lineWriter writes whole lines of several writers to one.
type lineWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// prefixed marks lines.
type prefixed struct {
	to   io.Writer
	mark string

	mu   sync.Mutex
	rest string // of a line that is not complete
}

func (p *prefixed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.SplitAfter(p.rest+string(b), "\n")
	p.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if _, err := io.WriteString(p.to, p.mark+line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
