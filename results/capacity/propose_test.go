package capacity

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/memory"
	"gotest.tools/v3/golden"
)

// plant is a system whose work is known: seconds of a node's quota a message.
type plant struct {
	data, sql         int
	message, sessions float64 // of the SQL nodes that take them
	row               float64 // of all data nodes together
	survivor          float64 // how much busier a data node is whose partner is dead
	full              float64 // a node is as busy when objectives begin to be missed
	clients           []Client
}

func smallPlant() plant {
	return plant{data: 2, sql: 2, message: 0.004, sessions: 0.001, row: 0.005, survivor: 1.4, full: 0.85, clients: twoClients()}
}

func twoClients() []Client {
	return []Client{{Name: "mta1", MTA: true, Nodes: []string{"sql1", "sql2"}}, {Name: "webmail1", Nodes: []string{"sql2", "sql1"}, Like: 1}}
}

// busy is how busy each node is at a rate.
func (p plant) busy(rate float64, dead map[string]bool) map[string]float64 {
	use := map[string]float64{}
	for i := range p.sql {
		name := sqlName(i + 1)
		if s := shares(p.clients, dead)[name]; !dead[name] {
			use[name] = rate * (p.message*s.messages + p.sessions*s.sessions)
		}
	}
	for i := range p.data {
		name, partner := fmt.Sprintf("data%d", i+1), fmt.Sprintf("data%d", i^1+1)
		if !dead[name] {
			use[name] = rate * p.row / float64(p.data)
			if dead[partner] {
				use[name] *= p.survivor
			}
		}
	}
	return use
}

// search is what a search of it finds: it offers rates to either side of the capacity.
func (p plant) search(regimes ...Regime) *Result {
	hosts := make([]string, p.sql)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("host%d", i+1)
	}
	t, err := topology.New(topology.Shape{DataNodes: p.data, Replicas: 2, SQLHosts: hosts})
	if err != nil {
		panic(err)
	}
	t.DataNode = map[string]string{"DataMemory": "256M"}
	t.Limits = map[topology.Role]topology.Limits{topology.Data: {MilliCPUs: 300}, topology.SQL: {MilliCPUs: 350}}
	r := &Result{
		Schema: CapacitySchema, Topology: t, Host: Host{Processors: 2},
		Search: Search{Scenario: "small", System: "ndb", Seed: 7, TodayPerDay: 4_000_000, PeakPPM: 1_800_000, Settings: searchSettings()},
	}
	number := 0
	for _, regime := range regimes {
		dead, _ := r.lost(regime)
		f := Found{Regime: regime, Done: true}
		most, node := 0.0, ""
		for name, use := range p.busy(1, dead) {
			if use > most {
				most, node = use, name
			}
		}
		capacity := p.full / most * 86_400
		for i, share := range []float64{0.7, 0.99, 1.04} {
			number++
			rate := capacity * share / 86_400
			s := Judged{Step: Step{Number: number, Regime: regime, Dir: "001", PerDay: int64(rate * 86_400), FromUS: 1_000_000, ToUS: 23_000_000}, Outcome: Met, Offered: int64(math.Round(rate * 20)), CPUPPM: map[string]int64{}}
			if i == 2 {
				s.Outcome = Missed
			}
			for name, use := range p.busy(rate, dead) {
				s.CPUPPM[name] = ppm(min(use, 1))
			}
			f.Steps = append(f.Steps, s)
		}
		f.MetPerDay, f.MissedPerDay = f.Steps[1].PerDay, f.Steps[2].PerDay
		f.PromisePerDay = ratio(f.MetPerDay, million, r.Search.PeakPPM)
		n, _ := r.Topology.Node(node)
		f.Limit = Limit{Resource: cpuOf(n.Role), Node: node, UsePPM: 900_000}
		r.Regimes = append(r.Regimes, f)
	}
	return r
}

func all() []Regime { return []Regime{Healthy, ShortOf("data2"), ShortOf("sql1")} }

func (p plant) question(perDay int64, regimes ...Regime) Question {
	return Question{TargetPerDay: perDay, Result: p.search(regimes...), Clients: p.clients}
}

func (p *Proposal) part(name string) Part {
	for _, part := range p.Parts {
		if part.Name == name {
			return part
		}
	}
	return Part{}
}

func TestPropose(t *testing.T) {
	curve := func(q *Question, efficiency float64, counts ...int) {
		base := q.Result.Find(Healthy)
		for _, n := range counts {
			v := smallPlant()
			v.sql = n
			r := v.search(Healthy)
			f, times := r.Find(Healthy), float64(n)/2*math.Pow(efficiency, math.Log2(float64(n)/2))
			f.MetPerDay, f.MissedPerDay = int64(float64(base.MetPerDay)*times), int64(float64(base.MissedPerDay)*times)
			f.Limit = Limit{}
			q.Variants = append(q.Variants, r)
		}
	}
	for _, row := range []struct {
		sentence  string
		target    int64
		regimes   []Regime
		change    func(*Question)
		answer    Answer
		data, sql int
		why       string // a part of it, or of the notes
	}{
		{"what was measured already is not proposed again", 8_000_000, all(), nil, CarriedAlready, 2, 2, "as was measured"},
		{"a target at the very promise is carried", 0, all(), func(q *Question) { q.TargetPerDay = q.Result.Find(ShortOf("sql1")).PromisePerDay }, CarriedAlready, 2, 2, "where it carries least, short:sql1"},
		// The survivor of two SQL nodes is the limit at 0.85/0.005/s = 170/s, 8.2 M a day at the peak
		// factor; 10 M are 208/s. With three nodes the survivors' worst has two of three MTAs.
		{"the loss of a SQL node takes more of them", 10_000_000, all(), nil, Proposed, 2, 3, "should carry 10,000,000 messages a day"},
		{"both roles grow with the target", 14_000_000, all(), nil, Proposed, 4, 4, "4 data nodes in 2 node groups and 4 SQL nodes"},
		{"beyond twice what was measured nothing is said", 40_000_000, all(), nil, Refused, 0, 0, "more than 4 SQL nodes would be needed"},
		{"a curve over SQL nodes wants a scenario for it", 40_000_000, all(), nil, Refused, 0, 0, "--sql-nodes 2,4 --out DIR, of a scenario whose number of MTAs is a multiple of these"},
		{"what was not measured is said beside what was", 10_000_000, []Regime{Healthy}, nil, CarriedAlready, 2, 2, "One SQL node short was not measured"},
		{"unmeasured losses are assumed", 10_500_000, []Regime{Healthy}, nil, Proposed, 4, 3, "One SQL node short was not measured"},
		{"a curve carries further", 20_000_000, all(), func(q *Question) { curve(q, 1, 3, 4, 6) }, Proposed, 4, 5, "should carry"},
		{"but not the other role", 40_000_000, all(), func(q *Question) { curve(q, 1, 3, 4, 6) }, Refused, 0, 0, "more than 4 data nodes"},
		{"a curve that bends takes more nodes", 13_800_000, all(), func(q *Question) { curve(q, 0.7, 3, 4, 6, 8) }, Proposed, 4, 5, "should carry"},
		{"two numbers make no law, and beyond what was searched nothing is said", 14_000_000, all(), func(q *Question) { curve(q, 1, 4) }, Refused, 0, 0, "makes no law"},
		{"a search that is not over is no point of a curve", 20_000_000, all(), func(q *Question) {
			curve(q, 1, 3, 4, 6)
			q.Variants[2].Find(Healthy).Done, q.Variants[2].Find(Healthy).MetPerDay = false, 1_000_000
		}, Proposed, 4, 5, "should carry"},
		{"what is carried must have the memory, too", 8_000_000, all(), func(q *Question) {
			q.Memory = forecast(184, true)
		}, CarriedAlready, 2, 2, "as was measured"},
		{"memory is sized where it was forecast", 14_000_000, all(), func(q *Question) {
			q.Memory = forecast(200, true)
		}, Proposed, 4, 4, "should carry"},
		{"memory that grows is sized for as long as it was forecast", 14_000_000, all(), func(q *Question) { q.Memory = forecast(200, false) }, Proposed, 4, 4, "still growing"},
		{"rows that the forecast has once take twice as much", 14_000_000, all(), func(q *Question) {
			q.Memory = forecast(110, true)
			q.Memory.Cluster.Replicas = 1
		}, Proposed, 4, 4, "should carry"},
		{"a forecast of something else is told", 14_000_000, all(), func(q *Question) {
			q.Memory = forecast(200, true)
			q.Memory.Scenario = "another"
		}, Proposed, 4, 4, "is of scenario another"},
		{"objectives that were met at no rate", 14_000_000, all(), func(q *Question) {
			f := q.Result.Find(Healthy)
			f.MetPerDay, f.PromisePerDay, f.Why = 0, 0, "the objectives cannot be met at any rate"
		}, Refused, 0, 0, "objectives cannot be met at any rate"},
		{"nor with a node short", 14_000_000, all(), func(q *Question) {
			f := q.Result.Find(ShortOf("data2"))
			f.MetPerDay, f.PromisePerDay = 0, 0
		}, Refused, 0, 0, "short:data2 met the objectives at no rate"},
		{"a generator that was the limit makes it an upper bound", 10_000_000, all(), func(q *Question) {
			q.Result.Find(Healthy).Limit = Limit{Resource: generatorName}
		}, Proposed, 2, 3, "fewer nodes may do"},
		{"lost writes end all planning", 10_000_000, all(), func(q *Question) { q.Result.Verdict = dataLoss }, Refused, 0, 0, "data loss"},
		{"another system is none of NDB's", 10_000_000, all(), func(q *Question) { q.Result.Search.System = "ldap" }, Refused, 0, 0, "the search is of ldap"},
		{"nothing healthy was searched", 10_000_000, []Regime{ShortOf("sql1")}, nil, Refused, 0, 0, "--regime healthy"},
		{"no processor time was recorded", 10_000_000, all(), func(q *Question) {
			for i := range q.Result.Regimes {
				for k := range q.Result.Regimes[i].Steps {
					q.Result.Regimes[i].Steps[k].CPUPPM = nil
				}
			}
		}, Refused, 0, 0, "no processor time"},
		{"a limit that is no processor explains nothing", 10_000_000, all(), func(q *Question) {
			for i := range q.Result.Regimes {
				f := &q.Result.Regimes[i]
				f.Limit = Limit{Resource: "redo"}
				f.MetPerDay, f.MissedPerDay, f.PromisePerDay = f.Steps[0].PerDay, f.Steps[1].PerDay, ratio(f.Steps[0].PerDay, million, 1_800_000)
				f.Steps[1].Outcome = Missed
				for name := range f.Steps[0].CPUPPM {
					f.Steps[0].CPUPPM[name] = 300_000
				}
			}
			for _, r := range q.Result.Regimes {
				q.TargetPerDay = min(q.TargetPerDay, r.PromisePerDay*101/100)
			}
		}, Proposed, 0, 0, "redo ended the search"},
	} {
		q := smallPlant().question(row.target, row.regimes...)
		if row.change != nil {
			row.change(&q)
		}
		p, err := Propose(q)
		if err != nil {
			t.Errorf("%s: %v", row.sentence, err)
			continue
		}
		data, sql := 0, 0
		if p.Topology != nil {
			data, sql = p.Topology.DataNodes, p.Topology.SQLNodes
		}
		if p.Answer != row.answer || row.data > 0 && (data != row.data || sql != row.sql) || !strings.Contains(p.Why+strings.Join(p.Notes, " "), row.why) {
			t.Errorf("%s: %s, %d data nodes, %d SQL nodes: %s %q", row.sentence, p.Answer, data, sql, p.Why, p.Notes)
		}
		if want := "368M"; q.Memory != nil && p.Topology.DataMemory != want {
			// (180 MiB of rows x 14/4 x 2/4 + 20 MiB) / 95 %, in whole 16 MiB.
			t.Errorf("%s: DataMemory is %s, want %s", row.sentence, p.Topology.DataMemory, want)
		}
		if p.Answer == Proposed && row.change == nil {
			want := Extrapolated
			if len(row.regimes) == 1 { // healthy
				want = Assumed
			}
			for _, name := range [...]string{"SQL nodes, one dead", "data nodes, one dead"} {
				if got := p.part(name).Basis; got != want {
					t.Errorf("%s: %s are %q, want %q", row.sentence, name, got, want)
				}
			}
		}
		for _, part := range p.Parts {
			if part.BusyPPM > part.BoundPPM {
				t.Errorf("%s: %s are busy to %d millionths, more than %d", row.sentence, part.Name, part.BusyPPM, part.BoundPPM)
			}
		}
		if (p.Answer == Refused) != (len(p.Parts) == 0) {
			t.Errorf("%s: %s with %d parts", row.sentence, p.Answer, len(p.Parts))
		}
	}
}

// TestProposeCarries holds proposals against the plant that they were made of: with the
// nodes of a proposal it carries the target, healthy and with any node dead; with one SQL
// node less, or a node group less, it does not.
func TestProposeCarries(t *testing.T) {
	proposed := 0
	for target := int64(8_300_000); target < 16_000_000; target += 90_000 {
		measured := smallPlant()
		p, err := Propose(measured.question(target, all()...))
		if err != nil {
			t.Fatal(err)
		}
		if p.Answer != Proposed {
			continue
		}
		proposed++
		carries := func(data, sql int) bool {
			clients, err := Spread(measured.clients, sql)
			if err != nil {
				t.Fatal(err)
			}
			larger := measured
			larger.data, larger.sql, larger.clients = data, sql, clients
			most := 0.0
			for _, dead := range append(slices.Collect(maps.Keys(larger.busy(1, nil))), "") {
				for _, use := range larger.busy(float64(p.RatePerDay)/86_400, map[string]bool{dead: true}) {
					most = max(most, use)
				}
			}
			return most <= larger.full*0.99*1.002 // of what was offered, 0.99 was met; messages are whole
		}
		data, sql := p.Topology.DataNodes, p.Topology.SQLNodes
		if !carries(data, sql) {
			t.Errorf("%d: %d data nodes and %d SQL nodes do not carry it", target, data, sql)
		}
		if carries(data, sql-1) || data > 2 && carries(data-2, sql) {
			t.Errorf("%d: fewer than %d data nodes and %d SQL nodes carry it too", target, data, sql)
		}
	}
	if proposed < 50 {
		t.Errorf("%d proposals, want 50 or more", proposed)
	}
}

func TestProposalGolden(t *testing.T) {
	p, err := Propose(smallPlant().question(14_000_000, all()...))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, string(text)+"\n", "proposal.json")
}

func TestSpread(t *testing.T) {
	for n := 1; n <= 32; n++ {
		clients, err := Spread(twoClients(), n)
		if err != nil {
			t.Fatal(err)
		}
		most := 0.0
		for _, s := range shares(clients, nil) {
			if math.Abs(s.messages-1/float64(n)) > 1e-9 || math.Abs(s.sessions-1/float64(n)) > 1e-9 {
				t.Errorf("%d SQL nodes: one gets %v", n, s)
			}
			most = max(most, s.messages)
		}
		names := map[string]bool{}
		for _, c := range clients {
			if names[c.Name] || len(c.Nodes) != n || len(slices.Compact(slices.Sorted(slices.Values(c.Nodes)))) != n {
				t.Errorf("%d SQL nodes: client %s asks %v", n, c.Name, c.Nodes)
			}
			names[c.Name] = true
		}
		if clients[0].Nodes[0] != "sql1" {
			t.Errorf("%d SQL nodes: mta1 prefers %s, and not its own", n, clients[0].Nodes[0])
		}
	}
	if _, err := Spread(twoClients(), 33); err == nil {
		t.Error("66 clients are not refused")
	}
	// Six MTAs on two of three nodes' lists: when one dies its two go to different nodes.
	var six []Client
	for i := range 6 {
		six = append(six, Client{Name: fmt.Sprintf("mta%d", i+1), MTA: true})
	}
	clients, err := Spread(six, 3)
	if err != nil {
		t.Fatal(err)
	}
	for node, s := range shares(clients, map[string]bool{"sql2": true}) {
		if math.Abs(s.messages-0.5) > 1e-9 {
			t.Errorf("with sql2 dead %s gets %.2f of all messages, want half", node, s.messages)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]int64{
		"20M/day": 20_000_000, "20000000": 20_000_000, "500/s": 43_200_000, "2.5M": 2_500_000, "1k/h": 24_000, "0.5M/day": 500_000,
		"": 0, "20": 0, "2000M/day": 0, "-5M": 0, "20M/week": 0, "1e9": 0, "NaN": 0, "20 M": 0, "99999999999999999999": 0, "20M/day\n": 0,
	} {
		got, err := ParseTarget(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}

// forecast is one of so many MiB in use on each of two data nodes, 20 of which hold no
// row of ours, for 4 million messages a day.
func forecast(mib int64, steady bool) *memory.Forecast {
	f := &memory.Forecast{
		Scenario: "small", MessagesPerDay: 4_000_000, Cluster: memory.Cluster{DataNodes: 2, Replicas: 2, Base: 20 << 20, ReservePercent: 5},
		Days: []memory.Day{{Used: 30 << 20}, {Day: 1, Used: mib << 20}},
	}
	if steady {
		f.Steady = &memory.Steady{FromDay: 1, Used: mib << 20}
	}
	return f
}
