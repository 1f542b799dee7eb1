package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/scenarios"
	"golang.org/x/sys/unix"
)

// terminal is one of so many columns and lines.
func terminal(t *testing.T, columns, lines uint16) *os.File {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = controller.Close() })
	fd := int(controller.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return tty
}

func TestLook(t *testing.T) {
	tty := terminal(t, 91, 33)
	const unset = "unset"
	for _, row := range []struct {
		sentence, progress string
		terminal           bool
		term, noColor      string
		style              scenarios.Style
		color              bool
	}{
		{"a terminal has a live view in colours", "auto", true, "xterm", unset, scenarios.Live, true},
		{"a dumb one has lines", "auto", true, "dumb", unset, scenarios.Plain, true},
		{"NO_COLOR takes the colours", "auto", true, "xterm", "1", scenarios.Live, false},
		{"also if it is empty", "auto", true, "xterm", "", scenarios.Live, false},
		{"lines may be asked for", "plain", true, "xterm", unset, scenarios.Plain, true},
		{"a pipe has lines", "auto", false, "xterm", unset, scenarios.Plain, true},
	} {
		t.Setenv("TERM", row.term)
		t.Setenv("NO_COLOR", row.noColor) // and back after the test
		if row.noColor == unset {
			_ = os.Unsetenv("NO_COLOR") // a variable can always be unset
		}
		var (
			look scenarios.Look
			err  error
		)
		columns, lines := 0, 0
		if row.terminal {
			look, err = lookOf(row.progress, tty)
			columns, lines = 91, 33
		} else {
			look, err = lookOf(row.progress, &bytes.Buffer{})
		}
		if err != nil || look.Style != row.style || look.Color != row.color {
			t.Errorf("%s: style %d, colours %t, %v", row.sentence, look.Style, look.Color, err)
		}
		if c, l := look.Size(); c != columns || l != lines {
			t.Errorf("%s: %d columns and %d lines, want %d and %d", row.sentence, c, l, columns, lines)
		}
	}
}

func TestProgressFromTheEnvironment(t *testing.T) {
	t.Setenv("MAILBENCH_PROGRESS", "loud")
	var stdout, stderr bytes.Buffer
	if code := execute(t.Context(), []string{"run", "smoke"}, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), `--progress is "loud"`) {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}
