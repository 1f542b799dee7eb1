package mgm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// Code is the number of a management server's error (src/mgmsrv/mgmd_error.h).
type Code int

// The codes that stop, restart, start and dump meet.
const (
	CodeNoContact          Code = 5000 // the node is dead or cut off
	CodeWrongType          Code = 5002 // the node does not exist, or is an API node
	CodeSendFailed         Code = 5005 // the node is not connected, or went while it was told
	CodeStopNotBegun       Code = 5024 // a node did not begin to stop within 12 s
	CodeStopNotDone        Code = 5025 // a node that restarts was not down in time
	CodeNodeStopping       Code = 5026
	CodeSystemStopping     Code = 5027
	CodeWouldCrash         Code = 5028 // the cluster cannot do without the node
	CodeNoDataNode         Code = 5030
	CodeNeedsAbort         Code = 5031 // several nodes stop at once with Abort only
	CodeStartingOrStopping Code = 5063
)

// next says what whoever meets a code can do.
func (c Code) next() string {
	switch c {
	case CodeNoContact, CodeSendFailed:
		return "wait until its status is other than NO_CONTACT, or start its process"
	case CodeWrongType:
		return "name data nodes, or management nodes to stop; end another node's process instead"
	case CodeStopNotBegun:
		return "look into the node's log, then ask again with Abort"
	case CodeStopNotDone:
		return "wait until its status is NOT_STARTED, then start it"
	case CodeNodeStopping, CodeSystemStopping:
		return "wait until it is down"
	case CodeWouldCrash:
		return "wait until its node group's other nodes have started, or stop all"
	case CodeNoDataNode:
		return "start the data nodes' processes"
	case CodeNeedsAbort:
		return "stop one node after the other, or all, or use Abort"
	case CodeStartingOrStopping:
		return "wait until no node starts or stops, then ask again"
	default:
		return "look into the management server's cluster log"
	}
}

// OperationError says that the server understood an operation and did not
// perform it: not now, or not on these nodes.
type OperationError struct {
	Address string
	Command string
	Nodes   []topology.ID // those named; none for all data nodes
	Code    Code          // 0 for an error whose number the server does not say and nobody here knows
	Message string        // the server's words, without the number
}

func (e *OperationError) Error() string {
	on := "all data nodes"
	switch len(e.Nodes) {
	case 0:
	case 1:
		on = fmt.Sprintf("node %d", e.Nodes[0])
	default:
		on = "nodes " + strings.Trim(fmt.Sprint(e.Nodes), "[]")
	}
	number := ""
	if e.Code != 0 {
		number = fmt.Sprintf("error %d: ", e.Code)
	}
	return fmt.Sprintf("management server %s: %s of %s: %s%s; %s", e.Address, e.Command, on, number, e.Message, e.Code.next())
}

// operationError makes an error of a reply's result. Only "restart node v2" says
// the number: "5063-Operation not allowed ...".
func operationError(o operation, result string) *OperationError {
	e := &OperationError{Command: o.command, Nodes: o.nodes, Message: result}
	if number, text, ok := strings.Cut(result, "-"); ok {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			e.Code, e.Message = Code(n), text
			return e
		}
	}
	e.Code = Code(ndberr.ManagementCode(result))
	return e
}
