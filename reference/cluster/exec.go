package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// scriptError says that a script in a container ended with a code other than 0.
type scriptError struct {
	Code   int
	Output string // its last lines
}

func (e *scriptError) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("the command ended with code %d", e.Code)
	}
	return fmt.Sprintf("the command ended with code %d: %s", e.Code, e.Output)
}

// script runs a shell script in a running container and returns what it
// printed. args are its $1, $2, and so on. It is not cut off when ctx ends: it
// would go on in the container all the same.
func (c *Containers) script(ctx context.Context, container, script string, args ...string) (output string, err error) {
	err = act(ctx, func(ctx context.Context) error {
		created, err := c.docker.ExecCreate(ctx, container, client.ExecCreateOptions{
			Cmd: append([]string{"sh", "-ec", script, "sh"}, args...), AttachStdout: true, AttachStderr: true,
		})
		if err != nil {
			return err
		}
		attached, err := c.docker.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
		if err != nil {
			return err
		}
		defer attached.Close()
		defer context.AfterFunc(ctx, attached.Close)() // reading knows of no context
		var printed bytes.Buffer
		if _, err := stdcopy.StdCopy(&printed, &printed, attached.Reader); err != nil {
			return errors.Join(err, ctx.Err())
		}
		output = strings.TrimSpace(printed.String())
		return c.scriptCode(ctx, created.ID, output)
	})
	return output, err
}

// scriptCode asks how a script ended whose output has ended.
func (c *Containers) scriptCode(ctx context.Context, exec, output string) error {
	for {
		state, err := c.docker.ExecInspect(ctx, exec, client.ExecInspectOptions{})
		switch {
		case err != nil:
			return err
		case !state.Running && state.ExitCode == 0:
			return nil
		case !state.Running:
			return &scriptError{Code: state.ExitCode, Output: tail(output, 3)}
		}
		// The engine learns of the end a moment after the output's.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tail returns the last lines of a text as one line.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "; ")
}

// errHostGone says that a host has no running container: what was done to its
// network or its memory is gone with it.
var errHostGone = errors.New("the host's container does not run")

// onHost runs a script in a host's own container, which holds its network and
// the volumes of its nodes, whether they live or not.
func (c *Containers) onHost(ctx context.Context, host, script string, args ...string) (string, error) {
	if err := c.checkHost(host); err != nil {
		return "", err
	}
	c.mu.Lock()
	container, ok := c.hosts[host]
	c.mu.Unlock()
	if !ok {
		return "", fmt.Errorf("%w: there is none for %s in run %s", errHostGone, host, c.spec.RunID)
	}
	output, err := c.script(ctx, container, script, args...)
	if err != nil && (errdefs.IsConflict(err) || errdefs.IsNotFound(err)) && !c.runs(ctx, container) {
		err = fmt.Errorf("%w: %w", errHostGone, err)
	}
	return output, err
}

// takeBack is onHost for what takes a fault back: where the host is gone and
// none of its nodes keeps its network alive, there is nothing to take back.
func (c *Containers) takeBack(ctx context.Context, host, script string, args ...string) error {
	_, err := c.onHost(ctx, host, script, args...)
	if !errors.Is(err, errHostGone) {
		return err
	}
	for _, n := range c.spec.Topology.Nodes {
		if n.Host == host && isRunning(c.containerState(ctx, n.ID)) {
			return fmt.Errorf("%w, but node %s does; remove the cluster with: mailbench cluster down --name %s", err, n.Name, c.spec.RunID)
		}
	}
	return nil
}

// checkHost refuses a host that the cluster does not have.
func (c *Containers) checkHost(host string) error {
	hosts := c.spec.Topology.Hosts()
	for _, h := range hosts {
		if h == host {
			return nil
		}
	}
	return fmt.Errorf("the cluster has no host %q; there are %s", host, strings.Join(hosts, ", "))
}

// runs asks the engine whether a container runs.
func (c *Containers) runs(ctx context.Context, container string) bool {
	return isRunning(c.stateOf(ctx, container))
}

// isRunning says whether a container in that state has processes.
func isRunning(state string) bool {
	return state == "running" || state == "paused" || state == "restarting"
}

// forgetHost drops what the cluster said of a host's nodes, so that only news
// from now on counts.
func (c *Containers) forgetHost(host string) {
	for _, n := range c.spec.Topology.Nodes {
		if n.Host == host {
			c.forget(n.ID)
		}
	}
}
