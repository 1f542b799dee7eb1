// Package openslo reads objectives from OpenSLO v1 documents
// (https://github.com/OpenSLO/OpenSLO): the part of the kind SLO that a recording
// can be judged by. What else the specification has is refused by its name.
//
// docs/openslo.md says what is taken, and what the metric source mailbench means.
package openslo

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

const noun = "OpenSLO document"

// What names and numbers may be.
const (
	mostObjectives  = 50
	nameLength      = 80 // of an objective in a scenario
	mostDescription = 1050
	million         = 1_000_000
)

// SourceType is the type of a metricSource that a recording answers.
const SourceType = "mailbench"

// allPaths and allMessages are what a total may count.
const (
	allPaths    = "all"
	allMessages = "messages"
)

// document is what is taken of one.
type document struct {
	apiVersion, kind  string
	name, displayName string
	service, about    string
	indicator         string // its name
	good, bad, total  *source
	windowDays        int64
	method            method
	objectives        []objective
}

type method string

const (
	occurrences method = "Occurrences"
	timeslices  method = "Timeslices"
)

// source is the spec of a metricSource of type mailbench.
type source struct {
	kind     string
	path     string
	metric   string
	degraded string
	within   time.Duration
}

type objective struct {
	displayName string
	targetPPM   int64 // -1 if it is not written
	percentPPM  int64 // as well
	slicePPM    int64 // 0 if it is not written
	slice       time.Duration
}

// Parse reads a document, whose name, the path of its file, stands in errors. They
// are *strictyaml.InputError, all of them joined.
func Parse(name string, data []byte) ([]results.Objective, error) {
	root, mistake := strictyaml.ParseTree(noun, name, data, true)
	if mistake != nil {
		return nil, mistake
	}
	var doc document
	d := strictyaml.NewDecoder(noun)
	d.Read(doc.fields(), "", root)
	doc.check(d)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return doc.results(), nil
}

func (doc *document) fields() strictyaml.Object {
	return strictyaml.Object{
		{Key: "apiVersion", Value: strictyaml.OneOf(&doc.apiVersion, "openslo/v1"), Required: true},
		{Key: "kind", Value: strictyaml.OneOf(&doc.kind, "SLO"), Required: true},
		{Key: "metadata", Value: metadata(&doc.name, &doc.displayName), Required: true},
		{Key: "spec", Required: true, Value: strictyaml.Object{
			{Key: "description", Value: strictyaml.Sentence(&doc.about, mostDescription)},
			{Key: "service", Value: strictyaml.Sentence(&doc.service, 255)},
			{Key: "indicator", Value: doc.indicatorFields(), Required: true},
			{Key: "indicatorRef", Value: refused("the indicator must be in the document")},
			{Key: "timeWindow", Value: timeWindow{&doc.windowDays}},
			{Key: "budgetingMethod", Value: strictyaml.OneOf(&doc.method, occurrences, timeslices), Required: true},
			{Key: "objectives", Required: true, Value: strictyaml.List[objective]{
				P: &doc.objectives, Least: 1, Most: mostObjectives, What: "objectives",
				Fresh: func() objective { return objective{targetPPM: -1, percentPPM: -1} },
				Entry: func(o *objective) strictyaml.Value { return o.fields() },
			}},
			{Key: "alertPolicies", Value: refused("burn-rate alerts are those of The Site Reliability Workbook, for every objective")},
		}},
	}
}

func metadata(name, displayName *string) strictyaml.Object {
	return strictyaml.Object{
		{Key: "name", Value: nameValue(name), Required: true},
		{Key: "displayName", Value: strictyaml.Sentence(displayName, nameLength)},
		{Key: "labels", Value: ignored{}},
		{Key: "annotations", Value: ignored{}},
	}
}

// What all implementations must support (RFC 1123, as the specification says), but
// for a digit at the beginning of a name, which is fine too.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func nameValue(p *string) strictyaml.Value {
	return strictyaml.Text(p, "a name of a-z, 0-9 and '-', at most 63 characters", nameForm.MatchString)
}

func (doc *document) indicatorFields() strictyaml.Object {
	var ignoredDisplay string
	return strictyaml.Object{
		{Key: "metadata", Value: metadata(&doc.indicator, &ignoredDisplay)},
		{Key: "spec", Required: true, Value: strictyaml.Object{
			{Key: "description", Value: ignored{}},
			{Key: "ratioMetric", Required: true, Value: strictyaml.Object{
				{Key: "counter", Value: ignored{}},
				{Key: "good", Value: metric{&doc.good}},
				{Key: "bad", Value: metric{&doc.bad}},
				{Key: "total", Value: metric{&doc.total}, Required: true},
				{Key: "raw", Value: refused("events are counted, not read from a stored ratio")},
				{Key: "rawType", Value: refused("it belongs to raw")},
			}},
			{Key: "thresholdMetric", Value: refused("write a ratioMetric whose good events have a bound: within")},
		}},
	}
}

func (o *objective) fields() strictyaml.Object {
	return strictyaml.Object{
		{Key: "displayName", Value: strictyaml.Sentence(&o.displayName, nameLength)},
		{Key: "target", Value: share(&o.targetPPM, 6, 0, million-1, "a share from 0 to less than 1, with at most six decimals")},
		{Key: "targetPercent", Value: share(&o.percentPPM, 4, 0, million-1, "a percentage from 0 to less than 100, without the sign and with at most four decimals")},
		{Key: "timeSliceTarget", Value: share(&o.slicePPM, 6, 1, million, "a share from 0.000001 to 1, with at most six decimals")},
		{Key: "timeSliceWindow", Value: sliceWindow(&o.slice)},
		{Key: "op", Value: refused("it belongs to thresholdMetric")},
		{Key: "value", Value: refused("it belongs to thresholdMetric")},
		{Key: "indicator", Value: refused("an SLO has one indicator, which is not composite")},
		{Key: "indicatorRef", Value: refused("an SLO has one indicator, which is not composite")},
		{Key: "compositeWeight", Value: refused("an SLO has one indicator, which is not composite")},
	}
}

// share is a number without a sign, in millionths of all when it has so many
// decimals.
func share(p *int64, places int, least, most int64, what string) strictyaml.Value {
	return strictyaml.Scalar{
		What: what,
		Parse: func(n *strictyaml.Node) bool {
			v, ok := strictyaml.ParseDecimal(n.Text, places)
			if n.Kind != strictyaml.NumberKind || !ok || v < least || v > most {
				return false
			}
			*p = v
			return true
		},
	}
}

// shorthand is OpenSLO's duration-shorthand. Months, quarters and years have no
// fixed length.
var shorthand = regexp.MustCompile(`^([1-9][0-9]{0,5})(m|h|d|w)$`)

var units = map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}

func parseShorthand(n *strictyaml.Node) (time.Duration, bool) {
	part := shorthand.FindStringSubmatch(n.Text)
	if n.Kind != strictyaml.TextKind || part == nil {
		return 0, false
	}
	count, err := strconv.ParseInt(part[1], 10, 32)
	return time.Duration(count) * units[part[2]], err == nil
}

// sliceWindow is a duration-shorthand or a number, which is minutes.
func sliceWindow(p *time.Duration) strictyaml.Value {
	return strictyaml.Scalar{
		What: "a time such as 1m, or a number of minutes with at most three decimals, of 0.1 s to 1 h",
		Parse: func(n *strictyaml.Node) bool {
			d, ok := parseShorthand(n)
			if n.Kind == strictyaml.NumberKind {
				var thousandths int64
				thousandths, ok = strictyaml.ParseDecimal(n.Text, 3)
				d = time.Duration(thousandths) * time.Minute / 1000
			}
			if !ok || d < results.MinSlice || d > results.MaxSlice {
				return false
			}
			*p = d
			return true
		},
	}
}

// timeWindow is a list of one rolling window.
type timeWindow struct{ days *int64 }

func (timeWindow) Rule() string            { return "a list of one rolling time window" }
func (timeWindow) Write() *strictyaml.Node { return nil }

func (w timeWindow) Read(d *strictyaml.Decoder, path string, n *strictyaml.Node) {
	if n.Kind != strictyaml.SequenceKind || len(n.Entries) != 1 {
		d.Report(n.At, path, "must be %s, as the specification says", w.Rule())
		return
	}
	rolling := ""
	d.Read(strictyaml.Object{
		{Key: "duration", Required: true, Value: strictyaml.Scalar{
			What: fmt.Sprintf("whole days or weeks such as 30d or 4w, at most %d days", results.MaxWindowDays),
			Parse: func(n *strictyaml.Node) bool {
				length, ok := parseShorthand(n)
				days := int64(length / units["d"])
				if !ok || length%units["d"] != 0 || days < 1 || days > results.MaxWindowDays {
					return false
				}
				*w.days = days
				return true
			},
		}},
		{Key: "isRolling", Required: true, Value: strictyaml.Scalar{
			What: "true: a recording is on no calendar",
			Parse: func(n *strictyaml.Node) bool {
				rolling = n.Text
				return n.Kind == strictyaml.BoolKind && rolling == "true"
			},
		}},
		{Key: "calendar", Value: refused("a recording is on no calendar")},
	}, path+"[0]", n.Entries[0])
}

// metric is good, bad or total of a ratioMetric.
type metric struct{ p **source }

func (metric) Rule() string            { return "a mapping with a metricSource" }
func (metric) Write() *strictyaml.Node { return nil }

func (m metric) Read(d *strictyaml.Decoder, path string, n *strictyaml.Node) {
	s := &source{path: allPaths, degraded: "bad"}
	*m.p = s
	paths := []string{allPaths}
	for _, p := range reference.Paths {
		paths = append(paths, p.String())
	}
	metrics := []string{allMessages}
	for _, m := range results.Metrics {
		metrics = append(metrics, string(m))
	}
	strictyaml.Object{{Key: "metricSource", Required: true, Value: strictyaml.Object{
		{Key: "type", Value: strictyaml.OneOf(&s.kind, SourceType), Required: true},
		{Key: "metricSourceRef", Value: refused("write type: " + SourceType)},
		{Key: "spec", Required: true, Value: strictyaml.Object{
			{Key: "path", Value: strictyaml.OneOf(&s.path, paths...)},
			{Key: "within", Value: within(&s.within)},
			{Key: "degraded", Value: strictyaml.OneOf(&s.degraded, "bad", "good")},
			{Key: "metric", Value: strictyaml.OneOf(&s.metric, metrics...)},
		}},
	}}}.Read(d, path, n)
}

var withinForm = regexp.MustCompile(`^([0-9]{1,12}(h|m|s|ms|us))+$`)

func within(p *time.Duration) strictyaml.Value {
	return strictyaml.Scalar{
		What: "a time with its unit (h, m, s, ms or us) from 1us to 10m",
		Parse: func(n *strictyaml.Node) bool {
			d, err := time.ParseDuration(n.Text)
			if n.Kind != strictyaml.TextKind || !withinForm.MatchString(n.Text) || err != nil || d < time.Microsecond || d > 10*time.Minute {
				return false
			}
			*p = d
			return true
		},
	}
}

// refused is a field of the specification that is not taken, and why.
type refused string

func (r refused) Rule() string          { return "left out: " + string(r) }
func (refused) Write() *strictyaml.Node { return nil }
func (r refused) Read(d *strictyaml.Decoder, path string, n *strictyaml.Node) {
	d.Report(n.At, path, "is not taken: %s", string(r))
}

// ignored is a field that says nothing of what is judged.
type ignored struct{}

func (ignored) Rule() string                                       { return "anything" }
func (ignored) Write() *strictyaml.Node                            { return nil }
func (ignored) Read(*strictyaml.Decoder, string, *strictyaml.Node) {}

// check holds the fields against each other.
func (doc *document) check(d *strictyaml.Decoder) {
	const ratio = "spec.indicator.spec.ratioMetric"
	if doc.total != nil && d.Good(ratio) {
		doc.checkRatio(d, ratio)
	}
	for i, o := range doc.objectives {
		at := fmt.Sprintf("spec.objectives[%d]", i)
		if !d.Good(at) {
			continue
		}
		if o.targetPPM >= 0 == (o.percentPPM >= 0) {
			d.Reject(at, "must have one of target and targetPercent")
		}
		sliced := o.slicePPM > 0 || o.slice > 0
		switch {
		case !d.Good("spec.budgetingMethod"):
		case doc.method == occurrences && sliced:
			d.Reject(at, "has timeSliceTarget or timeSliceWindow, which belong to the budgetingMethod Timeslices")
		case doc.method == timeslices && (o.slicePPM == 0 || o.slice == 0):
			d.Reject(at, "must have timeSliceTarget and timeSliceWindow, as the budgetingMethod is Timeslices")
		}
		if n := doc.title(i); utf8.RuneCountInString(n) > nameLength {
			d.Reject(at, "is called %s, with the document's name before its own; at most %d characters are taken", strictyaml.Quote(n), nameLength)
		}
	}
	first := map[string]int{}
	for i := range doc.objectives {
		n := doc.title(i)
		if j, known := first[n]; known {
			d.Reject(fmt.Sprintf("spec.objectives[%d]", i), "%s is already the name of spec.objectives[%d]; give each a displayName", strictyaml.Quote(n), j)
			continue
		}
		first[n] = i
	}
}

// checkRatio holds what is counted against what it is counted of.
func (doc *document) checkRatio(d *strictyaml.Decoder, ratio string) {
	spec := func(part string) string { return ratio + "." + part + ".metricSource.spec" }
	if (doc.good == nil) == (doc.bad == nil) {
		d.Reject(ratio, "must have one of good and bad")
		return
	}
	if doc.total.within > 0 || doc.total.degraded == "good" {
		d.Reject(spec("total"), "counts all events; within and degraded belong to good")
	}
	if doc.good != nil {
		switch {
		case doc.good.metric != "" || doc.total.metric != "":
			d.Reject(ratio, "counts messages by what happened to them, which is bad: write bad instead of good")
		case doc.good.path != doc.total.path:
			d.Reject(spec("good")+".path", "must be that of total: good events are some of them")
		}
		return
	}
	switch b := doc.bad; {
	case b.metric == "" || b.metric == allMessages:
		d.Reject(spec("bad"), "must have a metric of messages that is bad: %s; of ops write good", metricNames())
	case doc.total.metric != allMessages:
		d.Reject(spec("total"), "must have metric: %s, of which bad counts some", allMessages)
	case b.path != allPaths || doc.total.path != allPaths || b.within > 0 || b.degraded == "good":
		d.Reject(ratio, "counts messages, which have no path, within or degraded")
	case doc.method == timeslices && d.Good("spec.budgetingMethod"):
		d.Reject("spec.budgetingMethod", "must be Occurrences: messages are not counted by slices of time")
	}
}

func metricNames() string {
	var names []string
	for _, m := range results.Metrics {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// title is what an objective is called: the document's name, and its own where
// there is one.
func (doc *document) title(i int) string {
	name := doc.displayName
	if name == "" {
		name = doc.name
	}
	if own := doc.objectives[i].displayName; own != "" {
		return name + ": " + own
	}
	return name
}

func (doc *document) results() []results.Objective {
	var all []results.Objective
	for i, o := range doc.objectives {
		r := results.Objective{
			Name: doc.title(i), TargetPPM: max(o.targetPPM, o.percentPPM), WindowDays: doc.windowDays,
			SliceUS: o.slice.Microseconds(), SliceTargetPPM: o.slicePPM,
		}
		if doc.bad != nil {
			r.Metric = results.Metric(doc.bad.metric)
		} else {
			r.LatencyUS, r.Degraded = doc.good.within.Microseconds(), doc.good.degraded
			if doc.good.path != allPaths {
				r.Path = doc.good.path
			}
		}
		all = append(all, r)
	}
	return all
}
