package results

import (
	"math/bits"
	"time"
)

// alertRule is a multiwindow, multi-burn-rate alert of a window of 30 days: it
// fires while the share of bad events in both of its windows is more than factor
// times what the target allows (Google, The Site Reliability Workbook, chapter 5,
// table 5-8: 2 % of the budget in an hour, 5 % in six, 10 % in three days; the
// short window is a twelfth of the long one).
type alertRule struct {
	name, severity string
	long           int64 // seconds
	tenths         int64 // of the burn rate
}

var alertRules = [...]alertRule{
	{"fast burn", "page", 3600, 144},
	{"slow burn", "page", 6 * 3600, 60},
	{"creeping burn", "ticket", 3 * daySeconds, 10},
}

const shortWindows = 12 // in a long one

// Alert is what an alert on an objective's burn rate would have done.
type Alert struct {
	Name     string   `json:"name"`
	Severity string   `json:"severity"` // "page" or "ticket"
	LongS    int64    `json:"long_s"`   // length of the windows
	ShortS   int64    `json:"short_s"`
	BurnRate Decimal  `json:"burn_rate"` // above which it fires
	Fired    []Firing `json:"fired"`
}

// Firing is one time that an alert fired.
type Firing struct {
	AtUS    int64  `json:"at_us"`
	Fault   string `json:"fault"`    // the one injected last before it, "" for none
	AfterUS *int64 `json:"after_us"` // since its injection
	ResetUS int64  `json:"reset_us"` // when it ceased; may be after the recording's end
}

// mostFirings is how many an alert keeps.
const mostFirings = 100

// alerts simulates the alerts on an objective, once a second. What is outside of
// the recording is taken to have had events at its mean rate, all of them good: a
// recording of minutes has no hour before it.
func (j *judge) alerts(i int) []Alert {
	o := &j.objectives[i]
	alerts := []Alert{}
	if o.good+o.bad == 0 {
		return alerts
	}
	c := cumulate(&o.seconds)
	for _, rule := range alertRules {
		// A budget of other than 30 days scales the windows, and not the rates.
		long := (rule.long*o.windowDays() + defaultWindowDays - 1) / defaultWindowDays
		short := max(1, (long+shortWindows-1)/shortWindows)
		if short*million < o.SliceUS {
			continue // less than a slice says nothing
		}
		a := Alert{Name: rule.name, Severity: rule.severity, LongS: long, ShortS: short, BurnRate: Decimal(rule.tenths * million / 10), Fired: []Firing{}}
		for _, f := range c.firings(long, short, rule.tenths, o.TargetPPM) {
			if len(a.Fired) == mostFirings {
				break
			}
			a.Fired = append(a.Fired, j.firing(f[0], f[1]))
		}
		alerts = append(alerts, a)
	}
	return alerts
}

func (j *judge) firing(from, to int64) Firing {
	at := j.from() + time.Duration(from)*time.Second
	f := Firing{AtUS: at.Microseconds(), ResetUS: (j.from() + time.Duration(to)*time.Second).Microseconds()}
	if n := j.timeline.injectedBy(at); n > 0 {
		last := j.timeline.faults[j.timeline.order[n-1]]
		f.Fault, f.AfterUS = last.id, micros(at-*last.injected)
	}
	return f
}

// cumulated is how many events there were in the seconds before each.
type cumulated struct{ total, bad []int64 }

func cumulate(seconds *sparse[flow]) cumulated {
	c := cumulated{[]int64{0}, []int64{0}}
	for second, f := range seconds.all() {
		if f.total+f.bad == 0 {
			continue
		}
		last := len(c.total) - 1
		for ; int64(last) <= second; last++ {
			c.total, c.bad = append(c.total, c.total[last]), append(c.bad, c.bad[last])
		}
		c.total[last] += int64(f.total)
		c.bad[last] += int64(f.bad)
	}
	return c
}

// burns says whether more than tenths/10 times the allowed share of the events in
// a window of some seconds that ends before second to was bad.
func (c cumulated) burns(to, length, tenths, targetPPM int64) bool {
	n := int64(len(c.total)) - 1
	first, last := min(max(0, to-length), n), min(to, n)
	bad, total := c.bad[last]-c.bad[first], c.total[last]-c.total[first]
	outside := length - (last - first)
	// bad / (total + outside·all/n) > tenths/10 · (1-target), without fractions;
	// the products may have more than 64 bits.
	lessHigh, lessLow := bits.Mul64(uint64(n*total+outside*c.total[n]), uint64(tenths*(million-targetPPM)))
	high, low := bits.Mul64(uint64(n*bad), 10*million)
	return high > lessHigh || high == lessHigh && low > lessLow
}

// firings returns from which second until which both windows burn. The short one
// holds no bad event once its length has passed after the end.
func (c cumulated) firings(long, short, tenths, targetPPM int64) [][2]int64 {
	var all [][2]int64
	firing := false
	for to := int64(1); to <= int64(len(c.total))+short; to++ {
		burns := c.burns(to, short, tenths, targetPPM) && c.burns(to, long, tenths, targetPPM)
		switch {
		case burns && !firing:
			all = append(all, [2]int64{to, to})
		case !burns && firing:
			all[len(all)-1][1] = to
		}
		firing = burns
	}
	return all
}
