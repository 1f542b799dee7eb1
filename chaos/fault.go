// Package chaos breaks single nodes of a target on a plan, waits for what
// became of them, and puts right whatever it broke: by the plan, when the run
// is interrupted, or later from the journal of a run that crashed.
package chaos

import (
	"context"
	"fmt"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Fault is one fault on one node, from its injection until losing another node
// would cost no more than before. Acts change the cluster, waits only watch it;
// the two never mix, so that a wait may be given up and taken again. The Runner
// calls the methods in the order in which they stand here, one at a time.
//
// Acts get a context that the end of a run does not cancel: an act that was cut
// off half-way would leave nobody knowing whether it happened. All methods end
// with an error when their context ends.
type Fault interface {
	// Check says why the fault cannot be made here: the wrong role, a missing
	// privilege. It changes nothing and may be called at any time, without a
	// running cluster too.
	Check(ctx context.Context) error

	// Inject makes the fault, and returns when it is made, not when the cluster
	// has noticed. It needs a whole cluster, is called once, and after an error
	// may have happened or not: only Undo may follow.
	Inject(ctx context.Context) error

	// AwaitEffect waits until the cluster acts on the fault. It needs an
	// injected fault; it may be called again.
	AwaitEffect(ctx context.Context) (reference.Evidence, error)

	// Recover takes the fault back the way the plan means it. It needs an
	// injected fault and is called once; after an error only Undo may follow.
	Recover(ctx context.Context) error

	// AwaitRecovered waits until the node takes part again. It needs Recover or
	// Undo before it; it may be called again.
	AwaitRecovered(ctx context.Context) (reference.Evidence, error)

	// AwaitRedundant waits until losing another node would cost no more than it
	// did before the fault. It may be called at any time, before Inject too, and
	// returns at once in a cluster that is whole.
	AwaitRedundant(ctx context.Context) (reference.Evidence, error)

	// Undo takes back whatever of the fault is there. It is idempotent and may
	// be called in any state: before Inject, after any error, twice, and in
	// another process that knows of the fault from the journal alone. It does
	// not wait, as a node may need another one that is undone after it.
	Undo(ctx context.Context) error
}

// Kind names a kind of fault, as scenarios write it.
type Kind string

// Description is what there is to know of a kind of fault before it is made.
type Description struct {
	Kind    Kind
	Summary string          // one line
	Roles   []topology.Role // the nodes that it can be made on

	// Refuse says why the fault on this node would be an outage of the harness's
	// own making, nil if it would not.
	Refuse func(t topology.Topology, n topology.Node) error
	// Expect says what the database is expected to do, and what clients see.
	Expect func(t topology.Topology, n topology.Node) string
	// New makes the fault. It does no I/O.
	New func(nodes reference.Nodes, n topology.Node) Fault
}

// Catalogue returns every kind of fault.
func Catalogue() []Description {
	return []Description{describeKill()}
}

func describe(k Kind) (Description, error) {
	var kinds []Kind
	for _, d := range Catalogue() {
		if d.Kind == k {
			return d, nil
		}
		kinds = append(kinds, d.Kind)
	}
	return Description{}, fmt.Errorf("no kind of fault is called %q; there are %q", k, kinds)
}

// Builder returns what makes the faults of a plan, or of a journal, on nodes.
// It looks at the kind and the node only.
func Builder(nodes reference.Nodes) func(Planned) (Fault, error) {
	return func(p Planned) (Fault, error) {
		d, err := describe(p.Kind)
		if err != nil {
			return nil, fmt.Errorf("fault %s: %w", p.ID, err)
		}
		return d.New(nodes, p.Node), nil
	}
}
