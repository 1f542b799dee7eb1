package scenarios

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// FaultSpec is a fault as the file words it. Faults run one after another, unless
// During says otherwise: a fault waits until the one before it has left the
// cluster redundant, so that At is the earliest time of its injection. Its Target
// may also be "preferred:CLIENT", the SQL node that a client asks first.
type FaultSpec = chaos.Spec

// preferred begins such a target.
const preferred = "preferred:"

// outageWord is what allow must be for an outage.
const outageWord = "outage"

func defaultFault() FaultSpec { return FaultSpec{Hold: 10 * time.Second, Repeat: 1} }

// faultFields are those of every fault.
func faultFields(f *FaultSpec, load *time.Duration) object {
	return object{
		{key: "kind", value: kindValue(&f.Kind), required: true, doc: "What is done: see [the catalogue](faults.md#the-catalogue)."},
		{key: "target", value: targetValue(&f.Target), required: true,
			doc: "What it is done to. `data2` is a node; `host:cyrus1`, `group:0`, `role:data` and `all` are those nodes of a host, a node group, a role and the cluster that the kind can be made on; `any:data` is one node of a role, drawn from the seed, each in its turn when the fault is repeated; `master` is the data node that leads the others at the time; `preferred:mta2` is the SQL node that client asks first."},
		{key: "at", value: instantValue(&f.At, load), required: true,
			doc: "Earliest time of the injection, in wall time: since the load began; with `after` since the fault before was redundant; with `during` since that fault took effect. A share is rounded down to a millisecond and written out as a time."},
		{key: "hold", value: orNone(&f.Hold, durationValue(&f.Hold, time.Millisecond, longest)),
			doc: "From when the fault has taken effect until it is taken back. That must begin within the load, for every fault."},
		{key: "after", value: wordOrNone(&f.After, chaos.AfterRedundant),
			doc: "`redundant` counts `at` from when the fault before has left the cluster redundant."},
		{key: "during", value: wordOrNone(&f.During, chaos.DuringPrevious),
			doc: "`previous` makes the fault while the one before is in effect. Neither is taken back before both are made."},
		{key: "settle", value: orNone(&f.Settle, durationValue(&f.Settle, time.Millisecond, longest)),
			doc: "How long the cluster must have been whole without a break before the injection."},
		{key: "repeat", value: integerValue(&f.Repeat, 1, chaos.MaxRepeat), doc: "How many times in all the fault is made."},
		{key: "every", value: orNone(&f.Every, durationValue(&f.Every, time.Millisecond, longest)),
			doc: "From one repetition to the next; with `after`, from redundancy to the next repetition."},
		{key: "jitter", value: orNone(&f.Jitter, durationValue(&f.Jitter, time.Millisecond, longest)),
			doc: "The most that the seed adds to each time of injection, so that repetitions meet heartbeats and checkpoints at different phases."},
		{key: "allow", value: outageValue(&f.AllowOutage),
			doc: "A fault that leaves nobody served is refused, as an outage of the harness's own making, unless this is `outage`."},
	}
}

// faultSetting is a setting that only some kinds have.
type faultSetting struct {
	key  string
	name string // as package chaos calls it
	set  func(chaos.Settings) bool
	tie  func(*chaos.Settings) value
}

// faultSettings are all settings that the catalogue's kinds have, in the order in
// which they are written.
func faultSettings() []faultSetting {
	return []faultSetting{
		{"peers", "peers", func(s chaos.Settings) bool { return len(s.Peers) > 0 },
			func(s *chaos.Settings) value { return namesValue(&s.Peers, 1, 48, "targets", targetValue) }},
		{"direction", "direction", func(s chaos.Settings) bool { return s.Direction != "" },
			func(s *chaos.Settings) value {
				return oneOf(&s.Direction, reference.Both, reference.Incoming, reference.Outgoing)
			}},
		{"clients", "clients", func(s chaos.Settings) bool { return len(s.Clients) > 0 },
			func(s *chaos.Settings) value { return namesValue(&s.Clients, 1, 64, "clients", nameValue) }},
		{"delay", "delay", func(s chaos.Settings) bool { return s.Delay != 0 },
			func(s *chaos.Settings) value { return durationValue(&s.Delay, time.Millisecond, time.Minute) }},
		{"loss", "loss_ppm", func(s chaos.Settings) bool { return s.LossPPM != 0 },
			func(s *chaos.Settings) value { return lossValue(&s.LossPPM) }},
		{"rate", "bits_per_s", func(s chaos.Settings) bool { return s.BitsPerSecond != 0 },
			func(s *chaos.Settings) value { return bitRateValue(&s.BitsPerSecond) }},
		{"cpus", "milli_cpus", func(s chaos.Settings) bool { return s.MilliCPUs != 0 },
			func(s *chaos.Settings) value { return processorsValue(&s.MilliCPUs) }},
		{"write_rate", "bytes_per_s", func(s chaos.Settings) bool { return s.BytesPerSecond != 0 },
			func(s *chaos.Settings) value { return byteRateValue(&s.BytesPerSecond) }},
		{"memory", "memory_bytes", func(s chaos.Settings) bool { return s.MemoryBytes != 0 },
			func(s *chaos.Settings) value { return heldValue(&s.MemoryBytes) }},
		{"leave", "leave_bytes", func(s chaos.Settings) bool { return s.LeaveBytes != 0 },
			func(s *chaos.Settings) value { return bytesValue(&s.LeaveBytes) }},
		{"connections", "connections", func(s chaos.Settings) bool { return s.Connections != 0 },
			func(s *chaos.Settings) value { return integerValue(&s.Connections, 1, 100_000) }},
		{"rows", "rows", func(s chaos.Settings) bool { return s.Rows != 0 },
			func(s *chaos.Settings) value { return integerValue(&s.Rows, 1, 100_000_000) }},
		{"table", "table", func(s chaos.Settings) bool { return s.Table != "" },
			func(s *chaos.Settings) value { return tableValue(&s.Table) }},
		{"phase", "phase", func(s chaos.Settings) bool { return s.Phase != 0 },
			func(s *chaos.Settings) value { return integerValue(&s.Phase, 1, 8) }},
		{"inject", "inject", func(s chaos.Settings) bool { return len(s.Inject) > 0 },
			func(s *chaos.Settings) value { return programValue(&s.Inject) }},
		{"recover", "recover", func(s chaos.Settings) bool { return len(s.Recover) > 0 },
			func(s *chaos.Settings) value { return programValue(&s.Recover) }},
		{"effect", "effect", func(s chaos.Settings) bool { return len(s.Effect) > 0 },
			func(s *chaos.Settings) value { return programValue(&s.Effect) }},
		{"redundant", "redundant", func(s chaos.Settings) bool { return len(s.Redundant) > 0 },
			func(s *chaos.Settings) value { return programValue(&s.Redundant) }},
		{"limit", "limit", func(s chaos.Settings) bool { return s.Limit != 0 },
			func(s *chaos.Settings) value { return durationValue(&s.Limit, time.Second, time.Minute) }},
	}
}

// programValue is a program with its arguments, which no shell reads.
func programValue(p *[]string) value { return namesValue(p, 1, 64, "words", wordValue) }

// wordValue is a text of which every blank counts.
func wordValue(p *string) value {
	return strictyaml.Scalar{
		What: "a word of a command: text of at most 1000 printable bytes, in quotes if it is a number",
		Parse: func(n *node) bool {
			if n.Kind != strictyaml.TextKind || len(n.Text) > 1000 || strings.ContainsFunc(n.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				return false
			}
			*p = n.Text
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	}
}

// faultKey is the key of what package chaos calls a field of a fault.
func faultKey(name string) string {
	for _, s := range faultSettings() {
		if s.name == name {
			return s.key
		}
	}
	return name
}

// settingUse is one kind's use of a setting.
type settingUse struct {
	kind    chaos.Kind
	setting chaos.Setting
}

// uses lists the kinds that have the setting.
func (s faultSetting) uses() []settingUse {
	var found []settingUse
	for _, d := range chaos.Catalogue() {
		for _, own := range d.Settings {
			if own.Name == s.name {
				found = append(found, settingUse{d.Kind, own})
			}
		}
	}
	return found
}

// doc says which kinds have the setting and what it means to them.
func (s faultSetting) doc() string {
	var meanings []string
	kinds := map[string][]string{}
	for _, u := range s.uses() {
		if kinds[u.setting.Doc] == nil {
			meanings = append(meanings, u.setting.Doc)
		}
		kinds[u.setting.Doc] = append(kinds[u.setting.Doc], "`"+string(u.kind)+"`")
	}
	for i, meaning := range meanings {
		meanings[i] = fmt.Sprintf("Of %s: %s.", strings.Join(kinds[meaning], ", "), meaning)
	}
	if s.key == "peers" {
		meanings = append(meanings, "Within brackets a target with a colon wants quotes.")
	}
	return strings.Join(meanings, " ")
}

// fallback words what it is when it is not written.
func (s faultSetting) fallback() string {
	var words []string
	for _, u := range s.uses() {
		word := u.setting.Default
		switch {
		case u.setting.Required:
			word = "*required*"
		case word == "":
			word = "none"
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", or ")
}

// faultEntry ties one fault of the list. Settings are written only where they are
// set: those of other kinds must not be.
type faultEntry struct {
	f    *FaultSpec
	load *time.Duration
}

func (e faultEntry) fields() object {
	o := faultFields(e.f, e.load)
	for _, s := range faultSettings() {
		o = append(o, field{key: s.key, value: s.tie(&e.f.Settings), fallback: s.fallback(), doc: s.doc()})
	}
	return o
}

func (e faultEntry) Rule() string                                     { return e.fields().Rule() }
func (e faultEntry) Read(d *strictyaml.Decoder, path string, n *node) { e.fields().Read(d, path, n) }

func (e faultEntry) Write() *node {
	n := e.fields().Write()
	for _, s := range faultSettings() {
		if !s.set(e.f.Settings) {
			n.Remove(s.key)
		}
	}
	return n
}

func kindNames() []string {
	var names []string
	for _, d := range chaos.Catalogue() {
		names = append(names, string(d.Kind))
	}
	return names
}

// kindOfFault is a kind of the catalogue.
type kindOfFault struct{ p *chaos.Kind }

func kindValue(p *chaos.Kind) value { return kindOfFault{p} }

func (kindOfFault) Rule() string { return "a kind of fault, such as kill" }

func (k kindOfFault) Read(d *strictyaml.Decoder, path string, n *node) {
	switch {
	case n.Kind != strictyaml.TextKind:
		d.Report(n.At, path, "must be %s, not %s", k.Rule(), n.Show())
	case !slices.Contains(kindNames(), n.Text):
		d.Report(n.At, path, "%s", strictyaml.UnknownName("kind of fault", n.Text, kindNames()))
	default:
		*k.p = chaos.Kind(n.Text)
	}
}

func (k kindOfFault) Write() *node { return strictyaml.TextNode(string(*k.p)) }

var targetForm = regexp.MustCompile(`^[a-z]([a-z0-9:-]{0,98}[a-z0-9])?$`)

// targetValue is checked against the topology when that is known.
func targetValue(p *string) value {
	return strictyaml.Text(p, "a node such as data2, or host:NAME, group:NUMBER, role:ROLE, any:ROLE, all, master or preferred:CLIENT", targetForm.MatchString)
}

// wordOrNone is the one word that a field may be, or none for "".
func wordOrNone(p *string, word string) value {
	return orNone(p, strictyaml.Scalar{
		What: word,
		Parse: func(n *node) bool {
			if n.Kind != strictyaml.TextKind || n.Text != word {
				return false
			}
			*p = word
			return true
		},
		Form: func() *node { return strictyaml.TextNode(*p) },
	})
}

func outageValue(p *bool) value {
	return orNone(p, strictyaml.Scalar{
		What: outageWord,
		Parse: func(n *node) bool {
			*p = n.Kind == strictyaml.TextKind && n.Text == outageWord
			return *p
		},
		Form: func() *node { return strictyaml.TextNode(outageWord) },
	})
}

// lossValue is a share of packets, in millionths, below all of them.
func lossValue(p *int) value {
	ppm := int64(*p)
	s := strictyaml.Percentage(&ppm, 1)
	parse := s.Parse
	s.What = "a percentage such as 2.5%, from 0.0001% to 99.9999%"
	s.Parse = func(n *node) bool {
		if !parse(n) || ppm >= million {
			return false
		}
		*p = int(ppm)
		return true
	}
	return s
}

// unit is a factor with its name, the largest first in a list.
type unit struct {
	name string
	size int64
}

// amount is a whole number of a unit.
func amount(p *int64, what string, least, most int64, units []unit) value {
	return strictyaml.Scalar{
		What: what,
		Parse: func(n *node) bool {
			if n.Kind != strictyaml.TextKind {
				return false
			}
			for _, u := range units {
				digits, ok := strings.CutSuffix(n.Text, u.name)
				if !ok || !wholeForm.MatchString(digits) {
					continue
				}
				v, err := strconv.ParseInt(digits, 10, 64)
				if err != nil || v > most/u.size || v*u.size < least {
					return false
				}
				*p = v * u.size
				return true
			}
			return false
		},
		Form: func() *node {
			for _, u := range units {
				if *p%u.size == 0 {
					return strictyaml.PlainNode(fmt.Sprintf("%d%s", *p/u.size, u.name))
				}
			}
			return strictyaml.PlainNode(fmt.Sprint(*p)) // a last unit of 1 leaves nothing over
		},
	}
}

var wholeForm = regexp.MustCompile(`^[0-9]{1,15}$`)

func bitRateValue(p *int64) value {
	return amount(p, "a rate in bit/s, kbit/s, Mbit/s or Gbit/s, such as 10Mbit/s, from 8kbit/s to 100Gbit/s", 8_000, 100_000_000_000,
		[]unit{{"Gbit/s", 1_000_000_000}, {"Mbit/s", 1_000_000}, {"kbit/s", 1000}, {"bit/s", 1}})
}

func byteRateValue(p *int64) value {
	return amount(p, "a rate in B/s, KiB/s, MiB/s or GiB/s, such as 8MiB/s, from 4KiB/s to 4GiB/s", 4<<10, 4<<30,
		[]unit{{"GiB/s", 1 << 30}, {"MiB/s", 1 << 20}, {"KiB/s", 1 << 10}, {"B/s", 1}})
}

func bytesValue(p *int64) value {
	return amount(p, "a size in B, KiB, MiB or GiB, such as 1MiB, from 1B to 1024GiB", 1, 1<<40,
		[]unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}})
}

func heldValue(p *int64) value {
	return amount(p, "a size in MiB or GiB, such as 512MiB, from 1MiB to 1024GiB", 1<<20, 1<<40, []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}})
}

var tableForm = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}\.[A-Za-z0-9_]{1,64}$`)

func tableValue(p *string) value {
	return strictyaml.Text(p, "a table as DATABASE.TABLE", tableForm.MatchString)
}

// fillFaults writes out what kinds take for settings that are not written.
func (d *decoder) fillFaults(s *Scenario) {
	for i := range s.Faults {
		f := &s.Faults[i]
		f.Settings = f.Kind.Defaults(f.Settings)
	}
}

// resolved is the fault with its targets as package chaos knows them. What it
// cannot resolve it leaves.
func (s *Scenario) resolved(f FaultSpec) FaultSpec {
	f.Target = s.preferredNode(f.Target)
	f.Settings.Peers = slices.Clone(f.Settings.Peers)
	for i, peer := range f.Settings.Peers {
		f.Settings.Peers[i] = s.preferredNode(peer)
	}
	return f
}

func (s *Scenario) preferredNode(target string) string {
	name, ok := strings.CutPrefix(target, preferred)
	if !ok {
		return target
	}
	for _, c := range s.Clients {
		if c.Name == name && len(c.Nodes) > 0 {
			return c.Nodes[0]
		}
	}
	return target
}

// checkFaultNames looks at names that only a scenario knows, or that may be
// mistyped ones.
func (d *decoder) checkFaultNames(s *Scenario, t topology.Topology) {
	var nodes, clients []string
	for _, n := range t.Nodes {
		nodes = append(nodes, n.Name)
	}
	for _, c := range s.Clients {
		clients = append(clients, c.Name)
	}
	target := func(path, name string) {
		client, isPreferred := strings.CutPrefix(name, preferred)
		switch {
		case name == "" || !d.Good(path):
		case isPreferred && !slices.Contains(clients, client):
			d.Reject(path, "%s", strictyaml.UnknownName("client", client, clients))
		case !isPreferred && !strings.Contains(name, ":") && name != "all" && name != chaos.Master && !slices.Contains(nodes, name):
			d.Reject(path, "%s", strictyaml.UnknownName("node", name, nodes))
		}
	}
	for i, f := range s.Faults {
		entry := fmt.Sprintf("faults[%d]", i)
		target(entry+".target", f.Target)
		for j, peer := range f.Settings.Peers {
			target(fmt.Sprintf("%s.peers[%d]", entry, j), peer)
		}
		for j, name := range f.Settings.Clients {
			if path := fmt.Sprintf("%s.clients[%d]", entry, j); d.Good(path) && !slices.Contains(clients, name) {
				d.Reject(path, "%s", strictyaml.UnknownName("client", name, clients))
			}
		}
	}
}

// checkFaultTimes finds the earliest course that the plan can take.
func (d *decoder) checkFaultTimes(s *Scenario) {
	if !d.Good("workload.duration", "workload.trace") {
		return
	}
	load := s.Workload.Duration
	var last, began, recovery time.Duration // last: at of the last one that counts from the load's beginning
	for i, f := range s.Faults {
		entry := fmt.Sprintf("faults[%d]", i)
		if !d.Good(entry) {
			return // the times after it depend on it
		}
		if f.At >= load {
			d.Reject(entry+".at", "must be before the load ends at %s, not %s", formatDuration(load), formatDuration(f.At))
			return
		}
		switch {
		case f.During != "":
			began += f.At
		case f.After != "":
			began = recovery + f.At
		case f.At < last:
			d.Reject(entry+".at", "must not be before the fault above it, at %s, not %s: faults run one after another",
				formatDuration(last), formatDuration(f.At))
			return
		default:
			last, began = f.At, max(recovery, f.At)
		}
		if f.During != "" {
			recovery = max(recovery, began+f.Hold)
		} else {
			recovery = began + f.Hold
		}
		if recovery >= load {
			d.Reject(entry+".hold", "must end before the load does at %s; the recovery cannot start before %s",
				formatDuration(load), formatDuration(recovery))
			return
		}
	}
}

// checkFaultPlan has chaos refuse what is out of its ranges, and what would be an
// outage of the harness's own making.
func (d *decoder) checkFaultPlan(s *Scenario) {
	if !d.Good("cluster", "topology", "external", "clients", "faults", "workload.duration", "workload.trace") {
		return
	}
	t, err := s.Topology()
	if err != nil {
		return // reported by check
	}
	var wrong chaos.SpecErrors
	if _, err := s.faultPlan(t); errors.As(err, &wrong) {
		for _, e := range wrong {
			d.Reject(fmt.Sprintf("faults[%d].%s", e.Index, faultKey(e.Field)), "%s", e.Reason)
		}
	}
}

// checkFaultLimits refuses faults that the topology's limits leave no room for,
// which the cluster would find only when they are made.
func (d *decoder) checkFaultLimits(s *Scenario) {
	t, err := s.Topology()
	if err != nil || s.external() || !d.Good("topology", "clients", "faults") {
		return // reported by others
	}
	for i, f := range s.Faults {
		f = s.resolved(f)
		f.After, f.During, f.Repeat, f.Every, f.AllowOutage = "", "", 1, 0, true // by itself
		plan, err := chaos.NewPlan(s.Seed, []chaos.Spec{f}, chaos.Ground{Topology: t, Duration: 100 * longest})
		if err != nil {
			return
		}
		for _, n := range plan.Steps[0].Nodes {
			if field, wrong := squeezed(f, n, t.Limits[n.Role]); wrong != "" {
				d.Reject(fmt.Sprintf("faults[%d].%s", i, field), "%s", wrong)
				break
			}
		}
	}
}

// squeezed says why a node's limits leave no room for a fault, and about which
// field; "" if they do.
func squeezed(f FaultSpec, n topology.Node, l topology.Limits) (field, wrong string) {
	switch {
	case f.Kind == chaos.DiskFull && l.DiskMiB == 0:
		return "kind", fmt.Sprintf("disk-full fills the disk of %s, which must have a bound: set topology.limits.data.disk", n.Name)
	case f.Settings.BytesPerSecond > 0 && l.DiskMiB > 0:
		return "write_rate", fmt.Sprintf("the disk of %s is memory, as topology.limits.data.disk bounds it: nothing can slow it down", n.Name)
	case f.Kind == chaos.NoisyNeighbour && l.MilliCPUs > 0 && f.Settings.MilliCPUs > l.MilliCPUs-leastMilliCPUs:
		return "cpus", fmt.Sprintf("must leave %s of the processors to %s, which has %s",
			strictyaml.FormatDecimal(leastMilliCPUs, 3), n.Name, strictyaml.FormatDecimal(int64(l.MilliCPUs), 3))
	}
	return "", ""
}

// leastMilliCPUs is the least that a node can be left with.
const leastMilliCPUs = 10
