package results

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// Judge makes a run of a recording. It is a function of the recording alone.
// It fails if the recording cannot be read or contradicts itself; a recording
// that merely ends early is judged, and inconclusive.
func Judge(r *Reader) (*Run, error) {
	run, _, err := JudgeBudget(r)
	return run, err
}

// JudgeBudget makes beside it a record of how the error budgets went.
func JudgeBudget(r *Reader) (*Run, *Budget, error) {
	t, err := readTimeline(r)
	if err != nil {
		return nil, nil, err
	}
	j, ledger, err := readJudge(r, t)
	if err != nil {
		return nil, nil, err
	}
	return j.run(ledger, r.Truncated()), j.budget(), nil
}

// JudgeAll makes beside them the course of the run. It reads the samples once,
// and gives each of them to others, too: see Feed.
func JudgeAll(r *Reader, others ...func(*workload.Sample)) (*Run, *Budget, *Course, error) {
	t, err := readTimeline(r)
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := newCourse(r, t)
	if err != nil {
		return nil, nil, nil, err
	}
	j, ledger, err := readJudge(r, t, append(others, c.add)...)
	if err != nil {
		return nil, nil, nil, err
	}
	run := j.run(ledger, r.Truncated())
	if err := c.finish(r, t, j, run); err != nil {
		return nil, nil, nil, err
	}
	return run, j.budget(), c, nil
}

// readJudge reads a recording to its end, for others too.
func readJudge(r *Reader, t *timeline, others ...func(*workload.Sample)) (*judge, *LedgerResult, error) {
	j, err := newJudge(r.manifest, t)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Feed(append(others, j.add)...); err != nil {
		return nil, nil, err
	}
	for row, err := range r.Counters() {
		if err != nil {
			return nil, nil, err
		}
		j.counter(row)
	}
	ledger, err := r.Ledger()
	if err != nil {
		return nil, nil, err
	}
	if j.costs, err = r.Costs(); err != nil {
		return nil, nil, err
	}
	t.durable(j.epochs)
	j.finish()
	return j, ledger.judged(t.restores), nil
}

// judge gathers what a Run needs while the samples go by. Its size does not
// grow with their number, but with the minutes of the run and the length of the
// faults' windows.
type judge struct {
	manifest Manifest
	timeline *timeline

	samples    int64
	started    int64 // messages
	acked      int64 // writes
	lastEnd    time.Duration
	lag        lags // of messages
	noise      noises
	paths      map[reference.Path]*pathCounts
	nodes      map[topology.ID]*nodeCounts
	errors     map[errorKey]int64
	objectives []objectiveCounts
	charges    []*faultCounts // as timeline.faults; the last one is the background
	slow       map[reference.Path]time.Duration
	mail       *mail
	rank       []int32      // of timeline.faults in the order of injections, from 1
	counters   []CounterRow // the first and the last
	epochs     []Epoch
	costs      []CostRow
}

type pathCounts struct {
	outcomes                 [workload.Unknown + 1]int64
	wrong                    int64
	queue, service, response latencies
}

type nodeCounts struct {
	attempts, failed int64
	paths            map[reference.Path]int64
}

type errorKey struct {
	class      ndberr.Class
	mysql, ndb uint16
}

type objectiveCounts struct {
	Objective
	good, bad int64
	seconds   sparse[flow]      // of the measured window, by when events ended
	slices    sparse[timeSlice] // of the measured window, if SliceUS is set
}

type faultCounts struct {
	badOps      int64
	bad         []int64    // by objective
	met         []recovery // by objective
	mail        Mail
	all         outage
	paths       map[reference.Path]*faultPath
	responses   latencies // of the ops intended in the window
	errors      map[errorKey]int64
	firstFailed time.Duration // end of the first attempt that failed; never without
}

// faultPath is what a fault did to the ops of a path.
type faultPath struct {
	outage
	nodes                map[topology.ID]*outage // of the attempts sent to each
	ops, bad             int64
	failedOver, straight latencies // service times
}

func newFaultCounts(objectives int) *faultCounts {
	c := &faultCounts{
		bad: make([]int64, objectives), met: make([]recovery, objectives), paths: map[reference.Path]*faultPath{},
		errors: map[errorKey]int64{}, firstFailed: never,
	}
	for _, p := range reference.Paths {
		c.paths[p] = &faultPath{nodes: map[topology.ID]*outage{}}
	}
	return c
}

// felt marks the slice of an op that was intended so long after the injection.
func (c *faultCounts) felt(path reference.Path, since, response time.Duration, m marks) {
	c.all.add(since, m)
	c.paths[path].add(since, m)
	c.responses.add(response)
}

// asked marks the slice of an attempt that was sent to a node so long after the
// injection.
func (p *faultPath) asked(a *workload.Attempt, since, slow time.Duration) {
	o := p.nodes[a.Node]
	if o == nil {
		o = new(outage)
		p.nodes[a.Node] = o
	}
	o.add(since, mark(a.Result.OK(), a.Ended-a.Dispatched, slow))
}

// add counts an op that a fault is charged with which was injected at a time.
func (c *faultCounts) add(s *workload.Sample, ok bool, injected time.Duration) {
	p := c.paths[s.Operation.Path()]
	p.ops++
	if !ok {
		c.badOps++
		p.bad++
	}
	for _, a := range s.Attempts {
		if !a.Result.OK() {
			c.errors[errorKey{a.Result.Class, a.Result.MySQL, a.Result.NDB}]++
			if a.Ended >= injected {
				c.firstFailed = min(c.firstFailed, a.Ended)
			}
		}
	}
	switch {
	case s.Outcome == workload.OK:
		p.straight.add(s.Service())
	case s.Outcome == workload.Retried && s.Attempts[0].Node != s.Attempts[len(s.Attempts)-1].Node:
		p.failedOver.add(s.Service())
	}
}

func newJudge(m Manifest, t *timeline) (*judge, error) {
	j := &judge{
		manifest: m, timeline: t,
		paths:  map[reference.Path]*pathCounts{},
		nodes:  map[topology.ID]*nodeCounts{},
		errors: map[errorKey]int64{},
		slow:   map[reference.Path]time.Duration{},
		mail:   newMail(m.Clients), rank: make([]int32, len(t.faults)),
		lag:   lags{minutes: t.minutes(), byMinute: map[int]*latencies{}},
		noise: noises{minutes: t.minutes(), to: never, ends: map[int]Noise{}},
	}
	if t.measureTo != nil {
		j.noise.to = *t.measureTo + time.Second // the row that tells of the last second
	}
	for _, p := range reference.Paths {
		j.paths[p] = new(pathCounts)
	}
	for _, o := range m.Objectives {
		if err := o.Validate(); err != nil {
			return nil, fmt.Errorf("%s: objective %q: %w", ManifestFile, o.Name, err)
		}
		j.objectives = append(j.objectives, objectiveCounts{Objective: o})
	}
	for n, i := range t.order {
		j.rank[i] = int32(n + 1)
	}
	for _, p := range reference.Paths {
		j.slow[p] = slowBound(p, m.Objectives)
	}
	for range len(t.faults) + 1 {
		j.charges = append(j.charges, newFaultCounts(len(m.Objectives)))
	}
	return j, nil
}

// slowBound is the response time above which a good op on a path is slow: the
// shortest that an objective grants it.
func slowBound(p reference.Path, objectives []Objective) time.Duration {
	slow := never
	for _, o := range objectives {
		if o.LatencyUS > 0 && o.covers(p) {
			slow = min(slow, time.Duration(o.LatencyUS)*time.Microsecond)
		}
	}
	if slow == never {
		return defaultSlow
	}
	return slow
}

// good says whether an op is good when no objective says otherwise: it was
// answered, and the answer is not known to be wrong.
func good(s *workload.Sample) bool {
	return (s.Outcome == workload.OK || s.Outcome == workload.Retried) && !wrong(s)
}

// wrong says whether an answer cannot be right, whatever the message: a workload
// has mail for our own domain only, an address that was accepted at RCPT does not
// cease to be before the delivery, and every account has preferences from the
// start.
func wrong(s *workload.Sample) bool {
	switch s.Operation {
	case reference.Route:
		return routing.Verdict(s.Answer) == routing.Foreign
	case reference.RouteDelivery:
		return routing.Verdict(s.Answer) == routing.Unknown || routing.Verdict(s.Answer) == routing.Foreign
	case reference.ReadPreferences:
		return preferences.Verdict(s.Answer) == preferences.Empty
	default:
		return false
	}
}

func (j *judge) add(s *workload.Sample) {
	path := s.Operation.Path()
	response := s.Response()
	end := s.Intended + response
	ok := good(s)

	j.samples++
	j.lastEnd = max(j.lastEnd, end)
	p := j.paths[path]
	p.outcomes[s.Outcome]++
	if wrong(s) {
		p.wrong++
	}
	p.queue.add(s.Queue())
	p.service.add(s.Service())
	p.response.add(response)
	if s.Operation == reference.Route && s.Recipient == 0 && s.Try == 0 {
		j.started++
		j.lag.add(s.Intended, s.Queue())
	}
	if ok && acknowledges(s) {
		j.acked++
	}
	for i := range s.Attempts {
		j.attempt(path, &s.Attempts[i])
	}

	index, rank, injected := len(j.charges)-1, int32(0), time.Duration(0)
	if i := j.timeline.charged(s); i >= 0 {
		index, rank, injected = i, j.rank[i], *j.timeline.faults[i].injected
	}
	charge := j.charges[index]
	charge.add(s, ok, injected)
	second := j.second(end)
	j.mail.add(s, second, charge, index)
	open := j.timeline.openAt(s.Intended)
	for i := range j.objectives {
		o := &j.objectives[i]
		if !o.covers(path) {
			continue
		}
		met := o.Good(s)
		if o.SliceUS > 0 {
			o.slice(j.since(s.Intended), met, rank)
		} else {
			o.count(met, second)
			if !met {
				charge.bad[i]++
			}
		}
		for f := range open {
			j.charges[f].met[i].add(s.Intended-*j.timeline.faults[f].injected, met)
		}
	}
	slow := j.slow[path]
	for f := range open {
		j.charges[f].felt(path, s.Intended-*j.timeline.faults[f].injected, response, mark(ok, response, slow))
	}
	for i := range s.Attempts {
		a := &s.Attempts[i]
		for f := range j.timeline.openAt(a.Dispatched) {
			j.charges[f].paths[path].asked(a, a.Dispatched-*j.timeline.faults[f].injected, slow)
		}
	}
}

func (j *judge) attempt(path reference.Path, a *workload.Attempt) {
	n := j.nodes[a.Node]
	if n == nil {
		n = &nodeCounts{paths: map[reference.Path]int64{}}
		j.nodes[a.Node] = n
	}
	n.attempts++
	n.paths[path]++
	if !a.Result.OK() {
		n.failed++
		j.errors[errorKey{a.Result.Class, a.Result.MySQL, a.Result.NDB}]++
	}
}

func (j *judge) counter(row CounterRow) {
	j.noise.add(row)
	if row.Epoch != nil {
		j.epochs = append(j.epochs, *row.Epoch)
	}
	if len(j.counters) < 2 {
		j.counters = append(j.counters, row)
		return
	}
	j.counters[1] = row
}

func (j *judge) run(ledger *LedgerResult, truncated []Truncation) *Run {
	m, t := j.manifest, j.timeline
	run := &Run{
		Schema: RunSchema, Scenario: m.Scenario, RunID: m.RunID, Seed: m.Seed, Speed: m.Speed,
		Version: m.Version, Image: m.Image, Host: m.Host,
		Trace: TraceResult{
			SHA256: m.Trace.SHA256, Messages: m.Trace.Messages, Started: j.started,
			OpsPerMessage: ratio(j.samples, j.started),
		},
		Plan:           Plan{SHA256: m.PlanSHA256},
		MeasuredFromUS: microsOf(t.measureFrom),
		MeasuredToUS:   microsOf(t.measureTo),
		Mail:           j.mail.counts,
		Paths:          map[string]PathResult{},
		Nodes:          j.nodeResults(),
		Faults:         []FaultResult{},
		Objectives:     []ObjectiveResult{},
		Errors:         errorCounts(j.errors),
		Ledger:         ledger,
		Costs:          costResults(j.costs),
	}
	end := t.endTime(j.lastEnd)
	if t.end != nil {
		run.End = &EndResult{Reason: t.end.Reason, AtUS: t.end.At.Microseconds(), ReplayEnd: t.end.ReplayEnd}
	}
	if t.measureFrom != nil {
		to := end
		if t.measureTo != nil {
			to = *t.measureTo
		}
		if window := (to - *t.measureFrom).Microseconds(); window > 0 {
			run.OfferedPerSecond = mulRatio(j.started, time.Second.Microseconds(), window)
		}
	}
	for _, path := range j.shown() {
		result := j.paths[path].result()
		result.CalmUS = j.charges[len(j.charges)-1].paths[path].straight.summary()
		run.Paths[path.String()] = result
	}
	for i := range j.objectives {
		result := j.objectives[i].result()
		result.Alerts, result.Projection = j.alerts(i), j.project(i)
		run.Objectives = append(run.Objectives, result)
	}
	for i, f := range t.faults {
		run.Faults = append(run.Faults, j.faultResult(f, j.charges[i], end))
	}
	run.Repeated = repeatedFaults(m.Faults, run.Faults)
	background := j.charges[len(j.charges)-1]
	run.Background = j.charge(background)
	for _, c := range j.charges {
		run.BadOps += c.badOps
	}
	j.lag.tell(&run.Generator)
	j.noise.tell(&run.Generator)
	if len(j.counters) == 2 {
		first, last := j.counters[0], j.counters[1]
		if cpu, ops := last.CPUUS-first.CPUUS, last.Completed-first.Completed; cpu >= 0 && ops > 0 {
			run.Generator.CPUUSPerOp = ratio(cpu, ops)
		}
	}
	run.Reasons = j.reasons(run, truncated)
	run.Verdict = verdict(run)
	return run
}

// acknowledges says whether an op that was answered has written something.
func acknowledges(s *workload.Sample) bool {
	switch s.Operation {
	case reference.SetPreference:
		return true
	case reference.ChangeAccount:
		return accounts.Verdict(s.Answer) == accounts.Changed
	case reference.CheckGreylist:
		v := greylist.Verdict(s.Answer)
		return v.Defers() || v == greylist.Pass
	default:
		return false
	}
}

// verdict is the gravest that applies.
func verdict(run *Run) Verdict {
	violated := slices.ContainsFunc(run.Objectives, func(o ObjectiveResult) bool { return o.Verdict == Violated })
	switch {
	case run.Ledger != nil && run.Ledger.Broken()+run.Ledger.Violations.Total() > 0:
		return DataLoss
	case len(run.Reasons) > 0:
		return Inconclusive
	case violated:
		return Violated
	default:
		return Pass
	}
}

// reasons says why the run cannot be relied upon.
func (j *judge) reasons(run *Run, truncated []Truncation) []string {
	reasons := []string{}
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	t := j.timeline
	switch {
	case t.end == nil:
		add("the recording has no end: the run crashed or is still going on")
	case t.end.Reason != Completed && t.end.Error != "":
		add("the run did not complete: it %s: %s", t.end.words(), t.end.Error)
	case t.end.Reason != Completed:
		add("the run did not complete: it %s", t.end.words())
	}
	for _, cut := range truncated {
		add("%s", cut)
	}
	if t.endSamples >= 0 && t.endSamples != j.samples {
		add("%d samples were recorded, %d are there", t.endSamples, j.samples)
	}
	for _, f := range t.faults {
		if missing := f.missing(); f.planned && missing != "" {
			add("%s", missing)
		}
	}
	reasons = append(reasons, run.Generator.complaints(j.manifest.Bounds)...)
	if t.end != nil && t.end.CutShort > 0 {
		add("%d messages, webmail actions or account jobs were still under way when the drain ended, and were cut short", t.end.CutShort)
	}
	for _, o := range run.Objectives {
		if o.Verdict == Inconclusive {
			add("objective %s has no events", o.Name)
		}
	}
	if j.acked > 0 && (run.Ledger == nil || run.Ledger.Acknowledged == 0) {
		add("%d acknowledged writes were not read back", j.acked)
	}
	if run.Ledger != nil && run.Ledger.Unknown > 0 {
		add("%d acknowledged keys could not be read back", run.Ledger.Unknown)
	}
	return reasons
}

func (e *EndOfRun) words() string {
	if e.Reason == Interrupted {
		return "was interrupted"
	}
	return string(e.Reason)
}

func (p *pathCounts) result() PathResult {
	r := PathResult{
		OK: p.outcomes[workload.OK], Retried: p.outcomes[workload.Retried], Degraded: p.outcomes[workload.Degraded],
		Failed: p.outcomes[workload.Failed], Unknown: p.outcomes[workload.Unknown], Wrong: p.wrong,
		QueueUS: p.queue.summary(), ServiceUS: p.service.summary(), ResponseUS: p.response.summary(),
	}
	for _, n := range p.outcomes {
		r.Count += n
	}
	return r
}

// nodeResults lists every SQL node of the topology, so that one that was never
// asked shows, and whatever else was asked.
func (j *judge) nodeResults() map[string]NodeResult {
	results := map[string]NodeResult{}
	for _, n := range j.manifest.Topology.ByRole(topology.SQL) {
		results[n.Name] = NodeResult{Paths: map[string]int64{}}
	}
	for _, id := range slices.Sorted(maps.Keys(j.nodes)) {
		n, name := j.nodes[id], j.nodeName(id)
		r := NodeResult{Attempts: n.attempts, Failed: n.failed, Paths: map[string]int64{}}
		for path, attempts := range n.paths {
			r.Paths[path.String()] = attempts
		}
		results[name] = r
	}
	return results
}

// nodeName is what the topology calls a node, or a name for one that it has not.
func (j *judge) nodeName(id topology.ID) string {
	if node, known := j.manifest.Topology.ByID(id); known {
		return node.Name
	}
	return fmt.Sprintf("node-%d", id)
}

// shown are the paths that a run says something of. Mail asks the first three,
// so that silence there is worth a line; accounts are changed only where a
// scenario says so.
func (j *judge) shown() []reference.Path {
	return slices.DeleteFunc(slices.Clone(reference.Paths[:]), func(p reference.Path) bool {
		return p == reference.Accounts && j.paths[p].outcomes == [workload.Unknown + 1]int64{}
	})
}

func errorCounts(errors map[errorKey]int64) []ErrorCount {
	counts := []ErrorCount{}
	for k, n := range errors {
		counts = append(counts, ErrorCount{Class: k.class.String(), MySQL: k.mysql, NDB: k.ndb, Attempts: n})
	}
	sortErrors(counts)
	return counts
}

// sortErrors puts the most frequent first.
func sortErrors(counts []ErrorCount) {
	slices.SortFunc(counts, func(a, b ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.MySQL, b.MySQL), cmp.Compare(a.NDB, b.NDB))
	})
}

func (j *judge) faultResult(f *fault, c *faultCounts, end time.Duration) FaultResult {
	r := FaultResult{
		ID: f.id, Kind: f.kind, Target: f.target,
		InjectedAtUS: microsOf(f.injected), EffectiveAtUS: microsOf(f.effective),
		RecoveredAtUS: microsOf(f.recovered), RedundantAtUS: microsOf(f.redundant),
		Spans: Spans{
			Detect:        between(f.injected, f.effective),
			DetectCluster: between(f.injected, f.counted),
			Recovered:     between(f.injected, f.recovered),
			Redundant:     between(f.injected, f.redundant),
		},
		ToObjective: map[string]*int64{},
		Errors:      errorCounts(c.errors),
		Failure:     f.failure,
		Anatomy:     []Phase{},
		Paths:       map[string]FaultPath{},
		ResponseUS:  c.responses.summary(),
		Charge:      j.charge(c),
	}
	from, to, injected := f.window()
	length := min(to, end) - from
	for _, p := range j.shown() {
		path := c.paths[p]
		result := FaultPath{
			Ops: path.ops, BadOps: path.bad,
			FailedOver: path.failedOver.total, FailedOverUS: path.failedOver.summary(),
		}
		result.SlowUS, result.Nodes = j.slow[p].Microseconds(), map[string]OutageSpans{}
		if injected {
			result.OutageSpans = path.spans(length)
		}
		for id, o := range path.nodes {
			result.Nodes[j.nodeName(id)] = o.spans(length)
		}
		r.Paths[p.String()] = result
	}
	if injected {
		r.Anatomy = anatomy(f, c, length, j.manifest.Topology)
		r.Spans.OutageSpans = c.all.spans(length)
		for i := range j.objectives {
			if o := &j.objectives[i]; o.Metric == "" {
				r.ToObjective[o.Name] = c.met[i].met(length, o.moment())
			}
		}
		r.Spans.Objective = latest(r.ToObjective)
		if c.firstFailed != never {
			r.Spans.DetectClients = between(f.injected, &c.firstFailed)
		}
	}
	return r
}

// latest returns the largest of times, nil if one is nil or there are none.
func latest(times map[string]*int64) *int64 {
	var last *int64
	for _, t := range times {
		if t == nil {
			return nil
		}
		if last == nil || *t > *last {
			last = t
		}
	}
	return last
}

func (j *judge) charge(c *faultCounts) Charge {
	charge := Charge{BadOps: c.badOps, Mail: c.mail, Budgets: []ObjectiveCharge{}}
	var most Decimal
	unbounded := false
	for i := range j.objectives {
		o := &j.objectives[i]
		spent := o.spent(c.bad[i])
		charge.Budgets = append(charge.Budgets, ObjectiveCharge{Objective: o.Name, Bad: c.bad[i], BudgetSpent: spent})
		if spent == nil {
			unbounded = true
		} else {
			most = max(most, *spent)
		}
	}
	if !unbounded && len(j.objectives) > 0 {
		charge.BudgetSpent = &most
	}
	return charge
}

func (o *objectiveCounts) result() ObjectiveResult {
	r := ObjectiveResult{
		Name: o.Name, Path: o.Path, Metric: o.Metric, Method: o.Method(), Events: o.events(),
		SliceUS: o.SliceUS, SliceTarget: Decimal(o.SliceTargetPPM), WindowDays: o.windowDays(), Target: Decimal(o.TargetPPM), LatencyUS: o.LatencyUS,
		Good: o.good, Bad: o.bad, Total: o.good + o.bad,
		BudgetSpent: o.spent(o.bad),
	}
	switch {
	case r.Total == 0:
		r.Verdict = Inconclusive
	case r.Good*million < o.TargetPPM*r.Total:
		r.Verdict = Violated
	default:
		r.Verdict = Pass
	}
	return r
}

// spent is the share of the error budget, (1-target)·total, that so many bad
// events take; nil if they take from a budget that is none.
func (o *objectiveCounts) spent(bad int64) *Decimal {
	if bad == 0 {
		return new(Decimal)
	}
	return mulRatio(bad, million, (million-o.TargetPPM)*(o.good+o.bad))
}
