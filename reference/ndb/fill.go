package ndb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

var _ reference.Gauge = (*View)(nil)

// fillPatience is how long one SQL node may take; the host of a dead one may be silent.
const fillPatience = time.Second

// fillQuery asks what each data node holds: pages of DataMemory in use and in all, and
// the redo log that is not yet covered by a local checkpoint, over all its parts
// (MySQL manual, "The ndbinfo memoryusage Table" and "The ndbinfo logspaces Table").
// Both names are constants of ndbinfo's views, whose collations need not go with the
// connection's (error 1267): bytes are compared.
const fillQuery = `SELECT m.node_id, m.used, m.total, COALESCE(l.used, 0), COALESCE(l.total, 0)
FROM (SELECT node_id, used, total FROM ndbinfo.memoryusage WHERE CAST(memory_type AS BINARY) = 'Data memory') m
LEFT JOIN (SELECT node_id, SUM(used) AS used, SUM(total) AS total FROM ndbinfo.logspaces WHERE CAST(log_type AS BINARY) = 'REDO' GROUP BY node_id) l
ON l.node_id = m.node_id`

// Fill asks the SQL nodes in their order, and takes what the first says that answers.
func (v *View) Fill(ctx context.Context) (map[topology.ID]reference.Fill, error) {
	var failures []error
	for _, n := range v.topology.ByRole(topology.SQL) {
		fill, err := v.fillSeen(ctx, n)
		if err == nil {
			return fill, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("how full are the data nodes? %w", errors.Join(failures...))
}

// fillSeen asks one SQL node.
func (v *View) fillSeen(ctx context.Context, n topology.Node) (map[topology.ID]reference.Fill, error) {
	ctx, cancel := context.WithTimeout(ctx, fillPatience)
	defer cancel()
	db, err := v.OpenAdmin(n.ID)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, fillQuery)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.Name, err)
	}
	defer rows.Close()
	fills := map[topology.ID]reference.Fill{}
	for rows.Next() {
		var (
			id topology.ID
			f  reference.Fill
		)
		if err := rows.Scan(&id, &f.DataMemory, &f.DataMemoryTotal, &f.Redo, &f.RedoTotal); err != nil {
			return nil, fmt.Errorf("read the answer of %s: %w", n.Name, err)
		}
		fills[id] = f
	}
	return fills, rows.Err()
}
