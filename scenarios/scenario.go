// Package scenarios turns a scenario file into what a run needs: topology,
// population, workload window, clients, fault plan, objectives and bounds. It
// also conducts the run.
//
// A scenario file is YAML. Every field but a few has a default, and
// [Scenario.YAML] writes all of them out, so that a recording says what was
// asked for without the program that made it. docs/scenarios.md lists the
// fields; it is generated from the same table that reads them (fields.go).
package scenarios

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload"
)

// Scenario is one experiment, resolved: every default is filled in and every
// name in it has been checked. Parse and Load make one; a Scenario made by hand
// has not been checked.
type Scenario struct {
	Name           string // as in reports: a-z, 0-9 and '-'
	Hypothesis     string // one sentence that the run may prove wrong
	Seed           uint64 // of population, trace and fault plan
	Cluster        ClusterKind
	System         System
	Schema         string       // folder of files that take the place of reference/schema's, as it was written; "" for none
	TopologySpec   TopologySpec // the zero value with an external cluster
	External       External     // of no meaning without
	Population     Population
	Workload       Workload
	Clients        []ClientSpec     // samples name them by index; 1 to 64
	Links          []LinkSpec       // of SQL nodes that are farther away, all run long
	Faults         []FaultSpec      // in the order in which they are injected, but for those that are drawn or follow another
	FaultRates     map[string]int64 // how often a kind, or "kind target", is expected in 30 days, in thousandths
	ObjectiveSpecs []ObjectiveSpec
	Bounds         Bounds

	inputs inputs
}

// TopologySpec is the cluster that a scenario asks for.
type TopologySpec struct {
	DataNodes int      // 1 to 48, a multiple of Replicas; data node i runs on host cyrus<i>
	Replicas  int      // copies of each row, 1 to 4: NDB's NoOfReplicas
	SQLHosts  []string // hosts that run a SQL node: sql1 on the first, and so on
	Limits    NodeLimits
	DataNode  map[string]string // parameters of [ndbd default], by their NDB names
	SQLServer map[string]string // options of mysqld, by their names without leading dashes
}

// NodeLimits bounds what one node of each role may use of the machine.
type NodeLimits struct {
	Data, SQL, Management topology.Limits
}

// Population is whose mail it is. It is the zero value with a trace file, which
// has its own.
type Population struct {
	Accounts int    // 1 to 10,000,000
	Domain   string // a DNS name, the part after '@' of every account
}

// Workload is the slice of the virtual day that is replayed, and how fast.
type Workload struct {
	// Trace is the path of a trace file that is replayed, as it was written; "" for
	// a trace that Profile, MessagesPerDay and JobsPerDay make, which are zero
	// otherwise.
	Trace          string
	TraceSHA256    string        // of the items of the whole file, in lower-case hexadecimal; "" without one
	Profile        string        // name of the day model, or path of its file as it was written
	MessagesPerDay int64         // offered by peers on the whole virtual day, retries apart
	JobsPerDay     int64         // jobs of the staff on accounts on the whole virtual day
	From           Start         // where on the virtual day the window begins
	Duration       time.Duration // of the load, in wall time; with EndWithFaults at most
	End            End
	Speed          int // virtual seconds a wall second
	Retries        Retries
	Before         Before // what the database holds when it begins
	// Paths are the names of the paths that are asked, routing always among them.
	Paths []string
}

// Asks says whether a path is asked.
func (w Workload) Asks(p reference.Path) bool { return slices.Contains(w.Paths, p.String()) }

// Span is how much of the virtual day the window covers.
func (w Workload) Span() time.Duration { return w.Duration * time.Duration(w.Speed) }

// Start is the virtual time at which a window begins.
type Start struct {
	BusiestHour bool          // at the beginning of the profile's busiest hour
	TimeOfDay   time.Duration // since midnight, when BusiestHour is false; 24 hours or more on later days of a trace file
}

// ClientKind is what a client is.
type ClientKind string

// The kinds of client.
const (
	MTA     ClientKind = "mta"
	Webmail ClientKind = "webmail"
)

// Connections is when a client opens a connection.
type Connections string

// The connection habits.
const (
	PerMessage Connections = "per-message" // a new one for each message or webmail action, as Exim does for each SMTP session
	Persistent Connections = "persistent"  // kept until it breaks
)

// GreylistFallback is what an MTA does with a recipient when the database does
// not answer whether to greylist it.
type GreylistFallback string

// The fallbacks.
const (
	Defer  GreylistFallback = "defer"  // the peer must come back: nothing is lost, mail is late
	Accept GreylistFallback = "accept" // mail flows, spam with it
)

// ClientSpec is one machine of ours that asks the database, and its habits.
type ClientSpec struct {
	Name             string
	Kind             ClientKind
	Nodes            []string // names of SQL nodes, the preferred one first
	Connections      Connections
	ConnectTimeout   time.Duration // until the node has greeted and let the client in
	ReadTimeout      time.Duration // until a node that is asked must have answered; 0 for no limit
	Attempts         int           // statements that one op may take, the first included; 1 to 10
	Backoff          time.Duration // pause before the second round over Nodes, doubled for each further one; 0 for none
	GreylistFallback GreylistFallback
}

// LinkSpec is how far away a SQL node is from every client, beyond what it is.
type LinkSpec struct {
	Node  string
	Delay time.Duration // of each round trip
}

// AllPaths is the path of an objective that counts the ops of every path.
const AllPaths = "all"

// ObjectiveSpec is an objective as the file words it, or a document that words some.
type ObjectiveSpec struct {
	OpenSLO        string // path of an OpenSLO document that takes the entry's place, as it was written; the other fields mean nothing then
	Name           string
	Metric         results.Metric // "" for ops, or what happens to messages
	Path           string         // one of reference.Paths, or AllPaths
	TargetPPM      int64          // required share of good ops in millionths, 1 to 1,000,000
	Within         time.Duration  // bound on the response time, 0 for none
	Degraded       Degraded
	Slice          time.Duration // length of a slice of time, 0 to count ops or messages
	SliceTargetPPM int64         // required share of good ops in a good slice
	WindowDays     int           // over which the budget is meant
}

// Degraded is whether an objective counts a degraded op as good.
type Degraded string

// How degraded ops count.
const (
	DegradedBad  Degraded = "bad"
	DegradedGood Degraded = "good"
)

// Bounds are limits of the generator. A run that passes one of them, but the last
// two, says nothing about the cluster and is inconclusive.
type Bounds struct {
	LagP999   time.Duration // dispatch lag, 99.9th percentile; 0 for no limit, here and below
	SchedP999 time.Duration // wait of goroutines for a processor, 99.9th percentile of each second
	GCPause   time.Duration // each pause for the garbage collector
	StealPPM  int64         // share of the processors' time that a virtual machine's host keeps back, of each minute
	ClockStep time.Duration // wall clock against monotonic clock, within a second
	InFlight  int           // sessions under way at one time, at most
	Overflow  Overflow
}

// Overflow is what becomes of a session that finds InFlight others under way.
type Overflow string

// The policies.
const (
	OverflowWait   Overflow = "wait"
	OverflowPutOff Overflow = "put-off"
	OverflowDrop   Overflow = "drop"
)

// Before is what the database holds of the time before the window.
type Before string

// What it may hold.
const (
	BeforeCorrespondents Before = "correspondents" // the triplets of regular correspondents
	BeforeNone           Before = "none"           // no triplets
	BeforeDay            Before = "day"            // what the hours before have left, and the tries that are still to come
)

// End is when the load ends.
type End string

// The ends.
const (
	EndWithDuration End = "duration" // after Workload.Duration
	EndWithFaults   End = "faults"   // a while after the last fault has become redundant
)

// Retries is who makes tries after the first of messages that are put off.
type Retries string

// The ways.
const (
	RetriesClosed    Retries = "closed"    // the peers, because of what the database answered
	RetriesPredicted Retries = "predicted" // the peers, because of what the decision model would answer
	RetriesNone      Retries = "none"      // nobody
)

// Topology lays the nodes out on their hosts. It fails only for a Scenario that
// Parse has not checked.
func (s *Scenario) Topology() (topology.Topology, error) {
	if s.external() {
		return s.External.topology(), nil
	}
	spec := s.TopologySpec
	if s.System != SystemNDB {
		return s.servers(), nil
	}
	t, err := topology.New(topology.Shape{DataNodes: spec.DataNodes, Replicas: spec.Replicas, SQLHosts: spec.SQLHosts})
	if err != nil {
		return topology.Topology{}, fmt.Errorf("lay out the topology of scenario %s: %w", s.Name, err)
	}
	t.Limits = map[topology.Role]topology.Limits{
		topology.Data:       spec.Limits.Data,
		topology.SQL:        spec.Limits.SQL,
		topology.Management: spec.Limits.Management,
	}
	t.DataNode = maps.Clone(spec.DataNode)
	t.SQLServer = maps.Clone(spec.SQLServer)
	return t, nil
}

// Objectives returns the objectives in the form in which runs are judged.
func (s *Scenario) Objectives() []results.Objective {
	objectives := make([]results.Objective, 0, len(s.ObjectiveSpecs))
	for i, o := range s.ObjectiveSpecs {
		if o.OpenSLO != "" {
			objectives = append(objectives, s.inputs.openSLO[i].objectives...)
			continue
		}
		path := o.Path
		if path == AllPaths {
			path = ""
		}
		objectives = append(objectives, results.Objective{
			Name:      o.Name,
			Path:      path,
			TargetPPM: o.TargetPPM,
			LatencyUS: o.Within.Microseconds(),
			Degraded:  string(o.Degraded),
			Metric:    o.Metric, SliceUS: o.Slice.Microseconds(), SliceTargetPPM: o.SliceTargetPPM, WindowDays: int64(o.WindowDays),
		})
	}
	return objectives
}

// defaults is a scenario as it stands before its file is read. The default
// topology is meant for a machine of 2 cores and 8 GiB: its nodes may use
// 7.25 GiB of memory together, and share the cores. A session of mysqld with NDB
// takes some 1.4 MiB, and 500 of them hang at once when a data node falls silent:
// with 1 GiB both SQL nodes were killed for it.
func defaults() *Scenario {
	return &Scenario{
		Seed:    1,
		Cluster: ClusterContainers, System: SystemNDB, External: defaultExternal(),
		TopologySpec: TopologySpec{
			DataNodes: 2,
			Replicas:  2,
			SQLHosts:  []string{"mta1", "webmail1"},
			Limits: NodeLimits{
				Data:       topology.Limits{MilliCPUs: 1000, MemoryMiB: 2048},
				SQL:        topology.Limits{MilliCPUs: 1000, MemoryMiB: 1536},
				Management: topology.Limits{MilliCPUs: 500, MemoryMiB: 256},
			},
			DataNode:  map[string]string{"DataMemory": "256M"},
			SQLServer: map[string]string{},
		},
		Population: Population{Accounts: 70_000, Domain: "calmail.example"},
		Workload: Workload{
			Profile:        workload.DefaultProfile,
			MessagesPerDay: 4_000_000, // the profile's, as JobsPerDay
			JobsPerDay:     200,
			From:           Start{BusiestHour: true},
			Duration:       6 * time.Minute,
			Speed:          1,
			End:            EndWithDuration,
			Retries:        RetriesClosed,
			Before:         BeforeCorrespondents,
			Paths:          allPaths(),
		},
		Links: []LinkSpec{}, Faults: []FaultSpec{}, FaultRates: map[string]int64{},
		ObjectiveSpecs: []ObjectiveSpec{{
			Name: "every path answers", Path: AllPaths, TargetPPM: 999_000, Degraded: DegradedBad, WindowDays: defaultWindowDays,
		}},
		Bounds: Bounds{
			LagP999: 50 * time.Millisecond, SchedP999: 50 * time.Millisecond, GCPause: 50 * time.Millisecond,
			StealPPM: 100_000, ClockStep: 100 * time.Millisecond, InFlight: 4096, Overflow: OverflowWait,
		},
	}
}

func defaultClient() ClientSpec {
	return ClientSpec{
		Connections:      PerMessage,
		ConnectTimeout:   2 * time.Second,
		ReadTimeout:      10 * time.Second,
		Attempts:         3,
		Backoff:          50 * time.Millisecond,
		GreylistFallback: Defer,
	}
}

func defaultObjective() ObjectiveSpec {
	return ObjectiveSpec{Path: AllPaths, Degraded: DegradedBad, WindowDays: defaultWindowDays}
}

// defaultWindowDays is the window of the alerts in The Site Reliability Workbook.
const defaultWindowDays = 30

// defaultClients puts one client on each host that runs a SQL node.
func defaultClients(sqlHosts []string) []ClientSpec {
	var clients []ClientSpec
	for _, host := range sqlHosts {
		c := defaultClient()
		c.Name, c.Kind = host, MTA
		if strings.HasPrefix(host, "webmail") {
			c.Kind, c.Connections = Webmail, Persistent
		}
		clients = append(clients, c)
	}
	return clients
}

// preferOwnHost lists all SQL nodes for a client, the one on its own host first.
func preferOwnHost(client string, nodes []topology.Node) []string {
	var own, other []string
	for _, n := range nodes {
		if n.Host == client {
			own = append(own, n.Name)
		} else {
			other = append(other, n.Name)
		}
	}
	return append(own, other...)
}
