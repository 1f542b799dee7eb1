package sqlnode

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestASocketDoesAsPackageNet puts a session's end of a TCP connection beside
// package net's own.
func TestASocketDoesAsPackageNet(t *testing.T) {
	much := bytes.Repeat([]byte("mail"), 4<<20) // more than the kernel holds
	for _, row := range []struct {
		sentence string
		peer     func(c *net.TCPConn)
		do       func(c net.Conn) (int, error)
		n        int
		want     error
	}{
		{
			"reads what is there", func(c *net.TCPConn) { c.Write([]byte("abc")) },
			func(c net.Conn) (int, error) { return c.Read(make([]byte, 8)) }, 3, nil,
		},
		{
			"waits for what is to come", func(c *net.TCPConn) { time.Sleep(20 * time.Millisecond); c.Write([]byte("abc")) },
			func(c net.Conn) (int, error) { return io.ReadFull(c, make([]byte, 3)) }, 3, nil,
		},
		{
			"reads nothing into nothing", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) { return c.Read(nil) }, 0, nil,
		},
		{
			"writes more than the kernel holds", func(c *net.TCPConn) { time.Sleep(20 * time.Millisecond); io.Copy(io.Discard, c) },
			func(c net.Conn) (int, error) { return c.Write(much) }, len(much), nil,
		},
		{
			"is told that the peer has closed", func(c *net.TCPConn) { c.Close() },
			func(c net.Conn) (int, error) { return c.Read(make([]byte, 8)) }, 0, io.EOF,
		},
		{
			"is told that the peer has reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
			func(c net.Conn) (int, error) { return c.Read(make([]byte, 8)) }, 0, syscall.ECONNRESET,
		},
		{
			"waits until the deadline to read", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) {
				c.SetDeadline(time.Now().Add(20 * time.Millisecond))
				return c.Read(make([]byte, 8))
			}, 0, os.ErrDeadlineExceeded,
		},
		{
			"does not write past the deadline", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) { c.SetDeadline(past); return c.Write([]byte("abc")) }, 0, os.ErrDeadlineExceeded,
		},
		{
			"is interrupted by a deadline that comes while it reads", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) {
				time.AfterFunc(20*time.Millisecond, func() { c.SetDeadline(past) })
				return c.Read(make([]byte, 8))
			}, 0, os.ErrDeadlineExceeded,
		},
		{
			"does not read when it is closed", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) { c.Close(); return c.Read(make([]byte, 8)) }, 0, net.ErrClosed,
		},
		{
			"is interrupted by a close while it reads", func(c *net.TCPConn) {},
			func(c net.Conn) (int, error) {
				time.AfterFunc(20*time.Millisecond, func() { c.Close() })
				return c.Read(make([]byte, 8))
			}, 0, net.ErrClosed,
		},
		{
			"is told that nobody takes what it writes", func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
			func(c net.Conn) (int, error) {
				c.Read(make([]byte, 8)) // the reset is there
				return c.Write([]byte("abc"))
			}, 0, syscall.EPIPE,
		},
	} {
		for how, of := range map[string]func(net.Conn) net.Conn{"net": func(c net.Conn) net.Conn { return c }, "sqlnode": quick} {
			ours, theirs := connected(t)
			go row.peer(theirs)
			n, err := row.do(of(ours))
			if n != row.n || !errors.Is(err, row.want) {
				t.Errorf("%s: %s: %d bytes and %v, want %d and %v", how, row.sentence, n, err, row.n, row.want)
			}
			var op *net.OpError
			if err != nil && err != io.EOF && !errors.As(err, &op) {
				t.Errorf("%s: %s: %v is no net.OpError", how, row.sentence, err)
			}
		}
	}
}

// connected are the two ends of a TCP connection.
func connected(t *testing.T) (ours net.Conn, theirs *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); other.Close() })
	return ours, other.(*net.TCPConn)
}
