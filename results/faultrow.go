package results

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
)

// FaultRowSchema names the layout of a row of a fault table.
const FaultRowSchema = "mailbench.fault_row/v1"

// FaultRow is one repetition of a fault, or why there can be none: a line of the
// file that a fault table is made of.
type FaultRow struct {
	Schema   string `json:"schema"`
	Scenario string `json:"scenario"`
	Fault    string `json:"fault"` // as the scenario asks for it, in one line

	// Refused says why the fault cannot be made on this machine, "" if it can.
	// There is nothing else in the row then.
	Refused string `json:"refused,omitempty"`

	RunID     string            `json:"run_id,omitempty"`
	Seed      uint64            `json:"seed,omitempty"`
	Anchor    time.Time         `json:"anchor,omitzero"` // of the run
	Version   map[string]string `json:"version,omitempty"`
	Host      map[string]string `json:"host,omitempty"`
	Offered   *Decimal          `json:"offered_per_second,omitempty"` // messages, over the whole run
	Calm      *Latency          `json:"calm_routing_us,omitempty"`    // service time of routing in the run while no fault was
	Disturbed []string          `json:"disturbed,omitempty"`          // how the generator of the run was
	Failed    string            `json:"failed,omitempty"`             // which step did not come about
	Result    *FaultResult      `json:"result,omitempty"`
}

// Good says whether the row is of a fault that went through all its steps.
func (r *FaultRow) Good() bool { return r.Refused == "" && r.Failed == "" && r.Result != nil }

// FaultRows makes the rows of a judged run. Label names the fault that a planned
// fault's id stands for, "" for one that is no row of its own. A fault that was
// made when there was no load is none.
func FaultRows(run *Run, m Manifest, label func(id string) string) []FaultRow {
	var rows []FaultRow
	for _, f := range run.Faults {
		f = brief(f)
		name := label(f.ID)
		if name == "" || run.MeasuredToUS == nil || f.InjectedAtUS != nil && *f.InjectedAtUS >= *run.MeasuredToUS {
			continue
		}
		if f.InjectedAtUS == nil && (f.Failure == "" || strings.HasPrefix(f.Failure, chaos.NotInjected)) {
			continue // its turn did not come
		}
		row := FaultRow{
			Schema: FaultRowSchema, Scenario: run.Scenario, Fault: name, RunID: run.RunID, Seed: run.Seed,
			Anchor: m.Anchor, Version: run.Version, Host: run.Host, Offered: run.OfferedPerSecond,
			Calm: run.Paths["routing"].CalmUS, Disturbed: run.Generator.complaints(m.Bounds), Result: &f,
		}
		switch {
		case f.InjectedAtUS == nil:
			row.Failed = "could not be made"
		case f.EffectiveAtUS == nil:
			row.Failed = "was not seen to take effect"
		case f.RecoveredAtUS == nil:
			row.Failed = "did not recover"
		case f.RedundantAtUS == nil:
			row.Failed = "did not become redundant again"
		case *f.RedundantAtUS > *run.MeasuredToUS:
			row.Failed = "was not over when the load ended"
		}
		rows = append(rows, row)
	}
	return rows
}

// brief is what a table needs of a fault; the rest stays in run.json.
func brief(f FaultResult) FaultResult {
	f.Anatomy, f.ToObjective = nil, nil
	paths := map[string]FaultPath{}
	for name, p := range f.Paths {
		p.Nodes = nil
		paths[name] = p
	}
	f.Paths = paths
	return f
}

// ReadFaultRows reads the rows of a file; none if there is no such file. Errors
// name the line.
func ReadFaultRows(path string) ([]FaultRow, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the rows of a fault table: %w", err)
	}
	defer f.Close()
	var rows []FaultRow
	lines := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return rows, nil
		case err == io.EOF:
			return nil, fmt.Errorf("%s:%d: the line has no end: it was cut off; remove it", path, n)
		case err != nil:
			return nil, fmt.Errorf("read the rows of a fault table: %w", err)
		}
		var row FaultRow
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, fmt.Errorf("%s:%d: not a row of a fault table: %w", path, n, err)
		}
		if row.Schema != FaultRowSchema {
			return nil, fmt.Errorf("%s:%d: schema is %q, want %q", path, n, row.Schema, FaultRowSchema)
		}
		rows = append(rows, row)
	}
}

// WriteFaultRows writes a file of rows anew. A reader sees the old rows or the new.
func WriteFaultRows(path string, rows []FaultRow) error {
	err := ReplaceFile(path, func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the rows of a fault table: %w", err)
	}
	return nil
}

// AppendFaultRows adds rows to a file, and makes it if need be.
func AppendFaultRows(path string, rows []FaultRow) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write the rows of a fault table: %w", err)
	}
	out := &lines{f: f}
	for _, row := range rows {
		if err = out.add(row); err != nil {
			break
		}
	}
	return errors.Join(err, syncClose(f))
}

// FaultSummary is a line of a fault table: what repetitions of one fault came to.
// Times are microseconds; a spread is nil if there is nothing that it is of.
type FaultSummary struct {
	Scenario, Fault string
	Refused         string
	Good            int      // repetitions that count
	Failed          []string // why others do not
	Disturbed       int      // of those that count, in a run whose generator was disturbed

	DetectCluster, DetectClients, Outage, Partial, Redundant *Spread
	BadOps                                                   *Spread
	Errors                                                   []ErrorCount
	Routing                                                  FailOver
}

// FailOver is what became of the ops of a path that met a fault.
type FailOver struct {
	Ops, Bad, FailedOver int64
	Extra                *Spread // by how much the median service time of those that failed over was above that of calm times
	Longest              int64   // the longest service time of one that failed over
}

// enoughQuiet is how many repetitions without a disturbed generator make those
// with one superfluous.
const enoughQuiet = 5

// SummarizeFaults sums rows up, a line a fault, in the order in which the rows
// first name them. Of a fault with at least 5 repetitions in runs whose generator
// was not disturbed only these count: a busy machine makes everything late.
func SummarizeFaults(rows []FaultRow) []FaultSummary {
	var order []string
	byFault := map[string][]FaultRow{}
	for _, row := range rows {
		key := row.Scenario + "\x00" + row.Fault
		if byFault[key] == nil {
			order = append(order, key)
		}
		byFault[key] = append(byFault[key], row)
	}
	var all []FaultSummary
	for _, key := range order {
		all = append(all, summarizeFault(byFault[key]))
	}
	return all
}

func summarizeFault(rows []FaultRow) FaultSummary {
	disturbed := func(row FaultRow) bool { return row.Good() && len(row.Disturbed) > 0 }
	quiet := 0
	for _, row := range rows {
		if row.Good() && !disturbed(row) {
			quiet++
		}
	}
	if quiet >= enoughQuiet {
		rows = slices.DeleteFunc(slices.Clone(rows), disturbed)
	}
	s := FaultSummary{Scenario: rows[0].Scenario, Fault: rows[0].Fault}
	var cluster, clients, outage, partial, redundant, bad, extra []int64
	met := map[ErrorCount]int64{} // by what they are, with no attempts
	put := func(list *[]int64, value *int64) {
		if value != nil {
			*list = append(*list, *value)
		}
	}
	for _, row := range rows {
		if row.Refused != "" {
			s.Refused = row.Refused
			continue
		}
		if !row.Good() {
			s.Failed = append(s.Failed, row.Failed)
			continue
		}
		s.Good++
		if len(row.Disturbed) > 0 {
			s.Disturbed++
		}
		f := row.Result
		put(&cluster, f.Spans.DetectCluster)
		put(&clients, f.Spans.DetectClients)
		put(&outage, f.Worst(func(o OutageSpans) *int64 { return o.Longest }))
		put(&partial, f.Worst(func(o OutageSpans) *int64 { return o.PartialOutage }))
		put(&redundant, f.Spans.Redundant)
		bad = append(bad, f.BadOps)
		routing := f.Paths["routing"]
		s.Routing.Ops += routing.Ops
		s.Routing.Bad += routing.BadOps
		s.Routing.FailedOver += routing.FailedOver
		if routing.FailedOverUS != nil && row.Calm != nil {
			extra = append(extra, routing.FailedOverUS.P50-row.Calm.P50)
			s.Routing.Longest = max(s.Routing.Longest, routing.FailedOverUS.Max)
		}
		for _, e := range f.Errors {
			n := e.Attempts
			e.Attempts = 0
			met[e] += n
		}
	}
	if s.Good > 0 {
		s.Refused = "" // what another machine refused was made here
	}
	s.DetectCluster, s.DetectClients, s.Outage, s.Partial = SpreadOf(cluster), SpreadOf(clients), SpreadOf(outage), SpreadOf(partial)
	s.Redundant, s.BadOps, s.Routing.Extra = SpreadOf(redundant), SpreadOf(bad), SpreadOf(extra)
	for e, n := range met {
		e.Attempts = n
		s.Errors = append(s.Errors, e)
	}
	sortErrors(s.Errors)
	return s
}
