package chaos

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Numbers of MySQL's errors that faults are made for.
const (
	errTooManyConnections = 1040
	errTableFull          = 1114
)

// adminPoll is how often something is tried again that a database refused.
const adminPoll = 100 * time.Millisecond

// openAdmin opens an administrator's connections to a SQL node.
func (s site) openAdmin(n topology.Node) (*sql.DB, error) {
	can, err := offers[reference.Admin](s, Admin)
	if err != nil {
		return nil, err
	}
	db, err := can.OpenAdmin(n.ID)
	if err != nil {
		return nil, fmt.Errorf("open an administrator's connection to %s: %w", n.Name, err)
	}
	return db, nil
}

// awaitAnswer waits until a SQL node lets an administrator in and answers.
func (s site) awaitAnswer(ctx context.Context, id topology.ID) (reference.Evidence, error) {
	n, ok := s.target.Topology().ByID(id)
	if !ok {
		return reference.Evidence{}, fmt.Errorf("the target has no node %d", id)
	}
	db, err := s.openAdmin(n)
	if err != nil {
		return reference.Evidence{}, err
	}
	defer db.Close()
	for {
		var one int
		err := db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
		if err == nil {
			return reference.Evidence{At: time.Now(), Source: "SQL answer", Detail: n.Name + " lets an administrator in and answers"}, nil
		}
		if ended := sleepUntil(ctx, time.Now().Add(adminPoll)); ended != nil {
			return reference.Evidence{}, fmt.Errorf("%s does not answer: %w: %w", n.Name, ended, err)
		}
	}
}
