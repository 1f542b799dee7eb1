package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// probe runs a script with a host's rights in a container of its own, whose
// network nobody else has, and removes it. Where the script ends with a code
// other than 0 the error is a *scriptError.
func (c *Containers) probe(ctx context.Context, script string, args ...string) error {
	return act(ctx, func(ctx context.Context) (err error) {
		created, err := c.docker.ContainerCreate(ctx, client.ContainerCreateOptions{
			Config: &container.Config{
				Image: c.spec.Image, Labels: c.labels(nil),
				Entrypoint: append([]string{"sh", "-ec", script, "sh"}, args...),
			},
			HostConfig: &container.HostConfig{NetworkMode: "none", CapAdd: hostCapabilities()},
		})
		if err != nil {
			return fmt.Errorf("make a container to try it in: %w", err)
		}
		defer func() {
			_, removeErr := c.docker.ContainerRemove(context.WithoutCancel(ctx), created.ID, client.ContainerRemoveOptions{Force: true})
			err = errors.Join(err, unlessGone(removeErr, "remove container %s", created.ID))
		}()
		wait := c.docker.ContainerWait(ctx, created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
		if _, err := c.docker.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
			return fmt.Errorf("start a container to try it in: %w", err)
		}
		select {
		case err := <-wait.Error:
			return err
		case ended := <-wait.Result:
			if ended.StatusCode == 0 {
				return nil
			}
			return &scriptError{Code: int(ended.StatusCode), Output: c.printed(ctx, created.ID)}
		}
	})
}

// printed returns the last lines that a container has printed, as one line.
func (c *Containers) printed(ctx context.Context, containerID string) string {
	stream, err := c.docker.ContainerLogs(ctx, containerID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "3"})
	if err != nil {
		return err.Error()
	}
	defer stream.Close()
	var text bytes.Buffer
	if _, err := stdcopy.StdCopy(&text, &text, stream); err != nil {
		return err.Error()
	}
	return tail(text.String(), 3)
}
