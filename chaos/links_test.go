package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// wire is one client's way to a node, behind which a server answers each byte
// with the same byte after 1 ms, and greets with "!".
func wire(links *Links, client string, id topology.ID) (dial func(ctx context.Context) (net.Conn, error)) {
	node := func(address string) (topology.ID, bool) { return id, address == "the node" }
	var next reference.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			b := []byte("!")
			for {
				time.Sleep(time.Millisecond)
				if _, err := theirs.Write(b); err != nil {
					return
				}
				if _, err := io.ReadFull(theirs, b); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}
	through := links.Dial(client, node, next)
	return func(ctx context.Context) (net.Conn, error) { return through(ctx, "tcp", "the node") }
}

// ask makes one round trip, and returns how long it took.
func ask(c net.Conn) (time.Duration, error) {
	start := time.Now()
	if _, err := c.Write([]byte("?")); err != nil {
		return time.Since(start), err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return time.Since(start), err
}

func TestLinks(t *testing.T) {
	const ms = time.Millisecond
	node4 := []topology.Node{{ID: 4}}
	for _, row := range []struct {
		sentence string
		client   string
		fault    func() *linkFault // made in the test's bubble
		lift     time.Duration     // after which the fault is taken away, 0 for never
		deadline time.Duration     // for reading, 0 for none
		took     time.Duration     // one round trip on a connection that stood before
		err      error
		dialed   time.Duration // until a new connection was greeted, 0 for never
		met      bool
	}{
		{"a link without a fault is left alone", "mta1", nil, 0, 0, ms, nil, ms, false},
		{"a delay is added once a round trip, to a handshake and to the greeting", "mta1", func() *linkFault { return newLinkFault(nil, node4, 100*ms, false) }, 0, 0, 101 * ms, nil, 200 * ms, true},
		{"another client's delay is none of ours", "mta2", func() *linkFault { return newLinkFault([]string{"mta1"}, node4, 100*ms, false) }, 0, 0, ms, nil, ms, false},
		{"another node's neither", "mta1", func() *linkFault { return newLinkFault(nil, []topology.Node{{ID: 5}}, 100*ms, false) }, 0, 0, ms, nil, ms, false},
		{"a deadline ends a delay", "mta1", func() *linkFault { return newLinkFault(nil, node4, 100*ms, false) }, 0, 40 * ms, 40 * ms, os.ErrDeadlineExceeded, 200 * ms, true},
		{"a cut link is silent", "mta1", func() *linkFault { return newLinkFault(nil, node4, 0, true) }, 0, 3 * time.Second, 3 * time.Second, os.ErrDeadlineExceeded, 0, true},
		{"what a cut link took is delivered when it is mended", "mta1", func() *linkFault { return newLinkFault(nil, node4, 0, true) }, time.Second, 0, time.Second + ms, nil, ms, true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var links Links
				dial := wire(&links, row.client, 4)
				c, err := dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if row.fault != nil {
					links.set("f1", row.fault())
				}
				if row.lift > 0 {
					time.AfterFunc(row.lift, func() { links.set("f1", nil) })
				}
				if row.deadline > 0 {
					_ = c.SetDeadline(time.Now().Add(row.deadline))
				}
				if took, err := ask(c); took != row.took || !errors.Is(err, row.err) {
					t.Errorf("round trip took %s, %v; want %s, %v", took, err, row.took, row.err)
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				fresh, err := dial(ctx)
				var dialed time.Duration
				if err == nil {
					defer fresh.Close()
					_, _ = io.ReadFull(fresh, make([]byte, 1))
					dialed = time.Since(start)
				}
				if dialed != row.dialed || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a new connection took %s (%v), want %s", dialed, err, row.dialed)
				}
				if row.fault != nil && row.lift == 0 {
					short, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if e, err := links.await(short, "f1"); (err == nil) != row.met {
						t.Errorf("met: %+v, %v, want %v", e, err, row.met)
					}
				}
			})
		})
	}
}

func TestAnAnswerThatArrivesDuringACutIsHeardAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var links Links
		c, err := wire(&links, "mta1", 4)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.ReadFull(c, make([]byte, 1))
		time.AfterFunc(500*time.Microsecond, func() { links.set("f1", newLinkFault(nil, []topology.Node{{ID: 4}}, 0, true)) })
		time.AfterFunc(time.Second, func() { links.set("f1", nil) })
		if took, err := ask(c); took != time.Second || err != nil {
			t.Errorf("took %s, %v", took, err)
		}
	})
}

func TestDeadlineOrCloseEndAReadOnACutLink(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"a deadline that comes while it waits": func(c net.Conn) { _ = c.SetDeadline(time.Unix(1, 0)) },
		"a close":                              func(c net.Conn) { _ = c.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			var links Links
			c, err := wire(&links, "mta1", 4)(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.ReadFull(c, make([]byte, 1))
			links.set("f1", newLinkFault(nil, []topology.Node{{ID: 4}}, 0, true))
			time.AfterFunc(time.Second, func() { end(c) })
			if took, err := ask(c); took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: took %s, %v", name, took, err)
			}
			if _, err := c.Write(make([]byte, maxUnsent+1)); err == nil {
				t.Errorf("%s: a cut link takes more than its buffer", name)
			}
		})
	}
}

func TestALengthenedLinkOutlivesFaults(t *testing.T) {
	var links Links
	links.Lengthen(topology.Node{ID: 4, Name: "sql1"}, 2*time.Millisecond)
	links.set("f1", newLinkFault(nil, []topology.Node{{ID: 4}}, 10*time.Millisecond, false))
	if d, _ := links.state().on("mta1", 4); d != 12*time.Millisecond {
		t.Errorf("with a fault beside it the delay is %s, want the sum, 12ms", d)
	}
	links.set("f1", nil)
	if d, _ := links.state().on("mta1", 4); d != 2*time.Millisecond {
		t.Errorf("after the fault the delay is %s, want 2ms", d)
	}
	if d, _ := links.state().on("mta1", 5); d != 0 {
		t.Errorf("another node is %s away", d)
	}
}
