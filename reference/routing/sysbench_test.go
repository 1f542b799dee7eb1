package routing_test

import (
	"context"
	"fmt"
	"net"
	"os"
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

// eximStatement is what reference/exim/exim.conf asks, which always has a row for
// its answer. The address takes the place of %s.
const eximStatement = "SELECT COUNT(*) AS found, ANY_VALUE(kind) AS kind, ANY_VALUE(state) AS state, ANY_VALUE(backend) AS backend, " +
	"ANY_VALUE(targets) AS targets, ANY_VALUE(keep_copy) AS keep_copy, ANY_VALUE(greylist) AS greylist, " +
	"ANY_VALUE(spam_threshold) AS spam_threshold FROM route WHERE address = _binary'%s'"

// routeLua asks it by sysbench.
var routeLua = fmt.Sprintf(`
sysbench.cmdline.options = { rows = {"rows of the table route", 20000} }
function thread_init() connection = sysbench.sql.driver():connect() end
function thread_done() connection:disconnect() end
function event()
  local address = string.format("user%%06d@example.edu", sysbench.rand.uniform(0, sysbench.opt.rows - 1))
  connection:query("%s" .. address .. "%s")
end
`, eximStatement[:strings.Index(eximStatement, "%s")], eximStatement[strings.Index(eximStatement, "%s")+2:])

// TestEximsStatement holds that what Exim asks is one read by primary key, too,
// and that it is asked as exim.conf has it.
func TestEximsStatement(t *testing.T) {
	config, err := os.ReadFile("../exim/exim.conf")
	if err != nil {
		t.Fatal(err)
	}
	for column := range strings.SplitSeq(eximStatement[len("SELECT "):strings.Index(eximStatement, " FROM")], ", ") {
		if !strings.Contains(string(config), column) {
			t.Errorf("exim.conf does not ask for %s", column)
		}
	}
	c := schematest.Install(t, "exims_statement")
	conn := c.Conn(t, 0)
	for try := range 2 {
		before := schematest.RoundTrips(t, conn)
		var found int
		row := conn.QueryRowContext(t.Context(), fmt.Sprintf(eximStatement, "nobody@example.edu"))
		if err := row.Scan(&found, new(any), new(any), new(any), new(any), new(any), new(any), new(any)); err != nil || found != 0 {
			t.Errorf("an address without a row: found %d (%v)", found, err)
		}
		if n := schematest.RoundTrips(t, conn) - before; n != 1 && try > 0 { // the first one opens the table
			t.Errorf("Exim's question takes %d round trips to the data nodes, want 1", n)
		}
	}
}

var sysbenchRate = regexp.MustCompile(`transactions:\s+\d+\s+\(([0-9.]+) per sec`)

// BenchmarkBesideSysbench reads routes with the Go client and lets sysbench read
// rows by primary key (oltp_point_select) and routes as Exim asks for them, all with 16
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
