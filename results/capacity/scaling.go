package capacity

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/usl"
)

// Varied is a search of another number of nodes.
type Varied struct {
	Dir    string // its name, below that of the search
	Result *Result
}

// ReadVariants judges the searches of other numbers of nodes in the directories below
// dir, by size: there may be none.
func ReadVariants(dir string, judge func(dir string) (*Result, error)) ([]Varied, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for variants of a search: %w", err)
	}
	var all []Varied
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), SQLNodesDir) && !strings.HasPrefix(e.Name(), DataNodesDir) {
			continue
		}
		r, err := judge(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has not begun
		}
		if err != nil {
			return nil, err
		}
		if len(r.Topology.Nodes) > 0 {
			all = append(all, Varied{e.Name(), r})
		}
	}
	slices.SortStableFunc(all, func(a, b Varied) int { return bySize(a.Result, b.Result) })
	return all, nil
}

// fitScaling fits the Universal Scalability Law to the rates that a search and its
// variants met, healthy, against the number of nodes of a role. What ended at the other
// role's processors says nothing of this one, and is left out; so is a search that is not
// over, or missed nothing: what it met is less than it can do. why says, in words, why
// there is no law, "" if there is one or nothing to fit.
func fitScaling(base *Result, variants []*Result, role topology.Role) (law scaling, why string) {
	var points []usl.Point
	varied := false
	for i, r := range append([]*Result{base}, variants...) {
		if !base.scales(r, role) {
			continue
		}
		varied = varied || i > 0 && r.count(role) != base.count(role)
		points = append(points, usl.Point{N: float64(r.count(role)), X: float64(r.Find(Healthy).MetPerDay)})
	}
	if !varied {
		return nil, ""
	}
	m, err := usl.Fit(points, usl.DefaultOptions(base.Search.Seed))
	if err != nil {
		return nil, err.Error()
	}
	return func(n float64) (x, low, high float64, extrapolated bool, err error) {
		p, err := m.Predict(n)
		return p.X, p.Low, p.High, p.Extrapolated, err
	}, ""
}

// scales says whether what another search met, healthy, says how the rate grows with the
// number of nodes of a role.
func (r *Result) scales(other *Result, role topology.Role) bool {
	rest := topology.SQL
	if role == topology.SQL {
		rest = topology.Data
	}
	f := other.Find(Healthy)
	return f != nil && f.Between() && other.Verdict == "" && other.count(rest) == r.count(rest) && f.Limit.Resource != cpuOf(rest) && f.Limit.Resource != generatorName
}

// MemoryFile is a forecast of memory in the directory of a search.
const MemoryFile = "memory.json"

const (
	memorySchema = "mailbench.memory/v1"
	mostMemory   = 16 << 20 // bytes of the file
)

// ReadMemory takes what a proposal needs from the forecast of mailbench capacity memory
// in dir; nil if there is none.
func ReadMemory(dir string) (*Memory, error) {
	path := filepath.Join(dir, MemoryFile)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // a forecast is no must
	}
	if err != nil {
		return nil, fmt.Errorf("read memory forecast: %w", err)
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, mostMemory+1))
	if err != nil {
		return nil, fmt.Errorf("read memory forecast: %w", err)
	}
	m, err := decodeMemory(text)
	if err != nil {
		return nil, fmt.Errorf("read memory forecast: %s: %w", path, err)
	}
	return m, nil
}

// decodeMemory reads over what a proposal has no use for.
func decodeMemory(text []byte) (*Memory, error) {
	if len(text) > mostMemory {
		return nil, fmt.Errorf("more than %d bytes", mostMemory)
	}
	var f struct {
		Schema         string `json:"schema"`
		MessagesPerDay int64  `json:"messages_per_day"`
		Cluster        struct {
			DataNodes      int   `json:"data_nodes"`
			ReservePercent int64 `json:"reserve_percent"`
			Base           int64 `json:"base_bytes"`
		} `json:"cluster"`
		Steady *struct {
			Used int64 `json:"used_bytes"`
		} `json:"steady"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, err
	}
	const mostBytes = 1 << 50
	m := &Memory{MessagesPerDay: f.MessagesPerDay, DataNodes: f.Cluster.DataNodes, ReservePercent: f.Cluster.ReservePercent, BaseBytes: f.Cluster.Base}
	if f.Steady != nil {
		m.Steady, m.UsedBytes = true, f.Steady.Used
	}
	switch {
	case f.Schema != memorySchema:
		return nil, fmt.Errorf("schema is %q, must be %q", f.Schema, memorySchema)
	case m.MessagesPerDay < 1 || m.MessagesPerDay > MostTarget:
		return nil, fmt.Errorf("messages_per_day is %d, must be 1 to %d", m.MessagesPerDay, MostTarget)
	case m.DataNodes < 1 || m.DataNodes > 1000:
		return nil, fmt.Errorf("cluster.data_nodes is %d, must be 1 to 1000", m.DataNodes)
	case m.ReservePercent < 0 || m.ReservePercent > 50:
		return nil, fmt.Errorf("cluster.reserve_percent is %d, must be 0 to 50", m.ReservePercent)
	case m.BaseBytes < 0 || m.BaseBytes > mostBytes:
		return nil, fmt.Errorf("cluster.base_bytes is %d, must be 0 to %d", m.BaseBytes, int64(mostBytes))
	case m.Steady && (m.UsedBytes < m.BaseBytes || m.UsedBytes > mostBytes):
		return nil, fmt.Errorf("steady.used_bytes is %d, must be cluster.base_bytes to %d", m.UsedBytes, int64(mostBytes))
	}
	return m, nil
}

// bySize orders topologies by their SQL nodes, then data nodes.
func bySize(a, b *Result) int {
	return cmp.Or(cmp.Compare(a.count(topology.SQL), b.count(topology.SQL)), cmp.Compare(a.count(topology.Data), b.count(topology.Data)))
}
