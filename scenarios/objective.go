package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

// objectiveEntry ties one objective of the list: in short form, or an OpenSLO
// document.
type objectiveEntry struct{ o *ObjectiveSpec }

func (e objectiveEntry) document() object {
	return object{{key: "openslo", value: pathValue(&e.o.OpenSLO), required: true}}
}

func (e objectiveEntry) Rule() string { return e.o.fields().Rule() }

func (e objectiveEntry) Read(d *strictyaml.Decoder, path string, n *node) {
	if n.Kind == strictyaml.MappingKind && n.Get("openslo") != nil {
		e.document().Read(d, path, n)
		return
	}
	e.o.fields().Read(d, path, n)
}

func (e objectiveEntry) Write() *node {
	if e.o.OpenSLO != "" {
		return e.document().Write()
	}
	return e.o.fields().Write()
}

func objectivesValue(p *[]ObjectiveSpec) value {
	return listValue[ObjectiveSpec]{p: p, least: 1, most: mostObjectives, what: "objectives", fresh: defaultObjective,
		entry: func(o *ObjectiveSpec) value { return objectiveEntry{o} }}
}

// mostObjectives is the most that a scenario has, those of documents included.
const mostObjectives = 50

// checkObjectiveNames reports names that stand twice, be it in a document.
func (d *decoder) checkObjectiveNames(s *Scenario) {
	d.Unique("objectives", "name", len(s.ObjectiveSpecs), func(i int) string { return s.ObjectiveSpecs[i].Name })
	first, all := map[string]int{}, 0
	for i, o := range s.ObjectiveSpecs {
		if o.OpenSLO == "" {
			all++
			first[o.Name] = i
		}
	}
	for i, o := range s.ObjectiveSpecs {
		for _, taken := range s.inputs.openSLO[i].objectives {
			if j, known := first[taken.Name]; known {
				d.Reject(fmt.Sprintf("objectives[%d].openslo", i), "%s has an objective %s, and so has objectives[%d]", o.OpenSLO, strictyaml.Quote(taken.Name), j)
				continue
			}
			first[taken.Name] = i
			all++
		}
	}
	if all > mostObjectives {
		d.Reject("objectives", "has %d objectives with those of OpenSLO documents; at most %d", all, mostObjectives)
	}
}

// checkObjectives holds the fields of each objective against each other.
func (d *decoder) checkObjectives(s *Scenario) {
	for i, o := range s.ObjectiveSpecs {
		at := fmt.Sprintf("objectives[%d]", i)
		if o.OpenSLO != "" || !d.Good(at) {
			continue
		}
		switch {
		case o.Slice > 0 && o.SliceTargetPPM == 0:
			d.Reject(at, "has a slice and no slice_target; it must be a percentage such as 99%%")
		case o.Slice == 0 && o.SliceTargetPPM > 0:
			d.Reject(at+".slice_target", "wants slice, whose ops it is of")
		}
		if o.Metric == "" {
			continue
		}
		for _, field := range []struct {
			key   string
			unfit bool
		}{{"path", o.Path != AllPaths}, {"within", o.Within > 0}, {"degraded", o.Degraded != DegradedBad}, {"slice", o.Slice > 0}} {
			if field.unfit {
				d.Reject(at+"."+field.key, "must be left out beside metric, which counts messages")
			}
		}
	}
}

// mostFaultRate is the most often that a fault may be expected in 30 days, in
// thousandths: every 26 s.
const mostFaultRate = 100_000_000

// faultRates maps kinds, or kinds and targets, to numbers.
type faultRates struct{ p *map[string]int64 }

func (faultRates) Rule() string {
	return "a mapping from kinds of faults such as kill, or kind and target such as kill data2, to how often they are expected in 30 days"
}

func (f faultRates) Read(d *strictyaml.Decoder, path string, n *node) {
	if n.Kind != strictyaml.MappingKind {
		d.Report(n.At, path, "must be %s, not %s", f.Rule(), n.Show())
		return
	}
	*f.p = map[string]int64{}
	for _, p := range n.Pairs {
		inner := path + "." + p.Key
		d.Written[inner] = p.KeyAt
		milli, ok := strictyaml.ParseDecimal(p.Value.Text, 3)
		if p.Value.Kind != strictyaml.NumberKind || !ok || milli > mostFaultRate {
			d.Report(p.Value.At, inner, "must be a number from 0 to 100000, with at most three decimals, not %s", p.Value.Show())
			continue
		}
		(*f.p)[p.Key] = milli
	}
}

func (f faultRates) Write() *node {
	n := &node{Kind: strictyaml.MappingKind}
	for _, key := range slices.Sorted(maps.Keys(*f.p)) {
		n.Pairs = append(n.Pairs, strictyaml.Pair{Key: key, Value: strictyaml.PlainNode(strictyaml.FormatDecimal((*f.p)[key], 3))})
	}
	return n
}

// rateKeys are the names by which fault_rates may mean a fault, the closest first.
func rateKeys(f FaultSpec) []string {
	return []string{string(f.Kind) + " " + f.Target, string(f.Kind)}
}

// faultRate is how often the fault of an entry is expected in 30 days, in
// thousandths; nil if the scenario does not say.
func (s *Scenario) faultRate(entry int) *int64 {
	for _, key := range rateKeys(s.Faults[entry]) {
		if rate, ok := s.FaultRates[key]; ok {
			return &rate
		}
	}
	return nil
}

// checkFaultRates refuses what names no fault of the plan.
func (d *decoder) checkFaultRates(s *Scenario) {
	if !d.Good("fault_rates", "faults") {
		return
	}
	var known []string
	for _, f := range s.Faults {
		for _, key := range rateKeys(f) {
			if !slices.Contains(known, key) {
				known = append(known, key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.FaultRates)) {
		switch {
		case slices.Contains(known, key):
		case len(known) == 0:
			d.Reject("fault_rates."+key, "there are no faults in the plan")
		default:
			d.Reject("fault_rates."+key, "%s", strictyaml.UnknownName("fault of the plan", strings.TrimSpace(key), known))
		}
	}
}
