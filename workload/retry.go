package workload

import (
	"net/netip"
	"slices"
	"time"
)

// Schedule is how the program behind a sender comes back after it was deferred:
// tables of whole seconds. A try that a queue runner makes is at one of its
// runs, whose phase differs from message to message.
type Schedule struct {
	Name string
	// Waits are the least times from one try to the next, in their order; after
	// the last one it repeats, unless Stops. None means that the sender never
	// comes back.
	Waits []Wait
	Stops bool
	// ByAge makes the wait the message's age at the try, at least that of the
	// first of two Waits and at most that of the second.
	ByAge    bool
	QueueRun time.Duration // between runs of the queue; 0 if each try has its own timer
	Jitter   time.Duration // each try is up to this much later; less than the shortest wait and QueueRun
	GiveUp   time.Duration // there is no try later than this after the first
	// Addresses is how many hosts send, of Networks /24 (or /64) networks, which
	// is what greylisting tells apart. Each try comes from any of them. 1 to 64
	// and 1 to 8.
	Addresses, Networks int
}

// Wait is the time after a try.
type Wait struct {
	After time.Duration
	While time.Duration // it is used for every try at an age below this, or once if 0
}

const wholeDay = 24 * time.Hour

// schedules are the known programs. Their order is part of the trace.
//
// The providers are those of Pagani, De Astis, Graziano, Lanzi, Balzarotti:
// "Measuring the Role of Greylisting and Nolisting in Fighting Spam", DSN 2016,
// table of webmail delivery attempts, measured over six hours of 2015, with
// whether a provider came back from one address or how many. That after its
// last wait a provider repeats it is assumed, and so are the time when it gives
// up, the jitter of all, and that addresses lie in a network each, unless it
// says otherwise.
var schedules = [...]Schedule{
	{Name: "never", Addresses: 1, Networks: 1},

	// Debian's retry rule (exim4-config, conf.d/retry/30_exim4-config):
	// F,2h,15m; G,16h,1h,1.5; F,4d,6h, seen by a queue runner every 30 minutes
	// (QUEUEINTERVAL in /etc/default/exim4). 15 minutes apply while the message
	// is younger than 2 hours; then come 1 h, 1.5 h, ...
	{
		Name: "exim", QueueRun: 30 * time.Minute, Jitter: 20 * time.Second, GiveUp: 4 * wholeDay, Addresses: 1, Networks: 1,
		Waits: []Wait{{15 * time.Minute, 2 * time.Hour}, {3600 * time.Second, 0}, {5400 * time.Second, 0}, {8100 * time.Second, 0}, {12150 * time.Second, 0}, {18225 * time.Second, 0}, {6 * time.Hour, 0}},
	},
	// Since 2.4 minimal_backoff_time and queue_run_delay are 300 s,
	// maximal_backoff_time is 4000 s, maximal_queue_lifetime 5 days (postconf(5));
	// the wait is the message's age within these bounds, so it doubles (qmgr(8)).
	{
		Name: "postfix", ByAge: true, Waits: waitSeconds(300, 4000), QueueRun: 300 * time.Second, Jitter: 5 * time.Second,
		GiveUp: 5 * wholeDay, Addresses: 1, Networks: 1,
	},
	// Before 2.4 it was 1000 s for both (Dent: Postfix, The Definitive Guide).
	{
		Name: "postfix-2.3", ByAge: true, Waits: waitSeconds(1000, 4000), QueueRun: 1000 * time.Second, Jitter: 5 * time.Second,
		GiveUp: 5 * wholeDay, Addresses: 1, Networks: 1,
	},
	// Try n is 400*n*n seconds after the first (qmail-send.c, nextretry), for
	// queuelifetime 604800 s (qmail-control(5)). The last is 38, after 577,600 s.
	{Name: "qmail", Waits: qmailWaits(), Jitter: 2 * time.Second, GiveUp: 7 * wholeDay, Addresses: 1, Networks: 1},
	// sendmail -q30m, as many systems ship it (15 to 60 minutes): each run tries
	// the whole queue; Timeout.queuereturn is 5 days (cf/README).
	{
		Name: "sendmail", Waits: waitSeconds(1), QueueRun: 30 * time.Minute, Jitter: 60 * time.Second,
		GiveUp: 5 * wholeDay, Addresses: 1, Networks: 1,
	},

	{
		Name: "gmail", Waits: offsets("6:02", "29:02", "56:36", "98:44", "162:03", "229:44", "309:05", "434:46"),
		Jitter: 30 * time.Second, GiveUp: 3 * wholeDay, Addresses: 7, Networks: 7,
	},
	{
		Name: "yahoo", Waits: offsets("2:07", "5:39", "12:58", "27:16", "55:13", "109:35", "216:47", "430:36"),
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 1, Networks: 1,
	},
	{ // then every 4 minutes
		Name: "hotmail", Waits: offsets("1:01", "2:03", "3:04", "5:06", "8:07", "12:08", "16:10"),
		Jitter: 5 * time.Second, GiveUp: wholeDay, Addresses: 1, Networks: 1,
	},
	{ // gave up after 31 minutes
		Name: "aol", Waits: offsets("5:32", "11:32", "21:32", "31:32"), Stops: true,
		Jitter: 10 * time.Second, GiveUp: wholeDay, Addresses: 1, Networks: 1,
	},
	{
		Name: "gmx", Waits: offsets("5:01", "12:33", "23:50", "40:46", "66:09", "104:14", "161:22", "247:04", "375:36"),
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 3, Networks: 1, // one network: assumed
	},
	{
		Name: "mail.com", Waits: offsets("5:02", "12:37", "23:59", "41:03", "66:38", "105:01", "162:35", "248:56", "378:28"),
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 2, Networks: 1, // one network: assumed
	},
	{
		Name: "mail.ru", Waits: offsets("1:18", "19:15", "49:14", "79:49", "113:20", "154:18", "187:53", "235:20", "271:03", "305:50", "340:38", "373:45"),
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 7, Networks: 7,
	},
	{ // then every 15:30 minutes
		Name: "yandex", Waits: offsets("1:05", "2:58", "6:53", "14:55", "30:28", "45:41", "61:01", "76:31"),
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 1, Networks: 1,
	},
	{ // gave up after 205 minutes
		Name: "qq", Waits: offsets("5:05", "5:11", "5:17", "6:19", "8:22", "12:25", "20:29", "52:31", "84:35", "144:42", "204:56"), Stops: true,
		Jitter: 5 * time.Second, GiveUp: wholeDay, Addresses: 2, Networks: 2,
	},
	{
		Name: "india.com", Waits: offsets("6:21", "16:21", "36:21", "76:21", "146:22", "216:21"), // then every 70 minutes
		Jitter: 10 * time.Second, GiveUp: 3 * wholeDay, Addresses: 1, Networks: 1,
	},

	// A spammer that keeps a queue. Assumed: it is in no hurry, and a campaign
	// is over in a day.
	{Name: "spammer", Waits: offsets("10:00", "70:00", "130:00", "370:00"), Stops: true, Jitter: 5 * time.Minute, GiveUp: wholeDay, Addresses: 1, Networks: 1},
}

// Indexes of schedules that have a meaning of their own.
const never = 0

// Schedules are the known programs. A Message's Schedule is an index of them,
// and 0 is "never".
func Schedules() []Schedule { return slices.Clone(schedules[:]) }

// scheduleNames are their names, in their order.
func scheduleNames() []string {
	names := make([]string, len(schedules))
	for i, s := range schedules {
		names[i] = s.Name
	}
	return names
}

// scheduleNamed is the index of a known program.
func scheduleNamed(name string) (index int, ok bool) {
	index = slices.IndexFunc(schedules[:], func(s Schedule) bool { return s.Name == name })
	return index, index >= 0
}

func waitSeconds(s ...int) []Wait {
	var waits []Wait
	for _, n := range s {
		waits = append(waits, Wait{After: time.Duration(n) * time.Second})
	}
	return waits
}

func qmailWaits() []Wait {
	var waits []Wait
	for n := range 39 {
		waits = append(waits, Wait{After: time.Duration(400*(2*n+1)) * time.Second})
	}
	return waits
}

// offsets turns the times of tries, in minutes and seconds since the first, as
// they are published, into the waits between them.
func offsets(times ...string) []Wait {
	var (
		waits []Wait
		last  time.Duration
	)
	for _, t := range times {
		at, field := time.Duration(0), time.Duration(0)
		for _, c := range t {
			if c == ':' {
				at, field = field*time.Minute, 0
				continue
			}
			field = 10*field + time.Duration(c-'0')
		}
		at += field * time.Second
		waits, last = append(waits, Wait{After: at - last}), at
	}
	return waits
}

// Offset is how long after the first one try 1, 2, ... of a message comes, in
// whole microseconds. It is a function of seed, message and try. ok is false if
// the sender has given up by then, or never comes back.
func (s *Schedule) Offset(seed, message uint64, try int) (offset time.Duration, ok bool) {
	if try < 1 || len(s.Waits) == 0 || s.Stops && try > len(s.Waits) {
		return 0, false
	}
	d := newDraws(seed, streamRetry, message)
	phase := time.Duration(0)
	if s.QueueRun > 0 {
		phase = time.Duration(d.below(int(s.QueueRun/time.Microsecond))) * time.Microsecond
	}
	var age time.Duration // of the message, without jitter: a late run does not delay the next
	for i, n := 0, 0; n < try; n++ {
		for i < len(s.Waits)-1 && s.Waits[i].While > 0 && age >= s.Waits[i].While {
			i++
		}
		wait := s.Waits[i]
		if s.ByAge {
			wait.After = min(max(age, s.Waits[0].After), s.Waits[1].After)
		} else if wait.While == 0 && i < len(s.Waits)-1 {
			i++
		}
		age += wait.After
		if s.QueueRun > 0 { // the next run
			age = phase + (age-phase+s.QueueRun-1)/s.QueueRun*s.QueueRun
		}
		if age > s.GiveUp {
			return 0, false
		}
	}
	d += draws(uint64(try) * increment) // each try draws for itself
	late := time.Duration(d.below(int(s.Jitter/time.Microsecond)+1)) * time.Microsecond
	return age + late, true
}

// address is where a try comes from, given a member of the sender's addresses. The hosts
// of a sender with several are neighbours: its networks differ in the last three
// bits of the network's number, the hosts of a network in the last three of
// theirs, so that each is known from any other.
func (s *Schedule) address(seed, message uint64, try int, member netip.Addr) netip.Addr {
	if s.Addresses <= 1 {
		return member
	}
	d := newDraws(seed, streamTryAddress, message) + draws(uint64(try)*increment)
	return s.member(d.below(s.Addresses), member)
}

// member is one of a sender's addresses, 0 to Addresses-1, given any.
func (s *Schedule) member(which int, member netip.Addr) netip.Addr {
	if s.Addresses <= 1 {
		return member
	}
	network, host := byte(which%s.Networks), byte(which/s.Networks)
	if member.Is4() {
		a := member.As4()
		a[2], a[3] = a[2]&^7|network, a[3]&^7|host
		return netip.AddrFrom4(a)
	}
	a := member.As16()
	a[7], a[15] = a[7]&^7|network, a[15]&^7|host
	return netip.AddrFrom16(a)
}

// Retry is when try 1, 2, ... of a message comes, in virtual time since
// midnight, which may be past 24 hours, and from which address. It is a function
// of the trace's seed, the message and the try. ok is false if the sender has
// given up by then, or never comes back.
func (t *Trace) Retry(m *Message, try int) (at time.Duration, client netip.Addr, ok bool) {
	return retry(t.seed, m, try)
}

func retry(seed uint64, m *Message, try int) (at time.Duration, client netip.Addr, ok bool) {
	if int(m.Schedule) >= len(schedules) {
		return 0, netip.Addr{}, false
	}
	s := &schedules[m.Schedule]
	offset, ok := s.Offset(seed, m.Number, try)
	if !ok {
		return 0, netip.Addr{}, false
	}
	return m.At + offset, s.address(seed, m.Number, try, m.Client), true
}
