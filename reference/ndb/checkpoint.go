package ndb

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/mailbench/mailbench/reference"
)

var _ reference.Checkpointer = (*View)(nil)

// checkpointTimeout bounds one sample.
const checkpointTimeout = 3 * time.Second

// Checkpoint writes a row of the table heartbeat and returns the global checkpoint
// that its commit belongs to: the upper half of the epoch (MySQL manual,
// Ndb_last_commit_epoch_session).
func (v *View) Checkpoint(ctx context.Context, db *sql.DB) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "REPLACE INTO heartbeat (node, beat) VALUES ('mailbench', ?)", time.Now().UnixMicro()); err != nil {
		return 0, fmt.Errorf("write a heartbeat: %w", err)
	}
	var text string
	if err := conn.QueryRowContext(ctx, "SELECT VARIABLE_VALUE FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Ndb_last_commit_epoch_session'").Scan(&text); err != nil {
		return 0, fmt.Errorf("read the epoch of a commit: %w", err)
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the epoch of a commit: %w", err)
	}
	return int64(epoch >> 32), nil
}
