package routing

import (
	"slices"
	"strings"
)

// MaxHops is how many redirections may lead to an address: as many ancestors as
// Exim lets an address have (route_address in src/route.c).
const MaxHops = 100

// Decide is the decision model: what [Router] answers for an address in lower
// case. own is the row of the address, nil if it has none. domain is that of
// DomainOf(address), nil if the domain is not ours; it counts only without own.
func Decide(address string, own, domain *Row) Answer {
	switch {
	case own != nil:
		return decideOwn(own)
	case domain != nil && domain.Kind == Domain:
		return decideByDomain(address, domain)
	default:
		return Answer{Verdict: Foreign}
	}
}

func decideOwn(row *Row) Answer {
	if v := inState(row.State); v != NoAnswer {
		return Answer{Verdict: v, Greylist: !row.NoGreylist}
	}
	a := Answer{Greylist: !row.NoGreylist}
	switch {
	case row.Kind == Mailbox && len(row.Targets) == 0:
		a.Verdict, a.Backend, a.SpamThreshold = Local, row.Backend, row.Threshold()
	case row.Kind == Mailbox && row.KeepCopy:
		a.Verdict, a.Targets, a.KeepCopy = Redirect, row.Targets, true
		a.Backend, a.SpamThreshold = row.Backend, row.Threshold()
	case row.Kind == Domain || len(row.Targets) == 0: // Validate lets none be stored
		return Answer{Verdict: Unknown}
	default:
		a.Verdict, a.Targets = Redirect, row.Targets
	}
	return a
}

// decideByDomain answers for an address without a row. The domain's state is
// that of all these.
func decideByDomain(address string, domain *Row) Answer {
	if v := inState(domain.State); v != NoAnswer {
		return Answer{Verdict: v, Greylist: !domain.NoGreylist}
	}
	if len(domain.Targets) == 0 {
		return Answer{Verdict: Unknown}
	}
	target := domain.Targets[0]
	if strings.HasPrefix(target, "@") {
		target = address[:strings.LastIndexByte(address, '@')] + target
		if len(target) > MaxAddress { // nobody has such an address
			return Answer{Verdict: Unknown}
		}
	}
	return Answer{Verdict: Redirect, Targets: []string{target}, Greylist: !domain.NoGreylist}
}

func inState(s State) Verdict {
	switch s {
	case StateSuspended:
		return Suspended
	case StateClosed:
		return Closed
	case StateMoving:
		return Moving
	default:
		return NoAnswer
	}
}

// Delivery is mail that reaches a mailbox.
type Delivery struct {
	Address       string
	Backend       string
	SpamThreshold uint8
}

// Failure is an address that mail does not get beyond, and why: Unknown,
// Suspended, Closed, Moving (for a while), Loop or TooDeep, and Foreign for the
// address that was asked for.
type Failure struct {
	Address string
	Why     Verdict
}

// Resolution is everything that becomes of mail for one address, each address
// once in each list, those that fewer redirections lead to first.
type Resolution struct {
	Deliveries []Delivery
	Foreign    []string // addresses of other people's domains that mail is forwarded to
	Failures   []Failure
}

// Resolve follows an address, lower-cased as Route does, through aliases,
// lists, forwards and domains to its end. lookup gives the row of an address,
// or of "@domain". Resolve asks it for each address once at most, and ends
// whatever it says as long as the rows are finitely many.
//
// An address that leads back to itself is a Loop failure; what it delivers on
// the way is delivered all the same.
func Resolve(address string, lookup func(address string) (Row, bool)) Resolution {
	address = string(lower(address))
	var (
		r     Resolution
		seen  = map[string]bool{address: true}
		edges = map[string][]string{}
		order []string // of those that redirect
	)
	// Level by level, so that an address counts at its fewest redirections,
	// whatever the order of targets.
	for hops, level := 0, []string{address}; len(level) > 0; hops++ {
		var next []string
		for _, a := range level {
			if hops > MaxHops {
				r.Failures = append(r.Failures, Failure{a, TooDeep})
				continue
			}
			answer := step(a, lookup)
			switch answer.Verdict {
			case Local:
			case Redirect:
				edges[a], order = answer.Targets, append(order, a)
				for _, t := range answer.Targets {
					if !seen[t] {
						seen[t] = true
						next = append(next, t)
					}
				}
			case Foreign:
				if hops > 0 {
					r.Foreign = append(r.Foreign, a)
					continue
				}
				fallthrough
			default:
				r.Failures = append(r.Failures, Failure{a, answer.Verdict})
			}
			if answer.Backend != "" {
				r.Deliveries = append(r.Deliveries, Delivery{a, answer.Backend, answer.SpamThreshold})
			}
		}
		level = next
	}
	for _, a := range order {
		if reaches(a, edges) {
			r.Failures = append(r.Failures, Failure{a, Loop})
		}
	}
	return r
}

// step asks as a Router does.
func step(address string, lookup func(string) (Row, bool)) Answer {
	if row, ok := lookup(address); ok {
		return Decide(address, &row, nil)
	}
	if row, ok := lookup(DomainOf(address)); ok {
		return Decide(address, nil, &row)
	}
	return Decide(address, nil, nil)
}

// reaches says whether edges lead from a back to a.
func reaches(a string, edges map[string][]string) bool {
	seen := map[string]bool{}
	for open := slices.Clone(edges[a]); len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if at == a {
			return true
		}
		if !seen[at] {
			seen[at] = true
			open = append(open, edges[at]...)
		}
	}
	return false
}
