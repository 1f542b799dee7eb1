// Package ldap runs a directory in containers, the kind of system that the mail
// data came from: OpenLDAP's slapd on several hosts, providers that replicate to
// each other (multi-provider replication with syncrepl). It answers the paths
// routing, preferences and accounts; README.md says how it is configured, why
// that is fair, and what it does not promise that an NDB cluster does.
package ldap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/moby/moby/client"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/topology"
)

// Spec says which directory to run.
type Spec struct {
	RunID string `json:"run_id"` // unique among what an engine runs; letters, digits and "-"
	// Topology has the providers, 1 to 9, with the role of SQL nodes, and no others.
	Topology topology.Topology `json:"topology"`
	Image    string            `json:"image"` // name or id of the programs' image
	Journal  string            `json:"-"`     // path of the fault journal, for heal; may be empty
	Keep     bool              `json:"-"`     // the directory outlives the harness
	Announce func(string)      `json:"-"`     // takes one line for each step of Start; may be nil
}

// Target is a reference.Target: a directory in containers. Faults find what
// they need in Containers.
type Target struct {
	*cluster.Containers
	spec Spec
	born time.Time
	load chan bool // holds whether the directory may still be filled
}

var (
	_ reference.Target   = (*Target)(nil)
	_ reference.Killer   = (*Target)(nil)
	_ reference.Liveness = (*Target)(nil)
)

// maxProviders keeps a rid at three digits and the mesh of connections small.
const maxProviders = 9

// New describes a directory that does not run yet.
func New(docker *client.Client, spec Spec) *Target {
	if spec.Announce == nil {
		spec.Announce = func(string) {}
	}
	t := &Target{spec: spec, born: time.Now(), load: make(chan bool, 1)}
	t.load <- true
	t.Containers = cluster.NewContainers(docker, cluster.Place{
		RunID: spec.RunID, Topology: spec.Topology, Image: spec.Image, Journal: spec.Journal, Keep: spec.Keep, Announce: spec.Announce,
	}, func(n topology.Node) cluster.Process {
		return process(spec.Topology, n, t.born, t.HostAddress)
	}, nil)
	return t
}

// Topology returns the providers.
func (t *Target) Topology() topology.Topology { return t.spec.Topology }

// Address returns the address and port at which a provider serves.
func (t *Target) Address(n topology.Node) string {
	return netip.AddrPortFrom(t.HostAddress(n.Host), port).String()
}

// Start runs the providers and waits until each answers and a change at each has
// reached all others. When it fails it leaves what it has made, for Stop, as
// cluster.Containers.Launch does.
func (t *Target) Start(ctx context.Context) error {
	began := time.Now()
	if n := len(t.spec.Topology.Nodes); n < 1 || n > maxProviders {
		return fmt.Errorf("a directory has 1 to %d providers, not %d", maxProviders, n)
	}
	for _, n := range t.spec.Topology.Nodes {
		if n.Role != topology.SQL {
			return fmt.Errorf("node %s has the role %s: a directory has providers only, which have the role %s", n.Name, n.Role, topology.SQL)
		}
	}
	description, err := json.Marshal(t.spec)
	if err != nil {
		return fmt.Errorf("describe the directory: %w", err)
	}
	if err := t.Launch(ctx, string(description)); err != nil {
		return err
	}
	if err := t.AwaitReady(ctx, t.awaitWhole); err != nil {
		return err
	}
	t.spec.Announce(fmt.Sprintf("directory: ready after %.1f s", time.Since(began).Seconds()))
	return nil
}

func (t *Target) awaitWhole(ctx context.Context) error {
	_, err := t.AwaitRedundant(ctx, t.spec.Topology.Nodes[0].ID)
	return err
}

func (t *Target) node(id topology.ID) (topology.Node, error) {
	n, ok := t.spec.Topology.ByID(id)
	if !ok {
		return n, fmt.Errorf("the directory has no node %d", id)
	}
	return n, nil
}

// Connect implements [reference.Target]: it binds as the mail system does. An
// error of the session tells reference/ndberr what it means for an attempt.
func (t *Target) Connect(ctx context.Context, id topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	n, err := t.node(id)
	if err != nil {
		return nil, err
	}
	s, err := connect(ctx, n, t.Address(n), clientDN, password, o)
	if err != nil {
		return nil, err // not a nil *session
	}
	return s, nil
}

// Version asks the first provider that answers which slapd it is.
func (t *Target) Version(ctx context.Context) (string, error) {
	var failures []error
	for _, n := range t.spec.Topology.Nodes {
		version, err := t.version(ctx, n)
		if err == nil {
			return version, nil
		}
		failures = append(failures, err)
	}
	return "", fmt.Errorf("ask for the version: %w", errors.Join(failures...))
}

func (t *Target) version(ctx context.Context, n topology.Node) (version string, err error) {
	err = t.visit(ctx, n, func(s *session) error {
		found, err := s.lookup("cn=Monitor", goldap.ScopeBaseObject, "(objectClass=*)", "monitoredInfo")
		if err != nil {
			return err
		}
		if len(found) != 1 || found[0].get("monitoredInfo") == "" {
			return errors.New("cn=Monitor does not tell")
		}
		version, _, _ = strings.Cut(found[0].get("monitoredInfo"), " (")
		return nil
	})
	return version, err
}

// visitTimeout bounds one look at a provider: it answers in milliseconds, if at
// all.
const visitTimeout = 2 * time.Second

// visit asks a provider something as its administrator, on a connection of its
// own.
func (t *Target) visit(ctx context.Context, n topology.Node, ask func(*session) error) error {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	s, err := connect(ctx, n, t.Address(n), adminDN, adminPassword, reference.ConnectOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.ask(ctx, func() error { return ask(s) })
}
