package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/results"
)

// FaultTable makes the faults of a scenario, each as often as the scenario
// repeats it, and keeps a row of each repetition. What has its rows already is not
// made again: whatever ends a table, it goes on from there.
type FaultTable struct {
	Conductor        // Dir is where the runs are written, each in a folder of its own
	Rows      string // file of the rows

	// Longest is how long the load of one run may last.
	Longest time.Duration
	// MostFailures is how many repetitions of a fault may fail before it is left
	// alone, in all runs of the table.
	MostFailures int
	// Quiet makes repetitions again that were made while the generator was disturbed.
	Quiet bool
}

// tableFault is a fault of a table, with those that are made during it.
type tableFault struct {
	label string
	specs []FaultSpec
	want  int
}

// Perform makes what is missing, in runs of a bounded length. It returns nil when every fault has its rows, was refused, or has failed
// too often.
func (t *FaultTable) Perform(ctx context.Context, s *Scenario) error {
	if s.external() {
		return &InputError{Msg: fmt.Sprintf("the cluster of scenario %s is external: a fault table is made on clusters of the harness's own", s.Name)}
	}
	if s.Workload.Trace != "" {
		return &InputError{Msg: fmt.Sprintf("scenario %s replays a trace file: a fault table repeats its load, which is generated", s.Name)}
	}
	if err := os.MkdirAll(filepath.Dir(t.Rows), 0o755); err != nil {
		return fmt.Errorf("make the folder of a fault table's rows: %w", err)
	}
	asked := false
	for {
		rows, err := results.ReadFaultRows(t.Rows)
		if err != nil {
			return err
		}
		missing := t.missing(s, rows)
		if len(missing) == 0 {
			return nil
		}
		if !asked {
			refused, err := t.refused(ctx, s, missing)
			if err := errors.Join(err, results.AppendFaultRows(t.Rows, refused)); err != nil {
				return err
			}
			asked = true
			continue
		}
		made, err := t.turn(ctx, s, missing, rows)
		if err != nil {
			return err
		}
		if made == 0 {
			return fmt.Errorf("no fault of scenario %s was made by the last run; its directory in %s says why", s.Name, t.Dir)
		}
	}
}

// tableFaults are the faults of a scenario as a table has them.
func (s *Scenario) tableFaults() []tableFault {
	var all []tableFault
	for _, f := range s.Faults {
		if f.During != "" && len(all) > 0 {
			last := &all[len(all)-1]
			last.specs = append(last.specs, f)
			last.label += " + " + faultLabel(f)
			continue
		}
		all = append(all, tableFault{label: faultLabel(f), specs: []FaultSpec{f}, want: f.Repeat})
	}
	return all
}

// faultLabel words a fault in one line: its kind, its target and its settings.
func faultLabel(f FaultSpec) string {
	words := []string{string(f.Kind) + " " + f.Target}
	for _, s := range faultSettings() {
		if s.set(f.Settings) {
			words = append(words, s.key+" "+s.tie(&f.Settings).Write().Inline())
		}
	}
	return strings.Join(words, ", ")
}

// missing says how often each fault is still to be made. Those that failed stand
// at the end, as a cluster that does not come back ends a run.
func (t *FaultTable) missing(s *Scenario, rows []results.FaultRow) []tableFault {
	var missing []tableFault
	failures := map[string]int{}
	for _, f := range s.tableFaults() {
		refused := false
		for _, row := range rows {
			switch {
			case row.Scenario != s.Name || row.Fault != f.label:
			case row.Refused != "":
				refused = true
			case row.Good():
				if !t.Quiet || len(row.Disturbed) == 0 {
					f.want--
				}
			default:
				failures[f.label]++
			}
		}
		if f.want > 0 && !refused && failures[f.label] < t.MostFailures {
			missing = append(missing, f)
		}
	}
	slices.SortStableFunc(missing, func(a, b tableFault) int { return failures[a.label] - failures[b.label] })
	return missing
}

const (
	tableGap = 5 * time.Second // from the redundancy after a fault to the next
	// tableRecovery is what a fault is taken to need beside its hold when a run is
	// filled: too much makes more runs, too little leaves faults for the next.
	tableRecovery = 50 * time.Second
)

// batch is a scenario of as many of the missing faults as a load has room for
// that is no longer than longest.
func (s *Scenario) batch(missing []tableFault, seed uint64, longest time.Duration) *Scenario {
	one := *s
	one.Seed, one.Workload.End = seed, EndWithFaults
	one.Workload.Duration = min(s.Workload.Duration, longest)
	one.Faults = nil
	room := one.Workload.Duration
	for _, f := range missing {
		head := f.specs[0]
		each := tableGap + head.Settle + head.Jitter + head.Hold + tableRecovery
		for _, during := range f.specs[1:] {
			each += during.At + during.Hold
		}
		times := min(f.want, int(room/each))
		if times < 1 {
			continue
		}
		room -= time.Duration(times) * each
		add := func(repeat int, after string) {
			head.Repeat, head.At, head.Every, head.After = repeat, tableGap, tableGap, after
			if repeat == 1 {
				head.Every = 0
			}
			one.Faults = append(one.Faults, head)
			one.Faults = append(one.Faults, f.specs[1:]...)
		}
		// Nothing is before the first; all others count from redundancy, or their
		// jitter would be lost in the wait for it.
		if len(one.Faults) == 0 {
			add(1, "")
			times--
		}
		if times > 0 {
			add(times, chaos.AfterRedundant)
		}
	}
	return &one
}

// turn performs one run and keeps its rows. It returns how many it kept.
func (t *FaultTable) turn(ctx context.Context, s *Scenario, missing []tableFault, rows []results.FaultRow) (int, error) {
	runs := map[string]bool{}
	for _, row := range rows {
		runs[row.RunID] = true
	}
	// Repetitions of different runs draw different times.
	one := s.batch(missing, s.Seed+uint64(len(runs)), t.Longest)
	if len(one.Faults) == 0 {
		return 0, &InputError{Msg: fmt.Sprintf("scenario %s: a load of %s has no room for one fault", s.Name, formatDuration(one.Workload.Duration))}
	}
	plan, err := NewPlan(ctx, one)
	if err != nil {
		return 0, err
	}
	defer plan.Close() // only read
	c := t.Conductor
	c.Dir = filepath.Join(t.Dir, fmt.Sprintf("%s-%s", s.Name, time.Now().UTC().Format("20060102-150405")))
	run, runErr := c.Run(ctx, plan)
	if run == nil {
		return 0, runErr
	}
	reader, err := results.Open(c.Dir)
	if err != nil {
		return 0, errors.Join(runErr, err)
	}
	kept := results.FaultRows(run, reader.Manifest(), tableLabels(one, plan.Faults))
	if ctx.Err() != nil { // what an interrupt cut off is no failure
		kept = slices.DeleteFunc(kept, func(row results.FaultRow) bool { return !row.Good() })
	}
	if err := results.AppendFaultRows(t.Rows, kept); err != nil {
		return 0, errors.Join(runErr, err)
	}
	c.say("table: %d rows more in %s", len(kept), t.Rows)
	if errors.Is(runErr, chaos.ErrUnhealed) {
		runErr = nil // the row says so, and the cluster is gone
	}
	return len(kept), runErr
}

// tableLabels returns what names the row of a planned fault: of those that are in
// effect together the last, which all ops are charged to that meet it.
func tableLabels(s *Scenario, plan chaos.Plan) func(id string) string {
	bySpec := map[int]string{}
	spec := 0
	for _, f := range s.tableFaults() {
		spec += len(f.specs)
		bySpec[spec-1] = f.label
	}
	byID := map[string]string{}
	for _, p := range plan.Steps {
		byID[p.ID] = bySpec[p.Spec]
	}
	return func(id string) string { return byID[id] }
}

// Rejudge makes the rows of the runs of a scenario anew whose recordings are still
// in Dir. Rows whose recordings are gone stay as they are.
func (t *FaultTable) Rejudge(s *Scenario) error {
	rows, err := results.ReadFaultRows(t.Rows)
	if err != nil {
		return err
	}
	folders, err := filepath.Glob(filepath.Join(t.Dir, s.Name+"-*", results.ManifestFile))
	if err != nil {
		return fmt.Errorf("find the runs of scenario %s in %s: %w", s.Name, t.Dir, err)
	}
	for _, manifest := range folders { // in the order of their times
		made, err := judgedAgain(filepath.Dir(manifest))
		if err != nil {
			return err
		}
		rows = replaceRows(rows, made)
	}
	return results.WriteFaultRows(t.Rows, rows)
}

// judgedAgain are the rows of a recording of a fault table.
func judgedAgain(dir string) ([]results.FaultRow, error) {
	reader, err := results.Open(dir)
	if err != nil {
		return nil, err
	}
	run, err := results.Judge(reader)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, results.ScenarioFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the scenario of a run: %w", err)
	}
	one, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	t, err := one.Topology()
	if err != nil {
		return nil, err
	}
	plan, err := one.faultPlan(t)
	if err != nil {
		return nil, err
	}
	if sum := plan.SHA256(); sum != run.Plan.SHA256 {
		return nil, fmt.Errorf("%s: this program makes another fault plan of its scenario: judge it with the one that wrote it", dir)
	}
	made := results.FaultRows(run, reader.Manifest(), tableLabels(one, plan))
	if run.End == nil || run.End.Reason == results.Interrupted {
		made = slices.DeleteFunc(made, func(row results.FaultRow) bool { return !row.Good() })
	}
	return made, nil
}

// replaceRows puts rows of a run where its rows stand, or at the end.
func replaceRows(rows, made []results.FaultRow) []results.FaultRow {
	if len(made) == 0 {
		return rows
	}
	ofRun := func(row results.FaultRow) bool { return row.RunID == made[0].RunID }
	at := slices.IndexFunc(rows, ofRun)
	if at < 0 {
		at = len(rows)
	}
	return slices.Insert(slices.DeleteFunc(rows, ofRun), at, made...)
}

// refused asks of each fault whether it can be made here.
func (t *FaultTable) refused(ctx context.Context, s *Scenario, missing []tableFault) ([]results.FaultRow, error) {
	docker, err := engine.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer docker.Close()
	found, err := FindImage(ctx, docker, t.Image, t.Progress, t.Style == Live)
	if err != nil {
		return nil, err
	}
	var rows []results.FaultRow
	for _, f := range missing {
		f.want = 1
		plan, err := NewPlan(ctx, s.batch([]tableFault{f}, s.Seed, s.Workload.Duration))
		if err != nil {
			return nil, err
		}
		var check *CheckError
		target, err := plan.contained(docker, runID("check"), found.ID, "", false, nil)
		if err == nil {
			err = plan.checkFaults(ctx, target)
		}
		err = errors.Join(err, plan.Close())
		switch {
		case errors.As(err, &check):
			t.say("table: %s: %v", f.label, check.Err)
			rows = append(rows, results.FaultRow{Schema: results.FaultRowSchema, Scenario: s.Name, Fault: f.label, Refused: check.Err.Error()})
		case err != nil:
			return nil, err
		}
	}
	return rows, nil
}

// WriteFaultTable writes what rows come to as tables in Markdown: what each fault
// cost, and what failing over to another SQL node cost routing.
func WriteFaultTable(w io.Writer, rows []results.FaultRow) error {
	var b strings.Builder
	all := results.SummarizeFaults(rows)
	b.WriteString(`| fault | n | counted as failed after | first client error after | outage | partial | redundant after | bad ops | errors seen, MySQL/NDB |
|---|---|---|---|---|---|---|---|---|
`)
	for _, f := range all {
		if f.Refused != "" {
			fmt.Fprintf(&b, "| `%s` | 0 | not made: %s | | | | | | |\n", f.Fault, strings.ReplaceAll(f.Refused, "|", "\\|"))
			continue
		}
		n := fmt.Sprint(f.Good)
		if f.Disturbed > 0 {
			n += fmt.Sprintf(" (%d disturbed)", f.Disturbed)
		}
		if len(f.Failed) > 0 {
			n += fmt.Sprintf("; not counted: %d, as it %s", len(f.Failed), strings.Join(distinct(f.Failed), "; or "))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s | %s |\n", f.Fault, n,
			secondsSpread(f.DetectCluster), secondsSpread(f.DetectClients), secondsSpread(f.Outage), secondsSpread(f.Partial),
			secondsSpread(f.Redundant), countSpread(f.BadOps), codes(f.Errors))
	}
	b.WriteString(`
| fault | routing ops charged | failed for good | failed over | extra median | longest |
|---|---|---|---|---|---|
`)
	for _, f := range all {
		if f.Routing.FailedOver == 0 {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %d | %s | %.3f s |\n", f.Fault, f.Routing.Ops, f.Routing.Bad, f.Routing.FailedOver,
			secondsSpread(f.Routing.Extra), float64(f.Routing.Longest)/1e6)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func distinct(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

// secondsSpread writes median / p95 / max of microseconds.
func secondsSpread(s *results.Spread) string {
	if s == nil {
		return ""
	}
	if s.Max == 0 {
		return "none"
	}
	one := func(us int64) string {
		seconds := float64(us) / 1e6
		decimals := 3 - int(max(1, math.Ceil(math.Log10(max(seconds, 0.001)))))
		text := fmt.Sprintf("%.*f", max(0, decimals), seconds)
		if strings.Trim(text, "-0.") == "" {
			text = strings.TrimPrefix(text, "-") // it is rounded to zero
		}
		return text
	}
	return fmt.Sprintf("%s / %s / %s s", one(s.Median), one(s.P95), one(s.Max))
}

func countSpread(s *results.Spread) string {
	switch {
	case s == nil:
		return ""
	case s.Max == 0:
		return "0"
	default:
		return fmt.Sprintf("%d / %d / %d", s.Median, s.P95, s.Max)
	}
}

// codes lists errors by their numbers, the most frequent first.
func codes(errors []results.ErrorCount) string {
	var words []string
	number := func(n uint16) string {
		if n == 0 {
			return "–"
		}
		return fmt.Sprint(n)
	}
	for _, e := range errors {
		word := number(e.MySQL) + "/" + number(e.NDB)
		if e.MySQL == 0 && e.NDB == 0 {
			word = e.Class
		}
		words = append(words, fmt.Sprintf("%s ×%d", word, e.Attempts))
	}
	return strings.Join(words, ", ")
}
