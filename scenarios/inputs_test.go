package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// generated writes a trace file of 10:00 to 12:00, of 40,000 messages a day for
// 7000 accounts.
func generated(t *testing.T, dir string) *workload.Trace {
	t.Helper()
	profile, err := workload.BuiltinProfile("modern")
	if err != nil {
		t.Fatal(err)
	}
	profile.Model.MessagesPerDay = 40_000
	p := workload.DefaultPopulation(9)
	p.Accounts, p.Domain, p.Peers = 7000, "other.example", &profile.Peers
	tr, err := workload.NewTrace(9, profile.Model, p, workload.Window{From: 10 * time.Hour, Duration: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := workload.WriteTrace(t.Context(), &b, tr, "modern", 1, nil); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "day.mbt"), b.Bytes())
	return tr
}

// fromLog writes a trace file as an import does: 50 hours from 14:00 on the
// first day on.
func fromLog(t *testing.T, dir string) {
	t.Helper()
	profile, err := workload.BuiltinProfile(importProfile)
	if err != nil {
		t.Fatal(err)
	}
	p := workload.DefaultPopulation(3)
	p.Peers = &profile.Peers
	var b bytes.Buffer
	w, err := workload.NewTraceWriter(&b, workload.TraceHeader{Seed: 3, Profile: profile, Population: p, Origin: "imported by a test"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5*600 + 1 {
		at := 14*time.Hour + time.Duration(n)*time.Minute
		m := &workload.Message{
			Number: uint64(n), At: at, Client: netip.MustParseAddr("192.0.2.1"), Sender: "s@example.org",
			Recipients: []string{fmt.Sprintf("u%d@ours.example", n%100), "postmaster"},
		}
		if err := w.Write(workload.Item{At: at, Message: m}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "log.mbt"), b.Bytes())
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTraceFilesThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	generated(t, dir)
	fromLog(t, dir)
	whole, err := os.ReadFile(filepath.Join(dir, "day.mbt"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cut.mbt"), whole[:len(whole)/2])
	altered := slices.Clone(whole)
	altered[len(altered)/2] ^= 1 // in a block, which opening does not read
	writeFile(t, filepath.Join(dir, "altered.mbt"), altered)
	writeFile(t, filepath.Join(dir, "profile.yaml"), []byte("name: x"))
	sum := strings.Repeat("0123456789abcdef", 4)
	t.Chdir(dir) // errors name the path as it is reached
	for _, row := range []struct {
		sentence, workload string
		set                []string
		want               string
	}{
		{"a file that is not there", "trace: no.mbt", nil, "t.yaml:4:11: workload.trace: open trace file no.mbt: no such file or directory; name it with"},
		{"which one it is, if that is known", "trace: no.mbt, trace_sha256: " + sum, nil, "it is the one whose items have SHA-256 " + sum},
		{"a file that is cut short", "trace: ./cut.mbt", nil, "t.yaml:4:11: workload.trace: trace file cut.mbt: byte "},
		{"a file that is no trace", "trace: profile.yaml", nil, "this is not a trace file"},
		{"a folder", "trace: ./", nil, "is not a regular file"},
		{"a block that was altered", "trace: altered.mbt", nil, "trace file altered.mbt: byte "},
		{"another trace than the one that was meant", "trace: day.mbt, trace_sha256: " + sum, nil, "t.yaml:4:34: workload.trace_sha256: is not that of trace file day.mbt"},
		{"a hash of nothing", "trace_sha256: " + sum, nil, "workload.trace_sha256: wants workload.trace"},
		{"a hash that is none", "trace: day.mbt, trace_sha256: abc", nil, "must be a SHA-256 in 64 digits"},
		{"a path in an override is from the working directory, and its mistake the override's", "speed: 1", []string{"workload.trace=sub/no.mbt"},
			"--set workload.trace=sub/no.mbt: workload.trace: open trace file sub/no.mbt"},
		{"before the file begins", "trace: day.mbt, from: 09:59:59", nil, "t.yaml:4:26: workload.from: must be within the trace file, not 09:59:59; the trace file covers 10:00:00 to 12:00:00"},
		{"after it has ended", "trace: day.mbt, from: 12:00", nil, "workload.from: must be within the trace file, not 12:00"},
		{"longer than the rest", "trace: day.mbt, from: 11:00, duration: 31m, speed: 2", nil, "t.yaml:4:43: workload.duration: must end within the trace file: 31m at speed 2 from 11:00 ends at 12:02:00"},
		{"the busiest hour of no profile", "trace: day.mbt, from: busiest-hour", nil, "workload.from: must be a time of day"},
		{"a rest that is longer than a load", "trace: log.mbt", nil, "t.yaml:4:3: workload.duration: must be written, as the rest of the trace file lasts 50h1m at speed 1"},
		{"a profile beside it", "trace: day.mbt, profile: modern", nil, "t.yaml:4:29: workload.profile: must not be written beside workload.trace"},
		{"messages beside it", "trace: day.mbt, messages_per_day: 5", nil, "workload.messages_per_day: must not be written"},
		{"jobs beside it", "trace: day.mbt, account_jobs_per_day: 5", nil, "workload.account_jobs_per_day: must not be written"},
		{"a population beside it", "trace: day.mbt", []string{"population.accounts=5"}, "--set population.accounts=5: population: must not be written"},
		{"another seed", "trace: day.mbt", []string{"seed=1"}, "--set seed=1: seed: is 1, the trace file was made with 9"},
		{"the day before a log", "trace: log.mbt, duration: 1h, before: day", nil, "t.yaml:4:42: workload.before: must be none: the trace file was imported"},
		{"predicted retries of a log", "trace: log.mbt, duration: 1h, retries: predicted", nil, "workload.retries: predicted wants workload.before to be day"},
		{"a fault past the end of the file", "trace: day.mbt}\nfaults: [{kind: kill, target: sql1, at: 3h}", nil, "faults[0].at: must be before the load ends at 2h"},
		{"webmail logins that nobody performs", "trace: day.mbt}\nclients: [{name: a, kind: mta}", nil, "has no client of kind webmail for the trace's"},
	} {
		closing := "}\n"
		if strings.Contains(row.workload, "[") {
			closing = "]\n"
		}
		s, err := Parse("t.yaml", []byte(least+"workload:\n  {"+row.workload+closing), overrides(row.set...)...)
		if err == nil {
			_, err = NewPlan(t.Context(), s)
		}
		var input *InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.sentence, err, row.want)
		}
	}
}

// planOf resolves a scenario file and plans it, as the path of a person in
// another folder names it.
func planOf(t *testing.T, path string) *Plan {
	t.Helper()
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Scenario()
	if err != nil {
		t.Fatal(err)
	}
	roundTripAt(t, path, s)
	p, err := NewPlan(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// roundTripAt: the resolved file, in the place of the file, asks for the same.
func roundTripAt(t *testing.T, path string, s *Scenario) {
	t.Helper()
	again, err := Parse(path, s.YAML())
	if err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("got  %+v (%v)\nwant %+v\nthrough:\n%s", again, err, s, s.YAML())
	}
}

// TestAGeneratedFileReplaysAsItsSeedDoes: what a run asks, and of whom, is the
// same from a file and from its seed.
func TestAGeneratedFileReplaysAsItsSeedDoes(t *testing.T) {
	dir := t.TempDir()
	made := generated(t, dir)
	const rest = "before: day, retries: predicted}\nfaults: [{kind: kill, target: data2, at: 10%}]\n"
	writeFile(t, filepath.Join(dir, "file.yaml"), []byte(least+"workload: {trace: day.mbt, from: 10:30, speed: 6, duration: 10m, "+rest))
	writeFile(t, filepath.Join(dir, "seed.yaml"), []byte(least+"seed: 9\npopulation: {accounts: 7000, domain: other.example}\n"+
		"workload: {profile: modern, messages_per_day: 40000, from: 10:30, speed: 6, duration: 10m, "+rest))
	writeFile(t, filepath.Join(dir, "whole.yaml"), []byte(least+"workload: {trace: ./day.mbt, speed: 7}\nfaults: [{kind: kill, target: sql1, at: 50%}]\n"))
	file, seed, whole := planOf(t, filepath.Join(dir, "file.yaml")), planOf(t, filepath.Join(dir, "seed.yaml")), planOf(t, filepath.Join(dir, "whole.yaml"))

	if got, want := slices.Collect(file.Trace.All()), slices.Collect(seed.Trace.All()); len(want) < 1000 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d items from the file, %d from the seed, or they differ", len(got), len(want))
	}
	for item := range seed.Trace.All() {
		if item.Message == nil {
			continue
		}
		for try := range 3 {
			at, client, ok := file.Trace.Retry(item.Message, try)
			if at2, client2, ok2 := seed.Trace.Retry(item.Message, try); at != at2 || client != client2 || ok != ok2 {
				t.Fatalf("try %d of message %d is another one", try, item.Message.Number)
			}
		}
	}
	if !reflect.DeepEqual(file.Faults, seed.Faults) || !reflect.DeepEqual(file.Clients, seed.Clients) {
		t.Error("faults or clients differ")
	}
	if !reflect.DeepEqual(file.manifest("id"), seed.manifest("id")) {
		t.Errorf("manifests\n%+v\n%+v", file.manifest("id"), seed.manifest("id"))
	}
	if !reflect.DeepEqual(*file.Population.Peers, *seed.Population.Peers) {
		t.Error("the peers differ")
	}
	state := func(p *Plan) (rows []greylist.Row, later []*workload.Try) {
		before, later, err := p.made.Predict(context.Background(), greylist.DefaultPolicy(), day, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Collect(before.Triplets()), later
	}
	fileRows, fileTries := state(file)
	if rows, tries := state(seed); len(rows) < 10_000 || len(tries) < 10 || !reflect.DeepEqual(rows, fileRows) || !reflect.DeepEqual(tries, fileTries) {
		t.Error("what was before, or what is predicted, differs")
	}

	// By default the whole file, whose length no speed needs to divide.
	if got := whole.Trace; got.Messages() != made.Messages() || whole.TraceSHA256() != made.SHA256() || got.Window() != made.Window() {
		t.Errorf("%d messages in %+v, want %d in %+v", got.Messages(), got.Window(), made.Messages(), made.Window())
	}
	if at, want := whole.Faults.Steps[0].At, 2*time.Hour/7/2; (at - want).Abs() > time.Millisecond {
		t.Errorf("a fault at half of the load comes at %v, want %v", at, want)
	}
	var b bytes.Buffer
	if err := whole.Describe(&b, 80); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"trace file  ./day.mbt, generated with profile modern\n", "population  7000 accounts of other.example\n", "seed        9\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the plan lacks %q:\n%s", want, &b)
		}
	}
}

// TestAFileThatItsSeedDoesNotMake, though it says so, has no hours before.
func TestAFileThatItsSeedDoesNotMake(t *testing.T) {
	dir := t.TempDir()
	tr := generated(t, dir)
	var b bytes.Buffer
	w, err := workload.NewTraceWriter(&b, tr.Header("modern"))
	if err != nil {
		t.Fatal(err)
	}
	for item := range tr.All() {
		if item.Message != nil {
			item.Message.Sender = "another@example.org"
		}
		if err := w.Write(item); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "day.mbt"), b.Bytes())
	for before, want := range map[string]bool{"day": false, "correspondents": true, "none": true} {
		s, err := Parse(filepath.Join(dir, "t.yaml"), []byte(least+"workload: {trace: day.mbt, before: "+before+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(t.Context(), s)
		var input *InputError
		if (err == nil) != want || err != nil && !(errors.As(err, &input) && strings.Contains(err.Error(), "what was before it cannot be worked out")) {
			t.Errorf("before: %s: %v", before, err)
		}
		if p != nil {
			_ = p.Close()
		}
	}
}

func TestAnImportedFileIsPlannedWithItsRecipients(t *testing.T) {
	dir := t.TempDir()
	fromLog(t, dir)
	writeFile(t, filepath.Join(dir, "t.yaml"), []byte(least+"workload: {trace: log.mbt, from: 38:00, duration: 10m, speed: 12}\nclients: [{name: a, kind: mta}]\n"))
	p := planOf(t, filepath.Join(dir, "t.yaml"))
	if w := p.Trace.Window(); w.From != 38*time.Hour || p.Trace.Messages() != 120 || p.Scenario.Workload.Before != BeforeNone || p.Scenario.Seed != 3 {
		t.Errorf("window %+v, %d messages, %+v", w, p.Trace.Messages(), p.Scenario)
	}
	var b bytes.Buffer
	if err := p.Describe(&b, 80); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"trace file  log.mbt, imported by a test\n", "the trace's 100 recipients in 1 domains, each made an account\n",
		"120 recipients are no addresses and are refused", "window      38:00:00 to 40:00:00 of the virtual day",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the plan lacks %q:\n%s", want, &b)
		}
	}
	m := p.manifest("id")
	if m.Trace.Origin != "imported by a test" || m.Trace.MessagesPerDay != 0 || m.Trace.SHA256 != p.survey.SHA256 || m.Window.FromSeconds != 38*3600 {
		t.Errorf("manifest %+v", m.Trace)
	}
}

const document = `apiVersion: openslo/v1
kind: SLO
metadata: {name: routing}
spec:
  indicator:
    spec:
      ratioMetric:
        good: {metricSource: {type: mailbench, spec: {path: routing}}}
        total: {metricSource: {type: mailbench, spec: {path: routing}}}
  budgetingMethod: Occurrences
  objectives: [{displayName: most, target: 0.9}, {displayName: all, target: 0.999}]
`

// TestOpenSLODocuments: they stand in their place among the objectives, and lie in
// the run directory beside a scenario that names them there.
func TestOpenSLODocuments(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "slo.yaml"), []byte(document))
	writeFile(t, filepath.Join(dir, "other.yaml"), []byte(strings.Replace(document, "name: routing", "name: other", 1)))
	writeFile(t, filepath.Join(dir, "wrong.yaml"), []byte(strings.Replace(document, "path: routing", "path: smtp", 1)))
	file := filepath.Join(dir, "s.yaml")
	s, err := Parse(file, []byte(least+"objectives: [{openslo: ./other.yaml}, {name: mine, target: 99%}, {openslo: slo.yaml}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	names := func(s *Scenario) (names []string) {
		for _, o := range s.Objectives() {
			names = append(names, o.Name)
		}
		return names
	}
	want := []string{"other: most", "other: all", "mine", "routing: most", "routing: all"}
	if !slices.Equal(names(s), want) {
		t.Errorf("objectives are %q, want %q", names(s), want)
	}
	in, again := s.recorded(), filepath.Join(t.TempDir(), "again")
	r, err := results.Create(again, results.Manifest{}, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(results.EndOfRun{}); err != nil {
		t.Fatal(err)
	}
	kept, err := Load(filepath.Join(again, results.ScenarioFile))
	if err != nil {
		t.Fatal(err)
	}
	repeated, err := Parse(kept.Name, kept.Data)
	if err != nil || !slices.Equal(names(repeated), want) || bytes.Contains(in.Scenario, []byte(dir)) {
		t.Errorf("the run directory's scenario: %v\n%s", err, in.Scenario)
	}

	for _, row := range []struct{ sentence, objectives, want string }{
		{"a document that is not there", "[{openslo: ./none.yaml}]", file + ":3:24: objectives[0].openslo: " + filepath.Join(dir, "none.yaml") + ": read the OpenSLO file: no such file or directory"},
		{"a mistake in the document is reported there", "[{openslo: ./wrong.yaml}]", filepath.Join(dir, "wrong.yaml") + ":8:61: spec.indicator.spec.ratioMetric.good.metricSource.spec.path: must be all or routing"},
		{"no path", "[{openslo: 5}]", file + ":3:24: objectives[0].openslo: must be the path of a file"},
		{"a document beside other fields", "[{openslo: slo.yaml, target: 99%}]", file + ":3:34: objectives[0]: no field is called \"target\"; there are openslo"},
		{"a name that is taken", "[{name: 'routing: all', target: 99%}, {openslo: slo.yaml}]", file + ":3:61: objectives[1].openslo: slo.yaml has an objective \"routing: all\", and so has objectives[0]"},
		{"the same document twice", "[{openslo: slo.yaml}, {openslo: slo.yaml}]", file + ":3:45: objectives[1].openslo: slo.yaml has an objective \"routing: most\", and so has objectives[0]"},
	} {
		_, err := Parse(file, []byte(least+"objectives: "+row.objectives+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: got error %v, want %s", row.sentence, err, row.want)
		}
	}
}

// TestARunDirectoryRepeatsItsScenario: with the profile that lies in it, and the
// trace once it is put there.
func TestARunDirectoryRepeatsItsScenario(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	generated(t, dir)
	text, err := workload.BuiltinProfileText("modern")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("name: modern"), []byte("name: mine"), 1)
	if err := os.Mkdir(filepath.Join(dir, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "profiles", "mine.yaml"), text)
	writeFile(t, filepath.Join(dir, "profile.yaml"), []byte(least+"workload: {profile: profiles/mine.yaml, messages_per_day: 40000}\n"))
	writeFile(t, filepath.Join(dir, "trace.yaml"), []byte(least+"workload: {trace: "+filepath.Join(dir, "day.mbt")+", duration: 1m}\n"))

	p := planOf(t, filepath.Join(dir, "profile.yaml"))
	in := p.Scenario.recorded()
	if !bytes.Equal(in.Profile, text) || bytes.Contains(in.Scenario, []byte(dir)) || !bytes.Contains(in.Scenario, []byte("profile: profile.yaml\n")) {
		t.Errorf("recorded:\n%s\nand %d bytes of profile", in.Scenario, len(in.Profile))
	}
	writeFile(t, filepath.Join(run, "scenario.yaml"), in.Scenario)
	writeFile(t, filepath.Join(run, "profile.yaml"), in.Profile)
	again := planOf(t, filepath.Join(run, "scenario.yaml"))
	if again.TraceSHA256() != p.TraceSHA256() || !reflect.DeepEqual(again.manifest("id"), p.manifest("id")) {
		t.Error("the run directory makes another trace")
	}
	if twice := again.Scenario.recorded(); !reflect.DeepEqual(twice, in) {
		t.Error("the run of a run directory is recorded otherwise")
	}

	p = planOf(t, filepath.Join(dir, "trace.yaml"))
	in = p.Scenario.recorded()
	if in.Profile != nil || bytes.Contains(in.Scenario, []byte(dir)) {
		t.Errorf("recorded:\n%s", in.Scenario)
	}
	_, err = Parse(filepath.Join(run, "scenario.yaml"), in.Scenario)
	if err == nil || !strings.Contains(err.Error(), "it is the one whose items have SHA-256 "+p.Scenario.Workload.TraceSHA256) {
		t.Errorf("without the trace: %v", err)
	}
	for _, place := range []struct {
		set  []string
		copy string
	}{{[]string{"workload.trace=" + filepath.Join(dir, "day.mbt")}, ""}, {nil, filepath.Join(run, "day.mbt")}} {
		if place.copy != "" {
			if err := os.Link(filepath.Join(dir, "day.mbt"), place.copy); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Parse(filepath.Join(run, "scenario.yaml"), in.Scenario, overrides(place.set...)...)
		if err != nil {
			t.Fatal(err)
		}
		again, err := NewPlan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if again.TraceSHA256() != p.TraceSHA256() {
			t.Error("another trace")
		}
		_ = again.Close()
	}
}

func TestMistakesInAProfileNameItsOwnFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	text, err := workload.BuiltinProfileText("modern")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "bad.yaml", append(text, "colour: red\n"...))
	lines := bytes.Count(text, []byte("\n"))
	for _, row := range []struct{ sentence, workload, want string }{
		{"a profile with a field too many", "profile: ./bad.yaml", fmt.Sprintf("bad.yaml:%d:1: profile: no field is called \"colour\"", lines+1)},
		{"one that is not there", "profile: ./no.yaml", "t.yaml:3:21: workload.profile: no.yaml: read the profile file: no such file"},
		{"one that is a folder", "profile: ./", "t.yaml:3:21: workload.profile: .: read the profile file: "},
		{"mistakes of both files", "profile: ./bad.yaml, speed: 0", "t.yaml:3:40: workload.speed"},
	} {
		_, err := Parse("t.yaml", []byte(least+"workload: {"+row.workload+"}\n"))
		var input *InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.sentence, err, row.want)
		}
	}
	if err := GenerateTrace(t.Context(), TraceOptions{Profile: "./bad.yaml", Out: "x", Progress: io.Discard}); err == nil || !strings.Contains(err.Error(), "bad.yaml:") {
		t.Errorf("generate with a bad profile: %v", err)
	}
}
