package scenarios

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/results"
	"github.com/mailbench/mailbench/results/compare"
	"github.com/mailbench/mailbench/results/gate"
	"github.com/mailbench/mailbench/results/report"
)

// TestOneMoreSelect holds the self-test's change to the procedure as it stands.
func TestOneMoreSelect(t *testing.T) {
	name, text, err := oneMoreSelect()
	if err != nil {
		t.Fatal(err)
	}
	own, err := schema.Text(name)
	if err != nil {
		t.Fatal(err)
	}
	if more := strings.Count(text, "SELECT") - strings.Count(own, "SELECT"); more != 1 {
		t.Errorf("it has %d SELECT more, want 1", more)
	}
	if err := schema.Check(map[string]string{name: text}); err != nil {
		t.Error(err)
	}
}

// TestTheGateFailsOnRealClusters loads pairs of real clusters in turn where one of
// them costs more, or loses a write, and where none does. Latencies need more time
// than a test has: mailbench gate self-test takes it.
func TestTheGateFailsOnRealClusters(t *testing.T) {
	clustertest.Alone(t)
	for _, test := range selfTests {
		if test.latency && test.by != NoEvidence {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			var progress bytes.Buffer
			dir := filepath.Join(t.TempDir(), "pairs")
			c := Conductor{Dir: dir, Version: "test", Progress: &progress, Image: os.Getenv("MAILBENCH_IMAGE")}
			test.latency = false // one pair
			err := c.selfTest(t.Context(), test, 0, 1, 5*time.Second, time.Second, func(SelfTested) error { return nil })
			if err != nil {
				t.Fatalf("%v\n%s", err, &progress)
			}
			r, err := report.Interleaved(dir, gate.InterleavedOptions())
			if err != nil {
				t.Fatal(err)
			}
			wrong, right := 0, 0 // counters that are worse
			for _, counter := range r.Counters {
				switch {
				case counter.Verdict != compare.Regression:
				case strings.HasPrefix(counter.Decision, "greylist/"):
					right++
				default:
					wrong++
				}
			}
			if wrong > 0 || (right > 0) != (test.by == ByCounters) {
				t.Errorf("%d counters of greylisting and %d others are worse", right, wrong)
			}
			if (r.LostWrites == 1) != (test.by == ByLedger) {
				t.Errorf("%d writes are lost (%q)", r.LostWrites, r.Reasons)
			}
			switch v := r.ExitVerdict(); {
			case test.want == results.Pass && v != results.Inconclusive: // of so few pairs
				t.Errorf("the verdict of two equals is %s", v)
			case test.want != results.Pass && v != test.want:
				t.Errorf("the verdict is %s, want %s", v, test.want)
			}
			if members, err := report.Members(dir); err != nil || len(members) != 2 {
				t.Errorf("the series has %v (%v), want base and candidate", members, err)
			}
			if strings.Contains(progress.String(), "could not") {
				t.Errorf("something failed:\n%s", &progress)
			}
		})
	}
}
