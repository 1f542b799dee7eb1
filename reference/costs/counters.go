package costs

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// Counter is something that is counted of each decision.
type Counter struct {
	Name string
	// Exact says that a decision costs the same every time, through every SQL
	// node, on every machine: one more is no noise. The others may be less where
	// the network happens to bring together what comes one by one elsewhere.
	Exact    bool
	variable string // the server's status variable, "" for a sum of several
}

// statements is the sum of all that the server counts by kind.
const statements = "statements"

// Counters lists all counters. They are counters of the session: what others do
// meanwhile does not show. docs/results.md defines them.
func Counters() []Counter {
	ndb := func(name string, exact bool, variable string) Counter {
		return Counter{name, exact, "Ndb_api_" + variable + "_count_session"}
	}
	return []Counter{
		ndb("ndb_round_trips", true, "wait_exec_complete"), // waits for the data nodes to do operations, a batch of them or a commit
		ndb("ndb_scan_waits", false, "wait_scan_result"),   // waits for a part of a scan
		ndb("ndb_meta_waits", true, "wait_meta_request"),   // waits for the dictionary
		ndb("ndb_pk_ops", true, "pk_op"),                   // operations by primary key
		ndb("ndb_uk_ops", true, "uk_op"),                   // operations by unique key
		ndb("ndb_table_scans", true, "table_scan"),         // scans of a table
		ndb("ndb_range_scans", true, "range_scan"),         // scans of an ordered index
		ndb("ndb_pruned_scans", true, "pruned_scan"),       // scans, of either kind, of one partition only
		ndb("ndb_rows_read", true, "read_row"),             // rows that the data nodes sent
		ndb("ndb_trans_started", true, "trans_start"),      // transactions begun
		ndb("ndb_trans_committed", true, "trans_commit"),   // transactions committed
		ndb("ndb_trans_aborted", true, "trans_abort"),      // transactions aborted
		ndb("ndb_trans_closed", true, "trans_close"),       // transactions closed, reads too
		ndb("ndb_bytes_sent", true, "bytes_sent"),          // bytes to the data nodes
		ndb("ndb_bytes_received", true, "bytes_received"),  // bytes from the data nodes
		{"questions", true, "Questions"},                   // statements that the client sent
		{statements, true, ""},                             // statements that the SQL node performed, those of procedures too
		{"selects", true, "Com_select"},                    // of these, SELECT
		{"replaces", true, "Com_replace"},                  // of these, REPLACE
		{"inserts", true, "Com_insert"},                    // of these, INSERT
		{"updates", true, "Com_update"},                    // of these, UPDATE
		{"deletes", true, "Com_delete"},                    // of these, DELETE
		{"commits", true, "Com_commit"},                    // of these, COMMIT
		{"rollbacks", true, "Com_rollback"},                // of these, ROLLBACK
		{"wire_bytes_in", true, "Bytes_received"},          // bytes from the client to the SQL node
		{wireOut, true, "Bytes_sent"},                      // bytes from the SQL node to the client
	}
}

// counts are values by the name of their counter.
type counts map[string]int64

func (c counts) less(other counts) counts {
	d := counts{}
	for name, n := range c {
		d[name] = n - other[name]
	}
	return d
}

// kinds begins the names of the variables that count statements by their kind.
const kinds = "Com_"

// meter reads the counters of one connection, with what reading itself adds to
// them taken away.
type meter struct {
	conn  *sql.Conn
	query string
	names map[string]string // of counters, by variable
	own   counts            // of a reading, but for the lengths of its values
	last  reading
}

// reading is what the counters say. It counts the bytes of the one before, of
// which the values, being texts, may have any length.
type reading struct {
	counts
	bytes int64
}

// wireOut is the counter of those bytes.
const wireOut = "wire_bytes_out"

// newMeter learns what a reading costs, and fails unless that is the same each time.
func newMeter(ctx context.Context, conn *sql.Conn) (*meter, error) {
	m := &meter{conn: conn, names: map[string]string{}}
	var variables []string
	for _, c := range Counters() {
		if c.variable != "" {
			m.names[c.variable] = c.Name
			variables = append(variables, "'"+c.variable+"'")
		}
	}
	// Not of performance_schema.session_status, which does not have Com_ variables.
	m.query = "SHOW SESSION STATUS WHERE LEFT(Variable_name, 4) = '" + kinds + "' OR Variable_name IN (" + strings.Join(variables, ", ") + ")"
	for range 2 { // the first one opens the table
		if err := m.start(ctx); err != nil {
			return nil, err
		}
	}
	own, err := m.since(ctx)
	if err != nil {
		return nil, err
	}
	m.own = own
	nothing, err := m.since(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range Counters() {
		if n := nothing[c.Name]; n != 0 {
			return nil, fmt.Errorf("reading the counters costs %d %s more than the time before: what a decision costs cannot be told from it", n, c.Name)
		}
	}
	return m, nil
}

// start counts from now on.
func (m *meter) start(ctx context.Context) (err error) {
	m.last, err = m.read(ctx)
	return err
}

// since returns what the connection has cost since the reading before.
func (m *meter) since(ctx context.Context) (counts, error) {
	now, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	spent := now.less(m.last.counts).less(m.own)
	spent[wireOut] -= m.last.bytes
	m.last = now
	return spent, nil
}

func (m *meter) read(ctx context.Context) (reading, error) {
	now, err := m.show(ctx)
	if err != nil {
		return now, fmt.Errorf("read the session's counters: %w", err)
	}
	for variable, name := range m.names {
		if _, ok := now.counts[name]; !ok {
			return now, fmt.Errorf("the SQL node has no status variable %s: is it one of an NDB cluster?", variable)
		}
	}
	return now, nil
}

func (m *meter) show(ctx context.Context) (reading, error) {
	now := reading{counts: counts{statements: 0}}
	rows, err := m.conn.QueryContext(ctx, m.query)
	if err != nil {
		return now, err
	}
	defer rows.Close()
	for rows.Next() {
		var variable, value string
		if err := rows.Scan(&variable, &value); err != nil {
			return now, err
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return now, fmt.Errorf("%s: %w", variable, err)
		}
		if strings.HasPrefix(variable, kinds) {
			now.counts[statements] += n
		}
		if name := m.names[variable]; name != "" {
			now.counts[name] = n
		}
		now.bytes += int64(len(value))
	}
	return now, rows.Err()
}
