package mgm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// DefaultStopTimeout bounds a stop or restart where neither its context nor
// Options do: a node that stops in order first lets its transactions and
// clients go, and a restart's reply waits until the node is down.
const DefaultStopTimeout = 300 * time.Second

// Bounds of what goes into one line of a request, of which the server reads 512
// bytes (MaxParseBytes in Parser.cpp), and of a DUMP order (MgmtSrvr::dumpState).
const (
	maxValue    = 480
	maxDumpArgs = 25
)

// StopOptions say how nodes are stopped. The zero value stops them in order:
// transactions end and clients are told, as far as time-outs of some seconds
// allow.
type StopOptions struct {
	// Abort ends the nodes at once, without asking whether any node starts just
	// now. More than one node can be stopped by one call with Abort only.
	Abort bool
	// Force stops the nodes even where the cluster cannot do without them: then
	// the server stops all data nodes.
	Force bool
}

// Stop stops data or management nodes and returns how many have stopped. A data
// node's process ends; who runs it may start it again. The call returns when the
// cluster has excluded the node; its process may live a moment longer.
//
// A management server that stops itself answers first and ends when the session
// does, which this call closes for it: within seconds, or tens of them under load.
//
// It fails with an *OperationError when the server could not do it. A call that
// its context ends does not call the stop off.
func (c *Client) Stop(ctx context.Context, o StopOptions, nodes ...topology.ID) (int, error) {
	const command = "stop v2"
	list, err := nodeList(nodes)
	if err != nil {
		return 0, c.invalid(command, err)
	}
	args := []pair{{"node", list}, {"abort", bit(o.Abort)}, {"force", bit(o.Force)}}
	return c.operate(ctx, c.stopTimeout, operation{command, args, "stop reply", "stopped", nodes})
}

// StopAll stops all data nodes, also while some start, and returns how many: 0,
// without an error, when none ran. With abort they end at once. Management nodes
// go on.
func (c *Client) StopAll(ctx context.Context, abort bool) (int, error) {
	args := []pair{{"abort", bit(abort)}, {"stop", "db"}}
	return c.operate(ctx, c.stopTimeout, operation{"stop all", args, "stop reply", "stopped", nil})
}

// RestartOptions say how nodes are stopped and started again.
type RestartOptions struct {
	StopOptions
	// Initial empties the nodes' disks, so that they copy all from others. All
	// data nodes at once would lose all data.
	Initial bool
	// NoStart leaves the nodes down, in the state NotStarted, until Start.
	NoStart bool
}

// Restart restarts data nodes in place and returns how many. Each node's angel
// lives on and forks a new process, which learns its start options from the old
// one. The call returns when the nodes are down and were told to start, not
// when they have started; await Started in their status. With Force, where the
// cluster cannot do without the nodes, all data nodes are restarted.
//
// It fails with an *OperationError when the server could not do it. A call that
// its context ends leaves it to the server whether the nodes are told to start.
func (c *Client) Restart(ctx context.Context, o RestartOptions, nodes ...topology.ID) (int, error) {
	const command = "restart node v2"
	list, err := nodeList(nodes)
	if err != nil {
		return 0, c.invalid(command, err)
	}
	args := append([]pair{{"node", list}}, append(o.start(), pair{"force", bit(o.Force)})...)
	return c.operate(ctx, c.stopTimeout, operation{command, args, "restart reply", "restarted", nodes})
}

// RestartAll restarts all data nodes at once, a system restart: what was
// committed after the last restorable global checkpoint is not lost when they
// stop in order, and may be lost with Abort. Force means nothing here. It
// returns how many were restarted: 0, without an error, when none ran.
func (c *Client) RestartAll(ctx context.Context, o RestartOptions) (int, error) {
	return c.operate(ctx, c.stopTimeout, operation{"restart all", o.start(), "restart reply", "restarted", nil})
}

func (o RestartOptions) start() []pair {
	return []pair{{"initialstart", bit(o.Initial)}, {"nostart", bit(o.NoStart)}, {"abort", bit(o.Abort)}}
}

// Start has a data node start that is NotStarted: restarted with NoStart, or run
// with --nostart. It returns when the node was told. A node that has started
// takes no notice.
func (c *Client) Start(ctx context.Context, node topology.ID) error {
	const command = "start"
	list, err := nodeList([]topology.ID{node})
	if err != nil {
		return c.invalid(command, err)
	}
	_, err = c.operate(ctx, c.timeout, operation{command, []pair{{"node", list}}, "start reply", "", []topology.ID{node}})
	return err
}

// StartAll has every data node start that is NotStarted. It returns how many
// nodes were told, those that have started among them.
func (c *Client) StartAll(ctx context.Context) (int, error) {
	return c.operate(ctx, c.timeout, operation{"start all", nil, "start reply", "started", nil})
}

// DumpState gives a data node a DUMP order: a code and its arguments, 1 to 25
// numbers from 0 to 2,147,483,647 ("NDB Cluster Data Node DUMP Commands", MySQL
// NDB Cluster API guide), such as 7099 for a local checkpoint, which only the
// master heeds. Some codes end the node. The node does not say what it makes of
// the order.
func (c *Client) DumpState(ctx context.Context, node topology.ID, args ...int) error {
	const command = "dump state"
	list, err := nodeList([]topology.ID{node})
	if err != nil {
		return c.invalid(command, err)
	}
	numbers, err := dumpArgs(args)
	if err != nil {
		return c.invalid(command, err)
	}
	_, err = c.operate(ctx, c.timeout, operation{command, []pair{{"node", list}, {"args", numbers}}, "dump state reply", "", []topology.ID{node}})
	return err
}

// operation is a command that acts on nodes.
type operation struct {
	command string
	args    []pair
	header  string        // of the reply
	count   string        // the reply's name of the number of nodes that it acted on, "" if it has none
	nodes   []topology.ID // those named, for errors
}

// operate has the server perform an operation and returns on how many nodes.
func (c *Client) operate(ctx context.Context, timeout time.Duration, o operation) (int, error) {
	b, err := c.callWithin(ctx, timeout, o.command, o.args, o.header)
	if err != nil {
		return 0, err
	}
	if b.value("disconnect") == "1" {
		c.end(errors.New("the server was told to stop, which it does now"))
	}
	n, err := o.outcome(b)
	var failed *OperationError
	switch {
	case errors.As(err, &failed):
		failed.Address = c.address
		return 0, failed
	case err != nil:
		return 0, c.garbled(o.command, err)
	}
	return n, nil
}

// outcome reads on how many nodes the server has acted from its reply. A refusal
// may count nodes too, which were not acted on.
func (o operation) outcome(b block) (int, error) {
	result := b.value("result")
	if result != "Ok" {
		return 0, operationError(o, result)
	}
	if o.count == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(b.value(o.count), 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is no number of nodes", o.count, b.value(o.count))
	}
	return int(n), nil
}

// invalid wraps what is wrong with a request that is not sent.
func (c *Client) invalid(command string, err error) error {
	return fmt.Errorf("management server %s: %s: %w", c.address, command, err)
}

// nodeList spells a list of nodes. The server would take an empty one for
// success.
func nodeList(nodes []topology.ID) (string, error) {
	if len(nodes) == 0 {
		return "", errors.New("no node is named")
	}
	ids := make([]string, len(nodes))
	for i, id := range nodes {
		if id == 0 {
			return "", errors.New("there is no node 0")
		}
		ids[i] = strconv.Itoa(int(id))
	}
	list := strings.Join(ids, " ")
	if len(list) > maxValue {
		return "", fmt.Errorf("the list of %d nodes has %d bytes, the server takes %d; name fewer, or all", len(nodes), len(list), maxValue)
	}
	return list, nil
}

func dumpArgs(args []int) (string, error) {
	if len(args) == 0 || len(args) > maxDumpArgs {
		return "", fmt.Errorf("%d numbers; a DUMP order has its code and up to %d arguments", len(args), maxDumpArgs-1)
	}
	numbers := make([]string, len(args))
	for i, a := range args {
		if a < 0 || a > math.MaxInt32 {
			return "", fmt.Errorf("%d in a DUMP order is not from 0 to %d", a, math.MaxInt32)
		}
		numbers[i] = strconv.Itoa(a)
	}
	return strings.Join(numbers, " "), nil
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
