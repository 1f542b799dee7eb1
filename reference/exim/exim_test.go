package exim_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailbench/mailbench/reference/accounts"
	"github.com/mailbench/mailbench/reference/cluster"
	"github.com/mailbench/mailbench/reference/cluster/clustertest"
	"github.com/mailbench/mailbench/reference/cluster/programstest"
	"github.com/mailbench/mailbench/reference/routing"
	"github.com/mailbench/mailbench/reference/schema"
	"github.com/mailbench/mailbench/reference/topology"
	"gotest.tools/v3/assert"
)

// mta is real Exim with the shipped configuration, and the backends behind it.
type mta struct {
	*programstest.Container
	Admins   []schema.Admin
	database string
	t        testing.TB
}

// install makes a database of the test's own, mailbench_name.
func install(t *testing.T, c *cluster.Cluster, name string) *mta {
	t.Helper()
	m := &mta{database: "mailbench_" + name, t: t}
	for _, n := range c.Topology().ByRole(topology.SQL) {
		m.Admins = append(m.Admins, clustertest.Admin(t, c, n))
	}
	o := schema.Options{Database: m.database}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	drop := func(ctx context.Context) {
		for _, a := range m.Admins {
			if _, err := a.DB.ExecContext(ctx, "DROP DATABASE IF EXISTS "+o.Database); err != nil {
				t.Errorf("drop the test's database on %s: %v", a.Name, err)
			}
		}
	}
	drop(ctx)
	assert.NilError(t, schema.Install(ctx, m.Admins, o))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		drop(ctx)
	})
	return m
}

// start runs Exim against a database of the test's own, mailbench_name, with the
// account that README.md describes. changes replace parts of exim.conf, pair by
// pair.
func start(t *testing.T, c *cluster.Cluster, name string, changes ...string) *mta {
	t.Helper()
	m := install(t, c, name)
	account := documentedAccount(t, c, m.Admins[0], m.database)
	m.Container = programstest.Start(t, c, programstest.Options{Name: "exim", Hosts: backends()})
	settings := macros(t, c, account) + "OUR_DOMAIN = calmail.example\n" +
		"OUTBOUND_HOST = outside.test::" + sinkPort + "\n" +
		// The clock is moved instead of waited for.
		"GREYLIST_NOW = $tod_epoch + ${readfile{/etc/exim4/ahead}}\n"
	m.Write(t, "/etc/exim4/macros.conf", 0o644, []byte(settings))
	for from, to := range map[string]string{"exim.conf": "/etc/exim4/exim4.conf", "my.cnf": "/etc/mysql/conf.d/exim.cnf"} {
		content, err := os.ReadFile(from)
		assert.NilError(t, err)
		if from == "exim.conf" {
			for i := 0; i < len(changes); i += 2 {
				assert.Equal(t, strings.Count(string(content), changes[i]), 1)
			}
			content = []byte(strings.NewReplacer(changes...).Replace(string(content)))
		}
		m.Write(t, to, 0o644, content)
	}
	m.ahead(0)
	// The peer's name, as name servers would tell it.
	m.Run(t, "sh", "-c", fmt.Sprintf("echo %s peer.test >>/etc/hosts", m.Gateway))
	startSink(t, m.Container)
	m.Run(t, "exim4", "-bd")
	t.Cleanup(func() {
		if t.Failed() {
			output, err := m.Exec(context.Background(), "sh", "-c", "tail -n 40 /var/log/exim4/*log; exim4 -bp")
			t.Logf("%v\n%s%s", err, output.Stdout, output.Stderr)
		}
	})
	await(t, "Exim listens", func() error {
		conn, err := net.DialTimeout("tcp", m.address(), time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return m
}

func (m *mta) address() string { return net.JoinHostPort(m.Address.String(), "25") }

// ahead sets the greylist's clock so many seconds ahead of the real one.
func (m *mta) ahead(seconds int) {
	m.t.Helper()
	m.Write(m.t, "/etc/exim4/ahead", 0o644, []byte(strconv.Itoa(seconds)))
}

// row is a row of the table route, with the defaults of its columns.
type row struct {
	address, kind, state, backend, targets string
	keepCopy, greylist                     bool
	threshold                              int
}

func (m *mta) insert(rows ...row) {
	m.t.Helper()
	for _, r := range rows {
		// Bytes, so that no character set changes them.
		_, err := m.Admins[0].DB.ExecContext(m.t.Context(), "INSERT INTO "+m.database+".route"+
			" (address, kind, state, backend, targets, keep_copy, greylist, spam_threshold) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			[]byte(r.address), cmp.Or(r.kind, "mailbox"), cmp.Or(r.state, "active"), r.backend, []byte(r.targets),
			r.keepCopy, r.greylist, cmp.Or(r.threshold, 70))
		if err != nil {
			m.t.Fatalf("insert the route of %q: %v", r.address, err)
		}
	}
}

// ends are where a message has to arrive: backend and recipient.
type ends []string

func TestEximAnswersAndDelivers(t *testing.T) {
	m := start(t, clustertest.Shared(t), "exim")
	const ours = "@calmail.example"
	mailbox := func(local, backend string) row {
		return row{address: local + ours, backend: backend, greylist: true}
	}
	long := strings.Repeat("l", 254-len(ours))
	m.insert(
		row{address: ours, kind: "domain", greylist: true},
		row{address: "@math.example", kind: "domain", targets: ours, greylist: true},
		row{address: "@old.example", kind: "domain", targets: "ann" + ours, greylist: true},
		row{address: "@round.example", kind: "domain", targets: "@about.example", greylist: true},
		row{address: "@about.example", kind: "domain", targets: "@round.example", greylist: true},
		row{address: "@gone.example", kind: "domain", state: "closed", greylist: true},
		mailbox("ann", "cyrus1.test"),
		mailbox("bob", "cyrus2.test"),
		mailbox("o'brien", "cyrus3.test"),
		mailbox(`back\slash`, "cyrus1.test"),
		mailbox(`quo"te`, "cyrus1.test"),
		mailbox("jos\xe9", "cyrus2.test"),
		mailbox("j\xc3\xb6rg", "cyrus2.test"),
		mailbox(`' or '1'='1`, "cyrus3.test"),
		mailbox("a@b", "cyrus3.test"),
		mailbox(long, "cyrus1.test"),
		mailbox("refused", "cyrus1.test"),
		row{address: "strict" + ours, backend: "cyrus1.test", greylist: true, threshold: 35},
		row{address: "optout" + ours, backend: "cyrus1.test"},
		row{address: "locked" + ours, state: "suspended", backend: "cyrus1.test", greylist: true},
		row{address: "left" + ours, state: "closed", greylist: true},
		row{address: "packing" + ours, state: "moving", backend: "cyrus2.test", greylist: true},
		row{address: "homeless" + ours, greylist: true},
		row{address: "also-ann" + ours, kind: "alias", targets: "ann" + ours, greylist: true},
		row{address: "alias-of-locked" + ours, kind: "alias", targets: "locked" + ours, greylist: true},
		row{address: "alias-of-nobody" + ours, kind: "alias", targets: "nobody" + ours, greylist: true},
		row{address: "staff" + ours, kind: "list", targets: "ann" + ours + ",bob" + ours + ",friend@outside.example,also-ann" + ours, greylist: true},
		row{address: "all" + ours, kind: "list", targets: "staff" + ours + ",optout" + ours, greylist: true},
		row{address: "forwarded" + ours, backend: "cyrus1.test", targets: "me@outside.example", greylist: true},
		row{address: "copied" + ours, backend: "cyrus2.test", targets: "me@outside.example,bob" + ours, keepCopy: true, greylist: true},
		row{address: "copied-to-nobody" + ours, backend: "cyrus2.test", targets: "locked" + ours, keepCopy: true, greylist: true},
		row{address: "ping" + ours, kind: "alias", targets: "pong" + ours, greylist: true},
		row{address: "pong" + ours, kind: "alias", targets: "ping" + ours, greylist: true},
		row{address: "self" + ours, kind: "alias", targets: "self" + ours, greylist: true},
		row{address: "there" + ours, backend: "cyrus1.test", targets: "back" + ours, greylist: true},
		row{address: "back" + ours, backend: "cyrus1.test", targets: "there" + ours, greylist: true},
		row{address: "evil" + ours, kind: "alias", targets: "|/bin/id", greylist: true},
	)

	for i, r := range []struct {
		sentence  string
		from      string // default: peer@peer.test
		to        string
		first     string // how the answer begins when the triplet is new; "" for greylisted
		second    string // and 400 seconds later
		ends      ends
		threshold string // "" for 70
	}{
		{sentence: "a mailbox is greylisted, then its backend has it", to: "ann" + ours, second: "250", ends: ends{"cyrus1.test ann" + ours}},
		{sentence: "another mailbox has another backend", to: "bob" + ours, second: "250", ends: ends{"cyrus2.test bob" + ours}},
		{sentence: "letter case is the sender's taste", to: "BOB@CalMail.Example", second: "250", ends: ends{"cyrus2.test BOB@CalMail.Example"}},
		{sentence: "a bounce is greylisted and delivered as other mail", from: "<>", to: "ann" + ours, second: "250", ends: ends{"cyrus1.test ann" + ours}},
		{sentence: "who wants no greylisting has none", to: "optout" + ours, first: "250", second: "250",
			ends: ends{"cyrus1.test optout" + ours, "cyrus1.test optout" + ours}},
		{sentence: "a mailbox may have its own spam threshold", to: "strict" + ours, second: "250", ends: ends{"cyrus1.test strict" + ours}, threshold: "35"},

		{sentence: "nobody has this address", to: "nobody" + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "the domain is not ours", to: "ann@elsewhere.example", first: "550 5.7.1", second: "550 5.7.1"},
		{sentence: "a percent sign does not relay", to: "ann%elsewhere.example" + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "a suspended mailbox", to: "locked" + ours, first: "550 5.2.1", second: "550 5.2.1"},
		{sentence: "a closed mailbox", to: "left" + ours, first: "550 5.1.6", second: "550 5.1.6"},
		{sentence: "a closed domain", to: "any@gone.example", first: "550 5.1.6", second: "550 5.1.6"},
		{sentence: "a mailbox that moves", to: "packing" + ours, first: "451 4.2.1", second: "451 4.2.1"},
		{sentence: "a mailbox without a backend is our mistake", to: "homeless" + ours, first: "451 4.3.5", second: "451 4.3.5"},

		{sentence: "an alias", to: "also-ann" + ours, second: "250", ends: ends{"cyrus1.test ann" + ours}},
		{sentence: "an alias of a suspended mailbox is refused as that is", to: "alias-of-locked" + ours, first: "550 5.2.1", second: "550 5.2.1"},
		{sentence: "an alias of nobody", to: "alias-of-nobody" + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "a list, whose members get one copy each", to: "staff" + ours, second: "250",
			ends: ends{"cyrus1.test ann" + ours, "cyrus2.test bob" + ours, "outside.test friend@outside.example"}},
		{sentence: "a list of lists", to: "all" + ours, second: "250",
			ends: ends{"cyrus1.test ann" + ours, "cyrus2.test bob" + ours, "outside.test friend@outside.example", "cyrus1.test optout" + ours}},
		{sentence: "forwarded, without a copy here", to: "forwarded" + ours, second: "250", ends: ends{"outside.test me@outside.example"}},
		{sentence: "forwarded, with a copy here", to: "copied" + ours, second: "250",
			ends: ends{"cyrus2.test copied" + ours, "cyrus2.test bob" + ours, "outside.test me@outside.example"}},
		{sentence: "a copy that cannot go on does not keep the mailbox from its mail", to: "copied-to-nobody" + ours, second: "250",
			ends: ends{"cyrus2.test copied-to-nobody" + ours, "outside.test peer@peer.test"}}, // and its sender learns of it
		{sentence: "another name of a whole domain", to: "ann@math.example", second: "250", ends: ends{"cyrus1.test ann" + ours}},
		{sentence: "a quote survives the change of domain", to: `"a@b"@math.example`, second: "250", ends: ends{`cyrus3.test "a@b"` + ours}},
		{sentence: "nobody in the other domain", to: "nobody@math.example", first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "an address takes the rest of a domain", to: "whoever@old.example", second: "250", ends: ends{"cyrus1.test ann" + ours}},

		{sentence: "two aliases of each other", to: "ping" + ours, first: "550 5.4.6", second: "550 5.4.6"},
		{sentence: "an alias of itself", to: "self" + ours, first: "550 5.4.6", second: "550 5.4.6"},
		{sentence: "two mailboxes that forward to each other", to: "there" + ours, first: "550 5.4.6", second: "550 5.4.6"},
		{sentence: "two domains of each other's name", to: "any@round.example", first: "550 5.4.6", second: "550 5.4.6"},
		{sentence: "a target is an address, never a program: the mail comes back", to: "evil" + ours, second: "250", ends: ends{"outside.test peer@peer.test"}},

		{sentence: "an apostrophe", to: "o'brien" + ours, second: "250", ends: ends{"cyrus3.test o'brien" + ours}},
		{sentence: "a backslash, quoted as RFC 5321 wants it", to: `"back\\slash"` + ours, second: "250", ends: ends{`cyrus1.test "back\\slash"` + ours}},
		{sentence: "a quotation mark", to: `"quo\"te"` + ours, second: "250", ends: ends{`cyrus1.test "quo\"te"` + ours}},
		{sentence: "SQL is a local part like any other", to: `"' or '1'='1"` + ours, second: "250", ends: ends{`cyrus3.test "' or '1'='1"` + ours}},
		{sentence: "SQL that is no local part of ours", to: `"x' or ''='"` + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "a backslash that would end the quotation", to: `"x\\' or 1=1 -- "` + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "a byte of Latin 1", to: "jos\xe9" + ours, second: "250", ends: ends{"cyrus2.test jos\xe9" + ours}},
		{sentence: "UTF-8", to: "j\xc3\xb6rg" + ours, second: "250", ends: ends{"cyrus2.test j\xc3\xb6rg" + ours}},
		{sentence: "another byte is another address", to: "jos\xe8" + ours, first: "550 5.1.1", second: "550 5.1.1"},
		{sentence: "a control character", to: "\"a\x01b\"" + ours, first: "550 5.1.3", second: "550 5.1.3"},
		{sentence: "254 bytes", to: long + ours, second: "250", ends: ends{"cyrus1.test " + long + ours}},
		{sentence: "255 bytes", to: "l" + long + ours, first: "550 5.1.3", second: "550 5.1.3"},
		{sentence: "no local part is not the row of the domain", to: `""` + ours, first: "5", second: "5"},
		{sentence: "a sender with an apostrophe and a backslash", from: `"it's\\"@peer.test`, to: "ann" + ours, second: "250", ends: ends{"cyrus1.test ann" + ours}},
		{sentence: "a sender of 255 bytes", from: strings.Repeat("l", 255-len("@peer.test")) + "@peer.test", to: "ann" + ours, first: "553 5.1.7", second: "553 5.1.7"},
		{sentence: "a sender of 600 bytes does not come as far", from: strings.Repeat("l", 600) + "@peer.test", to: "ann" + ours, first: "501", second: "501"},
		{sentence: "nor does a recipient", to: strings.Repeat("l", 600) + ours, first: "501", second: "501"},
		{sentence: "what a backend refuses goes back to its sender", to: "refused" + ours, second: "250", ends: ends{"outside.test peer@peer.test"}},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			before, err := taken(t.Context(), m.Container)
			assert.NilError(t, err)
			offered := message{
				From: cmp.Or(r.from, "peer@peer.test"), To: []string{r.to}, Subject: fmt.Sprintf("message %d", i),
				Header: "X-Spam-Threshold: 100\r\n", // which must not come through
			}
			if r.from == "<>" {
				offered.From = ""
			}
			for try, want := range []string{cmp.Or(r.first, "451 4.7.1"), r.second} {
				m.ahead(400 * try)
				a, err := send(t.Context(), m.address(), offered)
				assert.NilError(t, err)
				got := a.Mail
				if len(a.Recipients) > 0 {
					got = a.Recipients[0]
				}
				if !strings.HasPrefix(got.String(), want) {
					t.Errorf("try %d: %s, want %s", try+1, got, want)
				}
			}
			got := m.arrived(t, before, len(r.ends))
			var where []string
			for _, d := range got {
				where = append(where, d.place())
				bounce := d.Sender == "" && offered.From != ""
				if d.Protocol == "lmtp" && d.Threshold != cmp.Or(r.threshold, "70") {
					t.Errorf("the copy for %s has the spam threshold %q, want %s", d.Recipient, d.Threshold, cmp.Or(r.threshold, "70"))
				}
				if !bounce && (d.Sender != offered.From || d.Subject != offered.Subject) {
					t.Errorf("from %q came %q with subject %q, want %q with %q", offered.From, d.Sender, d.Subject, offered.From, offered.Subject)
				}
				if delayed := r.first == "" && !bounce; delayed != strings.HasPrefix(d.Delayed, "delayed 4") {
					t.Errorf("X-Greylist of the copy for %s is %q; was it greylisted: %v", d.Recipient, d.Delayed, delayed)
				}
			}
			want := slices.Sorted(slices.Values(r.ends))
			slices.Sort(where)
			assert.DeepEqual(t, where, []string(want))
		})
	}
}

// TestEximDecidesAgainAtDelivery: a list is accepted whatever its members are;
// what becomes of their copies is decided when these are delivered.
func TestEximDecidesAgainAtDelivery(t *testing.T) {
	m := start(t, clustertest.Shared(t), "exim_later")
	const ours = "@calmail.example"
	m.insert(
		row{address: ours, kind: "domain"},
		row{address: "ann" + ours, backend: "cyrus1.test", threshold: 30},
		row{address: "bob" + ours, backend: "cyrus1.test", threshold: 90},
		row{address: "locked" + ours, state: "suspended", backend: "cyrus1.test"},
		row{address: "left" + ours, state: "closed"},
		row{address: "packing" + ours, state: "moving", backend: "cyrus1.test"},
		row{address: "full" + ours, backend: "cyrus1.test"},
		row{address: "circle" + ours, kind: "list", targets: "circle" + ours + ",ann" + ours},
		row{address: "list" + ours, kind: "list", targets: strings.Join([]string{
			"ann" + ours, "bob" + ours, "locked" + ours, "left" + ours, "packing" + ours, "full" + ours, "nobody" + ours, "circle" + ours,
		}, ",")},
	)
	a, err := send(t.Context(), m.address(), message{
		From: "peer@peer.test", To: []string{"list" + ours, "nobody" + ours, "bob" + ours}, Subject: "to the list",
	})
	assert.NilError(t, err)
	if got := fmt.Sprint(a.Recipients); !strings.HasPrefix(got, "[250 Accepted 550 5.1.1") || a.Data.Code != 250 {
		t.Fatalf("the answers are %v and %v", a.Recipients, a.Data)
	}
	places := func(want ...string) []string {
		t.Helper()
		var got []string
		await(t, fmt.Sprintf("%d deliveries", len(want)), func() error {
			all, err := taken(t.Context(), m.Container)
			if err == nil && len(all) < len(want) {
				err = fmt.Errorf("there are %v", all)
			}
			got = nil
			for _, d := range all {
				got = append(got, d.place()+" "+d.Threshold)
			}
			return err
		})
		slices.Sort(got)
		slices.Sort(want)
		assert.DeepEqual(t, got, want)
		return got
	}
	// One copy for each mailbox, with its own threshold, and one bounce.
	first := places("cyrus1.test ann"+ours+" 30", "cyrus1.test bob"+ours+" 90", "outside.test peer@peer.test ")
	log := m.Run(t, "cat", "/var/log/exim4/mainlog")
	for _, want := range []string{
		"** locked" + ours + " <list" + ours + "> R=suspended : 550 5.2.1",
		"** left" + ours + " <list" + ours + "> R=closed : 550 5.1.6",
		"** nobody" + ours + " <list" + ours + "> R=unknown : 550 5.1.1",
		"** circle" + ours + " <list" + ours + "> R=loop : 550 5.4.6",
		"== packing" + ours + " <list" + ours + "> R=moving defer: 451 4.2.1",
		"== full" + ours + " <list" + ours + "> R=mailbox T=lmtp",
	} {
		if n := strings.Count(log, want); n != 1 {
			t.Errorf("the log has %q %d times, want once:\n%s", want, n, log)
		}
	}
	// The mailbox has moved.
	_, err = m.Admins[1].DB.ExecContext(t.Context(),
		"UPDATE "+m.database+".route SET state = 'active', backend = 'cyrus3.test' WHERE address = ?", []byte("packing"+ours))
	assert.NilError(t, err)
	m.Run(t, "exim4", "-qff")
	places(append(first, "cyrus3.test packing"+ours+" 70")...)
}

// session gives SMTP commands to an Exim that is started for them, as a peer of
// that address and name would, or without either a program on the machine, and returns its answers to them and the
// statements that it sent to the database.
func (m *mta) session(t *testing.T, options, address, name string, commands ...string) (replies, statements []string) {
	t.Helper()
	script := fmt.Sprintf("exim4 %s -d-all+lookup ${3:+-oMa $3} ${2:+-oMs $2} -bs <<END\n$1\nEND\n", options)
	// Quoted by nobody: the shell takes arguments as they are.
	output, err := m.Exec(t.Context(), "sh", "-c", script, "sh", strings.Join(append(commands, "QUIT"), "\n"), name, address)
	assert.NilError(t, err)
	for _, line := range strings.Split(output.Stdout, "\n") {
		if line = strings.TrimSpace(line); len(line) > 3 && line[3] == ' ' {
			replies = append(replies, line)
		}
	}
	for _, line := range strings.Split(output.Stderr, "\n") {
		if _, s, ok := strings.Cut(line, `MySQL query: "`); ok {
			statements = append(statements, s[:strings.LastIndexByte(s, '"')])
		}
	}
	return replies, statements
}

// TestEximAsksOnce counts what the answer to a RCPT command costs the database.
func TestEximAsksOnce(t *testing.T) {
	m := start(t, clustertest.Shared(t), "exim_asks")
	const ours = "@calmail.example"
	m.insert(
		row{address: ours, kind: "domain", greylist: true},
		row{address: "ann" + ours, backend: "cyrus1.test", greylist: true},
		row{address: "optout" + ours, backend: "cyrus1.test"},
		row{address: "locked" + ours, state: "suspended", backend: "cyrus1.test", greylist: true},
		row{address: "also-ann" + ours, kind: "alias", targets: "ann" + ours, greylist: true},
		row{address: "also-optout" + ours, kind: "alias", targets: "optout" + ours},
		row{address: "@math.example", kind: "domain", targets: ours, greylist: true},
		row{address: "@old.example", kind: "domain", targets: "optout" + ours, greylist: true},
		row{address: "@older.example", kind: "domain", targets: "@old.example", greylist: true},
		row{address: "@optout.example", kind: "domain", targets: ours},
	)
	for _, r := range []struct {
		sentence string
		to       string
		want     string // the answer's beginning
		reads    int
		calls    int
	}{
		{"a mailbox: one read and one call", "ann" + ours, "451 4.7.1", 1, 1},
		{"no greylisting, no call", "optout" + ours, "250", 1, 0},
		{"what is refused is not greylisted", "locked" + ours, "550 5.2.1", 1, 0},
		{"an alias: its mailbox is read too", "also-ann" + ours, "451 4.7.1", 2, 1},
		{"another name of a domain: the row of the address there is read too", "ann@math.example", "451 4.7.1", 3, 1},
		{"who wants no greylisting has none in another name of the domain", "OptOut@math.example", "250", 3, 0},
		{"nor by an alias in it", "also-optout@math.example", "250", 4, 0},
		{"who wants it has it, whatever the other name's row says", "ann@optout.example", "451 4.7.1", 3, 1},
		{"what takes the rest of a domain: the domain's row decides", "who@old.example", "451 4.7.1", 3, 1},
		{"so does that of another name of such a domain", "who@older.example", "451 4.7.1", 5, 1},
		{"nobody: the domain is read too", "nobody" + ours, "550 5.1.1", 2, 0},
		{"not ours: no row of the domain either", "ann@elsewhere.example", "550 5.7.1", 2, 0},
		{"no address: nothing is asked", strings.Repeat("l", 255-len(ours)) + ours, "550 5.1.3", 0, 0},
	} {
		t.Run(r.sentence, func(t *testing.T) {
			replies, statements := m.session(t, "", "192.0.2.7", "mx.peer.test",
				"EHLO mx", "MAIL FROM:<o'brien@peer.test>", "RCPT TO:<"+r.to+">")
			if len(replies) < 4 || !strings.HasPrefix(replies[3], r.want) {
				t.Errorf("the answers are %q, want %s last but one", replies, r.want)
			}
			reads, calls := 0, 0
			for _, s := range statements {
				if strings.HasPrefix(s, "SELECT") {
					reads++
					continue
				}
				calls++
				want := `CALL greylist_check('192.0.2.7', _binary'mx.peer.test', _binary'o\'brien@peer.test', _binary'` + r.to + "', "
				if now := strings.TrimSuffix(strings.TrimPrefix(s, want), ")"); len(now) != 10 {
					t.Errorf("the call is %s, want %s and the time", s, want)
				}
			}
			if reads != r.reads || calls != r.calls {
				t.Errorf("%d reads and %d calls, want %d and %d:\n%s", reads, calls, r.reads, r.calls, strings.Join(statements, "\n"))
			}
		})
	}
}

// TestEximTakesMailOfPrograms: SMTP through a pipe has no peer to be greylisted,
// and is from this machine.
func TestEximTakesMailOfPrograms(t *testing.T) {
	m := start(t, clustertest.Shared(t), "exim_pipe")
	const ours = "@calmail.example"
	m.insert(
		row{address: ours, kind: "domain", greylist: true},
		row{address: "ann" + ours, backend: "cyrus1.test", greylist: true},
	)
	// A site's own list has no part in it.
	for _, options := range []string{"", "'-DRELAY_HOSTS=192.0.2.7'"} {
		for _, to := range []string{"ann" + ours, "friend@outside.example"} {
			replies, statements := m.session(t, options, "", "", "EHLO here", "MAIL FROM:<cron"+ours+">", "RCPT TO:<"+to+">")
			if len(replies) < 4 || !strings.HasPrefix(replies[3], "250") || len(statements) > 0 {
				t.Errorf("mail for %s from a program, %s: the answers are %q, want 250 last but one; asked was %q", to, options, replies, statements)
			}
		}
	}
	replies, _ := m.session(t, "", "192.0.2.7", "", "EHLO mx", "MAIL FROM:<peer@peer.test>", "RCPT TO:<friend@outside.example>")
	if len(replies) < 4 || !strings.HasPrefix(replies[3], "550 5.7.1") {
		t.Errorf("of a peer the answers are %q, want 550 5.7.1 last but one", replies)
	}
}

// TestEximFindsTheLowestThreshold has Exim write down what a scanner would find.
func TestEximFindsTheLowestThreshold(t *testing.T) {
	const place = "acl_check_data:\n"
	m := start(t, clustertest.Shared(t), "exim_threshold",
		place, place+"  warn add_header = X-Lowest: ${if def:acl_m_spam_threshold{$acl_m_spam_threshold}{none}}\n")
	const ours = "@calmail.example"
	// The account's own rows, as the table has them.
	strict := accounts.Account{
		Login: "strict" + ours, Aliases: []string{"severe" + ours}, Backend: "cyrus1.test", SpamThreshold: 30, NoGreylist: true,
	}
	for _, r := range strict.Rows() {
		m.insert(row{address: r.Address, kind: r.Kind.String(), backend: r.Backend, targets: routing.JoinTargets(r.Targets), threshold: int(r.Threshold())})
	}
	m.insert(
		row{address: ours, kind: "domain"},
		row{address: "@math.example", kind: "domain", targets: ours},
		row{address: "@old.example", kind: "domain", targets: "strict" + ours, threshold: 60},
		row{address: "ann" + ours, backend: "cyrus1.test"},
		row{address: "lax" + ours, backend: "cyrus1.test", threshold: 90},
		row{address: "picky" + ours, backend: "cyrus1.test", threshold: 10, greylist: true},
		row{address: "staff" + ours, kind: "list", targets: "strict" + ours + ",lax" + ours, threshold: 80},
	)
	for i, r := range []struct {
		sentence string
		to       []string
		want     string
		accepted int
	}{
		{"a mailbox has its owner's", []string{"strict"}, "30", 1},
		{"an alias too", []string{"severe"}, "30", 1},
		{"so has the mailbox in another name of the domain", []string{"strict@math.example"}, "30", 1},
		{"and its alias", []string{"severe@math.example"}, "30", 1},
		{"a list has its own", []string{"staff"}, "80", 1},
		{"what takes the rest of a domain has the domain's", []string{"who@old.example"}, "60", 1},
		{"the lowest counts, in any order", []string{"lax", "strict", "ann"}, "30", 3},
		{"and in another", []string{"strict", "lax"}, "30", 2},
		{"who is greylisted does not count", []string{"picky", "ann"}, "70", 1},
		{"nor who is there no more", []string{"lax", "nobody"}, "90", 1},
	} {
		before, err := taken(t.Context(), m.Container)
		assert.NilError(t, err)
		offered := message{From: "peer@peer.test", Subject: fmt.Sprintf("threshold %d", i)}
		for _, to := range r.to {
			if !strings.Contains(to, "@") {
				to += ours
			}
			offered.To = append(offered.To, to)
		}
		a, err := send(t.Context(), m.address(), offered)
		assert.NilError(t, err)
		accepted := 0
		for _, answer := range a.Recipients {
			if answer.Code == 250 {
				accepted++
			}
		}
		if accepted != r.accepted || a.Data.Code != 250 {
			t.Errorf("%s: the answers are %v and %v, want %d times 250 and 250", r.sentence, a.Recipients, a.Data, r.accepted)
			continue
		}
		for _, d := range m.arrived(t, before, 1) {
			if d.Lowest != r.want {
				t.Errorf("%s: a scanner finds the threshold %q, want %s", r.sentence, d.Lowest, r.want)
			}
		}
	}
}

// TestEximWithoutAnAnswer: what is said when no SQL node can answer.
func TestEximWithoutAnAnswer(t *testing.T) {
	m := start(t, clustertest.Shared(t), "exim_fails")
	m.insert(
		row{address: "@calmail.example", kind: "domain", greylist: true},
		row{address: "ann@calmail.example", backend: "cyrus1.test", greylist: true},
		row{address: "optout@calmail.example", backend: "cyrus1.test"},
	)
	execute := func(statement string, every bool) {
		t.Helper()
		for i, a := range m.Admins {
			if every || i == 0 {
				_, err := a.DB.ExecContext(t.Context(), statement)
				assert.NilError(t, err)
			}
		}
	}
	check := func(sentence, options, to, want string) {
		t.Helper()
		replies, _ := m.session(t, options, "192.0.2.7", "", "EHLO mx", "MAIL FROM:<peer@peer.test>", "RCPT TO:<"+to+">")
		if len(replies) < 4 || !strings.HasPrefix(replies[3], want) {
			t.Errorf("%s: the answers are %q, want %s last but one", sentence, replies, want)
		}
	}
	const closed = "-DGREYLIST_FAIL_CLOSED=yes"
	check("all is well", "", "ann@calmail.example", "451 4.7.1")
	check("all is well, fail-closed", closed, "ann@calmail.example", "451 4.7.1")

	// Between the DROP and the CREATE of a whitelist that is edited.
	execute("DROP FUNCTION "+m.database+".greylist_whitelisted", false)
	check("the second node has the whitelist", closed, "ann@calmail.example", "451 4.7.1")
	execute("DROP FUNCTION IF EXISTS "+m.database+".greylist_whitelisted", true)
	check("without a whitelist greylisting fails open", "", "ann@calmail.example", "250")
	check("or closed", closed, "ann@calmail.example", "451 Temporary")
	assert.NilError(t, schema.Install(t.Context(), m.Admins, schema.Options{Database: m.database}))
	check("a new whitelist is asked at once, with the same rights", closed, "ann@calmail.example", "451 4.7.1")

	execute("DROP PROCEDURE "+m.database+".greylist_check", false)
	check("the second node has the procedure", "", "ann@calmail.example", "451 4.7.1")

	execute("DROP PROCEDURE IF EXISTS "+m.database+".greylist_check", true)
	check("greylisting fails open", "", "ann@calmail.example", "250")
	check("greylisting fails closed where that is defined", closed, "ann@calmail.example", "451 Temporary")
	check("who wants no greylisting does not feel it", closed, "optout@calmail.example", "250")
	if log := m.Run(t, "cat", "/var/log/exim4/mainlog"); !strings.Contains(log, "greylist did not answer: accepted <ann@calmail.example> from <peer@peer.test>") {
		t.Errorf("the log does not say that greylisting failed:\n%s", log)
	}

	// A view is a node's own: through one that fails when it is read, a node
	// describes the columns first and reports the error afterwards, as it does for
	// errors of the storage engine.
	execute("RENAME TABLE "+m.database+".route TO "+m.database+".rows_of_route", false)
	execute("CREATE FUNCTION "+m.database+".fails() RETURNS INT DETERMINISTIC NO SQL BEGIN SIGNAL SQLSTATE '45000'; RETURN 1; END", true)
	execute("CREATE VIEW "+m.database+".route AS SELECT * FROM "+m.database+".rows_of_route WHERE "+m.database+".fails() = 1", false)
	_, err := m.Admins[1].DB.ExecContext(t.Context(), "CREATE VIEW "+m.database+".route AS SELECT * FROM "+m.database+".rows_of_route")
	assert.NilError(t, err)
	check("an error behind the columns is not an unknown address", "", "optout@calmail.example", "250")
	check("nor an unknown domain", "", "nobody@calmail.example", "550 5.1.1")
	check("nor hides what is not ours", "", "ann@elsewhere.example", "550 5.7.1")
	execute("DROP VIEW "+m.database+".route", true)
	execute("CREATE VIEW "+m.database+".route AS SELECT * FROM "+m.database+".rows_of_route WHERE "+m.database+".fails() = 1", true)
	check("such an error on every node", "", "optout@calmail.example", "451 4.3.0")

	execute("DROP VIEW "+m.database+".route", true)
	check("routing fails closed: nobody is unknown for it", "", "ann@calmail.example", "451 Temporary")
	check("routing fails closed for every address", "", "nobody@elsewhere.example", "451 Temporary")
}

// arrived waits until Exim has nothing left to do, and returns what has come to
// the backends since.
func (m *mta) arrived(t *testing.T, before []delivery, atLeast int) []delivery {
	t.Helper()
	var got []delivery
	await(t, fmt.Sprintf("%d deliveries and an empty queue", atLeast), func() error {
		output, err := m.Exec(t.Context(), "exim4", "-bpc")
		if err != nil {
			return err
		}
		all, err := taken(t.Context(), m.Container)
		if err != nil {
			return err
		}
		got = all[len(before):]
		if queued := strings.TrimSpace(output.Stdout); queued != "0" || len(got) < atLeast {
			return fmt.Errorf("%s messages are queued, %d were delivered: %v", queued, len(got), got)
		}
		return nil
	})
	return got
}

// place names the end that a delivery has reached.
func (d delivery) place() string {
	for name, address := range backends() {
		if address.String() == d.Backend {
			return name + " " + d.Recipient
		}
	}
	return d.Backend + " " + d.Recipient
}
