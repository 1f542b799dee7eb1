// Package capacity judges searches for the highest rate of messages at which a
// system still meets its objectives. A search is a series of runs: each run is one
// warm system that was offered one rate after another, in steps, and search.json
// beside the runs says which steps there were. All else is a function of these
// recordings.
package capacity

import (
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
)

// Files of a search's directory, and the schemas of these files.
const (
	SearchFile   = "search.json"   // recorded while the search goes on
	CapacityFile = "capacity.json" // judged from it and from the runs

	SearchSchema   = "mailbench.search/v1"
	CapacitySchema = "mailbench.capacity/v1"
)

// Search is what a search recorded: what it looked for, and the steps that it took.
// Rates are messages a day as if they came evenly, in all of this package: first
// tries of messages a second, times 86,400.
type Search struct {
	Schema   string `json:"schema"`
	Scenario string `json:"scenario"`
	System   string `json:"system"` // "ndb", or another target's name
	Seed     uint64 `json:"seed"`
	Version  string `json:"version"` // of mailbench
	Command  string `json:"command"` // that repeats it

	TodayPerDay int64 `json:"today_per_day"` // messages a day that the scenario has
	// PeakPPM is the mean rate of the scenario's busiest hour in millionths of the
	// day's, BurstPPM that of a burst's minute, 0 if it has none.
	PeakPPM  int64 `json:"peak_ppm"`
	BurstPPM int64 `json:"burst_ppm"`

	Settings Settings `json:"settings"`
	Regimes  []Regime `json:"regimes,omitempty"` // that were asked for, in their order
	Steps    []Step   `json:"steps"`             // in the order in which they were taken
	// Ends are why sittings ended before their searches were over, in order.
	Ends []End `json:"ends,omitempty"`
}

// Settings are how a search is made.
type Settings struct {
	ConfidencePPM int64 `json:"confidence_ppm"` // of the interval around each share, 950000 for 95 %
	ResolutionPPM int64 `json:"resolution_ppm"` // two rates next to each other differ by this share, 50000 for 5 %
	// WarmUpUS is how long a system that was started anew is offered the first rate before
	// the first step; 0 in searches that were recorded before there was a choice.
	WarmUpUS      int64 `json:"warm_up_us,omitempty"`
	SettleUS      int64 `json:"settle_us"`     // the beginning of a step that is not judged
	MinStepUS     int64 `json:"min_step_us"`   // a step is not judged before; both without what settles
	MaxStepUS     int64 `json:"max_step_us"`   // and no longer than this
	LookUS        int64 `json:"look_us"`       // between two looks at a step under way
	StartPerDay   int64 `json:"start_per_day"` // the first rate of a search
	HighestPerDay int64 `json:"highest_per_day"`
	LowestPerDay  int64 `json:"lowest_per_day"`
	MaxSteps      int   `json:"max_steps"` // of one regime
}

// Regime is the state of a system in which a rate is to be met.
type Regime string

// The regimes. One node short is followed by the names of the nodes that are down:
// "short:data2"; so is rejoining, from the start of the node to redundancy.
const (
	Healthy   Regime = "healthy"
	Short     Regime = "short"
	Rejoining Regime = "rejoining"
)

// ShortOf is the regime in which a node, or "host:NAME", is down.
func ShortOf(target string) Regime { return Short + ":" + Regime(target) }

// rejoinStep is the least length of a step that lasts until a node is redundant: 17 to
// 25 s were seen of a data node, 5 to 8 s of a SQL node.
const rejoinStep = 2 * blockLength

// Rejoins says whether a node comes back meanwhile.
func (r Regime) Rejoins() bool { return strings.HasPrefix(string(r), string(Rejoining)+":") }

// For are the settings of a regime's search. It begins at the rate of the first step
// that was taken in it; before that, if it is not the healthy one, at what was met there,
// if anything was. Steps of a node that rejoins last as long as that takes.
func (s *Search) For(regime Regime, healthy []Tried) Settings {
	set := s.Settings
	if regime.Rejoins() {
		set.MinStepUS = rejoinStep.Microseconds()
		set.MaxStepUS = set.MinStepUS
	}
	if first, ok := s.First(regime); ok {
		set.StartPerDay = first.PerDay
		return set
	}
	if regime == Healthy {
		return set
	}
	if met, _, _, _ := Bracket(s.For(Healthy, nil), healthy); met > 0 {
		set.StartPerDay = met
	}
	return set
}

// First is the first step that was taken in a regime, if any was.
func (s *Search) First(regime Regime) (Step, bool) {
	for _, step := range s.Steps {
		if step.Regime == regime {
			return step, true
		}
	}
	return Step{}, false
}

// Step is one rate that was offered for a while.
type Step struct {
	Number  int    `json:"number"` // from 1
	Regime  Regime `json:"regime"`
	Dir     string `json:"dir"`     // of the run, below the search's
	PerDay  int64  `json:"per_day"` // rate
	FromUS  int64  `json:"from_us"` // on the run's clock; it settles from here on
	ToUS    int64  `json:"to_us"`   // nothing more was offered
	Stopped Stop   `json:"stopped"` // why then; "" while it is under way
	Looks   int    `json:"looks"`   // how often it was looked at before that
	Waited  int64  `json:"waited"`  // sessions that were held back by bounds.in_flight
}

// Stop is why a step was ended.
type Stop string

// The reasons.
const (
	Decided     Stop = "decided"     // a look had found an outcome
	Length      Stop = "length"      // it had its whole length
	Rejoined    Stop = "rejoined"    // the node was redundant again
	SystemDied  Stop = "died"        // the system, or what of it should have been up
	Interrupted Stop = "interrupted" // by the user
)

// End is why a sitting ended before its search was over.
type End struct {
	Dir    string `json:"dir"`
	Regime Regime `json:"regime"`
	Why    string `json:"why"`
}

// Outcome is what a step says of its rate.
type Outcome string

// The outcomes.
const (
	Met       Outcome = "met"       // every objective is, with the confidence asked for
	Missed    Outcome = "missed"    // at least one is missed, with that confidence
	Open      Outcome = "open"      // neither, in its whole length
	Generator Outcome = "generator" // the generator was late: it says nothing of the system
	Void      Outcome = "void"      // it did not take place as it should: the system died, the user interrupted
)

// Result is capacity.json.
type Result struct {
	Schema   string            `json:"schema"`
	Search   Search            `json:"search"`
	Topology topology.Topology `json:"topology"`
	Host     Host              `json:"host"`
	// Objectives are those of the runs' manifests: what each of a step's is about.
	Objectives []results.Objective `json:"objectives"`
	Regimes    []Found             `json:"regimes"`
	TookUS     int64               `json:"took_us"` // of all runs, from their first op to their last
	Verdict    string              `json:"verdict"` // of all runs' ledgers: "" or "data_loss"
}

// Host is the machine that generator and system shared.
type Host struct {
	Processors int    `json:"processors"`
	MemoryMiB  int64  `json:"memory_mib"`
	Kernel     string `json:"kernel"`
}

// Found is what is known of one regime.
type Found struct {
	Regime Regime `json:"regime"`
	// MetPerDay is the highest rate that was met and above no rate that was missed;
	// MissedPerDay the lowest that was missed and below no rate that was met. 0 is
	// none. The capacity is between them.
	MetPerDay    int64 `json:"met_per_day"`
	MissedPerDay int64 `json:"missed_per_day"`
	// PromisePerDay is MetPerDay over the peak factor, rounded down to three digits: so
	// many messages a day may come as the scenario has them come. 0 if nothing may be
	// promised.
	PromisePerDay int64    `json:"promise_per_day"`
	HeadroomPPM   int64    `json:"headroom_ppm"` // PromisePerDay in millionths of TodayPerDay
	Done          bool     `json:"done"`         // the search of this regime is over
	Why           string   `json:"why"`          // why nothing, or not more, may be promised, in words; "" if all is well
	Limit         Limit    `json:"limit"`
	Steps         []Judged `json:"steps"` // by number
}

// Between says that a search has found both edges, so that what was met is a capacity
// and not only a lower bound of it.
func (f *Found) Between() bool { return f.Done && f.MetPerDay > 0 && f.MissedPerDay > 0 }

// Limit is what was used up first.
type Limit struct {
	Resource string `json:"resource"` // "sql node cpu", "data node cpu", "redo", "data memory", "host cpu", "generator", "sessions", "" if not known
	Node     string `json:"node,omitempty"`
	UsePPM   int64  `json:"use_ppm"`  // of what it may use, at the lowest missed rate
	Evidence string `json:"evidence"` // in words, with figures
}

// Outside says that the limit is none of the system's own: it may carry more.
func (l Limit) Outside() bool { return l.Resource == generatorName || l.Resource == hostCPU }

// Judged is a step and what its recording says.
type Judged struct {
	Step
	Outcome    Outcome     `json:"outcome"`
	Leaning    Outcome     `json:"leaning,omitempty"` // of one that is open, met or missed: what is more likely
	Why        string      `json:"why,omitempty"`     // in words
	Objectives []Objective `json:"objectives"`
	Offered    int64       `json:"offered"` // messages that came, after it had settled
	Ops        int64       `json:"ops"`     // that were intended then
	Good       int64       `json:"good"`    // of these
	MeanUS     int64       `json:"mean_us"` // response time of an op
	P50US      int64       `json:"p50_us"`
	P99US      int64       `json:"p99_us"`
	MaxUS      int64       `json:"max_us"`
	// InFlightMilli is how many ops were under way on average, in thousandths, by
	// Little's law: their service times over the step's length.
	InFlightMilli int64            `json:"in_flight_milli"`
	LagP999US     int64            `json:"lag_p999_us"` // of messages
	HeldBack      bool             `json:"held_back"`   // sessions had to wait for bounds.in_flight
	CPUPPM        map[string]int64 `json:"cpu_ppm"`     // of each node's quota, or of the machine where it has none; "generator" in millionths of the machine
	// The largest shares of the redo log that no local checkpoint covered, and of
	// DataMemory, of data nodes; empty if nobody measured.
	RedoPPM       map[string]int64 `json:"redo_ppm,omitempty"`
	DataMemoryPPM map[string]int64 `json:"data_memory_ppm,omitempty"`
}

// Objective is one objective in one step.
type Objective struct {
	Name      string  `json:"name"`
	BudgetPPM int64   `json:"budget_ppm"` // share of events that may be bad
	Good      int64   `json:"good"`
	Bad       int64   `json:"bad"`
	LowPPM    int64   `json:"low_ppm"` // interval around the share of bad events
	HighPPM   int64   `json:"high_ppm"`
	Outcome   Outcome `json:"outcome"`
	// Sparse says that a whole step has too few events to prove that it is met: then
	// it only can be missed.
	Sparse bool `json:"sparse,omitempty"`
}

// judged is the part of a step that counts.
func (s Step) judged(settle time.Duration) (from, to time.Duration) {
	return time.Duration(s.FromUS)*time.Microsecond + settle, time.Duration(s.ToUS) * time.Microsecond
}

// Directories of searches of variants, below that of a search: what they begin with.
const (
	SQLNodesDir  = "sql-nodes-"  // then how many
	DataNodesDir = "data-nodes-" // then how many
	SystemDir    = "system-"     // then which
)

// DeathDir is what the directories of a system's runs with faults begin with, below that
// of its search; then which. Those that did not come to their end are no evidence.
const DeathDir = "death-"
