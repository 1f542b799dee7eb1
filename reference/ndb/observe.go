package ndb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

var (
	_ reference.Observer = (*View)(nil)
	_ reference.Admin    = (*View)(nil)
)

// Master is the data node that leads the others: NDB's president is the started
// node that joined first. The management server tells; where it is dead, a SQL
// node does.
func (v *View) Master(ctx context.Context) (topology.ID, error) {
	status, err := v.NodeStatus(ctx, mgm.DataNode)
	if id, ok := president(status); ok {
		return id, nil
	}
	if err == nil {
		err = errors.New("the management server knows of no data node that is started")
	}
	failures := []error{err}
	for _, n := range v.topology.ByRole(topology.SQL) {
		id, err := v.presidentSeen(ctx, n)
		if err == nil {
			return id, nil
		}
		failures = append(failures, err)
	}
	return 0, fmt.Errorf("which data node is the master? %w", errors.Join(failures...))
}

// president returns the started data node with the lowest dynamic id, as ndb_mgm
// does for its asterisk. A node that won the election of a system start was never
// given one and shows -1: nobody joined before it. 0 is that of no contact.
func president(status map[topology.ID]mgm.NodeStatus) (topology.ID, bool) {
	var found mgm.NodeStatus
	for _, s := range status {
		if s.Type == mgm.DataNode && s.Status == mgm.Started && s.DynamicID != 0 && (found.ID == 0 || s.DynamicID < found.DynamicID) {
			found = s
		}
	}
	return found.ID, found.ID != 0
}

// presidentSeen asks ndbinfo through one SQL node.
func (v *View) presidentSeen(ctx context.Context, n topology.Node) (topology.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	db := sqlnode.Open(v.address(n), v.account)
	defer db.Close()
	var id topology.ID
	if err := db.QueryRowContext(ctx, "SELECT president FROM ndbinfo.membership LIMIT 1").Scan(&id); err != nil {
		return 0, fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
	}
	return id, nil
}

// AwaitEvent waits until the cluster has told of something that match accepts,
// since that time or later. Events of the last minute are remembered while
// somebody watches; if nobody does, it watches itself, and learns only of what
// happens from now on.
func (v *View) AwaitEvent(ctx context.Context, since time.Time, match func(reference.ClusterEvent) bool) (reference.Evidence, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !v.watch.watched() {
		go func() { cancel(v.watch.follow(ctx, func(reference.ClusterEvent) {})) }()
	}
	next := uint64(0)
	for {
		events, following, heard := v.watch.recall(next)
		next = following
		for _, e := range events {
			if !e.At.Before(since) && match(e) {
				return reference.Evidence{At: e.At, Source: "management event", Detail: v.tell(e)}, nil
			}
		}
		select {
		case <-ctx.Done():
			return reference.Evidence{}, fmt.Errorf("the cluster did not tell of what was waited for: %w", context.Cause(ctx))
		case <-heard:
		}
	}
}

// tell names an event and the node that it is about.
func (v *View) tell(e reference.ClusterEvent) string {
	if n, ok := v.topology.ByID(e.Node); ok {
		return e.Name + " of " + n.Name
	}
	return e.Name
}

// Dump gives a data node a DUMP code with its arguments.
func (v *View) Dump(ctx context.Context, id topology.ID, args ...int) error {
	n, err := v.Role(id, topology.Data)
	if err != nil {
		return err
	}
	if err := v.Manage(ctx, func(session *mgm.Client) error { return session.DumpState(ctx, id, args...) }); err != nil {
		return fmt.Errorf("give node %s the dump code %v: %w", n.Name, args, err)
	}
	return nil
}

// OpenAdmin opens an administrator's connections to a SQL node, in the database
// that holds the mail data. It does not connect yet. The caller closes it.
func (v *View) OpenAdmin(id topology.ID) (*sql.DB, error) {
	n, err := v.Role(id, topology.SQL)
	if err != nil {
		return nil, err
	}
	return sqlnode.Open(v.address(n), v.account), nil
}
