package memory

import (
	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/workload"
)

// Schema names the layout of a Forecast.
const Schema = "mailbench.memory/v1"

// tables are those that grow with the workload, in the order in which a forecast
// names them.
var tables = [...]string{
	datamemory.Greylist, datamemory.Preferences, datamemory.Routes, datamemory.Accounts, datamemory.AccountChanges,
}

// Forecast is what the inputs come to. Bytes are of one data node, unless a field
// says otherwise.
type Forecast struct {
	Schema         string  `json:"schema"`
	Scenario       string  `json:"scenario"`
	Seed           uint64  `json:"seed"`
	MessagesPerDay int64   `json:"messages_per_day"`
	Accounts       int     `json:"accounts"`
	FirstDay       string  `json:"first_day"`
	Cluster        Cluster `json:"cluster"`
	// Basis says which sizes were used: "measured" if each table's was, "computed"
	// if none's, else "mixed".
	Basis string `json:"basis"`

	Rows   []RowSize `json:"rows"`
	Days   []Day     `json:"days"`
	Fill   Fill      `json:"fill"`
	Steady *Steady   `json:"steady"` // null while memory still grows at the end
	// WithoutMaintenance is when memory is full if nothing is ever deleted.
	WithoutMaintenance Fill        `json:"without_maintenance"`
	Maintenance        Maintenance `json:"maintenance"`
	Redo               Redo        `json:"redo"`
	Talk               []Hold      `json:"talk"`
}

// RowSize is what a row takes of one replica, in thousandths of a byte.
type RowSize struct {
	Table    string `json:"table"`
	Computed int64  `json:"computed_millibytes"`
	Measured *int64 `json:"measured_millibytes"`
	// Difference is how much more the computed size is than the measured one, in
	// millionths of the measured one.
	Difference *int64 `json:"difference_ppm"`
}

// Day is one simulated day.
type Day struct {
	Day      int   `json:"day"` // from 0
	Messages int64 `json:"messages"`
	// Greylist and the rows after it are at the end of the hour in which most bytes
	// were in use: before maintenance.
	Greylist    int64 `json:"greylist_rows"`
	Triplets    int64 `json:"triplets"`
	Clients     int64 `json:"clients"`
	Accounts    int64 `json:"accounts"`
	Preferences int64 `json:"preferences"`
	Expired     int64 `json:"expired_rows"`
	Peak        int64 `json:"peak_bytes"` // most that rows take within the day
	End         int64 `json:"end_bytes"`  // what they take at its end, after maintenance
	// Used is the most until then: a page that rows were deleted from stays with its
	// table, unless it is empty.
	Used     int64 `json:"used_bytes"`
	Redo     int64 `json:"redo_bytes"`
	RedoPeak int64 `json:"redo_peak_hour_bytes"`
}

// Fill is when memory is full, if that is within the days.
type Fill struct {
	Full bool `json:"full"`
	Day  *int `json:"day"`  // from 0
	Hour *int `json:"hour"` // of that day, from 0
}

// Steady is the day from which on memory no longer grows.
type Steady struct {
	FromDay int   `json:"from_day"`
	Used    int64 `json:"used_bytes"`
}

// Maintenance is what must be deleted to hold the line.
type Maintenance struct {
	// ExpiredPerDay is the mean of the last seven days, MostPerDay the most on one
	// day, PerHour the latter spread over a day.
	ExpiredPerDay int64 `json:"expired_rows_per_day"`
	MostPerDay    int64 `json:"most_expired_rows_per_day"`
	PerHour       int64 `json:"expired_rows_per_hour"`
	// Scanned is how many rows the largest run looks at, in Transactions of Batch.
	Scanned      int64 `json:"scanned_rows"`
	Batch        int64 `json:"batch_rows"`
	Transactions int64 `json:"transactions"`
}

// Redo is what is written to the redo log and to checkpoints.
type Redo struct {
	PeakPerHour int64 `json:"peak_bytes_per_hour"`
	Capacity    int64 `json:"capacity_bytes"`
	// Usable is the part of it that the greylist's fragments write to: the log is
	// full when one part is.
	UsableParts int64 `json:"usable_parts"`
	Usable      int64 `json:"usable_bytes"`
	// Holds is how many seconds of the busiest hour fit, Checkpoint how long a local
	// checkpoint may take at most: the log holds what came since the one before
	// began.
	Holds      int64 `json:"holds_seconds"`
	Checkpoint int64 `json:"checkpoint_seconds"`
	// CheckpointBytes is what a checkpoint covers: all memory that rows use. A
	// partial one writes less. CheckpointRate is bytes a second if all is written.
	CheckpointBytes int64 `json:"checkpoint_bytes"`
	CheckpointRate  int64 `json:"checkpoint_bytes_per_second"`
	// Disk is the redo log and the checkpoints' files, with RecoveryWork's 60 % more
	// than memory.
	Disk int64 `json:"disk_bytes"`
}

// Hold is what so much memory on each of the talk's ten data nodes holds.
type Hold struct {
	MiB   int64  `json:"mebibytes"`
	Rows  int64  `json:"greylist_rows"` // of the greylist, beside all other tables
	Fill  Fill   `json:"fill"`
	Share *int64 `json:"steady_ppm"` // of it that the steady state takes; null without one
	// MessagesPerDay is how many a day would fill it, if greylist rows grow in
	// proportion to messages. Extrapolated.
	MessagesPerDay *int64 `json:"extrapolated_messages_per_day"`
}

// The talk's cluster: ten data nodes, each row twice, and "a few hundred MiB".
const (
	talkNodes    = 10
	talkReplicas = 2
)

var talkMiB = [...]int64{200, 300, 500}

// Steady: memory is steady from a day on if it grows by no more than this until the
// end, and the end is a week away at least, so that each weekday was.
const (
	steadyPPM  = 10_000
	steadyDays = 7
)

const million = 1_000_000

// Make makes the forecast.
func Make(in *Inputs) (*Forecast, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	f := &Forecast{
		Schema: Schema, Scenario: in.Scenario, Seed: in.Seed, MessagesPerDay: in.MessagesPerDay, Accounts: in.Accounts,
		FirstDay: in.FirstDay, Cluster: in.Cluster, Basis: in.basis(),
	}
	for _, t := range in.Tables {
		f.Rows = append(f.Rows, rowSize(t))
	}
	f.Days = in.days()
	usable := in.Cluster.usable()
	f.Fill = in.fill(in.Cluster, usable, false)
	f.WithoutMaintenance = in.fill(in.Cluster, usable, true)
	f.Steady = steady(f.Days)
	f.Maintenance = in.maintenance()
	f.Redo = in.redo(f.Days)
	f.Talk = in.talk(f.Steady)
	return f, nil
}

func (in *Inputs) basis() string {
	measured := 0
	for _, name := range tables {
		for t := range in.sizes(name) {
			if t.Measured != nil {
				measured++
			}
		}
	}
	switch measured {
	case 0:
		return "computed"
	case len(tables):
		return "measured"
	}
	return "mixed"
}

func rowSize(t TableSize) RowSize {
	milli := func(s Sample) int64 { return divUp(s.Total()*1000, s.Rows) }
	r := RowSize{Table: t.Table, Computed: milli(t.Computed)}
	if t.Measured != nil {
		m := milli(*t.Measured)
		difference := (r.Computed - m) * million / m
		r.Measured, r.Difference = &m, &difference
	}
	return r
}

// usable is what rows may take of a node's memory.
func (c Cluster) usable() int64 { return c.DataMemory / 100 * (100 - c.ReservePercent) }

// perNode is what a node has of bytes of one replica.
func (c Cluster) perNode(bytes int64) int64 {
	return divUp(bytes*int64(c.Replicas), int64(c.DataNodes))
}

// rows are those of an hour, in the order of tables.
func rows(h workload.GrowthHour) [len(tables)]int64 {
	return [...]int64{h.Triplets + h.Clients, h.Preferences, h.Routes, h.Accounts, h.Changes}
}

// inUse is what rows take of one node.
func (in *Inputs) inUse(c Cluster, rows [len(tables)]int64) int64 {
	var sum int64
	for i, name := range tables {
		for t := range in.sizes(name) {
			sum += t.sample().bytes(rows[i])
		}
	}
	return c.Base + c.perNode(sum)
}

func (in *Inputs) days() []Day {
	var days []Day
	var used int64
	for i, h := range in.Hours {
		if i%24 == 0 {
			days = append(days, Day{Day: i / 24, Peak: -1})
		}
		d := &days[len(days)-1]
		bytes := in.inUse(in.Cluster, rows(h))
		if bytes > d.Peak {
			d.Peak = bytes
			d.Greylist, d.Triplets, d.Clients, d.Accounts, d.Preferences = h.Triplets+h.Clients, h.Triplets, h.Clients, h.Accounts, h.Preferences
		}
		after := rows(h)
		after[0] -= h.Expired
		used = max(used, bytes)
		log := in.logged(h)
		d.End, d.Used = in.inUse(in.Cluster, after), used
		d.Messages, d.Expired = d.Messages+h.Messages, d.Expired+h.Expired
		d.Redo, d.RedoPeak = d.Redo+log, max(d.RedoPeak, log)
	}
	return days
}

// logged is what an hour writes to a node's redo log, with the maintenance after
// it.
func (in *Inputs) logged(h workload.GrowthHour) int64 {
	writes := [...]int64{h.GreylistWrites, h.PreferenceWrites, h.RouteWrites, h.AccountWrites, h.ChangeWrites}
	var sum int64
	for i, name := range tables {
		for t := range in.sizes(name) {
			sum += writes[i] * t.WriteBytes
			if name == datamemory.Greylist {
				sum += h.Expired * t.DeleteBytes
			}
		}
	}
	return in.Cluster.perNode(sum)
}

// fill finds the first hour in which rows need more than there is. keepAll counts
// what maintenance has deleted as if it were there still: what is forgotten and
// seen again counts twice.
func (in *Inputs) fill(c Cluster, most int64, keepAll bool) Fill {
	var expired int64
	for i, h := range in.Hours {
		r := rows(h)
		if keepAll {
			r[0] += expired
			expired += h.Expired
		}
		if in.inUse(c, r) > most {
			day, hour := i/24, i%24
			return Fill{Full: true, Day: &day, Hour: &hour}
		}
	}
	return Fill{}
}

// steady is the first day after which memory does not grow any more.
func steady(days []Day) *Steady {
	last := days[len(days)-1].Used
	for _, d := range days {
		if last-d.Used <= d.Used/million*steadyPPM {
			if len(days)-1-d.Day < steadyDays {
				return nil
			}
			return &Steady{FromDay: d.Day, Used: last}
		}
	}
	return nil
}

func (in *Inputs) maintenance() Maintenance {
	m := Maintenance{Batch: in.Batch}
	var last, days, today int64
	for i, h := range in.Hours {
		if i%24 == 0 {
			today = 0
		}
		today += h.Expired
		m.MostPerDay, m.Scanned = max(m.MostPerDay, today), max(m.Scanned, h.Scanned)
		if i >= len(in.Hours)-24*steadyDays {
			last += h.Expired
			if i%24 == 0 {
				days++
			}
		}
	}
	m.ExpiredPerDay, m.PerHour, m.Transactions = last/days, divUp(m.MostPerDay, 24), divUp(m.Scanned, in.Batch)
	return m
}

// recoveryWork is how much more than memory the files of partial checkpoints may
// take, in percent (RecoveryWork's default).
const recoveryWork = 60

func (in *Inputs) redo(days []Day) Redo {
	c := in.Cluster
	r := Redo{Capacity: c.LogFiles * c.LogFileBytes * c.LogParts, CheckpointBytes: days[len(days)-1].Used}
	for _, d := range days {
		r.PeakPerHour = max(r.PeakPerHour, d.RedoPeak)
	}
	fragments := int64(c.Partitions) * int64(c.Replicas) / int64(c.DataNodes)
	r.UsableParts = max(min(c.LogParts, fragments), 1)
	r.Usable = r.Capacity / c.LogParts * r.UsableParts
	if r.PeakPerHour > 0 {
		// Files are at most 2^62 bytes: hours first, then the seconds of the rest.
		r.Holds = r.Usable/r.PeakPerHour*3600 + r.Usable%r.PeakPerHour/max(divUp(r.PeakPerHour, 3600), 1)
		r.Checkpoint = r.Holds / 2
		r.CheckpointRate = divUp(r.CheckpointBytes, max(r.Checkpoint, 1))
	}
	r.Disk = r.Capacity + r.CheckpointBytes/100*(100+recoveryWork)
	return r
}

func (in *Inputs) talk(s *Steady) []Hold {
	c := in.Cluster
	c.DataNodes, c.Replicas = talkNodes, talkReplicas
	var high workload.GrowthHour // with most rows of the greylist
	for _, h := range in.Hours {
		if h.Triplets+h.Clients >= high.Triplets+high.Clients {
			high = h
		}
	}
	others := rows(high)
	others[0] = 0
	rest := in.inUse(c, others)
	all := in.inUse(c, rows(high))
	var holds []Hold
	for _, mib := range talkMiB {
		most := mib << 20
		hold := Hold{MiB: mib, Fill: in.fill(c, most, false)}
		for t := range in.sizes(datamemory.Greylist) {
			each := t.sample()
			room := max(most-rest, 0) * talkNodes / talkReplicas
			hold.Rows = mulDivUp(room, each.Rows, each.Total())
		}
		if s != nil {
			share := mulDivUp(all, million, most)
			hold.Share = &share
			if grown := all - rest; grown > 0 && most > rest {
				n := mulDivUp(in.MessagesPerDay, most-rest, grown)
				hold.MessagesPerDay = &n
			}
		}
		holds = append(holds, hold)
	}
	return holds
}
