package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// Parse reads a scenario file. The name is its path, which stands in errors and
// which the paths of other files are relative to; those in an override
// are relative to the working directory. data is the file's text, at most 1 MiB.
// The overrides are applied in their order before anything is checked.
//
// Parse reads the profile's file and OpenSLO documents, and looks at the trace file; NewPlan reads all of
// that.
//
// What Parse returns is resolved and consistent. Otherwise the error joins an
// *InputError for each mistake in the order of the file, before those in the
// profile's file: all of them if the file is YAML at all, and the first one if it
// is not.
func Parse(name string, data []byte, overrides ...Override) (*Scenario, error) {
	root, mistake := strictyaml.ParseTree("scenario", name, data, true)
	if mistake != nil {
		return nil, mistake
	}
	if root.Kind == strictyaml.NullKind {
		root = &node{Kind: strictyaml.MappingKind, At: root.At} // an empty file lacks what is required, no more
	}
	for _, o := range overrides {
		if root.Kind != strictyaml.MappingKind {
			break // reported below
		}
		if mistake := o.apply(root); mistake != nil {
			return nil, mistake
		}
	}
	s, d := read(name, root, defaults())
	if s.Workload.Trace == "" {
		wrongProfile := d.fillProfile(name, s)
		d.checkDay(s)
		return d.finish(name, s, wrongProfile)
	}
	if t := d.openTrace(name, s); t != nil {
		// Once more: times in shares of the load want the file's length.
		s, d = read(name, root, traceDefaults(t, s, d))
		d.checkTrace(s, t)
	}
	return d.finish(name, s, nil)
}

// read reads a file over its defaults.
func read(file string, root *node, s *Scenario) (*Scenario, *decoder) {
	d := &decoder{strictyaml.NewDecoder("scenario")}
	d.Read(s.fields(), "", root)
	d.fillExternal(file, s)
	d.fillSchema(file, s)
	return s, d
}

// finish fills and checks what does not depend on where the messages come from.
func (d *decoder) finish(name string, s *Scenario, wrongProfile error) (*Scenario, error) {
	wrongDocument := d.fillOpenSLO(name, s)
	d.fillClients(s)
	d.fillFaults(s)
	d.check(s)
	if err := errors.Join(d.Err(), wrongProfile, wrongDocument); err != nil {
		return nil, err
	}
	return s, nil
}

// YAML writes the scenario with every default written out. Parsing it gives the
// same scenario.
func (s *Scenario) YAML() []byte {
	var b strings.Builder
	root := s.fields().Write()
	if s.external() { // each kind of cluster has its own section
		root.Remove("topology")
	} else {
		root.Remove("external")
	}
	w := root.Get("workload")
	if s.Workload.Trace == "" {
		w.Remove("trace_sha256")
	} else { // what must not stand beside a trace file
		root.Remove("population")
		w.Remove("profile", "messages_per_day", "account_jobs_per_day")
	}
	root.Print(&b, "")
	return []byte(b.String())
}

// decoder is one reading of a scenario file.
type decoder struct{ *strictyaml.Decoder }

// fillClients resolves the defaults that depend on the topology.
func (d *decoder) fillClients(s *Scenario) {
	if _, ok := d.Written["clients"]; !ok {
		s.Clients = defaultClients(s.sqlHosts())
	}
	t, err := s.Topology()
	if err != nil {
		return // reported by check
	}
	for i := range s.Clients {
		if c := &s.Clients[i]; len(c.Nodes) == 0 {
			own := c.Name
			// All ask the primary, and all who write do so at one provider, until it is dead.
			if s.System == SystemInnoDB || s.System == SystemLDAP && c.Kind == Webmail {
				own = ""
			}
			c.Nodes = preferOwnHost(own, t.ByRole(topology.SQL))
		}
	}
}

// check holds the fields against each other.
func (d *decoder) check(s *Scenario) {
	d.checkTopology(s)
	d.checkExternal(s)
	d.checkSystem(s)
	d.checkPaths(s)
	if d.Good("cluster", "system", "topology", "external") {
		if t, err := s.Topology(); err != nil {
			d.Reject("topology", "%v", err)
		} else {
			d.checkClientNodes(s, t)
			d.checkLinkNodes(s, t)
			d.checkFaultNames(s, t)
		}
	}
	d.checkClients(s)
	d.checkRetries(s)
	d.checkFaultTimes(s)
	d.checkFaultPlan(s)
	d.checkFaultLimits(s)
	d.checkFaultRates(s)
	d.checkObjectives(s)
	d.checkObjectiveNames(s)
}

func (d *decoder) checkTopology(s *Scenario) {
	spec := s.TopologySpec
	if !s.external() && s.System == SystemNDB && d.Good("topology.data_nodes", "topology.replicas") && spec.DataNodes%spec.Replicas != 0 {
		d.Reject("topology.data_nodes", "must be a multiple of topology.replicas: %d data nodes cannot form node groups of %d", spec.DataNodes, spec.Replicas)
	}
	d.Unique("topology.sql_hosts", "", len(spec.SQLHosts), func(i int) string { return spec.SQLHosts[i] })
}

func (d *decoder) checkClients(s *Scenario) {
	d.Unique("clients", "name", len(s.Clients), func(i int) string { return s.Clients[i].Name })
	if !d.Good("clients", "topology.sql_hosts", "external.sql", "cluster") {
		return
	}
	for _, c := range s.Clients {
		if c.Kind == MTA {
			return
		}
	}
	d.Reject("clients", "must hold at least one of kind mta, or no message is ever asked about")
}

func (d *decoder) checkClientNodes(s *Scenario, t topology.Topology) {
	for i, c := range s.Clients {
		list := fmt.Sprintf("clients[%d].nodes", i)
		for j, name := range c.Nodes {
			d.checkSQLNode(fmt.Sprintf("%s[%d]", list, j), name, t)
		}
		d.Unique(list, "", len(c.Nodes), func(j int) string { return c.Nodes[j] })
	}
}

func (d *decoder) checkLinkNodes(s *Scenario, t topology.Topology) {
	for i, l := range s.Links {
		d.checkSQLNode(fmt.Sprintf("links[%d].node", i), l.Node, t)
	}
	d.Unique("links", "node", len(s.Links), func(i int) string { return s.Links[i].Node })
}

// checkSQLNode holds a name against the SQL nodes that clients may ask.
func (d *decoder) checkSQLNode(path, name string, t topology.Topology) {
	if !d.Good(path) {
		return
	}
	var known []string
	for _, n := range t.ByRole(topology.SQL) {
		known = append(known, n.Name)
	}
	if n, err := t.Node(name); err != nil {
		d.Reject(path, "%s", strictyaml.UnknownName("SQL node", name, known))
	} else if n.Role != topology.SQL {
		d.Reject(path, "%s is a %s node; a client asks SQL nodes: %s", name, n.Role, strings.Join(known, ", "))
	}
}

// checkDay holds the window of a generated trace against the virtual day.
func (d *decoder) checkDay(s *Scenario) {
	w := s.Workload
	if _, ok := d.Written["workload.trace_sha256"]; ok {
		d.Reject("workload.trace_sha256", "wants workload.trace, which it is of")
	}
	if !d.Good("workload.from", "workload.duration", "workload.speed") {
		return
	}
	const day = 24 * time.Hour
	switch {
	case w.From.TimeOfDay >= day:
		d.Reject("workload.from", "must be before 24:00, not %s: only a trace file has later days", formatStart(w.From))
	case w.Span() > day-w.From.TimeOfDay:
		d.Reject("workload.duration", "must end on the same virtual day: %s at speed %d from %s passes midnight",
			formatDuration(w.Duration), w.Speed, formatStart(w.From))
	}
}

func (d *decoder) checkRetries(s *Scenario) {
	if d.Good("workload.retries", "workload.before") && s.Workload.Retries == RetriesPredicted && s.Workload.Before != BeforeDay {
		d.Reject("workload.retries", "predicted wants workload.before to be day: what the hours before leave decides who is put off")
	}
}
