package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
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

func (b *books) open(ctx context.Context, n topology.Node) (ledger.Reader, error) {
	reader, err := b.reader(ctx, n)
	if err != nil {
		return nil, err
	}
	if late, ok := b.target.(reference.Replicator); ok {
		return &patientReader{reader, func(ctx context.Context) error { return late.AwaitReplicated(ctx, n.ID) }}, nil
	}
	return reader, nil
}

// reader reads through one node: as an administrator, or as a client where there
// is no administrator who could.
func (b *books) reader(ctx context.Context, n topology.Node) (ledger.Reader, error) {
	admin, ok := b.target.(reference.Admin)
	if !ok {
		session, err := b.target.Connect(ctx, n.ID, reference.ConnectOptions{ConnectTimeout: probeTimeout, ReadTimeout: readTimeout})
		if err != nil {
			return nil, err
		}
		return sessionReader{session}, nil
	}
	db, err := admin.OpenAdmin(n.ID)
	if err != nil {
		return nil, err
	}
	return &ledgerReader{db}, nil
}

// readTimeout bounds one reading of a client's session; the ledger has its own
// bound, which ends no session.
const readTimeout = 10 * time.Second

// patientReader reads of a node that learns of writes later than their clients do:
// each reading waits until the node has what was acknowledged before it.
type patientReader struct {
	ledger.Reader
	await func(context.Context) error
}

func (r *patientReader) Greylist(ctx context.Context, keys []greylist.Key) (map[greylist.Key]greylist.State, error) {
	if err := r.await(ctx); err != nil {
		return nil, err
	}
	return r.Reader.Greylist(ctx, keys)
}

func (r *patientReader) Preferences(ctx context.Context, user string) (map[string]string, error) {
	if err := r.await(ctx); err != nil {
		return nil, err
	}
	return r.Reader.Preferences(ctx, user)
}

func (r *patientReader) Account(ctx context.Context, login string) (accounts.Account, error) {
	if err := r.await(ctx); err != nil {
		return accounts.Account{}, err
	}
	return r.Reader.Account(ctx, login)
}

// sessionReader reads what is stored as a client does, of a target that has no
// greylist.
type sessionReader struct{ session reference.Session }

func (sessionReader) Greylist(context.Context, []greylist.Key) (map[greylist.Key]greylist.State, error) {
	return nil, errors.New("this target's greylist can be read by no client")
}

func (r sessionReader) Preferences(ctx context.Context, user string) (map[string]string, error) {
	return r.session.Read(ctx, user)
}

func (r sessionReader) Account(ctx context.Context, login string) (accounts.Account, error) {
	return r.session.Account(ctx, login)
}

func (r sessionReader) Close() error { return r.session.Close() }

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

// epochs learns about once a second of which global checkpoint a write of its own
// became part, until ctx ends, of a target that has such. Where a SQL node does not
// answer, the next is asked.
func (b *books) epochs(ctx context.Context) {
	target, ok := b.target.(interface {
		reference.Checkpointer
		reference.Admin
	})
	if !ok {
		return
	}
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
			if db, err = target.OpenAdmin(nodes[next%len(nodes)].ID); err != nil {
				db, next = nil, next+1
				continue
			}
		}
		at := b.since()
		gci, err := target.Checkpoint(ctx, db)
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
