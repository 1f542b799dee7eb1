package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/mailbench/mailbench/results/capacity"
)

// ProposalText draws a proposal for a terminal of so many columns, at least 80. Only
// what has no space to break at may be wider.
func ProposalText(w io.Writer, p *capacity.Proposal, width int) error {
	word := map[capacity.Answer]string{
		capacity.CarriedAlready: "MEASURED", capacity.Proposed: "PROPOSED", capacity.Refused: "NO PROPOSAL",
	}[p.Answer]
	var all []section
	if len(p.Parts) > 0 {
		t := &table{left: 3, head: []string{"part", "basis", "from steps", "figure", "busy", "bound"}}
		for _, part := range p.Parts {
			t.add(part.Name, string(part.Basis), part.From, part.Value, busy(part.BusyPPM), busy(part.BoundPPM))
		}
		notes := []string{fmt.Sprintf("At the target's peak, a constant rate of %s messages a day: peak factor %.3g.", count(p.RatePerDay), float64(p.PeakPPM)/1e6)}
		all = append(all, section{title: "What it rests on", table: t, notes: notes})
	}
	if len(p.Demands) > 0 {
		t := &table{left: 2, head: []string{"node", "regime", "highest rate met", "busiest node", "CPU a message"}}
		for _, d := range p.Demands {
			t.add(string(d.Role), string(d.Regime), count(d.PerDay), busy(d.BusyPPM), micros(d.CPUUS))
		}
		all = append(all, section{title: "What was measured", table: t})
	}
	if len(p.Notes) > 0 {
		all = append(all, section{title: "Notes", notes: p.Notes})
	}
	if p.Next != "" {
		all = append(all, section{title: "Test it", command: p.Next})
	}
	return writeText(w, word+": "+p.Why+".", all, max(width, 80))
}

// busy writes a share of a quota.
func busy(ppm int64) string {
	if ppm == 0 {
		return none
	}
	return fmt.Sprintf("%.1f %%", float64(ppm)/10_000)
}

// ProposalJSON writes a proposal, schema mailbench.proposal/v1.
func ProposalJSON(w io.Writer, p *capacity.Proposal) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(p)
}
