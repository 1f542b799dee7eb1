package openslo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload/strictyaml"
	"gotest.tools/v3/golden"
)

// ops is a whole document; parts of it are replaced to make others.
const ops = `apiVersion: openslo/v1
kind: SLO
metadata:
  name: routing-answers
  displayName: Routing answers
  labels: {team: [mail, databases]}
  annotations: {example.org/dashboard: routing}
spec:
  description: Where a message goes is known in time.
  service: mail
  indicator:
    metadata:
      name: routed
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: mailbench
            spec: {path: routing, within: 100ms}
        total:
          metricSource:
            type: mailbench
            spec: {path: routing}
  timeWindow:
    - duration: 4w
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - target: 0.9995
`

const messages = `apiVersion: openslo/v1
kind: SLO
metadata: {name: on-time}
spec:
  indicator:
    spec:
      ratioMetric:
        bad: {metricSource: {type: mailbench, spec: {metric: deferred}}}
        total: {metricSource: {type: mailbench, spec: {metric: messages}}}
  budgetingMethod: Occurrences
  objectives:
    - {displayName: most, targetPercent: 99.9}
    - {displayName: nearly all, targetPercent: 99.99}
`

// changed replaces parts of a document, which must be there.
func changed(text string, parts ...string) string {
	for i := 0; i < len(parts); i += 2 {
		if !strings.Contains(text, parts[i]) {
			panic("the document does not hold " + parts[i])
		}
		text = strings.Replace(text, parts[i], parts[i+1], 1)
	}
	return text
}

func TestWhatIsTaken(t *testing.T) {
	const slices = "budgetingMethod: Timeslices\n  objectives:\n    - {targetPercent: 99, timeSliceTarget: 0.95, timeSliceWindow: "
	const ofOps = "budgetingMethod: Occurrences\n  objectives:\n    - target: 0.9995"
	routing := func(change func(*results.Objective)) []results.Objective {
		o := results.Objective{Name: "Routing answers", Path: "routing", TargetPPM: 999_500, LatencyUS: 100_000, Degraded: "bad", WindowDays: 28}
		change(&o)
		return []results.Objective{o}
	}
	sliced := func(us int64) []results.Objective {
		return routing(func(o *results.Objective) { o.TargetPPM, o.SliceTargetPPM, o.SliceUS = 990_000, 950_000, us })
	}
	for _, row := range []struct {
		sentence, text string
		want           []results.Objective
	}{
		{"a whole document", ops, routing(func(*results.Objective) {})},
		{"all paths, whatever the time, fallbacks are good", changed(ops, "path: routing, within: 100ms", "degraded: good", "{path: routing}", "{}"),
			routing(func(o *results.Objective) { o.Path, o.LatencyUS, o.Degraded = "", 0, "good" })},
		{"without a window it is 30 days, which is nobody's default but mailbench's", changed(ops, "  timeWindow:\n    - duration: 4w\n      isRolling: true\n", ""),
			routing(func(o *results.Objective) { o.WindowDays = 0 })},
		{"slices of a minute", changed(ops, ofOps, slices+"1m}"), sliced(60_000_000)},
		{"a number is minutes", changed(ops, ofOps, slices+"5}"), sliced(300_000_000)},
		{"half a minute", changed(ops, ofOps, slices+"0.5}"), sliced(30_000_000)},
		{"messages", messages, []results.Objective{
			{Name: "on-time: most", Metric: results.MetricDeferred, TargetPPM: 999_000},
			{Name: "on-time: nearly all", Metric: results.MetricDeferred, TargetPPM: 999_900},
		}},
	} {
		got, err := Parse("slo.yaml", []byte(row.text))
		if err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v\n%v", row.sentence, got, row.want, err)
		}
	}
}

var mistakes = []struct{ sentence, text string }{
	{"an empty file", ""},
	{"no YAML", "a: [\n"},
	{"two documents", ops + "---\n" + ops},
	{"another version", changed(ops, "openslo/v1", "openslo/v1alpha")},
	{"another kind", changed(ops, "kind: SLO", "kind: AlertPolicy")},
	{"a name that is none", changed(ops, "routing-answers", "Routing_Answers")},
	{"an unknown field", changed(ops, "  service: mail", "  servcie: mail")},
	{"a reference to an indicator", changed(ops, "  service: mail", "  indicatorRef: routed")},
	{"alert policies", changed(ops, "  service: mail", "  alertPolicies: [{alertPolicyRef: fast}]")},
	{"a threshold", changed(ops, "ratioMetric:", "thresholdMetric:")},
	{"a stored ratio", changed(ops, "        counter: true", "        raw: {metricSource: {type: Prometheus, spec: {query: x}}}\n        rawType: success")},
	{"another source", changed(ops, "type: mailbench", "type: Prometheus")},
	{"a source by reference", changed(ops, "type: mailbench", "metricSourceRef: prometheus")},
	{"a path that there is not", changed(ops, "path: routing, within", "path: smtp, within")},
	{"a metric that there is not", changed(messages, "metric: deferred", "metric: bounced")},
	{"good of one path, total of another", changed(ops, "spec: {path: routing}", "spec: {path: greylist}")},
	{"a bound on all events", changed(ops, "spec: {path: routing}", "spec: {path: routing, within: 1s}")},
	{"neither good nor bad", changed(messages, "        bad: {metricSource: {type: mailbench, spec: {metric: deferred}}}\n", "")},
	{"both", changed(messages, "        bad:", "        good: {metricSource: {type: mailbench, spec: {}}}\n        bad:")},
	{"bad ops", changed(messages, "spec: {metric: deferred}", "spec: {path: routing}")},
	{"good messages", changed(messages, "        bad: {metricSource: {type: mailbench, spec: {metric: deferred}", "        good: {metricSource: {type: mailbench, spec: {metric: lost}")},
	{"bad messages of ops", changed(messages, "spec: {metric: messages}", "spec: {}")},
	{"messages of a path", changed(messages, "metric: deferred", "metric: deferred, path: routing")},
	{"messages by slices", changed(messages, "Occurrences", "Timeslices", "targetPercent: 99.9", "targetPercent: 99.9, timeSliceTarget: 1, timeSliceWindow: 1m")},
	{"a method that there is not", changed(ops, "Occurrences", "RatioTimeslices")},
	{"a slice's target without slices", changed(ops, "target: 0.9995", "{target: 0.9995, timeSliceTarget: 0.9}")},
	{"slices without a window", changed(ops, "Occurrences", "Timeslices", "target: 0.9995", "{target: 0.9995, timeSliceTarget: 0.9}")},
	{"a slice of a day", changed(ops, "Occurrences", "Timeslices", "target: 0.9995", "{target: 0.9995, timeSliceTarget: 0.9, timeSliceWindow: 1d}")},
	{"a target of everything", changed(ops, "target: 0.9995", "target: 1")},
	{"a target in the wrong unit", changed(ops, "target: 0.9995", "target: 99.95")},
	{"a percentage with its sign", changed(ops, "target: 0.9995", "targetPercent: 99.95%")},
	{"no target", changed(ops, "target: 0.9995", "displayName: some")},
	{"two targets", changed(ops, "target: 0.9995", "{target: 0.9995, targetPercent: 99.95}")},
	{"an operator", changed(ops, "target: 0.9995", "{target: 0.9995, op: lte, value: 3}")},
	{"no objectives", changed(ops, "objectives:\n    - target: 0.9995", "objectives: []")},
	{"two objectives of one name", changed(ops, "    - target: 0.9995", "    - target: 0.9995\n    - target: 0.9")},
	{"a name that is too long with the document's", changed(messages, "displayName: most", "displayName: "+strings.Repeat("most ", 15)+"of it")},
	{"two windows", changed(ops, "      isRolling: true", "      isRolling: true\n    - {duration: 1d, isRolling: true}")},
	{"a window on the calendar", changed(ops, "      isRolling: true", "      calendar: {startTime: 2020-01-21 12:30:00, timeZone: America/New_York}\n      isRolling: false")},
	{"a month, which has no length", changed(ops, "duration: 4w", "duration: 1M")},
	{"half a day", changed(ops, "duration: 4w", "duration: 12h")},
}

func TestWhatIsRefused(t *testing.T) {
	var all strings.Builder
	for _, row := range mistakes {
		_, err := Parse("slo.yaml", []byte(row.text))
		var input *strictyaml.InputError
		if !errors.As(err, &input) || !strings.HasPrefix(err.Error(), "slo.yaml:") {
			t.Errorf("%s: got error %v, want one with file, line and column", row.sentence, err)
		}
		fmt.Fprintf(&all, "# %s\n%v\n\n", row.sentence, err)
	}
	golden.AssertBytes(t, []byte(all.String()), "refused.golden")
}

// TestExamplesInDocs holds the documentation true.
func TestExamplesInDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "openslo.md"))
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(text), "```yaml\n")[1:]
	if len(examples) < 3 {
		t.Fatalf("the page has %d examples", len(examples))
	}
	for i, e := range examples {
		e, _, _ = strings.Cut(e, "```\n")
		if !strings.HasPrefix(e, "apiVersion") {
			continue // how a scenario names one
		}
		if _, err := Parse(fmt.Sprint("example ", i+1), []byte(e)); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ops)
	f.Add(messages)
	for _, row := range mistakes {
		f.Add(row.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		objectives, err := Parse("slo.yaml", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "slo.yaml") {
				t.Errorf("error does not name the file: %v", err)
			}
			return
		}
		for _, o := range objectives {
			if err := o.Validate(); err != nil {
				t.Errorf("taken and not valid: %+v: %v", o, err)
			}
		}
	})
}
