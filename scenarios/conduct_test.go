package scenarios_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/report"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload"
	"github.com/moby/moby/client"
)

// twoKills is a small peak hour: both kinds of node die and come back, and every
// path reaches both SQL nodes.
const twoKills = `
name: two-kills
hypothesis: Both kinds of node come back.
population: {accounts: 20000}
workload:
  duration: 100s # leaves room for a slow machine: the second fault waits for the first
  account_jobs_per_day: 100000 # 3.5/s, for some to meet a fault
clients:
  - {name: mta1, kind: mta, nodes: [sql1, sql2]}
  - {name: mta2, kind: mta, nodes: [sql2, sql1]}
  - {name: webmail1, kind: webmail, nodes: [sql2, sql1]}
  - {name: webmail2, kind: webmail, nodes: [sql1, sql2]}
faults:
  - {kind: kill, target: data2, at: 5s, hold: 2s}
  - {kind: kill, target: sql1, at: 50s, hold: 10s}
`

func plan(t *testing.T, text string, overrides ...scenarios.Override) *scenarios.Plan {
	t.Helper()
	s, err := scenarios.Parse("test.yaml", []byte(text), overrides...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := scenarios.NewPlan(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nothingLeft says that the engine holds nothing but the shared test cluster.
func nothingLeft(t *testing.T, docker *client.Client) {
	t.Helper()
	left, err := cluster.List(context.Background(), docker)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range left {
		if info.RunID != clustertest.RunID {
			t.Errorf("run %s is still in the engine", info.RunID)
		}
	}
}

// TestRunTwoKills is the main job: a real cluster, a real load, real SIGKILLs.
// What it asserts does not depend on how fast the machine is.
func TestRunTwoKills(t *testing.T) {
	docker := clustertest.Alone(t)
	dir := filepath.Join(t.TempDir(), "run")
	var progress bytes.Buffer
	conductor := scenarios.Conductor{Dir: dir, Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
	p := plan(t, twoKills)
	run, err := conductor.Run(t.Context(), p)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	nothingLeft(t, docker)

	if run.Trace.SHA256 != p.Trace.SHA256() || run.Plan.SHA256 != p.Faults.SHA256() {
		t.Error("the run does not name the trace and the plan that it performed")
	}
	if run.Trace.Started != p.Trace.Messages() {
		t.Errorf("%d of %d messages began", run.Trace.Started, p.Trace.Messages())
	}
	if len(run.Faults) != 2 {
		t.Fatalf("%d faults, want 2", len(run.Faults))
	}
	for _, f := range run.Faults {
		if f.InjectedAtUS == nil || f.EffectiveAtUS == nil || f.RecoveredAtUS == nil || f.RedundantAtUS == nil {
			t.Errorf("fault %s lacks a step: %+v", f.ID, f)
			continue
		}
		if !(*f.InjectedAtUS < *f.EffectiveAtUS && *f.EffectiveAtUS < *f.RecoveredAtUS && *f.RecoveredAtUS <= *f.RedundantAtUS) {
			t.Errorf("the steps of fault %s are out of order", f.ID)
		}
	}
	for _, node := range []string{"sql1", "sql2"} {
		for _, path := range reference.Paths {
			if run.Nodes[node].Paths[path.String()] == 0 {
				t.Errorf("no attempt on path %s reached %s", path, node)
			}
		}
	}
	l := run.Ledger
	if l == nil || l.Acknowledged == 0 || l.Verified != l.Acknowledged || l.Violations != (results.ViolationCounts{}) {
		t.Errorf("ledger %+v, want acknowledged writes, all verified, and no answer that contradicts one", l)
		tellBroken(t, dir, p)
	}
	for _, kind := range results.LedgerKinds {
		if l != nil && l.Kinds[kind].Acknowledged == 0 && kind != results.Credit { // a run of seconds earns none
			t.Errorf("no key of kind %s was written", kind)
		}
	}
	if l != nil && len(l.ReadBacks) != 6 {
		t.Errorf("%d readings, want one through each SQL node after each of two faults and at the end: %+v", len(l.ReadBacks), l.ReadBacks)
	}
	if a := run.Paths["accounts"]; a.OK+a.Retried == 0 {
		t.Errorf("no account was changed: %+v", a)
	}
	for _, path := range reference.Paths {
		if len(run.Costs[path.String()]) == 0 {
			t.Errorf("nothing of what decisions of path %s cost: %v", path, run.Costs)
		}
	}
	survivorCarriesAll(t, dir, run.Faults[1])
	epochsAreKnown(t, dir)

	first, err := os.ReadFile(filepath.Join(dir, report.RunFile))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(elsewhere, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Write(elsewhere); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(elsewhere, report.RunFile)); err != nil || !bytes.Equal(first, again) {
		t.Errorf("judged elsewhere, run.json differs (%v)", err)
	}
	if bytes.Contains(first, []byte(dir)) {
		t.Error("run.json holds a path of this machine")
	}
	for _, name := range []string{"config.ini", "data2.log", "sql1.log"} {
		if _, err := os.Stat(filepath.Join(dir, "cluster", name)); err != nil {
			t.Error(err)
		}
	}
}

// tellBroken logs what the ledger found broken, and each op that changed an account
// that is among it: where the test fails, the run directory is gone afterwards.
func tellBroken(t *testing.T, dir string, p *scenarios.Plan) {
	t.Helper()
	reader, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]bool{}
	book, err := reader.Ledger()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range book.Violations {
		t.Logf("ledger: %+v", v)
	}
	for _, r := range book.Rows {
		t.Logf("ledger: %+v", r)
		if r.Kind == results.AccountKey {
			broken[r.User] = true
		}
	}
	jobs := map[uint64]*workload.Job{}
	for item := range p.Trace.All() {
		if item.Job != nil && broken[item.Job.Changes[0].Login] {
			jobs[item.Job.Number] = item.Job
		}
	}
	for s, err := range reader.Samples() {
		if err != nil {
			t.Fatal(err)
		}
		if job := jobs[s.Message]; job != nil && s.Operation == reference.ChangeAccount {
			t.Logf("%+v: %+v", job.Changes[s.Recipient], s)
		}
	}
}

// epochsAreKnown: the recording tells to which global checkpoint writes belonged, on
// which the judgement of losses rests, and no checkpoint comes before an earlier one.
func epochsAreKnown(t *testing.T, dir string) {
	t.Helper()
	reader, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var last results.Epoch
	n := 0
	for row, err := range reader.Counters() {
		if err != nil {
			t.Fatal(err)
		}
		if row.Epoch == nil {
			continue
		}
		if n++; row.Epoch.GCI < last.GCI || row.Epoch.DispatchedUS <= last.DispatchedUS {
			t.Errorf("epoch %+v comes after %+v", *row.Epoch, last)
		}
		last = *row.Epoch
	}
	if n < 20 || last.GCI == 0 { // a slow machine has some seconds without one
		t.Errorf("%d epochs are known, the last %+v", n, last)
	}
}

// survivorCarriesAll: while sql1 is dead every path is answered by sql2, and
// nothing by sql1.
func survivorCarriesAll(t *testing.T, dir string, f results.FaultResult) {
	t.Helper()
	reader, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	topology := reader.Manifest().Topology
	// From when the cluster noticed until the harness started the node again.
	from := time.Duration(*f.EffectiveAtUS) * time.Microsecond
	to := recoverAt(t, reader, f.ID)
	answered := map[string]map[string]int{}
	for s, err := range reader.Samples() {
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range s.Attempts {
			if a.Dispatched < from || a.Ended > to || !a.Result.OK() {
				continue
			}
			n, _ := topology.ByID(a.Node)
			path := s.Operation.Path().String()
			if answered[path] == nil {
				answered[path] = map[string]int{}
			}
			answered[path][n.Name]++
		}
	}
	for _, path := range reference.Paths {
		if answered[path.String()]["sql2"] == 0 || answered[path.String()]["sql1"] != 0 {
			t.Errorf("while sql1 was dead, path %s was answered by %v", path, answered[path.String()])
		}
	}
}

// recoverAt is when the harness began to start the node of a fault again.
func recoverAt(t *testing.T, r *results.Reader, fault string) time.Duration {
	t.Helper()
	for e, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == chaos.KindFault && e.Fault == fault && e.Name == chaos.StepRecover {
			return e.At
		}
	}
	t.Fatalf("fault %s has no event %s", fault, chaos.StepRecover)
	return 0
}

// killAt starts a harness and kills it when a text appears in its progress.
func killAt(t *testing.T, harness *exec.Cmd, text string) {
	t.Helper()
	stderr, err := harness.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Start(); err != nil {
		t.Fatal(err)
	}
	progress := &until{text: text, cancel: func() { _ = harness.Process.Kill() }}
	_, _ = io.Copy(progress, stderr) // ends when the process does
	if err := harness.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the harness ended by itself: %v\n%s", err, &progress.all)
	}
}

// until ends a context when a text appears in what is written to it.
type until struct {
	text   string
	cancel context.CancelFunc

	mu  sync.Mutex
	all bytes.Buffer
}

func (u *until) Write(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all.Write(b)
	if strings.Contains(u.all.String(), u.text) {
		u.cancel()
	}
	return len(b), nil
}

// TestInterruptHealsAndWrites interrupts a run while a node is dead, and while
// the cluster is starting.
func TestInterruptHealsAndWrites(t *testing.T) {
	docker := clustertest.Alone(t)
	for _, row := range []struct {
		sentence, when string
		recorded       bool
	}{
		{"while the cluster is starting, nothing has been recorded", "are starting", false},
		{"while a node is dead, what was recorded is judged", "f1-kill-data2 effective", true},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dir := filepath.Join(t.TempDir(), "run")
			progress := &until{text: row.when, cancel: cancel}
			conductor := scenarios.Conductor{Dir: dir, Progress: progress, Image: os.Getenv("MAILBENCH_IMAGE")}
			run, err := conductor.Run(ctx, plan(t, twoKills, scenarios.Override{Path: "population.accounts", Value: "1000"}))
			var interrupted *scenarios.InterruptedError
			if !errors.As(err, &interrupted) {
				t.Fatalf("error %v, want an interruption\n%s", err, &progress.all)
			}
			nothingLeft(t, docker)
			if (run != nil) != row.recorded {
				t.Fatalf("run %v, want one: %t", run, row.recorded)
			}
			if run == nil {
				if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("an empty run directory is left (%v)", err)
				}
				return
			}
			if run.Verdict != results.Inconclusive || run.End == nil || run.End.Reason != results.Interrupted {
				t.Errorf("verdict %s, end %+v; an interrupted run is inconclusive", run.Verdict, run.End)
			}
			if run.Faults[0].RecoveredAtUS == nil {
				t.Error("the dead node was not brought back before the end")
			}
		})
	}
}

// TestHealAfterKill kills the harness itself while a node is dead: heal removes
// what is left, and finds nothing the second time.
func TestHealAfterKill(t *testing.T) {
	docker := clustertest.Alone(t)
	dir := t.TempDir()
	binary := filepath.Join(dir, "mailbench")
	build := exec.Command("go", "build", "-o", binary, "../cmd/mailbench")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	scenario := filepath.Join(dir, "two-kills.yaml")
	if err := os.WriteFile(scenario, []byte(twoKills), 0o644); err != nil {
		t.Fatal(err)
	}
	harness := exec.Command(binary, "run", scenario, "--set", "population.accounts=1000", "--out", filepath.Join(dir, "run"))
	killAt(t, harness, "f1-kill-data2 effective")

	var said []string
	say := func(line string) { said = append(said, line) }
	if err := scenarios.Heal(t.Context(), docker, "", say); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(said, "\n"); !strings.Contains(text, "removed its containers") {
		t.Errorf("heal said: %s", text)
	}
	nothingLeft(t, docker)
	first := len(said)
	if err := scenarios.Heal(t.Context(), docker, "", say); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(said[first:]); strings.Contains(text, "removed") {
		t.Errorf("the second time, heal said: %s", text)
	}
	// What the dead harness wrote can be judged, and does not pass.
	run, err := report.Write(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	if run.Verdict != results.Inconclusive {
		t.Errorf("verdict %s of a run whose harness was killed", run.Verdict)
	}
}

// TestHealStartsDeadNodesOfAKeptCluster: a cluster that was kept has no journal
// to tell of, or one that is lost; a node that is dead is started all the same.
func TestHealStartsDeadNodesOfAKeptCluster(t *testing.T) {
	c := clustertest.Exclusive(t)
	docker, err := engine.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	n, err := c.Topology().Node("sql2")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	heal := func() string {
		t.Helper()
		var said []string
		if err := scenarios.Heal(t.Context(), docker, clustertest.RunID, func(line string) { said = append(said, line) }); err != nil {
			t.Fatal(err)
		}
		return strings.Join(said, "\n")
	}
	if said := heal(); !strings.Contains(said, "node sql2 was exited; it takes part again") {
		t.Errorf("heal said: %s", said)
	}
	if said := heal(); !strings.Contains(said, "every node runs") {
		t.Errorf("the second time, heal said: %s", said)
	}
	if _, err := c.AwaitRedundant(t.Context(), n.ID); err != nil {
		t.Error(err)
	}
}

// TestAClusterThatCannotStart: a node that ends while it starts is told of at
// once, with the end of its log, and nothing is left.
func TestAClusterThatCannotStart(t *testing.T) {
	docker := clustertest.Alone(t)
	p := plan(t, twoKills, scenarios.Override{Path: "topology.data_node.NoSuchParameter", Value: "1"})
	err := scenarios.Up(t.Context(), docker, p, "cannot-start", os.Getenv("MAILBENCH_IMAGE"), io.Discard, false)
	var start *scenarios.StartError
	if !errors.As(err, &start) {
		t.Fatalf("error %v, want a StartError", err)
	}
	for _, part := range []string{"node mgm1 ended while it started", "NoSuchParameter"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
	nothingLeft(t, docker)
}
