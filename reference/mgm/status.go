package mgm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
)

// NodeType is the protocol's name of what a node does.
type NodeType string

// The types of nodes. SQL nodes are API nodes.
const (
	DataNode       NodeType = "NDB"
	ManagementNode NodeType = "MGM"
	APINode        NodeType = "API"
)

// Status is the state of a node as the management server sees it.
type Status string

// The states. Data nodes have all but Connected; management and API nodes have
// Connected, NoContact and Unknown, the last one for API nodes while no data
// node is started that could be asked.
const (
	Unknown      Status = "UNKNOWN"
	NoContact    Status = "NO_CONTACT"
	NotStarted   Status = "NOT_STARTED"
	Starting     Status = "STARTING"
	Started      Status = "STARTED"
	ShuttingDown Status = "SHUTTING_DOWN"
	Restarting   Status = "RESTARTING"
	SingleUser   Status = "SINGLE USER MODE"
	Resume       Status = "RESUME"
	Connected    Status = "CONNECTED"
)

// NodeStatus is what the management server says of a node. The numbers are 0
// for a node without contact.
type NodeStatus struct {
	ID           topology.ID
	Type         NodeType
	Status       Status
	Version      Version // of NDB
	MySQLVersion Version
	StartPhase   int    // phase of a data node that is starting, else 0
	DynamicID    int    // order in which data nodes joined; the lowest of the started ones is the president. Negative ones are seen
	NodeGroup    int    // of a data node, from 0; 65536 for one that has none yet
	ConnectCount int    // how often the node has connected to the management server
	Address      string // IP address, "" or "0.0.0.0" without contact
}

// parseStatus parses a reply to "get status". Names that it does not know are
// passed over: servers add some.
func parseStatus(b block) (map[topology.ID]NodeStatus, error) {
	nodes := map[topology.ID]NodeStatus{}
	count := -1
	for _, p := range b.pairs {
		if p.name == "nodes" {
			n, err := strconv.Atoi(p.value)
			if err != nil {
				return nil, fmt.Errorf("number of nodes: %w", err)
			}
			count = n
			continue
		}
		rest, ok := strings.CutPrefix(p.name, "node.")
		if !ok {
			continue
		}
		number, field, ok := strings.Cut(rest, ".")
		if !ok {
			continue
		}
		id, err := parseID(number)
		if err != nil {
			return nil, err
		}
		n := nodes[id]
		n.ID = id
		if err := n.set(field, p.value); err != nil {
			return nil, fmt.Errorf("%s of node %d: %w", field, id, err)
		}
		nodes[id] = n
	}
	if count != len(nodes) {
		return nil, fmt.Errorf("%d nodes announced, %d described", count, len(nodes))
	}
	for id, n := range nodes {
		if n.Type == "" || n.Status == "" {
			return nil, fmt.Errorf("node %d has no type or no status", id)
		}
	}
	return nodes, nil
}

func (n *NodeStatus) set(field, value string) error {
	var err error
	switch field {
	case "type":
		n.Type = NodeType(value)
	case "status":
		n.Status = Status(value)
	case "version":
		n.Version, err = parseVersion(value)
	case "mysql_version":
		n.MySQLVersion, err = parseVersion(value)
	case "startphase":
		n.StartPhase, err = strconv.Atoi(value)
	case "dynamic_id":
		n.DynamicID, err = strconv.Atoi(value)
	case "node_group":
		n.NodeGroup, err = strconv.Atoi(value)
	case "connect_count":
		n.ConnectCount, err = strconv.Atoi(value)
	case "address":
		n.Address = value
	}
	return err
}

func parseVersion(s string) (Version, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	return Version(v), err
}
