package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// EventRestartInfo is a data node's row of ndbinfo.restart_info, read when the
// fault on it was over: the times that each part of its restart took, in seconds.
// Fields are the table's columns.
const EventRestartInfo = "RESTART_INFO"

const restartInfoTimeout = 5 * time.Second

// restartedNodes are the data nodes of a fault that is over, and those that an
// outage took with it; none for any other event.
func (p *Plan) restartedNodes(e chaos.Event) []topology.Node {
	if e.Kind != chaos.KindFault || e.Name != chaos.StepRedundant {
		return nil
	}
	names := strings.Split(e.Node, ",")
	for _, f := range p.Faults.Steps {
		for _, n := range f.Along {
			if f.ID == e.Fault {
				names = append(names, n.Name)
			}
		}
	}
	return slices.DeleteFunc(p.Topology.ByRole(topology.Data), func(n topology.Node) bool { return !slices.Contains(names, n.Name) })
}

// restartInfo reads how data nodes have restarted, through the first SQL node
// that answers. A node that did not restart has no row.
func restartInfo(ctx context.Context, target reference.Admin, t topology.Topology, nodes []topology.Node) (map[topology.ID]map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, restartInfoTimeout)
	defer cancel()
	var failures []error
	for _, through := range t.ByRole(topology.SQL) {
		found, err := restartInfoThrough(ctx, target, through, nodes)
		if err == nil {
			return found, nil
		}
		failures = append(failures, fmt.Errorf("read ndbinfo.restart_info through %s: %w", through.Name, err))
	}
	return nil, errors.Join(failures...)
}

func restartInfoThrough(ctx context.Context, target reference.Admin, through topology.Node, nodes []topology.Node) (map[topology.ID]map[string]string, error) {
	db, err := target.OpenAdmin(through.ID)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT * FROM ndbinfo.restart_info")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	found := map[topology.ID]map[string]string{}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		fields := map[string]string{}
		for i, column := range columns {
			if values[i].Valid {
				fields[column] = values[i].String
			}
		}
		for _, n := range nodes {
			if fields["node_id"] == fmt.Sprint(n.ID) {
				found[n.ID] = fields
			}
		}
	}
	return found, rows.Err()
}

// restartEvents are the events that restart_info makes, in the order of nodes.
func restartEvents(at time.Duration, nodes []topology.Node, info map[topology.ID]map[string]string) []chaos.Event {
	var events []chaos.Event
	for _, n := range nodes {
		if fields, ok := info[n.ID]; ok {
			events = append(events, chaos.Event{At: at, Kind: chaos.KindCluster, Name: EventRestartInfo, Node: n.Name, Fields: fields})
		}
	}
	return events
}
