package scenarios

import (
	"testing"

	"github.com/mailbench/mailbench/workload"
)

func TestWorkloadTakesWhatIsNotWrittenFromItsProfile(t *testing.T) {
	const head = "name: t\nhypothesis: It works.\n"
	for _, row := range []struct {
		sentence, text          string
		wantMessages, wantsJobs int64
	}{
		{"the default profile", "", 4_000_000, 200},
		{"the modern profile", "workload: {profile: modern}\n", 4_000_000, 400},
		{"a scenario's own volume", "workload: {profile: modern, messages_per_day: 1000}\n", 1000, 400},
	} {
		s, err := Parse("t.yaml", []byte(head+row.text))
		if err != nil {
			t.Fatal(err)
		}
		if s.Workload.MessagesPerDay != row.wantMessages || s.Workload.JobsPerDay != row.wantsJobs {
			t.Errorf("%s: %+v, want %d messages and %d jobs", row.sentence, s.Workload, row.wantMessages, row.wantsJobs)
		}
		p, err := NewPlan(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		profile, err := workload.BuiltinProfile(s.Workload.Profile)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := p.Population.Correspondent(7, 1), (workload.Population{Seed: s.Seed, Peers: &profile.Peers}).Correspondent(7, 1); got != want {
			t.Errorf("%s: a correspondent is %+v, want %+v as the profile's peers are", row.sentence, got, want)
		}
	}
}
