package scenarios_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload"
)

// TestRunsOfTraceFiles performs a file that was generated, with the day before
// it, and one that was imported from the log of a real Exim, on real clusters.
// What it asserts does not depend on how fast the machine is.
func TestRunsOfTraceFiles(t *testing.T) {
	clustertest.Alone(t)
	dir := t.TempDir()
	generated, imported := filepath.Join(dir, "day.mbt"), filepath.Join(dir, "log.mbt")
	profile := filepath.Join(dir, "mine.yaml")
	text, err := workload.BuiltinProfileText(workload.DefaultProfile)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("messages_per_day: 4000000"), []byte("messages_per_day: 50000"), 1)
	if err := os.WriteFile(profile, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := scenarios.GenerateTrace(t.Context(), scenarios.TraceOptions{
		Seed: 5, Profile: profile, Accounts: 2000, Window: workload.Window{From: 10 * time.Hour, Duration: 30 * time.Minute}, Out: generated, Progress: io.Discard,
	}); err != nil {
		t.Fatal(err)
	}
	const logs = "../workload/maillog/testdata/"
	if err := scenarios.ImportTrace(t.Context(), scenarios.ImportOptions{
		Logs: []string{logs + "exim-full.mainlog", logs + "exim-full.rejectlog"}, Format: "auto", Seed: 5,
		RetryWindow: 48 * time.Hour, OurDomains: []string{"calmail.example"}, Out: imported, Progress: io.Discard,
	}); err != nil {
		t.Fatal(err)
	}
	const head = "name: t\nhypothesis: It works.\n"
	for _, row := range []struct {
		sentence, text string
		least          int64 // messages
		everyRoute     routing.Verdict
	}{
		{"a generated file", "workload: {trace: day.mbt, from: 10:10, duration: 20s, speed: 30, before: day, retries: predicted}\n", 300, 0},
		{"the log of an Exim", "workload: {trace: log.mbt, duration: 15s, speed: 8}\nclients: [{name: mta1, kind: mta}]\n", 5, routing.Local},
		{"a profile of one's own", "population: {accounts: 1000}\nworkload: {profile: mine.yaml, duration: 5s, speed: 60}\n", 100, 0},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			path := filepath.Join(dir, "scenario.yaml")
			if err := os.WriteFile(path, []byte(head+row.text), 0o644); err != nil {
				t.Fatal(err)
			}
			file, err := scenarios.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := file.Scenario()
			if err != nil {
				t.Fatal(err)
			}
			p, err := scenarios.NewPlan(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			var progress bytes.Buffer
			out := filepath.Join(t.TempDir(), "run")
			conductor := scenarios.Conductor{Dir: out, Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
			run, err := conductor.Run(t.Context(), p)
			if err != nil {
				t.Fatalf("%v\n%s", err, &progress)
			}
			if run.Trace.SHA256 != p.TraceSHA256() || run.Trace.Started != p.Trace.Messages() || run.Trace.Started < row.least {
				t.Errorf("trace %+v, want %d messages or more of %s", run.Trace, row.least, p.TraceSHA256())
			}
			if g, r := run.Paths["greylist"], run.Paths["routing"]; g.OK == 0 || r.Wrong+g.Wrong != 0 || run.Verdict == results.DataLoss {
				t.Errorf("verdict %s, paths %+v", run.Verdict, run.Paths)
			}
			for _, name := range []string{results.ManifestFile, results.ScenarioFile, "run.json"} {
				if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || bytes.Contains(b, []byte(dir)) {
					t.Errorf("%s holds a path of this machine (%v)", name, err)
				}
			}
			if row.everyRoute != 0 {
				reader, err := results.Open(out)
				if err != nil {
					t.Fatal(err)
				}
				for s, err := range reader.Samples() {
					if err != nil {
						t.Fatal(err)
					}
					if s.Operation.Path() == reference.Routing && routing.Verdict(s.Answer) != row.everyRoute {
						t.Errorf("recipient %d of message %d is %s, want %s", s.Recipient, s.Message, routing.Verdict(s.Answer), row.everyRoute)
					}
				}
			}
			if run.Verdict != results.Pass {
				t.Logf("verdict %s: %+v", run.Verdict, run.Reasons)
			}
		})
	}
}
