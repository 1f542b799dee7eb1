package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/workload"
	"github.com/moby/moby/client"
)

// searchedPlan is a small scenario of which a capacity can be searched.
func searchedPlan(t *testing.T, more ...Override) *Plan {
	t.Helper()
	p, err := LoadPlan(t.Context(), "capacity", append([]Override{
		{Path: "population.accounts", Value: "2000"}, {Path: "workload.duration", Value: "3h"}, {Path: "workload.before", Value: "correspondents"},
		{Path: "workload.retries", Value: "closed"}, {Path: "topology.limits", Value: "{data: {cpus: 1, memory: 2GiB}, sql: {cpus: 1, memory: 1536MiB}, management: {cpus: 0.5, memory: 256MiB}}"},
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestRegimesOfAPlan(t *testing.T) {
	plain := searchedPlan(t)
	shared := searchedPlan(t, Override{Path: "topology.sql_hosts", Value: "[cyrus1, cyrus2]"})
	single := searchedPlan(t, Override{Path: "topology.data_nodes", Value: "1"}, Override{Path: "topology.replicas", Value: "1"})
	for _, row := range []struct {
		sentence string
		plan     *Plan
		want     string
	}{
		{"one node of each kind may be missed", plain, "healthy short:data2 short:sql1"},
		{"and a host with both, where there is one", shared, "healthy short:data2 short:sql1 short:host:cyrus1"},
		{"but not the only data node", single, "healthy short:sql1"},
	} {
		var got []string
		for _, r := range row.plan.DefaultRegimes() {
			got = append(got, string(r))
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s: %v, want %s", row.sentence, got, row.want)
		}
	}
	for _, row := range []struct {
		regime capacity.Regime
		want   string
	}{
		{"broken", "must be healthy, short:NODE or rejoining:NODE"},
		{"short", "must be healthy, short:NODE or rejoining:NODE"},
		{"short:data9", `no node is called "data9"`},
		{"short:role:data", "no survivor"},
		{"rejoining:role:sql", ""},
	} {
		_, err := plain.regimePlan(row.regime, 3)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("regime %s: error %v, want %q", row.regime, err, row.want)
		}
	}
	innodb := searchedPlan(t, Override{Path: "system", Value: "innodb"}, Override{Path: "topology.sql_hosts", Value: "[a, b]"})
	if _, err := innodb.regimePlan("rejoining:sql1", 3); err == nil || !strings.Contains(err.Error(), "does not take its old role") {
		t.Errorf("an InnoDB primary that rejoins: error %v, want a refusal", err)
	}
	if _, err := innodb.regimePlan("short:sql1", 3); err != nil {
		t.Errorf("an InnoDB pair short of its primary: %v", err)
	}
	plan, err := plain.regimePlan("rejoining:data2", 3)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, step := range plan.Steps {
		ids = append(ids, step.ID)
	}
	if len(plan.Steps) != 3 || len(slices.Compact(ids)) != 3 {
		t.Errorf("three steps of a node that rejoins have the faults %q, want three of their own", ids)
	}
}

func TestVariants(t *testing.T) {
	p := searchedPlan(t)
	for _, row := range []struct {
		sentence string
		variant  Variant
		want     string
	}{
		{"a SQL node is preferred by an MTA in turn", p.Scenario.SQLNodes(3), "sql1 sql2 sql3/sql2 sql3 sql1/sql3 sql1 sql2/sql1 sql2 sql3"},
		{"a server on a machine of its own has what two nodes would have", searchedPlan(t, Override{Path: "workload.paths", Value: "[routing, preferences]"},
			Override{Path: "objectives", Value: "[{name: routing answers, path: routing, target: 99%}]"}).Scenario.OnSystem("innodb"), "2000 3584"},
		{"NDB has what it had", p.Scenario.OnSystem("ndb"), "1000 1536"},
		{"four data nodes", p.Scenario.DataNodes(4), "4"},
	} {
		base := []Override{{Path: "workload.paths", Value: "[routing, preferences]"}, {Path: "objectives", Value: "[{name: routing answers, path: routing, target: 99%}]"}}
		v := searchedPlan(t, append(base, row.variant.Set...)...)
		got := ""
		switch {
		case strings.HasPrefix(row.variant.Name, capacity.SQLNodesDir):
			var nodes []string
			for _, c := range v.Scenario.Clients[:4] {
				nodes = append(nodes, strings.Join(c.Nodes, " "))
			}
			got = strings.Join(nodes, "/")
		case strings.HasPrefix(row.variant.Name, capacity.DataNodesDir):
			got = fmt.Sprint(len(v.Topology.ByRole(topology.Data)))
		default:
			limits := v.Topology.Limits[topology.SQL]
			got = fmt.Sprintf("%d %d", limits.MilliCPUs, limits.MemoryMiB)
			if regimes := v.MachineRegimes(); len(regimes) != 2 || regimes[1] != "short:host:mta1" {
				t.Errorf("%s: regimes %v", row.sentence, regimes)
			}
		}
		if got != row.want {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}

// TestEachKindPrefersInTurn: what clients of one kind are there does not shift those of another.
func TestEachKindPrefersInTurn(t *testing.T) {
	v := searchedPlan(t, searchedPlan(t).Scenario.SQLNodes(5).Set...)
	seen := map[ClientKind]int{}
	for _, c := range v.Scenario.Clients {
		if want := fmt.Sprintf("sql%d", seen[c.Kind]%5+1); c.Nodes[0] != want {
			t.Errorf("%s prefers %s, want %s", c.Name, c.Nodes[0], want)
		}
		seen[c.Kind]++
	}
	if len(seen) != 2 {
		t.Errorf("the scenario has kinds %v, want MTAs and webmail servers", seen)
	}
}

func TestPlansThatCannotBeSearched(t *testing.T) {
	for _, row := range []struct {
		sentence string
		set      Override
		want     string
	}{
		{"with faults of its own", Override{Path: "faults", Value: "[{kind: kill, target: data2, at: 1m, hold: 5s}]"}, "--set 'faults=[]'"},
		{"that turns sessions away", Override{Path: "bounds.overflow", Value: "drop"}, "bounds.overflow is drop"},
		{"at another speed", Override{Path: "workload.speed", Value: "2"}, "workload.speed is 2"},
		{"with an objective of messages", Override{Path: "objectives", Value: "[{name: mail, metric: deferred, target: 99%}]"}, "mail"},
	} {
		set := []Override{row.set}
		if row.set.Path == "workload.speed" {
			set = append(set, Override{Path: "workload.duration", Value: "1h"})
		}
		p := searchedPlan(t, set...)
		if err := p.checkSearch(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want %q", row.sentence, err, row.want)
		}
	}
}

// TestSearchOnACluster has a real cluster meet two rates, healthy, with each node of the
// plan dead, and while a data node rejoins: in steps that are too short to be believed.
// It is cut off at first and goes on.
func TestSearchOnACluster(t *testing.T) {
	docker := clustertest.Alone(t)
	// However slow the machine is: the rates are not what is tested.
	p := searchedPlan(t, Override{Path: "bounds.lag_p999", Value: "1m"}, Override{Path: "objectives", Value: "[{name: routing answers, path: routing, target: 20%}]"})
	const second = int64(time.Second / time.Microsecond)
	settings := capacity.Settings{
		ConfidencePPM: 900_000, ResolutionPPM: 400_000, WarmUpUS: 3 * second, SettleUS: second, MinStepUS: 5 * second, MaxStepUS: 5 * second, LookUS: second,
		StartPerDay: 2_000_000, HighestPerDay: 2_000_000, LowestPerDay: 1_000_000, MaxSteps: 6,
	}
	var progress bytes.Buffer
	c := Conductor{Dir: filepath.Join(t.TempDir(), "search"), Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
	search := p.Search(settings, "test", "mailbench capacity")
	result, err := c.Capacity(t.Context(), p, search, []capacity.Regime{capacity.Healthy}, false)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if healthy := result.Find(capacity.Healthy); healthy == nil || !healthy.Done {
		t.Fatalf("the healthy search is not over: %+v\n%s", healthy, &progress)
	}
	regimes := []capacity.Regime{capacity.Healthy, "short:sql1", "rejoining:data2"}
	other := searchedPlan(t, Override{Path: "seed", Value: "2"})
	var refused *ResumeError
	if _, err := c.Capacity(t.Context(), other, nil, regimes, true); !errors.As(err, &refused) || refused.What != "seed" {
		t.Errorf("a search that goes on with another seed: %v, want it refused", err)
	}
	result, err = c.Capacity(t.Context(), p, nil, regimes, true)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	for _, regime := range regimes {
		found := result.Find(regime)
		if found == nil {
			t.Errorf("%s: there is no step\n%s", regime, &progress)
			continue
		}
		if !found.Done || len(found.Steps) > settings.MaxSteps {
			t.Errorf("%s: %d steps, done %v (%s)", regime, len(found.Steps), found.Done, found.Why)
		}
		for _, step := range found.Steps {
			want := "001"
			if regime != capacity.Healthy {
				want = "002"
			}
			if step.Dir != want || step.Ops == 0 || step.Outcome == capacity.Void {
				t.Errorf("%s: step %d is in run %s, want %s; %d ops, %s (%s)", regime, step.Number, step.Dir, want, step.Ops, step.Outcome, step.Why)
			}
			if regime.Rejoins() && step.Stopped != capacity.Rejoined {
				t.Errorf("%s: step %d ended because of %q, want its node to be redundant", regime, step.Number, step.Stopped)
			}
		}
	}
	if result.Verdict != "" || strings.Contains(progress.String(), "could not") {
		t.Errorf("verdict %q\n%s", result.Verdict, &progress)
	}
	again, err := c.Capacity(t.Context(), p, nil, regimes, true)
	if err != nil || len(again.Search.Steps) != len(result.Search.Steps) {
		t.Errorf("a search that is over took more steps (%v)", err)
	}

	// A node that ends by itself ends the search, which keeps what it has learned.
	var killing sync.WaitGroup
	defer killing.Wait()
	c.Progress = onText(&progress, "short:sql2: ending", func() {
		killing.Go(func() {
			time.Sleep(4 * time.Second) // in the step
			if err := killNode(t.Context(), docker, "capacity-", "data2"); err != nil {
				t.Errorf("kill data2: %v", err)
			}
		})
	})
	after, err := c.Capacity(t.Context(), p, nil, []capacity.Regime{"short:sql2"}, true)
	var died *DiedError
	if !errors.As(err, &died) || died.Node != "data2" || died.Regime != "short:sql2" {
		t.Fatalf("the search ended with %v, want data2 to have died\n%s", err, &progress)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, died.Step.Dir, "cluster")); err != nil {
		t.Errorf("the nodes' logs: %v", err)
	}
	if step := after.Search.Steps[len(after.Search.Steps)-1]; step.Stopped != capacity.SystemDied || len(after.Search.Ends) != 1 {
		t.Errorf("the last step was stopped because of %q, and the search has %d ends", step.Stopped, len(after.Search.Ends))
	}
	for _, regime := range regimes {
		if was, is := result.Find(regime), after.Find(regime); !reflect.DeepEqual(was, is) {
			t.Errorf("%s: %+v after the death, was %+v", regime, is, was)
		}
	}
}

// onText is a writer that calls f when text is written for the first time.
func onText(w io.Writer, text string, f func()) io.Writer {
	return &textTrap{w: w, text: text, f: f}
}

type textTrap struct {
	w    io.Writer
	text string
	f    func()
	once sync.Once
}

func (w *textTrap) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.once.Do(w.f)
	}
	return w.w.Write(p)
}

// killNode ends a node of the one cluster whose run id begins so.
func killNode(ctx context.Context, docker *client.Client, prefix, node string) error {
	clusters, err := cluster.List(ctx, docker)
	if err != nil {
		return err
	}
	for _, info := range clusters {
		if strings.HasPrefix(info.RunID, prefix) {
			c, err := cluster.Attach(ctx, docker, info.RunID)
			if err != nil {
				return err
			}
			n, err := c.Topology().Node(node)
			if err != nil {
				return err
			}
			return c.Kill(ctx, n.ID)
		}
	}
	return errors.New("there is no such cluster")
}

// checkpointing is a system whose local checkpoint takes so long.
type checkpointing struct {
	system
	takes time.Duration
}

func (c *checkpointing) Master(context.Context) (topology.ID, error) { return 1, nil }

func (c *checkpointing) Dump(context.Context, topology.ID, ...int) error { return nil }

func (c *checkpointing) AwaitEvent(ctx context.Context, _ time.Time, match func(reference.ClusterEvent) bool) (reference.Evidence, error) {
	if match(reference.ClusterEvent{Name: "LocalCheckpointStarted"}) {
		return reference.Evidence{At: time.Now()}, nil
	}
	select {
	case <-time.After(c.takes):
		return reference.Evidence{At: time.Now()}, nil
	case <-ctx.Done():
		return reference.Evidence{}, ctx.Err()
	}
}

func TestFirstRateOfARegime(t *testing.T) {
	p := searchedPlan(t)
	healthy := []capacity.Tried{{PerDay: 5_856_400, Outcome: capacity.Met}}
	begun := capacity.Step{Number: 1, Regime: "short:sql1", PerDay: 1_234_000}
	for _, row := range []struct {
		sentence string
		regime   capacity.Regime
		tried    []capacity.Tried // healthy
		steps    []capacity.Step
		want     int64
	}{
		{"healthy: where the search begins", capacity.Healthy, nil, nil, 4_000_000},
		{"without a data node: what was met", "short:data2", healthy, nil, 5_856_400},
		{"without one of two SQL nodes: half of it", "short:sql1", healthy, nil, 2_928_200},
		{"also while it rejoins", "rejoining:sql1", healthy, nil, 2_928_200},
		{"where nothing was met: half of the beginning", "short:sql1", nil, nil, 2_000_000},
		{"that of the first step", "short:sql1", healthy, []capacity.Step{begun}, 1_234_000},
	} {
		search := p.Search(capacity.Settings{StartPerDay: 4_000_000, LowestPerDay: 100_000, HighestPerDay: 80_000_000, ResolutionPPM: 100_000, MaxSteps: 10}, "", "")
		search.Steps = row.steps
		plan, err := p.regimePlan(row.regime, 2)
		if err != nil {
			t.Fatal(err)
		}
		s := &searching{
			search: search, tried: map[capacity.Regime][]capacity.Tried{capacity.Healthy: row.tried},
			plans: map[capacity.Regime]chaos.Plan{row.regime: plan}, manifest: results.Manifest{Topology: p.Topology},
		}
		if got := s.settings(row.regime).StartPerDay; got != row.want {
			t.Errorf("%s: %d, want %d", row.sentence, got, row.want)
		}
	}
}

func TestWarmUp(t *testing.T) {
	p := searchedPlan(t)
	if err := p.CountArrivals(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence             string
		takes                time.Duration
		heldBack             bool
		wantBegin, wantUntil time.Duration
	}{
		{"it begins when the rows are on disk", 20 * time.Second, false, 20 * time.Second, 111 * time.Second},
		{"a checkpoint that takes too long is not waited for", time.Hour, false, 3 * time.Minute, 3*time.Minute + 91*time.Second},
		{"it ends when sessions are held back", 20 * time.Second, true, 20 * time.Second, 21 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var waited atomic.Int64
			s := &searching{
				search: p.Search(capacity.Settings{WarmUpUS: 90e6, StartPerDay: 4_000_000, LowestPerDay: 1_000_000, HighestPerDay: 8_000_000, ResolutionPPM: 100_000, MaxSteps: 10}, "", ""), tried: map[capacity.Regime][]capacity.Tried{},
				regimes: []capacity.Regime{capacity.Healthy}, arrivals: p.arrivals, say: t.Logf,
				since: func() time.Duration { return time.Since(began) }, stats: func() workload.Stats { return workload.Stats{Waited: waited.Load()} },
				target: &checkpointing{takes: row.takes},
			}
			part, err := s.turn(t.Context(), 0, p.Trace.Window().From)
			if err != nil {
				t.Fatal(err)
			}
			if since := time.Since(began); since != row.wantBegin {
				t.Errorf("%s: the warm-up begins after %v, want %v", row.sentence, since, row.wantBegin)
			}
			offered := p.arrivals.Before(part.To) - p.arrivals.Before(p.Trace.Window().From)
			if want := 4_000_000 * (90 * time.Second).Hours() / 24; math.Abs(offered-want) > 1 {
				t.Errorf("%s: it offers %.0f messages, want %.0f", row.sentence, offered, want)
			}
			if row.heldBack {
				time.Sleep(time.Second / 2)
				waited.Add(1)
			}
			<-part.Stop
			if since := time.Since(began); since != row.wantUntil {
				t.Errorf("%s: it lasts until %v, want %v", row.sentence, since, row.wantUntil)
			}
			s.rest(t.Context())
			if len(s.search.Steps) > 0 {
				t.Errorf("%s: the warm-up counts as a step", row.sentence)
			}
		})
	}
}

// TestStepBeginsAsRecorded: what was looked at while a step went on is what its
// recording is judged by, to the last block.
func TestStepBeginsAsRecorded(t *testing.T) {
	p := searchedPlan(t)
	if err := p.CountArrivals(t.Context()); err != nil {
		t.Fatal(err)
	}
	const second = int64(time.Second / time.Microsecond)
	s := &searching{
		search:   p.Search(capacity.Settings{StartPerDay: 1_000_000, LowestPerDay: 1_000_000, HighestPerDay: 1_000_000, ResolutionPPM: 100_000, SettleUS: 5 * second, MinStepUS: 20 * second, MaxStepUS: 20 * second, LookUS: second}, "", ""),
		arrivals: p.arrivals, say: t.Logf, stats: func() workload.Stats { return workload.Stats{} },
		since: func() time.Duration { return 7*time.Second + 999*time.Nanosecond },
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := s.begin(ctx, capacity.Healthy, 1_000_000, p.Trace.Window().From); err != nil {
		t.Fatal(err)
	}
	to := s.planned.Microseconds()
	if found := s.tally.Look(time.Duration(to)*time.Microsecond, false); strings.Contains(found.Why, "not under way for long enough") {
		t.Errorf("a step of its whole length, from %d to %d µs: %s", s.step.FromUS, to, found.Why)
	}
	cancel()
	s.watched.Wait()
}

// paired is a system of a primary and a replica.
type paired struct {
	system
	primary topology.ID
}

func (p *paired) Primary() topology.ID { return p.primary }

// TestSearchWantsNewServersOnceRolesHaveMoved: what follows would be searched with
// another primary than the regimes before.
func TestSearchWantsNewServersOnceRolesHaveMoved(t *testing.T) {
	p := searchedPlan(t)
	over := []capacity.Tried{{PerDay: 1_000_000, Outcome: capacity.Met}}
	for _, row := range []struct {
		sentence string
		primary  topology.ID
		regimes  []capacity.Regime
		renews   bool
	}{
		{"the replica has taken the primary's place, and a regime is left", 2, []capacity.Regime{"short:sql1", "short:sql2"}, true},
		{"nobody has", 1, []capacity.Regime{"short:sql2", "short:sql1"}, false},
		{"no regime is left", 2, []capacity.Regime{"short:sql1"}, false},
	} {
		left := 0
		s := &searching{
			search:  p.Search(capacity.Settings{StartPerDay: 1_000_000, LowestPerDay: 1_000_000, HighestPerDay: 1_000_000, ResolutionPPM: 100_000, MaxSteps: 1}, "", ""),
			tried:   map[capacity.Regime][]capacity.Tried{"short:sql1": over, "short:sql2": over},
			regimes: row.regimes, target: &paired{primary: row.primary}, began: 1, say: t.Logf,
			leaving: func(context.Context) error { left++; return nil },
		}
		_, err := s.turn(t.Context(), 0, 0)
		var renew *renewError
		if errors.As(err, &renew) != row.renews || err == nil || left != 1 {
			t.Errorf("%s: %v, and the regime was left %d times; want another sitting: %v", row.sentence, err, left, row.renews)
		}
	}
}
