// Command mailbench loads the database under a mail system and kills its nodes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	os.Exit(run(os.Args[1:]))
}

// run performs a command line. The first interrupt ends the command's context,
// upon which it drains and heals; the second ends the process at once.
func run(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		fmt.Fprintln(os.Stderr, "\nmailbench: interrupted: draining, healing and writing the run; interrupt again to abort")
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "\nmailbench: aborted; undo what is left with: mailbench heal")
		os.Exit(exitUnhealed)
	}()
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		if text := err.Error(); text != "" {
			fmt.Fprintln(os.Stderr, "mailbench: "+text)
		}
	}
	return exitCode(err)
}
