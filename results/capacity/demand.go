package capacity

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// loaded is a step at which the objectives were met. Nothing piles up then: as many
// messages leave as come, which the service demand law asks for.
type loaded struct {
	number int
	perDay int64
	rate   float64            // messages a second that came
	busy   map[string]float64 // share of its quota that each node used
}

// loads are the met steps of a regime from which a demand may be taken.
func (r *Result) loads(f *Found) []loaded {
	settle := time.Duration(r.Search.Settings.SettleUS) * time.Microsecond
	var all []loaded
	for _, s := range f.Steps {
		from, to := s.judged(settle)
		if s.Outcome != Met || s.PerDay > f.MetPerDay || s.Offered <= 0 || to <= from || len(s.CPUPPM) == 0 {
			continue
		}
		l := loaded{number: s.Number, perDay: s.PerDay, rate: float64(s.Offered) / (to - from).Seconds(), busy: map[string]float64{}}
		for node, ppm := range s.CPUPPM {
			l.busy[node] = float64(ppm) / million
		}
		all = append(all, l)
	}
	return all
}

// lost are the nodes that are dead in a regime of one node, or host, short.
func (r *Result) lost(regime Regime) (map[string]bool, bool) {
	target, ok := strings.CutPrefix(string(regime), string(Short)+":")
	if !ok {
		return nil, false
	}
	nodes, err := r.Topology.Select(target)
	if err != nil {
		return nil, false
	}
	dead := map[string]bool{}
	for _, n := range nodes {
		dead[n.Name] = true
	}
	return dead, true
}

// names are those of the nodes of a role that are alive.
func (r *Result) names(role topology.Role, dead map[string]bool) []string {
	var names []string
	for _, n := range r.Topology.ByRole(role) {
		if !dead[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}

// busiest is the share of its quota that the busiest of some nodes used; 0 if none
// was measured.
func (l loaded) busiest(nodes []string) float64 {
	most := 0.0
	for _, n := range nodes {
		most = max(most, l.busy[n])
	}
	return most
}

// atMet is the mean of that over the steps at the highest rate that was met.
func atMet(loads []loaded, nodes []string) (busy float64) {
	highest, count := int64(0), 0.0
	for _, l := range loads {
		highest = max(highest, l.perDay)
	}
	for _, l := range loads {
		if l.perDay == highest {
			busy += l.busiest(nodes)
			count++
		}
	}
	if count == 0 {
		return 0
	}
	return busy / count
}

// slope is the service demand D of D = U/X (P. J. Denning and J. P. Buzen, The
// Operational Analysis of Queueing Network Models, Computing Surveys 10, 1978; E. D.
// Lazowska et al., Quantitative System Performance, 1984, section 3.3), in seconds of a
// node's quota a message, as the line of least squares through the origin has it: what a
// node does without load is in it, as it is at the high rates, which weigh most.
func slope(loads []loaded, busy func(loaded) float64) float64 {
	product, squares := 0.0, 0.0
	for _, l := range loads {
		product += l.rate * busy(l)
		squares += l.rate * l.rate
	}
	if squares == 0 {
		return 0
	}
	return product / squares
}

// sqlDemand is what a message costs the SQL node that its MTA asks, and what the
// webmail sessions that come with it cost the one that their machine asks, in seconds
// of a node's quota. Where every node gets as much of both, nobody can tell them apart
// and need not: all is the message's.
type sqlDemand struct{ message, sessions float64 }

func (d sqlDemand) of(s share) float64 { return d.message*s.messages + d.sessions*s.sessions }

// fitSQL finds both by least squares over nodes and steps, neither below 0.
func fitSQL(loads []loaded, clients []Client, nodes []string) sqlDemand {
	var mm, mw, ww, my, wy float64
	got := shares(clients, nil)
	for _, l := range loads {
		for _, n := range nodes {
			busy, measured := l.busy[n]
			if !measured {
				continue
			}
			m, w := l.rate*got[n].messages, l.rate*got[n].sessions
			mm, mw, ww = mm+m*m, mw+m*w, ww+w*w
			my, wy = my+m*busy, wy+w*busy
		}
	}
	if mm == 0 {
		return sqlDemand{}
	}
	if det := mm*ww - mw*mw; det > 1e-9*mm*ww {
		d := sqlDemand{(my*ww - wy*mw) / det, (wy*mm - my*mw) / det}
		switch {
		case d.message < 0:
			return sqlDemand{0, wy / ww}
		case d.sessions >= 0:
			return d
		}
	}
	return sqlDemand{message: my / mm}
}

// factor is how much busier the survivors of a loss were than the demands of the
// healthy system say, by least squares over nodes and steps; 0 if nothing was measured.
func (d sqlDemand) factor(loads []loaded, clients []Client, dead map[string]bool) float64 {
	product, squares := 0.0, 0.0
	got := shares(clients, dead)
	for _, l := range loads {
		for _, n := range slices.Sorted(maps.Keys(got)) {
			if busy, measured := l.busy[n]; measured {
				said := l.rate * d.of(got[n])
				product, squares = product+said*busy, squares+said*said
			}
		}
	}
	if squares == 0 {
		return 0
	}
	return product / squares
}

// worst is the demand on the node that gets most; with oneDead, after the death of
// whichever node makes that worst.
func (d sqlDemand) worst(clients []Client, oneDead bool) float64 {
	most := 0.0
	over := func(dead map[string]bool) {
		for _, s := range shares(clients, dead) {
			most = max(most, d.of(s))
		}
	}
	if !oneDead {
		over(nil)
		return most
	}
	for node := range shares(clients, nil) {
		over(map[string]bool{node: true})
	}
	return most
}
