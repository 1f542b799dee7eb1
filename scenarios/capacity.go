package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/workload"
)

// rejoinHold is how long a node that is to rejoin stays dead beyond the time that its
// step settles.
const rejoinHold = time.Second

// longestSearch is for how long a node stays dead if nobody starts it: for longer than
// a search can last.
const longestSearch = 30 * 24 * time.Hour

// RegimeError says why a regime cannot be searched.
type RegimeError struct {
	Regime capacity.Regime
	Msg    string
}

func (e *RegimeError) Error() string { return fmt.Sprintf("regime %s: %s", e.Regime, e.Msg) }

// DefaultRegimes are those of a search that names none: healthy, and one node short:
// of a data node, of a SQL node, and of the host that carries both if there is one.
// A node without which nobody is served is left out.
func (p *Plan) DefaultRegimes() []capacity.Regime {
	regimes := []capacity.Regime{capacity.Healthy}
	add := func(target string) {
		regime := capacity.ShortOf(target)
		if _, err := p.regimePlan(regime, 2); err == nil {
			regimes = append(regimes, regime)
		}
	}
	if data := p.Topology.ByRole(topology.Data); len(data) > 1 {
		add(data[len(data)-1].Name)
	}
	if sql := p.Topology.ByRole(topology.SQL); len(sql) > 1 {
		add(sql[0].Name)
	}
	for _, d := range p.Topology.ByRole(topology.Data) {
		if slices.ContainsFunc(p.Topology.ByRole(topology.SQL), func(n topology.Node) bool { return n.Host == d.Host }) {
			add("host:" + d.Host)
			break
		}
	}
	return regimes
}

// regimePlan is the fault that makes a regime; of a node that rejoins so many of them,
// two or more.
func (p *Plan) regimePlan(regime capacity.Regime, times int) (chaos.Plan, error) {
	kind, target, named := strings.Cut(string(regime), ":")
	switch {
	case regime == capacity.Healthy:
		return chaos.Plan{}, nil
	case !named || kind != string(capacity.Short) && kind != string(capacity.Rejoining):
		return chaos.Plan{}, &RegimeError{regime, "must be healthy, short:NODE or rejoining:NODE, where NODE may be host:NAME"}
	}
	if regime.Rejoins() && !p.Scenario.System.keepsRoles() {
		return chaos.Plan{}, &RegimeError{regime, fmt.Sprintf("with system %s a server that comes back does not take its old role, so that each step would end a server of another one", p.Scenario.System)}
	}
	// Its times are those of the search, which only the search knows.
	spec := chaos.Spec{Kind: "kill", Target: target, Hold: longestSearch}
	if regime.Rejoins() { // each step has its own
		spec.Hold, spec.Repeat, spec.Every = time.Minute, times, 2*time.Minute
	}
	asks := chaos.Ground{Topology: p.Topology, Duration: 2*longestSearch + time.Duration(times)*2*time.Minute}
	for _, c := range p.Clients {
		asks.Clients = append(asks.Clients, chaos.Client{Name: c.Name, Nodes: c.Nodes})
	}
	plan, err := chaos.NewPlan(p.Scenario.Seed, []chaos.Spec{spec}, asks)
	if err != nil {
		var specs chaos.SpecErrors
		if errors.As(err, &specs) && len(specs) > 0 {
			return plan, &RegimeError{regime, specs[0].Reason}
		}
		return plan, &RegimeError{regime, err.Error()}
	}
	for i := range plan.Steps {
		step := &plan.Steps[i]
		step.ID = fmt.Sprintf("%s-%s-%d", kind, step.ID, i+1)
	}
	return plan, nil
}

// checkSearch refuses a plan whose rates would say nothing.
func (p *Plan) checkSearch() error {
	w := p.Scenario.Workload
	switch {
	case p.External():
		return &InputError{Msg: fmt.Sprintf("scenario %s: cluster: external cannot be searched: a search kills nodes and overloads", p.Scenario.Name)}
	case len(p.Faults.Steps) > 0:
		return &InputError{Msg: fmt.Sprintf("scenario %s: its faults would fall into some steps and not into others: leave them out with --set 'faults=[]', and name what may be dead with --regime", p.Scenario.Name)}
	case w.Speed != 1:
		return &InputError{Msg: fmt.Sprintf("scenario %s: workload.speed is %d, must be 1: the search sets the rate", p.Scenario.Name, w.Speed)}
	case p.Scenario.Bounds.Overflow != OverflowWait:
		return &InputError{Msg: fmt.Sprintf("scenario %s: bounds.overflow is %s, must be wait: sessions that are turned away would make a rate look met that was not offered", p.Scenario.Name, p.Scenario.Bounds.Overflow)}
	case p.Imported() && p.Trace.Window().Duration < 24*time.Hour:
		return &InputError{Msg: fmt.Sprintf("scenario %s: its trace is imported and has %s, must have a day at least: how many messages a day has, and how much more its busiest hour, could not be told", p.Scenario.Name, formatDuration(p.Trace.Window().Duration))}
	case p.Trace.Messages() == 0:
		return &InputError{Msg: fmt.Sprintf("scenario %s has no messages in its window", p.Scenario.Name)}
	}
	if err := capacity.CheckObjectives(p.Scenario.Objectives()); err != nil {
		return &InputError{Msg: fmt.Sprintf("scenario %s: %v", p.Scenario.Name, err), Cause: err}
	}
	return nil
}

// Capacity searches the highest rate at which a plan's objectives are met, in each of
// the regimes, on one warm cluster. Its recordings are a series in the conductor's
// directory. With resume the directory holds a search already, which goes on on a new
// cluster, with regimes added; its settings hold. What has been recorded is judged
// however it ended; a search without a recording is nil.
func (c Conductor) Capacity(ctx context.Context, p *Plan, search *capacity.Search, regimes []capacity.Regime, resume bool) (*capacity.Result, error) {
	if err := p.checkSearch(); err != nil {
		return nil, err
	}
	s, err := c.prepareSearch(ctx, p, search, resume)
	if err != nil {
		return nil, err
	}
	for _, regime := range regimes {
		if !slices.Contains(s.search.Regimes, regime) {
			s.search.Regimes = append(s.search.Regimes, regime)
		}
		if s.plans[regime], err = p.regimePlan(regime, s.search.Settings.MaxSteps); err != nil {
			return nil, err
		}
		if regime.Rejoins() {
			for i := range s.plans[regime].Steps {
				s.plans[regime].Steps[i].Hold = time.Duration(s.search.Settings.SettleUS)*time.Microsecond + rejoinHold + lead
			}
		}
		if _, more := capacity.Next(s.settings(regime), s.tried[regime]); more {
			s.regimes = append(s.regimes, regime)
		}
	}
	for len(s.regimes) > 0 {
		before := len(s.search.Steps)
		var renew *renewError
		err = c.sitting(ctx, p, s)
		if !errors.As(err, &renew) {
			break
		}
		if len(s.search.Steps) == before {
			err = &InputError{Msg: fmt.Sprintf("scenario %s: its window of %s is too short for a warm-up and a step of this rate: give a longer --duration, or a lower --start", p.Scenario.Name, formatDuration(p.Trace.Window().Duration))}
			break
		}
		c.say("%v", err)
	}
	if _, statErr := os.Stat(filepath.Join(c.Dir, capacity.SearchFile)); statErr != nil || len(s.search.Steps) == 0 {
		return nil, err
	}
	result, judgeErr := capacity.Judge(c.Dir)
	return result, errors.Join(err, judgeErr)
}

// prepareSearch reads or begins a search, and finds what was learned already.
func (c *Conductor) prepareSearch(ctx context.Context, p *Plan, search *capacity.Search, resume bool) (*searching, error) {
	s := &searching{search: search, plans: map[capacity.Regime]chaos.Plan{}, tried: map[capacity.Regime][]capacity.Tried{}, manifest: p.manifest(""), say: c.say}
	s.save = func() error { return s.search.Write(c.Dir) }
	if !resume {
		if err := checkFresh(c.Dir); err != nil {
			return nil, err
		}
	} else {
		result, err := capacity.Judge(c.Dir)
		if err != nil {
			return nil, err
		}
		if search != nil && search.Settings != result.Search.Settings {
			return nil, &ResumeError{"precision (resolution, confidence, steps, first rate)"}
		}
		s.search = &result.Search
		if err := c.checkResume(p, s); err != nil {
			return nil, err
		}
		for _, found := range result.Regimes {
			s.tried[found.Regime] = capacity.History(found.Regime, found.Steps)
		}
	}
	if err := p.CountArrivals(ctx); err != nil {
		return nil, err
	}
	s.arrivals = p.arrivals
	return s, nil
}

// CountArrivals finds out how the trace's messages come, once.
func (p *Plan) CountArrivals(ctx context.Context) (err error) {
	if p.arrivals == nil {
		p.arrivals, err = workload.CountArrivals(ctx, p.Trace)
	}
	return err
}

// ResumeError says why a search cannot go on with a plan.
type ResumeError struct{ What string }

func (e *ResumeError) Error() string {
	return fmt.Sprintf("the search cannot go on: its %s was another when it began; search anew with another --out", e.What)
}

// checkResume refuses a plan whose steps could not stand beside those of the search's
// first run.
func (c *Conductor) checkResume(p *Plan, s *searching) error {
	if len(s.search.Steps) == 0 {
		return nil
	}
	r, err := results.Salvage(filepath.Join(c.Dir, s.search.Steps[0].Dir))
	if err != nil {
		return err
	}
	was, is := r.Manifest(), s.manifest
	for _, part := range []struct {
		what string
		same bool
	}{
		{"seed", was.Seed == is.Seed},
		{"trace (population, workload, window)", was.Trace.SHA256 == is.Trace.SHA256},
		{"topology", reflect.DeepEqual(was.Topology, is.Topology)},
		{"objectives", reflect.DeepEqual(was.Objectives, is.Objectives)},
		{"bounds", was.Bounds == is.Bounds},
		{"system", s.search.System == string(p.Scenario.System)},
	} {
		if !part.same {
			return &ResumeError{part.what}
		}
	}
	return nil
}

// sitting performs one run of a search.
func (c Conductor) sitting(ctx context.Context, p *Plan, s *searching) error {
	series := &results.Series{Kind: results.CapacitySteps, Scenario: p.Scenario.Name}
	if known, err := results.ReadSeries(c.Dir); err == nil {
		series = known
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.member, s.warm, s.failed, s.leaving, s.down, s.entered = series.NextMember(), false, nil, nil, nil, nil
	series.Members = append(series.Members, results.Member{Dir: s.member})
	if err := errors.Join(series.Write(c.Dir), s.save()); err != nil {
		return err
	}
	before := len(s.search.Steps)
	one := c
	one.Dir, one.search = filepath.Join(c.Dir, s.member), s
	_, err := one.Run(ctx, p)
	var interrupted *InterruptedError
	if s.failed != nil && !errors.As(err, &interrupted) {
		// Not what became of it when the system was removed, which is said already.
		err = s.failed
		if errors.Is(err, chaos.ErrUnhealed) {
			err = &SearchError{err.Error()}
		}
	}
	if _, statErr := os.Stat(filepath.Join(one.Dir, results.ManifestFile)); statErr != nil {
		series.Members = series.Members[:len(series.Members)-1] // it never began
		return errors.Join(err, series.Write(c.Dir))
	}
	var renew *renewError
	if errors.As(err, &renew) && len(s.search.Steps) > before {
		return err // another sitting follows
	}
	if err != nil && len(s.regimes) > 0 {
		s.search.Ends = append(s.search.Ends, capacity.End{Dir: s.member, Regime: s.regimes[0], Why: err.Error()})
		err = errors.Join(err, s.save())
	}
	return err
}

// SearchError says why a search ended before it was over.
type SearchError struct{ Msg string }

func (e *SearchError) Error() string { return "the search ended: " + e.Msg }

// TodayPerDay is how many messages a day the scenario has; of an imported trace, as
// many as came in its window, made a day's.
func (p *Plan) TodayPerDay() int64 {
	switch {
	case p.model != nil:
		return p.model.MessagesPerDay
	default:
		return int64(float64(p.Trace.Messages()) * float64(24*time.Hour) / float64(p.Trace.Window().Duration))
	}
}

// Peak is the rate of the busiest hour, and that of a burst's minute, in millionths of
// the day's mean. Of an imported trace, whose arrivals must have been counted, it is
// the busiest hour of its window.
func (p *Plan) Peak() (hourPPM, burstPPM int64) {
	const million = 1_000_000
	if p.model == nil {
		return p.arrivals.PeakPPM(), 0
	}
	_, most := p.model.BusiestHour()
	hourPPM = most * 24 * million / p.model.MessagesPerDay
	if p.model.Bursts > 0 {
		burstPPM = p.model.BurstPerMille * 1000
	}
	return hourPPM, burstPPM
}

// DayLeft is how much of the virtual day there is from the window's beginning on; of a
// trace file, its window.
func (p *Plan) DayLeft() time.Duration {
	if p.file != nil {
		return p.Trace.Window().Duration
	}
	return 24*time.Hour - p.Trace.Window().From
}

// Search describes a search of the plan that has taken no step yet.
func (p *Plan) Search(set capacity.Settings, version, command string) *capacity.Search {
	s := &capacity.Search{
		Scenario: p.Scenario.Name, System: string(p.Scenario.System), Seed: p.Scenario.Seed, Version: version, Command: command,
		TodayPerDay: p.TodayPerDay(), Settings: set,
	}
	s.PeakPPM, s.BurstPPM = p.Peak()
	return s
}

// ampleMilliCPUs is what a node may take while nothing is measured.
const ampleMilliCPUs = 1000

// unbound lets nodes take more processor time than the topology gives them, while
// nothing is measured: filling a small system, and reading it back, would take longer
// than the search. Where that cannot be done it takes its time.
func (c *Conductor) unbound(ctx context.Context, target system) {
	limiter, ok := target.(reference.Limiter)
	if !ok {
		return
	}
	for _, n := range target.Topology().Nodes {
		limits := target.Topology().Limits[n.Role]
		if limits.MilliCPUs == 0 || limits.MilliCPUs >= ampleMilliCPUs {
			continue
		}
		if err := limiter.LimitCPU(ctx, n.ID, ampleMilliCPUs); err != nil {
			c.say("node %s keeps its share of the processor for now: %v", n.Name, err)
		}
	}
}

// bound gives nodes what the topology says: from here on it is measured.
func (c *Conductor) bound(ctx context.Context, target system) error {
	limiter, ok := target.(reference.Limiter)
	if !ok {
		return nil
	}
	for _, n := range target.Topology().Nodes {
		if err := limiter.ResetLimits(ctx, n.ID); err != nil {
			return fmt.Errorf("give node %s its share of the processor: %w", n.Name, err)
		}
	}
	return nil
}
