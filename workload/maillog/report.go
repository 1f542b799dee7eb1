package maillog

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Report is what a scan found.
type Report struct {
	Lines int64
	Kinds [kinds]int64 // lines of each Kind
	// Samples are the first lines that were not used, at most 10.
	Samples     []Sample
	Corrections Corrections

	First, Last time.Time // of the messages, in the zone
	Midnight    time.Time // At of items counts from it
	Messages    int64     // first tries of messages
	Recipients  int64     // of these
	Legitimate  int64     // of the messages

	// Triplets by the answer to their first try.
	Accepted, Deferred, Refused int64
	// CameBack of the deferred had a second try within the retry window, Early of
	// these within 300 s; Passed were accepted in the end.
	CameBack, Early, Passed int64
	Retries                 int64
	RetriesOfBefore         int64 // retries whose first try lies before the logs
	Delays                  []Delay

	Own, Outbound, Copies, ToldTwice, Incomplete      int64
	RefusedUnknown, BadAddresses, Unfinished, Undated int64
	ClosedEarly, Forgotten                            int64
	Elapsed                                           time.Duration
	EmptyFiles, UnusedFiles                           []string
}

// Delay is how long after the first try a later one came.
type Delay struct {
	Try                  int // 2 is the first retry
	Count                int64
	Quarter, Half, Three time.Duration // quantiles, to 1/8
}

// Understood is the number of lines that were used or are known to hold nothing
// of use.
func (r *Report) Understood() int64 {
	var n int64
	for k := range kinds {
		if k.Understood() {
			n += r.Kinds[k]
		}
	}
	return n
}

func (i *Import) report(elapsed time.Duration) *Report {
	s, t, c := &i.folder.stats, &i.tally, i.counts
	at := func(us int64) time.Time { return time.UnixMicro(us).In(i.options.Zone) }
	r := &Report{
		Lines: t.lines, Kinds: t.kinds, Samples: t.samples, Corrections: t.corrections,
		First: at(i.first), Last: at(i.last), Midnight: at(i.midnight), Messages: i.messages, Recipients: i.recipients,
		Accepted: s.accepted, Deferred: s.deferred, Refused: s.refused,
		CameBack: s.cameBack, Early: s.early, Passed: s.passed, Retries: s.retries, RetriesOfBefore: s.before,
		Own: c.own, Outbound: s.outbound, Copies: c.copies, ToldTwice: c.twice, Incomplete: c.incomplete,
		RefusedUnknown: t.refusedUnknown, BadAddresses: t.badAddresses, Unfinished: t.unfinished, Undated: t.undated,
		ClosedEarly: c.early, Forgotten: s.forgotten, Elapsed: elapsed,
	}
	r.Corrections.Undated = t.undated
	for _, f := range i.folder.fates {
		if f&fateAccepted != 0 {
			r.Legitimate++
		}
	}
	for n := range s.delays {
		h := &s.delays[n]
		if h.n > 0 {
			r.Delays = append(r.Delays, Delay{Try: n + 2, Count: h.n, Quarter: h.quantile(0.25), Half: h.quantile(0.5), Three: h.quantile(0.75)})
		}
	}
	for n, f := range t.files {
		switch name := i.sources[n].lines.name; {
		case f.lines == 0:
			r.EmptyFiles = append(r.EmptyFiles, name)
		case f.used == 0:
			r.UnusedFiles = append(r.UnusedFiles, name)
		}
	}
	return r
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	share := func(n, of int64) string {
		if of == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(of))
	}
	understood := r.Understood()
	fmt.Fprintf(&b, "lines          %12d   understood %s", r.Lines, share(understood, r.Lines))
	if seconds := r.Elapsed.Seconds(); seconds > 0.1 {
		fmt.Fprintf(&b, "   %.0f lines/s", float64(r.Lines)/seconds)
	}
	b.WriteByte('\n')
	for k := range kinds {
		if r.Kinds[k] > 0 {
			mark := " "
			if !k.Understood() {
				mark = "!"
			}
			fmt.Fprintf(&b, " %s%13d   %8s   %s\n", mark, r.Kinds[k], share(r.Kinds[k], r.Lines), k)
		}
	}
	if len(r.Samples) > 0 {
		b.WriteString("lines that were not used, for example:\n")
		for _, s := range r.Samples {
			fmt.Fprintf(&b, "  %s:%d: %s\n    %s\n", s.File, s.Line, s.Kind, s.Text)
		}
	}
	for _, f := range r.EmptyFiles {
		fmt.Fprintf(&b, "%s is empty\n", f)
	}
	for _, f := range r.UnusedFiles {
		fmt.Fprintf(&b, "%s holds nothing of mail that comes in\n", f)
	}
	r.writeDates(&b)
	if r.Messages > 0 {
		fmt.Fprintf(&b, "messages       %12d   first tries, with %d recipients, from %s to %s\n", r.Messages, r.Recipients,
			r.First.Format("2006-01-02 15:04:05"), r.Last.Format("2006-01-02 15:04:05 -0700"))
		fmt.Fprintf(&b, "  legitimate   %12d   %8s   accepted, at once or after a deferral\n", r.Legitimate, share(r.Legitimate, r.Messages))
		triplets := r.Accepted + r.Deferred + r.Refused
		fmt.Fprintf(&b, "triplets       %12d   by the answer to the first try:\n", triplets)
		fmt.Fprintf(&b, "  accepted     %12d   %8s\n  deferred     %12d   %8s\n  refused      %12d   %8s\n",
			r.Accepted, share(r.Accepted, triplets), r.Deferred, share(r.Deferred, triplets), r.Refused, share(r.Refused, triplets))
		fmt.Fprintf(&b, "came back      %12d   %8s   of the deferred; %d of these within 300 s; %d passed in the end\n", r.CameBack, share(r.CameBack, r.Deferred), r.Early, r.Passed)
		if len(r.Delays) > 0 {
			b.WriteString("retries, time since the first try:\n    try        count     quarter        half    3 quarters\n")
			for _, d := range r.Delays {
				fmt.Fprintf(&b, "  %5d %12d  %10s  %10s  %12s\n", d.Try, d.Count, d.Quarter, d.Half, d.Three)
			}
		}
	}
	for _, row := range []struct {
		n    int64
		what string
	}{
		{r.RetriesOfBefore, "retries of first tries before the logs: left out"},
		{r.Own, "messages and recipients of our own users or of the machine itself: left out"},
		{r.Outbound, "recipients in domains that are not ours: mail that goes out, left out"},
		{r.Copies, "lines in both of Exim's logs: counted once"},
		{r.ToldTwice, "recipients that two programs told of: counted once"},
		{r.Incomplete, "messages whose sender or recipients were not told within 120 s: left out; see the log selectors in --help"},
		{r.RefusedUnknown, "messages refused after DATA whose recipients only the reject log names: left out"},
		{r.BadAddresses, "lines with an address that cannot be one: left out"},
		{r.Unfinished, "pieces of Exim's lines in syslog whose beginning or end is missing: left out"},
		{r.ClosedEarly, "messages closed before they were complete, as more than 131072 were open"},
		{r.Forgotten, "deferred triplets forgotten before the retry window ended, as too many waited: shorten it with --retry-window"},
	} {
		if row.n > 0 {
			fmt.Fprintf(&b, "note           %12d   %s\n", row.n, row.what)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeDates(b *strings.Builder) {
	c := r.Corrections
	if c.Crossed > 0 {
		fmt.Fprintf(b, "dates          %12d   up to a minute before the line before them: given its time; first at %s\n", c.Crossed, c.FirstCrossed)
	}
	if c.ClockBack > 0 {
		fmt.Fprintf(b, "dates          %12d   the clock was put back by an hour: what follows is taken for the second time of that hour; first at %s\n", c.ClockBack, c.FirstClockBack)
	}
	if c.NewYear > 0 {
		fmt.Fprintf(b, "dates          %12d   a year ended; first at %s\n", c.NewYear, c.FirstNewYear)
	}
	if c.FirstBackwards != "" {
		fmt.Fprintf(b, "dates          %12d   lines dated before the lines before them, or astray: left out; first at %s\n", r.Kinds[KindBackwards], c.FirstBackwards)
	}
	if c.Undated > 0 {
		fmt.Fprintf(b, "dates          %12d   lines of Postgrey's without a date: given that of the line before\n", c.Undated)
	}
}
