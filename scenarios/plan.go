package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
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
	Population workload.Population // of an imported trace, whose recipients are not of it, as its file says
	Trace      workload.Source
	Clients    []workload.Client
	Faults     chaos.Plan

	traceSHA256 string
	model       *workload.Model     // of the day; nil of an imported trace
	arrivals    *workload.Arrivals  // nil until somebody wants to know
	made        *workload.Trace     // what is generated, or was for a file whose hours before are wanted
	file        *workload.TraceFile // nil if none is replayed
	survey      *workload.Survey    // of the file
	closeFile   func() error
}

// NewPlan works a scenario out. A trace file is read and checked from end to end.
// Errors are mistakes of the scenario or of that file, and are of type *InputError
// then. Close ends the plan.
func NewPlan(ctx context.Context, s *Scenario) (*Plan, error) {
	t, err := s.Topology()
	if err != nil {
		return nil, err
	}
	p := &Plan{Scenario: s, Topology: t}
	if p.Clients, err = s.clients(t); err != nil {
		return nil, err
	}
	if p.Faults, err = s.faultPlan(t); err != nil {
		return nil, err
	}
	if s.Workload.Trace != "" {
		err = p.replay(ctx)
	} else {
		err = p.generate()
	}
	if err == nil {
		err = p.checkClients()
	}
	if err != nil {
		_ = p.Close() // only read
		return nil, err
	}
	return p, nil
}

// LoadPlan works out a built-in scenario, or one of a file, with some values set.
// Close ends the plan.
func LoadPlan(ctx context.Context, name string, overrides ...Override) (*Plan, error) {
	file, err := Load(name)
	if err != nil {
		return nil, err
	}
	s, err := file.Scenario(overrides...)
	if err != nil {
		return nil, err
	}
	return NewPlan(ctx, s)
}

// Close closes the trace file.
func (p *Plan) Close() error {
	if p.closeFile == nil {
		return nil
	}
	return p.closeFile()
}

func (p *Plan) generate() error {
	s := p.Scenario
	profile, err := s.profile()
	if err != nil {
		return fmt.Errorf("the workload of scenario %s: %w", s.Name, err)
	}
	p.Population = workload.DefaultPopulation(s.Seed)
	p.Population.Peers = &profile.Peers
	p.Population.Accounts, p.Population.Domain = s.Population.Accounts, s.Population.Domain
	model := profile.Model
	model.MessagesPerDay, model.JobsPerDay = s.Workload.MessagesPerDay, s.Workload.JobsPerDay
	p.model = &model
	from := s.Workload.From.TimeOfDay
	if s.Workload.From.BusiestHour {
		hour, _ := model.BusiestHour()
		from = time.Duration(hour) * time.Hour
	}
	if p.made, err = workload.NewTrace(s.Seed, model, p.Population, workload.Window{From: from, Duration: s.Workload.Span()}); err != nil {
		return &InputError{Msg: fmt.Sprintf("the workload of scenario %s: %v", s.Name, err), Cause: err}
	}
	p.Trace = p.made
	return nil
}

// replay opens the slice of the trace file.
func (p *Plan) replay(ctx context.Context) error {
	s := p.Scenario
	whole, err := workload.OpenTrace(s.inputs.tracePath)
	if err != nil {
		return &InputError{Msg: err.Error(), Cause: err}
	}
	p.closeFile = whole.Close
	if sum := whole.SHA256(); sum != s.Workload.TraceSHA256 {
		return &InputError{Msg: fmt.Sprintf("trace file %s has changed: its items have SHA-256 %s", s.inputs.tracePath, sum)}
	}
	if p.file, err = whole.Slice(s.slice(whole.Window())); err == nil {
		p.survey, err = workload.SurveyTrace(ctx, p.file)
	}
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		return &InputError{Msg: err.Error(), Cause: err}
	}
	header := p.file.Header()
	p.Trace, p.Population, p.traceSHA256 = p.file, header.Population, p.survey.SHA256
	if !header.Imported() {
		p.model = &header.Profile.Model
	}
	if header.Imported() || s.Workload.Before != BeforeDay {
		return nil
	}
	// The hours before are made anew, which only is the truth if the file is what
	// its header says.
	p.made, err = workload.NewTrace(header.Seed, header.Profile.Model, header.Population, header.Window)
	if err == nil && p.made.SHA256() != p.survey.SHA256 {
		err = errors.New("its seed and profile do not make its messages with this program; use the one that wrote it, or set workload.before to correspondents")
	}
	if err != nil {
		return &InputError{Msg: fmt.Sprintf("trace file %s: what was before it cannot be worked out: %v", s.inputs.tracePath, err), Cause: err}
	}
	return nil
}

// checkClients finds what nobody would ask before a cluster is started for it.
func (p *Plan) checkClients() error {
	webmail := slices.ContainsFunc(p.Clients, func(c workload.Client) bool { return c.Kind == workload.Webmail })
	if !webmail && p.Trace.Actions()+p.Trace.Jobs() > 0 {
		return &InputError{Msg: fmt.Sprintf("scenario %s has no client of kind webmail for the trace's %d webmail logins and %d account jobs: add one to clients",
			p.Scenario.Name, p.Trace.Actions(), p.Trace.Jobs())}
	}
	return nil
}

// TraceSHA256 is that of the trace's items.
func (p *Plan) TraceSHA256() string {
	if p.traceSHA256 == "" {
		p.traceSHA256 = p.Trace.SHA256()
	}
	return p.traceSHA256
}

// Imported says that the trace is of a log.
func (p *Plan) Imported() bool { return p.file != nil && p.file.Header().Imported() }

// paths are those that the replay asks.
func (p *Plan) paths() []reference.Path {
	var asked []reference.Path
	for _, path := range reference.Paths {
		if p.Scenario.Workload.Asks(path) {
			asked = append(asked, path)
		}
	}
	return asked
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
		specs = append(specs, s.resolved(f))
	}
	ground := chaos.Ground{Topology: t, Duration: s.Workload.Duration}
	for _, c := range s.Clients {
		asks := chaos.Client{Name: c.Name}
		for _, name := range c.Nodes {
			if n, err := t.Node(name); err == nil {
				asks.Nodes = append(asks.Nodes, n.ID)
			}
		}
		ground.Clients = append(ground.Clients, asks)
	}
	p, err := chaos.NewPlan(s.Seed, specs, ground)
	if err != nil {
		return p, fmt.Errorf("the fault plan of scenario %s: %w", s.Name, err)
	}
	return p, nil
}

// Describe prints what the plan is going to do, in lines that fit width, unless
// they have no space to break at.
func (p *Plan) Describe(w io.Writer, width int) error {
	var b strings.Builder
	if err := p.describe(&b); err != nil {
		return err
	}
	_, err := io.WriteString(w, foldLines(b.String(), width, func(line string) int {
		switch {
		case strings.HasPrefix(line, "  "): // of a fault
			return len("  expected ")
		case len(line) > 12 && line[11] == ' ':
			return len("hypothesis  ")
		default:
			return 2
		}
	}))
	return err
}

func (p *Plan) describe(w io.Writer) error {
	s, window := p.Scenario, p.Trace.Window()
	perSecond := float64(p.Trace.Messages()) / s.Workload.Duration.Seconds()
	if _, err := fmt.Fprintf(w, `scenario    %s
hypothesis  %s
seed        %d
%swindow      %s to %s of the virtual day, %s of load at speed %d
offered     %d messages (%.1f/s), %d webmail actions, %d account jobs
%strace       sha256 %s
plan        sha256 %s

hosts and nodes
`, s.Name, s.Hypothesis, s.Seed, p.source(), virtualClock(window.From), virtualClock(window.From+window.Duration), formatDuration(s.Workload.Duration), s.Workload.Speed,
		p.Trace.Messages(), perSecond, p.Trace.Actions(), p.Trace.Jobs(), p.blocklist(), p.TraceSHA256(), p.Faults.SHA256()); err != nil {
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

// source says where the messages come from, in whole lines.
func (p *Plan) source() string {
	s := p.Scenario
	switch {
	case p.Imported():
		lines := fmt.Sprintf("trace file  %s, %s\npopulation  the trace's %d recipients in %d domains, each made an account\n",
			plain(s.Workload.Trace, 200), plain(p.file.Header().Origin, 1000), p.survey.Recipients, p.survey.Domains)
		if p.survey.Refused > 0 {
			lines += fmt.Sprintf("            %d recipients are no addresses and are refused before the database is asked\n", p.survey.Refused)
		}
		return lines
	case p.file != nil:
		h := p.file.Header()
		return fmt.Sprintf("trace file  %s, generated with profile %s\npopulation  %d accounts of %s\n",
			plain(s.Workload.Trace, 200), plain(h.Profile.Name, 63), h.Population.Accounts, plain(h.Population.Domain, 253))
	default:
		return fmt.Sprintf("profile     %s\npopulation  %d accounts of %s\n", s.Workload.Profile, s.Population.Accounts, s.Population.Domain)
	}
}

// blocklist says what never comes to the database; a file does not tell.
func (p *Plan) blocklist() string {
	t, ok := p.Trace.(*workload.Trace)
	if !ok {
		return ""
	}
	return fmt.Sprintf("blocklist   %d more messages are turned away before the database is asked\n", t.Offered()-t.Messages())
}
