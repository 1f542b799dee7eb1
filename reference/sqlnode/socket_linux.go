package sqlnode

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// socket is a TCP connection that reads and writes by raw system calls. Go's own
// tell the scheduler of each call, in case it blocks: from a process that was
// idle, as a generator is between ops, that wakes the runtime's monitor, which
// then looks around every 20 µs until all is idle again (runtime/proc.go,
// entersyscall and sysmon). These calls do not block, as the descriptor is
// non-blocking; who must wait does so in Go's poller, as ever.
type socket struct {
	net.Conn
	raw syscall.RawConn
}

// quick makes a socket of a TCP connection and leaves any other as it is.
func quick(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	return &socket{c, raw}
}

func (s *socket) Read(b []byte) (n int, err error) {
	var failed syscall.Errno
	err = s.raw.Read(func(fd uintptr) bool {
		n, failed = transfer(syscall.SYS_READ, fd, b)
		return failed != syscall.EAGAIN
	})
	switch {
	case err != nil: // of the poller: the deadline, or Close
		return 0, err
	case failed != 0:
		return 0, s.failure("read", failed)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

func (s *socket) Write(b []byte) (n int, err error) {
	var failed syscall.Errno
	err = s.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			var sent int
			if sent, failed = transfer(syscall.SYS_WRITE, fd, b[n:]); failed != 0 {
				return failed != syscall.EAGAIN
			}
			n += sent
		}
		return true
	})
	if err == nil && failed != 0 {
		err = s.failure("write", failed)
	}
	return n, err
}

// failure is what package net makes of an error.
func (s *socket) failure(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// transfer reads or writes once, whatever signals come.
func transfer(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
