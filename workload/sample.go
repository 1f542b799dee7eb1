package workload

import (
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// Outcome is what became of an op.
type Outcome uint8

// The outcomes. Only OK and Retried are good, unless an objective says
// otherwise.
const (
	OK       Outcome = iota + 1
	Retried          // ok after a failed attempt
	Degraded         // the client used its fallback instead of an answer
	Failed           // no answer and no fallback
	Unknown          // a write that may or may not have happened
)

// answered says whether the op has its answer.
func (o Outcome) answered() bool { return o == OK || o == Retried }

func (o Outcome) String() string {
	switch o {
	case OK:
		return "ok"
	case Retried:
		return "retried"
	case Degraded:
		return "degraded"
	case Failed:
		return "failed"
	case Unknown:
		return "unknown"
	default:
		return "none"
	}
}

// Attempt is one statement sent to one node, or one connection tried in vain.
// Times count from the run's anchor.
type Attempt struct {
	Node       topology.ID
	Dispatched time.Duration
	Ended      time.Duration
	Result     ndberr.Result // the zero value for success
}

// Sample is one op as it happened. Times count from the run's anchor, on the
// monotonic clock.
type Sample struct {
	Message   uint64 // number of the message, or of the webmail action
	Recipient uint16 // 0-based within the message
	Try       uint16 // 0 for the first try
	Operation reference.Operation
	Client    uint8         // index of the client in the run's list of clients
	Virtual   time.Duration // virtual time, since midnight of the virtual day
	Intended  time.Duration // when it should have been dispatched
	Answer    uint8         // the operation's verdict, 0 for none
	Outcome   Outcome
	Attempts  []Attempt // one or more, in order
}

// Queue is how long the op waited in the generator or behind the op before it.
func (s *Sample) Queue() time.Duration { return s.Attempts[0].Dispatched - s.Intended }

// Service is how long the op took from its first dispatch to its end, retries
// and waits between them included.
func (s *Sample) Service() time.Duration { return s.end() - s.Attempts[0].Dispatched }

// Response is how long the op took from when it was intended.
func (s *Sample) Response() time.Duration { return s.end() - s.Intended }

func (s *Sample) end() time.Duration { return s.Attempts[len(s.Attempts)-1].Ended }

// Recorder takes samples as ops end. Record is called from many goroutines and
// must not keep s or its attempts after it returns.
type Recorder interface {
	Record(s *Sample)
}
