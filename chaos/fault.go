// Package chaos breaks nodes of a target on a plan, waits for what became of
// them, and puts right whatever it broke: by the plan, when the run is
// interrupted, or later from the journal of a run that crashed.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Fault is one fault on one node or several, from its injection until losing
// another node would cost no more than before. Acts change the target, waits
// only watch it; the two never mix, so that a wait may be given up and taken
// again. The Runner calls the methods in the order in which they stand here, one
// at a time.
//
// Acts get a context that the end of a run does not cancel: an act that was cut
// off half-way would leave nobody knowing whether it happened. All methods end
// with an error when their context ends.
type Fault interface {
	// Check says why the fault cannot be made here: the wrong role, a capability
	// that the target lacks. It changes nothing and may be called at any time,
	// without a running cluster too.
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

	// AwaitRecovered waits until the nodes take part again. It needs Recover or
	// Undo before it; it may be called again, after an ErrEnded once Undo was.
	AwaitRecovered(ctx context.Context) (reference.Evidence, error)

	// AwaitRedundant waits until losing another node would cost no more than it
	// did before the fault. It may be called at any time, before Inject too, and
	// returns at once in a cluster that is whole.
	AwaitRedundant(ctx context.Context) (reference.Evidence, error)

	// Undo takes back whatever of the fault is there. It is idempotent and may
	// be called in any state: before Inject, after any error, twice, and in
	// another process that knows of the fault from the journal alone. It does
	// not wait for a node to come back, as that may need another one that is
	// undone after it; it may take some seconds to look what state a node is in.
	Undo(ctx context.Context) error
}

// Staged is a Fault that is made in several acts with waits between them. The
// Runner takes the stages in their order after Inject: it waits, notes the act
// in the journal, and acts. AwaitEffect follows the last.
type Staged interface {
	Fault
	Stages() []Stage
}

// Stage is one more act of a fault's injection, and what must have come about
// before it. Await and Act keep to the rules of a Fault's waits and acts.
type Stage struct {
	What  string // is awaited, in words, such as "checkpoint started"
	Await func(ctx context.Context) (reference.Evidence, error)
	Act   func(ctx context.Context) error
}

// Patient is a Fault whose Inject takes long, and may be cut off at any moment,
// as Undo then takes back all that it did. Its context ends with the run.
type Patient interface {
	Fault
	InjectLimit() time.Duration
}

// Kind names a kind of fault, as scenarios write it.
type Kind string

// Description is what there is to know of a kind of fault before it is made.
type Description struct {
	Kind    Kind
	Summary string          // one line
	Source  string          // where the rule stands that Expect tells of
	Roles   []topology.Role // the nodes that it can be made on

	// Hosts says that the fault is one of hosts: whatever else runs on the host of
	// a node that it is made on has it too.
	Hosts bool
	// Rolls says that the fault is made on one node after another, each when the
	// cluster is redundant again.
	Rolls bool
	// Single says that the fault is made on one node, not on several at once.
	Single bool
	// Settings are what a scenario may set, or must.
	Settings []Setting
	// Needs is what the target must be able to do.
	Needs []Capability
	// Nearest is the kind to take where the target cannot do that, "" for none.
	Nearest Kind
	// Felt says that the fault has taken effect, too, when the clients feel it.
	Felt bool

	// Expect says what the database is expected to do, and what clients see.
	Expect func(t topology.Topology, p Planned) string

	// loses returns sets of nodes of which the cluster may count one set as
	// failed; nil for a fault that costs no node.
	loses func(t topology.Topology, p Planned) [][]topology.Node
	// check looks at a plan's fault once its nodes are known and its settings are
	// in range; nil where nothing is left to check. The error is about field.
	check func(t topology.Topology, p *Planned) (field string, err error)
	// build makes the fault. It does no I/O.
	build func(s site) Fault
}

// Catalogue returns every kind of fault.
func Catalogue() []Description {
	return []Description{
		describeKill(), describePause(), describeStop(), describeCrash(), describeInitial(),
		describeKillInRestart(), describeKillInCheckpoint(), describeRollingRestart(), describePowerOff(),
		describeIsolate(), describePartition(), describeLoss(), describeBandwidth(), describeHostLatency(),
		describeLatency(), describeLinkCut(),
		describeNoisyNeighbour(), describeSlowCPU(), describeSlowDisk(), describeDiskFull(),
		describeMemoryFull(), describeConnectionStorm(), describeOpenTransaction(),
		describeCommand(),
	}
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

// Target is what faults are made on. What it offers beyond this, the interfaces
// of the package reference that Capability lists, is asked for by type
// assertion.
type Target interface {
	reference.Nodes
	Topology() topology.Topology
}

// ErrNeedsPerson is what errors wrap that say that no program can put right what
// a journal tells of.
var ErrNeedsPerson = errors.New("needs a person")

// ErrEnded is what errors of AwaitRecovered wrap that say that a node has ended
// after the fault was taken back, and because of it: Undo starts it.
var ErrEnded = errors.New("ended after the fault was taken back")

// Builder returns what makes the faults of a plan, or of a journal, on a
// target. Links are the clients' connections, nil where there are none, such as
// in a process that heals what another one left. The function does no I/O.
func Builder(target Target, links *Links) func(Planned) (Fault, error) {
	return func(p Planned) (Fault, error) {
		d, err := describe(p.Kind)
		if err != nil {
			return nil, fmt.Errorf("fault %s: %w: %w; use the version of mailbench that made it", p.ID, ErrNeedsPerson, err)
		}
		return d.build(site{target: target, links: links, d: d, p: p}), nil
	}
}

// Resolver returns what finds out, at the moment of an injection, which node a
// dynamic target is.
func Resolver(target Target) func(context.Context, Planned) (Planned, error) {
	return func(ctx context.Context, p Planned) (Planned, error) {
		if p.Dynamic == "" {
			return p, nil
		}
		observer, ok := target.(reference.Observer)
		if !ok {
			return p, fmt.Errorf("fault %s: the target cannot tell which data node is its master: name a node", p.ID)
		}
		id, err := observer.Master(ctx)
		if err != nil {
			return p, fmt.Errorf("fault %s: find the master: %w", p.ID, err)
		}
		t := target.Topology()
		n, ok := t.ByID(id)
		if !ok {
			return p, fmt.Errorf("fault %s: the target says that its master is node %d, which it does not have", p.ID, id)
		}
		d, err := describe(p.Kind)
		if err != nil {
			return p, err
		}
		return p.on(d, t, n), nil
	}
}

// CheckPlan says why faults of a plan cannot be made on a target: one error a
// fault, naming it, what is missing and which kind is nearest. It changes
// nothing. A dynamic target is checked on every node that it may turn out to be.
func CheckPlan(ctx context.Context, plan Plan, t topology.Topology, faults func(Planned) (Fault, error)) error {
	var failures []error
	for _, p := range plan.Steps {
		d, err := describe(p.Kind)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, v := range p.variants(d, t) {
			fault, err := faults(v)
			if err == nil {
				err = fault.Check(ctx)
			}
			if err != nil {
				failures = append(failures, fmt.Errorf("fault %s: %w", p.ID, err))
				break
			}
		}
	}
	return errors.Join(failures...)
}
