package external

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
)

// wholeTimeout is how long a cluster may take to say that it is whole.
const wholeTimeout = 10 * time.Second

// Verify looks whether the cluster is the one that was described, and whole. It
// changes nothing. The error is a *RefusedError.
func (c *Cluster) Verify(ctx context.Context) error {
	if err := c.identify(ctx, true); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wholeTimeout, fmt.Errorf("not within %s", wholeTimeout))
	defer cancel()
	if _, err := c.AwaitRedundant(ctx, c.spec.Topology.ByRole(topology.Data)[0].ID); err != nil {
		return c.refuse(fmt.Errorf("it is not whole, and what this program does would not be the only thing that it suffers from: %w", err))
	}
	return nil
}

// said is what a cluster says of itself.
type said struct {
	management topology.ID
	status     map[topology.ID]mgm.NodeStatus
	sql        []sqlSaid // in the order of the topology's SQL nodes
}

// sqlSaid is what a SQL node says.
type sqlSaid struct {
	id        topology.ID
	addresses map[topology.ID]netip.Addr // of nodes, as the data nodes see them
	err       error
}

func (c *Cluster) identify(ctx context.Context, all bool) error {
	var s said
	ask := func(types ...mgm.NodeType) error {
		return c.Manage(ctx, func(session *mgm.Client) (err error) {
			if s.management, err = session.NodeID(ctx); err != nil {
				return err
			}
			s.status, err = session.Status(ctx, types...)
			return err
		})
	}
	err := ask()
	if err != nil && !all { // beside a frozen data node nothing is said of SQL nodes
		err = ask(mgm.DataNode, mgm.ManagementNode)
	}
	if err != nil {
		return c.refuse(err)
	}
	admins := c.Admins()
	defer ndb.CloseAll(admins)
	for _, a := range admins {
		s.sql = append(s.sql, askNode(ctx, a))
	}
	return c.refuse(differences(c.spec.Topology, s, all))
}

func askNode(ctx context.Context, node schema.Admin) (s sqlSaid) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var name, value string
	if s.err = node.DB.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Ndb_cluster_node_id'").Scan(&name, &value); s.err != nil {
		return s
	}
	id, err := strconv.ParseUint(value, 10, 8)
	if err != nil {
		s.err = fmt.Errorf("its node id is %q", value)
		return s
	}
	s.id, s.addresses = topology.ID(id), map[topology.ID]netip.Addr{}
	rows, err := node.DB.QueryContext(ctx, "SELECT remote_node_id, remote_address FROM ndbinfo.transporters WHERE remote_address IS NOT NULL")
	if err != nil {
		s.err = err
		return s
	}
	defer rows.Close()
	for rows.Next() {
		var (
			remote  topology.ID
			address string
		)
		if s.err = rows.Scan(&remote, &address); s.err != nil {
			return s
		}
		if ip, ok := parseAddress(address); ok {
			s.addresses[remote] = ip
		}
	}
	s.err = rows.Err()
	return s
}

// parseAddress reads an address as servers write it; "-" and 0.0.0.0 are none.
func parseAddress(text string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.IsUnspecified() {
		return netip.Addr{}, false
	}
	return ip.Unmap().WithZone(""), true
}

// differences says in what a cluster is not the one that was described, nil if it
// is. Where not all need answer, SQL nodes that do not are passed over.
func differences(t topology.Topology, s said, all bool) error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if m := t.ByRole(topology.Management)[0]; s.management != m.ID {
		add("the management server is node %d, the scenario's external.management has id %d", s.management, m.ID)
	}
	var told, described []topology.ID
	for id, n := range s.status {
		if n.Type == mgm.DataNode {
			told = append(told, id)
		}
	}
	for _, n := range t.ByRole(topology.Data) {
		described = append(described, n.ID)
	}
	slices.Sort(told)
	slices.Sort(described)
	if !slices.Equal(told, described) {
		add("the management server knows the data nodes %s, the scenario's external.data_nodes are %s", numbers(told), numbers(described))
	}
	for _, n := range t.ByRole(topology.Data) {
		if status := s.status[n.ID]; status.Status == mgm.Started && status.NodeGroup != n.Group {
			add("data node %d is in node group %d, the scenario says %d: set group in external.data_nodes", n.ID, status.NodeGroup, n.Group)
		}
	}
	answered, compared := 0, 0
	for i, n := range t.ByRole(topology.SQL) {
		a := s.sql[i]
		if a.err != nil {
			if all {
				add("%s does not answer: %w", n.Name, a.err)
			}
			continue
		}
		answered++
		if a.id != n.ID {
			add("%s is node %d, the scenario's external.sql has id %d", n.Name, a.id, n.ID)
		}
		// Ids are the same in many clusters, but not the machines of their nodes.
		for _, d := range t.Nodes {
			one, ok1 := parseAddress(s.status[d.ID].Address)
			other, ok2 := a.addresses[d.ID]
			if d.Role == topology.Management || !ok1 || !ok2 {
				continue
			}
			compared++
			if one != other {
				add("%s and the management server do not speak of the same cluster: node %d is at %s by the one and at %s by the other", n.Name, d.ID, other, one)
			}
		}
	}
	switch {
	case answered == 0 && len(t.ByRole(topology.SQL)) > 0:
		for i, n := range t.ByRole(topology.SQL) {
			if !all {
				add("%s does not answer: %w", n.Name, s.sql[i].err)
			}
		}
	case compared == 0:
		add("nobody tells by the addresses of nodes whether SQL nodes and management server are of the same cluster")
	}
	return errors.Join(wrong...)
}

func numbers(ids []topology.ID) string {
	if len(ids) == 0 {
		return "none"
	}
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = fmt.Sprint(id)
	}
	return strings.Join(list, ", ")
}
