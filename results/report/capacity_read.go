package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/results/usl"
)

// uslLines is how many points the line of a fitted curve has.
const uslLines = 60

// IsSearch says whether a directory holds a search for a capacity, or searches of
// variants of it.
func IsSearch(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, capacity.SearchFile)); err == nil {
		return true
	}
	variants, err := capacity.Variants(dir)
	return err == nil && len(variants) > 0
}

// CapacityFound is what a directory of searches holds.
type CapacityFound struct {
	Results []*capacity.Result // what stands for the directory, and then the others
	CapacityExtras
}

// Capacity judges the search in dir anew, with the searches of variants that are below
// it, and writes capacity.json and the report beside it. Where dir has only variants,
// one of them stands for it: that of the NDB cluster, else that of the fewest nodes.
func Capacity(dir string) (*CapacityFound, error) {
	variants, err := variantsOf(dir)
	if err != nil {
		return nil, err
	}
	r, err := capacity.Judge(dir)
	standing := ""
	if errors.Is(err, os.ErrNotExist) && len(variants) > 0 { // there is nothing but variants
		v := variants[standsFor(variants)]
		r, err, standing = v.Result, nil, v.Dir()
	}
	if err != nil {
		return nil, err
	}
	found := &CapacityFound{Results: []*capacity.Result{r}}
	for _, v := range variants {
		if v.Result != r {
			found.Results = append(found.Results, v.Result)
		}
	}
	found.CapacityExtras = extrasOf(r, variants)
	x := &found.CapacityExtras
	x.Deaths = deathsOf(dir, variants)
	if x.Dir = standing; standing != "" { // the last has the command that knows of all
		x.Command = variants[len(variants)-1].Result.Search.Command + " --out DIR"
	}
	switch forecast, err := memory.Read(dir); {
	case err != nil: // what was searched is told all the same
		x.Memory = &CapacityPart{Words: []string{sentence("the forecast of memory beside it cannot be read: " + strings.TrimSuffix(err.Error(), "."))}}
	case forecast != nil:
		x.Memory, x.forecast = memoryPart(forecast), forecast
	}
	return found, WriteCapacity(dir, r, *x)
}

// memoryPart draws a forecast of memory.
func memoryPart(f *memory.Forecast) *CapacityPart {
	c, m, redo := f.Cluster, f.Maintenance, f.Redo
	p := &CapacityPart{Words: []string{
		f.Sentence(),
		fmt.Sprintf("Simulated: scenario %s with seed %d, %d days of %s messages a day for %s accounts, on %d data nodes with %s of DataMemory each and every row %d times; row sizes are %s.",
			f.Scenario, f.Seed, len(f.Days), count(f.MessagesPerDay), count(int64(f.Accounts)), c.DataNodes, mebibytes(c.DataMemory), c.Replicas, f.Basis),
		fmt.Sprintf("Maintenance must delete %s rows a day to hold the line, on the day of most %s, which is %s an hour.", count(m.ExpiredPerDay), count(m.MostPerDay), count(m.PerHour)),
		fmt.Sprintf("The busiest hour writes %s of redo log on a data node, and %s are there: %d minutes of it. A local checkpoint covers %s and may take half of that.",
			mebibytes(redo.PeakPerHour), mebibytes(redo.Usable), redo.Holds/60, mebibytes(redo.CheckpointBytes)),
	}}
	used := CapacityCurve{Title: "Memory of a data node", N: "day", X: "MiB in use", LineIs: "simulated", Limit: float64(c.DataMemory / 100 * (100 - c.ReservePercent) >> 20), LimitName: "DataMemory less what is kept back"}
	for _, d := range f.Days {
		used.Line = append(used.Line, CapacityLine{N: float64(d.Day), X: float64(d.Used >> 20)})
	}
	p.Curves = []CapacityCurve{used}
	sizes := CapacityTable{Title: "Bytes a row, of one replica", Left: 1, Head: []string{"table", "computed", "measured", "difference"}}
	for _, row := range f.Rows {
		measured, difference := "-", "-"
		if row.Measured != nil {
			measured, difference = fmt.Sprintf("%.1f", float64(*row.Measured)/1000), fmt.Sprintf("%+.1f %%", float64(*row.Difference)/10_000)
		}
		sizes.Rows = append(sizes.Rows, []string{row.Table, fmt.Sprintf("%.1f", float64(row.Computed)/1000), measured, difference})
	}
	talk := CapacityTable{Title: "What a few hundred MiB hold, on each of ten data nodes", Left: 1, Head: []string{"memory", "greylist rows", "full"},
		Notes: []string{"A few hundred MiB on each of ten machines is the figure of the talk that this design is from."}}
	for _, h := range f.Talk {
		full := fmt.Sprintf("not in %d days", len(f.Days))
		if h.Fill.Full {
			full = fmt.Sprintf("day %d", *h.Fill.Day)
		}
		talk.Rows = append(talk.Rows, []string{fmt.Sprintf("%d MiB", h.MiB), count(h.Rows), full})
	}
	p.Tables = []CapacityTable{sizes, talk}
	return p
}

func mebibytes(bytes int64) string { return count(bytes>>20) + " MiB" }

// nodesOf is how many nodes a variant has, 0 where its name is no number.
func nodesOf(v capacity.Varied) float64 {
	n, _ := strconv.Atoi(v.Name)
	return float64(n)
}

// standsFor is the index of the variant that stands for a directory of them.
func standsFor(all []capacity.Varied) int {
	best := 0
	for i, v := range all {
		switch {
		case len(v.Result.Topology.Nodes) == 0: // no run has begun
		case len(all[best].Result.Topology.Nodes) == 0:
			best = i
		case v.Kind == capacity.SystemDir && v.Name == "ndb":
			return i
		case nodesOf(v) > 0 && nodesOf(v) < nodesOf(all[best]):
			best = i
		}
	}
	return best
}

// variantsOf judges the variants below a directory, and writes what each says beside it.
func variantsOf(dir string) ([]capacity.Varied, error) {
	all, err := capacity.Variants(dir)
	if err != nil {
		return nil, err
	}
	for i := range all {
		path := filepath.Join(dir, all[i].Dir())
		r, err := capacity.Judge(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		if err := WriteCapacity(path, r, extrasOf(r, nil)); err != nil {
			return nil, err
		}
		all[i].Result = r
	}
	return all, nil
}

// extrasOf are the curves of a search and of its variants, and the other systems.
func extrasOf(r *capacity.Result, variants []capacity.Varied) CapacityExtras {
	x := CapacityExtras{}
	if healthy := r.Find(capacity.Healthy); healthy != nil {
		if c, ok := loadCurve(r, healthy); ok {
			x.Curves = append(x.Curves, c)
		}
	}
	for _, scaled := range []struct{ kind, n string }{
		{capacity.SQLNodesDir, "SQL nodes"},
		{capacity.DataNodesDir, "data nodes"},
	} {
		x.Curves = append(x.Curves, nodeCurves(scaled.kind, scaled.n, variants)...)
	}
	for _, v := range variants {
		if v.Result != r {
			x.Variants = append(x.Variants, v)
		}
		if v.Kind == capacity.SystemDir && v.Result != r {
			words := deathWords(v.Result)
			if differ := capacity.Unlike(v.Kind, r, v.Result); len(differ) > 0 {
				words = append(words, fmt.Sprintf("Not to be compared: it was searched with another %s.", list(differ)))
			}
			x.Comparison = append(x.Comparison, CapacityColumn{Title: v.Name, Result: v.Result, Words: words})
		}
	}
	if len(x.Comparison) > 0 {
		x.Words = deathWords(r)
	}
	return x
}

// deathsOf judges the runs with faults beside searches of systems, as far as they came
// to their end.
func deathsOf(dir string, variants []capacity.Varied) (all []CapacityDeath) {
	for _, v := range variants {
		if v.Kind != capacity.SystemDir {
			continue
		}
		death, ended := DeathRun(filepath.Join(dir, v.Dir()))
		if !ended {
			continue
		}
		d := CapacityDeath{Title: v.Name, Dir: filepath.Join(v.Dir(), death)}
		var err error
		if d.Run, err = Write(filepath.Join(dir, d.Dir)); err != nil { // what else was found is told all the same
			d.Run, d.Why = nil, err.Error()
		}
		all = append(all, d)
	}
	return all
}

// DeathRun is the directory, below that of a system's search, of its first run with
// faults that came to its end; ended is false where there is none, and the directory
// that of the next.
func DeathRun(dir string) (name string, ended bool) {
	for n := 1; ; n++ {
		name = fmt.Sprintf("%s%d", capacity.DeathDir, n)
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			return name, false
		}
		if completed(path) {
			return name, true
		}
	}
}

// completed says whether the run that a directory holds came to its end by itself.
func completed(dir string) bool {
	file, err := os.Open(filepath.Join(dir, RunFile))
	if err != nil {
		return false
	}
	defer file.Close() // only read
	run, err := results.ReadRun(file)
	return err == nil && run.End != nil && run.End.Reason == results.Completed
}

// nodeCurves are the capacity, in the middle of what was met and what was missed, and how
// long ops took at what was met, against the number of nodes of a kind: none where no
// variant says so.
func nodeCurves(kind, n string, variants []capacity.Varied) []CapacityCurve {
	var (
		first       *capacity.Result
		points      []CapacityPoint
		p99         []CapacityPoint
		left, words []string
	)
	for _, v := range variants {
		if v.Kind != kind || nodesOf(v) == 0 {
			continue
		}
		healthy := v.Result.Find(capacity.Healthy)
		if healthy == nil || healthy.MetPerDay == 0 {
			continue
		}
		if !healthy.Between() { // at least so much: no point of a curve
			left = append(left, v.Name)
			continue
		}
		if first == nil {
			first = v.Result
		}
		if differ := capacity.Unlike(kind, first, v.Result); len(differ) > 0 {
			words = append(words, fmt.Sprintf("Left out, as it was searched with another %s than the first: %s %s.", list(differ), v.Name, n))
			continue
		}
		p := healthy.Point(int(nodesOf(v)))
		points = append(points, CapacityPoint{N: p.N, X: p.X, Low: float64(healthy.MetPerDay), High: float64(healthy.MissedPerDay)})
		for i := range slices.Backward(healthy.Steps) { // the last of that rate
			if step := &healthy.Steps[i]; step.PerDay == healthy.MetPerDay && step.Outcome == capacity.Met {
				p99 = append(p99, CapacityPoint{N: nodesOf(v), X: float64(step.P99US) / 1000})
				break
			}
		}
	}
	if len(points) == 0 {
		return nil
	}
	if len(left) > 0 {
		words = append(words, fmt.Sprintf("Left out, as what was met there is less than the capacity: %s %s.", strings.Join(left, ", "), n))
	}
	rate := scaleCurve("Against the number of "+n, n, "messages a day at a constant rate", points, first.Search.Seed)
	rate.Words = append(append(rate.Words, "Measured is an interval, from what was met to what was missed; a point is its middle, in ratios."), words...)
	curves := []CapacityCurve{rate}
	if len(p99) > 0 {
		curves = append(curves, CapacityCurve{Title: "Latency at the highest rate that was met, against the number of " + n, N: n, X: "p99, ms", Points: p99})
	}
	return curves
}

// loadCurve is throughput against concurrency in the steps that were met: past the
// capacity an open loop's queue grows, and its length says nothing of the system.
func loadCurve(r *capacity.Result, f *capacity.Found) (CapacityCurve, bool) {
	var points []CapacityPoint
	for i := range f.Steps {
		step := &f.Steps[i]
		us := lengthUS(r, step)
		if step.Outcome != capacity.Met || step.InFlightMilli == 0 || us <= 0 {
			continue
		}
		points = append(points, CapacityPoint{N: float64(step.InFlightMilli) / 1000, X: float64(step.Ops) * 1e6 / float64(us)})
	}
	if len(points) == 0 {
		return CapacityCurve{}, false
	}
	return scaleCurve("Throughput against concurrency, healthy", "ops under way", "ops/s", points, r.Search.Seed), true
}

// scaleCurve draws points with the Universal Scalability Law fitted to them, or says why
// it is not. The law need not be nearer to a point than that is known.
func scaleCurve(title, n, x string, points []CapacityPoint, seed uint64) CapacityCurve {
	c := CapacityCurve{Title: title, N: n, X: x, Points: points}
	fitted := make([]usl.Point, len(points))
	for i, p := range points {
		fitted[i] = usl.Point{N: p.N, X: p.X, Within: max(0, p.High/p.X-1)} // High is 0 for a mean
	}
	model, err := usl.Fit(fitted, usl.DefaultOptions(seed))
	if err != nil {
		c.Words = append(c.Words, "The Universal Scalability Law is not fitted: "+err.Error()+".")
		return c
	}
	c.LineIs = "Universal Scalability Law"
	first, last := model.From/model.Options.Reach, model.To*model.Options.Reach
	for i := range uslLines + 1 {
		p, err := model.Predict(first + (last-first)*float64(i)/uslLines)
		if err != nil {
			continue // at the very edge, by a rounding
		}
		c.Line = append(c.Line, CapacityLine{N: p.N, X: p.X, Low: p.Low, High: p.High, Extrapolated: p.Extrapolated})
	}
	interval := func(e usl.Estimate) string { return fmt.Sprintf("%.3g (%.3g to %.3g)", e.Value, e.Low, e.High) }
	c.Words = append(c.Words, fmt.Sprintf("X(N) = λN/(1+σ(N-1)+κN(N-1)) with λ %s, σ %s, κ %s, fitted from N = %.3g to %.3g; the intervals hold %.0f %%.",
		interval(model.Lambda), interval(model.Sigma), interval(model.Kappa), model.From, model.To, 100*model.Options.Confidence))
	if model.KappaFixed {
		c.Words = append(c.Words, "κ was held at 0: more levels of N are needed to tell it from σ.")
	}
	if model.Peak != nil {
		c.Words = append(c.Words, fmt.Sprintf("Throughput peaks at N = %s.", interval(model.Peak.N)))
	} else if model.NoPeak != "" {
		c.Words = append(c.Words, sentence(strings.TrimSuffix(model.NoPeak, ".")))
	}
	return c
}

// deathWords say what the death of a server costs a system.
func deathWords(r *capacity.Result) (words []string) {
	healthy := r.Find(capacity.Healthy)
	if healthy == nil || healthy.MetPerDay == 0 || !healthy.Done {
		return nil
	}
	for _, f := range r.Regimes {
		if f.Regime == capacity.Healthy {
			continue
		}
		if !f.Done || f.MetPerDay == 0 {
			words = append(words, sentence(regimePhrase(f.Regime, r.Topology)+" it is not known what it carries: "+strings.TrimSuffix(f.Why, ".")))
			continue
		}
		words = append(words, sentence(fmt.Sprintf("%s it carries %.0f %% of its healthy rate", regimePhrase(f.Regime, r.Topology), 100*float64(f.MetPerDay)/float64(healthy.MetPerDay))))
	}
	return words
}
