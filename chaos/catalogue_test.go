package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/golden"
)

// TestCatalogueSaysWhatAPersonMustKnow prints one fault of each kind as plan does.
func TestCatalogueSaysWhatAPersonMustKnow(t *testing.T) {
	var specs []Spec
	for i, d := range Catalogue() {
		s := specOf(d.Kind)
		s.At = time.Duration(i+1) * 10 * time.Minute
		specs = append(specs, s)
		if d.Summary == "" || d.Source == "" || len(d.Roles) == 0 || d.Expect == nil || d.build == nil {
			t.Errorf("%s is not described", d.Kind)
		}
		if _, err := describe(d.Nearest); d.Nearest != "" && err != nil {
			t.Errorf("the nearest to %s: %v", d.Kind, err)
		}
		for _, s := range d.Settings {
			if s.Name == "" || s.Doc == "" || s.Range == "" || !s.Required && s.Default == "" {
				t.Errorf("setting %q of %s is not described", s.Name, d.Kind)
			}
		}
	}
	plan, err := NewPlan(1, specs, Ground{Topology: fourNodes(t), Duration: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := plan.Describe(&b, fourNodes(t)); err != nil {
		t.Fatal(err)
	}
	golden.AssertBytes(t, b.Bytes(), "catalogue.golden")
}

func TestKindsHaveExactlyTheirOwnSettings(t *testing.T) {
	everything := Settings{
		Peers: []string{"host:cyrus2"}, Direction: reference.Incoming, Clients: []string{"mta1"}, Delay: time.Second, LossPPM: 1,
		BitsPerSecond: 1_000_000, BytesPerSecond: 1_000_000, MilliCPUs: 100, MemoryBytes: 1 << 20, LeaveBytes: 1, Connections: 1, Rows: 1, Table: "a.b", Phase: 1,
		Inject: []string{"a"}, Recover: []string{"b", "c d"}, Effect: []string{"/e"}, Redundant: []string{"f"}, Limit: time.Second,
	}
	if v := reflect.ValueOf(everything); true {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Fatalf("the test does not set %s", v.Type().Field(i).Name)
			}
		}
	}
	var known []string
	for _, d := range Catalogue() {
		spec := specOf(d.Kind)
		spec.Settings = everything
		var wrong SpecErrors
		_, err := NewPlan(1, []Spec{spec}, Ground{Topology: fourNodes(t), Duration: time.Hour})
		errors.As(err, &wrong)
		var refused []string
		for _, e := range wrong {
			refused = append(refused, e.Field)
		}
		for _, s := range allSettings() {
			own := slices.ContainsFunc(d.Settings, func(o Setting) bool { return o.Name == s.Name })
			if own == slices.Contains(refused, s.Name) {
				t.Errorf("%s: setting %s is its own: %v, and was refused: %v", d.Kind, s.Name, own, !own)
			}
			if own && !slices.Contains(known, s.Name) {
				known = append(known, s.Name)
			}
		}
		// Without any, those that it needs are named.
		spec.Settings = Settings{}
		wrong = nil
		_, err = NewPlan(1, []Spec{spec}, Ground{Topology: fourNodes(t), Duration: time.Hour})
		errors.As(err, &wrong)
		for _, s := range d.Settings {
			if named := slices.ContainsFunc(wrong, func(e SpecError) bool { return e.Field == s.Name }); named != s.Required {
				t.Errorf("%s without settings: %v, want %s named: %v", d.Kind, err, s.Name, s.Required)
			}
		}
	}
	if n := reflect.TypeFor[Settings]().NumField(); len(known) != n {
		t.Errorf("kinds have the settings %v, but there are %d", known, n)
	}

	data, err := json.Marshal(everything)
	var back Settings
	if err == nil {
		err = json.Unmarshal(data, &back)
	}
	if err != nil || !reflect.DeepEqual(back, everything) {
		t.Errorf("%s reads as %+v, %v", data, back, err)
	}
	if data, _ := json.Marshal(Settings{}); string(data) != "{}" {
		t.Errorf("no settings are written as %s", data)
	}
}

func TestSettingsHaveRanges(t *testing.T) {
	for _, row := range []struct {
		kind     Kind
		settings Settings
		want     string
	}{
		{Latency, Settings{Delay: time.Microsecond}, "faults[0].delay: is out of range, must be 1ms to 1m0s"},
		{Loss, Settings{LossPPM: 1_000_000}, "faults[0].loss_ppm: is out of range, must be 1 to 999999 millionths"},
		{Loss, Settings{LossPPM: 1, Direction: "up"}, `faults[0].direction: is out of range, must be "both", "in" or "out"`},
		{Partition, Settings{Peers: []string{"mars"}}, `faults[0].peers: no node is called "mars"`},
		{Partition, Settings{Peers: []string{"data1"}}, "faults[0].peers: host cyrus1 has no other host"},
		{Partition, Settings{}, "faults[0].peers: is not set, but partition needs it: the other side, as targets, 1 to 48 targets"},
		{Bandwidth, Settings{BitsPerSecond: -1}, "faults[0].bits_per_s: is out of range"},
		{OpenTransaction, Settings{Table: "greylist; DROP TABLE x"}, "faults[0].table: is out of range"},
		{Kill, Settings{Delay: time.Second}, "faults[0].delay: is set, but kill has no settings"},
		{Command, Settings{Inject: []string{"./cut"}, Recover: []string{"x"}}, "faults[0].inject: is out of range, must be 1 to 64 words, the first an absolute path or a program of PATH"},
		{Command, Settings{Inject: []string{"x", "a\x00b"}, Recover: []string{"x"}}, "faults[0].inject: is out of range"},
		{Command, Settings{Inject: []string{"x"}, Recover: []string{""}}, "faults[0].recover: is out of range"},
		{Command, Settings{Inject: []string{"x"}}, "faults[0].recover: is not set, but command needs it: the one that takes it back"},
		{Command, Settings{Inject: []string{"x"}, Recover: []string{"x"}, Limit: time.Hour}, "faults[0].limit: is out of range, must be 1s to 1m0s"},
		{SlowDisk, Settings{BytesPerSecond: 5000, MilliCPUs: 10}, "faults[0].milli_cpus: is set, but slow-disk has only bytes_per_s"},
	} {
		spec := specOf(row.kind)
		spec.Settings = row.settings
		if _, err := NewPlan(1, []Spec{spec}, Ground{Topology: fourNodes(t), Duration: time.Hour}); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s with %+v: %v, want %s", row.kind, row.settings, err, row.want)
		}
	}
}

// bare is a target that can do no more than it must.
type bare struct {
	Target
	reference.Killer
}

// walled is one with a firewall that does not work.
type walled struct {
	Target
	reference.Firewall
	reference.Killer
}

// choosy is one that can do little, and not to every node.
type choosy struct {
	Target
	reference.Crasher
	reference.Stopper
}

func (choosy) CheckNode(capability string, id topology.ID) error {
	if capability == string(Crasher) && id == 3 {
		return errors.New("data2 is somebody's favourite")
	}
	return nil
}

func (walled) CheckFirewall(context.Context) error { return errors.New("the image has no iptables") }

func TestAMissingCapabilityIsNamedWithTheNearestKind(t *testing.T) {
	layout := fourNodes(t)
	engine := newEngine(layout)
	for _, row := range []struct {
		sentence string
		target   Target
		links    *Links
		kind     Kind
		want     string // part of the error, "" for none
	}{
		{"a target that can kill needs no more for it", bare{engine, engine}, nil, Kill, ""},
		{"a capability is named with what it is for", bare{engine, engine}, nil, Pause, "pause needs a target that can freeze a node (Freezer), and this one cannot; the nearest fault is kill: SIGKILL"},
		{"what is nearest but lacking too is passed over", bare{engine, engine}, nil, Isolate, "the nearest fault is kill"},
		{"latency needs no target, but clients' links", bare{engine, engine}, &Links{}, Latency, ""},
		{"and without them nothing is near", engine, nil, Latency, "no other fault is near"},
		{"where netem lacks, clients can be slowed", bare{engine, engine}, &Links{}, HostLatency, "the nearest fault is latency"},
		{"what does not work is said with what is near", walled{engine, engine, engine}, nil, Isolate, "the image has no iptables; the nearest fault is kill"},
		{"a target that can do all", engine, &Links{}, Isolate, ""},
		{"who cannot kill may be able to crash", choosy{engine, engine, engine}, nil, Kill, "kill needs a target that can kill a node's process (Killer), and this one cannot; the nearest fault is crash: the data node's worker"},
		{"a capability may not reach every node", choosy{engine, engine, engine}, nil, Crash, "crash of data2 needs Crasher: data2 is somebody's favourite; no other fault is near but command"},
		{"where a restart in place cannot be, a stop can", choosy{engine, engine, engine}, nil, RollingRestart, "(Restarter), and this one cannot; the nearest fault is stop"},
	} {
		plan, err := NewPlan(1, []Spec{specOf(row.kind)}, Ground{Topology: layout, Duration: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		err = CheckPlan(t.Context(), plan, layout, Builder(row.target, row.links))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.want)
		}
	}
	for _, d := range Catalogue() {
		plan, err := NewPlan(1, []Spec{specOf(d.Kind)}, Ground{Topology: layout, Duration: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPlan(t.Context(), plan, layout, Builder(bare{engine, engine}, nil)); (err == nil) != !slices.ContainsFunc(d.Needs, func(c Capability) bool { return c != Killer }) {
			t.Errorf("%s needs %v of a target that can only kill: %v", d.Kind, d.Needs, err)
		}
		if err := CheckPlan(t.Context(), plan, layout, Builder(engine, &Links{})); err != nil {
			t.Errorf("%s on a target that can do all: %v", d.Kind, err)
		}
		// Another process may heal with a target that lacks what the fault needs.
		fault, err := Builder(bare{engine, engine}, nil)(plan.Steps[0])
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			if err := fault.Undo(t.Context()); err != nil && !errors.Is(err, ErrNeedsPerson) {
				t.Errorf("undo %s without its capability: %v", d.Kind, err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	layout := fourNodes(t)
	layout.Nodes = append(layout.Nodes, topology.Node{ID: 9, Name: "sql9", Role: topology.SQL, Host: "cyrus1", Group: -1})
	for _, row := range []struct {
		sentence string
		spec     Spec
		want     string // ids and nodes, or part of the error
	}{
		{"a node", Spec{Kind: Kill, Target: "data1"}, "f1-kill-data1 data1"},
		{"a host is all its nodes", Spec{Kind: Kill, Target: "host:cyrus1"}, "f1-kill-host-cyrus1 data1,sql9"},
		{"or those that the kind can be made on", Spec{Kind: Crash, Target: "host:cyrus1"}, "f1-crash-host-cyrus1 data1"},
		{"a fault of hosts takes whatever is on them", Spec{Kind: Isolate, Target: "data1"}, "f1-isolate-data1 data1,sql9"},
		{"a role", Spec{Kind: Kill, Target: "role:management"}, "f1-kill-role-management mgm1"},
		{"a node group, if an outage is allowed", Spec{Kind: Kill, Target: "group:1", AllowOutage: true}, "f1-kill-group-1 data3,data4 along data1,data2"},
		{"and not otherwise", Spec{Kind: Kill, Target: "group:1"}, "kill of group:1 would be an outage of the harness's own making: node group 1 has no survivor"},
		{"every data node", Spec{Kind: Kill, Target: "role:data", AllowOutage: true}, "f1-kill-role-data data1,data2,data3,data4"},
		{"the master is any data node", Spec{Kind: PowerOff, Target: Master}, "f1-power-off-master master"},
		{"a restart of all, one after another", Spec{Kind: RollingRestart, Target: "all"},
			"f1-rolling-restart-mgm1 mgm1; f2-rolling-restart-data1 data1; f3-rolling-restart-data2 data2; f4-rolling-restart-data3 data3; " +
				"f5-rolling-restart-data4 data4; f6-rolling-restart-sql1 sql1; f7-rolling-restart-sql2 sql2; f8-rolling-restart-sql9 sql9"},
		{"a kind for one node refuses several", Spec{Kind: KillInRestart, Target: "group:0"}, "group:0 has the nodes data1,data2; kill-in-restart is made on one at a time"},
		{"a group has no SQL node", Spec{Kind: LinkCut, Target: "group:0"}, `group:0 has no ["sql"] node, on which link-cut can be made`},
		{"the wrong role", Spec{Kind: Crash, Target: "sql1"}, `sql1 is a sql node; crash can be made on ["data"] nodes`},
		{"a host that is not there", Spec{Kind: Kill, Target: "host:mars"}, `no host is called "mars"`},
		{"a role to draw from that is not there", Spec{Kind: Kill, Target: "any:king"}, `no role is called "king"`},
		{"data that would be gone for good, allowed or not", Spec{Kind: Initial, Target: "group:0", AllowOutage: true}, "the data of node group 0 would be gone for good"},
		{"a stop that NDB refuses, allowed or not", Spec{Kind: Stop, Target: "group:0", AllowOutage: true}, "refuses to stop the last node of node group 0"},
	} {
		row.spec.At = time.Minute
		plan, err := NewPlan(1, []Spec{row.spec}, Ground{Topology: layout, Duration: time.Hour})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "faults[0].target: "+row.want) && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v, want %s", row.sentence, err, row.want)
			}
			continue
		}
		var got []string
		for _, p := range plan.Steps {
			one := p.ID + " " + p.Names()
			if len(p.Along) > 0 {
				one += " along " + names(p.Along)
			}
			got = append(got, one)
		}
		if all := strings.Join(got, "; "); all != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, all, row.want)
		}
	}
}

func TestANodeIsDrawnFairly(t *testing.T) {
	ground := Ground{Topology: fourNodes(t), Duration: 24 * time.Hour}
	orders := map[string]bool{}
	for seed := range uint64(20) {
		plan, err := NewPlan(seed, []Spec{{Kind: Kill, Target: "any:data", At: time.Minute, Repeat: 8, Every: time.Hour}}, ground)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, p := range plan.Steps {
			order = append(order, p.Names())
		}
		for _, round := range [][]string{order[:4], order[4:]} {
			if each := slices.Sorted(slices.Values(round)); strings.Join(each, " ") != "data1 data2 data3 data4" {
				t.Errorf("seed %d: a round is %v, want each node once", seed, round)
			}
		}
		orders[strings.Join(order, " ")] = true
	}
	if len(orders) < 10 {
		t.Errorf("20 seeds give %d orders", len(orders))
	}
}

func TestFaultsThatAreInEffectTogether(t *testing.T) {
	two, four := cluster(t), fourNodes(t)
	const s = time.Second
	mgm := Spec{Kind: Kill, Target: "mgm1", At: time.Minute, Hold: time.Minute}
	during := func(target string, allow bool) Spec {
		return Spec{Kind: Kill, Target: target, At: 5 * s, Hold: 10 * s, During: DuringPrevious, AllowOutage: allow}
	}
	for _, row := range []struct {
		sentence string
		layout   topology.Topology
		specs    []Spec
		want     string // ids of the plan, or part of the error
	}{
		{"an arbitrator and one of two data nodes are an outage", two, []Spec{mgm, during("data1", false)},
			"faults[1].target: kill of data1 during the fault before would be an outage of the harness's own making: half of the data nodes are left and no management node can arbitrate"},
		{"which may be allowed, and takes the other data node along", two, []Spec{mgm, during("data1", true)}, "f1-kill-mgm1; f2-kill-data1 outage along data2"},
		{"of four data nodes one can be spared without an arbitrator", four, []Spec{mgm, during("data1", false)}, "f1-kill-mgm1; f2-kill-data1"},
		{"both losses count together", four, []Spec{{Kind: Kill, Target: "data1", At: time.Minute, Hold: time.Minute}, during("data2", false)},
			"faults[1].target: kill of data2 during the fault before would be an outage of the harness's own making: node group 0 has no survivor"},
		{"also where the seed or the cluster choose", four, []Spec{{Kind: Kill, Target: Master, At: time.Minute, Hold: time.Minute}, during("any:data", false)},
			"faults[1].target: kill of any:data during the fault before would be an outage"},
		{"one after another they are no matter", four, []Spec{{Kind: Kill, Target: "data1", At: time.Minute}, {Kind: Kill, Target: "data2", At: time.Minute}}, "f1-kill-data1; f2-kill-data2"},
		{"each repetition has its own", four, []Spec{{Kind: Kill, Target: "mgm1", At: time.Minute, Hold: time.Minute, Repeat: 2, Every: 5 * time.Minute}, during("data1", false)},
			"f1-kill-mgm1; f2-kill-data1; f3-kill-mgm1; f4-kill-data1"},
		{"a node has one fault at a time", four, []Spec{{Kind: Pause, Target: "data1", At: time.Minute, Hold: time.Minute}, during("data1", false)}, "faults[1].target: data1 has a fault in effect already"},
		{"it must come while the one before holds", four, []Spec{{Kind: Kill, Target: "mgm1", At: time.Minute, Hold: 5 * s}, during("data1", false)}, "faults[1].at: is up to 5s after the fault before"},
		{"nothing is before the first", four, []Spec{during("data1", false)}, "faults[0].during: is"},
		{"it is not repeated by itself", four, []Spec{mgm, {Kind: Kill, Target: "data1", During: DuringPrevious, Repeat: 2, Every: time.Minute}}, "faults[1].repeat: is 2"},
		{"a cluster with a fault does not settle", four, []Spec{mgm, {Kind: Kill, Target: "data1", During: DuringPrevious, Settle: s}}, "faults[1].settle: is 1s"},
		{"nor is it redundant", four, []Spec{mgm, {Kind: Kill, Target: "data1", During: DuringPrevious, After: AfterRedundant}}, "faults[1].during: is"},
		{"three are enough", four, []Spec{mgm, during("data1", false), during("sql1", false), during("data3", true)}, "faults[3].during: makes 4 faults"},
		{"nodes that restart one after another take no other fault", four, []Spec{{Kind: RollingRestart, Target: "role:data", At: time.Minute, Hold: time.Minute}, during("sql1", false)}, "faults[1].during: cannot be"},
		{"a client that knows one SQL node must keep it", four, []Spec{{Kind: Kill, Target: "sql2", At: time.Minute}}, "faults[0].target: kill of sql2 would be an outage of the harness's own making: client webmail1 has no SQL node left"},
	} {
		plan, err := NewPlan(1, row.specs, Ground{Topology: row.layout, Duration: time.Hour, Clients: []Client{
			{Name: "mta1", Nodes: []topology.ID{row.layout.ByRole(topology.SQL)[0].ID, row.layout.ByRole(topology.SQL)[1].ID}},
			{Name: "webmail1", Nodes: []topology.ID{row.layout.ByRole(topology.SQL)[1].ID}},
		}})
		var got []string
		for _, p := range plan.Steps {
			one := p.ID
			if p.Outage != "" {
				one += " outage along " + names(p.Along)
			}
			got = append(got, one)
		}
		if text := strings.Join(got, "; "); err == nil && text != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, text, row.want)
		}
		if err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.sentence, err, row.want)
		}
	}
}
