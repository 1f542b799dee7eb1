package datamemory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Measured is what a table takes of one replica, as ndbinfo.memory_per_fragment
// shows it.
type Measured struct {
	Rows       int64
	Partitions int // that hold the rows, each stored once per replica
	Size
	// RowBytes is the fixed part of a row, NodeBytes that of a node of the ordered
	// index, as NDB stores them; 0 if there is none.
	RowBytes, NodeBytes int64
}

// maxFragments is how many fragments a measurement reads at most.
const maxFragments = 1_000_000

// Measure reads what each table of a database takes, through any SQL node.
// replicas is how often the cluster stores a row; 1 to 4. Sizes are of pages that
// are allocated, as only these can be given to another table when they are empty.
// While a node is down its replica is missing, and the figures are too low.
func Measure(ctx context.Context, db *sql.DB, database string, replicas int) (map[string]Measured, error) {
	if replicas < 1 || replicas > 4 {
		return nil, fmt.Errorf("measure memory: replicas is %d, must be 1 to 4", replicas)
	}
	fail := func(err error) (map[string]Measured, error) {
		return nil, fmt.Errorf("read ndbinfo.memory_per_fragment of database %s: %w; it needs SELECT on ndbinfo and a SQL node that is connected to data nodes", database, err)
	}
	// Compared here and not in SQL: the collation of ndbinfo's views differs from a
	// connection's.
	rows, err := db.QueryContext(ctx, "SELECT fq_name, parent_fq_name, fixed_elem_alloc_bytes, fixed_elem_size_bytes, fixed_elem_count,"+
		" var_elem_alloc_bytes, hash_index_alloc_bytes FROM ndbinfo.memory_per_fragment")
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	found, fragments := map[string]Measured{}, 0
	for rows.Next() {
		var (
			name, parent                          sql.NullString
			fixed, size, count, variable, hashing int64
		)
		if err := rows.Scan(&name, &parent, &fixed, &size, &count, &variable, &hashing); err != nil {
			return fail(err)
		}
		if fragments++; fragments > maxFragments {
			return fail(fmt.Errorf("more than %d fragments", maxFragments))
		}
		if table, ok := tableOf(database, name.String); ok {
			m := found[table]
			m.Rows, m.Fixed, m.Var, m.Hash = m.Rows+count, m.Fixed+fixed, m.Var+variable, m.Hash+hashing
			m.Partitions++
			m.RowBytes = size
			found[table] = m
		} else if table, ok := tableOf(database, parent.String); ok {
			m := found[table]
			m.Ordered += fixed + variable + hashing
			m.NodeBytes = size
			found[table] = m
		}
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	if len(found) == 0 {
		return fail(errors.New("there is no table"))
	}
	for table, m := range found {
		n := int64(replicas)
		found[table] = Measured{
			Rows: m.Rows / n, Partitions: m.Partitions / replicas, RowBytes: m.RowBytes, NodeBytes: m.NodeBytes,
			Size: Size{m.Fixed / n, m.Var / n, m.Hash / n, m.Ordered / n},
		}
	}
	return found, nil
}

// tableOf is the table that a name such as "mailbench/def/route" names, if it is
// one of the database.
func tableOf(database, name string) (table string, ok bool) {
	table, ok = strings.CutPrefix(name, database+"/def/")
	return table, ok && table != "" && !strings.Contains(table, "/")
}

// Usage is what a data node has used of its DataMemory, and how much that is, in
// bytes: ndbinfo.memoryusage, on the average over the data nodes that answer.
func Usage(ctx context.Context, db *sql.DB) (used, total int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT CAST(AVG(used) AS SIGNED), CAST(AVG(total) AS SIGNED) FROM ndbinfo.memoryusage"+
		" WHERE memory_type LIKE 'Data memory'").Scan(&used, &total)
	if err != nil {
		return 0, 0, fmt.Errorf("read ndbinfo.memoryusage: %w; it needs SELECT on ndbinfo and a data node that is started", err)
	}
	return used, total, nil
}
