// Package memory forecasts when the data nodes' memory is full, what maintenance
// must delete, and what the redo log holds. It is arithmetic on what was recorded:
// how much a row takes, and how many rows each simulated hour leaves. The same
// inputs make the same forecast, byte for byte, on any machine.
// docs/capacity-memory.md gives the formulas.
package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"github.com/mailbench/mailbench/reference/datamemory"
	"github.com/mailbench/mailbench/workload"
)

// InputsSchema names the layout of Inputs.
const InputsSchema = "mailbench.memory_inputs/v1"

// Inputs are what a forecast is made of.
type Inputs struct {
	Schema         string `json:"schema"`
	Scenario       string `json:"scenario"`
	Seed           uint64 `json:"seed"`
	MessagesPerDay int64  `json:"messages_per_day"`
	Accounts       int    `json:"accounts"`
	FirstDay       string `json:"first_day"` // such as 2008-04-15

	Cluster Cluster               `json:"cluster"`
	Batch   int64                 `json:"batch_rows"` // that a transaction of maintenance looks at
	Tables  []TableSize           `json:"tables"`
	Hours   []workload.GrowthHour `json:"hours"`
}

// Cluster is what the data nodes are. Sizes are of one node.
type Cluster struct {
	DataNodes  int `json:"data_nodes"`
	Replicas   int `json:"replicas"`
	Partitions int `json:"partitions"` // of a table, each stored once per replica

	DataMemory int64 `json:"data_memory_bytes"`
	// ReservePercent is MinFreePct: what is kept for a restart, and refused to rows.
	ReservePercent int64 `json:"reserve_percent"`
	// Base is what is used before our tables have a row.
	Base int64 `json:"base_bytes"`

	LogFiles     int64 `json:"log_files"` // NoOfFragmentLogFiles, of each part
	LogFileBytes int64 `json:"log_file_bytes"`
	LogParts     int64 `json:"log_parts"`
}

// Sample is a number of rows and what they took in one replica.
type Sample struct {
	Rows int64 `json:"rows"`
	datamemory.Size
}

// TableSize is what the rows of a table take.
type TableSize struct {
	Table    string  `json:"table"`
	Computed Sample  `json:"computed"`
	Measured *Sample `json:"measured,omitempty"`
	// Bytes of the redo log of one replica for storing a row, and for deleting one.
	WriteBytes  int64 `json:"write_log_bytes"`
	DeleteBytes int64 `json:"delete_log_bytes"`
}

// sample is the measured one if there is one.
func (t TableSize) sample() Sample {
	if t.Measured != nil {
		return *t.Measured
	}
	return t.Computed
}

// bytes is what so many rows take in one replica, rounded up.
func (s Sample) bytes(rows int64) int64 {
	return mulDivUp(rows, s.Total(), s.Rows)
}

// mulDivUp is a*b/c rounded up, for numbers from 0 on of which the product may not
// fit 64 bits; the quotient must.
func mulDivUp(a, b, c int64) int64 {
	high, low := bits.Mul64(uint64(a), uint64(b))
	quotient, rest := bits.Div64(high, low, uint64(c))
	if rest > 0 {
		quotient++
	}
	return int64(quotient)
}

func divUp(a, b int64) int64 { return (a + b - 1) / b }

// Bounds of what is read, so that no result leaves 64 bits.
const (
	mostRows  = 1e9
	mostBytes = 1 << 50
)

// Validate names what is wrong; the error wraps [fs.ErrInvalid].
func (in *Inputs) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("memory inputs: "+format+": %w", append(args, fs.ErrInvalid)...)
	}
	c := in.Cluster
	switch {
	case in.Schema != InputsSchema:
		return bad("schema is %q, must be %q", in.Schema, InputsSchema)
	case c.Replicas < 1 || c.Replicas > 4 || c.DataNodes < c.Replicas || c.DataNodes > 1000 || c.DataNodes%c.Replicas != 0:
		return bad("%d data nodes with %d replicas: must be 1 to 4 replicas, and nodes a multiple of them, at most 1000", c.DataNodes, c.Replicas)
	case c.Partitions < 1 || c.Partitions > 1_000_000:
		return bad("partitions is %d, must be 1 to 1,000,000", c.Partitions)
	case c.ReservePercent < 0 || c.ReservePercent > 50:
		return bad("reserve_percent is %d, must be 0 to 50", c.ReservePercent)
	case in.Batch < 1 || in.Batch > 10_000: // that of greylist_expire
		return bad("batch_rows is %d, must be 1 to 10,000", in.Batch)
	case in.MessagesPerDay < 1 || in.MessagesPerDay > 1_000_000_000:
		return bad("messages_per_day is %d, must be 1 to 1,000,000,000", in.MessagesPerDay)
	case len(in.Hours) == 0 || len(in.Hours)%24 != 0 || len(in.Hours) > 24*workload.MaxGrowthDays:
		return bad("%d hours, must be 1 to %d whole days", len(in.Hours), workload.MaxGrowthDays)
	}
	for name, n := range map[string]int64{
		"data_memory_bytes": c.DataMemory, "log_files": c.LogFiles, "log_file_bytes": c.LogFileBytes, "log_parts": c.LogParts,
	} {
		if n < 1 || n > mostBytes {
			return bad("%s is %d, must be 1 to %d", name, n, int64(mostBytes))
		}
	}
	if c.LogFiles > 1<<20 || c.LogParts > 1<<10 || c.LogFileBytes > 1<<32 || c.Base < 0 || c.Base > mostBytes {
		return bad("a redo log of %d parts of %d files of %d bytes, or base_bytes of %d, is beyond what NDB can have", c.LogParts, c.LogFiles, c.LogFileBytes, c.Base)
	}
	for _, name := range tables {
		if n := len(slices.Collect(in.sizes(name))); n != 1 {
			return bad("%d sizes of table %s, must be one", n, name)
		}
	}
	for _, t := range in.Tables {
		samples := []Sample{t.Computed}
		if t.Measured != nil {
			samples = append(samples, *t.Measured)
		}
		for _, s := range samples {
			if s.Rows < 1 || s.Rows > mostRows || min(s.Fixed, s.Var, s.Hash, s.Ordered) < 0 || s.Total() < 1 || s.Total()/s.Rows > 100_000 {
				return bad("table %s: %d rows of %d bytes, must be 1 to 10^9 rows of at most 100,000 bytes each", t.Table, s.Rows, s.Total())
			}
		}
		if min(t.WriteBytes, t.DeleteBytes) < 0 || max(t.WriteBytes, t.DeleteBytes) > 200_000 {
			return bad("table %s: %d and %d bytes of redo log for a row, must be 0 to 200,000", t.Table, t.WriteBytes, t.DeleteBytes)
		}
	}
	for i, h := range in.Hours {
		if h.Hour != i {
			return bad("hour %d stands where %d should", h.Hour, i)
		}
		for _, n := range []int64{
			h.Messages, h.Triplets, h.Clients, h.Accounts, h.Routes, h.Changes, h.Preferences, h.Scanned, h.Expired,
			h.GreylistWrites, h.PreferenceWrites, h.AccountWrites, h.RouteWrites, h.ChangeWrites,
		} {
			if n < 0 || n > mostRows {
				return bad("hour %d: a number is %d, must be 0 to 10^9", i, n)
			}
		}
		if h.Expired > h.Scanned || h.Scanned > h.Triplets+h.Clients {
			return bad("hour %d: %d rows of %d expired, of a greylist of %d", i, h.Expired, h.Scanned, h.Triplets+h.Clients)
		}
	}
	return nil
}

func (in *Inputs) sizes(table string) func(func(TableSize) bool) {
	return func(yield func(TableSize) bool) {
		for _, t := range in.Tables {
			if t.Table == table && !yield(t) {
				return
			}
		}
	}
}

// Files of a forecast in its directory.
const (
	InputsFile   = "memory-inputs.json" // what was simulated, and row sizes
	ForecastFile = "memory.json"        // made of it
)

// maxInputs is how large a file of inputs may be: 400 days are below 5 MB.
const maxInputs = 16 << 20

// ReadInputs reads what WriteJSON has written. The error names the file.
func ReadInputs(file string, r io.Reader) (*Inputs, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInputs+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(text) > maxInputs {
		return nil, fmt.Errorf("%s: more than %d bytes: %w", file, maxInputs, fs.ErrInvalid)
	}
	in := &Inputs{}
	if err := json.Unmarshal(text, in); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, err, fs.ErrInvalid)
	}
	if err := in.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return in, nil
}

// Read makes the forecast whose inputs are in dir; nil if none are.
func Read(dir string) (*Forecast, error) {
	file, err := os.Open(filepath.Join(dir, InputsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a forecast is no must
	}
	if err != nil {
		return nil, fmt.Errorf("read the forecast of memory: %w", err)
	}
	defer file.Close() // only read
	in, err := ReadInputs(InputsFile, file)
	if err != nil {
		return nil, err
	}
	f, err := Make(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", InputsFile, err)
	}
	return f, nil
}

// WriteJSON writes inputs or a forecast.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(v)
}
