package scenarios

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results"
	"gotest.tools/v3/golden"
)

// least is a scenario with only what is required.
const least = "name: t\nhypothesis: It works.\n"

// badInputs hold one mistake or more each; testdata/errors.golden holds what is
// said about them, and the first line of it is held here too.
var badInputs = []struct {
	what  string
	text  string
	set   []string
	first string // line of the first error
}{
	{what: "an empty file lacks what is required",
		text: "", first: `peak.yaml:1:1: scenario: has no name; it must be a name such as mta1: a-z, 0-9 and '-', from a letter on, at most 63 characters`},
	{what: "a list is no scenario",
		text: "- a\n- b\n", first: `peak.yaml:1:1: scenario: must be a mapping, not a list`},
	{what: "YAML that does not parse",
		text: "name: [t\n", first: `peak.yaml:1:7: sequence end token ']' not found`},
	{what: "a tab as indentation",
		text: "name: t\nworkload:\n\tspeed: 1\n", first: "peak.yaml:3:1: found character '\t' that cannot start any token"},
	{what: "an unknown field has a near name",
		text: least + "workload:\n  sped: 2\n", first: `peak.yaml:4:3: workload: no field is called "sped"; did you mean speed? There are trace, trace_sha256, profile, messages_per_day, account_jobs_per_day, from, duration, end, speed, before, retries, paths`},
	{what: "an unknown field without a near name",
		text: least + "colour: red\n", first: `peak.yaml:3:1: scenario: no field is called "colour"; there are name, hypothesis, seed, cluster, system, external, schema, topology, population, workload, clients, links, faults, fault_rates, objectives, bounds`},
	{what: "a link to a node that is no SQL node",
		text: least + "links: [{node: data1, delay: 2ms}]\n", first: `peak.yaml:3:16: links[0].node: data1 is a data node; a client asks SQL nodes: sql1, sql2`},
	{what: "two links to one node",
		text: least + "links:\n  - {node: sql1, delay: 2ms}\n  - {node: sql1, delay: 3ms}\n", first: `peak.yaml:5:12: links[1].node: "sql1" is already the name of links[0]`},
	{what: "a system that there is not",
		text: least + "system: inodb\n", first: `peak.yaml:3:9: system: must be ndb or innodb or ldap, not "inodb"`},
	{what: "a pair of three",
		text: least + "system: innodb\ntopology: {sql_hosts: [mta1, mta2, webmail1]}\n", first: `peak.yaml:4:23: topology.sql_hosts: must be 2 hosts with system: innodb, one for each server, not 3`},
	{what: "a data node of a system that has none",
		text: least + "system: innodb\nfaults: [{kind: kill, target: data1, at: 1s}]\n", first: `peak.yaml:4:31: faults[0].target: no node is called "data1"; there are sql1, sql2`},
	{what: "a directory that greylists",
		text: least + "system: ldap\nworkload: {paths: [routing, greylist]}\n", first: `peak.yaml:4:19: workload.paths: must leave greylist out with system: ldap: a directory does not greylist`},
	{what: "messages without routes",
		text: least + "workload: {paths: [preferences]}\n", first: `peak.yaml:3:19: workload.paths: must hold routing: without it nothing is asked about a message`},
	{what: "a path that is listed twice",
		text: least + "workload: {paths: [routing, routing]}\n", first: `peak.yaml:3:29: workload.paths[1]: "routing" is already the name of workload.paths[0]`},
	{what: "what the hours before leave in a greylist that nobody asks",
		text: least + "workload: {paths: [routing], before: day}\n", first: `peak.yaml:3:38: workload.before: day wants greylist among workload.paths: it is what the hours before leave there`},
	{what: "an objective of a path that is not asked",
		text: least + "workload: {paths: [routing]}\nobjectives: [{name: a, path: greylist, target: 99%}]\n", first: `peak.yaml:4:30: objectives[0].path: greylist is not asked: workload.paths leaves it out`},
	{what: "a key written twice",
		text: least + "seed: 1\nseed: 2\n", first: `peak.yaml:4:1: mapping key "seed" already defined at [3:1]`},
	{what: "a time without a unit",
		text: least + "faults:\n  - {kind: kill, target: data2, at: 60, hold: 10s}\n", first: `peak.yaml:4:37: faults[0].at: must be a time since the load began such as 60s, or a share of workload.duration such as 20%, not 60`},
	{what: "a time with a fraction",
		text: least + "workload: {duration: 1.5m}\n", first: `peak.yaml:3:22: workload.duration: must be a time with its unit (h, m, s, ms or us) from 1s to 24h, not "1.5m"`},
	{what: "a size with a decimal unit",
		text: least + "topology:\n  limits:\n    data: {memory: 2GB}\n", first: `peak.yaml:5:20: topology.limits.data.memory: must be a size in MiB or GiB from 64MiB to 1024GiB, or none, not "2GB"`},
	{what: "a number in quotes has the wrong type",
		text: least + "population: {accounts: \"70000\"}\n", first: `peak.yaml:3:24: population.accounts: must be a whole number from 1 to 10000000, not "70000"`},
	{what: "a fraction where a whole number must be",
		text: least + "workload: {speed: 1.5}\n", first: `peak.yaml:3:19: workload.speed: must be a whole number from 1 to 3600, not 1.5`},
	{what: "a number where a name must be",
		text: "name: 12\nhypothesis: true\n", first: `peak.yaml:1:7: name: must be a name such as mta1: a-z, 0-9 and '-', from a letter on, at most 63 characters, not 12`},
	{what: "a number out of range",
		text: least + "topology: {data_nodes: 49, replicas: 0}\n", first: `peak.yaml:3:24: topology.data_nodes: must be a whole number from 1 to 48, not 49`},
	{what: "a number beyond 64 bits",
		text: least + "seed: 18446744073709551616\n", first: `peak.yaml:3:7: seed: must be a whole number from 0 to 18446744073709551615, not "18446744073709551616"`},
	{what: "data nodes that do not fill node groups",
		text: least + "topology:\n  data_nodes: 3\n", first: `peak.yaml:4:15: topology.data_nodes: must be a multiple of topology.replicas: 3 data nodes cannot form node groups of 2`},
	{what: "a host listed twice",
		text: least + "topology:\n  sql_hosts: [mta1, mta2, mta1]\n", first: `peak.yaml:4:27: topology.sql_hosts[2]: "mta1" is already the name of topology.sql_hosts[0]`},
	{what: "an NDB parameter that is not one",
		text: least + "topology:\n  data_node: {data memory: 256M}\n", first: `peak.yaml:4:15: topology.data_node: "data memory" is not a name of NDB parameters`},
	{what: "an NDB parameter that the harness sets",
		text: least + "topology:\n  data_node: {NoOfReplicas: 2}\n", first: `peak.yaml:4:15: topology.data_node.NoOfReplicas: is set by the harness and must not be set here`},
	{what: "an NDB parameter in two spellings",
		text: least + "topology:\n  data_node: {Datamemory: 1G}\n", first: `peak.yaml:4:15: topology.data_node.Datamemory: must be spelled DataMemory: it is the same setting`},
	{what: "a mysqld option that the harness sets, in another spelling",
		text: least + "topology:\n  sql_server: {bind-address: 192.0.2.1}\n", first: `peak.yaml:4:16: topology.sql_server.bind-address: is set by the harness and must not be set here`},
	{what: "a setting that would break its line in an ini file",
		text: least + "topology:\n  data_node: {DataMemory: \"256M\\n[mysqld]\"}\n", first: `peak.yaml:4:27: topology.data_node.DataMemory: must be one word such as 256M, not "256M\n[mysqld]"`},
	{what: "a domain that is no DNS name",
		text: least + "population: {domain: calmail}\n", first: `peak.yaml:3:22: population.domain: must be a DNS name such as calmail.example, in lower case, not "calmail"`},
	{what: "an hour that no day has",
		text: least + "workload: {from: 24:00}\n", first: `peak.yaml:3:18: workload.from: must be before 24:00, not 24:00: only a trace file has later days`},
	{what: "a window that passes midnight",
		text: least + "workload:\n  from: 23:58\n  duration: 3m\n", first: `peak.yaml:5:13: workload.duration: must end on the same virtual day: 3m at speed 1 from 23:58 passes midnight`},
	{what: "a default duration that does not fit a higher speed is reported where the workload stands",
		text: least + "workload:\n  speed: 3600\n", first: `peak.yaml:4:3: workload.duration: must end on the same virtual day: 6m at speed 3600 from busiest-hour passes midnight`},
	{what: "a client that names an unknown node",
		text: least + "clients:\n  - name: mta1\n    kind: mta\n    nodes: [sql1, sqll2]\n", first: `peak.yaml:6:19: clients[0].nodes[1]: no SQL node is called "sqll2"; did you mean sql2? There are sql1, sql2`},
	{what: "a client that asks a data node",
		text: least + "clients: [{name: mta1, kind: mta, nodes: [data1]}]\n", first: `peak.yaml:3:43: clients[0].nodes[0]: data1 is a data node; a client asks SQL nodes: sql1, sql2`},
	{what: "a client that names a node twice",
		text: least + "clients: [{name: mta1, kind: mta, nodes: [sql1, sql1]}]\n", first: `peak.yaml:3:49: clients[0].nodes[1]: "sql1" is already the name of clients[0].nodes[0]`},
	{what: "two clients of one name",
		text: least + "clients:\n  - {name: a, kind: mta}\n  - {name: a, kind: webmail}\n", first: `peak.yaml:5:12: clients[1].name: "a" is already the name of clients[0]`},
	{what: "clients without an MTA",
		text: least + "clients:\n  - {name: a, kind: webmail}\n", first: `peak.yaml:4:3: clients: must hold at least one of kind mta, or no message is ever asked about`},
	{what: "no clients at all",
		text: least + "clients: []\n", first: `peak.yaml:3:10: clients: must be a list of 1 to 64 clients, not of 0`},
	{what: "a client without a kind",
		text: least + "clients:\n  - name: a\n", first: `peak.yaml:4:5: clients[0]: has no kind; it must be mta or webmail`},
	{what: "a fault on a node that is not in the topology",
		text: least + "faults:\n  - kind: kill\n    target: data3\n    at: 10%\n", first: `peak.yaml:5:13: faults[0].target: no node is called "data3"; did you mean data1? There are mgm1, data1, data2, sql1, sql2`},
	{what: "a fault on a role that the kind is not for",
		text: least + "faults: [{kind: crash, target: sql1, at: 1s}]\n", first: `peak.yaml:3:32: faults[0].target: sql1 is a sql node; crash can be made on ["data"] nodes`},
	{what: "an unknown fault",
		text: least + "faults: [{kind: kil, target: sql1, at: 1s}]\n", first: `peak.yaml:3:17: faults[0].kind: no kind of fault is called "kil"; did you mean kill? There are ` + strings.Join(kindNames()[:20], ", ") + ` and 4 more`},
	{what: "a target that is none",
		text: least + "faults: [{kind: kill, target: rack:1, at: 1s}]\n", first: `peak.yaml:3:31: faults[0].target: "rack:1" is no target: write the name of a node, host:NAME, group:NUMBER, role:NAME or all`},
	{what: "the SQL node that nobody prefers",
		text: least + "faults: [{kind: kill, target: preferred:mta9, at: 1s}]\n", first: `peak.yaml:3:31: faults[0].target: no client is called "mta9"; did you mean mta1? There are mta1, webmail1`},
	{what: "a node that the topology cannot spare",
		text: least + "faults:\n  - kind: kill\n    target: group:0\n    at: 1s\n", first: `peak.yaml:5:13: faults[0].target: kill of group:0 would be an outage of the harness's own making: node group 0 has no survivor: the whole cluster shuts down; if that is meant, allow an outage`},
	{what: "a data node while no arbitrator is there",
		text: least + "faults:\n  - {kind: kill, target: mgm1, at: 1s}\n  - {kind: kill, target: data1, at: 1s, during: previous}\n", first: `peak.yaml:5:26: faults[1].target: kill of data1 during the fault before would be an outage of the harness's own making: half of the data nodes are left and no management node can arbitrate: they shut down too; if that is meant, allow an outage`},
	{what: "the last SQL node that a client knows",
		text: least + "clients: [{name: mta1, kind: mta, nodes: [sql2]}]\nfaults: [{kind: kill, target: sql2, at: 1s}]\n", first: `peak.yaml:4:31: faults[0].target: kill of sql2 would be an outage of the harness's own making: client mta1 has no SQL node left; if that is meant, allow an outage`},
	{what: "a setting that the kind does not have",
		text: least + "faults: [{kind: kill, target: sql1, at: 1s, rate: 10Mbit/s}]\n", first: `peak.yaml:3:51: faults[0].rate: is set, but kill has no settings`},
	{what: "a setting that the kind must have",
		text: least + "faults:\n  - kind: bandwidth\n    target: sql1\n    at: 1s\n", first: `peak.yaml:4:5: faults[0].rate: is not set, but bandwidth needs it: the most that each host sends, 8000 to 100000000000 bit/s`},
	{what: "a rate without its unit",
		text: least + "faults: [{kind: bandwidth, target: sql1, at: 1s, rate: 10M}]\n", first: `peak.yaml:3:56: faults[0].rate: must be a rate in bit/s, kbit/s, Mbit/s or Gbit/s, such as 10Mbit/s, from 8kbit/s to 100Gbit/s, not "10M"`},
	{what: "a loss of everything",
		text: least + "faults: [{kind: loss, target: sql1, at: 1s, loss: 100%}]\n", first: `peak.yaml:3:51: faults[0].loss: must be a percentage such as 2.5%, from 0.0001% to 99.9999%, not "100%"`},
	{what: "a delay for a client that is not there",
		text: least + "faults: [{kind: latency, target: sql1, at: 1s, delay: 5ms, clients: [mta1, mta2]}]\n", first: `peak.yaml:3:76: faults[0].clients[1]: no client is called "mta2"; did you mean mta1? There are mta1, webmail1`},
	{what: "a partition from nobody",
		text: least + "faults: [{kind: partition, target: data1, at: 1s, peers: [data1]}]\n", first: `peak.yaml:3:58: faults[0].peers: host cyrus1 has no other host to be cut off from`},
	{what: "a condition for the first fault",
		text: least + "faults: [{kind: kill, target: data1, at: 1s, after: redundant}]\n", first: `peak.yaml:3:53: faults[0].after: is "redundant", but there is no fault before the first`},
	{what: "repetitions that overlap",
		text: least + "faults: [{kind: kill, target: data1, at: 1s, hold: 5s, repeat: 2, every: 5s}]\n", first: `peak.yaml:3:74: faults[0].every: is 5s: the fault would come again before its hold of 5s is over`},
	{what: "a permission that there is not",
		text: least + "faults: [{kind: kill, target: data1, at: 1s, allow: everything}]\n", first: `peak.yaml:3:53: faults[0].allow: must be outage, or none, not "everything"`},
	{what: "a full disk that has no bound",
		text: least + "faults: [{kind: disk-full, target: data1, at: 1s}]\n", first: `peak.yaml:3:17: faults[0].kind: disk-full fills the disk of data1, which must have a bound: set topology.limits.data.disk`},
	{what: "writes to a disk that is memory",
		text: least + "topology: {limits: {data: {disk: 1GiB}}}\nfaults: [{kind: slow-disk, target: data1, at: 1s, write_rate: 8MiB/s}]\n", first: `peak.yaml:4:63: faults[0].write_rate: the disk of data1 is memory, as topology.limits.data.disk bounds it: nothing can slow it down`},
	{what: "a neighbour that leaves nothing",
		text: least + "faults: [{kind: noisy-neighbour, target: data1, at: 1s, cpus: 1}]\n", first: `peak.yaml:3:63: faults[0].cpus: must leave 0.01 of the processors to data1, which has 1`},
	{what: "a fault after the load",
		text: least + "workload: {duration: 90s}\nfaults: [{kind: kill, target: sql1, at: 120s}]\n", first: `peak.yaml:4:41: faults[0].at: must be before the load ends at 1m30s, not 2m`},
	{what: "a share over 100 %",
		text: least + "faults: [{kind: kill, target: sql1, at: 101%}]\n", first: `peak.yaml:3:41: faults[0].at: must be a time since the load began such as 60s, or a share of workload.duration such as 20%, not "101%"`},
	{what: "faults out of order",
		text: least + "faults:\n  - {kind: kill, target: sql1, at: 60s}\n  - {kind: kill, target: data1, at: 30s}\n", first: `peak.yaml:5:37: faults[1].at: must not be before the fault above it, at 1m, not 30s: faults run one after another`},
	{what: "a fault that waits for one before it until the load is over",
		text: least + "workload: {duration: 60s}\nfaults:\n  - {kind: kill, target: sql1, at: 10s, hold: 30s}\n  - {kind: kill, target: data1, at: 20s, hold: 20s}\n", first: `peak.yaml:6:48: faults[1].hold: must end before the load does at 1m; the recovery cannot start before 1m`},
	{what: "an objective on an unknown path",
		text: least + "objectives:\n  - {name: a, path: routes, target: 99%}\n", first: `peak.yaml:4:21: objectives[0].path: must be all or routing or greylist or preferences or accounts, not "routes"`},
	{what: "a percentage over 100",
		text: least + "objectives:\n  - {name: a, target: 100.1%}\n", first: `peak.yaml:4:23: objectives[0].target: must be a percentage such as 99.9%, from 0.0001% to 100%, not "100.1%"`},
	{what: "a percentage without its sign",
		text: least + "objectives:\n  - {name: a, target: 99.9}\n", first: `peak.yaml:4:23: objectives[0].target: must be a percentage such as 99.9%, from 0.0001% to 100%, not 99.9`},
	{what: "a bound on stolen time that is no percentage",
		text: least + "bounds: {steal: 50ms, clock_step: 0s}\n", first: `peak.yaml:3:17: bounds.steal: must be a percentage such as 99.9%, from 0.0001% to 100%, or none, not "50ms"`},
	{what: "two objectives of one name",
		text: least + "objectives:\n  - {name: a, target: 99%}\n  - {name: a, target: 98%}\n", first: `peak.yaml:5:12: objectives[1].name: "a" is already the name of objectives[0]`},
	{what: "a key without a value",
		text: least + "faults:\nseed: 2\n", first: `peak.yaml:3:1: faults: must be a list of 0 to 100 faults, not empty (leave the key out for its default)`},
	{what: "an anchor",
		text: least + "seed: &s 1\n", first: `peak.yaml:3:7: anchors, aliases and merge keys are not allowed in a scenario; write the value out`},
	{what: "an alias",
		text: least + "seed: *s\n", first: `peak.yaml:3:7: anchors, aliases and merge keys are not allowed in a scenario; write the value out`},
	{what: "a tag",
		text: least + "seed: !!int 1\n", first: `peak.yaml:3:7: tags and directives are not allowed in a scenario`},
	{what: "a key that is a number",
		text: least + "1: 2\n", first: `peak.yaml:3:1: a key must be a plain name`},
	{what: "two documents",
		text: least + "---\n" + least, first: `peak.yaml:3:1: holds more than one YAML document; keep one scenario a file`},
	{what: "a list in lists in lists",
		text: least + "faults: " + strings.Repeat("[", 100_000), first: `peak.yaml:3:25: is nested too deeply`},
	{what: "dashes after dashes",
		text: least + "faults:\n" + strings.Repeat("- ", 100_000), first: `peak.yaml:4:17: is nested too deeply`},
	{what: "a stairway of keys",
		text: stairs(150), first: `peak.yaml:101:101: is indented by more than 100 columns`},
	{what: "a file that is too large",
		text: least + strings.Repeat("#", 1<<20), first: `peak.yaml: is larger than 1 MiB: this is not a scenario file`},
	{what: "more keys than any scenario has",
		text: least + strings.Repeat("a: 1\n", 100_000), first: `peak.yaml:6667:4: is more than a scenario can hold`},
	{what: "text that is not UTF-8",
		text: "name: t\nhypothesis: caf\xe9\n", first: `peak.yaml:2:16: is not UTF-8 text`},
	{what: "an escape sequence for the terminal",
		text: "name: t\nhypothesis: a\x1b[2J\n", first: `peak.yaml:2:14: has a control character, U+001B`},
	{what: "an escape sequence in YAML's own disguise",
		text: "name: t\nhypothesis: \"a\\e[2J\"\n", first: `peak.yaml:2:13: hypothesis: must be text of 1 to 500 printable characters, not "a\x1b[2J"`},
	{what: "Windows line ends and letters beyond ASCII keep lines and columns",
		text: "# é\r\nname: t\r\nhypothesis: é\r\nworkload: {profile: é, speed: 0}\r\n", first: `peak.yaml:4:21: workload.profile: must be berkeley-2008 or modern, or the path of a file such as ./mine.yaml, not "é"`},
	{what: "a long line is cut around the mistake",
		text: least + "bounds: {" + strings.Repeat(" ", 100) + "lag_p999: 50ms, in_flight: 0, " + strings.Repeat(" ", 100) + "}\n", first: `peak.yaml:3:137: bounds.in_flight: must be a whole number from 1 to 1000000, not 0`},
	{what: "an override does not hide that the file is no mapping",
		text: "- a\n", set: []string{"seed=1"}, first: `peak.yaml:1:1: scenario: must be a mapping, not a list`},
	{what: "all mistakes are reported together, in the order of the file",
		text:  least + "bounds: {in_flight: 0}\nfaults: [{kind: kill, target: sql9, at: 1s}]\nworkload: {speed: 0}\n",
		first: `peak.yaml:3:21: bounds.in_flight: must be a whole number from 1 to 1000000, not 0`},
	{what: "an override with a wrong value names itself",
		text: least, set: []string{"workload.speed=fast"}, first: `--set workload.speed=fast: workload.speed: must be a whole number from 1 to 3600, not "fast"`},
	{what: "an override of an unknown field",
		text: least, set: []string{"workload.sped=2"}, first: `--set workload.sped=2: workload: no field is called "sped"; did you mean speed? There are trace, trace_sha256, profile, messages_per_day, account_jobs_per_day, from, duration, end, speed, before, retries, paths`},
	{what: "predicted retries without the hours before",
		text: least + "workload: {retries: predicted}\n", first: `peak.yaml:3:21: workload.retries: predicted wants workload.before to be day: what the hours before leave decides who is put off`},
	{what: "a metric that is none",
		text: least + "objectives: [{name: a, target: 99%, metric: bounced}]\n", first: `peak.yaml:3:45: objectives[0].metric: must be deferred or ungreylisted or misrouted or lost, or none, not "bounced"`},
	{what: "an objective on a path that there is not",
		text: least + "objectives: [{name: a, target: 99%, path: smtp}]\n", first: `peak.yaml:3:43: objectives[0].path: must be all or routing or greylist or preferences or accounts, not "smtp"`},
	{what: "messages have no path",
		text: least + "objectives: [{name: a, target: 99%, metric: lost, path: routing}]\n", first: `peak.yaml:3:57: objectives[0].path: must be left out beside metric, which counts messages`},
	{what: "a slice without a target",
		text: least + "objectives:\n  - {name: a, target: 99%, slice: 1s}\n", first: `peak.yaml:4:5: objectives[0]: has a slice and no slice_target; it must be a percentage such as 99%`},
	{what: "a slice's target without a slice",
		text: least + "objectives: [{name: a, target: 99%, slice_target: 99%}]\n", first: `peak.yaml:3:51: objectives[0].slice_target: wants slice, whose ops it is of`},
	{what: "a slice shorter than outages are told apart",
		text: least + "objectives: [{name: a, target: 99%, slice: 50ms, slice_target: 99%}]\n", first: `peak.yaml:3:44: objectives[0].slice: must be a time with its unit (h, m, s, ms or us) from 100ms to 1h, or none, not "50ms"`},
	{what: "the rate of a fault that is not in the plan",
		text: least + "faults: [{kind: kill, target: sql1, at: 1s}]\nfault_rates: {kil: 2}\n", first: `peak.yaml:4:15: fault_rates.kil: no fault of the plan is called "kil"; did you mean kill? There are kill sql1, kill`},
	{what: "the rate of a fault without a plan",
		text: least + "fault_rates: {kill: 2}\n", first: `peak.yaml:3:15: fault_rates.kill: there are no faults in the plan`},
	{what: "a rate that is no number",
		text: least + "faults: [{kind: kill, target: sql1, at: 1s}]\nfault_rates: {kill sql1: often}\n", first: `peak.yaml:4:26: fault_rates.kill sql1: must be a number from 0 to 100000, with at most three decimals, not "often"`},
	{what: "an override past the end of a list",
		text: least + "faults: [{kind: kill, target: sql1, at: 1s}]\n", set: []string{"faults[1].at=30s"}, first: `--set faults[1].at=30s: there is no faults[1] in the file, the last is faults[0]`},
	{what: "an override of an entry that the file leaves to the default",
		text: least, set: []string{"clients[0].attempts=2"}, first: `--set clients[0].attempts=2: the file lists no clients; set the whole list, clients=[…]`},
	{what: "an override into a scalar",
		text: least, set: []string{"name.x=1"}, first: `--set name.x=1: name is not a mapping in the file, so that it has no x`},
	{what: "an override that contradicts the file",
		text: least + "faults: [{kind: kill, target: sql1, at: 120s}]\n", set: []string{"workload.duration=60s"}, first: `peak.yaml:3:41: faults[0].at: must be before the load ends at 1m, not 2m`},
	{what: "an override with an anchor",
		text: least, set: []string{"seed=&a 1"}, first: `--set seed=&a 1: anchors, aliases and merge keys are not allowed in a scenario; write the value out`},
	{what: "an external cluster that is not described",
		text: least + "cluster: external\n", first: `peak.yaml:3:10: cluster: external wants the section external, which says where it is`},
	{what: "a description of a cluster that the harness does not ask for",
		text: strings.Replace(staging, "cluster: external", "cluster: containers", 1), first: `peak.yaml:5:3: external: must not be written unless cluster is external`},
	{what: "limits for what the harness does not run",
		text: staging + "topology:\n  limits:\n    data: {cpus: 1}\n", first: `peak.yaml:10:3: topology: must not be written with cluster: external: what runs there is not the harness's to lay out, limit or configure; its nodes stand in external`},
	{what: "a cluster of a third kind",
		text: least + "cluster: extern\n", first: `peak.yaml:3:10: cluster: must be containers or external, not "extern"`},
	{what: "an external cluster without its management server",
		text: strings.Replace(staging, "  management: {id: 1, host: admin1, address: mgm.example.org:1186}\n", "", 1), first: `peak.yaml:5:3: external: has no management; it must be a mapping`},
	{what: "an address without a port",
		text: strings.Replace(staging, ".org:1186", ".org", 1), first: `peak.yaml:6:46: external.management.address: must be an address with its port, such as mgm.example.org:1186, 10.0.0.1:3306 or [fd00::1]:3306, not "mgm.example.org"`},
	{what: "an id that no data node has",
		text: strings.Replace(staging, "id: 3", "id: 145", 1), first: `peak.yaml:7:44: external.data_nodes[1].id: must be a node id from 1 to 144, not 145`},
	{what: "an id of two nodes",
		text: strings.Replace(staging, "id: 10", "id: 2", 1), first: `peak.yaml:8:14: external.sql[0].id: 2 is already the id of external.data_nodes[0]`},
	{what: "data nodes that do not fill their groups",
		text: strings.Replace(staging, "cyrus2}", "cyrus2, group: 1}", 1), first: `peak.yaml:7:16: external.data_nodes[0]: node group 0 has 1 data nodes, and external.replicas is 2: they must be as many`},
	{what: "two SQL nodes of one address",
		text: strings.Replace(staging, "sql: [", "sql: [{id: 11, host: mta2, address: 10.0.0.1:3306}, ", 1), first: `peak.yaml:8:85: external.sql[1].address: "10.0.0.1:3306" is already the name of external.sql[0]`},
	{what: "a database that is the guard's",
		text: staging + "  database: mailbench_guard\n", first: `peak.yaml:9:13: external.database: must be the name of a database: a-z, 0-9 and '_', from a letter on, at most 64 characters, and not one of the server's, not "mailbench_guard"`},
	{what: "a password in the file",
		text: staging + "  password: secret\n", first: `peak.yaml:9:3: external: no field is called "password"; there are name, management, replicas, data_nodes, sql, database, user, password_file, tls`},
	{what: "another system on a cluster that somebody else runs",
		text: staging + "system: innodb\n", first: `peak.yaml:9:9: system: must be ndb with cluster: external`},
	{what: "a way to protect connections that is none",
		text: staging + "  tls: maybe\n", first: `peak.yaml:9:8: external.tls: must be none or required or verified, not "maybe"`},
	{what: "a client of an external cluster that asks an unknown node",
		text: staging + "clients: [{name: mta1, kind: mta, nodes: [sql2]}]\n", first: `peak.yaml:9:43: clients[0].nodes[0]: no SQL node is called "sql2"; did you mean sql1? There are sql1`},
	{what: "a program that depends on the working directory",
		text: least + "faults:\n  - {kind: command, target: sql1, at: 1s, inject: [./cut], recover: [mend]}\n", first: `peak.yaml:4:51: faults[0].inject: is out of range, must be 1 to 64 words, the first an absolute path or a program of PATH`},
	{what: "a number among a program's words",
		text: least + "faults:\n  - {kind: command, target: sql1, at: 1s, inject: [cut, 7], recover: [mend]}\n", first: `peak.yaml:4:57: faults[0].inject[1]: must be a word of a command: text of at most 1000 printable bytes, in quotes if it is a number, not 7`},
	{what: "a fault that nothing takes back",
		text: least + "faults:\n  - {kind: command, target: sql1, at: 1s, inject: [cut]}\n", first: `peak.yaml:4:5: faults[0].recover: is not set, but command needs it: the one that takes it back, and does no harm where there is nothing to take back, 1 to 64 words, the first an absolute path or a program of PATH`},
}

func stairs(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestBadInputSaysWhatWhereAndWhatElse(t *testing.T) {
	var all strings.Builder
	for _, in := range badInputs {
		t.Run(in.what, func(t *testing.T) {
			_, err := Parse("peak.yaml", []byte(in.text), overrides(in.set...)...)
			if err == nil {
				t.Fatal("accepted")
			}
			var input *InputError
			if !errors.As(err, &input) {
				t.Fatalf("error is a %T, want an *InputError", err)
			}
			if first, _, _ := strings.Cut(err.Error(), "\n"); first != in.first {
				t.Errorf("first line\n got: %s\nwant: %s", first, in.first)
			}
			fmt.Fprintf(&all, "# %s\n%v\n\n", in.what, err)
		})
	}
	golden.AssertBytes(t, []byte(all.String()), "errors.golden")
}

// overrides makes overrides without ParseOverride's own checks.
func overrides(settings ...string) []Override {
	var all []Override
	for _, s := range settings {
		path, value, _ := strings.Cut(s, "=")
		all = append(all, Override{Path: path, Value: value})
	}
	return all
}

func TestManyMistakesAreCountedNotListed(t *testing.T) {
	text := least + "faults:\n" + strings.Repeat("  - {}\n", 50)
	_, err := Parse("peak.yaml", []byte(text))
	if err == nil || !strings.HasSuffix(err.Error(), "peak.yaml: 130 more errors") {
		t.Errorf("50 faults that lack 3 fields each: got %v", err)
	}
}

func parse(t *testing.T, text string, settings ...string) *Scenario {
	t.Helper()
	s, err := Parse("t.yaml", []byte(text), overrides(settings...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaultsAreWrittenOut(t *testing.T) {
	golden.AssertBytes(t, parse(t, least).YAML(), "defaults.golden.yaml")
}

var goodInputs = map[string]string{
	"only what is required":                 least,
	"another system, and some of the paths": least + "system: innodb\nworkload: {paths: [routing, preferences]}\n",
	"none wherever it may stand": least + `
topology: {limits: {data: {cpus: none, memory: none}}}
clients: [{name: a, kind: mta, backoff: none, read_timeout: none}]
objectives: [{name: a, target: 100%, within: none, degraded: good}]
bounds: {lag_p999: none, sched_p999: none, gc_pause: none, steal: none, clock_step: none}
`,
	"texts that need quotes": `
name: t
hypothesis: >
  Say "no": it's 99 %, isn't it? # \ [a] {b}

  äöü
objectives: [{name: "true", target: 1%}, {name: "12", target: 0.0001%}, {name: "a: b #c", target: 99.9999%}, {name: "- x", target: 50.05%}]
`,
	"settings of other programs": least + `
topology:
  data_node: {DataMemory: 1G, MaxNoOfTables: 512, "Null": "on"}
  sql_server: {ndb-wait-setup: 30, on: off, innodb_buffer_pool_size: 32M}
`,
	"many units": least + `
topology: {limits: {sql: {cpus: 0.125, memory: 1536MiB}}}
workload: {from: 09:08:07, duration: 1h1m1s, speed: 2}
clients: [{name: a, kind: mta, connect_timeout: 1s500ms, backoff: 1500us}]
faults: [{kind: kill, target: sql1, at: 33.3333%, hold: none}, {kind: kill, target: sql1, at: 50%, hold: 1ms}]
`,
	"every field of a fault, and every setting": least + `
topology: {data_nodes: 4, limits: {data: {disk: 3GiB}}}
workload: {duration: 6h}
clients: [{name: mta1, kind: mta, nodes: [sql1, sql2]}, {name: mta2, kind: mta, nodes: [sql2, sql1]}]
faults:
  - {kind: kill, target: mgm1, at: 1m}
  - {kind: kill, target: data1, at: 5s, hold: 20s, during: previous, allow: outage}
  - {kind: partition, target: host:cyrus1, peers: ["role:data", "preferred:mta2"], direction: in, at: 5m, hold: 30s, allow: outage}
  - {kind: latency, target: "preferred:mta2", at: 10m, delay: 20ms, clients: [mta2]}
  - {kind: loss, target: any:sql, at: 15m, loss: 2.5%, after: redundant, settle: 20s, repeat: 3, every: 1m, jitter: 1500ms}
  - {kind: bandwidth, target: host:webmail1, at: 1h, rate: 10Mbit/s}
  - {kind: slow-cpu, target: master, at: 2h, cpus: 0.25, hold: 5s}
  - {kind: disk-full, target: data4, at: 2h2m, leave: 100KiB}
  - {kind: connection-storm, target: sql1, at: 2h3m, connections: 500}
  - {kind: open-transaction, target: sql1, at: 2h4m, rows: 10, table: mail.preferences}
  - {kind: kill-in-restart, target: data2, at: 2h5m, phase: 5}
  - {kind: rolling-restart, target: all, at: 3h}
`,
	"writes to the machine's own disk": least + `
faults: [{kind: slow-disk, target: data2, at: 1m, write_rate: 1537KiB/s}, {kind: noisy-neighbour, target: data2, at: 2m, cpus: 0.9, write_rate: 5000B/s}]
`,
	"a large cluster": least + `
topology: {data_nodes: 48, replicas: 4, sql_hosts: [mta1, mta2, webmail1, webmail2]}
`,
}

// TestEverySettingOfTheCatalogueCanBeWritten holds the table of this package
// against that of package chaos.
func TestEverySettingOfTheCatalogueCanBeWritten(t *testing.T) {
	for _, d := range chaos.Catalogue() {
		for _, own := range d.Settings {
			if !slices.ContainsFunc(faultSettings(), func(s faultSetting) bool { return s.name == own.Name }) {
				t.Errorf("setting %s of %s has no key", own.Name, d.Kind)
			}
		}
	}
	for _, s := range faultSettings() {
		if len(s.uses()) == 0 {
			t.Errorf("key %s is a setting of no kind", s.key)
		}
	}
}

func TestResolvedFileParsesToTheSameScenario(t *testing.T) {
	for _, name := range builtinNames() {
		t.Run("built-in "+name, func(t *testing.T) {
			f, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, parse(t, string(f.Data)))
		})
	}
	for what, text := range goodInputs {
		t.Run(what, func(t *testing.T) { roundTrip(t, parse(t, text)) })
	}
}

func roundTrip(t *testing.T, s *Scenario) {
	t.Helper()
	written := s.YAML()
	again, err := Parse("again.yaml", written)
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, written)
	}
	if !reflect.DeepEqual(s, again) {
		t.Errorf("got  %+v\nwant %+v\nthrough:\n%s", again, s, written)
	}
	if string(again.YAML()) != string(written) {
		t.Errorf("written twice, differs:\n%s\n%s", written, again.YAML())
	}
}

func TestValuesMeanWhatTheySay(t *testing.T) {
	s := parse(t, goodInputs["many units"])
	want := *defaults()
	want.Name, want.Hypothesis = "t", "It works."
	want.TopologySpec.Limits.SQL = topology.Limits{MilliCPUs: 125, MemoryMiB: 1536}
	want.Workload.From = Start{TimeOfDay: 9*time.Hour + 8*time.Minute + 7*time.Second}
	want.Workload.Duration, want.Workload.Speed = time.Hour+time.Minute+time.Second, 2
	want.Clients = []ClientSpec{{
		Name: "a", Kind: MTA, Nodes: []string{"sql1", "sql2"}, Connections: PerMessage,
		ConnectTimeout: 1500 * time.Millisecond, ReadTimeout: 10 * time.Second,
		Attempts: 3, Backoff: 1500 * time.Microsecond, GreylistFallback: Defer,
	}}
	want.Faults = []FaultSpec{ // of 3661 s
		{Kind: chaos.Kill, Target: "sql1", At: 1220332 * time.Millisecond, Repeat: 1},
		{Kind: chaos.Kill, Target: "sql1", At: 1830500 * time.Millisecond, Hold: time.Millisecond, Repeat: 1},
	}
	if !reflect.DeepEqual(*s, want) {
		t.Errorf("got  %+v\nwant %+v", *s, want)
	}
}

func TestClientsDefaultToTheHostsAndPreferTheirOwnNode(t *testing.T) {
	s := parse(t, least+"topology: {sql_hosts: [mta1, mta2, webmail1]}\n")
	var got []string
	for _, c := range s.Clients {
		got = append(got, fmt.Sprint(c.Name, " ", c.Kind, " ", c.Connections, " ", c.Nodes))
	}
	want := []string{
		"mta1 mta per-message [sql1 sql2 sql3]",
		"mta2 mta per-message [sql2 sql1 sql3]",
		"webmail1 webmail persistent [sql3 sql1 sql2]",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTopologyCarriesLimitsAndParameters(t *testing.T) {
	got, err := parse(t, goodInputs["settings of other programs"]).Topology()
	if err != nil {
		t.Fatal(err)
	}
	want, err := topology.New(topology.Shape{DataNodes: 2, Replicas: 2, SQLHosts: []string{"mta1", "webmail1"}})
	if err != nil {
		t.Fatal(err)
	}
	want.Limits = map[topology.Role]topology.Limits{
		topology.Data:       {MilliCPUs: 1000, MemoryMiB: 2048},
		topology.SQL:        {MilliCPUs: 1000, MemoryMiB: 1536},
		topology.Management: {MilliCPUs: 500, MemoryMiB: 256},
	}
	want.DataNode = map[string]string{"DataMemory": "1G", "MaxNoOfTables": "512", "Null": "on"}
	want.SQLServer = map[string]string{"ndb-wait-setup": "30", "on": "off", "innodb_buffer_pool_size": "32M"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestFaultRates(t *testing.T) {
	s := parse(t, least+`
faults:
  - {kind: kill, target: sql1, at: 1s}
  - {kind: kill, target: "any:data", at: 1s}
  - {kind: pause, target: sql1, at: 1s}
fault_rates: {kill: 2, "kill any:data": 0.25}
`)
	if again := parse(t, string(s.YAML())); !reflect.DeepEqual(again.FaultRates, s.FaultRates) {
		t.Errorf("written and read again: %v, want %v", again.FaultRates, s.FaultRates)
	}
	for entry, want := range []int64{2000, 250, -1} {
		got := int64(-1)
		if rate := s.faultRate(entry); rate != nil {
			got = *rate
		}
		if got != want {
			t.Errorf("fault %d is expected %d thousandths of a time, want %d", entry, got, want)
		}
	}
}

func TestObjectivesAreInTheUnitsOfResults(t *testing.T) {
	s := parse(t, least+`
objectives:
  - {name: answers, target: 99.9%}
  - {name: is quick, path: greylist, target: 99%, within: 500ms, degraded: good}
  - {name: minutes, target: 99%, slice: 1m, slice_target: 99.5%, window: 7}
  - {name: on time, metric: deferred, target: 99.9%}
`)
	want := []results.Objective{
		{Name: "answers", Path: "", TargetPPM: 999_000, Degraded: "bad", WindowDays: 30},
		{Name: "is quick", Path: "greylist", TargetPPM: 990_000, LatencyUS: 500_000, Degraded: "good", WindowDays: 30},
		{Name: "minutes", TargetPPM: 990_000, Degraded: "bad", SliceUS: 60_000_000, SliceTargetPPM: 995_000, WindowDays: 7},
		{Name: "on time", Metric: results.MetricDeferred, TargetPPM: 999_000, Degraded: "bad", WindowDays: 30},
	}
	if got := s.Objectives(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, in := range badInputs {
		if len(in.text) < 10_000 {
			f.Add(in.text, strings.Join(in.set, ""))
		}
	}
	for _, text := range goodInputs {
		f.Add(text, "workload.duration=90s")
	}
	for _, name := range builtinNames() {
		if file, err := Load(name); err == nil {
			f.Add(string(file.Data), "faults[0].at=10%")
		}
	}
	f.Fuzz(func(t *testing.T, text, setting string) {
		var set []Override
		if setting != "" {
			o, err := ParseOverride(setting)
			if err != nil {
				return
			}
			set = append(set, o)
		}
		s, err := Parse("fuzz.yaml", []byte(text), set...)
		if err != nil {
			var input *InputError
			if !errors.As(err, &input) {
				t.Fatalf("error is a %T: %v", err, err)
			}
			if len(err.Error()) > 50_000 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
			return
		}
		if _, err := s.Topology(); err != nil {
			t.Error(err)
		}
		roundTrip(t, s)
	})
}
