package maillog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/mailbench/mailbench/workload"
)

// samples were written by Exim 4.100, Postgrey 1.37, Postfix 3.11 and rsyslog,
// see testdata/make. The same mail came in each time: everybody twice, four
// seconds apart, where Postgrey wanted three.
var samples = []struct{ name, files string }{
	{"postgrey", "postgrey.log"},
	{"postgrey-iso", "postgrey.iso.log"},
	{"postgrey-rfc5424", "postgrey.rfc5424.log"},
	{"exim-plain", "exim-plain.mainlog exim-plain.rejectlog"},
	{"exim-plain-main", "exim-plain.mainlog"},
	{"exim-full", "exim-full.mainlog exim-full.rejectlog"},
	{"exim-zoned", "exim-zoned.rejectlog exim-zoned.mainlog"},
	{"exim-syslog", "exim-syslog.log"},
	{"exim-2008", "exim-2008.mainlog exim-2008.rejectlog"},
	{"postfix-postgrey", "postfix-postgrey.log"},
	{"postfix-postgrey-iso", "postfix-postgrey.iso.log"},
}

func paths(files string) []string {
	var names []string
	for _, f := range strings.Fields(files) {
		names = append(names, filepath.Join("testdata", f))
	}
	return names
}

// importAll scans logs and takes all of their messages.
func importAll(t testing.TB, names []string, o Options) (*Report, []*workload.Message) {
	t.Helper()
	i, err := Open(names, o)
	assert.NilError(t, err)
	defer i.Close()
	r, err := i.Scan(t.Context())
	assert.NilError(t, err)
	r.Elapsed = 0
	var messages []*workload.Message
	for item, err := range i.Items(t.Context()) {
		assert.NilError(t, err)
		assert.Equal(t, item.At, item.Message.At)
		messages = append(messages, item.Message)
	}
	assert.Equal(t, int64(len(messages)), r.Messages)
	return r, messages
}

func describe(r *Report, messages []*workload.Message) string {
	var b strings.Builder
	_ = r.WriteText(&b) // a Builder takes all
	for _, m := range messages {
		fmt.Fprintf(&b, "%d %v %v schedule %s, from %s <%s>\n", m.Number, m.At, map[bool]string{true: "legitimate", false: "spam"}[m.Legitimate],
			workload.Schedules()[m.Schedule].Name, m.Client, m.Sender)
		for _, r := range m.Recipients {
			fmt.Fprintf(&b, "    <%s>\n", r)
		}
	}
	return b.String()
}

func TestSamplesOfRealPrograms(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			r, messages := importAll(t, paths(s.files), Options{Year: 2026})
			golden.Assert(t, describe(r, messages), s.name+".golden")
			assert.Equal(t, r.Understood(), r.Lines, "all lines of real programs are understood")
		})
	}
}

// TestOneMailTwoFormats: what Exim and Postgrey have logged of the same mail is
// the same mail.
func TestOneMailTwoFormats(t *testing.T) {
	triplets := func(files string) map[string]bool {
		_, messages := importAll(t, paths(files), Options{Year: 2026})
		all := map[string]bool{}
		for _, m := range messages {
			for _, r := range m.Recipients {
				all[strings.ToLower(fmt.Sprint(m.Client, m.Sender, strings.ReplaceAll(r, `"`, "")))] = true
			}
		}
		return all
	}
	told := triplets("postgrey.log")
	for _, files := range []string{"exim-plain.mainlog exim-plain.rejectlog", "exim-full.mainlog", "exim-syslog.log"} {
		for triplet := range triplets(files) {
			// Postgrey is not asked about unknown users, nor about relaying.
			if !told[triplet] && !strings.Contains(triplet, "nobody@") && !strings.Contains(triplet, "elsewhere.example") {
				t.Errorf("%s: Postgrey has not logged %s", files, triplet)
			}
		}
	}
}

// TestASecondCutInTwo: syslog's dates have whole seconds, and a message may begin
// in one file and end in the next.
func TestASecondCutInTwo(t *testing.T) {
	const begin = "Nov 24 14:51:50 mx1 postfix/smtpd[606]: connect from a[192.0.2.10]\nNov 24 14:51:50 mx1 postfix/smtpd[606]: ABCDEF: client=a[192.0.2.9]\n" +
		"Nov 24 14:51:51 mx1 postfix/smtpd[606]: ABCDE0: client=a[192.0.2.10]\n"
	const end = "Nov 24 14:51:51 mx1 postfix/qmgr[603]: ABCDE0: from=<alice@far.example>, size=1, nrcpt=1 (queue active)\n" +
		"Nov 24 14:51:51 mx1 postfix/lmtp[616]: ABCDE0: to=<ann@calmail.example>, relay=a, status=sent\n"
	early, late := write(t, "mail.log.1", begin), write(t, "mail.log", end)
	for _, names := range [][]string{{early, late}, {late, early}} {
		_, messages := importAll(t, names, Options{Year: 2026})
		assert.Equal(t, len(messages), 1)
		assert.Equal(t, messages[0].Recipients[0], "ann@calmail.example")
	}
}

// write makes a log of lines.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func packed(t testing.TB, content string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(content))
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	return b.String()
}

const postgreyLine = "Nov 24 14:51:51 mx1 postgrey[12]: action=greylist, reason=new, client_name=mail.far.example, client_address=192.0.2.10, sender=alice@far.example, recipient=ann@calmail.example\n"

func TestPackedIsAsPlain(t *testing.T) {
	plain, err := os.ReadFile("testdata/postfix-postgrey.log")
	assert.NilError(t, err)
	want, wantMessages := importAll(t, paths("postfix-postgrey.log"), Options{Year: 2026})
	got, gotMessages := importAll(t, []string{write(t, "mail.log.1.gz", packed(t, string(plain)))}, Options{Year: 2026})
	assert.Equal(t, describe(got, gotMessages), describe(want, wantMessages))
}

// TestOrderOfFilesDoesNotMatter also cuts a log in two within a message.
func TestOrderOfFilesDoesNotMatter(t *testing.T) {
	whole, err := os.ReadFile("testdata/postfix-postgrey.iso.log")
	assert.NilError(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	at := len(lines) * 2 / 3
	early, late := write(t, "mail.log.1", strings.Join(lines[:at], "")), write(t, "mail.log", strings.Join(lines[at:], ""))
	_, want := importAll(t, paths("postfix-postgrey.iso.log"), Options{})
	_, got := importAll(t, []string{late, early}, Options{})
	assert.Equal(t, describe(&Report{}, got), describe(&Report{}, want))
}

func TestBadInput(t *testing.T) {
	exim, err := os.ReadFile("testdata/exim-full.mainlog")
	assert.NilError(t, err)
	long := strings.Repeat(postgreyLine, 2000)
	for _, row := range []struct {
		sentence string
		name     string
		content  string
		format   Format
		want     string // in the error, behind the path; "" for none
		report   string // in the report
	}{
		{"an empty log", "mail.log", "", Auto, ": the log is empty", ""},
		{"a log of empty lines", "mail.log", "\n\n", Auto, ": no message is in 2 lines", ""},
		{"a binary file", "mail.db", "\x7fELF\x00\x00" + postgreyLine, Auto, ": it is binary, no log: byte 4 is zero", ""},
		{"a file packed otherwise", "mail.log.xz", "\xfd7zXZ\x00\x00", Auto, ": it is packed with xz; unpack it first", ""},
		{"a log of nothing that is known", "access.log", strings.Repeat("192.0.2.1 - - [24/Nov/2026:14:51:51 +0000] \"GET /\x1b[2J HTTP/1.1\" 200 5\n", 1200), Auto,
			`:1: none of the first 1000 lines is a line of Postgrey, Exim or Postfix; the first is: 192.0.2.1 - - [24/Nov/2026:14:51:51 +0000] "GET /\x1b[2J HTTP/1.1" 200 5`, ""},
		{"a short log of nothing that is known", "access.log", "hello\n", Auto, ":1: none of the first 1 lines is a line of", ""},
		{"a log of another program", "mainlog", string(exim), Postgrey, "; it looks like a log of Exim's: give --format exim, or auto", ""},
		{"gzip cut short", "mail.log.gz", packed(t, long)[:300], Auto, "the gzip data ends in the midst: the file was cut short", ""},
		{"gzip with a wrong byte", "mail.log.gz", func() string {
			b := []byte(packed(t, long))
			b[len(b)-6] ^= 1
			return string(b)
		}(), Auto, "the gzip data is damaged", ""},
		{"a line of 1 MB", "mail.log", postgreyLine + strings.Repeat("x", 1<<20) + "\n", Auto, "", "  PATH:2: longer than 64 KiB\n"},
		{"a line of 1 MB and no other", "mail.log", strings.Repeat("x", 1<<20), Auto, ":1: none of the first 1 lines is a line of", ""},
		{"a clock that is put back in autumn", "mail.log", strings.Replace(postgreyLine, "14:51:51", "01:59:59", 1) + strings.Replace(postgreyLine, "14:51:51", "01:00:02", 1), Auto, "",
			"dates                     1   the clock was put back by an hour: what follows is taken for the second time of that hour; first at PATH:2"},
		{"a clock that is put back by more", "mail.log", postgreyLine + strings.Replace(postgreyLine, "14:51:51", "10:00:00", 1), Auto, "",
			"dates                     1   lines dated before the lines before them, or astray: left out; first at PATH:2"},
		{"a zero byte in the midst, as after a crash", "mail.log", strings.Repeat(postgreyLine, 40) + "Nov 24 14:52:00 mx1 post\x00\x00\x00\n", Auto, "", "with a zero byte"},
		{"a line that is not understood is shown without its control characters", "mail.log", postgreyLine + "Nov 24 14:51:52 mx1 postgrey[12]: \x1b]0;owned\x07 action\n", Auto, "", `\x1b]0;owned\x07 action`},
		{"a log without its last end of line", "mail.log", strings.TrimSuffix(postgreyLine, "\n"), Auto, "", "Postgrey: triplet and verdict"},
		{"ends of line of another system", "mail.log", strings.ReplaceAll(postgreyLine, "\n", "\r\n"), Auto, "", "understood 100.00 %"},
		{"an address that is none", "mail.log", postgreyLine + strings.Replace(postgreyLine, "ann@", "a\x01n@", 1), Auto, "", "an address that cannot be one"},
		{"a client that is none", "mail.log", postgreyLine + strings.Replace(postgreyLine, "192.0.2.10", "192.0.2.1000", 1), Auto, "", "not understood"},
		{"a month that is none", "mail.log", postgreyLine + strings.Replace(postgreyLine, "Nov", "Now", 1), Auto, "", "without a date"},
		{"a day that its month does not have", "mail.log", postgreyLine + strings.Replace(postgreyLine, "Nov 24", "Nov 31", 1), Auto, "", "without a date"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			path := write(t, row.name, row.content)
			var r *Report
			i, err := Open([]string{path}, Options{Format: row.format, Year: 2026})
			if err == nil {
				defer i.Close()
				r, err = i.Scan(t.Context())
			}
			if row.want != "" {
				assert.ErrorContains(t, err, row.want)
				var input *InputError
				assert.Assert(t, errors.As(err, &input), "%T", err)
				assert.Assert(t, strings.HasPrefix(err.Error(), path+":"), err)
				return
			}
			assert.NilError(t, err)
			var b strings.Builder
			assert.NilError(t, r.WriteText(&b))
			assert.Assert(t, strings.Contains(b.String(), strings.ReplaceAll(row.report, "PATH", path)), b.String())
			assert.Equal(t, r.Messages, int64(1))
			assert.Assert(t, !strings.ContainsAny(b.String(), "\x00\x01\x07\x1b"))
		})
	}
	for _, row := range []struct {
		sentence, path, want string
	}{
		{"no such file", filepath.Join(t.TempDir(), "none.log"), "no such file"},
		{"a folder", t.TempDir(), "it is not a regular file"},
	} {
		_, err := Open([]string{row.path}, Options{})
		assert.ErrorContains(t, err, row.want, row.sentence)
		assert.ErrorContains(t, err, row.path, row.sentence)
	}
	_, err = Open([]string{"testdata/postgrey.log", "testdata/exim-full.mainlog", "../maillog/testdata/postgrey.log"}, Options{})
	assert.ErrorContains(t, err, "it is given twice, also as testdata/postgrey.log")
	_, err = Open(nil, Options{})
	assert.ErrorContains(t, err, "0 logs are given")
	for _, o := range []Options{{Year: 12}, {RetryWindow: time.Second}, {MostPending: 1}, {OurDomains: []string{"a@b"}}, {Format: 9}} {
		_, err := Open(paths("postgrey.log"), o)
		assert.Assert(t, err != nil, "%+v", o)
	}
}

func TestItemsNeedAScanAndAnUnchangedLog(t *testing.T) {
	path := write(t, "mail.log", postgreyLine+strings.Replace(postgreyLine, "alice", "carol", 1))
	i, err := Open([]string{path}, Options{Year: 2026})
	assert.NilError(t, err)
	defer i.Close()
	first := func() error {
		for _, err := range i.Items(t.Context()) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	assert.ErrorContains(t, first(), "scanned first")
	_, err = i.Scan(t.Context())
	assert.NilError(t, err)

	// A line that is written meanwhile is not read.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	assert.NilError(t, err)
	_, err = f.WriteString(strings.Replace(postgreyLine, "alice", "dave", 1))
	assert.NilError(t, errors.Join(err, f.Close()))
	n := 0
	for range i.Items(t.Context()) {
		n++
	}
	assert.Equal(t, n, 2)
	n = 0
	for range i.Items(t.Context()) { // stops in the midst
		n++
		break
	}
	assert.Equal(t, n, 1)

	assert.NilError(t, os.WriteFile(path, []byte(postgreyLine), 0o600))
	assert.ErrorContains(t, first(), "changed while it was read")
}

func TestInterrupted(t *testing.T) {
	i, err := Open(paths("postgrey.log"), Options{Year: 2026})
	assert.NilError(t, err)
	defer i.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = i.Scan(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

// line is one of Postgrey's at a time after 10:00:00 of a day.
func line(after time.Duration, verdict, client, sender, recipient string) string {
	at := time.Date(2026, 3, 10, 10, 0, 0, 0, time.UTC).Add(after)
	return fmt.Sprintf("%s mx1 postgrey: %s, client_address=%s, sender=%s, recipient=%s\n", at.Format(time.RFC3339), verdict, client, sender, recipient)
}

const (
	isNew  = "action=greylist, reason=new"
	early  = "action=greylist, reason=early-retry (60s missing)"
	passes = "action=pass, reason=triplet found, delay=600"
	known  = "action=pass, reason=triplet found"
)

func TestRetriesFoldIntoTheFirstTry(t *testing.T) {
	const (
		client, neighbour, stranger = "192.0.2.10", "192.0.2.77", "198.51.100.1"
		s, r                        = "alice@far.example", "ann@calmail.example"
	)
	for _, row := range []struct {
		sentence string
		lines    []string
		window   time.Duration
		want     string // At after 10:00, recipients and schedule of each message
		retries  int64
		before   int64
	}{
		{"one try", []string{line(0, isNew, client, s, r)}, 0, "0s/1/never ", 0, 0},
		{"a retry is no message", []string{line(0, isNew, client, s, r), line(400*time.Second, passes, client, s, r)}, 0, "0s/1/qmail ", 1, 0},
		{"a neighbour's retry is one", []string{line(0, isNew, client, s, r), line(400*time.Second, passes, neighbour, s, r)}, 0, "0s/1/qmail ", 1, 0},
		{"a stranger's is none", []string{line(0, isNew, client, s, r), line(400*time.Second, isNew, stranger, s, r)}, 0, "0s/1/never 6m40s/1/never ", 0, 0},
		{"case does not matter", []string{line(0, isNew, client, s, r), line(400*time.Second, passes, client, strings.ToUpper(s), strings.ToUpper(r))}, 0, "0s/1/qmail ", 1, 0},
		{"one recipient in two cases is one", []string{line(0, isNew, client, s, r), line(time.Second, isNew, client, s, strings.ToUpper(r))}, 0, "0s/1/never ", 0, 0},
		{"also where the second passes", []string{line(0, isNew, client, s, r), line(time.Second, known, client, s, strings.ToUpper(r)), line(time.Hour, isNew, client, s, r)}, 0, "0s/1/never 1h0m0s/1/never ", 0, 0},
		{"several retries are of one message", []string{line(0, isNew, client, s, r), line(60*time.Second, early, client, s, r), line(400*time.Second, passes, client, s, r)}, 0, "0s/1/hotmail ", 2, 0},
		{"after it has passed the next is a message of its own", []string{line(0, isNew, client, s, r), line(400*time.Second, passes, client, s, r), line(time.Hour, known, client, s, r)}, 0, "0s/1/qmail 1h0m0s/1/never ", 1, 0},
		{"past the window it is a message of its own", []string{line(0, isNew, client, s, r), line(3*time.Hour, isNew, client, s, r)}, 2 * time.Hour, "0s/1/never 3h0m0s/1/never ", 0, 0},
		{"a retry of a try before the log is none of ours", []string{line(0, isNew, client, s, r), line(60*time.Second, early, client, "bob@far.example", r), line(300*time.Second, passes, client, "bob@far.example", r)}, 0, "0s/1/never ", 0, 1},
		{"recipients of one transaction are one message", []string{line(0, isNew, client, s, r), line(time.Second, isNew, client, s, "bob@calmail.example")}, 0, "0s/2/never ", 0, 0},
		{"what comes much later is another", []string{line(0, isNew, client, s, r), line(11*time.Second, isNew, client, s, "bob@calmail.example")}, 0, "0s/1/never 11s/1/never ", 0, 0},
		{"only the new recipient of a message that is tried again", []string{line(0, isNew, client, s, r), line(600*time.Second, passes, client, s, r), line(600*time.Second, isNew, client, s, "bob@calmail.example")}, 0, "0s/1/postfix 10m0s/1/never ", 1, 0},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			report, messages := importAll(t, []string{write(t, "mail.log", strings.Join(row.lines, ""))}, Options{RetryWindow: row.window})
			got := ""
			for _, m := range messages {
				got += fmt.Sprintf("%v/%d/%s ", m.At-10*time.Hour, len(m.Recipients), workload.Schedules()[m.Schedule].Name)
			}
			assert.Equal(t, got, row.want)
			assert.Equal(t, report.Retries, row.retries)
			assert.Equal(t, report.RetriesOfBefore, row.before)
		})
	}
}

// TestForgetsTheOldestDeferral: the table of deferred triplets is bounded.
func TestForgetsTheOldestDeferral(t *testing.T) {
	var b strings.Builder
	for n := range 1500 {
		b.WriteString(line(time.Duration(n)*time.Second, isNew, "192.0.2.10", fmt.Sprintf("s%d@far.example", n), "ann@calmail.example"))
	}
	b.WriteString(line(1600*time.Second, known, "192.0.2.10", "s0@far.example", "ann@calmail.example"))
	b.WriteString(line(1601*time.Second, known, "192.0.2.10", "s1499@far.example", "ann@calmail.example"))
	r, messages := importAll(t, []string{write(t, "mail.log", b.String())}, Options{MostPending: 1000})
	assert.Equal(t, r.Forgotten, int64(500))
	assert.Equal(t, r.CameBack, int64(1))
	assert.Equal(t, len(messages), 1501)
}

func TestOurDomains(t *testing.T) {
	log := line(0, known, "192.0.2.10", "ann@calmail.example", "alice@far.example") +
		line(time.Minute, known, "192.0.2.11", "alice@far.example", "ann@math.calmail.example") +
		line(2*time.Minute, "action=greylist, reason=new", "192.0.2.12", "bot@bot.example", "victim@elsewhere.example")
	r, messages := importAll(t, []string{write(t, "mail.log", log)}, Options{OurDomains: []string{"CalMail.example"}})
	assert.Equal(t, r.Outbound, int64(1))
	assert.Equal(t, len(messages), 2, "what goes out is left out, an attempt to relay is not")
}
