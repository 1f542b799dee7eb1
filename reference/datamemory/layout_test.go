package datamemory

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
)

var (
	create    = regexp.MustCompile(`(?s)CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\) ENGINE`)
	columnOf  = regexp.MustCompile(`(?m)^  ([a-z_]+) +(VARBINARY|VARCHAR|BINARY|INT UNSIGNED|BIGINT UNSIGNED|TINYINT UNSIGNED|BOOLEAN|ENUM)(?:\((\d+)\))?`)
	primaryOf = regexp.MustCompile(`(?m)^  PRIMARY KEY \(([a-z_, ]+)\)( USING HASH)?`)
)

// TestTablesAreThoseOfTheSchema reads the columns of each CREATE TABLE out of the
// files that are installed.
func TestTablesAreThoseOfTheSchema(t *testing.T) {
	found := 0
	for _, file := range []string{"routing.sql", "greylist.sql", "preferences.sql", "accounts.sql", "heartbeat.sql"} {
		text, err := schema.Text(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range create.FindAllStringSubmatch(text, -1) {
			found++
			primary := primaryOf.FindStringSubmatch(m[2])
			if primary == nil {
				t.Fatalf("%s: table %s: no primary key found", file, m[1])
			}
			want := Table{Name: m[1], Ordered: primary[2] == ""}
			for _, c := range columnOf.FindAllStringSubmatch(m[2], -1) {
				bytes, _ := strconv.Atoi(c[3])
				column := map[string]func() Column{
					"VARBINARY": func() Column { return variable(c[1], bytes) }, "VARCHAR": func() Column { return variable(c[1], bytes) },
					"BINARY": func() Column { return fixed(c[1], bytes) }, "INT UNSIGNED": func() Column { return fixed(c[1], 4) },
					"BIGINT UNSIGNED": func() Column { return fixed(c[1], 8) }, "TINYINT UNSIGNED": func() Column { return fixed(c[1], 1) },
					"BOOLEAN": func() Column { return fixed(c[1], 1) }, "ENUM": func() Column { return fixed(c[1], 1) },
				}[c[2]]()
				for k := range strings.SplitSeq(primary[1], ", ") {
					column.Key = column.Key || k == c[1]
				}
				want.Columns = append(want.Columns, column)
			}
			got, ok := TableNamed(m[1])
			if !ok {
				t.Errorf("%s: table %s is not in Tables", file, m[1])
				continue
			}
			if got.Ordered != want.Ordered || len(got.Columns) != len(want.Columns) {
				t.Errorf("table %s: ordered %t with %d columns, the file has %t with %d", m[1], got.Ordered, len(got.Columns), want.Ordered, len(want.Columns))
				continue
			}
			for i, c := range got.Columns {
				if c != want.Columns[i] {
					t.Errorf("table %s: column %d is %+v, the file has %+v", m[1], i, c, want.Columns[i])
				}
			}
		}
	}
	if found != len(Tables()) {
		t.Errorf("%d tables in the files, %d in Tables", found, len(Tables()))
	}
}

// TestRowIsLaidOutAsNDBDoes holds the sizes of single rows, counted by hand.
func TestRowIsLaidOutAsNDBDoes(t *testing.T) {
	for _, row := range []struct {
		sentence string
		table    string
		lengths  []int
		fixed    int // words
		variable int
		log      int
	}{
		{"a triplet: 6 of header, 4 of key, 3 numbers; logged with 17 words, key, and 4 columns", Greylist, nil, 13, 0, 17 + 4 + 4 + 7},
		{"a route: 6 of header, 5 small columns; 4 offsets (8 bytes), 1+20, 2+6, 2+0 bytes", Routes, []int{20, 6, 0}, 11, 10, 17 + 6 + 8 + 5 + 6 + 2 + 1},
		{"a preference: all of it is variable; 4 offsets, 1+20, 1+8, 2+5 bytes", Preferences, []int{20, 8, 5}, 6, 12, 17 + 6 + 3 + 3 + 6 + 3 + 2},
		{"a heartbeat: a number of 8 bytes; 2 offsets, 1+3 bytes", Heartbeat, []int{3}, 8, 2, 17 + 1 + 2 + 1 + 2},
	} {
		table, _ := TableNamed(row.table)
		if got := table.fixedWords(); got != row.fixed {
			t.Errorf("%s: %d words are fixed, want %d", row.sentence, got, row.fixed)
		}
		if got := table.variableWords(row.lengths); got != row.variable {
			t.Errorf("%s: %d words are variable, want %d", row.sentence, got, row.variable)
		}
		if got := table.writeWords(row.lengths); got != row.log {
			t.Errorf("%s: %d words are logged, want %d", row.sentence, got, row.log)
		}
	}
}

func TestEstimate(t *testing.T) {
	const page = pageBytes
	for _, row := range []struct {
		sentence   string
		table      string
		contents   Contents
		partitions int
		want       Size
	}{
		{"nothing takes nothing", Greylist, Contents{}, 2, Size{}},
		{"one row takes a page of each part that there is", Greylist, Contents{Rows: 1}, 1, Size{page, 0, hashPageBytes, page}},
		{"one row a partition takes a page of each in each", Greylist, Contents{Rows: 4}, 4, Size{4 * page, 0, 4 * hashPageBytes, 4 * page}},
		{"627 triplets fill a page of rows", Greylist, Contents{Rows: 627}, 1, Size{page, 0, hashPageBytes, page}},
		{"one more begins the next", Greylist, Contents{Rows: 628}, 1, Size{2 * page, 0, hashPageBytes, page}},
		{"a table without an ordered index has none", AccountChanges, Contents{Rows: 1, VarWords: 9}, 1, Size{page, page, hashPageBytes, 0}},
		{"many fill their pages", Greylist, Contents{Rows: 627_000}, 1, Size{1000 * page, 0, hashBytes(627_000), page * divUp(divUp(62_700_000, 28*69), 120)}},
	} {
		table, _ := TableNamed(row.table)
		if got := table.Estimate(row.contents, row.partitions); got != row.want {
			t.Errorf("%s: %+v, want %+v", row.sentence, got, row.want)
		}
	}
}

// TestHashIsAsMeasured holds the computed hash against what ndbinfo showed of
// NDB 9.7, whose partitions had these rows on the average: pages of 8 KiB of one.
func TestHashIsAsMeasured(t *testing.T) {
	for _, row := range []struct {
		rows     int64
		measured float64
	}{{63, 1}, {7523, 13.9}, {47_163, 80.8}, {75_483, 136.3}} {
		got := float64(hashBytes(row.rows)) / hashPageBytes
		if off := got/row.measured - 1; off < -0.07 || off > 0.07 {
			t.Errorf("%d rows: %.0f pages computed, %.1f measured: %+.1f %%", row.rows, got, row.measured, 100*off)
		}
	}
}

func TestHashGrowsWithItsRows(t *testing.T) {
	least := float64(hashPageBytes) / bucketsPerPage / bucketRows
	for rows, before := int64(100_000), int64(0); rows < 10_000_000; rows += 37_777 {
		bytes := hashBytes(rows)
		if each := float64(bytes) / float64(rows); each < least || each > 1.3*least {
			t.Errorf("%d rows: %.2f bytes a row, want %.2f to %.2f", rows, each, least, 1.3*least)
		}
		if bytes < before {
			t.Errorf("%d rows take %d bytes, fewer took %d", rows, bytes, before)
		}
		before = bytes
	}
}

func TestTallyCountsEachKindOfRow(t *testing.T) {
	tally := NewTally()
	tally.Route(routing.Row{Address: "a@example.edu", Backend: "cyrus1", Targets: []string{"b@example.org"}})
	tally.Account(accounts.Account{Login: "a@example.edu", Aliases: []string{"x@example.edu", "y@example.edu"}, Backend: "cyrus1"})
	tally.Change("a@example.edu")
	tally.Preference(preferences.Row{User: "a@example.edu", Key: "language", Value: "en_US"})
	tally.Greylisted(3)
	w := func(bytes int) int64 { return int64(words(bytes)) }
	for table, want := range map[string]Contents{
		Routes: {1, w(8 + 14 + 8 + 15), 17 + 4 + (1 + 4) + (1 + 2) + (1 + 4) + 5*2},
		// login, full_name, affiliation, backend, moving_to, targets
		Accounts:         {1, w(14 + 14 + 2 + 1 + 8 + 2 + 2), 17 + 4 + (1 + 4) + (1 + 1) + (1 + 1) + (1 + 2) + (1 + 1) + (1 + 1) + 7*2},
		AccountAddresses: {2, 2 * w(6+14+14), 2 * (17 + 2*4 + 2*(1+4))},
		AccountChanges:   {1, w(6 + 17 + 14), 17 + 5 + (1 + 5) + (1 + 4) + 2*2},
		Preferences:      {1, w(8 + 14 + 9 + 7), 17 + 4 + 3 + (1 + 4) + (1 + 3) + (1 + 2)},
		Greylist:         {3, 0, 3 * 32},
	} {
		got := tally.Contents[table]
		if got != want {
			t.Errorf("%s: %+v, want %+v", table, got, want)
		}
	}
	if got := tally.Contents[Greylist].WriteBytes(); got != 128 {
		t.Errorf("storing a triplet takes %d bytes of the redo log, want 128", got)
	}
	greylist, _ := TableNamed(Greylist)
	if got := greylist.DeleteBytes(0); got != 84 {
		t.Errorf("deleting a triplet takes %d bytes of the redo log, want 84", got)
	}
}

func TestTableOfANameInNdbinfo(t *testing.T) {
	for name, want := range map[string]string{
		"mb/def/route": "route", "mbx/def/route": "", "mb/def/": "", "sys/def/13/PRIMARY": "", "mb/def/NDB$BLOB_1_2": "NDB$BLOB_1_2", "": "", "mb/def/a/b": "",
	} {
		if got, ok := tableOf("mb", name); ok != (want != "") || ok && got != want {
			t.Errorf("%q is of table %q (%t), want %q", name, got, ok, want)
		}
	}
}
