// Package engine reaches the container engine and names what mailbench owns in
// it. Everything that a run creates carries LabelRun; nothing without that
// label is ever touched.
package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// Labels of the containers, networks and volumes of a run.
const (
	LabelRun     = "mailbench.run"     // id of the run that owns it
	LabelHost    = "mailbench.host"    // the host that a container plays or belongs to
	LabelNode    = "mailbench.node"    // name of the node, absent on a host's own container
	LabelHog     = "mailbench.hog"     // on a noisy neighbour: name of the node that it disturbs
	LabelCluster = "mailbench.cluster" // on the network: the cluster's description as JSON
	LabelJournal = "mailbench.journal" // on the network: path of the run's fault journal
	LabelOwner   = "mailbench.owner"   // on the network: process id of the harness that made it
	LabelKeep    = "mailbench.keep"    // on the network: "true" if the cluster outlives its harness
	LabelImage   = "mailbench.image"   // on an image: hash of the image folder
	LabelBase    = "mailbench.base"    // on a base image: the Debian suite that it holds
)

// pingTimeout is short: an engine that runs answers in milliseconds, and a user
// without one must be told within seconds.
const pingTimeout = 3 * time.Second

// UnavailableError says that no container engine can be reached.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string {
	// The client keeps no error to compare with: it replaces EACCES by its own words.
	if strings.Contains(fmt.Sprint(e.Err), "permission denied") {
		return fmt.Sprintf("the container engine does not let this user in: %v\n"+
			"  run as root, or join the group docker (as root: usermod -aG docker USER) and log in again", e.Err)
	}
	return fmt.Sprintf("no container engine answers: %v\n"+
		"  install Docker Engine 20.10 or later (Debian: apt-get install docker.io) and start it\n"+
		"  (systemctl start docker, or dockerd as root), or point DOCKER_HOST at one", e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Connect returns a client of the engine that DOCKER_HOST names, or of the
// local one. It fails with *UnavailableError within a few seconds.
func Connect(ctx context.Context) (*client.Client, error) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, &UnavailableError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, errors.Join(&UnavailableError{err}, c.Close())
	}
	return c, nil
}

// Owned is a filter for everything that carries a run's label, or for
// everything that any run owns where runID is empty.
func Owned(runID string) client.Filters {
	if runID == "" {
		return client.Filters{}.Add("label", LabelRun)
	}
	return client.Filters{}.Add("label", LabelRun+"="+runID)
}
