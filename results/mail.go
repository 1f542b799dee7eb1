package results

import (
	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/workload"
)

// Mail counts messages, each once in a column, by what the database did to them.
type Mail struct {
	Deferred     int64 `json:"deferred"`     // a recipient was put off, or left in the queue
	Ungreylisted int64 `json:"ungreylisted"` // a recipient was let through without being greylisted
	Misrouted    int64 `json:"misrouted"`    // an answer of routing was wrong
	LostAtMost   int64 `json:"lost_at_most"` // a recipient was put off and not seen again
}

func (m *Mail) of(metric Metric) *int64 {
	switch metric {
	case MetricDeferred:
		return &m.Deferred
	case MetricUngreylisted:
		return &m.Ungreylisted
	case MetricMisrouted:
		return &m.Misrouted
	default:
		return &m.LostAtMost
	}
}

// MailResult is what became of the messages.
type MailResult struct {
	Messages int64 `json:"messages"` // of which an op is recorded
	Mail
}

// flow counts events, and bad ones, of a second.
type flow struct{ total, bad uint32 }

// messages is a set of numbers of messages, a bit each.
type messages struct {
	words map[uint64]*[64]uint64 // by number / 4096
}

// add says whether the number is new.
func (m *messages) add(number uint64) bool {
	if m.words == nil {
		m.words = map[uint64]*[64]uint64{}
	}
	block := m.words[number/4096]
	if block == nil {
		block = new([64]uint64)
		m.words[number/4096] = block
	}
	word, bit := &block[number%4096/64], uint64(1)<<(number%64)
	isNew := *word&bit == 0
	*word |= bit
	return isNew
}

// mail follows messages through their ops.
type mail struct {
	accepts []bool // by client: it lets through what it cannot greylist
	seen    messages
	hurt    map[Metric]*messages
	counts  MailResult
	flows   map[Metric]*sparse[flow] // by second
	waiting map[recipient]putOff     // for their next try
}

type recipient struct {
	message uint64
	number  uint16
}

type putOff struct {
	try    uint16
	charge int32 // index of the fault, or of the background
	second int64
}

func newMail(clients []Client) *mail {
	m := &mail{hurt: map[Metric]*messages{}, flows: map[Metric]*sparse[flow]{}, waiting: map[recipient]putOff{}}
	for _, c := range clients {
		m.accepts = append(m.accepts, c.GreylistFallback == "accept")
	}
	for _, metric := range Metrics {
		m.hurt[metric], m.flows[metric] = new(messages), new(sparse[flow])
	}
	return m
}

// add takes an op that ended in a second, and is charged to c, the fault of an
// index.
func (m *mail) add(s *workload.Sample, second int64, c *faultCounts, index int) {
	if s.Operation != reference.Route && s.Operation != reference.CheckGreylist && s.Operation != reference.RouteDelivery {
		return
	}
	if m.seen.add(s.Message) {
		m.counts.Messages++
		for _, f := range m.flows {
			f.at(second).total++
		}
	}
	r := recipient{s.Message, s.Recipient}
	if before, waits := m.waiting[r]; waits && s.Try > before.try {
		delete(m.waiting, r) // it has come back
	}
	switch m.harm(s) {
	case MetricDeferred:
		m.hit(MetricDeferred, s.Message, second, c)
		if s.Operation != reference.RouteDelivery { // what is in our queue is ours to deliver
			m.waiting[r] = putOff{s.Try, int32(index), second}
		}
	case MetricUngreylisted:
		m.hit(MetricUngreylisted, s.Message, second, c)
	case MetricMisrouted:
		m.hit(MetricMisrouted, s.Message, second, c)
	}
}

// harm is what an op did to its message; "" for nothing.
func (m *mail) harm(s *workload.Sample) Metric {
	switch {
	case wrong(s):
		return MetricMisrouted
	case s.Outcome == workload.OK || s.Outcome == workload.Retried:
		return ""
	case s.Operation == reference.CheckGreylist && (s.Outcome == workload.Degraded ||
		s.Outcome == workload.Unknown && int(s.Client) < len(m.accepts) && m.accepts[s.Client]):
		return MetricUngreylisted
	default:
		return MetricDeferred
	}
}

func (m *mail) hit(metric Metric, message uint64, second int64, c *faultCounts) {
	if m.hurt[metric].add(message) {
		*m.counts.of(metric)++
		*c.mail.of(metric)++
		m.flows[metric].at(second).bad++
	}
}

// finish counts those that still wait for their next try, each message for its
// first recipient.
func (m *mail) finish(charges []*faultCounts) {
	first := map[uint64]uint16{}
	for r := range m.waiting {
		if number, known := first[r.message]; !known || r.number < number {
			first[r.message] = r.number
		}
	}
	for message, number := range first {
		w := m.waiting[recipient{message, number}]
		m.hit(MetricLost, message, w.second, charges[w.charge])
	}
}
