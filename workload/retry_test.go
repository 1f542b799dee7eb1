package workload

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/golden"
)

func TestTriesComeLaterAndLaterUntilTheSenderGivesUp(t *testing.T) {
	for i, s := range Schedules() {
		if len(s.Name) == 0 || s.Addresses < 1 || s.Networks < 1 || s.Networks > 8 || s.Addresses > 8*s.Networks || s.Addresses < s.Networks {
			t.Errorf("schedule %d is %+v", i, s)
		}
		if s.QueueRun > 0 && s.Jitter >= s.QueueRun {
			t.Errorf("%s is late by up to %v, more than the %v between two runs of its queue", s.Name, s.Jitter, s.QueueRun)
		}
		for message := range uint64(300) {
			last, try := time.Duration(0), 1
			for ; ; try++ {
				at, ok := s.Offset(7, message, try)
				if !ok {
					break
				}
				if again, _ := s.Offset(7, message, try); again != at {
					t.Fatalf("%s: try %d of message %d is at %v and at %v", s.Name, try, message, at, again)
				}
				if at <= last || at > s.GiveUp+s.Jitter || at%time.Microsecond != 0 {
					t.Fatalf("%s: try %d of message %d is at %v, after one at %v, and it gives up after %v", s.Name, try, message, at, last, s.GiveUp)
				}
				last = at
			}
			if try > 1000 {
				t.Fatalf("%s: message %d has %d tries", s.Name, message, try)
			}
			for _, later := range []int{try + 1, try + 7, try + 500} {
				if at, ok := s.Offset(7, message, later); ok {
					t.Fatalf("%s: message %d has no try %d, yet try %d at %v", s.Name, message, try, later, at)
				}
			}
		}
	}
}

func TestKnownSchedules(t *testing.T) {
	minutes := func(list ...float64) (d []time.Duration) {
		for _, m := range list {
			d = append(d, time.Duration(m*60+0.5)*time.Second)
		}
		return d
	}
	for _, row := range []struct {
		sentence, name string
		slack          time.Duration // later than this by no more
		want           []time.Duration
	}{
		{"qmail waits 400 s times the square of the try", "qmail", 2 * time.Second, []time.Duration{400e9, 1600e9, 3600e9, 6400e9, 10_000e9}},
		{"gmail as Pagani et al. measured it", "gmail", 30 * time.Second, minutes(6+2./60, 29+2./60, 56.6, 98+44./60)},
		{"hotmail goes on every four minutes or so", "hotmail", 5 * time.Second, minutes(1+1./60, 2.05, 3+4./60, 5.1, 8+7./60, 12+8./60, 16+10./60, 20.2, 24+14./60)},
		{"Postfix waits 5 minutes at first, seen by its queue manager every 5 minutes", "postfix", 5*time.Minute + 5*time.Second, minutes(5)},
		{"Exim's 15 minutes are seen by a queue runner every 30", "exim", 30*time.Minute + 20*time.Second, minutes(15)},
		{"sendmail tries at the next run of its queue", "sendmail", 31 * time.Minute, minutes(0, 30, 60, 90)},
	} {
		i, ok := scheduleNamed(row.name)
		if !ok {
			t.Fatalf("no schedule is called %s", row.name)
		}
		s := Schedules()[i]
		for message := range uint64(200) {
			for try, want := range row.want {
				if got, ok := s.Offset(1, message, try+1); !ok || got < want || got > want+row.slack {
					t.Fatalf("%s: try %d of message %d is at %v (%t), want %v to %v", row.sentence, try+1, message, got, ok, want, want+row.slack)
				}
			}
		}
	}
	for name, want := range map[string]int{"never": 0, "aol": 4, "qq": 11, "qmail": 38, "spammer": 4} {
		i, _ := scheduleNamed(name)
		s, n := Schedules()[i], 0
		for ; ; n++ {
			if _, ok := s.Offset(1, 1, n+1); !ok {
				break
			}
		}
		if n != want {
			t.Errorf("%s comes back %d times, want %d", name, n, want)
		}
	}
}

func TestSchedulesNeverChange(t *testing.T) {
	var b bytes.Buffer
	for i, s := range Schedules() {
		fmt.Fprintf(&b, "%d %s:", i, s.Name)
		for try := 1; try <= 12; try++ {
			if at, ok := s.Offset(1, 2, try); ok {
				fmt.Fprintf(&b, " %d", at.Microseconds())
			}
		}
		fmt.Fprintln(&b)
	}
	golden.Assert(t, b.String(), "schedules.golden", "every run with retries would change with it")
}

func TestEachTryComesFromOneOfTheSendersAddresses(t *testing.T) {
	for _, first := range []string{"100.99.15.200", "2001:db8:1:2::19"} {
		for _, s := range Schedules() {
			hosts, networks := map[netip.Addr]bool{}, map[netip.Prefix]bool{}
			client := s.address(3, 0, 0, netip.MustParseAddr(first))
			for message := range uint64(200) {
				for try := range 5 {
					from := s.address(3, message, try, client)
					hosts[from] = true
					bits := 24
					if from.Is6() {
						bits = 64
					}
					p, _ := from.Prefix(bits)
					networks[p] = true
					client = from // any of them leads to all
				}
			}
			if len(hosts) != s.Addresses || len(networks) != s.Networks {
				t.Errorf("%s from %s sends from %d addresses in %d networks, want %d in %d", s.Name, first, len(hosts), len(networks), s.Addresses, s.Networks)
			}
		}
	}
}

func TestRetryOfATrace(t *testing.T) {
	tr := newTrace(t, 23*time.Hour+59*time.Minute, time.Minute)
	byDomain := map[string]uint8{}
	pastMidnight, spammers, retrying := 0, 0, 0
	for item := range tr.All() {
		m := item.Message
		if m == nil {
			continue
		}
		if m.Legitimate {
			_, domain, _ := strings.Cut(m.Sender, "@")
			if s, ok := byDomain[domain]; ok && s != m.Schedule {
				t.Fatalf("%s has schedules %d and %d: a domain's mail server is one program", domain, s, m.Schedule)
			}
			byDomain[domain] = m.Schedule
		} else {
			spammers++
			if m.Schedule != never {
				retrying++
			}
		}
		at, client, ok := tr.Retry(m, 1)
		offset, wantOK := Schedules()[m.Schedule].Offset(1, m.Number, 1)
		switch {
		case ok != wantOK || ok != client.IsValid():
			t.Fatalf("message %d has a first retry: %t, from %v; by its schedule %t", m.Number, ok, client, wantOK)
		case ok && (at != m.At+offset || client.Is4() != m.Client.Is4()):
			t.Fatalf("message %d of %v from %v comes back at %v from %v, want %v later", m.Number, m.At, m.Client, at, client, offset)
		case ok && at > 24*time.Hour:
			pastMidnight++
		}
	}
	if pastMidnight == 0 {
		t.Error("no retry of the last minute is on the next day")
	}
	if ppm := retrying * million / spammers; ppm < 30_000 || ppm > 70_000 {
		t.Errorf("%d of %d spams come back, want 5 %%", retrying, spammers)
	}
	for _, m := range []Message{{Schedule: 255}, {Schedule: never}} {
		if at, _, ok := tr.Retry(&m, 1); ok {
			t.Errorf("a message of schedule %d comes back at %v", m.Schedule, at)
		}
	}
	m := tr.Message(0)
	if at, _, ok := tr.Retry(&m, 0); ok {
		t.Errorf("try 0, which is the first, is a retry at %v", at)
	}
}
