package sqlnode

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

var node = topology.Node{ID: 4, Name: "sql1", Role: topology.SQL, Host: "mta1", Group: -1}

// dialer gives each dial a pipe whose other end serve has, and counts.
func dialer(dials *int, serve func(net.Conn)) reference.DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		*dials++
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			serve(server)
		}()
		return client, nil
	}
}

func TestConnectFails(t *testing.T) {
	for _, c := range []struct {
		sentence string
		dial     func(dials *int) reference.DialFunc
		want     error         // in the chain, if not nil
		after    time.Duration // of fake time
	}{
		{
			sentence: "a refused dial is one attempt",
			dial: func(dials *int) reference.DialFunc {
				return func(context.Context, string, string) (net.Conn, error) {
					*dials++
					return nil, io.ErrNoProgress // stands for any error
				}
			},
			want: io.ErrNoProgress,
		},
		{
			// The driver returns driver.ErrBadConn, which makes database/sql try
			// again.
			sentence: "a connection lost before the greeting is one attempt",
			dial:     func(dials *int) reference.DialFunc { return dialer(dials, func(net.Conn) {}) },
		},
		{
			sentence: "a node that accepts and stays silent is given the connect time-out",
			dial:     func(dials *int) reference.DialFunc { return dialer(dials, hold) },
			want:     context.DeadlineExceeded,
			after:    2 * time.Second,
		},
		{
			sentence: "a dial that hangs is given the connect time-out",
			dial: func(dials *int) reference.DialFunc {
				return func(ctx context.Context, _, _ string) (net.Conn, error) {
					*dials++
					<-ctx.Done()
					return nil, ctx.Err()
				}
			},
			want:  context.DeadlineExceeded,
			after: 2 * time.Second,
		},
		{
			sentence: "a node that refuses the login is one attempt",
			dial: func(dials *int) reference.DialFunc {
				return dialer(dials, func(c net.Conn) {
					greet(c)
					send(c, 2, "\xff\x15\x04#28000Access denied") // 1045
				})
			},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			dials, start := 0, time.Now()
			s, err := Connect(t.Context(), node, "192.0.2.1:3306", Account{User: "u"}, reference.ConnectOptions{
				Dial: c.dial(&dials), ConnectTimeout: 2 * time.Second,
			})
			if err == nil {
				s.Close()
				t.Fatalf("%s: got a session", c.sentence)
			}
			var connect *ndberr.ConnectError
			if !errors.As(err, &connect) || connect.Node != "sql1" || connect.Address != "192.0.2.1:3306" {
				t.Errorf("%s: %v is no ConnectError of that node", c.sentence, err)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", c.sentence, err, c.want)
			}
			if dials != 1 {
				t.Errorf("%s: dialled %d times", c.sentence, dials)
			}
			if after := time.Since(start); after != c.after {
				t.Errorf("%s: it took %v, want %v", c.sentence, after, c.after)
			}
		})
	}
}

func TestReadTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		s, err := Connect(t.Context(), node, "192.0.2.1:3306", Account{User: "u"}, reference.ConnectOptions{
			Dial: dialer(&dials, func(c net.Conn) {
				greet(c)
				send(c, 2, "\x00\x00\x00\x02\x00\x00\x00") // OK: logged in
				hold(c)
			}),
			ConnectTimeout: 2 * time.Second,
			ReadTimeout:    5 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		// The session outlives the time-out of its own connect.
		time.Sleep(time.Minute)
		start := time.Now()
		_, err = s.Route(t.Context(), "a@example.edu")
		if after := time.Since(start); after != 5*time.Second {
			t.Errorf("a silent node was awaited for %v, want 5s", after)
		}
		if class := ndberr.Classify(err).Class; class != ndberr.Timeout || !strings.Contains(err.Error(), "sql1") {
			t.Errorf("a silent node counts as %v (%v)", class, err)
		}
		if err := s.Set(t.Context(), "u", "k", "v"); ndberr.Classify(err).Class != ndberr.Broken {
			t.Errorf("the session goes on after it has lost its connection: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close a lost session: %v", err)
		}
		if dials != 1 {
			t.Errorf("the session dialled %d times", dials)
		}
	})
}

// greet is a server's side until it has the client's login (MySQL's protocol
// documentation, "Protocol::HandshakeV10").
func greet(c net.Conn) {
	const capabilities = 0x00088200 // PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
	send(c, 0, "\x0a9.7.4\x00"+"\x01\x00\x00\x00"+"12345678\x00"+
		string([]byte{capabilities & 0xff, capabilities >> 8 & 0xff})+
		"\x2d\x02\x00"+string([]byte{capabilities >> 16 & 0xff, 0})+
		"\x15"+"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+"123456789012\x00"+"mysql_native_password\x00")
	header := make([]byte, 4)
	if _, err := io.ReadFull(c, header); err == nil {
		_, _ = io.CopyN(io.Discard, c, int64(header[0]))
	}
}

func send(c net.Conn, sequence byte, payload string) {
	_, _ = c.Write(append([]byte{byte(len(payload)), 0, 0, sequence}, payload...))
}

// hold reads what comes and says nothing.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
