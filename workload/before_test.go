package workload

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

var testDay = time.Date(2008, time.April, 15, 0, 0, 0, 0, time.UTC)

// beforeTrace has mail for 7000 accounts, and no bursts.
func beforeTrace(t testing.TB, messages int64, from, duration time.Duration) *Trace {
	t.Helper()
	p, err := BuiltinProfile(DefaultProfile)
	if err != nil {
		t.Fatal(err)
	}
	p.Model.MessagesPerDay, p.Model.Bursts = messages, 0
	population := DefaultPopulation(1)
	population.Accounts = 7000
	tr, err := NewTrace(1, p.Model, population, Window{from, duration})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func before(t testing.TB, tr *Trace) *Before {
	t.Helper()
	b, err := tr.Before(t.Context(), greylist.DefaultPolicy(), testDay, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// memoryOf holds the rows as a target would after the load.
func memoryOf(b *Before) *greylist.Memory {
	m := greylist.NewMemory(b.policy, nil)
	for r := range b.Triplets() {
		m.Rows[m.Policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)] = greylist.State{Seen: true, First: r.First.Unix(), Last: r.Last.Unix()}
	}
	for r := range b.Clients() {
		m.Rows[greylist.ClientKey(r.Client)] = greylist.State{Seen: true, First: r.First.Unix(), Last: r.Last.Unix(), Credits: int64(r.Credits)}
	}
	return m
}

// answerAt is one answer, by its time.
type answerAt struct {
	at      time.Duration
	verdict greylist.Verdict
}

// play offers the trace's messages, and the pending tries, to a model, with
// every retry that its answers cause. It is written to be plain, as an oracle of
// Before.
func play(t testing.TB, tr *Trace, model *greylist.Memory, pending []*Try) (answers []answerAt, made, left []*Try) {
	t.Helper()
	end := tr.window.From + tr.window.Duration
	order := func(a, b *Try) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Message.Number, b.Message.Number))
	}
	var first []*Try
	for item := range tr.All() {
		if m := item.Message; m != nil {
			first = append(first, firstTry(m))
		}
	}
	retries := slices.SortedFunc(slices.Values(pending), order)
	for len(first)+len(retries) > 0 {
		var this *Try
		if len(retries) > 0 && (len(first) == 0 || retries[0].At < first[0].At) {
			this, retries = retries[0], retries[1:]
		} else {
			this, first = first[0], first[1:]
		}
		if this.At >= end {
			left = append(left, this)
			continue
		}
		if this.Number > 0 {
			made = append(made, this)
		}
		var deferred []int
		for _, i := range this.Recipients {
			r := this.Message.Recipients[i]
			if strings.ContainsAny(r[:strings.Index(r, "@")], "0123456789") { // an account
				a, err := model.Check(t.Context(), greylist.Request{Client: this.Client, Sender: this.Message.Sender, Recipient: r, Now: testDay.Add(this.At)})
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, answerAt{this.At, a.Verdict})
				if a.Verdict.Defers() {
					deferred = append(deferred, i)
				}
			}
		}
		if again, ok := nextTry(tr, this, deferred); ok && len(deferred) > 0 {
			i, _ := slices.BinarySearchFunc(retries, again, order)
			retries = slices.Insert(retries, i, again)
		}
	}
	return answers, made, left
}

// TestBeforeIsWhatTheDecisionModelLeaves compares with greylist.Memory itself,
// asked one by one from the same past.
func TestBeforeIsWhatTheDecisionModelLeaves(t *testing.T) {
	const from, to = 12 * time.Hour, 12*time.Hour + 20*time.Minute
	b, later := before(t, beforeTrace(t, 400_000, from, time.Minute)), before(t, beforeTrace(t, 400_000, to, time.Minute))
	model := memoryOf(b)
	slice := beforeTrace(t, 400_000, from, to-from)
	_, made, left := play(t, slice, model, b.Later())
	if got := memoryOf(later).Rows; !reflect.DeepEqual(got, model.Rows) {
		t.Errorf("the state at %v has %d rows, which differ from the %d that the model leaves that begins at %v", to, len(got), len(model.Rows), from)
	}
	pending := later.Later()
	if len(pending) < 100 || !reflect.DeepEqual(pending, left) {
		t.Errorf("%d tries are pending at %v, and differ from the %d that the model leaves", len(pending), to, len(left))
	}
	state, predicted, err := slice.Predict(t.Context(), greylist.DefaultPolicy(), testDay, nil)
	if err != nil || !reflect.DeepEqual(memoryOf(state).Rows, memoryOf(b).Rows) || !reflect.DeepEqual(state.Later(), b.Later()) || !reflect.DeepEqual(state.Accounts(), b.Accounts()) {
		t.Errorf("the state that comes with a prediction is not that without one (%v)", err)
	}
	if err != nil || len(predicted) < 100 || !reflect.DeepEqual(predicted, made) {
		t.Errorf("%d tries are predicted, and differ from the %d that were made (%v)", len(predicted), len(made), err)
	}
}

func TestBeforeGivesRowsThatCanBeLoaded(t *testing.T) {
	tr := beforeTrace(t, 400_000, 10*time.Hour, time.Minute) // two hours of the day before
	b := before(t, tr)
	keys := map[greylist.Key]bool{}
	for r := range b.Triplets() {
		key := b.policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
		if err := r.Validate(); err != nil || keys[key] || r.Last.After(b.Start()) || r.First.After(r.Last) {
			t.Fatalf("row %+v is not valid, or there twice: %v", r, err)
		}
		keys[key] = true
	}
	for r := range b.Clients() {
		key := greylist.ClientKey(r.Client)
		if err := r.Validate(); err != nil || keys[key] || r.Last.After(b.Start()) {
			t.Fatalf("row %+v is not valid, or there twice: %v", r, err)
		}
		keys[key] = true
	}
	triplets, clients, retries := b.Sizes()
	if len(keys) != triplets+clients || clients < 4000 {
		t.Errorf("%d triplets and %d clients have %d keys", triplets, clients, len(keys))
	}
	last, n := b.trace.window.From, 0
	for _, r := range b.Later() {
		n++
		if r.At < last || len(r.Recipients) == 0 || r.Number < 1 || r.Message.At >= tr.window.From {
			t.Fatalf("try %+v is out of order or empty", r)
		}
		if at, client, ok := tr.Retry(r.Message, r.Number); !ok || at != r.At || client != r.Client {
			t.Fatalf("try %+v comes at %v from %v (%t) by its schedule", r, at, client, ok)
		}
		last = r.At
	}
	if n != retries || n < 100 {
		t.Errorf("%d tries are pending, Sizes says %d", n, retries)
	}

	saved := map[[2]string]string{}
	today, err := NewTrace(1, tr.model, tr.population, Window{0, 10 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for item := range today.All() {
		if item.Action != nil {
			for _, s := range item.Action.Saves {
				saved[[2]string{item.Action.User, s.Key}] = s.Value
			}
		}
	}
	for _, r := range b.Preferences() {
		if saved[[2]string{r.User, r.Key}] != r.Value {
			t.Errorf("%s has %s %q before, the last save was %q", r.User, r.Key, r.Value, saved[[2]string{r.User, r.Key}])
		}
	}
	if len(b.Preferences()) != len(saved) || len(saved) == 0 {
		t.Errorf("%d preferences, %d were saved", len(b.Preferences()), len(saved))
	}
}

// TestBeforeHasTheAccountsThatWereChanged: what the staff did since midnight, by
// hand.
func TestBeforeHasTheAccountsThatWereChanged(t *testing.T) {
	m := beforeTrace(t, 40_000, time.Hour, time.Minute).model
	m.JobsPerDay = 10_000
	p := DefaultPopulation(1)
	p.Accounts = 300 // for some to be changed more than once
	tr, err := NewTrace(1, m, p, Window{2 * time.Hour, time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]accounts.Account{}
	for a := range p.AccountRows(testDay.Add(2 * time.Hour)) {
		want[a.Login] = a
	}
	changed, twice := map[string]bool{}, false
	var jobs []Job
	for number := uint64(0); tr.Job(number).At < 3*time.Hour; number++ {
		if j := tr.Job(number); j.At < 2*time.Hour {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b Job) int { return cmp.Compare(a.At, b.At) })
	for _, j := range jobs {
		c := j.Changes[0]
		a := want[c.Login]
		switch c.Action {
		case accounts.Create:
			a = accounts.Account{Login: c.Login, FullName: c.Account.FullName, Backend: c.Account.Backend, SpamThreshold: 70, Created: testDay.Add(j.At)}
		case accounts.BeginMove:
			if a.Backend == c.Backend { // moved there by a job before it: refused
				continue
			}
			a.Backend = c.Backend
		case accounts.SetForward:
			a.Targets, a.KeepCopy = c.Targets, true
		}
		a.Changed = testDay.Add(j.At)
		twice = twice || changed[c.Login]
		want[c.Login], changed[c.Login] = a, true
	}
	b := before(t, tr)
	if len(b.Accounts()) != len(changed) || !twice || len(changed) < 100 {
		t.Errorf("%d accounts, %d were changed, some twice: %t", len(b.Accounts()), len(changed), twice)
	}
	for _, a := range b.Accounts() {
		w := want[a.Login]
		if a.Changed.Unix() != w.Changed.Unix() || a.Created.Unix() != w.Created.Unix() {
			t.Errorf("%s was made at %v and changed at %v, want %v and %v", a.Login, a.Created, a.Changed, w.Created, w.Changed)
		}
		a.Created, a.Changed, w.Created, w.Changed = testDay, testDay, testDay, testDay
		if err := a.Validate(); err != nil || !reflect.DeepEqual(a, w) || !changed[a.Login] {
			t.Errorf("%+v (%v), want %+v", a, err, w)
		}
	}
	loader := &fakeLoader{}
	if err := LoadBefore(t.Context(), loader, b, 1, nil); err != nil {
		t.Fatal(err)
	}
	same(t, "changed accounts", loader.accounts[300:], b.Accounts(), func(a accounts.Account) string { return a.Login })
	routes := map[string]routing.Row{}
	for _, r := range loader.routes {
		routes[r.Address] = r
	}
	for _, a := range b.Accounts() {
		if !reflect.DeepEqual(routes[a.Login], a.Rows()[0]) {
			t.Errorf("the route of %s is %+v, want %+v", a.Login, routes[a.Login], a.Rows()[0])
		}
	}
}

// shares are how often each verdict was given in the first and in the last tenth
// of a window.
func tenths(tr *Trace, answers []answerAt) (first, last [greylist.RecipientListed + 1]int) {
	for _, a := range answers {
		switch since := a.at - tr.window.From; {
		case since < tr.window.Duration/10:
			first[a.verdict]++
		case since >= tr.window.Duration-tr.window.Duration/10:
			last[a.verdict]++
		}
	}
	return first, last
}

// chiSquared of two samples being of one distribution, over the verdicts that
// are expected five times or more in each.
func chiSquared(a, b [greylist.RecipientListed + 1]int) (chi2 float64) {
	var sumA, sumB float64
	for v := range a {
		sumA, sumB = sumA+float64(a[v]), sumB+float64(b[v])
	}
	for v := range a {
		both := float64(a[v] + b[v])
		wantA, wantB := both*sumA/(sumA+sumB), both*sumB/(sumA+sumB)
		if wantA < 5 || wantB < 5 {
			continue
		}
		chi2 += (float64(a[v])-wantA)*(float64(a[v])-wantA)/wantA + (float64(b[v])-wantB)*(float64(b[v])-wantB)/wantB
	}
	return chi2
}

// TestAnswersOfASliceAreAlikeFromItsFirstMinuteOn replays 20 minutes against
// the decision model. The criterion: the counts of new, early, pass and auto in
// the first and in the last tenth are of one distribution, by a chi-squared test
// whose bound, 16.3 for 3 degrees of freedom, one of a thousand seeds exceeds.
func TestAnswersOfASliceAreAlikeFromItsFirstMinuteOn(t *testing.T) {
	const bound = 16.3
	tr := beforeTrace(t, 1_200_000, 10*time.Hour+30*time.Minute, 20*time.Minute)
	b := before(t, tr)
	pending := b.Later()
	fresh := greylist.NewMemory(greylist.DefaultPolicy(), nil)
	for r := range tr.population.TripletRows(b.Start()) { // what Load stores
		fresh.Rows[fresh.Policy.TripletKey(r.Client, "", r.Sender, r.Recipient)] = greylist.State{Seen: true, First: r.First.Unix(), Last: r.Last.Unix()}
	}
	for _, row := range []struct {
		sentence string
		model    *greylist.Memory
		pending  []*Try
		alike    bool
	}{
		{"with the state before", memoryOf(b), pending, true},
		{"with the rows but not the pending tries", memoryOf(b), nil, false},
		{"with the triplets of regular correspondents only", fresh, nil, false},
	} {
		answers, _, _ := play(t, tr, row.model, row.pending)
		first, last := tenths(tr, answers)
		chi2 := chiSquared(first, last)
		t.Logf("%s: first tenth %v, last tenth %v, chi-squared %.1f", row.sentence, first, last, chi2)
		if (chi2 <= bound) != row.alike {
			t.Errorf("%s: the first tenth has answers %v, the last %v: chi-squared is %.1f, alike is at most %.1f", row.sentence, first, last, chi2, bound)
		}
		if row.alike {
			for _, v := range []greylist.Verdict{greylist.New, greylist.Early, greylist.Pass, greylist.AutoWhitelisted} {
				if first[v] < 5 || last[v] < 5 {
					t.Errorf("%s: only %d and %d answers are %v, too few to compare", row.sentence, first[v], last[v], v)
				}
			}
		}
	}
}

func TestBeforeRefusesAndStops(t *testing.T) {
	tr := beforeTrace(t, 40_000, time.Hour, time.Minute)
	if _, err := tr.Before(t.Context(), greylist.Policy{}, testDay, nil); err == nil || !strings.Contains(err.Error(), "Profile") {
		t.Errorf("error %v does not name the policy's field", err)
	}
	if _, err := tr.Before(t.Context(), greylist.DefaultPolicy(), time.Unix(0, 0), nil); err == nil || !strings.Contains(err.Error(), "1970") {
		t.Errorf("error %v does not name the day", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := tr.Before(ctx, greylist.DefaultPolicy(), testDay, func(p LoadProgress) {
		calls++
		if p.Table != "state before" || p.Done > p.Total || p.Done < 1 {
			t.Errorf("progress %+v", p)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("after a cancel: error %v, %d calls of progress", err, calls)
	}
}

func TestLoadBeforeStoresEveryRowOnce(t *testing.T) {
	tr := beforeTrace(t, 40_000, time.Hour, time.Minute)
	b, loader, last := before(t, tr), &fakeLoader{}, map[string]LoadProgress{}
	if err := LoadBefore(t.Context(), loader, b, 3, func(l LoadProgress) { last[l.Table] = l }); err != nil {
		t.Fatal(err)
	}
	triplets, clients, _ := b.Sizes()
	for table, want := range map[string]int{
		"routes": 7001, "accounts": 7000, "preferences": 42_000, "saved preferences": len(b.Preferences()), "triplets": triplets, "clients": clients,
	} {
		if got := last[table]; got.Done != int64(want) || got.Total != int64(want) {
			t.Errorf("%s: loaded %d of %d, want %d", table, got.Done, got.Total, want)
		}
	}
	same(t, "triplets", loader.triplets, slices.Collect(b.Triplets()), func(r greylist.Row) string { return r.Recipient + " " + r.Client.String() + r.Sender })
	same(t, "clients", loader.clients, slices.Collect(b.Clients()), func(r greylist.ClientRow) string { return r.Client.String() })
	tail := loader.preferences[len(loader.preferences)-len(b.Preferences()):]
	same(t, "saved preferences", tail, b.Preferences(), func(r preferences.Row) string { return r.User + " " + r.Key })
}

// BenchmarkBefore works out the state at 10:00 of the whole day of 4,000,000
// messages: ten hours of it and two of the day before.
func BenchmarkBefore(b *testing.B) {
	tr := newTrace(b, 10*time.Hour, time.Minute)
	for b.Loop() {
		var rest, with runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&rest)
		state := before(b, tr)
		runtime.ReadMemStats(&with)
		triplets, clients, retries := state.Sizes()
		b.ReportMetric(float64(triplets), "triplets")
		b.ReportMetric(float64(clients), "clients")
		b.ReportMetric(float64(retries), "retries")
		b.ReportMetric(float64(with.Sys)/(1<<20), "MiB-of-process")
	}
}
