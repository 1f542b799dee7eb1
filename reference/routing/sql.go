package routing

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"
)

// The sizes of the table, in bytes.
const (
	MaxAddress = 254 // RFC 5321 section 4.5.3.1.3, less the angle brackets
	MaxBackend = 255 // a host name: RFC 1035 section 2.3.4
)

// Querier is what SQL needs of a *sql.Conn or a *sql.DB.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// SQL reads the table route (reference/schema/routing.sql).
type SQL struct {
	DB Querier
}

var _ Router = SQL{}

// Route implements Router in one read by primary key. It lower-cases ASCII
// letters, as Exim's ${lc:} does before the same statement. An address that
// cannot be one is refused with an error that wraps [fs.ErrInvalid].
func (s SQL) Route(ctx context.Context, address string) (Answer, error) {
	if err := validAddress(address); err != nil {
		return Answer{}, fmt.Errorf("route: %w", err)
	}
	answer, err := s.read(ctx, lower(address))
	if err != nil {
		return Answer{}, fmt.Errorf("route of %q: %w", address, err)
	}
	return answer, nil
}

// read sends bytes, not a string: the driver then marks the value _binary, so
// that no character set changes or refuses it on its way.
func (s SQL) read(ctx context.Context, address []byte) (Answer, error) {
	rows, err := s.DB.QueryContext(ctx, "SELECT backend FROM route WHERE address = ?", address)
	if err != nil {
		return Answer{}, err
	}
	defer rows.Close()
	answer := Answer{Verdict: Unknown}
	if rows.Next() {
		answer.Verdict = Local
		if err := rows.Scan(&answer.Backend); err != nil {
			return Answer{}, err
		}
	}
	// Err also after a row: the end of the reply has not been read yet.
	for rows.Next() {
	}
	return answer, rows.Err()
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid].
func (r Row) Validate() error {
	if err := validAddress(r.Address); err != nil {
		return err
	}
	if string(lower(r.Address)) != r.Address {
		return fmt.Errorf("address %q must be in lower case: %w", r.Address, fs.ErrInvalid)
	}
	if r.Backend == "" || len(r.Backend) > MaxBackend {
		return fmt.Errorf("backend of %q has %d bytes, 1 to %d are possible: %w", r.Address, len(r.Backend), MaxBackend, fs.ErrInvalid)
	}
	if strings.ContainsFunc(r.Backend, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("backend %q of %q must be a host name: %w", r.Backend, r.Address, fs.ErrInvalid)
	}
	return nil
}

// validAddress takes any byte but control characters, which SMTP cannot carry
// in an address (RFC 5321 section 4.1.2).
func validAddress(address string) error {
	if len(address) > MaxAddress {
		return fmt.Errorf("address has %d bytes, at most %d are possible: %w", len(address), MaxAddress, fs.ErrInvalid)
	}
	if at := strings.LastIndexByte(address, '@'); at < 1 || at == len(address)-1 {
		return fmt.Errorf("address %q must be a local part and a domain joined by @: %w", address, fs.ErrInvalid)
	}
	if i := strings.IndexFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("address %q has a control character at byte %d: %w", address, i, fs.ErrInvalid)
	}
	return nil
}

// lower changes ASCII letters only; strings.ToLower would also change bytes
// that are not UTF-8.
func lower(address string) []byte {
	b := []byte(address)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}
