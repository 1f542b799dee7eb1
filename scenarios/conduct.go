package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/costs"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/metrics"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios/ledger"
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
	calm         = 5 * time.Second  // from the last fault's redundancy to the end of a load that ends with the faults
	loadTimeout  = 30 * time.Minute // for the population
	logsTimeout  = time.Minute      // for the nodes' logs
	loadWorkers  = 4
)

// errFaultsOver ends a load that ends with the faults.
var errFaultsOver = errors.New("the fault plan is through")

// Conductor performs scenarios.
type Conductor struct {
	Dir      string    // run directory, which must not hold a recording yet
	Image    string    // image that a person named, "" to find one
	Keep     bool      // leave the cluster running
	Version  string    // mailbench's own
	Progress io.Writer // takes progress, which looks like Look
	Look

	Confirmed     string // the external cluster that a person knows
	AllowCommands bool   // a person has allowed the programs that the scenario names

	Live *metrics.Live // shows metrics while the load runs; nil to show none

	search   *searching                          // for a capacity, step by step; nil for none
	turn     *turn                               // with another conductor's; nil for a load without a stop
	sabotage func(context.Context, system) error // of a self-test: done before the ledger is read back
	stage    string                              // what the run is about, for an interruption
	counted  *metrics.Metrics                    // of the run, if Live shows them
	screen   *screen                             // that Progress is while the live view may be drawn
}

// InterruptedError says that a run was ended before its time. The run
// directory holds what was recorded, and nothing is left running.
type InterruptedError struct {
	Stage string // what the run was about: "while the cluster started"
	Err   error
}

func (e *InterruptedError) Error() string { return "interrupted " + e.Stage }

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Err }

// TakenError says that a run directory holds something already.
type TakenError struct{ Path string }

func (e *TakenError) Error() string {
	return fmt.Sprintf("%s is there already: name another run directory with --out", e.Path)
}

// checkFresh refuses a directory that holds a run or a series, before minutes
// are spent on another one.
func checkFresh(dir string) error {
	for _, name := range []string{results.ManifestFile, results.SeriesFile, gate.InterleavedFile, JournalFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return &TakenError{path}
		}
	}
	return nil
}

func (c *Conductor) say(format string, args ...any) {
	fmt.Fprintf(c.Progress, format+"\n", args...)
}

// Run performs a plan from nothing: it finds the image, starts the cluster,
// loads the population, replays the trace while the fault plan runs, reads the
// ledger back, removes the cluster, and judges the recording. When ctx ends it
// drains, heals, and judges what was recorded; the error is then an
// *InterruptedError. A run without a recording is nil.
func (c *Conductor) Run(ctx context.Context, p *Plan) (*results.Run, error) {
	defer c.takeScreen(ctx)()
	run, err := c.run(ctx, p)
	if err != nil && ctx.Err() != nil && !errors.Is(err, chaos.ErrUnhealed) {
		err = &InterruptedError{c.stage, err}
	}
	return run, err
}

func (c *Conductor) run(ctx context.Context, p *Plan) (run *results.Run, err error) {
	if err := p.checkPrograms(c.AllowCommands); err != nil {
		return nil, err
	}
	if err := checkFresh(c.Dir); err != nil {
		return nil, err
	}
	place := c.external
	if !p.External() {
		docker, err := engine.Connect(ctx)
		if err != nil {
			return nil, err
		}
		defer docker.Close()
		place = func(ctx context.Context, p *Plan, dir string) (*ground, error) {
			return c.containers(ctx, docker, p, dir)
		}
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	dir, err := filepath.Abs(c.Dir) // the journal's path is for heal, run from anywhere
	if err != nil {
		return nil, fmt.Errorf("find the run directory: %w", err)
	}
	defer func() {
		if run == nil {
			_ = os.Remove(c.Dir) // only if it is empty: nothing was recorded
		}
	}()
	g, err := place(ctx, p, dir)
	if err != nil {
		return nil, err
	}
	defer g.release()
	c.stage = "while the faults were checked"
	if err := p.checkFaults(ctx, g.target); err != nil {
		return nil, err
	}
	c.stage = "while the cluster started"
	if err := g.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = g.stop(ctx, err) }()
	c.stage = "while the population was loaded"
	if c.search != nil {
		c.unbound(ctx, g.target)
	}
	later, stored, err := c.load(ctx, g.target, p)
	if err != nil {
		return nil, err
	}
	if c.search != nil {
		if err := c.bound(ctx, g.target); err != nil {
			return nil, err
		}
	}
	var found []costs.Cost
	if c.search == nil { // they are the same at any rate
		c.stage = "while the costs were counted"
		found = c.costs(ctx, g.target)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.stage = "while the load ran"
	recording, anchor, err := c.create(ctx, g, p)
	if err != nil {
		return nil, err
	}
	if found != nil {
		recording.Costs(found)
	}
	// What was recorded is judged however the run went on.
	err = c.record(ctx, g.target, p, later, stored, recording, anchor)
	c.saveLogs(ctx, g.target, filepath.Join(dir, "cluster"))
	run, judgeErr := report.Write(dir)
	return run, errors.Join(err, judgeErr)
}

// containers finds the image and describes a cluster of the harness's own.
func (c *Conductor) containers(ctx context.Context, docker *client.Client, p *Plan, dir string) (*ground, error) {
	c.stage = "while the image was looked for"
	found, err := findImage(ctx, docker, p.Scenario.System.image(c.Image), c.Progress, c.Style == Live)
	if err != nil {
		return nil, err
	}
	target, err := p.contained(docker, runID(p.Scenario.Name), found.ID, filepath.Join(dir, JournalFile), c.Keep, func(line string) { c.say("%s", line) })
	if err != nil {
		return nil, err
	}
	return &ground{
		target: target, image: results.Image{Name: found.Name, ID: found.ID}, docker: docker,
		start:   func(ctx context.Context) error { return start(ctx, target) },
		stop:    func(ctx context.Context, err error) error { return c.stop(ctx, target, err) },
		release: func() {},
	}, nil
}

// runID names a run among all that an engine may hold: two harnesses in
// containers may have the same process id.
func runID(scenario string) string {
	return fmt.Sprintf("%s-%08x", scenario, rand.Uint32())
}

func (c *Conductor) saveLogs(ctx context.Context, target system, dir string) {
	logs, ok := target.(interface {
		SaveLogs(ctx context.Context, dir string) error
	})
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logsTimeout)
	defer cancel()
	if err := logs.SaveLogs(ctx, dir); err != nil {
		c.say("the nodes' logs could not be saved: %v", err)
	}
}

// stop removes the cluster, unless it is to be kept, and returns what err has
// become by that. It does so after an interrupt as well. A fault that was left
// unhealed needs nobody when its cluster is gone; the verdict tells of it.
func (c *Conductor) stop(ctx context.Context, target system, err error) error {
	if c.Keep {
		c.say("cluster: kept")
		fmt.Fprintf(c.Progress, keptHelp, target.RunID())
		return err
	}
	if removeErr := remove(ctx, target); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	c.say("cluster: removed")
	if errors.Is(err, chaos.ErrUnhealed) {
		c.say("run: %v", err)
		return errors.Join(c.healOutside(ctx), ctx.Err())
	}
	return err
}

// healOutside tries once more what programs have made that is not gone with the
// cluster.
func (c *Conductor) healOutside(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := healOutside(ctx, filepath.Join(c.Dir, JournalFile), func(line string) { c.say("run: %s", line) }); err != nil {
		return fmt.Errorf("%w; the cluster is gone: take it back by hand", err)
	}
	return nil
}

// load fills the target and returns the tries of messages from before the window
// that are still to come, and what the target then holds.
func (c *Conductor) load(ctx context.Context, target reference.Target, p *Plan) ([]*workload.Try, *workload.Stored, error) {
	loader, closeLoader, err := target.Loader(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, fmt.Errorf("it took longer than %v", loadTimeout))
	defer cancel()
	began := time.Now()
	show := newBar(c.Progress, c.Style == Live).show
	if c.Style == Silent {
		show = nil
	}
	later, stored, err := p.fill(ctx, loader, show)
	if err := errors.Join(err, closeLoader()); err != nil {
		return nil, nil, fmt.Errorf("load the population: %w", errors.Join(err, context.Cause(ctx)))
	}
	accounts := int64(p.Population.Accounts)
	if p.Imported() {
		accounts = p.survey.Recipients
	}
	c.say("load: %d accounts in %.1f s", accounts, time.Since(began).Seconds())
	return later, stored, nil
}

// fill stores what the database holds when the window begins, and returns the
// tries that are to be made beside the trace, and what was stored.
func (p *Plan) fill(ctx context.Context, loader reference.Loader, show func(workload.LoadProgress)) ([]*workload.Try, *workload.Stored, error) {
	now, policy := day.Add(p.Trace.Window().From), greylist.DefaultPolicy()
	greylisted := p.Scenario.Workload.Asks(reference.Greylist)
	switch {
	case p.Imported():
		return nil, workload.StoredRecipients(p.survey, now), workload.LoadRecipients(ctx, loader, p.survey, now, loadWorkers, show)
	case p.Scenario.Workload.Before == BeforeNone || !greylisted:
		return nil, workload.StoredPopulation(p.Population, now, false, policy), workload.LoadPopulation(ctx, loader, p.Population, now, loadWorkers, show)
	case p.Scenario.Workload.Before == BeforeCorrespondents:
		return nil, workload.StoredPopulation(p.Population, now, true, policy), workload.Load(ctx, loader, p.Population, now, loadWorkers, show)
	}
	var (
		before *workload.Before
		later  []*workload.Try
		err    error
	)
	if p.Scenario.Workload.Retries == RetriesPredicted {
		before, later, err = p.made.Predict(ctx, policy, day, show)
	} else {
		before, err = p.made.Before(ctx, policy, day, show)
	}
	if err != nil {
		return nil, nil, err
	}
	if p.Scenario.Workload.Retries == RetriesClosed {
		later = before.Later()
	}
	return later, workload.StoredBefore(before), workload.LoadBefore(ctx, loader, before, loadWorkers, show)
}

// sinks hands what happens to the recording, and to those who watch.
type sinks struct {
	*results.Recording
	meter  *meter
	feeler *feeler
	live   *metrics.Metrics  // nil if nobody asked for them
	search *searching        // nil for none
	after  func(chaos.Event) // is told of events when they are recorded; it must not wait
}

func (s sinks) Record(sample *workload.Sample) {
	s.meter.Record(sample)
	s.feeler.Record(sample)
	if s.live != nil {
		s.live.Record(sample)
	}
	if s.search != nil {
		s.search.record(sample)
	}
	s.Recording.Record(sample)
}

func (s sinks) Counter(row results.CounterRow) {
	if s.live != nil {
		s.live.Counter(row)
	}
	s.Recording.Counter(row)
}

func (s sinks) Event(e chaos.Event) {
	s.meter.Event(e)
	s.feeler.Event(e)
	if s.live != nil {
		s.live.Event(e)
	}
	if s.search != nil {
		s.search.event(e)
	}
	s.Recording.Event(e)
	s.after(e)
}

// create begins the recording. Its clock reads 0 at anchor, a moment from now.
func (c *Conductor) create(ctx context.Context, g *ground, p *Plan) (*results.Recording, time.Time, error) {
	manifest := p.manifest(g.target.RunID())
	manifest.Image = g.image
	manifest.Version, manifest.Host = versions(ctx, g, c.Version), hostFacts()
	if c.Live != nil {
		c.counted = c.Live.Begin(manifest)
	}
	anchor := time.Now().Add(lead) // last: all of the above takes its time
	manifest.Anchor = anchor.UTC()
	recording, err := results.Create(c.Dir, manifest, p.Scenario.recorded())
	return recording, anchor, err
}

var overflows = map[Overflow]workload.Overflow{
	OverflowWait: workload.OverflowWait, OverflowPutOff: workload.OverflowPutOff, OverflowDrop: workload.OverflowDrop,
}

// record performs the plan on a loaded cluster, and the tries that are left from
// before it, and closes the recording.
func (c *Conductor) record(ctx context.Context, target system, p *Plan, later []*workload.Try, stored *workload.Stored, recording *results.Recording, anchor time.Time) (err error) {
	since := func() time.Duration { return time.Since(anchor) }
	// Who reads how nodes have restarted, and the ledger while the load runs; the
	// recording is closed after them.
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	var readers sync.WaitGroup
	books := newBooks(ledger.New(stored, greylist.DefaultPolicy(), p.Topology, recording), target, since)
	sinks := sinks{
		recording, newMeter(p), newFeeler(p.Topology, anchor), c.counted, c.search,
		func(e chaos.Event) {
			admin, ok := target.(reference.Admin)
			if nodes := p.restartedNodes(e); ok && len(nodes) > 0 {
				readers.Go(func() { c.restarted(reading, admin, p, nodes, recording, since) })
			}
			books.event(e)
		},
	}
	var stats workload.Stats
	defer func() {
		end := results.EndOfRun{At: since(), Reason: results.Completed}
		switch {
		case ctx.Err() != nil:
			end.Reason = results.Interrupted
		case err != nil:
			end.Reason, end.Error = results.Failed, err.Error()
		}
		end.ReplayEnd = results.ReplayEnd{
			CutShort: stats.CutShort, Waited: stats.Waited,
			ChecksNotAsked: stats.ChecksNotAsked, SavesNotAsked: stats.SavesNotAsked, ChangesNotAsked: stats.ChangesNotAsked,
			PutOff: stats.PutOff, Dropped: stats.Dropped, Tries: stats.Tries, TriesLeft: stats.TriesLeft, GivenUp: stats.GivenUp,
		}
		readers.Wait()
		err = errors.Join(err, recording.Close(end))
	}()
	journal, err := chaos.CreateJournal(filepath.Join(c.Dir, JournalFile), target.RunID())
	if err != nil {
		return err
	}
	defer journal.Close()

	sleeper, err := workload.NewPreciseSleeper()
	if err != nil {
		return err
	}
	defer sleeper.Close()
	links, clients := p.links(), slices.Clone(p.Clients)
	if links != nil {
		for i := range clients {
			clients[i].Dial = links.Dial(clients[i].Name, addressed(target), nil)
		}
	}
	replay := &workload.Replay{
		Trace: p.Trace, Clients: clients, Target: target, Recorder: sinks, Ledger: books.ledger,
		Anchor: anchor, Speed: p.Scenario.Workload.Speed, Day: day,
		MaxInFlight: p.Scenario.Bounds.InFlight, Overflow: overflows[p.Scenario.Bounds.Overflow], Drain: drainTimeout, Sleeper: sleeper,
		ClosedLoop: p.Scenario.Workload.Retries == RetriesClosed, Later: later, Paths: p.paths(),
	}
	if c.turn != nil {
		replay.Turn = func(ctx context.Context, k int, from time.Duration) (workload.Stretch, error) {
			begin, err := c.turn.take(ctx, k, since)
			return workload.Stretch{
				To:  from + c.turn.length*time.Duration(replay.Speed),
				Due: workload.Paced(from, begin, replay.Speed),
			}, err
		}
		replay.Rest = c.turn.leave
	}
	runner := &chaos.Runner{
		Plan: p.Faults, Faults: chaos.Builder(target, links), Resolve: chaos.Resolver(target), Felt: sinks.feeler.Felt,
		Sink: sinks, Journal: journal, Anchor: anchor,
	}
	if c.search == nil {
		c.say("run: %s for %s, recording in %s", p.Scenario.Name, formatDuration(p.Scenario.Workload.Duration), c.Dir)
	} else {
		c.say("run: searching with %s, recording in %s", p.Scenario.Name, c.Dir)
		steps := *runner
		runner.Plan = chaos.Plan{} // the regimes make the faults
		c.search.join(target, p, since, replay.Stats, func(plan chaos.Plan) *chaos.Runner { r := steps; r.Plan = plan; return &r })
	}

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	var watchers errgroup.Group
	watchers.Go(func() error {
		return target.Watch(watching, func(e reference.ClusterEvent) { sinks.Event(clusterEvent(p, e, anchor)) })
	})
	// A recording that can no longer be written ends the run.
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	fill := &fills{target: target}
	watchers.Go(func() error {
		c.everySecond(watching, p.Scenario.Name, sinks, replay, target, anchor, books, fill, fail)
		return nil
	})
	if c.search == nil { // its next step would feel it
		watchers.Go(func() error { books.afterFaults(watching); return nil })
	}
	watchers.Go(func() error { books.epochs(watching); return nil })
	watchers.Go(func() error { fill.follow(watching); return nil })

	sinks.Event(chaos.Event{At: since(), Kind: chaos.KindPhase, Name: "load"})
	sinks.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	loading, endLoad := context.WithCancelCause(working)
	defer endLoad(nil)
	loadEnded := make(chan time.Duration, 1)
	defer context.AfterFunc(loading, func() { loadEnded <- since() })()

	var (
		work                sync.WaitGroup
		replayErr, faultErr error
	)
	if c.search != nil {
		replay.Turn = c.search.turn
		replay.Rest = func(int) { c.search.rest(loading) }
	}
	work.Go(func() {
		stats, replayErr = replay.Run(loading)
		if c.search != nil {
			switch {
			case errors.Is(replayErr, errSearchOver):
				replayErr = nil
			case replayErr == nil: // with the window
				c.search.fail(c.search.windowUsedUp())
				replayErr = c.search.failed
			}
			replayErr = errors.Join(replayErr, c.search.close(loading))
		}
	})
	work.Go(func() {
		faultErr = runner.Run(working)
		if p.Scenario.Workload.End == EndWithFaults {
			time.AfterFunc(calm, func() { endLoad(errFaultsOver) })
		}
	})
	work.Wait()
	if errors.Is(replayErr, errFaultsOver) {
		replayErr = nil // what was left of the trace was not wanted
	}
	drain := p.Scenario.Workload.Duration
	switch {
	case c.turn != nil:
		drain = c.turn.end()
	case c.search != nil:
		drain = since()
	}
	if loading.Err() != nil {
		drain = max(0, min(drain, <-loadEnded))
	}
	sinks.Event(chaos.Event{At: drain, Kind: chaos.KindPhase, Name: "drain"})
	stopWatching()
	if watchErr := watchers.Wait(); watchErr != nil && !errors.Is(watchErr, context.Canceled) {
		c.say("the cluster's events could not be followed: %v", watchErr)
	}
	var sabotageErr error
	if c.sabotage != nil && ctx.Err() == nil {
		sabotageErr = c.sabotage(ctx, target)
	}
	if ctx.Err() == nil {
		// Also after a node that did not come back: that is when data may be gone.
		keys := books.ledger.Keys()
		c.say("run: reading %d acknowledged keys back through each SQL node", keys)
		if c.search != nil {
			c.unbound(ctx, target)
		}
		books.atTheEnd(ctx, keys)
	} else {
		books.ledger.Abandon()
	}
	// The gravest first. An interrupt that came later than both is one, too.
	return errors.Join(faultErr, replayErr, sabotageErr, ctx.Err())
}

// restarted records how data nodes have restarted. It is no part of the verdict:
// what cannot be read is told of, no more.
func (c *Conductor) restarted(ctx context.Context, target reference.Admin, p *Plan, nodes []topology.Node, sink chaos.EventSink, since func() time.Duration) {
	info, err := restartInfo(ctx, target, p.Topology, nodes)
	if err != nil {
		c.say("run: how nodes have restarted could not be read: %v", err)
		return
	}
	for _, e := range restartEvents(since(), nodes, info) {
		sink.Event(e)
	}
}

// clusterEvent puts what the cluster said on the run's clock.
func clusterEvent(p *Plan, e reference.ClusterEvent, anchor time.Time) chaos.Event {
	n, _ := p.Topology.ByID(e.Node)
	return chaos.Event{At: e.At.Sub(anchor), Kind: chaos.KindCluster, Name: e.Name, Node: n.Name, Fields: e.Fields}
}

// everySecond writes the generator's counters and tells how the run goes, until
// ctx ends.
func (c *Conductor) everySecond(ctx context.Context, name string, s sinks, replay *workload.Replay, target system, anchor time.Time, b *books, f *fills, fail context.CancelCauseFunc) {
	self := newSelfWatch(anchor)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer c.told()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at, stats := time.Since(anchor), replay.Stats()
		if at > 0 {
			c.tell(name, s.meter.take(at, stats.Offered, stats.InFlight()))
		}
		row := counterRow(at, stats)
		self.fill(&row)
		row.Nodes, row.Epoch, row.Fill = nodeUsage(ctx, target), b.epoch(), f.take()
		s.Counter(row)
		if err := s.Err(); err != nil {
			fail(err)
			return
		}
	}
}

// nodeUsage asks what the nodes use, for less than a second.
func nodeUsage(ctx context.Context, target system) map[string]results.NodeUsage {
	meter, ok := target.(interface {
		Usage(ctx context.Context) map[string]cluster.Usage
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	nodes := map[string]results.NodeUsage{}
	for name, u := range meter.Usage(ctx) {
		nodes[name] = results.NodeUsage{CPUUS: u.CPU.Microseconds(), MemoryBytes: u.Memory}
	}
	return nodes
}

func counterRow(at time.Duration, stats workload.Stats) results.CounterRow {
	row := results.CounterRow{
		AtUS: at.Microseconds(), Offered: stats.Offered, InFlight: stats.InFlight(),
		Goroutines: int64(runtime.NumGoroutine()),
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
