package cluster_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// bench is a cluster, and how another process sees it: what the first breaks the
// second takes back.
type bench struct {
	*testing.T
	ctx            context.Context
	docker         *client.Client
	cluster, other *cluster.Cluster
}

// TestFaultsBiteAndAreTakenBack makes each fault that the cluster offers on a
// cluster of its own, sees that it bites, takes it back in another process's
// place, and sees that nothing is left.
func TestFaultsBiteAndAreTakenBack(t *testing.T) {
	docker := clustertest.Alone(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	const runID = "capabilities"
	if err := cluster.Remove(ctx, docker, runID); err != nil {
		t.Fatal(err)
	}
	found, err := image.Find(ctx, docker, image.Options{Announce: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	if found.How == "official" {
		t.Skipf("the image %s is not mailbench's own, and lacks iptables and tc", found.Name)
	}
	layout, err := clustertest.Topology()
	if err != nil {
		t.Fatal(err)
	}
	layout.Limits = map[topology.Role]topology.Limits{
		topology.Management: {MemoryMiB: 256},
		topology.Data:       {MemoryMiB: 2048, DiskMiB: 1024},
		topology.SQL:        {MemoryMiB: 1024, MilliCPUs: 1000},
	}
	c := cluster.New(docker, cluster.Spec{RunID: runID, Topology: layout, Image: found.ID, Account: cluster.DefaultAccount()})
	b := &bench{T: t, ctx: ctx, docker: docker, cluster: c}
	t.Run("what the host can make is known before the cluster runs", func(t *testing.T) { b.with(t).checks() })
	t.Cleanup(func() {
		if err := c.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
		if left := b.carrying(engine.LabelRun + "=" + runID); len(left) > 0 {
			t.Errorf("containers are left: %v", left)
		}
	})
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if b.other, err = cluster.Attach(ctx, docker, runID); err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- b.other.Watch(watching, func(reference.ClusterEvent) {}) }()
	defer func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	for _, row := range []struct {
		sentence string
		test     func(*bench)
	}{
		{"a frozen node is silent until it is thawed", (*bench).freeze},
		{"a cut drops packets of connections that stand", (*bench).cut},
		{"a cut from a peer leaves other peers alone", (*bench).partition},
		{"a loss drops some packets", (*bench).loss},
		{"a shape slows down what a host sends", (*bench).shape},
		{"a limit slows down a node", (*bench).limit},
		{"a neighbour takes of a node's share", (*bench).hog},
		{"a node that is told to stop goes in order, and its disk can be freed while it is dead", (*bench).stopAndFill},
		{"a crashed child takes its angel along, and an emptied disk is filled by the other node", (*bench).crashAndEmpty},
		{"a restarted node keeps its container", (*bench).restart},
		{"a node that still ends is started once it has", (*bench).startWhileEnding},
		{"an administrator gets in", (*bench).admin},
		{"who knows of no fault takes all of them back", (*bench).restore},
	} {
		if !t.Run(row.sentence, func(t *testing.T) { row.test(b.with(t)) }) {
			return // the cluster may not be whole
		}
	}
	// A neighbour that nobody stopped must go with the cluster.
	b.do(c.StartHog(ctx, b.node("sql1").ID, reference.HogLoad{MilliCPUs: 10}))
}

func (b *bench) with(t *testing.T) *bench {
	with := *b
	with.T = t
	return &with
}

func (b *bench) do(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) node(name string) topology.Node {
	b.Helper()
	n, err := b.cluster.Topology().Node(name)
	b.do(err)
	return n
}

// proof fails the test unless evidence came.
func (b *bench) proof(what string, n topology.Node) func(reference.Evidence, error) {
	began := time.Now()
	return func(e reference.Evidence, err error) {
		b.Helper()
		if err != nil {
			b.Fatalf("%s: %s: %v", n.Name, what, err)
		}
		b.Logf("%s: %s after %v: %s, %s", n.Name, what, time.Since(began).Round(time.Millisecond), e.Source, e.Detail)
	}
}

// whole waits until a node was started and is redundant.
func (b *bench) whole(n topology.Node) {
	b.Helper()
	b.proof("up", n)(b.other.AwaitUp(b.ctx, n.ID))
	b.proof("redundant", n)(b.other.AwaitRedundant(b.ctx, n.ID))
}

// dials says whether a node accepts a connection within some time.
func (b *bench) dials(n topology.Node, within time.Duration) bool {
	conn, err := net.DialTimeout("tcp", b.cluster.Address(n), within)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// answers says whether a node answers on a connection that stands.
func (b *bench) answers(conn *sql.Conn) bool {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	var one int
	return conn.QueryRowContext(ctx, "SELECT 1").Scan(&one) == nil
}

func (b *bench) open(n topology.Node) (*sql.DB, *sql.Conn) {
	b.Helper()
	db, err := b.cluster.OpenAdmin(n.ID)
	b.do(err)
	b.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(b.ctx)
	b.do(err)
	return db, conn
}

// onHost runs a script in a host's container.
func (b *bench) onHost(host, script string) string {
	b.Helper()
	output, err := b.cluster.OnHost(b.ctx, host, script)
	b.do(err)
	return output
}

// reaches says whether one host can open a connection to a node.
func (b *bench) reaches(host string, n topology.Node) bool {
	b.Helper()
	address, port, err := net.SplitHostPort(b.cluster.Address(n))
	b.do(err)
	return b.onHost(host, fmt.Sprintf("if timeout 1 bash -c 'exec 3<>/dev/tcp/%s/%s'; then echo yes; else echo no; fi", address, port)) == "yes"
}

// carrying returns the containers that carry a label.
func (b *bench) carrying(label string) []string {
	b.Helper()
	found, err := b.docker.ContainerList(context.WithoutCancel(b.ctx), client.ContainerListOptions{
		All: true, Filters: engine.Owned(b.cluster.RunID()).Add("label", label),
	})
	b.do(err)
	var names []string
	for _, item := range found.Items {
		names = append(names, strings.Join(item.Names, " "))
	}
	return names
}

// quota returns the engine's processor limit of a node, in thousandths.
func (b *bench) quota(n topology.Node) int64 {
	b.Helper()
	return b.limits(n).CPUQuota / 100
}

func (b *bench) limits(n topology.Node) *container.HostConfig {
	b.Helper()
	found, err := b.docker.ContainerInspect(b.ctx, strings.TrimPrefix(b.carrying(engine.LabelNode + "=" + n.Name)[0], "/"), client.ContainerInspectOptions{})
	b.do(err)
	return found.Container.HostConfig
}

func (b *bench) container(n topology.Node) string {
	for _, s := range b.cluster.Status(b.ctx) {
		if s.Node.ID == n.ID {
			return s.Container
		}
	}
	return "missing"
}

func (b *bench) checks() {
	b.do(b.cluster.CheckFirewall(b.ctx))
	b.do(b.cluster.CheckShape(b.ctx, reference.Shape{BitsPerSecond: 1_000_000}))
	if err := b.cluster.CheckShape(b.ctx, reference.Shape{Delay: time.Millisecond}); err != nil {
		if !strings.Contains(err.Error(), "netem") || !strings.Contains(err.Error(), "latency") {
			b.Errorf("a kernel without netem must be told of, and what is nearest: %v", err)
		}
		b.Log(err)
	}
	bare := cluster.New(b.docker, cluster.Spec{RunID: b.cluster.RunID(), Topology: b.cluster.Topology(), Image: "mailbench/base:sid"})
	if _, err := b.docker.ImageInspect(b.ctx, "mailbench/base:sid"); err == nil {
		if err := bare.CheckFirewall(b.ctx); err == nil || !strings.Contains(err.Error(), "no iptables") {
			b.Errorf("an image without iptables: %v", err)
		}
		if err := bare.CheckShape(b.ctx, reference.Shape{BitsPerSecond: 1_000_000}); err == nil || !strings.Contains(err.Error(), "no tc") {
			b.Errorf("an image without tc: %v", err)
		}
	}
	if left := b.carrying(engine.LabelRun); len(left) > 0 {
		b.Errorf("containers are left: %v", left)
	}
}

func (b *bench) freeze() {
	n := b.node("sql1")
	_, conn := b.open(n)
	b.do(b.cluster.Freeze(b.ctx, n.ID))
	b.do(b.cluster.Freeze(b.ctx, n.ID))
	if b.answers(conn) || b.container(n) != "paused" {
		b.Errorf("a frozen node answers, or its container is %s", b.container(n))
	}
	b.do(b.other.Thaw(b.ctx, n.ID))
	b.do(b.other.Thaw(b.ctx, n.ID))
	if !b.dials(n, time.Second) || b.container(n) != "running" {
		b.Errorf("a thawed node does not answer, its container is %s", b.container(n))
	}
	// A frozen node may die.
	b.do(b.cluster.Freeze(b.ctx, n.ID))
	b.do(b.other.Kill(b.ctx, n.ID))
	b.do(b.other.Kill(b.ctx, n.ID))
	b.do(b.other.Thaw(b.ctx, n.ID))
	if err := b.cluster.Freeze(b.ctx, n.ID); err == nil {
		b.Error("a dead node cannot be frozen")
	}
	b.do(b.other.StartNode(b.ctx, n.ID))
	b.whole(n)
}

func (b *bench) cut() {
	n, neighbour := b.node("sql1"), b.node("sql2")
	_, conn := b.open(n)
	cut := reference.Cut{Name: "f1-isolate-" + strings.Repeat("long", 10), Direction: reference.Both, Loss: 1_000_000}
	if !b.answers(conn) {
		b.Fatal("a whole node does not answer")
	}
	began := time.Now()
	b.do(b.cluster.Cut(b.ctx, n.Host, cut))
	b.Logf("a cut takes %v", time.Since(began).Round(time.Millisecond))
	b.do(b.cluster.Cut(b.ctx, n.Host, cut)) // a second time must not need a second mending
	if b.answers(conn) || b.dials(n, 300*time.Millisecond) {
		b.Error("a node that is cut off answers")
	}
	if !b.dials(neighbour, time.Second) {
		b.Error("a node on another host is cut off too")
	}
	b.do(b.other.Mend(b.ctx, n.Host, cut.Name))
	b.do(b.other.Mend(b.ctx, n.Host, cut.Name))
	b.do(b.other.Mend(b.ctx, n.Host, "never made"))
	if !b.dials(n, 3*time.Second) {
		b.Error("a node that was mended is not reached")
	}
	if rules := b.onHost(n.Host, "iptables -S"); strings.Contains(rules, "mailbench") {
		b.Errorf("rules are left:\n%s", rules)
	}
	b.whole(n)
}

func (b *bench) partition() {
	n := b.node("sql1")
	b.do(b.cluster.Cut(b.ctx, n.Host, reference.Cut{
		Name: "f2", Peers: []string{"webmail1"}, Direction: reference.Incoming, Loss: 1_000_000,
	}))
	if b.reaches("webmail1", n) {
		b.Error("webmail1 reaches a host that drops what comes from it")
	}
	if b.reaches(n.Host, b.node("sql2")) {
		b.Error("a host that drops what comes from webmail1 gets an answer from it")
	}
	if !b.reaches("cyrus1", n) || !b.dials(n, time.Second) {
		b.Error("others are cut off too")
	}
	b.do(b.other.Mend(b.ctx, n.Host, "f2"))
	if !b.reaches("webmail1", n) {
		b.Error("webmail1 is still cut off")
	}
}

func (b *bench) loss() {
	n := b.node("sql1")
	b.do(b.cluster.Cut(b.ctx, n.Host, reference.Cut{Name: "f3", Direction: reference.Both, Loss: 500_000}))
	// One packet each way opens a connection; what was lost is sent again after
	// a second.
	const dials = 40
	made := 0
	for range dials {
		if b.dials(n, 100*time.Millisecond) {
			made++
		}
	}
	b.do(b.other.Mend(b.ctx, n.Host, "f3"))
	b.Logf("%d of %d connections were made while half the packets were lost each way", made, dials)
	if made == 0 || made > dials/2+10 {
		b.Errorf("%d of %d connections were made, want about %d", made, dials, dials/4)
	}
	b.whole(n)
}

func (b *bench) shape() {
	n := b.node("sql1")
	_, conn := b.open(n)
	fetch := func() time.Duration {
		began := time.Now()
		var text string
		b.do(conn.QueryRowContext(b.ctx, "SELECT REPEAT('x', 500000)").Scan(&text))
		return time.Since(began)
	}
	plain := fetch()
	b.do(b.cluster.Shape(b.ctx, n.Host, reference.Shape{BitsPerSecond: 8_000_000}))
	b.do(b.cluster.Shape(b.ctx, n.Host, reference.Shape{BitsPerSecond: 2_000_000}))
	slow := fetch()
	b.do(b.other.Unshape(b.ctx, n.Host))
	b.do(b.other.Unshape(b.ctx, n.Host))
	again := fetch()
	b.Logf("500 kB took %v, at 2 Mbit/s %v, and afterwards %v", plain, slow, again)
	if slow < time.Second || again > time.Second {
		b.Errorf("500 kB took %v at 2 Mbit/s, want about 2 s, and %v afterwards", slow, again)
	}
	check := b.cluster.CheckShape(b.ctx, reference.Shape{Delay: time.Millisecond})
	if made := b.cluster.Shape(b.ctx, n.Host, reference.Shape{Delay: time.Millisecond}); (made == nil) != (check == nil) {
		b.Errorf("a delay: the check said %v, and then %v", check, made)
	}
	b.do(b.other.Unshape(b.ctx, n.Host))
}

func (b *bench) limit() {
	n := b.node("sql1")
	_, conn := b.open(n)
	work := func() time.Duration {
		began := time.Now()
		var zero int
		b.do(conn.QueryRowContext(b.ctx, "SELECT BENCHMARK(1000000, SHA2('x', 256))").Scan(&zero))
		return time.Since(began)
	}
	plain := work()
	b.do(b.cluster.LimitCPU(b.ctx, n.ID, 100))
	slow := work()
	b.do(b.other.ResetLimits(b.ctx, n.ID))
	again := work()
	b.Logf("a computation took %v, with a tenth of a processor %v, and afterwards %v", plain, slow, again)
	if slow < 3*plain || slow < 3*again {
		b.Errorf("a tenth of a processor made a computation of %v take %v", plain, slow)
	}
	if q := b.quota(n); q != 1000 {
		b.Errorf("the limit is %d afterwards, want 1000", q)
	}
	// A node without a limit has none afterwards.
	free := b.node("data1")
	b.do(b.cluster.LimitCPU(b.ctx, free.ID, 900))
	if q := b.quota(free); q != 900 {
		b.Errorf("the limit is %d, want 900", q)
	}
	b.do(b.other.ResetLimits(b.ctx, free.ID))
	if q := b.quota(free); q > 0 {
		b.Errorf("the limit is %d afterwards, want none", q)
	}
}

func (b *bench) hog() {
	n := b.node("sql1")
	label := engine.LabelHog + "=" + n.Name
	b.do(b.cluster.StartHog(b.ctx, n.ID, reference.HogLoad{MilliCPUs: 100}))
	b.do(b.cluster.StartHog(b.ctx, n.ID, reference.HogLoad{MilliCPUs: 300, BytesPerSecond: 4 << 20}))
	hogs := b.carrying(label)
	if len(hogs) != 1 || b.quota(n) != 700 {
		b.Fatalf("neighbours: %v; the node has %d thousandths of a processor, want 700", hogs, b.quota(n))
	}
	used := func() (time.Duration, time.Time) {
		usage, ok := b.cluster.UsageOf(b.ctx, strings.TrimPrefix(hogs[0], "/"))
		if !ok {
			b.Fatal("the neighbour is dead")
		}
		return usage.CPU, time.Now()
	}
	before, began := used()
	time.Sleep(3 * time.Second)
	after, ended := used()
	share := (after - before).Seconds() / ended.Sub(began).Seconds()
	b.Logf("the neighbour took %.2f of a processor", share)
	if share < 0.1 || share > 0.45 { // less where the machine has no more to give
		b.Errorf("the neighbour took %.2f of a processor, want 0.3", share)
	}
	if size := b.onHost(n.Host, "stat -c %s /mailbench/sql1/.mailbench-hog"); size != "1048576" {
		b.Errorf("its file has %s bytes, want a quarter of 4 MiB", size)
	}
	b.do(b.other.StopHog(b.ctx, n.ID))
	b.do(b.other.StopHog(b.ctx, n.ID))
	if left := b.carrying(label); len(left) > 0 || b.quota(n) != 1000 {
		b.Errorf("neighbours are left: %v; the node has %d thousandths", left, b.quota(n))
	}
	if left := b.onHost(n.Host, "ls -A /mailbench/sql1 | grep mailbench || true"); left != "" {
		b.Errorf("files are left: %s", left)
	}
	b.do(b.cluster.StartHog(b.ctx, n.ID, reference.HogLoad{MemoryBytes: 300 << 20}))
	if left := b.memory(n); left != 724<<20 {
		b.Errorf("the node has %d bytes of memory, want 724 MiB", left)
	}
	hog := strings.TrimPrefix(b.carrying(label)[0], "/")
	held := func() int64 {
		usage, _ := b.cluster.UsageOf(b.ctx, hog)
		return usage.Memory
	}
	for end := time.Now().Add(20 * time.Second); held() < 300<<20 && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
	}
	if held() < 300<<20 {
		b.Errorf("the neighbour holds %d bytes, want 300 MiB", held())
	}
	if err := b.cluster.StartHog(b.ctx, n.ID, reference.HogLoad{MemoryBytes: 950 << 20}); err == nil {
		b.Error("a neighbour got memory that the node holds")
	} else {
		b.Log(err)
	}
	b.do(b.other.StopHog(b.ctx, n.ID))
	if left := b.memory(n); left != 1<<30 || len(b.carrying(label)) > 0 {
		b.Errorf("the node has %d bytes of memory, want 1 GiB; neighbours: %v", left, b.carrying(label))
	}
	if err := b.cluster.StartHog(b.ctx, b.node("data1").ID, reference.HogLoad{BytesPerSecond: 1 << 20}); err == nil {
		b.Error("a neighbour cannot slow down a disk in memory")
	}
}

// memory is a node's limit in bytes.
func (b *bench) memory(n topology.Node) int64 {
	b.Helper()
	return b.limits(n).Memory
}

func (b *bench) free(host, node string) int64 {
	b.Helper()
	free, err := strconv.ParseInt(b.onHost(host, "echo $(( $(stat -f -c '%a * %S' /mailbench/"+node+") ))"), 10, 64)
	b.do(err)
	return free
}

// masterAndSpare returns the data node that leads, as it is called by ndbinfo,
// and the other one.
func (b *bench) masterAndSpare() (master, spare topology.Node) {
	b.Helper()
	db, _ := b.open(b.node("sql2"))
	var president topology.ID
	b.do(db.QueryRowContext(b.ctx, "SELECT MIN(president) FROM ndbinfo.membership").Scan(&president))
	id, err := b.other.Master(b.ctx)
	if err != nil || id != president {
		b.Fatalf("the master is node %d, %v; ndbinfo says %d", id, err, president)
	}
	master, spare = b.node("data1"), b.node("data2")
	if master.ID != id {
		master, spare = spare, master
	}
	return master, spare
}

func (b *bench) stopAndFill() {
	master, n := b.masterAndSpare()
	if err := b.cluster.CheckDisk(b.ctx, b.node("sql1").ID); err == nil {
		b.Error("a SQL node's disk is the machine's own")
	}
	whole := b.free(n.Host, n.Name)
	b.Logf("a data node's disk of 1024 MiB has %d MiB free", whole>>20)
	b.do(b.cluster.StopNode(b.ctx, n.ID))
	b.proof("down", n)(b.cluster.AwaitDown(b.ctx, n.ID))
	if id, err := b.other.Master(b.ctx); err != nil || id != master.ID {
		b.Errorf("the master is node %d, %v; want still %d", id, err, master.ID)
	}
	if err := b.cluster.StopNode(b.ctx, master.ID); err == nil {
		b.Fatal("the last node of a group was told to stop")
	} else {
		b.Log(err)
	}
	for b.container(n) == "running" { // the process lives a moment longer
		time.Sleep(100 * time.Millisecond)
	}
	b.do(b.cluster.StopNode(b.ctx, n.ID))
	b.do(b.cluster.FillDisk(b.ctx, n.ID, 1<<20))
	if free := b.free(n.Host, n.Name); free > 1<<20 || free < 1<<19 {
		b.Errorf("%d bytes are free, want 1 MiB", free)
	}
	b.do(b.cluster.FillDisk(b.ctx, n.ID, 0))
	if free := b.free(n.Host, n.Name); free != 0 {
		b.Errorf("%d bytes are free, want none", free)
	}
	b.do(b.other.FreeDisk(b.ctx, n.ID))
	b.do(b.other.FreeDisk(b.ctx, n.ID))
	if free := b.free(n.Host, n.Name); free < whole-(8<<20) {
		b.Errorf("%d bytes are free, were %d", free, whole)
	}
	started := time.Now()
	b.do(b.other.StartNode(b.ctx, n.ID))
	b.whole(n)
	b.startedAs(n, nodeRestart, started)
}

func (b *bench) crashAndEmpty() {
	n, spare := b.masterAndSpare()
	if err := b.cluster.EmptyDisk(b.ctx, n.ID); err == nil {
		b.Fatal("the disk of a node that runs was emptied")
	}
	began := time.Now()
	b.do(b.cluster.CrashChild(b.ctx, n.ID))
	b.proof("down", n)(b.other.AwaitDown(b.ctx, n.ID))
	for i := 0; b.container(n) == "running"; i++ { // StopOnError=1: the angel ends too
		if i == 300 {
			b.Fatal("the angel lives on after 30 s")
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Logf("the angel is gone after %v", time.Since(began).Round(time.Millisecond))
	if master, err := b.cluster.Master(b.ctx); err != nil || master != spare.ID {
		b.Errorf("the master is node %d, %v; want the one that lives", master, err)
	}
	b.do(b.cluster.EmptyDisk(b.ctx, n.ID))
	b.do(b.other.EmptyDisk(b.ctx, n.ID))
	if left := b.onHost(n.Host, "ls -A /mailbench/"+n.Name); left != "" {
		b.Errorf("the emptied disk holds %s", left)
	}
	started := time.Now()
	b.do(b.other.StartNode(b.ctx, n.ID))
	b.whole(n)
	b.startedAs(n, initialNodeRestart, started)

	checkpointed := func(e reference.ClusterEvent) bool { return e.Name == "LocalCheckpointStarted" }
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	asked := time.Now()
	b.do(b.other.Dump(b.ctx, spare.ID, 7099)) // only the master takes notice
	b.proof("local checkpoint", spare)(b.other.AwaitEvent(ctx, asked, checkpointed))
	time.Sleep(5 * time.Second) // until it is over
	// Who is not watching watches itself.
	asked = time.Now()
	dumped := make(chan error, 1)
	time.AfterFunc(time.Second, func() { dumped <- b.other.Dump(b.ctx, spare.ID, 7099) })
	b.proof("another local checkpoint", spare)(b.cluster.AwaitEvent(ctx, asked, checkpointed))
	b.do(<-dumped)
}

// Types of a start, as events give them (NodeState::StartType).
const (
	nodeRestart        = "2"
	initialNodeRestart = "3"
)

// startedAs sees how a data node has started since.
func (b *bench) startedAs(n topology.Node, kind string, since time.Time) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	b.proof("start of type "+kind, n)(b.other.AwaitEvent(ctx, since, func(e reference.ClusterEvent) bool {
		return e.Node == n.ID && e.Fields["starttype"] == kind
	}))
}

func (b *bench) restart() {
	for _, name := range []string{"sql2", "mgm1", "data2"} {
		n := b.node(name)
		b.do(b.cluster.RestartNode(b.ctx, n.ID))
		if state := b.container(n); state != "running" {
			b.Errorf("%s: its container is %s", name, state)
		}
		b.whole(n)
	}
}

// startWhileEnding: the management server takes half a minute to end while
// somebody listens to its events, as the bench does.
func (b *bench) startWhileEnding() {
	n := b.node("mgm1")
	b.do(b.cluster.StopNode(b.ctx, n.ID))
	began := time.Now()
	b.do(b.other.StartNode(b.ctx, n.ID))
	b.Logf("%s had ended and was started after %v", n.Name, time.Since(began).Round(time.Millisecond))
	b.whole(n)
	b.do(b.other.StartNode(b.ctx, n.ID)) // of one that runs
	if state := b.container(n); state != "running" {
		b.Errorf("its container is %s", state)
	}
}

func (b *bench) admin() {
	db, _ := b.open(b.node("sql2"))
	var name string
	if err := db.QueryRowContext(b.ctx, "SELECT DATABASE()").Scan(&name); err != nil || name != cluster.DefaultAccount().Database {
		b.Errorf("in database %q, %v", name, err)
	}
}

func (b *bench) restore() {
	n, data := b.node("sql1"), b.node("data2")
	b.do(b.cluster.Cut(b.ctx, n.Host, reference.Cut{Name: "f1", Direction: reference.Both, Loss: 1_000_000}))
	b.do(b.cluster.Cut(b.ctx, n.Host, reference.Cut{Name: "f2", Direction: reference.Outgoing, Loss: 5, Peers: []string{"cyrus1"}}))
	b.do(b.cluster.Shape(b.ctx, n.Host, reference.Shape{BitsPerSecond: 1_000_000}))
	b.do(b.cluster.StartHog(b.ctx, n.ID, reference.HogLoad{MilliCPUs: 500, BytesPerSecond: 1 << 20}))
	b.do(b.cluster.Freeze(b.ctx, n.ID))
	b.do(b.cluster.FillDisk(b.ctx, data.ID, 200<<20))
	b.do(b.other.Restore(b.ctx))
	b.do(b.other.Restore(b.ctx))
	if !b.dials(n, 3*time.Second) || b.quota(n) != 1000 || len(b.carrying(engine.LabelHog)) > 0 || b.free(data.Host, data.Name) < 250<<20 {
		b.Error("something is left")
	}
	if rules := b.onHost(n.Host, "iptables -S; tc qdisc show"); strings.Contains(rules, "mailbench") || strings.Contains(rules, "tbf") {
		b.Errorf("rules are left:\n%s", rules)
	}
	b.whole(n)
}
