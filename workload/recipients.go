package workload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/routing"
)

// maxAccounts is how many accounts a target can be given.
const maxAccounts = 10_000_000

// Survey is what one reading of a whole trace file, or of a slice, has found.
type Survey struct {
	SHA256 string // of the items of the window
	// Of an imported trace, whose recipients no population has:
	Recipients int64 // different ones that can be accounts
	Domains    int64 // theirs
	Refused    int64 // first tries for what is no address: an MTA refuses it and asks nobody

	file  *TraceFile
	seeds [2]maphash.Seed
}

// SurveyTrace reads every item of a file and checks each byte of it, so that what
// was altered shows before a target is started. It holds some 50 bytes for each
// recipient of an imported trace, of which there may be 10,000,000. An error is
// the file's fault, but for that of ctx.
func SurveyTrace(ctx context.Context, f *TraceFile) (*Survey, error) {
	s := &Survey{file: f, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	var (
		h         = sha256.New()
		buffer    []byte
		addresses = s.newSet()
		domains   = s.newSet()
		n         int
	)
	h.Write([]byte(canonicalPrefix))
	for item, err := range f.Items() {
		if err != nil {
			return nil, err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("trace file %s: after %d items: %w", f.name, n, context.Cause(ctx))
		}
		if buffer = item.appendCanonical(buffer); len(buffer) > 32<<10 {
			h.Write(buffer)
			buffer = buffer[:0]
		}
		m := item.Message
		if m == nil {
			continue
		}
		if !m.Client.IsValid() {
			return nil, fmt.Errorf("trace file %s: message %d at %v has no client address, without which greylisting cannot be asked", f.name, m.Number, m.At)
		}
		if !f.header.Imported() {
			continue
		}
		for _, r := range m.Recipients {
			switch address := lowerCase(r); {
			case routing.ValidAddress(address) != nil:
				s.Refused++
			case addresses.add(address):
				if row, ok := domainRow(address); ok {
					domains.add(row.Address)
				}
			}
		}
		if len(addresses.seen) > maxAccounts {
			return nil, fmt.Errorf("trace file %s has more than %d recipients by %v; replay a shorter slice of it", f.name, maxAccounts, m.At)
		}
	}
	h.Write(buffer)
	s.SHA256 = fmt.Sprintf("%x", h.Sum(nil))
	s.Recipients, s.Domains = int64(len(addresses.seen)), int64(len(domains.seen))
	if whole := f.totals.SHA256; whole != "" && whole != s.SHA256 {
		return nil, f.at(f.totals.Bytes-int64(traceTrailer), "the items have SHA-256 %s, the trailer says %s", s.SHA256, whole)
	}
	return s, nil
}

// textSet is a set of texts that holds 128 bits of each.
type textSet struct {
	seeds [2]maphash.Seed
	seen  map[[2]uint64]struct{}
}

func (s *Survey) newSet() textSet { return textSet{s.seeds, map[[2]uint64]struct{}{}} }

// add says whether a text is new.
func (s textSet) add(text string) bool {
	key := [2]uint64{maphash.String(s.seeds[0], text), maphash.String(s.seeds[1], text)}
	before := len(s.seen)
	s.seen[key] = struct{}{}
	return len(s.seen) > before
}

// lowerCase changes letters of ASCII only, as routing does: an address may have
// bytes that are no UTF-8.
func lowerCase(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// domainRow is the row of an address's domain, if it can have one.
func domainRow(address string) (routing.Row, bool) {
	row := routing.DomainRow(routing.DomainOf(address)[1:])
	return row, row.Validate() == nil
}

// recipientRow is what a target knows of a recipient, or of a domain.
type recipientRow struct {
	route   routing.Row
	account *accounts.Account // nil for a domain, and for a name that no account may have
}

// rows yields each domain before its first recipient, each once. The file's Err
// says why it ended early.
func (s *Survey) rows(now time.Time) iter.Seq[recipientRow] {
	since, backends := accountsSince(now), s.file.header.Population.Backends
	return func(yield func(recipientRow) bool) {
		addresses, domains := s.newSet(), s.newSet()
		for item := range s.file.All() {
			if item.Message == nil {
				continue
			}
			for _, r := range item.Message.Recipients {
				address := lowerCase(r)
				if routing.ValidAddress(address) != nil || !addresses.add(address) {
					continue
				}
				if row, ok := domainRow(address); ok && domains.add(row.Address) && !yield(recipientRow{route: row}) {
					return
				}
				a := recipientAccount(address, backends, since)
				row := recipientRow{route: a.Rows()[0]}
				if a.Validate() == nil {
					row.account = &a
				}
				if !yield(row) {
					return
				}
			}
		}
	}
}

// LoadRecipients makes an account of each recipient of a surveyed, imported trace
// and stores it, with the domains, as Load does with a population. What a route
// may be called but no account, such as an address of more than 128 bytes, has a
// route only. Nothing is in the greylist, as nobody knows who wrote before.
func LoadRecipients(ctx context.Context, loader reference.Loader, s *Survey, now time.Time, workers int, progress func(LoadProgress)) error {
	if workers < 1 {
		return fmt.Errorf("load: workers is %d, must be 1 or more", workers)
	}
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	store := func(ctx context.Context, rows []recipientRow) error {
		routes, made := make([]routing.Row, 0, len(rows)), make([]accounts.Account, 0, len(rows))
		for _, r := range rows {
			if routes = append(routes, r.route); r.account != nil {
				made = append(made, *r.account)
			}
		}
		if err := loader.LoadRoutes(ctx, routes); err != nil {
			return err
		}
		return loader.LoadAccounts(ctx, made)
	}
	err := loadTable(ctx, "recipients", s.Domains+s.Recipients, s.rows(now), store, workers, progress)
	return errors.Join(err, s.file.Err())
}
