// Package results keeps what a run recorded and judges it. Recording writes a
// run directory, Reader reads one, and Judge makes a Run of it: outcomes,
// latencies, outage spans, budgets and a verdict. Judging is a function of the
// recording alone, so that it gives the same bytes on every machine.
package results

import (
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// ManifestSchema names the layout of a recording: manifest.json and the files
// that lie beside it.
const ManifestSchema = "mailbench.manifest/v1"

// Manifest is manifest.json: all that is known before the first op. It holds
// everything that judging needs beside samples, counters and events.
type Manifest struct {
	Schema     string            `json:"schema"` // "mailbench.manifest/v1"
	Scenario   string            `json:"scenario"`
	RunID      string            `json:"run_id"`
	Seed       uint64            `json:"seed"`
	Speed      int               `json:"speed"`       // virtual seconds a wall second
	Virtual    time.Time         `json:"virtual"`     // midnight of the virtual day
	Window     Window            `json:"window"`      // slice of the virtual day
	Anchor     time.Time         `json:"anchor"`      // wall time at which the recording's clock reads 0
	Version    map[string]string `json:"version"`     // mailbench, go, mysql, ...
	Image      Image             `json:"image"`       // what the nodes ran
	Host       map[string]string `json:"host"`        // facts of the machine: kernel, cpus, memory_mib, ...
	Topology   topology.Topology `json:"topology"`    // nodes and their limits
	Clients    []Client          `json:"clients"`     // samples name them by index
	Trace      Trace             `json:"trace"`       // what was to be replayed
	PlanSHA256 string            `json:"plan_sha256"` // of the fault plan
	Faults     []PlannedFault    `json:"faults"`      // the fault plan
	Objectives []Objective       `json:"objectives"`  // what was promised
	Bounds     Bounds            `json:"bounds"`      // past which a run is inconclusive
}

// Window is a slice of the virtual day.
type Window struct {
	FromSeconds     int64 `json:"from_s"`
	DurationSeconds int64 `json:"duration_s"`
}

// Image is what the nodes were made from.
type Image struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Client is one machine of ours that asks the database.
type Client struct {
	Name             string   `json:"name"`
	Kind             string   `json:"kind"`                        // "mta" or "webmail"
	Nodes            []string `json:"nodes"`                       // the SQL nodes it asks, preferred one first
	GreylistFallback string   `json:"greylist_fallback,omitempty"` // of an MTA: "defer" or "accept"
}

// Trace identifies what was to be replayed.
type Trace struct {
	SHA256         string `json:"sha256"`
	Origin         string `json:"origin,omitempty"` // of an imported one: a sentence
	MessagesPerDay int64  `json:"messages_per_day"` // of the model; 0 of an imported trace
	Messages       int64  `json:"messages"`         // in the window
	Actions        int64  `json:"actions"`          // webmail actions in the window
	Jobs           int64  `json:"jobs,omitempty"`   // jobs on accounts in the window
}

// PlannedFault is one fault of the plan.
type PlannedFault struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Target string `json:"target"` // the node
	AtUS   int64  `json:"at_us"`  // earliest time of its injection, since the anchor
	// RateMilli is how often such a fault is expected in 30 days, in thousandths;
	// nil for once.
	RateMilli *int64 `json:"per_30_days_milli,omitempty"`
	Entry     int    `json:"entry,omitempty"` // of the scenario's list of faults, from 1; repetitions have the same
}

// Bounds are limits of the generator's own noise: a run past one of them says
// nothing about the cluster. Zero means no limit.
type Bounds struct {
	LagP999US   int64 `json:"lag_p999_us"`             // dispatch lag, 99.9th percentile, of the run and of each minute
	SchedP999US int64 `json:"sched_p999_us,omitempty"` // wait of goroutines for a processor, 99.9th percentile, of each second
	GCPauseUS   int64 `json:"gc_pause_us,omitempty"`   // each stop-the-world pause
	StealPPM    int64 `json:"steal_ppm,omitempty"`     // share of the processors' time that the host kept back, of each minute
	ClockStepUS int64 `json:"clock_step_us,omitempty"` // wall clock against monotonic clock, each second
	// InFlight is how many sessions may be under way at one time. That they are is no
	// noise of the generator's: a capacity search takes it for a rate that is missed.
	InFlight int64 `json:"in_flight,omitempty"`
}
