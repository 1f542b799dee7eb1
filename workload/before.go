package workload

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
)

// Before is what the hours before a trace's window leave behind: the greylist,
// the preferences, the accounts, and the tries that are still to come.
//
// The hours are replayed against the decision model, each deferred message
// coming back by its sender's schedule. They begin at midnight, and at least
// leastBefore before the window: what is missing then is taken from the end of a
// day like it, the day before. What was before that is worked out from the
// shares, see pastClients.
type Before struct {
	trace     *Trace
	yesterday *Trace // nil if none of its hours are needed
	policy    greylist.Policy
	day       time.Time // midnight of the trace's day

	rows     map[greylist.Key]uint32 // indexes of triplets
	triplets []tripletBefore
	known    map[netip.Addr]uint32 // indexes of clients
	clients  []clientBefore
	retries  retryHeap
	saved    []preferences.Row
	changed  []accounts.Account
	answers  [greylist.RecipientListed + 1]int64
	tried    func(m *Message, at time.Duration, try int, recipients recipientSet) // is told of later tries; may be nil
}

// leastBefore is how many hours are replayed at least. Of the schedules Exim's
// has tries that late which greylisting still answers, but few; most senders
// have passed after one.
const leastBefore = 12 * time.Hour

// tripletBefore is a row of the greylist in 24 bytes: its text is made again
// from where it comes from.
type tripletBefore struct {
	first, last uint32 // seconds since 1970
	origin      origin
}

// origin is whose triplet it is: number<<20 | recipient<<12 | try of a message,
// with yesterdays in its number, or account<<8 | which with the top bit set.
type origin uint64

const (
	ofCorrespondent origin = 1 << 63
	// yesterdays is set in the numbers of messages of the day before, which no
	// message of the day has: a model allows 1,000,000,000.
	yesterdays = 1 << 40

	maxTry = 1<<12 - 1 // more than any schedule has
)

type clientBefore struct {
	client               netip.Addr
	first, last, credits uint32
}

// Before replays the hours before the window. day is midnight of the trace's
// day, policy that of the target. progress, if not nil, is called now and then
// with the messages done, as of a table called "state before".
func (t *Trace) Before(ctx context.Context, policy greylist.Policy, day time.Time, progress func(LoadProgress)) (*Before, error) {
	b, err := t.newBefore(policy, day)
	if err != nil {
		return nil, err
	}
	return b.replay(ctx, t.window.From, progress)
}

// Predict is Before, and goes on through the window: it also works out the tries
// after the first that come within it, in their order, as the decision model
// would answer and no fault were. These are the tries that are still to come when
// the window begins, and those that it causes itself.
func (t *Trace) Predict(ctx context.Context, policy greylist.Policy, day time.Time, progress func(LoadProgress)) (*Before, []*Try, error) {
	b, err := t.newBefore(policy, day)
	if err != nil {
		return nil, nil, err
	}
	var predicted []*Try
	b.tried = func(m *Message, at time.Duration, try int, recipients recipientSet) {
		if t.window.holds(at) {
			predicted = append(predicted, t.try(*m, at, try, recipients))
		}
	}
	state, err := b.replay(ctx, t.window.From+t.window.Duration, progress)
	return state, predicted, err
}

func (t *Trace) newBefore(policy greylist.Policy, day time.Time) (*Before, error) {
	if err := policy.Validate(); err != nil {
		return nil, fmt.Errorf("state before: %w", err)
	}
	past := max(policy.MaxAge, 40*wholeDay)
	if day.Add(-past).Unix() < 0 || day.Add(8*wholeDay).Unix() > math.MaxUint32 { // what a row can hold
		return nil, fmt.Errorf("state before: day %s must be more than %v after 1970, and before 2106", day.UTC().Format(time.DateOnly), past)
	}
	return &Before{trace: t, policy: policy, day: day, rows: map[greylist.Key]uint32{}, known: map[netip.Addr]uint32{}}, nil
}

// replay goes through what comes before end, which is the window's begin or end,
// and returns the state at its begin.
func (b *Before) replay(ctx context.Context, end time.Duration, progress func(LoadProgress)) (*Before, error) {
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	t := b.trace
	begin := min(0, t.window.From-leastBefore)
	var days []*Trace
	if begin < 0 {
		m := t.model
		m.Weekday, m.Bursts = (m.Weekday+6)%7, 0
		var err error
		if b.yesterday, err = NewTrace(mix(t.seed), m, t.population, Window{wholeDay + begin, -begin}); err != nil {
			return nil, fmt.Errorf("state before: the day before: %w", err)
		}
		days = append(days, b.yesterday)
	}
	if end > 0 {
		today, err := NewTrace(t.seed, t.model, t.population, Window{0, end})
		if err != nil {
			return nil, fmt.Errorf("state before: %w", err)
		}
		days = append(days, today)
	}
	b.pastTriplets(begin)
	b.pastClients()

	var (
		state       *Before // once the window has begun
		done, total int64
		saves       = savesBefore{}
		changes     = changesBefore{population: t.population, since: accountsSince(b.Start()), accounts: map[string]accounts.Account{}}
	)
	reach := func(at time.Duration) {
		if state == nil && at >= t.window.From {
			b.retryUntil(t.window.From)
			b.saved, b.changed = saves.rows(), changes.rows()
			state = b.snapshot(end > t.window.From)
		}
	}
	for _, d := range days {
		total += d.messages
	}
	for _, d := range days {
		for item := range d.All() {
			if d != b.yesterday {
				reach(item.At)
			}
			if state == nil && d != b.yesterday {
				saves.add(item.Action)
				changes.add(b.day, item.Job)
			}
			if item.Message == nil {
				continue
			}
			m := *item.Message
			if d == b.yesterday {
				m = fromYesterday(m)
			}
			b.retryUntil(m.At)
			b.offer(&m, m.At, 0, allRecipients(len(m.Recipients)))
			if done++; done%10_000 == 0 || done == total {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("state before: after %d of %d messages: %w", done, total, context.Cause(ctx))
				}
				progress(LoadProgress{Table: "state before", Done: done, Total: total, Unit: "messages"})
			}
		}
	}
	reach(end)
	b.retryUntil(end)
	return state, nil
}

// snapshot is the state as it is. If the replay goes on, it does so without
// changing it.
func (b *Before) snapshot(goesOn bool) *Before {
	state := *b
	state.tried = nil
	if goesOn {
		state.rows, state.known = maps.Clone(b.rows), maps.Clone(b.known)
		state.triplets, state.clients, state.retries = slices.Clone(b.triplets), slices.Clone(b.clients), slices.Clone(b.retries)
	}
	return &state
}

// savesBefore is what was saved last under each user and key.
type savesBefore map[[2]string]string

func (s savesBefore) add(a *Action) {
	if a == nil {
		return
	}
	for _, save := range a.Saves {
		s[[2]string{a.User, save.Key}] = save.Value
	}
}

func (s savesBefore) rows() []preferences.Row {
	rows := make([]preferences.Row, 0, len(s))
	for at, value := range s {
		rows = append(rows, preferences.Row{User: at[0], Key: at[1], Value: value})
	}
	slices.SortFunc(rows, func(x, y preferences.Row) int {
		return cmp.Or(strings.Compare(x.User, y.User), strings.Compare(x.Key, y.Key))
	})
	return rows
}

// changesBefore are the accounts that jobs have made or changed.
type changesBefore struct {
	population Population
	since      time.Time // of the accounts that were there already
	accounts   map[string]accounts.Account
}

// add does a job as the decision model of accounts would: what it refuses ends
// the job.
func (c changesBefore) add(day time.Time, j *Job) {
	if j == nil {
		return
	}
	for _, change := range j.Changes {
		change.At = day.Add(j.At)
		if !c.apply(change) {
			return
		}
	}
}

// apply makes one change, unless the model refuses it.
func (c changesBefore) apply(change accounts.Change) bool {
	var before *accounts.Account
	if a, ok := c.accounts[change.Login]; ok {
		before = &a
	} else if i, ok := c.population.index(change.Login); ok {
		a := c.population.account(i, c.since)
		before = &a
	}
	after, err := accounts.Apply(before, change)
	if err != nil {
		return false
	}
	c.accounts[change.Login] = after // no job renames
	return true
}

func (c changesBefore) rows() []accounts.Account {
	return slices.SortedFunc(maps.Values(c.accounts), func(a, b accounts.Account) int { return strings.Compare(a.Login, b.Login) })
}

func fromYesterday(m Message) Message {
	m.Number += yesterdays
	m.At -= wholeDay
	return m
}

// pastTriplets are those of the regular correspondents.
func (b *Before) pastTriplets(begin time.Duration) {
	i := uint64(0)
	for r := range b.trace.population.TripletRows(b.day.Add(begin)) {
		key := b.policy.TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
		if _, ok := b.rows[key]; !ok {
			b.rows[key] = uint32(len(b.triplets))
			b.triplets = append(b.triplets, tripletBefore{
				first: uint32(r.First.Unix()), last: uint32(r.Last.Unix()),
				origin: ofCorrespondent | origin(i/Correspondents)<<8 | origin(i%Correspondents),
			})
		}
		i++
	}
}

// pastClients are the auto-whitelist entries of the domains that write often, as
// MaxAge of days like this one would leave them: a credit for each new triplet
// that comes from the address, at most one an hour, if the sender comes back at
// all. Strangers and bots have none: they are of the day (81 % of the servers
// that sent only spam were seen for a day at most; Duan et al.).
func (b *Before) pastClients() {
	t, s := b.trace, b.trace.senders
	if b.policy.AutoWhitelist == 0 {
		return
	}
	// Messages in MaxAge that come with a new triplet. At most 10^9 a day for 10
	// years fit 64 bits, times a share of 10^6 they would not.
	days := int64(b.policy.MaxAge / wholeDay)
	fresh := uint64(t.model.legitimate()) * uint64(million-t.model.RegularPPM) / million * uint64(million-s.StrangersPPM) / million * uint64(max(days, 1))
	midnight := uint32(b.day.Unix())
	for domain := range s.Domains {
		program := &schedules[s.schedule(domain)]
		if len(program.Waits) == 0 {
			continue
		}
		weight := s.popularity[domain]
		if domain > 0 {
			weight -= s.popularity[domain-1]
		}
		high, low := bits.Mul64(fresh, weight)
		each, _ := bits.Div64(high, low, s.popularity[s.Domains-1])
		each /= uint64(program.Addresses)
		credits := min(each, uint64(max(days, 1))*24)
		if credits == 0 {
			continue
		}
		server := newDraws(s.seed, streamDomain, uint64(domain))
		first := s.address(&server)
		for which := range program.Addresses {
			client := program.member(which, first)
			if _, ok := b.known[client]; ok {
				continue
			}
			gap := int(uint64(max(days, 1)) * 24 * 3600 / each) // between two such messages
			d := newDraws(s.seed, streamPastClient, uint64(domain)<<8|uint64(which))
			b.known[client] = uint32(len(b.clients))
			b.clients = append(b.clients, clientBefore{
				client: client, credits: uint32(credits),
				first: midnight - uint32(max(days, 1)*24*3600), last: midnight - uint32(d.below(gap+1)),
			})
		}
	}
}

// retryUntil performs the tries before a time, in their order.
func (b *Before) retryUntil(end time.Duration) {
	for len(b.retries) > 0 && b.retries[0].at < end {
		r := heap.Pop(&b.retries).(retryBefore)
		m := b.message(r.number)
		if b.tried != nil {
			b.tried(&m, r.at, r.try, r.recipients)
		}
		b.offer(&m, r.at, r.try, r.recipients)
	}
}

// message makes a message of the day or of the day before again.
func (b *Before) message(number uint64) Message {
	if number >= yesterdays {
		return fromYesterday(b.yesterday.Message(number - yesterdays))
	}
	return b.trace.Message(number)
}

// offer is one try of a message for some of its recipients.
func (b *Before) offer(m *Message, at time.Duration, try int, recipients recipientSet) {
	client := schedules[m.Schedule].address(b.trace.seed, m.Number, try, m.Client)
	if try == 0 {
		client = m.Client
	}
	now := b.day.Add(at).Unix()
	var deferred recipientSet
	for i, recipient := range m.Recipients {
		if !recipients.has(i) || !b.trace.population.knows(recipient) {
			continue // routing has refused who is unknown, for good
		}
		if b.answer(client, m.Sender, recipient, now, origin(m.Number<<20|uint64(i)<<12|uint64(min(try, maxTry)))).Defers() {
			deferred.add(i)
		}
	}
	if deferred == (recipientSet{}) {
		return
	}
	if again, _, ok := b.trace.Retry(m, try+1); ok {
		heap.Push(&b.retries, retryBefore{at: again, number: m.Number, try: try + 1, recipients: deferred})
	}
}

// answer is greylist.Memory's Check on compact rows.
func (b *Before) answer(client netip.Addr, sender, recipient string, now int64, from origin) greylist.Verdict {
	var (
		triplet, credits greylist.State
		key              greylist.Key
		row              uint32
		hasRow           bool
	)
	entry, isKnown := b.known[client]
	if isKnown {
		c := b.clients[entry]
		credits = greylist.State{Seen: true, First: int64(c.first), Last: int64(c.last), Credits: int64(c.credits)}
	}
	if b.policy.AutoWhitelist == 0 || credits.Credits < int64(b.policy.AutoWhitelist) { // else no triplet is looked at
		key = b.policy.TripletKey(client, "", sender, recipient)
		if row, hasRow = b.rows[key]; hasRow {
			r := b.triplets[row]
			triplet = greylist.State{Seen: true, First: int64(r.first), Last: int64(r.last)}
		}
	}
	answer, triplet, credits := b.policy.Decide(triplet, credits, now)
	if triplet.Seen {
		if !hasRow {
			row = uint32(len(b.triplets))
			b.rows[key] = row
			b.triplets = append(b.triplets, tripletBefore{origin: from})
		}
		b.triplets[row].first, b.triplets[row].last = uint32(triplet.First), uint32(triplet.Last)
	}
	if credits.Seen {
		if !isKnown {
			entry = uint32(len(b.clients))
			b.known[client] = entry
			b.clients = append(b.clients, clientBefore{client: client})
		}
		c := &b.clients[entry]
		c.first, c.last, c.credits = uint32(credits.First), uint32(credits.Last), uint32(credits.Credits)
	}
	b.answers[answer.Verdict]++
	return answer.Verdict
}

// Start is when the window begins, in virtual time: the state is as of then.
func (b *Before) Start() time.Time { return b.day.Add(b.trace.window.From) }

// Answers is how often each verdict was given in the hours before.
func (b *Before) Answers(v greylist.Verdict) int64 { return b.answers[v] }

// Triplets yields the triplets of the greylist.
func (b *Before) Triplets() iter.Seq[greylist.Row] {
	return func(yield func(greylist.Row) bool) {
		p, senders := b.trace.population, b.trace.senders
		for _, r := range b.triplets {
			row := greylist.Row{First: time.Unix(int64(r.first), 0).UTC(), Last: time.Unix(int64(r.last), 0).UTC()}
			if r.origin&ofCorrespondent != 0 {
				account, which := int(r.origin&^ofCorrespondent>>8), int(r.origin&0xff)
				peer := senders.correspondent(account, which)
				row.Client, row.Sender, row.Recipient = peer.Client, peer.Sender, p.Address(account)
			} else {
				m, try := b.message(uint64(r.origin>>20)), int(r.origin&maxTry)
				row.Client, row.Sender, row.Recipient = m.Client, m.Sender, m.Recipients[r.origin>>12&0xff]
				if try > 0 {
					row.Client = schedules[m.Schedule].address(b.trace.seed, m.Number, try, m.Client)
				}
			}
			if !yield(row) {
				return
			}
		}
	}
}

// Clients yields the auto-whitelist entries, those with too few credits to pass
// included.
func (b *Before) Clients() iter.Seq[greylist.ClientRow] {
	return func(yield func(greylist.ClientRow) bool) {
		for _, c := range b.clients {
			row := greylist.ClientRow{
				Client: c.client, Credits: int(c.credits),
				First: time.Unix(int64(c.first), 0).UTC(), Last: time.Unix(int64(c.last), 0).UTC(),
			}
			if !yield(row) {
				return
			}
		}
	}
}

// Preferences are the options that were saved since midnight.
func (b *Before) Preferences() []preferences.Row { return slices.Clone(b.saved) }

// Accounts are those that were made or changed since midnight.
func (b *Before) Accounts() []accounts.Account { return slices.Clone(b.changed) }

// Later are the tries that are still to come when the window begins, in their
// order, for the recipients that were still put off. The At of their messages may
// be below 0, and the number beyond those of the day.
func (b *Before) Later() []*Try {
	var later []*Try
	for _, r := range slices.SortedFunc(slices.Values(b.retries), compareRetries) {
		later = append(later, b.trace.try(b.message(r.number), r.at, r.try, r.recipients))
	}
	return later
}

// try is one of a message's tries after the first.
func (t *Trace) try(m Message, at time.Duration, number int, recipients recipientSet) *Try {
	try := &Try{Message: &m, Number: number, At: at, Client: schedules[m.Schedule].address(t.seed, m.Number, number, m.Client)}
	for i := range m.Recipients {
		if recipients.has(i) {
			try.Recipients = append(try.Recipients, i)
		}
	}
	return try
}

// Triplet is what the greylist holds under a key.
func (b *Before) Triplet(key greylist.Key) greylist.State {
	i, ok := b.rows[key]
	if !ok {
		return greylist.State{}
	}
	return greylist.State{Seen: true, First: int64(b.triplets[i].first), Last: int64(b.triplets[i].last)}
}

// Client is what the greylist holds of a client.
func (b *Before) Client(client netip.Addr) greylist.State {
	i, ok := b.known[client]
	if !ok {
		return greylist.State{}
	}
	c := b.clients[i]
	return greylist.State{Seen: true, First: int64(c.first), Last: int64(c.last), Credits: int64(c.credits)}
}

// Sizes are how many triplets, auto-whitelist entries and pending tries there
// are.
func (b *Before) Sizes() (triplets, clients, retries int) {
	return len(b.triplets), len(b.clients), len(b.retries)
}

// retryBefore is a try to come.
type retryBefore struct {
	at         time.Duration
	number     uint64
	try        int
	recipients recipientSet
}

func compareRetries(a, b retryBefore) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.number, b.number), cmp.Compare(a.try, b.try))
}

// retryHeap implements heap.Interface.
type retryHeap []retryBefore

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return compareRetries(h[i], h[j]) < 0 }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *retryHeap) Push(x any)        { *h = append(*h, x.(retryBefore)) }

func (h *retryHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// recipientSet is a set of the at most 100 recipients of a message.
type recipientSet [2]uint64

func allRecipients(n int) (s recipientSet) {
	for i := range n {
		s.add(i)
	}
	return s
}

func (s *recipientSet) add(i int)     { s[i/64] |= 1 << (i % 64) }
func (s recipientSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
