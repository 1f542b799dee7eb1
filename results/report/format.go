package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mailbench/mailbench/results"
)

// none stands where there is nothing to show.
const none = "-"

// count writes n with a comma between thousands.
func count(n int64) string {
	digits, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		digits, sign = digits[1:], "-"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// micros writes microseconds as a duration of three significant digits: 950 µs,
// 1.23 ms, 12.3 s; whole seconds from 100 s on.
func micros(us int64) string {
	if us < 0 {
		return "-" + micros(-us)
	}
	unit, name := int64(1), "µs"
	switch {
	case us >= 999_500:
		unit, name = 1_000_000, "s"
	case us >= 1000:
		unit, name = 1000, "ms"
	default:
		return fmt.Sprintf("%d µs", us)
	}
	// As many digits behind the point as leave three in all, after rounding.
	for digits, scale := 2, int64(100); digits > 0; digits, scale = digits-1, scale/10 {
		step := unit / scale
		if rounded := (us + step/2) / step; rounded < 1000 {
			return fmt.Sprintf("%d.%0*d %s", rounded/scale, digits, rounded%scale, name)
		}
	}
	return count((us+unit/2)/unit) + " " + name
}

func microsOr(us *int64) string {
	if us == nil {
		return none
	}
	return micros(*us)
}

// percent writes a share with one digit behind the point.
func percent(d *results.Decimal) string {
	if d == nil {
		return none
	}
	tenths := (int64(*d) + 500) / 1000
	return fmt.Sprintf("%s.%d %%", count(tenths/10), tenths%10)
}

// percentChange writes a change with its sign and one digit behind the point, none
// from 100 % on and no number from 100,000 % on: +5.3 %.
func percentChange(d *results.Decimal) string {
	if d == nil {
		return none
	}
	sign, n := "+", *d
	if n < 0 {
		sign, n = "-", -n
	}
	if n < 500 { // it would be a zero with a sign
		sign = ""
	}
	switch {
	case n >= 1_000_000_000: // nobody needs to know how much more
		return ">" + sign + "99,999 %"
	case n >= 1_000_000:
		return sign + count((int64(n)+5000)/10_000) + " %"
	}
	return sign + percent(&n)
}

// pointsChange writes a change of a share in percentage points, with two digits
// behind the point: +0.12 pp.
func pointsChange(d *results.Decimal) string {
	if d == nil {
		return none
	}
	sign, n := "+", int64(*d)
	if n < 0 {
		sign, n = "-", -n
	}
	n = (n + 50) / 100
	if n == 0 {
		sign = ""
	}
	return fmt.Sprintf("%s%d.%02d pp", sign, n/100, n%100)
}

// exactPercent writes a share with up to four digits behind the point, none of
// them rounded up: 99.99999 % good is not 100 %.
func exactPercent(d results.Decimal) string {
	s := fmt.Sprintf("%d.%04d", d/10_000, d%10_000)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".") + " %"
}

// share is good/total as a Decimal, rounded down; total is above 0.
func share(good, total int64) results.Decimal {
	whole := good / total
	rest := good % total
	return results.Decimal(whole*1_000_000 + rest*1_000_000/total)
}

// tenth writes a Decimal with one digit behind the point.
func tenth(d *results.Decimal) string {
	if d == nil {
		return none
	}
	tenths := (int64(*d) + 50_000) / 100_000
	return fmt.Sprintf("%s.%d", count(tenths/10), tenths%10)
}
