package maillog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailbench/mailbench/workload"
)

// Limits of an import.
const (
	MaxFiles       = 256
	MaxRetryWindow = 35 * 24 * time.Hour
	maxMessages    = noMessage - 1
)

// Options say how logs are read.
type Options struct {
	Format Format
	Zone   *time.Location // of dates that name none; nil is UTC
	// Year is that of the first line of each file, where dates name none. 0 takes
	// the latest in which that line is not younger than the file.
	Year int
	// RetryWindow is how long after a deferral the same triplet is a retry; 0 is
	// Postgrey's two days.
	RetryWindow time.Duration
	MostPending int      // deferred triplets that are remembered; 0 is 4,000,000
	OurDomains  []string // accepted mail for others goes out and is left out; none takes all
	// Pseudonyms replaces addresses; nil leaves them as they are.
	Pseudonyms *Pseudonyms
}

func (o *Options) complete() error {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.RetryWindow == 0 {
		o.RetryWindow = 48 * time.Hour
	}
	if o.MostPending == 0 {
		o.MostPending = maxPending
	}
	lower := make([]string, len(o.OurDomains))
	for i, d := range o.OurDomains {
		lower[i] = strings.ToLower(strings.Trim(d, "."))
		if lower[i] == "" || strings.ContainsAny(d, "@ ") {
			return fmt.Errorf("OurDomains: %q is no domain", d)
		}
	}
	o.OurDomains = lower
	switch {
	case int(o.Format) >= len(formatNames):
		return fmt.Errorf("format is %v, must be auto, postgrey, exim or postfix", o.Format)
	case o.Year != 0 && (o.Year < 1970 || o.Year > 2199):
		return fmt.Errorf("year is %d, must be from 1970 to 2199", o.Year)
	case o.RetryWindow < time.Minute || o.RetryWindow > MaxRetryWindow:
		return fmt.Errorf("retry window is %v, must be from 1m to %v", o.RetryWindow, MaxRetryWindow)
	case o.MostPending < 1000 || o.MostPending > 100_000_000:
		return fmt.Errorf("MostPending is %d, must be from 1,000 to 100,000,000", o.MostPending)
	}
	return nil
}

// Import is a set of logs. It serves one goroutine.
type Import struct {
	options Options
	sources []*source
	seed    maphash.Seed
	tally   tally
	folder  *folder
	counts  assemblyCounts
	// firstTries has a bit for each recipient that the messages of a pass have.
	firstTries bitList
	// programs are bits of Format: whose lines there are, known after a pass.
	programs uint8

	midnight    int64 // before the first message, in the zone
	first, last int64 // messages
	messages    int64
	recipients  int64
	scanned     bool
}

// Open opens logs, in any order: their lines are put in the order of time.
func Open(names []string, o Options) (*Import, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if len(names) == 0 || len(names) > MaxFiles {
		return nil, &InputError{Msg: fmt.Sprintf("%d logs are given, must be from 1 to %d", len(names), MaxFiles)}
	}
	i := &Import{options: o, seed: maphash.MakeSeed(), folder: newFolder(o)}
	i.tally.files = make([]fileTally, len(names))
	var failed []error
	for at, name := range names {
		s, err := newSource(name, at, o, i.seed, &i.tally)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if twin := slices.IndexFunc(i.sources, func(other *source) bool { return os.SameFile(other.lines.info, s.lines.info) }); twin >= 0 {
			failed = append(failed, &InputError{File: name, Msg: fmt.Sprintf("it is given twice, also as %s: each line would count twice", i.sources[twin].lines.name)})
		}
		i.sources = append(i.sources, s)
	}
	if len(failed) > 0 {
		_ = i.Close()
		return nil, errors.Join(failed...)
	}
	return i, nil
}

// Close closes the files.
func (i *Import) Close() error {
	var all []error
	for _, s := range i.sources {
		all = append(all, s.lines.close())
	}
	return errors.Join(all...)
}

// pass reads all files once and gives their messages to emit, in the order of
// time.
func (i *Import) pass(ctx context.Context, emit func(*open)) error {
	a := newAssembler(i.seed, emit)
	a.alone = i.scanned && bits.OnesCount8(i.programs) == 1
	heads := make([]*source, 0, len(i.sources))
	advance := func(s *source) (more bool, err error) {
		switch err := s.next(); {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		}
		return true, nil
	}
	for _, s := range i.sources {
		more, err := advance(s)
		if err != nil {
			return err
		}
		if more {
			heads = append(heads, s)
		}
	}
	// Where a second ends one file and begins the next, the file that began earlier
	// comes first, however they were given.
	slices.SortStableFunc(heads, func(a, b *source) int {
		return cmp.Or(cmp.Compare(a.entry.at, b.entry.at), a.lines.latest.Compare(b.lines.latest))
	})
	for n := 0; len(heads) > 0; n++ {
		if n&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		least := 0
		for at := 1; at < len(heads); at++ {
			if heads[at].entry.at < heads[least].entry.at {
				least = at
			}
		}
		s := heads[least]
		a.add(&s.entry, s.index)
		more, err := advance(s)
		if err != nil {
			return err
		}
		if !more {
			heads = append(heads[:least], heads[least+1:]...)
		}
	}
	a.flush()
	i.counts, i.programs = a.counts, a.programs
	return nil
}

// fold notes which recipients of a message were not tried before: the second
// pass takes these.
func (i *Import) fold(o *open, number uint32) (kept int64, mine fate) {
	network := networkOf(o.client)
	for _, r := range o.recipients {
		first := false
		if r.outcome == accepted && len(i.options.OurDomains) > 0 && !ourDomain(i.options.OurDomains, lowerASCII(string(domainOf(r.address)))) {
			i.folder.stats.outbound++
		} else {
			first = i.folder.try(identify(i.seed, network, o.from, r.hash), o.first, r, number, &mine)
		}
		i.firstTries.add(first)
		if first {
			kept++
		}
	}
	return kept, mine
}

// networkOf is what greylisting takes for one client: a /24, or a /64 of IPv6.
func networkOf(client netip.Addr) [16]byte {
	bits := 24
	if client.Is6() {
		bits = 64
	}
	network, _ := client.Prefix(bits) // an address of a log has no zone and that many bits
	return network.Addr().As16()
}

// bitList is a list of truths.
type bitList struct {
	words []uint64
	n     int
}

func (b *bitList) add(truth bool) {
	if b.n%64 == 0 {
		b.words = append(b.words, 0)
	}
	if truth {
		b.words[b.n/64] |= 1 << (b.n % 64)
	}
	b.n++
}

func (b *bitList) at(n int) bool { return b.words[n/64]>>(n%64)&1 != 0 }

// Scan reads the logs for the first time. An error is an *InputError if a log is
// to blame.
func (i *Import) Scan(ctx context.Context) (*Report, error) {
	began := time.Now()
	var tooMany error
	err := i.pass(ctx, func(o *open) {
		if len(i.folder.fates) >= maxMessages {
			tooMany = &InputError{Msg: fmt.Sprintf("there are more than %d messages; import fewer logs at a time", maxMessages)}
			return
		}
		kept, mine := i.fold(o, uint32(len(i.folder.fates)))
		if kept == 0 {
			return
		}
		if i.messages == 0 {
			t := time.UnixMicro(o.first).In(i.options.Zone)
			i.midnight = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, i.options.Zone).UnixMicro()
			i.first = o.first
		}
		i.folder.fates = append(i.folder.fates, mine)
		i.messages++
		i.recipients += kept
		i.last = o.first
	})
	if err = errors.Join(err, tooMany); err != nil {
		return nil, err
	}
	for at := range i.tally.files {
		if f := &i.tally.files[at]; !f.understood && f.strange > 0 {
			return nil, i.sources[at].wrong(f)
		}
	}
	r := i.report(time.Since(began))
	switch {
	case i.tally.lines == 0:
		return r, &InputError{File: i.sources[0].lines.name, Msg: "the log is empty" + map[bool]string{true: ", and so are the others"}[len(i.sources) > 1]}
	case i.messages == 0:
		return r, &InputError{File: i.sources[0].lines.name, Msg: fmt.Sprintf("no message is in %d lines; of these %d were understood", i.tally.lines, r.Understood())}
	}
	i.scanned = true
	return r, nil
}

// Items reads the logs for the second time and yields the first tries, in the
// order of time: At counts from the midnight before the first one, in the zone,
// and goes on past 24 h where the logs do. Scan must have succeeded. After an
// error nothing more comes.
//
// A message is legitimate if one of its recipients got it, at once or after a
// deferral. Where its sender came back after one, its schedule is the known one
// whose first retry is nearest to the one that was seen.
func (i *Import) Items(ctx context.Context) iter.Seq2[workload.Item, error] {
	return func(yield func(workload.Item, error) bool) {
		if !i.scanned {
			yield(workload.Item{}, errors.New("import: the logs must be scanned first"))
			return
		}
		for _, s := range i.sources {
			if err := s.rewind(i.options); err != nil {
				yield(workload.Item{}, err)
				return
			}
		}
		counted := i.tally // what the second pass counts is the same again
		i.tally.files = make([]fileTally, len(counted.files))
		i.folder.close()
		fates := i.folder.fates
		defer func() { i.tally = counted }()

		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		schedules := newScheduleGuess()
		number, told, stopped := 0, 0, false
		var changed error
		err := i.pass(ctx, func(o *open) {
			if stopped {
				return
			}
			kept := o.recipients[:0]
			if told+len(o.recipients) <= i.firstTries.n {
				for _, r := range o.recipients {
					if i.firstTries.at(told) {
						kept = append(kept, r)
					}
					told++
				}
				if len(kept) == 0 {
					return
				}
			}
			if len(kept) == 0 || number >= len(fates) {
				changed, stopped = &InputError{Msg: "a log has changed while it was read"}, true
				cancel()
				return
			}
			m := i.message(o, kept, uint64(number), fates[number], schedules)
			number++
			if !yield(workload.Item{At: m.At, Message: m}, nil) {
				stopped = true
				cancel()
			}
		})
		switch {
		case changed != nil:
			yield(workload.Item{}, changed)
		case stopped:
		case err != nil:
			yield(workload.Item{}, err)
		case number != len(fates) || told != i.firstTries.n:
			yield(workload.Item{}, &InputError{Msg: "a log has changed while it was read"})
		}
	}
}

func (i *Import) message(o *open, kept []told, number uint64, f fate, schedules *scheduleGuess) *workload.Message {
	m := &workload.Message{
		Number: number, At: time.Duration(o.first-i.midnight) * time.Microsecond,
		Client: o.client, Recipients: make([]string, len(kept)),
	}
	m.Legitimate = f&fateAccepted != 0
	if after, back := f.back(); back {
		m.Schedule = schedules.of(after, m.Legitimate)
	}
	p := i.options.Pseudonyms
	if p == nil {
		m.Sender = string(o.sender)
		for at, r := range kept {
			m.Recipients[at] = string(r.address)
		}
		return m
	}
	m.Client, m.Sender = p.Client(o.client), p.sender(o.sender)
	for at, r := range kept {
		m.Recipients[at] = p.receiver(r.address)
	}
	m.Recipients = distinct(m.Recipients)
	return m
}

// distinct drops recipients that differ in case only, which a pseudonym does not
// show.
func distinct(recipients []string) []string {
	if len(recipients) < 2 {
		return recipients
	}
	seen, kept := make(map[string]bool, len(recipients)), recipients[:0]
	for _, r := range recipients {
		if !seen[r] {
			seen[r] = true
			kept = append(kept, r)
		}
	}
	return kept
}

// scheduleGuess finds the known schedule whose first retry is nearest.
type scheduleGuess struct {
	earliest, latest []time.Duration // of each schedule's first retry; none if it has none
	has              []bool
	names            []string
}

func newScheduleGuess() *scheduleGuess {
	g := &scheduleGuess{}
	for _, s := range workload.Schedules() {
		var low, high time.Duration
		has := false
		// The phase of a queue run differs from message to message.
		for message := range uint64(64) {
			if at, ok := s.Offset(1, message, 1); ok {
				if !has || at < low {
					low = at
				}
				high, has = max(high, at), true
			}
		}
		g.earliest, g.latest = append(g.earliest, low), append(g.latest, high)
		g.has, g.names = append(g.has, has), append(g.names, s.Name)
	}
	return g
}

// of is the index of the schedule; of several that fit the one whose first retry
// is most certain. A spammer's is left out for what was accepted.
func (g *scheduleGuess) of(after time.Duration, accepted bool) uint8 {
	const exact = time.Duration(fateStep) * time.Microsecond
	best, bestMiss, bestWidth := 0, time.Duration(-1), time.Duration(0)
	for s, has := range g.has {
		if !has || accepted && g.names[s] == "spammer" {
			continue
		}
		miss := max(g.earliest[s]-after-exact, after-g.latest[s]-exact, 0)
		width := g.latest[s] - g.earliest[s]
		if bestMiss < 0 || miss < bestMiss || miss == bestMiss && width < bestWidth {
			best, bestMiss, bestWidth = s, miss, width
		}
	}
	return uint8(best)
}
