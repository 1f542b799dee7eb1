// Package compare tells whether a candidate is worse than its base, from what was
// recorded of both: latencies in interleaved pairs, counters of a probe, and what
// faults cost. It is pure: no files, no clock, and the same verdict from the same
// numbers and seed.
//
// Three parts, the strongest evidence first:
//
//   - Counters are exact. One scan or round trip more is a regression.
//   - Faults are repetitions that are independent of each other. A lost write is
//     DataLoss; outages and bad ops are compared by ranks.
//   - Latencies are noisy. A base and a candidate, A and B, are recorded on one
//     machine in pairs of adjacent segments, A B, B A, A B, …
//
// # Verdicts
//
// A regression is both significant (its p-value, adjusted for the number of
// comparisons, is at most Alpha) and large (the estimate reaches the statistic's
// Effect). Significance alone is not enough, because with enough data any
// difference is significant; size alone is not, because chance has sizes, too.
// An improvement is the same with the other sign. Without either the verdict is
// no_difference only if the interval lies within the Effect on both sides: two
// one-sided tests, each at (1-Confidence)/2. All else is inconclusive, and never
// passes. Since all comparisons must be no_difference or better for the whole to
// pass, the chance of a wrong pass needs no correction for their number (the
// intersection-union principle, R. L. Berger 1982).
//
// # Latencies
//
// A statistic is taken of all segments of a side together: a quantile, good ops a
// second, the share of bad ops. Ratios are compared by their logarithm, shares by
// their difference. A quantile is compared only if LeastBeyond independent ops
// lie beyond it on each side; how many are independent is n·q(1-q)/v, where v is
// the variance of the share beyond q as blocks find it.
//
// Its standard error is the largest of three:
//
//   - over pairs: the statistic's standard deviation over Resamples draws of n
//     pairs out of n, times sqrt(n/(n-1)). The pair is the unit of independence,
//     and its segments stay whole, so that nothing is assumed of how ops depend
//     on each other inside;
//   - within segments: the circular block bootstrap (D. N. Politis and J. P.
//     Romano, 1992) of the share of ops beyond the quantile, in its closed form,
//     with the block length of Politis and White (2004, corrected with Patton
//     2009), turned into an error of the quantile after Woodruff (1952). It keeps
//     few pairs that happen to agree from claiming too much;
//   - beyond a common limit: half the interval of shifts for which the shares of
//     ops beyond one limit for both sides do not differ over pairs (Student's
//     t). Where a quantile lies between two regimes, such as calm and stalled,
//     only this one holds.
//
// Blocks are not drawn inside of drawn pairs: differences between pairs hold the
// error within segments already, and drawing both counts it twice (A. C. Davison
// and D. V. Hinkley, Bootstrap Methods and their Application, 1997, on
// hierarchical data).
//
// Interval and p-value are those of Student's t with n-1 degrees of freedom for n
// pairs. The p-value is not below that of the third test for no shift, nor below
// 2^(1-n), which is all that n pairs can say without assumptions: FewestPairs.
// The interval is not narrower than that of the third test. P-values are adjusted
// after Holm (1979). docs/decisions/0010 has the coverage of this interval and of
// those it was chosen among.
//
// The minimum detectable effect is, on the scale of the test, the larger of the
// effect and t(level/2)·se, plus t(1-power)·se, at the level of Bonferroni, which
// is the strictest that Holm asks for.
//
// Latencies are counted in buckets of 0.1 % or a microsecond, whichever is wider,
// and quantiles are interpolated inside: an estimate is within 0.1 % of the exact
// one, or within a microsecond.
//
// That a comparison needs intervals over repeated runs, medians and quantiles
// rather than means, and no assumption of normal latencies is from T. Hoefler and
// R. Belli, Scientific benchmarking of parallel computing systems, 2015.
//
// # How much to record
//
// 30 pairs of 20 seconds with 500 ops a second on each of four paths catch a p99
// that is 10 % longer at least 95 times in a hundred, with Effect 5 % and Alpha
// 1 %, if latencies are log-normal with an autocorrelation of 0.9 from one op to
// the next, on a machine that drifts, or Pareto with alpha 2 and independent. If
// they are Pareto with an autocorrelation of 0.9, the same data find 21 %, and
// 10 % takes 100 pairs. Whatever was recorded, the minimum detectable effect says
// what it could have found; pilot with 13 pairs (FewestPairs) and look.
//
// Equals pass with the same data where such a p99 is caught: of 40 simulations of
// a path, 39 log-normal and 37 Pareto ones, and the rest was inconclusive. Where
// 10 % cannot be found, equals do not pass either: state a larger effect for that
// quantile, make it optional, or record more.
//
// # Faults
//
// Repetitions of a kind are compared by the exact distribution of the rank sum
// (Wilcoxon; Mann and Whitney), ties included. The shift is the median of all
// differences between a repetition of the candidate and one of the base (Hodges
// and Lehmann), with Lehmann's interval (1963). With so few repetitions as faults
// have, the smallest p-value there can be is 2/C(a+b, b): 0.1 for 3 against 3,
// 0.008 for 5 against 5. FewestRepetitions says how many it takes at least.
//
// Each part keeps the chance of a false alarm below its own Alpha.
package compare
