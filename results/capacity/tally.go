package capacity

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/distribution"
	"github.com/mailbench/mailbench/workload"
)

const (
	million = 1_000_000

	// blockLength cuts a step into the clusters of its events. It is the period of
	// NDB's global checkpoints (TimeBetweenGlobalCheckpoints, 2,000 ms by default):
	// what comes back in each of them is in each block, and does not make one block
	// unlike the next. Blocks of 1 s would each have it or not.
	blockLength = 2 * time.Second
	// mostBlocks bounds a step to two days.
	mostBlocks = 86_400

	// fewestBlocks are needed to tell of a growing backlog.
	fewestBlocks = 5
	// horizon is how long a rate must be borne: the busiest hour.
	horizon = time.Hour
	// patience is what the mean response time may grow to in that time under an
	// objective without a bound of its own.
	patience = time.Second

	// lateShare of messages may begin later than the bound on lag: p99.9.
	lateSharePPM = 1000
)

// CheckObjectives says which objective a search cannot judge, and what to do about
// it. A step can tell of ops only: whether a message was lost or deferred shows
// long after it, and it has too few slices of time.
func CheckObjectives(objectives []results.Objective) error {
	if len(objectives) == 0 {
		return errors.New("a capacity search needs an objective; name one that counts ops")
	}
	for _, o := range objectives {
		if err := o.Validate(); err != nil {
			return fmt.Errorf("objective %q: %w", o.Name, err)
		}
		switch {
		case o.Metric != "":
			return fmt.Errorf("objective %q counts messages (%s), of which a step of a capacity search does not see the end; give it objectives that count ops", o.Name, o.Metric)
		case o.SliceUS > 0:
			return fmt.Errorf("objective %q counts slices of time, of which a step of a capacity search has too few; have it count ops, without slice", o.Name)
		}
	}
	return nil
}

// Finding is what a look at a step found.
type Finding struct {
	Outcome    Outcome     // Met, Missed, Open or Generator
	Leaning    Outcome     // where Outcome is Open, Met or Missed: what is more likely
	Why        string      // in words; "" where every objective is met
	Objectives []Objective // in the order of those given
}

// Tally counts the events of one step. It is not safe for concurrent use.
type Tally struct {
	objectives []results.Objective
	lagBound   time.Duration
	settings   Settings
	from       time.Duration // what was intended before is not judged

	blocks []blockCounts
	shares []shareCounts // of each block in turn, those of each objective
}

type blockCounts struct {
	ops         int64
	begun, late int64 // messages, and those that began later than the bound on lag
}

type shareCounts struct {
	all, bad int64
	response time.Duration // sum
}

// NewTally counts for a step that began at from on the run's clock. Of messages'
// lags one in a thousand may be above lagBound; 0 for no bound.
func NewTally(objectives []results.Objective, lagBound time.Duration, s Settings, from time.Duration) *Tally {
	return &Tally{objectives: objectives, lagBound: lagBound, settings: s, from: from + microseconds(s.SettleUS)}
}

func microseconds(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

// Add counts a sample. Samples may come in any order; those intended before the
// step had settled are left out.
func (t *Tally) Add(s *workload.Sample) {
	if s.Intended < t.from {
		return
	}
	at := int((s.Intended - t.from) / blockLength)
	if at >= mostBlocks {
		return
	}
	for len(t.blocks) <= at {
		t.blocks = append(t.blocks, blockCounts{})
		t.shares = append(t.shares, make([]shareCounts, len(t.objectives))...)
	}
	b := &t.blocks[at]
	b.ops++
	if begins(s) {
		b.begun++
		if s.Queue() > t.lagBound {
			b.late++
		}
	}
	for i, o := range t.objectives {
		if !o.Covers(s) {
			continue
		}
		c := &t.shares[at*len(t.objectives)+i]
		c.all++
		c.response += s.Response()
		if !o.Good(s) {
			c.bad++
		}
	}
}

// begins says whether a sample is a message's first op: nothing of the system's has
// been before it, so that what it waits for is the generator.
func begins(s *workload.Sample) bool {
	return s.Operation == reference.Route && s.Recipient == 0 && s.Try == 0
}

// Look judges what was intended until a time, in whole blocks of two seconds. An op
// that has not ended yet was not added: who looks while a step goes on should not look
// at the last moments before now, as long as the longest bound of the objectives.
// heldBack says that as many sessions as may be were under way.
//
// A share is judged by the interval of Korn and Graubard (interval). The settings'
// confidence holds for all looks at a step together: each has an equal part of what
// may be wrong (Bonferroni), however much the looks have in common, and so has the
// judgement after the step's end.
//
// An objective is missed when the interval is above its budget, and met when it is
// below. The rate is missed when one objective is, and met when all are that can be
// met in a step; where none can, when a whole step has passed without a miss. It is not
// met while response times grow (growth).
func (t *Tally) Look(to time.Duration, heldBack bool) Finding {
	length := to - t.from
	blocks := int(max(0, min(length/blockLength, mostBlocks)))
	whole := length > microseconds(t.settings.MaxStepUS)-blockLength/2 // a step ends on no exact microsecond
	level := t.settings.level()

	f := Finding{Outcome: Met, Leaning: Met, Objectives: make([]Objective, len(t.objectives))}
	say := func(o Outcome, format string, args ...any) {
		if grave(o) > grave(f.Outcome) || f.Why == "" {
			f.Outcome, f.Why = o, fmt.Sprintf(format, args...)
		}
	}
	provable := false
	for i, o := range t.objectives {
		series := t.series(i, blocks)
		judged := t.settings.judge(o, series, level)
		f.Objectives[i] = judged
		provable = provable || !judged.Sparse
		if judged.Bad*million > judged.BudgetPPM*(judged.Good+judged.Bad) {
			f.Leaning = Missed
		}
		switch {
		case judged.Outcome == Missed:
			f.Leaning = Missed
			say(Missed, "objective %q: %s of its ops were bad, and at least %s in the long run; %s may be",
				o.Name, percent(judged.share()), percent(judged.LowPPM), percent(judged.BudgetPPM))
		case judged.Outcome == Open && !judged.Sparse:
			say(Open, "objective %q: %s of its ops were bad, and perhaps %s in the long run; %s may be",
				o.Name, percent(judged.share()), percent(judged.HighPPM), percent(judged.BudgetPPM))
		}
		g := growthOf(series, level)
		if !g.matters(o) {
			continue
		}
		f.Leaning = Missed
		outcome := Open
		if whole && g.proven {
			outcome = Missed
		}
		say(outcome, "objective %q: response times grow by %v a second: the backlog does, too", o.Name, g.perSecond.Round(10*time.Microsecond))
	}
	if t.starved(blocks) {
		f.Leaning = Missed
		say(Open, "ops that were intended of late have not ended")
	}
	if !provable && !whole {
		say(Open, "no objective has enough ops in a step to be proven, so that all of it is needed")
	}
	if outcome, why := t.lag(blocks, whole, level); outcome != "" {
		say(outcome, "%s", why)
	}
	switch {
	case heldBack: // it cannot catch up, whatever has ended says
		f.Outcome, f.Why = Missed, "sessions had to wait because as many as may be were under way (bounds.in_flight)"
	case length < microseconds(t.settings.MinStepUS):
		f.Outcome, f.Why = Open, "it was not under way for long enough to be judged"
	}
	if f.Outcome != Open {
		f.Leaning = ""
	}
	if f.Outcome == Met {
		f.Why = ""
	}
	return f
}

// grave orders outcomes: the graver one is what a step comes to.
func grave(o Outcome) int {
	switch o {
	case Open:
		return 1
	case Missed:
		return 2
	case Generator:
		return 3
	default:
		return 0
	}
}

// level is how often one look may be wrong.
func (s Settings) level() float64 {
	looks := int64(2) // at the shortest length, and after the step
	if s.LookUS > 0 && s.MaxStepUS > s.MinStepUS {
		looks += (s.MaxStepUS - s.MinStepUS + s.LookUS - 1) / s.LookUS
	}
	return (1 - float64(s.ConfidencePPM)/million) / float64(looks)
}

// series are the first blocks of an objective.
func (t *Tally) series(objective, blocks int) []shareCounts {
	all := make([]shareCounts, blocks)
	for b := range min(blocks, len(t.blocks)) {
		all[b] = t.shares[b*len(t.objectives)+objective]
	}
	return all
}

func (s Settings) judge(o results.Objective, series []shareCounts, level float64) Objective {
	j := Objective{Name: o.Name, BudgetPPM: million - o.TargetPPM, Outcome: Open}
	for _, b := range series {
		j.Good, j.Bad = j.Good+b.all-b.bad, j.Bad+b.bad
	}
	low, high := interval(series, level)
	j.LowPPM, j.HighPPM = int64(math.Floor(low*million)), int64(math.Ceil(high*million))

	// What a whole step will have, if it goes on like this.
	events, blocks := float64(j.Good+j.Bad), float64(len(series))
	if full := float64(s.MaxStepUS) / float64(blockLength.Microseconds()); blocks > 0 && full > blocks {
		events, blocks = events*full/blocks, full
	}
	best := 1.0
	if events >= 2 && blocks >= 2 {
		_, best = clopperPearson(0, effective(events, 1, blocks, level), level)
	}
	j.Sparse = best*million > float64(j.BudgetPPM)
	switch {
	case j.LowPPM > j.BudgetPPM:
		j.Outcome = Missed
	case j.HighPPM <= j.BudgetPPM:
		j.Outcome = Met
	}
	return j
}

func (o *Objective) share() int64 {
	if o.Good+o.Bad == 0 {
		return 0
	}
	return o.Bad * million / (o.Good + o.Bad)
}

// interval is a confidence interval around the share of bad events in the long run,
// which is outside of it with the chance level. Bad events come together: a stall makes
// many. By E. L. Korn and B. I. Graubard (Confidence intervals for proportions with
// small expected number of positive counts estimated from survey data, Survey
// Methodology 24, 1998), the exact interval of Clopper and Pearson is therefore taken
// of as many independent events as tell as much: n over the design effect, which is
// the variance of the share between blocks (of a ratio, each block being a cluster) over
// that of independent events, and 1 or more. The fewer the blocks, the less is that
// known: the square of Student's t with so many events over that with so many blocks
// makes it wider.
//
// A step without a single bad event shows no design effect, and none of the stalls that
// come less often than once in a step: it proves too much about those. That both edges
// of a bracket need a second step makes up for some of it.
func interval(series []shareCounts, level float64) (low, high float64) {
	all, bad, blocks := 0.0, 0.0, 0.0
	for _, b := range series {
		all, bad = all+float64(b.all), bad+float64(b.bad)
		if b.all > 0 {
			blocks++
		}
	}
	if blocks < 2 || all < 2 {
		return 0, 1
	}
	share, effect := bad/all, 1.0
	if independent := share * (1 - share) / all; independent > 0 {
		squares := 0.0
		for _, b := range series {
			rest := float64(b.bad) - share*float64(b.all)
			squares += rest * rest
		}
		effect = max(1, blocks/(blocks-1)*squares/(all*all)/independent)
	}
	n := effective(all, effect, blocks, level)
	return clopperPearson(share*n, n, level)
}

// effective is how many independent events tell as much as so many of a design effect.
func effective(events, effect, blocks, level float64) float64 {
	correction := distribution.StudentQuantile(level/2, events-1) / distribution.StudentQuantile(level/2, blocks-1)
	return events / effect * min(1, correction*correction)
}

// clopperPearson is the interval around bad of n events; neither need be whole
// (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934).
func clopperPearson(bad, n, level float64) (low, high float64) {
	low, high = 0, 1
	if bad > 0 {
		low = distribution.BetaQuantile(level/2, bad, n-bad+1)
	}
	if bad < n {
		high = distribution.BetaQuantile(1-level/2, bad+1, n-bad)
	}
	return low, high
}

// growth is how the mean response time of an objective's ops went on over blocks.
//
// A system that is offered 2 % more than it can do falls behind by 20 ms each second,
// and may be within every bound for as long as a step lasts. The response times of a
// queue that is as good as full go as a random walk does, of which a line of regression
// makes a trend wherever it leads. So the steps of the walk, the differences
// between blocks, are what counts: the trend is their mean, and its standard
// error theirs, times the root of 1.5, because differences of averages over a walk
// have a correlation of 1/4 with the next (H. Working, Econometrica 28, 1960). Of a system
// that keeps up, differences cancel each other out and the trend is hardly ever as large as
// its error.
type growth struct {
	perSecond time.Duration
	mean      time.Duration // response time
	likely    bool          // larger than its standard error
	proven    bool          // at the level
}

func growthOf(series []shareCounts, level float64) growth {
	var means []float64
	for _, b := range series {
		if b.all > 0 {
			means = append(means, float64(b.response)/float64(b.all))
		}
	}
	if len(means) < fewestBlocks {
		return growth{}
	}
	n := float64(len(means) - 1)
	trend := (means[len(means)-1] - means[0]) / n
	squares, sum := 0.0, means[0]
	for i, m := range means[1:] {
		rest := m - means[i] - trend
		squares += rest * rest
		sum += m
	}
	se := math.Sqrt(1.5 * squares / (n - 1) / n)
	return growth{
		perSecond: time.Duration(trend / blockLength.Seconds()),
		mean:      time.Duration(sum / (n + 1)),
		likely:    trend > se,
		proven:    trend > se*distribution.StudentQuantile(level/2, n-1),
	}
}

// matters says whether response times are likely to grow so fast that the mean is past
// the bound before the busiest hour is over.
func (g growth) matters(o results.Objective) bool {
	bound := microseconds(o.LatencyUS)
	if bound == 0 {
		bound = patience
	}
	return g.likely && float64(g.mean)+float64(g.perSecond)*horizon.Seconds() > float64(bound)
}

// starved says that the last block has less than half the ops of those before it: they
// were intended, and have not ended.
func (t *Tally) starved(blocks int) bool {
	if blocks < 2 {
		return false
	}
	before := int64(0)
	for b := range min(blocks-1, len(t.blocks)) {
		before += t.blocks[b].ops
	}
	last := int64(0)
	if blocks <= len(t.blocks) {
		last = t.blocks[blocks-1].ops
	}
	const some = 20 // ops a block: fewer may be half as many by chance
	return before >= some*int64(blocks-1) && 2*last*int64(blocks-1) < before
}

// lag says whether the generator was late, "" if not. Before a step has its whole
// length a few late messages do not end the search yet.
func (t *Tally) lag(blocks int, whole bool, level float64) (Outcome, string) {
	if t.lagBound <= 0 {
		return "", ""
	}
	series := make([]shareCounts, blocks)
	begun, late := int64(0), int64(0)
	for b := range min(blocks, len(t.blocks)) {
		c := t.blocks[b]
		series[b] = shareCounts{all: c.begun, bad: c.late}
		begun, late = begun+c.begun, late+c.late
	}
	if late*million <= lateSharePPM*begun {
		return "", ""
	}
	outcome := Open
	if low, _ := interval(series, level); whole || low*million > lateSharePPM {
		outcome = Generator
	}
	return outcome, fmt.Sprintf("the generator fell behind: %s of messages began more than %v after their time, 0.1 %% may", percent(late*million/begun), t.lagBound)
}

// percent spells millionths.
func percent(ppm int64) string {
	return fmt.Sprintf("%.4g %%", float64(ppm)/10_000)
}
