package schema_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
	"github.com/mailbench/mailbench/reference/sqlnode"
)

func TestInstalled(t *testing.T) {
	c := schematest.Install(t, "install")
	if err := schema.Install(t.Context(), c.Admins, c.Options); err != nil {
		t.Errorf("installing twice: %v", err)
	}
	for _, admin := range c.Admins {
		if missing, err := schema.Verify(t.Context(), admin, c.Options); err != nil || missing != nil {
			t.Errorf("%s lacks %v after Install (%v)", admin.Name, missing, err)
		}
		for range 2 {
			if err := schema.TakesWrites(t.Context(), admin, c.Options); err != nil {
				t.Error(err)
			}
		}
	}
	nowhere := schema.Options{Database: "mailbench_nowhere"}
	err := schema.TakesWrites(t.Context(), c.Admins[0], nowhere)
	if class := ndberr.Classify(err).Class; class != ndberr.NotReady {
		t.Errorf("a write without a table ends with %v (%v)", err, class)
	}

	var engines string
	err = c.Admins[0].DB.QueryRow("SELECT GROUP_CONCAT(DISTINCT engine) FROM information_schema.tables WHERE table_schema = ?",
		c.Options.Database).Scan(&engines)
	if err != nil || engines != "ndbcluster" {
		t.Errorf("the tables are kept by %q (%v)", engines, err)
	}
}

// TestOptionsReplace installs other values than those of the files, and holds
// that Verify expects them.
func TestOptionsReplace(t *testing.T) {
	policy := greylist.DefaultPolicy()
	policy.Delay = time.Hour
	c := schematest.Install(t, "replace", func(o *schema.Options) {
		o.Greylist, o.Whitelist = &policy, &greylist.Whitelist{ClientNames: []string{"example.org"}}
	})
	asInstalled, asShipped := c.Options, schema.Options{Database: c.Options.Database}
	if missing, err := schema.Verify(t.Context(), c.Admins[0], asInstalled); err != nil || missing != nil {
		t.Errorf("what was installed is missing: %v (%v)", missing, err)
	}
	const want = "[routine greylist_check differs from greylist.sql routine greylist_expire differs from greylist.sql " +
		"routine greylist_whitelisted differs from greylist_whitelist.sql]"
	if missing, err := schema.Verify(t.Context(), c.Admins[0], asShipped); err != nil || fmt.Sprint(missing) != want {
		t.Errorf("the files differ by %v (%v), want %s", missing, err, want)
	}
	answer, err := greylist.SQL{DB: c.Conn(t, 0)}.Check(t.Context(), greylist.Request{Client: netip.MustParseAddr("192.0.2.1"), Now: time.Unix(1, 0)})
	if err != nil || answer.Wait != time.Hour {
		t.Errorf("the delay is %v, want 1h (%v)", answer.Wait, err)
	}
	policy.Delay = 0
	if err := schema.Install(t.Context(), c.Admins, c.Options); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a policy that is not valid was installed: %v", err)
	}
}

func TestRepair(t *testing.T) {
	c := schematest.Install(t, "repair")
	node := c.Admins[len(c.Admins)-1]
	for _, broken := range []struct {
		sentence string
		create   string
		want     string
	}{
		{"a routine that is gone is missing", "", "[routine greylist_check of greylist.sql is missing]"},
		{
			"another routine of the same name differs",
			"CREATE PROCEDURE %s.greylist_check() BEGIN SELECT 'pass', 0; END",
			"[routine greylist_check differs from greylist.sql]",
		},
	} {
		if _, err := node.DB.Exec("DROP PROCEDURE " + c.Options.Database + ".greylist_check"); err != nil {
			t.Fatal(err)
		}
		if broken.create != "" {
			if _, err := node.DB.Exec(fmt.Sprintf(broken.create, c.Options.Database)); err != nil {
				t.Fatal(err)
			}
		}
		if missing, err := schema.Verify(t.Context(), node, c.Options); err != nil || fmt.Sprint(missing) != broken.want {
			t.Errorf("%s: got %v (%v), want %s", broken.sentence, missing, err, broken.want)
		}
		if err := schema.Repair(t.Context(), node, c.Options); err != nil {
			t.Errorf("%s: %v", broken.sentence, err)
		}
		if missing, err := schema.Verify(t.Context(), node, c.Options); err != nil || missing != nil {
			t.Errorf("%s: %v still missing after Repair (%v)", broken.sentence, missing, err)
		}
	}
}

// TestLoad reports how fast a population is loaded; it asserts only that all of
// it arrives.
func TestLoad(t *testing.T) {
	c := schematest.Install(t, "load")
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	const accounts, each = 2000, 6
	now := time.Unix(1_000_000, 0)
	var (
		routes   []routing.Row
		prefs    []preferences.Row
		triplets []greylist.Row
	)
	for i := range accounts {
		user := fmt.Sprintf("user%06d", i)
		routes = append(routes, routing.Row{Address: user + "@example.edu", Backend: fmt.Sprintf("cyrus%d", i%10)})
		for k := range each {
			prefs = append(prefs, preferences.Row{User: user, Key: fmt.Sprintf("key%d", k), Value: strings.Repeat("v", 10+20*k)})
		}
		triplets = append(triplets, greylist.Row{
			Client: netip.MustParseAddr("192.0.2.1"), Sender: "s@example.org", Recipient: user + "@example.edu",
			First: now, Last: now.Add(300 * time.Second),
		})
	}
	timed := func(table string, n int, err func() error) {
		start := time.Now()
		if err := err(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d rows, %.0f rows/s", table, n, float64(n)/time.Since(start).Seconds())
		var stored int
		if err := c.Admins[0].DB.QueryRow("SELECT COUNT(*) FROM " + c.Options.Database + "." + table).Scan(&stored); err != nil || stored != n {
			t.Errorf("%s has %d rows, want %d (%v)", table, stored, n, err)
		}
	}
	for range 2 { // the second time replaces what the first has stored
		timed("route", len(routes), func() error { return loader.LoadRoutes(t.Context(), routes) })
		timed("userprefs", len(prefs), func() error { return loader.LoadPreferences(t.Context(), prefs) })
		timed("greylist", len(triplets), func() error { return loader.LoadTriplets(t.Context(), triplets) })
	}

	// The paths find what was loaded.
	db := sqlnode.Open(c.Addresses[0], c.Account)
	defer db.Close()
	route, err := routing.SQL{DB: db}.Route(t.Context(), routes[7].Address)
	want := routing.Answer{Verdict: routing.Local, Backend: "cyrus7", Greylist: true, SpamThreshold: routing.DefaultSpamThreshold}
	if err != nil || !reflect.DeepEqual(route, want) {
		t.Errorf("route is %v, want %v (%v)", route, want, err)
	}
	read, err := preferences.SQL{DB: db}.Read(t.Context(), "user000007")
	if err != nil || len(read) != each || read["key5"] != strings.Repeat("v", 110) {
		t.Errorf("preferences are %v (%v)", read, err)
	}
	answer, err := greylist.SQL{DB: db}.Check(t.Context(), greylist.Request{
		Client: netip.MustParseAddr("192.0.2.99"), Sender: "S@example.org", Recipient: triplets[7].Recipient, Now: now.Add(time.Hour),
	})
	if err != nil || answer.Verdict != greylist.Pass {
		t.Errorf("a triplet that had passed is %v (%v)", answer, err)
	}
}
