package workload

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

func TestBuiltInProfilesAreNamedAsTheirFilesAndComeBackAsWritten(t *testing.T) {
	if got := ProfileNames(); !slices.Equal(got, []string{"berkeley-2008", "modern"}) {
		t.Errorf("built in are %v", got)
	}
	for _, name := range ProfileNames() {
		p, err := BuiltinProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != name {
			t.Errorf("profile %s calls itself %s", name, p.Name)
		}
		again, err := ParseProfile("again.yaml", p.YAML())
		if err != nil || !reflect.DeepEqual(*again, p) {
			t.Errorf("%s: wrote\n%s\nread %+v, %v\nwant %+v", name, p.YAML(), again, err, p)
		}
		if _, err := NewTrace(1, p.Model, Population{Seed: 1, Accounts: 1000, Domain: DefaultDomain, Backends: BackendNames(1), Peers: &p.Peers}, Window{0, time.Hour}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := BuiltinProfile("berkley")
	if err == nil || !strings.Contains(err.Error(), "berkeley-2008, modern") {
		t.Errorf("error %v does not say which profiles there are", err)
	}
	if p, _ := BuiltinProfile("modern"); true {
		p.Peers.Schedules[0]++ // the caller's own
		if again, _ := BuiltinProfile("modern"); again.Peers.Validate() != nil {
			t.Error("a caller's change has reached the built-in profile")
		}
	}
}

// TestBadProfiles changes one line of a good profile.
func TestBadProfiles(t *testing.T) {
	data, err := os.ReadFile("profiles/berkeley-2008.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := string(data)
	for _, row := range []struct{ sentence, old, new, want string }{
		{"a curve with 23 hours", "hours: [12, 8,", "hours: [20,", "hours: must be a list of 24 hours, in thousandths, not of 23"},
		{"a curve that sums to more than a day", "hours: [12, 8,", "hours: [13, 8,", "hours: must sum to 1000, not 1001"},
		{"shares that exceed one", "legitimate: [85%", "legitimate: [85.5%", "recipients.legitimate: must sum to 100%, not 100.5%"},
		{"schedules that exceed one", "never: 1%", "never: 2%", "peers.schedules: must sum to 100%, not 101%"},
		{"a share above one", "spam: 40%", "spam: 140%", "spam: must be a percentage such as 99.9%, from 0% to 100%, not \"140%\""},
		{"a share without its sign", "spam: 40%", "spam: 0.4", "spam: must be a percentage such as 99.9%, from 0% to 100%, not 0.4"},
		{"a negative rate", "messages_per_day: 4000000", "messages_per_day: -1", "messages_per_day: must be a whole number from 1 to 1000000000, not -1"},
		{"no rate", "messages_per_day: 4000000", "", "profile: has no messages_per_day; it must be a whole number"},
		{"a field that is misspelled", "unknown: 30%", "unknwon: 30%", "no field is called \"unknwon\"; did you mean unknown?"},
		{"a day of no week", "weekday: tuesday", "weekday: thuesday", "weekday: must be a day of the week such as monday, not \"thuesday\""},
		{"a burst below the mean", "size: 4.5", "size: 0.5", "bursts.size: must be a number from 1 to 20 with at most three decimals, not 0.5"},
		{"bursts that the hours cannot give", "per_day: 3, size: 4.5", "per_day: 24, size: 20", "bursts.per_day: must be at most 13, the hours"},
		{"nothing left by the blocklist", "blocked: 89.9%", "blocked: 100%", "blocked: must be below 100%"},
		{"an unknown provider", "providers: [yahoo,", "providers: [yahooo,", "peers.providers[0]: must be never or exim"},
		{"an unknown program", "sendmail: 30%", "zmailer: 30%", "no field is called \"zmailer\""},
		{"jobs that exceed one", "moves: 30%", "moves: 51%", "accounts.moves: must be at most 50%, what accounts.new leaves, not 51%"},
		{"an alias", "spam: 40%", "spam: &s 40%", "anchors, aliases and merge keys are not allowed in a profile"},
		{"no YAML", "name: berkeley-2008", "name: [", "profile.yaml:"},
	} {
		at := strings.Index(good, row.old)
		if at < 0 {
			t.Fatalf("%s: the profile has no %q", row.sentence, row.old)
		}
		bad := strings.Replace(good, row.old, row.new, 1)
		_, err := ParseProfile("profile.yaml", []byte(bad))
		var input *strictyaml.InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), row.want) || input.Line == 0 || input.Column == 0 {
			t.Errorf("%s: got %v, want file:line:column and %q", row.sentence, err, row.want)
			continue
		}
		if strings.Contains(err.Error(), "scenario") {
			t.Errorf("%s: %v speaks of a scenario", row.sentence, err)
		}
	}
	for _, empty := range []string{"", "# nothing\n", "[]", "\xff"} {
		if _, err := ParseProfile("profile.yaml", []byte(empty)); err == nil {
			t.Errorf("%q is a profile", empty)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	for _, name := range ProfileNames() {
		data, err := os.ReadFile("profiles/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("hours: [1, 2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("fuzz.yaml", data)
		if err != nil {
			return
		}
		again, err := ParseProfile("again.yaml", p.YAML())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("wrote\n%s\nread %+v, %v", p.YAML(), again, err)
		}
		if err := p.Model.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// day counts the arrivals of a generated day.
type arrivalsOfDay struct {
	minutes          [24 * 60]int64
	legitimate, spam int64
}

func generate(t *testing.T, p Profile) (a arrivalsOfDay) {
	t.Helper()
	tr, err := NewTrace(1, p.Model, Population{Seed: 1, Accounts: 1000, Domain: DefaultDomain, Backends: BackendNames(1), Peers: &p.Peers}, Window{0, 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(tr.Messages()) {
		m := tr.Message(n)
		a.minutes[m.At/time.Minute]++
		if m.Legitimate {
			a.legitimate++
		} else {
			a.spam++
		}
	}
	if total := a.legitimate + a.spam; total != p.Model.DayMessages() {
		t.Errorf("%s has %d messages, its model says %d", p.Name, total, p.Model.DayMessages())
	}
	return a
}

// peak is the busiest stretch of minutes that begins at a multiple of it, in
// thousandths of the mean.
func peak(minutes []int64, stretch int) int64 {
	var total, most int64
	for i := 0; i < len(minutes); i += stretch {
		var sum int64
		for _, n := range minutes[i : i+stretch] {
			sum += n
		}
		total, most = total+sum, max(most, sum)
	}
	return most * int64(len(minutes)) * 1000 / (total * int64(stretch))
}

func TestDayHasThePeaksThatWereMeasured(t *testing.T) {
	for _, name := range ProfileNames() {
		p, err := BuiltinProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		p.Model.MessagesPerDay = 200_000 // arrivals have the same shape, in a twentieth of the time
		bursty := generate(t, p)
		mean := (bursty.legitimate + bursty.spam) / (24 * 60)
		var bursts int64
		for _, n := range bursty.minutes {
			if n > 3*mean {
				bursts++
				if n < 4*mean || n > 5*mean {
					t.Errorf("%s: a burst of %d in a minute is %d.%02d times the mean, want 4 to 5", name, n, n/mean, n*100/mean%100)
				}
			}
		}
		if bursts != p.Model.Bursts {
			t.Errorf("%s: %d minutes with a burst, want %d", name, bursts, p.Model.Bursts)
		}

		p.Model.Bursts = 0
		var week []int64
		weekday, weekend := arrivalsOfDay{}, arrivalsOfDay{}
		for d := time.Sunday; d <= time.Saturday; d++ {
			p.Model.Weekday = d
			day := generate(t, p)
			week = append(week, day.minutes[:]...)
			switch d {
			case time.Sunday:
				weekend = day
			case time.Tuesday:
				weekday = day
				if got := peak(day.minutes[:], 5); got < 2140 || got > 2490 {
					t.Errorf("%s: the busiest 5 minutes have %d thousandths of the day's mean, want 2140 to 2490 (sharif.edu)", name, got)
				}
			}
		}
		if got := weekend.legitimate * 1000 / weekday.legitimate; got != 375 {
			t.Errorf("%s: %d thousandths of a weekday's legitimate mail on a Sunday, want 375 (Columbia)", name, got)
		}
		if weekend.spam != weekday.spam {
			t.Errorf("%s: %d spams on a Sunday and %d on a Tuesday, want as many (Columbia)", name, weekend.spam, weekday.spam)
		}
		if got := peak(week, 30); name == DefaultProfile && (got < 2810 || got > 2890) {
			t.Errorf("%s: the busiest 30 minutes have %d thousandths of the week's mean, want 2810 to 2890 (sharif.edu)", name, got)
		}
	}
}

func TestOfferedAddsWhatTheBlocklistTurnsAway(t *testing.T) {
	m := Berkeley2008()
	if got := m.Offered(); got != 39_603_960 { // 4,000,000 / 0.101
		t.Errorf("%d messages are offered, want 39,603,960, of which 89.9 %% are turned away", got)
	}
	if got := newTrace(t, 0, 24*time.Hour).Offered(); got != m.Offered() {
		t.Errorf("the trace of the day has %d offered messages, its model %d", got, m.Offered())
	}
	m.Weekday = time.Sunday
	if got := m.DayMessages(); got != 1_600_000+900_000 {
		t.Errorf("a Sunday has %d messages, want the spam of every day and 0.375 of 2,400,000", got)
	}
}

func TestBurstsMoveWithTheSeedAndKeepTheirHours(t *testing.T) {
	m := Berkeley2008()
	seen := map[int]bool{}
	for seed := range uint64(50) {
		minutes := m.burstMinutes(seed)
		if len(minutes) != 3 || minutes[0]/60 == minutes[1]/60 || minutes[1]/60 == minutes[2]/60 {
			t.Fatalf("seed %d: bursts in minutes %v, want three in hours of their own", seed, minutes)
		}
		for _, at := range minutes {
			seen[at] = true
		}
		legitimate, spam := m.minutes(seed)
		for h := range 24 {
			var l, s int64
			for i := h * 60; i < h*60+60; i++ {
				if legitimate[i] < 0 || spam[i] < 0 {
					t.Fatalf("seed %d: minute %d has %d and %d messages", seed, i, legitimate[i], spam[i])
				}
				l, s = l+legitimate[i], s+spam[i]
			}
			if wantL, wantS := m.legitimateBefore(h*60+60)-m.legitimateBefore(h*60), m.spamBefore(h*60+60)-m.spamBefore(h*60); l != wantL || s != wantS {
				t.Fatalf("seed %d: hour %d has %d and %d messages, want %d and %d: a burst is of its hour", seed, h, l, s, wantL, wantS)
			}
		}
	}
	if len(seen) < 100 {
		t.Errorf("50 seeds have bursts in %d minutes only", len(seen))
	}
}

// TestReferenceHoldsEveryField holds docs/workload.md true.
func TestReferenceHoldsEveryField(t *testing.T) {
	text, err := os.ReadFile("../docs/workload.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	var hours []int64
	var p Profile
	p.Peers.Schedules = make([]int64, len(schedules))
	var walk func(path string, o strictyaml.Object)
	walk = func(path string, o strictyaml.Object) {
		for _, f := range o {
			full := strings.TrimPrefix(path+"."+f.Key, ".")
			if inner, ok := f.Value.(strictyaml.Object); ok && full != "weekdays" && full != "peers.schedules" {
				walk(full, inner)
				continue
			}
			if !strings.Contains(doc, "`"+full+"`") {
				t.Errorf("docs/workload.md does not explain %s", full)
			}
		}
	}
	walk("", p.fields(&hours))
	for _, name := range append(scheduleNames(), ProfileNames()...) {
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("docs/workload.md does not mention %s", name)
		}
	}
}
