package scenarios

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
)

// Parse reads a scenario file. The name stands in errors; data is the file's
// text, at most 1 MiB. The overrides are applied in their order before anything
// is checked.
//
// What Parse returns is resolved and consistent. Otherwise the error joins an
// *InputError for each mistake in the order of the file: all of them if the
// file is YAML at all, and the first one if it is not.
func Parse(name string, data []byte, overrides ...Override) (*Scenario, error) {
	root, mistake := parseTree(name, data, true)
	if mistake != nil {
		return nil, mistake
	}
	if root.kind == nullKind {
		root = &node{kind: mappingKind, at: root.at} // an empty file lacks what is required, no more
	}
	for _, o := range overrides {
		if root.kind != mappingKind {
			break // reported below
		}
		if mistake := o.apply(root); mistake != nil {
			return nil, mistake
		}
	}
	s := defaults()
	d := &decoder{written: map[string]position{}, wrong: map[string]bool{}}
	d.read(s.fields(), "", root)
	d.fillClients(s)
	d.check(s)
	if err := joinErrors(d.mistakes); err != nil {
		return nil, err
	}
	return s, nil
}

// YAML writes the scenario with every default written out. Parsing it gives the
// same scenario.
func (s *Scenario) YAML() []byte {
	var b strings.Builder
	s.fields().write().print(&b, "")
	return []byte(b.String())
}

// decoder is one reading of a file.
type decoder struct {
	written  map[string]position // of each value in the file, by its path
	wrong    map[string]bool     // paths with a mistake at or below them
	mistakes []*InputError
}

func (d *decoder) read(v value, path string, n *node) {
	d.written[path] = n.at
	v.read(d, path, n)
}

func (d *decoder) report(at position, path, format string, args ...any) {
	for outer := path; ; outer = outerPath(outer) {
		d.wrong[outer] = true
		if outer == "" {
			break
		}
	}
	msg := fmt.Sprintf(format, args...)
	if path == "" {
		path = "scenario"
	}
	d.mistakes = append(d.mistakes, at.errorf("%s: %s", path, msg))
}

// reject reports a value that is well formed but does not fit others. A value
// that was not written is reported where the nearest part around it stands.
func (d *decoder) reject(path, format string, args ...any) {
	for outer := path; ; outer = outerPath(outer) {
		if at, ok := d.written[outer]; ok {
			d.report(at, path, format, args...)
			return
		}
	}
}

// good says whether nothing at or below the paths was found wrong, so that a
// check that builds on them would not blame a second place for one mistake.
func (d *decoder) good(paths ...string) bool {
	for _, p := range paths {
		if d.wrong[p] {
			return false
		}
	}
	return true
}

// outerPath cuts the last step off a path: "a.b[0]" to "a.b" to "a" to "".
func outerPath(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// fillClients resolves the defaults that depend on the topology.
func (d *decoder) fillClients(s *Scenario) {
	if _, ok := d.written["clients"]; !ok {
		s.Clients = defaultClients(s.TopologySpec.SQLHosts)
	}
	t, err := s.Topology()
	if err != nil {
		return // reported by check
	}
	for i := range s.Clients {
		if c := &s.Clients[i]; len(c.Nodes) == 0 {
			c.Nodes = preferOwnHost(c.Name, t.ByRole(topology.SQL))
		}
	}
}

// check holds the fields against each other.
func (d *decoder) check(s *Scenario) {
	d.checkTopology(s)
	if d.good("topology") {
		if t, err := s.Topology(); err != nil {
			d.reject("topology", "%v", err)
		} else {
			d.checkClientNodes(s, t)
			d.checkFaultTargets(s, t)
		}
	}
	d.checkClients(s)
	d.checkWindow(s)
	d.checkFaultTimes(s)
	d.checkFaultPlan(s)
	d.unique("objectives", "name", len(s.ObjectiveSpecs), func(i int) string { return s.ObjectiveSpecs[i].Name })
}

func (d *decoder) checkTopology(s *Scenario) {
	spec := s.TopologySpec
	if d.good("topology.data_nodes", "topology.replicas") && spec.DataNodes%spec.Replicas != 0 {
		d.reject("topology.data_nodes", "must be a multiple of topology.replicas: %d data nodes cannot form node groups of %d", spec.DataNodes, spec.Replicas)
	}
	d.unique("topology.sql_hosts", "", len(spec.SQLHosts), func(i int) string { return spec.SQLHosts[i] })
}

func (d *decoder) checkClients(s *Scenario) {
	d.unique("clients", "name", len(s.Clients), func(i int) string { return s.Clients[i].Name })
	if !d.good("clients", "topology.sql_hosts") {
		return
	}
	for _, c := range s.Clients {
		if c.Kind == MTA {
			return
		}
	}
	d.reject("clients", "must hold at least one of kind mta, or no message is ever asked about")
}

func (d *decoder) checkClientNodes(s *Scenario, t topology.Topology) {
	var known []string
	for _, n := range t.ByRole(topology.SQL) {
		known = append(known, n.Name)
	}
	for i, c := range s.Clients {
		list := fmt.Sprintf("clients[%d].nodes", i)
		for j, name := range c.Nodes {
			path := fmt.Sprintf("%s[%d]", list, j)
			if !d.good(path) {
				continue
			}
			if n, err := t.Node(name); err != nil {
				d.reject(path, "%s", unknownName("SQL node", name, known))
			} else if n.Role != topology.SQL {
				d.reject(path, "%s is a %s node; a client asks SQL nodes: %s", name, n.Role, strings.Join(known, ", "))
			}
		}
		d.unique(list, "", len(c.Nodes), func(j int) string { return c.Nodes[j] })
	}
}

func (d *decoder) checkFaultTargets(s *Scenario, t topology.Topology) {
	var known []string
	for _, n := range t.Nodes {
		if n.Role != topology.Management {
			known = append(known, n.Name)
		}
	}
	for i, f := range s.Faults {
		path := fmt.Sprintf("faults[%d].target", i)
		if f.Target == "" || !d.good(path) {
			continue
		}
		if n, err := t.Node(f.Target); err != nil {
			d.reject(path, "%s", unknownName("node", f.Target, known))
		} else if n.Role == topology.Management {
			d.reject(path, "%s is a management node; a fault is for one of %s", f.Target, strings.Join(known, ", "))
		}
	}
}

func (d *decoder) checkWindow(s *Scenario) {
	w := s.Workload
	if !d.good("workload") {
		return
	}
	const day = 24 * time.Hour
	if w.Span() > day-w.From.TimeOfDay {
		d.reject("workload.duration", "must end on the same virtual day: %s at speed %d from %s passes midnight",
			formatDuration(w.Duration), w.Speed, formatStart(w.From))
	}
}

// checkFaultTimes finds the earliest course that the plan can take.
func (d *decoder) checkFaultTimes(s *Scenario) {
	if !d.good("workload.duration") {
		return
	}
	load := s.Workload.Duration
	var last, recovery time.Duration
	for i, f := range s.Faults {
		entry := fmt.Sprintf("faults[%d]", i)
		if !d.good(entry) {
			return // the times after it depend on it
		}
		if f.At >= load {
			d.reject(entry+".at", "must be before the load ends at %s, not %s", formatDuration(load), formatDuration(f.At))
			return
		}
		if f.At < last {
			d.reject(entry+".at", "must not be before faults[%d].at, which is %s, not %s: faults run one after another",
				i-1, formatDuration(last), formatDuration(f.At))
			return
		}
		last = f.At
		recovery = max(recovery, f.At) + f.Hold
		if recovery >= load {
			d.reject(entry+".hold", "must end before the load does at %s; the recovery cannot start before %s",
				formatDuration(load), formatDuration(recovery))
			return
		}
	}
}

// checkFaultPlan has chaos refuse what would be an outage of the harness's own
// making.
func (d *decoder) checkFaultPlan(s *Scenario) {
	if !d.good("topology", "faults", "workload.duration") {
		return
	}
	t, err := s.Topology()
	if err != nil {
		return // reported by check
	}
	var wrong chaos.SpecErrors
	if _, err := s.faultPlan(t); errors.As(err, &wrong) {
		for _, e := range wrong {
			d.reject(fmt.Sprintf("faults[%d].%s", e.Index, e.Field), "%s", e.Reason)
		}
	}
}

// unique reports the names that stand twice in a list: the entries themselves,
// or their field of the given key.
func (d *decoder) unique(list, key string, count int, name func(int) string) {
	first := map[string]int{}
	for i := range count {
		path := fmt.Sprintf("%s[%d]", list, i)
		if key != "" {
			path += "." + key
		}
		n := name(i)
		if _, ok := d.written[path]; !ok || n == "" || !d.good(path) {
			continue
		}
		if j, ok := first[n]; ok {
			d.reject(path, "%s is already the name of %s[%d]", quote(n), list, j)
			continue
		}
		first[n] = i
	}
}
