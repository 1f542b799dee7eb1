package capacity

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

const (
	dataLoss = string(results.DataLoss)

	// scarce is the share of a resource's quota from which on it is called the limit. A
	// node is stopped by the kernel's scheduler in each period in which its quota is
	// used up, long before it uses all of it in each second.
	scarcePPM = 800_000

	// fullPPM is from when on DataMemory counts as used up: it is meant to be filled.
	fullPPM = 950_000

	// generatorName is what Judged.CPUPPM calls the load generator.
	generatorName = "generator"
	// hostCPU is the processor time of the machine that system and generator share.
	hostCPU = "host cpu"
)

// Judge makes a result of the search in dir and of its runs. It is a function of these
// recordings alone: it gives the same bytes on every machine, and no rate that was not
// offered. A step that a crash cut short, or whose recording ends before it does, is void.
func Judge(dir string) (*Result, error) { return JudgeUnder(dir, nil) }

// JudgeUnder judges a search under other objectives than those that it was made with:
// the same ops at the same rates, of which others may be good. nil are its own. A search
// that ended under its own may not be over under others.
func JudgeUnder(dir string, objectives []results.Objective) (*Result, error) {
	if objectives != nil {
		if err := CheckObjectives(objectives); err != nil {
			return nil, err
		}
	}
	search, err := Read(dir)
	if err != nil {
		return nil, err
	}
	r := &Result{Schema: CapacitySchema, Search: *search, Objectives: []results.Objective{}, Regimes: []Found{}}
	judged := make([]Judged, len(search.Steps))
	lost := map[string]bool{} // by run
	var dirs []string
	for _, step := range search.Steps {
		if !slices.Contains(dirs, step.Dir) {
			dirs = append(dirs, step.Dir)
		}
	}
	opened := 0
	for _, name := range dirs {
		reader, err := results.Salvage(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) && search.begunOnly(name) {
			newRunJudge(results.Manifest{}, search, name).finish(judged, true)
			continue
		}
		if err == nil {
			err = r.alike(reader.Manifest(), opened == 0)
			opened++
		}
		if err != nil {
			return nil, fmt.Errorf("judge search: run %s: %w", name, err)
		}
		manifest := reader.Manifest()
		if objectives != nil {
			manifest.Objectives = objectives
		}
		run := newRunJudge(manifest, search, name)
		whole, _, _, err := results.JudgeAll(reader, run.add)
		if err != nil {
			return nil, fmt.Errorf("judge search: run %s: %w", name, err)
		}
		for row, err := range reader.Counters() {
			if err != nil {
				return nil, fmt.Errorf("judge search: run %s: %w", name, err)
			}
			run.counter(row)
		}
		short := slices.ContainsFunc(reader.Truncated(), func(t results.Truncation) bool { return t.File == results.SamplesFile })
		run.finish(judged, short)
		if whole.Verdict == results.DataLoss {
			r.Verdict, lost[name] = dataLoss, true
		}
		if run.last > run.first {
			r.TookUS += (run.last - run.first).Microseconds()
		}
	}
	if objectives != nil {
		r.Objectives = objectives
	}
	for _, step := range search.Steps {
		if !slices.ContainsFunc(r.Regimes, func(f Found) bool { return f.Regime == step.Regime }) {
			r.Regimes = append(r.Regimes, r.find(step.Regime, judged, lost))
		}
	}
	return r, nil
}

// begunOnly says whether no step of a run has ended: a crash may have come before
// there was anything to record.
func (s *Search) begunOnly(dir string) bool {
	return !slices.ContainsFunc(s.Steps, func(step Step) bool { return step.Dir == dir && step.Stopped != "" })
}

// alike takes what all runs have in common from the first, and says what another one
// has not.
func (r *Result) alike(m results.Manifest, first bool) error {
	if err := CheckObjectives(m.Objectives); err != nil {
		return err
	}
	if first {
		r.Topology, r.Objectives = m.Topology, m.Objectives
		r.Host.Processors, _ = strconv.Atoi(m.Host["cpus"]) // 0 if nobody knows
		r.Host.MemoryMiB, _ = strconv.ParseInt(m.Host["memory_mib"], 10, 64)
		r.Host.Kernel = m.Host["kernel"]
		return nil
	}
	switch {
	case !reflect.DeepEqual(r.Topology, m.Topology):
		return fmt.Errorf("its topology is not that of the search's first run; they are no runs of one search")
	case !reflect.DeepEqual(r.Objectives, m.Objectives):
		return fmt.Errorf("its objectives are not those of the search's first run; they are no runs of one search")
	}
	return nil
}

// runJudge gives a run's samples and counters to its steps.
type runJudge struct {
	manifest    results.Manifest
	processors  int
	steps       []*stepJudge // in the order of time
	first, last time.Duration
	seen        bool
	latest      time.Duration // that an op was intended
}

type stepJudge struct {
	step     Step
	from, to time.Duration // that are judged
	tally    *Tally

	offered, ops, good int64
	response, service  time.Duration // sums
	responses, lags    results.Latencies
	heldBack           bool
	cpu                map[string]*cpuUse
	redo, memory       map[string]int64 // of data nodes, largest shares in millionths
}

// cpuUse is what one process used between two rows of counters.
type cpuUse struct{ fromUS, toUS, first, last int64 }

func newRunJudge(m results.Manifest, search *Search, dir string) *runJudge {
	j := &runJudge{manifest: m}
	j.processors, _ = strconv.Atoi(m.Host["cpus"])
	for _, step := range search.Steps {
		if step.Dir != dir {
			continue
		}
		settings := search.For(step.Regime, nil)
		from, to := step.judged(microseconds(settings.SettleUS))
		lag := microseconds(m.Bounds.LagP999US)
		j.steps = append(j.steps, &stepJudge{
			step: step, from: from, to: to, heldBack: step.Waited > 0, cpu: map[string]*cpuUse{},
			tally: NewTally(m.Objectives, lag, settings, microseconds(step.FromUS)),
		})
	}
	return j
}

// at is the step in whose judged part a time is; nil for none.
func (j *runJudge) at(t time.Duration) *stepJudge {
	i, found := slices.BinarySearchFunc(j.steps, t, func(s *stepJudge, t time.Duration) int {
		return int(min(1, max(-1, s.from-t)))
	})
	if !found {
		i--
	}
	if i < 0 || t >= j.steps[i].to {
		return nil
	}
	return j.steps[i]
}

func (j *runJudge) add(s *workload.Sample) {
	end := s.Intended + s.Response()
	if !j.seen {
		j.seen, j.first, j.last = true, s.Intended, end
	}
	j.first, j.last, j.latest = min(j.first, s.Intended), max(j.last, end), max(j.latest, s.Intended)
	step := j.at(s.Intended)
	if step == nil {
		return
	}
	step.tally.Add(s)
	step.ops++
	if (results.Objective{}).Good(s) {
		step.good++
	}
	if begins(s) {
		step.offered++
		step.lags.Add(s.Queue())
	}
	step.response += s.Response()
	step.service += s.Service()
	step.responses.Add(s.Response())
}

func (j *runJudge) counter(row results.CounterRow) {
	step := j.at(microseconds(row.AtUS))
	if step == nil {
		return
	}
	step.uses(generatorName, row.AtUS, row.CPUUS)
	for name, use := range row.Nodes {
		step.uses(name, row.AtUS, use.CPUUS)
	}
	for name, fill := range row.Fill {
		fullest(&step.redo, name, fill.RedoBytes, fill.RedoTotalBytes)
		fullest(&step.memory, name, fill.DataMemoryBytes, fill.DataMemoryTotalBytes)
	}
}

// fullest keeps the largest share of what a node has.
func fullest(shares *map[string]int64, node string, used, all int64) {
	if all <= 0 {
		return
	}
	if *shares == nil {
		*shares = map[string]int64{}
	}
	(*shares)[node] = max((*shares)[node], ratio(used, million, all))
}

func (s *stepJudge) uses(name string, at, cpu int64) {
	use := s.cpu[name]
	if use == nil || cpu < use.last { // a process that was started anew counts from 0
		s.cpu[name] = &cpuUse{fromUS: at, toUS: at, first: cpu, last: cpu}
		return
	}
	use.toUS, use.last = at, cpu
}

// finish puts what is known of the steps where they belong. short says that not all
// samples can be read.
func (j *runJudge) finish(judged []Judged, short bool) {
	for _, s := range j.steps {
		length := max(0, s.to-s.from)
		r := Judged{
			Step: s.step, Offered: s.offered, Ops: s.ops, Good: s.good,
			P50US: s.responses.Quantile(500), P99US: s.responses.Quantile(990), MaxUS: s.responses.Max(), LagP999US: s.lags.Quantile(999),
			HeldBack: s.heldBack, CPUPPM: map[string]int64{}, RedoPPM: s.redo, DataMemoryPPM: s.memory,
		}
		if s.ops > 0 {
			r.MeanUS = s.response.Microseconds() / s.ops
		}
		if length > 0 {
			r.InFlightMilli = s.service.Microseconds() * 1000 / length.Microseconds()
		}
		for name, use := range s.cpu {
			if quota := quotaOf(name, j.manifest.Topology, j.processors); quota > 0 && use.toUS > use.fromUS {
				r.CPUPPM[name] = (use.last - use.first) * 1000 / (use.toUS - use.fromUS) * million / quota
			}
		}
		f := s.tally.Look(s.to, s.heldBack)
		r.Outcome, r.Why, r.Objectives, r.Leaning = f.Outcome, f.Why, f.Objectives, f.Leaning
		void := func(why string) { r.Outcome, r.Why, r.Leaning = Void, why, "" }
		switch {
		case s.step.Stopped == "":
			void("it was under way when the program ended")
		case s.step.Stopped == SystemDied:
			void("the system died, or what of it should have been up")
		case s.step.Stopped == Interrupted:
			void("it was interrupted")
		case short && j.latest < s.to-blockLength:
			void("its recording is cut short")
		}
		judged[s.step.Number-1] = r
	}
}

// quotaOf is what a node may use, in thousandths of a processor: what a machine with so
// many has where it has no quota, as the generator; 0 if nobody knows.
func quotaOf(name string, top topology.Topology, processors int) int64 {
	if n, err := top.Node(name); err == nil {
		if quota := top.Limits[n.Role].MilliCPUs; quota > 0 {
			return int64(quota)
		}
	}
	return int64(processors) * 1000
}

// History is what Next and Bracket go by: the steps of a regime. Those that a user or a
// crash of the program interrupted are left out, as if they had not been.
func History(regime Regime, judged []Judged) (tried []Tried) {
	for _, step := range judged {
		if step.Regime == regime && step.Stopped != Interrupted && step.Stopped != "" {
			tried = append(tried, Tried{PerDay: step.PerDay, Outcome: step.Outcome, Leaning: step.Leaning})
		}
	}
	return tried
}

// Find is what is known of a regime; nil for nothing.
func (r *Result) Find(regime Regime) *Found {
	for i := range r.Regimes {
		if r.Regimes[i].Regime == regime {
			return &r.Regimes[i]
		}
	}
	return nil
}

// find sums up what is known of a regime.
func (r *Result) find(regime Regime, judged []Judged, lost map[string]bool) Found {
	f := Found{Regime: regime, Steps: []Judged{}}
	tried := History(regime, judged)
	lostIn, died := "", (*Judged)(nil)
	for i := range judged {
		step := &judged[i]
		if step.Regime != regime {
			continue
		}
		f.Steps = append(f.Steps, *step)
		if lost[step.Dir] {
			lostIn = step.Dir
		}
		if step.Stopped == SystemDied {
			died = step
		}
	}
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	met, missed, reason, done := Bracket(r.Search.For(regime, History(Healthy, judged)), tried)
	f.MetPerDay, f.MissedPerDay, f.Done = met, missed, done
	if lostIn != "" {
		add("acknowledged writes were lost in run %s: nothing may be promised", lostIn)
	} else {
		f.PromisePerDay = promise(met, r.Search.PeakPPM)
	}
	f.HeadroomPPM = ratio(f.PromisePerDay, million, r.Search.TodayPerDay)
	if reason != "" {
		add("%s", reason)
	}
	if died != nil {
		add("the system died at %s (step %d); what is known is from the other steps", perDay(died.PerDay), died.Number)
	}
	if !done {
		if met == 0 && reason == "" {
			add("no rate was met so far")
		}
		for _, end := range slices.Backward(r.Search.Ends) {
			if end.Regime == regime && end.Why != "" {
				add("the search is not over: %s", end.Why)
				break
			}
		}
		if len(why) == 0 {
			add("the search is not over")
		}
	}
	f.Why = strings.Join(why, "; ")
	f.Limit = r.limit(f)
	return f
}

// promise is a rate over the peak factor, to three digits, rounded down: rates next to each
// other differ by a hundredth at least.
func promise(metPerDay, peakPPM int64) int64 {
	n, unit := ratio(metPerDay, million, peakPPM), int64(1)
	for n/unit >= 1000 {
		unit *= 10
	}
	return n / unit * unit
}

// ratio is a·b/c, rounded down; a is a rate, or a number of bytes.
func ratio(a, b, c int64) int64 {
	// a%c is below 10^12, b at most 10^6, and c above 0.
	return a/c*b + a%c*b/c
}

// resource is something of which a step may use up all there is.
type resource struct {
	name, node string
	usePPM     int64
	what       string // is used, of the node's, in a sentence
}

// limit is what was used up first: what was nearest to its quota at the lowest rate that
// was missed.
func (r *Result) limit(f Found) Limit {
	for i := range f.Steps {
		if step := &f.Steps[i]; step.Outcome == Generator && strings.Contains(f.Why, generatorLimit) {
			return Limit{Resource: generatorName, UsePPM: step.CPUPPM[generatorName], Evidence: fmt.Sprintf("at %s: %s", perDay(step.PerDay), step.Why)}
		}
	}
	var at *Judged
	for i := range f.Steps {
		if step := &f.Steps[i]; step.PerDay == f.MissedPerDay && step.Outcome == Missed {
			at = step
		}
	}
	if at == nil {
		return Limit{}
	}
	all := r.resources(at)
	if len(all) == 0 {
		return Limit{Evidence: fmt.Sprintf("at %s nobody measured what the nodes used", perDay(at.PerDay))}
	}
	top := slices.MaxFunc(all, func(a, b resource) int { return int(min(1, max(-1, a.usePPM-b.usePPM))) })
	evidence := fmt.Sprintf("at %s %s used %s of its %s", perDay(at.PerDay), top.node, percent(top.usePPM), top.what)
	switch {
	case top.usePPM >= scarcePPM:
		l := Limit{Resource: top.name, Node: top.node, UsePPM: top.usePPM, Evidence: evidence}
		if l.Outside() {
			l.Node = ""
		}
		return l
	case at.HeldBack:
		return Limit{Resource: "sessions", UsePPM: million, Evidence: fmt.Sprintf("at %s as many sessions as may be were under way; of the nodes, %s used most: %s of its %s",
			perDay(at.PerDay), top.node, percent(top.usePPM), top.what)}
	default:
		return Limit{Evidence: evidence + ", more than all others; the limit is something else"}
	}
}

// cpuOf is what Limit calls the processor time of a role's nodes.
func cpuOf(role topology.Role) string { return string(role) + " node cpu" }

// resources are those whose use was measured in a step, in the order of the topology.
func (r *Result) resources(step *Judged) []resource {
	var all []resource
	for _, n := range r.Topology.Nodes {
		name := cpuOf(n.Role)
		if use, measured := step.CPUPPM[n.Name]; measured && n.Role != topology.Management {
			all = append(all, resource{name, n.Name, use, "processor time"})
		}
		if use, measured := step.RedoPPM[n.Name]; measured {
			all = append(all, resource{"redo", n.Name, use, "redo log"})
		}
		if use := step.DataMemoryPPM[n.Name]; use >= fullPPM {
			all = append(all, resource{"data memory", n.Name, use, "DataMemory"})
		}
	}
	if use, measured := step.CPUPPM[generatorName]; measured {
		all = append(all, resource{generatorName, generatorName, use, "processor time"})
	}
	if use := r.hostUse(step); use > 0 {
		all = append(all, resource{hostCPU, "the host", use, "processor time"})
	}
	return all
}

// hostUse is the share of the machine's processors that nodes and generator used
// together; 0 if nobody knows.
func (r *Result) hostUse(step *Judged) int64 {
	whole := int64(r.Host.Processors) * 1000
	if whole == 0 {
		return 0
	}
	used := int64(0)
	for name, share := range step.CPUPPM {
		used += ratio(share, quotaOf(name, r.Topology, r.Host.Processors), whole)
	}
	return used
}
