package datamemory

import (
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
)

// Tally adds up what tables hold, by their names. The zero value is not ready:
// see [NewTally].
type Tally struct {
	tables   map[string]Table
	Contents map[string]Contents
}

// NewTally returns one that holds no rows.
func NewTally() *Tally {
	t := &Tally{tables: map[string]Table{}, Contents: map[string]Contents{}}
	for _, table := range Tables() {
		t.tables[table.Name] = table
	}
	return t
}

func (t *Tally) add(table string, lengths ...int) {
	c := t.Contents[table]
	t.tables[table].Add(&c, lengths...)
	t.Contents[table] = c
}

// Route adds a row of route.
func (t *Tally) Route(r routing.Row) {
	t.add(Routes, len(r.Address), len(r.Backend), len(routing.JoinTargets(r.Targets)))
}

// Account adds a row of account, and those of account_address.
func (t *Tally) Account(a accounts.Account) {
	t.add(Accounts, len(a.Login), len(a.FullName), len(a.Affiliation), len(a.Backend), len(a.MovingTo), len(routing.JoinTargets(a.Targets)))
	for _, alias := range a.Aliases {
		t.add(AccountAddresses, len(a.Login), len(alias))
	}
}

// Change adds a row of account_change.
func (t *Tally) Change(login string) { t.add(AccountChanges, len(accounts.Change{}.ID), len(login)) }

// Preference adds a row of userprefs.
func (t *Tally) Preference(r preferences.Row) {
	t.add(Preferences, len(r.User), len(r.Key), len(r.Value))
}

// Greylisted adds so many rows of greylist, which are all alike.
func (t *Tally) Greylisted(rows int64) {
	var one Contents
	t.tables[Greylist].Add(&one)
	c := t.Contents[Greylist]
	t.Contents[Greylist] = Contents{Rows: c.Rows + rows, LogWords: c.LogWords + rows*one.LogWords}
}
