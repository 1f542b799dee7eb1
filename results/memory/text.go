package memory

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// WriteText writes a forecast as markdown of at most 80 columns, which reads as
// plain text too.
func (f *Forecast) WriteText(w io.Writer) error {
	b := &strings.Builder{}
	c := f.Cluster
	fmt.Fprintf(b, "# Memory forecast: %s\n\n", f.Scenario)
	fmt.Fprintf(b, "%s messages a day, %s accounts, %d days from %s, seed %d.\n", count(f.MessagesPerDay), count(int64(f.Accounts)), len(f.Days), f.FirstDay, f.Seed)
	fmt.Fprintf(b, "%d data nodes, %d replicas, %s DataMemory each, of which %d %% are kept\nback for restarts. Row sizes: %s.\n\n",
		c.DataNodes, c.Replicas, mib(c.DataMemory), c.ReservePercent, f.Basis)
	fmt.Fprintf(b, "**%s**\n\n", strings.ReplaceAll(f.Sentence(), " a data node ", " a data\nnode "))

	fmt.Fprintf(b, "## Bytes a row, of one replica\n\n")
	rows := [][]string{{"table", "computed", "measured", "difference"}}
	for _, r := range f.Rows {
		measured, difference := "-", "-"
		if r.Measured != nil {
			measured, difference = tenths(*r.Measured), percent(*r.Difference, true)
		}
		rows = append(rows, []string{r.Table, tenths(r.Computed), measured, difference})
	}
	table(b, rows)

	fmt.Fprintf(b, "\n## Days: rows of the greylist and bytes of one data node\n\n")
	rows = [][]string{{"day", "messages", "triplets", "clients", "expired", "peak", "used"}}
	for _, d := range f.Days {
		rows = append(rows, []string{strconv.Itoa(d.Day), count(d.Messages), count(d.Triplets), count(d.Clients), count(d.Expired), mib(d.Peak), mib(d.Used)})
	}
	table(b, rows)

	m := f.Maintenance
	fmt.Fprintf(b, "\n## Maintenance\n\n")
	fmt.Fprintf(b, "To hold the line: %s rows a day (most: %s), %s an hour.\n", count(m.ExpiredPerDay), count(m.MostPerDay), count(m.PerHour))
	fmt.Fprintf(b, "The largest run looks at %s rows in %s transactions of %s.\n", count(m.Scanned), count(m.Transactions), count(m.Batch))
	fmt.Fprintf(b, "With none, memory is %s.\n", f.WithoutMaintenance.when(len(f.Days)))

	r := f.Redo
	fmt.Fprintf(b, "\n## Redo log and checkpoints, of one data node\n\n")
	table(b, [][]string{
		{"what", "figure"},
		{"written in the busiest hour", mib(r.PeakPerHour)},
		{"redo log", mib(r.Capacity)},
		{fmt.Sprintf("of it that the greylist can use: %d of %d parts", r.UsableParts, c.LogParts), mib(r.Usable)},
		{"holds, at that rate", minutes(r.Holds)},
		{"a local checkpoint may take", minutes(r.Checkpoint)},
		{"a checkpoint covers", mib(r.CheckpointBytes)},
		{"so it must write, a second", mib(r.CheckpointRate)},
		{"disk: redo log and checkpoints", mib(r.Disk)},
	})

	fmt.Fprintf(b, "\n## What a few hundred MiB hold, on each of ten data nodes\n\n")
	rows = [][]string{{"memory", "greylist rows", "full", "steady state", "messages a day*"}}
	for _, h := range f.Talk {
		share, messages := "-", "-"
		if h.Share != nil {
			share = percent(*h.Share, false)
		}
		if h.MessagesPerDay != nil {
			messages = count(*h.MessagesPerDay)
		}
		full := "never"
		if h.Fill.Full {
			full = fmt.Sprintf("day %d", *h.Fill.Day)
		}
		rows = append(rows, []string{fmt.Sprintf("%d MiB", h.MiB), count(h.Rows), full, share, messages})
	}
	table(b, rows)
	fmt.Fprintf(b, "\n* that would fill it, extrapolated: rows in proportion to messages.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Sentence is the forecast in one.
func (f *Forecast) Sentence() string {
	switch {
	case f.Fill.Full:
		return fmt.Sprintf("DataMemory is full on day %d, at %d:00.", *f.Fill.Day, *f.Fill.Hour)
	case f.Steady != nil:
		return fmt.Sprintf("DataMemory is not full within %d days: steady at %s a data node from day %d on.", len(f.Days), mib(f.Steady.Used), f.Steady.FromDay)
	}
	return fmt.Sprintf("DataMemory is not full within %d days, but still grows: %s a data node at their end. Simulate more days.", len(f.Days), mib(f.Days[len(f.Days)-1].Used))
}

func (f Fill) when(days int) string {
	if !f.Full {
		return fmt.Sprintf("not full within these %d days", days)
	}
	return fmt.Sprintf("full on day %d", *f.Day)
}

// table writes the cells of a markdown table, the first column to the left, the
// others to the right. The first row is the heading.
func table(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		for k, cell := range row {
			pad := strings.Repeat(" ", widths[k]-utf8.RuneCountInString(cell))
			if k == 0 {
				fmt.Fprintf(b, "| %s%s |", cell, pad)
			} else {
				fmt.Fprintf(b, " %s%s |", pad, cell)
			}
		}
		b.WriteByte('\n')
		if i > 0 {
			continue
		}
		for k, n := range widths {
			if k == 0 {
				fmt.Fprintf(b, "|%s|", strings.Repeat("-", n+2))
			} else {
				fmt.Fprintf(b, "%s:|", strings.Repeat("-", n+1))
			}
		}
		b.WriteByte('\n')
	}
}

// count writes n with a comma between thousands.
func count(n int64) string {
	if n < 0 {
		return "-" + count(-n)
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%s,%03d", count(n/1000), n%1000)
}

// mib writes bytes as MiB, with a digit behind the point below ten, and as KiB below
// one.
func mib(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d KiB", divUp(bytes, 1<<10))
	}
	if bytes < 10<<20 {
		return fmt.Sprintf("%d.%d MiB", bytes>>20, bytes&(1<<20-1)*10>>20)
	}
	return count(bytes>>20) + " MiB"
}

// tenths writes thousandths with one digit behind the point.
func tenths(milli int64) string {
	n := (milli + 50) / 100
	return fmt.Sprintf("%s.%d", count(n/10), n%10)
}

// percent writes millionths as percent, with one digit behind the point.
func percent(ppm int64, sign bool) string {
	text := ""
	if ppm < 0 {
		text, ppm = "-", -ppm
	} else if sign {
		text = "+"
	}
	n := (ppm + 500) / 1000
	return fmt.Sprintf("%s%s.%d %%", text, count(n/10), n%10)
}

// minutes writes seconds as minutes from two minutes on.
func minutes(seconds int64) string {
	if seconds < 120 {
		return fmt.Sprintf("%d s", seconds)
	}
	return count(seconds/60) + " min"
}
