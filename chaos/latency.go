package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
)

// Latency lengthens each round trip of clients to SQL nodes, inside the harness:
// no privilege and no netem is needed. The database knows nothing of it.
//
// An op takes as many delays longer as it makes round trips: two at least for a
// connection (TCP and greeting) and two for logging in, one for each statement
// and each CALL. A client with a read time-out under the delay fails. A
// transaction of several statements holds its locks for longer.
//
// What a crashed harness did is gone with it, so that there is nothing to heal.
//
// Effect: a client has waited longer for one of the nodes.
const Latency Kind = "latency"

func describeLatency() Description {
	return Description{
		Kind:     Latency,
		Summary:  "each round trip of clients to a SQL node made longer, inside the harness",
		Source:   "the package workload, a client's habits; chaos.Links",
		Roles:    onSQL(),
		Settings: []Setting{settingDelay(), settingClients()},
		Needs:    []Capability{ClientLinks},
		Felt:     true,
		Expect: func(_ topology.Topology, p Planned) string {
			return fmt.Sprintf("%s take %s longer for each round trip to %s: about four for a new connection, one a statement; the database notices nothing",
				clientsOf(p), p.Settings.Delay, p.Names())
		},
		build: func(s site) Fault { return linked{s, false} },
	}
}

func clientsOf(p Planned) string {
	if len(p.Settings.Clients) == 0 {
		return "all clients"
	}
	return "clients " + fmt.Sprint(slices.Clone(p.Settings.Clients))
}

// linked is a fault of the clients' connections.
type linked struct {
	site
	cut bool
}

func (f linked) Inject(context.Context) error {
	if f.links == nil {
		return f.missing()
	}
	f.links.set(f.p.ID, newLinkFault(f.p.Settings.Clients, f.p.Nodes, f.p.Settings.Delay, f.cut))
	return nil
}

func (f linked) AwaitEffect(ctx context.Context) (reference.Evidence, error) {
	return f.links.await(ctx, f.p.ID)
}

func (f linked) Recover(ctx context.Context) error { return f.Undo(ctx) }

func (f linked) Undo(context.Context) error {
	if f.links != nil {
		f.links.set(f.p.ID, nil)
	}
	return nil
}

func (f linked) AwaitRecovered(context.Context) (reference.Evidence, error) {
	return reference.Evidence{At: time.Now(), Source: "client link", Detail: "as it was"}, nil
}
