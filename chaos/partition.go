package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Partition cuts hosts off from others, the peers, while both sides reach
// whoever else there is. It can be one-way: "in" drops what the hosts would hear
// from their peers, "out" what they would say.
//
// Data nodes from data nodes. Each side misses the other's heartbeats after 20
// to 25 s and counts it as failed. Where the sides are halves, the arbitrator
// lets the first go on that asks, which may be either; the other shuts down
// (exit code 2305): no split brain. NDB reckons with complete splits: where some
// data nodes still reach both sides, more nodes may go down than the smaller
// side. Data nodes from the management node: nobody arbitrates, nothing else.
// SQL nodes from data nodes: they are given up after 6 to 7.5 s, and answer
// their clients with MySQL 1296 and NDB 4009.
//
// A one-way cut is a cut: what is sent is not acknowledged, and TCP stalls.
// Hosts that are among their own peers are cut off from the others of them.
//
// Recover mends the network, and starts the data nodes of both sides that have
// ended or then do, as under Isolate.
//
// Effect: the cluster counts a node of either side as failed, or the clients feel
// it.
const Partition Kind = "partition"

func describePartition() Description {
	return Description{
		Kind:     Partition,
		Summary:  "hosts cut off from others, in both directions or one",
		Source:   "DbdihMain.cpp, execCHECKNODEGROUPSREQ; QmgrMain.cpp, handleArbitCheck; MySQL manual, Arbitration",
		Roles:    onAny(),
		Hosts:    true,
		Settings: []Setting{settingPeers().required(), settingDirection()},
		Needs:    []Capability{Firewall},
		Nearest:  Isolate,
		Felt:     true,
		Expect: func(t topology.Topology, p Planned) string {
			return "each side counts the other as failed once heartbeats are missed, a data node after 20 to 25 s; " +
				"of two halves the arbitrator lets one go on and the other shuts down; a SQL node without data nodes answers with errors"
		},
		loses: losesPartition,
		check: checkPeers,
		build: func(s site) Fault {
			// Nodes of the other side may be those that go down.
			for _, n := range nodesOn(s.target.Topology(), s.p.Settings.Peers) {
				if !slices.Contains(s.touched(), n) {
					s.p.Along = append(slices.Clip(s.p.Along), n)
				}
			}
			return partition{s}
		},
	}
}

// checkPeers turns targets into names of hosts.
func checkPeers(t topology.Topology, p *Planned) (string, error) {
	var hosts []string
	for _, target := range p.Settings.Peers {
		nodes, err := t.Select(target)
		if err != nil {
			return "peers", err
		}
		for _, host := range hostsOf(nodes) {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	slices.Sort(hosts)
	own := hostsOf(p.Nodes)
	if len(p.Settings.Peers) > 0 && (len(hosts) == 1 && slices.Contains(own, hosts[0]) && len(own) == 1) {
		return "peers", fmt.Errorf("host %s has no other host to be cut off from", hosts[0])
	}
	p.Settings.Peers = hosts
	return "", nil
}

func nodesOn(t topology.Topology, hosts []string) []topology.Node {
	var nodes []topology.Node
	for _, n := range t.Nodes {
		if slices.Contains(hosts, n.Host) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// losesPartition says which side may be lost: either, or the one without a data
// node if there is one, as data nodes that keep each other do not miss anybody
// else; or, where a host is cut off from others of its own side, all nodes but
// those of any one host.
func losesPartition(t topology.Topology, p Planned) [][]topology.Node {
	own, peers := hostsOf(p.Nodes), p.Settings.Peers
	if !slices.ContainsFunc(own, func(host string) bool { return slices.Contains(peers, host) }) {
		others := nodesOn(t, peers)
		switch {
		case !slices.ContainsFunc(p.Nodes, isData):
			return [][]topology.Node{p.Nodes}
		case !slices.ContainsFunc(others, isData):
			return [][]topology.Node{others}
		}
		return [][]topology.Node{p.Nodes, others}
	}
	var ways [][]topology.Node
	all := append(slices.Clone(own), peers...)
	slices.Sort(all)
	all = slices.Compact(all)
	for _, survivor := range all {
		ways = append(ways, nodesOn(t, slices.DeleteFunc(slices.Clone(all), func(host string) bool { return host == survivor })))
	}
	return ways
}

func isData(n topology.Node) bool { return n.Role == topology.Data }

type partition struct{ site }

func (f partition) Check(ctx context.Context) error { return f.checkFirewall(ctx) }

func (f partition) Inject(ctx context.Context) error {
	return with(f.site, Firewall, func(can reference.Firewall) error {
		return f.cutFrom(ctx, can, everyPacket)
	})
}

// cutFrom drops a share of the packets between each host and its peers, or all
// others where no peers are set.
func (s site) cutFrom(ctx context.Context, can reference.Firewall, loss int) error {
	var failures []error
	for _, host := range s.hosts() {
		peers := slices.DeleteFunc(slices.Clone(s.p.Settings.Peers), func(peer string) bool { return peer == host })
		if len(peers) == 0 && len(s.p.Settings.Peers) > 0 {
			continue // the only peer is the host itself
		}
		failures = append(failures, can.Cut(ctx, host, reference.Cut{
			Name: s.p.ID, Peers: peers, Direction: s.p.Settings.Direction, Loss: loss,
		}))
	}
	return errors.Join(failures...)
}

func (f partition) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return first(ctx, f.anyDown(f.touched())...)
}

func (f partition) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f partition) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.awaitMended(ctx)
}

func (f partition) Undo(ctx context.Context) error { return f.mend(ctx) }
