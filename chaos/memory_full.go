package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// MemoryFull fills the data nodes' DataMemory through a SQL node, with a table of
// its own, until they refuse, and drops the table.
//
// What needs memory is refused with MySQL 1114 (NDB 827 and its like): new rows,
// and longer values. It is no temporary error, and clients do not try again.
// Reads, deletes and updates in place go on. A part of DataMemory is kept back
// for restarts (MinFreePct), so that nodes can still start. The memory is free
// again soon after the table was dropped.
//
// The table is in a database of the fault's own, "mailbench_fault_" and the
// number of the fault, which every process that knows the fault can drop.
//
// Effect: a row was refused for want of memory, or the clients feel it.
const MemoryFull Kind = "memory-full"

func describeMemoryFull() Description {
	return Description{
		Kind:    MemoryFull,
		Summary: "DataMemory filled with a table of the harness's, which is dropped afterwards",
		Source:  "MySQL manual, DataMemory, MinFreePct; ndberror.cpp, 827",
		Roles:   onSQL(),
		Single:  true,
		Settings: []Setting{
			number("rows", "the most that are written, of 8 kB each", "rows", 1, 100_000_000, 1_000_000, func(s *Settings) *int { return &s.Rows }),
		},
		Needs: []Capability{Admin},
		Felt:  true,
		Expect: func(topology.Topology, Planned) string {
			return "new rows are refused with MySQL 1114 (NDB 827) on every SQL node, and not tried again; reads and updates in place go on"
		},
		build: func(s site) Fault { return &memoryFull{site: s} },
	}
}

type memoryFull struct {
	site

	mu      sync.Mutex
	refused reference.Evidence // for AwaitEffect only
}

const (
	fillerBytes = 8000
	fillerRows  = 50 // a statement: 400 kB
)

// database is the name of the fault's own.
func (f *memoryFull) database() string {
	number, _, _ := strings.Cut(f.p.ID, "-")
	return "mailbench_fault_" + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, number)
}

// InjectLimit is for some ten gigabytes.
func (f *memoryFull) InjectLimit() time.Duration { return 10 * time.Minute }

func (f *memoryFull) Inject(ctx context.Context) error {
	n := f.p.Nodes[0]
	db, err := f.openAdmin(n)
	if err != nil {
		return err
	}
	defer db.Close()
	table := f.database() + ".filler"
	for _, statement := range []string{
		"CREATE DATABASE " + f.database(),
		"CREATE TABLE " + table + " (id INT UNSIGNED NOT NULL, filler VARBINARY(8000) NOT NULL, PRIMARY KEY (id) USING HASH) ENGINE=NDBCLUSTER",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("prepare to fill DataMemory through %s: %w", n.Name, err)
		}
	}
	// Fewer rows a statement at the end: the first refusal is that of a big one.
	for written, batch := 0, fillerRows; written < f.p.Settings.Rows; {
		_, err := db.ExecContext(ctx, insertFiller(table, written, min(batch, f.p.Settings.Rows-written)))
		switch result := ndberr.Classify(err); {
		case err == nil:
			written += batch
		case result.MySQL == errTableFull && batch > 1:
			batch = 1
		case result.MySQL == errTableFull:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.refused = reference.Evidence{At: time.Now(), Source: "SQL error", Detail: fmt.Sprintf("%s refused row %d: %s", n.Name, written+1, result)}
			return nil
		case result.Retryable && ctx.Err() == nil: // overload
			if err := sleepUntil(ctx, time.Now().Add(adminPoll)); err != nil {
				return fmt.Errorf("fill DataMemory through %s: %w", n.Name, err)
			}
		default:
			return fmt.Errorf("fill DataMemory through %s: row %d: %w", n.Name, written+1, err)
		}
	}
	return fmt.Errorf("DataMemory takes more than %d rows of %d bytes: set rows higher", f.p.Settings.Rows, fillerBytes)
}

// insertFiller writes rows with the ids behind first.
func insertFiller(table string, first, rows int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "REPLACE INTO %s VALUES ", table)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,REPEAT('x',%d))", first+i+1, fillerBytes)
	}
	return b.String()
}

func (f *memoryFull) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	f.mu.Lock()
	refused := f.refused
	f.mu.Unlock()
	if refused.Source == "" {
		return orWait(ctx, "no row was refused")
	}
	return refused, nil
}

func (f *memoryFull) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f *memoryFull) Undo(ctx context.Context) error {
	n := f.p.Nodes[0]
	db, err := f.openAdmin(n)
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		_, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+f.database())
		if err == nil {
			return nil
		}
		// A DDL statement is refused while a node starts (NDB 711), and by a SQL node
		// that is starting itself.
		if ended := sleepUntil(ctx, time.Now().Add(adminPoll)); ended != nil {
			return errors.Join(fmt.Errorf("drop database %s through %s: %w", f.database(), n.Name, err), ended)
		}
	}
}

// AwaitRecovered waits until a row is taken again.
func (f *memoryFull) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.site.AwaitRedundant(ctx)
}
