package compare

import (
	"fmt"
	"math"
	"strconv"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/internal/distribution"
)

// Op is one op of a segment. A failed one has the latency at which it failed.
type Op struct {
	LatencyUS int64
	Bad       bool
}

// Segment is a stretch of load against one side: all ops of one path (or
// operation) in one phase, in the order in which they were due.
type Segment struct {
	DurationUS int64
	Ops        []Op
}

// Pair is two segments that were recorded one after the other on one machine.
type Pair struct {
	A, B   Segment // base and candidate
	BFirst bool    // B was recorded before A
}

// Series is one path and phase, in pairs that were recorded in the order
// A B, B A, A B, …: so a machine that warms up, and whatever the second segment
// finds prepared by the first, falls to both sides alike.
type Series struct {
	Name  string
	Pairs []Pair
}

// Kind is what a statistic is made of.
type Kind string

// The kinds. Quantiles and throughput are compared by their ratio, and an effect
// of 0.05 means 5 %. Shares of bad ops are compared by their difference, since
// the base may have none, and an effect of 0.001 means one op in a thousand.
const (
	Quantile   Kind = "quantile"   // of latencies, failed ops at their full duration
	Throughput Kind = "throughput" // good ops a second
	BadShare   Kind = "bad_share"  // bad ops of all
)

// Statistic is what is compared, and from which size a difference matters.
type Statistic struct {
	Kind     Kind
	Permille int64 // of a quantile: 500 is the median
	Effect   float64
	Optional bool // see Finding
}

// String is p50, p99.9, throughput, bad_share.
func (s Statistic) String() string {
	if s.Kind != Quantile {
		return string(s.Kind)
	}
	return "p" + strconv.FormatFloat(float64(s.Permille)/10, 'f', -1, 64)
}

// DefaultStatistics are median and tail within 5 %, p99.9 within 10 % where the
// samples bear it, throughput within 5 %, and one bad op in a thousand. The
// effects are assumed.
func DefaultStatistics() []Statistic {
	return []Statistic{
		{Kind: Quantile, Permille: 500, Effect: 0.05},
		{Kind: Quantile, Permille: 900, Effect: 0.05},
		{Kind: Quantile, Permille: 950, Effect: 0.05},
		{Kind: Quantile, Permille: 990, Effect: 0.05},
		{Kind: Quantile, Permille: 999, Effect: 0.10, Optional: true},
		{Kind: Throughput, Effect: 0.05},
		{Kind: BadShare, Effect: 0.001},
	}
}

// Options of a comparison.
type Options struct {
	Seed       uint64
	Resamples  int     // of the bootstrap over pairs
	Alpha      float64 // the most that one false alarm among all comparisons may be likely
	Confidence float64 // of the interval of each comparison
	Statistics []Statistic
}

// DefaultOptions are false alarms in at most one of a hundred comparisons of
// equals, intervals of 95 %, and DefaultStatistics.
func DefaultOptions(seed uint64) Options {
	return Options{Seed: seed, Resamples: 1000, Alpha: 0.01, Confidence: 0.95, Statistics: DefaultStatistics()}
}

// LeastBeyond is how many ops that are independent of each other must lie on
// either side of a quantile, in either side's segments, for it to be compared.
// Then the error of their number is at most a third of it, and close enough to
// normal. An interval of order statistics, which is exact for independent ops
// but knows nothing of pairs, needs 3.7 of them at 95 %.
const LeastBeyond = 10

// Comparison is a statistic of a series, compared.
type Comparison struct {
	Finding
	Series    string `json:"series"`
	Statistic string `json:"statistic"`

	Pairs    int   `json:"pairs"`
	SamplesA int64 `json:"samples_a"`
	SamplesB int64 `json:"samples_b"`
	// Beyond is how many independent ops lie beyond the quantile on the side
	// that has fewer. BlockOps is how many ops in a row depend on each other.
	Beyond   int64 `json:"beyond,omitempty"`
	BlockOps int64 `json:"block_ops,omitempty"`

	A *results.Decimal `json:"a"` // µs, ops a second, or a share
	B *results.Decimal `json:"b"`

	// Change is (B-A)/A, or B-A of a share; Low and High are its interval. All
	// of these are null where the samples do not bear a comparison.
	Change *results.Decimal `json:"change"`
	Low    *results.Decimal `json:"low"`
	High   *results.Decimal `json:"high"`
	Effect *results.Decimal `json:"effect"`

	P         *results.Decimal `json:"p"`
	PAdjusted *results.Decimal `json:"p_adjusted"`

	// Standard errors on the scale of the test: over pairs, from within segments
	// alone, and from the ops beyond a common limit. The largest one counts.
	SEPairs  *results.Decimal `json:"se_pairs"`
	SEWithin *results.Decimal `json:"se_within"`
	SEBeyond *results.Decimal `json:"se_beyond,omitempty"`

	// MDE80 is the smallest change for the worse that would have been found with
	// a chance of 80 %, with as much data as noisy as this. Null: none ever.
	MDE80 *results.Decimal `json:"mde_80"`
	MDE95 *results.Decimal `json:"mde_95"`
}

// FewestPairs is how many pairs it takes at least to find anything at all at
// level alpha among so many comparisons: see leastP.
func FewestPairs(comparisons int, alpha float64) int {
	n := 2
	for leastP(n) > alpha/float64(max(1, comparisons)) {
		n++
	}
	return n
}

// leastP is the least p-value that n pairs may claim: of the 2^n ways to call
// the segments of n pairs A and B, two are the most extreme ones. A test that
// assumes nothing but that the pairs are alike can say no more, and what
// Student's t adds beyond that rests on its assumptions alone.
func leastP(n int) float64 { return math.Ldexp(1, 1-n) }

// Latencies compares all statistics of all series. The names of series must
// differ.
func Latencies(series []Series, o Options) ([]Comparison, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	var all []measured
	names := map[string]bool{}
	for _, s := range series {
		if names[s.Name] {
			return nil, fmt.Errorf("compare latencies: series %q is there twice; give each path and phase its own", s.Name)
		}
		names[s.Name] = true
		if err := s.validate(); err != nil {
			return nil, err
		}
		all = append(all, s.measure(o)...)
	}
	return conclude(all, o), nil
}

func (o Options) validate() error {
	switch {
	case o.Resamples < 100:
		return fmt.Errorf("compare latencies: %d resamples; take 100 or more", o.Resamples)
	case !(o.Alpha > 0 && o.Alpha < 0.5):
		return fmt.Errorf("compare latencies: alpha is %v; it must lie between 0 and 0.5", o.Alpha)
	case !(o.Confidence > 0.5 && o.Confidence < 1):
		return fmt.Errorf("compare latencies: confidence is %v; it must lie between 0.5 and 1", o.Confidence)
	case 1-o.Confidence < o.Alpha:
		return fmt.Errorf("compare latencies: confidence %v is stricter than alpha %v, so that a regression's interval could hold no change; lower one of them", o.Confidence, o.Alpha)
	case len(o.Statistics) == 0:
		return fmt.Errorf("compare latencies: no statistics; name some, or take DefaultStatistics")
	}
	seen := map[string]bool{}
	for _, s := range o.Statistics {
		switch {
		case s.Kind != Quantile && s.Kind != Throughput && s.Kind != BadShare:
			return fmt.Errorf("compare latencies: statistic %q is unknown", s.Kind)
		case s.Kind == Quantile && (s.Permille < 1 || s.Permille > 999):
			return fmt.Errorf("compare latencies: quantile of %d permille; it must lie between 1 and 999", s.Permille)
		case !(s.Effect > 0 && s.Effect < 10):
			return fmt.Errorf("compare latencies: the effect of %s is %v; it must lie between 0 and 10", s, s.Effect)
		case seen[s.String()]:
			return fmt.Errorf("compare latencies: statistic %s is there twice", s)
		}
		seen[s.String()] = true
	}
	return nil
}

func (s Series) validate() error {
	bFirst := 0
	for i, p := range s.Pairs {
		if p.BFirst {
			bFirst++
		}
		for k, segment := range []Segment{p.A, p.B} {
			side := "AB"[k : k+1]
			if segment.DurationUS <= 0 {
				return fmt.Errorf("compare latencies of %s: segment %s of pair %d lasts %d µs; record it anew", s.Name, side, i+1, segment.DurationUS)
			}
			for _, op := range segment.Ops {
				if op.LatencyUS < 0 {
					return fmt.Errorf("compare latencies of %s: segment %s of pair %d has an op of %d µs; its clocks disagree", s.Name, side, i+1, op.LatencyUS)
				}
			}
		}
	}
	if other := len(s.Pairs) - bFirst; other-bFirst > 1 || bFirst-other > 1 {
		return fmt.Errorf("compare latencies of %s: B came first in %d of %d pairs; record them in the order A B B A", s.Name, bFirst, len(s.Pairs))
	}
	return nil
}

// measured is a comparison before it is judged among the others.
type measured struct {
	Comparison
	estimate  estimate
	effect    float64 // on the scale of the test
	worse     float64
	ratio     bool // the scale is logarithmic
	supported bool
}

// measure works out all statistics of a series.
func (s Series) measure(o Options) []measured {
	n := len(s.Pairs)
	var segments sides[[]Segment]
	for _, p := range s.Pairs {
		segments.a, segments.b = append(segments.a, p.A), append(segments.b, p.B)
	}
	counts := sides[*counted]{count(segments.a), count(segments.b)}
	all := make([]measured, len(o.Statistics))
	statistics := make([]pooled, len(o.Statistics))
	for i, statistic := range o.Statistics {
		m := &all[i]
		m.Series, m.Statistic, m.Optional, m.Pairs = s.Name, statistic.String(), statistic.Optional, n
		m.SamplesA, m.SamplesB = samples(segments.a), samples(segments.b)
		m.Effect = decimal(statistic.Effect)
		m.estimate = estimate{df: float64(n - 1), leastP: leastP(n)}
		switch statistic.Kind {
		case Quantile:
			statistics[i] = m.quantile(segments, counts, float64(statistic.Permille)/1000, statistic.Effect)
		case Throughput:
			statistics[i] = m.throughput(segments, statistic.Effect)
		case BadShare:
			statistics[i] = m.badShare(segments, statistic.Effect)
		}
	}
	if n < 2 {
		for i := range all {
			all[i].supported, all[i].Why = false, fmt.Sprintf("%d pairs; at least 2 are needed for an interval", n)
		}
		return all
	}
	for i, values := range resample(statistics, n, o.Resamples, o.Seed) {
		m := &all[i]
		value, ok := statistics[i].scale(ones(n))
		pairs := standardError(values, n)
		if !ok || math.IsNaN(pairs) {
			m.supported = false
		}
		if !m.supported {
			continue
		}
		m.SEPairs, m.SEWithin = decimal(pairs), decimal(m.estimate.se)
		m.estimate.value, m.estimate.se = value, max(pairs, m.estimate.se)
		if q, ok := statistics[i].(quantileRatio); ok {
			e := &m.estimate
			e.low, e.high = q.exceedanceInterval(value, o.Confidence)
			beyond := (e.high - e.low) / 2 / distribution.StudentQuantile((1-o.Confidence)/2, e.df)
			m.SEBeyond = decimal(beyond)
			e.se = max(e.se, beyond)
			e.otherP = distribution.StudentTwoSided(q.exceedance(0), e.df)
		}
	}
	return all
}

func samples(segments []Segment) int64 {
	n := 0
	for _, s := range segments {
		n += len(s.Ops)
	}
	return int64(n)
}

// quantile sets the standard error from within segments: that of the share of
// ops beyond the quantile, turned into one of the quantile by asking for the
// quantiles a standard error to either side (R. S. Woodruff, Confidence
// intervals for medians and other position measures, 1952).
func (m *measured) quantile(segments sides[[]Segment], counts sides[*counted], share, effect float64) pooled {
	m.ratio, m.worse, m.effect, m.supported = true, 1, math.Log1p(effect), true
	beyond, variance := math.Inf(1), 0.0
	all := ones(m.Pairs)
	side := func(segments []Segment, c *counted) *results.Decimal {
		q := c.quantile(share, all)
		if math.IsNaN(q) {
			beyond = 0
			return nil
		}
		beyondQ := make([]marks, len(segments))
		for i, s := range segments {
			beyondQ[i] = marksOf(len(s.Ops), func(k int) bool { return float64(s.Ops[k].LatencyUS) >= q })
		}
		block := blockLength(beyondQ)
		m.BlockOps = max(m.BlockOps, int64(block))
		v := blockVariance(beyondQ, block)
		if v > 0 {
			beyond = min(beyond, min(share, 1-share)*min(float64(samples(segments)), share*(1-share)/v))
		} else { // all alike
			beyond = min(beyond, min(share, 1-share)*float64(samples(segments)))
		}
		se := math.Sqrt(v)
		if d, ok := logRatio(c.quantile(share-se, all), c.quantile(share+se, all)); ok {
			variance += d * d / 4
		}
		return decimal(q)
	}
	m.A, m.B = side(segments.a, counts.a), side(segments.b, counts.b)
	m.Beyond, m.estimate.se = int64(beyond), math.Sqrt(variance)
	if beyond < LeastBeyond {
		m.supported = false
		m.Why = fmt.Sprintf("%d independent ops beyond the quantile; %d are needed: measure longer", m.Beyond, LeastBeyond)
	}
	return quantileRatio{counts, share}
}

// throughput has no error from within segments: how many ops come is the
// schedule's doing.
func (m *measured) throughput(segments sides[[]Segment], effect float64) pooled {
	m.ratio, m.worse, m.effect, m.supported = true, -1, math.Log1p(effect), true
	side := func(segments []Segment) tally {
		var t tally
		for _, s := range segments {
			t.hits = append(t.hits, float64(len(s.Ops)-badMarks(s).set))
			t.of = append(t.of, float64(s.DurationUS)/1e6)
		}
		return t
	}
	r := rateRatio{sides[tally]{side(segments.a), side(segments.b)}}
	m.A, m.B = decimal(r.a.rate(ones(m.Pairs), 0)), decimal(r.b.rate(ones(m.Pairs), 0))
	if m.SamplesA == 0 {
		m.supported, m.Why = false, "the base has no ops"
	}
	return r
}

// badShare has an error from within segments even where no op is bad: that of a
// share with one bad op more. Two sides without any then leave room for about
// three bad ops in all, which is the rule of three.
func (m *measured) badShare(segments sides[[]Segment], effect float64) pooled {
	m.worse, m.effect, m.supported = 1, effect, true
	variance := 0.0
	side := func(segments []Segment) tally {
		var (
			t    tally
			bad  []marks
			hits float64
		)
		for _, s := range segments {
			marked := badMarks(s)
			bad = append(bad, marked)
			t.hits = append(t.hits, float64(marked.set))
			t.of = append(t.of, float64(len(s.Ops)))
			hits += float64(marked.set)
		}
		block := blockLength(bad)
		m.BlockOps = max(m.BlockOps, int64(block))
		n := float64(samples(segments))
		share := (hits + 1) / (n + 2)
		variance += max(blockVariance(bad, block), share*(1-share)/max(1, n))
		return t
	}
	d := shareDifference{sides[tally]{side(segments.a), side(segments.b)}}
	m.A, m.B = decimal(d.a.rate(ones(m.Pairs), 0)), decimal(d.b.rate(ones(m.Pairs), 0))
	m.estimate.se = math.Sqrt(variance)
	if least := min(m.SamplesA, m.SamplesB); least == 0 {
		m.supported, m.Why = false, "one side has no ops"
	}
	return d
}

func badMarks(s Segment) marks {
	return marksOf(len(s.Ops), func(i int) bool { return s.Ops[i].Bad })
}

// conclude judges all comparisons, each in the knowledge of how many there are.
func conclude(all []measured, o Options) []Comparison {
	var p []float64
	for _, m := range all {
		if m.supported {
			p = append(p, m.estimate.p())
		}
	}
	adjusted := holm(p)
	level := o.Alpha / float64(max(1, len(p))) // the strictest that Holm asks for
	comparisons := []Comparison{}
	next := 0
	for _, m := range all {
		m.Verdict = Inconclusive
		if m.supported {
			m.conclude(p[next], adjusted[next], level, o)
			next++
		} else if m.Why == "" {
			m.Why = "one side has no value"
		}
		comparisons = append(comparisons, m.Comparison)
	}
	return comparisons
}

func (m *measured) conclude(p, adjusted, level float64, o Options) {
	low, high := m.estimate.interval(o.Confidence)
	m.P, m.PAdjusted = decimal(p), decimal(adjusted)
	m.Change, m.Low, m.High = decimal(m.shown(m.estimate.value)), decimal(m.shown(low)), decimal(m.shown(high))
	worst := func(power float64) *results.Decimal {
		if least := m.estimate.detectable(level, m.effect, power); !math.IsInf(least, 0) {
			return decimal(m.shown(m.worse * least))
		}
		return nil
	}
	m.MDE80, m.MDE95 = worst(0.80), worst(0.95)
	significant := adjusted <= o.Alpha
	m.Verdict = judge(m.estimate.value, low, high, m.effect, significant, m.worse)
	if m.Verdict != Inconclusive {
		return
	}
	switch {
	case m.estimate.leastP > level:
		m.Why = fmt.Sprintf("%d pairs can find nothing at this level; take %d or more", m.Pairs, int(math.Ceil(1-math.Log2(level))))
	case significant:
		m.Why = "there is a difference, but whether it is as large as the stated effect cannot be told; measure longer"
	default:
		m.Why = "a difference as large as the stated effect can neither be shown nor ruled out; measure longer"
	}
}

// shown turns a value of the test's scale into a change.
func (m *measured) shown(v float64) float64 {
	if m.ratio {
		return math.Expm1(v)
	}
	return v
}
