package maillog

import (
	"time"
)

// stamp is the date and time that a line begins with, as it is written.
type stamp struct {
	year                            int // 0 where the line names none
	month, day, hour, minute, whole int // whole seconds
	micro                           int
	offset                          int // seconds east of UTC, if zoned
	zoned                           bool
}

// digits reads n decimal digits.
func digits(b []byte, n int) (value int, ok bool) {
	if len(b) < n {
		return 0, false
	}
	for _, c := range b[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		value = value*10 + int(c-'0')
	}
	return value, true
}

// parseStamp reads what syslog (RFC 3164: "Nov  4 14:50:07", RFC 3339, RFC 5424
// with its "<21>1 " before), Exim ("2026-11-24 06:50:00.123 -0800") and
// Net::Server ("2026/11/24-14:48:01") begin a line with. exim says that it was
// Exim's form.
func parseStamp(line []byte) (s stamp, rest []byte, exim, ok bool) {
	rest = line
	if len(rest) > 0 && rest[0] == '<' { // a priority, where a collector kept it
		end := 1
		for end < len(rest) && end < 4 && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		if end == 1 || end == len(rest) || rest[end] != '>' {
			return s, line, false, false
		}
		rest = rest[end+1:]
		if len(rest) > 2 && rest[0] == '1' && rest[1] == ' ' {
			rest = rest[2:]
		}
	}
	if len(rest) < 15 {
		return s, line, false, false
	}
	if rest[0] >= '0' && rest[0] <= '9' {
		return parseISO(rest, line)
	}
	month := monthOf(rest)
	if month == 0 || rest[3] != ' ' || rest[6] != ' ' {
		return s, line, false, false
	}
	s.month = month
	if rest[4] == ' ' {
		s.day = int(rest[5] - '0')
	} else if s.day, ok = digits(rest[4:], 2); !ok {
		return s, line, false, false
	}
	clock := rest[7:]
	// Some write a year: "Nov 24 2026 14:50:07".
	if year, is := digits(clock, 4); is && len(clock) > 4 && clock[4] == ' ' {
		s.year, clock = year, clock[5:]
	}
	rest, ok = s.parseClock(clock)
	return s, rest, false, ok && s.plausible()
}

func parseISO(b, line []byte) (s stamp, rest []byte, exim, ok bool) {
	year, ok1 := digits(b, 4)
	month, ok2 := digits(b[5:], 2)
	day, ok3 := digits(b[8:], 2)
	if !ok1 || !ok2 || !ok3 || b[4] != b[7] || b[4] != '-' && b[4] != '/' {
		return s, line, false, false
	}
	s.year, s.month, s.day = year, month, day
	separator := b[10]
	if separator != 'T' && separator != ' ' && separator != '-' {
		return s, line, false, false
	}
	rest, ok = s.parseClock(b[11:])
	if !ok {
		return s, line, false, false
	}
	zone := rest
	if separator == ' ' && len(zone) > 5 && zone[0] == ' ' && (zone[1] == '+' || zone[1] == '-') {
		zone = zone[1:] // Exim's log_timezone
	}
	switch {
	case len(zone) > 0 && zone[0] == 'Z':
		s.zoned, rest = true, zone[1:]
	case len(zone) >= 5 && (zone[0] == '+' || zone[0] == '-'):
		sign := 1
		if zone[0] == '-' {
			sign = -1
		}
		hours, ok1 := digits(zone[1:], 2)
		after := zone[3:]
		if after[0] == ':' {
			after = after[1:]
		}
		minutes, ok2 := digits(after, 2)
		if ok1 && ok2 && hours < 24 && minutes < 60 {
			s.zoned, s.offset, rest = true, sign*(hours*3600+minutes*60), after[2:]
		}
	}
	return s, rest, separator == ' ', s.plausible()
}

// parseClock reads "14:50:07" and a fraction.
func (s *stamp) parseClock(b []byte) (rest []byte, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return b, false
	}
	var ok1, ok2, ok3 bool
	s.hour, ok1 = digits(b, 2)
	s.minute, ok2 = digits(b[3:], 2)
	s.whole, ok3 = digits(b[6:], 2)
	rest = b[8:]
	if len(rest) > 1 && (rest[0] == '.' || rest[0] == ',') && rest[1] >= '0' && rest[1] <= '9' {
		rest = rest[1:]
		scale := 100_000
		for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			s.micro += int(rest[0]-'0') * scale
			scale /= 10
			rest = rest[1:]
		}
	}
	return rest, ok1 && ok2 && ok3
}

func (s *stamp) plausible() bool {
	return s.month >= 1 && s.month <= 12 && s.day >= 1 && s.day <= 31 && s.hour < 24 && s.minute < 60 && s.whole <= 60 &&
		(s.year == 0 || s.year >= 1970 && s.year < 2200)
}

func monthOf(b []byte) int {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for i := 0; i < len(names); i += 3 {
		if b[0] == names[i] && b[1] == names[i+1] && b[2] == names[i+2] {
			return i/3 + 1
		}
	}
	return 0
}

// Bounds of what the clock of a log may do, in microseconds.
const (
	second    = int64(time.Second / time.Microsecond)
	outOfStep = 60 * second       // lines of several processes or hosts cross each other
	oneHour   = 3600 * second     // what a clock is put back by in autumn
	farAhead  = 24 * oneHour      // a date that leaps so far is looked at twice
	nextShift = 30 * 24 * oneHour // clocks are not put back twice in a month
)

// step is what a clock did to a time.
type step uint8

const (
	stepNone      step = iota
	stepCrossed        // up to a minute back: given the time of the line before
	stepClockBack      // the clock was put back for the winter
	stepNewYear        // a year ended
	stepBackwards      // dated before the lines before it: not to be used
	stepNoDate         // no such day in its year
)

// clock turns the stamps of one file into instants that never go back.
type clock struct {
	zone    *time.Location
	year    int   // of the next stamp that names none
	month   int   // of the last such stamp
	started bool  // there is a last
	last    int64 // the last instant, µs since 1970
	shift   int64 // added where the log's zone turned out not to be the given one
	shifted int64 // when that was

	// The hour of the last stamp: most stamps are of the same.
	hourOf         [4]int
	earlier, later int64 // its beginning, and its second one where the hour comes twice
	wrong          bool
}

// firstYear takes the latest year in which the date lies before the time when
// the file was last written. A day is allowed for zones.
func firstYear(s stamp, written time.Time) int {
	for year := written.Year() + 1; year > written.Year()-8; year-- {
		at := time.Date(year, time.Month(s.month), s.day, s.hour, s.minute, s.whole, 0, time.UTC)
		if at.Day() == s.day && !at.After(written.Add(24*time.Hour)) {
			return year
		}
	}
	return written.Year()
}

// at says when a line was written.
func (c *clock) at(s stamp) (int64, step) {
	did := stepNone
	if s.year == 0 {
		if c.month >= 11 && s.month <= 2 {
			c.year++
			did = stepNewYear
		}
		c.month, s.year = s.month, c.year
	}
	at, wrong := c.instant(s)
	if wrong {
		return c.last, stepNoDate
	}
	if !s.zoned {
		at += c.shift
	}
	if !c.started {
		c.started, c.last = true, at
		return at, did
	}
	if at >= c.last {
		c.last = at
		return at, did
	}
	back := c.last - at
	switch {
	case back <= outOfStep:
		return c.last, stepCrossed
	case !s.zoned && c.later > c.earlier && back <= oneHour+outOfStep:
		// The hour comes twice in this zone, and this is its second time.
		if again := at + c.later - c.earlier; again >= c.last {
			c.last = again
			c.earlier = c.later // for the rest of the hour
			return again, stepClockBack
		}
		return at, stepBackwards
	case !s.zoned && back <= oneHour+outOfStep && (c.shifted == 0 || c.last-c.shifted > nextShift):
		c.shift += oneHour
		c.last, c.shifted = at+oneHour, c.last
		return c.last, stepClockBack
	}
	return at, stepBackwards
}

// instant is a stamp in its zone; of an hour that comes twice it is the first.
func (c *clock) instant(s stamp) (at int64, wrong bool) {
	within := int64(s.minute)*60*second + int64(s.whole)*second + int64(s.micro)
	if s.zoned {
		t := time.Date(s.year, time.Month(s.month), s.day, s.hour, 0, 0, 0, time.UTC)
		return t.UnixMicro() + within - int64(s.offset)*second, t.Day() != s.day
	}
	hour := [4]int{s.year, s.month, s.day, s.hour}
	if hour != c.hourOf {
		t := time.Date(s.year, time.Month(s.month), s.day, s.hour, 0, 0, 0, c.zone)
		c.hourOf, c.wrong = hour, time.Date(s.year, time.Month(s.month), s.day, 0, 0, 0, 0, time.UTC).Day() != s.day
		c.earlier = t.UnixMicro()
		c.later = c.earlier
		for _, other := range []time.Time{t.Add(-time.Hour), t.Add(time.Hour)} {
			if local := other.In(c.zone); local.Hour() == s.hour && local.Day() == s.day {
				c.earlier, c.later = min(c.earlier, other.UnixMicro()), max(c.later, other.UnixMicro())
			}
		}
		// What follows the second time of an hour does not go back to the first.
		if c.started && c.later > c.earlier && c.earlier+oneHour+outOfStep < c.last {
			c.earlier = c.later
		}
	}
	return c.earlier + within, c.wrong
}
