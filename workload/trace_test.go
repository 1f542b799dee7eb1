package workload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"gotest.tools/v3/golden"
)

func newTrace(t testing.TB, from, duration time.Duration) *Trace {
	t.Helper()
	tr, err := NewTrace(1, Berkeley2008(), DefaultPopulation(1), Window{From: from, Duration: duration})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestTraceOfASeedNeverChanges(t *testing.T) {
	var b bytes.Buffer
	for _, w := range []Window{
		{0, time.Minute},
		{11 * time.Hour, 2 * time.Second},
		{11*time.Hour + 30*time.Second + 1, 90 * time.Second},
	} {
		tr := newTrace(t, w.From, w.Duration)
		fmt.Fprintf(&b, "from %v for %v: %d messages, %d actions, %d jobs, sha256 %s\n", w.From, w.Duration, tr.Messages(), tr.Actions(), tr.Jobs(), tr.SHA256())
	}
	shown, saved := 0, false
	for item := range newTrace(t, 11*time.Hour, time.Minute).All() {
		if m := item.Message; m != nil && shown < 8 {
			shown++
			fmt.Fprintf(&b, "message %d at %v legitimate %t from %s <%s> who has schedule %d to %s\n", m.Number, m.At, m.Legitimate, m.Client, m.Sender, m.Schedule, strings.Join(m.Recipients, " "))
		}
		if j := item.Job; j != nil {
			fmt.Fprintf(&b, "job %d at %v:", j.Number, j.At)
			for _, c := range j.Changes {
				fmt.Fprintf(&b, " %s of %s %s%s%v id %x", c.Action, c.Login, c.Account.Backend, c.Backend, c.Targets, c.ID)
			}
			fmt.Fprintln(&b)
		}
		if a := item.Action; a != nil && len(a.Saves) > 0 && !saved {
			saved = true
			fmt.Fprintf(&b, "action %d at %v of %s saves %v\n", a.Number, a.At, a.User, a.Saves)
		}
	}
	golden.AssertBytes(t, b.Bytes(), "trace.golden", "every recorded trace would change with it")
}

// Published numbers, so that the bytes do not depend on this code alone.
func TestMixIsSplitmix64(t *testing.T) {
	// Seed and outputs as in Rosetta Code, "Pseudo-random numbers/Splitmix64".
	d := draws(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423} {
		if got := d.next(); got != want {
			t.Errorf("output %d is %d, want %d", i, got, want)
		}
	}
}

func TestItemsDoNotDependOnTheOrderOfAsking(t *testing.T) {
	tr := newTrace(t, 11*time.Hour, time.Minute)
	items := slices.Collect(tr.All())
	other := newTrace(t, 0, time.Second) // the window makes no difference either
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	for _, item := range items {
		if m := item.Message; m != nil && !reflect.DeepEqual(*m, other.Message(m.Number)) {
			t.Fatalf("message %d alone is %+v, in its window %+v", m.Number, other.Message(m.Number), *m)
		}
		if a := item.Action; a != nil && !reflect.DeepEqual(*a, other.Action(a.Number)) {
			t.Fatalf("action %d alone is %+v, in its window %+v", a.Number, other.Action(a.Number), *a)
		}
		if j := item.Job; j != nil && !reflect.DeepEqual(*j, other.Job(j.Number)) {
			t.Fatalf("job %d alone is %+v, in its window %+v", j.Number, other.Job(j.Number), *j)
		}
	}
	if m := tr.Message(4_000_000); m.Recipients != nil {
		t.Errorf("the day has messages 0 to 3999999, yet there is %+v", m)
	}
}

func TestOtherSeedsMakeOtherTraces(t *testing.T) {
	base, window := newTrace(t, 0, time.Minute).SHA256(), Window{0, time.Minute}
	for name, make := range map[string]func() (*Trace, error){
		"trace seed": func() (*Trace, error) { return NewTrace(2, Berkeley2008(), DefaultPopulation(1), window) },
		"population": func() (*Trace, error) { return NewTrace(1, Berkeley2008(), DefaultPopulation(2), window) },
	} {
		if tr, err := make(); err != nil || tr.SHA256() == base {
			t.Errorf("another %s made the same trace (error %v)", name, err)
		}
	}
}

func TestWindows(t *testing.T) {
	whole := slices.Collect(newTrace(t, 11*time.Hour, 3*time.Minute).All())
	begin := 11 * time.Hour
	for _, row := range []struct {
		sentence       string
		from, duration time.Duration
	}{
		{"a window on minutes", begin, 2 * time.Minute},
		{"a window within one minute", begin + 10*time.Second + 5*time.Microsecond, 20 * time.Second},
		{"a window that cuts the minutes at both ends", begin + 59*time.Second, 62*time.Second + time.Microsecond},
		{"a window of a microsecond", begin + time.Second, time.Microsecond},
		{"a window that begins within a microsecond", begin + time.Second + 1, time.Second},
	} {
		tr := newTrace(t, row.from, row.duration)
		var want []Item
		for _, item := range whole {
			if item.At >= row.from && item.At < row.from+row.duration {
				want = append(want, item)
			}
		}
		got := slices.Collect(tr.All())
		if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d items, want the %d of the whole that lie in it", row.sentence, len(got), len(want))
		}
		if n := tr.Messages() + tr.Actions() + tr.Jobs(); n != int64(len(want)) {
			t.Errorf("%s: counts %d items without making them, want %d", row.sentence, n, len(want))
		}
		if !slices.IsSortedFunc(got, func(a, b Item) int { return int(a.At - b.At) }) {
			t.Errorf("%s: items are not in the order of arrival", row.sentence)
		}
	}
	for _, w := range []Window{{-1, time.Hour}, {24 * time.Hour, time.Hour}, {0, 0}, {time.Hour, 23*time.Hour + 1}} {
		if _, err := NewTrace(1, Berkeley2008(), DefaultPopulation(1), w); err == nil {
			t.Errorf("window %v is accepted", w)
		}
	}
}

func TestDayHasExactlyTheModelsMessages(t *testing.T) {
	tr := newTrace(t, 0, 24*time.Hour)
	if tr.Messages() != 4_000_000 {
		t.Errorf("the day has %d messages, want 4,000,000", tr.Messages())
	}
	if tr.Actions() != 70_000*3/2 {
		t.Errorf("the day has %d webmail logins, want 1.5 for each of 70,000 accounts", tr.Actions())
	}
	if tr.Jobs() != 200 {
		t.Errorf("the day has %d jobs on accounts, want 200", tr.Jobs())
	}
}

func TestMinutesHaveTheModelsCounts(t *testing.T) {
	m := Berkeley2008()
	for _, minute := range []int{0, 4*60 + 7, 11 * 60, 11*60 + 59, 23*60 + 59} {
		n := int64(0)
		for item := range newTrace(t, time.Duration(minute)*time.Minute, time.Minute).All() {
			if item.Message != nil {
				n++
			}
		}
		// The curve's share, worked out by hand: spam 1,600,000 over 1440 minutes,
		// legitimate mail 2,400,000 * share of the hour / 60. Rounding moves a
		// minute by less than one of each.
		want := 1_600_000/1440 + 2_400_000*m.LegitimateByHour[minute/60]/1000/60
		if n < want-1 || n > want+2 {
			t.Errorf("minute %d has %d messages, want %d", minute, n, want)
		}
	}
}

func TestBusiestHour(t *testing.T) {
	hour, n := Berkeley2008().BusiestHour()
	if hour != 11 {
		t.Errorf("the busiest hour begins at %d, want 11", hour)
	}
	mean := int64(4_000_000) / 24
	if perMille := n * 100_000 / mean; perMille < 219_780 || perMille > 220_220 {
		t.Errorf("the busiest hour has %d messages, %d.%05d of the mean, want 2.2 within 0.1 %%", n, perMille/100_000, perMille%100_000)
	}
	if got := newTrace(t, 11*time.Hour, time.Hour).Messages(); got != n {
		t.Errorf("the trace has %d messages in that hour, the model %d", got, n)
	}
}

func TestArrivalsWithinAMinuteAreUniform(t *testing.T) {
	var seconds [60]int
	total := 0
	for item := range newTrace(t, 11*time.Hour, 20*time.Minute).All() {
		seconds[item.At%time.Minute/time.Second]++
		total++
	}
	// Chi-squared with 59 degrees of freedom is above 98.3 once in a thousand
	// seeds; the seed is fixed.
	chi2 := 0.0
	for _, n := range seconds {
		d := float64(n) - float64(total)/60
		chi2 += d * d / (float64(total) / 60)
	}
	if chi2 > 98.3 || chi2 < 30 {
		t.Errorf("chi-squared of %d arrivals over the minute's seconds is %.1f: not independent and uniform", total, chi2)
	}
}

func TestShares(t *testing.T) {
	p, m := DefaultPopulation(1), Berkeley2008()
	known := map[string]bool{}
	for r := range p.Routes() {
		known[r.Address] = true
	}
	triplets := map[string]bool{}
	for r := range p.TripletRows(time.Unix(1_200_000_000, 0)) {
		triplets[r.Sender+" "+r.Recipient] = true // a large provider writes from any of its addresses
	}
	var (
		legitimate, spam, spamRecipients, unknown, regular, legitimateRecipients int64
		top, logins, saving                                                      int64
		networks                                                                 = map[netip.Addr]bool{}
	)
	first := p.Address(0)
	for item := range newTrace(t, 11*time.Hour, 20*time.Minute).All() {
		if a := item.Action; a != nil {
			logins++
			if len(a.Saves) > 0 {
				saving++
			}
			if len(a.Saves) != 0 && int64(len(a.Saves)) != m.KeysPerSave {
				t.Fatalf("action %d saves %d keys", a.Number, len(a.Saves))
			}
			continue
		}
		if item.Job != nil {
			continue
		}
		msg := item.Message
		sorted := slices.Clone(msg.Recipients)
		if slices.Sort(sorted); len(slices.Compact(sorted)) != len(msg.Recipients) {
			t.Fatalf("message %d names a recipient twice: %v", msg.Number, msg.Recipients)
		}
		networks[msg.Client] = true
		for _, r := range msg.Recipients {
			if r == first {
				top++
			}
			if msg.Legitimate {
				legitimateRecipients++
				if !known[r] {
					t.Fatalf("legitimate message %d goes to %s, whom nobody knows", msg.Number, r)
				}
				continue
			}
			spamRecipients++
			if !known[r] {
				unknown++
			}
		}
		if !msg.Legitimate {
			spam++
			continue
		}
		legitimate++
		if triplets[msg.Sender+" "+msg.Recipients[0]] {
			regular++
		}
	}
	for _, row := range []struct {
		sentence             string
		part, whole, wantPPM int64
		slackPPM             int64
	}{
		{"in the busiest hour 4/22 of mail is spam", spam, spam + legitimate, 181_818, 200},
		{"spam's recipients that nobody has", unknown, spamRecipients, m.UnknownPPM, 5_000},
		{"legitimate mail from a regular correspondent", regular, legitimate, m.RegularPPM, 5_000},
		{"recipients of a legitimate message, less one", legitimateRecipients - legitimate, legitimate, 330_000, 15_000},
		{"recipients of a spam, less one", spamRecipients - spam, spam, 830_000, 25_000},
		{"logins that save a form", saving, logins, m.SavingPPM, 10_000},
		{"the most popular account's share of recipients", top, legitimateRecipients + spamRecipients - unknown, 1_510, 300},
	} {
		if got := row.part * million / row.whole; got < row.wantPPM-row.slackPPM || got > row.wantPPM+row.slackPPM {
			t.Errorf("%s: %d ppm (%d of %d), want %d ± %d", row.sentence, got, row.part, row.whole, row.wantPPM, row.slackPPM)
		}
	}
	if len(networks) < 10_000 {
		t.Errorf("%d peers only", len(networks))
	}
}

func TestRecipientsOfAMessageDiffer(t *testing.T) {
	hundred := make([]int64, 100)
	hundred[99] = million
	for _, row := range []struct {
		sentence   string
		unknownPPM int64
	}{
		{"a message to all 100 accounts names each once", 0},
		{"a hundred guesses are a hundred addresses", million},
	} {
		m := Berkeley2008()
		m.SpamRecipients, m.UnknownPPM = hundred, row.unknownPPM
		tr, err := NewTrace(1, m, Population{Seed: 1, Accounts: 100, Domain: DefaultDomain, Backends: BackendNames(1)}, Window{0, 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		for item := range tr.All() {
			if item.Message == nil || item.Message.Legitimate {
				continue
			}
			slices.Sort(item.Message.Recipients)
			if n := len(slices.Compact(item.Message.Recipients)); n != 100 {
				t.Fatalf("%s: message %d has %d different recipients", row.sentence, item.Message.Number, n)
			}
		}
	}
}

func TestPopulationRows(t *testing.T) {
	p := Population{Seed: 3, Accounts: 5000, Domain: DefaultDomain, Backends: BackendNames(10)}
	addresses, backends, domains := map[string]bool{}, map[string]int{}, 0
	for r := range p.Routes() {
		if r.Kind == routing.Domain {
			domains++
			if r.Address != "@"+p.Domain || len(r.Targets) > 0 {
				t.Errorf("the domain's row is %+v, so that guessed addresses are not unknown", r)
			}
			continue
		}
		addresses[r.Address] = true
		backends[r.Backend]++
		if r.Address != strings.ToLower(r.Address) || len(r.Address) > preferences.MaxUser {
			t.Fatalf("address %q is not lower case or too long", r.Address)
		}
	}
	if domains != 1 {
		t.Errorf("%d rows of domains, want that of the one domain", domains)
	}
	if len(addresses) != p.Accounts {
		t.Errorf("%d different addresses for %d accounts", len(addresses), p.Accounts)
	}
	for _, b := range p.Backends {
		if n := backends[b]; n < 400 || n > 600 {
			t.Errorf("%s holds %d of 5000 mailboxes, want a tenth", b, n)
		}
	}
	keys := map[string]int{}
	for r := range p.PreferenceRows() {
		keys[r.Key]++
		if !addresses[r.User] || r.Value == "" || len(r.Key) > preferences.MaxKey {
			t.Fatalf("bad preference %+v", r)
		}
	}
	if len(keys) != storedOptions {
		t.Errorf("accounts have preferences %v, want %d keys", keys, storedOptions)
	}
	now, n := time.Date(2008, 4, 15, 11, 0, 0, 500, time.UTC), 0
	for r := range p.TripletRows(now) {
		n++
		passed := r.Last.Sub(r.First) >= 300*time.Second
		fresh := r.Last.Before(now) && now.Sub(r.First) < 35*24*time.Hour
		whole := r.First.Nanosecond() == 0 && r.Last.Nanosecond() == 0
		if !passed || !fresh || !whole || !addresses[r.Recipient] {
			t.Fatalf("triplet %+v would not pass at %v, or is not in whole seconds", r, now)
		}
		v4, v6 := netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("2001:db8::/32")
		if !v4.Contains(r.Client) && !v6.Contains(r.Client) {
			t.Fatalf("peer %s may be somebody's", r.Client)
		}
	}
	if n != p.Accounts*Correspondents {
		t.Errorf("%d triplets, want %d", n, p.Accounts*Correspondents)
	}
	for _, guess := range []int{0, 1, guesses / 2, guesses - 1} {
		if addresses[p.guess(guess)] {
			t.Errorf("guess %s of a dictionary attack is an account", p.guess(guess))
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	p := DefaultPopulation(1)
	for _, row := range []struct {
		field string
		spoil func(*Model, *Population)
	}{
		{"MessagesPerDay", func(m *Model, _ *Population) { m.MessagesPerDay = 0 }},
		{"SpamPPM", func(m *Model, _ *Population) { m.SpamPPM = million + 1 }},
		{"UnknownPPM", func(m *Model, _ *Population) { m.UnknownPPM = -1 }},
		{"RegularPPM", func(m *Model, _ *Population) { m.RegularPPM = -1 }},
		{"SavingPPM", func(m *Model, _ *Population) { m.SavingPPM = -1 }},
		{"LegitimateByHour", func(m *Model, _ *Population) { m.LegitimateByHour[3]++ }},
		{"LegitimateByHour[3]", func(m *Model, _ *Population) { m.LegitimateByHour[3] = -1 }},
		{"LegitimateRecipients", func(m *Model, _ *Population) { m.LegitimateRecipients = nil }},
		{"SpamRecipients", func(m *Model, _ *Population) { m.SpamRecipients = []int64{1} }},
		{"PopularityOffset", func(m *Model, _ *Population) { m.PopularityOffset = -1 }},
		{"LoginsPerMille", func(m *Model, _ *Population) { m.LoginsPerMille = -1 }},
		{"JobsPerDay", func(m *Model, _ *Population) { m.JobsPerDay = -1 }},
		{"KeysPerSave", func(m *Model, _ *Population) { m.KeysPerSave = 17 }},
		{"Accounts", func(_ *Model, p *Population) { p.Accounts = 0 }},
		{"Accounts", func(_ *Model, p *Population) { p.Accounts = 9 }}, // a message may have 10 recipients
		{"Domain", func(_ *Model, p *Population) { p.Domain = "" }},
		{"Domain", func(_ *Model, p *Population) { p.Domain = "CalMail.example" }},
		{"Domain", func(_ *Model, p *Population) { p.Domain = strings.Repeat("d", 65) }},
		{"Backends", func(_ *Model, p *Population) { p.Backends = nil }},
	} {
		m, p := Berkeley2008(), p
		row.spoil(&m, &p)
		_, err := NewTrace(1, m, p, Window{0, time.Hour})
		if err == nil || !strings.Contains(err.Error(), row.field) {
			t.Errorf("bad %s: error %v does not name it", row.field, err)
		}
	}
	if err := Berkeley2008().Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkTraceMessage(b *testing.B) {
	tr := newTrace(b, 11*time.Hour, time.Hour)
	b.ReportAllocs()
	for n := range uint64(b.N) {
		_ = tr.Message(n % 4_000_000)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkTraceSHA256OfAnHour(b *testing.B) {
	tr := newTrace(b, 11*time.Hour, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		_ = tr.SHA256()
	}
}

// BenchmarkTraceOfADay makes the 4,000,000 messages of a day, and its logins and
// jobs, in order, by one goroutine.
func BenchmarkTraceOfADay(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range newTrace(b, 0, 24*time.Hour).All() {
			n++
		}
		b.ReportMetric(float64(n), "items")
	}
}
