package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

var (
	_ reference.Stopper   = (*Containers)(nil)
	_ reference.Restarter = (*Containers)(nil)
	_ reference.Crasher   = (*Cluster)(nil)
)

// endTimeout bounds how long a server that was told to end may take: mysqld
// flushes its own tables first, and ndb_mgmd was seen to take 31 s while somebody
// listened to its events.
const endTimeout = time.Minute

// StopNode asks a node to end in order, by SIGTERM. A node that does not run is
// left alone.
func (c *Containers) StopNode(ctx context.Context, id topology.ID) error {
	return c.stopNode(ctx, id, func(container string) error {
		// Not the engine's stop, which would kill a server that takes its time.
		return c.signal(ctx, container, "SIGTERM")
	})
}

// stopNode notes that a node ends and tells it so, if it runs.
func (c *Containers) stopNode(ctx context.Context, id topology.ID, tell func(container string) error) error {
	n, containerID, err := c.container(id)
	if err != nil {
		return err
	}
	if !isRunning(c.stateOf(ctx, containerID)) {
		return nil
	}
	if err := c.noteEnding(ctx, n, containerID); err != nil {
		return fmt.Errorf("stop node %s: note that it ends: %w", n.Name, err)
	}
	c.forget(id)
	if err := tell(containerID); err != nil {
		// Refused, mostly: it runs on.
		return fmt.Errorf("stop node %s: %w", n.Name, errors.Join(err, c.takeBack(context.WithoutCancel(ctx), n.Host, `rm -f "$1"`, endingFile(n))))
	}
	return nil
}

// StopNode asks a node to end in order. A data node is told by the management
// server, which refuses where the rest could not go on without it, and answers
// when the others have excluded the node; its angel ends with it. Any other node
// gets SIGTERM. A node that does not run is left alone.
func (c *Cluster) StopNode(ctx context.Context, id topology.ID) error {
	if n, ok := c.spec.Topology.ByID(id); !ok || n.Role != topology.Data {
		return c.Containers.StopNode(ctx, id)
	}
	return c.stopNode(ctx, id, func(string) error {
		return c.Manage(ctx, func(session *mgm.Client) error {
			_, err := session.Stop(ctx, mgm.StopOptions{}, id)
			return err
		})
	})
}

// RestartNode tells a node to end, awaits that for a minute, and starts it.
func (c *Containers) RestartNode(ctx context.Context, id topology.ID) error {
	n, containerID, err := c.container(id)
	if err != nil {
		return err
	}
	if err := c.StopNode(ctx, id); err != nil {
		return err
	}
	if err := c.awaitEnding(ctx, n, containerID); err != nil {
		return fmt.Errorf("restart node %s: %w; kill and start it instead", n.Name, err)
	}
	return c.StartNode(ctx, id)
}

// RestartNode has a data node restart in place from its own disk: its angel
// lives on and starts it again. The call returns when the node is down and was
// told to start. Any other node is told to end, awaited for a minute, and
// started.
func (c *Cluster) RestartNode(ctx context.Context, id topology.ID) error {
	n, _, err := c.container(id)
	if err != nil {
		return err
	}
	if n.Role != topology.Data {
		return c.Containers.RestartNode(ctx, id)
	}
	c.Forget(id)
	err = c.Manage(ctx, func(session *mgm.Client) error {
		_, err := session.Restart(ctx, mgm.RestartOptions{}, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("restart node %s: %w", n.Name, err)
	}
	return nil
}

// endingFile, in a host's container, says which start of a node was told to end:
// the engine shows no difference between a server that runs and one that is about
// to end, and who starts it again may be another process. A start that came
// later makes it void.
func endingFile(n topology.Node) string { return hostVolumes + "ending-" + n.Name }

func (c *Containers) noteEnding(ctx context.Context, n topology.Node, containerID string) error {
	inspected, err := c.docker.ContainerInspect(ctx, containerID, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	_, err = c.onHost(ctx, n.Host, `printf %s "$2" > "$1"`, endingFile(n), inspected.Container.State.StartedAt)
	return err
}

// awaitEnding waits until a node has ended that was told to. One that runs and
// was not is left alone.
func (c *Containers) awaitEnding(ctx context.Context, n topology.Node, containerID string) error {
	inspected, err := c.docker.ContainerInspect(ctx, containerID, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	state := inspected.Container.State
	if !isRunning(string(state.Status)) {
		return nil
	}
	told, err := c.onHost(ctx, n.Host, `if [ -e "$1" ]; then cat "$1"; fi`, endingFile(n))
	if errors.Is(err, errHostGone) {
		return nil // and the note with it
	}
	if err != nil {
		return fmt.Errorf("look whether it was told to end: %w", err)
	}
	return awaitEnd(ctx, state.StartedAt, told, func(ctx context.Context) error { return c.awaitExit(ctx, containerID) })
}

// errNotEnded says that a node still runs that was told to end: it hangs, is
// frozen, or who meant to tell it was gone before.
var errNotEnded = errors.New("it was told to end but did not")

// awaitEnd waits for the end of a node that runs since started, if that start is
// the one that was told to end.
func awaitEnd(ctx context.Context, started, told string, exit func(context.Context) error) error {
	if told != started {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	err := exit(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w within %s: %w", errNotEnded, endTimeout, err)
	}
	return err
}

// CrashChild kills the process of a data node that does the work. The angel, its
// parent, is process 1 of the container: with StopOnError=1, which is NDB's
// default, it ends too, and the node is dead; with 0 it starts the node again.
func (c *Cluster) CrashChild(ctx context.Context, id topology.ID) error {
	n, err := c.Role(id, topology.Data)
	if err != nil {
		return err
	}
	_, containerID, err := c.container(id)
	if err != nil {
		return err
	}
	c.Forget(id)
	// proc(5): pid, name in brackets, state, parent. The name has no blank.
	_, err = c.script(ctx, containerID, `
killed=
for stat in /proc/[0-9]*/stat; do
  read -r pid name state parent rest < "$stat" 2>/dev/null || continue
  if [ "$name" = "(ndbmtd)" ] && [ "$parent" = 1 ] && [ "$state" != Z ]; then kill -9 "$pid"; killed=yes; fi
done
if [ -z "$killed" ]; then echo "no ndbmtd runs below the angel"; exit 1; fi`)
	if err != nil {
		return fmt.Errorf("crash the process of node %s: %w", n.Name, err)
	}
	return nil
}

// signal sends a signal to a container's first process. A container that does
// not run is left alone.
func (c *Containers) signal(ctx context.Context, containerID, signal string) error {
	err := act(ctx, func(ctx context.Context) error {
		_, err := c.docker.ContainerKill(ctx, containerID, client.ContainerKillOptions{Signal: signal})
		return err
	})
	if errdefs.IsConflict(err) && !c.runs(ctx, containerID) {
		return nil
	}
	return err
}

// awaitExit waits until a container has ended.
func (c *Containers) awaitExit(ctx context.Context, containerID string) error {
	wait := c.docker.ContainerWait(ctx, containerID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case err := <-wait.Error:
		return err
	case <-wait.Result:
		return nil
	}
}
