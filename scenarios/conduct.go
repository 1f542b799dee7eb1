package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/workload"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"
)

// JournalFile is the fault journal's name in a run directory.
const JournalFile = "journal.jsonl"

const (
	startTimeout = 5 * time.Minute  // from a present image to a ready cluster
	stopTimeout  = 2 * time.Minute  // to remove it
	drainTimeout = 30 * time.Second // for sessions under way when the load ends; longer than a client's patience
	lead         = time.Second      // from the recording's start to the first op
	loadWorkers  = 4
)

// Conductor performs scenarios.
type Conductor struct {
	Dir      string    // run directory, which must not hold a recording yet
	Image    string    // image that a person named, "" to find one
	Keep     bool      // leave the cluster running
	Version  string    // mailbench's own
	Progress io.Writer // takes progress lines
	Terminal bool      // Progress is a terminal
	Quiet    bool      // no lines while the load runs
}

// InterruptedError says that a run was ended before its time. The run
// directory holds what was recorded, and nothing is left running.
type InterruptedError struct{ Err error }

func (e *InterruptedError) Error() string { return fmt.Sprintf("interrupted: %v", e.Err) }

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Err }

func (c *Conductor) say(format string, args ...any) {
	fmt.Fprintf(c.Progress, format+"\n", args...)
}

// Run performs a plan from nothing: it finds the image, starts the cluster,
// loads the population, replays the trace while the fault plan runs, reads the
// ledger back, removes the cluster, and judges the recording. When ctx ends it
// drains, heals, and judges what was recorded; the error is then an
// *InterruptedError. A run without a recording is nil.
func (c *Conductor) Run(ctx context.Context, p *Plan) (*results.Run, error) {
	run, err := c.run(ctx, p)
	if err != nil && ctx.Err() != nil && !errors.Is(err, chaos.ErrUnhealed) {
		err = &InterruptedError{err}
	}
	return run, err
}

func (c *Conductor) run(ctx context.Context, p *Plan) (_ *results.Run, err error) {
	docker, err := engine.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer docker.Close()
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	dir, err := filepath.Abs(c.Dir) // the journal's path is for heal, run from anywhere
	if err != nil {
		return nil, fmt.Errorf("find the run directory: %w", err)
	}
	found, err := FindImage(ctx, docker, c.Image, c.Progress, c.Terminal)
	if err != nil {
		return nil, err
	}
	runID := fmt.Sprintf("%s-%d", p.Scenario.Name, os.Getpid())
	target := cluster.New(docker, cluster.Spec{
		RunID: runID, Topology: p.Topology, Image: found.ID, Account: cluster.DefaultAccount(),
		Journal: filepath.Join(dir, JournalFile), Keep: c.Keep,
		Announce: func(line string) { c.say("%s", line) },
	})
	if err := start(ctx, target); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop(ctx, target)) }()
	if err := c.load(ctx, target, p); err != nil {
		return nil, err
	}
	// What was recorded is judged however the run went on.
	recordErr := c.record(ctx, docker, target, found, p)
	if err := target.SaveLogs(context.WithoutCancel(ctx), filepath.Join(dir, "cluster")); err != nil {
		c.say("the nodes' logs could not be saved: %v", err)
	}
	run, err := report.Write(dir)
	return run, errors.Join(recordErr, err)
}

// FindImage finds or builds the nodes' image and tells of it on w.
func FindImage(ctx context.Context, docker *client.Client, name string, w io.Writer, terminal bool) (image.Found, error) {
	last := ""
	return image.Find(ctx, docker, image.Options{
		Name:     name,
		LogPath:  filepath.Join(os.TempDir(), "mailbench-image-build.log"),
		Announce: func(line string) { fmt.Fprintln(w, line) },
		Progress: func(p image.Progress) {
			line := p.String()
			// Elsewhere than on a terminal every tenth percent is enough.
			if terminal {
				fmt.Fprintf(w, "\r\x1b[K%s", line)
				if p.Percent == 100 || p.Percent < 0 {
					fmt.Fprintln(w)
				}
			} else if line != last && (p.Percent < 0 || p.Percent%10 == 0) {
				fmt.Fprintln(w, line)
			}
			last = line
		},
	})
}

// stop removes the cluster, unless it is to be kept. It does so after an
// interrupt as well.
func (c *Conductor) stop(ctx context.Context, target *cluster.Cluster) error {
	if c.Keep {
		c.say("cluster: kept; look at it with: mailbench cluster status --name %[1]s\n"+
			"cluster: remove it with: mailbench cluster down --name %[1]s", target.RunID())
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := target.Stop(ctx); err != nil {
		return fmt.Errorf("%w: %w; run: mailbench heal", chaos.ErrUnhealed, err)
	}
	c.say("cluster: removed")
	return nil
}

func (c *Conductor) load(ctx context.Context, target reference.Target, p *Plan) error {
	loader, closeLoader, err := target.Loader(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	now := day.Add(p.Trace.Window().From)
	err = workload.Load(ctx, loader, p.Population, now, loadWorkers, newBar(c.Progress, c.Terminal).show)
	if err := errors.Join(err, closeLoader()); err != nil {
		return fmt.Errorf("load the population: %w", err)
	}
	c.say("load: %d accounts in %.1f s", p.Population.Accounts, time.Since(began).Seconds())
	return nil
}

// sinks hands what happens to the recording and to the meter.
type sinks struct {
	*results.Recording
	meter *meter
}

func (s sinks) Record(sample *workload.Sample) {
	s.meter.Record(sample)
	s.Recording.Record(sample)
}

func (s sinks) Event(e chaos.Event) {
	s.meter.Event(e)
	s.Recording.Event(e)
}

// record performs the plan on a loaded cluster and writes the recording.
func (c *Conductor) record(ctx context.Context, docker *client.Client, target *cluster.Cluster, found image.Found, p *Plan) (err error) {
	anchor := time.Now().Add(lead)
	manifest := p.manifest(target.RunID(), anchor)
	manifest.Image = results.Image{Name: found.Name, ID: found.ID}
	manifest.Version, manifest.Host = versions(ctx, docker, target, c.Version), hostFacts()
	recording, err := results.Create(c.Dir, manifest, p.Scenario.YAML())
	if err != nil {
		return err
	}
	sinks := sinks{recording, newMeter(p.Scenario.Objectives(), p.Scenario.Workload.Duration)}
	since := func() time.Duration { return time.Since(anchor) }
	defer func() {
		end := results.EndOfRun{At: since(), Reason: results.Completed}
		switch {
		case ctx.Err() != nil:
			end.Reason = results.Interrupted
		case err != nil:
			end.Reason, end.Error = results.Failed, err.Error()
		}
		err = errors.Join(err, recording.Close(end))
	}()
	journal, err := chaos.CreateJournal(filepath.Join(c.Dir, JournalFile), target.RunID())
	if err != nil {
		return err
	}
	defer journal.Close()

	ledger := newLedger()
	replay := &workload.Replay{
		Trace: p.Trace, Clients: p.Clients, Target: target, Recorder: sinks, Ledger: ledger,
		Anchor: anchor, Speed: p.Scenario.Workload.Speed, Day: day,
		MaxInFlight: p.Scenario.Bounds.InFlight, Drain: drainTimeout,
	}
	runner := &chaos.Runner{
		Plan: p.Faults, Faults: chaos.Builder(target), Sink: sinks, Journal: journal, Anchor: anchor,
	}
	c.say("run: %s for %s, recording in %s", p.Scenario.Name, formatDuration(p.Scenario.Workload.Duration), c.Dir)

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watchers errgroup.Group
	watchers.Go(func() error {
		return target.Watch(watching, func(e reference.ClusterEvent) { sinks.Event(clusterEvent(p, e, anchor)) })
	})
	watchers.Go(func() error { return c.everySecond(watching, sinks, replay, target, anchor) })
	sinks.Event(chaos.Event{At: since(), Kind: chaos.KindPhase, Name: "load"})
	sinks.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})

	var interrupted atomic.Int64 // when, since the anchor; 0 if not
	defer context.AfterFunc(ctx, func() { interrupted.Store(int64(since())) })()

	var work errgroup.Group
	work.Go(func() error {
		_, err := replay.Run(ctx)
		return err
	})
	work.Go(func() error { return runner.Run(ctx) })
	err = work.Wait()
	loadEnded := p.Scenario.Workload.Duration
	if at := time.Duration(interrupted.Load()); at > 0 {
		loadEnded = min(loadEnded, at)
	}
	sinks.Event(chaos.Event{At: loadEnded, Kind: chaos.KindPhase, Name: "drain"})
	stopWatching()
	if watchErr := watchers.Wait(); watchErr != nil && !errors.Is(watchErr, context.Canceled) {
		err = errors.Join(err, watchErr)
	}
	if ctx.Err() == nil && err == nil {
		c.say("run: reading %d acknowledged keys back", len(ledger.keys))
		ledger.readBack(ctx, target, recording.Ledger)
	}
	return err
}

// manifest says all that is known before the first op, but for what ran it.
func (p *Plan) manifest(runID string, anchor time.Time) results.Manifest {
	s, window := p.Scenario, p.Trace.Window()
	m := results.Manifest{
		Scenario: s.Name, RunID: runID, Seed: s.Seed, Speed: s.Workload.Speed, Virtual: day, Anchor: anchor.UTC(),
		Window:   results.Window{FromSeconds: int64(window.From.Seconds()), DurationSeconds: int64(window.Duration.Seconds())},
		Topology: p.Topology,
		Trace: results.Trace{
			SHA256: p.Trace.SHA256(), MessagesPerDay: s.Workload.MessagesPerDay,
			Messages: p.Trace.Messages(), Actions: p.Trace.Actions(),
		},
		PlanSHA256: p.Faults.SHA256(),
		Objectives: s.Objectives(),
		Bounds:     results.Bounds{LagP999US: s.Bounds.LagP999.Microseconds()},
	}
	for _, spec := range s.Clients {
		m.Clients = append(m.Clients, results.Client{Name: spec.Name, Kind: string(spec.Kind), Nodes: spec.Nodes})
	}
	for _, f := range p.Faults.Steps {
		m.Faults = append(m.Faults, results.PlannedFault{ID: f.ID, Kind: string(f.Kind), Target: f.Node.Name, AtUS: f.At.Microseconds()})
	}
	return m
}

// clusterEvent puts what the cluster said on the run's clock.
func clusterEvent(p *Plan, e reference.ClusterEvent, anchor time.Time) chaos.Event {
	n, _ := p.Topology.ByID(e.Node)
	return chaos.Event{At: e.At.Sub(anchor), Kind: chaos.KindCluster, Name: e.Name, Node: n.Name, Fields: e.Fields}
}

// everySecond writes the generator's counters and tells how the run goes.
func (c *Conductor) everySecond(ctx context.Context, s sinks, replay *workload.Replay, target *cluster.Cluster, anchor time.Time) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		stats := replay.Stats()
		row := counterRow(time.Since(anchor), stats)
		row.Nodes = nodeUsage(ctx, target)
		s.Counter(row)
		if elapsed := time.Since(anchor); elapsed > 0 {
			if line := s.meter.second(elapsed, stats.Offered); !c.Quiet {
				c.say("%s", line)
			}
		}
	}
}

// nodeUsage asks what the nodes use, for less than a second.
func nodeUsage(ctx context.Context, target *cluster.Cluster) map[string]results.NodeUsage {
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	nodes := map[string]results.NodeUsage{}
	for name, u := range target.Usage(ctx) {
		nodes[name] = results.NodeUsage{CPUUS: u.CPU.Microseconds(), MemoryBytes: u.Memory}
	}
	return nodes
}

func counterRow(at time.Duration, stats workload.Stats) results.CounterRow {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	row := results.CounterRow{
		AtUS: at.Microseconds(), Offered: stats.Offered, InFlight: stats.InFlight(),
		Goroutines: int64(runtime.NumGoroutine()), HeapBytes: int64(memory.HeapAlloc),
		GCPauseTotalUS: int64(memory.PauseTotalNs / 1000),
	}
	for _, n := range stats.Ops {
		row.Completed += n
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		row.CPUUS = usage.Utime.Nano()/1000 + usage.Stime.Nano()/1000
	}
	return row
}

// versions names the programs that took part.
func versions(ctx context.Context, docker *client.Client, target *cluster.Cluster, own string) map[string]string {
	v := map[string]string{"mailbench": own, "go": runtime.Version()}
	if info, err := docker.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
		v["engine"] = info.Version
	}
	if ndb, err := target.Version(ctx); err == nil {
		v["cluster"] = ndb
	}
	return v
}

// hostFacts are what bears on speed and names nobody.
func hostFacts() map[string]string {
	facts := map[string]string{
		"os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": fmt.Sprint(runtime.NumCPU()),
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		facts["memory_mib"] = fmt.Sprint(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		facts["kernel"] = string(release[:max(0, len(release)-1)])
	}
	return facts
}
