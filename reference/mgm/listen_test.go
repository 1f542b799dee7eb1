package mgm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/golden"
)

// subscription is how every stream of events begins.
func subscription() []string {
	return []string{"> listen event", "> parsable: 1", "> filter: " + DefaultFilter().String(), ">", "< listen event", "< result: 0", "<"}
}

func event(lines ...string) []string {
	script := []string{"< log event reply"}
	for _, l := range lines {
		script = append(script, "< "+l)
	}
	return append(script, "<")
}

func TestRecordedEvents(t *testing.T) {
	var got strings.Builder
	start := time.Now()
	err := Listen(t.Context(), address, serve(t, conversation(t, "events.txt")), DefaultFilter(), func(e Event) {
		if e.At.Before(start) || e.At.After(time.Now()) {
			t.Errorf("%s happened at %v", e.Name, e.At)
		}
		fmt.Fprintf(&got, "%2d %s, node %d, says node %d: %v\n", e.Type, e.Name, e.Node(), e.Source, e.Fields)
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), address) {
		t.Errorf("at the end of the recording: %v", err)
	}
	golden.AssertBytes(t, []byte(got.String()), "events.golden")
}

func TestRecordedDetails(t *testing.T) {
	var got strings.Builder
	for _, file := range []string{"events.txt", "events_stop.txt", "events_system_restart.txt", "events_frozen.txt"} {
		fmt.Fprintf(&got, "%s\n", file)
		err := Listen(t.Context(), address, serve(t, conversation(t, file)), DefaultFilter(), func(e Event) {
			d, err := e.Detail()
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if d != nil {
				fmt.Fprintf(&got, "  %s, says node %d: %s%+v\n", e.Name, e.Source, strings.TrimPrefix(fmt.Sprintf("%T", d), "mgm."), d)
			}
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s, at its end: %v", file, err)
		}
	}
	golden.AssertBytes(t, []byte(got.String()), "details.golden")
}

func TestListenRefused(t *testing.T) {
	var refused *CommandError
	err := Listen(t.Context(), address, serve(t, conversation(t, "filter_refused.txt")), Filter{{"NONSENSE", 15}}, func(Event) {})
	if !errors.As(err, &refused) || refused.Message != "Unknown category: >NONSENSE<" {
		t.Errorf("a filter that the server refuses: %v", err)
	}
	var tls *TLSRequiredError
	err = Listen(t.Context(), address, serve(t, conversation(t, "tls_events.txt")), DefaultFilter(), func(Event) {})
	if !errors.As(err, &tls) {
		t.Errorf("a server that demands TLS: %v", err)
	}
	for _, c := range []struct {
		says   string
		filter Filter
	}{
		{"no category", nil},
		{"a category without a name", Filter{{"", 15}}},
		{"a name that begins another line", Filter{{"ERROR\nstop all", 15}}},
		{"a level below 0", Filter{{"ERROR", -1}}},
		{"a level above 15", Filter{{"ERROR", 16}}},
		{"more than the server reads in a line", slices.Repeat(Filter{{"NODERESTART", 15}}, 40)},
	} {
		dialled := Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%s: dialled all the same", c.says)
			return nil, io.EOF
		}}
		if err := Listen(t.Context(), address, dialled, c.filter, nil); err == nil {
			t.Errorf("%s: Listen takes it", c.says)
		}
		if err := Follow(t.Context(), address, dialled, c.filter, nil, nil); err == nil {
			t.Errorf("%s: Follow takes it", c.says)
		}
	}
}

func TestSilence(t *testing.T) {
	pings := slices.Repeat([]string{"! wait 500ms", "< <PING>"}, 20)
	for _, c := range []struct {
		says   string
		script []string
		after  time.Duration
	}{
		{"a server that says nothing is dead after 3 s", nil, Silence},
		{"pings keep it alive", pings, 10*time.Second + Silence},
		{"so do events", slices.Concat([]string{"! wait 2s"}, event("type=5", "gci=7"), []string{"! wait 2s"}, event("type=5", "gci=8")), 4*time.Second + Silence},
		{"it may die in the middle of an event", []string{"! wait 1s", "< log event reply", "! wait 1s", "< type=28"}, 2*time.Second + Silence},
	} {
		t.Run(c.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := Listen(t.Context(), address, serve(t, slices.Concat(subscription(), c.script, []string{"! hang"})), DefaultFilter(), func(Event) {})
				var silent *SilentError
				if !errors.As(err, &silent) || *silent != (SilentError{address, Silence}) {
					t.Errorf("Listen: %v, want a SilentError", err)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("after %v, want %v", took, c.after)
				}
			})
		})
	}
}

func TestListenStampsAnEventWithItsFirstLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		script := slices.Concat(subscription(), []string{"! wait 700ms", "< log event reply", "! wait 1s", "< type=11", "< source_nodeid=2", "<"})
		var at time.Duration
		Listen(t.Context(), address, serve(t, script), DefaultFilter(), func(e Event) { at = e.At.Sub(start) })
		if at != 700*time.Millisecond {
			t.Errorf("the event is stamped %v, want 700ms", at)
		}
	})
}

func TestListenEndsWithItsContext(t *testing.T) {
	for _, c := range []struct {
		says   string
		script []string
	}{
		{"while the dial goes on", nil},
		{"while the subscription is awaited", []string{"> listen event", "! hang"}},
		{"while events are awaited", append(subscription(), "! hang")},
	} {
		t.Run(c.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := serve(t, c.script)
				if c.script == nil {
					o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
						<-ctx.Done()
						return nil, fmt.Errorf("dial: %w", ctx.Err())
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				if err := Listen(ctx, address, o, DefaultFilter(), func(Event) {}); err != context.DeadlineExceeded {
					t.Errorf("Listen: %v, want the context's own error", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("after %v, want 1s", took)
				}
			})
		})
	}
}

func TestUnexpectedEvents(t *testing.T) {
	for _, c := range []struct {
		says   string
		script []string
		want   string
	}{
		{"a line that begins nothing", []string{"< Node 2: Started"}, `unexpected line "Node 2: Started"`},
		{"an event without a type", event("time=0"), "event without a type"},
		{"a type that is no number", event("type=x"), `event of type "x"`},
		{"a line that is too long", event("type=1", "data="+strings.Repeat("7 ", maxLine/2)), "a line of more than"},
		{"a block that is too long", event(slices.Repeat([]string{"data=7"}, maxLines)...), "a block of more than"},
	} {
		t.Run(c.says, func(t *testing.T) {
			err := Listen(t.Context(), address, serve(t, slices.Concat(subscription(), c.script)), DefaultFilter(), func(e Event) { t.Errorf("event %v", e) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		var log []string
		note := func(format string, args ...any) {
			log = append(log, fmt.Sprintf("%5.1fs ", time.Since(start).Seconds())+fmt.Sprintf(format, args...))
		}
		refused := errors.New("refused")
		first := slices.Concat(subscription(), event("type=28", "failed_node=2")) // then the server dies
		last := slices.Concat(subscription(), event("type=11", "source_nodeid=2"), []string{"! hang"})
		dials := 0
		o := Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			dials++
			note("dial")
			script := first
			switch dials {
			case 1, 2, 4, 5, 6, 7, 8, 9, 10:
				return nil, refused
			case 11:
				script = last
			}
			client, server := net.Pipe()
			go play(t, server, script)
			return client, nil
		}}
		err := Follow(ctx, address, o, DefaultFilter(), func(e Event) {
			note("%s %d", e.Name, e.Node())
			if e.Type == 11 {
				cancel()
			}
		}, func(err error) { note("gap, refused %v", errors.Is(err, refused)) })
		if err != context.Canceled {
			t.Errorf("Follow: %v, want the context's own error", err)
		}
		want := []string{
			"  0.0s dial", "  0.0s gap, refused true",
			"  0.1s dial",
			"  0.3s dial", "  0.3s NODE_FAILREP 2", "  0.3s gap, refused false", // from 100 ms anew
			"  0.4s dial", "  0.6s dial", "  1.0s dial", "  1.8s dial", "  3.4s dial", "  5.4s dial", "  7.4s dial",
			"  9.4s dial", "  9.4s NDBStartCompleted 2",
		}
		if !slices.Equal(log, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestFollowGivesUpWhatNoDiallingMends(t *testing.T) {
	gap := func(err error) { t.Errorf("gap: %v", err) }
	var tls *TLSRequiredError
	if err := Follow(t.Context(), address, serve(t, conversation(t, "tls_events.txt")), DefaultFilter(), nil, gap); !errors.As(err, &tls) {
		t.Errorf("a server that demands TLS: %v", err)
	}
	var refused *CommandError
	if err := Follow(t.Context(), address, serve(t, conversation(t, "filter_refused.txt")), Filter{{"NONSENSE", 15}}, nil, gap); !errors.As(err, &refused) {
		t.Errorf("a filter that the server refuses: %v", err)
	}
}

func TestFollowEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o := Options{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }}
		gaps := 0
		if err := Follow(ctx, address, o, DefaultFilter(), nil, func(error) { gaps++ }); err != context.DeadlineExceeded || gaps != 1 {
			t.Errorf("Follow: %v after %d gaps, want the context's own error after 1", err, gaps)
		}
	})
}

func TestNode(t *testing.T) {
	for _, c := range []struct {
		says   string
		typ    string
		fields []string
		name   string
		want   topology.ID
	}{
		{"who disconnected", "1", []string{"node=2"}, "Disconnected", 2},
		{"who may come back", "3", []string{"node=2"}, "CommunicationOpened", 2},
		{"who failed", "28", []string{"failed_node=2", "failure_state=0"}, "NODE_FAILREP", 2},
		{"whose failure is handled, whatever completing_node says", "27", []string{"block=246", "failed_node=2", "completing_node=67109111"}, "NodeFailCompleted", 2},
		{"who starts says so itself", "10", []string{"version=591620"}, "NDBStartStarted", 3},
		{"who has started too", "11", []string{"version=591620"}, "NDBStartCompleted", 3},
		{"and in which phase it is", "13", []string{"phase=4", "starttype=2"}, "StartPhaseCompleted", 3},
		{"who stops", "17", []string{"stoptype=0"}, "NDBStopStarted", 3},
		{"whose redo log is read", "19", []string{"node=2", "restorable_gci=8"}, "StartREDOLog", 2},
		{"who gets copies", "24", []string{"dest_node=2"}, "NR_CopyFragsStarted", 2},
		{"who gets the dictionary, says the master", "22", []string{"data=2 "}, "NR_CopyDict", 2},
		{"who missed heartbeats", "44", []string{"node=2", "count=3"}, "MissedHeartbeat", 2},
		{"who is dead for it", "45", []string{"node=2"}, "DeadDueToHeartbeat", 2},
		{"arbitration is about the cluster", "30", []string{"code=458798", "arbit_node=1"}, "ArbitResult", 0},
		{"so is a checkpoint", "5", []string{"gci=7"}, "GlobalCheckpointCompleted", 0},
		{"a number that is no node", "1", []string{"node=14672"}, "Disconnected", 0},
		{"a field that is not there", "28", nil, "NODE_FAILREP", 0},
		{"an unknown type keeps its number and its source", "61", []string{"data=1"}, "EVENT_61", 3},
	} {
		pairs := []pair{{"type", c.typ}, {"time", "0"}, {"source_nodeid", "3"}}
		for _, f := range c.fields {
			pairs = append(pairs, parsePair(f))
		}
		e, err := parseEvent(time.Time{}, pairs)
		if err != nil || e.Name != c.name || e.Node() != c.want || e.Source != 3 || len(e.Fields) != len(c.fields) {
			t.Errorf("%s: %+v about node %d, %v; want %s about node %d", c.says, e, e.Node(), err, c.name, c.want)
		}
	}
}

func FuzzEvents(f *testing.F) {
	for _, name := range []string{"events.txt", "events_stop.txt", "events_system_restart.txt", "events_frozen.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.ReplaceAll(string(text), "< ", ""))
	}
	f.Add("<PING>\nlog event reply\ntype=28\ntime=0\nsource_nodeid=3\nfailed_node=2\n\n")
	f.Add("log event reply\ntype=33\ndata=\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		client, server := net.Pipe()
		server.Close() // takes deadlines, reads nothing
		defer client.Close()
		c := &Client{conn: client, in: bufio.NewReaderSize(strings.NewReader(text), maxLine)}
		for range strings.Count(text, "\n") + 1 {
			if c.nextEvent(func(e Event) {
				if e.Type < 0 || e.Name == "" || e.Fields == nil || e.At.IsZero() {
					t.Errorf("event %+v", e)
				}
				e.Node()
				if d, err := e.Detail(); d != nil && err != nil {
					t.Errorf("detail %+v beside the error %v", d, err)
				}
			}) != nil {
				return
			}
		}
		t.Error("more events than lines")
	})
}
