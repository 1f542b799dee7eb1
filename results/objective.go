package results

import (
	"fmt"
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

const million = 1_000_000

// Objective is an SLO: of the events on Path (all paths if empty), the share
// Target must be good. An op is good when its outcome is ok or retried and,
// where LatencyUS is set, its response took no longer.
//
// With SliceUS the events are slices of time, as OpenSLO's budgeting method
// Timeslices has them: one is good if the share SliceTargetPPM of its ops is. With
// a Metric the events are messages, and those are bad to which it happened.
type Objective struct {
	Name           string `json:"name"`
	Path           string `json:"path,omitempty"`             // one of reference.Paths, or "" for all
	TargetPPM      int64  `json:"target_ppm"`                 // required share of good events, in millionths: 999000 is 99.9 %
	LatencyUS      int64  `json:"latency_us,omitempty"`       // response time bound in microseconds, 0 for none
	Degraded       string `json:"degraded,omitempty"`         // "bad" (default) or "good"
	Metric         Metric `json:"metric,omitempty"`           // "" for ops, or what happens to a message
	SliceUS        int64  `json:"slice_us,omitempty"`         // length of a slice, 0 to count ops or messages
	SliceTargetPPM int64  `json:"slice_target_ppm,omitempty"` // share of a slice's ops that must be good
	WindowDays     int64  `json:"window_days,omitempty"`      // over which the budget is meant, for alerts; 0 for 30
}

// Metric is what may happen to a message for the database's reasons.
type Metric string

// The metrics; docs/results.md defines them.
const (
	MetricDeferred     Metric = "deferred"     // a recipient was put off, or left in the queue
	MetricUngreylisted Metric = "ungreylisted" // a recipient was let through without being greylisted
	MetricMisrouted    Metric = "misrouted"    // an answer of routing was wrong
	MetricLost         Metric = "lost"         // a recipient was put off and not seen again: lost at most
)

// Metrics are all of them.
var Metrics = [...]Metric{MetricDeferred, MetricUngreylisted, MetricMisrouted, MetricLost}

// What a slice and a budget's window may be.
const (
	MinSlice      = sliceLength
	MaxSlice      = time.Hour
	MaxWindowDays = 366

	defaultWindowDays = 30
)

// Validate says what is wrong with an objective.
func (o Objective) Validate() error {
	known := o.Path == ""
	for _, p := range reference.Paths {
		known = known || o.Path == p.String()
	}
	slice := time.Duration(o.SliceUS) * time.Microsecond
	switch {
	case !known:
		return fmt.Errorf("path %q is none of %v", o.Path, reference.Paths)
	case o.TargetPPM < 0 || o.TargetPPM > million:
		return fmt.Errorf("target of %d millionths, must be 0 to %d", o.TargetPPM, million)
	case o.LatencyUS < 0:
		return fmt.Errorf("latency bound of %d µs, must not be negative", o.LatencyUS)
	case o.Degraded != "" && o.Degraded != "bad" && o.Degraded != "good":
		return fmt.Errorf(`degraded is %q, must be "bad" or "good"`, o.Degraded)
	case o.Metric != "" && !slices.Contains(Metrics[:], o.Metric):
		return fmt.Errorf("metric %q is none of %v", o.Metric, Metrics)
	case o.Metric != "" && (o.Path != "" || o.LatencyUS != 0 || o.Degraded == "good" || o.SliceUS != 0):
		return fmt.Errorf("metric %q counts messages, and has no path, latency bound, degraded or slice", o.Metric)
	case o.SliceUS != 0 && (slice < MinSlice || slice > MaxSlice):
		return fmt.Errorf("slice of %v, must be %v to %v", slice, MinSlice, MaxSlice)
	case o.SliceUS != 0 && (o.SliceTargetPPM < 1 || o.SliceTargetPPM > million), o.SliceUS == 0 && o.SliceTargetPPM != 0:
		return fmt.Errorf("a slice's target of %d millionths, must be 1 to %d, and 0 without slices", o.SliceTargetPPM, million)
	case o.WindowDays < 0 || o.WindowDays > MaxWindowDays:
		return fmt.Errorf("window of %d days, must be at most %d", o.WindowDays, MaxWindowDays)
	}
	return nil
}

// Method is how the events of an objective are counted: "occurrences" or
// "timeslices", as OpenSLO has it.
func (o Objective) Method() string {
	if o.SliceUS > 0 {
		return "timeslices"
	}
	return "occurrences"
}

// events is what an objective counts, in a word.
func (o Objective) events() string {
	switch {
	case o.SliceUS > 0:
		return "slices"
	case o.Metric != "":
		return "messages"
	default:
		return "ops"
	}
}

// moment is the share of ops of any moment that must be good.
func (o Objective) moment() int64 {
	if o.SliceUS > 0 {
		return o.SliceTargetPPM
	}
	return o.TargetPPM
}

func (o Objective) windowDays() int64 {
	if o.WindowDays == 0 {
		return defaultWindowDays
	}
	return o.WindowDays
}

// covers says whether the ops of a path are events of the objective, or fall into
// its slices.
func (o Objective) covers(p reference.Path) bool {
	return o.Metric == "" && (o.Path == "" || o.Path == p.String())
}

// Covers says whether a sample is an event of the objective.
func (o Objective) Covers(s *workload.Sample) bool { return o.covers(s.Operation.Path()) }

// Good says whether a sample that the objective covers is a good event.
func (o Objective) Good(s *workload.Sample) bool {
	if !good(s) && !(s.Outcome == workload.Degraded && o.Degraded == "good") {
		return false
	}
	return o.LatencyUS == 0 || s.Response().Microseconds() <= o.LatencyUS
}
