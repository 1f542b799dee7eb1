package preferences

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
)

// MaxStored is the longest value in bytes that the table userprefs takes. It is
// below SquirrelMail's 65536 because a row of NDB must fit in 30000 bytes (see
// reference/schema/preferences.sql).
const MaxStored = 29000

// DB is what SQL needs of a *sql.Conn or a *sql.DB.
type DB interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// SQL reads and writes the table userprefs (reference/schema/preferences.sql)
// with SquirrelMail's own statements. Input that does not fit is refused before
// it is sent, with an error that wraps [fs.ErrInvalid].
type SQL struct {
	DB DB
}

var _ Store = SQL{}

// Read implements Store in one statement. Rows that others write meanwhile may
// be seen in part: NDB reads each row as it is committed.
func (s SQL) Read(ctx context.Context, user string) (map[string]string, error) {
	if err := validSize("user", user, 1, MaxUser); err != nil {
		return nil, fmt.Errorf("read preferences: %w", err)
	}
	preferences, err := s.read(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("read preferences of %q: %w", user, err)
	}
	return preferences, nil
}

// read sends bytes, not a string, as Set does: the driver then marks values
// _binary, so that no character set changes or refuses them on their way.
func (s SQL) read(ctx context.Context, user string) (map[string]string, error) {
	rows, err := s.DB.QueryContext(ctx, "SELECT prefkey, prefval FROM userprefs WHERE user = ?", []byte(user))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	preferences := map[string]string{}
	for rows.Next() {
		var key, value string
		if err := rows.Scan(&key, &value); err != nil {
			return nil, err
		}
		preferences[key] = value
	}
	return preferences, rows.Err()
}

// Set implements Store in one statement. As in SquirrelMail (setPref) an empty
// value removes the preference.
func (s SQL) Set(ctx context.Context, user, key, value string) error {
	if value == "" {
		return s.Delete(ctx, user, key)
	}
	if err := (Row{User: user, Key: key, Value: value}).Validate(); err != nil {
		return fmt.Errorf("set a preference: %w", err)
	}
	_, err := s.DB.ExecContext(ctx, "REPLACE INTO userprefs (user, prefkey, prefval) VALUES (?, ?, ?)",
		[]byte(user), []byte(key), []byte(value))
	if err != nil {
		return fmt.Errorf("set preference %q of %q: %w", key, user, err)
	}
	return nil
}

// Delete implements Store in one statement.
func (s SQL) Delete(ctx context.Context, user, key string) error {
	if err := (Row{User: user, Key: key}).Validate(); err != nil {
		return fmt.Errorf("delete a preference: %w", err)
	}
	_, err := s.DB.ExecContext(ctx, "DELETE FROM userprefs WHERE user = ? AND prefkey = ?", []byte(user), []byte(key))
	if err != nil {
		return fmt.Errorf("delete preference %q of %q: %w", key, user, err)
	}
	return nil
}

// Validate says what keeps a row from being stored; the error wraps
// [fs.ErrInvalid]. Any byte may stand in any field.
func (r Row) Validate() error {
	if err := validSize("user", r.User, 1, MaxUser); err != nil {
		return err
	}
	if err := validSize("key", r.Key, 1, MaxKey); err != nil {
		return err
	}
	return validSize("value", r.Value, 0, MaxStored)
}

func validSize(what, text string, least, most int) error {
	if n := len(text); n < least || n > most {
		return fmt.Errorf("%s has %d bytes, %d to %d are possible: %w", what, n, least, most, fs.ErrInvalid)
	}
	return nil
}
