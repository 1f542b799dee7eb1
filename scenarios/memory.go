package scenarios

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndb"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/workload"
	"github.com/moby/moby/client"
)

// Files of a memory forecast.
const (
	MemoryInputsFile   = memory.InputsFile
	MemoryForecastFile = memory.ForecastFile
	MemoryTextFile     = "memory.md"
	RowSizesFile       = "row-sizes.json"
)

// MemoryOptions say what ForecastMemory forecasts.
type MemoryOptions struct {
	Days                  int           // 1 to workload.MaxGrowthDays
	ExpireAt, ExpireEvery time.Duration // when maintenance runs, as in workload.GrowthOptions
	Batch                 int64         // rows that its transactions look at, 1 to 10,000
	Sizes                 *memory.Sizes // what was measured; nil for nothing
}

// ForecastMemory simulates the days of a plan's workload and forecasts the memory
// of its data nodes. It touches nothing. progress, if not nil, is called now and
// then. The workload must be a model's: a log does not say how it goes on.
func ForecastMemory(ctx context.Context, p *Plan, o MemoryOptions, progress func(workload.LoadProgress)) (*memory.Inputs, *memory.Forecast, error) {
	if p.made == nil {
		return nil, nil, &InputError{Msg: fmt.Sprintf("the workload of scenario %s is a trace file: memory is forecast for a day that is made from a profile", p.Scenario.Name)}
	}
	switch {
	case p.Scenario.System != SystemNDB:
		return nil, nil, &InputError{Msg: fmt.Sprintf("scenario %s: system is %s, must be ndb: the memory that is forecast is that of NDB's data nodes", p.Scenario.Name, p.Scenario.System)}
	case !p.Scenario.Workload.Asks(reference.Greylist):
		return nil, nil, &InputError{Msg: fmt.Sprintf("scenario %s: workload.paths leaves greylist out, whose rows are what grows", p.Scenario.Name)}
	}
	in := &memory.Inputs{
		Schema: memory.InputsSchema, Scenario: p.Scenario.Name, Seed: p.Scenario.Seed, MessagesPerDay: p.Scenario.Workload.MessagesPerDay,
		Accounts: p.Population.Accounts, FirstDay: day.Format(time.DateOnly), Batch: o.Batch,
	}
	var err error
	if in.Cluster, err = memoryCluster(p); err != nil {
		return nil, nil, err
	}
	if o.Sizes != nil {
		in.Cluster.Partitions, in.Cluster.Base = o.Sizes.PartitionsPerNode*in.Cluster.DataNodes, o.Sizes.Base
	}
	in.Tables = tableSizes(p.Population, in.Cluster.Partitions, o.Sizes)
	early := *in // what is wrong with sizes or the cluster is told before minutes are spent
	for i := range 24 {
		early.Hours = append(early.Hours, workload.GrowthHour{Hour: i})
	}
	if err := early.Validate(); err != nil {
		return nil, nil, &InputError{Msg: err.Error(), Cause: err}
	}
	g, err := p.made.NewGrowth(workload.GrowthOptions{
		Days: o.Days, Policy: greylist.DefaultPolicy(), Start: day, ExpireAt: o.ExpireAt, ExpireEvery: o.ExpireEvery, Progress: progress,
	})
	if err != nil {
		return nil, nil, &InputError{Msg: err.Error(), Cause: err}
	}
	for h, err := range g.Hours(ctx) {
		if err != nil {
			return nil, nil, err
		}
		in.Hours = append(in.Hours, h)
	}
	f, err := memory.Make(in)
	if err != nil {
		return nil, nil, &InputError{Msg: err.Error(), Cause: err}
	}
	return in, f, nil
}

// ForecastMemoryTo writes a forecast into a directory, which is made, and as text to
// stdout. How far it is it tells on w.
func ForecastMemoryTo(ctx context.Context, p *Plan, o MemoryOptions, dir string, stdout, w io.Writer, terminal bool) error {
	show := newBar(w, terminal)
	in, f, err := ForecastMemory(ctx, p, o, func(l workload.LoadProgress) {
		show.draw(l.Table, "simulate: days    ", l.Done, l.Total, l.Unit)
	})
	if err != nil {
		return err
	}
	if err := WriteMemory(dir, in, f); err != nil {
		return err
	}
	fmt.Fprintf(w, "memory: written to %s\n", dir)
	return f.WriteText(stdout)
}

// WriteMemory writes a forecast and what it was made of into a directory, which is
// made.
func WriteMemory(dir string, in *memory.Inputs, f *memory.Forecast) error {
	return errors.Join(
		writeMemoryFile(dir, MemoryInputsFile, func(w io.Writer) error { return memory.WriteJSON(w, in) }),
		writeMemoryFile(dir, MemoryForecastFile, func(w io.Writer) error { return memory.WriteJSON(w, f) }),
		writeMemoryFile(dir, MemoryTextFile, f.WriteText),
	)
}

// WriteSizes writes row sizes into a directory, which is made.
func WriteSizes(dir string, s *memory.Sizes) error {
	return writeMemoryFile(dir, RowSizesFile, func(w io.Writer) error { return memory.WriteJSON(w, s) })
}

func writeMemoryFile(dir, name string, write func(io.Writer) error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}

// OpenSizes reads the row sizes of a file.
func OpenSizes(path string) (*memory.Sizes, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &InputError{Msg: err.Error(), Cause: err}
	}
	defer f.Close()
	s, err := memory.ReadSizes(path, f)
	if err != nil {
		return nil, &InputError{Msg: err.Error(), Cause: err}
	}
	return s, nil
}

// NDB's own defaults of what a forecast asks for
// (storage/ndb/src/common/mgmcommon/ConfigInfo.cpp).
var ndbDefaults = map[string]string{
	"DataMemory": "98M", "MinFreePct": "5", "NoOfFragmentLogFiles": "16", "FragmentLogFileSize": "16M", "NoOfFragmentLogParts": "4",
}

// memoryCluster is what the data nodes of a plan have. Those of an external
// cluster are what its scenario says of them.
func memoryCluster(p *Plan) (memory.Cluster, error) {
	t := p.Topology
	parameters := cluster.DataNodeParameters(t)
	if p.External() {
		parameters = t.DataNode
	}
	c := memory.Cluster{
		DataNodes: len(t.ByRole(topology.Data)), Replicas: t.Replicas,
		// PartitionsPerNode is 2 where NDB configures its threads itself, as measured.
		// Row sizes that were measured say how many there were.
		Partitions: 2 * len(t.ByRole(topology.Data)),
	}
	for name, into := range map[string]*int64{
		"DataMemory": &c.DataMemory, "MinFreePct": &c.ReservePercent, "NoOfFragmentLogFiles": &c.LogFiles,
		"FragmentLogFileSize": &c.LogFileBytes, "NoOfFragmentLogParts": &c.LogParts,
	} {
		text, ok := parameters[name]
		if !ok {
			text = ndbDefaults[name]
		}
		n, err := parseNDBSize(text)
		if err != nil {
			return c, &InputError{Msg: fmt.Sprintf("scenario %s: topology.data_node.%s is %q: %v", p.Scenario.Name, name, text, err), Cause: err}
		}
		*into = n
	}
	return c, nil
}

// parseNDBSize reads a whole number with K, M or G after it, as config.ini has it.
func parseNDBSize(text string) (int64, error) {
	digits, shift := text, 0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("KMG", text[n-1]&^0x20); i >= 0 {
			digits, shift = text[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, errors.New("must be a whole number below 2^32, with K, M or G after it for units of 1024")
	}
	return int64(n) << shift, nil
}

// tableSizes are computed for what the population has, and for a million rows of
// the greylist.
func tableSizes(p workload.Population, partitions int, measured *memory.Sizes) []memory.TableSize {
	tally := tallyOf(p)
	tally.Greylisted(1_000_000)
	var sizes []memory.TableSize
	for _, table := range datamemory.Tables() {
		c, ok := tally.Contents[table.Name]
		if !ok {
			continue
		}
		s := memory.TableSize{
			Table: table.Name, Computed: memory.Sample{Rows: c.Rows, Size: table.Estimate(c, partitions)},
			WriteBytes: c.WriteBytes(), DeleteBytes: table.DeleteBytes(0),
		}
		if measured != nil {
			if m, ok := measured.Tables[table.Name]; ok {
				s.Measured = &m
			}
		}
		sizes = append(sizes, s)
	}
	return sizes
}

// tallyOf counts what LoadPopulation stores, and a change of each account.
func tallyOf(p workload.Population) *datamemory.Tally {
	tally := datamemory.NewTally()
	for r := range p.Routes() {
		tally.Route(r)
	}
	for a := range p.AccountRows(day) {
		tally.Account(a)
		tally.Change(a.Login)
	}
	for r := range p.PreferenceRows() {
		tally.Preference(r)
	}
	return tally
}

// MeasureSizes starts a cluster of a plan's topology, loads its population, as many
// rows of the greylist and a change of each account, and reads what they take. The
// cluster is removed.
func MeasureSizes(ctx context.Context, docker *client.Client, p *Plan, image string, rows int, w io.Writer, terminal bool) (s *memory.Sizes, err error) {
	if p.External() {
		return nil, &InputError{Msg: fmt.Sprintf("the cluster of scenario %s is external: rows are measured on one in containers", p.Scenario.Name)}
	}
	found, err := FindImage(ctx, docker, image, w, terminal)
	if err != nil {
		return nil, err
	}
	c := cluster.New(docker, cluster.Spec{
		RunID: runID(p.Scenario.Name), Topology: p.Topology, Image: found.ID, Account: cluster.DefaultAccount(),
		Announce: func(line string) { fmt.Fprintln(w, line) },
	})
	if err := start(ctx, c); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove(ctx, c)) }()
	version, err := c.Version(ctx)
	if err != nil {
		return nil, err
	}
	admins := c.Admins()
	defer func() { err = errors.Join(err, ndb.CloseAll(admins)) }()
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, fmt.Errorf("it took longer than %v", loadTimeout))
	defer cancel()
	return measureSizes(ctx, admins, c.SchemaOptions(), version, p.Topology.Replicas, len(p.Topology.ByRole(topology.Data)), p.Population, rows, newBar(w, terminal).show)
}

// measureSizes loads the tables of a schema, which are empty, and reads what they
// take.
func measureSizes(ctx context.Context, admins []schema.Admin, o schema.Options, version string, replicas, nodes int, p workload.Population, rows int, show func(workload.LoadProgress)) (*memory.Sizes, error) {
	db := admins[0].DB
	empty, err := datamemory.Measure(ctx, db, o.Database, replicas)
	if err != nil {
		return nil, err
	}
	s := &memory.Sizes{Schema: memory.SizesSchema, Version: version, Tables: map[string]memory.Sample{}}
	if s.Base, _, err = datamemory.Usage(ctx, db); err != nil {
		return nil, err
	}
	loader, err := schema.NewLoader(admins, o)
	if err != nil {
		return nil, err
	}
	if err := workload.LoadPopulation(ctx, loader, p, day, loadWorkers, show); err != nil {
		return nil, err
	}
	if err := loadMade(ctx, rows, madeRow, loader.LoadStored); err != nil {
		return nil, err
	}
	if err := loadMade(ctx, p.Accounts, func(i int) accounts.Change {
		c := accounts.Change{At: day, Action: accounts.Suspend, Login: p.Address(i)}
		binary.BigEndian.PutUint64(c.ID[8:], uint64(i)+1)
		return c
	}, loader.LoadChanges); err != nil {
		return nil, err
	}
	full, err := datamemory.Measure(ctx, db, o.Database, replicas)
	if err != nil {
		return nil, err
	}
	for table, m := range full {
		before := empty[table]
		if n := m.Rows - before.Rows; n > 0 {
			s.Tables[table] = memory.Sample{Rows: n, Size: m.Size.Sub(before.Size)}
		}
		s.PartitionsPerNode = max(s.PartitionsPerNode, m.Partitions/nodes, 1)
	}
	return s, nil
}

// madeRow is a row of the greylist with a key like that of a triplet.
func madeRow(i int) greylist.Stored {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	r := greylist.Stored{Key: greylist.Key{0xff}, State: greylist.State{Seen: true, First: day.Unix(), Last: day.Unix()}}
	copy(r.Key[1:], sum[:])
	return r
}

// loadMade stores rows that are made by their numbers.
func loadMade[Row any](ctx context.Context, n int, row func(int) Row, load func(context.Context, []Row) error) error {
	const most = 5000
	for from := 0; from < n; from += most {
		rows := make([]Row, 0, most)
		for i := from; i < min(from+most, n); i++ {
			rows = append(rows, row(i))
		}
		if err := load(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}
