package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload/strictyaml"
	"github.com/moby/moby/client"
)

// ParseFault reads a fault from a command line: its kind, its target, and what
// else a scenario could say of it, as overrides whose Path is the field. The
// errors are of type *InputError.
func ParseFault(kind, target string, fields ...Override) (FaultSpec, error) {
	root, mistake := strictyaml.ParseTree("fault", "this fault", nil, false)
	if mistake != nil {
		return FaultSpec{}, mistake
	}
	root.Kind = strictyaml.MappingKind
	for _, given := range [][2]string{{"kind", kind}, {"target", target}, {"at", "0s"}} {
		text := strictyaml.TextNode(given[1])
		text.At = root.At
		root.Set(strictyaml.Pair{Key: given[0], KeyAt: root.At, Value: text})
	}
	for _, o := range fields {
		if mistake := o.apply(root); mistake != nil {
			return FaultSpec{}, mistake
		}
	}
	f, load := defaultFault(), longest
	d := &decoder{strictyaml.NewDecoder("fault")}
	d.Read(faultEntry{&f, &load}, "", root)
	if err := d.Err(); err != nil {
		return FaultSpec{}, err
	}
	f.Settings = f.Kind.Defaults(f.Settings)
	return f, nil
}

// NoEffectError says that a fault was made, taken back, and seen by nobody; or
// that it was not made at all.
type NoEffectError struct{ Err error }

func (e *NoEffectError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NoEffectError) Unwrap() error { return e.Err }

// BusyError says that a cluster is being used by another harness.
type BusyError struct{ Name, PID string }

func (e *BusyError) Error() string {
	who := "another command"
	if e.PID != "" {
		who = "the run of process " + e.PID
	}
	return fmt.Sprintf("cluster %s is in use by %s; wait for it to end", e.Name, who)
}

// SpecError says what is wrong with a fault on a command line.
type SpecError struct{ Err error }

func (e *SpecError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SpecError) Unwrap() error { return e.Err }

// Inject makes one fault on a cluster that stays, by its name, and takes it back
// after its hold. Each step stands in the cluster's journal before it is taken,
// for Heal, and is printed on w with its time. As no clients are known that would
// feel the fault, probes ask the SQL nodes, from a moment before it is made. When
// ctx ends the fault is taken back at once.
func Inject(ctx context.Context, docker *client.Client, name string, f FaultSpec, seed uint64, w io.Writer) error {
	target, journal, release, err := takeOver(ctx, docker, name)
	if err != nil {
		return err
	}
	defer release()
	defer journal.Close()
	t := target.Topology()
	f.At += probeLead
	// Hours are no limit: there is no load that would end.
	plan, err := chaos.NewPlan(seed, []chaos.Spec{f}, chaos.Ground{Topology: t, Duration: 100 * longest})
	if err != nil {
		return &SpecError{err}
	}
	// Ids of different commands stand in one journal.
	stamp := time.Now().UTC().Format("20060102t150405")
	for i := range plan.Steps {
		plan.Steps[i].ID = stamp + "-" + plan.Steps[i].ID
	}
	faults := chaos.Builder(target, nil)
	if err := chaos.CheckPlan(ctx, plan, t, faults); err != nil {
		return &CheckError{err}
	}
	if err := plan.Describe(w, t); err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watcher sync.WaitGroup
	watcher.Go(func() { _ = target.Watch(watching, func(reference.ClusterEvent) {}) }) // who waits polls as well
	anchor := time.Now()
	feeler := newFeeler(t, anchor)
	probes := prober{nodes: t.ByRole(topology.SQL), ask: askRoute(target), record: feeler.Record, anchor: anchor}
	watcher.Go(func() { probes.run(watching) })
	defer watcher.Wait()
	defer stopWatching()
	steps := &stepPrinter{w: w}
	runner := chaos.Runner{
		Plan: plan, Faults: faults, Resolve: chaos.Resolver(target), Felt: feeler.Felt,
		Sink: eventSinks{feeler, steps}, Journal: journal, Anchor: anchor,
	}
	if err := runner.Run(ctx); err != nil {
		if ctx.Err() != nil && !errors.Is(err, chaos.ErrUnhealed) {
			err = &InterruptedError{"while the fault was in effect; it was taken back", err}
		}
		return err
	}
	return steps.failure()
}

// takeOver attaches to a cluster that stays, for the one process that may break
// it, with its journal.
func takeOver(ctx context.Context, docker *client.Client, name string) (_ *cluster.Cluster, _ *chaos.Journal, release func(), err error) {
	info, err := kept(ctx, docker, name)
	if err != nil {
		return nil, nil, nil, err
	}
	unlock, err := lockJournal(info)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	journal, err := openJournal(info)
	if err != nil {
		return nil, nil, nil, err
	}
	target, err := cluster.Attach(ctx, docker, name)
	if err != nil {
		return nil, nil, nil, errors.Join(err, journal.Close())
	}
	return target, journal, unlock, nil
}

// kept finds a cluster that outlives its harness.
func kept(ctx context.Context, docker *client.Client, name string) (cluster.Info, error) {
	clusters, err := cluster.List(ctx, docker)
	if err != nil {
		return cluster.Info{}, err
	}
	for _, info := range clusters {
		switch {
		case info.RunID != name:
		case engine.Alive(info.Owner) && info.Owner != engine.Owner():
			return info, &BusyError{name, info.PID()}
		case !info.Keep:
			return info, fmt.Errorf("%w that stays: %s is what a run left; remove it with: mailbench heal", cluster.ErrNoCluster, name)
		case info.Journal == "":
			return info, fmt.Errorf("%w with a journal, from which a fault could be healed: start %s anew with: mailbench cluster up --name %[2]s", cluster.ErrNoCluster, name)
		default:
			return info, nil
		}
	}
	return cluster.Info{}, fmt.Errorf("%w: %s; start one with: mailbench cluster up --name %[2]s", cluster.ErrNoCluster, name)
}

// openJournal opens a cluster's journal, or begins it. A fault that is open in it
// must be healed before another is made.
func openJournal(info cluster.Info) (*chaos.Journal, error) {
	if _, err := os.Stat(info.Journal); errors.Is(err, os.ErrNotExist) {
		return chaos.CreateJournal(info.Journal, info.RunID)
	}
	journal, entries, err := chaos.ReopenJournal(info.Journal)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w: %w; run: mailbench heal --name %[1]s", info.RunID, chaos.ErrUnhealed, err)
	}
	if open := chaos.OpenFaults(entries); len(open) > 0 {
		return nil, errors.Join(fmt.Errorf("cluster %s: %w: fault %s is still open; run: mailbench heal --name %[1]s",
			info.RunID, chaos.ErrUnhealed, open[0].ID), journal.Close())
	}
	return journal, nil
}

// stepPrinter prints the steps of faults as they happen.
type stepPrinter struct {
	w io.Writer

	mu     sync.Mutex
	failed []error
}

func (p *stepPrinter) Event(e chaos.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	detail := e.Fields["detail"]
	if source := e.Fields["source"]; source != "" {
		detail = source + ": " + detail
	}
	if e.Name == chaos.StepFailed {
		detail = fmt.Sprintf("%s: %s", e.Fields["what"], e.Fields["error"])
		p.failed = append(p.failed, fmt.Errorf("fault %s: %s did not come about: %s", e.Fault, e.Fields["what"], e.Fields["error"]))
	}
	if what := e.Fields["what"]; e.Name == chaos.StepStage {
		detail = what + ": " + detail
	}
	fmt.Fprintf(p.w, "%9.3fs  %-9s  %s  %s\n", e.At.Seconds(), e.Name, e.Node, detail)
}

func (p *stepPrinter) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.failed...); err != nil {
		return &NoEffectError{err}
	}
	return nil
}
