// Package gate says whether a system got worse. It compares a run, or repetitions
// of one, with a baseline that was committed before, by what cannot depend on the
// machine first; or a candidate with a base that was recorded in turn with it on
// one machine, by latencies too.
package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/internal/strictjson"
)

// BaselineSchema names the layout of a baseline.
const BaselineSchema = "mailbench.baseline/v1"

// maxFile bounds a file that is read, in bytes.
const maxFile = 8 << 20

// Baseline is what runs are compared with: what was found in one run or in
// repetitions of it, and what must be the same for a comparison to mean anything.
type Baseline struct {
	Schema   string            `json:"schema"`
	Scenario string            `json:"scenario"`
	Seed     uint64            `json:"seed"`
	Speed    int               `json:"speed"`
	Window   results.Window    `json:"window"`
	Trace    string            `json:"trace_sha256"`
	Plan     string            `json:"plan_sha256"`
	Topology topology.Topology `json:"topology"`
	// Environment bears on latencies only: a comparison of those with another is
	// left out, and says so.
	Environment map[string]string `json:"environment"`
	Costs       compare.Costs     `json:"costs"` // by decision and counter; none if a run was not probed
	// Noisy are the counters that were not the same at each repetition of the probe.
	Noisy []string `json:"noisy"`
	Runs  []Run    `json:"runs"`
}

// Run is one run of a baseline.
type Run struct {
	RunID   string             `json:"run_id"`
	Faults  []Fault            `json:"faults"`
	Latency map[string]Latency `json:"latency"` // by path, of calm ops
}

// Fault is what one fault cost.
type Fault struct {
	Kind     string `json:"kind"` // and its target: "kill data2"
	OutageUS int64  `json:"outage_us"`
	BadOps   int64  `json:"bad_ops"`
}

// Latency is the service time of ops that no fault is charged with and that were
// answered at the first attempt, in microseconds.
type Latency struct {
	Ops int64 `json:"ops"`
	P50 int64 `json:"p50_us"`
	P90 int64 `json:"p90_us"`
	P99 int64 `json:"p99_us"`
}

// Measured is one run as it is compared.
type Measured struct {
	Manifest results.Manifest
	Run      *results.Run
}

// NewBaseline makes a baseline of repetitions of one run. The error names what
// they do not have in common, or why one is of no use.
func NewBaseline(runs []Measured) (*Baseline, error) {
	if len(runs) == 0 {
		return nil, errors.New("a baseline is made of one run at least")
	}
	var b *Baseline
	for _, m := range runs {
		if len(m.Run.Reasons) > 0 {
			return nil, &UnfitError{fmt.Sprintf("run %s is inconclusive and makes no baseline: %s", m.Run.RunID, m.Run.Reasons[0])}
		}
		if m.Run.Verdict == results.DataLoss {
			return nil, &UnfitError{fmt.Sprintf("run %s lost data and makes no baseline", m.Run.RunID)}
		}
		one := of(m)
		if b == nil {
			b = one
			continue
		}
		if differences := b.differences(one); len(differences) > 0 {
			return nil, &UnfitError{fmt.Sprintf("run %s is no repetition of %s: %s", m.Run.RunID, b.Runs[0].RunID, strings.Join(differences, "; "))}
		}
		changes, err := b.CompareCosts(one.Costs, one.Noisy)
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			if c.Change != compare.Same && c.Change != compare.Tolerated && c.Verdict != compare.NoDifference {
				return nil, &UnfitError{fmt.Sprintf("%s of %s is %d in run %s and %d in run %s: what an op costs is not the same in both",
					c.Counter, c.Decision, c.Base, b.Runs[0].RunID, c.Candidate, m.Run.RunID)}
			}
		}
		b.Runs = append(b.Runs, one.Runs...)
	}
	return b, nil
}

// UnfitError says why something cannot be compared.
type UnfitError struct{ Msg string }

func (e *UnfitError) Error() string { return e.Msg }

// of is the baseline of one run.
func of(m Measured) *Baseline {
	b := &Baseline{
		Schema: BaselineSchema, Scenario: m.Run.Scenario, Seed: m.Run.Seed, Speed: m.Run.Speed, Window: m.Manifest.Window, Topology: m.Manifest.Topology,
		Trace: m.Run.Trace.SHA256, Plan: m.Run.Plan.SHA256, Environment: environment(m),
	}
	b.Costs, b.Noisy = m.Run.CostTable()
	r := Run{RunID: m.Run.RunID, Faults: []Fault{}, Latency: map[string]Latency{}}
	for i := range m.Run.Faults {
		f := &m.Run.Faults[i]
		r.Faults = append(r.Faults, Fault{Kind: f.Kind + " " + f.Target, OutageUS: outage(f), BadOps: f.BadOps})
	}
	for path, p := range m.Run.Paths {
		if p.CalmUS != nil {
			r.Latency[path] = Latency{Ops: p.OK, P50: p.CalmUS.P50, P90: p.CalmUS.P90, P99: p.CalmUS.P99}
		}
	}
	b.Runs = []Run{r}
	return b
}

// How far a noisy counter may go up: by one, as a wait for a scan's answer may or
// may not be merged with the next one's.
const tolerance = 1

func tolerances(a, b []string) map[string]compare.Tolerance {
	all := map[string]compare.Tolerance{}
	for _, name := range slices.Concat(a, b) {
		all[name] = compare.Tolerance{Absolute: tolerance}
	}
	return all
}

// outage is what the path that suffered longest felt, whole or in part.
func outage(f *results.FaultResult) int64 {
	worst := f.Worst(func(s results.OutageSpans) *int64 {
		if s.FullOutage == nil || s.PartialOutage == nil {
			return nil
		}
		return new(*s.FullOutage + *s.PartialOutage)
	})
	if worst == nil {
		return 0
	}
	return *worst
}

// environment is what bears on speed.
func environment(m Measured) map[string]string {
	e := map[string]string{"image": m.Run.Image.ID}
	for _, name := range []string{"os", "arch", "cpus", "cpu", "memory_mib", "kernel"} {
		if fact := m.Run.Host[name]; fact != "" {
			e[name] = fact
		}
	}
	if engine := m.Run.Version["engine"]; engine != "" {
		e["engine"] = engine
	}
	return e
}

// differences name what keeps two from being compared: field, base, other.
func (b *Baseline) differences(other *Baseline) []string {
	var all []string
	differ := func(what string, x, y any) {
		if fmt.Sprint(x) != fmt.Sprint(y) {
			all = append(all, fmt.Sprintf("%s is %v, was %v", what, y, x))
		}
	}
	differ("scenario", b.Scenario, other.Scenario)
	differ("seed", b.Seed, other.Seed)
	differ("speed", b.Speed, other.Speed)
	differ("the window's begin (s)", b.Window.FromSeconds, other.Window.FromSeconds)
	differ("the window's duration (s)", b.Window.DurationSeconds, other.Window.DurationSeconds)
	differ("replicas", b.Topology.Replicas, other.Topology.Replicas)
	differ("the nodes", names(b.Topology), names(other.Topology))
	differ("the limits of nodes", b.Topology.Limits, other.Topology.Limits)
	differ("the configuration of data nodes", b.Topology.DataNode, other.Topology.DataNode)
	differ("the configuration of SQL nodes", b.Topology.SQLServer, other.Topology.SQLServer)
	if len(all) == 0 { // else they say it already
		differ("the trace's SHA-256", b.Trace, other.Trace)
		differ("the fault plan's SHA-256", b.Plan, other.Plan)
	}
	return all
}

// names are a topology's nodes with their hosts and node groups.
func names(t topology.Topology) string {
	var all []string
	for _, n := range t.Nodes {
		text := n.Name + " on " + n.Host
		if n.Role == topology.Data {
			text += fmt.Sprintf(" (group %d)", n.Group)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// Write puts a baseline into a file, which it replaces.
func (b *Baseline) Write(path string) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("encode a baseline: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write a baseline: %w", err)
	}
	return results.ReplaceFile(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// ReadBaseline reads one.
func ReadBaseline(path string) (*Baseline, error) {
	b := new(Baseline)
	err := readStrict(path, BaselineSchema, "there is none; write it with gate RUN --update NAME", b)
	if err == nil && len(b.Runs) == 0 {
		err = errors.New("it holds no run")
	}
	if err != nil {
		return nil, &UnfitError{fmt.Sprintf("baseline %s: %v", path, err)}
	}
	return b, nil
}

// readStrict reads a file of JSON that may hold nothing but what into has; missing
// is what to say if there is no file.
func readStrict(path, schema, missing string, into any) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New(missing)
	case err != nil:
		return err
	case info.Size() > maxFile:
		return fmt.Errorf("more than %d bytes", maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return strictjson.Decode(text, schema, into)
}

// faults are the costs of each kind of fault over all runs.
func (b *Baseline) faults() map[string][]compare.FaultCost {
	all := map[string][]compare.FaultCost{}
	for _, r := range b.Runs {
		for _, f := range r.Faults {
			all[f.Kind] = append(all[f.Kind], compare.FaultCost{OutageUS: f.OutageUS, BadOps: f.BadOps})
		}
	}
	return all
}

// Diff says what a baseline changes of an older one, a line each, for a review.
func (b *Baseline) Diff(old *Baseline) []string {
	lines := old.differences(b)
	for _, name := range slices.Sorted(maps.Keys(b.Environment)) {
		if b.Environment[name] != old.Environment[name] {
			lines = append(lines, fmt.Sprintf("environment %s: %q, was %q", name, b.Environment[name], old.Environment[name]))
		}
	}
	changes, err := old.CompareCosts(b.Costs, b.Noisy)
	if err != nil {
		return append(lines, err.Error())
	}
	for _, c := range changes {
		if c.Change != compare.Same {
			lines = append(lines, fmt.Sprintf("%s of %s: %d, was %d (%s)", c.Counter, c.Decision, c.Candidate, c.Base, c.Change))
		}
	}
	if len(b.Runs) != len(old.Runs) {
		lines = append(lines, fmt.Sprintf("runs: %d, were %d", len(b.Runs), len(old.Runs)))
	}
	return lines
}
