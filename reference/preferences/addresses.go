package preferences

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// The sizes of an address book entry in bytes: those of SquirrelMail's table
// address (doc/db-backend.txt). An owner has MaxUser.
const (
	MaxNickname = 16
	MaxName     = 128 // first name, last name and mail address, each
	MaxLabel    = 255
)

// Address is one entry of an address book. Any byte may stand in any field.
type Address struct {
	Nickname  string // 1 to 16 bytes; unique in an address book, whatever the case of its ASCII letters
	FirstName string // at most 128 bytes
	LastName  string // at most 128 bytes
	Email     string // at most 128 bytes; SquirrelMail allows several addresses
	Label     string // at most 255 bytes: what the owner notes
}

// Validate says what keeps an entry from being stored; the error wraps
// [fs.ErrInvalid].
func (a Address) Validate() error {
	return cmp.Or(
		validSize("nickname", a.Nickname, 1, MaxNickname),
		validSize("first name", a.FirstName, 0, MaxName),
		validSize("last name", a.LastName, 0, MaxName),
		validSize("mail address", a.Email, 0, MaxName),
		validSize("label", a.Label, 0, MaxLabel),
	)
}

// AddressBook reads and writes the table address (reference/schema/preferences.sql)
// with SquirrelMail's own statements (functions/abook_database.php). Input that
// does not fit is refused before it is sent, with an error that wraps
// [fs.ErrInvalid].
type AddressBook struct {
	DB DB
}

// asBytes reads columns as they are stored: the connection's character set, from
// which the table's differs, must not change them.
const asBytes = "SELECT CAST(nickname AS BINARY), CAST(firstname AS BINARY), CAST(lastname AS BINARY), " +
	"CAST(email AS BINARY), CAST(label AS BINARY) FROM address WHERE owner = ?"

// List returns all entries of an owner, by nickname.
func (b AddressBook) List(ctx context.Context, owner string) ([]Address, error) {
	return b.find(ctx, owner, "")
}

// Lookup returns the entry with a nickname, whatever the case of its ASCII
// letters. That there is none is an error that wraps [fs.ErrNotExist].
func (b AddressBook) Lookup(ctx context.Context, owner, nickname string) (Address, error) {
	if err := validSize("nickname", nickname, 1, MaxNickname); err != nil {
		return Address{}, fmt.Errorf("look up an address: %w", err)
	}
	found, err := b.find(ctx, owner, " AND LOWER(nickname) = ?", lower(nickname))
	if err != nil {
		return Address{}, err
	}
	if len(found) == 0 {
		return Address{}, fmt.Errorf("look up address %q of %q: %w", nickname, owner, fs.ErrNotExist)
	}
	return found[0], nil
}

// Search returns the entries that hold text in their names, nickname or mail
// address, whatever the case of its ASCII letters, by nickname. In text, of 1 to
// 128 bytes, ? stands for any one byte and * for any number of them.
func (b AddressBook) Search(ctx context.Context, owner, text string) ([]Address, error) {
	if err := validSize("search text", text, 1, MaxName); err != nil {
		return nil, fmt.Errorf("search addresses: %w", err)
	}
	pattern := append(append([]byte("%"), lower(wildcards.Replace(text))...), '%')
	escape := []byte(`\`)
	return b.find(ctx, owner, " AND (LOWER(firstname) LIKE ? ESCAPE ? OR LOWER(lastname) LIKE ? ESCAPE ?"+
		" OR LOWER(email) LIKE ? ESCAPE ? OR LOWER(nickname) LIKE ? ESCAPE ?)",
		pattern, escape, pattern, escape, pattern, escape, pattern, escape)
}

// wildcards makes SquirrelMail's wildcards those of SQL. Unlike SquirrelMail it
// also escapes the escape character.
var wildcards = strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`, "?", "_", "*", "%")

// Add stores a new entry. A nickname that is taken is an error that wraps
// [fs.ErrExist]. An error of the database may mean that the entry is stored all
// the same.
//
// As in SquirrelMail two statements do it, so that two sessions that add
// nicknames at the same time which differ in the case of their letters may both
// succeed.
func (b AddressBook) Add(ctx context.Context, owner string, a Address) error {
	if err := b.free(ctx, owner, a); err != nil {
		return fmt.Errorf("add an address: %w", err)
	}
	_, err := b.DB.ExecContext(ctx, "INSERT INTO address (owner, nickname, firstname, lastname, email, label) VALUES (?, ?, ?, ?, ?, ?)",
		[]byte(owner), []byte(a.Nickname), []byte(a.FirstName), []byte(a.LastName), []byte(a.Email), []byte(a.Label))
	if err != nil {
		return fmt.Errorf("add address %q of %q: %w", a.Nickname, owner, taken(err))
	}
	return nil
}

// Update replaces the entry with a nickname by another one, which may have a new
// nickname. That there is none is an error that wraps [fs.ErrNotExist]; that the
// new nickname is taken, one that wraps [fs.ErrExist].
func (b AddressBook) Update(ctx context.Context, owner, nickname string, a Address) error {
	if err := a.Validate(); err != nil {
		return fmt.Errorf("update an address: %w", err)
	}
	old, err := b.Lookup(ctx, owner, nickname)
	if err != nil {
		return fmt.Errorf("update an address: %w", err)
	}
	if string(lower(old.Nickname)) != string(lower(a.Nickname)) {
		if err := b.free(ctx, owner, a); err != nil {
			return fmt.Errorf("update address %q: %w", nickname, err)
		}
	}
	_, err = b.DB.ExecContext(ctx, "UPDATE address SET nickname = ?, firstname = ?, lastname = ?, email = ?, label = ? WHERE owner = ? AND nickname = ?",
		[]byte(a.Nickname), []byte(a.FirstName), []byte(a.LastName), []byte(a.Email), []byte(a.Label), []byte(owner), []byte(old.Nickname))
	if err != nil {
		return fmt.Errorf("update address %q of %q: %w", nickname, owner, taken(err))
	}
	return nil
}

// Delete removes the entry with exactly this nickname. That there is none is no
// error.
func (b AddressBook) Delete(ctx context.Context, owner, nickname string) error {
	if err := cmp.Or(validSize("owner", owner, 1, MaxUser), validSize("nickname", nickname, 1, MaxNickname)); err != nil {
		return fmt.Errorf("delete an address: %w", err)
	}
	_, err := b.DB.ExecContext(ctx, "DELETE FROM address WHERE owner = ? AND (nickname = ?)", []byte(owner), []byte(nickname))
	if err != nil {
		return fmt.Errorf("delete address %q of %q: %w", nickname, owner, err)
	}
	return nil
}

// free says whether an entry may be stored under its nickname.
func (b AddressBook) free(ctx context.Context, owner string, a Address) error {
	if err := a.Validate(); err != nil {
		return err
	}
	switch _, err := b.Lookup(ctx, owner, a.Nickname); {
	case err == nil:
		return fmt.Errorf("nickname %q of %q is taken: %w", a.Nickname, owner, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// taken marks the server's duplicate-key error: another session was faster.
func taken(err error) error {
	const duplicate = 1062
	var server *mysql.MySQLError
	if errors.As(err, &server) && server.Number == duplicate {
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return err
}

func (b AddressBook) find(ctx context.Context, owner, condition string, args ...[]byte) ([]Address, error) {
	if err := validSize("owner", owner, 1, MaxUser); err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	addresses, err := b.query(ctx, owner, condition, args)
	if err != nil {
		return nil, fmt.Errorf("read addresses of %q: %w", owner, err)
	}
	slices.SortFunc(addresses, func(x, y Address) int { return cmp.Compare(x.Nickname, y.Nickname) })
	return addresses, nil
}

func (b AddressBook) query(ctx context.Context, owner, condition string, args [][]byte) ([]Address, error) {
	all := []any{[]byte(owner)}
	for _, a := range args {
		all = append(all, a)
	}
	rows, err := b.DB.QueryContext(ctx, asBytes+condition, all...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var addresses []Address
	for rows.Next() {
		var a Address
		if err := rows.Scan(&a.Nickname, &a.FirstName, &a.LastName, &a.Email, &a.Label); err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	if err := rows.Err(); err != nil {
		return nil, err // not some of the entries
	}
	return addresses, nil
}

// lower is SquirrelMail's strtolower, and the table's LOWER(): ASCII only.
func lower(text string) []byte {
	b := []byte(text)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}
