package mgm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

func TestRecordedOperations(t *testing.T) {
	ctx := t.Context()
	c := dial(t, conversation(t, "operations.txt")...)
	stop := func(nodes ...topology.ID) func() (int, error) {
		return func() (int, error) { return c.Stop(ctx, StopOptions{}, nodes...) }
	}
	restart := func(node topology.ID, o RestartOptions) func() (int, error) {
		return func() (int, error) { return c.Restart(ctx, o, node) }
	}
	start := func() (int, error) { return 0, c.Start(ctx, 2) }
	startAll := func() (int, error) { return c.StartAll(ctx) }
	dump := func() (int, error) { return 0, c.DumpState(ctx, 2, 7099) }
	stopAll := func() (int, error) { return c.StopAll(ctx, false) }
	restartAll := func(o RestartOptions) func() (int, error) {
		return func() (int, error) { return c.RestartAll(ctx, o) }
	}
	noStart := RestartOptions{NoStart: true}
	for _, r := range []struct {
		says string
		call func() (int, error)
		n    int
		code Code
	}{
		{"a SQL node is not stopped by the protocol", stop(4), 0, CodeWrongType},
		{"nor restarted", restart(4, RestartOptions{}), 0, CodeWrongType},
		{"a dump order is passed on", dump, 0, 0},
		{"a node that has started takes no notice of a start", start, 0, 0},
		{"nor do all", startAll, 2, 0},
		{"two nodes do not stop at once in order", stop(2, 3), 0, CodeNeedsAbort},
		{"one does", stop(2), 1, 0},
		{"a dead node cannot be stopped", stop(2), 0, CodeSendFailed},
		{"nor restarted", restart(2, RestartOptions{}), 0, CodeSendFailed},
		{"nor started", start, 0, CodeNoContact},
		{"nor given a dump order", dump, 0, CodeNoContact},
		{"the last node of its group is not stopped", stop(3), 0, CodeWouldCrash},
		{"nor restarted", restart(3, RestartOptions{}), 0, CodeWouldCrash},
		{"nor is any stopped while one starts", stop(3), 0, CodeStartingOrStopping},
		{"nor restarted", restart(3, RestartOptions{}), 0, CodeStartingOrStopping},
		{"a restart can leave the start out", restart(2, noStart), 1, 0},
		{"which is made up for", start, 0, 0},
		{"an abort asks no more", restart(2, RestartOptions{StopOptions: StopOptions{Abort: true}}), 1, 0},
		{"a node that stops is not stopped twice", stop(2), 0, CodeNodeStopping},
		{"nor restarted", restart(2, RestartOptions{}), 0, CodeNodeStopping},
		{"a refusal stops nobody, whatever it counts", stop(3), 0, CodeWouldCrash},
		{"all restart", restartAll(noStart), 2, 0},
		{"and start", startAll, 2, 0},
		{"all stop", stopAll, 2, 0},
		{"of none, none stops", stopAll, 0, 0},
		{"none restarts", restartAll(RestartOptions{}), 0, 0},
		{"none starts", startAll, 0, 0},
		{"the server stops itself", stop(1), 1, 0},
	} {
		n, err := r.call()
		var failed *OperationError
		switch {
		case r.code == 0 && (err != nil || n != r.n):
			t.Errorf("%s: %d nodes, %v; want %d", r.says, n, err, r.n)
		case r.code != 0 && (!errors.As(err, &failed) || failed.Code != r.code || failed.Address != address || n != 0):
			t.Errorf("%s: %d nodes, %v; want error %d of %s", r.says, n, err, r.code, address)
		}
	}
	if _, err := c.Version(ctx); err == nil || !strings.Contains(err.Error(), "the session is over") {
		t.Errorf("after the server has stopped itself: %v, want the session to be over", err)
	}
}

func TestOperationErrorSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		says, result string
		nodes        []topology.ID
		code         Code
		want         string
	}{
		{"one node", "5063-Operation not allowed while nodes are starting or stopping.: Permanent error: Application error", []topology.ID{2}, CodeStartingOrStopping,
			"stop v2 of node 2: error 5063: Operation not allowed while nodes are starting or stopping.: Permanent error: Application error; wait until no node starts or stops, then ask again"},
		{"several", "5031-Unsupported", []topology.ID{2, 3}, CodeNeedsAbort, "of nodes 2 3: error 5031: Unsupported; stop one node after the other"},
		{"all, and a text without its number", "No contact with database nodes: Permanent error: Application error", nil, CodeNoDataNode, "of all data nodes: error 5030: No contact with database nodes"},
		{"a text that only begins like a known one", "System shutdown in progress again", nil, 0, "of all data nodes: System shutdown in progress again; look into"},
		{"a text with a dash", "no such thing - at all", nil, 0, "no such thing - at all; look into"},
		{"a number that is not known", "5999-strange", nil, 5999, "error 5999: strange; look into the management server's cluster log"},
		{"no result", "", nil, 0, "of all data nodes: ; look into"},
	} {
		err := operationError(operation{command: "stop v2", nodes: c.nodes}, c.result)
		if err.Code != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: code %d, %v; want code %d and %q", c.says, err.Code, err, c.code, c.want)
		}
	}
}

func TestOperationThatIsNotSent(t *testing.T) {
	// Whatever reaches the server fails the test: it expects nothing.
	c := dial(t, "> nothing", "! hang")
	ctx := t.Context()
	for _, r := range []struct {
		says string
		call func() error
		want string
	}{
		{"a stop of nobody, which the server would call a success", func() error { _, err := c.Stop(ctx, StopOptions{}); return err }, "no node is named"},
		{"a restart of nobody", func() error { _, err := c.Restart(ctx, RestartOptions{}); return err }, "no node is named"},
		{"node 0", func() error { _, err := c.Stop(ctx, StopOptions{}, 2, 0); return err }, "no node 0"},
		{"a start of node 0", func() error { return c.Start(ctx, 0) }, "no node 0"},
		{"more nodes than a line holds", func() error {
			_, err := c.Restart(ctx, RestartOptions{}, slices.Repeat([]topology.ID{144}, 121)...)
			return err
		}, "the list of 121 nodes has 483 bytes, the server takes 480"},
		{"a dump order without a code", func() error { return c.DumpState(ctx, 2) }, "0 numbers"},
		{"one with more numbers than the server keeps", func() error { return c.DumpState(ctx, 2, make([]int, 26)...) }, "26 numbers"},
		{"one with a number that is negative", func() error { return c.DumpState(ctx, 2, 7099, -1) }, "-1 in a DUMP order"},
		{"one with a number of more than 31 bits", func() error { return c.DumpState(ctx, 2, 1<<31) }, "2147483648 in a DUMP order"},
		{"one for node 0", func() error { return c.DumpState(ctx, 0, 7099) }, "no node 0"},
	} {
		if err := r.call(); err == nil || !strings.Contains(err.Error(), r.want) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want an error that names %s and says %q", r.says, err, address, r.want)
		}
	}
}

func TestOperationOptionsAreSent(t *testing.T) {
	ok := []string{"< restart reply", "< result: Ok", "< restarted: 1", "< disconnect: 0", "<"}
	script := slices.Concat(
		[]string{"> stop v2", "> node: 2 3", "> abort: 1", "> force: 1", ">", "< stop reply", "< result: Ok", "< stopped: 2", "< disconnect: 0", "<"},
		[]string{"> stop all", "> abort: 1", "> stop: db", ">", "< stop reply", "< result: Ok", "< stopped: 2", "< disconnect: 0", "<"},
		[]string{"> restart node v2", "> node: 2", "> initialstart: 1", "> nostart: 1", "> abort: 1", "> force: 1", ">"}, ok,
		[]string{"> restart all", "> initialstart: 1", "> nostart: 0", "> abort: 1", ">"}, ok,
		[]string{"> dump state", "> node: 2", "> args: 7099 0 2147483647", ">", "< dump state reply", "< result: Ok", "<"},
		[]string{"> get version", ">", "< version", "< id: 1", "<"},
	)
	c, ctx := dial(t, script...), t.Context()
	now := StopOptions{Abort: true, Force: true}
	_, err1 := c.Stop(ctx, now, 2, 3)
	_, err2 := c.StopAll(ctx, true)
	_, err3 := c.Restart(ctx, RestartOptions{now, true, true}, 2)
	_, err4 := c.RestartAll(ctx, RestartOptions{StopOptions: now, Initial: true})
	err5 := c.DumpState(ctx, 2, 7099, 0, 1<<31-1)
	_, err6 := c.Version(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Error(err)
	}
}

func TestUnexpectedOperationReplies(t *testing.T) {
	for _, c := range []struct {
		says  string
		reply []string
		want  string
	}{
		{"the reply to another command", []string{"< start reply", "< result: Ok"}, `begins with "start reply"`},
		{"no count", []string{"< stop reply", "< result: Ok"}, `stopped: "" is no number`},
		{"a negative count", []string{"< stop reply", "< result: Ok", "< stopped: -1"}, `"-1" is no number`},
		{"more nodes than there can be", []string{"< stop reply", "< result: Ok", "< stopped: 256"}, `"256" is no number`},
		{"no result", []string{"< stop reply", "< stopped: 1"}, "cluster log"},
		{"a refused argument, with the line's end in its text", []string{"< result: Missing arg., '", "< '"}, "refused"},
		{"TLS is demanded", []string{"< Authorization failed", "< Error: Requires TLS"}, "demands TLS"},
	} {
		script := slices.Concat([]string{"> stop v2", "> node: 2", "> abort: 0", "> force: 0", ">"}, c.reply, []string{"<"})
		n, err := dial(t, script...).Stop(t.Context(), StopOptions{}, 2)
		if n != 0 || err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %d, %v; want an error that names %s and says %q", c.says, n, err, address, c.want)
		}
	}
}

func TestOperationDeadlines(t *testing.T) {
	stop := func(ctx context.Context, c *Client) error { _, err := c.Stop(ctx, StopOptions{}, 2); return err }
	for _, c := range []struct {
		says    string
		options Options
		context time.Duration // of the call, 0 for none
		call    func(context.Context, *Client) error
		after   time.Duration
	}{
		{"a stop has 300 s", Options{}, 0, stop, 300 * time.Second},
		{"so has a stop of all", Options{}, 0, func(ctx context.Context, c *Client) error { _, err := c.StopAll(ctx, false); return err }, 300 * time.Second},
		{"a restart", Options{}, 0, func(ctx context.Context, c *Client) error { _, err := c.Restart(ctx, RestartOptions{}, 2); return err }, 300 * time.Second},
		{"and a restart of all", Options{}, 0, func(ctx context.Context, c *Client) error { _, err := c.RestartAll(ctx, RestartOptions{}); return err }, 300 * time.Second},
		{"or what the options say", Options{StopTimeout: time.Minute, Timeout: time.Second}, 0, stop, time.Minute},
		{"or its context, if that ends first", Options{}, 2 * time.Second, stop, 2 * time.Second},
		{"a start has a call's time", Options{}, 0, func(ctx context.Context, c *Client) error { return c.Start(ctx, 2) }, DefaultTimeout},
		{"so has a start of all", Options{}, 0, func(ctx context.Context, c *Client) error { _, err := c.StartAll(ctx); return err }, DefaultTimeout},
		{"and a dump order", Options{Timeout: time.Second}, 0, func(ctx context.Context, c *Client) error { return c.DumpState(ctx, 2, 7099) }, time.Second},
	} {
		t.Run(c.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := c.options
				o.Dial = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go play(t, server, []string{"! hang"})
					return client, nil
				}
				session, err := Dial(t.Context(), address, o)
				if err != nil {
					t.Fatal(err)
				}
				defer session.Close()
				ctx := t.Context()
				if c.context > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.context)
					defer cancel()
				}
				start := time.Now()
				if err := c.call(ctx, session); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, want it to run out of time", err)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("after %v, want %v", took, c.after)
				}
			})
		})
	}
}

func FuzzOperation(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "operations.txt"))
	if err != nil {
		f.Fatal(err)
	}
	var replies strings.Builder
	for _, line := range strings.Split(string(text), "\n") {
		if reply, ok := strings.CutPrefix(line, "<"); ok {
			fmt.Fprintln(&replies, strings.TrimPrefix(reply, " "))
		}
	}
	f.Add(replies.String())
	f.Add("restart reply\nresult=5063-Operation\nrestarted=1\n\n")
	f.Add("result: Missing arg., '\n'\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		in := bufio.NewReaderSize(strings.NewReader(text), maxLine)
		for {
			b, err := readBlock(in)
			if err != nil {
				return
			}
			for _, count := range []string{"", "stopped", "restarted", "started"} {
				n, err := operation{command: "stop v2", count: count}.outcome(b)
				if n < 0 || n > 255 || n > 0 && err != nil {
					t.Errorf("%d nodes, %v", n, err)
				}
				var failed *OperationError
				if errors.As(err, &failed) && (failed.Code < 0 || failed.Code > 65535) {
					t.Errorf("%#v", failed)
				}
			}
		}
	})
}
