package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/mount"
)

var (
	_ reference.Disk    = (*Containers)(nil)
	_ reference.Emptier = (*Containers)(nil)
)

// A node's files live in a volume, so that they outlive the process. The host's
// container mounts the volumes of all its nodes: they can be reached while a
// node is dead, and one that is memory lives as long as its host.
const (
	hostVolumes  = "/mailbench/"     // a host's folder for the volumes of its nodes
	fillFile     = ".mailbench-fill" // in a volume: what FillDisk has taken
	hogFile      = ".mailbench-hog"  // in a volume: what a neighbour writes
	emptiedFiles = ".mailbench-gone" // in a volume: what EmptyDisk is deleting
)

// volume mounts the volume of a node at target. A disk that the topology bounds
// is a file system in memory of that size, the only one with a bound that every
// engine can make without privileges.
func (c *Containers) volume(n topology.Node, target string) mount.Mount {
	options := &mount.VolumeOptions{NoCopy: true, Labels: c.labels(nil)}
	if size := c.spec.Topology.Limits[n.Role].DiskMiB; size > 0 {
		options.DriverConfig = &mount.Driver{Name: "local", Options: map[string]string{
			"type": "tmpfs", "device": "tmpfs", "o": fmt.Sprintf("size=%dm,mode=0755", size),
		}}
	}
	return mount.Mount{Type: mount.TypeVolume, Source: c.name(n.Name), Target: target, VolumeOptions: options}
}

// CheckDisk refuses a node whose disk is nobody's but the machine's.
func (c *Containers) CheckDisk(_ context.Context, id topology.ID) error {
	n, ok := c.spec.Topology.ByID(id)
	switch {
	case !ok:
		return fmt.Errorf("the cluster has no node %d", id)
	case c.spec.Topology.Limits[n.Role].DiskMiB == 0:
		return fmt.Errorf("the disk of node %s is the machine's own, which is not to be filled: bound the disk of %s nodes in the topology's limits", n.Name, n.Role)
	}
	return nil
}

// fillScript makes the file $1 so large that $2 bytes are left. The node may
// write meanwhile, so that a first try may want more than there is.
const fillScript = `
for try in 1 2 3 4 5; do
  free=$(( $(stat -f -c '%a * %S' "${1%/*}") ))
  have=0; if [ -e "$1" ]; then have=$(stat -c %s "$1"); fi
  want=$(( have + free - $2 ))
  if [ "$want" -le "$have" ]; then exit 0; fi
  if fallocate -l "$want" "$1"; then exit 0; fi
done
exit 1
`

// FillDisk leaves no more than that many bytes free in the file system under a
// node's data. Filling it again fills it up again.
func (c *Containers) FillDisk(ctx context.Context, id topology.ID, leave int64) error {
	if err := c.CheckDisk(ctx, id); err != nil {
		return err
	}
	if leave < 0 {
		return fmt.Errorf("fill the disk of node %d: %d bytes are to be left, must be 0 or more", id, leave)
	}
	n, _ := c.spec.Topology.ByID(id)
	// From the host's container, whose memory has no limit: the file is memory.
	if _, err := c.onHost(ctx, n.Host, fillScript, hostVolumes+n.Name+"/"+fillFile, fmt.Sprint(leave)); err != nil {
		return fmt.Errorf("fill the disk of node %s: %w", n.Name, err)
	}
	return nil
}

// FreeDisk takes back what FillDisk has taken, from a dead node's disk too.
func (c *Containers) FreeDisk(ctx context.Context, id topology.ID) error {
	return c.removeFile(ctx, id, fillFile)
}

func (c *Containers) removeFile(ctx context.Context, id topology.ID, name string) error {
	n, ok := c.spec.Topology.ByID(id)
	if !ok {
		return fmt.Errorf("the cluster has no node %d", id)
	}
	if err := c.takeBack(ctx, n.Host, `rm -f "$1"`, hostVolumes+n.Name+"/"+name); err != nil {
		return fmt.Errorf("remove %s from the disk of node %s: %w", name, n.Name, err)
	}
	return nil
}

// emptyScript empties the volume $1. Renames come first, and the marker of
// a server's data directory before them: however far it came, a node that is
// started afterwards finds all its old files or none.
const emptyScript = `
rm -f "$1/initialised"
mkdir -p "$1/` + emptiedFiles + `"
find "$1" -mindepth 1 -maxdepth 1 ! -name ` + emptiedFiles + ` -exec mv -t "$1/` + emptiedFiles + `" {} +
rm -rf "$1/` + emptiedFiles + `"
`

// EmptyDisk empties the disk of a node that is dead; its next start is an
// initial one. It may be repeated, and is of one piece: a node that is started
// after an EmptyDisk that was cut short has its old files, or none.
func (c *Containers) EmptyDisk(ctx context.Context, id topology.ID) error {
	n, containerID, err := c.container(id)
	if err != nil {
		return err
	}
	if c.runs(ctx, containerID) {
		return fmt.Errorf("empty the disk of node %s: %w", n.Name, errNodeRuns)
	}
	if _, err := c.onHost(ctx, n.Host, emptyScript, hostVolumes+n.Name); err != nil {
		return fmt.Errorf("empty the disk of node %s: %w", n.Name, err)
	}
	return nil
}

var errNodeRuns = errors.New("it runs; kill it first")
