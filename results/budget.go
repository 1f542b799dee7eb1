package results

import (
	"io"
	"math/big"
	"time"
)

// BudgetSchema names the layout of budget.json.
const BudgetSchema = "mailbench.budget/v1"

// Budget is budget.json: how the error budgets of a run went.
type Budget struct {
	Schema     string     `json:"schema"`
	RunID      string     `json:"run_id"`
	FromUS     int64      `json:"from_us"` // when the phase measure began
	StepUS     int64      `json:"step_us"` // from one point to the next; the first is at the end of the first step
	Objectives []BurnDown `json:"objectives"`
}

// BurnDown is how the budget of an objective went: at the end of each step, all
// events that had ended until then.
type BurnDown struct {
	Name   string     `json:"name"`
	Events string     `json:"events"` // "ops", "slices" or "messages"
	Budget Decimal    `json:"budget"` // bad events that the target allows of the run's
	Total  []int64    `json:"total"`
	Bad    []int64    `json:"bad"`
	Spent  []*Decimal `json:"budget_spent"`
}

// Write writes budget.json.
func (b *Budget) Write(w io.Writer) error {
	bytes, err := marshalIndent(b)
	if err != nil {
		return err
	}
	_, err = w.Write(bytes)
	return err
}

// burnDownPoints is the most points of a burn-down.
const burnDownPoints = 120

// timeSlice counts the ops of a slice of time, and to whom it is charged if it is
// bad: the fault injected last of those that its bad ops are charged to.
type timeSlice struct {
	good, bad uint32
	rank      int32 // in the order of injections, from 1; 0 for the background
}

// since is how long after the beginning of the measured window a time is, at least
// 0: what came before it is counted at its beginning.
func (j *judge) since(at time.Duration) time.Duration { return max(0, at-j.from()) }

// mostSeconds is how much of a run is told apart by seconds: two weeks. What comes
// later is counted in the last one, so that a broken clock does not cost memory.
const mostSeconds = 14 * daySeconds

// second is the second of the measured window in which a time is.
func (j *judge) second(at time.Duration) int64 {
	return min(int64(j.since(at)/time.Second), mostSeconds-1)
}

func (j *judge) from() time.Duration {
	if j.timeline.measureFrom == nil {
		return 0
	}
	return *j.timeline.measureFrom
}

// length is that of the measured window.
func (j *judge) length() time.Duration {
	to := j.timeline.endTime(j.lastEnd)
	if j.timeline.measureTo != nil {
		to = *j.timeline.measureTo
	}
	return max(0, to-j.from())
}

// finish counts what is known when all samples have been seen: slices, messages
// that did not come back, and objectives that count messages.
func (j *judge) finish() {
	j.mail.finish(j.charges)
	for i := range j.objectives {
		o := &j.objectives[i]
		switch {
		case o.SliceUS > 0:
			j.finishSlices(i)
		case o.Metric != "":
			o.bad = *j.mail.counts.of(o.Metric)
			o.good = j.mail.counts.Messages - o.bad
			o.seconds = *j.mail.flows[o.Metric]
			for _, c := range j.charges {
				c.bad[i] = *c.mail.of(o.Metric)
			}
		}
	}
}

// finishSlices makes the slices of an objective its events. Those without ops are
// none: they say nothing.
func (j *judge) finishSlices(i int) {
	o := &j.objectives[i]
	for k, s := range o.slices.all() {
		t := tally{s.good, s.bad}
		if t.good+t.bad == 0 {
			continue
		}
		// In the second in which it ends, as nobody can know before.
		second := o.seconds.at(min(((k+1)*o.SliceUS-1)/million, mostSeconds-1))
		second.total++
		if !t.misses(o.SliceTargetPPM) {
			o.good++
			continue
		}
		o.bad++
		second.bad++
		charge := j.charges[len(j.charges)-1]
		if s.rank > 0 {
			charge = j.charges[j.timeline.order[s.rank-1]]
		}
		charge.bad[i]++
	}
}

// count counts an event of an objective that is of ops.
func (o *objectiveCounts) count(good bool, second int64) {
	f := o.seconds.at(second)
	f.total++
	if good {
		o.good++
		return
	}
	o.bad++
	f.bad++
}

// slice counts an op that was intended so long after the beginning of the measured
// window in its slice.
func (o *objectiveCounts) slice(since time.Duration, good bool, rank int32) {
	s := o.slices.at(since.Microseconds() / o.SliceUS)
	if good {
		s.good++
		return
	}
	s.bad++
	s.rank = max(s.rank, rank)
}

// budget draws how the budgets went.
func (j *judge) budget() *Budget {
	seconds := int64(1)
	for i := range j.objectives {
		for second, f := range j.objectives[i].seconds.all() {
			if f.total+f.bad > 0 {
				seconds = max(seconds, second+1)
			}
		}
	}
	step := (seconds + burnDownPoints - 1) / burnDownPoints
	b := &Budget{
		Schema: BudgetSchema, RunID: j.manifest.RunID, FromUS: j.from().Microseconds(), StepUS: step * million,
		Objectives: []BurnDown{},
	}
	for i := range j.objectives {
		o := &j.objectives[i]
		points := (seconds + step - 1) / step
		d := BurnDown{
			Name: o.Name, Events: o.events(), Budget: *ratioOf([]int64{million - o.TargetPPM, o.good + o.bad}, []int64{million}),
			Total: make([]int64, points), Bad: make([]int64, points), Spent: make([]*Decimal, points),
		}
		for second, f := range o.seconds.all() {
			if f.total+f.bad > 0 {
				d.Total[second/step] += int64(f.total)
				d.Bad[second/step] += int64(f.bad)
			}
		}
		for p := range points {
			if p > 0 {
				d.Total[p] += d.Total[p-1]
				d.Bad[p] += d.Bad[p-1]
			}
			d.Spent[p] = o.spent(d.Bad[p])
		}
		b.Objectives = append(b.Objectives, d)
	}
	return b
}

// Projection is what the run would mean for longer. It takes the background's
// share of bad events for that of all days, and counts a fault by its outage: as
// long as it would have taken, with no event good, to make as many bad events at
// the run's mean rate. So it does not matter by how much the replay was sped up.
type Projection struct {
	Day        Period           `json:"day"`
	ThirtyDays Period           `json:"thirty_days"`
	Faults     []ProjectedFault `json:"faults"`
}

// Period is what is expected of a day, or of 30.
type Period struct {
	Events      *Decimal `json:"events"`       // that will come
	Budget      *Decimal `json:"budget"`       // that may be bad
	Background  *Decimal `json:"background"`   // that will be bad without a fault
	Faults      *Decimal `json:"faults"`       // that will be bad for the faults
	BudgetSpent *Decimal `json:"budget_spent"` // null if there is no budget
}

// ProjectedFault is what the faults of one kind and target cost.
type ProjectedFault struct {
	Fault            string   `json:"fault"` // kind and target
	Times            int64    `json:"times"` // in the run
	PerThirtyDays    Decimal  `json:"per_30_days"`
	OutageUS         int64    `json:"outage_us"`  // mean of one, as if no event had been good meanwhile
	DayBudget        *Decimal `json:"day_budget"` // share of a day's budget that one takes
	ThirtyDaysBudget *Decimal `json:"thirty_days_budget"`
}

// defaultFaultRate is how often a fault is taken to come in 30 days, in
// thousandths, where the scenario does not say: once.
const defaultFaultRate = 1000

const daySeconds = 86_400

// project projects an objective. It is nil without events or without a window.
func (j *judge) project(i int) *Projection {
	o, window := &j.objectives[i], j.length().Microseconds()
	total := o.good + o.bad
	if o.SliceUS > 0 {
		window = total * o.SliceUS // slices that say nothing are left out
	}
	if total == 0 || window <= 0 {
		return nil
	}
	p := &Projection{Faults: []ProjectedFault{}}
	events := j.eventsADay(o, total)
	background := j.charges[len(j.charges)-1].bad[i]
	const dayUS = daySeconds * million
	var faultsADay []*big.Rat
	for _, g := range j.faultGroups() {
		var bad int64
		for _, f := range g.faults {
			bad += j.charges[f].bad[i]
		}
		n := int64(len(g.faults))
		outage := rational([]int64{bad, window}, []int64{n, total}) // µs
		budget := rational([]int64{dayUS, million - o.TargetPPM}, []int64{million})
		f := ProjectedFault{Fault: g.name, Times: n, PerThirtyDays: Decimal(g.rate * 1000), OutageUS: int64(*decimalOf(outage)) / million}
		if budget.Sign() > 0 {
			share := new(big.Rat).Quo(outage, budget)
			f.DayBudget = decimalOf(share)
			f.ThirtyDaysBudget = decimalOf(share.Quo(share, big.NewRat(30, 1)))
		}
		p.Faults = append(p.Faults, f)
		// The share of a day's events: outage / day, so many times a day.
		share := outage.Mul(outage, big.NewRat(g.rate, 30*1000))
		faultsADay = append(faultsADay, share.Quo(share, big.NewRat(dayUS, 1)))
	}
	bad := new(big.Rat)
	for _, share := range faultsADay {
		bad.Add(bad, share)
	}
	period := func(days int64) Period {
		n := new(big.Rat).Mul(events, big.NewRat(days, 1))
		times := func(r *big.Rat) *big.Rat { return new(big.Rat).Mul(n, r) }
		allowed := times(rational([]int64{million - o.TargetPPM}, []int64{million}))
		quiet, loud := times(big.NewRat(background, total)), times(bad)
		r := Period{Events: decimalOf(n), Budget: decimalOf(allowed), Background: decimalOf(quiet), Faults: decimalOf(loud)}
		if allowed.Sign() > 0 {
			r.BudgetSpent = decimalOf(new(big.Rat).Quo(new(big.Rat).Add(quiet, loud), allowed))
		}
		return r
	}
	p.Day, p.ThirtyDays = period(1), period(30)
	return p
}

// eventsADay is how many events a day has: slices by their length; ops and messages
// by the messages that the day's model offers, or without a model as the window had
// them in its virtual time.
func (j *judge) eventsADay(o *objectiveCounts, total int64) *big.Rat {
	m := j.manifest
	virtual := j.length().Microseconds() * int64(max(1, m.Speed))
	switch {
	case o.SliceUS > 0:
		return big.NewRat(daySeconds*million, o.SliceUS)
	case m.Trace.MessagesPerDay > 0 && j.started > 0:
		return rational([]int64{total, m.Trace.MessagesPerDay}, []int64{j.started})
	default:
		return rational([]int64{total, daySeconds * million}, []int64{virtual})
	}
}

// faultGroup is the faults that one entry of the scenario asked for.
type faultGroup struct {
	name   string
	rate   int64 // in 30 days, in thousandths
	faults []int // indices of those that were injected
}

// faultGroups are in the order of the plan.
func (j *judge) faultGroups() []faultGroup {
	planned := map[string]PlannedFault{}
	for _, p := range j.manifest.Faults {
		planned[p.ID] = p
	}
	var groups []faultGroup
	byKey := map[string]int{}
	for i, f := range j.timeline.faults {
		if f.injected == nil {
			continue
		}
		key := groupKey(planned[f.id], f.kind, f.target)
		g, known := byKey[key]
		if !known {
			g = len(groups)
			byKey[key] = g
			group := faultGroup{name: f.kind + " " + f.target, rate: defaultFaultRate}
			if p := planned[f.id]; p.RateMilli != nil {
				group.rate = *p.RateMilli
			}
			groups = append(groups, group)
		}
		groups[g].faults = append(groups[g].faults, i)
	}
	return groups
}

// rational is the quotient of two products; no factor of the second may be 0.
func rational(num, den []int64) *big.Rat {
	n, d := big.NewInt(1), big.NewInt(1)
	for _, f := range num {
		n.Mul(n, big.NewInt(f))
	}
	for _, f := range den {
		d.Mul(d, big.NewInt(f))
	}
	return new(big.Rat).SetFrac(n, d)
}

func ratioOf(num, den []int64) *Decimal { return decimalOf(rational(num, den)) }

// decimalOf rounds to the nearest millionth; the largest Decimal stands for what is
// larger. r must not be negative.
func decimalOf(r *big.Rat) *Decimal {
	n := new(big.Int).Mul(r.Num(), big.NewInt(2*million))
	n.Add(n, r.Denom()).Quo(n, new(big.Int).Mul(r.Denom(), big.NewInt(2)))
	d := Decimal(1<<63 - 1)
	if n.IsInt64() {
		d = Decimal(n.Int64())
	}
	return &d
}
