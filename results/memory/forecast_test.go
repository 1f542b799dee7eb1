package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/workload"
)

var update = flag.Bool("update", false, "write the golden files anew")

const mebi = 1 << 20

// inputs are of days whose rows a function gives, on two nodes of 100 MiB, 10 of
// which are kept back. A row of any table takes 100 bytes in each replica.
func inputs(days int, hour func(h *workload.GrowthHour)) *Inputs {
	in := &Inputs{
		Schema: InputsSchema, Scenario: "test", Seed: 1, MessagesPerDay: 24_000, Accounts: 10, FirstDay: "2008-04-15", Batch: 500,
		Cluster: Cluster{
			DataNodes: 2, Replicas: 2, Partitions: 2, DataMemory: 100 * mebi, ReservePercent: 10,
			LogFiles: 4, LogFileBytes: 16 * mebi, LogParts: 4,
		},
	}
	for _, name := range tables {
		in.Tables = append(in.Tables, TableSize{
			Table: name, Computed: Sample{Rows: 1000, Size: datamemory.Size{Fixed: 60_000, Hash: 30_000, Ordered: 10_000}},
			WriteBytes: 128, DeleteBytes: 80,
		})
	}
	for i := range 24 * days {
		h := workload.GrowthHour{Hour: i, Messages: 1000}
		hour(&h)
		in.Hours = append(in.Hours, h)
	}
	return in
}

func forecast(t *testing.T, in *Inputs) *Forecast {
	t.Helper()
	f, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFill(t *testing.T) {
	// 90 MiB are 943,718 rows of 100 bytes, which each of two nodes has all of.
	const full = 943_718
	grow := func(each int64) func(*workload.GrowthHour) {
		return func(h *workload.GrowthHour) { h.Triplets = each * int64(h.Hour+1) }
	}
	for _, row := range []struct {
		sentence  string
		in        func() *Inputs
		day, hour int // -1 for never
		steady    int // the day, -1 for none
	}{
		{"nothing grows: never full, steady from the first day", func() *Inputs { return inputs(14, func(*workload.GrowthHour) {}) }, -1, -1, 0},
		{"exactly what there is is not too much", func() *Inputs {
			return inputs(14, func(h *workload.GrowthHour) { h.Triplets = full })
		}, -1, -1, 0},
		{"one row more is", func() *Inputs {
			return inputs(14, func(h *workload.GrowthHour) { h.Triplets = full + 1 })
		}, 0, 0, 0},
		{"a tenth an hour is full in the hour after the ninth", func() *Inputs { return inputs(14, grow(full/9)) }, 0, 9, -1},
		{"clients are rows of the greylist, too", func() *Inputs {
			return inputs(14, func(h *workload.GrowthHour) { h.Triplets, h.Clients = full, 1 })
		}, 0, 0, 0},
		{"on four nodes each has half of it", func() *Inputs {
			in := inputs(14, grow(full/9))
			in.Cluster.DataNodes = 4
			return in
		}, 0, 18, -1},
		{"what is used before the first row counts", func() *Inputs {
			in := inputs(14, grow(full/9))
			in.Cluster.Base = 50 * mebi
			return in
		}, 0, 4, -1},
		{"memory that was steady for less than a week is not", func() *Inputs {
			return inputs(14, func(h *workload.GrowthHour) { h.Triplets = int64(1000 * min(h.Hour/24, 8)) })
		}, -1, -1, -1},
		{"for a week it is", func() *Inputs {
			return inputs(16, func(h *workload.GrowthHour) { h.Triplets = int64(1000 * min(h.Hour/24, 8)) })
		}, -1, -1, 8},
		{"a measured size goes before a computed one", func() *Inputs {
			in := inputs(14, grow(full/9))
			in.Tables[0].Measured = &Sample{Rows: 1, Size: datamemory.Size{Fixed: 200}}
			return in
		}, 0, 4, -1},
	} {
		f := forecast(t, row.in())
		day, hour, from := -1, -1, -1
		if f.Fill.Full {
			day, hour = *f.Fill.Day, *f.Fill.Hour
		}
		if f.Steady != nil {
			from = f.Steady.FromDay
		}
		if day != row.day || hour != row.hour || from != row.steady {
			t.Errorf("%s: full on day %d at %d, steady from %d; want %d, %d, %d", row.sentence, day, hour, from, row.day, row.hour, row.steady)
		}
	}
}

// TestDays: each hour of a day brings 1000 triplets, of which those of the day
// before are deleted at 3.
func TestDays(t *testing.T) {
	in := inputs(10, func(h *workload.GrowthHour) {
		hour := h.Hour % 24
		h.Triplets = int64(hour+1) * 1000
		if day := h.Hour / 24; day > 0 && hour < 3 {
			h.Triplets += 24_000
		} else if day > 0 && hour == 3 {
			h.Triplets, h.Scanned, h.Expired = h.Triplets+24_000, 28_000, 24_000
		}
		h.GreylistWrites = 2000
		h.PreferenceWrites = 10
	})
	f := forecast(t, in)
	d := f.Days[5]
	const write = 2010 * 128 // bytes an hour, in each of two nodes
	for _, row := range []struct {
		sentence  string
		got, want int64
	}{
		{"most rows are there when maintenance begins", d.Greylist, 28_000},
		{"that is what the day's peak is", d.Peak, 28_000 * 100},
		{"at its end there are those of the day", d.End, 24_000 * 100},
		{"memory that was used once stays used", f.Days[9].Used, 28_000 * 100},
		{"a day has 24 hours of messages", d.Messages, 24_000},
		{"of writes, and of deletes", d.Redo, 24*write + 24_000*80},
		{"most of them in the hour of maintenance", d.RedoPeak, write + 24_000*80},
		{"maintenance deletes a day's triplets a day", f.Maintenance.ExpiredPerDay, 24_000},
		{"1000 an hour", f.Maintenance.PerHour, 1000},
		{"and looks at 28,000 in transactions of 500", f.Maintenance.Transactions, 56},
		{"2 replicas of 2 partitions on 2 nodes are 2 fragments, each in a part of its own", f.Redo.UsableParts, 2},
		{"half of 4 parts of 4 files of 16 MiB", f.Redo.Usable, 128 * mebi},
		{"which the busiest hour fills in so many seconds", f.Redo.Holds, 128*mebi/(write+24_000*80)*3600 + 128*mebi%(write+24_000*80)/((write+24_000*80+3599)/3600)},
		{"a checkpoint has half of them", f.Redo.Checkpoint, f.Redo.Holds / 2},
		{"checkpoints' files may take 1.6 times of what is used", f.Redo.Disk, 256*mebi + 28_000*160},
		{"200 MiB on ten nodes hold five times as much, of which each has a fifth", f.Talk[0].Rows, (200*mebi*5 + 99) / 100},
		{"and 28,000 rows a fifth of that in each node", *f.Talk[0].Share, (28_000*20*1_000_000 + 200*mebi - 1) / (200 * mebi)},
		{"messages in proportion", *f.Talk[0].MessagesPerDay, (24_000*200*mebi + 28_000*20 - 1) / (28_000 * 20)},
	} {
		if row.got != row.want {
			t.Errorf("%s: %d, want %d", row.sentence, row.got, row.want)
		}
	}
	if f.Fill.Full || f.WithoutMaintenance.Full || f.Basis != "computed" {
		t.Errorf("full %v, without maintenance %v, basis %q", f.Fill, f.WithoutMaintenance, f.Basis)
	}
	// Without maintenance 24,000 rows a day more, of 2.4 MB: 94 MB after 40 days.
	for i := range 60 * 24 {
		if i >= len(in.Hours) {
			h := in.Hours[i-5*24]
			h.Hour = i
			in.Hours = append(in.Hours, h)
		}
	}
	f = forecast(t, in)
	if f.Fill.Full || !f.WithoutMaintenance.Full || *f.WithoutMaintenance.Day != 39 {
		t.Errorf("with maintenance full %v, without on day %v, want never and 39", f.Fill.Full, f.WithoutMaintenance.Day)
	}
}

func TestRowSizesSideBySide(t *testing.T) {
	in := inputs(1, func(*workload.GrowthHour) {})
	in.Tables[0].Measured = &Sample{Rows: 1000, Size: datamemory.Size{Fixed: 80_000}}
	f := forecast(t, in)
	if r := f.Rows[0]; r.Computed != 100_000 || *r.Measured != 80_000 || *r.Difference != 250_000 {
		t.Errorf("%+v: computed 100 bytes are 25 %% more than measured 80", r)
	}
	if f.Rows[1].Measured != nil || f.Rows[1].Difference != nil || f.Basis != "mixed" {
		t.Errorf("%+v is measured, basis %q", f.Rows[1], f.Basis)
	}
}

func TestInputsAreRefused(t *testing.T) {
	for _, row := range []struct {
		names  string
		change func(*Inputs)
	}{
		{"schema", func(in *Inputs) { in.Schema = "x" }},
		{"replicas", func(in *Inputs) { in.Cluster.DataNodes = 3 }},
		{"partitions", func(in *Inputs) { in.Cluster.Partitions = 0 }},
		{"reserve_percent", func(in *Inputs) { in.Cluster.ReservePercent = 100 }},
		{"data_memory_bytes", func(in *Inputs) { in.Cluster.DataMemory = 0 }},
		{"log_parts", func(in *Inputs) { in.Cluster.LogParts = -1 }},
		{"redo log", func(in *Inputs) { in.Cluster.LogFiles = 1 << 30 }},
		{"batch_rows", func(in *Inputs) { in.Batch = 10_001 }},
		{"messages_per_day", func(in *Inputs) { in.MessagesPerDay = 0 }},
		{"greylist", func(in *Inputs) { in.Tables = in.Tables[1:] }},
		{"userprefs", func(in *Inputs) { in.Tables = append(in.Tables, in.Tables[1]) }},
		{"100,000 bytes", func(in *Inputs) { in.Tables[0].Computed.Rows = 0 }},
		{"100,000 bytes", func(in *Inputs) { in.Tables[0].Measured = &Sample{Rows: 1, Size: datamemory.Size{Fixed: 1 << 40}} }},
		{"redo log for a row", func(in *Inputs) { in.Tables[0].WriteBytes = -1 }},
		{"whole days", func(in *Inputs) { in.Hours = in.Hours[:23] }},
		{"hour 5 stands", func(in *Inputs) { in.Hours[4].Hour = 5 }},
		{"hour 4", func(in *Inputs) { in.Hours[4].Expired = -1 }},
		{"hour 4: 1 rows of 0 expired", func(in *Inputs) { in.Hours[4].Expired = 1 }},
	} {
		in := inputs(1, func(*workload.GrowthHour) {})
		row.change(in)
		if _, err := Make(in); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), row.names) {
			t.Errorf("error %v does not name %q", err, row.names)
		}
	}
}

// FuzzReadInputs: what is read can be forecast, and comes out the same when it is
// written and read again.
func FuzzReadInputs(f *testing.F) {
	var text bytes.Buffer
	if err := WriteJSON(&text, inputs(1, func(h *workload.GrowthHour) { h.Triplets = 1e9 })); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"schema":"mailbench.memory_inputs/v1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := ReadInputs("fuzz", bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, fs.ErrInvalid) || !strings.HasPrefix(err.Error(), "fuzz: ") {
				t.Fatalf("error %v does not name the file", err)
			}
			return
		}
		first := forecast(t, in)
		var again bytes.Buffer
		if err := WriteJSON(&again, in); err != nil {
			t.Fatal(err)
		}
		in, err = ReadInputs("again", &again)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(first)
		if b, _ := json.Marshal(forecast(t, in)); !bytes.Equal(a, b) {
			t.Fatalf("%s became %s", a, b)
		}
	})
}

func TestTextOfAForecast(t *testing.T) {
	in := inputs(9, func(h *workload.GrowthHour) {
		h.Triplets, h.Clients = int64(min(h.Hour, 30)+1)*20_000, 1000
		h.GreylistWrites = 1_234_567
		if h.Hour%24 == 2 {
			h.Scanned, h.Expired = h.Triplets, 50_000
		}
	})
	in.Tables[0].Measured = &Sample{Rows: 1000, Size: datamemory.Size{Fixed: 80_000}}
	f := forecast(t, in)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"testdata/forecast.md":   func(b *bytes.Buffer) error { return f.WriteText(b) },
		"testdata/forecast.json": func(b *bytes.Buffer) error { return WriteJSON(b, f) },
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs; look at it with -update:\n%s", name, got.String())
		}
		for line := range strings.Lines(got.String()) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: wider than 80 columns: %s", name, line)
			}
		}
	}
}
