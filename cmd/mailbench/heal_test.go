package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/engine"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// TestHealAfterKillOfInject kills a real `chaos inject` at a journal step of each
// of several kinds, some time after that step, both drawn from a seed. heal must
// bring the cluster back to what it was, and find nothing to do the second time.
func TestHealAfterKillOfInject(t *testing.T) {
	docker := clustertest.Alone(t)
	const name = "heal-test"
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	binary := filepath.Join(dir, "mailbench")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(args ...string) (string, error) {
		var output bytes.Buffer
		c := exec.CommandContext(t.Context(), binary, args...)
		c.Stdout, c.Stderr = &output, &output
		err := c.Run()
		return output.String(), err
	}
	t.Cleanup(func() {
		if err := cluster.Remove(context.Background(), docker, name); err != nil {
			t.Error(err)
		}
	})
	if out, err := run("cluster", "up", "--name", name, "--scenario", "smoke", "--set", "topology.limits.data.disk=1GiB"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := found(t, docker, name)
	journal := filepath.Join(dir, "state", "mailbench", "clusters", name+".jsonl")

	// Heartbeats tell of a silent data node after 20 to 25 s: some of the kills come
	// before the cluster has acted, some after.
	for i, row := range []struct {
		fault []string
		steps []string
		most  time.Duration // after the step
	}{
		{[]string{"kill", "data2"}, []string{chaos.JournalInject, chaos.JournalRecover}, 2 * time.Second},
		{[]string{"pause", "data1"}, []string{chaos.JournalInject}, 35 * time.Second},
		{[]string{"isolate", "data2"}, []string{chaos.JournalInject}, 35 * time.Second},
		{[]string{"partition", "data1", "--set", "peers=[data2, sql1]"}, []string{chaos.JournalInject}, 35 * time.Second},
		{[]string{"noisy-neighbour", "data2", "--set", "cpus=0.5"}, []string{chaos.JournalInject}, 2 * time.Second},
		{[]string{"disk-full", "data1"}, []string{chaos.JournalInject, chaos.JournalRecover}, 3 * time.Second},
		{[]string{"slow-cpu", "sql1", "--set", "cpus=0.1"}, []string{chaos.JournalInject}, time.Second},
	} {
		t.Run(row.fault[0], func(t *testing.T) {
			drawn := rand.New(rand.NewPCG(5, uint64(i)))
			step := row.steps[drawn.IntN(len(row.steps))]
			after := time.Duration(drawn.Int64N(int64(row.most)))
			var output bytes.Buffer
			harness := exec.Command(binary, append([]string{"chaos", "inject", "--name", name, "--hold", "1m"}, row.fault...)...)
			if step == chaos.JournalRecover {
				harness.Args = append(harness.Args, "--hold", "1s")
			}
			harness.Stdout, harness.Stderr = &output, &output
			if err := harness.Start(); err != nil {
				t.Fatal(err)
			}
			if !awaitStep(t, journal, row.fault[0], step) {
				_ = harness.Process.Kill() // may have ended by itself
				_ = harness.Wait()
				t.Fatalf("the journal has no step %q:\n%s", step, &output)
			}
			time.Sleep(after)
			if out, err := run("heal", "--name", name); err != nil || !strings.Contains(out, "left alone") {
				t.Errorf("heal must leave a fault alone that is being made: %v\n%s", err, out)
			}
			if err := harness.Process.Kill(); err != nil {
				t.Fatalf("%v\n%s", err, &output)
			}
			_ = harness.Wait() // killed
			out, err := run("heal", "--name", name)
			if err != nil || !strings.Contains(out, "undone; takes part again") {
				t.Fatalf("killed %v after %q: heal: %v\n%s\nthe harness had said:\n%s", after, step, err, out, &output)
			}
			again, err := run("heal", "--name", name)
			if err != nil || !strings.Contains(again, "no fault is open") {
				t.Errorf("the second time: %v\n%s", err, again)
			}
			whole(t, docker, name)
			if got := found(t, docker, name); got != before {
				t.Errorf("killed %v after %q, the cluster is not as it was found:\n%s\nwas:\n%s", after, step, got, before)
			}
		})
	}
	t.Run("without a journal", func(t *testing.T) {
		if err := os.Remove(journal); err != nil {
			t.Fatal(err)
		}
		c, err := cluster.Attach(t.Context(), docker, name)
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
		if out, err := run("heal", "--name", name); err != nil {
			t.Errorf("heal: %v\n%s", err, out)
		}
		whole(t, docker, name)
		if got := found(t, docker, name); got != before {
			t.Errorf("the cluster is not as it was found:\n%s\nwas:\n%s", got, before)
		}
	})
}

// awaitStep waits until the newest fault of a kind has come to a journal step.
func awaitStep(t *testing.T, journal, kind, step string) bool {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(journal)
		if err != nil {
			continue // not yet made
		}
		entries, err := chaos.ReadJournal(bytes.NewReader(text))
		if err != nil {
			continue // a line is being written
		}
		if n := len(entries); n > 0 && string(entries[n-1].Kind) == kind && entries[n-1].Step == step {
			return true
		}
	}
	return false
}

// whole waits until losing a node of any role would cost no more than before.
func whole(t *testing.T, docker *client.Client, name string) {
	t.Helper()
	c, err := cluster.Attach(t.Context(), docker, name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range c.Topology().Nodes {
		if _, err := c.AwaitRedundant(ctx, n.ID); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
	}
}

// found says all of a cluster that a fault may change and heal must take back.
func found(t *testing.T, docker *client.Client, name string) string {
	t.Helper()
	containers, err := docker.ContainerList(t.Context(), client.ContainerListOptions{All: true, Filters: engine.Owned(name)})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, item := range containers.Items {
		inspected, err := docker.ContainerInspect(t.Context(), item.ID, client.ContainerInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h := inspected.Container.HostConfig
		// A quota of -1 and one of 0 are both none.
		lines = append(lines, fmt.Sprintf("%s %s cpu %d/%d memory %d", item.Names[0], item.State, max(0, h.CPUQuota), h.CPUPeriod, h.Memory))
		if item.Labels[engine.LabelHost] != "" && item.Labels[engine.LabelNode] == "" {
			lines = append(lines, inside(t, docker, item.ID, "iptables -S; tc qdisc show dev eth0; find /mailbench -name '.mailbench-*'"))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// inside runs a shell script in a container.
func inside(t *testing.T, docker *client.Client, id, script string) string {
	t.Helper()
	created, err := docker.ExecCreate(t.Context(), id, client.ExecCreateOptions{Cmd: []string{"sh", "-c", script}, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	attached, err := docker.ExecAttach(t.Context(), created.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	var output bytes.Buffer
	if _, err := stdcopy.StdCopy(&output, &output, attached.Reader); err != nil {
		t.Fatal(err)
	}
	return output.String()
}
