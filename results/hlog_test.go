package results

import (
	"bytes"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

// writeHlog writes the log of a whole recording.
func writeHlog(w io.Writer, r *Reader) error {
	h, err := NewHlog(w, r)
	if err != nil {
		return err
	}
	if err := r.Feed(h.Record); err != nil {
		return err
	}
	return h.Close()
}

func hlogOf(t testing.TB, dir string) string {
	t.Helper()
	var b bytes.Buffer
	if err := writeHlog(&b, open(t, dir)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHlogComesBackThroughTheLibrary(t *testing.T) {
	dir := t.TempDir()
	twoKills(t, dir, testManifest(t), completed)
	log := hlogOf(t, dir)

	counts := map[string]int64{}
	longest := map[string]int64{}
	first := map[string]int64{}
	r := hdrhistogram.NewHistogramLogReader(strings.NewReader(log))
	var lastStart int64
	for {
		h, err := r.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		counts[h.Tag()] += h.TotalCount()
		longest[h.Tag()] = max(longest[h.Tag()], h.Max())
		if first[h.Tag()] == 0 {
			first[h.Tag()] = h.StartTimeMs()
		}
		if h.StartTimeMs() < lastStart {
			t.Errorf("second %d comes after %d", h.StartTimeMs(), lastStart)
		}
		lastStart = h.StartTimeMs()
		if length := h.EndTimeMs() - h.StartTimeMs(); length < 999 || length > 1001 {
			t.Errorf("an interval of %d ms", length)
		}
	}
	for tag, want := range map[string]int64{
		"routing.ok.measure":         6000 - 500 - 1200,
		"routing.failed.fault-f1":    150 + 75,
		"routing.retried.fault-f1":   75,
		"greylist.degraded.fault-f2": 30,
		"preferences.ok.fault-f1":    50 + 5,
	} {
		if counts[tag] != want {
			t.Errorf("%s: %d ops, want %d", tag, counts[tag], want)
		}
	}
	var total int64
	for _, n := range counts {
		total += n
	}
	if total != 12660 {
		t.Errorf("%d ops in all, want 12660", total)
	}
	if got := float64(longest["routing.ok.measure"]) / 2e9; math.Abs(got-1) > 0.001 {
		t.Errorf("the longest op is %g times 2 s", got)
	}
	injected := testManifest(t).Anchor.Add(10 * sec).UnixMilli()
	if got := first["routing.failed.fault-f1"]; got < injected-1 || got > injected {
		t.Errorf("the first failures are at %d ms, want %d", got, injected)
	}
}

// The rules of Java's HistogramLogReader: comments, then a legend in quotes,
// then lines with an optional tag and decimals of three digits.
func TestHlogFormat(t *testing.T) {
	dir := t.TempDir()
	m := testManifest(t)
	m.Faults[0].ID = "a, b"
	twoKills(t, dir, m, completed)
	rewrite(t, dir, EventsFile, `"injected","fault":"f1"`, `"injected","fault":"a, b"`)
	lines := strings.Split(strings.TrimSuffix(hlogOf(t, dir), "\n"), "\n")
	head := []string{
		"#[Response times by path.outcome.phase, in nanoseconds]",
		"#[Histogram log format version 1.3]",
		"#[BaseTime: 1772366400.250 (seconds since epoch)]",
		"#[StartTime: 1772366400.250 (seconds since epoch), 2026-03-01T12:00:00.250Z]",
		`"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"`,
	}
	if got := strings.Join(lines[:len(head)], "\n"); got != strings.Join(head, "\n") {
		t.Errorf("head is\n%s", got)
	}
	format := regexp.MustCompile(`^Tag=[a-z]+\.[a-z]+\.[a-z0-9_-]+,\d+\.000,1\.000,\d+\.\d{3},HIST[A-Za-z0-9+/=]+$`)
	sawSlow, sawFault := false, false
	for _, line := range lines[len(head):] {
		if !format.MatchString(line) {
			t.Fatalf("bad line: %s", line)
		}
		sawSlow = sawSlow || strings.HasPrefix(line, "Tag=routing.ok.fault-a__b,52.000,1.000,2000.000,")
		sawFault = sawFault || strings.HasPrefix(line, "Tag=greylist.failed.fault-a__b,")
	}
	if !sawSlow || !sawFault {
		t.Errorf("slow op %t, fault %t", sawSlow, sawFault)
	}
}

func TestHlogTakesLateAndLongSamples(t *testing.T) {
	dir := t.TempDir()
	rec, err := Create(dir, testManifest(t), Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []workload.Sample{
		op(1, reference.Route, 1, sql1, 100*sec, ms),
		op(2, reference.Route, 1, sql1, 41*sec, ms),              // late, but its second is still open
		op(3, reference.Route, 1, sql1, 1*sec, ms),               // too late for its second
		op(4, reference.Route, 1, sql1, -3*sec, ms),              // before the anchor
		op(5, reference.Route, 1, sql1, 90*sec, 11*time.Minute),  // longer than is told apart
		op(6, reference.Route, 1, sql1, 100*sec, 90*time.Second), // ends in second 190
	} {
		rec.Record(&s)
	}
	if err := rec.Close(completed); err != nil {
		t.Fatal(err)
	}
	var starts []string
	var n int64
	log := hlogOf(t, dir)
	for _, line := range strings.Split(log, "\n") {
		if f := strings.Split(line, ","); strings.HasPrefix(line, "Tag=") {
			starts = append(starts, f[1])
		}
	}
	r := hdrhistogram.NewHistogramLogReader(strings.NewReader(log))
	for h, err := r.NextIntervalHistogram(); h != nil || err != nil; h, err = r.NextIntervalHistogram() {
		if err != nil {
			t.Fatal(err)
		}
		n += h.TotalCount()
	}
	if got, want := strings.Join(starts, " "), "40.000 41.000 100.000 690.000 750.000"; got != want || n != 6 {
		t.Errorf("%d ops in seconds %s, want 6 in %s", n, got, want)
	}
}

func BenchmarkHlog(b *testing.B) {
	dir := b.TempDir()
	twoKills(b, dir, testManifest(b), completed)
	for b.Loop() {
		if err := writeHlog(io.Discard, open(b, dir)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N)/60, "ms/second-of-run")
}
