package engine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Owner names a process so that it is not taken for another one with the same
// process id: "pid:start:namespace", where start is its start time in clock
// ticks since boot (proc(5), field 22 of stat) and namespace its pid namespace.
func Owner() string {
	return fmt.Sprintf("%d:%s:%s", os.Getpid(), startTime(os.Getpid()), pidNamespace())
}

// Alive says whether the process that Owner named may still be there. A process
// of another pid namespace (a harness in a container), or one that may not be
// looked at, cannot be told from a living one.
func Alive(owner string) bool {
	parts := strings.SplitN(owner, ":", 3)
	pid, err := strconv.Atoi(parts[0])
	if err != nil || pid <= 0 || len(parts) != 3 {
		return false
	}
	if parts[2] != pidNamespace() {
		return true
	}
	if err := syscall.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return false
	}
	started := startTime(pid)
	return started == "" || started == parts[1]
}

func pidNamespace() string {
	name, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return name
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
