package chaos

import (
	"fmt"

	"github.com/mailbench/mailbench/reference/topology"
)

// LinkCut silences SQL nodes for clients, inside the harness: connections stay
// open and nothing comes through, as when a switch between them is lost while
// the database is whole.
//
// Clients wait for as long as their time-outs let them and then ask another SQL
// node. The SQL node goes on, and a transaction that was open keeps its locks
// until TransactionInactiveTimeout or the client's end.
//
// Effect: a client has heard nothing from one of the nodes.
const LinkCut Kind = "link-cut"

func describeLinkCut() Description {
	return Description{
		Kind:     LinkCut,
		Summary:  "a SQL node gone silent for clients, inside the harness",
		Source:   "the package workload, a client's time-outs; chaos.Links",
		Roles:    onSQL(),
		Settings: []Setting{settingClients()},
		Needs:    []Capability{ClientLinks},
		Felt:     true,
		Expect: func(_ topology.Topology, p Planned) string {
			return fmt.Sprintf("%s wait for their time-outs and ask another SQL node than %s; the database notices nothing", clientsOf(p), p.Names())
		},
		// A plan cannot know which clients another SQL node serves: those that are not
		// cut off still reach this one.
		loses: func(t topology.Topology, p Planned) [][]topology.Node {
			if len(p.Settings.Clients) > 0 {
				return [][]topology.Node{nil}
			}
			return losesAll(t, p)
		},
		build: func(s site) Fault { return linked{s, true} },
	}
}
