package ndberr

import "testing"

func TestManagementCode(t *testing.T) {
	for _, c := range []struct {
		says, text string
		want       uint16
	}{
		{"a text with status and classification", "Node shutdown in progress: Permanent error: Application error", 5026},
		{"a text alone", "No contact with database nodes", 5030},
		{"a text that ends in a stop", "The process has wrong type. Expected a DB process.: Permanent error: Application error", 5002},
		{"a longer text that begins alike is another", "Node shutdown in progress, somewhere", 0},
		{"a shorter one too", "Node shutdown", 0},
		{"success", "Ok", 0},
		{"nothing", "", 0},
	} {
		if got := ManagementCode(c.text); got != c.want {
			t.Errorf("%s: %d, want %d", c.says, got, c.want)
		}
	}
}
