package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// Variant is a scenario with something changed, whose capacity is searched beside that
// of others.
type Variant struct {
	Name string // of its directory: results/report finds it by what it begins with
	Set  []Override
}

// SQLNodes is a scenario with n SQL nodes, each on a host of its own, which clients of
// each kind prefer in turn.
func (s *Scenario) SQLNodes(n int) Variant {
	v := Variant{Name: fmt.Sprintf("%s%d", capacity.SQLNodesDir, n)}
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("sqlhost%d", i+1)
	}
	set := func(path, value string) {
		v.Set = append(v.Set, Override{Path: path, Value: value, Flag: "--sql-nodes"})
	}
	set("topology.sql_hosts", "["+strings.Join(hosts, ", ")+"]")
	seen := map[ClientKind]int{}
	for i, c := range s.Clients {
		nodes := make([]string, n)
		for k := range nodes {
			nodes[k] = fmt.Sprintf("sql%d", (seen[c.Kind]+k)%n+1)
		}
		seen[c.Kind]++
		set(fmt.Sprintf("clients[%d].nodes", i), "["+strings.Join(nodes, ", ")+"]")
	}
	return v
}

// DataNodes is a scenario with n data nodes.
func (s *Scenario) DataNodes(n int) Variant {
	return Variant{Name: fmt.Sprintf("%s%d", capacity.DataNodesDir, n), Set: []Override{{Path: "topology.data_nodes", Value: fmt.Sprint(n), Flag: "--data-nodes"}}}
}

// OnSystem is a scenario on another system, on machines that are as large: where each
// machine of NDB's carries a data node and a SQL node, the one server that another system
// has there gets what these have together.
func (s *Scenario) OnSystem(name string) Variant {
	v := Variant{Name: capacity.SystemDir + name, Set: []Override{{Path: "system", Value: name, Flag: "--system"}}}
	data, sql := s.TopologySpec.Limits.Data, s.TopologySpec.Limits.SQL
	if System(name) == SystemNDB || data.MilliCPUs == 0 || sql.MilliCPUs == 0 || data.MemoryMiB == 0 || sql.MemoryMiB == 0 {
		return v
	}
	v.Set = append(v.Set, Override{
		Path: "topology.limits.sql", Flag: "--system",
		Value: fmt.Sprintf("{cpus: %s, memory: %dMiB}", strictyaml.FormatDecimal(int64(data.MilliCPUs+sql.MilliCPUs), 3), data.MemoryMiB+sql.MemoryMiB),
	})
	return v
}

// MachineRegimes are those of a comparison of systems: healthy, and without the first
// machine that has a SQL server, with all that it carries.
func (p *Plan) MachineRegimes() []capacity.Regime {
	return []capacity.Regime{capacity.Healthy, capacity.ShortOf("host:" + p.Topology.ByRole(topology.SQL)[0].Host)}
}

// Searched is a variant worked out.
type Searched struct {
	Variant
	Plan    *Plan
	Search  *capacity.Search
	Regimes []capacity.Regime
	Death   *Plan // the scenario with its faults, which is run once beside the search; nil for none
}

// Searches searches variants one after another, each in a directory of its own below the
// conductor's. One that was searched already is left alone, and one that was begun goes
// on. An error of one does not keep the others from being searched, unless it is that
// ctx has ended.
func (c Conductor) Searches(ctx context.Context, all []Searched) error {
	var failures []error
	for _, v := range all {
		one := c
		one.Dir = filepath.Join(c.Dir, v.Name)
		_, err := os.Stat(filepath.Join(one.Dir, capacity.SearchFile))
		resume := err == nil
		c.say("%s: %s", v.Name, map[bool]string{false: "searching", true: "going on"}[resume])
		if _, err := one.Capacity(ctx, v.Plan, v.Search, v.Regimes, resume); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", v.Name, err))
		} else if v.Death != nil {
			if err := one.die(ctx, v.Death); err != nil {
				failures = append(failures, fmt.Errorf("%s, with its faults: %w", v.Name, err))
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

// die runs a scenario with its faults, in a directory beside the search, until it was
// run to its end once: what a death does in the moment is no matter of rates, and no
// search shows it.
func (c Conductor) die(ctx context.Context, p *Plan) error {
	name, ended := report.DeathRun(c.Dir)
	if ended {
		return nil
	}
	c.Dir = filepath.Join(c.Dir, name)
	c.say("%s: with its faults", p.Scenario.Name)
	_, err := c.Run(ctx, p)
	return err
}
