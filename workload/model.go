package workload

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Model is how much mail comes when, and what it is like: integers only.
// Shares are in millionths (ppm), factors in thousandths. A [Profile] says where
// its numbers are from.
type Model struct {
	// MessagesPerDay is how many messages peers offer on a day on which
	// LegitimateByWeekday is 1000, after the DNS blocklist has turned its share
	// away; 1 to 1,000,000,000.
	MessagesPerDay int64
	// BlockedPPM is the share of everything offered that the blocklist turns away.
	// It raises no question, and so is only counted: see Offered. Below 1,000,000.
	BlockedPPM int64
	// SpamPPM is the share of spam among MessagesPerDay. Spam comes evenly all
	// day, and all week.
	SpamPPM int64
	// Weekday is which day it is, LegitimateByWeekday how much legitimate mail
	// comes on each (Sunday first), in thousandths; 0 to 10,000.
	Weekday             time.Weekday
	LegitimateByWeekday [7]int64
	// LegitimateByHour is which share of a day's legitimate mail, and of its
	// webmail logins, comes in each hour, in thousandths; the sum is 1000.
	// Within an hour each minute is alike.
	LegitimateByHour [24]int64
	// Bursts is in how many minutes of the day BurstPerMille thousandths of the
	// mean minute's messages come; the rest of their hours gives them. At most one
	// in each of the hours that have twice as many; 1000 to 20,000.
	Bursts, BurstPerMille int64
	// LegitimateRecipients and SpamRecipients are the shares of messages with
	// 1, 2, 3 ... recipients, at most 100; the sum of each is 1,000,000.
	LegitimateRecipients []int64
	SpamRecipients       []int64
	// UnknownPPM is the share of spam's recipients that nobody has: addresses
	// guessed by a dictionary attack.
	UnknownPPM int64
	// RegularPPM is the share of legitimate mail that comes from a regular
	// correspondent of its first recipient.
	RegularPPM int64
	// PopularityOffset flattens the popularity of recipients: account i gets
	// mail in proportion to 1/(i+1+PopularityOffset). 0 to 1,000,000.
	PopularityOffset int64
	// LoginsPerMille is the number of webmail logins a day for every thousand
	// accounts, 0 to 1,000,000.
	LoginsPerMille int64
	// SavingPPM is the share of logins that save an options form.
	SavingPPM int64
	// KeysPerSave is how many preferences a form saves, 1 to 16.
	KeysPerSave int64
	// JobsPerDay is how many jobs the staff does on accounts in a day, 0 to
	// 1,000,000: see Job. They come as logins do. NewAccountPPM and MovePPM are
	// the shares of two kinds; the rest are forwards.
	JobsPerDay, NewAccountPPM, MovePPM int64
}

// Berkeley2008 is the day of a university of that size and time, as in the
// profile of that name: 4,000,000 messages (46.3/s), of which the hour from 11
// to 12 gets 2.2 times an hour's mean (101.9/s).
//
// That factor comes out of two numbers. An hour's mean is 1/24 of the day.
// Spam, 0.4 of the day, is flat: its hour is 0.4/24. Legitimate mail, 0.6 of
// the day, has 0.125 of itself in the busiest hour: 0.6 * 0.125 * 24 = 1.8
// hours' means. 0.4 + 1.8 = 2.2.
func Berkeley2008() Model { return berkeley2008().Model }

// Validate names the field that is out of its range.
func (m Model) Validate() error {
	if m.MessagesPerDay < 1 || m.MessagesPerDay > 1_000_000_000 {
		return fmt.Errorf("model: MessagesPerDay is %d, must be 1 to 1,000,000,000", m.MessagesPerDay)
	}
	for _, share := range []struct {
		field string
		ppm   int64
	}{{"SpamPPM", m.SpamPPM}, {"UnknownPPM", m.UnknownPPM}, {"RegularPPM", m.RegularPPM}, {"SavingPPM", m.SavingPPM},
		{"NewAccountPPM", m.NewAccountPPM}, {"MovePPM", m.MovePPM}, {"BlockedPPM", m.BlockedPPM}} {
		if share.ppm < 0 || share.ppm > million {
			return fmt.Errorf("model: %s is %d, must be 0 to 1,000,000 millionths", share.field, share.ppm)
		}
	}
	if m.NewAccountPPM+m.MovePPM > million {
		return fmt.Errorf("model: NewAccountPPM and MovePPM are %d together, must be at most 1,000,000 millionths", m.NewAccountPPM+m.MovePPM)
	}
	for i, f := range m.LegitimateByWeekday {
		if f < 0 || f > 10_000 {
			return fmt.Errorf("model: LegitimateByWeekday[%d] is %d, must be 0 to 10,000 thousandths", i, f)
		}
	}
	if err := validShares("model: LegitimateByHour", m.LegitimateByHour[:], 1000); err != nil {
		return err
	}
	if err := validShares("model: LegitimateRecipients", m.LegitimateRecipients, million); err != nil {
		return err
	}
	if err := validShares("model: SpamRecipients", m.SpamRecipients, million); err != nil {
		return err
	}
	switch {
	case m.BlockedPPM == million:
		return errors.New("model: BlockedPPM is 1,000,000 millionths, must be less: nothing would be left")
	case m.Weekday < time.Sunday || m.Weekday > time.Saturday:
		return fmt.Errorf("model: Weekday is %d, must be 0 (Sunday) to 6", m.Weekday)
	case m.BurstPerMille < 1000 || m.BurstPerMille > 20_000:
		return fmt.Errorf("model: BurstPerMille is %d, must be 1000 to 20,000", m.BurstPerMille)
	case m.Bursts < 0 || m.Bursts > int64(len(m.hoursForBursts())):
		return fmt.Errorf("model: Bursts is %d, must be 0 to the %d hours that have twice the %d messages of a burst", m.Bursts, len(m.hoursForBursts()), m.burst())
	case m.PopularityOffset < 0 || m.PopularityOffset > 1_000_000:
		return fmt.Errorf("model: PopularityOffset is %d, must be 0 to 1,000,000", m.PopularityOffset)
	case m.LoginsPerMille < 0 || m.LoginsPerMille > 1_000_000:
		return fmt.Errorf("model: LoginsPerMille is %d, must be 0 to 1,000,000", m.LoginsPerMille)
	case m.JobsPerDay < 0 || m.JobsPerDay > 1_000_000:
		return fmt.Errorf("model: JobsPerDay is %d, must be 0 to 1,000,000", m.JobsPerDay)
	case m.KeysPerSave < 1 || m.KeysPerSave > int64(len(options)):
		return fmt.Errorf("model: KeysPerSave is %d, must be 1 to %d", m.KeysPerSave, len(options))
	}
	return nil
}

func validShares(field string, shares []int64, want int64) error {
	if len(shares) < 1 || len(shares) > 100 { // an SMTP server must take 100 recipients (RFC 5321, 4.5.3.1.8)
		return fmt.Errorf("%s has %d shares, must have 1 to 100", field, len(shares))
	}
	var sum int64
	for i, s := range shares {
		if s < 0 || s > want {
			return fmt.Errorf("%s[%d] is %d, must be 0 to %d", field, i, s, want)
		}
		sum += s
	}
	if sum != want {
		return fmt.Errorf("%s sums to %d, must be %d", field, sum, want)
	}
	return nil
}

// BusiestHour is the hour of the day, from 0, in which most messages come, and
// how many those are.
func (m Model) BusiestHour() (hour int, messages int64) {
	for h := range 24 {
		if n := m.messagesBefore((h+1)*60) - m.messagesBefore(h*60); n > messages {
			hour, messages = h, n
		}
	}
	return hour, messages
}

const minutesPerDay = 24 * 60

// messagesBefore is how many messages of the day come before a minute begins,
// 0 to minutesPerDay.
func (m Model) messagesBefore(minute int) int64 {
	return m.legitimateBefore(minute) + m.spamBefore(minute)
}

func (m Model) spamBefore(minute int) int64 { return m.spam() * int64(minute) / minutesPerDay }

func (m Model) legitimateBefore(minute int) int64 { return m.onCurve(m.legitimate(), minute) }

func (m Model) legitimate() int64 {
	return (m.MessagesPerDay - m.spam()) * m.LegitimateByWeekday[m.Weekday] / 1000
}

// DayMessages is how many messages come on the day that the model is of.
func (m Model) DayMessages() int64 { return m.legitimate() + m.spam() }

// Offered is how many messages are offered on that day before the blocklist
// turns its share away.
func (m Model) Offered() int64 { return m.DayMessages() * million / (million - m.BlockedPPM) }

// burst is how many messages come in the minute of a burst.
func (m Model) burst() int64 { return m.MessagesPerDay * m.BurstPerMille / (1000 * minutesPerDay) }

// hoursForBursts are those that keep half of their messages.
func (m Model) hoursForBursts() (hours []int) {
	for h := range 24 {
		if m.messagesBefore((h+1)*60)-m.messagesBefore(h*60) >= 2*m.burst() {
			hours = append(hours, h)
		}
	}
	return hours
}

// burstMinutes are the minutes with a burst, in order: each in an hour of its
// own.
func (m Model) burstMinutes(seed uint64) (minutes []int) {
	if m.burst() == 0 {
		return nil // of less than one message
	}
	d := newDraws(seed, streamBurst, 0)
	hours := m.hoursForBursts()
	for i := range int(m.Bursts) { // the first steps of a Fisher-Yates shuffle
		j := i + d.below(len(hours)-i)
		hours[i], hours[j] = hours[j], hours[i]
		minutes = append(minutes, hours[i]*60+d.below(60))
	}
	slices.Sort(minutes)
	return minutes
}

// minutes are how many legitimate messages and spams come in each minute.
func (m Model) minutes(seed uint64) (legitimate, spam [minutesPerDay]int64) {
	for i := range minutesPerDay {
		legitimate[i] = m.legitimateBefore(i+1) - m.legitimateBefore(i)
		spam[i] = m.spamBefore(i+1) - m.spamBefore(i)
	}
	for _, at := range m.burstMinutes(seed) {
		begin := at / 60 * 60
		hour := func(counts *[minutesPerDay]int64) (sum int64) {
			for _, n := range counts[begin : begin+60] {
				sum += n
			}
			return sum
		}
		l, s := hour(&legitimate), hour(&spam)
		burst := m.burst() * l / (l + s) // of the hour's mix
		gather(legitimate[begin:begin+60], at-begin, burst, l)
		gather(spam[begin:begin+60], at-begin, m.burst()-burst, s)
	}
	return legitimate, spam
}

// gather puts burst of an hour's total into one minute and spreads the rest over
// the others.
func gather(minutes []int64, at int, burst, total int64) {
	rest, others := total-burst, int64(len(minutes)-1)
	for i, k := 0, int64(0); i < len(minutes); i++ {
		if i == at {
			minutes[i] = burst
			continue
		}
		minutes[i] = rest*(k+1)/others - rest*k/others
		k++
	}
}

func (m Model) loginsBefore(accounts, minute int) int64 {
	return m.onCurve(int64(accounts)*m.LoginsPerMille/1000, minute)
}

func (m Model) jobsBefore(minute int) int64 { return m.onCurve(m.JobsPerDay, minute) }

func (m Model) spam() int64 { return m.MessagesPerDay * m.SpamPPM / million }

// onCurve is how many of total a day have come before a minute. Rounding the
// sum, not each minute, makes the whole day come out exactly.
func (m Model) onCurve(total int64, minute int) int64 {
	var share int64 // in sixtieths of a thousandth
	for h := range minute / 60 {
		share += 60 * m.LegitimateByHour[h]
	}
	if rest := minute % 60; rest > 0 {
		share += int64(rest) * m.LegitimateByHour[minute/60]
	}
	return total * share / (60 * 1000)
}
