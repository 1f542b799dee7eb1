package memory

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
)

// SizesSchema names the layout of Sizes.
const SizesSchema = "mailbench.row_sizes/v1"

// Sizes are what rows took of a real cluster's memory.
type Sizes struct {
	Schema  string `json:"schema"`
	Version string `json:"version"` // of the cluster
	// Partitions is how many a table has for each data node.
	PartitionsPerNode int `json:"partitions_per_node"`
	// Base is what a data node had used when the tables were there and empty.
	Base   int64             `json:"base_bytes"`
	Tables map[string]Sample `json:"tables"`
}

// Validate names what is wrong; the error wraps [fs.ErrInvalid]. Samples are
// checked as inputs.
func (s *Sizes) Validate() error {
	switch {
	case s.Schema != SizesSchema:
		return fmt.Errorf("row sizes: schema is %q, must be %q: %w", s.Schema, SizesSchema, fs.ErrInvalid)
	case s.PartitionsPerNode < 1 || s.PartitionsPerNode > 1000:
		return fmt.Errorf("row sizes: partitions_per_node is %d, must be 1 to 1000: %w", s.PartitionsPerNode, fs.ErrInvalid)
	case s.Base < 0 || s.Base > mostBytes:
		return fmt.Errorf("row sizes: base_bytes is %d, must be 0 to %d: %w", s.Base, int64(mostBytes), fs.ErrInvalid)
	}
	return nil
}

// ReadSizes reads what WriteJSON has written. The error names the file.
func ReadSizes(file string, r io.Reader) (*Sizes, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	s := &Sizes{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, err, fs.ErrInvalid)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}
