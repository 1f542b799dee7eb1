package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// healCase is a fault whose harness is killed with SIGKILL at each step of the
// journal, on the topology of the scenario smoke.
type healCase struct {
	kind   chaos.Kind
	target string
	set    []string
	most   time.Duration // from the step "inject" to the kill
	disk   bool          // wants data nodes with a bounded disk
	run    bool          // made by `run --keep`, not by `chaos inject`
	often  bool          // is one of those that every test run makes one step of
	unfelt bool          // nobody feels it where little is asked: it is taken back after 45 s
}

// Heartbeats tell of a silent data node after 20 to 25 s: some of the kills come
// before the cluster has acted, some after.
const silence = 35 * time.Second

// healCases are the faults of the matrix: each kind at least once, and some on
// nodes of another role, which another act starts.
func healCases() []healCase {
	return []healCase{
		{kind: chaos.Kill, target: "data2", most: 5 * time.Second, often: true},
		{kind: chaos.Kill, target: "sql1", most: 2 * time.Second},
		{kind: chaos.Kill, target: "mgm1", most: 2 * time.Second},
		{kind: chaos.Kill, target: "group:0", set: []string{"allow=outage"}, most: 5 * time.Second},
		{kind: chaos.Pause, target: "data1", most: silence, often: true},
		{kind: chaos.Pause, target: "sql2", most: 10 * time.Second},
		{kind: chaos.Stop, target: "data2", most: 20 * time.Second},
		{kind: chaos.Stop, target: "mgm1", most: 40 * time.Second},
		{kind: chaos.Stop, target: "role:sql", set: []string{"allow=outage"}, most: 6 * time.Second},
		{kind: chaos.Crash, target: "data2", most: 3 * time.Second},
		{kind: chaos.Initial, target: "data2", most: 5 * time.Second},
		{kind: chaos.KillInRestart, target: "data2", most: 3 * time.Second},
		{kind: chaos.KillInCheckpoint, target: "master", most: time.Second},
		{kind: chaos.RollingRestart, target: "data2", most: 25 * time.Second},
		{kind: chaos.RollingRestart, target: "sql1", most: 6 * time.Second},
		{kind: chaos.PowerOff, target: "data1", most: silence},
		{kind: chaos.Isolate, target: "data2", most: silence, often: true},
		{kind: chaos.Partition, target: "data1", set: []string{"peers=[data2, sql1]"}, most: silence, often: true},
		{kind: chaos.Loss, target: "data2", set: []string{"loss=60%"}, most: silence},
		{kind: chaos.Bandwidth, target: "data1", set: []string{"rate=64kbit/s"}, most: silence},
		{kind: chaos.HostLatency, target: "data1", set: []string{"delay=50ms"}, most: 2 * time.Second},
		{kind: chaos.NoisyNeighbour, target: "data2", set: []string{"cpus=0.5"}, most: 2 * time.Second, often: true, unfelt: true},
		{kind: chaos.NoisyNeighbour, target: "data1", set: []string{"cpus=0.3", "memory=1GiB"}, most: 5 * time.Second},
		{kind: chaos.SlowCPU, target: "sql1", set: []string{"cpus=0.1"}, most: time.Second, often: true, unfelt: true},
		{kind: chaos.SlowDisk, target: "data2", set: []string{"write_rate=4MiB/s"}, most: 2 * time.Second},
		{kind: chaos.DiskFull, target: "data1", most: 3 * time.Second, disk: true, often: true},
		{kind: chaos.MemoryFull, target: "sql1", most: 20 * time.Second},
		{kind: chaos.MemoryFull, target: "sql2", most: 20 * time.Second},
		{kind: chaos.ConnectionStorm, target: "sql1", most: 2 * time.Second},
		{kind: chaos.OpenTransaction, target: "sql1", most: time.Second},
		{kind: chaos.Kill, target: "data2", most: 10 * time.Second, run: true},
		{kind: chaos.Latency, target: "sql1", set: []string{"delay: 50ms"}, most: 5 * time.Second, run: true},
		{kind: chaos.LinkCut, target: "sql1", most: 5 * time.Second, run: true},
		{kind: chaos.Command, target: "data2", set: []string{"inject: ['true']", "recover: ['true']", "effect: ['true']"}, most: 5 * time.Second, run: true},
	}
}

// The steps of a case beside those of the journal: undo is that of an interrupt,
// and at healing it is heal that is killed, after its own entry "undo".
const stepHealing = "heal"

// stage is the name of a step that a journal has several of.
func stage(n int) string { return fmt.Sprintf("%s %d", chaos.JournalStage, n) }

// steps are all of a case.
func (c healCase) steps(t *testing.T) []string {
	t.Helper()
	if c.run {
		return []string{chaos.JournalInject, chaos.JournalRecover}
	}
	steps := []string{chaos.JournalInject}
	for i := range c.stages(t) {
		steps = append(steps, stage(i+1))
	}
	return append(steps, chaos.JournalRecover, chaos.JournalUndo, stepHealing)
}

// stages asks the fault in how many further acts it is made.
func (c healCase) stages(t *testing.T) int {
	t.Helper()
	layout, err := clustertest.Topology()
	if err != nil {
		t.Fatal(err)
	}
	var set []scenarios.Override
	for _, text := range c.set {
		o, err := scenarios.ParseOverride(text)
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, o)
	}
	spec, err := scenarios.ParseFault(string(c.kind), c.target, set...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := chaos.NewPlan(1, []chaos.Spec{spec}, chaos.Ground{Topology: layout, Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	fault, err := chaos.Builder(cluster.New(nil, cluster.Spec{Topology: layout}), nil)(plan.Steps[0])
	if err != nil {
		t.Fatal(err)
	}
	staged, is := fault.(chaos.Staged)
	if !is {
		return 0
	}
	return len(staged.Stages())
}

// after draws how long after a step the kill comes.
func (c healCase) after(drawn *rand.Rand, step string) time.Duration {
	most := 2 * time.Second
	if step == chaos.JournalInject {
		most = c.most
	}
	return time.Duration(drawn.Int64N(int64(most)))
}

// TestHealCasesHoldEveryKind: a kind that is new must be killed too.
func TestHealCasesHoldEveryKind(t *testing.T) {
	for _, d := range chaos.Catalogue() {
		of := func(c healCase) bool { return c.kind == d.Kind }
		i := slices.IndexFunc(healCases(), of)
		if i < 0 {
			t.Errorf("no case of the matrix kills the harness while it makes %s", d.Kind)
			continue
		}
		if c := healCases()[i]; c.run != (d.Kind == chaos.Command || slices.Contains(d.Needs, chaos.ClientLinks)) {
			t.Errorf("%s: made by a run: %t", d.Kind, c.run)
		}
	}
}

// TestHealAfterKillOfInject kills a real `chaos inject` at a step of each of
// several kinds, some time after that step, both drawn from a seed. heal must
// bring the cluster back to what it was, and find nothing to do the second time.
// TestHealMatrix does so at every step of every kind.
func TestHealAfterKillOfInject(t *testing.T) {
	h := newHealer(t, clustertest.Alone(t), "heal-test")
	if err := h.up(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for i, c := range healCases() {
		if !c.often {
			continue
		}
		t.Run(string(c.kind), func(t *testing.T) {
			drawn := rand.New(rand.NewPCG(5, uint64(i)))
			steps := slices.DeleteFunc(c.steps(t), func(step string) bool { return c.unfelt && step == chaos.JournalRecover })
			step := steps[drawn.IntN(len(steps))]
			o := h.kill(t.Context(), c, step, c.after(drawn, step))
			if o.err != nil {
				t.Fatalf("killed %v after %q: %v\nheal said:\n%s", o.killed, step, o.err, o.said)
			}
		})
	}
	t.Run("without a journal", func(t *testing.T) {
		if err := os.Remove(h.journal()); err != nil {
			t.Fatal(err)
		}
		c, err := cluster.Attach(t.Context(), h.docker, h.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []struct {
			kind     chaos.Kind
			node     string
			settings chaos.Settings
		}{
			{chaos.Pause, "sql1", chaos.Settings{}},
			{chaos.Isolate, "sql2", chaos.Settings{}},
			{chaos.DiskFull, "data1", chaos.Settings{LeaveBytes: 512 << 20}},
			{chaos.NoisyNeighbour, "data2", chaos.Settings{MilliCPUs: 300}},
		} {
			n, err := c.Topology().Node(p.node)
			if err != nil {
				t.Fatal(err)
			}
			fault, err := chaos.Builder(c, nil)(chaos.Planned{
				ID: "lost-" + string(p.kind), Kind: p.kind, Nodes: []topology.Node{n}, Settings: p.settings,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := fault.Inject(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := h.mailbench(t.Context(), "heal", "--name", h.name); err != nil {
			t.Errorf("heal: %v\n%s", err, out)
		}
		if err := h.intact(t.Context(), h.name, h.before); err != nil {
			t.Error(err)
		}
	})
}

// healer kills harnesses of a cluster and heals it.
type healer struct {
	docker *client.Client
	binary string
	folder string // for what is written on the way
	name   string // of the cluster that stays
	before string // what it was like before the first fault
}

// newHealer compiles the program. The cluster that bears the name is removed when
// the test ends.
func newHealer(t *testing.T, docker *client.Client, name string) *healer {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	h := &healer{docker: docker, binary: filepath.Join(dir, "mailbench"), folder: dir, name: name}
	if out, err := exec.Command("go", "build", "-o", h.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := cluster.Remove(context.Background(), docker, name); err != nil {
			t.Error(err)
		}
	})
	return h
}

// journal is that of the cluster that stays.
func (h *healer) journal() string {
	return filepath.Join(h.folder, "state", "mailbench", "clusters", h.name+".jsonl")
}

// mailbench runs the program and returns all that it printed.
func (h *healer) mailbench(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, h.binary, args...).CombinedOutput()
	return string(out), err
}

// rowsHeld are stored before the first fault, for open-transaction to lock and
// for every heal to leave alone.
const rowsHeld = 50

// up starts the cluster anew.
func (h *healer) up(ctx context.Context, disk bool) error {
	if out, err := h.mailbench(ctx, "cluster", "down", "--name", h.name); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	args := []string{"cluster", "up", "--name", h.name, "--scenario", "smoke"}
	if disk {
		args = append(args, "--set", "topology.limits.data.disk=1GiB")
	}
	if out, err := h.mailbench(ctx, args...); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	c, err := cluster.Attach(ctx, h.docker, h.name)
	if err != nil {
		return err
	}
	loader, closeLoader, err := c.Loader(ctx)
	if err != nil {
		return err
	}
	var rows []greylist.Row
	for i := range rowsHeld {
		at := time.Unix(int64(1_700_000_000+i), 0)
		rows = append(rows, greylist.Row{
			Client: netip.MustParseAddr("192.0.2.1"), Sender: fmt.Sprintf("s%d@peer.example", i), Recipient: "r@calmail.example", First: at, Last: at,
		})
	}
	if err := errors.Join(loader.LoadTriplets(ctx, rows), closeLoader()); err != nil {
		return err
	}
	if err := h.whole(ctx, h.name); err != nil {
		return err
	}
	h.before, err = h.found(ctx, h.name)
	return err
}

// outcome is what became of a case.
type outcome struct {
	refused     string        // why the fault cannot be made here, "" if it was
	killed      time.Duration // how long after the step
	said, again string        // by heal, the first time and the second
	took        time.Duration // the first time
	err         error         // what is not as it must be
}

// kill has a fault made, kills its harness after a step, and heals. A harness that
// was done before it could be killed is tried again, and killed sooner.
func (h *healer) kill(ctx context.Context, c healCase, step string, after time.Duration) outcome {
	for tries := 0; ; {
		var o outcome
		if c.run {
			o = h.killRun(ctx, c, step, after)
		} else {
			o = h.killInject(ctx, c, step, after)
		}
		if after == 0 {
			tries++ // some are done within milliseconds
		}
		if !errors.Is(o.err, errDone) || tries == 10 {
			return o
		}
		if after /= 3; after < 30*time.Millisecond {
			after = 0
		}
	}
}

var errDone = errors.New("the harness was done before it was killed")

func (h *healer) killInject(ctx context.Context, c healCase, step string, after time.Duration) outcome {
	entries := entriesOf(h.journal())
	args := []string{"chaos", "inject", string(c.kind), c.target, "--name", h.name}
	for _, set := range c.set {
		args = append(args, "--set", set)
	}
	hold := "5m"
	if step == chaos.JournalRecover {
		hold = "1s"
	}
	harness := h.start(append(args, "--hold", hold)...)
	if harness.err != nil {
		return outcome{err: harness.err}
	}
	defer harness.end()
	is := func(step string) func() bool {
		return func() bool { return reached(h.journal(), len(entries), step) }
	}
	switch step {
	case chaos.JournalUndo:
		if err := harness.await(ctx, "the injection", func() bool { return strings.Contains(harness.printed(), "  injected ") }); err != nil {
			return outcome{err: err, refused: harness.refusal()}
		}
		if err := pause(ctx, after); err != nil {
			return outcome{err: err}
		}
		if err := harness.cmd.Process.Signal(syscall.SIGINT); err != nil {
			return outcome{err: fmt.Errorf("%w: %w", errDone, err)}
		}
	case stepHealing:
		if err := harness.await(ctx, "the step inject", is(chaos.JournalInject)); err != nil {
			return outcome{err: err, refused: harness.refusal()}
		}
		if err := pause(ctx, after); err != nil {
			return outcome{err: err}
		}
		harness.end()
		harness = h.start("heal", "--name", h.name)
		if harness.err != nil {
			return outcome{err: harness.err}
		}
		defer harness.end()
		step = chaos.JournalUndo
	}
	if err := harness.await(ctx, "the step "+step, is(step)); err != nil {
		return outcome{err: err, refused: harness.refusal()}
	}
	return h.killAndHeal(ctx, harness, h.name, h.journal(), h.before, after)
}

// killRun has a fault made by a run that keeps its cluster, which is removed
// afterwards.
func (h *healer) killRun(ctx context.Context, c healCase, step string, after time.Duration) (o outcome) {
	hold := "100s"
	if step == chaos.JournalRecover {
		hold = "1s"
	}
	dir, err := os.MkdirTemp(h.folder, "run-")
	if err != nil {
		return outcome{err: err}
	}
	fault := []string{"kind: " + string(c.kind), "target: " + c.target, "at: 12s", "hold: " + hold}
	file := filepath.Join(dir, "killed.yaml")
	if err := os.WriteFile(file, []byte(`name: heal-matrix-run
hypothesis: The harness of this run does not live to see its end.
population: {accounts: 500}
workload: {duration: 180s, messages_per_day: 1000000, before: none}
faults: [{`+strings.Join(append(fault, c.set...), ", ")+`}]
objectives: [{name: all answer, target: 50%}]
`), 0o644); err != nil {
		return outcome{err: err}
	}
	journal := filepath.Join(dir, "run", scenarios.JournalFile)
	harness := h.start("run", file, "--keep", "--out", filepath.Dir(journal), "--progress", "none", "--allow-commands")
	if harness.err != nil {
		return outcome{err: harness.err}
	}
	defer harness.end()
	var name string
	defer func() {
		harness.end()
		if name == "" {
			return
		}
		if out, err := h.mailbench(context.WithoutCancel(ctx), "cluster", "down", "--name", name); err != nil {
			o.err = errors.Join(o.err, fmt.Errorf("%w: %s", err, out))
		}
	}()
	if err := harness.await(ctx, "the run's load", func() bool {
		_, err := os.Stat(journal)
		return err == nil
	}); err != nil {
		return outcome{err: err}
	}
	clusters, err := cluster.List(ctx, h.docker)
	if err != nil {
		return outcome{err: err}
	}
	for _, info := range clusters {
		if info.Journal == journal {
			name = info.RunID
		}
	}
	if name == "" {
		return outcome{err: fmt.Errorf("no cluster has the journal %s", journal)}
	}
	before, err := h.found(ctx, name)
	if err != nil {
		return outcome{err: err}
	}
	if entries := entriesOf(journal); len(entries) > 0 {
		return outcome{err: errors.New("the fault was made before the cluster could be looked at")}
	}
	if err := harness.await(ctx, "the step "+step, func() bool { return reached(journal, 0, step) }); err != nil {
		return outcome{err: err}
	}
	return h.killAndHeal(ctx, harness, name, journal, before, after)
}

// killAndHeal kills a harness and checks all that heal promises.
func (h *healer) killAndHeal(ctx context.Context, harness *process, name, journal, before string, after time.Duration) (o outcome) {
	reached := time.Now()
	if err := pause(ctx, after); err != nil {
		return outcome{err: err}
	}
	if after > 0 { // else there is no time
		looked, err := h.mailbench(ctx, "heal", "--name", name)
		if harness.ended() {
			return outcome{err: errDone}
		}
		if err != nil || !strings.Contains(looked, "left alone") {
			o.err = fmt.Errorf("heal must leave a fault alone that is being made: %v: %s", err, looked)
		}
	}
	o.killed = time.Since(reached)
	harness.end()
	if len(chaos.OpenFaults(entriesOf(journal))) == 0 {
		return outcome{err: errDone}
	}
	wrong := func(format string, args ...any) { o.err = errors.Join(o.err, fmt.Errorf(format, args...)) }
	other, err := h.mailbench(ctx, "chaos", "inject", "kill", "sql2", "--name", name)
	if code := new(exec.ExitError); !errors.As(err, &code) || code.ExitCode() != exitUnhealed {
		wrong("no fault may be made before the last one is healed: %v: %s", err, other)
	}
	began := time.Now()
	o.said, err = h.mailbench(ctx, "heal", "--name", name)
	o.took = time.Since(began)
	if err != nil || !strings.Contains(o.said, "undone; takes part again") {
		wrong("heal: %v: %s; the harness had said: %s", err, o.said, harness.printed())
	}
	if o.again, err = h.mailbench(ctx, "heal", "--name", name); err != nil || !strings.Contains(o.again, "no fault is open") {
		wrong("heal, the second time: %v: %s", err, o.again)
	}
	if err := h.intact(ctx, name, before); err != nil {
		wrong("%v", err)
	}
	return o
}

// intact says what of a cluster is not as it was.
func (h *healer) intact(ctx context.Context, name, before string) error {
	if err := h.whole(ctx, name); err != nil {
		return err
	}
	now, err := h.found(ctx, name)
	if err == nil && now != before {
		err = fmt.Errorf("the cluster is not as it was found:\n%s\nwas:\n%s", now, before)
	}
	return err
}

// whole waits until losing a node of any role would cost no more than before.
func (h *healer) whole(ctx context.Context, name string) error {
	c, err := cluster.Attach(ctx, h.docker, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var failures []error
	for _, n := range c.Topology().Nodes {
		_, err := c.AwaitRedundant(ctx, n.ID)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// found says all of a cluster that a fault may change and heal must take back.
func (h *healer) found(ctx context.Context, name string) (string, error) {
	containers, err := h.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: engine.Owned(name)})
	if err != nil {
		return "", err
	}
	var lines []string
	for _, item := range containers.Items {
		inspected, err := h.docker.ContainerInspect(ctx, item.ID, client.ContainerInspectOptions{})
		if err != nil {
			return "", err
		}
		config := inspected.Container.HostConfig
		// A quota of -1 and one of 0 are both none.
		lines = append(lines, fmt.Sprintf("%s %s cpu %d/%d memory %d", item.Names[0], item.State, max(0, config.CPUQuota), config.CPUPeriod, config.Memory))
		if item.Labels[engine.LabelHost] == "" || item.Labels[engine.LabelNode] != "" {
			continue
		}
		inside, err := h.inside(ctx, item.ID, "iptables -S; tc qdisc show dev eth0; find /mailbench -name '.mailbench-*'")
		if err != nil {
			return "", err
		}
		lines = append(lines, item.Names[0]+": "+inside)
	}
	slices.Sort(lines)
	tables, err := h.tables(ctx, name)
	return strings.Join(append(lines, tables...), "\n"), err
}

// tables says what each SQL node finds in the database. In a run the rows change.
func (h *healer) tables(ctx context.Context, name string) (lines []string, err error) {
	c, err := cluster.Attach(ctx, h.docker, name)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Topology().ByRole(topology.SQL) {
		db, err := c.OpenAdmin(n.ID)
		if err != nil {
			return nil, err
		}
		defer db.Close()
		var databases, rows string
		if err := db.QueryRowContext(ctx, "SELECT GROUP_CONCAT(schema_name ORDER BY schema_name) FROM information_schema.schemata").Scan(&databases); err != nil {
			return nil, fmt.Errorf("through %s: %w", n.Name, err)
		}
		if name == h.name {
			// A row that is still locked is an error after 1.2 s.
			if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM mail.greylist LIMIT 1000 FOR UPDATE) AS held").Scan(&rows); err != nil {
				return nil, fmt.Errorf("through %s: %w", n.Name, err)
			}
		}
		lines = append(lines, fmt.Sprintf("%s has the databases %s; rows: %s", n.Name, databases, rows))
	}
	return lines, nil
}

// inside runs a shell script in a container.
func (h *healer) inside(ctx context.Context, id, script string) (string, error) {
	created, err := h.docker.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", script}, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return "", err
	}
	attached, err := h.docker.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer attached.Close()
	var output bytes.Buffer
	_, err = stdcopy.StdCopy(&output, &output, attached.Reader)
	return output.String(), err
}

// process is a program that is to be killed.
type process struct {
	cmd  *exec.Cmd
	err  error // why it was not started
	done chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(text)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func (h *healer) start(args ...string) *process {
	p := &process{cmd: exec.Command(h.binary, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if p.err = p.cmd.Start(); p.err != nil {
		return p
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it is killed, or its code is asked for
	}()
	return p
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end kills the program if it lives.
func (p *process) end() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// refusal is why the program ended that found that the fault cannot be made.
func (p *process) refusal() string {
	if p.ended() && p.cmd.ProcessState.ExitCode() == exitUnavailable {
		return strings.TrimSpace(p.printed())
	}
	return ""
}

// await waits for something that the program does.
func (p *process) await(ctx context.Context, what string, come func() bool) error {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		if come() {
			return nil
		}
		if p.ended() {
			return fmt.Errorf("%s did not come; the harness said: %s", what, p.printed())
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s did not come in time; the harness said: %s", what, p.printed())
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// entriesOf reads what stands in a journal, which may not be there yet, or have a
// line that is being written.
func entriesOf(journal string) []chaos.Entry {
	text, err := os.ReadFile(journal)
	if err != nil {
		return nil
	}
	entries, _ := chaos.ReadJournal(bytes.NewReader(text))
	return entries
}

// reached says whether a journal has a step behind its first entries.
func reached(journal string, from int, step string) bool {
	stages := 0
	for i, e := range entriesOf(journal) {
		if i < from {
			continue
		}
		is := e.Step
		if is == chaos.JournalStage {
			stages++
			is = stage(stages)
		}
		if is == step {
			return true
		}
	}
	return false
}
