package workload

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"time"
)

// Window is a slice of the virtual day: from From, inclusive, to From+Duration,
// exclusive; both within 0 to 24 hours.
type Window struct {
	From, Duration time.Duration
}

// Validate names the field that is out of its range.
func (w Window) Validate() error {
	const day = 24 * time.Hour
	switch {
	case w.From < 0 || w.From >= day:
		return fmt.Errorf("window: From is %v, must be from 0 to less than 24h", w.From)
	case w.Duration <= 0 || w.Duration > day-w.From:
		return fmt.Errorf("window: Duration is %v, must be above 0 and end by 24h, so at most %v from %v", w.Duration, day-w.From, w.From)
	}
	return nil
}

func (w Window) holds(at time.Duration) bool { return at >= w.From && at-w.From < w.Duration }

// minutes are the first minute that the window touches and the one after the
// last.
func (w Window) minutes() (first, end int) {
	return int(w.From / time.Minute), int((w.From + w.Duration + time.Minute - 1) / time.Minute)
}

// Message is one SMTP transaction as a peer offers it, on its first try.
type Message struct {
	Number     uint64        // in the day, from 0; grows from minute to minute, not within one
	At         time.Duration // virtual time since midnight, in whole microseconds
	Legitimate bool
	Client     netip.Addr
	Sender     string
	Recipients []string // one or more, no two alike
	Schedule   uint8    // how the sender comes back when it is deferred: an index of Schedules()
}

// Action is one webmail login: it reads all preferences, and may then save an
// options form.
type Action struct {
	Number uint64        // in the day, from 0, counted apart from messages
	At     time.Duration // virtual time since midnight, in whole microseconds
	User   string
	Saves  []Save // keys in the order of the form, empty for most logins
}

// Save is one preference of a form. No two actions of a day save the same
// value, so that a lost write shows.
type Save struct {
	Key, Value string
}

// Item is a message on its first try, an action, a job, or a later try of a
// message: the others are nil.
type Item struct {
	At      time.Duration // virtual time since midnight
	Message *Message
	Action  *Action
	Job     *Job
	Try     *Try // none of a trace's; see Replay
}

// Trace is the mail of a window. It holds tables but no messages, and may be
// used from several goroutines.
type Trace struct {
	seed       uint64
	model      Model
	population Population
	window     Window

	messageStarts  [minutesPerDay + 1]uint64 // number of the first message of each minute
	actionStarts   [minutesPerDay + 1]uint64 // the same for actions
	jobStarts      [minutesPerDay + 1]uint64 // and for jobs
	legitimate     [minutesPerDay]uint64     // how many messages of each minute, its first, are legitimate
	popularity     table                     // of accounts as recipients
	legitimateSize table                     // recipients less one, of a legitimate message
	spamSize       table
	senders        *senders

	messages, actions, jobs int64
}

// NewTrace prepares the trace of a window. The error names a bad field of the
// model, the population or the window.
func NewTrace(seed uint64, m Model, p Population, w Window) (*Trace, error) {
	for _, v := range []interface{ Validate() error }{m, p, w} {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	if most := max(len(m.LegitimateRecipients), len(m.SpamRecipients)); p.Accounts < most {
		return nil, fmt.Errorf("population: Accounts is %d, must be at least the %d recipients that a message of the model may have", p.Accounts, most)
	}
	t := &Trace{
		seed: seed, model: m, population: p, window: w,
		popularity:     zipf(p.Accounts, m.PopularityOffset),
		legitimateSize: newTable(m.LegitimateRecipients),
		spamSize:       newTable(m.SpamRecipients),
		senders:        p.senders(),
	}
	legitimate, spam := m.minutes(seed)
	for minute := range minutesPerDay {
		t.legitimate[minute] = uint64(legitimate[minute])
		t.messageStarts[minute+1] = t.messageStarts[minute] + uint64(legitimate[minute]+spam[minute])
	}
	for minute := range minutesPerDay + 1 {
		t.actionStarts[minute] = uint64(m.loginsBefore(p.Accounts, minute))
		t.jobStarts[minute] = uint64(m.jobsBefore(minute))
	}
	t.messages = t.count(&t.messageStarts, streamArrival)
	t.actions = t.count(&t.actionStarts, streamLogin)
	t.jobs = t.count(&t.jobStarts, streamJobArrival)
	return t, nil
}

// Window is the window that the trace was made for.
func (t *Trace) Window() Window { return t.window }

// Messages is how many messages come in the window.
func (t *Trace) Messages() int64 { return t.messages }

// Offered is how many messages are offered in the window before the DNS blocklist
// turns its share away, which raises no question.
func (t *Trace) Offered() int64 { return t.messages * million / (million - t.model.BlockedPPM) }

// Actions is how many webmail actions come in the window.
func (t *Trace) Actions() int64 { return t.actions }

// Jobs is how many jobs on accounts come in the window.
func (t *Trace) Jobs() int64 { return t.jobs }

// count looks at single arrivals only in the minutes that the window cuts.
func (t *Trace) count(starts *[minutesPerDay + 1]uint64, s stream) int64 {
	var n int64
	first, end := t.window.minutes()
	for minute := first; minute < end; minute++ {
		begin := time.Duration(minute) * time.Minute
		if t.window.holds(begin) && t.window.holds(begin+time.Minute-1) {
			n += int64(starts[minute+1] - starts[minute])
			continue
		}
		for number := starts[minute]; number < starts[minute+1]; number++ {
			if t.window.holds(t.arrivalAt(s, number, minute)) {
				n++
			}
		}
	}
	return n
}

// arrivalAt is uniform within its minute, whose count is given: arrivals are a
// Poisson process conditional on the counts of minutes.
func (t *Trace) arrivalAt(s stream, number uint64, minute int) time.Duration {
	d := newDraws(t.seed, s, number)
	return time.Duration(minute)*time.Minute + time.Duration(d.below(60*million))*time.Microsecond
}

func minuteOf(starts *[minutesPerDay + 1]uint64, number uint64) (minute int, ok bool) {
	after := sort.Search(len(starts), func(i int) bool { return starts[i] > number })
	return after - 1, after < len(starts)
}

// Message makes message number of the day, in the window or not, without those
// before it. It is the zero Message if the day has fewer.
func (t *Trace) Message(number uint64) Message {
	minute, ok := minuteOf(&t.messageStarts, number)
	if !ok {
		return Message{}
	}
	return t.message(number, minute, t.arrivalAt(streamArrival, number, minute))
}

func (t *Trace) message(number uint64, minute int, at time.Duration) Message {
	d := newDraws(t.seed, streamMessage, number)
	m := Message{Number: number, At: at, Legitimate: number-t.messageStarts[minute] < t.legitimate[minute]}
	size := t.spamSize
	if m.Legitimate {
		size = t.legitimateSize
	}
	count := 1 + size.pick(&d)
	m.Recipients = make([]string, 0, count)
	chosen := make([]int, 0, 16) // account numbers, and guesses as numbers below 0
	for range count {
		// A recipient drawn twice gives way to the next one in line, so that the
		// recipients of a message differ.
		if !m.Legitimate && d.chance(t.model.UnknownPPM) {
			guess := d.below(guesses)
			for slices.Contains(chosen, -1-guess) {
				guess = (guess + 1) % guesses
			}
			chosen = append(chosen, -1-guess)
			m.Recipients = append(m.Recipients, t.population.guess(guess))
			continue
		}
		account := t.popularity.pick(&d)
		for slices.Contains(chosen, account) {
			account = (account + 1) % t.population.Accounts
		}
		chosen = append(chosen, account)
		m.Recipients = append(m.Recipients, t.population.Address(account))
	}
	var peer Peer
	switch {
	case !m.Legitimate:
		peer = t.senders.bot(&d)
	case d.chance(t.model.RegularPPM):
		peer = t.senders.correspondent(chosen[0], d.below(Correspondents))
	default:
		peer = t.senders.other(&d)
	}
	m.Sender, m.Schedule = peer.Sender, peer.Schedule
	m.Client = schedules[m.Schedule].address(t.seed, number, 0, peer.Client)
	return m
}

// Action makes webmail action number of the day, in the window or not, without
// those before it. It is the zero Action if the day has fewer.
func (t *Trace) Action(number uint64) Action {
	minute, ok := minuteOf(&t.actionStarts, number)
	if !ok {
		return Action{}
	}
	return t.action(number, t.arrivalAt(streamLogin, number, minute))
}

func (t *Trace) action(number uint64, at time.Duration) Action {
	d := newDraws(t.seed, streamAction, number)
	a := Action{Number: number, At: at, User: t.population.Address(d.below(t.population.Accounts))}
	if d.chance(t.model.SavingPPM) {
		a.Saves = make([]Save, t.model.KeysPerSave)
		for i := range a.Saves {
			a.Saves[i] = Save{Key: options[i].key, Value: "a" + strconv.FormatUint(number, 10) + "." + strconv.Itoa(i)}
		}
	}
	return a
}

// All yields the items of the window in the order of their arrival; of two at
// the same microsecond a message comes before an action, an action before a job,
// and a lower number before a higher one. It holds no more than the arrivals of one minute.
func (t *Trace) All() iter.Seq[Item] {
	return func(yield func(Item) bool) {
		first, end := t.window.minutes()
		for minute := first; minute < end; minute++ {
			for item := range t.minute(minute) {
				if !yield(item) {
					return
				}
			}
		}
	}
}

// minute yields the items of the window in one minute of the day.
func (t *Trace) minute(minute int) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for _, a := range t.arrivals(nil, minute) {
			if !yield(t.item(a, minute)) {
				return
			}
		}
	}
}

// arrival is an item before it is made.
type arrival struct {
	at     time.Duration
	number uint64
	of     arrivalOf
}

// item makes what arrives in a minute.
func (t *Trace) item(a arrival, minute int) Item {
	item := Item{At: a.at}
	switch a.of {
	case ofMessage:
		made := t.message(a.number, minute, a.at)
		item.Message = &made
	case ofAction:
		made := t.action(a.number, a.at)
		item.Action = &made
	case ofJob:
		made := t.job(a.number, a.at)
		item.Job = &made
	}
	return item
}

type arrivalOf uint8

const (
	ofMessage arrivalOf = iota
	ofAction
	ofJob
)

func (t *Trace) arrivals(into []arrival, minute int) []arrival {
	add := func(starts *[minutesPerDay + 1]uint64, s stream, of arrivalOf) {
		for number := starts[minute]; number < starts[minute+1]; number++ {
			if at := t.arrivalAt(s, number, minute); t.window.holds(at) {
				into = append(into, arrival{at: at, number: number, of: of})
			}
		}
	}
	add(&t.messageStarts, streamArrival, ofMessage)
	add(&t.actionStarts, streamLogin, ofAction)
	add(&t.jobStarts, streamJobArrival, ofJob)
	slices.SortFunc(into, func(a, b arrival) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.of, b.of), cmp.Compare(a.number, b.number))
	})
	return into
}

// SHA256 identifies the trace: the lower-case hexadecimal SHA-256 of
// "mailbench.trace/v2\n" and then every item of the window, in the order of
// All, in this form, integers big-endian:
//
//	message  'M', number (8 bytes), At in µs (8), 1 if legitimate or else 0 (1),
//	         client as 16 bytes (IPv4 mapped, RFC 4291), schedule (1), sender,
//	         number of recipients (2), each recipient
//	action   'A', number (8), At in µs (8), user, number of saves (2), key and
//	         value of each
//	job      'J', number (8), At in µs (8), number of changes (2), and of each
//	         its action, login, backend of a new account, backend of a move,
//	         number of targets (2), each target
//
// where a text is its length in bytes (2) and its bytes. It makes the whole
// trace each time that it is called.
func (t *Trace) SHA256() string {
	h := sha256.New()
	h.Write([]byte(canonicalPrefix))
	buffer := make([]byte, 0, 64<<10)
	for item := range t.All() {
		buffer = item.appendCanonical(buffer)
		if len(buffer) > 32<<10 {
			h.Write(buffer)
			buffer = buffer[:0]
		}
	}
	h.Write(buffer)
	return hex.EncodeToString(h.Sum(nil))
}

func (i Item) appendCanonical(b []byte) []byte {
	text := func(s string) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	head := func(kind byte, number uint64) {
		b = append(b, kind)
		b = binary.BigEndian.AppendUint64(b, number)
		b = binary.BigEndian.AppendUint64(b, uint64(i.At.Microseconds()))
	}
	if m := i.Message; m != nil {
		head('M', m.Number)
		legitimate := byte(0)
		if m.Legitimate {
			legitimate = 1
		}
		b = append(b, legitimate)
		client := m.Client.As16()
		b = append(b, client[:]...)
		b = append(b, m.Schedule)
		text(m.Sender)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Recipients)))
		for _, r := range m.Recipients {
			text(r)
		}
		return b
	}
	if j := i.Job; j != nil {
		head('J', j.Number)
		j.appendCanonical(text, func(n int) { b = binary.BigEndian.AppendUint16(b, uint16(n)) })
		return b
	}
	a := i.Action
	head('A', a.Number)
	text(a.User)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Saves)))
	for _, s := range a.Saves {
		text(s.Key)
		text(s.Value)
	}
	return b
}
