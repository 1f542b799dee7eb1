package scenarios

import (
	"context"
	"fmt"
	"io"

	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/moby/moby/client"
)

// FindImage finds or builds the nodes' image and tells of it on w.
func FindImage(ctx context.Context, docker *client.Client, name string, w io.Writer, terminal bool) (image.Found, error) {
	return findImage(ctx, docker, image.Options{Name: name}, w, terminal)
}

// FindPrograms finds or builds the image of the real programs that tests run,
// and tells of it on w.
func FindPrograms(ctx context.Context, docker *client.Client, w io.Writer, terminal bool) (image.Found, error) {
	return findImage(ctx, docker, image.Options{Kind: image.Programs}, w, terminal)
}

func findImage(ctx context.Context, docker *client.Client, o image.Options, w io.Writer, terminal bool) (image.Found, error) {
	last, open := "", false // open: the line on the terminal has no newline yet
	closeLine := func() {
		if open {
			fmt.Fprintln(w)
			open = false
		}
	}
	defer closeLine() // a failure is printed on a line of its own
	o.Announce = func(line string) { closeLine(); fmt.Fprintln(w, line) }
	o.Progress = func(p image.Progress) {
		line := p.String()
		// Elsewhere than on a terminal every tenth percent is enough.
		if terminal {
			fmt.Fprintf(w, "\r\x1b[K%s", line)
			open = true
			if p.Percent == 100 || p.Percent < 0 {
				closeLine()
			}
		} else if line != last && (p.Percent < 0 || p.Percent%10 == 0) {
			fmt.Fprintln(w, line)
		}
		last = line
	}
	return image.Find(ctx, docker, o)
}
