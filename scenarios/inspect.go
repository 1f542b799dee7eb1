package scenarios

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mailbench/mailbench/workload"
)

// inspection draws what is in a trace, in at most 80 columns.
type inspection struct {
	w      io.Writer
	file   *workload.TraceFile
	stats  *workload.TraceStats
	blocks bool
	err    error // the first
}

func (d *inspection) line(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintln(d.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

func (d *inspection) draw(path string) {
	h, s := d.file.Header(), d.stats
	d.line("trace       %s", plain(path, 68))
	d.line("size        %s bytes of the whole file", thousands(d.file.Size()))
	if h.Imported() {
		d.line("origin      %s", plain(h.Origin, 68))
	} else {
		d.line("profile     %s, seed %d", plain(h.Profile.Name, 40), h.Seed)
		d.line("  sha256    %s", h.ProfileSHA256())
	}
	d.line("population  %s accounts of %s", thousands(int64(h.Population.Accounts)), plain(h.Population.Domain, 40))
	d.line("window      %s to %s", virtualClock(s.Window.From), virtualClock(s.Window.From+s.Window.Duration))
	d.line("items       %s messages with %s first tries,", thousands(s.Messages), thousands(s.Tries))
	d.line("            %s webmail logins (%s save), %s account jobs", thousands(s.Actions), thousands(s.Saving), thousands(s.Jobs))
	d.line("  sha256    %s", d.file.SHA256())
	if s.Messages == 0 {
		return
	}
	d.rates()
	d.shares()
	d.popularity()
	d.picture()
}

func (d *inspection) rates() {
	s := d.stats
	d.line("")
	d.line("%-28s %12s %10s %10s", "rate of messages", "messages", "a second", "of mean")
	row := func(name string, messages int64, of time.Duration) {
		mean := float64(s.Messages) / s.Window.Duration.Seconds()
		rate := float64(messages) / of.Seconds()
		d.line("%-28s %12s %10.1f %10.2f", name, thousands(messages), rate, rate/mean)
	}
	row("mean", s.Messages, s.Window.Duration)
	for _, length := range []int{60, 1} {
		if s.Window.Duration < time.Duration(length)*time.Minute {
			continue
		}
		at, messages := busiest(s.Minutes, length)
		name := "busiest minute, "
		if length == 60 {
			name = "busiest hour, from "
		}
		row(name+virtualClock(s.Window.From.Truncate(time.Minute) + time.Duration(at)*time.Minute)[:5], messages, time.Duration(length)*time.Minute)
	}
}

// busiest is where so many minutes on end have the most messages.
func busiest(minutes []workload.MinuteStats, length int) (at int, messages int64) {
	var sum int64
	for i, m := range minutes {
		if sum += m.Messages; i >= length {
			sum -= minutes[i-length].Messages
		}
		if i >= length-1 && sum > messages {
			at, messages = i-length+1, sum
		}
	}
	return at, messages
}

func (d *inspection) shares() {
	s := d.stats
	d.line("")
	d.line("%-28s %12s %10s", "share", "", "")
	row := func(name string, part, whole int64, of string) {
		d.line("%-28s %12s %10s  of %s", name, thousands(part), percentOf(part, whole), of)
	}
	row("legitimate", s.Legitimate, s.Messages, "messages")
	row("spam", s.Messages-s.Legitimate, s.Messages, "messages")
	row("from the null sender", s.NullSenders, s.Messages, "messages")
	row("sender comes back", s.Retrying(), s.Messages, "messages")
	for i, schedule := range workload.Schedules() {
		if n := s.Schedules[i]; i > 0 && n > 0 {
			row("  as "+schedule.Name, n, s.Messages, "messages")
		}
	}
	if s.Unknown >= 0 {
		row("recipient that nobody has", s.Unknown, s.Tries, "first tries")
	}
	d.line("%-28s %12.2f", "recipients a message", float64(s.Tries)/float64(s.Messages))
	if s.Legitimate > 0 {
		d.line("%-28s %12.2f", "  of a legitimate one", float64(s.LegitimateT)/float64(s.Legitimate))
	}
	if spam := s.Messages - s.Legitimate; spam > 0 {
		d.line("%-28s %12.2f", "  of a spam", float64(s.Tries-s.LegitimateT)/float64(spam))
	}
}

func (d *inspection) popularity() {
	d.line("")
	d.line("%-28s %12s %10s %10s %10s", "popularity", "different", "top 1", "top 10", "top 100")
	all := []struct {
		name string
		of   workload.Popularity
	}{{"clients", d.stats.Clients}, {"senders' domains", d.stats.Domains}, {"recipients", d.stats.Recipients}}
	for _, row := range all {
		d.line("%-28s %12s %10s %10s %10s", row.name, thousands(row.of.Distinct),
			percentOf(row.of.Share(1), row.of.Total), percentOf(row.of.Share(10), row.of.Total), percentOf(row.of.Share(100), row.of.Total))
	}
	for _, row := range all {
		d.line("")
		d.line("%-44s %12s %10s", "most frequent "+row.name, "times", "share")
		for _, a := range row.of.Top[:min(5, len(row.of.Top))] {
			name := a.Name
			if name == "" {
				name = "<>"
			}
			d.line("%-44s %12s %10s", plain(name, 44), thousands(a.Count), percentOf(a.Count, row.of.Total))
		}
	}
}

// picture draws messages a second over the window: an hour a bar, or less where
// the window is short.
func (d *inspection) picture() {
	const (
		most  = 24 // bars
		width = 56 // columns
	)
	s := d.stats
	minutes := len(s.Minutes)
	step := 0
	for _, m := range []int{1, 2, 5, 10, 15, 30, 60, 2 * 60, 4 * 60, 6 * 60, 12 * 60, 24 * 60} {
		if step = m; (minutes+m-1)/m <= most {
			break
		}
	}
	type bar struct {
		at               time.Duration
		legitimate, spam float64 // messages a second
	}
	// Bars begin at whole steps of the day, as clocks show them.
	begin := int(s.Window.From / time.Minute)
	var bars []bar
	highest := 0.0
	for first := begin / step * step; first < begin+minutes; first += step {
		at := max(s.Window.From, time.Duration(first)*time.Minute)
		seconds := (min(s.Window.From+s.Window.Duration, time.Duration(first+step)*time.Minute) - at).Seconds()
		b := bar{at: time.Duration(first) * time.Minute}
		for m := max(first, begin); m < min(first+step, begin+minutes); m++ {
			b.legitimate += float64(s.Minutes[m-begin].Legitimate) / seconds
			b.spam += float64(s.Minutes[m-begin].Messages-s.Minutes[m-begin].Legitimate) / seconds
		}
		highest = max(highest, b.legitimate+b.spam)
		bars = append(bars, b)
	}
	legitimate, spam := "#", "."
	if d.blocks {
		legitimate, spam = "█", "░"
	}
	d.line("")
	d.line("messages a second, a bar for each %s: %s legitimate, %s spam", stepName(step), legitimate, spam)
	for _, b := range bars {
		n := int(b.legitimate/highest*width + 0.5)
		all := int((b.legitimate+b.spam)/highest*width + 0.5)
		d.line("%s %8.1f  %s%s", virtualClock(b.at)[:5], b.legitimate+b.spam, strings.Repeat(legitimate, n), strings.Repeat(spam, max(0, all-n)))
	}
}

func stepName(minutes int) string {
	switch {
	case minutes == 1:
		return "minute"
	case minutes < 60:
		return fmt.Sprintf("%d minutes", minutes)
	case minutes == 60:
		return "hour"
	default:
		return fmt.Sprintf("%d hours", minutes/60)
	}
}

// virtualClock spells a virtual time: of the first day as a clock does, later
// ones with more than 24 hours.
func virtualClock(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// percentOf writes a share with two digits behind the point.
func percentOf(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*float64(part)/float64(whole))
}

// thousands writes n, which is 0 or more, with a comma between thousands.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plain makes a text from a file fit a column and keeps it from moving the
// terminal's cursor.
func plain(s string, width int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}
