package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
)

const (
	managementPort = 1186
	dataPort       = 2202
	sqlPort        = 3306
	spareAPISlots  = 2 // for ndb_mgm, ndb_waiter and other tools
)

// dataDefaults are the parameters of [ndbd default] that differ from NDB's own
// defaults, so that a data node fits a small machine. Heartbeats, arbitration,
// checkpoints and the time-outs of live transactions keep the production defaults
// (storage/ndb/src/common/mgmcommon/ConfigInfo.cpp); a scenario may set any.
func dataDefaults() map[string]string {
	return map[string]string{
		"DataMemory":            "256M",
		"SharedGlobalMemory":    "64M",
		"LongMessageBuffer":     "16M",
		"DiskPageBufferMemory":  "4M",
		"RedoBuffer":            "16M",
		"NoOfFragmentLogFiles":  "8",
		"MaxNoOfTables":         "256",
		"MaxNoOfAttributes":     "4000",
		"MaxNoOfOrderedIndexes": "256",
		"AutomaticThreadConfig": "1",
		"NumCPUs":               "1", // one thread: a node is limited to about one processor
		"ServerPort":            fmt.Sprint(dataPort),
		"DataDir":               dataDirectory,
		// Off by default in NDB; a client that dies in the middle of a transaction
		// would keep its row locks for ever.
		"TransactionInactiveTimeout": "10000",
	}
}

// DataNodeParameters are those of [ndbd default] in a cluster of a topology; what is
// not among them has NDB's own default.
func DataNodeParameters(t topology.Topology) map[string]string {
	parameters := dataDefaults()
	maps.Copy(parameters, t.DataNode)
	parameters["NoOfReplicas"] = fmt.Sprint(t.Replicas)
	return parameters
}

// configINI writes the cluster's global configuration file. Nodes are named by
// address, not by host name: the engine forgets the name of a dead container,
// and a node id is tied to its address.
func configINI(t topology.Topology, address func(host string) netip.Addr) string {
	var b strings.Builder
	parameters := DataNodeParameters(t)

	fmt.Fprintln(&b, "[ndbd default]")
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		fmt.Fprintf(&b, "%s=%s\n", name, parameters[name])
	}
	section := map[topology.Role]string{topology.Management: "ndb_mgmd", topology.Data: "ndbd", topology.SQL: "mysqld"}
	for _, n := range t.Nodes {
		fmt.Fprintf(&b, "\n# %s on %s\n[%s]\nNodeId=%d\nHostName=%s\n", n.Name, n.Host, section[n.Role], n.ID, address(n.Host))
		switch n.Role {
		case topology.Management:
			fmt.Fprintf(&b, "PortNumber=%d\nDataDir=%s\n", managementPort, dataDirectory)
		case topology.Data:
			fmt.Fprintf(&b, "NodeGroup=%d\n", n.Group)
		}
	}
	for range spareAPISlots {
		fmt.Fprint(&b, "\n[api]\n")
	}
	return b.String()
}
