// Package reference holds the system under test: the paths that a mail system
// asks of its database, and the targets that answer them.
package reference

import (
	"context"
	"net"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/topology"
)

// Path is one kind of question that the mail system asks.
type Path uint8

// The paths.
const (
	Routing Path = iota + 1
	Greylist
	Preferences
	Accounts
)

// Paths lists all paths in the order in which reports show them.
var Paths = [...]Path{Routing, Greylist, Preferences, Accounts}

func (p Path) String() string {
	switch p {
	case Routing:
		return "routing"
	case Greylist:
		return "greylist"
	case Preferences:
		return "preferences"
	case Accounts:
		return "accounts"
	default:
		return "none"
	}
}

// Operation is one call on a path.
type Operation uint8

// The operations.
const (
	Route           Operation = iota + 1 // at RCPT: is there such an address?
	CheckGreylist                        // at RCPT, after Route
	ReadPreferences                      // at a login
	SetPreference                        // when a form is saved
	RouteDelivery                        // at the delivery of an accepted message: where to?
	ChangeAccount                        // when the staff changes an account
)

// Path returns the path that an operation belongs to.
func (o Operation) Path() Path {
	switch o {
	case Route, RouteDelivery:
		return Routing
	case CheckGreylist:
		return Greylist
	case ReadPreferences, SetPreference:
		return Preferences
	case ChangeAccount:
		return Accounts
	default:
		return 0
	}
}

// Writes says whether the operation changes stored data, so that an attempt
// without an answer may have happened.
func (o Operation) Writes() bool {
	return o == CheckGreylist || o == SetPreference || o == ChangeAccount
}

func (o Operation) String() string {
	switch o {
	case Route:
		return "route"
	case CheckGreylist:
		return "check"
	case ReadPreferences:
		return "read"
	case SetPreference:
		return "set"
	case RouteDelivery:
		return "deliver"
	case ChangeAccount:
		return "change"
	default:
		return "none"
	}
}

// Session is one connection of one client to one node, able to ask every path.
// It serves one operation at a time. After an error that is not the database's
// own answer the session must be closed.
type Session interface {
	routing.Router
	greylist.Checker
	preferences.Store
	accounts.Manager
	Close() error
}

// DialFunc opens the transport of a session; a proxy or a network fault takes
// the place of net.Dialer here.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// ConnectOptions are one client's habits when it connects.
type ConnectOptions struct {
	Dial           DialFunc      // nil for a plain net.Dialer
	ConnectTimeout time.Duration // until the node has greeted and let us in
	ReadTimeout    time.Duration // until a node that is asked must answer
}

// Loader fills a target before a run. Each call stores all its rows, replacing
// what stood under the same keys, and may be called from several goroutines.
type Loader interface {
	LoadRoutes(ctx context.Context, rows []routing.Row) error
	// LoadAccounts stores accounts and their other addresses, and no routes.
	LoadAccounts(ctx context.Context, rows []accounts.Account) error
	LoadPreferences(ctx context.Context, rows []preferences.Row) error
	LoadTriplets(ctx context.Context, rows []greylist.Row) error
	// LoadClients stores auto-whitelist entries beside the triplets.
	LoadClients(ctx context.Context, rows []greylist.ClientRow) error
}

// ClusterEvent is something that a target said about itself.
type ClusterEvent struct {
	At     time.Time         // when the harness learned of it
	Name   string            // such as "NODE_FAILREP"
	Node   topology.ID       // the node that it is about, 0 for the cluster
	Source topology.ID       // the node whose view it is, 0 if unknown
	Fields map[string]string // as the target gave them
}

// Evidence is what proves that a node went down, came back or is whole again.
type Evidence struct {
	At     time.Time // when the harness learned of it
	Source string    // "management event", "management status", "SQL write"
	Detail string
}

// Target is a system under test.
type Target interface {
	Topology() topology.Topology

	// Start brings the target to where every node takes real work.
	Start(ctx context.Context) error

	// Connect opens a session with one SQL node. It tries once.
	Connect(ctx context.Context, node topology.ID, o ConnectOptions) (Session, error)

	// Loader returns a way to fill the target. Close ends its connections.
	Loader(ctx context.Context) (loader Loader, closeLoader func() error, err error)

	// Watch hands every cluster event to sink, until ctx ends.
	Watch(ctx context.Context, sink func(ClusterEvent)) error

	// Stop removes everything that the target started.
	Stop(ctx context.Context) error

	Nodes
}

// Nodes is what may be done to single nodes of a target, and how the target
// proves what became of it. The Await methods only watch; they may be called
// again after a failure.
type Nodes interface {
	// StartNode starts a dead node from its own disk. It leaves one alone that
	// runs, and waits for the end of one that was told to end, by whomever.
	StartNode(ctx context.Context, node topology.ID) error
	// AwaitDown waits until the rest of the cluster counts the node as failed.
	AwaitDown(ctx context.Context, node topology.ID) (Evidence, error)
	// AwaitUp waits until the node takes part again: a data node is started, a
	// SQL node is connected to the cluster and answers.
	AwaitUp(ctx context.Context, node topology.ID) (Evidence, error)
	// AwaitRedundant waits until losing another node would cost nothing more
	// than before: data nodes all started and an arbitrator connected, a SQL
	// node takes writes with its routines in place.
	AwaitRedundant(ctx context.Context, node topology.ID) (Evidence, error)
}
