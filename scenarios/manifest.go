package scenarios

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/mailbench/mailbench/results"
	"github.com/moby/moby/client"
)

const versionsTimeout = 5 * time.Second

// manifest says all that is known before the first op, but for what ran it.
func (p *Plan) manifest(runID string) results.Manifest {
	s, window := p.Scenario, p.Trace.Window()
	m := results.Manifest{
		Scenario: s.Name, RunID: runID, Seed: s.Seed, Speed: s.Workload.Speed, Virtual: day,
		Window:   results.Window{FromSeconds: int64(window.From.Seconds()), DurationSeconds: int64(window.Duration.Seconds())},
		Topology: p.Topology,
		Trace: results.Trace{
			SHA256: p.TraceSHA256(), MessagesPerDay: s.Workload.MessagesPerDay,
			Messages: p.Trace.Messages(), Actions: p.Trace.Actions(), Jobs: p.Trace.Jobs(),
		},
		PlanSHA256: p.Faults.SHA256(),
		Objectives: s.Objectives(),
		Bounds: results.Bounds{
			LagP999US: s.Bounds.LagP999.Microseconds(), SchedP999US: s.Bounds.SchedP999.Microseconds(), GCPauseUS: s.Bounds.GCPause.Microseconds(),
			StealPPM: s.Bounds.StealPPM, ClockStepUS: s.Bounds.ClockStep.Microseconds(),
			InFlight: int64(s.Bounds.InFlight),
		},
	}
	if p.Imported() {
		m.Trace.Origin = p.file.Header().Origin
	} else if p.file != nil {
		m.Trace.MessagesPerDay = p.file.Header().Profile.Model.MessagesPerDay
	}
	for _, spec := range s.Clients {
		m.Clients = append(m.Clients, results.Client{Name: spec.Name, Kind: string(spec.Kind), Nodes: spec.Nodes, GreylistFallback: fallbackOf(spec)})
	}
	for _, f := range p.Faults.Steps {
		m.Faults = append(m.Faults, results.PlannedFault{RateMilli: s.faultRate(f.Spec), ID: f.ID, Kind: string(f.Kind), Target: f.Names(), AtUS: f.At.Microseconds(), Entry: f.Spec + 1})
	}
	return m
}

// fallbackOf is what a client does with what it cannot greylist; "" of one that
// greylists nothing.
func fallbackOf(c ClientSpec) string {
	if c.Kind != MTA {
		return ""
	}
	return string(c.GreylistFallback)
}

// versions names the programs that took part.
func versions(ctx context.Context, g *ground, own string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	v := map[string]string{"mailbench": own, "go": runtime.Version()}
	if g.docker != nil {
		if info, err := g.docker.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
			v["engine"] = info.Version
		}
	}
	if ndb, err := g.target.Version(ctx); err == nil {
		v["cluster"] = ndb
	}
	return v
}

// hostFacts are what bears on speed and names nobody.
func hostFacts() map[string]string {
	facts := map[string]string{
		"os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": fmt.Sprint(runtime.NumCPU()),
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		facts["memory_mib"] = fmt.Sprint(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		facts["kernel"] = strings.TrimSpace(string(release))
	}
	return facts
}
