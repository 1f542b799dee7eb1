package capacity

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/memory"
)

// ProposalSchema is that of a Proposal in JSON.
const ProposalSchema = "mailbench.proposal/v1"

// What a target may be, in messages a day: what a scenario may have.
const (
	LeastTarget = 1000
	MostTarget  = 1_000_000_000
)

// reach is how many times the largest number of nodes that was measured a proposal
// may have. Beyond that, nothing that was measured says anything.
const reach = 2

// mostNodes is how many nodes of a role a topology may have.
const mostNodes = 48

// Question is what a topology is asked for.
type Question struct {
	TargetPerDay int64 // messages a day, that come as the scenario has them come
	Result       *Result
	Clients      []Client // of the scenario that was searched
	// Variants are searches of the same scenario with other numbers of nodes, if any.
	Variants []*Result
	Memory   *memory.Forecast // nil if memory was not forecast
}

// scaling predicts a capacity with n nodes of a role, in any unit. It fails where it is
// too far from what was measured.
type scaling func(n float64) (x, low, high float64, extrapolated bool, err error)

// Answer is what a proposal comes to.
type Answer string

// The answers.
const (
	CarriedAlready Answer = "measured" // what was searched carries it
	Proposed       Answer = "proposed" // the model says what would
	Refused        Answer = "refused"  // what was measured does not tell
)

// Basis is what a part of a proposal rests on.
type Basis string

// The bases.
const (
	Measured     Basis = "measured"
	Extrapolated Basis = "extrapolated"
	Assumed      Basis = "assumed"
)

// Proposal answers a Question.
type Proposal struct {
	Schema       string `json:"schema"`
	Scenario     string `json:"scenario"`
	Seed         uint64 `json:"seed"`
	TargetPerDay int64  `json:"target_per_day"`
	PeakPPM      int64  `json:"peak_ppm"`     // rate of the busiest hour in millionths of the day's
	RatePerDay   int64  `json:"rate_per_day"` // constant rate that must be met: TargetPerDay times that
	Answer       Answer `json:"answer"`
	Why          string `json:"why"` // the answer in a sentence
	// Topology is what is proposed, or what was measured and carries the target; null
	// if there is neither.
	Topology *ProposedTopology `json:"topology"`
	Parts    []Part            `json:"parts"`
	Demands  []Demand          `json:"demands"`
	Notes    []string          `json:"notes"`
	// Next is the command that would test it, "" if there is nothing to test.
	Next string `json:"next,omitempty"`
}

var targetForm = regexp.MustCompile(`^([0-9]{1,12}(?:\.[0-9]{1,6})?)(k|M)?(/day|/h|/s)?$`)

// ParseTarget reads a volume, as messages a day: 20M/day, 20000000, or a mean rate, 500/s.
func ParseTarget(text string) (perDay int64, err error) {
	part := targetForm.FindStringSubmatch(text)
	if part == nil {
		return 0, fmt.Errorf("%q is no volume such as 20M/day, 20000000 or 500/s", text)
	}
	n, err := strconv.ParseFloat(part[1], 64) // of so many digits it cannot fail
	if err != nil {
		return 0, fmt.Errorf("%q is no volume: %w", text, err)
	}
	n *= map[string]float64{"": 1, "k": 1e3, "M": 1e6}[part[2]] * map[string]float64{"": 1, "/day": 1, "/h": 24, "/s": 86_400}[part[3]]
	if n = math.Round(n); n < LeastTarget || n > MostTarget {
		return 0, fmt.Errorf("%s is %.0f messages a day, must be %d to %d", text, n, LeastTarget, MostTarget)
	}
	return int64(n), nil
}

// ProposedTopology is a cluster whose nodes have the quotas of those that were measured.
type ProposedTopology struct {
	DataNodes  int      `json:"data_nodes"`
	NodeGroups int      `json:"node_groups"`
	Replicas   int      `json:"replicas"`
	SQLNodes   int      `json:"sql_nodes"`
	DataMemory string   `json:"data_memory,omitempty"` // NDB's parameter; "" if the search left it to its default
	Clients    []Client `json:"clients,omitempty"`
}

// Part is one figure of a proposal.
type Part struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// BusyPPM is how much of its quota the busiest node would use at the target's peak,
	// BoundPPM what it may; 0 where that means nothing.
	BusyPPM  int64  `json:"busy_ppm,omitempty"`
	BoundPPM int64  `json:"bound_ppm,omitempty"`
	Basis    Basis  `json:"basis"`
	From     string `json:"from"` // steps: "healthy 1-3, 5"
}

// Demand is what was measured of one role in one regime.
type Demand struct {
	Role   topology.Role `json:"role"`
	Regime Regime        `json:"regime"`
	Steps  []int         `json:"steps"`
	PerDay int64         `json:"per_day"` // highest rate that was met
	// BusyPPM is what the busiest node used of its quota at that rate, CPUUS its
	// processor time a message, in microseconds, over all steps.
	BusyPPM int64 `json:"busy_ppm"`
	CPUUS   int64 `json:"cpu_us"`
}

// Propose finds the smallest topology that should carry a target, by what a search
// measured: docs/capacity-propose.md has the formulas. Nothing in it is without its
// basis; where there is none it is refused. The error is about a question that is none.
func Propose(q Question) (*Proposal, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	q.Variants = slices.SortedStableFunc(slices.Values(q.Variants), bySize)
	r := q.Result
	p := &Proposal{
		Schema: ProposalSchema, Scenario: r.Search.Scenario, Seed: r.Search.Seed, TargetPerDay: q.TargetPerDay, PeakPPM: r.Search.PeakPPM,
		RatePerDay: int64(math.Ceil(float64(q.TargetPerDay) * float64(r.Search.PeakPPM) / million)),
		Parts:      []Part{}, Demands: []Demand{}, Notes: []string{},
	}
	if why := q.refusal(); why != "" {
		p.refuse("%s", why)
		return p, nil
	}
	planned := r.planned()
	p.demands(r, planned)
	p.remarks(q)
	if q.carried(planned) {
		p.measured(q, planned)
		return p, nil
	}
	s := newSizer(q, p, planned)
	s.size()
	return p, nil
}

func (q *Question) check() error {
	switch {
	case q.TargetPerDay < LeastTarget || q.TargetPerDay > MostTarget:
		return fmt.Errorf("a target of %d messages a day, must be %d to %d", q.TargetPerDay, LeastTarget, MostTarget)
	case q.Result == nil || q.Result.Search.PeakPPM <= 0:
		return errors.New("no search, or none with a peak factor, to propose from")
	case float64(q.TargetPerDay)*float64(q.Result.Search.PeakPPM)/million > 1e15:
		return fmt.Errorf("a target of %d messages a day with a peak factor of %.4g is more than any rate", q.TargetPerDay, float64(q.Result.Search.PeakPPM)/million)
	}
	return nil
}

// refusal says why nothing may be proposed from a search, "" if something may.
func (q *Question) refusal() string {
	r := q.Result
	healthy := r.Find(Healthy)
	switch {
	case r.Search.System != "ndb" && r.Search.System != "":
		return fmt.Sprintf("the search is of %s; the model is of NDB's data and SQL nodes", r.Search.System)
	case r.Verdict != "":
		return "the search ended with " + strings.ReplaceAll(r.Verdict, "_", " ") + ": a system that loses writes is not made larger, but right"
	case healthy == nil || len(healthy.Steps) == 0:
		return "the healthy system was not searched: go on with mailbench capacity --resume DIR --regime healthy"
	case healthy.MetPerDay == 0:
		return "no rate is known at which the healthy system met the objectives" + because(healthy.Why) + ". Nothing says that a larger one would"
	}
	for _, f := range r.planned() {
		if f.Regime != Healthy && len(f.Steps) > 0 && f.MetPerDay == 0 {
			return fmt.Sprintf("%s met the objectives at no rate that was tried%s. Nothing says that a larger topology would", f.Regime, because(f.Why))
		}
	}
	return ""
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (p *Proposal) refuse(format string, args ...any) {
	p.Answer, p.Why, p.Topology, p.Parts = Refused, fmt.Sprintf(format, args...), nil, []Part{}
}

func (p *Proposal) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// planned are the regimes in which a proposal must carry its target: healthy, and a
// node or host short.
func (r *Result) planned() []*Found {
	var found []*Found
	for i := range r.Regimes {
		if f := &r.Regimes[i]; !f.Regime.Rejoins() && len(f.Steps) > 0 {
			found = append(found, f)
		}
	}
	return found
}

func (r *Result) count(role topology.Role) int { return len(r.Topology.ByRole(role)) }

// perDay is a rate, or a volume, in words.
func perDay(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " messages a day"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// demands notes what was measured of each role.
func (p *Proposal) demands(r *Result, planned []*Found) {
	for _, role := range [...]topology.Role{topology.SQL, topology.Data} {
		for _, f := range planned {
			dead, _ := r.lost(f.Regime)
			nodes, loads := r.names(role, dead), r.loads(f)
			d := Demand{Role: role, Regime: f.Regime, PerDay: f.MetPerDay, BusyPPM: ppm(atMet(loads, nodes))}
			if d.BusyPPM == 0 {
				continue
			}
			d.CPUUS = int64(math.Round(slope(loads, func(l loaded) float64 { return l.busiest(nodes) }) * r.processors(role) * million))
			for _, l := range loads {
				d.Steps = append(d.Steps, l.number)
			}
			p.Demands = append(p.Demands, d)
		}
	}
}

// processors is a role's quota.
func (r *Result) processors(role topology.Role) float64 {
	if milli := r.Topology.Limits[role].MilliCPUs; milli > 0 {
		return float64(milli) / 1000
	}
	return float64(max(r.Host.Processors, 1))
}

func ppm(share float64) int64 { return int64(math.Round(share * million)) }

// remarks are what must be known of any answer.
func (p *Proposal) remarks(q Question) {
	r := q.Result
	short := map[topology.Role]bool{}
	for _, f := range r.planned() {
		dead, _ := r.lost(f.Regime)
		for _, role := range [...]topology.Role{topology.SQL, topology.Data} {
			short[role] = short[role] || len(r.names(role, dead)) < r.count(role)
		}
		if f.Limit.Outside() {
			p.note("%s: the %s was the limit, and not the system, which may carry more than was measured: fewer nodes may do.", f.Regime, f.Limit.Resource)
		}
		if !f.Done {
			why := f.Why // of Judge, which says so itself where it knows no more
			if !strings.Contains(why, "not over") {
				why = "the search is not over" + because(why)
			}
			p.note("%s: %s.", f.Regime, why)
		}
	}
	for _, f := range r.Regimes {
		if f.Regime.Rejoins() && f.PromisePerDay < p.TargetPerDay {
			p.note("%s: the measured topology carries %s then. Nothing is sized for a node that rejoins: search it, with --regime.", f.Regime, perDay(f.PromisePerDay))
		}
	}
	for _, role := range [...]topology.Role{topology.SQL, topology.Data} {
		if !short[role] && r.count(role) > 1 {
			p.note("One %s short was not measured.", noun(role))
		}
	}
	if r.Search.BurstPPM > r.Search.PeakPPM {
		p.note("The scenario's bursts come at %.3g times the day's mean rate for a minute; nothing is sized for more than the busiest hour, of %.3g times.", float64(r.Search.BurstPPM)/million, float64(r.Search.PeakPPM)/million)
	}
}

func noun(role topology.Role) string {
	if role == topology.SQL {
		return "SQL node"
	}
	return "data node"
}

// carried says whether the topology that was searched carries the target in each regime
// that was.
func (q *Question) carried(planned []*Found) bool {
	for _, f := range planned {
		if f.PromisePerDay < q.TargetPerDay {
			return false
		}
	}
	return true
}

// measured is the answer to a target that was reached by what was searched already: the
// smallest of it.
func (p *Proposal) measured(q Question, planned []*Found) {
	best := q.Result
	nodes := func(r *Result) int { return r.count(topology.SQL) + r.count(topology.Data) }
	for _, v := range q.Variants {
		found := v.planned()
		all := len(found) >= len(planned)
		for _, f := range found {
			all = all && f.PromisePerDay >= q.TargetPerDay
		}
		if healthy := v.Find(Healthy); healthy == nil || healthy.PromisePerDay < q.TargetPerDay || v.Verdict != "" {
			continue
		}
		if all && nodes(v) < nodes(best) {
			best = v
		} else if nodes(v) < nodes(best) {
			p.note("%s carries it healthy; whether it does with a node short was not measured.", size(v))
		}
	}
	least, where := int64(math.MaxInt64), Healthy
	for _, f := range best.planned() {
		if f.PromisePerDay < least {
			least, where = f.PromisePerDay, f.Regime
		}
	}
	p.Answer = CarriedAlready
	p.Topology = &ProposedTopology{
		DataNodes: best.count(topology.Data), Replicas: best.Topology.Replicas, NodeGroups: best.count(topology.Data) / max(best.Topology.Replicas, 1),
		SQLNodes: best.count(topology.SQL), DataMemory: best.Topology.DataNode["DataMemory"],
	}
	p.Why = fmt.Sprintf("%s carries %s, as was measured: %s where it carries least, %s", size(best), perDay(q.TargetPerDay), perDay(least), where)
	if best != q.Result {
		p.Why += "; it is the smallest that was measured and does"
	}
	// What it does in minutes does not say what it holds in weeks.
	(&sizer{q: Question{TargetPerDay: q.TargetPerDay, Result: best, Memory: q.Memory}, p: p}).memory(best.count(topology.Data))
	if p.Topology.DataMemory != best.Topology.DataNode["DataMemory"] {
		p.note("It was searched with less DataMemory than its rows will take: that much is extrapolated, and was not searched.")
	}
	for _, f := range best.planned() {
		p.Parts = append(p.Parts, Part{Name: "promise, " + string(f.Regime), Value: strconv.FormatInt(f.PromisePerDay, 10), Basis: Measured, From: from(f.Regime, numbers(best.loads(f)))})
	}
}

// size is a topology in words.
func size(r *Result) string {
	return fmt.Sprintf("the measured topology of %s and %s", plural(r.count(topology.Data), "data node"), plural(r.count(topology.SQL), "SQL node"))
}

func numbers(loads []loaded) []int {
	var all []int
	for _, l := range loads {
		all = append(all, l.number)
	}
	return all
}

// from names steps: "healthy 1-3, 5".
func from(regime Regime, steps []int) string {
	if len(steps) == 0 {
		return string(regime)
	}
	var words []string
	for i := 0; i < len(steps); {
		last := i
		for last+1 < len(steps) && steps[last+1] == steps[last]+1 {
			last++
		}
		word := strconv.Itoa(steps[i])
		if last > i {
			word += "-" + strconv.Itoa(steps[last])
		}
		words = append(words, word)
		i = last + 1
	}
	return string(regime) + " " + strings.Join(words, ", ")
}

// counts are how many nodes of a role were measured, in order.
func (q *Question) counts(role topology.Role) []int {
	all := []int{q.Result.count(role)}
	for _, v := range q.Variants {
		if q.Result.scales(v, role) {
			all = append(all, v.count(role))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
