package scenarios

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
	"gotest.tools/v3/golden"
)

// busy is a run in the middle of its second of three faults, told of by events as
// a cluster sends them.
func busy(t *testing.T) moment {
	t.Helper()
	layout, err := topology.New(topology.Shape{DataNodes: 4, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	s := &Scenario{}
	s.Workload.Duration = 6 * time.Minute
	m := newMeter(&Plan{Scenario: s, Topology: layout, Faults: chaos.Plan{Steps: []chaos.Planned{
		{ID: "f1-kill-data2", At: 20 * time.Second}, {ID: "f2-slow-cpu-data1", At: 75 * time.Second}, {ID: "f3-kill-sql1", At: 4 * time.Minute},
	}}})
	m.objectives = []results.Objective{
		{Name: "mail flows", TargetPPM: 990_000},
		{Name: "routing is answered within a quarter of a second", Path: "routing", TargetPPM: 999_900, LatencyUS: 250_000},
		{Name: "nobody is put off", Metric: results.MetricDeferred, TargetPPM: 1_000_000},
	}
	m.good, m.bad = make([]int64, 3), make([]int64, 3)
	m.Event(chaos.Event{Kind: chaos.KindPhase, Name: "measure"})
	events := []chaos.Event{
		{At: 20 * time.Second, Kind: chaos.KindFault, Fault: "f1-kill-data2", Node: "data2", Name: chaos.StepInjected},
		{At: 20 * time.Second, Kind: chaos.KindCluster, Node: "data2", Name: "NODE_FAILREP"},
		{At: 21 * time.Second, Kind: chaos.KindFault, Fault: "f1-kill-data2", Node: "data2", Name: chaos.StepEffective},
		{At: 47 * time.Second, Kind: chaos.KindFault, Fault: "f1-kill-data2", Node: "data2", Name: chaos.StepRedundant},
		{At: 75 * time.Second, Kind: chaos.KindFault, Fault: "f2-slow-cpu-data1", Node: "data1", Name: chaos.StepInjected},
		{At: 77 * time.Second, Kind: chaos.KindFault, Fault: "f2-slow-cpu-data1", Node: "data1", Name: chaos.StepEffective},
		{At: 80 * time.Second, Kind: chaos.KindCluster, Node: "data3", Name: "MissedHeartbeat"},
		{At: 80 * time.Second, Kind: chaos.KindCluster, Node: "data4", Name: "NODE_FAILREP"},
		{At: 82 * time.Second, Kind: chaos.KindCluster, Node: "data4", Name: "Connected"},
		{At: 82 * time.Second, Kind: chaos.KindCluster, Node: "sql2", Name: "Disconnected"},
	}
	var now moment
	for second := 1; second <= 83; second++ {
		at := time.Duration(second) * time.Second
		for len(events) > 0 && events[0].At <= at {
			m.Event(events[0])
			events = events[1:]
		}
		took := 2 * time.Millisecond
		if second >= 20 && second < 24 || second >= 75 {
			took = time.Duration(100*(second%7+1)) * time.Millisecond
			m.Record(opOf(took, workload.Retried, ndberr.Result{Class: ndberr.Temporary}))
			m.Record(opOf(took, workload.Failed, ndberr.Result{Class: ndberr.Connect}))
		}
		for range 300 + 10*(second%5) {
			m.Record(opOf(took, workload.OK, ndberr.Result{}))
		}
		now = m.take(at, int64(102*second), 7)
	}
	return now
}

// crowded is a run of which all names are long, all numbers large and all nodes
// many.
func crowded(t *testing.T) moment {
	t.Helper()
	now := busy(t)
	long := strings.Repeat("a-very-long-name-", 5)
	now.at, now.planned = 23*time.Hour+59*time.Minute+59*time.Second, 24*time.Hour
	now.offered, now.done, now.inFlight = 123_456, 1_234_567, 123_456
	now.p50, now.p99, now.longest = 99_999_999, 99_999_999, 99_999_999
	now.outcomes = outcomes{0, 123_456, 123_456, 99_999, 99_999, 99_999}
	now.allOutcomes = outcomes{0, 12_345_678_901, 123_456_789, 123_456_789, 123_456_789, 123_456_789}
	now.allErrors = map[ndberr.Class]int64{}
	for class := ndberr.Connect; class <= ndberr.Permanent; class++ {
		now.allErrors[class] = 1_234_567_890 + int64(class)
	}
	now.nodes = nil
	for i := range 97 {
		n := nodeNow{Node: topology.Node{Name: fmt.Sprintf("%s%d", long, i), Role: topology.Data}, state: results.NodeUp}
		if i%2 == 0 {
			n.state = results.NodeDown
		}
		now.nodes = append(now.nodes, n)
	}
	now.faults = nil
	for i := range 1000 {
		f := faultNow{Planned: chaos.Planned{ID: fmt.Sprintf("f%d-%s", i, long), At: time.Duration(i) * time.Minute}}
		switch {
		case i < 700:
			f.state, f.from, f.to = faultPast, f.At, f.At+30*time.Second
		case i == 700:
			f.state, f.from, f.to, f.step = faultFailed, f.At, f.At+time.Hour, chaos.StepRecovered
		case i < 704:
			f.state, f.from, f.stepAt, f.step = faultActive, f.At, f.At, chaos.StepStage
		}
		now.faults = append(now.faults, f)
	}
	left := -123456.0
	now.budgets = nil
	for range 20 {
		now.budgets = append(now.budgets, budget{objective: long, left: &left})
	}
	return now
}

var colours = regexp.MustCompile("\x1b\\[[0-9]+m")

func TestLiveView(t *testing.T) {
	for name, now := range map[string]moment{"busy": busy(t), "crowded": crowded(t)} {
		for _, columns := range []int{60, 80, 200} {
			for _, color := range []bool{false, true} {
				lines := liveLines("a-scenario-with-a-name-of-some-length", now, columns, 50, color)
				text := strings.Join(lines, "\n") + "\n"
				for _, line := range lines {
					plain := colours.ReplaceAllString(line, "")
					if n := utf8.RuneCountInString(plain); n > min(columns, widest)-1 {
						t.Errorf("%s: %d columns of %d: %s", name, n, columns, plain)
					}
					// Each colour ends where it began; a line leaves none on.
					for i, code := range colours.FindAllString(line, -1) {
						if (code == "\x1b[0m") != (i%2 == 1) {
							t.Errorf("%s: colours are not ended one by one: %q", name, line)
						}
					}
					if strings.Count(line, "\x1b[")%2 != 0 {
						t.Errorf("%s: a colour is left on: %q", name, line)
					}
				}
				file := fmt.Sprintf("live-%s-%d.txt", name, columns)
				if color {
					file = fmt.Sprintf("live-%s-%d-color.txt", name, columns)
				}
				golden.Assert(t, text, file)
			}
		}
	}
}

func TestColourAddsNothing(t *testing.T) {
	now := busy(t)
	without := liveLines("s", now, 80, 50, false)
	for i, line := range liveLines("s", now, 80, 50, true) {
		if got := strings.TrimRight(colours.ReplaceAllString(line, ""), " "); got != without[i] {
			t.Errorf("line %d says %q with colours, %q without", i, got, without[i])
		}
	}
}

func TestLiveViewOfSmallTerminals(t *testing.T) {
	now := busy(t)
	full := len(liveLines("s", now, 80, 1000, false))
	for _, row := range []struct {
		sentence      string
		columns, rows int
		want          int
		has, hasNot   string
	}{
		{"a line is left for the cursor", 80, full + 1, full, "errors", ""},
		{"errors go first", 80, full, full - 2, "ops", "errors"},
		{"then outcomes", 80, full - 2, full - 5, "budget", "ops"},
		{"then budgets", 80, full - 5, full - 8, "nodes", "budget"},
		{"then nodes, so that the faults are left", 80, full - 8, 8, "faults", "nodes"},
		{"then faults", 80, 8, 3, "response", "faults"},
		{"and the rates with the head are the least", 80, 4, 3, "response", "faults"},
		{"too low for them", 80, 3, 1, "", "response"},
		{"too low for anything", 80, 1, 0, "", ""},
		{"too narrow", 59, 100, 0, "", ""},
		{"of unknown size", 0, 0, 0, "", ""},
	} {
		lines := liveLines("s", now, row.columns, row.rows, false)
		text := strings.Join(lines, "\n")
		if len(lines) != row.want || !strings.Contains(text, row.has) || row.hasNot != "" && strings.Contains(text, row.hasNot) {
			t.Errorf("%s: %d lines, want %d:\n%s", row.sentence, len(lines), row.want, text)
		}
	}
}

func TestNodesAsEventsTell(t *testing.T) {
	type step struct{ kind, name, node string }
	cluster, fault := string(chaos.KindCluster), string(chaos.KindFault)
	for _, row := range []struct {
		sentence string
		events   []step
		want     string // signs of data1, data2, sql1
	}{
		{"all are up when a load begins", nil, "+++"},
		{"a node under a fault that the cluster has not noticed", []step{{fault, chaos.StepInjected, "data1"}}, "!++"},
		{"one that it has", []step{{fault, chaos.StepInjected, "data1"}, {cluster, "NODE_FAILREP", "data1"}}, "x++"},
		{"is starting", []step{{cluster, "NODE_FAILREP", "data1"}, {cluster, "Connected", "data1"}}, ">++"},
		{"and up again", []step{{cluster, "NODE_FAILREP", "data1"}, {cluster, "NDBStartCompleted", "data1"}}, "+++"},
		{"a fault on two nodes", []step{{fault, chaos.StepInjected, "data1,sql1"}}, "!+!"},
		{"a fault that is taken back", []step{{fault, chaos.StepInjected, "data1"}, {fault, chaos.StepRecovered, "data1"}}, "+++"},
		{"two sides that lost each other and are whole again", []step{
			{fault, chaos.StepInjected, "data1"}, {cluster, "NODE_FAILREP", "data1"}, {cluster, "NODE_FAILREP", "data2"},
			{cluster, "NDBStartCompleted", "data1"}, {fault, chaos.StepRedundant, "data1"},
		}, "+++"},
		{"an event about no node", []step{{cluster, "LocalCheckpointStarted", ""}}, "+++"},
	} {
		layout, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
		if err != nil {
			t.Fatal(err)
		}
		m := newMeter(&Plan{Scenario: &Scenario{}, Topology: layout, Faults: chaos.Plan{Steps: []chaos.Planned{{ID: "f"}}}})
		for _, s := range row.events {
			m.Event(chaos.Event{Kind: chaos.EventKind(s.kind), Name: s.name, Node: s.node, Fault: "f"})
		}
		got := ""
		for _, n := range m.take(time.Second, 0, 0).nodes[1:] {
			got += n.sign().text
		}
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

func TestFaultsAsTheirStepsTell(t *testing.T) {
	for _, row := range []struct {
		sentence string
		steps    []string // one a second, from second 10 on
		state    faultState
		says     string
	}{
		{"is to come", nil, faultToCome, "in 5s or later"},
		{"is made", []string{chaos.StepInjected}, faultActive, "injected for 5.0s, made 5.0s ago"},
		{"is in effect", []string{chaos.StepInjected, chaos.StepEffective}, faultActive, "in effect for 4.0s, made 5.0s ago"},
		{"is past", []string{chaos.StepInjected, chaos.StepRedundant}, faultPast, "redundant after 1.0s"},
		{"was never made", []string{chaos.StepFailed}, faultNotMade, "not made"},
		{"did not take effect", []string{chaos.StepInjected, chaos.StepFailed}, faultFailed, "a step failed after 1.0s"},
		{"and is put right", []string{chaos.StepInjected, chaos.StepFailed, chaos.StepRecover}, faultFailed, "a step failed; now recover"},
	} {
		f := faultNow{Planned: chaos.Planned{ID: "f", At: 20 * time.Second}}
		for i, step := range row.steps {
			f.take(chaos.Event{At: time.Duration(10+i) * time.Second, Kind: chaos.KindFault, Name: step})
		}
		got := f.told()
		switch f.state {
		case faultToCome:
			got = f.due(15 * time.Second)
		case faultActive:
			step, made := f.doing(15 * time.Second)
			got = step + made
		}
		if f.state != row.state || got != row.says {
			t.Errorf("a fault that %s: %s, %q, want %s, %q", row.sentence, f.state, got, row.state, row.says)
		}
	}
}

// TestMomentsStandStill has samples and events come while moments are drawn, for the
// race detector, and holds that one that was taken says the same at the end.
func TestMomentsStandStill(t *testing.T) {
	layout, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1"}})
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter(&Plan{Scenario: &Scenario{}, Topology: layout, Faults: chaos.Plan{Steps: []chaos.Planned{{ID: "f"}}}})
	m.Event(chaos.Event{Kind: chaos.KindFault, Fault: "f", Node: "data1", Name: chaos.StepInjected})
	m.Record(opOf(time.Millisecond, workload.Failed, ndberr.Result{Class: ndberr.Connect}))
	first := m.take(time.Second, 1, 1)
	before := strings.Join(liveLines("s", first, 80, 50, true), "\n")
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for range 1000 {
				m.Record(opOf(time.Millisecond, workload.Failed, ndberr.Result{Class: ndberr.Connect}))
			}
		})
		busy.Go(func() {
			for i := range 1000 {
				step := []string{chaos.StepInjected, chaos.StepRecovered, chaos.StepRedundant}[i%3]
				m.Event(chaos.Event{Kind: chaos.KindFault, Fault: "f", Node: "data1", Name: step})
				m.Event(chaos.Event{Kind: chaos.KindCluster, Node: "data2", Name: []string{"NODE_FAILREP", "NDBStartCompleted"}[i%2]})
			}
		})
	}
	for i := range 100 {
		liveLines("s", m.take(time.Duration(i+2)*time.Second, int64(i), 1), 80, 50, true)
	}
	busy.Wait()
	if all := m.take(200*time.Second, 100, 0).allOutcomes; all[workload.Failed] != 4001 {
		t.Errorf("%d ops were counted of 4001", all[workload.Failed])
	}
	if after := strings.Join(liveLines("s", first, 80, 50, true), "\n"); after != before {
		t.Errorf("what was taken has changed from\n%s\nto\n%s", before, after)
	}
}

func TestSpark(t *testing.T) {
	for _, row := range []struct {
		sentence  string
		values    []int64
		seen, per int
		want      string
	}{
		{"nothing yet", nil, 0, 1, ""},
		{"the largest is full, the least is seen, nothing is nothing", []int64{8, 4, 1, 0}, 4, 1, "█▅▂ "},
		{"the larger of two", []int64{8, 1, 1, 4}, 4, 2, "█▅"},
		{"values keep their columns: the first is the second half of one", []int64{8, 1, 4}, 4, 2, "█▅"},
		{"and the last one is half of one", []int64{8, 4, 1}, 3, 2, "█▂"},
	} {
		if got := spark(row.values, row.seen, row.per); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}

func TestBrief(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 99_999: "99999", 100_000: "100k", 9_999_999: "9999k", 10_000_000: "10M", 12_345_678_901: "12G", 123_456_789_012_345: "123T",
	} {
		if got := brief(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

// TestProgressForPrograms holds one object to the schema of its Go type, and to
// what was told.
func TestProgressForPrograms(t *testing.T) {
	text, err := json.MarshalIndent(progress("peak-hour", busy(t)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, string(text)+"\n", "progress.json")
	schema, err := jsonschema.For[Progress](nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(schema.Required) != len(schema.Properties) {
		t.Errorf("members may be missing: %v of %d are required", schema.Required, len(schema.Properties))
	}
	var empty bytes.Buffer
	c := Conductor{Progress: &empty, Look: Look{Style: JSON}}
	c.tell("s", meterOf().take(time.Second, 0, 0))
	if line := empty.String(); strings.Count(line, "\n") != 1 || !strings.Contains(line, `"response_us":null`) || strings.Contains(line, `"nodes":null`) {
		t.Errorf("a second without ops: %s", line)
	}
}

// glass is a terminal as far as the screen needs one.
type glass struct {
	columns, rows int
	lines         [][]rune
	row, column   int // of the cursor
}

var sequence = regexp.MustCompile(`^\x1b\[([0-9]*)([A-Za-z])`)

func (g *glass) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		for g.row >= len(g.lines) {
			g.lines = append(g.lines, nil)
		}
		if found := sequence.FindStringSubmatch(text); found != nil {
			n, _ := strconv.Atoi(found[1])
			switch found[2] {
			case "A":
				g.row = max(0, g.row-n)
			case "K":
				g.lines[g.row] = g.lines[g.row][:min(g.column, len(g.lines[g.row]))]
			case "J":
				g.lines[g.row] = g.lines[g.row][:min(g.column, len(g.lines[g.row]))]
				g.lines = g.lines[:g.row+1]
			case "m":
			default:
				return 0, fmt.Errorf("sequence %q", found[0])
			}
			text = text[len(found[0]):]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		switch r {
		case '\n':
			g.row, g.column = g.row+1, 0
		case '\r':
			g.column = 0
		default:
			if g.column == g.columns {
				g.row, g.column = g.row+1, 0
				if g.row == len(g.lines) {
					g.lines = append(g.lines, nil)
				}
			}
			for len(g.lines[g.row]) <= g.column {
				g.lines[g.row] = append(g.lines[g.row], ' ')
			}
			g.lines[g.row][g.column] = r
			g.column++
		}
	}
	return len(p), nil
}

func (g *glass) String() string {
	var lines []string
	for _, l := range g.lines {
		lines = append(lines, string(l))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func TestScreen(t *testing.T) {
	for _, row := range []struct {
		sentence string
		do       func(s *screen, g *glass)
		want     string
	}{
		{"a block is drawn over itself", func(s *screen, _ *glass) {
			s.show([]string{"one", "two"})
			s.show([]string{"1", "2"})
		}, "1\n2"},
		{"a smaller one leaves nothing of a larger one", func(s *screen, _ *glass) {
			s.show([]string{"one", "two", "three"})
			s.show([]string{"1"})
		}, "1"},
		{"lines of others scroll by above", func(s *screen, _ *glass) {
			s.show([]string{"one", "two"})
			fmt.Fprintln(s, "said")
			s.show([]string{"1", "2"})
			fmt.Fprint(s, "and more\nof it\n")
		}, "said\nand more\nof it\n1\n2"},
		{"half a line waits for its end", func(s *screen, _ *glass) {
			s.show([]string{"one"})
			fmt.Fprint(s, "sa")
			s.show([]string{"1"})
			fmt.Fprint(s, "id\n")
		}, "said\n1"},
		{"and is not lost at the end", func(s *screen, _ *glass) {
			s.show([]string{"one"})
			fmt.Fprint(s, "sa")
			s.leave()
		}, "one\nsa"},
		{"without a block bars are drawn as they come", func(s *screen, _ *glass) {
			fmt.Fprint(s, "\r10 %")
			fmt.Fprint(s, "\r20 %\n")
			s.show([]string{"one"})
		}, "20 %\none"},
		{"what is left stands, and the next block goes below", func(s *screen, g *glass) {
			s.show([]string{"one"})
			fmt.Fprint(g, "\ninterrupted\n") // as main says it
			s.leave()
			s.show([]string{"1"})
			s.show([]string{"2"})
		}, "one\n\ninterrupted\n2"},
		{"in a window that became too narrow a block begins below what is left of the other", func(s *screen, g *glass) {
			s.show([]string{"one", "two"})
			g.columns = 20
			s.show([]string{"1", "2"})
			s.show([]string{"I", "II"})
		}, "one\ntwo\nI\nII"},
		{"also after what others say", func(s *screen, g *glass) {
			s.show([]string{"one"})
			g.columns = 20
			fmt.Fprintln(s, "said")
			s.show([]string{"1"})
		}, "one\nsaid\n1"},
		{"and in one that became too low", func(s *screen, g *glass) {
			s.show([]string{"one", "two"})
			g.rows = 2
			s.show([]string{"1"})
		}, "one\ntwo\n1"},
		{"no block erases the one before", func(s *screen, _ *glass) {
			s.show([]string{"one", "two"})
			s.show(nil)
			fmt.Fprintln(s, "plain")
		}, "plain"},
	} {
		g := &glass{columns: 80, rows: 24}
		s := &screen{w: g, size: func() (int, int) { return g.columns, g.rows }}
		row.do(s, g)
		if got := g.String(); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}

func TestStyles(t *testing.T) {
	for _, row := range []struct {
		progress string
		terminal bool
		want     Style
		fails    bool
	}{
		{"auto", true, Live, false}, {"auto", false, Plain, false}, {"plain", true, Plain, false},
		{"json", true, JSON, false}, {"none", true, Silent, false}, {"loud", true, Plain, true},
	} {
		if got, err := ParseStyle(row.progress, row.terminal); got != row.want || (err != nil) != row.fails {
			t.Errorf("--progress %s, terminal %t: %d, %v", row.progress, row.terminal, got, err)
		}
	}
}

// TestTellOnATerminal has a window become too small and large again, after a line
// was said.
func TestTellOnATerminal(t *testing.T) {
	columns := 80
	g := &glass{columns: 200}
	c := Conductor{Progress: g, Look: Look{Style: Live, Size: func() (int, int) { return columns, 50 }}}
	giveBack := c.takeScreen(t.Context())
	now := busy(t)
	c.tell("peak-hour", now)
	c.say("said")
	columns = 40
	c.tell("peak-hour", now)
	columns = 80
	c.tell("peak-hour", now)
	giveBack()
	c.say("after")
	got := g.String()
	view := strings.Join(liveLines("peak-hour", now, 80, 50, false), "\n")
	want := "said\n" + view + "\n" + plainLine(now) + "\n" + view + "\nafter"
	if got != want {
		t.Errorf("the terminal shows\n%s\nwant\n%s", got, want)
	}
}
