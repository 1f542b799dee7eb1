package results

import (
	"bytes"
	"encoding/json"
	"io"
)

// RunSchema names the layout of run.json.
const RunSchema = "mailbench.run/v1"

// Verdict is what a run says of its objectives.
type Verdict string

// The verdicts, the gravest first.
const (
	DataLoss     Verdict = "data_loss"    // an acknowledged write is gone
	Inconclusive Verdict = "inconclusive" // the run cannot be relied upon; see Run.Reasons
	Violated     Verdict = "violated"     // an objective was missed
	Pass         Verdict = "pass"         // every objective was met
)

// ExitCode is the status with which a command ends that found v: 0 for pass,
// 1 for violated, 3 for data loss, 4 for inconclusive, 70 for what is none of
// them. 2 is never used: make and a panic exit with it.
func ExitCode(v Verdict) int {
	switch v {
	case Pass:
		return 0
	case Violated:
		return 1
	case DataLoss:
		return 3
	case Inconclusive:
		return 4
	default:
		return 70
	}
}

// Run is run.json: what was judged from a recording. Times count from the
// anchor, and are null when what they tell of did not happen. docs/results.md
// defines every field.
type Run struct {
	Schema           string                `json:"schema"`
	Verdict          Verdict               `json:"verdict"`
	Reasons          []string              `json:"reasons"` // why the run is inconclusive, in words
	Scenario         string                `json:"scenario"`
	RunID            string                `json:"run_id"`
	Seed             uint64                `json:"seed"`
	Speed            int                   `json:"speed"`
	Version          map[string]string     `json:"version"`
	Image            Image                 `json:"image"`
	Host             map[string]string     `json:"host"`
	Trace            TraceResult           `json:"trace"`
	Plan             Plan                  `json:"plan"`
	MeasuredFromUS   *int64                `json:"measured_from_us"`
	MeasuredToUS     *int64                `json:"measured_to_us"`
	End              *EndResult            `json:"end"`
	OfferedPerSecond *Decimal              `json:"offered_per_second"` // messages started, in the measured window
	BadOps           int64                 `json:"bad_ops"`            // degraded, failed, unknown, answered wrongly
	Mail             MailResult            `json:"mail"`
	Paths            map[string]PathResult `json:"paths"`
	Nodes            map[string]NodeResult `json:"nodes"`
	Faults           []FaultResult         `json:"faults"`
	Background       Charge                `json:"background"` // what no fault is charged with
	Repeated         []RepeatedFault       `json:"repeated_faults"`
	Objectives       []ObjectiveResult     `json:"objectives"`
	Errors           []ErrorCount          `json:"errors"`
	Ledger           *LedgerResult         `json:"ledger"` // null if it was not read back
	Generator        GeneratorResult       `json:"generator"`

	// What each decision costs, by path and decision; empty if it was not counted.
	Costs map[string]map[string]CostResult `json:"costs"`
}

// TraceResult is what was to be replayed, and how much of it began.
type TraceResult struct {
	SHA256        string   `json:"sha256"`
	Messages      int64    `json:"messages"` // planned
	Started       int64    `json:"started"`
	OpsPerMessage *Decimal `json:"ops_per_message"` // all ops over messages started
}

// Plan identifies the fault plan.
type Plan struct {
	SHA256 string `json:"sha256"`
}

// EndResult says how the run ended.
type EndResult struct {
	Reason EndReason `json:"reason"`
	AtUS   int64     `json:"at_us"`
	ReplayEnd
}

// PathResult counts the ops of a path by their outcomes, and tells how long
// they took, whatever their outcome. Latencies are null without ops.
type PathResult struct {
	Count      int64    `json:"count"`
	OK         int64    `json:"ok"`
	Retried    int64    `json:"retried"`
	Degraded   int64    `json:"degraded"`
	Failed     int64    `json:"failed"`
	Unknown    int64    `json:"unknown"`
	Wrong      int64    `json:"wrong"`   // answered, but not rightly; these are bad ops
	CalmUS     *Latency `json:"calm_us"` // service time of those that no fault is charged with and that were answered at the first attempt
	QueueUS    *Latency `json:"queue_us"`
	ServiceUS  *Latency `json:"service_us"`
	ResponseUS *Latency `json:"response_us"`
}

// Latency holds quantiles in microseconds, exactly. Overflow counts what took
// more than ten minutes; a quantile among them is told as Max.
type Latency struct {
	P50      int64 `json:"p50"`
	P90      int64 `json:"p90"`
	P99      int64 `json:"p99"`
	P999     int64 `json:"p999"`
	Max      int64 `json:"max"`
	Overflow int64 `json:"overflow"`
}

// NodeResult counts the attempts sent to a node.
type NodeResult struct {
	Attempts int64            `json:"attempts"`
	Failed   int64            `json:"failed"`
	Paths    map[string]int64 `json:"paths"` // attempts on each path
}

// FaultResult is what a fault did.
type FaultResult struct {
	ID            string               `json:"id"`
	Kind          string               `json:"kind"`
	Target        string               `json:"target"`
	InjectedAtUS  *int64               `json:"injected_at_us"`
	EffectiveAtUS *int64               `json:"effective_at_us"`
	RecoveredAtUS *int64               `json:"recovered_at_us"`
	RedundantAtUS *int64               `json:"redundant_at_us"`
	Spans         Spans                `json:"spans_us"`
	ToObjective   map[string]*int64    `json:"to_objective_us"` // by objective; null within if it was not met again
	Paths         map[string]FaultPath `json:"paths"`
	ResponseUS    *Latency             `json:"response_us"` // of the ops intended in its window, null without
	Anatomy       []Phase              `json:"anatomy"`     // what harness, cluster and clients were at, in the order of time
	Errors        []ErrorCount         `json:"errors"`      // of the attempts of the ops that it is charged with
	Failure       string               `json:"failure"`     // why a step did not come about, "" if all did
	Charge
}

// Worst returns the longest of a span over all paths, nil if there are none: a path
// that goes on does not help the mail that waits for another. A path that was not
// asked at all because the one before it gave no answer does not show here.
func (f *FaultResult) Worst(span func(OutageSpans) *int64) (worst *int64) {
	for _, p := range f.Paths {
		if us := span(p.OutageSpans); us != nil && (worst == nil || *us > *worst) {
			worst = us
		}
	}
	return worst
}

// FaultPath is what a fault did to the ops of a path: the outage of those that
// were intended in its window, and counts of all that it is charged with.
type FaultPath struct {
	OutageSpans
	SlowUS       int64                  `json:"slow_us"` // above it a good op was slow
	Nodes        map[string]OutageSpans `json:"nodes"`   // of the attempts sent to each node that was asked
	Ops          int64                  `json:"ops"`
	BadOps       int64                  `json:"bad_ops"`
	FailedOver   int64                  `json:"failed_over"`    // answered by another node than the one asked first
	FailedOverUS *Latency               `json:"failed_over_us"` // service time of these, null without
}

// Spans are how long each part of a fault took, in microseconds. All but those of
// the outage count from the injection.
type Spans struct {
	Detect        *int64 `json:"detect"`         // to the first evidence of either
	DetectCluster *int64 `json:"detect_cluster"` // to when the cluster said that it counts a node as failed
	DetectClients *int64 `json:"detect_clients"` // to the end of the first failed attempt
	Recovered     *int64 `json:"recovered"`
	Redundant     *int64 `json:"redundant"`
	Objective     *int64 `json:"objective"` // to when every objective was met again
	OutageSpans
}

// OutageSpans are what clients felt of a fault, in microseconds, from slices
// of 100 ms; null if the fault was not injected. All but Longest add up to the
// fault's window.
type OutageSpans struct {
	FullOutage    *int64 `json:"full_outage"`    // slices with ops, none of them good
	PartialOutage *int64 `json:"partial_outage"` // slices with good and bad ops
	BrownOut      *int64 `json:"brown_out"`      // slices whose ops were all good, some of them slow
	Good          *int64 `json:"good"`           // slices whose ops were all good, none of them slow
	Longest       *int64 `json:"longest"`        // longest stretch between full-outage slices without a good op
	Unmeasured    *int64 `json:"unmeasured"`     // slices without ops
}

// Charge is what a fault, or the background, cost.
type Charge struct {
	BadOps      int64             `json:"bad_ops"`
	Mail        Mail              `json:"mail"`
	BudgetSpent *Decimal          `json:"budget_spent"` // of the objective that it cost most; null if that has no budget
	Budgets     []ObjectiveCharge `json:"budgets"`
}

// ObjectiveCharge is what a fault, or the background, took from an objective.
type ObjectiveCharge struct {
	Objective   string   `json:"objective"`
	Bad         int64    `json:"bad"`
	BudgetSpent *Decimal `json:"budget_spent"`
}

// ObjectiveResult is what became of an objective.
type ObjectiveResult struct {
	Name        string      `json:"name"`
	Path        string      `json:"path"`     // "" for all paths
	Metric      Metric      `json:"metric"`   // "" for ops
	Method      string      `json:"method"`   // "occurrences" or "timeslices"
	Events      string      `json:"events"`   // what is counted: "ops", "messages" or "slices"
	SliceUS     int64       `json:"slice_us"` // 0 without slices
	SliceTarget Decimal     `json:"slice_target"`
	WindowDays  int64       `json:"window_days"` // over which the budget is meant
	Target      Decimal     `json:"target"`      // required share of good events
	LatencyUS   int64       `json:"latency_us"`
	Good        int64       `json:"good"`
	Bad         int64       `json:"bad"`
	Total       int64       `json:"total"`
	BudgetSpent *Decimal    `json:"budget_spent"` // 1 is all of it; null if there is no budget
	Verdict     Verdict     `json:"verdict"`
	Alerts      []Alert     `json:"alerts"`     // on its burn rate, as they would have fired
	Projection  *Projection `json:"projection"` // null without events
}

// ErrorCount counts failed attempts that met the same error.
type ErrorCount struct {
	Class    string `json:"class"`
	MySQL    uint16 `json:"mysql"` // 0 for none
	NDB      uint16 `json:"ndb"`   // 0 for none
	Attempts int64  `json:"attempts"`
}

// GeneratorResult is the generator's own noise: the worst of the measured
// window. A minute is one of the window's; the last one has what is left after
// whole minutes.
type GeneratorResult struct {
	LagP999US       *int64   `json:"lag_p999_us"`        // of the whole run; null without a first op
	LagMinuteP999US *int64   `json:"lag_minute_p999_us"` // of the minute in which it was largest
	LagMinuteFromUS *int64   `json:"lag_minute_from_us"` // when that began
	SchedP999US     *int64   `json:"sched_p999_us"`      // of the worst second; null, as all that follow, without rows of counters that tell
	GCPauseMaxUS    *int64   `json:"gc_pause_max_us"`    // the longest one
	ClockStepUS     *int64   `json:"clock_step_us"`      // the largest one, either way
	Steal           *Decimal `json:"steal"`              // share of the worst minute
	StealFromUS     *int64   `json:"steal_from_us"`      // when that began
	CPUUSPerOp      *Decimal `json:"cpu_us_per_op"`      // null without two rows of counters
}

// Write writes run.json: the same bytes for the same run.
func (r *Run) Write(w io.Writer) error {
	b, err := marshalIndent(r)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// ReadRun reads run.json.
func ReadRun(r io.Reader) (*Run, error) {
	run := new(Run)
	if err := json.NewDecoder(r).Decode(run); err != nil {
		return nil, err
	}
	return run, nil
}

func marshalIndent(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
