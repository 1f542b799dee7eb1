package results

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zlib"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

// hlogWindow is how long a second of the log stays open for samples that were
// recorded late. One that comes later still is counted in the oldest open
// second.
const hlogWindow = 60 // seconds

// Hlog writes a recording's response times as an HdrHistogram log,
// version 1.3 (Java HdrHistogram, class HistogramLogWriter): a line for every
// second, counted by when ops ended, and tag path.outcome.phase, where phase is
// "fault-ID" while that fault's window is open. Values are in nanoseconds and
// the third column in milliseconds, which is what HistogramLogProcessor
// expects unless it is told otherwise; times are seconds since the anchor.
// Latencies beyond ten minutes count as ten minutes.
type Hlog struct {
	w        *bufio.Writer
	timeline *timeline
	open     map[hlogKey][]int64 // latencies in microseconds
	spare    [][]int64           // of seconds that are written
	oldest   int64               // seconds before it are written
	tags     map[hlogParts]int   // index in names
	names    []string            // each once
	encoder  *hlogEncoder
	err      error

	late, overflow, negative int64
}

type hlogKey struct {
	second int64
	tag    int
}

type hlogParts struct {
	path    reference.Path
	outcome workload.Outcome
	phase   int
}

// NewHlog begins the log of a recording.
func NewHlog(w io.Writer, r *Reader) (*Hlog, error) {
	t, err := readTimeline(r)
	if err != nil {
		return nil, err
	}
	h := &Hlog{
		w: bufio.NewWriter(w), timeline: t, open: map[hlogKey][]int64{}, tags: map[hlogParts]int{}, encoder: newHlogEncoder(),
	}
	h.header(r.manifest.Anchor)
	return h, nil
}

// Record counts an op. Ops come in the order of the recording.
func (h *Hlog) Record(s *workload.Sample) {
	response := s.Response()
	end := s.Intended + response
	second := int64(end / time.Second)
	if second < h.oldest || end < 0 {
		h.late++
		second = max(second, h.oldest)
	}
	if second-hlogWindow > h.oldest {
		h.flush(second - hlogWindow)
	}
	key := hlogKey{second, h.tag(hlogParts{s.Operation.Path(), s.Outcome, h.timeline.phaseAt(end)})}
	latencies := h.open[key]
	if n := len(h.spare); latencies == nil && n > 0 {
		latencies, h.spare = h.spare[n-1], h.spare[:n-1]
	}
	us := response.Microseconds()
	if us < 0 {
		h.negative++
	}
	if us > maxLatencyUS {
		h.overflow++
	}
	h.open[key] = append(latencies, max(0, us))
}

// Close writes what is left, and returns the first error of all.
func (h *Hlog) Close() error {
	for key := range h.open {
		h.oldest = max(h.oldest, key.second)
	}
	h.flush(h.oldest + 1)
	h.footer()
	return cmp.Or(h.err, h.w.Flush())
}

// tag returns the number of a tag. Parts that make the same tag have the same.
func (h *Hlog) tag(parts hlogParts) int {
	if i, known := h.tags[parts]; known {
		return i
	}
	name := hlogTag(parts.path.String(), parts.outcome.String(), h.timeline.phaseName(parts.phase))
	i := slices.Index(h.names, name)
	if i < 0 {
		i = len(h.names)
		h.names = append(h.names, name)
	}
	h.tags[parts] = i
	return i
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
func (h *Hlog) header(anchor time.Time) {
	ms := anchor.UnixMilli()
	seconds := fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
	fmt.Fprintf(h.w, "#[Response times by path.outcome.phase, in nanoseconds]\n")
	fmt.Fprintf(h.w, "#[Histogram log format version 1.3]\n")
	fmt.Fprintf(h.w, "#[BaseTime: %s (seconds since epoch)]\n", seconds)
	fmt.Fprintf(h.w, "#[StartTime: %s (seconds since epoch), %s]\n", seconds, anchor.UTC().Format("2006-01-02T15:04:05.000Z"))
	fmt.Fprintf(h.w, "%s\n", `"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"`)
}

// footer counts what is not told as it was, in comments, where there is any.
func (h *Hlog) footer() {
	for _, c := range []struct {
		n    int64
		what string
	}{
		{h.late, "ops were recorded too late for their second, or ended before the start, and are counted in a later one"},
		{h.overflow, "ops took longer than ten minutes and are counted as ten minutes"},
		{h.negative, "ops ended before they were intended, by a broken clock, and are counted as zero"},
	} {
		if c.n > 0 {
			fmt.Fprintf(h.w, "#[%d %s]\n", c.n, c.what)
		}
	}
}

// flush writes the lines of the seconds before the given one.
func (h *Hlog) flush(before int64) {
	h.oldest = before
	var keys []hlogKey
	for key := range h.open {
		if key.second < before {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b hlogKey) int {
		return cmp.Or(cmp.Compare(a.second, b.second), cmp.Compare(h.names[a.tag], h.names[b.tag]))
	})
	for _, key := range keys {
		latencies := h.open[key]
		delete(h.open, key)
		h.line(key, latencies)
		h.spare = append(h.spare, latencies[:0])
	}
}

func (h *Hlog) line(key hlogKey, latencies []int64) {
	if h.err != nil {
		return
	}
	slices.Sort(latencies)
	longest := latencies[len(latencies)-1]
	_, h.err = fmt.Fprintf(h.w, "Tag=%s,%d.000,1.000,%d.%03d,%s\n",
		h.names[key.tag], key.second, longest/1000, longest%1000, h.encoder.encode(latencies))
}

// hlogLowest and hlogHighest are the range of the log's histograms, in
// nanoseconds. Microseconds stay distinct: the first buckets are 512 ns wide.
const (
	hlogLowest   = 1000
	hlogHighest  = maxLatencyUS * 1000
	hlogUnitBits = 9 // of the first bucket's width: the largest power of two up to hlogLowest

	// subBucketBits make 1024 buckets for each power of two: three digits.
	subBucketBits = 10
)

// hlogEncoder encodes histograms as hdrhistogram-go does, byte for byte but for
// the compression (V2 compressed: HdrHistogram, class AbstractHistogram, method
// encodeIntoCompressedByteBuffer). The library makes a new compressor for each,
// and walks through all of its 30,000 buckets: a day has 300,000 lines.
type hlogEncoder struct {
	raw        []byte
	compressed bytes.Buffer
	zlib       *zlib.Writer
	text       []byte
}

func newHlogEncoder() *hlogEncoder {
	return &hlogEncoder{zlib: zlib.NewWriter(nil)}
}

// Cookies of the format, with the word size of its counts in the second digit.
const (
	hlogCookie           = 0x1c849303 | 0x10
	hlogCompressedCookie = 0x1c849304 | 0x10
	hlogHeaderSize       = 40
)

// encode returns the text of a histogram of latencies in microseconds, in order.
// It is valid until the next call.
func (e *hlogEncoder) encode(latencies []int64) []byte {
	e.raw = append(e.raw[:0], make([]byte, hlogHeaderSize)...)
	next := 0 // bucket
	for len(latencies) > 0 {
		bucket := hlogBucket(latencies[0])
		n := 1
		for n < len(latencies) && hlogBucket(latencies[n]) == bucket {
			n++
		}
		switch empty := bucket - next; {
		case empty == 1:
			e.raw = append(e.raw, 0)
		case empty > 1:
			e.raw = binary.AppendVarint(e.raw, -int64(empty))
		}
		e.raw = binary.AppendVarint(e.raw, int64(n))
		latencies, next = latencies[n:], bucket+1
	}
	big := binary.BigEndian
	big.PutUint32(e.raw[0:], hlogCookie)
	big.PutUint32(e.raw[4:], uint32(len(e.raw)-hlogHeaderSize))
	big.PutUint32(e.raw[8:], 0)  // offset of a normalized index
	big.PutUint32(e.raw[12:], 3) // digits
	big.PutUint64(e.raw[16:], hlogLowest)
	big.PutUint64(e.raw[24:], uint64(hlogHighest))
	big.PutUint64(e.raw[32:], math.Float64bits(1)) // of integers to values
	e.compressed.Reset()
	e.compressed.Write(make([]byte, 8))
	e.zlib.Reset(&e.compressed)
	_, _ = e.zlib.Write(e.raw) // a buffer takes everything
	_ = e.zlib.Close()
	b := e.compressed.Bytes()
	big.PutUint32(b[0:], hlogCompressedCookie)
	big.PutUint32(b[4:], uint32(len(b)-8))
	e.text = base64.StdEncoding.AppendEncode(e.text[:0], b)
	return e.text
}

func hlogBucket(us int64) int {
	return logBucket(min(us, maxLatencyUS)*1000>>hlogUnitBits, subBucketBits)
}
