// Package ndberr knows what an error of an NDB cluster means for the statement
// that met it. It is the only package that looks at the text of an error.
package ndberr

// Class says why an attempt failed. Reports count errors by it.
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

// Effect says what became of the attempt's transaction.
type Effect uint8

// The effects. Applied is the zero value, that of success.
const (
	Applied     Effect = iota // it happened
	NotApplied                // it did not happen: aborted, or never sent
	MayHaveBeen               // it may or may not have happened
)

// Result is what one attempt met, small enough to be kept for every attempt.
type Result struct {
	Class     Class
	Effect    Effect
	MySQL     uint16 // MySQL error number, 0 if the server did not send one
	NDB       uint16 // NDB error code, 0 if there is none in the message
	Retryable bool   // the client may ask again, here or at another node
}

// OK says whether the attempt succeeded.
func (r Result) OK() bool { return r.Class == None }
