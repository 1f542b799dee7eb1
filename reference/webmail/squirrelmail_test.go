// Package webmail_test holds the configuration for real webmails against the
// tables, and runs the webmails' statements on them.
package webmail_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// dialect is how SquirrelMail 1.4 writes its statements (functions/db_prefs.php
// and functions/abook_database.php), word for word, but for the blanks that PEAR's
// form has around OR.
type dialect struct {
	name, readPrefs, setPref, removePref, list, lookup, search, add, remove, modify string
}

var dialects = []dialect{
	{
		name:       "PDO",
		readPrefs:  "SELECT `prefkey` AS prefkey, `prefval` AS prefval FROM `userprefs` WHERE `user` = ?",
		setPref:    "REPLACE INTO `userprefs` (`user`, `prefkey`, `prefval`) VALUES (?, ?, ?)",
		removePref: "DELETE FROM `userprefs` WHERE `user` = ? AND `prefkey` = ?",
		list:       "SELECT * FROM `address` WHERE `owner` = ?",
		lookup:     "SELECT * FROM `address` WHERE `owner` = ? AND LOWER(`nickname`) = ?",
		search:     "SELECT * FROM `address` WHERE `owner` = ? AND (LOWER(`firstname`) LIKE ? ESCAPE ? OR LOWER(`lastname`) LIKE ? ESCAPE ? OR LOWER(`email`) LIKE ? ESCAPE ? OR LOWER(`nickname`) LIKE ? ESCAPE ?)",
		add:        "INSERT INTO `address` (`owner`, `nickname`, `firstname`, `lastname`, `email`, `label`) VALUES (?, ?, ?, ?, ?, ?)",
		remove:     "DELETE FROM `address` WHERE `owner` = ? AND (`nickname` = ? OR `nickname` = ?)",
		modify:     "UPDATE `address` SET `nickname` = ?, `firstname` = ?, `lastname` = ?, `email` = ?, `label` = ? WHERE `owner` = ? AND `nickname` = ?",
	},
	{
		name:       "PEAR",
		readPrefs:  "SELECT prefkey as prefkey, prefval as prefval FROM userprefs WHERE user = ?",
		setPref:    "REPLACE INTO userprefs (user, prefkey, prefval) VALUES(?,?,?)",
		removePref: "DELETE FROM userprefs WHERE user=? AND prefkey=?",
		list:       "SELECT * FROM address WHERE owner=?",
		lookup:     "SELECT * FROM address WHERE owner = ? AND LOWER(nickname) = ?",
		search:     "SELECT * FROM address WHERE owner=? AND (LOWER(firstname) LIKE ? ESCAPE ? OR LOWER(lastname) LIKE ? ESCAPE ? OR LOWER(email) LIKE ? ESCAPE ? OR LOWER(nickname) LIKE ? ESCAPE ?)",
		add:        "INSERT INTO address (owner, nickname, firstname, lastname, email, label) VALUES(?,?,?,?,?,?)",
		remove:     "DELETE FROM address WHERE owner=? AND ( nickname=? OR nickname=? )",
		modify:     "UPDATE address SET nickname=?, firstname=?, lastname=?, email=?, label=? WHERE owner=? AND nickname=?",
	},
}

// TestSquirrelMail runs SquirrelMail's statements, the values in string literals
// as PDO and PEAR send them, on a connection of bytes: what one SQL node was told
// every other one must show.
func TestSquirrelMail(t *testing.T) {
	c := schematest.Install(t, "squirrelmail")
	var conns []*sql.Conn
	for _, address := range c.Addresses {
		db := sqlnode.Open(address, c.Account)
		defer db.Close()
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "SET NAMES binary"); err != nil { // charset=binary of the DSN
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	const escape = `\`
	for i, d := range dialects {
		writer, user := conns[i%len(conns)], fmt.Sprintf("o'br\\ien%d@example.edu", i)
		do := func(statement string, args ...any) {
			t.Helper()
			if _, err := writer.ExecContext(t.Context(), statement, args...); err != nil {
				t.Fatalf("%s: %s: %v", d.name, statement, err)
			}
		}
		shows := func(sentence, want, statement string, args ...any) {
			t.Helper()
			for n, conn := range conns {
				got, err := rows(t.Context(), conn, statement, args...)
				if joined := strings.Join(got, "; "); err != nil || joined != want {
					t.Errorf("%s: %s: %s shows %q, want %q (%v)", d.name, sentence, c.Nodes[n].Name, joined, want, err)
				}
			}
		}

		shows("who is new has no preferences", "", d.readPrefs, user)
		do(d.setPref, user, "full_name", "J\xfcrgen O'Brien")
		do(d.setPref, user, "theme_default", "1")
		do(d.setPref, user, "theme_default", "2")
		do(d.setPref, user, "___signature___", "Gr\xc3\xbc\xc3\x9fe\n-- \n\\'\x00")
		shows("what is set is read", "___signature___|Gr\xc3\xbc\xc3\x9fe\n-- \n\\'\x00; full_name|J\xfcrgen O'Brien; theme_default|2", d.readPrefs, user)
		do(d.removePref, user, "theme_default")
		do(d.removePref, user, "theme_default")
		shows("what is removed is gone", "___signature___|Gr\xc3\xbc\xc3\x9fe\n-- \n\\'\x00; full_name|J\xfcrgen O'Brien", d.readPrefs, user)

		const (
			ann = "|Ann|Ann|Smith|Ann.Smith@Example.org|calls at 5 o'clock"
			jue = "|j\xfcrgen|J\xfcrgen|\xc9mile|j@example.org|"
		)
		search := func(pattern string) []any {
			return []any{user, pattern, escape, pattern, escape, pattern, escape, pattern, escape}
		}
		do(d.add, user, "Ann", "Ann", "Smith", "Ann.Smith@Example.org", "calls at 5 o'clock")
		do(d.add, user, "j\xfcrgen", "J\xfcrgen", "\xc9mile", "j@example.org", "")
		shows("the address book is listed", user+ann+"; "+user+jue, d.list, user)
		shows("a nickname is found in small letters", user+ann, d.lookup, user, "ann")
		shows("so is one with an 8-bit letter", user+jue, d.lookup, user, "j\xfcrgen")
		shows("a name is searched in small letters", user+ann, d.search, search("%smith%")...)
		shows("a mail address is searched", user+ann, d.search, search("%ann.smith@%")...)
		shows("an 8-bit letter is searched", user+jue, d.search, search("%\xc9m%")...)
		shows("an escaped wildcard is no wildcard", "", d.search, search(`%sm\_th%`)...)
		do(d.modify, "annie", "Ann", "O'Smith", "ann@example.org", "", user, "Ann")
		shows("an entry is modified", user+"|annie|Ann|O'Smith|ann@example.org|; "+user+jue, d.list, user)
		do(d.remove, user, "annie", "j\xfcrgen")
		shows("entries are removed", "", d.list, user)
	}
}

// TestRoundcube runs what the plugin squirrelmail_usercopy asks, prepared in the
// server, as Roundcube has it.
func TestRoundcube(t *testing.T) {
	c := schematest.Install(t, "roundcube")
	db := sqlnode.Open(c.Addresses[len(c.Addresses)-1], c.Account)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const user = "o'brien@example.edu"
	for _, s := range []string{
		"SET NAMES binary",
		`REPLACE INTO userprefs VALUES ('o\'brien@example.edu', 'full_name', 'Jürgen')`,
		`INSERT INTO address VALUES ('o\'brien@example.edu', 'émile', 'Émile', '', 'e@example.org', '')`,
	} {
		if _, err := conn.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"SELECT * FROM `userprefs` WHERE `user` = ?": user + "|full_name|Jürgen",
		"SELECT * FROM `address` WHERE `owner` = ?":  user + "|émile|Émile||e@example.org|",
	} {
		statement, err := conn.PrepareContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer statement.Close()
		result, err := statement.QueryContext(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := joined(result); err != nil || strings.Join(got, "; ") != want {
			t.Errorf("%s: got %q, want %q (%v)", query, got, want, err)
		}
	}
}

// rows returns the rows of an answer in the order of their text.
func rows(ctx context.Context, conn *sql.Conn, query string, args ...any) ([]string, error) {
	result, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return joined(result)
}

func joined(result *sql.Rows) ([]string, error) {
	defer result.Close()
	columns, err := result.Columns()
	if err != nil {
		return nil, err
	}
	var found []string
	for result.Next() {
		var (
			fields   = make([]string, len(columns))
			pointers []any
		)
		for i := range fields {
			pointers = append(pointers, &fields[i])
		}
		if err := result.Scan(pointers...); err != nil {
			return nil, err
		}
		found = append(found, strings.Join(fields, "|"))
	}
	slices.Sort(found)
	return found, result.Err()
}
