package preferences_test

import (
	"database/sql/driver"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"

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
