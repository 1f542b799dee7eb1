package workload

import (
	"container/heap"
	"context"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
)

// MaxGrowthDays is how many days a Growth goes through at most.
const MaxGrowthDays = 400

// GrowthOptions say what a Growth goes through.
type GrowthOptions struct {
	Days   int // 1 to MaxGrowthDays
	Policy greylist.Policy
	// Start is midnight of the first day, in virtual time; it is of the weekday of
	// the trace's model.
	Start time.Time
	// ExpireAt is when maintenance forgets what the policy does, each day: whole
	// hours from 0 to 23 h after midnight. ExpireEvery is how often it does so from
	// then on: whole hours that divide a day, 1 to 24 h.
	ExpireAt, ExpireEvery time.Duration
	// Progress, if not nil, is called now and then with the messages done, as of a
	// table called "growth".
	Progress func(LoadProgress)
}

// Validate names the field that is out of its range.
func (o GrowthOptions) Validate() error {
	switch {
	case o.Days < 1 || o.Days > MaxGrowthDays:
		return fmt.Errorf("growth: Days is %d, must be 1 to %d", o.Days, MaxGrowthDays)
	case o.ExpireAt < 0 || o.ExpireAt >= wholeDay || o.ExpireAt%time.Hour != 0:
		return fmt.Errorf("growth: ExpireAt is %v, must be whole hours from 0 to 23h", o.ExpireAt)
	case o.ExpireEvery < time.Hour || o.ExpireEvery > wholeDay || wholeDay%o.ExpireEvery != 0 || o.ExpireEvery%time.Hour != 0:
		return fmt.Errorf("growth: ExpireEvery is %v, must be whole hours that divide a day, 1h to 24h", o.ExpireEvery)
	case o.Start.Unix() < 0 || o.Start.Add(time.Duration(o.Days+1)*wholeDay).Unix() > math.MaxUint32: // what a row can hold
		return fmt.Errorf("growth: Start %s must be after 1970, and all days before 2106", o.Start.UTC().Format(time.DateOnly))
	}
	return o.Policy.Validate()
}

// GrowthHour is what one hour of mail has made of the tables.
type GrowthHour struct {
	Hour     int   `json:"hour"`     // from 0, since the first midnight
	Messages int64 `json:"messages"` // first tries that came in it

	// Rows at its end, before the maintenance that begins then.
	Triplets    int64 `json:"triplets"`
	Clients     int64 `json:"clients"`
	Accounts    int64 `json:"accounts"`
	Routes      int64 `json:"routes"`
	Changes     int64 `json:"account_changes"`
	Preferences int64 `json:"preferences"`

	// Scanned is how many rows of the greylist maintenance looked at when the hour
	// was over, Expired how many of them it deleted.
	Scanned int64 `json:"scanned"`
	Expired int64 `json:"expired"`

	// Rows that were stored in it, new or not.
	GreylistWrites   int64 `json:"greylist_writes"`
	PreferenceWrites int64 `json:"preference_writes"`
	AccountWrites    int64 `json:"account_writes"`
	RouteWrites      int64 `json:"route_writes"`
	ChangeWrites     int64 `json:"change_writes"`
}

// Growth puts the mail of many days to the decision model, first tries and those
// that its answers cause, from an empty greylist on. The population is in place
// when it begins.
//
// A trace is of one day. Day d here, from 0, is the model with a seed of its own
// and the weekday that it has: peers, accounts and regular correspondents are
// those of the population, and stay. Day 0 is the trace's own. That days do not
// depend on each other is assumed. Accounts are made under new names each day.
//
// It is exact, no sample, and takes some 100 bytes for each triplet that is stored.
type Growth struct {
	trace   *Trace
	options GrowthOptions
	days    map[int]*Trace // those that a try may still belong to
	keep    int            // how many those are

	triplets map[greylist.Key]seenBetween
	clients  map[greylist.Key]clientGrowth
	retries  retryHeap
	saved    map[string]bool // users who have saved a form: it has all its keys then
	changes  changesBefore
	hour     GrowthHour
}

// seenBetween are seconds since 1970.
type seenBetween struct{ first, last uint32 }

func (s seenBetween) state() greylist.State {
	return greylist.State{Seen: true, First: int64(s.first), Last: int64(s.last)}
}

type clientGrowth struct{ first, last, credits uint32 }

func (c clientGrowth) state() greylist.State {
	return greylist.State{Seen: true, First: int64(c.first), Last: int64(c.last), Credits: int64(c.credits)}
}

// NewGrowth prepares the days that begin with that of a trace, whatever its
// window. An error is of the options.
func (t *Trace) NewGrowth(o GrowthOptions) (*Growth, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	longest := time.Duration(0) // that a sender may come back after
	for _, s := range schedules {
		longest = max(longest, s.GiveUp+s.Jitter)
	}
	p := t.population
	return &Growth{
		trace: t, options: o, days: map[int]*Trace{}, keep: int(longest/wholeDay) + 2,
		triplets: map[greylist.Key]seenBetween{}, clients: map[greylist.Key]clientGrowth{}, saved: map[string]bool{},
		changes: changesBefore{population: p, since: accountsSince(o.Start), accounts: map[string]accounts.Account{}},
		hour: GrowthHour{
			Accounts: int64(p.Accounts), Routes: int64(p.Accounts) + 1, Preferences: int64(p.Accounts) * storedOptions,
		},
	}, nil
}

// Hours yields what each hour has made of the tables. It may be called once. There
// is nothing after an error, which is that of ctx.
func (g *Growth) Hours(ctx context.Context) iter.Seq2[GrowthHour, error] {
	return func(yield func(GrowthHour, error) bool) {
		for hour := range 24 * g.options.Days {
			h, err := g.next(ctx, hour)
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// growthDay is the mail of a day.
func (t *Trace) growthDay(day int) (*Trace, error) {
	seed, model := t.seed, t.model
	if day > 0 {
		d := newDraws(t.seed, streamDay, uint64(day))
		seed = d.next()
	}
	model.Weekday = (model.Weekday + time.Weekday(day)) % 7
	// Bursts need hours that keep half of their mail, which a Sunday may not have.
	model.Bursts = min(model.Bursts, int64(len(model.hoursForBursts())))
	return NewTrace(seed, model, t.population, Window{0, wholeDay})
}

// growthNumber is that of a message with its day above it: a model allows
// 1,000,000,000 messages a day.
func growthNumber(day int, number uint64) uint64 { return uint64(day)<<40 | number }

// next goes through one hour.
func (g *Growth) next(ctx context.Context, hour int) (GrowthHour, error) {
	o, day, end := &g.options, hour/24, time.Duration(hour+1)*time.Hour
	if hour%24 == 0 {
		t, err := g.trace.growthDay(day)
		if err != nil {
			return GrowthHour{}, fmt.Errorf("growth: day %d: %w", day, err)
		}
		g.days[day] = t
		delete(g.days, day-g.keep)
	}
	h := &g.hour
	*h = GrowthHour{
		Hour: hour, Accounts: h.Accounts, Routes: h.Routes, Changes: h.Changes, Preferences: h.Preferences,
	}
	midnight := time.Duration(day) * wholeDay
	for minute := hour % 24 * 60; minute < hour%24*60+60; minute++ {
		if ctx.Err() != nil {
			return GrowthHour{}, fmt.Errorf("growth: in hour %d of %d: %w", hour, 24*o.Days, context.Cause(ctx))
		}
		for item := range g.days[day].minute(minute) {
			switch {
			case item.Message != nil:
				m := *item.Message
				m.At += midnight
				g.retryUntil(m.At)
				g.offer(day, &m, m.At, 0, allRecipients(len(m.Recipients)))
				h.Messages++
			case item.Action != nil:
				g.save(item.Action)
			case item.Job != nil:
				g.change(day, item.Job)
			}
		}
	}
	g.retryUntil(end)
	h.Triplets, h.Clients = int64(len(g.triplets)), int64(len(g.clients))
	if (end-o.ExpireAt)%o.ExpireEvery == 0 && end >= o.ExpireAt {
		h.Scanned = h.Triplets + h.Clients
		h.Expired = g.expire(g.options.Start.Add(end).Unix())
	}
	if o.Progress != nil {
		o.Progress(LoadProgress{Table: "growth", Done: int64(hour + 1), Total: int64(24 * o.Days), Unit: "hours"})
	}
	return *h, nil
}

// retryUntil performs the tries before a time, in their order.
func (g *Growth) retryUntil(end time.Duration) {
	for len(g.retries) > 0 && g.retries[0].at < end {
		r := heap.Pop(&g.retries).(retryBefore)
		day := int(r.number >> 40)
		m := g.days[day].Message(r.number & (1<<40 - 1))
		m.At += time.Duration(day) * wholeDay
		g.offer(day, &m, r.at, r.try, r.recipients)
	}
}

// offer is one try of a message for some of its recipients, as Before's is.
func (g *Growth) offer(day int, m *Message, at time.Duration, try int, recipients recipientSet) {
	t := g.days[day]
	client := m.Client
	if try > 0 {
		client = schedules[m.Schedule].address(t.seed, m.Number, try, m.Client)
	}
	now := g.options.Start.Add(at).Unix()
	var deferred recipientSet
	for i, recipient := range m.Recipients {
		if recipients.has(i) && t.population.knows(recipient) && g.answer(client, m.Sender, recipient, now).Defers() {
			deferred.add(i)
		}
	}
	if deferred == (recipientSet{}) {
		return
	}
	if again, _, ok := t.Retry(m, try+1); ok {
		heap.Push(&g.retries, retryBefore{at: again, number: growthNumber(day, m.Number), try: try + 1, recipients: deferred})
	}
}

// answer is greylist.Memory's Check on compact rows, and counts what is stored.
func (g *Growth) answer(address netip.Addr, sender, recipient string, now int64) greylist.Verdict {
	var (
		key             greylist.Key
		triplet, client greylist.State
	)
	clientKey := greylist.ClientKey(address)
	if c, ok := g.clients[clientKey]; ok {
		client = c.state()
	}
	before := client
	if g.options.Policy.AutoWhitelist == 0 || client.Credits < int64(g.options.Policy.AutoWhitelist) { // else no triplet is looked at
		key = g.options.Policy.TripletKey(address, "", sender, recipient)
		if r, ok := g.triplets[key]; ok {
			triplet = r.state()
		}
	}
	answer, triplet, client := g.options.Policy.Decide(triplet, client, now)
	if triplet.Seen {
		g.triplets[key] = seenBetween{uint32(triplet.First), uint32(triplet.Last)}
		g.hour.GreylistWrites++
	}
	if client != before {
		g.clients[clientKey] = clientGrowth{uint32(client.First), uint32(client.Last), uint32(client.Credits)}
		g.hour.GreylistWrites++
	}
	return answer.Verdict
}

// expire forgets what the policy does, and returns how many rows that were.
func (g *Growth) expire(now int64) (deleted int64) {
	for k, r := range g.triplets {
		if g.options.Policy.Expired(r.state(), now) {
			delete(g.triplets, k)
			deleted++
		}
	}
	for k, c := range g.clients {
		if g.options.Policy.Expired(c.state(), now) {
			delete(g.clients, k)
			deleted++
		}
	}
	return deleted
}

// save counts what an options form stores: the keys that an account has not had
// before are those that its first form adds.
func (g *Growth) save(a *Action) {
	if len(a.Saves) == 0 {
		return
	}
	g.hour.PreferenceWrites += int64(len(a.Saves))
	if !g.saved[a.User] {
		g.saved[a.User] = true
		g.hour.Preferences += int64(max(len(a.Saves)-storedOptions, 0))
	}
}

// change counts what a job stores, as the decision model of accounts takes it.
func (g *Growth) change(day int, j *Job) {
	at := g.options.Start.Add(time.Duration(day)*wholeDay + j.At)
	for _, c := range j.Changes {
		c.At = at
		created := c.Action == accounts.Create
		if created && day > 0 { // each day counts its jobs from 0
			c.Login = fmt.Sprintf("new%d.%d@%s", day, j.Number, g.trace.population.Domain)
		}
		if !g.changes.apply(c) {
			return
		}
		g.hour.Changes++
		g.hour.ChangeWrites++
		g.hour.AccountWrites++
		g.hour.RouteWrites++
		if created {
			g.hour.Accounts++
			g.hour.Routes++
		}
	}
}

// Rows yields the rows of the greylist as the hours that were yielded have left
// them, triplets and then clients, in no order.
func (g *Growth) Rows() iter.Seq[greylist.Stored] {
	return func(yield func(greylist.Stored) bool) {
		for k, r := range g.triplets {
			if !yield(greylist.Stored{Key: k, State: r.state()}) {
				return
			}
		}
		for k, c := range g.clients {
			if !yield(greylist.Stored{Key: k, State: c.state()}) {
				return
			}
		}
	}
}
