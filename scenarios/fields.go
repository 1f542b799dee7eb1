package scenarios

import (
	"math"
	"regexp"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// fields is the one table of what a scenario file may say: it reads files,
// writes them and documents them. The order is that of a written file; workload
// stands before faults, which may count in shares of its duration.
func (s *Scenario) fields() object {
	return object{
		{key: "name", value: nameValue(&s.Name), required: true,
			doc: "What reports call the scenario."},
		{key: "hypothesis", value: sentenceValue(&s.Hypothesis, 500), required: true,
			doc: "One sentence that the run may prove wrong."},
		{key: "seed", value: integerValue(&s.Seed, 0, uint64(math.MaxUint64)),
			fallback: "`1`; with `workload.trace` the file's", doc: "Population, trace and fault plan are functions of it."},
		{key: "cluster", value: oneOf(&s.Cluster, ClusterContainers, ClusterExternal),
			doc: "Whose it is: one that the harness starts in containers and removes, or one that somebody else runs ([external.md](external.md))."},
		{key: "system", value: oneOf(&s.System, SystemNDB, SystemInnoDB, SystemLDAP),
			doc: "What answers: `ndb` the NDB cluster; for a comparison `innodb`, a primary `sql1` with a replica `sql2` ([how](../reference/innodb/README.md)), or `ldap`, two OpenLDAP providers `ldap1` and `ldap2`. These two have one server on each of `topology.sql_hosts`, which must be two, under `topology.limits.sql`; of what else `topology` says only `sql_server` counts, for `innodb`."},
		{key: "external", value: s.External.fields(),
			doc: "The cluster that somebody else runs. To be written with `cluster: external`, and only then."},
		{key: "schema", value: orNone(&s.Schema, pathValue(&s.Schema)),
			doc: "A folder whose `.sql` files take the place of those of the same names in reference/schema, such as a changed `greylist.sql`: `./changed`. Each must create the same tables and routines."},
		{key: "topology", value: s.TopologySpec.fields(),
			doc: "Not to be written with `cluster: external`. The cluster in containers: one management node `mgm1` on host `admin1`, data nodes `data1`… on `cyrus1`…, SQL nodes `sql1`… on `sql_hosts`."},
		{key: "population", value: s.Population.fields(),
			doc: "Whose mail it is. Not to be written with `workload.trace`."},
		{key: "workload", value: s.Workload.fields(),
			doc: "The window of the virtual day that is replayed."},
		{key: "clients", fallback: "one on each of `sql_hosts`, named as its host: a webmail client with persistent connections where that name starts with `webmail`, else an MTA", doc: "The machines of ours that ask the database. At least one is an MTA.",
			value: listValue[ClientSpec]{p: &s.Clients, least: 1, most: 64, what: "clients", fresh: defaultClient,
				entry: func(c *ClientSpec) value { return c.fields() }}},
		{key: "links", doc: "SQL nodes that are farther away than they are, all run long.",
			value: listValue[LinkSpec]{p: &s.Links, least: 0, most: 48, what: "links", fresh: func() LinkSpec { return LinkSpec{} },
				entry: func(l *LinkSpec) value { return l.fields() }}},
		{key: "faults", doc: "The fault plan. Faults run one after another: each waits until the one before it has left the cluster redundant, unless it is made `during` that one. docs/faults.md has the kinds.",
			value: listValue[FaultSpec]{p: &s.Faults, least: 0, most: 100, what: "faults", fresh: defaultFault,
				entry: func(f *FaultSpec) value { return faultEntry{f, &s.Workload.Duration} }}},
		{key: "fault_rates", value: faultRates{&s.FaultRates},
			doc: "How often a fault is expected in 30 days, for the projection of budgets: a mapping from kinds of the plan, such as `kill`, or kind and target, such as `kill data2`, to numbers from 0 to 100000. What is not named is expected once."},
		{key: "objectives", doc: "What was promised; the rest is the error budget. An entry `openslo: ./slo.yaml` takes the objectives of an OpenSLO document: [openslo.md](openslo.md).",
			value: objectivesValue(&s.ObjectiveSpecs)},
		{key: "bounds", value: s.Bounds.fields(),
			doc: "Limits of the generator. A run that passes one of the first five is inconclusive."},
	}
}

// Names in NDB's configuration are CamelCase, mysqld's have '-' or '_'.
var (
	ndbParameter = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{1,79}$`)
	mysqldOption = regexp.MustCompile(`^[a-z][a-z0-9_-]{1,79}$`)
)

func (t *TopologySpec) fields() object {
	return object{
		{key: "data_nodes", value: integerValue(&t.DataNodes, 1, 48),
			doc: "NDB data nodes; a multiple of `replicas`. Data node i runs on host `cyrus<i>`."},
		{key: "replicas", value: integerValue(&t.Replicas, 1, 4),
			doc: "Copies of each row (NDB's `NoOfReplicas`), hence data nodes in a node group."},
		{key: "sql_hosts", value: namesValue(&t.SQLHosts, 1, 48, "hosts", nameValue),
			doc: "Hosts that run a SQL node each: `sql1` on the first, and so on."},
		{key: "limits", doc: "What one node of each role may use of the machine.", value: object{
			{key: "data", value: append(limitFields(&t.Limits.Data), diskField(&t.Limits.Data)), doc: "Each data node."},
			{key: "sql", value: limitFields(&t.Limits.SQL), doc: "Each SQL node."},
			{key: "management", value: limitFields(&t.Limits.Management), doc: "The management node."},
		}},
		{key: "data_node", doc: "Parameters of `[ndbd default]`, by their NDB names, added to the default. Others are as the cluster sets them, which makes buffers small and leaves heartbeats, arbitration and checkpoints at NDB's defaults.",
			value: parameters{p: &t.DataNode, what: "NDB parameters", key: ndbParameter,
				taken: []string{"noofreplicas", "nodeid", "id", "hostname", "datadir", "nodegroup", "serverport"}}},
		{key: "sql_server", doc: "Options of each `mysqld`, by their names without the leading dashes.",
			value: parameters{p: &t.SQLServer, what: "mysqld options", key: mysqldOption,
				taken: []string{"ndbcluster", "ndb_connectstring", "ndb_nodeid", "datadir", "port", "bind_address", "socket", "user", "init_file"}}},
	}
}

func limitFields(l *topology.Limits) object {
	return object{
		{key: "cpus", value: orNone(&l.MilliCPUs, processorsValue(&l.MilliCPUs)), doc: "Processors, up to three decimals."},
		{key: "memory", value: memoryValue(&l.MemoryMiB), doc: "Main memory."},
	}
}

// diskField is a limit of data nodes only: the others keep next to nothing on theirs.
func diskField(l *topology.Limits) field {
	return field{key: "disk", value: memoryValue(&l.DiskMiB),
		doc: "The file system under its data, which `disk-full` fills. It is memory, and counts as the machine's; `none` is a part of the machine's own disk, without a bound."}
}

func (p *Population) fields() object {
	return object{
		{key: "accounts", value: integerValue(&p.Accounts, 1, 10_000_000), doc: "Accounts of ours."},
		{key: "domain", value: domainValue(&p.Domain), doc: "The part after `@` of every account."},
	}
}

func (w *Workload) fields() object {
	return object{
		{key: "trace", value: orNone(&w.Trace, pathValue(&w.Trace)), doc: "A trace file to replay instead of generating messages: of `workload generate` or `workload import`. Seed and population are the file's. [Trace files](#trace-files) says what else follows."},
		{key: "trace_sha256", fallback: "the file's", value: hashValue(&w.TraceSHA256), doc: "What the trace file must have, as `workload inspect` prints it: another file is refused."},
		{key: "profile", value: profileValue(&w.Profile), doc: "Not to be written with `trace`, as the next two. The day model: who sends when, and what. docs/workload.md describes it, and what a file of yours must hold."},
		{key: "messages_per_day", fallback: "the profile's", value: integerValue(&w.MessagesPerDay, 1, 1_000_000_000), doc: "Messages that peers offer on the whole virtual day, retries apart."},
		{key: "account_jobs_per_day", fallback: "the profile's", value: integerValue(&w.JobsPerDay, 0, 1_000_000), doc: "What the staff does to accounts on the whole virtual day: new ones, moves to another backend, forwards."},
		{key: "from", value: startValue(&w.From), fallback: "`busiest-hour`; with `trace` where the file begins", doc: "Where on the virtual day the window begins. On later days of a trace file hours go on: `38:00` is 14:00 on the second."},
		{key: "duration", value: durationValue(&w.Duration, time.Second, longest), fallback: "`6m`; with `trace` the rest of the file", doc: "How long the load lasts, in wall time. `duration` times `speed` must fit the virtual day, or the trace file."},
		{key: "end", value: oneOf(&w.End, EndWithDuration, EndWithFaults), doc: "`faults` ends the load 5 s after the fault plan is through, and after `duration` at the latest; `duration` goes on until then."},
		{key: "speed", value: integerValue(&w.Speed, 1, 3600), doc: "Virtual seconds a wall second. Faults and time-outs are not sped up."},
		{key: "before", fallback: "`correspondents`; with a `trace` that was imported `none`", value: oneOf(&w.Before, BeforeNone, BeforeCorrespondents, BeforeDay), doc: "What the database holds when the window begins, beside accounts and preferences: `none` an empty greylist; `correspondents` the triplets of regular correspondents; `day` what the hours before would have left in greylist, preferences and accounts, while the tries that are then still to come are made too. A day of 4,000,000 messages leaves some 1.4 million rows at 10:00, about 80 bytes each on every data node."},
		{key: "retries", value: oneOf(&w.Retries, RetriesClosed, RetriesPredicted, RetriesNone), doc: "Who makes the tries after the first of a message that was put off: `closed` the peers, each by its own schedule, because of what the database answered or did not; `predicted` the peers, because of what the decision model would answer if no fault were, so that two runs offer the same (it wants `before: day`); `none` nobody."},
		{key: "paths", value: namesValue(&w.Paths, 1, len(reference.Paths), "paths", func(p *string) value { return oneOf(p, allPaths()...) }), doc: "Which paths are asked, `routing` always among them. Without `greylist` every recipient that has a route is accepted at once, and the greylist is left empty; without `preferences` no webmail user logs in, and without `accounts` the staff rests."},
	}
}

func (c *ClientSpec) fields() object {
	return object{
		{key: "name", value: nameValue(&c.Name), required: true, doc: "Unique among the clients."},
		{key: "kind", value: oneOf(&c.Kind, MTA, Webmail), required: true, doc: "An MTA asks for messages, a webmail machine for its users' actions, and for the staff's jobs on accounts."},
		{key: "nodes", value: namesValue(&c.Nodes, 1, 48, "SQL nodes", nodeNameValue), fallback: "all SQL nodes, those on the host that is called as the client first; with `system: innodb` the primary first", doc: "The SQL nodes that it asks, the preferred one first."},
		{key: "connections", value: oneOf(&c.Connections, PerMessage, Persistent), doc: "A new connection for each message or webmail action, as Exim makes it, or one that is kept until it breaks."},
		{key: "connect_timeout", value: durationValue(&c.ConnectTimeout, time.Millisecond, 5*time.Minute), doc: "Until the node has greeted and let the client in."},
		{key: "read_timeout", value: orNone(&c.ReadTimeout, durationValue(&c.ReadTimeout, time.Millisecond, 5*time.Minute)), doc: "Until a node that is asked must have answered. Exim has none."},
		{key: "attempts", value: integerValue(&c.Attempts, 1, 10), doc: "Attempts that one op may take, the first included. Exim has one for each node."},
		{key: "backoff", value: orNone(&c.Backoff, durationValue(&c.Backoff, time.Millisecond, time.Minute)), doc: "Pause before the second round over `nodes`; it doubles with each further round."},
		{key: "greylist_fallback", value: oneOf(&c.GreylistFallback, Defer, Accept), doc: "What an MTA does with a recipient when the database does not say whether to greylist it. Of no effect on webmail."},
	}
}

func (l *LinkSpec) fields() object {
	return object{
		{key: "node", value: nodeNameValue(&l.Node), required: true, doc: "A SQL node, named once."},
		{key: "delay", value: durationValue(&l.Delay, 100*time.Microsecond, time.Minute), required: true, doc: "By how much each round trip of every client to it is longer, inside the harness; the fault `latency` does the same for a while ([faults.md](faults.md))."},
	}
}

func (o *ObjectiveSpec) fields() object {
	paths := []string{AllPaths}
	for _, p := range reference.Paths {
		paths = append(paths, p.String())
	}
	return object{
		{key: "name", value: sentenceValue(&o.Name, 80), required: true, doc: "Unique among the objectives."},
		{key: "metric", value: orNone(&o.Metric, oneOfMetrics(&o.Metric)), doc: "Counts messages instead of ops: those are bad that were `deferred`, let through `ungreylisted`, `misrouted` or `lost` for a database reason; [results.md](results.md#mail) says when they are. Not beside `path`, `within`, `degraded` and `slice`."},
		{key: "path", value: oneOf(&o.Path, paths...), doc: "The path whose ops it counts."},
		{key: "target", value: percentageValue(&o.TargetPPM), required: true, doc: "The share of ops that must be good: answered, if need be after a failed attempt."},
		{key: "within", value: orNone(&o.Within, durationValue(&o.Within, time.Microsecond, 10*time.Minute)), doc: "Longest response time of a good op, from when it was intended to its end."},
		{key: "degraded", value: oneOf(&o.Degraded, DegradedBad, DegradedGood), doc: "How an op counts for which the client used its fallback."},
		{key: "slice", value: orNone(&o.Slice, durationValue(&o.Slice, results.MinSlice, results.MaxSlice)), doc: "Counts slices of time of this length instead of ops, from the beginning of the load."},
		{key: "slice_target", value: orNone(&o.SliceTargetPPM, percentageValue(&o.SliceTargetPPM)), fallback: "`none`; *required* with `slice`", doc: "The share of a slice's ops that must be good for the slice to be good."},
		{key: "window", value: integerValue(&o.WindowDays, 1, results.MaxWindowDays), doc: "Days over which the error budget is meant. The windows of burn-rate alerts are in proportion."},
	}
}

func oneOfMetrics(p *results.Metric) strictyaml.Scalar {
	return oneOf(p, results.Metrics[:]...).(strictyaml.Scalar)
}

func (b *Bounds) fields() object {
	bound := func(p *time.Duration) value {
		return orNone(p, durationValue(p, time.Microsecond, time.Minute))
	}
	return object{
		{key: "lag_p999", value: bound(&b.LagP999), doc: "Dispatch lag of the generator, 99.9th percentile: of all messages, and of those of each minute."},
		{key: "sched_p999", value: bound(&b.SchedP999), doc: "How long the generator's goroutines wait for a processor, 99.9th percentile, of each second."},
		{key: "gc_pause", value: bound(&b.GCPause), doc: "Longest pause of the generator for its garbage collector."},
		{key: "steal", value: orNone(&b.StealPPM, percentageValue(&b.StealPPM)), doc: "Share of the processors' time that the host of a virtual machine keeps back, of each minute."},
		{key: "clock_step", value: bound(&b.ClockStep), doc: "By how much the wall clock may move against the monotonic one within a second."},
		{key: "in_flight", value: integerValue(&b.InFlight, 1, 1_000_000), doc: "Messages, webmail actions and account jobs that may be under way at one time."},
		{key: "overflow", value: oneOf(&b.Overflow, OverflowWait, OverflowPutOff, OverflowDrop), doc: "What becomes of one that comes when as many are under way: `wait` holds it back and all after it, and shows the wait as queue latency; `put-off` answers a message as an MTA does whose limit of connections is reached, so that the peer comes back by its schedule, and leaves out what is no message; `drop` leaves it out. All are counted in the report."},
	}
}
