package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
)

// ConnectionStorm opens connections to SQL nodes until they refuse any more, or
// as many as it is told, and holds them: webmail on a Monday morning, a client
// that leaks.
//
// The SQL node refuses new connections with MySQL 1040 at max_connections. Those
// that stand go on, so that a client with a persistent connection notices
// nothing, and one that connects for each message, as Exim does, asks another SQL
// node. The data nodes notice nothing: connections of one SQL node share its
// slots in the cluster.
//
// The connections are the harness's own. A crash of it ends them, so that there
// is nothing to heal.
//
// Effect: every node has refused a connection, or the clients feel it.
const ConnectionStorm Kind = "connection-storm"

func describeConnectionStorm() Description {
	return Description{
		Kind:    ConnectionStorm,
		Summary: "connections to a SQL node opened until it refuses more, and held",
		Source:  "MySQL manual, \"Too many connections\", max_connections",
		Roles:   onSQL(),
		Settings: []Setting{
			number("connections", "the most that are opened to each node", "connections", 1, 100_000, 10_000, func(s *Settings) *int { return &s.Connections }),
		},
		Needs:   []Capability{Admin},
		Nearest: LinkCut,
		Felt:    true,
		Expect: func(_ topology.Topology, p Planned) string {
			return fmt.Sprintf("%s refuse new connections with MySQL 1040; connections that stand go on, clients that connect anew ask another SQL node", p.Names())
		},
		loses: losesAll,
		build: func(s site) Fault { return &connectionStorm{site: s} },
	}
}

// connectionStorm holds what only the process that made it can have.
type connectionStorm struct {
	site

	mu      sync.Mutex
	pools   []*sql.DB
	held    []*sql.Conn
	refused []reference.Evidence // one for each node that refused
}

// InjectLimit is for some ten thousand log-ins.
func (f *connectionStorm) InjectLimit() time.Duration { return 2 * time.Minute }

func (f *connectionStorm) Inject(ctx context.Context) error {
	return f.act(f.p.Nodes, func(n topology.Node) error { return f.storm(ctx, n) })
}

func (f *connectionStorm) storm(ctx context.Context, n topology.Node) error {
	db, err := f.openAdmin(n)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(0)
	f.mu.Lock()
	f.pools = append(f.pools, db)
	f.mu.Unlock()
	for i := range f.p.Settings.Connections {
		conn, err := db.Conn(ctx)
		if ndberr.Classify(err).MySQL == errTooManyConnections {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.refused = append(f.refused, reference.Evidence{
				At: time.Now(), Source: "SQL error", Detail: fmt.Sprintf("%s refused connection %d with MySQL %d", n.Name, i+1, errTooManyConnections),
			})
			return nil
		}
		if err != nil {
			return fmt.Errorf("open connection %d to %s: %w", i+1, n.Name, err)
		}
		f.mu.Lock()
		f.held = append(f.held, conn)
		f.mu.Unlock()
	}
	return nil
}

func (f *connectionStorm) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	f.mu.Lock()
	refused := f.refused
	f.mu.Unlock()
	if len(refused) < len(f.p.Nodes) {
		return orWait(ctx, fmt.Sprintf("%d connections were let in, and none was refused", f.p.Settings.Connections))
	}
	return refused[len(refused)-1], nil
}

func (f *connectionStorm) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f *connectionStorm) Undo(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var failures []error
	for _, conn := range f.held {
		if err := conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
			failures = append(failures, err)
		}
	}
	for _, db := range f.pools {
		failures = append(failures, db.Close())
	}
	f.held, f.pools = nil, nil
	return errors.Join(failures...)
}

func (f *connectionStorm) AwaitRecovered(ctx context.Context) (reference.Evidence, error) {
	return f.all(ctx, f.p.Nodes, f.awaitAnswer)
}
