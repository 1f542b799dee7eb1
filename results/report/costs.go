package report

import (
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/results"
)

// costs tells of each path what its cheapest and its dearest decision cost;
// run.json has them all.
func costs(run *results.Run) section {
	t := &table{left: 1, head: []string{"path", "decisions", "round trips", "scans", "rows", "statements", "bytes on the wire"}}
	for _, path := range reference.Paths {
		decisions := run.Costs[path.String()]
		if len(decisions) == 0 {
			continue
		}
		t.add(path.String(), count(int64(len(decisions))), costRange(decisions, "ndb_round_trips"),
			costRange(decisions, "ndb_range_scans", "ndb_table_scans"), costRange(decisions, "ndb_rows_read"),
			costRange(decisions, "statements"), costRange(decisions, "wire_bytes_in", "wire_bytes_out"))
	}
	return section{title: "Cost of a decision", table: t, notes: []string{
		"Of the cheapest and the dearest decision of a path, counted before the load: round trips to the data nodes, " +
			"scans, rows that they sent; statements that the SQL node performed, and bytes between it and the client.",
	}}
}

// costRange is the least and the most of the sum of some counters.
func costRange(decisions map[string]results.CostResult, counters ...string) string {
	least, most, found := int64(0), int64(0), false
	for _, d := range decisions {
		var sum int64
		for _, counter := range counters {
			n, counted := d.Exact[counter]
			if !counted {
				return none
			}
			sum += n
		}
		if !found {
			least, most, found = sum, sum, true
		}
		least, most = min(least, sum), max(most, sum)
	}
	if least == most {
		return count(least)
	}
	return count(least) + "–" + count(most)
}
