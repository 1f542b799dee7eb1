package webmail_test

import (
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mailbench/mailbench/reference/preferences"
)

var (
	tableStart = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS (\w+) \($`)
	column     = regexp.MustCompile(`^  (\w+) +VAR(?:BINARY|CHAR)\((\d+)\) .*CHECK \(LENGTH\((\w+)\) (?:BETWEEN 1 AND|<=) (\d+)\)`)
	setting    = regexp.MustCompile(`(?m)^\$(?:config\['(\w+)'\]|(\w+)) *= *(?:'([^'\n]*)'|"([^"\n]*)"|(\d+));`)
)

// sizes reads how many bytes each column of each table of the schema takes.
func sizes(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	table := ""
	for _, line := range strings.Split(read(t, "../schema/preferences.sql"), "\n") {
		if m := tableStart.FindStringSubmatch(line); m != nil {
			table = m[1]
			continue
		}
		m := column.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		width, size := number(t, m[2]), number(t, m[4])
		if m[1] != m[3] || width != size+1 {
			t.Errorf("%s.%s has %d bytes and a CHECK of %s for %d; it must be one byte wider than its own CHECK", table, m[1], width, m[3], size)
		}
		found[table+"."+m[1]] = size
	}
	return found
}

// settings reads the PHP variables that a file sets to a text or a number.
func settings(t *testing.T, file string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range setting.FindAllStringSubmatch(read(t, file), -1) {
		found[m[1]+m[2]] = m[3] + m[4] + m[5]
	}
	return found
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConfiguration holds names and sizes of the configurations and of the Go
// clients against the tables.
func TestConfiguration(t *testing.T) {
	sizes := sizes(t)
	if want := map[string]int{
		"userprefs.user": preferences.MaxUser, "userprefs.prefkey": preferences.MaxKey, "userprefs.prefval": preferences.MaxStored,
		"address.owner": preferences.MaxUser, "address.nickname": preferences.MaxNickname, "address.firstname": preferences.MaxName,
		"address.lastname": preferences.MaxName, "address.email": preferences.MaxName, "address.label": preferences.MaxLabel,
	}; !maps.Equal(sizes, want) {
		t.Errorf("the tables have %v, the Go clients %v", sizes, want)
	}

	s := settings(t, "squirrelmail/config_local.php")
	for name, column := range map[string]string{
		"prefs_user": s["prefs_table"] + "." + s["prefs_user_field"],
		"prefs_key":  s["prefs_table"] + "." + s["prefs_key_field"],
		"prefs_val":  s["prefs_table"] + "." + s["prefs_val_field"],
	} {
		if size, ok := sizes[column]; !ok || s[name+"_size"] != strconv.Itoa(size) {
			t.Errorf("SquirrelMail's $%s_size is %q for %s, which takes %d bytes", name, s[name+"_size"], column, size)
		}
	}
	if table := s["addrbook_table"]; sizes[table+".owner"] == 0 {
		t.Errorf("SquirrelMail's $addrbook_table is %q, which the schema lacks", table)
	}
	r := settings(t, "roundcube/plugins/squirrelmail_usercopy/config.inc.php")
	if table := r["squirrelmail_userprefs_table"]; sizes[table+".prefval"] == 0 {
		t.Errorf("the plugin's userprefs table is %q, which the schema lacks", table)
	}
	if table := r["squirrelmail_address_table"]; sizes[table+".owner"] == 0 {
		t.Errorf("the plugin's address table is %q, which the schema lacks", table)
	}
	if r["squirrelmail_driver"] != "sql" || !strings.HasSuffix(r["squirrelmail_dsn"], "?charset=binary&timeout=2") {
		t.Errorf("the plugin reads with driver %q from %q", r["squirrelmail_driver"], r["squirrelmail_dsn"])
	}
}

// TestSquirrelMailDSN takes the DSN apart as SquirrelMail does before it hands it
// to PDO (functions/db_prefs.php, open).
func TestSquirrelMailDSN(t *testing.T) {
	s := settings(t, "squirrelmail/config_local.php")
	for _, c := range []struct{ node, want string }{
		{"192.0.2.31", "mysql:host=192.0.2.31;dbname=mail;charset=binary"},
		{"192.0.2.31:3307", "mysql:host=192.0.2.31;port=3307;dbname=mail;charset=binary"},
	} {
		dsn := strings.NewReplacer("$mailbench_user", s["mailbench_user"], "$mailbench_password", s["mailbench_password"],
			"$mailbench_node", c.node, "$mailbench_database", s["mailbench_database"]).Replace(s["prefs_dsn"])
		m := regexp.MustCompile(`(?i)^(.+)://(.+):(.+)@(.+)/(.+)$`).FindStringSubmatch(dsn)
		if m == nil {
			t.Fatalf("SquirrelMail cannot parse %s", dsn)
		}
		host, port, hasPort := strings.Cut(m[4], ":")
		database, _, _ := strings.Cut(m[5], "?")
		got := m[1] + ":host=" + host
		if hasPort {
			got += ";port=" + port
		}
		got += ";dbname=" + database
		if got != c.want || m[2] != s["mailbench_user"] || m[3] != s["mailbench_password"] {
			t.Errorf("from %s SquirrelMail makes %s for %q with password %q, want %s", dsn, got, m[2], m[3], c.want)
		}
	}
}
