package exim_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/sqlnode"
	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/assert"
)

// oddPassword has in it what macros.conf can carry only as README.md says.
const oddPassword = `se;cret "'#`

// documented are the statements by which README.md makes Exim's account, for an
// account and a database of the test's own.
func documented(t *testing.T, account sqlnode.Account) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	assert.NilError(t, err)
	_, block, found := strings.Cut(string(text), "```sql\n")
	block, _, ended := strings.Cut(block, "```")
	if !found || !ended {
		t.Fatal("README.md has no block of SQL")
	}
	password := "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(account.Password) + "'"
	var statements []string
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		s, _, complete := strings.Cut(strings.TrimSpace(line), ";")
		// A stored account with a right on a routine kills the other SQL nodes.
		if !complete || regexp.MustCompile(`(?i)\bON +(PROCEDURE|FUNCTION)\b`).MatchString(s) {
			t.Fatalf("README.md has %q, which must be one whole statement and name no routine", line)
		}
		s = strings.ReplaceAll(s, "exim@'192.0.2.%'", "'"+account.User+"'@'%'")
		s = strings.Replace(s, "'...'", password, 1)
		statements = append(statements, strings.Replace(s, " mail.", " "+account.Database+".", 1))
	}
	if all := strings.Join(statements, "\n"); strings.Contains(all, "192.0.2") || strings.Contains(all, "...") || strings.Contains(all, "mail.route") {
		t.Fatalf("the statements of README.md are not for the test's account:\n%s", all)
	}
	return statements
}

// documentedAccount makes an account as README.md says, with no right but those,
// and returns it once every SQL node has it. It goes when the test ends.
func documentedAccount(t *testing.T, c *cluster.Cluster, admin schema.Admin, database string) sqlnode.Account {
	t.Helper()
	account := sqlnode.Account{User: database, Password: oddPassword, Database: database}
	drop := func(ctx context.Context) error {
		_, err := admin.DB.ExecContext(ctx, "DROP USER IF EXISTS '"+account.User+"'@'%'")
		return err
	}
	assert.NilError(t, drop(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := drop(ctx); err != nil {
			t.Errorf("drop the test's account: %v", err)
		}
	})
	for _, s := range documented(t, account) {
		if _, err := admin.DB.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	await(t, "every SQL node has Exim's account and its rights", func() error { return mayAll(t.Context(), c, account) })
	return account
}

// mayAll does as the account what Exim does, on every SQL node.
func mayAll(ctx context.Context, c *cluster.Cluster, account sqlnode.Account) error {
	for _, n := range c.Topology().ByRole(topology.SQL) {
		if err := mayOn(ctx, c.Address(n), account); err != nil {
			return fmt.Errorf("on %s: %w", n.Name, err)
		}
	}
	return nil
}

func mayOn(ctx context.Context, address string, account sqlnode.Account) error {
	db := sqlnode.Open(address, account)
	defer db.Close()
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM route WHERE address = 'nobody@example.org'").Scan(&rows); err != nil {
		return err
	}
	// Of a client that no test is: a first try, and one that passes.
	for _, now := range []int{1000, 2000} {
		if _, err := db.ExecContext(ctx, "CALL greylist_check('203.0.113.9', _binary'', _binary'a@peer.test', _binary'b@example.org', ?)", now); err != nil {
			return err
		}
	}
	return nil
}

// TestEximAccount: the account that README.md describes may do what it has to on
// every SQL node, and no more, also when the routines have been replaced.
func TestEximAccount(t *testing.T) {
	c := clustertest.Shared(t)
	m := install(t, c, "exim_account")
	account := documentedAccount(t, c, m.Admins[0], m.database)
	for range 2 { // Install drops the routines and creates them, as the files do by hand
		assert.NilError(t, schema.Install(t.Context(), m.Admins, schema.Options{Database: m.database}))
		if err := mayAll(t.Context(), c, account); err != nil {
			t.Errorf("with routines that were replaced: %v", err)
		}
	}
	for _, n := range c.Topology().ByRole(topology.SQL) {
		db := sqlnode.Open(c.Address(n), account)
		defer db.Close()
		for _, statement := range []string{
			"UPDATE route SET backend = 'mine'", "DELETE FROM route", "SELECT login FROM account", "SELECT user FROM userprefs",
			"DROP PROCEDURE greylist_check", "CREATE TABLE mine (n INT)",
		} {
			if _, err := db.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "denied") {
				t.Errorf("%s as Exim's account on %s: %v, want that it is denied", statement, n.Name, err)
			}
		}
	}
}

// macros are the settings of macros.conf, as README.md has them, for an account
// and the SQL nodes of a cluster.
func macros(t *testing.T, c *cluster.Cluster, account sqlnode.Account) string {
	t.Helper()
	text := fmt.Sprintf("SQL_USER = %s\nSQL_PASSWORD = %s\nSQL_DATABASE = %s\n",
		account.User, strings.ReplaceAll(account.Password, ";", ";;"), account.Database)
	for i, n := range c.Topology().ByRole(topology.SQL) {
		host, _, err := net.SplitHostPort(c.Address(n))
		assert.NilError(t, err)
		text += fmt.Sprintf("SQL_NODE_%d = %s\n", i+1, host)
	}
	return text
}
