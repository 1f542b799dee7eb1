package workload

import "fmt"

// Model is how much mail comes when, and what it is like: integers only.
// Shares are in millionths (ppm).
type Model struct {
	// MessagesPerDay is how many messages peers offer in a day, after the DNS
	// blocklist has turned its share away; 1 to 1,000,000,000.
	MessagesPerDay int64
	// SpamPPM is the share of spam among them. Spam comes evenly all day.
	SpamPPM int64
	// LegitimateByHour is which share of a day's legitimate mail, and of its
	// webmail logins, comes in each hour, in thousandths; the sum is 1000.
	// Within an hour each minute is alike.
	LegitimateByHour [24]int64
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
	// 1,000,000: see Job. They come as logins do.
	JobsPerDay int64
}

// Berkeley2008 is the day of a university of that size and time: 4,000,000
// messages (46.3/s), of which the hour from 11 to 12 gets 2.2 times an hour's
// mean (101.9/s).
//
// That factor comes out of two numbers. An hour's mean is 1/24 of the day.
// Spam, 0.4 of the day, is flat: its hour is 0.4/24. Legitimate mail, 0.6 of
// the day, has 0.125 of itself in the busiest hour: 0.6 * 0.125 * 24 = 1.8
// hours' means. 0.4 + 1.8 = 2.2.
func Berkeley2008() Model {
	return Model{
		// "4 million messages per day": abstract of the talk, MySQL Conference
		// 2008. That these are what the blocklist leaves is assumed.
		MessagesPerDay: 4_000_000,
		// Assumed, for mail that a blocklist has let through. Between UC Davis
		// 2006, above 800,000 of 2 to 3 million a day (27 to 40 %), and UC
		// Irvine 2008, 11.8 of 97.5 million accepted (12 %). Without a
		// blocklist it was 72 % (Florida State University) to 85 % (Kaspersky,
		// 2009).
		SpamPPM: 400_000,
		// Assumed: no hour-by-hour table is public. The peak is fitted to a
		// busiest-to-mean ratio of 2.14 to 2.49 over a day (sharif.edu, MRTG,
		// November 2008); that only legitimate mail follows the day is what
		// Columbia University saw (February 2007).
		LegitimateByHour: [24]int64{
			12, 8, 6, 5, 5, 8, 15, 30, 55, 85, 115, 125,
			95, 90, 85, 75, 60, 40, 25, 20, 15, 12, 8, 6,
		},
		// Assumed numbers; Zipf-like with a heavier tail for spam (Gomes et
		// al., as summarised in Human-centric Computing 2020, table 1).
		LegitimateRecipients: []int64{850_000, 80_000, 30_000, 15_000, 10_000, 3_000, 3_000, 3_000, 3_000, 3_000},
		SpamRecipients:       []int64{700_000, 120_000, 60_000, 40_000, 30_000, 10_000, 10_000, 10_000, 10_000, 10_000},
		UnknownPPM:           300_000, // assumed: no university's number is public
		RegularPPM:           700_000, // assumed
		PopularityOffset:     100,     // assumed: the first of 70,000 accounts gets 0.15 % of mail
		LoginsPerMille:       1_500,   // assumed: no rate of webmail sessions is public
		SavingPPM:            50_000,  // assumed
		KeysPerSave:          10,      // assumed; SquirrelMail's forms send 10 to 40 REPLACE statements
		JobsPerDay:           200,     // assumed: one for every 350 accounts
	}
}

// Validate names the field that is out of its range.
func (m Model) Validate() error {
	if m.MessagesPerDay < 1 || m.MessagesPerDay > 1_000_000_000 {
		return fmt.Errorf("model: MessagesPerDay is %d, must be 1 to 1,000,000,000", m.MessagesPerDay)
	}
	for _, share := range []struct {
		field string
		ppm   int64
	}{{"SpamPPM", m.SpamPPM}, {"UnknownPPM", m.UnknownPPM}, {"RegularPPM", m.RegularPPM}, {"SavingPPM", m.SavingPPM}} {
		if share.ppm < 0 || share.ppm > million {
			return fmt.Errorf("model: %s is %d, must be 0 to 1,000,000 millionths", share.field, share.ppm)
		}
	}
	if err := validShares("LegitimateByHour", m.LegitimateByHour[:], 1000); err != nil {
		return err
	}
	if err := validShares("LegitimateRecipients", m.LegitimateRecipients, million); err != nil {
		return err
	}
	if err := validShares("SpamRecipients", m.SpamRecipients, million); err != nil {
		return err
	}
	switch {
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
		return fmt.Errorf("model: %s has %d shares, must have 1 to 100", field, len(shares))
	}
	var sum int64
	for i, s := range shares {
		if s < 0 || s > want {
			return fmt.Errorf("model: %s[%d] is %d, must be 0 to %d", field, i, s, want)
		}
		sum += s
	}
	if sum != want {
		return fmt.Errorf("model: %s sums to %d, must be %d", field, sum, want)
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
	return m.legitimateBefore(minute) + m.spam()*int64(minute)/minutesPerDay
}

func (m Model) legitimateBefore(minute int) int64 {
	return m.onCurve(m.MessagesPerDay-m.spam(), minute)
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
