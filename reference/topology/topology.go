// Package topology describes which hosts carry which nodes of the system under
// test. It is the type that scenarios, clusters and faults share; it does no
// I/O and knows nothing of containers.
package topology

import (
	"fmt"
	"strings"
)

// ID is an NDB node id: 1 to 255, unique in a cluster. Data nodes have 1 to 144
// (MySQL manual, "Defining NDB Cluster Data Nodes").
type ID uint8

// Role is what a node does.
type Role string

// The roles of an NDB cluster.
const (
	Management Role = "management"
	Data       Role = "data"
	SQL        Role = "sql"
)

// Node is one process of the cluster.
type Node struct {
	ID    ID     `json:"id"`
	Name  string `json:"name"`
	Role  Role   `json:"role"`
	Host  string `json:"host"`
	Group int    `json:"group"` // node group of a data node, from 0; -1 for other roles
}

// Limits bounds what one node may use of its machine.
type Limits struct {
	MilliCPUs int `json:"milli_cpus"` // thousandths of a processor, 0 for no limit
	MemoryMiB int `json:"memory_mib"` // MiB, 0 for no limit
	// DiskMiB is the size of its disk in MiB, 0 for the machine's own disk. A disk
	// with a bound is a file system in main memory, which counts beside MemoryMiB.
	DiskMiB int `json:"disk_mib,omitempty"`
}

// Topology is a whole cluster: nodes on hosts, and what they may use.
type Topology struct {
	Replicas  int               `json:"replicas"`
	Nodes     []Node            `json:"nodes"`
	Limits    map[Role]Limits   `json:"limits"`
	DataNode  map[string]string `json:"data_node"` // parameters of [ndbd default], by their NDB names
	SQLServer map[string]string `json:"sql_server"`
}

// Shape is what a person asks for: how many nodes of a role on which hosts.
type Shape struct {
	DataNodes int
	Replicas  int
	SQLHosts  []string // one SQL node a host, in this order
}

// New lays a shape out: one management node on admin1, data node i on cyrusI,
// SQL nodes on the named hosts. NDB fills node groups in the order of node ids
// (MySQL manual, "NDB Cluster Nodes, Node Groups, Fragment Replicas, and
// Partitions"), so that the groups are known before the cluster starts.
func New(s Shape) (Topology, error) {
	switch {
	case s.Replicas < 1 || s.Replicas > 4:
		return Topology{}, fmt.Errorf("replicas is %d, must be 1 to 4", s.Replicas)
	case s.DataNodes < 1 || s.DataNodes > 48:
		return Topology{}, fmt.Errorf("data nodes is %d, must be 1 to 48", s.DataNodes)
	case s.DataNodes%s.Replicas != 0:
		return Topology{}, fmt.Errorf("%d data nodes cannot form node groups of %d replicas", s.DataNodes, s.Replicas)
	case len(s.SQLHosts) < 1 || len(s.SQLHosts) > 48:
		return Topology{}, fmt.Errorf("SQL nodes is %d, must be 1 to 48", len(s.SQLHosts))
	}
	t := Topology{Replicas: s.Replicas}
	add := func(role Role, prefix string, number int, host string, group int) {
		t.Nodes = append(t.Nodes, Node{
			ID: ID(len(t.Nodes) + 1), Name: fmt.Sprintf("%s%d", prefix, number), Role: role, Host: host, Group: group,
		})
	}
	add(Management, "mgm", 1, "admin1", -1)
	for i := range s.DataNodes {
		add(Data, "data", i+1, fmt.Sprintf("cyrus%d", i+1), i/s.Replicas)
	}
	for i, host := range s.SQLHosts {
		add(SQL, "sql", i+1, host, -1)
	}
	return t, nil
}

// Servers lays out a system that is no NDB cluster: one server on each host, of the
// role SQL, called by prefix and number, with ids from 1 on. Each holds a replica
// of everything.
func Servers(prefix string, hosts []string) Topology {
	t := Topology{Replicas: len(hosts)}
	for i, host := range hosts {
		t.Nodes = append(t.Nodes, Node{ID: ID(i + 1), Name: fmt.Sprintf("%s%d", prefix, i+1), Role: SQL, Host: host, Group: -1})
	}
	return t
}

// ByRole returns the nodes of a role in the order of their ids.
func (t Topology) ByRole(role Role) []Node {
	var found []Node
	for _, n := range t.Nodes {
		if n.Role == role {
			found = append(found, n)
		}
	}
	return found
}

// Hosts returns the hosts in the order of the nodes that they carry first.
func (t Topology) Hosts() []string {
	var hosts []string
	seen := map[string]bool{}
	for _, n := range t.Nodes {
		if !seen[n.Host] {
			seen[n.Host] = true
			hosts = append(hosts, n.Host)
		}
	}
	return hosts
}

// Node finds a node by its name.
func (t Topology) Node(name string) (Node, error) {
	var names []string
	for _, n := range t.Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return Node{}, fmt.Errorf("no node is called %q; there are %s", name, strings.Join(names, ", "))
}

// ByID finds a node by its NDB node id.
func (t Topology) ByID(id ID) (Node, bool) {
	for _, n := range t.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}
