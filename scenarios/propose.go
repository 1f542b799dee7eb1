package scenarios

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/capacity"
	"github.com/mailbench/mailbench/results/memory"
	"github.com/mailbench/mailbench/workload/strictyaml"
)

// ReadObjectives reads a file of objectives: a list as scenario files have it, or an
// OpenSLO document. Errors join an *InputError for each mistake.
func ReadObjectives(path string) ([]results.Objective, error) {
	text, err := readFile("objectives", path)
	if err != nil {
		return nil, &InputError{File: path, Msg: err.Error(), Cause: err}
	}
	root, mistake := strictyaml.ParseTree("objectives", path, text, true)
	if mistake != nil {
		return nil, mistake
	}
	s := &Scenario{}
	d := &decoder{strictyaml.NewDecoder("objectives")}
	if root.Kind == strictyaml.MappingKind && root.Get("apiVersion") != nil {
		s.ObjectiveSpecs = []ObjectiveSpec{{OpenSLO: path}}
		d.Written["objectives"] = root.At
	} else {
		d.Read(objectivesValue(&s.ObjectiveSpecs), "objectives", root)
	}
	wrongDocument := d.fillOpenSLO(path, s)
	d.checkObjectives(s)
	d.checkObjectiveNames(s)
	if err := errors.Join(d.Err(), wrongDocument); err != nil {
		return nil, err
	}
	objectives := s.Objectives()
	if err := capacity.CheckObjectives(objectives); err != nil {
		return nil, &InputError{File: path, Msg: err.Error(), Cause: err}
	}
	return objectives, nil
}

// specs are objectives as a file words them, without documents.
func specs(objectives []results.Objective) []ObjectiveSpec {
	var all []ObjectiveSpec
	for _, o := range objectives {
		spec := defaultObjective()
		spec.Name, spec.Metric, spec.TargetPPM, spec.Within = o.Name, o.Metric, o.TargetPPM, time.Duration(o.LatencyUS)*time.Microsecond
		spec.Slice, spec.SliceTargetPPM = time.Duration(o.SliceUS)*time.Microsecond, o.SliceTargetPPM
		if o.Path != "" {
			spec.Path = o.Path
		}
		if o.Degraded != "" {
			spec.Degraded = Degraded(o.Degraded)
		}
		if o.WindowDays > 0 {
			spec.WindowDays = int(o.WindowDays)
		}
		all = append(all, spec)
	}
	return all
}

// capacityClients are the clients as far as a proposal needs to know them.
func (s *Scenario) capacityClients() []capacity.Client {
	var all []capacity.Client
	for i, c := range s.Clients {
		all = append(all, capacity.Client{Name: c.Name, MTA: c.Kind == MTA, Nodes: c.Nodes, Like: i})
	}
	return all
}

// Proposing is what ProposeCapacity is asked.
type Proposing struct {
	Dir          string // of a search
	TargetPerDay int64
	Objectives   string // path of a file with other objectives, "" for those of the search
	Out          string // path of the scenario to write, "" for one in Dir
	Command      string // that repeats it
}

// ProposeCapacity proposes the smallest topology that should carry a target, by a search
// that was recorded, and writes the scenario that would test it, whose path it returns:
// "" where there is nothing to test. If other objectives were met at no rate that was
// recorded, it writes the scenario that searches them, on the topology that was measured.
func ProposeCapacity(o Proposing) (p *capacity.Proposal, path string, err error) {
	var objectives []results.Objective
	if o.Objectives != "" {
		if objectives, err = ReadObjectives(o.Objectives); err != nil {
			return nil, "", err
		}
	}
	judge := func(dir string) (*capacity.Result, error) { return capacity.JudgeUnder(dir, objectives) }
	result, err := judge(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", &InputError{Msg: err.Error(), Cause: err}
	}
	missing := err
	variants, err := capacity.ReadVariants(o.Dir, judge)
	if err != nil {
		return nil, "", &InputError{Msg: err.Error(), Cause: err}
	}
	dir := o.Dir
	if missing != nil {
		if len(variants) == 0 {
			return nil, "", &InputError{Msg: fmt.Sprintf("%s holds no capacity search: name the directory that mailbench capacity wrote", o.Dir), Cause: missing}
		}
		result, dir = variants[0].Result, filepath.Join(o.Dir, variants[0].Dir()) // the smallest stands for it
	}
	if len(result.Search.Steps) == 0 || len(result.Topology.Nodes) == 0 {
		return nil, "", &InputError{Msg: fmt.Sprintf("the search in %s has recorded no step: go on with mailbench capacity --resume %s", dir, dir)}
	}
	file, err := Load(filepath.Join(dir, filepath.FromSlash(result.Search.Steps[0].Dir), results.ScenarioFile))
	if err != nil {
		return nil, "", err
	}
	s, err := file.Scenario()
	if err != nil {
		return nil, "", err
	}
	question := capacity.Question{TargetPerDay: o.TargetPerDay, Result: result, Clients: s.capacityClients()}
	for _, v := range variants {
		if v.Result != result { // which stands for the directory
			question.Variants = append(question.Variants, v.Result)
		}
	}
	if question.Memory, err = memory.Read(o.Dir); err != nil {
		return nil, "", &InputError{Msg: err.Error(), Cause: err}
	}
	if p, err = capacity.Propose(question); err != nil {
		return nil, "", &InputError{Msg: err.Error(), Cause: err}
	}
	next := s.proposed(p, objectives)
	if p.Answer == capacity.CarriedAlready || p.Answer == capacity.Refused && objectives == nil {
		return p, "", nil
	}
	path = o.Out
	switch {
	case path == "":
		path = filepath.Join(o.Dir, next.Name+extension)
	case !isPath(path):
		path = "./" + path // a word alone would name a built-in scenario
	}
	return p, path, next.writeProposed(path, file.Name, o.Command)
}

// proposed is the scenario with the topology of a proposal, if it has one, its target
// and other objectives, if there are some.
func (s *Scenario) proposed(p *capacity.Proposal, objectives []results.Objective) *Scenario {
	next := *s
	if objectives == nil {
		objectives = s.Objectives()
	}
	next.ObjectiveSpecs = specs(objectives)
	if p.Answer == capacity.Refused {
		next.Name = extended(s.Name, "-objectives")
		return &next
	}
	if s.Workload.Trace == "" {
		next.Workload.MessagesPerDay = p.TargetPerDay
	}
	next.Name = extended(s.Name, "-"+shortCount(p.TargetPerDay))
	t := p.Topology
	if t == nil {
		return &next
	}
	next.Hypothesis = fmt.Sprintf("%d data nodes and %d SQL nodes carry %d messages a day, healthy and with any one node dead.", t.DataNodes, t.SQLNodes, p.TargetPerDay)
	spec := s.TopologySpec
	spec.DataNodes, spec.DataNode = t.DataNodes, maps.Clone(spec.DataNode)
	if have, want := spec.DataNode["DataMemory"], t.DataMemory; want != "" && want != have {
		before, _ := capacity.ParseMemory(have)
		after, _ := capacity.ParseMemory(want)
		if spec.Limits.Data.MemoryMiB > 0 { // all else that a node keeps in memory stays as large
			spec.Limits.Data.MemoryMiB += int((after - before + 1<<20 - 1) >> 20)
		}
		if spec.DataNode == nil {
			spec.DataNode = map[string]string{}
		}
		spec.DataNode["DataMemory"] = want
	}
	next.Clients = nil
	for _, c := range t.Clients {
		client := s.Clients[c.Like]
		client.Name, client.Nodes = c.Name, c.Nodes
		next.Clients = append(next.Clients, client)
	}
	spec.SQLHosts = hosts(spec.SQLHosts, t)
	next.TopologySpec = spec
	next.Links = slices.DeleteFunc(slices.Clone(s.Links), func(l LinkSpec) bool {
		number, err := strconv.Atoi(strings.TrimPrefix(l.Node, "sql"))
		return err == nil && number > t.SQLNodes
	})
	return &next
}

// hosts carry a SQL node each: those that did, then the machines of the clients that
// prefer the others, MTAs first.
func hosts(known []string, t *capacity.ProposedTopology) []string {
	all := slices.Clone(known[:min(len(known), t.SQLNodes)])
	for i := len(all); i < t.SQLNodes; i++ {
		node, host := fmt.Sprintf("sql%d", i+1), fmt.Sprintf("sqlhost%d", i+1)
		for _, mta := range [...]bool{false, true} { // the last one stays
			for _, c := range t.Clients {
				if c.MTA == mta && c.Nodes[0] == node && !slices.Contains(all, c.Name) && !slices.Contains(known, c.Name) {
					host = c.Name
				}
			}
		}
		all = append(all, host)
	}
	return all
}

// extended is a name with something behind it, which is no longer than a name may be.
func extended(name, suffix string) string {
	const most = 63
	return strings.TrimRight(name[:min(len(name), most-len(suffix))], "-") + suffix
}

// shortCount is a number in a name: 20m.
func shortCount(n int64) string {
	switch {
	case n%1_000_000 == 0:
		return fmt.Sprintf("%dm", n/1_000_000)
	case n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	default:
		return strconv.FormatInt(n, 10)
	}
}

const proposedMark = "# Made by mailbench capacity propose"

// writeProposed writes a scenario that was read from another file, once it has been read
// back. It replaces no file but one that it made.
func (s *Scenario) writeProposed(path, from, command string) error {
	if made, err := madeByPropose(path); err != nil {
		return err
	} else if !made {
		return &InputError{Msg: fmt.Sprintf("%s is there already, and no proposal: name another file with --out", path)}
	}
	s = s.moved(filepath.Dir(from), filepath.Dir(path))
	text := append([]byte(proposedHead(command)), s.YAML()...)
	if _, err := Parse(path, text); err != nil {
		return fmt.Errorf("the scenario that would test the proposal is not right: %w", err)
	}
	return results.ReplaceFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func proposedHead(command string) string {
	clean := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, command)
	return proposedMark + ": a hypothesis, not a measurement.\n# " + clean + "\n"
}

// madeByPropose says whether a path may be written: there is nothing, or what was
// written like this before.
func madeByPropose(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the scenario may be written: %w", err)
	}
	defer f.Close() // only read
	first, err := bufio.NewReader(io.LimitReader(f, int64(len(proposedMark)))).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("look whether the scenario may be written: %w", err)
	}
	return bytes.Equal(first, []byte(proposedMark)), nil
}

// moved is the scenario with the paths in it, which were relative to one directory,
// relative to another.
func (s *Scenario) moved(from, to string) *Scenario {
	next := *s
	relative := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		a, errA := filepath.Abs(filepath.Join(from, path))
		b, errB := filepath.Abs(to)
		if errA != nil || errB != nil {
			return path
		}
		moved, err := filepath.Rel(b, a)
		if err != nil {
			return a
		}
		if !strings.HasPrefix(moved, "..") {
			moved = "./" + moved
		}
		return filepath.ToSlash(moved)
	}
	if s.inputs.profile != nil {
		next.Workload.Profile = relative(s.Workload.Profile)
	}
	if s.Workload.Trace != "" {
		next.Workload.Trace = relative(s.Workload.Trace)
	}
	if s.Schema != "" {
		next.Schema = relative(s.Schema)
	}
	return &next
}
