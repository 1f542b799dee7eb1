package maillog

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestParseStamp(t *testing.T) {
	for _, row := range []struct {
		sentence, line, want, rest string
		exim                       bool
	}{
		{"RFC 3164", "Nov 24 14:51:51 mx1 a: b", "0000-11-24 14:51:51.000000", " mx1 a: b", false},
		{"RFC 3164 with a day of one digit", "Nov  4 14:51:51 mx1 a: b", "0000-11-04 14:51:51.000000", " mx1 a: b", false},
		{"with a priority", "<22>Nov  4 14:51:51 mx1 a: b", "0000-11-04 14:51:51.000000", " mx1 a: b", false},
		{"with a year", "Nov  4 2008 14:51:51 mx1 a: b", "2008-11-04 14:51:51.000000", " mx1 a: b", false},
		{"with milliseconds", "Nov  4 14:51:51.123 mx1 a: b", "0000-11-04 14:51:51.123000", " mx1 a: b", false},
		{"RFC 3339", "2026-11-24T14:51:51.792351+01:30 mx1 a: b", "2026-11-24 14:51:51.792351 +5400", " mx1 a: b", false},
		{"RFC 3339 west of Greenwich", "2026-11-24T14:51:51-08:00 mx1 a: b", "2026-11-24 14:51:51.000000 -28800", " mx1 a: b", false},
		{"RFC 3339 in UTC", "2026-11-24T14:51:51Z mx1 a: b", "2026-11-24 14:51:51.000000 +0", " mx1 a: b", false},
		{"more digits than microseconds", "2026-11-24T14:51:51.123456789Z mx1 a: b", "2026-11-24 14:51:51.123456 +0", " mx1 a: b", false},
		{"RFC 5424", "<21>1 2026-11-24T14:51:51.792351+00:00 mx1 a 1 - - b", "2026-11-24 14:51:51.792351 +0", " mx1 a 1 - - b", false},
		{"Exim", "2026-11-24 14:51:51 a", "2026-11-24 14:51:51.000000", " a", true},
		{"Exim with +millisec", "2026-11-24 14:51:51.099 [7] a", "2026-11-24 14:51:51.099000", " [7] a", true},
		{"Exim with its zone", "2026-11-24 06:51:51 -0800 a", "2026-11-24 06:51:51.000000 -28800", " a", true},
		{"Net::Server", "2026/11/24-14:51:51 a", "2026-11-24 14:51:51.000000", " a", false},
		{"a leap second", "2026-12-31T23:59:60Z mx1 a: b", "2026-12-31 23:59:60.000000 +0", " mx1 a: b", false},
		{"a month that is none", "Now 24 14:51:51 mx1 a: b", "", "", false},
		{"an hour that is none", "Nov 24 24:51:51 mx1 a: b", "", "", false},
		{"a month that has no name", "2026-13-24T14:51:51Z mx1 a: b", "", "", false},
		{"a date alone", "2026-11-24", "", "", false},
		{"an address", "192.0.2.1 - - [24/Nov/2026]", "", "", false},
		{"nothing", "", "", "", false},
		{"a priority alone", "<22>", "", "", false},
	} {
		s, rest, exim, ok := parseStamp([]byte(row.line))
		if row.want == "" {
			assert.Assert(t, !ok, "%s: %+v", row.sentence, s)
			continue
		}
		got := time.Date(2000, 1, 1, s.hour, s.minute, 0, s.micro*1000, time.UTC)
		text := strings.Join([]string{pad(s.year, 4), pad(s.month, 2), pad(s.day, 2)}, "-") + got.Format(" 15:04:") + pad(s.whole, 2) + got.Format(".000000")
		if s.zoned {
			text += " " + map[bool]string{true: "+", false: ""}[s.offset >= 0] + strconv.Itoa(s.offset)
		}
		assert.Assert(t, ok, row.sentence)
		assert.Equal(t, text, row.want, row.sentence)
		assert.Equal(t, string(rest), row.rest, row.sentence)
		assert.Equal(t, exim, row.exim, row.sentence)
	}
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	return strings.Repeat("0", max(width-len(s), 0)) + s
}

// TestClock gives the stamps of a file to a clock and looks at the instants, in
// the zone, and at what was done to them.
func TestClock(t *testing.T) {
	const california = "America/Los_Angeles"
	names := map[step]string{stepNone: "", stepCrossed: " crossed", stepClockBack: " clock back", stepNewYear: " new year", stepBackwards: " backwards", stepNoDate: " no date"}
	for _, row := range []struct {
		sentence, zone string
		year           int
		stamps, want   []string
	}{
		{"nothing special", "UTC", 2026, []string{"Nov  4 10:00:00 a", "Nov  4 10:00:01 a"}, []string{"2026-11-04 10:00:00 +0000", "2026-11-04 10:00:01 +0000"}},
		{"two processes cross", "UTC", 2026, []string{"Nov  4 10:00:05 a", "Nov  4 10:00:04 a", "Nov  4 10:00:06 a"},
			[]string{"2026-11-04 10:00:05 +0000", "2026-11-04 10:00:05 +0000 crossed", "2026-11-04 10:00:06 +0000"}},
		{"a year ends", "UTC", 2025, []string{"Dec 31 23:59:59 a", "Jan  1 00:00:00 a", "Jan  1 00:00:01 a", "Dec 31 10:00:00 a", "Jan  2 00:00:00 a"},
			[]string{"2025-12-31 23:59:59 +0000", "2026-01-01 00:00:00 +0000 new year", "2026-01-01 00:00:01 +0000", "2026-12-31 10:00:00 +0000", "2027-01-02 00:00:00 +0000 new year"}},
		{"the clock is put back, in its zone", california, 2026, []string{"Nov  1 00:30:00 a", "Nov  1 01:30:00 a", "Nov  1 01:59:59 a", "Nov  1 01:00:00 a", "Nov  1 01:30:00 a", "Nov  1 02:00:00 a"},
			[]string{"2026-11-01 00:30:00 -0700", "2026-11-01 01:30:00 -0700", "2026-11-01 01:59:59 -0700", "2026-11-01 01:00:00 -0800 clock back", "2026-11-01 01:30:00 -0800", "2026-11-01 02:00:00 -0800"}},
		{"the clock is put forward", california, 2026, []string{"Mar  8 01:59:59 a", "Mar  8 03:00:00 a"}, []string{"2026-03-08 01:59:59 -0800", "2026-03-08 03:00:00 -0700"}},
		{"the clock is put back, and the zone was not given", "UTC", 2026, []string{"Nov  1 01:59:59 a", "Nov  1 01:00:00 a", "Nov  1 01:30:00 a", "Nov  1 02:00:00 a"},
			[]string{"2026-11-01 01:59:59 +0000", "2026-11-01 02:00:00 +0000 clock back", "2026-11-01 02:30:00 +0000", "2026-11-01 03:00:00 +0000"}},
		{"not twice in a month", "UTC", 2026, []string{"Nov  1 01:59:59 a", "Nov  1 01:00:00 a", "Nov  1 01:00:00 a", "Nov  1 00:30:00 a", "Nov  1 01:10:00 a"},
			[]string{"2026-11-01 01:59:59 +0000", "2026-11-01 02:00:00 +0000 clock back", "2026-11-01 02:00:00 +0000", "2026-11-01 01:30:00 +0000 backwards", "2026-11-01 02:10:00 +0000"}},
		{"Exim's own zone is never doubted", "UTC", 0, []string{"2026-11-01 01:59:59 -0700 a", "2026-11-01 01:00:00 -0800 a", "2026-11-01 00:30:00 -0800 a"},
			[]string{"2026-11-01 08:59:59 +0000", "2026-11-01 09:00:00 +0000", "2026-11-01 08:30:00 +0000 backwards"}},
		{"an older log behind a younger one", "UTC", 2026, []string{"Nov  4 10:00:00 a", "Nov  3 10:00:00 a", "Nov  4 10:00:01 a"},
			[]string{"2026-11-04 10:00:00 +0000", "2026-11-03 10:00:00 +0000 backwards", "2026-11-04 10:00:01 +0000"}},
		{"a 29th of February", "UTC", 2028, []string{"Feb 29 10:00:00 a"}, []string{"2028-02-29 10:00:00 +0000"}},
		{"a 29th of February in another year", "UTC", 2026, []string{"Feb 28 10:00:00 a", "Feb 29 10:00:00 a"}, []string{"2026-02-28 10:00:00 +0000", "2026-02-28 10:00:00 +0000 no date"}},
	} {
		zone, err := time.LoadLocation(row.zone)
		assert.NilError(t, err)
		c := clock{zone: zone, year: row.year}
		for n, text := range row.stamps {
			s, _, _, ok := parseStamp([]byte(text))
			assert.Assert(t, ok, text)
			at, did := c.at(s)
			got := time.UnixMicro(at).In(zone).Format("2006-01-02 15:04:05 -0700") + names[did]
			assert.Equal(t, got, row.want[n], "%s: line %d", row.sentence, n+1)
		}
	}
}

func TestFirstYear(t *testing.T) {
	for _, row := range []struct {
		sentence, stamp, written string
		want                     int
	}{
		{"of the year in which it was written", "Nov  4 10:00:00 mx1 a", "2026-11-05", 2026},
		{"begun in the year before", "Dec 30 10:00:00 mx1 a", "2026-01-02", 2025},
		{"a day is allowed for zones", "Nov  5 12:00:00 mx1 a", "2026-11-05", 2026},
		{"no more", "Nov  7 12:00:00 mx1 a", "2026-11-05", 2025},
		{"the last leap year", "Feb 29 12:00:00 mx1 a", "2026-11-05", 2024},
	} {
		s, _, _, _ := parseStamp([]byte(row.stamp))
		written, err := time.Parse(time.DateOnly, row.written)
		assert.NilError(t, err)
		assert.Equal(t, firstYear(s, written), row.want, row.sentence)
	}
}

// TestAstray: a line whose date leaps far ahead does not take the rest of the
// log out of use.
func TestAstray(t *testing.T) {
	at := func(day, sender string) string {
		return strings.Replace(strings.Replace(postgreyLine, "Nov 24", day, 1), "alice", sender, 1)
	}
	path := write(t, "mail.log", at("Nov 24", "a")+at("Dec 24", "b")+at("Nov 25", "c")+at("Nov 29", "d")+at("Nov 30", "e"))
	r, messages := importAll(t, []string{path}, Options{Year: 2026})
	senders := ""
	for _, m := range messages {
		senders += m.Sender + " "
	}
	assert.Equal(t, senders, "a@far.example c@far.example d@far.example e@far.example ")
	assert.Equal(t, r.Kinds[KindBackwards], int64(1))
	assert.Equal(t, r.Corrections.FirstBackwards, path+":2")
}
