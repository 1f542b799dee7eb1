package routing_test

import (
	"database/sql/driver"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestRouteRefuses(t *testing.T) {
	var fake schematest.Fake
	db := fake.DB()
	defer db.Close()
	for _, c := range []struct{ sentence, address string }{
		{"nothing is no address", ""},
		{"a domain is needed", "postmaster"},
		{"a domain is needed after the @", "a@"},
		{"a local part is needed", "@example.edu"},
		{"NUL is refused", "a\x00b@example.edu"},
		{"a line end is refused", "a\n@example.edu"},
		{"255 bytes are too many", strings.Repeat("a", 255-len("@example.edu")) + "@example.edu"},
	} {
		if _, err := (routing.SQL{DB: db}).Route(t.Context(), c.address); !errors.Is(err, fs.ErrInvalid) || fake.Queries != 0 {
			t.Errorf("%s: got %v after %d queries", c.sentence, err, fake.Queries)
		}
	}
}

func TestRouteReadsTheWholeReply(t *testing.T) {
	lost := errors.New("lost")
	fake := schematest.Fake{Sets: []schematest.Set{{Rows: [][]driver.Value{{"cyrus1"}}, Err: lost}}}
	db := fake.DB()
	defer db.Close()
	if answer, err := (routing.SQL{DB: db}).Route(t.Context(), "a@example.edu"); !errors.Is(err, lost) {
		t.Errorf("an error after the row is lost: got %v, %v", answer, err)
	}
}

func TestRowValidate(t *testing.T) {
	for _, c := range []struct {
		sentence string
		row      routing.Row
		valid    bool
	}{
		{"a row of lower case is stored", routing.Row{Address: "a@example.edu", Backend: "cyrus1"}, true},
		{"an address in upper case would never be found", routing.Row{Address: "A@example.edu", Backend: "cyrus1"}, false},
		{"a backend is needed", routing.Row{Address: "a@example.edu"}, false},
		{"a backend is a host name", routing.Row{Address: "a@example.edu", Backend: "cyrus 1"}, false},
		{"a backend has 255 bytes at most", routing.Row{Address: "a@example.edu", Backend: strings.Repeat("c", 256)}, false},
	} {
		if err := c.row.Validate(); (err == nil) != c.valid || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: got %v", c.sentence, err)
		}
	}
}

func TestRoute(t *testing.T) {
	c := schematest.Install(t, "routing")
	longest := strings.Repeat("a", 254-len("@example.edu")) + "@example.edu"
	stored := []string{"a@example.edu", longest, `o'b"r\ien@example.edu`, "' or 1=1 -- @example.edu", "\xff\xfe\xe9@example.edu", "é@example.edu"}
	var rows []routing.Row
	for _, address := range stored {
		rows = append(rows, routing.Row{Address: address, Backend: "cyrus1.example.edu"})
	}
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	if err := loader.LoadRoutes(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	found := routing.Answer{Verdict: routing.Local, Backend: "cyrus1.example.edu"}
	unknown := routing.Answer{Verdict: routing.Unknown}
	asked := map[string]routing.Answer{
		"A@Example.EDU":           found, // case does not matter
		"b@example.edu":           unknown,
		"a@example.edu ":          unknown, // nor are blanks ignored
		"é\xff@example.edu":       unknown,
		"É@example.edu":           unknown, // only ASCII is lowered
		"x' or '1'='1@":           {},      // refused
		`\' or 1=1 -- @a`:         unknown,
		"% or a@example.edu":      unknown,
		"\xbf' or 1=1 -- @x":      unknown, // half a character before the quote
		"?' or address like '%@x": unknown,
	}
	for _, address := range stored {
		asked[address] = found
	}
	for i, node := range c.Admins {
		db := sqlnode.Open(c.Addresses[i], c.Account)
		defer db.Close()
		for address, want := range asked {
			got, err := routing.SQL{DB: db}.Route(t.Context(), address)
			if got != want || (err != nil) != (want.Verdict == routing.NoAnswer) {
				t.Errorf("%s routes %q to %v, want %v (%v)", node.Name, address, got, want, err)
			}
		}
	}

	// The price: one read by primary key.
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	trips := func() (n int) {
		var name string
		err := conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Ndb_api_wait_exec_complete_count_session'").Scan(&name, &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := trips()
	if _, err := (routing.SQL{DB: conn}).Route(t.Context(), "a@example.edu"); err != nil {
		t.Fatal(err)
	}
	if n := trips() - before; n != 1 {
		t.Errorf("a route takes %d round trips to the data nodes, want 1", n)
	}
}
