package chaos

import "time"

// Event is something that happened while a run went on, on the run's clock.
type Event struct {
	At     time.Duration     // since the run's anchor
	Kind   EventKind         // what it is about
	Name   string            // the step, the cluster's event, or the phase
	Fault  string            // id of the fault, for KindFault
	Node   string            // the nodes that it is about, joined by ",", or ""
	Fields map[string]string // details, such as the evidence for a step
}

// EventKind groups events.
type EventKind string

// The kinds of event.
const (
	KindFault   EventKind = "fault"   // a step of a fault; Name is one of the Step constants
	KindCluster EventKind = "cluster" // the target said it
	KindPhase   EventKind = "phase"   // the run entered a phase: "load", "measure", "drain"
)

// Names of the steps of a fault, in their order.
const (
	StepInjected  = "injected"  // the harness has done it; At is when it began to, as the cluster may notice before it is done
	StepStage     = "stage"     // the harness has gone on injecting; Fields["what"] says what it had waited for
	StepEffective = "effective" // the cluster has noticed, or the clients have
	StepRecover   = "recover"   // the harness has started to undo it
	StepRecovered = "recovered" // the nodes take part again
	StepRedundant = "redundant" // losing another node would cost no more than before
	StepFailed    = "failed"    // a step, Fields["what"], did not come about; Fields["error"] says why
)

// NotInjected begins the error of a fault whose turn did not come, because of
// another one or of the cluster; it could have been made.
const NotInjected = "not injected"

// EventSink takes events as they happen, from any goroutine.
type EventSink interface {
	Event(e Event)
}
