package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
)

var _ reference.Shaper = (*Containers)(nil)

const (
	minRate  = 8_000           // bits a second
	maxRate  = 100_000_000_000 // bits a second
	maxDelay = time.Minute
	tcTools  = "the image has no tc; make one that has it (docker build -t mailbench/ndb reference/cluster/image) and name it with --image"
)

// checkShape refuses a shape that is out of range.
func checkShape(s reference.Shape) error {
	switch {
	case s.BitsPerSecond == 0 && s.Delay == 0:
		return errors.New("neither a rate nor a delay is given")
	case s.BitsPerSecond != 0 && (s.BitsPerSecond < minRate || s.BitsPerSecond > maxRate):
		return fmt.Errorf("the rate is %d bit/s, must be %d to %d", s.BitsPerSecond, minRate, int64(maxRate))
	case s.Delay < 0 || s.Delay > maxDelay || (s.Delay > 0 && s.Delay < time.Microsecond):
		return fmt.Errorf("the delay is %v, must be 1µs to %v", s.Delay, maxDelay)
	}
	return nil
}

// queue returns tc's words for a shape. A token bucket bounds the rate; only
// netem can delay, and it then bounds the rate too.
func queue(s reference.Shape) []string {
	rate := fmt.Sprintf("%dbit", s.BitsPerSecond)
	if s.Delay == 0 {
		// The bucket holds 10 ms of traffic, or a few full frames; what has waited
		// for 200 ms is dropped, as a router with a full buffer does.
		burst := max(16<<10, s.BitsPerSecond/8/100)
		return []string{"tbf", "rate", rate, "burst", fmt.Sprint(burst), "latency", "200ms"}
	}
	words := []string{"netem", "limit", "100000", "delay", fmt.Sprintf("%dus", s.Delay.Microseconds())}
	if s.BitsPerSecond > 0 {
		words = append(words, "rate", rate)
	}
	return words
}

// findInterface finds the interface that has the address $1.
const findInterface = `
address=$1; shift
interface() { echo "$2"; }
name=$(interface $(ip -o -4 address show to "$address"))
`

// unshapeScript removes a discipline that Shape has set.
const unshapeScript = `
command -v tc >/dev/null || exit 0
` + findInterface + `
case "$(tc qdisc show dev "$name" root)" in *tbf*|*netem*) tc qdisc del dev "$name" root;; esac
`

// Shape bounds or delays what a host sends to others, in place of an earlier
// shape. What it sends itself, and what it receives, is left alone.
func (c *Containers) Shape(ctx context.Context, host string, s reference.Shape) error {
	if err := checkShape(s); err != nil {
		return fmt.Errorf("shape what host %s sends: %w", host, err)
	}
	if err := c.checkHost(host); err != nil {
		return err
	}
	c.forgetHost(host)
	args := append([]string{c.hostAddress(host).String()}, queue(s)...)
	if _, err := c.onHost(ctx, host, findInterface+`tc qdisc replace dev "$name" root "$@"`, args...); err != nil {
		return fmt.Errorf("shape what host %s sends: %w", host, err)
	}
	return nil
}

// Unshape takes back what Shape has set. Where nothing is set, or the host is
// dead, it does nothing.
func (c *Containers) Unshape(ctx context.Context, host string) error {
	if err := c.checkHost(host); err != nil {
		return err
	}
	if err := c.takeBack(ctx, host, unshapeScript, c.hostAddress(host).String()); err != nil {
		return fmt.Errorf("unshape host %s: %w", host, err)
	}
	return nil
}

// CheckShape sets such a shape in a network namespace that is thrown away. The
// cluster need not run.
func (c *Containers) CheckShape(ctx context.Context, s reference.Shape) error {
	if err := checkShape(s); err != nil {
		return err
	}
	words := queue(s)
	script := fmt.Sprintf(`command -v tc >/dev/null || exit %d; tc qdisc add dev lo root "$@" || exit %d`, probeMissing, probeRefused)
	refused := "the kernel lacks the queueing discipline " + words[0] + " (module sch_" + words[0] + ")"
	if s.Delay > 0 {
		refused += "; the nearest is the fault latency at the client's side, which needs no kernel's help"
	}
	return probed(c.probe(ctx, script, words...), tcTools, strings.TrimSpace(refused))
}
