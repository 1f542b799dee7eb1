package scenarios

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/workload"
)

func TestNDBSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "98M": 98 << 20, "1G": 1 << 30, "64k": 64 << 10, "4294967295": 1<<32 - 1, "4294967296": -1, "": -1, "M": -1, "-1M": -1, "1.5G": -1, "1T": -1, "1MB": -1,
	} {
		if got, err := parseNDBSize(text); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
	}
}

// TestMemoryInputsOfAScenario: the parameters of the data nodes are those of the
// scenario, then those of the harness, then NDB's own.
func TestMemoryInputsOfAScenario(t *testing.T) {
	plan, err := LoadPlan(t.Context(), "peak-hour",
		Override{Path: "workload.messages_per_day", Value: "1000"}, Override{Path: "population.accounts", Value: "500"},
		Override{Path: "topology.data_node.DataMemory", Value: "300M"})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	sizes := &memory.Sizes{
		Schema: memory.SizesSchema, PartitionsPerNode: 3, Base: 1000,
		Tables: map[string]memory.Sample{datamemory.Greylist: {Rows: 10, Size: datamemory.Size{Fixed: 900}}},
	}
	in, f, err := ForecastMemory(t.Context(), plan, MemoryOptions{Days: 1, ExpireEvery: 24 * time.Hour, Batch: 500, Sizes: sizes}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := memory.Cluster{
		DataNodes: 2, Replicas: 2, Partitions: 6, DataMemory: 300 << 20, ReservePercent: 5, Base: 1000,
		LogFiles: 8, LogFileBytes: 16 << 20, LogParts: 4,
	}
	if in.Cluster != want {
		t.Errorf("the data nodes are %+v, want %+v", in.Cluster, want)
	}
	if f.Basis != "mixed" || len(in.Hours) != 24 || in.Hours[23].Routes < 501 || f.Days[0].Messages != 1000 {
		t.Errorf("basis %s, %d hours, the last %+v, day %+v", f.Basis, len(in.Hours), in.Hours[23], f.Days[0])
	}
	var input *InputError
	if _, _, err := ForecastMemory(t.Context(), plan, MemoryOptions{Days: 0, ExpireEvery: 24 * time.Hour, Batch: 500}, nil); !errors.As(err, &input) {
		t.Errorf("no days: error %v is no mistake of the input", err)
	}
	other, err := LoadPlan(t.Context(), "comparison")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := ForecastMemory(t.Context(), other, MemoryOptions{Days: 1, ExpireEvery: 24 * time.Hour, Batch: 500}, nil); !errors.As(err, &input) || !strings.Contains(err.Error(), "leaves greylist out") {
		t.Errorf("a workload without greylisting: error %v, want it refused", err)
	}
	sizes.Tables[datamemory.Greylist] = memory.Sample{Rows: 1, Size: datamemory.Size{Fixed: 200_000}}
	done, cancel := context.WithCancel(t.Context())
	cancel() // it would not simulate
	if _, _, err := ForecastMemory(done, plan, MemoryOptions{Days: 1, ExpireEvery: 24 * time.Hour, Batch: 500, Sizes: sizes}, nil); !errors.As(err, &input) {
		t.Errorf("a row of 200,000 bytes: error %v is no mistake of the input that is told before the simulation", err)
	}
	sizes.Tables[datamemory.Greylist] = memory.Sample{Rows: 10, Size: datamemory.Size{Fixed: 900}}
	// What is written is read back, and makes the same forecast.
	dir := t.TempDir()
	if err := errors.Join(WriteMemory(dir, in, f), WriteSizes(dir, sizes)); err != nil {
		t.Fatal(err)
	}
	if again, err := OpenSizes(filepath.Join(dir, RowSizesFile)); err != nil || !reflect.DeepEqual(again, sizes) {
		t.Errorf("sizes read back are %+v (%v), want %+v", again, err, sizes)
	}
	file, err := os.Open(filepath.Join(dir, MemoryInputsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	read, err := memory.ReadInputs(file.Name(), file)
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	again, err := memory.Make(read)
	if err == nil {
		err = memory.WriteJSON(&made, again)
	}
	if err != nil {
		t.Fatal(err)
	}
	if written, err := os.ReadFile(filepath.Join(dir, MemoryForecastFile)); err != nil || !bytes.Equal(written, made.Bytes()) {
		t.Errorf("memory.json is not what its inputs make (%v)", err)
	}
}

// forecastOfADay measures what rows take on one load, forecasts the end of a
// simulated day with these sizes, loads the rows of that day into another database,
// and holds the growth of the memory against the forecast.
func forecastOfADay(t testing.TB, shared *cluster.Cluster, messages, accountsOfDay int) {
	ctx := t.Context()
	replicas, nodes := shared.Topology().Replicas, len(shared.Topology().ByRole(topology.Data))
	quiet := func(workload.LoadProgress) {}

	// Another population, and fewer rows: sizes that hold for these only would show.
	other := schematest.InstallOn(t, shared, "memory_sizes")
	small := workload.DefaultPopulation(7)
	small.Accounts = 20_000
	sizes, err := measureSizes(ctx, other.Admins, other.Options, "test", replicas, nodes, small, 150_000, quiet)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := LoadPlan(ctx, "peak-hour", Override{Path: "workload.messages_per_day", Value: strconv.Itoa(messages)}, Override{Path: "population.accounts", Value: strconv.Itoa(accountsOfDay)})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	in, _, err := ForecastMemory(ctx, plan, MemoryOptions{Days: 1, ExpireAt: 3 * time.Hour, ExpireEvery: 24 * time.Hour, Batch: 500, Sizes: sizes}, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.Cluster.Base = 0 // growth is compared
	f, err := memory.Make(in)
	if err != nil {
		t.Fatal(err)
	}

	c := schematest.InstallOn(t, shared, "memory_day")
	measure := func() map[string]datamemory.Measured {
		m, err := datamemory.Measure(ctx, c.Admins[0].DB, c.Options.Database, replicas)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	empty := measure()
	loadDay(t, ctx, c, plan)
	full := measure()

	last := in.Hours[len(in.Hours)-1]
	rows := map[string]int64{
		datamemory.Greylist: last.Triplets + last.Clients, datamemory.Preferences: last.Preferences, datamemory.Routes: last.Routes,
		datamemory.Accounts: last.Accounts, datamemory.AccountChanges: last.Changes,
	}
	var grown int64
	for _, s := range in.Tables {
		m, before := full[s.Table], empty[s.Table]
		if m.Rows != rows[s.Table] {
			t.Errorf("%s: %d rows are stored, the simulation has %d", s.Table, m.Rows, rows[s.Table])
		}
		bytes := m.Size.Sub(before.Size)
		grown += bytes.Total()
		table, _ := datamemory.TableNamed(s.Table)
		computed := table.Estimate(datamemory.Contents{Rows: m.Rows, VarWords: 0}, m.Partitions)
		t.Logf("%-15s %9d rows, %d partitions: fixed %9d (computed %9d; a row %d), var %9d, hash %9d (%9d), ordered %9d (%9d; a node %d); %.1f B/row, sizes say %.1f, computed %.1f",
			s.Table, m.Rows, m.Partitions, bytes.Fixed, computed.Fixed, m.RowBytes, bytes.Var, bytes.Hash, computed.Hash, bytes.Ordered, computed.Ordered, m.NodeBytes,
			float64(bytes.Total())/float64(max(m.Rows, 1)), perRow(*s.Measured), perRow(s.Computed))
	}
	real, forecast := perNode(grown, replicas, nodes), f.Days[0].End
	off := float64(forecast-real) / float64(real)
	t.Logf("%d messages, %d accounts: forecast %d bytes of each data node, real %d: %+.2f %%", messages, accountsOfDay, forecast, real, 100*off)
	if off < -0.05 || off > 0.05 {
		t.Errorf("the forecast of %d bytes is %+.1f %% off the %d that the rows take, at most 5 %% are allowed", forecast, 100*off, real)
	}
}

func perRow(s memory.Sample) float64 { return float64(s.Total()) / float64(s.Rows) }

func perNode(bytes int64, replicas, nodes int) int64 { return bytes * int64(replicas) / int64(nodes) }

// loadDay stores what a day of a plan leaves, from an empty greylist on, and what
// its actions and jobs have changed.
func loadDay(t testing.TB, ctx context.Context, c schematest.Cluster, plan *Plan) {
	t.Helper()
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(workload.LoadPopulation(ctx, loader, plan.Population, day, loadWorkers, nil))

	g, err := plan.made.NewGrowth(workload.GrowthOptions{Days: 1, Policy: greylist.DefaultPolicy(), Start: day, ExpireEvery: 24 * time.Hour})
	do(err)
	for _, err := range g.Hours(ctx) {
		do(err)
	}
	var batch []greylist.Stored
	for r := range g.Rows() {
		if batch = append(batch, r); len(batch) == 5000 {
			do(loader.LoadStored(ctx, batch))
			batch = batch[:0]
		}
	}
	do(loader.LoadStored(ctx, batch))

	// Day 0 is the trace's own: its logins and jobs, in their order.
	model := workload.Berkeley2008()
	model.MessagesPerDay, model.JobsPerDay = plan.Scenario.Workload.MessagesPerDay, plan.Scenario.Workload.JobsPerDay
	whole, err := workload.NewTrace(plan.Scenario.Seed, model, plan.Population, workload.Window{Duration: 24 * time.Hour})
	do(err)
	all := map[string]accounts.Account{}
	for a := range plan.Population.AccountRows(day) {
		all[a.Login] = a
	}
	var (
		saved   []preferences.Row
		changes []accounts.Change
		changed []accounts.Account
		routes  []routing.Row
	)
	for item := range whole.All() {
		if item.Action != nil {
			for _, s := range item.Action.Saves {
				saved = append(saved, preferences.Row{User: item.Action.User, Key: s.Key, Value: s.Value})
			}
		}
		if item.Job == nil {
			continue
		}
		for _, change := range item.Job.Changes {
			change.At = day.Add(item.Job.At)
			var before *accounts.Account
			if a, ok := all[change.Login]; ok {
				before = &a
			}
			after, err := accounts.Apply(before, change)
			if err != nil {
				break
			}
			all[change.Login] = after
			changes, changed, routes = append(changes, change), append(changed, after), append(routes, after.Rows()...)
		}
	}
	do(loader.LoadPreferences(ctx, saved))
	do(loader.LoadAccounts(ctx, changed))
	do(loader.LoadRoutes(ctx, routes))
	do(loader.LoadChanges(ctx, changes))
}

// TestMemoryForecastOfADay is of a tenth of the talk's day, so that it fits the
// shared cluster; BenchmarkMemoryForecastOfADay is of the whole one.
func TestMemoryForecastOfADay(t *testing.T) {
	forecastOfADay(t, clustertest.Shared(t), 400_000, 30_000)
}

// BenchmarkMemoryForecastOfADay is TestMemoryForecastOfADay with the talk's
// 4,000,000 messages and CalMail's 70,000 accounts, on a cluster of its own: run it
// with -benchtime 1x.
func BenchmarkMemoryForecastOfADay(b *testing.B) {
	docker := clustertest.Alone(b)
	found, err := image.Find(b.Context(), docker, image.Options{Name: os.Getenv("MAILBENCH_IMAGE"), Announce: func(line string) { b.Log(line) }})
	if err != nil {
		b.Fatal(err)
	}
	layout, err := clustertest.Topology()
	if err != nil {
		b.Fatal(err)
	}
	layout.DataNode = map[string]string{"DataMemory": "640M"}
	c := cluster.New(docker, cluster.Spec{RunID: "memory-day", Topology: layout, Image: found.ID, Account: cluster.DefaultAccount()})
	if err := start(b.Context(), c); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := remove(context.Background(), c); err != nil {
			b.Error(err)
		}
	})
	for b.Loop() {
		forecastOfADay(b, c, 4_000_000, 70_000)
	}
}
