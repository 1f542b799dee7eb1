package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
)

// Settings is what a fault has besides its nodes and times. Each kind has some
// of them; the others must be zero, which means "not set".
type Settings struct {
	// Peers are the other side of a partition: targets in a Spec, names of hosts
	// in a plan.
	Peers     []string            `json:"peers,omitempty"`
	Direction reference.Direction `json:"direction,omitempty"` // of the packets that are dropped, seen from the fault's hosts
	Clients   []string            `json:"clients,omitempty"`   // whose connections are meant, none for all
	Delay     time.Duration       `json:"-"`                   // delay_us: added to each round trip
	LossPPM   int                 `json:"loss_ppm,omitempty"`  // packets that are dropped, in millionths

	BitsPerSecond  int64 `json:"bits_per_s,omitempty"`
	BytesPerSecond int64 `json:"bytes_per_s,omitempty"`
	MilliCPUs      int   `json:"milli_cpus,omitempty"` // thousandths of a processor
	MemoryBytes    int64 `json:"memory_bytes,omitempty"`
	LeaveBytes     int64 `json:"leave_bytes,omitempty"`

	Connections int    `json:"connections,omitempty"`
	Rows        int    `json:"rows,omitempty"`
	Table       string `json:"table,omitempty"` // DATABASE.TABLE
	Phase       int    `json:"phase,omitempty"` // a start phase of a data node

	// Programs with their arguments, run by no shell.
	Inject    []string      `json:"inject,omitempty"`
	Recover   []string      `json:"recover,omitempty"`
	Effect    []string      `json:"effect,omitempty"`
	Redundant []string      `json:"redundant,omitempty"`
	Limit     time.Duration `json:"-"` // limit_us: how long each may run
}

type (
	plainSettings Settings
	// settingsLine is Settings as journals have it: times in whole microseconds.
	settingsLine struct {
		plainSettings
		DelayUS int64 `json:"delay_us,omitempty"`
		LimitUS int64 `json:"limit_us,omitempty"`
	}
)

// MarshalJSON writes what is set.
func (s Settings) MarshalJSON() ([]byte, error) {
	return json.Marshal(settingsLine{plainSettings(s), s.Delay.Microseconds(), s.Limit.Microseconds()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Settings) UnmarshalJSON(data []byte) error {
	var l settingsLine
	if err := json.Unmarshal(data, &l); err != nil {
		return err
	}
	*s = Settings(l.plainSettings)
	s.Delay, s.Limit = time.Duration(l.DelayUS)*time.Microsecond, time.Duration(l.LimitUS)*time.Microsecond
	return nil
}

// Setting describes one field of Settings for one kind.
type Setting struct {
	Name     string // in lower case, as SpecError has it
	Doc      string // what it means
	Range    string // what it may be, with its unit
	Required bool
	Default  string // what it is when it is not set and not required, in words

	isSet   func(s Settings) bool
	wrong   func(s Settings) bool // is set and out of range
	resolve func(s *Settings)     // writes the default, nil where it is the zero value
}

// required turns a setting into one that must be set.
func (s Setting) required() Setting {
	s.Required, s.Default, s.resolve = true, "", nil
	return s
}

// orNothing says in words what it means that a setting is not set.
func (s Setting) orNothing(words string) Setting {
	s.Default = words
	return s
}

// number is a setting with a range, and a fallback that is 0 for none.
func number[T int | int64](name, doc, unit string, least, most, fallback T, field func(*Settings) *T) Setting {
	s := Setting{
		Name: name, Doc: doc, Range: strings.TrimSpace(fmt.Sprintf("%d to %d %s", least, most, unit)),
		isSet: func(s Settings) bool { return *field(&s) != 0 },
		wrong: func(s Settings) bool { return *field(&s) < least || *field(&s) > most },
	}
	if fallback != 0 {
		s.Default = fmt.Sprint(fallback)
		s.resolve = func(s *Settings) { *field(s) = fallback }
	}
	return s
}

func settingDelay() Setting {
	const least, most = time.Millisecond, time.Minute
	return Setting{
		Name: "delay", Doc: "what each round trip takes longer", Range: fmt.Sprintf("%s to %s", least, most), Required: true,
		isSet: func(s Settings) bool { return s.Delay != 0 },
		wrong: func(s Settings) bool { return s.Delay < least || s.Delay > most },
	}
}

func settingPeers() Setting {
	return Setting{
		Name: "peers", Doc: "the other side, as targets", Range: "1 to 48 targets",
		isSet: func(s Settings) bool { return len(s.Peers) > 0 },
		wrong: func(s Settings) bool { return len(s.Peers) > 48 },
	}
}

func settingClients() Setting {
	return Setting{
		Name: "clients", Doc: "the clients whose connections are meant", Range: "up to 1000 names", Default: "all clients",
		isSet: func(s Settings) bool { return len(s.Clients) > 0 },
		wrong: func(s Settings) bool { return len(s.Clients) > 1000 || slices.Contains(s.Clients, "") },
	}
}

func settingDirection() Setting {
	return Setting{
		Name: "direction", Doc: "which packets are dropped, seen from the fault's hosts", Range: `"both", "in" or "out"`, Default: string(reference.Both),
		isSet: func(s Settings) bool { return s.Direction != "" },
		wrong: func(s Settings) bool {
			return !slices.Contains([]reference.Direction{reference.Both, reference.Incoming, reference.Outgoing}, s.Direction)
		},
		resolve: func(s *Settings) { s.Direction = reference.Both },
	}
}

// allSettings is every setting that some kind has, by its name.
func allSettings() []Setting {
	var all []Setting
	for _, d := range Catalogue() {
		for _, s := range d.Settings {
			if !slices.ContainsFunc(all, func(o Setting) bool { return o.Name == s.Name }) {
				all = append(all, s)
			}
		}
	}
	return all
}

// Defaults returns settings of a kind with those filled in that are not set and
// have a default. What no kind of the catalogue is has none.
func (k Kind) Defaults(s Settings) Settings {
	d, err := describe(k)
	if err != nil {
		return s
	}
	return d.filled(s)
}

func (d Description) filled(s Settings) Settings {
	for _, own := range d.Settings {
		if !own.isSet(s) && own.resolve != nil {
			own.resolve(&s)
		}
	}
	return s
}

// resolved checks that exactly the kind's settings are set, and in range, and
// fills in the defaults.
func (s Settings) resolved(d Description, wrong func(field, format string, args ...any)) Settings {
	var names []string
	for _, own := range d.Settings {
		names = append(names, own.Name)
		switch {
		case !own.isSet(s) && own.Required:
			wrong(own.Name, "is not set, but %s needs it: %s, %s", d.Kind, own.Doc, own.Range)
		case own.isSet(s) && own.wrong(s):
			wrong(own.Name, "is out of range, must be %s", own.Range)
		}
	}
	for _, other := range allSettings() {
		if !other.isSet(s) || slices.Contains(names, other.Name) {
			continue
		}
		has := "no settings"
		if len(names) > 0 {
			has = "only " + strings.Join(names, ", ")
		}
		wrong(other.Name, "is set, but %s has %s", d.Kind, has)
	}
	return d.filled(s)
}

// String writes what is set for people, "" for nothing.
func (s Settings) String() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if len(s.Peers) > 0 {
		add("peers %s", strings.Join(s.Peers, ", "))
	}
	if s.Direction != "" {
		add("direction %s", s.Direction)
	}
	if len(s.Clients) > 0 {
		add("clients %s", strings.Join(s.Clients, ", "))
	}
	if s.Delay != 0 {
		add("delay %s", s.Delay)
	}
	for _, n := range []struct {
		value int64
		words string
	}{
		{int64(s.LossPPM), "millionths of the packets lost"}, {s.BitsPerSecond, "bit/s"}, {s.BytesPerSecond, "bytes/s written"},
		{int64(s.MilliCPUs), "thousandths of a processor"}, {s.MemoryBytes, "bytes of memory held"}, {s.LeaveBytes, "bytes left free"},
		{int64(s.Connections), "connections"}, {int64(s.Rows), "rows"},
	} {
		if n.value != 0 {
			add("%d %s", n.value, n.words)
		}
	}
	if s.Table != "" {
		add("table %s", s.Table)
	}
	if s.Phase != 0 {
		add("start phase %d", s.Phase)
	}
	for _, c := range s.commands() {
		add("%s %s", c.name, quoted(c.argv))
	}
	if s.Limit != 0 {
		add("at most %s each", s.Limit)
	}
	return strings.Join(parts, ", ")
}
