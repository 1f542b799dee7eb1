package results

import (
	"iter"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxLatency is the longest latency that is told apart from longer ones.
const MaxLatency = 10 * time.Minute

const maxLatencyUS = int64(MaxLatency / time.Microsecond)

// latencies keeps latencies in whole microseconds, so that their quantiles are
// exact. What a run has most of, those below countedUS, are counted one by one,
// which takes 256 KiB however many there are; each that took longer takes 4
// bytes. As long as there are so few that a list of them all takes less, they
// are kept as one. No run has 2^32 ops.
type latencies struct {
	counts   []uint32 // by microsecond; nil while there are few
	list     []uint32 // all that are not in counts
	total    int64
	overflow int64 // longer than maxLatencyUS, and not kept
	max      int64
}

const countedUS = 1 << 16

// add counts one latency. One below zero, which only clocks that disagree can
// make, counts as zero.
func (l *latencies) add(d time.Duration) {
	us := max(0, d.Microseconds())
	l.total++
	l.max = max(l.max, us)
	switch {
	case us > maxLatencyUS:
		l.overflow++
	case l.counts != nil && us < countedUS:
		l.counts[us]++
	default:
		l.list = append(l.list, uint32(us))
		if l.counts == nil && len(l.list) == countedUS {
			l.count()
		}
	}
}

// count moves what can be counted out of the list.
func (l *latencies) count() {
	l.counts = make([]uint32, countedUS)
	longer := l.list[:0]
	for _, us := range l.list {
		if us < countedUS {
			l.counts[us]++
		} else {
			longer = append(longer, us)
		}
	}
	l.list = slices.Clone(longer)
}

// all yields the latencies that are kept, in order, and how often there is each,
// perhaps in several parts.
func (l *latencies) all() iter.Seq2[int64, int64] {
	return func(yield func(us, n int64) bool) {
		for us, n := range l.counts {
			if n > 0 && !yield(int64(us), int64(n)) {
				return
			}
		}
		slices.Sort(l.list)
		for _, us := range l.list {
			if !yield(int64(us), 1) {
				return
			}
		}
	}
}

// quantile returns the smallest latency that permille thousandths of all
// latencies do not exceed.
func (l *latencies) quantile(permille int64) int64 {
	rank := (l.total*permille + 999) / 1000
	var seen int64
	for us, n := range l.all() {
		if seen += n; seen >= rank {
			return us
		}
	}
	return l.max // among the overflow, or there are none
}

// logBucket numbers the buckets of an HDR histogram that has 2^resolution of
// them for each power of two.
func logBucket(us int64, resolution int) int {
	shift := max(0, bits.Len64(uint64(us))-resolution-1)
	return shift<<resolution + int(us>>shift)
}

func logBucketEnd(bucket, resolution int) int64 {
	shift := max(0, bucket>>resolution-1)
	return (int64(bucket-shift<<resolution)+1)<<shift - 1
}

// summary returns nil when there is nothing to sum up.
func (l *latencies) summary() *Latency {
	if l.total == 0 {
		return nil
	}
	return &Latency{
		P50: l.quantile(500), P90: l.quantile(900), P99: l.quantile(990), P999: l.quantile(999),
		Max: l.max, Overflow: l.overflow,
	}
}

// Decimal is a number in millionths. It is written with all six digits behind
// the point: 12.500000.
type Decimal int64

// ratio returns a/b rounded to the nearest millionth; nil if b is 0.
func ratio(a, b int64) *Decimal { return mulRatio(a, 1, b) }

// mulRatio returns a*scale/b rounded to the nearest millionth, and the largest
// Decimal if that does not fit. It returns nil if b is 0. No argument may be
// negative.
func mulRatio(a, scale, b int64) *Decimal {
	if b == 0 {
		return nil
	}
	n := big.NewInt(a)
	n.Mul(n, big.NewInt(scale)).Mul(n, big.NewInt(2_000_000)).Add(n, big.NewInt(b))
	n.Quo(n, new(big.Int).Mul(big.NewInt(b), big.NewInt(2)))
	d := Decimal(1<<63 - 1)
	if n.IsInt64() {
		d = Decimal(n.Int64())
	}
	return &d
}

func (d Decimal) String() string {
	sign, n := "", uint64(d)
	if d < 0 {
		sign, n = "-", -n
	}
	fraction := strconv.FormatUint(1_000_000+n%1_000_000, 10)[1:]
	return sign + strconv.FormatUint(n/1_000_000, 10) + "." + fraction
}

// MarshalJSON writes a number.
func (d Decimal) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalJSON reads a number with at most six digits behind the point.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	whole, fraction, _ := strings.Cut(string(b), ".")
	if len(fraction) > 6 {
		return &strconv.NumError{Func: "Decimal", Num: string(b), Err: strconv.ErrRange}
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 6-len(fraction)), 10, 64)
	*d = Decimal(n)
	return err
}

// Latencies keeps latencies in whole microseconds for their exact quantiles. The zero
// value is empty.
type Latencies struct{ kept latencies }

// Add counts one latency. One below zero counts as zero.
func (l *Latencies) Add(d time.Duration) { l.kept.add(d) }

// Quantile returns the smallest latency, in microseconds, that permille thousandths of
// all do not exceed; 0 if there are none. One above MaxLatency is told as the largest.
func (l *Latencies) Quantile(permille int64) int64 { return l.kept.quantile(permille) }

// Max returns the largest latency in microseconds.
func (l *Latencies) Max() int64 { return l.kept.max }
