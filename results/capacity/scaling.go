package capacity

import (
	"math"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/usl"
)

// Point is what a search that is over says of the scalability law: the middle, in ratios,
// of what was met and what was missed, and how far that may be from the capacity.
func (f *Found) Point(nodes int) usl.Point {
	low, high := float64(f.MetPerDay), float64(f.MissedPerDay)
	middle := math.Round(math.Sqrt(low * high))
	return usl.Point{N: float64(nodes), X: middle, Within: high/middle - 1}
}

// fitScaling fits the Universal Scalability Law to the capacities that a search and its
// variants found, healthy, against the number of nodes of a role. What ended at the other
// role's processors says nothing of this one, and is left out; so is a search that is not
// over, or missed nothing: what it met is less than it can do. why says, in words, why
// there is no law, "" if there is one or nothing to fit.
func fitScaling(base *Result, variants []*Result, role topology.Role) (law scaling, why string) {
	var points []usl.Point
	varied := false
	for i, r := range append([]*Result{base}, variants...) {
		if !base.scales(r, role) {
			continue
		}
		varied = varied || i > 0 && r.count(role) != base.count(role)
		points = append(points, r.Find(Healthy).Point(r.count(role)))
	}
	if !varied {
		return nil, ""
	}
	m, err := usl.Fit(points, usl.DefaultOptions(base.Search.Seed))
	if err != nil {
		return nil, err.Error()
	}
	return func(n float64) (x, low, high float64, extrapolated bool, err error) {
		p, err := m.Predict(n)
		return p.X, p.Low, p.High, p.Extrapolated, err
	}, ""
}

// scales says whether what another search met, healthy, says how the rate grows with the
// number of nodes of a role.
func (r *Result) scales(other *Result, role topology.Role) bool {
	rest := topology.SQL
	if role == topology.SQL {
		rest = topology.Data
	}
	f := other.Find(Healthy)
	return f != nil && f.Between() && other.Verdict == "" && other.count(rest) == r.count(rest) && f.Limit.Resource != cpuOf(rest) && !f.Limit.Outside()
}
