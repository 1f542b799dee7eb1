package workload

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TraceStats is what a trace is like.
type TraceStats struct {
	Window                  Window
	Messages, Tries         int64 // tries are first tries: recipients of all messages
	Actions, Jobs           int64
	Saving                  int64 // actions that save something
	Legitimate, LegitimateT int64 // messages, and their recipients
	Unknown                 int64 // recipients that nobody has; -1 if that cannot be told
	NullSenders             int64 // messages from <>
	Schedules               []int64
	// Minutes are the messages of each minute that the window touches.
	Minutes []MinuteStats
	// How often each one appears, in messages, and of recipients in tries.
	Clients, Domains, Recipients Popularity
}

// MinuteStats are the messages of a minute.
type MinuteStats struct{ Messages, Legitimate int64 }

// Retrying is how many messages have a sender that comes back when it is
// deferred.
func (s *TraceStats) Retrying() int64 { return s.Messages - s.Schedules[never] }

// Popularity is who appears how often.
type Popularity struct {
	Total    int64 // appearances of all
	Distinct int64
	Top      []Appearances // at most 100, the most frequent first; of equals the lesser name
}

// Appearances is how often one appears.
type Appearances struct {
	Name  string
	Count int64
}

// Share is how often the first n appear together.
func (p Popularity) Share(n int) int64 {
	var sum int64
	for _, a := range p.Top[:min(n, len(p.Top))] {
		sum += a.Count
	}
	return sum
}

const mostPopular = 100

// StatsOf reads the whole of a trace. known says whether somebody has an
// address, nil if nobody can say. Memory grows with the different addresses in
// the trace, not with its length. The error is ctx's or the source's.
func StatsOf(ctx context.Context, source Source, known func(address string) bool) (*TraceStats, error) {
	s := &TraceStats{Window: source.Window(), Schedules: make([]int64, len(schedules))}
	first, end := s.Window.minutes()
	s.Minutes = make([]MinuteStats, end-first)
	clients, domains, recipients := map[netip.Addr]int64{}, map[string]int64{}, map[string]int64{}
	read := 0
	for item := range source.All() {
		if read++; read&0xfff == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		switch {
		case item.Action != nil:
			s.Actions++
			if len(item.Action.Saves) > 0 {
				s.Saving++
			}
		case item.Job != nil:
			s.Jobs++
		default:
			m := item.Message
			s.message(m, &s.Minutes[int(m.At/time.Minute)-first])
			clients[m.Client]++
			domains[senderDomain(m.Sender)]++
			for _, r := range m.Recipients {
				recipients[r]++
			}
		}
	}
	if err := source.Err(); err != nil {
		return nil, err
	}
	if s.Unknown = -1; known != nil {
		s.Unknown = 0
		for r, n := range recipients {
			if !known(r) {
				s.Unknown += n
			}
		}
	}
	text := func(name string) string { return name }
	s.Clients = popularity(clients, netip.Addr.String)
	s.Domains = popularity(domains, text)
	s.Recipients = popularity(recipients, text)
	return s, nil
}

func (s *TraceStats) message(m *Message, minute *MinuteStats) {
	s.Messages++
	s.Tries += int64(len(m.Recipients))
	s.Schedules[m.Schedule]++
	minute.Messages++
	if m.Legitimate {
		s.Legitimate++
		s.LegitimateT += int64(len(m.Recipients))
		minute.Legitimate++
	}
	if m.Sender == "" {
		s.NullSenders++
	}
}

// senderDomain is the part after the last '@', "" for the null sender.
func senderDomain(sender string) string { return sender[strings.LastIndexByte(sender, '@')+1:] }

func popularity[K comparable](counts map[K]int64, name func(K) string) Popularity {
	p := Popularity{Distinct: int64(len(counts))}
	// Names are made only of those that may be among the first.
	order := make([]int64, 0, len(counts))
	for _, n := range counts {
		p.Total += n
		order = append(order, n)
	}
	slices.Sort(order)
	least := int64(0)
	if len(order) > mostPopular {
		least = order[len(order)-mostPopular]
	}
	for k, n := range counts {
		if n >= least {
			p.Top = append(p.Top, Appearances{name(k), n})
		}
	}
	slices.SortFunc(p.Top, func(a, b Appearances) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	p.Top = slices.Clip(p.Top[:min(mostPopular, len(p.Top))])
	return p
}

// Has says whether an account has the address.
func (p Population) Has(address string) bool {
	local, domain, _ := strings.Cut(address, "@")
	if domain != p.Domain {
		return false
	}
	number := local[len(strings.TrimRight(local, "0123456789")):]
	i, err := strconv.Atoi(number)
	return err == nil && i < p.Accounts && p.Address(i) == address
}
