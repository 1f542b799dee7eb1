package chaos

import (
	"fmt"

	"github.com/mailbench/mailbench/reference"
)

// Capability is something that a target may offer beyond what every target can
// do. It is named as the interface of the package reference that stands for it.
type Capability string

// The capabilities. ClientLinks is the harness's own: connections of clients
// that go through Links.
const (
	Killer      Capability = "Killer"
	Freezer     Capability = "Freezer"
	Stopper     Capability = "Stopper"
	Restarter   Capability = "Restarter"
	Crasher     Capability = "Crasher"
	Emptier     Capability = "Emptier"
	Firewall    Capability = "Firewall"
	Shaper      Capability = "Shaper"
	Limiter     Capability = "Limiter"
	Disk        Capability = "Disk"
	Hog         Capability = "Hog"
	Admin       Capability = "Admin"
	Observer    Capability = "Observer"
	ClientLinks Capability = "ClientLinks"
)

// words say what a target with the capability can do.
func (c Capability) words() string {
	switch c {
	case Killer:
		return "kill a node's process"
	case Freezer:
		return "freeze a node"
	case Stopper:
		return "stop a node in order"
	case Restarter:
		return "restart a node in place"
	case Crasher:
		return "crash a data node's process under its angel"
	case Emptier:
		return "empty a node's disk"
	case Firewall:
		return "drop packets at a host"
	case Shaper:
		return "shape what a host sends"
	case Limiter:
		return "change a node's share of the processors"
	case Disk:
		return "fill the disk of a node"
	case Hog:
		return "run a neighbour beside a node"
	case Admin:
		return "let an administrator into a SQL node"
	case Observer:
		return "tell its master and its events, and take DUMP codes"
	case ClientLinks:
		return "reach into the clients' connections"
	default:
		return string(c)
	}
}

// offered says whether there is what the capability stands for.
func (c Capability) offered(target Target, links *Links) bool {
	var ok bool
	switch c {
	case Killer:
		_, ok = target.(reference.Killer)
	case Freezer:
		_, ok = target.(reference.Freezer)
	case Stopper:
		_, ok = target.(reference.Stopper)
	case Restarter:
		_, ok = target.(reference.Restarter)
	case Crasher:
		_, ok = target.(reference.Crasher)
	case Emptier:
		_, ok = target.(reference.Emptier)
	case Firewall:
		_, ok = target.(reference.Firewall)
	case Shaper:
		_, ok = target.(reference.Shaper)
	case Limiter:
		_, ok = target.(reference.Limiter)
	case Disk:
		_, ok = target.(reference.Disk)
	case Hog:
		_, ok = target.(reference.Hog)
	case Admin:
		_, ok = target.(reference.Admin)
	case Observer:
		_, ok = target.(reference.Observer)
	case ClientLinks:
		ok = links != nil
	}
	return ok
}

// lacks says which capability a kind lacks for the fault's nodes, and why it is of
// no use on one of them; nil if it lacks nothing.
func (s site) lacks(d Description) error {
	choosy, _ := s.target.(reference.Choosy)
	for _, c := range d.Needs {
		if !c.offered(s.target, s.links) {
			return fmt.Errorf("%s needs a target that can %s (%s), and this one cannot", d.Kind, c.words(), c)
		}
		for _, n := range s.p.Nodes {
			if choosy == nil {
				break
			}
			if err := choosy.CheckNode(string(c), n.ID); err != nil {
				return fmt.Errorf("%s of %s needs %s: %w", d.Kind, n.Name, c, err)
			}
		}
	}
	return nil
}

// missing says which capability a fault lacks, and which kind is nearest to it
// of those that lack none; nil if it lacks nothing.
func (s site) missing() error {
	if err := s.lacks(s.d); err != nil {
		return s.nearest(err)
	}
	return nil
}

// nearest adds to err which kind is nearest to the fault's of those that lack
// nothing.
func (s site) nearest(err error) error {
	tried := map[Kind]bool{s.d.Kind: true}
	for next := s.d.Nearest; next != "" && !tried[next]; {
		tried[next] = true
		other, unknown := describe(next)
		if unknown != nil {
			break
		}
		if s.lacks(other) == nil {
			return fmt.Errorf("%w; the nearest fault is %s: %s", err, other.Kind, other.Summary)
		}
		next = other.Nearest
	}
	return fmt.Errorf("%w; no other fault is near but %s, which runs what you write", err, Command)
}
