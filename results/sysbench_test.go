package results

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload"
)

// routeLua asks what an MTA asks, by sysbench.
const routeLua = `
function thread_init() connection = sysbench.sql.driver():connect() end
function thread_done() connection:disconnect() end
function event()
  connection:query("SELECT kind, state, backend, targets, keep_copy, greylist, spam_threshold FROM route WHERE address = '" ..
    addresses[sysbench.rand.uniform(1, #addresses)] .. "'")
end
`

var (
	sysbenchEvents = regexp.MustCompile(`total number of events:\s+(\d+)`)
	timesOfCommand = regexp.MustCompile(`(?m)^(\d+)m([0-9.]+)s (\d+)m([0-9.]+)s$`)
)

// nodes connects to SQL nodes 1, 2, ...
type nodes schematest.Cluster

func (n nodes) Connect(ctx context.Context, node topology.ID, o reference.ConnectOptions) (reference.Session, error) {
	i := int(node) - 1
	return sqlnode.Connect(ctx, n.Nodes[i], n.Addresses[i], n.Account, o)
}

// BenchmarkBesideSysbench is what an op costs the generator in processor time:
// a replay with all that it records, and sysbench, in turns on the same cluster,
// read the same routes at the same rate over connections that they keep.
func BenchmarkBesideSysbench(b *testing.B) {
	const span, speed = 10 * time.Second, 7
	c := schematest.Install(b, "bench_generator")
	// Only messages of one recipient, whose mailbox moves: one read each.
	model := workload.Berkeley2008()
	model.SpamPPM, model.LegitimateRecipients, model.LoginsPerMille, model.JobsPerDay = 0, []int64{million}, 0, 0
	trace, err := workload.NewTrace(1, model, workload.DefaultPopulation(1), workload.Window{From: 11 * time.Hour, Duration: speed * span})
	if err != nil {
		b.Fatal(err)
	}
	seen := map[string]bool{}
	var rows []routing.Row
	lua := "addresses = {"
	for item := range trace.All() {
		address := item.Message.Recipients[0]
		if seen[address] {
			continue
		}
		seen[address] = true
		rows = append(rows, routing.Row{Address: address, State: routing.StateMoving, Backend: "cyrus1"})
		lua += strconv.Quote(address) + ","
	}
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	if err := loader.LoadRoutes(b.Context(), rows); err != nil {
		b.Fatal(err)
	}
	peer := programstest.Start(b, clustertest.Shared(b), programstest.Options{Name: "sysbench"})
	peer.Write(b, "/route.lua", 0o644, []byte(lua+"}\n"+routeLua))
	var hosts []string
	for _, address := range c.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, host)
	}
	rate := trace.Messages() / int64(span.Seconds())

	sysbench := func() (events int64, cpu time.Duration) {
		output := peer.Run(b, "sh", "-c", fmt.Sprintf("sysbench /route.lua --db-driver=mysql --mysql-host=%s --mysql-user=%s --mysql-password=%s --mysql-db=%s "+
			"--db-ps-mode=disable --threads=16 --rate=%d --time=%.0f run && times",
			strings.Join(hosts, ","), c.Account.User, c.Account.Password, c.Account.Database, rate, span.Seconds()))
		m, times := sysbenchEvents.FindStringSubmatch(output), timesOfCommand.FindAllStringSubmatch(output, -1)
		if m == nil || len(times) != 2 {
			b.Fatalf("sysbench does not say what it did: %s", output)
		}
		if events, err = strconv.ParseInt(m[1], 10, 64); err != nil {
			b.Fatal(err)
		}
		for i := 1; i < 5; i += 2 { // user and system time of the shell's children
			d, err := time.ParseDuration(times[1][i] + "m" + times[1][i+1] + "s")
			if err != nil {
				b.Fatal(err)
			}
			cpu += d
		}
		return events, cpu
	}
	replay := func() (ops int64, cpu time.Duration) {
		sleeper, err := workload.NewPreciseSleeper()
		if err != nil {
			b.Fatal(err)
		}
		defer sleeper.Close()
		recording := record(b)
		r := &workload.Replay{
			Trace: trace, Target: nodes(c), Recorder: recording, Sleeper: sleeper, Start: 100 * ms, Speed: speed,
			Anchor: time.Now(), Day: time.Date(2008, 4, 15, 0, 0, 0, 0, time.UTC), MaxInFlight: 200, Drain: time.Minute,
		}
		policy := workload.Policy{ConnectTimeout: 2 * sec, ReadTimeout: 10 * sec, Attempts: 3}
		for i := range c.Nodes {
			r.Clients = append(r.Clients, workload.Client{
				Name: fmt.Sprintf("mta%d", i+1), Kind: workload.MTA, Nodes: []topology.ID{topology.ID(i + 1)}, Habit: workload.Persistent, Policy: policy,
			})
		}
		before := processorTime(b)
		stats, err := r.Run(b.Context())
		cpu = processorTime(b) - before
		if err != nil {
			b.Fatal(err)
		}
		if err := recording.Close(completed); err != nil {
			b.Fatal(err)
		}
		ops = stats.Ops[workload.OK]
		if ops != trace.Messages() {
			b.Fatalf("ops by outcome: %v; want %d ok", stats.Ops, trace.Messages())
		}
		return ops, cpu
	}

	var ours, theirs, events, ops int64
	for b.Loop() {
		n, cpu := sysbench()
		events, theirs = events+n, theirs+cpu.Microseconds()
		n, cpu = replay()
		ops, ours = ops+n, ours+cpu.Microseconds()
	}
	b.ReportMetric(float64(rate), "ops/s")
	b.ReportMetric(float64(ours)/float64(ops), "cpu-µs/op")
	b.ReportMetric(float64(theirs)/float64(events), "cpu-µs/op-of-sysbench")
	b.ReportMetric(float64(ours)/float64(ops)/(float64(theirs)/float64(events)), "ratio")
	b.ReportMetric(0, "ns/op")
}
