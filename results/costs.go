package results

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/costs"
)

// CostsFile is what each decision costs, counted before the load. A recording
// lacks it whose target could not be asked, and one of an older version.
const CostsFile = "costs.jsonl"

// The bounds of the file.
const (
	maxCosts        = 1000 // decisions
	maxCostCounters = 200  // of a decision
	maxCostName     = 128  // bytes of the name of a decision or a counter
)

// CostRow is one line of costs.jsonl: what one decision costs.
type CostRow struct {
	Path        string           `json:"path"`
	Decision    string           `json:"decision"`
	Repetitions int64            `json:"repetitions"`
	Exact       map[string]int64 `json:"exact"`           // by counter: the same at each repetition
	Noisy       map[string]int64 `json:"noisy,omitempty"` // the largest of the repetitions
}

// CostResult is what one decision costs.
type CostResult struct {
	Repetitions int64            `json:"repetitions"`
	Exact       map[string]int64 `json:"exact"` // by counter: the same at each repetition
	Noisy       map[string]int64 `json:"noisy"` // by counter: the largest of the repetitions
}

// Costs keeps what decisions cost. It is called once at most.
func (r *Recording) Costs(found []costs.Cost) {
	path := filepath.Join(filepath.Dir(r.events.f.Name()), CostsFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		r.fail(err)
		return
	}
	l := &lines{f: f}
	for _, c := range found {
		r.fail(l.add(CostRow{c.Path.String(), c.Decision, int64(c.Repetitions), c.Exact, c.Noisy}))
	}
	r.fail(syncClose(f))
}

// Costs returns what decisions cost, in the order in which they were counted; none
// if nobody counted.
func (r *Reader) Costs() ([]CostRow, error) {
	if _, err := os.Lstat(filepath.Join(r.dir, CostsFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var rows []CostRow
	seen := map[[2]string]bool{}
	for row, err := range readLines[CostRow](r, CostsFile) {
		if err != nil {
			return nil, err
		}
		key := [2]string{row.Path, row.Decision}
		switch err = row.check(); {
		case err != nil:
		case seen[key]:
			err = fmt.Errorf("%s/%s is there twice", row.Path, row.Decision)
		case len(rows) == maxCosts:
			err = fmt.Errorf("there are more than %d decisions", maxCosts)
		}
		if err != nil {
			if r.gaveUp(CostsFile, err) {
				return nil, nil // it does not say what is true
			}
			return nil, fmt.Errorf("read recording: %s: %w", CostsFile, err)
		}
		seen[key] = true
		rows = append(rows, row)
	}
	return rows, nil
}

func (c *CostRow) check() error {
	known := slices.ContainsFunc(reference.Paths[:], func(p reference.Path) bool { return p.String() == c.Path })
	switch {
	case !known:
		return fmt.Errorf("path %q is none that there is", c.Path)
	case c.Decision == "" || len(c.Decision) > maxCostName:
		return fmt.Errorf("a decision of %s has a name of %d bytes, 1 to %d are possible", c.Path, len(c.Decision), maxCostName)
	case c.Repetitions < 1:
		return fmt.Errorf("%s/%s was counted %d times", c.Path, c.Decision, c.Repetitions)
	case len(c.Exact)+len(c.Noisy) == 0 || len(c.Exact)+len(c.Noisy) > maxCostCounters:
		return fmt.Errorf("%s/%s has %d counters, 1 to %d are possible", c.Path, c.Decision, len(c.Exact)+len(c.Noisy), maxCostCounters)
	}
	for _, counters := range []map[string]int64{c.Exact, c.Noisy} {
		for _, name := range slices.Sorted(maps.Keys(counters)) {
			_, both := c.Noisy[name]
			_, exact := c.Exact[name]
			switch n := counters[name]; {
			case name == "" || len(name) > maxCostName:
				return fmt.Errorf("%s/%s: a counter has a name of %d bytes, 1 to %d are possible", c.Path, c.Decision, len(name), maxCostName)
			case n < 0:
				return fmt.Errorf("%s/%s: %s is %d", c.Path, c.Decision, name, n)
			case both && exact:
				return fmt.Errorf("%s/%s: %s is both exact and noisy", c.Path, c.Decision, name)
			}
		}
	}
	return nil
}

// costResults are rows by path and decision.
func costResults(rows []CostRow) map[string]map[string]CostResult {
	found := map[string]map[string]CostResult{}
	for _, row := range rows {
		if found[row.Path] == nil {
			found[row.Path] = map[string]CostResult{}
		}
		result := CostResult{row.Repetitions, row.Exact, row.Noisy}
		for _, counters := range []*map[string]int64{&result.Exact, &result.Noisy} {
			if *counters == nil {
				*counters = map[string]int64{}
			}
		}
		found[row.Path][row.Decision] = result
	}
	return found
}

// CostTable is what decisions cost by "path/decision" and counter, and which of the
// counters are noisy, sorted.
func (r *Run) CostTable() (table map[string]map[string]int64, noisy []string) {
	table = map[string]map[string]int64{}
	names := map[string]bool{}
	for path, decisions := range r.Costs {
		for decision, c := range decisions {
			counters := maps.Clone(c.Exact)
			maps.Copy(counters, c.Noisy)
			table[path+"/"+decision] = counters
			for name := range c.Noisy {
				names[name] = true
			}
		}
	}
	return table, slices.Sorted(maps.Keys(names))
}
