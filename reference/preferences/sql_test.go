package preferences_test

import (
	"database/sql/driver"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestRefuses(t *testing.T) {
	var fake schematest.Fake
	db := fake.DB()
	defer db.Close()
	store := preferences.SQL{DB: db}
	for _, c := range []struct{ sentence, user, key, value string }{
		{"a user is needed", "", "k", "v"},
		{"a key is needed", "u", "", "v"},
		{"a user has 128 bytes at most", strings.Repeat("u", 129), "k", "v"},
		{"a key has 64 bytes at most", "u", strings.Repeat("k", 65), "v"},
		{"a value has 29000 bytes at most", "u", "k", strings.Repeat("v", 29001)},
	} {
		if err := store.Set(t.Context(), c.user, c.key, c.value); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: got %v after %d queries", c.sentence, err, fake.Queries)
		}
	}
	for _, user := range []string{"", strings.Repeat("u", 300)} {
		if _, err := store.Read(t.Context(), user); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("reading the preferences of %q: got %v after %d queries", user, err, fake.Queries)
		}
		if err := store.Delete(t.Context(), user, "k"); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("deleting a preference of %q: got %v after %d queries", user, err, fake.Queries)
		}
	}
	if err := store.Delete(t.Context(), "u", ""); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
		t.Errorf("deleting a preference without a key: got %v after %d queries", err, fake.Queries)
	}
}

func TestReadTakesAllOrNothing(t *testing.T) {
	lost := errors.New("lost")
	fake := schematest.Fake{Sets: []schematest.Set{{Rows: [][]driver.Value{{"k", "v"}}, Err: lost}}}
	db := fake.DB()
	defer db.Close()
	if got, err := (preferences.SQL{DB: db}).Read(t.Context(), "u"); !errors.Is(err, lost) || got != nil {
		t.Errorf("an error after a row is lost: got %v, %v", got, err)
	}
}

func TestSetAndRead(t *testing.T) {
	c := schematest.Install(t, "preferences")
	var stores []preferences.SQL
	for _, address := range c.Addresses {
		db := sqlnode.Open(address, c.Account)
		defer db.Close()
		stores = append(stores, preferences.SQL{DB: db})
	}
	first, last := stores[0], stores[len(stores)-1]

	var everyByte strings.Builder
	for b := range 256 {
		everyByte.WriteByte(byte(b))
	}
	users := []string{"user", "User", "user ", "o'br\\i\"en\x00%", everyByte.String()[128:], strings.Repeat("u", preferences.MaxUser)}
	want := map[string]string{
		"theme":                                 "o'br\\i\"en -- ; DROP TABLE userprefs",
		"Theme":                                 "another key",
		"signature":                             everyByte.String() + "é",
		"longest":                               strings.Repeat("\x00", preferences.MaxStored), // escaped it is twice as long
		everyByte.String()[:preferences.MaxKey]: "x",
	}
	for _, user := range users {
		for key, value := range want {
			if err := first.Set(t.Context(), user, key, "before"); err != nil {
				t.Fatal(err)
			}
			if err := first.Set(t.Context(), user, key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, user := range users {
		// Through another SQL node: it is seen once it is acknowledged.
		if got, err := last.Read(t.Context(), user); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: read %.200q, want %.200q (%v)", user, got, want, err)
		}
	}

	if err := first.Set(t.Context(), "user", "theme", ""); err != nil {
		t.Fatal(err)
	}
	got, err := last.Read(t.Context(), "user")
	if _, ok := got["theme"]; ok || err != nil || len(got) != len(want)-1 {
		t.Errorf("an empty value should remove a preference: read %.200q (%v)", got, err)
	}
	for range 2 { // what is gone may be deleted
		if err := last.Delete(t.Context(), "user", "Theme"); err != nil {
			t.Fatal(err)
		}
	}
	got, err = first.Read(t.Context(), "user")
	if _, ok := got["Theme"]; ok || err != nil || len(got) != len(want)-2 {
		t.Errorf("Delete should remove a preference: read %.200q (%v)", got, err)
	}
	if got, err := first.Read(t.Context(), "User"); err != nil || !maps.Equal(got, want) {
		t.Errorf("the preferences of others should stay: read %.200q (%v)", got, err)
	}
	if got, err := first.Read(t.Context(), "nobody"); err != nil || len(got) != 0 {
		t.Errorf("who has none has %q (%v)", got, err)
	}
}

// TestReadersDoNotWait has a webmail read while another one's write of the same
// preference is not committed yet: it sees the earlier value at once. With a
// BLOB for the value, which NDB locks for reading, it waits until an error: the
// test would notice if prefval became one.
func TestReadersDoNotWait(t *testing.T) {
	c := schematest.Install(t, "readers")
	writer, reader := sqlnode.Open(c.Addresses[0], c.Account), sqlnode.Open(c.Addresses[len(c.Addresses)-1], c.Account)
	defer writer.Close()
	defer reader.Close()
	for table, value := range map[string]string{
		"userprefs_blob":   "BLOB NOT NULL",
		"userprefs_inline": "MEDIUMBLOB NOT NULL COMMENT 'NDB_COLUMN=BLOB_INLINE_SIZE=29000'",
	} {
		_, err := writer.Exec("CREATE TABLE " + table + " (user VARBINARY(129) NOT NULL, prefkey VARBINARY(65) NOT NULL, prefval " + value +
			", PRIMARY KEY (user, prefkey)) ENGINE=NDBCLUSTER PARTITION BY KEY (user)")
		if err != nil {
			t.Fatal(err)
		}
	}
	const lockWaitTimeout = 1205
	for _, r := range []struct {
		table string
		want  uint16 // the reader's error, 0 for none
	}{
		{"userprefs", 0},
		{"userprefs_blob", lockWaitTimeout},
		{"userprefs_inline", lockWaitTimeout},
	} {
		if _, err := writer.Exec("REPLACE INTO " + r.table + " (user, prefkey, prefval) VALUES ('u', 'k', 'before')"); err != nil {
			t.Fatal(err)
		}
		transaction, err := writer.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transaction.Exec("REPLACE INTO " + r.table + " (user, prefkey, prefval) VALUES ('u', 'k', 'after')"); err != nil {
			t.Fatal(err)
		}
		var value string
		err = reader.QueryRow("SELECT prefval FROM " + r.table + " WHERE user = 'u'").Scan(&value)
		var server *mysql.MySQLError
		switch {
		case r.want == 0 && (err != nil || value != "before"):
			t.Errorf("%s: a reader beside a writer reads %q (%v)", r.table, value, err)
		case r.want != 0 && !(errors.As(err, &server) && server.Number == r.want):
			t.Errorf("%s: a reader beside a writer reads %q (%v), want error %d", r.table, value, err, r.want)
		}
		if err := transaction.Commit(); err != nil {
			t.Error(err)
		}
		if err := reader.QueryRow("SELECT prefval FROM " + r.table + " WHERE user = 'u'").Scan(&value); err != nil || value != "after" {
			t.Errorf("%s: a reader after the commit reads %q (%v)", r.table, value, err)
		}
	}
}
