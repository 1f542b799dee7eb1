package scenarios

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/chaos"
	"github.com/mailbench/mailbench/reference/cluster/image"
	"github.com/mailbench/mailbench/reference/topology"
	"github.com/moby/moby/client"
)

// CheckError says that faults of a plan cannot be made on this engine and kernel,
// with this image.
type CheckError struct{ Err error }

func (e *CheckError) Error() string {
	return fmt.Sprintf("not every fault of the plan can be made here: %v", e.Err)
}

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

// PermissionError says that a run would do what only a person may allow, who has
// not.
type PermissionError struct{ Msg string }

func (e *PermissionError) Error() string { return e.Msg }

// checkPrograms refuses the programs of a scenario that nobody has allowed: a file
// that somebody else wrote would run anything.
func (p *Plan) checkPrograms(allowed bool) error {
	list := p.Faults.Programs()
	if allowed || len(list) == 0 {
		return nil
	}
	return &PermissionError{fmt.Sprintf("scenario %s would run programs on this machine:\n  %s\nread them, and allow them with: --allow-commands",
		p.Scenario.Name, strings.Join(list, "\n  "))}
}

// Check asks engine and kernel whether each fault of a plan can be made, and says
// so on w. It starts no cluster and builds no image; what it tries runs in
// containers that it removes again. The error is a *CheckError, or tells of engine
// or image.
func Check(ctx context.Context, docker *client.Client, p *Plan, imageName string, w io.Writer) error {
	o := p.Scenario.System.image(imageName)
	o.OnlyHere, o.Announce = true, func(line string) { fmt.Fprintln(w, line) }
	found, err := image.Find(ctx, docker, o)
	if err != nil {
		return err
	}
	target, err := p.contained(docker, runID("check"), found.ID, "", false, nil)
	if err != nil {
		return err
	}
	if err := p.checkFaults(ctx, target); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "check: this engine and kernel can make the plan's faults (%d)\n", len(p.Faults.Steps))
	return err
}

// checkFaults asks whether each fault can be made on a target, which need not run.
func (p *Plan) checkFaults(ctx context.Context, target chaos.Target) error {
	err := chaos.CheckPlan(ctx, p.Faults, p.Topology, chaos.Builder(target, p.links()))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &CheckError{err}
}

// links are the clients' connections where the scenario or a fault of the plan
// needs to reach into them, and nil otherwise: they cost some time for each message.
func (p *Plan) links() *chaos.Links {
	needed := len(p.Scenario.Links) > 0
	for _, d := range chaos.Catalogue() {
		needed = needed || slices.Contains(d.Needs, chaos.ClientLinks) &&
			slices.ContainsFunc(p.Faults.Steps, func(f chaos.Planned) bool { return f.Kind == d.Kind })
	}
	if !needed {
		return nil
	}
	links := new(chaos.Links)
	for _, l := range p.Scenario.Links {
		if n, err := p.Topology.Node(l.Node); err == nil { // Parse has seen to it
			links.Lengthen(n, l.Delay)
		}
	}
	return links
}

// addressed tells which SQL node has an address.
func addressed(target interface {
	Topology() topology.Topology
	Address(topology.Node) string
}) func(string) (topology.ID, bool) {
	nodes := map[string]topology.ID{}
	for _, n := range target.Topology().ByRole(topology.SQL) {
		nodes[target.Address(n)] = n.ID
	}
	return func(address string) (topology.ID, bool) {
		id, ok := nodes[address]
		return id, ok
	}
}
