package scenarios

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios/ledger"
	"github.com/mailbench/mailbench/workload"
)

// brokenRows counts what a ledger finds broken.
type brokenRows struct{ n int }

func (b *brokenRows) LedgerRow(results.LedgerRow)       { b.n++ }
func (*brokenRows) Violation(results.Violation)         {}
func (*brokenRows) ReadBack(results.ReadBack)           {}
func (*brokenRows) LedgerSummary(results.LedgerSummary) {}

// oneTriplet is a reader of a greylist that holds one row and no credit.
type oneTriplet struct {
	ledger.Reader
	key greylist.Key
	row greylist.State
}

func (r oneTriplet) Greylist(context.Context, []greylist.Key) (map[greylist.Key]greylist.State, error) {
	return map[greylist.Key]greylist.State{r.key: r.row}, nil
}

func (oneTriplet) Close() error { return nil }

// TestBooksFollowRestarts earns a credit, and has the cluster say how it starts: only
// after a restart of the whole cluster may the credit be gone unnoticed.
func TestBooksFollowRestarts(t *testing.T) {
	top, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	policy := greylist.DefaultPolicy()
	for startType, broken := range map[string]int{"1": 0, "2": 1} { // of the whole cluster, of one node
		sink := new(brokenRows)
		stored := workload.StoredPopulation(workload.DefaultPopulation(1), day, false, policy)
		b := newBooks(ledger.New(stored, policy, top, sink), nil, func() time.Duration { return time.Minute })
		r := greylist.Request{Client: netip.MustParseAddr("192.0.2.1"), Sender: "s@x.example", Recipient: "r@calmail.example", Now: day}
		tell := func(at, now time.Duration, d greylist.Answer) {
			r.Now = day.Add(now)
			b.ledger.Acknowledge(workload.Acknowledged{
				Op:      workload.Op{Operation: reference.CheckGreylist, Asked: at, At: at + time.Millisecond},
				Request: r, Decision: d, Dispatched: at, Certain: true,
			})
		}
		tell(time.Second, 0, greylist.Answer{Verdict: greylist.New, Wait: policy.Delay})
		tell(2*time.Second, 400*time.Second, greylist.Answer{Verdict: greylist.Pass, Delayed: 400 * time.Second})
		for _, e := range []chaos.Event{
			{Name: "StartPhaseCompleted", Fields: map[string]string{"phase": "4", "starttype": startType}},
			{Name: "StartREDOLog", Fields: map[string]string{"restorable_gci": "7"}},
		} {
			e.At, e.Kind, e.Node = 10*time.Second, chaos.KindCluster, "data1"
			b.event(e)
		}
		stand := oneTriplet{key: policy.TripletKey(r.Client, "", r.Sender, r.Recipient), row: greylist.State{Seen: true, First: day.Unix(), Last: r.Now.Unix()}}
		b.ledger.ReadBack(t.Context(), ledger.Reading{
			Open:  func(context.Context, topology.Node) (ledger.Reader, error) { return stand, nil },
			Since: b.since,
		})
		if sink.n != broken {
			t.Errorf("after a start of type %s %d readings are broken, want %d", startType, sink.n, broken)
		}

		b.event(chaos.Event{Kind: chaos.KindFault, Name: chaos.StepRedundant, Fault: "f1"})
		select {
		case id := <-b.redundant:
			if id != "f1" {
				t.Errorf("the ledger is to be read after %q", id)
			}
		default:
			t.Error("the ledger is not to be read after a fault that is redundant")
		}
	}
}
