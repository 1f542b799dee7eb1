package capacity

import (
	"fmt"
	"math"
	"slices"
)

const (
	// stride is the factor between rates while nothing is known on one side.
	stride = 1.5
	// proofs are the steps, more than speak against it, that an edge needs.
	proofs = 2
	// mostTries bounds the steps at one rate that do not agree.
	mostTries = 3
	// mostAtEdge bounds the steps at an edge that remains in doubt: then the next rate
	// outwards is to be one. Where steps contradict each other it is sooner: the noise is
	// large, and more steps at the same rate would tell little.
	mostAtEdge, mostAtNoisyEdge = 5, 3
	// mostVoids is how many steps in a row may come to nothing before a search gives up.
	mostVoids = 3
	// mostLate is how many steps in a row end a search for which the generator was late:
	// one may be of something else that ran on the machine.
	mostLate = 2
)

// generatorLimit begins the reason of a search that the generator ended.
const generatorLimit = "the generator was the limit"

// Tried is one step of a search's history.
type Tried struct {
	PerDay  int64
	Outcome Outcome
	Leaning Outcome // where Outcome is Open, Met or Missed: what is more likely; "" counts as Missed
}

// Next is the rate to try after those that were tried, in their order; no more if the
// search is over or has come to its end otherwise: Bracket says which. It is a function
// of the history, so that a search that was interrupted goes on where it was.
//
// Rates are on a grid: StartPerDay times powers of 1+resolution, between LowestPerDay and
// HighestPerDay, to five digits. Two searches from one start meet on the same rates. Next
// goes up by half from the start until a rate is missed, or down until one is met, and
// halves what is between. What it then knows of both edges it confirms by a second step
// at each. Steps that contradict each other (at one rate, or a rate met above one that
// was missed) are repeated up to four times at a rate; until one side outweighs the
// other by two, the rate is in doubt, and lies between the edges. A step that stayed open
// says where to go on, and proves nothing.
func Next(s Settings, tried []Tried) (perDay int64, more bool) {
	h := newHistory(s, tried)
	if h.ended() != "" {
		return 0, false
	}
	k, more := h.next()
	if !more {
		return 0, false
	}
	return h.grid.at(k), true
}

// Bracket is what is known from the steps that were tried: the highest rate that was
// met, with none at or below it that was missed, and the lowest that was missed, with
// none at or above it that was met; 0 for none. done says that the search is over, its
// edges confirmed; why says what keeps it from being so, or from having two edges, in
// words, and is "" if there is nothing to say.
func Bracket(s Settings, tried []Tried) (met, missed int64, why string, done bool) {
	h := newHistory(s, tried)
	lower, upper := h.edges(1)
	ended := h.ended()
	if ended == "" {
		if _, more := h.next(); !more {
			lower, upper, _, _ = h.settle()
			done = true
		}
	}
	if lower != nil {
		met = h.grid.at(lower.k)
	}
	if upper != nil {
		missed = h.grid.at(upper.k)
	}
	switch {
	case ended != "":
		why = ended
	case !done:
	case lower == nil && upper == nil:
		why = "no step came to a result that another one confirmed; longer steps may"
	case lower == nil:
		why = fmt.Sprintf("the objectives cannot be met at any rate down to the lowest that was tried, %s", perDay(h.grid.at(h.tried[0].k)))
	case upper == nil:
		why = fmt.Sprintf("nothing was missed up to the highest rate that was to be tried, %s", perDay(h.grid.at(h.grid.highest)))
	case upper.k-lower.k > 1:
		why = "steps between the two rates did not agree, or did not come to a result"
	}
	return met, missed, why, done
}

// grid numbers rates.
type grid struct {
	Settings
	lowest, highest int
}

func newGrid(s Settings) grid {
	g := grid{Settings: s}
	g.lowest, g.highest = int(math.Floor(g.position(s.LowestPerDay))), int(math.Ceil(g.position(s.HighestPerDay)))
	// The first of the numbers that come to the bounds.
	for g.lowest < g.highest && g.at(g.lowest+1) <= s.LowestPerDay {
		g.lowest++
	}
	for g.highest > g.lowest && g.at(g.highest-1) >= s.HighestPerDay {
		g.highest--
	}
	return g
}

func (g grid) position(perDay int64) float64 {
	return math.Log(float64(perDay)/float64(g.StartPerDay)) / math.Log1p(float64(g.ResolutionPPM)/million)
}

// at is the rate of a number, to five digits, between lowest and highest.
func (g grid) at(k int) int64 {
	rate := float64(g.StartPerDay) * math.Pow(1+float64(g.ResolutionPPM)/million, float64(k))
	if unit := math.Pow(10, math.Floor(math.Log10(rate))-4); k != 0 && unit > 1 {
		rate = math.Round(rate/unit) * unit
	}
	return min(max(int64(math.Round(rate)), g.LowestPerDay), g.HighestPerDay)
}

// of is the number of a rate that was tried: the nearest.
func (g grid) of(perDay int64) int {
	switch {
	case perDay <= g.LowestPerDay:
		return g.lowest
	case perDay >= g.HighestPerDay:
		return g.highest
	default:
		return min(max(int(math.Round(g.position(perDay))), g.lowest), g.highest)
	}
}

// stride is how many numbers are between two rates while one edge is not known.
func (g grid) stride() int {
	return max(1, int(math.Ceil(math.Log(stride)/math.Log1p(float64(g.ResolutionPPM)/million))))
}

// votes are what the steps at one rate said.
type votes struct {
	k, steps                int
	met, missed             int // proven
	openToMet, openToMissed int
}

// proof is by how many steps one side outweighs the other: above 0 for met.
func (v *votes) proof() int { return v.met - v.missed }

// leaning is where to go on: above 0 for up, 0 if in doubt.
func (v *votes) leaning() int {
	if p := v.proof(); p != 0 || v.met > 0 {
		return p
	}
	return v.openToMet - v.openToMissed
}

// exhausted says that another step would tell no more.
func (v *votes) exhausted() bool {
	return v.steps >= mostTries || v.met+v.missed == 0 && v.steps >= proofs
}

// history is what was tried, by rate.
type history struct {
	grid      grid
	tried     []*votes // by k
	steps     int
	voids     int   // since the last step that came to something
	generator int64 // the last rate at which the generator was late, 0 for none
	late      int   // how often it was, since the last step that came to something
}

func newHistory(s Settings, tried []Tried) *history {
	h := &history{grid: newGrid(s), steps: len(tried)}
	for _, step := range tried {
		switch step.Outcome {
		case Void:
			h.voids++
			continue
		case Generator:
			h.generator = step.PerDay
			h.late++
			continue
		}
		h.voids, h.late = 0, 0
		k := h.grid.of(step.PerDay)
		i, found := slices.BinarySearchFunc(h.tried, k, func(v *votes, k int) int { return v.k - k })
		if !found {
			h.tried = slices.Insert(h.tried, i, &votes{k: k})
		}
		v := h.tried[i]
		v.steps++
		switch {
		case step.Outcome == Met:
			v.met++
		case step.Outcome == Missed:
			v.missed++
		case step.Leaning == Met:
			v.openToMet++
		default:
			v.openToMissed++
		}
	}
	return h
}

// ended says why no step may follow, "" if one may.
func (h *history) ended() string {
	switch {
	case h.late >= mostLate:
		return fmt.Sprintf(generatorLimit+" at %s: of the system it is not known where it ends", perDay(h.generator))
	case h.voids >= mostVoids:
		return fmt.Sprintf("%d steps in a row came to nothing", h.voids)
	case h.steps >= h.grid.MaxSteps:
		if _, more := h.next(); more {
			return fmt.Sprintf("the search ended after %d steps, the most that it may take", h.steps)
		}
	}
	return ""
}

func (h *history) at(k int) *votes {
	i, found := slices.BinarySearchFunc(h.tried, k, func(v *votes, k int) int { return v.k - k })
	if !found {
		return nil
	}
	return h.tried[i]
}

// edges are the highest rate that so many proofs say is met, with none missed at or below it, and
// the lowest that as many say is missed, with none met at or above it; nil for none.
func (h *history) edges(proofs int) (lower, upper *votes) {
	for _, v := range h.tried {
		if v.proof() < 0 {
			break
		}
		if v.proof() >= proofs {
			lower = v
		}
	}
	for _, v := range slices.Backward(h.tried) {
		if v.proof() > 0 {
			break
		}
		if v.proof() <= -proofs {
			upper = v
		}
	}
	return lower, upper
}

// sides are the same by leaning.
func (h *history) sides() (lower, upper *votes) {
	for _, v := range h.tried {
		if v.leaning() < 0 {
			break
		}
		if v.leaning() > 0 {
			lower = v
		}
	}
	for _, v := range slices.Backward(h.tried) {
		if v.leaning() > 0 {
			break
		}
		if v.leaning() < 0 {
			upper = v
		}
	}
	return lower, upper
}

// next is the number of the rate to try.
func (h *history) next() (k int, more bool) {
	if len(h.tried) == 0 {
		return min(max(0, h.grid.lowest), h.grid.highest), true
	}
	lower, upper := h.sides()
	low, high := h.grid.lowest-1, h.grid.highest+1
	if lower != nil {
		low = lower.k
	}
	if upper != nil {
		high = upper.k
	}
	// What contradicts itself or another comes first: all else depends on it.
	var disputed *votes
	for _, v := range h.tried {
		if v.k > low && v.k < high && !v.exhausted() && (disputed == nil || v.steps < disputed.steps) {
			disputed = v
		}
	}
	first, last := h.tried[0], h.tried[len(h.tried)-1]
	switch {
	case disputed != nil:
		return disputed.k, true
	case upper == nil && last.k < h.grid.highest:
		return min(last.k+h.grid.stride(), h.grid.highest), true
	case lower == nil && first.k > h.grid.lowest:
		return max(first.k-h.grid.stride(), h.grid.lowest), true
	}
	if k, found := h.between(low, high); found {
		return k, true
	}
	if k, found := h.unconfirmed(low, high); found {
		return k, true
	}
	_, _, k, more = h.settle()
	return k, more
}

// contradicts says whether steps say of one rate that it was met and missed, or of one that
// it was met and of a lower one that it was missed.
func (h *history) contradicts() bool {
	missed := false
	for _, v := range h.tried {
		missed = missed || v.missed > 0
		if missed && v.met > 0 {
			return true
		}
	}
	return false
}

// settle finds the closest edges between which the capacity is without much doubt
// (outside), and the rate to try if there are none yet; nil for an edge that there
// is not. Edges that have been tried often enough give way to the next ones outwards.
func (h *history) settle() (lower, upper *votes, k int, more bool) {
	most := mostAtEdge
	if h.contradicts() {
		most = mostAtNoisyEdge
	}
	lower, upper = h.edges(proofs)
	for lower != nil && upper != nil {
		below, above := h.outside(lower.k, upper.k)
		if below+above <= doubt {
			break
		}
		edge, out := &lower, -1
		if above > below {
			edge, out = &upper, 1
		}
		if (*edge).steps < most {
			return lower, upper, (*edge).k, true
		}
		next := (*edge).k + out
		for v := h.at(next); v != nil && v.exhausted() && v.proof()*-out < proofs; v = h.at(next) {
			next += out
		}
		if next < h.grid.lowest || next > h.grid.highest {
			break
		}
		v := h.at(next)
		if v == nil || v.proof()*-out < proofs {
			return lower, upper, next, true
		}
		*edge = v
	}
	return lower, upper, 0, false
}

// between is the untried rate nearest to the middle of two.
func (h *history) between(low, high int) (k int, found bool) {
	middle := low + (high-low)/2
	for off := range high - low {
		for _, k := range [...]int{middle - off, middle + off} {
			if k > low && k < high && k >= h.grid.lowest && k <= h.grid.highest && h.at(k) == nil {
				return k, true
			}
		}
	}
	return 0, false
}

// unconfirmed is a rate that has to be tried (again) so that both edges are confirmed: the
// edge itself, or, if it is no proof after all, the next one outwards.
func (h *history) unconfirmed(low, high int) (k int, found bool) {
	for k := low; k >= h.grid.lowest; k-- {
		v := h.at(k)
		if v != nil && v.proof() >= proofs {
			break
		}
		if v == nil || !v.exhausted() {
			return k, true
		}
	}
	for k := high; k <= h.grid.highest; k++ {
		v := h.at(k)
		if v != nil && v.proof() <= -proofs {
			break
		}
		if v == nil || !v.exhausted() {
			return k, true
		}
	}
	return 0, false
}
