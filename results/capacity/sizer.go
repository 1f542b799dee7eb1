package capacity

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
)

// sizer finds how many nodes of each role a rate takes.
type sizer struct {
	q       Question
	p       *Proposal
	planned []*Found
	rate    float64 // messages a second that must be met
	healthy []loaded
	steps   string // healthy ones, by name
	sql     sqlDemand
	roles   map[topology.Role]*sized
}

// sized is what is known of one role, and then how many it takes.
type sized struct {
	role        topology.Role
	base        int
	counts      []int // that were measured
	bound       float64
	boundFrom   string
	borrowed    bool    // the bound is that of the other role
	factor      float64 // how much busier survivors of one node are than demands say
	factorFrom  string
	factorBasis Basis
	alone       bool // there is no other node that could take over
	scaling     scaling
	unknown     bool // numbers were searched, and no law could be fitted to what was met
	ended       bool // its processors ended a search below the rate

	n             int
	busy, oneDead float64
	low           float64 // busy or oneDead, the larger, at the low end of the law's interval
	extrapolated  bool
}

func newSizer(q Question, p *Proposal, planned []*Found) *sizer {
	const day = 86_400
	s := &sizer{q: q, p: p, planned: planned, rate: float64(p.RatePerDay) / day, roles: map[topology.Role]*sized{}}
	r := q.Result
	s.healthy = r.loads(r.Find(Healthy))
	s.steps = from(Healthy, numbers(s.healthy))
	s.sql = fitSQL(s.healthy, q.Clients, r.names(topology.SQL, nil))
	for _, role := range [...]topology.Role{topology.SQL, topology.Data} {
		z := &sized{role: role, base: r.count(role), counts: q.counts(role)}
		var why string
		if z.scaling, why = fitScaling(r, q.Variants, role); why != "" {
			p.note("%ss: %s. More than were searched would be a guess.", noun(role), why)
			z.unknown = true
		}
		s.bound(z)
		s.survivors(z)
		s.roles[role] = z
	}
	s.borrow(topology.SQL, topology.Data)
	s.borrow(topology.Data, topology.SQL)
	return s
}

// bound finds how busy the busiest node of a role was, in any regime, while the
// objectives were met: the queueing at so much is in what was measured.
func (s *sizer) bound(z *sized) {
	r := s.q.Result
	for _, f := range s.planned {
		dead, _ := r.lost(f.Regime)
		loads := r.loads(f)
		if busy := atMet(loads, r.names(z.role, dead)); busy > z.bound {
			z.bound, z.boundFrom = busy, from(f.Regime, atHighest(loads))
		}
		z.ended = z.ended || f.Limit.Resource == cpuOf(z.role) && s.p.RatePerDay > f.MetPerDay
	}
}

func atHighest(loads []loaded) []int {
	highest := int64(0)
	for _, l := range loads {
		highest = max(highest, l.perDay)
	}
	var all []int
	for _, l := range loads {
		if l.perDay == highest {
			all = append(all, l.number)
		}
	}
	return all
}

// survivors finds how much busier nodes of a role are when one is dead.
func (s *sizer) survivors(z *sized) {
	r := s.q.Result
	for _, f := range s.planned {
		dead, _ := r.lost(f.Regime)
		left := r.names(z.role, dead)
		if len(left) != z.base-1 || z.base < 2 {
			continue
		}
		loads := r.loads(f)
		factor := 0.0
		if z.role == topology.SQL {
			factor = s.sql.factor(loads, s.q.Clients, dead)
		} else if d := s.dataDemand(); d > 0 {
			factor = slope(loads, func(l loaded) float64 { return l.busiest(left) }) / d
		}
		if factor > z.factor {
			z.factor, z.factorFrom, z.factorBasis = factor, from(f.Regime, numbers(loads)), Measured
		}
	}
	if z.factor > 0 {
		return
	}
	// A SQL node that takes a client over does what the dead one did for it. Data nodes
	// share the reads of their group and do each of its writes already: those that are
	// left do all that the group did at most.
	z.factor, z.factorFrom, z.factorBasis = 1, none, Assumed
	if replicas := r.Topology.Replicas; z.role == topology.Data && replicas > 1 {
		z.factor = float64(replicas) / float64(replicas-1)
	}
}

// none stands where there is nothing to name.
const none = "-"

// dataDemand is that on the busiest data node of the healthy system.
func (s *sizer) dataDemand() float64 {
	nodes := s.q.Result.names(topology.Data, nil)
	return slope(s.healthy, func(l loaded) float64 { return l.busiest(nodes) })
}

// borrow lets nodes of a role, which were never the limit, be as busy as those of the
// other one, which was, were while the objectives were met.
func (s *sizer) borrow(role, other topology.Role) {
	z, o := s.roles[role], s.roles[other]
	if !s.limited(role) && s.limited(other) && o.bound > z.bound && !o.borrowed {
		z.bound, z.boundFrom, z.borrowed = o.bound, o.boundFrom, true
	}
}

func (s *sizer) limited(role topology.Role) bool {
	for _, f := range s.planned {
		if f.Limit.Resource == cpuOf(role) {
			return true
		}
	}
	return false
}

// size finds the smallest topology.
func (s *sizer) size() {
	r := s.q.Result
	sql, data := s.roles[topology.SQL], s.roles[topology.Data]
	for _, z := range [...]*sized{sql, data} {
		if z.bound <= 0 {
			s.p.refuse("no processor time of any %s was recorded at a rate that was met: there is nothing to size it by", noun(z.role))
			return
		}
	}
	replicas := max(r.Topology.Replicas, 1)
	sql.alone, data.alone = false, replicas == 1
	// Half of what was measured is as far down as it goes, and memory must be known to
	// take data nodes away.
	least := max(2, (sql.counts[0]+reach-1)/reach)
	clients, ok := s.smallest(sql, least, 1)
	if !ok {
		return
	}
	least = data.base
	if m := s.q.Memory; m != nil && m.Steady != nil {
		least = max(replicas, (data.counts[0]/reach+replicas-1)/replicas*replicas)
	}
	if _, ok := s.smallest(data, least, replicas); !ok {
		return
	}
	if sql.n == sql.base && data.n == data.base {
		s.unexplained()
		return
	}
	s.answer(clients)
}

// smallest tries numbers of nodes from least on.
func (s *sizer) smallest(z *sized, least, step int) (clients []Client, ok bool) {
	measured := z.counts[len(z.counts)-1]
	if z.ended {
		least = max(least, z.base+step)
	}
	most := min(reach*measured, mostNodes)
	if z.unknown {
		most = z.base
	}
	for n := least; n <= most; n += step {
		fits, spread, err := s.try(z, n)
		if err != nil {
			s.p.refuse("%d %ss: %v", n, noun(z.role), err)
			return nil, false
		}
		if fits {
			z.n = n
			return spread, true
		}
	}
	flag := map[topology.Role]string{topology.SQL: "--sql-nodes", topology.Data: "--data-nodes"}[z.role]
	which := map[topology.Role]string{topology.SQL: ", of a scenario whose number of MTAs is a multiple of these"}[z.role]
	if z.unknown {
		s.p.refuse("more than %s would be needed, and what was searched with other numbers makes no law (see the notes). Measure three numbers or more, with mailbench capacity curve SCENARIO %s N,N,N --out DIR%s", plural(z.base, noun(z.role)), flag, which)
		return nil, false
	}
	s.p.refuse("more than %s would be needed, and %d is the most that was measured: nothing says what more than %d times as many do. Measure more, with mailbench capacity curve SCENARIO %s %d,%d --out DIR%s",
		plural(min(reach*measured, mostNodes), noun(z.role)), measured, reach, flag, measured, reach*measured, which)
	return nil, false
}

// try says whether so many nodes are busy no more than they may be.
func (s *sizer) try(z *sized, n int) (fits bool, clients []Client, err error) {
	if z.role == topology.SQL {
		if clients, err = Spread(s.q.Clients, n); err != nil {
			return false, nil, err
		}
		z.busy, z.oneDead = s.rate*s.sql.worst(clients, false), s.rate*s.sql.worst(clients, true)*z.factor
	} else {
		z.busy = s.rate * s.dataDemand() * float64(z.base) / float64(n)
		z.oneDead = z.busy * z.factor
		if z.alone {
			z.oneDead = z.busy
		}
	}
	z.low, z.extrapolated = max(z.busy, z.oneDead), false
	if z.scaling != nil && n != z.base {
		one, _, _, _, err := z.scaling(float64(z.base))
		if err != nil {
			return false, nil, err
		}
		x, low, _, extrapolated, err := z.scaling(float64(n))
		if err != nil {
			return false, nil, err
		}
		each := one / float64(z.base) * float64(n) // if nodes did as much each
		z.busy, z.oneDead = z.busy*each/x, z.oneDead*each/x
		z.low, z.extrapolated = max(z.busy, z.oneDead)*x/max(low, x*1e-6), extrapolated
	}
	return max(z.busy, z.oneDead) <= z.bound, clients, nil
}

// unexplained refuses a rate at which the measured nodes would not be busier than they
// may, but that they did not meet.
func (s *sizer) unexplained() {
	for _, f := range s.planned {
		if s.p.RatePerDay <= f.MetPerDay {
			continue
		}
		limit := f.Limit.Resource
		if limit == "" {
			limit = "not known"
		}
		reached := "nothing above that was decided"
		if f.MissedPerDay > 0 {
			reached = "missed " + perDay(f.MissedPerDay)
		}
		s.p.refuse("at a constant rate, %s met %s and %s; the target's peak is %s. The nodes' processors do not explain it (limit: %s), so that nobody knows what more nodes would do: measure it, with mailbench capacity curve",
			f.Regime, perDay(f.MetPerDay), reached, perDay(s.p.RatePerDay), limit)
		return
	}
	s.p.refuse("what was measured contradicts itself: search again")
}

// answer puts together what was found.
func (s *sizer) answer(clients []Client) {
	r, p := s.q.Result, s.p
	sql, data := s.roles[topology.SQL], s.roles[topology.Data]
	replicas := max(r.Topology.Replicas, 1)
	p.Answer = Proposed
	p.Topology = &ProposedTopology{DataNodes: data.n, NodeGroups: data.n / replicas, Replicas: replicas, SQLNodes: sql.n, Clients: clients}
	p.Why = fmt.Sprintf("%s in %s and %s should carry %s, healthy and with one node dead; %s and %s were measured",
		plural(data.n, "data node"), plural(data.n/replicas, "node group"), plural(sql.n, "SQL node"), perDay(p.TargetPerDay), plural(data.base, "data node"), plural(sql.base, "SQL node"))
	if data.alone {
		p.Why = strings.Replace(p.Why, "one node dead", "one SQL node dead", 1)
		p.note("With one replica nobody is served while a data node is dead, however many there are.")
	}
	s.parts(sql)
	p.Parts = append(p.Parts, Part{Name: "node groups", Value: strconv.Itoa(data.n / replicas), Basis: s.basis(data, Healthy), From: s.steps})
	s.parts(data)
	s.memory(data.n)
	for _, f := range s.planned {
		switch f.Limit.Resource {
		case cpuOf(topology.SQL), cpuOf(topology.Data), generatorName, hostCPU:
		case "":
			p.note("%s: what ended the search is not known. It is taken to grow with the nodes.", f.Regime)
		default:
			p.note("%s: %s ended the search, and no processor. It is taken to grow with the nodes.", f.Regime, f.Limit.Resource)
		}
	}
	wanted := float64(data.n)*r.processors(topology.Data) + float64(sql.n)*r.processors(topology.SQL)
	if r.Host.Processors > 0 && wanted > float64(r.Host.Processors)*0.75 { // the rest is the generator's
		p.note("Its nodes may use %.3g processors together; the machine that measured has %d. On one no larger the machine or the generator would be the limit.", wanted, r.Host.Processors)
	}
	p.note("Sessions of webmail are taken to grow as messages do. The scenario keeps its accounts, and so fewer.")
}

func (s *sizer) basis(z *sized, regime Regime) Basis {
	if f := s.q.Result.Find(regime); z.n == z.base && f != nil && s.p.RatePerDay <= f.MetPerDay {
		return Measured
	}
	return Extrapolated
}

// parts are a role's figures.
func (s *sizer) parts(z *sized) {
	name := noun(z.role) + "s"
	bound := ppm(z.bound)
	s.add(Part{Name: name, Value: strconv.Itoa(z.n), BusyPPM: ppm(z.busy), BoundPPM: bound, Basis: s.basis(z, Healthy), From: s.steps})
	if !z.alone {
		basis := Extrapolated
		if z.factorBasis == Assumed {
			basis = Assumed
		}
		s.add(Part{Name: name + ", one dead", Value: strconv.Itoa(z.n - 1), BusyPPM: ppm(z.oneDead), BoundPPM: bound, Basis: basis, From: z.factorFrom})
		s.add(Part{Name: strings.TrimSuffix(name, " nodes") + " survivor's work", Value: fmt.Sprintf("x %.2f", z.factor), Basis: z.factorBasis, From: z.factorFrom})
	}
	basis := Measured
	if z.borrowed {
		basis = Assumed
		s.p.note("No %s was ever the limit. They are taken to be good for as much as the other nodes, which were busy to %.0f %%.", noun(z.role), 100*z.bound)
	}
	s.add(Part{Name: "bound of " + name, Value: fmt.Sprintf("%.0f %%", 100*z.bound), Basis: basis, From: z.boundFrom})
	if z.n == z.base {
		return
	}
	scaling := Part{Name: "scaling of " + name, Value: "linear", Basis: Assumed, From: none}
	if z.scaling != nil {
		scaling = Part{Name: "scaling of " + name, Value: "USL", Basis: Measured, From: fmt.Sprintf("%s to %s", strconv.Itoa(z.counts[0]), plural(z.counts[len(z.counts)-1], "node"))}
		if z.extrapolated {
			scaling.Basis = Extrapolated
		}
		if z.low > z.bound {
			s.p.note("%ss: at the low end of the law's interval they would be busy to %.0f %%, more than the %.0f %% that were seen.", noun(z.role), 100*z.low, 100*z.bound)
		}
	}
	s.add(scaling)
}

func (s *sizer) add(p Part) { s.p.Parts = append(s.p.Parts, p) }

// memory sizes DataMemory for so many data nodes.
func (s *sizer) memory(n int) {
	m, now := s.q.Memory, s.q.Result.Topology.DataNode["DataMemory"]
	s.p.Topology.DataMemory = now
	value := now
	if value == "" {
		value = "default"
	}
	if m == nil {
		s.add(Part{Name: "DataMemory", Value: value, Basis: Assumed, From: none})
		s.p.note("Whether DataMemory holds so much was not examined: mailbench capacity memory forecasts it.")
		return
	}
	used := m.Days[len(m.Days)-1].Used
	if m.Steady != nil {
		used = m.Steady.Used
	} else {
		s.p.note("Memory was still growing at the end of its forecast of %s: DataMemory is for that long.", plural(len(m.Days), "day"))
	}
	if m.Scenario != s.q.Result.Search.Scenario {
		s.p.note("The memory forecast is of scenario %s.", m.Scenario)
	}
	c := m.Cluster
	replicas := max(s.q.Result.Topology.Replicas, 1)
	rows := float64(used-c.Base) * float64(s.p.TargetPerDay) / float64(m.MessagesPerDay) * float64(c.DataNodes) / float64(n) * float64(replicas) / float64(c.Replicas)
	need := (float64(c.Base) + rows) * 100 / float64(100-c.ReservePercent)
	const unit = 16 << 20
	mib := int64(math.Ceil(need/unit)) * unit >> 20
	if have, ok := ParseMemory(now); !ok || have < mib<<20 {
		s.p.Topology.DataMemory = fmt.Sprintf("%dM", mib)
	} else {
		s.p.note("DataMemory of %s would do; it is left at %s.", fmt.Sprintf("%dM", mib), now)
	}
	s.add(Part{Name: "DataMemory", Value: s.p.Topology.DataMemory, Basis: Extrapolated, From: "memory forecast"})
}

// ParseMemory reads a size as NDB's configuration has it: 256M. K, M and G are
// multiples of 1024.
func ParseMemory(text string) (bytes int64, ok bool) {
	unit := int64(1)
	if text == "" {
		return 0, false
	}
	switch text[len(text)-1] {
	case 'K', 'k':
		unit = 1 << 10
	case 'M', 'm':
		unit = 1 << 20
	case 'G', 'g':
		unit = 1 << 30
	}
	if unit > 1 {
		text = text[:len(text)-1]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}
