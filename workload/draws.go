package workload

import "math/bits"

// stream keeps draws for different purposes apart. The numbers are part of
// the trace: changing one changes every trace.
type stream uint64

const (
	streamAccount       stream = 1  // an account's name, backend and preferences
	streamCorrespondent stream = 2  // an account's regular correspondents
	streamDomain        stream = 3  // the mail server of a peer's domain
	streamBot           stream = 4  // the address of a spamming machine
	streamTriplet       stream = 5  // when a known triplet was first and last seen
	streamArrival       stream = 6  // when within its minute a message comes
	streamMessage       stream = 7  // what a message is
	streamLogin         stream = 8  // when within its minute a login comes
	streamAction        stream = 9  // what a webmail action does
	streamClient        stream = 10 // which of our machines serves it
	streamJobArrival    stream = 11 // when within its minute a job on an account comes
	streamJob           stream = 12 // what a job does
	streamSchedule      stream = 13 // which program a peer's domain runs
	streamBotSchedule   stream = 14 // whether a spamming machine comes back
	streamRetry         stream = 15 // when the tries of a message come
	streamTryAddress    stream = 16 // which host of a sender makes a try
	streamBurst         stream = 17 // in which minutes mail comes in bursts
	streamPastClient    stream = 18 // when a client of the past earned its last credit
	streamDay           stream = 19 // the seed of another day
)

// increment is what splitmix64 adds: 2^64 divided by the golden ratio, made odd.
const increment = 0x9e3779b97f4a7c15

// mix is the output function of splitmix64, a bijection on 64 bits (Steele,
// Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014;
// constants of Stafford's variant 13).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// draws is a splitmix64 sequence that belongs to one thing of one stream, so
// that thing n is known without those before it.
type draws uint64

func newDraws(seed uint64, s stream, n uint64) draws {
	return draws(mix(mix(seed+uint64(s)*increment) + n*increment))
}

func (d *draws) next() uint64 {
	*d += increment
	return mix(uint64(*d))
}

// below draws from 0 to n-1. It takes the high half of a product, which is
// uneven by less than n in 2^64.
func (d *draws) below(n int) int {
	high, _ := bits.Mul64(d.next(), uint64(n))
	return int(high)
}

// chance is true for ppm of a million draws.
func (d *draws) chance(ppm int64) bool { return int64(d.below(million)) < ppm }

const million = 1_000_000

// table is a discrete distribution: element i is the sum of the weights of 0
// to i.
type table []uint64

// newTable sums weights, which must not be negative.
func newTable(weights []int64) table {
	t := make(table, len(weights))
	var sum uint64
	for i, w := range weights {
		sum += uint64(w)
		t[i] = sum
	}
	return t
}

// zipf gives rank r, from 0, a weight in proportion to 1/(r+1+offset): Zipf's
// law with Mandelbrot's offset, which flattens the first ranks. Weights are
// whole multiples of 2^-40.
func zipf(ranks int, offset int64) table {
	t := make(table, ranks)
	var sum uint64
	for r := range t {
		sum += 1 << 40 / uint64(int64(r)+1+offset)
		t[r] = sum
	}
	return t
}

// pick draws an index with the table's weights.
func (t table) pick(d *draws) int {
	x, _ := bits.Mul64(d.next(), t[len(t)-1])
	low, high := 0, len(t)-1
	for low < high { // the first element above x
		middle := int(uint(low+high) >> 1)
		if t[middle] > x {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}
