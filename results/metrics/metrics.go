// Package metrics counts what happens in a run under names that a Prometheus
// server knows what to do with: while it goes on, for a server that scrapes it,
// and afterwards from the recording, as OpenMetrics text. Attempts have the name
// and the buckets of OpenTelemetry's semantic conventions for database clients.
//
// No label has more values than the manifest has nodes, objectives and faults, or
// than the program has paths, operations, outcomes and classes of errors.
package metrics

import (
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// maxFaults is how many faults have a series of their own.
const maxFaults = 100

// unlisted is the label's value of what the manifest does not name.
const unlisted = "other"

// system is what OpenTelemetry calls MySQL's dialect.
const system = "mysql"

// attemptBuckets are those that OpenTelemetry asks for, in seconds:
// opentelemetry.io/docs/specs/semconv/database/database-metrics,
// db.client.operation.duration.
var attemptBuckets = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

// opBuckets reach as far as a client's patience.
var opBuckets = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60}

// Metrics counts. Its methods may be called from any goroutine.
type Metrics struct {
	registry   *prometheus.Registry
	nodes      map[topology.ID]string
	names      map[string]bool   // of nodes
	faults     map[string]string // kinds of those with a series
	objectives []results.Objective

	attempts, response, queue *prometheus.HistogramVec
	ops, events               *prometheus.CounterVec
	open                      *prometheus.GaugeVec
	inFlight                  prometheus.Gauge
	offered, generatorCPU     prometheus.Counter
	nodeCPU                   *prometheus.CounterVec
	nodeMemory                *prometheus.GaugeVec

	opSeries      cache[opKey, *opSeries]
	attemptSeries cache[attemptKey, prometheus.Observer]
	good, bad     []prometheus.Counter // as objectives

	mu        sync.Mutex
	last      results.CounterRow // guarded by mu
	lastUsage map[string]int64   // CPU time of nodes, where it was last told. Guarded by mu
}

// New makes metrics of a run that has this manifest.
func New(m results.Manifest) *Metrics {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	total := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	x := &Metrics{
		registry: prometheus.NewRegistry(), objectives: m.Objectives,
		nodes: map[topology.ID]string{}, names: map[string]bool{}, faults: map[string]string{}, lastUsage: map[string]int64{},
		attempts: histogram("db_client_operation_duration_seconds", "Duration of attempts: one statement sent to one node, or one connection tried in vain.",
			attemptBuckets, "db_system_name", "db_operation_name", "server_address", "error_type"),
		response: histogram("mailbench_response_seconds", "Response time of ops, from when they were intended until they ended.", opBuckets, "path"),
		queue:    histogram("mailbench_queue_seconds", "Time from when ops were intended to their first dispatch.", opBuckets, "path"),
		ops:      counter("mailbench_ops_total", "Ops that ended, by outcome.", "path", "outcome"),
		events:   counter("mailbench_objective_events_total", "Events of objectives; those that are not good spend the error budget.", "objective", "quality"),
		open:     gauge("mailbench_fault_open", "1 from a fault's injection until the cluster is redundant again.", "fault", "kind"),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mailbench_sessions_in_flight", Help: "Messages, webmail actions and account jobs under way.",
		}),
		offered:      total("mailbench_sessions_offered_total", "Messages, webmail actions and account jobs whose time has come."),
		generatorCPU: total("mailbench_generator_cpu_seconds_total", "User and system time of the harness."),
		nodeCPU:      counter("mailbench_node_cpu_seconds_total", "CPU time of a node.", "node"),
		nodeMemory:   gauge("mailbench_node_memory_bytes", "Memory of a node, file cache included.", "node"),
	}
	x.registry.MustRegister(x.attempts, x.response, x.queue, x.ops, x.events, x.open, x.inFlight, x.offered, x.generatorCPU, x.nodeCPU, x.nodeMemory)
	for _, n := range m.Topology.Nodes {
		x.nodes[n.ID], x.names[n.Name] = n.Name, true
	}
	for _, f := range m.Faults[:min(len(m.Faults), maxFaults)] {
		x.faults[f.ID] = f.Kind
		x.open.WithLabelValues(f.ID, f.Kind)
	}
	for _, o := range m.Objectives {
		x.good = append(x.good, x.events.WithLabelValues(o.Name, "good"))
		x.bad = append(x.bad, x.events.WithLabelValues(o.Name, "bad"))
	}
	return x
}

// Record counts an op.
func (x *Metrics) Record(s *workload.Sample) {
	op := x.opSeries.of(opKey{s.Operation.Path(), s.Outcome}, x.newOpSeries)
	op.ended.Inc()
	op.response.Observe(max(0, s.Response()).Seconds())
	op.queue.Observe(max(0, s.Queue()).Seconds())
	for i := range s.Attempts {
		a := &s.Attempts[i]
		key := attemptKey{s.Operation, a.Node, !a.Result.OK(), a.Result.Class}
		x.attemptSeries.of(key, x.newAttemptSeries).Observe(max(0, a.Ended-a.Dispatched).Seconds())
	}
	for i := range x.objectives {
		o := &x.objectives[i]
		switch {
		case !o.Covers(s):
		case o.Good(s):
			x.good[i].Inc()
		default:
			x.bad[i].Inc()
		}
	}
}

// opKey is what ops of the same series have in common.
type opKey struct {
	path    reference.Path
	outcome workload.Outcome
}

// opSeries are those that an op counts in.
type opSeries struct {
	ended           prometheus.Counter
	response, queue prometheus.Observer
}

func (x *Metrics) newOpSeries(k opKey) *opSeries {
	path := k.path.String()
	return &opSeries{x.ops.WithLabelValues(path, k.outcome.String()), x.response.WithLabelValues(path), x.queue.WithLabelValues(path)}
}

// attemptKey is what attempts of the same series have in common.
type attemptKey struct {
	operation reference.Operation
	node      topology.ID
	failed    bool
	class     ndberr.Class
}

func (x *Metrics) newAttemptSeries(k attemptKey) prometheus.Observer {
	node, known := x.nodes[k.node]
	if !known {
		node = unlisted
	}
	failure := ""
	if k.failed {
		failure = k.class.String()
		if strings.HasPrefix(failure, "class_") {
			failure = "_OTHER" // as OpenTelemetry has it
		}
	}
	return x.attempts.WithLabelValues(system, k.operation.String(), node, failure)
}

// cache keeps what is made of keys. Looking for the labels of a series anew costs
// an op more than counting it.
type cache[K comparable, V any] struct {
	known atomic.Pointer[map[K]V] // never changed, but replaced. Written under mu
	mu    sync.Mutex
}

func (c *cache[K, V]) of(key K, make func(K) V) V {
	if known := c.known.Load(); known != nil {
		if v, found := (*known)[key]; found {
			return v
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[K]V{}
	if known := c.known.Load(); known != nil {
		maps.Copy(next, *known)
	}
	next[key] = make(key) // of two at once, both make the same
	c.known.Store(&next)
	return next[key]
}

// Event follows the faults.
func (x *Metrics) Event(e chaos.Event) {
	kind, known := x.faults[e.Fault]
	if e.Kind != chaos.KindFault || !known {
		return
	}
	switch e.Name {
	case chaos.StepInjected:
		x.open.WithLabelValues(e.Fault, kind).Set(1)
	case chaos.StepRedundant:
		x.open.WithLabelValues(e.Fault, kind).Set(0)
	}
}

// Counter takes a row, which is later than the one before.
func (x *Metrics) Counter(row results.CounterRow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.inFlight.Set(float64(row.InFlight))
	x.offered.Add(float64(grown(x.last.Offered, row.Offered)))
	x.generatorCPU.Add(seconds(grown(x.last.CPUUS, row.CPUUS)))
	for name := range x.names {
		// A row may leave out a node that runs: the engine was too slow to tell.
		usage, told := row.Nodes[name]
		if !told {
			x.nodeMemory.DeleteLabelValues(name)
			continue
		}
		x.nodeCPU.WithLabelValues(name).Add(seconds(grown(x.lastUsage[name], usage.CPUUS)))
		x.lastUsage[name] = usage.CPUUS
		x.nodeMemory.WithLabelValues(name).Set(float64(usage.MemoryBytes))
	}
	x.last = row
}

// grown is by how much a counter grew that begins anew with its process.
func grown(before, now int64) int64 {
	if now < before {
		return max(0, now)
	}
	return now - before
}

// Judged adds what was judged from the recording.
func (x *Metrics) Judged(run *results.Run) {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		x.registry.MustRegister(g)
		return g
	}
	gauge("mailbench_run_info", "Which run this is.", "scenario", "run_id", "seed").
		WithLabelValues(run.Scenario, run.RunID, fmt.Sprint(run.Seed)).Set(1)
	verdict := gauge("mailbench_run_verdict", "1 for the run's verdict.", "verdict")
	for _, v := range []results.Verdict{results.DataLoss, results.Inconclusive, results.Violated, results.Pass} {
		verdict.WithLabelValues(string(v)).Set(0)
	}
	verdict.WithLabelValues(string(run.Verdict)).Set(1)
	target := gauge("mailbench_objective_target_ratio", "Share of events that must be good.", "objective")
	spent := gauge("mailbench_objective_budget_spent_ratio", "Share of the error budget that is spent; more than 1 violates the objective.", "objective")
	for _, o := range run.Objectives {
		target.WithLabelValues(o.Name).Set(decimal(o.Target))
		if o.BudgetSpent != nil {
			spent.WithLabelValues(o.Name).Set(decimal(*o.BudgetSpent))
		}
	}
	bad := gauge("mailbench_fault_bad_ops", "Bad ops that a fault is charged with.", "fault", "kind")
	budget := gauge("mailbench_fault_budget_spent_ratio", "Share that a fault took of the budget that it cost most.", "fault", "kind")
	outage := gauge("mailbench_fault_outage_seconds", "Time without a good op on the path, in slices of 100 ms.", "fault", "kind", "path")
	redundant := gauge("mailbench_fault_redundant_seconds", "From the injection until losing another node would cost no more than before.", "fault", "kind")
	for _, f := range run.Faults {
		kind, known := x.faults[f.ID]
		if !known {
			continue
		}
		bad.WithLabelValues(f.ID, kind).Set(float64(f.BadOps))
		if f.BudgetSpent != nil {
			budget.WithLabelValues(f.ID, kind).Set(decimal(*f.BudgetSpent))
		}
		if us := f.Spans.Redundant; us != nil {
			redundant.WithLabelValues(f.ID, kind).Set(seconds(*us))
		}
		for path, p := range f.Paths {
			if p.FullOutage != nil {
				outage.WithLabelValues(f.ID, kind, path).Set(seconds(*p.FullOutage))
			}
		}
	}
	if l := run.Ledger; l != nil {
		keys := gauge("mailbench_ledger_keys", "Keys with acknowledged writes that were read back.", "verdict")
		for verdict, n := range map[results.LedgerVerdict]int64{
			results.Verified: l.Verified, results.Lost: l.Lost, results.Stale: l.Stale, results.Resurrected: l.Resurrected,
			"allowed": l.Allowed, results.LedgerUnknown: l.Unknown,
		} {
			keys.WithLabelValues(string(verdict)).Set(float64(n))
		}
		answers := gauge("mailbench_ledger_violations", "Answers that contradict what was acknowledged.", "violation")
		for kind, n := range map[results.ViolationKind]int64{
			results.WrongRoute: l.Violations.WrongRoute, results.DeferredAgain: l.Violations.DeferredAgain,
			results.LetThrough: l.Violations.LetThrough, results.WrongPreference: l.Violations.WrongPreference, "allowed": l.Violations.Allowed,
		} {
			answers.WithLabelValues(string(kind)).Set(float64(n))
		}
	}
}

func decimal(d results.Decimal) float64 { return float64(d) / 1e6 }

// Finish counts what a recording holds beside the samples, which have been
// recorded, and what was judged from it.
func (x *Metrics) Finish(r *results.Reader, run *results.Run) error {
	for e, err := range r.Events() {
		if err != nil {
			return err
		}
		x.Event(e)
	}
	for row, err := range r.Counters() {
		if err != nil {
			return err
		}
		x.Counter(row)
	}
	x.Judged(run)
	return nil
}

func seconds(us int64) float64 { return (time.Duration(us) * time.Microsecond).Seconds() }

// Write writes OpenMetrics text 1.0: the same bytes for the same counts.
func (x *Metrics) Write(w io.Writer) error {
	families, err := x.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	e := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeOpenMetrics))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return fmt.Errorf("encode metric %s: %w", f.GetName(), err)
		}
	}
	return e.(expfmt.Closer).Close() // every encoder of OpenMetrics is one
}
