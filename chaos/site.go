package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// lookTime is how long to look whether the cluster counts a node as failed,
// where nothing may wait for it. A node status that stays away is believed after
// a second, and asking for it takes up to three.
const lookTime = 5 * time.Second

// site is where a fault is made. Kinds embed it: it is a Fault, but for Inject,
// whose nodes are down in effect, and take part again once they were started.
type site struct {
	target Target
	links  *Links
	d      Description
	p      Planned
}

func (s site) Check(context.Context) error {
	if s.target == nil {
		return errors.New("there is no target to make the fault on")
	}
	if len(s.p.Nodes) == 0 {
		return errors.New("there are no nodes to make the fault on")
	}
	for _, n := range s.p.Nodes {
		if !slices.Contains(s.d.Roles, n.Role) {
			return fmt.Errorf("%s is a %s node; %s can be made on %q nodes", n.Name, n.Role, s.d.Kind, s.d.Roles)
		}
	}
	return s.missing()
}

func (s site) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return s.all(ctx, s.p.Nodes, s.target.AwaitDown)
}

func (s site) Recover(ctx context.Context) error { return s.start(ctx) }

func (s site) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return s.all(ctx, s.touched(), s.target.AwaitUp)
}

func (s site) AwaitRedundant(ctx context.Context) (reference.Evidence, error) {
	var last reference.Evidence
	for _, n := range s.touched() {
		var err error
		if last, err = s.target.AwaitRedundant(ctx, n.ID); err != nil {
			return last, err
		}
	}
	return last, nil
}

func (s site) Undo(ctx context.Context) error { return s.start(ctx) }

// touched are the nodes that the fault is made on and those that it takes along.
func (s site) touched() []topology.Node {
	nodes := slices.Clone(s.p.Nodes)
	for _, n := range s.p.Along {
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// start starts the nodes that are dead; StartNode does nothing to one that runs.
func (s site) start(ctx context.Context) error {
	return errors.Join(
		s.act(s.p.Nodes, func(n topology.Node) error { return s.target.StartNode(ctx, n.ID) }),
		s.startAlong(ctx))
}

// startAlong starts the nodes that an outage took along.
func (s site) startAlong(ctx context.Context) error {
	along := s.touched()[len(s.p.Nodes):]
	return s.restart(ctx, along, s.failed(ctx, along))
}

// restart starts nodes, and kills those first that the cluster counts as failed and
// that stay so: such a node ends by itself, at once or when it next hears from the
// others (exit codes 2305, 2315 and 6050), and until then would be taken for one
// that runs.
func (s site) restart(ctx context.Context, nodes []topology.Node, failed map[topology.ID]bool) error {
	return s.act(nodes, func(n topology.Node) error {
		var killErr error
		if failed[n.ID] && !Settled(ctx, s.target, n) {
			killErr = s.kill(ctx, n.ID) // may fail on a node that has ended: what counts is whether it starts
		}
		if err := s.target.StartNode(ctx, n.ID); err != nil {
			return errors.Join(err, killErr)
		}
		return nil
	})
}

// How long a node that was counted as failed may take to end or to take part
// again, and how long it must then take part. A node that learns that it was
// excluded ends within a second or two; the management server is connected again
// within three.
const (
	settleTime = 10 * time.Second
	standTime  = 3 * time.Second
)

// Settled waits, 10 s at the most, until it shows what becomes of a node that the
// cluster counted as failed and that is let go: true if it has ended, or takes
// part again. The management server gives up a silent node after 6 s, the other
// data nodes after 20 to 25 s. In between the node has given up its arbitrator,
// and has the others give up theirs once it hears from them; to kill it at that
// moment takes the whole cluster along (seen: a host cut off for 14 s, the
// survivor's exit code 2305).
func Settled(ctx context.Context, target reference.Nodes, n topology.Node) bool {
	can, ok := target.(reference.Liveness)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var since time.Time // when it began to take part again
	for {
		if runs, err := can.Runs(ctx, n.ID); err == nil && !runs {
			return true
		}
		asking, stop := context.WithTimeout(ctx, time.Second)
		_, err := target.AwaitUp(asking, n.ID)
		stop()
		switch {
		case err != nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= standTime:
			return true
		}
		if sleepUntil(ctx, time.Now().Add(adminPoll)) != nil {
			return false
		}
	}
}

// takeBack takes a fault back under which the cluster may have counted nodes as
// failed although they live: it looks, undoes what was done to each place, and
// starts anew what had failed and does not take part again. The look comes first,
// as a node that hears from the others again is soon gone.
func (s site) takeBack(ctx context.Context, undo func() error) error {
	nodes := s.touched()
	failed := s.failed(ctx, nodes)
	if err := undo(); err != nil {
		return err
	}
	return s.restart(ctx, nodes, failed)
}

// awaitMended waits until nodes that could not hear each other do so again: the
// management server alone does not tell. TCP sends again what was lost at 0.2 s
// times a power of two, so that connections stay silent for as long again as the
// fault lasted, and data nodes that miss heartbeats meanwhile count each other as
// failed: one of them ends.
func (s site) awaitMended(ctx context.Context) (reference.Evidence, error) {
	mended := func(ctx context.Context) (reference.Evidence, error) {
		if up, err := s.all(ctx, s.touched(), s.target.AwaitUp); err != nil {
			return up, err
		}
		return s.AwaitRedundant(ctx)
	}
	can, ok := s.target.(reference.Liveness)
	if !ok {
		return mended(ctx)
	}
	waiting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var looking sync.WaitGroup
	looking.Go(func() {
		for waiting.Err() == nil {
			for _, n := range s.touched() {
				if runs, err := can.Runs(waiting, n.ID); err == nil && !runs {
					stop(fmt.Errorf("%s %w", n.Name, ErrEnded))
				}
			}
			_ = sleepUntil(waiting, time.Now().Add(livePoll)) // its end is seen above
		}
	})
	defer looking.Wait()
	defer stop(nil)
	e, err := mended(waiting)
	if cause := context.Cause(waiting); err != nil && ctx.Err() == nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return e, err
}

// livePoll is how often a node is looked at that may end.
const livePoll = time.Second

// hosts are those of the nodes that the fault is made on.
func (s site) hosts() []string { return hostsOf(s.p.Nodes) }

// onHosts does something to all hosts of the fault.
func (s site) onHosts(do func(host string) error) error {
	var failures []error
	for _, host := range s.hosts() {
		failures = append(failures, do(host))
	}
	return errors.Join(failures...)
}

// onNodes does something to all nodes of the fault at the same time.
func (s site) onNodes(do func(id topology.ID) error) error {
	return s.act(s.p.Nodes, func(n topology.Node) error { return do(n.ID) })
}

// offers returns a capability of the fault's target. Check has seen it, but
// another process that heals may have another target.
func offers[T any](s site, c Capability) (T, error) {
	can, ok := s.target.(T)
	if !ok {
		return can, fmt.Errorf("%w: %s needs a target that can %s (%s), and this one cannot", ErrNeedsPerson, s.d.Kind, c.words(), c)
	}
	return can, nil
}

// with does something by a capability of the target.
func with[T any](s site, c Capability, do func(can T) error) error {
	can, err := offers[T](s, c)
	if err != nil {
		return err
	}
	return do(can)
}

// kill ends a node's process.
func (s site) kill(ctx context.Context, id topology.ID) error {
	return with(s, Killer, func(can reference.Killer) error { return can.Kill(ctx, id) })
}

// failed looks which data nodes the cluster counts as failed. Other nodes live
// on when it does: they connect again by themselves.
func (s site) failed(ctx context.Context, nodes []topology.Node) map[topology.ID]bool {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var mu sync.Mutex
	failed := map[topology.ID]bool{}
	var looking sync.WaitGroup
	for _, n := range nodes {
		if n.Role != topology.Data {
			continue
		}
		looking.Go(func() {
			if _, err := s.target.AwaitDown(ctx, n.ID); err == nil {
				mu.Lock()
				defer mu.Unlock()
				failed[n.ID] = true
			}
		})
	}
	looking.Wait()
	return failed
}

// act does something to all nodes at the same time.
func (s site) act(nodes []topology.Node, do func(topology.Node) error) error {
	if len(nodes) == 1 {
		return do(nodes[0])
	}
	failures := make([]error, len(nodes))
	var acting sync.WaitGroup
	for i, n := range nodes {
		acting.Go(func() { failures[i] = do(n) })
	}
	acting.Wait()
	return errors.Join(failures...)
}

// all waits for all nodes. The evidence is of the last.
func (s site) all(ctx context.Context, nodes []topology.Node,
	await func(context.Context, topology.ID) (reference.Evidence, error),
) (reference.Evidence, error) {
	if len(nodes) == 1 {
		return await(ctx, nodes[0].ID)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	evidence := make([]reference.Evidence, len(nodes))
	err := s.act(nodes, func(n topology.Node) error {
		e, err := await(ctx, n.ID)
		if err != nil {
			cancel() // without this one the others are in vain
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		evidence[slices.Index(nodes, n)] = e
		return nil
	})
	if err != nil {
		return reference.Evidence{}, err
	}
	var last reference.Evidence
	var details []string
	for i, e := range evidence {
		if !e.At.Before(last.At) {
			last = e
		}
		details = append(details, nodes[i].Name+": "+e.Detail)
	}
	last.Detail = strings.Join(details, ", ")
	return last, nil
}

// first waits until one of several things has come about. It gives up when none
// can any more.
func first(ctx context.Context, waits ...func(context.Context) (reference.Evidence, error)) (reference.Evidence, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		evidence reference.Evidence
		err      error
	}
	results := make(chan result, len(waits))
	var waiting sync.WaitGroup
	for _, wait := range waits {
		waiting.Go(func() {
			e, err := wait(ctx)
			results <- result{e, err}
		})
	}
	go func() { waiting.Wait(); close(results) }()
	var failures []error
	for r := range results {
		if r.err == nil {
			cancel()
			waiting.Wait()
			return r.evidence, nil
		}
		failures = append(failures, r.err)
	}
	return reference.Evidence{}, errors.Join(failures...)
}

// anyDown waits until the cluster counts one of several nodes as failed.
func (s site) anyDown(nodes []topology.Node) []func(context.Context) (reference.Evidence, error) {
	var waits []func(context.Context) (reference.Evidence, error)
	for _, n := range nodes {
		waits = append(waits, func(ctx context.Context) (reference.Evidence, error) {
			e, err := s.target.AwaitDown(ctx, n.ID)
			e.Detail = n.Name + ": " + e.Detail
			return e, err
		})
	}
	return waits
}

// awaitTrouble waits until the cluster counts one of several nodes as failed or,
// where it tells of events, has missed a heartbeat of one since a time.
func (s site) awaitTrouble(ctx context.Context, nodes []topology.Node, since time.Time) (reference.Evidence, error) {
	waits := s.anyDown(nodes)
	if observer, ok := s.target.(reference.Observer); ok {
		waits = append(waits, func(ctx context.Context) (reference.Evidence, error) {
			return observer.AwaitEvent(ctx, since, func(e reference.ClusterEvent) bool {
				return e.Name == "MissedHeartbeat" && slices.ContainsFunc(nodes, func(n topology.Node) bool { return n.ID == e.Node })
			})
		})
	}
	return first(ctx, waits...)
}

// orWait is an error that a wait without a way to learn anything ends with.
func orWait(ctx context.Context, why string) (reference.Evidence, error) {
	<-ctx.Done()
	return reference.Evidence{}, fmt.Errorf("%s: %w", why, context.Cause(ctx))
}

// expectLoss says what the cluster and the clients do when nodes die.
func expectLoss(t topology.Topology, nodes []topology.Node) string { return expect(t, nodes, false) }

// expectLeave is expectLoss for nodes that leave in order.
func expectLeave(t topology.Topology, nodes []topology.Node) string { return expect(t, nodes, true) }

func expect(t topology.Topology, nodes []topology.Node, inOrder bool) string {
	var ids []topology.ID
	byRole := map[topology.Role][]topology.Node{}
	for _, n := range nodes {
		ids = append(ids, n.ID)
		byRole[n.Role] = append(byRole[n.Role], n)
	}
	var parts []string
	if data := byRole[topology.Data]; len(data) > 0 {
		parts = append(parts, expectDataLoss(t, data, topology.Lost(t, nil, ids), inOrder))
	}
	if sql := byRole[topology.SQL]; len(sql) > 0 {
		lose := fmt.Sprintf("the clients of %s lose their connections and ask another SQL node", names(sql))
		if !inOrder {
			lose += "; its open transactions are aborted, and a write without an answer may have happened"
		}
		parts = append(parts, lose)
	}
	if management := byRole[topology.Management]; len(management) > 0 {
		parts = append(parts, fmt.Sprintf("no client notices that %s is gone; until it is back nobody arbitrates and no node can start", names(management)))
	}
	return strings.Join(parts, "; ")
}

func expectDataLoss(t topology.Topology, lost []topology.Node, l topology.Loss, inOrder bool) string {
	if why := l.Outage(); why != "" && !l.NoSQL {
		return why + "; a system restart brings back all that was in a global checkpoint"
	}
	var groups []string
	for _, n := range lost {
		var left []topology.Node
		for _, o := range t.ByRole(topology.Data) {
			if o.Group == n.Group && !slices.Contains(lost, o) {
				left = append(left, o)
			}
		}
		if one := fmt.Sprintf("node group %d lives on %s", n.Group, names(left)); !slices.Contains(groups, one) {
			groups = append(groups, one)
		}
	}
	allowed := "no arbitration is needed"
	if l.NeedsArbitrator() {
		allowed = "it needs the management node's consent as arbitrator"
	}
	left := fmt.Sprintf("%s (%s)", strings.Join(groups, ", "), allowed)
	if inOrder {
		return left
	}
	return fmt.Sprintf("%s; transactions that %s coordinated fail with temporary errors or wait for locks, all others go on", left, names(lost))
}

// The roles that kinds are made on.
func onData() []topology.Role { return []topology.Role{topology.Data} }
func onSQL() []topology.Role  { return []topology.Role{topology.SQL} }
func onAny() []topology.Role {
	return []topology.Role{topology.Management, topology.Data, topology.SQL}
}
