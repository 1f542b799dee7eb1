package results

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// exact is the quantile by its definition.
func exact(sorted []int64, permille int) int64 {
	return sorted[(len(sorted)*permille+999)/1000-1]
}

func TestQuantilesAreThoseOfASort(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	failover := make([]int64, 0, 1_000_000) // 700 of a million in a stall of 5 s
	for i := range cap(failover) {
		us := 500 + rnd.Int64N(8600)
		if i < 700 {
			us = rnd.Int64N(5_000_000)
		}
		failover = append(failover, us)
	}
	overloaded := make([]int64, 200_000)
	for i := range overloaded {
		overloaded[i] = rnd.Int64N(30_000_000)
	}
	for name, values := range map[string][]int64{
		"failover":                 failover,
		"overloaded":               overloaded,
		"as many as are listed":    slices.Clone(failover[:countedUS-1]),
		"one more":                 slices.Clone(failover[:countedUS]),
		"about what is counted":    slices.Repeat([]int64{countedUS - 1, countedUS, countedUS + 1}, 30_000),
		"the longest that is told": {1, maxLatencyUS - 1, maxLatencyUS},
		"one":                      {123_457},
		"two":                      {1, 599_999_999},
		"zeros":                    {0, 0, 0},
		"a hundred and sixty":      slices.Repeat([]int64{1, 2, 3, 4}, 40),
	} {
		var l latencies
		for _, us := range values {
			l.add(time.Duration(us) * time.Microsecond)
		}
		slices.Sort(values)
		for _, permille := range []int{1, 500, 900, 990, 999, 1000} {
			if got, want := l.quantile(int64(permille)), exact(values, permille); got != want {
				t.Errorf("%s: quantile %d‰ is %d, a sort says %d", name, permille, got, want)
			}
		}
		if l.max != values[len(values)-1] {
			t.Errorf("%s: max is %d", name, l.max)
		}
	}
}

func TestBucketsFollowEachOther(t *testing.T) {
	last := -1
	for us := int64(0); us < 1<<15; us++ {
		b := logBucket(us, subBucketBits)
		if b != last && b != last+1 {
			t.Fatalf("%d µs is in bucket %d, the one before in %d", us, b, last)
		}
		if b != last && us > 0 && logBucketEnd(last, subBucketBits) != us-1 {
			t.Fatalf("bucket %d ends with %d µs, the next one starts with %d", last, logBucketEnd(last, subBucketBits), us)
		}
		last = b
	}
}

func TestLatenciesOutOfRange(t *testing.T) {
	var l latencies
	if l.summary() != nil {
		t.Error("no latencies have a summary")
	}
	l.add(-time.Hour)
	l.add(10 * time.Minute)
	l.add(11 * time.Minute)
	l.add(time.Hour)
	want := Latency{P50: 600_000_000, P90: 3_600_000_000, P99: 3_600_000_000, P999: 3_600_000_000, Max: 3_600_000_000, Overflow: 2}
	if got := *l.summary(); got != want {
		t.Errorf("summary is %+v, want %+v", got, want)
	}
}

func TestDecimals(t *testing.T) {
	for _, row := range []struct {
		a, scale, b int64
		want        string
	}{
		{1, 1, 3, "0.333333"},
		{2, 1, 3, "0.666667"},
		{0, 1, 9, "0.000000"},
		{1, 1, 2_000_000, "0.000001"}, // half a millionth goes up
		{5, million, 2, "2500000.000000"},
		{1 << 62, million, 1, "9223372036854.775807"}, // more than fits
		{1, 1, 0, "null"},
	} {
		b, err := json.Marshal(mulRatio(row.a, row.scale, row.b))
		if err != nil || string(b) != row.want {
			t.Errorf("%d·%d/%d is %s, %v; want %s", row.a, row.scale, row.b, b, err, row.want)
		}
		if row.want == "null" {
			continue
		}
		var d Decimal
		if err := json.Unmarshal(b, &d); err != nil || d.String() != row.want {
			t.Errorf("%s came back as %s, %v", b, d, err)
		}
	}
	if s := Decimal(-1_500_000).String(); s != "-1.500000" {
		t.Errorf("minus one and a half is %s", s)
	}
	var d Decimal
	if json.Unmarshal([]byte("0.1234567"), &d) == nil || json.Unmarshal([]byte("1e3"), &d) == nil {
		t.Error("a number that is no Decimal was taken")
	}
	if err := json.Unmarshal([]byte("7"), &d); err != nil || d != 7*million {
		t.Errorf("7 is %s, %v", d, err)
	}
}
