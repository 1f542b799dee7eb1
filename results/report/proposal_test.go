package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mailbench/mailbench/reference/topology"
	"github.com/mailbench/mailbench/results/capacity"
	"gotest.tools/v3/golden"
)

func TestProposalText(t *testing.T) {
	p := &capacity.Proposal{
		Schema: capacity.ProposalSchema, Scenario: "capacity", TargetPerDay: 14_000_000, PeakPPM: 1_800_000, RatePerDay: 25_200_000, Answer: capacity.Proposed,
		Why: "4 data nodes in 2 node groups and 4 SQL nodes should carry 14,000,000 messages a day, healthy and with one node dead; 2 data nodes and 2 SQL nodes were measured",
		Parts: []capacity.Part{
			{Name: "SQL nodes", Value: "4", BusyPPM: 364_554, BoundPPM: 841_500, Basis: capacity.Extrapolated, From: "healthy 1-2, 5-6"},
			{Name: "SQL nodes, one dead", Value: "3", BusyPPM: 656_250, BoundPPM: 841_500, Basis: capacity.Extrapolated, From: "short:sql1 7-8"},
			{Name: "SQL survivor's work", Value: "x 1.00", Basis: capacity.Measured, From: "short:sql1 7-8"},
			{Name: "bound of SQL nodes", Value: "84 %", Basis: capacity.Measured, From: "healthy 2"},
			{Name: "scaling of SQL nodes", Value: "linear", Basis: capacity.Assumed, From: "-"},
			{Name: "DataMemory", Value: "256M", Basis: capacity.Assumed, From: "-"},
		},
		Demands: []capacity.Demand{
			{Role: topology.SQL, Regime: capacity.Healthy, Steps: []int{1, 2}, PerDay: 18_176_400, BusyPPM: 841_500, CPUUS: 1400},
			{Role: topology.Data, Regime: "short:data2", Steps: []int{4, 5}, PerDay: 20_769_942, BusyPPM: 841_500, CPUUS: 1050},
		},
		Notes: []string{"Whether DataMemory holds so much was not examined: mailbench capacity memory forecasts it."},
		Next:  "mailbench capacity results/runs/mine/capacity-14m.yaml",
	}
	var b bytes.Buffer
	if err := ProposalText(&b, p, 80); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
	golden.Assert(t, b.String(), "proposal.txt")
}
