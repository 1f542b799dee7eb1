package cluster

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/api/types/mount"
)

func TestCutRules(t *testing.T) {
	peers := []netip.Addr{netip.MustParseAddr("198.18.7.12"), netip.MustParseAddr("198.18.7.13")}
	for _, row := range []struct {
		sentence string
		cut      reference.Cut
		peers    []netip.Addr
		want     string
	}{
		{"a host that is cut off drops everything but what it sends itself", reference.Cut{Direction: reference.Both, Loss: certain}, nil,
			"-A mailbench-f1 -j DROP|-I INPUT 1 ! -i lo -j mailbench-f1|-I OUTPUT 1 ! -o lo -j mailbench-f1"},
		{"who is cut off from peers goes on with others", reference.Cut{Direction: reference.Both, Loss: certain}, peers,
			"-A mailbench-f1 -s 198.18.7.12 -j DROP|-A mailbench-f1 -d 198.18.7.12 -j DROP|-A mailbench-f1 -s 198.18.7.13 -j DROP|-A mailbench-f1 -d 198.18.7.13 -j DROP|" +
				"-I INPUT 1 ! -i lo -j mailbench-f1|-I OUTPUT 1 ! -o lo -j mailbench-f1"},
		{"one direction is one hook", reference.Cut{Direction: reference.Incoming, Loss: certain}, peers[:1],
			"-A mailbench-f1 -s 198.18.7.12 -j DROP|-I INPUT 1 ! -i lo -j mailbench-f1"},
		{"the other direction is the other", reference.Cut{Direction: reference.Outgoing, Loss: certain}, nil,
			"-A mailbench-f1 -j DROP|-I OUTPUT 1 ! -o lo -j mailbench-f1"},
		{"a loss is a probability, to the millionth", reference.Cut{Direction: reference.Outgoing, Loss: 1}, nil,
			"-A mailbench-f1 -m statistic --mode random --probability 0.000001 -j DROP|-I OUTPUT 1 ! -o lo -j mailbench-f1"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			row.cut.Name = "f1"
			want := "*filter|:mailbench-f1 - [0:0]|" + row.want + "|COMMIT"
			if got := strings.ReplaceAll(cutRules(row.cut, row.peers), "\n", "|"); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestChainNames(t *testing.T) {
	if got := chainName("f12-isolate-data1"); got != "mailbench-f12-isolate-data1" {
		t.Errorf("a name that fits became %q", got)
	}
	seen := map[string]string{}
	for _, name := range []string{"f1", strings.Repeat("x", 100), strings.Repeat("x", 101), "a b", "a;b", "a\nb", "äöü"} {
		chain := chainName(name)
		if len(chain) > maxChainName || !plainChain.MatchString(chain) || !strings.HasPrefix(chain, chainPrefix) {
			t.Errorf("%q became %q, which is no chain's name", name, chain)
		}
		if other, ok := seen[chain]; ok {
			t.Errorf("%q and %q share the chain %q", name, other, chain)
		}
		seen[chain] = name
	}
}

// TestWhatCannotBeMeantIsRefused: the bounds of each act, and the words that
// tell of them.
func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	cut := func(change func(*reference.Cut)) error {
		c := reference.Cut{Name: "f1", Direction: reference.Both, Loss: certain}
		change(&c)
		return checkCut("cyrus1", c)
	}
	for _, row := range []struct {
		sentence string
		err      error
		want     string // "" where it is right
	}{
		{"a cut of everything is right", cut(func(*reference.Cut) {}), ""},
		{"a cut needs a name", cut(func(c *reference.Cut) { c.Name = "" }), "no name"},
		{"a cut that drops nothing is none", cut(func(c *reference.Cut) { c.Loss = 0 }), "1 to 1000000"},
		{"more than all cannot be dropped", cut(func(c *reference.Cut) { c.Loss = certain + 1 }), "1 to 1000000"},
		{"a direction must be one of three", cut(func(c *reference.Cut) { c.Direction = "" }), `"both", "in" or "out"`},
		{"a host is no peer of itself", cut(func(c *reference.Cut) { c.Peers = []string{"cyrus1"} }), "its own peer"},
		{"a rate is a shape", checkShape(reference.Shape{BitsPerSecond: 1_000_000}), ""},
		{"so is a delay", checkShape(reference.Shape{Delay: time.Millisecond}), ""},
		{"a shape must shape something", checkShape(reference.Shape{}), "neither"},
		{"nothing gets through at 10 bit/s", checkShape(reference.Shape{BitsPerSecond: 10}), "8000 to"},
		{"a delay has no sign", checkShape(reference.Shape{Delay: -1}), "1µs to 1m0s"},
		{"nor less than tc can say", checkShape(reference.Shape{Delay: 1}), "1µs to 1m0s"},
		{"a neighbour may take part of the share", checkHog(reference.HogLoad{MilliCPUs: 990}, 1000, 1<<30), ""},
		{"but not all of it", checkHog(reference.HogLoad{MilliCPUs: 1000}, 1000, 1<<30), "10 to 990 of the node's 1000"},
		{"a neighbour must do something", checkHog(reference.HogLoad{}, 1000, 1<<30), "neither"},
		{"a neighbour may only write", checkHog(reference.HogLoad{BytesPerSecond: 1 << 20}, 1000, 1<<30), ""},
		{"but not less than a block at a time", checkHog(reference.HogLoad{BytesPerSecond: 100}, 1000, 1<<30), "16384 to"},
		{"a neighbour may only hold memory", checkHog(reference.HogLoad{MemoryBytes: 960 << 20}, 1000, 1<<30), ""},
		{"but not all of it", checkHog(reference.HogLoad{MemoryBytes: 961 << 20}, 1000, 1<<30), "1 to 960 of the node's 1024"},
		{"the machine's memory is not known here", checkHog(reference.HogLoad{MemoryBytes: 4 << 30}, 1000, 0), ""},
		{"memory is held in whole MiB", checkHog(reference.HogLoad{MemoryBytes: 1<<20 + 1}, 1000, 1<<30), "whole MiB"},
	} {
		switch {
		case row.want == "" && row.err != nil:
			t.Errorf("%s: %v", row.sentence, row.err)
		case row.want != "" && (row.err == nil || !strings.Contains(row.err.Error(), row.want)):
			t.Errorf("%s: got %v, want an error that says %q", row.sentence, row.err, row.want)
		}
	}
}

// TestUnknownNamesAreRefused: a host or node that the cluster lacks, or of
// another role, before any container is asked.
func TestUnknownNamesAreRefused(t *testing.T) {
	c := New(nil, Spec{RunID: "none", Topology: testTopology(t)})
	ctx := t.Context()
	sql := c.Topology().ByRole(topology.SQL)[0].ID
	data := c.Topology().ByRole(topology.Data)[0].ID
	whole := reference.Cut{Name: "f1", Direction: reference.Both, Loss: certain}
	from := whole
	from.Peers = []string{"nowhere"}
	_, adminErr := c.OpenAdmin(data)
	for sentence, row := range map[string]struct {
		err  error
		want string
	}{
		"cut a host that is not there":          {c.Cut(ctx, "nowhere", whole), `no host "nowhere"`},
		"cut a host from one that is not there": {c.Cut(ctx, "cyrus1", from), `no host "nowhere"`},
		"mend a host that is not there":         {c.Mend(ctx, "nowhere", "f1"), `no host "nowhere"`},
		"shape a host that is not there":        {c.Shape(ctx, "nowhere", reference.Shape{BitsPerSecond: 1_000_000}), `no host "nowhere"`},
		"freeze a node that is not there":       {c.Freeze(ctx, 99), "no node 99"},
		"freeze a node without a container":     {c.Freeze(ctx, data), "no container"},
		"crash the child of a SQL node":         {c.CrashChild(ctx, sql), "want a data node"},
		"a DUMP code for a SQL node":            {c.Dump(ctx, sql, 7099), "want a data node"},
		"administer a data node":                {adminErr, "want a sql node"},
		"no processor at all":                   {c.LimitCPU(ctx, data, 0), "10 to"},
		"fill the machine's own disk":           {c.FillDisk(ctx, data, 0), "bound the disk of data nodes"},
		"a neighbour of no node":                {c.StopHog(ctx, 99), "no node 99"},
	} {
		if row.err == nil || !strings.Contains(row.err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error that says %q", sentence, row.err, row.want)
		}
	}
	if err := c.Mend(ctx, "cyrus1", "f1"); err != nil {
		t.Errorf("a host that is gone has nothing to mend: %v", err)
	}
}

func TestQueue(t *testing.T) {
	for _, row := range []struct {
		sentence string
		shape    reference.Shape
		want     string
	}{
		{"a rate is a token bucket's", reference.Shape{BitsPerSecond: 100_000_000}, "tbf rate 100000000bit burst 125000 latency 200ms"},
		{"a slow bucket still holds some frames", reference.Shape{BitsPerSecond: 8_000}, "tbf rate 8000bit burst 16384 latency 200ms"},
		{"a delay is netem's", reference.Shape{Delay: 20 * time.Millisecond}, "netem limit 100000 delay 20000us"},
		{"and with it the rate", reference.Shape{Delay: time.Millisecond, BitsPerSecond: 1_000_000}, "netem limit 100000 delay 1000us rate 1000000bit"},
	} {
		if got := strings.Join(queue(row.shape), " "); got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

func TestHogArguments(t *testing.T) {
	for want, h := range map[string]reference.HogLoad{
		"1 0 f 4096 0":    {MilliCPUs: 500},
		"2 0 f 4096 0":    {MilliCPUs: 1001},
		"0 1024 f 4096 0": {BytesPerSecond: 16 << 20},
		"0 0 f 4096 512":  {MemoryBytes: 512 << 20},
	} {
		if got := strings.Join(hogArguments(h, "f"), " "); got != want {
			t.Errorf("%+v: %q, want %q", h, got, want)
		}
	}
}

// TestOnlyABoundedDiskIsMemory: without a bound the engine chooses where a
// volume is.
func TestOnlyABoundedDiskIsMemory(t *testing.T) {
	layout := testTopology(t)
	layout.Limits = map[topology.Role]topology.Limits{topology.Data: {DiskMiB: 700}}
	c := New(nil, Spec{RunID: "r", Topology: layout})
	for role, want := range map[topology.Role]*mount.Driver{
		topology.SQL: nil,
		topology.Data: {Name: "local", Options: map[string]string{
			"type": "tmpfs", "device": "tmpfs", "o": "size=700m,mode=0755"}},
	} {
		m := c.volume(layout.ByRole(role)[0], "/x")
		if !reflect.DeepEqual(m.VolumeOptions.DriverConfig, want) {
			t.Errorf("%s: %+v, want %+v", role, m.VolumeOptions.DriverConfig, want)
		}
		if m.VolumeOptions.Labels["mailbench.run"] != "r" {
			t.Errorf("%s: the volume does not carry the run's label", role)
		}
	}
}
