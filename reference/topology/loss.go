package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Loss is what NDB makes of nodes that are lost at one time.
type Loss struct {
	// Group is the first node group that has no survivor, -1 if each has one.
	Group int
	// Half says that exactly half of the data nodes that were alive are left and
	// that every node group lost somebody: the arbitrator decides.
	Half bool
	// Minority says that fewer than half are left and every group lost somebody.
	Minority bool
	// Arbitrator says whether a management node is left to decide.
	Arbitrator bool
	// NoSQL says that no SQL node is left.
	NoSQL bool
	// Fallen are the data nodes that shut down although they were not lost
	// themselves: all that were left, or none.
	Fallen []Node
}

// Lost applies NDB's rules to a cluster in which the nodes of gone were lost
// some time ago and those of now are lost together. After a failure the
// survivors go on if every node group has one of them and some group lost
// nobody in this failure; otherwise if they are more than half of the data
// nodes that were alive just before; exactly half needs the arbitrator, which
// is a management node as long as no other node has an ArbitrationRank
// (storage/ndb/src/kernel/blocks/dbdih/DbdihMain.cpp, execCHECKNODEGROUPSREQ;
// qmgr/QmgrMain.cpp, handleArbitCheck).
func Lost(t Topology, gone, now []ID) Loss {
	isGone := func(n Node) bool { return slices.Contains(gone, n.ID) }
	isLost := func(n Node) bool { return isGone(n) || slices.Contains(now, n.ID) }
	left := func(role Role) []Node { return slices.DeleteFunc(t.ByRole(role), isLost) }

	l := Loss{Group: -1, Arbitrator: len(left(Management)) > 0, NoSQL: len(left(SQL)) == 0}
	alive := slices.DeleteFunc(t.ByRole(Data), isGone)
	survivors := left(Data)
	if len(survivors) == len(alive) {
		return l // no data node was lost now
	}
	before, after := perGroup(alive), perGroup(survivors)
	spared := false
	for _, n := range t.ByRole(Data) {
		if after[n.Group] == 0 && l.Group < 0 {
			l.Group = n.Group
		}
		spared = spared || after[n.Group] == before[n.Group]
	}
	if l.Group < 0 && !spared {
		l.Half = 2*len(survivors) == len(alive)
		l.Minority = 2*len(survivors) < len(alive)
	}
	if l.dataOutage() {
		l.Fallen = survivors
	}
	return l
}

func perGroup(nodes []Node) map[int]int {
	count := map[int]int{}
	for _, n := range nodes {
		count[n.Group]++
	}
	return count
}

func (l Loss) dataOutage() bool {
	return l.Group >= 0 || l.Minority || l.Half && !l.Arbitrator
}

// NeedsArbitrator says whether the survivors go on only with the consent of the
// arbitrator, which is there.
func (l Loss) NeedsArbitrator() bool { return l.Half && l.Arbitrator }

// Outage says why nobody is served after the loss, "" if somebody is.
func (l Loss) Outage() string {
	switch {
	case l.Group >= 0:
		return fmt.Sprintf("node group %d has no survivor: the whole cluster shuts down", l.Group)
	case l.Minority:
		return "fewer than half of the data nodes are left: they shut down too"
	case l.Half && !l.Arbitrator:
		return "half of the data nodes are left and no management node can arbitrate: they shut down too"
	case l.NoSQL:
		return "no SQL node is left: no client can ask anything"
	default:
		return ""
	}
}

// Select finds the nodes that a target names, in the order of the topology:
// "data1" a node, "host:cyrus1" all nodes of a host, "group:0" those of a node
// group, "role:data" those of a role, "all" every node.
func (t Topology) Select(target string) ([]Node, error) {
	if target == "all" {
		return slices.Clone(t.Nodes), nil
	}
	kind, name, found := strings.Cut(target, ":")
	if !found {
		n, err := t.Node(target)
		if err != nil {
			return nil, err
		}
		return []Node{n}, nil
	}
	var (
		selected []Node
		names    []string // that would have been right
	)
	for _, n := range t.Nodes {
		var is string
		switch kind {
		case "host":
			is = n.Host
		case "group":
			if n.Role != Data {
				continue
			}
			is = fmt.Sprint(n.Group)
		case "role":
			is = string(n.Role)
		default:
			return nil, fmt.Errorf("%q is no target: write the name of a node, host:NAME, group:NUMBER, role:NAME or all", target)
		}
		if is == name {
			selected = append(selected, n)
		}
		if !slices.Contains(names, is) {
			names = append(names, is)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("no %s is called %q; there are %s", kind, name, strings.Join(names, ", "))
	}
	return selected, nil
}
