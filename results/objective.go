package results

import (
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

const million = 1_000_000

// Objective is an SLO: of the events on Path (all paths if empty), the share
// Target must be good. An op is good when its outcome is ok or retried and,
// where LatencyUS is set, its response took no longer.
type Objective struct {
	Name      string `json:"name"`
	Path      string `json:"path,omitempty"`       // one of reference.Paths, or "" for all
	TargetPPM int64  `json:"target_ppm"`           // required share of good events, in millionths: 999000 is 99.9 %
	LatencyUS int64  `json:"latency_us,omitempty"` // response time bound in microseconds, 0 for none
	Degraded  string `json:"degraded,omitempty"`   // "bad" (default) or "good"
}

// validate says what is wrong with an objective.
func (o Objective) validate() error {
	known := o.Path == ""
	for _, p := range reference.Paths {
		known = known || o.Path == p.String()
	}
	switch {
	case !known:
		return fmt.Errorf("path %q is none of %v", o.Path, reference.Paths)
	case o.TargetPPM < 0 || o.TargetPPM > million:
		return fmt.Errorf("target of %d millionths, must be 0 to %d", o.TargetPPM, million)
	case o.LatencyUS < 0:
		return fmt.Errorf("latency bound of %d µs, must not be negative", o.LatencyUS)
	case o.Degraded != "" && o.Degraded != "bad" && o.Degraded != "good":
		return fmt.Errorf(`degraded is %q, must be "bad" or "good"`, o.Degraded)
	}
	return nil
}

// covers says whether the ops of a path are events of the objective.
func (o Objective) covers(p reference.Path) bool { return o.Path == "" || o.Path == p.String() }

// Covers says whether a sample is an event of the objective.
func (o Objective) Covers(s *workload.Sample) bool { return o.covers(s.Operation.Path()) }

// Good says whether a sample that the objective covers is a good event.
func (o Objective) Good(s *workload.Sample) bool {
	if !good(s) && !(s.Outcome == workload.Degraded && o.Degraded == "good") {
		return false
	}
	return o.LatencyUS == 0 || s.Response().Microseconds() <= o.LatencyUS
}
