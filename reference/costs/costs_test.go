package costs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference"
	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/preferences"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/schema/schematest"
)

// withClients also lists a client, which the shipped whitelist does not.
func withClients(o *schema.Options) {
	w := greylist.DefaultWhitelist()
	w.ClientNames = []string{"listed.probe.invalid"}
	o.Whitelist = &w
}

func TestEveryDecisionIsReached(t *testing.T) {
	o := schema.Options{Database: "d"}
	withClients(&o)
	made, _ := all(o)
	names := map[reference.Path][]string{}
	for _, d := range made[0] {
		names[d.path] = append(names[d.path], d.name)
	}
	for path, wanted := range map[reference.Path][]string{
		reference.Routing:     {routing.Local.String(), routing.Unknown.String(), routing.Redirect.String(), routing.Suspended.String(), routing.Closed.String(), routing.Moving.String(), routing.Foreign.String(), "redirect, copy kept", "catch-all"},
		reference.Greylist:    {"new", "early", "pass, first credit", "pass, no credit within the hour", "pass again", "auto", "auto, written once an hour", "client listed", "recipient listed"},
		reference.Preferences: {"read none", "read some", "set", "replace", "remove"},
	} {
		for _, name := range wanted {
			if !slices.Contains(names[path], name) {
				t.Errorf("%s lacks %q: %q", path, name, names[path])
			}
		}
	}
	for _, action := range accounts.Actions {
		if name := strings.ReplaceAll(action.String(), "_", " "); !slices.Contains(names[reference.Accounts], name) {
			t.Errorf("accounts lacks %q", name)
		}
	}
}

func TestRowsAreOfNobodyElse(t *testing.T) {
	o := schema.Options{Database: "d"}
	withClients(&o)
	made, used := all(o)
	removed := map[string]bool{}
	for _, key := range slices.Concat(used.addresses, used.greylist) {
		removed[string(key)] = true
	}
	seenAddress, seenClient := map[string]bool{}, map[netip.Addr]bool{}
	address := func(a string, user bool) {
		if !removed[a] {
			t.Errorf("%s is not removed", a)
		}
		if !strings.HasSuffix(a, "costs.probe.invalid") {
			t.Errorf("%s is of somebody else's domain", a)
		}
		if user && seenAddress[a] {
			t.Errorf("%s is of two decisions", a)
		}
		seenAddress[a] = true
	}
	for repetition, decisions := range made {
		if len(decisions) != len(made[0]) {
			t.Fatalf("repetition %d has %d decisions, the first %d", repetition, len(decisions), len(made[0]))
		}
		for i, d := range decisions {
			first := made[0][i]
			if d.name != first.name || d.path != first.path || sizes(d.stored) != sizes(first.stored) {
				t.Errorf("%s/%s: repetition %d differs: %s and %s", d.path, d.name, repetition, sizes(d.stored), sizes(first.stored))
			}
			for _, r := range d.stored.routes {
				address(r.Address, true)
			}
			for _, a := range d.stored.accounts {
				for j, r := range a.Rows() {
					address(r.Address, j == 0)
				}
			}
			for _, r := range d.stored.preferences {
				address(r.User, false)
			}
			for _, r := range d.stored.triplets {
				key := greylist.DefaultPolicy().TripletKey(r.Client, r.ClientName, r.Sender, r.Recipient)
				if !removed[string(key[:])] || !netip.MustParsePrefix("192.0.2.0/24").Contains(r.Client) {
					t.Errorf("a triplet of %s is not removed, or of somebody else", r.Client)
				}
			}
			for _, r := range d.stored.clients {
				key := greylist.ClientKey(r.Client)
				if !removed[string(key[:])] || seenClient[r.Client] {
					t.Errorf("client %s is not removed, or of two decisions", r.Client)
				}
				seenClient[r.Client] = true
			}
		}
	}
}

// sizes are the lengths of all that is stored: bytes on the wire are to be the
// same at each repetition.
func sizes(s stored) string {
	var b strings.Builder
	for _, r := range s.routes {
		fmt.Fprint(&b, len(r.Address), len(routing.JoinTargets(r.Targets)), " ")
	}
	for _, a := range s.accounts {
		fmt.Fprint(&b, len(a.Login), len(strings.Join(a.Aliases, ",")), " ")
	}
	for _, r := range s.preferences {
		fmt.Fprint(&b, len(r.User), len(r.Key), len(r.Value), " ")
	}
	for _, r := range s.triplets {
		fmt.Fprint(&b, len(r.Client.String()), len(r.Sender), len(r.Recipient), " ")
	}
	for _, r := range s.clients {
		fmt.Fprint(&b, len(r.Client.String()), r.Credits, " ")
	}
	return b.String()
}

// TestPolicies leaves out what a policy cannot reach.
func TestPolicies(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*greylist.Policy)
		without  []string
	}{
		{"without an auto-whitelist nobody has credits", func(p *greylist.Policy) { p.AutoWhitelist = 0 },
			[]string{"auto", "auto, written once an hour", "pass, first credit", "pass, another credit", "pass, no credit within the hour"}},
		{"one credit is enough", func(p *greylist.Policy) { p.AutoWhitelist = 1 }, []string{"pass, another credit", "pass, no credit within the hour"}},
		{"within one second nobody is early", func(p *greylist.Policy) { p.Delay = time.Second }, []string{"early"}},
	} {
		policy := greylist.DefaultPolicy()
		before := greylistNames(policy)
		row.change(&policy)
		after := greylistNames(policy)
		var gone []string
		for _, name := range before {
			if !slices.Contains(after, name) {
				gone = append(gone, name)
			}
		}
		slices.Sort(gone)
		slices.Sort(row.without)
		if !slices.Equal(gone, row.without) {
			t.Errorf("%s: %q are left out, want %q", row.sentence, gone, row.without)
		}
	}
}

func greylistNames(p greylist.Policy) (names []string) {
	made, _ := all(schema.Options{Database: "d", Greylist: &p})
	for _, d := range made[0] {
		if d.path == reference.Greylist {
			names = append(names, d.name)
		}
	}
	return names
}

func TestSummed(t *testing.T) {
	d := decision{path: reference.Routing, name: "local"}
	c, err := summed(d, []counts{{"ndb_round_trips": 1}, {"ndb_round_trips": 1}})
	if err != nil || c.Exact["ndb_round_trips"] != 1 || c.Repetitions != 2 {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = summed(d, []counts{{"ndb_round_trips": 1}, {"ndb_round_trips": 2}})
	if err == nil || !strings.Contains(err.Error(), "routing/local costs from 1 to 2 ndb_round_trips") {
		t.Errorf("got %v", err)
	}
}

// probe counts through one SQL node and looks for what was left behind.
func probe(t *testing.T, c schematest.Cluster, node int) []Cost {
	t.Helper()
	began := time.Now()
	found, err := Probe(t.Context(), c.Admins[node], c.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d decisions through %s in %v", len(found), c.Nodes[node].Name, time.Since(began).Round(time.Millisecond))
	for _, table := range []string{"route", "account", "account_address", "account_change", "userprefs", "address", "greylist"} {
		var rows int
		if err := c.Admins[node].DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+c.Options.Database+"."+table).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("%d rows are left in %s (%v)", rows, table, err)
		}
	}
	return found
}

func byName(found []Cost) map[string]map[string]int64 {
	table := map[string]map[string]int64{}
	for _, c := range found {
		table[c.Path.String()+"/"+c.Decision] = c.Exact
	}
	return table
}

// differences lists the exact counters in which two probes differ.
func differences(a, b []Cost) (found []string) {
	before, after := byName(a), byName(b)
	for _, decision := range slices.Sorted(maps.Keys(before)) {
		for _, counter := range slices.Sorted(maps.Keys(before[decision])) {
			if x, y := before[decision][counter], after[decision][counter]; x != y {
				found = append(found, fmt.Sprintf("%s %s %d %d", decision, counter, x, y))
			}
		}
	}
	return found
}

func TestProbe(t *testing.T) {
	c := schematest.Install(t, "costs", withClients)
	first := probe(t, c, 0)
	if made, _ := all(c.Options); len(first) != len(made[0]) {
		t.Errorf("%d decisions were counted, want %d", len(first), len(made[0]))
	}
	for _, f := range first {
		t.Logf("%-12s %-32s %v %v", f.Path, f.Decision, f.Exact, f.Noisy)
	}
	for again := range 4 {
		node := again % len(c.Admins)
		if d := differences(first, probe(t, c, node)); len(d) > 0 {
			t.Errorf("through %s again: %s", c.Nodes[node].Name, strings.Join(d, "\n"))
		}
	}
	table := byName(first)
	for _, p := range price {
		got := table[p.decision]
		if got["ndb_round_trips"] != p.trips || got["ndb_pruned_scans"] != p.scans || got["ndb_range_scans"] != p.scans || got["ndb_table_scans"] != 0 {
			t.Errorf("%s takes %d round trips and %d scans, %d of them of one partition; want %d and %d of one partition",
				p.decision, got["ndb_round_trips"], got["ndb_range_scans"]+got["ndb_table_scans"], got["ndb_pruned_scans"], p.trips, p.scans)
		}
	}
	if len(price) != len(first) {
		t.Errorf("%d decisions have a price, want %d", len(price), len(first))
	}
}

// price is what each decision takes of the data nodes: round trips, and scans of
// one partition besides. It is the design's, and what the schema's files say.
var price = []struct {
	decision     string
	trips, scans int64
}{
	// One read by primary key, another one of the domain's row for a miss.
	{"routing/local", 1, 0},
	{"routing/redirect", 1, 0},
	{"routing/redirect, copy kept", 1, 0},
	{"routing/alias", 1, 0},
	{"routing/list", 1, 0},
	{"routing/suspended", 1, 0},
	{"routing/closed", 1, 0},
	{"routing/moving", 1, 0},
	{"routing/unknown", 2, 0},
	{"routing/catch-all", 2, 0},
	{"routing/other name of a domain", 2, 0},
	{"routing/foreign", 2, 0},
	// A read of both rows, and a commit that takes the write along.
	{"greylist/new", 2, 0},
	{"greylist/early", 2, 0},
	{"greylist/new after the retry window", 2, 0},
	{"greylist/pass, first credit", 2, 0},
	{"greylist/pass, another credit", 2, 0},
	{"greylist/pass, no credit within the hour", 2, 0},
	{"greylist/pass again", 2, 0},
	{"greylist/auto", 1, 0},
	{"greylist/auto, written once an hour", 2, 0},
	{"greylist/client listed", 0, 0},
	{"greylist/recipient listed", 0, 0},
	{"preferences/read none", 0, 1},
	{"preferences/read some", 0, 1},
	{"preferences/set", 2, 0},
	{"preferences/replace", 2, 0},
	{"preferences/remove", 1, 0},
	{"accounts/create", 5, 2},
	{"accounts/rename", 14, 5}, // of these four for two preferences
	{"accounts/rename, old login kept", 16, 5},
	{"accounts/suspend", 7, 1},
	{"accounts/suspend, with an alias", 9, 1},
	{"accounts/resume", 7, 1},
	{"accounts/close", 7, 1},
	{"accounts/add alias", 7, 1},
	{"accounts/remove alias", 7, 1},
	{"accounts/set forward", 7, 1},
	{"accounts/begin move", 7, 1},
	{"accounts/finish move", 7, 1},
	{"accounts/abort move", 7, 1},
	{"accounts/refused, no such account", 3, 0},
	{"accounts/refused, login taken", 3, 1},
	{"accounts/refused, closed", 3, 1},
	{"accounts/made before", 4, 0},
	{"accounts/read", 2, 1},
	{"accounts/read, no such account", 2, 0},
}

// TestOneMoreSelectShows changes the greylist's procedure alone.
func TestOneMoreSelectShows(t *testing.T) {
	c := schematest.Install(t, "costsmore", withClients)
	before := probe(t, c, 0)
	script, err := os.ReadFile("../schema/greylist.sql")
	if err != nil {
		t.Fatal(err)
	}
	text := string(script)
	begin := strings.Index(text, "CREATE PROCEDURE greylist_check")
	procedure := text[begin : begin+strings.Index(text[begin:], "END//")+len("END")]
	const where = "    IF auto_credits > 0 AND credits_n >= auto_credits THEN"
	changed := strings.Replace(procedure, where, "    SELECT COUNT(*) INTO at_sign FROM greylist WHERE k = triplet_k;\n"+where, 1)
	if changed == procedure {
		t.Fatal("greylist.sql does not have the line any more before which the SELECT was to go")
	}
	conn := c.Conn(t, 0)
	for _, statement := range []string{"DROP PROCEDURE greylist_check", changed} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	after := probe(t, c, 0)

	reached := map[string]bool{}
	for _, f := range before {
		listed := f.Decision == "client listed" || f.Decision == "recipient listed"
		reached[f.Path.String()+"/"+f.Decision] = f.Path == reference.Greylist && !listed
	}
	was, is := byName(before), byName(after)
	for decision, reaches := range reached {
		more := counts(is[decision]).less(was[decision])
		if !reaches {
			if !maps.Equal(was[decision], is[decision]) {
				t.Errorf("%s does not reach the SELECT, and costs %v more", decision, more)
			}
			continue
		}
		for counter, n := range map[string]int64{"ndb_round_trips": 1, "ndb_pk_ops": 1, "selects": 1, statements: 1, "questions": 0, "wire_bytes_in": 0, "wire_bytes_out": 0, "replaces": 0} {
			if more[counter] != n {
				t.Errorf("%s costs %d more %s, want %d", decision, more[counter], counter, n)
			}
		}
	}
	t.Log(strings.Join(differences(before, after), "\n"))
}

// TestProbeRefuses: what is measured must be the decision that it is called.
func TestProbeRefuses(t *testing.T) {
	c := schematest.Install(t, "costswrong")
	never := greylist.DefaultPolicy()
	never.Delay = time.Hour // is not what is installed
	wrong := c.Options
	wrong.Greylist = &never
	if _, err := Probe(t.Context(), c.Admins[0], wrong); err == nil || !strings.Contains(err.Error(), "greylist/") || !strings.Contains(err.Error(), c.Admins[0].Name) {
		t.Errorf("another policy is installed: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Probe(ctx, c.Admins[0], c.Options); err == nil {
		t.Error("it goes on after an interrupt")
	}
	// What a probe has left that was killed is no hindrance.
	made, _ := all(c.Options)
	loader, err := schema.NewLoader(c.Admins, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	if err := load(t.Context(), loader, made); err != nil {
		t.Fatal(err)
	}
	if err := loader.LoadPreferences(t.Context(), []preferences.Row{{User: "bert@example.edu", Key: "theme", Value: "dark"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Probe(t.Context(), c.Admins[1], c.Options); err != nil {
		t.Error(err)
	}
	got, err := preferences.SQL{DB: c.Conn(t, 0)}.Read(t.Context(), "bert@example.edu")
	if err != nil || !reflect.DeepEqual(got, map[string]string{"theme": "dark"}) {
		t.Errorf("others' rows are %v now (%v)", got, err)
	}
}
