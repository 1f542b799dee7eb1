package innodb

import (
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// sighting is what one look at a server has shown.
type sighting struct {
	node topology.ID
	at   time.Time // of the look that first showed it up, or down
	up   bool      // it answers
	why  string    // it does not

	writable bool // neither read_only nor super_read_only
	open     bool // to clients: offline_mode is off

	source string // host that it replicates from, "" for none
	// Its threads as SHOW REPLICA STATUS has them: Yes, No or Connecting.
	receiving, applying string
	broken              string // why the applier has stopped
	// semisync: as a source it has a replica that acknowledges what it receives.
	semisync bool

	forgotten bool // what it was before an act is no news
}

// act is something that the steward does to a server.
type act struct {
	do   deed
	node topology.ID
}

// deed is a kind of act.
type deed string

// The deeds. Each may be repeated.
const (
	reopen  deed = "reopen"  // the primary, which was away for less than the patience
	promote deed = "promote" // the replica, in place of the primary
	follow  deed = "follow"  // replicate from the primary
	rebuild deed = "rebuild" // drop all and replicate from the primary's first transaction on
	admit   deed = "admit"   // let clients read from a replica
	shut    deed = "shut"    // let no client read from a replica
)

// decide says what is to be done, as a pure function of what was seen. address
// tells the host of a server, as replication names it. Without an answer of the
// primary nothing is done before it has been silent for the patience. Only a
// replica that is open takes its place: it is open as long as all that the primary
// acknowledged had reached it.
func decide(primary topology.ID, seen []sighting, now time.Time, patience time.Duration, address func(topology.ID) string) []act {
	i := slices.IndexFunc(seen, func(s sighting) bool { return s.node == primary })
	p := seen[i]
	if !p.up {
		if now.Sub(p.at) < patience {
			return nil
		}
		for _, s := range seen {
			if s.node != primary && s.up && s.open {
				return []act{{promote, s.node}}
			}
		}
		return nil
	}
	if !p.writable || !p.open {
		return []act{{reopen, primary}}
	}
	var acts []act
	for _, s := range seen {
		if s.node == primary || !s.up {
			continue
		}
		streams := s.source == address(primary) && s.applying == "Yes"
		switch {
		case s.broken != "":
			acts = append(acts, act{rebuild, s.node})
		case !streams || s.receiving == "No" || s.receiving == "":
			acts = append(acts, act{follow, s.node})
		case s.open && !p.semisync:
			acts = append(acts, act{shut, s.node})
		case !s.open && p.semisync && s.receiving == "Yes":
			acts = append(acts, act{admit, s.node})
		}
	}
	return acts
}
