package preferences_test

import (
	"database/sql/driver"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestAddressBookRefuses(t *testing.T) {
	var fake schematest.Fake
	db := fake.DB()
	defer db.Close()
	book := preferences.AddressBook{DB: db}
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		sentence, owner string
		address         preferences.Address
	}{
		{"an owner is needed", "", preferences.Address{Nickname: "n"}},
		{"an owner has 128 bytes at most", long(129), preferences.Address{Nickname: "n"}},
		{"a nickname is needed", "u", preferences.Address{}},
		{"a nickname has 16 bytes at most", "u", preferences.Address{Nickname: long(17)}},
		{"a first name has 128 bytes at most", "u", preferences.Address{Nickname: "n", FirstName: long(129)}},
		{"a last name has 128 bytes at most", "u", preferences.Address{Nickname: "n", LastName: long(129)}},
		{"a mail address has 128 bytes at most", "u", preferences.Address{Nickname: "n", Email: long(129)}},
		{"a label has 255 bytes at most", "u", preferences.Address{Nickname: "n", Label: long(256)}},
	} {
		if err := book.Add(t.Context(), c.owner, c.address); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: Add: got %v after %d queries", c.sentence, err, fake.Queries)
		}
		if err := book.Update(t.Context(), c.owner, "n", c.address); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: Update: got %v after %d queries", c.sentence, err, fake.Queries)
		}
	}
	for what, call := range map[string]func() error{
		"List":                func() error { _, err := book.List(t.Context(), ""); return err },
		"Lookup":              func() error { _, err := book.Lookup(t.Context(), "u", ""); return err },
		"Search":              func() error { _, err := book.Search(t.Context(), "", "x"); return err },
		"Search for nothing":  func() error { _, err := book.Search(t.Context(), "u", ""); return err },
		"Search for too much": func() error { _, err := book.Search(t.Context(), "u", long(129)); return err },
		"Delete":              func() error { return book.Delete(t.Context(), "", "n") },
		"Delete nothing":      func() error { return book.Delete(t.Context(), "u", "") },
	} {
		if err := call(); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: got %v after %d queries", what, err, fake.Queries)
		}
	}
}

func TestAddressBookTakesAllOrNothing(t *testing.T) {
	lost := errors.New("lost")
	fake := schematest.Fake{Sets: []schematest.Set{{Rows: [][]driver.Value{{"n", "", "", "", ""}}, Err: lost}}}
	db := fake.DB()
	defer db.Close()
	if got, err := (preferences.AddressBook{DB: db}).List(t.Context(), "u"); !errors.Is(err, lost) || got != nil {
		t.Errorf("an error after a row is lost: got %v, %v", got, err)
	}
}

func TestAddressBook(t *testing.T) {
	c := schematest.Install(t, "addressbook")
	var books []preferences.AddressBook
	for _, address := range c.Addresses {
		db := sqlnode.Open(address, c.Account)
		defer db.Close()
		books = append(books, preferences.AddressBook{DB: db})
	}
	first, last := books[0], books[len(books)-1]
	var everyByte strings.Builder
	for b := range 256 {
		everyByte.WriteByte(byte(b))
	}
	const owner = "o'br\\i\"en\x00\xe9"
	// In the order in which they are listed.
	want := []preferences.Address{
		{Nickname: "Ann", FirstName: "Ann", LastName: "Smith", Email: "ann.smith@example.org,ann@example.net", Label: everyByte.String()[:preferences.MaxLabel]},
		{Nickname: `\'"%_ -- ;`, FirstName: "100%_sure", LastName: `back\slash`, Email: "'; DROP TABLE address; --", Label: everyByte.String()[1:]},
		{Nickname: "bob", FirstName: everyByte.String()[:128], LastName: everyByte.String()[128:], Email: strings.Repeat("e", preferences.MaxName)},
		{Nickname: "j\xfcrgen", FirstName: "J\xfcrgen", LastName: "\xc9mile"}, // ISO 8859-1
		{Nickname: "jürgen", FirstName: "Jürgen", LastName: "Émile"},
	}
	slices.SortFunc(want, func(x, y preferences.Address) int { return strings.Compare(x.Nickname, y.Nickname) })
	other := preferences.Address{Nickname: "Ann", FirstName: "of somebody else"}
	if err := first.Add(t.Context(), "somebody else", other); err != nil {
		t.Fatal(err)
	}
	for _, a := range want {
		if err := first.Add(t.Context(), owner, a); err != nil {
			t.Fatal(err)
		}
	}
	list := func(book preferences.AddressBook, owner string, want ...preferences.Address) {
		t.Helper()
		if got, err := book.List(t.Context(), owner); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q has %.500q, want %.500q (%v)", owner, got, want, err)
		}
	}
	list(last, owner, want...)
	list(last, "somebody else", other)
	list(last, "' OR '1'='1")

	for _, s := range []struct{ sentence, text, want string }{
		{"a search finds parts of names", "mit", "Ann"},
		{"letter case does not matter in ASCII", "SMITH", "Ann"},
		{"it finds a mail address", "@example.net", "Ann"},
		{"it finds a nickname", "Bo", "bob"},
		{"it finds UTF-8", "Jür", "jürgen"},
		{"it finds ISO 8859-1", "\xc9mil", "j\xfcrgen"},
		{"* stands for any text", "ann*smith", "Ann"},
		{"? stands for one byte", "sm?th", "Ann"},
		{"% stands for itself", "100%_", `\'"%_ -- ;`},
		{"% does not stand for any text", "sm%th", ""},
		{"_ does not stand for one byte", "sm_th", ""},
		{"a backslash stands for itself", `k\s`, `\'"%_ -- ;`},
		{"a backslash at the end does, too", `back\`, `\'"%_ -- ;`},
		{"quotes are no end of the text", "'; DROP", `\'"%_ -- ;`},
		{"other owners' entries are not found", "somebody", ""},
	} {
		found, err := last.Search(t.Context(), owner, s.text)
		var nicknames []string
		for _, a := range found {
			nicknames = append(nicknames, a.Nickname)
		}
		if got := strings.Join(nicknames, "|"); err != nil || got != s.want {
			t.Errorf("%s: found %q, want %q (%v)", s.sentence, got, s.want, err)
		}
	}

	if got, err := last.Lookup(t.Context(), owner, "aNN"); err != nil || got.LastName != "Smith" {
		t.Errorf("looking up aNN: got %.200q (%v)", got, err)
	}
	if _, err := last.Lookup(t.Context(), owner, "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking up nobody: got %v", err)
	}
	if err := last.Add(t.Context(), owner, preferences.Address{Nickname: "ANN"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("adding a nickname that is taken: got %v", err)
	}
	// MySQL compares the nickname without blanks at its end; the lookup does not.
	if err := last.Add(t.Context(), owner, preferences.Address{Nickname: "Ann "}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("adding a nickname that differs in a blank at its end: got %v", err)
	}
	if err := last.Update(t.Context(), owner, "bob", preferences.Address{Nickname: "ann"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("taking somebody's nickname: got %v", err)
	}
	if err := last.Update(t.Context(), owner, "nobody", preferences.Address{Nickname: "n"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("updating nobody: got %v", err)
	}
	list(first, owner, want...)

	renamed := preferences.Address{Nickname: "anna", FirstName: "Anna"}
	if err := last.Update(t.Context(), owner, "ANN", renamed); err != nil {
		t.Error(err)
	}
	inSmall := preferences.Address{Nickname: "Anna", FirstName: "Anna"}
	if err := first.Update(t.Context(), owner, "anna", inSmall); err != nil {
		t.Error(err)
	}
	if got, err := first.Lookup(t.Context(), owner, "anna"); err != nil || got != inSmall {
		t.Errorf("updated twice: got %.200q (%v)", got, err)
	}
	for _, a := range append(want, inSmall) { // "Ann" is gone already: no error
		if err := first.Delete(t.Context(), owner, a.Nickname); err != nil {
			t.Error(err)
		}
	}
	list(last, owner)
	list(last, "somebody else", other)
}
