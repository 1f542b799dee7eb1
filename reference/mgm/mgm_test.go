package mgm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

const address = "198.18.77.11:1186"

// conversation reads a script of testdata. Its lines are "> " and what the
// client must send, "< " and what the server says, "# " and a comment.
func conversation(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// play is the server's side of a script, and closes conn at its end. Beside the
// lines of a conversation a script may have "! wait DURATION" and "! hang",
// which keeps conn open until the client closes it.
func play(t *testing.T, conn net.Conn, script []string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, line := range script {
		switch {
		case line == "! hang":
			io.Copy(io.Discard, in)
			return
		case strings.HasPrefix(line, "! wait "):
			d, err := time.ParseDuration(line[len("! wait "):])
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(d)
		case strings.HasPrefix(line, ">"):
			want := strings.TrimPrefix(line[1:], " ")
			got, err := in.ReadString('\n')
			if got == "" && errors.Is(err, io.EOF) {
				return // the client has asked enough
			}
			if err != nil || strings.TrimSuffix(got, "\n") != want {
				t.Errorf("the client sent %q (%v), want %q", got, err, want)
				return
			}
		case strings.HasPrefix(line, "<"):
			if _, err := io.WriteString(conn, strings.TrimPrefix(line[1:], " ")+"\n"); err != nil {
				return // the client has heard enough
			}
		}
	}
}

// serve returns a dialer whose every connection plays the script.
func serve(t *testing.T, script []string) Options {
	return Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		var playing sync.WaitGroup
		playing.Go(func() { play(t, server, script) })
		t.Cleanup(playing.Wait)
		return client, nil
	}}
}

func dial(t *testing.T, script ...string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), address, serve(t, script))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRecordedSession(t *testing.T) {
	c := dial(t, conversation(t, "session.txt")...)
	version, err := c.Version(t.Context())
	if want := (ServerVersion{Number: 9<<16 | 7<<8 | 4, Text: "mysql-9.7.4 ndb-9.7.4"}); err != nil || version != want {
		t.Errorf("Version: %v, %v; want %v", version, err, want)
	}
	if got := version.Number.String(); got != "9.7.4" {
		t.Errorf("the version is spelled %q", got)
	}
	id, err := c.NodeID(t.Context())
	if err != nil || id != 1 {
		t.Errorf("NodeID: %v, %v; want 1", id, err)
	}
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const v = Version(591620)
	want := map[topology.ID]NodeStatus{
		1: {ID: 1, Type: ManagementNode, Status: Connected, Version: v, MySQLVersion: v, Address: "198.18.77.11"},
		2: {ID: 2, Type: DataNode, Status: Started, Version: v, MySQLVersion: v, DynamicID: 4, ConnectCount: 5, Address: "198.18.77.12"},
		3: {ID: 3, Type: DataNode, Status: Started, Version: v, MySQLVersion: v, DynamicID: 5, ConnectCount: 3, Address: "198.18.77.13"},
		4: {ID: 4, Type: APINode, Status: Connected, Version: v, MySQLVersion: v, Address: "198.18.77.14"},
		5: {ID: 5, Type: APINode, Status: NoContact, Address: "0.0.0.0"},
	}
	if !maps.Equal(status, want) {
		t.Errorf("Status:\n got %+v\nwant %+v", status, want)
	}
}

func TestRecordedStatus(t *testing.T) {
	for _, c := range []struct {
		says, file string
		want       NodeStatus
	}{
		{"a killed data node has no contact", "status_killed.txt", NodeStatus{ID: 2, Type: DataNode, Status: NoContact}},
		{"a data node that restarts says in which phase it is", "status_starting.txt", NodeStatus{ID: 2, Type: DataNode, Status: Starting,
			Version: 591620, MySQLVersion: 591620, StartPhase: 4, DynamicID: 3, ConnectCount: 3, Address: "198.18.77.12"}},
	} {
		t.Run(c.says, func(t *testing.T) {
			status, err := dial(t, conversation(t, c.file)...).Status(t.Context(), DataNode)
			if err != nil || status[2] != c.want || status[3].Status != Started || len(status) != 2 {
				t.Errorf("%+v, %v; want node 2 to be %+v, node 3 started", status, err, c.want)
			}
		})
	}
}

func TestRefusal(t *testing.T) {
	c := dial(t, conversation(t, "refused.txt")...)
	for _, r := range []struct {
		says, command string
		args          []pair
		message       string
	}{
		{"an unknown command", "frobnicate", nil, "Unknown command, 'frobnicate'"},
		{"an unknown argument, and the session has gone on", "get status", []pair{{"colour", "5"}}, "Unknown argument, 'colour'"},
	} {
		_, err := c.call(t.Context(), r.command, r.args, "node status")
		var refused *CommandError
		if !errors.As(err, &refused) || *refused != (CommandError{address, r.command, r.message}) {
			t.Errorf("%s: %v", r.says, err)
		}
	}

	_, err := dial(t, conversation(t, "tls.txt")...).Status(t.Context())
	var tls *TLSRequiredError
	if !errors.As(err, &tls) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "RequireTls=false") {
		t.Errorf("a server that demands TLS: %v", err)
	}
}

func TestUnexpectedReplies(t *testing.T) {
	status := func(lines ...string) []string {
		return append([]string{"> get status", ">", "< node status"}, append(lines, "<")...)
	}
	one := []string{"< nodes: 1", "< node.2.type: NDB", "< node.2.status: STARTED"}
	many := slices.Repeat([]string{"< x: y"}, maxLines)
	for _, c := range []struct {
		says   string
		script []string
		want   string // part of the error, "" for none
	}{
		{"'=' separates as ':' does, spaces do not count, unknown names are passed over",
			status("< nodes=1", "< node.2.type =NDB", "< node.2.status: STARTED", "< node.2.is_single_user: 0", "< loadavg"), ""},
		{"a value may hold a separator", status(append(one, "< node.2.address: fd00::1")...), ""},
		{"the reply to another question", []string{"> get status", ">", "< version", "< id: 1", "<"}, `begins with "version"`},
		{"fewer nodes than announced", status("< nodes: 2", "< node.2.type: NDB", "< node.2.status: STARTED"), "2 nodes announced, 1 described"},
		{"no number of nodes", status("< node.2.type: NDB", "< node.2.status: STARTED"), "-1 nodes announced"},
		{"a node id beyond the range", status("< nodes: 1", "< node.256.type: NDB"), "not a number from 1 to 255"},
		{"a phase that is no number", status(append(one, "< node.2.startphase: four")...), "startphase of node 2"},
		{"a node without a status", status("< nodes: 1", "< node.2.type: NDB"), "node 2 has no type or no status"},
		{"a line that is too long", status("< x: " + strings.Repeat("y", maxLine)), "a line of more than 65536 bytes"},
		{"a block that is too long", status(many...), "a block of more than 4096 lines"},
		{"the longest block", status(append(one, many[:maxLines-len(one)-1]...)...), ""},
		{"an end within the reply", []string{"> get status", ">", "< node status"}, "closed the connection"},
	} {
		t.Run(c.says, func(t *testing.T) {
			got, err := dial(t, c.script...).Status(t.Context())
			switch {
			case c.want == "" && (err != nil || got[2].Status != Started || got[2].Type != DataNode):
				t.Errorf("%+v, %v", got, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), address)):
				t.Errorf("error %v, want one that names %s and says %q", err, address, c.want)
			}
		})
	}
}

func TestDeadlines(t *testing.T) {
	cancelled := errors.New("cancelled")
	for _, c := range []struct {
		says    string
		timeout time.Duration // of the options
		context time.Duration // of the call's context, 0 for none
		end     error
		want    error
		after   time.Duration
	}{
		{"a call is bounded though nobody says how", 0, 0, nil, context.DeadlineExceeded, DefaultTimeout},
		{"by the options", time.Second, 0, nil, context.DeadlineExceeded, time.Second},
		{"by its context, if that ends first", time.Second, 200 * time.Millisecond, nil, context.DeadlineExceeded, 200 * time.Millisecond},
		{"and ends when its context is cancelled", time.Second, 300 * time.Millisecond, cancelled, context.Canceled, 300 * time.Millisecond},
	} {
		t.Run(c.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := serve(t, []string{"> get status", ">", "< node status", "! hang"})
				o.Timeout = c.timeout
				session, err := Dial(t.Context(), address, o)
				if err != nil {
					t.Fatal(err)
				}
				defer session.Close()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch {
				case c.end != nil:
					time.AfterFunc(c.context, cancel)
				case c.context > 0:
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, c.context)
					defer stop()
				}
				start := time.Now()
				if _, err := session.Status(ctx); !errors.Is(err, c.want) {
					t.Errorf("Status: %v, want %v", err, c.want)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("the call took %v, want %v", took, c.after)
				}
				// Half of a reply may still be on its way.
				if _, err := session.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "the session is over") {
					t.Errorf("the next call: %v, want the session to be over", err)
				}
			})
		})
	}
}

func TestAnEndedContextDoesNotSpoilTheNextCall(t *testing.T) {
	c := dial(t, conversation(t, "session.txt")...)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.Version(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if id, err := c.NodeID(t.Context()); err != nil || id != 1 {
		t.Errorf("NodeID: %v, %v", id, err)
	}
}

func TestDialFailure(t *testing.T) {
	refused := errors.New("refused")
	_, err := Dial(t.Context(), address, Options{Dial: func(_ context.Context, network, to string) (net.Conn, error) {
		if network != "tcp" || to != address {
			t.Errorf("dialled %s %s", network, to)
		}
		return nil, refused
	}})
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v, want one that names %s", err, address)
	}
}

func FuzzStatus(f *testing.F) {
	for _, name := range []string{"session.txt", "status_killed.txt", "status_starting.txt", "tls.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.ReplaceAll(string(text), "< ", ""))
	}
	f.Add("node status\nnodes: 1\nnode.2.type=NDB\nnode.2.status=STARTED\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		in := bufio.NewReaderSize(strings.NewReader(text), maxLine)
		for {
			b, err := readBlock(in)
			if err != nil {
				return
			}
			if len(b.pairs) >= maxLines {
				t.Fatalf("a block of %d lines", len(b.pairs)+1)
			}
			nodes, err := parseStatus(b)
			if err != nil {
				continue
			}
			for id, n := range nodes {
				if id == 0 || n.ID != id || n.Type == "" || n.Status == "" {
					t.Errorf("node %d is %+v", id, n)
				}
			}
		}
	})
}
