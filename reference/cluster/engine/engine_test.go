package engine

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
)

// The advice hangs on words of the client, so the client itself must say them.
func TestUnavailableErrorAdvises(t *testing.T) {
	for _, row := range []struct {
		sentence   string
		errno      syscall.Errno
		want, skip string
	}{
		{"a user who may not open the socket needs no second engine", syscall.EACCES, "join the group docker", "apt-get install"},
		{"where there is no socket an engine is to be installed", syscall.ENOENT, "apt-get install docker.io", "group docker"},
		{"a socket without a listener wants its engine started", syscall.ECONNREFUSED, "systemctl start docker", "group docker"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			c, err := client.New(client.WithHost("unix:///run/engine.sock"),
				client.WithDialContext(func(context.Context, string, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", row.errno)}
				}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Ping(t.Context(), client.PingOptions{})
			if err == nil {
				t.Fatal("the engine answers")
			}
			text := (&UnavailableError{err}).Error()
			if !strings.Contains(text, row.want) || strings.Contains(text, row.skip) {
				t.Errorf("error = %s\nwant %q and not %q", text, row.want, row.skip)
			}
		})
	}
}
