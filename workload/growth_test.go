package workload

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
)

func growthOptions(days int) GrowthOptions {
	return GrowthOptions{
		Days: days, Policy: greylist.DefaultPolicy(), Start: testDay, ExpireAt: 3 * time.Hour, ExpireEvery: 24 * time.Hour,
	}
}

func growth(t testing.TB, tr *Trace, o GrowthOptions) (*Growth, []GrowthHour) {
	t.Helper()
	g, err := tr.NewGrowth(o)
	if err != nil {
		t.Fatal(err)
	}
	var hours []GrowthHour
	for h, err := range g.Hours(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		hours = append(hours, h)
	}
	return g, hours
}

// growthByHand is the greylist after each hour, by greylist.Memory: each try in a
// list that is sorted anew whenever one is added.
func growthByHand(t *testing.T, tr *Trace, o GrowthOptions) (*greylist.Memory, []GrowthHour) {
	t.Helper()
	type try struct {
		at         time.Duration
		day        int
		m          Message
		number     int
		recipients []string
	}
	model := greylist.NewMemory(o.Policy, nil)
	var (
		pending []try
		hours   []GrowthHour
	)
	traces := map[int]*Trace{}
	for day := range o.Days {
		d, err := tr.growthDay(day)
		if err != nil {
			t.Fatal(err)
		}
		traces[day] = d
		for item := range d.All() {
			if item.Message != nil {
				at := item.At + time.Duration(day)*wholeDay
				pending = append(pending, try{at, day, *item.Message, 0, item.Message.Recipients})
			}
		}
	}
	order := func(a, b try) int {
		// A first try comes before a later one at its time, as each hour's items do.
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number), cmp.Compare(growthNumber(a.day, a.m.Number), growthNumber(b.day, b.m.Number)))
	}
	slices.SortFunc(pending, order)
	for hour := range 24 * o.Days {
		end := time.Duration(hour+1) * time.Hour
		for len(pending) > 0 && pending[0].at < end {
			p := pending[0]
			pending = pending[1:]
			client := p.m.Client
			if p.number > 0 {
				_, client, _ = traces[p.day].Retry(&p.m, p.number)
			}
			var deferred []string
			for _, recipient := range p.recipients {
				if !tr.population.knows(recipient) {
					continue
				}
				a, err := model.Check(t.Context(), greylist.Request{Client: client, Sender: p.m.Sender, Recipient: recipient, Now: o.Start.Add(p.at)})
				if err != nil {
					t.Fatal(err)
				}
				if a.Verdict.Defers() {
					deferred = append(deferred, recipient)
				}
			}
			if len(deferred) == 0 {
				continue
			}
			if at, _, ok := traces[p.day].Retry(&p.m, p.number+1); ok {
				later := try{at + time.Duration(p.day)*wholeDay, p.day, p.m, p.number + 1, deferred}
				i, _ := slices.BinarySearchFunc(pending, later, order)
				pending = slices.Insert(pending, i, later)
			}
		}
		h := GrowthHour{Hour: hour}
		for _, s := range model.Rows {
			if s.Credits > 0 {
				h.Clients++
			} else {
				h.Triplets++
			}
		}
		if end%wholeDay == o.ExpireAt {
			h.Scanned, h.Expired = int64(len(model.Rows)), int64(model.Expire(o.Start.Add(end).Unix()))
		}
		hours = append(hours, h)
	}
	return model, hours
}

func TestGrowthIsWhatTheDecisionModelLeaves(t *testing.T) {
	// Six days: triplets expire after two, and a policy that forgets what nobody
	// used for three makes clients and passed triplets expire too.
	tr, o := beforeTrace(t, 3000, 0, time.Hour), growthOptions(6)
	o.Policy.MaxAge = 72 * time.Hour
	g, hours := growth(t, tr, o)
	model, want := growthByHand(t, tr, o)
	for i, h := range hours {
		w := want[i]
		if h.Hour != i || h.Triplets != w.Triplets || h.Clients != w.Clients || h.Scanned != w.Scanned || h.Expired != w.Expired {
			t.Fatalf("hour %d: %d triplets, %d clients, %d of %d expired; by hand %d, %d, %d of %d",
				i, h.Triplets, h.Clients, h.Expired, h.Scanned, w.Triplets, w.Clients, w.Expired, w.Scanned)
		}
	}
	rows := 0
	for r := range g.Rows() {
		rows++
		if model.Rows[r.Key] != r.State {
			t.Fatalf("row %x is %+v, by hand %+v", r.Key, r.State, model.Rows[r.Key])
		}
	}
	if rows != len(model.Rows) {
		t.Errorf("%d rows, by hand %d", rows, len(model.Rows))
	}
	last := hours[len(hours)-1]
	if last.Triplets == 0 || last.Clients == 0 {
		t.Errorf("nothing grew: %+v", last)
	}
}

func TestGrowthOfAccountsAndPreferences(t *testing.T) {
	m, p := Berkeley2008(), DefaultPopulation(1)
	p.Accounts = 200
	m.MessagesPerDay, m.JobsPerDay, m.NewAccountPPM, m.MovePPM = 1000, 40, million, 0
	m.LoginsPerMille, m.SavingPPM, m.KeysPerSave = 20_000, million, 10
	tr, err := NewTrace(1, m, p, Window{0, time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	_, hours := growth(t, tr, growthOptions(3))
	last, writes := hours[len(hours)-1], GrowthHour{}
	for _, h := range hours {
		writes.Messages += h.Messages
		writes.PreferenceWrites += h.PreferenceWrites
		writes.AccountWrites += h.AccountWrites
		writes.GreylistWrites += h.GreylistWrites
	}
	for _, row := range []struct {
		sentence  string
		got, want int64
	}{
		{"each of 40 jobs a day makes an account", last.Accounts, 200 + 3*40},
		{"which has a route, and the domain has one", last.Routes, 1 + 200 + 3*40},
		{"and each change is kept", last.Changes, 3 * 40},
		{"all 200 users have saved 10 keys by then, of which they had 6", last.Preferences, 200 * 10},
		{"4000 logins a day save 10 keys each", writes.PreferenceWrites, 3 * 4000 * 10},
		{"a change stores a row of account", writes.AccountWrites, 3 * 40},
		{"from Tuesday to Thursday there are as many messages each day", writes.Messages, 3 * 1000},
	} {
		if row.got != row.want {
			t.Errorf("%s: %d, want %d", row.sentence, row.got, row.want)
		}
	}
	if writes.GreylistWrites < last.Triplets+last.Clients {
		t.Errorf("%d rows of the greylist were written, fewer than the %d that are there", writes.GreylistWrites, last.Triplets+last.Clients)
	}
}

func TestGrowthDays(t *testing.T) {
	tr := beforeTrace(t, 100_000, 0, time.Hour)
	first, err := tr.growthDay(0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := first.SHA256(), func() string {
		whole, err := NewTrace(tr.seed, tr.model, tr.population, Window{0, wholeDay})
		if err != nil {
			t.Fatal(err)
		}
		return whole.SHA256()
	}(); got != want {
		t.Errorf("day 0 is not the trace's own day: %s, want %s", got, want)
	}
	seen := map[string]int{first.SHA256(): 0}
	for day := 1; day < 9; day++ {
		d, err := tr.growthDay(day)
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[d.SHA256()]; ok {
			t.Errorf("day %d is day %d again", day, before)
		}
		seen[d.SHA256()] = day
		if want := (tr.model.Weekday + time.Weekday(day)) % 7; d.model.Weekday != want {
			t.Errorf("day %d is a %v, want %v", day, d.model.Weekday, want)
		}
	}
}

func TestGrowthRefusesAndStops(t *testing.T) {
	tr := beforeTrace(t, 3000, 0, time.Hour)
	for _, row := range []struct {
		names  string
		change func(*GrowthOptions)
	}{
		{"Days", func(o *GrowthOptions) { o.Days = 0 }},
		{"Days", func(o *GrowthOptions) { o.Days = MaxGrowthDays + 1 }},
		{"ExpireAt", func(o *GrowthOptions) { o.ExpireAt = 24 * time.Hour }},
		{"ExpireAt", func(o *GrowthOptions) { o.ExpireAt = 30 * time.Minute }},
		{"ExpireEvery", func(o *GrowthOptions) { o.ExpireEvery = 0 }},
		{"ExpireEvery", func(o *GrowthOptions) { o.ExpireEvery = 5 * time.Hour }},
		{"Start", func(o *GrowthOptions) { o.Start = time.Date(2105, 12, 31, 0, 0, 0, 0, time.UTC); o.Days = 400 }},
		{"Profile", func(o *GrowthOptions) { o.Policy = greylist.Policy{} }},
	} {
		o := growthOptions(1)
		row.change(&o)
		if _, err := tr.NewGrowth(o); err == nil || !strings.Contains(err.Error(), row.names) {
			t.Errorf("error %v does not name %s", err, row.names)
		}
	}
	g, err := tr.NewGrowth(growthOptions(2))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	for h, err := range g.Hours(ctx) {
		if calls++; calls == 3 {
			cancel()
		}
		if calls > 4 || (err != nil) != (calls == 4) || err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("call %d: hour %d, error %v", calls, h.Hour, err)
		}
	}
}

// BenchmarkGrowth goes through a week of the day of 4,000,000 messages.
func BenchmarkGrowth(b *testing.B) {
	tr := newTrace(b, 0, time.Hour)
	for b.Loop() {
		_, hours := growth(b, tr, growthOptions(7))
		last := hours[len(hours)-1]
		b.ReportMetric(float64(last.Triplets), "triplets")
		b.ReportMetric(float64(last.Clients), "clients")
	}
}
