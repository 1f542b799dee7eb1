package innodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
)

// source is what evidence of this package names.
const source = "SQL status"

// AwaitDown waits until the steward gets no answer from a server.
func (t *Target) AwaitDown(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return t.await(ctx, id, "count as dead", func(s sighting) (string, bool) {
		return s.why, !s.up
	})
}

// AwaitUp waits until a server takes part again: it is the primary and takes
// writes, or it replicates from the primary.
func (t *Target) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return t.await(ctx, id, "take part", func(s sighting) (string, bool) {
		if !s.up {
			return "", false
		}
		if primary := t.Primary(); s.node != primary {
			return "replicates from the primary", s.source == t.host(primary) && s.receiving == "Yes" && s.applying == "Yes"
		}
		return "takes writes as the primary", s.writable && s.open
	})
}

// await waits for a sighting of a server that done accepts, and that is none of the
// time before something was done to it.
func (t *Target) await(ctx context.Context, id topology.ID, what string, done func(sighting) (detail string, ok bool)) (reference.Evidence, error) {
	n, err := t.node(id)
	if err != nil {
		return reference.Evidence{}, err
	}
	for {
		t.mu.Lock()
		s, known := t.seen[id]
		changed := t.changed
		t.mu.Unlock()
		if known && !s.forgotten {
			if detail, ok := done(s); ok {
				at := s.at
				if s.up {
					at = time.Now() // it answered before it took part
				}
				return reference.Evidence{At: at, Source: source, Detail: detail}, nil
			}
		}
		select {
		case <-ctx.Done():
			return reference.Evidence{}, fmt.Errorf("server %s did not %s: %w", n.Name, what, ctx.Err())
		case <-changed:
		}
	}
}

const (
	pollInterval = 100 * time.Millisecond
	tryTimeout   = 5 * time.Second // one look at redundancy
)

// AwaitRedundant waits until losing a server would cost nothing more than before:
// the primary has taken a write, the other server has applied it and is open to
// clients, and acknowledged writes wait for it again.
func (t *Target) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, err := t.node(id)
	if err != nil {
		return reference.Evidence{}, err
	}
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		e, err := t.redundant(try)
		cancel()
		if err == nil {
			return e, nil
		}
		select {
		case <-ctx.Done():
			looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
			defer cancel()
			return reference.Evidence{}, fmt.Errorf("server %s is not redundant again: %w", n.Name, errors.Join(ctx.Err(), err, t.Ended(looking)))
		case <-time.After(pollInterval):
		}
	}
}

func (t *Target) redundant(ctx context.Context) (reference.Evidence, error) {
	primary, err := t.node(t.Primary())
	if err != nil {
		return reference.Evidence{}, err
	}
	// First: semi-synchronous replication shows only with a commit whether it works.
	if err := schema.TakesWrites(ctx, schema.Admin{Name: primary.Name, DB: t.admins[primary.ID]}, t.SchemaOptions()); err != nil {
		return reference.Evidence{}, err
	}
	for _, n := range t.spec.Topology.Nodes {
		s, err := lookAt(ctx, t.admins[n.ID])
		switch {
		case err != nil:
			return reference.Evidence{}, fmt.Errorf("look at %s: %w", n.Name, err)
		case !s.open:
			return reference.Evidence{}, fmt.Errorf("%s is not open to clients", n.Name)
		case n.ID == primary.ID && !s.semisync:
			return reference.Evidence{}, fmt.Errorf("%s waits for no replica before it acknowledges", n.Name)
		case n.ID == primary.ID:
			continue
		case s.source != t.host(primary.ID) || s.receiving != "Yes" || s.applying != "Yes":
			return reference.Evidence{}, fmt.Errorf("%s does not replicate from %s: receiving %q, applying %q %s", n.Name, primary.Name, s.receiving, s.applying, s.broken)
		}
		if err := t.awaitApplied(ctx, n.ID, lagAllowed); err != nil {
			return reference.Evidence{}, err
		}
	}
	return reference.Evidence{At: time.Now(), Source: "SQL write", Detail: "took a write through " + primary.Name + ", which its replica has applied"}, nil
}

// AwaitReplicated waits until a server has applied all that the primary had
// committed before the call.
func (t *Target) AwaitReplicated(ctx context.Context, id topology.ID) error {
	if _, err := t.node(id); err != nil {
		return err
	}
	return t.awaitApplied(ctx, id, tryTimeout)
}

// awaitApplied waits for what the primary has committed by now, no longer than limit.
func (t *Target) awaitApplied(ctx context.Context, id topology.ID, limit time.Duration) error {
	primary := t.Primary()
	if id == primary {
		return nil
	}
	committed, err := t.has(ctx, primary)
	if err != nil {
		return fmt.Errorf("ask the primary what it has committed: %w", err)
	}
	return t.awaitSet(ctx, id, committed, limit)
}

// awaitSet waits until a server has applied a set of transactions.
func (t *Target) awaitSet(ctx context.Context, id topology.ID, set string, limit time.Duration) error {
	var late int
	err := t.admins[id].QueryRowContext(ctx, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)", set, limit.Seconds()).Scan(&late)
	n, _ := t.spec.Topology.ByID(id)
	switch {
	case err != nil:
		return fmt.Errorf("wait for what %s has applied: %w", n.Name, err)
	case late != 0:
		return fmt.Errorf("%s has not applied within %v what the primary has committed", n.Name, limit)
	}
	return nil
}
