package chaos

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

const (
	// MaxRepeat is the most often that one spec may repeat its fault.
	MaxRepeat = 1000
	// MaxTogether is how many faults may be in effect at one time.
	MaxTogether = 3
	// MaxSteps is how many faults a plan may have.
	MaxSteps = 10_000
)

// maxDuration keeps sums of times in a plan far from overflow.
const maxDuration = 366 * 24 * time.Hour

const (
	// AfterRedundant is the value of Spec.After that makes times count from the
	// fault before.
	AfterRedundant = "redundant"
	// DuringPrevious is the value of Spec.During that has a fault made while the
	// one before it is in effect.
	DuringPrevious = "previous"
	// Master is the target that is the data node which leads the others when the
	// fault is made, and the value of Planned.Dynamic for it.
	Master = "master"
	// anyOf begins a target that is one node of a role, drawn from the seed.
	anyOf = "any:"
)

// Spec is a fault as a scenario asks for it. Times are wall time and cut to
// whole microseconds.
type Spec struct {
	Kind Kind
	// Target is the name of a node, or host:NAME, group:NUMBER, role:NAME or all
	// for the nodes of these that the kind can be made on; any:ROLE for one node
	// of a role, drawn from the seed, where each has its turn before one comes
	// again; or Master.
	Target   string
	Settings Settings

	// At is when to inject: since the run's anchor or, with After, since the
	// fault before it in the plan became redundant or, with During, since that
	// fault's effect.
	At time.Duration
	// Hold is how long the fault stays in effect before it is taken back.
	Hold time.Duration
	// After is "" or AfterRedundant.
	After string
	// During is "" or DuringPrevious: the fault is made each time that the spec
	// before it is, while that one is in effect. Neither is taken back before both
	// are made. It cannot be repeated by itself.
	During string
	// Settle is how long the cluster must have been whole without a break before
	// the injection.
	Settle time.Duration
	// Repeat is how many times in all the fault is made, 0 means once.
	Repeat int
	// Every is the time from one repetition to the next; with After, from
	// redundancy to the next repetition.
	Every time.Duration
	// Jitter is the most that the seed adds to each time of injection.
	Jitter time.Duration
	// AllowOutage says that the fault may take all service away.
	AllowOutage bool
}

// Planned is one fault of a plan.
type Planned struct {
	ID   string // unique in its plan, such as "f1-kill-data1"
	Spec int    // index of the spec that asked for it
	Kind Kind
	// Nodes has at least one node, in the order of the topology. While Dynamic is
	// set it has all nodes of which one will be taken.
	Nodes []topology.Node
	// Dynamic is "" or Master: the Runner finds out at the injection.
	Dynamic  string
	Settings Settings
	At       time.Duration // earliest time of injection since the run's anchor
	// Gap is the least time from the redundancy of the fault before to the
	// injection; with During, from the effect of the fault before.
	Gap    time.Duration
	Hold   time.Duration // from effect to recovery
	Settle time.Duration // how long redundancy must have stood before the injection
	During bool          // made while the fault before it in the plan is in effect

	// Outage says why the fault leaves nobody served, "" if it does not. The
	// scenario has allowed it. MayBe says that it depends on which node is hit, or
	// on which side of a partition survives.
	Outage string
	MayBe  bool
	// Along are data nodes that shut down with the outage although the fault is
	// not made on them, and must be started with it.
	Along []topology.Node
}

// Names are those of the nodes, joined by commas, or the dynamic target.
func (p Planned) Names() string {
	if p.Dynamic != "" {
		return p.Dynamic
	}
	return names(p.Nodes)
}

func names(nodes []topology.Node) string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.Name)
	}
	return strings.Join(list, ",")
}

// on makes a fault that is to be made on one of several nodes one on n.
func (p Planned) on(d Description, t topology.Topology, n topology.Node) Planned {
	p.Dynamic, p.Nodes = "", d.whole(t, []topology.Node{n})
	return p
}

// variants are what a fault may turn out to be.
func (p Planned) variants(d Description, t topology.Topology) []Planned {
	if p.Dynamic == "" {
		return []Planned{p}
	}
	var all []Planned
	for _, n := range p.Nodes {
		all = append(all, p.on(d, t, n))
	}
	return all
}

// whole adds to nodes what else is on their hosts, if the fault is one of hosts.
func (d Description) whole(t topology.Topology, nodes []topology.Node) []topology.Node {
	if !d.Hosts {
		return nodes
	}
	hosts := hostsOf(nodes)
	var all []topology.Node
	for _, n := range t.Nodes {
		if slices.Contains(hosts, n.Host) {
			all = append(all, n)
		}
	}
	return all
}

// hostsOf returns the hosts of nodes, each once.
func hostsOf(nodes []topology.Node) []string {
	var hosts []string
	for _, n := range nodes {
		if !slices.Contains(hosts, n.Host) {
			hosts = append(hosts, n.Host)
		}
	}
	return hosts
}

// Plan is a list of faults in the order in which they are made: one at a time,
// but for those with During.
type Plan struct {
	Steps []Planned
}

// Ground is what a plan is made for.
type Ground struct {
	Topology topology.Topology
	Duration time.Duration // of the run
	// Clients are those who must not lose all their SQL nodes. With none, one SQL
	// node that is left is enough.
	Clients []Client
}

// Client is a machine that asks SQL nodes.
type Client struct {
	Name  string
	Nodes []topology.ID
}

// SpecError says what is wrong with one spec.
type SpecError struct {
	Index  int    // of the spec, from 0
	Field  string // name of the field in lower case, such as "target"; of a setting too
	Reason string
}

func (e SpecError) Error() string {
	return fmt.Sprintf("faults[%d].%s: %s", e.Index, e.Field, e.Reason)
}

// SpecErrors is all that is wrong with a list of specs, in their order.
type SpecErrors []SpecError

func (e SpecErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// candidate is a spec that was checked by itself.
type candidate struct {
	Spec
	index int
	kind  Description
	label string // of the target, for ids
	// nodes are those of the target. With each, the fault is made on one of them
	// at a time.
	nodes []topology.Node
	each  bool
	bad   bool
}

// NewPlan makes the plan of a run, as a pure function of its arguments. It
// refuses, with SpecErrors, specs that are wrong and faults that would be an
// outage of the harness's own making, unless they are allowed; whether they are
// refused does not depend on the seed. Faults may overlap in time: the Runner
// puts a fault off until the one before is redundant.
func NewPlan(seed uint64, specs []Spec, g Ground) (Plan, error) {
	if g.Duration <= 0 || g.Duration > maxDuration {
		return Plan{}, fmt.Errorf("a run of %s cannot be planned, must be more than 0 and at most %s", g.Duration, maxDuration)
	}
	var wrong SpecErrors
	groups := [][]candidate{} // those of a group are in effect together
	for i, s := range specs {
		c, bad := check(i, truncated(s), g)
		wrong = append(wrong, bad...)
		if s.During == DuringPrevious && len(groups) > 0 {
			last := len(groups) - 1
			groups[last] = append(groups[last], c)
			continue
		}
		groups = append(groups, []candidate{c})
	}
	var (
		planned [][]Planned
		end     time.Duration // earliest redundancy of the fault before
		latest  time.Duration // the same, had every jitter been drawn in full
		steps   int
	)
	for _, group := range groups {
		if slices.ContainsFunc(group, func(c candidate) bool { return c.bad }) {
			continue
		}
		bad := checkTogether(group)
		var outages []outage
		if len(bad) == 0 {
			outages, bad = checkLoss(group, g)
		}
		if wrong = append(wrong, bad...); len(bad) > 0 {
			continue
		}
		head := group[0]
		turns := 1
		if head.kind.Rolls {
			turns = len(head.nodes)
		}
	repetitions:
		for k := range max(head.Repeat, 1) {
			for turn := range turns {
				if steps += len(group); steps > MaxSteps {
					wrong = append(wrong, SpecError{head.index, "repeat", fmt.Sprintf("the plan has more than %d faults", MaxSteps)})
					break repetitions
				}
				episode := draft(seed, group, k, turn, turns, g.Topology, outages)
				first := &episode[0]
				worst := head.At + time.Duration(k)*head.Every + head.Jitter + head.Settle
				jitter := first.Gap
				first.Gap = 0
				switch {
				case turn > 0: // right after the node before
					worst = latest + head.Jitter + head.Settle
					first.Gap = jitter
					first.At = end + first.Gap
				case head.After == "":
					first.At = head.At + time.Duration(k)*head.Every + jitter
				default:
					first.Gap = head.At
					if k > 0 {
						first.Gap = head.Every
					}
					worst = latest + first.Gap + head.Jitter + head.Settle
					first.Gap += jitter
					first.At = end + first.Gap
				}
				end, latest = first.At+first.Hold, worst+first.Hold
				for i := 1; i < len(episode); i++ {
					p := &episode[i]
					p.At = episode[i-1].At + p.Gap
					worst += group[i].At + group[i].Jitter
					end, latest = max(end, p.At+p.Hold), max(latest, worst+p.Hold)
				}
				if latest > g.Duration {
					wrong = append(wrong, SpecError{head.index, "at", fmt.Sprintf(
						"repetition %d may be injected %s into a run of %s and taken back %s later: lengthen the run, or let the fault come earlier",
						k+1, worst, g.Duration, latest-worst)})
					break repetitions
				}
				planned = append(planned, episode)
			}
		}
	}
	if len(wrong) > 0 {
		slices.SortStableFunc(wrong, func(a, b SpecError) int { return cmp.Compare(a.Index, b.Index) })
		return Plan{}, wrong
	}
	// Each fault waits for all before it, so that a gap counted from the one
	// before it in this order is never too short.
	slices.SortStableFunc(planned, func(a, b []Planned) int { return cmp.Compare(a[0].At, b[0].At) })
	plan := Plan{Steps: slices.Concat(planned...)}
	for i := range plan.Steps {
		p := &plan.Steps[i]
		p.ID = fmt.Sprintf("f%d-%s-%s", i+1, p.Kind, p.ID)
	}
	return plan, nil
}

// draft fills in the faults of one repetition, but for the times of the first:
// Gap has the jitter, and ID the last part.
func draft(seed uint64, group []candidate, k, turn, turns int, t topology.Topology, outages []outage) []Planned {
	var (
		drafts []Planned
		taken  []topology.Node
	)
	for _, c := range group {
		if !c.each {
			taken = append(taken, c.nodes...)
		}
	}
	for i, c := range group {
		p := Planned{ID: c.label, Spec: c.index, Kind: c.Kind, Settings: c.Settings, Hold: c.Hold, During: i > 0, Nodes: c.nodes}
		p.Gap = draw(seed, c.index, k*turns+turn, c.Jitter)
		if i > 0 {
			p.Gap += c.At
		} else {
			p.Settle = c.Settle
		}
		switch {
		case c.Target == Master:
			p.Dynamic = Master
		case c.kind.Rolls:
			p = p.on(c.kind, t, c.nodes[turn])
			p.ID = c.nodes[turn].Name
		case c.each:
			left := slices.DeleteFunc(slices.Clone(c.nodes), func(n topology.Node) bool { return slices.Contains(taken, n) })
			n := left[pick(seed, c.index, k, len(left))]
			taken = append(taken, n)
			p = p.on(c.kind, t, n)
			p.ID = n.Name
		}
		p.Outage, p.MayBe = outages[i].reason, outages[i].spared
		drafts = append(drafts, p)
	}
	for i, c := range group {
		if !outages[i].along {
			continue
		}
		others := slices.Concat(taken, drafts[i].Nodes)
		if c.Target == Master {
			others = taken
		}
		drafts[i].Along = slices.DeleteFunc(t.ByRole(topology.Data), func(n topology.Node) bool { return slices.Contains(others, n) })
	}
	return drafts
}

func truncated(s Spec) Spec {
	for _, d := range []*time.Duration{&s.At, &s.Hold, &s.Every, &s.Jitter, &s.Settle, &s.Settings.Delay, &s.Settings.Limit} {
		*d = d.Truncate(time.Microsecond)
	}
	return s
}

// check looks at one spec by itself.
func check(i int, s Spec, g Ground) (candidate, SpecErrors) {
	var wrong SpecErrors
	add := func(field, format string, args ...any) {
		wrong = append(wrong, SpecError{i, field, fmt.Sprintf(format, args...)})
	}
	c := candidate{Spec: s, index: i}
	var kindErr, nodeErr error
	if c.kind, kindErr = describe(s.Kind); kindErr != nil {
		add("kind", "%v", kindErr)
	}
	if nodeErr = c.choose(g.Topology, kindErr == nil); nodeErr != nil {
		add("target", "%v", nodeErr)
	}
	if kindErr == nil {
		before := len(wrong)
		c.Settings = c.Settings.resolved(c.kind, add)
		if nodeErr == nil && len(wrong) == before && c.kind.check != nil {
			p := Planned{Kind: c.Kind, Nodes: c.nodes, Settings: c.Settings, Hold: c.Hold}
			might := []Planned{p}
			if c.each {
				might = nil
				for _, n := range c.nodes {
					might = append(might, p.on(c.kind, g.Topology, n))
				}
			}
			for _, v := range might {
				field, err := c.kind.check(g.Topology, &v)
				if err != nil {
					add(field, "%v", err)
					break
				}
				p.Settings = v.Settings
			}
			c.Settings = p.Settings
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"at", s.At}, {"hold", s.Hold}, {"every", s.Every}, {"jitter", s.Jitter}, {"settle", s.Settle}} {
		if d.value < 0 || d.value > g.Duration {
			add(d.field, "is %s, must be 0 to %s, the duration of the run", d.value, g.Duration)
		}
	}
	switch {
	case s.After != "" && s.After != AfterRedundant:
		add("after", "is %q, must be %q or left out", s.After, AfterRedundant)
	case s.After != "" && i == 0:
		add("after", "is %q, but there is no fault before the first", s.After)
	}
	switch {
	case s.During == "":
	case s.During != DuringPrevious:
		add("during", "is %q, must be %q or left out", s.During, DuringPrevious)
	case i == 0:
		add("during", "is %q, but there is no fault before the first", s.During)
	case s.After != "":
		add("during", "is %q and after is %q: a fault comes while the one before is in effect, or after it", s.During, s.After)
	case s.Repeat > 1:
		add("repeat", "is %d, but the fault is made each time that the one before it is: repeat that", s.Repeat)
	case s.Settle > 0:
		add("settle", "is %s, but the cluster is not whole while the fault before is in effect", s.Settle)
	}
	switch {
	case s.Repeat < 0 || s.Repeat > MaxRepeat:
		add("repeat", "is %d, must be 0 to %d", s.Repeat, MaxRepeat)
	case s.Repeat > 1 && s.After == "" && s.Every <= s.Hold:
		add("every", "is %s: the fault would come again before its hold of %s is over", s.Every, s.Hold)
	case s.Repeat <= 1 && s.Every != 0:
		add("every", "is %s, but the fault is not repeated: set repeat to 2 or more, or leave every out", s.Every)
	}
	c.bad = len(wrong) > 0
	return c, wrong
}

// choose finds the nodes of the target, of those that the kind can be made on
// if it is known.
func (c *candidate) choose(t topology.Topology, known bool) error {
	c.label = strings.ReplaceAll(c.Target, ":", "-")
	target := c.Target
	switch role, isAny := strings.CutPrefix(target, anyOf); {
	case isAny:
		target, c.each = "role:"+role, true
	case target == Master:
		target, c.each = "role:"+string(topology.Data), true
	}
	all, err := t.Select(target)
	if err != nil || !known {
		return err
	}
	for _, n := range all {
		if slices.Contains(c.kind.Roles, n.Role) {
			c.nodes = append(c.nodes, n)
		}
	}
	switch {
	case len(c.nodes) == 0 && len(all) == 1 && all[0].Name == target:
		return fmt.Errorf("%s is a %s node; %s can be made on %q nodes", all[0].Name, all[0].Role, c.Kind, c.kind.Roles)
	case len(c.nodes) == 0:
		return fmt.Errorf("%s has no %q node, on which %s can be made", c.Target, c.kind.Roles, c.Kind)
	}
	if c.kind.Single && !c.each && len(c.nodes) > 1 {
		return fmt.Errorf("%s has the nodes %s; %s is made on one at a time", c.Target, names(c.nodes), c.Kind)
	}
	c.each = c.each || c.kind.Rolls
	if !c.each {
		c.nodes = c.kind.whole(t, c.nodes)
	}
	return nil
}

// checkTogether looks at specs that are in effect at the same time.
func checkTogether(group []candidate) SpecErrors {
	var (
		wrong  SpecErrors
		offset time.Duration // of the last effect, at the latest
		until  = group[0].Hold
	)
	for i, c := range group[1:] {
		before := group[:i+1]
		add := func(field, format string, args ...any) {
			wrong = append(wrong, SpecError{c.index, field, fmt.Sprintf(format, args...)})
		}
		if len(before) >= MaxTogether {
			add("during", "makes %d faults that are in effect together, at most %d may be", i+2, MaxTogether)
		}
		for _, one := range []candidate{group[0], c} {
			if one.kind.Rolls {
				add("during", "cannot be, as %s is made on one node after another", one.Kind)
			}
		}
		if offset += c.At + c.Jitter; offset >= until {
			add("at", "is up to %s after the fault before has taken effect, when a hold of %s may be over", c.At+c.Jitter, until)
		}
		until = min(until, offset+c.Hold)
		if taken := fixed(before); !c.each {
			twice := slices.DeleteFunc(slices.Clone(c.nodes), func(n topology.Node) bool { return !slices.Contains(taken, n) })
			if len(twice) > 0 {
				add("target", "%s has a fault in effect already when this one is made", names(twice))
			}
		}
	}
	// Those that are drawn take none that another is made on for certain.
	taken, drawn := fixed(group), 0
	for _, c := range group {
		if !c.each || c.kind.Rolls {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(c.nodes), func(n topology.Node) bool { return slices.Contains(taken, n) })
		if drawn++; len(left) < drawn {
			wrong = append(wrong, SpecError{c.index, "target", fmt.Sprintf("%s leaves no node to choose, as others have a fault at the same time", c.Target)})
		}
	}
	return wrong
}

// fixed are the nodes that specs are made on whatever the seed.
func fixed(group []candidate) []topology.Node {
	var nodes []topology.Node
	for _, c := range group {
		if !c.each {
			nodes = append(nodes, c.nodes...)
		}
	}
	return nodes
}

// outage is what the loss of nodes comes to for one spec.
type outage struct {
	reason string // of the first way to it, "" for none
	spared bool   // there is another way, without an outage
	along  bool   // data nodes shut down that the fault is not made on
}

// checkLoss works out what each fault of a group costs, those before it in the
// group being in effect, and refuses an outage that is not allowed.
func checkLoss(group []candidate, g Ground) ([]outage, SpecErrors) {
	outages := make([]outage, len(group))
	var ways [][][]topology.ID
	for _, c := range group {
		ways = append(ways, c.losses(g.Topology))
	}
	var walk func(i int, gone []topology.ID)
	walk = func(i int, gone []topology.ID) {
		if i == len(group) {
			return
		}
		o := &outages[i]
		for _, now := range ways[i] {
			if len(now) > 0 && !slices.ContainsFunc(now, func(id topology.ID) bool { return !slices.Contains(gone, id) }) {
				continue // was lost before
			}
			loss := topology.Lost(g.Topology, gone, now)
			after := slices.Concat(gone, now)
			for _, n := range loss.Fallen {
				after = append(after, n.ID)
				o.along = true
			}
			reason := loss.Outage()
			if reason == "" && len(now) > 0 {
				reason = stranded(g.Clients, after)
			}
			if reason == "" {
				o.spared = true
			} else if o.reason == "" {
				o.reason = reason
			}
			walk(i+1, after)
		}
	}
	walk(0, nil)
	var wrong SpecErrors
	for i, c := range group {
		if outages[i].reason == "" {
			outages[i].spared = false
			continue
		}
		if c.AllowOutage {
			continue
		}
		what := fmt.Sprintf("%s of %s", c.Kind, c.Target)
		if i > 0 {
			what += " during the fault before"
		}
		wrong = append(wrong, SpecError{c.index, "target", fmt.Sprintf(
			"%s would be an outage of the harness's own making: %s; if that is meant, allow an outage", what, outages[i].reason)})
	}
	return outages, wrong
}

// losses are the sets of nodes of which a fault may cost one.
func (c candidate) losses(t topology.Topology) [][]topology.ID {
	if c.kind.loses == nil {
		return [][]topology.ID{nil}
	}
	p := Planned{Kind: c.Kind, Settings: c.Settings, Hold: c.Hold, Nodes: c.nodes}
	might := []Planned{p}
	if c.each {
		might = nil
		for _, n := range c.nodes {
			might = append(might, p.on(c.kind, t, n))
		}
	}
	var sets [][]topology.ID
	for _, p := range might {
		for _, nodes := range c.kind.loses(t, p) {
			var ids []topology.ID
			for _, n := range nodes {
				ids = append(ids, n.ID)
			}
			sets = append(sets, ids)
		}
	}
	return sets
}

// losesAll is the loss of every node that a fault is made on.
func losesAll(_ topology.Topology, p Planned) [][]topology.Node { return [][]topology.Node{p.Nodes} }

// stranded names a client that has lost all its SQL nodes.
func stranded(clients []Client, gone []topology.ID) string {
	for _, c := range clients {
		lost := func(id topology.ID) bool { return slices.Contains(gone, id) }
		if len(c.Nodes) > 0 && !slices.ContainsFunc(c.Nodes, func(id topology.ID) bool { return !lost(id) }) {
			return fmt.Sprintf("client %s has no SQL node left", c.Name)
		}
	}
	return ""
}

// draw picks a time from 0 to limit, limit included, in whole microseconds. A
// fault's draw depends on its own spec's index only, so that a spec added
// behind it changes nothing.
func draw(seed uint64, spec, repetition int, limit time.Duration) time.Duration {
	micros := drawNumber(uint64(limit/time.Microsecond)+1, "mailbench.plan/v1 jitter", seed, uint64(spec), uint64(repetition))
	return time.Duration(micros) * time.Microsecond
}

// pick chooses one of n for a repetition: each has its turn before one comes
// again, in an order that the seed decides.
func pick(seed uint64, spec, repetition, n int) int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	round := uint64(repetition / n)
	for i := n - 1; i > 0; i-- {
		j := drawNumber(uint64(i)+1, "mailbench.plan/v2 target", seed, uint64(spec), round, uint64(i))
		order[i], order[j] = order[j], order[i]
	}
	return order[repetition%n]
}

// drawNumber picks a number below limit. SHA-256 needs no promise of a random
// library to draw the same on every machine and with every later version.
func drawNumber(limit uint64, label string, words ...uint64) uint64 {
	b := []byte(label)
	for _, w := range words {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	sum := sha256.Sum256(b)
	// The high half of a product scales to a range without division (Lemire,
	// "Fast Random Integer Generation in an Interval", 2019); its bias of one in
	// 2^64/range is of no matter here.
	drawn, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), limit)
	return drawn
}

// SHA256 identifies the plan, in hexadecimal: two plans with the same sum do
// the same to the same nodes at the same times.
func (p Plan) SHA256() string {
	sum := sha256.Sum256(p.canonical())
	return hex.EncodeToString(sum[:])
}

// canonical is the text that SHA256 sums: a line with the format's name, then a
// line a fault.
func (p Plan) canonical() []byte {
	var b bytes.Buffer
	b.WriteString("mailbench.plan/v2\n")
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "id=%q kind=%q nodes=%q", s.ID, s.Kind, numbered(s.Nodes))
		for _, optional := range []struct{ key, value string }{
			{"dynamic", s.Dynamic}, {"settings", s.Settings.String()}, {"along", numbered(s.Along)},
		} {
			if optional.value != "" {
				fmt.Fprintf(&b, " %s=%q", optional.key, optional.value)
			}
		}
		fmt.Fprintf(&b, " at_us=%d gap_us=%d hold_us=%d settle_us=%d during=%t\n",
			s.At.Microseconds(), s.Gap.Microseconds(), s.Hold.Microseconds(), s.Settle.Microseconds(), s.During)
	}
	return b.Bytes()
}

func numbered(nodes []topology.Node) string {
	var list []string
	for _, n := range nodes {
		list = append(list, fmt.Sprintf("%s=%d", n.Name, n.ID))
	}
	return strings.Join(list, ",")
}

// Describe writes for people when each fault is made, on what, and what the
// database is expected to do.
func (p Plan) Describe(w io.Writer, t topology.Topology) error {
	var b bytes.Buffer
	for _, s := range p.Steps {
		d, err := describe(s.Kind)
		if err != nil {
			return fmt.Errorf("fault %s: %w", s.ID, err)
		}
		fmt.Fprintf(&b, "%s: %s\n  target   %s\n  when     %s\n  hold     %s\n", s.ID, d.Summary, s.where(), s.when(), s.Hold)
		if settings := s.Settings.String(); settings != "" {
			fmt.Fprintf(&b, "  with     %s\n", settings)
		}
		// What is expected of the loss alone does not hold where it comes on another.
		if !s.During || s.Outage == "" {
			fmt.Fprintf(&b, "  expected %s\n", s.expected(d, t))
		}
		if s.Outage != "" {
			certainty := "is expected"
			if s.MayBe {
				certainty = "may come of it"
			}
			fmt.Fprintf(&b, "  outage   a legitimate outage %s: %s\n", certainty, s.Outage)
		}
		fmt.Fprintf(&b, "  source   %s\n", d.Source)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (p Planned) expected(d Description, t topology.Topology) string {
	if p.Dynamic == "" {
		return d.Expect(t, p)
	}
	one := p.variants(d, t)[0]
	return fmt.Sprintf("if it is %s: %s", one.Names(), d.Expect(t, one))
}

func (p Planned) when() string {
	var when string
	switch {
	case p.During:
		when = fmt.Sprintf("%s after the fault before has taken effect, while it is", p.Gap)
	case p.Gap > 0:
		when = fmt.Sprintf("%s after the fault before is redundant, at %s at the earliest", p.Gap, p.At)
	default:
		when = fmt.Sprintf("at %s, or later once the fault before is redundant", p.At)
	}
	if p.Settle > 0 {
		when += fmt.Sprintf(", and once the cluster has been whole for %s", p.Settle)
	}
	return when
}

func (p Planned) where() string {
	var parts []string
	for _, n := range p.Nodes {
		parts = append(parts, fmt.Sprintf("%s, %s node %d on host %s", n.Name, n.Role, n.ID, n.Host))
	}
	where := strings.Join(parts, "; ")
	if p.Dynamic != "" {
		where = p.Dynamic + ", one of " + where
	}
	return where
}
