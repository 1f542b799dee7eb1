package workload

import (
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// Op says which op it was, and when. Times count from the run's anchor.
type Op struct {
	Operation      reference.Operation
	Message        uint64 // number of the message, the webmail action or the job
	Recipient, Try uint16
	Node           topology.ID   // that was asked last
	Asked          time.Duration // when the attempt was dispatched that was answered, or the last one
	At             time.Duration // when the op ended
}

// Acknowledged is a write that the target said it has done, or that may have
// happened.
type Acknowledged struct {
	Op
	User       string // whose preference or account it is; for CheckGreylist the recipient
	Key, Value string // of SetPreference and ChangeAccount
	// Request and Decision are CheckGreylist's, which reads and writes at once. The
	// decision means nothing if it is not Certain.
	Request  greylist.Request
	Decision greylist.Answer

	Dispatched time.Duration // of the first attempt: writes of one key that overlap may end in either order
	Certain    bool          // false if it may or may not have happened
	// Lingers says that an attempt other than the answered one happened as well,
	// or may have: its statement may take effect even after At.
	Lingers bool
}

// Seen is what an op has read and changed nothing of: the answer to Route and
// RouteDelivery, or what ReadPreferences found.
type Seen struct {
	Op
	User        string // the address, or whose preferences they are
	Route       routing.Answer
	Preferences map[string]string // not to be changed
}

// Ledger is told of each op that was answered, and of writes that may have
// happened, as they end, from many goroutines.
type Ledger interface {
	Acknowledge(Acknowledged)
	Saw(Seen)
}
