// Command mailbench loads the database under a mail system and kills its nodes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(execute(untilInterrupt(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute performs a command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if readerGone(err) {
		return 0 // whoever read our output has seen enough
	}
	if err != nil && err.Error() != "" {
		fmt.Fprintln(stderr, "mailbench: "+err.Error())
	}
	code := exitCode(err)
	if err != nil && ctx.Err() != nil && code != exitUnhealed {
		return exitInterrupted
	}
	return code
}

// untilInterrupt returns a context that the first interrupt ends, upon which a
// command drains and heals. The second interrupt ends the process at once.
func untilInterrupt() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// A pager or tee that an interrupt ended must not end the harness before it
	// has healed: a write to a closed pipe then is an error, no death.
	signal.Ignore(syscall.SIGPIPE)
	go func() {
		<-signals
		fmt.Fprintln(os.Stderr, "\nmailbench: interrupted; draining, healing, writing the run (again to abort)")
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "\nmailbench: aborted; undo what is left with: mailbench heal")
		os.Exit(exitUnhealed)
	}()
	return ctx
}
