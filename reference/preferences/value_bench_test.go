package preferences_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

// form is one way to store the same rows.
type form struct {
	name  string // in the figures
	table string
}

// BenchmarkPreferenceValue compares the types that prefval could have, and the
// table address with and without SquirrelMail's second index, on a real cluster
// (docs/decisions/0006-preference-values.md). The forms take turns, so that what
// else the machine does meets all of them.
func BenchmarkPreferenceValue(b *testing.B) {
	if testing.Short() {
		b.Skip("needs a real cluster: skipped by -short")
	}
	c := schematest.Install(b, "prefvalue")
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	values := []form{{"varbinary", "userprefs"}, {"blob", "userprefs_blob"}, {"inline", "userprefs_inline"}}
	books := []form{{"one-index", "address"}, {"two-indexes", "address_keyed"}}
	for _, s := range []string{
		// As SquirrelMail has it, and with the longest part of a BLOB that a row of
		// NDB holds.
		"CREATE TABLE userprefs_blob (user VARBINARY(129) NOT NULL, prefkey VARBINARY(65) NOT NULL, prefval BLOB NOT NULL," +
			" PRIMARY KEY (user, prefkey)) ENGINE=NDBCLUSTER PARTITION BY KEY (user)",
		"CREATE TABLE userprefs_inline (user VARBINARY(129) NOT NULL, prefkey VARBINARY(65) NOT NULL," +
			" prefval MEDIUMBLOB NOT NULL COMMENT 'NDB_COLUMN=BLOB_INLINE_SIZE=29000'," +
			" PRIMARY KEY (user, prefkey)) ENGINE=NDBCLUSTER PARTITION BY KEY (user)",
		"CREATE TABLE address_keyed LIKE address",
		"ALTER TABLE address_keyed ADD KEY (firstname, lastname)",
	} {
		if _, err := db.ExecContext(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}

	const short, signature = 12, "___signature___"
	contents := []struct {
		name string
		keys int
		long int // bytes of the signature, 0 for none
	}{
		{"6-short", 6, 0}, {"40-short", 40, 0}, {"6-and-200B", 6, 200}, {"6-and-2000B", 6, 2000}, {"6-and-20000B", 6, 20000},
	}
	for _, content := range contents {
		user := []byte("reads" + content.name)
		for _, f := range values {
			replace := "REPLACE INTO " + f.table + " (user, prefkey, prefval) VALUES (?, ?, ?)"
			for k := range content.keys {
				run(b, db, replace, user, fmt.Appendf(nil, "preference%d", k), text(short))
			}
			if content.long > 0 {
				run(b, db, replace, user, []byte(signature), text(content.long))
			}
		}
		b.Run("read/"+content.name, func(b *testing.B) {
			compare(b, c, b.N, values, nil, func(ctx context.Context, conn *sql.Conn, f form, _ int) error {
				return readAll(ctx, conn, "SELECT prefkey, prefval FROM "+f.table+" WHERE user = ?", user)
			})
		})
	}
	for _, size := range []int{short, 200, 2000, 20000} {
		// More bytes than this would overrun the redo log of a small cluster
		// (error 410), which everybody who writes would feel.
		most := 4_000_000 / size
		user := fmt.Appendf(nil, "writes%d", size)
		replace := func(ctx context.Context, conn *sql.Conn, f form, _ int) error {
			_, err := conn.ExecContext(ctx, "REPLACE INTO "+f.table+" (user, prefkey, prefval) VALUES (?, ?, ?)", user, []byte(signature), text(size))
			return err
		}
		b.Run(fmt.Sprintf("replace/%dB", size), func(b *testing.B) { compare(b, c, most, values, nil, replace) })
		b.Run(fmt.Sprintf("delete/%dB", size), func(b *testing.B) {
			compare(b, c, most, values, replace, func(ctx context.Context, conn *sql.Conn, f form, _ int) error {
				_, err := conn.ExecContext(ctx, "DELETE FROM "+f.table+" WHERE user = ? AND prefkey = ?", user, []byte(signature))
				return err
			})
		})
		memory := perRow(b, c, db, values, min(2000, 2_000_000/size), func(f form, i int) {
			run(b, db, "REPLACE INTO "+f.table+" (user, prefkey, prefval) VALUES (?, ?, ?)",
				fmt.Appendf(nil, "user%06d.%d", i/6, size), fmt.Appendf(nil, "preference%d", i%6), text(size))
		})
		b.Run(fmt.Sprintf("memory/%dB", size), memory)
	}

	const add = "INSERT INTO %s (owner, nickname, firstname, lastname, email, label) VALUES (?, ?, ?, ?, ?, ?)"
	entry := func(owner string, i int) []any {
		return []any{
			[]byte(owner), fmt.Appendf(nil, "nick%d", i), fmt.Appendf(nil, "First%d", i%97), fmt.Appendf(nil, "Lastname%d", i%971),
			fmt.Appendf(nil, "first.lastname%d@example.org", i), []byte(""),
		}
	}
	b.Run("address/insert", func(b *testing.B) {
		compare(b, c, b.N, books, func(ctx context.Context, conn *sql.Conn, f form, i int) error {
			_, err := conn.ExecContext(ctx, "DELETE FROM "+f.table+" WHERE owner = ? AND nickname = ?", []byte("owner"), fmt.Appendf(nil, "nick%d", i))
			return err
		}, func(ctx context.Context, conn *sql.Conn, f form, i int) error {
			_, err := conn.ExecContext(ctx, fmt.Sprintf(add, f.table), entry("owner", i)...)
			return err
		})
	})
	b.Run("address/memory", perRow(b, c, db, books, 2000, func(f form, i int) {
		run(b, db, fmt.Sprintf(add, f.table), entry(fmt.Sprintf("owner%d", i/20), i)...)
	}))
}

// text is n bytes.
func text(n int) []byte { return []byte(strings.Repeat("v", n)) }

func run(b *testing.B, db *sql.DB, statement string, args ...any) {
	b.Helper()
	if _, err := db.ExecContext(b.Context(), statement, args...); err != nil {
		b.Fatal(err)
	}
}

func readAll(ctx context.Context, conn *sql.Conn, query string, args ...any) error {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key, value sql.RawBytes
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
	}
	return rows.Err()
}

// compare reports, for each form, how long do took (median and mean) and how
// often its session waited for the data nodes: for an execution, for the rows of
// a scan and for metadata. What prepare does, in another session, does not count.
// There are b.N rounds, but not more than most.
func compare(b *testing.B, c schematest.Cluster, most int, forms []form, prepare, do func(context.Context, *sql.Conn, form, int) error) {
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	connect := func() *sql.Conn {
		conn, err := db.Conn(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
	aside := connect()
	defer aside.Close()
	var (
		sessions = make([]*sql.Conn, len(forms))
		took     = make([][]time.Duration, len(forms))
		before   = make([]waits, len(forms))
	)
	for i, f := range forms {
		sessions[i] = connect()
		defer sessions[i].Close()
		for round := range 3 { // the session opens the table
			if prepare != nil {
				if err := prepare(b.Context(), aside, f, -1-round); err != nil {
					b.Fatal(err)
				}
			}
			if err := do(b.Context(), sessions[i], f, -1-round); err != nil {
				b.Fatal(err)
			}
		}
		before[i] = waited(b, sessions[i])
	}
	rounds := min(b.N, most)
	for round := range rounds {
		for i, f := range forms {
			if prepare != nil {
				if err := prepare(b.Context(), aside, f, round); err != nil {
					b.Fatal(err)
				}
			}
			start := time.Now()
			if err := do(b.Context(), sessions[i], f, round); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(start))
		}
	}
	b.ReportMetric(0, "ns/op") // of all forms together it means nothing
	for i, f := range forms {
		after := waited(b, sessions[i])
		slices.Sort(took[i])
		var sum time.Duration
		for _, d := range took[i] {
			sum += d
		}
		n := float64(rounds)
		b.ReportMetric(float64(took[i][rounds/2].Microseconds()), f.name+"-p50-µs")
		b.ReportMetric(float64(sum.Microseconds())/n, f.name+"-mean-µs")
		b.ReportMetric(float64(after.exec-before[i].exec)/n, f.name+"-exec-waits")
		b.ReportMetric(float64(after.scan-before[i].scan)/n, f.name+"-scan-waits")
		b.ReportMetric(float64(after.meta-before[i].meta)/n, f.name+"-meta-waits")
	}
}

// waits are a session's counters of waits for the data nodes.
type waits struct{ exec, scan, meta int }

func waited(b *testing.B, conn *sql.Conn) (w waits) {
	rows, err := conn.QueryContext(b.Context(), "SHOW SESSION STATUS LIKE 'Ndb_api_wait_%_count_session'")
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			name string
			n    int
		)
		if err := rows.Scan(&name, &n); err != nil {
			b.Fatal(err)
		}
		switch name {
		case "Ndb_api_wait_exec_complete_count_session":
			w.exec = n
		case "Ndb_api_wait_scan_result_count_session":
			w.scan = n
		case "Ndb_api_wait_meta_request_count_session":
			w.meta = n
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
	return w
}

// perRow stores rows and returns what reports, for each form, how many bytes of
// one data node's memory a row takes, with its indexes and the parts of its BLOB.
func perRow(b *testing.B, c schematest.Cluster, db *sql.DB, forms []form, rows int, store func(f form, i int)) func(*testing.B) {
	used := func(f form) (bytes float64) {
		const replicas = 2 // clustertest.Topology
		name := c.Options.Database + "/def/" + f.table
		err := db.QueryRowContext(b.Context(), "SELECT SUM(fixed_elem_alloc_bytes - fixed_elem_free_bytes + var_elem_alloc_bytes - var_elem_free_bytes"+
			" + hash_index_alloc_bytes) FROM ndbinfo.memory_per_fragment WHERE fq_name = ? OR parent_fq_name = ?", name, name).Scan(&bytes)
		if err != nil {
			b.Fatal(err)
		}
		return bytes / replicas
	}
	figures := make([]float64, len(forms))
	for k, f := range forms {
		before := used(f)
		for i := range rows {
			store(f, i)
		}
		figures[k] = (used(f) - before) / float64(rows)
	}
	return func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		for k, f := range forms {
			b.ReportMetric(figures[k], f.name+"-B/row")
		}
	}
}
