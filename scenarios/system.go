package scenarios

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/innodb"
	"github.com/mailbench/mailbench/reference/ldap"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// System is what answers in containers.
type System string

// The systems.
const (
	SystemNDB    System = "ndb"    // an NDB cluster
	SystemInnoDB System = "innodb" // an InnoDB primary with a replica
	SystemLDAP   System = "ldap"   // two OpenLDAP providers
)

// pair is how many servers a system has that is no NDB cluster.
const pair = innodb.Servers

// keepsRoles says whether a server that comes back is what it was before it died. Nobody
// makes an InnoDB server the primary again whose replica has taken its place.
func (s System) keepsRoles() bool { return s != SystemInnoDB }

// allPaths are the names of all paths.
func allPaths() []string {
	var names []string
	for _, p := range reference.Paths {
		names = append(names, p.String())
	}
	return names
}

// servers lays out a system that is no NDB cluster.
func (s *Scenario) servers() topology.Topology {
	spec, prefix := s.TopologySpec, "sql"
	if s.System == SystemLDAP {
		prefix = "ldap"
	}
	t := topology.Servers(prefix, spec.SQLHosts)
	t.Limits = map[topology.Role]topology.Limits{topology.SQL: spec.Limits.SQL}
	if s.System == SystemInnoDB {
		t.SQLServer = maps.Clone(spec.SQLServer)
	}
	return t
}

// checkSystem holds what is asked for against what a system can do.
func (d *decoder) checkSystem(s *Scenario) {
	if s.System == SystemNDB || !d.Good("system", "cluster") {
		return
	}
	if s.external() {
		d.Reject("system", "must be ndb with cluster: external")
		return
	}
	if n := len(s.TopologySpec.SQLHosts); d.Good("topology.sql_hosts") && n != pair {
		d.Reject("topology.sql_hosts", "must be %d hosts with system: %s, one for each server, not %d", pair, s.System, n)
	}
	if s.System == SystemLDAP && d.Good("workload.paths") && s.Workload.Asks(reference.Greylist) {
		d.Reject("workload.paths", "must leave greylist out with system: ldap: a directory does not greylist")
	}
}

// checkPaths holds the paths that are asked against what else is wanted.
func (d *decoder) checkPaths(s *Scenario) {
	if !d.Good("workload.paths") {
		return
	}
	w := s.Workload
	d.Unique("workload.paths", "", len(w.Paths), func(i int) string { return w.Paths[i] })
	if !w.Asks(reference.Routing) {
		d.Reject("workload.paths", "must hold routing: without it nothing is asked about a message")
	}
	if !w.Asks(reference.Greylist) && w.Before == BeforeDay && d.Good("workload.before") {
		d.Reject("workload.before", "day wants greylist among workload.paths: it is what the hours before leave there")
	}
	for i, o := range s.ObjectiveSpecs {
		at := fmt.Sprintf("objectives[%d]", i)
		if o.OpenSLO == "" && o.Metric == "" && o.Path != AllPaths && d.Good(at) && !slices.Contains(w.Paths, o.Path) {
			d.Reject(at+".path", "%s is not asked: workload.paths leaves it out", o.Path)
		}
	}
}

// image is what the servers of a system run. named is the image of the cluster's
// nodes that a person has named, "" for none; slapd is among the programs.
func (s System) image(named string) image.Options {
	if s == SystemLDAP {
		return image.Options{Kind: image.Programs}
	}
	return image.Options{Name: named}
}

// contained describes the target of a plan in containers. announce may be nil.
func (p *Plan) contained(docker *client.Client, id, imageID, journal string, keep bool, announce func(string)) (system, error) {
	s := p.Scenario
	if keep && s.System != SystemNDB {
		return nil, &InputError{Msg: fmt.Sprintf("system %s cannot be kept: who sees to its fail-over ends with the run; leave --keep out", s.System)}
	}
	switch s.System {
	case SystemInnoDB:
		return innodb.New(docker, innodb.Spec{
			RunID: id, Topology: p.Topology, Schema: s.inputs.schema, Image: imageID, Journal: journal, Announce: announce,
		})
	case SystemLDAP:
		return ldap.New(docker, ldap.Spec{RunID: id, Topology: p.Topology, Image: imageID, Journal: journal, Announce: announce}), nil
	default:
		return cluster.New(docker, cluster.Spec{
			RunID: id, Topology: p.Topology, Schema: s.inputs.schema, Image: imageID, Account: cluster.DefaultAccount(),
			Journal: journal, Keep: keep, Announce: announce,
		}), nil
	}
}
