// Package preferences keeps what webmail users like and whom they know:
// SquirrelMail's tables userprefs and address.
package preferences

import "context"

// The sizes that SquirrelMail enforces (functions/db_prefs.php), in bytes. Its
// limit of 65536 for a value is MaxStored here.
const (
	MaxUser = 128
	MaxKey  = 64
)

// Verdict is the answer to a read or a write of preferences.
type Verdict uint8

// The verdicts. NoAnswer is the zero value: the question was not answered.
const (
	NoAnswer Verdict = iota
	Found            // the user has preferences
	Empty            // the user has none: the webmail shows its defaults
	Saved            // the preference is stored
)

func (v Verdict) String() string {
	switch v {
	case Found:
		return "found"
	case Empty:
		return "empty"
	case Saved:
		return "saved"
	default:
		return "none"
	}
}

// Store reads and writes preferences of one user. Set and Delete are
// acknowledged when they return nil; an error may mean that they happened all
// the same.
type Store interface {
	Read(ctx context.Context, user string) (map[string]string, error)
	// Set stores one preference in the place of an earlier one. Setting it to ""
	// removes it: a webmail has no preference that is empty.
	Set(ctx context.Context, user, key, value string) error
	// Delete removes one preference. That there is none is no error.
	Delete(ctx context.Context, user, key string) error
}

// Row is one preference as it is stored.
type Row struct {
	User, Key, Value string
}
