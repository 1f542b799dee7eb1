package scenarios

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios/ledger"
)

// books keep a run's ledger: they read it back after every fault and at the end,
// and follow the cluster's epochs, by which losses after a restart of the whole
// cluster are judged.
type books struct {
	ledger *ledger.Ledger
	target system
	since  func() time.Duration

	mu        sync.Mutex
	restarts  results.SystemRestarts
	redundant chan string // ids of faults after which the ledger is to be read
	latest    atomic.Pointer[results.Epoch]
}

// waitingReads bounds the faults whose reading is still to come: faults follow each
// other slowly, and one reading after several says as much.
const waitingReads = 16

func newBooks(l *ledger.Ledger, target system, since func() time.Duration) *books {
	return &books{ledger: l, target: target, since: since, redundant: make(chan string, waitingReads)}
}

// event takes note of a fault after which the cluster is whole again, and of a
// restart of the whole cluster.
func (b *books) event(e chaos.Event) {
	if e.Kind == chaos.KindCluster {
		b.mu.Lock()
		_, restored := b.restarts.Take(e)
		b.mu.Unlock()
		if restored {
			b.ledger.Restored(e.At)
		}
		return
	}
	if e.Kind != chaos.KindFault || e.Name != chaos.StepRedundant {
		return
	}
	select {
	case b.redundant <- e.Fault:
	default:
	}
}

// afterFaults reads the ledger back after each fault, until ctx ends.
func (b *books) afterFaults(ctx context.Context) {
	for {
		select {
		case id := <-b.redundant:
			b.ledger.ReadBack(ctx, ledger.Reading{Open: b.open, Since: b.since, After: id})
		case <-ctx.Done():
			return
		}
	}
}

// atTheEnd reads the ledger back when no op is under way any more. Time for it is
// bounded by what a slow cluster would need for so many keys.
func (b *books) atTheEnd(ctx context.Context, keys int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute+time.Duration(keys)*time.Millisecond)
	defer cancel()
	b.ledger.ReadBack(ctx, ledger.Reading{Open: b.open, Since: b.since})
}

func (b *books) open(_ context.Context, n topology.Node) (ledger.Reader, error) {
	db, err := b.target.OpenAdmin(n.ID)
	if err != nil {
		return nil, err
	}
	return &ledgerReader{db}, nil
}

// ledgerReader reads what is stored as an administrator does.
type ledgerReader struct{ db *sql.DB }

func (r *ledgerReader) Greylist(ctx context.Context, keys []greylist.Key) (map[greylist.Key]greylist.State, error) {
	return greylist.SQL{DB: r.db}.Rows(ctx, keys)
}

func (r *ledgerReader) Preferences(ctx context.Context, user string) (map[string]string, error) {
	return preferences.SQL{DB: r.db}.Read(ctx, user)
}

func (r *ledgerReader) Account(ctx context.Context, login string) (accounts.Account, error) {
	conn, err := r.db.Conn(ctx)
	if err != nil {
		return accounts.Account{}, err
	}
	defer conn.Close()
	return accounts.NewSQL(conn).Account(ctx, login)
}

func (r *ledgerReader) Close() error { return r.db.Close() }

// epochTimeout bounds one sample of the epoch.
const epochTimeout = 3 * time.Second

// epochs learns about once a second of which global checkpoint a write of its own
// became part, until ctx ends. Where a SQL node does not answer, the next is asked.
func (b *books) epochs(ctx context.Context) {
	nodes := b.target.Topology().ByRole(topology.SQL)
	var (
		db   *sql.DB
		next int
	)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if db != nil {
				_ = db.Close() // given up either way
			}
			return
		case <-tick.C:
		}
		var err error
		if db == nil {
			if db, err = b.target.OpenAdmin(nodes[next%len(nodes)].ID); err != nil {
				db, next = nil, next+1
				continue
			}
		}
		at := b.since()
		gci, err := sampleEpoch(ctx, db)
		if err != nil {
			_ = db.Close() // given up either way
			db, next = nil, next+1
			continue
		}
		b.latest.Store(&results.Epoch{DispatchedUS: at.Microseconds(), GCI: gci})
	}
}

// epoch is what was learned since it was asked for last; nil for nothing.
func (b *books) epoch() *results.Epoch { return b.latest.Swap(nil) }

// sampleEpoch writes a row of the table heartbeat and returns the global checkpoint
// that its commit belongs to: the upper half of the epoch (MySQL manual,
// Ndb_last_commit_epoch_session).
func sampleEpoch(ctx context.Context, db *sql.DB) (gci int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, epochTimeout)
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
