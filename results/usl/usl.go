package usl

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Point is one measurement: the mean throughput X, in any unit that all points
// share, at N. Repetitions are points of their own.
type Point struct {
	N float64 `json:"n"`
	X float64 `json:"x"`
	// Within is how far from X the mean may be, as a share of it; 0 where nobody
	// tells. The law need not be nearer to the point, but for MostWithin.
	Within float64 `json:"within,omitempty"`
}

// tolerance is how far from the law, as a share of it, the point may lie.
func (p Point) tolerance(o Options) float64 { return max(o.MaxResidual, min(p.Within, MostWithin)) }

// Bounds of what is fitted.
const (
	MaxPoints    = 1000
	FewestLevels = 3 // of N; with one more kappa can be told, too
	LeastSpan    = 2 // largest N / smallest N

	// MostWithin is from how uncertain a point tells nothing of a law: it would hold
	// for a third more, or less.
	MostWithin = 1.0 / 3

	// level is how much larger a value of N must be than the first of the level
	// below. Concurrency is measured, and repetitions of a load differ a little.
	level = 1.05

	leastN, mostN = 1e-6, 1e9
	leastX, mostX = 1e-9, 1e15
)

// Options of a fit.
type Options struct {
	Seed       uint64  `json:"seed"`
	Resamples  int     `json:"resamples"`  // up to 20000; at least 10/(1-Confidence)
	Confidence float64 `json:"confidence"` // of all intervals, 0.5 to 0.999

	// MaxResidual is the largest |X/law - 1| of a point with which the law is said
	// to hold, above 0 and up to 0.5; a point may allow more (Point.Within).
	MaxResidual float64 `json:"max_residual"`
	// Reach is how many times the largest N predictions go up to, and what part of
	// the smallest they go down to: 1 to 4.
	Reach float64 `json:"reach"`
}

// DefaultOptions are intervals of 95 %, no point farther than 10 % from the law
// and predictions up to twice the measured range. doc.go says why.
func DefaultOptions(seed uint64) Options {
	return Options{Seed: seed, Resamples: 2000, Confidence: 0.95, MaxResidual: 0.10, Reach: 2}
}

func (o Options) validate() error {
	switch {
	case !(o.Confidence >= 0.5 && o.Confidence <= 0.999):
		return fmt.Errorf("fit the scalability law: confidence is %v; it must lie between 0.5 and 0.999", o.Confidence)
	case o.Resamples > 20000 || float64(o.Resamples)*(1-o.Confidence) < 10-1e-9:
		return fmt.Errorf("fit the scalability law: %d resamples; take %.0f to 20000 for a confidence of %v", o.Resamples, math.Ceil(10/(1-o.Confidence)-1e-9), o.Confidence)
	case !(o.MaxResidual > 0 && o.MaxResidual <= 0.5):
		return fmt.Errorf("fit the scalability law: the largest residual is %v; it must lie above 0 and be 0.5 at most", o.MaxResidual)
	case !(o.Reach >= 1 && o.Reach <= 4):
		return fmt.Errorf("fit the scalability law: predictions reach %v times the measured range; take 1 to 4", o.Reach)
	}
	return nil
}

// Reason is why there is no model or no prediction.
type Reason string

// The reasons.
const (
	BadPoint   Reason = "bad_point"    // not a measurement
	TooFew     Reason = "too_few"      // the points cannot tell the parameters
	PoorFit    Reason = "poor_fit"     // the law does not hold for these points
	OutOfRange Reason = "out_of_range" // too far from what was measured
	NoDraws    Reason = "no_draws"     // the model was not made by Fit
)

// RefusedError says why there is no number, and what to do.
type RefusedError struct {
	Reason Reason
	What   string
}

func (e *RefusedError) Error() string { return "scalability law: " + e.What }

func refuse(r Reason, format string, args ...any) error {
	return &RefusedError{r, fmt.Sprintf(format, args...)}
}

// Estimate is a number and its interval.
//
// Numbers of estimates and predictions have six significant digits, more than
// points can tell, so that machines that round the last bit differently write the
// same bytes.
type Estimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Model is the law, fitted. All its numbers are finite.
type Model struct {
	Lambda Estimate `json:"lambda"` // throughput at N = 1, in the unit of X
	Sigma  Estimate `json:"sigma"`  // 0 to 1
	Kappa  Estimate `json:"kappa"`  // 0 or more
	// KappaFixed says that three levels of N cannot tell kappa, which is held at 0.
	// Its interval says what the points would allow, and so do all the others.
	KappaFixed bool `json:"kappa_fixed"`

	// From and To are the measured range of N.
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Residual is the largest |X/law - 1| of a point, and ResidualN its N.
	Residual  float64 `json:"residual"`
	ResidualN float64 `json:"residual_n"`

	// Peak is null, and NoPeak says why, where no peak of throughput was found
	// inside the measured range.
	Peak   *Peak  `json:"peak"`
	NoPeak string `json:"no_peak,omitempty"`

	// Points and Options are those of the fit, the points ordered by N.
	Points  []Point `json:"points"`
	Options Options `json:"options"`

	law   law
	draws [][]law // by the terms allowed; the first has them all
}

// Peak is where throughput is highest: N* = sqrt((1-sigma)/kappa) (Gunther 2007,
// equation 4.33). N counts whole nodes or ops only by accident.
type Peak struct {
	N Estimate `json:"n"`
	X Estimate `json:"x"`
}

// Prediction is the law's X at N. Low and High hold the mean that the law stands
// for; a new measurement scatters around that.
type Prediction struct {
	N    float64 `json:"n"`
	X    float64 `json:"x"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Extrapolated is set outside the measured range.
	Extrapolated bool `json:"extrapolated"`
}

// Fit fits the law to points, in any order. It returns a *RefusedError where the
// points do not bear a fit or the law does not hold for them.
func Fit(points []Point, o Options) (*Model, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b Point) int { return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(a.X, b.X)) })
	levels, err := check(points)
	if err != nil {
		return nil, err
	}

	m := &Model{Points: points, Options: o, From: points[0].N, To: points[len(points)-1].N}
	allowed := allTerms
	if levels == FewestLevels {
		allowed, m.KappaFixed = withoutC, true
	}
	d := design{square: m.From < 1}
	var y []float64
	for _, p := range points {
		d.n = append(d.n, p.N)
		y = append(y, p.N/p.X)
	}
	m.law = d.fit(y, allowed)
	worst, excess := 0, 0.0 // the point that is farthest by what it allows
	for i, p := range points {
		r := math.Abs(p.X/m.law.throughput(p.N) - 1)
		if r > m.Residual {
			m.Residual, m.ResidualN = r, p.N
		}
		if by := r / p.tolerance(o); by > excess {
			worst, excess = i, by
		}
	}
	if excess > 1 {
		held := ""
		if m.KappaFixed {
			held = ", with kappa held at 0 for want of a fourth level of N"
		}
		within := points[worst].tolerance(o)
		return nil, refuse(PoorFit, "the law does not hold%s: the point at N = %s lies %.1f %% from it, more than %.1f %%; look for a limit that is not the system's own, or measure again",
			held, short(points[worst].N), 100*excess*within, 100*within)
	}

	m.draws = d.draws(y, allowed, o)
	m.Lambda, m.Sigma, m.Kappa = m.estimate(law.lambda), m.estimate(law.sigma), m.estimate(law.kappa)
	m.findPeak()
	m.Residual = rounded(m.Residual)
	return m, nil
}

// check returns how many levels of N the points, in order, have.
func check(points []Point) (levels int, err error) {
	if len(points) > MaxPoints {
		return 0, refuse(BadPoint, "%d points; %d at most", len(points), MaxPoints)
	}
	first := 0.0
	for _, p := range points {
		switch {
		case !(p.N >= leastN && p.N <= mostN):
			return 0, refuse(BadPoint, "a point has N = %v, X = %v; N must lie between %v and %v", p.N, p.X, leastN, mostN)
		case !(p.X >= leastX && p.X <= mostX):
			return 0, refuse(BadPoint, "the point at N = %v has X = %v; X must lie between %v and %v", p.N, p.X, leastX, mostX)
		case !(p.Within >= 0):
			return 0, refuse(BadPoint, "the point at N = %v is known within %v of its X; that must be 0 or more", p.N, p.Within)
		case p.N > first*level:
			first = p.N
			levels++
		}
	}
	if levels < FewestLevels {
		return 0, refuse(TooFew, "%d levels of N are measured and two parameters take %d, all three %d; measure at other N, more than %.0f %% apart", levels, FewestLevels, FewestLevels+1, 100*(level-1))
	}
	if from, to := points[0].N, points[len(points)-1].N; to < LeastSpan*from {
		return 0, refuse(TooFew, "N is measured from %s to %s, too close together to tell the parameters apart; measure up to %s or more", short(from), short(to), short(LeastSpan*from))
	}
	return levels, nil
}

// Predict returns the law's throughput at n. It returns a *RefusedError if n is
// farther outside the measured range than Options.Reach allows.
func (m *Model) Predict(n float64) (Prediction, error) {
	if len(m.draws) == 0 {
		return Prediction{}, refuse(NoDraws, "predict at N = %v: the model was read and not fitted; fit its points with its options", n)
	}
	low, high := m.From/m.Options.Reach, m.To*m.Options.Reach
	if !(n >= low && n <= high) {
		return Prediction{}, refuse(OutOfRange, "predict at N = %v: N was measured from %s to %s, which bears predictions from %s to %s; measure closer to it",
			n, short(m.From), short(m.To), short(low), short(high))
	}
	e := m.estimate(func(l law) float64 { return l.throughput(n) })
	return Prediction{N: n, X: e.Value, Low: e.Low, High: e.High, Extrapolated: n < m.From || n > m.To}, nil
}

// findPeak tells a peak only if kappa is above 0 and the peak within the measured
// range with the stated confidence.
func (m *Model) findPeak() {
	n := m.estimate(law.peak)
	switch {
	case m.KappaFixed:
		m.NoPeak = "no peak inside the measured range is known: three levels of N do not tell kappa"
	case m.Kappa.Low == 0:
		m.NoPeak = "no peak inside the measured range: kappa may be 0"
	case n.High > m.To:
		m.NoPeak = fmt.Sprintf("no peak inside the measured range: it may lie beyond N = %s", short(m.To))
	case n.Low < m.From:
		m.NoPeak = fmt.Sprintf("no peak inside the measured range: throughput may fall from N = %s on", short(m.From))
	default:
		highest := func(l law) float64 { return l.throughput(min(max(l.peak(), m.From), m.To)) }
		m.Peak = &Peak{N: n, X: m.estimate(highest)}
	}
}

func rounded(x float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 5, 64), 64)
	if err != nil { // beyond the largest number
		return x
	}
	return r
}

func short(x float64) string { return strconv.FormatFloat(x, 'g', 6, 64) }
