package ndb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/mgm"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
)

// pollInterval is how often those who wait ask again. Events usually tell first.
const pollInterval = 100 * time.Millisecond

// eventGrace is how long an event may lag behind the node status that it
// explains. Only when none comes, the status is taken for evidence.
const eventGrace = time.Second

// Watch hands every event of the cluster to sink until ctx ends. The Await
// methods are sharper while somebody watches.
func (v *View) Watch(ctx context.Context, sink func(reference.ClusterEvent)) error {
	return v.watch.follow(ctx, sink)
}

// AwaitDown waits until the cluster says that the node has failed: an event of
// the management server, or its node status. The management node itself is
// down when it no longer answers.
func (v *View) AwaitDown(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	var polled reference.Evidence
	return v.await(ctx, id, "count as failed", func(n topology.Node, s sighting, status map[topology.ID]mgm.NodeStatus, err error) (reference.Evidence, bool) {
		if s.evidence.Source != "" && !s.up {
			return s.evidence, true
		}
		if err != nil && n.Role == topology.Management {
			return reference.Evidence{At: time.Now(), Source: "management status", Detail: err.Error()}, true
		}
		if reported, ok := status[id]; !ok || Up(reported) {
			return polled, false
		} else if polled.Source == "" {
			polled = statusEvidence(reported)
		}
		return polled, time.Since(polled.At) > eventGrace
	})
}

// AwaitUp waits until the cluster says that the node takes part: a data node
// is started, a SQL node is connected.
func (v *View) AwaitUp(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	return v.await(ctx, id, "take part", func(_ topology.Node, s sighting, status map[topology.ID]mgm.NodeStatus, _ error) (reference.Evidence, bool) {
		reported, ok := status[id]
		if !ok || !Up(reported) {
			return reference.Evidence{}, false
		}
		// The event is older than the poll that confirms it.
		if s.up && s.evidence.Source != "" {
			return s.evidence, true
		}
		return statusEvidence(reported), true
	})
}

// await asks for the node status, and again at every event and every
// pollInterval, until done says so.
func (v *View) await(ctx context.Context, id topology.ID, what string,
	done func(topology.Node, sighting, map[topology.ID]mgm.NodeStatus, error) (reference.Evidence, bool)) (reference.Evidence, error) {
	n, ok := v.topology.ByID(id)
	if !ok {
		return reference.Evidence{}, fmt.Errorf("the cluster has no node %d", id)
	}
	types := statusTypes(n.Role)
	for {
		seen, changed := v.watch.last(id)
		if e, ok := done(n, seen, nil, nil); ok {
			return e, nil
		}
		status, err := v.NodeStatus(ctx, types...)
		if ctx.Err() == nil {
			if e, ok := done(n, seen, status, err); ok {
				return e, nil
			}
		}
		if pauseErr := pause(ctx, changed); pauseErr != nil {
			return reference.Evidence{}, fmt.Errorf("node %s did not %s: %w", n.Name, what, errors.Join(pauseErr, err))
		}
	}
}

// statusTypes says for which nodes to ask while one of a role is awaited. Data
// nodes are asked for alone: what a server says of API nodes has to wait for
// every data node, a frozen one too.
func statusTypes(role topology.Role) []mgm.NodeType {
	if role == topology.Data {
		return []mgm.NodeType{mgm.DataNode}
	}
	return nil
}

// pause waits for news, for pollInterval at the most.
func pause(ctx context.Context, news <-chan struct{}) error {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-news:
		return nil
	case <-timer.C:
		return nil
	}
}

// Up says whether a node takes part.
func Up(s mgm.NodeStatus) bool { return s.Status == mgm.Started || s.Status == mgm.Connected }

func statusEvidence(s mgm.NodeStatus) reference.Evidence {
	return reference.Evidence{At: time.Now(), Source: "management status", Detail: string(s.Status)}
}

// tryTimeout bounds one look, so that a node that hangs does not keep the
// others from being asked.
const tryTimeout = 15 * time.Second

// AwaitRedundant waits until the loss of another node would cost no more than
// before this one was lost. For a data or management node that is: all data
// nodes are started and each sees the arbitrator. For a SQL node: it takes a
// write, with its routines in place, which are installed again if it lost them.
func (v *View) AwaitRedundant(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, ok := v.topology.ByID(id)
	if !ok {
		return reference.Evidence{}, fmt.Errorf("the cluster has no node %d", id)
	}
	check := v.dataNodesWhole
	if n.Role == topology.SQL {
		admin := schema.Admin{Name: n.Name, DB: sqlnode.Open(v.address(n), v.account)}
		defer admin.DB.Close()
		check = func(ctx context.Context) (reference.Evidence, error) {
			return sqlNodeWhole(ctx, admin, v.SchemaOptions())
		}
	}
	for {
		try, cancel := context.WithTimeout(ctx, tryTimeout)
		e, err := check(try)
		cancel()
		if err == nil {
			return e, nil
		}
		if pauseErr := pause(ctx, nil); pauseErr != nil {
			return reference.Evidence{}, fmt.Errorf("node %s is not redundant again: %w", n.Name, errors.Join(pauseErr, err))
		}
	}
}

// sqlNodeWhole says whether a SQL node takes real work.
func sqlNodeWhole(ctx context.Context, admin schema.Admin, o schema.Options) (reference.Evidence, error) {
	if err := schema.Repair(ctx, admin, o); err != nil {
		return reference.Evidence{}, err
	}
	if err := schema.TakesWrites(ctx, admin, o); err != nil {
		return reference.Evidence{}, err
	}
	return reference.Evidence{At: time.Now(), Source: "SQL write", Detail: "took a write through " + admin.Name + ", routines in place"}, nil
}

// dataNodesWhole says whether all data nodes are started and see an arbitrator.
func (v *View) dataNodesWhole(ctx context.Context) (reference.Evidence, error) {
	status, err := v.NodeStatus(ctx)
	if err != nil {
		return reference.Evidence{}, err
	}
	for _, n := range v.topology.ByRole(topology.Data) {
		if s := status[n.ID]; !Up(s) {
			return reference.Evidence{}, fmt.Errorf("data node %s is %s", n.Name, strings.ToLower(string(s.Status)))
		}
	}
	var failures []error
	for _, n := range v.topology.ByRole(topology.SQL) {
		if !Up(status[n.ID]) {
			failures = append(failures, fmt.Errorf("%s is not connected to the cluster", n.Name))
			continue
		}
		err := v.arbitratorSeen(ctx, n)
		if err == nil {
			return reference.Evidence{At: time.Now(), Source: "management status and ndbinfo.membership",
				Detail: "all data nodes started, arbitrator connected"}, nil
		}
		failures = append(failures, err)
	}
	return reference.Evidence{}, fmt.Errorf("no SQL node could tell of an arbitrator: %w", errors.Join(failures...))
}

// arbitratorSeen asks ndbinfo, through one SQL node, whether every data node is
// connected to a running arbitrator. A cluster with one replica has none.
func (v *View) arbitratorSeen(ctx context.Context, n topology.Node) error {
	if v.topology.Replicas == 1 {
		return nil
	}
	db := sqlnode.Open(v.address(n), v.account)
	defer db.Close()
	// Compared here and not in SQL: the collation of ndbinfo's views differs from
	// the connection's, and between them the server refuses IN and =.
	rows, err := db.QueryContext(ctx, "SELECT arb_state, arb_connected FROM ndbinfo.membership")
	if err != nil {
		return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
	}
	defer rows.Close()
	whole := 0
	for rows.Next() {
		var state, connected string
		if err := rows.Scan(&state, &connected); err != nil {
			return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
		}
		if state == "ARBIT_RUN" && connected == "Yes" {
			whole++
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ndbinfo.membership through %s: %w", n.Name, err)
	}
	if want := len(v.topology.ByRole(topology.Data)); whole < want {
		return fmt.Errorf("%d of %d data nodes are connected to a running arbitrator", whole, want)
	}
	return nil
}

// Version asks the management server what it is, such as "mysql-9.7.4 ndb-9.7.4".
func (v *View) Version(ctx context.Context) (string, error) {
	var said mgm.ServerVersion
	err := v.Manage(ctx, func(session *mgm.Client) (err error) {
		said, err = session.Version(ctx)
		return err
	})
	return said.Text, err
}
