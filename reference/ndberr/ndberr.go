// Package ndberr knows what an error of an NDB cluster means for the statement
// that met it. It is the only package that looks at the text of an error.
//
// [Classify] judges what a client got back: the server's own error, by its
// number and by the NDB code in its text, or a failure of the network. The
// verdict answers two questions: whether the transaction took effect, and
// whether a client may ask again. Any NDB error aborts the whole transaction
// (MySQL manual, "Limits Relating to Transaction Handling in NDB Cluster"), so
// that the unit of a retry is always the transaction.
package ndberr

import "fmt"

// Class says why an attempt failed. Reports count errors by it; recordings
// store its number, so that new classes go to the end.
type Class uint8

// The classes. None is success.
const (
	None         Class = iota
	Connect            // no connection to the node: nothing was sent
	Broken             // the connection ended while the answer was awaited
	Timeout            // no answer in the client's time
	Temporary          // NDB: node recovery, overload, shutdown; MySQL 1297
	LockTimeout        // MySQL 1205: lock wait or deadlock
	NoCluster          // the SQL node reaches no data node; NDB 4009, MySQL 157
	NoAnswer           // NDB 4008, 4012: no reply from the data nodes
	Committed          // NDB 4115: committed, but the answer was lost
	ShuttingDown       // the SQL node is starting or ending
	NotReady           // the SQL node has not yet got the tables or routines
	Permanent          // everything else: the same statement would fail again
)

// Classes lists all classes of failure in the order in which reports show them.
var Classes = [...]Class{
	Connect, Broken, Timeout, Temporary, LockTimeout, NoCluster, NoAnswer, Committed, ShuttingDown, NotReady, Permanent,
}

// String spells a class as recordings and reports do, such as "lock_timeout".
func (c Class) String() string {
	switch c {
	case None:
		return "none"
	case Connect:
		return "connect"
	case Broken:
		return "broken"
	case Timeout:
		return "timeout"
	case Temporary:
		return "temporary"
	case LockTimeout:
		return "lock_timeout"
	case NoCluster:
		return "no_cluster"
	case NoAnswer:
		return "no_answer"
	case Committed:
		return "committed"
	case ShuttingDown:
		return "shutting_down"
	case NotReady:
		return "not_ready"
	case Permanent:
		return "permanent"
	default:
		return fmt.Sprintf("class_%d", uint8(c))
	}
}

// Effect says what became of the attempt's transaction.
type Effect uint8

// The effects. Applied is the zero value, that of success.
const (
	Applied     Effect = iota // it happened
	NotApplied                // it did not happen: aborted, or never sent
	MayHaveBeen               // it may or may not have happened
)

// String spells an effect as recordings and reports do.
func (e Effect) String() string {
	switch e {
	case Applied:
		return "applied"
	case NotApplied:
		return "not_applied"
	case MayHaveBeen:
		return "may_have_been"
	default:
		return fmt.Sprintf("effect_%d", uint8(e))
	}
}

// Result is what one attempt met, small enough to be kept for every attempt.
type Result struct {
	Class  Class
	Effect Effect
	MySQL  uint16 // MySQL error number, 0 if the server did not send one
	NDB    uint16 // NDB error code, 0 if there is none in the message

	// Retryable: the client may ask again, here or at another node. It does not
	// say that asking again is harmless: after MayHaveBeen the transaction can
	// happen twice, as it would with a real client that tries again.
	Retryable bool
}

// OK says whether the attempt succeeded.
func (r Result) OK() bool { return r.Class == None }

// String is for logs and reports: "temporary, not_applied, MySQL 1297, NDB 4010".
func (r Result) String() string {
	if r.OK() {
		return "ok"
	}
	s := r.Class.String() + ", " + r.Effect.String()
	if r.MySQL != 0 {
		s += fmt.Sprintf(", MySQL %d", r.MySQL)
	}
	if r.NDB != 0 {
		s += fmt.Sprintf(", NDB %d", r.NDB)
	}
	return s
}
