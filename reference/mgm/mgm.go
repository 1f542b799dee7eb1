// Package mgm speaks the management protocol of NDB Cluster, the text protocol
// that a management server (ndb_mgmd) serves on TCP port 1186: it asks for the
// state of the nodes, stops, restarts and starts them, and listens to the events
// of the cluster.
//
// A [Client] is one session: [Client.Status] tells how nodes are, [Client.Stop],
// [Client.Restart], [Client.Start] and [Client.DumpState] act on them. Each call
// is bounded by its context and by [Options]; a stop or restart blocks until the
// nodes are down and has a longer bound. What the server cannot do comes back as
// an [OperationError] with the server's number and what to do next. [Listen] and
// [Follow] have connections of their own; [Event.Detail] takes an event apart.
//
// A request is a command line, lines "name: value" and an empty line; a reply
// is a header line, lines "name: value" or "name=value" and an empty line
// (storage/ndb/src/mgmsrv/Services.cpp and storage/ndb/src/common/util/Parser.cpp
// of the MySQL source). Only plain text is spoken: a server that demands TLS is
// refused with [TLSRequiredError].
package mgm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// DefaultTimeout bounds a call where neither its context nor Options do.
const DefaultTimeout = 5 * time.Second

// Bounds on what a server may send. The longest reply, the status of 255 nodes,
// has some 2,600 lines.
const (
	maxLine  = 64 << 10 // bytes of a line, its end included
	maxLines = 4096     // lines of a block, its header included
)

// Options are a client's habits. The zero value is usable.
type Options struct {
	// Dial opens the connection; nil for a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds the dial and each call, beside the context's own deadline;
	// 0 for DefaultTimeout.
	Timeout time.Duration
	// StopTimeout bounds each Stop and Restart instead, 0 for DefaultStopTimeout.
	StopTimeout time.Duration
}

func (o Options) timeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return DefaultTimeout
}

func (o Options) stopTimeout() time.Duration {
	if o.StopTimeout > 0 {
		return o.StopTimeout
	}
	return DefaultStopTimeout
}

// Client is one session with a management server. It serves one call at a time
// and is not safe for concurrent use. A call that fails on the wire, or that
// its context ends, leaves the session out of step: it is closed, and every
// later call fails.
type Client struct {
	address     string
	timeout     time.Duration
	stopTimeout time.Duration
	conn        net.Conn
	in          *bufio.Reader
	broken      error // why the session is over
}

// Dial opens a session with the management server at address, host:port. It
// sends nothing yet. Close must be called.
func Dial(ctx context.Context, address string, o Options) (*Client, error) {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	limited, cancel := context.WithTimeout(ctx, o.timeout())
	defer cancel()
	conn, err := dial(limited, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("management server %s: dial: %w; check that ndb_mgmd runs there", address, err)
	}
	return &Client{
		address: address, timeout: o.timeout(), stopTimeout: o.stopTimeout(),
		conn: conn, in: bufio.NewReaderSize(conn, maxLine),
	}, nil
}

// Close ends the session.
func (c *Client) Close() error {
	if c.broken == nil {
		c.broken = net.ErrClosed
	}
	if err := c.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("management server %s: close: %w", c.address, err)
	}
	return nil
}

// Version is a version of NDB as the protocol spells it: major, minor and build
// number in 8 bits each. 0 stands for a node without contact.
type Version uint32

// String spells a version such as "9.7.4".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff) }

// ServerVersion says what a management server is.
type ServerVersion struct {
	Number Version
	Text   string // such as "mysql-9.7.4 ndb-9.7.4"
}

// Version asks what the management server is. A server that demands TLS answers
// it like any other.
func (c *Client) Version(ctx context.Context) (ServerVersion, error) {
	b, err := c.call(ctx, "get version", nil, "version")
	if err != nil {
		return ServerVersion{}, err
	}
	number, err := strconv.ParseUint(b.value("id"), 10, 32)
	if err != nil {
		return ServerVersion{}, c.garbled("get version", err)
	}
	return ServerVersion{Number: Version(number), Text: b.value("string")}, nil
}

// NodeID asks for the management server's own node id. A server that demands
// TLS answers it like any other.
func (c *Client) NodeID(ctx context.Context) (topology.ID, error) {
	const command = "get mgmd nodeid"
	b, err := c.call(ctx, command, nil, "get mgmd nodeid reply")
	if err != nil {
		return 0, err
	}
	id, err := parseID(b.value("nodeid"))
	if err != nil {
		return 0, c.garbled(command, err)
	}
	return id, nil
}

// Status asks for the state of all nodes, or of those of the given types.
//
// The server asks a data node about each API node and waits without a limit of
// its own (MgmtSrvr::sendVersionReq): beside a frozen data node a call that
// asks for APINode runs into its deadline; ask for DataNode alone there.
func (c *Client) Status(ctx context.Context, types ...NodeType) (map[topology.ID]NodeStatus, error) {
	const command = "get status"
	var args []pair
	if len(types) > 0 {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = string(t)
		}
		args = []pair{{"types", strings.Join(names, " ")}}
	}
	b, err := c.call(ctx, command, args, "node status")
	if err != nil {
		return nil, err
	}
	nodes, err := parseStatus(b)
	if err != nil {
		return nil, c.garbled(command, err)
	}
	return nodes, nil
}

// call sends a command and reads the reply, which must have that header.
func (c *Client) call(ctx context.Context, command string, args []pair, header string) (block, error) {
	return c.callWithin(ctx, c.timeout, command, args, header)
}

func (c *Client) callWithin(ctx context.Context, timeout time.Duration, command string, args []pair, header string) (block, error) {
	if c.broken != nil {
		return block{}, fmt.Errorf("management server %s: %s: the session is over (%w); dial again", c.address, command, c.broken)
	}
	b, err := c.exchange(ctx, timeout, command, args)
	if err != nil {
		c.end(err)
		return block{}, fmt.Errorf("management server %s: %s: %w", c.address, command, err)
	}
	switch {
	case b.header == header:
		return b, nil
	case b.header == "Authorization failed":
		return block{}, &TLSRequiredError{Address: c.address}
	case strings.HasPrefix(b.header, "result:"): // a refused command's reply has no header
		return block{}, &CommandError{Address: c.address, Command: command, Message: strings.TrimSpace(b.header[len("result:"):])}
	default:
		return block{}, c.garbled(command, fmt.Errorf("the reply begins with %q instead of %q", b.header, header))
	}
}

// end closes the session and remembers why.
func (c *Client) end(why error) {
	c.conn.Close()
	c.broken = why
}

func (c *Client) exchange(ctx context.Context, timeout time.Duration, command string, args []pair) (block, error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	release := interrupt(limited, c.conn)
	b, err := func() (block, error) {
		if _, err := io.WriteString(c.conn, request(command, args)); err != nil {
			return block{}, err
		}
		return readBlock(c.in)
	}()
	release()
	switch {
	case err != nil && ctx.Err() != nil: // the socket was interrupted by us; the context says why
		err = ctx.Err()
	case err != nil && limited.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w; the server, or a data node that it asks, is frozen or cut off", timeout, limited.Err())
	}
	return b, err
}

// garbled wraps what is wrong with a reply. The session goes on: the reply was
// read to its end.
func (c *Client) garbled(command string, err error) error {
	return fmt.Errorf("management server %s: %s: unexpected reply: %w", c.address, command, err)
}

// interrupt makes reads and writes of conn fail when ctx ends. The caller must
// call release before it uses conn for anything else.
func interrupt(ctx context.Context, conn net.Conn) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
		}
		conn.SetDeadline(time.Time{})
	}
}

// TLSRequiredError says that the server speaks to nobody without TLS.
type TLSRequiredError struct{ Address string }

func (e *TLSRequiredError) Error() string {
	return fmt.Sprintf("management server %s demands TLS, which mailbench does not speak to it: "+
		"set RequireTls=false in [ndb_mgmd] of config.ini and restart ndb_mgmd with --reload", e.Address)
}

// CommandError says that the server understood a request well enough to refuse
// it. Asking again will not help.
type CommandError struct {
	Address string
	Command string
	Message string // the server's words
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("management server %s refused %q: %s; check that its version is one that mailbench knows",
		e.Address, e.Command, e.Message)
}

// pair is a line "name: value".
type pair struct{ name, value string }

// block is a header line and the pairs up to an empty line.
type block struct {
	header string
	pairs  []pair
}

// value returns the value of a name, "" if there is none.
func (b block) value(name string) string {
	for _, p := range b.pairs {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

func request(command string, args []pair) string {
	var s strings.Builder
	s.WriteString(command + "\n")
	for _, a := range args {
		s.WriteString(a.name + ": " + a.value + "\n")
	}
	s.WriteString("\n")
	return s.String()
}

// readBlock reads a header line and its pairs.
func readBlock(in *bufio.Reader) (block, error) {
	header, err := readLine(in)
	if err != nil {
		return block{}, err
	}
	pairs, err := readPairs(in, func() {})
	return block{header: header, pairs: pairs}, err
}

// readPairs reads lines up to an empty one and calls each before every line.
func readPairs(in *bufio.Reader, each func()) ([]pair, error) {
	var pairs []pair
	for {
		each()
		line, err := readLine(in)
		switch {
		case err != nil:
			return nil, err
		case line == "":
			return pairs, nil
		case len(pairs) == maxLines-1:
			return nil, fmt.Errorf("a block of more than %d lines", maxLines)
		}
		pairs = append(pairs, parsePair(line))
	}
}

// parsePair splits a line at its first ':' or '='. A line with neither is a
// name without a value.
func parsePair(line string) pair {
	i := strings.IndexAny(line, ":=")
	if i < 0 {
		return pair{name: strings.TrimSpace(line)}
	}
	return pair{strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])}
}

// readLine reads a line of at most maxLine bytes, without its end.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("a line of more than %d bytes", maxLine)
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// parseID parses a node id, 1 to 255.
func parseID(s string) (topology.ID, error) {
	id, err := strconv.ParseUint(s, 10, 8)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("node id %q is not a number from 1 to 255", s)
	}
	return topology.ID(id), nil
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
