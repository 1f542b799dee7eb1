package innodb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

const (
	lookEvery   = 250 * time.Millisecond
	lookTimeout = time.Second      // a server that takes longer to answer counts as dead
	lastLook    = 3 * time.Second  // for a primary to answer before it is killed: overload alone makes it slow
	actTimeout  = 30 * time.Second // for one deed
	lagAllowed  = time.Second      // for a replica that is about to be opened to clients
)

// steward looks at both servers and does what decide says, until ctx ends. It is
// what a site has an operator or a fail-over manager for.
func (t *Target) steward(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		seen := t.look(ctx)
		if ctx.Err() != nil {
			return
		}
		t.note(seen)
		for _, a := range decide(t.Primary(), t.sightings(), time.Now(), t.spec.PromoteAfter, t.host) {
			bounded, cancel := context.WithTimeout(ctx, actTimeout)
			// What fails is decided anew at the next look.
			_ = t.act(bounded, a)
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// host is the address by which one server knows another.
func (t *Target) host(id topology.ID) string {
	n, _ := t.spec.Topology.ByID(id)
	return t.HostAddress(n.Host).String()
}

// look asks all servers at the same time.
func (t *Target) look(ctx context.Context) []sighting {
	seen := make([]sighting, len(t.spec.Topology.Nodes))
	var looking sync.WaitGroup
	for i, n := range t.spec.Topology.Nodes {
		looking.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			s, err := lookAt(bounded, t.admins[n.ID])
			if err != nil {
				s = sighting{why: err.Error()}
			}
			s.node, s.at, s.up = n.ID, time.Now(), err == nil
			seen[i] = s
		})
	}
	looking.Wait()
	return seen
}

func lookAt(ctx context.Context, db *sql.DB) (sighting, error) {
	var (
		s                 sighting
		readOnly, offline bool
		status, clients   string
	)
	err := db.QueryRowContext(ctx, `SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only, @@GLOBAL.offline_mode,
		(SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_status'),
		(SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_clients')`,
	).Scan(&readOnly, &offline, &status, &clients)
	if err != nil {
		return s, err
	}
	s.writable, s.open, s.semisync = !readOnly, !offline, status == "ON" && clients != "0"
	replica, err := row(ctx, db, "SHOW REPLICA STATUS")
	if err != nil {
		return s, err
	}
	s.source, s.receiving, s.applying = replica["Source_Host"], replica["Replica_IO_Running"], replica["Replica_SQL_Running"]
	if s.applying == "No" {
		s.broken = replica["Last_SQL_Error"]
	}
	return s, nil
}

// row returns the first row of an answer by its columns, none for no row.
func row(ctx context.Context, db *sql.DB, query string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err())
	}
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for i, column := range columns {
		found[column] = values[i].String
	}
	return found, rows.Err()
}

// note keeps what was seen, and says what has changed. A server that is up, or
// down, is so since the look that first showed it.
func (t *Target) note(seen []sighting) {
	for _, s := range seen {
		t.mu.Lock()
		before, known := t.seen[s.node]
		if known && before.up == s.up {
			s.at = before.at
		}
		t.seen[s.node] = s
		t.mu.Unlock()
		switch {
		case s.up && (!known || !before.up):
			t.tell("SERVER_UP", s.node, nil)
		case !s.up && known && before.up:
			t.tell("SERVER_DOWN", s.node, map[string]string{"why": s.why})
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.changed)
	t.changed = make(chan struct{})
}

// sightings are the last of each server, in the order of the topology.
func (t *Target) sightings() []sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []sighting
	for _, n := range t.spec.Topology.Nodes {
		all = append(all, t.seen[n.ID])
	}
	return all
}

// Forget drops what was seen of a server, so that only news from now on count.
func (t *Target) Forget(id topology.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.seen[id]; ok {
		t.seen[id] = sighting{node: id, at: s.at, up: s.up, why: s.why, forgotten: true}
	}
}

// tell hands an event to all who watch.
func (t *Target) tell(name string, id topology.ID, fields map[string]string) {
	t.mu.Lock()
	var sinks []func(reference.ClusterEvent)
	for sink := range t.sinks {
		sinks = append(sinks, *sink)
	}
	t.mu.Unlock()
	for _, sink := range sinks {
		sink(reference.ClusterEvent{At: time.Now(), Name: name, Node: id, Fields: fields})
	}
}

func (t *Target) act(ctx context.Context, a act) error {
	switch a.do {
	case reopen:
		return t.reopen(ctx, a.node)
	case promote:
		return t.promote(ctx, a.node)
	case follow:
		return t.follow(ctx, a.node)
	case rebuild:
		return t.rebuild(ctx, a.node)
	case admit:
		if err := t.awaitApplied(ctx, a.node, lagAllowed); err != nil {
			return err
		}
		return t.open(ctx, a.node, "OPENED")
	default:
		return t.shut(ctx, a.node)
	}
}

// execute does statements one after another, on one connection.
func (t *Target) execute(ctx context.Context, id topology.ID, statements ...string) error {
	conn, err := t.admins[id].Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.40q: %w", s, err)
		}
	}
	return nil
}

func (t *Target) open(ctx context.Context, id topology.ID, event string) error {
	if err := t.execute(ctx, id, "SET GLOBAL offline_mode = OFF"); err != nil {
		return err
	}
	t.tell(event, id, nil)
	return nil
}

// shut ends the sessions of clients, too.
func (t *Target) shut(ctx context.Context, id topology.ID) error {
	if err := t.execute(ctx, id, "SET GLOBAL offline_mode = ON"); err != nil {
		return err
	}
	t.tell("CLOSED", id, nil)
	return nil
}

// reopen has the primary take writes. It may have been away, and its machine may
// have forgotten what its replica has: then that one takes its place.
func (t *Target) reopen(ctx context.Context, id topology.ID) error {
	for _, other := range t.sightings() {
		if other.node == id || !other.up {
			continue
		}
		lacks, err := t.lacks(ctx, id, other.node)
		if err != nil {
			return err
		}
		if lacks {
			return t.promote(ctx, other.node)
		}
	}
	if err := t.execute(ctx, id, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF"); err != nil {
		return err
	}
	return t.open(ctx, id, "OPENED")
}

// lacks says whether one server has not got everything that another has applied or
// received.
func (t *Target) lacks(ctx context.Context, one, other topology.ID) (bool, error) {
	has, err := t.has(ctx, other)
	if err != nil {
		return false, err
	}
	var missing string
	err = t.admins[one].QueryRowContext(ctx, "SELECT GTID_SUBTRACT(?, @@GLOBAL.gtid_executed)", has).Scan(&missing)
	return missing != "", err
}

// has are the transactions that a server has applied or received.
func (t *Target) has(ctx context.Context, id topology.ID) (string, error) {
	var executed string
	if err := t.admins[id].QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&executed); err != nil {
		return "", err
	}
	replica, err := row(ctx, t.admins[id], "SHOW REPLICA STATUS")
	if err != nil {
		return "", err
	}
	if received := replica["Retrieved_Gtid_Set"]; received != "" {
		executed += "," + received
	}
	return strings.ReplaceAll(strings.Trim(executed, ","), "\n", ""), nil
}

// promote has a replica take the place of the primary. All that the replica has
// received it applies before anybody is let in.
func (t *Target) promote(ctx context.Context, id topology.ID) error {
	for _, n := range t.spec.Topology.Nodes {
		if n.ID == id {
			continue
		}
		if err := t.fence(ctx, n.ID); err != nil {
			return err
		}
	}
	if err := t.execute(ctx, id, "STOP REPLICA IO_THREAD"); err != nil {
		return err
	}
	received, err := t.has(ctx, id)
	if err != nil {
		return err
	}
	if err := t.awaitSet(ctx, id, received, actTimeout); err != nil {
		return err
	}
	if err := t.execute(ctx, id, "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL read_only = OFF"); err != nil {
		return err
	}
	t.mu.Lock()
	t.primary = id
	t.mu.Unlock()
	return t.open(ctx, id, "PROMOTED")
}

// errAnswers keeps a replica from being promoted: its primary was slow, and is not dead.
var errAnswers = errors.New("the primary answers")

// fence sees to it that a server takes no write any more that only was silent: it
// is killed. One that is dead, or that starts and is read-only, need not be; and one
// that answers after all, given more time than by a look, is not to be replaced.
func (t *Target) fence(ctx context.Context, id topology.ID) error {
	if runs, err := t.Runs(ctx, id); err != nil || !runs {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, lastLook)
	defer cancel()
	switch s, err := lookAt(bounded, t.admins[id]); {
	case err == nil && s.writable:
		s.node, s.at, s.up = id, time.Now(), true
		t.note([]sighting{s}) // its patience begins anew
		return errAnswers
	case err == nil, errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return t.Kill(ctx, id)
}

// follow has a server replicate from the primary. One that holds what the primary
// never had is rebuilt: nobody was told that it was stored, and two servers that
// differ are no redundancy.
func (t *Target) follow(ctx context.Context, id topology.ID) error {
	if err := t.execute(ctx, id, "SET GLOBAL offline_mode = ON", "SET GLOBAL super_read_only = ON", "STOP REPLICA"); err != nil {
		return err
	}
	errant, err := t.lacks(ctx, t.Primary(), id)
	if err != nil {
		return err
	}
	if errant {
		return t.rebuild(ctx, id)
	}
	return t.replicate(ctx, id, "FOLLOWS")
}

func (t *Target) replicate(ctx context.Context, id topology.ID, event string) error {
	source := fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %d, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', "+
		"SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1", t.host(t.Primary()), port, replicaUser, password)
	// A server skips what bears its own server id. What it once wrote as the primary it
	// may have lost since, and then needs it back; GTIDs keep it from doing anything
	// twice.
	fresh := fmt.Sprintf("SET GLOBAL server_id = %d", uint32(time.Now().Unix()))
	if err := t.execute(ctx, id, fresh, source, "START REPLICA"); err != nil {
		return err
	}
	t.tell(event, id, nil)
	return nil
}

// rebuild empties a server and has it replicate from the first transaction on,
// which the primary's binary log still holds.
func (t *Target) rebuild(ctx context.Context, id topology.ID) error {
	err := t.execute(ctx, id, "SET GLOBAL offline_mode = ON", "STOP REPLICA", "RESET REPLICA ALL",
		"SET GLOBAL read_only = OFF", "SET SESSION sql_log_bin = OFF", "DROP DATABASE IF EXISTS "+database,
		"RESET BINARY LOGS AND GTIDS", "SET GLOBAL super_read_only = ON", "SET SESSION sql_log_bin = ON")
	if err != nil {
		return err
	}
	return t.replicate(ctx, id, "REBUILT")
}
