package scenarios_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/scenarios"
	"github.com/mailbench/mailbench/workload"
)

// TestSecondWave performs the scenario second-wave, somewhat shorter, on a real
// cluster, and compares who comes back, and when, with what the schedules of the
// senders predict.
func TestSecondWave(t *testing.T) {
	docker := clustertest.Alone(t)
	dir := filepath.Join(t.TempDir(), "run")
	file, err := scenarios.Load("second-wave")
	if err != nil {
		t.Fatal(err)
	}
	p := plan(t, string(file.Data), scenarios.Override{Path: "workload.duration", Value: "2m"}, scenarios.Override{Path: "faults[0].at", Value: "10s"},
		scenarios.Override{Path: "faults[0].hold", Value: "15s"}, scenarios.Override{Path: "workload.messages_per_day", Value: "100000"})
	var progress bytes.Buffer
	conductor := scenarios.Conductor{Dir: dir, Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
	run, err := conductor.Run(t.Context(), p)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	nothingLeft(t, docker)
	if run.Ledger == nil || run.Ledger.Broken()+run.Ledger.Violations.Total() != 0 {
		t.Errorf("ledger %+v: something is lost", run.Ledger)
	}

	// What the recording tells of each message: who was put off for want of a route,
	// and when its peer came next.
	type tries map[uint16]time.Duration // virtual time by the number of the try
	var (
		failed = map[uint64]tries{} // tries that got no route
		made   = map[uint64]tries{} // all tries
		note   = func(m map[uint64]tries, s *workload.Sample) {
			if m[s.Message] == nil {
				m[s.Message] = tries{}
			}
			m[s.Message][s.Try] = s.Virtual
		}
		put int
	)
	recording, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for s, err := range recording.Samples() {
		if err != nil {
			t.Fatal(err)
		}
		if s.Operation != reference.Route {
			continue
		}
		note(made, &s)
		if s.Outcome == workload.Failed {
			note(failed, &s)
			put++
		}
	}
	if put < 100 {
		t.Fatalf("only %d recipients were put off by the outage: it proves little", put)
	}

	end := p.Trace.Window().From + p.Trace.Window().Duration
	predicted, wave := map[int]int{}, map[int]int{}
	for number, put := range failed {
		m := p.Trace.(*workload.Trace).Message(number)
		for try := range put {
			at, _, ok := p.Trace.Retry(&m, int(try)+1)
			came, again := made[number][try+1]
			switch due := ok && at < end; {
			case due != again:
				t.Errorf("message %d, put off on try %d: its next try at %v was made: %t", number, try, at, again)
			case due:
				if came != at {
					t.Errorf("try %d of message %d came at %v, its schedule says %v", try+1, number, came, at)
				}
				predicted[int(at/time.Minute)]++
				wave[int(came/time.Minute)]++
			}
		}
	}
	if !maps.Equal(wave, predicted) {
		t.Errorf("by the minute came back %v, predicted were %v", wave, predicted)
	}
	if len(wave) == 0 {
		t.Error("nobody came back")
	}
	text := ""
	for _, minute := range slices.Sorted(maps.Keys(wave)) {
		text += fmt.Sprintf(" %d:%02d %d", minute/60, minute%60, wave[minute])
	}
	t.Logf("%d recipients of %d messages were put off; tries that came back, by virtual minute:%s; %+v", put, len(failed), text, run.End)
}
