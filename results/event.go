package results

import (
	"time"

	"github.com/mailbench/mailbench/workload"
)

// MaxLatency is the longest latency that is told apart from longer ones.
const MaxLatency = time.Duration(maxLatencyUS) * time.Microsecond

// Covers says whether a sample is an event of the objective.
func (o Objective) Covers(s *workload.Sample) bool { return o.covers(s.Operation.Path()) }

// Good says whether a sample that the objective covers is a good event.
func (o Objective) Good(s *workload.Sample) bool { return o.isGood(s.Outcome, s.Response()) }
