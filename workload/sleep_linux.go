package workload

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// timerfd is an alarm of the kernel, timerfd_create(2). Go waits for it as for a
// network connection, so that it wakes an idle process at once; unlike time-outs
// of epoll_wait and ppoll it knows no timer slack.
type timerfd struct {
	file *os.File
	raw  syscall.RawConn
}

func newAlarm() (alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &timerfd{file, raw}, nil
}

func (t *timerfd) wake(d time.Duration) error {
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	var failed syscall.Errno
	// Control keeps the descriptor from being closed, and given to another file.
	err := t.raw.Control(func(fd uintptr) {
		// Not through unix.TimerfdSettime, which has the scheduler prepare for a
		// call that blocks: this one does not.
		_, _, failed = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	})
	if err == nil && failed != 0 {
		err = failed
	}
	return err
}

// run never reads: Go asks epoll for edges, and one comes whenever the alarm has
// been set and goes off. Those that come while due runs are remembered.
func (t *timerfd) run(due func()) {
	_ = t.raw.Read(func(uintptr) bool { due(); return false }) // fails when it is closed
}

func (t *timerfd) close() error { return t.file.Close() }
