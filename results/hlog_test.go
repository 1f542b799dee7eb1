package results

import (
	"bytes"
	"encoding/base64"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/klauspost/compress/zlib"

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
		op(7, reference.Route, 1, sql1, 700*sec, -ms),
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
	for _, footer := range []string{
		"#[3 ops were recorded too late for their second, or ended before the start, and are counted in a later one]\n",
		"#[1 ops took longer than ten minutes and are counted as ten minutes]\n",
		"#[1 ops ended before they were intended, by a broken clock, and are counted as zero]\n",
	} {
		if !strings.Contains(log, footer) {
			t.Errorf("no line %s in\n%s", footer, log)
		}
	}
	if got, want := strings.Join(starts, " "), "40.000 41.000 100.000 690.000 699.000 750.000"; got != want || n != 7 {
		t.Errorf("%d ops in seconds %s, want 7 in %s", n, got, want)
	}
}

// inflated is what an encoded histogram holds.
func inflated(t testing.TB, encoded []byte) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(b[8:]))
	if err != nil {
		t.Fatal(err)
	}
	b, err = io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the encoder makes is what the library makes of the same latencies, and its
// quantiles are those of a sort, to three digits and rounded up.
func TestHlogEncodesAsTheLibraryDoes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	some := func(n int, most int64) []int64 {
		values := make([]int64, n)
		for i := range values {
			values[i] = rnd.Int64N(most)
		}
		return values
	}
	e := newHlogEncoder()
	for sentence, values := range map[string][]int64{
		"one of none":               {0},
		"the shortest ones":         {0, 1, 2, 3},
		"a bucket is left out":      {1, 3},
		"many in a bucket":          slices.Repeat([]int64{700, 1_000_001}, 1000),
		"some of a second":          some(50, 10_000),
		"of all lengths":            some(5000, maxLatencyUS),
		"the longest":               {maxLatencyUS},
		"longer than is told apart": {5, maxLatencyUS + 1, 3 * maxLatencyUS},
	} {
		slices.Sort(values)
		want := hdrhistogram.New(hlogLowest, hlogHighest, 3)
		for _, us := range values {
			if err := want.RecordValue(min(us, maxLatencyUS) * 1000); err != nil {
				t.Fatal(err)
			}
		}
		encoded, err := want.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			t.Fatal(err)
		}
		ours := e.encode(values)
		if !bytes.Equal(inflated(t, ours), inflated(t, encoded)) {
			t.Errorf("%s: it is not what the library encodes", sentence)
		}
		got, err := hdrhistogram.Decode(ours)
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
			continue
		}
		for _, permille := range []int{1, 500, 900, 990, 999, 1000} {
			exactly := min(exact(values, permille), maxLatencyUS) * 1000
			if off := got.ValueAtPercentile(float64(permille)/10) - exactly; off < 0 || off > max(1<<hlogUnitBits, exactly/1000) {
				t.Errorf("%s: quantile %d‰ is %d ns more than %d ns", sentence, permille, off, exactly)
			}
		}
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
