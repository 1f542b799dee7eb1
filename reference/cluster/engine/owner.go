package engine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Owner names a process of this machine so that it is not taken for a later
// one with the same process id: "pid:start", where start is the process's start
// time in clock ticks since boot (proc(5), field 22 of stat), "" if unknown.
func Owner() string { return fmt.Sprintf("%d:%s", os.Getpid(), startTime(os.Getpid())) }

// Alive says whether the process that Owner named is still there. A process
// that may not be signalled is.
func Alive(owner string) bool {
	text, start, _ := strings.Cut(owner, ":")
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return false
	}
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return false
	}
	return start == startTime(pid)
}

func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name in brackets and may hold blanks.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const startTimeField = 22 - 3 // fields counts from the third
	if len(fields) <= startTimeField {
		return ""
	}
	return string(fields[startTimeField])
}
