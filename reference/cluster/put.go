package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// Put writes a file to the disk of a node, dead or alive, in place of one that is
// there. It belongs to root, and everybody may read it. It may be that the file
// is seen before all of it is there.
func (c *Containers) Put(ctx context.Context, id topology.ID, name string, content []byte) error {
	n, container, err := c.container(id)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	err = archive.WriteHeader(&tar.Header{Name: path.Base(name), Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = archive.Write(content)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		return fmt.Errorf("pack %s for node %s: %w", name, n.Name, err)
	}
	err = act(ctx, func(ctx context.Context) error {
		_, err := c.docker.CopyToContainer(ctx, container, client.CopyToContainerOptions{
			DestinationPath: c.process(n).Directory, Content: &packed,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s to the disk of node %s: %w", name, n.Name, err)
	}
	return nil
}
