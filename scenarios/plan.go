package scenarios

import (
	"fmt"
	"io"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// day is the virtual day of every run: a Tuesday, in the week in which Berkeley
// told of its move to NDB (MySQL Conference, 14 to 17 April 2008).
var day = time.Date(2008, time.April, 15, 0, 0, 0, 0, time.UTC)

// avoid is how long a webmail client passes over a SQL node that refused it.
const avoid = time.Second

// Plan is all that a run of a scenario will do, known before anything starts:
// a function of the scenario and its seed.
type Plan struct {
	Scenario   *Scenario
	Topology   topology.Topology
	Population workload.Population
	Trace      *workload.Trace
	Clients    []workload.Client
	Faults     chaos.Plan
}

// NewPlan works a scenario out. Errors are mistakes of the scenario.
func NewPlan(s *Scenario) (*Plan, error) {
	t, err := s.Topology()
	if err != nil {
		return nil, err
	}
	profile, err := workload.BuiltinProfile(s.Workload.Profile)
	if err != nil {
		return nil, fmt.Errorf("the workload of scenario %s: %w", s.Name, err)
	}
	p := &Plan{Scenario: s, Topology: t, Population: s.population(profile)}
	if p.Trace, err = s.trace(profile.Model, p.Population); err != nil {
		return nil, err
	}
	if p.Clients, err = s.clients(t); err != nil {
		return nil, err
	}
	if p.Faults, err = s.faultPlan(t); err != nil {
		return nil, err
	}
	return p, nil
}

func (s *Scenario) population(profile workload.Profile) workload.Population {
	p := workload.DefaultPopulation(s.Seed)
	p.Peers = &profile.Peers
	p.Accounts, p.Domain = s.Population.Accounts, s.Population.Domain
	return p
}

func (s *Scenario) trace(model workload.Model, p workload.Population) (*workload.Trace, error) {
	model.MessagesPerDay, model.JobsPerDay = s.Workload.MessagesPerDay, s.Workload.JobsPerDay
	from := s.Workload.From.TimeOfDay
	if s.Workload.From.BusiestHour {
		hour, _ := model.BusiestHour()
		from = time.Duration(hour) * time.Hour
	}
	t, err := workload.NewTrace(s.Seed, model, p, workload.Window{From: from, Duration: s.Workload.Span()})
	if err != nil {
		return nil, fmt.Errorf("the workload of scenario %s: %w", s.Name, err)
	}
	return t, nil
}

func (s *Scenario) clients(t topology.Topology) ([]workload.Client, error) {
	var clients []workload.Client
	for _, c := range s.Clients {
		client := workload.Client{
			Name: c.Name, Kind: workload.Kind(c.Kind), Habit: workload.PerMessage,
			Policy: workload.Policy{
				ConnectTimeout: c.ConnectTimeout, ReadTimeout: c.ReadTimeout, Attempts: c.Attempts,
				Backoff: c.Backoff, FailOpen: c.GreylistFallback == Accept,
			},
		}
		if c.Connections == Persistent {
			client.Habit, client.Policy.Avoid = workload.Persistent, avoid
		}
		for _, name := range c.Nodes {
			n, err := t.Node(name)
			if err != nil {
				return nil, fmt.Errorf("client %s of scenario %s: %w", c.Name, s.Name, err)
			}
			client.Nodes = append(client.Nodes, n.ID)
		}
		clients = append(clients, client)
	}
	return clients, nil
}

func (s *Scenario) faultPlan(t topology.Topology) (chaos.Plan, error) {
	var specs []chaos.Spec
	for _, f := range s.Faults {
		specs = append(specs, chaos.Spec{Kind: chaos.Kind(f.Kind), Target: f.Target, At: f.At, Hold: f.Hold})
	}
	p, err := chaos.NewPlan(s.Seed, specs, chaos.Ground{Topology: t, Duration: s.Workload.Duration})
	if err != nil {
		return p, fmt.Errorf("the fault plan of scenario %s: %w", s.Name, err)
	}
	return p, nil
}

// Describe prints what the plan is going to do.
func (p *Plan) Describe(w io.Writer) error {
	s, window := p.Scenario, p.Trace.Window()
	perSecond := float64(p.Trace.Messages()) / s.Workload.Duration.Seconds()
	if _, err := fmt.Fprintf(w, `scenario    %s
hypothesis  %s
seed        %d
window      %s to %s of the virtual day, %s of load at speed %d
offered     %d messages (%.1f/s), %d webmail actions, %d account jobs
blocklist   %d more messages are turned away before the database is asked
trace       sha256 %s
plan        sha256 %s

hosts and nodes
`, s.Name, s.Hypothesis, s.Seed, clock(window.From), clock(window.From+window.Duration), formatDuration(s.Workload.Duration), s.Workload.Speed,
		p.Trace.Messages(), perSecond, p.Trace.Actions(), p.Trace.Jobs(), p.Trace.Offered()-p.Trace.Messages(), p.Trace.SHA256(), p.Faults.SHA256()); err != nil {
		return err
	}
	for _, n := range p.Topology.Nodes {
		group := ""
		if n.Role == topology.Data {
			group = fmt.Sprintf("  node group %d", n.Group)
		}
		fmt.Fprintf(w, "  %-10s %-8s %s%s\n", n.Host, n.Name, n.Role, group)
	}
	fmt.Fprintln(w, "\nfaults, times since the load began")
	return p.Faults.Describe(w, p.Topology)
}

// clock spells a virtual time of day.
func clock(d time.Duration) string { return day.Add(d).Format("15:04:05") }
