package results

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// hlogWindow is how long a second of the log stays open for samples that were
// recorded late. One that comes later still is counted in the oldest open
// second.
const hlogWindow = 60 // seconds

// WriteHlog writes the recording's response times as an HdrHistogram log,
// version 1.3 (Java HdrHistogram, class HistogramLogWriter): a line for every
// second, counted by when ops ended, and tag path.outcome.phase, where phase is
// "fault-ID" while that fault's window is open. Values are in nanoseconds and
// the third column in milliseconds, which is what HistogramLogProcessor
// expects unless it is told otherwise; times are seconds since the anchor.
// Latencies beyond ten minutes count as ten minutes.
func WriteHlog(w io.Writer, r *Reader) error {
	t, err := readTimeline(r)
	if err != nil {
		return err
	}
	h := hlog{
		w: bufio.NewWriter(w),
		// Microseconds stay distinct: the first buckets are 512 ns wide.
		histogram: hdrhistogram.New(1000, maxLatencyUS*1000, 3),
		open:      map[hlogKey][]int64{},
	}
	h.header(r.manifest.Anchor)
	for s, err := range r.Samples() {
		if err != nil {
			return err
		}
		end := s.Intended + s.Response()
		second := max(h.oldest, int64(end/time.Second))
		if second-hlogWindow > h.oldest {
			h.flush(second - hlogWindow)
		}
		key := hlogKey{second, hlogTag(s.Operation.Path().String(), s.Outcome.String(), t.phaseAt(end))}
		h.open[key] = append(h.open[key], max(0, s.Response().Microseconds()))
	}
	for key := range h.open {
		h.oldest = max(h.oldest, key.second)
	}
	h.flush(h.oldest + 1)
	if h.err != nil {
		return h.err
	}
	return h.w.Flush()
}

type hlog struct {
	w         *bufio.Writer
	histogram *hdrhistogram.Histogram // used for one line after the other: it is large
	open      map[hlogKey][]int64     // latencies in microseconds
	oldest    int64                   // seconds before it are written
	err       error
}

type hlogKey struct {
	second int64
	tag    string
}

// hlogTag joins the parts of a tag. A tag ends at a comma and may hold no
// white space; a fault's id may.
func hlogTag(parts ...string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == ',' || r == 0x7f {
			return '_'
		}
		return r
	}, strings.Join(parts, "."))
}

// header writes the comments and the legend. The library's writer would cut
// the start time to whole seconds.
func (h *hlog) header(anchor time.Time) {
	ms := anchor.UnixMilli()
	seconds := fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
	fmt.Fprintf(h.w, "#[Response times by path.outcome.phase, in nanoseconds]\n")
	fmt.Fprintf(h.w, "#[Histogram log format version 1.3]\n")
	fmt.Fprintf(h.w, "#[BaseTime: %s (seconds since epoch)]\n", seconds)
	fmt.Fprintf(h.w, "#[StartTime: %s (seconds since epoch), %s]\n", seconds, anchor.UTC().Format("2006-01-02T15:04:05.000Z"))
	fmt.Fprintf(h.w, "%s\n", `"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"`)
}

// flush writes the lines of the seconds before the given one.
func (h *hlog) flush(before int64) {
	h.oldest = before
	keys := slices.SortedFunc(maps.Keys(h.open), func(a, b hlogKey) int {
		return cmp.Or(cmp.Compare(a.second, b.second), cmp.Compare(a.tag, b.tag))
	})
	for _, key := range keys {
		if key.second < before {
			h.line(key, h.open[key])
			delete(h.open, key)
		}
	}
}

func (h *hlog) line(key hlogKey, latencies []int64) {
	if h.err != nil {
		return
	}
	h.histogram.Reset()
	longest := slices.Max(latencies)
	for _, us := range latencies {
		if err := h.histogram.RecordValue(min(us, maxLatencyUS) * 1000); err != nil {
			h.err = err
			return
		}
	}
	payload, err := h.histogram.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		h.err = fmt.Errorf("encode histogram of second %d, %s: %w", key.second, key.tag, err)
		return
	}
	fmt.Fprintf(h.w, "Tag=%s,%d.000,1.000,%d.%03d,%s\n", key.tag, key.second, longest/1000, longest%1000, payload)
}
