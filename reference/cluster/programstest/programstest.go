// Package programstest gives tests a container in which real Exim, Postgrey,
// slapd and sysbench can be run, beside the nodes of a test cluster and on their
// network.
package programstest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

const (
	startTimeout   = 10 * time.Minute // includes building the image where there is none
	commandTimeout = time.Minute
	// lifetime ends the container of a test that was killed before it could remove
	// it.
	lifetime = time.Hour

	memoryMiB = 512
	milliCPUs = 1000
)

// Options say what a container is like. The zero value will do.
type Options struct {
	Name string // part of the container's name; letters, digits and "-"
	// Hosts are names that resolve in the container, beside those of the cluster's
	// hosts. No other name does, and a query for one fails at once.
	Hosts map[string]netip.Addr
}

// Container runs nothing of its own: a test starts in it what it needs, with
// Exec.
type Container struct {
	ID      string
	Address netip.Addr // on the cluster's network; the test can reach it
	Gateway netip.Addr // the machine on which the test runs, as the container sees it

	docker *client.Client
}

// started tells apart the containers of one process.
var started atomic.Uint32

// Start runs a container of the programs' image on the network of c until the
// test ends. It carries the cluster's label, and is removed with it at the
// latest. It may take 1 processor and 512 MiB of memory.
func Start(t testing.TB, c *cluster.Cluster, o Options) *Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	docker, err := engine.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	found, err := image.Find(ctx, docker, image.Options{Kind: image.Programs, Announce: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(ctx, docker, c, found.ID, o)
	if p != nil {
		t.Cleanup(func() {
			if err := p.remove(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start returns a container also with an error if there is one to remove.
func start(ctx context.Context, docker *client.Client, c *cluster.Cluster, imageID string, o Options) (*Container, error) {
	runID := c.RunID()
	networks, err := docker.NetworkList(ctx, client.NetworkListOptions{Filters: engine.Owned(runID)})
	if err != nil {
		return nil, fmt.Errorf("list the engine's networks: %w", err)
	}
	if len(networks.Items) != 1 {
		return nil, fmt.Errorf("%d networks carry the label %s=%s, want 1", len(networks.Items), engine.LabelRun, runID)
	}
	nw := networks.Items[0].Name
	names := map[string]string{}
	for _, n := range c.Topology().Nodes {
		names[n.Host], _, _ = strings.Cut(c.Address(n), ":")
	}
	for name, address := range o.Hosts {
		names[name] = address.String()
	}
	var hosts []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		hosts = append(hosts, name+":"+names[name])
	}
	name := strings.Trim(o.Name+"-programs", "-")
	created, err := docker.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:  fmt.Sprintf("mailbench-%s-%s-%d-%d", runID, name, os.Getpid(), started.Add(1)),
		Image: imageID,
		Config: &container.Config{
			Hostname: name,
			Labels:   map[string]string{engine.LabelRun: runID},
			// As the first process it has to reap what daemons leave behind.
			Entrypoint: []string{"perl", "-e", fmt.Sprintf("$SIG{CHLD} = 'IGNORE'; sleep %.0f", lifetime.Seconds())},
		},
		HostConfig: &container.HostConfig{
			AutoRemove:  true,
			NetworkMode: container.NetworkMode(nw),
			ExtraHosts:  hosts,
			Resources:   container.Resources{Memory: memoryMiB << 20, NanoCPUs: milliCPUs * 1_000_000},
		},
		// The engine gives the address. It takes none of a host's: hosts hold theirs
		// as long as they run.
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{nw: {}}},
	})
	if err != nil {
		return nil, fmt.Errorf("create a container for programs: %w", err)
	}
	p := &Container{ID: created.ID, docker: docker}
	if _, err := docker.ContainerStart(ctx, p.ID, client.ContainerStartOptions{}); err != nil {
		return p, fmt.Errorf("start the container for programs: %w", err)
	}
	inspected, err := docker.ContainerInspect(ctx, p.ID, client.ContainerInspectOptions{})
	if err != nil {
		return p, fmt.Errorf("ask for the address of the container for programs: %w", err)
	}
	if settings := inspected.Container.NetworkSettings; settings != nil && settings.Networks[nw] != nil {
		p.Address, p.Gateway = settings.Networks[nw].IPAddress, settings.Networks[nw].Gateway
	}
	if !p.Address.IsValid() || !p.Gateway.IsValid() {
		return p, fmt.Errorf("the container for programs has address %s and gateway %s on network %s", p.Address, p.Gateway, nw)
	}
	// The engine's own name server asks the machine's, which may be slow to answer
	// or silent. Where none listens the question is refused.
	if output, err := p.Exec(ctx, "sh", "-c", "echo nameserver 127.0.0.1 >/etc/resolv.conf"); err != nil || output.Code != 0 {
		return p, fmt.Errorf("cut the container for programs off from name servers: %w", errors.Join(err, errors.New(output.Stderr)))
	}
	return p, nil
}

func (p *Container) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	_, err := p.docker.ContainerRemove(ctx, p.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	// The engine may remove it by itself at the same time.
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("remove the container for programs: %w", err)
}

// Output is what a command printed, and how it ended.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Exec runs a command as root, without a shell, until it ends. A command that
// ends with another code than 0 is no error. When ctx ends it is an error, and
// the command runs on in the container.
func (p *Container) Exec(ctx context.Context, command ...string) (Output, error) {
	what := strings.Join(command, " ")
	created, err := p.docker.ExecCreate(ctx, p.ID, client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return Output{}, fmt.Errorf("exec %.80q: %w", what, err)
	}
	attached, err := p.docker.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return Output{}, fmt.Errorf("exec %.80q: %w", what, err)
	}
	stop := context.AfterFunc(ctx, attached.Close) // the stream knows nothing of ctx
	defer attached.Close()
	defer stop()
	var stdout, stderr bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, &stderr, attached.Reader); err != nil || ctx.Err() != nil {
		return Output{}, fmt.Errorf("exec %.80q: read its output: %w", what, errors.Join(err, ctx.Err()))
	}
	inspected, err := p.docker.ExecInspect(ctx, created.ID, client.ExecInspectOptions{})
	if err != nil {
		return Output{}, fmt.Errorf("exec %.80q: %w", what, err)
	}
	return Output{stdout.String(), stderr.String(), inspected.ExitCode}, nil
}

// Run runs a command, fails the test unless it ends with code 0 within a
// minute, and returns its standard output.
func (p *Container) Run(t testing.TB, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	output, err := p.Exec(ctx, command...)
	if err != nil {
		t.Fatal(err)
	}
	if output.Code != 0 {
		t.Fatalf("%q ended with code %d\nstdout: %s\nstderr: %s", command, output.Code, output.Stdout, output.Stderr)
	}
	return output.Stdout
}

// Write puts a file into the container, in place of one that is there. It
// belongs to root; folders on the way are made.
func (p *Container) Write(t testing.TB, name string, mode os.FileMode, content []byte) {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	err := archive.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path.Clean(name), "/"), Mode: int64(mode.Perm()), Size: int64(len(content))})
	if err == nil {
		_, err = archive.Write(content)
	}
	if err := errors.Join(err, archive.Close()); err != nil {
		t.Fatalf("pack %s: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	_, err = p.docker.CopyToContainer(ctx, p.ID, client.CopyToContainerOptions{DestinationPath: "/", Content: &buffer})
	if err != nil {
		t.Fatalf("write %s in the container for programs: %v", name, err)
	}
}
