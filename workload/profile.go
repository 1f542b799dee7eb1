package workload

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailbench/mailbench/workload/strictyaml"
)

// Profile is a day model and the peers that go with it.
type Profile struct {
	Name  string // a-z, 0-9, '.' and '-'
	Model Model
	Peers Peers
}

//go:embed profiles/*.yaml
var profileFiles embed.FS

// Default profile of scenarios.
const DefaultProfile = "berkeley-2008"

// builtinProfiles reads the embedded files once.
var builtinProfiles = sync.OnceValues(func() (map[string]Profile, error) {
	profiles := map[string]Profile{}
	for _, name := range ProfileNames() {
		path := "profiles/" + name + ".yaml"
		data, err := profileFiles.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p, err := ParseProfile(path, data)
		if err != nil {
			return nil, err
		}
		profiles[name] = *p
	}
	return profiles, nil
})

// ProfileNames are the names of the built-in profiles, in alphabetic order.
func ProfileNames() []string {
	files, _ := fs.Glob(profileFiles, "profiles/*.yaml") // the pattern is well formed
	for i, f := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(f, "profiles/"), ".yaml")
	}
	return files
}

// BuiltinProfile returns the profile of a name. Its slices are the caller's.
func BuiltinProfile(name string) (Profile, error) {
	all, err := builtinProfiles()
	if err != nil {
		return Profile{}, err
	}
	p, ok := all[name]
	if !ok {
		return Profile{}, fmt.Errorf("workload: %s", strictyaml.UnknownName("profile", name, ProfileNames()))
	}
	p.Model.LegitimateRecipients = slices.Clone(p.Model.LegitimateRecipients)
	p.Model.SpamRecipients = slices.Clone(p.Model.SpamRecipients)
	p.Peers.Providers = slices.Clone(p.Peers.Providers)
	p.Peers.Schedules = slices.Clone(p.Peers.Schedules)
	return p, nil
}

// BuiltinProfileText is the YAML of the profile of a name, with its comments.
func BuiltinProfileText(name string) ([]byte, error) {
	if _, err := BuiltinProfile(name); err != nil {
		return nil, err
	}
	return profileFiles.ReadFile("profiles/" + name + ".yaml")
}

// berkeley2008 is the default. A test holds the embedded file right; were it
// not, every use of the empty profile would be refused by its Validate.
func berkeley2008() Profile {
	p, _ := BuiltinProfile(DefaultProfile)
	return p
}

// ParseProfile reads a profile: YAML with every field of docs/workload.md, at
// most 1 MiB. The name stands in errors. What it returns is valid; otherwise the
// error joins a *strictyaml.InputError for each mistake.
func ParseProfile(name string, data []byte) (*Profile, error) {
	root, mistake := strictyaml.ParseTree("profile", name, data, true)
	if mistake != nil {
		return nil, mistake
	}
	if root.Kind == strictyaml.NullKind {
		root = &strictyaml.Node{Kind: strictyaml.MappingKind, At: root.At} // an empty file lacks what is required, no more
	}
	p := &Profile{Peers: Peers{Schedules: make([]int64, len(schedules))}}
	var hours []int64
	d := strictyaml.NewDecoder("profile")
	d.Read(p.fields(&hours), "", root)
	p.check(d, hours)
	if err := d.Err(); err != nil {
		return nil, err
	}
	for _, v := range []interface{ Validate() error }{p.Model, p.Peers} {
		if err := v.Validate(); err != nil { // what no field's range and no check above sees
			d.Reject("", "%v", err)
		}
	}
	return p, d.Err()
}

// YAML writes a profile without comments. Parsing it gives the same profile.
func (p *Profile) YAML() []byte {
	hours := p.Model.LegitimateByHour[:]
	var b strings.Builder
	p.fields(&hours).Write().Print(&b, "")
	return []byte(b.String())
}

// fields is the one table of what a profile says.
func (p *Profile) fields(hours *[]int64) strictyaml.Object {
	m, peers := &p.Model, &p.Peers
	weekdays, programs := strictyaml.Object{}, strictyaml.Object{}
	for i := range 7 { // Monday first, as a week is read
		w := (i + 1) % 7
		weekdays = append(weekdays, required(weekdayName(time.Weekday(w)), factor(&m.LegitimateByWeekday[w], 0, 10_000)))
	}
	for i, s := range schedules {
		programs = append(programs, strictyaml.Field{Key: s.Name, Value: strictyaml.Percentage(&peers.Schedules[i], 0)})
	}
	return strictyaml.Object{
		required("name", strictyaml.Text(&p.Name, "a name of a-z, 0-9, '.' and '-', at most 63 characters", validProfileName)),
		required("weekday", weekday(&m.Weekday)),
		required("messages_per_day", strictyaml.Integer(&m.MessagesPerDay, 1, 1_000_000_000)),
		required("blocked", strictyaml.Percentage(&m.BlockedPPM, 0)),
		required("spam", strictyaml.Percentage(&m.SpamPPM, 0)),
		required("unknown", strictyaml.Percentage(&m.UnknownPPM, 0)),
		required("hours", strictyaml.List[int64]{P: hours, Least: 24, Most: 24, What: "hours, in thousandths", Fresh: zero[int64],
			Entry: func(n *int64) strictyaml.Value { return strictyaml.Integer(n, 0, 1000) }}),
		required("weekdays", weekdays),
		required("bursts", strictyaml.Object{
			required("per_day", strictyaml.Integer(&m.Bursts, 0, 24)),
			required("size", factor(&m.BurstPerMille, 1000, 20_000)),
		}),
		required("recipients", strictyaml.Object{
			required("legitimate", shares(&m.LegitimateRecipients)),
			required("spam", shares(&m.SpamRecipients)),
			required("popularity_offset", strictyaml.Integer(&m.PopularityOffset, 0, million)),
		}),
		required("regular", strictyaml.Percentage(&m.RegularPPM, 0)),
		required("peers", strictyaml.Object{
			required("domains", strictyaml.Integer(&peers.Domains, 1, million)),
			required("senders", strictyaml.Integer(&peers.Senders, 1, million)),
			required("popularity_offset", strictyaml.Integer(&peers.PopularityOffset, 0, million)),
			required("providers", strictyaml.List[string]{P: &peers.Providers, Least: 0, Most: 100, What: "schedules", Fresh: zero[string],
				Entry: func(name *string) strictyaml.Value { return strictyaml.OneOf(name, scheduleNames()...) }}),
			required("schedules", programs),
			required("strangers", strictyaml.Percentage(&peers.StrangersPPM, 0)),
			required("ipv6", strictyaml.Percentage(&peers.IPv6PPM, 0)),
			required("bots", strictyaml.Integer(&peers.Bots, 1, 100*million)),
			required("retrying_bots", strictyaml.Percentage(&peers.RetryingBotsPPM, 0)),
		}),
		required("webmail", strictyaml.Object{
			required("logins_per_1000_accounts", strictyaml.Integer(&m.LoginsPerMille, 0, million)),
			required("saving", strictyaml.Percentage(&m.SavingPPM, 0)),
			required("keys_per_save", strictyaml.Integer(&m.KeysPerSave, 1, int64(len(options)))),
		}),
		required("accounts", strictyaml.Object{
			required("jobs_per_day", strictyaml.Integer(&m.JobsPerDay, 0, million)),
			required("new", strictyaml.Percentage(&m.NewAccountPPM, 0)),
			required("moves", strictyaml.Percentage(&m.MovePPM, 0)),
		}),
	}
}

// check holds the fields against each other, and puts the hours in their place.
func (p *Profile) check(d *strictyaml.Decoder, hours []int64) {
	m := &p.Model
	sum := func(path string, shares []int64, want int64, form func(int64) string) {
		if _, written := d.Written[path]; !written || !d.Good(path) {
			return
		}
		var total int64
		for _, s := range shares {
			total += s
		}
		if total != want {
			d.Reject(path, "must sum to %s, not %s", form(want), form(total))
		}
	}
	plain := func(n int64) string { return fmt.Sprint(n) }
	percent := func(ppm int64) string { return strictyaml.FormatDecimal(ppm, 4) + "%" }
	sum("hours", hours, 1000, plain)
	if d.Good("hours") {
		copy(m.LegitimateByHour[:], hours)
	}
	sum("recipients.legitimate", m.LegitimateRecipients, million, percent)
	sum("recipients.spam", m.SpamRecipients, million, percent)
	sum("peers.schedules", p.Peers.Schedules, million, percent)
	if d.Good("accounts") && m.NewAccountPPM+m.MovePPM > million {
		d.Reject("accounts.moves", "must be at most %s, what accounts.new leaves, not %s", percent(million-m.NewAccountPPM), percent(m.MovePPM))
	}
	if d.Good("blocked") && m.BlockedPPM == million {
		d.Reject("blocked", "must be below 100%%, or nothing is left")
	}
	if d.Good("peers.domains", "peers.providers") && len(p.Peers.Providers) > p.Peers.Domains {
		d.Reject("peers.providers", "must hold at most the %d of peers.domains, not %d", p.Peers.Domains, len(p.Peers.Providers))
	}
	if d.Good("bursts", "messages_per_day", "spam", "hours", "weekday", "weekdays") {
		if n := int64(len(m.hoursForBursts())); m.Bursts > n {
			d.Reject("bursts.per_day", "must be at most %d, the hours that have twice the %d messages of a burst, not %d", n, m.burst(), m.Bursts)
		}
	}
}

func required(key string, v strictyaml.Value) strictyaml.Field {
	return strictyaml.Field{Key: key, Value: v, Required: true}
}

func zero[T any]() (z T) { return z }

func shares(p *[]int64) strictyaml.Value {
	return strictyaml.List[int64]{P: p, Least: 1, Most: 100, What: "shares", Fresh: zero[int64],
		Entry: func(ppm *int64) strictyaml.Value { return strictyaml.Percentage(ppm, 0) }}
}

// factor is a decimal number in thousandths.
func factor(p *int64, least, most int64) strictyaml.Value {
	return strictyaml.Scalar{
		What: fmt.Sprintf("a number from %s to %s with at most three decimals", strictyaml.FormatDecimal(least, 3), strictyaml.FormatDecimal(most, 3)),
		Parse: func(n *strictyaml.Node) bool {
			v, ok := strictyaml.ParseDecimal(n.Text, 3)
			if !ok || n.Kind != strictyaml.NumberKind || v < least || v > most {
				return false
			}
			*p = v
			return true
		},
		Form: func() *strictyaml.Node { return strictyaml.PlainNode(strictyaml.FormatDecimal(*p, 3)) },
	}
}

func weekdayName(d time.Weekday) string { return strings.ToLower(d.String()) }

func weekday(p *time.Weekday) strictyaml.Value {
	var names []string
	for d := time.Sunday; d <= time.Saturday; d++ {
		names = append(names, weekdayName(d))
	}
	return strictyaml.Scalar{
		What: "a day of the week such as monday",
		Parse: func(n *strictyaml.Node) bool {
			i := slices.Index(names, n.Text)
			if n.Kind != strictyaml.TextKind || i < 0 {
				return false
			}
			*p = time.Weekday(i)
			return true
		},
		Form: func() *strictyaml.Node { return strictyaml.TextNode(weekdayName(*p)) },
	}
}

func validProfileName(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}
