package schema

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		sentence string
		script   string
		want     []string
		fails    bool
	}{
		{sentence: "nothing holds no statement", script: " \n-- only a remark; with a delimiter\n/* and; more */\n"},
		{sentence: "statements end with semicolons", script: "A;\nB ;", want: []string{"A", "B"}},
		{sentence: "empty statements are none", script: ";;A;;", want: []string{"A"}},
		{sentence: "comments between statements are dropped", script: "-- a\nA;-- b\n# c\nB;", want: []string{"A", "B"}},
		{sentence: "comments inside a statement are kept", script: "A -- it's; x\n B;", want: []string{"A -- it's; x\n B"}},
		{sentence: "two dashes without a blank are no comment", script: "SELECT 5--1;", want: []string{"SELECT 5--1"}},
		{sentence: "quotes hide the delimiter", script: "A ';' \";\" `;`;B;", want: []string{"A ';' \";\" `;`", "B"}},
		{sentence: "doubled and escaped quotes do not end a text", script: `A 'it''s; \'; x';B;`, want: []string{`A 'it''s; \'; x'`, "B"}},
		{sentence: "a backslash escapes nothing between backticks", script: "A `\\`;B;", want: []string{"A `\\`", "B"}},
		{
			sentence: "DELIMITER lets a procedure hold semicolons",
			script:   "DROP P;\nDELIMITER //\nCREATE P BEGIN a; b; END//\ndelimiter ;\nC;\n",
			want:     []string{"DROP P", "CREATE P BEGIN a; b; END", "C"},
		},
		{sentence: "DELIMITER counts at the start of a line only", script: "A DELIMITER x;", want: []string{"A DELIMITER x"}},
		{sentence: "a word that starts with DELIMITER is another word", script: "DELIMITERS;", want: []string{"DELIMITERS"}},
		{sentence: "a statement without an end fails", script: "A;B", fails: true},
		{sentence: "a text without an end fails", script: "A 'b;", fails: true},
		{sentence: "a comment without an end fails", script: "A /* b;", fails: true},
		{sentence: "DELIMITER without one fails", script: "DELIMITER \nA;", fails: true},
	} {
		got, err := split(c.script)
		if (err != nil) != c.fails || !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q\ngot  %q, %v\nwant %q", c.sentence, c.script, got, err, c.want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"A;B;", "DELIMITER //\nA;//\n", "-- x\nA 'b''c\\'' /* d */;", "`\\`;", "DELIMITER", "\xff;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		statements, err := split(script)
		if err != nil {
			return
		}
		const end = "\x00end\x00"
		for _, s := range statements {
			normal(s)
			if strings.Contains(s, end) {
				continue
			}
			again, err := split("DELIMITER " + end + "\n" + s + "\n" + end)
			// A statement that looks like a DELIMITER line can come from one only
			// that did not start its line.
			if _, _, line := delimiterLine(s); line {
				continue
			}
			if err != nil || len(again) != 1 || again[0] != s {
				t.Fatalf("%q is a statement of %q, but on its own it reads as %q, %v", s, script, again, err)
			}
		}
	})
}

func TestNormal(t *testing.T) {
	const want = "BEGIN SET a = 'x  -- y'; END"
	for _, body := range []string{
		want,
		"BEGIN\n\n  SET a = 'x  -- y';\r\n\tEND\n",
		"BEGIN -- why\n  SET a = /* here */ 'x  -- y'; # there\nEND",
	} {
		if got := normal(body); got != want {
			t.Errorf("%q is %q, want %q", body, got, want)
		}
	}
	if got := normal("BEGIN SET a = 'x -- y'; END"); got == want {
		t.Error("blanks within a text do not matter, but should")
	}
}

func TestFiles(t *testing.T) {
	tables, routines, err := objects(nil)
	if err != nil {
		t.Fatal(err)
	}
	names := func(objects []object) (names []string) {
		for _, o := range objects {
			names = append(names, o.name)
		}
		return names
	}
	if got, want := names(tables), []string{"account", "account_address", "account_change", "greylist", "heartbeat", "userprefs", "address", "route"}; !slices.Equal(got, want) {
		t.Errorf("tables are %q, want %q", got, want)
	}
	if got, want := names(routines), []string{"greylist_check", "greylist_expire", "greylist_whitelisted"}; !slices.Equal(got, want) {
		t.Errorf("routines are %q, want %q", got, want)
	}
	for _, table := range tables {
		if n := strings.Count(table.create, engineClause); n != 1 {
			t.Errorf("%s names the engine as %s %d times, so that another one cannot be put in its place", table.file, engineClause, n)
		}
	}
	for _, routine := range routines {
		if body := routine.body(); !strings.HasPrefix(body, "BEGIN\n") || !strings.HasSuffix(body, "END") {
			t.Errorf("the body of %s is %.30q...%q", routine.name, body, body[len(body)-10:])
		}
	}
}
