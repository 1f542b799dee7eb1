package maillog

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

var testSeed = maphash.MakeSeed()

// show is an entry in short.
func show(k Kind, e *entry) string {
	if e.kind == nothing {
		return k.String()
	}
	what := [...]string{"", "attempt", "arrival", "sender", "recipient", "done"}[e.kind]
	s := fmt.Sprintf("%s: %s", k, what)
	if e.kind == attempt {
		s += " " + [...]string{"accepted", "deferred", "refused"}[e.outcome]
	}
	if e.returning {
		s += " returning"
	}
	if e.own {
		s += " own"
	}
	if len(e.id) > 0 {
		s += " " + string(e.id)
	}
	if e.client.IsValid() {
		s += " from " + e.client.String()
	}
	if e.kind == attempt || e.kind == sender || e.kind == arrival && e.program == Exim {
		s += " <" + string(e.sender) + ">"
	}
	for _, r := range e.recipients {
		s += " to <" + string(r) + ">"
	}
	return s
}

func TestPostgreyLines(t *testing.T) {
	const kind = "Postgrey: triplet and verdict: attempt "
	for _, row := range []struct{ sentence, line, want string }{
		{"new", "action=greylist, reason=new, client_name=a.example, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "deferred from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"early", "action=greylist, reason=early-retry (173s missing), client_name=unknown, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "deferred returning from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"passed for the first time", "action=pass, reason=triplet found, delay=301, client_name=unknown, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "accepted returning from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"known", "action=pass, reason=triplet found, client_name=unknown, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "accepted from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"client in the list", "action=pass, reason=client whitelist, client_name=x.example, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "accepted from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"earned", "action=pass, reason=client AWL, client_name=x.example, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "accepted from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"no name and the null sender are left out", "action=greylist, reason=new, client_address=2001:db8::1, recipient=r@our.example", kind + "deferred from 2001:db8::1 <> to <r@our.example>"},
		{"with Postfix's queue id", "4F2ABC: action=pass, reason=triplet found, client_address=192.0.2.1, sender=s@far.example, recipient=r@our.example", kind + "accepted 4F2ABC from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"by host", "action=greylist, reason=new, client_name=a.example, client_address=192.0.2.1/32, sender=s@far.example, recipient=r@our.example", kind + "deferred from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"commas in quotes", `action=greylist, reason=new, client_address=192.0.2.1, sender="a, b"@far.example, recipient="x, y"@our.example`, kind + `deferred from 192.0.2.1 <"a, b"@far.example> to <"x, y"@our.example>`},
		{"no client", "action=greylist, reason=new, sender=s@far.example, recipient=r@our.example", "not understood"},
		{"no recipient", "action=greylist, reason=new, client_address=192.0.2.1, sender=s@far.example", "not understood"},
		{"another action", "action=dance, reason=new, client_address=192.0.2.1, recipient=r@our.example", "not understood"},
		{"cleanup", "cleaning up old logs...", "Postgrey: nothing to import"},
		{"something else", "what is this", "not understood"},
	} {
		var e entry
		assert.Equal(t, show(parsePostgrey([]byte(row.line), &e), &e), row.want, row.sentence)
	}
}

func TestPostfixLines(t *testing.T) {
	const reject = "Postfix: recipient deferred or refused: attempt "
	const client, from, to, other = "Postfix: client of a message: arrival ", "Postfix: sender or end of a message: ", "Postfix: recipient of a message: recipient ", "Postfix: nothing to import"
	for _, row := range []struct{ sentence, program, line, want string }{
		{"greylisted", "smtpd", "NOQUEUE: reject: RCPT from a.example[192.0.2.1]: 450 4.2.0 <r@our.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/our.example.html; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<a.example>", reject + "deferred from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"2008: no enhanced code", "smtpd", "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 450 <r@our.example>: Recipient address rejected: Greylisted for 300 seconds; from=<> to=<r@our.example> proto=SMTP helo=<a>", reject + "deferred from 192.0.2.1 <> to <r@our.example>"},
		{"refused, after another recipient was taken", "smtpd", "C51C7110105: reject: RCPT from a.example[2001:db8::1]: 550 5.1.1 <r@our.example>: User unknown; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<a>", reject + "refused C51C7110105 from 2001:db8::1 <s@far.example> to <r@our.example>"},
		{"postscreen", "postscreen", "NOQUEUE: reject: RCPT from [192.0.2.1]:4711: 550 5.7.1 Service unavailable; client [192.0.2.1] blocked using bl.example; from=<s@far.example>, to=<r@our.example>, proto=ESMTP, helo=<a.example>", reject + "refused from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"a milter at the end of the message", "cleanup", "7F2DF64430: milter-reject: END-OF-MESSAGE from a.example[192.0.2.1]: 4.7.1 Try again later; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<a>", reject + "deferred 7F2DF64430 from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"a HELO that looks like an envelope", "smtpd", "NOQUEUE: reject: RCPT from a.example[192.0.2.1]: 554 5.7.1 <[203.0.113.9]>: no; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<[203.0.113.9]>", reject + "refused from 192.0.2.1 <s@far.example> to <r@our.example>"},
		{"at MAIL there is no recipient", "smtpd", "NOQUEUE: reject: MAIL from a.example[192.0.2.1]: 452 4.3.1 Insufficient system storage; proto=ESMTP helo=<a>", other},
		{"only a warning", "smtpd", "NOQUEUE: reject_warning: RCPT from a.example[192.0.2.1]: 450 4.7.1 x; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<a>", other},
		{"from this machine", "smtpd", "NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 550 5.1.1 x; from=<s@far.example> to=<r@our.example> proto=ESMTP helo=<a>", reject + "refused own from 127.0.0.1 <s@far.example> to <r@our.example>"},
		{"client", "smtpd", "C51C7110105: client=mail.far.example[192.0.2.10]", client + "C51C7110105 from 192.0.2.10"},
		{"a long queue id", "smtpd", "4JfcC62DS0z1c1C: client=mail.far.example[192.0.2.10]", client + "4JfcC62DS0z1c1C from 192.0.2.10"},
		{"our own user", "smtpd", "C51C7110105: client=pc[192.0.2.10], sasl_method=PLAIN, sasl_username=ann", client + "own C51C7110105 from 192.0.2.10"},
		{"from the content filter", "smtpd", "C51C7110105: client=localhost[127.0.0.1]", client + "own C51C7110105 from 127.0.0.1"},
		{"from the filter in front", "smtpd", "C51C7110105: client=localhost[127.0.0.1], orig_client=mail.far.example[192.0.2.10]", client + "C51C7110105 from 192.0.2.10"},
		{"sender", "qmgr", "C51C7110105: from=<s@far.example>, size=433, nrcpt=2 (queue active)", from + "sender C51C7110105 <s@far.example>"},
		{"null sender", "qmgr", "C51C7110105: from=<>, size=433, nrcpt=2 (queue active)", from + "sender C51C7110105 <>"},
		{"recipient", "lmtp", "C51C7110105: to=<r@our.example>, relay=x[192.0.2.5]:24, delay=0.02, dsn=2.0.0, status=sent (ok)", to + "C51C7110105 to <r@our.example>"},
		{"before an alias", "local", "C51C7110105: to=<ann@our.example>, orig_to=<staff@our.example>, relay=local, delay=0.02, status=sent (ok)", to + "C51C7110105 to <staff@our.example>"},
		{"removed", "qmgr", "C51C7110105: removed", from + "done C51C7110105"},
		{"message-id", "cleanup", "C51C7110105: message-id=<x@far.example>", other},
		{"connect", "smtpd", "connect from a.example[192.0.2.1]", other},
		{"a warning", "anything", "warning: hostname a.example does not resolve to address 192.0.2.1", other},
		{"no address", "smtpd", "C51C7110105: client=mail.far.example[here]", "not understood"},
		{"a new program", "newd", "hello", "not understood"},
	} {
		var e entry
		assert.Equal(t, show(parsePostfix([]byte(row.program), []byte(row.line), &e), &e), row.want, row.sentence)
	}
}

func TestEximLines(t *testing.T) {
	const reject, arrives, delivery, data, other = "Exim: recipient deferred or refused: attempt ", "Exim: message accepted: arrival ", "Exim: delivery or end of a message: ", "Exim: message refused after DATA: attempt ", "Exim: nothing to import"
	for _, row := range []struct{ sentence, line, want string }{
		{"greylisted", "H=mail.far.example [192.0.2.10] F=<s@far.example> temporarily rejected RCPT <r@our.example>: greylisted.", reject + "deferred from 192.0.2.10 <s@far.example> to <r@our.example>"},
		{"2008 with a HELO that claims another address", "H=(198.51.100.1) [192.0.2.10] F=<> rejected RCPT <r@our.example>: Unknown user", reject + "refused from 192.0.2.10 <> to <r@our.example>"},
		{"name, HELO, port, TLS, our own interface and process", "[4711] H=mail.far.example (helo) [192.0.2.10]:5555 I=[198.51.100.25]:25 X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no F=<s@far.example> rejected RCPT <r@our.example>: no", reject + "refused from 192.0.2.10 <s@far.example> to <r@our.example>"},
		{"IPv6", "H=mail6.far.example [2001:db8::25]:4711 U=x F=<s@far.example> rejected RCPT <r@our.example>", reject + "refused from 2001:db8::25 <s@far.example> to <r@our.example>"},
		{"no name", "H=[192.0.2.10] F=<s@far.example> rejected RCPT r@our.example: Unrouteable address", reject + "refused from 192.0.2.10 <s@far.example> to <r@our.example>"},
		{"our own user", "H=(pc) [192.0.2.77] F=<ann@our.example> A=plain:ann rejected RCPT <x@far.example>: no", reject + "refused own from 192.0.2.77 <ann@our.example> to <x@far.example>"},
		{"accepted, 16 letters", "1JlKxh-0000Fs-3r <= s@far.example H=mail.far.example [192.0.2.10] P=esmtp S=261 id=x@far.example for a@our.example b@our.example", arrives + "1JlKxh-0000Fs-3r from 192.0.2.10 <s@far.example> to <a@our.example> to <b@our.example>"},
		{"accepted, 23 letters, without recipients", "1xVrqI-000000000K3-05aK <= s@far.example H=mail.far.example [192.0.2.10] P=esmtps X=TLS1.3 CV=no S=261", arrives + "1xVrqI-000000000K3-05aK from 192.0.2.10 <s@far.example>"},
		{"null sender", "1JlKxh-0000Fs-3r <= <> H=mail.far.example [192.0.2.10] P=esmtp S=261 for a@our.example", arrives + "1JlKxh-0000Fs-3r from 192.0.2.10 <> to <a@our.example>"},
		{"a subject that looks like recipients", `1JlKxh-0000Fs-3r <= s@far.example H=mail.far.example [192.0.2.10] P=esmtp S=261 T="gifts for you@our.example \" for me A=x" from <s@far.example> for a@our.example`, arrives + "1JlKxh-0000Fs-3r from 192.0.2.10 <s@far.example> to <a@our.example>"},
		{"quotes", `1JlKxh-0000Fs-3r <= "a b"@far.example H=([192.0.2.99]) [192.0.2.10] U=root P=esmtp S=261 from <"a b"@far.example> for "x for y"@our.example z@our.example`, arrives + `1JlKxh-0000Fs-3r from 192.0.2.10 <"a b"@far.example> to <"x for y"@our.example> to <z@our.example>`},
		{"of our own user", "1JlKxh-0000Fs-3r <= ann@our.example H=(pc) [192.0.2.77] P=esmtpsa A=plain:ann S=261 for x@far.example", arrives + "own 1JlKxh-0000Fs-3r from 192.0.2.77 <ann@our.example> to <x@far.example>"},
		{"of this machine", "1JlKxh-0000Fs-3r <= root@our.example U=root P=local S=344", arrives + "own 1JlKxh-0000Fs-3r <root@our.example>"},
		{"delivered", "1JlKxh-0000Fs-3r => ann <ann@our.example> R=here T=file", delivery + "recipient 1JlKxh-0000Fs-3r to <ann@our.example>"},
		{"delivered elsewhere", "1JlKxh-0000Fs-3r -> x@far.example R=dnslookup T=smtp H=mx [192.0.2.1]", delivery + "recipient 1JlKxh-0000Fs-3r to <x@far.example>"},
		{"through an alias", "1JlKxh-0000Fs-3r => ann <staff@our.example> F=<s@far.example> R=here T=file QT=0.07s", delivery + "recipient 1JlKxh-0000Fs-3r to <staff@our.example>"},
		{"deferred", "1JlKxh-0000Fs-3r == full@our.example R=fail defer DT=0.000s: over quota", delivery + "recipient 1JlKxh-0000Fs-3r to <full@our.example>"},
		{"failed", "1JlKxh-0000Fs-3r ** gone@our.example: Unrouteable address", delivery + "recipient 1JlKxh-0000Fs-3r to <gone@our.example>"},
		{"complete", "1JlKxh-0000Fs-3r Completed", delivery + "done 1JlKxh-0000Fs-3r"},
		{"complete with time", "1JlKxh-0000Fs-3r Completed QT=0.1s", delivery + "done 1JlKxh-0000Fs-3r"},
		{"refused after DATA", "1JlKxh-0000Fs-3r H=([192.0.2.99]) [203.0.113.200] F=<s@far.example> rejected after DATA: spam", data + "refused 1JlKxh-0000Fs-3r from 203.0.113.200 <s@far.example>"},
		{"a scanner's word", "1JlKxh-0000Fs-3r SA: Debug: fine", other},
		{"no recipient yet", "H=mail.far.example [192.0.2.10] rejected MAIL <s@far.example>: no", other},
		{"a connection", "SMTP connection from [192.0.2.10]:4711 closed by QUIT", other},
		{"a guess at a password", "plain authenticator failed for (pc) [192.0.2.10]: 535 Incorrect authentication data (set_id=ann)", other},
		{"something else", "xyzzy", "not understood"},
		{"no sender", "1JlKxh-0000Fs-3r <= ", "not understood"},
	} {
		var e entry
		assert.Equal(t, show(parseExim([]byte(row.line), testSeed, &e), &e), row.want, row.sentence)
	}
}

func TestSyslogHeader(t *testing.T) {
	for _, row := range []struct{ sentence, line, want string }{
		{"RFC 3164", "mx1 postfix/smtpd[606]: connect", "postfix/smtpd|606|connect|mx1"},
		{"without a process", "mx1 postgrey: action=pass", "postgrey||action=pass|mx1"},
		{"Solaris", "mx1 postfix/smtpd[606]: [ID 197553 mail.info] connect", "postfix/smtpd|606|connect|mx1"},
		{"RFC 5424", "mx1 postgrey 372 - - Process Backgrounded", "postgrey|372|Process Backgrounded|mx1"},
		{"RFC 5424 with data", `mx1 exim 372 - [a@1 b="c"] [1/2] text`, "exim|372|[1/2] text|mx1"},
		{"repeated", "mx1 last message repeated 3 times", "||last message repeated 3 times|mx1"},
		{"a host alone", "mx1", "no"},
		{"no program", "mx1 hello", "no"},
	} {
		text, program, process, host, ok := syslogHeader([]byte(row.line))
		got := strings.Join([]string{string(program), string(process), string(text), string(host)}, "|")
		if !ok {
			got = "no"
		}
		assert.Equal(t, got, row.want, row.sentence)
	}
}

// TestEximInSyslog puts lines together that Exim has cut, of two processes at
// the same time.
func TestEximInSyslog(t *testing.T) {
	log := `Nov 24 14:51:12 mx1 exim[7]: [1/2] 2026-11-24 14:51:12 1JlKxh-0000Fs-3r <= s@far.example H=mail.far.example [192.0.2.10] P=esmtp S=261 for a@our.exa
Nov 24 14:51:12 mx1 exim[8]: [1\4] 2026-11-24 14:51:12 1JlKxh-0000Fs-4r H=([192.0.2.99]) [203.0.113.200] F=<t@far.example> rejected after DATA: spam
Nov 24 14:51:12 mx1 exim[8]: [2\4] Envelope-from: <t@far.example>
Nov 24 14:51:12 mx1 exim[7]: [2/2] mple b@our.example
Nov 24 14:51:12 mx1 exim[8]: [3\4] Envelope-to: <c@our.example>
Nov 24 14:51:12 mx1 exim[9]: [2/2] the beginning is missing
Nov 24 14:51:12 mx1 exim[8]: [4\4]     <d@our.example>
`
	r, messages := importAll(t, []string{write(t, "mail.log", log)}, Options{})
	assert.Equal(t, len(messages), 2)
	assert.DeepEqual(t, messages[0].Recipients, []string{"a@our.example", "b@our.example"})
	assert.DeepEqual(t, messages[1].Recipients, []string{"c@our.example", "d@our.example"})
	assert.Equal(t, r.Unfinished, int64(1))
}

// TestPostgreyWithoutDates: in docker-mailserver nobody puts a date before
// Postgrey's lines (docker-mailserver issue 1276).
func TestPostgreyWithoutDates(t *testing.T) {
	log := "Feb 13 13:53:00 mx0 postfix/smtpd[27]: NOQUEUE: reject: RCPT from a.example[192.0.2.1]: 450 4.2.0 <r@our.example>: Recipient address rejected: Delayed by postgrey; from=<s@a.example> to=<r@our.example> proto=ESMTP helo=<a.example>\n" +
		"action=greylist, reason=new, client_name=a.example, client_address=192.0.2.1, sender=s@a.example, recipient=r@our.example\n"
	r, messages := importAll(t, []string{write(t, "mail.log", log)}, Options{Year: 2020})
	assert.Equal(t, len(messages), 1)
	assert.Equal(t, r.Undated, int64(1))
	assert.Equal(t, r.ToldTwice, int64(1))
}

// FuzzLine: no line makes a parser fail, and what it finds lies within bounds.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		strings.TrimSpace(postgreyLine),
		"2026-11-24 14:51:12 1JlKxh-0000Fs-3r <= s@far.example H=mail.far.example [192.0.2.10] P=esmtp T=\"a\" from <s@x> for a@our.example",
		"2026-11-24 14:51:12 H=(x) [192.0.2.10] F=<s@far.example> temporarily rejected RCPT <r@our.example>: no",
		"2026-11-24T14:51:12Z mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 450 4.2.0 x; from=<s@a> to=<r@o> proto=ESMTP helo=<a>",
		"<21>1 2026-11-24T14:51:12Z mx1 exim 7 - - [1/2] 2026-11-24 14:51:12 +0100 x",
		"Nov  1 01:59:59 mx1 postfix/qmgr[1]: ABCDEF: from=<a@b>, size=1, nrcpt=1 (queue active)",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		_, rest, exim, ok := parseStamp(line)
		check := func(k Kind, e *entry) {
			if k >= kinds {
				t.Fatalf("kind %d", k)
			}
			if e.kind == attempt && (!e.client.IsValid() || k != KindEximData && len(e.recipients) == 0) {
				t.Fatalf("an attempt without client or recipient: %s", show(k, e))
			}
		}
		for _, text := range [][]byte{line, rest} {
			var a, b, c entry
			check(parsePostgrey(text, &a), &a)
			check(parsePostfix([]byte("smtpd"), text, &b), &b)
			check(parseExim(text, testSeed, &c), &c)
		}
		if ok && !exim {
			syslogHeader(rest)
		}
		chunk(rest)
		if text := harmless(line); len(text) > 4*sampleLength+3 || strings.ContainsAny(text, "\x00\x1b\n\x07") {
			t.Fatalf("%q is not harmless", text)
		}
	})
}

// FuzzLog: no log makes an import fail in another way than with an error, and
// both passes agree.
func FuzzLog(f *testing.F) {
	for _, s := range samples {
		content, err := os.ReadFile(paths(s.files)[0])
		assert.NilError(f, err)
		f.Add(content[:bytes.IndexByte(content[1500:], '\n')+1501]) // short ones go through faster
	}
	f.Add([]byte(postgreyLine + postgreyLine))
	f.Add([]byte("2026-11-24 14:51:12 1JlKxh-0000Fs-3r <= s@far.example H=a [192.0.2.10] P=esmtp\n2026-11-24 14:51:13 1JlKxh-0000Fs-3r => ann <ann@our.example> R=x\n2026-11-24 14:51:13 1JlKxh-0000Fs-3r Completed\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := write(t, "mail.log", string(content))
		i, err := Open([]string{path}, Options{Year: 2026, Pseudonyms: NewPseudonyms([]byte("0123456789abcdef"), nil, true)})
		if err != nil {
			return
		}
		defer i.Close()
		r, err := i.Scan(t.Context())
		if err != nil {
			return
		}
		n, last := int64(0), int64(0)
		for item, err := range i.Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if item.At < 0 || int64(item.At) < last || len(item.Message.Recipients) == 0 {
				t.Fatalf("%+v", item.Message)
			}
			last = int64(item.At)
			n++
		}
		if n != r.Messages {
			t.Fatalf("%d messages, scanned %d", n, r.Messages)
		}
	})
}
