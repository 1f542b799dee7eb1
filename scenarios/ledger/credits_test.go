package ledger

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/workload"
)

// passed is a first pass of a triplet that was first seen at virtual second 600.
func passed(sender string, began, ended, now float64) workload.Acknowledged {
	a := check(sender, began, now, greylist.Pass, at(now-600))
	a.At = at(ended)
	return a
}

// TestCreditsThatRaceAreNoDamage is what NDB may rightly store and answer where ops of
// one client are under way at the same time, without locks between reading and
// writing.
func TestCreditsThatRaceAreNoDamage(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	unix := func(v float64) int64 { return day.Add(at(v)).Unix() }
	lingering := func(a workload.Acknowledged, dispatched, asked, ended float64) workload.Acknowledged {
		a.Dispatched, a.Asked, a.At, a.Lingers = at(dispatched), at(asked), at(ended), true
		return a
	}
	slow := func(a workload.Acknowledged, ended float64) workload.Acknowledged { a.At = at(ended); return a }
	four := func(more ...workload.Acknowledged) (all []workload.Acknowledged) {
		for i := range 4 {
			all = append(all, passed(string(rune('a'+i))+"@x.example", float64(i)+0.5, float64(i)+0.51, float64(1000+4000*i)))
		}
		return append(all, more...)
	}
	for _, row := range []struct {
		sentence string
		ops      []workload.Acknowledged // as they are told of
		restored float64                 // when the whole cluster restarted; 0 for never
		credits  int64
		last     float64            // of them
		passed   map[string]float64 // when a sender's triplet was last seen
	}{
		{"of two that overlap the later one writes last", []workload.Acknowledged{passed("a@x.example", 1, 1.01, 1000), passed("b@x.example", 1.005, 1.015, 1003)},
			0, 1, 1003, map[string]float64{"a@x.example": 1000, "b@x.example": 1003}},
		{"or the earlier one", []workload.Acknowledged{passed("b@x.example", 1, 1.01, 1003), passed("a@x.example", 1, 1.015, 1000)},
			0, 1, 1000, map[string]float64{"a@x.example": 1000, "b@x.example": 1003}},
		{"an attempt without an answer earns the fifth credit, and its other attempt is whitelisted by it",
			four(lingering(check("z@x.example", 7, 17000, greylist.AutoWhitelisted, 0), 7, 9, 9.01)),
			0, 5, 17000, map[string]float64{"a@x.example": 1000, "b@x.example": 5000, "c@x.example": 9000, "d@x.example": 13000}},
		{"a statement that was frozen sets back what others have earned meanwhile",
			[]workload.Acknowledged{passed("b@x.example", 2, 2.01, 1600), passed("c@x.example", 8.5, 8.51, 5500), lingering(passed("a@x.example", 1, 11.01, 1000), 1, 11, 11.01)},
			0, 1, 1000, map[string]float64{"a@x.example": 1000, "b@x.example": 1600, "c@x.example": 5500}},
		{"an op that is slow has read old credits",
			four(passed("e@x.example", 7, 7.01, 17000), check("f@x.example", 14, 21000, greylist.AutoWhitelisted, 0),
				slow(check("s@x.example", 6.9, 16200, greylist.New, 0), 15)),
			0, 6, 21000, map[string]float64{"a@x.example": 1000, "b@x.example": 5000, "c@x.example": 9000, "d@x.example": 13000, "e@x.example": 17000, "s@x.example": 16200}},
		{"a credit that a restart of the whole cluster has lost is earned anew, hours later",
			[]workload.Acknowledged{passed("a@x.example", 99, 99.01, 1000), passed("b@x.example", 180, 180.01, 5000)},
			130, 1, 5000, map[string]float64{"a@x.example": 1000, "b@x.example": 5000}},
	} {
		l, sink := newLedger(t)
		for _, a := range row.ops {
			if row.restored > 0 && a.Dispatched > at(row.restored) {
				l.Restored(at(row.restored))
			}
			if a.Decision.Verdict == greylist.Pass { // its first check, long before
				l.Acknowledge(check(a.Request.Sender, 0.001, 600, greylist.New, 0))
			}
			l.Acknowledge(a)
		}
		rows := map[greylist.Key]greylist.State{greylist.ClientKey(client): {Seen: true, First: unix(1000), Last: unix(row.last), Credits: row.credits}}
		for sender, last := range row.passed {
			first := unix(600)
			if sender == "s@x.example" {
				first = unix(last)
			}
			rows[l.policy.TripletKey(client, "", sender, "r@calmail.example")] = greylist.State{Seen: true, First: first, Last: unix(last)}
		}
		s := &store{rows: rows}
		l.ReadBack(t.Context(), Reading{Open: s.open, Since: func() time.Duration { return at(900) }})
		if len(sink.violations)+len(sink.rows) > 0 {
			t.Errorf("%s: %+v %+v", row.sentence, sink.violations, sink.rows)
		}
	}
}

// TestOnlyWhatExplainsAnAnswerExcusesIt has ops under way that wrote something else.
func TestOnlyWhatExplainsAnAnswerExcusesIt(t *testing.T) {
	other := check("other@x.example", 5.9, 1000, greylist.New, 0) // writes no client
	other.At = at(6.1)
	read := func(value string) workload.Seen {
		return workload.Seen{Op: workload.Op{Operation: reference.ReadPreferences, Asked: at(1), At: at(1.1)}, User: "u", Preferences: map[string]string{"k": value}}
	}
	for _, row := range []struct {
		sentence string
		tell     func(*Ledger)
		want     int
	}{
		{"a client is whitelisted without credits while another triplet of it is new", func(l *Ledger) {
			l.Acknowledge(check("s@x.example", 6, 1000, greylist.AutoWhitelisted, 0))
			l.Acknowledge(other)
		}, 1},
		{"a preference of somebody else is read while another value is saved", func(l *Ledger) {
			l.Saw(read("of somebody else"))
			l.Acknowledge(set("mine", 1, 1.2, "certain"))
		}, 1},
		{"the value that is being saved is read", func(l *Ledger) {
			l.Saw(read("mine"))
			l.Acknowledge(set("mine", 1, 1.2, "certain"))
		}, 0},
	} {
		l, sink := newLedger(t)
		row.tell(l)
		l.Abandon()
		if len(sink.violations) != row.want {
			t.Errorf("%s: %d violations, want %d: %+v", row.sentence, len(sink.violations), row.want, sink.violations)
		}
	}
}

// TestNoFalseAlarmOfCredits is TestNoFalseAlarm where few attempts linger, so that
// credits are counted, and clients are few and busy.
func TestNoFalseAlarmOfCredits(t *testing.T) {
	policy := greylist.DefaultPolicy()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		l, sink := newLedger(t)
		type event struct {
			at time.Duration
			do func()
		}
		var events []event
		rows := map[greylist.Key]greylist.State{}
		last := time.Duration(0)
		step := []float64{1, 3, 12, 60, 400}[seed%5] // virtual seconds from op to op
		lingerIn, toldLate := []int{0, 0, 60, 600}[seed%4], seed%3 == 0
		for i := range 1000 {
			dispatched := at(float64(i)*0.02 + r.Float64()*0.02)
			took := time.Duration(1+r.IntN(40)) * time.Millisecond
			ended := dispatched + took
			lingers := lingerIn > 0 && r.IntN(lingerIn) == 0
			last = max(last, ended)
			a := check(fmt.Sprint("s", string(rune('a'+r.IntN(20))), "@x.example"), 0, (float64(i)+float64(r.IntN(10)))*step, 0, 0)
			a.Request.Client = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(4))})
			a.Asked, a.Dispatched, a.At, a.Lingers = dispatched, dispatched, ended, lingers
			tk, ck := policy.TripletKey(a.Request.Client, "", a.Request.Sender, a.Request.Recipient), greylist.ClientKey(a.Request.Client)
			perform := func(reads, writes time.Duration, answered bool) {
				var triplet, client greylist.State
				var writesTriplet, writesClient bool
				events = append(events, event{reads, func() {
					before := rows[ck]
					var answer greylist.Answer
					answer, triplet, client = policy.Decide(rows[tk], before, a.Request.Now.Unix())
					writesTriplet, writesClient = answer.Verdict != greylist.AutoWhitelisted, client != before
					if answered {
						a.Decision = answer
					}
				}}, event{writes, func() {
					if writesTriplet {
						rows[tk] = triplet
					}
					if writesClient {
						rows[ck] = client
					}
				}})
			}
			if lingers {
				perform(dispatched, dispatched+time.Duration(r.IntN(300))*time.Millisecond, false)
			}
			reads := dispatched + time.Duration(r.Int64N(int64(took)))
			perform(reads, reads+time.Duration(r.Int64N(int64(ended-reads))), true)
			told := ended
			if toldLate {
				told += time.Duration(r.IntN(10)) * time.Millisecond
			}
			events = append(events, event{told, func() { l.Acknowledge(a) }})
		}
		slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
		for _, e := range events {
			e.do()
		}
		s := &store{rows: rows}
		l.ReadBack(t.Context(), Reading{Open: s.open, Since: func() time.Duration { return last + time.Second }})
		for _, v := range sink.violations {
			t.Errorf("seed %d: %+v", seed, v)
		}
		for _, row := range sink.rows {
			t.Errorf("seed %d: %+v", seed, row)
		}
	}
}
