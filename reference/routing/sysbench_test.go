package routing_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// routeLua asks what Exim asks, by sysbench.
const routeLua = `
sysbench.cmdline.options = { rows = {"rows of the table route", 20000} }
function thread_init() connection = sysbench.sql.driver():connect() end
function thread_done() connection:disconnect() end
function event()
  connection:query(string.format("SELECT kind, state, backend, targets, keep_copy, greylist, spam_threshold FROM route WHERE address = 'user%06d@example.edu'",
    sysbench.rand.uniform(0, sysbench.opt.rows - 1)))
end
`

var sysbenchRate = regexp.MustCompile(`transactions:\s+\d+\s+\(([0-9.]+) per sec`)

// BenchmarkBesideSysbench reads routes with the Go client and lets sysbench read
// rows by primary key (oltp_point_select) and the same routes, all with 16
// connections to both SQL nodes, in turns on the same cluster.
func BenchmarkBesideSysbench(b *testing.B) {
	const rows, connections, turn = 20_000, 16, 3 * time.Second
	c := schematest.Install(b, "bench_sysbench")
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		b.Fatal(err)
	}
	var routes []routing.Row
	for i := range rows {
		routes = append(routes, routing.Row{Address: fmt.Sprintf("user%06d@example.edu", i), Backend: fmt.Sprintf("cyrus%d", i%10)})
	}
	if err := loader.LoadRoutes(b.Context(), routes); err != nil {
		b.Fatal(err)
	}
	peer := programstest.Start(b, clustertest.Shared(b), programstest.Options{Name: "sysbench"})
	peer.Write(b, "/route.lua", 0o644, []byte(routeLua))
	var hosts []string
	for _, address := range c.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, host)
	}
	sysbench := func(script, command string, more ...string) float64 {
		output := peer.Run(b, append([]string{"sysbench", script, "--db-driver=mysql", "--mysql-host=" + strings.Join(hosts, ","),
			"--mysql-user=" + c.Account.User, "--mysql-password=" + c.Account.Password, "--mysql-db=" + c.Account.Database,
			"--db-ps-mode=disable", "--rand-type=uniform", fmt.Sprintf("--threads=%d", connections),
			fmt.Sprintf("--time=%.0f", turn.Seconds()), command}, more...)...)
		if command != "run" {
			return 0
		}
		m := sysbenchRate.FindStringSubmatch(output)
		if m == nil {
			b.Fatalf("sysbench does not say how fast it was: %s", output)
		}
		rate, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		return rate
	}
	pointSelect := []string{"--tables=1", fmt.Sprintf("--table-size=%d", rows), "--mysql-storage-engine=ndbcluster"}
	sysbench("oltp_point_select", "prepare", append(pointSelect, "--threads=1")...)

	var routers []routing.SQL
	for i := range connections {
		routers = append(routers, routing.SQL{DB: c.Conn(b, i%len(c.Addresses))})
	}
	goClient := func() float64 {
		ask := context.WithoutCancel(b.Context()) // sysbench cannot be interrupted either
		ctx, stop := context.WithTimeout(b.Context(), turn)
		defer stop()
		var (
			work  sync.WaitGroup
			asked [connections]int
			start = time.Now()
		)
		for i, router := range routers {
			work.Go(func() {
				for n := i; ctx.Err() == nil; n += 7919 { // a prime, so that all rows are read
					a, err := router.Route(ask, routes[n%rows].Address)
					if err != nil || a.Verdict != routing.Local {
						b.Errorf("route of %s: %v (%v)", routes[n%rows].Address, a.Verdict, err)
						return
					}
					asked[i]++
				}
			})
		}
		work.Wait()
		total := 0
		for _, n := range asked {
			total += n
		}
		return float64(total) / time.Since(start).Seconds()
	}

	var ours, points, same float64
	turns := 0.0
	for b.Loop() {
		points += sysbench("oltp_point_select", "run", pointSelect...)
		ours += goClient()
		same += sysbench("/route.lua", "run", fmt.Sprintf("--rows=%d", rows))
		turns++
	}
	b.ReportMetric(points/turns, "point-selects/s")
	b.ReportMetric(ours/turns, "routes/s")
	b.ReportMetric(same/turns, "routes-by-sysbench/s")
	b.ReportMetric(ours/points, "ratio")
	b.ReportMetric(same/points, "ratio-by-sysbench")
	b.ReportMetric(0, "ns/op")
}
