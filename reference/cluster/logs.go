package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// logs writes what a node's container has printed; tail bounds the lines, "all"
// for no bound.
func (c *Containers) logs(ctx context.Context, id topology.ID, tail string, w io.Writer) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	stream, err := c.docker.ContainerLogs(ctx, container, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: tail})
	if err != nil {
		return fmt.Errorf("read the log of node %s: %w", n.Name, err)
	}
	defer stream.Close()
	_, err = stdcopy.StdCopy(w, w, stream)
	return err
}

func (c *Containers) logTail(ctx context.Context, id topology.ID, lines int) []string {
	var buffer bytes.Buffer
	if err := c.logs(ctx, id, fmt.Sprint(lines), &buffer); err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimRight(buffer.String(), "\n"), "\n")
}

// SaveLogs writes the log of every node into dir.
func (c *Containers) SaveLogs(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, n := range c.spec.Topology.Nodes {
		f, err := os.Create(filepath.Join(dir, n.Name+".log"))
		if err != nil {
			return err
		}
		err = c.logs(ctx, n.ID, "all", f)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SaveLogs writes config.ini and the log of every node into dir.
func (c *Cluster) SaveLogs(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := configINI(c.spec.Topology, c.hostAddress)
	if err := os.WriteFile(filepath.Join(dir, "config.ini"), []byte(config), 0o644); err != nil {
		return err
	}
	return c.Containers.SaveLogs(ctx, dir)
}
