package chaos

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/topology"
)

// kindsTable is the table of docs/faults.md.
func kindsTable() string {
	var b strings.Builder
	b.WriteString("| kind | what | on | settings | needs | nearest |\n|---|---|---|---|---|---|\n")
	for _, d := range Catalogue() {
		on := map[topology.Role]string{topology.Management: "M", topology.Data: "D", topology.SQL: "S"}
		var roles, settings, needs []string
		for _, r := range d.Roles {
			roles = append(roles, on[r])
		}
		for _, s := range d.Settings {
			one := fmt.Sprintf("`%s`: %s, %s", s.Name, s.Doc, s.Range)
			switch {
			case s.Required:
				one += " (must be set)"
			case s.Default != "":
				one += " (" + s.Default + ")"
			}
			settings = append(settings, one)
		}
		for _, c := range d.Needs {
			needs = append(needs, string(c))
		}
		where := strings.Join(roles, " ")
		switch {
		case d.Hosts:
			where += ", whole hosts"
		case d.Single:
			where += ", one node"
		case d.Rolls:
			where += ", one after another"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", d.Kind, d.Summary, where,
			strings.Join(settings, "; "), strings.Join(needs, ", "), d.Nearest)
	}
	return b.String()
}

func TestDocumentationHasEveryKind(t *testing.T) {
	page, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	if table := kindsTable(); !strings.Contains(string(page), table) {
		t.Errorf("docs/faults.md must have this table:\n%s", table)
	}
}
