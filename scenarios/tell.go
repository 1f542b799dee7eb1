package scenarios

import (
	"context"
	"encoding/json"
	"math"

	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/results"
)

// ProgressSchema names the form of Progress.
const ProgressSchema = "mailbench.progress/v1"

// Progress is a second of a run, as Style JSON tells it.
type Progress struct {
	Schema   string `json:"schema"` // ProgressSchema
	Scenario string `json:"scenario"`

	AtUS          int64             `json:"at_us"`     // since the run's anchor
	SecondUS      int64             `json:"second_us"` // how long this second was
	LoadUS        int64             `json:"load_us"`   // how long the load is planned to be
	OfferedPerS   int64             `json:"offered_per_s"`
	DonePerS      int64             `json:"done_per_s"`
	InFlight      int64             `json:"in_flight"`   // sessions
	ResponseUS    *ProgressResponse `json:"response_us"` // null if no op ended
	Ops           map[string]int64  `json:"ops"`         // that ended in this second, by outcome
	OpsSoFar      map[string]int64  `json:"ops_so_far"`
	Errors        map[string]int64  `json:"errors"` // attempts that failed in this second, by class
	ErrorsSoFar   map[string]int64  `json:"errors_so_far"`
	Nodes         []ProgressNode    `json:"nodes"`
	FaultsToCome  int               `json:"faults_to_come"`
	FaultsPast    int               `json:"faults_past"`
	FaultsFailed  int               `json:"faults_failed"`   // a step of them did not come about
	FaultsNotMade int               `json:"faults_not_made"` // those that were never injected
	FaultsActive  []ProgressFault   `json:"faults_active"`
	Budgets       []ProgressBudget  `json:"budgets"`
}

// ProgressResponse is the response times of the ops that ended, in microseconds.
type ProgressResponse struct {
	P50 int64 `json:"p50"`
	P99 int64 `json:"p99"`
	Max int64 `json:"max"`
}

// ProgressNode is a node as the events of the cluster tell of it.
type ProgressNode struct {
	Node   string            `json:"node"`
	State  results.NodeState `json:"state"`
	Faults []string          `json:"faults"` // that are on it
}

// ProgressFault is a fault that is active.
type ProgressFault struct {
	ID         string `json:"id"`
	InjectedUS int64  `json:"injected_at_us"`
	Step       string `json:"step"` // the last one
	StepUS     int64  `json:"step_at_us"`
}

// ProgressBudget is an objective's budget of the run, if events keep coming at
// their rate so far.
type ProgressBudget struct {
	Objective string           `json:"objective"`
	Good      *int64           `json:"good"` // events; null of slices and messages, which are counted after the run
	Bad       *int64           `json:"bad"`
	Left      *results.Decimal `json:"budget_left"` // share of it, below 0 if overspent; null if not known
}

// progress is a moment in the form for programs.
func progress(name string, m moment) Progress {
	p := Progress{
		Schema: ProgressSchema, Scenario: name,
		AtUS: m.at.Microseconds(), SecondUS: m.length.Microseconds(), LoadUS: m.planned.Microseconds(),
		OfferedPerS: m.offered, DonePerS: m.done, InFlight: m.inFlight,
		Ops: byOutcome(m.outcomes), OpsSoFar: byOutcome(m.allOutcomes),
		Errors: byClass(m.errors), ErrorsSoFar: byClass(m.allErrors),
		Nodes: []ProgressNode{}, FaultsActive: []ProgressFault{}, Budgets: []ProgressBudget{},
	}
	if m.outcomes.sum() > 0 {
		p.ResponseUS = &ProgressResponse{P50: m.p50, P99: m.p99, Max: m.longest}
	}
	for _, n := range m.nodes {
		p.Nodes = append(p.Nodes, ProgressNode{Node: n.Name, State: n.state, Faults: append([]string{}, n.faults...)})
	}
	for _, f := range m.faults {
		switch f.state {
		case faultToCome:
			p.FaultsToCome++
		case faultPast:
			p.FaultsPast++
		case faultFailed:
			p.FaultsFailed++
		case faultNotMade:
			p.FaultsNotMade++
		case faultActive:
			p.FaultsActive = append(p.FaultsActive, ProgressFault{
				ID: f.ID, InjectedUS: f.from.Microseconds(), Step: f.step, StepUS: f.stepAt.Microseconds(),
			})
		}
	}
	for _, b := range m.budgets {
		told := ProgressBudget{Objective: b.objective}
		if !b.after {
			told.Good, told.Bad = &b.good, &b.bad
		}
		if b.left != nil {
			left := results.Decimal(math.Round(*b.left * 1_000_000))
			told.Left = &left
		}
		p.Budgets = append(p.Budgets, told)
	}
	return p
}

func byOutcome(o outcomes) map[string]int64 {
	counts := map[string]int64{}
	for _, outcome := range shownOutcomes {
		counts[outcome.String()] = o[outcome]
	}
	return counts
}

func byClass(counts map[ndberr.Class]int64) map[string]int64 {
	named := map[string]int64{}
	for class, n := range counts {
		named[class.String()] = n
	}
	return named
}

// takeScreen has the live view share the terminal with all that is said, until
// what it returns is called. After an interrupt, of which main tells on its own,
// the view goes on below.
func (c *Conductor) takeScreen(ctx context.Context) (giveBack func()) {
	if c.Style != Live || c.Size == nil {
		return func() {}
	}
	terminal := c.Progress
	c.screen = &screen{w: terminal, size: c.Size}
	c.Progress = c.screen
	stop := context.AfterFunc(ctx, c.screen.leave)
	return func() {
		stop()
		c.screen.leave()
		c.screen, c.Progress = nil, terminal
	}
}

// tell shows a second of the run.
func (c *Conductor) tell(name string, m moment) {
	switch {
	case c.Style == Silent:
	case c.Style == JSON:
		text, err := json.Marshal(progress(name, m))
		if err != nil {
			c.say("the second could not be told: %v", err)
			return
		}
		c.say("%s", text)
	case c.screen != nil:
		columns, rows := c.Size()
		lines := liveLines(name, m, columns, rows, c.Color)
		if len(lines) > 0 {
			c.screen.show(lines)
			return
		}
		c.screen.show(nil)
		c.say("%s", plainLine(m))
	default:
		c.say("%s", plainLine(m))
	}
}

// told ends the view of a load.
func (c *Conductor) told() {
	if c.screen != nil {
		c.screen.leave()
	}
}
